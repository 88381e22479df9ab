//! Variables of the environment override keys of the file.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

const PREFIX: &str = "TALLYMAN__";

/// What the variables of the environment came to.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    /// The keys that are overridden, as paths like `hour.grace`.
    pub(super) paths: BTreeSet<String>,
    /// A fault for each variable that names no place in the configuration.
    pub(super) faults: Vec<String>,
}

/// Puts each variable that begins with the prefix into the tree.
pub(super) fn put_overrides(
    table: &mut Table,
    variables: impl Iterator<Item = (String, String)>,
) -> Overrides {
    let variables: BTreeMap<String, String> =
        variables.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    let mut overrides = Overrides::default();
    for (name, value) in variables {
        let path = name.strip_prefix(PREFIX).unwrap_or_default();
        let path: Vec<String> = path.split("__").map(str::to_ascii_lowercase).collect();
        match set(table, &path, value) {
            Some(()) => drop(overrides.paths.insert(path.join("."))),
            None => overrides.faults.push(format!("{name}: there is no such place in the configuration")),
        }
    }
    overrides
}

/// The environment variable that overrides a key.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
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

#[cfg(test)]
mod tests {
    use super::super::{
        parse,
        testing::{GOOD, config},
    };
    use crate::domain::product::ProductIndex;

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
    fn the_prefix_of_variables_is_there_once() {
        let twice = ("TALLYMAN__TALLYMAN__AGENT__ID", "x");
        assert!(config(GOOD, &[twice]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String, name in "[A-Z_0-9]{0,20}", value: String) {
            drop(parse(&text, "t.toml", std::iter::once((super::variable(&name), value))));
        }
    }
}
