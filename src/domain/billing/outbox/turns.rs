//! Whose turn it is: the best standing first, but no other waits for ever.

use std::{collections::BTreeMap, time::Duration};

use crate::domain::{
    customer::standing::Standing,
    time::{Hour, Timestamp},
};

/// A standing that was passed over so often has the next call.
const PATIENCE: u32 = 7;
/// Records of customers that AWS knows go out within this time of their hour's end, or before anyone else's.
const IN_TIME: Duration = Duration::from_hours(1);
/// So near to their deadline, too. The last hour of a closing customer is no longer.
const NEAR: Duration = Duration::from_hours(2);

/// Whether a record has waited so long, or has so little time left, that it goes before all of another standing.
pub(super) fn is_late(hour: Hour, deadline: Timestamp, now: Timestamp) -> bool {
    now >= hour.end().plus(IN_TIME) || deadline <= now.plus(NEAR)
}

#[derive(Debug, Default)]
pub(super) struct Turns {
    passed_over: BTreeMap<Standing, u32>,
}

impl Turns {
    /// Chooses among those of which something may go out, sorted. Each that is passed over seven times has the next
    /// call, unless customers that AWS knows would wait for it too long.
    pub(super) fn choose(&mut self, ready: &[Standing], is_behind: bool) -> Option<Standing> {
        let best = *ready.first()?;
        let has_waited =
            |standing: &&Standing| self.passed_over.get(*standing).is_some_and(|times| *times >= PATIENCE);
        let is_firm = is_behind && best == Standing::Verified;
        let chosen = ready.iter().find(|standing| !is_firm && has_waited(standing)).copied().unwrap_or(best);
        self.passed_over.retain(|standing, _| ready.contains(standing) && *standing != chosen);
        for standing in ready.iter().filter(|standing| **standing != chosen) {
            let times = self.passed_over.entry(*standing).or_default();
            *times = times.saturating_add(1);
        }
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Standing::{Refused, Registered, SelfNamed, Verified};

    fn turns(ready: &[Standing], is_behind: bool, calls: usize) -> Vec<Standing> {
        let mut turns = Turns::default();
        (0..calls).filter_map(|_| turns.choose(ready, is_behind)).collect()
    }

    fn share(standing: Standing, of: &[Standing]) -> usize {
        of.iter().filter(|chosen| **chosen == standing).count()
    }

    #[test]
    fn the_best_standing_goes_first_and_each_other_has_every_eighth_call() {
        assert_eq!(
            turns(&[SelfNamed], false, 2),
            [SelfNamed, SelfNamed],
            "whoever is alone waits for no one"
        );
        let two = turns(&[Verified, SelfNamed], false, 80);
        assert_eq!(
            two[..8],
            [Verified, Verified, Verified, Verified, Verified, Verified, Verified, SelfNamed]
        );
        assert_eq!((share(Verified, &two), share(SelfNamed, &two)), (70, 10));
        let all = turns(&Standing::ALL, false, 1000);
        assert_eq!(all[0], Verified);
        for standing in [Registered, SelfNamed, Refused] {
            assert!((100..=126).contains(&share(standing, &all)), "{standing:?}: {}", share(standing, &all));
        }
    }

    #[test]
    fn no_one_goes_before_customers_that_aws_knows_once_they_wait_too_long() {
        assert_eq!(turns(&Standing::ALL, true, 100), [Verified; 100]);
        let others = turns(&[SelfNamed, Refused], true, 80);
        assert_eq!((share(SelfNamed, &others), share(Refused, &others)), (70, 10), "and that is no one else");
    }

    #[test]
    fn a_record_is_late_an_hour_after_its_end_and_two_before_its_deadline() {
        let hour = Hour::from_index(498_000);
        let (end, day) = (hour.end(), hour.start().plus(Duration::from_hours(24)));
        let moment = Duration::from_millis(1);
        assert!(!is_late(hour, day, end.plus(IN_TIME).minus(moment)));
        assert!(is_late(hour, day, end.plus(IN_TIME)));
        let soon = end.plus(NEAR);
        assert!(is_late(hour, soon, end) && !is_late(hour, soon.plus(moment), end));
    }
}
