//! The keeper: a small process beside the controller that starts the claimed steps of one session, waits for them and
//! writes down how they ended, whether the controller is still there or not. What it leaves on the disk is what the
//! shells of [`runbook_ports::posix`] leave there and read, so either may go on where the other stopped.
//!
//! It serves many steps, one process each, where a shell that keeps a step would be a process of its own. It takes plain
//! requests only (a short program, this account, no input); whatever else there is, and whatever goes wrong before a step
//! begins, it declines, with nothing done.
//!
//! Its one file descriptor is a socket. A request is a [`Request`] behind its length; an answer is a line: the request's
//! number and
//!
//! | word | what it says |
//! | --- | --- |
//! | `n` | declined, and nothing is left of it |
//! | `t` | the id is claimed already |
//! | `w` | it runs, and has for a while |
//! | `x CODE OUT ERR` | it has ended, with so many bytes of output |

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use crate::attached::started_at;

/// A step that runs for so long is said to run: somebody may want to follow it.
const WHILE: Duration = Duration::from_millis(200);

/// A program is at most so long: a pipe takes so much in one piece, so a shell never sees a part of it.
pub(crate) const PROGRAM_BYTES_MAX: usize = 4096;

/// Longer requests are not ours.
const REQUEST_BYTES_MAX: usize = 64 * 1024;

/// The folder of a run may be removed by another session between its making and the claim; then it is made again.
const FOLDER_TRIES: usize = 9;

/// What is to be started.
pub(crate) struct Request {
    pub(crate) number: u64,
    /// The account's folder for claims.
    pub(crate) claims: PathBuf,
    /// The run's folder in it.
    pub(crate) run: String,
    /// The claim's name.
    pub(crate) key: String,
    /// For a shell that reads it from its standard input. May hold secrets.
    pub(crate) program: Zeroizing<Vec<u8>>,
}

impl Request {
    pub(crate) fn encode(&self) -> Zeroizing<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt as _;
        let fields: [&[u8]; 5] = [
            &self.number.to_le_bytes(),
            self.claims.as_os_str().as_bytes(),
            self.run.as_bytes(),
            self.key.as_bytes(),
            &self.program,
        ];
        let length: usize = fields.iter().map(|field| 4 + field.len()).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(4 + length));
        bytes.extend_from_slice(&(length as u32).to_le_bytes());
        for field in fields {
            bytes.extend_from_slice(&(field.len() as u32).to_le_bytes());
            bytes.extend_from_slice(field);
        }
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Option<Self> {
        use std::os::unix::ffi::OsStrExt as _;
        let mut field = || {
            let (length, rest) = bytes.split_first_chunk::<4>()?;
            let (field, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            bytes = rest;
            Some(field)
        };
        Some(Self {
            number: u64::from_le_bytes(field()?.try_into().ok()?),
            claims: std::ffi::OsStr::from_bytes(field()?).into(),
            run: std::str::from_utf8(field()?).ok()?.to_owned(),
            key: std::str::from_utf8(field()?).ok()?.to_owned(),
            program: Zeroizing::new(field()?.to_vec()),
        })
    }
}

/// The process. Its standard input is the socket; it ends when that has ended and so has every step.
pub(crate) fn keep(shell: PathBuf) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(_) => return ExitCode::FAILURE,
    };
    let tasks = tokio::task::LocalSet::new();
    let served = runtime.block_on(tasks.run_until(serve(shell)));
    // What still runs is waited for, however long it takes.
    runtime.block_on(tasks);
    if served.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Keeper {
    shell: PathBuf,
    socket: std::os::unix::net::UnixStream,
    /// `v1 PID %s START BOOT -`, with the place for the step's process group.
    pid: u32,
    start: String,
    boot: String,
}

async fn serve(shell: PathBuf) -> io::Result<()> {
    // As a shell that keeps a step: what ends others does not end it. The steps get these signals as they are.
    let _deaf = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()].map(signal);
    let socket = std::os::unix::net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let pid = std::process::id();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let boot = if boot.trim().is_empty() { "-".to_owned() } else { boot.trim().to_owned() };
    socket.set_nonblocking(true)?;
    let keeper = Rc::new(Keeper { shell, socket: socket.try_clone()?, pid, start: started_at(pid), boot });
    let mut requests = UnixStream::from_std(socket)?;
    loop {
        let length = match requests.read_u32_le().await {
            Ok(length) => length as usize,
            Err(_) => return Ok(()),
        };
        if length > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Zeroizing::new(vec![0; length]);
        if requests.read_exact(&mut bytes).await.is_err() {
            return Ok(());
        }
        let Some(request) = Request::decode(&bytes) else { return Err(io::ErrorKind::InvalidData.into()) };
        match keeper.start(&request) {
            Ok(Some(step)) => {
                tokio::task::spawn_local(Rc::clone(&keeper).see_through(request.number, step));
            }
            Ok(None) => keeper.say(request.number, "t"),
            Err(_) => keeper.say(request.number, "n"),
        }
    }
}

/// A step that was started.
struct Step {
    child: Child,
    claim: File,
    path: PathBuf,
    outputs: [File; 2],
}

impl Keeper {
    /// Claims and starts; `None` when it is claimed already. After an error nothing is left, and nothing has begun.
    fn start(&self, request: &Request) -> io::Result<Option<Step>> {
        let folder = request.claims.join(&request.run);
        let path = folder.join(&request.key);
        let claim = match claim(&request.claims, &folder, &path)? {
            Some(claim) => claim,
            None => return Ok(None),
        };
        let step = self.begin(claim, path.clone(), request);
        if step.is_err() {
            for end in ["", ".out", ".err"] {
                let _ = std::fs::remove_file(beside(&path, end));
            }
        }
        step.map(Some)
    }

    fn begin(&self, mut claim: File, path: PathBuf, request: &Request) -> io::Result<Step> {
        let output = |end| OpenOptions::new().append(true).create(true).open(beside(&path, end));
        let outputs = [output(".out")?, output(".err")?];
        let (stdin, mut program) = io::pipe()?;
        let mut command = Command::new(&self.shell);
        command.arg0("sh").process_group(0).stdin(stdin);
        command.stdout(outputs[0].try_clone()?).stderr(outputs[1].try_clone()?);
        let child = command.spawn()?;
        drop(command);
        // Without its program the shell ends when the pipe does, and has done nothing.
        let group = child.id().unwrap_or_default();
        let line = format!("{}v1 {} {group} {} {} -\n", state("running"), self.pid, self.start, self.boot);
        claim.write_all(line.as_bytes())?;
        if request.program.len() > PROGRAM_BYTES_MAX {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        program.write_all(&request.program)?;
        Ok(Step { child, claim, path, outputs })
    }

    /// Waits for the step and writes down how it ended.
    async fn see_through(self: Rc<Self>, number: u64, mut step: Step) {
        let ended = match tokio::time::timeout(WHILE, step.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                self.say(number, "w");
                step.child.wait().await
            }
        };
        let recorded = ended.map(code).and_then(|code| {
            let word = if beside(&step.path, ".stop").exists() { "killed" } else { "exit" };
            // In its place, so that a full disk cannot prevent it.
            step.claim.write_all_at(state(&format!("{word} {code} .")).as_bytes(), 0)?;
            Ok(code)
        });
        let Ok(code) = recorded else {
            // A claim that says it runs, with its keeper there, would be waited for for ever. Without its keeper its
            // outcome is unknown, and so it is.
            std::process::exit(1);
        };
        let [out, err] = step.outputs.each_ref().map(|output| output.metadata().map_or(u64::MAX, |file| file.len()));
        self.say(number, &format!("x {code} {out} {err}"));
    }

    fn say(&self, number: u64, answer: &str) {
        let line = format!("{number} {answer}\n");
        // Nobody may be listening any more. A socket that is full is not read, and then the claim is.
        let _ = (&self.socket).write_all(line.as_bytes());
    }
}

/// Makes the claim's file, and the run's folder when it is not there; `None` when there is a claim already.
fn claim(claims: &Path, folder: &Path, path: &Path) -> io::Result<Option<File>> {
    let found = std::fs::symlink_metadata(claims)?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    for _ in 0..FOLDER_TRIES {
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// A claim's first line.
fn state(text: &str) -> String {
    format!("{text:<24}\n")
}

/// As a shell says it.
fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
