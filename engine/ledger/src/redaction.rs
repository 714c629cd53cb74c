//! A redacted output: some segments are withheld, the rest is shown, and all of it comes to the root on record.
//!
//! One JSON document, written and read line by line, so that an output of any length takes the memory of one segment:
//!
//! ```text
//! {"schema":"redacted-output/v1","root":"<64 hex>","segments":3,"entries":[
//! {"salt":"<32 hex>","text":"first line\n"},
//! {"leaf":"<64 hex>","withheld":true},
//! {"salt":"<32 hex>","base64":"/w=="}
//! ]}
//! ```
//!
//! Exactly these lines: an entry a segment, in order; `base64` where a segment is no UTF-8. A shown segment's leaf is
//! computed from its salt ([`segments::leaf`](crate::segments::leaf)), a withheld one's is given. A changed line, a
//! missing mark, a segment left out or one of another output gives another root.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::{OutputRef, Sha256};
use serde::Deserialize;

use crate::segments::{Cutter, LINE_BYTES, SALT_BYTES, SEGMENT_BYTES_MAX, Seed, leaf};
use crate::tree::Frontier;

/// The version of the form.
pub const SCHEMA: &str = "redacted-output/v1";

/// The longest line: each byte of a segment may take six characters (`\u001b`), and there is little beside it.
pub const LINE_BYTES_MAX: usize = 6 * SEGMENT_BYTES_MAX + 256;

const END: &str = "]}";

/// Why an output could not be redacted, or a redacted one is not the output on record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is nothing that could be withheld.
    #[error("the output has no salted segments")]
    NotSalted,
    /// The blob is not the output's.
    #[error("the stored output is not the one on record")]
    OtherOutput,
    /// The document is not of this form.
    #[error("line {line} of the redacted output: {what}")]
    Malformed {
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// What is shown does not come to the root on record.
    #[error("the redacted output does not come to the root on record: it was changed, or is of another output")]
    OtherRoot,
}

/// Segments that are withheld: ranges, first and last included, counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Withheld(Vec<(u64, u64)>);

impl Withheld {
    /// The union of ranges in any order. One whose first is after its last holds nothing.
    pub fn new(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut ranges: Vec<(u64, u64)> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        ranges.sort_unstable();
        let mut union: Vec<(u64, u64)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match union.last_mut() {
                Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
                _ => union.push((first, last)),
            }
        }
        Self(union)
    }

    /// The ranges: in order, apart from each other.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// Whether the segment is withheld.
    pub fn holds(&self, number: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= number);
        after > 0 && self.0[after - 1].1 >= number
    }

    /// Whether every segment that `other` withholds is withheld here too.
    pub fn covers(&self, other: &Self) -> bool {
        let within = |(first, last): &(u64, u64)| self.0.iter().any(|(from, to)| from <= first && last <= to);
        other.0.iter().all(within)
    }

    /// How many segments.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| (last - first).saturating_add(1)).fold(0, u64::saturating_add)
    }
}

/// Writes the redacted form of an output whose blob comes piece by piece.
#[derive(Debug)]
pub struct Redacter<'w> {
    root: Sha256,
    segments: u64,
    withheld: &'w Withheld,
    begin: Vec<u8>,
    seed: Option<Seed>,
    cutter: Cutter,
    tree: Frontier,
}

impl<'w> Redacter<'w> {
    /// At the beginning of the output's blob. The document's first line goes to `put`.
    ///
    /// # Errors
    /// `NotSalted`.
    pub fn new(output: &OutputRef, withheld: &'w Withheld, mut put: impl FnMut(&str)) -> Result<Self, Error> {
        let (root, segments) = (output.root.ok_or(Error::NotSalted)?, output.segments);
        put(&first_line(&root, segments));
        put("\n");
        Ok(Self {
            root,
            segments,
            withheld,
            begin: Vec::with_capacity(LINE_BYTES),
            seed: None,
            cutter: Cutter::default(),
            tree: Frontier::new(),
        })
    }

    /// The next bytes of the blob; what they complete goes to `put`.
    ///
    /// # Errors
    /// `OtherOutput`.
    pub fn push(&mut self, mut bytes: &[u8], mut put: impl FnMut(&str)) -> Result<(), Error> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => {
                let (line, rest) = bytes.split_at(bytes.len().min(LINE_BYTES - self.begin.len()));
                self.begin.extend_from_slice(line);
                if self.begin.len() < LINE_BYTES {
                    return Ok(());
                }
                bytes = rest;
                *self.seed.insert(Seed::read(&self.begin).ok_or(Error::OtherOutput)?)
            }
        };
        let Self { cutter, tree, withheld, segments, .. } = self;
        cutter.push(bytes, |segment| entry(tree, withheld, *segments, &seed, segment, &mut put));
        Ok(())
    }

    /// The end of the blob. Nothing that went to `put` is worth anything when this fails.
    ///
    /// # Errors
    /// `OtherOutput`: the blob does not come to the root on record.
    pub fn finish(self, mut put: impl FnMut(&str)) -> Result<(), Error> {
        let Self { root, segments, withheld, seed, cutter, mut tree, .. } = self;
        let seed = seed.ok_or(Error::OtherOutput)?;
        cutter.finish(|segment| entry(&mut tree, withheld, segments, &seed, segment, &mut put));
        put(END);
        put("\n");
        if (tree.root(), tree.size()) == (root, segments) { Ok(()) } else { Err(Error::OtherOutput) }
    }
}

fn first_line(root: &Sha256, segments: u64) -> String {
    format!(r#"{{"schema":"{SCHEMA}","root":"{root}","segments":{segments},"entries":["#)
}

fn entry(
    tree: &mut Frontier,
    withheld: &Withheld,
    segments: u64,
    seed: &Seed,
    segment: &[u8],
    put: &mut impl FnMut(&str),
) {
    let number = tree.size();
    let salt = seed.salt(number);
    let leaf = leaf(&salt, segment);
    tree.push(leaf);
    if withheld.holds(number) {
        put(&format!(r#"{{"leaf":"{leaf}","withheld":true}}"#));
    } else {
        let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
        match std::str::from_utf8(segment) {
            Ok(text) => {
                let text = serde_json::to_string(text).expect("text is representable as JSON");
                put(&format!(r#"{{"salt":"{salt}","text":{text}}}"#));
            }
            Err(_) => put(&format!(r#"{{"salt":"{salt}","base64":"{}"}}"#, STANDARD.encode(segment))),
        }
    }
    put(if number + 1 < segments { ",\n" } else { "\n" });
}

/// A segment of a redacted output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// Its bytes.
    Shown(Vec<u8>),
    /// It is withheld.
    Withheld,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    salt: Option<String>,
    text: Option<String>,
    base64: Option<String>,
    leaf: Option<Sha256>,
    withheld: Option<bool>,
}

/// Reads a redacted output line by line and checks it against the record.
#[derive(Debug)]
pub struct Reader {
    root: Sha256,
    segments: u64,
    lines: u64,
    tree: Frontier,
    withheld: Vec<(u64, u64)>,
    ended: bool,
}

impl Reader {
    /// At the beginning of the redacted form of this output.
    ///
    /// # Errors
    /// `NotSalted`.
    pub fn new(output: &OutputRef) -> Result<Self, Error> {
        let root = output.root.ok_or(Error::NotSalted)?;
        let segments = output.segments;
        Ok(Self { root, segments, lines: 0, tree: Frontier::new(), withheld: Vec::new(), ended: false })
    }

    /// The next line, without its line end; never longer than [`LINE_BYTES_MAX`]. Gives the segment that stands in it.
    ///
    /// # Errors
    /// `Malformed`; `OtherRoot` when the document says itself that it is of another output.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Entry>, Error> {
        self.lines += 1;
        let number = self.lines;
        let malformed = |what| Error::Malformed { line: number, what };
        if line.len() > LINE_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        if self.ended {
            return Err(malformed("there is more after the end"));
        }
        if number == 1 {
            let fits = line == first_line(&self.root, self.segments).as_bytes();
            return if fits { Ok(None) } else { Err(Error::OtherRoot) };
        }
        let place = self.tree.size();
        if place == self.segments {
            self.ended = line == END.as_bytes();
            return if self.ended { Ok(None) } else { Err(malformed("the end was expected")) };
        }
        let text = std::str::from_utf8(line).map_err(|_| malformed("it is not UTF-8"))?;
        let text = if place + 1 < self.segments {
            text.strip_suffix(',').ok_or(malformed("it has no comma at its end"))?
        } else {
            text
        };
        let read: Line = serde_json::from_str(text).map_err(|_| malformed("it is not an entry"))?;
        let (leaf, entry) = match (read.salt, read.text, read.base64, read.leaf, read.withheld) {
            (None, None, None, Some(leaf), Some(true)) => {
                match self.withheld.last_mut() {
                    Some(open) if open.1 + 1 == place => open.1 = place,
                    _ => self.withheld.push((place, place)),
                }
                (leaf, Entry::Withheld)
            }
            (Some(salt), text, base64, None, None) => {
                let salt = read_salt(&salt).ok_or(malformed("its salt is not 16 bytes"))?;
                let segment = match (text, base64) {
                    (Some(text), None) => text.into_bytes(),
                    (None, Some(base64)) => STANDARD.decode(base64).map_err(|_| malformed("it is not base64"))?,
                    _ => return Err(malformed("it is not an entry")),
                };
                (leaf(&salt, &segment), Entry::Shown(segment))
            }
            _ => return Err(malformed("it is not an entry")),
        };
        self.tree.push(leaf);
        Ok(Some(entry))
    }

    /// The end of the document: what was withheld, when all of it is the output on record.
    ///
    /// # Errors
    /// `Malformed` when its end is missing, `OtherRoot`.
    pub fn finish(self) -> Result<Withheld, Error> {
        if !self.ended {
            return Err(Error::Malformed { line: self.lines + 1, what: "the document ends too early" });
        }
        if self.tree.root() == self.root { Ok(Withheld(self.withheld)) } else { Err(Error::OtherRoot) }
    }
}

fn read_salt(text: &str) -> Option<[u8; SALT_BYTES]> {
    if text.len() != 2 * SALT_BYTES || !text.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c)) {
        return None;
    }
    let mut salt = [0; SALT_BYTES];
    for (byte, pair) in salt.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(salt)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::segments::Segmenter;

    const SEED: Seed = Seed([7; 32]);

    fn output(content: &[u8], seed: Seed) -> (OutputRef, Vec<u8>) {
        let mut segmenter = Segmenter::new(seed);
        segmenter.push(content);
        let (root, segments) = segmenter.finish();
        let output = OutputRef { root: Some(root), segments, bytes: content.len() as u64, ..OutputRef::empty() };
        (output, [seed.line().as_bytes(), content].concat())
    }

    fn redact(output: &OutputRef, blob: &[u8], withheld: &Withheld, piece: usize) -> Result<String, Error> {
        let mut text = String::new();
        let mut redacter = Redacter::new(output, withheld, |part| text.push_str(part))?;
        for bytes in blob.chunks(piece) {
            redacter.push(bytes, |part| text.push_str(part))?;
        }
        redacter.finish(|part| text.push_str(part))?;
        Ok(text)
    }

    fn read(output: &OutputRef, document: &str) -> Result<(Vec<u8>, Withheld), Error> {
        let mut reader = Reader::new(output)?;
        let mut shown = Vec::new();
        for line in document.lines() {
            match reader.line(line.as_bytes())? {
                Some(Entry::Shown(bytes)) => shown.extend(bytes),
                Some(Entry::Withheld) => shown.extend(b"#\n"),
                None => {}
            }
        }
        Ok((shown, reader.finish()?))
    }

    #[test]
    fn a_redacted_output_is_this_document_and_comes_to_the_same_root() {
        let (output, blob) = output(b"user ann\npin 1234\n\xff\ndone", SEED);
        let document = redact(&output, &blob, &Withheld::new([(1, 1)]), 7).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&document).unwrap();
        assert_eq!((&parsed["schema"], &parsed["segments"]), (&"redacted-output/v1".into(), &4.into()));
        assert_eq!(parsed["entries"][0]["text"], "user ann\n");
        assert_eq!(parsed["entries"][1]["withheld"], true);
        assert_eq!(parsed["entries"][1].get("salt"), None);
        assert_eq!(parsed["entries"][2]["base64"], "/wo=");
        assert!(!document.contains("1234") && !document.contains(SEED.line().split(' ').nth(1).unwrap().trim()));
        let (shown, withheld) = read(&output, &document).unwrap();
        assert_eq!(shown, b"user ann\n#\n\xff\ndone");
        assert_eq!(withheld, Withheld::new([(1, 1)]));
    }

    #[test]
    fn a_changed_line_a_dropped_mark_and_another_outputs_edition_are_seen() {
        let (ours, blob) = output(b"one\ntwo\nthree\n", SEED);
        let document = redact(&ours, &blob, &Withheld::new([(1, 1)]), 100).unwrap();
        assert_eq!(read(&ours, &document.replace("one", "ONE")), Err(Error::OtherRoot));
        let lines: Vec<&str> = document.lines().collect();
        let without: String = [lines[0], lines[1], lines[3], lines[4]].join("\n");
        assert!(matches!(read(&ours, &without), Err(Error::Malformed { .. })), "the mark is gone");
        let exchanged: String = [lines[0], lines[2], lines[1], lines[3], lines[4]].join("\n");
        assert_eq!(read(&ours, &exchanged), Err(Error::OtherRoot));
        let shown = document.replace(r#""withheld":true"#, r#""withheld":false"#);
        assert!(matches!(read(&ours, &shown), Err(Error::Malformed { line: 3, .. })));
        // The same content of another run has other salts.
        let (other, twin) = output(b"one\ntwo\nthree\n", Seed([8; 32]));
        let twin = redact(&other, &twin, &Withheld::default(), 100).unwrap();
        assert_eq!(read(&ours, &twin), Err(Error::OtherRoot));
        let renamed = twin.replace(&other.root.unwrap().to_string(), &ours.root.unwrap().to_string());
        assert_eq!(read(&ours, &renamed), Err(Error::OtherRoot));
        for cut in 0..lines.len() {
            assert!(read(&ours, &lines[..cut].join("\n")).is_err(), "{cut}");
        }
        assert!(read(&ours, &format!("{document}]}}\n")).is_err());
    }

    #[test]
    fn a_blob_that_is_not_the_outputs_is_not_redacted() {
        let (ours, blob) = output(b"one\ntwo\n", SEED);
        let mut changed = blob.clone();
        *changed.last_mut().unwrap() = b'x';
        assert_eq!(redact(&ours, &changed, &Withheld::default(), 9), Err(Error::OtherOutput));
        assert_eq!(redact(&ours, b"short", &Withheld::default(), 9), Err(Error::OtherOutput));
        assert_eq!(redact(&OutputRef::empty(), &blob, &Withheld::default(), 9), Err(Error::NotSalted));
    }

    #[test]
    fn ranges_in_any_order_are_their_union() {
        let withheld = Withheld::new([(5, 9), (0, 1), (2, 2), (8, 12), (20, 19)]);
        assert_eq!(withheld.ranges(), [(0, 2), (5, 12)]);
        assert_eq!(withheld.count(), 11);
        let held: Vec<u64> = (0..15).filter(|number| withheld.holds(*number)).collect();
        assert_eq!(held, [0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12]);
        assert_eq!(Withheld::new([(0, u64::MAX), (3, 4)]).ranges(), [(0, u64::MAX)]);
        assert!(withheld.covers(&Withheld::new([(0, 2), (6, 11)])) && withheld.covers(&Withheld::default()));
        assert!(!withheld.covers(&Withheld::new([(2, 3)])) && !withheld.covers(&Withheld::new([(0, 12)])));
    }

    proptest! {
        #[test]
        fn whatever_is_withheld_and_however_it_is_read_the_rest_is_the_outputs(
            content in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'"'), any::<u8>()], 1..200),
            ranges in prop::collection::vec((0_u64..20, 0_u64..20), 0..4),
            piece in 1_usize..150,
        ) {
            let (output, blob) = output(&content, SEED);
            let withheld = Withheld::new(ranges);
            let document = redact(&output, &blob, &withheld, piece).unwrap();
            prop_assert!(serde_json::from_str::<serde_json::Value>(&document).is_ok());
            let (shown, found) = read(&output, &document).unwrap();
            let mut expected: Vec<u8> = Vec::new();
            for (number, segment) in content.split_inclusive(|byte| *byte == b'\n').enumerate() {
                let shown = if withheld.holds(number as u64) { b"#\n".as_slice() } else { segment };
                expected.extend_from_slice(shown);
            }
            prop_assert_eq!(shown, expected);
            prop_assert!((0..output.segments).all(|number| found.holds(number) == withheld.holds(number)));
        }

        #[test]
        fn no_lines_make_the_reader_panic(lines in prop::collection::vec("(\\{\"(salt|leaf|text)\":)?\\PC{0,60}", 0..6)) {
            let (output, _) = output(b"a\nb\n", SEED);
            let mut reader = Reader::new(&output).unwrap();
            let _ = reader.line(first_line(&output.root.unwrap(), 2).as_bytes());
            for line in lines {
                let _ = reader.line(line.as_bytes());
            }
            prop_assert!(reader.finish().is_err());
        }
    }
}
