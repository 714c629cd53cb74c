//! What the core asks about a plan's texts, answered at once: scopes, intents, what is measured and compared.

use std::collections::BTreeSet;
use std::sync::Arc;

use runbook_core::Run;
use runbook_model::command::Subject;
use runbook_model::evaluate::{Evaluate, Rendered, RunFacts, Scope, SnapshotFacts, When};
use runbook_model::event::RunHeader;
use runbook_model::host::Host;
use runbook_model::input::{Intent, Prepared};
use runbook_model::plan::{Place, Role, Step, Template, Undeclared};
use runbook_model::units::rfc3339_ms;
use runbook_model::{Cell, HostName, Plan, Sha256};

use crate::measure::Request;
use crate::measure::globs::Globs;
use crate::memory::{HostResults, Memory};

/// A message in a record is at most so long.
const MESSAGE_BYTES_MAX: usize = 2_000;

/// The evaluator with all that its scopes are made of.
pub(crate) struct Desk {
    pub(crate) plan: Arc<Plan>,
    pub(crate) evaluate: Arc<dyn Evaluate>,
    pub(crate) facts: RunFacts,
    /// The run that took the snapshots.
    pub(crate) snapshot_run: String,
}

/// What is to be compared with a manifest, which is still a blob.
pub(crate) struct Comparison {
    pub(crate) before: Option<Sha256>,
    pub(crate) patterns: Vec<String>,
    pub(crate) declared: Vec<String>,
    pub(crate) fails: bool,
    /// Everything must be as before, not only what nobody declared.
    pub(crate) baseline: bool,
    pub(crate) account: Option<String>,
}

impl Desk {
    pub(crate) fn new(plan: Arc<Plan>, evaluate: Arc<dyn Evaluate>, header: &RunHeader) -> Self {
        let facts = RunFacts {
            id: header.run.to_string(),
            ticket: header.ticket.clone().unwrap_or_default(),
            operator: header.operator.name.clone(),
            started_at: rfc3339_ms(header.started_ms),
        };
        let snapshot_run = header.takes_back.as_ref().unwrap_or(&header.run).to_string();
        Self { plan, evaluate, facts, snapshot_run }
    }

    fn step(&self, cell: &Cell) -> &Step {
        self.plan.step(&cell.step).expect("the core names steps of the plan")
    }

    fn host(&self, host: &HostName) -> &Host {
        &self.plan.hosts[host]
    }

    /// The names' meanings for one cell.
    pub(crate) fn with_scope<T>(
        &self,
        run: &Run,
        memory: &Memory,
        host: &HostName,
        step: Option<&Step>,
        go: impl FnOnce(&Scope<'_>) -> T,
    ) -> T {
        let results: HostResults<'_> = memory.of(host);
        let snapshot = step.and_then(|step| {
            let taken = match &step.role {
                Role::Take => &step.id,
                Role::Probe { of } | Role::Restore { of } | Role::Release { of } => of,
                _ => return None,
            };
            let cell = Cell { host: host.clone(), step: taken.clone() };
            Some(SnapshotFacts {
                id: taken.to_string(),
                reference: run.snapshot(&cell).unwrap_or_default().to_owned(),
                run: self.snapshot_run.clone(),
            })
        });
        go(&Scope {
            plan: &self.plan,
            host: self.host(host),
            facts: run.facts(host),
            run: Some(&self.facts),
            steps: &results,
            snapshot,
        })
    }

    /// `when`, and the texts.
    pub(crate) fn prepare(&self, run: &Run, memory: &Memory, cell: &Cell) -> (Prepared, Option<Arc<Rendered>>) {
        let step = self.step(cell);
        if let Some(message) = memory.incomplete(&cell.host, step) {
            return (Prepared::Refused { message }, None);
        }
        let result = self.with_scope(run, memory, &cell.host, Some(step), |scope| {
            Ok(match self.evaluate.when(scope, step)? {
                When::Skip(reason) => Err(reason),
                When::Run => Ok(self.evaluate.render(scope, step)?),
            })
        });
        match result {
            Err::<_, runbook_model::evaluate::EvaluateError>(error) => {
                (Prepared::Refused { message: clipped(error.to_string()) }, None)
            }
            Ok(Err(reason)) => (Prepared::Skip { reason: clipped(reason) }, None),
            Ok(Ok(rendered)) => {
                let intent = Intent {
                    command_sha256: Sha256::of(rendered.command_text().as_bytes()),
                    template_sha256: rendered.template_sha256,
                    variables: rendered.variables.iter().cloned().collect(),
                    account: rendered.account.clone(),
                };
                (Prepared::Ready(intent), Some(Arc::new(rendered)))
            }
        }
    }

    /// What a measurement looks at, and where.
    ///
    /// # Errors
    /// When a pattern is none.
    pub(crate) fn request(
        &self,
        run: &Run,
        memory: &Memory,
        host: &HostName,
        subject: &Subject,
        rendered: Option<&Rendered>,
    ) -> Result<Request, String> {
        let (patterns, account, services) = match subject {
            Subject::Baseline => (self.declared(run, memory, host), self.reader(run, memory, host), true),
            Subject::WatchBefore => (self.watched(run, memory, host)?, self.reader(run, memory, host), false),
            Subject::Before { .. } | Subject::After { .. } => {
                let rendered = rendered.ok_or("the step's texts are not at hand")?;
                (rendered.changes.clone(), rendered.account.clone(), false)
            }
        };
        let globs = Globs::new(patterns.iter().map(String::as_str)).map_err(|error| error.to_string())?;
        Ok(Request { globs, account, services })
    }

    /// What a step with action `Compare` compares.
    pub(crate) fn comparison(&self, run: &Run, memory: &Memory, cell: &Cell) -> Result<Comparison, String> {
        let host = &cell.host;
        let account = self.reader(run, memory, host);
        let declared = self.declared(run, memory, host);
        Ok(match self.step(cell).role {
            Role::Undeclared => Comparison {
                before: run.measured(host, &Subject::WatchBefore),
                patterns: self.watched(run, memory, host)?,
                declared,
                fails: self.plan.watch.as_ref().is_some_and(|watch| watch.undeclared == Undeclared::Fail),
                baseline: false,
                account,
            },
            _ => Comparison {
                before: run.measured(host, &Subject::Baseline),
                patterns: declared,
                declared: Vec::new(),
                fails: true,
                baseline: true,
                account,
            },
        })
    }

    /// All that the host's own steps say they may change. What depends on a step that has not run yet is not known, and
    /// cannot have been changed by that step either.
    fn declared(&self, run: &Run, memory: &Memory, host: &HostName) -> Vec<String> {
        let mut found = BTreeSet::new();
        for step in self.plan.steps.iter().filter(|step| step.on == Place::Host && !step.changes.is_empty()) {
            self.with_scope(run, memory, host, Some(step), |scope| {
                match self.evaluate.render(scope, step) {
                    Ok(rendered) => found.extend(rendered.changes),
                    Err(_) => {
                        let texts = step.changes.iter().filter_map(|text| self.evaluate.text(scope, text).ok());
                        found.extend(texts);
                    }
                };
            });
        }
        found.into_iter().collect()
    }

    fn watched(&self, run: &Run, memory: &Memory, host: &HostName) -> Result<Vec<String>, String> {
        let roots: &[Template] = self.plan.watch.as_ref().map_or(&[], |watch| &watch.roots);
        self.with_scope(run, memory, host, None, |scope| {
            roots.iter().map(|root| self.evaluate.text(scope, root).map_err(|error| error.to_string())).collect()
        })
    }

    /// The account that can read most: root when any of the host's steps becomes root.
    fn reader(&self, run: &Run, memory: &Memory, host: &HostName) -> Option<String> {
        let mut first = self.host(host).account.clone();
        for step in self.plan.steps.iter().filter(|step| step.on == Place::Host) {
            let Some(account) = &step.account else {
                continue;
            };
            let text = self.with_scope(run, memory, host, Some(step), |scope| self.evaluate.text(scope, account));
            match text {
                Ok(account) if account == "root" => return Some(account),
                Ok(account) if first.is_none() => first = Some(account),
                _ => {}
            }
        }
        first
    }
}

/// A message short enough for a record, whatever a host has put into it.
pub(crate) fn clipped(text: String) -> String {
    clipped_to(text, MESSAGE_BYTES_MAX)
}

/// The same with a limit of its own, which counts bytes as JSON writes them.
pub(crate) fn clipped_to(text: String, bytes_max: usize) -> String {
    let mut bytes = 0;
    for (at, c) in text.char_indices() {
        bytes += match c {
            '"' | '\\' => 2,
            c if c.is_control() => 6,
            c => c.len_utf8(),
        };
        if bytes > bytes_max {
            return format!("{}…", &text[..at]);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_says_never_makes_a_record_too_long() {
        for text in ["x".repeat(100_000), "\u{1}".repeat(100_000), "ä\"".repeat(50_000)] {
            let json = serde_json::to_string(&clipped(text)).unwrap();
            assert!(json.len() <= MESSAGE_BYTES_MAX + 8, "{}", json.len());
        }
        assert_eq!(clipped("short".into()), "short");
    }
}
