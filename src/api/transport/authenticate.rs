//! Authentication of calls: by nothing, by the one token of `grpc.token_file`, or as a `[[grpc.client]]` by its token
//! or its certificate.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::client::Client;
use crate::base::{
    config::{Grpc, Proof},
    x509::CertificateName,
};

/// SHA-256 of a token. Tokens themselves are not kept, and the time to find a hash tells nothing about the token.
pub(super) type Hash = [u8; 32];

pub(super) fn hash(token: &[u8]) -> Hash {
    Sha256::digest(token).into()
}

/// Finds the principal of a call. The default authenticates every call.
#[derive(Clone, Debug, Default)]
pub(super) struct Authenticator {
    /// Whether a call needs credentials.
    is_required: bool,
    /// The client of each token file, in the order of [`token_files`]. `None` for `grpc.token_file`, which is no
    /// client's.
    owners: Vec<Option<Arc<Client>>>,
    tokens: HashMap<Hash, Token>,
    /// Clients by a name in their certificate.
    certificates: HashMap<CertificateName, Arc<Client>>,
}

#[derive(Clone, Debug)]
struct Token {
    /// Index of its file among [`token_files`].
    file: usize,
    /// Cancelled when the token leaves its file. Clones of the authenticator share it.
    revoked: CancellationToken,
}

/// The identity behind a call.
#[derive(Debug)]
pub(super) struct Principal {
    /// `None` for a caller that may do everything, which is every one where no clients are configured.
    pub(super) client: Option<Arc<Client>>,
    /// Cancelled once the token of the call is revoked. `None` for a call without a token.
    pub(super) token_revoked: Option<CancellationToken>,
}

/// The token files of a configuration.
pub(super) fn token_files(grpc: &Grpc) -> impl Iterator<Item = &PathBuf> {
    let of_clients = grpc.clients.iter().filter_map(|client| match &client.proof {
        Proof::TokenFile(file) => Some(file),
        Proof::Certificate(_) => None,
    });
    grpc.token_file.iter().chain(of_clients)
}

impl Authenticator {
    /// Knows the clients of the configuration, and no tokens yet: see [`set_tokens`](Self::set_tokens).
    pub(super) fn from_config(grpc: &Grpc) -> Self {
        let mut authenticator = Self {
            is_required: grpc.token_file.is_some() || !grpc.clients.is_empty(),
            owners: grpc.token_file.iter().map(|_| None).collect(),
            ..Self::default()
        };
        for client in &grpc.clients {
            let known = Arc::new(Client::new(client.permission.clone(), client.events_per_second));
            match &client.proof {
                Proof::TokenFile(_) => authenticator.owners.push(Some(known)),
                Proof::Certificate(name) => {
                    drop(authenticator.certificates.insert(CertificateName::configured(name), known));
                }
            }
        }
        authenticator
    }

    /// Replaces the tokens of a file, and revokes those that it no longer has. Fails, without a change, if another file
    /// has one of the tokens.
    pub(super) fn set_tokens(&mut self, file: usize, tokens: Vec<Hash>) -> Result<(), &'static str> {
        if tokens.iter().any(|hash| self.tokens.get(hash).is_some_and(|other| other.file != file)) {
            return Err("holds a token of another client");
        }
        self.tokens.retain(|hash, token| {
            let stays = token.file != file || tokens.contains(hash);
            if !stays {
                token.revoked.cancel();
            }
            stays
        });
        for hash in tokens {
            self.tokens.entry(hash).or_insert_with(|| Token { file, revoked: CancellationToken::new() });
        }
        Ok(())
    }

    /// Finds the principal by the call's `authorization` header, or without one by the names in the certificate of its
    /// connection. A token that is not known is refused, whatever the certificate.
    pub(super) fn authenticate(
        &self,
        authorization: Option<&[u8]>,
        names: &[CertificateName],
    ) -> Result<Principal, Status> {
        if !self.is_required {
            return Ok(Principal { client: None, token_revoked: None });
        }
        match authorization {
            Some(header) => self.authenticate_token(header),
            None => self.authenticate_certificate(names),
        }
    }

    fn authenticate_token(&self, header: &[u8]) -> Result<Principal, Status> {
        let token = header.strip_prefix(b"Bearer ").and_then(|token| self.tokens.get(&hash(token)));
        let token = token.ok_or_else(|| self.unauthenticated())?;
        let client = self.owners.get(token.file).cloned().ok_or_else(|| self.unauthenticated())?;
        Ok(Principal { client, token_revoked: Some(token.revoked.clone()) })
    }

    fn authenticate_certificate(&self, names: &[CertificateName]) -> Result<Principal, Status> {
        let mut found = names.iter().filter_map(|name| self.certificates.get(name));
        let first = found.next().ok_or_else(|| self.unauthenticated())?;
        if found.any(|other| !Arc::ptr_eq(first, other)) {
            return Err(Status::unauthenticated("the certificate is that of more than one [[grpc.client]]"));
        }
        Ok(Principal { client: Some(first.clone()), token_revoked: None })
    }

    fn unauthenticated(&self) -> Status {
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

    fn authenticator(grpc: &str) -> Authenticator {
        let text = format!("{grpc}\n[[product]]\ncode = 'p'\ndimension = [{{ name = 'd' }}]");
        Authenticator::from_config(&parse(&text, "t.toml", std::iter::empty()).unwrap().grpc)
    }

    const EVERYONE: &str = "everyone";
    const NOBODY: &str = "nobody";

    /// The principal of a call: a client's name, or one of those above.
    fn principal(authenticator: &Authenticator, header: Option<&[u8]>, names: &[&str]) -> String {
        let names: Vec<_> = names.iter().map(|name| CertificateName::configured(name)).collect();
        match authenticator.authenticate(header, &names) {
            Ok(Principal { client: Some(client), .. }) => client.permission.client.to_string(),
            Ok(Principal { client: None, .. }) => EVERYONE.to_owned(),
            Err(_) => NOBODY.to_owned(),
        }
    }

    #[test]
    fn a_token_that_leaves_its_file_revokes_the_calls_made_with_it() {
        let mut authenticator = authenticator("grpc = { token_file = 't' }");
        authenticator.set_tokens(0, vec![hash(b"old"), hash(b"kept")]).unwrap();
        let revoked =
            |token: &[u8]| authenticator.authenticate(Some(token), &[]).unwrap().token_revoked.unwrap();
        let (old, kept) = (revoked(b"Bearer old"), revoked(b"Bearer kept"));
        let mut later = authenticator.clone();
        later.set_tokens(0, vec![hash(b"kept"), hash(b"new")]).unwrap();
        assert!(old.is_cancelled() && !kept.is_cancelled());
        let again = later.authenticate(Some(b"Bearer kept"), &[]).unwrap().token_revoked.unwrap();
        later.set_tokens(0, vec![hash(b"new")]).unwrap();
        assert!(kept.is_cancelled() && again.is_cancelled(), "from before a change and from after it");
    }

    #[test]
    fn without_a_token_or_clients_no_call_needs_credentials() {
        assert_eq!(principal(&authenticator(""), None, &["anyone"]), EVERYONE);
    }

    #[test]
    fn a_call_is_authenticated_by_one_of_the_tokens_and_by_nothing_else() {
        let mut authenticator = authenticator("grpc = { token_file = 't' }");
        authenticator.set_tokens(0, vec![hash(b"old"), hash(b"new")]).unwrap();
        for header in [&b"Bearer old"[..], b"Bearer new"] {
            assert_eq!(principal(&authenticator, Some(header), &[]), EVERYONE);
        }
        for header in [None, Some(&b"old"[..]), Some(b"Bearer "), Some(b"Bearer ol"), Some(b"Basic old")] {
            assert_eq!(principal(&authenticator, header, &["anyone"]), NOBODY);
        }
        authenticator.set_tokens(0, vec![hash(b"new")]).unwrap();
        assert_eq!(principal(&authenticator, Some(b"Bearer old"), &[]), NOBODY, "it is revoked");
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
        let mut authenticator =
            authenticator(&format!("grpc = {{ {tls}, client = [{}] }}", clients.join(", ")));
        authenticator.set_tokens(0, vec![hash(b"one")]).unwrap();
        authenticator.set_tokens(1, vec![hash(b"two"), hash(b"three")]).unwrap();
        let client = |header: Option<&[u8]>, names: &[&str]| principal(&authenticator, header, names);
        assert_eq!(client(Some(b"Bearer one"), &[]), "a");
        assert_eq!(client(Some(b"Bearer three"), &["spiffe://d"]), "b", "the token precedes the certificate");
        assert_eq!(client(None, &["x", "c.example.org"]), "c");
        assert_eq!(client(None, &["spiffe://d"]), "d");
        for (header, names) in [
            (None, &[][..]),
            (None, &["spiffe://e", "SPIFFE://D"]),
            (None, &["spiffe://d", "c.example.org"]),
            (Some(&b"Bearer wrong"[..]), &["spiffe://d"]),
        ] {
            assert_eq!(principal(&authenticator, header, names), NOBODY, "{header:?} {names:?}");
        }
    }

    /// An authority may check one kind of names and not the other.
    #[test]
    fn a_uri_is_no_dns_name() {
        let tls = "tls = { cert = 'c', key = 'k', client_ca = 'a' }";
        let client = "client = [{ name = 'a', certificate = 'operator.example.com' }]";
        let authenticator = authenticator(&format!("grpc = {{ {tls}, {client} }}"));
        let name = || "operator.example.com".to_owned();
        assert!(authenticator.authenticate(None, &[CertificateName::Dns(name())]).is_ok());
        assert!(authenticator.authenticate(None, &[CertificateName::Uri(name())]).is_err());
    }

    #[test]
    fn no_two_clients_share_a_token() {
        let mut authenticator = authenticator(
            "grpc = { client = [{ name = 'a', token_file = 'a' }, { name = 'b', token_file = 'b' }] }",
        );
        authenticator.set_tokens(0, vec![hash(b"same")]).unwrap();
        assert!(authenticator.set_tokens(1, vec![hash(b"own"), hash(b"same")]).is_err());
        assert_eq!(principal(&authenticator, Some(b"Bearer own"), &[]), NOBODY);
        authenticator.set_tokens(0, vec![hash(b"other")]).unwrap();
        assert!(authenticator.set_tokens(1, vec![hash(b"same")]).is_ok());
    }
}
