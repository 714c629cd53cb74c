//! A packaged action.

use super::fields::{Fields, Problems};
use super::{command, parameter, runbook, scalar, step, texts};
use crate::action::{ActionFile, ActionWork, ByOs, Kind};
use crate::codes::Code;
use crate::runbook::{Action, Command};
use crate::source::{Spanned, Text};
use crate::yaml::{Content, Node};

/// The `schema` of a packaged action.
pub(crate) const SCHEMA: &str = "action/v1";

pub(crate) const KEYS: &[&str] = &[
    "schema",
    "name",
    "kind",
    "description",
    "parameters",
    "posix",
    "windows",
    "take",
    "probe",
    "restore",
    "release",
    "expect",
    "as",
    "cwd",
    "env",
    "stdin",
    "timeout",
    "retry",
    "unless",
    "idempotent",
    "changes",
    "undo",
    "irreversible",
    "sensitive",
];

/// The operations of a snapshot.
pub(crate) const OPERATIONS: &[&str] = &["take", "probe", "restore", "release"];
/// The systems.
pub(crate) const SYSTEMS: &[&str] = &["posix", "windows"];
pub(crate) const KINDS: &[(&str, Kind)] = &[("check", Kind::Check), ("task", Kind::Task), ("snapshot", Kind::Snapshot)];

/// The actions that an action file's variants may have.
pub(crate) const VARIANT_KEYS: &[&str] = &["run", "script", "upload", "download", "reboot", "wait", "shell", "strict"];
const READ_ONLY_VARIANTS: &[&str] = &["run", "script", "download", "wait"];
const TASK_VARIANTS: &[&str] = &["run", "script", "upload", "download", "reboot", "wait"];
/// The keys of an operation of a snapshot.
pub(crate) const OPERATION_KEYS: &[&str] = &["run", "shell", "strict"];

/// The action in `node`, as far as it could be read.
pub(crate) fn action(node: &Node, problems: &mut Problems) -> Option<ActionFile> {
    let fields = Fields::of(node, "an action", KEYS, &[], problems)?;
    runbook::schema(&fields, "an action", SCHEMA, problems);
    let name = fields.require("name", "an action", "disk-free", problems).and_then(|node| {
        let name = scalar::literal(node, "name", problems)?;
        let plain = |name: &str| command::is_action_name(name) && !name.contains('/');
        scalar::name(name, "the name of an action", plain, "small letters, digits, `-` and `_`", problems)
    });
    let kind = fields
        .require("kind", "an action", "check", problems)
        .and_then(|node| scalar::word(node, "kind", KINDS, problems))?;
    let of_kind = format!("for an action of kind {}", kind.name());
    match kind {
        Kind::Check => fields.refuse(
            &["take", "probe", "restore", "release", "unless", "idempotent", "changes", "undo", "irreversible"],
            &of_kind,
            problems,
        ),
        Kind::Task => fields.refuse(OPERATIONS, &of_kind, problems),
        Kind::Snapshot => fields.refuse(
            &["expect", "stdin", "unless", "idempotent", "changes", "undo", "irreversible", "sensitive"],
            &of_kind,
            problems,
        ),
    }
    let work = match kind {
        Kind::Snapshot => snapshot(&fields, problems),
        Kind::Check => once(&fields, READ_ONLY_VARIANTS, problems).map(ActionWork::Once),
        Kind::Task => once(&fields, TASK_VARIANTS, problems).map(ActionWork::Once),
    };
    let mut text = |key: &str| fields.get(key, problems).and_then(|node| scalar::filled(node, key, problems));
    let (description, account, cwd, irreversible) =
        (text("description"), text("as"), text("cwd"), text("irreversible"));
    let mut flag =
        |key: &str| fields.get(key, problems).and_then(|node| scalar::boolean(node, key, problems)).unwrap_or(false);
    let (idempotent, sensitive) = (flag("idempotent"), flag("sensitive"));
    let main = match &work {
        Some(ActionWork::Once(main)) => Some(main.clone()),
        _ => None,
    };
    let mut beside = |key: &str, variants: &[&str]| {
        let node = fields.get(key, problems)?;
        by_os_or_any(node, key, variants, main.as_ref(), problems)
    };
    let unless = beside("unless", READ_ONLY_VARIANTS);
    let undo = beside("undo", TASK_VARIANTS);
    let file = ActionFile {
        source: problems.source.clone(),
        name: name.unwrap_or_else(|| Text::new(String::new(), node.span.clone())),
        kind,
        description,
        parameters: fields
            .get("parameters", problems)
            .map(|node| parameter::parameters(node, problems))
            .unwrap_or_default(),
        work: work.unwrap_or(ActionWork::Once(ByOs { posix: None, windows: None })),
        account,
        cwd,
        env: fields.get("env", problems).map(|node| step::env(node, problems)).unwrap_or_default(),
        stdin: fields.get("stdin", problems).and_then(|node| scalar::text(node, "stdin", problems)),
        timeout_ms: fields.get("timeout", problems).and_then(|node| scalar::positive_ms(node, "timeout", problems)),
        retry: fields.get("retry", problems).and_then(|node| step::retry(node, problems)),
        expect: fields.get("expect", problems).and_then(|node| step::expect(node, problems)),
        unless,
        idempotent,
        changes: fields
            .get("changes", problems)
            .map(|node| step::globs(node, "changes", "changes: [/etc/samba/**]", problems))
            .unwrap_or_default(),
        undo,
        irreversible,
        sensitive,
    };
    texts::check_action(&file, problems);
    Some(file)
}

/// `posix` and `windows` of a check or a task.
fn once(fields: &Fields<'_>, allowed: &[&str], problems: &mut Problems) -> Option<ByOs> {
    let mut variant = |key: &str| fields.get(key, problems).and_then(|node| variant(node, key, allowed, problems));
    let work = ByOs { posix: variant("posix"), windows: variant("windows") };
    if SYSTEMS.iter().all(|key| fields.entry(key).is_none()) {
        let place = fields.entry("name").map_or_else(|| fields.span.clone(), |entry| entry.key.span.clone());
        problems.error(Code::MissingKey, &place, "the action does nothing on any system").help =
            Some("add `posix: {run: …}` or `windows: {run: …}`".into());
        return None;
    }
    Some(work)
}

/// `{run: …}` and the like.
fn variant(node: &Node, key: &str, allowed: &[&str], problems: &mut Problems) -> Option<Spanned<Action>> {
    let what = format!("`{key}`");
    let fields = Fields::of(node, &what, VARIANT_KEYS, &[], problems)?;
    command::action(&fields, &what, allowed, problems).map(|action| Spanned::new(action, node.span.clone()))
}

/// `unless` and `undo`: `{posix: …, windows: …}`, or one that serves every system of the action.
fn by_os_or_any(
    node: &Node,
    key: &str,
    allowed: &[&str],
    main: Option<&ByOs>,
    problems: &mut Problems,
) -> Option<ByOs> {
    let split = matches!(&node.content, Content::Mapping(entries)
        if entries.iter().any(|entry| SYSTEMS.contains(&entry.key.as_str())));
    if split {
        let fields = Fields::of(node, &format!("`{key}`"), SYSTEMS, &[], problems)?;
        let mut one =
            |system: &str| fields.get(system, problems).and_then(|node| variant(node, system, allowed, problems));
        return Some(ByOs { posix: one("posix"), windows: one("windows") });
    }
    let one = if let Content::Mapping(_) = node.content {
        variant(node, key, allowed, problems)?
    } else {
        let command = command::command(node, key, None, true, problems)?;
        Spanned::new(Action::Run(command), node.span.clone())
    };
    Some(ByOs {
        posix: main.and_then(|main| main.posix.as_ref()).map(|_| one.clone()),
        windows: main.and_then(|main| main.windows.as_ref()).map(|_| one.clone()),
    })
}

/// The four operations: `posix: {take: …, …}` or `take: {posix: …}`.
fn snapshot(fields: &Fields<'_>, problems: &mut Problems) -> Option<ActionWork> {
    let by_operation = OPERATIONS.iter().any(|key| fields.entry(key).is_some());
    let by_system: Vec<&str> = SYSTEMS.iter().copied().filter(|key| fields.entry(key).is_some()).collect();
    let place = fields.entry("name").map_or_else(|| fields.span.clone(), |entry| entry.key.span.clone());
    let before = problems.list.len();
    let mut found: [ByOs; 4] = std::array::from_fn(|_| ByOs { posix: None, windows: None });
    if by_operation {
        fields.refuse(SYSTEMS, "beside `take`, `probe`, `restore` and `release`", problems);
        for (slot, key) in found.iter_mut().zip(OPERATIONS) {
            let Some(node) = fields.require(key, "a snapshot", "{posix: {run: …}}", problems) else { continue };
            let Some(systems) = Fields::of(node, &format!("`{key}`"), SYSTEMS, &[], problems) else { continue };
            slot.posix = systems.get("posix", problems).and_then(|node| operation(node, key, problems));
            slot.windows = systems.get("windows", problems).and_then(|node| operation(node, key, problems));
        }
    } else {
        for system in &by_system {
            let Some(node) = fields.get(system, problems) else { continue };
            let what = format!("`{system}` of a snapshot");
            let Some(operations) = Fields::of(node, &what, OPERATIONS, &[], problems) else { continue };
            for (slot, key) in found.iter_mut().zip(OPERATIONS) {
                let Some(node) = operations.require(key, &what, "{run: …}", problems) else { continue };
                let slot = if *system == "posix" { &mut slot.posix } else { &mut slot.windows };
                *slot = operation(node, key, problems);
            }
        }
        if by_system.is_empty() {
            problems.error(Code::MissingKey, &place, "the snapshot has no operations").help =
                Some("add `posix: {take: …, probe: …, restore: …, release: …}`".into());
        }
    }
    if problems.list.len() > before {
        return None;
    }
    for (system, there) in [
        ("posix", found.iter().map(|o| o.posix.is_some()).collect::<Vec<_>>()),
        ("windows", found.iter().map(|o| o.windows.is_some()).collect()),
    ] {
        if there.iter().any(|there| *there) && !there.iter().all(|there| *there) {
            let missing: Vec<&str> =
                OPERATIONS.iter().zip(&there).filter(|(_, there)| !**there).map(|(key, _)| *key).collect();
            problems
                .error(Code::MissingKey, &place, format!("for {system} the snapshot has no {}", missing.join(", ")))
                .help = Some("a snapshot needs all four operations for a system".into());
        }
    }
    if found.iter().all(|operation| operation.posix.is_none() && operation.windows.is_none()) {
        problems.error(Code::MissingKey, &place, "the snapshot has no operations for any system");
    }
    let [take, probe, restore, release] = found;
    Some(ActionWork::Snapshot { take, probe, restore, release })
}

/// An operation: a text for the shell, or `{run: text}`.
fn operation(node: &Node, key: &str, problems: &mut Problems) -> Option<Spanned<Action>> {
    let command = if let Content::Mapping(_) = node.content {
        let what = format!("`{key}`");
        let fields = Fields::of(node, &what, OPERATION_KEYS, &[], problems)?;
        let shell = command::shell(&fields, problems);
        let strict = fields.get("strict", problems).and_then(|node| scalar::boolean(node, "strict", problems));
        let text = fields
            .require("run", &what, "btrfs subvolume snapshot …", problems)
            .and_then(|node| scalar::filled(node, "run", problems))?;
        Command::Shell { text, shell, strict: strict.unwrap_or(true) }
    } else {
        Command::Shell { text: scalar::filled(node, key, problems)?, shell: None, strict: true }
    };
    Some(Spanned::new(Action::Run(command), node.span.clone()))
}
