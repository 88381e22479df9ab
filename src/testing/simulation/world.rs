//! What the agent, AWS, the applications and the operator of one seed have in common.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use super::{
    aws_truth::Market,
    ledger::Ledger,
    model::{Model, Moment},
    plan::{Plan, account},
    trace::Trace,
};
use crate::{
    base::clock::{Clock, Steps},
    domain::{
        clock_guard::Skew,
        customer::identity::Identity,
        product::Catalog,
        time::{Hour, Timestamp},
    },
    engine::{committer::Committer, rules::Rules, trusted_clock::TrustedClock},
};

/// A clock that is off by more than this is found out.
const NOTICED_SKEW: Duration = Duration::from_mins(1);

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rules: Rules,
    /// The time, as AWS has it.
    pub(super) truth: Clock,
    /// What the agent's machine shows.
    pub(super) clock: Clock,
    true_steps: &'static Steps,
    steps: &'static Steps,
    pub(super) trace: Trace,
    model: Mutex<Model>,
    market: Mutex<Market>,
    ledger: Mutex<Ledger>,
    agent: Mutex<Option<(Committer, TrustedClock)>>,
    /// Asks for the end of the process, from inside whatever happens.
    pub(super) crash: Notify,
    is_calm: AtomicBool,
    /// Customers whose notice the agent has taken: when AWS gave it, and when the agent had it.
    closings: Mutex<BTreeMap<usize, (Timestamp, Timestamp)>>,
    /// By customer the number of the account that it has, and whether another is about to replace it.
    accounts: Mutex<BTreeMap<usize, (u32, bool)>>,
    /// Customers whose start was told.
    dated: Mutex<BTreeSet<usize>>,
    /// When the machine has slept last.
    woke: Mutex<Timestamp>,
}

impl World {
    pub(super) fn new(plan: Plan) -> Self {
        let (truth, true_steps) = Clock::simulated(plan.start);
        let (clock, steps) = Clock::simulated(plan.start);
        let rules = plan.rules();
        Self {
            model: Mutex::new(Model::new(&rules.catalog)),
            ledger: Mutex::new(Ledger::default()),
            plan,
            rules,
            truth,
            clock,
            true_steps,
            steps,
            trace: Trace::new(truth),
            market: Mutex::default(),
            agent: Mutex::default(),
            crash: Notify::new(),
            is_calm: AtomicBool::new(false),
            closings: Mutex::default(),
            accounts: Mutex::default(),
            dated: Mutex::default(),
            woke: Mutex::new(Timestamp::MIN),
        }
    }

    pub(super) fn catalog(&self) -> &Catalog {
        &self.rules.catalog
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    pub(super) fn market(&self) -> MutexGuard<'_, Market> {
        self.market.lock().unwrap()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    pub(super) fn closings(&self) -> MutexGuard<'_, BTreeMap<usize, (Timestamp, Timestamp)>> {
        self.closings.lock().unwrap()
    }

    /// The account that AWS knows a customer by.
    pub(super) fn account(&self, customer: usize) -> String {
        account(customer, self.accounts().get(&customer).map_or(0, |(number, _)| *number))
    }

    pub(super) fn identity(&self, customer: usize) -> Identity {
        Identity::Account { account_id: self.account(customer).into() }
    }

    /// Whether an account of the customer was ever replaced.
    pub(super) fn has_replaced(&self, customer: usize) -> bool {
        self.accounts().contains_key(&customer)
    }

    /// The number of the account that all usage of the moment is billed to; `None` while another replaces it.
    pub(super) fn steady_account(&self, customer: usize) -> Option<u32> {
        match self.accounts().get(&customer) {
            None => Some(0),
            Some((number, is_changing)) => (!is_changing).then_some(*number),
        }
    }

    pub(super) fn accounts(&self) -> MutexGuard<'_, BTreeMap<usize, (u32, bool)>> {
        self.accounts.lock().unwrap()
    }

    pub(super) fn dated(&self) -> MutexGuard<'_, BTreeSet<usize>> {
        self.dated.lock().unwrap()
    }

    /// The agent, while there is one.
    pub(super) fn committer(&self) -> Option<Committer> {
        self.agent.lock().unwrap().as_ref().map(|(committer, _)| committer.clone())
    }

    pub(super) fn put_agent(&self, agent: Option<(Committer, TrustedClock)>) {
        *self.agent.lock().unwrap() = agent;
    }

    /// The time as the agent has it, by its clock or by AWS's word.
    pub(super) fn best_now(&self) -> Timestamp {
        self.agent.lock().unwrap().as_ref().map_or_else(|| self.clock.now(), |(_, clock)| clock.best_now())
    }

    /// From now on nothing goes wrong any more.
    pub(super) fn calm(&self) {
        self.is_calm.store(true, Ordering::Relaxed);
        self.market().calm();
    }

    pub(super) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    /// How far the agent's clock is ahead.
    pub(super) fn skew(&self) -> i64 {
        self.clock.now().millis() - self.truth.now().millis()
    }

    pub(super) fn is_clock_wrong(&self) -> bool {
        Skew::of(self.clock.now(), self.truth.now()).size() > NOTICED_SKEW
    }

    /// Sets the agent's clock so far ahead of the time.
    pub(super) fn set_skew(&self, seconds: i64) {
        self.steps.by_seconds(seconds - self.skew() / 1000);
    }

    /// The machine sleeps: time passes, and no monotonic clock counts it.
    pub(super) fn suspend(&self, seconds: i64) {
        self.steps.by_seconds(seconds);
        self.true_steps.by_seconds(seconds);
        *self.woke.lock().unwrap() = self.truth.now();
    }

    pub(super) fn has_slept_since(&self, moment: Timestamp) -> bool {
        *self.woke.lock().unwrap() >= moment
    }

    pub(super) fn note_start(&self) {
        if self.is_clock_wrong() {
            self.trace.saw("a start under a wrong clock");
        }
    }

    /// The latest hour that takes what is counted now.
    pub(super) fn latest_hour(&self) -> Hour {
        let watermark = self.ledger().watermark();
        let now = self.clock.now().max(self.best_now());
        Hour::containing(now).max(watermark.next())
    }

    /// What is known now of what a customer uses.
    pub(super) fn moment(&self, customer: usize) -> Moment {
        let (latest, sealed_through) = (self.latest_hour(), self.ledger().watermark());
        let earliest = Hour::containing(self.clock.now().min(self.best_now())).max(sealed_through.next());
        let takes_late = (earliest == latest).then_some(latest);
        let true_hour = Hour::containing(self.truth.now());
        Moment { sealed_through, latest, takes_late, true_hour, account: self.steady_account(customer) }
    }
}
