//! Seeds, and what they must show.

use std::collections::BTreeSet;

use super::{Coverage, Report, Sabotage, run};

/// Seeds that once found a fault: a record that had been given up was given up again, when old news came of it. (What a
/// seed means changes with the plan; the faults have tests of their own, too.)
const REGRESSIONS: [u64; 3] = [412, 606, 1419];

/// What a hundred seeds must provoke, or the simulation has gone blind.
const KINDS: [&str; 86] = [
    "a bad record",
    "a carry",
    "a clock in doubt",
    "a crash after a commit",
    "a crash at the start",
    "a crash between a write and its sync",
    "a crash in a call",
    "a customer is forgotten",
    "a customer that AWS does not know",
    "a decision that cannot be carried out",
    "a decision to carry",
    "a decision to retry",
    "a decision to write off",
    "a decision without an answer",
    "a duplicate",
    "a fault of the set-up",
    "a late event",
    "a line that is missing",
    "a long down-time",
    "a message that counted without an answer",
    "a notice",
    "a number too old to be compared",
    "a producer that has lost its count",
    "a record that withholds something",
    "a record with tags",
    "a registration under a clock in doubt",
    "a reopening",
    "a repeated adjustment",
    "a repeated message",
    "a replaced account",
    "a rounded remainder",
    "a seal after a review",
    "a seal of a closing customer",
    "a slip",
    "a slip that is rejected",
    "a start that is told late",
    "a start under a wrong clock",
    "a stop in order",
    "a stream that is taken over",
    "a suspicious hour is carried",
    "a suspicious hour is sent",
    "a suspicious hour is written off",
    "a write that failed",
    "a write that failed and completed",
    "a wrong clock",
    "a zero record",
    "accepted",
    "an adjustment",
    "an adjustment that is refused",
    "an adjustment without an answer",
    "an application that waits no longer",
    "an event from before its customer's time",
    "an event that is refused for now",
    "an hour of AWS's largest quantity",
    "an hour that the model knows",
    "an outage longer than the deadline",
    "an unknown status",
    "an unprocessed line",
    "another takes a slot",
    "carried by a person",
    "crash",
    "events without an answer",
    "expired",
    "held: before since",
    "held: conflict",
    "held: missed",
    "held: not billable",
    "held: not subscribed",
    "held: outcome unknown",
    "held: refused",
    "held: replaced",
    "held: suspicious",
    "held: unknown customer",
    "lost after it was processed",
    "lost before it was processed",
    "no subscription for a while",
    "not delivered",
    "other events under a number that has counted",
    "presumed",
    "resumed",
    "rolled forward",
    "sent again after it was billed",
    "the machine slept",
    "throttled",
    "too old for AWS",
    "two clients with one producer's name",
];

const LAST_LINES: usize = 400;

/// Panics with the seed, what happened last, and how to see all of it again.
fn must_pass(seed: u64, report: Report) -> Coverage {
    must_pass_or_tell(seed, report, LAST_LINES)
}

fn must_pass_or_tell(seed: u64, report: Report, last_lines: usize) -> Coverage {
    if let Some(fault) = report.fault {
        let skipped = report.lines.len().saturating_sub(last_lines);
        let lines = report.lines[skipped..].join("\n");
        panic!("seed {seed} fails; `make sim SEED={seed}` repeats it\n{lines}\n\nseed {seed}: {fault}");
    }
    report.coverage
}

fn add(sum: &mut Coverage, coverage: Coverage) {
    for (kind, times) in coverage {
        *sum.entry(kind).or_default() += times;
    }
}

#[test]
fn a_seed_repeats_exactly() {
    for seed in 0..3 {
        let hashes: BTreeSet<u64> = (0..4).map(|_| run(seed, None).hash).collect();
        assert_eq!(hashes.len(), 1, "seed {seed}");
    }
}

#[test]
fn a_hundred_seeds_bill_exactly_and_provoke_every_fault() {
    let mut sum = Coverage::new();
    for seed in 0..100 {
        add(&mut sum, must_pass(seed, run(seed, None)));
    }
    let unseen: Vec<&str> = KINDS.into_iter().filter(|kind| !sum.contains_key(kind)).collect();
    assert!(unseen.is_empty(), "never seen: {unseen:?} in {sum:#?}");
}

#[test]
fn seeds_that_once_failed_pass() {
    for seed in REGRESSIONS {
        must_pass(seed, run(seed, None));
    }
}

/// The first seed below a hundred that catches it for what it is, and its words.
fn caught(sabotage: Sabotage, word: &str) -> (u64, String) {
    let fault = |seed| run(seed, Some(sabotage)).fault.map(|fault| (seed, fault));
    let mut catches = (0..100).filter_map(fault).filter(|(_, fault)| fault.starts_with(word));
    catches.next().unwrap_or_else(|| panic!("{sabotage:?} goes unseen"))
}

#[test]
fn every_sabotage_is_caught() {
    for (sabotage, word) in [
        (Sabotage::AnswerBeforeSync, "I3: "),
        (Sabotage::ForgetDedupKey, "I4: "),
        (Sabotage::LendProducer, "I4: "),
        (Sabotage::TakeDivergedForRepeat, "I3: "),
        (Sabotage::RecomputeOnRetry, "I2: "),
        (Sabotage::DropCarry, "I1: "),
        (Sabotage::SendBeforeSeal, "I7: "),
        (Sabotage::SealBeforeTold, "I7: "),
        (Sabotage::ForgetAdjustment, "I2: "),
    ] {
        let (seed, fault) = caught(sabotage, word);
        eprintln!("{sabotage:?} is caught by seed {seed}: {fault}");
    }
}

/// As many as `TALLYMAN_SIM_SEEDS` asks for, or the one of `TALLYMAN_SIM_SEED`: see `make sim`.
#[test]
fn more_seeds_bill_exactly() {
    let number = |name: &str| setting(name).map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("TALLYMAN_SIM_SEED") {
        let coverage = must_pass_or_tell(seed, run(seed, None), usize::MAX);
        return eprintln!("seed {seed} passes: {coverage:#?}");
    }
    let (asked, workers) = match number("TALLYMAN_SIM_SEEDS") {
        Some(seeds) => (seeds, std::thread::available_parallelism().unwrap().get() as u64),
        None => (IN_A_MINUTE, 1),
    };
    let seeds = 100..100 + asked;
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let share = seeds.clone().filter(move |seed| seed % workers == worker);
            scope.spawn(move || {
                for (seed, done) in share.zip(1..) {
                    must_pass(seed, run(seed, None));
                    if done % 500 == 0 {
                        eprintln!("worker {worker}: {done} seeds");
                    }
                }
            });
        }
    });
    eprintln!("{asked} seeds pass");
}

const IN_A_MINUTE: u64 = 400;

#[expect(clippy::disallowed_methods, reason = "a test's settings come from who runs it")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}
