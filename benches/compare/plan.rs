//! What is measured, in which order.

use std::{fs, path::Path, time::Duration};

use tallyman::faces::load::{Load, Mode, Report, Usage};

use crate::{
    disk,
    results::{Figure, Results, Subject},
    subjects::{
        discard::Discard,
        drive,
        postgres::Postgres,
        redis::{self, Redis},
        tallyman::Tallyman,
    },
};

pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) span: Duration,
    pub(crate) only: String,
    pub(crate) has_peers: bool,
}

/// One kind of load.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    mode: Mode,
    batch: u32,
    in_flight: u32,
    pub(crate) has_ids: bool,
    rate: u64,
}

pub(crate) const STREAMS: Scenario = Scenario {
    name: "streams of 1000",
    mode: Mode::Stream,
    batch: 1000,
    in_flight: 16,
    has_ids: false,
    rate: 0,
};
pub(crate) const STREAMS_WITH_IDS: Scenario =
    Scenario { name: "streams of 1000, with ids", has_ids: true, ..STREAMS };
const CALLS: Scenario = Scenario { name: "calls of 100", mode: Mode::Unary, batch: 100, ..STREAMS };
pub(crate) const SCENARIOS: [Scenario; 6] = [
    STREAMS,
    STREAMS_WITH_IDS,
    CALLS,
    Scenario { name: "calls of 100, with ids", has_ids: true, ..CALLS },
    Scenario { name: "calls of 10", batch: 10, ..CALLS },
    Scenario { name: "calls of 1", batch: 1, ..CALLS },
];
pub(crate) const STEADY: Scenario =
    Scenario { name: "50 000 events/s in calls of 100", rate: 50_000, ..CALLS };
/// Before anything is sent.
pub(crate) const IDLE: &str = "idle";

const CONNECTIONS: usize = 4;
const WARM_UP: Duration = Duration::from_millis(500);

impl Scenario {
    fn load(&self, duration: Duration) -> Load {
        Load {
            mode: self.mode,
            usage: Usage { has_ids: self.has_ids, ..Usage::default() },
            batch: self.batch,
            in_flight: self.in_flight,
            most_events: u64::MAX,
            duration,
            rate: self.rate,
        }
    }

    async fn drive(&self, address: &str, span: Duration) -> Report {
        drive(address, &self.load(WARM_UP), CONNECTIONS).await;
        drive(address, &self.load(span), CONNECTIONS).await
    }
}

impl Plan {
    pub(crate) fn has(&self, scenario: &Scenario) -> bool {
        scenario.name.contains(&self.only)
    }

    pub(crate) async fn carry_out(&self, folder: &Path) -> Results {
        let mut results = Results::default();
        let postgres = if self.has_peers { Postgres::install(folder) } else { None };
        for round in 1..=self.rounds {
            eprintln!("round {round} of {}", self.rounds);
            let folder = folder.join(round.to_string());
            fs::create_dir_all(&folder).unwrap();
            self.round(&folder, round % 2 == 0, &mut results).await;
            if self.has_peers {
                self.peers(&folder, postgres.as_ref(), &mut results).await;
            }
            fs::remove_dir_all(&folder).ok();
        }
        results
    }

    /// Each scenario with both servers, one right after the other; which is first changes from round to round.
    async fn round(&self, folder: &Path, discard_first: bool, results: &mut Results) {
        let (tallyman, discard) = (Tallyman::start(folder).await, Discard::start().await);
        results.add(IDLE, Subject::Tallyman, Figure::Resident, mebibytes(tallyman.process.resident()));
        let mut order = [Subject::Tallyman, Subject::Discard];
        if discard_first {
            order.reverse();
        }
        for scenario in SCENARIOS.iter().filter(|scenario| self.has(scenario)) {
            for subject in order {
                self.measure(scenario, subject, (&tallyman, &discard), results).await;
            }
        }
        if self.has(&STEADY) {
            for subject in order {
                self.probe(folder, results).await;
                self.measure(&STEADY, subject, (&tallyman, &discard), results).await;
            }
        }
    }

    async fn measure(
        &self,
        scenario: &Scenario,
        subject: Subject,
        (tallyman, discard): (&Tallyman, &Discard),
        results: &mut Results,
    ) {
        let is_tallyman = subject == Subject::Tallyman;
        let address = if is_tallyman { &tallyman.address } else { &discard.address };
        let before = tallyman.process.written();
        let report = scenario.drive(address, self.span).await;
        let mut add = |figure, value| results.add(scenario.name, subject, figure, value);
        add(Figure::EventsPerSecond, float(report.events_per_second()));
        add(Figure::P50, report.latency(50_000).as_secs_f64() * 1000.0);
        add(Figure::P99, report.latency(99_000).as_secs_f64() * 1000.0);
        if is_tallyman {
            let written = tallyman.process.written() - before;
            add(Figure::BytesPerEvent, float(written) / float(report.accepted));
            add(Figure::Resident, mebibytes(tallyman.process.resident()));
        }
        eprintln!("  {}, {subject}: {} events/s", scenario.name, report.events_per_second());
    }

    /// Redis and PostgreSQL, in the shapes that suit them best, against the streams of 1000.
    async fn peers(&self, folder: &Path, postgres: Option<&Postgres>, results: &mut Results) {
        for scenario in [&STREAMS, &STREAMS_WITH_IDS].into_iter().filter(|scenario| self.has(scenario)) {
            let mut add = |subject, rate| {
                results.add(scenario.name, subject, Figure::EventsPerSecond, rate);
                eprintln!("  {}, {subject}: {rate:.0} events/s", scenario.name);
            };
            if redis::is_installed() {
                let folder = folder.join(if scenario.has_ids { "redis-ids" } else { "redis" });
                fs::create_dir(&folder).unwrap();
                add(Subject::Redis, Redis::start(&folder).await.measure(scenario.has_ids, self.span));
            }
            if let Some(postgres) = postgres {
                add(Subject::Postgres, postgres.measure(scenario.has_ids, self.span).await);
            }
        }
    }

    async fn probe(&self, folder: &Path, results: &mut Results) {
        let (folder, span) = (folder.to_path_buf(), self.span / 2);
        let times = tokio::task::spawn_blocking(move || disk::probe(&folder, span)).await.unwrap();
        results.add(STEADY.name, Subject::Disk, Figure::P50, times[times.len() / 2]);
        results.add(STEADY.name, Subject::Disk, Figure::P99, times[times.len() * 99 / 100]);
    }
}

fn mebibytes(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "figures to look at")]
fn float(number: u64) -> f64 {
    number as f64
}
