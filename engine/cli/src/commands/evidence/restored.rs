//! `evidence restored`: an older copy of the database was put back, and a person says so on the record.

use std::sync::Arc;

use runbook_driver::SystemClock;
use runbook_driver::installation::Installation;
use runbook_ledger::{Checkpoint, VerifierKey};
use runbook_model::{Notice, Sha256};
use runbook_ports::Store as _;
use runbook_store::SqliteStore;
use serde_json::json;

use super::recover;
use crate::arguments::upkeep::Restored;
use crate::commands::work::refused;
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output};
use crate::project::Project;
use crate::{head, keys, person, record};

/// Runs `evidence restored`.
pub(super) async fn run(project: &Project, arguments: &Restored, _output: Output) -> Result<u8, Failure> {
    if !project.has_state() {
        return Err(Failure::usage("RB0609", format!("no run was recorded in {} yet", project.state_shown())));
    }
    let mut tail = recover::open(project).await?;
    let end = tail.head().await.map_err(|error| record::failed(&error))?;
    let kept = head::kept(project);
    let known = kept.map_or(0, |kept| kept.size).max(tail.written().unwrap_or(0));
    if known <= end.size && head::check(project, &end).is_ok() {
        return Err(Failure::new("RB0665", REFUSED, "no older copy was put back, as far as is known here")
            .detail(format!("the database has {} records, and {known} are known of", end.size)));
    }
    tail.accept().await.map_err(|error| record::failed(&error))?;
    let store = record::open(project).await?;
    let notice = Notice::LedgerRestored {
        known_size: known,
        // Of the size that only the file beside the database knows, the root is not known.
        known_root: kept.filter(|kept| kept.size == known).map_or(Sha256([0; 32]), |kept| kept.root),
        restored_size: end.size,
        reason: arguments.reason.clone(),
        by: person::operator(),
    };
    put_on_record(project, &store, notice, arguments).await?;
    let now = store.head().await.map_err(|error| record::failed(&error))?;
    head::keep(project, &now);
    if arguments.json {
        output::json(&json!({
            "schema": "restored/v1",
            "known_size": known,
            "restored_size": end.size,
        }))?;
        return Ok(0);
    }
    output::note(format!(
        "the record goes on from its {} records; that {known} were known of, and those after them are gone, is on record now\n  \
         look at the hosts of the runs since then before you apply anything to them",
        end.size
    ));
    Ok(0)
}

/// With the key that signed the copy's last head. Is that an older one of the project, it gives way to the one in force
/// once more, for the record that said so is among what is gone.
async fn put_on_record(
    project: &Project,
    store: &SqliteStore,
    notice: Notice,
    arguments: &Restored,
) -> Result<(), Failure> {
    let key = keys::open(project)?;
    let origin = key.verifier.name().to_owned();
    let installation = |signer| Installation {
        store: Arc::new(store.clone()),
        signer: Arc::new(signer),
        clock: Arc::new(SystemClock::new()),
        origin: origin.clone(),
    };
    let last = store.last_checkpoint().await.map_err(|error| record::failed(&error))?;
    let by = |key: &VerifierKey| last.as_ref().is_none_or(|last| Checkpoint::verify(&last.note, key).is_ok());
    if by(&key.verifier) {
        installation(key.signer).append(vec![notice], Vec::new()).await.map_err(|error| refused(&error))?;
        return Ok(());
    }
    let known = keys::publics(project)?;
    let Some(older) = known.iter().rev().find(|key| by(key)) else {
        return Err(Failure::new("RB0606", REFUSED, "the copy's last head is by no key of this project")
            .next("put the keys back that belong to the copy"));
    };
    let old = keys::old(project, older)?;
    installation(old)
        .rotate(&key.signer, vec![notice], &arguments.reason, &person::operator())
        .await
        .map_err(|error| refused(&error))?;
    Ok(())
}
