//! Records as rows of a table and as JSON: the columns of `tallyman records` and `tallyman held`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    exit::Failure,
    format::{count, enum_name, given, rfc3339, unless_zero},
    output::Printer,
    table::{Table, number, text},
};
use crate::base::proto::{AdjustmentNote, Allocation, DecisionNote, LedgerRecord, Origin, RecordState};

/// A list of records that is being printed: as JSON at once, as a table when all are there.
pub(super) struct RecordList {
    table: Table,
    has_presumed: bool,
}

impl RecordList {
    pub(super) fn new() -> Self {
        let columns = [
            number("ID"),
            text("HOUR"),
            text("PRODUCT"),
            text("CUSTOMER"),
            text("DIMENSION"),
            number("QUANTITY"),
            text("STATE"),
            number("TRIES"),
            number("CARRIED IN"),
            number("CARRIED ON"),
            text("DETAIL"),
        ];
        Self { table: Table::new(&columns), has_presumed: false }
    }

    pub(super) fn add(&mut self, record: LedgerRecord, printer: &mut Printer<'_>) -> Result<(), Failure> {
        if printer.is_json() {
            return printer.json(&RecordJson::from(record));
        }
        self.has_presumed |= record.presumed;
        let detail = detail(&record);
        self.table.row([
            record.id.to_string(),
            rfc3339(record.hour_unix_seconds).unwrap_or_default(),
            record.product,
            record.customer,
            record.dimension,
            record.quantity,
            state_name(record.state),
            record.attempts.to_string(),
            unless_zero(&record.carried_in),
            unless_zero(&record.carried_out),
            detail,
        ]);
        Ok(())
    }

    pub(super) fn finish(self, printer: &mut Printer<'_>, empty: &str) -> Result<(), Failure> {
        if printer.is_json() {
            return Ok(());
        }
        printer.table(&self.table, empty)?;
        if self.has_presumed {
            printer.note(
                "presumed: AWS called it a duplicate of ours after an answer was lost, so it was billed once",
            )?;
        }
        Ok(())
    }
}

/// What matters most about a record in its state, what stays with it, and what was taken from its hour: for the last
/// column.
fn detail(record: &LedgerRecord) -> String {
    let withheld = Some(&record.withheld).filter(|amount| !matches!(amount.as_str(), "" | "0"));
    let withheld = withheld.map(|amount| format!("{amount} more base units wait with it"));
    let taken = record.adjustments.iter().map(|note| {
        let by = decider(&note.decided_by, &note.client);
        format!("lowered by {} ({by}: {})", note.amount, note.reason)
    });
    let state = Some(of_state(record)).filter(|detail| !detail.is_empty());
    state.into_iter().chain(withheld).chain(taken).collect::<Vec<_>>().join("; ")
}

fn of_state(record: &LedgerRecord) -> String {
    match RecordState::try_from(record.state) {
        Ok(RecordState::Pending) => {
            let until = rfc3339(record.deadline_unix_seconds).map(|deadline| format!("until {deadline}"));
            let reason = given(record.reason.clone());
            [until, reason].into_iter().flatten().collect::<Vec<_>>().join(", ")
        }
        Ok(RecordState::Accepted) if record.presumed => {
            format!("presumed {}", record.receipt).trim_end().to_owned()
        }
        Ok(RecordState::Accepted) => record.receipt.clone(),
        Ok(RecordState::WrittenOff) => record
            .decisions
            .last()
            .map(|last| format!("by {}: {}", decider(&last.decided_by, &last.client), last.reason))
            .unwrap_or_default(),
        // Nobody sends it unless a person decides, so it has a time that runs out.
        Ok(RecordState::Held) if record.reason.starts_with("suspicious") => {
            let until = rfc3339(record.deadline_unix_seconds).unwrap_or_default();
            format!("{}; decide until {until}", record.reason)
        }
        Ok(
            RecordState::Held
            | RecordState::RolledForward
            | RecordState::Expired
            | RecordState::Carried
            | RecordState::Unspecified,
        )
        | Err(_) => record.reason.clone(),
    }
}

/// The name that was given, and behind it the client that proved itself.
pub(super) fn decider(decided_by: &str, client: &str) -> String {
    if client.is_empty() { decided_by.to_owned() } else { format!("{decided_by} (client {client})") }
}

pub(super) fn state_name(state: i32) -> String {
    RecordState::try_from(state)
        .map_or_else(|_| format!("state_{state}"), |state| enum_name(state.as_str_name()))
}

/// Notes that the list is not complete.
pub(super) fn note_more(shown: u64, printer: &mut Printer<'_>) -> Result<(), Failure> {
    printer.note(&format!("only the first {} shown; --limit shows more", count(shown, "record")))
}

/// A record as JSON. Amounts are text, in base units except `quantity`, which is in AWS's units.
#[derive(Serialize)]
pub(super) struct RecordJson {
    /// Tells it from an adjustment.
    pub(super) kind: &'static str,
    pub(super) id: u64,
    pub(super) product: String,
    pub(super) customer: String,
    pub(super) account_id: Option<String>,
    pub(super) license_arn: Option<String>,
    pub(super) customer_identifier: Option<String>,
    pub(super) dimension: String,
    pub(super) hour: Option<String>,
    pub(super) timestamp: Option<String>,
    pub(super) quantity: String,
    pub(super) state: String,
    pub(super) usage: String,
    pub(super) carried_in: String,
    pub(super) billed: String,
    pub(super) carried_out: String,
    pub(super) attempts: u32,
    pub(super) deadline: Option<String>,
    pub(super) next_attempt: Option<String>,
    pub(super) receipt: Option<String>,
    pub(super) presumed: bool,
    pub(super) reason: Option<String>,
    pub(super) settled: Option<String>,
    pub(super) origins: Vec<OriginJson>,
    pub(super) rounded: String,
    pub(super) allocations: Vec<AllocationJson>,
    pub(super) decisions: Vec<DecisionJson>,
    pub(super) withheld: String,
    pub(super) adjustments: Vec<AdjustmentNoteJson>,
}

/// What a person took from the record's hour before it was sealed.
#[derive(Serialize)]
pub(super) struct AdjustmentNoteJson {
    pub(super) number: u64,
    pub(super) amount: String,
    /// What the client said.
    pub(super) reason: String,
    pub(super) by: String,
    /// The client that proved itself.
    pub(super) client: Option<String>,
    pub(super) at: Option<String>,
}

#[derive(Serialize)]
pub(super) struct AllocationJson {
    pub(super) tags: BTreeMap<String, String>,
    pub(super) quantity: String,
}

#[derive(Serialize)]
pub(super) struct DecisionJson {
    pub(super) decision: String,
    pub(super) reason: String,
    /// What the client said.
    pub(super) by: String,
    /// The client that proved itself.
    pub(super) client: Option<String>,
    pub(super) at: Option<String>,
    pub(super) held_for: String,
}

#[derive(Serialize)]
pub(super) struct OriginJson {
    pub(super) hour: Option<String>,
    pub(super) amount: String,
}

impl From<LedgerRecord> for RecordJson {
    fn from(record: LedgerRecord) -> Self {
        Self {
            kind: "record",
            id: record.id,
            product: record.product,
            customer: record.customer,
            account_id: given(record.account_id),
            license_arn: given(record.license_arn),
            customer_identifier: given(record.customer_identifier),
            dimension: record.dimension,
            hour: rfc3339(record.hour_unix_seconds),
            timestamp: rfc3339(record.timestamp_unix_seconds),
            quantity: record.quantity,
            state: state_name(record.state),
            usage: record.usage,
            carried_in: record.carried_in,
            billed: record.billed,
            carried_out: record.carried_out,
            attempts: record.attempts,
            deadline: rfc3339(record.deadline_unix_seconds),
            next_attempt: rfc3339(record.next_attempt_unix_seconds),
            receipt: given(record.receipt),
            presumed: record.presumed,
            reason: given(record.reason),
            settled: rfc3339(record.settled_unix_seconds),
            origins: record.origins.into_iter().map(Into::into).collect(),
            rounded: record.rounded,
            allocations: record.allocations.into_iter().map(Into::into).collect(),
            decisions: record.decisions.into_iter().map(Into::into).collect(),
            withheld: record.withheld,
            adjustments: record.adjustments.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Allocation> for AllocationJson {
    fn from(part: Allocation) -> Self {
        Self { tags: part.tags.into_iter().collect(), quantity: part.quantity }
    }
}

impl From<DecisionNote> for DecisionJson {
    fn from(note: DecisionNote) -> Self {
        Self {
            decision: enum_name(note.decision().as_str_name()),
            reason: note.reason,
            by: note.decided_by,
            client: given(note.client),
            at: rfc3339(note.decided_unix_seconds),
            held_for: note.held_for,
        }
    }
}

impl From<AdjustmentNote> for AdjustmentNoteJson {
    fn from(note: AdjustmentNote) -> Self {
        let AdjustmentNote { number, amount, reason, decided_by, decided_unix_seconds, client } = note;
        Self {
            number,
            amount,
            reason,
            by: decided_by,
            client: given(client),
            at: rfc3339(decided_unix_seconds),
        }
    }
}

impl From<Origin> for OriginJson {
    fn from(origin: Origin) -> Self {
        Self { hour: rfc3339(origin.hour_unix_seconds), amount: origin.amount }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            output::Output,
            tests::{accepted, held, pending},
        },
        *,
    };

    fn list(records: Vec<LedgerRecord>, output: Output) -> (String, String) {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(output, &mut out, &mut notes);
        let mut list = RecordList::new();
        for record in records {
            list.add(record, &mut printer).unwrap();
        }
        list.finish(&mut printer, "no records").unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(notes).unwrap())
    }

    #[test]
    fn records_stand_in_a_table_with_what_matters_in_their_state() {
        let (out, notes) = list(vec![accepted(), pending(), held()], Output::Human);
        let expected = "\
ID  HOUR                  PRODUCT  CUSTOMER      DIMENSION  QUANTITY  STATE     TRIES  CARRIED ON  DETAIL
 7  2026-11-22T08:00:00Z  prod     acme          gb_out        1.234  accepted      1      567890  receipt-7
 8  2026-11-22T09:00:00Z  prod     210987654321  requests         17  pending       3              until 2026-11-23T09:00:00Z
12  2026-11-22T07:00:00Z  prod     acme          requests          5  held          1              no such license
";
        assert_eq!(out, expected);
        assert_eq!(notes, "");
    }

    #[test]
    fn a_presumed_acceptance_is_marked_and_explained() {
        let (out, notes) = list(vec![LedgerRecord { presumed: true, ..accepted() }], Output::Human);
        assert!(out.contains("presumed receipt-7"), "{out}");
        assert!(notes.contains("billed once"), "{notes}");
    }

    #[test]
    fn a_suspicious_record_says_until_when_to_decide_and_what_waits_with_it() {
        let suspicious = LedgerRecord {
            reason: "suspicious: the hour's usage is 51, and hold_above is 50".to_owned(),
            withheld: "12".to_owned(),
            adjustments: vec![AdjustmentNote {
                number: 3,
                amount: "9".to_owned(),
                reason: "a slip".to_owned(),
                decided_by: "ann".to_owned(),
                ..AdjustmentNote::default()
            }],
            ..held()
        };
        let (out, _) = list(vec![suspicious], Output::Human);
        let detail = "suspicious: the hour's usage is 51, and hold_above is 50; decide until 2026-11-23T08:00:00Z; 12 more \
                      base units wait with it; lowered by 9 (ann: a slip)\n";
        assert!(out.ends_with(detail), "{out}");
    }

    #[test]
    fn an_empty_list_says_so_to_people_and_is_empty_for_machines() {
        assert_eq!(list(Vec::new(), Output::Human).0, "no records\n");
        assert_eq!(list(Vec::new(), Output::Json).0, "");
    }

    #[test]
    fn machines_get_an_object_per_line_with_stable_keys() {
        let (out, _) = list(vec![accepted(), held()], Output::Json);
        let lines: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let expected = serde_json::json!({
            "kind": "record", "id": 7, "product": "prod", "customer": "acme", "account_id": "012345678901", "license_arn": null,
            "customer_identifier": null, "dimension": "gb_out", "hour": "2026-11-22T08:00:00Z",
            "timestamp": "2026-11-22T08:00:00Z", "quantity": "1.234", "state": "accepted", "usage": "1234567890",
            "carried_in": "0", "billed": "1234000000", "carried_out": "567890", "attempts": 1,
            "deadline": "2026-11-23T08:00:00Z", "next_attempt": null, "receipt": "receipt-7", "presumed": false,
            "reason": null, "settled": "2026-11-22T09:06:00Z",
            "origins": [{"hour": "2026-11-22T07:00:00Z", "amount": "3"}], "rounded": "0", "allocations": [],
            "decisions": [], "withheld": "0", "adjustments": [],
        });
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], expected);
        assert_eq!(lines[1]["state"], "held");
    }

    #[test]
    fn a_state_of_a_newer_agent_is_shown_as_its_number() {
        assert_eq!(state_name(3), "held");
        assert_eq!(state_name(4), "rolled_forward");
        assert_eq!(state_name(0), "unspecified");
        assert_eq!(state_name(99), "state_99");
    }
}
