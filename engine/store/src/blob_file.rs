//! Large blobs as files. All of it blocks: call it from threads that may.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use runbook_model::Sha256;
use runbook_model::digest::Hasher;
use runbook_ports::store::StoreError;
use zstd::stream::read::Decoder;
use zstd::stream::write::Encoder;

use crate::folder::{Temporary, new_private_file, private_folder, sync_folder};

/// zstd's own default: logs shrink to a tenth, and it keeps up with a disk.
pub(crate) const LEVEL: i32 = 3;

/// Where a blob is, below the folder of all.
pub(crate) fn place(blobs: &Path, digest: &Sha256) -> PathBuf {
    let name = digest.to_string();
    blobs.join(&name[..2]).join(&name)
}

/// A large blob being written. Dropped, it leaves nothing.
pub(crate) struct Writing {
    encoder: Encoder<'static, File>,
    hasher: Hasher,
    length: u64,
    temporary: Temporary,
}

impl Writing {
    /// Begins one in the temporary file at `path`, which must not exist.
    pub(crate) fn begin(path: PathBuf) -> Result<Self, StoreError> {
        let file = new_private_file(&path).map_err(|error| io_failed(&path, &error))?;
        let temporary = Temporary(path);
        let encoder = Encoder::new(file, LEVEL).map_err(|error| io_failed(&temporary.0, &error))?;
        Ok(Self { encoder, hasher: Hasher::default(), length: 0, temporary })
    }

    /// Adds bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.encoder.write_all(bytes).map_err(|error| io_failed(&self.temporary.0, &error))
    }

    /// Puts it in its place below `blobs`. Durable when it returns. One that is there already is replaced by the same
    /// content, so a damaged one is mended.
    pub(crate) fn finish(self, blobs: &Path) -> Result<(Sha256, u64), StoreError> {
        let Self { encoder, hasher, length, temporary } = self;
        let digest = hasher.finish();
        let path = place(blobs, &digest);
        let folder = path.parent().expect("a blob's place is in a folder");
        let written = encoder.finish().and_then(|file| file.sync_all());
        written.map_err(|error| io_failed(&temporary.0, &error))?;
        let moved =
            private_folder(folder).and_then(|()| fs::rename(&temporary.0, &path)).and_then(|()| sync_folder(folder));
        moved.map_err(|error| io_failed(&path, &error))?;
        Ok((digest, length))
    }
}

/// Whether there is a file for the digest.
pub(crate) fn has(blobs: &Path, digest: &Sha256) -> Result<bool, StoreError> {
    let path = place(blobs, digest);
    path.try_exists().map_err(|error| io_failed(&path, &error))
}

/// The content of a blob's file, checked.
pub(crate) fn read(blobs: &Path, digest: &Sha256, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
    let mut content = open(blobs, digest)?.take(bytes_max.saturating_add(1));
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(|error| unreadable(digest, &error))?;
    if bytes.len() as u64 > bytes_max {
        return Err(StoreError::TooLarge(name(digest)));
    }
    if Sha256::of(&bytes) != *digest {
        return Err(StoreError::Corrupt(name(digest)));
    }
    Ok(bytes)
}

/// A large blob's content as a stream, which is checked at its end: then a read fails with `InvalidData` when it does not
/// have its digest. All of it blocks: to be read on a thread that may.
pub struct Reading {
    content: Box<dyn Read + Send>,
    hasher: Hasher,
    digest: Sha256,
}

impl Reading {
    pub(crate) fn begin(blobs: &Path, digest: &Sha256) -> Result<Self, StoreError> {
        let content = Box::new(open(blobs, digest)?);
        Ok(Self { content, hasher: Hasher::default(), digest: *digest })
    }
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", name(&self.digest)));
        match self.content.read(buffer) {
            Ok(0) if !buffer.is_empty() && self.hasher.clone().finish() != self.digest => Err(damaged()),
            Ok(length) => {
                self.hasher.update(&buffer[..length]);
                Ok(length)
            }
            // What cannot be decompressed is damaged; what the disk refuses to give is not known to be.
            Err(error) if error.raw_os_error().is_none() && error.kind() != io::ErrorKind::Interrupted => {
                Err(damaged())
            }
            Err(error) => Err(error),
        }
    }
}

/// Copies a blob's content, checked, into the temporary file at `path`.
pub(crate) fn copy(blobs: &Path, digest: &Sha256, path: PathBuf) -> Result<Temporary, StoreError> {
    let mut content = open(blobs, digest)?;
    let mut file = new_private_file(&path).map_err(|error| io_failed(&path, &error))?;
    let temporary = Temporary(path);
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let length = content.read(&mut buffer).map_err(|error| unreadable(digest, &error))?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        file.write_all(&buffer[..length]).map_err(|error| io_failed(&temporary.0, &error))?;
    }
    if hasher.finish() != *digest {
        return Err(StoreError::Corrupt(name(digest)));
    }
    Ok(temporary)
}

fn open(blobs: &Path, digest: &Sha256) -> Result<impl Read + Send + use<>, StoreError> {
    let path = place(blobs, digest);
    match File::open(&path) {
        Ok(file) => Decoder::new(file).map_err(|error| unreadable(digest, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing(name(digest))),
        Err(error) => Err(io_failed(&path, &error)),
    }
}

/// The word for a blob in errors.
pub(crate) fn name(digest: &Sha256) -> String {
    format!("blob {digest}")
}

/// What cannot be decompressed is damaged; what the disk refuses to give is not known to be.
fn unreadable(digest: &Sha256, error: &io::Error) -> StoreError {
    match error.raw_os_error() {
        Some(_) => StoreError::Failed(format!("{}: {error}", name(digest))),
        None => StoreError::Corrupt(name(digest)),
    }
}

pub(crate) fn io_failed(path: &Path, error: &io::Error) -> StoreError {
    StoreError::Failed(format!("{}: {error}", path.display()))
}
