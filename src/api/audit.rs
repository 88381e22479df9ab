//! The audit of a running agent, beside its work.

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::spawn_blocking,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    api::agent_handle::AgentHandle,
    base::proto::{AuditFault, AuditReport, AuditResponse},
    domain::invariants::{Fault, Location},
    engine::audit::{Known, Report, audit},
};

/// Reports of progress that a slow client may leave unread before the audit waits for it.
const MAX_UNREAD: usize = 4;

pub(super) type Answers = ReceiverStream<Result<AuditResponse, Status>>;

/// Audits the store as it is now. A client that goes away breaks it off.
pub(super) fn start(agent: &AgentHandle, known: Known, permit: OwnedSemaphorePermit) -> Answers {
    let (sender, answers) = mpsc::channel(MAX_UNREAD);
    let store = agent.store.clone();
    spawn_blocking(move || {
        let _permit = permit;
        let tell = |answer| sender.blocking_send(answer).is_ok();
        let mut tell_progress = |rows_read| tell(Ok(AuditResponse { rows_read, report: None }));
        let report = audit(&*store.snapshot(), known, &mut tell_progress);
        tell(match report {
            Ok(report) => Ok(AuditResponse { rows_read: report.rows, report: Some(message(&report)) }),
            Err(fault) => Err(Status::data_loss(fault.to_string())),
        })
    });
    ReceiverStream::new(answers)
}

/// A report as it travels.
pub(crate) fn message(report: &Report) -> AuditReport {
    AuditReport {
        records: report.records,
        open_buckets: report.open_buckets,
        decisions: report.decisions,
        journal_lines: report.lines,
        last_line_hash: report.last_line.to_string(),
        faults_found: report.faults_found,
        faults: report.faults.iter().map(fault).collect(),
    }
}

fn fault(fault: &Fault) -> AuditFault {
    let Location { product, customer, dimension, hour, record } = fault.place.clone();
    AuditFault {
        invariant: fault.invariant.to_string(),
        what: fault.what.clone(),
        product,
        customer,
        dimension,
        hour_unix_seconds: hour.map_or(0, |hour| hour.start().seconds()),
        record: record.map_or(0, |record| record.0),
        amount: fault.amount.to_string(),
    }
}
