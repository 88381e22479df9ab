//! What the environment and AWS's profiles say of where calls go: nobody listens to it.

use std::{
    fs,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tallyman_client::proto::{CloseCustomerRequest, UsageEvent};
use tokio::net::TcpListener;

use crate::support::{
    agent::{Agent, Home, binary},
    events::{ACME, event, record},
    eventually,
    raw_server::{RawServer, all_success, product_that_tells_the_time},
};

/// A region of the right form that AWS does not have, so that no call finds it, with a network or without.
const PRODUCT: &str = r#"
[[product]]
code = "prod"
identity = "account"
region = "us-test-1"
KEYS
[[product.dimension]]
name = "requests"
"#;
const HOST: &str = "metering.marketplace.us-test-1.amazonaws.com";
const ROLE: &str = "arn:aws:iam::123456789012:role/metering";

/// Somebody's emulator of AWS, which counts who connects.
struct Emulator {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Emulator {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { url, connections }
    }
}

/// The agent of a product at AWS, beside one that tells the time.
async fn home(keys: &str) -> Home {
    let clock = product_that_tells_the_time(&RawServer::start(|_, request| all_success(request)).await.url);
    let mut home = Home::new(&format!("{}{clock}", PRODUCT.replace("KEYS", keys)), "", None);
    home.set("HOUR__GRACE", "0s");
    home.environment.push(("RES_OPTIONS".to_owned(), "timeout:1 attempts:1".to_owned()));
    home
}

fn usage(customer: &str, quantity: u64) -> UsageEvent {
    UsageEvent { product: "prod".to_owned(), ..event(customer, "requests", quantity, "") }
}

/// Has usage billed at once, by the end of its customer, and returns why it is not.
async fn bill(home: &Home) -> String {
    record(home, vec![usage(ACME, 3)]).await.unwrap();
    let (product, key) = ("prod".to_owned(), ACME.to_owned());
    let close = CloseCustomerRequest { product, key, noticed_unix_seconds: 0 };
    home.customers().await.close_customer(close).await.unwrap();
    eventually("the call has failed", async || {
        let error = home.summary().await?.products.remove(0).last_error;
        (!error.is_empty()).then_some(error)
    })
    .await
}

fn profile(home: &Home, text: &str) -> (String, String) {
    let file = home.path().join("aws-config");
    fs::write(&file, text).unwrap();
    ("AWS_CONFIG_FILE".to_owned(), file.display().to_string())
}

fn check(home: &Home, arguments: &[&str]) -> Output {
    let mut command = binary();
    command.arg("check").arg("--config").arg(home.config()).args(arguments);
    command.envs(home.environment.iter().cloned()).output().unwrap()
}

#[tokio::test]
async fn no_variable_and_no_profile_sends_the_bill_elsewhere() {
    let emulator = Emulator::start().await;
    let url = &emulator.url;
    let services =
        format!("[default]\nservices = x\n[services x]\nmarketplace_metering =\n  endpoint_url = {url}\n");
    for (name, value) in [
        ("AWS_ENDPOINT_URL", url.clone()),
        ("AWS_ENDPOINT_URL_MARKETPLACE_METERING", url.clone()),
        ("AWS_USE_FIPS_ENDPOINT", "true".to_owned()),
        ("AWS_USE_DUALSTACK_ENDPOINT", "true".to_owned()),
        ("`endpoint_url` in line 2", format!("[default]\nendpoint_url = {url}\n")),
        ("`endpoint_url` in line 5", services),
        ("`use_fips_endpoint` in line 2", "[default]\nuse_fips_endpoint = true\n".to_owned()),
    ] {
        let mut home = home("").await;
        let is_variable = name.starts_with("AWS_");
        let variable = if is_variable { (name.to_owned(), value) } else { profile(&home, &value) };
        home.environment.push(variable);
        home.environment.push(("AWS_REGION".to_owned(), "eu-west-1".to_owned()));
        let agent = home.start().await;
        let error = bill(&home).await;
        assert!(error.starts_with(&format!("{HOST}: ")), "{name}: {error}");
        let product = home.summary().await.unwrap().products.remove(0);
        assert_eq!(
            (product.endpoint_url, product.region),
            (format!("https://{HOST}"), "us-test-1".to_owned())
        );
        assert!(agent.terminate().await.success());
        let told = |text: &str| text.lines().any(|line| line.contains(name) && line.contains("is not taken"));
        assert!(told(&home.log()), "{name}: {}", home.log());
        let checked = check(&home, &[]);
        assert!(checked.status.success() && told(&String::from_utf8_lossy(&checked.stderr)), "{checked:?}");
    }
    assert_eq!(emulator.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn no_variable_and_no_profile_sends_credentials_elsewhere() {
    let emulator = Emulator::start().await;
    let url = &emulator.url;
    let token = |home: &Home| {
        let file = home.path().join("web-token");
        fs::write(&file, "a-web-identity").unwrap();
        file.display().to_string()
    };
    let by_profile = format!(
        "[default]\nrole_arn = {ROLE}\nsource_profile = base\nendpoint_url = {url}\nservices = x\n[profile base]\n\
         aws_access_key_id = test\naws_secret_access_key = test\n[services x]\nsts =\n  endpoint_url = {url}\n"
    );
    let role = format!("role_arn = \"{ROLE}\"");
    for (kind, keys) in [("the configuration's role", &*role), ("web identity", ""), ("a profile's role", "")]
    {
        let mut home = home(keys).await;
        for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_ENDPOINT_URL_SSO"] {
            home.environment.push((name.to_owned(), url.clone()));
        }
        match kind {
            "web identity" => {
                let token = token(&home);
                home.environment.push(("AWS_WEB_IDENTITY_TOKEN_FILE".to_owned(), token));
                home.environment.push(("AWS_ROLE_ARN".to_owned(), ROLE.to_owned()));
            }
            "a profile's role" => {
                let profile = profile(&home, &by_profile);
                home.environment.push(profile);
            }
            _ => {}
        }
        let mut command = home.command();
        if keys.is_empty() {
            command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        }
        let agent = Agent { child: command.spawn().unwrap() };
        eventually("ready", async || home.is_ready().await.then_some(())).await;
        let error = bill(&home).await;
        // It got as far as STS, which no network of a test has.
        assert!(error.contains("dispatch failure") && error.contains("dns"), "{kind}: {error}");
        assert!(agent.terminate().await.success());
        assert!(home.log().contains("AWS_ENDPOINT_URL_STS is not taken"), "{kind}: {}", home.log());
    }
    assert_eq!(emulator.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn the_endpoint_of_sts_is_the_configurations() {
    let emulator = Emulator::start().await;
    let keys = format!("role_arn = \"{ROLE}\"\nsts_endpoint_url = \"{}\"", emulator.url);
    let home = home(&keys).await;
    let _agent = home.start().await;
    bill(&home).await;
    assert!(emulator.connections.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn the_reason_of_missing_credentials_names_the_last_place_that_was_looked_at() {
    let mut home = home("").await;
    for (name, value) in [
        ("AWS_EC2_METADATA_DISABLED", "false"),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9"),
        ("HOME", "/nowhere"),
    ] {
        home.environment.push((name.to_owned(), value.to_owned()));
    }
    let mut command = home.command();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let _agent = Agent { child: command.spawn().unwrap() };
    eventually("ready", async || home.is_ready().await.then_some(())).await;
    let error = bill(&home).await;
    assert!(error.contains("IMDS") || error.contains("metadata"), "{error}");
    assert!(error.contains("credential"), "{error}");
}

#[tokio::test]
async fn where_usage_is_and_where_it_goes_is_told_everywhere() {
    let home = home("").await;
    let printed = |home: &Home| String::from_utf8(check(home, &["--print"]).stdout).unwrap();
    let (folder, to) = (home.data_dir().display().to_string(), format!("https://{HOST} (us-test-1)"));
    let line = |state: &str| format!("# data folder {folder}: {state}");
    assert!(printed(&home).starts_with(&line("new: nothing is there yet\n")), "{}", printed(&home));
    assert!(printed(&home).contains(&format!("# product prod: {to}\n")));
    let agent = home.start().await;
    for words in [
        "the data folder is new and empty",
        &*format!("data_dir={folder}"),
        "folder=\"new\"",
        "unsent=0",
        &to,
    ] {
        assert!(home.log().contains(words), "{words}: {}", home.log());
    }
    let in_use = line(&format!("found, in use by an agent (pid {})\n", agent.child.id()));
    assert!(printed(&home).starts_with(&in_use), "{}", printed(&home));
    let status = binary().args(["status", "--address", &home.grpc]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    for words in [format!("folder     {folder} (new at this start)"), format!("endpoint   {to}")] {
        assert!(status.contains(&words), "{words}: {status}");
    }
    let page = home.admin("/").await.unwrap();
    assert!(page.contains(&format!("Sent to {HOST} in us-test-1.")) && page.contains(&folder), "{page}");
    let summary = home.admin("/api/summary").await.unwrap();
    assert!(summary.contains(&format!("\"endpoint_url\":\"https://{HOST}\"")), "{summary}");
    bill(&home).await;
    assert!(agent.terminate().await.success());
    assert!(printed(&home).contains("found, sealed up to ") && printed(&home).contains("1 record unsent"));
    let _agent = home.start().await;
    let ready = home.log().lines().rfind(|line| line.contains("ready")).unwrap().to_owned();
    assert!(ready.contains("folder=\"found\"") && ready.contains("unsent=1"), "{ready}");
    assert!(Path::new(&folder).is_absolute());
}
