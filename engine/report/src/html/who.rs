//! Who did what when, and how each account got in.

use runbook_model::outcome::AttemptOutcome;
use runbook_model::plan::{Action, Work};
use runbook_model::units::rfc3339_ms;

use super::markup::{record, text, to_record, wide};
use super::{cell_anchor, host_anchor};
use crate::json::person;
use crate::view::RunView;

/// Hosts whose session is told in the table; each host's own section tells it too.
const HOSTS_MAX: usize = 200;
/// Answers of persons that are told one by one.
const CONFIRMED_MAX: usize = 100;

pub(super) fn section(view: &RunView) -> String {
    let mut out = String::from("<section aria-labelledby=\"who\">\n<h2 id=\"who\">Who and when</h2>\n");
    out.push_str(&acts(view));
    out.push_str(&confirmed(view));
    out.push_str(&sessions(view));
    out.push_str("</section>\n");
    out
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
                told(&identity.authenticated_by),
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
    if hosts.len() > HOSTS_MAX {
        out.push_str(&format!("<p>and {} more hosts, in their own sections.</p>\n", hosts.len() - HOSTS_MAX));
    }
    out
}
