//! What goes wrong on purpose.

use std::{collections::VecDeque, time::Duration};

use clap::Args;
use fastrand::Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{exception::Kind, period::Period, rules::Rule};

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
    /// Answers chosen for some records, the first rule that fits
    #[arg(skip)]
    pub rules: Vec<Rule>,
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

/// At most so many calls in any second. AWS does not say how it counts; this way, no second has more than its calls.
#[derive(Debug, Default)]
pub(super) struct RateLimit {
    /// The calls that were taken within a second before the latest, in real time since the sandbox's start.
    taken: VecDeque<Duration>,
}

impl RateLimit {
    /// Says whether one more call is taken. Those that were not do not count.
    pub(super) fn take(&mut self, now: Duration, calls_per_second: u32) -> bool {
        const SECOND: Duration = Duration::from_secs(1);
        while self.taken.pop_front_if(|call| call.saturating_add(SECOND) <= now).is_some() {}
        let has_room = u32::try_from(self.taken.len()).is_ok_and(|taken| taken < calls_per_second);
        if has_room {
            self.taken.push_back(now);
        }
        has_room
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
            ["--refuse", "AccessDeniedException"],
        ];
        let faults = from_flags(flags.as_flattened()).unwrap();
        let json = r#"{"throttle":0.1,"error":0.2,"lose_reply":0.3,"unprocessed":1.0,"latency":250,
                       "calls_per_second":10,"clock_offset":-3600,"outage":"2026-11-22T10:00:00Z/2026-11-22T11:00:00Z",
                       "refuse":"AccessDeniedException"}"#;
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
    fn no_second_has_more_than_its_calls() {
        let mut limit = RateLimit::default();
        let mut take = |millis| limit.take(Duration::from_millis(millis), 3);
        assert_eq!([0, 900, 950, 999].map(&mut take), [true, true, true, false]);
        assert_eq!([1000, 1001, 1899].map(&mut take), [true, false, false], "a sliding second");
        assert_eq!([1900, 60_000].map(&mut take), [true, true]);
        assert!(!limit.take(Duration::from_secs(90), 0), "no calls per second is no calls");
    }
}
