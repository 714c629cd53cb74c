//! Which moments are inside of windows.
//!
//! A window opens at a time of a day by the clock of a zone and stays open for a length of real time. Where the clock of
//! the zone jumps over the time, it opens as much later, or not at all, as [`Gap`](runbook_model::windows::Gap) says;
//! where the clock shows it twice, [`Overlap`](runbook_model::windows::Overlap) says which is meant. An opening is told
//! with what the clock did to it ([`Moved`]).

pub(crate) mod recurring;

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use runbook_model::plan::Tier;
use runbook_model::windows::{OnHoliday, When, Windows};

pub use recurring::Fault;
use recurring::Recurring;

/// What the clock did to an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// The time does not exist on that day; it is as much later as the clock jumps.
    Gap,
    /// The clock shows the time twice; this is the first.
    First,
    /// The clock shows the time twice; this is the second.
    Second,
}

/// Once open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// The first moment.
    pub start: Timestamp,
    /// The moment at which it is over.
    pub end: Timestamp,
    /// The day of its opening, by the clock of its zone.
    pub day: Date,
    /// What the clock did to it.
    pub moved: Option<Moved>,
}

/// From a moment to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stretch {
    /// The first moment.
    pub start: Timestamp,
    /// The moment at which it is over.
    pub end: Timestamp,
}

impl Stretch {
    /// Whether the moment lies in it.
    pub fn contains(&self, moment: Timestamp) -> bool {
        self.start <= moment && moment < self.end
    }
}

/// What of a calendar is for a host: names of windows and of blackouts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cover {
    /// Windows.
    pub windows: BTreeSet<String>,
    /// Blackouts.
    pub blackouts: BTreeSet<String>,
}

/// What a moment is for a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// No window is for the host, and nothing is closed.
    Free,
    /// Inside of a window, until then.
    Open {
        /// When the last of the windows that are open now, or follow without a pause, is over, or something closes.
        until: Timestamp,
    },
    /// Nothing may begin.
    Closed(Closed),
}

/// Why nothing may begin at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// No window is open.
    Outside {
        /// The next stretch of time in which one is, if there is one within [`Calendar::AHEAD`].
        next: Option<Stretch>,
    },
    /// A blackout.
    Blackout {
        /// Its name.
        name: String,
        /// Why.
        reason: Option<String>,
        /// When it is over.
        until: Timestamp,
    },
    /// A freeze.
    Freeze {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
        /// When it is over.
        until: Timestamp,
    },
}

/// What is wrong with a calendar, and where: the kind of entry, its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {name}: {fault}")]
pub struct Misfit {
    /// `window`, `blackout` or `freeze`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub fault: Fault,
}

#[derive(Debug, Clone)]
enum Closing {
    Once(Option<(Timestamp, Timestamp)>),
    Recurring(Box<Recurring>),
}

impl Closing {
    fn new(when: &When) -> Result<Self, Fault> {
        Ok(match when {
            When::Between { from, until, zone } => {
                Closing::Once(recurring::between(*from, *until, &recurring::zone(zone)?))
            }
            When::Times(times) => Closing::Recurring(Box::new(Recurring::new(times)?)),
        })
    }

    fn stretches(&self, from: Timestamp, until: Timestamp) -> Vec<Stretch> {
        match self {
            Closing::Once(Some((start, end))) if *end > from && *start < until => {
                vec![Stretch { start: *start, end: *end }]
            }
            Closing::Once(_) => Vec::new(),
            Closing::Recurring(recurring) => recurring
                .openings(from, until)
                .iter()
                .map(|open| Stretch { start: open.start, end: open.end })
                .collect(),
        }
    }
}

/// A calendar that was checked.
#[derive(Debug, Clone)]
pub struct Calendar {
    said: Windows,
    windows: BTreeMap<String, Recurring>,
    blackouts: BTreeMap<String, Closing>,
    freezes: BTreeMap<String, Closing>,
}

impl Calendar {
    /// How far ahead the next opening is looked for.
    pub const AHEAD: SignedDuration = SignedDuration::from_hours(2 * 366 * 24);

    /// Checks rules, zones and lengths.
    ///
    /// # Errors
    /// All that do not fit.
    pub fn new(said: &Windows) -> Result<Self, Vec<Misfit>> {
        let mut misfits = Vec::new();
        let mut keep = |kind, name: &String, fault| misfits.push(Misfit { kind, name: name.clone(), fault });
        let mut calendar =
            Self { said: said.clone(), windows: BTreeMap::new(), blackouts: BTreeMap::new(), freezes: BTreeMap::new() };
        for (name, window) in &said.windows {
            match Recurring::new(&window.times) {
                Ok(recurring) => drop(calendar.windows.insert(name.clone(), recurring)),
                Err(fault) => keep("window", name, fault),
            }
        }
        for (name, blackout) in &said.blackouts {
            match Closing::new(&blackout.when) {
                Ok(closing) => drop(calendar.blackouts.insert(name.clone(), closing)),
                Err(fault) => keep("blackout", name, fault),
            }
        }
        for (name, freeze) in &said.freezes {
            match Closing::new(&freeze.when) {
                Ok(closing) => drop(calendar.freezes.insert(name.clone(), closing)),
                Err(fault) => keep("freeze", name, fault),
            }
        }
        if misfits.is_empty() { Ok(calendar) } else { Err(misfits) }
    }

    /// What it was made of.
    pub fn said(&self) -> &Windows {
        &self.said
    }

    /// What of it is for a host, for work of that tier: `selects` tells whether a selection has the host in it.
    pub fn cover(&self, tier: Tier, mut selects: impl FnMut(&str) -> bool) -> Cover {
        let mut chosen = |hosts: &Option<String>| hosts.as_deref().is_none_or(&mut selects);
        let windows =
            self.said.windows.iter().filter(|(_, window)| window.tiers.contains(&tier) && chosen(&window.hosts));
        let windows = windows.map(|(name, _)| name.clone()).collect();
        let blackouts = self.said.blackouts.iter().filter(|(_, blackout)| chosen(&blackout.hosts));
        Cover { windows, blackouts: blackouts.map(|(name, _)| name.clone()).collect() }
    }

    /// Every opening of a window that is not over at `from` and begins before `until`, in order; those that are left out
    /// for a holiday are not there.
    pub fn openings(&self, window: &str, from: Timestamp, until: Timestamp) -> Vec<Open> {
        let (Some(recurring), Some(said)) = (self.windows.get(window), self.said.windows.get(window)) else {
            return Vec::new();
        };
        let mut openings = recurring.openings(from, until);
        if said.holidays == OnHoliday::Skip {
            openings.retain(|open| !self.said.holidays.contains(&open.day));
        }
        openings
    }

    /// The stretches of time in which work on hosts so covered may begin: windows together, less what closes them. Ends
    /// are those of the windows themselves, also beyond `until`. Without windows, all of the time that nothing closes,
    /// from `from` to `until`.
    pub fn stretches(&self, cover: &Cover, from: Timestamp, until: Timestamp) -> Vec<Stretch> {
        let open = if cover.windows.is_empty() {
            vec![Stretch { start: from, end: until }]
        } else {
            let all = cover.windows.iter().flat_map(|window| self.openings(window, from, until));
            joined(all.map(|open| Stretch { start: open.start, end: open.end }).collect())
        };
        let last = open.iter().map(|stretch| stretch.end).max().unwrap_or(until);
        let closed = self.closings(cover, from, last.max(until));
        less(open, &joined(closed.into_iter().map(|(stretch, _, _)| stretch).collect()))
    }

    /// What a moment is for hosts so covered.
    pub fn state(&self, cover: &Cover, now: Timestamp) -> State {
        let soon = now.checked_add(SignedDuration::from_millis(1)).unwrap_or(now);
        let closings = self.closings(cover, now, soon);
        // A freeze is said before a blackout: it is for everyone.
        let closing =
            closings.into_iter().filter(|(stretch, _, _)| stretch.contains(now)).max_by_key(|(_, kind, _)| *kind);
        if let Some((stretch, kind, name)) = closing {
            let until = stretch.end;
            return State::Closed(match kind {
                Kind::Freeze => {
                    let reason = self.said.freezes.get(&name).map(|freeze| freeze.reason.clone()).unwrap_or_default();
                    Closed::Freeze { name, reason, until }
                }
                Kind::Blackout => {
                    let reason = self.said.blackouts.get(&name).and_then(|blackout| blackout.reason.clone());
                    Closed::Blackout { name, reason, until }
                }
            });
        }
        if cover.windows.is_empty() {
            return State::Free;
        }
        // Most windows open within weeks; the far ones are looked for only then.
        let near = now.saturating_add(SignedDuration::from_hours(45 * 24)).unwrap_or(Timestamp::MAX);
        let far = now.saturating_add(Self::AHEAD).unwrap_or(Timestamp::MAX);
        let mut next = self.stretches(cover, now, near).into_iter().next();
        if next.is_none() {
            next = self.stretches(cover, now, far).into_iter().next();
        }
        match next {
            Some(stretch) if stretch.contains(now) => State::Open { until: stretch.end },
            next => State::Closed(Closed::Outside { next }),
        }
    }

    /// What closes hosts so covered in between, in order, each in words.
    pub fn closed(&self, cover: &Cover, from: Timestamp, until: Timestamp) -> Vec<(Stretch, String)> {
        let mut closings = self.closings(cover, from, until);
        // A freeze is said before a blackout: it is for everyone.
        closings.sort_by_key(|(stretch, kind, _)| (stretch.start, std::cmp::Reverse(*kind)));
        let told = |(stretch, kind, name): (Stretch, Kind, String)| (stretch, self.because(kind, &name));
        closings.into_iter().map(told).collect()
    }

    fn because(&self, kind: Kind, name: &str) -> String {
        let with = |reason: Option<&String>| match reason.map(String::as_str) {
            None | Some("") => name.to_owned(),
            Some(reason) => format!("{name} ({reason})"),
        };
        match kind {
            Kind::Freeze => {
                format!("everything is frozen by {}", with(self.said.freezes.get(name).map(|freeze| &freeze.reason)))
            }
            Kind::Blackout => {
                let reason = self.said.blackouts.get(name).and_then(|blackout| blackout.reason.as_ref());
                format!("closed by the blackout {}", with(reason))
            }
        }
    }

    fn closings(&self, cover: &Cover, from: Timestamp, until: Timestamp) -> Vec<(Stretch, Kind, String)> {
        let blackouts = self.blackouts.iter().filter(|(name, _)| cover.blackouts.contains(*name));
        let blackouts = blackouts.map(|(name, closing)| (Kind::Blackout, name, closing));
        let all = blackouts.chain(self.freezes.iter().map(|(name, closing)| (Kind::Freeze, name, closing)));
        all.flat_map(|(kind, name, closing)| {
            closing.stretches(from, until).into_iter().map(move |stretch| (stretch, kind, name.clone()))
        })
        .collect()
    }

    /// The zone in which a window's times are told.
    pub fn zone(&self, window: &str) -> TimeZone {
        let name = self.said.windows.get(window).map(|window| window.times.zone.as_str());
        name.and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Blackout,
    Freeze,
}

/// Stretches that touch each other, as one; in order.
fn joined(mut stretches: Vec<Stretch>) -> Vec<Stretch> {
    stretches.sort_unstable();
    let mut all: Vec<Stretch> = Vec::new();
    for stretch in stretches {
        match all.last_mut() {
            Some(last) if stretch.start <= last.end => last.end = last.end.max(stretch.end),
            _ => all.push(stretch),
        }
    }
    all
}

/// `open` without `closed`; both joined.
fn less(open: Vec<Stretch>, closed: &[Stretch]) -> Vec<Stretch> {
    let mut left = Vec::new();
    for Stretch { mut start, end } in open {
        for closing in closed {
            if closing.end <= start || closing.start >= end {
                continue;
            }
            if closing.start > start {
                left.push(Stretch { start, end: closing.start });
            }
            start = closing.end;
        }
        if start < end {
            left.push(Stretch { start, end });
        }
    }
    left
}
