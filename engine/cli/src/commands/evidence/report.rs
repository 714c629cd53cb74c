//! `evidence report`.

use std::io::{Read as _, Write as _};

use runbook_ledger::segments::LINE_BYTES;
use runbook_model::Sha256;
use runbook_ports::BlobStore as _;
use runbook_report::html::{self, Contents, Verification};
use runbook_report::verdict::Verdict;
use runbook_store::SqliteStore;
use serde::Serialize;

use super::verify::judge;
use crate::arguments::EvidenceReport;
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
    /// The file, as an absolute path.
    file: String,
    bytes: u64,
    /// The code of `evidence verify`.
    code: u8,
    verdict: &'static str,
}

/// Writes the report beside its place, then puts it there.
pub(super) async fn write(project: &Project, arguments: &EvidenceReport) -> Result<u8, Failure> {
    let (store, index, verdict) = judge(project, &arguments.run, arguments.pin.as_deref()).await?;
    let view = record::view(&store, &index).await?;
    let attachments = record::attachments(&store, project, &view).await?;
    let verification = verification(&verdict);

    let place = std::path::absolute(&arguments.out).map_err(|error| cannot(arguments, &error))?;
    let folder = place.parent().unwrap_or(&place);
    let mut file = tempfile::Builder::new()
        .prefix(".runbook-report-")
        .tempfile_in(folder)
        .map_err(|error| cannot(arguments, &error))?;
    let mut bytes = 0;
    let mut put = |text: &str| {
        bytes += text.len() as u64;
        file.write_all(text.as_bytes()).map_err(|error| cannot(arguments, &error))
    };
    put(&html::head(&view, &verification))?;
    for (name, host) in &view.hosts {
        let mut contents = Contents::new();
        for digest in html::contents_of(host) {
            if let Some(beginning) = beginning(&store, &digest).await {
                contents.insert(digest, beginning);
            }
        }
        put(&html::host(&view, &attachments, name, host, &contents))?;
    }
    put(&html::tail(&view, &attachments, &verification))?;
    file.as_file().sync_all().map_err(|error| cannot(arguments, &error))?;
    file.persist(&place).map_err(|error| cannot(arguments, &error.error))?;

    if verdict.code < 20 {
        notices::read(project, &store, &index.header.run, "evidence report").await;
    }
    let file = place.display().to_string();
    if arguments.json {
        let run_id = index.header.run.to_string();
        output::json(&Written {
            schema: "report/v1",
            run_id,
            file,
            bytes,
            code: verdict.code,
            verdict: verdict.verdict,
        })?;
    } else {
        output::data(format!("{file}\n"))?;
        output::note(format!("the record: {} (code {})", verdict.verdict, verdict.code));
    }
    // A report of a good record is a success, whoever anchors it; one of a bad record is told by the code too.
    Ok(if verdict.code < 12 { 0 } else { verdict.code })
}

fn verification(verdict: &Verdict) -> Verification {
    Verification {
        verdict: verdict.verdict.to_owned(),
        code: verdict.code,
        problems: verdict.problems.clone(),
        checked: verdict.checked.clone(),
        not_checked: verdict.not_checked.clone(),
        ledger_key: verdict.ledger_key.clone(),
    }
}

/// The beginning of a blob, one byte longer than what is shown when there is more; `None` when it cannot be read.
async fn beginning(store: &SqliteStore, digest: &Sha256) -> Option<Vec<u8>> {
    let blob = store.file(digest).await.ok()?;
    let mut bytes = Vec::new();
    std::fs::File::open(&blob.path)
        .ok()?
        .take(html::EXCERPT_BYTES + LINE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .ok()?;
    Some(bytes)
}

fn cannot(arguments: &EvidenceReport, error: &std::io::Error) -> Failure {
    Failure::new("RB0630", FAULT, format!("the report cannot be written to {}: {error}", arguments.out.display()))
        .next("choose another place with --out; nothing there was changed")
}
