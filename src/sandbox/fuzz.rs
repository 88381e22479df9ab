//! What programs send to the sandbox: any bytes as a call, and as the faults that it is told to have.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    exception::Kind,
    faults::Faults,
    marketplace::{Marketplace, Moment, Request, Settings},
    metering::{BATCH_METER_USAGE, BilledRecord},
};
use crate::domain::time::Timestamp;

const NOW: i64 = 1_793_620_800;
const CREDENTIAL: &str = "AWS4-HMAC-SHA256 Credential=AKIA/20261102/us-east-1/aws-marketplace/aws4_request";

/// The first byte says what the rest is.
pub(crate) fn call(data: &[u8]) -> bool {
    let Some((kind, body)) = data.split_first() else { return false };
    match kind {
        b'c' => meter(body),
        b'f' => read_faults(body),
        b'h' => {
            let authorization = String::from_utf8_lossy(body);
            let mut marketplace = marketplace();
            send(&mut marketplace, &authorization, b"{\"UsageRecords\":[]}").is_ok()
        }
        _ => false,
    }
}

/// A call that is answered gives each record one line; sent again, it bills nothing more and nothing else.
fn meter(body: &[u8]) -> bool {
    let mut marketplace = marketplace();
    let Ok(answer) = send(&mut marketplace, CREDENTIAL, body) else {
        assert!(marketplace.billed().is_empty(), "a refused call was metered");
        return false;
    };
    let lines = |answer: &Value, list: &str| answer[list].as_array().map_or(0, Vec::len);
    // A number that is too large for us may stand where nobody reads it.
    let Ok(sent) = serde_json::from_slice::<Value>(body) else { return true };
    assert_eq!(
        lines(&answer, "Results") + lines(&answer, "UnprocessedRecords"),
        lines(&sent, "UsageRecords")
    );
    let billed = shown(&marketplace.billed());
    assert_eq!(billed.len(), lines(&answer, "Results"));
    let again = send(&mut marketplace, CREDENTIAL, body);
    assert_eq!(again.as_ref(), Ok(&answer), "the same records got another answer");
    assert_eq!(shown(&marketplace.billed()), billed);
    true
}

fn marketplace() -> Marketplace {
    Marketplace::new(Settings { catalog: None, faults: Faults::default(), seed: 1 })
}

fn send(marketplace: &mut Marketplace, authorization: &str, body: &[u8]) -> Result<Value, Kind> {
    let request = Request { target: Some(BATCH_METER_USAGE), authorization: Some(authorization), body };
    let moment = Moment { now: Timestamp::from_seconds(NOW), real: Duration::ZERO };
    let answer = marketplace.call(request, moment);
    answer.outcome.map_err(|refusal| {
        assert!(refusal.message.len() <= 1024 + 8 * body.len(), "{} bytes", refusal.message.len());
        refusal.kind
    })
}

fn shown(billed: &[BilledRecord]) -> Vec<String> {
    billed.iter().map(|record| format!("{:?} {}", record.metering_record_id, record.quantity)).collect()
}

/// What is taken is shown as something that can be sent again.
fn read_faults(body: &[u8]) -> bool {
    let Ok(faults) = serde_json::from_slice::<Faults>(body) else { return false };
    let shown = serde_json::to_vec(&faults).expect("faults can be shown");
    let again: Faults = serde_json::from_slice(&shown).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(with_probabilities_of(&faults, again), faults);
    true
}

/// Shown and read again, a probability may be its neighbour among the numbers: `serde_json` reads fast rather than to
/// the last bit. Such neighbours become equal; anything further away stays as it is.
fn with_probabilities_of(faults: &Faults, mut again: Faults) -> Faults {
    let pairs = [
        (&mut again.throttle, faults.throttle),
        (&mut again.error, faults.error),
        (&mut again.lose_reply, faults.lose_reply),
        (&mut again.unprocessed, faults.unprocessed),
    ];
    for (read, meant) in pairs {
        if (*read - meant).abs() <= (4.0 * f64::EPSILON * meant).max(f64::MIN_POSITIVE) {
            *read = meant;
        }
    }
    again
}

pub(crate) fn calls() -> Vec<Vec<u8>> {
    const ARN: &str = "arn:aws:license-manager::123456789012:license:l-0123abcd";
    let seed = |kind: u8, body: &str| [&[kind], body.as_bytes()].concat();
    let record = |fields: Value| {
        let mut record =
            json!({"Timestamp": NOW - 3600, "Dimension": "requests", "CustomerAWSAccountId": "123456789012"});
        record.as_object_mut().expect("an object").extend(fields.as_object().cloned().unwrap_or_default());
        record
    };
    let tagged = json!([
        {"AllocatedUsageQuantityAsDecimal": "1.25", "Tags": [{"Key": "team", "Value": "blue"}]},
        {"AllocatedUsageQuantityAsDecimal": "0.25"}
    ]);
    let by_account = [
        record(json!({"Quantity": 5})),
        record(json!({"Dimension": "gb", "QuantityAsDecimal": "1.5", "UsageAllocations": tagged})),
        record(json!({"Dimension": "é", "CustomerAWSAccountId": null, "CustomerIdentifier": "abc"})),
    ];
    let licensed = [record(json!({"LicenseArn": ARN, "Quantity": 0, "Timestamp": 1_793_617_200.123}))];
    let faults = json!({
        "throttle": 0.25, "error": 0.0, "latency": 20, "calls_per_second": 3, "clock_offset": -5,
        "outage": "2026-11-22T10:00:00.25Z/2026-11-22T11:00:00Z", "refuse": "AccessDeniedException",
        "rules": [
            {"customer": "123456789012", "during": "/2026-11-22T10:00:00Z", "answer": "CustomerNotSubscribed"},
            {"dimension": "gb", "answer": "Unprocessed"},
            {"answer": "InvalidLicenseException"}
        ]
    });
    vec![
        seed(b'c', &json!({"ProductCode": "prod", "UsageRecords": by_account}).to_string()),
        seed(b'c', &json!({"UsageRecords": licensed}).to_string()),
        seed(b'c', &json!({"UsageRecords": []}).to_string()),
        seed(b'f', &faults.to_string()),
        seed(b'f', "{}"),
        seed(b'h', CREDENTIAL),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probability_may_come_back_as_its_neighbour_and_no_other_number() {
        assert!(read_faults(br#"{"error":0.09223372036854775808}"#));
        let faults = Faults { error: 0.25, ..Faults::default() };
        for (error, is_same) in [(0.25, true), (0.25_f64.next_up(), true), (0.250_000_1, false), (0.0, false)]
        {
            let read = with_probabilities_of(&faults, Faults { error, ..Faults::default() });
            assert_eq!(read == faults, is_same, "{error}");
        }
    }
}
