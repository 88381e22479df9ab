//! `[admin]`: the port for operators and machines, which only reads.

use std::{collections::BTreeSet, net::SocketAddr};

use super::{About, Section};

#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
    /// Names by which the port is reached and that somebody else could own, in lower case.
    pub hosts: BTreeSet<String>,
    /// Whether the status page may name customers.
    pub show_customers: bool,
}

const ABOUT: About = About {
    words: "The status page, metrics, probes and a summary for machines, over plain HTTP. Nothing can be changed \
            there.",
    example: r#"
[admin]
listen = "127.0.0.1:7451"
hosts = ["ops.example.com"]
show_customers = false
"#,
};

pub(super) fn read(root: &mut Section<'_>) -> Admin {
    let mut section = root.section("admin", &ABOUT);
    let admin = Admin {
        listen: section
            .key("listen", "An address with a port; it may be one that other machines reach")
            .parsed("127.0.0.1:7451", |text| {
                text.parse()
                    .map_err(|_| format!("`{text}` is not an address with a port, as in 127.0.0.1:7451"))
            }),
        hosts: read_hosts(&mut section),
        show_customers: section
            .key("show_customers", "Whether the status page names customers with unsent or held records")
            .flag(false),
    };
    root.put("admin", section);
    admin
}

fn read_hosts(section: &mut Section<'_>) -> BTreeSet<String> {
    let hosts = section
        .key(
            "hosts",
            "Names by which browsers and scrapers reach the port, as behind a proxy. Addresses, names without a dot, \
             and those that end with `.localhost`, `.svc`, `.cluster.local` or `.internal` need not be listed; a \
             request for any other name is refused with 421, since a web page could have made it (DNS rebinding)",
        )
        .optional_list()
        .unwrap_or_default();
    let is_name = |host: &str| {
        !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
    };
    for host in hosts.iter().filter(|host| !is_name(host)) {
        let words = format!("`{}` is no name of a host, as in ops.example.com", host.escape_debug());
        section.fault("hosts", &words);
    }
    hosts.iter().map(|host| host.trim_end_matches('.').to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use crate::base::config::testing::{GOOD, config, faults};

    #[test]
    fn hosts_are_names_without_scheme_and_port() {
        let hosts = |host: &'static str| [("TALLYMAN__ADMIN__HOSTS__0", host)];
        let read = config(GOOD, &hosts("Ops.example.com.")).unwrap().admin.hosts;
        assert_eq!(read.into_iter().collect::<Vec<_>>(), ["ops.example.com"]);
        for wrong in ["", "https://ops.example.com", "ops.example.com:443", "*"] {
            let faults = faults(GOOD, &hosts(wrong));
            assert!(faults.len() == 1 && faults[0].contains("admin.hosts"), "{wrong}: {faults:?}");
        }
    }

    #[test]
    fn the_status_page_names_customers_only_when_told_to() {
        let shows = |variables: &[(&str, &str)]| config(GOOD, variables).unwrap().admin.show_customers;
        assert!(!shows(&[]) && shows(&[("TALLYMAN__ADMIN__SHOW_CUSTOMERS", "true")]));
    }
}
