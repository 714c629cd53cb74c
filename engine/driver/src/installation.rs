//! Records that belong to no run: what happened to the ledger itself, and to evidence after its run.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_ledger::note::add_signature;
use runbook_ledger::{Checkpoint, Sealer, VerifierKey};
use runbook_model::event::Person;
use runbook_model::notice::rotation_text;
use runbook_model::record::{self, Record};
use runbook_model::units::rfc3339_ms;
use runbook_model::{Event, Notice, RunId, Sha256};
use runbook_ports::store::{self, Append, StoreError};
use runbook_ports::{Clock, Signer, Store};

use crate::DriverError;
use crate::journal::{TRIES_MAX, settles};
use crate::sealing::{self, End, sign_head};

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

/// Notices and the contents that they name.
type Written = (Vec<Notice>, Vec<(Sha256, Vec<u8>)>);

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
        self.seal(None, |_| Ok((notices.clone(), blobs.clone()))).await
    }

    /// The same, of notices that are made for their place: `make` is given the place in the ledger of the first of them.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub async fn append_at(
        &self,
        make: impl Fn(u64) -> (Vec<Notice>, Vec<(Sha256, Vec<u8>)>),
    ) -> Result<Vec<Record>, DriverError> {
        self.seal(None, |size| Ok(make(size))).await
    }

    /// Puts another key in the place of this one: the record that says so is signed by both, and so is the head over it.
    /// From then on only the new one signs. `before` goes on record first. Durable when it returns.
    ///
    /// # Errors
    /// As [`Self::append`]. When it is an error of the store, the record may be there all the same: the head signed last
    /// says which key is in force.
    pub async fn rotate(
        &self,
        new: &dyn Signer,
        before: Vec<Notice>,
        reason: &str,
        by: &Person,
    ) -> Result<Vec<Record>, DriverError> {
        let old_key = self.key()?;
        let new_key = VerifierKey::new(&self.origin, &new.public_key()).map_err(|error| fault(error.to_string()))?;
        let notices = |size: u64| {
            let mut notices = before.clone();
            // The rotation is the last, so that the head over it is the first that the new key signs.
            let seq = size + notices.len() as u64;
            notices.push(rotation((&old_key, &*self.signer), (&new_key, new), seq, reason, by)?);
            Ok((notices, Vec::new()))
        };
        self.seal(Some((&new_key, new)), notices).await
    }

    fn key(&self) -> Result<VerifierKey, DriverError> {
        VerifierKey::new(&self.origin, &self.signer.public_key()).map_err(|error| fault(error.to_string()))
    }

    /// Seals what `notices` gives for a ledger of a size, and signs the head, with a second key too if there is one.
    async fn seal(
        &self,
        also: Option<(&VerifierKey, &dyn Signer)>,
        notices: impl Fn(u64) -> Result<Written, DriverError>,
    ) -> Result<Vec<Record>, DriverError> {
        let failed = |error: StoreError| DriverError::from_store(error, None);
        let run = RunId::installation();
        let key = self.key()?;
        for _ in 0..TRIES_MAX {
            let End { last, sealer } = sealing::shown_end(&*self.store, &key, None).await?;
            let size = sealer.size();
            let (notices, blobs) = notices(size)?;
            let from = length(&*self.store, &run).await.map_err(failed)?;
            let place = Place { run_seq: from, now_ms: self.clock.now_ms(), mono_ms: self.clock.mono_ms() };
            let keys: Vec<_> = std::iter::once((&key, &*self.signer)).chain(also).collect();
            let (records, append) = prepare(sealer, last.as_ref(), &keys, place, notices, blobs)?;
            match self.store.append(append).await {
                Ok(()) => return Ok(records),
                Err(StoreError::HeadMoved(_)) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(fault("other processes append all the time".into()))
    }
}

/// Where and when the first of some notices stands.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Among the records that belong to no run.
    pub run_seq: u64,
    /// The time (Unix ms).
    pub now_ms: u64,
    /// The monotonic clock (ms).
    pub mono_ms: u64,
}

/// Seals notices on a ledger's end, and signs the head over them with these keys, the one in force first. Nothing is
/// written: that is what the append is for. `last` is the head that was signed last.
///
/// # Errors
/// When the head contradicts the last one, or a key cannot be used.
///
/// # Panics
/// Without a key.
pub fn prepare(
    mut sealer: Sealer,
    last: Option<&Checkpoint>,
    keys: &[(&VerifierKey, &dyn Signer)],
    place: Place,
    notices: Vec<Notice>,
    blobs: Vec<(Sha256, Vec<u8>)>,
) -> Result<(Vec<Record>, Append), DriverError> {
    let run = RunId::installation();
    let Place { run_seq, now_ms, mono_ms } = place;
    let expected_size = sealer.size();
    let (mut records, mut sealed) = (Vec::with_capacity(notices.len()), Vec::with_capacity(notices.len()));
    for (run_seq, notice) in (run_seq..).zip(notices) {
        let record = Record {
            schema: record::SCHEMA.to_owned(),
            seq: sealer.size(),
            prev: sealer.prev(),
            time: rfc3339_ms(now_ms),
            mono_ms,
            run: run.clone(),
            run_seq,
            event: Event::Installation(notice),
        };
        let line = sealer.seal(now_ms, mono_ms, &run, run_seq, &record.event);
        sealed.push(line.map_err(|error| fault(error.to_string()))?);
        records.push(record);
    }
    let (first, others) = keys.split_first().expect("a head is signed by a key");
    let (signed, mut note) = sign_head(&sealer, first.0, first.1, last).map_err(fault)?;
    for (key, signer) in others {
        note = add_signature(&note, key, |bytes| signer.sign(bytes)).map_err(|error| fault(error.to_string()))?;
    }
    let append = Append {
        expected_size,
        fence: None,
        records: sealed,
        head: sealer.head(),
        checkpoint: Some(store::Checkpoint { size: signed.size, note }),
        blobs,
        index: None,
        settles: settles(&run, records.iter().map(|record| (record.seq, &record.event))),
    };
    Ok((records, append))
}

/// The notice that one key takes another's place, at this place in the ledger: signed by both.
///
/// # Errors
/// When a key cannot be used.
pub fn rotation(
    old: (&VerifierKey, &dyn Signer),
    new: (&VerifierKey, &dyn Signer),
    seq: u64,
    reason: &str,
    by: &Person,
) -> Result<Notice, DriverError> {
    let (old_key, new_key) = (old.0.to_string(), new.0.to_string());
    let text = rotation_text(&old_key, &new_key, seq);
    let sign = |key: &dyn Signer| key.sign(text.as_bytes()).map(|signature| STANDARD.encode(signature)).map_err(fault);
    let (old_signature, new_signature) = (sign(old.1)?, sign(new.1)?);
    Ok(Notice::KeyRotated { old_key, new_key, old_signature, new_signature, reason: reason.to_owned(), by: by.clone() })
}

fn fault(cause: String) -> DriverError {
    DriverError::Evidence { cause, run: None }
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
    use runbook_ledger::{FileKey, KeyChain, Verifier};
    use runbook_model::event::ClockState;
    use runbook_testkit::memory_store::{AppendFault, MemoryStore};
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
        Notice::Heartbeat { clock: ClockState::default(), every_ms: None }
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

    fn with_key(store: &MemoryStore, seed: u8) -> Installation {
        Installation { signer: Arc::new(Key(FileKey::from_seed([seed; 32]))), ..installation(store) }
    }

    fn by() -> Person {
        Person { name: "ann".into(), uid: 1000, from: None }
    }

    #[tokio::test]
    async fn nothing_is_sealed_on_an_end_that_does_not_go_on_from_the_signed_head() {
        for kind in ["whole", "record", "frontier"] {
            let store = MemoryStore::new();
            let installation = installation(&store);
            for _ in 0..5 {
                installation.append(vec![heartbeat()], Vec::new()).await.unwrap();
            }
            store.append_unsigned(3);
            match kind {
                "record" => store.change_record(6, |bytes| bytes.push(b' ')),
                "frontier" => store.change_head(|head| head.frontier[0] = Sha256::of(b"another tree")),
                _ => {}
            }
            let appended = installation.append(vec![heartbeat()], Vec::new()).await;
            match kind {
                "whole" => assert_eq!(appended.unwrap()[0].seq, 8),
                _ => assert!(matches!(appended, Err(DriverError::Evidence { .. })), "{kind}"),
            }
        }
    }

    #[tokio::test]
    async fn after_a_rotation_the_new_key_alone_goes_on() {
        let store = MemoryStore::new();
        let old = installation(&store);
        old.append(vec![heartbeat()], Vec::new()).await.unwrap();
        let new = Key(FileKey::from_seed([4; 32]));
        let records = old.rotate(&new, vec![heartbeat()], "yearly", &by()).await.unwrap();
        assert_eq!((records.len(), records[1].seq), (2, 2));
        assert!(matches!(old.append(vec![heartbeat()], Vec::new()).await, Err(DriverError::Evidence { .. })));
        assert!(old.rotate(&new, Vec::new(), "again", &by()).await.is_err());
        let newer = with_key(&store, 4);
        newer.append(vec![heartbeat()], Vec::new()).await.unwrap();
        newer.rotate(&Key(FileKey::from_seed([5; 32])), Vec::new(), "yearly", &by()).await.unwrap();
        with_key(&store, 5).append(vec![heartbeat()], Vec::new()).await.unwrap();

        let mut read = Vec::new();
        for sealed in store.ledger(0, usize::MAX).await.unwrap() {
            let record = runbook_ledger::record::parse(&sealed.bytes).unwrap();
            let Event::Installation(notice) = record.event else { unreachable!() };
            read.push((record.seq, notice));
        }
        let current = VerifierKey::new("runbook/here", &FileKey::from_seed([5; 32]).public_key()).unwrap();
        let chain = KeyChain::of(&current, read.iter().map(|(seq, notice)| (*seq, notice))).unwrap();
        assert_eq!(chain.links().iter().map(|link| link.from).collect::<Vec<_>>(), [0, 3, 5]);
        for checkpoint in store.checkpoints().await.unwrap() {
            assert_eq!(chain.verify(&checkpoint.note).unwrap().size, checkpoint.size);
        }
    }

    #[tokio::test]
    async fn a_rotation_beside_another_writer_is_signed_for_the_place_that_it_gets() {
        let store = MemoryStore::new();
        let (one, two) = (installation(&store), installation(&store));
        let new = Key(FileKey::from_seed([4; 32]));
        store.inject(1, AppendFault::HeadMoved);
        let by = by();
        let (rotated, _) = tokio::join!(
            one.rotate(&new, Vec::new(), "yearly", &by),
            // It is refused once the key has changed, and must not have got in between.
            two.append(vec![heartbeat()], Vec::new()),
        );
        let record = &rotated.unwrap()[0];
        let Event::Installation(notice) = &record.event else { unreachable!() };
        let old = VerifierKey::new("runbook/here", &FileKey::from_seed([3; 32]).public_key()).unwrap();
        assert_eq!(KeyChain::new(old).push(record.seq, notice), Ok(()));
    }
}
