//! What every bundle has: the key, the signed head with its tree and proofs, receipts, records, contents.

use std::collections::BTreeMap;

use runbook_ledger::tile::{Prover, Tiler};
use runbook_ledger::tlog_proof::TlogProof;
use runbook_ledger::tree::{Frontier, leaf_hash};
use runbook_model::Sha256;
use runbook_ports::store::{Sealed, StoreError};
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::bundle::{self, Signing, Stamp};
use runbook_store::{Reading, SqliteStore};
use tokio::task::JoinHandle;

use super::head::{CHECKPOINT, Head};
use super::pipe::{Inner, Measured, Piped};
use super::target::Target;
use super::{PAGE, not_whole};
use crate::anchors::verify::RECEIPT_BYTES_MAX;
use crate::failure::Failure;
use crate::record;

/// A content up to this length is read whole; a longer one is streamed.
const SMALL_MAX: u64 = 64 * 1024;

/// A bundle that is being written, without what is of a run.
pub(super) struct Base<'a> {
    pub(super) store: SqliteStore,
    pub(super) signing: Signing<'a>,
    pub(super) target: Target,
    /// Contents that are not there, a sentence each.
    pub(super) missing: Vec<String>,
    /// Digests of outputs' contents, by their blob.
    pub(super) digests: BTreeMap<Sha256, Sha256>,
    /// How long contents are said to be: in an archive they are then read once only.
    pub(super) said: BTreeMap<Sha256, u64>,
    /// One of them was not: the archive is spoilt.
    pub(super) deceived: bool,
    /// Lengths of large contents that were written.
    pub(super) lengths: BTreeMap<Sha256, u64>,
    /// Time stamps among the receipts.
    pub(super) stamps: Vec<Stamp>,
    /// The large content that is written now, and the one that comes next, while they are measured.
    now: Option<(Sha256, Measuring)>,
    next: Option<(Sha256, Measuring)>,
}

/// A content that is measured on another thread.
type Measuring = JoinHandle<std::io::Result<Measured>>;

fn measure(reading: Result<Reading, StoreError>) -> Measuring {
    tokio::task::spawn_blocking(|| Measured::of(reading.map_err(std::io::Error::other)?))
}

impl<'a> Base<'a> {
    pub(super) fn new(store: SqliteStore, signing: Signing<'a>, target: Target) -> Self {
        Self {
            store,
            signing,
            target,
            missing: Vec::new(),
            digests: BTreeMap::new(),
            said: BTreeMap::new(),
            deceived: false,
            lengths: BTreeMap::new(),
            stamps: Vec::new(),
            now: None,
            next: None,
        }
    }
}

impl Base<'_> {
    pub(super) fn trust(&mut self) -> Result<(), Failure> {
        let key = self.signing.key;
        self.target.put("trust/allowed_signers", bundle::allowed_signers(key).as_bytes())?;
        self.target.put("trust/log.pem", runbook_ledger::pem::public_key(&key.public_key()).as_bytes())?;
        self.target.put("trust/log.vkey", format!("{key}\n").as_bytes())?;
        Ok(())
    }

    /// The signed head, the tree's tiles, and a proof for each of these records and of those that the head tells of.
    pub(super) async fn ledger(&mut self, head: &Head, records: &[u64]) -> Result<(), Failure> {
        let size = head.checkpoint.size;
        self.target.put(CHECKPOINT, head.note.as_bytes())?;
        let (mut tiler, mut tree) = (Tiler::new(), Frontier::new());
        let mut wanted = records.to_vec();
        wanted.extend(&head.notices);
        wanted.sort_unstable();
        let mut prover = Prover::new(wanted.clone());
        let target = &mut self.target;
        let mut put = |tile: runbook_ledger::tile::Tile, bytes: &[u8]| {
            target.put(&format!("ledger/{}", tile.path()), bytes).map(|_| ())
        };
        while tree.size() < size {
            let page = self.store.ledger(tree.size(), PAGE).await.map_err(|error| record::failed(&error))?;
            if page.is_empty() {
                return Err(not_whole("records that were signed are missing from the ledger"));
            }
            for sealed in page.into_iter().take(usize::try_from(size - tree.size()).unwrap_or(PAGE)) {
                if sealed.seq != tree.size() {
                    return Err(not_whole(&format!("record {} is missing from the ledger", tree.size())));
                }
                tree.push(sealed.leaf);
                prover.push(sealed.leaf);
                tiler.push(sealed.leaf, &mut put)?;
            }
        }
        tiler.finish(&mut put)?;
        if tree.root() != head.checkpoint.root {
            return Err(not_whole("the ledger's records do not have the root that was signed"));
        }
        for seq in wanted {
            let path = prover.path(seq).ok_or_else(|| not_whole("a record of the run is beyond the signed head"))?;
            let proof = TlogProof { index: seq, path, checkpoint: head.note.clone() };
            self.target.put(&format!("ledger/proofs/{seq}.tlog-proof"), proof.text().as_bytes())?;
        }
        if let Some(consistency) = &head.consistency {
            self.target.put("ledger/consistency-to-anchor.txt", consistency.text().as_bytes())?;
        }
        Ok(())
    }

    pub(super) async fn anchors(&mut self, head: &Head) -> Result<(), Failure> {
        for anchor in &head.anchors {
            let (file, head) = (anchor.file.clone(), anchor.head.clone());
            self.content(&anchor.sha256, &file, &format!("the receipt of {}", anchor.anchor), false).await?;
            if anchor.kind == "rfc3161"
                && let Ok(receipt) = self.store.get(&anchor.sha256, RECEIPT_BYTES_MAX).await
                && let Ok(stamp) = runbook_ledger::timestamp::parse(&receipt)
            {
                self.stamps.push(Stamp { file, head, time_s: stamp.time_s });
            }
        }
        for (file, note) in &head.others {
            self.target.put(file, note.as_bytes())?;
        }
        if !head.anchors.is_empty() {
            let list = serde_json::json!({"schema": "anchors/v1", "anchors": head.anchors});
            self.target.put("anchors/anchors.json", format!("{list}\n").as_bytes())?;
        }
        Ok(())
    }

    /// The records that belong to no run.
    pub(super) async fn notices(&mut self, head: &Head) -> Result<(), Failure> {
        for seq in &head.notices {
            for sealed in self.store.ledger(*seq, 1).await.map_err(|error| record::failed(&error))? {
                self.record(&sealed)?;
            }
        }
        Ok(())
    }

    pub(super) fn record(&mut self, sealed: &Sealed) -> Result<(), Failure> {
        if leaf_hash(&sealed.bytes) != sealed.leaf {
            return Err(not_whole(&format!("record {} is not as it was sealed", sealed.seq)));
        }
        self.target.put(&format!("records/{}.json", sealed.seq), &sealed.bytes)?;
        Ok(())
    }

    /// A content. Of one that is a salted output, the digest of what is in it is kept for `run/v1`.
    pub(super) async fn content(
        &mut self,
        digest: &Sha256,
        file: &str,
        what: &str,
        salted: bool,
    ) -> Result<(), Failure> {
        let inner = match self.store.get(digest, SMALL_MAX).await {
            Ok(bytes) => {
                self.target.put(file, &bytes)?;
                let mut inner = Inner::default();
                inner.push(&bytes);
                inner.finish()
            }
            Err(StoreError::TooLarge(_)) => match self.large(digest, file).await? {
                Ok(inner) => {
                    self.lengths.insert(*digest, inner.bytes);
                    inner
                }
                Err(error) => return self.lacks(what, error),
            },
            Err(error) => return self.lacks(what, error),
        };
        if salted {
            self.digests.insert(*digest, inner.inner);
        }
        Ok(())
    }

    /// A content that is kept as a file: read on a thread of its own. For an archive its length must be known: when nothing
    /// says it, it is read once before; [`Self::look_ahead`] has begun with that.
    async fn large(&mut self, digest: &Sha256, file: &str) -> Result<Result<Measured, StoreError>, Failure> {
        let ahead = self.now.take().filter(|(of, _)| of == digest).map(|(_, task)| task);
        let reading = match self.store.reading(digest) {
            Ok(reading) => reading,
            Err(error) => return Ok(Err(error)),
        };
        let damaged = || Ok(Err(StoreError::Corrupt(format!("blob {digest}"))));
        let said = self.said.get(digest).copied();
        if !self.target.is_archive() || said.is_some() {
            let mut inner = Inner::default();
            let whole =
                self.target.checked(file, digest, said, Piped::begin(reading), &mut |piece| inner.push(piece))?;
            if whole {
                return Ok(Ok(inner.finish()));
            }
            self.deceived = self.target.is_archive();
            return if self.deceived { Err(not_whole("a content is not as its record says")) } else { damaged() };
        }
        let measured = match ahead {
            Some(task) => task.await,
            None => measure(self.store.reading(digest)).await,
        };
        let measured = match measured.map_err(crate::failure::fault)? {
            Ok(measured) => measured,
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return damaged(),
            Err(error) => return Err(record::failed(&StoreError::Failed(error.to_string()))),
        };
        match self.target.checked(file, digest, Some(measured.bytes), Piped::begin(reading), &mut |_| ())? {
            true => Ok(Ok(measured)),
            false => Err(self.target.failed(&std::io::Error::other(format!("{file} changed while it was read")))),
        }
    }

    /// Of two large contents that follow each other: the second is measured while the first is written.
    pub(super) fn look_ahead(&mut self, now: &Sha256, next: Option<&Sha256>) {
        if self.target.is_archive() {
            self.now = self.next.take().filter(|(of, _)| of == now);
            let next = next.filter(|next| !self.said.contains_key(*next));
            self.next = next.map(|next| (*next, measure(self.store.reading(next))));
        }
    }

    /// A content that is not there, or not as it was, is told of; the rest is exported.
    pub(super) fn lacks(&mut self, what: &str, error: StoreError) -> Result<(), Failure> {
        match error {
            StoreError::Missing(_) => self.missing.push(format!("{what} is not in the store any more")),
            StoreError::Corrupt(_) => self.missing.push(format!("{what} is damaged in the store")),
            error => return Err(record::failed(&error)),
        }
        Ok(())
    }
}
