//! Steps on this machine.
