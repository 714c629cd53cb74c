//! What happened in a run, as text: the run, then each host with its steps and attempts.

use runbook_model::HostName;
use runbook_model::event::{RunHeader, Transfer};
use runbook_model::manifest::{Change, Entry};
use runbook_model::outcome::{AttemptOutcome, Ended, Exit, HostOutcome, OutputRef};
use runbook_model::units::format_size;

use crate::access;
use crate::json::{Attachments, attempt_reason, cell_reason, person};
use crate::list::short;
use crate::matrix::{Row, rows};
use crate::rehearsal;
use crate::session;
use crate::style::{Palette, Tone, attempt_tone, host_tone, words};
use crate::summary::rehearsal_sentence;
use crate::text::{change, count, cut, elapsed, escape_line, fit, part, revision, when, width, wrap};
use crate::unknown;
use crate::view::{AttemptView, HostView, Lost, RunState, RunView};

/// Beyond so many hosts those that succeeded take one line each, unless one is asked for by name.
const HOSTS_IN_FULL: usize = 20;

/// Paths listed per step.
const CHANGES_SHOWN: usize = 20;

/// The run as text. `columns` is where long lines are cut or wrapped.
pub fn text(
    view: &RunView,
    attachments: &Attachments,
    host: Option<&HostName>,
    columns: usize,
    palette: Palette,
) -> String {
    let mut page = Page { out: String::new(), columns: columns.max(40), palette };
    heading(&mut page, view, attachments, host);
    let fold = host.is_none() && view.hosts.len() > HOSTS_IN_FULL;
    for (name, entry) in &view.hosts {
        if host.is_none_or(|wanted| wanted == name) {
            page.blank(fold && entry.outcome == Some(HostOutcome::Succeeded));
            host_text(&mut page, view, attachments, name, entry, fold);
        }
    }
    page.out
}

struct Page {
    out: String,
    columns: usize,
    palette: Palette,
}

impl Page {
    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn blank(&mut self, unless: bool) {
        if !unless {
            self.out.push('\n');
        }
    }

    fn pair(&mut self, key: &str, value: &str) {
        let mut first = true;
        for line in wrap(value, self.columns - 11) {
            let key = if first { fit(key, 11) } else { " ".repeat(11) };
            let key = self.palette.paint(Tone::Dim, &key);
            self.line(&format!("{key}{line}"));
            first = false;
        }
    }

    fn note(&mut self, indent: usize, tone: Option<Tone>, text: &str) {
        for line in wrap(text, self.columns - indent) {
            let line = match tone {
                Some(tone) => self.palette.paint(tone, &line),
                None => line,
            };
            self.line(&format!("{}{line}", " ".repeat(indent)));
        }
    }
}

fn heading(page: &mut Page, view: &RunView, attachments: &Attachments, host: Option<&HostName>) {
    let runbook = &view.plan.runbook;
    let title =
        if runbook.title.is_empty() { String::new() } else { format!(": {}", escape_line(runbook.title.as_bytes())) };
    page.line(&page.palette.paint(Tone::Strong, &cut(&format!("{}{title}", runbook.name), page.columns)));
    let outcome = match (view.state, view.outcome) {
        (RunState::Running, _) if attachments.interrupted => {
            let run = view.run().map_or("", |run| short(run.as_str()));
            format!("open: its program has died; `runbook resume {run}` goes on with it")
        }
        (RunState::Running, _) => "open: it is being worked on".to_owned(),
        (RunState::Suspended, Some(outcome)) => {
            format!("{} (exit code {}); open, it can be resumed", words(outcome.name()), outcome.exit_code())
        }
        (_, Some(outcome)) => {
            format!("{} (exit code {})", words(outcome.name()), rehearsal::exit_code(view, outcome.exit_code()))
        }
        (_, None) => "not recorded".to_owned(),
    };
    page.pair("outcome", &outcome);
    page.pair("run", &view.run().map(ToString::to_string).unwrap_or_default());
    if let Some(header) = &view.header {
        if let Some(run) = &header.takes_back {
            page.pair("takes back", run.as_str());
        }
        if header.check_only {
            page.pair("check", "the prechecks alone were run");
        }
        match rehearsal_sentence(view) {
            Some(Ok(proves)) => page.pair("rehearsal", &proves),
            Some(Err(fault)) => {
                page.pair("rehearsal", &escape_line(format!("it proves nothing: {fault}").as_bytes()));
            }
            None => {}
        }
        page.pair("operator", &person(&header.operator));
        if let Some(at) = &header.revision {
            page.pair("revision", &escape_line(revision(at).as_bytes()));
        }
        for source in &header.inventory_sources {
            page.pair("inventory", &escape_line(crate::text::origin(source).as_bytes()));
        }
        if let Some(ticket) = &header.ticket {
            page.pair("ticket", &escape_line(ticket.as_bytes()));
        }
        if let Some(seen) = &header.change {
            page.pair("change", &escape_line(change(seen).as_bytes()));
        }
        if let Some(used) = &header.rehearsed {
            page.pair("rehearsed", &format!("run {}, which ended {}", used.run, when(used.ended_ms)));
        }
        if let Some(occurrence) = &header.occurrence {
            page.pair("scheduled", &escape_line(occurrence.to_string().as_bytes()));
        }
        if let Some(reason) = &header.reason {
            page.pair("reason", &escape_line(reason.as_bytes()));
        }
        match &header.policy {
            None => page.pair("policy", "no policy"),
            Some(policy) => page.pair("policy", &policy.to_string()),
        }
        if !header.approvals.is_empty() {
            page.pair("approved by", &approvers(header));
        }
        for why in &view.break_glass {
            page.pair(
                "set aside",
                &format!("windows, blackouts and freezes (break glass): {}", escape_line(why.as_bytes())),
            );
        }
        for done in &view.monitoring {
            page.pair("monitoring", &escape_line(format!("{} ({})", done.what, when(done.at_ms)).as_bytes()));
        }
        for line in crate::monitoring::still_muted(view, attachments.interrupted) {
            page.pair("monitoring", &escape_line(format!("STILL MUTED: {line}").as_bytes()));
        }
        if let Some(stands) = &attachments.review_stands {
            page.pair("review", &escape_line(stands.as_bytes()));
        }
        for review in &attachments.reviews {
            page.pair("reviewed", &escape_line(review.told().as_bytes()));
        }
        page.pair("started", &when(header.started_ms));
        if let Some(ended) = view.ended_ms {
            page.pair("ended", &format!("{} after {}", when(ended), elapsed(ended.saturating_sub(header.started_ms))));
        }
        page.pair("plan", &header.plan_sha256.to_string());
        let synchronised = match header.clock.synchronised {
            Some(true) => "synchronised",
            Some(false) => "NOT synchronised",
            None => "not known whether synchronised",
        };
        page.pair("clock", synchronised);
        page.pair("engine", &format!("{} on {}", header.engine_version, header.controller));
    }
    for (by, at) in &view.resumed {
        page.pair("resumed", &format!("{} by {}", when(*at), person(by)));
    }
    if let Some((by, at)) = &view.cancel {
        page.pair("cancelled", &format!("{} by {}", when(*at), person(by)));
    }
    if let Some((spent, budget)) = view.budget {
        page.pair("budget", &format!("spent: {spent} failed, {budget} allowed; no further host was started"));
    }
    if let Some(ledger) = &attachments.ledger {
        page.pair("ledger", &format!("{} records, root {}", ledger.size, ledger.root));
    }
    for anchor in &attachments.anchors {
        page.pair("anchor", &anchor.text());
    }
    for redaction in &attachments.redactions {
        if host.is_none_or(|host| host.as_str() == redaction.host) {
            page.pair("redacted", &escape_line(redaction.text().as_bytes()));
        }
    }
}

fn host_text(page: &mut Page, view: &RunView, attachments: &Attachments, name: &HostName, host: &HostView, fold: bool) {
    let (word, tone) = match host.outcome {
        Some(outcome) => (words(outcome.name()), host_tone(outcome)),
        None if host.started_ms.is_none() => ("not started".into(), Tone::Dim),
        None => (host.phase.map_or("open".into(), |phase| format!("in {phase}")), Tone::Active),
    };
    let took = match (host.started_ms, host.ended_ms) {
        (Some(start), Some(end)) => format!("  {}", elapsed(end.saturating_sub(start))),
        _ => String::new(),
    };
    page.line(&format!(
        "{}  {}  batch {}{took}",
        page.palette.paint(Tone::Strong, name.as_str()),
        page.palette.paint(tone, &word),
        host.batch + 1
    ));
    if !host.reason.is_empty() {
        page.note(2, None, &escape_line(host.reason.as_bytes()));
    }
    if let Some(obstacle) = &host.obstacle
        && obstacle.message != host.reason
    {
        page.note(2, None, &escape_line(obstacle.message.as_bytes()));
    }
    if fold && host.outcome == Some(HostOutcome::Succeeded) {
        return;
    }
    let rows = rows(view, host);
    if host.started_ms.is_none() && rows.iter().all(|row| !row.recorded) {
        if host.outcome.is_some() || view.state != RunState::Running {
            let reason = rows.first().map(|row| row.reason.clone()).unwrap_or_default();
            let reason = if reason == host.reason { String::new() } else { format!(": {reason}") };
            let text = format!("none of its {} steps began{reason}", rows.len());
            page.note(2, Some(Tone::Dim), &escape_line(text.as_bytes()));
        }
        return;
    }
    sessions(page, host);
    let mut phase = None;
    for row in rows {
        if phase != Some(row.step.phase) {
            phase = Some(row.step.phase);
            page.line(&page.palette.paint(Tone::Dim, &format!("  {}", row.step.phase)));
            if row.step.phase == runbook_model::Phase::Rollback
                && let Some(reason) = &host.rollback_reason
            {
                page.note(4, Some(Tone::Dim), &format!("because {}", escape_line(reason.as_bytes())));
            }
        }
        row_text(page, attachments, &row);
        question(page, view, name, host, &row);
    }
}

/// Who answered, how the account got in, and how that ended.
fn sessions(page: &mut Page, host: &HostView) {
    let remote = host.identity.as_ref().filter(|identity| identity.transport != "local");
    if let Some(identity) = remote {
        let mut text = format!("{} as {}", identity.transport, identity.account);
        match session::login(identity) {
            login if login.is_empty() => {}
            login => text.push_str(&format!(", by {login}")),
        }
        if !identity.peer_key.is_empty() {
            text.push_str(&format!("; host key {}", identity.peer_key));
        }
        if let Some(secured) = &identity.secured {
            text.push_str(&format!("; {}", secured.text()));
        }
        page.note(2, Some(Tone::Dim), &escape_line(text.as_bytes()));
        for hop in session::hops(identity) {
            page.note(2, Some(Tone::Dim), &escape_line(format!("over {hop}").as_bytes()));
        }
    }
    for granted in &host.access {
        for given in access::given(granted) {
            page.note(2, Some(Tone::Dim), &escape_line(given.as_bytes()));
        }
    }
    for closed in &host.closed {
        for (what, is_left) in closed.close.access.iter().flat_map(|withdrawal| access::ended(withdrawal)) {
            let tone = if is_left { Tone::Bad } else { Tone::Dim };
            page.note(2, Some(tone), &escape_line(what.as_bytes()));
        }
        let (what, good) = session::end(&closed.close);
        if !good || remote.is_some() {
            let tone = if closed.close.left().is_some() {
                Tone::Bad
            } else if good {
                Tone::Dim
            } else {
                Tone::Warn
            };
            page.note(2, Some(tone), &escape_line(format!("session {what}").as_bytes()));
        }
    }
}

/// What an operator is asked, and the command that settles it, in one piece to be copied.
fn question(page: &mut Page, view: &RunView, name: &HostName, host: &HostView, row: &Row<'_>) {
    let Some((step, cell)) = unknown::open(view, host).find(|(step, _)| step.id == row.step.id) else { return };
    page.note(25, None, &escape_line(unknown::look_at(view, name, step, cell).as_bytes()));
    page.line(&format!("{}{}", " ".repeat(6), unknown::settle(view, name, &step.id)));
}

fn row_text(page: &mut Page, attachments: &Attachments, row: &Row<'_>) {
    let attempts = row.view.map_or(&[][..], |view| &view.attempts);
    let (word, tone) = match row.outcome {
        Some(outcome) => (words(outcome.name()), attempt_tone(outcome)),
        None if attempts.is_empty() => ("waiting".into(), Tone::Dim),
        None if lost(attempts).is_some() => ("lost".into(), Tone::Warn),
        None => ("running".into(), Tone::Active),
    };
    let took: u64 =
        attempts.iter().filter_map(|attempt| attempt.report.as_ref()).map(|report| report.duration_ms).sum();
    let took = if attempts.iter().any(|attempt| attempt.report.is_some()) { elapsed(took) } else { String::new() };
    let mut what = row.step.id.to_string();
    if row.step.name != what && !row.step.name.is_empty() {
        what.push_str(&format!("  {}", escape_line(row.step.name.as_bytes())));
    }
    if attempts.len() > 1 {
        what.push_str(&format!("  ({} attempts)", attempts.len()));
    }
    let head = format!("    {}  {:>6}  ", page.palette.paint(tone, &fit(&word, 11)), took);
    page.line(&format!("{head}{}", cut(&what, page.columns.saturating_sub(25))));
    if let (None, Some(lost)) = (row.outcome, lost(attempts)) {
        let what = if lost.not_begun { "its host is waited for" } else { "it is asked after" };
        let (since, until) = (when(lost.since_ms), when(lost.until_ms));
        let text = format!("lost since {since}; {what}, and given up at {until}: {}", lost.reason);
        page.note(25, Some(Tone::Warn), &escape_line(text.as_bytes()));
    }
    let Some(view) = row.view else {
        if !row.reason.is_empty() {
            page.note(25, Some(Tone::Dim), &escape_line(row.reason.as_bytes()));
        }
        return;
    };
    if attempts.len() > 1 {
        for attempt in &attempts[..attempts.len() - 1] {
            attempt_text(page, attempt);
        }
    }
    if row.outcome != Some(AttemptOutcome::Succeeded) || view.resolved.is_some() || !row.reason.is_empty() {
        if let Some(reason) = cell_reason(row) {
            page.note(25, None, &escape_line(reason.as_bytes()));
        }
        if let Some(report) = attempts.last().and_then(|attempt| attempt.report.as_ref()) {
            for (name, output) in [("stdout", &report.stdout), ("stderr", &report.stderr)] {
                if output.bytes > 0 {
                    page.note(25, Some(Tone::Dim), &output_text(name, output));
                }
            }
        }
    } else if let Some(report) = attempts.last().and_then(|attempt| attempt.report.as_ref()) {
        for (name, output) in [("stdout", &report.stdout), ("stderr", &report.stderr)] {
            if output.truncated {
                page.note(25, Some(Tone::Warn), &output_text(name, output));
            }
        }
    }
    if let Some(host) = &view.done_on {
        page.note(25, Some(Tone::Dim), &format!("done once, on {host}"));
    }
    if let Some(reference) = &view.snapshot {
        let released = view.released.as_ref().map(|(by, at)| format!(", released {} by {}", when(*at), person(by)));
        let text = format!("snapshot {}{}", escape_line(reference.as_bytes()), released.unwrap_or_default());
        page.note(25, Some(Tone::Dim), &text);
    }
    if let Some(obstacle) = &view.unmeasured {
        let text = format!("its changes could not be measured: {}", escape_line(obstacle.message.as_bytes()));
        page.note(25, Some(Tone::Warn), &text);
    }
    for digest in attempts.iter().filter_map(|attempt| attempt.report.as_ref()?.transfers) {
        moved(page, attachments.transfers.get(&digest).map(Vec::as_slice));
    }
    match view.changes.map(|digest| attachments.changes.get(&digest)) {
        Some(Some(changes)) => {
            for change in changes.iter().take(CHANGES_SHOWN) {
                let line = format!("{}{}", " ".repeat(25), change_text(change));
                page.line(&cut(&line, page.columns.max(width(&change.path).min(200) + 40)));
            }
            if changes.len() > CHANGES_SHOWN {
                page.note(25, Some(Tone::Dim), &format!("and {} more changes", changes.len() - CHANGES_SHOWN));
            }
        }
        Some(None) => page.note(25, Some(Tone::Warn), "it changed paths, and their list cannot be read"),
        None => {}
    }
}

fn moved(page: &mut Page, transfers: Option<&[Transfer]>) {
    let Some(transfers) = transfers else {
        return page.note(25, Some(Tone::Warn), "it moved files, and their list cannot be read");
    };
    for Transfer { direction, path, sha256, bytes, .. } in transfers.iter().take(CHANGES_SHOWN) {
        let did = if direction == "download" { "fetched" } else { "sent" };
        let (path, bytes, sha256) = (escape_line(path.as_bytes()), format_size(*bytes), sha256.to_string());
        page.note(25, Some(Tone::Dim), &format!("{did} {path} ({bytes}, sha256 {}…)", &sha256[..12]));
    }
    if transfers.len() > CHANGES_SHOWN {
        page.note(25, Some(Tone::Dim), &format!("and {} more files", transfers.len() - CHANGES_SHOWN));
    }
}

/// That the attempt that is open was lost.
fn lost(attempts: &[AttemptView]) -> Option<&Lost> {
    attempts.last().filter(|attempt| attempt.is_running())?.lost.as_ref()
}

fn attempt_text(page: &mut Page, attempt: &AttemptView) {
    let outcome = attempt.outcome.map_or("open".to_owned(), |outcome| words(outcome.name()));
    let mut text = format!("attempt {} {outcome}", attempt.attempt);
    if let Some(report) = &attempt.report {
        text.push_str(&format!(" after {}{}", elapsed(report.duration_ms), exit_text(&report.ended)));
    }
    if let Some(reason) = attempt_reason(attempt) {
        text.push_str(&format!(": {}", escape_line(reason.as_bytes())));
    }
    page.note(25, Some(Tone::Dim), &text);
}

/// `, exit code 1`, or nothing when it did not exit by itself.
fn exit_text(ended: &Ended) -> String {
    match ended {
        Ended::Exited { exit: Exit::Code(code), .. } => format!(", exit code {code}"),
        Ended::Exited { exit: Exit::Signal(signal), .. } => format!(", ended by signal {signal}"),
        _ => String::new(),
    }
}

fn output_text(name: &str, output: &OutputRef) -> String {
    let mut text = format!("{name}: {}", format_size(output.bytes));
    if let Some(part) = part(output) {
        text.push_str(&format!(", {part}"));
    }
    if output.blob.is_none() {
        text.push_str(", not kept");
    }
    if output.masked > 0 {
        text.push_str(&format!(", {} masked", count(output.masked as usize, "secret")));
    }
    text
}

/// One changed path and what about it: `changed /etc/a (content, mode 0644 to 0600)`.
pub fn change_text(change: &Change) -> String {
    let path = escape_line(change.path.as_bytes());
    match (&change.before, &change.after) {
        (None, Some(after)) => format!("made {path} ({}, {} {}:{})", after.kind, after.mode, after.owner, after.group),
        (Some(_), None) => format!("removed {path}"),
        (Some(before), Some(after)) => format!("changed {path} ({})", differences(before, after)),
        (None, None) => format!("{path} was not there before or after"),
    }
}

fn differences(before: &Entry, after: &Entry) -> String {
    let mut parts = Vec::new();
    if before.kind != after.kind {
        parts.push(format!("{} to {}", before.kind, after.kind));
    }
    if before.sha256 != after.sha256 {
        parts.push("content".to_owned());
    }
    if before.mode != after.mode {
        parts.push(format!("mode {} to {}", before.mode, after.mode));
    }
    if (&before.owner, &before.group) != (&after.owner, &after.group) {
        parts.push(format!("owner {}:{} to {}:{}", before.owner, before.group, after.owner, after.group));
    }
    if before.acl != after.acl {
        parts.push("ACL".to_owned());
    }
    if parts.is_empty() {
        parts.push("length".to_owned());
    }
    parts.join(", ")
}

/// Who approved, in the order of their names.
fn approvers(header: &RunHeader) -> String {
    let names: Vec<String> = header.approvals.iter().map(|used| escape_line(used.signer.as_bytes())).collect();
    names.join(", ")
}
