//! The real agent, which bills a sandbox.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use tallyman_client::proto::{GetSummaryRequest, ledger_service_client::LedgerServiceClient};

use super::{Running, channel};
use crate::{
    process::{Process, free_address},
    results::Subject,
};

pub(crate) async fn start(subject: Subject, program: &Path, folder: &Path) -> Running {
    let (address, admin) = (free_address(), free_address());
    fs::create_dir(folder).unwrap();
    let config = folder.join("tallyman.toml");
    fs::write(&config, CONFIG.replace("DATA", folder.join("data").to_str().unwrap())).unwrap();
    let mut command = Command::new(program);
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
            summary.accepting.then_some(())
        })
        .await;
    Running { subject, address, process }
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
