//! What is due by itself: occurrences of schedules, and what is to become of each.
//!
//! An occurrence is due at a moment, and may be begun late until another. What became of it is settled once, under its
//! key; [`Timetable::look`] says what is not settled and has to be now. Where the clock jumps over a time, or shows it
//! twice, it is as with windows (see [`crate::calendar`]).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use runbook_model::schedule::{Occurrence, Occurs, Schedules};

use crate::calendar::recurring::{Fault, Recurring};
use crate::calendar::{Calendar, Moved};

/// What is wrong with a schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Its times.
    #[error("{0}")]
    Times(Fault),
    /// It runs when a window opens that is not there.
    #[error("windows.yaml has no window `{0}`")]
    NoWindow(String),
}

/// Once due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Its key.
    pub occurrence: Occurrence,
    /// The moment.
    pub at: Timestamp,
    /// From then on it is too late.
    pub until: Timestamp,
    /// What the clock did to it.
    pub moved: Option<Moved>,
}

/// What is to be done about an occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It is run.
    Fire(Due),
    /// It is too late, or a later one of the same schedule is due: it is said to have been missed.
    Miss(Due),
}

impl Step {
    /// The occurrence.
    pub fn due(&self) -> &Due {
        match self {
            Self::Fire(due) | Self::Miss(due) => due,
        }
    }
}

#[derive(Debug, Clone)]
enum Rule {
    Times(Box<Recurring>),
    Window { name: String, late_ms: Option<u64> },
}

#[derive(Debug, Clone)]
struct Entry {
    rule: Rule,
    notice_before_ms: Option<u64>,
}

/// Schedules that were checked, with the windows that they go by. Those that are not enabled are not in it.
#[derive(Debug, Clone, Default)]
pub struct Timetable {
    entries: BTreeMap<String, Entry>,
    calendar: Option<Calendar>,
}

impl Timetable {
    /// Checks rules, zones and windows, of those that are not enabled too.
    ///
    /// # Errors
    /// All that do not fit, by the schedule's name.
    pub fn new(said: &Schedules, calendar: Option<&Calendar>) -> Result<Self, Vec<(String, Misfit)>> {
        let mut misfits = Vec::new();
        let mut entries = BTreeMap::new();
        for (name, schedule) in &said.schedules {
            let rule = match &schedule.when {
                Occurs::Times(times) => {
                    Recurring::new(times).map(|times| Rule::Times(Box::new(times))).map_err(Misfit::Times)
                }
                Occurs::Window { window, late_ms } => {
                    let there = calendar.is_some_and(|calendar| calendar.said().windows.contains_key(window));
                    match there {
                        true => Ok(Rule::Window { name: window.clone(), late_ms: *late_ms }),
                        false => Err(Misfit::NoWindow(window.clone())),
                    }
                }
            };
            match rule {
                Ok(rule) if schedule.enabled => {
                    entries.insert(name.clone(), Entry { rule, notice_before_ms: schedule.notice_before_ms });
                }
                Ok(_) => {}
                Err(misfit) => misfits.push((name.clone(), misfit)),
            }
        }
        if misfits.is_empty() { Ok(Self { entries, calendar: calendar.cloned() }) } else { Err(misfits) }
    }

    /// Names of the schedules in force.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The occurrences after `after`, up to `until` and with it, in order.
    pub fn between(&self, schedule: &str, after: Timestamp, until: Timestamp) -> Vec<Due> {
        let Some(entry) = self.entries.get(schedule) else { return Vec::new() };
        let end = until.saturating_add(SignedDuration::from_millis(1)).unwrap_or(Timestamp::MAX);
        let (openings, late_ms) = match &entry.rule {
            Rule::Times(times) => (times.openings(after, end), None),
            Rule::Window { name, late_ms } => {
                let calendar = self.calendar.as_ref();
                (calendar.map(|calendar| calendar.openings(name, after, end)).unwrap_or_default(), *late_ms)
            }
        };
        let openings = openings.into_iter().filter(|open| open.start > after && open.start <= until);
        let due = openings.filter_map(|open| {
            let late = late_ms.and_then(|ms| {
                open.start.saturating_add(SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))).ok()
            });
            Some(Due {
                occurrence: Occurrence {
                    schedule: schedule.to_owned(),
                    at_ms: u64::try_from(open.start.as_millisecond()).ok()?,
                },
                at: open.start,
                until: late.unwrap_or(open.end).min(open.end),
                moved: open.moved,
            })
        });
        due.collect()
    }

    /// The next occurrence after a moment, within [`Calendar::AHEAD`].
    pub fn next(&self, schedule: &str, after: Timestamp) -> Option<Due> {
        // Most come within weeks; the far ones are looked for only then.
        for hours in [24, 45 * 24, Calendar::AHEAD.as_hours()] {
            let until = after.saturating_add(SignedDuration::from_hours(hours)).unwrap_or(Timestamp::MAX);
            if let Some(due) = self.between(schedule, after, until).into_iter().next() {
                return Some(due);
            }
        }
        None
    }

    /// When to look again: the next moment after `now` at which something is due, too late, or to be told.
    pub fn next_moment(&self, now: Timestamp) -> Option<Timestamp> {
        let of = |name: &str, entry: &Entry| {
            let next = self.next(name, now)?;
            let told = entry.notice_before_ms.map(|before| earlier(next.at, before)).filter(|told| *told > now);
            Some(told.map_or(next.at, |told| told.min(next.at)))
        };
        self.entries.iter().filter_map(|(name, entry)| of(name, entry)).min()
    }

    /// What is to be done at `now` about what became due after `since` (by schedule; of others nothing is) and is not
    /// settled, in the order of their moments. Of several of one schedule the last alone is run.
    pub fn look(
        &self,
        since: &BTreeMap<String, Timestamp>,
        settled: &BTreeSet<Occurrence>,
        now: Timestamp,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        for name in self.entries.keys() {
            let Some(since) = since.get(name) else { continue };
            let mut due = self.between(name, *since, now);
            let last = due.pop();
            let missed = due.into_iter().map(Step::Miss);
            let last = last.map(|due| if now < due.until { Step::Fire(due) } else { Step::Miss(due) });
            steps.extend(missed.chain(last).filter(|step| !settled.contains(&step.due().occurrence)));
        }
        steps.sort_by_key(|step| step.due().at);
        steps
    }

    /// The occurrences that are still to come and of which it is time to tell.
    pub fn upcoming(&self, now: Timestamp) -> Vec<Due> {
        let of = |(name, entry): (&String, &Entry)| {
            let before = entry.notice_before_ms?;
            self.next(name, now).filter(|next| earlier(next.at, before) <= now)
        };
        self.entries.iter().filter_map(of).collect()
    }
}

fn earlier(moment: Timestamp, ms: u64) -> Timestamp {
    moment.saturating_sub(SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))).unwrap_or(Timestamp::MIN)
}
