//! One host: who answered, and every step with its command, outputs and changes.

use std::collections::BTreeMap;

use runbook_ledger::segments;
use runbook_model::event::Transfer;
use runbook_model::manifest::{Change, Entry};
use runbook_model::outcome::{Ended, Exit, OutputRef};
use runbook_model::units::format_size;
use runbook_model::{HostName, Sha256};

use super::markup::{badge, facts, lines, record, text, when, wide};
use super::{PHASES, cell_anchor, host_anchor, host_badge};
use crate::access;
use crate::json::{Attachments, RedactionLine, attempt_reason, cell_reason, person};
use crate::matrix::{Row, label, rows};
use crate::session;
use crate::style::{Tone, attempt_tone, words};
use crate::text::{elapsed, part};
use crate::view::{AttemptView, HostView, RunView};

/// So much of an output or command is shown; the whole is in the record.
pub const EXCERPT_BYTES: u64 = 64 * 1024;
/// Changed paths of a step that are shown.
const CHANGES_MAX: usize = 500;

/// What blobs hold, by their digest.
pub type Contents = BTreeMap<Sha256, Vec<u8>>;

/// The blobs of which a host's section shows the beginning.
pub fn contents_of(host: &HostView) -> Vec<Sha256> {
    let mut out = Vec::new();
    for attempt in host.steps.values().flat_map(|cell| &cell.attempts) {
        out.push(attempt.intent.command_sha256);
        if let Some(report) = &attempt.report {
            out.extend([report.stdout.blob, report.stderr.blob].into_iter().flatten());
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

/// A host's section. A content that is not there is told as not shown.
pub fn host(
    view: &RunView,
    attachments: &Attachments,
    name: &HostName,
    host: &HostView,
    contents: &Contents,
) -> String {
    let anchor = host_anchor(name);
    let mut out = format!(
        "<section data-host aria-labelledby=\"{anchor}\">\n<h3 id=\"{anchor}\">{} {}</h3>\n",
        text(name.as_str()),
        host_badge(host.outcome, host.started_ms.is_some())
    );
    if !host.reason.is_empty() {
        out.push_str(&format!("<p>{}</p>\n", text(&host.reason)));
    }
    out.push_str(&about(host));
    let cells = rows(view, host);
    for phase in PHASES {
        let mut steps = cells.iter().filter(|row| row.step.phase == phase).peekable();
        if steps.peek().is_none() {
            continue;
        }
        out.push_str(&format!("<p class=\"phase\">{}</p>\n", text(phase.name())));
        for row in steps {
            out.push_str(&step(attachments, name, row, contents));
        }
    }
    out.push_str("</section>\n");
    out
}

fn about(host: &HostView) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(identity) = &host.identity {
        let key = if identity.peer_key.is_empty() {
            String::new()
        } else {
            format!(" <code>{}</code>", text(&identity.peer_key))
        };
        rows.push(("Answered", format!("{}{key}", text(&identity.transport))));
        rows.push(("Account", format!("{}, {}", text(&identity.account), text(&session::login(identity)))));
        if let Some(secured) = &identity.secured {
            rows.push(("Protected by", text(&secured.text())));
        }
        for hop in session::hops(identity) {
            rows.push(("On the way", text(&hop)));
        }
        if let Some(software) = &identity.software {
            rows.push(("Its server", text(software)));
        }
    }
    if let Some(facts) = &host.facts {
        let system = [&facts.os, &facts.os_version, &facts.kernel, &facts.arch];
        let system: Vec<&str> = system.into_iter().map(String::as_str).filter(|word| !word.is_empty()).collect();
        rows.push(("System", text(&system.join(" "))));
        if let Some(offset) = facts.clock_offset_ms {
            rows.push(("Clock", text(&format!("{offset:+} ms from the controller's"))));
        }
    }
    if let Some(seq) = host.session_seq {
        rows.push(("Session", record(seq)));
    }
    if let (Some(from), Some(to)) = (host.started_ms, host.ended_ms) {
        rows.push(("Time", format!("{} to {} ({})", when(from), when(to), elapsed(to.saturating_sub(from)))));
    }
    if let Some(cut) = &host.cut_off {
        let windows = if cut.windows.is_empty() { "what is open".to_owned() } else { cut.windows.join(", ") };
        let ends = format!("the time of {} ends {}", text(&windows), when(cut.ends_ms));
        rows.push(("Cut off", format!("{}, {ends}, {}", when(cut.at_ms), record(cut.seq))));
    }
    if let Some(seq) = host.ended_seq {
        rows.push(("Outcome", record(seq)));
    }
    for granted in &host.access {
        let seq = granted.installed.as_ref().map_or(granted.seq, |(seq, _)| *seq);
        rows.extend(
            access::given(granted).into_iter().map(|given| ("Access", format!("{}, {}", text(&given), record(seq)))),
        );
    }
    for closed in &host.closed {
        for (what, is_left) in closed.close.access.iter().flat_map(|withdrawal| access::ended(withdrawal)) {
            let badge = if is_left { format!("{} ", badge(Tone::Bad, "left")) } else { String::new() };
            rows.push(("Access's end", format!("{badge}{}, {}", text(&what), record(closed.seq))));
        }
        rows.push(("Session's end", format!("{}, {}", text(&session::end(&closed.close).0), record(closed.seq))));
        if closed.close.connections.len() > 1 {
            for connection in &closed.close.connections {
                let until = connection.closed_ms.map_or_else(|| "not seen".to_owned(), when);
                let from = when(connection.opened_ms);
                rows.push(("Connection", format!("{from} to {until}: {}", text(&session::connection(connection)))));
            }
        }
    }
    if host.has_open_session() && host.outcome.is_some() {
        rows.push(("Session's end", "not on record".into()));
    }
    if rows.is_empty() { String::new() } else { facts(&rows) }
}

fn step(attachments: &Attachments, name: &HostName, row: &Row<'_>, contents: &Contents) -> String {
    let attempts = row.view.map_or(&[][..], |cell| &cell.attempts);
    let tone = row.outcome.map_or(Tone::Warn, attempt_tone);
    let word = row.outcome.map_or_else(|| "open".to_owned(), |outcome| words(outcome.name()));
    let took = attempts.last().and_then(|attempt| attempt.report.as_ref());
    let took = took.map(|report| elapsed(report.duration_ms)).unwrap_or_default();
    let mut out = format!(
        "<details data-step id=\"{}\"><summary>{} <span class=\"mono\">{}</span> <span class=\"what\">{}</span> <span \
         class=\"dim\">{took}</span></summary><div>\n",
        cell_anchor(name, &row.step.id),
        badge(tone, &word),
        text(row.step.id.as_str()),
        text(label(row.step))
    );
    if let Some(reason) = cell_reason(row) {
        out.push_str(&format!("<p>{}</p>\n", text(&reason)));
    }
    if let Some(cell) = row.view {
        let mut rows: Vec<(&str, String)> = Vec::new();
        if let Some(host) = &cell.done_on {
            rows.push(("Done on", text(host.as_str())));
        }
        if let Some(reference) = &cell.snapshot {
            rows.push(("Snapshot", format!("<code>{}</code>", text(reference))));
        }
        if let Some((by, at)) = &cell.released {
            rows.push(("Released", format!("{} at {}", text(&person(by)), when(*at))));
        }
        if !rows.is_empty() {
            out.push_str(&facts(&rows));
        }
    }
    for attempt in attempts {
        out.push_str(&self::attempt(attachments, attempt, attempts.len() > 1, contents, |stream| {
            let of = |redaction: &&RedactionLine| {
                redaction.is_of(name.as_str(), row.step.id.as_str(), attempt.attempt, stream)
            };
            attachments.redactions.iter().filter(of).map(RedactionLine::told).collect()
        }));
    }
    if let Some(seq) = row.view.and_then(|cell| cell.ended_seq) {
        out.push_str(&format!("<p class=\"dim\">Outcome of the step: {word}, {}</p>\n", record(seq)));
    }
    if let Some(seq) = row.view.and_then(|cell| cell.measured_seq) {
        let none = row.view.is_some_and(|cell| cell.changes.is_none() && cell.unmeasured.is_none());
        let what = if none { "No file that it names differs from before." } else { "Files before and after:" };
        out.push_str(&format!("<p class=\"lead\">{what} <span class=\"dim\">({})</span></p>\n", record(seq)));
    }
    if let Some(digest) = row.view.and_then(|cell| cell.changes) {
        out.push_str(&changes(attachments.changes.get(&digest).map(Vec::as_slice)));
    }
    out.push_str("</div></details>\n");
    out
}

/// `withheld` tells of a stream what redacted editions withhold.
fn attempt(
    attachments: &Attachments,
    attempt: &AttemptView,
    several: bool,
    contents: &Contents,
    withheld: impl Fn(&str) -> Vec<String>,
) -> String {
    let mut out = String::new();
    if several {
        out.push_str(&format!("<p><strong>Attempt {}</strong></p>\n", attempt.attempt));
    }
    let mut rows: Vec<(&str, String)> =
        vec![("Began", format!("{}, {}", when(attempt.started_ms), record(attempt.started_seq)))];
    if let Some(account) = &attempt.intent.account {
        rows.push(("As", text(account)));
    }
    if let Some(report) = &attempt.report {
        let seq = attempt.ended_seq.map(|seq| format!(", {}", record(seq))).unwrap_or_default();
        rows.push(("Ended", format!("{}{seq}", when(report.ended_ms))));
        let how = match &report.ended {
            Ended::Exited { exit: Exit::Code(code), .. } => format!("exit code {code}"),
            Ended::Exited { exit: Exit::Signal(signal), .. } => format!("signal {signal}"),
            _ => attempt_reason(attempt).unwrap_or_default(),
        };
        if !how.is_empty() {
            rows.push(("Result", text(&how)));
        }
    } else {
        rows.push(("Ended", "the record has no end of it".into()));
    }
    if several && let Some(reason) = attempt_reason(attempt) {
        rows.push(("Why", text(&reason)));
    }
    rows.push(("Command", format!("<code>{}</code>", attempt.intent.command_sha256)));
    if !attempt.intent.variables.is_empty() {
        let template = attempt.intent.template_sha256;
        let names = text(&attempt.intent.variables.join(", "));
        rows.push(("Made from", format!("template <code>{template}</code> with {names}")));
    }
    out.push_str(&facts(&rows));
    out.push_str(&excerpt(contents.get(&attempt.intent.command_sha256).map(Vec::as_slice)));
    if let Some(report) = &attempt.report {
        if let Some(digest) = report.transfers {
            out.push_str(&transfers(attachments.transfers.get(&digest).map(Vec::as_slice)));
        }
        out.push_str(&output("Standard output", &report.stdout, contents, &withheld("stdout")));
        out.push_str(&output("Standard error", &report.stderr, contents, &withheld("stderr")));
    }
    out
}

fn output(heading: &str, output: &OutputRef, contents: &Contents, withheld: &[String]) -> String {
    if output.bytes == 0 && output.cut_off_by.is_none() {
        return String::new();
    }
    let mut remarks = vec![format_size(output.bytes)];
    remarks.extend(part(output));
    if output.masked > 0 {
        remarks.push(format!("a secret was masked {} times", output.masked));
    }
    let body = match output.blob {
        Some(blob) => excerpt(contents.get(&blob).map(|bytes| segments::content(output, bytes))),
        None => "<p class=\"dim\">It was not kept.</p>\n".to_owned(),
    };
    let withheld: String = withheld
        .iter()
        .map(|told| format!("<p class=\"dim\">Withheld in redacted editions: {}</p>\n", text(told)))
        .collect();
    format!(
        "<details class=\"output\" open><summary>{heading} <span \
         class=\"dim\">({})</span></summary>{withheld}{body}</details>\n",
        text(&remarks.join(", "))
    )
}

fn excerpt(content: Option<&[u8]>) -> String {
    let Some(content) = content else {
        return "<p class=\"dim\">Not shown here; <code>runbook logs</code> and the bundle have it.</p>\n".to_owned();
    };
    let shown = content.len().min(EXCERPT_BYTES as usize);
    let more =
        if content.len() > shown { "<p class=\"dim\">The beginning; the rest is in the record.</p>\n" } else { "" };
    format!("<pre tabindex=\"0\">{}</pre>\n{more}", lines(&content[..shown]))
}

fn transfers(list: Option<&[Transfer]>) -> String {
    let Some(list) = list else {
        return "<p>Files were moved; the list of them cannot be read from this store.</p>\n".to_owned();
    };
    let mut table = String::from(
        "<table><thead><tr><th scope=\"col\">Moved</th><th scope=\"col\">Path on the host</th><th \
         scope=\"col\">Content</th></tr></thead><tbody>\n",
    );
    for transfer in list.iter().take(CHANGES_MAX) {
        table.push_str(&format!(
            "<tr><td>{}</td><td class=\"mono\">{}</td><td>{}<br><code>{}</code></td></tr>\n",
            if transfer.direction == "download" { "from the host" } else { "to the host" },
            text(&transfer.path),
            text(&format_size(transfer.bytes)),
            transfer.sha256
        ));
    }
    table.push_str("</tbody></table>");
    let mut out = wide("Files that were moved", &table);
    if list.len() > CHANGES_MAX {
        out.push_str(&format!("<p>and {} more files.</p>\n", list.len() - CHANGES_MAX));
    }
    out
}

fn changes(list: Option<&[Change]>) -> String {
    let Some(list) = list else {
        return "<p>Files changed; the list of them cannot be read from this store.</p>\n".to_owned();
    };
    let mut table = String::from(
        "<table><thead><tr><th scope=\"col\">Path</th><th scope=\"col\">Before</th><th \
         scope=\"col\">After</th></tr></thead><tbody>\n",
    );
    for change in list.iter().take(CHANGES_MAX) {
        table.push_str(&format!(
            "<tr><td class=\"mono\">{}</td><td>{}</td><td>{}</td></tr>\n",
            text(&change.path),
            entry(change.before.as_ref(), "was not there"),
            entry(change.after.as_ref(), "is gone")
        ));
    }
    table.push_str("</tbody></table>");
    let mut out = wide("Files that changed", &table);
    if list.len() > CHANGES_MAX {
        out.push_str(&format!("<p>and {} more paths.</p>\n", list.len() - CHANGES_MAX));
    }
    out
}

fn entry(entry: Option<&Entry>, absent: &str) -> String {
    let Some(entry) = entry else { return format!("<span class=\"dim\">{absent}</span>") };
    let mut out = text(&format!("{} {} {}:{}", entry.kind, entry.mode, entry.owner, entry.group));
    if let Some(bytes) = entry.bytes {
        out.push_str(&text(&format!(", {}", format_size(bytes))));
    }
    if let Some(sha256) = &entry.sha256 {
        out.push_str(&format!("<br><code>{sha256}</code>"));
    }
    if let Some(acl) = &entry.acl {
        out.push_str(&format!("<br><code>{}</code>", text(acl)));
    }
    out
}
