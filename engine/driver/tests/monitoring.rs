//! When monitoring is muted and unmuted, whatever becomes of the run. What a real system makes of it is tested with one.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use runbook_driver::{Control, DriverError, Engine, Muting, RunState};
use runbook_model::monitoring::Mutes;
use runbook_model::outcome::RunOutcome;
use runbook_model::plan::{Phase, Step};
use runbook_model::{Event, RunId};
use runbook_ports::Monitor;
use runbook_ports::monitor::{MonitorError, Mute, Muted, Unmuted};
use runbook_testkit::fake_transport::{Behaviour, Ending};
use support::*;

const MINUTES_30: u64 = 30 * 60_000;

/// Keeps what is asked of it, and fails as it is told.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<String>>,
    /// Answers to come: why it fails, and whether something may be muted. Then it works.
    mute_fails: Mutex<Vec<(&'static str, bool)>>,
    unmute_fails: Mutex<u32>,
    /// What somebody else ended.
    ended: Mutex<Vec<String>>,
    reach_fails: bool,
}

impl Fake {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Monitor for Fake {
    fn name(&self) -> &str {
        "prod"
    }

    fn kind(&self) -> &'static str {
        "fake"
    }

    fn site(&self) -> String {
        "fake://prod".into()
    }

    async fn mute(&self, mute: Mute<'_>, _: Duration) -> Result<Muted, MonitorError> {
        let known = mute.known.map(|(ids, _)| format!(" knowing {}", ids.join(","))).unwrap_or_default();
        self.asked.lock().unwrap().push(format!("mute{known}"));
        if let Some((why, maybe)) = self.mute_fails.lock().unwrap().pop() {
            return Err(MonitorError { why: why.into(), maybe: maybe || mute.known.is_some() });
        }
        let ended_by_others = self.ended.lock().unwrap().clone();
        let ids = ["s1", "s2"].map(str::to_owned).into_iter().filter(|id| !ended_by_others.contains(id)).collect();
        Ok(Muted { ids, ended_by_others, until_ms: mute.for_ms, exchange: b"muted".to_vec() })
    }

    async fn unmute(&self, _: &RunId, ids: &[String], _: Duration) -> Result<Unmuted, MonitorError> {
        self.asked.lock().unwrap().push("unmute".into());
        let mut fails = self.unmute_fails.lock().unwrap();
        if *fails > 0 {
            *fails -= 1;
            return Err(MonitorError { why: "nobody answers".into(), maybe: true });
        }
        Ok(Unmuted { ids: ids.to_vec(), at_ms: 5, exchange: b"unmuted".to_vec() })
    }

    async fn reach(&self, _: Duration) -> Result<String, MonitorError> {
        match self.reach_fails {
            true => Err(MonitorError { why: "nobody answers".into(), maybe: false }),
            false => Ok("it answers".into()),
        }
    }
}

fn simple() -> Vec<Step> {
    vec![
        step(Phase::Prechecks, "check", "check-it"),
        step(Phase::Execute, "change", "change-it"),
        step(Phase::Verify, "proof", "prove-it"),
        undo("change", "undo-it"),
    ]
}

fn engine(bench: &Bench, fake: &Arc<Fake>, refuse: bool) -> Engine {
    let monitor = Arc::clone(fake) as Arc<dyn Monitor>;
    let within = Duration::from_secs(10);
    Engine {
        monitors: vec![Muting { monitor, hosts: Ok(Arc::default()), for_ms: MINUTES_30, within, refuse }],
        ..bench.engine()
    }
}

/// The order of what matters here.
async fn told(bench: &Bench) -> Vec<&'static str> {
    let word = |event: Event| match event {
        Event::RunOpened(_) => Some("opened"),
        Event::RunStarted => Some("started"),
        Event::RunResumed { .. } => Some("resumed"),
        Event::RunSuspended { .. } => Some("suspended"),
        Event::RunEnded { .. } => Some("ended"),
        Event::MonitoringMuted { lengthened: true, .. } => Some("lengthened"),
        Event::MonitoringMuted { .. } => Some("muted"),
        Event::MonitoringUnmuted { .. } => Some("unmuted"),
        Event::MonitoringFailed { .. } => Some("failed"),
        _ => None,
    };
    bench.events(RUN).await.into_iter().filter_map(word).collect()
}

async fn mutes(bench: &Bench) -> Mutes {
    let mut mutes = Mutes::default();
    bench.events(RUN).await.iter().for_each(|event| mutes.observe(event));
    mutes
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_before_the_mute_is_on_record_and_it_is_lengthened_until_the_end() {
    let (bench, fake) = (Bench::new(), Arc::new(Fake::default()));
    bench.transport.on(None, "change-it", [Behaviour::exit(0).taking(Duration::from_secs(50 * 60))]);
    let mut steps = simple();
    steps[1].timeout_ms = 7_200_000;
    let engine = engine(&bench, &fake, false);
    let result = engine.apply(plan(&["a"], steps), bench.request(RUN), &bench.control).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded));
    // Twenty minutes, forty minutes: before the thirty that it lasts are over.
    assert_eq!(told(&bench).await, ["opened", "muted", "started", "lengthened", "lengthened", "ended", "unmuted"]);
    assert_eq!(fake.asked(), ["mute", "mute knowing s1,s2", "mute knowing s1,s2", "unmute"]);
    let proof = bench.events(RUN).await.into_iter().find_map(|event| match event {
        Event::MonitoringUnmuted { proof, .. } => Some(proof),
        _ => None,
    });
    assert_eq!(bench.blob(proof).await, b"unmuted");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_only_looks_mutes_nobody() {
    let (bench, fake) = (Bench::new(), Arc::new(Fake { reach_fails: true, ..Fake::default() }));
    let mut request = bench.request(RUN);
    request.check_only = true;
    engine(&bench, &fake, true).apply(plan(&["a"], simple()), request, &bench.control).await.unwrap();
    assert!(fake.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_for_an_operator_is_unmuted_and_muted_anew_when_it_goes_on() {
    let (bench, fake) = (Bench::new(), Arc::new(Fake::default()));
    let ending = Ending::CannotBeStopped;
    bench.transport.on(None, "change-it", [Behaviour { ending, ..Behaviour::exit(0) }]);
    let mut steps = simple();
    steps.pop();
    steps[1].on_failure = runbook_model::plan::OnFailure::Halt;
    let engine = engine(&bench, &fake, false);
    let result = engine.apply(plan(&["a"], steps), bench.request(RUN), &bench.control).await.unwrap();
    assert!(matches!(result.state, RunState::Suspended(_)), "{result:?}");
    assert_eq!(told(&bench).await, ["opened", "muted", "started", "suspended", "unmuted"]);
    engine.resolve(&RUN.into(), "a".into(), "change".into(), true, "saw it".into(), ada()).await.unwrap();
    let free = runbook_testkit::unrestricted();
    let result = engine.resume(&RUN.into(), ada(), &free, &Control::new()).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded));
    assert_eq!(told(&bench).await[5..], ["muted", "resumed", "ended", "unmuted"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_left_is_unmuted_and_what_was_not_recorded_is_decided_again() {
    let (bench, fake) = (Bench::new(), Arc::new(Fake::default()));
    bench.transport.on(None, "change-it", [Behaviour::prints("done").taking(Duration::from_secs(100))]);
    let control = bench.control.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        control.detach();
    });
    let engine = engine(&bench, &fake, false);
    let left = engine.apply(plan(&["a"], simple()), bench.request(RUN), &bench.control).await.unwrap();
    assert_eq!(left.state, RunState::Detached);
    assert_eq!(told(&bench).await, ["opened", "muted", "started", "unmuted"]);
    let free = runbook_testkit::unrestricted();
    let result = engine.resume(&RUN.into(), ada(), &free, &Control::new()).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded));
    assert_eq!((bench.transport.count("change-it"), mutes(&bench).await.open().count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_mute_that_fails_is_told_once_and_tried_again_while_the_run_goes_on() {
    let fails = Mutex::new(vec![("nobody answers", false); 3]);
    let (bench, fake) = (Bench::new(), Arc::new(Fake { mute_fails: fails, ..Fake::default() }));
    bench.transport.on(None, "change-it", [Behaviour::exit(0).taking(Duration::from_secs(600))]);
    let mut steps = simple();
    steps[1].timeout_ms = 7_200_000;
    let engine = engine(&bench, &fake, false);
    let result = engine.apply(plan(&["a"], steps), bench.request(RUN), &bench.control).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded));
    assert_eq!(told(&bench).await, ["opened", "failed", "started", "muted", "ended", "unmuted"]);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_unmuted_is_open_until_somebody_unmutes_what_was_left() {
    let (bench, fake) = (Bench::new(), Arc::new(Fake { unmute_fails: Mutex::new(5), ..Fake::default() }));
    let engine = engine(&bench, &fake, false);
    let result = engine.apply(plan(&["a"], simple()), bench.request(RUN), &bench.control).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded), "the work is done all the same");
    assert_eq!(told(&bench).await, ["opened", "muted", "started", "ended", "failed"]);
    assert_eq!(mutes(&bench).await.open().count(), 1);
    // Away still, twice: that is on record already.
    assert!(!engine.unmute_left(&RUN.into(), &ada()).await.unwrap());
    assert!(!engine.unmute_left(&RUN.into(), &ada()).await.unwrap());
    assert!(engine.unmute_left(&RUN.into(), &ada()).await.unwrap());
    assert_eq!(told(&bench).await, ["opened", "muted", "started", "ended", "failed", "unmuted"]);
    assert_eq!(mutes(&bench).await.open().count(), 0);
    // Nothing is left, and nothing more is put on record of it.
    assert!(engine.unmute_left(&RUN.into(), &ada()).await.unwrap());
    assert_eq!(told(&bench).await.len(), 6);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_ended_is_told_once_and_stays_known() {
    let (bench, fake) = (Bench::new(), Arc::new(Fake::default()));
    bench.transport.on(None, "change-it", [Behaviour::exit(0).taking(Duration::from_secs(50 * 60))]);
    let mut steps = simple();
    steps[1].timeout_ms = 7_200_000;
    let person = Arc::clone(&fake);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(600)).await;
        person.ended.lock().unwrap().push("s2".into());
    });
    let engine = engine(&bench, &fake, false);
    engine.apply(plan(&["a"], steps), bench.request(RUN), &bench.control).await.unwrap();
    assert_eq!(fake.asked(), ["mute", "mute knowing s1,s2", "mute knowing s1,s2", "unmute"]);
    assert_eq!(mutes(&bench).await.systems["prod"].ended_by_others, ["s2"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_must_be_muted_begins_nothing_without() {
    let (bench, fake) = (Bench::new(), Arc::new(Fake { reach_fails: true, ..Fake::default() }));
    let refused = engine(&bench, &fake, true);
    let error = refused.apply(plan(&["a"], simple()), bench.request(RUN), &bench.control).await.unwrap_err();
    assert!(matches!(&error, DriverError::NotMuted { run: None, .. }), "{error}");
    assert!(bench.events(RUN).await.is_empty(), "no run is open");

    // It answers, and fails when it counts.
    let fake = Arc::new(Fake { mute_fails: Mutex::new(vec![("it is full", true)]), ..Fake::default() });
    let refused = engine(&bench, &fake, true);
    let error = refused.apply(plan(&["a"], simple()), bench.request(RUN), &bench.control).await.unwrap_err();
    assert!(matches!(&error, DriverError::NotMuted { run: Some(_), .. }), "{error}");
    assert_eq!(told(&bench).await, ["opened", "failed", "started", "ended", "unmuted"]);
    assert!(bench.transport.effects().is_empty());
    // The hosts are free again.
    let request = bench.request("019aab00-0000-7000-8000-0000000000ff");
    bench.engine().apply(plan(&["a"], simple()), request, &bench.control).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_run_that_has_begun_and_a_way_back_are_never_refused_for_it() {
    let (bench, fake) = (Bench::new(), Arc::new(Fake::default()));
    bench.transport.on(None, "change-it", [Behaviour::prints("done").taking(Duration::from_secs(100))]);
    let control = bench.control.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        control.detach();
    });
    engine(&bench, &fake, true).apply(plan(&["a"], simple()), bench.request(RUN), &bench.control).await.unwrap();
    let fails = || Mutex::new(vec![("nobody answers", false); 9]);
    let away = Arc::new(Fake { reach_fails: true, mute_fails: fails(), ..Fake::default() });
    let engine = engine(&bench, &away, true);
    let result = engine.resume(&RUN.into(), ada(), &runbook_testkit::unrestricted(), &Control::new()).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded));
    let again = bench.request("019aab00-0000-7000-8000-0000000000ff");
    let result = engine.roll_back(&RUN.into(), again, &Control::new()).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::RolledBack));
}
