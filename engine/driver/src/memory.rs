//! What of a run's log the evaluator and the probes need again: results of steps, boot ids, when attempts began.
//!
//! Folded from the same events live and after a crash; what an event names only by digest is fetched then.

use std::collections::{BTreeMap, BTreeSet};

use runbook_ledger::segments::LINE_BYTES;
use runbook_model::evaluate::{StepResult, StepResults};
use runbook_model::event::AttemptReport;
use runbook_model::outcome::{Ended, Exit, OutputRef};
use runbook_model::plan::{Action, Plan, Step, Work};
use runbook_model::{AttemptId, AttemptOutcome, Cell, Event, HostName, HostOutcome, Sha256, StepId};
use runbook_ports::BlobStore;
use runbook_ports::store::StoreError;

use crate::output::Captured;
use crate::output::keep::SEEN_BYTES_MAX;

/// See the module.
pub(crate) struct Memory {
    /// Steps whose results some text refers to; the others' are not kept.
    referenced: BTreeSet<StepId>,
    /// The texts of the steps that refer to results.
    referring: BTreeMap<StepId, String>,
    once: BTreeSet<StepId>,
    reboots: BTreeSet<StepId>,
    /// The secrets that each step uses.
    secrets: BTreeMap<StepId, Vec<String>>,
    /// Secrets of steps that have begun: what came later may have printed them.
    secrets_used: BTreeSet<String>,
    results: BTreeMap<Cell, Kept>,
    done_on: BTreeMap<Cell, HostName>,
    boot_ids: BTreeMap<HostName, String>,
    under_way: BTreeMap<AttemptId, UnderWay>,
    intents: BTreeMap<Cell, Sha256>,
}

#[derive(Default)]
struct Kept {
    result: StepResult,
    stdout_whole: bool,
    stderr_whole: bool,
}

/// What is known of an attempt that has begun and not ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnderWay {
    pub(crate) started_ms: u64,
    pub(crate) boot_id: Option<String>,
}

impl Memory {
    pub(crate) fn new(plan: &Plan) -> Self {
        let is_reboot = |action: &Option<Action>| matches!(action, Some(Action::Reboot { .. }));
        let reboots = plan.steps.iter().filter(|step| match &step.work {
            Work::Any(action) => matches!(action, Action::Reboot { .. }),
            Work::ByOs { posix, windows } => is_reboot(posix) || is_reboot(windows),
        });
        Self {
            referenced: referenced(plan),
            referring: plan.steps.iter().filter_map(|step| Some((step.id.clone(), referring(step)?))).collect(),
            once: plan.steps.iter().filter(|step| step.once.is_some()).map(|step| step.id.clone()).collect(),
            reboots: reboots.map(|step| step.id.clone()).collect(),
            secrets: plan.steps.iter().filter_map(|step| Some((step.id.clone(), secrets_of(plan, step)?))).collect(),
            secrets_used: BTreeSet::new(),
            results: BTreeMap::new(),
            done_on: BTreeMap::new(),
            boot_ids: BTreeMap::new(),
            under_way: BTreeMap::new(),
            intents: BTreeMap::new(),
        }
    }

    /// Folds an event.
    pub(crate) fn observe(&mut self, event: &Event, time_ms: u64) {
        match event {
            Event::SessionOpened { host, facts, .. } => {
                self.boot_ids.insert(host.clone(), facts.boot_id.clone());
            }
            Event::StepPrepared { cell, intent } => {
                self.intents.insert(cell.clone(), intent.command_sha256);
            }
            Event::AttemptStarted { attempt, intent, .. } => {
                let boot_id = self.boot_ids.get(&attempt.host).filter(|id| !id.is_empty()).cloned();
                self.under_way.insert(attempt.clone(), UnderWay { started_ms: time_ms, boot_id });
                self.secrets_used.extend(self.secrets.get(&attempt.step).into_iter().flatten().cloned());
                self.intents.insert(attempt.cell(), intent.command_sha256);
            }
            Event::AttemptEnded { attempt, report, .. } if !matches!(report.ended, Ended::Unknown { .. }) => {
                self.under_way.remove(attempt);
            }
            Event::StepEnded { cell, outcome, done_on, .. } => {
                // What is unknown may be asked after once more, and only with the texts with which it was begun.
                if *outcome != AttemptOutcome::Unknown {
                    self.intents.remove(cell);
                }
                if !self.referenced.contains(&cell.step) {
                } else if let Some(host) = done_on.as_ref().filter(|host| **host != cell.host) {
                    self.done_on.insert(cell.clone(), host.clone());
                } else if *outcome == AttemptOutcome::Skipped {
                    let result = StepResult { skipped: true, ..StepResult::default() };
                    self.results.insert(cell.clone(), Kept { result, stdout_whole: true, stderr_whole: true });
                }
            }
            // The others may be taken up again, and their steps need what was said before.
            Event::HostEnded { host, outcome, .. }
                if !matches!(outcome, HostOutcome::Failed | HostOutcome::Stuck | HostOutcome::Unknown) =>
            {
                let once = &self.once;
                self.results.retain(|cell, _| cell.host != *host || once.contains(&cell.step));
                self.done_on.retain(|cell, _| cell.host != *host);
                self.intents.retain(|cell, _| cell.host != *host);
            }
            _ => {}
        }
    }

    /// An attempt's outputs, as they come in.
    pub(crate) fn keep(&mut self, attempt: &AttemptId, report: &AttemptReport, captured: &Captured) {
        if self.reboots.contains(&attempt.step) {
            self.note_reboot(&attempt.host, &captured.stdout.seen);
        }
        if self.referenced.contains(&attempt.step) {
            let (stdout, stderr) = (&captured.stdout, &captured.stderr);
            self.insert(attempt.cell(), report, (&stdout.seen, stdout.whole), (&stderr.seen, stderr.whole));
        }
    }

    /// The same from the log.
    pub(crate) async fn refill(&mut self, event: &Event, blobs: &dyn BlobStore) -> Result<(), StoreError> {
        let Event::AttemptEnded { attempt, report, .. } = event else {
            return Ok(());
        };
        let referenced = self.referenced.contains(&attempt.step);
        if !referenced && !self.reboots.contains(&attempt.step) {
            return Ok(());
        }
        let stdout = fetched(blobs, &report.stdout).await?;
        self.note_reboot(&attempt.host, &stdout.0);
        if referenced {
            let stderr = fetched(blobs, &report.stderr).await?;
            self.insert(attempt.cell(), report, (&stdout.0, stdout.1), (&stderr.0, stderr.1));
        }
        Ok(())
    }

    fn note_reboot(&mut self, host: &HostName, stdout: &[u8]) {
        let text = String::from_utf8_lossy(stdout);
        if let Some(after) = text.lines().find_map(|line| line.strip_prefix("boot id after: ")) {
            self.boot_ids.insert(host.clone(), after.to_owned());
        }
    }

    fn insert(&mut self, cell: Cell, report: &AttemptReport, stdout: (&[u8], bool), stderr: (&[u8], bool)) {
        let exit_code = match &report.ended {
            Ended::Exited { exit: Exit::Code(code), .. } => Some(*code),
            _ => None,
        };
        let result = StepResult { stdout: text(stdout.0), stderr: text(stderr.0), exit_code, skipped: false };
        self.results.insert(cell, Kept { result, stdout_whole: stdout.1, stderr_whole: stderr.1 });
    }

    /// The secrets that steps used so far.
    pub(crate) fn secrets_used(&self) -> &BTreeSet<String> {
        &self.secrets_used
    }

    pub(crate) fn under_way(&self, attempt: &AttemptId) -> Option<&UnderWay> {
        self.under_way.get(attempt)
    }

    pub(crate) fn intent(&self, cell: &Cell) -> Option<Sha256> {
        self.intents.get(cell).copied()
    }

    /// The results as a host's steps see them.
    pub(crate) fn of<'a>(&'a self, host: &'a HostName) -> HostResults<'a> {
        HostResults { memory: self, host }
    }

    fn find(&self, host: &HostName, step: &StepId) -> Option<&Kept> {
        let cell = Cell { host: host.clone(), step: step.clone() };
        match self.done_on.get(&cell) {
            Some(host) => self.results.get(&Cell { host: host.clone(), step: step.clone() }),
            None => self.results.get(&cell),
        }
    }

    /// Why the step's texts cannot be rendered, when they use an output that is not at hand in full.
    pub(crate) fn incomplete(&self, host: &HostName, step: &Step) -> Option<String> {
        let text = self.referring.get(&step.id)?;
        self.referenced.iter().filter(|id| text.contains(id.as_str())).find_map(|id| {
            let kept = self.find(host, id)?;
            let uses = |word: &str| text.contains(word);
            let stream = if !kept.stdout_whole && (uses("stdout") || uses("json")) {
                "standard output"
            } else if !kept.stderr_whole && uses("stderr") {
                "standard error"
            } else {
                return None;
            };
            Some(format!(
                "it uses the {stream} of step `{id}`, which is not at hand in full (over 1 MiB, or sensitive)"
            ))
        })
    }
}

/// The results of one host's steps.
pub(crate) struct HostResults<'a> {
    memory: &'a Memory,
    host: &'a HostName,
}

impl StepResults for HostResults<'_> {
    fn result(&self, step: &StepId) -> Option<StepResult> {
        self.memory.find(self.host, step).map(|kept| kept.result.clone())
    }
}

/// Invalid UTF-8 replaced, one line end at the end dropped.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    String::from_utf8_lossy(bytes).into_owned()
}

async fn fetched(blobs: &dyn BlobStore, output: &OutputRef) -> Result<(Vec<u8>, bool), StoreError> {
    match &output.blob {
        None => Ok((Vec::new(), output.bytes == 0 && !output.truncated)),
        Some(_) if output.bytes > SEEN_BYTES_MAX as u64 || output.truncated => Ok((Vec::new(), false)),
        Some(blob) => {
            let bytes = blobs.get(blob, (SEEN_BYTES_MAX + LINE_BYTES) as u64).await?;
            Ok((runbook_ledger::segments::content(output, &bytes).to_vec(), true))
        }
    }
}

/// The plan's secrets whose names stand in a step that mentions `secret`; `None` when it does not. One too many does no
/// harm, one too few would.
fn secrets_of(plan: &Plan, step: &Step) -> Option<Vec<String>> {
    let text = serde_json::to_string(step).expect("steps are representable as JSON");
    let named = || plan.secrets.keys().filter(|name| text.contains(name.as_str())).cloned().collect();
    (!plan.secrets.is_empty() && text.contains("secret")).then(named)
}

/// The step's texts, when they mention `steps`.
fn referring(step: &Step) -> Option<String> {
    let text = serde_json::to_string(step).expect("steps are representable as JSON");
    text.contains("steps").then_some(text)
}

/// The steps whose ids occur in a step that mentions `steps`; all of them when one looks a result up by an id that is
/// only known later.
fn referenced(plan: &Plan) -> BTreeSet<StepId> {
    let mut found = BTreeSet::new();
    for text in plan.steps.iter().filter_map(referring) {
        let dynamic = text.contains("lookup") || text.contains("steps[");
        let named = plan.steps.iter().filter(|other| dynamic || text.contains(other.id.as_str()));
        found.extend(named.map(|other| other.id.clone()));
    }
    found
}
