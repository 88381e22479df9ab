//! The configuration: any text, and any variables of the environment.

use crate::base::config::{Config, parse};

/// TOML, and behind each zero byte a variable like `TALLYMAN__HOUR__GRACE=1m`.
pub(super) fn config(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let (toml, variables) = text.split_once('\0').unwrap_or((&text, ""));
    let variables = variables.split('\0').filter_map(|variable| variable.split_once('='));
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    match parse(toml, "file", variables) {
        Ok(config) => {
            prints_and_parses_back(&config);
            true
        }
        Err(faults) => {
            assert!(!faults.0.is_empty(), "refused without a reason");
            let told = faults.to_string().len();
            assert!(told <= 4096 + 512 * data.len(), "{told} bytes of faults in {} of text", data.len());
            false
        }
    }
}

fn prints_and_parses_back(config: &Config) {
    let again = parse(&config.effective, "effective", std::iter::empty());
    let again = again.unwrap_or_else(|faults| panic!("{faults}\n{}", config.effective));
    assert_eq!(shown(&again), shown(config), "it took effect otherwise than it says");
}

/// All of it, in an order that is always the same.
fn shown(config: &Config) -> String {
    let Config { agent, grpc, admin, hour, submission, limits, retention, .. } = config;
    let products: Vec<_> = config.catalog.products().collect();
    let rest = (&config.connections, &config.customers, &config.effective);
    format!(
        "{agent:?} {grpc:?} {admin:?} {hour:?} {submission:?} {limits:?} {retention:?} {products:?} {rest:?}"
    )
}

pub(super) fn configs() -> Vec<Vec<u8>> {
    let with = |toml: &str, variables: &[&str]| [&[toml], variables].concat().join("\0").into_bytes();
    vec![
        with(SMALL, &[]),
        with(LARGE, &[]),
        with(SMALL, &["TALLYMAN__HOUR__GRACE=2m", "TALLYMAN__PRODUCT__0__DIMENSION__0__UNIT=60"]),
        with("", &["TALLYMAN__PRODUCT__0__CODE=p", "TALLYMAN__PRODUCT__0__DIMENSION__0__NAME=d"]),
        with(SMALL, &["TALLYMAN__PRODUCT__0__ZERO_RECORDS=false", "HOME=/root"]),
    ]
}

const SMALL: &str = r#"
[[product]]
code = "prod"
[[product.dimension]]
name = "requests"
"#;

const LARGE: &str = r#"
[agent]
data_dir = "/var/lib/tallyman"
id = "a"
[grpc]
listen = "unix:/run/tallyman.sock"
max_events_per_request = 10
tls = { cert = "c", key = "k", client_ca = "ca" }
[[grpc.client]]
name = "app"
token_file = "/token"
roles = ["meter", "customers"]
products = ["legacy"]
customers = ["k"]
events_per_second = 1
[[grpc.client]]
name = "operator"
certificate = "spiffe://example.org/operator"
roles = ["read", "decide"]
[admin]
listen = "[::1]:1"
[hour]
grace = "1m 30s"
dedup_window = "7d"
max_age = "30d"
max_future = "0s"
[submission]
window = "24h"
month_end_cutoff = "6h"
requests_per_second = 1
concurrency = 64
missed = "hold"
[limits]
max_customers = 1
max_open_subjects = 10_000_000_000
max_connections = 1
max_message_bytes = 65536
handshake_timeout = "1h"
[retention]
receipts = "36500d"
[[product]]
code = "a.b/c"
identity = "license"
region = "eu-west-1"
endpoint_url = "http://127.0.0.1:7460"
role_arn = "arn:aws:iam::123456789012:role/metering"
external_id = "x"
sts_endpoint_url = "http://127.0.0.1:7461"
zero_records = false
[[product.dimension]]
name = "gb"
unit = 1_000_000_007
decimals = 6
rounding = "nearest"
tags = true
[[product.dimension]]
name = "seats"
aggregate = "latest"
hold = true
[[product.customer]]
key = "acme"
account_id = "012345678901"
license_arn = "aws:license-manager::123456789012:license:l-0123abcd"
since = "2026-11-22T10:30:00.5Z"
[[product]]
code = "legacy"
identity = "customer_identifier"
customers = "registered"
dimension = [{ name = "users", aggregate = "unique" }, { name = "calls", aggregate = "count" }]
customer = [{ key = "k", customer_identifier = "abc" }]
"#;
