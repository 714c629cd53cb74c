//! Events become records: sealed, signed from time to time, appended under the run's fence.

use std::sync::Arc;

use runbook_ledger::{Checkpoint, Sealer, VerifierKey};
use runbook_model::event::RunHeader;
use runbook_model::record::{Record, SCHEMA};
use runbook_model::units::rfc3339_ms;
use runbook_model::{Event, RunId, RunOutcome, Sha256};
use runbook_ports::store::{self, Append, Fence, RunIndex, RunStatus, Settled, StoreError};
use runbook_ports::{Clock, Signer, Store};

use crate::DriverError;
use crate::sealing::{self, End, sign_head};

/// While a run works, its ledger's head is signed at least so often.
pub(crate) const CHECKPOINT_MS: u64 = 2_000;

/// Another process that appends at the same time moves the head; it cannot do so for ever.
pub(crate) const TRIES_MAX: u32 = 10_000;

/// The end of the ledger as one run's controller sees it.
pub(crate) struct Journal {
    store: Arc<dyn Store>,
    signer: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
    key: VerifierKey,
    run: RunId,
    fence: Fence,
    run_seq: u64,
    sealer: Sealer,
    last: Option<Checkpoint>,
    signed_mono_ms: Option<u64>,
}

/// An event and when it was decided.
pub(crate) struct Stamped {
    pub(crate) now_ms: u64,
    pub(crate) mono_ms: u64,
    pub(crate) event: Event,
}

/// What goes into the store at once.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) events: Vec<Stamped>,
    pub(crate) blobs: Vec<(Sha256, Vec<u8>)>,
    pub(crate) index: Option<RunIndex>,
    /// Sign the head whatever the time.
    pub(crate) sign: bool,
}

impl Journal {
    /// Goes on from the ledger's end.
    ///
    /// # Errors
    /// When the end does not read or was not signed with this key.
    pub(crate) async fn open(
        store: Arc<dyn Store>,
        signer: Arc<dyn Signer>,
        clock: Arc<dyn Clock>,
        origin: &str,
        run: RunId,
        fence: Fence,
        run_seq: u64,
    ) -> Result<Self, DriverError> {
        let fault = |cause: String| DriverError::Evidence { cause, run: Some(run.clone()) };
        let key = VerifierKey::new(origin, &signer.public_key()).map_err(|error| fault(error.to_string()))?;
        let End { last, sealer } = sealing::shown_end(&*store, &key, Some(&run)).await?;
        Ok(Self { store, signer, clock, key, run, fence, run_seq, sealer, last, signed_mono_ms: None })
    }

    /// Whether the head must be signed again soon.
    pub(crate) fn sign_due_in_ms(&self) -> Option<u64> {
        if self.last.as_ref().is_some_and(|last| last.size == self.sealer.size()) {
            return None;
        }
        let since = self.signed_mono_ms.map_or(CHECKPOINT_MS, |then| self.clock.mono_ms().saturating_sub(then));
        Some(CHECKPOINT_MS.saturating_sub(since))
    }

    /// Appends all or nothing; durable when it returns. The records are returned in order.
    pub(crate) async fn append(&mut self, mut group: Group) -> Result<Vec<Record>, DriverError> {
        for _ in 0..TRIES_MAX {
            let mut sealer = self.sealer.clone();
            let mut records = Vec::with_capacity(group.events.len());
            for (run_seq, stamped) in (self.run_seq..).zip(&group.events) {
                let sealed = sealer
                    .seal(stamped.now_ms, stamped.mono_ms, &self.run, run_seq, &stamped.event)
                    .map_err(|error| self.fault(error.to_string()))?;
                records.push(sealed);
            }
            let leaves: Vec<Sha256> = records.iter().map(|sealed| sealed.leaf).collect();
            let mono_ms = self.clock.mono_ms();
            let due = self.signed_mono_ms.is_none_or(|then| mono_ms.saturating_sub(then) >= CHECKPOINT_MS);
            let checkpoint = if group.sign || due { Some(self.checkpoint(&sealer)?) } else { None };
            debug_assert!(records.iter().all(|sealed| runbook_ledger::record::parse(&sealed.bytes).is_ok()));
            let append = Append {
                expected_size: self.sealer.size(),
                fence: Some((self.run.clone(), self.fence)),
                records,
                head: sealer.head(),
                checkpoint: checkpoint
                    .as_ref()
                    .map(|(head, note)| store::Checkpoint { size: head.size, note: note.clone() }),
                blobs: std::mem::take(&mut group.blobs),
                index: group.index.clone(),
                settles: settles(
                    &self.run,
                    (self.sealer.size()..).zip(group.events.iter().map(|stamped| &stamped.event)),
                ),
            };
            let blobs = append.blobs.clone();
            match self.store.append(append).await {
                Ok(()) => {
                    let records = self.records(group.events, &leaves);
                    self.run_seq += records.len() as u64;
                    self.sealer = sealer;
                    if let Some((head, _)) = checkpoint {
                        self.last = Some(head);
                        self.signed_mono_ms = Some(mono_ms);
                    }
                    return Ok(records);
                }
                Err(StoreError::HeadMoved(_)) => {
                    // Whoever appended may have signed too, and may even have replaced the key.
                    let End { last, sealer } = sealing::end(&*self.store, &self.key, Some(&self.run)).await?;
                    (self.last, self.sealer) = (last, sealer);
                    group.blobs = blobs;
                }
                Err(error) => return Err(DriverError::from_store(error, Some(&self.run))),
            }
        }
        Err(self.fault("other processes append all the time".into()))
    }

    /// What was appended, as it reads: the same values that were sealed, so that nothing is parsed again.
    fn records(&self, events: Vec<Stamped>, leaves: &[Sha256]) -> Vec<Record> {
        let prevs = std::iter::once(self.sealer.prev()).chain(leaves.iter().copied());
        let places = (self.sealer.size()..).zip(self.run_seq..);
        let records = events.into_iter().zip(prevs).zip(places).map(|((stamped, prev), (seq, run_seq))| Record {
            schema: SCHEMA.to_owned(),
            seq,
            prev,
            time: rfc3339_ms(stamped.now_ms),
            mono_ms: stamped.mono_ms,
            run: self.run.clone(),
            run_seq,
            event: stamped.event,
        });
        records.collect()
    }

    fn checkpoint(&self, sealer: &Sealer) -> Result<(Checkpoint, String), DriverError> {
        sign_head(sealer, &self.key, &*self.signer, self.last.as_ref()).map_err(|cause| self.fault(cause))
    }

    fn fault(&self, cause: String) -> DriverError {
        DriverError::Evidence { cause, run: Some(self.run.clone()) }
    }

    /// Gives up the run's lease.
    pub(crate) async fn release(&self) {
        if let Err(error) = self.store.release(&self.run, self.fence).await {
            tracing::debug!(run = %self.run, %error, "the lease was not given up");
        }
    }
}

/// The occurrence that one of these events of a run settles, each with its place in the ledger.
pub(crate) fn settles<'e>(run: &RunId, events: impl IntoIterator<Item = (u64, &'e Event)>) -> Option<Settled> {
    events
        .into_iter()
        .find_map(|(seq, event)| Some(Settled { occurrence: event.settles()?.clone(), run: run.clone(), seq }))
}

/// The run's line in the list of runs.
pub(crate) fn index(
    header: &RunHeader,
    status: RunStatus,
    outcome: Option<RunOutcome>,
    ended_ms: Option<u64>,
) -> RunIndex {
    RunIndex { header: header.clone(), status, outcome, ended_ms }
}

/// A record's time in Unix milliseconds.
pub(crate) fn unix_ms(time: &str) -> Option<u64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}
