//! A transport whose hosts are scripts: what each command does there, how its connection behaves, and what really began.
//!
//! The hosts outlive the transport's sessions and the controller: a claimed attempt goes on and can be probed and
//! followed by another process, as on a real host. Time is tokio's, so that a test can own it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::Sha256;
use runbook_model::host::{Facts, Host, PeerIdentity};
use runbook_model::id::{AttemptId, HostName};
use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use runbook_model::session::{Here, Process, There};
use runbook_ports::leftover::{Leftover, LeftoverState};
use runbook_ports::transport::{
    Capabilities, Completion, Invocation, LookFor, Offsets, OutputSink, Probe, Program, Seen, Session, Stream,
    Transferred, Transport, UploadTarget,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a command does.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// How long it runs.
    pub takes: Duration,
    /// What it prints, in these pieces.
    pub stdout: Vec<Vec<u8>>,
    /// What it prints as an error.
    pub stderr: Vec<u8>,
    /// How it ends by itself.
    pub ending: Ending,
    /// What the connection does meanwhile.
    pub link: Link,
    /// A service in between ([`SERVICE`]) passes on so many bytes of each output, and says so when there were more.
    pub passes_on: Option<usize>,
}

/// Who cuts outputs off.
pub const SERVICE: &str = "the service between";

/// How a command ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// With this code.
    Exit(i32),
    /// Only when it is stopped.
    Hangs,
    /// Not even then, as far as anybody can tell.
    CannotBeStopped,
    /// The host reboots: it is away for so long, and has another boot id afterwards.
    Reboots(Duration),
}

/// What the connection does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It holds.
    Holds,
    /// It breaks before the command is sent; nothing begins.
    NotStarted(ObstacleKind),
    /// It breaks before the command begins, and nobody can tell.
    LostBeforeStart,
    /// It breaks once the command runs, after so many bytes of its output.
    LostAfter(usize),
}

impl Behaviour {
    /// Exits at once.
    pub fn exit(code: i32) -> Self {
        Self {
            takes: Duration::ZERO,
            stdout: Vec::new(),
            stderr: Vec::new(),
            ending: Ending::Exit(code),
            link: Link::Holds,
            passes_on: None,
        }
    }

    /// Prints and exits with 0.
    pub fn prints(text: impl Into<Vec<u8>>) -> Self {
        Self { stdout: vec![text.into()], ..Self::exit(0) }
    }

    /// Never ends by itself.
    pub fn hangs() -> Self {
        Self { ending: Ending::Hangs, ..Self::exit(0) }
    }

    /// The same, taking so long.
    pub fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    /// Cuts off what the service in between does not pass on; the streams of which there was more.
    fn cut(&mut self) -> Vec<Stream> {
        let Some(most) = self.passes_on else { return Vec::new() };
        let mut stdout = self.stdout.concat();
        let outputs = [(Stream::Stdout, &mut stdout), (Stream::Stderr, &mut self.stderr)];
        let cut = outputs.into_iter().filter_map(|(stream, output)| {
            let more = output.len() > most;
            output.truncate(most);
            more.then_some(stream)
        });
        let cut = cut.collect();
        self.stdout = vec![stdout];
        cut
    }

    /// The same over another link.
    pub fn over(self, link: Link) -> Self {
        Self { link, ..self }
    }
}

/// Something that really began on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Where.
    pub host: HostName,
    /// Under which id; `None` when it ran attached.
    pub attempt: Option<AttemptId>,
    /// The command's text.
    pub text: String,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Its standard input.
    pub stdin: Vec<u8>,
}

type Watcher = Arc<dyn Fn(&Effect) + Send + Sync>;

/// The transport. Clones reach the same hosts.
#[derive(Clone)]
pub struct FakeTransport {
    name: String,
    world: Arc<Mutex<World>>,
}

#[derive(Default)]
struct World {
    rules: Vec<Rule>,
    hosts: BTreeMap<HostName, FakeHost>,
    effects: Vec<Effect>,
    watcher: Option<Watcher>,
    open_now: usize,
    open_most: usize,
    opening_now: usize,
    opening_most: usize,
    opened: Vec<HostName>,
    closed: Vec<HostName>,
    looks: Vec<(HostName, Vec<String>)>,
}

struct Rule {
    host: Option<HostName>,
    contains: String,
    behaviours: VecDeque<Behaviour>,
}

#[derive(Default)]
struct FakeHost {
    boots: u32,
    away_until: Option<Instant>,
    away_from: Option<Instant>,
    refuses: Option<ObstacleKind>,
    opening_takes: Duration,
    claims: BTreeMap<AttemptId, Claim>,
    cleared: BTreeSet<AttemptId>,
    files: BTreeMap<String, Vec<u8>>,
    cut_transfers: u32,
    ways_in: Vec<Process>,
    stays_open: bool,
    clock_offset_ms: Option<i64>,
}

impl FakeHost {
    fn is_gone(&self) -> bool {
        self.away_from.is_some_and(|from| from <= Instant::now())
    }
}

#[derive(Clone)]
struct Claim {
    /// `None`: it was claimed so that it never begins.
    begun: Option<Begun>,
}

#[derive(Clone)]
struct Begun {
    behaviour: Behaviour,
    ends: Instant,
    killed: bool,
    boots: u32,
}

impl FakeTransport {
    /// Hosts on which every command exits with 0 at once.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), world: Arc::default() }
    }

    /// Commands whose text contains `contains` do this, one after the other; the last behaviour repeats. The rule given
    /// first wins.
    pub fn on(&self, host: Option<&str>, contains: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        let behaviours = behaviours.into_iter().collect();
        self.world().rules.push(Rule { host: host.map(HostName::from), contains: contains.to_owned(), behaviours });
    }

    /// Is called with every effect just before it begins; may panic to fail the test.
    pub fn before_effects(&self, watcher: impl Fn(&Effect) + Send + Sync + 'static) {
        self.world().watcher = Some(Arc::new(watcher));
    }

    /// What began so far, in order.
    pub fn effects(&self) -> Vec<Effect> {
        self.world().effects.clone()
    }

    /// How often a command with this text began.
    pub fn count(&self, contains: &str) -> usize {
        self.world().effects.iter().filter(|effect| effect.text.contains(contains)).count()
    }

    /// From now on the host refuses connections for this reason, or (`None`) takes them again.
    pub fn refuse(&self, host: &str, why: Option<ObstacleKind>) {
        self.world().host(&host.into()).refuses = why;
    }

    /// The host's clock is so far off, in milliseconds; until this is said the host does not tell its time.
    pub fn clock_off(&self, host: &str, offset_ms: i64) {
        self.world().host(&host.into()).clock_offset_ms = Some(offset_ms);
    }

    /// Opening a session to the host takes so long.
    pub fn opening_takes(&self, host: &str, takes: Duration) {
        self.world().host(&host.into()).opening_takes = takes;
    }

    /// The connection breaks in the middle of so many of the next transfers.
    pub fn cut_transfers(&self, host: &str, times: u32) {
        self.world().host(&host.into()).cut_transfers = times;
    }

    /// A file on a host.
    pub fn file(&self, host: &str, path: &str) -> Option<Vec<u8>> {
        self.world().host(&host.into()).files.get(path).cloned()
    }

    /// Puts a file on a host.
    pub fn put_file(&self, host: &str, path: &str, bytes: &[u8]) {
        self.world().host(&host.into()).files.insert(path.to_owned(), bytes.to_vec());
    }

    /// What attempts have left on a host.
    pub fn left_over(&self, host: &str) -> Vec<AttemptId> {
        let mut world = self.world();
        let host = world.host(&host.into());
        host.claims.keys().filter(|id| !host.cleared.contains(id)).cloned().collect()
    }

    /// The hosts in the order in which sessions to them were opened.
    pub fn opened(&self) -> Vec<HostName> {
        self.world().opened.clone()
    }

    /// The hosts in the order in which their sessions were closed.
    pub fn closed(&self) -> Vec<HostName> {
        self.world().closed.clone()
    }

    /// What was looked for at the end of the work on hosts: the host, and the processes of connections of before.
    pub fn looks(&self) -> Vec<(HostName, Vec<String>)> {
        self.world().looks.clone()
    }

    /// After this while the host answers nobody any more.
    pub fn go_away_soon(&self, host: &str, after: Duration) {
        self.world().host(&host.into()).away_from = Some(Instant::now() + after);
    }

    /// From now on a look finds this process on the host.
    pub fn leave_behind(&self, host: &str, process: Process) {
        self.world().host(&host.into()).ways_in.push(process);
    }

    /// From now on connections that were closed stay open on the host.
    pub fn stay_open(&self, host: &str) {
        self.world().host(&host.into()).stays_open = true;
    }

    /// The most sessions that were open at once, and the most that were being opened at once.
    pub fn most_at_once(&self) -> (usize, usize) {
        let world = self.world();
        (world.open_most, world.opening_most)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl World {
    fn host(&mut self, name: &HostName) -> &mut FakeHost {
        self.hosts.entry(name.clone()).or_default()
    }

    fn behaviour(&mut self, host: &HostName, text: &str) -> Behaviour {
        let fits = |rule: &&mut Rule| rule.host.as_ref().is_none_or(|h| h == host) && text.contains(&rule.contains);
        match self.rules.iter_mut().find(fits) {
            None => Behaviour::exit(0),
            Some(rule) if rule.behaviours.len() > 1 => rule.behaviours.pop_front().expect("more than one"),
            Some(rule) => rule.behaviours.front().cloned().unwrap_or_else(|| Behaviour::exit(0)),
        }
    }
}

fn obstacle(kind: ObstacleKind, host: &HostName) -> Obstacle {
    Obstacle { kind, message: format!("{host}: {kind:?} (a test says so)") }
}

struct Opening(Arc<Mutex<World>>);

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).opening_now -= 1;
    }
}

#[async_trait]
impl Transport for FakeTransport {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { reattach: true, concurrency: 10, remote: true }
    }

    async fn open(&self, host: &Host, limit: Duration) -> Result<Box<dyn Session>, Obstacle> {
        let takes = {
            let mut world = self.world();
            world.opening_now += 1;
            world.opening_most = world.opening_most.max(world.opening_now);
            world.host(&host.name).opening_takes
        };
        let _opening = Opening(Arc::clone(&self.world));
        tokio::time::sleep(takes.min(limit)).await;
        if takes > limit {
            return Err(obstacle(ObstacleKind::Unreachable, &host.name));
        }
        let mut world = self.world();
        let fake = world.host(&host.name);
        if let Some(kind) = fake.refuses {
            return Err(obstacle(kind, &host.name));
        }
        if fake.away_until.is_some_and(|until| until > Instant::now()) || fake.is_gone() {
            return Err(obstacle(ObstacleKind::Unreachable, &host.name));
        }
        world.open_now += 1;
        world.open_most = world.open_most.max(world.open_now);
        world.opened.push(host.name.clone());
        let boots = world.host(&host.name).boots;
        let number = world.opened.len();
        Ok(Box::new(FakeSession {
            host: host.name.clone(),
            number,
            boots,
            transport: self.clone(),
            open: Mutex::new(true),
        }))
    }
}

struct FakeSession {
    host: HostName,
    /// The how manieth connection of all it is.
    number: usize,
    boots: u32,
    transport: FakeTransport,
    open: Mutex<bool>,
}

impl FakeSession {
    fn shut(&self) {
        let mut open = self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if std::mem::replace(&mut *open, false) {
            let mut world = self.transport.world();
            world.open_now -= 1;
            world.closed.push(self.host.clone());
        }
    }

    /// The host answers on this session.
    fn alive(&self) -> bool {
        let mut world = self.transport.world();
        let host = world.host(&self.host);
        host.boots == self.boots
            && host.refuses.is_none()
            && host.away_until.is_none_or(|until| until <= Instant::now())
            && !host.is_gone()
    }

    /// Sees a claimed attempt through that has begun.
    async fn see_through(
        &self,
        attempt: Option<&AttemptId>,
        begun: Begun,
        from: Offsets,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
    ) -> Completion {
        let mut begun = begun;
        let cut_off = begun.behaviour.cut();
        let mut stdout = from.stdout as usize;
        for piece in pieces(&begun.behaviour.stdout, from.stdout) {
            if let (Link::LostAfter(bytes), true) = (&begun.behaviour.link, from == Offsets::default())
                && stdout + piece.len() > *bytes
            {
                let left = bytes.saturating_sub(stdout);
                if left > 0 {
                    sink.write(Stream::Stdout, &piece[..left]).await;
                }
                return Completion::Lost("the link was cut (a test says so)".into());
            }
            stdout += piece.len();
            sink.write(Stream::Stdout, &piece).await;
        }
        if matches!(begun.behaviour.link, Link::LostAfter(_)) && from == Offsets::default() {
            return Completion::Lost("the link was cut (a test says so)".into());
        }
        let stderr = begun.behaviour.stderr.get(from.stderr as usize..).unwrap_or_default();
        if !stderr.is_empty() {
            sink.write(Stream::Stderr, stderr).await;
        }
        for stream in cut_off {
            sink.cut_off(stream, SERVICE).await;
        }
        let wait = async {
            match &begun.behaviour.ending {
                Ending::Exit(_) | Ending::Reboots(_) => tokio::time::sleep_until(begun.ends).await,
                Ending::Hangs | Ending::CannotBeStopped if begun.killed => {}
                Ending::Hangs | Ending::CannotBeStopped => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = wait => {}
            () = stop.cancelled() => {
                if begun.behaviour.ending == Ending::CannotBeStopped {
                    return Completion::Unknown("it cannot be proved that it is gone (a test says so)".into());
                }
                self.mark_killed(attempt);
                return Completion::Killed;
            }
        }
        match begun.behaviour.ending {
            Ending::Exit(code) => Completion::Exited(Exit::Code(code)),
            Ending::Reboots(away) => {
                let mut world = self.transport.world();
                let host = world.host(&self.host);
                if host.boots == begun.boots {
                    host.boots += 1;
                    host.away_until = Some(Instant::now() + away);
                }
                Completion::Lost("the host went away".into())
            }
            Ending::Hangs | Ending::CannotBeStopped => Completion::Exited(Exit::Signal(15)),
        }
    }

    fn mark_killed(&self, attempt: Option<&AttemptId>) {
        let mut world = self.transport.world();
        let claim = attempt.and_then(|attempt| world.host(&self.host).claims.get_mut(attempt));
        if let Some(begun) = claim.and_then(|claim| claim.begun.as_mut()) {
            begun.killed = true;
            begun.behaviour.ending = Ending::Hangs;
        }
    }
}

/// What is left of the pieces after so many bytes.
fn pieces(all: &[Vec<u8>], mut skip: u64) -> Vec<Vec<u8>> {
    let mut left = Vec::new();
    for piece in all {
        let skipped = skip.min(piece.len() as u64);
        skip -= skipped;
        if (skipped as usize) < piece.len() {
            left.push(piece[skipped as usize..].to_vec());
        }
    }
    left
}

fn text(program: &Program) -> String {
    match program {
        Program::Shell { text, .. } => text.clone(),
        Program::Argv(argv) => argv.join(" "),
        Program::Script { content, args, .. } => format!("{} {}", String::from_utf8_lossy(content), args.join(" ")),
    }
}

fn leftover(attempt: &AttemptId, claim: &Claim, boots: u32) -> Leftover {
    let state = match &claim.begun {
        None => LeftoverState::NeverBegan,
        Some(begun) if begun.boots != boots => LeftoverState::Lost("the host has rebooted since".into()),
        Some(begun) if begun.killed => LeftoverState::Killed,
        Some(begun) => match begun.behaviour.ending {
            Ending::Exit(code) if begun.ends <= Instant::now() => LeftoverState::Exited(Exit::Code(code)),
            _ => LeftoverState::Running { group: "1".into() },
        },
    };
    Leftover {
        name: attempt.to_string(),
        run: attempt.run.clone(),
        attempt: Some(attempt.clone()),
        state,
        account: None,
        age: None,
        bytes: 0,
    }
}

#[async_trait]
impl Session for FakeSession {
    fn identity(&self) -> PeerIdentity {
        PeerIdentity {
            transport: self.transport.name.clone(),
            peer_key: format!("SHA256:{}", self.host),
            account: "maint".into(),
            authenticated_by: "publickey".into(),
            process: Some(format!("{}:{}", self.number, self.boots)),
            ..PeerIdentity::default()
        }
    }

    async fn facts(&self) -> Result<Facts, Obstacle> {
        if !self.alive() {
            return Err(obstacle(ObstacleKind::Session, &self.host));
        }
        let mut world = self.transport.world();
        let FakeHost { boots, clock_offset_ms, .. } = *world.host(&self.host);
        Ok(Facts { os: "debian".into(), boot_id: format!("boot-{boots}"), clock_offset_ms, ..Facts::default() })
    }

    async fn run(
        &self,
        claim: Option<&AttemptId>,
        invocation: &Invocation,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        _grace: Duration,
    ) -> Completion {
        if !self.alive() {
            return Completion::NotStarted(obstacle(ObstacleKind::Session, &self.host));
        }
        let text = text(&invocation.program);
        let env = invocation
            .env
            .iter()
            .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value.expose()).into_owned()))
            .collect();
        let stdin = invocation.stdin.as_ref().map(|stdin| stdin.expose().to_vec()).unwrap_or_default();
        let begun = {
            let mut world = self.transport.world();
            let earlier = claim.and_then(|claim| world.host(&self.host).claims.get(claim).cloned());
            match earlier {
                Some(Claim { begun: Some(begun) }) => begun,
                Some(Claim { begun: None }) => {
                    return Completion::Unknown("its id was claimed by a probe, so it never began".into());
                }
                None => {
                    let behaviour = world.behaviour(&self.host, &text);
                    match &behaviour.link {
                        Link::NotStarted(kind) => return Completion::NotStarted(obstacle(*kind, &self.host)),
                        Link::LostBeforeStart => return Completion::Lost("the link was cut (a test says so)".into()),
                        Link::Holds | Link::LostAfter(_) => {}
                    }
                    let effect = Effect { host: self.host.clone(), attempt: claim.cloned(), text, env, stdin };
                    let watcher = world.watcher.clone();
                    world.effects.push(effect.clone());
                    let boots = world.host(&self.host).boots;
                    let ends = Instant::now() + behaviour.takes;
                    let begun = Begun { behaviour, ends, killed: false, boots };
                    if let Some(claim) = claim {
                        world.host(&self.host).claims.insert(claim.clone(), Claim { begun: Some(begun.clone()) });
                    }
                    drop(world);
                    if let Some(watcher) = watcher {
                        watcher(&effect);
                    }
                    begun
                }
            }
        };
        self.see_through(claim, begun, Offsets::default(), sink, stop).await
    }

    async fn probe(&self, attempt: &AttemptId) -> Probe {
        if !self.alive() {
            return Probe::Unreachable(obstacle(ObstacleKind::Unreachable, &self.host));
        }
        let mut world = self.transport.world();
        let host = world.host(&self.host);
        match host.claims.get(attempt) {
            None => {
                host.claims.insert(attempt.clone(), Claim { begun: None });
                Probe::NeverStarted
            }
            Some(Claim { begun: None }) => Probe::NeverStarted,
            Some(Claim { begun: Some(begun) }) if begun.boots != host.boots => {
                Probe::NoRecord("the host has rebooted since".into())
            }
            Some(Claim { begun: Some(begun) }) => {
                let ended =
                    begun.killed || (matches!(begun.behaviour.ending, Ending::Exit(_)) && begun.ends <= Instant::now());
                if ended { Probe::Exited } else { Probe::Running }
            }
        }
    }

    async fn follow(
        &self,
        attempt: &AttemptId,
        from: Offsets,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        _grace: Duration,
    ) -> Completion {
        let begun = {
            let mut world = self.transport.world();
            world.host(&self.host).claims.get(attempt).and_then(|claim| claim.begun.clone())
        };
        match begun {
            None => Completion::Unknown("there is no record of it".into()),
            Some(mut begun) => {
                begun.behaviour.link = Link::Holds;
                self.see_through(Some(attempt), begun, from, sink, stop).await
            }
        }
    }

    async fn clear(&self, attempt: &AttemptId) -> Result<(), Obstacle> {
        if !self.alive() {
            return Err(obstacle(ObstacleKind::Session, &self.host));
        }
        self.transport.world().host(&self.host).cleared.insert(attempt.clone());
        Ok(())
    }

    async fn leave(&self, attempts: &[AttemptId], look: &LookFor) -> Result<Seen, Obstacle> {
        self.clear_all(attempts).await?;
        let mut world = self.transport.world();
        world.looks.push((self.host.clone(), look.processes.clone()));
        let host = world.host(&self.host);
        let became = |process: &String| match host.stays_open {
            true => There::Left(process.clone()),
            false => There::Gone,
        };
        Ok(Seen {
            processes: look.processes.iter().map(|process| (process.clone(), became(process))).collect(),
            ways_in: host.ways_in.clone(),
            others: 0,
            unknown: None,
        })
    }

    async fn leftovers(&self) -> Result<Vec<Leftover>, Obstacle> {
        if !self.alive() {
            return Err(obstacle(ObstacleKind::Session, &self.host));
        }
        let mut world = self.transport.world();
        let host = world.host(&self.host);
        let left = host.claims.iter().filter(|(attempt, _)| !host.cleared.contains(attempt));
        Ok(left.map(|(attempt, claim)| leftover(attempt, claim, host.boots)).collect())
    }

    async fn remove_leftovers(&self, names: &[String]) -> Result<Vec<String>, Obstacle> {
        let left = self.leftovers().await?;
        let mut removed = Vec::new();
        let mut world = self.transport.world();
        for name in names {
            let found = left.iter().find(|one| one.name == *name);
            if found.is_some_and(|one| !one.state.is_over()) {
                continue;
            }
            world.host(&self.host).cleared.extend(found.and_then(|one| one.attempt.clone()));
            removed.push(name.clone());
        }
        Ok(removed)
    }

    async fn upload(
        &self,
        source: &Path,
        target: &UploadTarget,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Transferred {
        if !self.alive() {
            return Transferred::NotStarted(obstacle(ObstacleKind::Session, &self.host));
        }
        let bytes = std::fs::read(source).expect("the caller names a file");
        let sha256 = Sha256::of(&bytes);
        progress(bytes.len() as u64 / 2);
        let mut world = self.transport.world();
        let host = world.host(&self.host);
        if host.cut_transfers > 0 {
            host.cut_transfers -= 1;
            return Transferred::Lost("the link was cut (a test says so)".into());
        }
        if sha256 != target.sha256 {
            return Transferred::Failed("the digest is another one".into());
        }
        let length = bytes.len() as u64;
        host.files.insert(target.to.clone(), bytes);
        progress(length);
        Transferred::Done { sha256, bytes: length }
    }

    async fn download(
        &self,
        from: &str,
        _account: Option<&str>,
        bytes_max: u64,
        target: &Path,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Transferred {
        if !self.alive() {
            return Transferred::NotStarted(obstacle(ObstacleKind::Session, &self.host));
        }
        let mut world = self.transport.world();
        match world.host(&self.host).files.get(from) {
            None => Transferred::Failed(format!("{from} is not there")),
            Some(bytes) if bytes.len() as u64 > bytes_max => Transferred::Failed(format!("{from} is too large")),
            Some(bytes) => {
                std::fs::write(target, bytes).expect("the caller names a place");
                progress(bytes.len() as u64);
                Transferred::Done { sha256: Sha256::of(bytes), bytes: bytes.len() as u64 }
            }
        }
    }

    async fn check(&self) -> Result<(), Obstacle> {
        if self.alive() { Ok(()) } else { Err(obstacle(ObstacleKind::Session, &self.host)) }
    }

    async fn close(&self) -> Here {
        self.shut();
        Here::Ended
    }
}

impl Drop for FakeSession {
    fn drop(&mut self) {
        self.shut();
    }
}
