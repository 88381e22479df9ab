//! Requests as they travel: Protobuf, taken apart in place. A value for each event, with its texts on the heap, would
//! cost more than to count it.
//!
//! What is taken and what is refused is the same as by prost's generated code, and a fuzz target holds one against
//! the other.

use std::{
    hash::{Hash, Hasher},
    str,
};

use thiserror::Error;
use tonic::Status;

use crate::{base::proto::raw, domain::usage::event::Names};

/// How deep unknown groups may lie in each other; prost's own limit.
const MAX_DEPTH: u32 = 100;
const EVENT_DEPTH: u32 = MAX_DEPTH - 1;
const TAG_DEPTH: u32 = EVENT_DEPTH - 1;

/// The request is no Protobuf of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Malformed {
    #[error("it ends in the middle of a field")]
    Short,
    #[error("a number has more than 64 bits")]
    Varint,
    #[error("a field has the number 0, or one that is too large")]
    FieldNumber,
    #[error("a field has another wire type than the proto says")]
    WireType,
    #[error("groups are not closed, or lie too deep in each other")]
    Group,
    #[error("a text is not UTF-8")]
    Text,
}

impl From<Malformed> for Status {
    fn from(why: Malformed) -> Self {
        Self::invalid_argument(format!("the request cannot be decoded: {why}; nothing was counted"))
    }
}

/// A request or a stream's message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    bytes: &'a [u8],
    events_field: u32,
    pub(super) producer_id: &'a str,
    pub(super) sequence: u64,
    /// How many events there are.
    pub(super) events: usize,
}

impl<'a> Message<'a> {
    pub(super) fn of_request(request: &'a raw::RecordRequest) -> Result<Self, Malformed> {
        let mut message = Self { bytes: request.bytes(), events_field: 1, ..Self::EMPTY };
        let mut fields = Fields::new(message.bytes, MAX_DEPTH);
        while let Some((number, kind)) = fields.next_key()? {
            match number {
                1 => {
                    fields.bytes(kind)?;
                    message.events += 1;
                }
                _ => fields.skip(number, kind)?,
            }
        }
        Ok(message)
    }

    pub(super) fn of_stream(request: &'a raw::RecordStreamRequest) -> Result<Self, Malformed> {
        let mut message = Self { bytes: request.bytes(), events_field: 3, ..Self::EMPTY };
        let mut fields = Fields::new(message.bytes, MAX_DEPTH);
        while let Some((number, kind)) = fields.next_key()? {
            match number {
                1 => message.producer_id = fields.text(kind)?,
                2 => message.sequence = fields.varint(kind)?,
                3 => {
                    fields.bytes(kind)?;
                    message.events += 1;
                }
                _ => fields.skip(number, kind)?,
            }
        }
        Ok(message)
    }

    /// Whether it is one of a producer's messages.
    pub(super) const fn is_numbered(&self) -> bool {
        self.sequence > 0
    }

    const EMPTY: Self = Self { bytes: &[], events_field: 0, producer_id: "", sequence: 0, events: 0 };

    /// Reads the events one after the other into `event`, and hands each over with its index.
    pub(super) fn each_event(
        &self,
        mut take: impl FnMut(u32, &Event<'a>) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let mut fields = Fields::new(self.bytes, MAX_DEPTH);
        let mut event = Event::default();
        let mut index = 0;
        while let Some((number, kind)) = fields.next_key()? {
            if number == self.events_field {
                event.read(fields.bytes(kind)?)?;
                take(index, &event)?;
                index += 1;
            } else {
                fields.skip(number, kind)?;
            }
        }
        Ok(())
    }
}

/// The texts that say what an event counts for, not looked at yet: most events of a request say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RawNames<'a> {
    /// Not an empty text when it is not given: to compare one that lies nowhere in memory is slow on AVX-512.
    pub(super) product: Option<&'a [u8]>,
    pub(super) customer: &'a [u8],
    pub(super) dimension: &'a [u8],
}

/// Without their lengths: names that differ in those alone are few, and compared anyway.
impl Hash for RawNames<'_> {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        if let Some(product) = self.product {
            state.write(product);
        }
        state.write(self.customer);
        state.write(self.dimension);
    }
}

impl<'a> RawNames<'a> {
    pub(super) fn texts(&self) -> Result<Names<'a>, Malformed> {
        Ok(Names {
            product: as_text(self.product.unwrap_or_default())?,
            customer: as_text(self.customer)?,
            dimension: as_text(self.dimension)?,
        })
    }
}

/// An event, its texts still in the request.
#[derive(Clone, Debug, Default)]
pub(super) struct Event<'a> {
    pub(super) names: RawNames<'a>,
    pub(super) quantity: u64,
    pub(super) time_unix_nano: u64,
    /// A text.
    pub(super) id: &'a [u8],
    pub(super) subject: &'a str,
    pub(super) tags: Vec<(&'a str, &'a str)>,
}

impl<'a> Event<'a> {
    fn read(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        let mut tags = std::mem::take(&mut self.tags);
        tags.clear();
        *self = Self { tags, ..Self::default() };
        let mut fields = Fields::new(bytes, EVENT_DEPTH);
        while let Some((number, kind)) = fields.next_key()? {
            match number {
                1 => replace(&mut self.names.customer, fields.bytes(kind)?)?,
                2 => replace(&mut self.names.dimension, fields.bytes(kind)?)?,
                3 => self.quantity = fields.varint(kind)?,
                4 => self.time_unix_nano = fields.fixed64(kind)?,
                5 => self.id = checked(fields.bytes(kind)?)?,
                6 => replace(self.names.product.get_or_insert_default(), fields.bytes(kind)?)?,
                7 => self.subject = fields.text(kind)?,
                // prost reads an entry of a map whatever its wire type.
                8 => self.tags.push(read_tag(fields.bytes(Kind::Bytes)?)?),
                _ => fields.skip(number, kind)?,
            }
        }
        Ok(())
    }
}

/// Of a field that stands twice the last one counts, but the first must be good as well.
fn replace<'a>(text: &mut &'a [u8], by: &'a [u8]) -> Result<(), Malformed> {
    checked(text)?;
    *text = by;
    Ok(())
}

fn read_tag(bytes: &[u8]) -> Result<(&str, &str), Malformed> {
    let (mut key, mut value) = ("", "");
    let mut fields = Fields::new(bytes, TAG_DEPTH);
    while let Some((number, kind)) = fields.next_key()? {
        match number {
            1 => key = fields.text(kind)?,
            2 => value = fields.text(kind)?,
            _ => fields.skip(number, kind)?,
        }
    }
    Ok((key, value))
}

/// A text that no one will read is one all the same. Most are ASCII, which is seen sooner.
#[inline]
fn checked(bytes: &[u8]) -> Result<&[u8], Malformed> {
    if bytes.is_ascii() { Ok(bytes) } else { as_text(bytes).map(str::as_bytes) }
}

fn as_text(bytes: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(bytes).map_err(|_| Malformed::Text)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Varint,
    Fixed64,
    Bytes,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// The fields of one message.
struct Fields<'a> {
    rest: &'a [u8],
    depth: u32,
}

impl<'a> Fields<'a> {
    const fn new(bytes: &'a [u8], depth: u32) -> Self {
        Self { rest: bytes, depth }
    }

    #[inline]
    fn next_key(&mut self) -> Result<Option<(u32, Kind)>, Malformed> {
        if self.rest.is_empty() { Ok(None) } else { self.key().map(Some) }
    }

    #[inline]
    fn key(&mut self) -> Result<(u32, Kind), Malformed> {
        let key = u32::try_from(self.number()?).map_err(|_| Malformed::FieldNumber)?;
        let kind = match key & 7 {
            0 => Kind::Varint,
            1 => Kind::Fixed64,
            2 => Kind::Bytes,
            3 => Kind::StartGroup,
            4 => Kind::EndGroup,
            5 => Kind::Fixed32,
            _ => return Err(Malformed::WireType),
        };
        match key >> 3 {
            0 => Err(Malformed::FieldNumber),
            number => Ok((number, kind)),
        }
    }

    #[inline]
    fn varint(&mut self, kind: Kind) -> Result<u64, Malformed> {
        expect(kind, Kind::Varint)?;
        self.number()
    }

    #[inline]
    fn fixed64(&mut self, kind: Kind) -> Result<u64, Malformed> {
        expect(kind, Kind::Fixed64)?;
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    #[inline]
    fn text(&mut self, kind: Kind) -> Result<&'a str, Malformed> {
        as_text(self.bytes(kind)?)
    }

    #[inline]
    fn bytes(&mut self, kind: Kind) -> Result<&'a [u8], Malformed> {
        expect(kind, Kind::Bytes)?;
        let length = self.number()?;
        self.advance(usize::try_from(length).map_err(|_| Malformed::Short)?)
    }

    #[inline]
    fn advance(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    #[inline]
    fn number(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [byte @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok((*byte).into())
            }
            [low, high @ 0..0x80, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(low & 0x7f) | u64::from(*high) << 7)
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for (place, byte) in self.rest.iter().enumerate() {
            // The tenth byte holds the 64th bit.
            if place == 9 && *byte > 1 {
                return Err(Malformed::Varint);
            }
            number |= u64::from(byte & 0x7f) << (7 * place);
            if *byte < 0x80 {
                self.rest = &self.rest[place + 1..];
                return Ok(number);
            }
        }
        Err(Malformed::Short)
    }

    /// Passes over a field that this version does not know.
    fn skip(&mut self, number: u32, kind: Kind) -> Result<(), Malformed> {
        match kind {
            Kind::Varint => self.number().map(drop),
            Kind::Fixed64 => self.advance(8).map(drop),
            Kind::Fixed32 => self.advance(4).map(drop),
            Kind::Bytes => self.bytes(kind).map(drop),
            Kind::StartGroup => self.skip_group(number),
            Kind::EndGroup => Err(Malformed::Group),
        }
    }

    /// Skips a group without recursion, however deep a sender nests groups.
    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            let (number, kind) = self.key()?;
            if kind == Kind::EndGroup {
                if number != innermost {
                    return Err(Malformed::Group);
                }
                open.pop();
            } else if open.len() >= self.depth as usize {
                return Err(Malformed::Group);
            } else if kind == Kind::StartGroup {
                open.push(number);
            } else {
                self.skip(number, kind)?;
            }
        }
        Ok(())
    }
}

#[inline]
fn expect(kind: Kind, expected: Kind) -> Result<(), Malformed> {
    if kind == expected { Ok(()) } else { Err(Malformed::WireType) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_64_bits_and_no_more() {
        let number = |bytes| Fields::new(bytes, 0).number();
        let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(number(&longest), Ok(u64::MAX));
        let mut too_large = longest;
        too_large[9] = 2;
        assert_eq!(number(&too_large), Err(Malformed::Varint));
        assert_eq!(number(&longest[..9]), Err(Malformed::Short));
        assert_eq!(number(&[0x96, 1]), Ok(150));
    }

    #[test]
    fn unknown_groups_are_passed_over_but_not_for_ever() {
        let nested = |depth: usize| [vec![0x53; depth], vec![0x54; depth]].concat();
        let skip = |bytes: &[u8]| {
            let mut fields = Fields::new(bytes, MAX_DEPTH);
            fields.next_key().and_then(|key| key.map_or(Ok(()), |(number, kind)| fields.skip(number, kind)))
        };
        assert_eq!(skip(&nested(100)), Ok(()));
        assert_eq!(skip(&nested(101)), Err(Malformed::Group));
        assert_eq!(skip(&[0x53, 0x5c]), Err(Malformed::Group), "closed by another number");
    }
}
