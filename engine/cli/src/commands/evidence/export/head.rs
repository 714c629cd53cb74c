//! Under which signed head a bundle stands, and who outside holds it, or one that goes on from it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runbook_ledger::consistency::Consistency;
use runbook_ledger::{Checkpoint, KeyChain, proof};
use runbook_model::{Event, Notice, RunId, Sha256};
use runbook_ports::Store as _;
use runbook_ports::anchor::History as _;
use runbook_report::json::LedgerHead;
use runbook_store::SqliteStore;
use serde::Serialize;

use super::not_whole;
use crate::anchors::Past;
use crate::failure::Failure;
use crate::record;

/// The bundle's head, in the bundle.
pub(super) const CHECKPOINT: &str = "ledger/checkpoint";

/// The signed head of a bundle, and what is told of the ledger beside its runs.
pub(super) struct Head {
    pub(super) note: String,
    pub(super) checkpoint: Checkpoint,
    /// Receipts for this head, and of each anchor that has none for it, its first one for another that covers the run.
    pub(super) anchors: Vec<Anchor>,
    /// The other heads that those receipts are for: their file, and the signed note.
    pub(super) others: BTreeMap<String, String>,
    /// Proofs that the larger ones of them go on from this head.
    pub(super) consistency: Option<Consistency>,
    /// Places of the records that belong to no run and are told: in which one key took another's place, so that who trusts
    /// an older one can go on from there; that an older copy was put back; and those that were asked for.
    pub(super) notices: Vec<u64>,
}

/// A receipt of somebody outside.
#[derive(Clone, Serialize)]
pub(super) struct Anchor {
    pub(super) anchor: String,
    pub(super) kind: String,
    pub(super) size: u64,
    pub(super) root: Sha256,
    /// The record that tells of it; it belongs to no run, so it is not in the bundle.
    record: u64,
    /// When it was recorded (RFC 3339).
    time: String,
    /// Of the receipt.
    pub(super) sha256: Sha256,
    /// The receipt's file in the bundle.
    pub(super) file: String,
    /// The signed head that it is for, in the bundle.
    pub(super) head: String,
}

impl Head {
    /// The smallest signed head of at least `need` records that somebody outside holds, else the smallest one: so that the
    /// same run gives the same bundle, however the ledger grows. It is by the key in force, which signs the bundle; where
    /// that key took another's place, the head over the record of it is signed by both. `None` when no head covers so
    /// many.
    pub(super) async fn read(
        store: &SqliteStore,
        keys: &KeyChain,
        need: u64,
        asked: BTreeSet<u64>,
    ) -> Result<Option<Self>, Failure> {
        let mut receipts: Vec<Anchor> = Vec::new();
        let mut notices = asked;
        record::read(store, &RunId::installation(), 0, |told| match told.event {
            Event::Installation(Notice::Anchored { anchor, kind, size, root, receipt }) => {
                let (record, time) = (told.seq, told.time);
                let (file, head) = (String::new(), String::new());
                receipts.push(Anchor { anchor, kind, size, root, record, time, sha256: receipt, file, head });
            }
            Event::Installation(Notice::KeyRotated { .. } | Notice::LedgerRestored { .. }) => {
                notices.insert(told.seq);
            }
            _ => {}
        })
        .await?;
        let mut signed: BTreeMap<u64, (Checkpoint, String)> = BTreeMap::new();
        let mut other = None;
        for stored in store.checkpoints().await.map_err(|error| record::failed(&error))? {
            match keys.verify(&stored.note) {
                _ if stored.size < need => {}
                Ok(checkpoint) => drop(signed.entry(checkpoint.size).or_insert((checkpoint, stored.note))),
                Err(error) => other = Some(error),
            }
        }
        receipts.retain(|receipt| signed.get(&receipt.size).is_some_and(|(head, _)| head.root == receipt.root));
        let held = |size: u64| receipts.iter().any(|receipt| receipt.size == size);
        let current = |note: &str| Checkpoint::verify(note, keys.current()).is_ok();
        let covering: Vec<u64> = signed.iter().filter(|(_, (_, note))| current(note)).map(|(size, _)| *size).collect();
        let Some(size) = covering.iter().copied().find(|size| held(*size)).or(covering.first().copied()) else {
            let by_another = |error| not_whole(&format!("the ledger's signed head: {error}"));
            return other.map_or(Ok(None), |error| Err(by_another(error)));
        };
        let anchors = receipts_of(receipts, size);
        let mut others = BTreeMap::new();
        let mut to = Vec::new();
        let (checkpoint, note) = signed[&size].clone();
        for anchor in &anchors {
            let (larger, note) = &signed[&anchor.size];
            if anchor.size == size || others.insert(anchor.head.clone(), note.clone()).is_some() {
                continue;
            }
            if anchor.size > size {
                let path = Past::new(Arc::new(store.clone()))
                    .consistency(size, anchor.size)
                    .await
                    .map_err(|why| not_whole(&why))?;
                proof::verify_consistency((size, &checkpoint.root), (larger.size, &larger.root), &path)
                    .map_err(|error| not_whole(&format!("the signed head of {} records: {error}", larger.size)))?;
                to.push((larger.size, path));
            }
        }
        to.sort_by_key(|(size, _)| *size);
        let consistency = (!to.is_empty()).then_some(Consistency { from: size, to });
        let notices = notices.into_iter().filter(|seq| *seq < size).collect();
        Ok(Some(Self { note, checkpoint, anchors, others, consistency, notices }))
    }

    pub(super) fn ledger(&self) -> LedgerHead {
        LedgerHead { size: self.checkpoint.size, root: self.checkpoint.root.to_string() }
    }

    /// Who outside holds it, or one that goes on from it.
    pub(super) fn anchored(&self) -> Vec<String> {
        self.anchors.iter().map(|anchor| format!("{} ({})", anchor.anchor, anchor.kind)).collect()
    }
}

/// Those for the head of this size, and of each further anchor its first one; with their places in the bundle.
fn receipts_of(receipts: Vec<Anchor>, size: u64) -> Vec<Anchor> {
    let (mut chosen, others): (Vec<Anchor>, Vec<Anchor>) =
        receipts.into_iter().partition(|receipt| receipt.size == size);
    let mut first: BTreeMap<String, Anchor> = BTreeMap::new();
    for other in others.into_iter().filter(|other| chosen.iter().all(|known| known.anchor != other.anchor)) {
        match first.get(&other.anchor) {
            Some(known) if known.size <= other.size => {}
            _ => drop(first.insert(other.anchor.clone(), other)),
        }
    }
    chosen.extend(first.into_values());
    for (n, anchor) in chosen.iter_mut().enumerate() {
        anchor.file = format!("anchors/{}-{}.{}", n + 1, plain(&anchor.anchor), ending(&anchor.kind));
        anchor.head = if anchor.size == size {
            CHECKPOINT.to_owned()
        } else {
            format!("anchors/head-{}.checkpoint", anchor.size)
        };
    }
    chosen
}

/// An anchor's name where it is a file's.
fn plain(name: &str) -> String {
    let kept: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-".contains(*c)).take(64).collect();
    kept.to_ascii_lowercase()
}

fn ending(kind: &str) -> &'static str {
    match kind {
        "rfc3161" => "tsr",
        "witness" => "note",
        _ => "json",
    }
}
