//! What runs attached on this machine: our own child.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use runbook_ports::posix::BOOT;
use runbook_ports::posix::ending::Mark;
use runbook_ports::posix::frame::{Filter, Marker, Piece};
use runbook_ports::posix::program::step_lines;
use runbook_ports::posix::script::Attached;
use runbook_ports::posix::session::{elevation, exit_of};
use runbook_ports::transport::{Completion, Invocation, OutputSink, Stream};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::LocalSession;
use crate::lifeline::{Held, Lifeline};

/// So much is read at once, at most.
const CHUNK_BYTES: usize = 64 * 1024;
/// So much at first: most steps print little, and memory that is not used need not be made ready.
const FIRST_BYTES: usize = 4 * 1024;
/// More than any pipe holds: what a program wrote before it ended is read up to here without waiting.
const PIPE_BYTES_MAX: usize = 2 * 1024 * 1024;
const HELD_BYTES_MAX: usize = 64 * 1024;

impl LocalSession {
    pub(crate) async fn run_attached(
        &self,
        invocation: &Invocation,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Completion {
        if stop.is_cancelled() {
            return Completion::Killed;
        }
        let marker = Marker::fresh();
        let mark = Mark::attached(&marker);
        let step = match step_lines(invocation, &marker, &mark) {
            Ok(step) => step,
            Err(obstacle) => return Completion::NotStarted(obstacle),
        };
        let account = invocation.account.as_deref();
        let script = match (account, &invocation.stdin) {
            (None, None) => in_memory(&step.lines),
            _ => None,
        };
        let told = script.is_some();
        let mut command = match (account, script) {
            (Some(account), _) => self.shell.command(&["sudo", "-n", "-H", "-u", account, "--", "sh", "-c", BOOT]),
            (None, Some(script)) => {
                let mut command = self.shell.command(&["sh"]);
                command.stdin(script);
                command
            }
            (None, None) => self.shell.command(&["sh", "-c", BOOT]),
        };
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == io::ErrorKind::NotFound && account.is_some() => {
                let said = "there is no `sudo` on this machine";
                return Completion::NotStarted(elevation(&self.shell.place, account.unwrap_or_default(), said));
            }
            Err(error) => {
                return Completion::NotStarted(self.shell.local(format!("no shell can be started: {error}")));
            }
        };
        let (Some(group), stdin, Some(mut stdout), Some(mut stderr)) =
            (child.id(), child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Completion::Unknown(format!("{}: a shell was started without pipes", self.shell.place));
        };
        let guard = Group {
            leader: Pid::from_raw(group.cast_signed()),
            held: self.lifeline.hold(group),
            lifeline: &self.lifeline,
        };
        let mut output =
            Output { filter: Filter::new(&marker), holding: step.announces.then(Vec::new), no_cwd: false, sink };
        let mut feed = std::pin::pin!(async move {
            // A program that reads none of its input is no error.
            let Some(mut stdin) = stdin else { return };
            drop(stdin.write_all(&step.lines).await);
            if let Some(input) = &invocation.stdin {
                drop(stdin.write_all(input.expose()).await);
            }
            drop(stdin);
        });
        let mut stopping = None;
        let (mut out, mut err) = (vec![0; FIRST_BYTES], vec![0; FIRST_BYTES]);
        let (mut feeding, mut open) = (!told, [true, true]);
        let mut ended: Option<io::Result<ExitStatus>> = None;
        let mut stopped: Option<Result<bool, String>> = None;
        while ended.is_none() || (stopping.is_some() && stopped.is_none()) {
            tokio::select! {
                read = stdout.read(&mut out), if open[0] => match read {
                    Ok(n) if n > 0 => output.take_from(Stream::Stdout, &mut out, n).await,
                    _ => open[0] = false,
                },
                read = stderr.read(&mut err), if open[1] => match read {
                    Ok(n) if n > 0 => output.take_from(Stream::Stderr, &mut err, n).await,
                    _ => open[1] = false,
                },
                () = &mut feed, if feeding => feeding = false,
                status = child.wait(), if ended.is_none() => ended = Some(status),
                () = stop.cancelled(), if stopping.is_none() => {
                    // Nobody else can have its number while we have not seen it end.
                    let start = if ended.is_none() { started_at(group) } else { "-".to_owned() };
                    let mark = &mark;
                    stopping = Some(Box::pin(async move {
                        let leader = group.to_string();
                        let what = Attached { mark, group: &leader, start: &start, account, given_up: false };
                        self.posix.end_attached(&what, grace).await
                    }));
                }
                end = async { match stopping.as_mut() { Some(end) => end.await, None => std::future::pending().await } },
                    if stopping.is_some() && stopped.is_none() => stopped = Some(end),
            }
        }
        // What it wrote before it ended is in the pipes. Processes that it left behind may keep them open for ever.
        if open[0] {
            drain(&stdout, Stream::Stdout, &mut out, &mut output).await;
        }
        if open[1] {
            drain(&stderr, Stream::Stderr, &mut err, &mut output).await;
        }
        output.finish().await;
        let Output { holding, no_cwd, .. } = output;
        guard.disarm();
        match stopped {
            Some(Ok(true)) => return Completion::Killed,
            Some(Err(why)) => {
                return Completion::Unknown(format!("{}: it was to be stopped: {why}", self.shell.place));
            }
            Some(Ok(false)) | None => {}
        }
        if no_cwd {
            return Completion::NotStarted(self.shell.local(format!(
                "the working folder {} does not exist, or {} may not enter it",
                invocation.cwd.as_deref().unwrap_or("of the step"),
                account.unwrap_or("this account")
            )));
        }
        if let Some(held) = holding {
            let said = one_line(&held);
            return Completion::NotStarted(match account {
                Some(account) => elevation(&self.shell.place, account, &said),
                None => Obstacle {
                    kind: ObstacleKind::Session,
                    message: format!("{}: the step's shell did not begin: {said}", self.shell.place),
                },
            });
        }
        match ended {
            Some(Ok(status)) => match (status.signal(), status.code()) {
                (Some(signal), _) => Completion::Exited(Exit::Signal(signal)),
                (None, Some(code)) => Completion::Exited(exit_of(code)),
                (None, None) => Completion::Unknown(format!("{}: it ended without a status", self.shell.place)),
            },
            Some(Err(error)) => Completion::Unknown(format!("{}: its end was not seen: {error}", self.shell.place)),
            None => Completion::Unknown(format!("{}: its end was not seen", self.shell.place)),
        }
    }
}

/// The lines as a file that a shell reads as its program, in blocks and not byte by byte as from a pipe. `None` where
/// there is no such file, or no such program.
fn in_memory(lines: &[u8]) -> Option<Stdio> {
    let text = whole_program(lines)?;
    let mut file = memory_file()?;
    file.write_all(&text).and_then(|()| file.rewind()).ok()?;
    Some(file.into())
}

/// The lines as a program for a shell that reads it from its standard input; `None` for one that hands over to another
/// shell, which would not find the rest.
pub(crate) fn whole_program(lines: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let line = lines.strip_suffix(b"\n").filter(|line| !line.contains(&b'\n'))?;
    // A shell executes a line when it has read all of it. It must not go on to read: the step may have put another file
    // into the place of this one.
    Some(Zeroizing::new([SET_N, line, b";exit\n"].concat()))
}

/// As [`BOOT`] begins.
const SET_N: &[u8] = b"n=${IFS#??};";

#[cfg(target_os = "linux")]
fn memory_file() -> Option<File> {
    Some(rustix::fs::memfd_create("step", rustix::fs::MemfdFlags::CLOEXEC).ok()?.into())
}

#[cfg(not(target_os = "linux"))]
fn memory_file() -> Option<File> {
    // Secrets must not come to lie on a disk.
    None
}

/// When a process started, as its `stat` says; `-` where there is none.
pub(crate) fn started_at(pid: u32) -> String {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; the fields after it are numbered from 3.
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().nth(19).unwrap_or("-").to_owned()
}

/// Reads what is there, without waiting.
async fn drain(pipe: &impl AsFd, stream: Stream, buffer: &mut Vec<u8>, output: &mut Output<'_>) {
    let mut total = 0;
    while total < PIPE_BYTES_MAX {
        // The pipe is non-blocking on our side.
        match rustix::io::read(pipe, buffer.as_mut_slice()) {
            Ok(n) if n > 0 => {
                output.take_from(stream, buffer, n).await;
                total += n;
            }
            Err(rustix::io::Errno::INTR) => {}
            _ => return,
        }
    }
}

struct Output<'a> {
    filter: Filter,
    holding: Option<Vec<u8>>,
    no_cwd: bool,
    sink: &'a mut dyn OutputSink,
}

impl Output<'_> {
    /// Takes `n` bytes of a buffer, which grows when it was full.
    async fn take_from(&mut self, stream: Stream, buffer: &mut Vec<u8>, n: usize) {
        self.take(stream, &buffer[..n]).await;
        if n == buffer.len() && n < CHUNK_BYTES {
            buffer.resize(CHUNK_BYTES, 0);
        }
    }

    async fn take(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout {
            return self.sink.write(stream, bytes).await;
        }
        for piece in self.filter.push(bytes) {
            match piece {
                Piece::Bytes(bytes) => self.stderr(&bytes).await,
                Piece::Frame(text) if text == "c" => self.no_cwd = true,
                Piece::Frame(_) => {
                    if let Some(held) = self.holding.take()
                        && !held.is_empty()
                    {
                        self.stderr(&held).await;
                    }
                }
            }
        }
    }

    async fn stderr(&mut self, bytes: &[u8]) {
        match self.holding.as_mut() {
            Some(held) if held.len() < HELD_BYTES_MAX => held.extend_from_slice(bytes),
            _ => self.sink.write(Stream::Stderr, bytes).await,
        }
    }

    async fn finish(&mut self) {
        let rest = self.filter.finish();
        if !rest.is_empty() {
            self.stderr(&rest).await;
        }
    }
}

fn one_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("; ").chars().filter(|c| !c.is_control()).take(600).collect()
}

/// Kills the group when the future that waits for it is dropped. Gone, it is not held any more.
struct Group<'a> {
    leader: Option<Pid>,
    held: Option<Held>,
    lifeline: &'a Lifeline,
}

impl Group<'_> {
    fn disarm(mut self) {
        self.leader = None;
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if let Some(leader) = self.leader.take() {
            // Not reaped yet, so the number is still its own.
            let _gone_already = kill_process_group(leader, Signal::KILL);
        }
        self.lifeline.release(self.held.take());
    }
}
