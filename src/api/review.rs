//! Hours that are over and wait for people to look at them: they are late for nobody.

use std::time::Duration;

use crate::{
    api::agent_handle::AgentHandle,
    domain::{
        billing::{
            deadline::Window,
            schedule::{OpenFor, review_ends},
        },
        product::{Product, ProductIndex},
        time::{Hour, Timestamp},
    },
    engine::committer::Status,
};

/// How long a product's hours stay open after their end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Review {
    window: Window,
    open_for: OpenFor,
}

impl Review {
    pub(crate) fn of(agent: &AgentHandle, product: &Product) -> Self {
        Self::new(agent.window, agent.grace, product.review)
    }

    pub(crate) const fn new(window: Window, grace: Duration, review: Duration) -> Self {
        Self { window, open_for: OpenFor { grace, review } }
    }

    /// Whether an hour is open for a review alone, and until when.
    pub(crate) fn of_hour(self, hour: Hour, now: Timestamp) -> Option<Timestamp> {
        let ends = review_ends(hour, self.open_for, self.window());
        let begins = hour.end().plus(self.open_for.grace);
        (begins..ends).contains(&now).then_some(ends)
    }

    /// Since when an hour waits for AWS, or for its seal: its end, or the end of its review, without the grace.
    pub(crate) fn waits_since(self, hour: Hour) -> Timestamp {
        review_ends(hour, self.open_for, self.window()).minus(self.open_for.grace)
    }

    fn window(&self) -> &Window {
        &self.window
    }
}

/// The oldest hour of a product that is in review, and until when.
pub(crate) fn oldest_in_review(
    agent: &AgentHandle,
    status: &Status,
    index: ProductIndex,
    product: &Product,
) -> Option<(Hour, Timestamp)> {
    let hour = status.watermarks.own.get(&index)?.next();
    Some((hour, Review::of(agent, product).of_hour(hour, agent.trusted_clock.best_now())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_in_review_after_its_grace_and_until_it_is_sealed() {
        let at = |text: &str| -> Timestamp { format!("2026-11-22T{text}Z").parse().unwrap() };
        let ten = Hour::containing(at("10:30:00"));
        let review = |hours| Review::new(Window::AWS, Duration::from_mins(5), Duration::from_hours(hours));
        let until = |now| review(3).of_hour(ten, at(now));
        assert_eq!([until("11:04:59"), until("14:05:00")], [None; 2]);
        assert_eq!([until("11:05:00"), until("14:04:59")], [Some(at("14:05:00")); 2]);
        assert_eq!(review(0).of_hour(ten, at("11:05:00")), None);
        assert_eq!(review(3).waits_since(ten), at("14:00:00"));
        assert_eq!(review(0).waits_since(ten), at("11:00:00"));
    }
}
