//! The producers of streams: how far each has come, and what it sent last.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    base::sabotage::{Sabotage, is_sabotaged},
    domain::time::Timestamp,
    engine::counting::{
        CountError,
        digests::{Found, MessageDigests},
        request::{Repeat, StreamPosition},
        streams::{LiveStreams, ProducerId, ProducerStream, StreamRefusal},
    },
    store::{
        Batch, ReadTable, Rows, StoreError,
        tables::{
            message_digests::{DigestBlock, DigestBlockKey, DigestBlocks},
            producers::{NamedProducerRows, Producer, ProducerKey, ProducerRow, ProducerRows, each_producer},
        },
    },
};

/// Producers are never forgotten, or a late resend would count again; the bound keeps a runaway client from filling
/// memory with new ones.
pub(crate) const MAX_PRODUCERS: usize = 100_000;
/// No client takes what the others need.
pub(super) const MAX_PRODUCERS_OF_CLIENT: usize = MAX_PRODUCERS / 10;

#[derive(Debug, Default)]
pub(super) struct Producers {
    known: HashMap<ProducerId, Known>,
    streams: LiveStreams,
    /// How many each client has. The names here are those that its producers share.
    of_client: HashMap<Arc<str>, usize>,
    /// Those whose rows are to be written.
    changed: HashSet<ProducerId>,
    /// Full blocks that are not in the store yet, by producer and place.
    unwritten: HashMap<(ProducerId, u32), DigestBlock>,
}

#[derive(Debug, Default)]
struct Known {
    sequence: u64,
    last_seen: Timestamp,
    digests: MessageDigests,
    /// Its row is one of before, under its name alone.
    is_named_row: bool,
}

/// What a message is to its producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Next,
    /// It counted before, and `last` is the producer's last sequence.
    Repeat {
        last: u64,
        how: Repeat,
    },
}

impl Producers {
    pub(super) fn load(store: &dyn Rows) -> Result<Self, StoreError> {
        let mut producers = Self::default();
        each_producer(store, |row| {
            match row {
                ProducerRow::Own(ProducerKey { client, name }, row) => {
                    let client = Some(client).filter(|client| !client.is_empty()).map(Arc::from);
                    producers.load_row(&ProducerId { client, name: name.into() }, row, false);
                }
                ProducerRow::Named(name, row) => {
                    let id = ProducerId { client: row.owner.clone(), name: name.into() };
                    producers.load_row(&id, row, true);
                }
            }
            Ok(())
        })?;
        Ok(producers)
    }

    fn load_row(&mut self, id: &ProducerId, row: Producer, is_named_row: bool) {
        let Producer { sequence, last_seen, first_digest, digests, .. } = row;
        let digests = MessageDigests::new(first_digest, digests);
        *self.entry(id) = Known { sequence, last_seen, digests, is_named_row };
    }

    /// Opens a stream without a message. Returns the producer's last sequence; 0 for a new one.
    pub(super) fn open(&mut self, stream: &Arc<ProducerStream>) -> u64 {
        self.streams.take_over(stream);
        self.last_sequence(&stream.producer)
    }

    fn last_sequence(&self, id: &ProducerId) -> u64 {
        self.known.get(id).map_or(0, |known| known.sequence)
    }

    /// What a message is to its producer, unless it cannot count.
    pub(super) fn place(&self, position: &StreamPosition, store: &dyn Rows) -> Result<Place, CountError> {
        position.stream.check_open()?;
        let id = &position.stream.producer;
        let last = self.last_sequence(id);
        if position.sequence > last {
            let expected = last.saturating_add(1);
            if position.sequence > expected {
                return Err(StreamRefusal::Gap { expected }.into());
            }
            self.check_room(id)?;
            return Ok(Place::Next);
        }
        let (producer, sequence) = (id.name.clone(), position.sequence);
        match self.digest(id, sequence, store)? {
            Ok(digest) if digest == position.digest || is_sabotaged(Sabotage::TakeDivergedForRepeat) => {
                Ok(Place::Repeat { last, how: Repeat::Same })
            }
            Ok(_) => Err(StreamRefusal::Diverged { producer, sequence, last }.into()),
            Err(NoDigest::NeverKept) => Ok(Place::Repeat { last, how: Repeat::Unverified }),
            Err(NoDigest::NoLonger) => Err(StreamRefusal::TooOld { producer, sequence, last }.into()),
        }
    }

    /// The digest of a message that has counted.
    fn digest(
        &self,
        id: &ProducerId,
        sequence: u64,
        store: &dyn Rows,
    ) -> Result<Result<u64, NoDigest>, StoreError> {
        let Some(known) = self.known.get(id) else { return Ok(Err(NoDigest::NeverKept)) };
        let place = match known.digests.find(sequence, known.sequence) {
            Found::Here(digest) => return Ok(Ok(digest)),
            Found::InBlock(place) => place,
            Found::NeverKept => return Ok(Err(NoDigest::NeverKept)),
            Found::NoLonger => return Ok(Err(NoDigest::NoLonger)),
        };
        let digest = if let Some(block) = self.unwritten.get(&(id.clone(), place)) {
            block.get(sequence)
        } else {
            let block = store.find(DigestBlocks, block_key(id, place))?;
            block.and_then(|block| block.get(sequence))
        };
        Ok(digest.ok_or(NoDigest::NoLonger))
    }

    /// Whether there is room for the producer, should it be new.
    fn check_room(&self, id: &ProducerId) -> Result<(), CountError> {
        if self.known.contains_key(id) {
            return Ok(());
        }
        if self.known.len() >= MAX_PRODUCERS {
            return Err(CountError::TooManyProducers);
        }
        let has = id.client.as_ref().and_then(|client| self.of_client.get(client));
        if has.is_some_and(|has| *has >= MAX_PRODUCERS_OF_CLIENT) {
            return Err(CountError::TooManyOfClient);
        }
        Ok(())
    }

    /// The stream has sent something that is not refused: it is the one that counts.
    pub(super) fn take_over(&mut self, stream: &Arc<ProducerStream>) {
        self.streams.take_over(stream);
    }

    /// A message has counted: the producer is that far. Its row is written by [`flush`](Self::flush).
    pub(super) fn advance(&mut self, position: &StreamPosition, now: Timestamp, batch: &mut Batch) {
        let id = &position.stream.producer;
        let known = self.entry(id);
        (known.sequence, known.last_seen) = (position.sequence, now);
        if let Some((place, block)) = known.digests.push(position.sequence, position.digest) {
            batch.put(DigestBlocks, block_key(id, place), &block);
            self.unwritten.insert((id.clone(), place), block);
        }
        if !self.changed.contains(id) {
            self.changed.insert(id.clone());
        }
    }

    /// Puts the rows of the producers that have come further into the batch, one for each however many messages it had.
    pub(super) fn flush(&mut self, batch: &mut Batch) {
        for id in self.changed.drain() {
            let Some(known) = self.known.get_mut(&id) else { continue };
            let row = Producer {
                sequence: known.sequence,
                last_seen: known.last_seen,
                owner: None,
                first_digest: known.digests.first(),
                digests: known.digests.filling().to_vec(),
            };
            batch.put(ProducerRows, key(&id), &row);
            if std::mem::take(&mut known.is_named_row) {
                batch.delete(NamedProducerRows, &id.name);
            }
        }
    }

    /// The batch is written: it is read from the store now.
    pub(super) fn written(&mut self) {
        self.unwritten.clear();
    }

    /// A producer, which may be new.
    fn entry(&mut self, id: &ProducerId) -> &mut Known {
        // Twice, since most are known, and to find one needs no copy of its names.
        if !self.known.contains_key(id) {
            let client = id.client.as_ref().map(|client| self.note_producer_of(client));
            let id = ProducerId { client, name: id.name.clone() };
            return self.known.entry(id).or_default();
        }
        self.known.get_mut(id).unwrap_or_else(|| unreachable!("it was there a moment ago"))
    }

    /// The client has one more. Returns its name as it is shared.
    fn note_producer_of(&mut self, client: &Arc<str>) -> Arc<str> {
        let name =
            self.of_client.get_key_value(client).map_or_else(|| client.clone(), |(name, _)| name.clone());
        *self.of_client.entry(name.clone()).or_default() += 1;
        name
    }
}

/// Why there is no digest of a message that has counted.
enum NoDigest {
    NeverKept,
    NoLonger,
}

fn block_key(id: &ProducerId, place: u32) -> DigestBlockKey<'_> {
    let ProducerKey { client, name } = key(id);
    DigestBlockKey { client, name, place }
}

fn key(id: &ProducerId) -> ProducerKey<'_> {
    ProducerKey { client: id.client.as_deref().unwrap_or_default(), name: &id.name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{MemoryStore, Store, TableId};

    /// Producers with the disk under them.
    #[derive(Default)]
    struct Harness {
        store: MemoryStore,
        producers: Producers,
    }

    fn stream(client: &str, name: &str) -> Arc<ProducerStream> {
        let client = Some(client).filter(|client| !client.is_empty()).map(Arc::from);
        ProducerStream::new(client, name.into())
    }

    impl Harness {
        /// Sends messages, each with the digest that stands for its events, in one commit; tells what became of each.
        fn sends(&mut self, stream: &Arc<ProducerStream>, messages: &[(u64, u64)]) -> Vec<Told> {
            let mut batch = Batch::default();
            let told = messages
                .iter()
                .map(|(sequence, digest)| {
                    let position =
                        StreamPosition { stream: stream.clone(), sequence: *sequence, digest: *digest };
                    let place = self.producers.place(&position, &self.store);
                    if let Ok(Place::Next) = place {
                        self.producers.advance(&position, Timestamp::from_millis(7), &mut batch);
                    }
                    Told::of(place)
                })
                .collect();
            self.producers.flush(&mut batch);
            self.store.commit(batch).unwrap();
            self.producers.written();
            told
        }

        fn sends_as(&mut self, client: &str, sequence: u64, digest: u64) -> Told {
            self.sends(&stream(client, "p"), &[(sequence, digest)]).remove(0)
        }

        fn restart(&mut self) {
            self.producers = Producers::load(&self.store).unwrap();
        }
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Told {
        Counted,
        Same,
        Unverified,
        Diverged,
        TooOld,
        Gap(u64),
    }

    impl Told {
        fn of(place: Result<Place, CountError>) -> Self {
            match place {
                Ok(Place::Next) => Self::Counted,
                Ok(Place::Repeat { how: Repeat::Same, .. }) => Self::Same,
                Ok(Place::Repeat { how: Repeat::Unverified, .. }) => Self::Unverified,
                Err(CountError::Stream(StreamRefusal::Diverged { .. })) => Self::Diverged,
                Err(CountError::Stream(StreamRefusal::TooOld { .. })) => Self::TooOld,
                Err(CountError::Stream(StreamRefusal::Gap { expected })) => Self::Gap(expected),
                Err(other) => panic!("{other}"),
            }
        }
    }

    use Told::{Counted, Diverged, Gap, Same, TooOld, Unverified};

    #[test]
    fn a_repeat_is_told_from_other_events_under_its_number_also_after_a_restart() {
        let mut harness = Harness::default();
        assert_eq!(harness.sends_as("", 1, 11), Counted);
        assert_eq!([harness.sends_as("", 1, 11), harness.sends_as("", 1, 12)], [Same, Diverged]);
        harness.restart();
        assert_eq!([harness.sends_as("", 1, 11), harness.sends_as("", 1, 12)], [Same, Diverged]);
        assert_eq!([harness.sends_as("", 3, 13), harness.sends_as("", 2, 12)], [Gap(2), Counted]);
    }

    #[test]
    fn the_last_messages_are_compared_and_older_ones_refused() {
        let mut harness = Harness::default();
        let stream = stream("", "p");
        for last in 1..=140 {
            assert_eq!(harness.sends(&stream, &[(last, last)]), [Counted]);
            if last % 3 == 0 {
                harness.restart();
            }
            for sequence in 1..=last {
                let is_kept = last - sequence < 64;
                let (same, other) = if is_kept { (Same, Diverged) } else { (TooOld, TooOld) };
                let told = harness.sends(&stream, &[(sequence, sequence), (sequence, u64::MAX)]);
                assert_eq!(told, [same, other], "{sequence} of {last}");
            }
        }
    }

    #[test]
    fn repeats_are_compared_within_a_commit_too() {
        let mut harness = Harness::default();
        let messages: Vec<(u64, u64)> = (1..=70).map(|sequence| (sequence, sequence)).collect();
        let again: Vec<_> = messages.iter().copied().skip(10).chain([(20, 5), (70, 1)]).collect();
        let told = harness.sends(&stream("", "p"), &[&messages[..], &again].concat());
        assert_eq!(told, [&[Counted; 70][..], &[Same; 60], &[Diverged; 2]].concat());
        assert_eq!(harness.store.scan(TableId::Producers, &[], 9).unwrap().len(), 1);
    }

    #[test]
    fn two_clients_have_a_producer_of_one_name_without_touching_each_other() {
        let mut harness = Harness::default();
        for round in 1..=3 {
            for (client, digest) in [("app", 1), ("other", 2), ("", 3)] {
                assert_eq!(harness.sends_as(client, round, digest), Counted, "{round}: {client}");
            }
            harness.restart();
        }
        assert_eq!([harness.sends_as("app", 3, 1), harness.sends_as("app", 3, 2)], [Same, Diverged]);
    }

    /// A folder of before has a row by the producer's name, with its client in the value or without one.
    #[test]
    fn producers_of_before_go_on_as_whose_they_were() {
        let mut harness = Harness::default();
        let mut batch = Batch::default();
        for (name, sequence, owner) in [("p", 7, Some("app")), ("q", 5, None)] {
            let owner = owner.map(Arc::from);
            let row = Producer { sequence, owner, ..Producer::default() };
            batch.put(NamedProducerRows, name, &row);
        }
        harness.store.commit(batch).unwrap();
        harness.restart();
        assert_eq!(harness.sends_as("app", 9, 1), Gap(8));
        // Nobody's producer of that name is another one, whose row must not take the place of the first.
        assert_eq!([harness.sends_as("", 1, 1), harness.sends_as("other", 1, 1)], [Counted; 2]);
        harness.restart();
        assert_eq!([harness.sends_as("app", 7, 1), harness.sends_as("app", 8, 1)], [Unverified, Counted]);
        assert_eq!(harness.sends(&stream("", "q"), &[(5, 1), (6, 1)]), [Unverified, Counted]);
        harness.restart();
        assert_eq!(
            harness.sends(&stream("", "q"), &[(6, 2), (5, 2), (7, 1)]),
            [Diverged, Unverified, Counted]
        );
        assert_eq!([harness.sends_as("app", 8, 2), harness.sends_as("app", 9, 1)], [Diverged, Counted]);
        assert_eq!(harness.store.scan(TableId::Producers, &[], 9).unwrap().len(), 4, "none twice");
    }

    #[test]
    fn no_client_takes_the_room_of_the_others() {
        let mut producers = Producers::default();
        let mut batch = Batch::default();
        let store = MemoryStore::default();
        let position = |client: &str, name: &str, sequence| StreamPosition {
            stream: stream(client, name),
            sequence,
            digest: 0,
        };
        for number in 0..MAX_PRODUCERS_OF_CLIENT {
            let position = position("greedy", &number.to_string(), 1);
            assert_eq!(producers.place(&position, &store).unwrap(), Place::Next);
            producers.advance(&position, Timestamp::from_millis(7), &mut batch);
        }
        let full = producers.place(&position("greedy", "new", 1), &store);
        assert!(matches!(full, Err(CountError::TooManyOfClient)));
        assert!(producers.place(&position("greedy", "0", 2), &store).is_ok(), "those that it has go on");
        assert!(producers.place(&position("modest", "new", 1), &store).is_ok());
        let names: HashSet<_> =
            producers.known.keys().map(|id| id.client.as_ref().map(Arc::as_ptr)).collect();
        assert_eq!((producers.of_client.len(), names.len()), (1, 1), "all share its name");
    }
}
