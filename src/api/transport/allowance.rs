//! A limit on how often something may happen: some times at once, and then so many times a second.

use std::time::Duration;

use tokio::time::Instant;

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) at_once: u32,
    pub(super) per_second: u32,
}

/// What is left of a [`Rate`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    rate: Rate,
    left: u32,
    /// Up to when what comes back by the second is in `left`.
    filled: Instant,
}

impl Allowance {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, left: rate.at_once, filled: Instant::now() }
    }

    /// Takes one, or says how long to wait for it.
    pub(super) fn take(&mut self) -> Result<(), Duration> {
        let each = Duration::from_secs(1) / self.rate.per_second;
        let waited = self.filled.elapsed();
        if waited >= each {
            let back = u32::try_from(waited.as_nanos() / each.as_nanos()).unwrap_or(u32::MAX);
            self.give(back);
            self.filled += waited;
        }
        self.left = self.left.checked_sub(1).ok_or_else(|| each.saturating_sub(waited))?;
        Ok(())
    }

    /// Gives some back, at most up to what may happen at once.
    pub(super) fn give(&mut self, some: u32) {
        self.left = self.left.saturating_add(some).min(self.rate.at_once);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn some_pass_at_once_and_then_so_many_a_second() {
        let mut allowance = Allowance::new(Rate { at_once: 5, per_second: 10 });
        let (mut passed, until) = (0, Instant::now() + Duration::from_secs(10));
        while Instant::now() < until {
            match allowance.take() {
                Ok(()) => passed += 1,
                Err(wait) => advance(wait).await,
            }
        }
        assert_eq!(passed, 5 + 99, "the hundredth comes when the time is over");
    }

    #[tokio::test(start_paused = true)]
    async fn no_rest_saves_up_more_than_may_happen_at_once() {
        let mut allowance = Allowance::new(Rate { at_once: 5, per_second: 10 });
        let passes = |allowance: &mut Allowance| (0..100).take_while(|_| allowance.take().is_ok()).count();
        assert_eq!(passes(&mut allowance), 5);
        advance(Duration::from_hours(1)).await;
        assert_eq!(passes(&mut allowance), 5);
        allowance.give(100);
        assert_eq!(passes(&mut allowance), 5);
        allowance.give(2);
        assert_eq!(passes(&mut allowance), 2);
    }
}
