//! The real agent, which bills a sandbox.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use tallyman::base::proto::{GetSummaryRequest, ledger_service_client::LedgerServiceClient};

use super::channel;
use crate::process::{Process, free_address};

pub(crate) struct Tallyman {
    pub(crate) process: Process,
    pub(crate) address: String,
}

impl Tallyman {
    pub(crate) async fn start(folder: &Path) -> Self {
        let (address, admin) = (free_address(), free_address());
        let config = folder.join("tallyman.toml");
        let data = folder.join("data");
        fs::write(&config, CONFIG.replace("DATA", data.to_str().unwrap())).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallyman"));
        command
            .args(["run", "--sandbox", "--config"])
            .arg(&config)
            .env("TALLYMAN__GRPC__LISTEN", &address)
            .env("TALLYMAN__ADMIN__LISTEN", &admin)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(folder.join("log")).unwrap());
        let mut process = Process::start(&mut command);
        process
            .ready(async || {
                let mut ledger = LedgerServiceClient::new(channel(&address).await?);
                let summary = ledger.get_summary(GetSummaryRequest {}).await.ok()?.into_inner();
                (summary.accepting && summary.sandbox).then_some(())
            })
            .await;
        Self { process, address }
    }
}

const CONFIG: &str = r#"
[agent]
data_dir = "DATA"
[[product]]
code = "benchproduct"
identity = "account"
[[product.dimension]]
name = "requests"
"#;
