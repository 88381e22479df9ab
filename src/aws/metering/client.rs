//! `BatchMeterUsage` through AWS's SDK.

use std::{future::Future, pin::Pin, sync::Arc};

use aws_sdk_marketplacemetering::{Client, config::Builder};
use aws_smithy_types::body::SdkBody;

use super::{Endpoint, MeteringService, RecordBatch, Response, reply, request};
use crate::aws::session::{DateReader, Failure, Session};

/// The metering service itself, for one seller account in one region.
#[derive(Clone, Debug)]
pub(crate) struct AwsMetering {
    client: Client,
    /// AWS refuses what is not signed, and dates its refusal.
    unsigned: Client,
    /// Whom a connection that fails was to reach.
    host: Arc<str>,
}

impl AwsMetering {
    /// The service at an endpoint, whatever else the session may say of one.
    pub(crate) fn new(session: &Session, endpoint: &Endpoint) -> Self {
        let signed = Builder::from(session.sdk_config()).endpoint_url(&endpoint.url);
        // The SDK signs wherever it has credentials.
        let mut anonymous = session.sdk_config().clone().into_builder();
        anonymous.set_credentials_provider(None);
        let unsigned = Builder::from(&anonymous.build()).endpoint_url(&endpoint.url).allow_no_auth();
        Self {
            client: Client::from_conf(signed.build()),
            unsigned: Client::from_conf(unsigned.build()),
            host: endpoint.host().into(),
        }
    }

    async fn call(&self, records: &RecordBatch) -> Response {
        let body = request::body(records);
        let date = DateReader::default();
        let request = self.client.batch_meter_usage().set_usage_records(Some(Vec::new())).customize();
        let answer = request
            .mutate_request(move |request| {
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = SdkBody::from(body.as_str());
            })
            .interceptor(date.clone())
            .send()
            .await;
        let reply = match answer {
            Ok(output) => reply::of_output(records, &output),
            Err(error) => reply::of_failure(Failure::from(&error).at(&self.host)),
        };
        Response { reply, date: date.date() }
    }
}

impl MeteringService for AwsMetering {
    fn send(&self, records: RecordBatch) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async move { self.call(&records).await })
    }

    fn time(&self) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async move {
            let (date, records) = (DateReader::default(), RecordBatch::new());
            let request = self.unsigned.batch_meter_usage().set_usage_records(Some(Vec::new())).customize();
            let reply = match request.interceptor(date.clone()).send().await {
                Ok(output) => reply::of_output(&records, &output),
                Err(error) => reply::of_failure(Failure::from(&error).at(&self.host)),
            };
            Response { reply, date: date.date() }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_smithy_runtime_api::{
        client::{
            http::{
                HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn,
            },
            orchestrator::{HttpRequest, HttpResponse},
        },
        http::StatusCode,
    };

    use super::*;
    use crate::domain::time::Timestamp;

    /// Refuses what is not signed, with a date, as AWS does; keeps which requests were signed.
    #[derive(Clone, Debug, Default)]
    struct Door(Arc<Mutex<Vec<bool>>>);

    impl HttpConnector for Door {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let is_signed = request.headers().get("authorization").is_some();
            self.0.lock().unwrap().push(is_signed);
            let (status, body) = if is_signed { (200, "{}") } else { (403, "") };
            let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body));
            response.headers_mut().insert("date", "Sun, 22 Nov 2026 10:30:05 GMT");
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    #[tokio::test]
    async fn the_time_is_asked_for_without_a_signature_and_told_by_the_refusal() {
        let door = Door::default();
        let connector = SharedHttpConnector::new(door.clone());
        let http: SharedHttpClient = http_client_fn(move |_, _| connector.clone());
        let endpoint = Endpoint {
            url: "https://x.example.com".to_owned(),
            region: "us-east-1".to_owned(),
            may_bill: true,
        };
        let marketplace = AwsMetering::new(&Session::over(http), &endpoint);
        let noon: Timestamp = "2026-11-22T10:30:05Z".parse().unwrap();
        assert_eq!(marketplace.time().await.date, Some(noon));
        assert_eq!(marketplace.send(RecordBatch::new()).await.date, Some(noon));
        assert_eq!(*door.0.lock().unwrap(), [false, true]);
    }
}
