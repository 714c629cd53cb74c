//! The report for people: one HTML file that asks nobody for anything, reads well on paper and on a phone, and puts what
//! went wrong first.
//!
//! It is made in pieces, so that a run of many hosts needs no more memory than its largest host: [`head`], then [`host`]
//! for each host with the contents that [`contents_of`] names, then [`tail`]. The same run gives the same bytes.

mod attention;
mod host;
mod markup;
mod matrix;
mod objectives;
mod outside;
mod timeline;
mod who;

use runbook_model::outcome::HostOutcome;
use runbook_model::plan::AtEnd;
use runbook_model::{HostName, Phase};

pub use host::{Contents, EXCERPT_BYTES, contents_of, host};

use crate::json::{Attachments, person};
use crate::objectives::Revision;
use crate::outside::ReceiptCheck;
use crate::style::{Tone, host_tone, words};
use crate::summary::{rehearsal_sentence, verdict_sentence};
use crate::text::{change, count, elapsed};
use crate::view::{RunState, RunView};
use markup::{badge, facts, record as told, text, when, wide};

/// What a check of the record said.
#[derive(Debug, Clone, Default)]
pub struct Verification {
    /// `verified, no outside anchor`, …
    pub verdict: String,
    /// The code of `evidence verify`.
    pub code: u8,
    /// What is wrong.
    pub problems: Vec<String>,
    /// What was checked, and held.
    pub checked: Vec<String>,
    /// What could not be checked.
    pub not_checked: Vec<String>,
    /// The key that signs the ledger.
    pub ledger_key: Option<String>,
    /// What came of the receipts of anchors.
    pub receipts: Vec<ReceiptCheck>,
    /// Said instead of a verdict, where the reader is to judge: how.
    pub how: Option<String>,
}

/// Up to the hosts' own sections.
pub fn head(view: &RunView, attachments: &Attachments, verification: &Verification) -> String {
    let title = title(view);
    let mut out = String::with_capacity(32 * 1024);
    out.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    // Nothing is fetched, whatever a host printed.
    out.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src \
         'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n",
    );
    out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    out.push_str(&format!("<title>{} – {}</title>\n", text(&title), text(&outcome_words(view))));
    out.push_str(&format!("<style>{}</style>\n</head>\n<body>\n", include_str!("style.css")));
    out.push_str(&format!("<header>\n<h1>{}</h1>\n", text(&title)));
    out.push_str(&verdict(view));
    out.push_str(&about(view, attachments, verification));
    out.push_str(
        "<nav class=\"screen\" aria-label=\"Sections\"><ul><li><a href=\"#attention\">Attention</a></li><li><a \
         href=\"#who\">Who</a></li><li><a href=\"#matrix\">Hosts and steps</a></li><li><a \
         href=\"#timeline\">Timeline</a></li><li><a href=\"#plan\">Plan</a></li><li><a href=\"#hosts\">Each \
         host</a></li><li><a href=\"#objectives\">Objectives</a></li><li><a href=\"#outside\">Who vouches</a></li><li><a \
         href=\"#record\">Record</a></li></ul></nav>\n",
    );
    out.push_str("</header>\n<main>\n");
    out.push_str(&attention::section(view, attachments, verification));
    out.push_str(&who::section(view, attachments));
    out.push_str(&matrix::section(view));
    out.push_str(&timeline::section(view));
    out.push_str(&plan(view));
    out.push_str(&format!(
        "<section aria-labelledby=\"hosts\">\n<h2 id=\"hosts\">Each host</h2>\n{SEARCH}</section>\n"
    ));
    out
}

/// After the hosts' sections: a page for each objective of `revision`, and the record itself.
pub fn tail(view: &RunView, attachments: &Attachments, verification: &Verification, revision: Revision) -> String {
    let mut out = objectives::section(view, revision);
    out.push_str(&outside::section(attachments, verification));
    out.push_str(&record(view, attachments, verification));
    out.push_str(
        "</main>\n<footer>\n<p>Made from the sealed record of the run and from nothing else. Control characters in ",
    );
    out.push_str(
        "what hosts printed are shown as escapes; the stored bytes are as they were. Times are UTC.</p>\n</footer>\n",
    );
    out.push_str(&format!("<script>{}</script>\n</body>\n</html>\n", include_str!("script.js")));
    out
}

const SEARCH: &str = "<p class=\"screen\"><label for=\"find\">Find in steps, commands and outputs</label><br><input \
    id=\"find\" type=\"search\" autocomplete=\"off\"> <button id=\"open\" type=\"button\">Open all</button> <button \
    id=\"close\" type=\"button\">Close all</button> <span id=\"found\" role=\"status\" class=\"dim\"></span></p>\n";

fn title(view: &RunView) -> String {
    let runbook = &view.plan.runbook;
    if runbook.title.is_empty() { runbook.name.clone() } else { runbook.title.clone() }
}

fn outcome_words(view: &RunView) -> String {
    match (view.outcome, view.state) {
        (Some(_), RunState::Ended) if matches!(rehearsal_sentence(view), Some(Ok(_))) => "rehearsed".to_owned(),
        (Some(outcome), RunState::Suspended) => format!("{}, waits for an operator", words(outcome.name())),
        (Some(outcome), _) => words(outcome.name()),
        (None, _) => "not ended".to_owned(),
    }
}

fn verdict(view: &RunView) -> String {
    let check_only = view.header.as_ref().is_some_and(|header| header.check_only);
    let (tone, sentence, code) = match view.outcome {
        Some(_) if matches!(rehearsal_sentence(view), Some(Ok(_))) => {
            (Tone::Good, rehearsal_sentence(view).and_then(Result::ok).unwrap_or_default(), String::new())
        }
        Some(outcome) => (
            host_tone(outcome),
            verdict_sentence(view, outcome, check_only),
            format!(" (exit code {})", outcome.exit_code()),
        ),
        None => {
            (Tone::Warn, "the run has no end on record: it goes on, or its program has died".to_owned(), String::new())
        }
    };
    format!(
        "<div class=\"verdict {}\"><strong>{}</strong><span>{}{}</span></div>\n",
        markup::class(tone),
        text(&outcome_words(view)),
        text(&sentence),
        code
    )
}

fn about(view: &RunView, attachments: &Attachments, verification: &Verification) -> String {
    let plan = &view.plan;
    let mut rows: Vec<(&str, String)> = Vec::new();
    let code = |value: &str| format!("<code>{}</code>", text(value));
    rows.push(("Runbook", format!("{} ({})", text(&plan.runbook.name), text(plan.runbook.tier.name()))));
    if let Some(header) = &view.header {
        rows.push(("Run", code(header.run.as_str())));
        if let Some(run) = &header.takes_back {
            rows.push(("Takes back run", code(run.as_str())));
        }
        match rehearsal_sentence(view) {
            Some(Ok(proves)) => rows.push(("Rehearsal", text(&proves))),
            Some(Err(fault)) => rows.push(("Rehearsal", text(&format!("it proves nothing: {fault}")))),
            None => {}
        }
        rows.push(("Operator", text(&person(&header.operator))));
        if let Some(occurrence) = &header.occurrence {
            rows.push(("Scheduled", text(&occurrence.to_string())));
        }
        rows.push(("Ticket", header.ticket.as_deref().map_or_else(|| "none was named".into(), text)));
        if let Some(seen) = &header.change {
            rows.push(("Change", text(&change(seen))));
        }
        if let Some(used) = &header.rehearsed {
            let when = when(used.ended_ms);
            rows.push(("Rehearsed", format!("{}, which ended {when}", code(used.run.as_str()))));
        }
        rows.push(("Policy", header.policy.map_or_else(|| "no policy".into(), |policy| code(&policy.to_string()))));
    }
    let end = view.ended_ms.unwrap_or(view.last_ms);
    let took = elapsed(end.saturating_sub(view.started_ms()));
    let until = if view.ended_ms.is_some() { "to" } else { "last record" };
    rows.push(("Time", format!("{} {until} {} ({took})", when(view.started_ms()), when(end))));
    let batches = if plan.batches.len() == 1 { "one batch".into() } else { format!("{} batches", plan.batches.len()) };
    rows.push(("Hosts", format!("{} in {batches}", view.hosts.len())));
    if !plan.runbook.controls.is_empty() {
        rows.push(("Controls", text(&plan.runbook.controls.join(", "))));
    }
    rows.push(("Held outside", outside::brief(attachments, verification)));
    facts(&rows)
}

fn plan(view: &RunView) -> String {
    let plan = &view.plan;
    let mut out = String::from("<section aria-labelledby=\"plan\">\n<h2 id=\"plan\">What was to be done</h2>\n");
    let digest = view.header.as_ref().map_or_else(|| plan.digest(), |header| header.plan_sha256);
    let mut rows = vec![("Plan", format!("<code>{digest}</code>"))];
    rows.push(("Failure budget", count(plan.failure_budget as usize, "host")));
    rows.push(("At once", count(plan.parallel as usize, "host")));
    if plan.window.at_end == AtEnd::Rollback {
        rows.push(("At the end of a window", "hosts that are not through are taken back before it".into()));
    }
    for access in plan.access.iter().flat_map(runbook_model::access::Access::sentences) {
        rows.push(("Access on the hosts", text(&access)));
    }
    if let Some(reason) = &plan.irreversible {
        rows.push(("Cannot be taken back", text(reason)));
    }
    out.push_str(&facts(&rows));
    if !plan.parameters.is_empty() {
        let mut table = String::from(
            "<table><thead><tr><th scope=\"col\">Parameter</th><th scope=\"col\">Value</th></tr></thead><tbody>\n",
        );
        for (name, value) in &plan.parameters {
            let value = serde_json::to_string(value).unwrap_or_default();
            table.push_str(&format!(
                "<tr><th scope=\"row\">{}</th><td class=\"mono\">{}</td></tr>\n",
                text(name),
                text(&value)
            ));
        }
        table.push_str("</tbody></table>");
        out.push_str(&wide("Parameters", &table));
    }
    let mut table = String::from(
        "<table><thead><tr><th scope=\"col\">Phase</th><th scope=\"col\">Step</th><th \
         scope=\"col\">What</th></tr></thead><tbody>\n",
    );
    for step in &plan.steps {
        table.push_str(&format!(
            "<tr><td>{}</td><td class=\"mono\">{}</td><td>{}</td></tr>\n",
            text(step.phase.name()),
            text(step.id.as_str()),
            text(crate::matrix::label(step))
        ));
    }
    table.push_str("</tbody></table>");
    out.push_str(&wide("Steps of the plan", &table));
    out.push_str("</section>\n");
    out
}

fn record(view: &RunView, attachments: &Attachments, verification: &Verification) -> String {
    let mut out = String::from("<section aria-labelledby=\"record\">\n<h2 id=\"record\">The record</h2>\n");
    let tone = match verification.code {
        0 | 10 => Tone::Good,
        11..=13 => Tone::Warn,
        _ => Tone::Bad,
    };
    let verdict = match &verification.how {
        Some(how) => text(how),
        None => format!("{} {}", badge(tone, &verification.verdict), text(&format!("(code {})", verification.code))),
    };
    let mut rows = vec![("Verification", verdict)];
    if let Some(ledger) = &attachments.ledger {
        rows.push(("Ledger", text(&count(ledger.size as usize, "record"))));
        rows.push(("Merkle root", format!("<code>{}</code>", text(&ledger.root))));
    }
    if let Some(key) = &verification.ledger_key {
        rows.push(("Key", format!("<code>{}</code>", text(key))));
    }
    if let Some(header) = &view.header {
        rows.push((
            "Engine",
            format!("runbook {}, <code>{}</code>", text(&header.engine_version), header.engine_sha256),
        ));
        rows.push(("Controller", text(&header.controller)));
        let clock = match header.clock.synchronised {
            Some(true) => "synchronised",
            Some(false) => "not synchronised",
            None => "nobody could tell whether it was synchronised",
        };
        let at_end = view.clock_at_end.as_ref().map(|clock| clock.synchronised);
        let otherwise = if at_end.is_some_and(|at_end| at_end != header.clock.synchronised) {
            "; it was otherwise when the run ended"
        } else {
            ""
        };
        rows.push(("Its clock", text(&format!("{clock}{otherwise}"))));
        if let Some(revision) = &header.revision {
            rows.push(("Runbook's revision", text(&crate::text::revision(revision))));
        }
        for source in &header.inventory_sources {
            let line = crate::text::origin(source);
            rows.push(("Inventory from", format!("{}, <code>{}</code>", text(&line), source.sha256)));
        }
        if let Some(settings) = &header.settings_sha256 {
            rows.push(("Settings", format!("<code>{settings}</code>")));
        }
    }
    if let (Some(first), Some(last)) = (view.opened_seq, view.last_seq) {
        rows.push(("Records of this run", text(&format!("{} of them, from {first} to {last}", view.records))));
    }
    if let Some(seq) = view.ended_seq {
        rows.push(("End of the run", told(seq)));
    }
    out.push_str(&facts(&rows));
    for (heading, lines) in [
        ("Wrong", &verification.problems),
        ("Checked", &verification.checked),
        ("Not checked", &verification.not_checked),
    ] {
        if !lines.is_empty() {
            out.push_str(&format!("<h3>{heading}</h3>\n<ul>\n"));
            for line in lines {
                out.push_str(&format!("<li>{}</li>\n", text(line)));
            }
            out.push_str("</ul>\n");
        }
    }
    out.push_str(&redactions(attachments));
    if verification.how.is_none() {
        let run = view.run().map(ToString::to_string).unwrap_or_default();
        out.push_str(&format!(
            "<p>Check it again, with the key's public half from elsewhere: <code>runbook evidence verify {} --pin \
             ledger.pub</code></p>\n",
            text(&run)
        ));
    }
    out.push_str("</section>\n");
    out
}

/// What redacted editions withhold of it.
fn redactions(attachments: &Attachments) -> String {
    if attachments.redactions.is_empty() {
        return String::new();
    }
    let mut out = String::from("<h3>Withheld in redacted editions</h3>\n<ul>\n");
    for redaction in &attachments.redactions {
        let cell = cell_anchor(&redaction.host.as_str().into(), &redaction.step.as_str().into());
        out.push_str(&format!(
            "<li><a href=\"#{cell}\">{}/{}</a>: {} <span class=\"seq\">(record {})</span></li>\n",
            text(&redaction.host),
            text(&redaction.step),
            text(&redaction.told()),
            redaction.record
        ));
    }
    out.push_str("</ul>\n<p class=\"dim\">This report is of the whole record, and withholds nothing.</p>\n");
    out
}

/// The anchor of a host's section.
fn host_anchor(name: &HostName) -> String {
    format!("h-{}", markup::anchor(name.as_str()))
}

/// The anchor of a cell.
fn cell_anchor(name: &HostName, step: &runbook_model::StepId) -> String {
    format!("{}--{}", host_anchor(name), markup::anchor(step.as_str()))
}

/// How a host stands, as a badge.
fn host_badge(outcome: Option<HostOutcome>, started: bool) -> String {
    match outcome {
        Some(outcome) => badge(host_tone(outcome), &words(outcome.name())),
        None if started => badge(Tone::Warn, "open"),
        None => badge(Tone::Dim, "not started"),
    }
}

/// Phases in their order.
const PHASES: [Phase; 6] =
    [Phase::Prechecks, Phase::Snapshot, Phase::Execute, Phase::Verify, Phase::Rollback, Phase::Finally];
