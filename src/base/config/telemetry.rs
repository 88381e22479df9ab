//! `[telemetry]`: where traces go, and how many.

use tonic::codegen::http::Uri;

use super::{Config, ConfigError, Telemetry, reader::Section};

pub(super) fn read_telemetry(root: &mut Section<'_>) -> Telemetry {
    let mut section = root.section("telemetry");
    let otlp_endpoint = section.optional_text("otlp_endpoint");
    if let Some(endpoint) = otlp_endpoint.as_ref().filter(|endpoint| !is_endpoint(endpoint)) {
        section
            .fault("otlp_endpoint", &format!("`{endpoint}` is no URL as in http://collector.example:4317"));
    }
    let sample_ratio = section.ratio("sample_ratio", 0.01);
    root.put("telemetry", section);
    Telemetry { otlp_endpoint, sample_ratio }
}

/// Refuses a collector where the program cannot send to one, rather than let a person wait for traces.
pub(super) fn check_build(config: Config, can_send: bool) -> Result<Config, ConfigError> {
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
        assert!(without.telemetry.sampling().is_off());
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
