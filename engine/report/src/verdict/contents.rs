//! Whether a run's records are complete, and whether the contents that they name are there and as they were.
//!
//! Takes records one by one and keeps what views show of them, so memory grows with the cells that were touched. Reading
//! contents is the caller's part: it asks for each that [`Contents::wanted`] names and says what it found.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Arc;

use runbook_ledger::redaction::Withheld;
use runbook_ledger::segments::{LINE_BYTES, Seed, Segmenter};
use runbook_model::approval::{Approval, Decision, NAMESPACE, Used};
use runbook_model::digest::Hasher;
use runbook_model::event::{Event, RunHeader, Transfer};
use runbook_model::plan::Plan;
use runbook_model::record::Record;
use runbook_model::{OutputRef, Sha256};

use super::{Code, Place, Verdict};
use crate::RunView;
use crate::check::{self, Gap};
use crate::text::count;

/// What a content is on record as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// The bytes of a command or script.
    Script,
    /// A list: of measured paths, or of changes.
    List,
    /// A list of files that were moved; each download's content is named in it.
    Transfers,
    /// A file that was fetched from a host.
    Download,
    /// An approval, its signature, or who could give it.
    Approval,
    /// An output, with its root and the number of its segments; without a root it is of the first form.
    Output(Option<(Sha256, u64)>),
}

/// Approvals and people of so many bytes are looked at; a run has some kilobytes of them.
const APPROVALS_BYTES_MAX: usize = 16 << 20;

/// Where a content is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    /// As what.
    pub kind: Kind,
    /// In which record.
    pub record: u64,
    /// Host, step and part, for people.
    pub what: String,
}

/// What was found where a content should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Missing,
    /// Something that does not have the digest.
    Damaged,
    /// It could not be read.
    Unreadable(String),
    /// It has its digest.
    Whole(Measured),
    /// These segments are withheld, and what is shown in its place fits the record.
    Withheld(Withheld),
    /// It is withheld, and what is shown in its place is wrong; that is told already.
    WronglyWithheld,
}

/// A content that was read once, as a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// Its digest.
    pub digest: Sha256,
    /// Its length.
    pub bytes: u64,
    /// When it begins as a salted output does: root and number of its segments.
    pub output: Option<(Sha256, u64)>,
}

impl Measured {
    /// Reads it to its end.
    ///
    /// # Errors
    /// The reader's.
    pub fn of(mut reader: impl Read) -> io::Result<Self> {
        let mut measure = Measure::default();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(measure.finish()),
                Ok(length) => measure.push(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Measures a content that comes piece by piece.
pub struct Measure {
    hasher: Hasher,
    bytes: u64,
    /// What came of an output's first line, until it is whole.
    line: Option<Vec<u8>>,
    segmenter: Option<Segmenter>,
}

impl Default for Measure {
    fn default() -> Self {
        Self { hasher: Hasher::default(), bytes: 0, line: Some(Vec::new()), segmenter: None }
    }
}

impl Measure {
    /// Of something that is no output, however it begins.
    pub fn plain() -> Self {
        Self { line: None, ..Self::default() }
    }

    /// The next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        let mut rest = bytes;
        if let Some(line) = &mut self.line {
            let (more, after) = rest.split_at(rest.len().min(LINE_BYTES - line.len()));
            line.extend_from_slice(more);
            rest = after;
            if line.len() == LINE_BYTES {
                self.segmenter = Seed::read(line).map(Segmenter::new);
                self.line = None;
            }
        }
        if let Some(segmenter) = &mut self.segmenter {
            segmenter.push(rest);
        }
    }

    /// There is no more.
    pub fn finish(self) -> Measured {
        let output = self.segmenter.map(Segmenter::finish);
        Measured { digest: self.hasher.finish(), bytes: self.bytes, output }
    }
}

/// What a run's records say, and what they name.
pub struct Contents {
    view: RunView,
    uses: BTreeMap<Sha256, Use>,
    purged: BTreeSet<Sha256>,
    /// What may be withheld of outputs, by their root.
    redactions: BTreeMap<Sha256, Withheld>,
    whole: usize,
    withheld: usize,
    removed: usize,
    sensitive: usize,
    unsalted: usize,
    missing: Vec<Gap>,
    /// Records that say something else of a content than earlier ones.
    contradictions: Vec<(u64, String)>,
    /// Contents of approvals.
    approvals: BTreeMap<Sha256, Vec<u8>>,
}

impl Contents {
    /// Of a run that began with this plan.
    pub fn new(plan: Arc<Plan>) -> Self {
        Self {
            view: RunView::new(plan),
            uses: BTreeMap::new(),
            purged: BTreeSet::new(),
            redactions: BTreeMap::new(),
            whole: 0,
            withheld: 0,
            removed: 0,
            sensitive: 0,
            unsalted: 0,
            missing: Vec::new(),
            contradictions: Vec::new(),
            approvals: BTreeMap::new(),
        }
    }

    /// The run, as far as its records were taken.
    pub fn view(&self) -> &RunView {
        &self.view
    }

    /// Takes the run's next record.
    pub fn record(&mut self, record: &Record) {
        match &record.event {
            Event::RunOpened(header) => {
                if let Some(permit) = header.permit {
                    self.name(permit, Kind::List, record.seq, || "the times at which hosts could be begun".to_owned());
                }
                if let Some(policy) = header.policy {
                    self.name(policy, Kind::List, record.seq, || "the policy that it was begun under".to_owned());
                }
                if let Some(people) = header.people {
                    self.name(people, Kind::Approval, record.seq, || {
                        "the people whom the policy was asked with".to_owned()
                    });
                }
                if let Some(answer) = header.change.as_ref().and_then(|seen| seen.answer) {
                    self.name(answer, Kind::List, record.seq, || "how the change of its ticket stood".to_owned());
                }
                for source in header.inventory_sources.iter().filter(|source| !source.withheld) {
                    let from = &source.from;
                    self.name(source.sha256, Kind::List, record.seq, || format!("the inventory's source {from}"));
                }
                for used in &header.approvals {
                    let by = &used.signer;
                    self.name(used.document, Kind::Approval, record.seq, || format!("the approval of {by}"));
                    self.name(used.signature, Kind::Approval, record.seq, || format!("the signature of {by}"));
                }
            }
            Event::RunResumed { permit: Some(permit), .. } | Event::PermitChanged { permit: Some(permit), .. } => {
                self.name(*permit, Kind::List, record.seq, || "the times at which hosts could be begun".to_owned());
            }
            Event::MonitoringMuted { system, exchange: said, .. }
            | Event::MonitoringUnmuted { system, proof: said, .. } => {
                self.name(*said, Kind::List, record.seq, || format!("what was said with monitoring {system}"));
            }
            Event::AttemptStarted { attempt, intent, .. } => {
                let what = || format!("{}/{}: its command", attempt.host, attempt.step);
                self.name(intent.command_sha256, Kind::Script, record.seq, what);
            }
            Event::StepPrepared { cell, intent } => {
                self.name(intent.command_sha256, Kind::Script, record.seq, || format!("{cell}: its command"));
            }
            Event::Measured { host, manifest, changes, .. } => {
                for list in [manifest, changes].into_iter().flatten() {
                    self.name(*list, Kind::List, record.seq, || format!("{host}: a list of what was measured"));
                }
            }
            Event::AttemptEnded { attempt, report, .. } => {
                for (stream, output) in [("stdout", &report.stdout), ("stderr", &report.stderr)] {
                    self.output(output, record.seq, || format!("{}/{}: its {stream}", attempt.host, attempt.step));
                }
                if let Some(list) = report.timing {
                    let what = || format!("{}/{}: the times of its output", attempt.host, attempt.step);
                    self.name(list, Kind::List, record.seq, what);
                }
                if let Some(list) = report.undeclared {
                    let what = || format!("{}/{}: the list of undeclared changes", attempt.host, attempt.step);
                    self.name(list, Kind::List, record.seq, what);
                }
                if let Some(list) = report.transfers {
                    let what = || format!("{}/{}: the list of files moved", attempt.host, attempt.step);
                    self.name(list, Kind::Transfers, record.seq, what);
                }
            }
            _ => {}
        }
        self.view.fold(record);
    }

    fn output(&mut self, output: &OutputRef, seq: u64, what: impl FnOnce() -> String) {
        match (output.blob, output.root) {
            (Some(blob), root) => {
                self.unsalted += usize::from(root.is_none());
                self.name(blob, Kind::Output(root.map(|root| (root, output.segments))), seq, what);
            }
            (None, Some(_)) => self.sensitive += 1,
            (None, None) => {}
        }
    }

    fn name(&mut self, digest: Sha256, kind: Kind, record: u64, what: impl FnOnce() -> String) {
        match self.uses.entry(digest) {
            Entry::Vacant(free) => {
                free.insert(Use { kind, record, what: what() });
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                match (&known.kind, &kind) {
                    // One content has one root: of two that are claimed one is wrong.
                    (Kind::Output(Some(first)), Kind::Output(Some(other))) if first != other => {
                        let text = format!(
                            "record {record}: {} has another root than the same content in record {}",
                            what(),
                            known.record
                        );
                        self.contradictions.push((record, text));
                    }
                    // What is checked of an output, and read of a list of files moved, is more than of anything else.
                    (Kind::Output(Some(_)) | Kind::Transfers, _) => {}
                    (_, Kind::Output(Some(_)) | Kind::Transfers) => known.kind = kind,
                    _ => {}
                }
            }
        }
    }

    /// These contents were removed on record, with two signatures.
    pub fn purged(&mut self, digests: impl IntoIterator<Item = Sha256>) {
        self.purged.extend(digests);
    }

    /// These segments of the output with this root are withheld in redacted editions, on record.
    pub fn redaction(&mut self, root: Sha256, ranges: &[(u64, u64)]) {
        let known = self.redactions.entry(root).or_default();
        *known = Withheld::new(known.ranges().iter().chain(ranges).copied());
    }

    /// Every content that was named so far, and where first.
    pub fn wanted(&self) -> impl Iterator<Item = (&Sha256, &Use)> {
        self.uses.iter()
    }

    /// What is on record of an output, by its blob; `None` when the blob is none, or an output of the first form.
    pub fn wanted_output(&self, digest: &Sha256) -> Option<OutputRef> {
        match self.uses.get(digest)?.kind {
            Kind::Output(Some((root, segments))) => {
                Some(OutputRef { root: Some(root), segments, blob: Some(*digest), ..OutputRef::empty() })
            }
            _ => None,
        }
    }

    /// Whether a record names it.
    pub fn names(&self, digest: &Sha256) -> bool {
        self.uses.contains_key(digest)
    }

    /// Takes the list of files moved: the downloads in it are wanted too.
    ///
    /// # Errors
    /// When it is no such list.
    pub fn transfers(&mut self, list: &Sha256, content: &[u8]) -> Result<(), serde_json::Error> {
        let moved: Vec<Transfer> = serde_json::from_slice(content)?;
        let record = self.uses.get(list).map_or(0, |at| at.record);
        for (blob, path) in moved.into_iter().filter_map(|moved| Some((moved.blob?, moved.path))) {
            self.name(blob, Kind::Download, record, || format!("the content of {path}"));
        }
        Ok(())
    }

    /// Takes a content of the kind [`Kind::Approval`].
    pub fn approval(&mut self, digest: Sha256, content: &[u8]) {
        let kept: usize = self.approvals.values().map(Vec::len).sum();
        if kept + content.len() <= APPROVALS_BYTES_MAX {
            self.approvals.insert(digest, content.to_vec());
        }
    }

    /// Whether the approvals that the run began with are of its plan, were signed by somebody whom it knew, and in time.
    fn approved(&self, verdict: &mut Verdict) {
        let Some(header) = self.view.header.as_ref() else { return };
        let mut held = 0;
        for used in &header.approvals {
            let content = |digest: &Sha256| self.approvals.get(digest).map(Vec::as_slice);
            let (Some(document), Some(signature)) = (content(&used.document), content(&used.signature)) else {
                verdict.unchecked(format!("the approval of {}: it is missing, or too large for one", used.signer));
                continue;
            };
            let people = header.people.as_ref().and_then(content);
            if people.is_none() {
                verdict
                    .unchecked(format!("whether the key of {} was in the people's file: it is missing", used.signer));
            }
            match approval_holds(header, used, document, signature, people) {
                Ok(()) => held += 1,
                Err(why) => {
                    let seq = self.view.opened_seq.unwrap_or(0);
                    let text = format!("record {seq}: the approval of {} does not hold: {why}", used.signer);
                    verdict.found(Code::Tampered, Place::record(seq), text);
                }
            }
        }
        if held > 0 {
            verdict.held(format!("{} of this plan, signed before it was opened", count(held, "approval")));
        }
    }

    /// Says what was found of a content that is wanted.
    pub fn found(&mut self, digest: &Sha256, found: &Found, verdict: &mut Verdict) {
        let Some(named) = self.uses.get(digest) else { return };
        let place = || Place { record: Some(named.record), file: Some(digest.to_string()) };
        let what = &named.what;
        let seq = named.record;
        match (found, &named.kind) {
            (Found::Whole(measured), Kind::Output(Some(expected))) if measured.output != Some(*expected) => {
                let text = format!("record {seq}: {what} (blob {digest}) does not have the segments on record");
                verdict.found(Code::Tampered, place(), text);
            }
            (Found::Whole(measured), _) if measured.digest != *digest => {
                let text = format!("record {seq}: {what} (blob {digest}) is not as it was recorded");
                verdict.found(Code::Tampered, place(), text);
            }
            (Found::Whole(_), _) => self.whole += 1,
            (Found::Withheld(withheld), kind) => {
                self.withheld += 1;
                let on_record = match kind {
                    Kind::Output(Some((root, _))) => self.redactions.get(root),
                    _ => None,
                };
                if !on_record.is_some_and(|on_record| on_record.covers(withheld)) {
                    let what = format!("record {seq}: {what}: more of it is withheld than any record says");
                    self.missing.push(Gap { host: None, step: None, what });
                }
            }
            (Found::WronglyWithheld, _) => self.withheld += 1,
            (Found::Missing, _) if self.purged.contains(digest) => self.removed += 1,
            (Found::Missing, _) => {
                let what = format!("{what} (blob {digest}) is missing, and there is no record of its removal");
                self.missing.push(Gap { host: None, step: None, what });
            }
            (Found::Damaged, _) => {
                let text = format!("record {seq}: {what} (blob {digest}) is not as it was recorded");
                verdict.found(Code::Tampered, place(), text);
            }
            (Found::Unreadable(why), _) => {
                let text = format!("record {seq}: {what} (blob {digest}) could not be read: {why}");
                verdict.found(Code::NotChecked, place(), text);
            }
        }
    }

    /// There are no more records and contents: what is missing, and what could not be checked.
    pub fn finish(self, verdict: &mut Verdict) -> RunView {
        verdict.held(format!("{} have the digests and roots on record", count(self.whole, "content")));
        if self.removed > 0 {
            let what = format!("{} were removed on record, by two persons", count(self.removed, "content"));
            verdict.unchecked(what);
        }
        if self.sensitive > 0 {
            let what = format!("{} are sensitive: nothing of them is kept", count(self.sensitive, "output"));
            verdict.unchecked(what);
        }
        if self.unsalted > 0 {
            verdict.unchecked(format!("{} are of the first form, without segments", count(self.unsalted, "output")));
        }
        if self.withheld > 0 {
            verdict.redacted = true;
            verdict.held(format!("{} are withheld in part, and the rest fits", count(self.withheld, "output")));
        }
        self.approved(verdict);
        for (record, text) in self.contradictions {
            verdict.found(Code::Tampered, Place::record(record), text);
        }
        verdict.gaps.extend(self.missing);
        verdict.gaps.extend(check::gaps(&self.view));
        if verdict.gaps.is_empty() {
            verdict.held("every cell of the run's matrix has an outcome");
        }
        verdict.settle();
        self.view
    }
}

/// Checks an approval against the opening that names it.
fn approval_holds(
    header: &RunHeader,
    used: &Used,
    document: &[u8],
    signature: &[u8],
    people: Option<&[u8]>,
) -> Result<(), String> {
    let approval = Approval::parse(document).ok_or("it is no approval")?;
    if approval.decision != Decision::Approve || approval.plan_sha256 != header.plan_sha256 {
        return Err("it is not for this plan".to_owned());
    }
    if approval.signer != used.signer || approval.nonce != used.nonce {
        return Err("it is not the one that the record tells of".to_owned());
    }
    if approval.made_ms > header.started_ms || approval.valid_until_ms <= header.started_ms {
        return Err("it was not valid when the run was opened".to_owned());
    }
    let signature = std::str::from_utf8(signature).map_err(|_| "its signature is no text")?;
    let by =
        runbook_ledger::sshsig::verify_person(signature, NAMESPACE, document).map_err(|error| error.to_string())?;
    // The file is written by people; a key is in it when its base64 is.
    let key = by.key.split(' ').nth(1).unwrap_or(&by.key).as_bytes();
    match people {
        Some(people) if !people.windows(key.len()).any(|part| part == key) => {
            Err("its key is nobody's in the people's file of the run".to_owned())
        }
        _ => Ok(()),
    }
}

/// The opening in a run's first record, and the plan that it names, as its bytes are. `None` when something of it is wrong,
/// which the verdict then says.
pub fn opening<'a>(first: &'a Record, plan: &[u8], verdict: &mut Verdict) -> Option<(&'a RunHeader, Arc<Plan>)> {
    let Event::RunOpened(header) = &first.event else {
        let text = format!("record {}: the run does not begin with its opening", first.seq);
        verdict.found(Code::Tampered, Place::record(first.seq), text);
        return None;
    };
    let fits = Sha256::of(plan) == header.plan_sha256;
    match serde_json::from_slice::<Plan>(plan).ok().filter(|plan| fits && plan.digest() == header.plan_sha256) {
        Some(plan) => {
            verdict.held("the plan is the one with which the run began");
            Some((header, Arc::new(plan)))
        }
        None => {
            let text = format!("the plan {} is missing or not as it was", header.plan_sha256);
            let place = Place { record: Some(first.seq), file: Some(header.plan_sha256.to_string()) };
            verdict.found(Code::Tampered, place, text);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_is_measured_the_same_however_it_comes() {
        let seed = Seed([7; 32]);
        let blob = [seed.line().as_bytes(), b"one\ntwo\n"].concat();
        let whole = Measured::of(blob.as_slice()).unwrap();
        assert_eq!(whole.digest, Sha256::of(&blob));
        let output = OutputRef { root: whole.output.map(|(root, _)| root), segments: 2, ..OutputRef::empty() };
        assert!(runbook_ledger::segments::verify(&output, &blob));
        for size in [1, 7, 83, 84] {
            let mut measure = Measure::default();
            blob.chunks(size).for_each(|piece| measure.push(piece));
            assert_eq!(measure.finish(), whole);
        }
        assert_eq!(Measured::of(&b"as it is"[..]).unwrap().output, None);
    }

    /// An opening with an approval in it, and the approval's document.
    fn approved() -> (RunHeader, Approval) {
        let plan_sha256 = Sha256::of(b"plan");
        let approval = Approval {
            schema: runbook_model::approval::SCHEMA.into(),
            decision: Decision::Approve,
            runbook: "patch".into(),
            tier: runbook_model::plan::Tier::Routine,
            plan_sha256,
            hosts_sha256: Sha256::of(b"hosts"),
            parameters_sha256: Sha256::of(b"parameters"),
            windows_sha256: None,
            reason: String::new(),
            made_ms: 1_000,
            valid_until_ms: 9_000,
            nonce: "n".into(),
            ledger: None,
            signer: "jane".into(),
        };
        let digest = plan_sha256.to_string();
        let header = serde_json::json!({
            "run": "r", "plan_sha256": digest, "runbook": "patch", "operator": {"name": "ben", "uid": 0}, "started_ms": 5_000,
            "seed": 0, "cells": 0, "engine_version": "", "engine_sha256": digest, "controller": "", "controller_boot_id": "",
            "clock": {"source": "", "synchronised": null},
        });
        (serde_json::from_value(header).unwrap(), approval)
    }

    #[test]
    fn case_11_and_13_an_approval_that_a_run_should_not_have_begun_with_is_tampering() {
        let key = runbook_ledger::key::FileKey::from_seed([7; 32]);
        let people = format!("schema: people/v1\n{}", runbook_ledger::sshsig::public_key_line(&key.public_key()));
        let holds = |change: &dyn Fn(&mut RunHeader, &mut Approval), namespace: &str, people: &str| {
            let (mut header, mut approval) = approved();
            change(&mut header, &mut approval);
            let bytes = approval.bytes();
            let message = runbook_ledger::sshsig::Message::of(&bytes);
            let sign = |bytes: &[u8]| Ok(key.sign(bytes));
            let signature = runbook_ledger::sshsig::sign(namespace, &message, &key.public_key(), sign).unwrap();
            let digest = Sha256::of(b"");
            let used = Used {
                document: digest,
                signature: digest,
                signer: "jane".into(),
                nonce: "n".into(),
                valid_until_ms: 9_000,
            };
            approval_holds(&header, &used, &bytes, signature.as_bytes(), Some(people.as_bytes()))
        };
        assert_eq!(holds(&|_, _| (), NAMESPACE, &people), Ok(()));
        let bad = |change: &dyn Fn(&mut RunHeader, &mut Approval)| holds(change, NAMESPACE, &people).unwrap_err();
        assert!(bad(&|header, _| header.plan_sha256 = Sha256::of(b"other")).contains("not for this plan"));
        assert!(bad(&|_, approval| approval.decision = Decision::Reject).contains("not for this plan"));
        assert!(bad(&|header, _| header.started_ms = 999).contains("not valid when the run was opened"), "made after");
        assert!(bad(&|header, _| header.started_ms = 9_000).contains("not valid when the run was opened"), "over");
        assert!(bad(&|_, approval| approval.nonce = "m".into()).contains("not the one"));
        assert!(bad(&|_, approval| approval.signer = "raj".into()).contains("not the one"));
        assert!(holds(&|_, _| (), "file", &people).unwrap_err().contains("\"file\""));
        assert!(holds(&|_, _| (), NAMESPACE, "schema: people/v1").unwrap_err().contains("nobody's"));
    }
}
