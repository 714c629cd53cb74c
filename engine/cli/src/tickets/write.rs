//! What is written into a ticket: times, people, outcome, digests, and the report.

use std::fmt::Write as _;

use runbook_model::{News, NewsKind, RunOutcome, Sha256};
use runbook_ports::notifier::NotifyError;
use runbook_ports::store::RunStatus;
use runbook_ports::tickets::{Attachment, End, Entry, TicketError};
use runbook_report::json::Attachments;
use runbook_report::list::short;
use runbook_report::style::words;
use runbook_report::text::{count, list, when};
use runbook_report::{RunView, summary};
use runbook_store::{Message, SqliteStore};

use super::settings::{Report, System};
use crate::commands::evidence;
use crate::project::Project;
use crate::record;

/// A report that is longer is not attached.
const REPORT_BYTES_MAX: usize = 8 << 20;
/// Hosts that are named for each outcome.
const HOSTS_NAMED: usize = 20;

/// Writes what a message is about into its ticket. The text is made now, from the record.
///
/// # Errors
/// As a notifier's.
pub(crate) async fn attempt(
    project: &Project,
    store: &SqliteStore,
    system: &System,
    message: &Message,
) -> Result<(String, Sha256), NotifyError> {
    let never = |error: String| NotifyError::Never(error);
    let news: News = serde_json::from_str(&message.news)
        .map_err(|error| never(format!("a newer version of runbook wrote it: {error}")))?;
    let (Some(run), Some(ticket)) = (&news.run, &news.ticket) else {
        return Err(never("it is about no run, or names no ticket".to_owned()));
    };
    let later = |failure: crate::failure::Failure| NotifyError::later(failure.message);
    let index = record::find(store, run.as_str()).await.map_err(later)?;
    let ended = index.status == RunStatus::Ended;
    if news.kind != NewsKind::Ended && ended {
        // What comes late must not move the ticket back.
        let answer = "the run has ended by now: the ticket is told that, and not what was before".to_owned();
        return Ok((answer, Sha256::of(message.news.as_bytes())));
    }
    let view = record::view(store, &index).await.map_err(later)?;
    let attachments = record::attachments(store, project, &view).await.map_err(later)?;
    let (report, no_report) = match ended {
        true => report(project, system, &view).await,
        false => (None, None),
    };
    let text = text(&view, &attachments, news.kind, report.as_ref(), no_report);
    let name = format!("runbook-report-{}.html", short(run.as_str()));
    let files: Vec<Attachment<'_>> = report
        .iter()
        .map(|(bytes, _)| Attachment { name: &name, media_type: "text/html", bytes: bytes.as_slice() })
        .collect();
    let line = summary::in_a_line(&view);
    let outcome = view.outcome.unwrap_or(RunOutcome::Unknown);
    let end = ended.then(|| End {
        ended_ms: view.ended_ms.unwrap_or(view.last_ms),
        succeeded: outcome == RunOutcome::Succeeded,
        settled: !matches!(outcome, RunOutcome::Failed | RunOutcome::Stuck | RunOutcome::Unknown),
        summary: &line,
        attachments: &files,
    });
    let entry = Entry { id: &message.id, text: &text, started_ms: view.started_ms(), end };
    let tickets = super::build(project, system).await.map_err(NotifyError::later)?;
    let written = tickets.write(ticket, entry, system.timeout).await.map_err(|error| match error {
        TicketError::Later { why, after_ms } => NotifyError::Later { why, after_ms },
        TicketError::Missing(why) | TicketError::Never(why) => NotifyError::Never(why),
    })?;
    Ok((written.answer, written.sha256))
}

/// The report with its digest, or why there is none.
async fn report(
    project: &Project,
    system: &System,
    view: &RunView,
) -> (Option<(Vec<u8>, Sha256)>, Option<&'static str>) {
    let holds_cui = view.plan.hosts.values().any(|host| host.cui);
    match system.report {
        Report::Never => return (None, Some("the settings say so")),
        Report::WithoutCui if holds_cui => return (None, Some("a host of the run holds CUI")),
        Report::WithoutCui | Report::Always => {}
    }
    let run = view.run().map_or("", |run| run.as_str());
    match evidence::report_of(project, run).await {
        Ok(bytes) if bytes.len() <= REPORT_BYTES_MAX => {
            let sha256 = Sha256::of(&bytes);
            (Some((bytes, sha256)), None)
        }
        Ok(_) => (None, Some("it is longer than 8 MiB")),
        Err(_) => (None, Some("it could not be made")),
    }
}

fn text(
    view: &RunView,
    attachments: &Attachments,
    kind: NewsKind,
    report: Option<&(Vec<u8>, Sha256)>,
    no_report: Option<&'static str>,
) -> String {
    let mut text = match kind {
        NewsKind::Started => "The work has begun.\n".to_owned(),
        NewsKind::Suspended => "The work stands still, and waits for an operator.\n".to_owned(),
        _ => format!("The work has ended: {}\n", summary::in_a_line(view)),
    };
    let mut fact = |key: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{:<13} {value}", format!("{key}:"));
        }
    };
    fact("runbook", view.plan.runbook.name.clone());
    fact("begun", when(view.started_ms()));
    fact("ended", view.ended_ms.map(when).unwrap_or_default());
    if kind != NewsKind::Started {
        fact("outcome", view.outcome.map(|outcome| words(outcome.name())).unwrap_or_default());
    }
    let mut by_outcome: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, host) in &view.hosts {
        let word = host.outcome.map_or_else(|| "open".to_owned(), |outcome| words(outcome.name()));
        match by_outcome.iter_mut().find(|(known, _)| *known == word) {
            Some((_, names)) => names.push(name.as_str()),
            None => by_outcome.push((word, vec![name.as_str()])),
        }
    }
    for (word, names) in &by_outcome {
        let what = if kind == NewsKind::Started { "hosts" } else { word.as_str() };
        fact(what, format!("{}: {}", count(names.len(), "host"), list(names, HOSTS_NAMED)));
    }
    if let Some(header) = &view.header {
        fact("operator", header.operator.name.clone());
        let approvers: Vec<&str> = header.approvals.iter().map(|used| used.signer.as_str()).collect();
        fact("approved by", if approvers.is_empty() { String::new() } else { list(&approvers, HOSTS_NAMED) });
        fact("reason", header.reason.clone().unwrap_or_default());
        fact("break glass", view.break_glass.join("; "));
        fact("run", format!("{} on {}", header.run, header.controller));
        fact("plan", format!("sha256:{}", header.plan_sha256));
        let takes_back = header.takes_back.as_ref();
        fact("takes back", takes_back.map(ToString::to_string).unwrap_or_default());
    }
    if let Some(ledger) = attachments.ledger.as_ref().filter(|_| kind == NewsKind::Ended) {
        fact("ledger", format!("{} records, root {}", ledger.size, ledger.root));
    }
    fact("report", report.map(|(_, sha256)| format!("attached, sha256:{sha256}")).unwrap_or_default());
    fact("report", no_report.map(|why| format!("not attached: {why}")).unwrap_or_default());
    text
}
