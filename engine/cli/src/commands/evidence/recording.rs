//! `evidence recording`.

use std::io::{BufWriter, Write as _};

use runbook_model::HostName;
use runbook_report::recording;
use serde::Serialize;

use crate::arguments::EvidenceRecording;
use crate::edition::Edition;
use crate::failure::{FAULT, Failure};
use crate::notices;
use crate::output;
use crate::project::Project;
use crate::record;

/// `recording/v1`.
#[derive(Debug, Serialize)]
struct Written {
    schema: &'static str,
    run_id: String,
    host: String,
    /// The file, as an absolute path.
    file: String,
    bytes: u64,
}

/// Writes the recording beside its place, then puts it there.
pub(super) async fn write(project: &Project, arguments: &EvidenceRecording) -> Result<u8, Failure> {
    let cannot = |error: &std::io::Error| {
        let out = arguments.out.display();
        Failure::new("RB0633", FAULT, format!("the recording cannot be written to {out}: {error}"))
            .next("choose another place with --out; nothing there was changed")
    };
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    let view = record::view(&store, &index).await?;
    let host = HostName::from(arguments.host.as_str());
    if !view.hosts.contains_key(&host) {
        let failure = Failure::usage("RB0611", format!("the run has no host `{}`", arguments.host));
        return Err(failure.next(format!("`runbook show {}` lists them", arguments.run)));
    }
    let place = std::path::absolute(&arguments.out).map_err(|error| cannot(&error))?;
    let folder = place.parent().unwrap_or(&place);
    let file =
        tempfile::Builder::new().prefix(".runbook-recording-").tempfile_in(folder).map_err(|error| cannot(&error))?;
    let edition = if arguments.redacted { Edition::redacted(&store, &view).await? } else { Edition::default() };
    // The writer asks for contents one by one, and the store answers only to those who wait.
    let runtime = tokio::runtime::Handle::current();
    let run = index.header.run.clone();
    let (written, store) = tokio::task::spawn_blocking(move || {
        let mut out = BufWriter::new(file);
        let contents = |digest: &_, most| {
            let mut beginning = runtime.block_on(record::beginning(&store, digest, most))?;
            edition.mask(digest, &mut beginning.bytes);
            Some(beginning)
        };
        let written = recording::write(&view, &host, contents, &mut out)
            .and_then(|()| out.flush())
            .and_then(|()| out.into_inner().map_err(std::io::IntoInnerError::into_error));
        (written, store)
    })
    .await
    .map_err(|error| crate::failure::fault(&error))?;
    let file = written.map_err(|error| cannot(&error))?;
    file.as_file().sync_all().map_err(|error| cannot(&error))?;
    let bytes = file.as_file().metadata().map_err(|error| cannot(&error))?.len();
    file.persist(&place).map_err(|error| cannot(&error.error))?;
    notices::read(project, &store, &run, "evidence recording").await;
    let file = place.display().to_string();
    if arguments.json {
        let (run_id, host) = (run.to_string(), arguments.host.clone());
        output::json(&Written { schema: "recording/v1", run_id, host, file, bytes })?;
    } else {
        output::data(format!("{file}\n"))?;
    }
    Ok(0)
}
