//! Requests that are encoded already.

use std::marker::PhantomData;

use prost::bytes::{BufMut, Bytes};
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

/// The bytes of a request, in two parts: protobuf messages may be concatenated.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) head: Bytes,
    pub(super) body: Bytes,
}

/// Passes encoded requests through, and decodes answers of type `A`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded<A>(PhantomData<A>);

impl<A> Default for Encoded<A> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<A: prost::Message + Default + 'static> Codec for Encoded<A> {
    type Encode = Message;
    type Decode = A;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        Self::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self::default()
    }
}

impl<A> Encoder for Encoded<A> {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, message: Message, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.head.len().saturating_add(message.body.len()));
        buffer.put_slice(&message.head);
        buffer.put_slice(&message.body);
        Ok(())
    }
}

impl<A: prost::Message + Default> Decoder for Encoded<A> {
    type Item = A;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<A>, Status> {
        A::decode(buffer).map(Some).map_err(|fault| Status::internal(fault.to_string()))
    }
}
