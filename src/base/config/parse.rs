//! From TOML and the environment to a [`Config`].

use std::{collections::BTreeMap, path::Path, sync::Arc};

use toml::Table;

use super::{
    Admin, Agent, Config, ConfigError, Retention,
    grpc::read_grpc,
    hours::{read_hour, read_submission},
    limits::read_limits,
    overrides::{Overrides, put_overrides},
    products::read_products,
    reader::{Asked, Faults, Section},
    telemetry::{check_build, read_telemetry},
};

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
    let Overrides { paths, faults: misplaced } = put_overrides(&mut table, variables);
    let faults = Faults::new(file, paths);
    let config = read(table, &faults);
    let asked = faults.asked();
    let mut list = faults.into_list();
    list.extend(misplaced);
    if list.is_empty() { Ok((config, asked)) } else { Err(ConfigError(list)) }
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

fn read_retention(root: &mut Section<'_>) -> Retention {
    let mut section = root.section("retention");
    let retention = Retention { receipts: section.duration("receipts", "400d", ("1d", "36500d")) };
    root.put("retention", section);
    retention
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GOOD, config, faults};
    use crate::domain::deadline::Window;

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
    fn the_effective_configuration_parses_to_itself() {
        let first = config(GOOD, &[("TALLYMAN__HOUR__GRACE", "90s")]).unwrap();
        let second = config(&first.effective, &[]).unwrap();
        assert_eq!(first.effective, second.effective);
        assert!(first.effective.contains("grace = \"90s\""), "{}", first.effective);
    }

    #[test]
    fn the_status_page_names_customers_only_when_told_to() {
        let shows = |variables: &[(&str, &str)]| config(GOOD, variables).unwrap().admin.show_customers;
        assert!(!shows(&[]) && shows(&[("TALLYMAN__ADMIN__SHOW_CUSTOMERS", "true")]));
    }
}
