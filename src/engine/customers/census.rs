//! How many customers there are of each kind that has a limit.

use std::{collections::HashMap, sync::Arc};

use crate::domain::customer::{limits::Headcount, standing::Origin, state::CustomerState};

use super::row::Row;

#[derive(Debug, Default)]
pub(super) struct Census {
    all: usize,
    self_named: usize,
    /// Customers that usage has named and of which AWS has accepted nothing yet, by the client that sent it. The names
    /// here are those that customers share.
    unverified_of: HashMap<Arc<str>, usize>,
}

impl Census {
    pub(super) const fn all(&self) -> usize {
        self.all
    }

    /// What counts when one more customer comes by the usage of a client.
    pub(super) fn headcount(&self, client: Option<&str>) -> Headcount {
        let unverified_of = |client| self.unverified_of.get(client).copied().unwrap_or_default();
        Headcount {
            all: self.all,
            self_named: self.self_named,
            unverified_of_client: client.map(unverified_of),
            new_of_client: None,
        }
    }

    pub(super) fn add(&mut self, row: &Row) {
        self.all += 1;
        self.self_named += usize::from(row.is_self_named());
        if let Some(client) = row.named_by() {
            *self.unverified_of.entry(client.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, row: &Row) {
        self.all -= 1;
        self.self_named -= usize::from(row.is_self_named());
        if let Some(client) = row.named_by()
            && let Some(unverified) = self.unverified_of.get_mut(client)
        {
            *unverified -= 1;
            if *unverified == 0 {
                self.unverified_of.remove(client);
            }
        }
    }

    /// Lets all customers of a client share its name.
    pub(super) fn share_name(&self, state: &mut CustomerState) {
        if let Origin::SelfNamed { by: Some(by) } = &mut state.origin
            && let Some((name, _)) = self.unverified_of.get_key_value(by)
        {
            *by = name.clone();
        }
    }
}
