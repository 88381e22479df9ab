//! Peers that this project did not write: grpcio, boto3 and moto.

use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tallyman::internals::{Clock, ClockSpec, Faults};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, free_address},
    clock_at,
    events::{event, record},
    eventually,
    python::{interpreter, python, root},
    sandbox,
};

fn passes(mut command: Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_speaks_to_the_agent() {
    let home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
    let _agent = home.start().await;
    let mut client = python("tests/python/grpcio_client.py");
    client.arg("--agent").arg(&home.grpc).arg("--proto-dir").arg(root().join("proto"));
    passes(client);
}

const SANDBOX_PAGE: &str = "docs/sandbox.md";

/// A page's code blocks of one language. There are some.
fn blocks_of(page: &str, language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join(page)).unwrap();
    let fence = format!("```{language}\n");
    assert!(text.contains(&fence), "{page} has no {language}");
    let blocks = text.split(&fence).skip(1);
    blocks.map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_in_the_readme_works_as_it_stands() {
    let home = Home::new(
        &ACCOUNT_PRODUCT.replace("identity = \"account\"", "identity = \"customer_identifier\""),
        "http://127.0.0.1:9",
        None,
    );
    let _agent = home.start().await;
    let block =
        blocks_of("README.md", "python").into_iter().find(|block| block.contains("RecordRequest")).unwrap();
    let script = home.path().join("readme.py");
    std::fs::write(&script, block.replace("127.0.0.1:7450", &home.grpc)).unwrap();
    let folder = home.path().display();
    let mut stubs = Command::new(interpreter());
    stubs.args(["-m", "grpc_tools.protoc", "-I"]).arg(root().join("proto"));
    stubs.args([format!("--python_out={folder}"), format!("--grpc_python_out={folder}")]);
    stubs.arg("tallyman/v1/tallyman.proto");
    passes(stubs);
    let mut example = Command::new(interpreter());
    example.arg(&script).env("PYTHONPATH", home.path());
    assert_eq!(passes(example), "", "nothing is rejected");
    assert_eq!(home.summary().await.unwrap().products[0].dimensions[2].open, "5000000");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_in_its_page_works_as_it_stands() {
    let (sandbox, _tasks) =
        sandbox(ClockSpec::starting_now(Clock::SYSTEM.now(), 1.0), Faults::default()).await;
    let block = blocks_of(SANDBOX_PAGE, "python").remove(0);
    let mut example = Command::new(interpreter());
    example.arg("-c").arg(block.replace("http://127.0.0.1:7460", &sandbox.url()));
    assert_eq!(passes(example), "");
    assert_eq!(sandbox.billed().len(), 1);
    for block in blocks_of(SANDBOX_PAGE, "json") {
        serde_json::from_str::<Faults>(&block).unwrap();
    }
}

#[test]
fn the_rust_in_the_readme_is_the_example() {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let example = words(&std::fs::read_to_string(root().join("client/examples/send_usage.rs")).unwrap());
    for block in blocks_of("README.md", "rust") {
        assert!(example.contains(&words(&block)), "not in the example:\n{block}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_finds_the_sandbox_as_strict_as_aws() {
    let address = free_address();
    let mut sandbox = crate::support::agent::binary();
    sandbox.args(["sandbox", "--listen", &address, "--log", "warn"]);
    let _sandbox = Ended(sandbox.spawn().unwrap());
    eventually("the sandbox listens", async || tokio::net::TcpStream::connect(&address).await.ok()).await;
    let mut boto3 = python("tests/python/boto3_sandbox.py");
    boto3.arg("--endpoint").arg(format!("http://{address}"));
    passes(boto3);
}

/// Kills the child at the end of the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct Moto {
    _process: Ended,
    url: String,
    spy: String,
}

impl Moto {
    /// Starts moto with subscribed customers.
    async fn start(home: &Home, customers: &str) -> Self {
        let port_file = home.path().join("moto.json");
        let mut moto = python("tests/python/moto_server.py");
        moto.arg("--port-file").arg(&port_file).args(["--product", "prod-moto", "--customers", customers]);
        moto.stdin(Stdio::piped()).stdout(Stdio::null());
        let process = Ended(moto.spawn().unwrap());
        let ports: Value = eventually("moto listens", async || {
            serde_json::from_slice(&std::fs::read(&port_file).ok()?).ok()
        })
        .await;
        let (url, spy) =
            (format!("http://127.0.0.1:{}", ports["moto"]), format!("127.0.0.1:{}", ports["spy"]));
        Self { _process: process, url, spy }
    }

    async fn spy(&self, path: &str) -> Value {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(&self.spy).await.unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nhost: test\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
    }
}

const MOTO_PRODUCT: &str = r#"
[[product]]
code = "prod-moto"
identity = "customer_identifier"
endpoint_url = "ENDPOINT"
sts_endpoint_url = "ENDPOINT"
role_arn = "arn:aws:iam::123456789012:role/metering"
external_id = "an-external-id"
[[product.dimension]]
name = "requests"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn moto_accepts_the_agent_under_an_assumed_role() {
    let mut home = Home::new(MOTO_PRODUCT, "http://127.0.0.1:9", None);
    let moto = Moto::start(&home, "alpha,beta").await;
    home.configure("", MOTO_PRODUCT, &moto.url);
    // Begun only now, and long enough before the hour's end for the agent to start: else the usage is the next hour's.
    home.set_clock(clock_at("2026-11-22T10:45:00Z", 240.0));
    let _agent = home.start().await;
    let events = vec![
        event("alpha", "requests", 3, ""),
        event("beta", "requests", 4, ""),
        event("gamma", "requests", 5, ""),
    ];
    assert_eq!(record(&home, events).await.unwrap().accepted, 3);
    eventually("the subscribed are billed, and the other is held", async || {
        let product = home.summary().await?.products.remove(0);
        (product.records_accepted >= 2 && product.records_held == 1).then_some(())
    })
    .await;
    let billed = moto.spy("/billed").await;
    let quantity = |customer: &str| {
        let lines = billed.as_array().unwrap().iter();
        let lines =
            lines.filter(|line| line["customer_identifier"] == customer && line["status"] == "Success");
        lines.filter_map(|line| line["quantity"].as_u64()).sum::<u64>()
    };
    assert_eq!((quantity("alpha"), quantity("beta"), quantity("gamma")), (3, 4, 0), "{billed}");
    let roles = moto.spy("/assumed_roles").await.to_string();
    assert!(roles.contains("role/metering") && roles.contains("an-external-id"), "{roles}");
}
