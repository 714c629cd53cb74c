//! A redacted edition of a run's evidence: what the record says is withheld of its outputs, taken out of every view of them.
//!
//! In views (the report, recordings, what a failed step said) a withheld segment is shown as a mark of its length, so that
//! the times of an output still fit it. Nothing of it is left, and nothing of the seed from which its salt was made.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use runbook_ledger::redaction::Withheld;
use runbook_ledger::segments::{Cutter, LINE_BYTES, SEGMENT_BYTES_MAX};
use runbook_model::{AttemptId, Notice, OutputRef, Sha256};
use runbook_ports::BlobStore as _;
use runbook_report::RunView;
use runbook_report::bundle::{RedactedOutput, RedactionSaid};
use runbook_report::json::Attachments;
use runbook_store::SqliteStore;

use crate::failure::Failure;
use crate::record;

/// What is shown in the place of a withheld segment, as far as there is room; the rest of it is `#`.
const MARK: &[u8] = b"[withheld]";
/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;
/// A withheld line is looked for in the rest of an edition unless it is shorter: a short one stands everywhere.
const SOUGHT_BYTES_MIN: usize = 4;
/// So much of a line is looked for.
const SOUGHT_BYTES_MAX: usize = 256;
/// So many lines are looked for.
const SOUGHT_MAX: usize = 10_000;

/// What an edition withholds; nothing, of a full one.
#[derive(Debug, Default)]
pub(crate) struct Edition(BTreeMap<Sha256, Redacted>);

/// An output of which something is withheld.
#[derive(Debug)]
pub(crate) struct Redacted {
    pub(crate) attempt: AttemptId,
    pub(crate) stream: String,
    pub(crate) output: OutputRef,
    pub(crate) withheld: Withheld,
    /// The records that say so.
    pub(crate) said: Vec<RedactionSaid>,
}

impl Edition {
    /// What is withheld of this run's outputs, as far as it is on record.
    pub(crate) async fn redacted(store: &SqliteStore, view: &RunView) -> Result<Self, Failure> {
        let mut outputs: BTreeMap<Sha256, Redacted> = BTreeMap::new();
        for (record, notice) in record::notices(store, &["outputs_redacted"]).await? {
            let Notice::OutputsRedacted { attempt, stream, root, ranges, rule, reason, by } = notice else { continue };
            let Some(output) = output(view, &attempt, &stream).filter(|output| output.root == Some(root)) else {
                continue;
            };
            let Some(blob) = output.blob else { continue };
            let entry = outputs.entry(blob).or_insert_with(|| Redacted {
                attempt,
                stream,
                output: output.clone(),
                withheld: Withheld::default(),
                said: Vec::new(),
            });
            entry.withheld = Withheld::new(entry.withheld.ranges().iter().copied().chain(ranges));
            entry.said.push(RedactionSaid { record: record.seq, time: record.time, rule, reason, by: by.name });
        }
        Ok(Self(outputs))
    }

    /// Whether nothing is withheld.
    pub(crate) fn is_full(&self) -> bool {
        self.0.is_empty()
    }

    /// The output with this blob, when something of it is withheld.
    pub(crate) fn of(&self, blob: &Sha256) -> Option<&Redacted> {
        self.0.get(blob)
    }

    /// Places of the records that say what is withheld.
    pub(crate) fn records(&self) -> impl Iterator<Item = u64> {
        self.0.values().flat_map(|redacted| redacted.said.iter().map(|said| said.record))
    }

    /// The outputs of which something is withheld, as a bundle lists them.
    pub(crate) fn listed(&self) -> Vec<RedactedOutput> {
        self.0.values().map(Redacted::listed).collect()
    }

    /// What a reader of the edition is told of it; `None` of a full one.
    pub(crate) fn told(&self) -> Option<String> {
        let lines: u64 = self.0.values().map(|redacted| redacted.withheld.count()).sum();
        let lines = runbook_report::text::count(usize::try_from(lines).unwrap_or(usize::MAX), "line");
        let outputs = runbook_report::text::count(self.0.len(), "output");
        (!self.is_full()).then(|| format!("a redacted edition: {lines} of {outputs} are withheld"))
    }

    /// Takes what is withheld out of the beginning of a content, as it is stored.
    pub(crate) fn mask(&self, digest: &Sha256, stored: &mut [u8]) {
        if let Some(redacted) = self.of(digest) {
            let (line, content) = stored.split_at_mut(LINE_BYTES.min(stored.len()));
            line.fill(b'#');
            mask(&redacted.withheld, content);
        }
    }

    /// The same for what a view holds already.
    pub(crate) fn mask_attachments(&self, attachments: &mut Attachments) {
        for (blob, redacted) in &self.0 {
            // The digest of the whole would let a short line be guessed.
            attachments.digests.remove(blob);
            if let Some(content) = attachments.said.get_mut(blob) {
                mask(&redacted.withheld, content);
            }
        }
    }

    /// The text of the lines that are withheld, to be looked for elsewhere.
    pub(crate) async fn sought(&self, store: &SqliteStore) -> Result<Vec<Vec<u8>>, Failure> {
        let mut sought = Vec::new();
        for (blob, redacted) in &self.0 {
            // One that cannot be read is not in the edition at all.
            let Ok(file) = store.file(blob).await else { continue };
            let read = File::open(&file.path).and_then(|file| redacted.sought(file, &mut sought));
            read.map_err(|error| record::failed(&runbook_ports::store::StoreError::Failed(error.to_string())))?;
        }
        sought.sort();
        sought.dedup();
        Ok(sought)
    }
}

impl Redacted {
    fn listed(&self) -> RedactedOutput {
        RedactedOutput {
            host: self.attempt.host.to_string(),
            step: self.attempt.step.to_string(),
            attempt: self.attempt.attempt,
            stream: self.stream.clone(),
            root: self.output.root.unwrap_or(Sha256([0; 32])),
            segments: self.output.segments,
            withheld: self.withheld.ranges().to_vec(),
            said: self.said.clone(),
        }
    }

    fn sought(&self, mut stored: impl Read, sought: &mut Vec<Vec<u8>>) -> std::io::Result<()> {
        std::io::copy(&mut stored.by_ref().take(LINE_BYTES as u64), &mut std::io::sink())?;
        let (mut cutter, mut number) = (Cutter::default(), 0);
        let mut take = |segment: &[u8]| {
            let text = segment.trim_ascii();
            if self.withheld.holds(number) && text.len() >= SOUGHT_BYTES_MIN && sought.len() < SOUGHT_MAX {
                sought.push(text[..text.len().min(SOUGHT_BYTES_MAX)].to_vec());
            }
            number += 1;
        };
        let mut buffer = vec![0; PIECE];
        loop {
            match stored.read(&mut buffer)? {
                0 => break,
                length => cutter.push(&buffer[..length], &mut take),
            }
        }
        cutter.finish(take);
        Ok(())
    }
}

/// What is on record of an attempt's output.
fn output<'v>(view: &'v RunView, attempt: &AttemptId, stream: &str) -> Option<&'v OutputRef> {
    if view.run() != Some(&attempt.run) {
        return None;
    }
    let cell = view.hosts.get(&attempt.host)?.steps.get(&attempt.step)?;
    let report = cell.attempts.iter().find(|known| known.attempt == attempt.attempt)?.report.as_ref()?;
    match stream {
        "stdout" => Some(&report.stdout),
        "stderr" => Some(&report.stderr),
        _ => None,
    }
}

/// Puts marks in the place of the withheld segments of a content that begins with its first.
fn mask(withheld: &Withheld, mut content: &mut [u8]) {
    let mut number = 0;
    while !content.is_empty() {
        let window = &content[..content.len().min(SEGMENT_BYTES_MAX)];
        let length = window.iter().position(|byte| *byte == b'\n').map_or(window.len(), |at| at + 1);
        let (segment, rest) = content.split_at_mut(length);
        if withheld.holds(number) {
            let text = segment.len() - usize::from(segment.ends_with(b"\n"));
            let text = &mut segment[..text];
            text.fill(b'#');
            if let Some(begin) = text.get_mut(..MARK.len()) {
                begin.copy_from_slice(MARK);
            }
        }
        (content, number) = (rest, number + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(content: &str, withheld: &[(u64, u64)]) -> String {
        let mut content = content.as_bytes().to_vec();
        mask(&Withheld::new(withheld.iter().copied()), &mut content);
        String::from_utf8(content).unwrap()
    }

    #[test]
    fn what_is_withheld_is_a_mark_of_its_length() {
        assert_eq!(masked("user ann\npin 1234\ndone", &[(1, 1)]), "user ann\n########\ndone");
        assert_eq!(masked("a\nthe word is horse\n", &[(1, 1)]), "a\n[withheld]#######\n");
        assert_eq!(masked("one\n\ntwo", &[(1, 2)]), "one\n\n###");
        // The beginning of a content may end within a segment.
        assert_eq!(masked("one\nsecr", &[(1, 1)]), "one\n####");
        let long = "x".repeat(SEGMENT_BYTES_MAX + 3);
        let half = masked(&long, &[(1, 1)]);
        assert_eq!((half.matches('x').count(), half.matches('#').count()), (SEGMENT_BYTES_MAX, 3));
    }
}
