//! `evidence report`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use runbook_ledger::segments::LINE_BYTES;
use runbook_model::Sha256;
use runbook_report::RunView;
use runbook_report::html::{self, Contents, Verification};
use runbook_report::json::Attachments;
use runbook_report::objectives::Revision;
use runbook_report::verdict::Verdict;
use runbook_store::SqliteStore;
use serde::Serialize;

use super::pdf;
use super::verify::{Asked, judge};
use crate::arguments::{EvidenceReport, ObjectivesOf};
use crate::edition::Edition;
use crate::failure::{FAULT, Failure};
use crate::notices;
use crate::output;
use crate::project::Project;
use crate::record;

/// `report/v1`.
#[derive(Debug, Serialize)]
struct Written {
    schema: &'static str,
    run_id: String,
    /// The file, as an absolute path; null when only a PDF was asked for.
    file: Option<String>,
    /// Its length; null like it.
    bytes: Option<u64>,
    /// The PDF, as an absolute path; null when none was asked for.
    pdf: Option<String>,
    /// The code of `evidence verify`.
    code: u8,
    verdict: &'static str,
}

/// Writes the report beside its place, then puts it there; the PDF after it.
pub(super) async fn write(project: &Project, arguments: &EvidenceReport) -> Result<u8, Failure> {
    // Before anything is read: a person should not wait for what cannot be.
    let printer = arguments.pdf.as_ref().map(|_| pdf::find()).transpose()?;
    let asked = Asked { pins: &arguments.pin, against: &[], tsa_ca: arguments.tsa_ca.as_deref() };
    let (store, index, verdict) = judge(project, &arguments.run, asked).await?;
    let view = record::view(&store, &index).await?;
    let mut attachments = record::attachments(&store, project, &view).await?;
    let edition = if arguments.redacted { Edition::redacted(&store, &view).await? } else { Edition::default() };
    edition.mask_attachments(&mut attachments);
    let verification = verification(&verdict, &edition);
    let revision = match arguments.objectives {
        ObjectivesOf::R2 => Revision::R2,
        ObjectivesOf::R3 => Revision::R3,
    };

    let target = arguments.out.as_deref().or(arguments.pdf.as_deref()).expect("one of the two is required");
    let (place, folder) = place(target)?;
    let mut file = tempfile::Builder::new()
        .prefix(".runbook-report-")
        .suffix(".html")
        .tempfile_in(folder)
        .map_err(|error| cannot(target, &error))?;
    let mut bytes = 0;
    let mut put = |text: &str| {
        bytes += text.len() as u64;
        file.write_all(text.as_bytes()).map_err(|error| cannot(target, &error))
    };
    let subject = Subject { store: &store, view: &view, attachments: &attachments, edition: &edition };
    subject.pages(&verification, revision, &mut put).await?;
    file.as_file().sync_all().map_err(|error| cannot(target, &error))?;

    let printed = match (&arguments.pdf, printer) {
        (Some(pdf), Some(printer)) => {
            let (place, folder) = self::place(pdf)?;
            let printed = printer.print(file.path(), &folder).await?;
            printed.as_file().sync_all().map_err(|error| cannot(pdf, &error))?;
            printed.persist(&place).map_err(|error| cannot(pdf, &error.error))?;
            Some(place.display().to_string())
        }
        _ => None,
    };
    let written = arguments.out.is_some().then(|| place.display().to_string());
    if written.is_some() {
        file.persist(&place).map_err(|error| cannot(target, &error.error))?;
    }
    if verdict.code < 20 {
        notices::read(project, &store, &index.header.run, "evidence report").await;
    }
    if arguments.json {
        output::json(&Written {
            schema: "report/v1",
            run_id: index.header.run.to_string(),
            bytes: written.is_some().then_some(bytes),
            file: written,
            pdf: printed,
            code: verdict.code,
            verdict: verdict.verdict,
        })?;
    } else {
        for file in written.iter().chain(&printed) {
            output::data(format!("{file}\n"))?;
        }
        output::note(format!("the record: {} (code {})", verdict.verdict, verdict.code));
    }
    // A report of a good record is a success, whoever anchors it; one of a bad record is told by the code too.
    Ok(if verdict.code < 12 { 0 } else { verdict.code })
}

/// What a report is about.
struct Subject<'r> {
    store: &'r SqliteStore,
    view: &'r RunView,
    attachments: &'r Attachments,
    edition: &'r Edition,
}

impl Subject<'_> {
    /// The page, a piece at a time.
    async fn pages(
        &self,
        verification: &Verification,
        revision: Revision,
        put: &mut impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Subject { store, view, attachments, edition } = *self;
        put(&html::head(view, attachments, verification))?;
        for (name, host) in &view.hosts {
            let mut contents = Contents::new();
            for digest in html::contents_of(host) {
                if let Some(mut beginning) = beginning(store, &digest).await {
                    edition.mask(&digest, &mut beginning);
                    contents.insert(digest, beginning);
                }
            }
            put(&html::host(view, attachments, name, host, &contents))?;
        }
        put(&html::tail(view, attachments, verification, revision))
    }
}

/// The report of a run for somebody outside: the redacted edition. That it was made is not put on record.
pub(super) async fn redacted(project: &Project, run: &str) -> Result<Vec<u8>, Failure> {
    let asked = Asked { pins: &[], against: &[], tsa_ca: None };
    let (store, index, verdict) = judge(project, run, asked).await?;
    let view = record::view(&store, &index).await?;
    let mut attachments = record::attachments(&store, project, &view).await?;
    let edition = Edition::redacted(&store, &view).await?;
    edition.mask_attachments(&mut attachments);
    let verification = verification(&verdict, &edition);
    let mut page = Vec::new();
    let subject = Subject { store: &store, view: &view, attachments: &attachments, edition: &edition };
    let mut put = |text: &str| {
        page.extend_from_slice(text.as_bytes());
        Ok(())
    };
    subject.pages(&verification, Revision::R2, &mut put).await?;
    store.close().await;
    Ok(page)
}

/// A file's absolute path, and its folder.
fn place(file: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let place = std::path::absolute(file).map_err(|error| cannot(file, &error))?;
    let folder = place.parent().unwrap_or(&place).to_owned();
    Ok((place, folder))
}

fn verification(verdict: &Verdict, edition: &Edition) -> Verification {
    Verification {
        verdict: verdict.verdict.to_owned(),
        code: verdict.code,
        problems: verdict.problems.clone(),
        checked: verdict.checked.clone(),
        not_checked: verdict.not_checked.iter().cloned().chain(edition.told()).collect(),
        ledger_key: verdict.ledger_key.clone(),
        receipts: verdict.receipts.clone(),
        how: None,
    }
}

/// The beginning of a blob, one byte longer than what is shown when there is more; `None` when it cannot be read.
pub(super) async fn beginning(store: &SqliteStore, digest: &Sha256) -> Option<Vec<u8>> {
    record::prefix(store, digest, html::EXCERPT_BYTES + LINE_BYTES as u64 + 1).await
}

fn cannot(file: &Path, error: &std::io::Error) -> Failure {
    Failure::new("RB0630", FAULT, format!("the report cannot be written to {}: {error}", file.display()))
        .next("choose another place; nothing there was changed")
}
