//! Tests of the command line as a whole: its grammar, and its commands against a server with canned answers.

mod canned;
mod finance;

use std::{net::SocketAddr, time::Duration};

use clap::CommandFactory;
use tokio::net::TcpListener;
use tonic::Status;

use super::*;
use crate::base::proto::RecordState;
use canned::{HOUR, TEN};

pub(super) use canned::{CannedAgent, accepted, adjusted, held, pending, summary};

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    parse_from(line.split_whitespace().map(Into::into))
}

#[test]
fn clap_finds_no_fault_in_the_grammar() {
    Cli::command().debug_assert();
}

#[test]
fn the_commands_of_the_interface_are_understood() {
    let lines = [
        "tallyman run --config /etc/tallyman.toml",
        "tallyman run --config /etc/tallyman.toml --sandbox --throttle 0.5 --latency 20",
        "tallyman run --clock anchor=1000,start=2026-11-30T22:00:00Z,speed=60 --log debug --log-format json",
        "tallyman demo --hours 3 --speed 900 --seed 7",
        "tallyman sandbox --listen 127.0.0.1:0 --seed 1 --config x.toml",
        "tallyman check --config x.toml --print",
        "tallyman status --address unix:/run/tallyman.sock --output json",
        "tallyman status --ready",
        "tallyman --output json records --product p --customer c --dimension d --state rolled_forward --limit 5",
        "tallyman records --from 2026-11-22T00:00:00Z --to 2026-11-23T00:00:00Z",
        "tallyman export --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --format csv --product p",
        "tallyman export --format jsonl --address localhost:1",
        "tallyman reconcile --cloudtrail a.json b.json.gz --from 2026-11-01T00:00:00Z --product p",
        "tallyman reconcile --to 2026-12-01T00:00:00Z --output json --cloudtrail -",
        "tallyman held",
        "tallyman held list --address localhost:1",
        "tallyman held retry 1 2 3 --reason mended",
        "tallyman held carry 1 --reason later --by ann",
        "tallyman held write-off 1 --reason test --address localhost:1",
        "tallyman adjust --customer acme --dimension gb --minus 5 --reason slip",
        "tallyman adjust --customer c --dimension d --minus 5 --reason r --product p --by ann --id x --tag a=b --tag c=d",
        "tallyman adjust --customer c --dimension d --minus 5 --reason r --hour 2026-11-22T10:00:00Z --timeout 1m",
        "tallyman moves",
        "tallyman moves list --data-dir /data --output json",
        "tallyman moves allow p --to eu-west-1 --reason mended --by ann --address localhost:1",
        "tallyman moves allow p --to http://localhost:1 --reason mended --by ann --data-dir /data",
        "tallyman customers --product p",
        "tallyman customers get acme --product p --token-file /run/token",
        "tallyman customers put acme --account-id 012345678901 --license-arn arn:x --since 2026-11-22T00:00:00Z",
        "tallyman customers put acme --customer-identifier abc",
        "tallyman customers close acme",
        "tallyman emit --customer acme --dimension requests",
        "tallyman emit --customer acme --dimension gb --quantity 5 --product p --event-id e --count 9 --timeout 1m",
        "tallyman emit --customer acme --dimension gb --no-event-id --time 2026-11-22T10:00:00Z",
        "tallyman bench --dimension requests --address unix:/run/tallyman.sock --output json",
        "tallyman bench --dimension requests,gb --mode unary --batch 100 --in-flight 64 --connections 2 --ids",
        "tallyman bench --dimension gb --rate 50000 --duration 1m --events 9 --customers 5 --customer-prefix c-",
        "tallyman bench --dimension gb --product p --quantity 7 --yes-bill-this",
    ];
    for line in lines {
        parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn wrong_usage_is_64_and_asking_for_help_is_no_fault() {
    let wrong = [
        "tallyman",
        "tallyman fly",
        "tallyman run --clock noon",
        "tallyman run --log loud",
        "tallyman run --throttle 0.5",
        "tallyman demo --hours 0",
        "tallyman demo --speed nan",
        "tallyman status --address nowhere",
        "tallyman records --limit 0",
        "tallyman records --state lost",
        "tallyman export --format xlsx",
        "tallyman export --from noon",
        "tallyman reconcile",
        "tallyman reconcile --cloudtrail",
        "tallyman held retry --reason mended",
        "tallyman held retry 1",
        "tallyman moves allow p --reason mended --by ann",
        "tallyman moves allow p --to eu-west-1 --by ann",
        "tallyman customers put",
        "tallyman adjust --customer acme --dimension gb --minus 5",
        "tallyman adjust --customer acme --dimension gb --reason slip",
        "tallyman adjust --customer acme --dimension gb --reason slip --minus 0",
        "tallyman adjust --customer acme --dimension gb --reason slip --minus -5",
        "tallyman emit --customer acme",
        "tallyman emit --customer acme --dimension gb --event-id e --no-event-id",
        "tallyman emit --customer acme --dimension gb --quantity -1",
        "tallyman bench",
        "tallyman bench --dimension gb --mode fast",
        "tallyman bench --dimension gb --batch 0",
        "tallyman bench --dimension gb --duration 2h",
        "tallyman bench --dimension gb --connections 0",
    ];
    for line in wrong {
        let error = parsed(line).expect_err(line);
        assert_eq!(exit_after(&error).code(), 64, "{line}: {error}");
    }
    for line in ["tallyman --help", "tallyman --version", "tallyman held write-off --help"] {
        assert_eq!(exit_after(&parsed(line).expect_err(line)), Exit::Ok, "{line}");
    }
}

#[test]
fn the_defaults_are_those_of_the_interface() {
    let Command::Demo(demo) = parsed("tallyman demo").unwrap().command else { panic!("not a demo") };
    assert_eq!((demo.hours, demo.seed), (6, None));
    assert!((demo.speed - 1200.0).abs() < f64::EPSILON);
    let Command::Sandbox(sandbox) = parsed("tallyman sandbox").unwrap().command else {
        panic!("not a sandbox")
    };
    assert_eq!(sandbox.listen, SocketAddr::from(([127, 0, 0, 1], 7460)));
    let help = Cli::command().find_subcommand_mut("status").unwrap().render_long_help().to_string();
    assert!(help.contains("127.0.0.1:7450"), "{help}");
    let help = Cli::command().find_subcommand_mut("bench").unwrap().render_long_help().to_string();
    assert!(help.contains("real usage, which an agent bills"), "{help}");
}

#[derive(Debug)]
pub(super) struct Ran {
    pub(super) exit: u8,
    pub(super) out: String,
    pub(super) notes: String,
}

pub(super) async fn run_line(line: &str, address: &str) -> Ran {
    let cli = parsed(&format!("tallyman {line} --address {address}"))
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let Command::Client(command) = cli.command else { panic!("{line} needs no agent") };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let mut printer = Printer::new(cli.output, &mut out, &mut notes);
    let result = dispatch(command, &mut printer).await;
    let exit = printer.finish(result).code();
    Ran { exit, out: String::from_utf8(out).unwrap(), notes: String::from_utf8(notes).unwrap() }
}

#[tokio::test]
async fn status_and_records_show_what_the_agent_answers() {
    let agent = CannedAgent::default();
    let address = agent.serve().await;
    let status = run_line("status", &address).await;
    assert_eq!((status.exit, status.notes.as_str()), (0, ""));
    assert!(status.out.contains("22h 48m left"), "{}", status.out);

    let records =
        run_line("records --customer acme --from 2026-11-22T08:00:00Z --state accepted", &address).await;
    assert_eq!(
        (records.exit, records.out.lines().count(), records.notes.as_str()),
        (0, 4, ""),
        "{}",
        records.out
    );
    let asked = agent.lists.lock().unwrap().clone();
    assert_eq!((asked[0].customer.as_str(), asked[0].from_unix_seconds), ("acme", TEN - 2 * HOUR));
    assert_eq!((asked[0].state(), asked[0].page_size), (RecordState::Accepted, 100));
    assert_eq!((asked[1].page_token.as_str(), asked[1].page_size), ("2", 98));

    let json = run_line("records --output json", &address).await;
    let ids: Vec<u64> = json
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [7, 8, 12]);
}

#[tokio::test]
async fn a_list_cut_short_says_so() {
    let agent = CannedAgent::default();
    let address = agent.serve().await;
    for limit in [1, 2] {
        let records = run_line(&format!("records --output json --limit {limit}"), &address).await;
        assert_eq!(records.out.lines().count(), limit);
        assert!(records.notes.contains("only the first"), "{records:?}");
    }
    assert_eq!(run_line("records --limit 3", &address).await.notes, "");
}

#[tokio::test]
async fn emit_repeats_the_same_events_until_they_are_taken() {
    let refusals = [Status::unavailable("starting"), Status::resource_exhausted("full")];
    let agent = CannedAgent::refusing(&refusals);
    let address = agent.serve().await;
    let ran = run_line("emit --customer acme --dimension gb --quantity 5 --count 3", &address).await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (0, "accepted 3, duplicates 0, late 0, rejected 0\n"),
        "{ran:?}"
    );
    let requests = agent.requests.lock().unwrap();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request == &requests[0]), "{requests:?}");
    let ids: std::collections::HashSet<&str> =
        requests[0].events.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert!(!ids.contains(""));
}

#[tokio::test]
async fn emit_sends_batches_and_names_what_was_rejected() {
    let agent = CannedAgent::default();
    let address = agent.serve().await;
    let ran =
        run_line("emit --customer acme --dimension gb --count 5 --batch 2 --event-id e", &address).await;
    assert_eq!(ran.exit, 0, "{ran:?}");
    let ids: Vec<Vec<String>> = agent
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|request| request.events.iter().map(|event| event.event_id.clone()).collect())
        .collect();
    assert_eq!(ids, [vec!["e-1", "e-2"], vec!["e-3", "e-4"], vec!["e-5"]]);

    let ran = run_line("emit --customer acme --dimension wrong --count 2", &address).await;
    assert_eq!(ran.exit, 1);
    assert!(ran.out.contains("2 events rejected, unknown_dimension: no such dimension"), "{ran:?}");
}

#[tokio::test]
async fn emit_gives_up_in_time_and_says_how_to_go_on() {
    let agent = CannedAgent::refusing(&vec![Status::unavailable("starting"); 1000]);
    let address = agent.serve().await;
    let ran = run_line("emit --customer acme --dimension gb --event-id once --timeout 300ms", &address).await;
    assert_eq!((ran.exit, ran.out.as_str()), (75, ""), "{ran:?}");
    assert!(ran.notes.contains("starting") && ran.notes.contains("--event-id once"), "{ran:?}");

    let asked = agent.requests.lock().unwrap().len();
    let ran = run_line("emit --customer acme --dimension gb --no-event-id", &address).await;
    assert_eq!(ran.exit, 75, "{ran:?}");
    assert_eq!(agent.requests.lock().unwrap().len(), asked + 1, "an event without id was sent again");
}

#[tokio::test]
async fn customers_are_listed_registered_and_refused() {
    let agent = CannedAgent::default();
    let address = agent.serve().await;
    let list = run_line("customers", &address).await;
    let expected = "\
PRODUCT  CUSTOMER  STATE   SINCE                 ACCOUNT
prod     acme      active  2026-11-22T10:00:00Z  012345678901
prod     bolt      active  2026-11-22T10:00:00Z  012345678901
";
    assert_eq!((list.exit, list.out.as_str()), (0, expected));
    let put =
        run_line("customers put acme --product p --account-id 012345678901 --output json", &address).await;
    let customer: serde_json::Value = serde_json::from_str(&put.out).unwrap();
    let expected = serde_json::json!({
        "product": "p", "key": "acme", "state": "active", "since": null, "account_id": "012345678901",
        "license_arn": null, "customer_identifier": null, "last_hour_ends": null, "not_subscribed": false,
        "verification": null, "self_named": false,
    });
    assert_eq!(customer, expected);
    for line in
        ["customers put twin --account-id 012345678901", "customers get ghost", "customers close acme"]
    {
        let refused = run_line(line, &address).await;
        assert_eq!((refused.exit, refused.out.as_str()), (1, ""), "{line}");
        assert!(refused.notes.starts_with("tallyman: "), "{refused:?}");
    }
}

#[tokio::test]
async fn held_records_are_listed_and_decided() {
    let agent = CannedAgent::default();
    let address = agent.serve().await;
    assert!(run_line("held", &address).await.out.contains("no such license"));
    let ran = run_line("held retry 1 2 --reason mended --by ann", &address).await;
    assert_eq!((ran.exit, ran.out.as_str()), (0, "2 records will be sent again\n"));
    let asked = agent.decisions.lock().unwrap()[0].clone();
    assert_eq!((asked.ids, asked.reason.as_str(), asked.decided_by.as_str()), (vec![1, 2], "mended", "ann"));
    let ran = run_line("held carry 1 --reason later --by ann", &address).await;
    assert_eq!(ran.exit, 1);
    assert!(ran.notes.contains("cannot do this: not in this version"), "{ran:?}");
    let nobody = run_line("held write-off 1 --reason later --by=", &address).await;
    assert_eq!(nobody.exit, 64);
    assert!(nobody.notes.contains("add --by NAME"), "{nobody:?}");
    assert_eq!(agent.decisions.lock().unwrap().len(), 2, "it was not even asked");
}

#[tokio::test]
async fn moves_are_listed_and_allowed() {
    let address = CannedAgent::default().serve().await;
    let listed = run_line("moves", &address).await.out;
    assert!(
        listed.contains("us-east-1") && listed.contains("pending") && listed.contains("wrong region"),
        "{listed}"
    );
    let ran = run_line("moves allow prod --to ap-south-1 --reason mended --by ann", &address).await;
    assert!(
        ran.exit == 0 && ran.out.starts_with("product prod may go from us-east-1 to ap-south-1"),
        "{ran:?}"
    );
    let ran = run_line("moves allow other --to ap-south-1 --reason mended --by ann", &address).await;
    assert!(ran.exit == 1 && ran.notes.contains("no agent has billed product `other`"), "{ran:?}");
}

#[tokio::test]
async fn a_move_in_a_folder_that_is_not_there_makes_none() {
    let folder = tempfile::tempdir().unwrap();
    let none = folder.path().join("none");
    let line = format!("moves allow prod --to eu-west-1 --reason r --by ann --data-dir {}", none.display());
    assert_eq!(run_line(&line, "localhost:1").await.exit, 74);
    assert!(!none.exists());
}

#[tokio::test]
async fn an_adjustment_is_sent_again_under_one_id_until_it_is_answered() {
    let refusals = [Status::unavailable("starting"), Status::unavailable("stopping")];
    let agent = CannedAgent::refusing(&refusals);
    let address = agent.serve().await;
    let line =
        "adjust --customer acme --dimension gb_out --minus 5000000 --reason slip --by ann --tag team=red";
    let ran = run_line(line, &address).await;
    assert_eq!((ran.exit, ran.notes.as_str()), (0, ""), "{ran:?}");
    let words = "was lowered before by 5000000 base units (adjustment 3, id adjust-1): 12 of gb_out are open for acme\n";
    assert!(ran.out.starts_with(words) && ran.out.contains("4000 of team=red"), "{ran:?}");
    let asked = agent.adjusts.lock().unwrap().clone();
    assert_eq!((asked.len(), asked[0].minus, asked[0].decided_by.as_str()), (3, 5_000_000, "ann"));
    assert!(asked[0].adjustment_id.starts_with("adjust-") && asked.iter().all(|again| *again == asked[0]));
    assert_eq!(asked[0].tags, [("team".to_owned(), "red".to_owned())].into());

    let json =
        run_line(&format!("{line} --id mine --hour 2026-11-22T09:00:00Z --output json"), &address).await;
    let answer: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&answer["amount"], &answer["left_open"]), (&"5000000".into(), &"12".into()));
    assert_eq!((&answer["number"], &answer["repeated"]), (&3.into(), &true.into()));
    let asked = agent.adjusts.lock().unwrap().last().cloned().unwrap();
    assert_eq!((asked.adjustment_id.as_str(), asked.hour_unix_seconds), ("mine", TEN - HOUR));
}

#[tokio::test]
async fn an_adjustment_that_is_refused_is_not_sent_again_and_one_without_an_answer_says_how_to_go_on() {
    let agent = CannedAgent::refusing(&[Status::failed_precondition("only 3 base units of that are open")]);
    let line = "adjust --customer acme --dimension gb --minus 5 --reason slip --by ann";
    let ran = run_line(line, &agent.serve().await).await;
    assert_eq!((ran.exit, ran.out.as_str(), agent.adjusts.lock().unwrap().len()), (1, "", 1), "{ran:?}");
    assert!(ran.notes.contains("only 3 base units"), "{ran:?}");
    let agent = CannedAgent::refusing(&vec![Status::unavailable("starting"); 1000]);
    let ran = run_line(&format!("{line} --timeout 300ms"), &agent.serve().await).await;
    let id = agent.adjusts.lock().unwrap()[0].adjustment_id.clone();
    assert_eq!(ran.exit, 75, "{ran:?}");
    assert!(ran.notes.contains(&format!("--id {id} may be repeated")), "{ran:?}");
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_worth_trying_later() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for address in [format!("127.0.0.1:{port}"), "unix:/nonexistent/tallyman.sock".to_owned()] {
        let ran = run_line("status", &address).await;
        assert_eq!(ran.exit, 75, "{ran:?}");
        assert!(ran.notes.starts_with(&format!("tallyman: cannot reach an agent at {address}: ")), "{ran:?}");
        assert!(ran.notes.ends_with("is it running?\n"), "{ran:?}");
    }
}

#[tokio::test]
async fn an_agent_is_reached_through_a_socket_with_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, token) = (folder.path().join("tallyman.sock"), folder.path().join("token"));
    std::fs::write(&token, "s3cret\n").unwrap();
    CannedAgent { token: Some("Bearer s3cret"), ..CannedAgent::default() }.serve_on_socket(&socket);
    let address = format!("unix:{}", socket.display());
    let refused = run_line("status", &address).await;
    assert_eq!(refused.exit, 64, "{refused:?}");
    assert!(refused.notes.contains("--token-file"), "{refused:?}");
    let ran = run_line(&format!("status --token-file {}", token.display()), &address).await;
    assert_eq!(ran.exit, 0, "{ran:?}");
}

#[tokio::test]
async fn a_connection_lost_in_the_midst_is_worth_trying_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let hang_up = async {
        // The agent dies once the connection is set up.
        for _ in 0..2 {
            let (connection, _) = listener.accept().await.unwrap();
            connection.readable().await.unwrap();
        }
    };
    let line = "emit --customer acme --dimension gb --event-id e --timeout 500ms";
    let ran = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(run_line(line, &address), hang_up).0
    });
    let ran = ran.await.unwrap();
    assert_eq!(ran.exit, 75, "{ran:?}");
}

#[tokio::test]
async fn an_audit_says_what_is_wrong_and_by_its_exit_code_whether_anything_is() {
    let address = CannedAgent::default().serve().await;
    let sound = run_line("audit", &address).await;
    assert_eq!((sound.exit, sound.notes.as_str()), (0, ""));
    assert!(sound.out.starts_with("everything is in its place: 3 records, 0 open buckets"), "{}", sound.out);
    assert!(sound.out.contains("7:ab"), "{}", sound.out);
    let hash = "0".repeat(64);
    let faulty = run_line(&format!("audit --noted 2:{hash}"), &address).await;
    assert_eq!(faulty.exit, 1);
    for part in ["I2", "acme", "-5", "it is not there", "2 faults in 3 records"] {
        assert!(faulty.out.contains(part), "no {part} in {}", faulty.out);
    }
    assert!(faulty.notes.contains("1 more"), "{}", faulty.notes);
    let json = run_line(&format!("audit --output json --noted 2:{hash}"), &address).await;
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&report["sound"], &report["faults"][0]["amount"]), (&false.into(), &"-5".into()));
    for wrong in ["audit --noted 2", &format!("audit --noted 0:{hash}"), "audit --noted 2:xyz"] {
        assert!(parsed(&format!("tallyman {wrong}")).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_folder_without_a_store_is_refused_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("data");
    let refused = run_line(&format!("audit --data-dir {}", missing.display()), "127.0.0.1:1").await;
    assert_eq!(refused.exit, 74);
    assert!(refused.notes.contains("No such file"), "{}", refused.notes);
    assert!(!missing.exists());
}
