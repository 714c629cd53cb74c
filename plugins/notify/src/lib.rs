//! Those outside who are told of runs: by mail, in a chat, through a webhook.
//!
//! Names of hosts, runbooks and people may hold anything; each kind sees to it that they are neither markup nor headers
//! there. Everything that comes from outside is bounded in length and time. No redirect is followed.

mod chat;
mod hook;
mod mail;
mod smtp;
mod webhook;

use std::future::Future;
use std::time::Duration;

use runbook_ports::notifier::NotifyError;
use runbook_wire::WireError;

pub use chat::{Slack, Teams};
pub use hook::Address;
pub use smtp::{Security, Smtp};
pub use webhook::{Secret, Webhook};

/// The kinds, as they are called in the settings and on record.
pub const KINDS: [&str; 4] = ["smtp", "slack", "teams", "webhook"];

/// Not longer than that.
async fn by<T>(
    within: Duration,
    what: &str,
    work: impl Future<Output = Result<T, NotifyError>>,
) -> Result<T, NotifyError> {
    match tokio::time::timeout(within, work).await {
        Ok(done) => done,
        Err(_) => Err(NotifyError::later(format!("{what} did not answer within {} s", within.as_secs_f32()))),
    }
}

/// A connection that failed is tried again, also where somebody has to mend something first: a certificate is renewed
/// without anybody telling us.
fn wire(error: WireError) -> NotifyError {
    NotifyError::later(error.to_string())
}

/// The beginning of `text`, at most so many characters.
fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(characters_max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Whether a character turns the direction of text or is not seen at all: names must look like what they are.
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// In one line, without anything that is not seen.
fn line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).filter(|c| !is_unseen(*c)).collect()
}
