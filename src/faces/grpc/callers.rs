//! Who a call is of: everyone, whoever has the token, or a client that is known by its token or certificate.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    base::config::{Grpc, Proof},
    faces::client::Client,
};

/// Tokens are known by their hashes: they are not kept, and how long it takes to find one tells nothing about it.
pub(super) type Hash = [u8; 32];

pub(super) fn hash(token: &[u8]) -> Hash {
    Sha256::digest(token).into()
}

#[derive(Clone, Debug, Default)]
pub(super) struct Callers {
    /// Whether a call must prove whose it is.
    must_prove: bool,
    /// Whose each token file is, in the order of [`token_files`]; nobody's in particular without clients.
    owners: Vec<Option<Arc<Client>>>,
    tokens: HashMap<Hash, Token>,
    /// By a name in the certificate.
    certificates: HashMap<String, Arc<Client>>,
}

#[derive(Clone, Debug)]
struct Token {
    /// The place of its file.
    file: usize,
    given_up: CancellationToken,
}

/// What a call passes by.
#[derive(Debug)]
pub(super) struct Pass {
    /// None if it may do everything.
    pub(super) client: Option<Arc<Client>>,
    /// Cancelled once the token that the call came with is given up.
    pub(super) given_up: Option<CancellationToken>,
}

/// The files of tokens that a configuration names.
pub(super) fn token_files(grpc: &Grpc) -> impl Iterator<Item = &PathBuf> {
    let of_clients = grpc.clients.iter().filter_map(|client| match &client.proof {
        Proof::TokenFile(file) => Some(file),
        Proof::Certificate(_) => None,
    });
    grpc.token_file.iter().chain(of_clients)
}

impl Callers {
    pub(super) fn of(grpc: &Grpc) -> Self {
        let mut callers = Self {
            must_prove: grpc.token_file.is_some() || !grpc.clients.is_empty(),
            owners: grpc.token_file.iter().map(|_| None).collect(),
            ..Self::default()
        };
        for client in &grpc.clients {
            let known = Arc::new(Client::new(client.permission.clone(), client.events_per_second));
            match &client.proof {
                Proof::TokenFile(_) => callers.owners.push(Some(known)),
                Proof::Certificate(name) => drop(callers.certificates.insert(name.clone(), known)),
            }
        }
        callers
    }

    /// Takes the tokens of a file in the place of those it had.
    pub(super) fn set_tokens(&mut self, file: usize, tokens: Vec<Hash>) -> Result<(), &'static str> {
        if tokens.iter().any(|hash| self.tokens.get(hash).is_some_and(|other| other.file != file)) {
            return Err("holds a token of another client");
        }
        self.tokens.retain(|hash, token| {
            let stays = token.file != file || tokens.contains(hash);
            if !stays {
                token.given_up.cancel();
            }
            stays
        });
        for hash in tokens {
            self.tokens.entry(hash).or_insert_with(|| Token { file, given_up: CancellationToken::new() });
        }
        Ok(())
    }

    /// Whose the call is, given its words of authorization and the names in its connection's certificate.
    pub(super) fn find(&self, authorization: Option<&[u8]>, names: &[String]) -> Result<Pass, Status> {
        if !self.must_prove {
            return Ok(Pass { client: None, given_up: None });
        }
        if let Some(words) = authorization {
            let token = words.strip_prefix(b"Bearer ").and_then(|token| self.tokens.get(&hash(token)));
            let token = token.ok_or_else(|| self.unknown())?;
            let client = self.owners.get(token.file).cloned().ok_or_else(|| self.unknown())?;
            return Ok(Pass { client, given_up: Some(token.given_up.clone()) });
        }
        let mut found = names.iter().filter_map(|name| self.certificates.get(name));
        let first = found.next().ok_or_else(|| self.unknown())?;
        if found.any(|other| !Arc::ptr_eq(first, other)) {
            return Err(Status::unauthenticated("the certificate is that of more than one [[grpc.client]]"));
        }
        Ok(Pass { client: Some(first.clone()), given_up: None })
    }

    fn unknown(&self) -> Status {
        let what = if self.certificates.is_empty() && self.owners.first().is_some_and(Option::is_none) {
            "send the token of grpc.token_file as `authorization: Bearer <token>`"
        } else {
            "neither the token (`authorization: Bearer <token>`) nor the certificate is that of a [[grpc.client]]"
        };
        Status::unauthenticated(what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::parse;

    fn callers(grpc: &str) -> Callers {
        let text = format!("{grpc}\n[[product]]\ncode = 'p'\ndimension = [{{ name = 'd' }}]");
        Callers::of(&parse(&text, "t.toml", std::iter::empty()).unwrap().grpc)
    }

    const EVERYONE: &str = "everyone";
    const NOBODY: &str = "nobody";

    /// Whose a call is: a client's name, or one of those above.
    fn found(callers: &Callers, words: Option<&[u8]>, names: &[&str]) -> String {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        match callers.find(words, &names) {
            Ok(Pass { client: Some(client), .. }) => client.permission.client.to_string(),
            Ok(Pass { client: None, .. }) => EVERYONE.to_owned(),
            Err(_) => NOBODY.to_owned(),
        }
    }

    #[test]
    fn a_token_that_is_given_up_takes_back_what_passed_by_it() {
        let mut callers = callers("grpc = { token_file = 't' }");
        callers.set_tokens(0, vec![hash(b"old"), hash(b"kept")]).unwrap();
        let passed = |token: &[u8]| callers.find(Some(token), &[]).unwrap().given_up.unwrap();
        let (old, kept) = (passed(b"Bearer old"), passed(b"Bearer kept"));
        let mut later = callers.clone();
        later.set_tokens(0, vec![hash(b"kept"), hash(b"new")]).unwrap();
        assert!(old.is_cancelled() && !kept.is_cancelled());
        let again = later.find(Some(b"Bearer kept"), &[]).unwrap().given_up.unwrap();
        later.set_tokens(0, vec![hash(b"new")]).unwrap();
        assert!(kept.is_cancelled() && again.is_cancelled(), "from before a change and from after it");
    }

    #[test]
    fn without_a_token_or_clients_every_call_passes() {
        assert_eq!(found(&callers(""), None, &["anyone"]), EVERYONE);
    }

    #[test]
    fn a_call_passes_with_one_of_the_tokens_and_with_nothing_else() {
        let mut callers = callers("grpc = { token_file = 't' }");
        callers.set_tokens(0, vec![hash(b"old"), hash(b"new")]).unwrap();
        for words in [&b"Bearer old"[..], b"Bearer new"] {
            assert_eq!(found(&callers, Some(words), &[]), EVERYONE);
        }
        for words in [None, Some(&b"old"[..]), Some(b"Bearer "), Some(b"Bearer ol"), Some(b"Basic old")] {
            assert_eq!(found(&callers, words, &["anyone"]), NOBODY);
        }
        callers.set_tokens(0, vec![hash(b"new")]).unwrap();
        assert_eq!(found(&callers, Some(b"Bearer old"), &[]), NOBODY, "it is given up");
    }

    #[test]
    fn a_client_is_known_by_its_token_or_its_certificate() {
        let tls = "tls = { cert = 'c', key = 'k', client_ca = 'a' }";
        let by = |name: &str, proof: &str| format!("{{ name = '{name}', {proof} }}");
        let clients = [
            by("a", "token_file = 'a'"),
            by("b", "token_file = 'b'"),
            by("c", "certificate = 'c.example.org'"),
            by("d", "certificate = 'spiffe://d'"),
        ];
        let mut callers = callers(&format!("grpc = {{ {tls}, client = [{}] }}", clients.join(", ")));
        callers.set_tokens(0, vec![hash(b"one")]).unwrap();
        callers.set_tokens(1, vec![hash(b"two"), hash(b"three")]).unwrap();
        let client = |words: Option<&[u8]>, names: &[&str]| found(&callers, words, names);
        assert_eq!(client(Some(b"Bearer one"), &[]), "a");
        assert_eq!(client(Some(b"Bearer three"), &["spiffe://d"]), "b", "a token goes first");
        assert_eq!(client(None, &["x", "c.example.org"]), "c");
        assert_eq!(client(None, &["spiffe://d"]), "d");
        for (words, names) in [
            (None, &[][..]),
            (None, &["spiffe://e", "SPIFFE://D"]),
            (None, &["spiffe://d", "c.example.org"]),
            (Some(&b"Bearer wrong"[..]), &["spiffe://d"]),
        ] {
            assert_eq!(found(&callers, words, names), NOBODY, "{words:?} {names:?}");
        }
    }

    #[test]
    fn no_two_clients_share_a_token() {
        let mut callers = callers(
            "grpc = { client = [{ name = 'a', token_file = 'a' }, { name = 'b', token_file = 'b' }] }",
        );
        callers.set_tokens(0, vec![hash(b"same")]).unwrap();
        assert!(callers.set_tokens(1, vec![hash(b"own"), hash(b"same")]).is_err());
        assert_eq!(found(&callers, Some(b"Bearer own"), &[]), NOBODY);
        callers.set_tokens(0, vec![hash(b"other")]).unwrap();
        assert!(callers.set_tokens(1, vec![hash(b"same")]).is_ok());
    }
}
