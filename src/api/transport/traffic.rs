//! What passes over a connection, and how much of it may, by its frames.
//!
//! A connection on which no call was authorized yet gets little:
//!
//! - A new call passes when at most [`MAX_BACKLOG`] calls are between their beginning and a service, or answered and
//!   not taken, and not more often than [`UNPROVEN_CALLS`] says. Others are left unread, since a client with
//!   credentials may begin many calls at once: the first one that is authorized lets the rest pass.
//! - The body of a call passes once a service has the call, or has refused it.
//! - Its other frames are counted ([`UNPROVEN_FRAMES`]), and too many of them end the connection.
//!
//! Afterwards only frames that belong to no call are counted ([`PROVEN_FRAMES`]). Calls pay for them, since their
//! windows and pings come with them.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::{
    allowance::{Allowance, Rate},
    calls::{OpenStreams, ServedCalls},
    frames::{FrameCursor, FrameKind},
};

const MAX_BACKLOG: usize = 8;
/// Enough for a health check that asks several times a second.
const UNPROVEN_CALLS: Rate = Rate { at_once: 32, per_second: 10 };
/// A beginning takes about five frames, a health check three, and a ping one.
const UNPROVEN_FRAMES: Rate = Rate { at_once: 400, per_second: 40 };
const PROVEN_FRAMES: Rate = Rate { at_once: 10_000, per_second: 1_000 };
/// What each frame of a call adds to [`PROVEN_FRAMES`]. A client sends about three for each answer: a window for it,
/// one for the connection, and a ping.
const FRAMES_FOR_ONE_OF_A_CALL: u32 = 8;

/// A connection's frames were more than it may send: see the header of this file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyFrames;

pub(super) struct Traffic {
    inbound: FrameCursor,
    outbound: FrameCursor,
    /// Whether the last frame that was written belongs to a call.
    is_answering: bool,
    streams: OpenStreams,
    served: ServedCalls,
    frames: Allowance,
    /// `None` once a call is authorized.
    gate: Option<Gate>,
    deadline: TakeDeadline,
}

/// Holds back what a connection sends before a call on it is authorized.
struct Gate {
    calls: Allowance,
    /// The frame whose header was read and whose payload may not be yet.
    held: Option<Held>,
    /// Runs until the next call may pass.
    next_call: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Call,
    Body,
}

impl Traffic {
    /// `timeout` is how long answers may wait for a client that takes none.
    pub(super) fn new(served: ServedCalls, timeout: Duration) -> Self {
        let gate = Gate { calls: Allowance::new(UNPROVEN_CALLS), held: None, next_call: None };
        Self {
            inbound: FrameCursor::of_client(),
            outbound: FrameCursor::of_server(),
            is_answering: false,
            streams: OpenStreams::default(),
            served,
            frames: Allowance::new(UNPROVEN_FRAMES),
            gate: Some(gate),
            deadline: TakeDeadline { timeout, has_progressed: false, timer: None },
        }
    }

    /// Lets everything pass from now on: a call is authorized.
    pub(super) fn open(&mut self) {
        if self.gate.take().is_some() {
            self.frames = Allowance::new(PROVEN_FRAMES);
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.gate.is_none()
    }

    /// Resolves to the number of bytes that may be read next; `None` is any number. Woken by the services.
    pub(super) fn poll_read_limit(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        if self.is_held() {
            self.served.await_change(context);
        }
        let backlog = self.backlog();
        let Some(gate) = &mut self.gate else { return Poll::Ready(None) };
        match gate.held {
            Some(Held::Call) if backlog > MAX_BACKLOG => return Poll::Pending,
            Some(Held::Call) => ready!(gate.poll_next_call(context)),
            Some(Held::Body) if backlog > 0 => return Poll::Pending,
            Some(Held::Body) | None => {}
        }
        gate.held = None;
        Poll::Ready(Some(self.inbound.to_boundary()))
    }

    /// Follows what was read.
    pub(super) fn note_read(&mut self, mut bytes: &[u8]) -> Result<(), TooManyFrames> {
        while let Some(frame) = self.inbound.next(&mut bytes) {
            match frame.kind {
                FrameKind::Headers if self.streams.begin(frame.stream) => {
                    self.deadline.has_progressed = true;
                    self.note_frame_of_call(Held::Call)?;
                }
                FrameKind::Data => self.note_frame_of_call(Held::Body)?,
                FrameKind::Reset => {
                    self.streams.end(frame.stream);
                    self.deadline.has_progressed = true;
                    self.take_frame()?;
                }
                FrameKind::Headers | FrameKind::Continuation | FrameKind::Control => self.take_frame()?,
            }
        }
        Ok(())
    }

    fn note_frame_of_call(&mut self, held: Held) -> Result<(), TooManyFrames> {
        match &mut self.gate {
            None => self.frames.give(FRAMES_FOR_ONE_OF_A_CALL),
            Some(gate) => {
                gate.held = Some(held);
                self.take_frame()?;
            }
        }
        Ok(())
    }

    fn take_frame(&mut self) -> Result<(), TooManyFrames> {
        self.frames.take().map_err(|_| TooManyFrames)
    }

    /// Follows what was written.
    pub(super) fn note_written(&mut self, mut bytes: &[u8]) {
        self.deadline.has_progressed |= self.is_answering && !bytes.is_empty();
        while let Some(frame) = self.outbound.next(&mut bytes) {
            self.is_answering = frame.kind != FrameKind::Control;
            self.deadline.has_progressed |= self.is_answering;
            if frame.is_last {
                self.streams.end(frame.stream);
            }
        }
        if self.is_held() {
            self.served.wake();
        }
    }

    /// Resolves when the client has taken nothing for too long of what waits for it. `is_blocked` tells that bytes do.
    pub(super) fn poll_deadline(&mut self, is_blocked: bool, context: &mut Context<'_>) -> Poll<()> {
        let is_waiting = is_blocked || self.backlog() > 0 || self.served.has_untaken();
        self.deadline.poll(is_waiting, context)
    }

    fn is_held(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.held.is_some())
    }

    /// The calls that no service has: not yet, or not any more.
    fn backlog(&self) -> usize {
        self.streams.len().saturating_sub(self.served.under_way())
    }
}

impl Gate {
    fn poll_next_call(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(next_call) = &mut self.next_call {
                ready!(next_call.as_mut().poll(context));
                self.next_call = None;
            }
            match self.calls.take() {
                Ok(()) => return Poll::Ready(()),
                Err(wait) => self.next_call = Some(Box::pin(sleep(wait))),
            }
        }
    }
}

/// Ends once something has waited for the client for the whole time, and the client has taken nothing.
struct TakeDeadline {
    timeout: Duration,
    /// Whether anything was taken since the timer began.
    has_progressed: bool,
    /// Runs since something waits. It is not set back with each progress, which costs too much: when it ends, it
    /// begins anew.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TakeDeadline {
    fn poll(&mut self, is_waiting: bool, context: &mut Context<'_>) -> Poll<()> {
        if self.timer.is_none() && is_waiting {
            self.has_progressed = false;
            self.timer = Some(Box::pin(sleep(self.timeout)));
        }
        let Some(timer) = &mut self.timer else { return Poll::Pending };
        while timer.as_mut().poll(context).is_ready() {
            if !is_waiting {
                self.timer = None;
                return Poll::Pending;
            }
            if !std::mem::take(&mut self.has_progressed) {
                return Poll::Ready(());
            }
            timer.as_mut().reset(Instant::now() + self.timeout);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::advance;

    use super::{super::frames::tests::frame, *};

    const TIMEOUT: Duration = Duration::from_mins(1);
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const PRIORITY: u8 = 2;
    const RESET: u8 = 3;

    struct Peers {
        traffic: Traffic,
        served: ServedCalls,
        next_stream: u32,
    }

    impl Peers {
        fn new() -> Self {
            let served = ServedCalls::default();
            let mut traffic = Traffic::new(served.clone(), TIMEOUT);
            traffic.note_read(&[0; 24]).unwrap();
            Self { traffic, served, next_stream: 1 }
        }

        /// The client sends a frame. Returns whether it passes; if not, its header was read.
        fn send(&mut self, kind: u8, stream: u32) -> bool {
            let bytes = frame(kind, 4, stream, 10);
            self.traffic.note_read(&bytes[..9]).unwrap();
            let passes = self.passes();
            if passes {
                self.traffic.note_read(&bytes[9..]).unwrap();
            }
            passes
        }

        fn call(&mut self) -> bool {
            let stream = self.next_stream;
            self.next_stream += 2;
            self.send(HEADERS, stream)
        }

        fn passes(&mut self) -> bool {
            self.traffic.poll_read_limit(&mut Context::from_waker(Waker::noop())).is_ready()
        }

        /// The server answers a call, and the client takes the answer.
        fn answer(&mut self, stream: u32) {
            self.traffic.note_written(&frame(HEADERS, 5, stream, 10));
        }

        fn has_stalled(&mut self, is_blocked: bool) -> bool {
            self.traffic.poll_deadline(is_blocked, &mut Context::from_waker(Waker::noop())).is_ready()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unauthorized_connection_has_eight_calls_between_its_socket_and_the_services() {
        let mut peers = Peers::new();
        let passed = (0..100).take_while(|_| peers.call()).count();
        assert_eq!(passed, 8);
        let first = peers.served.begin();
        assert!(peers.passes(), "a service has one of them");
        peers.traffic.note_read(&[0; 10]).unwrap();
        drop(first);
        assert!(!peers.call(), "it is answered, and the answer is not taken");
        peers.answer(1);
        assert!(!peers.passes(), "there were two too many");
        peers.answer(3);
        assert!(peers.passes());
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_authorized_call_lets_everything_pass() {
        let mut peers = Peers::new();
        while peers.call() {}
        peers.traffic.open();
        let limit = peers.traffic.poll_read_limit(&mut Context::from_waker(Waker::noop()));
        assert_eq!(limit, Poll::Ready(None));
        peers.traffic.note_read(&[0; 10]).unwrap();
        assert!((0..1000).all(|_| peers.call()));
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_of_an_unauthorized_call_passes_once_a_service_has_it() {
        let mut peers = Peers::new();
        assert!(peers.call() && !peers.send(DATA, 1));
        let _call = peers.served.begin();
        assert!(peers.passes());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unauthorized_connection_makes_32_calls_at_once_and_ten_a_second() {
        let (mut peers, mut calls, began) = (Peers::new(), 0, Instant::now());
        while began.elapsed() < Duration::from_secs(10) {
            let stream = peers.next_stream;
            if !peers.call() {
                while !peers.passes() {
                    advance(Duration::from_millis(1)).await;
                }
                peers.traffic.note_read(&[0; 10]).unwrap();
            }
            peers.answer(stream);
            calls += 1;
        }
        assert!((130..=132).contains(&calls), "{calls}");
    }

    /// Frames of a kind until there are too many.
    fn until_too_many(peers: &mut Peers, kind: u8) -> usize {
        (0..1_000_000).take_while(|_| peers.traffic.note_read(&frame(kind, 0, 1, 5)).is_ok()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_end_are_too_many_and_pings_for_a_year_are_not() {
        for kind in [PRIORITY, RESET, 4, 6, 8, 9, 200] {
            assert_eq!(until_too_many(&mut Peers::new(), kind), 400, "type {kind}");
        }
        let mut peers = Peers::new();
        peers.traffic.open();
        assert_eq!(until_too_many(&mut peers, PRIORITY), 10_000);
        for mut peers in [Peers::new(), peers] {
            for _ in 0..100_000 {
                advance(Duration::from_secs(1)).await;
                assert_eq!(peers.traffic.note_read(&frame(6, 1, 0, 8)), Ok(()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_calls_of_a_client_pay_for_the_frames_beside_them() {
        let mut peers = Peers::new();
        peers.traffic.open();
        for _ in 0..100_000 {
            assert!(peers.call());
            for kind in [8, 8, 6, 6] {
                assert_eq!(peers.traffic.note_read(&frame(kind, 0, 0, 8)), Ok(()));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_answer_has_stalled_and_one_that_waits_for_the_agent_has_not() {
        let mut peers = Peers::new();
        peers.traffic.open();
        assert!(peers.call());
        let call = peers.served.begin();
        assert!(!peers.has_stalled(false));
        advance(TIMEOUT * 100).await;
        assert!(!peers.has_stalled(false), "the services have the call");
        drop(call);
        assert!(!peers.has_stalled(false));
        advance(TIMEOUT.saturating_sub(Duration::from_secs(1))).await;
        assert!(!peers.has_stalled(false));
        advance(Duration::from_secs(1)).await;
        assert!(peers.has_stalled(false), "the answer is handed over, and not on the wire");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_some_of_its_answers_has_not_stalled() {
        let mut peers = Peers::new();
        peers.traffic.open();
        assert!(peers.call() && peers.call());
        for _ in 0..10 {
            assert!(!peers.has_stalled(false));
            advance(TIMEOUT / 2).await;
            // A part of a long answer.
            peers.traffic.note_written(&frame(DATA, 0, 1, 1000));
        }
        for _ in 0..10 {
            assert!(!peers.has_stalled(false));
            advance(TIMEOUT / 2).await;
            peers.answer(3);
        }
        assert!(!peers.has_stalled(false));
        peers.traffic.note_written(&frame(6, 1, 0, 8));
        advance(TIMEOUT * 2).await;
        peers.traffic.note_written(&frame(6, 1, 0, 8));
        assert!(!peers.has_stalled(false), "something was taken in the time before");
        advance(TIMEOUT).await;
        peers.traffic.note_written(&frame(6, 1, 0, 8));
        assert!(peers.has_stalled(false), "an answered ping is no answer of a call");
    }

    proptest::proptest! {
        #[test]
        fn whatever_an_unauthorized_connection_sends_it_has_few_calls_that_no_service_has(
            bytes in proptest::collection::vec(0_u8..12, 0..4000), answers in proptest::collection::vec(0_u8..12, 0..400)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let _entered = runtime.enter();
            let mut peers = Peers::new();
            let mut rest = &bytes[..];
            let mut answers = answers.chunks(9);
            while !rest.is_empty() {
                let limit = peers.traffic.poll_read_limit(&mut Context::from_waker(Waker::noop()));
                let Poll::Ready(Some(limit)) = limit else { break };
                let (read, behind) = rest.split_at(limit.min(rest.len()));
                rest = behind;
                if peers.traffic.note_read(read).is_err() {
                    break;
                }
                peers.traffic.note_written(answers.next().unwrap_or_default());
                proptest::prop_assert!(peers.traffic.backlog() <= MAX_BACKLOG + 1);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_takes_nothing_has_stalled() {
        let mut peers = Peers::new();
        assert!(!peers.has_stalled(true));
        advance(TIMEOUT).await;
        assert!(peers.has_stalled(true));
    }
}
