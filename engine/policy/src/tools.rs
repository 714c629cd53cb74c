//! The tools that a run uses, by digest: this program, the files that are sent, and packaged actions.

use std::collections::BTreeMap;

use runbook_model::plan::Plan;
use runbook_model::{Sha256, canonical};

/// How this program is called among the tools.
pub const ENGINE: &str = "runbook";

/// All tools of a plan, by digest, with their names. A packaged action is what the plan has of it, which is what is done on
/// hosts: changing its file afterwards changes nothing. What the runbook itself says is no tool; approvals are for that.
pub fn of(plan: &Plan, engine: Sha256) -> BTreeMap<Sha256, String> {
    let mut tools = BTreeMap::from([(engine, ENGINE.to_owned())]);
    for (sha256, file) in &plan.files {
        tools.entry(*sha256).or_insert_with(|| file.path.clone());
    }
    for step in &plan.steps {
        let Some(uses) = &step.uses else { continue };
        for work in std::iter::once(&step.work).chain(&step.unless) {
            tools.entry(canonical::digest(work)).or_insert_with(|| uses.clone());
        }
    }
    tools
}
