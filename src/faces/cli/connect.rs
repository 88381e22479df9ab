//! The way to a running agent.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use tonic::{
    Request, Status,
    metadata::AsciiMetadataValue,
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::exit::{Failure, root_cause};
use crate::{
    base::proto::{
        customer_service_client::CustomerServiceClient, ledger_service_client::LedgerServiceClient,
        usage_service_client::UsageServiceClient,
    },
    faces::load::Target,
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

/// Network time-outs; they are real time whatever the agent's clock.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// An agent that answered the door.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    service: AgentService,
}

pub(super) type AgentService = InterceptedService<Channel, Token>;

impl Agent {
    pub(super) async fn connect(args: &AgentArgs) -> Result<Self, Failure> {
        let token = args.token_file.as_ref().map(read_token).transpose()?;
        Ok(Self { service: InterceptedService::new(args.connect().await?, Token(token)) })
    }

    /// Connections of their own for as many clients.
    pub(super) async fn connections(args: &AgentArgs, number: u32) -> Result<Target, Failure> {
        let authorization = args.token_file.as_ref().map(read_token).transpose()?;
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

    pub(super) fn ledger(&self) -> LedgerServiceClient<AgentService> {
        // A page holds at most 1000 records, but a record's origins have no such limit.
        LedgerServiceClient::new(self.service.clone()).max_decoding_message_size(MAX_ANSWER_BYTES)
    }
}

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
        let address = &self.address;
        let wrong = |error: tonic::transport::Error| {
            Failure::Usage(format!("--address {address}: {}", root_cause(&error)))
        };
        let endpoint = Endpoint::from_shared(address.uri.clone())
            .and_then(|endpoint| endpoint.user_agent(concat!("tallyman/", env!("CARGO_PKG_VERSION"))))
            .map_err(wrong)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT);
        if address.is_tls() { endpoint.tls_config(self.tls()?).map_err(wrong) } else { Ok(endpoint) }
    }

    fn tls(&self) -> Result<ClientTlsConfig, Failure> {
        let mut tls = ClientTlsConfig::new();
        tls = match &self.ca_file {
            Some(file) => tls.ca_certificate(Certificate::from_pem(read(file)?)),
            None => tls.with_native_roots(),
        };
        if let (Some(cert), Some(key)) = (&self.cert_file, &self.key_file) {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(tls)
    }
}

fn read_token(file: &PathBuf) -> Result<AsciiMetadataValue, Failure> {
    let wrong = || Failure::Usage(format!("{}: does not hold a token on a single line", file.display()));
    let text = String::from_utf8(read(file)?).map_err(|_| wrong())?;
    let token = Some(text.trim()).filter(|token| !token.is_empty()).ok_or_else(wrong)?;
    let mut value: AsciiMetadataValue = format!("Bearer {token}").parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(file: &PathBuf) -> Result<Vec<u8>, Failure> {
    std::fs::read(file)
        .map_err(|error| Failure::Usage(format!("{}: cannot be read: {error}", file.display())))
}

/// Shows the agent who asks.
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

/// An agent's address, as it was given and as a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    given: String,
    uri: String,
}

impl Address {
    fn is_tls(&self) -> bool {
        self.uri.starts_with("https://")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let given = text.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            let has_whole_path = path.starts_with('/') && path.len() > 1;
            return if has_whole_path {
                Ok(Self { given: given.clone(), uri: given })
            } else {
                Err(FORMS.to_owned())
            };
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let authority = rest.trim_end_matches('/');
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
        if !["http", "https"].contains(&scheme) || !has_port || authority.contains(['/', '?', '@']) {
            return Err(FORMS.to_owned());
        }
        Ok(Self { given, uri: format!("{scheme}://{authority}") })
    }
}

const FORMS: &str = "an agent's address is host:port, http://host:port, https://host:port or unix:/path";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_in_four_forms() {
        let expected = [
            ("127.0.0.1:7450", "http://127.0.0.1:7450"),
            ("localhost:1", "http://localhost:1"),
            ("[::1]:7450", "http://[::1]:7450"),
            ("http://agent:7450/", "http://agent:7450"),
            ("https://agent.example:443", "https://agent.example:443"),
            ("unix:/run/tallyman/tallyman.sock", "unix:/run/tallyman/tallyman.sock"),
        ];
        for (text, uri) in expected {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.uri.as_str(), address.to_string().as_str()), (uri, text));
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for text in [
            "",
            "agent",
            ":7450",
            "agent:port",
            "agent:70000",
            "ftp://agent:1",
            "unix:tallyman.sock",
            "unix:/",
            "http://a:1/x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_file_holds_one_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_path_buf();
        assert!(read_token(&path).is_err(), "empty");
        std::fs::write(&path, "two\nlines").unwrap();
        assert!(read_token(&path).is_err(), "two lines");
        std::fs::write(&path, "s3cret\n").unwrap();
        assert_eq!(read_token(&path).unwrap().to_str().unwrap(), "Bearer s3cret");
    }
}
