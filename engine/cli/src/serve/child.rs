//! The processes that work on runs. Each is of its own group, so that neither Ctrl-C nor the daemon's end reaches it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use runbook_model::RunId;
use runbook_model::schedule::{Occurrence, Schedule};
use tokio::process::{Child, Command};

use crate::failure::{Failure, fault};
use crate::project::{Project, make_private};

/// So much of the end of what a process said is read for the reason that it gave.
const SAID_BYTES: u64 = 16 * 1024;

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// The exit code; `None`: a signal ended it.
    pub(super) code: Option<i32>,
    /// Its last words.
    pub(super) said: String,
}

/// Begins the run of an occurrence.
pub(super) fn apply(
    project: &Project,
    occurrence: &Occurrence,
    schedule: &Schedule,
) -> Result<(Child, PathBuf), Failure> {
    let root = project.folder()?;
    let mut command = runbook(root);
    command.arg("apply").arg(root.join(&schedule.run)).args(["--yes", "--occurrence", &occurrence.to_string()]);
    for (name, value) in &schedule.parameters {
        command.arg("-p").arg(format!("{name}={value}"));
    }
    if let Some(limit) = &schedule.limit {
        command.arg("--limit").arg(limit);
    }
    if let Some(ticket) = &schedule.ticket {
        command.arg("--ticket").arg(ticket);
    }
    begin(project, command, &occurrence.schedule)
}

/// Takes a run up whose process has died.
pub(super) fn resume(project: &Project, run: &RunId, schedule: &str) -> Result<(Child, PathBuf), Failure> {
    let mut command = runbook(project.folder()?);
    command.args(["resume", run.as_str()]);
    begin(project, command, schedule)
}

/// This program, also after its file was replaced.
fn runbook(root: &Path) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("--color=never").arg("--project").arg(root).current_dir(root);
    command
}

/// What it says goes into a file: it must neither wait for the daemon nor break when that ends.
fn begin(project: &Project, mut command: Command, schedule: &str) -> Result<(Child, PathBuf), Failure> {
    let folder = project.state_path("serve");
    make_private(&folder)?;
    let path = folder.join(format!("{schedule}.log"));
    let log = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path);
    let log = log.map_err(|error| Failure::file("RB0605", "written", &path, &error))?;
    let also: File = log.try_clone().map_err(fault)?;
    command.stdin(Stdio::null()).stdout(log).stderr(also).process_group(0);
    // The daemon's own: a run is not ended when nobody pets it.
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    let child = command.spawn().map_err(|error| fault(format!("a process could not be begun: {error}")))?;
    Ok((child, path))
}

/// What it came to.
pub(super) fn ended(status: ExitStatus, log: &Path) -> Ended {
    Ended { code: status.code(), said: last_words(log) }
}

/// The error that it told, else its last line.
fn last_words(log: &Path) -> String {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SAID_BYTES)))?;
        file.take(SAID_BYTES).read_to_end(&mut text)
    });
    if read.is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let error = lines.iter().rposition(|line| line.starts_with("error["));
    let Some(error) = error else { return lines.last().copied().unwrap_or_default().to_owned() };
    // The reasons stand below it.
    let reasons = lines[error + 1..]
        .iter()
        .take_while(|line| !["changed:", "next:", "more:"].iter().any(|word| line.starts_with(word)));
    std::iter::once(&lines[error]).chain(reasons).copied().collect::<Vec<_>>().join("; ")
}
