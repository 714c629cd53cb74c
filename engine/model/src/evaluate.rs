//! The border between those who run a plan and the language in which its texts are written.
//!
//! The driver prepares steps and judges outputs through [`Evaluate`], which the language crate implements; so neither
//! knows the other, and the same code renders a preview and a run.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::digest::Sha256;
use crate::host::{Facts, Host};
use crate::id::StepId;
use crate::outcome::Exit;
use crate::plan::{Plan, RetryClass, Step, UploadFile};
use crate::shell::ShellKind;

/// What the names in a template or expression stand for, for one host at one moment.
pub struct Scope<'a> {
    /// The plan: parameters and secrets' names.
    pub plan: &'a Plan,
    /// The host on whose behalf.
    pub host: &'a Host,
    /// Its facts; `None` before it was connected.
    pub facts: Option<&'a Facts>,
    /// The run; `None` in a preview.
    pub run: Option<&'a RunFacts>,
    /// Steps of this host that have ended.
    pub steps: &'a dyn StepResults,
    /// For the operations of a snapshot.
    pub snapshot: Option<SnapshotFacts>,
}

/// `run.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFacts {
    /// `run.id`.
    pub id: String,
    /// `run.ticket`, empty when none was named.
    pub ticket: String,
    /// `run.operator`.
    pub operator: String,
    /// `run.started_at`, RFC 3339.
    pub started_at: String,
}

/// `snapshot.*` in the operations of a snapshot action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// `snapshot.id`: the id of the step that takes it.
    pub id: String,
    /// `snapshot.reference`: what `take` printed; empty in `take` itself.
    pub reference: String,
    /// `snapshot.run`: the run that took it (not the one that takes a finished run back).
    pub run: String,
}

/// Results of steps on the same host: `steps.<id>.*`.
pub trait StepResults {
    /// The result of `step`, or `None` while it has none.
    fn result(&self, step: &StepId) -> Option<StepResult>;
}

/// No step has ended.
impl StepResults for () {
    fn result(&self, _step: &StepId) -> Option<StepResult> {
        None
    }
}

/// `steps.<id>.{stdout,stderr,exit_code,skipped}`; `json` is parsed from `stdout` where it is used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StepResult {
    /// Standard output, invalid UTF-8 replaced, one line end at its end dropped.
    pub stdout: String,
    /// Standard error, in the same way.
    pub stderr: String,
    /// Exit code; `None` when it did not exit by itself.
    pub exit_code: Option<i32>,
    /// It was skipped.
    pub skipped: bool,
}

/// A text whose secrets are still names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SecretText(pub Vec<Piece>);

/// A piece of a [`SecretText`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// The value of the secret of this name.
    Secret(String),
}

impl SecretText {
    /// A text without secrets.
    pub fn plain(text: impl Into<String>) -> Self {
        Self(vec![Piece::Text(text.into())])
    }

    /// The names of its secrets.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Secret(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }
}

/// A step with its texts rendered for one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// What is done.
    pub action: RenderedAction,
    /// The read-only command of `unless`.
    pub unless: Option<RenderedAction>,
    /// The account to become.
    pub account: Option<String>,
    /// Working folder.
    pub cwd: Option<String>,
    /// Environment. Secrets that `run` texts refer to are here too, as `RUNBOOK_SECRET_<name>`.
    pub env: BTreeMap<String, SecretText>,
    /// Standard input.
    pub stdin: Option<SecretText>,
    /// Globs of `changes`.
    pub changes: Vec<String>,
    /// Digest of the step's template texts (canonical JSON of its `work`).
    pub template_sha256: Sha256,
    /// Names that its templates used, such as `param.package`.
    pub variables: BTreeSet<String>,
    /// What could not be known yet and stands as `‹name›` in the texts: only ever in a preview.
    pub unknown: BTreeSet<String>,
}

impl Rendered {
    /// The exact command as recorded, shown and hashed: a `run` text as it is, an argument vector as a JSON list, other
    /// actions as one line of canonical JSON. Never holds a secret's value.
    pub fn command_text(&self) -> String {
        self.action.text()
    }
}

/// An action with its texts rendered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderedAction {
    /// A text for a shell.
    Run {
        /// The text.
        text: String,
        /// The shell.
        shell: ShellKind,
        /// `set -eu` or its like.
        strict: bool,
    },
    /// An argument vector.
    Argv(Vec<String>),
    /// A file that is sent and run.
    Script {
        /// The file's blob.
        sha256: Sha256,
        /// Arguments.
        args: Vec<String>,
        /// The program that reads it.
        interpreter: Option<String>,
    },
    /// Files to the host.
    Upload {
        /// By path relative to `to`.
        files: BTreeMap<String, UploadFile>,
        /// Absolute path.
        to: String,
        /// Owner.
        owner: Option<String>,
        /// Group.
        group: Option<String>,
    },
    /// A file from the host.
    Download {
        /// Absolute path.
        from: String,
        /// Limit.
        max_bytes: u64,
    },
    /// A reboot.
    Reboot {
        /// How long until it must answer.
        timeout_ms: u64,
        /// Pause after that.
        settle_ms: u64,
    },
    /// A pause.
    Wait {
        /// So long.
        ms: u64,
    },
    /// Wait until a command succeeds.
    WaitUntil {
        /// At most so long.
        for_ms: u64,
        /// The text.
        until: String,
        /// The shell.
        shell: ShellKind,
        /// Pause between tries.
        every_ms: u64,
    },
    /// Ask a person.
    Confirm {
        /// The question.
        text: String,
    },
    /// Measure and compare inside the engine.
    Compare,
}

impl RenderedAction {
    /// See [`Rendered::command_text`].
    pub fn text(&self) -> String {
        let json = |value: Value| String::from_utf8(crate::canonical::bytes(&value)).expect("JSON is UTF-8");
        match self {
            RenderedAction::Run { text, .. } => text.clone(),
            RenderedAction::Argv(argv) => json(serde_json::json!(argv)),
            RenderedAction::Script { sha256, args, interpreter } => {
                json(serde_json::json!({"script": sha256, "args": args, "interpreter": interpreter}))
            }
            RenderedAction::Upload { files, to, owner, group } => {
                json(serde_json::json!({"upload": files, "to": to, "owner": owner, "group": group}))
            }
            RenderedAction::Download { from, max_bytes } => {
                json(serde_json::json!({"download": from, "max_bytes": max_bytes}))
            }
            RenderedAction::Reboot { timeout_ms, settle_ms } => {
                json(serde_json::json!({"reboot": {"timeout_ms": timeout_ms, "settle_ms": settle_ms}}))
            }
            RenderedAction::Wait { ms } => json(serde_json::json!({"wait_ms": ms})),
            RenderedAction::WaitUntil { for_ms, until, every_ms, .. } => {
                json(serde_json::json!({"wait_until": until, "for_ms": for_ms, "every_ms": every_ms}))
            }
            RenderedAction::Confirm { text } => json(serde_json::json!({"confirm": text})),
            RenderedAction::Compare => "compare".into(),
        }
    }
}

/// Why a step could not be rendered or judged; the message is for people and names the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EvaluateError(pub String);

/// What came of `when`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// The step runs.
    Run,
    /// It is skipped, for this reason.
    Skip(String),
}

/// Renders texts and judges outputs. Implementations are pure: same arguments, same answer.
pub trait Evaluate: Send + Sync {
    /// Whether the step runs on this host.
    fn when(&self, scope: &Scope<'_>, step: &Step) -> Result<When, EvaluateError>;

    /// The step's texts for this host. With `scope.run` absent (a preview) what cannot be known becomes `‹name›`;
    /// otherwise an unknown name is an error.
    fn render(&self, scope: &Scope<'_>, step: &Step) -> Result<Rendered, EvaluateError>;

    /// A text in which `{{x}}` is plain text: watch roots.
    fn text(&self, scope: &Scope<'_>, template: &crate::plan::Template) -> Result<String, EvaluateError>;

    /// What of `expect` does not hold; empty when all does. `stdout` and `stderr` are what is kept, with a flag that
    /// says whether that is all: an expectation on a truncated stream is not met.
    fn unmet(&self, scope: &Scope<'_>, step: &Step, exit: Exit, stdout: Kept<'_>, stderr: Kept<'_>) -> Vec<String>;

    /// Why an attempt that was not as expected failed, as far as repeating it goes: package managers' lock messages are
    /// `LockHeld`, rate limits `Throttled`, all else `Exit`.
    fn class(&self, stdout: &[u8], stderr: &[u8]) -> RetryClass;
}

/// What is kept of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Kept<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// They are all there were.
    pub whole: bool,
}
