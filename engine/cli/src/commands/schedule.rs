//! `schedule list`, `check`.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runbook_model::plan::Plan;
use runbook_model::schedule::{Occurrence, Occurs, Schedule};
use runbook_model::{Event, Notice};
use runbook_policy::calendar::{Moved, State};
use runbook_policy::schedule::Due;
use runbook_ports::Store as _;
use runbook_ports::store::{RunStatus, Settled};
use runbook_report::style::Tone;
use runbook_store::SqliteStore;
use serde_json::{Value, json};

use crate::arguments::schedule::{Schedule as Command, ScheduleList};
use crate::arguments::{InventoryShow, Sources};
use crate::failure::Failure;
use crate::output::{self, Output, note};
use crate::problems::Tell;
use crate::project::Project;
use crate::schedule::Scheduled;
use crate::{record, sources};

/// Runs `schedule …`.
pub(crate) async fn run(project: &Project, command: &Command, output: Output) -> Result<u8, Failure> {
    match command {
        Command::List(arguments) => list(project, arguments, output).await,
        Command::Check(arguments) => check(project, arguments, output),
    }
}

fn scheduled(project: &Project, output: Output) -> Result<Scheduled, Failure> {
    Scheduled::of(project, output.error_palette)?.ok_or_else(|| {
        Failure::usage("RB0745", "the project has no `schedule.yaml`: nothing runs by itself")
            .next("write one: docs/language/schedule.md has an example")
    })
}

fn check(project: &Project, arguments: &InventoryShow, output: Output) -> Result<u8, Failure> {
    let scheduled = scheduled(project, output)?;
    let (mut wrong, mut outside) = (Vec::new(), Vec::new());
    for (name, schedule) in &scheduled.file.schedules.schedules {
        match planned(project, schedule, output) {
            Err(failure) => wrong.push(json!({"schedule": name, "problem": failure.message})),
            Ok(plan) => {
                let asks = runbook_report::brief::confirmations(&plan);
                if !asks.is_empty() {
                    let steps: Vec<&str> = asks.iter().map(|step| step.id.as_str()).collect();
                    let problem = format!("{} asks a person, and nobody is there", steps.join(", "));
                    wrong.push(json!({"schedule": name, "problem": problem}));
                }
                let next = scheduled.timetable.next(name, Timestamp::now());
                if let Some(why) = next.and_then(|due| closed(project, &scheduled, &plan, due.at, output).transpose()) {
                    outside.push(json!({"schedule": name, "problem": why?}));
                }
            }
        }
    }
    let count = scheduled.file.schedules.schedules.len();
    if arguments.json {
        output::json(&json!({
            "schema": "schedule-check/v1", "schedules": count, "problems": wrong, "warnings": outside,
        }))?;
    } else {
        for (kind, found) in [("error", &wrong), ("warning", &outside)] {
            for one in found {
                let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
                note(format!("{kind}: {}: {}", text("schedule"), text("problem")));
            }
        }
        if wrong.is_empty() {
            note(format!("right: {}", runbook_report::text::count(count, "schedule")));
        }
    }
    Ok(if wrong.is_empty() { 0 } else { crate::failure::USAGE })
}

/// The plan that an occurrence would be the run of, if it were now.
fn planned(project: &Project, schedule: &Schedule, output: Output) -> Result<Plan, Failure> {
    let path = project.folder()?.join(&schedule.run);
    let given = Sources {
        parameters: schedule.parameters.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        limit: schedule.limit.clone(),
        ..Sources::default()
    };
    sources::plan_or_saved(project, &path, &given, output.error_palette)
}

/// Why none of the plan's hosts could be begun at that moment, as far as windows say now.
fn closed(
    project: &Project,
    scheduled: &Scheduled,
    plan: &Plan,
    at: Timestamp,
    output: Output,
) -> Result<Option<String>, Failure> {
    let Some(windows) = &scheduled.windows else { return Ok(None) };
    let inventory = sources::inventory(project, output.error_palette)?;
    let covers = windows.covers(&inventory, plan.runbook.tier, plan.hosts.keys(), Tell::Shown(output.error_palette))?;
    let open = |cover| !matches!(windows.calendar.state(cover, at), State::Closed(_));
    let none = !covers.is_empty() && !covers.values().any(open);
    Ok(none.then(|| format!("when it is due next, at {at}, no window of any of its hosts is open")))
}

/// What became of an occurrence.
struct Last {
    occurrence: Occurrence,
    run: Option<String>,
    outcome: String,
    why: Option<String>,
}

async fn list(project: &Project, arguments: &ScheduleList, output: Output) -> Result<u8, Failure> {
    let scheduled = scheduled(project, output)?;
    let schedules = &scheduled.file.schedules.schedules;
    if let Some(name) = arguments.name.as_ref().filter(|name| !schedules.contains_key(*name)) {
        let names = schedules.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(
            Failure::usage("RB0745", format!("there is no schedule `{name}`")).next(format!("there are: {names}"))
        );
    }
    let store = record::open_existing(project).await?;
    let settled = match &store {
        Some(store) => store.settled(0).await.map_err(|error| record::failed(&error))?,
        None => Vec::new(),
    };
    let now = Timestamp::now();
    let mut listed = Vec::new();
    let mut text = String::new();
    for (name, schedule) in
        schedules.iter().filter(|(name, _)| arguments.name.as_ref().is_none_or(|only| only == *name))
    {
        let zone = zone(&scheduled, schedule);
        let next = next(&scheduled, name, now, usize::from(arguments.next));
        let of_it: Vec<&Settled> = settled.iter().filter(|settled| settled.occurrence.schedule == *name).collect();
        let mut last = Vec::new();
        for settled in of_it.iter().rev().take(usize::from(arguments.last)) {
            if let Some(store) = &store {
                last.push(became(store, settled).await?);
            }
        }
        let mut facts: Vec<String> = schedule.title.clone().into_iter().collect();
        facts.push(schedule.run.clone());
        facts.extend(schedule.limit.as_ref().map(|limit| format!("hosts {limit}")));
        if !schedule.enabled {
            facts.push("not enabled".to_owned());
        }
        let _ = writeln!(text, "{}  {}", output.palette.paint(Tone::Strong, name), facts.join(" · "));
        for one in last.iter().rev() {
            let why = one.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let run =
                one.run.as_ref().map(|run| format!("  run {}", runbook_report::list::short(run))).unwrap_or_default();
            let _ = writeln!(text, "  last  {}  {}{run}{why}", local(moment(&one.occurrence), &zone), one.outcome);
        }
        for due in &next {
            let _ = writeln!(text, "  next  {}{}", local(due.at, &zone), moved(due));
        }
        if next.is_empty() && schedule.enabled {
            let _ = writeln!(text, "  is not due within two years");
        }
        listed.push(as_json(name, schedule, &next, &last));
    }
    if arguments.json {
        output::json(&json!({"schema": "schedule-list/v1", "at": now, "schedules": listed}))?;
    } else {
        output::data(text)?;
    }
    Ok(0)
}

fn as_json(name: &str, schedule: &Schedule, next: &[Due], last: &[Last]) -> Value {
    let next: Vec<Value> = next.iter().map(|due| json!({"at": due.at, "late_until": due.until})).collect();
    let last: Vec<Value> = last
        .iter()
        .map(|one| json!({"at": moment(&one.occurrence), "run_id": one.run, "outcome": one.outcome, "why": one.why}))
        .collect();
    json!({
        "name": name, "title": schedule.title, "run": schedule.run, "limit": schedule.limit, "ticket": schedule.ticket,
        "enabled": schedule.enabled, "next": next, "last": last,
    })
}

/// The next occurrences, as many as are wanted.
fn next(scheduled: &Scheduled, name: &str, now: Timestamp, count: usize) -> Vec<Due> {
    let mut found: Vec<Due> = Vec::new();
    while found.len() < count {
        let after = found.last().map_or(now, |due| due.at);
        match scheduled.timetable.next(name, after) {
            Some(due) => found.push(due),
            None => break,
        }
    }
    found
}

async fn became(store: &SqliteStore, settled: &Settled) -> Result<Last, Failure> {
    let occurrence = settled.occurrence.clone();
    if !settled.run.is_installation() {
        let runs = store.runs().await.map_err(|error| record::failed(&error))?;
        let index = runs.into_iter().find(|index| index.header.run == settled.run);
        let outcome =
            index.map_or("its records were removed".to_owned(), |index| match (index.status, index.outcome) {
                (RunStatus::Ended, Some(outcome)) => outcome.name().to_owned(),
                (RunStatus::Suspended, _) => "waits for an operator".to_owned(),
                _ => "running".to_owned(),
            });
        return Ok(Last { occurrence, run: Some(settled.run.to_string()), outcome, why: None });
    }
    let records = store.ledger(settled.seq, 1).await.map_err(|error| record::failed(&error))?;
    let event = records.first().and_then(|sealed| runbook_ledger::record::parse(&sealed.bytes).ok());
    let (outcome, why) = match event.map(|record| record.event) {
        Some(Event::Installation(Notice::OccurrenceMissed { why, .. })) => ("missed", Some(why)),
        Some(Event::Installation(Notice::RunRefused { reasons, .. })) => ("refused", Some(reasons.join("; "))),
        _ => ("unknown", Some(format!("record {} does not say", settled.seq))),
    };
    Ok(Last { occurrence, run: None, outcome: outcome.to_owned(), why })
}

fn moment(occurrence: &Occurrence) -> Timestamp {
    i64::try_from(occurrence.at_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX)
}

fn zone(scheduled: &Scheduled, schedule: &Schedule) -> TimeZone {
    match &schedule.when {
        Occurs::Times(times) => TimeZone::get(&times.zone).unwrap_or(TimeZone::UTC),
        Occurs::Window { window, .. } => {
            scheduled.windows.as_ref().map_or(TimeZone::UTC, |windows| windows.calendar.zone(window))
        }
    }
}

fn local(at: Timestamp, zone: &TimeZone) -> String {
    let shown = at.to_zoned(zone.clone()).strftime("%a %Y-%m-%d %H:%M %Z").to_string();
    format!("{shown}  {}Z", at.strftime("%Y-%m-%dT%H:%M"))
}

fn moved(due: &Due) -> &'static str {
    match due.moved {
        None => "",
        Some(Moved::Gap) => "  (the clock jumps over the time that day, so it is as much later)",
        Some(Moved::First) => "  (the clock shows the time twice that day; this is the first)",
        Some(Moved::Second) => "  (the clock shows the time twice that day; this is the second)",
    }
}
