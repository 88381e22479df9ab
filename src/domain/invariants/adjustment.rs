//! What must be true of what a person has taken from open hours.

use super::{Fault, Invariant, Location, signed};
use crate::domain::billing::adjustment::Adjustment;

/// Whether an adjustment takes as much as it says, and no more with tags than in all (I1).
pub(crate) fn adjustment(adjustment: &Adjustment) -> Option<Fault> {
    let is_tagged_within =
        adjustment.taken.iter().all(|taken| taken.lowered.tagged.total() <= taken.lowered.total());
    let (wanted, taken) = (adjustment.wanted.minus, adjustment.total());
    (wanted != taken || !is_tagged_within).then(|| Fault {
        invariant: Invariant::Conservation,
        place: Location::series(&adjustment.product, &adjustment.customer, &adjustment.dimension),
        amount: signed(wanted).saturating_sub(signed(taken)),
        what: format!("adjustment {} does not add up", adjustment.number),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        billing::adjustment::tests::sample,
        usage::{bucket::Carried, tags::tests::tag_set},
    };

    #[test]
    fn an_adjustment_takes_as_much_as_it_says() {
        assert_eq!(adjustment(&sample(1)), None);
        let mut wrong = sample(1);
        wrong.taken[0].lowered.usage += 2;
        assert_eq!(adjustment(&wrong).unwrap().amount, -2);
        let mut wrong = sample(1);
        wrong.taken[0].lowered.carried = Carried::default();
        assert!(adjustment(&wrong).unwrap().amount > 0);
        let mut wrong = sample(1);
        wrong.taken[0].lowered.tagged.add(&tag_set(&[("team", "a")]), 1000);
        assert!(adjustment(&wrong).is_some());
    }
}
