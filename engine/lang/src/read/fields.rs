//! The keys of a mapping, checked against those that it may have.

use std::sync::Arc;

use crate::codes::Code;
use crate::diagnostic::Diagnostic;
use crate::similar;
use crate::source::{Source, Span};
use crate::yaml::{Content, Entry, Node, shown};

/// What is wrong so far.
pub(crate) struct Problems {
    pub(crate) source: Arc<Source>,
    pub(crate) list: Vec<Diagnostic>,
}

impl Problems {
    pub(crate) fn new(source: &Arc<Source>) -> Self {
        Self { source: source.clone(), list: Vec::new() }
    }

    /// Adds an error; the caller may add help and labels to it.
    pub(crate) fn error(&mut self, code: Code, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::error(code, span, message))
    }

    pub(crate) fn push(&mut self, problem: Diagnostic) -> &mut Diagnostic {
        self.list.push(problem);
        self.list.last_mut().expect("just pushed")
    }

    /// Reports that `node` is not what `key` takes.
    pub(crate) fn wrong_type(&mut self, node: &Node, key: &str, wanted: &str, example: &str) {
        let problem = self.error(Code::WrongType, &node.span, format!("`{key}` takes {wanted}, not {}", node.what()));
        if !example.is_empty() {
            problem.help = Some(format!("write for example `{example}`"));
        }
    }
}

/// Keys of other tools, the key here that does the same, and what to write.
const FOREIGN: &[(&str, &str, &str)] = &[
    ("become", "as", "write `as: root`"),
    ("become_user", "as", "write `as: NAME`"),
    ("sudo", "as", "write `as: root`"),
    ("user", "as", "write `as: NAME`"),
    ("if", "when", "write `when`"),
    ("loop", "each", "write `each`"),
    ("with_items", "each", "write `each`"),
    ("chdir", "cwd", "write `cwd`"),
    ("workdir", "cwd", "write `cwd`"),
    ("working-directory", "cwd", "write `cwd`"),
    ("working_directory", "cwd", "write `cwd`"),
    ("depends_on", "needs", "write `needs`"),
    ("environment", "env", "write `env`"),
    ("register", "run", "leave it out: results are `steps.<id>.stdout` and so on"),
    ("command", "run", "write `run`"),
    ("shell_command", "run", "write `run`"),
    ("ignore_errors", "on_failure", "write `on_failure: continue`"),
    ("continue-on-error", "on_failure", "write `on_failure: continue`"),
    ("delegate_to", "on", "write `on: host:NAME` or `on: controller`"),
    ("run_once", "once", "write `once: run`"),
    ("no_log", "sensitive", "write `sensitive: true`"),
    ("retries", "retry", "write `retry: {attempts: N, delay: 30s}`"),
    ("hosts", "targets", "write `targets: {select: NAME}`"),
    ("steps", "execute", "write `execute`"),
    ("tasks", "execute", "write `execute`"),
    ("vars", "parameters", "write `parameters`"),
    ("ansible_host", "address", "write `address`"),
    ("host", "address", "write `address`"),
    ("hostname", "address", "write `address`"),
];

/// A mapping whose keys are all known.
pub(crate) struct Fields<'n> {
    pub(crate) span: Span,
    entries: Vec<&'n Entry>,
}

impl<'n> Fields<'n> {
    /// The mapping `node`, which is `what` ("a step"), with the keys `known`. Other keys are reported. `later` are keys
    /// that a later version will know, with what to do today.
    pub(crate) fn of(
        node: &'n Node,
        what: &str,
        known: &[&str],
        later: &[(&str, &str)],
        problems: &mut Problems,
    ) -> Option<Self> {
        let Content::Mapping(entries) = &node.content else {
            problems.error(Code::WrongType, &node.span, format!("{what} is a mapping, not {}", node.what())).help =
                Some(format!("its keys are: {}", known.join(", ")));
            return None;
        };
        let mut good = Vec::new();
        for entry in entries {
            let key = entry.key.as_str();
            if problems.list.len() > 2 * crate::diagnostic::MOST && !known.contains(&key) {
                // Nobody will see it; looking for what was meant takes time.
                continue;
            }
            if known.contains(&key) {
                good.push(entry);
            } else if let Some((_, instead)) = later.iter().find(|(name, _)| *name == key) {
                problems.error(Code::NotSupportedYet, &entry.key.span, format!("`{key}` is not supported yet")).help =
                    Some((*instead).to_owned());
            } else {
                let hint = match FOREIGN.iter().find(|(name, own, _)| *name == key && known.contains(own)) {
                    Some((_, _, hint)) => Some((*hint).to_owned()),
                    None => similar::hint(key, known.iter().copied(), "the keys are"),
                };
                problems.error(Code::UnknownKey, &entry.key.span, format!("{what} has no key `{}`", shown(key))).help =
                    hint;
            }
        }
        Some(Self { span: node.span.clone(), entries: good })
    }

    /// The entry of `key`, unless its value is nothing.
    pub(crate) fn entry(&self, key: &str) -> Option<&'n Entry> {
        self.entries.iter().copied().find(|entry| entry.key.value == key)
    }

    /// The value of `key`; a key without a value is reported.
    pub(crate) fn get(&self, key: &str, problems: &mut Problems) -> Option<&'n Node> {
        let entry = self.entry(key)?;
        if entry.value.is_null() {
            problems.error(Code::WrongType, &entry.key.span, format!("`{key}` has no value")).help =
                Some("give it one, or remove the key".into());
            return None;
        }
        Some(&entry.value)
    }

    /// The value of `key`, which must be there.
    pub(crate) fn require(&self, key: &str, what: &str, example: &str, problems: &mut Problems) -> Option<&'n Node> {
        if self.entry(key).is_none() {
            let first_line = Span::new(self.span.source(), self.span.range().start..first_line_end(&self.span));
            problems.error(Code::MissingKey, &first_line, format!("{what} needs `{key}`")).help =
                Some(format!("add for example `{key}: {example}`"));
        }
        self.get(key, problems)
    }

    /// Reports each of `keys` that is there: it means nothing `why`.
    pub(crate) fn refuse(&self, keys: &[&str], why: &str, problems: &mut Problems) {
        for key in keys {
            if let Some(entry) = self.entry(key) {
                problems.error(Code::NotHere, &entry.key.span, format!("`{key}` means nothing {why}")).help =
                    Some("remove it".into());
            }
        }
    }
}

/// Where the first line of `span` ends.
pub(crate) fn first_line_end(span: &Span) -> usize {
    span.range().start + span.text().find(['\n', '\r']).unwrap_or(span.text().len())
}

/// The items of a list; what is not a list is reported.
pub(crate) fn items<'n>(node: &'n Node, key: &str, example: &str, problems: &mut Problems) -> &'n [Node] {
    match &node.content {
        Content::List(items) => items,
        _ => {
            problems.wrong_type(node, key, "a list", example);
            &[]
        }
    }
}

/// The entries of a mapping with free names; what is not a mapping is reported.
pub(crate) fn entries<'n>(node: &'n Node, key: &str, example: &str, problems: &mut Problems) -> &'n [Entry] {
    match &node.content {
        Content::Mapping(entries) => entries,
        _ => {
            problems.wrong_type(node, key, "a mapping", example);
            &[]
        }
    }
}
