//! A number that stands for the events of a stream's message, by which a repeat is told from other events.
//!
//! It is made of what the events say and not of their bytes: Protobuf gives a map's entries no order, and leaves it to a
//! library whether it writes what is empty. A rightful producer that is restarted, or encodes with another library, sends
//! the same events in other bytes, and must not be refused. For the same reason the order of events does not matter.
//!
//! Of a text, 16 bytes are multiplied at a time and the halves of the product folded, as in wyhash. That is a few ns for
//! an event; `SipHash`, with which ids are hashed, takes longer than to count it. Seeds come from the store's key. It need
//! not withstand an attack: who makes two messages of one digest harms only its own usage. Digests are on disk, so what
//! is computed here stays as it is.

use super::wire::Event;

/// Fractional digits of pi.
const PI: [u64; 4] =
    [0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344, 0xa409_3822_299f_31d0, 0x082e_fa98_ec4e_6c89];

/// Seeds that differ from store to store, and from field to field.
#[derive(Clone, Copy, Debug)]
pub(super) struct DigestKey {
    seeds: [u64; 9],
}

#[derive(Clone, Copy, Debug)]
pub(super) struct MessageDigest {
    key: DigestKey,
    sum: u64,
    events: u64,
}

impl DigestKey {
    #[expect(clippy::cast_possible_truncation, reason = "its halves")]
    pub(super) const fn new(key: u128) -> Self {
        let (high, low) = ((key >> 64) as u64, key as u64);
        let mut seeds = [0; 9];
        let mut state = mix(high ^ PI[0], low ^ PI[1]);
        let mut index = 0;
        while index < seeds.len() {
            state = state.wrapping_add(PI[2]);
            seeds[index] = mix(state ^ low, PI[3] ^ high);
            index += 1;
        }
        Self { seeds }
    }

    fn event(&self, event: &Event<'_>) -> u64 {
        let [quantity, time, customer, dimension, product, id, subject, tag_key, tag_value] = self.seeds;
        let mut sum = mix(event.quantity ^ quantity, event.time_unix_nano ^ time);
        let product_code = event.names.product.unwrap_or_default();
        let texts = [
            (customer, event.names.customer),
            (dimension, event.names.dimension),
            (product, product_code),
            (id, event.id),
            (subject, event.subject.as_bytes()),
        ];
        for (seed, text) in texts {
            if !text.is_empty() {
                sum = sum.wrapping_add(hash(seed, text));
            }
        }
        for (key, value) in &event.tags {
            let pair = mix(hash(tag_key, key.as_bytes()) ^ PI[0], hash(tag_value, value.as_bytes()) ^ PI[1]);
            sum = sum.wrapping_add(pair);
        }
        // Or what two events say could change places.
        mix(mix(sum ^ PI[2], quantity ^ PI[3]) ^ PI[0], time ^ PI[1])
    }
}

impl MessageDigest {
    pub(super) const fn new(key: DigestKey) -> Self {
        Self { key, sum: 0, events: 0 }
    }

    pub(super) fn add(&mut self, event: &Event<'_>) {
        self.sum = self.sum.wrapping_add(self.key.event(event));
        self.events = self.events.wrapping_add(1);
    }

    pub(super) const fn finish(self) -> u64 {
        mix(self.sum ^ self.key.seeds[0], self.events ^ self.key.seeds[1])
    }
}

#[expect(clippy::cast_possible_truncation, reason = "its halves")]
const fn mix(a: u64, b: u64) -> u64 {
    let product = (a as u128).wrapping_mul(b as u128);
    (product >> 64) as u64 ^ product as u64
}

fn hash(seed: u64, text: &[u8]) -> u64 {
    // Multiplied: to xor a small number in would undo what other bytes differ by.
    let mut state = seed.wrapping_add((text.len() as u64).wrapping_mul(PI[3]));
    let mut rest = text;
    while let Some((low, after)) = rest.split_first_chunk()
        && let Some((high, after)) = after.split_first_chunk()
        && !after.is_empty()
    {
        state = mix(u64::from_le_bytes(*low) ^ PI[1], u64::from_le_bytes(*high) ^ state);
        rest = after;
    }
    let (low, high) = ends(rest);
    mix(low ^ PI[2], high ^ state)
}

/// All of at most 16 bytes in two numbers, some of them twice.
fn ends(text: &[u8]) -> (u64, u64) {
    if let (Some(low), Some(high)) = (text.first_chunk(), text.last_chunk()) {
        return (u64::from_le_bytes(*low), u64::from_le_bytes(*high));
    }
    if let (Some(low), Some(high)) = (text.first_chunk(), text.last_chunk()) {
        return (u32::from_le_bytes(*low).into(), u32::from_le_bytes(*high).into());
    }
    match *text {
        [first, .., last] => (u64::from(first) | u64::from(text[text.len() / 2]) << 8, last.into()),
        [only] => (only.into(), 0),
        [] => (0, 0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::{
        api::usage::wire::Message,
        base::proto::{RecordStreamRequest, UsageEvent, raw},
    };

    fn digest_with(key: u128, events: &[UsageEvent]) -> u64 {
        let request = RecordStreamRequest { sequence: 1, events: events.to_vec(), ..Default::default() };
        digest_of_bytes(key, request.encode_to_vec())
    }

    fn digest_of_bytes(key: u128, bytes: Vec<u8>) -> u64 {
        let request = raw::RecordStreamRequest::from(bytes);
        let mut digest = MessageDigest::new(DigestKey::new(key));
        let add = |_, event: &Event<'_>| {
            digest.add(event);
            Ok(())
        };
        Message::of_stream(&request).unwrap().each_event(add).unwrap();
        digest.finish()
    }

    fn digest(events: &[UsageEvent]) -> u64 {
        digest_with(7, events)
    }

    fn event(customer: &str, quantity: u64) -> UsageEvent {
        UsageEvent {
            customer: customer.to_owned(),
            dimension: "requests".to_owned(),
            quantity,
            ..UsageEvent::default()
        }
    }

    fn tagged() -> UsageEvent {
        let tags = [("team", "blue"), ("env", "a b"), ("zone", "eu")];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
        UsageEvent { tags: tags.into(), ..event("acme", 5) }
    }

    /// They are on disk: another number would be taken for other events.
    #[test]
    fn digests_are_what_they_always_were() {
        let all = UsageEvent {
            time_unix_nano: 1_793_620_800_000_000_000,
            event_id: "0123456789abcdef0123456789abcdef".to_owned(),
            product: "prod".to_owned(),
            subject: "ann".to_owned(),
            ..tagged()
        };
        assert_eq!(digest(&[]), 0x87e0_52fc_5ec9_57ea);
        assert_eq!(digest(&[event("a", 1)]), 0xbaec_fe48_fec8_1cb0);
        assert_eq!(digest(&[all.clone(), event("acme", u64::MAX)]), 0xfaa4_066c_b38f_c96a);
        assert_eq!(digest_with(u128::MAX / 3, &[all]), 0xa079_5474_ab89_92de);
    }

    #[test]
    fn the_same_events_in_other_bytes_have_the_same_digest() {
        let (one, other) = (tagged(), event("globex", 7));
        let expected = digest(&[one.clone(), other.clone()]);
        assert_eq!(digest(&[other.clone(), one.clone()]), expected, "in another order");
        // The map is written in the order that it happens to have.
        for _ in 0..20 {
            assert_eq!(digest(&[tagged(), other.clone()]), expected);
        }
        // Fields the other way round; what is empty is written all the same; a number in more bytes than it needs; a
        // field that is not known.
        let mut body = vec![0x2a, 0, 0x32, 0, 0x3a, 0, 0x78, 9, 0x18, 0x87, 0x80, 0];
        body.extend([0x12, 8]);
        body.extend(b"requests");
        body.extend([0x0a, 6]);
        body.extend(b"globex");
        let first = RecordStreamRequest { sequence: 1, events: vec![one], ..Default::default() };
        let bytes = [first.encode_to_vec(), vec![0x1a, u8::try_from(body.len()).unwrap()], body].concat();
        assert_eq!(digest_of_bytes(7, bytes), expected);
    }

    #[test]
    fn whatever_changes_the_usage_changes_the_digest() {
        let all = UsageEvent {
            time_unix_nano: 1_793_620_800_000_000_000,
            event_id: "i".to_owned(),
            product: "p".to_owned(),
            subject: "s".to_owned(),
            ..tagged()
        };
        let with = |change: fn(&mut UsageEvent)| {
            let mut event = all.clone();
            change(&mut event);
            vec![event]
        };
        let swapped_tags = [("team", "a b"), ("env", "blue"), ("zone", "eu")];
        let swapped_tags = swapped_tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let swapped = UsageEvent { tags: swapped_tags.into(), ..all.clone() };
        let messages = [
            vec![],
            vec![all.clone()],
            vec![all.clone(), all.clone()],
            vec![all.clone(), all.clone(), all.clone()],
            vec![swapped],
            with(|event| event.customer.push('x')),
            with(|event| std::mem::swap(&mut event.customer, &mut event.dimension)),
            with(|event| std::mem::swap(&mut event.subject, &mut event.event_id)),
            with(|event| event.product.clear()),
            with(|event| event.quantity += 1),
            with(|event| event.quantity = 0),
            with(|event| event.time_unix_nano = 0),
            with(|event| event.time_unix_nano += 1),
            with(|event| event.event_id = "j".to_owned()),
            with(|event| drop(event.tags.remove("zone"))),
            vec![event("a", 1), event("b", 2)],
            vec![event("a", 2), event("b", 1)],
            vec![event("a", 3), event("b", 0)],
        ];
        let digests: HashSet<u64> = messages.iter().map(|events| digest(events)).collect();
        assert_eq!(digests.len(), messages.len());
    }

    #[test]
    fn texts_of_every_length_differ_by_each_of_their_bytes() {
        let (mut seen, [seed, ..]) = (HashSet::new(), DigestKey::new(7).seeds);
        for length in 0..70 {
            let text = vec![b'x'; length];
            assert!(seen.insert(hash(seed, &text)), "{length}");
            for place in 0..length {
                let mut other = text.clone();
                other[place] = b'y';
                assert!(seen.insert(hash(seed, &other)), "{place} of {length}");
            }
        }
    }

    proptest! {
        #[test]
        fn small_differences_give_other_digests(quantities in prop::collection::hash_set(0..5000_u64, 1..200)) {
            let one = |quantity: &u64| digest(&[event("acme", *quantity)]);
            prop_assert_eq!(quantities.iter().map(one).collect::<HashSet<_>>().len(), quantities.len());
        }
    }
}
