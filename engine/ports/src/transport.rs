//! Reaching hosts.

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use runbook_model::Sha256;
use runbook_model::host::{Facts, Host, PeerIdentity};
use runbook_model::id::{AttemptId, RunId};
use runbook_model::outcome::{Exit, Obstacle};
use runbook_model::session::{Here, Process, There};
use runbook_model::shell::ShellKind;
use tokio_util::sync::CancellationToken;

use crate::leftover::Leftover;
#[cfg(doc)]
use crate::leftover::LeftoverState;
use crate::secret::SecretBytes;

/// A way to reach hosts.
#[async_trait]
pub trait Transport: Send + Sync {
    /// As in the inventory's `transport:`.
    fn name(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> Capabilities;

    /// Opens a session. One session serves all steps of a host in a run; opening a second one to the same host is allowed.
    ///
    /// # Errors
    /// An obstacle, which proves that nothing began on the host. It arrives within `limit`.
    async fn open(&self, host: &Host, limit: Duration) -> Result<Box<dyn Session>, Obstacle>;
}

/// What a transport can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Attempts outlive the connection, and can be probed and followed again.
    pub reattach: bool,
    /// Invocations at once on one session before further ones wait inside the session.
    pub concurrency: usize,
    /// A session crosses a network, and its host may have something of it left when it is closed here.
    pub remote: bool,
}

/// An open way to one host. All methods may be called at the same time; a session bounds its channels by itself.
#[async_trait]
pub trait Session: Send + Sync {
    /// Who answered, and how we got in. All that is known of it once [`facts`](Self::facts) was answered.
    fn identity(&self) -> PeerIdentity;

    /// What the host says of itself.
    async fn facts(&self) -> Result<Facts, Obstacle>;

    /// Runs a program and streams its output into `sink`.
    ///
    /// With `claim`, the attempt's id is claimed on the host first (atomically; a second start of the same id starts
    /// nothing and follows the first), and it runs detached where [`Capabilities::reattach`] says so. Without, it runs
    /// attached: it ends with the connection.
    ///
    /// When `stop` is cancelled, its whole process group is ended (TERM, `grace`, KILL) and its end is proved:
    /// [`Completion::Killed`]. If it ended by itself before that: [`Completion::Exited`].
    async fn run(
        &self,
        claim: Option<&AttemptId>,
        invocation: &Invocation,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Completion;

    /// What the host knows of an attempt. `NeverStarted` also makes sure that it never will: the id is claimed.
    async fn probe(&self, attempt: &AttemptId) -> Probe;

    /// Follows a claimed attempt from the given bytes of its outputs on, as `run` does.
    async fn follow(
        &self,
        attempt: &AttemptId,
        from: Offsets,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Completion;

    /// Removes what a claimed attempt left on the host. Called once its outcome is on record. Twice is harmless.
    async fn clear(&self, attempt: &AttemptId) -> Result<(), Obstacle>;

    /// The same for several attempts, in as few steps on the host as it can.
    async fn clear_all(&self, attempts: &[AttemptId]) -> Result<(), Obstacle> {
        for attempt in attempts {
            self.clear(attempt).await?;
        }
        Ok(())
    }

    /// The last thing that is asked over a session, in one go: removes what `attempts` left, as `clear_all` does, then looks
    /// what else is there. Connections of before that are still there are ended; nothing else is touched. A transport that
    /// is not [`remote`](Capabilities::remote) has nothing to look for.
    ///
    /// # Errors
    /// The host did not answer, or the attempts could not be cleared.
    async fn leave(&self, attempts: &[AttemptId], _look: &LookFor) -> Result<Seen, Obstacle> {
        self.clear_all(attempts).await?;
        Ok(Seen::default())
    }

    /// What claimed attempts have left on the host, of whatever run and controller, by the name of what it is called there.
    /// Only what the login account left. A transport that claims nothing has none.
    ///
    /// # Errors
    /// The host did not answer, or not wholly.
    async fn leftovers(&self) -> Result<Vec<Leftover>, Obstacle> {
        Ok(Vec::new())
    }

    /// Removes leftovers, by their names. What runs by then, or may, is left alone ([`LeftoverState::is_over`] is looked at
    /// again on the host). Gives the names of those that are not there any more.
    ///
    /// Whoever removes what a controller has yet to ask for makes its outcome unknown for ever.
    ///
    /// # Errors
    /// The host did not answer; some of it may be removed.
    async fn remove_leftovers(&self, _names: &[String]) -> Result<Vec<String>, Obstacle> {
        Ok(Vec::new())
    }

    /// Puts the file at `source` on the host: into a temporary file beside `to`, checked there against `sha256`, then
    /// renamed over `to`. Folders on the way are made. `progress` is told of bytes sent so far.
    async fn upload(&self, source: &Path, target: &UploadTarget, progress: &(dyn Fn(u64) + Send + Sync))
    -> Transferred;

    /// Fetches a file of at most `bytes_max` into `target`, checked against the digest taken on the host.
    async fn download(
        &self,
        from: &str,
        account: Option<&str>,
        bytes_max: u64,
        target: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Transferred;

    /// Whether the session still answers. Cheap; used to tell a killed command from a lost link.
    async fn check(&self) -> Result<(), Obstacle>;

    /// Closes it, and says what is known of its end on this side. What runs attached ends; what is claimed goes on.
    async fn close(&self) -> Here;
}

/// What is looked for on a host when the work on it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookFor {
    /// Whose processes.
    pub run: RunId,
    /// Processes that served connections which are closed by now (`PeerIdentity::process`).
    pub processes: Vec<String>,
    /// How long all of them together are given to end by themselves.
    pub patience: Duration,
}

/// What a host says is there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// What became of the processes that were asked for, by what they are called; one that is not here was not looked at.
    pub processes: Vec<(String, There)>,
    /// Processes that the run's steps left and through which somebody gets back in.
    pub ways_in: Vec<Process>,
    /// Others that they left.
    pub others: u64,
    /// Why it could not look at all of it.
    pub unknown: Option<String>,
}

/// What is run.
#[derive(Clone)]
pub struct Invocation {
    /// The program.
    pub program: Program,
    /// The account to become (`sudo -n` on POSIX); `None` is the one that logged in.
    pub account: Option<String>,
    /// Working folder; `None` is the account's home.
    pub cwd: Option<String>,
    /// Environment beside the account's own. Never on a command line.
    pub env: Vec<(String, SecretBytes)>,
    /// Standard input; `None` is an empty one. Never on a command line.
    pub stdin: Option<SecretBytes>,
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A text for a shell.
    Shell {
        /// Which.
        shell: ShellKind,
        /// The text.
        text: String,
        /// With `set -eu` or its like before it.
        strict: bool,
    },
    /// An argument vector.
    Argv(Vec<String>),
    /// A script's content.
    Script {
        /// The bytes.
        content: Bytes,
        /// The program that reads it; `None`: its `#!` line, else sh.
        interpreter: Option<String>,
        /// Arguments.
        args: Vec<String>,
    },
}

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Takes output. Awaiting it is the back-pressure: a transport reads no more from the host meanwhile.
#[async_trait]
pub trait OutputSink: Send {
    /// The next bytes of a stream, in order.
    async fn write(&mut self, stream: Stream, bytes: &[u8]);

    /// Not all of a stream came: `by`, which stands between us and the host, passes on a part of it only, and the rest is
    /// nowhere to be had. To be told before the completion is returned, once for a stream. A transport that loses bytes and
    /// does not say so makes evidence that is wrong.
    async fn cut_off(&mut self, stream: Stream, by: &str);
}

/// How far outputs were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Offsets {
    /// Bytes of standard output.
    pub stdout: u64,
    /// Bytes of standard error.
    pub stderr: u64,
}

/// How a run of a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// Really observed; the output is complete, but for what the sink was told to be cut off.
    Exited(Exit),
    /// It was stopped as asked, and is proved gone.
    Killed,
    /// It did not begin, and that is proved.
    NotStarted(Obstacle),
    /// The connection broke while it may have been running. A claimed attempt can be probed.
    Lost(String),
    /// It was to be stopped and nobody can prove that it is gone, or the host's record of it makes no sense.
    Unknown(String),
}

/// What a host knows of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It has not begun, and never will.
    NeverStarted,
    /// It runs; `follow` it.
    Running,
    /// It has ended; `follow` brings the rest of its output and its exit.
    Exited,
    /// It had begun, and the host has no exit on record (it rebooted, or the record was removed).
    NoRecord(String),
    /// The host did not answer.
    Unreachable(Obstacle),
}

/// Where an upload goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadTarget {
    /// Absolute path.
    pub to: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner, by name or number.
    pub owner: Option<String>,
    /// Group, by name or number.
    pub group: Option<String>,
    /// The account that writes it.
    pub account: Option<String>,
    /// What it must be.
    pub sha256: Sha256,
    /// Its length.
    pub bytes: u64,
}

/// How a transfer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transferred {
    /// Complete; the digest was checked on both sides.
    Done {
        /// Of the content.
        sha256: Sha256,
        /// Its length.
        bytes: u64,
    },
    /// It did not happen: `to` is as it was (a download: nothing was kept). The text says why.
    Failed(String),
    /// It did not begin.
    NotStarted(Obstacle),
    /// The connection broke; an upload's `to` is either as it was or complete.
    Lost(String),
}
