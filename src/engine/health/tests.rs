//! Each concern, in the words that an operator reads, and the command that goes with it.

use super::{
    concern::{Problem, all},
    *,
};

const PHASE: Phase = Phase::Serving;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A product of which AWS has everything.
fn product() -> ProductFacts {
    ProductFacts {
        code: "prod".into(),
        deadline: None,
        waits: Duration::ZERO,
        unsent: 0,
        held: Vec::new(),
        decide_by: None,
        capped: Vec::new(),
        last_answer: None,
    }
}

/// A product with two records that AWS did not take when it was last called.
fn kept_back(said: Said) -> ProductFacts {
    let (at, took) = (at("2026-11-22T12:06:00Z"), Duration::from_millis(84));
    ProductFacts { unsent: 2, last_answer: Some(LastAnswer { at, took, records: 2, said }), ..product() }
}

/// Facts of an agent that has billed all hours that are over.
fn facts(products: &[ProductFacts]) -> Facts<'_> {
    Facts {
        now: at("2026-11-22T12:10:00Z"),
        phase: &PHASE,
        store_fault: None,
        clock_fault: None,
        untold: None,
        sealed_through: Hour::containing(at("2026-11-22T11:00:00Z")),
        open_buckets: 7,
        refused_events: 0,
        recent: RecentHours { some_done: true, ..RecentHours::default() },
        products,
    }
}

#[test]
fn an_agent_is_healthy_when_nothing_waits() {
    let products = [product()];
    let facts = facts(&products);
    let until = at("2026-11-22T12:00:00Z");
    let reason = Reason::BilledUntil { until, recent: facts.recent };
    assert_eq!(Health::of(&facts), Health { level: Level::Good, answer: ShortAnswer::Yes, reason });
    assert_eq!(all(&facts), []);
}

#[test]
fn what_waits_comes_before_a_time_that_aws_has_not_told() {
    let (idle, waiting) = ([product()], [kept_back(Said::NotDelivered("no network".into()))]);
    let untold = |products| Facts { untold: Some("no network"), ..facts(products) };
    assert_eq!(Health::of(&untold(&idle)).level, Level::Good);
    assert_eq!(all(&untold(&idle))[0].problem, Problem::TimeUntold("no network"));
    assert!(matches!(Health::of(&untold(&waiting)).reason, Reason::Unbilled { .. }));
}

#[test]
fn a_fault_of_the_agent_comes_before_what_waits() {
    let products = [kept_back(Said::Throttled)];
    let failed = Phase::Failed("disk full".into());
    let mut facts = Facts { clock_fault: Some("1h ahead"), ..facts(&products) };
    assert_eq!(Health::of(&facts).reason, Reason::ClockInDoubt);
    facts.store_fault = Some("gone");
    assert_eq!(Health::of(&facts).reason, Reason::StoreUnreadable);
    facts.phase = &failed;
    assert_eq!(Health::of(&facts).reason, Reason::StoreFailed);
    assert_eq!(all(&facts)[0].problem, Problem::StoreFailed("disk full"));
}

#[test]
fn a_deadline_worries_only_where_something_is_stuck() {
    let level = |product: ProductFacts, minutes_left| {
        let deadline = at("2026-11-22T12:10:00Z").plus(Duration::from_mins(minutes_left));
        Health::of(&facts(&[ProductFacts { deadline: Some(deadline), ..product }])).level
    };
    let lost = || kept_back(Said::Lost("time-out".into()));
    assert_eq!(level(ProductFacts { unsent: 2, ..product() }, 59), Level::Busy);
    assert_eq!(
        [level(lost(), 59), level(lost(), 300), level(lost(), 420)],
        [Level::Bad, Level::Warning, Level::Busy]
    );
    assert_eq!(level(kept_back(Said::Setup("denied".into())), 420), Level::Warning, "it asks for a person");
}

#[test]
fn what_asks_most_for_a_person_comes_first() {
    let mut product = kept_back(Said::Throttled);
    product.held.push((HoldReason::Conflict, 3));
    let products = [product];
    let concerns = all(&Facts { refused_events: 12, ..facts(&products) });
    let problems: Vec<_> = concerns.iter().map(|concern| &concern.problem).collect();
    let held = Problem::Held { product: "prod", reason: HoldReason::Conflict, records: 3, decide_by: None };
    let unsent = Problem::Unsent { product: "prod", obstacle: Some(&Said::Throttled), deadline: None };
    assert_eq!(problems, [&held, &Problem::NoRoom(12), &unsent]);
    assert_eq!(concerns[0].commands[0], "tallyman held --product prod");
}

#[test]
fn a_suspicious_record_says_until_when_it_can_be_sent_and_no_other_does() {
    let decide_by = Some(at("2026-11-22T14:10:00Z"));
    let held = vec![(HoldReason::Suspicious, 2), (HoldReason::Refused, 1)];
    let products = [ProductFacts { held, decide_by, ..product() }];
    let concerns = all(&facts(&products));
    let deadlines: Vec<_> = concerns
        .iter()
        .map(|concern| match concern.problem {
            Problem::Held { reason, decide_by, .. } => (reason, decide_by),
            _ => panic!("{concern:?}"),
        })
        .collect();
    assert_eq!(deadlines, [(HoldReason::Suspicious, decide_by), (HoldReason::Refused, None)]);
    let typed: Vec<_> = concerns[0].commands.iter().map(String::as_str).collect();
    assert_eq!(
        typed,
        [
            "tallyman held --product prod",
            "tallyman held retry ID --reason TEXT --by NAME",
            "tallyman held write-off ID --reason TEXT --by NAME",
        ]
    );
    assert_eq!(concerns[0].runbook, "TallymanSuspicious");
}

#[test]
fn an_hour_of_the_largest_quantity_asks_for_a_look_and_changes_no_answer() {
    let products = [ProductFacts { capped: vec![("it's".into(), 2)], ..product() }];
    let facts = facts(&products);
    let [concern] = &all(&facts)[..] else { panic!("one concern") };
    let problem = Problem::Capped { product: "prod", dimension: "it's", customers: 2 };
    assert_eq!((concern.level, &concern.problem), (Level::Warning, &problem));
    assert!(
        concern.commands[1]
            .ends_with("--dimension 'it'\\''s' --minus N --reason TEXT --by NAME --product prod")
    );
    assert_eq!(Health::of(&facts).level, Level::Good);
}

#[test]
fn the_runbook_has_a_section_for_each_concern() {
    let mut products = [1, 5, 10].map(|hours| {
        let deadline = at("2026-11-22T12:10:00Z").plus(Duration::from_hours(hours));
        ProductFacts { deadline: Some(deadline), ..kept_back(Said::Throttled) }
    });
    products[0].held = HoldReason::ALL.map(|reason| (reason, 1)).into();
    products[0].capped = vec![("gb".into(), 1)];
    let failed = Phase::Failed("disk full".into());
    let facts = Facts {
        phase: &failed,
        store_fault: Some("gone"),
        clock_fault: Some("1h ahead"),
        untold: Some("no network"),
        refused_events: 1,
        ..facts(&products)
    };
    let runbook = include_str!("../../../docs/runbook.md");
    let concerns = all(&facts);
    assert_eq!(concerns.len(), 5 + 3 + HoldReason::ALL.len() + 1);
    for concern in concerns {
        let heading = format!("\n## {}\n", concern.runbook);
        assert!(runbook.contains(&heading), "{} is not in the runbook", concern.runbook);
    }
}

#[test]
fn the_time_that_is_left_tells_which_section_of_the_runbook_to_read() {
    const HOUR: u64 = 60;
    let concern = |product: ProductFacts, minutes_left| {
        let deadline = at("2026-11-22T12:10:00Z").plus(Duration::from_mins(minutes_left));
        let products = [ProductFacts { deadline: Some(deadline), ..product }];
        all(&facts(&products)).first().map(|concern| (concern.level, concern.runbook))
    };
    let waits = || ProductFacts { unsent: 2, waits: Duration::from_mins(16), ..product() };
    assert_eq!(concern(waits(), 2 * HOUR - 1), Some((Level::Bad, "TallymanDeadlineImminent")));
    assert_eq!(concern(waits(), 2 * HOUR), Some((Level::Warning, "TallymanDeadlineNear")));
    assert_eq!(concern(waits(), 6 * HOUR - 1), Some((Level::Warning, "TallymanDeadlineNear")));
    assert_eq!(concern(waits(), 6 * HOUR), None, "AWS takes a day, and nothing keeps the records back");
    let young = ProductFacts { waits: Duration::from_mins(15), ..waits() };
    assert_eq!(concern(young, HOUR), None, "they are on their way");
    let denied = || kept_back(Said::Throttled);
    assert_eq!(concern(denied(), 7 * HOUR), Some((Level::Warning, "TallymanNoSuccess")));
    assert_eq!(concern(denied(), 1), Some((Level::Bad, "TallymanDeadlineImminent")));
}
