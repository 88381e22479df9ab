//! Whether a product may go to another region or endpoint than before.

use std::path::Path;

use tracing::{info, warn};

use super::has_open_usage;
use crate::{
    base::config::Connection,
    domain::{
        billing::record::RecordId,
        destination::{AllowedMove, Destination, Stake, Unbilled},
        product::Product,
        time::Timestamp,
    },
    engine::{
        billing::doubtful_records, moves, open_error::OpenError, state::EngineState, write_txn::WriteTxn,
    },
    store::{
        Batch, ReadTable, Rows, Store, StoreError,
        tables::{meta::DestinationRows, moves::PendingMoves, records::Records, settled::Held},
    },
};

/// A product of the configuration, and how it is reached.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) product: &'a Product,
    pub(super) connection: &'a Connection,
    pub(super) data_dir: &'a Path,
}

/// Notes where the product goes. Returns the change that a person has allowed, if only that lets it go there.
pub(super) fn check(
    store: &dyn Store,
    place: Place<'_>,
    batch: &mut Batch,
) -> Result<Option<AllowedChange>, OpenError> {
    let (code, to) = (&place.product.code, place.connection.destination());
    let Some(before) = store.find(DestinationRows, code)? else {
        note(code, &to, batch);
        return Ok(None);
    };
    let from = Destination::parse(&before);
    if from == to {
        return Ok(None);
    }
    let doubtful = doubtful_records(store, code)?;
    let unbilled = Unbilled { doubtful: doubtful.len() as u64, is_any: is_any_unbilled(store, code)? };
    let Some(stake) = from.stake_of_change(&to, unbilled) else {
        info!(
            product = &**code,
            before = from.name(),
            now = to.name(),
            "the product goes to another destination"
        );
        note(code, &to, batch);
        return Ok(None);
    };
    let is_this = |allowed: &AllowedMove| {
        Destination::parse(&allowed.from) == from && Destination::parse(&allowed.to) == to
    };
    match moves::pending(store, code)?.filter(is_this) {
        Some(allowed) => Ok(Some(AllowedChange { allowed, to, doubtful })),
        None => Err(refusal(place, &from, &to, stake)),
    }
}

/// Any change uses up what was allowed before: it was said of another one.
fn note(product: &str, to: &Destination, batch: &mut Batch) {
    batch.put(DestinationRows, product, &to.name().to_owned());
    batch.delete(PendingMoves, product);
}

fn is_any_unbilled(store: &dyn Rows, product: &str) -> Result<bool, StoreError> {
    let mut is_any = Records::by_product(store)?.contains_key(product);
    store.each(Held, |_, held| {
        is_any |= *held.record.product == *product;
        Ok(())
    })?;
    Ok(is_any || has_open_usage(store, product, |_| true)?)
}

fn refusal(place: Place<'_>, from: &Destination, to: &Destination, stake: Stake) -> OpenError {
    let Place { product, connection, data_dir } = place;
    let (product, before, now) = (product.code.to_string(), from.name().to_owned(), to.name().to_owned());
    let named = connection.endpoint_url.as_ref().unwrap_or(&connection.region);
    let command = format!(
        "tallyman moves allow {product} --to {named} --reason TEXT --by NAME --data-dir {}",
        data_dir.display()
    );
    match stake {
        Stake::BilledTwice { records } => OpenError::Moved { product, before, now, records, command },
        Stake::TestBilled => OpenError::OnlyATest { product, before, now, command },
        Stake::NeverBilled => OpenError::NeverBilled { product, before, now, command },
    }
}

/// A change that a person has allowed.
#[derive(Debug)]
pub(crate) struct AllowedChange {
    allowed: AllowedMove,
    to: Destination,
    /// The records that may have been billed at the old destination.
    doubtful: Vec<RecordId>,
}

/// Records that are held in one write.
const PAGE: usize = 500;

impl AllowedChange {
    /// Holds what may have been billed before, and notes the new destination last: nothing may be sent until then, and a
    /// process that dies on the way leaves the change to the next one.
    pub(crate) fn make(
        &self,
        state: &mut EngineState,
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let AllowedMove { product, from, to, by, .. } = &self.allowed;
        for page in self.doubtful.chunks(PAGE) {
            write(state, store, now, |state, txn| {
                state.billing.hold_doubtful(page, from, &mut state.counting, txn)
            })?;
        }
        write(state, store, now, |_, txn| {
            note(product, &self.to, txn.batch);
            Ok(())
        })?;
        let held = self.doubtful.len();
        warn!(
            product = &**product,
            before = &**from,
            now = &**to,
            by = &**by,
            held,
            "a person's move is made"
        );
        Ok(())
    }
}

fn write(
    state: &mut EngineState,
    store: &dyn Store,
    now: Timestamp,
    work: impl FnOnce(&mut EngineState, &mut WriteTxn<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    // At a start AWS may not have told the time yet.
    work(state, &mut WriteTxn { store, now, is_clock_doubted: true, batch: &mut batch })?;
    state.flush(store, &mut batch)?;
    store.commit(batch)?;
    state.written();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{super::tests::start, *};
    use crate::{
        domain::{
            billing::record::{Delivery, HoldReason, MissedPolicy, Outcome, Record},
            time::Hour,
        },
        engine::{
            billing::Settlement,
            moves::{MoveError, MoveOrder, allow_in_folder},
        },
        store::MemoryStore,
        testing::{harness::Harness, sample},
    };

    const ACCOUNTS: [&str; 3] = ["000000000001", "000000000002", "000000000003"];

    fn region(region: &str) -> String {
        format!("identity = \"account\"\nregion = \"{region}\"\n{DIMENSIONS}")
    }

    fn endpoint(url: &str) -> String {
        format!("identity = \"account\"\nendpoint_url = \"{url}\"\n{DIMENSIONS}")
    }

    const DIMENSIONS: &str = "dimension = [{ name = \"requests\" }, { name = \"gb_out\" }]";

    /// Three customers' records, sealed in a folder of us-east-1, none of them tried.
    fn sealed() -> Harness {
        let mut harness = Harness::new(MissedPolicy::RollForward);
        start(&harness.store, &region("us-east-1")).unwrap();
        for account in ACCOUNTS {
            harness.count(sample::entry(account, 0, Hour::containing(harness.now), 7));
        }
        harness.pass(Duration::from_mins(40));
        harness.seal_all();
        harness
    }

    fn attempt(harness: &mut Harness, record: &Record, delivery: &Delivery) {
        harness.settle(&Settlement::Pending(record.id, delivery.clone()));
    }

    fn allow(store: &MemoryStore, to: &str) -> Result<AllowedMove, MoveError> {
        let text = |text: &str| -> Arc<str> { text.into() };
        let (product, reason, by) = (text("prod"), text("wrong region"), text("ann"));
        let order = MoveOrder { product, to: text(to), reason, by, client: None };
        allow_in_folder(&order, Timestamp::from_seconds(1_793_620_800), store)
    }

    fn make(harness: &mut Harness, moves: &[AllowedChange]) {
        for change in moves {
            change.make(&mut harness.state, &harness.store, harness.now).unwrap();
        }
        assert_eq!(harness.faults(), Vec::<String>::new());
    }

    #[test]
    fn a_product_moves_freely_while_no_attempt_can_have_been_processed() {
        let mut harness = sealed();
        start(&harness.store, &region("eu-west-1")).unwrap();
        let records = harness.billing("requests");
        // As after a name that did not resolve: surely not processed.
        attempt(&mut harness, &records[0], &Delivery { attempts: 9, ..Delivery::default() });
        assert!(start(&harness.store, &region("us-east-1")).unwrap().moves.is_empty());
        attempt(&mut harness, &records[0], &Delivery::default().attempted());
        let fault = start(&harness.store, &region("eu-west-1")).unwrap_err();
        for words in ["Moved", "us-east-1", "eu-west-1", "records: 1", "moves allow prod --to eu-west-1"] {
            assert!(fault.contains(words), "{words} not in {fault}");
        }
        start(&harness.store, &region("us-east-1")).unwrap();
        harness.accept(&records[0]);
        start(&harness.store, &region("eu-west-1")).unwrap();
    }

    #[test]
    fn by_a_persons_word_a_product_moves_and_what_may_have_been_billed_is_held() {
        let mut harness = sealed();
        let records = harness.billing("requests");
        attempt(&mut harness, &records[1], &Delivery::default().attempted());
        assert!(matches!(allow(&harness.store, "us-east-1"), Err(MoveError::AlreadyThere { .. })));
        allow(&harness.store, "ap-south-1").unwrap();
        assert!(start(&harness.store, &region("eu-west-1")).is_err(), "that was said of another region");
        allow(&harness.store, "eu-west-1").unwrap();
        harness.crash();
        let moves = start(&harness.store, &region("eu-west-1")).unwrap().moves;
        // The process dies before it is made, and the next one makes it.
        harness.crash();
        assert_eq!(start(&harness.store, &region("eu-west-1")).unwrap().moves.len(), moves.len());
        make(&mut harness, &moves);
        let [held] = &harness.held()[..] else { panic!("{:?}", harness.held()) };
        assert_eq!(held.record.id, records[1].id);
        let Outcome::Held { reason, detail } = &held.outcome else { panic!("{held:?}") };
        assert!(*reason == HoldReason::OutcomeUnknown && detail.contains("us-east-1"), "{detail}");
        assert!(start(&harness.store, &region("eu-west-1")).unwrap().moves.is_empty(), "it is made once");
        attempt(&mut harness, &records[0], &Delivery::default().attempted());
        start(&harness.store, &region("us-east-1")).unwrap_err();
        assert_eq!(moves::all(&harness.store).unwrap().len(), 2, "what was said is kept for ever");
    }

    #[test]
    fn usage_goes_from_a_test_to_aws_and_back_by_a_persons_word_alone() {
        let mut harness = Harness::new(MissedPolicy::RollForward);
        start(&harness.store, &endpoint("http://127.0.0.1:7460")).unwrap();
        harness.count(sample::entry(ACCOUNTS[0], 0, Hour::containing(harness.now), 7));
        start(&harness.store, &endpoint("http://localhost:7461")).unwrap();
        let fault = start(&harness.store, &region("us-east-1")).unwrap_err();
        assert!(fault.contains("OnlyATest") && fault.contains("us-east-1"), "{fault}");
        allow(&harness.store, "us-east-1").unwrap();
        harness.crash();
        let moves = start(&harness.store, &region("us-east-1")).unwrap().moves;
        make(&mut harness, &moves);
        let fault = start(&harness.store, &endpoint("http://localstack:4566")).unwrap_err();
        assert!(fault.contains("NeverBilled") && fault.contains("http://localstack:4566"), "{fault}");
        let fips = "https://metering.marketplace-fips.us-east-1.amazonaws.com";
        start(&harness.store, &endpoint(fips)).unwrap();
    }

    #[test]
    fn a_move_is_allowed_of_what_is_billed_from_the_folder() {
        let store = MemoryStore::default();
        assert!(matches!(allow(&store, "eu-west-1"), Err(MoveError::NoJournal)));
        let harness = Harness::new(MissedPolicy::Hold);
        assert!(matches!(allow(&harness.store, "eu-west-1"), Err(MoveError::UnknownProduct { .. })));
    }
}
