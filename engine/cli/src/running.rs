//! Output of running steps, as another process prints it: whole lines, each with its host and step before it.

use std::collections::BTreeMap;

use runbook_model::Cell;
use runbook_ports::transport::Stream;
use runbook_report::text::escape_line;

use crate::hub::Piece;

/// A line without an end is printed in parts of so many bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// What was printed so far of what runs.
#[derive(Default)]
pub(crate) struct Running(BTreeMap<Cell, [Shown; 2]>);

#[derive(Default)]
struct Shown {
    /// Everything up to here was printed, or waits in `open`.
    to: u64,
    /// Something before that was not.
    gap: bool,
    /// The line that has no end yet.
    open: Vec<u8>,
}

impl Running {
    /// The lines to print now.
    pub(crate) fn take(&mut self, piece: &Piece) -> String {
        let shown = &mut self.0.entry(piece.cell.clone()).or_default()[piece.stream as usize];
        shown.gap |= piece.from != shown.to;
        shown.to = piece.from + piece.bytes.len() as u64;
        shown.open.extend_from_slice(&piece.bytes);
        let mut out = String::new();
        let mut done = 0;
        while let Some(end) = shown.open[done..].iter().position(|&byte| byte == b'\n') {
            out.push_str(&line(&piece.cell, piece.stream, &shown.open[done..done + end]));
            done += end + 1;
        }
        shown.open.drain(..done);
        if shown.open.len() > LINE_BYTES_MAX {
            out.push_str(&line(&piece.cell, piece.stream, &std::mem::take(&mut shown.open)));
        }
        out
    }

    /// Pieces were missed, nobody knows of what.
    pub(crate) fn missed(&mut self) {
        for shown in self.0.values_mut().flatten() {
            shown.gap = true;
        }
    }

    /// The attempt has ended with outputs of this length: the rest to print, and whether all of both was printed then.
    pub(crate) fn ended(&mut self, cell: &Cell, stdout: u64, stderr: u64) -> (String, bool) {
        let Some(streams) = self.0.remove(cell) else { return (String::new(), false) };
        let mut out = String::new();
        let mut whole = true;
        for ((shown, bytes), stream) in streams.iter().zip([stdout, stderr]).zip([Stream::Stdout, Stream::Stderr]) {
            if !shown.open.is_empty() {
                out.push_str(&line(cell, stream, &shown.open));
            }
            whole &= !shown.gap && shown.to == bytes;
        }
        (out, whole)
    }
}

fn line(cell: &Cell, stream: Stream, bytes: &[u8]) -> String {
    let mark = if stream == Stream::Stderr { "! " } else { "" };
    format!("{}/{} | {mark}{}\n", cell.host, cell.step, escape_line(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(stream: Stream, from: u64, bytes: &str) -> Piece {
        let cell = Cell { host: "fs01".into(), step: "upgrade".into() };
        Piece { cell, stream, from, bytes: bytes.as_bytes().to_vec() }
    }

    #[test]
    fn lines_are_printed_whole_and_what_has_no_end_with_the_step() {
        let mut running = Running::default();
        assert_eq!(running.take(&piece(Stream::Stdout, 0, "one\ntw")), "fs01/upgrade | one\n");
        assert_eq!(running.take(&piece(Stream::Stderr, 0, "\x1b[1m\n")).lines().count(), 1);
        assert_eq!(running.take(&piece(Stream::Stdout, 6, "o\nthree")), "fs01/upgrade | two\n");
        let cell = Cell { host: "fs01".into(), step: "upgrade".into() };
        assert_eq!(running.ended(&cell, 13, 5), ("fs01/upgrade | three\n".to_owned(), true));
        assert_eq!(running.ended(&cell, 13, 5), (String::new(), false), "it was not seen running");
    }

    #[test]
    fn what_was_missed_is_known_to_be_missing() {
        let cell = Cell { host: "fs01".into(), step: "upgrade".into() };
        for (from, to) in [(3, 7), (0, 9)] {
            let mut running = Running::default();
            running.take(&piece(Stream::Stdout, from, "abc\n"));
            assert!(!running.ended(&cell, to, 0).1, "{from}");
        }
        let mut running = Running::default();
        running.take(&piece(Stream::Stdout, 0, "abc\n"));
        running.missed();
        assert!(!running.ended(&cell, 4, 0).1);
    }
}
