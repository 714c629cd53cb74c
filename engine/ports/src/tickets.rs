//! Change tickets in a system of somebody else: whether a change is approved and for when, and what came of it.

use std::time::Duration;

use async_trait::async_trait;
use runbook_model::Sha256;
use runbook_model::ticket::Change;

/// What is written into a ticket.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The same however often it is written: what is there already is not written again.
    pub id: &'a str,
    /// What it says, in lines. May hold anything: the plugin sees to it that it stays text.
    pub text: &'a str,
    /// When the work began (Unix ms).
    pub started_ms: u64,
    /// What came of it; `None`: it has begun.
    pub end: Option<End<'a>>,
}

/// What came of the work.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// When it ended (Unix ms).
    pub ended_ms: u64,
    /// Done and verified on every host.
    pub succeeded: bool,
    /// Nobody has to look at a host any more: it was done, or taken back and verified, or nothing was changed.
    pub settled: bool,
    /// One line for a field that says how it was closed.
    pub summary: &'a str,
    /// Files that are attached.
    pub attachments: &'a [Attachment<'a>],
}

/// A file that is attached.
#[derive(Debug, Clone, Copy)]
pub struct Attachment<'a> {
    /// Its name: letters, digits, `.`, `-`, `_`. Attached once under it.
    pub name: &'a str,
    /// What it is, such as `text/html`.
    pub media_type: &'a str,
    /// It.
    pub bytes: &'a [u8],
}

/// It is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// What was done, in a line: "comment 10044, attached report.html, now Done".
    pub answer: String,
    /// Digest of the text as it was sent.
    pub sha256: Sha256,
}

/// Why a ticket could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// There is no such ticket, or we may not see it.
    #[error("{0}")]
    Missing(String),
    /// It may work later: nobody answers, the other side asks for patience, or somebody has to mend a login. What was to be
    /// written may be there all the same.
    #[error("{why}")]
    Later {
        /// What happened, without secrets.
        why: String,
        /// It asks not to be asked before so many milliseconds.
        after_ms: Option<u64>,
    },
    /// The other side does not do it, and would not if it were asked again; or it answers what cannot be understood.
    #[error("{0}")]
    Never(String),
}

impl TicketError {
    /// May work later, at any time.
    pub fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), after_ms: None }
    }
}

/// A system of tickets.
///
/// It never follows to another site, and tells nobody a secret: neither its errors nor its answers hold one.
#[async_trait]
pub trait Tickets: Send + Sync {
    /// Its name in the settings.
    fn name(&self) -> &str;

    /// `jira`, `servicenow` or `trello`.
    fn kind(&self) -> &'static str;

    /// Where it is, without secrets.
    fn site(&self) -> String;

    /// The ticket as it stands there now, with the exact bytes that said so.
    ///
    /// # Errors
    /// Within `within`, or a little later. A date that cannot be read is an error, never a ticket without one.
    async fn read(&self, key: &str, within: Duration) -> Result<(Change, Vec<u8>), TicketError>;

    /// Writes it into the ticket: the text, the times, the outcome, the attachments; and moves it on when the settings name a
    /// state for that. May be called again with the same entry, also after an error: each part is there once.
    ///
    /// # Errors
    /// Within `within`, or a little later.
    async fn write(&self, key: &str, entry: Entry<'_>, within: Duration) -> Result<Written, TicketError>;

    /// Whether it answers and lets us in. The text is for people.
    ///
    /// # Errors
    /// Within `within`, or a little later.
    async fn reach(&self, within: Duration) -> Result<String, TicketError>;
}
