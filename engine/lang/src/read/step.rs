//! A step and its options.

use std::collections::BTreeMap;

use runbook_model::plan::{OnFailure, Once, Phase, RetryClass};

use super::command::{ACTIONS, action, command, shell};
use super::fields::{Fields, Problems, entries, items};
use super::{parameter, scalar};
use crate::codes::Code;
use crate::parameter::is_variable;
use crate::runbook::{Action, Each, Expect, ExpectText, On, Retry, Step};
use crate::source::Text;
use crate::yaml::{Content, Node, shown};

/// The keys of a step, the action keys first.
pub(crate) const KEYS: &[&str] = &[
    "run",
    "script",
    "upload",
    "download",
    "uses",
    "reboot",
    "wait",
    "confirm",
    "with",
    "shell",
    "strict",
    "id",
    "name",
    "needs",
    "when",
    "on",
    "once",
    "as",
    "cwd",
    "env",
    "stdin",
    "timeout",
    "retry",
    "expect",
    "unless",
    "idempotent",
    "each",
    "changes",
    "undo",
    "irreversible",
    "on_failure",
    "sensitive",
];

/// Keys that only a later version supports.
pub(crate) const KEYS_LATER: &[(&str, &str)] =
    &[("access", "grant the right on the host itself for now"), ("role", "whoever runs the runbook confirms, for now")];

/// Whether `id` can be a step's.
pub(crate) fn is_id(id: &str) -> bool {
    !id.is_empty()
        && id.len() <= 63
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// A list of steps of one phase.
pub(crate) fn steps(node: &Node, key: &str, phase: Phase, problems: &mut Problems) -> Vec<Step> {
    let example = format!("{key}: [{{run: uptime}}]");
    items(node, key, &example, problems).iter().filter_map(|item| step(item, phase, false, problems)).collect()
}

/// One step; `undo` when it takes another one back.
pub(crate) fn step(node: &Node, phase: Phase, undo: bool, problems: &mut Problems) -> Option<Step> {
    let what = if undo { "an `undo` step".to_owned() } else { format!("a step of `{phase}`") };
    let fields = Fields::of(node, &what, KEYS, KEYS_LATER, problems)?;
    if undo {
        fields.refuse(
            &["id", "needs", "once", "each", "undo", "irreversible", "changes"],
            "in an `undo` step",
            problems,
        );
    }
    let read_only = matches!(phase, Phase::Prechecks | Phase::Verify);
    if read_only {
        let why = format!("in `{phase}`, which changes nothing");
        fields.refuse(&["changes", "undo", "irreversible", "idempotent"], &why, problems);
    } else if phase != Phase::Execute && !undo {
        fields.refuse(&["undo", "irreversible"], "outside `execute`", problems);
    }
    let allowed: Vec<&str> =
        ACTIONS.iter().copied().filter(|key| !(read_only && matches!(*key, "upload" | "reboot"))).collect();
    let action = action(&fields, &what, &allowed, problems);
    if let Some(action) = &action {
        refuse_by_action(action, &fields, problems);
    }

    let mut text = |key: &str| fields.get(key, problems).and_then(|node| scalar::filled(node, key, problems));
    let (name, when, account, cwd) = (text("name"), text("when"), text("as"), text("cwd"));
    let irreversible = text("irreversible");
    let given_id = fields.get("id", problems).and_then(|node| {
        let id = scalar::literal(node, "id", problems)?;
        scalar::name(id, "the id of a step", is_id, "small letters, digits, `-` and `_`, at most 63", problems)
    });
    let mut flag = |key: &str| fields.get(key, problems).and_then(|node| scalar::boolean(node, key, problems));
    let (idempotent, sensitive) = (flag("idempotent"), flag("sensitive"));
    let own_shell = fields.entry("run").and_then(|_| {
        // Problems of `shell` were reported with the action.
        shell(&fields, &mut Problems::new(&problems.source))
    });

    let step = Step {
        span: node.span.clone(),
        phase,
        id_given: given_id.is_some(),
        id: given_id.unwrap_or_else(|| Text::new(String::new(), node.span.clone())),
        name,
        action: Action::Wait { ms: 0 },
        needs: fields.get("needs", problems).map(|node| needs(node, problems)),
        when,
        on: fields.get("on", problems).and_then(|node| on(node, problems)).unwrap_or(On::Host),
        once: fields.get("once", problems).and_then(|node| once(node, problems)),
        account,
        cwd,
        env: fields.get("env", problems).map(|node| env(node, problems)).unwrap_or_default(),
        stdin: fields.get("stdin", problems).and_then(|node| scalar::text(node, "stdin", problems)),
        timeout_ms: fields.get("timeout", problems).and_then(|node| scalar::positive_ms(node, "timeout", problems)),
        retry: fields.get("retry", problems).and_then(|node| retry(node, problems)),
        expect: fields.get("expect", problems).and_then(|node| expect(node, problems)),
        unless: fields.get("unless", problems).and_then(|node| command(node, "unless", own_shell, true, problems)),
        idempotent,
        each: fields.get("each", problems).and_then(|node| each(node, problems)),
        changes: fields
            .get("changes", problems)
            .map(|node| globs(node, "changes", "changes: [/etc/samba/**]", problems))
            .unwrap_or_default(),
        undo: fields.get("undo", problems).map(|node| undo_steps(node, problems)).unwrap_or_default(),
        irreversible,
        on_failure: fields.get("on_failure", problems).and_then(|node| on_failure(node, phase, problems)),
        sensitive: sensitive.unwrap_or(false),
    };
    if let (Some(reason), false) = (&step.irreversible, step.undo.is_empty()) {
        let undo = fields.entry("undo").expect("it was read").key.span.clone();
        let problem = problems.error(Code::Conflict, &undo, "a step with `undo` is not irreversible");
        *problem = problem.clone().label(&reason.span, "it says here that it is").help("remove one of the two");
    }
    // A step whose action is wrong stays, so that others can name it; the document does not leave anyway.
    Some(match action {
        Some(action) => Step { action, ..step },
        None => step,
    })
}

/// Options that mean nothing for some actions.
fn refuse_by_action(action: &Action, fields: &Fields<'_>, problems: &mut Problems) {
    let refused: &[&str] = match action {
        Action::Run(_) | Action::Script { .. } | Action::Uses { .. } => &[],
        Action::Upload { .. } | Action::Download { .. } => &["cwd", "env", "stdin", "expect"],
        Action::WaitUntil { .. } => &["stdin", "expect", "timeout", "unless", "changes", "undo"],
        Action::Reboot { .. } => &["cwd", "env", "stdin", "expect", "timeout", "sensitive"],
        Action::Wait { .. } | Action::Confirm { .. } => &[
            "as",
            "cwd",
            "env",
            "stdin",
            "expect",
            "retry",
            "idempotent",
            "changes",
            "undo",
            "irreversible",
            "sensitive",
        ],
    };
    let why = match action {
        Action::WaitUntil { .. } if fields.entry("timeout").is_some() => "for `wait`, whose limit is `for`".to_owned(),
        Action::Reboot { .. } if fields.entry("timeout").is_some() => {
            "here; the limit on a reboot is `reboot: {timeout: 10m}`".to_owned()
        }
        other => format!("for `{}`", other.key()),
    };
    fields.refuse(refused, &why, problems);
    if matches!(action, Action::Wait { .. }) {
        fields.refuse(&["timeout"], "for `wait`, which lasts as long as it says", problems);
    }
}

/// `undo`: one step or a list.
fn undo_steps(node: &Node, problems: &mut Problems) -> Vec<Step> {
    let nodes = match &node.content {
        Content::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if nodes.is_empty() {
        problems.error(Code::InvalidValue, &node.span, "`undo` is empty").help =
            Some("write the step that takes this one back, or `irreversible: \"why\"`".into());
    }
    nodes.iter().filter_map(|node| step(node, Phase::Rollback, true, problems)).collect()
}

/// `needs`: a list, or one id.
fn needs(node: &Node, problems: &mut Problems) -> Vec<Text> {
    let mut ids: Vec<Text> = Vec::new();
    let nodes = match &node.content {
        Content::List(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    for node in nodes {
        if let Some(id) = scalar::literal(node, "needs", problems) {
            if let Some(first) = ids.iter().find(|other| **other == id) {
                let first = first.span.clone();
                let problem =
                    problems.error(Code::DuplicateKey, &id.span, format!("`{}` is named twice", shown(&id.value)));
                *problem = problem.clone().label(&first, "it was named here").help("remove one of the two");
            } else {
                ids.push(id);
            }
        }
    }
    ids
}

fn on(node: &Node, problems: &mut Problems) -> Option<On> {
    let text = scalar::literal(node, "on", problems)?;
    match text.value.split_once(':') {
        None if text.value == "controller" => Some(On::Controller),
        Some(("host", name)) if !name.trim().is_empty() => {
            let name = name.trim();
            let at = text.value.rfind(name).unwrap_or(0);
            Some(On::Named(Text::new(name.to_owned(), text.within(at..at + name.len()))))
        }
        _ => {
            let problem =
                problems.error(Code::InvalidValue, &text.span, format!("`on` cannot be `{}`", shown(&text.value)));
            problem.help = Some(if text.value.contains(':') || text.value == "host" {
                "write `on: controller` or `on: host:NAME`; leave it out for the host itself".into()
            } else {
                format!("write `on: controller`, or `on: host:{}` for the host of that name", shown(&text.value))
            });
            None
        }
    }
}

fn once(node: &Node, problems: &mut Problems) -> Option<Once> {
    scalar::word(node, "once", &[("run", Once::Run), ("batch", Once::Batch)], problems)
}

/// `env`.
pub(crate) fn env(node: &Node, problems: &mut Problems) -> BTreeMap<String, Text> {
    let mut env = BTreeMap::new();
    for entry in entries(node, "env", "env: {LANG: C}", problems) {
        let rules = "letters, digits and `_`, a letter or `_` first";
        let name = scalar::name(entry.key.clone(), "an environment variable", is_variable, rules, problems);
        let value = if entry.value.is_null() {
            // `NAME:` alone is an empty value, as in a shell.
            Some(Text::new(String::new(), entry.value.span.clone()))
        } else {
            scalar::text(&entry.value, &entry.key.value, problems)
        };
        if let (Some(name), Some(value)) = (name, value) {
            env.insert(name.value, value);
        }
    }
    env
}

/// The words of `retry.on`.
pub(crate) const RETRY_ON: &[(&str, RetryClass)] = &[
    ("exit", RetryClass::Exit),
    ("timeout", RetryClass::Timeout),
    ("connection", RetryClass::Connection),
    ("lock-held", RetryClass::LockHeld),
    ("throttled", RetryClass::Throttled),
];

pub(crate) const RETRY_KEYS: &[&str] = &["attempts", "delay", "backoff", "max_delay", "on"];

/// `retry`.
pub(crate) fn retry(node: &Node, problems: &mut Problems) -> Option<Retry> {
    let fields = Fields::of(node, "`retry`", RETRY_KEYS, &[], problems)?;
    let attempts = fields
        .require("attempts", "`retry`", "3", problems)
        .and_then(|node| scalar::integer(node, "attempts", 1, 10_000, problems));
    let mut duration = |key: &str| fields.get(key, problems).and_then(|node| scalar::duration_ms(node, key, problems));
    let (delay_ms, delay_ms_max) = (duration("delay"), duration("max_delay"));
    if let (Some(delay), Some(most)) = (delay_ms, delay_ms_max)
        && most < delay
    {
        let place = fields.entry("max_delay").expect("it was read").value.span.clone();
        problems.error(Code::Conflict, &place, "`max_delay` is shorter than `delay`").help =
            Some("the first delay would already be longer than the longest".into());
    }
    let backoff_permille = fields.get("backoff", problems).and_then(|node| backoff(node, problems));
    let on = fields.get("on", problems).map(|node| {
        let nodes = match &node.content {
            Content::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if nodes.is_empty() {
            problems.error(Code::InvalidValue, &node.span, "`on` is empty, so nothing would be repeated").help =
                Some("leave it out to repeat after any failure".into());
        }
        let mut classes: Vec<RetryClass> =
            nodes.iter().filter_map(|node| scalar::word(node, "on", RETRY_ON, problems)).collect();
        classes.sort();
        classes.dedup();
        classes
    });
    Some(Retry {
        attempts: u32::try_from(attempts?).ok()?,
        delay_ms,
        backoff_permille,
        delay_ms_max,
        on,
        span: node.span.clone(),
    })
}

/// A number from 1 to 100 with at most three digits behind the point, in thousandths.
fn backoff(node: &Node, problems: &mut Problems) -> Option<u32> {
    let text = scalar::literal(node, "backoff", problems)?;
    let (head, tail) = text.value.split_once('.').unwrap_or((&text.value, ""));
    let permille = (scalar::is_decimal(&text.value) && tail.len() <= 3)
        .then(|| format!("{head}{tail:0<3}").parse().ok())
        .flatten()
        .filter(|permille| (1_000..=100_000).contains(permille));
    if permille.is_none() {
        problems.error(Code::InvalidValue, &text.span, format!("`backoff` cannot be `{}`", shown(&text.value))).help =
            Some("write a number from 1 to 100: 2.0 doubles the delay each time, 1 leaves it as it is".into());
    }
    permille
}

pub(crate) const EXPECT_KEYS: &[&str] = &["exit_code", "stdout", "stderr"];
pub(crate) const EXPECT_TEXT_KEYS: &[&str] = &["equals", "contains", "matches", "not_matches", "empty", "json"];

/// `expect`.
pub(crate) fn expect(node: &Node, problems: &mut Problems) -> Option<Expect> {
    let fields = Fields::of(node, "`expect`", EXPECT_KEYS, &[], problems)?;
    let exit_codes = fields.get("exit_code", problems).and_then(|node| {
        let nodes = match &node.content {
            Content::List(items) => items.as_slice(),
            _ => std::slice::from_ref(node),
        };
        if nodes.is_empty() {
            problems.error(Code::InvalidValue, &node.span, "`exit_code` is an empty list, so no exit would be right");
            return None;
        }
        let mut codes: Vec<i32> = nodes
            .iter()
            .filter_map(|node| scalar::integer(node, "exit_code", i32::MIN.into(), u32::MAX.into(), problems))
            .filter_map(|code| i32::try_from(code).ok().or_else(|| u32::try_from(code).ok().map(u32::cast_signed)))
            .collect();
        codes.sort_unstable();
        codes.dedup();
        Some(codes)
    });
    let mut stream = |key: &str| fields.get(key, problems).and_then(|node| expect_text(node, key, problems));
    let (stdout, stderr) = (stream("stdout"), stream("stderr"));
    Some(Expect { exit_codes, stdout, stderr })
}

fn expect_text(node: &Node, key: &str, problems: &mut Problems) -> Option<ExpectText> {
    let what = format!("`{key}`");
    let fields = Fields::of(node, &what, EXPECT_TEXT_KEYS, &[], problems)?;
    let text = ExpectText {
        equals: fields.get("equals", problems).and_then(|node| scalar::text(node, "equals", problems)),
        contains: fields
            .get("contains", problems)
            .map(|node| scalar::texts(node, "contains", problems))
            .unwrap_or_default(),
        matches: fields.get("matches", problems).and_then(|node| parameter::pattern(node, "matches", problems)),
        not_matches: fields
            .get("not_matches", problems)
            .and_then(|node| parameter::pattern(node, "not_matches", problems)),
        empty: fields.get("empty", problems).and_then(|node| scalar::boolean(node, "empty", problems)),
        json: fields.get("json", problems).and_then(|node| scalar::filled(node, "json", problems)),
    };
    if text.empty == Some(true) {
        for other in ["equals", "contains", "matches", "json"] {
            if let Some(entry) = fields.entry(other) {
                problems
                    .error(Code::Conflict, &entry.key.span, format!("`{other}` cannot hold of an empty {key}"))
                    .help = Some("remove one of the two".into());
            }
        }
    }
    Some(text)
}

fn each(node: &Node, problems: &mut Problems) -> Option<Each> {
    match &node.content {
        Content::List(items) => {
            if items.is_empty() {
                problems.error(Code::InvalidValue, &node.span, "`each` is empty, so the step would never run");
            }
            Some(Each::Items(items.iter().filter_map(|item| scalar::spanned_value(item, problems)).collect()))
        }
        _ => {
            let text = scalar::filled(node, "each", problems)?;
            let inner = text.value.trim().strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
            let name = inner.unwrap_or(&text.value).trim();
            match name.strip_prefix("param.").filter(|name| is_variable(name)) {
                Some(name) => {
                    let at = text.value.find(name).unwrap_or(0);
                    Some(Each::Parameter(Text::new(name.to_owned(), text.within(at..at + name.len()))))
                }
                None => {
                    problems
                        .error(Code::WrongType, &text.span, format!("`each` cannot be `{}`", shown(&text.value)))
                        .help = Some("write a list, or `{{param.NAME}}` in quotes for a parameter of type list".into());
                    None
                }
            }
        }
    }
}

/// Paths with globs.
pub(crate) fn globs(node: &Node, key: &str, example: &str, problems: &mut Problems) -> Vec<Text> {
    let globs = scalar::text_list(node, key, example, problems);
    for glob in &globs {
        if !super::command::is_absolute(&glob.value) {
            problems
                .error(Code::Glob, &glob.span, format!("`{key}` takes absolute paths, not `{}`", shown(&glob.value)))
                .help = Some("begin it with `/`".into());
        } else if !glob.value.contains("{{")
            && let Err(error) = globset::Glob::new(&glob.value)
        {
            problems.error(Code::Glob, &glob.span, format!("`{key}`: {}", error.kind()));
        }
    }
    globs
}

fn on_failure(node: &Node, phase: Phase, problems: &mut Problems) -> Option<OnFailure> {
    const ALL: &[(&str, OnFailure)] = &[
        ("rollback", OnFailure::Rollback),
        ("block", OnFailure::Block),
        ("halt", OnFailure::Halt),
        ("continue", OnFailure::Continue),
    ];
    let choice = scalar::word(node, "on_failure", ALL, problems)?;
    let (allowed, why): (&[OnFailure], _) = match phase {
        Phase::Prechecks => (
            &[OnFailure::Block, OnFailure::Halt, OnFailure::Continue],
            "nothing was changed yet: write block, halt or continue",
        ),
        Phase::Snapshot => {
            (&[OnFailure::Block, OnFailure::Halt], "`execute` never begins without its way back: write block or halt")
        }
        Phase::Execute | Phase::Verify => (
            &[OnFailure::Rollback, OnFailure::Halt, OnFailure::Continue],
            "something may have changed: write rollback, halt or continue",
        ),
        Phase::Rollback => {
            (&[OnFailure::Halt, OnFailure::Continue], "the host is being taken back already: write halt or continue")
        }
        Phase::Finally => (&[OnFailure::Continue], "steps of `finally` all run: leave it out"),
    };
    if allowed.contains(&choice) {
        return Some(choice);
    }
    let word = ALL.iter().find(|(_, value)| *value == choice).map_or("", |(word, _)| word);
    problems.error(Code::NotHere, &node.span, format!("`on_failure` cannot be `{word}` in `{phase}`")).help =
        Some(why.into());
    None
}
