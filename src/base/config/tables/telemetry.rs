//! `[telemetry]`: where traces go, and how many requests are traced.

use tonic::codegen::http::Uri;

use super::{About, Config, Section};
use crate::base::config::ConfigError;

#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The collector that traces go to.
    pub otlp_endpoint: Option<String>,
    /// The share, from 0 to 1, that is traced of the requests whose callers do not say whether they are.
    pub sample_ratio: f64,
}

const ABOUT: About = About {
    words: "Traces for an OpenTelemetry collector, in a tallyman that is built with `--features otlp`, as the \
            image is. They name products, clients and counts, and never a customer. A collector that is slow or \
            away delays nothing: its spans are dropped, with one warning. `OTEL_RESOURCE_ATTRIBUTES` and \
            `OTEL_EXPORTER_OTLP_HEADERS` take effect as in other programs.",
    example: r#"
[telemetry]
otlp_endpoint = "http://127.0.0.1:4317"
sample_ratio = 0.01
"#,
};

pub(super) fn read(root: &mut Section<'_>) -> Telemetry {
    let mut section = root.section("telemetry", &ABOUT);
    let otlp_endpoint = section
        .key(
            "otlp_endpoint",
            "The collector, which takes OTLP over gRPC: `http://host:4317`, or `https://`, checked against the \
             machine's certificate authorities",
        )
        .optional_text();
    if let Some(endpoint) = otlp_endpoint.as_ref().filter(|endpoint| !is_endpoint(endpoint)) {
        section
            .fault("otlp_endpoint", &format!("`{endpoint}` is no URL as in http://collector.example:4317"));
    }
    let sample_ratio = section
        .key(
            "sample_ratio",
            "The share of requests and stream messages that is traced if the caller does not say. A `traceparent` \
             decides for its request. Sealing and calls to AWS are always traced",
        )
        .ratio(0.01);
    root.put("telemetry", section);
    Telemetry { otlp_endpoint, sample_ratio }
}

/// Refuses a collector in a program that cannot send to one, rather than let a person wait for traces.
pub(in crate::base::config) fn check_build(config: Config, can_send: bool) -> Result<Config, ConfigError> {
    if config.telemetry.otlp_endpoint.is_some() && !can_send {
        return Err(ConfigError(vec![NOT_BUILT_IN.to_owned()]));
    }
    Ok(config)
}

const NOT_BUILT_IN: &str = "telemetry.otlp_endpoint: this tallyman was built without traces: build it with \
                            `--features otlp`, or leave the key out";

/// gRPC's services are at the root.
fn is_endpoint(text: &str) -> bool {
    let Ok(url) = text.parse::<Uri>() else { return false };
    let is_whole = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
    is_whole && url.path() == "/" && url.query().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::parse;

    const PRODUCT: &str = "[[product]]\ncode = \"p\"\n[[product.dimension]]\nname = \"d\"\n";

    fn config(telemetry: &str) -> Result<Config, ConfigError> {
        parse(&format!("{PRODUCT}[telemetry]\n{telemetry}"), "t.toml", std::iter::empty())
    }

    #[test]
    fn a_collector_is_refused_where_none_can_be_sent_to() {
        let (with, without) = (config("otlp_endpoint = \"http://c:4317\"").unwrap(), config("").unwrap());
        assert!(check_build(with.clone(), true).is_ok() && check_build(without.clone(), false).is_ok());
        let ConfigError(faults) = check_build(with, false).unwrap_err();
        assert!(faults[0].contains("otlp_endpoint") && faults[0].contains("--features otlp"), "{faults:?}");
    }

    #[test]
    fn a_ratio_is_a_number_from_0_to_1() {
        for (good, ratio) in [("1", 1.0), ("0", 0.0), ("0.25", 0.25)] {
            let read = config(&format!("sample_ratio = {good}")).unwrap().telemetry.sample_ratio;
            assert!((read - ratio).abs() < f64::EPSILON, "{good}");
        }
        for bad in ["1.5", "-0.1", "nan", "\"0.5\"", "true", "2"] {
            assert!(config(&format!("sample_ratio = {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_perhaps_a_port() {
        for good in ["http://127.0.0.1:4317", "https://collector.example", "http://[::1]:4317/"] {
            assert!(is_endpoint(good), "{good}");
        }
        for bad in [
            "",
            "collector:4317",
            "/v1/traces",
            "grpc://c:4317",
            "http://c:4318/v1/traces",
            "http://c/?a",
            "http://",
        ] {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
