//! `[grpc]`: where applications reach the agent, and how they prove who they are.

use std::path::PathBuf;

use super::{
    About, Section,
    client::{self, Client},
    tls::{self, Tls},
};
use crate::{base::config::Listen, domain::product::Catalog};

#[derive(Clone, Debug)]
pub struct Grpc {
    pub listen: Listen,
    pub max_events_per_request: usize,
    pub tls: Option<Tls>,
    pub token_file: Option<PathBuf>,
    /// Who may call. Without any, every caller may that proves itself by token or certificate, if one is asked for.
    pub clients: Vec<Client>,
}

impl Grpc {
    /// Whether every caller may call, without a proof of who it is.
    fn is_open(&self) -> bool {
        let asks_for_certificates = self.tls.as_ref().is_some_and(Tls::asks_for_certificates);
        self.token_file.is_none() && !asks_for_certificates && self.clients.is_empty()
    }
}

pub(super) const ABOUT: About = About {
    words: "Where applications and the command line reach the agent. An address that other machines reach needs \
            `grpc.tls` with `client_ca`, or `token_file`, or clients; else `check` and `run` refuse it with exit 64.",
    example: r#"
[grpc]
listen = "127.0.0.1:7450"
max_events_per_request = 10000
token_file = "/etc/tallyman/token"
"#,
};

pub(super) fn read<'a>(root: &mut Section<'a>, mut section: Section<'a>, catalog: &Catalog) -> Grpc {
    let listen = section
        .key("listen", "An address with a port, or `unix:/path/to/socket`, which gets mode 0660")
        .parsed("127.0.0.1:7450", str::parse);
    let max_events_per_request = section
        .key(
            "max_events_per_request",
            "A request with more events is refused as a whole, with `INVALID_ARGUMENT`",
        )
        .integer(10_000, 1..=100_000);
    let tls = tls::read(&mut section);
    let token_file = section
        .key(
            "token_file",
            "A file with the token that every caller must send as `authorization: Bearer <token>`, or with \
             several, one a line. It allows everything. A change takes effect within seconds. It cannot stand \
             beside `[[grpc.client]]`",
        )
        .optional_path();
    let asks_for_certificates = tls.as_ref().is_some_and(Tls::asks_for_certificates);
    let clients = client::read_all(&mut section, catalog, asks_for_certificates);
    let grpc = Grpc { listen, max_events_per_request, tls, token_file, clients };
    if grpc.token_file.is_some() && !grpc.clients.is_empty() {
        section.fault("token_file", WHOSE_TOKEN);
    }
    if !grpc.listen.is_local() && grpc.is_open() {
        section.fault("listen", OPEN_TO_ALL);
    }
    root.put("grpc", section);
    grpc
}

const OPEN_TO_ALL: &str = "whoever reaches this address could bill your customers: set grpc.tls with client_ca, or \
                           grpc.token_file, or [[grpc.client]]; or listen on loopback (127.0.0.1:7450) or on a Unix \
                           socket (unix:/path)";
const WHOSE_TOKEN: &str = "is nobody's where there are clients: give it to one of them ([[grpc.client]] with name, \
                           token_file and roles)";

#[cfg(test)]
mod tests {
    use crate::base::config::testing::{GOOD, config, faults};

    #[test]
    fn addresses_beyond_this_machine_need_proof_of_who_calls() {
        let open = [("TALLYMAN__GRPC__LISTEN", "0.0.0.0:7450")];
        assert_eq!(faults(GOOD, &open).len(), 1);
        for words in ["TALLYMAN__GRPC__LISTEN: grpc.listen:", "client_ca", "token_file", "unix:"] {
            assert!(faults(GOOD, &open)[0].contains(words), "{words}");
        }
        let token = [open[0], ("TALLYMAN__GRPC__TOKEN_FILE", "/run/token")];
        assert!(config(GOOD, &token).is_ok());
        let tls = [open[0], ("TALLYMAN__GRPC__TLS__CERT", "/c"), ("TALLYMAN__GRPC__TLS__KEY", "/k")];
        assert_eq!(faults(GOOD, &tls).len(), 1, "TLS alone proves who the agent is, and not who calls");
        let mutual = [tls[0], tls[1], tls[2], ("TALLYMAN__GRPC__TLS__CLIENT_CA", "/ca")];
        assert!(config(GOOD, &mutual).is_ok());
        for address in ["[::]:7450", "192.0.2.1:7450"] {
            assert_eq!(faults(GOOD, &[("TALLYMAN__GRPC__LISTEN", address)]).len(), 1, "{address}");
        }
    }

    #[test]
    fn this_machine_needs_no_proof_and_the_admin_port_may_be_open() {
        for address in ["127.0.0.1:7450", "127.8.8.8:1", "[::1]:7450", "unix:/run/tallyman.sock"] {
            let here = [("TALLYMAN__GRPC__LISTEN", address), ("TALLYMAN__ADMIN__LISTEN", "0.0.0.0:7451")];
            assert!(config(GOOD, &here).is_ok(), "{address}");
        }
    }
}
