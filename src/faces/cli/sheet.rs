//! Records as rows of a spreadsheet: CSV as in RFC 4180.

use csv::{Terminator, Writer, WriterBuilder};
use serde::Serialize;

use super::{exit::Failure, ledger::RecordJson};

/// New columns go to the end, so that those who count columns are not misled. `docs/finance.md` explains each.
pub(super) const COLUMNS: [&str; 25] = [
    "id",
    "product",
    "customer",
    "account_id",
    "license_arn",
    "customer_identifier",
    "dimension",
    "hour",
    "timestamp",
    "quantity",
    "state",
    "receipt",
    "presumed",
    "reason",
    "attempts",
    "settled",
    "deadline",
    "usage",
    "carried_in",
    "rounded",
    "billed",
    "carried_out",
    "origins",
    "allocations",
    "decisions",
];

/// Rows that have not been written out yet.
pub(super) struct Sheet(Writer<Vec<u8>>);

impl Sheet {
    pub(super) fn new() -> Self {
        Self(WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new()))
    }

    pub(super) fn header(&mut self) -> Result<(), Failure> {
        self.write(&COLUMNS.map(str::to_owned))
    }

    pub(super) fn row(&mut self, record: RecordJson) -> Result<(), Failure> {
        let cells = cells(record)?;
        self.write(&cells)
    }

    fn write(&mut self, cells: &[String; COLUMNS.len()]) -> Result<(), Failure> {
        Ok(self.0.write_record(cells).map_err(std::io::Error::from)?)
    }

    /// What was written so far. The sheet is used up.
    pub(super) fn into_text(self) -> String {
        // Writing into memory does not fail, and every cell is text.
        String::from_utf8(self.0.into_inner().unwrap_or_default()).unwrap_or_default()
    }
}

fn cells(record: RecordJson) -> Result<[String; COLUMNS.len()], Failure> {
    Ok([
        record.id.to_string(),
        guarded(record.product),
        guarded(record.customer),
        guarded(record.account_id.unwrap_or_default()),
        guarded(record.license_arn.unwrap_or_default()),
        guarded(record.customer_identifier.unwrap_or_default()),
        guarded(record.dimension),
        record.hour.unwrap_or_default(),
        record.timestamp.unwrap_or_default(),
        record.quantity,
        record.state,
        guarded(record.receipt.unwrap_or_default()),
        record.presumed.to_string(),
        guarded(record.reason.unwrap_or_default()),
        record.attempts.to_string(),
        record.settled.unwrap_or_default(),
        record.deadline.unwrap_or_default(),
        record.usage,
        record.carried_in,
        record.rounded,
        record.billed,
        record.carried_out,
        list(&record.origins)?,
        list(&record.allocations)?,
        list(&record.decisions)?,
    ])
}

/// A list as JSON in one cell. It begins with a bracket, so it is no formula.
fn list(items: &[impl Serialize]) -> Result<String, Failure> {
    if items.is_empty() {
        return Ok(String::new());
    }
    Ok(serde_json::to_string(items).map_err(std::io::Error::from)?)
}

/// Text of others, with an apostrophe in front where a spreadsheet would take it for a formula. Text that begins with an
/// apostrophe gets one, too, so that to take one away always gives the original.
fn guarded(text: String) -> String {
    if text.starts_with(RISKY) { format!("'{text}") } else { text }
}

/// What formulas begin with, also in the wide letters that some spreadsheets take for them, and what is skipped
/// before one.
const RISKY: [char; 12] = ['=', '+', '-', '@', '\t', '\r', '\n', '\'', '＝', '＋', '－', '＠'];

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{super::tests::accepted, *};
    use crate::base::proto::{
        Allocation, DecisionNote, LedgerRecord, RecordState, decide_held_request::Decision,
    };

    fn sheet(records: Vec<LedgerRecord>) -> String {
        let mut sheet = Sheet::new();
        sheet.header().unwrap();
        for record in records {
            sheet.row(record.into()).unwrap();
        }
        sheet.into_text()
    }

    /// The cells of the only record, by column, as a CSV reader has them.
    fn read_back(record: LedgerRecord) -> HashMap<String, String> {
        let text = sheet(vec![record]);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<HashMap<String, String>> = reader.deserialize().collect::<Result<_, _>>().unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        row.clone()
    }

    #[test]
    fn a_record_is_a_row_with_stable_columns() {
        let expected = "id,product,customer,account_id,license_arn,customer_identifier,dimension,hour,timestamp,\
                        quantity,state,receipt,presumed,reason,attempts,settled,deadline,usage,carried_in,rounded,\
                        billed,carried_out,origins,allocations,decisions\r\n\
                        7,prod,acme,012345678901,,,gb_out,2026-11-22T08:00:00Z,2026-11-22T08:00:00Z,1.234,accepted,\
                        receipt-7,false,,1,2026-11-22T09:06:00Z,2026-11-23T08:00:00Z,1234567890,0,0,1234000000,567890,\
                        \"[{\"\"hour\"\":\"\"2026-11-22T07:00:00Z\"\",\"\"amount\"\":\"\"3\"\"}]\",,\r\n";
        assert_eq!(sheet(vec![accepted()]), expected);
    }

    #[test]
    fn what_a_person_decided_and_how_it_is_split_stand_in_one_cell_each() {
        let decision = DecisionNote {
            decision: Decision::WriteOff.into(),
            reason: "=cmd, \"quoted\"\nand more".to_owned(),
            decided_by: "ann".to_owned(),
            decided_unix_seconds: accepted().hour_unix_seconds,
            held_for: "refused".to_owned(),
        };
        let tags = [("team".to_owned(), "red".to_owned())].into();
        let part = Allocation { tags, quantity: "1.5".to_owned() };
        let row = read_back(LedgerRecord {
            state: RecordState::WrittenOff.into(),
            rounded: "-3".to_owned(),
            decisions: vec![decision],
            allocations: vec![part],
            ..accepted()
        });
        let decisions: serde_json::Value = serde_json::from_str(&row["decisions"]).unwrap();
        let expected = serde_json::json!([{
            "decision": "write_off", "reason": "=cmd, \"quoted\"\nand more", "by": "ann",
            "at": "2026-11-22T08:00:00Z", "held_for": "refused",
        }]);
        assert_eq!(decisions, expected);
        assert_eq!(row["allocations"], r#"[{"tags":{"team":"red"},"quantity":"1.5"}]"#);
        assert_eq!(row["rounded"], "-3", "a number of ours is no formula");
    }

    #[test]
    fn text_of_others_never_begins_as_a_formula() {
        for risky in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1", "＝1"] {
            let record = LedgerRecord {
                customer: risky.to_owned(),
                customer_identifier: risky.to_owned(),
                dimension: risky.to_owned(),
                receipt: risky.to_owned(),
                reason: risky.to_owned(),
                ..accepted()
            };
            let row = read_back(record);
            for column in ["customer", "customer_identifier", "dimension", "receipt", "reason"] {
                assert_eq!(row[column], format!("'{risky}"), "{column}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_reads_back_and_can_be_told_from_a_guarded_one(customer: String, reason in "[=+@',\"\r\n;a -]{0,8}") {
            let row = read_back(LedgerRecord { customer: customer.clone(), reason: reason.clone(), ..accepted() });
            for (column, original) in [("customer", customer), ("reason", reason)] {
                let shown = &row[column];
                prop_assert!(!shown.starts_with(['=', '+', '-', '@', '\t', '\r']), "{:?}", shown);
                prop_assert_eq!(shown.strip_prefix('\'').unwrap_or(shown), original);
            }
        }
    }
}
