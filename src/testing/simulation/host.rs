//! The machine under the agent, and the world around it: what ends the process, and what goes wrong otherwise.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use super::{
    agent::Agent,
    aws_truth::Weather,
    disk::Disk,
    plan::{chance, mins},
    world::World,
};
use crate::domain::{
    billing::{
        record::Slot,
        schedule::{OpenFor, seals_at},
    },
    time::{Hour, Timestamp},
};

/// A clock may be off by so much without anyone's noticing.
const SMALL_STEP: i64 = 50;
/// However long a seed was, so much later all is settled.
const LONGEST_SETTLING: u64 = 8 * 60;

struct Host<'a> {
    world: &'a Arc<World>,
    disk: Arc<Disk>,
    agent: Option<Agent>,
    /// When a wrong clock is set right.
    repair_at: Timestamp,
}

pub(super) async fn run(world: &Arc<World>) {
    let disk = Arc::new(Disk::new(world.clone()));
    let mut host = Host { world, disk, agent: None, repair_at: Timestamp::MAX };
    host.start().await;
    let end = world.plan.start.plus(world.plan.length);
    while world.truth.now() < end && !world.trace.has_fault() {
        let hour = Hour::containing(world.truth.now());
        host.live(mins(1, 25)).await;
        host.something_happens().await;
        if Hour::containing(world.truth.now()) > hour {
            host.compare();
        }
    }
    host.settle_down().await;
    if let Some(agent) = host.agent.take() {
        agent.kill().await;
    }
}

impl Host<'_> {
    /// Starts the agent, as often as it takes.
    async fn start(&mut self) {
        loop {
            self.world.note_start();
            if let Ok(agent) = Agent::open(self.world, self.disk.clone()) {
                let works = tokio::select! {
                    biased;
                    () = self.world.crash.notified() => false,
                    worked = agent.work(self.world, self.disk.clone()) => worked.is_ok(),
                };
                if works {
                    self.world.trace.note("the agent works");
                    self.world.put_agent(Some((agent.committer.clone(), agent.clock.clone())));
                    self.agent = Some(agent);
                    return;
                }
                agent.kill().await;
            }
            self.world.trace.tell("a crash at the start", "");
            self.disk = Arc::new(self.disk.crash());
        }
    }

    /// Lets time pass, and the process die when it must.
    async fn live(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(agent) = &self.agent
            && !self.world.trace.has_fault()
        {
            tokio::select! {
                biased;
                () = agent.disk_failed() => self.crash().await,
                () = self.world.crash.notified() => {
                    let most = if fastrand::bool() { 8 } else { 300 };
                    sleep(Duration::from_millis(fastrand::u64(..most))).await;
                    self.crash().await;
                }
                () = agent.task_failed() => self.world.trace.fault("a task of the agent has failed"),
                () = sleep_until(until) => return,
            }
        }
    }

    async fn crash(&mut self) {
        self.world.trace.tell("crash", "");
        self.world.put_agent(None);
        if let Some(agent) = self.agent.take() {
            agent.kill().await;
        }
        self.come_back().await;
    }

    async fn come_back(&mut self) {
        self.disk = Arc::new(self.disk.crash());
        let down = match fastrand::u8(..50) {
            _ if self.world.is_calm() => Duration::ZERO,
            0 => mins(5 * 60, 26 * 60),
            1..5 => mins(10, 180),
            _ => Duration::from_secs(fastrand::u64(..60)),
        };
        if down > Duration::from_hours(5) {
            self.world.trace.saw("a long down-time");
        }
        sleep(down).await;
        self.start().await;
    }

    async fn restart_in_order(&mut self) {
        self.world.trace.tell("a stop in order", "");
        self.world.put_agent(None);
        if let Some(agent) = self.agent.take() {
            agent.stop().await;
        }
        self.come_back().await;
    }

    async fn something_happens(&mut self) {
        let world = self.world;
        if world.truth.now() >= self.repair_at {
            self.repair_at = Timestamp::MAX;
            self.set_clock(fastrand::i64(-SMALL_STEP..=SMALL_STEP));
        }
        match fastrand::u8(..40) {
            0 => self.crash().await,
            1 => self.restart_in_order().await,
            2 | 3 if !world.is_clock_wrong() => self.set_clock(fastrand::i64(-SMALL_STEP..=SMALL_STEP)),
            4 if !world.is_clock_wrong() => {
                let size = fastrand::i64(120..6 * 3600);
                self.repair_at = world.truth.now().plus(mins(5, 150));
                self.set_clock(if fastrand::bool() { size } else { -size });
                world.trace.saw("a wrong clock");
            }
            5 => {
                world.suspend(fastrand::i64(60..50 * 60));
                world.trace.tell("the machine slept", "");
            }
            6..10 => self.change_weather(),
            10 => {
                let (customer, now) = (fastrand::usize(..world.plan.customers), world.truth.now());
                let account = world.account(customer);
                if world.market().is_subscribed(&account, now) && !world.closings().contains_key(&customer) {
                    world.market().unsubscribe(&account, now, now.plus(mins(30, 600)));
                    world.trace.tell("no subscription for a while", &account);
                }
            }
            11 => {
                let slot = self.some_slot();
                world.trace.tell("a record will be bad", &format!("{slot:?}"));
                world.market().poison(slot);
            }
            12 => {
                let slot = self.some_slot();
                if world.market().take_for_other(slot.clone()) {
                    world.trace.tell("another takes a slot", &format!("{slot:?}"));
                }
            }
            _ => {}
        }
        if self.agent.as_ref().is_some_and(|agent| agent.clock.doubt().is_some()) {
            world.trace.saw("a clock in doubt");
        }
    }

    fn set_clock(&self, skew: i64) {
        self.world.trace.note(format!("the clock is set to {skew} s ahead"));
        self.world.set_skew(skew);
    }

    fn change_weather(&self) {
        const WEATHERS: [Weather; 5] = [
            Weather::Throttling,
            Weather::Failing,
            Weather::Unreachable,
            Weather::SetupFault,
            Weather::Silent,
        ];
        let weather = WEATHERS[fastrand::usize(..WEATHERS.len())];
        let is_outage = chance(16);
        let lasts = if is_outage { mins(22 * 60, 30 * 60) } else { mins(2, 40) };
        if is_outage {
            self.world.trace.saw("an outage longer than the deadline");
        }
        self.world.trace.note(format!("AWS: {weather:?} for {lasts:?}"));
        self.world.market().set_weather(weather, self.world.truth.now().plus(lasts));
    }

    /// A slot of the present hour.
    fn some_slot(&self) -> Slot {
        let product = self.world.catalog().products().next().unwrap().1;
        let dimension = product.dimensions[fastrand::usize(..product.dimensions.len())].name.clone();
        let identity = self.world.identity(fastrand::usize(..self.world.plan.customers));
        Slot { identity, dimension, hour: Hour::containing(self.world.truth.now()) }
    }

    fn compare(&self) {
        let ledger = self.world.ledger();
        ledger.check_sums(self.world);
        ledger.check_by_truth(self.world);
        ledger.check_accounts(self.world);
    }

    /// When nothing goes wrong any more, everything comes to its end.
    async fn settle_down(&mut self) {
        let world = self.world;
        if world.trace.has_fault() {
            return;
        }
        world.trace.note("all is quiet");
        world.calm();
        self.set_clock(0);
        let mut minutes = 0;
        while !world.trace.has_fault() && !self.is_settled() {
            self.live(Duration::from_mins(1)).await;
            minutes += 1;
            if minutes > LONGEST_SETTLING {
                let pending = world.ledger().pending();
                let acknowledged = world.model().is_all_acknowledged();
                world.trace.fault(format!(
                    "after hours of quiet {pending} records are pending; everything acknowledged: {acknowledged}"
                ));
            }
        }
        self.be_still().await;
        self.compare();
        if let Some(agent) = &self.agent {
            self.disk.check(&agent.committer.status());
        }
    }

    /// Waits until the last commit has been answered for.
    async fn be_still(&self) {
        loop {
            let before = self.disk.syncs();
            sleep(Duration::from_millis(30)).await;
            if self.disk.syncs() == before && self.disk.is_synced() {
                return;
            }
        }
    }

    /// Every event is acknowledged, every hour that is due is sealed, and AWS has answered for each record.
    fn is_settled(&self) -> bool {
        let world = self.world;
        let hour = Hour::containing(world.truth.now());
        let open_for = OpenFor { grace: world.rules.grace, review: world.plan.review };
        let next = seals_at(world.ledger().watermark(), Timestamp::MIN, open_for, &world.rules.window);
        let sealed = next > world.truth.now();
        let is_late = world.truth.now() > hour.start().plus(Duration::from_mins(30));
        is_late && sealed && world.model().is_all_acknowledged() && world.ledger().pending() == 0
    }
}
