//! `evidence export`: a run's evidence as files that anybody can verify.
//!
//! What is large is streamed: the ledger's hashes, records, contents. What grows with the run in memory is what its view
//! keeps of each cell, and the names of its contents.

mod target;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;

use runbook_ledger::segments::LINE_BYTES;
use runbook_ledger::tile::{Prover, Tiler};
use runbook_ledger::tlog_proof::TlogProof;
use runbook_ledger::tree::{Frontier, leaf_hash};
use runbook_ledger::{Checkpoint, VerifierKey};
use runbook_model::digest::Hasher;
use runbook_model::{Event, HostName, Notice, RunId, Sha256};
use runbook_ports::store::{RunIndex, RunStatus, Sealed, StoreError};
use runbook_ports::{BlobStore as _, Signer as _, Store as _};
use runbook_report::bundle::{self, ExportDocument, Facts, Names, Signing};
use runbook_report::html::{self, Contents, Verification};
use runbook_report::json::{Attachments, LedgerHead};
use runbook_report::objectives::Revision;
use runbook_report::verdict::Code;
use runbook_report::view::RunState;
use runbook_report::{RunView, recording};
use runbook_store::SqliteStore;
use serde::Serialize;

use self::target::Target;
use crate::arguments::EvidenceExport;
use crate::failure::{FAULT, Failure, REFUSED};
use crate::output;
use crate::project::Project;
use crate::{keys, notices, person, record};

/// Ledger records read at once.
const PAGE: usize = 1_000;
/// A content up to this length is read whole; a longer one is streamed.
const SMALL_MAX: u64 = 64 * 1024;
/// The longest list of transfers that is read for the contents that it names.
const LIST_BYTES_MAX: u64 = 64 << 20;

/// Runs `evidence export`.
pub(super) async fn run(project: &Project, arguments: &EvidenceExport) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    must_not_run(&store, &index).await?;
    let key = keys::open(project)?;
    let source = Source::read(project, &store, &index, &key.verifier).await?;
    let signer = |bytes: &[u8]| key.signer.sign(bytes);
    let signing = Signing { key: &key.verifier, signer: &signer };

    let end = source.view.ended_ms.unwrap_or(source.view.last_ms);
    let mut writer = Writer {
        names: Names::of(&source.view),
        target: Target::begin(&arguments.out, end)?,
        missing: Vec::new(),
        digests: BTreeMap::new(),
        store,
        source,
        signing,
    };
    writer.trust()?;
    writer.plan().await?;
    writer.ledger().await?;
    writer.anchors().await?;
    writer.records().await?;
    writer.contents().await?;
    let run_json = writer.run_json(project).await?;
    writer.sessions().await?;
    writer.attest(run_json).await?;
    writer.target.put("oscal/assessment-results.json", &bundle::assessment_results(&writer.source.view))?;
    writer.report(project).await?;
    writer.texts()?;
    let Writer { target, source, missing, store, signing, .. } = writer;
    let written = target.finish(&signing)?;

    let notice = Notice::EvidenceExported {
        evidence_of: index.header.run.clone(),
        sums_sha256: written.sums,
        redacted: false,
        by: person::operator(),
    };
    notices::append(project, &store, vec![notice], Vec::new())
        .await
        .map_err(|failure| failure.changed("the bundle is written and whole; that it was exported is not on record"))?;

    let ended = source.view.state == RunState::Ended;
    let complete = ended && missing.is_empty();
    let place = written.place.display().to_string();
    if arguments.json {
        output::json(&ExportDocument {
            schema: "export/v1",
            run_id: index.header.run.to_string(),
            target: place,
            kind: if written.archive { "archive" } else { "folder" },
            files: written.files,
            bytes: written.bytes,
            sums_sha256: written.sums.to_string(),
            ledger: source.ledger(),
            anchors: source.anchored(),
            complete,
            missing: missing.clone(),
        })?;
    } else {
        output::data(format!("{place}\n"))?;
    }
    if !ended {
        output::note("the run has not ended: whoever verifies the bundle is told that it is incomplete (code 12)");
    }
    for line in &missing {
        output::note(format!("not in the bundle: {line}"));
    }
    Ok(if complete { 0 } else { Code::Incomplete.number() })
}

/// A run that is worked on has more records by the time that it is written.
async fn must_not_run(store: &SqliteStore, index: &RunIndex) -> Result<(), Failure> {
    if index.status != RunStatus::Running {
        return Ok(());
    }
    let run = &index.header.run;
    match store.holder(run).await.map_err(|error| record::failed(&error))? {
        Some(holder) if holder.alive => {
            let text = format!("run {run} is being worked on by {} (process {})", holder.operator, holder.pid);
            Err(Failure::new("RB0636", REFUSED, text).next("export it when it has ended, or waits for an operator"))
        }
        _ => Ok(()),
    }
}

/// What is exported, as far as it is not streamed.
struct Source {
    run: RunId,
    view: Arc<RunView>,
    /// Places in the ledger of the run's records.
    seqs: Vec<u64>,
    /// Digests of the records that say how a cell ended, by their place.
    ends: BTreeMap<u64, Sha256>,
    /// Contents that the records name.
    named: BTreeSet<Sha256>,
    /// Those that are lists of transfers.
    lists: BTreeSet<Sha256>,
    /// Those that are outputs with a line for the seed in front.
    salted: BTreeSet<Sha256>,
    head: Head,
}

/// The signed head of a bundle, and what is told of the ledger beside its runs.
struct Head {
    note: String,
    checkpoint: Checkpoint,
    /// Receipts for this head.
    anchors: Vec<Anchor>,
    /// Places of the records in which one key took another's place: who trusts an older one can go on from there.
    rotations: Vec<u64>,
}

/// A receipt of somebody outside.
#[derive(Serialize)]
struct Anchor {
    anchor: String,
    kind: String,
    size: u64,
    root: Sha256,
    /// The record that tells of it; it belongs to no run, so it is not in the bundle.
    record: u64,
    /// When it was recorded (RFC 3339).
    time: String,
    /// Of the receipt.
    sha256: Sha256,
    /// The receipt's file in the bundle.
    file: String,
}

impl Source {
    async fn read(
        project: &Project,
        store: &SqliteStore,
        index: &RunIndex,
        key: &VerifierKey,
    ) -> Result<Self, Failure> {
        let run = index.header.run.clone();
        let plan = record::plan(store, &index.header).await?;
        // What the plan sends is named by the plan, which the opening names.
        let mut named: BTreeSet<Sha256> = plan.files.keys().copied().collect();
        let mut view = RunView::new(plan);
        let (mut seqs, mut ends) = (Vec::new(), BTreeMap::new());
        let (mut lists, mut salted) = (BTreeSet::new(), BTreeSet::new());
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
        let need = seqs.last().map_or(0, |seq| seq + 1);
        let head = match Head::read(store, key, need).await? {
            Some(head) => head,
            // A program that dies leaves records that no signed head covers yet. Whoever reads them is put on record, and
            // the head over that is signed.
            None => {
                let by = person::operator();
                let read = Notice::EvidenceRead { evidence_of: run.clone(), command: "evidence export".into(), by };
                notices::append(project, store, vec![read], Vec::new()).await?;
                let none = || not_whole("no signed head of the ledger covers the run's last record");
                Head::read(store, key, need).await?.ok_or_else(none)?
            }
        };
        Ok(Self { run, view: Arc::new(view), seqs, ends, named, lists, salted, head })
    }

    fn ledger(&self) -> LedgerHead {
        LedgerHead { size: self.head.checkpoint.size, root: self.head.checkpoint.root.to_string() }
    }

    fn anchored(&self) -> Vec<String> {
        self.head.anchors.iter().map(|anchor| format!("{} ({})", anchor.anchor, anchor.kind)).collect()
    }
}

impl Head {
    /// The smallest signed head of at least `need` records that somebody outside holds, else the smallest one: so that the
    /// same run gives the same bundle, however the ledger grows. It is by the key that signs the bundle; where that key
    /// took another's place, the head over the record of it is signed by both. `None` when no head covers so many.
    async fn read(store: &SqliteStore, key: &VerifierKey, need: u64) -> Result<Option<Self>, Failure> {
        let mut anchors: BTreeMap<u64, Vec<Anchor>> = BTreeMap::new();
        let mut rotations = Vec::new();
        record::read(store, &RunId::installation(), 0, |told| match told.event {
            Event::Installation(Notice::Anchored { anchor, kind, size, root, receipt }) => {
                let held = anchors.entry(size).or_default();
                let file = format!("anchors/{}-{}.{}", held.len() + 1, plain(&anchor), ending(&kind));
                held.push(Anchor {
                    anchor,
                    kind,
                    size,
                    root,
                    record: told.seq,
                    time: told.time,
                    sha256: receipt,
                    file,
                });
            }
            Event::Installation(Notice::KeyRotated { .. }) => rotations.push(told.seq),
            _ => {}
        })
        .await?;
        let mut covering: Vec<(Checkpoint, String)> = Vec::new();
        let mut other = None;
        for signed in store.checkpoints().await.map_err(|error| record::failed(&error))? {
            match Checkpoint::verify(&signed.note, key) {
                _ if signed.size < need => {}
                Ok(checkpoint) => covering.push((checkpoint, signed.note)),
                Err(error) => other = Some(error),
            }
        }
        covering.sort_by_key(|(checkpoint, _)| checkpoint.size);
        let held = |at: &Checkpoint| anchors.get(&at.size).is_some_and(|held| held.iter().any(|by| by.root == at.root));
        let anchored = covering.iter().position(|(checkpoint, _)| held(checkpoint)).unwrap_or(0);
        if covering.is_empty() {
            let by_another = |error| not_whole(&format!("the ledger's signed head: {error}"));
            return other.map_or(Ok(None), |error| Err(by_another(error)));
        }
        let (checkpoint, note) = covering.swap_remove(anchored);
        let mut anchors = anchors.remove(&checkpoint.size).unwrap_or_default();
        anchors.retain(|anchor| anchor.root == checkpoint.root);
        rotations.retain(|seq| *seq < checkpoint.size);
        Ok(Some(Self { note, checkpoint, anchors, rotations }))
    }
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

fn not_whole(why: &str) -> Failure {
    Failure::new("RB0639", FAULT, format!("nobody could verify a bundle of this run: {why}"))
        .next("`runbook evidence verify RUN` names the first record that is wrong")
}

/// A bundle being made.
struct Writer<'a> {
    store: SqliteStore,
    source: Source,
    signing: Signing<'a>,
    names: Names,
    target: Target,
    missing: Vec<String>,
    /// Of outputs' contents, by their blob.
    digests: BTreeMap<Sha256, Sha256>,
}

impl Writer<'_> {
    fn trust(&mut self) -> Result<(), Failure> {
        let key = self.signing.key;
        self.target.put("trust/allowed_signers", bundle::allowed_signers(key).as_bytes())?;
        self.target.put("trust/log.pem", runbook_ledger::pem::public_key(&key.public_key()).as_bytes())?;
        self.target.put("trust/log.vkey", format!("{key}\n").as_bytes())?;
        Ok(())
    }

    async fn plan(&mut self) -> Result<(), Failure> {
        if let Some(header) = &self.source.view.header {
            let digest = header.plan_sha256;
            let most = runbook_plan::saved::PLAN_BYTES_MAX as u64;
            let bytes = self.store.get(&digest, most).await.map_err(|error| record::failed(&error))?;
            self.target.put("plan/plan.json", &bytes)?;
        }
        let view = self.source.view.clone();
        for host in view.hosts.keys() {
            let name = format!("plan/rendered/{}.json", self.names.host(host));
            self.target.put(&name, &bundle::rendered(&view, host))?;
        }
        Ok(())
    }

    /// The signed head, the tree's tiles, and a proof for each record of the run.
    async fn ledger(&mut self) -> Result<(), Failure> {
        let size = self.source.head.checkpoint.size;
        self.target.put("ledger/checkpoint", self.source.head.note.as_bytes())?;
        let (mut tiler, mut tree) = (Tiler::new(), Frontier::new());
        let mut wanted = self.source.seqs.clone();
        wanted.extend(&self.source.head.rotations);
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
        if tree.root() != self.source.head.checkpoint.root {
            return Err(not_whole("the ledger's records do not have the root that was signed"));
        }
        for seq in wanted {
            let path = prover.path(seq).ok_or_else(|| not_whole("a record of the run is beyond the signed head"))?;
            let proof = TlogProof { index: seq, path, checkpoint: self.source.head.note.clone() };
            self.target.put(&format!("ledger/proofs/{seq}.tlog-proof"), proof.text().as_bytes())?;
        }
        Ok(())
    }

    async fn anchors(&mut self) -> Result<(), Failure> {
        for at in 0..self.source.head.anchors.len() {
            let (digest, file) = (self.source.head.anchors[at].sha256, self.source.head.anchors[at].file.clone());
            self.content(&digest, &file, &format!("the receipt of {}", self.source.head.anchors[at].anchor)).await?;
        }
        if !self.source.head.anchors.is_empty() {
            let list = serde_json::json!({"schema": "anchors/v1", "anchors": self.source.head.anchors});
            self.target.put("anchors/anchors.json", format!("{list}\n").as_bytes())?;
        }
        Ok(())
    }

    async fn records(&mut self) -> Result<(), Failure> {
        let mut next = 0;
        // Records that came meanwhile are not proved by the head, and not part of this bundle.
        let last = self.source.seqs.last().copied().unwrap_or_default();
        loop {
            let page =
                self.store.records(&self.source.run, next, PAGE).await.map_err(|error| record::failed(&error))?;
            let whole = page.len() == PAGE;
            for sealed in page.into_iter().take_while(|sealed| sealed.seq <= last) {
                next = sealed.run_seq + 1;
                self.record(&sealed)?;
            }
            if !whole {
                break;
            }
        }
        for seq in std::mem::take(&mut self.source.head.rotations) {
            for sealed in self.store.ledger(seq, 1).await.map_err(|error| record::failed(&error))? {
                self.record(&sealed)?;
            }
        }
        Ok(())
    }

    fn record(&mut self, sealed: &Sealed) -> Result<(), Failure> {
        if leaf_hash(&sealed.bytes) != sealed.leaf {
            return Err(not_whole(&format!("record {} is not as it was sealed", sealed.seq)));
        }
        self.target.put(&format!("records/{}.json", sealed.seq), &sealed.bytes)?;
        Ok(())
    }

    /// All that the records name.
    async fn contents(&mut self) -> Result<(), Failure> {
        for list in std::mem::take(&mut self.source.lists) {
            if let Ok(bytes) = self.store.get(&list, LIST_BYTES_MAX).await {
                self.source.named.extend(bundle::downloads(&bytes));
            }
        }
        for digest in std::mem::take(&mut self.source.named) {
            self.content(&digest, &bundle::blob_path(&digest), &format!("the content {digest}")).await?;
        }
        Ok(())
    }

    async fn content(&mut self, digest: &Sha256, file: &str, what: &str) -> Result<(), Failure> {
        // What is in an output, for `run/v1`: computed on the way.
        let salted = self.source.salted.contains(digest);
        let mut inner = (Hasher::default(), 0_usize);
        let mut look = |piece: &[u8]| {
            if salted {
                inner.0.update(&piece[LINE_BYTES.saturating_sub(inner.1).min(piece.len())..]);
                inner.1 += piece.len();
            }
        };
        match self.store.get(digest, SMALL_MAX).await {
            Ok(bytes) => {
                look(&bytes);
                self.target.put(file, &bytes)?;
            }
            Err(StoreError::TooLarge(_)) => match self.store.file(digest).await {
                Ok(blob) => {
                    let content = File::open(&blob.path).map_err(|error| self.target.failed(&error))?;
                    self.target.stream(file, content, &mut look)?;
                }
                Err(error) => return self.lacks(what, error),
            },
            Err(error) => return self.lacks(what, error),
        }
        if salted {
            self.digests.insert(*digest, inner.0.finish());
        }
        Ok(())
    }

    /// A content that is not there, or not as it was, is told of; the rest is exported.
    fn lacks(&mut self, what: &str, error: StoreError) -> Result<(), Failure> {
        match error {
            StoreError::Missing(_) => self.missing.push(format!("{what} is not in the store any more")),
            StoreError::Corrupt(_) => self.missing.push(format!("{what} is damaged in the store")),
            error => return Err(record::failed(&error)),
        }
        Ok(())
    }

    async fn attachments(&self, project: &Project) -> Result<Attachments, Failure> {
        let mut attachments = record::attachments(&self.store, project, &self.source.view).await?;
        attachments.ledger = Some(self.source.ledger());
        Ok(attachments)
    }

    async fn run_json(&mut self, project: &Project) -> Result<Sha256, Failure> {
        let mut attachments = self.attachments(project).await?;
        attachments.digests.append(&mut self.digests);
        let document = runbook_report::json::run(&self.source.view, &attachments, None);
        let mut file = BufWriter::new(self.target.aside()?);
        serde_json::to_writer_pretty(&mut file, &document)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|error| self.target.failed(&error))?;
        let file = file.into_inner().map_err(|error| self.target.failed(&error.into_error()))?;
        self.target.stream("run.json", file, &mut |_| ())
    }

    async fn sessions(&mut self) -> Result<(), Failure> {
        let view = self.source.view.clone();
        for host in view.hosts.iter().filter(|(_, entry)| entry.started_ms.is_some()).map(|(name, _)| name) {
            let file = self.target.aside()?;
            let recorded = recorded(self.store.clone(), view.clone(), host.clone(), file).await?;
            let file = recorded.map_err(|error| self.target.failed(&error))?;
            self.target.stream(&format!("sessions/{}.cast", self.names.host(host)), file, &mut |_| ())?;
        }
        Ok(())
    }

    async fn attest(&mut self, run_json: Sha256) -> Result<(), Failure> {
        let view = self.source.view.clone();
        let unsigned = |error: bundle::NotSigned| Failure::new("RB0606", FAULT, error.to_string());
        for (name, content) in bundle::layout(&view, &self.names, &self.signing).map_err(unsigned)? {
            self.target.put(&format!("attest/{name}"), &content)?;
        }
        for host in view.hosts.keys() {
            for cell in bundle::cells(&view, &self.names, host).iter().filter(|cell| cell.was_done()) {
                let end = cell.ended_seq().and_then(|seq| self.source.ends.get(&seq));
                let (name, content) = bundle::link(cell, end, &self.signing).map_err(unsigned)?;
                self.target.put(&format!("attest/{name}"), &content)?;
            }
        }
        let plan = view.header.as_ref().map_or_else(|| view.plan.digest(), |header| header.plan_sha256);
        let checkpoint = Sha256::of(self.source.head.note.as_bytes());
        let subjects = [("run.json", run_json), ("plan/plan.json", plan), ("ledger/checkpoint", checkpoint)];
        let statement = bundle::statement(&view, &self.source.ledger(), &subjects, &self.signing).map_err(unsigned)?;
        self.target.put("attest/run.dsse.json", &statement)?;
        Ok(())
    }

    /// The report for people. It has no verdict: whoever reads it is not to believe who made it.
    async fn report(&mut self, project: &Project) -> Result<(), Failure> {
        let view = self.source.view.clone();
        let attachments = self.attachments(project).await?;
        let verification = Verification {
            how: Some("not judged by who made this file: VERIFY.txt beside it says how to check the record".into()),
            ledger_key: Some(self.signing.key.to_string()),
            ..Verification::default()
        };
        let mut file = BufWriter::new(self.target.aside()?);
        let mut put = |text: &str| file.write_all(text.as_bytes()).map_err(|error| self.target.failed(&error));
        put(&html::head(&view, &attachments, &verification))?;
        for (name, host) in &view.hosts {
            let mut contents = Contents::new();
            for digest in html::contents_of(host) {
                if let Some(beginning) = super::report::beginning(&self.store, &digest).await {
                    contents.insert(digest, beginning);
                }
            }
            put(&html::host(&view, &attachments, name, host, &contents))?;
        }
        put(&html::tail(&view, &attachments, &verification, Revision::R2))?;
        let file = file.into_inner().map_err(|error| self.target.failed(&error.into_error()))?;
        self.target.stream("report.html", file, &mut |_| ())?;
        Ok(())
    }

    fn texts(&mut self) -> Result<(), Failure> {
        let (head, anchors) = (self.source.ledger(), self.source.anchored());
        let facts = Facts {
            view: &self.source.view,
            origin: self.signing.key.name(),
            head: &head,
            anchors: &anchors,
            missing: &self.missing,
        };
        self.target.put("verify.py", bundle::VERIFY_PY.as_bytes())?;
        self.target.put("README.txt", bundle::readme(&facts).as_bytes())?;
        self.target.put("VERIFY.txt", bundle::verify_txt(&facts).as_bytes())?;
        Ok(())
    }
}

/// Writes a host's recording into `file`, on a thread of its own: it asks for one content after the other.
async fn recorded(
    store: SqliteStore,
    view: Arc<RunView>,
    host: HostName,
    file: File,
) -> Result<std::io::Result<File>, Failure> {
    let runtime = tokio::runtime::Handle::current();
    let write = move || {
        let mut file = BufWriter::new(file);
        let contents = |digest: &Sha256, most| runtime.block_on(record::beginning(&store, digest, most));
        recording::write(&view, &host, contents, &mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)
    };
    tokio::task::spawn_blocking(write).await.map_err(crate::failure::fault)
}
