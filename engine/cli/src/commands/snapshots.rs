//! `snapshots` and `snapshots release`.

use std::fmt::Write as _;

use runbook_driver::SystemClock;
use runbook_model::RunId;
use runbook_model::units::rfc3339_ms;
use runbook_ports::{Clock as _, Store as _};
use runbook_report::json::{self, SnapshotEntry};
use runbook_report::list::short;
use runbook_report::style::Tone;
use runbook_report::text::{count, elapsed, escape_line};
use serde_json::json;

use crate::arguments::{Ending, Snapshots, SnapshotsCommand, SnapshotsRelease};
use crate::commands::work::{Desk, refused};
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output, note};
use crate::project::Project;
use crate::{anchors, person, record};

/// Runs `snapshots …`.
pub(crate) async fn run(project: &Project, arguments: &Snapshots, output: Output) -> Result<u8, Failure> {
    match &arguments.command {
        Some(SnapshotsCommand::Release(release)) => self::release(project, release, output).await,
        None => list(project, arguments, output).await,
    }
}

/// All snapshots that still exist by the record, of the runs named or of all.
async fn existing(project: &Project, runs: Option<&[RunId]>) -> Result<Vec<SnapshotEntry>, Failure> {
    let Some(store) = record::open_existing(project).await? else { return Ok(Vec::new()) };
    let now = SystemClock::new().now_ms();
    let keep = project.settings.snapshots_keep_ms;
    let mut out = Vec::new();
    for index in store.runs().await.map_err(|error| record::failed(&error))? {
        if runs.is_some_and(|runs| !runs.contains(&index.header.run)) || index.header.takes_back.is_some() {
            continue;
        }
        let view = record::view(&store, &index).await?;
        for (host, step, reference, taken_ms) in json::snapshots(&view) {
            let expires = taken_ms.saturating_add(keep);
            out.push(SnapshotEntry {
                run_id: index.header.run.to_string(),
                host: host.to_string(),
                step: step.to_string(),
                reference,
                taken_at: rfc3339_ms(taken_ms),
                age_ms: now.saturating_sub(taken_ms),
                owner: index.header.operator.name.clone(),
                expires_at: rfc3339_ms(expires),
                expired: expires <= now,
            });
        }
    }
    store.close().await;
    Ok(out)
}

async fn list(project: &Project, arguments: &Snapshots, output: Output) -> Result<u8, Failure> {
    let mut entries = existing(project, None).await?;
    entries.retain(|entry| entry.expired || !arguments.expired);
    if arguments.json {
        output::json(&json!({"schema": "snapshots/v1", "snapshots": entries}))?;
    } else if entries.is_empty() {
        note(if arguments.expired { "no snapshot has expired" } else { "no snapshot exists" });
    } else {
        output::data(text(&entries, output))?;
    }
    Ok(0)
}

fn text(entries: &[SnapshotEntry], output: Output) -> String {
    let mut text = String::new();
    for entry in entries {
        let mark = if entry.expired { output.palette.paint(Tone::Warn, "expired") } else { "wanted ".into() };
        let _ = writeln!(
            text,
            "{}  {mark}  {} old  {}/{}  {}  {}",
            short(&entry.run_id),
            elapsed(entry.age_ms),
            entry.host,
            entry.step,
            escape_line(entry.reference.as_bytes()),
            entry.owner
        );
    }
    text
}

async fn release(project: &Project, arguments: &SnapshotsRelease, output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let mut runs = Vec::new();
    for name in &arguments.runs {
        // A run that took another one back has none of its own; the other one's are meant.
        let header = record::find(&store, name).await?.header;
        runs.push(header.takes_back.unwrap_or(header.run));
    }
    store.close().await;
    let named = (!runs.is_empty()).then_some(runs.as_slice());
    let mut entries = existing(project, named).await?;
    entries.retain(|entry| entry.expired || !arguments.expired);
    if entries.is_empty() {
        note("there is no such snapshot; nothing was removed");
        return Ok(0);
    }
    if output.person && !arguments.yes {
        note(text(&entries, output).trim_end());
        let question =
            format!("\nRemove {}? Their runs cannot be taken back afterwards.", count(entries.len(), "snapshot"));
        if person::ask(&question) != Some(true) {
            return Err(Failure::new("RB0614", REFUSED, "you did not say yes, so nothing was removed"));
        }
    }
    let mut ids: Vec<&str> = entries.iter().map(|entry| entry.run_id.as_str()).collect();
    ids.dedup();
    let mut released = Vec::new();
    let mut failed = None;
    for id in ids {
        let run = RunId::from(id);
        let desk = Desk::open(project, output, Ending { json: false, json_lines: false }, None).await?;
        let index = record::find(&desk.store, id).await?;
        let plan = record::plan(&desk.store, &index.header).await?;
        let stage = desk.stage(&plan, &run)?;
        let engine = desk.engine(&stage, &plan);
        let cells: Vec<runbook_model::Cell> = entries
            .iter()
            .filter(|entry| entry.run_id == id)
            .map(|entry| runbook_model::Cell { host: entry.host.as_str().into(), step: entry.step.as_str().into() })
            .collect();
        let result = engine.release_snapshots(&run, Some(&cells), desk.operator.clone()).await;
        stage.live.finish();
        desk.keep_head().await;
        match result {
            Ok(cells) => {
                released.extend(cells.iter().map(|cell| json!({"run_id": id, "host": cell.host, "step": cell.step})))
            }
            Err(error) => failed = Some(refused(&error)),
        }
    }
    if let Some(store) = record::open_existing(project).await? {
        anchors::tell(&anchors::after_run(project, &store).await);
    }
    if arguments.json {
        output::json(&json!({"schema": "snapshots-released/v1", "released": released}))?;
    }
    note(format!("{} removed", count(released.len(), "snapshot")));
    failed.map_or(Ok(0), Err)
}
