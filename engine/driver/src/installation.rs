//! Records that belong to no run: what happened to the ledger itself, and to evidence after its run.

use std::sync::Arc;

use runbook_ledger::{Checkpoint, Sealer, VerifierKey};
use runbook_model::record::Record;
use runbook_model::{Event, Notice, RunId, Sha256};
use runbook_ports::store::{self, Append, StoreError};
use runbook_ports::{Clock, Signer, Store};

use crate::DriverError;
use crate::journal::{TRIES_MAX, sign_head};

/// Where they are written.
pub struct Installation {
    /// The ledger.
    pub store: Arc<dyn Store>,
    /// Its key.
    pub signer: Arc<dyn Signer>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The ledger's name.
    pub origin: String,
}

impl Installation {
    /// Appends notices and signs the ledger's head over them; all or nothing, durable when it returns. Other processes
    /// may append at the same time. Returns the records.
    ///
    /// # Errors
    /// When it cannot be recorded, or the ledger's last signed head is not by this key, or the ledger has shrunk.
    pub async fn append(
        &self,
        notices: Vec<Notice>,
        blobs: Vec<(Sha256, Vec<u8>)>,
    ) -> Result<Vec<Record>, DriverError> {
        let fault = |cause: String| DriverError::Evidence { cause, run: None };
        let failed = |error: StoreError| DriverError::from_store(error, None);
        let run = RunId::installation();
        let key =
            VerifierKey::new(&self.origin, &self.signer.public_key()).map_err(|error| fault(error.to_string()))?;
        let events: Vec<Event> = notices.into_iter().map(Event::Installation).collect();
        for _ in 0..TRIES_MAX {
            // The signed head first: see the journal of a run.
            let last = self.store.last_checkpoint().await.map_err(failed)?;
            let last = last.map(|last| Checkpoint::verify(&last.note, &key)).transpose().map_err(|error| {
                fault(format!("the last signed head of the ledger is not by this project's key: {error}"))
            })?;
            let head = self.store.head().await.map_err(failed)?;
            let mut sealer = Sealer::new(&head).map_err(|error| fault(error.to_string()))?;
            let from = length(&*self.store, &run).await.map_err(failed)?;
            let (now_ms, mono_ms) = (self.clock.now_ms(), self.clock.mono_ms());
            let mut records = Vec::with_capacity(events.len());
            for (run_seq, event) in (from..).zip(&events) {
                let sealed = sealer.seal(now_ms, mono_ms, &run, run_seq, event);
                records.push(sealed.map_err(|error| fault(error.to_string()))?);
            }
            let (signed, note) = sign_head(&sealer, &key, &*self.signer, last.as_ref()).map_err(fault)?;
            let append = Append {
                expected_size: head.size,
                fence: None,
                records: records.clone(),
                head: sealer.head(),
                checkpoint: Some(store::Checkpoint { size: signed.size, note }),
                blobs: blobs.clone(),
                index: None,
            };
            match self.store.append(append).await {
                Ok(()) => {
                    let read = |sealed: &store::Sealed| runbook_ledger::record::parse(&sealed.bytes);
                    return records
                        .iter()
                        .map(read)
                        .collect::<Result<_, _>>()
                        .map_err(|error| fault(error.to_string()));
                }
                Err(StoreError::HeadMoved(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(fault("other processes append all the time".into()))
    }
}

/// How many records a run has, in a few reads whatever their number.
async fn length(store: &dyn Store, run: &RunId) -> Result<u64, StoreError> {
    let mut there = 0_u64;
    let mut step = 1_u64;
    // First outward, until a place is empty, then back by halves: `there` records are known to be there.
    while !store.records(run, there + step - 1, 1).await?.is_empty() {
        there += step;
        step *= 2;
    }
    while step > 1 {
        step /= 2;
        if !store.records(run, there + step - 1, 1).await?.is_empty() {
            there += step;
        }
    }
    Ok(there)
}

#[cfg(test)]
mod tests {
    use runbook_ledger::{FileKey, Verifier};
    use runbook_model::event::ClockState;
    use runbook_testkit::memory_store::MemoryStore;
    use runbook_testkit::virtual_clock::VirtualClock;

    use super::*;

    struct Key(FileKey);

    impl Signer for Key {
        fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], String> {
            Ok(self.0.sign(bytes))
        }

        fn public_key(&self) -> [u8; 32] {
            self.0.public_key()
        }
    }

    fn installation(store: &MemoryStore) -> Installation {
        Installation {
            store: Arc::new(store.clone()),
            signer: Arc::new(Key(FileKey::from_seed([3; 32]))),
            clock: Arc::new(VirtualClock::new()),
            origin: "runbook/here".into(),
        }
    }

    fn heartbeat() -> Notice {
        Notice::Heartbeat { clock: ClockState::default() }
    }

    #[tokio::test]
    async fn notices_are_numbered_without_gaps_whatever_their_number() {
        let store = MemoryStore::new();
        let installation = installation(&store);
        for written in 0..40_u64 {
            let records = installation.append(vec![heartbeat()], Vec::new()).await.unwrap();
            assert_eq!((records[0].run_seq, records[0].seq), (written, written));
            assert_eq!(length(&store, &RunId::installation()).await.unwrap(), written + 1);
        }
        let two = installation.append(vec![heartbeat(), heartbeat()], Vec::new()).await.unwrap();
        assert_eq!(two.iter().map(|record| record.run_seq).collect::<Vec<_>>(), [40, 41]);
        let mut verifier = Verifier::new([]);
        for sealed in store.ledger(0, usize::MAX).await.unwrap() {
            verifier.push_sealed(&sealed).unwrap();
        }
        assert_eq!(store.last_checkpoint().await.unwrap().unwrap().size, 42);
    }

    #[tokio::test]
    async fn two_who_append_at_once_both_get_a_place() {
        let store = MemoryStore::new();
        let (one, two) = (installation(&store), installation(&store));
        let many = async |who: &Installation| {
            for _ in 0..20 {
                who.append(vec![heartbeat()], Vec::new()).await.unwrap();
            }
        };
        tokio::join!(many(&one), many(&two));
        assert_eq!(length(&store, &RunId::installation()).await.unwrap(), 40);
    }

    #[tokio::test]
    async fn another_key_than_the_one_that_signed_last_writes_nothing() {
        let store = MemoryStore::new();
        installation(&store).append(vec![heartbeat()], Vec::new()).await.unwrap();
        let other = Installation { signer: Arc::new(Key(FileKey::from_seed([4; 32]))), ..installation(&store) };
        assert!(matches!(other.append(vec![heartbeat()], Vec::new()).await, Err(DriverError::Evidence { .. })));
        assert_eq!(store.head().await.unwrap().size, 1);
    }
}
