//! A validated runbook: what a person wrote, typed, every reference checked that needs nothing but the file itself.
//!
//! Texts keep their templates as written. Defaults of keys are filled in only where the language has one value for
//! all (`parallel`, `batch`, `failure_budget`); keys that `defaults:`, a packaged action or a host may still decide
//! are `None` when the step does not say.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_model::access::Revoke;
use runbook_model::plan::{AtEnd, OnFailure, Once, Phase, RetryClass, Scope, SecretRef, Strategy, Tier, Undeclared};
use runbook_model::shell::ShellKind;
use runbook_model::units::Share;
use serde_json::Value;

use crate::selector::Selector;
use crate::source::{Source, Span, Spanned, Text};

/// `schema: runbook/v1`.
#[derive(Debug, Clone)]
pub struct Runbook {
    /// The file.
    pub source: Arc<Source>,
    /// `name`.
    pub name: Text,
    /// `title`.
    pub title: Option<Text>,
    /// `tier`; routine when it is not said.
    pub tier: Tier,
    /// `controls`.
    pub controls: Vec<Text>,
    /// `parameters`, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// `secrets`, by name.
    pub secrets: BTreeMap<String, Spanned<SecretRef>>,
    /// `targets`.
    pub targets: Targets,
    /// `watch`.
    pub watch: Option<Watch>,
    /// `defaults`.
    pub defaults: Defaults,
    /// `irreversible` of the whole runbook.
    pub irreversible: Option<Text>,
    /// `prechecks`.
    pub prechecks: Vec<Step>,
    /// `snapshot`.
    pub snapshot: Vec<Step>,
    /// `execute`; at least one step.
    pub execute: Vec<Step>,
    /// `verify`.
    pub verify: Vec<Step>,
    /// `rollback`.
    pub rollback: Rollback,
    /// `window.at_end`.
    pub at_end: AtEnd,
    /// `access`.
    pub access: Option<Access>,
    /// `finally`.
    pub finally: Vec<Step>,
}

impl Runbook {
    /// The steps that a person wrote for `phase` (for `rollback`: its extra `steps`).
    pub fn phase(&self, phase: Phase) -> &[Step] {
        match phase {
            Phase::Prechecks => &self.prechecks,
            Phase::Snapshot => &self.snapshot,
            Phase::Execute => &self.execute,
            Phase::Verify => &self.verify,
            Phase::Rollback => &self.rollback.steps,
            Phase::Finally => &self.finally,
        }
    }

    /// All steps, in the order of the phases; the steps of `rollback.verify` come after `rollback.steps`; `undo` steps
    /// are inside theirs.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        let verify = match &self.rollback.verify {
            RollbackVerify::Steps(steps) => steps.as_slice(),
            RollbackVerify::Again | RollbackVerify::None => &[],
        };
        [&self.prechecks, &self.snapshot, &self.execute, &self.verify, &self.rollback.steps]
            .into_iter()
            .flatten()
            .chain(verify)
            .chain(&self.finally)
    }
}

/// One of `parameters`.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name, at the place of the key.
    pub name: Text,
    /// `type`.
    pub kind: ParameterKind,
    /// `default`, as the typed value (see [`crate::parameter`]).
    pub default: Option<Spanned<Value>>,
    /// `enum`, typed values.
    pub allowed: Vec<Spanned<Value>>,
    /// `pattern`, a regular expression that is searched for in a text.
    pub pattern: Option<Text>,
    /// `minimum`: of a number, a duration or a size its value; of a text or list its length.
    pub minimum: Option<Spanned<Value>>,
    /// `maximum`, in the same way.
    pub maximum: Option<Spanned<Value>>,
    /// `description`.
    pub description: Option<Text>,
    /// `required`: it has no default, so a value must be given.
    pub required: bool,
}

/// `type` of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ParameterKind {
    /// Text.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A duration; its value is whole seconds.
    Duration,
    /// A size; its value is bytes.
    Size,
    /// A path.
    Path,
    /// A list of texts and numbers.
    List,
    /// The name of a secret; given as `env:NAME` or `file:PATH`.
    Secret,
}

/// `targets`.
#[derive(Debug, Clone)]
pub struct Targets {
    /// `select`. `None` when the runbook leaves it to the command line; see [`crate::inventory::Inventory::select`].
    pub select: Option<Selector>,
    /// `batch`, at least one entry; the last one repeats. `[100%]` when it is not said.
    pub batch: Vec<Share>,
    /// `parallel`, at least 1.
    pub parallel: u32,
    /// `soak`.
    pub soak_ms: u64,
    /// `failure_budget`.
    pub failure_budget: Share,
    /// Where `targets` stands, or the beginning of the file.
    pub span: Span,
}

/// `watch`.
#[derive(Debug, Clone)]
pub struct Watch {
    /// `roots`, at least one.
    pub roots: Vec<Text>,
    /// `undeclared`.
    pub undeclared: Undeclared,
    /// Where it stands.
    pub span: Span,
}

/// `access`: at least one of them.
#[derive(Debug, Clone)]
pub struct Access {
    /// `certificate`.
    pub certificate: Option<CertificateAccess>,
    /// `sudo`.
    pub sudo: Option<SudoAccess>,
    /// `account`.
    pub account: Option<AccountAccess>,
    /// Where it stands.
    pub span: Span,
}

/// `access.certificate`.
#[derive(Debug, Clone)]
pub struct CertificateAccess {
    /// `principals`; none: the account that logs in.
    pub principals: Vec<Text>,
    /// `source_address`.
    pub source_address: Vec<Text>,
    /// `valid_for`.
    pub valid_for_ms: u64,
    /// `revoke`.
    pub revoke: Revoke,
}

/// `access.sudo`.
#[derive(Debug, Clone)]
pub struct SudoAccess {
    /// `as`.
    pub run_as: String,
    /// `commands`, at least one.
    pub commands: Vec<String>,
}

/// `access.account`.
#[derive(Debug, Clone)]
pub struct AccountAccess {
    /// `name`.
    pub name: Text,
    /// `window`.
    pub window: Text,
}

/// `defaults`: for every step that does not say otherwise.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// `timeout`.
    pub timeout_ms: Option<u64>,
    /// `retry`.
    pub retry: Option<Retry>,
    /// `as`.
    pub account: Option<Text>,
    /// `shell`.
    pub shell: Option<ShellKind>,
    /// `env`; a step's own entries are added, and win.
    pub env: BTreeMap<String, Text>,
    /// `cwd`.
    pub cwd: Option<Text>,
}

/// `rollback`.
#[derive(Debug, Clone)]
pub struct Rollback {
    /// `strategy`.
    pub strategy: Strategy,
    /// `scope`.
    pub scope: Scope,
    /// `budget`.
    pub budget_ms: u64,
    /// `steps`, or the list that stands for the whole of `rollback`.
    pub steps: Vec<Step>,
    /// `verify`.
    pub verify: RollbackVerify,
}

/// `rollback.verify`.
#[derive(Debug, Clone)]
pub enum RollbackVerify {
    /// The prechecks again and the measured baseline.
    Again,
    /// These steps.
    Steps(Vec<Step>),
    /// Nothing.
    None,
}

/// A step. Its id is unique in the runbook (given, or made from its name or place).
#[derive(Debug, Clone)]
pub struct Step {
    /// Where the step stands.
    pub span: Span,
    /// Where it is listed. `undo` steps have the phase `rollback`.
    pub phase: Phase,
    /// `id`, or the one made for it, at the place of what it was made from. An `undo` step's is empty unless it was
    /// given; its real id is derived from the step that it takes back.
    pub id: Text,
    /// The id was written, not made.
    pub id_given: bool,
    /// `name`, as written; may hold templates.
    pub name: Option<Text>,
    /// The one action key.
    pub action: Action,
    /// `needs`; `None` is the step before it in the list.
    pub needs: Option<Vec<Text>>,
    /// `when`, an expression.
    pub when: Option<Text>,
    /// `on`.
    pub on: On,
    /// `once`.
    pub once: Option<Once>,
    /// `as`.
    pub account: Option<Text>,
    /// `cwd`.
    pub cwd: Option<Text>,
    /// `env`.
    pub env: BTreeMap<String, Text>,
    /// `stdin`.
    pub stdin: Option<Text>,
    /// `timeout`.
    pub timeout_ms: Option<u64>,
    /// `retry`.
    pub retry: Option<Retry>,
    /// `expect`.
    pub expect: Option<Expect>,
    /// `unless`.
    pub unless: Option<Command>,
    /// `idempotent`.
    pub idempotent: Option<bool>,
    /// `each`.
    pub each: Option<Each>,
    /// `changes`.
    pub changes: Vec<Text>,
    /// `undo`, in the order in which they run.
    pub undo: Vec<Step>,
    /// `irreversible`.
    pub irreversible: Option<Text>,
    /// `on_failure`.
    pub on_failure: Option<OnFailure>,
    /// `sensitive`.
    pub sensitive: bool,
}

impl Step {
    /// Whether it can change nothing by what it is: pauses, questions, downloads, and every step of `prechecks` and
    /// `verify`. A packaged action's kind is not known here.
    pub fn changes_nothing(&self) -> bool {
        matches!(self.phase, Phase::Prechecks | Phase::Verify)
            || matches!(
                self.action,
                Action::Wait { .. } | Action::WaitUntil { .. } | Action::Confirm { .. } | Action::Download { .. }
            )
    }
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Action {
    /// `run`.
    Run(Command),
    /// `script`.
    Script {
        /// The local file, relative to the runbook; may not hold templates.
        file: Text,
        /// Arguments.
        args: Vec<Text>,
        /// The program that reads it.
        interpreter: Option<Text>,
    },
    /// `upload`.
    Upload {
        /// The local file or folder, relative to the runbook; may not hold templates.
        from: Text,
        /// Absolute path on the host.
        to: Text,
        /// Permission bits.
        mode: Option<u32>,
        /// Owner.
        owner: Option<Text>,
        /// Group.
        group: Option<Text>,
        /// The digest that the file must have.
        sha256: Option<Spanned<runbook_model::Sha256>>,
    },
    /// `download`.
    Download {
        /// Absolute path on the host.
        from: Text,
        /// More is a failure. `None` is the default.
        max_bytes: Option<u64>,
    },
    /// `uses`.
    Uses {
        /// The action's name.
        name: Text,
        /// `with`, values as written (texts may hold templates), by parameter.
        with: BTreeMap<String, Spanned<Value>>,
    },
    /// `reboot`.
    Reboot {
        /// `None` is the default.
        timeout_ms: Option<u64>,
        /// Zero unless given.
        settle_ms: u64,
    },
    /// `wait: <duration>`.
    Wait {
        /// So long.
        ms: u64,
    },
    /// `wait: {for, until, every}`.
    WaitUntil {
        /// At most so long.
        for_ms: u64,
        /// The command.
        until: Text,
        /// Between tries; 5 s unless given.
        every_ms: u64,
    },
    /// `confirm`.
    Confirm {
        /// The question.
        text: Text,
    },
}

impl Action {
    /// The key under which it was written.
    pub fn key(&self) -> &'static str {
        match self {
            Action::Run(_) => "run",
            Action::Script { .. } => "script",
            Action::Upload { .. } => "upload",
            Action::Download { .. } => "download",
            Action::Uses { .. } => "uses",
            Action::Reboot { .. } => "reboot",
            Action::Wait { .. } | Action::WaitUntil { .. } => "wait",
            Action::Confirm { .. } => "confirm",
        }
    }
}

/// A command: the value of `run` and `unless`.
#[derive(Debug, Clone)]
pub enum Command {
    /// A text for a shell.
    Shell {
        /// The text.
        text: Text,
        /// The step's `shell`; `None` is `defaults.shell`, then the host's own.
        shell: Option<ShellKind>,
        /// `strict`, true unless the step says otherwise.
        strict: bool,
    },
    /// An argument vector, at least one.
    Argv(Vec<Text>),
}

/// `on`.
#[derive(Debug, Clone)]
pub enum On {
    /// The host itself.
    Host,
    /// `controller`.
    Controller,
    /// `host:<name>`.
    Named(Text),
}

/// `each`.
#[derive(Debug, Clone)]
pub enum Each {
    /// The items: texts, numbers, booleans, or mappings and lists of them.
    Items(Vec<Spanned<Value>>),
    /// The name of a parameter of type `list`.
    Parameter(Text),
}

/// `retry`. What is not given is `None`; [`Retry::resolved`] fills it.
#[derive(Debug, Clone)]
pub struct Retry {
    /// `attempts`, at least 1.
    pub attempts: u32,
    /// `delay`.
    pub delay_ms: Option<u64>,
    /// `backoff` in thousandths, at least 1000.
    pub backoff_permille: Option<u32>,
    /// `max_delay`.
    pub delay_ms_max: Option<u64>,
    /// `on`, sorted, each once.
    pub on: Option<Vec<RetryClass>>,
    /// Where it stands.
    pub span: Span,
}

impl Retry {
    /// The plan's form. Defaults: delay 1 s, backoff 2.0, max_delay 5 minutes (or the delay, when that is longer), on
    /// all classes.
    pub fn resolved(&self) -> runbook_model::plan::Retry {
        let delay_ms = self.delay_ms.unwrap_or(1_000);
        runbook_model::plan::Retry {
            attempts: self.attempts,
            delay_ms,
            backoff_permille: self.backoff_permille.unwrap_or(2_000),
            delay_ms_max: self.delay_ms_max.unwrap_or(delay_ms.max(300_000)),
            on: self.on.clone().unwrap_or_else(|| {
                vec![
                    RetryClass::Exit,
                    RetryClass::Timeout,
                    RetryClass::Connection,
                    RetryClass::LockHeld,
                    RetryClass::Throttled,
                ]
            }),
        }
    }
}

/// `expect`.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// `exit_code`, sorted, each once; `None` is 0.
    pub exit_codes: Option<Vec<i32>>,
    /// `stdout`.
    pub stdout: Option<ExpectText>,
    /// `stderr`.
    pub stderr: Option<ExpectText>,
}

/// `expect.stdout`, `expect.stderr`; at least one is given.
#[derive(Debug, Clone, Default)]
pub struct ExpectText {
    /// `equals`.
    pub equals: Option<Text>,
    /// `contains`: one or a list.
    pub contains: Vec<Text>,
    /// `matches`, a regular expression.
    pub matches: Option<Text>,
    /// `not_matches`, a regular expression.
    pub not_matches: Option<Text>,
    /// `empty`.
    pub empty: Option<bool>,
    /// `json`, an expression.
    pub json: Option<Text>,
}

impl Expect {
    /// The plan's form.
    pub fn resolved(&self) -> runbook_model::plan::Expect {
        let text = |text: &ExpectText| runbook_model::plan::ExpectText {
            equals: text.equals.as_ref().map(|t| runbook_model::plan::Template(t.value.clone())),
            contains: text.contains.iter().map(|t| runbook_model::plan::Template(t.value.clone())).collect(),
            matches: text.matches.as_ref().map(|t| t.value.clone()),
            not_matches: text.not_matches.as_ref().map(|t| t.value.clone()),
            empty: text.empty,
            json: text.json.as_ref().map(|t| runbook_model::plan::Expression(t.value.clone())),
        };
        runbook_model::plan::Expect {
            exit_codes: self.exit_codes.clone().unwrap_or_else(|| vec![0]),
            stdout: self.stdout.as_ref().map(text),
            stderr: self.stderr.as_ref().map(text),
        }
    }
}
