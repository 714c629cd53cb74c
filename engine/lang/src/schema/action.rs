//! `action/v1`.
#![allow(dead_code, reason = "only the schemas of these types are used")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::runbook::{Command, Download, Expect, Parameter, Reboot, Retry, ScriptForm, Shell, Upload, WaitForm};
use super::values::{ActionName, Duration, Flag, HostPath, Optional, Text};

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = some_work)]
pub(super) struct Action {
    /// The kind and version of this file.
    schema: String,
    /// What `uses` calls it.
    name: ActionName,
    /// Whether it looks, changes, or takes a snapshot.
    kind: Kind,
    /// For people.
    description: Option<Text>,
    /// What `with` gives it.
    parameters: Option<BTreeMap<String, Parameter>>,
    /// On POSIX hosts.
    posix: Option<VariantForm>,
    /// On Windows hosts.
    windows: Option<VariantForm>,
    /// Takes a snapshot and prints its reference.
    take: Option<Systems>,
    /// Succeeds when the snapshot exists, is whole and belongs to this run.
    probe: Option<Systems>,
    /// Brings the snapshot back.
    restore: Option<Systems>,
    /// Removes the snapshot.
    release: Option<Systems>,
    /// What counts as success.
    expect: Option<Expect>,
    /// The account to become.
    r#as: Option<Text>,
    /// Working folder.
    cwd: Option<Text>,
    /// Environment.
    env: Option<BTreeMap<String, Optional>>,
    /// Standard input.
    stdin: Option<Text>,
    /// Limit on one attempt.
    timeout: Option<Duration>,
    /// When an attempt is repeated.
    retry: Option<Retry>,
    /// A read-only command; exit 0 means that the task is already done.
    unless: Option<BesideForm>,
    /// An attempt whose outcome is unknown may be repeated.
    idempotent: Option<Flag>,
    /// Globs of what it may change.
    changes: Option<Vec<HostPath>>,
    /// Takes the task back.
    undo: Option<BesideForm>,
    /// Why it cannot be taken back.
    irreversible: Option<Text>,
    /// Keep the output out of the evidence.
    sensitive: Option<Flag>,
}

/// Says that an action does something on some system.
fn some_work(schema: &mut schemars::Schema) {
    let each: Vec<_> = ["posix", "windows", "take"].iter().map(|key| serde_json::json!({"required": [key]})).collect();
    schema.insert("anyOf".into(), each.into());
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Kind {
    /// Looks, changes nothing.
    Check,
    /// May change something.
    Task,
    /// Takes a snapshot and brings it back.
    Snapshot,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum VariantForm {
    /// Of a check or task.
    Once(Variant),
    /// Of a snapshot.
    Snapshot(Operations),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Variant {
    /// A text for the shell, or an argument vector.
    run: Option<Command>,
    /// A file beside the action that is sent and run.
    script: Option<ScriptForm>,
    /// A file beside the action to the host.
    upload: Option<Upload>,
    /// A file from the host into the evidence.
    download: Option<Download>,
    /// Reboots.
    reboot: Option<Option<Reboot>>,
    /// Waits.
    wait: Option<WaitForm>,
    /// The shell of `run`.
    shell: Option<Shell>,
    /// With `set -eu`.
    strict: Option<Flag>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Operations {
    /// Takes it and prints its reference.
    take: OperationForm,
    /// Succeeds when it is there and whole.
    probe: OperationForm,
    /// Brings it back.
    restore: OperationForm,
    /// Removes it.
    release: OperationForm,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Systems {
    /// On POSIX hosts.
    posix: Option<OperationForm>,
    /// On Windows hosts.
    windows: Option<OperationForm>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum OperationForm {
    /// The text.
    Text(Text),
    /// The text and its shell.
    Operation(Operation),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Operation {
    /// The text.
    run: Text,
    /// Its shell.
    shell: Option<Shell>,
    /// With `set -eu`.
    strict: Option<Flag>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum BesideForm {
    /// On every system.
    Command(Command),
    /// On every system.
    Any(Variant),
    /// By system.
    Systems(VariantSystems),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct VariantSystems {
    /// On POSIX hosts.
    posix: Option<Variant>,
    /// On Windows hosts.
    windows: Option<Variant>,
}
