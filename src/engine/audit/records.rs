//! Audits records that are pending, held or settled, by their numbers (I1, I2, I5 to I10).

use super::{
    Audit, AuditError,
    cursor::Cursor,
    journal::{JournalFindings, SealedRows},
};
use crate::{
    domain::{
        billing::record::{Record, Settled},
        invariants::{Fault, Invariant, Location, RecordSequence, Slots, record as check_record, withheld},
    },
    store::{
        Encoded, Pair, StoreError, Table, TableId,
        journal::short_hash,
        key::SeriesKey,
        tables::{
            outstanding::OutstandingRows,
            records::Records,
            sealing::NextRecord,
            settled::{Held, Receipts},
        },
    },
};

/// A record where it is.
enum Found {
    UnderWay(Record),
    Held(Settled),
    InLedger(Settled),
}

impl Found {
    fn record(&self) -> &Record {
        match self {
            Self::UnderWay(record) => record,
            Self::Held(settled) | Self::InLedger(settled) => &settled.record,
        }
    }
}

/// The tables that have records, merged.
struct Merged<'a>([(TableId, Cursor<'a>); 3]);

impl Merged<'_> {
    /// The row with the lowest number.
    fn next(&mut self) -> Result<Option<(TableId, Pair)>, StoreError> {
        let mut lowest: Option<(Box<[u8]>, usize)> = None;
        for (place, (_, cursor)) in self.0.iter_mut().enumerate() {
            if let Some((key, _)) = cursor.peek()?
                && lowest.as_ref().is_none_or(|(lowest, _)| key < lowest)
            {
                lowest = Some((key.clone(), place));
            }
        }
        let Some((_, place)) = lowest else { return Ok(None) };
        let Some((table, cursor)) = self.0.get_mut(place) else { return Ok(None) };
        let table = *table;
        Ok(cursor.next()?.map(|pair| (table, pair)))
    }
}

impl Audit<'_> {
    pub(super) fn records(&mut self, journal: &JournalFindings) -> Result<(), AuditError> {
        let tables = [TableId::Records, TableId::Held, TableId::Receipts];
        let mut merged = Merged(tables.map(|table| (table, Cursor::new(self.rows, table))));
        let mut sealed = SealedRows::new(self.rows);
        let (mut numbers, mut slots) = (RecordSequence::new(journal.dropped_through()), Slots::default());
        while let Some((table, (key, value))) = merged.next()? {
            self.count_row()?;
            self.report.records += 1;
            let place = Location { record: Records::decode_key(&key).ok(), ..Location::default() };
            let found = match read(table, &value) {
                Ok(found) => found,
                Err(fault) => {
                    self.note(place.record.and_then(|id| numbers.next(id)));
                    self.note_unreadable(place, &fault);
                    continue;
                }
            };
            let record = found.record();
            if place.record != Some(record.id) {
                self.note([misplaced(record)]);
            }
            self.note(numbers.next(record.id));
            self.note(slots.next(record));
            self.note(check_record(record));
            self.note(self.watermarks.record(record));
            self.check_seal(record, &mut sealed)?;
            self.balance(&found);
            if let Found::Held(settled) | Found::InLedger(settled) = &found {
                self.note(withheld(settled));
                self.note((!journal.confirms(settled)).then(|| no_line(record)));
            }
        }
        let next_record = NextRecord::read(self.rows)?;
        self.note(numbers.end(next_record));
        Ok(())
    }

    /// What is under way or held is outstanding.
    fn balance(&mut self, found: &Found) {
        let amount = match found {
            Found::UnderWay(record) => record.amounts.billed,
            Found::Held(settled) => settled.amount(),
            Found::InLedger(_) => return,
        };
        let Record { product, customer, dimension, .. } = found.record();
        let series = OutstandingRows::encode_key(SeriesKey { product, customer, dimension });
        self.balances.found(&series, amount);
    }

    fn check_seal(&mut self, record: &Record, sealed: &mut SealedRows<'_>) -> Result<(), StoreError> {
        let is_what_it_was = match sealed.of(record.id)? {
            Some(row) => row == short_hash(Encoded::<Records>::of(record).bytes()),
            // Its line was dropped for its age.
            None => sealed.begins.is_none_or(|first| record.id < first),
        };
        if !is_what_it_was {
            self.note([Fault {
                invariant: Invariant::Frozen,
                place: Location::from(record),
                amount: 0,
                what: "a record is not what was sealed".to_owned(),
            }]);
        }
        Ok(())
    }
}

fn read(table: TableId, value: &[u8]) -> Result<Found, StoreError> {
    match table {
        TableId::Held => Held::decode(value).map(Found::Held),
        TableId::Receipts => Receipts::decode(value).map(Found::InLedger),
        _ => Records::decode(value).map(Found::UnderWay),
    }
}

fn misplaced(record: &Record) -> Fault {
    Fault {
        invariant: Invariant::Frozen,
        place: Location::from(record),
        amount: 0,
        what: "a record is in another one's place".to_owned(),
    }
}

fn no_line(record: &Record) -> Fault {
    Fault {
        invariant: Invariant::Frozen,
        place: Location::from(record),
        amount: 0,
        what: "a settled record has no line in the journal".to_owned(),
    }
}
