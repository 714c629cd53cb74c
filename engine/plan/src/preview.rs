//! What a plan will do, for people and tools: the host × step matrix, the exact commands, and what cannot be known
//! before the run. Views of it: text ([`Preview::text`]) and JSON ([`Preview::json`]).

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::Sha256;
use runbook_model::evaluate::{Evaluate, Rendered, RenderedAction};
use runbook_model::id::{HostName, StepId};
use runbook_model::plan::{Action, Phase, Plan, Role, Step};

use crate::invariants::actions;
use crate::render::{self, Due, Failure, Renderings};

mod json;
#[cfg(test)]
mod tests;
mod text;

pub use json::SCHEMA;

/// A plan with every text rendered as far as it can be before the run.
pub struct Preview<'p> {
    plan: &'p Plan,
    digest: Sha256,
    /// In the order of the batches.
    hosts: Vec<PreviewHost>,
    steps: Vec<PreviewStep<'p>>,
    watch_roots: Vec<String>,
    warnings: Vec<Warning>,
}

struct PreviewHost {
    name: HostName,
    /// From 1.
    batch: usize,
}

/// A step and what it is on each host.
struct PreviewStep<'p> {
    step: &'p Step,
    commands: Vec<PreviewCommand>,
    /// For each host the number of its command and whether it runs.
    cells: Vec<PreviewCell>,
}

struct PreviewCommand {
    rendered: Rendered,
    /// Numbers of the hosts.
    hosts: Vec<usize>,
}

struct PreviewCell {
    command: usize,
    state: State,
    /// Why it is skipped, or what it depends on.
    reason: Option<String>,
}

/// Whether a step runs on a host, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    /// Nothing that is known speaks against it.
    Runs,
    /// Its `when`, its `unless`, or whether the host must be taken back decides in the run.
    Depends,
    /// Its `when` is false.
    Skipped,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            State::Runs => "runs",
            State::Depends => "depends",
            State::Skipped => "skipped",
        }
    }
}

/// Something that somebody should look at before the plan runs.
struct Warning {
    step: StepId,
    message: String,
}

/// A plan whose texts cannot be rendered. [`crate::build`] never gives one; a file may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("step `{step}` cannot be rendered for {}: {message}", hosts_text(host, *hosts))]
pub struct Error {
    /// The step.
    pub step: StepId,
    /// The first host for which it cannot.
    pub host: HostName,
    /// For how many hosts it cannot.
    pub hosts: usize,
    /// Why; names the field.
    pub message: String,
}

fn hosts_text(host: &HostName, hosts: usize) -> String {
    let name = crate::printable::text(host.as_str());
    match hosts {
        1 => format!("host `{name}`"),
        _ => format!("{hosts} hosts, first `{name}`"),
    }
}

impl Error {
    /// The code of the page in `docs/errors`.
    pub fn code(&self) -> &'static str {
        "RB0205"
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let Failure { step, host, hosts, message } = failure;
        Self { step, host, hosts, message }
    }
}

impl<'p> Preview<'p> {
    /// Renders `plan`.
    ///
    /// # Errors
    /// All texts that cannot be rendered.
    pub fn of(plan: &'p Plan, evaluate: &dyn Evaluate) -> Result<Self, Vec<Error>> {
        let seen = render::seen(plan);
        let mut all = Vec::new();
        let mut errors = Vec::new();
        for step in &plan.steps {
            match render::cells(plan, step, &seen, evaluate) {
                Ok(cells) => all.push(cells),
                Err(failures) => errors.extend(failures.into_iter().map(Error::from)),
            }
        }
        if errors.is_empty() { Ok(Self::with(plan, Renderings(all))) } else { Err(errors) }
    }

    /// The preview of a plan that was rendered when it was built.
    ///
    /// # Panics
    /// When `renderings` are those of another plan.
    pub fn with(plan: &'p Plan, renderings: Renderings) -> Self {
        assert_eq!(plan.steps.len(), renderings.0.len(), "a plan is shown with its own renderings");
        let steps = plan.steps.iter().zip(renderings.0).map(|(step, cells)| PreviewStep::of(step, cells)).collect();
        let batches = plan.batches.iter().enumerate();
        let hosts = batches
            .flat_map(|(batch, names)| {
                names.iter().map(move |name| PreviewHost { name: name.clone(), batch: batch + 1 })
            })
            .collect();
        Self {
            plan,
            digest: plan.digest(),
            hosts,
            steps,
            watch_roots: plan.watch.iter().flat_map(|watch| &watch.roots).map(|root| root.0.clone()).collect(),
            warnings: plan.steps.iter().flat_map(warnings).collect(),
        }
    }

    /// The plan's digest.
    pub fn digest(&self) -> Sha256 {
        self.digest
    }

    /// Every name whose value will be known only in the run.
    pub fn unknown(&self) -> BTreeSet<&str> {
        let commands = self.steps.iter().flat_map(|step| &step.commands);
        commands.flat_map(|command| &command.rendered.unknown).map(String::as_str).collect()
    }

    /// Why the plan, or a step of it, cannot be taken back.
    fn irreversible(&self) -> Vec<(Option<&StepId>, &str)> {
        let whole = self.plan.irreversible.iter().map(|reason| (None, reason.as_str()));
        let steps = self.plan.steps.iter();
        let of_steps = steps.filter_map(|step| step.irreversible.as_deref().map(|reason| (Some(&step.id), reason)));
        whole.chain(of_steps).collect()
    }
}

impl<'p> PreviewStep<'p> {
    fn of(step: &'p Step, cells: render::Cells) -> Self {
        let mut commands: Vec<PreviewCommand> = Vec::new();
        let mut numbers = Vec::new();
        let mut by_command: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for variant in &cells.variants {
            let alike = by_command.entry(variant.rendered.command_text()).or_default();
            let number = alike.iter().copied().find(|number| commands[*number].rendered == variant.rendered);
            numbers.push(number.unwrap_or_else(|| {
                alike.push(commands.len());
                commands.push(PreviewCommand { rendered: variant.rendered.clone(), hosts: Vec::new() });
                commands.len() - 1
            }));
        }
        let on_demand = match (&step.role, step.phase) {
            (Role::Release { .. }, _) => Some("only when the snapshot is given up"),
            (_, Phase::Rollback) => Some("only when the host is taken back"),
            _ if step.unless.is_some() => Some("`unless` may find it already done"),
            _ => None,
        };
        let mut out = Vec::with_capacity(cells.of_host.len());
        for (host, variant) in cells.of_host.iter().enumerate() {
            let command = numbers[*variant];
            commands[command].hosts.push(host);
            let (state, reason) = match (&cells.variants[*variant].due, on_demand) {
                (Due::No(reason), _) => (State::Skipped, Some(reason.clone())),
                (Due::Open(reason), _) => (State::Depends, Some(reason.clone())),
                (Due::Yes, Some(reason)) => (State::Depends, Some(reason.to_owned())),
                (Due::Yes, None) => (State::Runs, None),
            };
            out.push(PreviewCell { command, state, reason });
        }
        Self { step, commands, cells: out }
    }

    /// Numbers of the hosts in this state, with the reasons.
    fn hosts_in(&self, state: State) -> Vec<(usize, Option<&str>)> {
        let cells = self.cells.iter().enumerate().filter(|(_, cell)| cell.state == state);
        cells.map(|(host, cell)| (host, cell.reason.as_deref())).collect()
    }
}

/// Values that go into a command as they are.
fn warnings(step: &Step) -> Vec<Warning> {
    let mut found = BTreeSet::new();
    for action in actions(&step.work).chain(step.unless.iter().flat_map(actions)) {
        let text = match action {
            Action::Run { command, .. } => command,
            Action::WaitUntil { until, .. } => until,
            _ => continue,
        };
        found.extend(verbatim(&text.0));
    }
    let message = |name| {
        format!("`{{{{{{{name}}}}}}}` goes into the command as it is, without quoting: its value can become syntax")
    };
    found.into_iter().map(|name| Warning { step: step.id.clone(), message: message(name) }).collect()
}

/// What stands between `{{{` and `}}}`, or after `{{&`.
fn verbatim(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        let escaped = rest[..at].ends_with('\\');
        rest = &rest[at + 2..];
        let (inner, close) = match rest.chars().next() {
            Some('{') => (&rest[1..], "}}}"),
            Some('&') => (&rest[1..], "}}"),
            _ => continue,
        };
        if let (false, Some(end)) = (escaped, inner.find(close)) {
            found.push(inner[..end].trim().to_owned());
            rest = &inner[end..];
        }
    }
    found
}

/// What kind of thing a step does, in one word.
fn kind(action: &RenderedAction) -> &'static str {
    match action {
        RenderedAction::Run { .. } | RenderedAction::Argv(_) => "run",
        RenderedAction::Script { .. } => "script",
        RenderedAction::Upload { .. } => "upload",
        RenderedAction::Download { .. } => "download",
        RenderedAction::Reboot { .. } => "reboot",
        RenderedAction::Wait { .. } | RenderedAction::WaitUntil { .. } => "wait",
        RenderedAction::Confirm { .. } => "confirm",
        RenderedAction::Compare => "compare",
    }
}
