//! How many customers each client's usage has named in the present hour.

use std::{collections::HashMap, sync::Arc};

use crate::domain::time::Hour;

#[derive(Debug, Default)]
pub(super) struct Newcomers {
    hour: Hour,
    by_client: HashMap<Arc<str>, usize>,
}

impl Newcomers {
    /// Those of a client so far.
    pub(super) fn of(&self, client: &str, now: Hour) -> usize {
        if self.hour == now { self.by_client.get(client).copied().unwrap_or_default() } else { 0 }
    }

    pub(super) fn note(&mut self, client: &Arc<str>, now: Hour) {
        if self.hour != now {
            (self.hour, self.by_client) = (now, HashMap::new());
        }
        *self.by_client.entry(client.clone()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_a_count_of_its_own_that_begins_anew_with_the_hour() {
        let (mut newcomers, hour) = (Newcomers::default(), Hour::from_index(498_704));
        let (app, other): (Arc<str>, Arc<str>) = ("app".into(), "other".into());
        for client in [&app, &app, &other] {
            newcomers.note(client, hour);
        }
        assert_eq!((newcomers.of("app", hour), newcomers.of("other", hour)), (2, 1));
        assert_eq!(newcomers.of("app", hour.next()), 0);
        newcomers.note(&other, hour.next());
        assert_eq!((newcomers.of("app", hour.next()), newcomers.of("other", hour.next())), (0, 1));
    }
}
