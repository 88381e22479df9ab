//! The targets on their seeds, mutated. For a long run without nightly: `PROPTEST_CASES=1000000`.

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
    test_runner::TestRunner,
};

use super::{TARGETS, Target, target};

/// Targets are quick.
const CASES_PER_CASE: u32 = 64;

#[test]
fn every_seed_is_taken() {
    for target in TARGETS {
        for seed in (target.seeds)() {
            assert!((target.run)(&seed), "{}: {}", target.name, seed.escape_ascii());
        }
    }
}

#[test]
fn no_answer_settles_a_record_that_it_does_not_name() {
    holds_for_mutated_seeds(target("answers"));
}

#[test]
fn a_configuration_is_refused_with_a_reason_or_prints_as_what_it_is() {
    holds_for_mutated_seeds(target("config"));
}

#[test]
fn a_key_that_is_read_is_written_in_no_other_way() {
    holds_for_mutated_seeds(target("keys"));
}

#[test]
fn what_users_write_prints_as_the_same() {
    holds_for_mutated_seeds(target("parsers"));
}

#[test]
fn each_event_of_a_request_counts_once_or_is_rejected() {
    holds_for_mutated_seeds(target("requests"));
}

#[test]
fn a_call_to_the_sandbox_bills_once_or_is_refused() {
    holds_for_mutated_seeds(target("sandbox"));
}

#[test]
fn a_value_that_is_read_is_kept() {
    holds_for_mutated_seeds(target("values"));
}

fn holds_for_mutated_seeds(target: Target) {
    let default = ProptestConfig::default();
    let cases = default.cases.saturating_mul(CASES_PER_CASE);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..default });
    let result = runner.run(&inputs((target.seeds)()), |input| {
        (target.run)(&input.0);
        Ok(())
    });
    if let Err(fault) = result {
        panic!("{}: {fault}", target.name);
    }
}

/// Shown as a byte string that can be pasted among the seeds.
#[derive(Clone)]
struct Input(Vec<u8>);

impl std::fmt::Debug for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

fn inputs(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Input> {
    let kinds: Vec<u8> = seeds.iter().map(|seed| seed[0]).collect();
    let noise =
        (select(kinds), vec(any::<u8>(), 0..200)).prop_map(|(kind, noise)| [vec![kind], noise].concat());
    let mutated = (select(seeds.clone()), select(seeds), vec(edits(), 0..6))
        .prop_map(|(seed, other, edits)| edits.iter().fold(seed, |bytes, edit| edit.apply(bytes, &other)));
    prop_oneof![1 => noise, 9 => mutated].prop_map(Input)
}

#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Overwrite(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Repeat(Index, usize, usize),
    /// Goes on with another seed.
    Splice(Index, Index),
}

fn edits() -> impl Strategy<Value = Edit> {
    let token = select(TOKENS.to_vec()).prop_map(<[u8]>::to_vec);
    prop_oneof![
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, 1 << bit)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Edit::Overwrite(at, byte)),
        (any::<Index>(), prop_oneof![token, vec(any::<u8>(), 1..8)])
            .prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        (any::<Index>(), 1..200_usize, 1..60_usize)
            .prop_map(|(at, length, times)| Edit::Repeat(at, length, times)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Edit::Splice(from, to)),
    ]
}

/// What decoders stumble over.
const TOKENS: [&[u8]; 24] = [
    b"0",
    b"-1",
    b"9",
    b"1e400",
    b"-0.0",
    b"0.5",
    b"NaN",
    b"18446744073709551615",
    b"9223372036854775808",
    b"2147483648",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"[",
    b"null",
    b"[[product]]\n",
    b"TALLYMAN__",
    b"\0",
    b"__",
    b"=",
    b".",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    b"\xf0\x9f\xa6\x80",
];

impl Edit {
    /// The first byte, which chooses what the rest is, stays.
    fn apply(&self, mut bytes: Vec<u8>, other: &[u8]) -> Vec<u8> {
        let span = |index: &Index, length: usize, bytes: &[u8]| {
            let start = (1 + index.index(bytes.len().max(1))).min(bytes.len());
            start..start.saturating_add(length).min(bytes.len())
        };
        match self {
            Self::Flip(at, bit) => {
                let range = span(at, 1, &bytes);
                bytes[range].iter_mut().for_each(|byte| *byte ^= bit);
            }
            Self::Overwrite(at, new) => {
                let range = span(at, 1, &bytes);
                bytes[range].fill(*new);
            }
            Self::Insert(at, new) => {
                let start = span(at, 0, &bytes).start;
                bytes.splice(start..start, new.iter().copied());
            }
            Self::Remove(at, length) => {
                let range = span(at, *length, &bytes);
                bytes.drain(range);
            }
            Self::Repeat(at, length, times) => {
                let range = span(at, *length, &bytes);
                let repeated = bytes[range.clone()].repeat(*times);
                bytes.splice(range.end..range.end, repeated);
            }
            Self::Splice(from, to) => {
                bytes.truncate(span(from, 0, &bytes).start);
                bytes.extend(&other[span(to, 0, other).start..]);
            }
        }
        bytes
    }
}
