//! What the ledger was at earlier sizes: read from the store as a stream, in memory that does not grow with it.

use std::ops::Range;

use async_trait::async_trait;
use runbook_ledger::proof;
use runbook_ledger::tree::Frontier;
use runbook_model::Sha256;
use runbook_ports::Store as _;
use runbook_ports::anchor::History;
use runbook_store::SqliteStore;

/// Records read at once.
const PAGE: usize = 1_000;

/// The ledger's past.
pub(super) struct Past(pub(super) SqliteStore);

impl Past {
    /// The roots over these ranges of records, which may overlap, in one pass.
    pub(super) async fn roots(&self, ranges: &[Range<u64>]) -> Result<Vec<Sha256>, String> {
        let mut trees: Vec<Frontier> = ranges.iter().map(|_| Frontier::new()).collect();
        let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
        let mut next = ranges.iter().map(|range| range.start).min().unwrap_or(0);
        while next < end {
            let page = self.0.ledger(next, PAGE).await.map_err(|error| error.to_string())?;
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
}

#[async_trait]
impl History for Past {
    async fn root(&self, size: u64) -> Result<Sha256, String> {
        let roots = self.roots(std::slice::from_ref(&(0..size))).await?;
        Ok(roots[0])
    }

    async fn consistency(&self, smaller: u64, larger: u64) -> Result<Vec<Sha256>, String> {
        let ranges = proof::consistency_ranges(smaller, larger)
            .ok_or_else(|| format!("{smaller} records are no beginning of {larger}"))?;
        self.roots(&ranges).await
    }
}
