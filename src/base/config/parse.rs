//! From TOML and the environment to a [`Config`].

use std::path::Path;

use toml::Table;

use super::{
    Config, ConfigError,
    overrides::{Overrides, put_overrides},
    reading::{PathBase, Reading},
    tables,
};
use crate::base::files;

/// Largest file that is read: several times what `max_customers` of a usual agent take up. Parsing takes up a hundred
/// times as much.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads the file, if there is one, and the environment's overrides.
pub(crate) fn load(
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let (text, name) = match file {
        None => (String::new(), "no file".to_owned()),
        Some(path) => (read(path).map_err(|fault| cannot_read(path, &fault))?, path.display().to_string()),
    };
    let config = parse_below(PathBase::of(file), &text, &name, variables)?;
    tables::check_build(config, cfg!(feature = "otlp"))
}

fn read(path: &Path) -> Result<String, String> {
    let bytes = files::read_regular_or_pipe(path, MAX_FILE_BYTES)?;
    String::from_utf8(bytes).map_err(|fault| fault.to_string())
}

fn cannot_read(path: &Path, fault: &str) -> ConfigError {
    ConfigError(vec![format!("{}: cannot be read: {fault}", path.display())])
}

/// Parses configuration text; `file` names it in messages. Paths stay as they are.
pub fn parse(
    text: &str,
    file: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    parse_below(PathBase::Unknown, text, file, variables)
}

fn parse_below(
    base: PathBase,
    text: &str,
    file: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    let mut table: Table =
        text.parse().map_err(|error: toml::de::Error| ConfigError(vec![format!("{file}: {error}")]))?;
    let Overrides { paths, faults: misplaced } = put_overrides(&mut table, variables);
    let reading = Reading::of(file, base, paths);
    let config = tables::read(table, &reading);
    let faults = [reading.into_faults(), misplaced].concat();
    if faults.is_empty() { Ok(config) } else { Err(ConfigError(faults)) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{GOOD, config, faults},
        *,
    };
    use crate::domain::billing::deadline::Window;

    #[test]
    fn a_file_that_does_not_end_is_not_read() {
        let faults = |file: &Path| load(Some(file), std::iter::empty()).unwrap_err().0;
        let device = faults(Path::new("/dev/zero"));
        assert_eq!(device, ["/dev/zero: cannot be read: is neither a regular file nor a pipe"]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "#".repeat((4 << 20) + 1)).unwrap();
        assert!(faults(file.path())[0].ends_with("has more than 4194304 bytes"));
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
    fn a_relative_path_is_relative_to_the_file_and_without_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tallyman.toml");
        let keys = "agent = { data_dir = 'data' }\ngrpc = { token_file = './token' }\n";
        std::fs::write(&file, format!("{keys}{GOOD}")).unwrap();
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let config = load(Some(&file), std::iter::empty()).unwrap();
        assert_eq!(config.agent.data_dir, folder.path().join("data"));
        assert_eq!(config.grpc.token_file, Some(folder.path().join("token")));
        let whole = format!("data_dir = \"{}\"", folder.path().join("data").display());
        assert!(config.effective.contains(&whole), "{}", config.effective);
        let moved = [variable("TALLYMAN__AGENT__DATA_DIR", "other")];
        let config = load(Some(&file), moved.clone().into_iter()).unwrap();
        assert_eq!(config.agent.data_dir, folder.path().join("other"));
        let alone = [
            variable("TALLYMAN__PRODUCT__0__CODE", "p"),
            variable("TALLYMAN__PRODUCT__0__DIMENSION__0__NAME", "d"),
        ];
        assert!(load(None, alone.clone().into_iter()).is_ok());
        let ConfigError(faults) = load(None, alone.into_iter().chain(moved)).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].starts_with("TALLYMAN__AGENT__DATA_DIR: agent.data_dir: must")
        );
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
}
