//! The ways to reach AWS: one for each region, endpoint, role and external id.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::warn;

use crate::{
    aws::{
        metering::{AwsMetering, Endpoint, MeteringService, Response},
        session::{Credentials, Session},
    },
    base::config::{Config, Connection},
    engine::trusted_clock::TrustedClock,
};

/// How long the start waits for AWS's time, in real time.
const FIRST_TIME: Duration = Duration::from_secs(2);

/// A way to reach AWS, and the products whose records go that way.
pub(super) struct Lane<'a> {
    pub(super) connection: &'a Connection,
    pub(super) products: Vec<Arc<str>>,
    pub(super) marketplace: Arc<dyn MeteringService>,
}

pub(super) async fn lanes(config: &Config, credentials: Credentials) -> Vec<Lane<'_>> {
    let mut products: BTreeMap<&Connection, Vec<Arc<str>>> = BTreeMap::new();
    for ((_, product), connection) in config.catalog.products().zip(&config.connections) {
        products.entry(connection).or_default().push(product.code.clone());
    }
    let mut lanes = Vec::new();
    for (connection, products) in products {
        let session = Session::load(connection, credentials).await;
        lanes.push(Lane {
            connection,
            products,
            marketplace: Arc::new(AwsMetering::new(&session, &Endpoint::of(connection))),
        });
    }
    lanes
}

/// Gives AWS a moment to tell the time, before usage is counted in the hours of a clock that may be wrong. Should it not
/// answer, usage is taken all the same; no hour is sealed before it does.
pub(super) async fn ask_for_the_time(lanes: &[Lane<'_>], clock: &TrustedClock) {
    let (sent, mut questions) = (Instant::now(), JoinSet::new());
    for lane in lanes {
        let marketplace = lane.marketplace.clone();
        questions.spawn(async move { marketplace.time().await });
    }
    let first = async {
        while let Some(answer) = questions.join_next().await {
            if let Ok(Response { date: Some(date), .. }) = answer {
                return Some(date);
            }
        }
        None
    };
    if let Some(date) = timeout(FIRST_TIME, first).await.ok().flatten() {
        clock.observe(date, sent);
    } else {
        warn!("AWS has not told the time: usage is taken, and no hour is sealed until it has");
    }
}
