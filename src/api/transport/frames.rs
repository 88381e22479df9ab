//! HTTP/2 framing, as far as a connection follows it: which frames pass, in one direction.
//!
//! | bytes | what |
//! |---|---|
//! | 3 | the payload's length, big-endian |
//! | 1 | type |
//! | 1 | flags |
//! | 4 | stream, 0 for the connection itself; the highest bit is not used |
//! | ... | payload |

/// Length of a frame's header.
const HEADER: usize = 9;
/// Length of what a client sends before its first frame.
pub(super) const PREFACE: usize = 24;
/// Flag of a frame behind which its sender says nothing more in the stream.
const END_STREAM: u8 = 1;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) stream: u32,
    /// Whether it is the last one of its direction of the stream.
    pub(super) is_last: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameKind {
    Data,
    /// Begins a call or an answer, or ends one with trailers.
    Headers,
    /// Ends a stream in both directions.
    Reset,
    /// What the header of a call or an answer goes on in.
    Continuation,
    /// All that belongs to no call: settings, pings, windows, priorities, and types that are not known.
    Control,
}

/// The position in the frames of one direction of a connection.
#[derive(Debug)]
pub(super) struct FrameCursor {
    header: [u8; HEADER],
    /// Bytes of the header that have passed.
    filled: usize,
    /// Bytes of the payload, or of the preface, that have not passed.
    left: usize,
}

impl FrameCursor {
    /// At the beginning of what a client sends.
    pub(super) fn of_client() -> Self {
        Self { header: [0; HEADER], filled: 0, left: PREFACE }
    }

    /// At the beginning of what a server sends.
    pub(super) fn of_server() -> Self {
        Self { left: 0, ..Self::of_client() }
    }

    /// The number of bytes to the end of the header or payload that it is in.
    pub(super) fn to_boundary(&self) -> usize {
        if self.left > 0 { self.left } else { HEADER - self.filled }
    }

    /// Moves on by the bytes up to the next complete header, which it returns, and takes them away; or by all.
    pub(super) fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        while !bytes.is_empty() {
            let (passed, rest) = bytes.split_at(self.to_boundary().min(bytes.len()));
            *bytes = rest;
            if self.left > 0 {
                self.left -= passed.len();
                continue;
            }
            self.header[self.filled..self.filled + passed.len()].copy_from_slice(passed);
            self.filled += passed.len();
            if self.filled == HEADER {
                self.filled = 0;
                return Some(self.read_header());
            }
        }
        None
    }

    fn read_header(&mut self) -> Frame {
        let [a, b, c, kind, flags, stream @ ..] = self.header;
        self.left = u32::from_be_bytes([0, a, b, c]) as usize;
        let kind = match kind {
            0 => FrameKind::Data,
            1 => FrameKind::Headers,
            3 => FrameKind::Reset,
            9 => FrameKind::Continuation,
            _ => FrameKind::Control,
        };
        let is_last = match kind {
            FrameKind::Data | FrameKind::Headers => flags & END_STREAM != 0,
            FrameKind::Reset => true,
            FrameKind::Continuation | FrameKind::Control => false,
        };
        Frame { kind, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1), is_last }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame as it is sent.
    pub(in crate::api::transport) fn frame(kind: u8, flags: u8, stream: u32, payload: usize) -> Vec<u8> {
        let length = u32::try_from(payload).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), &vec![0xff; payload]].concat()
    }

    fn all(cursor: &mut FrameCursor, mut bytes: &[u8]) -> Vec<Frame> {
        std::iter::from_fn(|| cursor.next(&mut bytes)).collect()
    }

    #[test]
    fn frames_are_found_behind_the_preface_with_their_stream_and_whether_they_end_it() {
        let bytes = [
            vec![b'P'; 24],
            frame(4, 1, 0, 12),
            frame(1, 4, 1, 40),
            frame(9, 1, 1, 0),
            frame(0, 1, 1, 7),
            frame(1, 5, 3 | 1 << 31, 3),
            frame(3, 0, 3, 4),
            frame(200, 0xff, 5, 1),
        ];
        let found = all(&mut FrameCursor::of_client(), &bytes.concat());
        let found: Vec<_> = found.iter().map(|frame| (frame.kind, frame.stream, frame.is_last)).collect();
        let expected = [
            (FrameKind::Control, 0, false),
            (FrameKind::Headers, 1, false),
            (FrameKind::Continuation, 1, false),
            (FrameKind::Data, 1, true),
            (FrameKind::Headers, 3, true),
            (FrameKind::Reset, 3, true),
            (FrameKind::Control, 5, false),
        ];
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn what_is_found_does_not_depend_on_the_pieces(
            frames in prop::collection::vec((0_u8..12, any::<u8>(), 0_u32..9, 0_usize..40), 1..9),
            cuts in prop::collection::vec(1_usize..30, 1..9),
        ) {
            let bytes: Vec<_> = frames.iter().flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, *payload)).collect();
            let whole = all(&mut FrameCursor::of_server(), &bytes);
            prop_assert_eq!(whole.len(), frames.len());
            let (mut cursor, mut found, mut rest, mut cuts) = (FrameCursor::of_server(), Vec::new(), &bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                // Never over a boundary, as a connection reads that must not read on.
                let (piece, behind) = rest.split_at((*cuts.next().unwrap()).min(cursor.to_boundary()).min(rest.len()));
                found.extend(all(&mut cursor, piece));
                rest = behind;
            }
            prop_assert_eq!(found, whole);
        }
    }
}
