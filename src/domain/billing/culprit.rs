//! What a call that AWS refused as a whole was refused for, and how to find it: by halving.

use super::record::Record;

/// The smallest group of a call's records that a refusal can be pinned on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// One record: its time, its tags, its dimension.
    Record,
    /// All records of a customer for one hour: a license is valid at a time.
    CustomerHour,
    /// All records of a customer: AWS does not know its identity.
    Customer,
}

impl Culprit {
    /// Whether all of these belong to one culprit: then it is found.
    pub(crate) fn is_found<'a>(self, mut records: impl Iterator<Item = &'a Record>) -> bool {
        let Some(first) = records.next() else { return false };
        records.all(|record| self.joins(first, record))
    }

    /// Brings the records of each group together.
    pub(crate) fn sort(self, records: &mut [&Record]) {
        match self {
            Self::Record => {}
            Self::CustomerHour | Self::Customer => {
                records.sort_by(|a, b| (&a.identity, a.hour, a.id).cmp(&(&b.identity, b.hour, b.id)));
            }
        }
    }

    /// Where to cut sorted records in two: between two groups, as near to the middle as may be. Not between the
    /// records of the only group.
    pub(crate) fn cut(self, records: &[&Record]) -> Option<usize> {
        let middle = records.len() / 2;
        let borders = records.windows(2).zip(1..).filter_map(|(pair, at)| match pair {
            [a, b] if !self.joins(a, b) => Some(at),
            _ => None,
        });
        borders.min_by_key(|at: &usize| at.abs_diff(middle))
    }

    /// Whether two records are of one group.
    fn joins(self, a: &Record, b: &Record) -> bool {
        match self {
            Self::Record => a.id == b.id,
            Self::CustomerHour => a.identity == b.identity && a.hour == b.hour,
            Self::Customer => a.identity == b.identity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{billing::record::tests::sample, customer::identity::Identity, time::Hour};

    fn record(id: u64, customer: &str, hour: u32) -> Record {
        let identity = Identity::CustomerIdentifier { customer_identifier: customer.into() };
        Record { identity, hour: Hour::from_index(hour), ..sample(id) }
    }

    /// The records in the order in which they are cut, as text, with a bar where.
    fn cut(culprit: Culprit, records: &[Record]) -> String {
        let mut records: Vec<&Record> = records.iter().collect();
        culprit.sort(&mut records);
        let at = culprit.cut(&records);
        let ids = records.iter().map(|record| record.id.to_string());
        let ids: Vec<_> = ids
            .enumerate()
            .map(|(index, id)| if at == Some(index) { format!("|{id}") } else { id })
            .collect();
        ids.concat()
    }

    #[test]
    fn records_are_cut_between_groups_near_the_middle_and_an_only_group_is_not() {
        let records = [
            record(1, "b", 7),
            record(2, "a", 7),
            record(3, "b", 8),
            record(4, "a", 8),
            record(5, "b", 7),
            record(6, "b", 9),
        ];
        assert_eq!(cut(Culprit::Record, &records), "123|456", "as they came");
        assert_eq!(cut(Culprit::Customer, &records), "24|1536");
        assert_eq!(cut(Culprit::CustomerHour, &records), "24|1536");
        let of_b = [0, 2, 4, 5].map(|index| records[index].clone());
        assert_eq!(cut(Culprit::Customer, &of_b), "1536");
        assert_eq!(cut(Culprit::CustomerHour, &of_b), "15|36");
        assert_eq!(cut(Culprit::Record, &of_b[..1]), "1");
    }

    #[test]
    fn a_culprit_is_found_once_it_is_alone() {
        let hours = [record(1, "a", 7), record(2, "a", 8)];
        let found = |records: &[Record]| {
            [Culprit::Record, Culprit::CustomerHour, Culprit::Customer].map(|it| it.is_found(records.iter()))
        };
        assert_eq!(found(&hours), [false, false, true]);
        assert_eq!(found(&[record(1, "a", 7), record(2, "a", 7)]), [false, true, true]);
        assert_eq!(found(&[record(1, "a", 7), record(2, "b", 7)]), [false, false, false]);
        assert_eq!(found(&hours[..1]), [true; 3]);
        assert_eq!(found(&[]), [false; 3]);
    }
}
