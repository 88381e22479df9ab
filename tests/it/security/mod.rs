//! Who may call, for what, how much, and what is told of it.

mod admin_port;
mod clients;
mod customers;
mod decided;
mod files;
mod limits;
mod logs;
mod permissions;
mod producers;
mod reload;
mod revoked;
mod sbom;
mod unauthenticated;

use std::{fs, path::Path};

use tallyman_client::proto::{
    RecordRequest, RecordResponse, UsageEvent, usage_service_client::UsageServiceClient,
};
use tonic::{
    Request, Status,
    service::Interceptor,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use crate::support::{agent::Home, python::python};

/// An address at which no one listens.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Writes an authority and certificates by it into the folder of a test; see the script for the words.
pub(crate) fn issue(folder: &Path, authority: &str, names: &[&str]) {
    let mut script = python("tests/python/certificates.py");
    let output = script.arg(folder).arg(authority).args(names).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The agent shall show a certificate, and ask for one by the authority.
pub(crate) fn require_certificates(home: &mut Home, server: &str, authority: &str) {
    for (key, file) in [("CERT", format!("{server}.crt")), ("KEY", format!("{server}.key"))] {
        home.set(&format!("GRPC__TLS__{key}"), &home.path().join(file).display().to_string());
    }
    let authority = home.path().join(format!("{authority}.crt"));
    home.set("GRPC__TLS__CLIENT_CA", &authority.display().to_string());
}

/// Connects anew, trusting `authority` and showing the certificate of that name.
async fn connect(
    home: &Home,
    authority: &str,
    certificate: &str,
) -> Result<Channel, tonic::transport::Error> {
    let read = |name: String| fs::read(home.path().join(name)).unwrap();
    let identity = Identity::from_pem(read(format!("{certificate}.crt")), read(format!("{certificate}.key")));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(format!("{authority}.crt"))))
        .identity(identity)
        .domain_name("localhost");
    Endpoint::from_shared(format!("https://{}", home.grpc)).unwrap().tls_config(tls)?.connect().await
}

/// Sends usage over a connection, with a token if one is given.
async fn send(channel: Channel, token: &str, events: Vec<UsageEvent>) -> Result<RecordResponse, Status> {
    let mut request = Request::new(RecordRequest { events });
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    UsageServiceClient::new(channel).record(request).await.map(tonic::Response::into_inner)
}

/// Sends the token with each call, if there is one.
#[derive(Clone)]
struct Bearer(&'static str);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if !self.0.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {}", self.0).parse().unwrap());
        }
        Ok(request)
    }
}
