//! Hosts and steps at a glance.

use std::collections::BTreeMap;

use runbook_model::outcome::AttemptOutcome;
use runbook_model::plan::{Phase, Step};
use runbook_model::{HostName, StepId};

use super::markup::{class, text, wide};
use super::{PHASES, cell_anchor, host_anchor, host_badge};
use crate::matrix::{Row, label as label_of, rows};
use crate::style::{attempt_tone, words};
use crate::view::{HostView, RunView};

/// Steps in one table; the others follow in tables of their own, so that each fits on paper.
const COLUMNS_MAX: usize = 24;

/// What a cell shows; its word is said to those who do not see it.
fn sign(outcome: Option<AttemptOutcome>) -> &'static str {
    match outcome {
        Some(AttemptOutcome::Succeeded) => "✓",
        Some(AttemptOutcome::Failed) => "✗",
        Some(AttemptOutcome::TimedOut) => "T",
        Some(AttemptOutcome::Unknown) => "?",
        Some(AttemptOutcome::Skipped) => "–",
        Some(AttemptOutcome::NotStarted) => "•",
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
        "<p class=\"dim\">✓ succeeded, ✗ failed, T timed out, ? unknown, – skipped, • did not begin, … open; empty: not \
         part of the run there</p>\n",
    );
    let shown = |id: &StepId| cells.values().any(|row| row.contains_key(id));
    let steps: Vec<(Phase, &Step)> = PHASES
        .iter()
        .flat_map(|phase| view.plan.phase(*phase).map(move |step| (*phase, step)))
        .filter(|(_, step)| shown(&step.id))
        .collect();
    let tables = steps.len().div_ceil(COLUMNS_MAX);
    for (n, steps) in steps.chunks(COLUMNS_MAX).enumerate() {
        let label =
            if tables == 1 { "Hosts and steps".into() } else { format!("Hosts and steps, part {} of {tables}", n + 1) };
        let mut table = String::from(
            "<table class=\"matrix\">\n<thead>\n<tr><th rowspan=\"2\" scope=\"col\">Host</th><th rowspan=\"2\" \
             scope=\"col\">Outcome</th>",
        );
        for phase in steps.chunk_by(|a, b| a.0 == b.0) {
            table.push_str(&format!(
                "<th colspan=\"{}\" scope=\"colgroup\">{}</th>",
                phase.len(),
                text(phase[0].0.name())
            ));
        }
        table.push_str("</tr>\n<tr>");
        for (_, step) in steps {
            table.push_str(&format!(
                "<th scope=\"col\" class=\"step\" title=\"{}\"><span>{}</span></th>",
                text(label_of(step)),
                text(step.id.as_str())
            ));
        }
        table.push_str("</tr>\n</thead>\n<tbody>\n");
        for (name, host) in &view.hosts {
            table.push_str(&host_row(name, host, &cells[name], steps));
        }
        table.push_str("</tbody>\n</table>");
        out.push_str(&wide(&label, &table));
    }
    out.push_str("</section>\n");
    out
}

fn host_row(name: &HostName, host: &HostView, cells: &BTreeMap<&StepId, Row<'_>>, steps: &[(Phase, &Step)]) -> String {
    let mut out = format!(
        "<tr><th scope=\"row\"><a href=\"#{}\">{}</a></th><td>{}</td>",
        host_anchor(name),
        text(name.as_str()),
        host_badge(host.outcome, host.started_ms.is_some())
    );
    for (_, step) in steps {
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
