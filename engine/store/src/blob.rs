//! Blobs: small ones are rows of the database, large ones files.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use runbook_model::Sha256;
use runbook_ports::blob::{BlobFile, BlobStore, BlobWriter};
use runbook_ports::store::StoreError;

use crate::append::number;
use crate::blob_file::{self, LEVEL, Reading, Writing, io_failed, name};
use crate::folder::Temporary;
use crate::sqlite::{Inner, SqliteStore, failed};

/// The longest content that is kept in the database: above it a file of its own is read and written faster, and the
/// write-ahead log stays small.
pub(crate) const SMALL_MAX: usize = 64 * 1024;

/// Contents shorter than this are not worth compressing.
const PACK_MIN: usize = 256;

/// Bytes that are gathered before they go to the file.
const PIECE: usize = 256 * 1024;

/// A small content as it is stored.
pub(crate) struct Packed {
    pub(crate) length: u64,
    pub(crate) packed: bool,
    pub(crate) content: Vec<u8>,
}

impl Packed {
    /// Compressed, when that makes it smaller.
    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let length = bytes.len() as u64;
        let compressed = if bytes.len() < PACK_MIN { None } else { zstd::bulk::compress(&bytes, LEVEL).ok() };
        match compressed {
            Some(content) if content.len() < bytes.len() => Self { length, packed: true, content },
            _ => Self { length, packed: false, content: bytes },
        }
    }

    fn unpack(self, digest: &Sha256, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        if self.length > bytes_max {
            return Err(StoreError::TooLarge(name(digest)));
        }
        let damaged = || StoreError::Corrupt(name(digest));
        let length = usize::try_from(self.length).ok().filter(|length| *length <= SMALL_MAX).ok_or_else(damaged)?;
        let bytes = if self.packed {
            zstd::bulk::decompress(&self.content, length).map_err(|_| damaged())?
        } else {
            self.content
        };
        if Sha256::of(&bytes) == *digest { Ok(bytes) } else { Err(damaged()) }
    }
}

/// Counts the temporary files of this process.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl Inner {
    fn temporary(&self) -> PathBuf {
        let n = TEMPORARY.fetch_add(1, Ordering::Relaxed);
        self.places.temporary.join(format!("{}-{n}", self.mark.name()))
    }

    /// Keeps a content that belongs into a file.
    pub(crate) async fn put_large(&self, bytes: &[u8]) -> Result<Sha256, StoreError> {
        let (temporary, blobs, bytes) = (self.temporary(), self.places.blobs.clone(), bytes.to_vec());
        blocking(move || {
            let mut writing = Writing::begin(temporary)?;
            writing.write(&bytes)?;
            Ok(writing.finish(&blobs)?.0)
        })
        .await
    }

    async fn put_small(&self, bytes: Vec<u8>) -> Result<Sha256, StoreError> {
        let digest = Sha256::of(&bytes);
        let blob = Packed::of(bytes);
        self.write(async |connection| {
            sqlx::query("INSERT OR IGNORE INTO blobs (sha256, length, packed, content) VALUES (?1, ?2, ?3, ?4)")
                .bind(digest.0.to_vec())
                .bind(number(blob.length)?)
                .bind(i64::from(blob.packed))
                .bind(blob.content)
                .execute(connection)
                .await
                .map_err(|error| failed(&error))?;
            Ok(digest)
        })
        .await
    }

    async fn small(&self, digest: &Sha256) -> Result<Option<Packed>, StoreError> {
        let row: Option<(i64, i64, Vec<u8>)> =
            sqlx::query_as("SELECT length, packed, content FROM blobs WHERE sha256 = ?1")
                .bind(digest.0.to_vec())
                .fetch_optional(&self.readers)
                .await
                .map_err(|error| failed(&error))?;
        let corrupt = |_| StoreError::Corrupt(name(digest));
        row.map(|(length, packed, content)| {
            Ok(Packed { length: u64::try_from(length).map_err(corrupt)?, packed: packed != 0, content })
        })
        .transpose()
    }
}

/// Does blocking work on a thread made for it.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(StoreError::Failed(format!("a blob's file: {error}"))))
}

impl SqliteStore {
    /// Whether a blob is kept as a file: it is large.
    pub fn is_large(&self, digest: &Sha256) -> bool {
        blob_file::has(&self.0.places.blobs, digest).unwrap_or(false)
    }

    /// The content of a blob that is kept as a file, as a stream. `Missing`: there is none, or it is a small one that is
    /// kept in the database.
    ///
    /// # Errors
    /// `Missing`; `Failed` when it cannot be opened.
    pub fn reading(&self, digest: &Sha256) -> Result<Reading, StoreError> {
        Reading::begin(&self.0.places.blobs, digest)
    }
}

#[async_trait]
impl BlobStore for SqliteStore {
    async fn put(&self, bytes: &[u8]) -> Result<Sha256, StoreError> {
        if bytes.len() > SMALL_MAX {
            return self.0.put_large(bytes).await;
        }
        let (inner, bytes) = (self.0.clone(), bytes.to_vec());
        self.apart(async move { inner.put_small(bytes).await }).await
    }

    async fn put_file(&self, path: &Path) -> Result<(Sha256, u64), StoreError> {
        enum Read {
            Small(Vec<u8>),
            Large(Sha256, u64),
        }
        let (temporary, blobs, path) = (self.0.temporary(), self.0.places.blobs.clone(), path.to_path_buf());
        let read = blocking(move || {
            let unreadable = |error| io_failed(&path, &error);
            let mut file = File::open(&path).map_err(unreadable)?;
            let mut piece = Vec::new();
            (&mut file).take(SMALL_MAX as u64 + 1).read_to_end(&mut piece).map_err(unreadable)?;
            if piece.len() <= SMALL_MAX {
                return Ok(Read::Small(piece));
            }
            let mut writing = Writing::begin(temporary)?;
            while !piece.is_empty() {
                writing.write(&piece)?;
                piece.clear();
                (&mut file).take(PIECE as u64).read_to_end(&mut piece).map_err(unreadable)?;
            }
            let (digest, length) = writing.finish(&blobs)?;
            Ok(Read::Large(digest, length))
        });
        match read.await? {
            Read::Small(bytes) => Ok((self.put(&bytes).await?, bytes.len() as u64)),
            Read::Large(digest, length) => Ok((digest, length)),
        }
    }

    async fn writer(&self) -> Result<Box<dyn BlobWriter>, StoreError> {
        Ok(Box::new(Writer { store: self.clone(), gathered: Vec::new(), large: Large::NotYet }))
    }

    async fn get(&self, digest: &Sha256, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        if let Some(blob) = self.0.small(digest).await? {
            return blob.unpack(digest, bytes_max);
        }
        let (blobs, digest) = (self.0.places.blobs.clone(), *digest);
        blocking(move || blob_file::read(&blobs, &digest, bytes_max)).await
    }

    async fn file(&self, digest: &Sha256) -> Result<BlobFile, StoreError> {
        let (path, blobs, digest) = (self.0.temporary(), self.0.places.blobs.clone(), *digest);
        let temporary = match self.0.small(&digest).await? {
            Some(blob) => {
                let bytes = blob.unpack(&digest, SMALL_MAX as u64)?;
                blocking(move || {
                    use std::io::Write as _;
                    let written = crate::folder::new_private_file(&path).and_then(|mut file| file.write_all(&bytes));
                    let temporary = Temporary(path);
                    written.map_err(|error| io_failed(&temporary.0, &error))?;
                    Ok(temporary)
                })
                .await?
            }
            None => blocking(move || blob_file::copy(&blobs, &digest, path)).await?,
        };
        // The process's mark must outlive the file, or another process would sweep it away.
        let path = temporary.0.clone();
        Ok(BlobFile { path, guard: Some(Box::new((temporary, self.0.clone()))) })
    }

    async fn has(&self, digest: &Sha256) -> Result<bool, StoreError> {
        let row: Option<i64> = sqlx::query_scalar("SELECT 1 FROM blobs WHERE sha256 = ?1")
            .bind(digest.0.to_vec())
            .fetch_optional(&self.0.readers)
            .await
            .map_err(|error| failed(&error))?;
        if row.is_some() {
            return Ok(true);
        }
        let (blobs, digest) = (self.0.places.blobs.clone(), *digest);
        blocking(move || blob_file::has(&blobs, &digest)).await
    }
}

/// A blob that comes in pieces: gathered while it is small, then passed on to a file.
struct Writer {
    store: SqliteStore,
    gathered: Vec<u8>,
    large: Large,
}

enum Large {
    NotYet,
    Writing(Box<Writing>),
    /// It is with a thread, and came back neither well nor at all.
    Lost,
}

impl Writer {
    /// Passes on what was gathered.
    async fn pass_on(&mut self) -> Result<(), StoreError> {
        let pieces = std::mem::take(&mut self.gathered);
        let large = std::mem::replace(&mut self.large, Large::Lost);
        let inner: Arc<Inner> = self.store.0.clone();
        let writing = blocking(move || {
            let mut writing = match large {
                Large::NotYet => Box::new(Writing::begin(inner.temporary())?),
                Large::Writing(writing) => writing,
                Large::Lost => return Err(StoreError::Failed("an earlier piece of the blob was not kept".to_owned())),
            };
            writing.write(&pieces)?;
            Ok(writing)
        });
        self.large = Large::Writing(writing.await?);
        Ok(())
    }
}

#[async_trait]
impl BlobWriter for Writer {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        for piece in bytes.chunks(PIECE) {
            self.gathered.extend_from_slice(piece);
            if self.gathered.len() >= PIECE {
                self.pass_on().await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(Sha256, u64), StoreError> {
        if matches!(self.large, Large::NotYet) && self.gathered.len() <= SMALL_MAX {
            return Ok((self.store.put(&self.gathered).await?, self.gathered.len() as u64));
        }
        self.pass_on().await?;
        let Large::Writing(writing) = std::mem::replace(&mut self.large, Large::Lost) else {
            return Err(StoreError::Failed("a piece of the blob was not kept".to_owned()));
        };
        let blobs = self.store.0.places.blobs.clone();
        blocking(move || writing.finish(&blobs)).await
    }
}
