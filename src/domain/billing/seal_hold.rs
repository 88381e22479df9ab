//! Why a record is held at its seal, in words that are true of it.

use std::fmt;

use super::usual::UsualHours;
use crate::domain::{
    product::Dimension,
    time::Hour,
    usage::bucket::{Bucket, Carried},
};

/// What is wrong with an hour's usage, if it is as it says. In base units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspicion {
    AboveLimit { usage: u128, limit: u64 },
    AboveUsual { usage: u128, times: u64, usual: u128 },
}

/// Whether an hour is held for a person before it is first sent.
///
/// It goes by what was used in the hour, whatever of it fits into its record: earlier hours' usage was looked at with its
/// own hour. Less than the smallest amount that can be billed is nobody's loss.
pub(crate) fn suspicion(
    dimension: &Dimension,
    hour: Hour,
    bucket: &Bucket,
    usual: &UsualHours,
) -> Option<Suspicion> {
    let usage = bucket.usage.amount();
    if usage < dimension.unit.step() {
        return None;
    }
    let above_limit = || {
        let limit = dimension.limits.hold_above.filter(|limit| usage > u128::from(*limit))?;
        Some(Suspicion::AboveLimit { usage, limit })
    };
    let above_usual = || {
        let (times, usual) = dimension.limits.hold_above_usual.zip(usual.highest(hour))?;
        let is_above = usage > usual.saturating_mul(times.into());
        is_above.then_some(Suspicion::AboveUsual { usage, times, usual })
    };
    above_limit().or_else(above_usual)
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AboveLimit { usage, limit } => {
                write!(f, "the hour's usage is {usage}, and hold_above is {limit}")
            }
            Self::AboveUsual { usage, times, usual } => write!(
                f,
                "the hour's usage is {usage}, the highest hour of the last seven days had {usual}, and hold_above_usual \
                 is {times}"
            ),
        }
    }
}

/// Why nothing of a closed customer's hour can be billed. `sealed_through` is its last hour.
///
/// What was used up to then and is left now was above AWS's largest quantity: else it would have been billed, or
/// rounded away.
pub(crate) fn not_billable(hour: Hour, bucket: &Bucket, sealed_through: Option<Hour>) -> String {
    let is_before = |origin| sealed_through.is_some_and(|last| origin <= last);
    let mut all = bucket.carried.clone();
    all.add(hour, bucket.usage.amount());
    let (before, after): (Vec<_>, Vec<_>) = all.origins().partition(|(origin, _)| is_before(*origin));
    let (before, after): (Carried, Carried) = (before.into_iter().collect(), after.into_iter().collect());
    match (before.is_empty(), after.is_empty()) {
        (true, _) => USED_AFTER.to_owned(),
        (false, true) => carried_from(&before),
        (false, false) => {
            format!("{} of it {}; {} {USED_AFTER}", before.total(), carried_from(&before), after.total())
        }
    }
}

const USED_AFTER: &str = "used after the customer's last hour was sealed";

fn carried_from(carried: &Carried) -> String {
    let mut hours = carried.origins().map(|(origin, _)| origin);
    let first = hours.next().unwrap_or_default();
    let later = if hours.next().is_some() { " and later hours" } else { "" };
    format!("carried from {first}{later}, above AWS's largest quantity")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        billing::seal::tests::dimension,
        product::{Aggregate, QuantityLimits},
        time::Timestamp,
        usage::bucket::Usage,
    };

    const NOW: Hour = Hour::from_index(480_000);

    /// A day ago, the highest hour had ten.
    fn usual() -> UsualHours {
        let mut usual = UsualHours::default();
        usual.count(Hour::from_index(NOW.index() - 30), 10);
        usual
    }

    fn limited(hold_above: Option<u64>, hold_above_usual: Option<u64>) -> Dimension {
        let limits = QuantityLimits { hold_above, hold_above_usual, ..QuantityLimits::default() };
        Dimension { limits, ..dimension(1, 0) }
    }

    fn bucket(usage: Usage) -> Bucket {
        let carried = Carried::from_origin(NOW.previous(), 1_000_000);
        Bucket { usage, carried, ..Bucket::new(Aggregate::Sum) }
    }

    fn told(dimension: &Dimension, usage: u128, usual: &UsualHours) -> Option<String> {
        suspicion(dimension, NOW, &bucket(Usage::Sum(usage)), usual).map(|suspicion| suspicion.to_string())
    }

    #[test]
    fn an_hour_above_a_limit_is_suspicious_and_one_at_it_is_not() {
        let above = limited(Some(50), None);
        assert_eq!(told(&above, 50, &usual()), None, "what earlier hours left does not count");
        assert_eq!(told(&above, 51, &usual()).unwrap(), "the hour's usage is 51, and hold_above is 50");
        let times = limited(None, Some(20));
        assert_eq!(told(&times, 200, &usual()), None);
        assert_eq!(
            told(&times, 201, &usual()).unwrap(),
            "the hour's usage is 201, the highest hour of the last seven days had 10, and hold_above_usual is 20"
        );
        assert_eq!(told(&times, u128::MAX, &UsualHours::default()), None, "there is no usual yet");
        assert!(told(&limited(Some(50), Some(20)), 60, &usual()).unwrap().contains("hold_above is 50"));
        assert_eq!(told(&limited(None, None), u128::MAX, &usual()), None);
    }

    #[test]
    fn less_than_can_be_billed_is_not_suspicious() {
        let large = Dimension { limits: limited(Some(50), None).limits, ..dimension(1000, 0) };
        assert_eq!(told(&large, 999, &usual()), None);
        assert!(told(&large, 1000, &usual()).is_some());
    }

    #[test]
    fn a_level_is_suspicious_by_its_height() {
        let aggregate = Aggregate::Latest { hold: true };
        let seats = Dimension { aggregate, ..limited(Some(50), None) };
        let at =
            |level| suspicion(&seats, NOW, &bucket(Usage::of(aggregate, level, Timestamp::MIN)), &usual());
        assert_eq!((at(50), at(51)), (None, Some(Suspicion::AboveLimit { usage: 51, limit: 50 })));
    }

    #[test]
    fn a_closed_customers_usage_is_told_by_when_it_was_used() {
        let [nine, ten, twelve] = [9, 10, 12].map(Hour::from_index);
        let told = |used, carried: &[(Hour, u128)]| {
            let bucket = Bucket {
                usage: Usage::Sum(used),
                carried: carried.iter().copied().collect(),
                ..Bucket::new(Aggregate::Sum)
            };
            not_billable(twelve, &bucket, Some(ten))
        };
        assert_eq!(told(5, &[]), "used after the customer's last hour was sealed");
        assert_eq!(told(5, &[(ten.next(), 3)]), "used after the customer's last hour was sealed");
        assert_eq!(told(0, &[(ten, 7)]), format!("carried from {ten}, above AWS's largest quantity"));
        assert_eq!(
            told(0, &[(nine, 1), (ten, 7)]),
            format!("carried from {nine} and later hours, above AWS's largest quantity")
        );
        assert_eq!(
            told(5, &[(ten, 7)]),
            format!(
                "7 of it carried from {ten}, above AWS's largest quantity; 5 used after the customer's last hour was \
                 sealed"
            )
        );
    }
}
