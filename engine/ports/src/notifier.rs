//! Notifiers: people outside, or a program of theirs, who are told of what happens.

use std::time::Duration;

use async_trait::async_trait;
use runbook_model::Sha256;

/// What is to be told.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The same however often it is sent: whoever gets it twice can tell.
    pub id: &'a str,
    /// When it was made (Unix ms); the same however often it is sent.
    pub made_ms: u64,
    /// Unix ms now.
    pub now_ms: u64,
    /// What it is about, in a line. May hold anything: the notifier sees to it that it stays one line and no markup.
    pub subject: &'a str,
    /// What it says, in lines. May hold anything, like the subject.
    pub text: &'a str,
    /// Its kind, such as `ended`.
    pub kind: &'a str,
    /// The same for programs: a JSON object.
    pub news: &'a str,
}

/// It was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The other side's words, in a line.
    pub answer: String,
    /// Digest of what was sent: of the mail, or of the request's body.
    pub sha256: Sha256,
}

/// Why it was not taken, or is not known to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// It may be taken later: nobody answers, the other side asks for patience, or somebody has to mend something here.
    /// It may have been taken all the same.
    #[error("{why}")]
    Later {
        /// What happened, without secrets.
        why: String,
        /// It asks not to be asked before so many milliseconds.
        after_ms: Option<u64>,
    },
    /// The other side does not take it, and would not if it were asked again.
    #[error("{0}")]
    Never(String),
}

impl NotifyError {
    /// May be taken later, at any time.
    pub fn later(why: impl Into<String>) -> Self {
        Self::Later { why: why.into(), after_ms: None }
    }
}

/// One way to tell.
///
/// It never falls back to a way that others could read, never follows to another address, and tells nobody a secret:
/// neither its errors nor its answers hold one.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Its name in the settings.
    fn name(&self) -> &str;

    /// `smtp`, `slack`, `teams` or `webhook`.
    fn kind(&self) -> &'static str;

    /// Who is told, without secrets.
    fn to(&self) -> String;

    /// Tells it. May be called again with the same message, also after an error: whoever is told can tell by the id.
    ///
    /// # Errors
    /// Within `within`, or a little later.
    async fn deliver(&self, message: Message<'_>, within: Duration) -> Result<Delivered, NotifyError>;

    /// Whether it could be told now, as far as can be found out without telling anything. The text is for people.
    ///
    /// # Errors
    /// Within `within`, or a little later.
    async fn reach(&self, within: Duration) -> Result<String, NotifyError>;
}
