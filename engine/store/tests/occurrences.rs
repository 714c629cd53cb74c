//! Two schedulers on one store, with crashes: each occurrence is settled once, and none is forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use runbook_lang::parse_schedule;
use runbook_model::RunId;
use runbook_model::schedule::Occurrence;
use runbook_policy::schedule::{Step, Timetable};
use runbook_ports::Store;
use runbook_ports::store::{Append, Settled, StoreError};
use runbook_store::SqliteStore;
use runbook_testkit::store_suite::sealed;

/// So many are due.
const OCCURRENCES: usize = 10_000;

/// Numbers that look random, and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    /// Once in so many times.
    fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A daemon: what it keeps in its file, and what a crash takes from it.
struct Scheduler {
    store: Arc<SqliteStore>,
    since: BTreeMap<String, Timestamp>,
    appended: u32,
    no: u32,
}

impl Scheduler {
    async fn settle(&mut self, step: &Step) -> bool {
        let run = match step {
            Step::Fire(_) => {
                self.appended += 1;
                RunId::from(format!("019aab00-0000-7000-{:04}-{:012}", self.no, self.appended))
            }
            Step::Miss(_) => RunId::installation(),
        };
        loop {
            let head = self.store.head().await.unwrap();
            let run_seq = if run.is_installation() { head.size } else { 0 };
            let settles = Some(Settled { occurrence: step.due().occurrence.clone(), run: run.clone(), seq: head.size });
            match self.store.append(Append { settles, ..sealed(&head, &run, run_seq, 1, None) }).await {
                Ok(()) => return true,
                Err(StoreError::HeadMoved(_)) => {}
                Err(StoreError::Settled(_)) => return false,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn steps(&self, table: &Timetable, now: Timestamp) -> Vec<Step> {
        let first = self.since.values().min().unwrap().as_millisecond();
        let settled = self.store.settled(u64::try_from(first).unwrap()).await.unwrap();
        let settled: BTreeSet<Occurrence> = settled.into_iter().map(|one| one.occurrence).collect();
        table.look(&self.since, &settled, now)
    }
}

#[tokio::test]
async fn two_schedulers_that_crash_settle_ten_thousand_occurrences_once_each() {
    let text = "schema: schedule/v1\nzone: America/New_York\nschedules:\n  \
                a: {run: a.yaml, when: every day 22:00, late: 4h}\n  b: {run: b.yaml, when: every day 22:00}\n  \
                c: {run: c.yaml, when: every weekday 02:30, late: 30m}\n  d: {run: d.yaml, when: Patch Tuesday + 3 days 01:30}\n";
    let said = parse_schedule("schedule.yaml", text.as_bytes()).unwrap().value.schedules;
    let table = Timetable::new(&said, None).unwrap();
    // Ten thousand commits need no disk here.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let begin: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let mut daemons = Vec::new();
    for no in 0..2 {
        let store = Arc::new(SqliteStore::open(folder.path()).await.unwrap());
        let since = said.schedules.keys().map(|name| (name.clone(), begin)).collect();
        daemons.push(Scheduler { store, since, appended: 0, no });
    }
    let (mut dice, mut now, mut won, mut lost, mut crashes) = (Dice(0x9e37_79b9_7f4a_7c15), begin, 0, 0, 0);
    while won < OCCURRENCES {
        // Mostly it is there at the moment; sometimes it was down for days.
        now = match dice.below(8) {
            0 => now + SignedDuration::from_hours(i64::try_from(dice.below(72)).unwrap()),
            _ => table.next_moment(now).unwrap(),
        };
        now += SignedDuration::from_millis(i64::try_from(dice.below(3_000)).unwrap());
        // Both see the same before either acts, and then act in turns.
        let awake: Vec<bool> = daemons.iter().map(|_| !dice.once_in(4)).collect();
        let mut all = Vec::new();
        for (no, daemon) in daemons.iter().enumerate().filter(|(no, _)| awake[*no]) {
            all.extend(daemon.steps(&table, now).await.into_iter().map(|step| (no, step)));
        }
        let mut crashed = BTreeSet::new();
        while !all.is_empty() {
            let (no, step) = all.swap_remove(usize::try_from(dice.below(all.len() as u64)).unwrap());
            if crashed.contains(&no) || dice.once_in(20) {
                crashed.insert(no);
                continue;
            }
            match daemons[no].settle(&step).await {
                true => won += 1,
                false => lost += 1,
            }
            // After the record, before it remembers.
            if dice.once_in(20) {
                crashed.insert(no);
            }
        }
        crashes += crashed.len();
        for (no, daemon) in daemons.iter_mut().enumerate() {
            if awake[no] && !crashed.contains(&no) {
                daemon.since.values_mut().for_each(|since| *since = now);
            }
        }
    }
    // Whoever is left looks once more, so that nothing waits for the one that crashed last.
    for daemon in &mut daemons {
        for step in daemon.steps(&table, now).await {
            won += usize::from(daemon.settle(&step).await);
        }
    }
    let settled = daemons[0].store.settled(0).await.unwrap();
    let due: BTreeSet<Occurrence> =
        table.names().flat_map(|name| table.between(name, begin, now)).map(|due| due.occurrence).collect();
    let keys: BTreeSet<Occurrence> = settled.iter().map(|one| one.occurrence.clone()).collect();
    assert_eq!(keys.len(), settled.len());
    assert_eq!(keys, due, "one was forgotten, or settled before its time");
    assert_eq!(won, due.len());
    // A record each, and no more: what was refused left nothing.
    assert_eq!(daemons[0].store.head().await.unwrap().size, won as u64);
    let ran = settled.iter().filter(|one| !one.run.is_installation()).count();
    assert!(ran > won / 2 && won - ran > 100, "{ran} of {won} were run");
    assert!(lost > 1_000 && crashes > 500, "{lost} races, {crashes} crashes");
}
