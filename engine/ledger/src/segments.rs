//! Outputs as salted segments: a line can be withheld later and the rest still be verified, and nobody can guess what was
//! withheld from the hashes.
//!
//! A segment is a line with its line end, and at most [`SEGMENT_BYTES_MAX`] long: longer lines are cut into pieces of that
//! length. Its leaf is `SHA-256(0x00 || salt || segment)`; the root over the leaves is that of RFC 6962 and goes into the
//! record. The salts come from one seed ([`Seed::salt`]), which stands in the blob's first line ([`Seed::line`]), so that the
//! blob's own digest cannot be guessed either. A redacted edition gives the salts of what it shows, and never the seed.

use std::fmt;

use runbook_model::digest::Hasher;
use runbook_model::{OutputRef, Sha256};

use crate::tree::Frontier;

/// The longest segment in bytes.
pub const SEGMENT_BYTES_MAX: usize = 64 * 1024;
/// The length of a salt in bytes.
pub const SALT_BYTES: usize = 16;

const FORM: &str = "runbook-output/v1 ";
/// Length of the line in front of an output's kept bytes, its line end included.
pub const LINE_BYTES: usize = FORM.len() + 64 + 1;

/// From what an output's salts are made. Whoever has it can guess what was withheld.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub [u8; 32]);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

impl Seed {
    /// The line that stands in front of the kept bytes in the output's blob.
    pub fn line(&self) -> String {
        format!("{FORM}{}\n", Sha256(self.0))
    }

    /// Reads that line, and says how long it is.
    pub fn read(blob: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(blob.get(..LINE_BYTES)?).ok()?;
        let digits = line.strip_prefix(FORM)?.strip_suffix('\n')?;
        digits.parse::<Sha256>().ok().map(|seed| Self(seed.0))
    }

    /// The salt of the segment with this number, counted from 0.
    pub fn salt(&self, number: u64) -> [u8; SALT_BYTES] {
        let mut hasher = Hasher::default();
        hasher.update(b"runbook-segment-salt/v1");
        hasher.update(&self.0);
        hasher.update(&number.to_be_bytes());
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&hasher.finish().0[..SALT_BYTES]);
        salt
    }
}

/// The leaf of a segment.
pub fn leaf(salt: &[u8; SALT_BYTES], segment: &[u8]) -> Sha256 {
    let mut hasher = Hasher::default();
    hasher.update(&[0]);
    hasher.update(salt);
    hasher.update(segment);
    hasher.finish()
}

/// Cuts a stream into segments.
#[derive(Debug, Clone, Default)]
pub struct Cutter {
    open: Vec<u8>,
}

impl Cutter {
    /// The next bytes of the stream; `take` is given each segment that is complete with them.
    pub fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = SEGMENT_BYTES_MAX - self.open.len();
            let window = &bytes[..room.min(bytes.len())];
            let (length, complete) = match window.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (window.len(), window.len() == room),
            };
            let (piece, rest) = bytes.split_at(length);
            bytes = rest;
            if !complete {
                self.open.extend_from_slice(piece);
            } else if self.open.is_empty() {
                take(piece);
            } else {
                self.open.extend_from_slice(piece);
                take(&self.open);
                self.open.clear();
            }
        }
    }

    /// The end of the stream: the last segment may have no line end.
    pub fn finish(self, take: impl FnOnce(&[u8])) {
        if !self.open.is_empty() {
            take(&self.open);
        }
    }
}

/// Computes the root of a stream that comes piece by piece.
#[derive(Debug, Clone)]
pub struct Segmenter {
    seed: Seed,
    cutter: Cutter,
    tree: Frontier,
}

impl Segmenter {
    /// At the beginning of a stream.
    pub fn new(seed: Seed) -> Self {
        Self { seed, cutter: Cutter::default(), tree: Frontier::new() }
    }

    /// The next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let Self { seed, cutter, tree } = self;
        cutter.push(bytes, |segment| tree.push(leaf(&seed.salt(tree.size()), segment)));
    }

    /// The root over all segments, and their number.
    pub fn finish(mut self) -> (Sha256, u64) {
        let Self { seed, cutter, tree } = &mut self;
        std::mem::take(cutter).finish(|segment| tree.push(leaf(&seed.salt(tree.size()), segment)));
        (self.tree.root(), self.tree.size())
    }
}

/// The kept bytes in an output's blob. Outputs of the earlier form, without a root, are kept as they are.
pub fn content<'a>(output: &OutputRef, blob: &'a [u8]) -> &'a [u8] {
    match output.root {
        Some(_) => blob.get(LINE_BYTES..).unwrap_or_default(),
        None => blob,
    }
}

/// Whether a whole blob is the output that the record speaks of.
pub fn verify(output: &OutputRef, blob: &[u8]) -> bool {
    let Some(root) = output.root else { return true };
    let Some(seed) = Seed::read(blob) else { return false };
    let mut segmenter = Segmenter::new(seed);
    segmenter.push(&blob[LINE_BYTES..]);
    segmenter.finish() == (root, output.segments)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: Seed = Seed([7; 32]);

    fn segments(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut cutter = Cutter::default();
        for piece in pieces {
            cutter.push(piece, |segment| out.push(segment.to_vec()));
        }
        cutter.finish(|segment| out.push(segment.to_vec()));
        out
    }

    /// By definition: no cutter, no frontier.
    fn oracle(content: &[u8]) -> (Sha256, u64) {
        let lines = content.split_inclusive(|byte| *byte == b'\n');
        let leaves: Vec<Sha256> = lines
            .flat_map(|line| line.chunks(SEGMENT_BYTES_MAX))
            .enumerate()
            .map(|(number, segment)| leaf(&SEED.salt(number as u64), segment))
            .collect();
        let mut tree = Frontier::new();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        (tree.root(), leaves.len() as u64)
    }

    #[test]
    fn a_segment_is_a_line_or_a_piece_of_a_very_long_one() {
        assert_eq!(segments(&[b"a\nb", b"c\n\nd"]), [b"a\n".as_slice(), b"bc\n", b"\n", b"d"]);
        assert_eq!(segments(&[]), Vec::<Vec<u8>>::new());
        let long = vec![b'x'; 2 * SEGMENT_BYTES_MAX];
        let lengths: Vec<usize> = segments(&[&long[..100], &long[100..], b"\n"]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [SEGMENT_BYTES_MAX, SEGMENT_BYTES_MAX, 1]);
    }

    #[test]
    fn a_blob_is_the_output_that_was_recorded_or_it_is_not() {
        let (root, segments) = oracle(b"one\ntwo\n");
        let output = OutputRef { root: Some(root), segments, bytes: 8, ..OutputRef::empty() };
        let blob = [SEED.line().as_bytes(), b"one\ntwo\n"].concat();
        assert!(verify(&output, &blob));
        assert_eq!(content(&output, &blob), b"one\ntwo\n");
        let changed = [SEED.line().as_bytes(), b"one\ntwO\n"].concat();
        assert!(!verify(&output, &changed));
        let other_seed = [Seed([8; 32]).line().as_bytes(), b"one\ntwo\n"].concat();
        assert!(!verify(&output, &other_seed));
        assert!(!verify(&output, b"runbook-output/v1 short"));
        assert_eq!(content(&OutputRef::empty(), b"as it is"), b"as it is");
    }

    #[test]
    fn the_form_stays_as_it_is_documented() {
        assert_eq!(SEED.line(), format!("runbook-output/v1 {}\n", "07".repeat(32)));
        assert_eq!(Seed::read(SEED.line().as_bytes()), Some(SEED));
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(&SEED.salt(0)), SALT_0);
        assert_eq!(leaf(&SEED.salt(0), b"a\n").to_string(), LEAF_0);
    }

    // Computed with Python's hashlib from the words in docs/evidence-format.md.
    const SALT_0: &str = "12fbf4968ff7fa538b6e99b8950a7b4e";
    const LEAF_0: &str = "5781a964f0bb0f7613933b9e205ed98bd7adfe8b052625629cc5fbe4f89c86a8";

    proptest! {
        #[test]
        fn the_root_does_not_depend_on_where_reads_split(
            content in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..400),
            cuts in prop::collection::vec(0_usize..400, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(content.len())).collect();
            cuts.extend([0, content.len()]);
            cuts.sort_unstable();
            let mut segmenter = Segmenter::new(SEED);
            for pair in cuts.windows(2) {
                segmenter.push(&content[pair[0]..pair[1]]);
            }
            prop_assert_eq!(segmenter.finish(), oracle(&content));
        }
    }
}
