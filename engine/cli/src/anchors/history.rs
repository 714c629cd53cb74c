//! What the ledger was at earlier sizes: read from the store as a stream, in memory that does not grow with it, and once
//! for all anchors that ask.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use runbook_ledger::proof;
use runbook_ledger::tree::Frontier;
use runbook_model::Sha256;
use runbook_ports::Store;
use runbook_ports::anchor::History;
use tokio::sync::OnceCell;

/// Records read at once.
const PAGE: usize = 1_000;

/// The ledger's past.
pub(crate) struct Past {
    store: Arc<dyn Store>,
    /// What is read when something of it is asked for the first time.
    expected: Vec<Range<u64>>,
    known: OnceCell<BTreeMap<(u64, u64), Sha256>>,
}

impl Past {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, expected: Vec::new(), known: OnceCell::new() }
    }

    /// Expects to be asked how the ledger went on to `size` records from each of `sizes`. Whatever else it is asked for
    /// takes a reading of its own.
    pub(super) fn expecting(mut self, sizes: impl IntoIterator<Item = u64>, size: u64) -> Self {
        for from in sizes {
            self.expected.extend(std::iter::once(0..from).filter(|_| 0 < from && from < size));
            self.expected.extend(proof::consistency_ranges(from, size).into_iter().flatten());
        }
        self.expected.sort_unstable_by_key(|range| (range.start, range.end));
        self.expected.dedup();
        self
    }

    /// The roots over these ranges of records, which may overlap, in one pass.
    pub(super) async fn roots(&self, ranges: &[Range<u64>]) -> Result<Vec<Sha256>, String> {
        let mut trees: Vec<Frontier> = ranges.iter().map(|_| Frontier::new()).collect();
        let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
        let mut next = ranges.iter().map(|range| range.start).min().unwrap_or(0);
        while next < end {
            let page = self.store.ledger(next, PAGE).await.map_err(|error| error.to_string())?;
            if page.is_empty() {
                return Err(format!("the ledger has {next} records, not {end}"));
            }
            for sealed in page {
                next = sealed.seq + 1;
                for (range, tree) in ranges.iter().zip(&mut trees) {
                    if range.contains(&sealed.seq) {
                        tree.push(sealed.leaf);
                    }
                }
            }
        }
        Ok(trees.iter().map(Frontier::root).collect())
    }

    /// The same, from what was read for everybody where all of it was expected.
    async fn asked(&self, ranges: &[Range<u64>]) -> Result<Vec<Sha256>, String> {
        if !ranges.iter().all(|range| self.expected.contains(range)) {
            return self.roots(ranges).await;
        }
        let read = async || {
            let places = self.expected.iter().map(|range| (range.start, range.end));
            Ok::<_, String>(places.zip(self.roots(&self.expected).await?).collect())
        };
        let known = self.known.get_or_try_init(read).await?;
        Ok(ranges.iter().map(|range| known[&(range.start, range.end)]).collect())
    }
}

#[async_trait]
impl History for Past {
    async fn root(&self, size: u64) -> Result<Sha256, String> {
        let roots = self.asked(std::slice::from_ref(&(0..size))).await?;
        Ok(roots[0])
    }

    async fn consistency(&self, smaller: u64, larger: u64) -> Result<Vec<Sha256>, String> {
        let ranges = proof::consistency_ranges(smaller, larger)
            .ok_or_else(|| format!("{smaller} records are no beginning of {larger}"))?;
        self.asked(&ranges).await
    }
}

#[cfg(test)]
mod tests {
    use runbook_ledger::Sealer;
    use runbook_model::record::Head;
    use runbook_model::{Event, RunId};
    use runbook_ports::store::Append;
    use runbook_testkit::memory_store::MemoryStore;

    use super::*;

    /// A ledger of `size` records, and the roots that it went through.
    async fn ledger(size: u64) -> (MemoryStore, Vec<Sha256>) {
        let store = MemoryStore::new();
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        let mut roots = vec![sealer.root()];
        let mut records = Vec::new();
        for n in 0..size {
            records.push(sealer.seal(n, n, &RunId::installation(), n, &Event::RunStarted).unwrap());
            roots.push(sealer.root());
        }
        let head = sealer.head();
        let append = Append {
            expected_size: 0,
            fence: None,
            records,
            head,
            checkpoint: None,
            blobs: Vec::new(),
            ..Append::default()
        };
        store.append(append).await.unwrap();
        (store, roots)
    }

    #[tokio::test]
    async fn the_ledger_is_read_once_for_all_who_ask() {
        let (store, roots) = ledger(2_500).await;
        let past = Past::new(Arc::new(store.clone())).expecting([0, 700, 1_024, 2_500], 2_500);
        let asked = |smaller: u64| {
            let (past, roots) = (&past, &roots);
            async move {
                let root = past.root(smaller).await.unwrap();
                assert_eq!(root, roots[smaller as usize]);
                let path = past.consistency(smaller, 2_500).await.unwrap();
                proof::verify_consistency((smaller, &root), (2_500, &roots[2_500]), &path).unwrap();
            }
        };
        tokio::join!(asked(700), asked(1_024), asked(700));
        assert_eq!(store.ledger_reads(), 3, "three pages, for everybody");
        // An anchor that holds another head than its last receipt says is right, and costs a reading.
        asked(1_500).await;
        assert_eq!(store.ledger_reads(), 3 + 2 + 3);
    }

    #[tokio::test]
    async fn what_the_ledger_does_not_have_is_no_past_of_it() {
        let (store, _) = ledger(5).await;
        let past = Past::new(Arc::new(store)).expecting([3], 9);
        assert!(past.root(3).await.is_err() && past.consistency(3, 9).await.is_err() && past.root(6).await.is_err());
        assert!(past.root(5).await.is_ok() && past.consistency(6, 3).await.is_err());
    }
}
