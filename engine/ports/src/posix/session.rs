//! A [`Session`] on a POSIX host, over anything that can start [`BOOT`](super::BOOT) there.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::host::{AuthMethod, Facts, PeerIdentity, ToldBy};
use runbook_model::id::AttemptId;
use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use runbook_model::session::Here;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::ending::Mark;
use super::frame::Marker;
use super::program::step_lines;
use super::pump::{End, Gather, Pump, Report};
use super::script::{self, AtTheEnd, Attached, ClaimKey, Start, question};
use super::wire::{Channel, Opening, Wire};
use super::{escape_for_printf, leave, leftovers, transfer};
use crate::clock::Clock;
use crate::leftover::Leftover;
use crate::transport::{
    Completion, Invocation, LookFor, Offsets, OutputSink, Probe, Seen, Session, Transferred, UploadTarget,
};

/// How long a claimed attempt is given to end before its outputs are followed over a channel of their own. Short steps
/// then cost one channel, also on a busy host, where a shell takes its time to start; long ones are seen live.
const FOLLOW_AFTER: Duration = Duration::from_millis(300);
/// How long a channel is waited for before an idle runner is given up for it, and how long a stop waits for one before it
/// takes the one of what it stops.
const CROWDED_AFTER: Duration = Duration::from_millis(200);
/// How long a question's answer is waited for: more than a stop with its grace takes on a host with much to do. A host
/// whose shell hangs (a home folder that nobody serves, a login script that waits) must not hang a run.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

/// A session over a [`Wire`].
pub struct PosixSession<W> {
    wire: W,
    clock: Arc<dyn Clock>,
    /// Runners that have nothing to do.
    idle: Mutex<Vec<Channel>>,
    /// What the host said of the connection when it was asked for its facts.
    told: Mutex<Told>,
}

/// What a host says of the connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Told {
    process: Option<String>,
    methods: Vec<AuthMethod>,
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
    pub(super) fn obstacle(self) -> Obstacle {
        match self {
            Silence::NotStarted(obstacle) => obstacle,
            Silence::Broken(message) => Obstacle { kind: ObstacleKind::Session, message },
        }
    }
}

impl<W: Wire> PosixSession<W> {
    /// Takes the wire over.
    pub fn new(wire: W, clock: Arc<dyn Clock>) -> Self {
        Self { wire, clock, idle: Mutex::default(), told: Mutex::default() }
    }

    /// What reaches the host.
    pub fn wire(&self) -> &W {
        &self.wire
    }

    /// Ends something that runs attached. `Ok(true)`: it was there and is gone; `Ok(false)`: nothing was left of its group.
    ///
    /// # Errors
    /// Why nobody can say that it is gone.
    pub async fn end_attached(&self, what: &Attached<'_>, grace: Duration) -> Result<bool, String> {
        let marker = Marker::fresh();
        let line = script::stop_attached(&marker, what, millis(grace));
        match self.ask_within(ANSWER_WITHIN + grace, &line, &marker, AtTheEnd::GoOn).await {
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

    /// A runner that has nothing to do.
    fn idle(&self) -> Option<Channel> {
        self.idle.lock().ok().and_then(|mut idle| idle.pop())
    }

    /// A runner, and whether it served before: then it may have ended meanwhile.
    async fn runner(&self) -> Result<(Channel, bool), Obstacle> {
        match self.idle() {
            Some(channel) => Ok((channel, true)),
            None => Ok((self.channel(Opening::Runner).await?, false)),
        }
    }

    /// A runner that can serve again.
    fn keep(&self, channel: Option<Channel>) {
        if let (Some(channel), Ok(mut idle)) = (channel, self.idle.lock()) {
            idle.push(channel);
        }
    }

    /// A channel of its own. Idle runners do not stand in its way, where a host allows few.
    pub(super) async fn channel(&self, opening: Opening) -> Result<Channel, Obstacle> {
        if !self.wire.spare() {
            drop(self.idle());
        }
        let mut opened = std::pin::pin!(self.wire.open(opening));
        loop {
            tokio::select! {
                biased;
                channel = &mut opened => return channel,
                () = tokio::time::sleep(CROWDED_AFTER) => drop(self.idle()),
            }
        }
    }

    /// Whether something can be asked now without waiting for a channel.
    fn roomy(&self) -> bool {
        self.wire.spare() || self.idle.lock().is_ok_and(|idle| !idle.is_empty())
    }

    /// Sends a script and takes its answer.
    pub(super) async fn ask(&self, script: &[u8], marker: &Marker, at_the_end: AtTheEnd) -> Result<Answer, Silence> {
        self.ask_within(ANSWER_WITHIN, script, marker, at_the_end).await
    }

    async fn ask_within(
        &self,
        limit: Duration,
        script: &[u8],
        marker: &Marker,
        at_the_end: AtTheEnd,
    ) -> Result<Answer, Silence> {
        self.request(limit, question(script, at_the_end), marker).await
    }

    /// Sends a request to a runner and takes its answer, for at most `limit`.
    async fn request(&self, limit: Duration, request: Vec<u8>, marker: &Marker) -> Result<Answer, Silence> {
        let line = Zeroizing::new(request);
        loop {
            let (channel, used) = self.runner().await.map_err(Silence::NotStarted)?;
            let mut stdout = Gather::default();
            let mut pump = Pump::new(channel, marker, line.clone(), &mut stdout, false);
            pump.answers_only = true;
            let answered = tokio::time::timeout(limit, pump.run(None, &CancellationToken::new())).await;
            let (report, channel) = pump.finish();
            let Ok(end) = answered else {
                return Err(Silence::Broken(format!(
                    "{}: the host's shell did not answer within {} s{}",
                    self.place(),
                    limit.as_secs(),
                    report.noise
                )));
            };
            self.keep(channel);
            match end {
                End::Frame(frame) => return Ok(Answer { frame, stdout: stdout.0 }),
                // It was ended while it had nothing to do.
                _ if used && !report.spoke => {}
                _ if !report.sent => return Err(Silence::NotStarted(self.unsent(&report))),
                _ => {
                    return Err(Silence::Broken(format!(
                        "{}: the connection broke before the host's answer came{}",
                        self.place(),
                        report.noise
                    )));
                }
            }
        }
    }

    /// The request never left us whole, so nothing of it was evaluated.
    fn unsent(&self, report: &Report) -> Obstacle {
        let why = if report.noise.is_empty() {
            "the connection broke before the command was sent"
        } else {
            "the host did not run a shell for us"
        };
        Obstacle { kind: ObstacleKind::Session, message: format!("{}: {why}{}", self.place(), report.noise) }
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
        loop {
            let runner = tokio::select! {
                runner = self.runner() => runner,
                () = stop.cancelled() => return Completion::Killed,
            };
            let (channel, used) = match runner {
                Ok(runner) => runner,
                Err(obstacle) => return Completion::NotStarted(obstacle),
            };
            let mut pump = Pump::new(channel, &marker, line.clone(), &mut *sink, announces);
            match pump.run(None, stop).await {
                End::Frame(frame) => {
                    let (report, channel) = pump.finish();
                    self.keep(channel);
                    return self.completion(&frame, &report, invocation);
                }
                // A line without its end is never evaluated.
                End::Stop if !pump.sent() => return Completion::Killed,
                End::Stop => {
                    pump.await_keeper().await;
                    let Some((group, start)) = pump.keeper.clone() else {
                        return Completion::Unknown(format!(
                            "{}: it was to be stopped before the host had said that it began",
                            self.place()
                        ));
                    };
                    let what = Attached {
                        mark: &Mark::attached(&marker),
                        group: &group,
                        start: &start,
                        account: invocation.account.as_deref(),
                        given_up: false,
                    };
                    return self.stop(pump, &what, grace, invocation).await;
                }
                End::Late => return Completion::Unknown("a timer rang that was never set".into()),
                End::Broken => {
                    let (report, _) = pump.finish();
                    if used && !report.spoke {
                        // It was ended while it had nothing to do.
                        continue;
                    }
                    if !report.sent {
                        return Completion::NotStarted(self.unsent(&report));
                    }
                    return self.broken(&report, &marker, invocation, grace).await;
                }
            }
        }
    }

    /// The shell of an attached run ended without a word of how the run did.
    async fn broken(&self, report: &Report, marker: &Marker, invocation: &Invocation, grace: Duration) -> Completion {
        if let Err(obstacle) = self.check().await {
            return Completion::Lost(obstacle.message);
        }
        let Some((group, start)) = &report.keeper else {
            // The link is up, so everything that was said has arrived; nothing ever began.
            return Completion::NotStarted(Obstacle {
                kind: ObstacleKind::Session,
                message: format!("{}: the host did not run a shell for us{}", self.place(), report.noise),
            });
        };
        let what = Attached {
            mark: &Mark::attached(marker),
            group,
            start,
            account: invocation.account.as_deref(),
            given_up: true,
        };
        let left = match self.end_attached(&what, grace).await {
            Ok(_) => "nothing of it is left",
            Err(_) => "processes of it may be left",
        };
        Completion::Unknown(format!(
            "{}: the shell that waited for it was killed on the host, so nobody knows how it ended; {left}",
            self.place()
        ))
    }

    /// Ends what the pump's channel runs, and proves it.
    async fn stop(
        &self,
        mut pump: Pump<'_>,
        what: &Attached<'_>,
        grace: Duration,
        invocation: &Invocation,
    ) -> Completion {
        let mut ended = None;
        let given_up = Attached { given_up: true, ..*what };
        let mut answer = if self.roomy() {
            let mut asked = std::pin::pin!(self.end_attached(what, grace));
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
            // The host allows no second channel: this one is given up for it, once what is on its way has arrived.
            if let End::Frame(frame) = pump.drain(CROWDED_AFTER).await {
                ended = Some(frame);
            }
            pump.abandon();
            self.end_attached(&given_up, grace).await
        };
        if pump.is_open() && ended.is_none() && answer.is_ok() {
            // All writers but daemons are gone; take what is left of the output.
            if let End::Frame(frame) = pump.drain(Duration::from_secs(2)).await {
                ended = Some(frame);
            }
        }
        if ended.is_none() && answer == Ok(false) {
            // Its group was ended because the channel was closed, so what left the group is looked for all the same.
            answer = self.end_attached(&given_up, grace).await;
        }
        let (report, _) = pump.finish();
        match (answer, ended) {
            (Ok(false), Some(frame)) => self.completion(&frame, &report, invocation),
            (Ok(_), _) => Completion::Killed,
            (Err(why), _) => Completion::Unknown(format!("{}: it was to be stopped: {why}", self.place())),
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
        let opening = self.wire.for_claims();
        let (line, announces) = match claimed_line(invocation, &marker, &claim, opening == Opening::Runner) {
            Ok(prepared) => prepared,
            Err(obstacle) => return Completion::NotStarted(obstacle),
        };
        let (end, report) = loop {
            let shell = async {
                match opening {
                    Opening::Runner => self.runner().await,
                    other => Ok((self.channel(other).await?, false)),
                }
            };
            let shell = tokio::select! {
                shell = shell => shell,
                () = stop.cancelled() => return Completion::Killed,
            };
            let (channel, used) = match shell {
                Ok(shell) => shell,
                Err(obstacle) => return Completion::NotStarted(obstacle),
            };
            let mut pump = Pump::new(channel, &marker, line.clone(), &mut *sink, announces);
            let end = pump.run(Some(FOLLOW_AFTER), stop).await;
            if matches!(end, End::Stop) && pump.sent() {
                pump.await_keeper().await;
            }
            let (report, channel) = pump.finish();
            self.keep(channel);
            // A runner that was ended while it had nothing to do is no reason to give up: claims are exclusive.
            if !(matches!(end, End::Broken) && used && !report.spoke) {
                break (end, report);
            }
        };
        let from = report.delivered;
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
            End::Late | End::Stop if !report.sent => Completion::Killed,
            End::Broken if !report.sent => Completion::NotStarted(self.unsent(&report)),
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
            let (channel, used) = match self.runner().await {
                Ok(runner) => runner,
                Err(obstacle) => return Completion::Lost(obstacle.message),
            };
            let line = script::follow(&marker, &claim, from.stdout, from.stderr);
            let line = Zeroizing::new(question(&line, AtTheEnd::GiveUp));
            let mut pump = Pump::new(channel, &marker, line, &mut *sink, false);
            pump.delivered = from;
            let never = CancellationToken::new();
            let end = pump.run(None, if listening { stop } else { &never }).await;
            let (report, channel) = pump.finish();
            self.keep(channel);
            let to = report.delivered;
            match end {
                End::Frame(frame) => {
                    if let Some((so, se)) = sizes(&frame)
                        && (to.stdout - from.stdout < so || to.stderr - from.stderr + report.announced < se)
                        && !report.withheld
                    {
                        from = to;
                        continue;
                    }
                    match frame.split(' ').next() {
                        Some("x" | "p") if stopped => return Completion::Killed,
                        // Somebody stopped it, and did not live to see that all of it was gone.
                        Some("p") => {
                            from = to;
                            match self.end_claimed(&marker, &claim, grace).await {
                                Ok(gone) => stopped = gone,
                                Err(completion) => return completion,
                            }
                        }
                        _ => return self.completion_of(&frame, &report, report.account.as_deref(), None),
                    }
                }
                End::Stop => {
                    from = to;
                    listening = false;
                    match self.end_claimed(&marker, &claim, grace).await {
                        Ok(gone) => stopped = gone,
                        Err(completion) => return completion,
                    }
                }
                // It was ended while it had nothing to do.
                End::Broken if used && !report.spoke => {}
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

    /// Ends a claimed attempt. `true`: it is gone; `false`: it had ended by itself, and has a true exit.
    async fn end_claimed(&self, marker: &Marker, claim: &ClaimKey, grace: Duration) -> Result<bool, Completion> {
        let line = script::stop_claimed(marker, claim, millis(grace));
        match self.ask_within(ANSWER_WITHIN + grace, &line, marker, AtTheEnd::GoOn).await {
            Ok(answer) => match answer.frame.split_once(' ').unwrap_or((&answer.frame, "")) {
                ("k" | "g", _) => Ok(true),
                ("e", _) => Ok(false),
                ("n", _) => Err(Completion::Unknown(self.no_record())),
                (_, text) => Err(Completion::Unknown(format!("{}: it was to be stopped: {text}", self.place()))),
            },
            Err(Silence::NotStarted(Obstacle { message, .. }) | Silence::Broken(message)) => {
                Err(Completion::Unknown(format!("it was to be stopped, but {message}")))
            }
        }
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
    let step = step_lines(invocation, marker, &Mark::attached(marker))?;
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
    runner: bool,
) -> Result<(Zeroizing<Vec<u8>>, bool), Obstacle> {
    let step = step_lines(invocation, marker, &Mark::of(claim))?;
    let stdin = invocation.stdin.as_ref().map(|s| Zeroizing::new(escape_for_printf(s.expose())));
    let how = Start {
        lines: &step.lines,
        stdin: stdin.as_ref().map(|s| s.as_slice()),
        account: invocation.account.as_deref(),
    };
    Ok((Zeroizing::new(script::claimed(marker, claim, &how, runner)), step.announces))
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
        let mut identity = self.wire.identity();
        if let Ok(told) = self.told.lock() {
            identity.process.clone_from(&told.process);
            if !told.methods.is_empty() {
                identity.methods.clone_from(&told.methods);
                identity.methods_told_by = Some(ToldBy::Host);
            }
        }
        identity
    }

    async fn facts(&self) -> Result<Facts, Obstacle> {
        let marker = Marker::fresh();
        let before = self.clock.now_ms();
        let answer = self.ask(&script::facts(&marker), &marker, AtTheEnd::GiveUp).await.map_err(Silence::obstacle)?;
        let after = self.clock.now_ms();
        let text = String::from_utf8_lossy(&answer.stdout);
        if let Ok(mut told) = self.told.lock() {
            *told = read_told(&text, &self.wire);
        }
        Ok(read_facts(&text, before, after))
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
        let answer = match self.ask(&script::probe(&marker, &ClaimKey::of(attempt)), &marker, AtTheEnd::GoOn).await {
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
            let request = script::clear(&marker, &claims);
            let answer = self.request(ANSWER_WITHIN, request, &marker).await.map_err(Silence::obstacle)?;
            if let Some(text) = answer.frame.strip_prefix("f ") {
                return Err(self.host_obstacle(text));
            }
        }
        Ok(())
    }

    async fn leave(&self, attempts: &[AttemptId], look: &LookFor) -> Result<Seen, Obstacle> {
        leave::leave(self, attempts, look).await
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, Obstacle> {
        leftovers::list(self).await
    }

    async fn remove_leftovers(&self, names: &[String]) -> Result<Vec<String>, Obstacle> {
        leftovers::remove(self, names).await
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
        self.ask(&script::check(&marker), &marker, AtTheEnd::GiveUp).await.map(|_| ()).map_err(Silence::obstacle)
    }

    async fn close(&self) -> Here {
        while let Some(runner) = self.idle() {
            drop(runner);
        }
        self.wire.close().await
    }
}

fn read_facts(text: &str, before_ms: u64, after_ms: u64) -> Facts {
    let mut lines = text.lines();
    let mut system = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let mut word = || system.next().unwrap_or_default();
    let mut facts = Facts { os: word().to_ascii_lowercase(), kernel: word(), arch: word(), ..Facts::default() };
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

/// What a host says of the connection: the process that serves it, and how it let us in.
fn read_told<W: Wire>(text: &str, wire: &W) -> Told {
    let mut told = Told::default();
    for line in text.lines() {
        match line.split_once(' ') {
            Some(("auth", line)) => told.methods.extend(wire.proved(line)),
            Some(("from", process)) if leave::is_process(process) => told.process = Some(process.to_owned()),
            _ => {}
        }
    }
    told
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

    /// Channels to a shell that takes what it is told and never says anything.
    struct Mute;

    #[async_trait]
    impl Wire for Mute {
        async fn open(&self, _: Opening) -> Result<Channel, Obstacle> {
            let (out, err) = (tokio::io::duplex(64), tokio::io::duplex(64));
            Ok(Channel {
                stdin: Box::new(tokio::io::sink()),
                stdout: Box::new(out.0),
                stderr: Box::new(err.0),
                abandoned: Arc::default(),
                hold: Box::new((out.1, err.1)),
            })
        }

        fn spare(&self) -> bool {
            true
        }

        fn identity(&self) -> PeerIdentity {
            PeerIdentity::default()
        }

        fn place(&self) -> String {
            "fs01".into()
        }

        async fn close(&self) -> Here {
            Here::Ended
        }
    }

    impl Clock for Mute {
        fn now_ms(&self) -> u64 {
            0
        }

        fn mono_ms(&self) -> u64 {
            0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shell_that_hangs_does_not_hang_who_asks() {
        let session = PosixSession::new(Mute, Arc::new(Mute));
        let obstacle = session.facts().await.expect_err("nobody answers");
        assert_eq!(obstacle.kind, ObstacleKind::Session);
        assert!(obstacle.message.contains("did not answer"), "{}", obstacle.message);
    }

    #[test]
    fn facts_are_read_from_what_hosts_print() {
        let text =
            "Linux 6.1.0-18-amd64 x86_64\nboot 1b2c\nos ID=debian\nos VERSION_ID=\"12\"\nnow 1795339800 250000000\n";
        let facts = read_facts(text, 1_795_339_800_000, 1_795_339_800_100);
        assert_eq!((facts.os.as_str(), facts.os_version.as_str()), ("debian", "12"));
        assert_eq!((facts.kernel.as_str(), facts.arch.as_str()), ("6.1.0-18-amd64", "x86_64"));
        assert_eq!((facts.boot_id.as_str(), facts.clock_offset_ms), ("1b2c", Some(200)));
        let bare = read_facts("OpenBSD 7.5 amd64\nboot -\nnow 1795339800 N\n", 1_795_339_800_000, 1_795_339_800_000);
        assert_eq!((bare.os.as_str(), bare.boot_id.as_str(), bare.clock_offset_ms), ("openbsd", "", Some(500)));
    }
}
