//! Access that a run has on a host for as long as it works there: minted, installed, and withdrawn.

use async_trait::async_trait;
use runbook_model::Sha256;
use runbook_model::access::{self, Ending, Grant, Installed, Installer};
use runbook_model::host::Host;
use runbook_model::id::RunId;
use runbook_model::outcome::Obstacle;

/// What a host is to be given.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// For which run.
    pub run: &'a RunId,
    /// Digest of its plan.
    pub plan_sha256: Sha256,
    /// The host.
    pub host: &'a Host,
    /// What the plan says.
    pub access: &'a access::Access,
    /// Now (Unix ms).
    pub now_ms: u64,
    /// When the host's time ends (Unix ms): nothing is good for longer. `None`: its time has no end.
    pub until_ms: Option<u64>,
}

/// What is to be withdrawn from a host.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// Of which run.
    pub run: &'a RunId,
    /// The host.
    pub host: &'a Host,
    /// What the plan says.
    pub access: &'a access::Access,
    /// All that was given and whose end is not on record, by whichever controller.
    pub grants: &'a [Grant],
    /// What the host said when it was given, where that is known.
    pub installed: Option<&'a Installed>,
}

/// What was done on the host to withdraw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// When (Unix ms).
    pub at_ms: u64,
    /// How the rule of sudo ended, as whoever removed it sees it.
    pub sudo: Option<Ending>,
    /// What sudo tells of the account is what it told before the run.
    pub sudo_as_before: bool,
    /// The certificates are revoked: what was seen; or why not. `None`: there are none.
    pub revoked: Option<Result<String, Unrevoked>>,
    /// How the account ended.
    pub account: Option<Ending>,
    /// With which login.
    pub installer: Installer,
}

/// Why a certificate is not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unrevoked {
    /// The host has no place for it.
    NoPlace(String),
    /// It did not work.
    Failed(String),
}

/// What came of a login with a credential that is not to count any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// The host refused it: its words.
    Refused(String),
    /// It let us in.
    LetIn,
    /// Nobody knows: the host was not reached, or this program does not have the credential.
    Untried(String),
}

/// Whoever can give access.
#[async_trait]
pub trait Access: Send + Sync {
    /// Makes what the host is to be given: a certificate, the text of a rule. Nothing is done on the host, and the
    /// certificate's private key stays in this process.
    ///
    /// # Errors
    /// The authority does not sign, or the time is over.
    async fn grant(&self, ask: &Ask<'_>) -> Result<Grant, Obstacle>;

    /// The host, as it is to be logged in to with what this process made by [`grant`](Self::grant).
    ///
    /// # Errors
    /// Kind `Local`: the credential is not this process's.
    fn with(&self, host: &Host, grant: &Grant) -> Result<Host, Obstacle>;

    /// Installs it on the host. Twice is harmless. Called only when the grant is durably on record.
    ///
    /// # Errors
    /// Of every kind but `Session` it proves that nothing was installed.
    async fn install(&self, ask: &Ask<'_>, grant: &Grant) -> Result<Installed, Obstacle>;

    /// Removes all of it from the host. Twice is harmless.
    ///
    /// # Errors
    /// The host could not be asked: it may all be there.
    async fn withdraw(&self, given: &Given<'_>) -> Result<Withdrawn, Obstacle>;

    /// Tries to log in with the credential of `grant`, and with no other. Where its key is gone with another controller: with
    /// one for the same names that [`withdraw`](Self::withdraw) has revoked together with it.
    async fn try_login(&self, run: &RunId, host: &Host, grant: &Grant) -> Login;
}
