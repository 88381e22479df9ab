//! What is measured.

pub(crate) mod discard;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod tallyman;

use crate::{process::Process, results::Subject};
use ::tallyman::internals::{Load, Report, Target, run_load};
use tonic::transport::{Channel, Endpoint};

/// A running server of tallyman's interface.
pub(crate) struct Running {
    pub(crate) subject: Subject,
    pub(crate) address: String,
    pub(crate) process: Process,
}

pub(crate) async fn channel(address: &str) -> Option<Channel> {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.ok()
}

/// Everything that was sent must count: a server that refuses is not fast.
pub(crate) async fn drive(address: &str, load: &Load, connections: usize) -> Report {
    let mut target = Target { connections: Vec::new(), authorization: None };
    for _ in 0..connections {
        target.connections.push(channel(address).await.unwrap());
    }
    let report = run_load(load, target).await.unwrap();
    assert!(report.is_clean() && report.sent > 0, "not everything was taken: {:?}", report.faults);
    report
}
