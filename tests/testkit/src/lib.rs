//! Fakes, contract suites and a lab of real hosts.

pub mod alertmanager;
pub mod anchors;
pub mod bad_disk;
pub mod browser;
pub mod double;
pub mod lab;
pub mod mail;
pub mod outside;

pub mod memory_store;
mod permit;
pub mod store_suite;

pub mod fake_transport;
pub mod transport_suite;
pub mod virtual_clock;

pub use permit::{unrestricted, within_clock};
