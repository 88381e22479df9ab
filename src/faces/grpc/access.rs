//! Who may call and who answers: certificates and tokens, as their files say at the moment.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tracing::{error, info};

use super::{
    callers::{Callers, Hash, hash, token_files},
    watched::Watched,
};
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
    callers: Arc<Callers>,
}

struct Files {
    tls: Option<Watched<Tls>>,
    /// One for each client that is known by a token, or one that is everyone's.
    tokens: Vec<Watched<Vec<Hash>>>,
}

struct Tls {
    config: ServerConfig,
    expires: Vec<(&'static str, x509::Certificate)>,
}

impl Access {
    pub fn load(grpc: &Grpc) -> Result<Self, String> {
        let mut files = Files { tls: None, tokens: Vec::new() };
        let mut in_force = InForce::default();
        if let Some(tls) = &grpc.tls {
            let paths = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref()];
            let (watched, made) = Watched::load(paths.into_iter().flatten().cloned().collect(), make_tls)?;
            in_force.take_tls(made);
            files.tls = Some(watched);
        }
        let mut callers = Callers::of(grpc);
        for (place, file) in token_files(grpc).enumerate() {
            let (watched, tokens) = Watched::load(vec![file.clone()], make_tokens)?;
            callers.set_tokens(place, tokens).map_err(|fault| format!("{}: {fault}", watched.names()))?;
            files.tokens.push(watched);
        }
        in_force.callers = Arc::new(callers);
        Ok(Self { keys: Keys(Arc::new(RwLock::new(in_force))), files })
    }

    /// Takes over what changes in the files, for ever. Connections that are there stay.
    pub(super) async fn follow(self) {
        let Self { keys, mut files } = self;
        if files.tls.is_none() && files.tokens.is_empty() {
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
                    keys.take(news, &mut files);
                }
                metrics::credentials_stale(files.stale());
            }
        }
    }
}

/// Something that a look at the files has found.
enum News {
    Tls(Box<Tls>),
    /// Of the file in this place.
    Tokens(usize, Vec<Hash>),
    Fault(String),
}

impl Files {
    fn look(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        if let Some(found) = self.tls.as_mut().and_then(Watched::look) {
            news.push(found.map_or_else(News::Fault, |made| News::Tls(Box::new(made))));
        }
        for (place, tokens) in self.tokens.iter_mut().enumerate() {
            if let Some(found) = tokens.look() {
                news.push(found.map_or_else(News::Fault, |made| News::Tokens(place, made)));
            }
        }
        news
    }

    fn stale(&self) -> usize {
        let tls = self.tls.as_ref().is_some_and(|tls| tls.is_stale);
        usize::from(tls) + self.tokens.iter().filter(|tokens| tokens.is_stale).count()
    }
}

impl Keys {
    /// What a new connection is greeted with, if it must speak TLS.
    pub(super) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.read().tls
    }

    pub(super) fn callers(&self) -> Arc<Callers> {
        self.read().callers
    }

    fn read(&self) -> InForce {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn take(&self, news: News, files: &mut Files) {
        let mut in_force = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match in_force.take(news, files) {
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

impl InForce {
    /// Tells whose files are in force from now on, or why those before stay.
    fn take(&mut self, news: News, files: &mut Files) -> Result<String, String> {
        match news {
            News::Fault(fault) => Err(fault),
            News::Tls(tls) => {
                self.take_tls(*tls);
                Ok(files.tls.as_ref().map(Watched::names).unwrap_or_default())
            }
            News::Tokens(place, tokens) => {
                let Some(file) = files.tokens.get_mut(place) else { return Ok(String::new()) };
                let mut callers = Callers::clone(&self.callers);
                let taken = callers.set_tokens(place, tokens);
                file.is_stale = taken.is_err();
                taken.map_err(|fault| format!("{}: {fault}", file.names()))?;
                self.callers = Arc::new(callers);
                Ok(file.names())
            }
        }
    }

    fn take_tls(&mut self, tls: Tls) {
        for (file, certificate) in &tls.expires {
            metrics::certificate_expires(file, certificate.expires);
        }
        self.tls = Some(Arc::new(tls.config));
    }
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
}
