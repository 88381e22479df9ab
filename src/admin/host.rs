//! Which requests may have been meant for this agent, by their `Host`.
//!
//! A web page in an operator's browser can have the name of its own server point at the agent (DNS rebinding); the
//! browser then lets it read what the agent answers. But the request still names the page's host. So a name that
//! somebody could own in the public DNS must be in the configuration. Addresses, and names that are only known on a
//! machine, in a cluster or in a private network, cannot be such a page's.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header::HOST},
    middleware::Next,
    response::{IntoResponse, Response},
};

/// Ends of names that the public DNS does not have. Kubernetes names services `x.y.svc`.
const PRIVATE: [&str; 4] = [".localhost", ".svc", ".cluster.local", ".internal"];

/// Names of this agent, besides those that nobody else can have.
pub(super) type Hosts = Arc<BTreeSet<String>>;

/// Refuses a request that was meant for another host.
pub(super) async fn refuse_others(State(hosts): State<Hosts>, request: Request, next: Next) -> Response {
    let named = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    for host in named.chain(authority) {
        let host = String::from_utf8_lossy(host);
        if !is_meant(&host, &hosts) {
            let host = host.escape_debug();
            let text = format!("`{host}` is no name of this agent: add it to admin.hosts, if it is meant\n");
            return (StatusCode::MISDIRECTED_REQUEST, text).into_response();
        }
    }
    next.run(request).await
}

fn is_meant(host: &str, hosts: &BTreeSet<String>) -> bool {
    let name = without_port(host);
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    if address.parse::<IpAddr>().is_ok() {
        return true;
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    !name.contains('.') || PRIVATE.iter().any(|end| name.ends_with(end)) || hosts.contains(&name)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_anyone_could_register_must_be_configured() {
        let hosts = BTreeSet::from(["ops.example.com".to_owned()]);
        let meant = [
            "127.0.0.1:7451",
            "10.2.3.4",
            "[::1]:7451",
            "[fe80::1]",
            "localhost:7451",
            "tallyman:7451",
            "",
            "tallyman.billing.svc:7451",
            "tallyman-0.tallyman.billing.svc.cluster.local.",
            "agent.localhost",
            "ip-10-0-0-1.ec2.internal",
            "ops.example.com",
            "OPS.Example.com.:443",
        ];
        for host in meant {
            assert!(is_meant(host, &hosts), "{host}");
        }
        let others = [
            "evil.example",
            "evil.example:7451",
            "127.0.0.1.evil.example",
            "localhost.evil.example:7451",
            "x.ops.example.com",
            "ops.example.com.evil.example",
            "evil.example:x",
            "notlocalhost.local",
            "svc.evil.example",
            "0x7f.1",
        ];
        for host in others {
            assert!(!is_meant(host, &hosts), "{host}");
        }
    }
}
