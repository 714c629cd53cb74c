//! Those outside who are given the ledger's signed heads: a witness, a time stamp authority, a repository, a file, a
//! collector of syslog. And a witness itself, for a second host ([`server`]).
//!
//! Everything that comes from outside is bounded in length and time, and no receipt is given for what was not verified as
//! far as it can be here. TLS is rustls over aws-lc-rs.

mod file;
mod git;
mod rfc3161;
pub mod server;
mod syslog;
mod witness;

use std::future::Future;
use std::time::Duration;

use runbook_ports::anchor::AnchorError;
use runbook_wire::WireError;
use runbook_wire::http::{Answer, Method, Request};

pub use file::{File, FileReceipt};
pub use git::{Git, GitReceipt};
pub use rfc3161::TimeStamps;
pub use runbook_wire::{Tls, Url};
pub use syslog::{Address, Syslog, SyslogReceipt};
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

/// What it means for a receipt that there was no answer.
fn wire(error: WireError) -> AnchorError {
    match error {
        WireError::Unreachable(why) => AnchorError::Unreachable(why),
        WireError::Refused(why) => AnchorError::Refused(why),
        WireError::TooLong(why) => AnchorError::NotAReceipt(why),
    }
}

/// Whether a connection can be made.
async fn reach(url: &Url, tls: &Tls) -> Result<String, AnchorError> {
    runbook_wire::http::reach(url, tls).await.map_err(wire)
}

/// Posts a body, and reads at most `bytes_max` of what is answered.
async fn post(
    url: &Url,
    tls: &Tls,
    content_type: &'static str,
    body: Vec<u8>,
    bytes_max: usize,
) -> Result<Answer, AnchorError> {
    let shown = url.to_string();
    let body = Some((content_type, body));
    let request = Request { method: Method::POST, url, tls, shown: &shown, headers: &[], body, bytes_max };
    runbook_wire::http::send(request).await.map_err(wire)
}
