//! The sandbox as a whole, and what its modules' tests share.

mod calls;
mod server;

use serde_json::{Value, json};

pub(super) const ARN: &str = "arn:aws:license-manager::123456789012:license:l-0123abcd";

pub(super) const SIGNATURE: &str = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20261102/us-east-1/aws-marketplace/aws4_request, \
                                    SignedHeaders=host, Signature=00";

/// A good record for an account, changed by `fields`; null takes a field away.
pub(super) fn record(fields: Value) -> Value {
    let mut record = json!({
        "Timestamp": 1_793_620_800, // 2026-11-02T12:00:00Z
        "Dimension": "requests",
        "CustomerAWSAccountId": "123456789012",
        "Quantity": 5
    });
    let Value::Object(fields) = fields else { panic!("not an object: {fields}") };
    record.as_object_mut().unwrap().extend(fields);
    record
}
