//! Claimed steps by way of a [`keeper`](crate::keeper): the session's side.

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runbook_model::id::AttemptId;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_ports::posix::ending::Mark;
use runbook_ports::posix::frame::Marker;
use runbook_ports::posix::program::step_lines;
use runbook_ports::posix::script::ClaimKey;
use runbook_ports::posix::session::exit_of;
use runbook_ports::transport::{Completion, Invocation, Offsets, OutputSink, Probe, Session as _, Stream};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::LocalSession;
use crate::attached::whole_program;
use crate::keeper::{PROGRAM_BYTES_MAX, Request};

/// A keeper that was asked to start something has done so, or never will, within this.
const START_LIMIT: Duration = Duration::from_secs(10);

/// So much of an output is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The session's keeper, started when it is first needed.
#[derive(Default)]
pub(crate) struct Keeping {
    line: tokio::sync::Mutex<Line>,
}

#[derive(Default)]
enum Line {
    #[default]
    NotYet,
    Up(Box<Up>),
    /// It could not be started, or has gone: steps are kept by shells.
    Down,
}

struct Up {
    requests: OwnedWriteHalf,
    waiting: Arc<Waiting>,
    next: u64,
    /// Reaped in the background when this is dropped. It outlives us while steps run.
    _process: Child,
}

/// Who waits for which answer.
#[derive(Default)]
struct Waiting(Mutex<BTreeMap<u64, oneshot::Sender<Said>>>);

/// What a keeper says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Declined,
    Taken,
    Runs,
    Ended { code: i32, stdout: u64, stderr: u64 },
}

impl Said {
    fn read(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let said = match words.next()? {
            "n" => Self::Declined,
            "t" => Self::Taken,
            "w" => Self::Runs,
            "x" => Self::Ended {
                code: words.next()?.parse().ok()?,
                stdout: words.next()?.parse().ok()?,
                stderr: words.next()?.parse().ok()?,
            },
            _ => return None,
        };
        words.next().is_none().then_some(said)
    }
}

impl Waiting {
    fn list(&self) -> MutexGuard<'_, BTreeMap<u64, oneshot::Sender<Said>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the answers on, until there are no more; then nobody waits in vain.
    async fn serve(self: Arc<Self>, answers: OwnedReadHalf) {
        let mut lines = BufReader::with_capacity(512, answers).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let said = line.split_once(' ').and_then(|(number, said)| Some((number.parse().ok()?, Said::read(said)?)));
            let Some((number, said)) = said else { break };
            // What runs has another answer to come, which is found on the disk by then.
            if let Some(waiting) = self.list().remove(&number) {
                let _ = waiting.send(said);
            }
        }
        self.list().clear();
    }
}

impl Keeping {
    /// No more requests: the keeper ends as soon as its steps have.
    pub(crate) async fn close(&self) {
        *self.line.lock().await = Line::Down;
    }
}

impl LocalSession {
    /// Runs a claimed step, when the keeper takes it; `None` when it does not, and nothing was done.
    pub(crate) async fn run_kept(
        &self,
        attempt: &AttemptId,
        invocation: &Invocation,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Option<Completion> {
        if self.shell.keeper.is_none() || invocation.account.is_some() || invocation.stdin.is_some() {
            return None;
        }
        let claim = ClaimKey::of(attempt);
        let step = step_lines(invocation, &Marker::of(attempt), &Mark::of(&claim)).ok()?;
        if step.announces {
            return None;
        }
        let program = whole_program(&step.lines).filter(|program| program.len() <= PROGRAM_BYTES_MAX)?;
        let claims = self.shell.claims()?;
        let ClaimKey { run, key } = claim;
        let path = claims.join(&run).join(&key);
        let request = Request { number: 0, claims, run, key, program };
        if stop.is_cancelled() {
            return Some(Completion::Killed);
        }
        let mut answer = self.ask_keeper(request).await?;
        let said = tokio::select! {
            biased;
            said = &mut answer => said.ok(),
            // What is on its way must have begun, or it could begin after it was said to be ended.
            () = stop.cancelled() => tokio::time::timeout(START_LIMIT, answer).await.ok().and_then(Result::ok),
        };
        match said {
            Some(Said::Declined) => None,
            Some(Said::Ended { code, stdout, stderr }) => {
                let lengths = [(Stream::Stdout, ".out", stdout), (Stream::Stderr, ".err", stderr)];
                for (stream, end, length) in lengths {
                    if length > 0
                        && let Err(error) = deliver(&path, end, length, stream, sink).await
                    {
                        return Some(Completion::Unknown(format!(
                            "{}: it ended, and its output cannot be read: {error}",
                            self.shell.place
                        )));
                    }
                }
                Some(Completion::Exited(exit_of(code)))
            }
            Some(Said::Taken | Said::Runs) => Some(self.follow(attempt, Offsets::default(), sink, stop, grace).await),
            // The keeper never spoke. Asking makes sure that it never will.
            None => Some(match self.probe(attempt).await {
                Probe::NeverStarted if stop.is_cancelled() => Completion::Killed,
                Probe::NeverStarted => Completion::NotStarted(Obstacle {
                    kind: ObstacleKind::Session,
                    message: format!("{}: the keeper of this session's steps has gone", self.shell.place),
                }),
                Probe::Unreachable(obstacle) => Completion::Lost(obstacle.message),
                _ => self.follow(attempt, Offsets::default(), sink, stop, grace).await,
            }),
        }
    }

    /// Sends a request; `None` when there is no keeper, and nothing was sent that could be taken in.
    async fn ask_keeper(&self, mut request: Request) -> Option<oneshot::Receiver<Said>> {
        let mut line = self.keeping.line.lock().await;
        if matches!(*line, Line::NotYet) {
            *line = self.start_keeper().map_or(Line::Down, |up| Line::Up(Box::new(up)));
        }
        let Line::Up(up) = &mut *line else { return None };
        up.next += 1;
        request.number = up.next;
        let (answer, answered) = oneshot::channel();
        up.waiting.list().insert(request.number, answer);
        // A request without its end is not taken in.
        if up.requests.write_all(&request.encode()).await.is_err() {
            *line = Line::Down;
            return None;
        }
        Some(answered)
    }

    fn start_keeper(&self) -> Option<Up> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().ok()?;
        ours.set_nonblocking(true).ok()?;
        let (program, words) = self.shell.keeper.as_deref()?.split_first()?;
        let mut command = self.shell.own_group(program);
        command.args(words).arg(&*self.shell.sh);
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().ok()?;
        let (answers, requests) = UnixStream::from_std(ours).ok()?.into_split();
        let waiting = Arc::<Waiting>::default();
        tokio::spawn(Arc::clone(&waiting).serve(answers));
        Some(Up { requests, waiting, next: 0, _process: process })
    }
}

/// Gives the first `length` bytes of an output to the sink.
async fn deliver(
    claim: &Path,
    end: &str,
    length: u64,
    stream: Stream,
    sink: &mut dyn OutputSink,
) -> std::io::Result<()> {
    let mut name = claim.as_os_str().to_owned();
    name.push(end);
    let mut file = std::fs::File::open(PathBuf::from(name))?;
    file.rewind()?;
    let mut left = length;
    let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(length).unwrap_or(CHUNK_BYTES))];
    while left > 0 {
        let room = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        match file.read(&mut buffer[..room])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => {
                sink.write(stream, &buffer[..n]).await;
                left -= n as u64;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_are_written_and_nothing_else_is_one() {
        assert_eq!(Said::read("x 137 5 0"), Some(Said::Ended { code: 137, stdout: 5, stderr: 0 }));
        assert_eq!(Said::read("n"), Some(Said::Declined));
        for odd in ["", "x", "x 1", "x 1 2", "x 1 2 3 4", "t 1", "y", "x a 0 0"] {
            assert_eq!(Said::read(odd), None, "{odd}");
        }
    }
}
