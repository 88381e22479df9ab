//! A server as a child process, and what the system says of it.

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command},
    time::{Duration, Instant},
};

/// Ends with its owner.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.spawn();
        Self { child: child.unwrap_or_else(|fault| panic!("{command:?}: {fault}")) }
    }

    /// Waits until `attempt` succeeds; panics when the process ends before, or takes long.
    pub(crate) async fn ready<T>(&mut self, attempt: impl AsyncFn() -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(ready) = attempt().await {
                return ready;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "a server ended: {ended:?}");
            assert!(Instant::now() < until, "a server does not become ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Bytes that it had the disk write.
    pub(crate) fn written(&self) -> u64 {
        self.number("io", "write_bytes:")
    }

    /// Bytes of memory that it holds.
    pub(crate) fn resident(&self) -> u64 {
        self.number("status", "VmRSS:") * 1024
    }

    fn number(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
    }

    /// Asks it to end, and waits.
    pub(crate) fn stop(mut self, signal: &str) {
        Command::new("kill").arg(format!("-{signal}")).arg(self.child.id().to_string()).status().unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while self.child.try_wait().unwrap().is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub(crate) fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
