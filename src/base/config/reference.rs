//! docs/configuration.md, which the parser writes: each call that reads a table or key tells what it means.

use toml::Table;

use super::{reading::Reading, reference_entries::Tables, tables};

/// The reference of the configuration, as Markdown.
pub(crate) fn reference() -> String {
    let mut page = OPENING.to_owned();
    for table in all_tables().0 {
        table.write(&mut page).unwrap_or_default();
    }
    page
}

/// Each table with its keys, as the parser reads them.
fn all_tables() -> Tables {
    let reading = Reading::for_reference();
    tables::read(Table::new(), &reading);
    reading.into_tables()
}

const OPENING: &str = "\
# Configuration

Every key of `tallyman.toml`, as the program itself tells it: `tallyman check --reference` prints this page.

A key that is not here is an error. An environment variable overrides each key; its name stands below the key's, with
list items counted from 0, as in `TALLYMAN__PRODUCT__1__REGION=eu-west-1`. A span of time is like `90s`, `5m`, `1h 30m`
or `400d`. Account ids are text in quotes, since they may begin with 0.

`tallyman check --config FILE` names every fault at once, with file or variable and key, and exits 64. With `--print` it
prints the configuration as it takes effect, defaults and environment included. The examples below are one file, in
pieces; only `[grpc]` and `[[grpc.client]]` have different ones.
";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{
        super::reference_entries::{KeyEntry, TableEntry, name},
        *,
    };

    fn paths() -> Vec<String> {
        let tables = all_tables().0;
        let keys = |table: &TableEntry| {
            let path_of = |key: &KeyEntry| format!("{}.{}", name(&table.path), key.name);
            table.keys.iter().map(path_of).collect::<Vec<_>>()
        };
        tables.iter().flat_map(keys).collect()
    }

    /// The examples as whole files: without clients, and without what only an agent without clients has.
    fn files() -> [String; 2] {
        ["[[grpc.client]]", "[grpc]"].map(|left_out| {
            let tables = all_tables().0;
            assert!(tables.iter().any(|table| table.title == left_out), "{left_out}");
            let kept = tables.iter().filter(|table| table.title != left_out);
            kept.map(|table| table.about.example).collect()
        })
    }

    /// The keys of what took effect, as `product.dimension.name`.
    fn effective_keys(table: &Table, above: &str, keys: &mut BTreeSet<String>) {
        for (key, value) in table {
            let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
            match value {
                toml::Value::Table(table) => effective_keys(table, &path, keys),
                toml::Value::Array(items) if items.iter().all(toml::Value::is_table) => {
                    for item in items.iter().filter_map(toml::Value::as_table) {
                        effective_keys(item, &path, keys);
                    }
                }
                _ => {
                    keys.insert(path);
                }
            }
        }
    }

    #[test]
    fn every_key_is_in_the_reference_once() {
        let paths = paths();
        assert_eq!(paths.len(), paths.iter().collect::<BTreeSet<_>>().len(), "{paths:?}");
    }

    #[test]
    fn the_examples_are_right_files_that_set_every_key() {
        let mut keys = BTreeSet::new();
        for file in files() {
            let config = super::super::parse(&file, "examples", std::iter::empty()).unwrap();
            effective_keys(&config.effective.parse().unwrap(), "", &mut keys);
        }
        assert_eq!(keys, paths().into_iter().collect(), "what `check --print` shows");
    }

    #[test]
    fn the_page_is_up_to_date() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let page = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(
            page,
            reference(),
            "docs/configuration.md is old: tallyman check --reference > docs/configuration.md"
        );
    }
}
