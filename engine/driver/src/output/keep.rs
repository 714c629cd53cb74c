//! Keeps a stream within a limit: its head and its tail, and all of it when it is short enough.
//!
//! Up to [`SMALL_BYTES_MAX`] stays in memory and goes into the store with the append that names it; what is longer is
//! written to a blob while it comes. In memory there is never more than [`SEEN_BYTES_MAX`] and [`TAIL_BYTES_MAX`] of a
//! stream, whatever the limit. What is kept of a step's output stands after a line with the seed of its salts
//! ([`runbook_ledger::segments`]).

use std::collections::VecDeque;
use std::sync::Arc;

use runbook_ledger::segments::{LINE_BYTES, Seed, Segmenter};
use runbook_model::Sha256;
use runbook_ports::store::StoreError;
use runbook_ports::{BlobStore, BlobWriter};

/// An output of at most so many bytes goes into the store with its record: a flush of its own costs more than the copy.
/// With its first line it is as long as a content that the store keeps in its database.
pub const SMALL_BYTES_MAX: usize = (64 << 10) - LINE_BYTES;

/// So much of a stream's head stays in memory until its step is judged, and can be used in templates.
pub const SEEN_BYTES_MAX: usize = 1 << 20;

/// The longest tail. It is held in memory, so it is the same for every limit above twice its size.
pub const TAIL_BYTES_MAX: u64 = 256 << 10;

/// The end of a stream in which the last line and the signs of a lock are looked for.
const END_BYTES_MAX: usize = 8 << 10;

/// One stream being kept.
pub struct Keep {
    blobs: Arc<dyn BlobStore>,
    /// `None`: nothing goes into the evidence, only what is seen stays for judging.
    limit: Option<u64>,
    salted: Option<(Seed, Segmenter)>,
    seen: Vec<u8>,
    head_bytes: u64,
    tail: VecDeque<u8>,
    end: Vec<u8>,
    total: u64,
    writer: Option<Box<dyn BlobWriter>>,
}

/// What is kept of a stream.
pub struct Kept {
    /// The blob, when there is one.
    pub blob: Option<Sha256>,
    /// Its bytes, when they are to go with the append.
    pub small: Option<Vec<u8>>,
    /// The root over the salted segments of what is kept (of the whole stream when nothing is), and their number.
    pub root: Option<(Sha256, u64)>,
    /// There was more than the limit.
    pub truncated: bool,
    /// What is in memory: the head and, when there is a gap after it, the tail.
    pub seen: Vec<u8>,
    /// `seen` is all there was.
    pub whole: bool,
    /// The last bytes.
    pub end: Vec<u8>,
    /// How much of it is kept.
    pub extent: Extent,
}

/// How much of a stream is kept.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Bytes of its head that are kept.
    pub head: u64,
    /// Bytes of its tail that are kept.
    pub tail: u64,
    /// Length of the stream.
    pub total: u64,
}

impl Extent {
    /// Where a place in the stream is in what is kept. All of the gap between head and tail is at the head's end.
    pub fn place(&self, at: u64) -> u64 {
        let gap = self.total.saturating_sub(self.head + self.tail);
        at.min(self.head) + at.saturating_sub(self.head + gap)
    }
}

impl Keep {
    /// Keeps at most `limit` bytes; `None` keeps nothing for the evidence. Without a seed the bytes are kept as they are.
    pub fn new(blobs: Arc<dyn BlobStore>, limit: Option<u64>, seed: Option<Seed>) -> Self {
        Self {
            blobs,
            limit,
            salted: seed.map(|seed| (seed, Segmenter::new(seed))),
            seen: Vec::new(),
            head_bytes: 0,
            tail: VecDeque::new(),
            end: Vec::new(),
            total: 0,
            writer: None,
        }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When the blob cannot be written.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.total += bytes.len() as u64;
        if self.limit.is_none() {
            self.segment(bytes);
        }
        self.end.extend_from_slice(&bytes[bytes.len().saturating_sub(END_BYTES_MAX)..]);
        let over = self.end.len().saturating_sub(END_BYTES_MAX);
        self.end.drain(..over);

        let limit = self.limit.unwrap_or(SEEN_BYTES_MAX as u64);
        let tail_max = (limit / 2).min(TAIL_BYTES_MAX);
        let room = usize::try_from(limit - tail_max - self.head_bytes).unwrap_or(usize::MAX);
        let (head, tail) = bytes.split_at(room.min(bytes.len()));
        if !head.is_empty() {
            self.write_head(head).await?;
        }
        let tail_max = tail_max as usize;
        self.tail.extend(&tail[tail.len().saturating_sub(tail_max)..]);
        let over = self.tail.len().saturating_sub(tail_max);
        self.tail.drain(..over);
        Ok(())
    }

    fn segment(&mut self, bytes: &[u8]) {
        if let Some((_, segmenter)) = &mut self.salted {
            segmenter.push(bytes);
        }
    }

    /// What stands in front of the kept bytes.
    fn line(&self) -> String {
        self.salted.as_ref().map(|(seed, _)| seed.line()).unwrap_or_default()
    }

    async fn write_head(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.head_bytes += bytes.len() as u64;
        if self.limit.is_some() {
            self.segment(bytes);
        }
        if self.limit.is_some() && self.head_bytes > SMALL_BYTES_MAX as u64 {
            if self.writer.is_none() {
                let mut writer = self.blobs.writer().await?;
                writer.write(self.line().as_bytes()).await?;
                writer.write(&self.seen).await?;
                self.writer = Some(writer);
            }
            self.writer.as_mut().expect("made above").write(bytes).await?;
        }
        let room = SEEN_BYTES_MAX - self.seen.len();
        self.seen.extend_from_slice(&bytes[..room.min(bytes.len())]);
        Ok(())
    }

    /// The end of the stream.
    ///
    /// # Errors
    /// When the blob cannot be written.
    pub async fn finish(mut self) -> Result<Kept, StoreError> {
        let truncated = self.limit.is_some_and(|limit| self.total > limit);
        let tail: Vec<u8> = self.tail.iter().copied().collect();
        if self.limit.is_some() {
            self.segment(&tail);
        }
        let line = self.line();
        let mut blob = None;
        let mut small = None;
        if let Some(mut writer) = self.writer.take() {
            writer.write(&tail).await?;
            blob = Some(writer.finish().await?.0);
        }
        self.seen.extend_from_slice(&tail);
        let whole = self.seen.len() as u64 == self.total;
        if self.limit.is_some() && blob.is_none() && !self.seen.is_empty() {
            let bytes = [line.as_bytes(), &self.seen].concat();
            if self.seen.len() > SMALL_BYTES_MAX {
                blob = Some(self.blobs.put(&bytes).await?);
            } else {
                blob = Some(Sha256::of(&bytes));
                small = Some(bytes);
            }
        }
        let root = self.salted.filter(|_| self.total > 0).map(|(_, segmenter)| segmenter.finish());
        Ok(Kept {
            blob,
            small,
            root,
            truncated,
            seen: self.seen,
            whole,
            end: self.end,
            extent: Extent { head: self.head_bytes, tail: tail.len() as u64, total: self.total },
        })
    }
}
