//! The names of the metrics.
