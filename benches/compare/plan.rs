//! What is measured, in which order.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use ::tallyman::internals::{Load, LoadUsage as Usage, Mode, Report};

use crate::{
    disk,
    results::{Figure, Results, Subject},
    subjects::{
        Running, discard, drive,
        postgres::Postgres,
        redis::{self, Redis},
        tallyman,
    },
};

pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) span: Duration,
    pub(crate) only: String,
    pub(crate) has_peers: bool,
    pub(crate) tallyman: PathBuf,
    pub(crate) before: Option<PathBuf>,
}

/// One kind of load.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    mode: Mode,
    batch: u32,
    in_flight: u32,
    pub(crate) has_ids: bool,
    encodes_anew: bool,
    rate: u64,
}

pub(crate) const STREAMS: Scenario = Scenario {
    name: "streams of 1000",
    mode: Mode::Stream,
    batch: 1000,
    in_flight: 16,
    has_ids: false,
    encodes_anew: false,
    rate: 0,
};
pub(crate) const STREAMS_WITH_IDS: Scenario =
    Scenario { name: "streams of 1000, with ids", has_ids: true, ..STREAMS };
pub(crate) const APPLICATIONS: Scenario =
    Scenario { name: "streams of 1000, encoded anew", encodes_anew: true, ..STREAMS };
pub(crate) const APPLICATIONS_WITH_IDS: Scenario =
    Scenario { name: "streams of 1000, encoded anew, with ids", has_ids: true, ..APPLICATIONS };
const CALLS: Scenario = Scenario { name: "calls of 100", mode: Mode::Unary, batch: 100, ..STREAMS };
pub(crate) const SCENARIOS: [Scenario; 8] = [
    STREAMS,
    STREAMS_WITH_IDS,
    APPLICATIONS,
    APPLICATIONS_WITH_IDS,
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
            encodes_anew: self.encodes_anew,
            batch: self.batch,
            in_flight: self.in_flight,
            most_events: u64::MAX,
            duration,
            rate: self.rate,
        }
    }

    /// How many events were sent in all, and what came of those that count.
    async fn drive(&self, address: &str, span: Duration) -> (u64, Report) {
        let warm_up = drive(address, &self.load(WARM_UP), CONNECTIONS).await;
        let report = drive(address, &self.load(span), CONNECTIONS).await;
        (warm_up.sent + report.sent, report)
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

    /// Each scenario with each server, one right after the other; which is first changes from round to round.
    async fn round(&self, folder: &Path, in_reverse: bool, results: &mut Results) {
        let mut servers =
            vec![tallyman::start(Subject::Tallyman, &self.tallyman, &folder.join("tallyman")).await];
        if let Some(before) = &self.before {
            servers.push(tallyman::start(Subject::Before, before, &folder.join("before")).await);
        }
        servers.push(discard::start().await);
        if in_reverse {
            servers.reverse();
        }
        for server in &servers {
            results.add(IDLE, server.subject, Figure::Resident, mebibytes(server.process.resident()));
        }
        for scenario in SCENARIOS.iter().filter(|scenario| self.has(scenario)) {
            for server in &servers {
                self.measure(scenario, server, results).await;
            }
        }
        if self.has(&STEADY) {
            for server in &servers {
                self.probe(folder, results).await;
                self.measure(&STEADY, server, results).await;
            }
        }
    }

    async fn measure(&self, scenario: &Scenario, server: &Running, results: &mut Results) {
        let before = server.process.written();
        let (sent, report) = scenario.drive(&server.address, self.span).await;
        let written = float(server.process.written() - before) / float(sent);
        for (figure, value) in [
            (Figure::EventsPerSecond, float(report.events_per_second())),
            (Figure::P50, report.latency(50_000).as_secs_f64() * 1000.0),
            (Figure::P99, report.latency(99_000).as_secs_f64() * 1000.0),
            (Figure::BytesPerEvent, written),
            (Figure::Resident, mebibytes(server.process.resident())),
        ] {
            results.add(scenario.name, server.subject, figure, value);
        }
        eprintln!("  {}, {}: {} events/s", scenario.name, server.subject, report.events_per_second());
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
