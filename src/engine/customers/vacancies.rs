//! Rows of customers that were forgotten, until they are given to others.
//!
//! A request is read before it is counted, and knows its customers by their rows. So a row keeps its customer's name for a
//! while, by which a request that comes late finds it again; and a request that is older than that is not counted at all.

use std::{collections::VecDeque, time::Duration};

use crate::domain::time::Timestamp;

use super::CustomerIndex;

/// Far longer than a request waits to be counted.
const REST: Duration = Duration::from_mins(10);

#[derive(Debug, Default)]
pub(super) struct Vacancies {
    /// How many rows were vacated so far.
    vacated: u64,
    /// In the order in which they were vacated: when, as which one, and the row.
    resting: VecDeque<(Timestamp, u64, CustomerIndex)>,
    rested: VecDeque<(u64, CustomerIndex)>,
    /// The last that was vacated of those that were given away.
    given_away: u64,
}

impl Vacancies {
    pub(super) const fn vacated(&self) -> u64 {
        self.vacated
    }

    pub(super) fn add(&mut self, row: CustomerIndex, now: Timestamp) {
        self.vacated += 1;
        self.resting.push_back((now, self.vacated, row));
    }

    /// Lets rows that have rested long enough be given away.
    pub(super) fn rest(&mut self, now: Timestamp) {
        while let Some((since, number, row)) = self.resting.front().copied()
            && now >= since.plus(REST)
        {
            self.resting.pop_front();
            self.rested.push_back((number, row));
        }
    }

    pub(super) fn take(&mut self) -> Option<CustomerIndex> {
        let (number, row) = self.rested.pop_front()?;
        self.given_away = self.given_away.max(number);
        Some(row)
    }

    /// Whether a row that someone saw when so many were vacated may be another customer's by now.
    pub(super) const fn may_mislead(&self, vacated: u64) -> bool {
        vacated < self.given_away
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: u64) -> Timestamp {
        Timestamp::from_seconds(1_793_620_800).plus(Duration::from_mins(minutes))
    }

    #[test]
    fn a_row_rests_before_it_is_given_away_and_whoever_knew_it_before_is_misled() {
        let mut vacancies = Vacancies::default();
        vacancies.add(CustomerIndex(7), at(0));
        vacancies.add(CustomerIndex(8), at(5));
        vacancies.rest(at(9));
        assert_eq!(vacancies.take(), None);
        vacancies.rest(at(10));
        assert!(!vacancies.may_mislead(0), "none is another's yet");
        assert_eq!((vacancies.take(), vacancies.take()), (Some(CustomerIndex(7)), None));
        assert_eq!([0, 1, 2].map(|vacated| vacancies.may_mislead(vacated)), [true, false, false]);
        vacancies.rest(at(15));
        assert_eq!(vacancies.take(), Some(CustomerIndex(8)));
        assert_eq!([1, 2].map(|vacated| vacancies.may_mislead(vacated)), [true, false]);
        assert_eq!(vacancies.vacated(), 2);
    }
}
