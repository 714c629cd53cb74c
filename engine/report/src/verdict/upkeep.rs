//! What the ledger says of itself: bodies that were removed after their time, an end that was set aside, an older copy that
//! was put back, and whether it was silent for longer than it promised.
//!
//! Given every record of the ledger once, in order, together with those of which only the hash is left.

use std::collections::BTreeMap;

use runbook_model::record::{Record, Sealed};
use runbook_model::units::rfc3339_ms;
use runbook_model::{Event, Notice, RunId, Sha256};

use super::Verdict;
use crate::check::Gap;
use crate::text::{count, elapsed, parse_time};

/// How much later than promised a head may come: a timer is late, a machine is started.
const LATE_MS: u64 = 5 * 60_000;

/// What was found, as the ledger is read.
#[derive(Debug, Default)]
pub struct Upkeep {
    /// Records without a body, by run.
    bare: BTreeMap<RunId, u64>,
    /// How many of them a purge accounts for, and the list of contents that went with them.
    purged: BTreeMap<RunId, (u64, Sha256)>,
    recovered: Vec<(u64, u64)>,
    restored: Vec<Restored>,
    every_ms: Option<u64>,
    last_ms: Option<u64>,
    silent: Vec<(u64, u64)>,
    /// First record of each run that has not ended, by the ledger's order.
    open: BTreeMap<RunId, u64>,
}

#[derive(Debug)]
struct Restored {
    /// The record that says so.
    seq: u64,
    /// Records of the copy, and how many were known of.
    from: u64,
    known: u64,
    /// Runs that had not ended then.
    open: Vec<RunId>,
}

impl Upkeep {
    /// The next record, whose body was removed.
    pub fn bare(&mut self, sealed: &Sealed) {
        *self.bare.entry(sealed.run.clone()).or_default() += 1;
    }

    /// The next record.
    pub fn record(&mut self, record: &Record) {
        // Every time on record was written by the program; what cannot be read tells nothing.
        if let Some(now) = parse_time(&record.time) {
            if let (Some(every), Some(then)) = (self.every_ms, self.last_ms)
                && now > then.saturating_add(every).saturating_add(LATE_MS)
            {
                self.silent.push((then, now));
            }
            self.last_ms = Some(now);
        }
        match &record.event {
            Event::RunEnded { .. } => {
                self.open.remove(&record.run);
            }
            Event::Installation(notice) => self.notice(record.seq, notice),
            _ => {
                self.open.entry(record.run.clone()).or_insert(record.seq);
            }
        }
    }

    fn notice(&mut self, seq: u64, notice: &Notice) {
        match notice {
            Notice::Heartbeat { every_ms, .. } => self.every_ms = every_ms.or(self.every_ms),
            Notice::LedgerRecovered { at_size, records, .. } => self.recovered.push((*at_size, *records)),
            // A copy is as long as what stands before the record that speaks of it, whatever that record says.
            Notice::LedgerRestored { known_size, .. } => self.restored.push(Restored {
                seq,
                from: seq,
                known: *known_size,
                open: self.open.keys().cloned().collect(),
            }),
            Notice::Purged { purged_run, records, removed, .. } => {
                self.purged.insert(purged_run.clone(), (*records, *removed));
            }
            _ => {}
        }
    }

    /// Why a head of this size may be of another history: an older copy was put back, and the record says so.
    pub fn explains(&self, size: u64) -> Option<String> {
        let restored = self.restored.iter().find(|restored| restored.from < size && size <= restored.known)?;
        Some(restored.text())
    }

    /// Whether records of a run have no body any more.
    pub fn is_bare(&self, run: &RunId) -> bool {
        self.bare.contains_key(run)
    }

    /// The list of contents that were removed with a run, when that is on record.
    pub fn removed(&self, run: &RunId) -> Option<&Sha256> {
        self.purged.get(run).map(|(_, list)| list)
    }

    /// What of it concerns the run that is judged, and what can be said of the ledger as a whole.
    pub fn finish(&self, run: &RunId, verdict: &mut Verdict) {
        for (of, bare) in &self.bare {
            let accounted = self.purged.get(of).map_or(0, |(records, _)| *records);
            if *bare > accounted {
                let missing = usize::try_from(bare - accounted).unwrap_or(usize::MAX);
                let what = format!("{} of run {of} missing without purge record", count(missing, "record"));
                verdict.gaps.push(Gap { host: None, step: None, what });
            } else {
                verdict.held(format!("the contents of run {of} were removed after their time, and that is on record"));
            }
        }
        for (at, records) in &self.recovered {
            let records = usize::try_from(*records).unwrap_or(usize::MAX);
            verdict.held(format!(
                "after a crash {} from {at} on were set aside, beyond the last signed head; that is on record",
                count(records, "record")
            ));
        }
        for restored in &self.restored {
            if restored.open.contains(run) {
                verdict.gaps.push(Gap { host: None, step: None, what: restored.text() });
            } else {
                verdict.held(format!("{}; the run that is judged had no part in it", restored.text()));
            }
        }
        let Some(every) = self.every_ms else { return };
        match self.silent.iter().max_by_key(|(from, to)| to - from) {
            None => verdict.held(format!("the ledger was never silent for longer than {}", elapsed(every + LATE_MS))),
            Some((from, to)) => verdict.unchecked(format!(
                "what became of the ledger while it was silent: {} longer than the {} promised, the longest from {} to {}",
                count(self.silent.len(), "time"),
                elapsed(every),
                rfc3339_ms(*from),
                rfc3339_ms(*to)
            )),
        }
    }
}

impl Restored {
    fn text(&self) -> String {
        format!(
            "an older copy of the ledger was put back (record {} says so): of the {} records known of then, those from {} on are gone",
            self.seq, self.known, self.from
        )
    }
}

#[cfg(test)]
mod tests {
    use runbook_ledger::Sealer;
    use runbook_model::event::{ClockState, Person};
    use runbook_model::record::Head;

    use super::*;
    use crate::verdict::{Code, Subject};

    const MINUTE: u64 = 60_000;

    fn run(name: &str) -> RunId {
        name.into()
    }

    fn person() -> Person {
        Person { name: "ann".into(), uid: 1000, from: None }
    }

    fn beat() -> Event {
        Event::Installation(Notice::Heartbeat { clock: ClockState::default(), every_ms: Some(15 * MINUTE) })
    }

    /// Records at these minutes; `None` in the place of an event: its body is gone.
    fn judge(of: &str, records: &[(u64, &str, Option<Event>)]) -> (Verdict, Upkeep) {
        let mut upkeep = Upkeep::default();
        let mut sealer = Sealer::new(&Head::default()).unwrap();
        for (minute, run, event) in records {
            let known = event.clone().unwrap_or(Event::RunStarted);
            let sealed = sealer.seal(minute * MINUTE, 0, &self::run(run), 0, &known).unwrap();
            match event {
                Some(_) => upkeep.record(&runbook_ledger::record::parse(&sealed.bytes).unwrap()),
                None => upkeep.bare(&sealed),
            }
        }
        let mut verdict = Verdict::new(Subject::Run, of);
        upkeep.finish(&run(of), &mut verdict);
        verdict.settle();
        (verdict, upkeep)
    }

    #[test]
    fn bodies_without_a_purge_record_are_a_gap() {
        let purged = |records| {
            Event::Installation(Notice::Purged {
                purged_run: run("a"),
                request: Sha256::of(b""),
                signatures: Vec::new(),
                removed: Sha256::of(b"list"),
                records,
                blobs: 0,
                by: person(),
            })
        };
        let bare = [(0, "a", None), (0, "a", None)];
        let (verdict, _) = judge("b", &bare);
        assert_eq!(verdict.code, Code::Incomplete.number());
        assert_eq!(verdict.gaps[0].what, "2 records of run a missing without purge record");
        let (verdict, upkeep) = judge("b", &[&bare[..], &[(1, "installation", Some(purged(2)))]].concat());
        assert!(verdict.gaps.is_empty(), "{verdict:?}");
        assert_eq!(upkeep.removed(&run("a")), Some(&Sha256::of(b"list")));
        let (verdict, _) = judge("b", &[&bare[..], &[(1, "installation", Some(purged(1)))]].concat());
        assert_eq!(verdict.gaps[0].what, "1 record of run a missing without purge record");
    }

    #[test]
    fn an_older_copy_is_a_gap_of_the_runs_that_were_open_and_explains_heads_of_what_is_gone() {
        let restored = Event::Installation(Notice::LedgerRestored {
            known_size: 9,
            known_root: Sha256::of(b""),
            restored_size: 7,
            reason: "disk".into(),
            by: person(),
        });
        let records =
            [(0, "a", Some(Event::RunStarted)), (1, "installation", Some(restored)), (2, "b", Some(Event::RunStarted))];
        let (verdict, upkeep) = judge("a", &records);
        assert_eq!((verdict.code, verdict.gaps.len()), (12, 1));
        assert!(judge("b", &records).0.gaps.is_empty());
        assert!(upkeep.explains(1).is_none() && upkeep.explains(2).is_some() && upkeep.explains(9).is_some());
        assert!(upkeep.explains(10).is_none());
    }

    #[test]
    fn a_silence_is_told_once_heartbeats_were_promised() {
        let start = || Some(Event::RunStarted);
        let (verdict, _) = judge("a", &[(0, "a", start()), (900, "a", start())]);
        assert!(verdict.not_checked.is_empty(), "nothing was promised");
        let beats = [(0, "installation", Some(beat())), (16, "installation", Some(beat())), (30, "a", start())];
        let (verdict, _) = judge("a", &beats);
        assert!(verdict.checked.iter().any(|text| text.contains("never silent")), "{verdict:?}");
        let (verdict, _) = judge("a", &[&beats[..], &[(90, "a", start())]].concat());
        assert!(verdict.not_checked[0].contains("1 time longer than the 15m"), "{verdict:?}");
    }
}
