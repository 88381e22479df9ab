//! The pause before a retry.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);

/// The pause after a number of failures in a row.
///
/// It doubles, half of it is random so that clients do not retry in step, and it is never shorter than the agent asks for.
pub(crate) fn pause(failures: u32, status: &Status) -> Duration {
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or_default();
    let doublings = failures.saturating_sub(1).min(16);
    let full = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let jittered = full.mul_f64(0.5 + fastrand::f64() / 2.0);
    jittered.max(asked.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn pauses_double_to_a_bound_and_no_two_clients_keep_step() {
        let status = Status::unavailable("");
        for (failures, full) in [(1, 100), (2, 200), (5, 1600), (8, 10_000), (1000, 10_000)] {
            let pauses: Vec<_> = (0..50).map(|_| pause(failures, &status).as_millis()).collect();
            assert!(pauses.iter().all(|pause| (full / 2..=full).contains(pause)), "{failures}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{failures}: {pauses:?}");
        }
    }

    #[test]
    fn the_agents_retry_delay_is_respected() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let status = Status::with_error_details(Code::ResourceExhausted, "full", details);
        assert_eq!(pause(1, &status), Duration::from_secs(3));
    }
}
