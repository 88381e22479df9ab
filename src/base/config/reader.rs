//! Reads a TOML tree key by key: gathers every fault, notices unknown keys, and writes down what took effect.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use toml::{Table, Value};

/// Where faults gather. Each names its source (a file or an environment variable) and key.
#[derive(Debug)]
pub(super) struct Faults {
    file: String,
    /// Keys that the environment overrides, as paths like `hour.grace`.
    overridden: BTreeSet<String>,
    list: RefCell<Vec<String>>,
    /// Every key that was asked for, by its path without the numbers of list items: for the reference.
    asked: RefCell<BTreeMap<String, Asked>>,
}

/// What the parser takes for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// Its type and range, in words.
    pub(super) takes: String,
    pub(super) default: Option<String>,
    pub(super) is_required: bool,
}

impl Faults {
    pub(super) fn new(file: &str, overridden: BTreeSet<String>) -> Self {
        Self { file: file.to_owned(), overridden, list: RefCell::default(), asked: RefCell::default() }
    }

    fn note(&self, path: &str, asked: Asked) {
        let names = path.split('.').filter(|part| part.parse::<usize>().is_err());
        self.asked.borrow_mut().insert(names.collect::<Vec<_>>().join("."), asked);
    }

    pub(super) fn asked(&self) -> BTreeMap<String, Asked> {
        self.asked.borrow().clone()
    }

    pub(super) fn add(&self, path: &str, what: &str) {
        let source =
            if self.overridden.contains(path) { &super::overrides::variable(path) } else { &self.file };
        self.list.borrow_mut().push(format!("{source}: {path}: {what}"));
    }

    pub(super) fn into_list(self) -> Vec<String> {
        self.list.into_inner()
    }
}

/// One table of the configuration.
#[derive(Debug)]
pub(super) struct Section<'a> {
    path: String,
    table: Table,
    faults: &'a Faults,
    effective: Table,
}

impl<'a> Section<'a> {
    pub(super) fn root(table: Table, faults: &'a Faults) -> Self {
        Self { path: String::new(), table, faults, effective: Table::new() }
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn fault(&self, key: &str, what: &str) {
        self.faults.add(&self.path_of(key), what);
    }

    fn note(&self, key: &str, takes: impl Into<String>, default: Option<String>) {
        let asked = Asked { takes: takes.into(), default, is_required: false };
        self.faults.note(&self.path_of(key), asked);
    }

    /// A table below this one; an absent one reads as empty.
    pub(super) fn section(&mut self, key: &str) -> Self {
        let table = match self.table.remove(key) {
            Some(Value::Table(table)) => table,
            None => Table::new(),
            Some(_) => {
                self.fault(key, "must be a table");
                Table::new()
            }
        };
        Self { path: self.path_of(key), table, faults: self.faults, effective: Table::new() }
    }

    /// A table below this one that may be left out.
    pub(super) fn optional_section(&mut self, key: &str) -> Option<Self> {
        self.table.contains_key(key).then(|| self.section(key))
    }

    /// An array of tables.
    pub(super) fn sections(&mut self, key: &str) -> Vec<Self> {
        let items = match self.table.remove(key) {
            Some(Value::Array(items)) => items,
            None => Vec::new(),
            Some(_) => {
                self.fault(key, "must be an array of tables, as in [[...]]");
                Vec::new()
            }
        };
        let mut sections = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let path = format!("{}.{index}", self.path_of(key));
            match item {
                Value::Table(table) => {
                    sections.push(Self { path, table, faults: self.faults, effective: Table::new() });
                }
                _ => self.faults.add(&path, "must be a table"),
            }
        }
        sections
    }

    /// Puts a finished section's effective values below this one's.
    pub(super) fn put(&mut self, key: &str, section: Self) {
        let finished = section.finish();
        self.effective.insert(key.to_owned(), Value::Table(finished));
    }

    pub(super) fn put_all(&mut self, key: &str, sections: Vec<Self>) {
        if sections.is_empty() {
            return;
        }
        let finished = sections.into_iter().map(|section| Value::Table(section.finish())).collect();
        self.effective.insert(key.to_owned(), Value::Array(finished));
    }

    /// Names every key that nothing has read, and returns what took effect.
    pub(super) fn finish(self) -> Table {
        for key in self.table.keys() {
            self.fault(key, "unknown key");
        }
        self.effective
    }

    pub(super) fn optional_text(&mut self, key: &str) -> Option<String> {
        self.note(key, "text", None);
        match self.table.remove(key)? {
            Value::String(text) => {
                self.record(key, text.clone());
                Some(text)
            }
            other => {
                self.fault(key, &format!("must be text in quotes, not {}", other.type_str()));
                None
            }
        }
    }

    /// A list of texts, in the order of the alphabet, that may be left out.
    pub(super) fn optional_list(&mut self, key: &str) -> Option<BTreeSet<String>> {
        self.note(key, "a list of texts", None);
        let items = match self.table.remove(key)? {
            Value::Array(items) => items,
            other => {
                self.fault(key, &format!("must be a list, as in [\"a\", \"b\"], not {}", other.type_str()));
                return None;
            }
        };
        if items.is_empty() {
            self.fault(key, "must not be an empty list");
        }
        let mut texts = BTreeSet::new();
        for (item, index) in items.into_iter().zip(0..) {
            match item {
                Value::String(text) => drop(texts.insert(text)),
                other => {
                    let what = format!("must be text in quotes, not {}", other.type_str());
                    self.fault(&format!("{key}.{index}"), &what);
                }
            }
        }
        self.record(key, texts.iter().cloned().map(Value::String).collect::<Vec<_>>());
        Some(texts)
    }

    pub(super) fn text(&mut self, key: &str, default: &str) -> String {
        self.parsed(key, default, |text| Ok(text.to_owned()))
    }

    /// Text that must be there.
    pub(super) fn required(&mut self, key: &str) -> String {
        let is_there = self.table.contains_key(key);
        let text = self.optional_text(key);
        if !is_there {
            self.fault(key, "is required");
        } else if text.as_deref() == Some("") {
            self.fault(key, "must not be empty");
        }
        self.faults
            .note(&self.path_of(key), Asked { takes: "text".to_owned(), default: None, is_required: true });
        text.unwrap_or_default()
    }

    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        default: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> T {
        let text = self.optional_text(key).unwrap_or_else(|| {
            self.record(key, default);
            default.to_owned()
        });
        self.note(key, "text", Some(default.to_owned()));
        match parse(&text) {
            Ok(value) => value,
            Err(what) => {
                self.fault(key, &what);
                self.record(key, default);
                parse(default).unwrap_or_else(|_| unreachable!("the default of {key} parses"))
            }
        }
    }

    /// One of a few names.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)], default: &str) -> T {
        let chosen = self.parsed(key, default, |text| {
            let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
            chosen.ok_or_else(|| {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                format!("must be one of {}, not `{text}`", names.join(", "))
            })
        });
        let names: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        self.note(key, names.join(", "), Some(default.to_owned()));
        chosen
    }

    /// A span of time like `5m` or `1h 30m`.
    pub(super) fn duration(&mut self, key: &str, default: &str, (least, most): (&str, &str)) -> Duration {
        let bounds =
            (parse_duration(least).unwrap_or_default(), parse_duration(most).unwrap_or(Duration::MAX));
        let duration = self.parsed(key, default, |text| {
            let duration = parse_duration(text)?;
            if duration < bounds.0 || duration > bounds.1 {
                return Err(format!("must be from {least} to {most}, not {text}"));
            }
            Ok(duration)
        });
        self.note(key, format!("span of time, `{least}` to `{most}`"), Some(default.to_owned()));
        duration
    }

    pub(super) fn integer(&mut self, key: &str, default: u64, (least, most): (u64, u64)) -> u64 {
        let given = match self.table.remove(key) {
            None => Some(default),
            Some(Value::Integer(number)) => u64::try_from(number).ok(),
            Some(Value::String(text)) if self.is_overridden(key) => text.parse().ok(),
            Some(_) => None,
        };
        let value = given.filter(|number| (least..=most).contains(number)).unwrap_or_else(|| {
            self.fault(key, &format!("must be a whole number from {least} to {most}"));
            default
        });
        self.record(key, i64::try_from(value).unwrap_or(i64::MAX));
        self.note(key, format!("whole number, {least} to {most}"), Some(default.to_string()));
        value
    }

    /// A share, from 0 to 1.
    pub(super) fn ratio(&mut self, key: &str, default: f64) -> f64 {
        let given = match self.table.remove(key) {
            None => Some(default),
            Some(Value::Float(number)) => Some(number),
            Some(Value::Integer(number)) => i32::try_from(number).ok().map(f64::from),
            Some(Value::String(text)) if self.is_overridden(key) => text.parse().ok(),
            Some(_) => None,
        };
        let value = given.filter(|number| (0.0..=1.0).contains(number)).unwrap_or_else(|| {
            self.fault(key, "must be a number from 0 to 1");
            default
        });
        self.record(key, value);
        self.note(key, "number, 0 to 1", Some(default.to_string()));
        value
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        let given = match self.table.remove(key) {
            None => Some(default),
            Some(Value::Boolean(flag)) => Some(flag),
            Some(Value::String(text)) if self.is_overridden(key) => text.parse().ok(),
            Some(_) => None,
        };
        let value = given.unwrap_or_else(|| {
            self.fault(key, "must be true or false");
            default
        });
        self.record(key, value);
        self.note(key, "`true`, `false`", Some(default.to_string()));
        value
    }

    /// Environment variables are text, so numbers and flags from there are parsed.
    fn is_overridden(&self, key: &str) -> bool {
        self.faults.overridden.contains(&self.path_of(key))
    }

    fn record(&mut self, key: &str, value: impl Into<Value>) {
        self.effective.insert(key.to_owned(), value.into());
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().ok().or_else(|| days(text));
    span.and_then(|span| Duration::try_from(span).ok())
        .ok_or_else(|| format!("`{text}` is not a span of time like 90s, 5m, 24h or 400d"))
}

/// Days are exact here: every UTC day has 24 hours.
fn days(text: &str) -> Option<jiff::SignedDuration> {
    let days: i64 = text.strip_suffix('d')?.trim().parse().ok()?;
    days.checked_mul(24).and_then(jiff::SignedDuration::try_from_hours)
}
