//! The screen: a heading, the hosts that matter most, counts of the rest.
//!
//! With few hosts each has its line, and what runs shows the last line that it printed. With more than fit, hosts are
//! chosen: those that need attention, then those that run, longest first; the rest is counted by state. What it gives
//! never has more lines or columns than it was allowed.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_model::outcome::{AttemptOutcome, HostOutcome, Wait};
use runbook_model::plan::Plan;
use runbook_model::record::Record;
use runbook_model::units::format_size;
use runbook_model::{Cell, Event, HostName};

use super::tail::Tail;
use crate::matrix::label;
use crate::style::{Palette, Tone, host_tone, words};
use crate::text::{clock, count, cut, escape_line, fit, list, time_of_day, width};
use crate::view::{HostView, RunState, RunView};

/// So many hosts have a line each, whatever their state.
const HOSTS_LISTED: usize = 12;

/// The rank of a host that waits for its turn; those below it are worth a line.
const WAITING: u8 = 7;

/// Hosts with their names.
type Listed<'a> = Vec<(&'a HostName, &'a HostView)>;

/// The model.
#[derive(Debug, Clone)]
pub struct Screen {
    view: RunView,
    tails: BTreeMap<Cell, Tail>,
    transfers: BTreeMap<Cell, (u64, u64)>,
    waits: BTreeMap<Cell, Wait>,
    notice: Option<String>,
    palette: Palette,
}

impl Screen {
    /// A screen for a run of `plan`.
    pub fn new(plan: Arc<Plan>, palette: Palette) -> Self {
        Self {
            view: RunView::new(plan),
            tails: BTreeMap::new(),
            transfers: BTreeMap::new(),
            waits: BTreeMap::new(),
            notice: None,
            palette,
        }
    }

    /// What the run has come to.
    pub fn view(&self) -> &RunView {
        &self.view
    }

    /// A record was committed.
    pub fn record(&mut self, record: &Record) {
        self.view.fold(record);
        if let Event::AttemptEnded { attempt, .. } | Event::AttemptStarted { attempt, .. } = &record.event {
            let cell = attempt.cell();
            self.tails.remove(&cell);
            self.transfers.remove(&cell);
            self.waits.remove(&cell);
        }
    }

    /// A running attempt has printed something.
    pub fn output(&mut self, cell: &Cell, bytes: &[u8]) {
        match self.tails.get_mut(cell) {
            Some(tail) => tail.push(bytes),
            None => self.tails.entry(cell.clone()).or_default().push(bytes),
        }
    }

    /// A host does not answer and is waited for, or not any more.
    pub fn waiting(&mut self, cell: &Cell, wait: Option<&Wait>) {
        match wait {
            Some(wait) => self.waits.insert(cell.clone(), wait.clone()),
            None => self.waits.remove(cell),
        };
    }

    /// A transfer goes on.
    pub fn progress(&mut self, cell: &Cell, done: u64, total: u64) {
        self.transfers.insert(cell.clone(), (done, total));
    }

    /// Says something in the last line until it is replaced: what Ctrl-C did, what is asked.
    pub fn notice(&mut self, text: Option<String>) {
        self.notice = text;
    }

    /// The lines to show now, at most `height`, each at most `columns` wide.
    pub fn lines(&self, columns: usize, height: usize, now_ms: u64) -> Vec<String> {
        let columns = columns.max(20);
        let height = height.max(3);
        let mut out = vec![self.heading(columns, now_ms)];
        let foot = self.foot(columns, now_ms);
        let room = height.saturating_sub(1 + foot.len());
        let (hosts, counted) = self.chosen();
        let name_columns = hosts.iter().map(|(name, _)| width(name.as_str())).max().unwrap_or(4).clamp(4, 20);
        let mut shown = 0;
        let mut used = 0;
        for (name, host) in &hosts {
            let mut lines = vec![self.host_line(name, host, name_columns, columns, now_ms)];
            if let Some(line) = self.below(name, host, name_columns, columns) {
                lines.push(line);
            }
            // The last line that fits is kept for the count of what is not shown.
            let rest = hosts.len() - shown - 1 + counted.len();
            if used + lines.len() + usize::from(rest > 0) > room {
                break;
            }
            used += lines.len();
            shown += 1;
            out.extend(lines);
        }
        let rest: Vec<_> = hosts[shown..].iter().chain(&counted).copied().collect();
        if !rest.is_empty() && used < room {
            out.push(self.counts(&rest, columns));
        }
        out.extend(foot);
        out.truncate(height);
        out
    }

    fn heading(&self, columns: usize, now_ms: u64) -> String {
        let view = &self.view;
        // A run that waits for its hosts has not been opened.
        let time =
            view.header.as_ref().map(|header| clock(now_ms.saturating_sub(header.started_ms))).unwrap_or_default();
        let mut parts = vec![count(view.hosts.len(), "host")];
        if view.plan.batches.len() > 1
            && let Some(batch) = view.batch
        {
            parts.push(format!("batch {} of {}", batch + 1, view.plan.batches.len()));
        }
        if view.hosts.len() > 1 {
            let ended = view.hosts.values().filter(|host| host.outcome.is_some()).count();
            parts.push(format!("{ended} ended"));
        }
        let bad = view.hosts.values().filter(|host| is_bad(host)).count();
        if bad > 0 {
            parts.push(format!("{bad} failed"));
        }
        if view.cancel.is_some() {
            parts.push("cancelling".into());
        }
        let left = format!("{}  {}", view.plan.runbook.name, parts.join(", "));
        let left = fit(&left, columns.saturating_sub(time.len() + 2));
        self.palette.paint(Tone::Strong, &format!("{left}  {time}"))
    }

    /// Hosts worth a line, and hosts that are only counted. All are worth one when they are few; else those that need
    /// attention first, then those that are worked on, the longest first.
    fn chosen(&self) -> (Listed<'_>, Listed<'_>) {
        let hosts = self.view.hosts.iter();
        if self.view.hosts.len() <= HOSTS_LISTED {
            return (hosts.collect(), Vec::new());
        }
        let (mut listed, counted): (Listed<'_>, Listed<'_>) = hosts.partition(|(_, host)| attention(host) < WAITING);
        listed.sort_by_key(|(_, host)| (attention(host), host.phase_ms.or(host.started_ms).unwrap_or(u64::MAX)));
        (listed, counted)
    }

    fn host_line(&self, name: &HostName, host: &HostView, names: usize, columns: usize, now_ms: u64) -> String {
        let (state, tone, text, time) = self.state_of(name, host, now_ms);
        if columns < 48 {
            // No room for columns: what matters most, cut.
            let text = escape_line(text.as_bytes());
            return self.palette.paint(tone, &cut(&format!("{name} {state} {text}"), columns));
        }
        let name = self.palette.paint(Tone::Strong, &fit(name.as_str(), names));
        // Two columns before, two between each part, twelve for the state, the time at the right edge.
        let time_columns = 7;
        let room = columns.saturating_sub(2 + names + 2 + 11 + 2 + 1 + time_columns);
        let text = fit(&escape_line(text.as_bytes()), room);
        let time = time.map(clock).unwrap_or_default();
        let line = format!("  {name}  {}  {text} {time:>time_columns$}", self.palette.paint(tone, &fit(&state, 11)));
        line.trim_end().to_owned()
    }

    /// The state's word, how it looks, what goes on, and for how long.
    fn state_of(&self, host_name: &HostName, host: &HostView, now_ms: u64) -> (String, Tone, String, Option<u64>) {
        if let Some(outcome) = host.outcome {
            let time = host.started_ms.zip(host.ended_ms).map(|(start, end)| end.saturating_sub(start));
            let reason = if outcome == HostOutcome::Succeeded { String::new() } else { host.reason.clone() };
            return (words(outcome.name()), host_tone(outcome), reason, time);
        }
        if host.held {
            return ("held".into(), Tone::Dim, "waits for its peers".into(), None);
        }
        if is_ready(host) {
            return ("ready".into(), Tone::Dim, "waits for its turn".into(), None);
        }
        let Some(phase) = host.phase else {
            return match host.started_ms {
                None => ("waiting".into(), Tone::Dim, String::new(), None),
                Some(start) => {
                    let text = host.obstacle.as_ref().map(|obstacle| obstacle.message.clone()).unwrap_or_default();
                    let state = if host.facts.is_some() { "connected" } else { "connecting" };
                    (state.into(), Tone::Active, text, Some(now_ms.saturating_sub(start)))
                }
            };
        };
        let tone = if phase == runbook_model::Phase::Rollback { Tone::Warn } else { Tone::Active };
        if let Some((id, attempt)) = host.running() {
            let step = self.view.plan.step(id);
            let name = step.map_or_else(|| id.to_string(), |step| label(step).to_owned());
            let mut text = name;
            if attempt.attempt > 1 {
                let of = step.map_or(0, |step| step.retry.attempts);
                text.push_str(&format!(" (attempt {} of {of})", attempt.attempt));
            }
            if let Some(lost) = &attempt.lost {
                let tried = self.waits.get(&Cell { host: host_name.clone(), step: id.clone() });
                let tried = tried.map(|wait| format!(", tried again in {}", in_seconds(wait.next_ms, now_ms)));
                let tried = tried.unwrap_or_default();
                text = format!("lost since {}{tried}: {text}", time_of_day(lost.since_ms));
                return (phase.name().into(), Tone::Warn, text, Some(now_ms.saturating_sub(lost.since_ms)));
            }
            if let Some(wait) = self.waits.get(&Cell { host: host_name.clone(), step: id.clone() }) {
                text = format!("no answer, tried again in {}: {text}", in_seconds(wait.next_ms, now_ms));
            }
            return (phase.name().into(), tone, text, Some(now_ms.saturating_sub(attempt.started_ms)));
        }
        if let Some((id, (at, why))) = host.steps.iter().find_map(|(id, cell)| Some((id, cell.retry.as_ref()?))) {
            let text = format!("{id} again in {} ({why})", clock(at.saturating_sub(now_ms)));
            return (phase.name().into(), tone, text, host.phase_ms.map(|start| now_ms.saturating_sub(start)));
        }
        (phase.name().into(), tone, String::new(), host.phase_ms.map(|start| now_ms.saturating_sub(start)))
    }

    /// What stands below a host's line: how far a transfer is, or what the running step printed last.
    fn below(&self, name: &HostName, host: &HostView, names: usize, columns: usize) -> Option<String> {
        let (step, attempt) = host.running()?;
        let cell = Cell { host: name.clone(), step: step.clone() };
        let text = match self.transfers.get(&cell) {
            _ if attempt.lost.is_some() || self.waits.contains_key(&cell) => {
                let wait = self.waits.get(&cell);
                let recorded = attempt.lost.as_ref().map(|lost| (lost.until_ms, &lost.reason));
                let (until_ms, why) = wait.map(|wait| (wait.until_ms, &wait.why)).or(recorded)?;
                format!("given up at {} UTC; {}", time_of_day(until_ms), escape_line(why.as_bytes()))
            }
            Some((done, total)) if *total > 0 => {
                let percent = (u128::from(*done) * 100 / u128::from(*total)).min(100) as usize;
                let filled = percent / 5;
                let bar = format!("{}{}", "#".repeat(filled), "-".repeat(20 - filled));
                format!("[{bar}] {percent:>3}%  {} of {}", format_size(*done), format_size(*total))
            }
            Some((done, _)) => format!("{} so far", format_size(*done)),
            None => escape_line(self.tails.get(&cell)?.line()?),
        };
        let room = columns.saturating_sub(names + 6);
        Some(format!("{}{}", " ".repeat(names + 4), self.palette.paint(Tone::Dim, &cut(&format!("| {text}"), room))))
    }

    fn counts(&self, hosts: &[(&HostName, &HostView)], columns: usize) -> String {
        let mut states: BTreeMap<(u8, String), usize> = BTreeMap::new();
        for (_, host) in hosts {
            let word = match (host.outcome, host.phase, host.started_ms) {
                (Some(outcome), _, _) => words(outcome.name()),
                _ if is_ready(host) => "ready".into(),
                (None, Some(phase), _) => format!("in {phase}"),
                (None, None, Some(_)) => "connecting".into(),
                (None, None, None) => "waiting".into(),
            };
            *states.entry((attention(host), word)).or_default() += 1;
        }
        let parts: Vec<String> = states.iter().map(|((_, word), n)| format!("{n} {word}")).collect();
        let text = cut(&format!("  and {}", list(&parts, 8)), columns);
        self.palette.paint(Tone::Dim, &text)
    }

    fn foot(&self, columns: usize, now_ms: u64) -> Vec<String> {
        let mut out = Vec::new();
        let mut put = |tone, text: String| out.push(self.palette.paint(tone, &cut(&text, columns)));
        if let Some(until) = self.view.soak_until_ms
            && until > now_ms
        {
            put(Tone::Dim, format!("pause between batches: the next may begin in {}", clock(until - now_ms)));
        }
        if let Some((spent, budget)) = self.view.budget {
            put(
                Tone::Warn,
                format!("failure budget spent ({spent} failed, {budget} allowed): no further host is started"),
            );
        }
        match &self.notice {
            Some(notice) => put(Tone::Warn, escape_line(notice.as_bytes())),
            None if self.view.cancel.is_some() && self.view.state == RunState::Running => {
                put(Tone::Warn, "cancelling: running steps are ended, hosts that changed are rolled back".into());
            }
            None => {}
        }
        out
    }
}

fn is_bad(host: &HostView) -> bool {
    match host.outcome {
        Some(outcome) => outcome != HostOutcome::Succeeded,
        None => host.steps.values().any(|cell| {
            matches!(cell.outcome, Some(AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Unknown))
        }),
    }
}

/// `8 s`; from two minutes on as a clock.
fn in_seconds(at_ms: u64, now_ms: u64) -> String {
    match at_ms.saturating_sub(now_ms).div_ceil(1_000) {
        0 => "0 s".into(),
        seconds if seconds < 120 => format!("{seconds} s"),
        seconds => clock(seconds * 1_000),
    }
}

/// It is through with a phase and has not come to the next one: others go first.
fn is_ready(host: &HostView) -> bool {
    let ended = |phase| host.phases.get(&phase).is_some_and(Option::is_some);
    host.outcome.is_none() && host.phase.is_some_and(ended) && host.running().is_none()
}

/// Smaller needs a person's eye more.
fn attention(host: &HostView) -> u8 {
    match host.outcome {
        Some(HostOutcome::Unknown) => 0,
        Some(HostOutcome::Stuck) => 1,
        Some(HostOutcome::Failed) => 2,
        Some(HostOutcome::RolledBack | HostOutcome::Blocked | HostOutcome::Cancelled) => 5,
        Some(HostOutcome::Succeeded) => 8,
        None if host.phase == Some(runbook_model::Phase::Rollback) => 3,
        None if is_ready(host) => WAITING,
        None if host.phase.is_some() => 4,
        None if host.started_ms.is_some() => 6,
        None => WAITING,
    }
}
