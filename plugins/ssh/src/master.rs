//! The `ssh` process that holds a connection.
//!
//! Who ends it. It runs in the background, in a process group of its own (so Ctrl-C on the terminal does not reach it),
//! and ends by itself a few seconds after the last client of its socket is gone. We are such a client for as long as we
//! live: an idle session keeps it, a killed controller does not leave it behind. [`Master`] asks it to end when dropped.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use openssh::Session;
use runbook_model::host::{Host, PeerIdentity};
use runbook_model::outcome::{Obstacle, ObstacleKind};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::{Settings, config, diagnosis};

/// Seconds after which the master ends once nobody uses it.
const IDLE_S: u32 = 10;
/// What is kept of what it says.
const SAID_BYTES_MAX: usize = 256 * 1024;

/// A connection.
pub(crate) struct Master {
    pub(crate) session: std::sync::Arc<Session>,
    /// Our own place at its socket.
    held: UnixStream,
    peer: diagnosis::Peer,
    place: String,
    /// The private folder with the socket; removed at the end.
    _folder: TempDir,
}

impl Master {
    /// Connects, or says why not, within `limit`.
    pub(crate) async fn connect(host: &Host, settings: &Settings, limit: Duration) -> Result<Self, Obstacle> {
        let place = place(host);
        let local = |message: String| Obstacle { kind: ObstacleKind::Local, message: format!("{place}: {message}") };
        let runtime = runtime_folder(settings);
        let folder = tempfile::Builder::new()
            .prefix("rb-")
            .rand_bytes(8)
            .tempdir_in(&runtime)
            .map_err(|error| local(format!("no private folder in {}: {error}", runtime.display())))?;
        let socket = folder.path().join("m");
        let includes = includes(settings).map_err(&local)?;
        let includes: Vec<&Path> = includes.iter().map(PathBuf::as_path).collect();
        let (text, alias) = config::write(host, limit, settings.alive_interval, &includes)?;
        let file = folder.path().join("config");
        tokio::fs::write(&file, text).await.map_err(|error| local(format!("{}: {error}", file.display())))?;

        let mut command = Command::new(&settings.program);
        command.arg("-F").arg(&file).arg("-S").arg(&socket).args(["-M", "-N", "-f", "-T", "-o"]);
        // `-v`: its debug lines are the proof of who answered, and without it a jump host's reasons are thrown away.
        command.arg(format!("ControlPersist={IDLE_S}")).args(["-v", "--"]).arg(&alias);
        command.env("LC_ALL", "C").env("SSH_ASKPASS_REQUIRE", "never").env_remove("SSH_ASKPASS").env_remove("LANGUAGE");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().map_err(|error| {
            local(format!("`{}` cannot be started: {error}. Is OpenSSH installed here?", settings.program.display()))
        })?;
        let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let mut said = Vec::new();
        let Some(mut stderr) = child.stderr.take() else { return Err(local("ssh has no standard error".into())) };
        // It goes into the background once it is logged in; a process of a jump host may hold its standard error open.
        let status = {
            let mut buffer = vec![0; 8192];
            let mut open = true;
            let deadline = tokio::time::Instant::now() + limit;
            loop {
                tokio::select! {
                    biased;
                    read = stderr.read(&mut buffer), if open => match read {
                        Ok(n) if n > 0 => if said.len() < SAID_BYTES_MAX { said.extend_from_slice(&buffer[..n]) },
                        _ => open = false,
                    },
                    status = child.wait() => break Some(status),
                    () = tokio::time::sleep_until(deadline) => break None,
                }
            }
        };
        let mut guard = Unfinished { group };
        // What it said last is in the pipe.
        let mut buffer = vec![0; 8192];
        while said.len() < SAID_BYTES_MAX {
            match rustix::io::read(&stderr, &mut buffer[..]) {
                Ok(n) if n > 0 => said.extend_from_slice(&buffer[..n]),
                Err(rustix::io::Errno::INTR) => {}
                _ => break,
            }
        }
        let said = String::from_utf8_lossy(&said);
        match status {
            Some(Ok(status)) if status.success() => {}
            Some(Ok(_)) => return Err(diagnosis::obstacle(&place, &said)),
            Some(Err(error)) => return Err(local(format!("the end of `ssh` was not seen: {error}"))),
            None => {
                return Err(Obstacle {
                    kind: ObstacleKind::Unreachable,
                    message: format!("{place}: no answer within {} s", limit.as_secs_f32()),
                });
            }
        }
        let held = UnixStream::connect(&socket).map_err(|error| Obstacle {
            kind: ObstacleKind::Session,
            message: format!("{place}: the connection ended as soon as it was made: {error}"),
        })?;
        guard.group = None;
        let session = Session::resume_mux(socket.into_boxed_path(), None);
        Ok(Self { session: session.into(), held, peer: diagnosis::peer(&said), place, _folder: folder })
    }

    pub(crate) fn identity(&self) -> PeerIdentity {
        PeerIdentity {
            transport: "ssh".into(),
            peer_key: self.peer.host_key.clone(),
            account: self.peer.account.clone(),
            authenticated_by: self.peer.authenticated_by.clone(),
        }
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Whether the master process is there.
    pub(crate) async fn is_alive(&self) -> bool {
        self.session.check().await.is_ok()
    }

    /// Asks the master to end, and with it every channel, and waits a little for that. Twice is harmless.
    pub(crate) async fn end_in_background(&self) {
        // Reading from it blocks: many hosts that end together must not hold each other up.
        if let Ok(held) = self.held.try_clone() {
            let _gone_already = tokio::task::spawn_blocking(move || end(&held)).await;
        }
    }
}

/// Asks the master behind `held` to end. Blocks for up to half a second.
fn end(mut held: &UnixStream) {
    // The multiplexing protocol, version 4: hello, then terminate (PROTOCOL.mux). Lengths and numbers are big-endian.
    let mut message = Vec::new();
    for words in [[8, 1, 4], [8, 0x1000_0005, 1]] {
        for word in words {
            message.extend_from_slice(&u32::to_be_bytes(word));
        }
    }
    // When it cannot be asked, it is gone, or goes by itself after a few seconds without us.
    if held.write_all(&message).is_ok() && held.set_read_timeout(Some(Duration::from_millis(500))).is_ok() {
        let mut answer = [0; 256];
        while matches!(held.read(&mut answer), Ok(n) if n > 0) {}
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        end(&self.held);
    }
}

/// Kills a master that is not ours to use: it did not log in in time, or ended at once.
struct Unfinished {
    group: Option<Pid>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(group) = self.group.take() {
            let _gone_already = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The host and where it is reached, for messages.
fn place(host: &Host) -> String {
    let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
    if host.address == host.name.as_str() && port.is_empty() {
        return host.name.to_string();
    }
    format!("{} ({}{port})", host.name, host.address)
}

/// A short place that survives us not, readable by this account alone.
fn runtime_folder(settings: &Settings) -> PathBuf {
    if let Some(folder) = &settings.runtime {
        return folder.clone();
    }
    let private = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    private.filter(|folder| folder.is_dir() && folder.as_os_str().len() < 60).unwrap_or_else(|| "/tmp".into())
}

fn includes(settings: &Settings) -> Result<Vec<PathBuf>, String> {
    if let Some(file) = &settings.config {
        if !file.is_file() {
            return Err(format!("the ssh_config {} that the settings name does not exist", file.display()));
        }
        return std::path::absolute(file).map(|file| vec![file]).map_err(|error| error.to_string());
    }
    let own = std::env::home_dir().map(|home| home.join(".ssh/config"));
    Ok(own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_config")]).filter(|file| file.is_file()).collect())
}
