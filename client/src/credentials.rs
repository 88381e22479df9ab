//! The files that a client shows an agent, and the endpoint made of them.

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tonic::{
    metadata::AsciiMetadataValue,
    transport::{Certificate, ClientTlsConfig, Endpoint, Identity},
};

use crate::address::Address;

/// Real time, whatever the agent's clock.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The files that identify the client to the agent and the agent to the client.
///
/// None is needed for an agent that asks for none. The files are read again for each connection, so a renewed file is used
/// without a restart.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Credentials {
    /// The file with the agent's token, on a single line. Sent as `authorization: Bearer <token>`.
    pub token_file: Option<PathBuf>,
    /// The PEM file with the authorities that may vouch for an `https` agent. Default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// The PEM file with the client's certificate chain, for an `https` agent that asks for one. Used together with
    /// `key_file`; one without the other is ignored.
    pub cert_file: Option<PathBuf>,
    /// The PEM file with the private key of `cert_file`.
    pub key_file: Option<PathBuf>,
}

// Public for tallyman's own command line, which connects as the client does.
impl Credentials {
    /// The endpoint for an address, with TLS if the address is `https`.
    #[doc(hidden)]
    pub fn endpoint(&self, address: &Address) -> Result<Endpoint, CredentialsError> {
        let refused = |error: tonic::transport::Error| CredentialsError::Endpoint {
            address: address.clone(),
            cause: root_cause(&error),
        };
        let endpoint = Endpoint::from_shared(address.uri().to_owned())
            .and_then(|endpoint| endpoint.user_agent(concat!("tallyman/", env!("CARGO_PKG_VERSION"))))
            .map_err(refused)?
            .connect_timeout(CONNECT_TIMEOUT);
        if address.is_tls() { endpoint.tls_config(self.tls()?).map_err(refused) } else { Ok(endpoint) }
    }

    fn tls(&self) -> Result<ClientTlsConfig, CredentialsError> {
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

    /// The value of the metadata `authorization`.
    #[doc(hidden)]
    pub fn authorization(&self) -> Result<Option<AsciiMetadataValue>, CredentialsError> {
        self.token_file.as_deref().map(read_token).transpose()
    }
}

fn read_token(file: &Path) -> Result<AsciiMetadataValue, CredentialsError> {
    let invalid = || CredentialsError::InvalidToken { file: file.to_path_buf() };
    let text = String::from_utf8(read(file)?).map_err(|_| invalid())?;
    let token = Some(text.trim()).filter(|token| !token.is_empty()).ok_or_else(invalid)?;
    let mut value: AsciiMetadataValue = format!("Bearer {token}").parse().map_err(|_| invalid())?;
    value.set_sensitive(true);
    Ok(value)
}

fn read(file: &Path) -> Result<Vec<u8>, CredentialsError> {
    fs::read(file).map_err(|error| CredentialsError::Unreadable { file: file.to_path_buf(), error })
}

/// Credentials that no connection can be made with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The address, or a certificate or key for it, is invalid.
    #[error("{address}: {cause}")]
    Endpoint {
        /// The agent's address.
        address: Address,
        /// What is wrong.
        cause: String,
    },
    /// A file cannot be read.
    #[error("{}: cannot be read: {error}", file.display())]
    Unreadable {
        /// The file's path, as it was given.
        file: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// A token file is empty, or holds more than one line or other than visible ASCII.
    #[error("{}: does not hold a token on a single line", file.display())]
    InvalidToken {
        /// The file's path, as it was given.
        file: PathBuf,
    },
}

/// The innermost error, which says what happened; those around it say during what.
pub fn root_cause(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_holds_one_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path();
        assert!(read_token(path).is_err(), "empty");
        fs::write(path, "two\nlines").unwrap();
        assert!(read_token(path).is_err(), "two lines");
        fs::write(path, "s3cret\n").unwrap();
        assert_eq!(read_token(path).unwrap().to_str().unwrap(), "Bearer s3cret");
    }
}
