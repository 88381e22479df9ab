//! The hours that are usual for a customer and dimension: what a slip is told by.

use crate::domain::time::Hour;

const HOURS_A_DAY: u32 = 24;
/// The days before an hour's own that it is compared with. With the hour's own day that is eight of them, so that what
/// comes once a week finds its like.
const DAYS_BEFORE: u32 = 7;

/// The highest hour of each of the last days, in base units.
///
/// An hour without usage does not count, and neither does one that was held as suspicious, until a person has it billed:
/// a slip that counted would be the measure of the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UsualHours {
    /// The first hour that counted since there was nothing to go by.
    pub first: Hour,
    /// By the number of the UTC day, oldest first, each day once.
    pub days: Vec<(u32, u128)>,
}

impl UsualHours {
    /// The most days that are kept.
    pub(crate) const MOST_DAYS: u64 = 8;

    /// The highest hour that `hour` can be compared with. `None` for a day after the first one that counted: a customer
    /// that has just begun has no usual yet.
    pub(crate) fn highest(&self, hour: Hour) -> Option<u128> {
        let is_known = hour.index() >= self.first.index().saturating_add(HOURS_A_DAY);
        self.within(day_of(hour)).map(|(_, highest)| highest).max().filter(|_| is_known)
    }

    /// Takes in an hour that is billed; says whether that has changed anything.
    pub(crate) fn count(&mut self, hour: Hour, usage: u128) -> bool {
        let (day, newest) = (day_of(hour), self.days.last().map_or(0, |(day, _)| *day));
        if usage == 0 || day.saturating_add(DAYS_BEFORE) < newest {
            return false;
        }
        let before = self.clone();
        self.days = self.within(day.max(newest)).collect();
        if self.days.is_empty() {
            self.first = hour;
        }
        match self.days.binary_search_by_key(&day, |(day, _)| *day) {
            Ok(place) => {
                if let Some((_, highest)) = self.days.get_mut(place) {
                    *highest = usage.max(*highest);
                }
            }
            Err(place) => self.days.insert(place, (day, usage)),
        }
        *self != before
    }

    /// The days that a day is compared with.
    fn within(&self, day: u32) -> impl Iterator<Item = (u32, u128)> + '_ {
        let days = day.saturating_sub(DAYS_BEFORE)..=day;
        self.days.iter().copied().filter(move |(day, _)| days.contains(day))
    }
}

fn day_of(hour: Hour) -> u32 {
    hour.index() / HOURS_A_DAY
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// An hour of a day, days counted from some day on.
    fn at(day: u32, hour: u32) -> Hour {
        Hour::from_index((20_000 + day) * 24 + hour)
    }

    #[test]
    fn the_highest_hour_of_the_last_days_is_usual_after_a_first_day() {
        let mut usual = UsualHours::default();
        assert_eq!(usual.highest(at(0, 10)), None, "nothing is known");
        assert!(usual.count(at(0, 10), 5) && usual.count(at(0, 12), 9) && !usual.count(at(0, 13), 7));
        assert_eq!(usual.highest(at(1, 9)), None, "the first day");
        assert_eq!(usual.highest(at(1, 10)), Some(9));
        assert!(usual.count(at(1, 10), 4));
        assert_eq!(usual.highest(at(7, 12)), Some(9), "a week later");
        assert_eq!(usual.highest(at(8, 0)), Some(4));
        assert_eq!(usual.highest(at(9, 0)), None, "nothing to go by any more");
    }

    #[test]
    fn an_hour_without_usage_is_no_measure() {
        let mut usual = UsualHours::default();
        assert!(!usual.count(at(0, 0), 0));
        assert_eq!(usual, UsualHours::default());
    }

    #[test]
    fn after_a_pause_of_more_than_a_week_there_is_a_first_day_again() {
        let mut usual = UsualHours::default();
        usual.count(at(0, 0), 5);
        usual.count(at(20, 5), 500);
        assert_eq!((usual.highest(at(21, 4)), usual.highest(at(21, 5))), (None, Some(500)));
    }

    #[test]
    fn an_hour_that_a_person_has_billed_later_counts_for_its_own_day() {
        let mut usual = UsualHours::default();
        usual.count(at(0, 0), 5);
        usual.count(at(3, 0), 6);
        assert!(usual.count(at(2, 0), 90));
        assert_eq!(usual.highest(at(3, 1)), Some(90));
        assert!(!usual.count(at(3, 0).previous(), 80));
        usual.count(at(30, 0), 1);
        assert!(!usual.count(at(2, 0), 900), "too long ago to be a measure");
    }

    proptest! {
        #[test]
        fn days_are_kept_as_a_map_of_all_hours_would_have_them(hours in proptest::collection::vec((0..30_u32, 0..24_u32, 0..9_u128), 0..200)) {
            let (mut usual, mut all) = (UsualHours::default(), BTreeMap::new());
            let mut hours = hours;
            hours.sort_unstable();
            for (day, hour, amount) in hours {
                usual.count(at(day, hour), amount);
                if amount > 0 {
                    let highest: &mut u128 = all.entry(day).or_default();
                    *highest = amount.max(*highest);
                }
                let known = all.range(day.saturating_sub(7)..=day).map(|(_, highest)| *highest).max();
                prop_assert_eq!(usual.within(20_000 + day).map(|(_, highest)| highest).max(), known);
                prop_assert!(usual.days.len() as u64 <= UsualHours::MOST_DAYS);
            }
        }
    }
}
