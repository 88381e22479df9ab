//! What the sandbox reads of a request's signature. It does not check the signature itself: any credentials will do.

use super::exception::{Exception, Kind};

/// The region for which the request is signed, if it is signed for this service.
pub(super) fn region<'a>(authorization: &'a str, service: &str) -> Result<&'a str, Exception> {
    let credential = authorization.split_once("Credential=").map_or("", |(_, rest)| rest);
    let scope = credential.split(',').next().unwrap_or_default().trim();
    match scope.split('/').collect::<Vec<_>>().as_slice() {
        [_, _, region, name, "aws4_request"] if *name == service => Ok(region),
        [_, _, _, _, "aws4_request"] => Err(Kind::InvalidSignature
            .because(format!("Credential should be scoped to correct service: '{service}'."))),
        _ => Err(Kind::IncompleteSignature.because(format!(
            "the Authorization header needs a Credential like KEY/20261122/us-east-1/{service}/aws4_request"
        ))),
    }
}
