//! Since when each schedule is watched: `.runbook/serve.json`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};
use runbook_model::schedule::Schedules;
use runbook_model::{Sha256, canonical};
use serde::{Deserialize, Serialize};

use crate::failure::{Failure, fault};
use crate::project::Project;

/// A clock that was set back by no more is no reason to speak.
const SET_BACK: SignedDuration = SignedDuration::from_secs(60);

/// What was seen of the schedules.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    schedules: BTreeMap<String, Seen>,
    #[serde(skip)]
    path: PathBuf,
}

/// A schedule, and up to when everything that it was due for is settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// Of what it says.
    sha256: Sha256,
    /// The moment.
    since: Timestamp,
}

impl Memory {
    /// What the file says; nothing when it is not there or does not read.
    pub(super) fn of(project: &Project) -> Self {
        let path = project.state_path("serve.json");
        let read = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        Self { path, ..read.unwrap_or_default() }
    }

    /// Goes on with `said` at `now`: a schedule that is new, or says something else, counts from now on. Says whether the
    /// clock was set back.
    pub(super) fn meet(&mut self, said: &Schedules, now: Timestamp) -> bool {
        let mut set_back = false;
        let mut schedules = BTreeMap::new();
        for (name, schedule) in &said.schedules {
            let sha256 = canonical::digest(schedule);
            let seen = self.schedules.get(name).filter(|seen| seen.sha256 == sha256);
            let since = seen.map_or(now, |seen| seen.since);
            set_back |= since > now.saturating_add(SET_BACK).unwrap_or(Timestamp::MAX);
            schedules.insert(name.clone(), Seen { sha256, since: since.min(now) });
        }
        self.schedules = schedules;
        set_back
    }

    /// Since when each schedule is to be looked at.
    pub(super) fn since(&self) -> BTreeMap<String, Timestamp> {
        self.schedules.iter().map(|(name, seen)| (name.clone(), seen.since)).collect()
    }

    /// Everything up to `now` is settled, but for what became due at `open` (by schedule).
    pub(super) fn looked(&mut self, now: Timestamp, open: &BTreeMap<String, Timestamp>) {
        for (name, seen) in &mut self.schedules {
            let before = open.get(name).and_then(|at| at.checked_sub(SignedDuration::from_millis(1)).ok());
            seen.since = before.unwrap_or(now).min(now);
        }
    }

    /// Writes the file in the place of the old one.
    pub(super) fn keep(&self) -> Result<(), Failure> {
        let folder = self.path.parent().ok_or_else(|| fault("the state has no folder"))?;
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(fault)?;
        file.write_all(&canonical::bytes(self)).map_err(fault)?;
        file.persist(&self.path).map_err(|error| fault(error.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use runbook_lang::parse_schedule;

    use super::*;

    fn schedules(text: &str) -> Schedules {
        let text = format!("schema: schedule/v1\nzone: UTC\nschedules:\n{text}");
        parse_schedule("schedule.yaml", text.as_bytes()).unwrap().value.schedules
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_new_or_changed_counts_from_now_on_and_the_rest_goes_on() {
        let (monday, friday) = (at("2026-11-23T00:00:00Z"), at("2026-11-27T00:00:00Z"));
        let mut memory = Memory::default();
        let (a, b) = ("  a: {run: a.yaml, when: every day 22:00}\n", "  b: {run: b.yaml, when: every day 22:00}\n");
        assert!(!memory.meet(&schedules(&format!("{a}{b}")), monday));
        assert!(!memory.meet(
            &schedules(&format!("{a}{}  c: {{run: c.yaml, when: every day 22:00}}\n", b.replace("22", "21"))),
            friday
        ));
        let since = memory.since();
        assert_eq!((since["a"], since["b"], since["c"]), (monday, friday, friday));
        let open = BTreeMap::from([("b".to_owned(), at("2026-11-26T21:00:00Z"))]);
        memory.looked(friday, &open);
        assert_eq!(memory.since()["a"], friday);
        assert!(memory.since()["b"] < at("2026-11-26T21:00:00Z"));
    }

    #[test]
    fn a_clock_that_was_set_back_is_told_and_leaves_nothing_waiting_for_the_future() {
        let mut memory = Memory::default();
        let said = schedules("  a: {run: a.yaml, when: every day 22:00}\n");
        let (wrong, right) = (at("2027-11-23T00:00:00Z"), at("2026-11-23T00:00:00Z"));
        memory.meet(&said, wrong);
        assert!(memory.meet(&said, right));
        assert_eq!(memory.since()["a"], right);
    }
}
