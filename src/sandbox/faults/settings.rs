//! The settings of the faults, as flags and as JSON.

use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{period::Period, rules::Rule};
use crate::sandbox::exception::Kind;

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
    /// Calls in any real second; more are answered with `ThrottlingException`
    #[arg(long, value_name = "N")]
    pub calls_per_second: Option<u32>,
    /// Seconds by which the `Date` of the answers is ahead of the sandbox's clock, or, if negative, behind
    #[arg(long, value_name = "SECONDS", default_value_t = 0, allow_negative_numbers = true)]
    pub clock_offset: i64,
    /// Times by the sandbox's clock between which every call is answered with 503
    #[arg(long, value_name = "START/END")]
    pub outage: Option<Period>,
    /// The exception with which every call is refused, as in `AccessDeniedException`
    #[arg(long, value_name = "EXCEPTION")]
    pub refuse: Option<Kind>,
    /// The customers that exist, by account id, license ARN or customer identifier; with a list, AWS knows no others
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub known_customers: Option<Vec<String>>,
    /// Answers chosen for some records, the first rule that fits
    #[arg(skip)]
    pub rules: Vec<Rule>,
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
            ["--refuse", "AccessDeniedException"],
            ["--known-customers", "ifAPi5AcF3,123456789012"],
        ];
        let faults = from_flags(flags.as_flattened()).unwrap();
        let json = r#"{"throttle":0.1,"error":0.2,"lose_reply":0.3,"unprocessed":1.0,"latency":250,
                       "calls_per_second":10,"clock_offset":-3600,"outage":"2026-11-22T10:00:00Z/2026-11-22T11:00:00Z",
                       "refuse":"AccessDeniedException","known_customers":["ifAPi5AcF3","123456789012"]}"#;
        assert_eq!(serde_json::from_str::<Faults>(json).unwrap(), faults);
        assert_eq!(serde_json::from_str::<Faults>(&serde_json::to_string(&faults).unwrap()).unwrap(), faults);
    }

    #[test]
    fn without_flags_there_are_no_faults() {
        assert_eq!(from_flags(&[]).unwrap(), Faults::default());
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
            ("--refuse", "NoSuchException"),
        ] {
            assert!(from_flags(&[&format!("{flag}={value}")]).is_err(), "{flag} {value}");
        }
        for json in [
            r#"{"throttle": 2}"#,
            r#"{"thottle": 0.5}"#,
            r#"{"latency": -1}"#,
            r#"{"outage": "now"}"#,
            r#"{"rules": [{"customer": "1"}]}"#,
            r#"{"rules": [{"costumer": "1", "answer": "New"}]}"#,
        ] {
            assert!(serde_json::from_str::<Faults>(json).is_err(), "{json}");
        }
    }
}
