//! Records of the ledger, read page by page.

use tonic::Code;

use super::{
    connect::{Agent, AgentService},
    exit::Failure,
};
use crate::base::proto::{LedgerRecord, ListRecordsRequest, ledger_service_client::LedgerServiceClient};

/// The most records that an agent puts on a page.
pub(super) const MAX_PAGE: u32 = 1000;

/// Reads records in the order of their numbers, a page at a time.
pub(super) struct RecordPages {
    ledger: LedgerServiceClient<AgentService>,
    request: ListRecordsRequest,
    is_at_end: bool,
}

impl RecordPages {
    pub(super) fn new(agent: &Agent, request: ListRecordsRequest) -> Self {
        let request = ListRecordsRequest { page_size: MAX_PAGE, ..request };
        Self { ledger: agent.ledger(), request, is_at_end: false }
    }

    /// The next page, which may be empty; `None` behind the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<LedgerRecord>>, Failure> {
        if self.is_at_end {
            return Ok(None);
        }
        loop {
            match self.ledger.list_records(self.request.clone()).await {
                Ok(page) => {
                    let page = page.into_inner();
                    self.is_at_end = page.next_page_token.is_empty();
                    self.request.page_token = page.next_page_token;
                    self.request.page_size = self.request.page_size.saturating_mul(2).min(MAX_PAGE);
                    return Ok(Some(page.records));
                }
                // Allocations make a record as large as a megabyte, so a page may be more than fits into an answer.
                Err(status) if status.code() == Code::OutOfRange && self.request.page_size > 1 => {
                    self.request.page_size /= 2;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }
}
