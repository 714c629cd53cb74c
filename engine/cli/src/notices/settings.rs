//! Whether the project's settings are those on record.
//!
//! Each run names the settings with which it was opened. A change between two runs, or before something is done to
//! evidence, is a record of its own: a shorter retention or an anchor that was taken out is not to go unnoticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use runbook_model::{Notice, Sha256, canonical};
use runbook_ports::Store as _;
use runbook_store::SqliteStore;
use serde::Serialize;

use crate::failure::Failure;
use crate::project::Project;
use crate::{person, record};

/// What of the settings matters to who verifies: `settings/v1`.
#[derive(Serialize)]
struct Effective<'a> {
    schema: &'static str,
    /// Months by class.
    retention: BTreeMap<&'static str, u32>,
    /// Kinds by name.
    anchors: BTreeMap<&'a str, &'static str>,
}

/// The notice, with the content that it names, when the settings are other ones than those on record. A ledger in which
/// no run was opened yet promised nothing to anybody.
pub(super) async fn changed(
    project: &Project,
    store: &SqliteStore,
) -> Result<Option<(Notice, (Sha256, Vec<u8>))>, Failure> {
    let Some(sha256) = project.settings_sha256 else { return Ok(None) };
    if kept(project) == Some(sha256) || on_record(store).await?.is_none_or(|last| last == Some(sha256)) {
        return Ok(None);
    }
    let periods = project.settings.retention;
    let effective = Effective {
        schema: "settings/v1",
        retention: [("operational", periods.operational), ("default", periods.default), ("cui", periods.cui)].into(),
        anchors: project.settings.anchors.iter().map(|anchor| (&*anchor.name, anchor.kind.name())).collect(),
    };
    let bytes = canonical::bytes(&effective);
    let blob = Sha256::of(&bytes);
    let notice = Notice::SettingsChanged { sha256, settings: Some(blob), seen_by: Some(person::operator()) };
    Ok(Some((notice, (blob, bytes))))
}

/// The settings that the ledger told of last: `None` when there is no run, `Some(None)` when its runs do not say.
async fn on_record(store: &SqliteStore) -> Result<Option<Option<Sha256>>, Failure> {
    let runs = store.runs().await.map_err(|error| record::failed(&error))?;
    if runs.is_empty() {
        return Ok(None);
    }
    let opened = runs.iter().filter_map(|run| Some((run.header.started_ms, run.header.settings_sha256?)));
    let opened = opened.max_by_key(|(at, _)| *at);
    let told = record::notices(store, &["settings_changed"]).await?;
    let told = told.into_iter().rev().find_map(|(record, notice)| match notice {
        Notice::SettingsChanged { sha256, .. } => Some((record.time, sha256)),
        _ => None,
    });
    Ok(Some(match (opened, told) {
        (Some((at, opened)), Some((time, told))) => {
            Some(if runbook_model::units::rfc3339_ms(at) > time { opened } else { told })
        }
        (opened, told) => opened.map(|(_, sha256)| sha256).or(told.map(|(_, sha256)| sha256)),
    }))
}

fn path(project: &Project) -> PathBuf {
    project.state_path("keys/settings.seen")
}

/// What was found to be on record the last time, so that it is not looked for again.
fn kept(project: &Project) -> Option<Sha256> {
    fs::read_to_string(path(project)).ok()?.trim().parse().ok()
}

/// Keeps that these settings are on record. Losing it only means to look again.
pub(super) fn keep(project: &Project) {
    let Some(sha256) = project.settings_sha256.filter(|sha256| kept(project) != Some(*sha256)) else { return };
    let _ = fs::write(path(project), format!("{sha256}\n"));
}
