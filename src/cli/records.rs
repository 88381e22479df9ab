//! `tallyman records`: lists what was billed and what is about to be. Its columns are `record_list`'s.

use clap::{Args, ValueEnum};

use super::{
    adjustment_list::{AdjustmentList, AdjustmentPages},
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    output::Printer,
    record_list::{RecordList, note_more},
    record_pages::MAX_PAGE,
};
use crate::{
    base::proto::{ListRecordsRequest, RecordState},
    domain::time::Timestamp,
};

#[derive(Debug, Args)]
pub(crate) struct RecordsArgs {
    /// Only this product's, by its code.
    #[arg(long, value_name = "CODE")]
    product: Option<String>,
    /// Only this customer's, by its key.
    #[arg(long, value_name = "KEY")]
    customer: Option<String>,
    /// Only this dimension's.
    #[arg(long, value_name = "NAME")]
    dimension: Option<String>,
    /// Only hours that start at this moment (RFC 3339) or later.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only hours that start before this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Only records in this state.
    #[arg(long, value_enum)]
    state: Option<State>,
    /// How many to show at most.
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum State {
    Pending,
    Accepted,
    Held,
    RolledForward,
    Expired,
    Carried,
    WrittenOff,
}

impl From<State> for RecordState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::Accepted => Self::Accepted,
            State::Held => Self::Held,
            State::RolledForward => Self::RolledForward,
            State::Expired => Self::Expired,
            State::Carried => Self::Carried,
            State::WrittenOff => Self::WrittenOff,
        }
    }
}

pub(super) async fn run(args: &RecordsArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let agent = Agent::connect(&args.agent).await?;
    let mut ledger = agent.ledger();
    let mut list = RecordList::new();
    let mut request = args.request();
    let mut wanted = args.limit;
    let has_more = loop {
        request.page_size = u32::try_from(wanted).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let page = ledger.list_records(request.clone()).await?.into_inner();
        let mut records = page.records.into_iter();
        for record in records.by_ref().take(usize::try_from(wanted).unwrap_or(usize::MAX)) {
            list.add(record, printer)?;
            wanted = wanted.saturating_sub(1);
        }
        let has_more = records.len() > 0 || !page.next_page_token.is_empty();
        if wanted == 0 || !has_more {
            break has_more;
        }
        request.page_token = page.next_page_token;
    };
    list.finish(printer, "no records")?;
    if has_more {
        note_more(args.limit, printer)?;
    } else if args.state.is_none() {
        list_adjustments(&agent, args, printer).await?;
    }
    Ok(Exit::Ok)
}

/// What persons took from the same hours.
async fn list_adjustments(
    agent: &Agent,
    args: &RecordsArgs,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let mut pages = AdjustmentPages::new(agent, &args.request());
    let mut list = AdjustmentList::new();
    while let Some(adjustments) = pages.next().await? {
        for adjustment in adjustments {
            list.add(adjustment, printer)?;
        }
    }
    list.finish(printer)
}

impl RecordsArgs {
    fn request(&self) -> ListRecordsRequest {
        let seconds = |moment: Option<Timestamp>| moment.map_or(0, Timestamp::seconds);
        ListRecordsRequest {
            product: self.product.clone().unwrap_or_default(),
            customer: self.customer.clone().unwrap_or_default(),
            dimension: self.dimension.clone().unwrap_or_default(),
            from_unix_seconds: seconds(self.from),
            to_unix_seconds: seconds(self.to),
            state: self.state.map_or(RecordState::Unspecified, RecordState::from).into(),
            page_size: 0,
            page_token: String::new(),
        }
    }
}
