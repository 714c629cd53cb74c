//! The ledger's last known size, kept beside the key and not in the database: a restored backup of the database is seen.

use std::fs;
use std::path::PathBuf;

use runbook_ledger::Sealer;
use runbook_model::Sha256;
use runbook_ports::Store as _;
use runbook_ports::store::Head;
use runbook_store::SqliteStore;

use crate::failure::{Failure, REFUSED};
use crate::project::Project;
use crate::record;

/// What was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Records that were sealed.
    pub(crate) size: u64,
    /// The root over them.
    pub(crate) root: Sha256,
}

fn path(project: &Project) -> PathBuf {
    project.state_path("keys/ledger.head")
}

/// What was kept beside the key; `None` when nothing was, or nothing that reads: the check is the weaker for it.
pub(crate) fn kept(project: &Project) -> Option<Kept> {
    let text = fs::read_to_string(path(project)).ok()?;
    let mut words = text.split_whitespace();
    Some(Kept { size: words.next()?.parse().ok()?, root: words.next()?.parse().ok()? })
}

/// Compares the database's end with what was kept. Returns the size that was kept, if any.
///
/// # Errors
/// The database has fewer records than were kept, or others.
pub(crate) fn check(project: &Project, head: &Head) -> Result<Option<u64>, String> {
    compare(kept(project), head)
}

fn compare(kept: Option<Kept>, head: &Head) -> Result<Option<u64>, String> {
    let Some(Kept { size, root }) = kept else { return Ok(None) };
    if head.size < size {
        return Err(format!(
            "the database has {} records, and {size} were sealed: an older copy was put back, or records were removed",
            head.size
        ));
    }
    if head.size == size && Sealer::new(head).is_ok_and(|now| now.root() != root) {
        return Err(format!("the database's {size} records are not the ones that were sealed"));
    }
    Ok(Some(size))
}

/// Refuses a database that is older than what is known of it. To be called before anything is appended.
pub(crate) async fn must_hold(project: &Project, store: &SqliteStore) -> Result<(), Failure> {
    // What was kept first: another process may append, and keep its end, between the two.
    let kept = kept(project);
    let now = store.head().await.map_err(|error| record::failed(&error))?;
    compare(kept, &now).map(|_| ()).map_err(|why| {
        Failure::new("RB0616", REFUSED, format!("the record is not what it was: {why}"))
            .next("put the whole state folder back as it was; do not mix backups of different times")
            .next("if what is missing is gone for good: `runbook evidence restored --reason …` says so on the record")
    })
}

/// Keeps the database's end. Losing it only makes the next check weaker, so a failure is none of the run's business.
pub(crate) fn keep(project: &Project, head: &Head) {
    let Ok(sealer) = Sealer::new(head) else { return };
    let text = format!("{} {}\n", sealer.size(), sealer.root());
    let (path, temporary) = (path(project), project.state_path("keys/ledger.head.new"));
    if fs::write(&temporary, text).is_ok() {
        let _ = fs::rename(&temporary, &path);
    }
}
