//! Monitoring systems that report nothing of a run's hosts to people while the run works on them.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::{HostName, RunId};

/// What an alert must have to be one of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Matcher {
    /// The label's name.
    pub name: String,
    /// Its value, never empty; may hold anything. With `regex`, a regular expression (RE2) that fits the whole of it.
    pub value: String,
    /// Whether it is one.
    pub regex: bool,
}

/// What is to be muted.
#[derive(Debug, Clone, Copy)]
pub struct Mute<'a> {
    /// For which run. What is muted bears its id, so that it is found again by whoever knows the id alone.
    pub run: &'a RunId,
    /// The hosts, each with what its alerts have; at least one matcher each.
    pub hosts: &'a BTreeMap<HostName, Vec<Matcher>>,
    /// For so long from now on (ms), should nobody end it before.
    pub for_ms: u64,
    /// What is on record as muted for the run, and until when (Unix ms, by the system's clock): what of it was ended before
    /// that time was ended by somebody who wants to see the alerts, and is not muted again.
    pub known: Option<(&'a [String], u64)>,
    /// Why, for people who see it there. May hold anything.
    pub comment: &'a str,
    /// Who, the same.
    pub by: &'a str,
}

/// It is muted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Muted {
    /// What the system calls that which mutes: all that is in force for the run. It was asked afterwards, and said so.
    pub ids: Vec<String>,
    /// What somebody else ended.
    pub ended_by_others: Vec<String>,
    /// When it ends by itself (Unix ms, by the system's clock).
    pub until_ms: u64,
    /// What was asked and answered, word for word, without secrets.
    pub exchange: Vec<u8>,
}

/// Nothing of the run is muted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmuted {
    /// What was ended now.
    pub ids: Vec<String>,
    /// When it was seen to be over (Unix ms, by the system's clock).
    pub at_ms: u64,
    /// What was asked and answered, word for word, without secrets; the last answer is the proof.
    pub exchange: Vec<u8>,
}

/// Why it is not known to be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct MonitorError {
    /// What happened, without secrets.
    pub why: String,
    /// Something may have been muted all the same.
    pub maybe: bool,
}

/// A monitoring system.
///
/// It mutes no alert but those that are asked for, never follows to another site, and tells nobody a secret: neither its errors
/// nor its answers hold one. It does not try again by itself, and waits for each answer for `within` at most.
#[async_trait]
pub trait Monitor: Send + Sync {
    /// Its name in the settings.
    fn name(&self) -> &str;

    /// `alertmanager`.
    fn kind(&self) -> &'static str;

    /// Where it is, without secrets.
    fn site(&self) -> String;

    /// Has the hosts muted from now on, for as long as is asked: what of the run is there already is lengthened, and nothing
    /// is there twice however often this is called.
    ///
    /// # Errors
    /// Some of it may be muted ([`MonitorError::maybe`]).
    async fn mute(&self, mute: Mute<'_>, within: Duration) -> Result<Muted, MonitorError>;

    /// Ends what is muted for the run, also what is not among `ids`, and proves that it is over. Harmless when nothing is.
    ///
    /// # Errors
    /// It may be muted still, until its own end.
    async fn unmute(&self, run: &RunId, ids: &[String], within: Duration) -> Result<Unmuted, MonitorError>;

    /// Whether it answers and lets us in. The text is for people.
    ///
    /// # Errors
    /// When it does not.
    async fn reach(&self, within: Duration) -> Result<String, MonitorError>;
}
