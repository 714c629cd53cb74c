//! Templates and expressions of a document: read, and their names checked against what is declared.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::plan::Phase;
use runbook_model::shell::ShellKind;
use serde_json::Value;

use super::fields::Problems;
use crate::action::{ActionFile, ActionWork, ByOs};
use crate::codes::Code;
use crate::diagnostic::Diagnostic;
use crate::expression;
use crate::runbook::{
    Action, Command, Each, Expect, ExpectText, Parameter, ParameterKind, RollbackVerify, Runbook, Step,
};
use crate::source::{Spanned, Text};
use crate::template::{self, Names, Place};

/// Items of a list parameter whose ids may be named; the list itself is known only when a plan is made.
const ITEMS_MAX: usize = 100;

/// Every text of a runbook.
pub(crate) fn check_runbook(runbook: &Runbook, problems: &mut Problems) {
    let mut base = names(&runbook.parameters);
    base.secrets = runbook.secrets.keys().cloned().collect();
    base.secrets.extend(base.secret_parameters.iter().cloned());
    let shell = runbook.defaults.shell;
    let mut checker = Checker { shell, problems };
    for (text, place) in [(&runbook.defaults.account, Place::Plain), (&runbook.defaults.cwd, Place::Plain)] {
        checker.some(text.as_ref(), place, &base);
    }
    for text in runbook.defaults.env.values() {
        checker.text(text, Place::Private, &base);
    }
    for root in runbook.watch.iter().flat_map(|watch| &watch.roots) {
        checker.text(root, Place::Plain, &base);
    }
    let certificate = runbook.access.as_ref().and_then(|access| access.certificate.as_ref());
    for principal in certificate.iter().flat_map(|certificate| &certificate.principals) {
        checker.text(principal, Place::Plain, &base);
    }
    let verify = match &runbook.rollback.verify {
        RollbackVerify::Steps(steps) => steps.as_slice(),
        RollbackVerify::Again | RollbackVerify::None => &[],
    };
    let lists: [(Phase, &[Step]); 7] = [
        (Phase::Prechecks, &runbook.prechecks),
        (Phase::Snapshot, &runbook.snapshot),
        (Phase::Execute, &runbook.execute),
        (Phase::Verify, &runbook.verify),
        (Phase::Rollback, &runbook.rollback.steps),
        (Phase::Rollback, verify),
        (Phase::Finally, &runbook.finally),
    ];
    let ids_of = |step: &Step| ids(step, &runbook.parameters);
    // Who has ended when is worth the time only when somebody asks.
    let asked = runbook.source.text().contains("steps");
    let all: BTreeSet<String> = lists.iter().flat_map(|(_, list)| list.iter()).flat_map(ids_of).collect();
    let mut ended: BTreeSet<String> = BTreeSet::new();
    for (_, list) in lists {
        let before = if asked { before(list) } else { Vec::new() };
        for (i, step) in list.iter().enumerate() {
            let mut names = base.clone();
            if let Some(before) = before.get(i) {
                names.steps = ended.clone();
                names.steps.extend(before.iter().flat_map(|other| ids_of(&list[*other])));
                names.other_steps = all.difference(&names.steps).cloned().collect();
            }
            names.item = step.each.is_some();
            checker.step(step, &names);
            for undo in &step.undo {
                // Taking back comes after everything; its own step is what it most often asks about.
                let mut names = names.clone();
                names.steps = if asked { all.clone() } else { BTreeSet::new() };
                names.other_steps = BTreeSet::new();
                checker.step(undo, &names);
            }
        }
        ended.extend(list.iter().flat_map(ids_of));
    }
}

/// Every text of a packaged action: its names are its own parameters.
pub(crate) fn check_action(action: &ActionFile, problems: &mut Problems) {
    let names = names(&action.parameters);
    let mut checker = Checker { shell: None, problems };
    for text in [&action.account, &action.cwd] {
        checker.some(text.as_ref(), Place::Plain, &names);
    }
    for text in action.env.values().chain(&action.stdin) {
        checker.text(text, Place::Private, &names);
    }
    for text in &action.changes {
        checker.text(text, Place::Plain, &names);
    }
    if let Some(expect) = &action.expect {
        checker.expect(expect, &names);
    }
    let mut by_os = |work: &ByOs, names: &Names| {
        // What serves both systems stands in the file once.
        let twice = matches!((&work.posix, &work.windows), (Some(a), Some(b)) if a.span == b.span);
        for (variant, shell) in [(&work.posix, ShellKind::Sh), (&work.windows, ShellKind::Powershell)] {
            if let (Some(variant), false) = (variant, twice && shell == ShellKind::Powershell) {
                checker.shell = if twice { None } else { Some(shell) };
                checker.action(&variant.value, names);
            }
        }
    };
    match &action.work {
        ActionWork::Once(work) => by_os(work, &names),
        ActionWork::Snapshot { take, probe, restore, release } => {
            let names = Names { snapshot: true, ..names.clone() };
            for work in [take, probe, restore, release] {
                by_os(work, &names);
            }
        }
    }
    for work in action.unless.iter().chain(&action.undo) {
        by_os(work, &names);
    }
}

fn names(parameters: &BTreeMap<String, Parameter>) -> Names {
    let secret = |parameter: &&Parameter| parameter.kind == ParameterKind::Secret;
    Names {
        parameters: parameters.keys().cloned().collect(),
        secret_parameters: parameters.values().filter(secret).map(|parameter| parameter.name.value.clone()).collect(),
        ..Names::default()
    }
}

/// The ids that a step has in the plan.
fn ids(step: &Step, parameters: &BTreeMap<String, Parameter>) -> Vec<String> {
    let count = match &step.each {
        None => return vec![step.id.value.clone()],
        Some(Each::Items(items)) => items.len(),
        Some(Each::Parameter(name)) => parameters
            .get(&name.value)
            .and_then(|parameter| parameter.default.as_ref())
            .and_then(|default| default.value.as_array().map(Vec::len))
            .unwrap_or(0)
            .max(ITEMS_MAX),
    };
    (1..=count).map(|n| format!("{}-{n}", step.id.value)).collect()
}

/// For each step of a list those of it that have ended when it begins.
fn before(list: &[Step]) -> Vec<BTreeSet<usize>> {
    let place: BTreeMap<&str, usize> = list.iter().enumerate().map(|(i, step)| (step.id.as_str(), i)).collect();
    let direct = |i: usize| -> Vec<usize> {
        match &list[i].needs {
            None => i.checked_sub(1).into_iter().collect(),
            Some(needs) => needs.iter().filter_map(|need| place.get(need.as_str()).copied()).collect(),
        }
    };
    (0..list.len())
        .map(|i| {
            let mut found = BTreeSet::new();
            let mut open = direct(i);
            while let Some(next) = open.pop() {
                if next != i && found.insert(next) {
                    open.extend(direct(next));
                }
            }
            found
        })
        .collect()
}

struct Checker<'p> {
    /// The shell of texts that do not name one, when it is known.
    shell: Option<ShellKind>,
    problems: &'p mut Problems,
}

impl Checker<'_> {
    fn step(&mut self, step: &Step, names: &Names) {
        for text in [&step.name, &step.account, &step.cwd] {
            self.some(text.as_ref(), Place::Plain, names);
        }
        for text in step.env.values().chain(&step.stdin) {
            self.text(text, Place::Private, names);
        }
        for text in &step.changes {
            self.text(text, Place::Plain, names);
        }
        if let Some(when) = &step.when {
            self.expression(when, names);
        }
        if let Some(expect) = &step.expect {
            self.expect(expect, names);
        }
        if let Some(unless) = &step.unless {
            self.command(unless, names);
        }
        self.action(&step.action, names);
    }

    fn action(&mut self, action: &Action, names: &Names) {
        match action {
            Action::Run(command) => self.command(command, names),
            Action::Script { args, interpreter, .. } => {
                for text in args.iter().chain(interpreter) {
                    self.text(text, Place::Plain, names);
                }
            }
            Action::Upload { to, owner, group, .. } => {
                for text in std::iter::once(to).chain(owner).chain(group) {
                    self.text(text, Place::Plain, names);
                }
            }
            Action::Download { from, .. } => self.text(from, Place::Plain, names),
            Action::Uses { with, .. } => {
                for value in with.values() {
                    self.value(value, &value.value, names);
                }
            }
            Action::WaitUntil { until, .. } => self.run(until, None, names),
            Action::Confirm { text } => self.text(text, Place::Plain, names),
            Action::Reboot { .. } | Action::Wait { .. } => {}
        }
    }

    fn command(&mut self, command: &Command, names: &Names) {
        match command {
            Command::Shell { text, shell, .. } => self.run(text, *shell, names),
            Command::Argv(argv) => argv.iter().for_each(|text| self.text(text, Place::Plain, names)),
        }
    }

    /// A text for a shell. When the shell depends on the host, only what is wrong for every system's own is reported
    /// here; the planner knows the host.
    fn run(&mut self, text: &Text, shell: Option<ShellKind>, names: &Names) {
        if let Some(shell) = shell.or(self.shell) {
            return self.text(text, Place::Run(shell), names);
        }
        let posix = template::check(&text.value, Place::Run(ShellKind::Sh), names);
        let is_error = |problem: &template::Problem| problem.severity == template::Severity::Error;
        if posix.iter().any(is_error) {
            let windows = template::check(&text.value, Place::Run(ShellKind::Powershell), names);
            if !windows.iter().any(is_error) {
                return;
            }
        }
        self.report_template(text, posix, names);
    }

    fn expect(&mut self, expect: &Expect, names: &Names) {
        for ExpectText { equals, contains, json, .. } in expect.stdout.iter().chain(&expect.stderr) {
            for text in equals.iter().chain(contains) {
                self.text(text, Place::Plain, names);
            }
            if let Some(json) = json {
                self.expression(json, &Names { json: true, ..names.clone() });
            }
        }
    }

    /// A value of `with`, which the packaged action may use anywhere.
    fn value(&mut self, place: &Spanned<Value>, value: &Value, names: &Names) {
        match value {
            Value::String(text) => {
                self.text(&Text::new(text.clone(), place.span.clone()), Place::Private, names);
            }
            Value::Array(items) => items.iter().for_each(|item| self.value(place, item, names)),
            Value::Object(map) => map.values().for_each(|item| self.value(place, item, names)),
            _ => {}
        }
    }

    fn some(&mut self, text: Option<&Text>, place: Place, names: &Names) {
        if let Some(text) = text {
            self.text(text, place, names);
        }
    }

    fn text(&mut self, text: &Text, place: Place, names: &Names) {
        if text.value.contains("{{") {
            let found = template::check(&text.value, place, names);
            self.report_template(text, found, names);
        }
    }

    /// Wrong quoting hides wrong names from the check, so those are looked for once more without it.
    fn report_template(&mut self, text: &Text, mut found: Vec<template::Problem>, names: &Names) {
        if !found.is_empty() {
            for problem in template::check(&text.value, Place::Private, names) {
                if !found.iter().any(|other| other.position == problem.position) {
                    found.push(problem);
                }
            }
        }
        self.report(text, found, Code::Template);
    }

    fn expression(&mut self, text: &Text, names: &Names) {
        let found = expression::check(&text.value, names);
        self.report(text, found, Code::Expression);
    }

    fn report(&mut self, text: &Text, found: Vec<template::Problem>, code: Code) {
        for problem in found {
            let start = offset(&text.value, problem.position);
            let length = text.value[start..].find(['}', '\n']).unwrap_or(text.value.len() - start).max(1);
            let mut span = text.within(start..start + length);
            if code == Code::Template && span.text().starts_with("{{") {
                // The mark covers the closing braces too.
                let close = span.source().text()[span.range().end..].bytes().take_while(|b| *b == b'}').count();
                span = crate::Span::new(span.source(), span.range().start..span.range().end + close.min(3));
            }
            let code = if problem.message.contains(" is a secret") { Code::SecretExposed } else { code };
            let mut diagnostic = match problem.severity {
                template::Severity::Error => Diagnostic::error(code, &span, problem.message),
                template::Severity::Warning if code == Code::Template => {
                    Diagnostic::warning(Code::Verbatim, &span, problem.message)
                }
                template::Severity::Warning => Diagnostic::warning(code, &span, problem.message),
            };
            diagnostic.help = match (problem.suggestion, problem.help) {
                (Some(suggestion), _) => Some(format!("did you mean `{suggestion}`?")),
                (None, help) => help,
            };
            self.problems.push(diagnostic);
        }
    }
}

/// The byte at a position of a text.
fn offset(text: &str, position: template::Position) -> usize {
    let line_start = text
        .split_inclusive('\n')
        .take((position.line as usize).saturating_sub(1))
        .map(str::len)
        .sum::<usize>()
        .min(text.len());
    let line = &text[line_start..];
    line_start + line.char_indices().nth((position.column as usize).saturating_sub(1)).map_or(line.len(), |(i, _)| i)
}
