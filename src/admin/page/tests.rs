use std::{sync::Arc, time::Duration};

use super::{
    document::document,
    hour_strip, json,
    snapshot::{CustomerLine, Customers, Held, HeldLine, Snapshot, held_lines},
    wording,
};
use crate::{
    base::proto::{DimensionSummary, ProductSummary, Summary},
    domain::{
        billing::{
            hour_tally::HourTally,
            record::{HoldReason, Outcome, RecordId, Settled, tests::sample},
        },
        time::{Hour, Timestamp},
        usage::bucket::Carry,
    },
    engine::{
        health::{Health, Level, ProductFacts},
        lifecycle::Phase,
        submitter::{LastAnswer, Said},
        throughput::Sample,
    },
};

const NOW: &str = "2026-11-22T12:10:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hour(text: &str) -> Hour {
    Hour::containing(at(text))
}

/// An agent that has billed all of the last hours.
fn healthy() -> Snapshot {
    let now = at(NOW);
    let sealed_through = hour("2026-11-22T11:00:00Z");
    let tally = HourTally { accepted: 1200, ..HourTally::default() };
    let tallies = (0..40).map(|back| (Hour::from_index(sealed_through.index() - back), tally)).collect();
    let dimension = DimensionSummary {
        name: "gb_out".to_owned(),
        open: "2718281828".to_owned(),
        unsent: "0".to_owned(),
        held: "0".to_owned(),
        capped_customers: 0,
    };
    let product = ProductSummary {
        code: "prod".to_owned(),
        identity: "account".to_owned(),
        customers: 3,
        records_accepted: 48_000,
        dimensions: vec![dimension],
        ..ProductSummary::default()
    };
    Snapshot {
        now,
        is_untold: false,
        phase: Phase::Serving,
        summary: Summary {
            agent_id: "node-a".to_owned(),
            open_buckets: 7,
            products: vec![product],
            ..Summary::default()
        },
        sealed_through,
        products: vec![ProductFacts {
            code: "prod".into(),
            deadline: None,
            waits: Duration::ZERO,
            unsent: 0,
            held: Vec::new(),
            decide_by: None,
            capped: Vec::new(),
            last_answer: Some(answer(Said::Answered { accepted: 25 })),
        }],
        hours: hour_strip::of(&tallies, sealed_through, now, |_| false),
        held: Held::default(),
        samples: vec![Sample { accepted: 240, refused: 0 }; 149],
        customers: None,
        unread: None,
    }
}

fn answer(said: Said) -> LastAnswer {
    LastAnswer { at: at("2026-11-22T12:06:00Z"), took: Duration::from_millis(84), records: 25, said }
}

/// AWS has taken nothing since nine.
fn outage() -> Snapshot {
    let mut snapshot = healthy();
    let product = &mut snapshot.products[0];
    product.unsent = 1204;
    product.waits = Duration::from_mins(130);
    product.deadline = Some(at("2026-11-22T15:22:45Z"));
    product.last_answer = Some(answer(Said::NotDelivered("connection refused".into())));
    snapshot
}

fn holding(snapshot: &mut Snapshot, reason: HoldReason, records: u64) {
    snapshot.products[0].held.push((reason, records));
    snapshot.held.records += records;
}

fn says(snapshot: &Snapshot) -> (Level, String) {
    let health = Health::of(&snapshot.facts());
    let (answer, sentence) = (wording::answer(health.answer), wording::sentence(&health, snapshot.now));
    (health.level, format!("{answer} {sentence}").replace('\u{a0}', " "))
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn the_first_sentence_answers_whether_everything_is_billed() {
    let changed = |change: fn(&mut Snapshot)| {
        let mut snapshot = healthy();
        change(&mut snapshot);
        snapshot
    };
    let sent = |snapshot: &mut Snapshot| snapshot.products[0].unsent = 1;
    let cases = [
        (healthy(), Level::Good, "Yes. Everything up to 12:00 UTC is with AWS."),
        (changed(|it| it.hours.clear()), Level::Good, "Yes. No hour with usage is over yet."),
        (
            changed(|it| {
                it.hours.clear();
                it.summary.open_buckets = 0;
            }),
            Level::Good,
            "Yes. There was no usage to bill in the last two days.",
        ),
        (changed(sent), Level::Busy, "Almost. 1 record is on the way to AWS."),
        (
            changed(|it| {
                it.products[0].unsent = 2;
                it.products[0].last_answer = Some(answer(Said::Setup("AccessDenied".into())));
            }),
            Level::Warning,
            "Not yet. 2 records wait for AWS.",
        ),
        (outage(), Level::Warning, "Not yet. 1,204 records wait for AWS, the oldest for 2 h 10 min."),
        (
            changed(|it| {
                it.products[0].unsent = 2;
                it.products[0].waits = Duration::from_mins(6);
                it.products[0].deadline = Some(it.now.plus(Duration::from_mins(59)));
            }),
            Level::Busy,
            "Almost. 2 records are on the way to AWS.",
        ),
        (
            changed(|it| {
                it.products[0].unsent = 2;
                it.products[0].deadline = Some(it.now.plus(Duration::from_mins(59)));
                it.products[0].last_answer = Some(answer(Said::Lost("time-out".into())));
            }),
            Level::Bad,
            "No. 2 records wait for AWS.",
        ),
        (
            changed(|it| it.hours[9].tally = Some(HourTally { rolled_forward: 1, ..HourTally::default() })),
            Level::Good,
            "Yes. Everything up to 12:00 UTC is with AWS, or was moved into a later hour.",
        ),
        (
            changed(|it| it.products[0].waits = Duration::from_mins(90)),
            Level::Warning,
            "Not yet. An hour that ended 1 h 30 min ago is not sealed.",
        ),
        (
            changed(|it| holding(it, HoldReason::Conflict, 3)),
            Level::Bad,
            "No. 3 records are held for you to decide.",
        ),
        (
            changed(|it| it.phase = Phase::Failed("disk full".into())),
            Level::Bad,
            "No. The store has failed: usage is refused, and what is on disk waits for you.",
        ),
        (
            changed(|it| it.summary.clock_fault = "1h ahead".to_owned()),
            Level::Bad,
            "No. The clock is in doubt, so no hour is sealed. Usage is counted meanwhile.",
        ),
        (
            changed(|it| it.unread = Some("gone".to_owned())),
            Level::Bad,
            "Not known. The store cannot be read.",
        ),
        (changed(|it| it.phase = Phase::Starting), Level::Busy, "Not known yet. The agent is starting."),
    ];
    for (snapshot, level, sentence) in cases {
        assert_eq!(says(&snapshot), (level, sentence.to_owned()));
    }
    let mut both = outage();
    holding(&mut both, HoldReason::NotSubscribed, 1);
    let both = says(&both).1;
    assert_eq!(
        both,
        "No. 1,204 records wait for AWS, the oldest for 2 h 10 min, and 1 record is held for you to decide."
    );
}

#[test]
fn a_deadline_counts_down_and_becomes_urgent_as_the_alerts_do() {
    let figures = |left: Duration| {
        let mut snapshot = outage();
        snapshot.products[0].deadline = Some(snapshot.now.plus(left));
        let page = document(&snapshot);
        page.split("Nearest deadline").next().unwrap().rsplit("<div class=\"").next().unwrap()[..4].to_owned()
    };
    let hours = |hours| Duration::from_hours(hours);
    assert_eq!([figures(hours(7)), figures(hours(5)), figures(hours(1))], ["good", "warn", "bad\""]);
    assert!(document(&outage()).contains("<b>3:12:45</b>"));
}

#[test]
fn of_several_deadlines_the_nearest_counts_down() {
    let mut snapshot = outage();
    let (mut sooner, summary) = (snapshot.products[0].clone(), snapshot.summary.products[0].clone());
    (sooner.code, sooner.deadline) = ("sooner".into(), Some(at("2026-11-22T13:20:30Z")));
    snapshot.products.push(sooner);
    snapshot.products.push(snapshot.products[0].clone());
    snapshot.summary.products.extend([summary.clone(), summary]);
    let page = document(&snapshot);
    assert!(page.contains("<b>1:10:30</b>") && page.contains("what waits of sooner until 13:20"), "{page}");
    assert_eq!(json::of(&snapshot)["nearest_deadline"], "2026-11-22T13:20:30Z");
    assert_eq!(says(&snapshot).0, Level::Bad);
}

#[test]
fn events_without_room_ask_for_a_person() {
    let mut snapshot = healthy();
    snapshot.samples[7].refused = 1200;
    let page = document(&snapshot);
    assert!(page.contains("1,200 events found no room"), "{page}");
    assert!(!document(&healthy()).contains("found no room"));
}

#[test]
fn each_hour_of_two_days_has_a_cell_a_row_and_its_place_in_the_legend() {
    let page = document(&healthy());
    assert_eq!(page.matches("<i class=\"h accepted\" title=").count(), 40);
    assert_eq!(
        page.matches("<th scope=\"row\">22 Nov").count() + page.matches("<th scope=\"row\">21 Nov").count(),
        37
    );
    for line in ["40 accepted by AWS", "1 open", "7 not known here"] {
        assert!(page.contains(line), "{line}");
    }
}

#[test]
fn what_is_held_is_shown_with_its_amount_and_what_to_type() {
    let settled = |id, dimension: &str, reason| {
        let mut record = sample(id);
        record.dimension = dimension.into();
        record.amounts.billed = 5000;
        let outcome = Outcome::Held { reason, detail: "acme".into() };
        Settled { record, attempts: 1, outcome, at: at(NOW), withheld: Carry::default() }
    };
    let records = [
        settled(1, "gb_out", HoldReason::Refused),
        settled(2, "gb_out", HoldReason::Refused),
        settled(3, "requests", HoldReason::Conflict),
    ];
    let held = held_lines(&records, 1003);
    let lines: Vec<_> =
        held.lines.iter().map(|line| (&*line.dimension, line.reason, line.records, line.units)).collect();
    assert_eq!(
        lines,
        [("requests", HoldReason::Conflict, 1, 5000), ("gb_out", HoldReason::Refused, 2, 10_000)]
    );
    let mut snapshot = healthy();
    holding(&mut snapshot, HoldReason::Refused, 2);
    holding(&mut snapshot, HoldReason::Conflict, 1001);
    snapshot.held = held;
    let page = document(&snapshot);
    for text in [
        "2 records of prod are held as refused",
        "<code>tallyman held --product prod</code>",
        "docs/runbook.md#tallymanheld",
        "<td>10,000</td>",
        "1,000 records more are in",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("acme"), "what AWS said of a record may name a customer");
}

#[test]
fn hostile_names_stay_text() {
    let hostile = "<img src=x onerror=alert(1)>\"'&</style></script>";
    let mut snapshot = outage();
    holding(&mut snapshot, HoldReason::Conflict, 1);
    snapshot.phase = Phase::Failed(hostile.into());
    snapshot.unread = Some(hostile.to_owned());
    hostile.clone_into(&mut snapshot.summary.agent_id);
    hostile.clone_into(&mut snapshot.summary.clock_fault);
    hostile.clone_into(&mut snapshot.summary.products[0].code);
    hostile.clone_into(&mut snapshot.summary.products[0].identity);
    let dimension = &mut snapshot.summary.products[0].dimensions[0];
    for text in [&mut dimension.name, &mut dimension.open, &mut dimension.unsent, &mut dimension.held] {
        hostile.clone_into(text);
    }
    let name: Arc<str> = hostile.into();
    snapshot.products[0].code = name.clone();
    snapshot.held.lines = vec![HeldLine {
        product: name.clone(),
        dimension: name.clone(),
        reason: HoldReason::Conflict,
        records: 1,
        units: 1,
        oldest: hour(NOW),
    }];
    let customer = CustomerLine { product: name.clone(), customer: name.clone(), unsent: 1, held: 1 };
    snapshot.customers = Some(Customers { lines: vec![customer], are_more: true });
    let own = document(&outage());
    for said in [Said::Setup(name.clone()), Said::Lost(name.clone()), Said::NotDelivered(name)] {
        snapshot.products[0].last_answer = Some(answer(said));
        let page = document(&snapshot);
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;'&amp;"), "{page}");
        assert!(!page.contains("<img"), "{page}");
        for tag in ["</style>", "<script", "</script>"] {
            assert_eq!(page.matches(tag).count(), own.matches(tag).count(), "{tag}");
        }
        // Nothing has left its attribute: all of them are as they are on a harmless page.
        assert!(!page.contains("=\"<") && !page.contains("onerror=alert(1)>"), "{page}");
    }
}

#[test]
fn customers_are_named_only_where_they_may_be() {
    let mut snapshot = outage();
    assert!(!document(&snapshot).contains("Customers with unsent"));
    let acme = CustomerLine { product: "prod".into(), customer: "acme".into(), unsent: 3, held: 0 };
    snapshot.customers = Some(Customers { lines: vec![acme], are_more: false });
    assert!(document(&snapshot).contains("<th scope=\"row\">acme</th>"));
    assert!(!json::of(&snapshot).to_string().contains("acme"));
}

#[test]
fn a_viewer_is_told_what_has_changed_and_no_more() {
    let mut sent = super::SentParts::default();
    let mut snapshot = healthy();
    let all = sent.update(&snapshot);
    assert_eq!(all["parts"].as_object().unwrap().len(), 10);
    assert_eq!(sent.update(&snapshot)["parts"], serde_json::json!({}));
    snapshot.now = snapshot.now.plus(Duration::from_secs(1));
    let changes = sent.update(&snapshot);
    assert_eq!(changes["parts"].as_object().unwrap().keys().collect::<Vec<_>>(), ["clock"]);
}

#[test]
fn machines_get_what_the_page_shows() {
    let mut snapshot = outage();
    holding(&mut snapshot, HoldReason::Conflict, 3);
    let json = json::of(&snapshot);
    assert_eq!(json["billed"]["answer"], "No.");
    assert_eq!(json["nearest_deadline"], "2026-11-22T15:22:45Z");
    assert_eq!(json["hours"].as_array().unwrap().len(), 48);
    assert_eq!(json["hours"][46]["records"]["accepted"], 1200);
    assert_eq!(json["products"][0]["last_answer"]["error"], "connection refused");
    assert_eq!(json["products"][0]["dimensions"][0]["open"], "2718281828", "the summary is in it");
}

#[test]
fn a_page_stays_small_whatever_is_configured() {
    let mut snapshot = outage();
    let (line, summary) = (snapshot.products[0].clone(), snapshot.summary.products[0].clone());
    snapshot.products = vec![line; 1000];
    snapshot.summary.products = vec![summary; 1000];
    for product in &mut snapshot.summary.products {
        product.dimensions = vec![product.dimensions[0].clone(); 1000];
    }
    holding(&mut snapshot, HoldReason::Missed, 1);
    snapshot.held.lines = (0..1000)
        .map(|id| HeldLine {
            product: "prod".into(),
            dimension: id.to_string().into(),
            reason: HoldReason::Missed,
            records: RecordId(1).0,
            units: 7,
            oldest: hour(NOW),
        })
        .collect();
    assert!(document(&snapshot).len() < 500_000);
}
