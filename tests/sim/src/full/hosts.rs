//! The transport to the simulated hosts.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::host::{Facts, Host, PeerIdentity};
use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use runbook_model::session::Here;
use runbook_model::{AttemptId, HostName, StepId};
use runbook_ports::transport::{
    Capabilities, Completion, Invocation, Offsets, OutputSink, Probe, Program, Session, Stream, Transferred, Transport,
    UploadTarget,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::full::host_world::{Beginning, Link, State, World};

/// Every word to a host takes so long.
const LATENCY: Duration = Duration::from_millis(20);

/// The hosts, and a bell that rings when something has changed there.
#[derive(Clone)]
pub(crate) struct Hosts {
    world: Arc<Mutex<World>>,
    changed: Arc<Notify>,
}

impl Hosts {
    pub(crate) fn new(world: World) -> Self {
        Self { world: Arc::new(Mutex::new(world)), changed: Arc::default() }
    }

    /// The world as it is now.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.settle();
        world
    }
}

/// The way of one controller to the hosts.
pub(crate) struct SimTransport {
    pub(crate) hosts: Hosts,
    pub(crate) process: u32,
}

fn obstacle(kind: ObstacleKind, host: &HostName) -> Obstacle {
    Obstacle { kind, message: format!("{host}: {kind:?}, simulated") }
}

#[async_trait]
impl Transport for SimTransport {
    fn name(&self) -> &str {
        "simulated"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { reattach: true, concurrency: 10, remote: true }
    }

    async fn open(&self, host: &Host, limit: Duration) -> Result<Box<dyn Session>, Obstacle> {
        sleep(LATENCY.min(limit)).await;
        if !self.hosts.world().reachable(&host.name) {
            // Nobody refuses: it is found out by waiting.
            sleep(limit.saturating_sub(LATENCY).min(Duration::from_secs(5))).await;
            return Err(obstacle(ObstacleKind::Unreachable, &host.name));
        }
        let link = self.hosts.world().link(&host.name);
        Ok(Box::new(SimSession { host: host.name.clone(), link, hosts: self.hosts.clone(), process: self.process }))
    }
}

struct SimSession {
    host: HostName,
    link: Link,
    hosts: Hosts,
    process: u32,
}

/// What runs attached ends with whoever waits for it.
struct Attached<'a>(&'a SimSession, usize);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        let mut world = self.0.hosts.world();
        if world.begun[self.1].state == State::Running {
            world.begun[self.1].state = State::Gone;
        }
    }
}

enum Look {
    Over(Completion),
    Wait(Option<Instant>),
}

impl SimSession {
    async fn alive(&self) -> bool {
        sleep(LATENCY).await;
        self.alive_now(&self.hosts.world())
    }

    fn alive_now(&self, world: &World) -> bool {
        world.link(&self.host) == self.link && world.reachable(&self.host)
    }

    /// Sees something through that has begun.
    async fn see_through(
        &self,
        no: usize,
        from: u64,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
    ) -> Completion {
        let mut sent = from as usize;
        loop {
            let changed = self.hosts.changed.notified();
            let (bytes, look) = self.look(no, sent);
            sent += bytes.len();
            if !bytes.is_empty() {
                sink.write(Stream::Stdout, &bytes).await;
            }
            let until = match look {
                Look::Over(completion) => return completion,
                Look::Wait(until) => until,
            };
            let event = async {
                match until {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = event => {}
                () = changed => {}
                () = stop.cancelled() => {
                    if let Some(completion) = self.kill(no) {
                        return completion;
                    }
                }
            }
        }
    }

    /// What is to be seen now: new output, and whether that is all.
    fn look(&self, no: usize, sent: usize) -> (Vec<u8>, Look) {
        let mut world = self.hosts.world();
        if !self.alive_now(&world) {
            return (Vec::new(), Look::Over(Completion::Lost("the link was cut".into())));
        }
        let begun = &world.begun[no];
        let half = begun.output.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = |to: usize| begun.output.get(sent..to).unwrap_or_default().to_vec();
        match begun.state {
            State::Running => (rest(half), Look::Wait(world.next_event())),
            State::Exited(code) => {
                let bytes = rest(begun.output.len());
                world.answered(no);
                (bytes, Look::Over(Completion::Exited(Exit::Code(code))))
            }
            State::Killed => (rest(half), Look::Over(Completion::Killed)),
            State::Gone => (Vec::new(), Look::Over(Completion::Unknown("there is no end of it on record".into()))),
        }
    }

    /// `None`: it has just ended in another way.
    fn kill(&self, no: usize) -> Option<Completion> {
        let mut world = self.hosts.world();
        if !self.alive_now(&world) || world.begun[no].state != State::Running {
            return None;
        }
        if world.begun[no].stubborn {
            return Some(Completion::Unknown("it cannot be proved that it is gone".into()));
        }
        world.begun[no].state = State::Killed;
        Some(Completion::Killed)
    }
}

#[async_trait]
impl Session for SimSession {
    fn identity(&self) -> PeerIdentity {
        PeerIdentity { transport: "simulated".into(), ..PeerIdentity::default() }
    }

    async fn facts(&self) -> Result<Facts, Obstacle> {
        if !self.alive().await {
            return Err(obstacle(ObstacleKind::Session, &self.host));
        }
        Ok(Facts { os: "debian".into(), boot_id: format!("boot-{}", self.link.boots), ..Facts::default() })
    }

    async fn run(
        &self,
        claim: Option<&AttemptId>,
        invocation: &Invocation,
        sink: &mut dyn OutputSink,
        stop: &CancellationToken,
        _grace: Duration,
    ) -> Completion {
        if !self.alive().await {
            return Completion::NotStarted(obstacle(ObstacleKind::Session, &self.host));
        }
        let Program::Shell { text, .. } = &invocation.program else { panic!("only texts are simulated") };
        if text.contains("printf '@time") {
            let listing = self.hosts.world().listing(&self.host);
            sink.write(Stream::Stdout, &listing).await;
            return Completion::Exited(Exit::Code(0));
        }
        if let Some(step) = text.strip_prefix("unless ") {
            let done = self.hosts.world().unless_says_done(&self.host, &StepId::from(step));
            return Completion::Exited(Exit::Code(i32::from(!done)));
        }
        let step = match claim {
            Some(claim) => claim.step.clone(),
            None => StepId::from(text.split(' ').nth(1).expect("`work ID MS`")),
        };
        let beginning = self.hosts.world().begin(self.process, &self.host, &step, claim);
        self.hosts.changed.notify_waiters();
        let no = match beginning {
            Beginning::Begun(no) => no,
            Beginning::LinkDead => return Completion::NotStarted(obstacle(ObstacleKind::Session, &self.host)),
            Beginning::HostFull => return Completion::NotStarted(obstacle(ObstacleKind::HostFull, &self.host)),
            Beginning::OnTheWay => return Completion::Lost("the link was cut".into()),
            Beginning::Refused => {
                return Completion::Unknown("its id was claimed by a probe, so it never began".into());
            }
        };
        let _attached = claim.is_none().then(|| Attached(self, no));
        self.see_through(no, 0, sink, stop).await
    }

    async fn probe(&self, attempt: &AttemptId) -> Probe {
        if !self.alive().await {
            return Probe::Unreachable(obstacle(ObstacleKind::Unreachable, &self.host));
        }
        match self.hosts.world().ask_after(&self.host, attempt) {
            None => Probe::NeverStarted,
            Some(State::Running) => Probe::Running,
            Some(State::Exited(_) | State::Killed) => Probe::Exited,
            Some(State::Gone) => Probe::NoRecord("the host has rebooted since".into()),
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
        let no = self.hosts.world().claimed(&self.host, attempt);
        match no {
            None => Completion::Unknown("there is no record of it".into()),
            Some(no) => self.see_through(no, from.stdout, sink, stop).await,
        }
    }

    async fn clear(&self, _attempt: &AttemptId) -> Result<(), Obstacle> {
        if self.alive().await { Ok(()) } else { Err(obstacle(ObstacleKind::Session, &self.host)) }
    }

    async fn upload(&self, _: &Path, _: &UploadTarget, _: &(dyn Fn(u64) + Send + Sync)) -> Transferred {
        Transferred::Failed("simulated plans send no files".into())
    }

    async fn download(
        &self,
        _: &str,
        _: Option<&str>,
        _: u64,
        _: &Path,
        _: &(dyn Fn(u64) + Send + Sync),
    ) -> Transferred {
        Transferred::Failed("simulated plans fetch no files".into())
    }

    async fn check(&self) -> Result<(), Obstacle> {
        if self.alive().await { Ok(()) } else { Err(obstacle(ObstacleKind::Session, &self.host)) }
    }

    async fn close(&self) -> Here {
        Here::Ended
    }
}
