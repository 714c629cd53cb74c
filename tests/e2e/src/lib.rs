//! End-to-end tests of the real binary and of the shipped library, on real hosts.

pub mod action;
pub mod gate;
pub mod program;
