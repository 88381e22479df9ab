//! docs/configuration.md: what the parser says about its keys, with the words of [`super::words`].

use std::{collections::BTreeMap, fmt::Write};

use super::{
    overrides::variable,
    parse::parse_and_note,
    reader::Asked,
    words::{CLIENT, GRPC, Key, SECTIONS, Section},
};

/// The reference of the configuration, as Markdown.
pub fn reference() -> String {
    let asked = asked();
    let mut page = OPENING.to_owned();
    for section in SECTIONS {
        write_section(&mut page, section, &asked);
    }
    page
}

/// All examples together name every section, so the parser asks for every key.
fn asked() -> BTreeMap<String, Asked> {
    let asked = files().map(|file| match parse_and_note(&file, "examples", std::iter::empty()) {
        Ok((_, asked)) => asked,
        Err(fault) => unreachable!("a test parses the examples: {fault}"),
    });
    asked.into_iter().flatten().collect()
}

/// The examples as whole files: without clients, and without what only an agent without clients has.
fn files() -> [String; 2] {
    [CLIENT, GRPC].map(|left_out| {
        let kept = SECTIONS.iter().filter(|section| section.title != left_out.title);
        kept.map(|section| section.example).collect()
    })
}

fn write_section(page: &mut String, section: &Section, asked: &BTreeMap<String, Asked>) {
    let Section { title, path, about, keys, example } = section;
    let mut write = |text: std::fmt::Arguments<'_>| page.write_fmt(text).unwrap_or_default();
    write(format_args!("\n## `{title}`\n\n{about}\n\n"));
    write(format_args!("| key | takes | default | meaning |\n|---|---|---|---|\n"));
    for Key { name, default, words } in *keys {
        let path = format!("{path}.{name}");
        let Some(Asked { takes, default: of_parser, is_required }) = asked.get(&path) else { continue };
        let default = match (default, of_parser) {
            _ if *is_required => "required".to_owned(),
            (Some(words), _) => (*words).to_owned(),
            (None, Some(value)) => format!("`{value}`"),
            (None, None) => "none".to_owned(),
        };
        let variable = variable(&numbered(&path));
        write(format_args!("| `{name}`<br>`{variable}` | {takes} | {default} | {words} |\n"));
    }
    write(format_args!("\n```toml\n{}```\n", example.trim_start()));
}

/// The path of the first of each list.
fn numbered(path: &str) -> String {
    let lists = ["client", "product", "dimension", "customer"];
    let (tables, key) = path.rsplit_once('.').unwrap_or_default();
    let tables = tables
        .split('.')
        .map(|table| if lists.contains(&table) { format!("{table}.0") } else { table.to_owned() });
    format!("{}.{key}", tables.collect::<Vec<_>>().join("."))
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

    use super::*;

    fn paths() -> Vec<String> {
        SECTIONS
            .iter()
            .flat_map(|section| section.keys.iter().map(|key| format!("{}.{}", section.path, key.name)))
            .collect()
    }

    /// The keys of what took effect, as `product.dimension.name`.
    fn effective_keys(table: &toml::Table, above: &str, keys: &mut BTreeSet<String>) {
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
    fn every_key_of_the_parser_is_in_the_reference_and_no_other() {
        let named: BTreeSet<_> = paths().into_iter().collect();
        let asked: BTreeSet<_> = asked().into_keys().collect();
        assert_eq!(named, asked, "src/base/config/words.rs has a row for each key that the parser asks for");
        assert_eq!(paths().len(), named.len(), "each once");
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
    fn the_variables_of_the_reference_override() {
        let path = numbered("product.dimension.unit");
        assert_eq!(variable(&path), "TALLYMAN__PRODUCT__0__DIMENSION__0__UNIT");
        assert_eq!(numbered("grpc.tls.cert"), "grpc.tls.cert");
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
