//! What of a run is exported, as far as it is not streamed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runbook_ledger::KeyChain;
use runbook_ledger::segments::LINE_BYTES;
use runbook_model::outcome::OutputRef;
use runbook_model::{Event, Notice, RunId, Sha256};
use runbook_ports::Store as _;
use runbook_ports::store::RunIndex;
use runbook_report::{RunView, bundle};
use runbook_store::SqliteStore;

use super::head::Head;
use super::{PAGE, not_whole};
use crate::edition::Edition;
use crate::failure::Failure;
use crate::project::Project;
use crate::{notices, person, record};

/// A run, and what is known of it before anything is written.
pub(super) struct Source {
    pub(super) run: RunId,
    pub(super) view: Arc<RunView>,
    /// What is withheld.
    pub(super) edition: Edition,
    /// Places in the ledger of the run's records.
    pub(super) seqs: Vec<u64>,
    /// Digests of the records that say how a cell ended, by their place.
    pub(super) ends: BTreeMap<u64, Sha256>,
    /// Contents that the records name.
    pub(super) named: BTreeSet<Sha256>,
    /// Those that are lists of transfers.
    pub(super) lists: BTreeSet<Sha256>,
    /// Those that are outputs with a line for the seed in front.
    pub(super) salted: BTreeSet<Sha256>,
    /// How long outputs are as they are stored, by what their records say.
    pub(super) lengths: BTreeMap<Sha256, u64>,
    pub(super) head: Head,
}

impl Source {
    /// Reads the run; all of it, or as `redacted` leaves it.
    pub(super) async fn read(
        project: &Project,
        store: &SqliteStore,
        index: &RunIndex,
        keys: &KeyChain,
        redacted: bool,
    ) -> Result<Self, Failure> {
        let run = index.header.run.clone();
        let plan = record::plan(store, &index.header).await?;
        // What the plan sends is named by the plan, which the opening names.
        let mut named: BTreeSet<Sha256> = plan.files.keys().copied().collect();
        let mut view = RunView::new(plan);
        let (mut seqs, mut ends) = (Vec::new(), BTreeMap::new());
        let (mut lists, mut salted, mut lengths) = (BTreeSet::new(), BTreeSet::new(), BTreeMap::new());
        let mut next = 0;
        loop {
            let page = store.records(&run, next, PAGE).await.map_err(|error| record::failed(&error))?;
            let whole = page.len() == PAGE;
            for sealed in page {
                next = sealed.run_seq + 1;
                let parsed = record::parse(&sealed.bytes, &run)?;
                seqs.push(sealed.seq);
                named.extend(bundle::named(&parsed.event));
                match &parsed.event {
                    Event::StepEnded { .. } | Event::StepResolved { .. } => {
                        ends.insert(sealed.seq, Sha256::of(&sealed.bytes));
                    }
                    Event::AttemptEnded { report, .. } => {
                        lists.extend(report.transfers);
                        for output in [&report.stdout, &report.stderr] {
                            salted.extend(output.blob.filter(|_| output.root.is_some()));
                            lengths.extend(stored_length(output));
                        }
                    }
                    _ => {}
                }
                view.fold(&parsed);
            }
            if !whole {
                break;
            }
        }
        let edition = if redacted { Edition::redacted(store, &view).await? } else { Edition::default() };
        let told: BTreeSet<u64> = edition.records().collect();
        let need = seqs.last().into_iter().chain(&told).max().map_or(0, |seq| seq + 1);
        let head = match Head::read(store, keys, need, told.clone()).await? {
            Some(head) => head,
            // A program that dies leaves records that no signed head covers yet. Whoever reads them is put on record, and
            // the head over that is signed.
            None => {
                let by = person::operator();
                let read = Notice::EvidenceRead { evidence_of: run.clone(), command: "evidence export".into(), by };
                notices::append(project, store, vec![read], Vec::new()).await?;
                let none = || not_whole("no signed head of the ledger covers the run's last record");
                Head::read(store, keys, need, told).await?.ok_or_else(none)?
            }
        };
        Ok(Self { run, view: Arc::new(view), edition, seqs, ends, named, lists, salted, lengths, head })
    }
}

/// The length of an output that is kept whole and as it came.
fn stored_length(output: &OutputRef) -> Option<(Sha256, u64)> {
    let as_it_came = output.root.is_some() && !output.truncated && output.masked == 0;
    as_it_came.then_some((output.blob?, output.bytes + LINE_BYTES as u64))
}
