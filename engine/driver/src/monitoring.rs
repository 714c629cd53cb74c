//! Monitoring systems are muted before the first host is begun, and unmuted when nobody works on the run any more.
//!
//! | when | what | on record |
//! | --- | --- | --- |
//! | the run is open, nothing has begun | muted | `monitoring_muted`, or `monitoring_failed` |
//! | two thirds of the time are over | muted for longer; tried again where it failed | the same |
//! | the run has ended, waits for an operator, or was left | unmuted, and asked whether it is so | `monitoring_unmuted`, or `monitoring_failed` |
//! | its controller died | it ends by itself; whoever works on the run or in the project next unmutes it | the same |
//!
//! Nothing of it decides what becomes of a host. Where a run is not to begin unmuted, it is asked before it is opened, and
//! once more before anything is begun. A run that has begun is brought to its end all the same, and one that takes another
//! back is not held up: hosts left in the middle are worse than people who are told of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use runbook_model::event::{Person, RunHeader};
use runbook_model::monitoring::{MonitoringAct, Mutes};
use runbook_model::permit::Permit;
use runbook_model::{Event, HostName, RunId, Sha256};
use runbook_ports::Monitor;
use runbook_ports::monitor::{Matcher, MonitorError, Mute, Muted, Unmuted};
use tokio::task::JoinSet;

use crate::DriverError;
use crate::engine::Engine;
use crate::journal::{Group, Stamped};
use crate::prepare::clipped;

/// An unmuting that failed is tried so often, and so long apart.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What could not be muted, or not for longer, is tried again after so long, while the run goes on.
const AGAIN_MS: u64 = 60_000;

/// A window that ends sooner bounds no mute: the run would have it lengthened all the time.
const WINDOW_MS_MIN: u64 = 5 * 60_000;

/// Ids of a mute that are named in one event, at most: it has a bounded length.
const IDS_MAX: usize = 500;

/// A system that is muted for a run.
#[derive(Clone)]
pub struct Muting {
    /// The system.
    pub monitor: Arc<dyn Monitor>,
    /// The run's hosts with what their alerts have; or why that cannot be said.
    pub hosts: Result<Arc<BTreeMap<HostName, Vec<Matcher>>>, String>,
    /// It ends by itself after so long, unless it is lengthened.
    pub for_ms: u64,
    /// So long each answer is waited for.
    pub within: Duration,
    /// Without it nothing is begun.
    pub refuse: bool,
}

type Told = Result<Muted, MonitorError>;

/// The systems of one run, while it is worked on.
#[derive(Default)]
pub(crate) struct Quiet {
    systems: Vec<Muting>,
    /// What is on record.
    mutes: Mutes,
    /// When each is to be asked again (ms of the monotonic clock).
    due_ms: Vec<Option<u64>>,
    asked: JoinSet<(usize, Told)>,
    /// Something was tried, so that at the end it is to be over.
    tried: bool,
    /// Nothing was begun, so nobody is harmed when nothing is.
    may_refuse: bool,
    /// When the last window of the hosts ends (Unix ms), where each of them has one.
    closes_ms: Option<u64>,
}

/// Why, for people who see it in the system.
fn comment(header: &RunHeader) -> String {
    let ticket = header.ticket.as_ref().map(|ticket| format!(", {ticket}")).unwrap_or_default();
    format!("runbook: {} (run {}{ticket})", header.runbook, header.run)
}

async fn mute(muting: Muting, header: Arc<RunHeader>, known: Option<(Vec<String>, u64)>) -> Told {
    let hosts = muting.hosts.clone().map_err(|why| MonitorError { why, maybe: known.is_some() })?;
    let asked = Mute {
        run: &header.run,
        hosts: &hosts,
        for_ms: muting.for_ms,
        known: known.as_ref().map(|(ids, until_ms)| (&ids[..], *until_ms)),
        comment: &comment(&header),
        by: &header.operator.name,
    };
    muting.monitor.mute(asked, muting.within).await
}

async fn unmute(monitor: &dyn Monitor, run: &RunId, ids: &[String], within: Duration) -> Result<Unmuted, MonitorError> {
    let mut tried = 1;
    loop {
        match monitor.unmute(run, ids, within).await {
            Err(_) if tried < TRIES => {
                tried += 1;
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

/// What goes on record of it, with its blob.
type Recorded = (Event, Option<(Sha256, Vec<u8>)>);

fn failed(monitor: &dyn Monitor, act: MonitoringAct, error: MonitorError, until_ms: u64) -> Recorded {
    let event = Event::MonitoringFailed {
        system: monitor.name().to_owned(),
        kind: monitor.kind().to_owned(),
        site: monitor.site(),
        act,
        why: clipped(error.why),
        until_ms: error.maybe.then_some(until_ms),
    };
    (event, None)
}

fn unmuted(monitor: &dyn Monitor, done: Unmuted) -> Recorded {
    let proof = Sha256::of(&done.exchange);
    let mut ids = done.ids;
    ids.truncate(IDS_MAX);
    let event = Event::MonitoringUnmuted { system: monitor.name().to_owned(), ids, proof, at_ms: done.at_ms };
    (event, Some((proof, done.exchange)))
}

/// When the last window that is open now ends, where each of so many hosts has one.
pub(crate) fn closes_ms(allowed: &Permit, hosts: usize, now_ms: u64) -> Option<u64> {
    let bounded: usize = allowed.classes.iter().map(|class| class.hosts.len()).sum();
    let stretches = allowed.classes.iter().flat_map(|class| &class.stretches);
    let open = stretches.filter(|open| open.start_ms <= now_ms && now_ms < open.end_ms);
    open.map(|open| open.end_ms).max().filter(|_| bounded >= hosts)
}

impl Quiet {
    /// Nothing is done to any system yet; `mutes` is what earlier controllers of the run have on record.
    pub(crate) fn of(systems: Vec<Muting>, mutes: Mutes, may_refuse: bool, closes_ms: Option<u64>) -> Self {
        let due_ms = vec![None; systems.len()];
        Self { systems, mutes, due_ms, asked: JoinSet::new(), tried: false, may_refuse, closes_ms }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.systems.is_empty()
    }

    fn known(&self, no: usize) -> Option<(Vec<String>, u64)> {
        let muted = self.mutes.systems.get(self.systems[no].monitor.name())?;
        // What somebody else ended stays known: it is not to be taken for something that was never muted.
        Some((muted.ids.iter().chain(&muted.ended_by_others).cloned().collect(), muted.until_ms?))
    }

    /// Begins to mute a system, or to have it muted for longer.
    fn ask(&mut self, no: usize, header: &Arc<RunHeader>, now_ms: u64) {
        self.tried = true;
        self.due_ms[no] = None;
        let mut muting = self.systems[no].clone();
        muting.for_ms = self.for_ms(no, now_ms);
        let (header, known) = (Arc::clone(header), self.known(no));
        self.asked.spawn(async move { (no, mute(muting, header, known).await) });
    }

    /// It ends by itself after so long (ms): with the hosts' window, when that ends before, but soon. A run that is not through
    /// by then is muted for longer like any other.
    fn for_ms(&self, no: usize, now_ms: u64) -> u64 {
        let most = self.systems[no].for_ms;
        let left = self.closes_ms.map(|closes| closes.saturating_sub(now_ms)).filter(|left| *left >= WINDOW_MS_MIN);
        left.map_or(most, |left| most.min(left))
    }

    /// Asks all of them.
    pub(crate) fn ask_all(&mut self, header: &Arc<RunHeader>, now_ms: u64) {
        for no in 0..self.systems.len() {
            self.ask(no, header, now_ms);
        }
    }

    /// Asks those that are due.
    pub(crate) fn ask_due(&mut self, header: &Arc<RunHeader>, now_ms: u64, mono_ms: u64) {
        for no in 0..self.systems.len() {
            if self.due_ms[no].is_some_and(|due| due <= mono_ms) {
                self.ask(no, header, now_ms);
            }
        }
    }

    /// In so many milliseconds the next is due.
    pub(crate) fn due_in_ms(&self, mono_ms: u64) -> Option<u64> {
        self.due_ms.iter().flatten().min().map(|due| due.saturating_sub(mono_ms))
    }

    /// The next answer; `None` when none is waited for.
    pub(crate) async fn answer(&mut self) -> Option<(usize, Told)> {
        loop {
            // One that panicked gave no answer: that is none of the run's business.
            if let Ok(answer) = self.asked.join_next().await? {
                return Some(answer);
            }
        }
    }

    /// What goes on record of an answer, when anything does, and why nothing may begin, when nothing may.
    pub(crate) fn take(
        &mut self,
        (no, told): (usize, Told),
        now_ms: u64,
        mono_ms: u64,
    ) -> (Option<Recorded>, Option<String>) {
        let muting = &self.systems[no];
        let (monitor, known, for_ms) = (Arc::clone(&muting.monitor), self.known(no), self.for_ms(no, now_ms));
        match told {
            Ok(muted) => {
                // A third is left for a system that does not answer at once.
                self.due_ms[no] = (!muted.ids.is_empty()).then(|| mono_ms.saturating_add(for_ms / 3 * 2));
                let exchange = Sha256::of(&muted.exchange);
                let before = self.mutes.systems.get(monitor.name()).map_or(&[][..], |muted| &muted.ended_by_others);
                let ended_by_others = muted.ended_by_others.into_iter().filter(|id| !before.contains(id));
                let ended_by_others = ended_by_others.take(IDS_MAX).collect();
                let event = Event::MonitoringMuted {
                    system: monitor.name().to_owned(),
                    kind: monitor.kind().to_owned(),
                    site: monitor.site(),
                    ids: muted.ids.into_iter().take(IDS_MAX).collect(),
                    hosts: muting.hosts.as_ref().map_or(0, |hosts| hosts.len() as u64),
                    exchange,
                    until_ms: muted.until_ms,
                    lengthened: known.is_some(),
                    ended_by_others,
                };
                self.mutes.observe(&event);
                (Some((event, Some((exchange, muted.exchange)))), None)
            }
            Err(error) => {
                self.due_ms[no] = muting.hosts.is_ok().then(|| mono_ms.saturating_add(AGAIN_MS.min(for_ms / 6)));
                let refused = (muting.refuse && self.may_refuse).then(|| format!("{}: {}", monitor.name(), error.why));
                let act = if known.is_some() { MonitoringAct::Lengthen } else { MonitoringAct::Mute };
                let until_ms = known.map_or(now_ms.saturating_add(for_ms), |(_, until_ms)| until_ms);
                let (event, blob) = failed(&*monitor, act, error, until_ms);
                // The same failure again and again is told once.
                let before = self.mutes.systems.get(monitor.name()).and_then(|muted| muted.failed.clone());
                self.mutes.observe(&event);
                let after = self.mutes.systems.get(monitor.name()).and_then(|muted| muted.failed.clone());
                ((before != after).then_some((event, blob)), refused)
            }
        }
    }

    /// Has all of them unmuted. What is still being asked is waited for first, so that nothing is muted afterwards.
    pub(crate) async fn end(&mut self, run: &RunId, now_ms: u64) -> Vec<Recorded> {
        let mut out = Vec::new();
        while let Some(answer) = self.answer().await {
            out.extend(self.take(answer, now_ms, 0).0);
        }
        if !self.tried {
            return out;
        }
        let mut ends = JoinSet::new();
        for (no, muting) in self.systems.iter().enumerate() {
            let name = muting.monitor.name();
            let Some(until_ms) = self.mutes.systems.get(name).and_then(|muted| muted.until_ms) else { continue };
            let (muting, run, known) = (muting.clone(), run.clone(), self.known(no));
            ends.spawn(async move {
                let ids = known.map(|(ids, _)| ids).unwrap_or_default();
                match unmute(&*muting.monitor, &run, &ids, muting.within).await {
                    Ok(done) => unmuted(&*muting.monitor, done),
                    Err(error) => failed(&*muting.monitor, MonitoringAct::Unmute, error, until_ms),
                }
            });
        }
        while let Some(ended) = ends.join_next().await {
            out.extend(ended);
        }
        for (event, _) in &out {
            self.mutes.observe(event);
        }
        out
    }
}

impl Engine {
    /// Where a run is not to begin unmuted, whether it could be muted; nothing is open yet, and nothing is muted by this.
    pub(crate) async fn could_mute(&self) -> Result<(), DriverError> {
        for muting in self.monitors.iter().filter(|muting| muting.refuse) {
            let asked = match &muting.hosts {
                Ok(_) => muting.monitor.reach(muting.within).await.map(drop).map_err(|error| error.why),
                Err(why) => Err(why.clone()),
            };
            asked
                .map_err(|why| DriverError::NotMuted { run: None, why: format!("{}: {why}", muting.monitor.name()) })?;
        }
        Ok(())
    }

    /// Unmutes what a run left muted in the engine's systems when its controller died, or when a system did not answer at its
    /// end. True when nothing of it is muted now, which was proved by asking; what was done is on record of the run.
    ///
    /// # Errors
    /// `Held` while somebody works on the run; `Evidence` when it cannot be recorded.
    pub async fn unmute_left(&self, run: &RunId, by: &Person) -> Result<bool, DriverError> {
        let fence = self.lease_hosts(run, &by.name, &[], None).await?;
        let result = self.unmute_held(run, fence).await;
        self.release_lease(run, fence).await;
        result
    }

    async fn unmute_held(&self, run: &RunId, fence: runbook_ports::store::Fence) -> Result<bool, DriverError> {
        let (mut mutes, mut run_seq) = (Mutes::default(), 0);
        loop {
            let page = self.records(run, run_seq, 1_000).await?;
            if page.is_empty() {
                break;
            }
            run_seq += page.len() as u64;
            page.iter().for_each(|record| mutes.observe(&record.event));
        }
        // It was never opened, so nothing was muted for it.
        if run_seq == 0 {
            return Ok(true);
        }
        let (mut over, mut recorded) = (true, Vec::new());
        for muting in &self.monitors {
            let monitor = &*muting.monitor;
            let muted = mutes.systems.get(monitor.name()).cloned().unwrap_or_default();
            match monitor.unmute(run, &muted.ids, muting.within).await {
                // A controller that died before it recorded the mute may have left one that nothing is on record of.
                Ok(done) if muted.until_ms.is_some() || !done.ids.is_empty() => recorded.push(unmuted(monitor, done)),
                Ok(_) => {}
                Err(error) => {
                    over = false;
                    let until_ms = muted.until_ms.unwrap_or_else(|| self.clock.now_ms().saturating_add(muting.for_ms));
                    let (event, blob) = failed(monitor, MonitoringAct::Unmute, error, until_ms);
                    let mut after = mutes.clone();
                    after.observe(&event);
                    if after != mutes {
                        recorded.push((event, blob));
                    }
                }
            }
        }
        if !recorded.is_empty() {
            let mut journal = self.journal(run, fence, run_seq).await?;
            let mut group = Group { sign: true, ..Group::default() };
            put(&mut group, recorded, self.clock.now_ms(), self.clock.mono_ms());
            for record in journal.append(group).await? {
                self.observer.committed(&record);
            }
        }
        Ok(over)
    }
}

/// Puts it into what is appended next.
pub(crate) fn put(group: &mut Group, recorded: impl IntoIterator<Item = Recorded>, now_ms: u64, mono_ms: u64) {
    for (event, blob) in recorded {
        group.events.push(Stamped { now_ms, mono_ms, event });
        group.blobs.extend(blob);
    }
}

#[cfg(test)]
mod tests {
    use runbook_model::permit::{Class, Stretch};

    use super::*;

    #[test]
    fn a_mute_ends_with_the_windows_of_all_hosts_unless_one_may_be_worked_on_at_any_time() {
        let class = |host: &str, stretches: &[(u64, u64)]| Class {
            hosts: vec![host.into()],
            windows: Vec::new(),
            stretches: stretches
                .iter()
                .map(|(start_ms, end_ms)| Stretch { start_ms: *start_ms, end_ms: *end_ms })
                .collect(),
            closings: Vec::new(),
            needs_ms: 0,
            estimate: String::new(),
        };
        let minute = 60_000;
        let classes =
            vec![class("a", &[(0, 20 * minute), (90 * minute, 99 * minute)]), class("b", &[(0, 10 * minute)])];
        let allowed = Permit { classes, ..Permit::default() };
        assert_eq!(closes_ms(&allowed, 2, minute), Some(20 * minute));
        assert_eq!(closes_ms(&allowed, 3, minute), None, "the third is in no window");
        assert_eq!(closes_ms(&allowed, 2, 30 * minute), None, "none is open");
        assert_eq!(closes_ms(&Permit::default(), 2, minute), None);
    }
}
