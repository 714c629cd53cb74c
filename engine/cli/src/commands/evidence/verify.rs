//! `evidence verify`: of a run in its project, or of a bundle.

use std::path::{Path, PathBuf};

use runbook_ledger::Checkpoint;
use runbook_model::RunId;
use runbook_model::approval::{self, Approval};
use runbook_ports::store::{Head, RunIndex};
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::bundle::verify as bundle;
use runbook_report::verdict::{Code, Place, Subject, Verdict};
use runbook_store::{OpenError, SqliteStore};

use super::{ledger, trust};
use crate::arguments::EvidenceVerify;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::project::Project;
use crate::{anchors, head, policy, record};

/// Runs `evidence verify`.
pub(super) async fn run(project: &Project, arguments: &EvidenceVerify, output: Output) -> Result<u8, Failure> {
    let verdict = match place(&arguments.run) {
        Some(place) => {
            let options = bundle::Options {
                trust: trust::read(&arguments.pin, &arguments.against)?,
                anchors: Some(anchors::verify::of_bundle(trust::witnesses(&arguments.pin)?, arguments.tsa_ca.clone())),
                ..bundle::Options::default()
            };
            bundle::verify(&place, &options)
        }
        None => {
            let asked =
                Asked { pins: &arguments.pin, against: &arguments.against, tsa_ca: arguments.tsa_ca.as_deref() };
            match judge_any(project, &arguments.run, asked).await {
                Ok(verdict) => verdict,
                Err(failure) => match refused(project, &arguments.run).await {
                    Some(verdict) => verdict,
                    None => return Err(failure),
                },
            }
        }
    };
    if arguments.json {
        output::json(&verdict)?;
    } else {
        output::data(verdict.text(output.palette))?;
    }
    Ok(verdict.code)
}

/// The store looks at the ledger's end before anything else, and does not open one that contradicts itself or has lost
/// records. That is a finding.
async fn refused(project: &Project, run: &str) -> Option<Verdict> {
    let found = |code: Code, problem: String| {
        let mut verdict = Verdict::new(Subject::Run, run);
        verdict.found(code, Place::default(), problem);
        verdict
    };
    if !SqliteStore::is_in(&project.state) {
        return head::check(project, &Head::default()).err().map(|why| found(Code::Forked, why));
    }
    match SqliteStore::open(&project.state).await.err()? {
        error @ OpenError::Older { .. } => Some(found(Code::Forked, error.to_string())),
        error @ OpenError::Damaged { .. } => Some(found(Code::Tampered, error.to_string())),
        _ => None,
    }
}

/// Whether a person means a bundle: what looks like a path, or is a bundle's folder. Ids of runs have neither form.
fn place(name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let looks =
        name.contains('/') || name == "." || name == ".." || name.ends_with(".tar.zst") || name.ends_with(".tar");
    (looks || path.join("SHA256SUMS").exists()).then(|| path.to_path_buf())
}

/// What the verifier brings.
pub(super) struct Asked<'a> {
    /// Files with public keys.
    pub(super) pins: &'a [PathBuf],
    /// Files with signed heads.
    pub(super) against: &'a [PathBuf],
    /// Certificates of time stamp authorities.
    pub(super) tsa_ca: Option<&'a Path>,
}

/// Checks the run that a person named.
pub(super) async fn judge(
    project: &Project,
    run: &str,
    asked: Asked<'_>,
) -> Result<(SqliteStore, RunIndex, Verdict), Failure> {
    let store = record::open_recorded(project).await.map_err(could_not)?;
    let index = record::find(&store, run).await?;
    let verdict = judge_in(project, &store, &index.header.run, asked).await?;
    Ok((store, index, verdict))
}

/// The same, also of one whose contents were removed.
async fn judge_any(project: &Project, run: &str, asked: Asked<'_>) -> Result<Verdict, Failure> {
    let store = record::open_recorded(project).await.map_err(could_not)?;
    let run = match record::find(&store, run).await {
        Ok(index) => index.header.run,
        Err(failure) => record::purged_run(&store, run).await?.ok_or(failure)?.run,
    };
    judge_in(project, &store, &run, asked).await
}

async fn judge_in(project: &Project, store: &SqliteStore, run: &RunId, asked: Asked<'_>) -> Result<Verdict, Failure> {
    let mut trust = trust::read(asked.pins, asked.against)?;
    trust.seen = seen(store, run).await?;
    let tsa_ca = asked.tsa_ca.map(Path::to_path_buf);
    let outside = anchors::verify::Trust::new(trust::witnesses(asked.pins)?, tsa_ca, &project.settings.anchors);
    let mut verdict = Verdict::new(Subject::Run, run.as_str());
    ledger::check(store, project, &trust, &outside, run, &mut verdict).await.map_err(could_not)?;
    verdict.settle();
    Ok(verdict)
}

/// The heads that persons saw when they approved what was run: whoever has written the ledger anew since cannot have their
/// signatures under other ones.
async fn seen(store: &SqliteStore, run: &RunId) -> Result<Vec<(String, Checkpoint)>, Failure> {
    let most = u64::try_from(approval::BYTES_MAX).unwrap_or(u64::MAX);
    let runs = store.runs().await.map_err(|error| record::failed(&error))?;
    let mut heads = Vec::new();
    let of_it = runs.iter().filter(|index| index.header.run == *run);
    for used in of_it.flat_map(|index| &index.header.approvals) {
        // What is not as it was is told where the run is looked at.
        let (Ok(document), Ok(signature)) =
            (store.get(&used.document, most).await, store.get(&used.signature, most).await)
        else {
            continue;
        };
        let Some(approval) = Approval::parse(&document) else { continue };
        if let (Some(head), Ok(_)) = (approval.ledger, policy::signed(&document, &signature, approval::NAMESPACE)) {
            let head = Checkpoint { origin: head.origin, size: head.size, root: head.root };
            heads.push((format!("the approval of {}", approval.signer), head));
        }
    }
    Ok(heads)
}

fn could_not(mut failure: Failure) -> Failure {
    failure.exit = Code::NotChecked.number();
    failure
}
