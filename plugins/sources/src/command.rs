//! A program on the controller that prints hosts.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use runbook_ports::hosts::{HostSource, SourceError};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// So much of what it says on standard error is told, at most.
const TOLD_MAX: usize = 400;
/// So much of it is read.
const STDERR_MAX: u64 = 64 << 10;

/// The program.
pub struct Command {
    /// Its name and its arguments; a name with `/` in it is relative to `folder`.
    pub argv: Vec<String>,
    /// Where it works.
    pub folder: PathBuf,
}

/// Its process group, which ends with this.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0.take() {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// All that it prints; more than `most` bytes are an error at once.
async fn printed(stream: Option<impl AsyncRead + Unpin>, most: usize) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(bytes) };
    let read = stream.take(most as u64 + 1).read_to_end(&mut bytes).await;
    read.map_err(|error| SourceError::Incomplete(format!("its output breaks off: {error}")))?;
    match bytes.len() > most {
        true => Err(SourceError::Incomplete(format!("it prints more than {most} bytes"))),
        false => Ok(bytes),
    }
}

/// What it says on standard error. What is not wanted of it is taken all the same: a program that cannot write fails.
async fn said(stream: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>, SourceError> {
    let mut bytes = Vec::new();
    if let Some(stream) = stream {
        let mut limited = stream.take(STDERR_MAX);
        let _ = limited.read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut limited.into_inner(), &mut tokio::io::sink()).await;
    }
    Ok(bytes)
}

/// The end of what it said, in a line.
fn told(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let skip = line.chars().count().saturating_sub(TOLD_MAX);
    match line.chars().skip(skip).collect::<String>() {
        line if line.is_empty() => "; it says nothing on standard error".into(),
        line => format!("; it says: {line}"),
    }
}

#[async_trait]
impl HostSource for Command {
    async fn ask(&self, within: Duration, bytes_max: usize) -> Result<Vec<u8>, SourceError> {
        let Some((program, arguments)) = self.argv.split_first() else {
            return Err(SourceError::Refused("the program has no name".into()));
        };
        let path = if program.contains('/') { self.folder.join(program) } else { PathBuf::from(program) };
        let mut child = tokio::process::Command::new(path)
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| SourceError::Refused(format!("it cannot be started: {error}")))?;
        let mut group = Group(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)));
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (bytes, said) = tokio::try_join!(printed(stdout, bytes_max), said(stderr))?;
            let status =
                child.wait().await.map_err(|error| SourceError::Incomplete(format!("its end is lost: {error}")))?;
            group.0 = None;
            if !status.success() {
                return Err(SourceError::Refused(format!("it failed ({status}){}", told(&said))));
            }
            if bytes.iter().all(u8::is_ascii_whitespace) {
                return Err(SourceError::Incomplete(format!("it printed nothing{}", told(&said))));
            }
            Ok(bytes)
        };
        match tokio::time::timeout(within, work).await {
            Ok(answer) => answer,
            Err(_) => {
                Err(SourceError::Unreachable(format!("it did not end within {} s, and was ended", within.as_secs())))
            }
        }
    }
}
