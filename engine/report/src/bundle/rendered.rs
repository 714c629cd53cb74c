//! `plan/rendered/<host>.json`: which exact bytes each attempt on a host was, beside the template of the plan that they
//! came from.

use runbook_model::HostName;
use serde::Serialize;

use super::{blob_path, json};
use crate::RunView;

/// `rendered/v1`.
#[derive(Serialize)]
struct Rendered<'a> {
    schema: &'static str,
    run_id: String,
    plan_sha256: String,
    host: &'a str,
    attempts: Vec<Attempt<'a>>,
}

#[derive(Serialize)]
struct Attempt<'a> {
    step: &'a str,
    phase: &'static str,
    attempt: u32,
    /// Of the exact bytes of the command or script.
    command_sha256: String,
    /// Where they stand in the bundle.
    file: String,
    /// Of the template's text.
    template_sha256: String,
    variables: &'a [String],
    account: Option<&'a str>,
}

/// The document of one host.
pub fn rendered(view: &RunView, host: &HostName) -> Vec<u8> {
    let mut attempts = Vec::new();
    if let Some(entry) = view.hosts.get(host) {
        for step in &view.plan.steps {
            let Some(cell) = entry.steps.get(&step.id) else { continue };
            attempts.extend(cell.attempts.iter().map(|attempt| Attempt {
                step: step.id.as_str(),
                phase: step.phase.name(),
                attempt: attempt.attempt,
                command_sha256: attempt.intent.command_sha256.to_string(),
                file: blob_path(&attempt.intent.command_sha256),
                template_sha256: attempt.intent.template_sha256.to_string(),
                variables: &attempt.intent.variables,
                account: attempt.intent.account.as_deref(),
            }));
        }
    }
    let plan_sha256 = view.header.as_ref().map_or_else(|| view.plan.digest(), |header| header.plan_sha256);
    json(&Rendered {
        schema: "rendered/v1",
        run_id: view.run().map(ToString::to_string).unwrap_or_default(),
        plan_sha256: plan_sha256.to_string(),
        host: host.as_str(),
        attempts,
    })
}
