//! Files of the store: private to the account, and on the disk before anybody relies on them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Makes a folder (and those above it) that only this account can enter, durably. An existing one is made private.
pub(crate) fn private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| *parent != Path::new("")).ok_or(error)?;
            private_folder(parent)?;
            private_folder(path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = fs::metadata(path)?;
            if !found.is_dir() {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, "it exists and is not a folder"));
            }
            tighten(path, found.permissions().mode(), 0o700)
        }
        Err(error) => Err(error),
    }
}

/// Opens a file that only this account can read, and makes it when it is not there.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    tighten(path, file.metadata()?.permissions().mode(), 0o600)?;
    Ok(file)
}

/// Makes a new file that only this account can read.
pub(crate) fn new_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Makes the entries of a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if parent != Path::new("") => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

fn tighten(path: &Path, mode: u32, wanted: u32) -> io::Result<()> {
    if mode & 0o777 & !wanted == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(wanted))
}

/// A file that is removed when this is dropped.
pub(crate) struct Temporary(pub(crate) PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Left behind at worst: the next process that opens the store removes it.
        let _ = fs::remove_file(&self.0);
    }
}
