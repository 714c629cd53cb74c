//! What the project's windows allow while a run goes on: looked at before hosts are begun, and when the files change.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runbook_driver::Permits;
use runbook_model::permit::Permit;
use runbook_model::plan::Plan;
use runbook_policy::{Act, Ask, Estimate, Granted, Rules, authorize, estimate};
use runbook_store::SqliteStore;
use tokio::sync::Mutex;

use crate::authority::{self, Windows};
use crate::failure::Failure;
use crate::problems::Tell;
use crate::project::Project;
use crate::sources::{self, Digests};
use crate::watch::Watch;

/// A file that cannot be made out may be half written: it is read so often before that is believed.
const TRIES: u32 = 5;
/// With so long in between.
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// What tells one version of a file from another without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    file: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
    written: (i64, i64),
}

impl Mark {
    /// `None` when it cannot be looked at.
    fn of(path: &Path) -> Option<Self> {
        let found = std::fs::metadata(path).ok()?;
        Some(Self {
            file: (found.dev(), found.ino()),
            bytes: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
            written: (found.mtime(), found.mtime_nsec()),
        })
    }
}

/// The project's windows, for one run.
pub(crate) struct Standing {
    project: Project,
    store: SqliteStore,
    plan: Arc<Plan>,
    since: Timestamp,
    /// What its approvals were for: a change of the windows can only take away from that.
    approved: Option<Permit>,
    seen: Mutex<Seen>,
    watch: Watch,
}

struct Seen {
    /// On which the answer depends, as they were.
    files: Digests,
    /// There was a file with windows, when the run began or since.
    windows: bool,
    /// Of the same files; `None`: they were not looked at yet.
    marks: Option<Vec<Option<Mark>>>,
    /// With earlier runs, when there were windows already.
    estimate: Option<Estimate>,
}

impl Standing {
    /// For a run of `plan` that was opened at `since`, granted by what was in `files`.
    pub(crate) fn new(
        project: &Project,
        store: &SqliteStore,
        plan: &Plan,
        since: Timestamp,
        approved: Option<Permit>,
        files: Digests,
        estimate: Option<Estimate>,
    ) -> Self {
        let watch = Watch::of(files.iter().map(|(path, _)| path.clone()).collect());
        Self {
            project: project.clone(),
            store: store.clone(),
            plan: Arc::new(plan.clone()),
            since,
            approved,
            seen: Mutex::new(Seen { files, windows: estimate.is_some(), marks: None, estimate }),
            watch,
        }
    }

    /// Asks the authorizer with the files as they are now.
    async fn granted(&self, seen: &mut Seen) -> Result<Granted, Failure> {
        let tell = Tell::InALine;
        let windows = Windows::with_warnings(&self.project, tell)?.map(|(windows, _)| windows);
        if windows.is_none() && seen.windows {
            // Whoever replaces it may remove it first; and that it is gone must not let everybody begin.
            return Err(Failure::usage("RB0721", format!("{} is gone", authority::FILE)));
        }
        let now = Timestamp::now();
        // What was owed when it began does not stop it.
        let mut ask =
            Ask { since: Some(self.since), estimate: estimate::of(&self.plan, &[]), ..Ask::new(Act::Resume, now) };
        let mut files: Digests = Windows::file(&self.project, windows.as_ref()).into_iter().collect();
        if let Some(windows) = &windows {
            seen.windows = true;
            let (inventory, _, read) = sources::inventory_with_files(&self.project, tell)?;
            files.extend(read);
            ask.hosts = windows.covers(&inventory, self.plan.runbook.tier, self.plan.hosts.keys(), tell)?;
            ask.estimate = match &seen.estimate {
                Some(estimate) => estimate.clone(),
                None => estimate::of(&self.plan, &authority::earlier(&self.store, &self.plan).await?),
            };
            seen.estimate = Some(ask.estimate.clone());
        }
        seen.files = files;
        let calendar = windows.as_ref().map(|windows| (&windows.calendar, windows.sha256));
        let granted = authorize(Rules { calendar, policy: None }, &ask)
            .map_err(|refusal| Failure::usage("RB0721", refusal.to_string()))?;
        Ok(match &self.approved {
            Some(approved) => granted.within(approved),
            None => granted,
        })
    }
}

#[async_trait]
impl Permits for Standing {
    async fn changed(&self) -> Option<Granted> {
        let mut seen = self.seen.lock().await;
        let marks = |files: &Digests| -> Vec<_> { files.iter().map(|(path, _)| Mark::of(path)).collect() };
        let now = marks(&seen.files);
        if seen.marks.as_ref() == Some(&now) {
            return None;
        }
        seen.marks = Some(now);
        let digests = |files: &Digests| -> Digests {
            files.iter().map(|(path, _)| (path.clone(), sources::digest(path).ok().map(|(sha256, _)| sha256))).collect()
        };
        let found = digests(&seen.files);
        if found == seen.files {
            return None;
        }
        seen.files = found;
        for again in 1.. {
            match self.granted(&mut seen).await {
                Ok(granted) => {
                    // Looked at once more next time: they may have changed while they were read.
                    seen.marks = None;
                    return Some(granted);
                }
                Err(failure) if again == TRIES => {
                    let why = format!("what the windows allow cannot be made out: {}", failure.message);
                    return Some(Granted::nothing(why));
                }
                Err(_) => tokio::time::sleep(BETWEEN_TRIES).await,
            }
            seen.marks = Some(marks(&seen.files));
            seen.files = digests(&seen.files);
        }
        None
    }

    async fn stirred(&self) {
        self.watch.stirred().await;
    }
}
