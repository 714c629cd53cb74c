//! Notes when an attempt's output comes, in bounded memory: see [`runbook_model::timing`].

use std::sync::Arc;

use runbook_model::timing::{COALESCED_MS, PIECES_MAX, Piece, WORTH_MS, to_bytes};
use runbook_ports::Clock;
use runbook_ports::transport::Stream;

use super::keep::Extent;

/// The times of one attempt's output.
pub struct Times {
    clock: Arc<dyn Clock>,
    /// How far the attempt was when `mono_ms` was read, by the clock of the records.
    begun_ms: u64,
    mono_ms: u64,
    /// Of the whole streams, as they came.
    pieces: Vec<Piece>,
    /// Where each stream's last piece is.
    last: [Option<usize>; 2],
    came: [u64; 2],
    coalesced_ms: u64,
    until_ms: u64,
}

impl Times {
    /// Of an attempt that began at `started_ms` (Unix time), which is now or, after a lost connection, earlier.
    pub fn new(clock: Arc<dyn Clock>, started_ms: u64) -> Self {
        let begun_ms = clock.now_ms().saturating_sub(started_ms);
        let mono_ms = clock.mono_ms();
        Self {
            clock,
            begun_ms,
            mono_ms,
            pieces: Vec::new(),
            last: [None; 2],
            came: [0; 2],
            coalesced_ms: COALESCED_MS,
            until_ms: 0,
        }
    }

    /// So many bytes came now.
    pub fn came(&mut self, stream: Stream, bytes: usize) {
        let stream = match stream {
            Stream::Stdout => 0,
            Stream::Stderr => 1,
        };
        let now = self.begun_ms + (self.clock.mono_ms() - self.mono_ms);
        self.came[stream] += bytes as u64;
        self.until_ms = now;
        self.note(stream, now);
        while self.pieces.len() > PIECES_MAX {
            self.thin();
        }
    }

    fn note(&mut self, stream: usize, ms: u64) {
        let until = self.came[stream];
        match self.last[stream].map(|at| &mut self.pieces[at]) {
            Some(piece) if ms - piece.0 < self.coalesced_ms => piece.2 = until,
            _ => {
                self.last[stream] = Some(self.pieces.len());
                self.pieces.push(Piece(ms, stream as u8 + 1, until));
            }
        }
    }

    /// Half as fine: a long attempt is told from its beginning to its end.
    fn thin(&mut self) {
        self.coalesced_ms *= 2;
        self.last = [None; 2];
        let came = self.came;
        for Piece(ms, stream, until) in std::mem::take(&mut self.pieces) {
            let stream = usize::from(stream - 1);
            self.came[stream] = until;
            self.note(stream, ms);
        }
        self.came = came;
    }

    /// The lines, in bytes of what is kept of standard output and standard error; `None` when all came within a moment.
    pub fn finish(self, kept: [Extent; 2]) -> Option<Vec<u8>> {
        let first = self.pieces.first()?.0;
        if self.until_ms - first <= WORTH_MS {
            return None;
        }
        let mut told = [0; 2];
        let mut out = Vec::with_capacity(self.pieces.len());
        for Piece(ms, stream, until) in self.pieces {
            let at = usize::from(stream - 1);
            let until = kept[at].place(until);
            // What fell into the gap between head and tail is not there to be shown.
            if until > told[at] {
                told[at] = until;
                out.push(Piece(ms, stream, until));
            }
        }
        Some(to_bytes(&out))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use runbook_model::timing::parse;

    use super::*;

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now_ms(&self) -> u64 {
            1_000_000 + self.mono_ms()
        }

        fn mono_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn kept(head: u64, tail: u64, total: u64) -> Extent {
        Extent { head, tail, total }
    }

    fn times(came: &[(u64, Stream, usize)]) -> Times {
        let clock = Arc::new(Hand::default());
        let mut times = Times::new(clock.clone(), 1_000_000);
        for (ms, stream, bytes) in came {
            clock.0.store(*ms, Ordering::Relaxed);
            times.came(*stream, *bytes);
        }
        times
    }

    use Stream::{Stderr, Stdout};

    fn lines(times: Times, stdout: Extent, stderr: Extent) -> Option<Vec<Piece>> {
        times.finish([stdout, stderr]).map(|bytes| parse(&bytes).expect("it reads back"))
    }

    #[test]
    fn what_comes_close_together_is_one_piece_of_each_stream() {
        let came = [(10, Stdout, 4), (30, Stderr, 1), (59, Stdout, 4), (60, Stdout, 1), (400, Stderr, 5)];
        let told = lines(times(&came), kept(9, 0, 9), kept(6, 0, 6));
        assert_eq!(told, Some(vec![Piece(10, 1, 8), Piece(30, 2, 1), Piece(60, 1, 9), Piece(400, 2, 6)]));
    }

    #[test]
    fn a_short_attempt_costs_nothing() {
        assert_eq!(lines(times(&[]), kept(0, 0, 0), kept(0, 0, 0)), None);
        // It began late, and then everything came at once.
        let came = [(5_000, Stdout, 4), (5_200, Stdout, 4)];
        assert_eq!(lines(times(&came), kept(8, 0, 8), kept(0, 0, 0)), None);
    }

    #[test]
    fn what_is_not_kept_has_no_time() {
        let came: Vec<_> = (0..10).map(|n| (n * 100, Stdout, 10)).collect();
        let told = lines(times(&came), kept(25, 15, 100), kept(0, 0, 0));
        let told: Vec<_> = told.unwrap().into_iter().map(|piece| (piece.0, piece.2)).collect();
        assert_eq!(told, [(0, 10), (100, 20), (200, 25), (800, 30), (900, 40)]);
    }

    #[test]
    fn a_long_attempt_is_told_to_its_end_and_never_in_more_lines() {
        let came: Vec<_> = (0..100_000).map(|n| (n * 60, if n % 3 == 0 { Stderr } else { Stdout }, 7)).collect();
        let times = times(&came);
        assert!(times.pieces.len() <= PIECES_MAX);
        let told = lines(times, kept(1 << 30, 0, 1 << 30), kept(1 << 30, 0, 1 << 30)).unwrap();
        assert!(told.len() > PIECES_MAX / 4, "{}", told.len());
        assert_eq!(told[0].0, 0);
        let last = |stream| told.iter().rev().find(|piece| piece.1 == stream).unwrap();
        assert_eq!((last(1).2, last(2).2), (66_666 * 7, 33_334 * 7));
        assert!(last(1).0 > 99_000 * 60);
    }

    #[test]
    fn an_attempt_that_is_followed_again_counts_from_its_beginning() {
        let clock = Arc::new(Hand::default());
        let mut times = Times::new(clock.clone(), 1_000_000 - 7_000);
        times.came(Stdout, 1);
        clock.0.store(900, Ordering::Relaxed);
        times.came(Stdout, 1);
        assert_eq!(lines(times, kept(2, 0, 2), kept(0, 0, 0)), Some(vec![Piece(7_000, 1, 1), Piece(7_900, 1, 2)]));
    }
}
