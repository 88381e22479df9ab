//! How many calls a second the sandbox takes.

use std::{collections::VecDeque, time::Duration};

/// Takes at most so many calls in any second. AWS does not say how it counts; here, the second slides.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    /// The calls that were taken within a second before the latest, in real time since the sandbox's start.
    taken: VecDeque<Duration>,
}

impl RateLimit {
    /// Whether one more call is taken. Calls that are not taken do not count.
    pub(super) fn take(&mut self, now: Duration, calls_per_second: u32) -> bool {
        const SECOND: Duration = Duration::from_secs(1);
        while self.taken.pop_front_if(|call| call.saturating_add(SECOND) <= now).is_some() {}
        let has_room = u32::try_from(self.taken.len()).is_ok_and(|taken| taken < calls_per_second);
        if has_room {
            self.taken.push_back(now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_second_has_more_than_its_calls() {
        let mut limit = RateLimit::default();
        let mut take = |millis| limit.take(Duration::from_millis(millis), 3);
        assert_eq!([0, 900, 950, 999].map(&mut take), [true, true, true, false]);
        assert_eq!([1000, 1001, 1899].map(&mut take), [true, false, false], "a sliding second");
        assert_eq!([1900, 60_000].map(&mut take), [true, true]);
        assert!(!limit.take(Duration::from_secs(90), 0), "no calls per second is no calls");
    }
}
