//! `[grpc]`: where applications reach the agent, who they are, and what each may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::Arc,
};

use super::{Client, Grpc, Listen, Proof, Tls, reader::Section};
use crate::domain::{
    permission::{Permission, Role},
    product::Catalog,
    usage::is_customer_key,
};

const MAX_CLIENTS: usize = 1000;
const MAX_NAME: usize = 64;

pub(super) fn read_grpc(root: &mut Section<'_>, catalog: &Catalog) -> Grpc {
    let mut section = root.section("grpc");
    let listen: Listen = section.parsed("listen", "127.0.0.1:7450", str::parse);
    let max_events = section.integer("max_events_per_request", 10_000, (1, 100_000));
    let tls = section.optional_section("tls").map(|mut tls| {
        let read = Tls {
            cert: tls.required("cert").into(),
            key: tls.required("key").into(),
            client_ca: tls.optional_text("client_ca").map(Into::into),
            client_crl: tls.optional_text("client_crl").map(Into::into),
        };
        if read.client_crl.is_some() && read.client_ca.is_none() {
            tls.fault(
                "client_crl",
                "withdraws certificates of clients, and without client_ca none is asked for",
            );
        }
        section.put("tls", tls);
        read
    });
    let token_file = section.optional_text("token_file").map(Into::into);
    let asks_for_certificates = tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let clients = read_clients(&mut section, catalog, asks_for_certificates);
    if token_file.is_some() && !clients.is_empty() {
        section.fault("token_file", WHOSE_TOKEN);
    }
    if !listen.is_local() && token_file.is_none() && !asks_for_certificates && clients.is_empty() {
        section.fault("listen", OPEN_TO_ALL);
    }
    root.put("grpc", section);
    Grpc {
        listen,
        max_events_per_request: usize::try_from(max_events).unwrap_or(usize::MAX),
        tls,
        token_file,
        clients,
    }
}

const OPEN_TO_ALL: &str = "whoever reaches this address could bill your customers: set grpc.tls with client_ca, or \
                           grpc.token_file, or [[grpc.client]]; or listen on loopback (127.0.0.1:7450) or on a Unix \
                           socket (unix:/path)";
const WHOSE_TOKEN: &str = "is nobody's where there are clients: give it to one of them ([[grpc.client]] with name, \
                           token_file and roles)";

fn read_clients(grpc: &mut Section<'_>, catalog: &Catalog, asks_for_certificates: bool) -> Vec<Client> {
    let mut sections = grpc.sections("client");
    if sections.len() > MAX_CLIENTS {
        grpc.fault("client", &format!("at most {MAX_CLIENTS} [[grpc.client]] sections are allowed"));
        sections.truncate(MAX_CLIENTS);
    }
    let (mut clients, mut names, mut proofs) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    for section in &mut sections {
        let permission = read_permission(section, catalog);
        let name = permission.client.clone();
        if !names.insert(name.clone()) {
            section.fault("name", &format!("`{name}` is there twice"));
        }
        let most = section.integer("events_per_second", 0, (0, 1_000_000_000));
        let events_per_second = u32::try_from(most).ok().and_then(NonZeroU32::new);
        let Some(proof) = read_proof(section, asks_for_certificates) else { continue };
        if let Some(other) = proofs.insert(proof.clone(), name) {
            section.fault(proof.key(), &format!("is that of client `{other}`, too"));
        }
        clients.push(Client { permission, proof, events_per_second });
    }
    grpc.put_all("client", sections);
    clients
}

fn read_permission(section: &mut Section<'_>, catalog: &Catalog) -> Permission {
    let client = section.required("name");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
    if client.len() > MAX_NAME || !client.bytes().all(is_plain) {
        section.fault("name", &format!("must be at most {MAX_NAME} of a-z A-Z 0-9 - _ . : / @"));
    }
    let (products, customers) = (read_products(section, catalog), read_customers(section));
    let roles = read_roles(section);
    let sees_all = roles.contains(&Role::Read) || roles.contains(&Role::Decide);
    if sees_all && (products.is_some() || customers.is_some()) {
        section.fault(
            "roles",
            "`read` and `decide` are for all products and customers: leave them out, or `products` and `customers`",
        );
    }
    Permission { client: client.into(), roles, products, customers }
}

fn read_roles(section: &mut Section<'_>) -> BTreeSet<Role> {
    let Some(names) = section.optional_list("roles") else { return [Role::Meter].into() };
    let known = |name: &str| Role::ALL.into_iter().find(|role| role.name() == name);
    let mut roles = BTreeSet::new();
    for name in names {
        match known(&name) {
            Some(role) => drop(roles.insert(role)),
            None => section.fault("roles", &format!("`{name}` is none of meter, customers, read, decide")),
        }
    }
    roles
}

fn read_products<T: FromIterator<crate::domain::product::ProductIndex>>(
    section: &mut Section<'_>,
    catalog: &Catalog,
) -> Option<T> {
    let codes = section.optional_list("products")?;
    let found = |code: &String| {
        let found = if code.is_empty() { None } else { catalog.find(code) };
        if found.is_none() {
            section.fault("products", &format!("no product `{code}` is configured"));
        }
        found
    };
    Some(codes.iter().filter_map(found).collect())
}

fn read_customers(section: &mut Section<'_>) -> Option<BTreeSet<Arc<str>>> {
    let keys = section.optional_list("customers")?;
    if !keys.iter().all(|key| is_customer_key(key)) {
        section.fault("customers", "each must be 1 to 255 bytes without control characters");
    }
    Some(keys.into_iter().map(Arc::from).collect())
}

fn read_proof(section: &mut Section<'_>, asks_for_certificates: bool) -> Option<Proof> {
    let (token_file, certificate) =
        (section.optional_text("token_file"), section.optional_text("certificate"));
    match (token_file, certificate) {
        (Some(file), None) if !file.is_empty() => Some(Proof::TokenFile(file.into())),
        (None, Some(name)) if !name.is_empty() => {
            if !asks_for_certificates {
                section.fault("certificate", "needs grpc.tls with client_ca");
            }
            Some(Proof::Certificate(name))
        }
        _ => {
            section.fault("token_file", "either this or `certificate` must say how the client is known");
            None
        }
    }
}

impl Proof {
    fn key(&self) -> &'static str {
        match self {
            Self::TokenFile(_) => "token_file",
            Self::Certificate(_) => "certificate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Config, ConfigError, parse,
            testing::{self, GOOD, faults},
        },
        *,
    };
    use crate::domain::product::ProductIndex;

    const PRODUCTS: &str = r#"
        [[product]]
        code = "one"
        dimension = [{ name = "requests" }]
        [[product]]
        code = "two"
        dimension = [{ name = "requests" }]
    "#;

    fn config(grpc: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        testing::config(&format!("{grpc}{PRODUCTS}"), variables)
    }

    #[test]
    fn a_client_meters_for_everything_unless_it_is_bound() {
        let text = r#"
            [grpc.tls]
            cert = "c"
            key = "k"
            client_ca = "ca"
            [[grpc.client]]
            name = "app"
            token_file = "t"
            events_per_second = 7
            [[grpc.client]]
            name = "bound"
            certificate = "spiffe://x/bound"
            roles = ["meter", "customers"]
            products = ["two"]
            customers = ["acme", "globex"]
        "#;
        let config = config(text, &[("TALLYMAN__GRPC__CLIENT__1__CUSTOMERS__2", "initech")]).unwrap();
        let [app, bound] = &config.grpc.clients[..] else { panic!("{:?}", config.grpc.clients) };
        assert_eq!((&*app.permission.client, &app.proof), ("app", &Proof::TokenFile("t".into())));
        assert_eq!(app.permission.roles, [Role::Meter].into());
        let rates = [app, bound].map(|client| client.events_per_second.map(NonZeroU32::get));
        assert_eq!(rates, [Some(7), None]);
        assert_eq!((&app.permission.products, &app.permission.customers), (&None, &None));
        assert_eq!(bound.proof, Proof::Certificate("spiffe://x/bound".to_owned()));
        assert_eq!(bound.permission.roles, [Role::Meter, Role::Customers].into());
        assert_eq!(bound.permission.products, Some([ProductIndex(1)].into()));
        assert!(bound.permission.check(ProductIndex(1), "initech").is_ok(), "from the environment");
        let again = parse(&config.effective, "again", std::iter::empty()).unwrap();
        assert_eq!(again.effective, config.effective);
    }

    #[test]
    fn every_fault_of_a_client_is_told_with_its_key() {
        let text = r#"
            [grpc]
            token_file = "t"
            [[grpc.client]]
            name = "two words"
            token_file = "t"
            certificate = "c"
            [[grpc.client]]
            name = "a"
            certificate = "c"
            products = ["three", 4]
            customers = []
            roles = ["read", "king"]
            colour = "blue"
            events_per_second = -1
            [[grpc.client]]
            name = "a"
            token_file = "u"
            [[grpc.client]]
            name = "b"
            token_file = "u"
            roles = "meter"
            [[grpc.client]]
            name = "c"
        "#;
        let ConfigError(faults) = config(text, &[("TALLYMAN__GRPC__CLIENT__4__TOKEN_FILE", "")]).unwrap_err();
        let expected = [
            "t.toml: grpc.token_file: is nobody's",
            "t.toml: grpc.client.0.name: must be",
            "t.toml: grpc.client.0.token_file: either",
            "t.toml: grpc.client.1.certificate: needs",
            "t.toml: grpc.client.1.products: no product `three`",
            "t.toml: grpc.client.1.products.1: must be text",
            "t.toml: grpc.client.1.customers: must not be an empty list",
            "t.toml: grpc.client.1.roles: `king`",
            "t.toml: grpc.client.1.roles: `read` and `decide`",
            "t.toml: grpc.client.1.colour: unknown key",
            "t.toml: grpc.client.1.events_per_second: must be a whole number",
            "t.toml: grpc.client.2.name: `a` is there twice",
            "t.toml: grpc.client.3.token_file: is that of client `a`",
            "t.toml: grpc.client.3.roles: must be a list",
            "TALLYMAN__GRPC__CLIENT__4__TOKEN_FILE: grpc.client.4.token_file: either",
        ];
        for start in expected {
            assert!(faults.iter().any(|fault| fault.starts_with(start)), "{start} not in {faults:#?}");
        }
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    }

    #[test]
    fn certificates_are_withdrawn_only_where_they_are_asked_for() {
        let tls =
            |more: &str| format!("grpc = {{ tls = {{ cert = 'c', key = 'k', client_crl = 'l'{more} }} }}\n");
        let read = config(&tls(", client_ca = 'a'"), &[]).unwrap().grpc.tls.unwrap();
        assert_eq!(read.client_crl.unwrap().to_str(), Some("l"));
        let ConfigError(faults) = config(&tls(""), &[]).unwrap_err();
        assert!(faults[0].starts_with("t.toml: grpc.tls.client_crl: ") && faults.len() == 1, "{faults:?}");
    }

    #[test]
    fn clients_prove_who_calls_on_any_address() {
        let text = "grpc = { listen = '0.0.0.0:1', client = [{ name = 'a', token_file = 't' }] }\n";
        assert!(config(text, &[]).is_ok());
        assert!(config("grpc = { listen = '0.0.0.0:1', client = [] }\n", &[]).is_err());
    }

    #[test]
    fn addresses_beyond_this_machine_need_proof_of_who_calls() {
        let open = [("TALLYMAN__GRPC__LISTEN", "0.0.0.0:7450")];
        assert_eq!(faults(GOOD, &open).len(), 1);
        for words in ["TALLYMAN__GRPC__LISTEN: grpc.listen:", "client_ca", "token_file", "unix:"] {
            assert!(faults(GOOD, &open)[0].contains(words), "{words}");
        }
        let token = [open[0], ("TALLYMAN__GRPC__TOKEN_FILE", "/run/token")];
        assert!(testing::config(GOOD, &token).is_ok());
        let tls = [open[0], ("TALLYMAN__GRPC__TLS__CERT", "/c"), ("TALLYMAN__GRPC__TLS__KEY", "/k")];
        assert_eq!(faults(GOOD, &tls).len(), 1, "TLS alone proves who the agent is, and not who calls");
        let mutual = [tls[0], tls[1], tls[2], ("TALLYMAN__GRPC__TLS__CLIENT_CA", "/ca")];
        assert!(testing::config(GOOD, &mutual).is_ok());
        for address in ["[::]:7450", "192.0.2.1:7450"] {
            assert_eq!(faults(GOOD, &[("TALLYMAN__GRPC__LISTEN", address)]).len(), 1, "{address}");
        }
    }

    #[test]
    fn this_machine_needs_no_proof_and_the_admin_port_may_be_open() {
        for address in ["127.0.0.1:7450", "127.8.8.8:1", "[::1]:7450", "unix:/run/tallyman.sock"] {
            let here = [("TALLYMAN__GRPC__LISTEN", address), ("TALLYMAN__ADMIN__LISTEN", "0.0.0.0:7451")];
            assert!(testing::config(GOOD, &here).is_ok(), "{address}");
        }
    }
}
