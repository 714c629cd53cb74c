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
use runbook_model::session::Here;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::process::Command;

use crate::login::Login;
use crate::{Settings, config, diagnosis, login};

/// Seconds after which the master ends once nobody uses it.
const IDLE_S: u32 = 10;
/// What is kept of what it says.
const SAID_BYTES_MAX: usize = 256 * 1024;

/// A connection.
pub(crate) struct Master {
    pub(crate) session: std::sync::Arc<Session>,
    /// Our own place at its socket.
    held: UnixStream,
    /// Its number, and when it began; `None` when it did not say.
    process: Option<(Pid, String)>,
    login: Login,
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
        let process = number(&held).and_then(|pid| Some((pid, started(pid)?)));
        guard.group = None;
        let session = Session::resume_mux(socket.into_boxed_path(), None);
        Ok(Self { session: session.into(), held, process, login: login::login(&said), place, _folder: folder })
    }

    pub(crate) fn identity(&self) -> PeerIdentity {
        self.login.identity()
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Whether the master process is there.
    pub(crate) async fn is_alive(&self) -> bool {
        self.session.check().await.is_ok()
    }

    /// Asks the master to end, and with it every channel, waits a little for that, and kills one that does not. Twice is
    /// harmless.
    pub(crate) async fn end_in_background(&self) -> Here {
        // Reading from it blocks: many hosts that end together must not hold each other up.
        let closed = match self.held.try_clone() {
            Ok(held) => tokio::task::spawn_blocking(move || end(&held)).await.unwrap_or(false),
            Err(_) => false,
        };
        let Some((pid, start)) = &self.process else {
            return if closed { Here::Ended } else { Here::Unknown("its ssh process did not say that it ends".into()) };
        };
        let there = || started(*pid).is_some_and(|now| now == *start);
        // It says that it ends a moment before it has.
        if gone_within(Duration::from_millis(500), there).await {
            return Here::Ended;
        }
        let _gone_already = kill_process(*pid, Signal::KILL);
        let gone = gone_within(Duration::from_secs(2), there).await;
        if gone { Here::Killed } else { Here::Left(format!("ssh, process {pid}")) }
    }
}

/// Asks the master behind `held` to end; true when it closed the line. Blocks for up to half a second.
fn end(mut held: &UnixStream) -> bool {
    // The multiplexing protocol, version 4: terminate (PROTOCOL.mux). Lengths and numbers are big-endian.
    // When it cannot be asked, it is gone, or goes by itself after a few seconds without us.
    if !send(held, &[[8, 0x1000_0005, 2]]) {
        return true;
    }
    let mut answer = [0; 256];
    loop {
        match held.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            // It resets the line when it ends before it has read all that we said.
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Sends messages of the multiplexing protocol. False when nobody is there.
fn send(mut held: &UnixStream, messages: &[[u32; 3]]) -> bool {
    let mut bytes = Vec::new();
    for words in messages {
        for word in words {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
    }
    held.write_all(&bytes).is_ok() && held.set_read_timeout(Some(Duration::from_millis(500))).is_ok()
}

/// Says hello to the master, and asks for its number. It has just said that it is there, so it answers at once.
fn number(held: &UnixStream) -> Option<Pid> {
    if !send(held, &[[8, 1, 4], [8, 0x1000_0004, 1]]) {
        return None;
    }
    let mut held = held;
    let mut word = |bytes: &mut [u8]| held.read_exact(bytes).ok();
    // Its hello comes first, with words that we do not need.
    for _ in 0..4 {
        let mut length = [0; 4];
        word(&mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|length| *length <= 1024)?;
        let mut message = vec![0; length];
        word(&mut message)?;
        let number = |at: usize| Some(u32::from_be_bytes(message.get(at..at + 4)?.try_into().ok()?));
        if number(0)? == 0x8000_0005 {
            return Pid::from_raw(i32::try_from(number(8)?).ok()?);
        }
    }
    None
}

/// When a process began, as the kernel counts it; `None` when it is gone.
fn started(pid: Pid) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (!matches!(state, "Z" | "X" | "x")).then(|| fields.nth(18).map(str::to_owned))?
}

async fn gone_within(limit: Duration, there: impl Fn() -> bool) -> bool {
    let gone = async {
        while there() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(limit, gone).await.is_ok()
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
pub(crate) fn place(host: &Host) -> String {
    let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
    if host.address == host.name.as_str() && port.is_empty() {
        return host.name.to_string();
    }
    format!("{} ({}{port})", host.name, host.address)
}

/// A short place that survives us not, readable by this account alone.
pub(crate) fn runtime_folder(settings: &Settings) -> PathBuf {
    if let Some(folder) = &settings.runtime {
        return folder.clone();
    }
    let private = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    private.filter(|folder| folder.is_dir() && folder.as_os_str().len() < 60).unwrap_or_else(|| "/tmp".into())
}

pub(crate) fn includes(settings: &Settings) -> Result<Vec<PathBuf>, String> {
    if let Some(file) = &settings.config {
        if !file.is_file() {
            return Err(format!("the ssh_config {} that the settings name does not exist", file.display()));
        }
        return std::path::absolute(file).map(|file| vec![file]).map_err(|error| error.to_string());
    }
    let own = std::env::home_dir().map(|home| home.join(".ssh/config"));
    Ok(own.into_iter().chain([PathBuf::from("/etc/ssh/ssh_config")]).filter(|file| file.is_file()).collect())
}
