//! The requests that bring usage, as the server takes them: a message's bytes, as they came.
//!
//! The server's code for `UsageService` is generated with these types in the place of prost's, so that tonic's codec
//! hands over what it has read, and nothing is built that would be taken apart at once.

use prost::{
    DecodeError, Message,
    bytes::{Buf, BufMut, Bytes, BytesMut},
    encoding::{self, DecodeContext, WireType},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordRequest(Bytes);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordStreamRequest(Bytes);

macro_rules! message {
    ($name:ident) => {
        impl $name {
            pub fn bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<Vec<u8>> for $name {
            fn from(bytes: Vec<u8>) -> Self {
                Self(bytes.into())
            }
        }

        impl Message for $name {
            fn merge(&mut self, buf: impl Buf) -> Result<(), DecodeError> {
                merge(&mut self.0, buf);
                Ok(())
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: WireType,
                buf: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), DecodeError> {
                merge_field(&mut self.0, tag, wire_type, buf, context)
            }

            fn encode_raw(&self, buf: &mut impl BufMut) {
                buf.put_slice(&self.0);
            }

            fn encoded_len(&self) -> usize {
                self.0.len()
            }

            fn clear(&mut self) {
                self.0.clear();
            }
        }
    };
}

message!(RecordRequest);
message!(RecordStreamRequest);

/// Messages are merged by writing one after the other. To an empty one, tonic's buffer is handed over as it is.
fn merge(bytes: &mut Bytes, mut buf: impl Buf) {
    let added = buf.copy_to_bytes(buf.remaining());
    *bytes = if bytes.is_empty() { added } else { [&bytes[..], &added].concat().into() };
}

/// Adds one field. Only prost's own loop would ask for that, and `merge` stands in its place.
fn merge_field(
    bytes: &mut Bytes,
    tag: u32,
    wire_type: WireType,
    buf: &mut impl Buf,
    context: DecodeContext,
) -> Result<(), DecodeError> {
    let mut field = BytesMut::new();
    match wire_type {
        WireType::Varint => {
            let mut value = 0;
            encoding::uint64::merge(wire_type, &mut value, buf, context)?;
            encoding::uint64::encode(tag, &value, &mut field);
        }
        WireType::SixtyFourBit => {
            let mut value = 0;
            encoding::fixed64::merge(wire_type, &mut value, buf, context)?;
            encoding::fixed64::encode(tag, &value, &mut field);
        }
        WireType::ThirtyTwoBit => {
            let mut value = 0;
            encoding::fixed32::merge(wire_type, &mut value, buf, context)?;
            encoding::fixed32::encode(tag, &value, &mut field);
        }
        WireType::LengthDelimited => {
            let mut value = Bytes::new();
            encoding::bytes::merge(wire_type, &mut value, buf, context)?;
            encoding::bytes::encode(tag, &value, &mut field);
        }
        // No message of ours has groups.
        WireType::StartGroup | WireType::EndGroup => encoding::skip_field(wire_type, tag, buf, context)?,
    }
    merge(bytes, field);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::proto::{self, UsageEvent};

    fn request(customers: &[&str]) -> proto::RecordRequest {
        let event =
            |customer: &&str| UsageEvent { customer: (*customer).to_owned(), ..UsageEvent::default() };
        proto::RecordRequest { events: customers.iter().map(event).collect() }
    }

    #[test]
    fn a_request_keeps_its_bytes() {
        let bytes = request(&["a", "b"]).encode_to_vec();
        let raw = RecordRequest::decode(&*bytes).unwrap();
        assert_eq!((raw.bytes(), raw.encode_to_vec()), (&*bytes, bytes.clone()));
    }

    #[test]
    fn requests_merge_as_prost_merges_them() {
        let [first, second] = [request(&["a"]), request(&["b", "c"])].map(|request| request.encode_to_vec());
        let mut whole = RecordRequest::decode(&*first).unwrap();
        whole.merge(&*second).unwrap();
        assert_eq!(proto::RecordRequest::decode(whole.bytes()), Ok(request(&["a", "b", "c"])));
    }

    #[test]
    fn field_by_field_it_comes_to_the_same() {
        let message = proto::RecordStreamRequest {
            producer_id: "host".to_owned(),
            sequence: 300,
            events: request(&["a", "b"]).events,
        };
        let mut bytes = message.encode_to_vec();
        bytes.extend([0x79, 1, 2, 3, 4, 5, 6, 7, 8, 0x7d, 1, 2, 3, 4]); // unknown fixed-size fields
        let (mut raw, mut rest) = (RecordStreamRequest::default(), &*bytes);
        while !rest.is_empty() {
            let (tag, wire_type) = encoding::decode_key(&mut rest).unwrap();
            raw.merge_field(tag, wire_type, &mut rest, DecodeContext::default()).unwrap();
        }
        assert_eq!(raw.bytes(), bytes);
    }
}
