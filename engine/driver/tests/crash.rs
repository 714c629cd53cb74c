//! The controller is killed at every append, and the run goes on: no effect twice, and the same end.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use runbook_driver::{Control, RunState};
use runbook_model::event::RunHeader;
use runbook_model::outcome::RunOutcome;
use runbook_model::plan::{Phase, Plan};
use runbook_model::{Event, HostName, RunId};
use runbook_ports::Store;
use runbook_ports::store::{Append, Checkpoint, Fence, Head, Holder, RunIndex, Sealed, Settled, StoreError};
use runbook_testkit::fake_transport::{Behaviour, Ending};
use runbook_testkit::memory_store::MemoryStore;
use support::*;
use tokio::sync::Notify;

/// A store on which the controller dies at one of its appends: before it is written, or just after.
struct Deadly {
    store: MemoryStore,
    left: AtomicU64,
    written: bool,
    dead: Arc<Notify>,
}

#[async_trait]
impl Store for Deadly {
    async fn append(&self, append: Append) -> Result<(), StoreError> {
        if self.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return self.store.append(append).await;
        }
        if self.written {
            self.store.append(append).await?;
        }
        self.dead.notify_one();
        std::future::pending().await
    }

    async fn head(&self) -> Result<Head, StoreError> {
        self.store.head().await
    }

    async fn records(&self, run: &RunId, from: u64, limit: usize) -> Result<Vec<Sealed>, StoreError> {
        self.store.records(run, from, limit).await
    }

    async fn ledger(&self, from: u64, limit: usize) -> Result<Vec<Sealed>, StoreError> {
        self.store.ledger(from, limit).await
    }

    async fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError> {
        self.store.checkpoints().await
    }

    async fn settled(&self, from_ms: u64) -> Result<Vec<Settled>, StoreError> {
        self.store.settled(from_ms).await
    }

    async fn runs(&self) -> Result<Vec<RunIndex>, StoreError> {
        self.store.runs().await
    }

    async fn lease(&self, run: &RunId, operator: &str, hosts: &[HostName], now_ms: u64) -> Result<Fence, StoreError> {
        self.store.lease(run, operator, hosts, now_ms).await
    }

    async fn release(&self, run: &RunId, fence: Fence) -> Result<(), StoreError> {
        self.store.release(run, fence).await
    }

    async fn holder(&self, run: &RunId) -> Result<Option<Holder>, StoreError> {
        self.store.holder(run).await
    }
}

struct Told {
    state: RunState,
    died: bool,
    /// The run's end was on record when the controller died: there was nothing to take up.
    ended_before: bool,
    bench: Bench,
}

/// Applies and dies at the `n`-th append; goes on as another process.
async fn killed_at(n: u64, written: bool, plan: Plan, script: impl Fn(&Bench)) -> Told {
    let mut bench = Bench::new();
    script(&bench);
    let dead = Arc::new(Notify::new());
    let store = Deadly { store: bench.store.clone(), left: AtomicU64::new(n), written, dead: Arc::clone(&dead) };
    let engine = bench.engine_on(Arc::new(store), Arc::new(bench.store.clone()));
    let first = tokio::select! {
        result = engine.apply(plan.clone(), bench.request(RUN), &bench.control) => Some(result.unwrap()),
        () = dead.notified() => None,
    };
    if let Some(first) = first {
        return Told { state: first.state, died: false, ended_before: false, bench };
    }
    bench.store.kill();
    bench.store = bench.store.another_process();
    // Some time passes until somebody looks.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let control = Control::new();
    let engine = bench.engine();
    let mut ended_before = false;
    let state = match engine.load(&RUN.into()).await {
        Ok(_) => match engine.resume(&RUN.into(), ada(), &runbook_testkit::unrestricted(), &control).await {
            Ok(result) => result.state,
            Err(runbook_driver::DriverError::Ended { .. }) => {
                ended_before = true;
                match bench.events(RUN).await.last() {
                    Some(Event::RunEnded { outcome, .. }) => RunState::Ended(*outcome),
                    other => panic!("append {n}: it is said to have ended, and its last event is {other:?}"),
                }
            }
            Err(error) => panic!("append {n}: {error}"),
        },
        // Nothing was recorded, so nothing began: it is simply applied again.
        Err(_) => bench.engine().apply(plan, bench.request(RUN), &control).await.unwrap().state,
    };
    Told { state, died: true, ended_before, bench }
}

fn header(events: &[Event]) -> &RunHeader {
    match &events[0] {
        Event::RunOpened(header) => header,
        other => panic!("{other:?}"),
    }
}

async fn laws(told: &Told, n: u64) {
    let mut times: BTreeMap<_, u32> = BTreeMap::new();
    for effect in told.bench.transport.effects() {
        if let Some(attempt) = effect.attempt {
            *times.entry(attempt.cell()).or_default() += 1;
        }
    }
    for (cell, times) in &times {
        assert_eq!(*times, 1, "append {n}: {cell} had its effect {times} times");
    }
    for host in ["a", "b"] {
        let left = told.bench.transport.left_over(host);
        assert!(left.is_empty() || told.ended_before, "append {n}: on {host} is left {left:?}");
    }
    let events = told.bench.events(RUN).await;
    assert_eq!(header(&events).run.as_str(), RUN);
    for host in ["a", "b"] {
        let place = |is: fn(&Event, &str) -> bool| events.iter().rposition(|event| is(event, host));
        let opened = place(|event, name| matches!(event, Event::SessionOpened { host, .. } if host.as_str() == name));
        let closed = place(|event, name| matches!(event, Event::SessionClosed { host, .. } if host.as_str() == name));
        assert!(opened.is_none() || closed > opened, "append {n}: the session to {host} has no end on record");
    }
    let sealed = told.bench.store.ledger(0, usize::MAX).await.unwrap();
    for (seq, sealed) in (0..).zip(&sealed) {
        assert_eq!(sealed.seq, seq);
    }
}

fn steps() -> Vec<runbook_model::plan::Step> {
    vec![
        step(Phase::Prechecks, "check", "check-it"),
        step(Phase::Execute, "list", "list-it"),
        step(Phase::Execute, "change", "change-it {{steps.list.stdout}}"),
        step(Phase::Verify, "proof", "prove-it"),
        undo("change", "undo-it"),
        undo("list", "unlist-it"),
        step(Phase::Finally, "tidy", "tidy-it"),
    ]
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_append_a_good_run_ends_well() {
    for written in [false, true] {
        for n in 1.. {
            let script = |bench: &Bench| {
                bench.transport.on(None, "list-it", [Behaviour::prints("a b\n").taking(Duration::from_secs(5))]);
                bench.transport.on(None, "change-it", [Behaviour::prints("ok").taking(Duration::from_secs(60))]);
            };
            let told = killed_at(n, written, plan(&["a", "b"], steps()), script).await;
            laws(&told, n).await;
            assert_eq!(told.state, RunState::Ended(RunOutcome::Succeeded), "append {n} ({written})");
            assert_eq!(told.bench.transport.count("change-it a b"), 2, "the earlier step's output is known again");
            if !told.died {
                assert!(n > 8);
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_append_a_bad_run_is_taken_back() {
    for written in [false, true] {
        for n in 1.. {
            let script = |bench: &Bench| {
                bench.transport.on(None, "change-it", [Behaviour::exit(3).taking(Duration::from_secs(30))]);
                bench.transport.on(None, "undo-it", [Behaviour::exit(0).taking(Duration::from_secs(30))]);
            };
            let told = killed_at(n, written, plan(&["a", "b"], steps()), script).await;
            laws(&told, n).await;
            assert_eq!(told.state, RunState::Ended(RunOutcome::RolledBack), "append {n} ({written})");
            for what in ["change-it", "undo-it", "unlist-it"] {
                assert_eq!(told.bench.transport.count(what), 2 + 2 * usize::from(what == "list-it"), "append {n}");
            }
            if !told.died {
                assert!(n > 8);
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn killed_in_a_reboot_the_run_knows_that_the_host_has_rebooted() {
    for n in 1.. {
        let script = |bench: &Bench| {
            let ending = Ending::Reboots(Duration::from_secs(60));
            let reboots = Behaviour { ending, ..Behaviour::exit(0) }.taking(Duration::from_secs(1));
            bench.transport.on(None, "systemctl reboot", [reboots]);
        };
        let action = runbook_model::plan::Action::Reboot { timeout_ms: 600_000, settle_ms: 0 };
        let steps = vec![acting(Phase::Execute, "boot", action), step(Phase::Execute, "after", "after-it")];
        let told = killed_at(n, true, plan(&["a"], steps), script).await;
        let attempts = told.bench.transport.count("systemctl reboot");
        assert!(attempts <= 1, "append {n}: it was rebooted {attempts} times");
        if told.state == RunState::Ended(RunOutcome::Succeeded) {
            assert_eq!(told.bench.transport.count("after-it"), 1);
        }
        if !told.died {
            assert_eq!(told.state, RunState::Ended(RunOutcome::Succeeded));
            break;
        }
    }
}
