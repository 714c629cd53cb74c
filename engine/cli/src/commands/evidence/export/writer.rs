//! The bundle of a run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::sync::Arc;

use runbook_ledger::redaction::Redacter;
use runbook_model::{HostName, Sha256};
use runbook_ports::store::StoreError;
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::bundle::{self, Facts, Names};
use runbook_report::html::{self, Contents, Verification};
use runbook_report::json::Attachments;
use runbook_report::objectives::Revision;
use runbook_report::recording::{self, Beginning};
use runbook_store::SqliteStore;

use super::PAGE;
use super::base::Base;
use super::source::Source;
use crate::failure::{FAULT, Failure};
use crate::project::Project;
use crate::record;

/// The longest list of transfers that is read for the contents that it names.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// The longest file of a policy, its people or an approval.
const AUTHORIZATION_BYTES_MAX: u64 = 16 << 20;
/// Bytes of an output that are redacted at once.
const PIECE: usize = 256 * 1024;

/// A run's bundle being made.
pub(super) struct Writer<'a> {
    pub(super) base: Base<'a>,
    pub(super) source: Arc<Source>,
    pub(super) names: Names,
}

impl Writer<'_> {
    /// All of it but the list of files.
    pub(super) async fn write(&mut self, project: &Project) -> Result<(), Failure> {
        let source = self.source.clone();
        self.base.target.look_for(source.edition.sought(&self.base.store).await?);
        self.base.trust()?;
        self.plan().await?;
        self.base.ledger(&source.head, &source.seqs).await?;
        self.base.anchors(&source.head).await?;
        self.records().await?;
        self.contents().await?;
        self.authorization().await?;
        let run_json = self.run_json(project).await?;
        self.sessions().await?;
        self.attest(run_json).await?;
        self.base.target.put("oscal/assessment-results.json", &bundle::assessment_results(&source.view))?;
        self.report(project).await?;
        self.texts()
    }

    async fn plan(&mut self) -> Result<(), Failure> {
        let view = &self.source.view;
        if let Some(header) = &view.header {
            let digest = header.plan_sha256;
            let most = runbook_plan::saved::PLAN_BYTES_MAX as u64;
            let bytes = self.base.store.get(&digest, most).await.map_err(|error| record::failed(&error))?;
            self.base.target.put("plan/plan.json", &bytes)?;
        }
        for host in view.hosts.keys() {
            let name = format!("plan/rendered/{}.json", self.names.host(host));
            self.base.target.put(&name, &bundle::rendered(view, host))?;
        }
        Ok(())
    }

    async fn records(&mut self) -> Result<(), Failure> {
        let mut next = 0;
        // Records that came meanwhile are not proved by the head, and not part of this bundle.
        let last = self.source.seqs.last().copied().unwrap_or_default();
        loop {
            let page = self.base.store.records(&self.source.run, next, PAGE).await;
            let page = page.map_err(|error| record::failed(&error))?;
            let whole = page.len() == PAGE;
            for sealed in page.into_iter().take_while(|sealed| sealed.seq <= last) {
                next = sealed.run_seq + 1;
                self.base.record(&sealed)?;
            }
            if !whole {
                break;
            }
        }
        self.base.notices(&self.source.head).await
    }

    /// All that the records name; of outputs of which something is withheld, the rest.
    async fn contents(&mut self) -> Result<(), Failure> {
        let source = self.source.clone();
        let mut named = source.named.clone();
        for list in &source.lists {
            if let Ok(bytes) = self.base.store.get(list, LIST_BYTES_MAX).await {
                named.extend(bundle::downloads(&bytes));
            }
        }
        let is_large = |digest: &&Sha256| source.edition.of(digest).is_none() && self.base.store.is_large(digest);
        let large: Vec<Sha256> = named.iter().filter(is_large).copied().collect();
        let mut large = large.iter().peekable();
        for digest in named {
            if large.next_if(|next| **next == digest).is_some() {
                self.base.look_ahead(&digest, large.peek().copied());
            }
            let what = format!("the content {digest}");
            if source.edition.of(&digest).is_some() {
                self.redacted(&digest, &what).await?;
            } else {
                let salted = source.salted.contains(&digest);
                self.base.content(&digest, &bundle::blob_path(&digest), &what, salted).await?;
            }
        }
        if !source.edition.is_full() {
            let list = bundle::redactions(&source.run, source.edition.listed());
            self.base.target.put("redactions.json", &list)?;
        }
        Ok(())
    }

    /// Who allowed it, under names. What is not in the store any more was told with the contents.
    async fn authorization(&mut self) -> Result<(), Failure> {
        let source = self.source.clone();
        let Some(header) = &source.view.header else { return Ok(()) };
        for file in bundle::authorization(header) {
            let Ok(content) = self.base.store.get(&file.digest, AUTHORIZATION_BYTES_MAX).await else { continue };
            self.base.target.put(&file.path, &content)?;
            if header.people == Some(file.digest)
                && !header.approvals.is_empty()
                && let Ok(people) = runbook_lang::parse_people(&file.path, &content)
            {
                self.base.target.put(bundle::SIGNERS, bundle::approvers(&people.value, header).as_bytes())?;
            }
        }
        Ok(())
    }

    async fn redacted(&mut self, digest: &Sha256, what: &str) -> Result<(), Failure> {
        let source = self.source.clone();
        let Some(redacted) = source.edition.of(digest) else { return Ok(()) };
        let blob = match self.base.store.file(digest).await {
            Ok(blob) => blob,
            Err(error) => return self.base.lacks(what, error),
        };
        let mut out = BufWriter::new(self.base.target.aside()?);
        let mut written = Ok(());
        let mut put = |text: &str| {
            if written.is_ok() {
                written = out.write_all(text.as_bytes());
            }
        };
        let failed = |error| self.base.target.failed(&error);
        let mut redact = || -> std::io::Result<bool> {
            let Ok(mut redacter) = Redacter::new(&redacted.output, &redacted.withheld, &mut put) else {
                return Ok(false);
            };
            let mut stored = File::open(&blob.path)?;
            let mut buffer = vec![0; PIECE];
            loop {
                let length = stored.read(&mut buffer)?;
                if length == 0 {
                    return Ok(redacter.finish(&mut put).is_ok());
                }
                if redacter.push(&buffer[..length], &mut put).is_err() {
                    return Ok(false);
                }
            }
        };
        let is_output = redact().map_err(failed)?;
        written.map_err(failed)?;
        if !is_output {
            return self.base.lacks(what, StoreError::Corrupt(digest.to_string()));
        }
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        let root = redacted.output.root.unwrap_or(Sha256([0; 32]));
        self.base.target.stream(&bundle::redacted_path(&root), file, &mut |_| ())?;
        Ok(())
    }

    async fn attachments(&self, project: &Project) -> Result<Attachments, Failure> {
        let mut attachments = record::attachments(&self.base.store, project, &self.source.view).await?;
        attachments.ledger = Some(self.source.head.ledger());
        // They are records after the head of the bundle, and what is due changes from day to day.
        attachments.reviews.clear();
        attachments.review_stands = None;
        Ok(attachments)
    }

    async fn run_json(&mut self, project: &Project) -> Result<Sha256, Failure> {
        let mut attachments = self.attachments(project).await?;
        attachments.digests.append(&mut self.base.digests);
        self.source.edition.mask_attachments(&mut attachments);
        let document = runbook_report::json::run(&self.source.view, &attachments, None);
        let mut file = BufWriter::new(self.base.target.aside()?);
        serde_json::to_writer_pretty(&mut file, &document)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(|error| self.base.target.failed(&error))?;
        let file = file.into_inner().map_err(|error| self.base.target.failed(&error.into_error()))?;
        self.base.target.stream("run.json", file, &mut |_| ())
    }

    async fn sessions(&mut self) -> Result<(), Failure> {
        let source = self.source.clone();
        let lengths = Arc::new(std::mem::take(&mut self.base.lengths));
        for host in source.view.hosts.iter().filter(|(_, entry)| entry.started_ms.is_some()).map(|(name, _)| name) {
            let file = self.base.target.aside()?;
            let lengths = lengths.clone();
            let recorded = recorded(self.base.store.clone(), source.clone(), lengths, host.clone(), file).await?;
            let file = recorded.map_err(|error| self.base.target.failed(&error))?;
            self.base.target.stream(&format!("sessions/{}.cast", self.names.host(host)), file, &mut |_| ())?;
        }
        Ok(())
    }

    async fn attest(&mut self, run_json: Sha256) -> Result<(), Failure> {
        let view = &self.source.view;
        let (signing, target) = (&self.base.signing, &mut self.base.target);
        let unsigned = |error: bundle::NotSigned| Failure::new("RB0606", FAULT, error.to_string());
        for (name, content) in bundle::layout(view, &self.names, signing).map_err(unsigned)? {
            target.put(&format!("attest/{name}"), &content)?;
        }
        for host in view.hosts.keys() {
            for cell in bundle::cells(view, &self.names, host).iter().filter(|cell| cell.was_done()) {
                let end = cell.ended_seq().and_then(|seq| self.source.ends.get(&seq));
                let (name, content) = bundle::link(cell, end, signing).map_err(unsigned)?;
                target.put(&format!("attest/{name}"), &content)?;
            }
        }
        let plan = view.header.as_ref().map_or_else(|| view.plan.digest(), |header| header.plan_sha256);
        let checkpoint = Sha256::of(self.source.head.note.as_bytes());
        let subjects = [("run.json", run_json), ("plan/plan.json", plan), ("ledger/checkpoint", checkpoint)];
        let statement = bundle::statement(view, &self.source.head.ledger(), &subjects, signing).map_err(unsigned)?;
        target.put("attest/run.dsse.json", &statement)?;
        Ok(())
    }

    /// The report for people. It has no verdict: whoever reads it is not to believe who made it.
    async fn report(&mut self, project: &Project) -> Result<(), Failure> {
        let source = self.source.clone();
        let mut attachments = self.attachments(project).await?;
        source.edition.mask_attachments(&mut attachments);
        let how = "not judged by who made this file: VERIFY.txt beside it says how to check the record";
        let how = source.edition.told().map_or_else(|| how.to_owned(), |told| format!("{told}; {how}"));
        let verification = Verification {
            how: Some(how),
            ledger_key: Some(self.base.signing.key.to_string()),
            ..Verification::default()
        };
        let mut file = BufWriter::new(self.base.target.aside()?);
        let mut put = |text: &str| file.write_all(text.as_bytes()).map_err(|error| self.base.target.failed(&error));
        put(&html::head(&source.view, &attachments, &verification))?;
        for (name, host) in &source.view.hosts {
            let mut contents = Contents::new();
            for digest in html::contents_of(host) {
                if let Some(mut beginning) =
                    crate::commands::evidence::report::beginning(&self.base.store, &digest).await
                {
                    source.edition.mask(&digest, &mut beginning);
                    contents.insert(digest, beginning);
                }
            }
            put(&html::host(&source.view, &attachments, name, host, &contents))?;
        }
        put(&html::tail(&source.view, &attachments, &verification, Revision::R2))?;
        let file = file.into_inner().map_err(|error| self.base.target.failed(&error.into_error()))?;
        self.base.target.stream("report.html", file, &mut |_| ())?;
        Ok(())
    }

    fn texts(&mut self) -> Result<(), Failure> {
        let (head, anchors) = (self.source.head.ledger(), self.source.head.anchored());
        let also_in: Vec<String> = self.base.target.found().map(str::to_owned).collect();
        let facts = Facts {
            view: &self.source.view,
            origin: self.base.signing.key.name(),
            head: &head,
            anchors: &anchors,
            stamps: &self.base.stamps,
            missing: &self.base.missing,
            redacted: self.source.edition.told(),
            also_in: &also_in,
        };
        let target = &mut self.base.target;
        target.put("verify.py", bundle::VERIFY_PY.as_bytes())?;
        target.put("README.txt", bundle::readme(&facts).as_bytes())?;
        target.put("VERIFY.txt", bundle::verify_txt(&facts).as_bytes())?;
        Ok(())
    }
}

/// Writes a host's recording into `file`, on a thread of its own: it asks for one content after the other.
async fn recorded(
    store: SqliteStore,
    source: Arc<Source>,
    lengths: Arc<BTreeMap<Sha256, u64>>,
    host: HostName,
    file: File,
) -> Result<std::io::Result<File>, Failure> {
    let runtime = tokio::runtime::Handle::current();
    let write = move || {
        let mut file = BufWriter::new(file);
        let contents = |digest: &Sha256, most| {
            // Of a large content whose length is known, no more than its beginning is read again.
            let mut beginning = match lengths.get(digest) {
                Some(length) => {
                    let bytes = runtime.block_on(record::prefix(&store, digest, most as u64))?;
                    Beginning { bytes, length: *length }
                }
                None => runtime.block_on(record::beginning(&store, digest, most))?,
            };
            source.edition.mask(digest, &mut beginning.bytes);
            Some(beginning)
        };
        recording::write(&source.view, &host, contents, &mut file)?;
        file.into_inner().map_err(std::io::IntoInnerError::into_error)
    };
    tokio::task::spawn_blocking(write).await.map_err(crate::failure::fault)
}
