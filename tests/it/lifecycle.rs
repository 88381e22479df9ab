//! Starting, stopping, failing, and starting again.

use std::time::Duration;

use tallyman::internals::Faults;
use tallyman_client::proto::{Customer, LedgerRecord, ListRecordsRequest, PutCustomerRequest, RecordState};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    clock_at,
    events::{ACME, billed_units, event, record},
    eventually, fast_clock, sandbox,
};

const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn a_second_agent_on_the_same_folder_is_refused_with_the_pid_of_the_first() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let first = home.start().await;
    let mut other = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    other.set("AGENT__DATA_DIR", &home.data_dir().display().to_string());
    let status = other.spawn().ended().await;
    assert_eq!(status.code(), Some(75));
    assert!(other.log().contains(&format!("pid {}", first.child.id())), "{}", other.log());
    assert!(home.is_ready().await);
}

#[tokio::test]
async fn a_second_agent_on_the_same_socket_leaves_the_first_alone() {
    let first = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let socket = first.path().join("tallyman.sock");
    let listen = format!("unix:{}", socket.display());
    let (mut first, mut second) = (first, Home::new(ACCOUNT_PRODUCT, NOWHERE, None));
    for home in [&mut first, &mut second] {
        home.set("GRPC__LISTEN", &listen);
    }
    let agent = first.start().await;
    assert_eq!(second.spawn().ended().await.code(), Some(1), "{}", second.log());
    let answers = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
    assert!(answers());
    agent.kill();
    let _agent = first.start().await;
    assert!(answers(), "a socket file that a killed agent left is no hindrance");
}

#[tokio::test]
async fn a_missing_certificate_is_told_before_the_agent_is_ready() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    home.set("GRPC__TLS__CERT", "/nowhere/cert.pem");
    home.set("GRPC__TLS__KEY", "/nowhere/key.pem");
    assert_eq!(home.spawn().ended().await.code(), Some(64));
    assert!(home.log().contains("/nowhere/cert.pem") && !home.log().contains("ready"), "{}", home.log());
}

#[tokio::test]
async fn usage_of_a_sandbox_never_goes_to_aws() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    home.extra_args.push("--sandbox".to_owned());
    let agent = home.start().await;
    assert!(agent.terminate().await.success());
    home.extra_args.clear();
    assert_eq!(home.spawn().ended().await.code(), Some(64));
    assert!(home.log().contains("belongs to the sandbox"), "{}", home.log());
}

#[test]
fn an_address_that_others_reach_is_refused_without_proof_of_who_calls() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    home.grpc = "0.0.0.0:7450".to_owned();
    home.configure("", ACCOUNT_PRODUCT, NOWHERE);
    for arguments in [&["run"][..], &["run", "--sandbox"], &["check"]] {
        let output = binary().args(arguments).arg("--config").arg(home.config()).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        for words in ["grpc.listen", "grpc.tls with client_ca", "grpc.token_file", "unix:/path"] {
            assert!(text.contains(words), "{arguments:?} does not say {words}: {text}");
        }
    }
    assert!(!home.data_dir().exists(), "nothing was begun");
}

#[tokio::test]
async fn a_health_check_tells_an_agent_that_takes_usage_from_one_that_does_not_and_from_none() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    home.expect_damage();
    let status = |arguments: &[&str]| {
        let output = binary().arg("status").args(arguments).args(["--address", &home.grpc]).output().unwrap();
        output.status.code()
    };
    assert_eq!(status(&["--ready"]), Some(75));
    let _agent = home.start().await;
    assert_eq!(status(&["--ready"]), Some(0));
    std::fs::remove_dir_all(home.data_dir()).unwrap();
    record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap_err();
    assert_eq!((status(&["--ready"]), status(&[])), (Some(1), Some(0)), "without --ready it only shows");
}

#[test]
fn a_bad_configuration_is_refused_with_every_fault_at_once() {
    let home = Home::new("[[product]]\ncode = \"a b\"\nidentitty = \"license\"\n", NOWHERE, None);
    for command in ["run", "check"] {
        let output = binary().arg(command).arg("--config").arg(home.config()).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{command}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        for fault in ["product.0.code", "product.0.identitty", "product.0.dimension", "tallyman.toml"] {
            assert!(text.contains(fault), "{command} does not name {fault}: {text}");
        }
    }
    let missing = binary().args(["run", "--config", "/nowhere/tallyman.toml"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(64));
}

#[tokio::test]
async fn another_clock_is_refused_without_a_sandbox() {
    let home = Home::new(ACCOUNT_PRODUCT, "https://metering.example.com", Some(fast_clock(10.0)));
    assert_eq!(home.spawn().ended().await.code(), Some(64), "{}", home.log());
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_while_it_starts_ends_at_once() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let mut delay = 0;
    eventually("the signal comes between the first look for it and the end of the start", async || {
        let agent = home.spawn();
        delay = (delay + 1) % 200;
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let status = agent.terminate().await;
        // Without a code, it came before the agent looked for it.
        assert!(matches!(status.code(), Some(0) | None), "{status:?} {}", home.log());
        home.log().contains("before the agent was ready").then_some(())
    })
    .await;
}

#[tokio::test]
async fn sigterm_keeps_what_was_acknowledged_and_exits_in_order() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 41, "")]).await.unwrap();
    assert!(agent.terminate().await.success(), "{}", home.log());
    let _agent = home.start().await;
    assert_eq!(home.summary().await.unwrap().products[0].dimensions[0].open, "41");
}

#[tokio::test]
async fn a_stopping_agent_is_unready_before_it_goes() {
    use tokio::io::AsyncWriteExt;
    let (sandbox, _tasks) =
        sandbox(fast_clock(3600.0), Faults { latency: Duration::from_secs(2), ..Faults::default() }).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(fast_clock(3600.0)));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap();
    eventually("a call is under way", async || {
        let unsent = home.summary().await?.products[0].records_unsent;
        (unsent > 0).then_some(())
    })
    .await;
    crate::support::agent::signal("TERM", agent.child.id());
    let unready = eventually("un-ready", async || {
        let answer = home.admin("/readyz").await?;
        answer.starts_with("HTTP/1.1 503").then_some(answer)
    })
    .await;
    assert!(unready.contains("stopping"), "{unready}");
    // A connection that says nothing does not hold the shutdown up.
    let mut silent = tokio::net::TcpStream::connect(&home.admin).await.unwrap();
    silent.write_all(b"GET /read").await.unwrap();
    assert!(agent.terminate().await.success(), "{}", home.log());
    assert!(!sandbox.billed().is_empty(), "the call under way was not waited for");
}

#[tokio::test]
async fn days_of_down_time_leave_every_hour_in_its_place() {
    let morning = clock_at("2026-11-22T08:10:00Z", 1.0);
    let (sandbox_before, _tasks) = sandbox(morning, Faults::default()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox_before.url(), Some(morning));
    let agent = home.start().await;
    // One that usage alone has named would have no zeros before AWS has accepted something of it.
    let customer = Customer { key: ACME.to_owned(), account_id: ACME.to_owned(), ..Customer::default() };
    home.customers().await.put_customer(PutCustomerRequest { customer: Some(customer) }).await.unwrap();
    record(&home, vec![event(ACME, "requests", 7, "before")]).await.unwrap();
    agent.kill();

    // 14 hours later: the hour is long over, and still open to a resend.
    let evening = clock_at("2026-11-22T22:10:00Z", 600.0);
    let (sandbox, _tasks) = sandbox(evening, Faults::default()).await;
    home.set_clock(evening);
    home.configure("", ACCOUNT_PRODUCT, &sandbox.url());
    let _agent = home.start().await;
    let eight = "2026-11-22T08:00:00Z".parse::<tallyman::internals::Timestamp>().unwrap();
    let time_unix_nano = u64::try_from(eight.millis()).unwrap() * 1_000_000;
    let resent =
        tallyman_client::proto::UsageEvent { time_unix_nano, ..event(ACME, "requests", 7, "before") };
    let unsent = tallyman_client::proto::UsageEvent { time_unix_nano, ..event(ACME, "requests", 5, "after") };
    let answer = record(&home, vec![resent, unsent]).await.unwrap();
    assert_eq!((answer.accepted, answer.duplicates, answer.late), (1, 1, 0));
    eventually("all ended hours are billed", async || {
        let summary = home.summary().await?;
        let sealed = summary.sealed_through_unix_seconds >= eight.seconds() + 13 * 3600;
        (sealed && summary.products[0].records_unsent == 0).then_some(())
    })
    .await;
    let hours: Vec<_> =
        sandbox.billed().into_iter().filter(|record| record.dimension == "requests").collect();
    let first = &hours[0];
    assert_eq!((first.hour.start(), first.quantity.to_string()), (eight, "12".to_owned()));
    let zeros = hours.iter().filter(|record| record.quantity.is_zero()).count();
    assert!(zeros >= 13, "an hour without usage is a zero record: {zeros}");
}

#[tokio::test]
async fn usage_past_its_deadline_rolls_forward_and_keeps_its_origin() {
    let before = clock_at("2026-11-20T08:10:00Z", 1.0);
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, Some(before));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 7, "")]).await.unwrap();
    agent.kill();
    let after = clock_at("2026-11-22T22:10:00Z", 900.0);
    let (sandbox, _tasks) = sandbox(after, Faults::default()).await;
    home.set_clock(after);
    home.configure("", ACCOUNT_PRODUCT, &sandbox.url());
    let _agent = home.start().await;
    let (rolled, later) = eventually("the usage is settled in a later hour", async || {
        let filter = ListRecordsRequest { dimension: "requests".to_owned(), ..Default::default() };
        let all = home.records(filter).await;
        let is_later =
            |record: &&LedgerRecord| record.carried_in == "7" && record.state() == RecordState::Accepted;
        let later = all.iter().find(is_later)?.clone();
        all.into_iter().find(|record| record.state() == RecordState::RolledForward).zip(Some(later))
    })
    .await;
    assert_eq!(billed_units(&sandbox).get(&(ACME.to_owned(), "requests".to_owned())), Some(&7));
    assert_eq!(later.origins[0].hour_unix_seconds, rolled.hour_unix_seconds);
    assert_eq!(later.usage, "0");
}

#[tokio::test]
async fn an_aggregate_may_not_change_under_open_usage() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 1_000_000_000, "")]).await.unwrap();
    agent.kill();
    let changed =
        ACCOUNT_PRODUCT.replace("name = \"requests\"", "name = \"requests\"\naggregate = \"count\"");
    home.configure("", &changed, NOWHERE);
    assert_eq!(home.spawn().ended().await.code(), Some(64));
    assert!(home.log().contains("open usage of aggregate `sum`"), "{}", home.log());
    home.configure(
        "",
        &ACCOUNT_PRODUCT.replace("name = \"calls\"\naggregate = \"count\"", "name = \"calls\""),
        NOWHERE,
    );
    let _agent = home.start().await;
}

#[tokio::test]
async fn a_product_with_usage_on_disk_may_not_leave_the_configuration() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 7, "")]).await.unwrap();
    agent.kill();
    home.configure("", &ACCOUNT_PRODUCT.replace("name = \"requests\"", "name = \"other\""), NOWHERE);
    assert_eq!(home.spawn().ended().await.code(), Some(64));
    assert!(home.log().contains("`requests`") && home.log().contains("put it back"), "{}", home.log());
}
