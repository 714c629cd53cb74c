//! `approvals list`, `import`.

use std::fmt::Write as _;

use runbook_model::approval::Decision;
use runbook_model::units::rfc3339_ms;
use runbook_report::style::Tone;
use serde_json::{Value, json};

use crate::arguments::InventoryShow;
use crate::arguments::rules::{Approvals as Command, ApprovalsImport};
use crate::commands::approve;
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output, note};
use crate::policy::{self, Staff};
use crate::project::Project;
use crate::{record, sources};

/// Runs `approvals …`.
pub(crate) async fn run(project: &Project, command: &Command, output: Output) -> Result<u8, Failure> {
    match command {
        Command::List(arguments) => list(project, arguments, output).await,
        Command::Import(arguments) => import(project, arguments, output).await,
    }
}

async fn list(project: &Project, arguments: &InventoryShow, output: Output) -> Result<u8, Failure> {
    let store = record::open_existing(project).await?;
    let found = policy::decisions(project, store.as_ref()).await?;
    let word = |decision| match decision {
        Decision::Approve => "approved",
        Decision::Reject => "rejected",
    };
    if arguments.json {
        let listed: Vec<Value> = found
            .iter()
            .map(|one| {
                let approval = &one.offered.approval;
                json!({
                    "file": one.offered.file, "document": approval,
                    "made": rfc3339_ms(approval.made_ms), "valid_until": rfc3339_ms(approval.valid_until_ms),
                    "signed_by_key": one.offered.signed.as_ref().ok().map(|signed| &signed.key),
                    "presence": one.offered.signed.as_ref().ok().and_then(|signed| signed.presence),
                    "problem": one.offered.signed.as_ref().err(), "used_by": one.offered.used_by,
                })
            })
            .collect();
        output::json(&json!({"schema": "approvals-list/v1", "approvals": listed}))?;
        return Ok(0);
    }
    let mut text = String::new();
    for one in &found {
        let approval = &one.offered.approval;
        let palette = output.palette;
        let decision = match approval.decision {
            Decision::Approve => palette.paint(Tone::Good, word(approval.decision)),
            Decision::Reject => palette.paint(Tone::Bad, word(approval.decision)),
        };
        let mut facts = vec![format!("plan {}", &approval.plan_sha256.to_string()[..12]), rfc3339_ms(approval.made_ms)];
        if approval.decision == Decision::Approve {
            facts.push(format!("until {}", rfc3339_ms(approval.valid_until_ms)));
        }
        if let Some(run) = &one.offered.used_by {
            facts.push(format!("used by run {run}"));
        }
        if let Err(why) = &one.offered.signed {
            facts.push(palette.paint(Tone::Bad, &format!("does not count: {why}")));
        }
        if !approval.reason.is_empty() {
            facts.push(runbook_report::text::escape_line(approval.reason.as_bytes()));
        }
        let _ = writeln!(
            text,
            "{} {decision} by {}  {}",
            approval.runbook,
            runbook_report::text::escape_line(approval.signer.as_bytes()),
            facts.join(" · ")
        );
    }
    if found.is_empty() {
        note("nobody has decided anything yet: `runbook approve PLAN`");
    }
    output::data(text)?;
    Ok(0)
}

async fn import(project: &Project, arguments: &ApprovalsImport, output: Output) -> Result<u8, Failure> {
    let folder = policy::folder(project)?;
    let staff = Staff::must(project, output.error_palette)?;
    let path = &arguments.file;
    let found = policy::read(path)?.ok_or_else(|| {
        Failure::new("RB0727", REFUSED, format!("{} is no decision as it is signed", path.display()))
            .next("it must be byte for byte the file that was signed; a mail program may have changed it: send it as an attachment")
    })?;
    let kept = approve::keep(&folder, &found.offered.approval, &found.armored, &staff)?;
    let store = record::open_existing(project).await?;
    approve::put_on_record(project, store.as_ref(), &found.offered.approval, &found.armored).await?;
    note(format!("taken in as {}", sources::shown(&kept)));
    Ok(0)
}
