//! The newest head of each ledger, one file each.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use runbook_ledger::Checkpoint;
use runbook_ledger::note::Note;
use runbook_model::Sha256;

use super::{Error, write_synced};

/// What was cosigned last, by ledger. What is here is on disk.
pub(super) struct Heads {
    folder: PathBuf,
    newest: BTreeMap<String, Checkpoint>,
}

impl Heads {
    /// Reads all of them.
    pub(super) fn open(folder: PathBuf) -> Result<Self, Error> {
        let fault = |path: &Path, cause: io::Error| Error::File { path: path.to_owned(), cause };
        let mut newest = BTreeMap::new();
        for entry in fs::read_dir(&folder).map_err(|cause| fault(&folder, cause))? {
            let path = entry.map_err(|cause| fault(&folder, cause))?.path();
            if path.extension().is_none_or(|extension| extension != "note") {
                // What a crash left of a write that was never answered.
                continue;
            }
            let damaged = |why: String| Error::Damaged { path: path.clone(), why };
            let text = fs::read_to_string(&path).map_err(|cause| fault(&path, cause))?;
            let note = Note::parse(&text).map_err(|error| damaged(error.to_string()))?;
            let head = Checkpoint::parse(note.text()).map_err(|error| damaged(error.to_string()))?;
            if path != file(&folder, &head.origin) {
                return Err(damaged("it has another ledger's name".into()));
            }
            newest.insert(head.origin.clone(), head);
        }
        Ok(Self { folder, newest })
    }

    /// The newest head of a ledger.
    pub(super) fn newest(&self, origin: &str) -> Option<&Checkpoint> {
        self.newest.get(origin)
    }

    /// From now on this is the newest one: durable when it returns.
    pub(super) fn put(&mut self, head: Checkpoint, cosigned: &str) -> io::Result<()> {
        put(&file(&self.folder, &head.origin), 0o600, cosigned.as_bytes())?;
        self.newest.insert(head.origin.clone(), head);
        Ok(())
    }

    pub(super) fn sizes(&self) -> Vec<(String, u64)> {
        self.newest.values().map(|head| (head.origin.clone(), head.size)).collect()
    }
}

fn file(folder: &Path, origin: &str) -> PathBuf {
    folder.join(format!("{}.note", Sha256::of(origin.as_bytes())))
}

/// Writes a file beside its place, syncs it, puts it there, and syncs the folder.
pub(super) fn put(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    write_synced(&temporary, mode, content)?;
    fs::rename(&temporary, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
