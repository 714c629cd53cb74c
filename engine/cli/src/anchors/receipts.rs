//! The receipts on record, and what each anchor lacks.

use std::collections::BTreeMap;

use runbook_model::{Event, Notice, RunId, Sha256};
use runbook_report::RunView;
use runbook_report::json::AnchorLine;
use runbook_store::SqliteStore;

use crate::failure::Failure;
use crate::project::Project;
use crate::record;

/// A receipt on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) kind: String,
    /// Size of the head.
    pub(crate) size: u64,
    pub(crate) root: Sha256,
    /// Blob with the receipt.
    pub(crate) receipt: Sha256,
    /// When it was recorded.
    pub(crate) at: String,
    /// Place in the ledger of its notice.
    pub(crate) seq: u64,
}

/// The receipts on record by anchor, in the ledger's order.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    by: BTreeMap<String, Vec<Held>>,
    /// Places of all their notices.
    notices: Vec<u64>,
}

impl Receipts {
    /// Reads them.
    pub(crate) async fn read(store: &SqliteStore) -> Result<Self, Failure> {
        let mut receipts = Self::default();
        record::read(store, &RunId::installation(), 0, |record| {
            if let Event::Installation(Notice::Anchored { anchor, kind, size, root, receipt }) = record.event {
                receipts.notices.push(record.seq);
                let held = Held { kind, size, root, receipt, at: record.time, seq: record.seq };
                receipts.by.entry(anchor).or_default().push(held);
            }
        })
        .await?;
        Ok(receipts)
    }

    /// All of them with their anchor's name.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&str, &Held)> {
        self.by.iter().flat_map(|(name, held)| held.iter().map(move |held| (name.as_str(), held)))
    }

    /// The one with the largest head that an anchor gave.
    pub(crate) fn largest(&self, anchor: &str) -> Option<&Held> {
        self.by.get(anchor).into_iter().flatten().max_by_key(|held| held.size)
    }

    /// The size of that head; 0 for none.
    pub(crate) fn size(&self, anchor: &str) -> u64 {
        self.largest(anchor).map_or(0, |held| held.size)
    }

    /// How many of the ledger's first `size` records an anchor lacks; notices of receipts do not count.
    pub(crate) fn lacking(&self, anchor: &str, size: u64) -> u64 {
        let from = self.size(anchor);
        let own = self.notices.iter().filter(|seq| (from..size).contains(*seq)).count() as u64;
        size.saturating_sub(from).saturating_sub(own)
    }

    /// Whether the record at this place is the notice of a receipt.
    pub(crate) fn is_notice(&self, seq: u64) -> bool {
        self.notices.binary_search(&seq).is_ok()
    }
}

/// What a view shows of the anchors: those that are set up, and those that were and have left receipts.
pub(crate) async fn lines(store: &SqliteStore, project: &Project, view: &RunView) -> Result<Vec<AnchorLine>, Failure> {
    let receipts = Receipts::read(store).await?;
    let mut kinds: BTreeMap<&str, &str> = receipts.all().map(|(name, held)| (name, held.kind.as_str())).collect();
    kinds.extend(project.settings.anchors.iter().map(|anchor| (anchor.name.as_str(), anchor.kind.name())));
    let size = view.last_seq.map_or(0, |seq| seq + 1);
    let line = |(name, kind): (&str, &str)| {
        let covering =
            receipts.by.get(name).into_iter().flatten().filter(|held| held.size >= size).min_by_key(|held| held.size);
        let shown = covering.or_else(|| receipts.largest(name));
        AnchorLine {
            name: name.to_owned(),
            kind: shown.map_or(kind, |held| held.kind.as_str()).to_owned(),
            size: shown.map(|held| held.size),
            root: shown.map(|held| held.root.to_string()),
            at: shown.map(|held| held.at.clone()),
            record: shown.map(|held| held.seq),
            covers_run: covering.is_some(),
            after_ms: covering.and_then(|held| AnchorLine::lag_ms(&held.at, view.last_ms)),
            waiting: 0,
            waiting_since: None,
        }
    };
    let mut lines: Vec<AnchorLine> = kinds.into_iter().map(line).collect();
    if let Some(run) = view.run().filter(|_| lines.iter().any(|line| !line.covers_run)) {
        record::read(store, run, 0, |record| {
            for line in lines.iter_mut().filter(|line| record.seq >= line.size.unwrap_or(0)) {
                line.waiting += 1;
                line.waiting_since.get_or_insert_with(|| record.time.clone());
            }
        })
        .await?;
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(seq: u64, size: u64) -> Held {
        let none = Sha256([0; 32]);
        Held { kind: "file".into(), size, root: none, receipt: none, at: String::new(), seq }
    }

    #[test]
    fn the_notices_of_receipts_are_not_lacking_and_everything_else_is() {
        let mut receipts = Receipts::default();
        assert_eq!(receipts.lacking("a", 10), 10);
        // Two anchors took the head of 10; the notices are the records 10 and 11.
        receipts.by.insert("a".into(), vec![held(10, 10)]);
        receipts.by.insert("b".into(), vec![held(11, 10)]);
        receipts.notices = vec![10, 11];
        assert_eq!((receipts.lacking("a", 12), receipts.lacking("b", 12), receipts.lacking("c", 12)), (0, 0, 10));
        assert_eq!((receipts.lacking("a", 15), receipts.size("a")), (3, 10));
        assert!(receipts.is_notice(11) && !receipts.is_notice(12));
    }
}
