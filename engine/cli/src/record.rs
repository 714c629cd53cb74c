//! Reading what was recorded: the store, a run by the name that a person gave, its view.

use std::io::{Read as _, Seek as _};
use std::sync::Arc;

use runbook_ledger::redaction::Withheld;
use runbook_ledger::{Checkpoint, Sealer, segments};
use runbook_model::digest::Hasher;
use runbook_model::event::RunHeader;
use runbook_model::permit::Permit;
use runbook_model::plan::Plan;
use runbook_model::record::Record;
use runbook_model::{Event, Notice, OutputRef, RunId, RunOutcome, Sha256};
use runbook_ports::store::{RunIndex, RunStatus, StoreError};
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::RunView;
use runbook_report::json::{Attachments, LedgerHead, RedactionLine};
use runbook_report::list::{LineState, RunLine};
use runbook_report::recording::Beginning;
use runbook_report::view::RunState;
use runbook_store::SqliteStore;

use crate::failure::{FAULT, Failure, UNRECORDED, USAGE};
use crate::project::Project;
use crate::{keys, reviews};

/// Records read at once.
const PAGE: usize = 1_000;
/// Failed hosts whose last words are read for the summary.
const FAILURES_READ: usize = 20;
/// A longer output is left to `logs`.
const FAILURE_BYTES_MAX: u64 = 1 << 20;
/// The largest list of changes that is read.
const CHANGES_BYTES_MAX: u64 = 64 << 20;

/// Opens the store, and makes it when it is not there.
pub(crate) async fn open(project: &Project) -> Result<SqliteStore, Failure> {
    project.make_state()?;
    let store = SqliteStore::open(&project.state).await.map_err(|error| {
        Failure::new(error.code(), USAGE, error.to_string())
            .next("`runbook doctor` says what is wrong with the state's folder")
    })?;
    keys::settle(project, &store).await?;
    Ok(store)
}

/// Opens the store when there is one.
pub(crate) async fn open_existing(project: &Project) -> Result<Option<SqliteStore>, Failure> {
    if SqliteStore::is_in(&project.state) { open(project).await.map(Some) } else { Ok(None) }
}

/// Opens the store, for commands that need a run in it.
pub(crate) async fn open_recorded(project: &Project) -> Result<SqliteStore, Failure> {
    open_existing(project).await?.ok_or_else(|| {
        Failure::usage("RB0609", format!("no run was recorded in {} yet", project.state_shown()))
            .next("`runbook apply FILE` makes one; --project DIR names another project")
    })
}

/// A store's error where nothing is being worked on.
pub(crate) fn failed(error: &StoreError) -> Failure {
    let exit = match error {
        StoreError::Missing(_) | StoreError::Newer { .. } | StoreError::TooLarge(_) => USAGE,
        StoreError::Corrupt(_) => FAULT,
        StoreError::FenceLost | StoreError::Failed(_) | StoreError::HeadMoved(_) => UNRECORDED,
        StoreError::Held { .. } | StoreError::Settled(_) => crate::failure::REFUSED,
    };
    Failure::new(runbook_store::code(error), exit, error.to_string())
        .next("`runbook doctor` says what is wrong; `runbook evidence verify RUN` whether the record was changed")
}

/// The run that a person means: `last`, its id, or a beginning or an end of it that no other run has.
pub(crate) async fn find(store: &SqliteStore, name: &str) -> Result<RunIndex, Failure> {
    let mut runs = store.runs().await.map_err(|error| failed(&error))?;
    if name == "last" {
        return runs.pop().ok_or_else(|| Failure::usage("RB0609", "no run was recorded yet"));
    }
    let wanted = name.to_lowercase();
    let fits = |run: &RunIndex| {
        let id = run.header.run.as_str();
        id == wanted || (!wanted.is_empty() && (id.starts_with(&wanted) || id.ends_with(&wanted)))
    };
    let mut found: Vec<RunIndex> = runs.into_iter().filter(fits).collect();
    if let Some(exact) = found.iter().position(|run| run.header.run.as_str() == wanted) {
        return Ok(found.swap_remove(exact));
    }
    if found.is_empty() {
        purged(store, &wanted).await?;
    }
    match found.len() {
        1 => Ok(found.remove(0)),
        0 => Err(Failure::usage("RB0609", format!("there is no run `{name}` here"))
            .next("`runbook runs` lists them; `last` is the newest")),
        n => {
            let mut failure = Failure::usage("RB0609", format!("`{name}` fits {n} runs"));
            for run in found.iter().rev().take(5) {
                failure = failure.detail(format!("{}  {}", run.header.run, run.header.runbook));
            }
            Err(failure.next("give more of its id; the end of an id tells runs apart best"))
        }
    }
}

/// Says so when the run that a person means is one whose contents were removed.
async fn purged(store: &SqliteStore, wanted: &str) -> Result<(), Failure> {
    let Some(PurgedRun { run, record, notice }) = purged_run(store, wanted).await? else { return Ok(()) };
    let signers: Vec<&str> = match &notice {
        Notice::Purged { signatures, .. } => signatures.iter().map(|signature| signature.signer.as_str()).collect(),
        _ => Vec::new(),
    };
    let text = format!("the contents of run {run} were removed on {}", &record.time[..10]);
    Err(Failure::usage("RB0668", text)
        .detail(format!("record {} says so; signed by {}", record.seq, signers.join(" and ")))
        .next("`runbook evidence export` and `evidence verify` still tell what the ledger has of it"))
}

/// A run whose contents were removed after their time.
pub(crate) struct PurgedRun {
    pub(crate) run: RunId,
    /// The record that says so.
    pub(crate) record: Record,
    /// What it says.
    pub(crate) notice: Notice,
}

/// The run that a person means, when it is one whose contents were removed.
pub(crate) async fn purged_run(store: &SqliteStore, name: &str) -> Result<Option<PurgedRun>, Failure> {
    let wanted = name.to_lowercase();
    for (record, notice) in notices(store, &["purged"]).await? {
        if let Notice::Purged { purged_run, .. } = &notice
            && !wanted.is_empty()
            && (purged_run.as_str().starts_with(&wanted) || purged_run.as_str().ends_with(&wanted))
        {
            return Ok(Some(PurgedRun { run: purged_run.clone(), record, notice }));
        }
    }
    Ok(None)
}

/// How a run is listed.
pub(crate) async fn line(store: &SqliteStore, index: RunIndex) -> Result<RunLine, Failure> {
    let state = match index.status {
        RunStatus::Ended => LineState::Ended,
        RunStatus::Suspended => LineState::Suspended,
        RunStatus::Running if is_worked_on(store, &index.header.run).await? => LineState::Running,
        RunStatus::Running => LineState::Interrupted,
    };
    Ok(RunLine { header: index.header, state, outcome: index.outcome, ended_ms: index.ended_ms, review: None })
}

/// A live process works on the run.
pub(crate) async fn is_worked_on(store: &SqliteStore, run: &RunId) -> Result<bool, Failure> {
    Ok(store.holder(run).await.map_err(|error| failed(&error))?.is_some_and(|holder| holder.alive))
}

/// The plan with which a run began.
pub(crate) async fn plan(store: &SqliteStore, header: &RunHeader) -> Result<Arc<Plan>, Failure> {
    let most = runbook_plan::saved::PLAN_BYTES_MAX as u64;
    let bytes = store.get(&header.plan_sha256, most).await.map_err(|error| failed(&error))?;
    let plan: Plan = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new("RB0610", FAULT, format!("the plan of run {} cannot be read: {error}", header.run))
            .next("a newer version of runbook may have written it")
    })?;
    Ok(Arc::new(plan))
}

/// What was allowed when the run was opened.
pub(crate) async fn permit(store: &SqliteStore, header: &RunHeader) -> Result<Permit, Failure> {
    let Some(digest) = &header.permit else { return Ok(Permit::default()) };
    let most = runbook_plan::saved::PLAN_BYTES_MAX as u64;
    let bytes = store.get(digest, most).await.map_err(|error| failed(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Failure::new("RB0610", FAULT, format!("what run {} was allowed cannot be read: {error}", header.run))
            .next("a newer version of runbook may have written it")
    })
}

/// Reads a run's records from `from` on, and gives each to `take`. Returns the place after the last.
pub(crate) async fn read(
    store: &SqliteStore,
    run: &RunId,
    from: u64,
    mut take: impl FnMut(Record),
) -> Result<u64, Failure> {
    let mut next = from;
    loop {
        let page = store.records(run, next, PAGE).await.map_err(|error| failed(&error))?;
        let whole = page.len() == PAGE;
        for sealed in page {
            next = sealed.run_seq + 1;
            take(parse(&sealed.bytes, run)?);
        }
        if !whole {
            return Ok(next);
        }
    }
}

/// The notices of these types, in order, with their records. The others are not even parsed: there can be many.
pub(crate) async fn notices(store: &SqliteStore, types: &[&str]) -> Result<Vec<(Record, Notice)>, Failure> {
    let run = RunId::installation();
    let marks: Vec<regex::bytes::Regex> = types
        .iter()
        .map(|name| regex::bytes::Regex::new(&format!("\"type\":\"{name}\"")).expect("names of notices are letters"))
        .collect();
    let mut out = Vec::new();
    let mut next = 0;
    loop {
        let page = store.records(&run, next, PAGE).await.map_err(|error| failed(&error))?;
        let whole = page.len() == PAGE;
        for sealed in page {
            next = sealed.run_seq + 1;
            if !marks.iter().any(|mark| mark.is_match(&sealed.bytes)) {
                continue;
            }
            let record = parse(&sealed.bytes, &run)?;
            // A text in a notice of another type may look like one of these.
            if let Event::Installation(notice) = &record.event
                && serde_json::to_value(notice).is_ok_and(|value| types.contains(&value["type"].as_str().unwrap_or("")))
            {
                let notice = notice.clone();
                out.push((record, notice));
            }
        }
        if !whole {
            return Ok(out);
        }
    }
}

/// What was said of lines of a run's outputs that are withheld in redacted editions, oldest first.
pub(crate) async fn redactions(store: &SqliteStore, of: &RunId) -> Result<Vec<RedactionLine>, Failure> {
    let mut out = Vec::new();
    for (record, notice) in notices(store, &["outputs_redacted"]).await? {
        if let Notice::OutputsRedacted { attempt, stream, ranges, rule, reason, by, .. } = notice
            && attempt.run == *of
        {
            out.push(RedactionLine {
                host: attempt.host.to_string(),
                step: attempt.step.to_string(),
                attempt: attempt.attempt,
                stream,
                withheld: Withheld::new(ranges).count(),
                rule,
                reason,
                by: by.name,
                at: record.time,
                record: record.seq,
            });
        }
    }
    Ok(out)
}

pub(crate) fn parse(bytes: &[u8], run: &RunId) -> Result<Record, Failure> {
    runbook_ledger::record::parse(bytes).map_err(|error| {
        Failure::new("RB0610", FAULT, format!("a record of run {run} cannot be read: {error}"))
            .next(format!("`runbook evidence verify {run}` says whether it was changed"))
    })
}

/// The runs of a runbook that changed something and ended well, the latest first.
pub(crate) async fn ended_well(store: &SqliteStore, runbook: &str) -> Result<Vec<RunIndex>, Failure> {
    let mut runs = store.runs().await.map_err(|error| failed(&error))?;
    runs.retain(|index| {
        let header = &index.header;
        header.runbook == runbook
            && index.outcome == Some(RunOutcome::Succeeded)
            && !header.check_only
            && header.takes_back.is_none()
    });
    runs.sort_by_key(|index| std::cmp::Reverse(index.header.started_ms));
    Ok(runs)
}

/// A run as its records tell it.
pub(crate) async fn view(store: &SqliteStore, index: &RunIndex) -> Result<RunView, Failure> {
    let mut view = RunView::new(plan(store, &index.header).await?);
    read(store, &index.header.run, 0, |record| view.fold(&record)).await?;
    Ok(view)
}

/// What a view needs beside the records.
pub(crate) async fn attachments(
    store: &SqliteStore,
    project: &Project,
    view: &RunView,
) -> Result<Attachments, Failure> {
    let mut attachments = Attachments {
        ledger: ledger(store, project, view).await?,
        anchors: crate::anchors::lines(store, project, view).await?,
        ..Attachments::default()
    };
    if let Some(run) = view.run() {
        attachments.interrupted = view.state == RunState::Running && !is_worked_on(store, run).await?;
        attachments.redactions = redactions(store, run).await?;
        if view.header.as_ref().is_some_and(|header| !header.reviews.is_empty()) {
            let (lines, standing) = reviews::shown(store, run).await?;
            attachments.reviews = lines;
            attachments.review_stands = standing.map(|standing| standing.told());
        }
    }
    let changes: Vec<Sha256> =
        view.hosts.values().flat_map(|host| host.steps.values()).filter_map(|step| step.changes).collect();
    for digest in changes {
        // One that cannot be read is shown as such; the rest of the view is right without it.
        if let Ok(bytes) = store.get(&digest, CHANGES_BYTES_MAX).await
            && let Ok(list) = serde_json::from_slice(&bytes)
        {
            attachments.changes.insert(digest, list);
        }
    }
    let attempts = view.hosts.values().flat_map(|host| host.steps.values()).flat_map(|step| &step.attempts);
    for digest in attempts.filter_map(|attempt| attempt.report.as_ref()?.transfers) {
        if let Ok(bytes) = store.get(&digest, CHANGES_BYTES_MAX).await
            && let Ok(list) = serde_json::from_slice(&bytes)
        {
            attachments.transfers.insert(digest, list);
        }
    }
    for failed in view.hosts.values().filter_map(runbook_report::summary::failed_output).take(FAILURES_READ) {
        if let Some(blob) = failed.blob
            && let Ok(Some(bytes)) = output(store, failed, FAILURE_BYTES_MAX).await
        {
            attachments.said.insert(blob, bytes);
        }
    }
    Ok(attachments)
}

/// Adds the digests of outputs, which `run/v1` has and the record does not. One that cannot be read has none.
pub(crate) async fn digests(store: &SqliteStore, view: &RunView, attachments: &mut Attachments) -> Result<(), Failure> {
    let attempts = view.hosts.values().flat_map(|host| host.steps.values()).flat_map(|step| &step.attempts);
    for report in attempts.filter_map(|attempt| attempt.report.as_ref()) {
        for stream in [&report.stdout, &report.stderr] {
            let Some(blob) = stream.blob.filter(|_| stream.sha256.is_none()) else { continue };
            if let Ok(digest) = content_digest(store, stream, &blob).await {
                attachments.digests.insert(blob, digest);
            }
        }
    }
    Ok(())
}

async fn content_digest(store: &SqliteStore, output: &OutputRef, blob: &Sha256) -> Result<Sha256, StoreError> {
    match store.get(blob, FAILURE_BYTES_MAX).await {
        Ok(bytes) => Ok(Sha256::of(segments::content(output, &bytes))),
        Err(StoreError::TooLarge(_)) => {
            let file = store.file(blob).await?;
            let hash = || -> std::io::Result<Sha256> {
                let mut reader = std::fs::File::open(&file.path)?;
                reader.seek(std::io::SeekFrom::Start(segments::LINE_BYTES as u64))?;
                let mut hasher = Hasher::default();
                let mut buffer = vec![0; 1 << 17];
                loop {
                    let length = reader.read(&mut buffer)?;
                    if length == 0 {
                        return Ok(hasher.finish());
                    }
                    hasher.update(&buffer[..length]);
                }
            };
            hash().map_err(|error| StoreError::Failed(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// What is kept of an output, when that is not more than `bytes_max`; `None` when nothing is.
pub(crate) async fn output(
    store: &SqliteStore,
    output: &OutputRef,
    bytes_max: u64,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(blob) = &output.blob else { return Ok(None) };
    let mut bytes = store.get(blob, bytes_max.saturating_add(segments::LINE_BYTES as u64)).await?;
    let content = segments::content(output, &bytes).len();
    bytes.drain(..bytes.len() - content);
    Ok(Some(bytes))
}

/// The beginning of a content, of at most `most` bytes; `None` when it cannot be read. Of a large one no more than that is
/// read, so its digest is not checked.
pub(crate) async fn prefix(store: &SqliteStore, digest: &Sha256, most: u64) -> Option<Vec<u8>> {
    let reading = match store.get(digest, most).await {
        Ok(bytes) => return Some(bytes),
        Err(StoreError::TooLarge(_)) => store.reading(digest).ok(),
        Err(_) => None,
    };
    let Some(reading) = reading else {
        // A small one that is longer than what is asked for.
        let mut bytes = store.get(digest, u64::MAX).await.ok()?;
        bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        return Some(bytes);
    };
    let mut bytes = Vec::new();
    reading.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The beginning of a content, of `most` bytes; `None` when it cannot be read.
pub(crate) async fn beginning(store: &SqliteStore, digest: &Sha256, most: usize) -> Option<Beginning> {
    match store.get(digest, most as u64).await {
        Ok(bytes) => Some(bytes.into()),
        Err(StoreError::TooLarge(_)) => {
            let blob = store.file(digest).await.ok()?;
            let mut file = std::fs::File::open(&blob.path).ok()?;
            let length = file.metadata().ok()?.len();
            let mut bytes = Vec::with_capacity(most);
            (&mut file).take(most as u64).read_to_end(&mut bytes).ok()?;
            Some(Beginning { bytes, length })
        }
        Err(_) => None,
    }
}

/// The signed head of the ledger that first covers the run, else the ledger's end.
async fn ledger(store: &SqliteStore, project: &Project, view: &RunView) -> Result<Option<LedgerHead>, Failure> {
    let size = view.last_seq.map_or(0, |seq| seq + 1);
    let checkpoints = store.checkpoints().await.map_err(|error| failed(&error))?;
    // Which of its keys it was is for `evidence verify` to judge.
    if let Ok(keys) = keys::publics(project)
        && let Some(covering) = checkpoints.iter().find(|checkpoint| checkpoint.size >= size)
        && let Some(head) = keys.iter().find_map(|key| Checkpoint::verify(&covering.note, key).ok())
    {
        return Ok(Some(LedgerHead { size: head.size, root: head.root.to_string() }));
    }
    let head = store.head().await.map_err(|error| failed(&error))?;
    Ok(Sealer::new(&head).ok().map(|sealer| LedgerHead { size: sealer.size(), root: sealer.root().to_string() }))
}

/// The header in a run's first record.
pub(crate) fn header(record: &Record) -> Option<&RunHeader> {
    match &record.event {
        Event::RunOpened(header) => Some(header),
        _ => None,
    }
}
