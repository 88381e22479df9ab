//! The real agent, as its process shows itself.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{
    Figures,
    harness::{Shape, config_text, mebibytes},
};

/// What an agent takes that has done nothing yet.
pub(crate) fn idle_mebibytes() -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let shape = Shape { customers: 1, dimensions: 3 };
    let agent = Agent::start(shape, folder.path());
    sleep(Duration::from_secs(2));
    agent.mebibytes()
}

/// The start of an agent on what a killed one left.
pub(crate) fn start(shape: Shape, folder: &Path) -> Figures {
    let log = log_bytes(&folder.join("db"));
    let agent = Agent::start(shape, folder);
    [
        ("log_mib", log as f64 / f64::from(1 << 20)),
        ("ready_s", agent.took.as_secs_f64()),
        ("ready_mib", agent.mebibytes()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// What has to be read again.
fn log_bytes(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| fs::metadata(path).unwrap().len()).sum()
}

struct Agent {
    child: Child,
    took: Duration,
}

impl Agent {
    fn start(shape: Shape, folder: &Path) -> Self {
        let [grpc, admin] = [(); 2].map(|()| free_address());
        let file = folder.join("tallyman.toml");
        fs::write(&file, config_text(shape, folder, [&grpc, &admin])).unwrap();
        let begun = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallyman"));
        command.args(["run", "--sandbox", "--config"]).arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let mut agent = Self { child: command.spawn().unwrap(), took: Duration::ZERO };
        while !is_ready(&admin) {
            assert!(agent.child.try_wait().unwrap().is_none(), "the agent has ended");
            sleep(Duration::from_millis(10));
        }
        agent.took = begun.elapsed();
        agent
    }

    fn mebibytes(&self) -> f64 {
        mebibytes(&self.child.id().to_string())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn is_ready(admin: &str) -> bool {
    let mut answer = String::new();
    let asked = TcpStream::connect(admin).and_then(|mut connection| {
        connection.write_all(b"GET /readyz HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n")?;
        connection.read_to_string(&mut answer)
    });
    asked.is_ok() && answer.starts_with("HTTP/1.1 200")
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
