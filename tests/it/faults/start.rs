//! Kills while an agent is still finding out what the last one left.

use std::time::Duration;

use tokio::time::sleep;

use super::{NOWHERE, open_usage};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, event, record},
};

const ROUNDS: u64 = 6;
const KILLS_A_ROUND: u64 = 15;

#[tokio::test]
async fn kills_in_the_first_moments_of_each_start_lose_nothing() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let mut acknowledged = 0;
    for round in 1..=ROUNDS {
        let agent = home.start().await;
        assert_eq!(open_usage(&home).await, acknowledged, "round {round}");
        for index in 0..20 {
            let id = format!("{round}-{index}");
            acknowledged += record(&home, vec![event(ACME, "requests", 1, &id)]).await.unwrap().accepted;
        }
        // An id of the last round is known in this one, however often recovery was cut short.
        let repeated = event(ACME, "requests", 1, &format!("{}-0", round - 1));
        let answer = record(&home, vec![repeated]).await.unwrap();
        assert_eq!(answer.duplicates, u64::from(round > 1));
        acknowledged += answer.accepted;
        agent.kill();
        for _ in 0..KILLS_A_ROUND {
            let agent = home.spawn();
            sleep(Duration::from_micros(fastrand::u64(0..50_000))).await;
            agent.kill();
        }
    }
    let _agent = home.start().await;
    assert_eq!(open_usage(&home).await, acknowledged);
    assert!(!home.log().contains("panicked"), "{}", home.log());
}
