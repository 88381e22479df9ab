//! Figures of several rounds.

use std::{collections::BTreeMap, fmt};

/// What was measured of whom: one figure for each round.
#[derive(Debug, Default)]
pub(crate) struct Results {
    figures: BTreeMap<(&'static str, Subject, Figure), Vec<f64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Discard,
    Tallyman,
    /// An older one.
    Before,
    Redis,
    Postgres,
    Disk,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discard => "discard",
            Self::Tallyman => "tallyman",
            Self::Before => "tallyman before",
            Self::Redis => "Redis",
            Self::Postgres => "PostgreSQL",
            Self::Disk => "fdatasync",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    EventsPerSecond,
    /// In milliseconds.
    P50,
    P99,
    /// To the disk, for each event.
    BytesPerEvent,
    /// In MiB.
    Resident,
}

/// A median, and between what it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Results {
    pub(crate) fn add(&mut self, scenario: &'static str, subject: Subject, figure: Figure, value: f64) {
        self.figures.entry((scenario, subject, figure)).or_default().push(value);
    }

    pub(crate) fn spread(&self, scenario: &'static str, subject: Subject, figure: Figure) -> Option<Spread> {
        Spread::of(self.figures.get(&(scenario, subject, figure))?)
    }

    pub(crate) fn rate(&self, scenario: &'static str, subject: Subject) -> Option<Spread> {
        self.spread(scenario, subject, Figure::EventsPerSecond)
    }

    /// A subject's events a second as a share of what the other took in the same round.
    pub(crate) fn ratio(&self, scenario: &'static str, subject: Subject, other: Subject) -> Option<Spread> {
        let rates = |subject| self.figures.get(&(scenario, subject, Figure::EventsPerSecond));
        let pairs = rates(subject)?.iter().zip(rates(other)?);
        Spread::of(&pairs.map(|(mine, others)| mine / others).collect::<Vec<_>>())
    }
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, least, most })
    }

    pub(crate) fn show(self, form: impl Fn(f64) -> String) -> String {
        format!("{} ({}..{})", form(self.median), form(self.least), form(self.most))
    }
}
