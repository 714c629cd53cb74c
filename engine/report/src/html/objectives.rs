//! One page per assessment objective: what has to be so, which records of this run answer it, what they do not hold.

use std::collections::BTreeSet;

use super::markup::{badge, facts, text, to_record, wide};
use super::{cell_anchor, host_anchor};
use crate::objectives::{Answer, Citation, Finding, Revision, answers};
use crate::style::Tone;
use crate::text::count;
use crate::view::RunView;

/// Records of one kind that a page names; the others are in the hosts' sections.
const CITED_MAX: usize = 25;
/// Places in the ledger that one line names.
const SEQS_MAX: usize = 12;

pub(super) fn section(view: &RunView, revision: Revision) -> String {
    let answers = answers(view, revision);
    let told = told(view);
    let mut out = String::from(
        "<section aria-labelledby=\"objectives\">\n<h2 id=\"objectives\">Assessment objectives</h2>\n<p>Which records of this \
         run speak to which objective of ",
    );
    out.push_str(&text(revision.title()));
    out.push_str(
        ", and what they do not hold. Whether an objective is met is for the assessor to say: nothing here says so. The \
         statements are in our own words; the publication's count.</p>\n",
    );
    out.push_str(&table(view, &answers));
    for answer in answers.iter().filter(|answer| has_page(answer)) {
        out.push_str(&page(view, answer, &told));
    }
    out.push_str("</section>\n");
    out
}

/// Those that this run says something of, and all of maintenance, for which silence is worth a page too.
fn has_page(answer: &Answer) -> bool {
    answer.objective.is_maintenance() || !answer.is_silent()
}

fn anchor(answer: &Answer) -> String {
    answer.objective.token()
}

fn named(view: &RunView, answer: &Answer) -> bool {
    let requirement = answer.objective.requirement();
    view.plan
        .runbook
        .controls
        .iter()
        .any(|control| control.split(|c: char| !(c.is_ascii_digit() || c == '.')).any(|number| number == requirement))
}

fn standing(answer: &Answer) -> String {
    if answer.is_silent() {
        return badge(Tone::Dim, "no record speaks of it");
    }
    let deviating = answer.records().filter(|citation| citation.deviates).count();
    if deviating > 0 {
        return badge(Tone::Bad, &format!("{} told of", count(deviating, "deviation")));
    }
    match answer.gaps().len() {
        0 => badge(Tone::Good, "records, no gap known"),
        n => badge(Tone::Warn, &format!("records, {}", count(n, "gap"))),
    }
}

fn table(view: &RunView, answers: &[Answer]) -> String {
    let mut table = String::from(
        "<table><thead><tr><th scope=\"col\">Objective</th><th scope=\"col\">What has to be so</th><th scope=\"col\">In this \
         run's record</th></tr></thead><tbody>\n",
    );
    for answer in answers {
        let id = text(&answer.objective.id);
        let id = if has_page(answer) { format!("<a href=\"#{}\">{id}</a>", anchor(answer)) } else { id };
        let mark = if named(view, answer) { " <span class=\"dim\">named by the runbook</span>" } else { "" };
        let gaps = if has_page(answer) { Vec::new() } else { answer.gaps() };
        let gaps: String = gaps.iter().map(|gap| format!("<br><span class=\"dim\">{}</span>", text(gap))).collect();
        table.push_str(&format!(
            "<tr><th scope=\"row\">{id}</th><td>{}{mark}</td><td>{}{gaps}</td></tr>\n",
            text(&answer.objective.statement),
            standing(answer)
        ));
    }
    table.push_str("</tbody></table>");
    wide("Assessment objectives", &table)
}

fn page(view: &RunView, answer: &Answer, told: &BTreeSet<u64>) -> String {
    let objective = answer.objective;
    let anchor = anchor(answer);
    let mut out = format!(
        "<article class=\"page\" aria-labelledby=\"{anchor}\">\n<h3 id=\"{anchor}\">{} {}</h3>\n<p \
         class=\"statement\">{}</p>\n",
        text(&objective.id),
        standing(answer),
        text(&objective.statement)
    );
    let mut rows: Vec<(&str, String)> = vec![("From", text(objective.revision.title()))];
    if let Some(points) = objective.points {
        let stake = format!("{} for the requirement {}", count(points.into(), "point"), objective.requirement());
        rows.push(("At stake", text(&stake)));
    }
    if let Some(form) = objective.form {
        rows.push(("Form wanted", text(form.words())));
    }
    if named(view, answer) {
        rows.push(("Runbook", "names this requirement among its controls".into()));
    }
    out.push_str(&facts(&rows));
    let gaps = answer.gaps();
    if !gaps.is_empty() {
        out.push_str("<h4>What this run's record does not hold</h4>\n<ul>\n");
        for gap in gaps {
            out.push_str(&format!("<li>{}</li>\n", text(gap)));
        }
        out.push_str("</ul>\n");
    }
    for finding in answer.findings.iter().filter(|finding| !finding.records.is_empty()) {
        out.push_str(&self::finding(finding, told));
    }
    out.push_str("</article>\n");
    out
}

fn finding(finding: &Finding, told: &BTreeSet<u64>) -> String {
    let mut out = format!("<h4>{}</h4>\n<ul class=\"cited\">\n", text(finding.evidence.title()));
    for citation in finding.records.iter().take(CITED_MAX) {
        let place = match (&citation.host, &citation.step) {
            (Some(host), Some(step)) => {
                let name = text(&format!("{host}/{step}"));
                format!("<a href=\"#{}\">{name}</a>: ", cell_anchor(host, step))
            }
            (Some(host), None) => format!("<a href=\"#{}\">{}</a>: ", host_anchor(host), text(host.as_str())),
            (None, _) => String::new(),
        };
        let mark = if citation.deviates { format!("{} ", badge(Tone::Bad, "deviation")) } else { String::new() };
        out.push_str(&format!("<li>{mark}{place}{} {}</li>\n", text(&citation.what), seqs(citation, told)));
    }
    let more = finding.records.len().saturating_sub(CITED_MAX);
    if more > 0 {
        out.push_str(&format!("<li>and {more} more, in the sections of the hosts</li>\n"));
    }
    out.push_str("</ul>\n");
    out
}

/// `(records 12, 15, 18)`, each linked to where the report tells of it.
fn seqs(citation: &Citation, told: &BTreeSet<u64>) -> String {
    let word = if citation.seqs.len() == 1 { "record" } else { "records" };
    let shown: Vec<String> = citation
        .seqs
        .iter()
        .take(SEQS_MAX)
        .map(|seq| if told.contains(seq) { to_record(*seq) } else { seq.to_string() })
        .collect();
    let more = citation.seqs.len().saturating_sub(SEQS_MAX);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("<span class=\"dim\">({word} {}{rest})</span>", shown.join(", "))
}

/// The records of which the report tells somewhere by their number.
fn told(view: &RunView) -> BTreeSet<u64> {
    let mut out: BTreeSet<u64> = view.acts.iter().map(|act| act.seq).chain(view.ended_seq).collect();
    for host in view.hosts.values() {
        out.extend(host.session_seq.into_iter().chain(host.ended_seq));
        out.extend(host.closed.iter().map(|closed| closed.seq));
        for cell in host.steps.values() {
            out.extend(cell.ended_seq.into_iter().chain(cell.measured_seq));
            out.extend(
                cell.attempts.iter().flat_map(|attempt| [Some(attempt.started_seq), attempt.ended_seq]).flatten(),
            );
        }
    }
    out
}
