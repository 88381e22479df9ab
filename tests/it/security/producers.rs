//! The numbers of a stream's producer are those of its client: nobody can take another's.

use std::{fs, time::Duration};

use tallyman_client::proto::{RecordStreamRequest, usage_service_client::UsageServiceClient};
use tallyman_client::{Client, Settings};
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status};

use super::NOWHERE;
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home},
    events::{ACME, event},
};

/// An agent with clients, each with the token of its name in a file of that name, or without.
struct House {
    agent: Option<Agent>,
    home: Home,
}

impl House {
    async fn open(clients: &[(&str, &str)]) -> Self {
        let mut house = Self { agent: None, home: Home::new(ACCOUNT_PRODUCT, NOWHERE, None) };
        for name in ["one", "two"] {
            fs::write(house.home.path().join(name), name).unwrap();
        }
        house.start_again(clients).await;
        house
    }

    /// After a kill, if it ran. Each client has a name and the file of its token.
    async fn start_again(&mut self, clients: &[(&str, &str)]) {
        if let Some(agent) = self.agent.take() {
            agent.kill();
        }
        let folder = self.home.path().display();
        let client = |(name, file): &(&str, &str)| {
            let roles = "roles = [\"meter\", \"read\"]";
            format!("[[grpc.client]]\nname = \"{name}\"\ntoken_file = \"{folder}/{file}\"\n{roles}\n")
        };
        let clients: String = clients.iter().map(client).collect();
        self.home.configure(&clients, ACCOUNT_PRODUCT, NOWHERE);
        self.agent = Some(self.home.start().await);
    }

    /// Sends a message with a token (with none if it is empty); returns what is durable, and what was accepted.
    async fn sends(&self, token: &str, sequence: u64) -> Result<(u64, u64), Status> {
        let events = if sequence == 0 { Vec::new() } else { vec![event(ACME, "requests", sequence, "")] };
        let message = RecordStreamRequest { producer_id: "checkout-0".to_owned(), sequence, events };
        let mut request = Request::new(tokio_stream::iter([message]));
        if !token.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let mut usage = UsageServiceClient::new(self.home.channel().await.unwrap());
        let mut answers = usage.record_stream(request).await?.into_inner();
        answers.next().await.unwrap().map(|answer| (answer.durable_sequence, answer.accepted))
    }
}

const BOTH: [(&str, &str); 2] = [("one", "one"), ("two", "two")];

#[tokio::test]
async fn two_clients_have_a_producer_of_one_name_without_touching_each_other() {
    let mut house = House::open(&BOTH).await;
    // As the attack was: an empty message under a name that another will use.
    for sequence in [0, 1] {
        house.sends("two", sequence).await.unwrap();
    }
    assert_eq!(house.sends("one", 0).await.unwrap(), (0, 0), "what another has is not told");
    for sequence in 1..=3 {
        assert_eq!(house.sends("one", sequence).await.unwrap(), (sequence, 1));
    }
    assert_eq!(house.sends("two", 0).await.unwrap(), (1, 0));
    house.start_again(&BOTH).await;
    assert_eq!(house.sends("two", 2).await.unwrap(), (2, 1), "also after a kill");
    assert_eq!(house.sends("one", 4).await.unwrap(), (4, 1));
}

#[tokio::test]
async fn without_clients_producers_are_nobodys_and_are_there_again_when_clients_go() {
    let mut house = House::open(&[]).await;
    assert_eq!(house.sends("", 1).await.unwrap(), (1, 1));
    house.start_again(&BOTH).await;
    for client in ["one", "two"] {
        assert_eq!(house.sends(client, 0).await.unwrap(), (0, 0), "{client}");
        assert_eq!(house.sends(client, 1).await.unwrap(), (1, 1), "{client}");
    }
    house.start_again(&[]).await;
    assert_eq!(house.sends("", 2).await.unwrap(), (2, 1));
}

#[tokio::test]
async fn a_client_that_is_renamed_has_no_producers_and_nothing_of_its_old_ones_is_lost() {
    let mut house = House::open(&BOTH).await;
    assert_eq!(house.sends("one", 1).await.unwrap(), (1, 1));
    house.start_again(&[("uno", "one"), ("two", "two")]).await;
    let gap = house.sends("one", 2).await.unwrap_err();
    assert_eq!(gap.code(), Code::FailedPrecondition, "{gap}");
    assert_eq!(house.sends("one", 0).await.unwrap(), (0, 0));
    house.start_again(&BOTH).await;
    assert_eq!(house.sends("one", 2).await.unwrap(), (2, 1), "with the old name it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_clients_of_the_library_with_one_producer_id_are_both_served() {
    let house = House::open(&BOTH).await;
    let client = |token: &str| {
        let mut settings = Settings::new(&house.home.grpc, "checkout-0").unwrap();
        settings.credentials.token_file = Some(house.home.path().join(token));
        Client::open(settings, |report| panic!("{report:?}")).unwrap()
    };
    let clients = ["one", "two"].map(client);
    for _ in 0..5 {
        for client in &clients {
            client.record(event(ACME, "requests", 1, "")).await.unwrap();
            tokio::time::timeout(Duration::from_secs(100), client.flush()).await.unwrap().unwrap();
        }
    }
    assert!(clients.iter().all(|client| client.totals().accepted == 5 && client.ended().is_none()));
}
