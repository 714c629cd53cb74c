//! One `ssh` process for one login: no connection is shared and none stays.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use runbook_model::host::Host;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::{Settings, config, diagnosis, master};

/// What is kept of what is said.
const SAID_BYTES_MAX: u64 = 256 * 1024;

/// What came of it.
pub(super) struct Ended {
    /// The exit code; of the command on the host where one was begun. `None`: a signal ended the client.
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    /// The client's own lines, those for debugging included, and the command's.
    pub(super) stderr: String,
}

impl Ended {
    /// Logins that succeeded: those to jump hosts, then the host's own.
    pub(super) fn logins(&self) -> usize {
        self.stderr.lines().filter(|line| line.trim_start_matches("debug1: ").starts_with("Authenticated to ")).count()
    }
}

/// Logs in to `host` as it stands, within `limit`; runs `command` there, or what the login is bound to.
///
/// # Errors
/// Kind `Local`: nothing was begun. Kind `Session`: it took too long, and may have begun.
pub(super) async fn login(
    host: &Host,
    settings: &Settings,
    command: Option<&str>,
    limit: Duration,
) -> Result<Ended, Obstacle> {
    let place = master::place(host);
    let local = |message: String| Obstacle { kind: ObstacleKind::Local, message: format!("{place}: {message}") };
    let runtime = master::runtime_folder(settings);
    let folder = tempfile::Builder::new()
        .prefix("rb-")
        .rand_bytes(8)
        .tempdir_in(&runtime)
        .map_err(|error| local(format!("no private folder in {}: {error}", runtime.display())))?;
    let includes = master::includes(settings).map_err(&local)?;
    let includes: Vec<&Path> = includes.iter().map(PathBuf::as_path).collect();
    let (text, alias) = config::write(host, limit, settings.alive_interval, &includes)?;
    let file = folder.path().join("config");
    tokio::fs::write(&file, text).await.map_err(|error| local(format!("{}: {error}", file.display())))?;
    let mut client = tokio::process::Command::new(&settings.program);
    client
        .arg("-F")
        .arg(&file)
        .args(["-T", "-v", "-o", "ControlMaster=no", "-o", "ControlPath=none", "--"])
        .arg(&alias);
    client.args(command);
    client.env("LC_ALL", "C").env("SSH_ASKPASS_REQUIRE", "never").env_remove("SSH_ASKPASS").env_remove("LANGUAGE");
    client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    let mut child = client.spawn().map_err(|error| {
        local(format!("`{}` cannot be started: {error}. Is OpenSSH installed here?", settings.program.display()))
    })?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let all = async { tokio::join!(whole(stdout), whole(stderr), child.wait()) };
    let (stdout, stderr, status) = tokio::time::timeout(limit, all).await.map_err(|_| Obstacle {
        kind: ObstacleKind::Session,
        message: format!("{place}: no end within {} s", limit.as_secs_f32()),
    })?;
    let status = status.map_err(|error| Obstacle {
        kind: ObstacleKind::Session,
        message: format!("{place}: the end of `ssh` was not seen: {error}"),
    })?;
    Ok(Ended { code: status.code(), stdout, stderr })
}

async fn whole(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        let mut from = from.take(SAID_BYTES_MAX);
        // What came before a fault counts.
        let _ = from.read_to_end(&mut bytes).await;
        // The other end would be stopped by a full pipe.
        let _ = tokio::io::copy(&mut from.into_inner(), &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Why a client that failed failed.
pub(super) fn obstacle(host: &Host, ended: &Ended) -> Obstacle {
    diagnosis::obstacle(&master::place(host), &ended.stderr)
}
