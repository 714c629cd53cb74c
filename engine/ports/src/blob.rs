//! Content by digest.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use runbook_model::Sha256;

use crate::store::StoreError;

/// Keeps bytes under their SHA-256. The same bytes twice are kept once.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Keeps `bytes`. Durable when it returns. Small contents that belong to an append go with it instead
    /// ([`Append::blobs`](crate::store::Append)), so that they cost no flush of their own.
    async fn put(&self, bytes: &[u8]) -> Result<Sha256, StoreError>;

    /// Keeps the file at `path`, read as a stream. Durable when it returns.
    async fn put_file(&self, path: &Path) -> Result<(Sha256, u64), StoreError>;

    /// Begins a blob whose content comes piece by piece.
    async fn writer(&self) -> Result<Box<dyn BlobWriter>, StoreError>;

    /// The content, checked against its digest.
    ///
    /// # Errors
    /// `Missing` when there is none; `Corrupt` when it does not have the digest; `TooLarge` beyond `bytes_max`.
    async fn get(&self, digest: &Sha256, bytes_max: u64) -> Result<Vec<u8>, StoreError>;

    /// The content as an uncompressed file that stays until the returned guard is dropped.
    async fn file(&self, digest: &Sha256) -> Result<BlobFile, StoreError>;

    /// Whether it is there.
    async fn has(&self, digest: &Sha256) -> Result<bool, StoreError>;
}

/// A blob being written. Dropped without `finish` it leaves nothing.
#[async_trait]
pub trait BlobWriter: Send {
    /// Adds bytes.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError>;

    /// Keeps what was written. Durable when it returns.
    async fn finish(self: Box<Self>) -> Result<(Sha256, u64), StoreError>;
}

/// A blob's content as a file for reading.
pub struct BlobFile {
    /// Where it is.
    pub path: PathBuf,
    /// Removes it when dropped, if it is a copy.
    pub guard: Option<Box<dyn Send + Sync>>,
}
