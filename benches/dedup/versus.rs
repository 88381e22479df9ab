//! The tree and variants side by side: each in a process of its own, in turns, and stopped while another one has its turn, so
//! that nobody's work in the background runs in somebody else's time.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

use crate::{
    MILLION,
    contender::{Lap, Reopened},
    ids::Plan,
    machine,
    report::{self, Side},
};

/// How many turns each one has.
const TURNS: u64 = 100;

/// Ends with what was done within the limit.
pub(crate) fn run(plan: Plan, limit: Duration, variants: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let names = ["tree"].into_iter().chain(variants.iter().copied());
    let mut contenders: Vec<Contender> =
        names.enumerate().map(|(number, name)| Contender::new(plan, name, folder.path(), number)).collect();
    let (machine_before, start) = (machine::cpu_time_of_all(), Instant::now());
    println!("load {} before", machine::load());
    let (mut turn, mut done) = (0, 0);
    while done < plan.commits() && start.elapsed() < limit {
        let commits = plan.commits().div_ceil(TURNS).min(plan.commits() - done);
        let count = contenders.len();
        // Who begins is another one each time.
        for index in 0..count {
            contenders[(turn + index) % count].take_turn(commits);
        }
        (turn, done) = (turn + 1, done + commits);
        check(plan, &contenders, done);
        if turn % 10 == 0 {
            report::tell_progress(done * plan.per_commit / MILLION, contenders.iter().map(|one| &one.side));
        }
    }
    let (busy, elapsed) = (machine::cpu_time_of_all() - machine_before, start.elapsed());
    println!("load {} after", machine::load());
    let done = Plan { ids: done * plan.per_commit, ..plan };
    println!("{} ids in {} generations, {} in a commit", done.ids, done.generations, done.per_commit);
    let sides: Vec<Side> = contenders.into_iter().map(|contender| contender.end(done)).collect();
    report::tell(&sides, busy, elapsed);
}

/// All say the same of the same ids, and it is true.
fn check(plan: Plan, contenders: &[Contender], commits: u64) {
    for contender in contenders {
        let new: u64 = contender.side.laps.iter().map(|lap| lap.new).sum();
        let name = &contender.side.name;
        assert_eq!(new, commits * plan.per_commit - plan.repeats(commits), "{name} found other repeats");
    }
}

struct Contender {
    side: Side,
    folder: PathBuf,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Contender {
    fn new(plan: Plan, name: &str, folder: &Path, number: usize) -> Self {
        let folder = folder.join(number.to_string());
        let mut child = start("contend", plan, name, &folder);
        let (orders, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let side = Side { name: name.to_owned(), laps: Vec::new(), reopened: None };
        let contender = Self { side, folder, child, orders, answers };
        contender.signal("-STOP");
        contender
    }

    fn take_turn(&mut self, commits: u64) {
        self.signal("-CONT");
        writeln!(self.orders, "{commits}").unwrap();
        let lap: Lap = answer(&mut self.answers);
        self.signal("-STOP");
        self.side.laps.push(lap);
    }

    /// Ends without an orderly stop, as after a crash, and starts again on what is on disk.
    fn end(mut self, plan: Plan) -> Side {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut again = start("reopen", plan, &self.side.name, &self.folder);
        let reopened: Reopened = answer(&mut BufReader::new(again.stdout.take().unwrap()));
        assert!(again.wait().unwrap().success());
        Side { reopened: Some(reopened), ..self.side }
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.unwrap().success());
    }
}

fn start(mode: &str, plan: Plan, variant: &str, folder: &Path) -> Child {
    let numbers = [plan.ids, plan.per_commit, plan.generations].map(|number| number.to_string());
    let (variant, program) = match variant.split_once('@') {
        Some((variant, program)) => (variant, program.into()),
        None => (variant, std::env::current_exe().unwrap()),
    };
    Command::new(program)
        .arg(mode)
        .args(numbers)
        .arg(variant)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn answer<T: DeserializeOwned>(answers: &mut impl BufRead) -> T {
    let mut line = String::new();
    answers.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|fault| panic!("no answer: {fault}"))
}
