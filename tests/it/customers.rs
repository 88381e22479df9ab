//! `CustomerService`, where its requests are wrong.

use tallyman_client::proto::{
    CloseCustomerRequest, Customer, GetCustomerRequest, ListCustomersRequest, PutCustomerRequest,
};
use tonic::{Code, Status};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::ACME,
};

fn refused<T>(answer: Result<T, Status>, about: &str) {
    let status = answer.err().expect(about);
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains(about), "{status:?}");
}

#[tokio::test]
async fn what_a_request_says_wrong_is_refused_and_not_left_out() {
    let home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
    let _agent = home.start().await;
    let mut customers = home.customers().await;
    let good = Customer { key: ACME.to_owned(), since_unix_seconds: 1_790_000_000, ..Customer::default() };
    let put = |customer| PutCustomerRequest { customer: Some(customer) };
    refused(customers.put_customer(put(Customer { state: 99, ..good.clone() })).await, "no state 99");
    for seconds in [-1, 253_402_300_800, i64::MAX] {
        let since = Customer { since_unix_seconds: seconds, ..good.clone() };
        refused(customers.put_customer(put(since)).await, "since_unix_seconds");
        let close = CloseCustomerRequest {
            key: ACME.to_owned(),
            noticed_unix_seconds: seconds,
            ..CloseCustomerRequest::default()
        };
        refused(customers.close_customer(close).await, "noticed_unix_seconds");
    }
    let page = ListCustomersRequest { page_token: "nonsense".to_owned(), ..ListCustomersRequest::default() };
    refused(customers.list_customers(page).await, "page_token");
    let get = GetCustomerRequest { key: ACME.to_owned(), ..GetCustomerRequest::default() };
    assert_eq!(customers.get_customer(get).await.unwrap_err().code(), Code::NotFound, "nothing was done");
    let known = customers.put_customer(put(good)).await.unwrap().into_inner();
    assert_eq!(known.since_unix_seconds, 1_790_000_000);
}
