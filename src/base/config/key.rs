//! One key of a table: the call that reads it gives its name and words, and then its type, default and range.

use std::{
    collections::BTreeSet, fmt::Display, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration,
};

use toml::Value;

use super::{overrides::variable, reference_entries::KeyEntry, section::Section};

#[derive(Debug)]
#[must_use = "a key takes effect when its value is read"]
pub(super) struct Key<'s, 'a> {
    section: &'s mut Section<'a>,
    name: &'static str,
    words: &'static str,
    default_words: Option<&'static str>,
}

impl<'a> Section<'a> {
    /// A key of this table. `words` are its meaning in the reference.
    pub(super) fn key(&mut self, name: &'static str, words: &'static str) -> Key<'_, 'a> {
        Key { section: self, name, words, default_words: None }
    }
}

impl<'a> Key<'_, 'a> {
    /// What the reference gives as the default, where the value says too little or is not always the same.
    pub(super) fn default_words(self, words: &'static str) -> Self {
        Self { default_words: Some(words), ..self }
    }

    pub(super) fn text(self, default: &str) -> String {
        self.parsed(default, |text| Ok(text.to_owned()))
    }

    /// Text that may be left out.
    pub(super) fn optional_text(mut self) -> Option<String> {
        self.describe("text", None);
        self.take_text()
    }

    /// Text that must be there.
    pub(super) fn required_text(mut self) -> String {
        self.describe("text", Some("required".to_owned()));
        let is_there = self.section.has(self.name);
        let text = self.take_text();
        if !is_there {
            self.fault("is required");
        } else if text.as_deref() == Some("") {
            self.fault("must not be empty");
        }
        text.unwrap_or_default()
    }

    /// A path. A relative one is relative to the configuration file.
    pub(super) fn path(mut self, default: &str) -> PathBuf {
        let text = self.again().text(default);
        self.resolved(&text)
    }

    /// The same for a path that may be left out.
    pub(super) fn optional_path(mut self) -> Option<PathBuf> {
        let text = self.again().optional_text();
        text.map(|text| self.resolved(&text))
    }

    /// The same for a path that must be there.
    pub(super) fn required_path(mut self) -> PathBuf {
        let text = self.again().required_text();
        self.resolved(&text)
    }

    fn again(&mut self) -> Key<'_, 'a> {
        Key { section: self.section, ..*self }
    }

    /// The whole path that a text means. An empty text means no path.
    fn resolved(self, text: &str) -> PathBuf {
        if text.is_empty() {
            return PathBuf::new();
        }
        let Some(path) = self.section.reading().whole_path(text) else {
            self.fault("must be a whole path: there is no configuration file that it could be relative to");
            return PathBuf::from(text);
        };
        self.section.set_effective(self.name, path.display().to_string());
        path
    }

    /// A list of texts, in the order of the alphabet, that may be left out.
    pub(super) fn optional_list(self) -> Option<BTreeSet<String>> {
        self.describe("a list of texts", None);
        let items = match self.section.take(self.name)? {
            Value::Array(items) => items,
            other => {
                self.fault(&format!("must be a list, as in [\"a\", \"b\"], not {}", other.type_str()));
                return None;
            }
        };
        if items.is_empty() {
            self.fault("must not be an empty list");
        }
        let mut texts = BTreeSet::new();
        for (item, index) in items.into_iter().zip(0..) {
            match item {
                Value::String(text) => drop(texts.insert(text)),
                other => self.section.fault(&format!("{}.{index}", self.name), &not_text(&other)),
            }
        }
        let effective: Vec<_> = texts.iter().cloned().map(Value::String).collect();
        self.section.set_effective(self.name, effective);
        Some(texts)
    }

    /// Text that means something else.
    pub(super) fn parsed<T>(self, default: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.parsed_as("text", default, parse)
    }

    /// One of a few names.
    pub(super) fn choice<T: Copy>(self, choices: &[(&str, T)], default: &str) -> T {
        let takes: Vec<_> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        self.parsed_as(&takes.join(", "), default, |text| {
            let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
            chosen.ok_or_else(|| {
                let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
                format!("must be one of {}, not `{text}`", names.join(", "))
            })
        })
    }

    /// A span of time like `5m` or `1h 30m`.
    pub(super) fn duration(self, default: &str, range: RangeInclusive<&str>) -> Duration {
        let (least, most) = range.into_inner();
        let shortest = parse_duration(least).unwrap_or_default();
        let longest = parse_duration(most).unwrap_or(Duration::MAX);
        self.parsed_as(&format!("span of time, `{least}` to `{most}`"), default, |text| {
            let duration = parse_duration(text)?;
            if duration < shortest || duration > longest {
                return Err(format!("must be from {least} to {most}, not {text}"));
            }
            Ok(duration)
        })
    }

    /// A whole number.
    pub(super) fn integer<T>(self, default: T, range: RangeInclusive<T>) -> T
    where
        T: Copy + PartialOrd + Display + FromStr + TryFrom<i64> + TryInto<i64>,
    {
        let (least, most) = (range.start(), range.end());
        self.describe_value(&format!("whole number, {least} to {most}"), default);
        let given = match self.section.take(self.name) {
            None => Some(default),
            Some(Value::Integer(number)) => T::try_from(number).ok(),
            Some(other) => self.parse_variable(&other),
        };
        let value = given.filter(|number| range.contains(number)).unwrap_or_else(|| {
            self.fault(&format!("must be a whole number from {least} to {most}"));
            default
        });
        self.section.set_effective(self.name, value.try_into().unwrap_or(i64::MAX));
        value
    }

    /// A whole number that may be left out.
    pub(super) fn optional_integer<T>(self, range: RangeInclusive<T>) -> Option<T>
    where
        T: Copy + PartialOrd + Display + FromStr + TryFrom<i64> + TryInto<i64>,
    {
        let (least, most) = (range.start(), range.end());
        self.describe(&format!("whole number, {least} to {most}"), None);
        let number = match self.section.take(self.name)? {
            Value::Integer(number) => T::try_from(number).ok(),
            other => self.parse_variable(&other),
        };
        let Some(number) = number.filter(|number| range.contains(number)) else {
            self.fault(&format!("must be a whole number from {least} to {most}"));
            return None;
        };
        self.section.set_effective(self.name, number.try_into().unwrap_or(i64::MAX));
        Some(number)
    }

    /// A share, from 0 to 1.
    pub(super) fn ratio(self, default: f64) -> f64 {
        self.describe_value("number, 0 to 1", default);
        let given = match self.section.take(self.name) {
            None => Some(default),
            Some(Value::Float(number)) => Some(number),
            Some(Value::Integer(number)) => i32::try_from(number).ok().map(f64::from),
            Some(other) => self.parse_variable(&other),
        };
        let value = given.filter(|number| (0.0..=1.0).contains(number)).unwrap_or_else(|| {
            self.fault("must be a number from 0 to 1");
            default
        });
        self.section.set_effective(self.name, value);
        value
    }

    pub(super) fn flag(self, default: bool) -> bool {
        self.describe_value("`true`, `false`", default);
        let given = match self.section.take(self.name) {
            None => Some(default),
            Some(Value::Boolean(flag)) => Some(flag),
            Some(other) => self.parse_variable(&other),
        };
        let value = given.unwrap_or_else(|| {
            self.fault("must be true or false");
            default
        });
        self.section.set_effective(self.name, value);
        value
    }

    fn parsed_as<T>(mut self, takes: &str, default: &str, parse: impl Fn(&str) -> Result<T, String>) -> T {
        self.describe_value(takes, default);
        let text = self.take_text().unwrap_or_else(|| {
            self.section.set_effective(self.name, default);
            default.to_owned()
        });
        match parse(&text) {
            Ok(value) => value,
            Err(what) => {
                self.fault(&what);
                self.section.set_effective(self.name, default);
                parse(default).unwrap_or_else(|_| unreachable!("the default of {} parses", self.name))
            }
        }
    }

    fn take_text(&mut self) -> Option<String> {
        match self.section.take(self.name)? {
            Value::String(text) => {
                self.section.set_effective(self.name, text.clone());
                Some(text)
            }
            other => {
                self.fault(&not_text(&other));
                None
            }
        }
    }

    /// Environment variables are text, so numbers and flags from there are parsed.
    fn parse_variable<T: FromStr>(&self, value: &Value) -> Option<T> {
        let text = value.as_str().filter(|_| self.section.is_overridden(self.name))?;
        text.parse().ok()
    }

    fn fault(&self, what: &str) {
        self.section.fault(self.name, what);
    }

    fn describe_value(&self, takes: &str, default: impl Display) {
        self.describe(takes, Some(format!("`{default}`")));
    }

    /// Tells the reference, with what the key takes, in words, and its default, in Markdown.
    fn describe(&self, takes: &str, default: Option<String>) {
        let default = self.default_words.map(str::to_owned).or(default);
        self.section.reading().describe_key(self.section.path(), || KeyEntry {
            name: self.name,
            variable: variable(&self.section.path_of(self.name)),
            takes: takes.to_owned(),
            default: default.unwrap_or_else(|| "none".to_owned()),
            words: self.words,
        });
    }
}

fn not_text(value: &Value) -> String {
    format!("must be text in quotes, not {}", value.type_str())
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().ok().or_else(|| days(text));
    span.and_then(|span| Duration::try_from(span).ok())
        .ok_or_else(|| format!("`{text}` is not a span of time like 90s, 5m, 24h or 400d"))
}

/// A span of time as a file has it: what is parsed of it is the same.
pub(super) fn duration_text(span: Duration) -> String {
    format!("{:#}", jiff::SignedDuration::try_from(span).unwrap_or(jiff::SignedDuration::MAX))
}

/// Days are exact here: every UTC day has 24 hours.
fn days(text: &str) -> Option<jiff::SignedDuration> {
    let days: i64 = text.strip_suffix('d')?.trim().parse().ok()?;
    days.checked_mul(24).and_then(jiff::SignedDuration::try_from_hours)
}
