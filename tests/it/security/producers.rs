//! The numbers of a stream's producer belong to one client.

use std::{fs, time::Duration};

use tallyman::{
    base::proto::{RecordStreamRequest, usage_service_client::UsageServiceClient},
    client::{Client, Ended, Report, Settings},
};
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use super::NOWHERE;
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home},
    events::{ACME, event},
};

/// An agent, by default with the clients `one` and `two`, each with the token of its name.
struct House {
    agent: Option<Agent>,
    home: Home,
}

impl House {
    async fn open(has_clients: bool) -> Self {
        let mut house = Self { agent: None, home: Home::new(ACCOUNT_PRODUCT, NOWHERE, None) };
        for name in ["one", "two"] {
            fs::write(house.home.path().join(name), name).unwrap();
        }
        house.start_again(has_clients).await;
        house
    }

    /// After a kill, if it ran.
    async fn start_again(&mut self, has_clients: bool) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
        let folder = self.home.path().display();
        let client = |name| {
            let roles = "roles = [\"meter\", \"read\"]";
            format!("[[grpc.client]]\nname = \"{name}\"\ntoken_file = \"{folder}/{name}\"\n{roles}\n")
        };
        let clients = if has_clients { ["one", "two"].map(client).concat() } else { String::new() };
        self.home.configure(&clients, ACCOUNT_PRODUCT, NOWHERE);
        self.agent = Some(self.home.start().await);
    }

    /// Sends a message as a client (nobody in particular if it is empty); returns what is durable, and what was accepted.
    async fn sends(&self, client: &str, sequence: u64) -> Result<(u64, u64), Status> {
        let events = if sequence == 0 { Vec::new() } else { vec![event(ACME, "requests", sequence, "")] };
        let message = RecordStreamRequest { producer_id: "exporter-0".to_owned(), sequence, events };
        let mut request = Request::new(tokio_stream::iter([message]));
        if !client.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {client}").parse().unwrap());
        }
        let mut usage = UsageServiceClient::new(self.home.channel().await.unwrap());
        let mut answers = usage.record_stream(request).await?.into_inner();
        answers.next().await.unwrap().map(|answer| (answer.durable_sequence, answer.accepted))
    }

    async fn is_refused(&self, client: &str, sequence: u64) -> bool {
        let refused = self.sends(client, sequence).await.err();
        let is = |status: &Status| {
            let text = status.message();
            status.code() == Code::PermissionDenied && text.contains("producer_id") && !text.contains("one")
        };
        refused.as_ref().is_some_and(is)
    }
}

#[tokio::test]
async fn nobody_goes_on_with_anothers_numbers() {
    let mut house = House::open(true).await;
    assert_eq!(house.sends("one", 1).await.unwrap(), (1, 1));
    for sequence in [0, 1, 2, 9] {
        assert!(house.is_refused("two", sequence).await, "{sequence}");
    }
    assert_eq!(house.sends("one", 2).await.unwrap(), (2, 1), "it is no repeat");
    house.start_again(true).await;
    assert!(house.is_refused("two", 3).await, "also after a kill");
    assert_eq!(house.sends("one", 3).await.unwrap(), (3, 1));
    let log = house.home.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("another's producer")).collect();
    assert_eq!(told.len(), 2, "once by each process: {told:?}");
    for word in ["WARN", "one", "two", "exporter-0"] {
        assert!(told[0].contains(word), "{word} not in {told:?}");
    }
}

#[tokio::test]
async fn a_producer_from_before_there_were_clients_goes_to_the_first_that_uses_it() {
    let mut house = House::open(false).await;
    assert_eq!(house.sends("", 1).await.unwrap(), (1, 1));
    house.start_again(true).await;
    assert_eq!(house.sends("two", 0).await.unwrap(), (1, 0), "to ask is not to use");
    assert_eq!(house.sends("one", 2).await.unwrap(), (2, 1));
    assert!(house.is_refused("two", 3).await);
    house.start_again(false).await;
    assert_eq!(house.sends("", 3).await.unwrap(), (3, 1), "without clients anyone may");
    house.start_again(true).await;
    assert!(house.is_refused("two", 4).await);
    assert_eq!(house.sends("one", 4).await.unwrap(), (4, 1), "and it is whose it was");
}

/// The library's client ends at once, with what the agent says, and gives its events back.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_library_ends_where_its_producer_is_anothers() {
    let house = House::open(true).await;
    assert_eq!(house.sends("one", 1).await.unwrap(), (1, 1));
    let mut settings = Settings::new(&house.home.grpc, "exporter-0").unwrap();
    settings.give_up_after = Duration::from_hours(1);
    settings.access.token_file = Some(house.home.path().join("two"));
    let (reports, mut reported) = tokio::sync::mpsc::channel(9);
    let client = Client::open(settings, move |report| reports.try_send(report).unwrap()).unwrap();
    client.record(event(ACME, "requests", 1, "")).await.unwrap();
    let left = tokio::time::timeout(Duration::from_secs(100), client.flush()).await.unwrap().unwrap_err();
    assert!(matches!(&left.why, Ended::NotTaken(why) if why.contains("belongs to another client")), "{left}");
    let report = reported.recv().await.unwrap();
    assert!(matches!(&report, Report::Unacknowledged { events, .. } if events.len() == 1), "{report:?}");
}
