//! From a runbook to a plan. All problems are found in one go.
//!
//! Steps pass through these stages: the lists of the runbook are put in order ([`phase`]), each step is repeated for
//! its `each` items and turned into the plan's form ([`step`], [`action`], [`packaged`]), rollback is derived from what
//! came of `snapshot` and `execute` ([`rollback`]), and in the end every text is rendered once for every host, so that
//! a name that nobody knows is found now and not in the middle of a change.

use std::collections::{BTreeMap, BTreeSet};

use runbook_lang::diagnostic::{any_error, sorted};
use runbook_lang::source::content_digest;
use runbook_lang::{Code, Diagnostic, Span, resolve_parameters};
use runbook_model::Sha256;
use runbook_model::id::StepId;
use runbook_model::plan::{FileRef, Phase, Plan, RollbackRule, RunbookRef, SCHEMA, Step, Template, Watch, WindowRule};

use crate::render::Renderings;
use crate::request::PlanRequest;
use crate::{invariants, render};

pub(crate) mod access;
mod action;
mod packaged;
mod phase;
mod results;
mod rollback;
mod step;
mod targets;
#[cfg(test)]
mod tests;
mod way_back;

/// More steps than this are a mistake: the largest runbooks that people keep in order have a few hundred.
pub const STEPS_MAX: usize = 5_000;

/// The plan for `request`. Pure: the same request gives the same plan, on every machine.
///
/// # Errors
/// All that is wrong, in order of place. Nothing was touched.
pub fn build(request: PlanRequest<'_>) -> Result<Plan, Vec<Diagnostic>> {
    build_rendered(request).map(|(plan, _)| plan)
}

/// As [`build`], with the texts that were rendered on the way, for [`crate::Preview::with`]: who shows the plan does not
/// render it again.
///
/// # Errors
/// As [`build`].
pub fn build_rendered(request: PlanRequest<'_>) -> Result<(Plan, Renderings), Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let targets = targets::select(&request).unwrap_or_else(|found| {
        problems.extend(found);
        targets::Targets::default()
    });
    let parameters = resolve_parameters(&request.runbook.parameters, request.parameters).unwrap_or_else(|found| {
        problems.extend(found);
        Default::default()
    });
    let heads_are_sound = problems.is_empty();
    let runbook = request.runbook;
    let mut secrets: BTreeMap<_, _> =
        runbook.secrets.iter().map(|(name, source)| (name.clone(), source.value.clone())).collect();
    secrets.extend(parameters.secrets);
    let frame = Plan {
        schema: SCHEMA.to_owned(),
        runbook: RunbookRef {
            name: runbook.name.value.clone(),
            title: runbook.title.as_ref().map(|title| title.value.clone()).unwrap_or_default(),
            tier: runbook.tier,
            controls: runbook.controls.iter().map(|control| control.value.clone()).collect(),
            source_sha256: content_digest(&runbook.source),
        },
        parameters: parameters.values,
        secrets,
        parallel: runbook.targets.parallel.max(1),
        soak_ms: runbook.targets.soak_ms,
        failure_budget: targets::failure_budget(runbook.targets.failure_budget, targets.hosts.len()),
        hosts: targets.hosts,
        batches: targets.batches,
        watch: runbook.watch.as_ref().map(|watch| Watch {
            roots: watch.roots.iter().map(|root| Template(root.value.clone())).collect(),
            undeclared: watch.undeclared,
        }),
        rollback: RollbackRule {
            strategy: runbook.rollback.strategy,
            scope: runbook.rollback.scope,
            budget_ms: runbook.rollback.budget_ms,
            verify: rollback::verify_rule(&runbook.rollback.verify),
        },
        window: WindowRule { at_end: runbook.at_end },
        access: None,
        irreversible: runbook.irreversible.as_ref().map(|reason| reason.value.clone()),
        steps: Vec::new(),
        files: BTreeMap::new(),
    };
    let mut frame = frame;
    match access::access(&request, &frame) {
        Ok(access) => frame.access = access,
        Err(found) => problems.extend(found),
    }
    let frame = frame;
    let mut builder = Builder {
        request,
        hosts: render::seen(&frame),
        frame: &frame,
        files: BTreeMap::new(),
        spans: BTreeMap::new(),
        problems,
        heads_are_sound,
        full: false,
    };
    let steps = builder.all_steps();
    builder.finish(steps)
}

struct Builder<'a> {
    request: PlanRequest<'a>,
    /// The plan without steps and files: the scope in which texts are rendered on the way.
    frame: &'a Plan,
    /// Its hosts.
    hosts: Vec<render::Seen<'a>>,
    files: BTreeMap<Sha256, FileRef>,
    /// Where each step of the plan was written.
    spans: BTreeMap<StepId, Span>,
    problems: Vec<Diagnostic>,
    /// Hosts and parameters are known, so texts can be rendered.
    heads_are_sound: bool,
    /// There were too many steps, and that has been said.
    full: bool,
}

impl Builder<'_> {
    fn report(&mut self, problem: Diagnostic) {
        self.problems.push(problem);
    }

    fn all_steps(&mut self) -> Vec<Step> {
        let runbook = self.request.runbook;
        let mut earlier = BTreeSet::new();
        let mut lists = Vec::new();
        for phase in [Phase::Prechecks, Phase::Snapshot, Phase::Execute, Phase::Verify] {
            lists.push(self.list(runbook.phase(phase), phase, &mut earlier));
        }
        let [prechecks, snapshot, execute, verify] =
            <[_; 4]>::try_from(lists).unwrap_or_else(|_| unreachable!("four phases give four lists"));
        self.way_back(&snapshot, &execute);
        let taking_back = self.rollback(&prechecks, &snapshot, &execute, &mut earlier);
        let finally = self.list(&runbook.finally, Phase::Finally, &mut earlier);

        let mut steps: Vec<Step> = prechecks.into_iter().map(|made| made.step).collect();
        steps.extend(phase::snapshot_steps(snapshot));
        steps.extend(execute.into_iter().map(|made| made.step));
        let mut verify: Vec<Step> = verify.into_iter().map(|made| made.step).collect();
        if self.frame.watch.is_some() {
            verify.push(rollback::undeclared(&verify));
        }
        steps.extend(verify);
        steps.extend(taking_back);
        steps.extend(finally.into_iter().map(|made| made.step));
        steps
    }

    /// Whether one more step may be made; says so once when not.
    fn has_room(&mut self, span: &Span) -> bool {
        if self.spans.len() < STEPS_MAX {
            return true;
        }
        if !self.full {
            self.full = true;
            self.report(
                Diagnostic::error(Code::TooManySteps, span, format!("the plan has more than {STEPS_MAX} steps"))
                    .help("`each` makes a step of every item; give a script the whole list instead"),
            );
        }
        false
    }

    /// Takes an id for a step written at `span`; a second step with the same id is a problem.
    fn claim(&mut self, id: &StepId, span: &Span) {
        if let Some(other) = self.spans.insert(id.clone(), span.clone()) {
            let message = format!("the planner makes two steps with the id `{id}`");
            self.report(
                Diagnostic::error(Code::DerivedId, span, message)
                    .label(&other, "the other one comes from here")
                    .help("steps of `each` get their step's id, `-` and a number; give one of the two another id"),
            );
        }
    }

    fn finish(mut self, steps: Vec<Step>) -> Result<(Plan, Renderings), Vec<Diagnostic>> {
        if any_error(&self.problems) {
            return Err(sorted(self.problems));
        }
        let plan = Plan { steps, files: std::mem::take(&mut self.files), ..self.frame.clone() };
        invariants::assert_sound(&plan);
        let renderings = self.render_all(&plan);
        if self.problems.is_empty() { Ok((plan, renderings)) } else { Err(sorted(self.problems)) }
    }

    fn render_all(&mut self, plan: &Plan) -> Renderings {
        let mut all = Vec::new();
        let mut said = BTreeSet::new();
        for (place, step) in plan.steps.iter().enumerate() {
            let failures = match render::cells(plan, step, &self.hosts, self.request.evaluate) {
                Ok(cells) => {
                    let missing = results::missing(plan, place, &cells);
                    all.push(cells);
                    missing
                }
                Err(failures) => failures,
            };
            let span = self.spans.get(&step.id).unwrap_or(&self.request.runbook.targets.span).clone();
            // What a derived step has from the one that it serves is said once.
            for failure in failures.into_iter().filter(|f| said.insert((span.range().start, f.message.clone()))) {
                self.report_failure(&span, failure);
            }
        }
        let watch = plan.watch.iter().zip(&self.request.runbook.watch);
        let host = plan.hosts.values().next();
        let mut problems = Vec::new();
        for ((watch, written), host) in watch.zip(host) {
            for (root, written) in watch.roots.iter().zip(&written.roots) {
                if let Err(error) = self.request.evaluate.text(&render::scope(plan, host), root) {
                    problems.push(Diagnostic::error(Code::Unrenderable, &written.span, error.to_string()));
                }
            }
        }
        self.problems.append(&mut problems);
        Renderings(all)
    }

    fn report_failure(&mut self, span: &Span, failure: render::Failure) {
        let mut problem = Diagnostic::error(Code::Unrenderable, span, failure.message);
        if failure.hosts < self.hosts.len() {
            let others = match failure.hosts {
                1 => String::new(),
                more => format!(" and {} more", more - 1),
            };
            problem = problem.help(format!("this is so on {}{others}", failure.host));
        }
        self.report(problem);
    }
}
