//! A validated packaged action.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::runbook::{Action, Expect, Parameter, Retry};
use crate::source::{Source, Spanned, Text};

/// `schema: action/v1`.
#[derive(Debug, Clone)]
pub struct ActionFile {
    /// The file.
    pub source: Arc<Source>,
    /// `name`.
    pub name: Text,
    /// `kind`.
    pub kind: Kind,
    /// `description`.
    pub description: Option<Text>,
    /// `parameters`, by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// What it does.
    pub work: ActionWork,
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
    /// `expect`; never for snapshots.
    pub expect: Option<Expect>,
    /// `unless`; tasks only.
    pub unless: Option<ByOs>,
    /// `idempotent`; tasks only.
    pub idempotent: bool,
    /// `changes`; tasks only.
    pub changes: Vec<Text>,
    /// `undo`; tasks only.
    pub undo: Option<ByOs>,
    /// `irreversible`; tasks only.
    pub irreversible: Option<Text>,
    /// `sensitive`.
    pub sensitive: bool,
}

/// `kind` of a packaged action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Looks, changes nothing.
    Check,
    /// May change something.
    Task,
    /// Takes a snapshot and brings it back.
    Snapshot,
}

impl Kind {
    /// The word that people write.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Check => "check",
            Kind::Task => "task",
            Kind::Snapshot => "snapshot",
        }
    }
}

/// What a packaged action does.
#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant, reason = "a program has a few dozen of them")]
pub enum ActionWork {
    /// Checks and tasks.
    Once(ByOs),
    /// Snapshots: each operation for the same systems.
    Snapshot {
        /// Takes it and prints its reference.
        take: ByOs,
        /// Succeeds when it exists, is whole and belongs to this run.
        probe: ByOs,
        /// Brings it back.
        restore: ByOs,
        /// Removes it.
        release: ByOs,
    },
}

/// One action for each kind of system; at least one is there.
#[derive(Debug, Clone)]
pub struct ByOs {
    /// On POSIX hosts. `Run`, `Script`, `Upload`, `Download`, `Reboot`, `Wait` or `WaitUntil`; paths are relative to
    /// the action's file.
    pub posix: Option<Spanned<Action>>,
    /// On Windows hosts.
    pub windows: Option<Spanned<Action>>,
}
