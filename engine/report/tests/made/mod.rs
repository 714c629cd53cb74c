//! Bundles made for tests, in the layout of `docs/evidence-format.md`: small ones to tamper with, large ones to measure.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use runbook_ledger::segments::{Seed, Segmenter};
use runbook_ledger::sshsig::{self, Message};
use runbook_ledger::tile::{Prover, Tiler};
use runbook_ledger::tlog_proof::TlogProof;
use runbook_ledger::{Checkpoint, FileKey, Sealer, VerifierKey};
use runbook_model::event::{AttemptReport, Event};
use runbook_model::input::Intent;
use runbook_model::outcome::{Ended, Exit, OutputRef};
use runbook_model::plan::{Phase, Plan, Role};
use runbook_model::record::{Head, Sealed};
use runbook_model::{AttemptId, AttemptOutcome, Cell, HostName, HostOutcome, Notice, RunId, Sha256, canonical};

use crate::sample;

/// The ledger's name.
pub(crate) const ORIGIN: &str = "runbook-made";

/// The policy of the run.
pub(crate) const POLICY: &str = "schema: policy/v1\nrules: []\n";

/// A bundle's files by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// A ledger with a run in it.
pub(crate) struct Made {
    pub(crate) secret: FileKey,
    pub(crate) key: VerifierKey,
    pub(crate) plan: Arc<Plan>,
    /// All records of the ledger, other runs' too.
    pub(crate) ledger: Vec<Sealed>,
    pub(crate) blobs: BTreeMap<Sha256, Vec<u8>>,
}

pub(crate) fn run() -> RunId {
    sample::RUN.into()
}

fn other_run() -> RunId {
    "0199c1f2-7a10-7cc0-8000-0000000other".replace("other", "0beef").into()
}

fn plan(hosts: usize, steps: usize) -> Plan {
    let names: Vec<String> = (0..hosts).map(|n| format!("web{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut plan = sample::plan(&[&names]);
    plan.steps = (0..steps).map(|n| sample::step(&format!("step{n}"), "a step", Phase::Execute, Role::Plain)).collect();
    plan
}

/// An output as it is kept.
pub(crate) fn output(seed: u64, content: &str) -> (OutputRef, Vec<u8>) {
    let seed = Seed(Sha256::of(&seed.to_be_bytes()).0);
    let mut segmenter = Segmenter::new(seed);
    segmenter.push(content.as_bytes());
    let (root, segments) = segmenter.finish();
    let blob = format!("{}{content}", seed.line()).into_bytes();
    let output = OutputRef {
        root: Some(root),
        segments,
        bytes: content.len() as u64,
        blob: Some(Sha256::of(&blob)),
        ..OutputRef::empty()
    };
    (output, blob)
}

impl Made {
    /// A run of so many hosts and steps that ended well; every fifth record of the ledger is another run's.
    pub(crate) fn new(hosts: usize, steps: usize) -> Self {
        Self::changed(hosts, steps, |_| ())
    }

    /// The same with the reports of attempts as `change` makes them.
    pub(crate) fn changed(hosts: usize, steps: usize, change: impl Fn(&mut AttemptReport)) -> Self {
        let secret = FileKey::from_seed([7; 32]);
        let key = VerifierKey::new(ORIGIN, &secret.public_key()).unwrap();
        let plan = Arc::new(plan(hosts, steps));
        let mut made = Self { secret, key, plan, ledger: Vec::new(), blobs: BTreeMap::new() };
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        let (mut of_the_run, mut of_the_other, mut mono) = (0, 0, 0);
        let events = made.events();
        for mut event in events {
            if let Event::AttemptEnded { report, .. } = &mut event {
                change(report);
            }
            mono += 3;
            if sealer.size().is_multiple_of(5) {
                let other = Event::HostStarted { host: "private".into(), begun_ms: None };
                let sealed = sealer.seal(sample::START + mono, mono, &other_run(), of_the_other, &other).unwrap();
                of_the_other += 1;
                made.ledger.push(sealed);
            }
            made.ledger.push(sealer.seal(sample::START + mono, mono, &run(), of_the_run, &event).unwrap());
            of_the_run += 1;
        }
        made
    }

    fn events(&mut self) -> Vec<Event> {
        let plan = self.plan.clone();
        let command = self.blob(b"true".to_vec());
        let mut opening = sample::opening(&plan);
        opening.policy = Some(self.blob(POLICY.into()));
        let mut events = vec![Event::RunOpened(Box::new(opening)), Event::RunStarted];
        for host in plan.hosts.keys() {
            events.push(Event::HostStarted { host: host.clone(), begun_ms: None });
            for step in &plan.steps {
                events.extend(self.cell(host, &step.id, command, events.len() as u64));
            }
            events.push(Event::HostEnded {
                host: host.clone(),
                outcome: HostOutcome::Succeeded,
                reason: String::new(),
            });
        }
        events.push(Event::RunEnded { outcome: HostOutcome::Succeeded, clock: None });
        events
    }

    fn cell(&mut self, host: &HostName, step: &runbook_model::StepId, command: Sha256, seed: u64) -> [Event; 3] {
        let attempt = AttemptId { run: run(), host: host.clone(), step: step.clone(), attempt: 1 };
        let (stdout, blob) = output(seed, &format!("{host} does {step}\nPIN 4711 of {seed}\ndone\n"));
        self.blob(blob);
        let report = AttemptReport {
            ended: Ended::Exited { exit: Exit::Code(0), unmet: vec![], class: None },
            started_ms: sample::START,
            ended_ms: sample::START + 5,
            duration_ms: 5,
            stdout,
            stderr: OutputRef::empty(),
            last_line: None,
            transfers: None,
            timing: None,
            undeclared: None,
        };
        let intent =
            Intent { command_sha256: command, template_sha256: Sha256::of(b"true"), variables: vec![], account: None };
        let cell = Cell { host: host.clone(), step: step.clone() };
        let outcome = AttemptOutcome::Succeeded;
        [
            Event::AttemptStarted { attempt: attempt.clone(), phase: Phase::Execute, intent },
            Event::AttemptEnded { attempt, outcome, report: Box::new(report) },
            Event::StepEnded { cell, outcome, reason: String::new(), done_on: None, snapshot: None },
        ]
    }

    /// Seals a record that belongs to no run, at the ledger's end.
    pub(crate) fn notice(&mut self, notice: Notice) -> u64 {
        let mut tree = runbook_ledger::tree::Frontier::new();
        self.ledger.iter().for_each(|sealed| tree.push(sealed.leaf));
        let head = Head {
            size: tree.size(),
            last_leaf: self.ledger.last().map(|sealed| sealed.leaf),
            frontier: tree.roots().to_vec(),
        };
        let run = RunId::installation();
        let run_seq = self.ledger.iter().filter(|sealed| sealed.run == run).count() as u64;
        let mut sealer = Sealer::new(&head).unwrap();
        self.ledger.push(sealer.seal(sample::START, 0, &run, run_seq, &Event::Installation(notice)).unwrap());
        head.size
    }

    fn blob(&mut self, bytes: Vec<u8>) -> Sha256 {
        let digest = Sha256::of(&bytes);
        self.blobs.insert(digest, bytes);
        digest
    }

    /// Signs the head over the first `size` records.
    pub(crate) fn head(&self, size: usize) -> String {
        let mut tree = runbook_ledger::tree::Frontier::new();
        self.ledger[..size].iter().for_each(|sealed| tree.push(sealed.leaf));
        let head = Checkpoint { origin: ORIGIN.into(), size: size as u64, root: tree.root() };
        head.sign(None, &self.key, |bytes| Ok(self.secret.sign(bytes))).unwrap()
    }

    /// The bundle's files, without the list of them.
    pub(crate) fn files(&self) -> Files {
        let mut files = Files::new();
        let own = || self.ledger.iter().filter(|sealed| sealed.run == run() || sealed.run.is_installation());
        let note = self.head(self.ledger.len());
        let mut tiler = Tiler::new();
        let mut prover = Prover::new(own().map(|sealed| sealed.seq).collect());
        let mut tiles = Vec::new();
        for sealed in &self.ledger {
            prover.push(sealed.leaf);
            tiler
                .push(sealed.leaf, |tile, bytes| -> Result<(), ()> {
                    tiles.push((tile, bytes.to_vec()));
                    Ok(())
                })
                .unwrap();
        }
        tiler
            .finish(|tile, bytes| -> Result<(), ()> {
                tiles.push((tile, bytes.to_vec()));
                Ok(())
            })
            .unwrap();
        files.extend(tiles.into_iter().map(|(tile, bytes)| (format!("ledger/{}", tile.path()), bytes)));
        for sealed in own() {
            files.insert(format!("records/{}.json", sealed.seq), sealed.bytes.clone());
            let path = prover.path(sealed.seq).unwrap();
            let proof = TlogProof { index: sealed.seq, path, checkpoint: note.clone() };
            files.insert(format!("ledger/proofs/{}.tlog-proof", sealed.seq), proof.text().into_bytes());
        }
        for (digest, bytes) in &self.blobs {
            let digits = digest.to_string();
            files.insert(format!("blobs/sha256/{}/{digits}", &digits[..2]), bytes.clone());
        }
        files.insert("ledger/checkpoint".into(), note.into_bytes());
        files.insert("plan/plan.json".into(), canonical::bytes(&*self.plan));
        files.insert("trust/log.vkey".into(), format!("{}\n", self.key).into_bytes());
        let plan = self.plan.digest().to_string();
        let summary = serde_json::json!({"run_id": run(), "plan_digest": plan, "outcome": "succeeded"});
        files.insert("run.json".into(), serde_json::to_vec(&summary).unwrap());
        files.insert("README.txt".into(), b"A bundle made for a test.\n".to_vec());
        files
    }

    /// Lists the files and signs the list.
    pub(crate) fn seal(&self, files: &mut Files) {
        files.retain(|name, _| !name.starts_with("SHA256SUMS"));
        let sums: String = files.iter().map(|(name, bytes)| format!("{}  {name}\n", Sha256::of(bytes))).collect();
        let message = Message::of(sums.as_bytes());
        let public = self.secret.public_key();
        let signature =
            sshsig::sign("runbook-bundle@v1", &message, &public, |bytes| Ok(self.secret.sign(bytes))).unwrap();
        files.insert("SHA256SUMS".into(), sums.into_bytes());
        files.insert("SHA256SUMS.sig".into(), signature.into_bytes());
    }

    /// A whole bundle.
    pub(crate) fn bundle(&self) -> Files {
        let mut files = self.files();
        self.seal(&mut files);
        files
    }
}

/// Writes the files below a folder.
pub(crate) fn write_folder(folder: &Path, files: &Files) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// Packs the files.
pub(crate) fn write_archive(path: &Path, files: &Files) {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        append(&mut builder, name, bytes);
    }
    std::fs::write(path, packed(&builder.into_inner().unwrap())).unwrap();
}

/// One entry as the exporter writes it.
pub(crate) fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(sample::START / 1_000);
    builder.append_data(&mut header, name, bytes).unwrap();
}

/// As zstd.
pub(crate) fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
