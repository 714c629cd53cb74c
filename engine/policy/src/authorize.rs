//! The one decision that every way into a run goes through.
//!
//! The driver begins nothing without a [`Granted`], and only [`authorize`] makes one: so the command line, a resumption, a
//! schedule and whatever comes later cannot differ in what they allow.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use runbook_model::approval::Used;
use runbook_model::event::ClockState;
use runbook_model::permit::{Class, Closing, Permit, Stretch};
use runbook_model::rehearsal::Rehearsed;
use runbook_model::retention;
use runbook_model::rules::Owed;
use runbook_model::ticket::Seen;
use runbook_model::{HostName, Sha256};

use crate::calendar::{Calendar, Closed, Cover, State};
use crate::clock;
use crate::reviews::{self, Reviewable, Standing};
use crate::rules::{Judged, Policed, goes_on, judge};

/// How far ahead of its beginning a run is told its times. What would begin later needs a resumption, and is decided anew.
pub const HORIZON: jiff::SignedDuration = jiff::SignedDuration::from_hours(31 * 24);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A new run.
    Apply,
    /// A new run of the prechecks alone: it changes nothing, so it may be at any time.
    Check,
    /// Going on with a run. What was begun is brought to its end at any time; what was not begun waits for its window.
    Resume,
    /// Taking a run up only to take it back: no host is begun, so nothing is asked.
    Cancel,
    /// A new run that takes a finished one back.
    TakeBack,
}

/// What holds here. The default: nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rules<'r> {
    /// The calendar, with the digest of its file; `None`: there is none.
    pub calendar: Option<(&'r Calendar, Sha256)>,
    /// The policy; `None`: there is none. What it asks for is asked when a run is opened.
    pub policy: Option<Policed<'r>>,
}

/// All that the decision is made from.
#[derive(Debug, Clone)]
pub struct Ask {
    /// What is asked for.
    pub act: Act,
    /// The moment.
    pub now: Timestamp,
    /// When the run was opened that is gone on with; its hosts may have been begun from then on.
    pub since: Option<Timestamp>,
    /// The hosts, with what of the calendar is for each.
    pub hosts: BTreeMap<HostName, Cover>,
    /// How long a host is expected to take.
    pub estimate: Estimate,
    /// Why windows, blackouts and freezes are set aside; `None`: they are not.
    pub break_glass: Option<String>,
    /// Why it is run; `None`: nobody said.
    pub reason: Option<String>,
    /// The runs that owe reviews.
    pub reviews: Vec<Reviewable>,
    /// What this machine's clock says of itself; the default: nothing is known of it.
    pub clock: ClockState,
    /// How far clocks may be off in the run that is gone on with, as its opening says.
    pub clock_max_offset_ms: Option<u64>,
    /// It is a rehearsal, so none is asked for.
    pub rehearses: bool,
}

impl Ask {
    /// For `act` at that moment, of which nothing more is known: of no host.
    pub fn new(act: Act, now: Timestamp) -> Self {
        Self {
            act,
            now,
            since: None,
            hosts: BTreeMap::new(),
            estimate: Estimate { needs_ms: 0, source: String::new() },
            break_glass: None,
            reason: None,
            reviews: Vec::new(),
            clock: ClockState::default(),
            clock_max_offset_ms: None,
            rehearses: false,
        }
    }
}

/// How long a host is expected to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Estimate {
    /// With what is kept free for its way back, in milliseconds.
    pub needs_ms: u64,
    /// Where that comes from, for people.
    pub source: String,
}

/// A permit that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    permit: Permit,
    break_glass: Option<String>,
    policy: Option<Sha256>,
    people: Option<Sha256>,
    approvals: Vec<Used>,
    reason: Option<String>,
    reviews: Vec<Owed>,
    clock_max_offset_ms: Option<u64>,
    retention: Option<retention::Class>,
    rehearses: bool,
    rehearsed: Option<Rehearsed>,
    change: Option<Seen>,
}

impl Granted {
    /// The same, held to the times that were approved too.
    pub fn within(mut self, approved: &Permit) -> Self {
        if self.break_glass.is_none() {
            self.permit = self.permit.within(approved);
        }
        self
    }

    /// While it cannot be made out what is allowed, and why: no further host is begun, and what has begun goes on to its end.
    pub fn nothing(why: String) -> Self {
        let permit = Permit { closed: Some(why), ..Permit::default() };
        Self {
            permit,
            break_glass: None,
            policy: None,
            people: None,
            approvals: Vec::new(),
            reason: None,
            reviews: Vec::new(),
            clock_max_offset_ms: None,
            retention: None,
            rehearses: false,
            rehearsed: None,
            change: None,
        }
    }

    /// It was asked for as a rehearsal.
    pub fn rehearses(&self) -> bool {
        self.rehearses
    }

    /// The rehearsal that it needed.
    pub fn rehearsed(&self) -> Option<&Rehearsed> {
        self.rehearsed.as_ref()
    }

    /// The change that its ticket is of, as it stood.
    pub fn change(&self) -> Option<&Seen> {
        self.change.as_ref()
    }

    /// What is allowed.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// Why windows, blackouts and freezes are set aside; `None`: they are not.
    pub fn break_glass(&self) -> Option<&str> {
        self.break_glass.as_deref()
    }

    /// Digest of the policy that it was granted under; `None`: no policy.
    pub fn policy(&self) -> Option<Sha256> {
        self.policy
    }

    /// Digest of the people's file that the policy was asked with.
    pub fn people(&self) -> Option<Sha256> {
        self.people
    }

    /// Why it is run; `None`: nobody said.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The reviews that it owes after its end.
    pub fn reviews(&self) -> &[Owed] {
        &self.reviews
    }

    /// The class as which the evidence is kept at least; `None`: as the hosts say.
    pub fn retention(&self) -> Option<retention::Class> {
        self.retention
    }

    /// How far the clocks of hosts may be off at most.
    pub fn clock_max_offset_ms(&self) -> Option<u64> {
        self.clock_max_offset_ms
    }

    /// The approvals that it needed.
    pub fn approvals(&self) -> &[Used] {
        &self.approvals
    }
}

/// Why nothing is granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// One per reason, for people; at least one.
    pub reasons: Vec<String>,
    /// When it would be allowed, if that is known.
    pub next: Option<Timestamp>,
    /// The policy does not allow it; else the time is not right.
    pub by_policy: bool,
    /// Reviews of earlier runs are overdue. They are told first.
    pub overdue: bool,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join("; "))
    }
}

impl std::error::Error for Refusal {}

/// Decides.
///
/// # Errors
/// When the policy does not allow it, or when none of the hosts may be begun now. If some may, the run is granted with
/// times for each, and the others are blocked when their turn comes.
pub fn authorize(rules: Rules<'_>, ask: &Ask) -> Result<Granted, Refusal> {
    // A run goes on with what was authorized when it was opened; but not in anybody's hands.
    let going_on = rules.policy.filter(|_| ask.act == Act::Resume).map(|policed| goes_on(policed, ask));
    let policed = rules.policy.filter(|_| !matches!(ask.act, Act::Resume | Act::Cancel));
    let judged = policed.map_or_else(Judged::default, |policed| judge(policed, ask));
    // Whoever asks, and whatever the policy says by now: what a run owes stands in its opening.
    let mut reasons = overdue(ask);
    let overdue = !reasons.is_empty();
    let mut of_policy = judged.reasons();
    of_policy.extend(going_on.unwrap_or_default());
    if let (Act::Resume, Some(most)) = (ask.act, ask.clock_max_offset_ms) {
        of_policy.extend(clock::misfit(&ask.clock, most));
    }
    let by_policy = !of_policy.is_empty();
    reasons.extend(of_policy);
    match times(rules, ask) {
        Ok(permit) if reasons.is_empty() => Ok(Granted {
            permit,
            break_glass: ask.break_glass.clone(),
            policy: policed.map(|policed| policed.sha256),
            people: policed.and_then(|policed| policed.people_sha256),
            approvals: judged.used,
            reason: ask.reason.clone(),
            reviews: judged.owes,
            clock_max_offset_ms: judged.clock_max_offset_ms,
            retention: judged.retention,
            rehearses: ask.rehearses,
            rehearsed: judged.rehearsed,
            change: judged.change,
        }),
        Ok(_) => Err(Refusal { reasons, next: None, by_policy, overdue }),
        Err((at_this_time, next)) => {
            reasons.extend(at_this_time);
            Err(Refusal { reasons, next, by_policy, overdue })
        }
    }
}

/// Why overdue reviews forbid it. Ways back, what goes on and what changes nothing are not held up.
pub fn overdue(ask: &Ask) -> Vec<String> {
    match ask.act {
        Act::Apply => reviews::open(&ask.reviews, ask.now).iter().filter_map(Standing::blocks).collect(),
        Act::Check | Act::Resume | Act::Cancel | Act::TakeBack => Vec::new(),
    }
}

/// When which hosts may be begun; or, when none may now, why, and when one may.
fn times(rules: Rules<'_>, ask: &Ask) -> Result<Permit, (Vec<String>, Option<Timestamp>)> {
    let Some((calendar, sha256)) = rules.calendar else {
        return Ok(Permit::default());
    };
    let mut permit = Permit { windows: Some(sha256), ..Permit::default() };
    if ask.break_glass.is_some() || matches!(ask.act, Act::Check | Act::Cancel) {
        return Ok(permit);
    }
    let from = ask.since.map_or(ask.now, |since| since.min(ask.now));
    let until = ask.now.saturating_add(HORIZON).unwrap_or(Timestamp::MAX);
    let far = ask.now.saturating_add(Calendar::AHEAD).unwrap_or(Timestamp::MAX);
    let mut covers: BTreeMap<&Cover, Vec<HostName>> = BTreeMap::new();
    for (host, cover) in &ask.hosts {
        covers.entry(cover).or_default().push(host.clone());
    }
    let (mut reasons, mut next, mut may_begin) = (Vec::new(), None, false);
    for (cover, hosts) in covers {
        let stretches = calendar.stretches(cover, from, until);
        let estimate = &ask.estimate;
        let fits = |open: &&crate::calendar::Stretch| {
            let from = open.start.max(ask.now);
            from.duration_until(open.end).as_millis() >= i128::from(estimate.needs_ms)
        };
        match stretches.iter().find(fits) {
            Some(open) if open.start <= ask.now => may_begin = true,
            fitting => {
                let later = || calendar.stretches(cover, until, far).into_iter().find(|open| fits(&open));
                next = [next, fitting.copied().or_else(later).map(|open| open.start)].into_iter().flatten().min();
                reasons.push(reason(calendar, cover, &hosts, ask));
            }
        }
        // What nothing ever closes needs no times.
        let whole = [crate::calendar::Stretch { start: from, end: until }];
        if cover.windows.is_empty() && stretches == whole {
            continue;
        }
        permit.classes.push(Class {
            hosts,
            windows: cover.windows.iter().cloned().collect(),
            stretches: stretches.iter().map(stretch).collect(),
            closings: calendar.closed(cover, from, until).into_iter().map(closing).collect(),
            needs_ms: estimate.needs_ms,
            estimate: estimate.source.clone(),
        });
    }
    if may_begin || ask.act == Act::Resume || ask.hosts.is_empty() {
        return Ok(permit);
    }
    Err((reasons, next))
}

fn stretch(open: &crate::calendar::Stretch) -> Stretch {
    let ms = |moment: Timestamp| u64::try_from(moment.as_millisecond()).unwrap_or(0);
    Stretch { start_ms: ms(open.start), end_ms: ms(open.end) }
}

fn closing((closed, what): (crate::calendar::Stretch, String)) -> Closing {
    let Stretch { start_ms, end_ms } = stretch(&closed);
    Closing { start_ms, end_ms, what }
}

/// Why hosts so covered may not be begun now.
fn reason(calendar: &Calendar, cover: &Cover, hosts: &[HostName], ask: &Ask) -> String {
    let who = match hosts {
        [host] => host.to_string(),
        [first, second] => format!("{first} and {second}"),
        [first, .., _] => format!("{first} and {} more hosts", hosts.len() - 1),
        [] => String::new(),
    };
    let windows = match cover.windows.iter().collect::<Vec<_>>().as_slice() {
        [] => String::new(),
        [window] => format!("window {window}"),
        windows => format!("windows {}", windows.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")),
    };
    let because = |name: &str, reason: &str| match reason {
        "" => name.to_owned(),
        reason => format!("{name} ({reason})"),
    };
    match calendar.state(cover, ask.now) {
        State::Closed(Closed::Freeze { name, reason, until }) => {
            format!("{who}: everything is frozen by {} until {until}", because(&name, &reason))
        }
        State::Closed(Closed::Blackout { name, reason, until }) => {
            let reason = reason.unwrap_or_default();
            format!("{who}: closed by the blackout {} until {until}", because(&name, &reason))
        }
        State::Closed(Closed::Outside { next: Some(next) }) => {
            format!("{who}: outside of {windows}, which next opens at {}", next.start)
        }
        State::Closed(Closed::Outside { next: None }) => {
            format!("{who}: outside of {windows}, which does not open again within two years")
        }
        State::Open { until } => {
            let minutes = |ms: u64| format!("{} min", ms.div_ceil(60_000));
            let left = u64::try_from(ask.now.duration_until(until).as_millis()).unwrap_or(0);
            let Estimate { needs_ms, source } = &ask.estimate;
            format!(
                "{who}: {windows} is open for {} more, and {} are needed ({source})",
                minutes(left),
                minutes(*needs_ms)
            )
        }
        State::Free => {
            let Estimate { needs_ms, source } = &ask.estimate;
            format!(
                "{who}: something closes before the {} min that are needed are over ({source})",
                needs_ms.div_ceil(60_000)
            )
        }
    }
}
