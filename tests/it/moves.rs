//! A mistake in the set-up can be mended: what may change, when, and by whose word.

use tallyman::internals::{Batch, Deliveries, Delivery, Faults, RecordId, RocksStore, Store};
use tallyman_client::proto::{CloseCustomerRequest, ListRecordsRequest, RecordState, UsageEvent};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home, binary},
    clock_at,
    events::{ACME, GLOBEX, event, record},
    eventually,
    raw_server::{RawServer, all_success, product_that_tells_the_time},
    sandbox,
};

const PRODUCT: &str = r#"
[[product]]
code = "prod"
identity = "account"
region = "REGION"
[[product.dimension]]
name = "requests"
"#;

/// Regions of the right form that AWS does not have.
const WRONG: &str = "us-test-1";
const RIGHT: &str = "eu-test-1";

/// An agent's home, and the server that tells it the time.
struct Mended {
    home: Home,
    clock: RawServer,
}

impl Mended {
    fn go_to(&self, region: &str) {
        self.home.configure("", &products(region, &self.clock.url), "");
    }
}

fn products(region: &str, clock: &str) -> String {
    format!("{}{}", PRODUCT.replace("REGION", region), product_that_tells_the_time(clock))
}

/// A data folder of the wrong region with two records that no call has brought to AWS, of an agent that has ended.
async fn unsent() -> Mended {
    let clock = RawServer::start(|_, request| all_success(request)).await;
    let mut home = Home::new(&products(WRONG, &clock.url), "", None);
    home.set("HOUR__GRACE", "0s");
    home.environment.push(("RES_OPTIONS".to_owned(), "timeout:1 attempts:1".to_owned()));
    let agent = home.start().await;
    for (customer, amount) in [(ACME, 3), (GLOBEX, 5)] {
        let usage = UsageEvent { product: "prod".to_owned(), ..event(customer, "requests", amount, "") };
        record(&home, vec![usage]).await.unwrap();
        let key = customer.to_owned();
        let close = CloseCustomerRequest { product: "prod".to_owned(), key, noticed_unix_seconds: 0 };
        home.customers().await.close_customer(close).await.unwrap();
    }
    waits_for(&home, WRONG).await;
    ends(agent).await;
    Mended { home, clock }
}

/// Waits until a call to the region has failed.
async fn waits_for(home: &Home, region: &str) {
    eventually("a call has failed there", async || {
        let product = home.summary().await?.products.remove(0);
        (product.last_error.contains(region) && product.records_unsent > 0).then_some(())
    })
    .await;
}

/// As a process leaves it that dies in the middle of a call: AWS may have taken the record.
fn attempt(home: &Home, record: u64) {
    let store = RocksStore::open(&home.data_dir()).unwrap();
    let mut batch = Batch::default();
    batch.put(Deliveries, RecordId(record), &Delivery::default().attempted());
    store.commit(batch).unwrap();
}

async fn is_refused(home: &Home, words: &[&str]) {
    let before = home.log().len();
    assert_eq!(home.spawn().ended().await.code(), Some(64), "{}", home.log());
    let log = home.log()[before..].to_owned();
    for word in words {
        assert!(log.contains(word), "{word} not in {log}");
    }
}

fn moves(arguments: &[&str]) -> String {
    let output = binary().arg("moves").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

async fn held(home: &Home) -> Vec<(String, String)> {
    let filter = ListRecordsRequest { state: RecordState::Held.into(), ..ListRecordsRequest::default() };
    home.records(filter).await.into_iter().map(|record| (record.quantity, record.reason)).collect()
}

async fn ends(agent: Agent) {
    assert!(agent.terminate().await.success());
}

#[tokio::test]
async fn a_wrong_region_is_mended_while_no_call_can_have_reached_aws() {
    let mended = unsent().await;
    let home = &mended.home;
    mended.go_to(RIGHT);
    let agent = home.start().await;
    waits_for(home, RIGHT).await;
    let product = home.summary().await.unwrap().products.remove(0);
    assert_eq!((product.records_unsent, product.records_held, &*product.region), (2, 0, RIGHT));
    assert!(home.log().contains("the product goes to another destination"), "{}", home.log());
    ends(agent).await;
}

#[tokio::test]
async fn after_a_call_that_may_have_reached_aws_a_person_decides_in_the_folder_of_the_stopped_agent() {
    let mended = unsent().await;
    let home = &mended.home;
    attempt(home, 1);
    mended.go_to(RIGHT);
    let folder = home.data_dir().display().to_string();
    let command =
        format!("tallyman moves allow prod --to {RIGHT} --reason TEXT --by NAME --data-dir {folder}");
    is_refused(home, &["1 of its records may have been billed in us-test-1", &command]).await;
    let order =
        ["allow", "prod", "--to", RIGHT, "--reason", "wrong region", "--by", "ann", "--data-dir", &folder];
    assert!(moves(&order).contains("may go from us-test-1 to eu-test-1"));
    assert!(moves(&["--data-dir", &folder]).contains("pending"));
    let agent = home.start().await;
    let [(quantity, reason)] = &held(home).await[..] else { panic!("{:?}", held(home).await) };
    assert!(quantity == "3" && reason.contains("outcome_unknown") && reason.contains(WRONG), "{reason}");
    assert_eq!(home.summary().await.unwrap().products[0].records_unsent, 1);
    let listed = moves(&["--address", &home.grpc]);
    for words in ["us-test-1", "eu-test-1", "ann", "done", "wrong region"] {
        assert!(listed.contains(words), "{words} not in {listed}");
    }
    ends(agent).await;
    // It was said of that one change.
    attempt(home, 2);
    mended.go_to(WRONG);
    is_refused(home, &["may have been billed in eu-test-1"]).await;
    mended.go_to(RIGHT);
    ends(home.start().await).await;
}

#[tokio::test]
async fn a_person_decides_on_the_running_agent_before_the_change() {
    let mended = unsent().await;
    let home = &mended.home;
    attempt(home, 2);
    let agent = home.start().await;
    let order = ["allow", "prod", "--to", RIGHT, "--reason", "moved", "--by", "ann", "--address", &home.grpc];
    moves(&order);
    // The agent stops in order, so that no further call is left without an answer.
    ends(agent).await;
    mended.go_to(RIGHT);
    let agent = home.start().await;
    assert_eq!(held(home).await.len(), 1);
    ends(agent).await;
}

#[tokio::test]
async fn usage_that_was_taken_for_a_test_server_is_billed_to_aws_by_a_persons_word_alone() {
    let home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 7, "")]).await.unwrap();
    agent.kill();
    let aws = ACCOUNT_PRODUCT.replace("endpoint_url = \"ENDPOINT\"", "region = \"eu-test-1\"");
    home.configure("", &aws, "");
    is_refused(&home, &["take a new data_dir", "moves allow prod-sandbox --to eu-test-1"]).await;
    let folder = home.data_dir().display().to_string();
    let order = [
        "allow",
        "prod-sandbox",
        "--to",
        "eu-test-1",
        "--reason",
        "real",
        "--by",
        "ann",
        "--data-dir",
        &folder,
    ];
    moves(&order);
    let agent = home.start().await;
    assert_eq!(home.summary().await.unwrap().products[0].dimensions[0].open, "7");
    agent.kill();
    // And what is to be billed does not end in a test.
    home.configure("", &ACCOUNT_PRODUCT.replace("ENDPOINT", "http://127.0.0.1:9"), "");
    is_refused(&home, &["to be billed in eu-test-1", "an endpoint on this machine"]).await;
}

/// The way out of docs/changing.md, where a remainder would keep a dimension in the configuration for ever.
#[tokio::test]
async fn a_dimension_with_a_remainder_leaves_the_configuration_once_its_customers_are_closed() {
    let clock = clock_at("2026-11-22T10:30:00Z", 1800.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "gb_out", 1_234_567, "")]).await.unwrap();
    eventually("all but the remainder is billed", async || {
        let product = home.summary().await?.products.remove(0);
        let gb_out = product.dimensions.into_iter().find(|dimension| dimension.name == "gb_out")?;
        (gb_out.open == "567" && gb_out.unsent == "0").then_some(())
    })
    .await;
    ends(agent).await;
    let (without, _) = ACCOUNT_PRODUCT.split_once("[[product.dimension]]\nname = \"gb_out\"").unwrap();
    home.configure("", without, &sandbox.url());
    is_refused(&home, &["usage of dimension `gb_out`", "put it back", "docs/changing.md"]).await;
    home.configure("", ACCOUNT_PRODUCT, &sandbox.url());
    let agent = home.start().await;
    let (product, key) = ("prod-sandbox".to_owned(), ACME.to_owned());
    let close = CloseCustomerRequest { product, key, noticed_unix_seconds: 0 };
    home.customers().await.close_customer(close).await.unwrap();
    eventually("nothing is open or unsent", async || {
        let summary = home.summary().await?;
        (summary.open_buckets == 0 && summary.products[0].records_unsent == 0).then_some(())
    })
    .await;
    ends(agent).await;
    home.configure("", without, &sandbox.url());
    ends(home.start().await).await;
}
