//! `tallyman run` as a child process.

use std::{
    fs::{self, File},
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
};

use tallyman::internals::ClockSpec;
use tallyman_client::proto::{
    GetSummaryRequest, LedgerRecord, ListRecordsRequest, RecordState, Summary,
    customer_service_client::CustomerServiceClient, ledger_service_client::LedgerServiceClient,
    usage_service_client::UsageServiceClient,
};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use super::eventually;

/// One product that bills accounts, as most tests want it.
pub(crate) const ACCOUNT_PRODUCT: &str = r#"
[[product]]
code = "prod-sandbox"
identity = "account"
endpoint_url = "ENDPOINT"
[[product.dimension]]
name = "requests"
[[product.dimension]]
name = "calls"
aggregate = "count"
[[product.dimension]]
name = "gb_out"
unit = 1000000
decimals = 3
"#;

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyman"));
    command
        .env_remove("AWS_PROFILE")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

/// A data folder, a configuration, and addresses that stay the same over restarts.
pub(crate) struct Home {
    folder: TempDir,
    pub(crate) grpc: String,
    pub(crate) admin: String,
    clock: Option<ClockSpec>,
    pub(crate) extra_args: Vec<String>,
    /// Overrides of the configuration, as `TALLYMAN__SECTION__KEY`, and what else the agent shall find.
    pub(crate) environment: Vec<(String, String)>,
    is_damaged: AtomicBool,
}

impl Home {
    /// `products` is the configuration's product part; `ENDPOINT` in it becomes `endpoint`.
    pub(crate) fn new(products: &str, endpoint: &str, clock: Option<ClockSpec>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = Self {
            grpc: free_address(),
            admin: free_address(),
            folder,
            clock,
            extra_args: Vec::new(),
            environment: Vec::new(),
            is_damaged: AtomicBool::new(false),
        };
        home.configure("", products, endpoint);
        home
    }

    /// Writes the configuration anew; `sections` goes before the products.
    pub(crate) fn configure(&self, sections: &str, products: &str, endpoint: &str) {
        let text = format!(
            "[agent]\ndata_dir = \"{}\"\n[grpc]\nlisten = \"{}\"\n[admin]\nlisten = \"{}\"\n{sections}\n{}",
            self.data_dir().display(),
            self.grpc,
            self.admin,
            products.replace("ENDPOINT", endpoint),
        );
        fs::write(self.config(), text).unwrap();
    }

    /// Overrides a key of the configuration, as in `GRPC__TOKEN_FILE`.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        self.environment.push((format!("TALLYMAN__{key}"), value.to_owned()));
    }

    pub(crate) fn set_clock(&mut self, clock: ClockSpec) {
        self.clock = Some(clock);
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("tallyman.toml")
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The command that runs the agent; its log is gathered over restarts.
    pub(crate) fn command(&self) -> Command {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        let mut command = binary();
        command.arg("run").arg("--config").arg(self.config()).args(&self.extra_args);
        command.envs(self.environment.iter().cloned());
        if let Some(clock) = &self.clock {
            command.arg("--clock").arg(clock.to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command
    }

    pub(crate) fn spawn(&self) -> Agent {
        Agent { child: self.command().spawn().unwrap() }
    }

    /// Starts the agent and waits until it takes usage.
    pub(crate) async fn start(&self) -> Agent {
        let mut agent = self.spawn();
        eventually("the agent is ready", async || {
            let ended = agent.child.try_wait().unwrap();
            assert!(ended.is_none(), "the agent ended: {ended:?}\n{}", self.log());
            self.is_ready().await.then_some(())
        })
        .await;
        agent
    }

    pub(crate) async fn is_ready(&self) -> bool {
        self.admin("/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// The whole answer of the admin port.
    pub(crate) async fn admin(&self, path: &str) -> Option<String> {
        get_whole(&self.admin, path).await
    }

    /// The value of a metric line that starts with `name`, labels included.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.admin("/metrics").await?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The test has been at the data folder, so that it need not be sound in the end.
    pub(crate) fn expect_damage(&self) {
        self.is_damaged.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn channel(&self) -> Option<Channel> {
        Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap().connect().await.ok()
    }

    pub(crate) async fn usage(&self) -> UsageServiceClient<Channel> {
        UsageServiceClient::new(self.channel().await.unwrap())
    }

    pub(crate) async fn customers(&self) -> CustomerServiceClient<Channel> {
        CustomerServiceClient::new(self.channel().await.unwrap())
    }

    pub(crate) async fn summary(&self) -> Option<Summary> {
        let mut ledger = LedgerServiceClient::new(self.channel().await?);
        Some(ledger.get_summary(GetSummaryRequest {}).await.ok()?.into_inner())
    }

    pub(crate) async fn records(&self, filter: ListRecordsRequest) -> Vec<LedgerRecord> {
        let mut ledger = LedgerServiceClient::new(self.channel().await.unwrap());
        ledger.list_records(filter).await.unwrap().into_inner().records
    }

    /// Waits for records in a state, and returns the first ones.
    pub(crate) async fn wait_for_records(&self, state: RecordState) -> Vec<LedgerRecord> {
        eventually("records reach their state", async || {
            let filter = ListRecordsRequest { state: state.into(), ..ListRecordsRequest::default() };
            let records = self.records(filter).await;
            (!records.is_empty()).then_some(records)
        })
        .await
    }
}

/// Whatever a test did, its ledger is sound in the end.
impl Drop for Home {
    fn drop(&mut self) {
        let has_store = self.data_dir().join("db").exists();
        if !has_store || self.is_damaged.load(Ordering::Relaxed) || std::thread::panicking() {
            return;
        }
        let audited = binary().arg("audit").arg("--data-dir").arg(self.data_dir()).output().unwrap();
        let (out, notes) =
            (String::from_utf8_lossy(&audited.stdout), String::from_utf8_lossy(&audited.stderr));
        assert!(audited.status.success(), "{out}{notes}{}", self.log());
    }
}

pub(crate) struct Agent {
    pub(crate) child: Child,
}

impl Agent {
    /// SIGKILL: nothing is flushed, nothing is said.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, and the exit status.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        signal("TERM", self.child.id());
        self.ended().await
    }

    /// Waits for the agent to end on its own.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        eventually("the agent ends", async || self.child.try_wait().unwrap()).await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The whole answer of a small HTTP server.
async fn get_whole(address: &str, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

/// The body of its answer.
pub(crate) async fn get(address: &str, path: &str) -> Option<String> {
    let answer = get_whole(address, path).await?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
}

pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap().success());
}

/// An address to listen at, later and again after a restart. Nobody else is given its port meanwhile: it is below those
/// that the system picks for a connection, and each process counts from a place of its own.
pub(crate) fn free_address() -> String {
    const PORTS: Range<u32> = 10_240..32_768;
    const PORTS_OF_A_PROCESS: u32 = 32;
    static TAKEN: AtomicU32 = AtomicU32::new(0);

    let first = std::process::id().wrapping_mul(PORTS_OF_A_PROCESS);
    loop {
        let next = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
        let address = format!("127.0.0.1:{}", PORTS.start + next % (PORTS.end - PORTS.start));
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}
