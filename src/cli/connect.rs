//! The connection to a running agent.

use std::{fmt, path::PathBuf, time::Duration};

use clap::Args;
use tallyman_client::{Address, Credentials, CredentialsError, root_cause};
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};

use tonic_health::pb::health_client::HealthClient;

use super::exit::Failure;
use crate::{
    base::proto::{
        customer_service_client::CustomerServiceClient, ledger_service_client::LedgerServiceClient,
        usage_service_client::UsageServiceClient,
    },
    load::Target,
};

/// Global, so that they may also stand after a subcommand of a subcommand.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options for the way to the agent")]
pub(super) struct AgentArgs {
    /// Where the agent listens: `host:port`, `http://host:port`, `https://host:port` or `unix:/path`.
    #[arg(long, global = true, env = "TALLYMAN_ADDRESS", default_value = "127.0.0.1:7450")]
    address: Address,
    /// The file with the token that the agent asks for.
    #[arg(long, global = true, env = "TALLYMAN_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The certificates (PEM) of who vouches for an https agent. [default: the system's]
    #[arg(long, global = true, env = "TALLYMAN_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// This client's own certificate (PEM), for an agent that asks for one.
    #[arg(long, global = true, env = "TALLYMAN_CERT_FILE", value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,
    /// The key (PEM) of that certificate.
    #[arg(long, global = true, env = "TALLYMAN_KEY_FILE", value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
}

/// The longest that a call may take, in real time whatever the agent's clock.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// A connected agent: makes a client for each of its services.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    service: AgentService,
}

pub(super) type AgentService = InterceptedService<Channel, Token>;

impl Agent {
    pub(super) async fn connect(args: &AgentArgs) -> Result<Self, Failure> {
        let token = args.credentials().authorization()?;
        Ok(Self { service: InterceptedService::new(args.connect().await?, Token(token)) })
    }

    /// Opens `number` separate connections to the agent.
    pub(super) async fn connections(args: &AgentArgs, number: u32) -> Result<Target, Failure> {
        let authorization = args.credentials().authorization()?;
        let mut connections = Vec::new();
        for _ in 0..number {
            connections.push(args.connect().await?);
        }
        Ok(Target { connections, authorization })
    }

    pub(super) fn usage(&self) -> UsageServiceClient<AgentService> {
        UsageServiceClient::new(self.service.clone())
    }

    pub(super) fn customers(&self) -> CustomerServiceClient<AgentService> {
        CustomerServiceClient::new(self.service.clone())
    }

    pub(super) fn health(&self) -> HealthClient<AgentService> {
        HealthClient::new(self.service.clone())
    }

    pub(super) fn ledger(&self) -> LedgerServiceClient<AgentService> {
        // A page holds at most 1000 records, but a record's origins have no such limit.
        LedgerServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

/// The largest answer of the ledger service that is taken.
const MAX_ANSWER_BYTES: usize = 64 << 20;

impl AgentArgs {
    pub(super) fn address(&self) -> impl fmt::Display {
        &self.address
    }

    async fn connect(&self) -> Result<Channel, Failure> {
        self.endpoint()?.connect().await.map_err(|error| Failure::Unreachable {
            address: self.address.to_string(),
            cause: root_cause(&error),
        })
    }

    fn endpoint(&self) -> Result<Endpoint, Failure> {
        Ok(self.credentials().endpoint(&self.address)?.timeout(CALL_TIMEOUT))
    }

    fn credentials(&self) -> Credentials {
        let mut credentials = Credentials::default();
        credentials.token_file.clone_from(&self.token_file);
        credentials.ca_file.clone_from(&self.ca_file);
        credentials.cert_file.clone_from(&self.cert_file);
        credentials.key_file.clone_from(&self.key_file);
        credentials
    }
}

impl From<CredentialsError> for Failure {
    fn from(error: CredentialsError) -> Self {
        match error {
            CredentialsError::Endpoint { .. } => Self::Usage(format!("--address {error}")),
            other => Self::Usage(other.to_string()),
        }
    }
}

/// Adds the token, if there is one, to each call.
#[derive(Clone, Debug)]
pub(super) struct Token(Option<AsciiMetadataValue>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}
