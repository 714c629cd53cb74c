//! Steps on this machine.
//!
//! They go through the same protocol as steps on other POSIX hosts ([`runbook_ports::posix`]), so they behave the same:
//! same claims, same records, same exits. Two things are shorter. What runs attached: the step's shell is our own child,
//! nothing stands between. What is claimed: a [`keep`]er starts and keeps all plain steps of a session, so a step costs
//! one process, its own shell; where there is no such keeper, a shell keeps the step and is there before the step is.

mod attached;
mod claimed;
mod keeper;
mod lifeline;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::host::{Facts, Host, PeerIdentity};
use runbook_model::id::AttemptId;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::session::Here;
use runbook_ports::clock::Clock;
use runbook_ports::leftover::Leftover;
use runbook_ports::posix::BOOT;
use runbook_ports::posix::runner::{KEEPER_PROGRAM, RUNNER_PROGRAM};
use runbook_ports::posix::script::ClaimKey;
use runbook_ports::posix::session::PosixSession;
use runbook_ports::posix::wire::{Channel, Opening, Wire};
use runbook_ports::transport::{
    Capabilities, Completion, Invocation, Offsets, OutputSink, Probe, Session, Transferred, Transport, UploadTarget,
};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use attached::started_at;
use claimed::Keeping;
use lifeline::Lifeline;

/// Invocations at once on this machine, before further ones wait.
const CONCURRENCY: usize = 64;

/// How this machine is reached.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Taken as the account's home instead of `HOME`: claims are kept below it.
    pub home: Option<PathBuf>,
    /// The words that start a process that calls [`keep`]; without them shells keep the steps.
    pub keeper: Option<Vec<OsString>>,
}

/// The word behind which [`keep`] is to be called with what follows it. People have no use for it.
pub const KEEP: &str = "--keep-local-steps";

/// The process that keeps claimed steps, until nobody asks for more and all have ended. Its standard input is a socket;
/// `words` are what follows [`KEEP`].
pub fn keep(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    match words.into_iter().next() {
        Some(shell) => keeper::keep(shell.into()),
        None => ExitCode::FAILURE,
    }
}

/// The transport `local`.
pub struct Local {
    settings: Settings,
    clock: Arc<dyn Clock>,
}

impl Local {
    /// With these settings.
    pub fn new(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        Self { settings, clock }
    }
}

#[async_trait]
impl Transport for Local {
    fn name(&self) -> &str {
        "local"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { reattach: true, concurrency: CONCURRENCY, remote: false }
    }

    async fn open(&self, host: &Host, _limit: Duration) -> Result<Box<dyn Session>, Obstacle> {
        let shell = Shell::new(host, &self.settings);
        Ok(Box::new(LocalSession {
            lifeline: Lifeline::new(shell.clone()),
            emptied: Mutex::default(),
            keeping: Keeping::default(),
            posix: PosixSession::new(
                LocalWire { shell: shell.clone(), keeper: Arc::default() },
                Arc::clone(&self.clock),
            ),
            shell,
        }))
    }
}

/// How shells are started here.
#[derive(Debug, Clone)]
struct Shell {
    place: Arc<str>,
    home: Option<Arc<Path>>,
    /// The boot that this machine is in, as Linux names it.
    boot: Option<Arc<str>>,
    /// We have a terminal, so a shell needs a session of its own, lest it reads from it.
    on_terminal: bool,
    /// Where `sh` is: found once, and not again for every step in every folder of `PATH`.
    sh: Arc<Path>,
    keeper: Option<Arc<[OsString]>>,
}

impl Shell {
    fn new(host: &Host, settings: &Settings) -> Self {
        // Only a process with a controlling terminal can open this.
        let on_terminal = std::fs::File::open("/dev/tty").is_ok();
        let home = settings.home.as_deref().map(Arc::from);
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        let boot = boot.map(|boot| boot.trim().into()).filter(|boot: &Arc<str>| !boot.is_empty());
        let keeper = settings.keeper.as_deref().map(Arc::from);
        let place = format!("{} (this machine)", host.name).into();
        Self { place, home, boot, on_terminal, sh: shell_file().into(), keeper }
    }

    /// `words` in a process group of its own (and in a session of its own, if we have a terminal), with pipes.
    fn command(&self, words: &[&str]) -> Command {
        let (program, rest) = words.split_first().unwrap_or((&"sh", &[]));
        let mut command = match *program {
            "sh" if !self.on_terminal => self.own_group(self.sh.as_os_str()),
            _ => self.own_group(program.as_ref()),
        };
        if !self.on_terminal {
            command.arg0(program);
        }
        command.args(rest).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn own_group(&self, program: &OsStr) -> Command {
        let mut command = if self.on_terminal {
            // Not the leader of a group yet, so it becomes one in the same process.
            let mut command = Command::new("setsid");
            command.arg(program);
            command
        } else {
            let mut command = Command::new(program);
            command.process_group(0);
            command
        };
        if let Some(home) = &self.home {
            command.env("HOME", home.as_os_str());
        }
        command
    }

    /// A keeper that waits for the rest of its request: it is told of itself at once.
    fn keeper(&self) -> io::Result<Child> {
        let keeper = self.command(&["sh", "-c", KEEPER_PROGRAM.as_str()]).spawn()?;
        let mut told = format!("st={};", started_at(keeper.id().unwrap_or_default()));
        if let Some(boot) = &self.boot {
            told.push_str(&format!("nb={boot};"));
        }
        match &keeper.stdin {
            // An empty pipe has room for this.
            Some(stdin) if matches!(rustix::io::write(stdin, told.as_bytes()), Ok(n) if n == told.len()) => Ok(keeper),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// The folder for claims, when it is below the account's home.
    fn claims(&self) -> Option<PathBuf> {
        let home = match &self.home {
            Some(home) => home.to_path_buf(),
            None => PathBuf::from(std::env::var_os("HOME").filter(|home| !home.is_empty())?),
        };
        // Where the scripts would look elsewhere, they are to be asked.
        if home == Path::new("/") || rustix::fs::access(&home, rustix::fs::Access::WRITE_OK).is_err() {
            return None;
        }
        let claims = home.join(".local/state/runbook");
        claims.is_dir().then_some(claims)
    }

    fn local(&self, message: String) -> Obstacle {
        Obstacle { kind: ObstacleKind::Local, message: format!("{}: {message}", self.place) }
    }
}

/// The file that `sh` is. Its name alone when it cannot be found: then the system says so.
fn shell_file() -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let files = std::env::split_paths(&folders).filter(|folder| folder.is_absolute()).map(|folder| folder.join("sh"));
    let runnable = |file: &PathBuf| rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file();
    { files }.find(runnable).unwrap_or_else(|| PathBuf::from("sh"))
}

struct LocalWire {
    shell: Shell,
    /// A keeper that waits for its request, so that the next step need not wait for a keeper. It ends with us, or with
    /// the session: its standard input does.
    keeper: Arc<Mutex<Option<Child>>>,
}

impl LocalWire {
    /// The keeper that waits, or a new one; in the background, the next one is started.
    fn keeper(&self) -> io::Result<Child> {
        let waiting = self.keeper.lock().ok().and_then(|mut keeper| keeper.take());
        let alive = waiting.and_then(|mut keeper| matches!(keeper.try_wait(), Ok(None)).then_some(keeper));
        let keeper = match alive {
            Some(keeper) => keeper,
            None => self.shell.keeper()?,
        };
        let (shell, place) = (self.shell.clone(), Arc::downgrade(&self.keeper));
        tokio::spawn(async move {
            let Some(place) = place.upgrade() else { return };
            if place.lock().is_ok_and(|waiting| waiting.is_none())
                && let Ok(next) = shell.keeper()
                && let Ok(mut waiting) = place.lock()
            {
                *waiting = Some(next);
            }
        });
        Ok(keeper)
    }
}

#[async_trait]
impl Wire for LocalWire {
    async fn open(&self, opening: Opening) -> Result<Channel, Obstacle> {
        let started = match opening {
            Opening::Keeper => self.keeper(),
            Opening::Runner => self.shell.command(&["sh", "-c", RUNNER_PROGRAM.as_str()]).spawn(),
            Opening::Boot => self.shell.command(&["sh", "-c", BOOT]).spawn(),
        };
        let mut child = started.map_err(|error| self.shell.local(format!("no shell can be started: {error}")))?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(self.shell.local("a shell was started without pipes".into()));
        };
        Ok(Channel {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            abandoned: Arc::new(AtomicBool::new(false)),
            // Dropped, it is reaped in the background and not killed.
            hold: Box::new(child),
        })
    }

    fn for_claims(&self) -> Opening {
        Opening::Keeper
    }

    fn spare(&self) -> bool {
        true
    }

    fn identity(&self) -> PeerIdentity {
        PeerIdentity {
            transport: "local".into(),
            peer_key: String::new(),
            account: account(),
            authenticated_by: "this machine".into(),
            ..PeerIdentity::default()
        }
    }

    fn place(&self) -> String {
        self.shell.place.to_string()
    }

    async fn close(&self) -> Here {
        if let Ok(mut keeper) = self.keeper.lock() {
            *keeper = None;
        }
        Here::Ended
    }
}

/// The name of the account that we run as; its number when it has no name here.
fn account() -> String {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    name.unwrap_or(uid)
}

/// Removes what a claimed attempt left.
fn clear_files(claims: &Path, attempt: &AttemptId) -> bool {
    let ClaimKey { run, key } = ClaimKey::of(attempt);
    let folder = claims.join(run);
    if !folder.join(&key).is_file() {
        return false;
    }
    [".out", ".err", ".stop", ""].iter().all(|end| {
        let removed = std::fs::remove_file(folder.join(format!("{key}{end}")));
        removed.is_ok() || removed.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
    })
}

struct LocalSession {
    shell: Shell,
    posix: PosixSession<LocalWire>,
    lifeline: Lifeline,
    /// Folders of runs, to be removed at the end if they are empty then.
    emptied: Mutex<BTreeSet<PathBuf>>,
    keeping: Keeping,
}

#[async_trait]
impl Session for LocalSession {
    fn identity(&self) -> PeerIdentity {
        self.posix.identity()
    }

    async fn facts(&self) -> Result<Facts, Obstacle> {
        self.posix.facts().await
    }

    async fn run(
        &self,
        claim: Option<&AttemptId>,
        invocation: &Invocation,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Completion {
        match claim {
            Some(attempt) => match self.run_kept(attempt, invocation, sink, stop, grace).await {
                Some(completion) => completion,
                None => self.posix.run(claim, invocation, sink, stop, grace).await,
            },
            None => self.run_attached(invocation, sink, stop, grace).await,
        }
    }

    async fn probe(&self, attempt: &AttemptId) -> Probe {
        self.posix.probe(attempt).await
    }

    async fn follow(
        &self,
        attempt: &AttemptId,
        from: Offsets,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Completion {
        self.posix.follow(attempt, from, sink, stop, grace).await
    }

    async fn clear(&self, attempt: &AttemptId) -> Result<(), Obstacle> {
        // As the script of the protocol does, without a process for it. Where that is not plainly possible, the script.
        match self.shell.claims() {
            Some(claims) if clear_files(&claims, attempt) => {
                if let Ok(mut emptied) = self.emptied.lock() {
                    emptied.insert(claims.join(ClaimKey::of(attempt).run));
                }
                Ok(())
            }
            _ => self.posix.clear(attempt).await,
        }
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, Obstacle> {
        self.posix.leftovers().await
    }

    async fn remove_leftovers(&self, names: &[String]) -> Result<Vec<String>, Obstacle> {
        self.posix.remove_leftovers(names).await
    }

    async fn upload(
        &self,
        source: &Path,
        target: &UploadTarget,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Transferred {
        self.posix.upload(source, target, progress).await
    }

    async fn download(
        &self,
        from: &str,
        account: Option<&str>,
        bytes_max: u64,
        target: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Transferred {
        self.posix.download(from, account, bytes_max, target, progress).await
    }

    async fn check(&self) -> Result<(), Obstacle> {
        self.posix.check().await
    }

    async fn close(&self) -> Here {
        let emptied = self.emptied.lock().map(|mut emptied| std::mem::take(&mut *emptied)).unwrap_or_default();
        for folder in emptied {
            // One that is not empty stays, and an empty one harms nobody.
            drop(std::fs::remove_dir(folder));
        }
        self.keeping.close().await;
        self.posix.close().await
    }
}
