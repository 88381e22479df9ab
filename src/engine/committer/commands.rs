//! What the writer can be asked to do, and how each of it is carried out.
//!
//! A command is data, so that it can be printed and made again. Its answer is made when it is applied and sent once the
//! write that holds its changes is on disk.

use std::{collections::BTreeSet, fmt, sync::Arc};

use tokio::sync::{broadcast, oneshot};

use crate::{
    domain::{
        billing::record::{Decision, RecordId, Settled},
        destination::AllowedMove,
        product::ProductIndex,
        time::Timestamp,
    },
    engine::{
        billing::{
            AdjustError, AdjustRequest, Adjusted, Billing, DecideError, PutError, Registration, Resumed,
            SealProgress, Settlement,
        },
        counting::{
            CountError, Counting,
            request::{CountRequest, Counted},
            streams::ProducerStream,
        },
        customers::Customer,
        lifecycle::Lifecycle,
        moves::{MoveError, MoveOrder},
        state::EngineState,
        write_txn::WriteTxn,
    },
    store::StoreError,
};

use super::{Never, SubmitterEvent, announce, fail};

#[derive(Debug)]
pub(super) enum Command {
    /// Counts a request's usage.
    Count(Ask<CountRequest, Counted, CountError>),
    /// Opens a stream, and asks for its producer's last durable sequence.
    OpenStream(Ask<Arc<ProducerStream>, u64, Never>),
    /// Adds customers, or changes those with the same keys; stops at the first that cannot be.
    PutCustomers(Ask<Vec<Registration>, (), PutError>),
    /// Ends a customer's usage.
    CloseCustomer(Ask<Notice, Option<Customer>, Never>),
    /// Carries out a person's decision about held records: for all of them or for none.
    Decide(Ask<(BTreeSet<RecordId>, Decision), Vec<Resumed>, DecideError>),
    /// Writes down that a product may move to another destination.
    AllowMove(Ask<MoveOrder, AllowedMove, MoveError>),
    /// Takes from open hours what a person wants to be gone.
    Adjust(Ask<AdjustRequest, Adjusted, AdjustError>),
    /// Tries held records of customers without a subscription again, if any are due.
    RetrySlowly(Ask<(), Vec<Resumed>, Never>),
    /// Does a step of sealing, as of a moment that is trusted.
    Seal(Ask<Timestamp, SealProgress, Never>),
    /// Does a step of the seal that an earlier process has begun.
    FinishSeal(Ask<(), SealProgress, Never>),
    /// Drops some of what has expired by a moment that is trusted.
    DropExpired(Ask<Timestamp, bool, Never>),
    /// Writes down what became of records.
    Settle(Ask<Vec<Settlement>, Vec<Settled>, Never>),
}

/// AWS's word that a customer's usage ends.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) product: ProductIndex,
    pub(super) key: Arc<str>,
    pub(super) noticed: Timestamp,
}

/// What is asked, and the sender of the answer.
pub(super) struct Ask<Q, T, E> {
    pub(super) question: Q,
    pub(super) reply: oneshot::Sender<Result<T, E>>,
}

impl<Q: fmt::Debug, T, E> fmt::Debug for Ask<Q, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.question.fmt(f)
    }
}

impl<Q, T, E> Ask<Q, T, E> {
    /// Makes the answer, which is to be sent later. An error is the store's, and ends all writing.
    fn answer(
        self,
        lifecycle: &Lifecycle,
        work: impl FnOnce(Q) -> Result<Result<T, E>, StoreError>,
    ) -> Result<Answer<T, E>, StoreError> {
        let Self { question, reply } = self;
        // The lifecycle fails before the sender is dropped, so that whoever asked learns the reason.
        let value = work(question).inspect_err(|fault| fail(lifecycle, fault))?;
        Ok(Answer { value, reply })
    }
}

/// An answer that is ready.
pub(super) struct Answer<T, E> {
    value: Result<T, E>,
    reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E> Answer<T, E> {
    /// Whoever asked may be gone, with its connection: what was asked is done all the same.
    fn send(self) {
        drop(self.reply.send(self.value));
    }
}

/// A command that was applied; to be completed once its changes are on disk.
pub(super) enum Completion {
    Counted(Answer<Counted, CountError>),
    StreamOpened(Answer<u64, Never>),
    /// Whether an identity gave way, and what it used was sealed.
    CustomersPut(bool, Answer<(), PutError>),
    CustomerClosed(ProductIndex, Answer<Option<Customer>, Never>),
    Decided(Answer<Vec<Resumed>, DecideError>),
    MoveAllowed(Answer<AllowedMove, MoveError>),
    Adjusted(Answer<Adjusted, AdjustError>),
    Retried(Answer<Vec<Resumed>, Never>),
    Sealed(Answer<SealProgress, Never>),
    Dropped(Answer<bool, Never>),
    Settled(Answer<Vec<Settled>, Never>),
}

/// `has_sealed` tells whether an identity gave way, and what it used was sealed.
fn put_customers(
    customers: Vec<Registration>,
    (billing, counting): (&mut Billing, &mut Counting),
    txn: &mut WriteTxn<'_>,
    has_sealed: &mut bool,
) -> Result<Result<(), PutError>, StoreError> {
    for customer in customers {
        match billing.put_customer(customer, counting, txn) {
            Ok(registered) => *has_sealed |= registered.has_sealed,
            Err(PutError::Store(fault)) => return Err(fault),
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Ok(Ok(()))
}

/// Carries a command out, in memory and in the batch.
pub(super) fn apply(
    command: Command,
    state: &mut EngineState,
    txn: &mut WriteTxn<'_>,
    lifecycle: &Lifecycle,
) -> Result<Completion, StoreError> {
    let EngineState { counting, billing } = state;
    match command {
        Command::Count(ask) => {
            let count = |request: CountRequest| match state.count(&request, txn) {
                Err(CountError::Store(fault)) => Err(fault),
                counted => Ok(counted),
            };
            ask.answer(lifecycle, count).map(Completion::Counted)
        }
        Command::OpenStream(ask) => ask
            .answer(lifecycle, |stream| Ok(Ok(counting.open_stream(&stream))))
            .map(Completion::StreamOpened),
        Command::PutCustomers(ask) => {
            let mut has_sealed = false;
            let put = |customers| put_customers(customers, (billing, counting), txn, &mut has_sealed);
            let answer = ask.answer(lifecycle, put)?;
            Ok(Completion::CustomersPut(has_sealed, answer))
        }
        Command::CloseCustomer(ask) => {
            let product = ask.question.product;
            ask.answer(lifecycle, |Notice { product, key, noticed }| {
                Ok(Ok(billing.close_customer(product, &key, noticed, txn)))
            })
            .map(|answer| Completion::CustomerClosed(product, answer))
        }
        Command::Decide(ask) => {
            let decide = |(ids, decision)| match billing.decide(&ids, &decision, counting, txn) {
                Err(DecideError::Store(fault)) => Err(fault),
                decided => Ok(decided),
            };
            ask.answer(lifecycle, decide).map(Completion::Decided)
        }
        Command::AllowMove(ask) => {
            let allow = |order| match billing.allow_move(&order, txn) {
                Err(MoveError::Store(fault)) => Err(fault),
                allowed => Ok(allowed),
            };
            ask.answer(lifecycle, allow).map(Completion::MoveAllowed)
        }
        Command::Adjust(ask) => {
            let adjust = |request: AdjustRequest| match billing.adjust(&request, counting, txn) {
                Err(AdjustError::Store(fault)) => Err(fault),
                adjusted => Ok(adjusted),
            };
            ask.answer(lifecycle, adjust).map(Completion::Adjusted)
        }
        Command::RetrySlowly(ask) => {
            ask.answer(lifecycle, |()| billing.retry_slowly(txn).map(Ok)).map(Completion::Retried)
        }
        Command::Seal(ask) => {
            ask.answer(lifecycle, |now| billing.seal_step(now, counting, txn).map(Ok)).map(Completion::Sealed)
        }
        Command::FinishSeal(ask) => ask
            .answer(lifecycle, |()| billing.finish_seal_step(counting, txn).map(Ok))
            .map(Completion::Sealed),
        Command::DropExpired(ask) => {
            ask.answer(lifecycle, |now| Ok(Ok(state.drop_expired(now, txn)))).map(Completion::Dropped)
        }
        Command::Settle(ask) => ask
            .answer(lifecycle, |settlements| {
                let settle = |settlement| billing.settle(settlement, counting, txn).transpose();
                settlements.iter().filter_map(settle).collect::<Result<_, _>>().map(Ok)
            })
            .map(Completion::Settled),
    }
}

impl Completion {
    /// Sends the answer. What submitters must know is told first, should whoever asked have gone away.
    pub(super) fn complete(self, events: &broadcast::Sender<SubmitterEvent>) {
        match self {
            Self::Counted(answer) => answer.send(),
            Self::StreamOpened(answer) => answer.send(),
            Self::CustomersPut(has_sealed, answer) => {
                if has_sealed {
                    announce(events, SubmitterEvent::Sealed);
                }
                answer.send();
            }
            Self::CustomerClosed(product, answer) => {
                if let Ok(Some(customer)) = &answer.value
                    && let Some(deadline) = customer.state.deadline()
                {
                    let customer = customer.key.clone();
                    announce(events, SubmitterEvent::Closing { product, customer, deadline });
                }
                answer.send();
            }
            Self::Decided(answer) => {
                announce_resumed(events, answer.value.as_deref().unwrap_or_default());
                answer.send();
            }
            Self::MoveAllowed(answer) => answer.send(),
            Self::Retried(answer) => {
                announce_resumed(events, answer.value.as_deref().unwrap_or_default());
                answer.send();
            }
            Self::Adjusted(answer) => answer.send(),
            Self::Sealed(answer) => answer.send(),
            Self::Dropped(answer) => answer.send(),
            Self::Settled(answer) => answer.send(),
        }
    }
}

fn announce_resumed(events: &broadcast::Sender<SubmitterEvent>, resumed: &[Resumed]) {
    if !resumed.is_empty() {
        announce(events, SubmitterEvent::Resumed(Arc::new(resumed.to_vec())));
    }
}
