//! Who may call and who answers: certificates and tokens, as their files say at the moment.

use std::{
    collections::HashSet,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tracing::{error, info};

use super::watched::Watched;
use crate::base::{config::Grpc, metrics, tasks::blocking, x509};

/// Kubernetes swaps a Secret's files within a minute or so of its change. To look more often costs next to nothing.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While a token is changed, its file holds the old one and the new one, each on a line.
const MAX_TOKENS: usize = 10;

/// Whom the server trusts. Its files are read before anyone is told that the agent is ready.
pub struct Access {
    pub(super) keys: Keys,
    files: Files,
}

/// What is in force. Cheap to clone; all clones see the same.
#[derive(Clone)]
pub(super) struct Keys(Arc<RwLock<InForce>>);

#[derive(Clone, Default)]
struct InForce {
    tls: Option<Arc<ServerConfig>>,
    tokens: Option<Arc<HashSet<Hash>>>,
}

struct Files {
    tls: Option<Watched<Tls>>,
    tokens: Option<Watched<Vec<Hash>>>,
}

struct Tls {
    config: ServerConfig,
    expires: Vec<(&'static str, x509::Certificate)>,
}

/// Tokens are known by their hashes: they are not kept, and how long it takes to find one tells nothing about it.
type Hash = [u8; 32];

impl Access {
    pub fn load(grpc: &Grpc) -> Result<Self, String> {
        let mut in_force = InForce::default();
        let mut files = Files { tls: None, tokens: None };
        if let Some(tls) = &grpc.tls {
            let paths = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()];
            let (watched, made) = Watched::load(paths.into_iter().flatten().cloned().collect(), make_tls)?;
            in_force.take_tls(made);
            files.tls = Some(watched);
        }
        if let Some(path) = &grpc.token_file {
            let (watched, made) = Watched::load(vec![path.clone()], make_tokens)?;
            in_force.take_tokens(made);
            files.tokens = Some(watched);
        }
        Ok(Self { keys: Keys(Arc::new(RwLock::new(in_force))), files })
    }

    /// Takes over what changes in the files, for ever. Connections that are there stay.
    pub(super) async fn follow(self) {
        let Self { keys, mut files } = self;
        if files.tls.is_none() && files.tokens.is_none() {
            return std::future::pending().await;
        }
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            // A file may lie on a disk or a network that does not answer.
            let looked = blocking(move || {
                let news = files.look();
                (files, news)
            });
            let Ok((back, news)) = looked.await else { return std::future::pending().await };
            files = back;
            if !news.is_empty() {
                for news in news {
                    keys.take(news);
                }
                metrics::credentials_stale(files.stale());
            }
        }
    }
}

/// Something that a look at the files has found.
enum News {
    Tls(Box<Tls>, String),
    Tokens(Vec<Hash>, String),
    Fault(String),
}

impl Files {
    fn look(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        if let Some(tls) = &mut self.tls
            && let Some(found) = tls.look()
        {
            news.push(found.map_or_else(News::Fault, |made| News::Tls(Box::new(made), tls.names())));
        }
        if let Some(tokens) = &mut self.tokens
            && let Some(found) = tokens.look()
        {
            news.push(found.map_or_else(News::Fault, |made| News::Tokens(made, tokens.names())));
        }
        news
    }

    fn stale(&self) -> usize {
        let tls = self.tls.as_ref().is_some_and(|tls| tls.is_stale);
        let tokens = self.tokens.as_ref().is_some_and(|tokens| tokens.is_stale);
        usize::from(tls) + usize::from(tokens)
    }
}

impl Keys {
    /// What a new connection is greeted with, if it must speak TLS.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.read().tls
    }

    /// Whether a call with these words of authorization may pass. Anyone may, where there is no token.
    pub(super) fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let Some(tokens) = self.read().tokens else { return true };
        let token = authorization.and_then(|words| words.strip_prefix(b"Bearer "));
        token.is_some_and(|token| tokens.contains(&hash(token)))
    }

    fn read(&self) -> InForce {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, news: News) {
        let mut in_force = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let files = match news {
            News::Tls(tls, files) => {
                in_force.take_tls(*tls);
                files
            }
            News::Tokens(tokens, files) => {
                in_force.take_tokens(tokens);
                files
            }
            News::Fault(fault) => {
                metrics::credentials_loaded(false);
                return error!(fault, "certificates or tokens cannot be loaded: those before stay in force");
            }
        };
        metrics::credentials_loaded(true);
        info!(files, "certificates or tokens have changed, and are in force");
    }
}

impl InForce {
    fn take_tls(&mut self, tls: Tls) {
        for (file, certificate) in &tls.expires {
            metrics::certificate_expires(file, certificate.expires);
        }
        self.tls = Some(Arc::new(tls.config));
    }

    fn take_tokens(&mut self, tokens: Vec<Hash>) {
        self.tokens = Some(Arc::new(tokens.into_iter().collect()));
    }
}

fn hash(token: &[u8]) -> Hash {
    Sha256::digest(token).into()
}

fn make_tokens(files: &[Vec<u8>]) -> Result<Vec<Hash>, String> {
    let text = files.concat();
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).collect();
    let tokens: Vec<_> = lines.into_iter().filter(|line| !line.is_empty()).map(hash).collect();
    match tokens.len() {
        0 => Err("the token is empty".to_owned()),
        1..=MAX_TOKENS => Ok(tokens),
        _ => Err(format!("has more than {MAX_TOKENS} tokens, one a line")),
    }
}

/// From a certificate with its chain, its key, and the authority of clients, if they must have a certificate.
fn make_tls(files: &[Vec<u8>]) -> Result<Tls, String> {
    let (Some(chain), Some(key)) = (files.first(), files.get(1)) else {
        return Err("there must be a certificate and a key".to_owned());
    };
    let chain = certificates(chain).map_err(|fault| format!("the certificate: {fault}"))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|fault| format!("the key: {fault}"))?;
    let mut expires: Vec<_> = leaf(&chain).map(|leaf| ("cert", leaf)).into_iter().collect();
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|fault| fault.to_string())?;
    let builder = match files.get(2) {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let authorities = certificates(pem).map_err(|fault| format!("the client_ca: {fault}"))?;
            // Of several, the old and the new one say, the last to end counts.
            let read = authorities.iter().filter_map(|der| x509::Certificate::read(der));
            expires.extend(read.max_by_key(|read| read.expires).map(|last| ("client_ca", last)));
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(authorities);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|fault| format!("the client_ca: {fault}"))?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|fault| fault.to_string())?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(Tls { config, expires })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|fault| fault.to_string())?;
    if certificates.is_empty() { Err("there is none in the file".to_owned()) } else { Ok(certificates) }
}

fn leaf(chain: &[CertificateDer<'_>]) -> Option<x509::Certificate> {
    chain.first().and_then(|der| x509::Certificate::read(der))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_file_holds_tokens_one_a_line() {
        let tokens = |text: &str| make_tokens(&[text.as_bytes().to_vec()]);
        assert_eq!(tokens("s3cret\n").unwrap(), [hash(b"s3cret")]);
        assert_eq!(tokens(" old \r\n\nnew").unwrap(), [hash(b"old"), hash(b"new")]);
        assert!(tokens(" \n\n").is_err());
        assert!(tokens(&"token\n".repeat(11)).is_err());
    }

    #[test]
    fn a_call_passes_with_one_of_the_tokens_and_with_nothing_else() {
        let mut in_force = InForce::default();
        in_force.take_tokens(vec![hash(b"old"), hash(b"new")]);
        let keys = Keys(Arc::new(RwLock::new(in_force)));
        for words in [&b"Bearer old"[..], b"Bearer new"] {
            assert!(keys.admits(Some(words)));
        }
        for words in [None, Some(&b"old"[..]), Some(b"Bearer "), Some(b"Bearer ol"), Some(b"Basic old")] {
            assert!(!keys.admits(words));
        }
        let open = Keys(Arc::default());
        assert!(open.admits(None) && open.tls().is_none());
    }
}
