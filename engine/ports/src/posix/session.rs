//! A [`Session`] on a POSIX host, over anything that can start [`BOOT`](super::BOOT) there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::host::{Facts, PeerIdentity};
use runbook_model::id::AttemptId;
use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::frame::{Filter, Marker, Piece};
use super::program::step_lines;
use super::script::{self, ClaimKey, Start};
use super::{escape_for_printf, transfer};
use crate::clock::Clock;
use crate::transport::{
    Completion, Invocation, Offsets, OutputSink, Probe, Session, Stream, Transferred, UploadTarget,
};

/// How long a claimed attempt is given to end before its outputs are followed over a channel of their own. Short steps
/// then cost one channel, also on a busy host, where a shell takes its time to start; long ones are seen live.
const FOLLOW_AFTER: Duration = Duration::from_millis(300);
/// How long the host is given to say that a command began, when it is to be stopped at that moment.
const KEEPER_WITHIN: Duration = Duration::from_secs(10);
/// How long a stop waits for a channel of its own before it takes the one of what it stops.
const CROWDED_AFTER: Duration = Duration::from_millis(200);
/// Output on standard error that is held back until the step's shell said that it began.
const HELD_BYTES_MAX: usize = 64 * 1024;
/// How much is read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// What a shell is started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// [`BOOT`](super::BOOT), which takes any line.
    Boot,
    /// The program that runs a step attached ([`ATTACHED_COMMAND`](super::waiting::ATTACHED_COMMAND)).
    Attached,
    /// The program that runs a step claimed ([`CLAIMED_COMMAND`](super::waiting::CLAIMED_COMMAND)).
    Claimed,
}

/// Starts shells on the host.
#[async_trait]
pub trait Wire: Send + Sync {
    /// Opens a channel to a shell with this program, waiting while the host allows no more of them at once.
    ///
    /// # Errors
    /// An obstacle: nothing was started.
    async fn open(&self, opening: Opening) -> Result<Channel, Obstacle>;

    /// Whether another channel can be had now without waiting.
    fn spare(&self) -> bool;

    /// Who answered, and how we got in.
    fn identity(&self) -> PeerIdentity;

    /// For messages: the host and where it was reached.
    fn place(&self) -> String;

    /// Ends the connection.
    async fn close(&self);
}

/// A shell on the host. Dropping it closes its three streams.
pub struct Channel {
    /// Its standard input.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Its standard output.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its standard error.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// Set when nobody waits for the shell's end any more: the channel is to be closed at once.
    pub abandoned: Arc<AtomicBool>,
    /// Whatever must live as long.
    pub hold: Box<dyn Send + Sync>,
}

/// A session over a [`Wire`].
pub struct PosixSession<W> {
    wire: W,
    clock: Arc<dyn Clock>,
    /// Runs whose folder is to be removed at the end, if empty.
    runs: Mutex<BTreeSet<String>>,
}

/// What a script answered.
pub(super) struct Answer {
    /// The text of its last frame.
    pub frame: String,
    /// What it printed.
    pub stdout: Vec<u8>,
}

/// Why a script did not answer.
pub(super) enum Silence {
    /// It did not begin.
    NotStarted(Obstacle),
    /// The channel ended without its last frame.
    Broken(String),
}

impl Silence {
    fn obstacle(self) -> Obstacle {
        match self {
            Silence::NotStarted(obstacle) => obstacle,
            Silence::Broken(message) => Obstacle { kind: ObstacleKind::Session, message },
        }
    }
}

impl<W: Wire> PosixSession<W> {
    /// Takes the wire over.
    pub fn new(wire: W, clock: Arc<dyn Clock>) -> Self {
        Self { wire, clock, runs: Mutex::default() }
    }

    /// What reaches the host.
    pub fn wire(&self) -> &W {
        &self.wire
    }

    /// Has [`Session::close`] remove the folder of this claim's run, if it is empty by then.
    pub fn tidy_at_the_end(&self, claim: &ClaimKey) {
        if let Ok(mut runs) = self.runs.lock() {
            runs.insert(claim.run.clone());
        }
    }

    /// Ends the process group of something that runs attached and is led by process `group`, which began at `start` (as
    /// `/proc/PID/stat` says, or `-`). `Ok(true)`: it was there and is gone; `Ok(false)`: nothing was left of it.
    ///
    /// # Errors
    /// Why nobody can say that it is gone.
    pub async fn end_group(
        &self,
        group: &str,
        start: &str,
        account: Option<&str>,
        grace: Duration,
    ) -> Result<bool, String> {
        let marker = Marker::fresh();
        let line = script::stop_attached(&marker, group, start, account, millis(grace));
        match self.ask(line, &marker).await {
            Ok(answer) => match answer.frame.split_once(' ').unwrap_or((&answer.frame, "")) {
                ("k", _) => Ok(true),
                ("g", _) => Ok(false),
                (_, text) => Err(text.to_owned()),
            },
            Err(silence) => Err(silence.obstacle().message),
        }
    }

    pub(super) fn place(&self) -> String {
        self.wire.place()
    }

    /// Sends a script and takes its answer.
    pub(super) async fn ask(&self, line: Vec<u8>, marker: &Marker) -> Result<Answer, Silence> {
        let channel = self.wire.open(Opening::Boot).await.map_err(Silence::NotStarted)?;
        let mut stdout = Gather::default();
        let mut pump = Pump::new(channel, marker, Zeroizing::new(line), &mut stdout, false);
        pump.answers_only = true;
        let end = pump.run(None, &CancellationToken::new()).await;
        let sent = pump.sent();
        let noise = pump.noise();
        drop(pump);
        match end {
            End::Frame(frame) => Ok(Answer { frame, stdout: stdout.0 }),
            _ if !sent => Err(Silence::NotStarted(self.unsent())),
            _ => Err(Silence::Broken(format!(
                "{}: the connection broke before the host's answer came{noise}",
                self.place()
            ))),
        }
    }

    fn unsent(&self) -> Obstacle {
        Obstacle {
            kind: ObstacleKind::Session,
            message: format!("{}: the connection broke before the command was sent", self.place()),
        }
    }

    /// The obstacle that a script's frame `f TEXT` tells of.
    pub(super) fn host_obstacle(&self, text: &str) -> Obstacle {
        let full = ["o space left", "uota exceeded"].iter().any(|sign| text.contains(sign));
        let kind = if full { ObstacleKind::HostFull } else { ObstacleKind::Session };
        Obstacle { kind, message: format!("{}: nothing can be recorded on the host: {text}", self.place()) }
    }

    async fn run_attached(
        &self,
        invocation: &Invocation,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Completion {
        let marker = Marker::fresh();
        let (line, announces) = match attached_line(invocation, &marker, grace) {
            Ok(prepared) => prepared,
            Err(obstacle) => return Completion::NotStarted(obstacle),
        };
        let channel = tokio::select! {
            channel = self.wire.open(Opening::Attached) => channel,
            () = stop.cancelled() => return Completion::Killed,
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(obstacle) => return Completion::NotStarted(obstacle),
        };
        let mut pump = Pump::new(channel, &marker, line, sink, announces);
        match pump.run(None, stop).await {
            End::Frame(frame) => {
                let report = pump.into_report();
                self.completion(&frame, &report, invocation)
            }
            End::Stop => {
                if !pump.sent() {
                    // A line without its end is never evaluated.
                    return Completion::Killed;
                }
                pump.await_keeper().await;
                let Some((group, start)) = pump.keeper.clone() else {
                    return Completion::Unknown(format!(
                        "{}: it was to be stopped before the host had said that it began",
                        self.place()
                    ));
                };
                let account = invocation.account.as_deref();
                let line = script::stop_attached(&marker, &group, &start, account, millis(grace));
                self.stop(pump, line, &marker, invocation).await
            }
            End::Late => Completion::Unknown("a timer rang that was never set".into()),
            End::Broken if !pump.sent() => Completion::NotStarted(self.unsent()),
            End::Broken => {
                let report = pump.into_report();
                if let Err(obstacle) = self.check().await {
                    return Completion::Lost(obstacle.message);
                }
                let Some((group, start)) = report.keeper else {
                    // The link is up, so everything that was said has arrived; the keeper never spoke.
                    return Completion::NotStarted(Obstacle {
                        kind: ObstacleKind::Session,
                        message: format!("{}: the host did not run a shell for us{}", self.place(), report.noise),
                    });
                };
                let account = invocation.account.as_deref();
                let line = script::stop_attached(&marker, &group, &start, account, millis(grace));
                let left = match self.ask(line, &marker).await {
                    Ok(Answer { frame, .. }) if frame == "g" || frame == "k" => "nothing of it is left",
                    _ => "processes of it may be left",
                };
                Completion::Unknown(format!(
                    "{}: the shell that waited for it was killed on the host, so nobody knows how it ended; {left}",
                    self.place()
                ))
            }
        }
    }

    /// Ends what the pump's channel runs, and proves it.
    async fn stop(&self, mut pump: Pump<'_>, line: Vec<u8>, marker: &Marker, invocation: &Invocation) -> Completion {
        let mut ended = None;
        let answer = if self.wire.spare() {
            let mut asked = std::pin::pin!(self.ask(line, marker));
            let mut open = true;
            loop {
                tokio::select! {
                    answer = &mut asked => break answer,
                    () = tokio::time::sleep(CROWDED_AFTER), if pump.is_open() => {
                        if !self.wire.spare() {
                            // The host may allow fewer channels than we thought: this one is given up for the stop.
                            pump.abandon();
                            open = false;
                        }
                    }
                    read = pump.read(), if open => {
                        match pump.deliver(read).await {
                            Some(End::Frame(frame)) => { ended = Some(frame); open = false; }
                            Some(_) => open = false,
                            None => {}
                        }
                    }
                }
            }
        } else {
            // The host allows no second channel: this one is given up for it.
            pump.abandon();
            self.ask(line, marker).await
        };
        if pump.is_open()
            && ended.is_none()
            && matches!(&answer, Ok(answer) if answer.frame == "g" || answer.frame == "k")
        {
            // All writers but daemons are gone; take what is left of the output.
            if let End::Frame(frame) = pump.drain(Duration::from_secs(2)).await {
                ended = Some(frame);
            }
        }
        let report = pump.into_report();
        match answer {
            Ok(answer) => match answer.frame.split_once(' ').unwrap_or((&answer.frame, "")) {
                ("g", _) => match ended {
                    Some(frame) => self.completion(&frame, &report, invocation),
                    None => Completion::Killed,
                },
                ("k", _) => Completion::Killed,
                (_, text) => Completion::Unknown(format!("{}: it was to be stopped: {text}", self.place())),
            },
            Err(silence) => Completion::Unknown(format!("it was to be stopped, but {}", silence.obstacle().message)),
        }
    }

    async fn run_claimed(
        &self,
        attempt: &AttemptId,
        invocation: &Invocation,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Completion {
        let marker = Marker::of(attempt);
        let claim = ClaimKey::of(attempt);
        let (line, announces) = match claimed_line(invocation, &marker, &claim) {
            Ok(prepared) => prepared,
            Err(obstacle) => return Completion::NotStarted(obstacle),
        };
        let channel = tokio::select! {
            channel = self.wire.open(Opening::Claimed) => channel,
            () = stop.cancelled() => return Completion::Killed,
        };
        let channel = match channel {
            Ok(channel) => channel,
            Err(obstacle) => return Completion::NotStarted(obstacle),
        };
        let mut pump = Pump::new(channel, &marker, line, sink, announces);
        let end = pump.run(Some(FOLLOW_AFTER), stop).await;
        let sent = pump.sent();
        if matches!(end, End::Stop) && sent {
            pump.await_keeper().await;
        }
        let from = pump.delivered;
        let report = pump.into_report();
        match end {
            End::Frame(frame) if frame == "t" => self.follow_claim(attempt, from, sink, stop, grace).await,
            End::Frame(frame) => self.completion(&frame, &report, invocation),
            End::Late | End::Stop | End::Broken if report.keeper.is_some() => {
                if matches!(end, End::Broken)
                    && let Err(obstacle) = self.check().await
                {
                    return Completion::Lost(obstacle.message);
                }
                self.follow_claim(attempt, from, sink, stop, grace).await
            }
            // A line without its end is never evaluated.
            End::Late | End::Stop if !sent => Completion::Killed,
            End::Broken if !sent => Completion::NotStarted(self.unsent()),
            // The keeper never spoke. Asking makes sure that it never will.
            _ => match self.probe(attempt).await {
                Probe::NeverStarted if stop.is_cancelled() => Completion::Killed,
                Probe::NeverStarted => Completion::NotStarted(Obstacle {
                    kind: ObstacleKind::Session,
                    message: format!("{}: the host did not run a shell for us{}", self.place(), report.noise),
                }),
                Probe::Unreachable(obstacle) => Completion::Lost(obstacle.message),
                _ => self.follow_claim(attempt, from, sink, stop, grace).await,
            },
        }
    }

    async fn follow_claim(
        &self,
        attempt: &AttemptId,
        mut from: Offsets,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Completion {
        let marker = Marker::of(attempt);
        let claim = ClaimKey::of(attempt);
        let (mut stopped, mut listening) = (false, true);
        // Once live, once for the rest, once after a stop; twice that is more than is ever needed.
        for _ in 0..6 {
            let channel = match self.wire.open(Opening::Boot).await {
                Ok(channel) => channel,
                Err(obstacle) => return Completion::Lost(obstacle.message),
            };
            let line = script::follow(&marker, &claim, from.stdout, from.stderr);
            let mut pump = Pump::new(channel, &marker, Zeroizing::new(line), &mut *sink, false);
            pump.delivered = from;
            let never = CancellationToken::new();
            let end = pump.run(None, if listening { stop } else { &never }).await;
            let to = pump.delivered;
            let report = pump.into_report();
            match end {
                End::Frame(frame) => {
                    if let Some((so, se)) = sizes(&frame)
                        && (to.stdout - from.stdout < so || to.stderr - from.stderr + report.announced < se)
                        && !report.withheld
                    {
                        from = to;
                        continue;
                    }
                    if stopped && frame.starts_with("x ") {
                        return Completion::Killed;
                    }
                    return self.completion_of(&frame, &report, report.account.as_deref(), None);
                }
                End::Stop => {
                    from = to;
                    listening = false;
                    let answer = self.ask(script::stop_claimed(&marker, &claim, millis(grace)), &marker).await;
                    match &answer {
                        Ok(answer) => match answer.frame.split_once(' ').unwrap_or((&answer.frame, "")) {
                            ("k" | "g", _) => stopped = true,
                            // It ended by itself: the rest of its output, and its true exit.
                            ("e", _) => {}
                            ("n", _) => return Completion::Unknown(self.no_record()),
                            (_, text) => {
                                return Completion::Unknown(format!("{}: it was to be stopped: {text}", self.place()));
                            }
                        },
                        Err(Silence::NotStarted(Obstacle { message, .. }) | Silence::Broken(message)) => {
                            return Completion::Unknown(format!("it was to be stopped, but {message}"));
                        }
                    }
                }
                End::Late | End::Broken => {
                    from = to;
                    if stopped {
                        return Completion::Killed;
                    }
                    if let Err(obstacle) = self.check().await {
                        return Completion::Lost(obstacle.message);
                    }
                }
            }
        }
        if stopped {
            return Completion::Killed;
        }
        Completion::Lost(format!("{}: following it broke off again and again", self.place()))
    }

    fn no_record(&self) -> String {
        format!("{}: the host has no record of this attempt", self.place())
    }

    fn completion(&self, frame: &str, report: &Report, invocation: &Invocation) -> Completion {
        self.completion_of(frame, report, invocation.account.as_deref(), invocation.cwd.as_deref())
    }

    /// What a last frame says.
    fn completion_of(&self, frame: &str, report: &Report, account: Option<&str>, cwd: Option<&str>) -> Completion {
        let (tag, text) = frame.split_once(' ').unwrap_or((frame, ""));
        match tag {
            "x" if report.no_cwd => Completion::NotStarted(Obstacle {
                kind: ObstacleKind::Local,
                message: format!(
                    "{}: the working folder {} does not exist, or {} may not enter it",
                    self.place(),
                    cwd.unwrap_or("of the step"),
                    account.unwrap_or("the login account")
                ),
            }),
            "x" if report.withheld => {
                let said = report.held_text();
                match account {
                    Some(account) => Completion::NotStarted(elevation(&self.place(), account, &said)),
                    None => Completion::NotStarted(Obstacle {
                        kind: ObstacleKind::Session,
                        message: format!("{}: the step's shell did not begin: {said}", self.place()),
                    }),
                }
            }
            "x" => match text.split(' ').next().and_then(|code| code.parse().ok()) {
                Some(code) => Completion::Exited(exit_of(code)),
                None => Completion::Unknown(format!("{}: the host's record makes no sense: {frame}", self.place())),
            },
            "k" => Completion::Killed,
            "f" => Completion::NotStarted(self.host_obstacle(text)),
            "v" => Completion::NotStarted(Obstacle {
                kind: ObstacleKind::Session,
                message: format!("{}: a probe had made sure that this attempt never begins", self.place()),
            }),
            "n" => Completion::Unknown(self.no_record()),
            "l" | "u" => Completion::Unknown(format!("{}: {text}", self.place())),
            _ => Completion::Unknown(format!("{}: the host answered `{frame}`", self.place())),
        }
    }
}

/// What a shell's status means. Shells report a program that a signal ended as 128 plus the signal, and nothing in
/// POSIX tells that from a program that exits with such a number by itself. We read 129 to 159 as the signal, always.
pub fn exit_of(code: i32) -> Exit {
    match code {
        129..=159 => Exit::Signal(code - 128),
        _ => Exit::Code(code),
    }
}

/// The obstacle that `sudo` told of.
pub fn elevation(place: &str, account: &str, said: &str) -> Obstacle {
    let said = if said.is_empty() { "sudo gave no reason" } else { said };
    Obstacle {
        kind: ObstacleKind::Elevation,
        message: format!("{place}: `sudo -n -u {account}` was refused, so nothing ran: {said}"),
    }
}

fn attached_line(
    invocation: &Invocation,
    marker: &Marker,
    grace: Duration,
) -> Result<(Zeroizing<Vec<u8>>, bool), Obstacle> {
    let step = step_lines(invocation, marker)?;
    let stdin = invocation.stdin.as_ref().map(|s| Zeroizing::new(escape_for_printf(s.expose())));
    let how = Start {
        lines: &step.lines,
        stdin: stdin.as_ref().map(|s| s.as_slice()),
        account: invocation.account.as_deref(),
    };
    let line = script::attached(marker, &how, grace.as_secs().max(1));
    Ok((Zeroizing::new(line), step.announces))
}

fn claimed_line(
    invocation: &Invocation,
    marker: &Marker,
    claim: &ClaimKey,
) -> Result<(Zeroizing<Vec<u8>>, bool), Obstacle> {
    let step = step_lines(invocation, marker)?;
    let stdin = invocation.stdin.as_ref().map(|s| Zeroizing::new(escape_for_printf(s.expose())));
    let how = Start {
        lines: &step.lines,
        stdin: stdin.as_ref().map(|s| s.as_slice()),
        account: invocation.account.as_deref(),
    };
    Ok((Zeroizing::new(script::claimed(marker, claim, &how)), step.announces))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The file sizes in `x CODE OUT ERR` and `k CODE OUT ERR`.
fn sizes(frame: &str) -> Option<(u64, u64)> {
    let mut words = frame.split(' ').skip(2);
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

#[async_trait]
impl<W: Wire> Session for PosixSession<W> {
    fn identity(&self) -> PeerIdentity {
        self.wire.identity()
    }

    async fn facts(&self) -> Result<Facts, Obstacle> {
        let marker = Marker::fresh();
        let before = self.clock.now_ms();
        let answer = self.ask(script::facts(&marker), &marker).await.map_err(Silence::obstacle)?;
        let after = self.clock.now_ms();
        Ok(read_facts(&String::from_utf8_lossy(&answer.stdout), before, after))
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
            Some(attempt) => self.run_claimed(attempt, invocation, sink, stop, grace).await,
            None => self.run_attached(invocation, sink, stop, grace).await,
        }
    }

    async fn probe(&self, attempt: &AttemptId) -> Probe {
        let marker = Marker::of(attempt);
        let answer = match self.ask(script::probe(&marker, &ClaimKey::of(attempt)), &marker).await {
            Ok(answer) => answer,
            Err(silence) => return Probe::Unreachable(silence.obstacle()),
        };
        match answer.frame.split_once(' ').unwrap_or((&answer.frame, "")) {
            ("n", _) => Probe::NeverStarted,
            ("r", _) => Probe::Running,
            ("x", _) => Probe::Exited,
            ("l", text) => Probe::NoRecord(format!("{}: {text}", self.place())),
            ("f", text) => Probe::Unreachable(self.host_obstacle(text)),
            _ => Probe::NoRecord(format!("{}: the host answered `{}`", self.place(), answer.frame)),
        }
    }

    async fn follow(
        &self,
        attempt: &AttemptId,
        from: Offsets,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        grace: Duration,
    ) -> Completion {
        self.follow_claim(attempt, from, sink, stop, grace).await
    }

    async fn clear(&self, attempt: &AttemptId) -> Result<(), Obstacle> {
        self.clear_all(std::slice::from_ref(attempt)).await
    }

    async fn clear_all(&self, attempts: &[AttemptId]) -> Result<(), Obstacle> {
        for of_run in attempts.chunk_by(|one, next| one.run == next.run) {
            let marker = Marker::of(&of_run[0]);
            let claims: Vec<ClaimKey> = of_run.iter().map(ClaimKey::of).collect();
            self.tidy_at_the_end(&claims[0]);
            let answer = self.ask(script::clear(&marker, &claims), &marker).await.map_err(Silence::obstacle)?;
            if let Some(text) = answer.frame.strip_prefix("f ") {
                return Err(self.host_obstacle(text));
            }
        }
        Ok(())
    }

    async fn upload(
        &self,
        source: &Path,
        target: &UploadTarget,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Transferred {
        transfer::upload(self, source, target, progress).await
    }

    async fn download(
        &self,
        from: &str,
        account: Option<&str>,
        bytes_max: u64,
        target: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Transferred {
        transfer::download(self, from, account, bytes_max, target, progress).await
    }

    async fn check(&self) -> Result<(), Obstacle> {
        let marker = Marker::fresh();
        self.ask(script::check(&marker), &marker).await.map(|_| ()).map_err(Silence::obstacle)
    }

    async fn close(&self) {
        let runs = self.runs.lock().map(|mut runs| std::mem::take(&mut *runs)).unwrap_or_default();
        for run in runs {
            let marker = Marker::fresh();
            // Only tidiness: an empty folder harms nobody.
            drop(self.ask(script::leave(&marker, &run), &marker).await);
        }
        self.wire.close().await;
    }
}

fn read_facts(text: &str, before_ms: u64, after_ms: u64) -> Facts {
    let mut lines = text.lines();
    let system = lines.next().unwrap_or_default().to_ascii_lowercase();
    let mut facts = Facts {
        os: system,
        kernel: lines.next().unwrap_or_default().to_owned(),
        arch: lines.next().unwrap_or_default().to_owned(),
        ..Facts::default()
    };
    for line in lines {
        match line.split_once(' ') {
            Some(("boot", id)) if id != "-" => facts.boot_id = id.to_owned(),
            Some(("os", assignment)) => {
                let unquote = |value: &str| value.trim_matches(['"', '\'']).to_owned();
                match assignment.split_once('=') {
                    Some(("ID", id)) => facts.os = unquote(id),
                    Some(("VERSION_ID", version)) => facts.os_version = unquote(version),
                    _ => {}
                }
            }
            Some(("now", now)) => facts.clock_offset_ms = clock_offset(now, before_ms, after_ms),
            _ => {}
        }
    }
    facts
}

/// The host's clock minus ours, taken at the middle of the question and its answer.
fn clock_offset(now: &str, before_ms: u64, after_ms: u64) -> Option<i64> {
    let (seconds, nanos) = now.split_once(' ')?;
    let seconds: i64 = seconds.parse().ok()?;
    // Without `%N` the clock is known to the second; its middle is the best guess.
    let ms = nanos.parse::<i64>().map_or(500, |nanos| nanos / 1_000_000);
    let host = seconds.checked_mul(1000)?.checked_add(ms)?;
    let ours = i64::try_from(before_ms / 2 + after_ms / 2).ok()?;
    host.checked_sub(ours)
}

/// How pumping ended.
pub(super) enum End {
    /// With the host's last frame.
    Frame(String),
    /// Without.
    Broken,
    /// Somebody wants it stopped.
    Stop,
    /// The given time was over.
    Late,
}

/// What the pump learned.
struct Report {
    keeper: Option<(String, String)>,
    no_cwd: bool,
    /// The step's shell never said that it began; `held` is what was said instead.
    withheld: bool,
    held: Vec<u8>,
    /// Bytes of frames that are in the stored standard error.
    announced: u64,
    account: Option<String>,
    noise: String,
}

impl Report {
    fn held_text(&self) -> String {
        let text = String::from_utf8_lossy(&self.held);
        let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let text = lines.join("; ");
        text.chars().filter(|c| !c.is_control()).take(600).collect()
    }
}

/// One event of a channel.
pub(super) enum Read {
    Bytes(Stream, usize),
    Ended(Stream),
    Wrote(usize),
    WriteFailed,
}

/// Moves bytes between a channel and a sink.
pub(super) struct Pump<'a> {
    channel: Option<Channel>,
    marker: Marker,
    line: Zeroizing<Vec<u8>>,
    written: usize,
    write_failed: bool,
    sink: &'a mut dyn OutputSink,
    buffers: [Box<[u8]>; 2],
    filters: [Filter; 2],
    /// The frame `s` was seen.
    spoke: [bool; 2],
    noise: Vec<u8>,
    at_end: [bool; 2],
    last: [Option<String>; 2],
    keeper: Option<(String, String)>,
    holding: Option<Vec<u8>>,
    no_cwd: bool,
    announced: u64,
    /// As which account the step's shell was to begin (`h`).
    account: Option<String>,
    /// What a download is (`d`).
    pub(super) meta: Option<String>,
    pub(super) answers_only: bool,
    delivered: Offsets,
}

impl<'a> Pump<'a> {
    pub(super) fn new(
        channel: Channel,
        marker: &Marker,
        line: Zeroizing<Vec<u8>>,
        sink: &'a mut dyn OutputSink,
        announces: bool,
    ) -> Self {
        Self {
            channel: Some(channel),
            marker: marker.clone(),
            line,
            written: 0,
            write_failed: false,
            sink,
            buffers: [vec![0; CHUNK_BYTES].into(), vec![0; CHUNK_BYTES].into()],
            filters: [Filter::new(marker), Filter::new(marker)],
            spoke: [false; 2],
            noise: Vec::new(),
            at_end: [false; 2],
            last: [None, None],
            keeper: None,
            holding: announces.then(Vec::new),
            no_cwd: false,
            announced: 0,
            account: None,
            meta: None,
            answers_only: false,
            delivered: Offsets::default(),
        }
    }

    /// The whole line was handed over; the host may have it.
    fn sent(&self) -> bool {
        self.written == self.line.len()
    }

    /// Closes the channel without waiting for its shell.
    fn abandon(&mut self) {
        if let Some(channel) = self.channel.take() {
            channel.abandoned.store(true, Ordering::Relaxed);
        }
    }

    fn is_open(&self) -> bool {
        self.channel.is_some()
    }

    /// What came instead of an answer.
    pub(super) fn noise(&self) -> String {
        let text = String::from_utf8_lossy(&self.noise);
        let text: String = text.lines().map(str::trim).filter(|l| !l.is_empty()).take(3).collect::<Vec<_>>().join("; ");
        let text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
        if text.is_empty() { String::new() } else { format!("; it said: {text}") }
    }

    fn into_report(mut self) -> Report {
        Report {
            noise: self.noise(),
            keeper: self.keeper.take(),
            no_cwd: self.no_cwd,
            withheld: self.holding.is_some(),
            held: self.holding.take().unwrap_or_default(),
            announced: self.announced,
            account: self.account.take(),
        }
    }

    pub(super) async fn run(&mut self, late: Option<Duration>, stop: &CancellationToken) -> End {
        let mut deadline = None;
        loop {
            if deadline.is_none()
                && let Some(late) = late
                && self.keeper.is_some()
            {
                deadline = Some(tokio::time::Instant::now() + late);
            }
            let read = tokio::select! {
                read = self.read() => read,
                () = stop.cancelled() => return End::Stop,
                () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                    return End::Late;
                }
            };
            if let Some(end) = self.deliver(read).await {
                return end;
            }
        }
    }

    /// Waits until the host has said that it began, or that it will not; for a while.
    async fn await_keeper(&mut self) {
        let limit = tokio::time::Instant::now() + KEEPER_WITHIN;
        while self.keeper.is_none() {
            let read = tokio::select! {
                read = self.read() => read,
                () = tokio::time::sleep_until(limit) => return,
            };
            if self.deliver(read).await.is_some() {
                return;
            }
        }
    }

    /// Takes what comes within `limit`, until both streams have ended or the last frame was seen.
    async fn drain(&mut self, limit: Duration) -> End {
        let limit = tokio::time::Instant::now() + limit;
        loop {
            let read = tokio::select! {
                read = self.read() => read,
                () = tokio::time::sleep_until(limit) => return End::Late,
            };
            if let Some(end) = self.deliver(read).await {
                return end;
            }
        }
    }

    /// The next event. May be dropped while it waits; nothing is lost.
    async fn read(&mut self) -> Read {
        let Some(channel) = self.channel.as_mut() else { return Read::Ended(Stream::Stdout) };
        let [out, err] = &mut self.buffers;
        let writing = self.written < self.line.len() && !self.write_failed;
        let bytes = |stream, read: std::io::Result<usize>| match read {
            Ok(0) | Err(_) => Read::Ended(stream),
            Ok(n) => Read::Bytes(stream, n),
        };
        tokio::select! {
            n = channel.stdout.read(out), if !self.at_end[0] => bytes(Stream::Stdout, n),
            n = channel.stderr.read(err), if !self.at_end[1] => bytes(Stream::Stderr, n),
            n = channel.stdin.write(&self.line[self.written..]), if writing => match n {
                Ok(0) | Err(_) => Read::WriteFailed,
                Ok(n) => Read::Wrote(n),
            },
            else => Read::Ended(Stream::Stdout),
        }
    }

    /// Takes an event in; `Some` when that was the last one.
    async fn deliver(&mut self, read: Read) -> Option<End> {
        match read {
            Read::Wrote(n) => {
                self.written += n;
                if self.sent()
                    && let Some(channel) = self.channel.as_mut()
                {
                    drop(channel.stdin.flush().await);
                }
            }
            Read::WriteFailed => self.write_failed = true,
            Read::Bytes(stream, n) => {
                let at = usize::from(stream == Stream::Stderr);
                let pieces = self.filters[at].push(&self.buffers[at][..n]);
                for piece in pieces {
                    match piece {
                        Piece::Bytes(bytes) => self.output(stream, &bytes).await,
                        Piece::Frame(text) => self.frame(stream, text).await,
                    }
                }
            }
            Read::Ended(stream) => {
                let at = usize::from(stream == Stream::Stderr);
                if !self.at_end[at] {
                    self.at_end[at] = true;
                    let rest = self.filters[at].finish();
                    if !rest.is_empty() && self.last[at].is_none() {
                        self.output(stream, &rest).await;
                    }
                }
            }
        }
        let lonely = |text: &String| matches!(text.split(' ').next(), Some("t" | "f"));
        match &self.last {
            [Some(frame), Some(_)] => return Some(End::Frame(frame.clone())),
            [Some(frame), None] if self.at_end[1] || lonely(frame) || self.answers_only => {
                return Some(End::Frame(frame.clone()));
            }
            _ => {}
        }
        (self.at_end == [true, true]).then_some(End::Broken)
    }

    async fn output(&mut self, stream: Stream, bytes: &[u8]) {
        let at = usize::from(stream == Stream::Stderr);
        if !self.spoke[at] {
            let room = HELD_BYTES_MAX.saturating_sub(self.noise.len());
            self.noise.extend_from_slice(&bytes[..bytes.len().min(room)]);
            return;
        }
        if self.last[at].is_some() {
            // After the end: from processes that the program left behind.
            return;
        }
        if stream == Stream::Stderr
            && let Some(held) = self.holding.as_mut()
            && held.len() < HELD_BYTES_MAX
        {
            held.extend_from_slice(bytes);
            return;
        }
        match stream {
            Stream::Stdout => self.delivered.stdout += bytes.len() as u64,
            Stream::Stderr => self.delivered.stderr += bytes.len() as u64,
        }
        self.sink.write(stream, bytes).await;
    }

    async fn frame(&mut self, stream: Stream, text: String) {
        let at = usize::from(stream == Stream::Stderr);
        match text.split_once(' ').unwrap_or((&text, "")) {
            ("s", _) => self.spoke[at] = true,
            ("w", who) => {
                let (group, start) = who.split_once(' ').unwrap_or((who, "-"));
                self.keeper = Some((group.to_owned(), start.to_owned()));
            }
            ("b", _) => {
                self.announced = self.marker.frame_bytes("b");
                if let Some(held) = self.holding.take()
                    && !held.is_empty()
                {
                    self.output(stream, &held).await;
                }
            }
            ("c", _) => {
                self.no_cwd = true;
                self.announced = self.marker.frame_bytes("c");
            }
            ("h", account) => {
                self.account = Some(account.to_owned());
                self.holding.get_or_insert_default();
            }
            ("d", meta) => self.meta = Some(meta.to_owned()),
            _ => {
                if self.last[at].is_none() {
                    self.last[at] = Some(text);
                }
            }
        }
    }
}

impl Drop for Pump<'_> {
    fn drop(&mut self) {
        if let Some(channel) = &self.channel {
            channel.abandoned.store(self.last[0].is_none(), Ordering::Relaxed);
        }
    }
}

/// A sink for short answers.
#[derive(Default)]
pub(super) struct Gather(Vec<u8>);

#[async_trait]
impl OutputSink for Gather {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout && self.0.len() < HELD_BYTES_MAX {
            self.0.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_say_128_and_the_signal() {
        assert_eq!(exit_of(0), Exit::Code(0));
        assert_eq!(exit_of(127), Exit::Code(127));
        assert_eq!(exit_of(128), Exit::Code(128));
        assert_eq!(exit_of(143), Exit::Signal(15));
        assert_eq!(exit_of(200), Exit::Code(200));
        assert_eq!(exit_of(255), Exit::Code(255));
    }

    #[test]
    fn facts_are_read_from_what_hosts_print() {
        let text =
            "Linux\n6.1.0-18-amd64\nx86_64\nboot 1b2c\nos ID=debian\nos VERSION_ID=\"12\"\nnow 1795339800 250000000\n";
        let facts = read_facts(text, 1_795_339_800_000, 1_795_339_800_100);
        assert_eq!((facts.os.as_str(), facts.os_version.as_str()), ("debian", "12"));
        assert_eq!((facts.kernel.as_str(), facts.arch.as_str()), ("6.1.0-18-amd64", "x86_64"));
        assert_eq!((facts.boot_id.as_str(), facts.clock_offset_ms), ("1b2c", Some(200)));
        let bare = read_facts("OpenBSD\n7.5\namd64\nboot -\nnow 1795339800 N\n", 1_795_339_800_000, 1_795_339_800_000);
        assert_eq!((bare.os.as_str(), bare.boot_id.as_str(), bare.clock_offset_ms), ("openbsd", "", Some(500)));
    }
}
