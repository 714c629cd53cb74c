//! Who did what when, and how each account got in.

use runbook_model::outcome::AttemptOutcome;
use runbook_model::plan::{Action, Work};
use runbook_model::units::rfc3339_ms;

use super::markup::{badge, record, text, to_record, wide};
use super::{cell_anchor, host_anchor};
use crate::json::{Attachments, person};
use crate::session;
use crate::style::Tone;
use crate::view::RunView;

/// Hosts whose session is told in the table; each host's own section tells it too.
const HOSTS_MAX: usize = 200;
/// Answers of persons that are told one by one.
const CONFIRMED_MAX: usize = 100;

pub(super) fn section(view: &RunView, attachments: &Attachments) -> String {
    let mut out = String::from("<section aria-labelledby=\"who\">\n<h2 id=\"who\">Who and when</h2>\n");
    out.push_str(&acts(view));
    out.push_str(&approved(view));
    out.push_str(&reviewed(view, attachments));
    out.push_str(&confirmed(view));
    out.push_str(&monitoring(view));
    out.push_str(&sessions(view));
    out.push_str("</section>\n");
    out
}

/// What was muted, and the proof that it is over.
fn monitoring(view: &RunView) -> String {
    if view.monitoring.is_empty() {
        return String::new();
    }
    let mut table = String::from(
        "<table><caption>Monitoring</caption><thead><tr><th scope=\"col\">When (UTC)</th><th scope=\"col\">What</th><th \
         scope=\"col\">Record</th></tr></thead><tbody>\n",
    );
    for done in &view.monitoring {
        let (time, what) = (rfc3339_ms(done.at_ms), text(&done.what));
        let bad = if done.bad { format!(" {}", badge(Tone::Bad, "look")) } else { String::new() };
        let record = record(done.seq);
        table.push_str(&format!("<tr><td class=\"time\">{time}</td><td>{what}{bad}</td><td>{record}</td></tr>\n"));
    }
    table.push_str("</tbody></table>\n");
    wide("Monitoring", &table)
}

fn acts(view: &RunView) -> String {
    if view.acts.is_empty() {
        return "<p>The record does not say who ran it.</p>\n".into();
    }
    let mut table = String::from(
        "<table><thead><tr><th scope=\"col\">When (UTC)</th><th scope=\"col\">Who</th><th scope=\"col\">Did what</th><th \
         scope=\"col\">Record</th></tr></thead><tbody>\n",
    );
    for act in &view.acts {
        table.push_str(&format!(
            "<tr><td class=\"time\">{}</td><td>{}, uid {}</td><td>{}</td><td>{}</td></tr>\n",
            rfc3339_ms(act.at_ms),
            text(&person(&act.by)),
            act.by.uid,
            text(&act.what),
            record(act.seq)
        ));
    }
    table.push_str("</tbody></table>");
    wide("Who did what", &table)
}

/// Under which policy, and who had approved the plan.
fn approved(view: &RunView) -> String {
    let Some(header) = &view.header else { return String::new() };
    let opened = view.opened_seq.map(|seq| format!(" (record {})", to_record(seq))).unwrap_or_default();
    let Some(policy) = header.policy else {
        return format!("<p>It was opened under no policy{opened}.</p>\n");
    };
    let names: Vec<String> = header.approvals.iter().map(|used| text(&used.signer).to_string()).collect();
    let by = match names.as_slice() {
        [] => "it asked for nobody's approval".to_owned(),
        names => format!("approved by {}", names.join(", ")),
    };
    format!("<p>It was opened under the policy <code>{policy}</code>: {by}{opened}.</p>\n")
}

/// Why it was run, what it owes after its end, and what was given of that.
fn reviewed(view: &RunView, attachments: &Attachments) -> String {
    let Some(header) = &view.header else { return String::new() };
    let mut out = String::new();
    if let Some(reason) = &header.reason {
        out.push_str(&format!("<p>The reason that was given: {}.</p>\n", text(reason)));
    }
    if header.reviews.is_empty() {
        return out;
    }
    let rules: Vec<String> = header.reviews.iter().map(|owed| text(&owed.rule).to_string()).collect();
    out.push_str(&format!("<p>A review after its end was asked for by: {}.</p>\n", rules.join(", ")));
    for review in &attachments.reviews {
        out.push_str(&format!("<p>Reviewed: {} (record {}).</p>\n", text(&review.told()), review.record));
    }
    out
}

/// Steps that asked a person. Who said yes is what such a step printed.
fn confirmed(view: &RunView) -> String {
    let asks = |work: &Work| matches!(work, Work::Any(Action::Confirm { .. }));
    let mut lines = Vec::new();
    for (name, host) in &view.hosts {
        for (id, cell) in &host.steps {
            if !view.plan.step(id).is_some_and(|step| asks(&step.work)) {
                continue;
            }
            let said = match cell.outcome {
                Some(AttemptOutcome::Succeeded) => "a person said yes; what the step printed names them",
                _ => "nobody said yes",
            };
            lines.push(format!(
                "<li><a href=\"#{}\">{}/{}</a>: {said}</li>\n",
                cell_anchor(name, id),
                text(name.as_str()),
                text(id.as_str())
            ));
        }
    }
    if lines.is_empty() {
        return String::new();
    }
    let more = lines.len().saturating_sub(CONFIRMED_MAX);
    lines.truncate(CONFIRMED_MAX);
    let rest =
        if more > 0 { format!("<li>and {more} more, in the sections of the hosts</li>\n") } else { String::new() };
    format!("<h3>Questions to a person</h3>\n<ul>\n{}{rest}</ul>\n", lines.concat())
}

/// When each session began and ended, how, and what was carried out over it.
fn ends(view: &RunView) -> String {
    let all = view.hosts.iter().map(|(name, host)| (name, &host.closed)).chain(&view.elsewhere);
    let ends: Vec<_> = all.flat_map(|(name, closed)| closed.iter().map(move |closed| (name, closed))).collect();
    let mut out = String::from("<h3>How each session ended</h3>\n");
    if ends.is_empty() {
        out.push_str("<p>The end of no session is on record.</p>\n");
        return out;
    }
    let mut table = String::from(
        "<table><thead><tr><th scope=\"col\">Host</th><th scope=\"col\">Opened (UTC)</th><th scope=\"col\">Closed \
         (UTC)</th><th scope=\"col\">Attempts</th><th scope=\"col\">What is known of its end</th><th \
         scope=\"col\">Record</th></tr></thead><tbody>\n",
    );
    for (name, closed) in ends.iter().take(HOSTS_MAX) {
        let close = &closed.close;
        let first = close.connections.first().map(|connection| rfc3339_ms(connection.opened_ms)).unwrap_or_default();
        let last = close.connections.last().and_then(|connection| connection.closed_ms).map(rfc3339_ms);
        let (what, good) = session::end(close);
        let tone = match (close.left().is_some(), good) {
            (true, _) => badge(Tone::Bad, "open"),
            (false, true) => badge(Tone::Good, "closed"),
            (false, false) => badge(Tone::Warn, "in doubt"),
        };
        let host = match view.hosts.contains_key(*name) {
            true => format!("<a href=\"#{}\">{}</a>", host_anchor(name), text(name.as_str())),
            false => text(name.as_str()),
        };
        table.push_str(&format!(
            "<tr><th scope=\"row\">{host}</th><td class=\"time\">{first}</td><td class=\"time\">{}</td><td>{}</td><td>{tone} \
             {}</td><td>{}</td></tr>\n",
            last.unwrap_or_else(|| "not seen".into()),
            close.attempts,
            text(&what),
            if view.hosts.contains_key(*name) { to_record(closed.seq) } else { record(closed.seq) }
        ));
    }
    table.push_str("</tbody></table>");
    out.push_str(&wide("Ends of sessions", &table));
    out
}

fn sessions(view: &RunView) -> String {
    let mut out = String::from("<h3>Who answered, and how the account got in</h3>\n");
    let hosts: Vec<_> = view.hosts.iter().filter(|(_, host)| host.session_seq.is_some()).collect();
    if hosts.is_empty() {
        out.push_str("<p>No session is on record.</p>\n");
        return out;
    }
    let mut table = String::from(
        "<table><thead><tr><th scope=\"col\">Host</th><th scope=\"col\">By</th><th scope=\"col\">Account</th><th \
         scope=\"col\">Authenticated</th><th scope=\"col\">Host key</th><th scope=\"col\">Record</th></tr></thead><tbody>\n",
    );
    let told = |value: &str| {
        if value.is_empty() { "<span class=\"dim\">not told</span>".to_owned() } else { text(value) }
    };
    for (name, host) in hosts.iter().take(HOSTS_MAX) {
        let cells = match (&host.obstacle, &host.identity) {
            (None, Some(identity)) => format!(
                "<td>{}</td><td>{}</td><td class=\"mono\">{}</td><td class=\"mono\">{}</td>",
                text(&identity.transport),
                told(&identity.account),
                told(&session::login(identity)),
                if identity.transport == "local" { "none: this machine".into() } else { told(&identity.peer_key) }
            ),
            (Some(obstacle), _) => format!("<td colspan=\"4\">no session: {}</td>", text(&obstacle.message)),
            (None, None) => "<td colspan=\"4\">not told</td>".into(),
        };
        table.push_str(&format!(
            "<tr><th scope=\"row\"><a href=\"#{}\">{}</a></th>{cells}<td>{}</td></tr>\n",
            host_anchor(name),
            text(name.as_str()),
            host.session_seq.map(to_record).unwrap_or_default()
        ));
    }
    table.push_str("</tbody></table>");
    out.push_str(&wide("Sessions", &table));
    out.push_str(&ends(view));
    if hosts.len() > HOSTS_MAX {
        out.push_str(&format!("<p>and {} more hosts, in their own sections.</p>\n", hosts.len() - HOSTS_MAX));
    }
    out
}
