//! Faults at every point of a run, on real hosts.
//!
//! A runbook of ten steps ([`script`]) is run on two hosts of the lab over and over. In each [`Point`] one thing goes wrong
//! at one place: the program is killed as one of its records is written, the network is cut or a host frozen while a step
//! is in the middle of its output, a disk is full, a clock jumps, a host reboots. A killed program is started again with
//! `resume` until it ends. Then the [`laws`] are checked on what the hosts themselves counted and on what the program
//! recorded.
//!
//! `cargo run -p runbook-sweep` goes through all points (the nightly target: `tests/run --nightly`); the crate's tests go
//! through a sample, chosen by a seed that they print.

pub mod controller;
pub mod field;
pub mod laws;
pub mod mortal;
pub mod point;
pub mod script;
pub mod sweep;
pub mod tally;
pub mod trial;

pub use point::Point;

/// Why a point could not be tried at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab failed.
    #[error("the lab failed: {0}")]
    Lab(#[from] runbook_testkit::lab::Error),
    /// Something on this machine failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The program hangs.
    #[error("the program has recorded nothing for minutes; its last records:\n{0}")]
    Hangs(String),
    /// The run did not come to where the fault was to happen, or the host not out of it.
    #[error("{0}")]
    Course(String),
}

impl Error {
    fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
