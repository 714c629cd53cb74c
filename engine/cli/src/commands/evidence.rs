//! `evidence verify`, `evidence report`, and the refusal of what a later version brings.

mod report;

use std::path::Path;

use runbook_ledger::{Checkpoint, Verifier, VerifierKey};
use runbook_model::record::Record;
use runbook_ports::store::RunIndex;
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::check::{self, Gap};
use runbook_report::style::Tone;
use runbook_report::text::{count, escape_line};
use runbook_report::{Palette, RunView};
use runbook_store::SqliteStore;
use serde::Serialize;

use crate::arguments::{Evidence, EvidenceVerify};
use crate::failure::Failure;
use crate::head;
use crate::keys;
use crate::output::{self, Output};
use crate::project::Project;
use crate::record;

/// Ledger records read at once.
const PAGE: usize = 1_000;

/// Runs `evidence …`.
pub(crate) async fn run(project: &Project, command: &Evidence, output: Output) -> Result<u8, Failure> {
    match command {
        Evidence::Verify(arguments) => verify(project, arguments, output).await,
        Evidence::Export(_) => Err(later("evidence export")),
        Evidence::Report(arguments) => report::write(project, arguments).await,
    }
}

fn later(what: &str) -> Failure {
    Failure::usage("RB0612", format!("`runbook {what}` is not in this version"))
        .next("`runbook evidence verify RUN` checks the record; `runbook show RUN --json` has all of it")
}

/// `verdict/v1`.
#[derive(Debug, Serialize)]
struct Verdict {
    schema: &'static str,
    run_id: String,
    /// The exit code.
    code: u8,
    /// In one or two words.
    verdict: &'static str,
    /// What is wrong, the first thing first.
    problems: Vec<String>,
    /// What the record does not have.
    gaps: Vec<Gap>,
    /// What was checked, and held.
    checked: Vec<String>,
    /// What could not be checked.
    not_checked: Vec<String>,
    ledger_key: Option<String>,
    records: u64,
    root: Option<String>,
}

impl Verdict {
    fn found(&mut self, code: u8, verdict: &'static str, problem: String) {
        // The first and gravest finding decides; the others are told too.
        if self.code < 20 {
            self.code = code;
            self.verdict = verdict;
        }
        self.problems.push(problem);
    }
}

async fn verify(project: &Project, arguments: &EvidenceVerify, output: Output) -> Result<u8, Failure> {
    let (_, _, verdict) = judge(project, &arguments.run, arguments.pin.as_deref()).await?;
    if arguments.json {
        output::json(&verdict)?;
    } else {
        output::data(text(&verdict, output.palette))?;
    }
    Ok(verdict.code)
}

/// Checks the run that a person named.
async fn judge(project: &Project, run: &str, pin: Option<&Path>) -> Result<(SqliteStore, RunIndex, Verdict), Failure> {
    let mut verdict = Verdict {
        schema: "verdict/v1",
        run_id: run.to_owned(),
        code: 10,
        verdict: "verified, no outside anchor",
        problems: Vec::new(),
        gaps: Vec::new(),
        checked: Vec::new(),
        not_checked: vec!["no outside witness or time stamp anchors the ledger yet".into()],
        ledger_key: None,
        records: 0,
        root: None,
    };
    let could_not = |mut failure: Failure| {
        failure.exit = 30;
        failure
    };
    let store = record::open_recorded(project).await.map_err(could_not)?;
    let index = record::find(&store, run).await?;
    verdict.run_id = index.header.run.to_string();

    let own = keys::public(project).map_err(could_not)?;
    let pinned = pin.map(keys::read_public).transpose()?;
    let key = match pinned {
        Some(pinned) => {
            if pinned.public_key() != own.public_key() {
                let text = format!("the ledger is sealed with {own}, and {pinned} is pinned");
                verdict.found(22, "untrusted key", text);
            } else {
                verdict.checked.push("the ledger's key is the pinned one".into());
            }
            pinned
        }
        None => {
            verdict.code = 11;
            verdict.verdict = "consistent in itself, key not pinned";
            verdict.not_checked.push("whether the key is the right one: give its public half with --pin FILE".into());
            own
        }
    };
    verdict.ledger_key = Some(key.to_string());
    if verdict.code != 22 {
        check(&store, project, &key, &index.header.run, &mut verdict).await.map_err(could_not)?;
    }
    Ok((store, index, verdict))
}

/// Reads the whole ledger once, and the run's contents.
async fn check(
    store: &SqliteStore,
    project: &Project,
    key: &VerifierKey,
    run: &runbook_model::RunId,
    verdict: &mut Verdict,
) -> Result<(), Failure> {
    let stored = store.checkpoints().await.map_err(|error| record::failed(&error))?;
    let mut heads = Vec::new();
    for checkpoint in &stored {
        match Checkpoint::verify(&checkpoint.note, key) {
            Ok(head) => heads.push(head),
            Err(error) => {
                let text = format!("the signed head of {} records is not by this key: {error}", checkpoint.size);
                verdict.found(20, "tampered", text);
                return Ok(());
            }
        }
    }
    if heads.is_empty() {
        verdict.found(20, "tampered", "there are records and no signed head".into());
        return Ok(());
    }
    verdict.checked.push(format!("{} are signed by the key", count(heads.len(), "head")));
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
                    verdict.found(20, "tampered", format!("record {}: {}", fault.seq, fault.what));
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
        let (code, word) = if rolled_back { (21, "rolled back") } else { (20, "tampered") };
        verdict.found(code, word, format!("record {}: {}", fault.seq, fault.what));
        return Ok(());
    }
    verdict.records = verifier.size();
    verdict.root = Some(verifier.root().to_string());
    verdict.checked.push(format!("{} are whole, in order and under a signed head", count(from as usize, "record")));
    match head::check(project, &head) {
        Ok(Some(size)) => verdict.checked.push(format!("nothing was taken away since {size} records were signed")),
        Ok(None) => {
            verdict.not_checked.push("whether an older ledger was put back: nothing is kept beside the key".into())
        }
        Err(why) => {
            verdict.found(21, "forked or rolled back", why);
            return Ok(());
        }
    }
    contents(store, &records, verdict).await
}

/// The blobs that the run's records name, and whether every cell is filled.
async fn contents(store: &SqliteStore, records: &[Record], verdict: &mut Verdict) -> Result<(), Failure> {
    let Some(header) = records.first().and_then(record::header) else {
        verdict.found(20, "tampered", "the run does not begin with its opening".into());
        return Ok(());
    };
    let plan = match record::plan(store, header).await {
        Ok(plan) if plan.digest() == header.plan_sha256 => plan,
        Ok(_) | Err(_) => {
            verdict.found(20, "tampered", format!("the plan {} is missing or not as it was", header.plan_sha256));
            return Ok(());
        }
    };
    verdict.checked.push("the plan is the one with which the run began".into());
    let view = RunView::of(plan, records);
    let mut blobs = 0;
    for (host, step, blob) in named(&view) {
        // Reading it as a file checks its digest.
        match store.file(&blob).await {
            Ok(_) => blobs += 1,
            Err(error) => verdict.found(20, "tampered", format!("{host}/{step}: {error}")),
        }
    }
    verdict.checked.push(format!("{} have the digests on record", count(blobs, "stored output and list")));
    verdict.gaps = check::gaps(&view);
    if !verdict.gaps.is_empty() && verdict.code < 20 {
        verdict.code = 12;
        verdict.verdict = "incomplete";
    } else if verdict.gaps.is_empty() {
        verdict.checked.push("every cell of the run's matrix has an outcome".into());
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
                }
            }
        }
    }
    out.sort_by_key(|(_, _, blob)| *blob);
    out.dedup_by_key(|(_, _, blob)| *blob);
    out
}

fn text(verdict: &Verdict, palette: Palette) -> String {
    let tone = match verdict.code {
        0 | 10 => Tone::Good,
        11..=13 => Tone::Warn,
        _ => Tone::Bad,
    };
    let mut out = format!(
        "{}  run {} (code {})\n",
        palette.paint(tone, &verdict.verdict.to_uppercase()),
        verdict.run_id,
        verdict.code
    );
    let mut section = |key: &str, tone: Tone, lines: &[String]| {
        for line in lines {
            out.push_str(&format!("  {} {}\n", palette.paint(tone, key), escape_line(line.as_bytes())));
        }
    };
    section("wrong:      ", Tone::Bad, &verdict.problems);
    let gaps: Vec<String> = verdict
        .gaps
        .iter()
        .map(|gap| {
            let place: Vec<&str> =
                [gap.host.as_ref().map(|host| host.as_str()), gap.step.as_ref().map(|step| step.as_str())]
                    .into_iter()
                    .flatten()
                    .collect();
            if place.is_empty() { gap.what.clone() } else { format!("{}: {}", place.join("/"), gap.what) }
        })
        .collect();
    section("missing:    ", Tone::Warn, &gaps);
    section("checked:    ", Tone::Good, &verdict.checked);
    section("not checked:", Tone::Dim, &verdict.not_checked);
    if let (Some(key), Some(root)) = (&verdict.ledger_key, &verdict.root) {
        section("key:        ", Tone::Dim, std::slice::from_ref(key));
        section("root:       ", Tone::Dim, &[format!("{root} of {} records", verdict.records)]);
    }
    out
}
