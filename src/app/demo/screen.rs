//! What the demo shows: a table that lives on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};

use tokio::time::{Duration, Instant};

use crate::{base::proto::Summary, cli::DemoArgs, domain::time::Timestamp, sandbox::Sandbox};

use super::{
    applications::Acknowledged,
    proof::{Line, Report},
};

/// Plain lines come at this pace; a terminal is repainted at every tick.
const LINE_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Screen {
    out: io::Stdout,
    is_live: bool,
    painted_lines: usize,
    last_line: Option<Instant>,
}

impl Screen {
    pub(super) fn new() -> Self {
        let out = io::stdout();
        Self { is_live: out.is_terminal(), out, painted_lines: 0, last_line: None }
    }

    pub(super) fn opening(&mut self, args: &DemoArgs, seed: u64, end: Timestamp) {
        self.say(&format!(
            "tallyman demo: {} hours at {} times the pace, until {end}; seed {seed}\n\
             4 applications, 1 agent, and a marketplace that throttles, fails and loses replies\n",
            args.hours, args.speed
        ));
    }

    /// Prints something that stays.
    pub(super) fn say(&mut self, text: &str) {
        self.painted_lines = 0;
        self.write(&format!("{text}\n"));
    }

    pub(super) fn show(&mut self, summary: &Summary, acknowledged: &Acknowledged, sandbox: &Sandbox) {
        let now = Timestamp::from_seconds(summary.now_unix_seconds);
        let sealed = Timestamp::from_seconds(summary.sealed_through_unix_seconds + 3600);
        let unsent: u64 = summary.products.iter().map(|product| product.records_unsent).sum();
        let (events, resent, billed) = (acknowledged.events, acknowledged.resent, sandbox.billed().len());
        if self.is_live {
            let table = format!(
                "  clock            {now}\n  sealed until     {sealed}\n  acknowledged     {events} events, {resent} sent again\n  \
                 open             {} buckets\n  on their way     {unsent} records\n  billed           {billed} records\n",
                summary.open_buckets
            );
            let back = if self.painted_lines > 0 {
                format!("\x1b[{}A\x1b[J", self.painted_lines)
            } else {
                String::new()
            };
            self.write(&format!("{back}{table}"));
            self.painted_lines = table.lines().count();
        } else if self.last_line.is_none_or(|last| last.elapsed() >= LINE_EVERY) {
            self.last_line = Some(Instant::now());
            self.write(&format!(
                "{now}  sealed until {sealed}  acknowledged {events} events ({resent} sent again)  on their way {unsent}  billed {billed} records\n"
            ));
        }
    }

    pub(super) fn proof(&mut self, report: &Report, acknowledged: &Acknowledged, sandbox: &Sandbox) {
        let heading = format!(
            "\n{:<10} {:<13} {:<9} {:>16} {:>16} {:>12} {:>10}",
            "product", "customer", "dimension", "acknowledged", "billed", "quantity", "carried"
        );
        self.say(&heading);
        for line in &report.lines {
            self.say(&proof_line(line));
        }
        let verdict = if report.is_exact() {
            "exact: every acknowledged unit is billed once, or carried into the next hour"
        } else if report.is_empty() {
            "NOTHING PROVED: the hours were over before an application had sent anything; take a lower --speed"
        } else {
            "NOT EXACT: a unit is missing or doubled"
        };
        self.say(&format!(
            "\n{} events acknowledged ({} sent again by applications); {} records billed; {} held; {} base units \
             carried\n{verdict}",
            acknowledged.events,
            acknowledged.resent,
            sandbox.billed().len(),
            report.held,
            report.carried,
        ));
    }

    fn write(&mut self, text: &str) {
        // A demo whose reader has gone still has its exit code.
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).ok();
    }
}

fn proof_line(line: &Line) -> String {
    let (product, customer, dimension) = &line.series;
    let carried = line.carried().map_or_else(|| "DOUBLED".to_owned(), |carried| carried.to_string());
    let verdict = if line.is_exact() { "" } else { "  <-- not exact" };
    format!(
        "{product:<10} {customer:<13} {dimension:<9} {:>16} {:>16} {:>12} {carried:>10}{verdict}",
        line.acknowledged, line.billed, line.quantity
    )
}
