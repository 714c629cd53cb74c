//! The sink of one attempt.

use std::sync::Arc;

use async_trait::async_trait;
use runbook_ledger::segments::Seed;
use runbook_model::digest::{Hasher, Sha256};
use runbook_model::id::Cell;
use runbook_model::outcome::OutputRef;
use runbook_ports::store::StoreError;
use runbook_ports::transport::{Offsets, OutputSink, Stream};
use runbook_ports::{BlobStore, Observer};

use super::keep::Keep;
use super::mask::{Mask, Masker};
use super::times::Times;
use crate::prepare::clipped;

/// The longest last line that is taken for a snapshot's reference. A longer one is not cut, it is none: half a reference
/// would be a wrong one.
const LAST_LINE_BYTES_MAX: usize = 4 << 10;

/// Where a live view's copy goes.
#[derive(Clone)]
pub struct Tail {
    /// Who looks.
    pub observer: Arc<dyn Observer>,
    /// Whose output it is.
    pub cell: Cell,
}

/// What becomes of an attempt's output. The seeds are of standard output and standard error.
#[derive(Debug, Clone, Copy)]
pub enum Keeping {
    /// Evidence: at most so many bytes of each stream are kept, as salted segments.
    Salted(u64, [Seed; 2]),
    /// `sensitive`: nothing is kept or shown; the record has the root over the salted segments.
    Sensitive([Seed; 2]),
    /// For the engine alone: at most so many bytes, as they are.
    Plain(u64),
}

/// The sink of one attempt: masks, hashes, counts, keeps.
pub struct Capture {
    streams: [One; 2],
    tail: Option<Tail>,
    offsets: Offsets,
    times: Option<Times>,
    failed: Option<StoreError>,
    on_failure: Box<dyn Fn(&StoreError) + Send + Sync>,
}

struct One {
    masker: Masker,
    hasher: Hasher,
    keep: Keep,
    decided: Vec<u8>,
    cut_off_by: Option<String>,
}

/// What came of both streams.
pub struct Captured {
    /// Standard output.
    pub stdout: StreamResult,
    /// Standard error.
    pub stderr: StreamResult,
    /// When they came, where that took longer than a moment: a content to store with the record.
    pub timing: Option<Vec<u8>>,
}

/// What came of one stream.
pub struct StreamResult {
    /// What the record says.
    pub reference: OutputRef,
    /// A content to store with the record.
    pub small: Option<(Sha256, Vec<u8>)>,
    /// What is in memory, for judging and for templates.
    pub seen: Vec<u8>,
    /// That is all there was.
    pub whole: bool,
    /// The last bytes.
    pub end: Vec<u8>,
}

impl StreamResult {
    /// A stream that the engine itself wrote: short, without secrets, so that it needs no salts.
    pub fn of(text: String) -> Self {
        let bytes = text.into_bytes();
        let blob = (!bytes.is_empty()).then(|| Sha256::of(&bytes));
        Self {
            reference: OutputRef { sha256: blob, bytes: bytes.len() as u64, blob, ..OutputRef::empty() },
            small: blob.map(|blob| (blob, bytes.clone())),
            end: bytes.clone(),
            seen: bytes,
            whole: true,
        }
    }

    /// The last line that is not empty, white space around it dropped. Of a stream that was cut off nobody knows it.
    pub fn last_line(&self) -> Option<String> {
        if self.reference.cut_off_by.is_some() {
            return None;
        }
        let text = String::from_utf8_lossy(&self.end);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        // The first line of what is left of a longer stream may be the end of a longer line.
        let cut = self.end.len() as u64 != self.reference.bytes && text.trim_start().starts_with(line);
        (line.len() <= LAST_LINE_BYTES_MAX && !cut).then(|| line.to_owned())
    }
}

impl Captured {
    /// Nothing was printed.
    pub fn nothing() -> Self {
        Self::of(String::new())
    }

    /// What the engine itself has to say, as standard output.
    pub fn of(text: String) -> Self {
        Self { stdout: StreamResult::of(text), stderr: StreamResult::of(String::new()), timing: None }
    }
}

impl Capture {
    /// `on_failure` is called once, when a blob cannot be written.
    pub fn new(
        blobs: &Arc<dyn BlobStore>,
        mask: &Mask,
        keeping: Keeping,
        tail: Option<Tail>,
        on_failure: Box<dyn Fn(&StoreError) + Send + Sync>,
    ) -> Self {
        let one = |limit, seed| {
            let keep = Keep::new(Arc::clone(blobs), limit, seed);
            One { masker: mask.stream(), hasher: Hasher::default(), keep, decided: Vec::new(), cut_off_by: None }
        };
        let sensitive = matches!(keeping, Keeping::Sensitive(_));
        let streams = match keeping {
            Keeping::Salted(limit, seeds) => seeds.map(|seed| one(Some(limit), Some(seed))),
            Keeping::Sensitive(seeds) => seeds.map(|seed| one(None, Some(seed))),
            Keeping::Plain(limit) => [one(Some(limit), None), one(Some(limit), None)],
        };
        let tail = tail.filter(|_| !sensitive);
        Self { streams, tail, offsets: Offsets::default(), times: None, failed: None, on_failure }
    }

    /// Notes when what is kept came.
    #[must_use]
    pub fn timed(mut self, times: Times) -> Self {
        self.times = Some(times);
        self
    }

    /// How many bytes were written so far, before masking.
    pub fn offsets(&self) -> Offsets {
        self.offsets
    }

    /// The end of both streams.
    ///
    /// # Errors
    /// When they could not be kept.
    pub async fn finish(mut self) -> Result<Captured, StoreError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let [stdout, stderr] = self.streams;
        let mut times = self.times;
        let mut result = async |mut one: One, stream| {
            one.decided.clear();
            let masked = match &one.cut_off_by {
                Some(_) => one.masker.finish_cut_off(&mut one.decided),
                None => one.masker.finish(&mut one.decided),
            };
            if let Some(times) = times.as_mut().filter(|_| !one.decided.is_empty()) {
                times.came(stream, one.decided.len());
            }
            if let Some(tail) = &self.tail
                && !one.decided.is_empty()
            {
                tail.observer.output(&tail.cell, stream, &one.decided);
            }
            one.hasher.update(&one.decided);
            one.keep.write(&one.decided).await?;
            let kept = one.keep.finish().await?;
            let (root, segments) = kept.root.unzip();
            let reference = OutputRef {
                root,
                segments: segments.unwrap_or(0),
                sha256: (kept.truncated || (root.is_none() && kept.extent.total > 0)).then(|| one.hasher.finish()),
                bytes: kept.extent.total,
                truncated: kept.truncated || one.cut_off_by.is_some(),
                cut_off_by: one.cut_off_by,
                blob: kept.blob,
                masked,
            };
            let small = kept.blob.zip(kept.small);
            let whole = kept.whole && reference.cut_off_by.is_none();
            let result = StreamResult { reference, small, seen: kept.seen, whole, end: kept.end };
            Ok::<_, StoreError>((result, kept.extent))
        };
        let (stdout, of_stdout) = result(stdout, Stream::Stdout).await?;
        let (stderr, of_stderr) = result(stderr, Stream::Stderr).await?;
        let timing = times.and_then(|times| times.finish([of_stdout, of_stderr]));
        Ok(Captured { stdout, stderr, timing })
    }
}

#[async_trait]
impl OutputSink for Capture {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let length = bytes.len() as u64;
        let one = match stream {
            Stream::Stdout => {
                self.offsets.stdout += length;
                &mut self.streams[0]
            }
            Stream::Stderr => {
                self.offsets.stderr += length;
                &mut self.streams[1]
            }
        };
        one.decided.clear();
        one.masker.push(bytes, &mut one.decided);
        if one.decided.is_empty() {
            return;
        }
        if let Some(times) = &mut self.times {
            times.came(stream, one.decided.len());
        }
        one.hasher.update(&one.decided);
        if let Err(error) = one.keep.write(&one.decided).await {
            (self.on_failure)(&error);
            self.failed = Some(error);
            return;
        }
        if let Some(tail) = &self.tail {
            tail.observer.output(&tail.cell, stream, &one.decided);
        }
    }

    async fn cut_off(&mut self, stream: Stream, by: &str) {
        self.streams[stream as usize].cut_off_by = Some(clipped(by.to_owned()));
    }
}
