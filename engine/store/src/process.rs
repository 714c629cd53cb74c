//! Which processes are alive: each that has the store open keeps a file locked. The kernel gives the lock back when the
//! process ends, however it ends, so a process id that was used again or a restarted machine cannot deceive anybody.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::folder::new_private_file;

/// This process's mark.
pub(crate) struct Mark {
    name: String,
    path: PathBuf,
    _locked: File,
}

impl Mark {
    /// Makes the mark of a process in `folder`. Call it under the store's lock.
    pub(crate) fn make(folder: &Path) -> io::Result<Self> {
        let name = uuid::Uuid::now_v7().to_string();
        let path = folder.join(&name);
        let mut file = new_private_file(&path)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Self { name, path, _locked: file })
    }

    /// Its name, unique for all time.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the process of this mark is alive. When it cannot be told, it is: nobody takes over on a guess.
pub(crate) fn alive(folder: &Path, name: &str) -> bool {
    match File::open(folder.join(name)) {
        Ok(file) => flock(&file, FlockOperation::NonBlockingLockShared).is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Blocks until the process of this mark has ended. Its lock is what is waited for, so nobody has to look again and again.
pub(crate) fn wait_for_end(folder: &Path, name: &str) {
    if let Ok(file) = File::open(folder.join(name)) {
        // Without the lock we know no more than before; the caller asks again in any case.
        let _ = flock(&file, FlockOperation::LockShared);
    }
}

/// Removes the marks of dead processes, and the files in `leftovers` whose name begins with such a mark. Call it under
/// the store's lock.
pub(crate) fn sweep(folder: &Path, leftovers: &Path) -> io::Result<()> {
    for entry in fs::read_dir(leftovers)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.get(..36));
        if owner.is_none_or(|owner| !alive(folder, owner)) {
            fs::remove_file(entry.path())?;
        }
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| !alive(folder, name)) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
