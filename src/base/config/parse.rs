//! From TOML and the environment to a [`Config`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    num::NonZeroU64,
    path::Path,
    sync::Arc,
    time::Duration,
};

use toml::{Table, Value};

use super::{
    Admin, Agent, Config, ConfigError, ConfiguredCustomer, Connection, ConnectionLimits, HourRules, Limits,
    Retention, Submission,
    grpc::read_grpc,
    reader::{Asked, Faults, Section},
    telemetry::{check_build, read_telemetry},
};
use crate::domain::{
    deadline::Window,
    identity::{Identity, IdentityFields, IdentityMode},
    product::{Aggregate, Catalog, Dimension, Product, ProductIndex},
    quantity::{MAX_DECIMALS, Rounding, Unit},
    record::MissedPolicy,
    time::Timestamp,
    usage::{TimeBounds, is_customer_key},
};

const VARIABLE_PREFIX: &str = "TALLYMAN__";
/// AWS allows 200 usage dimensions per product; restricted ones count, so leave room.
const MAX_DIMENSIONS: usize = 1000;
const MAX_PRODUCTS: usize = 1000;
/// TOML's: what took effect can be written down.
const MAX_INTEGER: u64 = i64::MAX.unsigned_abs();

/// Reads the file, if there is one, and the environment's overrides.
pub fn load(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let (text, name) = match file {
        None => (String::new(), "no file".to_owned()),
        Some(path) => (
            std::fs::read_to_string(path).map_err(|error| cannot_read(path, &error))?,
            path.display().to_string(),
        ),
    };
    check_build(parse(&text, &name, variables)?, cfg!(feature = "otlp"))
}

fn cannot_read(path: &Path, error: &std::io::Error) -> ConfigError {
    ConfigError(vec![format!("{}: cannot be read: {error}", path.display())])
}

/// Parses configuration text; `file` names it in messages.
pub fn parse(
    text: &str,
    file: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    parse_and_note(text, file, variables).map(|(config, _)| config)
}

/// The same, and which keys the parser has asked for.
pub(super) fn parse_and_note(
    text: &str,
    file: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<(Config, BTreeMap<String, Asked>), ConfigError> {
    let mut table: Table =
        text.parse().map_err(|error: toml::de::Error| ConfigError(vec![format!("{file}: {error}")]))?;
    let overrides: BTreeMap<String, String> =
        variables.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect();
    let mut overridden = BTreeSet::new();
    let mut misplaced = Vec::new();
    for (name, value) in overrides {
        let path = name.strip_prefix(VARIABLE_PREFIX).unwrap_or_default();
        let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        match set(&mut table, &path, value) {
            Some(()) => {
                overridden.insert(path.join("."));
            }
            None => misplaced.push(format!("{name}: there is no such place in the configuration")),
        }
    }
    let faults = Faults::new(file, overridden);
    let config = read(table, &faults);
    let asked = faults.asked();
    let mut list = faults.into_list();
    list.extend(misplaced);
    if list.is_empty() { Ok((config, asked)) } else { Err(ConfigError(list)) }
}

/// The environment variable that overrides a key.
pub(super) fn variable(path: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

/// Puts an override into the tree. Array items are named by their index; a new item may be added at the end.
fn set(table: &mut Table, path: &[String], value: String) -> Option<()> {
    let (first, rest) = path.split_first()?;
    let Some((second, below)) = rest.split_first() else {
        table.insert(first.clone(), Value::String(value));
        return Some(());
    };
    if let Ok(index) = second.parse::<usize>() {
        let items = table.entry(first.clone()).or_insert_with(|| Value::Array(Vec::new())).as_array_mut()?;
        if below.is_empty() {
            return set_item(items, index, value);
        }
        if index == items.len() {
            items.push(Value::Table(Table::new()));
        }
        return set(items.get_mut(index)?.as_table_mut()?, below, value);
    }
    let child = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
    set(child.as_table_mut()?, rest, value)
}

/// Puts an override into a list of texts.
fn set_item(items: &mut Vec<Value>, index: usize, value: String) -> Option<()> {
    if index == items.len() {
        items.push(Value::String(value));
        return Some(());
    }
    let item = items.get_mut(index).filter(|item| !item.is_table())?;
    *item = Value::String(value);
    Some(())
}

fn read(table: Table, faults: &Faults) -> Config {
    let mut root = Section::root(table, faults);
    let agent = read_agent(&mut root);
    let admin = read_admin(&mut root);
    let hour = read_hour(&mut root);
    let submission = read_submission(&mut root, hour.grace);
    let limits = read_limits(&mut root);
    let retention = read_retention(&mut root);
    let telemetry = read_telemetry(&mut root);
    let (catalog, connections, customers) = read_products(&mut root);
    let grpc = read_grpc(&mut root, &catalog);
    let effective = root.finish().to_string();
    Config {
        agent,
        grpc,
        admin,
        hour,
        submission,
        limits,
        retention,
        telemetry,
        catalog: Arc::new(catalog),
        connections,
        customers,
        effective,
    }
}

fn read_agent(root: &mut Section<'_>) -> Agent {
    let mut section = root.section("agent");
    let agent = Agent {
        data_dir: section.text("data_dir", "/var/lib/tallyman").into(),
        id: section.text("id", &host_name()),
    };
    root.put("agent", section);
    agent
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "tallyman".to_owned() } else { name.trim().to_owned() }
}

fn read_admin(root: &mut Section<'_>) -> Admin {
    let mut section = root.section("admin");
    let listen = section.parsed("listen", "127.0.0.1:7451", |text| {
        text.parse().map_err(|_| format!("`{text}` is not an address with a port, as in 127.0.0.1:7451"))
    });
    let show_customers = section.flag("show_customers", false);
    root.put("admin", section);
    Admin { listen, show_customers }
}

fn read_hour(root: &mut Section<'_>) -> HourRules {
    let mut section = root.section("hour");
    let rules = HourRules {
        grace: section.duration("grace", "5m", ("0s", "6h")),
        dedup_window: section.duration("dedup_window", "2h", ("1m", "7d")),
        bounds: TimeBounds {
            max_age: section.duration("max_age", "24h", ("0s", "30d")),
            max_future: section.duration("max_future", "5m", ("0s", "1h")),
        },
    };
    root.put("hour", section);
    rules
}

/// What is left to send records in, after an hour and its grace, if nothing else is.
const TIME_TO_SEND: Duration = Duration::from_mins(15);

fn read_submission(root: &mut Section<'_>, grace: Duration) -> Submission {
    let mut section = root.section("submission");
    let policies = [("roll_forward", MissedPolicy::RollForward), ("hold", MissedPolicy::Hold)];
    let window = Window {
        age: section.duration("window", "24h", ("1h", "30d")),
        month_end_cutoff: section.duration("month_end_cutoff", "6h", ("1h", "30d")),
    };
    let shortest = Duration::from_hours(1) + grace + TIME_TO_SEND;
    if window.age < shortest {
        section
            .fault("window", "must leave 15 minutes after an hour and hour.grace, or nothing could be sent");
    }
    if window.month_end_cutoff < grace + TIME_TO_SEND {
        section
            .fault("month_end_cutoff", "must leave 15 minutes after hour.grace, or months would end unsent");
    }
    let rate = section.integer("requests_per_second", 10, (1, 1000));
    let submission = Submission {
        window,
        requests_per_second: f64::from(u32::try_from(rate).unwrap_or(u32::MAX)),
        concurrency: usize::try_from(section.integer("concurrency", 4, (1, 64))).unwrap_or(1),
        missed: section.choice("missed", &policies, "roll_forward"),
    };
    root.put("submission", section);
    submission
}

fn read_limits(root: &mut Section<'_>) -> Limits {
    let mut section = root.section("limits");
    let max_open_subjects = section.integer("max_open_subjects", 20_000_000, (1, 10_000_000_000));
    let connections = read_connection_limits(&mut section);
    let mut limit =
        |key, default, most| usize::try_from(section.integer(key, default, (1, most))).unwrap_or(usize::MAX);
    let limits = Limits {
        max_customers: limit("max_customers", 100_000, 10_000_000),
        max_open_buckets: limit("max_open_buckets", 2_000_000, 100_000_000),
        max_open_subjects,
        max_open_tag_sets: limit("max_open_tag_sets", 500_000, 100_000_000),
        max_pending_events: limit("max_pending_events", 1_000_000, 100_000_000),
        connections,
    };
    root.put("limits", section);
    limits
}

fn read_connection_limits(section: &mut Section<'_>) -> ConnectionLimits {
    let mut time = |key, default| section.duration(key, default, ("1s", "1h"));
    let (handshake_timeout, request_timeout) =
        (time("handshake_timeout", "10s"), time("request_timeout", "30s"));
    let (keepalive_interval, keepalive_timeout) =
        (time("keepalive_interval", "30s"), time("keepalive_timeout", "20s"));
    let mut limit = |key, default, bounds| section.integer(key, default, bounds);
    let max_connections = limit("max_connections", 500, (1, 100_000));
    let max_streams = limit("max_streams_per_connection", 256, (1, 10_000));
    let max_message_bytes = limit("max_message_bytes", 16 << 20, (64 << 10, 256 << 20));
    ConnectionLimits {
        max_connections: usize::try_from(max_connections).unwrap_or(usize::MAX),
        max_streams: u32::try_from(max_streams).unwrap_or(u32::MAX),
        max_message_bytes: usize::try_from(max_message_bytes).unwrap_or(usize::MAX),
        handshake_timeout,
        request_timeout,
        keepalive_interval,
        keepalive_timeout,
    }
}

fn read_retention(root: &mut Section<'_>) -> Retention {
    let mut section = root.section("retention");
    let retention = Retention { receipts: section.duration("receipts", "400d", ("1d", "36500d")) };
    root.put("retention", section);
    retention
}

type Products = (Catalog, Vec<Connection>, Vec<ConfiguredCustomer>);

fn read_products(root: &mut Section<'_>) -> Products {
    let mut sections = root.sections("product");
    if sections.is_empty() || sections.len() > MAX_PRODUCTS {
        root.fault("product", &format!("1 to {MAX_PRODUCTS} [[product]] sections are needed"));
        sections.truncate(MAX_PRODUCTS);
    }
    let (mut products, mut connections, mut customers) = (Vec::new(), Vec::new(), Vec::new());
    let mut codes = BTreeSet::new();
    for (section, index) in sections.iter_mut().zip(0..) {
        let product = read_product(section);
        if !codes.insert(product.code.clone()) {
            section.fault("code", &format!("`{}` is there twice", product.code));
        }
        connections.push(read_connection(section));
        customers.extend(read_customers(section, ProductIndex(index), product.identity));
        products.push(product);
    }
    root.put_all("product", sections);
    (Catalog::new(products), connections, customers)
}

fn read_product(section: &mut Section<'_>) -> Product {
    let code = section.required("code");
    let is_code = |byte: u8| byte.is_ascii_alphanumeric() || b"/=:_.@-".contains(&byte);
    if code.len() > 255 || !code.bytes().all(is_code) {
        section.fault("code", "must be at most 255 of a-z A-Z 0-9 / = : _ . @ -");
    }
    let identities = [
        ("license", IdentityMode::License),
        ("account", IdentityMode::Account),
        ("customer_identifier", IdentityMode::CustomerIdentifier),
    ];
    let identity = section.choice("identity", &identities, "license");
    let open_by_default = if identity == IdentityMode::License { "registered" } else { "open" };
    let open = section.choice("customers", &[("open", true), ("registered", false)], open_by_default);
    let zero_records = section.flag("zero_records", true);
    let dimensions = read_dimensions(section);
    Product { code: code.into(), identity, former: None, open, zero_records, dimensions }
}

fn read_dimensions(product: &mut Section<'_>) -> Vec<Dimension> {
    let mut sections = product.sections("dimension");
    if sections.is_empty() || sections.len() > MAX_DIMENSIONS {
        product
            .fault("dimension", &format!("1 to {MAX_DIMENSIONS} [[product.dimension]] sections are needed"));
        sections.truncate(MAX_DIMENSIONS);
    }
    let mut names = BTreeSet::new();
    let mut dimensions = Vec::with_capacity(sections.len());
    for section in &mut sections {
        let dimension = read_dimension(section);
        if !names.insert(dimension.name.clone()) {
            section.fault("name", &format!("`{}` is there twice", dimension.name));
        }
        dimensions.push(dimension);
    }
    product.put_all("dimension", sections);
    dimensions
}

fn read_dimension(section: &mut Section<'_>) -> Dimension {
    let name = section.required("name");
    if name.len() > 255 || name.chars().any(char::is_control) {
        section.fault("name", "must be 1 to 255 bytes without control characters");
    }
    let holds = section.flag("hold", false);
    let aggregates = [
        ("sum", Aggregate::Sum),
        ("count", Aggregate::Count),
        ("max", Aggregate::Max),
        ("latest", Aggregate::Latest { hold: holds }),
        ("unique", Aggregate::Unique),
    ];
    let aggregate = section.choice("aggregate", &aggregates, "sum");
    if holds && !matches!(aggregate, Aggregate::Latest { .. }) {
        section.fault("hold", "has a meaning only with aggregate = \"latest\"");
    }
    let base_units = section.integer("unit", 1, (1, MAX_INTEGER));
    let decimals = section.integer("decimals", 0, (0, u64::from(MAX_DECIMALS)));
    let roundings = [("down", Rounding::Down), ("up", Rounding::Up), ("nearest", Rounding::Nearest)];
    let rounding = section.choice("rounding", &roundings, "down");
    let tags = section.flag("tags", false);
    if tags && !aggregate.adds_up() {
        section.fault("tags", "only a sum or a count can be split by tags");
    }
    let unit = NonZeroU64::new(base_units)
        .and_then(|base_units| Unit::new(base_units, u8::try_from(decimals).unwrap_or_default()))
        .unwrap_or_default();
    Dimension { name: name.into(), aggregate, unit, rounding, tags }
}

fn read_connection(section: &mut Section<'_>) -> Connection {
    let connection = Connection {
        region: section.text("region", "us-east-1"),
        endpoint_url: section.optional_text("endpoint_url"),
        role_arn: section.optional_text("role_arn"),
        external_id: section.optional_text("external_id"),
    };
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if connection.endpoint_url.as_ref().is_some_and(|url| !is_url(url)) {
        section.fault("endpoint_url", "must begin with http:// or https://");
    }
    if connection.role_arn.as_ref().is_some_and(|arn| !arn.starts_with("arn:aws") || !arn.contains(":role/"))
    {
        section.fault("role_arn", "must be like arn:aws:iam::123456789012:role/name");
    }
    if connection.external_id.is_some() && connection.role_arn.is_none() {
        section.fault("external_id", "has a meaning only beside role_arn");
    }
    connection
}

fn read_customers(
    product: &mut Section<'_>,
    index: ProductIndex,
    mode: IdentityMode,
) -> Vec<ConfiguredCustomer> {
    let mut sections = product.sections("customer");
    let mut customers = Vec::with_capacity(sections.len());
    let (mut keys, mut identities) = (BTreeSet::new(), HashMap::new());
    for section in &mut sections {
        let Some(customer) = read_customer(section, index, mode) else { continue };
        if !keys.insert(customer.key.clone()) {
            section.fault("key", &format!("`{}` is there twice", customer.key));
        }
        if let Some(other) = identities.insert(customer.identity.clone(), customer.key.clone()) {
            section.fault(
                "key",
                &format!("has the same identity as customer `{other}`: one identity is billed once"),
            );
        }
        customers.push(customer);
    }
    product.put_all("customer", sections);
    customers
}

fn read_customer(
    section: &mut Section<'_>,
    product: ProductIndex,
    mode: IdentityMode,
) -> Option<ConfiguredCustomer> {
    let key = section.required("key");
    if !is_customer_key(&key) {
        section.fault("key", "must be 1 to 255 bytes without control characters");
    }
    let mut field = |key| section.optional_text(key).unwrap_or_default();
    let (account_id, license_arn, customer_identifier) =
        (field("account_id"), field("license_arn"), field("customer_identifier"));
    let since = section
        .optional_text("since")
        .and_then(|text| text.parse::<Timestamp>().map_err(|what| section.fault("since", &what)).ok());
    let fields = IdentityFields {
        account_id: &account_id,
        license_arn: &license_arn,
        customer_identifier: &customer_identifier,
    };
    let is_bare = account_id.is_empty() && license_arn.is_empty() && customer_identifier.is_empty();
    let identity = if is_bare { Identity::from_key(mode, &key) } else { Identity::from_fields(mode, fields) };
    let identity = identity.map_err(|what| section.fault("key", &what)).ok()?;
    Some(ConfiguredCustomer { product, key: key.into(), identity, since })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        [[product]]
        code = "prod"
        identity = "account"
        [[product.dimension]]
        name = "requests"
        [[product.customer]]
        key = "acme"
        account_id = "012345678901"
    "#;

    fn config(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        parse(text, "t.toml", variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
        config(text, variables).unwrap_err().0
    }

    #[test]
    fn a_small_configuration_gets_the_defaults() {
        let config = config(GOOD, &[]).unwrap();
        assert_eq!(config.hour.grace.as_secs(), 300);
        assert_eq!(config.submission.window, Window::AWS);
        assert_eq!(config.retention.receipts.as_secs(), 400 * 86_400);
        assert_eq!(config.customers.len(), 1);
        assert_eq!(config.connections[0].region, "us-east-1");
    }

    #[test]
    fn every_fault_is_named_at_once_with_file_and_key() {
        let text = r#"
            [hour]
            grace = "soon"
            grease = "1m"
            [limits]
            max_customers = "many"
            [[product]]
            code = "prod"
            identity = "license"
            [[product.dimension]]
            name = "requests"
            aggregate = "median"
            [[product.customer]]
            key = "acme"
            account_id = "12"
        "#;
        let faults =
            faults(text, &[("TALLYMAN__ADMIN__LISTEN", "here"), ("TALLYMAN__PRODUCT__7__CODE", "x")]);
        let expected = [
            "t.toml: hour.grace:",
            "t.toml: hour.grease: unknown key",
            "t.toml: limits.max_customers:",
            "t.toml: product.0.dimension.0.aggregate:",
            "t.toml: product.0.customer.0.key: account_id",
            "TALLYMAN__ADMIN__LISTEN: admin.listen:",
            "TALLYMAN__PRODUCT__7__CODE:",
        ];
        for start in expected {
            assert!(faults.iter().any(|fault| fault.starts_with(start)), "{start} not in {faults:#?}");
        }
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    }

    #[test]
    fn the_environment_overrides_every_key() {
        let variables = [
            ("TALLYMAN__HOUR__GRACE", "90s"),
            ("TALLYMAN__SUBMISSION__REQUESTS_PER_SECOND", "3"),
            ("TALLYMAN__PRODUCT__0__ZERO_RECORDS", "false"),
            ("TALLYMAN__PRODUCT__0__CUSTOMER__1__KEY", "210987654321"),
            ("HOME", "/"),
        ];
        let config = config(GOOD, &variables).unwrap();
        assert_eq!(config.hour.grace.as_secs(), 90);
        assert!((config.submission.requests_per_second - 3.0).abs() < f64::EPSILON);
        assert!(!config.catalog.product(ProductIndex(0)).unwrap().zero_records);
        assert_eq!(config.customers.len(), 2);
    }

    #[test]
    fn the_effective_configuration_parses_to_itself() {
        let first = config(GOOD, &[("TALLYMAN__HOUR__GRACE", "90s")]).unwrap();
        let second = config(&first.effective, &[]).unwrap();
        assert_eq!(first.effective, second.effective);
        assert!(first.effective.contains("grace = \"90s\""), "{}", first.effective);
    }

    #[test]
    fn a_window_that_leaves_no_time_to_send_is_refused() {
        let no_time = [("TALLYMAN__SUBMISSION__WINDOW", "1h"), ("TALLYMAN__HOUR__GRACE", "6h")];
        assert_eq!(faults(GOOD, &no_time[..1]).len(), 1);
        assert_eq!(faults(GOOD, &no_time).len(), 2, "the end of a month leaves none either");
    }

    #[test]
    fn two_customers_never_share_an_identity() {
        let text = format!("{GOOD}\n[[product.customer]]\nkey = \"other\"\naccount_id = \"012345678901\"");
        assert_eq!(faults(&text, &[]).len(), 1);
    }

    #[test]
    fn addresses_beyond_this_machine_need_proof_of_who_calls() {
        let open = [("TALLYMAN__GRPC__LISTEN", "0.0.0.0:7450")];
        assert_eq!(faults(GOOD, &open).len(), 1);
        for words in ["TALLYMAN__GRPC__LISTEN: grpc.listen:", "client_ca", "token_file", "unix:"] {
            assert!(faults(GOOD, &open)[0].contains(words), "{words}");
        }
        let token = [open[0], ("TALLYMAN__GRPC__TOKEN_FILE", "/run/token")];
        assert!(config(GOOD, &token).is_ok());
        let tls = [open[0], ("TALLYMAN__GRPC__TLS__CERT", "/c"), ("TALLYMAN__GRPC__TLS__KEY", "/k")];
        assert_eq!(faults(GOOD, &tls).len(), 1, "TLS alone proves who the agent is, and not who calls");
        let mutual = [tls[0], tls[1], tls[2], ("TALLYMAN__GRPC__TLS__CLIENT_CA", "/ca")];
        assert!(config(GOOD, &mutual).is_ok());
        for address in ["[::]:7450", "192.0.2.1:7450"] {
            assert_eq!(faults(GOOD, &[("TALLYMAN__GRPC__LISTEN", address)]).len(), 1, "{address}");
        }
    }

    #[test]
    fn this_machine_needs_no_proof_and_the_admin_port_may_be_open() {
        for address in ["127.0.0.1:7450", "127.8.8.8:1", "[::1]:7450", "unix:/run/tallyman.sock"] {
            let here = [("TALLYMAN__GRPC__LISTEN", address), ("TALLYMAN__ADMIN__LISTEN", "0.0.0.0:7451")];
            assert!(config(GOOD, &here).is_ok(), "{address}");
        }
    }

    #[test]
    fn the_status_page_names_customers_only_when_told_to() {
        let shows = |variables: &[(&str, &str)]| config(GOOD, variables).unwrap().admin.show_customers;
        assert!(!shows(&[]) && shows(&[("TALLYMAN__ADMIN__SHOW_CUSTOMERS", "true")]));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String, name in "[A-Z_0-9]{0,20}", value: String) {
            drop(parse(&text, "t.toml", std::iter::once((format!("{VARIABLE_PREFIX}{name}"), value))));
        }
    }

    #[test]
    fn what_took_effect_can_be_written_down() {
        let unit = |unit| config(GOOD, &[("TALLYMAN__PRODUCT__0__DIMENSION__0__UNIT", unit)]);
        assert!(unit("9223372036854775807").unwrap().effective.contains("9223372036854775807"));
        assert!(unit("9223372036854775808").is_err(), "TOML has no such number");
    }

    #[test]
    fn a_name_that_is_required_is_not_empty() {
        for empty in [GOOD.replace("\"prod\"", "\"\""), GOOD.replace("\"requests\"", "\"\"")] {
            let ConfigError(faults) = config(&empty, &[]).unwrap_err();
            assert!(faults.len() == 1 && faults[0].contains("must not be empty"), "{faults:?}");
        }
    }

    #[test]
    fn the_prefix_of_variables_is_there_once() {
        let twice = ("TALLYMAN__TALLYMAN__AGENT__ID", "x");
        assert!(config(GOOD, &[twice]).is_err());
    }
}
