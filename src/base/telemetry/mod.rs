//! Traces: where the time of a request, a commit, a sealing and a call to AWS went.
//!
//! Spans are `tracing`'s, under a target of their own. With the feature `otlp` and `telemetry.otlp_endpoint`, those of what
//! is traced go to an OpenTelemetry collector; without, none is ever made. What is traced is decided before there is a span,
//! so that a request that is not costs one comparison.

#[cfg(not(feature = "otlp"))]
mod absent;
#[cfg(feature = "otlp")]
mod otlp;
pub(crate) mod spans;

use tracing::Span;

use super::config;

#[cfg(not(feature = "otlp"))]
pub(crate) use absent::{Origin, Traces};
#[cfg(feature = "otlp")]
pub(crate) use otlp::{Origin, Traces};

/// Which requests are traced.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampling {
    /// Of those whose callers do not say. `None`: no request is traced, whatever its caller says.
    ratio: Option<f64>,
}

impl Sampling {
    /// Without a collector, no request is traced.
    pub(crate) fn of(telemetry: &config::Telemetry) -> Self {
        telemetry
            .otlp_endpoint
            .as_ref()
            .map_or_else(Self::default, |_| Self::at_ratio(telemetry.sample_ratio))
    }

    /// Traces this part of the requests, from 0 to 1.
    pub(crate) fn at_ratio(ratio: f64) -> Self {
        Self { ratio: Some(ratio) }
    }

    pub(crate) fn is_off(self) -> bool {
        self.ratio.is_none()
    }

    /// Decides whether a request is traced: as the caller says, or else at random.
    pub(crate) fn picks(self, as_caller_says: Option<bool>) -> bool {
        self.ratio.is_some_and(|ratio| as_caller_says.unwrap_or_else(|| fastrand::f64() < ratio))
    }
}

/// Makes the spans of a stream's messages. A stream may last for weeks, so each message is a trace of its own, linked to
/// the one that the stream was opened in.
#[derive(Clone, Debug, Default)]
pub(crate) struct StreamTrace {
    sampling: Sampling,
    origin: Origin,
}

impl StreamTrace {
    pub(crate) fn new(sampling: Sampling, origin: Origin) -> Self {
        Self { sampling, origin }
    }

    pub(crate) fn message(&self) -> Span {
        if !self.sampling.picks(None) {
            return Span::none();
        }
        let span = spans::message();
        self.origin.link(&span);
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(sampling: Sampling, as_caller_says: Option<bool>) -> usize {
        (0..1000).filter(|_| sampling.picks(as_caller_says)).count()
    }

    #[test]
    fn a_callers_word_stands_and_the_ratio_decides_about_the_rest() {
        let (none, all, half) = (Sampling::at_ratio(0.0), Sampling::at_ratio(1.0), Sampling::at_ratio(0.5));
        assert_eq!([picked(none, None), picked(all, None)], [0, 1000]);
        assert!((350..650).contains(&picked(half, None)));
        for sampling in [none, all, half] {
            assert_eq!([picked(sampling, Some(true)), picked(sampling, Some(false))], [1000, 0]);
        }
    }

    #[test]
    fn without_a_collector_nothing_is_traced_whatever_callers_say() {
        assert_eq!([None, Some(true), Some(false)].map(|says| picked(Sampling::default(), says)), [0; 3]);
        assert!(StreamTrace::default().message().is_disabled());
        let mut telemetry = config::Telemetry { otlp_endpoint: None, sample_ratio: 1.0 };
        assert!(Sampling::of(&telemetry).is_off());
        telemetry.otlp_endpoint = Some("http://127.0.0.1:4317".to_owned());
        assert!(Sampling::of(&telemetry).picks(None));
    }
}
