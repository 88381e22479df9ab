//! `[[grpc.client]]`: who may call, how each proves who it is, and what it may do.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
};

use super::{About, Section};
use crate::domain::{
    permission::{Permission, Role},
    product::{Catalog, ProductIndex},
    usage::event::is_customer_key,
};

/// A caller that is known by a token or a certificate.
#[derive(Clone, Debug)]
pub struct Client {
    pub permission: Permission,
    pub proof: Proof,
    /// The most, on average.
    pub events_per_second: Option<NonZeroU32>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    TokenFile(PathBuf),
    /// A DNS name or, with a colon in it, a URI among the certificate's subject alternative names; of a certificate without
    /// any, its common name.
    Certificate(String),
}

const MAX_CLIENTS: usize = 1000;
const MAX_NAME: usize = 64;

const ABOUT: About = About {
    words: "The clients that may call, and what each may do. Without any, every caller that reaches the agent (and \
            has the token, or a certificate) may do everything. With some, each call must come from one of them: \
            see the [README](../README.md#clients).",
    example: r#"
[[grpc.client]]
name = "checkout"
token_file = "/etc/tallyman/checkout.token"
products = ["exampleproductcode"]
customers = ["123456789012"]
events_per_second = 5000

[[grpc.client]]
name = "operator"
certificate = "operator.example.com"
roles = ["read", "decide"]
"#,
};

pub(super) fn read_all(
    grpc: &mut Section<'_>,
    catalog: &Catalog,
    asks_for_certificates: bool,
) -> Vec<Client> {
    let mut sections = grpc.sections("client", &ABOUT);
    if sections.len() > MAX_CLIENTS {
        grpc.fault("client", &format!("at most {MAX_CLIENTS} [[grpc.client]] sections are allowed"));
        sections.truncate(MAX_CLIENTS);
    }
    let (mut clients, mut names, mut proofs) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    for section in &mut sections {
        let name = read_name(section);
        if !names.insert(name.clone()) {
            section.fault("name", &format!("`{name}` is there twice"));
        }
        let Some(client) = read(section, name.clone(), catalog, asks_for_certificates) else { continue };
        if let Some(other) = proofs.insert(client.proof.clone(), name) {
            section.fault(client.proof.key(), &format!("is that of client `{other}`, too"));
        }
        clients.push(client);
    }
    grpc.put_all("client", sections);
    clients
}

fn read_name(section: &mut Section<'_>) -> Arc<str> {
    let name = section
        .key("name", "The name of the client in messages, at most 64 of `a-z A-Z 0-9 - _ . : / @`")
        .required_text();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/@".contains(&byte);
    if name.len() > MAX_NAME || !name.bytes().all(is_plain) {
        section.fault("name", &format!("must be at most {MAX_NAME} of a-z A-Z 0-9 - _ . : / @"));
    }
    name.into()
}

/// `None` if it does not say how the client is known.
fn read(
    section: &mut Section<'_>,
    name: Arc<str>,
    catalog: &Catalog,
    asks_for_certificates: bool,
) -> Option<Client> {
    let proof = read_proof(section, asks_for_certificates);
    let permission = read_permission(section, name, catalog);
    let events_per_second = section
        .key(
            "events_per_second",
            "The most events a second, on average. A call beyond it is refused with `RESOURCE_EXHAUSTED` and told \
             when to come again; a stream is read more slowly",
        )
        .default_words("no limit")
        .integer(0, 0..=1_000_000_000);
    Some(Client { permission, proof: proof?, events_per_second: NonZeroU32::new(events_per_second) })
}

fn read_proof(section: &mut Section<'_>, asks_for_certificates: bool) -> Option<Proof> {
    let token_file = section
        .key(
            "token_file",
            "A file with the client's own token, or with several, one a line. A client has either this or \
             `certificate`. A change takes effect within seconds",
        )
        .optional_path();
    let certificate = section
        .key(
            "certificate",
            "A name in the client's certificate, as it stands there: with a colon in it a URI, and else a DNS name, \
             among its subject alternative names. The common name counts for a DNS name in a certificate without any \
             alternative names, if it is the only one",
        )
        .optional_text();
    match (token_file, certificate) {
        (Some(file), None) if !file.as_os_str().is_empty() => Some(Proof::TokenFile(file)),
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

fn read_permission(section: &mut Section<'_>, client: Arc<str>, catalog: &Catalog) -> Permission {
    let roles = read_roles(section);
    let products = read_products(section, catalog);
    let customers = read_customers(section);
    let sees_all = roles.contains(&Role::Read) || roles.contains(&Role::Decide);
    if sees_all && (products.is_some() || customers.is_some()) {
        section.fault(
            "roles",
            "`read` and `decide` are for all products and customers: leave them out, or `products` and `customers`",
        );
    }
    Permission { client, roles, products, customers }
}

fn read_roles(section: &mut Section<'_>) -> BTreeSet<Role> {
    let names = section
        .key(
            "roles",
            "`meter` records usage, `customers` changes customers, `read` sees the ledger, `decide` decides about held \
             records",
        )
        .default_words("`[\"meter\"]`")
        .optional_list();
    let Some(names) = names else { return [Role::Meter].into() };
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

fn read_products(section: &mut Section<'_>, catalog: &Catalog) -> Option<BTreeSet<ProductIndex>> {
    let codes = section
        .key("products", "The codes of the products that it may meter")
        .default_words("all")
        .optional_list()?;
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
    let keys =
        section.key("customers", "The customers that it may meter").default_words("all").optional_list()?;
    if !keys.iter().all(|key| is_customer_key(key)) {
        section.fault("customers", "each must be 1 to 255 bytes without control characters");
    }
    Some(keys.into_iter().map(Arc::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{Config, ConfigError, parse, testing};

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
    fn clients_prove_who_calls_on_any_address() {
        let text = "grpc = { listen = '0.0.0.0:1', client = [{ name = 'a', token_file = 't' }] }\n";
        assert!(config(text, &[]).is_ok());
        assert!(config("grpc = { listen = '0.0.0.0:1', client = [] }\n", &[]).is_err());
    }
}
