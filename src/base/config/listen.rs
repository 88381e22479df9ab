//! Addresses to listen on or to talk to.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr};

/// Linux has 108 bytes for it, of which the last is zero. Some systems have four fewer, and refuse such a path at the start.
const LONGEST_SOCKET_PATH: usize = 107;

/// A TCP address, or a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listen {
    /// Whether only processes of this machine reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.len() > LONGEST_SOCKET_PATH => Err(format!(
                "the path of a Unix socket may have {LONGEST_SOCKET_PATH} bytes, and this one has {}",
                path.len()
            )),
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => {
                Err("a Unix socket is given with its whole path, as in unix:/run/tallyman.sock".to_owned())
            }
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("`{text}` is neither an address with a port, as in 127.0.0.1:7450, nor unix:/path")
            }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sockets_path_is_whole_and_short_enough() {
        let parse = |path: String| format!("unix:{path}").parse::<Listen>();
        assert!(parse(format!("/{}", "x".repeat(106))).is_ok());
        assert!(parse(format!("/{}", "x".repeat(107))).unwrap_err().contains("107 bytes"));
        assert!(parse("tallyman.sock".to_owned()).unwrap_err().contains("whole path"));
    }
}
