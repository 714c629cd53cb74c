//! `retention request`: what is to be removed, written down so that two persons can sign it.

use std::io::Write as _;

use runbook_model::retention::Class;
use runbook_model::units::rfc3339_ms;
use runbook_model::{RunId, Sha256, canonical};
use runbook_ports::Store as _;
use runbook_ports::store::{RunIndex, RunStatus};
use runbook_report::text::count;
use runbook_store::SqliteStore;
use serde::{Deserialize, Serialize};

use super::{Kept, Term, blobs, now_ms};
use crate::arguments::upkeep::RetentionRequest;
use crate::failure::{Failure, REFUSED};
use crate::project::Project;
use crate::{keys, output, person, record};

/// The version of the form.
pub(super) const SCHEMA: &str = "purge-request/v1";
/// For how long it may be signed and carried out (ms).
const VALID_MS: u64 = 30 * 86_400_000;

/// A request to remove evidence: one line of canonical JSON and a line end. What is signed are its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) schema: String,
    /// The ledger's name.
    pub(super) ledger: String,
    /// Its size when the request was made, and the hash of its last record then.
    pub(super) ledger_size: u64,
    pub(super) last_leaf: Sha256,
    /// When and by whom it was made.
    pub(super) made_ms: u64,
    pub(super) made_by: String,
    /// From when on it counts no more.
    pub(super) expires_ms: u64,
    pub(super) reason: String,
    pub(super) runs: Vec<Purge>,
}

/// A run in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Purge {
    pub(super) run: RunId,
    pub(super) runbook: String,
    pub(super) class: Class,
    /// Until when it had to be kept.
    pub(super) until_ms: u64,
    /// Records that lose their body.
    pub(super) records: u64,
    /// Contents that go: those that no other record names.
    pub(super) blobs: Vec<Sha256>,
}

impl Request {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = canonical::bytes(self);
        bytes.push(b'\n');
        bytes
    }
}

/// Runs `retention request`.
pub(super) async fn run(project: &Project, arguments: &RetentionRequest) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let kept = Kept::read(&store).await?;
    let now = now_ms();
    let mut chosen = Vec::new();
    if arguments.expired {
        for index in store.runs().await.map_err(|error| record::failed(&error))? {
            if may_go(project, &kept, &index, now).is_ok() {
                chosen.push(index);
            }
        }
        if chosen.is_empty() {
            return Err(Failure::new("RB0667", REFUSED, "there is no run whose time is over and that no hold keeps")
                .next("`runbook retention list` says until when each is kept"));
        }
    }
    for name in &arguments.runs {
        let index = record::find(&store, name).await?;
        may_go(project, &kept, &index, now)?;
        chosen.push(index);
    }
    let runs = purges(project, &store, &chosen).await?;
    let end = store.head().await.map_err(|error| record::failed(&error))?;
    let request = Request {
        schema: SCHEMA.to_owned(),
        ledger: keys::public(project)?.name().to_owned(),
        ledger_size: end.size,
        last_leaf: end.last_leaf.ok_or_else(|| crate::failure::fault("a ledger with runs has no last record"))?,
        made_ms: now,
        made_by: person::operator().name,
        expires_ms: now + VALID_MS,
        reason: arguments.reason.clone(),
        runs,
    };
    let mut file = std::fs::File::create_new(&arguments.out)
        .map_err(|error| Failure::file("RB0601", "written", &arguments.out, &error))?;
    file.write_all(&request.bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::file("RB0601", "written", &arguments.out, &error))?;
    let out = arguments.out.display();
    output::note(format!(
        "{} to be removed until {}, when two persons have signed:\n  ssh-keygen -Y sign -f THEIR_KEY -n {} {out}\n\
         then: runbook retention purge {out} --signature ONE.sig --signature OTHER.sig",
        count(request.runs.len(), "run"),
        &rfc3339_ms(request.expires_ms)[..10],
        super::signers::NAMESPACE,
    ));
    Ok(0)
}

/// What goes of these runs.
async fn purges(project: &Project, store: &SqliteStore, chosen: &[RunIndex]) -> Result<Vec<Purge>, Failure> {
    let mut runs = Vec::new();
    for index in chosen {
        let term = Term::of(index, &project.settings.retention);
        let (records, blobs) = blobs::of_run_alone(store, &index.header.run).await?;
        runs.push(Purge {
            run: index.header.run.clone(),
            runbook: index.header.runbook.clone(),
            class: term.class,
            until_ms: term.until_ms.unwrap_or(u64::MAX),
            records,
            blobs: blobs.into_iter().collect(),
        });
    }
    runs.sort_by(|a, b| a.run.cmp(&b.run));
    runs.dedup_by(|a, b| a.run == b.run);
    Ok(runs)
}

/// Whether a run's time is over, and nothing keeps it.
pub(super) fn may_go(project: &Project, kept: &Kept, index: &RunIndex, now_ms: u64) -> Result<(), Failure> {
    let run = &index.header.run;
    let refused = |why: String| {
        Err(Failure::new("RB0667", REFUSED, format!("run {run} {why}"))
            .next("`runbook retention list` says until when each run is kept, and by what"))
    };
    if index.status != RunStatus::Ended {
        return refused("has not ended".to_owned());
    }
    let holds = kept.holding(run, now_ms);
    if !holds.is_empty() {
        return refused(format!("is held by {}", holds.join(", ")));
    }
    let term = Term::of(index, &project.settings.retention);
    if !term.is_over(now_ms) {
        let until = term.until_ms.filter(|ms| *ms != u64::MAX).map(|ms| rfc3339_ms(ms)[..10].to_owned());
        return refused(format!("is kept until {}", until.unwrap_or_else(|| "further notice".to_owned())));
    }
    Ok(())
}
