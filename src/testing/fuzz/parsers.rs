//! Small texts that users write: times, quantities, clocks, identities, tags.

use std::{fmt::Debug, fmt::Display, str::FromStr};

use crate::{
    base::{
        clock::{Clock, ClockSpec},
        config::Listen,
    },
    domain::{
        customer::identity::{Identity, IdentityMode},
        time::{Hour, Timestamp},
        usage::{quantity::Quantity, tags::TagSet},
    },
    sandbox::{ChosenAnswer, Period},
};

/// The first byte chooses the parser.
pub(super) fn text(data: &[u8]) -> bool {
    let Some((kind, text)) = data.split_first() else { return false };
    let text = &*String::from_utf8_lossy(text);
    match kind {
        b't' => time(text),
        b'q' => alike::<Quantity>(text).is_some(),
        b'c' => clock(text),
        b'l' => alike::<Listen>(text).is_some(),
        b'p' => alike::<Period>(text).is_some(),
        b'a' => text.parse::<ChosenAnswer>().is_ok_and(|answer| {
            assert_eq!(String::from(answer.clone()).parse(), Ok(answer));
            true
        }),
        b'i' => identity(text),
        b'g' => tags(text),
        _ => false,
    }
}

/// What is taken prints as something that means the same.
fn alike<T: FromStr<Err = String> + Display + PartialEq + Debug>(text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    assert_eq!(value.to_string().parse().as_ref(), Ok(&value), "{value}");
    Some(value)
}

/// Times print to the second.
fn time(text: &str) -> bool {
    let Ok(moment) = text.parse::<Timestamp>() else { return false };
    let printed = Timestamp::from_seconds(moment.seconds());
    assert_eq!(moment.to_string().parse(), Ok(printed));
    let hour = Hour::containing(moment);
    assert!(moment < hour.end() && (hour.start() <= moment || hour == Hour::FIRST));
    true
}

fn clock(text: &str) -> bool {
    const FAR: i64 = 100_000_000_000;
    let Ok(spec) = text.parse::<ClockSpec>() else { return false };
    // A float can tell milliseconds until then.
    if spec.anchor.seconds() < FAR {
        assert_eq!(spec.to_string().parse(), Ok(spec), "{spec}");
    }
    let clock = Clock::new(spec);
    for real in [Timestamp::MIN, Timestamp::default(), spec.anchor, Timestamp::MAX] {
        let _ = clock.at(real).to_string();
    }
    assert_eq!(clock.at(spec.anchor), spec.start);
    true
}

fn identity(text: &str) -> bool {
    let modes = [IdentityMode::License, IdentityMode::Account, IdentityMode::CustomerIdentifier];
    let taken = modes.into_iter().filter_map(|mode| Some((mode, Identity::from_key(mode, text).ok()?)));
    let mut is_taken = false;
    for (mode, identity) in taken {
        assert_eq!(identity.mode(), mode);
        assert_eq!(Identity::from_fields(mode, identity.fields()), Ok(identity));
        is_taken = true;
    }
    is_taken
}

/// `key=value` in each line.
fn tags(text: &str) -> bool {
    let pairs = || text.split('\n').filter_map(|line| line.split_once('='));
    match TagSet::new(pairs()) {
        Ok(None) => false,
        Ok(Some(tags)) => {
            assert_eq!(TagSet::new(tags.tags()).as_ref(), Ok(&Some(tags.clone())));
            assert!(tags.tags().all(|pair| pairs().any(|given| given == pair)));
            true
        }
        Err(why) => {
            assert!(why.len() < 1024, "{} bytes", why.len());
            false
        }
    }
}

pub(super) fn texts() -> Vec<Vec<u8>> {
    [
        "t2026-11-22T10:00:00.25Z",
        "t1969-12-31T23:59:59.999-01:00",
        "q17.000001",
        "q2147483647",
        "canchor=1700000000.123,start=2026-11-30T22:00:00Z,speed=3600",
        "canchor=1,start=2026-11-30T22:00:00.5Z,speed=0.001",
        "l127.0.0.1:7450",
        "lunix:/run/tallyman.sock",
        "p2026-11-22T10:00:00Z/2026-11-22T11:00:00.5Z",
        "p/2026-11-22T10:00:00+02:00",
        "aInvalidLicenseException",
        "aNewStatus",
        "i123456789012",
        "iifAPi5AcF3",
        "gteam=blue\nenv=a b:c",
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}
