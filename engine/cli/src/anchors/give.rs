//! Gives the newest signed head to the anchors that lack something, all at once, and puts their receipts on record.

use std::sync::Arc;
use std::time::Duration;

use runbook_driver::SystemClock;
use runbook_ledger::Checkpoint;
use runbook_model::{Notice, Sha256};
use runbook_ports::anchor::{AnchorError, Request, SignedHead};
use runbook_ports::{Clock as _, Store as _};
use runbook_report::text::count;
use runbook_store::SqliteStore;
use serde::Serialize;
use tokio::task::JoinSet;

use super::history::Past;
use super::{Receipts, build};
use crate::failure::Failure;
use crate::output::note;
use crate::project::Project;
use crate::{keys, notices, record, signals};

/// After a run nobody waits longer than that for an anchor.
const AFTER_RUN: Duration = Duration::from_secs(10);

/// What became of one anchor.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    /// It holds everything that counts now.
    pub(crate) anchored: bool,
    /// Records of the head that it holds.
    pub(crate) size: u64,
    /// Records that it lacks; notices of receipts do not count.
    pub(crate) lacking: u64,
    /// SHA-256 of the receipt that was got now.
    pub(crate) receipt: Option<Sha256>,
    /// What the receipt says.
    pub(crate) told: Option<String>,
    /// Why there is none.
    pub(crate) error: Option<String>,
    /// It holds a head that contradicts this ledger.
    pub(crate) contradicts: bool,
}

/// Gives the head to the anchor of this name, or to all. `within` shortens what the settings say. An error only when the
/// record cannot be read or written; what became of each anchor is in the answer.
pub(crate) async fn give(
    project: &Project,
    store: &SqliteStore,
    only: Option<&str>,
    within: Option<Duration>,
) -> Result<Vec<Told>, Failure> {
    let failed = |error| record::failed(&error);
    let wanted: Vec<_> =
        project.settings.anchors.iter().filter(|anchor| only.is_none_or(|name| name == anchor.name)).collect();
    let Some(last) = store.last_checkpoint().await.map_err(failed)? else { return Ok(Vec::new()) };
    let key = keys::public(project)?;
    let head = Checkpoint::verify(&last.note, &key).map_err(|error| {
        Failure::new(
            "RB0616",
            crate::failure::REFUSED,
            format!("the last signed head is not by the project's key: {error}"),
        )
        .next("`runbook evidence verify RUN` says what is wrong")
    })?;
    let receipts = Receipts::read(store).await?;
    let head = Arc::new(SignedHead { origin: head.origin, size: head.size, root: head.root, note: last.note });
    let lacking = wanted.iter().filter(|anchor| receipts.lacking(&anchor.name, head.size) > 0);
    let held = lacking.map(|anchor| receipts.size(&anchor.name));
    let past = Arc::new(Past::new(Arc::new(store.clone())).expecting(held, head.size));
    let mut asked = JoinSet::new();
    let mut answers = Vec::new();
    for settings in wanted {
        let mut told = Told {
            name: settings.name.clone(),
            kind: settings.kind.name(),
            anchored: true,
            size: receipts.size(&settings.name),
            lacking: receipts.lacking(&settings.name, head.size),
            receipt: None,
            told: None,
            error: None,
            contradicts: false,
        };
        if told.lacking == 0 {
            answers.push((told, None));
            continue;
        }
        if let super::Kind::Git { .. } = settings.kind {
            project.make_state()?;
            crate::project::make_private(&project.state_path("anchors"))?;
        }
        let anchor = build(project, settings);
        let (head, past) = (Arc::clone(&head), Arc::clone(&past));
        let within = within.map_or(settings.timeout, |within| within.min(settings.timeout));
        let known = told.size;
        asked.spawn(async move {
            let now_ms = SystemClock::new().now_ms();
            let request = Request { head: &head, known, history: &*past, now_ms, within };
            match anchor.anchor(request).await {
                Ok(receipt) => {
                    told.size = head.size;
                    told.lacking = 0;
                    told.receipt = Some(Sha256::of(&receipt.bytes));
                    told.told = Some(receipt.told);
                    (told, Some(receipt.bytes), None)
                }
                Err(error) => {
                    told.anchored = false;
                    told.error = Some(error.to_string());
                    (told, None, Some(error))
                }
            }
        });
    }
    while let Some(done) = asked.join_next().await {
        let (mut told, receipt, error) = done.map_err(crate::failure::fault)?;
        if let Some(AnchorError::OtherHead { size, .. }) = error {
            // Another process may have given it a later head than ours meanwhile: that is no contradiction.
            let now = store.head().await.map_err(failed)?.size;
            told.contradicts = size <= head.size || size > now;
        }
        answers.push((told, receipt));
    }
    answers.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let (mut recorded, mut blobs) = (Vec::new(), Vec::new());
    for (told, receipt) in &answers {
        let (Some(digest), Some(bytes)) = (told.receipt, receipt) else { continue };
        recorded.push(Notice::Anchored {
            anchor: told.name.clone(),
            kind: told.kind.to_owned(),
            size: head.size,
            root: head.root,
            receipt: digest,
        });
        blobs.push((digest, bytes.clone()));
    }
    if !recorded.is_empty() {
        notices::append(project, store, recorded, blobs).await?;
    }
    Ok(answers.into_iter().map(|(told, _)| told).collect())
}

/// After a run: gives the head, shortly, and returns what is to be told. Whatever goes wrong is told and changes nothing of
/// the run. A signal ends the waiting.
pub(crate) async fn after_run(project: &Project, store: &SqliteStore) -> Vec<String> {
    if project.settings.anchors.is_empty() {
        return Vec::new();
    }
    let given = tokio::select! {
        given = give(project, store, None, Some(AFTER_RUN)) => given,
        () = signals::asked_to_end() => {
            return vec!["not anchored: you did not want to wait; `runbook evidence anchor` does it".into()];
        }
    };
    match given {
        Ok(told) => told.iter().map(Told::text).collect(),
        Err(failure) => vec![format!("not anchored: {} ({})", failure.message, failure.code)],
    }
}

impl Told {
    /// In a line.
    pub(crate) fn text(&self) -> String {
        let Self { name, kind, size, .. } = self;
        match (&self.error, &self.told) {
            (Some(error), _) if self.contradicts => {
                format!("THE ANCHOR {name} ({kind}) CONTRADICTS THE LEDGER: {error} (RB0648)")
            }
            (Some(error), _) => {
                let lacking = count(self.lacking as usize, "record");
                format!(
                    "not anchored by {name} ({kind}): {error}; {lacking} wait: `runbook evidence anchor {name}` (RB0647)"
                )
            }
            (None, Some(told)) => format!("anchored by {name} ({kind}): {size} records, {told}"),
            (None, None) => format!("{name} ({kind}) has all: {size} records"),
        }
    }
}

/// Prints what there is to tell.
pub(crate) fn tell(lines: &[String]) {
    if !lines.is_empty() {
        note(
            lines.iter().map(|line| runbook_report::text::escape_line(line.as_bytes())).collect::<Vec<_>>().join("\n"),
        );
    }
}
