//! The run's records in the bundle: each is the leaf at its place, sealed on the one before it, and the run has all of
//! its own.

use runbook_ledger::record::{first_prev, parse};
use runbook_ledger::tlog_proof::TlogProof;
use runbook_ledger::tree::leaf_hash;
use runbook_ledger::{Checkpoint, KeyChain, VerifierKey, proof};
use runbook_model::record::Record;
use runbook_model::{Event, Notice, Sha256};

use super::KEY;
use super::source::{Error, Source, proof_name, record_name};
use super::tree::Leaves;
use crate::text::count;
use crate::verdict::contents::{self, Contents};
use crate::verdict::upkeep::Upkeep;
use crate::verdict::{Code, Place, Verdict};

const PLAN: &str = "plan/plan.json";

/// The records in a bundle.
pub(super) struct Records {
    /// Their places, in order.
    places: Vec<u64>,
    /// The ledger's keys, by the rotations among them.
    pub(super) keys: KeyChain,
    /// Older copies that were put back, by the records that say so.
    pub(super) upkeep: Upkeep,
}

/// What the records are of.
pub(super) enum Of {
    /// A run.
    Run(Box<Contents>),
    /// A run whose contents were removed: the record that says so.
    Purged(Box<Record>),
}

/// Finds the records, and the ledger's keys. That each record is what it should be is checked later; a rotation is signed
/// by both keys itself.
pub(super) fn find(source: &Source, key: &VerifierKey, verdict: &mut Verdict) -> Result<Option<Records>, Error> {
    let Some(places) = places(source, verdict) else { return Ok(None) };
    let mut rotations = Vec::new();
    let mut upkeep = Upkeep::default();
    let mut bytes = Vec::new();
    for seq in &places {
        source.record(*seq, &mut bytes)?;
        // What does not parse is named below, at its place.
        if is_of_the_ledger(&bytes)
            && let Ok(record) = parse(&bytes)
            && let Event::Installation(notice) = &record.event
        {
            upkeep.record(&record);
            rotations.push((*seq, notice.clone()));
        }
    }
    match KeyChain::of(key, rotations.iter().map(|(seq, notice)| (*seq, notice))) {
        Ok(keys) => Ok(Some(Records { places, keys, upkeep })),
        Err(error) => {
            verdict.ledger_key = Some(key.to_string());
            verdict.found(Code::UntrustedKey, Place::file(KEY), error.to_string());
            Ok(None)
        }
    }
}

/// Parsing each record once more would take as long as all other checks of it.
fn is_of_the_ledger(bytes: &[u8]) -> bool {
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    has(b"key_rotated") || has(b"ledger_restored")
}

/// Reads the records in their order. `None` when nothing more can be said of the run.
pub(super) fn check(
    source: &Source,
    records: &Records,
    head: &Checkpoint,
    note: &str,
    verdict: &mut Verdict,
) -> Result<Option<Of>, Error> {
    let mut leaves = Leaves::new(source, head.size);
    let mut contents: Option<Contents> = None;
    let mut purged: Option<Box<Record>> = None;
    let mut upkeep = Upkeep::default();
    let (mut bytes, mut proof) = (Vec::new(), Vec::new());
    let (mut of_the_run, mut proved) = (0, 0);
    for seq in records.places.iter().copied() {
        source.record(seq, &mut bytes)?;
        let leaf = leaf_hash(&bytes);
        let record = match one(&bytes, &leaf, seq, of_the_run, &mut leaves, contents.as_ref())? {
            Ok(record) => record,
            Err(what) => {
                let place = Place { record: Some(seq), file: Some(record_name(seq)) };
                verdict.found(Code::Tampered, place, format!("record {seq}: {what}"));
                return Ok(None);
            }
        };
        upkeep.record(&record);
        if let Event::Installation(notice) = &record.event {
            match notice {
                Notice::OutputsRedacted { root, ranges, .. } => {
                    contents.iter_mut().for_each(|contents| contents.redaction(*root, ranges));
                }
                Notice::Purged { .. } => purged = Some(Box::new(record.clone())),
                _ => {}
            }
        } else {
            of_the_run += 1;
            match &mut contents {
                Some(contents) => contents.record(&record),
                None => match begin(source, &record, verdict)? {
                    Some(begun) => contents = Some(begun),
                    None => return Ok(None),
                },
            }
        }
        if !source.proof(seq, &mut proof)? {
            continue;
        }
        match inclusion(&proof, seq, &leaf, head, note) {
            Ok(()) => proved += 1,
            Err(why) => {
                let name = proof_name(seq);
                let place = Place { record: Some(seq), file: Some(name.clone()) };
                verdict.found(Code::Tampered, place, format!("{name}: {why}"));
                return Ok(None);
            }
        }
    }
    let of = match (contents, purged) {
        (Some(contents), None) => Of::Run(Box::new(contents)),
        (None, Some(purged)) => {
            if let Event::Installation(Notice::Purged { purged_run, .. }) = &purged.event {
                verdict.run_id = purged_run.to_string();
            }
            Of::Purged(purged)
        }
        _ => {
            verdict.found(Code::Tampered, Place::file("records"), "there is no record of a run");
            return Ok(None);
        }
    };
    let all = records.places.len();
    verdict.records = all as u64;
    verdict.held(format!("{} are whole, in order, and leaves of the signed tree", count(all, "record")));
    if proved == all {
        verdict.held("each record has a proof of its own");
    } else {
        verdict.unchecked(format!("{} have no proof of their own", count(all - proved, "record")));
    }
    upkeep.finish(&verdict.run_id.as_str().into(), verdict);
    Ok(Some(of))
}

/// Which records there are, in order.
fn places(source: &Source, verdict: &mut Verdict) -> Option<Vec<u64>> {
    if let Some(name) = source.others().find(|name| name.starts_with("records/")) {
        verdict.found(Code::Tampered, Place::file(name), format!("{name} is no record's name"));
        return None;
    }
    let places: Vec<u64> = source.records().collect();
    if places.is_empty() {
        verdict.found(Code::Tampered, Place::file("records"), "there are no records");
        return None;
    }
    Some(places)
}

/// One record at its place, or what is wrong with it.
fn one(
    bytes: &[u8],
    leaf: &Sha256,
    seq: u64,
    run_seq: u64,
    leaves: &mut Leaves<'_>,
    contents: Option<&Contents>,
) -> Result<Result<Record, String>, Error> {
    let record = match parse(bytes) {
        Ok(record) => record,
        Err(error) => return Ok(Err(error.to_string())),
    };
    if record.seq != seq {
        return Ok(Err(format!("it says that it is record {}", record.seq)));
    }
    let before = if seq == 0 { Some(first_prev()) } else { leaves.get(seq - 1)? };
    match leaves.get(seq)? {
        None => return Ok(Err("the signed head is of fewer records".into())),
        Some(sealed) if sealed != *leaf => {
            return Ok(Err("it is not the record that was sealed there: its bytes are other ones".into()));
        }
        Some(_) => {}
    }
    if before != Some(record.prev) {
        return Ok(Err("it was sealed on another record than the one before it".into()));
    }
    if record.run.is_installation() {
        let run = contents.and_then(|contents| contents.view().run());
        let belongs = match &record.event {
            Event::Installation(Notice::KeyRotated { .. } | Notice::LedgerRestored { .. }) => true,
            Event::Installation(Notice::OutputsRedacted { attempt, .. }) => run == Some(&attempt.run),
            Event::Installation(Notice::Purged { .. }) => contents.is_none(),
            _ => false,
        };
        return Ok(if belongs {
            Ok(record)
        } else {
            Err("it belongs to no run, and tells nothing of this one".into())
        });
    }
    if let Some(run) = contents.and_then(|contents| contents.view().run())
        && *run != record.run
    {
        return Ok(Err(format!("it is of another run ({})", record.run)));
    }
    if record.run_seq != run_seq {
        return Ok(Err(format!("it is record {} of its run, and record {run_seq} was due", record.run_seq)));
    }
    Ok(Ok(record))
}

fn begin(source: &Source, first: &Record, verdict: &mut Verdict) -> Result<Option<Contents>, Error> {
    verdict.run_id = first.run.to_string();
    let mut plan = Vec::new();
    if source.entry(PLAN).is_some() {
        source.get(PLAN, &mut plan)?;
    }
    Ok(contents::opening(first, &plan, verdict).map(|(_, plan)| {
        let mut contents = Contents::new(plan);
        contents.record(first);
        contents
    }))
}

/// Checks a record's own proof.
fn inclusion(proof: &[u8], seq: u64, leaf: &Sha256, head: &Checkpoint, note: &str) -> Result<(), String> {
    let text = std::str::from_utf8(proof).map_err(|_| "it is not text".to_owned())?;
    let proof = TlogProof::parse(text).map_err(|error| error.to_string())?;
    if proof.index != seq {
        return Err(format!("it is of record {}", proof.index));
    }
    // The head's signature was checked; the same bytes have the same.
    if proof.checkpoint != note {
        return Err("its head is not the bundle's".into());
    }
    proof::verify_inclusion(leaf, seq, head.size, &proof.path, &head.root).map_err(|error| error.to_string())
}
