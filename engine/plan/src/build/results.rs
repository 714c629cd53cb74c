//! Results of steps that texts use (`steps.<id>.stdout`): the step must be there, and have ended before.

use std::collections::BTreeSet;

use runbook_model::id::StepId;
use runbook_model::plan::{Phase, Plan, Role};

use crate::render::{Cells, Failure};

/// Each step that a text of the plan's step at `place` uses and that cannot have a result when it begins.
pub(super) fn missing(plan: &Plan, place: usize, cells: &Cells) -> Vec<Failure> {
    let step = &plan.steps[place];
    let variables = cells.variants.iter().flat_map(|variant| &variant.rendered.variables);
    let used: BTreeSet<&str> = variables.filter_map(|name| used_step(name)).collect();
    if used.is_empty() {
        return Vec::new();
    }
    let before = before(plan, place);
    let message = |id: &str| match plan.step(&id.into()) {
        Some(_) if before.contains(&StepId::from(id)) => None,
        Some(_) => Some(format!("the step {id} has not ended when this step begins: add it to `needs`")),
        None if plan.step(&format!("{id}-1").as_str().into()).is_some() => Some(format!(
            "the step {id} is made for each of its items: its results are those of {id}-1, {id}-2 and so on"
        )),
        None => Some(format!("there is no step {id}")),
    };
    let host = plan.batches[0][0].clone();
    used.into_iter()
        .filter_map(message)
        .map(|message| Failure { step: step.id.clone(), host: host.clone(), hosts: plan.hosts.len(), message })
        .collect()
}

/// The id in `steps.<id>.…`.
fn used_step(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("steps.")?;
    let id = match rest.strip_prefix('[') {
        Some(quoted) => quoted.split(']').next(),
        None => rest.split('.').next(),
    };
    id.filter(|id| !id.is_empty())
}

/// The steps that have ended when the one at `place` begins: those of earlier phases, and those that it waits for. The
/// steps of `rollback` run one after the other.
fn before(plan: &Plan, place: usize) -> BTreeSet<StepId> {
    let step = &plan.steps[place];
    let earlier = plan.steps[..place].iter().filter(|other| !matches!(other.role, Role::Release { .. }));
    let mut before: BTreeSet<StepId> = earlier
        .filter(|other| other.phase < step.phase || step.phase == Phase::Rollback)
        .map(|other| other.id.clone())
        .collect();
    let mut open: Vec<&StepId> = step.needs.iter().collect();
    while let Some(id) = open.pop() {
        if before.insert(id.clone())
            && let Some(other) = plan.step(id)
        {
            open.extend(&other.needs);
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use runbook_model::plan::{Action, Work};

    use super::*;
    use crate::{render, sample};

    #[test]
    fn the_step_of_a_name_is_found() {
        assert_eq!(used_step("steps.list-pending.json.a"), Some("list-pending"));
        assert_eq!(used_step("steps.[data.probe].stdout"), Some("data.probe"));
        assert_eq!(used_step("param.steps"), None);
        assert_eq!(used_step("steps."), None);
    }

    fn messages(command: &str, at: &str) -> Vec<String> {
        let mut plan = sample::plan(2);
        let place = plan.steps.iter().position(|step| step.id.as_str() == at).expect("it is there");
        let Work::Any(Action::Run { command: text, .. }) = &mut plan.steps[place].work else {
            panic!("it runs a text")
        };
        text.0 = command.into();
        let cells =
            render::cells(&plan, &plan.steps[place], &render::seen(&plan), &sample::Simple).expect("it renders");
        missing(&plan, place, &cells).into_iter().map(|failure| failure.message).collect()
    }

    #[test]
    fn results_are_used_only_of_steps_that_have_ended() {
        let none = Vec::<String>::new();
        assert_eq!(messages("{{steps.upgrade.stdout}} {{steps.disk-free.stdout}}", "branch-only"), none);
        assert_eq!(messages("{{steps.upgrade.stdout}} {{steps.upgrade.undo.stdout}}", "data.restore"), none);
        assert!(messages("{{steps.branch-only.stdout}}", "upgrade")[0].contains("add it to `needs`"));
        assert!(messages("{{steps.read-share.stdout}}", "upgrade")[0].contains("has not ended"));
        assert_eq!(messages("{{steps.ghost.stdout}}", "upgrade"), ["there is no step ghost"]);
        assert!(
            messages("{{steps.data.release.stdout}} {{steps.[data.release].stdout}}", "upgrade")[0]
                .contains("has not ended")
        );
    }
}
