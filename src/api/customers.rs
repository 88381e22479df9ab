//! `CustomerService`: who is billed.

use tonic::{Request, Response, Status};
use tracing::{debug, info};

use crate::{
    api::{
        agent_handle::AgentHandle,
        transport::client::{Client, authorize_customer},
    },
    base::proto::{
        CloseCustomerRequest, Customer as Message, GetCustomerRequest, ListCustomersRequest,
        ListCustomersResponse, PutCustomerRequest,
        customer::{State, Verification as VerificationMessage},
        customer_service_server::CustomerService,
    },
    domain::{
        customer::{
            identity::{Identity, IdentityFields},
            standing::Verification,
            state::CustomerStatus,
        },
        product::{Product, ProductIndex},
        time::{Hour, Timestamp},
        usage::{
            event::{MAX_CUSTOMER_BYTES, is_customer_key},
            locate::unknown_product,
        },
    },
    engine::{
        billing::{PutError, Registration},
        committer::CommitError,
        customers::Customer,
    },
};

const MAX_PAGE: usize = 1000;
/// Between a product code and a customer's key in a page token; neither holds it.
const TOKEN_SEPARATOR: char = '\n';

pub(crate) struct Customers {
    agent: AgentHandle,
}

impl Customers {
    pub(crate) fn new(agent: AgentHandle) -> Self {
        Self { agent }
    }

    fn product(&self, code: &str, client: Option<&Client>) -> Result<(ProductIndex, &Product), Status> {
        let catalog = &self.agent.catalog;
        let found = catalog.find(code).and_then(|index| Some((index, catalog.product(index)?)));
        found.ok_or_else(|| {
            let permission = client.map(|client| &client.permission);
            Status::not_found(unknown_product(catalog, code, permission).to_string())
        })
    }

    fn message(&self, customer: &Customer) -> Message {
        let state = &customer.state;
        let fields = state.identity.fields();
        let product = self.agent.catalog.product(customer.product);
        Message {
            product: product.map_or_else(String::new, |product| product.code.to_string()),
            key: customer.key.to_string(),
            account_id: fields.account_id.to_owned(),
            license_arn: fields.license_arn.to_owned(),
            customer_identifier: fields.customer_identifier.to_owned(),
            since_unix_seconds: state.since.map_or(0, Timestamp::seconds),
            state: match state.status(self.agent.trusted_clock.best_now()) {
                CustomerStatus::Active => State::Active,
                CustomerStatus::Closing => State::Closing,
                CustomerStatus::Ended => State::Ended,
            }
            .into(),
            last_hour_ends_unix_seconds: state.deadline().map_or(0, Timestamp::seconds),
            not_subscribed: state.subscription.not_subscribed(),
            verification: match state.verification {
                Verification::Unverified => VerificationMessage::Unverified,
                Verification::Verified => VerificationMessage::Verified,
                Verification::Refused => VerificationMessage::Refused,
            }
            .into(),
            self_named: state.is_self_named(),
        }
    }

    fn parse(&self, message: &Message, client: Option<&Client>) -> Result<Registration, Status> {
        let (index, product) = self.product(&message.product, client)?;
        if !is_customer_key(&message.key) {
            let text = format!("key must be 1 to {MAX_CUSTOMER_BYTES} bytes without control characters");
            return Err(Status::invalid_argument(text));
        }
        let fields = IdentityFields {
            account_id: &message.account_id,
            license_arn: &message.license_arn,
            customer_identifier: &message.customer_identifier,
        };
        let names_itself = message.account_id.is_empty()
            && message.license_arn.is_empty()
            && message.customer_identifier.is_empty();
        let identity = if names_itself {
            Identity::from_key(product.identity, &message.key)
        } else {
            Identity::from_fields(product.identity, fields)
        };
        let reopens = match State::try_from(message.state) {
            Ok(State::Unspecified) => false,
            Ok(State::Active) => true,
            Ok(State::Closing | State::Ended) => {
                return Err(Status::invalid_argument("a customer's usage is ended by CloseCustomer"));
            }
            Err(_) => return Err(Status::invalid_argument(format!("there is no state {}", message.state))),
        };
        Ok(Registration {
            product: index,
            key: message.key.as_str().into(),
            identity: identity.map_err(Status::invalid_argument)?,
            since: given_moment("since_unix_seconds", message.since_unix_seconds)?,
            hour: Hour::containing(self.agent.trusted_clock.best_now()),
            reopens,
        })
    }

    /// Refuses an identity that is another customer's own to a client that is bound to some customers. What the
    /// customer is already billed under takes nothing from anyone.
    fn authorize_identity(&self, client: Option<&Client>, registration: &Registration) -> Result<(), Status> {
        let Registration { product: index, key, identity, .. } = registration;
        let Some((client, product)) = client.zip(self.agent.catalog.product(*index)) else { return Ok(()) };
        let customers = self.agent.committer.customers().read();
        let known = customers.find(*index, key).and_then(|index| customers.get(index));
        if known.is_some_and(|known| known.state.identity == *identity) {
            return Ok(());
        }
        let checked = client.permission.check_identity(product, key, identity);
        checked.map_err(|refusal| Status::permission_denied(refusal.to_string()))
    }

    fn known(&self, product: ProductIndex, key: &str) -> Result<Message, Status> {
        let customers = self.agent.committer.customers().read();
        let found = customers.find(product, key).and_then(|index| customers.get(index));
        found.map(|customer| self.message(&customer)).ok_or_else(|| unknown(key))
    }
}

#[tonic::async_trait]
impl CustomerService for Customers {
    async fn put_customer(&self, request: Request<PutCustomerRequest>) -> Result<Response<Message>, Status> {
        let client = Client::from_request(&request);
        let message = request.into_inner().customer.unwrap_or_default();
        let customer = self.parse(&message, client.as_deref())?;
        let (product, key) = (customer.product, customer.key.clone());
        authorize_customer(client.as_deref(), product, &key)?;
        self.authorize_identity(client.as_deref(), &customer)?;
        let put = self.agent.committer.put_customers(vec![customer]).await;
        put.map_err(|error| refused(error, product, client.as_deref()))?;
        debug!(client = &*Client::name_of(client.as_deref()), customer = &*key, "a customer is registered");
        Ok(Response::new(self.known(product, &key)?))
    }

    async fn get_customer(&self, request: Request<GetCustomerRequest>) -> Result<Response<Message>, Status> {
        let (client, request) = (Client::from_request(&request), request.into_inner());
        let (product, _) = self.product(&request.product, client.as_deref())?;
        authorize_customer(client.as_deref(), product, &request.key)?;
        Ok(Response::new(self.known(product, &request.key)?))
    }

    async fn list_customers(
        &self,
        request: Request<ListCustomersRequest>,
    ) -> Result<Response<ListCustomersResponse>, Status> {
        let (client, request) = (Client::from_request(&request), request.into_inner());
        let permission = client.as_ref().map(|client| &client.permission);
        if permission.is_some_and(|permission| !permission.covers_all_customers()) {
            return Err(Status::permission_denied("this client may ask for its customers one by one only"));
        }
        let limit = match request.page_size as usize {
            0 => MAX_PAGE,
            size => size.min(MAX_PAGE),
        };
        let (start_code, mut after) = page_start(&request.page_token)?;
        let only = match &*request.product {
            "" => None,
            code => Some(self.product(code, client.as_deref())?.0),
        };
        let mut page: Vec<Customer> = Vec::new();
        let customers = self.agent.committer.customers().read();
        let is_asked_for = |index| only.is_none_or(|only| only == index);
        let is_shown = |index| permission.is_none_or(|permission| permission.covers_product(index));
        let products = self.agent.catalog.products();
        let products = products.filter(|(index, _)| is_asked_for(*index) && is_shown(*index));
        for (index, product) in
            products.skip_while(|(_, product)| !start_code.is_empty() && *product.code != *start_code)
        {
            page.extend(customers.page(index, after, limit + 1 - page.len()));
            if page.len() > limit {
                break;
            }
            after = if *product.code == *start_code { "" } else { after };
        }
        let is_last = page.len() <= limit;
        page.truncate(limit);
        let token = page.last().filter(|_| !is_last).map(|last| {
            let message = self.message(last);
            format!("{}{TOKEN_SEPARATOR}{}", message.product, message.key)
        });
        Ok(Response::new(ListCustomersResponse {
            customers: page.iter().map(|customer| self.message(customer)).collect(),
            next_page_token: token.unwrap_or_default(),
        }))
    }

    async fn close_customer(
        &self,
        request: Request<CloseCustomerRequest>,
    ) -> Result<Response<Message>, Status> {
        let (client, request) = (Client::from_request(&request), request.into_inner());
        let (product, _) = self.product(&request.product, client.as_deref())?;
        authorize_customer(client.as_deref(), product, &request.key)?;
        let now = self.agent.trusted_clock.best_now();
        let noticed = given_moment("noticed_unix_seconds", request.noticed_unix_seconds)?;
        let noticed = noticed.map_or(now, |noticed| noticed.min(now));
        let closed =
            self.agent.committer.close_customer(product, request.key.as_str().into(), noticed).await?;
        let customer = closed.ok_or_else(|| unknown(&request.key))?;
        let client = Client::name_of(client.as_deref());
        info!(client = &*client, product = &*request.product, "a client has closed a customer");
        debug!(client = &*client, customer = &*request.key, "the customer that was closed");
        Ok(Response::new(self.message(&customer)))
    }
}

/// Tells a client no more of whoever has the identity than it may know.
fn refused(error: CommitError<PutError>, product: ProductIndex, client: Option<&Client>) -> Status {
    match error {
        CommitError::Refused(PutError::Taken(taken)) => {
            Status::already_exists(taken.told_to(product, client.map(|client| &client.permission)))
        }
        other => other.into(),
    }
}

/// `None` for 0, which stands for no moment.
fn given_moment(field: &str, seconds: i64) -> Result<Option<Timestamp>, Status> {
    if !(0..=LAST_SECOND).contains(&seconds) {
        return Err(Status::invalid_argument(format!("{field} must be from 0 to {LAST_SECOND}")));
    }
    Ok((seconds > 0).then(|| Timestamp::from_seconds(seconds)))
}

/// The last second of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// A page begins behind this product's code and customer.
fn page_start(token: &str) -> Result<(&str, &str), Status> {
    if token.is_empty() {
        return Ok(("", ""));
    }
    token.split_once(TOKEN_SEPARATOR).ok_or_else(|| Status::invalid_argument("page_token is not one of ours"))
}

fn unknown(key: &str) -> Status {
    Status::not_found(format!("no customer `{key}` is known"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_where_the_token_says_and_no_other_text_is_a_token() {
        assert_eq!(page_start("").unwrap(), ("", ""));
        let token = format!("prod{TOKEN_SEPARATOR}acme");
        assert_eq!(page_start(&token).unwrap(), ("prod", "acme"));
        assert_eq!(page_start("prod").unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
