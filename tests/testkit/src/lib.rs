//! Fakes, contract suites and a lab of real hosts.
