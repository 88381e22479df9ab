//! What each key means: the words of docs/configuration.md. Type, range and default come from the parser, which also
//! keeps this list complete.

pub(super) struct Section {
    /// As in a file.
    pub(super) title: &'static str,
    pub(super) path: &'static str,
    pub(super) about: &'static str,
    pub(super) keys: &'static [Key],
    /// All examples, one after the other, are a whole file that sets every key.
    pub(super) example: &'static str,
}

pub(super) struct Key {
    pub(super) name: &'static str,
    /// Where the parser's is not the same everywhere, or says too little.
    pub(super) default: Option<&'static str>,
    pub(super) words: &'static str,
}

const fn key(name: &'static str, words: &'static str) -> Key {
    Key { name, default: None, words }
}

pub(super) const SECTIONS: &[Section] = &[
    AGENT, GRPC, TLS, CLIENT, ADMIN, HOUR, SUBMISSION, LIMITS, RETENTION, TELEMETRY, PRODUCT, DIMENSION,
    CUSTOMER,
];

const AGENT: Section = Section {
    title: "[agent]",
    path: "agent",
    about: "Who this agent is, and where it keeps what AWS has not accepted yet.",
    keys: &[
        key(
            "data_dir",
            "The data folder, on a disk that lasts: it holds the only copy. One agent has it at a time",
        ),
        Key {
            name: "id",
            default: Some("the host name"),
            words: "The agent's name in `status` and on the status page",
        },
    ],
    example: r#"[agent]
data_dir = "/var/lib/tallyman"
id = "agent-1"
"#,
};

pub(super) const GRPC: Section = Section {
    title: "[grpc]",
    path: "grpc",
    about: "Where applications and the command line reach the agent. An address that other machines reach needs \
            `grpc.tls` with `client_ca`, or `token_file`, or clients; else `check` and `run` refuse it with exit 64.",
    keys: &[
        key("listen", "An address with a port, or `unix:/path/to/socket`, which gets mode 0660"),
        key(
            "max_events_per_request",
            "A request with more events is refused as a whole, with `INVALID_ARGUMENT`",
        ),
        key(
            "token_file",
            "A file with the token that whoever calls must send as `authorization: Bearer <token>`, or with several, one a \
             line. It may do everything. A change takes effect within seconds. Not beside `[[grpc.client]]`",
        ),
    ],
    example: r#"
[grpc]
listen = "127.0.0.1:7450"
max_events_per_request = 10000
token_file = "/etc/tallyman/token"
"#,
};

const TLS: Section = Section {
    title: "[grpc.tls]",
    path: "grpc.tls",
    about: "Without this table there is no TLS. The files are in PEM, and a change of them takes effect within seconds.",
    keys: &[
        key("cert", "The agent's certificate, and those of who vouches for it"),
        key("key", "Its key"),
        key("client_ca", "Who vouches for clients; with it, each must show a certificate"),
        key(
            "client_crl",
            "The certificates of clients that were withdrawn: a list (CRL) of each authority that has signed one that is in \
             use, those in `client_ca` and any between. Read again when it changes. One that is older than it says it \
             may be stays in force, and an alert tells",
        ),
    ],
    example: r#"
[grpc.tls]
cert = "/etc/tallyman/tls/server.pem"
key = "/etc/tallyman/tls/server.key"
client_ca = "/etc/tallyman/tls/clients.pem"
client_crl = "/etc/tallyman/tls/clients.crl"
"#,
};

pub(super) const CLIENT: Section = Section {
    title: "[[grpc.client]]",
    path: "grpc.client",
    about: "Who may call, and what for. Without any, whoever reaches the agent (and has the token, or a certificate) may do \
            everything. With some, each call must come from one of them: see the [README](../README.md#clients).",
    keys: &[
        key("name", "What the client is called in messages, at most 64 of `a-z A-Z 0-9 - _ . : / @`"),
        key(
            "token_file",
            "A file with the client's own token, or with several, one a line. Either this or `certificate`. A change takes \
             effect within seconds",
        ),
        key(
            "certificate",
            "The common name, or a DNS name or URI among the alternative names, of the client's certificate",
        ),
        Key {
            name: "roles",
            default: Some("`[\"meter\"]`"),
            words: "`meter` records usage, `customers` changes customers, `read` sees the ledger, `decide` decides about held \
                    records",
        },
        Key { name: "products", default: Some("all"), words: "The codes of the products that it may meter" },
        Key { name: "customers", default: Some("all"), words: "The customers that it may meter" },
        Key {
            name: "events_per_second",
            default: Some("no limit"),
            words: "On average. A call beyond it is told `RESOURCE_EXHAUSTED` and when to come again; a stream is read more \
                    slowly",
        },
    ],
    example: r#"
[[grpc.client]]
name = "checkout"
token_file = "/etc/tallyman/checkout.token"
products = ["exampleproductcode"]
customers = ["123456789012"]
events_per_second = 5000

[[grpc.client]]
name = "operator"
certificate = "operator.example.com"
roles = ["read", "decide"]
"#,
};

const ADMIN: Section = Section {
    title: "[admin]",
    path: "admin",
    about: "The status page, metrics, probes and a summary for machines, over plain HTTP. It only reads.",
    keys: &[
        key("listen", "An address with a port; it may be one that other machines reach"),
        key("show_customers", "Whether the status page names customers with unsent or held records"),
    ],
    example: r#"
[admin]
listen = "127.0.0.1:7451"
show_customers = false
"#,
};

const HOUR: Section = Section {
    title: "[hour]",
    path: "hour",
    about: "Which hour an event counts in, and when that hour is closed for good.",
    keys: &[
        key(
            "grace",
            "How long after its end an hour stays open for late events; so long also after a start, for hours that \
             ended while the agent was away",
        ),
        key("dedup_window", "How long event ids are remembered, at least"),
        key("max_age", "Events that are older are rejected (`TIME_TOO_OLD`)"),
        key("max_future", "Events that are further ahead are rejected (`TIME_IN_FUTURE`)"),
    ],
    example: r#"
[hour]
grace = "5m"
dedup_window = "2h"
max_age = "24h"
max_future = "5m"
"#,
};

const SUBMISSION: Section = Section {
    title: "[submission]",
    path: "submission",
    about: "How sealed records go to AWS. `window` and `month_end_cutoff` are AWS's rules: change them when AWS does.",
    keys: &[
        key(
            "window",
            "Until when AWS takes an hour, from the hour's start. It must leave 15 minutes after an hour and `hour.grace`",
        ),
        key(
            "month_end_cutoff",
            "Until when on the 1st (UTC) AWS takes hours of the month before. It must leave 15 minutes after `hour.grace`",
        ),
        key(
            "requests_per_second",
            "Calls a second, all products of one seller account and region together. AWS's quota is 10",
        ),
        key(
            "concurrency",
            "Calls under way at a time; 4 reach 10 calls a second while AWS answers within 350 ms",
        ),
        key(
            "missed",
            "What becomes of a record past its deadline: it moves into the current hour, or waits for a person",
        ),
    ],
    example: r#"
[submission]
window = "24h"
month_end_cutoff = "6h"
requests_per_second = 10
concurrency = 4
missed = "roll_forward"
"#,
};

const LIMITS: Section = Section {
    title: "[limits]",
    path: "limits",
    about: "How much the agent takes on. What would go beyond a limit is refused, and the answer names the limit.",
    keys: &[
        key("max_customers", "Known customers, all products together"),
        key("max_open_buckets", "Buckets: a customer, dimension and open hour"),
        key("max_open_subjects", "Distinct subjects in open hours, for `unique`; each is a marker on disk"),
        key("max_open_tag_sets", "Sets of tags in open hours; usage beyond it is billed untagged"),
        key(
            "max_pending_events",
            "Events that wait for a commit; above it `RESOURCE_EXHAUSTED`, and a stream is read more slowly",
        ),
        key(
            "max_connections",
            "gRPC connections. When all places are taken, a connection that has made no call yet makes room",
        ),
        key("max_streams_per_connection", "Calls and streams under way on one connection"),
        key("max_message_bytes", "A longer request, or message of a stream, is refused, in bytes"),
        key("handshake_timeout", "For a connection to begin, TLS included"),
        key("request_timeout", "For a message to arrive, once it has begun"),
        key(
            "keepalive_interval",
            "So long a connection may be silent before it is asked whether it is still there",
        ),
        key("keepalive_timeout", "So long the answer to that may take before the connection is closed"),
    ],
    example: r#"
[limits]
max_customers = 100000
max_open_buckets = 2000000
max_open_subjects = 20000000
max_open_tag_sets = 500000
max_pending_events = 1000000
max_connections = 1000
max_streams_per_connection = 256
max_message_bytes = 16777216
handshake_timeout = "10s"
request_timeout = "30s"
keepalive_interval = "30s"
keepalive_timeout = "20s"
"#,
};

const RETENTION: Section = Section {
    title: "[retention]",
    path: "retention",
    about: "How long the past is kept. Persons' decisions are kept for ever.",
    keys: &[key("receipts", "How long records that are settled stay in the ledger")],
    example: r#"
[retention]
receipts = "400d"
"#,
};

const TELEMETRY: Section = Section {
    title: "[telemetry]",
    path: "telemetry",
    about: "Traces for an OpenTelemetry collector, in a tallyman that is built with `--features otlp`, as the image is. \
            They tell products, clients and counts, and never a customer. A collector that is slow or away delays \
            nothing: its spans are dropped, with one warning. `OTEL_RESOURCE_ATTRIBUTES` and \
            `OTEL_EXPORTER_OTLP_HEADERS` hold, as everywhere.",
    keys: &[
        key(
            "otlp_endpoint",
            "The collector, by OTLP over gRPC: `http://host:4317`, or `https://` with the machine's authorities",
        ),
        key(
            "sample_ratio",
            "How many of the requests and stream messages are traced whose caller does not say; a `traceparent` decides \
             for its request. Sealing and calls to AWS are always traced",
        ),
    ],
    example: r#"
[telemetry]
otlp_endpoint = "http://127.0.0.1:4317"
sample_ratio = 0.01
"#,
};

const PRODUCT: Section = Section {
    title: "[[product]]",
    path: "product",
    about: "One for each AWS Marketplace product, at least one. Its dimensions and customers follow it.",
    keys: &[
        key("code", "The product code. With `license` it is only your own name for it, in events"),
        key(
            "identity",
            "How AWS knows the customers. Products created since June 2026 must use `license`; a change counts from the \
             next hour on",
        ),
        Key {
            name: "customers",
            default: Some("`registered` with `license`, else `open`"),
            words: "Whether a customer must be registered before its usage is taken",
        },
        key("zero_records", "Report 0 for the idle hours of each customer"),
        key(
            "region",
            "Where the product is metered. Never another on failure: AWS removes duplicates only within one",
        ),
        key("endpoint_url", "In place of AWS: a sandbox's URL, with `http://` or `https://`"),
        key(
            "role_arn",
            "The role to assume in the seller account, as in `arn:aws:iam::123456789012:role/name`: see \
             [AWS permissions](../README.md#aws-permissions)",
        ),
        key("external_id", "The external id that the role asks for; only beside `role_arn`"),
    ],
    example: r#"
[[product]]
code = "exampleproductcode"
identity = "license"
customers = "registered"
zero_records = true
region = "us-east-1"
endpoint_url = "http://127.0.0.1:7460"
role_arn = "arn:aws:iam::123456789012:role/metering"
external_id = "an-id-of-your-choice"
"#,
};

const DIMENSION: Section = Section {
    title: "[[product.dimension]]",
    path: "product.dimension",
    about: "What the product above it bills, at least one.",
    keys: &[
        key("name", "The API name in AWS Marketplace, in the same case"),
        key("aggregate", "What an hour comes to: see the [README](../README.md#what-an-hour-comes-to)"),
        key("hold", "With `latest`: the level stands in later hours, until an event changes it"),
        key("unit", "Base units, in which events count, in one unit that AWS bills"),
        key("decimals", "Decimals that AWS is told"),
        key("rounding", "Of a remainder that no later hour can take"),
        key("tags", "With `sum` and `count`: usage is split by tags (AWS: vendor-metered tagging)"),
    ],
    example: r#"
[[product.dimension]]
name = "gb_out"
aggregate = "sum"
unit = 1000000000 # events carry bytes, AWS bills GB
decimals = 3
rounding = "down"
tags = true

[[product.dimension]]
name = "seats"
aggregate = "latest"
hold = true
"#,
};

const CUSTOMER: Section = Section {
    title: "[[product.customer]]",
    path: "product.customer",
    about: "A customer of the product above it. Most come from the application, with `CustomerService.PutCustomer`; a file \
            is for those that are known. It gives exactly what the product's identity needs: `account_id` and \
            `license_arn`, `account_id` alone, or `customer_identifier` alone. At each start the file's word replaces what \
            `PutCustomer` said of the same key.",
    keys: &[
        key("key", "How events name the customer"),
        key("account_id", "The buyer's AWS account, 12 digits"),
        key("license_arn", "The `LicenseArn` of `ResolveCustomer`"),
        key(
            "customer_identifier",
            "The `CustomerIdentifier` of `ResolveCustomer`, for products that still have one",
        ),
        key("since", "When the subscription began, RFC 3339: no zero records for hours before it"),
    ],
    example: r#"
[[product.customer]]
key = "acme"
account_id = "123456789012"
license_arn = "arn:aws:license-manager::123456789012:license:l-0123456789abcdef"
since = "2026-12-01T10:00:00Z"

[[product]]
code = "olderproductcode"
identity = "customer_identifier"

[[product.dimension]]
name = "requests"

[[product.customer]]
key = "globex"
customer_identifier = "ifAPi5AcF3"
"#,
};
