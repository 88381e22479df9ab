//! A contender in a process of its own: it commits what it is told to, and says what it cost.

use std::{
    io::{self, Write},
    path::Path,
    time::Instant,
};

use serde::Serialize;

use crate::{
    contender::{Contender, Lap, Reopened},
    ids::{self, Plan},
    ingested::Ingested,
    keys::Keys,
    machine,
    tree::Tree,
    tuning::Tuning,
};

/// How many ids are looked up at the end, of the oldest and of the latest.
const LOOKED_UP: u64 = 50_000;
/// Memory is looked at after so many commits.
const SAMPLE: u64 = 4;

/// Takes turns: each line of the input is a number of commits.
pub(crate) fn run(plan: Plan, words: &[&str]) {
    let [variant, folder] = words else { panic!("a variant and a folder are missing") };
    let mut contender = open(variant, Path::new(folder), plan.time_of(0));
    let mut next = 0;
    let mut peak_anonymous = 0;
    for line in io::stdin().lines() {
        let commits: u64 = line.unwrap().parse().unwrap();
        let mut lap = Lap::default();
        let (cpu, own_cpu) = (machine::cpu_time(), machine::own_cpu_time());
        for number in next..next + commits {
            let ids = plan.commit(number);
            let before = lap.busy();
            lap.new += contender.commit(&ids, plan.time_of(number), &mut lap);
            lap.ids += ids.len() as u64;
            lap.commits.push(u64::try_from((lap.busy() - before).as_micros()).unwrap());
            if number % SAMPLE == 0 {
                peak_anonymous = machine::anonymous().max(peak_anonymous);
            }
        }
        lap.cpu = machine::cpu_time() - cpu;
        lap.own_cpu = machine::own_cpu_time() - own_cpu;
        next += commits;
        lap.peak_anonymous = peak_anonymous;
        lap.peak_resident = machine::peak_resident();
        lap.resident = machine::resident();
        lap.written = machine::bytes_written();
        lap.disk = machine::disk(Path::new(folder));
        tell(&lap);
    }
}

/// Starts on what is there, and looks for ids that it has to know and for some that it cannot.
pub(crate) fn reopen(plan: Plan, words: &[&str]) {
    let [variant, folder] = words else { panic!("a variant and a folder are missing") };
    let start = Instant::now();
    let mut contender = open(variant, Path::new(folder), plan.time_of(plan.commits() - 1));
    let start = start.elapsed();
    let resident = machine::resident();
    let mut look_up = |first: u64| {
        let ids: Vec<u128> = (first..first + LOOKED_UP.min(plan.ids)).map(ids::id).collect();
        let began = Instant::now();
        let known: usize = ids.chunks(64).map(|part| contender.known(part)).sum();
        (known, began.elapsed() / u32::try_from(ids.len()).unwrap())
    };
    let latest = plan.commits() * plan.per_commit;
    let (known_oldest, oldest) = look_up(0);
    let (known_latest, latest_took) = look_up(latest.saturating_sub(LOOKED_UP));
    let all = usize::try_from(LOOKED_UP.min(plan.ids)).unwrap();
    assert_eq!((known_oldest, known_latest), (all, all), "an id is lost");
    let unknown: Vec<u128> =
        (latest..latest + LOOKED_UP).filter(|position| position % 100 < 90).map(ids::id).collect();
    assert_eq!(contender.known(&unknown), 0, "a false duplicate");
    tell(&Reopened { start, resident, oldest, latest: latest_took, shape: contender.shape() });
}

fn open(variant: &str, folder: &Path, now: u32) -> Box<dyn Contender> {
    let (kind, tuning) = variant.split_once(',').unwrap_or((variant, ""));
    let tuning: Tuning = tuning.parse().unwrap();
    match kind {
        "tree" => Box::new(Tree::open(folder, now)),
        "keys" => Box::new(Keys::open(folder, tuning)),
        "ingested" => Box::new(Ingested::open(folder, tuning)),
        _ => panic!("no variant is called {kind}"),
    }
}

fn tell(what: &impl Serialize) {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(what).unwrap()).unwrap();
    out.flush().unwrap();
}
