//! One worker of `Record`: calls, one after the other.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tonic::{Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use super::{Job, Message, Schedule, WorkerReport, codec::Encoded, report::Answer};
use crate::base::proto::RecordResponse;

const PATH: &str = "/tallyman.v1.UsageService/Record";
/// The pause after a refusal: an agent that is full or gone is not asked in a busy loop.
const PAUSE: Duration = Duration::from_millis(10);
const MOST_FAILURES_IN_A_ROW: u32 = 100;

pub(super) async fn work(job: Arc<Job>, schedule: Arc<Schedule>, channel: Channel) -> WorkerReport {
    let mut client = Grpc::new(channel).max_decoding_message_size(super::MAX_ANSWER_BYTES);
    let mut report = WorkerReport::default();
    let mut failures = 0;
    while failures < MOST_FAILURES_IN_A_ROW
        && let Some(scheduled) = schedule.next().await
    {
        match call(&mut client, &job, job.requests.unary(scheduled.range)).await {
            Ok(answer) => {
                failures = 0;
                report.answered(scheduled, &answer);
            }
            Err(status) => {
                failures += 1;
                report.failed(scheduled, &status);
                sleep(PAUSE).await;
            }
        }
    }
    report
}

async fn call(client: &mut Grpc<Channel>, job: &Job, message: Message) -> Result<Answer, Status> {
    client.ready().await.map_err(|fault| Status::from_error(fault.into()))?;
    let codec = Encoded::<RecordResponse>::default();
    let answer = client.unary(job.request(message), PathAndQuery::from_static(PATH), codec).await?;
    let RecordResponse { accepted, duplicates, rejected, late, .. } = answer.into_inner();
    Ok(Answer { accepted, duplicates, rejected: rejected.len() as u64, late })
}
