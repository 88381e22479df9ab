//! `[grpc.tls]`: who the agent is to its clients, and who vouches for them.

use std::path::PathBuf;

use super::{About, Section};

#[derive(Clone, Debug)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
    /// Lists of revoked certificates; only with `client_ca`.
    pub client_crl: Option<PathBuf>,
}

impl Tls {
    pub(super) fn asks_for_certificates(&self) -> bool {
        self.client_ca.is_some()
    }
}

const ABOUT: About = About {
    words: "Without this table there is no TLS. The files are in PEM, and a change of them takes effect within \
            seconds.",
    example: r#"
[grpc.tls]
cert = "/etc/tallyman/tls/server.pem"
key = "/etc/tallyman/tls/server.key"
client_ca = "/etc/tallyman/tls/clients.pem"
client_crl = "/etc/tallyman/tls/clients.crl"
"#,
};

pub(super) fn read(grpc: &mut Section<'_>) -> Option<Tls> {
    let mut section = grpc.optional_section("tls", &ABOUT)?;
    let cert = section
        .key("cert", "The agent's certificate, followed by the intermediate ones of its chain")
        .required_path();
    let key = section.key("key", "The private key of that certificate").required_path();
    let client_ca = section
        .key(
            "client_ca",
            "The certificate authorities (CAs) of clients. With it, each client must show a certificate that leads \
             to one of them",
        )
        .optional_path();
    let client_crl = section
        .key(
            "client_crl",
            "The revoked certificates of clients: a revocation list (CRL) of each authority that has signed a \
             certificate in use, those in `client_ca` and any between. The file is read again when it changes. A \
             list that is past its next update stays in force, and an alert tells",
        )
        .optional_path();
    if client_crl.is_some() && client_ca.is_none() {
        section
            .fault("client_crl", "revokes certificates of clients, and without client_ca none is asked for");
    }
    grpc.put("tls", section);
    Some(Tls { cert, key, client_ca, client_crl })
}

#[cfg(test)]
mod tests {
    use crate::base::config::{
        ConfigError,
        testing::{GOOD, config},
    };

    #[test]
    fn certificates_are_revoked_only_where_they_are_asked_for() {
        let tls = |more: &str| {
            format!("grpc = {{ tls = {{ cert = 'c', key = 'k', client_crl = 'l'{more} }} }}\n{GOOD}")
        };
        let read = config(&tls(", client_ca = 'a'"), &[]).unwrap().grpc.tls.unwrap();
        assert_eq!(read.client_crl.unwrap().to_str(), Some("l"));
        let ConfigError(faults) = config(&tls(""), &[]).unwrap_err();
        assert!(faults[0].starts_with("t.toml: grpc.tls.client_crl: ") && faults.len() == 1, "{faults:?}");
    }
}
