//! `evidence export`: a run's evidence as files that anybody can verify.
//!
//! What is large is streamed: the ledger's hashes, records, contents. What grows with the run in memory is what its view
//! keeps of each cell, and the names of its contents.

mod base;
mod head;
mod pipe;
mod purged;
mod source;
mod target;
mod writer;

use std::sync::Arc;

use runbook_model::{Notice, RunId};
use runbook_ports::store::{RunIndex, RunStatus};
use runbook_ports::{Signer as _, Store as _};
use runbook_report::bundle::{ExportDocument, Names, Signing};
use runbook_report::verdict::Code;
use runbook_report::view::RunState;
use runbook_store::SqliteStore;

use self::base::Base;
use self::head::Head;
use self::source::Source;
use self::target::{Target, Written};
use self::writer::Writer;
use crate::arguments::EvidenceExport;
use crate::failure::{FAULT, Failure, REFUSED};
use crate::output;
use crate::project::Project;
use crate::{keys, notices, person, record};

/// Ledger records read at once.
const PAGE: usize = 1_000;

/// Runs `evidence export`.
pub(super) async fn run(project: &Project, arguments: &EvidenceExport) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let key = keys::open(project)?;
    let chain = keys::chain(project, &store).await?.map_err(|error| not_whole(&error.to_string()))?;
    let signer = |bytes: &[u8]| key.signer.sign(bytes);
    let signing = Signing { key: &key.verifier, signer: &signer };
    let index = match record::find(&store, &arguments.run).await {
        Ok(index) => index,
        Err(failure) => {
            let Some(purged) = record::purged_run(&store, &arguments.run).await? else { return Err(failure) };
            return purged::run(project, arguments, store, &chain, signing, purged).await;
        }
    };
    must_not_run(&store, &index).await?;
    let mut source = Source::read(project, &store, &index, &chain, arguments.redacted).await?;
    if arguments.redacted && source.edition.is_full() {
        return Err(Failure::usage("RB0670", format!("nothing is withheld of run {}", index.header.run))
            .next("`runbook evidence redact` says what is to be withheld; without --redacted all of it is exported"));
    }
    let end = source.view.ended_ms.unwrap_or(source.view.last_ms);
    let names = Names::of(&source.view);
    let mut said = std::mem::take(&mut source.lengths);
    let source = Arc::new(source);
    let base = loop {
        let target = Target::begin(&arguments.out, end)?;
        let mut base = Base::new(store.clone(), signing, target);
        base.said = std::mem::take(&mut said);
        let mut writer = Writer { base, source: source.clone(), names: names.clone() };
        match writer.write(project).await {
            Ok(()) => break writer.base,
            // What is damaged has another length than its record says. It is left out of an archive that is begun anew.
            Err(_) if writer.base.deceived => {}
            Err(failure) => return Err(failure),
        }
    };
    let exported = finish(project, base, &index.header.run, arguments.redacted).await?;
    let ended = source.view.state == RunState::Ended;
    let complete = ended && exported.missing.is_empty();
    exported.tell(arguments, &source.head, complete)?;
    if !ended {
        output::note("the run has not ended: whoever verifies the bundle is told that it is incomplete (code 12)");
    }
    match source.edition.told() {
        Some(told) => output::note(told),
        None if !record::redactions(&exported.store, &source.run).await?.is_empty() => output::note(
            "this is the full edition, with the lines that are withheld in redacted ones: --redacted leaves them out",
        ),
        None => {}
    }
    Ok(if complete { 0 } else { Code::Incomplete.number() })
}

/// A bundle that is in its place, and on record.
struct Exported {
    run: RunId,
    store: SqliteStore,
    written: Written,
    missing: Vec<String>,
    also_in: Vec<String>,
    redacted: bool,
}

/// Puts the bundle in its place, and on record that it was given out.
async fn finish(project: &Project, base: Base<'_>, run: &RunId, redacted: bool) -> Result<Exported, Failure> {
    let Base { target, store, signing, missing, .. } = base;
    let also_in: Vec<String> = target.found().map(str::to_owned).collect();
    let written = target.finish(&signing)?;
    let notice = Notice::EvidenceExported {
        evidence_of: run.clone(),
        sums_sha256: written.sums,
        redacted,
        by: person::operator(),
    };
    notices::append(project, &store, vec![notice], Vec::new())
        .await
        .map_err(|failure| failure.changed("the bundle is written and whole; that it was exported is not on record"))?;
    Ok(Exported { run: run.clone(), store, written, missing, also_in, redacted })
}

impl Exported {
    fn tell(&self, arguments: &EvidenceExport, head: &Head, complete: bool) -> Result<(), Failure> {
        let written = &self.written;
        let place = written.place.display().to_string();
        if arguments.json {
            output::json(&ExportDocument {
                schema: "export/v1",
                run_id: self.run.to_string(),
                target: place,
                kind: if written.archive { "archive" } else { "folder" },
                files: written.files,
                bytes: written.bytes,
                sums_sha256: written.sums.to_string(),
                ledger: head.ledger(),
                anchors: head.anchored(),
                complete,
                missing: self.missing.clone(),
                redacted: self.redacted,
                also_in: self.also_in.clone(),
            })?;
        } else {
            output::data(format!("{place}\n"))?;
        }
        for line in &self.missing {
            output::note(format!("not in the bundle: {line}"));
        }
        for file in &self.also_in {
            output::note(format!(
                "LOOK AT IT BEFORE YOU GIVE IT AWAY: the text of a withheld line stands in {file} too"
            ));
        }
        Ok(())
    }
}

/// A run that is worked on has more records by the time that it is written.
async fn must_not_run(store: &SqliteStore, index: &RunIndex) -> Result<(), Failure> {
    if index.status != RunStatus::Running {
        return Ok(());
    }
    let run = &index.header.run;
    match store.holder(run).await.map_err(|error| record::failed(&error))? {
        Some(holder) if holder.alive => {
            let text = format!("run {run} is being worked on by {} (process {})", holder.operator, holder.pid);
            Err(Failure::new("RB0636", REFUSED, text).next("export it when it has ended, or waits for an operator"))
        }
        _ => Ok(()),
    }
}

fn not_whole(why: &str) -> Failure {
    Failure::new("RB0639", FAULT, format!("nobody could verify a bundle of this run: {why}"))
        .next("`runbook evidence verify RUN` names the first record that is wrong")
}
