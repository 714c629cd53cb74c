//! `evidence verify`.

use std::path::Path;

use runbook_ledger::{KeyChain, Verifier, chain};
use runbook_model::record::Record;
use runbook_ports::store::RunIndex;
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::text::count;
use runbook_report::verdict::{Code, Place, Subject, Verdict};
use runbook_report::{RunView, check};
use runbook_store::SqliteStore;

use crate::arguments::EvidenceVerify;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::project::Project;
use crate::{head, keys, record};

/// Ledger records read at once.
const PAGE: usize = 1_000;

/// Runs `evidence verify`.
pub(super) async fn run(project: &Project, arguments: &EvidenceVerify, output: Output) -> Result<u8, Failure> {
    let (_, _, verdict) = judge(project, &arguments.run, arguments.pin.as_deref()).await?;
    if arguments.json {
        output::json(&verdict)?;
    } else {
        output::data(verdict.text(output.palette))?;
    }
    Ok(verdict.code)
}

/// Checks the run that a person named.
pub(super) async fn judge(
    project: &Project,
    run: &str,
    pin: Option<&Path>,
) -> Result<(SqliteStore, RunIndex, Verdict), Failure> {
    let could_not = |mut failure: Failure| {
        failure.exit = Code::NotChecked.number();
        failure
    };
    let store = record::open_recorded(project).await.map_err(could_not)?;
    let index = record::find(&store, run).await?;
    let mut verdict = Verdict::new(Subject::Run, index.header.run.as_str());
    verdict.unchecked("no outside witness or time stamp anchors the ledger yet");

    let own = keys::public(project).map_err(could_not)?;
    let pinned = pin.map(keys::read_publics).transpose()?;
    verdict.ledger_key = Some(own.to_string());
    match keys::chain(project, &store).await.map_err(could_not)? {
        Err(error) => verdict.found(Code::UntrustedKey, Place::default(), error.to_string()),
        Ok(chain) => {
            match pinned {
                Some(pinned) if chain.holds_any(&pinned) => {
                    verdict.pinned = true;
                    verdict.held(match chain.links().len() {
                        1 => "the ledger's key is the pinned one".to_owned(),
                        n => format!("the {n} keys of the ledger lead to each other, and one of them is pinned"),
                    });
                }
                Some(pinned) => {
                    let pinned: Vec<String> = pinned.iter().map(ToString::to_string).collect();
                    let text = format!("the ledger is sealed with {own}, and pinned is {}", pinned.join(", "));
                    verdict.found(Code::UntrustedKey, Place::default(), text);
                }
                None => verdict.unchecked("whether the key is the right one: give its public half with --pin FILE"),
            }
            if !verdict.is_bad() {
                check(&store, project, &chain, &index.header.run, &mut verdict).await.map_err(could_not)?;
            }
        }
    }
    verdict.settle();
    Ok((store, index, verdict))
}

/// Reads the whole ledger once, and the run's contents.
async fn check(
    store: &SqliteStore,
    project: &Project,
    keys: &KeyChain,
    run: &runbook_model::RunId,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    let stored = store.checkpoints().await.map_err(|error| record::failed(&error))?;
    let mut heads = Vec::new();
    for checkpoint in &stored {
        match keys.verify(&checkpoint.note) {
            Ok(head) => heads.push(head),
            Err(error @ chain::Error::OutOfTime { .. }) => {
                verdict.found(Code::UntrustedKey, Place::default(), error.to_string());
                return Ok(());
            }
            Err(error) => {
                let text = format!("the signed head of {} records is not by this key: {error}", checkpoint.size);
                verdict.found(Code::Tampered, Place::default(), text);
                return Ok(());
            }
        }
    }
    if heads.is_empty() {
        verdict.found(Code::Tampered, Place::default(), "there are records and no signed head");
        return Ok(());
    }
    verdict.held(format!("{} are signed by the key", count(heads.len(), "head")));
    let last_signed = heads.last().map_or(0, |head| head.size);

    let mut verifier = Verifier::new(heads);
    let mut records: Vec<Record> = Vec::new();
    let mut from = 0;
    loop {
        let page = store.ledger(from, PAGE).await.map_err(|error| record::failed(&error))?;
        let whole = page.len() == PAGE;
        for sealed in page {
            from = sealed.seq + 1;
            match verifier.push_sealed(&sealed) {
                Ok(read) if read.run == *run => records.push(read),
                Ok(_) => {}
                Err(fault) => {
                    verdict.found(Code::Tampered, Place::record(fault.seq), fault.to_string());
                    return Ok(());
                }
            }
        }
        if !whole {
            break;
        }
    }
    let head = store.head().await.map_err(|error| record::failed(&error))?;
    if let Err(fault) = verifier.finish(Some(&head)) {
        let rolled_back = from < last_signed;
        let code = if rolled_back { Code::Forked } else { Code::Tampered };
        verdict.found(code, Place::record(fault.seq), fault.to_string());
        return Ok(());
    }
    verdict.records = verifier.size();
    verdict.size = verifier.size();
    verdict.root = Some(verifier.root().to_string());
    verdict.held(format!("{} are whole, in order and under a signed head", count(from as usize, "record")));
    match head::check(project, &head) {
        Ok(Some(size)) => verdict.held(format!("nothing was taken away since {size} records were signed")),
        Ok(None) => verdict.unchecked("whether an older ledger was put back: nothing is kept beside the key"),
        Err(why) => {
            verdict.found(Code::Forked, Place::default(), why);
            return Ok(());
        }
    }
    contents(store, &records, verdict).await
}

/// The blobs that the run's records name, and whether every cell is filled.
async fn contents(store: &SqliteStore, records: &[Record], verdict: &mut Verdict) -> Result<(), Failure> {
    let Some(header) = records.first().and_then(record::header) else {
        verdict.found(Code::Tampered, Place::default(), "the run does not begin with its opening");
        return Ok(());
    };
    let plan = match record::plan(store, header).await {
        Ok(plan) if plan.digest() == header.plan_sha256 => plan,
        Ok(_) | Err(_) => {
            let text = format!("the plan {} is missing or not as it was", header.plan_sha256);
            verdict.found(Code::Tampered, Place::blob(&header.plan_sha256), text);
            return Ok(());
        }
    };
    verdict.held("the plan is the one with which the run began");
    let view = RunView::of(plan, records);
    let mut blobs = 0;
    for (host, step, blob) in named(&view) {
        // Reading it as a file checks its digest.
        match store.file(&blob).await {
            Ok(_) => blobs += 1,
            Err(error) => verdict.found(Code::Tampered, Place::blob(&blob), format!("{host}/{step}: {error}")),
        }
    }
    verdict.held(format!("{} have the digests on record", count(blobs, "stored output and list")));
    verdict.gaps = check::gaps(&view);
    if verdict.gaps.is_empty() {
        verdict.held("every cell of the run's matrix has an outcome");
    }
    Ok(())
}

/// Every blob that the run's records name, with its host and step.
fn named(view: &RunView) -> Vec<(String, String, runbook_model::Sha256)> {
    let mut out = Vec::new();
    for (host, entry) in &view.hosts {
        for (step, cell) in &entry.steps {
            let mut put = |blob: Option<runbook_model::Sha256>| {
                out.extend(blob.map(|blob| (host.to_string(), step.to_string(), blob)));
            };
            put(cell.changes);
            for attempt in &cell.attempts {
                put(Some(attempt.intent.command_sha256));
                if let Some(report) = &attempt.report {
                    put(report.stdout.blob);
                    put(report.stderr.blob);
                    put(report.transfers);
                    put(report.timing);
                    put(report.undeclared);
                }
            }
        }
    }
    out.sort_by_key(|(_, _, blob)| *blob);
    out.dedup_by_key(|(_, _, blob)| *blob);
    out
}
