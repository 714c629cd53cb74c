//! The end of a run for a tired person: what became of it, what was done, what was taken back, what remains, what to do.

use std::collections::BTreeMap;

use runbook_model::outcome::{AttemptOutcome, HostOutcome, ObstacleKind};
use runbook_model::plan::{Role, Step};
use runbook_model::{HostName, Phase, StepId};

use crate::json::{Attachments, attempt_reason, cell_reason};
use crate::list::short;
use crate::matrix::rows;
use crate::rehearsal;
use crate::style::{Palette, Tone, host_tone, words};
use crate::text::{count, cut, elapsed, escape_line, fit, list, wrap};
use crate::view::{HostView, RunState, RunView};

/// Hosts of one kind that are told about one by one.
const HOSTS_TOLD: usize = 10;

/// Paths of a host that are named.
const PATHS_TOLD: usize = 5;

/// Lines of what a failed attempt printed that are shown.
const LINES_SAID: usize = 3;

/// What the caller knows and the record does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circumstances<'a> {
    /// Evidence could not be recorded: why. The exit code is 9.
    pub unrecorded: Option<&'a str>,
    /// The operator left the run; nothing was cancelled.
    pub detached: bool,
    /// Where the evidence is: the project's state folder.
    pub evidence: &'a str,
}

/// The summary, one text per line.
pub fn lines(
    view: &RunView,
    attachments: &Attachments,
    circumstances: Circumstances<'_>,
    columns: usize,
    palette: Palette,
) -> Vec<String> {
    let mut page = Page { lines: Vec::new(), columns: columns.clamp(40, 120), palette };
    verdict(&mut page, view, circumstances);
    let set_aside = |why: &String| format!("windows, blackouts and freezes were set aside: {why}");
    page.section("Break glass", &view.break_glass.iter().map(set_aside).collect::<Vec<_>>());
    hosts(&mut page, view, attachments);
    what_was_done(&mut page, view, attachments);
    monitoring(&mut page, view, circumstances);
    page.section("Next", &next_steps(view, circumstances));
    evidence(&mut page, view, attachments, circumstances);
    page.lines
}

struct Page {
    lines: Vec<String>,
    columns: usize,
    palette: Palette,
}

const KEY: usize = 14;

impl Page {
    fn section(&mut self, key: &str, sentences: &[String]) {
        let mut key = fit(key, KEY);
        for sentence in sentences {
            for line in wrap(&escape_line(sentence.as_bytes()), self.columns - KEY) {
                let head = self.palette.paint(Tone::Dim, &key);
                self.lines.push(format!("{head}{line}"));
                key = " ".repeat(KEY);
            }
        }
    }
}

/// What an exit code says of the hosts, in one sentence.
pub fn meaning(outcome: HostOutcome, check_only: bool) -> &'static str {
    match outcome {
        HostOutcome::Succeeded if check_only => "every precheck passed; nothing was changed",
        HostOutcome::Succeeded => "done and verified on every host",
        HostOutcome::Blocked => "refused or blocked before the first change; nothing was changed",
        HostOutcome::Failed => "failed, and changes may remain",
        HostOutcome::RolledBack => "failed; every change was rolled back and that was verified",
        HostOutcome::Stuck => "stuck: a rollback failed or could not be verified",
        HostOutcome::Unknown => "an outcome is unknown, and an operator must settle it",
        HostOutcome::Cancelled => "cancelled; what had begun was rolled back and verified",
    }
}

fn verdict(page: &mut Page, view: &RunView, circumstances: Circumstances<'_>) {
    let check_only = view.header.as_ref().is_some_and(|header| header.check_only);
    let took = elapsed(view.ended_ms.unwrap_or(view.last_ms).saturating_sub(view.started_ms()));
    let (word, tone, sentence, code) = match (circumstances.unrecorded, view.outcome) {
        (Some(why), _) => (
            "NOT RECORDED".to_owned(),
            Tone::Bad,
            format!("evidence could not be recorded, so the run stopped before its next action: {why}"),
            Some(9),
        ),
        (None, _) if circumstances.detached => {
            ("LEFT".to_owned(), Tone::Warn, "you left the run; what runs on the hosts goes on".to_owned(), None)
        }
        (None, Some(outcome)) => (
            words(outcome.name()).to_uppercase(),
            host_tone(outcome),
            verdict_sentence(view, outcome, check_only),
            Some(outcome.exit_code()),
        ),
        (None, None) => ("OPEN".to_owned(), Tone::Warn, "the run has not ended".to_owned(), None),
    };
    // What was meant is no failure, whatever it is called on the hosts.
    let (word, tone, sentence, code) = match rehearsal_sentence(view) {
        Some(proved) if circumstances.unrecorded.is_none() && view.state == RunState::Ended => match proved {
            Ok(sentence) => ("REHEARSED".to_owned(), Tone::Good, sentence, code),
            Err(fault) if view.outcome == Some(HostOutcome::Succeeded) => {
                ("NOT REHEARSED".to_owned(), Tone::Warn, format!("nothing was tried: {fault}"), code)
            }
            Err(fault) => (word, tone, format!("{sentence}; it does not count as a rehearsal: {fault}"), code),
        },
        _ => (word, tone, sentence, code),
    };
    let runbook = &view.plan.runbook.name;
    page.lines.push(String::new());
    let head =
        format!("{}  {runbook} on {} in {took}", page.palette.paint(tone, &word), count(view.hosts.len(), "host"));
    page.lines.push(head);
    let code = code
        .map(|code| rehearsal::exit_code(view, code))
        .map(|code| format!(" (exit code {code})"))
        .unwrap_or_default();
    for line in wrap(&format!("{sentence}{code}"), page.columns) {
        page.lines.push(line);
    }
    page.lines.push(String::new());
}

/// The meaning of the run's outcome; the worst host decides it, so what became of the others is said too.
pub(crate) fn verdict_sentence(view: &RunView, outcome: HostOutcome, check_only: bool) -> String {
    if let Some(run) = takes_back(view)
        && outcome == HostOutcome::RolledBack
    {
        return format!("run {run} was taken back, and that was verified");
    }
    let good = view.hosts.values().all(|host| host.outcome == Some(HostOutcome::Succeeded));
    if outcome == HostOutcome::Failed && good && !crate::session::left_open(view).is_empty() {
        return "done and verified on every host; but a session stays open, and that fails the run".to_owned();
    }
    if outcome == HostOutcome::Stuck && good && !crate::access::left(view).is_empty() {
        return "done and verified on every host; but access that the run was given is not shown to be withdrawn, and that \
                waits for an operator"
            .to_owned();
    }
    let kept = kept(view).len();
    let also = match kept {
        0 => return meaning(outcome, check_only).to_owned(),
        1 => "1 other host".to_owned(),
        n => format!("{n} other hosts"),
    };
    match outcome {
        HostOutcome::Succeeded => meaning(outcome, check_only).to_owned(),
        HostOutcome::Blocked => {
            format!("some hosts were blocked before their first change; the change was made and verified on {also}")
        }
        HostOutcome::RolledBack => {
            format!("failed; what failed was rolled back and that was verified; the verified change stays on {also}")
        }
        HostOutcome::Cancelled => {
            format!("cancelled; what was under way was rolled back and verified; the verified change stays on {also}")
        }
        _ => format!("{}; the verified change stays on {also}", meaning(outcome, check_only)),
    }
}

/// What came of the run, in a line, for who keeps a ticket of it.
pub fn in_a_line(view: &RunView) -> String {
    let Some(outcome) = view.outcome else { return "the run has not ended".to_owned() };
    let check_only = view.header.as_ref().is_some_and(|header| header.check_only);
    let took = elapsed(view.ended_ms.unwrap_or(view.last_ms).saturating_sub(view.started_ms()));
    let (runbook, hosts) = (&view.plan.runbook.name, count(view.hosts.len(), "host"));
    format!("{runbook} on {hosts} in {took}: {}", verdict_sentence(view, outcome, check_only))
}

/// What a rehearsal proves, or why it proves nothing; `None`: the run is none.
pub(crate) fn rehearsal_sentence(view: &RunView) -> Option<Result<String, String>> {
    if !view.header.as_ref()?.rehearses {
        return None;
    }
    let faults = rehearsal::faults(view);
    Some(match faults.is_empty() {
        true => {
            Ok("the change was made and verified, and taken back and verified, on every host: all is as before"
                .to_owned())
        }
        false => Err(list(&faults.iter().map(String::as_str).collect::<Vec<_>>(), 3)),
    })
}

/// The run that this one takes back, in short.
fn takes_back(view: &RunView) -> Option<&str> {
    view.header.as_ref()?.takes_back.as_ref().map(|run| short(run.as_str()))
}

/// Hosts that succeeded, and on which something was changed.
fn kept(view: &RunView) -> Vec<&str> {
    let good = |host: &HostView| host.outcome == Some(HostOutcome::Succeeded) && touched(view, host);
    view.hosts.iter().filter(|(_, host)| good(host)).map(|(name, _)| name.as_str()).collect()
}

/// Hosts that became the same: the word for it, how it looks, and who they are.
type Kind<'a> = (String, Tone, Vec<(&'a HostName, &'a HostView)>);

/// Each kind of outcome with its hosts, worst first; those that need attention with their reason.
fn hosts(page: &mut Page, view: &RunView, attachments: &Attachments) {
    let mut kinds: BTreeMap<u8, Kind<'_>> = BTreeMap::new();
    for (name, host) in &view.hosts {
        let (rank, word, tone) = match host.outcome {
            Some(outcome) => (rank(outcome), words(outcome.name()), host_tone(outcome)),
            None if host.started_ms.is_some() => (3, "open".to_owned(), Tone::Warn),
            None => (8, "not started".to_owned(), Tone::Dim),
        };
        kinds.entry(rank).or_insert_with(|| (word, tone, Vec::new())).2.push((name, host));
    }
    let name_columns = view.hosts.keys().map(|name| name.as_str().len()).max().unwrap_or(4).clamp(4, 24);
    for (rank, (word, tone, hosts)) in &kinds {
        let plain = *rank >= 7;
        if plain && hosts.len() > 3 || hosts.len() > HOSTS_TOLD {
            let names: Vec<&str> = hosts.iter().map(|(name, _)| name.as_str()).collect();
            let text = format!("{}: {}", count(hosts.len(), "host"), list(&names, 8));
            let mut key = page.palette.paint(*tone, &fit(word, KEY));
            for line in wrap(&text, page.columns - KEY) {
                page.lines.push(format!("{key}{line}"));
                key = " ".repeat(KEY);
            }
            if plain {
                continue;
            }
        }
        for (name, host) in hosts.iter().take(HOSTS_TOLD) {
            let reason = reason(view, host);
            let head = page.palette.paint(*tone, &fit(word, KEY));
            let indent = KEY + name_columns + 2;
            let room = page.columns.saturating_sub(indent).max(20);
            let mut text = wrap(&escape_line(reason.as_bytes()), room).into_iter();
            let first = text.next().unwrap_or_default();
            let line = format!("{head}{}  {first}", fit(name.as_str(), name_columns));
            page.lines.push(line.trim_end().to_owned());
            for line in text {
                page.lines.push(format!("{}{line}", " ".repeat(indent)));
            }
            let said = failed_output(host).and_then(|output| attachments.said.get(&output.blob?));
            for line in said.map(|bytes| last_lines(bytes)).unwrap_or_default() {
                let line = cut(&format!("| {line}"), room);
                page.lines.push(format!("{}{}", " ".repeat(indent), page.palette.paint(Tone::Dim, &line)));
            }
        }
    }
}

/// Nobody works on it any more, although it has no end on record.
fn is_left(circumstances: Circumstances<'_>) -> bool {
    circumstances.unrecorded.is_some() || circumstances.detached
}

/// Loudly where a mute may not be over; a mute that came and went is told by `show`.
fn monitoring(page: &mut Page, view: &RunView, circumstances: Circumstances<'_>) {
    let still = crate::monitoring::still_muted(view, is_left(circumstances));
    for line in &still {
        let loud = page.palette.paint(Tone::Bad, &fit("STILL MUTED", KEY));
        let mut key = loud;
        for line in wrap(&escape_line(line.as_bytes()), page.columns - KEY) {
            page.lines.push(format!("{key}{line}"));
            key = " ".repeat(KEY);
        }
    }
    let mut told: Vec<String> = Vec::new();
    for (system, muted) in &view.mutes.systems {
        match &muted.failed {
            Some((act, why)) => told.push(format!("{system}: {} failed: {why}", act.name())),
            None if !muted.ended_by_others.is_empty() => {
                told.push(format!("{system}: somebody else ended {}", count(muted.ended_by_others.len(), "silence")));
            }
            None => {}
        }
    }
    page.section("Monitoring", &told);
}

/// The last lines with something in them, escaped.
fn last_lines(bytes: &[u8]) -> Vec<String> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let mut lines: Vec<String> = lines.map(|line| escape_line(line.trim_ascii_end())).collect();
    lines.split_off(lines.len().saturating_sub(LINES_SAID))
}

fn rank(outcome: HostOutcome) -> u8 {
    match outcome {
        HostOutcome::Unknown => 0,
        HostOutcome::Stuck => 1,
        HostOutcome::Failed => 2,
        HostOutcome::RolledBack => 4,
        HostOutcome::Cancelled => 5,
        HostOutcome::Blocked => 6,
        HostOutcome::Succeeded => 7,
    }
}

fn reason(view: &RunView, host: &HostView) -> String {
    if host.outcome == Some(HostOutcome::Succeeded) {
        return String::new();
    }
    if !host.reason.is_empty() {
        return host.reason.clone();
    }
    if let Some(reason) = &host.rollback_reason {
        return reason.clone();
    }
    let bad =
        |outcome| matches!(outcome, Some(AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Unknown));
    rows(view, host)
        .iter()
        .find(|row| bad(row.outcome))
        .map(|row| format!("{} `{}`: {}", row.step.phase, row.step.id, cell_reason(row).unwrap_or_default()))
        .or_else(|| host.obstacle.as_ref().map(|obstacle| obstacle.message.clone()))
        .unwrap_or_default()
}

fn what_was_done(page: &mut Page, view: &RunView, attachments: &Attachments) {
    let mut changed = Vec::new();
    let mut taken_back = Vec::new();
    let mut remains = Vec::new();
    for (name, host) in &view.hosts {
        if !touched(view, host) {
            continue;
        }
        changed.push(name.as_str());
        match host.outcome {
            Some(HostOutcome::RolledBack | HostOutcome::Cancelled) => taken_back.push(name.as_str()),
            Some(HostOutcome::Succeeded) => {}
            _ => remains.push(name.as_str()),
        }
    }
    let steps = |role: fn(&Step) -> bool| {
        let mut n = 0;
        for host in view.hosts.values() {
            n += view
                .plan
                .steps
                .iter()
                .filter(|step| role(step))
                .filter(|step| {
                    host.steps.get(&step.id).is_some_and(|cell| cell.outcome == Some(AttemptOutcome::Succeeded))
                })
                .count();
        }
        n
    };
    let done = steps(|step| step.phase == Phase::Execute && !step.read_only);
    let mut sentences = Vec::new();
    if takes_back(view).is_some() {
        // What was done is the finished run's; this one takes back.
    } else if changed.is_empty() {
        sentences.push("nothing was changed on any host".to_owned());
    } else {
        let paths: usize = view
            .hosts
            .values()
            .flat_map(|host| &host.steps)
            .filter(|(id, _)| !compares(view, id))
            .filter_map(|(_, cell)| attachments.changes.get(cell.changes.as_ref()?))
            .map(Vec::len)
            .sum();
        let paths =
            if paths == 0 { String::new() } else { format!("; {} changed among those declared", count(paths, "path")) };
        let done = if done == 0 { "no step".to_owned() } else { count(done, "step") };
        sentences.push(format!("{done} of the change succeeded, on {}{paths}", list(&changed, 8)));
    }
    page.section("Done", &sentences);
    page.section("Undeclared", &undeclared(view, attachments));
    let undone = steps(|step| matches!(step.role, Role::Undo { .. }));
    let restored = steps(|step| matches!(step.role, Role::Restore { .. }));
    if !taken_back.is_empty() {
        let mut how = Vec::new();
        if undone > 0 {
            how.push(format!("{} undone", count(undone, "step")));
        }
        if restored > 0 {
            how.push(format!("{} restored", count(restored, "snapshot")));
        }
        let how = if how.is_empty() { String::new() } else { format!(" ({})", how.join(", ")) };
        page.section("Taken back", &[format!("{}{how}, and verified", list(&taken_back, 8))]);
    }
    let kept = kept(view);
    let mut left = Vec::new();
    if !remains.is_empty() {
        left.push(format!("changes may remain on {}; nobody has verified in what state", list(&remains, 8)));
    }
    if !kept.is_empty() && view.outcome != Some(HostOutcome::Succeeded) {
        left.push(format!("the verified change on {}", list(&kept, 8)));
    }
    if left.is_empty() && !taken_back.is_empty() {
        left.push("no change of this run".to_owned());
    }
    page.section("Remains", &left);
    let left = crate::access::left(view);
    let told: Vec<String> = left.iter().take(HOSTS_TOLD).map(|(name, what)| format!("{name}: {what}")).collect();
    page.section("Access", &told);
    let open = crate::session::left_open(view);
    let told: Vec<String> = open.iter().take(HOSTS_TOLD).map(|(name, what)| format!("{name}: {what}")).collect();
    page.section("Open session", &told);
    match crate::json::snapshots(view).len() {
        0 => {}
        1 => page.section("Snapshots", &["1 snapshot of this run still exists".to_owned()]),
        n => page.section("Snapshots", &[format!("{n} snapshots of this run still exist")]),
    }
}

/// The step looks for changes that no step declares.
fn compares(view: &RunView, id: &StepId) -> bool {
    view.plan.step(id).is_some_and(|step| step.role == Role::Undeclared)
}

/// What changed under the watched roots and no step declares, host by host.
fn undeclared(view: &RunView, attachments: &Attachments) -> Vec<String> {
    let mut told = Vec::new();
    for (name, host) in &view.hosts {
        let found = host.steps.iter().filter(|(id, _)| compares(view, id));
        for changes in found.filter_map(|(_, cell)| attachments.changes.get(cell.changes.as_ref()?)) {
            let paths: Vec<&str> = changes.iter().map(|change| change.path.as_str()).collect();
            let count = count(paths.len(), "path");
            told.push(format!("{count} on {name} changed, and no step declares it: {}", list(&paths, PATHS_TOLD)));
        }
    }
    let more = told.len().saturating_sub(HOSTS_TOLD);
    if more > 0 {
        told.truncate(HOSTS_TOLD);
        told.push(format!(
            "and on {more} more; `runbook show {}` lists all",
            view.run().map_or("", |run| short(run.as_str()))
        ));
    }
    told
}

/// Something that may change the host has begun there, in `execute` or in the rollback.
fn touched(view: &RunView, host: &HostView) -> bool {
    host.may_have_changed(&view.plan)
        || (view.header.as_ref().is_some_and(|header| header.takes_back.is_some())
            && host.phases.contains_key(&Phase::Rollback))
}

/// The plan can take a host back that it changed.
fn has_way_back(view: &RunView) -> bool {
    let plan = &view.plan;
    let back = |role: &Role| matches!(role, Role::Undo { .. } | Role::Restore { .. });
    plan.irreversible.is_none()
        && plan.steps.iter().all(|step| step.irreversible.is_none())
        && plan.steps.iter().any(|step| back(&step.role))
}

/// What somebody can do now, a sentence each.
pub fn next_steps(view: &RunView, circumstances: Circumstances<'_>) -> Vec<String> {
    let run = view.run().map(|run| short(run.as_str()).to_owned()).unwrap_or_default();
    if circumstances.unrecorded.is_some() {
        return vec![
            "make room on the disk or mend the database (`runbook doctor` says what is wrong), then".into(),
            format!("`runbook resume {run}` goes on where it stopped"),
        ];
    }
    if circumstances.detached || view.state == RunState::Running {
        return vec![format!("`runbook resume {run}` takes it up again; `runbook cancel {run}` takes it back")];
    }
    let with = |outcome| view.hosts.iter().filter(move |(_, host)| host.outcome == Some(outcome));
    let mut out = Vec::new();
    for (name, host) in with(HostOutcome::Unknown).take(3) {
        for (step, _) in crate::unknown::open(view, host).take(3) {
            let (id, settle) = (&step.id, crate::unknown::settle(view, name, &step.id));
            out.push(format!("find out on {name} whether `{id}` happened, then `{settle}`"));
        }
    }
    if with(HostOutcome::Stuck).next().is_some() {
        out.push(format!(
            "look at the stuck hosts now; mend what stopped the rollback, then `runbook resume {run}` tries it again"
        ));
    }
    if with(HostOutcome::Failed).next().is_some() {
        out.push(match (view.state == RunState::Suspended, has_way_back(view)) {
            (true, true) => {
                format!("`runbook resume {run}` tries the halted hosts again, `runbook cancel {run}` takes them back")
            }
            (true, false) => format!("look at the halted hosts; `runbook resume {run}` tries them again"),
            (false, true) => {
                format!("look at the failed hosts; `runbook rollback {run}` takes them back while snapshots live")
            }
            (false, false) => "look at the failed hosts: the plan has no way back".into(),
        });
    }
    let rehearsed = matches!(rehearsal_sentence(view), Some(Ok(_)));
    if rehearsed {
        out.push("apply it where it matters, with the same parameters".into());
    }
    let failed = takes_back(view).is_none() && !rehearsed;
    if let Some((name, _)) = with(HostOutcome::RolledBack).next().filter(|_| failed) {
        out.push(format!("the cause is in `runbook logs {run} --host {name}`; mend it and apply again"));
    }
    // Hosts that were never started are blocked by what stopped the run, and that is told already.
    if let Some((name, host)) = with(HostOutcome::Blocked).find(|(_, host)| host.started_ms.is_some()) {
        let connection = host.obstacle.as_ref().is_some_and(|obstacle| obstacle.kind != ObstacleKind::Local);
        out.push(if connection {
            format!("`runbook doctor --limit {name}` says how to mend the connection; then apply again")
        } else {
            format!("mend what blocked the hosts (`runbook explain {run}`), then apply again")
        });
    }
    if let Some((name, _)) = crate::access::left(view).first() {
        out.push(format!(
            "remove by hand on {name} what is left of the run's access, or mend what stopped its removal; `runbook resume \
             {run}` then removes it and tries that it is gone"
        ));
    }
    if !crate::monitoring::still_muted(view, is_left(circumstances)).is_empty() {
        out.push(
            "monitoring is unmuted by the next command that works here, or end the silence by hand (RB0791)".into(),
        );
    }
    if let Some((name, _)) = crate::session::left_open(view).first() {
        out.push(format!("end what is left open on {name} by hand: it is a way back in"));
    }
    if view.outcome == Some(HostOutcome::Cancelled) {
        out.push("apply again when it suits".into());
    }
    let back = matches!(view.outcome, Some(HostOutcome::RolledBack | HostOutcome::Cancelled));
    if back && !crate::json::snapshots(view).is_empty() {
        out.push(format!("`runbook snapshots release {run}` removes its snapshots"));
    }
    if view.outcome == Some(HostOutcome::Succeeded) {
        let check_only = view.header.as_ref().is_some_and(|header| header.check_only);
        if check_only {
            out.push("apply without --check to make the change".into());
        } else if !crate::json::snapshots(view).is_empty() {
            out.push(format!(
                "`runbook rollback {run}` would still take it back; when that is not needed any more, \
                 `runbook snapshots release {run}`"
            ));
        }
    }
    if out.is_empty() {
        out.push("nothing is left to do".into());
    }
    out
}

fn evidence(page: &mut Page, view: &RunView, attachments: &Attachments, circumstances: Circumstances<'_>) {
    let Some(run) = view.run() else { return };
    let mut sentences = vec![format!("run {run}")];
    if let Some(ledger) = &attachments.ledger {
        sentences.push(format!("{} records sealed in {}", ledger.size, circumstances.evidence));
    } else if !circumstances.evidence.is_empty() {
        sentences.push(format!("sealed in {}", circumstances.evidence));
    }
    let id = short(run.as_str());
    sentences.push(format!("`runbook show {id}`, `runbook explain {id}`, `runbook evidence verify {id}`"));
    page.section("Evidence", &sentences);
}

/// The last lines that a host's failed attempt printed are worth showing in the summary: which output has them, if any.
pub fn failed_output(host: &HostView) -> Option<&runbook_model::OutputRef> {
    let bad = |outcome| matches!(outcome, Some(AttemptOutcome::Failed | AttemptOutcome::TimedOut));
    host.steps
        .values()
        .filter_map(|cell| cell.attempts.last().filter(|attempt| bad(attempt.outcome)))
        .min_by_key(|attempt| attempt.started_ms)
        .filter(|attempt| attempt_reason(attempt).is_some())
        .and_then(|attempt| attempt.report.as_ref())
        .and_then(|report| [&report.stderr, &report.stdout].into_iter().find(|output| output.blob.is_some()))
}
