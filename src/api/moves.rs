//! A person's word that a product may go to another destination, over gRPC.

use std::sync::Arc;

use tonic::{Request, Status};
use tracing::info;

use super::{
    agent_handle::AgentHandle,
    request_fields::{decider, reason, text},
    transport::client::Client,
};
use crate::{
    base::proto::{AllowMoveRequest, AllowedMove, ListMovesResponse},
    domain::destination::AllowedMove as Allowed,
    engine::moves::{self, MoveOrder},
    store::{Rows, StoreError},
};

const MAX_NAME: usize = 255;
const MAX_DESTINATION: usize = 1000;

pub(super) async fn allow(
    agent: &AgentHandle,
    request: Request<AllowMoveRequest>,
) -> Result<AllowedMove, Status> {
    let client = Client::from_request(&request).map(|client| client.permission.client.clone());
    let order = parse(&request.into_inner(), client)?;
    let allowed = agent.committer.allow_move(order).await?;
    let Allowed { product, from, to, by, .. } = &allowed;
    info!(product = &**product, from = &**from, to = &**to, by = &**by, "a person has allowed a move");
    Ok(message(0, &allowed, true))
}

fn parse(request: &AllowMoveRequest, client: Option<Arc<str>>) -> Result<MoveOrder, Status> {
    Ok(MoveOrder {
        product: text("product", &request.product, MAX_NAME)?,
        to: text("to", &request.to, MAX_DESTINATION)?,
        reason: reason(&request.reason)?,
        by: decider(&request.decided_by)?,
        client,
    })
}

/// All moves that were ever allowed.
pub(crate) fn list(rows: &dyn Rows) -> Result<ListMovesResponse, StoreError> {
    let mut listed = Vec::new();
    for (number, allowed) in moves::all(rows)? {
        let is_pending = moves::is_pending(rows, number, &allowed.product)?;
        listed.push(message(number, &allowed, is_pending));
    }
    Ok(ListMovesResponse { moves: listed })
}

pub(crate) fn message(number: u64, allowed: &Allowed, pending: bool) -> AllowedMove {
    AllowedMove {
        number,
        product: allowed.product.to_string(),
        from: allowed.from.to_string(),
        to: allowed.to.to_string(),
        reason: allowed.reason.to_string(),
        decided_by: allowed.by.to_string(),
        client: allowed.client.as_deref().unwrap_or_default().to_owned(),
        decided_unix_seconds: allowed.at.seconds(),
        pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_has_a_product_a_destination_a_reason_and_a_name() {
        let good = AllowMoveRequest {
            product: "prod".to_owned(),
            to: "eu-west-1".to_owned(),
            reason: "wrong region".to_owned(),
            decided_by: "ann".to_owned(),
        };
        let client: Arc<str> = "operator".into();
        let order = parse(&good, Some(client.clone())).unwrap();
        assert_eq!((&*order.product, &*order.to, order.client), ("prod", "eu-west-1", Some(client)));
        for wrong in [
            AllowMoveRequest { product: String::new(), ..good.clone() },
            AllowMoveRequest { to: String::new(), ..good.clone() },
            AllowMoveRequest { reason: " ".to_owned(), ..good.clone() },
            AllowMoveRequest { decided_by: String::new(), ..good.clone() },
        ] {
            assert_eq!(parse(&wrong, None).unwrap_err().code(), tonic::Code::InvalidArgument, "{wrong:?}");
        }
    }
}
