//! The marketplace's notices, and the person who decides about held records and lowers what is open.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    plan::{CUSTOMERS, PRODUCT, chance, mins},
    world::World,
};
use crate::{
    domain::{
        billing::{
            adjustment::Wanted,
            record::{Decision, DecisionKind, HoldReason, RecordId},
        },
        customer::transition::RegistrationRefused,
        time::{Hour, Timestamp},
    },
    engine::{
        billing::{AdjustError, AdjustRequest, PutError, Registration},
        committer::{CommitError, Committer},
    },
};

/// A closing customer's records are taken for so long.
const LAST_HOUR: Duration = Duration::from_hours(1);

pub(super) async fn work(world: Arc<World>) {
    register(&world, 0, false).await;
    while !world.is_calm() {
        sleep(mins(10, 90)).await;
        match fastrand::u8(..11) {
            0 => give_notice(&world).await,
            1..4 => reopen(&world).await,
            4 => match fastrand::u8(..4) {
                0 | 1 => replace(&world).await,
                2 => tell_since(&world).await,
                _ => decide(&world).await,
            },
            5 | 6 => adjust(&world).await,
            _ => decide(&world).await,
        }
    }
}

/// A customer's subscription ends: the agent is told, sooner or later.
async fn give_notice(world: &World) {
    let (customer, noticed) = (fastrand::usize(..world.plan.customers), world.truth.now());
    if world.closings().contains_key(&customer) {
        return;
    }
    let (key, account) = (CUSTOMERS[customer].0, world.account(customer));
    world.trace.tell("a notice", key);
    world.market().unsubscribe(&account, noticed.plus(LAST_HOUR), Timestamp::MAX);
    world.model().note_irregular(customer);
    world.closings().insert(customer, (noticed, Timestamp::MAX));
    sleep(if chance(3) { mins(0, 40) } else { Duration::ZERO }).await;
    loop {
        if let Some(committer) = world.committer()
            && let Ok(closed) = committer.close_customer(PRODUCT, key.into(), noticed).await
        {
            world.trace.note(format!("the agent has the notice: {}", closed.is_some()));
            let told = if closed.is_some() { world.truth.now() } else { Timestamp::MAX };
            world.closings().insert(customer, (noticed, told));
            return;
        }
        sleep(Duration::from_secs(10)).await;
    }
}

/// A customer that is closing, or has ended, comes back.
async fn reopen(world: &World) {
    let Some((customer, (noticed, _))) = world.closings().first_key_value().map(|(who, when)| (*who, *when))
    else {
        return;
    };
    world.trace.tell("a reopening", CUSTOMERS[customer].0);
    world.market().subscribe(&world.account(customer));
    world.closings().insert(customer, (noticed, Timestamp::MAX));
    register(world, customer, true).await;
    world.closings().remove(&customer);
}

/// A customer's account is replaced by another, from now on or since some minutes ago.
async fn replace(world: &World) {
    let customer = fastrand::usize(..world.plan.customers);
    if world.closings().contains_key(&customer) {
        return;
    }
    let now = world.truth.now();
    let minutes_ago = now.minus(mins(2, 20));
    let number = world.accounts().get(&customer).map_or(0, |(number, _)| *number);
    // As of before the time of the one that it has, it would mend a mistake, and take all of that one's usage.
    let is_mended = number > 0 || world.dated().contains(&customer);
    let is_given = !is_mended && fastrand::bool() && Hour::containing(minutes_ago) == Hour::containing(now);
    let since = is_given.then(|| Timestamp::from_seconds(minutes_ago.seconds()));
    world.model().note_irregular(customer);
    let before = world.account(customer);
    world.accounts().insert(customer, (number + 1, true));
    let text =
        format!("of {}: {before} by {}, since {since:?}", CUSTOMERS[customer].0, world.account(customer));
    world.trace.tell("a replaced account", &text);
    if !put(world, customer, since, false).await {
        world.accounts().insert(customer, (number, false));
        return;
    }
    // The agent's clock may lag behind the moment that it was told.
    let from = Hour::containing(world.best_now().max(since.unwrap_or(Timestamp::MIN)));
    world.model().note_account(customer, number + 1, from);
    world.accounts().insert(customer, (number + 1, false));
}

/// It becomes known that a customer's time began some minutes ago, after usage was taken.
async fn tell_since(world: &World) {
    let customer = fastrand::usize(..world.plan.customers);
    if world.closings().contains_key(&customer) {
        return;
    }
    let since = Timestamp::from_seconds(world.truth.now().minus(mins(2, 20)).seconds());
    world.trace.tell("a start that is told late", &format!("of {}: {since}", CUSTOMERS[customer].0));
    world.model().note_irregular(customer);
    world.dated().insert(customer);
    put(world, customer, Some(since), false).await;
}

async fn register(world: &World, customer: usize, reopens: bool) {
    put(world, customer, None, reopens).await;
}

/// Whether the customer has the account that it was given.
async fn put(world: &World, customer: usize, mut since: Option<Timestamp>, reopens: bool) -> bool {
    loop {
        let registration = Registration {
            product: PRODUCT,
            key: CUSTOMERS[customer].0.into(),
            identity: world.identity(customer),
            since,
            hour: Hour::containing(world.clock.now()),
            reopens,
        };
        if let Some(committer) = world.committer() {
            match committer.put_customers(vec![registration]).await {
                Ok(()) => return true,
                Err(CommitError::Refused(PutError::Refused(RegistrationRefused::Sealing))) => {
                    world.trace.saw("a registration in the middle of a seal");
                }
                Err(CommitError::Refused(PutError::Refused(
                    RegistrationRefused::ClockInDoubt | RegistrationRefused::SinceAhead { .. },
                ))) => world.trace.saw("a registration under a clock in doubt"),
                // As of now, then: what is carried goes with the part until now.
                Err(CommitError::Refused(PutError::CarriesOver(_))) => since = None,
                // After a slip, which takes weeks to be billed.
                Err(CommitError::Refused(PutError::DoesNotFit(_))) => {
                    world.trace.saw("an account that cannot be replaced after a slip");
                    return false;
                }
                Err(CommitError::Refused(fault)) => {
                    world.trace.fault(format!("a registration is refused: {fault}"));
                    return false;
                }
                Err(CommitError::Full | CommitError::Unavailable(_)) => {}
            }
        }
        sleep(Duration::from_secs(10)).await;
    }
}

/// Looks at some held records, asks AWS where that is needed, and decides.
async fn decide(world: &World) {
    let mut held = world.ledger().held(world);
    fastrand::shuffle(&mut held);
    for (id, reason, is_billed) in held.into_iter().take(fastrand::usize(1..6)) {
        let kind = DecisionKind::ALL[fastrand::usize(..DecisionKind::ALL.len())];
        let is_sound = match kind {
            DecisionKind::Carry => !is_billed,
            DecisionKind::Retry | DecisionKind::WriteOff => true,
        };
        if let Some(committer) = world.committer().filter(|_| is_sound) {
            let is_done = carry_out(world, &committer, id, kind).await;
            if is_done && reason == HoldReason::Suspicious {
                world.trace.saw(match kind {
                    DecisionKind::Retry => "a suspicious hour is sent",
                    DecisionKind::Carry => "a suspicious hour is carried",
                    DecisionKind::WriteOff => "a suspicious hour is written off",
                });
            }
            // The slot is another's, and a lost answer would hide it.
            if is_done && (kind, reason) == (DecisionKind::Retry, HoldReason::Conflict) {
                world.trace.fault(format!("record {id} is sent again, though another's amount stands"));
            }
        }
    }
}

/// Lowers something that is open, and asks until that is answered: under one id it counts once.
async fn adjust(world: &World) {
    let open = world.ledger().open(world.catalog());
    if open.is_empty() {
        return;
    }
    let (series, amount) = open[fastrand::usize(..open.len())];
    let minus = if chance(4) { amount + fastrand::u128(1..100) } else { fastrand::u128(1..=amount) };
    let id = format!("adjustment-{:x}", fastrand::u64(..));
    let request = AdjustRequest {
        product: PRODUCT,
        customer: series.key().into(),
        dimension: series.index(),
        wanted: Wanted { minus, hour: None, tags: None },
        id: id.as_str().into(),
        reason: "a test".into(),
        by: "me".into(),
        client: "ops".into(),
        at: world.clock.now(),
    };
    let (mut is_answered, mut is_done) = (false, false);
    while !is_answered || (is_done && chance(3)) {
        let Some(committer) = world.committer() else {
            sleep(Duration::from_secs(10)).await;
            continue;
        };
        if !is_answered {
            world.model().adjustment_sent(&id, series, minus);
        }
        match committer.adjust(request.clone()).await {
            Ok(adjusted) => {
                let kind = if adjusted.is_repeat { "a repeated adjustment" } else { "an adjustment" };
                world.trace.tell(kind, &format!("of {minus} of {}", series.name(world.catalog())));
                if is_done && !adjusted.is_repeat {
                    world.trace.fault("I4: an adjustment counts twice");
                }
                (is_answered, is_done) = (true, true);
            }
            Err(CommitError::Refused(AdjustError::TooMuch { .. })) if !is_done => {
                world.trace.saw("an adjustment that is refused");
                is_answered = true;
            }
            Err(CommitError::Refused(fault)) => {
                return world.trace.fault(format!("an adjustment is refused: {fault}"));
            }
            Err(CommitError::Full | CommitError::Unavailable(_)) => {
                world.trace.saw("an adjustment without an answer");
                sleep(Duration::from_secs(10)).await;
                continue;
            }
        }
        world.model().adjustment_answered(&id, is_done);
        world.ledger().check_sums(world);
    }
}

/// Whether the agent took the decision.
async fn carry_out(world: &World, committer: &Committer, id: RecordId, kind: DecisionKind) -> bool {
    let (reason, by, client) = ("a test".into(), "me".into(), "ops".into());
    let decision = Decision { kind, reason, by, client, at: world.clock.now() };
    let decided = committer.decide(BTreeSet::from([id]), decision).await;
    let what = match (&decided, kind) {
        (Ok(()), DecisionKind::Retry) => "a decision to retry",
        (Ok(()), DecisionKind::Carry) => "a decision to carry",
        (Ok(()), DecisionKind::WriteOff) => "a decision to write off",
        (Err(CommitError::Refused(_)), _) => "a decision that cannot be carried out",
        (Err(CommitError::Full | CommitError::Unavailable(_)), _) => "a decision without an answer",
    };
    world.trace.tell(what, &format!("about record {id}"));
    decided.is_ok()
}
