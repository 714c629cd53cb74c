//! `retention purge`: what two persons have signed for is removed, after the record says so.

use runbook_model::{Notice, Sha256};
use runbook_ports::Store as _;
use runbook_report::text::count;

use super::request::{Request, SCHEMA, may_go};
use super::{Kept, blobs as content, now_ms, signers};
use crate::arguments::upkeep::RetentionPurge;
use crate::failure::{Failure, REFUSED, UNRECORDED};
use crate::project::Project;
use crate::{keys, notices, output, person, record};

/// Runs `retention purge`. Interrupted, it is repeated with the same files.
pub(super) async fn run(project: &Project, arguments: &RetentionPurge) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let failed = |error| record::failed(&error);
    let path = &arguments.request;
    let bytes = std::fs::read(path).map_err(|error| Failure::file("RB0667", "read", path, &error))?;
    let refused = |why: &str| Failure::new("RB0667", REFUSED, format!("{}: {why}", path.display()));
    let request: Request =
        serde_json::from_slice(&bytes).map_err(|error| refused(&format!("not a request: {error}")))?;
    if request.schema != SCHEMA || request.bytes() != bytes {
        return Err(refused("not a request as `runbook retention request` writes it"));
    }
    if request.ledger != keys::public(project)?.name() {
        return Err(refused("it is of another ledger"));
    }
    let before = request.ledger_size.checked_sub(1);
    let last = match before {
        Some(before) => store.ledger(before, 1).await.map_err(failed)?,
        None => Vec::new(),
    };
    if last.first().is_none_or(|sealed| sealed.leaf != request.last_leaf) {
        return Err(refused("it was made for another history of this ledger"));
    }
    let signatures = signers::check(project, path, &arguments.signatures)?;

    let kept = Kept::read(&store).await?;
    let digest = Sha256::of(&bytes);
    let now = now_ms();
    let mut notices = Vec::new();
    let mut blobs = vec![(digest, bytes)];
    // All of it is looked at before anything is put on record.
    let mut going: Vec<(runbook_model::RunId, Vec<Sha256>)> = Vec::new();
    for purge in &request.runs {
        if let Some(by) = kept.purged.get(&purge.run) {
            if *by != digest {
                return Err(refused(&format!("the contents of run {} were removed already", purge.run)));
            }
            // On record, and perhaps not carried out to the end: what is listed there goes.
            going.push((purge.run.clone(), purge.blobs.clone()));
            continue;
        }
        if request.expires_ms <= now {
            return Err(refused("its time is over; make a new one"));
        }
        let index = record::find(&store, purge.run.as_str()).await?;
        may_go(project, &kept, &index, now)?;
        let (records, alone) = content::of_run_alone(&store, &purge.run).await?;
        if records != purge.records {
            return Err(refused(&format!("run {} has {records} records, and {} are in it", purge.run, purge.records)));
        }
        // What another run has come to name meanwhile stays.
        let removed: Vec<Sha256> = purge.blobs.iter().filter(|blob| alone.contains(*blob)).copied().collect();
        let list: String = removed.iter().map(|blob| format!("{blob}\n")).collect();
        let list_digest = Sha256::of(list.as_bytes());
        notices.push(Notice::Purged {
            purged_run: purge.run.clone(),
            request: digest,
            signatures: signatures.clone(),
            removed: list_digest,
            records,
            blobs: removed.len() as u64,
            by: person::operator(),
        });
        blobs.push((list_digest, list.into_bytes()));
        going.push((purge.run.clone(), removed));
    }
    if !notices.is_empty() {
        notices::append(project, &store, notices, blobs).await?;
    }
    let mut gone = 0;
    for (run, listed) in &going {
        // Looked at once more: a run that began since may name one of them.
        let alone: Vec<Sha256> = content::unnamed(&store, run, listed.iter().copied()).await?.into_iter().collect();
        store.purge(run, &alone).await.map_err(|error| {
            Failure::new(runbook_store::code(&error), UNRECORDED, error.to_string())
                .changed("the removal is on record, and not carried out to the end")
                .next("call the same command again")
        })?;
        gone += alone.len();
    }
    output::note(format!(
        "the contents of {} are removed ({}); their places in the ledger stay, and it verifies as before",
        count(going.len(), "run"),
        count(gone, "stored content")
    ));
    Ok(0)
}
