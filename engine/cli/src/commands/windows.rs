//! `windows list`, `check`.

use std::fmt::Write as _;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use runbook_lang::Inventory;
use runbook_model::HostName;
use runbook_model::plan::Tier;
use runbook_model::windows::When;
use runbook_policy::calendar::{Closed, Moved, Open, State};
use runbook_report::style::Tone;
use serde_json::{Value, json};

use crate::arguments::{InventoryShow, TierArgument, Windows as Command, WindowsList};
use crate::authority::Windows;
use crate::failure::Failure;
use crate::output::{self, Output, note};
use crate::problems::Tell;
use crate::project::Project;
use crate::{problems, sources};

/// Runs `windows …`.
pub(crate) fn run(project: &Project, command: &Command, output: Output) -> Result<u8, Failure> {
    match command {
        Command::List(arguments) => list(project, arguments, output),
        Command::Check(arguments) => check(project, arguments, output),
    }
}

fn windows(project: &Project, output: Output) -> Result<Windows, Failure> {
    Windows::of(project, output.error_palette)?.ok_or_else(|| {
        Failure::usage("RB0721", "the project has no `windows.yaml`, so work may be done at any time")
            .next("write one: docs/language/windows.md has an example")
    })
}

fn check(project: &Project, arguments: &InventoryShow, output: Output) -> Result<u8, Failure> {
    let windows = windows(project, output)?;
    let inventory = sources::inventory(project, output.error_palette)?;
    windows.covers(&inventory, Tier::Routine, inventory.hosts.keys(), Tell::Shown(output.error_palette))?;
    let said = windows.calendar.said();
    if arguments.json {
        output::json(&json!({
            "schema": "windows-check/v1",
            "windows": said.windows.len(),
            "blackouts": said.blackouts.len(),
            "freezes": said.freezes.len(),
        }))?;
    } else {
        let count = runbook_report::text::count;
        note(format!(
            "right: {}, {}, {}",
            count(said.windows.len(), "window"),
            count(said.blackouts.len(), "blackout"),
            count(said.freezes.len(), "freeze"),
        ));
    }
    Ok(0)
}

/// A moment as an argument: RFC 3339, or the beginning of a day in UTC.
pub(crate) fn moment(text: &str) -> Result<Timestamp, Failure> {
    let day = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    text.parse().ok().or_else(day).ok_or_else(|| {
        Failure::usage("RB0617", format!("`{text}` is no moment")).next("write for example 2026-12-08T22:00:00-05:00")
    })
}

struct Listed<'w> {
    name: &'w str,
    title: Option<&'w str>,
    zone: TimeZone,
    zone_name: &'w str,
    hosts: Option<&'w str>,
    openings: Vec<Open>,
}

fn list(project: &Project, arguments: &WindowsList, output: Output) -> Result<u8, Failure> {
    let windows = windows(project, output)?;
    let inventory = sources::inventory(project, output.error_palette)?;
    let from = arguments.from.as_deref().map(moment).transpose()?.unwrap_or_else(Timestamp::now);
    let hosts = chosen(&inventory, arguments.selector.as_deref(), output)?;
    let tiers = match arguments.tier {
        Some(TierArgument::Routine) => vec![Tier::Routine],
        Some(TierArgument::Corrective) => vec![Tier::Corrective],
        Some(TierArgument::Emergency) => vec![Tier::Emergency],
        None => vec![Tier::Routine, Tier::Corrective, Tier::Emergency],
    };
    let mut named = std::collections::BTreeSet::new();
    let mut covers = Vec::new();
    for tier in tiers {
        let of_tier = windows.covers(&inventory, tier, &hosts, Tell::Shown(output.error_palette))?;
        named.extend(of_tier.values().flat_map(|cover| cover.windows.iter().cloned()));
        covers.extend(of_tier.into_iter().map(|(host, cover)| (host, tier, cover)));
    }
    let said = windows.calendar.said();
    let listed: Vec<Listed<'_>> = said
        .windows
        .iter()
        .filter(|(name, _)| named.contains(*name))
        .map(|(name, window)| Listed {
            name,
            title: window.title.as_deref(),
            zone: windows.calendar.zone(name),
            zone_name: &window.times.zone,
            hosts: window.hosts.as_deref(),
            openings: next(&windows, name, from, usize::from(arguments.next)),
        })
        .collect();
    if arguments.json {
        let states: Vec<Value> = covers
            .iter()
            .map(|(host, tier, cover)| json!({"host": host, "tier": tier.name(), "now": state(&windows.calendar.state(cover, from))}))
            .collect();
        let openings: Vec<Value> = listed.iter().map(of_window).collect();
        let closings: Vec<Value> = closings(&windows)
            .into_iter()
            .map(|(kind, name, text)| json!({"kind": kind, "name": name, "when": text}))
            .collect();
        output::json(&json!({
            "schema": "windows-list/v1", "from": from, "windows": openings, "closings": closings, "hosts": states,
        }))?;
        return Ok(0);
    }
    let mut text = String::new();
    for window in &listed {
        let mut facts: Vec<String> = window.title.map(str::to_owned).into_iter().collect();
        facts.push(window.hosts.map_or_else(|| "all hosts".to_owned(), |hosts| format!("hosts {hosts}")));
        facts.push(window.zone_name.to_owned());
        let _ = writeln!(text, "{}  {}", output.palette.paint(Tone::Strong, window.name), facts.join(" · "));
        if window.openings.is_empty() {
            let _ = writeln!(text, "  does not open within two years");
        }
        for open in &window.openings {
            let _ = writeln!(text, "  {}", line(open, &window.zone));
        }
    }
    for (kind, name, when) in closings(&windows) {
        let _ = writeln!(text, "{}  {kind}: {when}", output.palette.paint(Tone::Warn, &name));
    }
    if listed.is_empty() {
        note(
            "no window is for these hosts and tiers: what no window is for may be done at any time that nothing closes",
        );
    }
    output::data(text)?;
    Ok(0)
}

fn chosen(inventory: &Inventory, selector: Option<&str>, output: Output) -> Result<Vec<HostName>, Failure> {
    let hosts = match sources::selector("selector", selector, output.error_palette)? {
        None => inventory.hosts.keys().cloned().collect(),
        Some(selector) => selector
            .hosts(inventory)
            .map_err(|found| problems::failure(&found, "selector", output.error_palette))?
            .into_iter()
            .collect(),
    };
    Ok(hosts)
}

/// The next openings, as many as are wanted, within two years.
fn next(windows: &Windows, window: &str, from: Timestamp, count: usize) -> Vec<Open> {
    let mut found = Vec::new();
    for days in [62, 366, 732] {
        let until = from.saturating_add(SignedDuration::from_hours(days * 24)).unwrap_or(Timestamp::MAX);
        found = windows.calendar.openings(window, from, until);
        if found.len() >= count {
            break;
        }
    }
    found.truncate(count);
    found
}

fn moved(open: &Open) -> Option<&'static str> {
    Some(match open.moved? {
        Moved::Gap => "the clock jumps over the time that day, so it opens as much later",
        Moved::First => "the clock shows the time twice that day; this is the first",
        Moved::Second => "the clock shows the time twice that day; this is the second",
    })
}

fn line(open: &Open, zone: &TimeZone) -> String {
    let local = |moment: Timestamp, form: &str| moment.to_zoned(zone.clone()).strftime(form).to_string();
    let (start, end) = (local(open.start, "%a %Y-%m-%d %H:%M %Z"), local(open.end, "%a %H:%M %Z"));
    let note = moved(open).map(|note| format!("  ({note})")).unwrap_or_default();
    format!("{start} to {end}  {}Z{note}", open.start.strftime("%Y-%m-%dT%H:%M"))
}

fn of_window(window: &Listed<'_>) -> Value {
    let openings: Vec<Value> = window
        .openings
        .iter()
        .map(|open| {
            json!({
                "start": open.start, "end": open.end, "day": open.day.to_string(),
                "start_local": open.start.to_zoned(window.zone.clone()).to_string(), "note": moved(open),
            })
        })
        .collect();
    json!({"name": window.name, "title": window.title, "zone": window.zone_name, "hosts": window.hosts, "openings": openings})
}

/// Blackouts and freezes: kind, name, when and why.
fn closings(windows: &Windows) -> Vec<(&'static str, String, String)> {
    let said = windows.calendar.said();
    let when = |when: &When| match when {
        When::Between { from, until, zone } => {
            format!("{} to {} {zone}", from.strftime("%Y-%m-%d %H:%M"), until.strftime("%Y-%m-%d %H:%M"))
        }
        When::Times(times) => {
            let plus = if times.plus_days == 0 { String::new() } else { format!(" {:+} days", times.plus_days) };
            let lasts = SignedDuration::from_millis(i64::try_from(times.lasts_ms).unwrap_or(i64::MAX));
            format!("{}{plus} at {} for {lasts:#} {}", times.rule, times.at.strftime("%H:%M"), times.zone)
        }
    };
    let because = |reason: &str| if reason.is_empty() { String::new() } else { format!(" ({reason})") };
    let blackouts = said.blackouts.iter().map(|(name, blackout)| {
        let hosts = blackout.hosts.as_deref().map_or_else(|| "all hosts".to_owned(), |hosts| format!("hosts {hosts}"));
        let reason = because(blackout.reason.as_deref().unwrap_or_default());
        ("blackout", name.clone(), format!("{}, {hosts}{reason}", when(&blackout.when)))
    });
    let freezes = said.freezes.iter().map(|(name, freeze)| {
        ("freeze", name.clone(), format!("{}, everything{}", when(&freeze.when), because(&freeze.reason)))
    });
    blackouts.chain(freezes).collect()
}

fn state(state: &State) -> Value {
    match state {
        State::Free => json!({"state": "free"}),
        State::Open { until } => json!({"state": "open", "until": until}),
        State::Closed(Closed::Outside { next }) => {
            json!({"state": "outside", "next": next.map(|next| json!({"start": next.start, "end": next.end}))})
        }
        State::Closed(Closed::Blackout { name, reason, until }) => {
            json!({"state": "blackout", "name": name, "reason": reason, "until": until})
        }
        State::Closed(Closed::Freeze { name, reason, until }) => {
            json!({"state": "freeze", "name": name, "reason": reason, "until": until})
        }
    }
}
