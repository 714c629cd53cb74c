//! The action keys of a step: `run`, `script`, `upload`, `download`, `uses`, `reboot`, `wait`, `confirm`.

use std::collections::BTreeMap;

use runbook_model::shell::ShellKind;

use super::fields::{Fields, Problems, entries};
use super::scalar;
use crate::codes::Code;
use crate::runbook::{Action, Command};
use crate::source::{Spanned, Text};
use crate::yaml::{Content, Node, shown};

/// The action keys.
pub(crate) const ACTIONS: &[&str] = &["run", "script", "upload", "download", "uses", "reboot", "wait", "confirm"];

pub(crate) const SHELLS: &[(&str, ShellKind)] =
    &[("sh", ShellKind::Sh), ("bash", ShellKind::Bash), ("powershell", ShellKind::Powershell), ("cmd", ShellKind::Cmd)];

/// `shell`.
pub(crate) fn shell(fields: &Fields<'_>, problems: &mut Problems) -> Option<ShellKind> {
    fields.get("shell", problems).and_then(|node| scalar::word(node, "shell", SHELLS, problems))
}

/// A command: a text for a shell, or an argument vector.
pub(crate) fn command(
    node: &Node,
    key: &str,
    shell: Option<ShellKind>,
    strict: bool,
    problems: &mut Problems,
) -> Option<Command> {
    match &node.content {
        Content::List(items) if items.is_empty() => {
            problems.error(Code::InvalidValue, &node.span, format!("`{key}` is an empty list")).help =
                Some("write the program first, then its arguments".into());
            None
        }
        Content::List(items) => {
            let argv: Vec<Text> = items.iter().filter_map(|item| scalar::text(item, key, problems)).collect();
            if argv.first().is_some_and(|program| program.value.trim().is_empty()) {
                problems.error(Code::InvalidValue, &items[0].span, format!("the program of `{key}` is empty"));
            }
            (argv.len() == items.len()).then_some(Command::Argv(argv))
        }
        Content::Mapping(_) if !node.span.text().starts_with("{{") => {
            problems.wrong_type(node, key, "a command (a text, or a list of arguments)", &format!("{key}: uptime"));
            None
        }
        _ => scalar::filled(node, key, problems).map(|text| Command::Shell { text, shell, strict }),
    }
}

/// The one action of a step; none, several, or a wrong one are reported.
pub(crate) fn action(fields: &Fields<'_>, what: &str, allowed: &[&str], problems: &mut Problems) -> Option<Action> {
    let given: Vec<&str> = ACTIONS.iter().copied().filter(|key| fields.entry(key).is_some()).collect();
    let key = match given.as_slice() {
        [] => {
            problems
                .error(Code::OneAction, &first_line(fields), format!("{what} does nothing: it has no action"))
                .help = Some(format!("add one of {}", allowed.join(", ")));
            return None;
        }
        [key] => *key,
        [first, rest @ ..] => {
            let place = fields.entry(rest[0]).expect("it is there").key.span.clone();
            let first_place = fields.entry(first).expect("it is there").key.span.clone();
            let problem = problems.error(
                Code::OneAction,
                &place,
                format!("{what} has {} actions: {}", given.len(), given.join(", ")),
            );
            problem.help = Some("give each action a step of its own".into());
            *problem = problem.clone().label(&first_place, "the first one");
            return None;
        }
    };
    if !allowed.contains(&key) {
        let place = fields.entry(key).expect("it is there").key.span.clone();
        problems.error(Code::NotHere, &place, format!("`{key}` cannot be used in {what}")).help =
            Some(format!("use one of {}", allowed.join(", ")));
        return None;
    }
    if key != "run" {
        fields.refuse(&["shell", "strict"], &format!("for `{key}`"), problems);
    }
    if key != "uses" {
        fields.refuse(&["with"], &format!("for `{key}`"), problems);
    }
    if key == "reboot" && fields.entry(key).is_some_and(|entry| entry.value.is_null()) {
        return Some(Action::Reboot { timeout_ms: None, settle_ms: 0 });
    }
    let node = fields.get(key, problems)?;
    match key {
        "run" => run(node, fields, problems),
        "script" => script(node, problems),
        "upload" => upload(node, problems),
        "download" => download(node, problems),
        "uses" => uses(node, fields, problems),
        "reboot" => reboot(node, problems),
        "wait" => wait(node, problems),
        _ => scalar::filled(node, "confirm", problems).map(|text| Action::Confirm { text }),
    }
}

fn first_line(fields: &Fields<'_>) -> crate::source::Span {
    let start = fields.span.range().start;
    crate::source::Span::new(fields.span.source(), start..super::fields::first_line_end(&fields.span))
}

fn run(node: &Node, fields: &Fields<'_>, problems: &mut Problems) -> Option<Action> {
    if matches!(node.content, Content::List(_)) {
        fields.refuse(&["shell", "strict"], "for an argument vector, which no shell reads", problems);
    }
    let shell = shell(fields, problems);
    let strict = fields.get("strict", problems).and_then(|node| scalar::boolean(node, "strict", problems));
    command(node, "run", shell, strict.unwrap_or(true), problems).map(Action::Run)
}

pub(crate) const SCRIPT_KEYS: &[&str] = &["file", "args", "interpreter"];

fn script(node: &Node, problems: &mut Problems) -> Option<Action> {
    if !matches!(node.content, Content::Mapping(_)) {
        let file = scalar::literal(node, "script", problems)?;
        return Some(Action::Script { file, args: Vec::new(), interpreter: None });
    }
    let fields = Fields::of(node, "`script`", SCRIPT_KEYS, &[], problems)?;
    let file = fields
        .require("file", "`script`", "check.sh", problems)
        .and_then(|node| scalar::literal(node, "file", problems));
    let args = fields.get("args", problems).map_or_else(Vec::new, |node| {
        super::fields::items(node, "args", "args: [--quick]", problems)
            .iter()
            .filter_map(|item| scalar::text(item, "args", problems))
            .collect()
    });
    let interpreter =
        fields.get("interpreter", problems).and_then(|node| scalar::filled(node, "interpreter", problems));
    Some(Action::Script { file: file?, args, interpreter })
}

pub(crate) const UPLOAD_KEYS: &[&str] = &["from", "to", "mode", "owner", "group", "sha256"];

fn upload(node: &Node, problems: &mut Problems) -> Option<Action> {
    let fields = Fields::of(node, "`upload`", UPLOAD_KEYS, &[], problems)?;
    let from = fields
        .require("from", "`upload`", "smb.conf", problems)
        .and_then(|node| scalar::literal(node, "from", problems));
    let to =
        fields.require("to", "`upload`", "/etc/samba/smb.conf", problems).and_then(|n| host_path(n, "to", problems));
    let mode = fields.get("mode", problems).and_then(|node| mode(node, problems));
    let mut text = |key: &str| fields.get(key, problems).and_then(|node| scalar::filled(node, key, problems));
    let (owner, group) = (text("owner"), text("group"));
    let sha256 = fields.get("sha256", problems).and_then(|node| {
        let text = scalar::literal(node, "sha256", problems)?;
        match text.value.to_ascii_lowercase().parse() {
            Ok(digest) => Some(Spanned::new(digest, text.span)),
            Err(error) => {
                problems.error(Code::InvalidValue, &text.span, format!("`sha256`: {error}")).help =
                    Some("`sha256sum FILE` prints it".into());
                None
            }
        }
    });
    Some(Action::Upload { from: from?, to: to?, mode, owner, group, sha256 })
}

/// Permission bits as three or four octal digits; the word is taken as written, so `0644` means what it says.
fn mode(node: &Node, problems: &mut Problems) -> Option<u32> {
    let text = scalar::literal(node, "mode", problems)?;
    let digits = text.value.strip_prefix("0o").unwrap_or(&text.value);
    let octal = (3..=4).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if !octal {
        problems.error(Code::InvalidValue, &text.span, format!("`mode` cannot be `{}`", shown(&text.value))).help =
            Some("write three or four octal digits, for example '0644'".into());
        return None;
    }
    u32::from_str_radix(digits, 8).ok()
}

/// An absolute path on a host, as far as that can be seen.
fn host_path(node: &Node, key: &str, problems: &mut Problems) -> Option<Text> {
    let text = scalar::filled(node, key, problems)?;
    if !is_absolute(&text.value) {
        problems.error(Code::InvalidValue, &text.span, format!("`{key}` must be an absolute path on the host")).help =
            Some("begin it with `/` (or a drive letter on Windows)".into());
        return None;
    }
    Some(text)
}

/// Whether a path may be absolute: a template at its beginning is believed.
pub(crate) fn is_absolute(path: &str) -> bool {
    let bytes = path.as_bytes();
    path.starts_with(['/', '\\'])
        || path.starts_with("{{")
        || (bytes.len() > 2 && bytes[0].is_ascii_alphabetic() && bytes[1] == b':' && matches!(bytes[2], b'\\' | b'/'))
}

pub(crate) const DOWNLOAD_KEYS: &[&str] = &["from", "max_size"];

fn download(node: &Node, problems: &mut Problems) -> Option<Action> {
    let fields = Fields::of(node, "`download`", DOWNLOAD_KEYS, &[], problems)?;
    let from = fields
        .require("from", "`download`", "/var/log/apt/term.log", problems)
        .and_then(|node| host_path(node, "from", problems));
    let max_bytes = fields.get("max_size", problems).and_then(|node| scalar::size_bytes(node, "max_size", problems));
    Some(Action::Download { from: from?, max_bytes })
}

/// Whether `name` can be a packaged action's.
pub(crate) fn is_action_name(name: &str) -> bool {
    let part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
    };
    name.len() <= 127 && name.split('/').count() <= 2 && name.split('/').all(part)
}

fn uses(node: &Node, fields: &Fields<'_>, problems: &mut Problems) -> Option<Action> {
    let name = scalar::literal(node, "uses", problems).and_then(|name| {
        let rules = "small letters, digits, `-` and `_`";
        scalar::name(name, "the name of an action", is_action_name, rules, problems)
    });
    let mut with = BTreeMap::new();
    if let Some(node) = fields.get("with", problems) {
        for entry in entries(node, "with", "with: {service: smbd}", problems) {
            if let Some(value) = scalar::spanned_value(&entry.value, problems) {
                with.insert(entry.key.value.clone(), value);
            }
        }
    }
    Some(Action::Uses { name: name?, with })
}

pub(crate) const REBOOT_KEYS: &[&str] = &["timeout", "settle"];

fn reboot(node: &Node, problems: &mut Problems) -> Option<Action> {
    let fields = Fields::of(node, "`reboot`", REBOOT_KEYS, &[], problems)?;
    let timeout_ms = fields.get("timeout", problems).and_then(|node| scalar::positive_ms(node, "timeout", problems));
    let settle = fields.get("settle", problems).and_then(|node| scalar::duration_ms(node, "settle", problems));
    Some(Action::Reboot { timeout_ms, settle_ms: settle.unwrap_or(0) })
}

pub(crate) const WAIT_KEYS: &[&str] = &["for", "until", "every"];

fn wait(node: &Node, problems: &mut Problems) -> Option<Action> {
    if !matches!(node.content, Content::Mapping(_)) {
        return scalar::positive_ms(node, "wait", problems).map(|ms| Action::Wait { ms });
    }
    let fields = Fields::of(node, "`wait`", WAIT_KEYS, &[], problems)?;
    let for_ms =
        fields.require("for", "`wait`", "5m", problems).and_then(|node| scalar::positive_ms(node, "for", problems));
    let until = fields.get("until", problems).and_then(|node| scalar::filled(node, "until", problems));
    let every = fields.get("every", problems).and_then(|node| scalar::positive_ms(node, "every", problems));
    if fields.entry("until").is_none() {
        if let Some(entry) = fields.entry("every") {
            problems.error(Code::Conflict, &entry.key.span, "`every` without `until` means nothing").help =
                Some("add `until`, the command that is tried".into());
        }
        return for_ms.map(|ms| Action::Wait { ms });
    }
    Some(Action::WaitUntil { for_ms: for_ms?, until: until?, every_ms: every.unwrap_or(5_000) })
}
