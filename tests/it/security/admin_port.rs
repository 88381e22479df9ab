//! The admin port: whoever reaches it can only look, and keeps nobody else from looking.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::NOWHERE;
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, event, record},
    eventually,
    hostile::{Attack, open_files, resident_mib},
};

/// The most connections to the port.
const CONNECTIONS: usize = 64;

fn home() -> Home {
    Home::new(ACCOUNT_PRODUCT, NOWHERE, None)
}

/// The beginning of the answer to a request for a path of a host.
async fn ask(home: &Home, path: &str, host: &str) -> String {
    let mut stream = TcpStream::connect(&home.admin).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut beginning = [0; 12];
    stream.read_exact(&mut beginning).await.unwrap();
    String::from_utf8_lossy(&beginning).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_connections_are_few_and_small_and_keep_nobody_out() {
    let home = home();
    let agent = home.start().await;
    let pid = agent.child.id();
    record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap();
    let (before, files) = (resident_mib(pid), open_files(pid));
    for (kind, calls) in
        [("admin-header", "1"), ("admin-h2", "199"), ("admin-viewer", "1"), ("admin-unread", "2000")]
    {
        let attack = Attack::start(kind, &home.admin, pid, &["--connections", "150", "--calls", calls]).await;
        for path in ["/livez", "/readyz", "/metrics", "/", "/api/summary", "/api/events"] {
            assert!(ask(&home, path, "localhost").await.ends_with("200"), "{path} beside {kind}");
        }
        record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap();
        let opened = open_files(pid).saturating_sub(files);
        assert!(opened <= CONNECTIONS + 10, "{kind}: {opened} files more than before");
        let grown = resident_mib(pid).saturating_sub(before);
        assert!(grown <= 40, "{kind}: {grown} MiB more than before");
        attack.end();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_does_not_end_is_not_waited_for() {
    let home = home();
    let agent = home.start().await;
    let files = open_files(agent.child.id());
    let attack = Attack::start("admin-header", &home.admin, agent.child.id(), &["--connections", "20"]).await;
    eventually("all are open", async || (open_files(agent.child.id()) >= files + 20).then_some(())).await;
    eventually("all are closed", async || (open_files(agent.child.id()) <= files + 1).then_some(())).await;
    drop(attack);
}

#[tokio::test]
async fn a_page_of_somebody_elses_name_is_told_nothing() {
    let mut home = home();
    home.set("ADMIN__HOSTS__0", "ops.example.com");
    let _agent = home.start().await;
    for path in ["/", "/metrics", "/api/summary", "/api/events"] {
        for host in ["evil.example", "evil.example:7451", "127.0.0.1.evil.example"] {
            assert!(ask(&home, path, host).await.ends_with("421"), "{path} of {host}");
        }
        for host in ["127.0.0.1:7451", "localhost", "tallyman", "tallyman.billing.svc", "ops.example.com"] {
            assert!(ask(&home, path, host).await.ends_with("200"), "{path} of {host}");
        }
    }
    for probe in ["/livez", "/readyz"] {
        assert!(ask(&home, probe, "evil.example").await.ends_with("200"), "{probe}");
    }
}
