//! The ledger for finance, and against AWS's own log: through the real binary.

use std::{io::Write, path::PathBuf, process::Output};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use tallyman::internals::{BilledRecord, Faults, Timestamp};
use tallyman_client::proto::{ListRecordsRequest, RecordState, UsageEvent};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    clock_at,
    events::{ACME, GLOBEX, event, record},
    eventually, sandbox,
};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn timed(customer: &str, quantity: u64) -> UsageEvent {
    let nanos = u64::try_from(at("2026-11-22T10:57:00Z").millis()).unwrap() * 1_000_000;
    UsageEvent { time_unix_nano: nanos, ..event(customer, "gb_out", quantity, "") }
}

fn cli(home: &Home, args: &[&str]) -> Output {
    binary().args(args).arg("--address").arg(format!("http://{}", home.grpc)).output().unwrap()
}

/// What CloudTrail has about a record that AWS accepted, as its examples have it.
fn event_of(billed: &BilledRecord) -> Value {
    let moment = billed.timestamp.to_string();
    let clock: u32 = moment[11..13].parse().unwrap();
    let (hour, half) = ((clock + 11) % 12 + 1, if clock < 12 { "AM" } else { "PM" });
    let record = json!({
        "timestamp": format!("Nov {}, 2026 {hour}:{} {half}", &moment[8..10], &moment[14..19]),
        "dimension": billed.dimension, "customerAWSAccountId": billed.account_id,
        "quantityAsDecimal": billed.quantity.to_string(),
    });
    let results = [json!({
        "usageRecord": record, "meteringRecordId": billed.metering_record_id, "status": "Success",
    })];
    json!({
        "eventVersion": "1.11", "eventTime": moment, "eventSource": "metering-marketplace.amazonaws.com",
        "eventName": "BatchMeterUsage", "awsRegion": billed.region, "eventID": billed.metering_record_id,
        "requestParameters": {"productCode": billed.product, "usageRecords": [record]},
        "responseElements": {"results": results, "unprocessedRecords": []},
    })
}

fn write(home: &Home, name: &str, events: &[Value]) -> PathBuf {
    let file = home.path().join(name);
    let text = json!({"Records": events}).to_string();
    if file.extension().is_some_and(|extension| extension == "gz") {
        let mut encoder = GzEncoder::new(std::fs::File::create(&file).unwrap(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
    } else {
        std::fs::write(&file, text).unwrap();
    }
    file
}

/// The findings about the hours up to 12:00, each with its customer, and the exit code.
fn reconcile(home: &Home, files: &[PathBuf]) -> (Option<i32>, Vec<(String, String)>) {
    let mut args = vec!["reconcile", "--output", "json", "--to", "2026-11-22T12:00:00Z", "--cloudtrail"];
    args.extend(files.iter().map(|file| file.to_str().unwrap()));
    let output = cli(home, &args);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let lines = String::from_utf8(output.stdout).unwrap();
    let findings = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line.get("finding").is_some())
        .map(|line| {
            let customer =
                line["ledger"].get("customer").or_else(|| line["cloudtrail"].get("account_id")).unwrap();
            (text(&line["finding"]), text(customer))
        });
    (output.status.code(), findings.collect())
}

fn finding(finding: &str, customer: &str) -> Vec<(String, String)> {
    vec![(finding.to_owned(), customer.to_owned())]
}

#[tokio::test]
async fn cloudtrail_and_the_ledger_agree_until_one_of_them_is_altered() {
    let clock = clock_at("2026-11-22T10:56:00Z", 600.0);
    let faults = json!({
        "rules": [{"customer": GLOBEX, "answer": "CustomerNotSubscribed"}], "unprocessed": 0.2, "lose_reply": 0.1,
    });
    let (sandbox, _tasks) = sandbox(clock, serde_json::from_value::<Faults>(faults).unwrap()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("HOUR__GRACE", "30m");
    let _agent = home.start().await;
    record(&home, vec![timed(ACME, 1_234_567), timed(GLOBEX, 5_000_000)]).await.unwrap();
    let last = at("2026-11-22T12:00:00Z").seconds();
    let state = async |state: RecordState| {
        let filter = ListRecordsRequest { state: state.into(), to_unix_seconds: last, ..Default::default() };
        home.records(filter).await
    };
    // Both hours of three dimensions; the other customer's are held, and claim no zeros.
    eventually("two hours are billed", async || {
        let pending = state(RecordState::Pending).await.is_empty();
        (pending && state(RecordState::Accepted).await.len() >= 6).then_some(())
    })
    .await;
    let settled = state(RecordState::Accepted).await.iter().map(|it| it.settled_unix_seconds).max().unwrap();
    eventually("CloudTrail has had the time to show it", async || {
        (home.summary().await?.now_unix_seconds > settled + 900).then_some(())
    })
    .await;

    let billed = sandbox.billed();
    let events: Vec<Value> = billed.iter().map(event_of).collect();
    let (early, late) = events.split_at(events.len() / 2);
    let files = [write(&home, "early.json", early), write(&home, "late.json.gz", late)];
    assert_eq!(reconcile(&home, &files), (Some(0), Vec::new()));

    let index = billed.iter().position(|it| it.quantity.to_string() == "1.234").unwrap();
    let trail = Altered { home: &home, events, index };
    trail.is_found_out();
    let id = eventually("the record is held, and not just tried again", async || {
        let held = state(RecordState::Held).await;
        let id = held.iter().find(|it| it.quantity == "5")?.id.to_string();
        let carried = cli(&home, &["held", "carry", &id, "--reason", "surely not billed", "--by", "ann"]);
        carried.status.success().then_some(id)
    })
    .await;
    trail.shows_what_was_carried();
    exported(&home, &id);
}

/// AWS's side, to be altered at one of its events.
struct Altered<'h> {
    home: &'h Home,
    events: Vec<Value>,
    index: usize,
}

const ACCOUNT: &str = "/responseElements/results/0/usageRecord/customerAWSAccountId";
const QUANTITY: &str = "/responseElements/results/0/usageRecord/quantityAsDecimal";
const RECEIPT: &str = "/responseElements/results/0/meteringRecordId";

impl Altered<'_> {
    fn is_found_out(&self) {
        let mut fewer = self.events.clone();
        fewer.remove(self.index);
        assert_eq!(self.reconcile(&fewer), finding("not_in_cloudtrail", ACME));
        let changed = |changes| {
            let mut events = self.events.clone();
            change(&mut events[self.index], changes);
            self.reconcile(&events)
        };
        assert_eq!(changed(&[(QUANTITY, "1.235")]), finding("different_quantity", ACME));
        assert_eq!(changed(&[(RECEIPT, "another")]), finding("different_receipt", ACME));
        assert_eq!(changed(&[(ACCOUNT, "999999999999")]), finding("different_slot", ACME));
        let second = self.with_another(&[(RECEIPT, "second"), ("/awsRegion", "eu-west-1")]);
        assert_eq!(self.reconcile(&second), finding("accepted_twice", ACME));
        let stranger = self.with_another(&[(RECEIPT, "second"), (ACCOUNT, "999999999999")]);
        assert_eq!(self.reconcile(&stranger), finding("not_in_ledger", "999999999999"));
    }

    /// The ledger altered: what AWS has billed was carried on.
    fn shows_what_was_carried(&self) {
        let lost = self.with_another(&[(RECEIPT, "second"), (ACCOUNT, GLOBEX), (QUANTITY, "5")]);
        assert_eq!(self.reconcile(&lost), finding("not_accepted_here", GLOBEX));
        let file = self.home.path().join("altered.json");
        let shown = cli(self.home, &["reconcile", "--cloudtrail", file.to_str().unwrap()]);
        let notes = String::from_utf8(shown.stderr).unwrap();
        assert!(notes.contains("it is billed twice"), "{notes}");
    }

    fn with_another(&self, changes: &[(&str, &str)]) -> Vec<Value> {
        let mut events = self.events.clone();
        let mut another = events[self.index].clone();
        change(&mut another, changes);
        events.push(another);
        events
    }

    fn reconcile(&self, events: &[Value]) -> Vec<(String, String)> {
        let (exit, findings) = reconcile(self.home, &[write(self.home, "altered.json", events)]);
        assert_eq!(exit, Some(1));
        findings
    }
}

fn change(event: &mut Value, changes: &[(&str, &str)]) {
    for (place, value) in changes {
        *event.pointer_mut(place).unwrap() = (*value).into();
    }
}

/// The export has the decision, and each record once.
fn exported(home: &Home, carried: &str) {
    let output = cli(home, &["export", "--to", "2026-11-22T12:00:00Z"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let mut reader = csv::Reader::from_reader(&output.stdout[..]);
    let columns = reader.headers().unwrap().clone();
    let column = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    let ids: Vec<u64> = rows.iter().map(|row| row[column("id")].parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b) && ids.len() > 6, "{ids:?}");
    let row = rows.iter().find(|row| &row[0] == carried).unwrap();
    let shown = ["state", "quantity", "billed", "account_id"].map(|name| &row[column(name)]);
    assert_eq!(shown, ["carried", "5", "5000000", GLOBEX]);
    let decisions: Value = serde_json::from_str(&row[column("decisions")]).unwrap();
    assert_eq!((&decisions[0]["reason"], &decisions[0]["by"]), (&"surely not billed".into(), &"ann".into()));
}
