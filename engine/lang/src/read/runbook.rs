//! A whole runbook.

use runbook_model::plan::{AtEnd, Phase, Scope, Strategy, Tier, Undeclared};
use runbook_model::units::Share;

use super::fields::{Fields, Problems};
use super::graph::{assign_ids, check_needs};
use super::{access, command, parameter, scalar, step, texts};
use crate::codes::Code;
use crate::runbook::{Action, Defaults, Each, ParameterKind, Rollback, RollbackVerify, Runbook, Step, Targets, Watch};
use crate::selector;
use crate::similar;
use crate::source::{Span, Text};
use crate::yaml::{Content, Node, shown};

/// The `schema` of a runbook.
pub(crate) const SCHEMA: &str = "runbook/v1";

pub(crate) const KEYS: &[&str] = &[
    "schema",
    "name",
    "title",
    "tier",
    "controls",
    "parameters",
    "secrets",
    "targets",
    "watch",
    "defaults",
    "irreversible",
    "prechecks",
    "snapshot",
    "execute",
    "verify",
    "rollback",
    "window",
    "access",
    "finally",
];

/// Keys that only a later version supports.
pub(crate) const KEYS_LATER: &[(&str, &str)] = &[
    ("windows", "windows are written in `windows.yaml`, for all runbooks"),
    ("approvals", "whoever runs the runbook approves it, for now"),
    ("schedule", "start the run by cron or a timer for now"),
    ("notify", "let the program that starts the run tell people for now"),
];

pub(crate) const TIERS: &[(&str, Tier)] =
    &[("routine", Tier::Routine), ("corrective", Tier::Corrective), ("emergency", Tier::Emergency)];

/// Checks `schema`.
pub(crate) fn schema(fields: &Fields<'_>, what: &str, wanted: &str, problems: &mut Problems) {
    let Some(text) =
        fields.require("schema", what, wanted, problems).and_then(|node| scalar::text(node, "schema", problems))
    else {
        return;
    };
    if text.value != wanted {
        problems.error(Code::Schema, &text.span, format!("`schema` is `{}`", shown(&text.value))).help =
            Some(format!("this program reads `{wanted}` here"));
    }
}

/// Whether `name` can be a runbook's.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// The runbook in `node`, as far as it could be read.
pub(crate) fn runbook(node: &Node, problems: &mut Problems) -> Option<Runbook> {
    let fields = Fields::of(node, "a runbook", KEYS, KEYS_LATER, problems)?;
    schema(&fields, "a runbook", SCHEMA, problems);
    let name = fields.require("name", "a runbook", "restart-web", problems).and_then(|node| {
        let name = scalar::literal(node, "name", problems)?;
        scalar::name(name, "the name of a runbook", is_name, "small letters, digits and `-`, at most 63", problems)
    });
    let mut text = |key: &str| fields.get(key, problems).and_then(|node| scalar::filled(node, key, problems));
    let (title, irreversible) = (text("title"), text("irreversible"));
    let tier = fields.get("tier", problems).and_then(|node| scalar::word(node, "tier", TIERS, problems));
    let controls = fields
        .get("controls", problems)
        .map(|node| scalar::text_list(node, "controls", "controls: [MA.L2-3.7.1]", problems))
        .unwrap_or_default();
    let parameters =
        fields.get("parameters", problems).map(|node| parameter::parameters(node, problems)).unwrap_or_default();
    let secrets = fields.get("secrets", problems).map(|node| parameter::secrets(node, problems)).unwrap_or_default();
    for (secret, reference) in &secrets {
        if let Some(parameter) = parameters.get(secret).filter(|parameter| parameter.kind == ParameterKind::Secret) {
            let problem = problems.error(
                Code::Conflict,
                &reference.span,
                format!("`{secret}` is both a secret and a parameter of type secret"),
            );
            *problem =
                problem.clone().label(&parameter.name.span, "the parameter").help("give one of them another name");
        }
    }
    let targets = targets(&fields, problems);
    let watch = fields.get("watch", problems).and_then(|node| watch(node, problems));
    let defaults = fields.get("defaults", problems).map(|node| defaults(node, problems)).unwrap_or_default();

    let mut phase = |key: &str, phase: Phase| {
        fields.get(key, problems).map(|node| step::steps(node, key, phase, problems)).unwrap_or_default()
    };
    let prechecks = phase("prechecks", Phase::Prechecks);
    let snapshot = phase("snapshot", Phase::Snapshot);
    let verify = phase("verify", Phase::Verify);
    let finally = phase("finally", Phase::Finally);
    let before = problems.list.len();
    let execute = fields
        .require("execute", "a runbook", "[{run: systemctl restart smbd}]", problems)
        .map(|node| step::steps(node, "execute", Phase::Execute, problems))
        .unwrap_or_default();
    if execute.is_empty() && problems.list.len() == before {
        let place = fields.entry("execute").map_or_else(|| node.span.clone(), |entry| entry.key.span.clone());
        problems.error(Code::MissingKey, &place, "`execute` has no step").help =
            Some("add the steps that make the change".into());
    }
    let rollback = rollback(fields.get("rollback", problems), problems);
    let at_end = fields.get("window", problems).map_or(AtEnd::Finish, |node| at_end(node, &irreversible, problems));
    let access = fields.get("access", problems).and_then(|node| access::access(node, problems));

    let mut runbook = Runbook {
        source: problems.source.clone(),
        name: name.unwrap_or_else(|| Text::new(String::new(), node.span.clone())),
        title,
        tier: tier.unwrap_or(Tier::Routine),
        controls,
        parameters,
        secrets,
        targets,
        watch,
        defaults,
        irreversible,
        prechecks,
        snapshot,
        execute,
        verify,
        rollback,
        at_end,
        access,
        finally,
    };
    let steps_read = problems.list.len() == before;
    check(&mut runbook, &fields, steps_read, problems);
    Some(runbook)
}

/// Steps that one runbook may have written out. Those that people write have a few dozen.
const STEPS_MAX: usize = 1_000;

/// What can only be seen in the whole. `all_steps_read` is false when a step of `execute` or `rollback` was left out.
fn check(runbook: &mut Runbook, fields: &Fields<'_>, all_steps_read: bool, problems: &mut Problems) {
    if runbook.steps().count() > STEPS_MAX {
        let span = Span::new(&runbook.source, 0..1);
        problems.error(Code::TooComplex, &span, format!("the runbook has more than {STEPS_MAX} steps")).help =
            Some("make several runbooks, or one step with `each`".into());
        return;
    }
    let mut none = Vec::new();
    let verify_steps = match &mut runbook.rollback.verify {
        RollbackVerify::Steps(steps) => steps,
        RollbackVerify::Again | RollbackVerify::None => &mut none,
    };
    assign_ids(
        &mut [
            &mut runbook.prechecks,
            &mut runbook.snapshot,
            &mut runbook.execute,
            &mut runbook.verify,
            &mut runbook.rollback.steps,
            verify_steps,
            &mut runbook.finally,
        ],
        problems,
    );
    let verify_steps = match &runbook.rollback.verify {
        RollbackVerify::Steps(steps) => steps.as_slice(),
        RollbackVerify::Again | RollbackVerify::None => &[],
    };
    check_needs(
        &[
            (Phase::Prechecks, &runbook.prechecks),
            (Phase::Snapshot, &runbook.snapshot),
            (Phase::Execute, &runbook.execute),
            (Phase::Verify, &runbook.verify),
            (Phase::Rollback, &runbook.rollback.steps),
            (Phase::Rollback, verify_steps),
            (Phase::Finally, &runbook.finally),
        ],
        problems,
    );
    check_each(runbook, problems);
    texts::check_runbook(runbook, problems);
    if all_steps_read {
        check_way_back(runbook, fields, problems);
    }
}

/// `each` of a parameter: it exists and is a list.
fn check_each(runbook: &Runbook, problems: &mut Problems) {
    for step in runbook.steps() {
        let Some(Each::Parameter(name)) = &step.each else { continue };
        match runbook.parameters.get(&name.value) {
            None => {
                let hint =
                    similar::hint(&name.value, runbook.parameters.keys().map(String::as_str), "the parameters are");
                problems
                    .error(
                        Code::UnknownParameter,
                        &name.span,
                        format!("there is no parameter `{}`", shown(&name.value)),
                    )
                    .help = hint;
            }
            Some(parameter) if parameter.kind != ParameterKind::List => {
                let problem = problems.error(
                    Code::WrongType,
                    &name.span,
                    format!("`each` needs a list, and `{}` is of type {}", name.value, parameter.kind.name()),
                );
                *problem = problem.clone().label(&parameter.name.span, "the parameter").help("give it `type: list`");
            }
            Some(_) => {}
        }
    }
}

/// The rule that nothing is changed without a way back or a reason. Packaged actions are believed here, since only their files
/// know whether they change anything; the planner judges them.
fn check_way_back(runbook: &Runbook, fields: &Fields<'_>, problems: &mut Problems) {
    if !runbook.snapshot.is_empty() || runbook.irreversible.is_some() || fields.entry("snapshot").is_some() {
        return;
    }
    let bare = runbook.execute.iter().filter(|step| {
        !(step.changes_nothing()
            || !step.undo.is_empty()
            || step.irreversible.is_some()
            || matches!(step.action, Action::Uses { .. }))
    });
    no_way_back(runbook, bare, problems);
}

/// Reports `bare` steps, which have no way back.
pub(crate) fn no_way_back<'r>(runbook: &Runbook, bare: impl Iterator<Item = &'r Step>, problems: &mut Problems) {
    let bare: Vec<&Step> = bare.collect();
    let Some(first) = bare.first() else { return };
    let names: Vec<String> = bare.iter().take(5).map(|step| format!("`{}`", step.id.value)).collect();
    let more = if bare.len() > 5 { format!(" and {} more", bare.len() - 5) } else { String::new() };
    let line = |step: &Step| {
        let start = step.span.range().start;
        Span::new(&runbook.source, start..super::fields::first_line_end(&step.span))
    };
    let problem = problems.error(
        Code::NoWayBack,
        &line(first),
        format!("there is no way back from {}{more}: no snapshot, and no `undo`", names.join(", ")),
    );
    let mut full = problem.clone().help(
        "add a `snapshot` step, or `undo` to each of these steps, or say `irreversible: \"why\"` on the runbook or the step",
    );
    for step in bare.iter().skip(1).take(4) {
        full = full.label(&line(step), "this one neither");
    }
    *problem = full;
}

pub(crate) const TARGET_KEYS: &[&str] = &["select", "batch", "parallel", "soak", "failure_budget"];

fn targets(fields: &Fields<'_>, problems: &mut Problems) -> Targets {
    let start = Span::start_of(&problems.source);
    let mut targets = Targets {
        select: None,
        batch: vec![Share::Percent(100)],
        parallel: 10,
        soak_ms: 0,
        failure_budget: Share::Count(0),
        span: fields.entry("targets").map_or(start, |entry| entry.key.span.clone()),
    };
    let Some(node) = fields.get("targets", problems) else { return targets };
    let Some(fields) = Fields::of(node, "`targets`", TARGET_KEYS, &[], problems) else { return targets };
    if let Some(text) = fields.get("select", problems).and_then(|node| scalar::literal(node, "select", problems)) {
        match selector::parse(&text) {
            Ok(selector) => targets.select = Some(selector),
            Err(problem) => {
                problems.push(problem);
            }
        }
    }
    if let Some(node) = fields.get("batch", problems) {
        let nodes = match &node.content {
            Content::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        let mut shares = Vec::new();
        for node in nodes {
            match scalar::share(node, "batch", problems) {
                Some(Share::Count(0) | Share::Percent(0)) => {
                    problems.error(Code::InvalidValue, &node.span, "a batch of no host").help =
                        Some("write a count from 1, or a percentage from 1% to 100%".into());
                }
                share => shares.extend(share),
            }
        }
        if nodes.is_empty() {
            problems.error(Code::InvalidValue, &node.span, "`batch` is empty").help =
                Some("leave it out to take all hosts together".into());
        }
        if !shares.is_empty() {
            targets.batch = shares;
        }
    }
    if let Some(node) = fields.get("parallel", problems)
        && let Some(parallel) = scalar::integer(node, "parallel", 1, 10_000, problems)
    {
        targets.parallel = u32::try_from(parallel).unwrap_or(10);
    }
    if let Some(node) = fields.get("soak", problems) {
        targets.soak_ms = scalar::duration_ms(node, "soak", problems).unwrap_or(0);
    }
    if let Some(node) = fields.get("failure_budget", problems) {
        targets.failure_budget = scalar::share(node, "failure_budget", problems).unwrap_or(Share::Count(0));
    }
    targets
}

pub(crate) const WATCH_KEYS: &[&str] = &["roots", "undeclared"];
pub(crate) const UNDECLARED: &[(&str, Undeclared)] = &[("report", Undeclared::Report), ("fail", Undeclared::Fail)];

fn watch(node: &Node, problems: &mut Problems) -> Option<Watch> {
    let fields = Fields::of(node, "`watch`", WATCH_KEYS, &[], problems)?;
    let roots = fields.require("roots", "`watch`", "[/etc]", problems).map(|node| {
        let roots = scalar::text_list(node, "roots", "roots: [/etc]", problems);
        if matches!(&node.content, Content::List(items) if items.is_empty()) {
            problems.error(Code::InvalidValue, &node.span, "`roots` is empty").help =
                Some("name the folders to look at, or remove `watch`".into());
        }
        for root in &roots {
            if !command::is_absolute(&root.value) {
                problems
                    .error(Code::InvalidValue, &root.span, format!("`{}` is not an absolute path", shown(&root.value)))
                    .help = Some("begin it with `/`".into());
            } else if root.value.contains(['*', '?']) {
                problems
                    .error(
                        Code::InvalidValue,
                        &root.span,
                        format!("`{}` is a glob, and a root is a folder or file", shown(&root.value)),
                    )
                    .help = Some("write the folder alone: all that is in it is watched".into());
            }
        }
        roots
    });
    let undeclared =
        fields.get("undeclared", problems).and_then(|node| scalar::word(node, "undeclared", UNDECLARED, problems));
    Some(Watch { roots: roots?, undeclared: undeclared.unwrap_or(Undeclared::Report), span: node.span.clone() })
}

pub(crate) const DEFAULT_KEYS: &[&str] = &["timeout", "retry", "as", "shell", "env", "cwd"];

fn defaults(node: &Node, problems: &mut Problems) -> Defaults {
    let Some(fields) = Fields::of(node, "`defaults`", DEFAULT_KEYS, &[], problems) else { return Defaults::default() };
    Defaults {
        timeout_ms: fields.get("timeout", problems).and_then(|node| scalar::positive_ms(node, "timeout", problems)),
        retry: fields.get("retry", problems).and_then(|node| step::retry(node, problems)),
        account: fields.get("as", problems).and_then(|node| scalar::filled(node, "as", problems)),
        shell: command::shell(&fields, problems),
        env: fields.get("env", problems).map(|node| step::env(node, problems)).unwrap_or_default(),
        cwd: fields.get("cwd", problems).and_then(|node| scalar::filled(node, "cwd", problems)),
    }
}

pub(crate) const ROLLBACK_KEYS: &[&str] = &["strategy", "scope", "budget", "steps", "verify"];
pub(crate) const STRATEGIES: &[(&str, Strategy)] = &[
    ("undo", Strategy::Undo),
    ("restore", Strategy::Restore),
    ("undo-then-restore", Strategy::UndoThenRestore),
    ("steps", Strategy::Steps),
];
pub(crate) const SCOPES: &[(&str, Scope)] = &[("host", Scope::Host), ("batch", Scope::Batch), ("run", Scope::Run)];

fn rollback(node: Option<&Node>, problems: &mut Problems) -> Rollback {
    let mut rollback = Rollback {
        strategy: Strategy::UndoThenRestore,
        scope: Scope::Host,
        budget_ms: 15 * 60_000,
        steps: Vec::new(),
        verify: RollbackVerify::Again,
    };
    let Some(node) = node else { return rollback };
    if let Content::List(_) = node.content {
        rollback.steps = step::steps(node, "rollback", Phase::Rollback, problems);
        return rollback;
    }
    let Some(fields) = Fields::of(node, "`rollback`", ROLLBACK_KEYS, &[], problems) else { return rollback };
    if let Some(node) = fields.get("strategy", problems)
        && let Some(strategy) = scalar::word(node, "strategy", STRATEGIES, problems)
    {
        rollback.strategy = strategy;
    }
    if let Some(node) = fields.get("scope", problems) {
        rollback.scope = scalar::word(node, "scope", SCOPES, problems).unwrap_or(Scope::Host);
    }
    if let Some(node) = fields.get("budget", problems) {
        rollback.budget_ms = scalar::positive_ms(node, "budget", problems).unwrap_or(rollback.budget_ms);
    }
    if let Some(node) = fields.get("steps", problems) {
        rollback.steps = step::steps(node, "steps", Phase::Rollback, problems);
    }
    if rollback.strategy == Strategy::Steps
        && fields.entry("steps").is_none()
        && let Some(entry) = fields.entry("strategy")
    {
        problems
            .error(Code::Conflict, &entry.value.span, "`strategy: steps` without `steps` takes nothing back")
            .help = Some("add `steps`, or another strategy".into());
    }
    if let Some(node) = fields.get("verify", problems) {
        rollback.verify = match &node.content {
            Content::List(items) if items.is_empty() => {
                problems.error(Code::InvalidValue, &node.span, "`verify` is empty").help =
                    Some("write `verify: none` when nothing shall prove the rollback".into());
                RollbackVerify::None
            }
            Content::List(_) => RollbackVerify::Steps(step::steps(node, "verify", Phase::Rollback, problems)),
            _ => match scalar::word(node, "verify", &[("again", true), ("none", false)], problems) {
                Some(false) => RollbackVerify::None,
                _ => RollbackVerify::Again,
            },
        };
    }
    rollback
}

pub(crate) const WINDOW_KEYS: &[&str] = &["at_end"];
pub(crate) const AT_END: &[(&str, AtEnd)] = &[("finish", AtEnd::Finish), ("rollback", AtEnd::Rollback)];

/// `window`. A change that cannot be taken back cannot be cut off either.
fn at_end(node: &Node, irreversible: &Option<Text>, problems: &mut Problems) -> AtEnd {
    let Some(fields) = Fields::of(node, "`window`", WINDOW_KEYS, &[], problems) else { return AtEnd::Finish };
    let Some(node) = fields.get("at_end", problems) else { return AtEnd::Finish };
    let Some(at_end) = scalar::word(node, "at_end", AT_END, problems) else { return AtEnd::Finish };
    if let (AtEnd::Rollback, Some(reason)) = (at_end, irreversible) {
        let problem = problems.error(
            Code::Conflict,
            &node.span,
            "`at_end: rollback` takes hosts back, and the runbook says that it cannot be",
        );
        *problem = problem.clone().label(&reason.span, "here").help("leave one of the two out");
    }
    at_end
}
