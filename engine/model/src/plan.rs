//! The frozen plan: all that a run does, as data that can be hashed and approved.
//!
//! A plan is complete: it names every host, every batch and every step, those that only a rollback runs included
//! (undo, restore, verification after it), so that the matrix that a run announces is the plan's own. What cannot be
//! known before the run (facts, outputs of earlier steps, secrets) stays a [`Template`]; what it depends on is in the
//! plan. Its digest ([`Plan::digest`]) is over the canonical JSON of this type, which holds no paths of the machine
//! that made it other than those people wrote, no time and no version of the program.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::Access;
use crate::canonical;
use crate::digest::Sha256;
use crate::host::Host;
use crate::id::{HostName, StepId};
use crate::shell::ShellKind;

/// The version of the plan's stored form.
pub const SCHEMA: &str = "plan/v1";

/// A template's source text (Handlebars). Which escape applies depends on where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(pub String);

/// A CEL expression's source text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Expression(pub String);

/// The six phases, in the order in which they run on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Read-only look at the host.
    Prechecks,
    /// Takes and proves the way back.
    Snapshot,
    /// The change.
    Execute,
    /// Read-only proof that the change is good.
    Verify,
    /// Takes the change back.
    Rollback,
    /// Runs wherever `snapshot` or `execute` began.
    Finally,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Phase; 6] =
        [Phase::Prechecks, Phase::Snapshot, Phase::Execute, Phase::Verify, Phase::Rollback, Phase::Finally];

    /// The key under which people write it.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Prechecks => "prechecks",
            Phase::Snapshot => "snapshot",
            Phase::Execute => "execute",
            Phase::Verify => "verify",
            Phase::Rollback => "rollback",
            Phase::Finally => "finally",
        }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Why the maintenance is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// The regular window.
    Routine,
    /// A fault is mended.
    Corrective,
    /// It cannot wait for a window.
    Emergency,
}

impl Tier {
    /// The word that people write.
    pub fn name(self) -> &'static str {
        match self {
            Tier::Routine => "routine",
            Tier::Corrective => "corrective",
            Tier::Emergency => "emergency",
        }
    }
}

/// The plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// [`SCHEMA`].
    pub schema: String,
    /// The runbook that it was made from.
    pub runbook: RunbookRef,
    /// Values of the parameters, defaults included; a secret parameter's value is `{"secret": NAME}`.
    pub parameters: BTreeMap<String, Value>,
    /// Where secrets come from. Values are never in a plan.
    pub secrets: BTreeMap<String, SecretRef>,
    /// The hosts, by name.
    pub hosts: BTreeMap<HostName, Host>,
    /// Who goes together, in order. Every host of `hosts` is in exactly one batch.
    pub batches: Vec<Vec<HostName>>,
    /// Hosts worked on at once inside a batch, at least 1.
    pub parallel: u32,
    /// Pause between batches.
    pub soak_ms: u64,
    /// How many hosts may end other than succeeded before no further host is started.
    pub failure_budget: u32,
    /// Roots whose undeclared changes are looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Watch>,
    /// How hosts are taken back.
    pub rollback: RollbackRule,
    /// What the end of a host's window means for it.
    #[serde(default, skip_serializing_if = "WindowRule::is_default")]
    pub window: WindowRule,
    /// What the run may do on its hosts while it works there, and not after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// Why the whole change cannot be taken back, when it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irreversible: Option<String>,
    /// Every step, phase by phase; within a phase in an order that respects `needs`. In `rollback`, undo steps stand
    /// in reverse order of the steps that they take back, then restores, then extra steps, then the verification.
    pub steps: Vec<Step>,
    /// Local files that steps send, by digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<Sha256, FileRef>,
}

impl Plan {
    /// The plan's digest: SHA-256 of its canonical JSON.
    pub fn digest(&self) -> Sha256 {
        canonical::digest(self)
    }

    /// The step called `id`.
    pub fn step(&self, id: &StepId) -> Option<&Step> {
        self.steps.iter().find(|step| step.id == *id)
    }

    /// The steps of one phase, in plan order.
    pub fn phase(&self, phase: Phase) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(move |step| step.phase == phase)
    }
}

/// Which runbook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunbookRef {
    /// Its `name`.
    pub name: String,
    /// Its `title`, or empty.
    pub title: String,
    /// Its tier.
    pub tier: Tier,
    /// Its controls.
    pub controls: Vec<String>,
    /// Digest of what the file says (the canonical JSON of its keys and values): the order of its keys, comments and
    /// line ends do not matter.
    pub source_sha256: Sha256,
}

/// A file on the controller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileRef {
    /// As written, relative to the runbook.
    pub path: String,
    /// Its length.
    pub bytes: u64,
}

/// Where a secret's value is taken from, at the moment of use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// An environment variable of the controller's process.
    Env(String),
    /// A file on the controller; one line end at its end is dropped.
    File(String),
    /// A program on the controller that prints it; one line end at its end is dropped.
    Command(Vec<String>),
}

/// `watch:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {
    /// Folders or files.
    pub roots: Vec<Template>,
    /// What an undeclared change means.
    pub undeclared: Undeclared,
}

/// What an undeclared change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undeclared {
    /// It is in the report.
    Report,
    /// It is a failed verification.
    Fail,
}

/// `rollback:`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRule {
    /// What is done. The planner has already turned it into steps; kept for showing.
    pub strategy: Strategy,
    /// Who is taken back when one host fails.
    pub scope: Scope,
    /// The limit on taking one host back; when it is over, the host is stuck.
    pub budget_ms: u64,
    /// What proves that the host is back as it was.
    pub verify: RollbackVerify,
}

/// What windows mean for hosts that have begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRule {
    /// What becomes of a host that is not through when its window ends.
    pub at_end: AtEnd,
}

impl WindowRule {
    /// Whether it is as without a word of it; then a plan's canonical form does not have it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What becomes of a host that is not through when its window ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtEnd {
    /// It is brought to its end, however long that takes.
    #[default]
    Finish,
    /// It is stopped while its rollback's budget still fits before the end, and taken back.
    Rollback,
}

impl AtEnd {
    /// The word that people write.
    pub fn name(self) -> &'static str {
        match self {
            AtEnd::Finish => "finish",
            AtEnd::Rollback => "rollback",
        }
    }
}

/// How a host is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// Each step's `undo`.
    Undo,
    /// The snapshots.
    Restore,
    /// Both, in this order.
    UndoThenRestore,
    /// Only the steps given.
    Steps,
}

/// Who is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The host that failed.
    Host,
    /// All hosts of its batch that changed.
    Batch,
    /// All hosts of the run that changed.
    Run,
}

/// What proves a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RollbackVerify {
    /// The prechecks again, and the measured baseline.
    Again,
    /// The steps that the runbook gives.
    Steps,
    /// Nothing; the record says so.
    None,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique in the plan.
    pub id: StepId,
    /// Shown to people.
    pub name: String,
    /// When it runs.
    pub phase: Phase,
    /// What it is for.
    pub role: Role,
    /// What it does.
    pub work: Work,
    /// Steps of the same phase that must have ended well (or been skipped) before this one. Waiting for earlier phases
    /// is implied. For `undo` chains and rollback lists the planner fills it so that the order is the list's.
    pub needs: Vec<StepId>,
    /// The step is skipped when this is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Expression>,
    /// Where it runs.
    pub on: Place,
    /// Once instead of per host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<Once>,
    /// The account to become; `None` is the one that logged in.
    #[serde(rename = "as", default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Template>,
    /// Working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<Template>,
    /// Environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Template>,
    /// Standard input; none is an empty one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<Template>,
    /// Limit on one attempt.
    pub timeout_ms: u64,
    /// When an attempt is repeated.
    pub retry: Retry,
    /// What counts as success.
    pub expect: Expect,
    /// A read-only command; exit 0 means that the step is already done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unless: Option<Work>,
    /// An attempt whose outcome is unknown may be repeated.
    pub idempotent: bool,
    /// It changes nothing (checks, prechecks, verify, probes): repeating it harms nobody.
    pub read_only: bool,
    /// Globs of what it may change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Template>,
    /// Why it cannot be taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub irreversible: Option<String>,
    /// What a failure means.
    pub on_failure: OnFailure,
    /// Keep the output out of the evidence.
    pub sensitive: bool,
    /// Values of the packaged action's parameters, templates of the runbook's own names inside texts. `Some` means that
    /// `param.*` in this step's templates are these, not the runbook's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with: Option<BTreeMap<String, Value>>,
    /// The packaged action's name, for showing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uses: Option<String>,
    /// The item of `each` that this step was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub item: Option<Value>,
    /// Bytes kept of each output stream; the head and the tail when there is more.
    pub output_bytes_max: u64,
}

/// What a step is for: tells the core when it is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Role {
    /// As written by a person, in its phase.
    Plain,
    /// Takes a snapshot. Its reference is the last line of its standard output that is not empty.
    Take,
    /// Says whether the snapshot that `of` took exists, is whole and belongs to this run. In `snapshot` it must succeed
    /// before `execute` begins; in `rollback` before the restore.
    Probe {
        /// The step that took it.
        of: StepId,
    },
    /// Brings the snapshot back. Due when `execute` began, and the snapshot was taken.
    Restore {
        /// The step that took it.
        of: StepId,
    },
    /// Removes the snapshot. Due when the host is blocked in `snapshot`, and later on request.
    Release {
        /// The step that took it.
        of: StepId,
    },
    /// Takes a step of `execute` back. Due when that step may have happened.
    Undo {
        /// The step that it takes back.
        of: StepId,
    },
    /// A precheck once more, as verification after a rollback.
    Again {
        /// The precheck.
        of: StepId,
    },
    /// Compares the measured baseline (hashes of `changes`, running services) after a rollback.
    Baseline,
    /// Compares what is under the watched roots, at the end of `verify`. Fails when the rule is `undeclared: fail`.
    Undeclared,
}

/// The same work everywhere, or one for each kind of system (packaged actions).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Work {
    /// On any host.
    Any(Action),
    /// By the host's system; an absent one cannot be done there and fails at plan time for such hosts.
    ByOs {
        /// On POSIX hosts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        posix: Option<Action>,
        /// On Windows hosts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        windows: Option<Action>,
    },
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// A text for the host's shell.
    Run {
        /// The text.
        command: Template,
        /// Which shell; `None` is the host's own (sh, or PowerShell on Windows).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shell: Option<ShellKind>,
        /// With `set -eu` (POSIX), `$ErrorActionPreference = 'Stop'` (PowerShell).
        strict: bool,
    },
    /// An argument vector, no shell.
    Argv {
        /// The program and its arguments.
        argv: Vec<Template>,
    },
    /// A local file that is sent and run.
    Script {
        /// The file's digest, a key of `Plan::files`.
        sha256: Sha256,
        /// Arguments.
        args: Vec<Template>,
        /// The program that reads it; `None` runs it by its `#!` line, or with sh when it has none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interpreter: Option<Template>,
    },
    /// Local files to the host.
    Upload {
        /// What is sent, by path relative to `to`; the empty path is `to` itself (a single file).
        files: BTreeMap<String, UploadFile>,
        /// Absolute path on the host.
        to: Template,
        /// Owner on the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        owner: Option<Template>,
        /// Group on the host.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        group: Option<Template>,
    },
    /// A file from the host into the evidence.
    Download {
        /// Absolute path on the host.
        from: Template,
        /// More than this is a failure.
        max_bytes: u64,
    },
    /// Reboots, and waits until the boot id has changed and the host answers.
    Reboot {
        /// How long until it must answer.
        timeout_ms: u64,
        /// Pause after it answers.
        settle_ms: u64,
    },
    /// Waits so long.
    Wait {
        /// So long.
        ms: u64,
    },
    /// Waits until a command succeeds.
    WaitUntil {
        /// At most so long.
        for_ms: u64,
        /// The command, for the host's shell, read-only.
        until: Template,
        /// Pause between tries.
        every_ms: u64,
    },
    /// Asks a person.
    Confirm {
        /// The question.
        text: Template,
    },
    /// Measures and compares inside the engine (roles `Baseline` and `Undeclared`).
    Compare,
}

/// One file of an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UploadFile {
    /// A key of `Plan::files`.
    pub sha256: Sha256,
    /// Permission bits on the host, such as 0o644.
    pub mode: u32,
}

/// Where a step runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// On the host itself.
    Host,
    /// On the machine that the engine runs on.
    Controller,
    /// On this host of the inventory, on behalf of each host.
    Named(Box<Host>),
}

/// Once instead of per host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Once {
    /// Once in the run.
    Run,
    /// Once in each batch.
    Batch,
}

/// Why an attempt did not succeed, as far as repeating it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryClass {
    /// It ended, and not as expected.
    Exit,
    /// It took too long and is proved gone.
    Timeout,
    /// The host could not be reached, and nothing began.
    Connection,
    /// Another program holds a lock (package managers).
    LockHeld,
    /// The other side asked to slow down.
    Throttled,
}

/// `retry:`. The delay before attempt n+1 is `delay_ms × (backoff_permille/1000)^(n-1)`, at most `delay_ms_max`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Attempts in all, at least 1.
    pub attempts: u32,
    /// Before the second attempt.
    pub delay_ms: u64,
    /// Growth of the delay in thousandths (2000 doubles it).
    pub backoff_permille: u32,
    /// The longest delay.
    pub delay_ms_max: u64,
    /// Which classes are repeated, sorted.
    pub on: Vec<RetryClass>,
}

impl Retry {
    /// One attempt, no more.
    pub fn none() -> Self {
        Self { attempts: 1, delay_ms: 0, backoff_permille: 2000, delay_ms_max: 0, on: Vec::new() }
    }
}

/// What counts as success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Exit codes, sorted; `[0]` unless said otherwise.
    pub exit_codes: Vec<i32>,
    /// Of standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<ExpectText>,
    /// Of standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<ExpectText>,
}

impl Default for Expect {
    fn default() -> Self {
        Self { exit_codes: vec![0], stdout: None, stderr: None }
    }
}

/// What is expected of a stream; all that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectText {
    /// The whole of it, a last line end aside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<Template>,
    /// Somewhere in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contains: Vec<Template>,
    /// A regular expression that is found in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// A regular expression that is not found in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_matches: Option<String>,
    /// White space alone, or something more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty: Option<bool>,
    /// It is JSON, and this holds of it (named `json` in the expression).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Expression>,
}

/// What a failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Take the host back.
    Rollback,
    /// The host is blocked; nothing was changed.
    Block,
    /// Stop, leave as is, call an operator.
    Halt,
    /// Record it and go on.
    Continue,
}
