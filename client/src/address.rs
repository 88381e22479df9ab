//! An agent's address.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The address of an agent: `host:port`, `http://host:port`, `https://host:port` or `unix:/path`.
///
/// Without a scheme it is `http`. It is parsed from text, and displays as the text that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    uri: String,
}

impl Address {
    pub(crate) fn uri(&self) -> &str {
        &self.uri
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.uri.starts_with("https://")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let uri = match text.strip_prefix("unix:") {
            Some(path) => socket_uri(text, path),
            None => network_uri(text),
        };
        Ok(Self { text: text.to_owned(), uri: uri.ok_or(AddressError(()))? })
    }
}

fn socket_uri(text: &str, path: &str) -> Option<String> {
    let is_absolute = path.starts_with('/') && path.len() > 1;
    is_absolute.then(|| text.to_owned())
}

fn network_uri(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let authority = rest.trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':')?;
    let has_port = !host.is_empty() && port.parse::<u16>().is_ok();
    let is_plain = ["http", "https"].contains(&scheme) && !authority.contains(['/', '?', '@']);
    (has_port && is_plain).then(|| format!("{scheme}://{authority}"))
}

/// A text that is no agent's address. It displays as the list of the valid forms.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("an agent's address is host:port, http://host:port, https://host:port or unix:/path")]
pub struct AddressError(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_in_four_forms() {
        let expected = [
            ("127.0.0.1:7450", "http://127.0.0.1:7450"),
            ("localhost:1", "http://localhost:1"),
            ("[::1]:7450", "http://[::1]:7450"),
            ("http://agent:7450/", "http://agent:7450"),
            ("https://agent.example:443", "https://agent.example:443"),
            ("unix:/run/tallyman/tallyman.sock", "unix:/run/tallyman/tallyman.sock"),
        ];
        for (text, uri) in expected {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.uri(), address.to_string().as_str()), (uri, text));
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for text in [
            "",
            "agent",
            ":7450",
            "agent:port",
            "agent:70000",
            "ftp://agent:1",
            "unix:tallyman.sock",
            "unix:/",
            "http://a:1/x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
