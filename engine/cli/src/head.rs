//! The ledger's last known size, kept beside the key and not in the database: a restored backup of the database is seen.

use std::fs;
use std::path::PathBuf;

use runbook_ledger::Sealer;
use runbook_ports::store::Head;

use crate::project::Project;

fn path(project: &Project) -> PathBuf {
    project.state_path("keys/ledger.head")
}

fn text(head: &Head) -> Option<String> {
    let sealer = Sealer::new(head).ok()?;
    Some(format!("{} {}\n", sealer.size(), sealer.root()))
}

/// Compares the database's end with what was kept. Returns the size that was kept, if any.
///
/// # Errors
/// The database has fewer records than were kept, or others.
pub(crate) fn check(project: &Project, head: &Head) -> Result<Option<u64>, String> {
    let Ok(kept) = fs::read_to_string(path(project)) else { return Ok(None) };
    let mut words = kept.split_whitespace();
    let (Some(size), Some(root)) = (words.next().and_then(|word| word.parse::<u64>().ok()), words.next()) else {
        return Ok(None);
    };
    if head.size < size {
        return Err(format!(
            "the database has {} records, and {size} were sealed: an older copy was put back, or records were removed",
            head.size
        ));
    }
    if head.size == size && text(head).is_some_and(|now| now.split_whitespace().nth(1) != Some(root)) {
        return Err(format!("the database's {size} records are not the ones that were sealed"));
    }
    Ok(Some(size))
}

/// Keeps the database's end. Losing it only makes the next check weaker, so a failure is none of the run's business.
pub(crate) fn keep(project: &Project, head: &Head) {
    let Some(text) = text(head) else { return };
    let (path, temporary) = (path(project), project.state_path("keys/ledger.head.new"));
    if fs::write(&temporary, text).is_ok() {
        let _ = fs::rename(&temporary, &path);
    }
}
