//! `tallyman customers`: lists, registers, changes and closes customers.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use serde::Serialize;

use super::{
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    format::{enum_name, given, rfc3339},
    output::Printer,
    table::{Table, text},
};
use crate::{
    base::proto::{
        CloseCustomerRequest, Customer, GetCustomerRequest, ListCustomersRequest, PutCustomerRequest,
        customer::{self, Verification},
    },
    domain::time::Timestamp,
};

#[derive(Debug, Args)]
pub(crate) struct CustomersArgs {
    /// The product's code. May be left out when the agent serves only one; for the list, when all are wanted.
    #[arg(long, global = true, value_name = "CODE")]
    product: Option<String>,
    #[command(subcommand)]
    action: Option<CustomersAction>,
    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Debug, Subcommand)]
enum CustomersAction {
    /// List the customers (also without a subcommand).
    List,
    /// Show a customer.
    Get(KeyArgs),
    /// Register a customer, or change it: a new license is billed for what comes from now on, or since `--since`.
    Put(PutArgs),
    /// End a customer's usage: what it used so far is billed within its last hour.
    Close(CloseArgs),
}

#[derive(Debug, Args)]
struct KeyArgs {
    /// The name under which the application knows the customer.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    key: String,
}

#[derive(Debug, Args)]
struct CloseArgs {
    #[command(flatten)]
    customer: KeyArgs,
    /// When AWS gave notice (RFC 3339): the last hour counts from there. [default: now]
    #[arg(long, value_name = "TIME")]
    noticed: Option<Timestamp>,
}

#[derive(Debug, Args)]
struct PutArgs {
    #[command(flatten)]
    customer: KeyArgs,
    /// The buyer's AWS account, 12 digits.
    #[arg(long, value_name = "ID")]
    account_id: Option<String>,
    /// The buyer's license, beside the account.
    #[arg(long, value_name = "ARN")]
    license_arn: Option<String>,
    /// The identifier that `ResolveCustomer` gave (older products).
    #[arg(long, value_name = "TEXT")]
    customer_identifier: Option<String>,
    /// When the subscription, or the license that replaces another, began (RFC 3339): nothing from before is billed to it.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// A closing or ended customer subscribes again.
    #[arg(long)]
    reopen: bool,
}

pub(super) async fn run(args: CustomersArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let agent = Agent::connect(&args.agent).await?;
    let product = args.product.unwrap_or_default();
    let mut customers = agent.customers();
    let answer = match args.action {
        None | Some(CustomersAction::List) => return list(&agent, product, printer).await,
        Some(CustomersAction::Get(KeyArgs { key })) => {
            customers.get_customer(GetCustomerRequest { product, key }).await?
        }
        Some(CustomersAction::Put(put)) => customers.put_customer(put.request(product)).await?,
        Some(CustomersAction::Close(CloseArgs { customer: KeyArgs { key }, noticed })) => {
            let noticed_unix_seconds = noticed.map_or(0, Timestamp::seconds);
            let request = CloseCustomerRequest { product, key, noticed_unix_seconds };
            customers.close_customer(request).await?
        }
    };
    show([answer.into_inner()], printer)?;
    Ok(Exit::Ok)
}

async fn list(agent: &Agent, product: String, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let mut customers = agent.customers();
    let mut request = ListCustomersRequest { product, ..ListCustomersRequest::default() };
    let mut listed = Vec::new();
    loop {
        let page = customers.list_customers(request.clone()).await?.into_inner();
        if printer.is_json() {
            show(page.customers, printer)?;
        } else {
            listed.extend(page.customers);
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    if !printer.is_json() {
        show(listed, printer)?;
    }
    Ok(Exit::Ok)
}

impl PutArgs {
    fn request(self, product: String) -> PutCustomerRequest {
        let customer = Customer {
            product,
            key: self.customer.key,
            account_id: self.account_id.unwrap_or_default(),
            license_arn: self.license_arn.unwrap_or_default(),
            customer_identifier: self.customer_identifier.unwrap_or_default(),
            since_unix_seconds: self.since.map_or(0, Timestamp::seconds),
            state: if self.reopen { customer::State::Active } else { customer::State::Unspecified }.into(),
            ..Customer::default()
        };
        PutCustomerRequest { customer: Some(customer) }
    }
}

fn show(customers: impl IntoIterator<Item = Customer>, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.is_json() {
        return customers.into_iter().try_for_each(|customer| printer.json(&CustomerJson::from(customer)));
    }
    let columns = ["PRODUCT", "CUSTOMER", "STATE", "SINCE", "LAST HOUR", "ACCOUNT", "IDENTIFIER", "LICENSE"];
    let mut table = Table::new(&columns.map(text));
    for customer in customers {
        let state = state_words(&customer);
        table.row([
            customer.product,
            customer.key,
            state,
            rfc3339(customer.since_unix_seconds).unwrap_or_default(),
            rfc3339(customer.last_hour_ends_unix_seconds)
                .map(|end| format!("until {end}"))
                .unwrap_or_default(),
            customer.account_id,
            customer.customer_identifier,
            customer.license_arn,
        ]);
    }
    printer.table(&table, "no customers")
}

/// The state in a table. Beside an end that was told, that AWS takes nothing of it says more.
fn state_words(customer: &Customer) -> String {
    if customer.verification() == Verification::Refused {
        "unknown to AWS".to_owned()
    } else if customer.not_subscribed {
        "not subscribed".to_owned()
    } else {
        state_name(customer.state)
    }
}

fn state_name(state: i32) -> String {
    customer::State::try_from(state)
        .map_or_else(|_| format!("state_{state}"), |state| enum_name(state.as_str_name()))
}

/// `None` from an agent that does not say.
fn verification_name(verification: i32) -> Option<String> {
    let known = Verification::try_from(verification).ok();
    let told = known.filter(|verification| *verification != Verification::Unspecified);
    told.map(|verification| enum_name(verification.as_str_name()))
}

#[derive(Serialize)]
struct CustomerJson {
    product: String,
    key: String,
    state: String,
    since: Option<String>,
    last_hour_ends: Option<String>,
    not_subscribed: bool,
    verification: Option<String>,
    self_named: bool,
    account_id: Option<String>,
    license_arn: Option<String>,
    customer_identifier: Option<String>,
}

impl From<Customer> for CustomerJson {
    fn from(customer: Customer) -> Self {
        Self {
            product: customer.product,
            key: customer.key,
            state: state_name(customer.state),
            since: rfc3339(customer.since_unix_seconds),
            last_hour_ends: rfc3339(customer.last_hour_ends_unix_seconds),
            not_subscribed: customer.not_subscribed,
            verification: verification_name(customer.verification),
            self_named: customer.self_named,
            account_id: given(customer.account_id),
            license_arn: given(customer.license_arn),
            customer_identifier: given(customer.customer_identifier),
        }
    }
}
