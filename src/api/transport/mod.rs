//! The transport of the gRPC interface: sockets, TLS, connections, and the authentication and authorization of calls.
//!
//! The way of a call, each step in its file:
//!
//! ```text
//! listen -> accept -> connection -> trace -> authorize -> request_deadline -> service
//!             |  |        |                     |
//!             |  |        traffic (frames)      authenticate -> client
//!             |  credentials (tls, crl)
//!             connection_limit
//! ```
//!
//! `traffic` says how much a connection may send before a call on it is authorized.
//!
//! `credentials` reloads its files while the agent runs. What is revoked by a change (`peer_certs`, `revocation`) ends
//! the connections and streams that it has let in. This room names no service: `api::server` puts them behind it.

mod accept;
mod allowance;
mod authenticate;
mod authorize;
mod calls;
pub(crate) mod client;
mod connection;
mod connection_limit;
mod credentials;
mod crl;
mod frames;
mod listen;
mod peer_certs;
mod reload;
mod request_deadline;
mod revocation;
mod tls;
mod trace;
mod traffic;

pub(crate) use credentials::ServerCredentials;
pub(crate) use listen::{BoundSocket, bind};

pub(super) use accept::accept;
pub(super) use authorize::AuthLayer;
pub(super) use trace::TraceLayer;
