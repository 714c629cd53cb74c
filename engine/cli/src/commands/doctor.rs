//! `doctor`: is everything as it must be, and how is it mended.

mod anchors;
mod hosts;
mod monitoring;
mod notify;
mod rules;
mod tickets;

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use runbook_model::Host;
use runbook_model::units::{format_size, parse_duration_ms};
use runbook_ports::Store as _;
use runbook_report::Palette;
use runbook_report::style::Tone;
use runbook_report::text::escape_line;
use runbook_report::text::fit;
use runbook_store::SqliteStore;
use serde::Serialize;
use serde_json::json;

use crate::arguments::Doctor;
use crate::commands::evidence;
use crate::failure::{Failure, REFUSED};
use crate::leftovers::{self, Care, Clean, Found, Seen};
use crate::origins::Asked;
use crate::output::{self, Output};
use crate::project::Project;
use crate::{head, keys, machine, problems, record, sources};

/// Less room than this for records is a warning: a run with much output fills it in an hour.
const ROOM_BYTES: u64 = 1 << 30;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Good,
    Warning,
    Bad,
    Unknown,
}

/// Something that was looked at.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    /// What.
    name: String,
    status: Status,
    /// What was found.
    found: String,
    /// How to mend it.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn new(name: &str, status: Status, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status, found: found.into(), mend: None }
    }

    fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    /// Nothing needs to be mended.
    pub(crate) fn good(&self) -> bool {
        self.status != Status::Bad
    }
}

/// Whether somebody who is asked for hosts answers.
fn source_check(asked: &Asked, offline: bool) -> Check {
    let name = format!("inventory from {}", asked.question.from());
    match &asked.answer {
        Ok(bytes) => {
            let took = asked.took.as_millis();
            Check::new(&name, Status::Good, format!("answers with {} bytes in {took} ms", bytes.len()))
        }
        Err(why) if offline => Check::new(&name, Status::Unknown, why.clone()),
        Err(why) => Check::new(&name, Status::Bad, why.clone())
            .mend("mend it, or its account, address or certificate; no plan is made without it"),
    }
}

/// Runs all checks.
pub(crate) async fn run(project: &Project, arguments: &Doctor, output: Output) -> Result<u8, Failure> {
    let clean = clean(arguments)?;
    let mut left = Vec::new();
    let mut checks = vec![project_check(project), state_check(project), room_check(project)];
    // The key's file before the database is made, and its two halves once the database has told which key is in force.
    let _ = keys::present(project);
    let database = database_checks(project).await;
    checks.push(key_check(project));
    checks.extend(database);
    checks.extend(anchors::checks(project, arguments.offline).await);
    checks.extend(notify::checks(project, arguments.offline).await);
    checks.extend(monitoring::checks(project, arguments.offline).await);
    checks.extend(tickets::checks(project, arguments.offline).await);
    checks.push(clock_check());
    checks.push(ssh_check(project));
    checks.extend(rules::checks(project).await);
    if arguments.offline {
        project.answers.go_offline();
    }
    let inventory = sources::inventory(project, output.error_palette);
    checks.extend(project.answers.asked().iter().map(|asked| source_check(asked, arguments.offline)));
    match inventory {
        Err(_) if arguments.offline && project.answers.asked().iter().any(|asked| asked.answer.is_err()) => {
            checks.push(Check::new("inventory", Status::Unknown, "its sources were not asked (--offline)"));
        }
        Err(failure) => checks.push(
            Check::new("inventory", Status::Bad, failure.text(Palette::Plain).lines().next().unwrap_or_default())
                .mend("`runbook inventory check` shows every problem"),
        ),
        Ok(inventory) => {
            let count = runbook_report::text::count(inventory.hosts.len(), "host");
            checks.push(Check::new("inventory", Status::Good, count));
            let wanted = match sources::selector("--limit", arguments.limit.as_deref(), output.error_palette)? {
                None => inventory.hosts.keys().cloned().collect(),
                Some(selector) => selector
                    .hosts(&inventory)
                    .map_err(|found| problems::failure(&found, "--limit", output.error_palette))?,
            };
            if !arguments.offline {
                let mut hosts: Vec<Host> = wanted.iter().map(|name| inventory.hosts[name].host.clone()).collect();
                let asked = hosts.len();
                if !hosts.iter().any(|host| host.transport == "local") {
                    // Steps with `on: controller` leave theirs here.
                    hosts.push(runbook_driver::controller());
                }
                let care = Arc::new(Care::new(project, clean).await);
                let visited = hosts::visit(project, hosts, Some(care)).await?;
                let mut seen = Vec::new();
                for (place, (found, host)) in visited.into_iter().enumerate() {
                    if place < asked {
                        checks.extend(found);
                    }
                    seen.push(host);
                }
                checks.extend(leftover_checks(&seen, clean.is_some()));
                left = seen.into_iter().flat_map(|seen| seen.found).collect();
            }
        }
    }
    let bad = checks.iter().any(|check| !check.good());
    if arguments.json {
        let left: Vec<_> = left.iter().map(Found::json).collect();
        output::json(&json!({"schema": "doctor/v1", "good": !bad, "checks": checks, "leftovers": left}))?;
    } else {
        let left: Vec<&Found> = left.iter().collect();
        output::data(text(&checks, output.palette) + &leftovers::text(&left, output.palette))?;
    }
    Ok(if bad { REFUSED } else { 0 })
}

/// What is to be removed, if anything.
fn clean(arguments: &Doctor) -> Result<Option<Clean>, Failure> {
    let older_than = match &arguments.older_than {
        None => leftovers::OLD,
        Some(text) => Duration::from_millis(
            parse_duration_ms(text)
                .map_err(|error| Failure::usage("RB0617", format!("--older-than: {error}")).next("for example 7d"))?,
        ),
    };
    Ok(arguments.clean.then_some(Clean { older_than, end_running: arguments.end_running }))
}

/// What attempts have left, in a line or two.
fn leftover_checks(seen: &[Seen], cleaning: bool) -> Vec<Check> {
    let all: Vec<&Found> = seen.iter().flat_map(|seen| &seen.found).collect();
    let mut checks: Vec<Check> = seen
        .iter()
        .filter_map(|seen| seen.failed.clone())
        .map(|why| Check::new("leftovers", if cleaning { Status::Bad } else { Status::Unknown }, why))
        .collect();
    let (dead, removed): (Vec<&&Found>, usize) =
        (all.iter().filter(|found| found.is_dead()).collect(), all.iter().filter(|found| found.is_removed()).count());
    let kept = all.len() - dead.len() - removed;
    let mut found = Vec::new();
    if removed > 0 {
        found.push(format!("{removed} removed"));
    }
    if !dead.is_empty() {
        let bytes = dead.iter().map(|found| found.bytes()).sum();
        found.push(format!("{} of runs that are over, {}", dead.len(), format_size(bytes)));
    }
    if kept > 0 {
        found.push(format!("{kept} kept"));
    }
    if found.is_empty() {
        found.push("none".into());
    }
    let stuck = dead.iter().any(|found| found.is_stuck(cleaning));
    let status = match (stuck, dead.is_empty()) {
        (true, _) => Status::Bad,
        (false, false) => Status::Warning,
        (false, true) => Status::Good,
    };
    let check = Check::new("leftovers", status, found.join(", "));
    checks.push(match status {
        Status::Good => check,
        _ if cleaning => check.mend("see below why they were kept"),
        _ => check.mend("`runbook doctor --clean` removes what nobody needs any more"),
    });
    checks
}

/// Connects to each host and says what it found.
pub(crate) async fn hosts(project: &Project, hosts: Vec<Host>) -> Result<Vec<Check>, Failure> {
    let visited = hosts::visit(project, hosts, None).await?;
    Ok(visited.into_iter().flat_map(|(checks, _)| checks).collect())
}

/// The checks as text.
pub(crate) fn text(checks: &[Check], palette: Palette) -> String {
    let names = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(4).clamp(4, 32);
    let mut out = String::new();
    for check in checks {
        let (word, tone) = match check.status {
            Status::Good => ("good   ", Tone::Good),
            Status::Warning => ("look   ", Tone::Warn),
            Status::Bad => ("WRONG  ", Tone::Bad),
            Status::Unknown => ("unknown", Tone::Warn),
        };
        let found = escape_line(check.found.as_bytes());
        let _ = writeln!(out, "{} {}  {found}", palette.paint(tone, word), fit(&check.name, names));
        if let Some(mend) = &check.mend {
            let _ = writeln!(out, "        {}  {}", " ".repeat(names), escape_line(format!("mend: {mend}").as_bytes()));
        }
    }
    out
}

fn project_check(project: &Project) -> Check {
    match &project.root {
        Some(root) => Check::new("project", Status::Good, root.display().to_string()),
        None => Check::new("project", Status::Warning, format!("none; state is kept in {}", project.state_shown()))
            .mend("`runbook init` makes a project here"),
    }
}

fn state_check(project: &Project) -> Check {
    match project.make_state() {
        Ok(()) => Check::new("state", Status::Good, project.state_shown()),
        Err(failure) => {
            let text = failure.text(Palette::Plain);
            Check::new("state", Status::Bad, text.lines().next().unwrap_or_default())
                .mend("give the folder to your account alone: chown and chmod 700")
        }
    }
}

fn room_check(project: &Project) -> Check {
    match rustix::fs::statvfs(&project.state) {
        Err(error) => Check::new("room", Status::Unknown, error.to_string()),
        Ok(system) => {
            let free = system.f_bavail.saturating_mul(system.f_frsize);
            let found = format!("{} free for records", runbook_model::units::format_size(free));
            if free < ROOM_BYTES {
                Check::new("room", Status::Warning, found).mend("make room: a run stops when it cannot be recorded")
            } else {
                Check::new("room", Status::Good, found)
            }
        }
    }
}

fn key_check(project: &Project) -> Check {
    match keys::open(project) {
        Ok(key) => Check::new("ledger key", Status::Good, key.verifier.to_string()),
        Err(failure) => {
            let text = failure.text(Palette::Plain);
            Check::new("ledger key", Status::Bad, text.lines().next().unwrap_or_default())
                .mend("put the key back from your backup; its file must have mode 0600")
        }
    }
}

async fn database_checks(project: &Project) -> Vec<Check> {
    let store = match record::open(project).await {
        Ok(store) => store,
        Err(failure) => {
            let mend = match failure.code {
                "RB0500" => {
                    "let this account write in the state folder, on a disk that is mounted for writing and has room"
                }
                _ => "put the whole state folder back from your backup",
            };
            return vec![Check::new("database", Status::Bad, failure.message).mend(mend)];
        }
    };
    let (runs, end) = (store.runs().await, store.head().await);
    let mut out = Vec::new();
    match (runs, end) {
        (Ok(runs), Ok(end)) => {
            let found = format!("{}, {} records", runbook_report::text::count(runs.len(), "run"), end.size);
            out.push(Check::new("database", Status::Good, found));
            out.push(match head::check(project, &end) {
                Ok(Some(size)) => {
                    Check::new("ledger", Status::Good, format!("holds the {size} records that were sealed last"))
                }
                Ok(None) => Check::new("ledger", Status::Unknown, "nothing was sealed yet"),
                Err(why) => Check::new("ledger", Status::Bad, why)
                    .mend("put the whole state folder back as it was; do not mix backups of different times"),
            });
            out.extend(signed_check(&store).await);
            for index in runs.iter().filter(|index| index.status != runbook_ports::store::RunStatus::Ended) {
                let Ok(line) = record::line(&store, index.clone()).await else { continue };
                if line.state != runbook_report::list::LineState::Running {
                    let id = runbook_report::list::short(index.header.run.as_str());
                    out.push(
                        Check::new("open run", Status::Warning, format!("{id} is {}", line.state.name()))
                            .mend(format!("`runbook resume {id}`")),
                    );
                }
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            out.push(
                Check::new("database", Status::Bad, error.to_string()).mend("see the page of its code in docs/errors"),
            );
        }
    }
    store.close().await;
    out
}

/// How old the last signed head is.
async fn signed_check(store: &SqliteStore) -> Option<Check> {
    let (age_ms, every_ms) = evidence::heartbeat::age(store).await.ok()??;
    let found = format!("{} old", runbook_report::text::elapsed(age_ms));
    Some(match every_ms {
        // Twice: the timer may be late, and this machine may have slept.
        Some(every_ms) if age_ms > 2 * every_ms => Check::new("signed head", Status::Warning, found)
            .mend("see `systemctl status runbook-heartbeat.timer`: nothing has signed the idle ledger's head"),
        Some(_) => Check::new("signed head", Status::Good, found),
        None => Check::new(
            "signed head",
            Status::Good,
            format!("{found}; no heartbeat is set up (`runbook evidence heartbeat --systemd`)"),
        ),
    })
}

fn clock_check() -> Check {
    let clock = machine::clock_state();
    match clock.synchronised {
        Some(true) => Check::new("clock", Status::Good, format!("synchronised ({})", clock.source)),
        Some(false) => Check::new("clock", Status::Warning, format!("not synchronised ({})", clock.source))
            .mend("start systemd-timesyncd or chrony: times in the record are this clock's"),
        None => Check::new("clock", Status::Unknown, "no time service tells whether it is synchronised")
            .mend("run systemd-timesyncd or chrony: times in the record are this clock's"),
    }
}

fn ssh_check(project: &Project) -> Check {
    if let Some(config) = &project.settings.ssh_config
        && !config.is_file()
    {
        return Check::new("ssh", Status::Bad, format!("[ssh] config: {} is not there", config.display()))
            .mend("correct the path in runbook.toml; it is relative to that file");
    }
    match Command::new("ssh").arg("-V").output() {
        Ok(output) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Check::new("ssh", Status::Good, version)
        }
        Ok(output) => {
            // It does not even tell its version to an account without an entry in the password database, for example.
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Check::new("ssh", Status::Warning, format!("`ssh -V` fails: {said}"))
                .mend("mend what it says; without ssh only `local` hosts can be reached")
        }
        Err(_) => Check::new("ssh", Status::Warning, "there is no OpenSSH client here")
            .mend("install openssh-client; without it only `local` hosts can be reached"),
    }
}
