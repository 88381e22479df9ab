//! Too few file descriptors.

use tokio::net::TcpStream;

use super::{NOWHERE, open_usage, spawn_after};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, event, record},
    eventually,
};

#[tokio::test]
async fn an_agent_that_runs_out_of_file_descriptors_loses_nothing_it_acknowledged() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let agent = spawn_after("ulimit -n 80", &home);
    eventually("ready", async || home.is_ready().await.then_some(())).await;
    let mut client = home.usage().await;
    let events =
        |id: &str| tallyman::base::proto::RecordRequest { events: vec![event(ACME, "requests", 1, id)] };
    let mut acknowledged = client.record(events("0")).await.unwrap().into_inner().accepted;
    // More connections than it may have.
    let mut crowd = Vec::new();
    for _ in 0..100 {
        crowd.push(TcpStream::connect(&home.grpc).await.unwrap());
    }
    for index in 1..100 {
        // A connection that is there goes on.
        acknowledged += client.record(events(&index.to_string())).await.unwrap().into_inner().accepted;
    }
    eventually("the agent says what it lacks", async || {
        home.log().contains("a connection cannot be taken").then_some(())
    })
    .await;
    drop(crowd);
    eventually("new connections are taken again", async || {
        let answer = home.channel().await?;
        drop(answer);
        home.is_ready().await.then_some(())
    })
    .await;
    let told = home.log().matches("a connection cannot be taken").count();
    assert!(told < 200, "it asked for the next connection again and again: {told} times");
    acknowledged += record(&home, vec![event(ACME, "requests", 1, "last")]).await.unwrap().accepted;
    agent.kill();
    let _agent = home.start().await;
    assert_eq!((open_usage(&home).await, acknowledged), (101, 101));
}
