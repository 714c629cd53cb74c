//! Verifying a ledger as a stream: record by record, in memory that grows with the number of runs only, naming the
//! first record that is not as it was sealed.

use std::collections::{BTreeMap, VecDeque};

use runbook_model::record::{Head, Record, Sealed};
use runbook_model::{RunId, Sha256};

use crate::checkpoint::Checkpoint;
use crate::record::{self, first_prev, parse};
use crate::tree::{Frontier, leaf_hash};

/// The first thing found wrong.
#[derive(Debug, thiserror::Error)]
#[error("record {seq}: {what}")]
pub struct Fault {
    /// The place in the ledger.
    pub seq: u64,
    /// What is wrong there.
    pub what: What,
}

/// What is wrong with a record, or with the ledger at its place.
#[derive(Debug, thiserror::Error)]
pub enum What {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] record::Error),
    /// It says that it belongs elsewhere: records are missing, or were put in or exchanged.
    #[error("it says that it is record {0}")]
    OtherSeq(u64),
    /// The record before it is not the one that it was sealed on.
    #[error("it was sealed on another record than the one before it")]
    OtherPrev,
    /// A record of its run is missing, or is there twice.
    #[error("it is record {found} of run {run}, and record {expected} was due")]
    OtherRunSeq {
        /// The run.
        run: RunId,
        /// What was due.
        expected: u64,
        /// What it says.
        found: u64,
    },
    /// The store keeps another hash, run or place for it than its bytes give.
    #[error("its bytes are not what the store's index says of them")]
    OtherIndex,
    /// A signed head says otherwise.
    #[error("the ledger up to here does not have the root that was signed: a record up to here was changed")]
    OtherRoot,
    /// A signed head is of a longer ledger.
    #[error("a ledger of {signed} records was signed: from here on they are missing")]
    Missing {
        /// The size signed.
        signed: u64,
    },
    /// The stored end is not the end of the records.
    #[error("the ledger's stored end is not the end of its records")]
    OtherHead,
}

/// Reads a ledger from its first record on.
#[derive(Debug, Default)]
pub struct Verifier {
    tree: Frontier,
    last_leaf: Option<Sha256>,
    runs: BTreeMap<RunId, u64>,
    signed: VecDeque<(u64, Sha256)>,
}

impl Verifier {
    /// At the beginning of a ledger whose heads were signed as given (their signatures verified already).
    pub fn new(checkpoints: impl IntoIterator<Item = Checkpoint>) -> Self {
        let mut signed: Vec<_> = checkpoints.into_iter().map(|at| (at.size, at.root)).collect();
        signed.sort_unstable();
        signed.dedup();
        Self { signed: signed.into(), ..Self::default() }
    }

    /// The next record's bytes.
    ///
    /// # Errors
    /// The first fault. The verifier is of no use after it.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Record, Fault> {
        let seq = self.tree.size();
        if seq == 0 {
            self.compare_roots()?;
        }
        let fault = |what: What| Fault { seq, what };
        let record = parse(bytes).map_err(|error| fault(error.into()))?;
        if record.seq != seq {
            return Err(fault(What::OtherSeq(record.seq)));
        }
        if record.prev != self.last_leaf.unwrap_or_else(first_prev) {
            return Err(fault(What::OtherPrev));
        }
        let due = self.runs.entry(record.run.clone()).or_default();
        if record.run_seq != *due {
            let what = What::OtherRunSeq { run: record.run, expected: *due, found: record.run_seq };
            return Err(fault(what));
        }
        *due += 1;
        let leaf = leaf_hash(bytes);
        self.tree.push(leaf);
        self.last_leaf = Some(leaf);
        self.compare_roots()?;
        Ok(record)
    }

    /// The next record as a store keeps it: what it says beside the bytes must be what is in them.
    ///
    /// # Errors
    /// The first fault.
    pub fn push_sealed(&mut self, sealed: &Sealed) -> Result<Record, Fault> {
        let record = self.push(&sealed.bytes)?;
        let index = (sealed.seq, &sealed.run, sealed.run_seq, Some(sealed.leaf));
        if index != (record.seq, &record.run, record.run_seq, self.last_leaf) {
            return Err(Fault { seq: record.seq, what: What::OtherIndex });
        }
        Ok(record)
    }

    /// The next record, of which only its hash and its place are left because its body was removed. What the store says
    /// of its run cannot be checked any more; whether it may be gone is for the caller to know.
    ///
    /// # Errors
    /// The first fault.
    pub fn push_purged(&mut self, sealed: &Sealed) -> Result<(), Fault> {
        let seq = self.tree.size();
        if seq == 0 {
            self.compare_roots()?;
        }
        if sealed.seq != seq {
            return Err(Fault { seq, what: What::OtherSeq(sealed.seq) });
        }
        let due = self.runs.entry(sealed.run.clone()).or_default();
        if sealed.run_seq != *due {
            let what = What::OtherRunSeq { run: sealed.run.clone(), expected: *due, found: sealed.run_seq };
            return Err(Fault { seq, what });
        }
        *due += 1;
        self.tree.push(sealed.leaf);
        self.last_leaf = Some(sealed.leaf);
        self.compare_roots()
    }

    /// There are no more records.
    ///
    /// # Errors
    /// `Missing` when a longer ledger was signed; `OtherHead` when `head` (what the store keeps as its end) is not what
    /// the records come to.
    pub fn finish(&mut self, head: Option<&Head>) -> Result<(), Fault> {
        let seq = self.tree.size();
        if seq == 0 {
            self.compare_roots()?;
        }
        if let Some((signed, _)) = self.signed.back() {
            return Err(Fault { seq, what: What::Missing { signed: *signed } });
        }
        if head.is_some_and(|head| *head != self.head()) {
            return Err(Fault { seq, what: What::OtherHead });
        }
        Ok(())
    }

    /// How many records were read.
    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The root of what was read.
    pub fn root(&self) -> Sha256 {
        self.tree.root()
    }

    /// The end of what was read.
    pub fn head(&self) -> Head {
        Head { size: self.tree.size(), last_leaf: self.last_leaf, frontier: self.tree.roots().to_vec() }
    }

    fn compare_roots(&mut self) -> Result<(), Fault> {
        let size = self.tree.size();
        while let Some((_, root)) = self.signed.front().filter(|(signed, _)| *signed == size) {
            if *root != self.tree.root() {
                return Err(Fault { seq: size.saturating_sub(1), what: What::OtherRoot });
            }
            self.signed.pop_front();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use runbook_model::{Event, HostName};

    use super::*;
    use crate::record::Sealer;

    fn run(n: u64) -> RunId {
        format!("019aab00-0000-7000-8000-{n:012}").into()
    }

    /// A ledger of two runs that take turns.
    fn ledger(size: u64) -> (Vec<Sealed>, Vec<Checkpoint>) {
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        let mut records = Vec::new();
        let mut checkpoints = Vec::new();
        for seq in 0..size {
            let event = Event::HostStarted { host: HostName::from(format!("web{seq}")), begun_ms: None };
            records.push(sealer.seal(seq, seq, &run(seq % 2), seq / 2, &event).unwrap());
            if seq % 3 == 0 {
                checkpoints.push(Checkpoint { origin: "here".into(), size: sealer.size(), root: sealer.root() });
            }
        }
        (records, checkpoints)
    }

    fn verify(records: &[Sealed], checkpoints: &[Checkpoint]) -> Result<Head, Fault> {
        let mut verifier = Verifier::new(checkpoints.to_vec());
        for record in records {
            verifier.push_sealed(record)?;
        }
        verifier.finish(None)?;
        Ok(verifier.head())
    }

    /// Seals the bytes as they are now: a forger who can do sums.
    fn reindex(record: &mut Sealed) {
        record.leaf = leaf_hash(&record.bytes);
    }

    #[test]
    fn a_whole_ledger_verifies() {
        let (records, checkpoints) = ledger(20);
        assert_eq!(verify(&records, &checkpoints).unwrap().size, 20);
        assert_eq!(verify(&[], &[]).unwrap(), Head::default());
    }

    #[test]
    fn a_changed_record_is_named_by_the_one_sealed_on_it() {
        let (mut records, _) = ledger(9);
        let text = String::from_utf8(records[4].bytes.clone()).unwrap();
        records[4].bytes = text.replace("web4", "web5").into_bytes();
        let fault = verify(&records, &[]).unwrap_err();
        assert!(matches!(fault, Fault { seq: 4, what: What::OtherIndex }), "{fault}");
        reindex(&mut records[4]);
        let fault = verify(&records, &[]).unwrap_err();
        assert!(matches!(fault, Fault { seq: 5, what: What::OtherPrev }), "{fault}");
    }

    #[test]
    fn a_missing_a_doubled_and_an_exchanged_record_are_named() {
        let (records, _) = ledger(9);
        let mut missing = records.clone();
        missing.remove(3);
        assert!(matches!(verify(&missing, &[]).unwrap_err(), Fault { seq: 3, what: What::OtherSeq(4) }));
        let mut doubled = records.clone();
        doubled.insert(3, records[3].clone());
        assert!(matches!(verify(&doubled, &[]).unwrap_err(), Fault { seq: 4, what: What::OtherSeq(3) }));
        let mut exchanged = records;
        exchanged.swap(3, 4);
        assert!(matches!(verify(&exchanged, &[]).unwrap_err(), Fault { seq: 3, what: What::OtherSeq(4) }));
    }

    #[test]
    fn a_cut_tail_is_seen_by_the_signed_head() {
        let (records, checkpoints) = ledger(20);
        assert!(verify(&records[..15], &[]).is_ok(), "a chain alone cannot see it");
        let fault = verify(&records[..15], &checkpoints).unwrap_err();
        assert!(matches!(fault, Fault { seq: 15, what: What::Missing { signed: 19 } }), "{fault}");
        assert!(matches!(verify(&[], &checkpoints).unwrap_err(), Fault { seq: 0, what: What::Missing { .. } }));
    }

    #[test]
    fn a_ledger_written_anew_is_seen_by_the_signed_head() {
        let (_, checkpoints) = ledger(20);
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        let forged: Vec<_> = (0..20).map(|seq| sealer.seal(0, 0, &run(0), seq, &Event::RunStarted).unwrap()).collect();
        let fault = verify(&forged, &checkpoints).unwrap_err();
        assert!(matches!(fault, Fault { seq: 0, what: What::OtherRoot }), "{fault}");
    }

    #[test]
    fn a_gap_within_a_run_is_named_although_the_ledger_is_whole() {
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        let records: Vec<_> = [0, 1, 3].map(|n| sealer.seal(0, 0, &run(0), n, &Event::RunStarted).unwrap()).into();
        let fault = verify(&records, &[]).unwrap_err();
        assert!(matches!(fault, Fault { seq: 2, what: What::OtherRunSeq { expected: 2, found: 3, .. } }), "{fault}");
    }

    #[test]
    fn a_record_without_its_body_keeps_its_place_and_only_there() {
        let (records, checkpoints) = ledger(9);
        let purge = |records: &[Sealed]| {
            let mut verifier = Verifier::new(checkpoints.to_vec());
            for record in records {
                if record.bytes.is_empty() {
                    verifier.push_purged(record)?;
                } else {
                    verifier.push_sealed(record)?;
                }
            }
            verifier.finish(None)
        };
        let mut purged = records;
        for record in purged.iter_mut().filter(|record| record.run == run(1)) {
            record.bytes.clear();
        }
        assert!(purge(&purged).is_ok());
        let mut other_leaf = purged.clone();
        other_leaf[3].leaf = first_prev();
        assert!(matches!(purge(&other_leaf).unwrap_err(), Fault { seq: 3, what: What::OtherRoot }));
        let mut other_run = purged.clone();
        other_run[3].run = run(0);
        assert!(matches!(purge(&other_run).unwrap_err(), Fault { seq: 3, what: What::OtherRunSeq { .. } }));
        purged.remove(3);
        assert!(matches!(purge(&purged).unwrap_err(), Fault { seq: 3, what: What::OtherSeq(4) }));
    }

    #[test]
    fn a_stored_end_that_is_not_the_end_is_seen() {
        let (records, _) = ledger(7);
        let mut verifier = Verifier::new([]);
        for record in &records {
            verifier.push(&record.bytes).unwrap();
        }
        let mut head = verifier.head();
        assert!(verifier.finish(Some(&head)).is_ok());
        head.frontier[0] = first_prev();
        assert!(matches!(verifier.finish(Some(&head)), Err(Fault { seq: 7, what: What::OtherHead })));
    }

    proptest! {
        #[test]
        fn no_changed_byte_survives_a_signed_head(record in 0_usize..10, at in 0_usize..200, to: u8) {
            let (mut records, checkpoints) = ledger(10);
            let bytes = &mut records[record].bytes;
            let at = at % bytes.len();
            let was = std::mem::replace(&mut bytes[at], to);
            reindex(&mut records[record]);
            let verified = verify(&records, &checkpoints);
            prop_assert_eq!(verified.is_ok(), was == to);
            if let Err(fault) = verified {
                prop_assert!(fault.seq as usize <= record + 1);
            }
        }
    }
}
