//! When an attempt's output came to the controller: a small blob beside the output, so that it can be played back.
//!
//! A line of JSON for each time at which something came, in order: `[ms, stream, until]`. `ms` is counted from the
//! attempt's start, `stream` is 1 for standard output and 2 for standard error, and until `until` bytes of what is kept
//! of the stream had come by then.

use serde::{Deserialize, Serialize};

/// At most so many lines for an attempt, so that they are a small content of the store. A longer attempt is told less
/// finely.
pub const PIECES_MAX: usize = 2_048;

/// What comes within so many milliseconds on one stream is one piece (within twice as many, and so on, when there would
/// be too many).
pub const COALESCED_MS: u64 = 50;

/// An attempt whose output came within this time has no timing: it is played back at once.
pub const WORTH_MS: u64 = 200;

/// Some output that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece(
    /// Milliseconds since the attempt's start.
    pub u64,
    /// 1: standard output, 2: standard error.
    pub u8,
    /// Bytes of what is kept of the stream that had come by then.
    pub u64,
);

/// The lines.
pub fn to_bytes(pieces: &[Piece]) -> Vec<u8> {
    let mut out = Vec::with_capacity(pieces.len() * 16);
    for piece in pieces {
        out.extend_from_slice(format!("[{},{},{}]\n", piece.0, piece.1, piece.2).as_bytes());
    }
    out
}

/// Reads the lines. `None` when they are none: not JSON, another stream, too many, a time or a length that goes back.
pub fn parse(bytes: &[u8]) -> Option<Vec<Piece>> {
    let mut out: Vec<Piece> = Vec::new();
    let (mut last_ms, mut until) = (0, [0, 0]);
    for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let piece: Piece = serde_json::from_slice(line).ok()?;
        let stream = usize::from(piece.1).checked_sub(1).filter(|stream| *stream < 2)?;
        if out.len() == PIECES_MAX || piece.0 < last_ms || piece.2 < until[stream] {
            return None;
        }
        (last_ms, until[stream]) = (piece.0, piece.2);
        out.push(piece);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        let pieces = [Piece(0, 1, 5), Piece(60, 2, 3), Piece(60, 1, 9)];
        assert_eq!(to_bytes(&pieces), b"[0,1,5]\n[60,2,3]\n[60,1,9]\n");
        assert_eq!(parse(&to_bytes(&pieces)).as_deref(), Some(&pieces[..]));
        assert_eq!(parse(b""), Some(vec![]));
    }

    #[test]
    fn what_no_attempt_can_have_is_refused() {
        let many = "[1,1,1]\n".repeat(PIECES_MAX + 1);
        for bad in
            ["[1,1]", "[1,3,1]", "[1,0,1]", "[5,1,1]\n[4,1,2]", "[1,1,5]\n[2,1,4]", "{}", "[-1,1,1]", many.as_str()]
        {
            assert_eq!(parse(bad.as_bytes()), None, "{}", &bad[..bad.len().min(20)]);
        }
    }
}
