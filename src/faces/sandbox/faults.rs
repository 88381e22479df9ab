//! What goes wrong on purpose.

use std::{fmt, str::FromStr, time::Duration};

use clap::Args;
use fastrand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::time::Timestamp;

// What a caller of the sandbox may run into. Probabilities go from 0, never, to 1, always.
// (Not as documentation: clap would take it for the help of the command that has these flags.)
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize, Deserialize)]
#[command(next_help_heading = "Faults")]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Probability that a call is answered with `ThrottlingException`
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    #[serde(deserialize_with = "read_probability")]
    pub throttle: f64,
    /// Probability that a call is answered with `InternalServiceErrorException` (500), and nothing is metered
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    #[serde(deserialize_with = "read_probability")]
    pub error: f64,
    /// Probability that a call is carried out, but its connection closed without an answer
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    #[serde(deserialize_with = "read_probability")]
    pub lose_reply: f64,
    /// Probability, per record, that it is listed in `UnprocessedRecords` instead of being metered
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    #[serde(deserialize_with = "read_probability")]
    pub unprocessed: f64,
    /// Real milliseconds before each answer; the call is carried out before them
    #[arg(long, value_name = "MS", default_value = "0", value_parser = milliseconds)]
    #[serde(serialize_with = "write_milliseconds", deserialize_with = "read_milliseconds")]
    pub latency: Duration,
    /// Calls per real second, in bursts of as many at most; more are answered with `ThrottlingException`
    #[arg(long, value_name = "N")]
    pub calls_per_second: Option<u32>,
    /// Seconds by which the `Date` of the answers is ahead of the sandbox's clock, or, if negative, behind
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    pub clock_offset: i64,
    /// Times by the sandbox's clock between which every call is answered with 503
    #[arg(long, value_name = "START/END")]
    pub outage: Option<Outage>,
}

/// A span of time, half-open; written as two RFC 3339 times with a slash between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Outage {
    pub start: Timestamp,
    pub end: Timestamp,
}

impl Outage {
    pub(super) fn covers(&self, moment: Timestamp) -> bool {
        (self.start..self.end).contains(&moment)
    }
}

impl FromStr for Outage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (start, end) =
            text.split_once('/').ok_or("an outage is given as START/END, two RFC 3339 times")?;
        let outage = Self { start: start.parse()?, end: end.parse()? };
        if outage.start < outage.end {
            Ok(outage)
        } else {
            Err("an outage must end after its start".to_owned())
        }
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.start, self.end)
    }
}

impl TryFrom<String> for Outage {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Outage> for String {
    fn from(outage: Outage) -> Self {
        outage.to_string()
    }
}

/// What chance has in store for one call.
#[derive(Debug)]
pub(super) struct Luck {
    pub(super) throttled: bool,
    pub(super) failed: bool,
    pub(super) reply_lost: bool,
    unprocessed: f64,
    rng: Rng,
}

impl Luck {
    /// Every call takes the same from the sandbox's randomness, whatever its records and the faults in force,
    /// so that the n-th call of a seed has the same luck in every run.
    pub(super) fn draw(faults: &Faults, randomness: &mut Rng) -> Self {
        let mut rng = randomness.fork();
        let throttled = strikes(&mut rng, faults.throttle);
        let failed = strikes(&mut rng, faults.error);
        let reply_lost = strikes(&mut rng, faults.lose_reply);
        Self { throttled, failed, reply_lost, unprocessed: faults.unprocessed, rng }
    }

    /// Asked once per record.
    pub(super) fn leaves_unprocessed(&mut self) -> bool {
        strikes(&mut self.rng, self.unprocessed)
    }
}

fn strikes(rng: &mut Rng, probability: f64) -> bool {
    rng.f64() < probability
}

/// A token bucket, which holds as many calls as a second allows.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    /// When the bucket will be full again, in real time since the sandbox's start.
    full_at: Duration,
}

impl RateLimit {
    /// Takes one call out of the bucket; says whether there was one.
    pub(super) fn take(&mut self, now: Duration, calls_per_second: u32) -> bool {
        const BURST: Duration = Duration::from_secs(1);
        let Some(refill) = BURST.checked_div(calls_per_second) else {
            return false;
        };
        let full_at = self.full_at.max(now).saturating_add(refill);
        let is_there = full_at <= now.saturating_add(BURST);
        if is_there {
            self.full_at = full_at;
        }
        is_there
    }
}

fn probability(text: &str) -> Result<f64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number")).and_then(checked_probability)
}

fn checked_probability(probability: f64) -> Result<f64, String> {
    if (0.0..=1.0).contains(&probability) { Ok(probability) } else { Err("must be from 0 to 1".to_owned()) }
}

fn read_probability<'de, D: Deserializer<'de>>(source: D) -> Result<f64, D::Error> {
    checked_probability(f64::deserialize(source)?).map_err(de::Error::custom)
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    text.parse().map(Duration::from_millis).map_err(|_| format!("`{text}` is not a number of milliseconds"))
}

fn read_milliseconds<'de, D: Deserializer<'de>>(source: D) -> Result<Duration, D::Error> {
    u64::deserialize(source).map(Duration::from_millis)
}

fn write_milliseconds<S: Serializer>(duration: &Duration, sink: S) -> Result<S::Ok, S::Error> {
    sink.serialize_u64(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        faults: Faults,
    }

    fn from_flags(flags: &[&str]) -> Result<Faults, clap::Error> {
        Cli::try_parse_from([&["sandbox"], flags].concat()).map(|cli| cli.faults)
    }

    fn luck(faults: &Faults, seed: u64) -> Vec<(bool, bool, bool, [bool; 3])> {
        let mut rng = Rng::with_seed(seed);
        let draw = |_| {
            let mut luck = Luck::draw(faults, &mut rng);
            let records = [(); 3].map(|()| luck.leaves_unprocessed());
            (luck.throttled, luck.failed, luck.reply_lost, records)
        };
        (0..200).map(draw).collect()
    }

    #[test]
    fn flags_and_json_say_the_same() {
        let flags = [
            ["--throttle", "0.1"],
            ["--error", "0.2"],
            ["--lose-reply", "0.3"],
            ["--unprocessed", "1"],
            ["--latency", "250"],
            ["--calls-per-second", "10"],
            ["--clock-offset", "-3600"],
            ["--outage", "2026-11-22T10:00:00Z/2026-11-22T11:00:00Z"],
        ];
        let faults = from_flags(flags.as_flattened()).unwrap();
        let json = r#"{"throttle":0.1,"error":0.2,"lose_reply":0.3,"unprocessed":1.0,"latency":250,
                       "calls_per_second":10,"clock_offset":-3600,"outage":"2026-11-22T10:00:00Z/2026-11-22T11:00:00Z"}"#;
        assert_eq!(serde_json::from_str::<Faults>(json).unwrap(), faults);
        assert_eq!(serde_json::from_str::<Faults>(&serde_json::to_string(&faults).unwrap()).unwrap(), faults);
    }

    #[test]
    fn without_flags_nothing_goes_wrong() {
        assert_eq!(from_flags(&[]).unwrap(), Faults::default());
        assert!(luck(&Faults::default(), 1).iter().all(|luck| *luck == (false, false, false, [false; 3])));
    }

    #[test]
    fn wrong_values_are_refused() {
        for (flag, value) in [
            ("--throttle", "1.1"),
            ("--error", "-0.1"),
            ("--lose-reply", "NaN"),
            ("--unprocessed", "often"),
            ("--latency", "-1"),
            ("--calls-per-second", "many"),
            ("--outage", "2026-11-22T10:00:00Z"),
            ("--outage", "2026-11-22T10:00:00Z/2026-11-22T10:00:00Z"),
        ] {
            assert!(from_flags(&[&format!("{flag}={value}")]).is_err(), "{flag} {value}");
        }
        for json in
            [r#"{"throttle": 2}"#, r#"{"thottle": 0.5}"#, r#"{"latency": -1}"#, r#"{"outage": "now"}"#]
        {
            assert!(serde_json::from_str::<Faults>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn a_seed_decides_the_luck_of_every_call() {
        let faults =
            Faults { throttle: 0.3, error: 0.3, lose_reply: 0.3, unprocessed: 0.3, ..Faults::default() };
        assert_eq!(luck(&faults, 7), luck(&faults, 7));
        assert_ne!(luck(&faults, 7), luck(&faults, 8));
        let throttled = luck(&faults, 7).iter().filter(|luck| luck.0).count();
        assert!((30..90).contains(&throttled), "{throttled} of 200 at a probability of 0.3");
    }

    #[test]
    fn one_fault_does_not_shift_the_luck_of_another() {
        let alone = luck(&Faults { lose_reply: 0.3, ..Faults::default() }, 7);
        let among = luck(&Faults { throttle: 1.0, error: 0.5, lose_reply: 0.3, ..Faults::default() }, 7);
        assert!(alone.iter().zip(among).all(|(alone, among)| alone.2 == among.2));
    }

    #[test]
    fn probability_one_always_strikes() {
        let always = Faults { throttle: 1.0, unprocessed: 1.0, ..Faults::default() };
        assert!(luck(&always, 7).iter().all(|luck| luck.0 && luck.3 == [true; 3]));
    }

    #[test]
    fn a_second_holds_a_burst_and_refills_steadily() {
        let mut limit = RateLimit::default();
        let at = Duration::from_millis;
        let taken = |limit: &mut RateLimit, now| (0..10).filter(|_| limit.take(now, 3)).count();
        assert_eq!(taken(&mut limit, at(0)), 3);
        assert_eq!(taken(&mut limit, at(300)), 0);
        assert_eq!(taken(&mut limit, at(340)), 1);
        assert_eq!(taken(&mut limit, at(60_000)), 3, "no more than a second's calls are saved up");
        assert!(!limit.take(at(90_000), 0), "no calls per second is no calls");
    }

    #[test]
    fn an_outage_ends_before_its_end() {
        let outage: Outage = "2026-11-22T10:00:00Z/2026-11-22T11:00:00Z".parse().unwrap();
        assert!(!outage.covers(outage.start.minus(Duration::from_millis(1))));
        assert!(outage.covers(outage.start));
        assert!(outage.covers(outage.end.minus(Duration::from_millis(1))));
        assert!(!outage.covers(outage.end));
    }
}
