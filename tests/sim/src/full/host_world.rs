//! What really happens on the hosts. Only this module knows it; controllers learn what their sessions tell them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use runbook_model::plan::{Action, Phase, Plan, Role, Work};
use runbook_model::{AttemptId, HostName, StepId};
use tokio::time::Instant;

use crate::full::draw::REBOOT_MS;
use crate::full::scenario::{Fault, Mishap, Scenario, takes_ms};
use crate::full::truth::Wonder;

/// How long a host that vanishes under an attempt stays away: less than a lost attempt is asked after.
const VANISHED: Duration = Duration::from_secs(45);

/// All hosts.
pub(crate) struct World {
    plan: Arc<Plan>,
    pub(crate) hosts: BTreeMap<HostName, SimHost>,
    /// Everything that ever began, in order.
    pub(crate) begun: Vec<Begun>,
    mishaps: BTreeMap<(HostName, StepId, u32), VecDeque<Mishap>>,
    done: BTreeSet<(HostName, StepId)>,
    coming: BTreeMap<(Instant, u64), Coming>,
    coming_no: u64,
    /// Intents that are durable.
    pub(crate) intents: BTreeSet<AttemptId>,
    /// Processes that may do nothing more.
    pub(crate) stopped: BTreeSet<u32>,
    pub(crate) broken: Vec<String>,
    pub(crate) wonders: BTreeSet<Wonder>,
}

/// One host.
#[derive(Default)]
pub(crate) struct SimHost {
    boots: u32,
    /// Grows when every link to it is cut.
    links: u32,
    away_until: Option<Instant>,
    /// Steps of `execute` whose effect is there now.
    pub(crate) applied: BTreeSet<StepId>,
    snapshots: BTreeSet<StepId>,
    /// What was claimed, and what began under it; `None`: it was claimed so that it never begins.
    claims: BTreeMap<AttemptId, Option<usize>>,
    /// How often each step began.
    beginnings: BTreeMap<StepId, u32>,
}

/// Something that began.
pub(crate) struct Begun {
    pub(crate) host: HostName,
    pub(crate) step: StepId,
    /// `None`: it runs attached.
    pub(crate) attempt: Option<AttemptId>,
    pub(crate) effects: u32,
    pub(crate) state: State,
    pub(crate) stubborn: bool,
    pub(crate) output: Vec<u8>,
    has_effect: bool,
    code: i32,
    cut_after_answer: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Exited(i32),
    Killed,
    /// It went down with its host, or with the session that it was attached to.
    Gone,
}

enum Coming {
    Effect(usize),
    End(usize),
    Cut(HostName),
    Away { host: HostName, for_: Duration, reboots: bool, forgets: Option<AttemptId> },
}

/// What came of asking a host to begin something.
pub(crate) enum Beginning {
    Begun(usize),
    LinkDead,
    HostFull,
    OnTheWay,
    Refused,
}

/// The state of the link and the host when a session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) boots: u32,
    links: u32,
}

/// What an attempt prints: known from its name, so that its completeness can be checked.
pub(crate) fn output_of(plan: &Plan, host: &HostName, step: &StepId, n: u32) -> Vec<u8> {
    let take = plan.step(step).is_some_and(|step| step.role == Role::Take);
    let last = if take { format!("reference {step} {host}\n") } else { String::new() };
    format!("{step} on {host}, {n}: first half\n{step} on {host}, {n}: second half\n{last}").into_bytes()
}

impl World {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let plan = Arc::new(scenario.plan.clone());
        let mut world = Self {
            hosts: plan.hosts.keys().map(|name| (name.clone(), SimHost::default())).collect(),
            plan,
            begun: Vec::new(),
            mishaps: BTreeMap::new(),
            done: BTreeSet::new(),
            coming: BTreeMap::new(),
            coming_no: 0,
            intents: BTreeSet::new(),
            stopped: BTreeSet::new(),
            broken: Vec::new(),
            wonders: BTreeSet::new(),
        };
        let start = Instant::now();
        for fault in &scenario.faults {
            match fault {
                Fault::Attempt { host, step, time, what } => {
                    let key = (host.clone(), step.clone(), *time);
                    world.mishaps.entry(key).or_default().push_back(*what);
                }
                Fault::Done { host, step } => {
                    world.done.insert((host.clone(), step.clone()));
                }
                Fault::Host { host, at_ms, for_ms, reboots } if world.hosts.contains_key(host) => {
                    let (host, for_) = (host.clone(), Duration::from_millis(*for_ms));
                    let away = Coming::Away { host, for_, reboots: *reboots, forgets: None };
                    world.plan_event(start + Duration::from_millis(*at_ms), away);
                }
                _ => {}
            }
        }
        world
    }

    fn plan_event(&mut self, at: Instant, event: Coming) {
        self.coming_no += 1;
        self.coming.insert((at, self.coming_no), event);
    }

    /// When something happens next by itself.
    pub(crate) fn next_event(&self) -> Option<Instant> {
        self.coming.first_key_value().map(|((at, _), _)| *at)
    }

    /// Lets everything happen that is due.
    pub(crate) fn settle(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.coming.first_entry() {
            let at = entry.key().0;
            if at > now {
                return;
            }
            let event = entry.remove();
            self.happen(at, event);
        }
    }

    fn happen(&mut self, at: Instant, event: Coming) {
        match event {
            Coming::Effect(no) => self.effect(no),
            Coming::End(no) if self.begun[no].state == State::Running => {
                let code = self.exit_code(no);
                self.begun[no].state = State::Exited(code);
            }
            Coming::End(_) => {}
            Coming::Cut(host) => self.cut(&host),
            Coming::Away { host, for_, reboots, forgets } => {
                let running = self.begun.iter().any(|begun| begun.host == host && begun.state == State::Running);
                self.cut(&host);
                let until = at + for_;
                let sim = self.hosts.get_mut(&host).expect("a host of the plan");
                sim.away_until = Some(sim.away_until.map_or(until, |before| before.max(until)));
                if reboots {
                    sim.boots += 1;
                    if let Some(attempt) = forgets {
                        sim.claims.remove(&attempt);
                        self.wonders.insert(Wonder::ClaimForgotten);
                    }
                    for begun in self.begun.iter_mut().filter(|begun| begun.host == host) {
                        if begun.state == State::Running {
                            begun.state = State::Gone;
                        }
                    }
                }
                if running {
                    self.wonders.insert(if reboots { Wonder::RebootedUnder } else { Wonder::VanishedUnder });
                }
            }
        }
    }

    /// Every link to the host is dead, and what ran attached with it.
    pub(crate) fn cut(&mut self, host: &HostName) {
        self.hosts.get_mut(host).expect("a host of the plan").links += 1;
        for begun in self.begun.iter_mut().filter(|begun| begun.host == *host && begun.attempt.is_none()) {
            if begun.state == State::Running {
                begun.state = State::Gone;
            }
        }
    }

    fn effect(&mut self, no: usize) {
        let begun = &mut self.begun[no];
        if begun.state != State::Running || !begun.has_effect {
            return;
        }
        begun.effects += 1;
        let step = self.plan.step(&begun.step).expect("a step of the plan");
        let host = self.hosts.get_mut(&begun.host).expect("a host of the plan");
        match &step.role {
            Role::Plain if step.phase == Phase::Execute => {
                host.applied.insert(step.id.clone());
            }
            Role::Take => {
                host.snapshots.insert(step.id.clone());
            }
            Role::Undo { of } => {
                host.applied.remove(of);
            }
            Role::Restore { of } if host.snapshots.contains(of) => host.applied.clear(),
            Role::Release { of } => {
                host.snapshots.remove(of);
            }
            _ => {}
        }
    }

    fn exit_code(&self, no: usize) -> i32 {
        let begun = &self.begun[no];
        let (step, host) = (self.plan.step(&begun.step).expect("a step of the plan"), &self.hosts[&begun.host]);
        let broken = match &step.role {
            Role::Baseline => !host.applied.is_empty(),
            Role::Probe { of } | Role::Restore { of } => !host.snapshots.contains(of),
            _ => false,
        };
        if broken { begun.code.max(1) } else { begun.code }
    }

    /// The host can be reached now.
    pub(crate) fn reachable(&self, host: &HostName) -> bool {
        self.hosts[host].away_until.is_none_or(|until| until <= Instant::now())
    }

    pub(crate) fn link(&self, host: &HostName) -> Link {
        let host = &self.hosts[host];
        Link { boots: host.boots, links: host.links }
    }

    pub(crate) fn unless_says_done(&self, host: &HostName, step: &StepId) -> bool {
        self.done.contains(&(host.clone(), step.clone()))
    }

    /// What is on the host's disk, as the engine measures it: one link whose target names what was applied.
    pub(crate) fn listing(&self, host: &HostName) -> Vec<u8> {
        let applied: Vec<&str> = self.hosts[host].applied.iter().map(StepId::as_str).collect();
        let path = format!("l\t777\troot\troot\t0\t0\t0\t1\t/etc/x\0to:{}\0", applied.join(","));
        format!("@time 0\0{path}@end\0").into_bytes()
    }

    /// A command arrives at the host (or does not).
    pub(crate) fn begin(
        &mut self,
        process: u32,
        host: &HostName,
        step: &StepId,
        claim: Option<&AttemptId>,
    ) -> Beginning {
        if let Some(claim) = claim {
            match self.hosts[host].claims.get(claim) {
                Some(Some(no)) => return Beginning::Begun(*no),
                Some(None) => return Beginning::Refused,
                None => {}
            }
        }
        let n = self.hosts[host].beginnings.get(step).copied().unwrap_or(0) + 1;
        if self.stopped.contains(&process) {
            self.broken.push(format!("{step} begins on {host} by a controller that may do nothing more"));
        }
        let mishap =
            self.mishaps.get_mut(&(host.clone(), step.clone(), n)).and_then(std::collections::VecDeque::pop_front);
        match mishap {
            Some(Mishap::LinkDead) => {
                self.wonders.insert(Wonder::LinkDead);
                self.cut(host);
                return Beginning::LinkDead;
            }
            Some(Mishap::HostFull) if claim.is_some() => {
                self.wonders.insert(Wonder::HostFull);
                return Beginning::HostFull;
            }
            Some(Mishap::CutOnTheWay) => {
                self.wonders.insert(Wonder::CutOnTheWay);
                self.cut(host);
                return Beginning::OnTheWay;
            }
            _ => {}
        }
        if let Some(claim) = claim
            && !self.intents.contains(claim)
        {
            self.broken.push(format!("{claim} begins before its intent is durable"));
        }
        let no = self.begun.len();
        let sim = self.hosts.get_mut(host).expect("a host of the plan");
        sim.beginnings.insert(step.clone(), n);
        if let Some(claim) = claim {
            sim.claims.insert(claim.clone(), Some(no));
        }
        let begun = self.plan_begun(host, step, claim, mishap, no);
        self.begun.push(begun);
        Beginning::Begun(no)
    }

    fn plan_begun(
        &mut self,
        host: &HostName,
        step: &StepId,
        claim: Option<&AttemptId>,
        mishap: Option<Mishap>,
        no: usize,
    ) -> Begun {
        use Mishap::*;
        let now = Instant::now();
        let mut takes = Duration::from_millis(takes_ms(&self.plan, step)).max(Duration::from_millis(8));
        if mishap == Some(Slow) {
            takes += Duration::from_secs(120);
        }
        let what = self.plan.step(step).expect("a step of the plan");
        let reboots = matches!(what.work, Work::Any(Action::Reboot { .. }));
        let fails = matches!(mishap, Some(Fails | FailsHalf));
        let endless = matches!(mishap, Some(Hangs | HangsHalf | Stubborn));
        let has_effect = match mishap {
            Some(Fails | Hangs) => false,
            Some(FailsHalf | HangsHalf | Stubborn) => !reboots,
            _ => true,
        };
        // A reboot is told, and follows.
        self.plan_event(if reboots { now } else { now + takes / 2 }, Coming::Effect(no));
        if !endless {
            self.plan_event(now + takes, Coming::End(no));
        }
        let away = |for_, reboots, forgets| Coming::Away { host: host.clone(), for_, reboots, forgets };
        let reboot = Duration::from_millis(REBOOT_MS);
        match mishap {
            Some(CutBegun) => self.plan_event(now + takes / 4, Coming::Cut(host.clone())),
            Some(CutAfterEffect) => self.plan_event(now + takes * 3 / 4, Coming::Cut(host.clone())),
            Some(RebootBefore) => self.plan_event(now + takes / 4, away(reboot, true, None)),
            Some(RebootAfter) => self.plan_event(now + takes * 3 / 4, away(reboot, true, None)),
            Some(RebootForgets) => self.plan_event(now + takes * 3 / 4, away(reboot, true, claim.cloned())),
            Some(Vanishes) => self.plan_event(now + takes / 4, away(VANISHED, false, None)),
            _ if reboots && !fails && !endless => self.plan_event(now + takes * 2, away(reboot, true, None)),
            _ => {}
        }
        let wonder = match mishap {
            Some(CutBegun) => Some(Wonder::CutBegun),
            Some(CutAfterEffect) => Some(Wonder::CutAfterEffect),
            Some(CutAfterAnswer) => Some(Wonder::CutAfterAnswer),
            Some(Stubborn) => Some(Wonder::Stubborn),
            _ => None,
        };
        self.wonders.extend(wonder);
        Begun {
            host: host.clone(),
            step: step.clone(),
            attempt: claim.cloned(),
            effects: 0,
            state: State::Running,
            stubborn: mishap == Some(Stubborn),
            output: output_of(&self.plan, host, step, claim.map_or(0, |claim| claim.attempt)),
            has_effect,
            code: i32::from(fails),
            cut_after_answer: mishap == Some(CutAfterAnswer),
        }
    }

    /// The answer has reached the controller.
    pub(crate) fn answered(&mut self, no: usize) {
        if std::mem::take(&mut self.begun[no].cut_after_answer) {
            let host = self.begun[no].host.clone();
            self.cut(&host);
        }
    }

    /// What the host knows of an attempt; what it does not know is claimed, so that it never begins.
    pub(crate) fn ask_after(&mut self, host: &HostName, attempt: &AttemptId) -> Option<State> {
        let claims = &mut self.hosts.get_mut(host).expect("a host of the plan").claims;
        let no = (*claims.entry(attempt.clone()).or_insert(None))?;
        Some(self.begun[no].state)
    }

    pub(crate) fn claimed(&self, host: &HostName, attempt: &AttemptId) -> Option<usize> {
        self.hosts[host].claims.get(attempt).copied().flatten()
    }
}
