//! The producers of streams: how far each has come, and whose it is.
//!
//! A producer belongs to the client that first uses it by name, from the write of that message on. Without clients
//! nobody has a name: then anyone may go on with any, and whoever owned one still does when names return.

use std::{collections::HashMap, sync::Arc};

use thiserror::Error;

use crate::{
    base::sabotage::{Sabotage, is_sabotaged},
    domain::time::Timestamp,
    work::delta::Mark,
    worlds::store::{
        Batch, Rows, StoreError, Table, load,
        values::{Producer, encode},
    },
};

use super::RecordError;

/// Producers are never forgotten, or a late resend would count again; the bound keeps a runaway client from filling
/// memory with new ones.
pub const MAX_PRODUCERS: usize = 100_000;
/// No client takes what the others need.
pub(super) const MAX_PRODUCERS_OF_CLIENT: usize = MAX_PRODUCERS / 10;

/// Another client's producer.
#[derive(Debug, Error)]
#[error(
    "producer `{producer}` belongs to another client: choose another producer_id; or, if this client was renamed, give \
     it the name again that it had ([[grpc.client]])"
)]
pub struct Foreign {
    pub producer: Arc<str>,
    /// For the operator alone: clients do not learn of each other.
    pub owner: Arc<str>,
}

#[derive(Debug, Default)]
pub(super) struct Producers {
    known: HashMap<Arc<str>, Producer>,
    /// How many each client owns. The names here are those that producers share.
    owned: HashMap<Arc<str>, usize>,
}

impl Producers {
    pub(super) fn load(store: &dyn Rows) -> Result<Self, StoreError> {
        let mut producers = Self::default();
        load::producers(store, |id, mut producer| {
            producer.owner = producer.owner.map(|owner| producers.note_owned(&owner));
            producers.known.insert(id.into(), producer);
        })?;
        Ok(producers)
    }

    pub(super) fn last_sequence(&self, producer: &str, client: Option<&str>) -> Result<u64, Foreign> {
        let Some((id, known)) = self.known.get_key_value(producer) else { return Ok(0) };
        match (&known.owner, client) {
            (Some(owner), Some(client)) if **owner != *client && !is_sabotaged(Sabotage::LendProducer) => {
                Err(Foreign { producer: id.clone(), owner: owner.clone() })
            }
            _ => Ok(known.sequence),
        }
    }

    /// Whether there is room for the producer, should it be new.
    pub(super) fn check_room(&self, mark: &Mark) -> Result<(), RecordError> {
        if self.known.contains_key(&mark.producer) {
            return Ok(());
        }
        if self.known.len() >= MAX_PRODUCERS {
            return Err(RecordError::TooManyProducers);
        }
        let owned = mark.client.as_ref().and_then(|client| self.owned.get(client));
        if owned.is_some_and(|owned| *owned >= MAX_PRODUCERS_OF_CLIENT) {
            return Err(RecordError::TooManyOfClient);
        }
        Ok(())
    }

    /// A message has counted: the producer is that far, and belongs to its client if it was nobody's.
    pub(super) fn advance(&mut self, mark: &Mark, now: Timestamp, batch: &mut Batch) {
        let owner = self.known.get(&mark.producer).and_then(|known| known.owner.clone());
        let owner = owner.or_else(|| mark.client.as_ref().map(|client| self.note_owned(client)));
        let producer = Producer { sequence: mark.sequence, last_seen: now, owner };
        batch.put(Table::Producers, mark.producer.as_bytes(), encode(&producer));
        self.known.insert(mark.producer.clone(), producer);
    }

    /// The client has one more. Returns its name as it is shared.
    fn note_owned(&mut self, client: &Arc<str>) -> Arc<str> {
        let name = self.owned.get_key_value(client).map_or_else(|| client.clone(), |(name, _)| name.clone());
        *self.owned.entry(name.clone()).or_default() += 1;
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds::store::{MemoryStore, Store};

    /// Producers with the disk under them.
    struct Desk {
        store: MemoryStore,
        producers: Producers,
    }

    fn mark(producer: &str, client: &str, sequence: u64) -> Mark {
        let client = Some(client).filter(|client| !client.is_empty()).map(Arc::from);
        Mark { producer: producer.into(), sequence, client }
    }

    impl Desk {
        fn new() -> Self {
            Self { store: MemoryStore::default(), producers: Producers::default() }
        }

        /// Sends as a client, or as nobody in particular; tells whether it may.
        fn sends(&mut self, client: &str, sequence: u64) -> bool {
            let mark = mark("p", client, sequence);
            let Ok(last) = self.producers.last_sequence("p", mark.client.as_deref()) else { return false };
            assert_eq!(sequence, last + 1);
            let mut batch = Batch::default();
            self.producers.advance(&mark, Timestamp::from_millis(7), &mut batch);
            self.store.commit(batch).unwrap();
            true
        }

        fn restart(&mut self) {
            self.producers = Producers::load(&self.store).unwrap();
        }
    }

    #[test]
    fn a_producer_belongs_to_the_first_client_that_uses_it() {
        let mut desk = Desk::new();
        assert!(desk.sends("app", 1) && !desk.sends("other", 2));
        let refused = desk.producers.last_sequence("p", Some("other")).unwrap_err();
        assert_eq!((&*refused.producer, &*refused.owner), ("p", "app"));
        let told = refused.to_string();
        assert!(told.contains("`p`") && !told.contains("app"), "{told}");
        assert_eq!(desk.producers.last_sequence("q", Some("other")).unwrap(), 0, "a new one is nobody's");
        desk.restart();
        assert!(!desk.sends("other", 2) && desk.sends("app", 2));
    }

    #[test]
    fn one_that_is_nobodys_is_taken_by_the_first_name_and_kept_while_there_are_none() {
        let mut desk = Desk::new();
        assert!(desk.sends("", 1) && desk.sends("", 2));
        desk.restart();
        assert_eq!(desk.producers.last_sequence("p", Some("other")).unwrap(), 2, "to ask takes nothing");
        assert!(desk.sends("app", 3) && !desk.sends("other", 4));
        desk.restart();
        assert!(desk.sends("", 4), "without clients anyone may");
        desk.restart();
        assert!(!desk.sends("other", 5) && desk.sends("app", 5), "and it is whose it was");
    }

    #[test]
    fn no_client_takes_the_room_of_the_others() {
        let mut producers = Producers::default();
        let mut batch = Batch::default();
        for number in 0..MAX_PRODUCERS_OF_CLIENT {
            let mark = mark(&number.to_string(), "greedy", 1);
            producers.check_room(&mark).unwrap();
            producers.advance(&mark, Timestamp::from_millis(7), &mut batch);
        }
        let full = producers.check_room(&mark("new", "greedy", 1));
        assert!(matches!(full, Err(RecordError::TooManyOfClient)));
        assert!(producers.check_room(&mark("0", "greedy", 2)).is_ok(), "those that it has go on");
        assert!(producers.check_room(&mark("new", "modest", 1)).is_ok());
        assert_eq!(producers.owned.len(), 1);
    }

    #[test]
    fn all_producers_of_a_client_share_its_name() {
        let mut desk = Desk::new();
        let mut batch = Batch::default();
        for producer in ["a", "b"] {
            desk.producers.advance(&mark(producer, "app", 1), Timestamp::from_millis(7), &mut batch);
        }
        desk.store.commit(batch).unwrap();
        let are_shared = |desk: &Desk| {
            let [a, b] = ["a", "b"].map(|id| desk.producers.known[id].owner.clone().unwrap());
            Arc::ptr_eq(&a, &b)
        };
        assert!(are_shared(&desk));
        desk.restart();
        assert!(are_shared(&desk) && desk.producers.owned["app"] == 2);
    }
}
