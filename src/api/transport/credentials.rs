//! The credentials in force: the server's certificate, the client CA and CRL, and the tokens. They follow their files.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::rustls::pki_types::UnixTime;
use tracing::{error, info};

use super::{
    authenticate::{Authenticator, Hash, hash, token_files},
    peer_certs::{PeerCertRegistry, PeerCerts},
    reload::Reloadable,
    tls::Tls,
};
use crate::base::{config::Grpc, metrics, tasks::blocking};

/// Interval at which the files are read again. Kubernetes replaces a Secret's files within about a minute of a change,
/// and reading a few kilobytes costs next to nothing.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// Most tokens in one file. While a token is rotated, its file holds the old one and the new one, each on a line.
const MAX_TOKENS: usize = 10;

/// The credentials of the gRPC server and its callers, loaded before the agent reports that it is ready.
pub(crate) struct ServerCredentials {
    pub(in crate::api) store: CredentialStore,
    files: CredentialFiles,
}

/// The credentials in force. Clones share them.
#[derive(Clone)]
pub(in crate::api) struct CredentialStore {
    current: Arc<RwLock<Credentials>>,
    peer_certs: Arc<PeerCertRegistry>,
}

#[derive(Clone, Default)]
struct Credentials {
    tls: Option<Arc<Tls>>,
    authenticator: Arc<Authenticator>,
}

struct CredentialFiles {
    tls: Option<Reloadable<Tls>>,
    /// The accepted tokens, in the order of [`token_files`].
    tokens: Vec<Reloadable<Vec<Hash>>>,
}

/// A change of the files, or why they cannot be used.
enum Change {
    Tls(Box<Tls>),
    /// The tokens of the file at this index.
    Tokens(usize, Vec<Hash>),
    Fault(String),
}

impl ServerCredentials {
    pub(crate) fn load(grpc: &Grpc) -> Result<Self, String> {
        let mut files = CredentialFiles { tls: None, tokens: Vec::new() };
        let mut credentials = Credentials::default();
        if let Some(tls) = &grpc.tls {
            let paths = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref(), tls.client_crl.as_ref()];
            let paths = paths.into_iter().flatten().cloned().collect();
            let (file, tls) = Reloadable::load(paths, Tls::from_pem)?;
            credentials.install_tls(tls);
            files.tls = Some(file);
        }
        let mut authenticator = Authenticator::from_config(grpc);
        for (index, path) in token_files(grpc).enumerate() {
            let (file, tokens) = Reloadable::load(vec![path.clone()], parse_tokens)?;
            authenticator.set_tokens(index, tokens).map_err(|fault| format!("{}: {fault}", file.names()))?;
            files.tokens.push(file);
        }
        credentials.authenticator = Arc::new(authenticator);
        let store =
            CredentialStore { current: Arc::new(RwLock::new(credentials)), peer_certs: Arc::default() };
        Ok(Self { store, files })
    }

    /// Reloads the files when they change, for ever. Connections and streams whose credentials are no longer valid end
    /// soon after.
    pub(in crate::api) async fn keep_current(self) {
        let Self { store, mut files } = self;
        if files.tls.is_none() && files.tokens.is_empty() {
            return std::future::pending().await;
        }
        let mut ticks = interval(RELOAD_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            // On a thread for blocking work: a file may be on a disk or a network that does not answer.
            let store = store.clone();
            let reloaded = blocking(move || {
                store.reload(&mut files);
                files
            });
            let Ok(back) = reloaded.await else { return std::future::pending().await };
            files = back;
        }
    }
}

impl CredentialFiles {
    fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        if let Some(changed) = self.tls.as_mut().and_then(Reloadable::reload) {
            changes.push(changed.map_or_else(Change::Fault, |tls| Change::Tls(Box::new(tls))));
        }
        for (index, file) in self.tokens.iter_mut().enumerate() {
            if let Some(changed) = file.reload() {
                changes.push(changed.map_or_else(Change::Fault, |tokens| Change::Tokens(index, tokens)));
            }
        }
        changes
    }

    fn count_stale(&self) -> usize {
        let tls = self.tls.as_ref().is_some_and(|tls| tls.is_stale);
        usize::from(tls) + self.tokens.iter().filter(|tokens| tokens.is_stale).count()
    }
}

impl CredentialStore {
    /// The TLS configuration for new connections. `None` without TLS.
    pub(super) fn tls(&self) -> Option<Arc<Tls>> {
        self.current().tls
    }

    pub(super) fn authenticator(&self) -> Arc<Authenticator> {
        self.current().authenticator
    }

    /// Registers a client's certificates for later checks. `handshake_tls` is the configuration that has accepted them.
    pub(super) fn register_peer(&self, certs: &Arc<PeerCerts>, handshake_tls: &Arc<Tls>) {
        self.peer_certs.register(certs);
        // A configuration that came into force during the handshake may have checked the registered connections
        // already. Registering first and comparing afterwards leaves no gap between the two.
        let newer = self.tls().filter(|tls| !Arc::ptr_eq(tls, handshake_tls));
        if let Some(verifier) = newer.as_ref().and_then(|tls| tls.verifier.as_deref()) {
            certs.recheck(verifier, UnixTime::now());
        }
    }

    fn current(&self) -> Credentials {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn reload(&self, files: &mut CredentialFiles) {
        let (changes, before) = (files.changes(), self.tls());
        if !changes.is_empty() {
            for change in changes {
                self.install(change, files);
            }
            metrics::credentials_stale(files.count_stale());
        }
        let Some(tls) = self.tls() else { return };
        let has_changed = !before.is_some_and(|before| Arc::ptr_eq(&before, &tls));
        self.recheck_peers(&tls, has_changed);
    }

    fn recheck_peers(&self, tls: &Tls, has_changed: bool) {
        let now = UnixTime::now();
        tls.log_overdue_crl(now);
        if let Some(verifier) = &tls.verifier {
            let revoked = self.peer_certs.recheck(&**verifier, has_changed, now);
            if revoked > 0 {
                info!(
                    connections = revoked,
                    "connections end, since their certificates are revoked, expired or no longer trusted"
                );
            }
        }
    }

    fn install(&self, change: Change, files: &mut CredentialFiles) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match current.install(change, files) {
            Ok(files) => {
                metrics::credentials_loaded(true);
                info!(files, "certificates or tokens have changed, and are in force");
            }
            Err(fault) => {
                metrics::credentials_loaded(false);
                error!(fault, "certificates or tokens cannot be loaded: those before stay in force");
            }
        }
    }
}

impl Credentials {
    /// Returns the files that are in force from now on, or why those before stay in force.
    fn install(&mut self, change: Change, files: &mut CredentialFiles) -> Result<String, String> {
        match change {
            Change::Fault(fault) => Err(fault),
            Change::Tls(tls) => {
                self.install_tls(*tls);
                Ok(files.tls.as_ref().map(Reloadable::names).unwrap_or_default())
            }
            Change::Tokens(index, tokens) => {
                let Some(file) = files.tokens.get_mut(index) else { return Ok(String::new()) };
                let mut authenticator = Authenticator::clone(&self.authenticator);
                let installed = authenticator.set_tokens(index, tokens);
                file.is_stale = installed.is_err();
                installed.map_err(|fault| format!("{}: {fault}", file.names()))?;
                self.authenticator = Arc::new(authenticator);
                Ok(file.names())
            }
        }
    }

    fn install_tls(&mut self, tls: Tls) {
        tls.report_expiry();
        self.tls = Some(Arc::new(tls));
    }
}

fn parse_tokens(files: &[Vec<u8>]) -> Result<Vec<Hash>, String> {
    let text = files.concat();
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    let tokens: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).map(hash).collect();
    match tokens.len() {
        0 => Err("the token is empty".to_owned()),
        1..=MAX_TOKENS => Ok(tokens),
        _ => Err(format!("has more than {MAX_TOKENS} tokens, one a line")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_holds_tokens_one_a_line() {
        let tokens = |text: &str| parse_tokens(&[text.as_bytes().to_vec()]);
        assert_eq!(tokens("s3cret\n").unwrap(), [hash(b"s3cret")]);
        assert_eq!(tokens(" old \r\n\nnew").unwrap(), [hash(b"old"), hash(b"new")]);
        assert!(tokens(" \n\n").is_err());
        assert!(tokens(&"token\n".repeat(11)).is_err());
    }
}
