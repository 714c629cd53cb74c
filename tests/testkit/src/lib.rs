//! Fakes, contract suites and a lab of real hosts.

pub mod memory_store;
