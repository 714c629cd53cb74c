//! What a reader must know first: what went otherwise than planned, and what the record lacks.

use std::collections::BTreeMap;

use runbook_model::outcome::{AttemptOutcome, HostOutcome};
use runbook_model::plan::Role;
use runbook_model::{HostName, StepId};

use super::markup::{badge, text, when};
use super::{Verification, cell_anchor, host_anchor, host_badge, outside};
use crate::check::gaps;
use crate::json::{Attachments, person};
use crate::matrix::rows;
use crate::monitoring::still_muted;
use crate::objectives::CLOCK_OFFSET_MS_MAX;
use crate::session::left_open;
use crate::style::Tone;
use crate::summary::rehearsal_sentence;
use crate::text::count;
use crate::view::RunView;

/// Steps of the clock that are told one by one.
const CLOCK_STEPS_MAX: usize = 20;

/// Lines of one kind that are told one by one.
const TOLD_MAX: usize = 200;

pub(super) fn section(view: &RunView, attachments: &Attachments, verification: &Verification) -> String {
    let mut out =
        String::from("<section aria-labelledby=\"attention\">\n<h2 id=\"attention\">What needs attention</h2>\n");
    let mut said = false;
    let mut list = |heading: &str, lines: Vec<String>| {
        if lines.is_empty() {
            return;
        }
        said = true;
        out.push_str(&format!("<h3>{}</h3>\n<ul>\n", text(heading)));
        for line in lines.iter().take(TOLD_MAX) {
            out.push_str(&format!("<li>{line}</li>\n"));
        }
        if lines.len() > TOLD_MAX {
            out.push_str(&format!("<li>and {} more, in the sections of the hosts</li>\n", lines.len() - TOLD_MAX));
        }
        out.push_str("</ul>\n");
    };
    list(
        "The record",
        verification.problems.iter().map(|line| format!("{} {}", badge(Tone::Bad, "wrong"), text(line))).collect(),
    );
    list(
        match rehearsal_sentence(view) {
            Some(Ok(_)) => "Hosts that were taken back, as was meant",
            _ => "Hosts that did not succeed",
        },
        hosts(view),
    );
    list("Access that is not shown to be withdrawn", left_access(view));
    list("Sessions that stay open", open_sessions(view));
    list(
        "Monitoring that may still be muted",
        still_muted(view, attachments.interrupted).iter().map(|line| text(line)).collect(),
    );
    list("Missing from the record", missing(view));
    list("Changed without being declared", undeclared(view));
    list("Otherwise than planned", deviations(view));
    list("Skipped", skipped(view));
    list("Sessions whose end on the host is not known", unproved(view));
    list("Times that are in doubt", clocks(view));
    list("Not held outside yet", outside::waiting(attachments));
    if !said {
        out.push_str(
            "<p class=\"calm\">Nothing: every host was done and verified at the first attempt, no step was skipped, and the \
             record has no gaps.</p>\n",
        );
    }
    out.push_str("</section>\n");
    out
}

fn hosts(view: &RunView) -> Vec<String> {
    let mut out: Vec<(u8, String)> = view
        .hosts
        .iter()
        .filter(|(_, host)| host.outcome != Some(HostOutcome::Succeeded))
        .map(|(name, host)| {
            let why = match (&host.obstacle, host.reason.as_str()) {
                (_, reason) if !reason.is_empty() => text(reason),
                (Some(obstacle), _) => text(&obstacle.message),
                (None, _) if host.started_ms.is_none() => "it was not started".into(),
                _ => String::new(),
            };
            let line = format!(
                "<a href=\"#{}\">{}</a> {} {why}",
                host_anchor(name),
                text(name.as_str()),
                host_badge(host.outcome, host.started_ms.is_some())
            );
            (host.outcome.map_or(3, HostOutcome::exit_code), line)
        })
        .collect();
    // Worst first, as exit codes are ordered.
    let rank = |code: u8| [9, 7, 6, 4, 5, 8, 3, 0].iter().position(|known| *known == code).unwrap_or(0);
    out.sort_by_key(|(code, _)| rank(*code));
    out.into_iter().map(|(_, line)| line).collect()
}

fn left_access(view: &RunView) -> Vec<String> {
    let line = |(name, what): (HostName, String)| {
        let place = format!("<a href=\"#{}\">{}</a>", host_anchor(&name), text(name.as_str()));
        format!("{place} {} {}", badge(Tone::Bad, "left"), text(&what))
    };
    crate::access::left(view).into_iter().map(line).collect()
}

fn open_sessions(view: &RunView) -> Vec<String> {
    let line = |(name, what): (HostName, String)| {
        let place = match view.hosts.contains_key(&name) {
            true => format!("<a href=\"#{}\">{}</a>", host_anchor(&name), text(name.as_str())),
            false => text(name.as_str()),
        };
        format!("{place} {} {}", badge(Tone::Bad, "open"), text(&what))
    };
    left_open(view).into_iter().map(line).collect()
}

/// Sessions of whose end not all is known.
fn unproved(view: &RunView) -> Vec<String> {
    let mut out = Vec::new();
    for (name, host) in &view.hosts {
        let why =
            host.closed.last().filter(|closed| closed.close.left().is_none()).map(|closed| closed.close.unknown());
        if let Some(Some(why)) = why {
            out.push(format!("<a href=\"#{}\">{}</a>: {}", host_anchor(name), text(name.as_str()), text(&why)));
        }
    }
    out
}

fn missing(view: &RunView) -> Vec<String> {
    gaps(view)
        .into_iter()
        .map(|gap| match (&gap.host, &gap.step) {
            (Some(host), Some(step)) => format!(
                "<a href=\"#{}\">{}/{}</a>: {}",
                cell_anchor(host, step),
                text(host.as_str()),
                text(step.as_str()),
                text(&gap.what)
            ),
            (Some(host), None) => {
                format!("<a href=\"#{}\">{}</a>: {}", host_anchor(host), text(host.as_str()), text(&gap.what))
            }
            _ => text(&gap.what),
        })
        .collect()
}

fn deviations(view: &RunView) -> Vec<String> {
    let mut out = Vec::new();
    for why in &view.break_glass {
        out.push(format!("windows, blackouts and freezes were set aside (break glass): {}", text(why)));
    }
    for (_, at, _) in &view.permits {
        out.push(format!("the windows were changed while the run went on, at {}", when(*at)));
    }
    for done in view.monitoring.iter().filter(|done| done.bad) {
        out.push(format!("{}, at {}", text(&done.what), when(done.at_ms)));
    }
    for (name, host) in &view.hosts {
        if let Some(cut) = &host.cut_off {
            let (ends, at) = (when(cut.ends_ms), when(cut.at_ms));
            out.push(format!("{} was cut off at {at}: its time ends at {ends}", text(name.as_str())));
        }
    }
    if let Some((by, at)) = &view.cancel {
        out.push(format!("{} cancelled the run at {}", text(&person(by)), when(*at)));
    }
    for (by, at) in &view.resumed {
        out.push(format!("the controller had stopped; {} took the run up again at {}", text(&person(by)), when(*at)));
    }
    if let Some(revision) = view.header.as_ref().and_then(|header| header.revision.as_ref()).filter(|at| !at.clean) {
        out.push(format!(
            "files of the project are not as they were committed: {}",
            text(&crate::text::revision(revision))
        ));
    }
    if let Some((spent, budget)) = view.budget {
        out.push(format!("no further host was started: {spent} failed, and the failure budget is {budget}"));
    }
    for (name, host) in &view.hosts {
        for (id, cell) in &host.steps {
            let place = place(name, id);
            if cell.attempts.len() > 1 {
                out.push(format!("{place} took {}", count(cell.attempts.len(), "attempt")));
            }
            if let Some(lost) = cell.attempts.iter().find_map(|attempt| attempt.lost.as_ref()) {
                let what =
                    if lost.not_begun { "its host was lost before it began" } else { "it was lost while it ran" };
                out.push(format!("{place}: {what} ({})", text(&lost.reason)));
            }
            if let Some(resolved) = &cell.resolved {
                let word = if resolved.succeeded { "succeeded" } else { "failed" };
                let by = text(&person(&resolved.by));
                out.push(format!("{place}: {by} settled the unknown outcome as {word}: {}", text(&resolved.why)));
            }
            if cell.outcome == Some(AttemptOutcome::Failed) && host.outcome == Some(HostOutcome::Succeeded) {
                out.push(format!("{place} failed, and the plan went on"));
            }
        }
    }
    out
}

fn place(host: &HostName, step: &StepId) -> String {
    format!("<a href=\"#{}\">{}/{}</a>", cell_anchor(host, step), text(host.as_str()), text(step.as_str()))
}

fn undeclared(view: &RunView) -> Vec<String> {
    let mut out = Vec::new();
    for (name, host) in &view.hosts {
        for (id, cell) in &host.steps {
            let looks = view.plan.step(id).is_some_and(|step| step.role == Role::Undeclared);
            if looks && cell.outcome == Some(AttemptOutcome::Failed) {
                out.push(format!("{}: {}", place(name, id), text(&cell.reason)));
            }
        }
    }
    out
}

/// Steps that had nothing to do, told once for all hosts on which the reason is the same.
fn skipped(view: &RunView) -> Vec<String> {
    let mut out: Vec<((StepId, String), Vec<&HostName>)> = Vec::new();
    let mut known: BTreeMap<(StepId, String), usize> = BTreeMap::new();
    for (name, host) in &view.hosts {
        for row in rows(view, host).iter().filter(|row| row.outcome == Some(AttemptOutcome::Skipped)) {
            let key = (row.step.id.clone(), row.reason.clone());
            let at = *known.entry(key.clone()).or_insert_with(|| {
                out.push((key, Vec::new()));
                out.len() - 1
            });
            out[at].1.push(name);
        }
    }
    out.into_iter()
        .map(|((step, reason), hosts)| {
            let first = place(hosts[0], &step);
            let others = match hosts.len() {
                1 => String::new(),
                n => format!(" and on {}", count(n - 1, "more host")),
            };
            let why = if reason.is_empty() { String::new() } else { format!(": {}", text(&reason)) };
            format!("{first}{others}{why}")
        })
        .collect()
}

fn clocks(view: &RunView) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(header) = &view.header {
        match header.clock.synchronised {
            Some(true) => {}
            Some(false) => out.push("the controller's clock was not synchronised when the run began".into()),
            None => {
                out.push("nobody could tell whether the controller's clock was synchronised when the run began".into())
            }
        }
    }
    if let (Some(header), Some(end)) = (&view.header, &view.clock_at_end)
        && header.clock.synchronised == Some(true)
        && end.synchronised != Some(true)
    {
        out.push("the controller's clock was not known to be synchronised any more when the run ended".into());
    }
    for step in view.clock_steps.iter().take(CLOCK_STEPS_MAX) {
        let (by, seq) = (step.by_ms, super::markup::to_record(step.seq));
        out.push(format!(
            "the controller's clock jumped by {by:+} ms before record {seq}: it was set, or the machine slept"
        ));
    }
    if view.clock_steps.len() > CLOCK_STEPS_MAX {
        out.push(format!("and {} times more", view.clock_steps.len() - CLOCK_STEPS_MAX));
    }
    for (name, host) in &view.hosts {
        if let Some(offset) = host.facts.as_ref().and_then(|facts| facts.clock_offset_ms)
            && offset.abs() > CLOCK_OFFSET_MS_MAX
        {
            out.push(format!(
                "<a href=\"#{}\">{}</a>: its clock differs from the controller's by {offset:+} ms",
                host_anchor(name),
                text(name.as_str())
            ));
        }
    }
    out
}
