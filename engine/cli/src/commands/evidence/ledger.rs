//! Checking a run in its project: the whole ledger once, record by record, and the contents that the run names.

use runbook_ledger::{Checkpoint, KeyChain, Verifier, chain};
use runbook_model::record::Record;
use runbook_model::{RunId, Sha256};
use runbook_ports::store::StoreError;
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::check::Gap;
use runbook_report::text::count;
use runbook_report::verdict::contents::{self, Contents, Found, Kind, Measured};
use runbook_report::verdict::trust::{Against, Trust};
use runbook_report::verdict::upkeep::Upkeep;
use runbook_report::verdict::{Code, Place, Verdict};
use runbook_store::SqliteStore;

use crate::failure::Failure;
use crate::project::Project;
use crate::{anchors, head, keys, record};

/// Ledger records read at once.
const PAGE: usize = 1_000;
/// The longest list of files moved that is read.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Contents up to this length are read into memory, longer ones as a stream.
const SMALL_MAX: u64 = 64 * 1024;
/// The longest plan.
const PLAN_BYTES_MAX: u64 = runbook_plan::saved::PLAN_BYTES_MAX as u64;

/// Judges a run by its ledger. What is wrong with the evidence is in the verdict; an error is that something of our own
/// could not be read.
pub(super) async fn check(
    store: &SqliteStore,
    project: &Project,
    trust: &Trust,
    outside: &anchors::verify::Trust,
    run: &RunId,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    let keys = match keys::chain(project, store).await? {
        Ok(keys) => keys,
        Err(error) => {
            verdict.ledger_key = Some(keys::public(project)?.to_string());
            verdict.found(Code::UntrustedKey, Place::default(), error.to_string());
            return Ok(());
        }
    };
    trust.pins(&keys, verdict);
    if verdict.is_bad() {
        return Ok(());
    }
    let Some(heads) = heads(store, &keys, verdict).await? else { return Ok(()) };
    let against = Against::new(trust, &keys, verdict);
    if let Some(contents) = read(store, project, heads, against, run, verdict).await? {
        look(store, contents, verdict).await;
    }
    if !verdict.is_bad() {
        let found = anchors::verify::of_store(store, &keys, covers(store, run).await?, outside).await?;
        found.tell(verdict);
    }
    Ok(())
}

/// The place after the run's last record.
async fn covers(store: &SqliteStore, run: &RunId) -> Result<u64, Failure> {
    let (mut next, mut covers) = (0, 0);
    loop {
        let page = store.records(run, next, PAGE).await.map_err(|error| record::failed(&error))?;
        let Some(last) = page.last() else { return Ok(covers) };
        (next, covers) = (last.run_seq + 1, last.seq + 1);
    }
}

/// The signed heads; `None` when one of them is wrong.
async fn heads(
    store: &SqliteStore,
    keys: &KeyChain,
    verdict: &mut Verdict,
) -> Result<Option<Vec<Checkpoint>>, Failure> {
    let mut heads = Vec::new();
    for stored in store.checkpoints().await.map_err(|error| record::failed(&error))? {
        match keys.verify(&stored.note) {
            Ok(head) if head.size == stored.size => heads.push(head),
            Ok(head) => {
                let text = format!("the signed head of {} records is kept as one of {}", head.size, stored.size);
                verdict.found(Code::Tampered, Place::default(), text);
                return Ok(None);
            }
            Err(error) => {
                // A key that is not of the chain would be the forger's own; one out of its time is the ledger's.
                let code =
                    if matches!(error, chain::Error::OutOfTime { .. }) { Code::UntrustedKey } else { Code::Tampered };
                let text = format!("the signed head of {} records is not by the key in force: {error}", stored.size);
                verdict.found(code, Place::default(), text);
                return Ok(None);
            }
        }
    }
    if heads.is_empty() {
        verdict.found(Code::Tampered, Place::default(), "there are records and no signed head");
        return Ok(None);
    }
    verdict.held(format!("{} are signed by the key", count(heads.len(), "head")));
    Ok(Some(heads))
}

/// Reads the whole ledger once, and keeps of the run what is needed to judge it. `None` when nothing can be said of it.
async fn read(
    store: &SqliteStore,
    project: &Project,
    heads: Vec<Checkpoint>,
    mut against: Against,
    run: &RunId,
    verdict: &mut Verdict,
) -> Result<Option<Contents>, Failure> {
    let mut verifier = Verifier::new(heads);
    let mut contents: Option<Contents> = None;
    let mut upkeep = Upkeep::default();
    let mut from = 0;
    loop {
        let page = store.ledger(from, PAGE).await.map_err(|error| record::failed(&error))?;
        let whole = page.len() == PAGE;
        for sealed in page {
            from = sealed.seq + 1;
            if sealed.bytes.is_empty() {
                if let Err(fault) = verifier.push_purged(&sealed) {
                    verdict.found(Code::Tampered, Place::record(fault.seq), fault.to_string());
                    return Ok(None);
                }
                upkeep.bare(&sealed);
                against.at(verifier.size(), || verifier.root(), &upkeep, verdict);
                continue;
            }
            let read = match verifier.push_sealed(&sealed) {
                Ok(read) => read,
                Err(fault) => {
                    verdict.found(Code::Tampered, Place::record(fault.seq), fault.to_string());
                    return Ok(None);
                }
            };
            upkeep.record(&read);
            against.at(verifier.size(), || verifier.root(), &upkeep, verdict);
            if read.run == *run {
                match &mut contents {
                    Some(contents) => contents.record(&read),
                    None => match begin(store, &read, verdict).await {
                        Some(begun) => contents = Some(begun),
                        None => return Ok(None),
                    },
                }
            }
        }
        if !whole {
            break;
        }
    }
    let end = store.head().await.map_err(|error| record::failed(&error))?;
    if let Err(fault) = verifier.finish(Some(&end)) {
        verdict.found(Code::Tampered, Place::record(fault.seq), fault.to_string());
        return Ok(None);
    }
    for (name, head) in against.longer() {
        if let Some(what) = upkeep.explains(head.size) {
            verdict.gaps.push(Gap { host: None, step: None, what });
            continue;
        }
        let text = format!(
            "the head in {name} is of {} records, and the ledger has only {}: records are missing",
            head.size,
            verifier.size()
        );
        verdict.found(Code::Forked, Place::record(verifier.size()), text);
    }
    verdict.records = verifier.size();
    verdict.size = verifier.size();
    verdict.root = Some(verifier.root().to_string());
    verdict.held(format!("{} are whole, in order and under a signed head", count(from as usize, "record")));
    upkeep.finish(run, verdict);
    match head::check(project, &end) {
        Ok(Some(size)) => verdict.held(format!("nothing was taken away since {size} records were signed")),
        Ok(None) => {
            verdict.unchecked("whether an older ledger was put back: nothing is kept beside the key");
        }
        Err(why) => {
            verdict.found(Code::Forked, Place::default(), why);
            return Ok(None);
        }
    }
    if upkeep.is_bare(run) {
        // What is left of it is whole; what it did, nobody can tell.
        verdict.redacted = true;
        verdict.unchecked("what the run did: its records and what they named were removed");
    } else if contents.is_none() {
        verdict.found(Code::Tampered, Place::default(), "the ledger has no record of this run");
    }
    if let (Some(contents), Some(removed)) = (&mut contents, upkeep.removed(run)) {
        contents.purged(lines(store, removed).await);
    }
    Ok(contents)
}

/// The run's first record, with the plan that it names.
async fn begin(store: &SqliteStore, first: &Record, verdict: &mut Verdict) -> Option<Contents> {
    let named = record::header(first).map(|header| header.plan_sha256);
    let plan = match named {
        Some(digest) => store.get(&digest, PLAN_BYTES_MAX).await.unwrap_or_default(),
        None => Vec::new(),
    };
    let (_, plan) = contents::opening(first, &plan, verdict)?;
    let mut contents = Contents::new(plan);
    contents.record(first);
    Some(contents)
}

/// Looks at each content that the run's records name.
async fn look(store: &SqliteStore, mut contents: Contents, verdict: &mut Verdict) {
    let lists: Vec<Sha256> = kept(&contents, |kind| *kind == Kind::Transfers);
    for list in lists {
        // One that cannot be read is found below, as every other content.
        if let Ok(bytes) = store.get(&list, LIST_BYTES_MAX).await
            && let Err(error) = contents.transfers(&list, &bytes)
        {
            let text = format!("the list of files moved {list} cannot be read: {error}");
            verdict.found(Code::Tampered, Place::blob(&list), text);
        }
    }
    for digest in kept(&contents, |kind| *kind == Kind::Approval) {
        if let Ok(bytes) = store.get(&digest, LIST_BYTES_MAX).await {
            contents.approval(digest, &bytes);
        }
    }
    for digest in kept(&contents, |_| true) {
        let found = find(store, &digest).await;
        contents.found(&digest, &found, verdict);
    }
    contents.finish(verdict);
}

fn kept(contents: &Contents, of: impl Fn(&Kind) -> bool) -> Vec<Sha256> {
    contents.wanted().filter(|(_, named)| of(&named.kind)).map(|(digest, _)| *digest).collect()
}

async fn find(store: &SqliteStore, digest: &Sha256) -> Found {
    // Reading it checks its digest.
    let file = match store.get(digest, SMALL_MAX).await {
        Ok(bytes) => return measured(Measured::of(bytes.as_slice())),
        Err(StoreError::TooLarge(_)) => store.file(digest).await,
        Err(error) => Err(error),
    };
    match file {
        Ok(file) => measured(std::fs::File::open(&file.path).and_then(Measured::of)),
        Err(StoreError::Missing(_)) => Found::Missing,
        Err(StoreError::Corrupt(_)) => Found::Damaged,
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

fn measured(read: std::io::Result<Measured>) -> Found {
    match read {
        Ok(measured) => Found::Whole(measured),
        Err(error) => Found::Unreadable(error.to_string()),
    }
}

/// The digests in a list, a line each. What cannot be read excuses nothing.
async fn lines(store: &SqliteStore, list: &Sha256) -> Vec<Sha256> {
    let bytes = store.get(list, LIST_BYTES_MAX).await.unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}
