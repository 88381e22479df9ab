//! The way to an agent: its address, and what shows it who asks.

use std::{
    error::Error,
    fmt, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use tonic::{
    metadata::AsciiMetadataValue,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

/// Network time-outs; they are real time whatever the agent's clock.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where an agent is, and the files that prove who asks. They are read for each connection, so they may be renewed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Access {
    pub address: Address,
    /// The file with the token that the agent asks for.
    pub token_file: Option<PathBuf>,
    /// The certificates (PEM) of who vouches for an `https` agent; without, the system's.
    pub ca_file: Option<PathBuf>,
    /// The client's own certificate and its key (PEM), for an agent that asks for one.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

impl Access {
    pub fn to(address: Address) -> Self {
        Self { address, token_file: None, ca_file: None, cert_file: None, key_file: None }
    }

    pub(crate) fn endpoint(&self) -> Result<Endpoint, AccessError> {
        let address = &self.address;
        let wrong = |error: tonic::transport::Error| AccessError::Address {
            address: address.to_string(),
            cause: root_cause(&error),
        };
        let endpoint = Endpoint::from_shared(address.uri.clone())
            .and_then(|endpoint| endpoint.user_agent(concat!("tallyman/", env!("CARGO_PKG_VERSION"))))
            .map_err(wrong)?
            .connect_timeout(CONNECT_TIMEOUT);
        if address.is_tls() { endpoint.tls_config(self.tls()?).map_err(wrong) } else { Ok(endpoint) }
    }

    fn tls(&self) -> Result<ClientTlsConfig, AccessError> {
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

    /// What goes into the metadata `authorization`.
    pub(crate) fn authorization(&self) -> Result<Option<AsciiMetadataValue>, AccessError> {
        self.token_file.as_deref().map(read_token).transpose()
    }
}

fn read_token(file: &Path) -> Result<AsciiMetadataValue, AccessError> {
    let wrong = || AccessError::Token(file.to_path_buf());
    let text = String::from_utf8(read(file)?).map_err(|_| wrong())?;
    let token = Some(text.trim()).filter(|token| !token.is_empty()).ok_or_else(wrong)?;
    let mut value: AsciiMetadataValue = format!("Bearer {token}").parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(file: &Path) -> Result<Vec<u8>, AccessError> {
    std::fs::read(file).map_err(|error| AccessError::Unreadable { file: file.to_path_buf(), error })
}

/// Why there is no way to the agent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    #[error("{address}: {cause}")]
    Address { address: String, cause: String },
    #[error("{}: cannot be read: {error}", file.display())]
    Unreadable { file: PathBuf, error: io::Error },
    #[error("{}: does not hold a token on a single line", .0.display())]
    Token(PathBuf),
}

/// The innermost error, which says what happened; the others say during what.
pub(crate) fn root_cause(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

/// An agent's address, as it was given and as a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
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
        let path = file.path();
        assert!(read_token(path).is_err(), "empty");
        std::fs::write(path, "two\nlines").unwrap();
        assert!(read_token(path).is_err(), "two lines");
        std::fs::write(path, "s3cret\n").unwrap();
        assert_eq!(read_token(path).unwrap().to_str().unwrap(), "Bearer s3cret");
    }
}
