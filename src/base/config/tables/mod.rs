//! The tables of `tallyman.toml`, a file each: what it comes to, its keys, and what the reference says of them.

mod admin;
mod agent;
mod client;
mod customer;
mod dimension;
mod grpc;
mod hour;
mod limits;
mod product;
mod product_connection;
mod retention;
mod submission;
mod telemetry;
mod tls;

use std::sync::Arc;

use toml::Table;

use super::{Config, reading::Reading, reference_entries::About, section::Section};

pub(super) use telemetry::check_build;

pub(crate) use admin::Admin;
pub(crate) use agent::Agent;
pub(crate) use client::Proof;
pub(crate) use customer::ConfiguredCustomer;
pub(crate) use grpc::Grpc;
pub(crate) use hour::HourRules;
pub(crate) use limits::{ConnectionLimits, Limits};
pub(crate) use product_connection::{Connection, Quota};
pub(crate) use retention::Retention;
pub(crate) use submission::Submission;
pub(crate) use telemetry::Telemetry;

/// Reads them in the order of the reference.
pub(super) fn read(table: Table, reading: &Reading) -> Config {
    let mut root = Section::root(table, reading);
    let agent = agent::read(&mut root);
    // Clients name products, so this table is opened in its place and read last.
    let grpc = root.section("grpc", &grpc::ABOUT);
    let admin = admin::read(&mut root);
    let hour = hour::read(&mut root);
    let submission = submission::read(&mut root, hour.grace);
    let limits = limits::read(&mut root);
    let retention = retention::read(&mut root);
    let telemetry = telemetry::read(&mut root);
    let (catalog, connections, customers) = product::read_all(&mut root);
    let grpc = grpc::read(&mut root, grpc, &catalog);
    let warnings = [reading.take_warnings(), hour.warning().into_iter().collect()].concat();
    Config {
        agent,
        grpc,
        admin,
        hour,
        submission,
        limits,
        retention,
        telemetry,
        catalog: Arc::new(catalog),
        connections,
        customers,
        effective: root.finish().to_string(),
        warnings,
    }
}
