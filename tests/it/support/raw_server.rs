//! An AWS that answers whatever a test wants.

use std::sync::{Arc, Mutex};

use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// In place of a status: the server takes the request and never answers.
pub(crate) const SILENCE: u16 = 0;

/// A server that keeps raw requests and answers as told: status and body.
pub(crate) struct RawServer {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl RawServer {
    pub(crate) async fn start(
        answer: impl Fn(usize, &Value) -> (u16, Value) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (requests.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone(), answer.clone()));
            }
        });
        Self { url, requests }
    }

    pub(crate) fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    stream: TcpStream,
    kept: Arc<Mutex<Vec<Value>>>,
    answer: Arc<impl Fn(usize, &Value) -> (u16, Value)>,
) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut length, mut is_signed) = (0, false);
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            is_signed |= line.to_ascii_lowercase().starts_with("authorization:");
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let request: Value = serde_json::from_slice(&body).ok()?;
        if !is_signed {
            let refusal = format!("HTTP/1.1 403 x\r\ndate: {}\r\ncontent-length: 0\r\n\r\n", http_date());
            stream.get_mut().write_all(refusal.as_bytes()).await.ok()?;
            continue;
        }
        let number = {
            let mut kept = kept.lock().unwrap();
            kept.push(request.clone());
            kept.len()
        };
        let (status, body) = answer(number, &request);
        if status == SILENCE {
            return std::future::pending().await;
        }
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.get_mut().write_all(format!("{head}{body}").as_bytes()).await.ok()?;
    }
}

/// A product at a server that answers, as its URL says: no hour is sealed before AWS has told the time, and some tests want
/// their other product's AWS not to be there.
pub(crate) fn product_that_tells_the_time(url: &str) -> String {
    format!(
        "[[product]]\ncode = \"clock\"\nidentity = \"account\"\nendpoint_url = \"{url}\"\ndimension = [{{ name = \"none\" }}]\n"
    )
}

/// Real time, as AWS dates its refusal of what is not signed.
fn http_date() -> String {
    DateTimePrinter::new().timestamp_to_rfc9110_string(&jiff::Timestamp::now()).unwrap()
}

pub(crate) fn all_success(request: &Value) -> (u16, Value) {
    (200, results(request, "Success"))
}

pub(crate) fn results(request: &Value, status: &str) -> Value {
    let lines = request["UsageRecords"].as_array().unwrap().iter().rev();
    let results: Vec<_> = lines
        .map(|line| json!({"UsageRecord": line, "Status": status, "MeteringRecordId": format!("id-{}", line["Dimension"])}))
        .collect();
    json!({"Results": results, "UnprocessedRecords": []})
}
