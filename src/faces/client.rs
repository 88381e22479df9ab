//! Clients that are told apart: what each may do.

use std::sync::Arc;

use tonic::{Request, Status};

use crate::domain::{permission::Permission, product::ProductIndex};

/// A client of the configuration. Part of the extensions of its requests; others have none, and may do everything.
#[derive(Debug)]
pub struct Client {
    pub permission: Permission,
}

impl Client {
    pub(super) fn of<T>(request: &Request<T>) -> Option<Arc<Self>> {
        request.extensions().get::<Arc<Self>>().cloned()
    }
}

/// Refuses a request about a customer whom the client has nothing to do with.
pub(super) fn check(client: Option<&Client>, product: ProductIndex, customer: &str) -> Result<(), Status> {
    let Some(client) = client else { return Ok(()) };
    let refused = |refusal: crate::domain::usage::Refusal| Status::permission_denied(refusal.to_string());
    client.permission.check(product, customer).map_err(refused)
}
