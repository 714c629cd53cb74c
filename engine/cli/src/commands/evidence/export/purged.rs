//! The bundle of a run whose contents were removed after their time: that it was there, how much of it, and who removed it.

use runbook_ledger::KeyChain;
use runbook_model::{Notice, RunId};
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::bundle::{self, PurgedFacts, Signing};
use runbook_report::text::{count, parse_time};
use runbook_store::SqliteStore;

use super::base::Base;
use super::head::Head;
use super::target::Target;
use super::{PAGE, finish, not_whole};
use crate::arguments::EvidenceExport;
use crate::failure::Failure;
use crate::output;
use crate::project::Project;
use crate::record::{self, PurgedRun};

/// The longest list of what was removed.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// Exports what remains of it.
pub(super) async fn run(
    project: &Project,
    arguments: &EvidenceExport,
    store: SqliteStore,
    keys: &KeyChain,
    signing: Signing<'_>,
    purged: PurgedRun,
) -> Result<u8, Failure> {
    let PurgedRun { run, record: told, notice } = purged;
    let Notice::Purged { request, removed, records, blobs, signatures, by, .. } = notice else {
        return Err(not_whole("the record of its removal is none"));
    };
    if arguments.redacted {
        return Err(Failure::usage(
            "RB0670",
            format!("all contents of run {run} were removed: nothing is left to withhold"),
        ));
    }
    let head = Head::read(&store, keys, told.seq + 1, [told.seq].into()).await?;
    let head = head.ok_or_else(|| not_whole("no signed head of the ledger covers the record of its removal"))?;
    let places = places(&store, &run).await?;
    let time_ms = parse_time(&told.time).unwrap_or_default();
    let mut base = Base::new(store, signing, Target::begin(&arguments.out, time_ms)?);
    base.trust()?;
    base.ledger(&head, &[]).await?;
    base.anchors(&head).await?;
    base.notices(&head).await?;
    // The request may be of other runs too: it is what was signed.
    for (digest, name) in [(&request, bundle::REQUEST), (&removed, bundle::REMOVED)] {
        match base.store.get(digest, LIST_BYTES_MAX).await {
            Ok(bytes) => drop(base.target.put(name, &bytes)?),
            Err(error) => base.lacks(name, error)?,
        }
    }
    let (anchors, ledger) = (head.anchored(), head.ledger());
    let facts = PurgedFacts {
        run: &run,
        origin: base.signing.key.name(),
        head: &ledger,
        anchors: &anchors,
        stamps: &base.stamps,
        record: told.seq,
        time: &told.time,
        request: &request,
        records,
        blobs,
        places: &places,
        signers: signatures.iter().map(|signature| signature.signer.as_str()).collect(),
        by: &by.name,
        missing: &base.missing,
    };
    base.target.put("purged.json", &bundle::purged(&facts))?;
    base.target.put("verify.py", bundle::VERIFY_PY.as_bytes())?;
    base.target.put("README.txt", bundle::purged_readme(&facts).as_bytes())?;
    base.target.put("VERIFY.txt", bundle::purged_verify_txt(&facts).as_bytes())?;
    let exported = finish(project, base, &run, false).await?;
    let complete = exported.missing.is_empty();
    exported.tell(arguments, &head, complete)?;
    output::note(format!(
        "the contents of run {run} were removed on {} (record {}, signed by {}): the bundle says that, and has no more of it \
         than the hashes of its {}",
        &told.time[..10.min(told.time.len())],
        told.seq,
        facts_signers(&signatures),
        count(usize::try_from(records).unwrap_or(usize::MAX), "record"),
    ));
    Ok(if complete { 0 } else { runbook_report::verdict::Code::Incomplete.number() })
}

fn facts_signers(signatures: &[runbook_model::notice::PurgeSignature]) -> String {
    let names: Vec<&str> = signatures.iter().map(|signature| signature.signer.as_str()).collect();
    names.join(" and ")
}

/// Where the run's records were, as the first and the last of each range. Their bodies are gone, and with them what
/// would prove whose they were.
async fn places(store: &SqliteStore, run: &RunId) -> Result<Vec<(u64, u64)>, Failure> {
    let mut places: Vec<(u64, u64)> = Vec::new();
    let mut next = 0;
    loop {
        let page = store.records(run, next, PAGE).await.map_err(|error| record::failed(&error))?;
        let Some(last) = page.last() else { return Ok(places) };
        next = last.run_seq + 1;
        for sealed in page {
            match places.last_mut() {
                Some(open) if open.1 + 1 == sealed.seq => open.1 = sealed.seq,
                _ => places.push((sealed.seq, sealed.seq)),
            }
        }
    }
}
