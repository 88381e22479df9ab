//! Sends usage to a tallyman agent: `send_usage ADDRESS CUSTOMER DIMENSION QUANTITY`.
//!
//! Each event gets its id once, before the first attempt. So an answer that is lost does no harm: the same event is
//! sent again, and counts once.
#![allow(clippy::print_stdout, reason = "this is what the command prints")]

use std::time::Duration;

use tallyman::base::proto::{RecordRequest, UsageEvent, usage_service_client::UsageServiceClient};
use tonic::Code;

const ATTEMPTS: u32 = 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, customer, dimension, quantity] = &arguments[..] else {
        return Err("usage: send_usage ADDRESS CUSTOMER DIMENSION QUANTITY".into());
    };
    let event = UsageEvent {
        customer: customer.clone(),
        dimension: dimension.clone(),
        quantity: quantity.parse()?,
        event_id: uuid::Uuid::new_v4().to_string(),
        ..UsageEvent::default()
    };
    let answer = record(address, vec![event]).await?;
    for rejection in &answer.rejected {
        eprintln!("event {}: {}", rejection.index, rejection.message);
    }
    println!("accepted {}, duplicates {}", answer.accepted, answer.duplicates);
    if answer.rejected.is_empty() { Ok(()) } else { Err("some events were rejected".into()) }
}

/// Sends the events until the agent has them on disk; gives up after some attempts.
async fn record(
    address: &str,
    events: Vec<UsageEvent>,
) -> Result<tallyman::base::proto::RecordResponse, tonic::Status> {
    let mut pause = Duration::from_millis(100);
    for attempt in 1.. {
        let sent = match UsageServiceClient::connect(format!("http://{address}")).await {
            Ok(mut client) => client.record(RecordRequest { events: events.clone() }).await,
            Err(error) => Err(tonic::Status::unavailable(error.to_string())),
        };
        match sent {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if is_worth_another_try(&status) && attempt < ATTEMPTS => {
                tokio::time::sleep(pause).await;
            }
            Err(status) => return Err(status),
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
    unreachable!("the last attempt returns")
}

fn is_worth_another_try(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Unknown
    )
}
