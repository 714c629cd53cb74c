//! `ticket new|show|list|close`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use runbook_model::approval::Decision;
use runbook_model::plan::Plan;
use runbook_model::ticket::{Conclusion, Ticket, key};
use runbook_model::units::rfc3339_ms;
use runbook_model::{HostName, Notice, canonical};
use runbook_report::style::{Tone, words};
use runbook_report::text::{escape_line, list as enumerated, when};
use runbook_store::SqliteStore;
use serde_json::{Value, json};

use crate::arguments::ticket::{Concluded, Ticket as Command, TicketClose, TicketNew, TicketShow};
use crate::arguments::{InventoryShow, Sources};
use crate::changes::{self, Kept, State};
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output, note};
use crate::policy::Found;
use crate::project::Project;
use crate::{keys, notices, person, policy, record, sources};

/// Runs `ticket …`.
pub(crate) async fn run(project: &Project, command: &Command, output: Output) -> Result<u8, Failure> {
    match command {
        Command::New(arguments) => new(project, arguments, output).await,
        Command::Show(arguments) => show(project, arguments, output).await,
        Command::List(arguments) => list(project, arguments).await,
        Command::Close(arguments) => close(project, arguments).await,
    }
}

/// A text of a line that somebody gave.
fn line(option: &str, text: &str) -> Result<String, Failure> {
    match text.trim() {
        "" => Err(Failure::usage("RB0617", format!("{option} is empty"))),
        text if text.chars().any(char::is_control) => {
            Err(Failure::usage("RB0617", format!("{option} has more than a line, or control characters")))
        }
        text if text.len() > 1_000 => Err(Failure::usage("RB0617", format!("{option} is longer than 1,000 bytes"))),
        text => Ok(text.to_owned()),
    }
}

fn moment_ms(option: &str, text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let moment = super::windows::moment(text)?;
    let ms = u64::try_from(moment.as_millisecond());
    ms.map(Some).map_err(|_| Failure::usage("RB0617", format!("{option} is before 1970")))
}

async fn new(project: &Project, arguments: &TicketNew, output: Output) -> Result<u8, Failure> {
    let palette = output.error_palette;
    let (title, owner) = (line("the title", &arguments.title)?, line("--owner", &arguments.owner)?);
    let impact = arguments.impact.as_deref().map(|text| line("--impact", text)).transpose()?;
    let starts_ms = moment_ms("--from", arguments.from.as_deref())?;
    let ends_ms = moment_ms("--until", arguments.until.as_deref())?;
    if let (Some(starts), Some(ends)) = (starts_ms, ends_ms)
        && ends <= starts
    {
        return Err(Failure::usage("RB0617", "--until is not after --from"));
    }
    if ends_ms.is_some_and(|ends| ends <= now_ms()) {
        return Err(Failure::usage("RB0617", "--until is over already"));
    }
    let (plan, hosts, holds_cui) = match (&arguments.plan, &arguments.hosts) {
        (Some(path), _) => {
            let plan = sources::plan_or_saved(project, Path::new(path), &arguments.sources, palette)?;
            let holds_cui = plan.hosts.values().any(|host| host.cui);
            let hosts: BTreeSet<HostName> = plan.hosts.keys().cloned().collect();
            (Some(plan), hosts, holds_cui)
        }
        (None, Some(text)) => {
            let Sources { parameters, limit, allow_shrink } = &arguments.sources;
            if !parameters.is_empty() || limit.is_some() || *allow_shrink {
                return Err(Failure::usage(
                    "RB0617",
                    "-p, --limit and --allow-shrink belong to --plan, not to --hosts",
                )
                .next("say with --hosts alone for which hosts it is"));
            }
            let selector = sources::selector("--hosts", Some(text), palette)?.expect("a selection was given");
            let inventory = sources::inventory(project, palette)?;
            let hosts = selector.hosts(&inventory);
            let hosts = hosts.map_err(|found| crate::problems::failure(&found, "--hosts", palette))?;
            let holds_cui = hosts.iter().any(|name| inventory.hosts.get(name).is_some_and(|found| found.host.cui));
            (None, hosts.into_iter().collect(), holds_cui)
        }
        (None, None) => {
            return Err(Failure::usage("RB0617", "the ticket is for nothing")
                .next("say with --plan what will be run, or with --hosts for which hosts it is"));
        }
    };
    let cui = arguments.cui || holds_cui;
    let ticket = Ticket {
        key: String::new(),
        title,
        owner,
        cui,
        hosts,
        impact,
        runbook: plan.as_ref().map(|plan| plan.runbook.name.clone()),
        plan_sha256: plan.as_ref().map(Plan::digest),
        starts_ms,
        ends_ms,
    };
    project.make_state()?;
    keys::present(project)?;
    let store = record::open(project).await?;
    let by = person::operator();
    let opened = |seq: u64| {
        let ticket = Box::new(Ticket { key: key(seq), ..ticket.clone() });
        vec![Notice::ChangeOpened { ticket, by: by.clone() }]
    };
    let blobs = plan.iter().map(|plan| (plan.digest(), canonical::bytes(plan))).collect();
    let records = notices::append_at(project, &store, blobs, opened).await?;
    let seq = records.last().map_or(0, |record| record.seq);
    let kept = find(&store, &key(seq)).await?;
    if arguments.json {
        output::json(&document(&kept, &[]))?;
    } else {
        output::data(format!("{}\n", kept.ticket.key))?;
        note(format!("opened; `runbook apply … --ticket {}` is for it", kept.ticket.key));
    }
    Ok(0)
}

fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

async fn find(store: &SqliteStore, wanted: &str) -> Result<Kept, Failure> {
    let found = changes::all(store).await?.into_iter().find(|kept| kept.ticket.key.eq_ignore_ascii_case(wanted));
    found.ok_or_else(|| {
        Failure::usage("RB0738", format!("there is no ticket {wanted} in this project"))
            .next("`runbook ticket list` lists them; a ticket of another system is shown there")
    })
}

/// The decisions about its plan.
async fn decisions(project: &Project, store: &SqliteStore, kept: &Kept) -> Result<Vec<Found>, Failure> {
    let Some(plan) = kept.ticket.plan_sha256 else { return Ok(Vec::new()) };
    let mut found = policy::decisions(project, Some(store)).await?;
    found.retain(|one| one.offered.approval.plan_sha256 == plan && one.offered.signed.is_ok());
    Ok(found)
}

async fn show(project: &Project, arguments: &TicketShow, output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let kept = find(&store, &arguments.ticket).await?;
    let decided = decisions(project, &store, &kept).await?;
    if arguments.json {
        output::json(&document(&kept, &decided))?;
    } else {
        output::data(text(&kept, &decided, output))?;
    }
    Ok(0)
}

fn word(decision: Decision) -> &'static str {
    match decision {
        Decision::Approve => "approved",
        Decision::Reject => "rejected",
    }
}

fn text(kept: &Kept, decided: &[Found], output: Output) -> String {
    let palette = output.palette;
    let shown = |text: &str| escape_line(text.as_bytes());
    let Ticket { key, title, owner, hosts, cui, impact, runbook, plan_sha256, starts_ms, ends_ms } = &kept.ticket;
    let mut out = format!("{}  {}\n", palette.paint(Tone::Strong, key), shown(title));
    let mut pair = |name: &str, value: String| {
        let _ = writeln!(out, "{} {value}", palette.paint(Tone::Dim, &format!("{name:<11}")));
    };
    let tone = match kept.state() {
        State::Closed => Tone::Good,
        State::Open | State::InProgress => Tone::Active,
        State::NeedsAttention => Tone::Bad,
    };
    pair("state", palette.paint(tone, &words(kept.state().name())));
    if let Some(closed) = &kept.closed {
        pair("result", format!("{}: {}", closed.conclusion.name(), shown(&closed.summary)));
        pair("closed", format!("{} by {}", closed.at, shown(&closed.by.name)));
        if let Some((run, plan, leaf)) = &closed.run {
            pair("by run", run.clone());
            pair("plan", plan.map(|plan| plan.to_string()).unwrap_or_default());
            pair("last record", leaf.map(|leaf| leaf.to_string()).unwrap_or_default());
        }
    }
    pair("opened", format!("{} by {}", kept.opened_at, shown(&kept.opened_by.name)));
    pair("owner", shown(owner));
    let names: Vec<&str> = hosts.iter().map(HostName::as_str).collect();
    pair("hosts", enumerated(&names, 12));
    pair("CUI", if *cui { "yes" } else { "no" }.to_owned());
    if let Some(impact) = impact {
        pair("impact", shown(impact));
    }
    if let (Some(runbook), Some(plan)) = (runbook, plan_sha256) {
        pair("runbook", runbook.clone());
        pair("for plan", plan.to_string());
    }
    let until = |ms: &Option<u64>| ms.map_or_else(|| "any time".to_owned(), when);
    pair("times", format!("from {} to {}", until(starts_ms), until(ends_ms)));
    for one in decided {
        let approval = &one.offered.approval;
        let (what, at) = (word(approval.decision), rfc3339_ms(approval.made_ms));
        pair(what, format!("by {} at {at}", shown(&approval.signer)));
    }
    for run in &kept.runs {
        let outcome = run.outcome.map_or_else(|| "not ended".to_owned(), |outcome| words(outcome.name()));
        let (started, ended) = changes::times(run);
        let ended = ended.map(|ended| format!(" to {ended}")).unwrap_or_default();
        let takes_back = run.header.takes_back.as_ref().map(|of| format!("  takes {of} back")).unwrap_or_default();
        pair("run", format!("{}  {outcome}  {started}{ended}{takes_back}", run.header.run));
    }
    out
}

/// `ticket/v1`.
fn document(kept: &Kept, decided: &[Found]) -> Value {
    let ticket = &kept.ticket;
    let runs: Vec<Value> = kept
        .runs
        .iter()
        .map(|run| {
            let (started_at, ended_at) = changes::times(run);
            json!({
                "run_id": run.header.run, "outcome": run.outcome.map(|outcome| outcome.name()), "started_at": started_at,
                "ended_at": ended_at, "plan_digest": run.header.plan_sha256, "operator": run.header.operator.name, "takes_back": run.header.takes_back,
            })
        })
        .collect();
    let decisions: Vec<Value> = decided
        .iter()
        .map(|one| {
            let approval = &one.offered.approval;
            json!({
                "decision": word(approval.decision), "signer": approval.signer, "made_at": rfc3339_ms(approval.made_ms),
                "document_sha256": one.offered.document,
            })
        })
        .collect();
    let closed = kept.closed.as_ref().map(|closed| {
        let run = closed.run.as_ref();
        json!({
            "at": closed.at, "by": closed.by.name, "result": closed.conclusion.name(), "summary": closed.summary,
            "run_id": run.map(|run| &run.0), "plan_digest": run.and_then(|run| run.1), "last_leaf": run.and_then(|run| run.2),
            "record": closed.seq,
        })
    });
    json!({
        "schema": "ticket/v1", "key": ticket.key, "title": ticket.title, "state": kept.state().name(),
        "owner": ticket.owner, "hosts": ticket.hosts, "cui": ticket.cui, "impact": ticket.impact,
        "runbook": ticket.runbook, "plan_digest": ticket.plan_sha256,
        "starts_at": ticket.starts_ms.map(rfc3339_ms), "ends_at": ticket.ends_ms.map(rfc3339_ms),
        "opened_at": kept.opened_at, "opened_by": kept.opened_by.name, "record": kept.seq,
        "decisions": decisions, "runs": runs, "closed": closed,
    })
}

async fn list(project: &Project, arguments: &InventoryShow) -> Result<u8, Failure> {
    let all = match record::open_existing(project).await? {
        Some(store) => changes::all(&store).await?,
        None => Vec::new(),
    };
    if arguments.json {
        let tickets: Vec<Value> = all.iter().map(|kept| document(kept, &[])).collect();
        output::json(&json!({"schema": "tickets/v1", "tickets": tickets}))?;
        return Ok(0);
    }
    if all.is_empty() {
        note("no tickets yet: `runbook ticket new`");
    }
    let mut text = String::new();
    for kept in &all {
        let conclusion = kept.closed.as_ref().map(|closed| format!(", {}", closed.conclusion.name()));
        let state = format!("{}{}", words(kept.state().name()), conclusion.unwrap_or_default());
        let ticket = &kept.ticket;
        let shown = |text: &str| escape_line(text.as_bytes());
        let _ = writeln!(text, "{:<10} {state:<22} {}  {}", ticket.key, shown(&ticket.owner), shown(&ticket.title));
    }
    output::data(text)?;
    Ok(0)
}

async fn close(project: &Project, arguments: &TicketClose) -> Result<u8, Failure> {
    let why = line("--why", &arguments.why)?;
    let store = record::open_recorded(project).await?;
    changes::close_ended(project, &store).await;
    let kept = find(&store, &arguments.ticket).await?;
    let refused = |text: String| Err(Failure::new("RB0739", REFUSED, text));
    match kept.state() {
        State::Closed => {
            let at = kept.closed.as_ref().map(|closed| closed.at.clone()).unwrap_or_default();
            return refused(format!("{} is closed already, since {at}", kept.ticket.key));
        }
        State::InProgress => {
            let run = kept.runs.last().map(|run| run.header.run.to_string()).unwrap_or_default();
            return refused(format!("run {run} for {} is not over", kept.ticket.key));
        }
        State::Open | State::NeedsAttention => {}
    }
    let conclusion = match arguments.conclusion {
        Concluded::Successful => Conclusion::Successful,
        Concluded::Unsuccessful => Conclusion::Unsuccessful,
        Concluded::Cancelled => Conclusion::Cancelled,
    };
    let notice = Notice::ChangeClosed {
        ticket: kept.ticket.key.clone(),
        conclusion,
        summary: why,
        closed_by_run: None,
        plan_sha256: None,
        last_leaf: None,
        by: person::operator(),
    };
    notices::append(project, &store, vec![notice], Vec::new()).await?;
    let kept = find(&store, &kept.ticket.key).await?;
    if arguments.json {
        output::json(&document(&kept, &[]))?;
    } else {
        note(format!("{} is closed: {}", kept.ticket.key, conclusion.name()));
    }
    Ok(0)
}
