//! Those outside who are given the ledger's signed heads: a witness, a time stamp authority, a repository, a file, a
//! collector of syslog. And a witness itself, for a second host ([`server`]).
//!
//! Everything that comes from outside is bounded in length and time, and no receipt is given for what was not verified as
//! far as it can be here. TLS is rustls over aws-lc-rs.

mod file;
mod git;
mod http;
mod rfc3161;
pub mod server;
mod syslog;
mod tls;
mod witness;

use std::future::Future;
use std::time::Duration;

use runbook_ports::anchor::AnchorError;

pub use file::{File, FileReceipt};
pub use git::{Git, GitReceipt};
pub use http::Url;
pub use rfc3161::TimeStamps;
pub use syslog::{Address, Syslog, SyslogReceipt};
pub use tls::Tls;
pub use witness::Witness;

/// The kinds, as they are called in the settings and on record.
pub const KINDS: [&str; 5] = ["rfc3161", "witness", "git", "file", "syslog"];

/// Not longer than that.
async fn by<T>(
    within: Duration,
    what: &str,
    work: impl Future<Output = Result<T, AnchorError>>,
) -> Result<T, AnchorError> {
    match tokio::time::timeout(within, work).await {
        Ok(done) => done,
        Err(_) => Err(AnchorError::Unreachable(format!("{what} did not answer within {} s", within.as_secs_f32()))),
    }
}
