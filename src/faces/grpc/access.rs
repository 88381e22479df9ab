//! Who may call and who answers: certificates and tokens, as their files say at the moment.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::rustls::pki_types::UnixTime;
use tracing::{error, info};

use super::{
    callers::{Callers, Hash, hash, token_files},
    shown::{Shelf, Shown},
    tls::Tls,
    watched::Watched,
};
use crate::base::{config::Grpc, metrics, tasks::blocking};

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
pub(super) struct Keys {
    in_force: Arc<RwLock<InForce>>,
    /// What connections have shown.
    shelf: Arc<Shelf>,
}

#[derive(Clone, Default)]
struct InForce {
    tls: Option<Arc<Tls>>,
    callers: Arc<Callers>,
}

struct Files {
    tls: Option<Watched<Tls>>,
    /// One for each client that is known by a token, or one that is everyone's.
    tokens: Vec<Watched<Vec<Hash>>>,
}

impl Access {
    pub fn load(grpc: &Grpc) -> Result<Self, String> {
        let mut files = Files { tls: None, tokens: Vec::new() };
        let mut in_force = InForce::default();
        if let Some(tls) = &grpc.tls {
            let paths = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref(), tls.client_crl.as_ref()];
            let (watched, made) = Watched::load(paths.into_iter().flatten().cloned().collect(), Tls::make)?;
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
        let keys = Keys { in_force: Arc::new(RwLock::new(in_force)), shelf: Arc::default() };
        Ok(Self { keys, files })
    }

    /// Takes over what changes in the files, for ever. Connections that would not be let in any more end soon.
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
            let with = keys.clone();
            let looked = blocking(move || {
                with.follow(&mut files);
                files
            });
            let Ok(back) = looked.await else { return std::future::pending().await };
            files = back;
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
    pub(super) fn tls(&self) -> Option<Arc<Tls>> {
        self.read().tls
    }

    /// Keeps what a connection has shown for later looks.
    pub(super) fn keep(&self, shown: &Arc<Shown>, greeted_with: &Arc<Tls>) {
        self.shelf.put(shown);
        // What came into force during the greeting may have been held against the others already.
        let in_force = self.tls().filter(|tls| !Arc::ptr_eq(tls, greeted_with));
        if let Some(verifier) = in_force.as_ref().and_then(|tls| tls.verifier.as_deref()) {
            shown.look(verifier, UnixTime::now());
        }
    }

    pub(super) fn callers(&self) -> Arc<Callers> {
        self.read().callers
    }

    fn read(&self) -> InForce {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn follow(&self, files: &mut Files) {
        let (news, before) = (files.look(), self.tls());
        if !news.is_empty() {
            for news in news {
                self.take(news, files);
            }
            metrics::credentials_stale(files.stale());
        }
        let Some(tls) = self.tls() else { return };
        let (now, has_changed) = (UnixTime::now(), !before.is_some_and(|before| Arc::ptr_eq(&before, &tls)));
        tls.note_old_lists(now);
        if let Some(verifier) = &tls.verifier {
            let withdrawn = self.shelf.look(&**verifier, has_changed, now);
            if withdrawn > 0 {
                info!(
                    connections = withdrawn,
                    "connections end, since their certificates are not taken any more"
                );
            }
        }
    }

    fn take(&self, news: News, files: &mut Files) {
        let mut in_force = self.in_force.write().unwrap_or_else(PoisonError::into_inner);
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
        tls.note();
        self.tls = Some(Arc::new(tls));
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
