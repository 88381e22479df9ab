//! The customers that the configuration names are registered at a start.

use std::time::Duration;

use tokio::time::sleep;
use tracing::{error, info};

use crate::{
    base::{
        config::{Config, ConfiguredCustomer},
        tasks::Tasks,
    },
    domain::{customer::transition::RegistrationRefused, time::Hour},
    engine::{
        billing::{PutError, Registration},
        committer::{CommitError, Committer},
        trusted_clock::TrustedClock,
    },
};

/// How soon the clock is looked at again, or an hour that is being sealed, in real time.
const PAUSE: Duration = Duration::from_millis(200);

/// Registers the customers of the configuration. One whose identity gives way to another as of now waits until AWS has told
/// the time: under a wrong clock, usage of days could be billed to the wrong one. What is used until then is billed to the
/// identity before, as it was used before the change.
pub(super) async fn register(
    config: &Config,
    committer: &Committer,
    clock: &TrustedClock,
    workers: &Tasks,
) -> Result<(), CommitError<PutError>> {
    let is_in_doubt = clock.now().is_none();
    let (later, now): (Vec<_>, Vec<_>) = {
        let customers = committer.customers().read();
        let all = config.customers.iter().map(|customer| registration(customer, clock));
        all.partition(|customer| is_in_doubt && customer.replaces_now(&customers))
    };
    committer.put_customers(now).await?;
    if !later.is_empty() {
        let (committer, clock, stopping) = (committer.clone(), clock.clone(), workers.stopping());
        workers.spawn_short(async move {
            tokio::select! {
                biased;
                () = stopping => {}
                () = register_once_told(later, &committer, &clock) => {}
            }
        });
    }
    Ok(())
}

async fn register_once_told(customers: Vec<Registration>, committer: &Committer, clock: &TrustedClock) {
    info!(customers = customers.len(), "identities change once AWS has told the time");
    for customer in customers {
        register_one(customer, committer, clock).await;
    }
}

async fn register_one(customer: Registration, committer: &Committer, clock: &TrustedClock) {
    loop {
        let hour = Hour::containing(clock.best_now());
        match committer.put_customers(vec![Registration { hour, ..customer.clone() }]).await {
            Err(CommitError::Refused(PutError::Refused(
                RegistrationRefused::Sealing | RegistrationRefused::ClockInDoubt,
            ))) => sleep(PAUSE).await,
            Err(CommitError::Refused(why)) => {
                error!(customer = &*customer.key, %why, "the customer's identity stays what it was before the start");
                return;
            }
            // The committer's failure is known to all.
            Ok(()) | Err(CommitError::Full | CommitError::Unavailable(_)) => return,
        }
    }
}

fn registration(customer: &ConfiguredCustomer, clock: &TrustedClock) -> Registration {
    Registration {
        product: customer.product,
        key: customer.key.clone(),
        identity: customer.identity.clone(),
        since: customer.since,
        hour: Hour::containing(clock.best_now()),
        // The configuration tells who a customer is; that one has ended is known better here.
        reopens: false,
    }
}
