//! Audits the journal: against itself, and against the rows that its lines are about (I2, I5).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Audit, AuditError, cursor::Cursor};
use crate::{
    domain::{
        billing::{
            adjustment::Adjustment,
            journal::{Digest, JournalEvent, JournalLine, ShortDigest},
            record::{RecordId, Settled},
        },
        invariants::{self, Fault, Invariant, Location},
        time::Timestamp,
    },
    engine::moves,
    store::{
        Encoded, ReadTable, Rows, StoreError, Table, TableId,
        journal::{hash_of_line, hash_of_row},
        tables::{
            adjustments::{AdjustmentIds, Adjustments},
            decisions::Decisions,
            journal::{JournalEnd, JournalHead, JournalLines},
            moves::AllowedMoves,
            records::Records,
            settled::{Held, Receipts},
        },
    },
};

/// What the journal says, as far as the other tables are held against it.
#[derive(Default)]
pub(super) struct JournalFindings {
    head: JournalHead,
    /// What was settled or decided before has lost its line for its age, or never had one.
    kept_since: Timestamp,
    /// Records whose row is that of a line.
    confirmed: RecordSet,
    /// Records with a line whose row is another one by now: they must be under way, or have a later line.
    superseded: BTreeSet<RecordId>,
    resumed: HashSet<RecordId>,
    decided: HashMap<(RecordId, u32), Digest>,
    moves: HashMap<u64, Digest>,
    adjusted: HashMap<u64, Digest>,
}

impl JournalFindings {
    pub(super) fn dropped_through(&self) -> RecordId {
        self.head.dropped_through
    }

    /// Whether a settled record's row has its line, or had it once.
    pub(super) fn confirms(&self, settled: &Settled) -> bool {
        self.confirmed.contains(settled.record.id)
            || self.superseded.contains(&settled.record.id)
            || settled.at < self.kept_since
            || settled.record.id <= self.head.dropped_through
    }
}

impl Audit<'_> {
    /// Follows the chain, and looks up what its lines are about.
    pub(super) fn journal(&mut self) -> Result<JournalFindings, AuditError> {
        let head = self.rows.find(JournalEnd, ())?.unwrap_or_default();
        let mut journal = JournalFindings { head, kept_since: Timestamp::MIN, ..JournalFindings::default() };
        let mut lines = Cursor::new(self.rows, TableId::Journal);
        let mut expected = head.first_line.max(1);
        let mut noted = self.known.noted;
        let mut previous = (expected == 1).then(Digest::default);
        while let Some((key, value)) = lines.next()? {
            self.count_row()?;
            let number = JournalLines::decode_key(&key).unwrap_or_default();
            if number != expected {
                self.note([broken(expected, "lines of the journal are gone")]);
                previous = None;
            }
            match JournalLines::decode(&value) {
                Ok(line) => {
                    if previous.is_some_and(|previous| previous != line.previous) {
                        let before = number.saturating_sub(1);
                        self.note([broken(before, "a line of the journal is not what it was")]);
                    }
                    self.follow(&line, &mut journal)?;
                }
                Err(fault) => self.note([broken(number, &fault.to_string())]),
            }
            let hash = hash_of_line(number, &value);
            noted = noted.filter(|noted| *noted != (number, hash));
            previous = Some(hash);
            expected = number.saturating_add(1);
        }
        let last = expected.saturating_sub(1);
        if last != head.lines {
            self.note([broken(head.lines, &format!("the journal ends at line {last}"))]);
        } else if previous.is_some_and(|previous| previous != head.last) {
            self.note([broken(last, "the journal's last line is not what it was")]);
        }
        if let Some((line, _)) = noted {
            let is_dropped = line < head.first_line;
            let what = if is_dropped {
                "it was noted down, and has been dropped for its age: note a later one"
            } else {
                "it is not there with the hash that was noted down"
            };
            self.note([broken(line, what)]);
        }
        self.report.lines = head.lines;
        self.report.last_line = head.last;
        self.check_superseded(&mut journal)?;
        Ok(journal)
    }

    fn follow(&mut self, line: &JournalLine, journal: &mut JournalFindings) -> Result<(), StoreError> {
        match &line.entry {
            JournalEvent::Settled { record, row } => {
                let key = Receipts::encode_key(*record);
                let is_row = |value: Option<Vec<u8>>| value.is_some_and(|value| hash_of_row(&value) == *row);
                if is_row(self.rows.get(TableId::Receipts, &key)?)
                    || is_row(self.rows.get(TableId::Held, &key)?)
                {
                    journal.confirmed.insert(*record);
                    journal.superseded.remove(record);
                } else {
                    journal.superseded.insert(*record);
                }
                journal.resumed.remove(record);
            }
            JournalEvent::Resumed { record } => {
                journal.resumed.insert(*record);
            }
            JournalEvent::Decided { record, number, row } => {
                journal.decided.insert((*record, *number), *row);
            }
            JournalEvent::MoveAllowed { number, row } => {
                journal.moves.insert(*number, *row);
            }
            JournalEvent::Adjusted { number, row } => {
                journal.adjusted.insert(*number, *row);
            }
            JournalEvent::Dropped { before, .. } => journal.kept_since = journal.kept_since.max(*before),
            JournalEvent::Opened { .. } => journal.kept_since = journal.kept_since.max(line.at),
            JournalEvent::Sealed { .. } => {}
        }
        Ok(())
    }

    /// A record whose last line is not of its row is under way again, or someone was at the row.
    fn check_superseded(&mut self, journal: &mut JournalFindings) -> Result<(), AuditError> {
        for id in std::mem::take(&mut journal.superseded) {
            let is_under_way = journal.resumed.contains(&id) && self.rows.has(Records, id)?;
            if is_under_way {
                continue;
            }
            if let Some(place) = self.place_of_settled(id)? {
                self.note([altered(place, "a settled record is not what its line in the journal says")]);
                journal.superseded.insert(id);
            } else if id > journal.head.dropped_through {
                self.note([Fault {
                    invariant: Invariant::OnlyKnownExits,
                    place: Location::number(id),
                    amount: 0,
                    what: "a settled record has a line in the journal, and is gone".to_owned(),
                }]);
            }
        }
        Ok(())
    }

    fn place_of_settled(&self, id: RecordId) -> Result<Option<Location>, StoreError> {
        let key = Receipts::encode_key(id);
        let found = match self.rows.get(TableId::Receipts, &key)? {
            None => self.rows.get(TableId::Held, &key)?,
            found => found,
        };
        Ok(found.map(|value| {
            let settled = Held::decode(&value);
            settled.map_or_else(|_| Location::number(id), |settled| Location::from(&settled.record))
        }))
    }

    /// Persons' decisions against their lines.
    pub(super) fn decisions(&mut self, journal: &JournalFindings) -> Result<(), AuditError> {
        let mut rows = Cursor::new(self.rows, TableId::Decisions);
        let mut found = HashSet::new();
        while let Some((key, value)) = rows.next()? {
            self.count_row()?;
            self.report.decisions += 1;
            let Ok((id, number)) = Decisions::decode_key(&key) else {
                self.note([altered(Location::default(), "a decision's key makes no sense")]);
                continue;
            };
            found.insert((id, number));
            match (Decisions::decode(&value), journal.decided.get(&(id, number))) {
                (Err(fault), _) => self.note_unreadable(Location::number(id), &fault),
                (Ok(_), Some(line)) if *line == hash_of_row(&value) => {}
                (Ok(decided), None) if decided.decision.at < journal.kept_since => {}
                (Ok(_), _) => {
                    self.note([altered(
                        Location::number(id),
                        "a decision is not what its line in the journal says",
                    )]);
                }
            }
        }
        let missing = journal.decided.keys().filter(|decision| !found.contains(decision));
        let missing: BTreeSet<RecordId> = missing.map(|(id, _)| *id).collect();
        self.note(missing.into_iter().map(|id| altered(Location::number(id), "a decision is gone")));
        self.moves(journal)
    }

    /// The moves that persons have allowed, against their lines.
    fn moves(&mut self, journal: &JournalFindings) -> Result<(), AuditError> {
        let mut missing = journal.moves.clone();
        for (number, allowed) in moves::all(self.rows)? {
            self.count_row()?;
            self.report.decisions += 1;
            let is_its_line = match missing.remove(&number) {
                Some(line) => line == hash_of_row(Encoded::<AllowedMoves>::of(&allowed).bytes()),
                None => allowed.at < journal.kept_since,
            };
            if !is_its_line {
                self.note([altered_move(number, "is not what its line in the journal says")]);
            }
        }
        self.note(missing.into_keys().map(|number| altered_move(number, "is gone")));
        Ok(())
    }
}

impl Audit<'_> {
    /// What persons have taken from open hours, against its lines and against itself.
    pub(super) fn adjustments(&mut self, journal: &JournalFindings) -> Result<(), AuditError> {
        let mut numbers = 0;
        let mut rows = Cursor::new(self.rows, TableId::Meta).starting_at(Adjustments::PREFIX.as_bytes());
        while let Some((key, value)) = rows.next()? {
            if !key.starts_with(Adjustments::PREFIX.as_bytes()) {
                break;
            }
            self.count_row()?;
            self.report.decisions += 1;
            let number = Adjustments::decode_key(&key).unwrap_or_default();
            numbers += 1;
            if number != numbers {
                self.note([altered(Location::default(), &format!("adjustment {numbers} is gone"))]);
                numbers = number;
            }
            match Adjustments::decode(&value) {
                Ok(adjustment) => {
                    self.note(invariants::adjustment(&adjustment));
                    let line = journal.adjusted.get(&number);
                    let is_old = line.is_none() && adjustment.at < journal.kept_since;
                    if !is_old && line != Some(&hash_of_row(&value)) {
                        let what = "an adjustment is not what its line in the journal says";
                        self.note([altered(place_of(&adjustment), what)]);
                    }
                    if self.rows.find(AdjustmentIds, &adjustment.id)? != Some(number) {
                        self.note([altered(place_of(&adjustment), "an adjustment is not found by its id")]);
                    }
                }
                Err(fault) => self.note_unreadable(Location::default(), &fault),
            }
        }
        let gone = journal.adjusted.keys().filter(|number| **number > numbers).min();
        self.note(gone.map(|number| altered(Location::default(), &format!("adjustment {number} is gone"))));
        Ok(())
    }
}

fn place_of(adjustment: &Adjustment) -> Location {
    Location::series(&adjustment.product, &adjustment.customer, &adjustment.dimension)
}

fn broken(line: u64, what: &str) -> Fault {
    altered(Location::default(), &format!("journal line {line}: {what}"))
}

fn altered_move(number: u64, what: &str) -> Fault {
    altered(Location::default(), &format!("allowed move {number} {what}"))
}

fn altered(place: Location, what: &str) -> Fault {
    Fault { invariant: Invariant::Frozen, place, amount: 0, what: what.to_owned() }
}

/// The rows of records as they were sealed, in the order of their numbers.
pub(super) struct SealedRows<'a> {
    lines: Cursor<'a>,
    first: u64,
    rows: std::vec::IntoIter<ShortDigest>,
    /// The number of the first record whose seal has a line.
    pub(super) begins: Option<RecordId>,
}

impl<'a> SealedRows<'a> {
    pub(super) fn new(rows: &'a dyn Rows) -> Self {
        let lines = Cursor::new(rows, TableId::Journal);
        Self { lines, first: 0, rows: Vec::new().into_iter(), begins: None }
    }

    /// The hash of a record's row as it was sealed. To be asked in the order of the numbers.
    pub(super) fn of(&mut self, id: RecordId) -> Result<Option<ShortDigest>, StoreError> {
        loop {
            if self.rows.len() == 0 && !self.next_seal()? {
                return Ok(None);
            }
            if self.first > id.0 {
                return Ok(None);
            }
            let (number, digest) = (self.first, self.rows.next());
            self.first = self.first.saturating_add(1);
            if number == id.0 {
                return Ok(digest);
            }
        }
    }

    fn next_seal(&mut self) -> Result<bool, StoreError> {
        while let Some((_, value)) = self.lines.next()? {
            // One that cannot be read was told of when the chain was followed.
            let Ok(JournalLine { entry: JournalEvent::Sealed { first, rows }, .. }) =
                JournalLines::decode(&value)
            else {
                continue;
            };
            self.begins.get_or_insert(first);
            self.first = first.0;
            self.rows = rows.into_iter();
            return Ok(true);
        }
        Ok(false)
    }
}

/// A set of record numbers, in a bit each.
#[derive(Default)]
struct RecordSet(BTreeMap<u64, u64>);

impl RecordSet {
    fn insert(&mut self, id: RecordId) {
        *self.0.entry(id.0 / 64).or_default() |= 1 << (id.0 % 64);
    }

    fn contains(&self, id: RecordId) -> bool {
        self.0.get(&(id.0 / 64)).is_some_and(|bits| bits & (1 << (id.0 % 64)) != 0)
    }
}
