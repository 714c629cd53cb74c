//! A run whose contents were removed: the record that says so, the request in it, and the two signatures under that.

use std::collections::BTreeSet;

use runbook_ledger::sshsig::{self, Signature};
use runbook_model::notice::PurgeSignature;
use runbook_model::record::Record;
use runbook_model::{Event, Notice, Sha256};
use serde_json::Value;

use super::source::{Error, Source};
use crate::bundle::purged::{REMOVED, REQUEST};
use crate::check::Gap;
use crate::text::count;
use crate::verdict::{Code, Place, Verdict};

/// What persons sign for.
const NAMESPACE: &str = "runbook-purge@v1";
/// What ed25519 keys begin with; keys of other kinds are not checked here.
const ED25519: &str = "ssh-ed25519 ";

/// Judges what remains of the run.
pub(super) fn check(source: &Source, record: &Record, verdict: &mut Verdict) -> Result<(), Error> {
    let Event::Installation(Notice::Purged { purged_run, request, signatures, removed, records, blobs, .. }) =
        &record.event
    else {
        return Ok(());
    };
    let seq = record.seq;
    let Some(asked) = content(source, request, REQUEST, verdict)? else { return Ok(()) };
    let parsed: Value = serde_json::from_slice(&asked).unwrap_or_default();
    let runs = parsed["runs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_it = runs.iter().find(|run| run["run"] == purged_run.as_str());
    if of_it.is_none_or(|run| run["records"] != *records) {
        let text = format!("record {seq}: the request that was signed does not ask for this run's removal");
        verdict.found(Code::Tampered, Place::record(seq), text);
        return Ok(());
    }
    signed(seq, &asked, signatures, verdict);
    if let Some(list) = content(source, removed, REMOVED, verdict)? {
        let lines = list.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64;
        if lines != *blobs {
            let text =
                format!("record {seq}: the list of what was removed has {lines} digests, and {blobs} are on record");
            verdict.found(Code::Tampered, Place::record(seq), text);
        }
    }
    let number = |n: &u64| usize::try_from(*n).unwrap_or(usize::MAX);
    verdict.redacted = true;
    verdict.held(format!("record {seq} says that the run's contents were removed after their time"));
    verdict.unchecked(format!(
        "what the run did: its {} and {} were removed, and nobody can tell it any more",
        count(number(records), "record"),
        count(number(blobs), "content")
    ));
    verdict.unchecked("whether those who signed for the removal were entitled to: who may is not part of the evidence");
    verdict.settle();
    Ok(())
}

/// A content of the bundle that must be there and have the digest on record.
fn content(source: &Source, digest: &Sha256, name: &str, verdict: &mut Verdict) -> Result<Option<Vec<u8>>, Error> {
    match source.entry(name) {
        None => {
            let what = format!("{name} ({digest}) is missing");
            verdict.gaps.push(Gap { host: None, step: None, what });
            Ok(None)
        }
        Some(entry) if entry.digest != *digest => {
            let text = format!("{name} does not have the digest that is on record");
            verdict.found(Code::Tampered, Place::file(name), text);
            Ok(None)
        }
        Some(_) => {
            let mut bytes = Vec::new();
            source.get(name, &mut bytes)?;
            Ok(Some(bytes))
        }
    }
}

/// Two persons with two keys.
fn signed(seq: u64, request: &[u8], signatures: &[PurgeSignature], verdict: &mut Verdict) {
    let keys: BTreeSet<&str> = signatures.iter().map(|signature| signature.key.as_str()).collect();
    let names: BTreeSet<&str> = signatures.iter().map(|signature| signature.signer.as_str()).collect();
    if keys.len() < 2 || names.len() < 2 {
        let text = format!("record {seq}: the removal is not signed by two persons");
        verdict.found(Code::Tampered, Place::record(seq), text);
        return;
    }
    for PurgeSignature { signer, key, signature } in signatures {
        if !key.starts_with(ED25519) {
            verdict.unchecked(format!(
                "the signature of {signer}: its key is of a kind that `ssh-keygen` checks (VERIFY.txt)"
            ));
            continue;
        }
        let by = Signature::parse(signature).and_then(|signature| signature.verify(NAMESPACE, request));
        match by {
            Ok(by) if sshsig::parse_public_key_line(key) == Ok(by) => {
                verdict.held(format!("{signer} has signed for the removal ({key})"));
            }
            _ => {
                let text = format!("record {seq}: the signature of {signer} for the removal is false");
                verdict.found(Code::Tampered, Place::record(seq), text);
            }
        }
    }
}
