//! `evidence restored`: an older copy of the database was put back, and a person says so on the record.

use runbook_driver::SystemClock;
use runbook_driver::installation::{self, Place};
use runbook_ledger::{Checkpoint, Sealer, VerifierKey};
use runbook_model::{Notice, Sha256};
use runbook_ports::store::Append;
use runbook_ports::{Clock as _, Signer};
use runbook_store::Tail;
use serde_json::json;

use super::recover;
use crate::arguments::upkeep::Restored;
use crate::commands::work::refused;
use crate::failure::{Failure, REFUSED, UNRECORDED};
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
    let append = match prepare(project, &mut tail, known, kept, arguments).await? {
        Some(append) => append,
        // It was put on record already, by a process that died before it said so here.
        None => {
            tail.accept().await.map_err(|error| record::failed(&error))?;
            head::keep(project, &end);
            return told(arguments, known, end.size);
        }
    };
    // With the record that says so, or not at all: until then nothing goes on from the copy.
    let now = append.head.clone();
    tail.cut(&end, append).await.map_err(|error| {
        Failure::new(runbook_store::code(&error), UNRECORDED, error.to_string()).next("call it again")
    })?;
    head::keep(project, &now);
    told(arguments, known, end.size)
}

fn told(arguments: &Restored, known: u64, there: u64) -> Result<u8, Failure> {
    if arguments.json {
        output::json(&json!({
            "schema": "restored/v1",
            "known_size": known,
            "restored_size": there,
        }))?;
        return Ok(0);
    }
    output::note(format!(
        "the record goes on from its {} records; that {known} were known of, and those after them are gone, is on record now\n  \
         look at the hosts of the runs since then before you apply anything to them",
        there
    ));
    Ok(0)
}

/// The notice, sealed on the copy's end, and the head over it: signed with the key that signed the copy's last head. Is that
/// an older one of the project, it gives way to the one in force once more, for the record that said so is among what is
/// gone. `None` when the copy's last record says it already.
async fn prepare(
    project: &Project,
    tail: &mut Tail,
    known: u64,
    kept: Option<head::Kept>,
    arguments: &Restored,
) -> Result<Option<Append>, Failure> {
    let key = keys::open(project)?;
    let last = tail.last_checkpoint().await.map_err(|error| record::failed(&error))?;
    let signed_by = |key: &VerifierKey| last.as_ref().is_none_or(|last| Checkpoint::verify(&last.note, key).is_ok());
    let publics = keys::publics(project)?;
    let Some(by) = publics.iter().rev().find(|key| signed_by(key)) else {
        return Err(Failure::new("RB0606", REFUSED, "the copy's last head is by no key of this project")
            .next("put the keys back that belong to the copy"));
    };
    let read = recover::read(tail, by).await?;
    let end = tail.head().await.map_err(|error| record::failed(&error))?;
    if read.keep != end {
        let why = read.why.unwrap_or_default();
        return Err(Failure::new("RB0662", REFUSED, format!("the copy does not read to its end: {why}"))
            .next("put back a copy that was made while nothing was written to it"));
    }
    // With a rotation behind it, when a key gave way to another once more.
    if read.restored.is_some_and(|(seq, of)| seq + 2 >= end.size && of >= known) {
        return Ok(None);
    }
    let person = person::operator();
    let mut notices = vec![Notice::LedgerRestored {
        known_size: known,
        // Of the size that only the file beside the database knows, the root is not known.
        known_root: kept.filter(|kept| kept.size == known).map_or(Sha256([0; 32]), |kept| kept.root),
        restored_size: end.size,
        reason: arguments.reason.clone(),
        by: person.clone(),
    }];
    let old = if *by == key.verifier { None } else { Some(keys::old(project, by)?) };
    let mut signers: Vec<(&VerifierKey, &dyn Signer)> = Vec::new();
    if let Some(old) = &old {
        let seq = end.size + notices.len() as u64;
        let rotation = installation::rotation((by, old), (&key.verifier, &key.signer), seq, &arguments.reason, &person);
        notices.push(rotation.map_err(|error| refused(&error))?);
        signers.push((by, old));
    }
    signers.push((&key.verifier, &key.signer));
    let sealer = Sealer::new(&end).map_err(crate::failure::fault)?;
    let clock = SystemClock::new();
    let place = Place { run_seq: read.notices, now_ms: clock.now_ms(), mono_ms: clock.mono_ms() };
    let prepared = installation::prepare(sealer, read.signed.as_ref(), &signers, place, notices, Vec::new());
    Ok(Some(prepared.map_err(|error| refused(&error))?.1))
}
