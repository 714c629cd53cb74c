//! Frames: what the host's side of the protocol says between the bytes of an output.
//!
//! A frame is `RS marker SP text LF`. The marker has 128 random bits (or, for a claimed attempt, bits derived from its
//! id), so output never contains one by accident. A [`Filter`] takes frames out of a stream and holds back only bytes
//! that may be the beginning of one, so that live output is never delayed.

use std::hash::{BuildHasher, Hasher, RandomState};

use runbook_model::Sha256;
use runbook_model::id::AttemptId;

/// Longest text of a frame that is believed to be one.
const FRAME_BYTES_MAX: usize = 8192;

/// What marks a frame: `rb-` and 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marker(String);

impl Marker {
    /// A fresh one, from the operating system's randomness.
    pub fn fresh() -> Self {
        let word = || RandomState::new().build_hasher().finish();
        Self(format!("rb-{:016x}{:016x}", word(), word()))
    }

    /// The one of a claimed attempt: the same after a restart of the controller.
    pub fn of(attempt: &AttemptId) -> Self {
        let digest = Sha256::of(format!("runbook frames of {attempt}").as_bytes()).to_string();
        let hex: String = digest.chars().rev().take(32).collect();
        Self(format!("rb-{hex}"))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes of a frame with this text.
    pub fn frame_bytes(&self, text: &str) -> u64 {
        (1 + self.0.len() + 1 + text.len() + 1) as u64
    }
}

/// A piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Output.
    Bytes(Vec<u8>),
    /// The text of a frame.
    Frame(String),
}

/// Takes frames out of one stream.
#[derive(Debug)]
pub struct Filter {
    head: Vec<u8>,
    held: Vec<u8>,
}

impl Filter {
    /// For frames with this marker.
    pub fn new(marker: &Marker) -> Self {
        let mut head = vec![0x1e];
        head.extend_from_slice(marker.0.as_bytes());
        head.push(b' ');
        Self { head, held: Vec::new() }
    }

    /// The next bytes of the stream, cut into output and frames, in order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let joined;
        let mut rest: &[u8] = if self.held.is_empty() {
            bytes
        } else {
            let mut all = std::mem::take(&mut self.held);
            all.extend_from_slice(bytes);
            joined = all;
            &joined
        };
        let mut scan = 0;
        while let Some(at) = rest[scan..].iter().position(|b| *b == 0x1e).map(|at| scan + at) {
            let tail = &rest[at..];
            let known = tail.len().min(self.head.len());
            if tail[..known] != self.head[..known] {
                scan = at + 1;
                continue;
            }
            if known == self.head.len() {
                match tail.iter().take(FRAME_BYTES_MAX).position(|b| *b == b'\n') {
                    Some(end) => {
                        if at > 0 {
                            pieces.push(Piece::Bytes(rest[..at].to_vec()));
                        }
                        pieces.push(Piece::Frame(String::from_utf8_lossy(&tail[self.head.len()..end]).into_owned()));
                        rest = &tail[end + 1..];
                        scan = 0;
                        continue;
                    }
                    None if tail.len() >= FRAME_BYTES_MAX => {
                        scan = at + 1;
                        continue;
                    }
                    None => {}
                }
            }
            // The beginning of a frame, perhaps: wait for more.
            if at > 0 {
                pieces.push(Piece::Bytes(rest[..at].to_vec()));
            }
            self.held = tail.to_vec();
            return pieces;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Bytes(rest.to_vec()));
        }
        pieces
    }

    /// The stream has ended: what was held back was output after all.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(pieces: Vec<Piece>) -> (Vec<u8>, Vec<String>) {
        let (mut bytes, mut frames) = (Vec::new(), Vec::new());
        for piece in pieces {
            match piece {
                Piece::Bytes(more) => bytes.extend(more),
                Piece::Frame(text) => frames.push(text),
            }
        }
        (bytes, frames)
    }

    #[test]
    fn frames_are_found_wherever_the_stream_is_cut() {
        let marker = Marker::fresh();
        let mut stream = b"a\x1eb\x1erb-not ours\n".to_vec();
        stream.extend(format!("\x1e{} w 12\n", marker.as_str()).bytes());
        stream.extend(b"out\0put");
        stream.extend(format!("\x1e{} x 0\n", marker.as_str()).bytes());
        for cut in 0..=stream.len() {
            let mut filter = Filter::new(&marker);
            let mut pieces = filter.push(&stream[..cut]);
            pieces.extend(filter.push(&stream[cut..]));
            pieces.push(Piece::Bytes(filter.finish()));
            let (bytes, frames) = joined(pieces);
            assert_eq!(bytes, b"a\x1eb\x1erb-not ours\nout\0put", "cut at {cut}");
            assert_eq!(frames, ["w 12", "x 0"], "cut at {cut}");
        }
    }

    #[test]
    fn output_that_only_begins_like_a_frame_is_not_lost() {
        let marker = Marker::fresh();
        let mut filter = Filter::new(&marker);
        let begin = format!("\x1e{} never ended", marker.as_str());
        assert!(filter.push(begin.as_bytes()).is_empty());
        assert_eq!(filter.finish(), begin.as_bytes());
    }

    #[test]
    fn a_claimed_attempts_marker_survives_the_controller() {
        let attempt = AttemptId { run: "r".into(), host: "h".into(), step: "s".into(), attempt: 1 };
        assert_eq!(Marker::of(&attempt), Marker::of(&attempt));
        assert_eq!(Marker::of(&attempt).as_str().len(), Marker::fresh().as_str().len());
        assert_ne!(Marker::of(&attempt), Marker::of(&AttemptId { attempt: 2, ..attempt.clone() }));
    }
}
