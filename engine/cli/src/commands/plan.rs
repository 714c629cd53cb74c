//! `plan`: exactly what would be done.

use std::fs;

use runbook_plan::Preview;
use serde_json::json;

use crate::arguments::{Plan, PlanFormat};
use crate::commands::doctor;
use crate::failure::{Failure, fault};
use crate::output::{self, Output, note};
use crate::project::Project;
use crate::sources;

/// Makes the plan, shows it, keeps it when asked to.
pub(crate) fn run(project: &Project, arguments: &Plan, output: Output) -> Result<u8, Failure> {
    let plan = sources::plan_or_saved(project, &arguments.file, &arguments.sources, output.error_palette)?;
    if let Some(out) = &arguments.out {
        keep(&plan, out)?;
    }
    let format = if arguments.json { PlanFormat::Json } else { arguments.format };
    match format {
        PlanFormat::Mermaid => output::data(runbook_plan::mermaid(&plan))?,
        PlanFormat::Dot => output::data(runbook_plan::dot(&plan))?,
        PlanFormat::Text | PlanFormat::Json => {
            let preview = Preview::of(&plan, &runbook_lang::evaluate::Evaluator::new()).map_err(|errors| {
                let first = errors.first().map_or("RB0600", |error| error.code());
                let mut failure = Failure::usage(first, "the plan cannot be shown");
                for error in errors.iter().take(20) {
                    failure = failure.detail(error.to_string());
                }
                failure
            })?;
            match format {
                PlanFormat::Json => output::json(&preview.json())?,
                _ => output::data(preview.text(output.columns()))?,
            }
        }
    }
    if let Some(out) = &arguments.out {
        note(format!("plan {} written to {}", plan.digest(), out.display()));
    }
    if arguments.probe {
        return probe(project, &plan, arguments, output);
    }
    Ok(0)
}

/// Written whole or not at all.
fn keep(plan: &runbook_model::Plan, out: &std::path::Path) -> Result<(), Failure> {
    let mut temporary = out.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = std::path::PathBuf::from(temporary);
    fs::write(&temporary, runbook_plan::save(plan))
        .and_then(|()| fs::rename(&temporary, out))
        .map_err(|error| Failure::file("RB0605", "written", out, &error))
}

/// Connects to every host of the plan and says which answer. What they answer is not part of the frozen plan.
fn probe(project: &Project, plan: &runbook_model::Plan, arguments: &Plan, output: Output) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Runtime::new().map_err(fault)?;
    let hosts: Vec<_> = plan.hosts.values().cloned().collect();
    let found = runtime.block_on(doctor::hosts(project, hosts))?;
    runtime.shutdown_background();
    let bad = found.iter().any(|check| !check.good());
    if arguments.json || arguments.format == PlanFormat::Json {
        // The document is on standard output already; the hosts' answers go beside it.
        note(serde_json::to_string(&json!({"schema": "probe/v1", "hosts": found})).map_err(fault)?);
    } else {
        note(doctor::text(&found, output.error_palette).trim_end());
    }
    Ok(if bad { crate::failure::REFUSED } else { 0 })
}
