//! Records as CSV for spreadsheets, as RFC 4180 has it: a row a record. Text is in quotes, numbers are not.

use std::collections::HashMap;

use serde::Serialize;

use super::{
    adjustment_list::AdjustmentJson,
    exit::Failure,
    record_list::{AdjustmentNoteJson, DecisionJson, RecordJson},
};
use crate::domain::text::{escaped, printable};

/// New columns go to the end, so that those who count columns are not misled. `docs/finance.md` explains each.
pub(super) const COLUMNS: [&str; 29] = [
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
    "kind",
    "withheld",
    "adjusted",
    "adjustments",
];

/// Records written as CSV into memory.
#[derive(Default)]
pub(super) struct RecordCsv(String);

impl RecordCsv {
    pub(super) fn header(&mut self) {
        self.write(&COLUMNS.map(str::to_owned));
    }

    pub(super) fn row(&mut self, record: RecordJson) -> Result<(), Failure> {
        self.write(&cells(record)?);
        Ok(())
    }

    pub(super) fn adjustment(&mut self, adjustment: AdjustmentJson) -> Result<(), Failure> {
        self.write(&adjustment_cells(adjustment)?);
        Ok(())
    }

    fn write(&mut self, cells: &[String; COLUMNS.len()]) {
        self.0.push_str(&cells.join(","));
        self.0.push_str("\r\n");
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

fn cells(record: RecordJson) -> Result<[String; COLUMNS.len()], Failure> {
    Ok([
        record.id.to_string(),
        text(&record.product),
        text(&record.customer),
        optional(record.account_id),
        optional(record.license_arn),
        optional(record.customer_identifier),
        text(&record.dimension),
        optional(record.hour),
        optional(record.timestamp),
        record.quantity,
        text(&record.state),
        optional(record.receipt),
        record.presumed.to_string(),
        optional(record.reason),
        record.attempts.to_string(),
        optional(record.settled),
        optional(record.deadline),
        record.usage,
        record.carried_in,
        record.rounded,
        record.billed,
        record.carried_out,
        list(&record.origins)?,
        list(&record.allocations)?,
        list(&record.decisions)?,
        text(record.kind),
        record.withheld,
        sum(&record.adjustments),
        list(&record.adjustments)?,
    ])
}

/// What persons have taken from the record's hour in all.
fn sum(adjustments: &[AdjustmentNoteJson]) -> String {
    let amounts = adjustments.iter().filter_map(|note| note.amount.parse::<u128>().ok());
    amounts.fold(0, u128::saturating_add).to_string()
}

/// What a person has taken from open hours, in the columns that fit; it has none of a record's amounts.
fn adjustment_cells(adjustment: AdjustmentJson) -> Result<[String; COLUMNS.len()], Failure> {
    let first = adjustment.hours.first().and_then(|hour| hour.hour.clone()).unwrap_or_default();
    let decision = DecisionJson {
        decision: "adjust".to_owned(),
        reason: adjustment.reason.clone(),
        by: adjustment.by,
        client: adjustment.client,
        at: adjustment.at.clone(),
        held_for: String::new(),
    };
    let known = [
        ("id", adjustment.number.to_string()),
        ("product", text(&adjustment.product)),
        ("customer", text(&adjustment.customer)),
        ("dimension", text(&adjustment.dimension)),
        ("hour", text(&first)),
        ("state", text("adjusted")),
        ("reason", text(&adjustment.reason)),
        ("settled", optional(adjustment.at)),
        ("decisions", list(&[decision])?),
        ("kind", text(adjustment.kind)),
        ("adjusted", adjustment.amount),
        ("adjustments", list(&adjustment.hours)?),
    ];
    let mut known: HashMap<&str, String> = known.into();
    Ok(COLUMNS.map(|column| known.remove(column).unwrap_or_default()))
}

/// Text in quotes, so that it can be told from numbers, and nothing in it ends the cell.
fn text(text: &str) -> String {
    quoted(&guarded(&printable(text)))
}

fn optional(value: Option<String>) -> String {
    text(&value.unwrap_or_default())
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A list as JSON in one cell. It begins with a bracket, so it is no formula. What could be one for a reader that takes
/// other separators, and what is not seen, is written as JSON's escapes.
fn list(items: &[impl Serialize]) -> Result<String, Failure> {
    if items.is_empty() {
        return Ok(quoted(""));
    }
    let json = serde_json::to_string(items).map_err(std::io::Error::from)?;
    let escape = |letter: char| format!("\\u{:04x}", u32::from(letter));
    Ok(quoted(&before_formulas(&escaped(&json), escape)))
}

/// Text from elsewhere, with an apostrophe in front of each letter that a spreadsheet could take for the beginning of a
/// formula. Where text begins with an apostrophe it gets one, too, so that taking one away always gives the original.
fn guarded(text: &str) -> String {
    before_formulas(text, |letter| format!("'{letter}"))
}

/// Replaces each letter with which a formula could begin: at the beginning of the text, and behind what separates cells
/// for readers that do not go by commas, also when they skip a quote there.
fn before_formulas(text: &str, replaced: impl Fn(char) -> String) -> String {
    let mut safe = String::with_capacity(text.len() + 1);
    let mut is_at_start = true;
    for letter in text.chars() {
        if is_at_start && RISKY.contains(&letter) {
            safe.push_str(&replaced(letter));
        } else {
            safe.push(letter);
        }
        is_at_start = SEPARATORS.contains(&letter) || (is_at_start && letter == '"');
    }
    safe
}

/// What a formula begins with, also in the wide letters that some spreadsheets accept.
const RISKY: [char; 9] = ['=', '+', '-', '@', '\'', '＝', '＋', '－', '＠'];
/// Excel takes the list separator of the system, which is a semicolon in much of Europe; others take what one ticks. A
/// tab does not come this far: it is not printable.
const SEPARATORS: [char; 3] = [';', '|', '\t'];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::tests::{accepted, adjusted},
        *,
    };
    use crate::base::proto::{
        Allocation, DecisionNote, LedgerRecord, RecordState, decide_held_request::Decision,
    };

    fn csv_of(records: Vec<LedgerRecord>) -> String {
        let mut rows = RecordCsv::default();
        rows.header();
        for record in records {
            rows.row(record.into()).unwrap();
        }
        rows.into_text()
    }

    /// The cells of the only record, by column, as a CSV reader has them.
    fn read_back(record: LedgerRecord) -> HashMap<String, String> {
        let text = csv_of(vec![record]);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows: Vec<HashMap<String, String>> = reader.deserialize().collect::<Result<_, _>>().unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        row.clone()
    }

    #[test]
    fn a_record_is_a_row_with_stable_columns() {
        let expected = "id,product,customer,account_id,license_arn,customer_identifier,dimension,hour,timestamp,\
                        quantity,state,receipt,presumed,reason,attempts,settled,deadline,usage,carried_in,rounded,\
                        billed,carried_out,origins,allocations,decisions,kind,withheld,adjusted,adjustments\r\n\
                        7,\"prod\",\"acme\",\"012345678901\",\"\",\"\",\"gb_out\",\"2026-11-22T08:00:00Z\",\
                        \"2026-11-22T08:00:00Z\",1.234,\"accepted\",\"receipt-7\",false,\"\",1,\"2026-11-22T09:06:00Z\",\
                        \"2026-11-23T08:00:00Z\",1234567890,0,0,1234000000,567890,\
                        \"[{\"\"hour\"\":\"\"2026-11-22T07:00:00Z\"\",\"\"amount\"\":\"\"3\"\"}]\",\"\",\"\",\"record\",0,0,\"\"\r\n";
        assert_eq!(csv_of(vec![accepted()]), expected);
    }

    #[test]
    fn what_a_person_decided_and_how_it_is_split_stand_in_one_cell_each() {
        let decision = DecisionNote {
            decision: Decision::WriteOff.into(),
            reason: "=cmd, \"quoted\"\nand;=more\u{202e}".to_owned(),
            decided_by: "ann".to_owned(),
            decided_unix_seconds: accepted().hour_unix_seconds,
            held_for: "refused".to_owned(),
            client: "ops".to_owned(),
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
            "decision": "write_off", "reason": "=cmd, \"quoted\"\nand;=more\u{202e}", "by": "ann",
            "client": "ops", "at": "2026-11-22T08:00:00Z", "held_for": "refused",
        }]);
        assert_eq!(decisions, expected);
        assert!(row["decisions"].contains(r"and;\u003dmore\u202e"), "{}", row["decisions"]);
        assert_eq!(row["allocations"], r#"[{"tags":{"team":"red"},"quantity":"1.5"}]"#);
        assert_eq!(row["rounded"], "-3", "a number of ours is no formula");
    }

    const TEXTS: [&str; 5] = ["customer", "customer_identifier", "dimension", "receipt", "reason"];

    /// The row of a record that has the text wherever others may have put it.
    fn row_with(text: &str) -> LedgerRecord {
        LedgerRecord {
            customer: text.to_owned(),
            customer_identifier: text.to_owned(),
            dimension: text.to_owned(),
            receipt: text.to_owned(),
            reason: text.to_owned(),
            ..accepted()
        }
    }

    #[test]
    fn an_adjustment_is_a_row_of_its_own_kind_with_what_was_taken_and_why() {
        let mut rows = RecordCsv::default();
        rows.header();
        rows.adjustment(AdjustmentJson { reason: "=slip".to_owned(), ..adjusted().into() }).unwrap();
        let text = rows.into_text();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let row: HashMap<String, String> = reader.deserialize().next().unwrap().unwrap();
        let cell = |column: &str| row[column].as_str();
        assert_eq!((cell("kind"), cell("id"), cell("state")), ("adjustment", "3", "adjusted"));
        assert_eq!((cell("hour"), cell("settled")), ("2026-11-22T09:00:00Z", "2026-11-22T10:12:00Z"));
        assert_eq!((cell("adjusted"), cell("reason")), ("5000000", "'=slip"));
        let decisions: serde_json::Value = serde_json::from_str(cell("decisions")).unwrap();
        let who = (&decisions[0]["decision"], &decisions[0]["by"], &decisions[0]["client"]);
        assert_eq!(who, (&"adjust".into(), &"ann".into(), &"ops".into()));
        let hours: serde_json::Value = serde_json::from_str(cell("adjustments")).unwrap();
        assert_eq!(hours[0]["carried"][0]["amount"], "4999993");
        for column in ["usage", "billed", "quantity", "receipt", "account_id"] {
            assert_eq!(cell(column), "", "{column}");
        }
    }

    #[test]
    fn text_of_others_never_begins_as_a_formula() {
        for risky in ["=1+1", "+1", "-1", "@SUM(A1)", "'=1", "＝1"] {
            let row = read_back(row_with(risky));
            for column in TEXTS {
                assert_eq!(row[column], format!("'{risky}"), "{column}");
            }
        }
    }

    #[test]
    fn what_is_not_seen_is_marked() {
        for (text, shown) in [("\t=1", "\u{fffd}=1"), ("a\nb", "a\u{fffd}b"), ("nna\u{202e}", "nna\u{fffd}")]
        {
            let row = read_back(row_with(text));
            for column in TEXTS {
                assert_eq!(row[column], shown, "{column}");
            }
        }
    }

    /// The cells of all rows for a reader that takes another separator, as the list separator of a system may be.
    fn cells_by(separator: char, text: &str) -> Vec<String> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(u8::try_from(separator).unwrap())
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let rows = reader.records().map(Result::unwrap);
        rows.flat_map(|row| row.iter().map(str::to_owned).collect::<Vec<_>>()).collect()
    }

    fn is_formula(cell: &str) -> bool {
        cell.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠'])
    }

    #[test]
    fn a_formula_behind_another_separator_is_none() {
        for risky in ["x;=1+2;y", "x|@SUM(A1)|y", "x\t=1\ty", "x;\"=1+2;y", "x;-1", ";'=1", "\";=1"] {
            let csv = csv_of(vec![row_with(risky)]);
            for separator in [';', '|', '\t', ','] {
                let cells = cells_by(separator, &csv);
                assert!(!cells.iter().any(|cell| is_formula(cell)), "{separator:?} {risky:?}: {cells:?}");
            }
        }
        assert_eq!(read_back(row_with("x;=1+2;y"))["customer"], "x;'=1+2;y");
    }

    /// What was put in front of a letter at the beginning of a cell is taken away again.
    fn unguarded(text: &str) -> String {
        let mut original = String::new();
        let mut is_at_start = true;
        for letter in text.chars() {
            if !(is_at_start && letter == '\'') {
                original.push(letter);
            }
            is_at_start = SEPARATORS.contains(&letter) || (is_at_start && letter == '"');
        }
        original
    }

    proptest! {
        #[test]
        fn any_text_reads_back_and_can_be_told_from_a_guarded_one(customer: String, reason in "[=+@',\";|a -]{0,8}") {
            let record = LedgerRecord { customer: customer.clone(), ..row_with(&reason) };
            let row = read_back(record.clone());
            for (column, original) in [("customer", customer), ("reason", reason)] {
                prop_assert!(!is_formula(&row[column]), "{:?}", row[column]);
                prop_assert_eq!(unguarded(&row[column]), printable(&original));
            }
            for separator in [';', '|', '\t'] {
                let cells = cells_by(separator, &csv_of(vec![record.clone()]));
                prop_assert!(!cells.iter().any(|cell| is_formula(cell)), "{:?} {:?}", separator, cells);
            }
        }
    }
}
