//! Since when a customer is billed, and under which license: through the real binary, against the sandbox.

use std::time::Duration;

use tallyman::internals::{
    BilledRecord, Clock, ClockSpec, Faults, Hour, Sandbox, SandboxOptions, Tasks, Timestamp,
};
use tallyman_client::proto::{
    Customer, GetCustomerRequest, LedgerRecord, ListRecordsRequest, PutCustomerRequest, RecordState,
    UsageEvent, rejection::Reason,
};
use tonic::{Code, Status};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary, free_address},
    clock_at,
    events::{ACME, GLOBEX, event, record},
    eventually, sandbox,
};

const LICENSE_PRODUCT: &str = r#"
[[product]]
code = "prod-sandbox"
identity = "license"
endpoint_url = "ENDPOINT"
[[product.dimension]]
name = "requests"
"#;

const SEATS: &str = r#"
[[product]]
code = "prod-sandbox"
identity = "account"
endpoint_url = "ENDPOINT"
[[product.dimension]]
name = "seats"
aggregate = "latest"
hold = true
"#;

struct Scene {
    sandbox: Sandbox,
    home: Home,
    clock: ClockSpec,
    _tasks: Tasks,
}

impl Scene {
    async fn new(product: &str, clock: ClockSpec) -> Self {
        let (sandbox, tasks) = sandbox(clock, Faults::default()).await;
        let mut home = Home::new(product, &sandbox.url(), Some(clock));
        home.set("HOUR__GRACE", "2m");
        Self { sandbox, home, clock, _tasks: tasks }
    }

    fn now(&self) -> Timestamp {
        Clock::new(self.clock).now()
    }

    /// Registers a customer: of a license, or of the account that is its key.
    async fn put(&self, key: &str, license: Option<&str>, since: Option<Timestamp>) -> Result<(), Status> {
        let customer = Customer {
            key: key.to_owned(),
            account_id: license.map_or(key, |_| ACME).to_owned(),
            license_arn: license.map(arn).unwrap_or_default(),
            since_unix_seconds: since.map_or(0, Timestamp::seconds),
            ..Customer::default()
        };
        let put = PutCustomerRequest { customer: Some(customer) };
        self.home.customers().await.put_customer(put).await.map(drop)
    }

    async fn license_of(&self, key: &str) -> String {
        let get = GetCustomerRequest { key: key.to_owned(), ..GetCustomerRequest::default() };
        self.home.customers().await.get_customer(get).await.unwrap().into_inner().license_arn
    }

    /// The configuration names the customer, and its license.
    fn configure(&self, key: &str, license: &str, endpoint: &str) {
        let arn = arn(license);
        let customer = format!(
            "[[product.customer]]\nkey = \"{key}\"\naccount_id = \"{ACME}\"\nlicense_arn = \"{arn}\"\n"
        );
        self.home.configure("", &format!("{LICENSE_PRODUCT}{customer}"), endpoint);
    }

    async fn held(&self) -> Vec<LedgerRecord> {
        let filter = ListRecordsRequest { state: RecordState::Held.into(), ..Default::default() };
        self.home.records(filter).await
    }

    /// The records of a license in the order of their hours.
    fn billed_to(&self, license: &str) -> Vec<BilledRecord> {
        let all = self.sandbox.billed().into_iter();
        all.filter(|record| record.license_arn == arn(license)).collect()
    }

    /// What is billed to a license, and how much.
    fn units(&self, license: &str) -> u64 {
        self.billed_to(license).iter().map(units).sum()
    }
}

fn arn(license: &str) -> String {
    format!("arn:aws:license-manager::{ACME}:license:{license}")
}

fn units(record: &BilledRecord) -> u64 {
    record.quantity.micros() / 1_000_000
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn nanos(moment: Timestamp) -> u64 {
    u64::try_from(moment.millis()).unwrap() * 1_000_000
}

fn timed(customer: &str, dimension: &str, quantity: u64, nanos: u64) -> UsageEvent {
    UsageEvent { time_unix_nano: nanos, ..event(customer, dimension, quantity, "") }
}

#[tokio::test]
async fn a_license_replaced_in_mid_hour_is_billed_for_its_part() {
    let scene = Scene::new(LICENSE_PRODUCT, clock_at("2026-11-22T10:05:00Z", 300.0)).await;
    let agent = scene.home.start().await;
    scene.put("acme", Some("l-1"), None).await.unwrap();
    record(&scene.home, vec![event("acme", "requests", 7, "")]).await.unwrap();
    let before = scene.now();
    scene.put("acme", Some("l-2"), None).await.unwrap();
    let after = scene.now();
    agent.kill();
    let _agent = scene.home.start().await;
    let taken = scene.put("globex", Some("l-1"), None).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "its slot is taken: {taken:?}");
    record(&scene.home, vec![event("acme", "requests", 5, "")]).await.unwrap();

    eventually("the new license is billed", async || (scene.units("l-2") == 5).then_some(())).await;
    let [old, new] = ["l-1", "l-2"].map(|license| scene.billed_to(license).remove(0));
    assert_eq!((units(&old), units(&new)), (7, 5), "each is billed for what it used");
    assert_eq!((old.hour, old.timestamp), (Hour::containing(before), Hour::containing(before).start()));
    assert_eq!(new.hour, old.hour, "two records of one hour");
    let second = Duration::from_secs(1);
    assert!(before.minus(second) <= new.timestamp && new.timestamp <= after, "{new:?}");
    let later = new.hour.next();
    eventually("the next hour is billed", async || {
        scene.billed_to("l-2").iter().any(|record| record.hour == later).then_some(())
    })
    .await;
    assert_eq!((scene.units("l-1"), scene.units("l-2")), (7, 5));
    assert_eq!(scene.billed_to("l-1").len(), 1, "no zeros of a license that was replaced");
    assert_eq!(scene.held().await, []);
}

#[tokio::test]
async fn what_may_be_of_either_license_waits_for_a_person() {
    let scene = Scene::new(LICENSE_PRODUCT, clock_at("2026-11-22T10:05:00Z", 300.0)).await;
    let _agent = scene.home.start().await;
    scene.put("acme", Some("l-1"), None).await.unwrap();
    record(&scene.home, vec![event("acme", "requests", 7, "")]).await.unwrap();
    let since = at("2026-11-22T10:06:00Z");
    eventually("that moment is over", async || (scene.now().since(since).as_secs() > 1).then_some(())).await;
    scene.put("acme", Some("l-2"), Some(since)).await.unwrap();
    record(&scene.home, vec![event("acme", "requests", 5, "")]).await.unwrap();
    let held = scene.held().await.remove(0);
    assert!(held.reason.starts_with("replaced") && held.usage == "7", "{held:?}");
    let decide = ["held", "carry", &held.id.to_string(), "--reason", "told by AWS", "--by", "ann"];
    let decided =
        binary().args(decide).arg("--address").arg(format!("http://{}", scene.home.grpc)).output().unwrap();
    assert!(decided.status.success(), "{decided:?}");
    eventually("all is billed to the new one", async || (scene.units("l-2") == 12).then_some(())).await;
    let new = scene.billed_to("l-2").remove(0);
    assert_eq!((new.timestamp, scene.units("l-1")), (since, 0));
}

#[tokio::test]
async fn a_license_that_is_changed_in_the_file_counts_from_that_start_on() {
    let scene = Scene::new(LICENSE_PRODUCT, clock_at("2026-11-22T10:05:00Z", 300.0)).await;
    for (license, quantity) in [("l-1", 7), ("l-2", 5)] {
        scene.configure("acme", license, &scene.sandbox.url());
        let agent = scene.home.start().await;
        record(&scene.home, vec![event("acme", "requests", quantity, "")]).await.unwrap();
        agent.kill();
    }
    let _agent = scene.home.start().await;
    let both = || (scene.units("l-1"), scene.units("l-2"));
    eventually("both are billed", async || (both() == (7, 5)).then_some(())).await;
}

#[tokio::test]
async fn a_license_that_is_changed_while_the_time_is_not_known_waits_for_it() {
    let clock = clock_at("2026-11-22T10:05:00Z", 300.0);
    let scene = Scene::new(LICENSE_PRODUCT, clock).await;
    let address = free_address();
    let mut agents = Vec::new();
    for license in ["l-1", "l-2"] {
        drop(agents.pop());
        scene.configure("acme", license, &format!("http://{address}"));
        agents.push(scene.home.start().await);
        record(&scene.home, vec![event("acme", "requests", 7, "")]).await.unwrap();
        assert_eq!(scene.license_of("acme").await, arn("l-1"), "no one has told the time");
    }
    let unknown = scene.put("acme", Some("l-3"), None).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unavailable, "{unknown:?}");
    let (listen, tasks) = (address.parse().unwrap(), Tasks::default());
    let options = SandboxOptions {
        listen,
        clock: Clock::new(clock),
        config: None,
        faults: Faults::default(),
        seed: fastrand::u64(..),
    };
    let sandbox = Sandbox::start(options, &tasks).await.unwrap();
    eventually("the license is changed", async || {
        (scene.license_of("acme").await == arn("l-2")).then_some(())
    })
    .await;
    record(&scene.home, vec![event("acme", "requests", 5, "")]).await.unwrap();
    let both = || {
        let of = |license: &str| {
            let all = sandbox.billed().into_iter().filter(|record| record.license_arn == arn(license));
            all.map(|record| units(&record)).sum::<u64>()
        };
        (of("l-1"), of("l-2"))
    };
    eventually("both are billed", async || (both() == (14, 5)).then_some(())).await;
}

#[tokio::test]
async fn usage_from_before_the_subscription_is_not_billed() {
    let scene = Scene::new(ACCOUNT_PRODUCT, clock_at("2026-11-22T10:35:00Z", 200.0)).await;
    let agent = scene.home.start().await;
    let since = at("2026-11-22T10:30:00Z");
    let [trial, paid] = ["2026-11-22T10:29:59Z", "2026-11-22T10:30:00Z"].map(|time| nanos(at(time)));
    scene.put(ACME, None, Some(since)).await.unwrap();
    let events = vec![timed(ACME, "requests", 70, trial), timed(ACME, "requests", 7, paid)];
    let answer = record(&scene.home, events).await.unwrap();
    assert_eq!((answer.accepted, answer.rejected.len()), (1, 1), "{answer:?}");
    assert_eq!((answer.rejected[0].index, answer.rejected[0].reason()), (0, Reason::BeforeSince));
    // Of this one nobody knew since when, and so it was taken.
    record(&scene.home, vec![timed(GLOBEX, "requests", 50, trial)]).await.unwrap();
    scene.put(GLOBEX, None, Some(since)).await.unwrap();
    agent.kill();
    let _agent = scene.home.start().await;
    record(&scene.home, vec![timed(GLOBEX, "requests", 5, paid)]).await.unwrap();

    let ten = Hour::containing(since);
    let requests = |key: &str| {
        let is_it = |record: &BilledRecord| record.account_id == key && record.dimension == "requests";
        scene.sandbox.billed().into_iter().find(|record| is_it(record) && record.hour == ten)
    };
    let billed = eventually("the hour is billed", async || requests(ACME)).await;
    assert_eq!((units(&billed), billed.timestamp), (7, since));
    let held = eventually("what may be from before is held", async || scene.held().await.pop()).await;
    assert!(
        held.reason.starts_with("before_since") && held.customer == GLOBEX && held.usage == "55",
        "{held:?}"
    );
    assert_eq!(requests(GLOBEX), None);
}

#[tokio::test]
async fn an_old_level_that_comes_late_never_stands_again() {
    let scene = Scene::new(SEATS, clock_at("2026-11-22T10:40:00Z", 300.0)).await;
    let agent = scene.home.start().await;
    let millisecond = nanos(at("2026-11-22T10:40:00.123Z"));
    // Two of one millisecond, the later one first; and a level that has ended.
    let levels = vec![timed(ACME, "seats", 9, millisecond + 2), timed(GLOBEX, "seats", 0, millisecond + 2)];
    record(&scene.home, levels).await.unwrap();
    agent.kill();
    let _agent = scene.home.start().await;
    let late = || vec![timed(ACME, "seats", 4, millisecond + 1), timed(GLOBEX, "seats", 8, millisecond + 1)];
    record(&scene.home, late()).await.unwrap();
    let seats = |key: &str, hour: Hour| {
        let mut all = scene.sandbox.billed().into_iter();
        let of_hour = all.find(|record| record.account_id == key && record.hour == hour);
        of_hour.map(|record| units(&record))
    };
    let ten = Hour::containing(at("2026-11-22T10:00:00Z"));
    let both = |hour| Some((seats(ACME, hour)?, seats(GLOBEX, hour)?));
    assert_eq!(eventually("the hour is billed", async || both(ten)).await, (9, 0));
    // Now they count in the next hour, which has begun with the levels of this one.
    let answer = record(&scene.home, late()).await.unwrap();
    assert_eq!(answer.late, 2, "{answer:?}");
    for hour in [ten.next(), ten.next().next()] {
        assert_eq!(eventually("the hour is billed", async || both(hour)).await, (9, 0), "{hour}");
    }
}
