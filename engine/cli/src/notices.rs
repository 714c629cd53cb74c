//! Writing on the record what happened to the ledger itself, or to evidence after its run.

mod settings;

use std::sync::Arc;

use runbook_driver::SystemClock;
use runbook_driver::installation::Installation;
use runbook_model::record::Record;
use runbook_model::{Notice, RunId, Sha256};
use runbook_ports::Store as _;
use runbook_store::SqliteStore;

use crate::commands::work::refused;
use crate::failure::Failure;
use crate::project::Project;
use crate::{head, keys, output, person, record};

/// Appends notices with the contents that they name, and signs the head over them. The head is kept beside the key too.
pub(crate) async fn append(
    project: &Project,
    store: &SqliteStore,
    notices: Vec<Notice>,
    blobs: Vec<(Sha256, Vec<u8>)>,
) -> Result<Vec<Record>, Failure> {
    append_at(project, store, blobs, |_| notices.clone()).await
}

/// The same, of notices that are made for their place in the ledger: `make` is given the place of the first of them.
pub(crate) async fn append_at(
    project: &Project,
    store: &SqliteStore,
    blobs: Vec<(Sha256, Vec<u8>)>,
    make: impl Fn(u64) -> Vec<Notice>,
) -> Result<Vec<Record>, Failure> {
    let key = keys::open(project)?;
    head::must_hold(project, store).await?;
    let (before, mut all_blobs) = settings::changed(project, store).await?.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
    all_blobs.extend(blobs);
    let all = |size: u64| {
        let own = make(size + before.len() as u64);
        (before.iter().cloned().chain(own).collect(), all_blobs.clone())
    };
    let installation = Installation {
        store: Arc::new(store.clone()),
        origin: key.verifier.name().to_owned(),
        signer: Arc::new(key.signer),
        clock: Arc::new(SystemClock::new()),
    };
    let records = installation.append_at(all).await.map_err(|error| refused(&error))?;
    let end = store.head().await.map_err(|error| record::failed(&error))?;
    head::keep(project, &end);
    settings::keep(project);
    Ok(records)
}

/// Puts on record that the project's settings are other ones than those on record, if they are. To be called before a run
/// is opened or taken up.
pub(crate) async fn settings(project: &Project, store: &SqliteStore) -> Result<(), Failure> {
    if settings::changed(project, store).await?.is_some() {
        append(project, store, Vec::new(), Vec::new()).await?;
    }
    settings::keep(project);
    Ok(())
}

/// Puts on record that somebody looked at the evidence of a run. That it cannot be recorded is told and hinders nobody
/// from reading.
pub(crate) async fn read(project: &Project, store: &SqliteStore, run: &RunId, command: &str) {
    let notice = Notice::EvidenceRead { evidence_of: run.clone(), command: command.to_owned(), by: person::operator() };
    if let Err(failure) = append(project, store, vec![notice], Vec::new()).await {
        output::note(format!("that it was read could not be put on record: {}", failure.message));
    }
}
