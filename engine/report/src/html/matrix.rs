//! Hosts and steps at a glance.

use std::collections::BTreeMap;

use runbook_model::outcome::AttemptOutcome;
use runbook_model::{HostName, StepId};

use super::markup::{class, text};
use super::{PHASES, cell_anchor, host_anchor, host_badge};
use crate::matrix::{Row, label, rows};
use crate::style::{attempt_tone, words};
use crate::view::{HostView, RunView};

/// What a cell shows; its word is said to those who do not see it.
fn sign(outcome: Option<AttemptOutcome>) -> &'static str {
    match outcome {
        Some(AttemptOutcome::Succeeded) => "✓",
        Some(AttemptOutcome::Failed) => "✗",
        Some(AttemptOutcome::TimedOut) => "T",
        Some(AttemptOutcome::Unknown) => "?",
        Some(AttemptOutcome::Skipped) => "–",
        Some(AttemptOutcome::NotStarted) => "·",
        None => "…",
    }
}

pub(super) fn section(view: &RunView) -> String {
    let cells: BTreeMap<&HostName, BTreeMap<&StepId, Row<'_>>> = view
        .hosts
        .iter()
        .map(|(name, host)| (name, rows(view, host).into_iter().map(|row| (&row.step.id, row)).collect()))
        .collect();
    let mut out = String::from("<section aria-labelledby=\"matrix\">\n<h2 id=\"matrix\">Hosts and steps</h2>\n");
    out.push_str(
        "<p class=\"dim\">✓ succeeded · ✗ failed · T timed out · ? unknown · – skipped · · did not begin · empty: not part \
         of the run there</p>\n<div class=\"scroll\"><table class=\"matrix\">\n<thead>\n<tr><th rowspan=\"2\" \
         scope=\"col\">Host</th><th rowspan=\"2\" scope=\"col\">Outcome</th>",
    );
    let shown = |id: &StepId| cells.values().any(|row| row.contains_key(id));
    let steps: Vec<_> = PHASES
        .iter()
        .map(|phase| (phase, view.plan.phase(*phase).filter(|step| shown(&step.id)).collect::<Vec<_>>()))
        .filter(|(_, steps)| !steps.is_empty())
        .collect();
    for (phase, steps) in &steps {
        out.push_str(&format!("<th colspan=\"{}\" scope=\"colgroup\">{}</th>", steps.len(), text(phase.name())));
    }
    out.push_str("</tr>\n<tr>");
    for step in steps.iter().flat_map(|(_, steps)| steps) {
        out.push_str(&format!("<th scope=\"col\" title=\"{}\">{}</th>", text(label(step)), text(step.id.as_str())));
    }
    out.push_str("</tr>\n</thead>\n<tbody>\n");
    for (name, host) in &view.hosts {
        out.push_str(&host_row(name, host, &cells[name], &steps));
    }
    out.push_str("</tbody>\n</table></div>\n</section>\n");
    out
}

fn host_row(
    name: &HostName,
    host: &HostView,
    cells: &BTreeMap<&StepId, Row<'_>>,
    steps: &[(&runbook_model::Phase, Vec<&runbook_model::plan::Step>)],
) -> String {
    let mut out = format!(
        "<tr><th scope=\"row\"><a href=\"#{}\">{}</a></th><td>{}</td>",
        host_anchor(name),
        text(name.as_str()),
        host_badge(host.outcome, host.started_ms.is_some())
    );
    for step in steps.iter().flat_map(|(_, steps)| steps) {
        let Some(row) = cells.get(&step.id) else {
            out.push_str("<td></td>");
            continue;
        };
        let word = row.outcome.map_or_else(|| "open".to_owned(), |outcome| words(outcome.name()));
        let tone = row.outcome.map_or("warn", |outcome| class(attempt_tone(outcome)));
        out.push_str(&format!(
            "<td class=\"{tone}\"><a href=\"#{}\" title=\"{} on {}: {}\" aria-label=\"{} on {}: {}\">{}</a></td>",
            cell_anchor(name, &step.id),
            text(step.id.as_str()),
            text(name.as_str()),
            text(&word),
            text(step.id.as_str()),
            text(name.as_str()),
            text(&word),
            sign(row.outcome)
        ));
    }
    out.push_str("</tr>\n");
    out
}
