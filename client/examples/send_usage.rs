//! Sends usage to a tallyman agent, one event for each quantity, with the Rust client.
//!
//! ```text
//! cargo run --release -p tallyman-client --example send_usage -- 127.0.0.1:7450 CUSTOMER DIMENSION WORK QUANTITY...
//! ```
//!
//! WORK names what was done, as an order's number does. The event ids are made of it, so that whoever sends the same
//! work again, after a crash for instance, bills it once.
#![allow(clippy::print_stdout, reason = "this is what the command prints")]

use std::{
    error::Error,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tallyman_client::{Client, Report, Settings, UsageEvent};

static IS_WHOLE: AtomicBool = AtomicBool::new(true);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, customer, dimension, work, quantities @ ..] = &arguments[..] else {
        return Err("usage: send_usage ADDRESS CUSTOMER DIMENSION WORK QUANTITY...".into());
    };
    // A service has one producer id for each of its processes. This program is started anew for each work; of two at a
    // time, the one that was started first ends with an error.
    let mut settings = Settings::new(address, "send_usage")?;
    settings.give_up_after = Duration::from_mins(1);
    let client = Client::open(settings, report)?;
    for (number, quantity) in quantities.iter().enumerate() {
        let event = UsageEvent {
            customer: customer.clone(),
            dimension: dimension.clone(),
            quantity: quantity.parse()?,
            event_id: format!("{work}-{number}"),
            ..UsageEvent::default()
        };
        // Waits while the buffer is full. All else is the client's work: batches, retries, pauses.
        client.record(event).await?;
    }
    client.shutdown(Duration::from_mins(1)).await.map_err(|left| format!("not sent: {left}"))?;
    let totals = client.totals();
    println!("accepted {}, duplicates {}, rejected {}", totals.accepted, totals.duplicates, totals.rejected);
    if IS_WHOLE.load(Ordering::Relaxed) { Ok(()) } else { Err("not all counts".into()) }
}

/// Here comes what did not count, or may not.
fn report(report: Report) {
    IS_WHOLE.store(false, Ordering::Relaxed);
    match report {
        Report::Rejected { event, message, .. } => eprintln!("event {}: {message}", event.event_id),
        other => eprintln!("{other:?}"),
    }
}
