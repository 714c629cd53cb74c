//! What happens in a run, for other processes that follow it: that records were committed, and what running steps print.
//!
//! Who is slow is told that something was left out, and reads it in the record later; nobody ever holds up the run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use runbook_model::Cell;
use runbook_ports::transport::Stream;
use tokio::sync::broadcast;

/// Pieces that wait for a slow follower before it misses some.
const QUEUE: usize = 256;
/// What a running step printed last is kept so far, for who comes late.
const RECENT_BYTES_MAX: usize = 16 * 1024;
/// For at most so many steps at once.
const RECENT_CELLS_MAX: usize = 64;

/// Something that a follower is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Records were committed.
    Committed,
    /// A running step has printed something.
    Output(Arc<Piece>),
    /// The follower was too slow: something was left out.
    LeftOut,
}

/// A piece of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) cell: Cell,
    pub(crate) stream: Stream,
    /// Its place in the stream, counted from where this process began to see it.
    pub(crate) from: u64,
    pub(crate) bytes: Vec<u8>,
}

/// See the module. Clones reach the same followers.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    news: broadcast::Sender<News>,
    recent: Mutex<BTreeMap<Cell, [Recent; 2]>>,
}

#[derive(Default)]
struct Recent {
    bytes: VecDeque<u8>,
    /// Bytes seen so far.
    to: u64,
}

impl Hub {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { news: broadcast::Sender::new(QUEUE), recent: Mutex::default() }))
    }

    /// A record was committed.
    pub(crate) fn committed(&self) {
        // Without followers nobody is told.
        let _ = self.0.news.send(News::Committed);
    }

    /// An attempt of the cell begins or has ended: what was printed before belongs to another one.
    pub(crate) fn forget(&self, cell: &Cell) {
        self.recent().remove(cell);
    }

    /// A running step has printed something.
    pub(crate) fn output(&self, cell: &Cell, stream: Stream, bytes: &[u8]) {
        let mut recent = self.recent();
        if recent.len() >= RECENT_CELLS_MAX && !recent.contains_key(cell) {
            // Too many run at once: this one is not told of, and is read in the record when it has ended.
            return;
        }
        let recent = &mut recent.entry(cell.clone()).or_default()[stream as usize];
        let from = recent.to;
        recent.to += bytes.len() as u64;
        recent.bytes.extend(&bytes[bytes.len().saturating_sub(RECENT_BYTES_MAX)..]);
        let over = recent.bytes.len().saturating_sub(RECENT_BYTES_MAX);
        recent.bytes.drain(..over);
        if self.0.news.receiver_count() > 0 {
            let piece = Piece { cell: cell.clone(), stream, from, bytes: bytes.to_vec() };
            let _ = self.0.news.send(News::Output(Arc::new(piece)));
        }
    }

    /// What was printed last by what runs now, and all news from then on.
    pub(crate) fn listen(&self) -> (Vec<News>, broadcast::Receiver<News>) {
        // Under the lock nothing is printed between the two.
        let recent = self.recent();
        let mut news = Vec::new();
        for (cell, streams) in recent.iter() {
            for (stream, recent) in [Stream::Stdout, Stream::Stderr].into_iter().zip(streams) {
                let bytes: Vec<u8> = recent.bytes.iter().copied().collect();
                let from = recent.to - bytes.len() as u64;
                if !bytes.is_empty() {
                    news.push(News::Output(Arc::new(Piece { cell: cell.clone(), stream, from, bytes })));
                }
            }
        }
        (news, self.0.news.subscribe())
    }

    fn recent(&self) -> MutexGuard<'_, BTreeMap<Cell, [Recent; 2]>> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(step: &str) -> Cell {
        Cell { host: "fs01".into(), step: step.into() }
    }

    fn outputs(news: &[News]) -> Vec<(u64, usize)> {
        let piece = |news: &News| match news {
            News::Output(piece) => Some((piece.from, piece.bytes.len())),
            _ => None,
        };
        news.iter().filter_map(piece).collect()
    }

    #[test]
    fn who_comes_late_hears_what_was_printed_last_and_all_that_follows() {
        let hub = Hub::new();
        hub.output(&cell("a"), Stream::Stdout, b"one\n");
        let (recent, mut news) = hub.listen();
        assert_eq!(outputs(&recent), [(0, 4)]);
        hub.output(&cell("a"), Stream::Stdout, b"two\n");
        hub.committed();
        let heard = [news.try_recv().unwrap(), news.try_recv().unwrap()];
        assert_eq!(outputs(&heard), [(4, 4)]);
        assert_eq!(heard[1], News::Committed);
        hub.forget(&cell("a"));
        assert_eq!(hub.listen().0, []);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let hub = Hub::new();
        for no in 0..200 {
            for _ in 0..10 {
                hub.output(&cell(&format!("s{no}")), Stream::Stderr, &[b'x'; 5_000]);
            }
        }
        let kept = outputs(&hub.listen().0);
        assert_eq!(kept.len(), RECENT_CELLS_MAX);
        assert!(kept.iter().all(|(from, bytes)| *bytes == RECENT_BYTES_MAX && from + *bytes as u64 == 50_000));
    }
}
