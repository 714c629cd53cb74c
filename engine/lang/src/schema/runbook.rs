//! `runbook/v1`.
#![allow(dead_code, reason = "only the schemas of these types are used")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::values::{
    ActionName, Anything, Backoff, Digest, Duration, Flag, HostPath, Id, Mode, Name, On, OneOrMany, Optional, Share,
    Size, Text,
};

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Runbook {
    /// The kind and version of this file.
    schema: String,
    /// The runbook's name.
    name: Name,
    /// One line for people.
    title: Option<Text>,
    /// Why the maintenance is done.
    tier: Option<Tier>,
    /// Controls that it serves, for the evidence.
    controls: Option<Vec<Text>>,
    /// Values that may differ from run to run.
    parameters: Option<BTreeMap<String, Parameter>>,
    /// Where secrets come from, never their values.
    secrets: Option<BTreeMap<String, Secret>>,
    /// The hosts, and how many at once.
    targets: Option<Targets>,
    /// Roots under which undeclared changes are looked for.
    watch: Option<Watch>,
    /// For every step that does not say otherwise.
    defaults: Option<Defaults>,
    /// Why the whole change cannot be taken back.
    irreversible: Option<Text>,
    /// A read-only look at the host; a failure changes nothing.
    prechecks: Option<Vec<Step>>,
    /// Takes and proves the way back.
    snapshot: Option<Vec<Step>>,
    /// The change.
    #[schemars(length(min = 1))]
    execute: Vec<Step>,
    /// Read-only proof that the change is good.
    verify: Option<Vec<Step>>,
    /// How hosts are taken back.
    rollback: Option<RollbackForm>,
    /// What the end of a host's window means.
    window: Option<WindowEnd>,
    /// Access that the run has on its hosts while it works there.
    access: Option<Access>,
    /// Runs wherever `snapshot` or `execute` began, whatever happened.
    r#finally: Option<Vec<Step>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Tier {
    /// The regular window.
    Routine,
    /// A fault is mended.
    Corrective,
    /// It cannot wait for a window.
    Emergency,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Parameter {
    /// What it is.
    r#type: Type,
    /// Its value when none is given.
    default: Option<Anything>,
    /// The values that are allowed.
    r#enum: Option<Vec<Anything>>,
    /// A regular expression that the text must match.
    pattern: Option<Text>,
    /// The least value, or length.
    minimum: Option<Text>,
    /// The greatest value, or length.
    maximum: Option<Text>,
    /// For people.
    description: Option<Text>,
    /// A value must be given.
    required: Option<Flag>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Type {
    String,
    Integer,
    Number,
    Boolean,
    Duration,
    Size,
    Path,
    List,
    Secret,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Secret {
    /// An environment variable.
    Env(Text),
    /// A file.
    File(Text),
    /// A program that prints it.
    Command(#[schemars(length(min = 1))] Vec<Text>),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Targets {
    /// Names, groups, globs, labels and flags: `fileservers & cui & !site=hq`.
    select: Option<Text>,
    /// Who goes together: the first entry, then the next; the last one repeats.
    batch: Option<OneOrMany<Share>>,
    /// Hosts worked on at once inside a batch.
    #[schemars(range(min = 1, max = 10_000))]
    parallel: Option<u32>,
    /// Pause between batches.
    soak: Option<Duration>,
    /// How many hosts may fail before no further one is begun.
    failure_budget: Option<Share>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Watch {
    /// Folders or files.
    #[schemars(length(min = 1))]
    roots: Vec<HostPath>,
    /// What a change means that no step declared.
    undeclared: Option<Undeclared>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Undeclared {
    Report,
    Fail,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Defaults {
    /// Limit on one attempt.
    timeout: Option<Duration>,
    /// When an attempt is repeated.
    retry: Option<Retry>,
    /// The account to become.
    r#as: Option<Text>,
    /// The shell of `run`.
    shell: Option<Shell>,
    /// Environment.
    env: Option<BTreeMap<String, Optional>>,
    /// Working folder.
    cwd: Option<Text>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Shell {
    Sh,
    Bash,
    Powershell,
    Cmd,
}

/// A step: exactly one of `run`, `script`, `upload`, `download`, `uses`, `reboot`, `wait` and `confirm`, and options.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = one_action)]
pub(super) struct Step {
    /// A text for the host's shell, or an argument vector without one.
    run: Option<Command>,
    /// A local file that is sent and run.
    script: Option<ScriptForm>,
    /// A local file or folder to the host.
    upload: Option<Upload>,
    /// A file from the host into the evidence.
    download: Option<Download>,
    /// A packaged action.
    uses: Option<ActionName>,
    /// Reboots, and waits until the host is back.
    reboot: Option<Option<Reboot>>,
    /// Waits, or waits until a command succeeds.
    wait: Option<WaitForm>,
    /// Asks a person.
    confirm: Option<Text>,
    /// The packaged action's parameters.
    with: Option<BTreeMap<String, Anything>>,
    /// The shell of `run`.
    shell: Option<Shell>,
    /// With `set -eu`; true unless said otherwise.
    strict: Option<Flag>,
    /// Names the step.
    id: Option<Id>,
    /// Shown to people.
    name: Option<Text>,
    /// Ids this one waits for; the step before it when left out.
    needs: Option<OneOrMany<Text>>,
    /// An expression; false skips the step.
    when: Option<Text>,
    /// Where it runs.
    on: Option<On>,
    /// Once instead of per host.
    once: Option<Once>,
    /// The account to become.
    r#as: Option<Text>,
    /// Working folder.
    cwd: Option<Text>,
    /// Environment; never on a command line.
    env: Option<BTreeMap<String, Optional>>,
    /// Standard input.
    stdin: Option<Text>,
    /// Limit on one attempt.
    timeout: Option<Duration>,
    /// When an attempt is repeated.
    retry: Option<Retry>,
    /// What counts as success.
    expect: Option<Expect>,
    /// A read-only command; exit 0 means that the step is already done.
    unless: Option<Command>,
    /// An attempt whose outcome is unknown may be repeated.
    idempotent: Option<Flag>,
    /// A list, or `{{param.NAME}}`; one step per item.
    each: Option<Each>,
    /// Globs of what it may change.
    changes: Option<Vec<HostPath>>,
    /// Takes this step back.
    #[schemars(length(min = 1))]
    undo: Option<OneOrMany<Box<Step>>>,
    /// Why it cannot be taken back.
    irreversible: Option<Text>,
    /// What a failure means.
    on_failure: Option<OnFailure>,
    /// Keep the output out of the evidence.
    sensitive: Option<Flag>,
}

/// Says that exactly one action key is there.
fn one_action(schema: &mut schemars::Schema) {
    let each: Vec<_> = crate::read::command::ACTIONS.iter().map(|key| serde_json::json!({"required": [key]})).collect();
    schema.insert("oneOf".into(), each.into());
}

#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum Command {
    /// For a shell.
    Shell(Text),
    /// An argument vector.
    Argv(#[schemars(length(min = 1))] Vec<Text>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum ScriptForm {
    /// The file.
    File(Text),
    /// The file with arguments.
    Script(Script),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Script {
    /// The local file.
    file: Text,
    /// Its arguments.
    args: Option<Vec<Text>>,
    /// The program that reads it.
    interpreter: Option<Text>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Upload {
    /// The local file or folder.
    from: Text,
    /// Absolute path on the host.
    to: HostPath,
    /// Permission bits, for example '0644'.
    mode: Option<Mode>,
    /// Owner on the host.
    owner: Option<Text>,
    /// Group on the host.
    group: Option<Text>,
    /// The digest that the file must have.
    sha256: Option<Digest>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Download {
    /// Absolute path on the host.
    from: HostPath,
    /// More is a failure.
    max_size: Option<Size>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Reboot {
    /// How long until the host must answer.
    timeout: Option<Duration>,
    /// Pause after it answers.
    settle: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum WaitForm {
    /// So long.
    Pause(Duration),
    /// Until a command succeeds.
    Wait(Wait),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Wait {
    /// At most so long.
    r#for: Duration,
    /// The command that is tried.
    until: Option<Text>,
    /// Pause between tries.
    every: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Once {
    Run,
    Batch,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Each {
    /// A list parameter.
    Parameter(String),
    /// The items.
    Items(#[schemars(length(min = 1))] Vec<Anything>),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum OnFailure {
    Rollback,
    Block,
    Halt,
    Continue,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Retry {
    /// Attempts in all.
    #[schemars(range(min = 1, max = 10_000))]
    attempts: u32,
    /// Before the second attempt.
    delay: Option<Duration>,
    /// Growth of the delay.
    backoff: Option<Backoff>,
    /// The longest delay.
    max_delay: Option<Duration>,
    /// Which failures are repeated.
    on: Option<OneOrMany<RetryOn>>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum RetryOn {
    Exit,
    Timeout,
    Connection,
    LockHeld,
    Throttled,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Expect {
    /// 0 unless said otherwise.
    exit_code: Option<OneOrMany<i64>>,
    /// Of standard output.
    stdout: Option<ExpectText>,
    /// Of standard error.
    stderr: Option<ExpectText>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ExpectText {
    /// The whole of it, a last line end aside.
    equals: Option<Text>,
    /// Somewhere in it.
    contains: Option<OneOrMany<Text>>,
    /// A regular expression that is found in it.
    matches: Option<Text>,
    /// A regular expression that is not found in it.
    not_matches: Option<Text>,
    /// White space alone, or something more.
    empty: Option<Flag>,
    /// It is JSON, and this expression holds of it.
    json: Option<Text>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct WindowEnd {
    /// What becomes of a host that is not through when its window ends; `finish` when it is not said.
    at_end: Option<AtEnd>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Access {
    /// The run logs in with a certificate that is minted for it, one for each host.
    certificate: Option<CertificateAccess>,
    /// The account that logs in may use sudo meanwhile.
    sudo: Option<SudoAccess>,
    /// A vendor's account is open meanwhile.
    account: Option<AccountAccess>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct CertificateAccess {
    /// Names that it is good for, with templates over `host`; the account that logs in when it is not said.
    #[schemars(length(min = 1, max = 20))]
    principals: Option<Vec<Text>>,
    /// Addresses and networks from which it counts.
    #[schemars(length(min = 1, max = 20))]
    source_address: Option<Vec<Text>>,
    /// For how long at most, and never past the window's end; 8h when it is not said.
    valid_for: Option<Duration>,
    /// Whether hosts must be able to revoke it; `required` when it is not said.
    revoke: Option<Revoke>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Revoke {
    /// A host that cannot is not begun.
    Required,
    /// On a host that cannot it counts until its own end.
    WhenPossible,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SudoAccess {
    /// The account to become; `root` when it is not said.
    r#as: Option<Text>,
    /// Commands as in sudoers; `ALL` when it is not said.
    #[schemars(length(min = 1, max = 50))]
    commands: Option<Vec<Text>>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AccountAccess {
    /// Its name on the hosts.
    name: Text,
    /// The window (of windows.yaml) in which it may be open.
    window: Text,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum AtEnd {
    /// It is brought to its end.
    Finish,
    /// It is stopped while the way back still fits, and taken back.
    Rollback,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum RollbackForm {
    /// Extra steps.
    Steps(Vec<Step>),
    /// Rules.
    Rules(Rollback),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Rollback {
    /// How a host is taken back.
    strategy: Option<Strategy>,
    /// Who is taken back when one host fails.
    scope: Option<Scope>,
    /// The limit on taking one host back.
    budget: Option<Duration>,
    /// Run after undo and restore.
    steps: Option<Vec<Step>>,
    /// What proves that the host is back as it was.
    verify: Option<VerifyForm>,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "kebab-case")]
enum Strategy {
    Undo,
    Restore,
    UndoThenRestore,
    Steps,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Scope {
    Host,
    Batch,
    Run,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum VerifyForm {
    /// By itself.
    Word(VerifyWord),
    /// These steps.
    Steps(#[schemars(length(min = 1))] Vec<Step>),
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum VerifyWord {
    /// The prechecks again and the measured baseline.
    Again,
    /// Nothing.
    None,
}
