//! `doctor`: is everything as it must be, and how is it mended.

use std::fmt::Write as _;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use runbook_driver::SystemClock;
use runbook_model::Host;
use runbook_model::outcome::ObstacleKind;
use runbook_ports::transport::{Completion, Invocation, OutputSink, Program, Session, Stream};
use runbook_ports::{Clock, Store as _};
use runbook_report::Palette;
use runbook_report::style::Tone;
use runbook_report::text::escape_line;
use runbook_report::text::fit;
use serde::Serialize;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::arguments::Doctor;
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output};
use crate::project::Project;
use crate::{head, keys, machine, problems, record, sources, wiring};

/// Hosts that are tried at once.
const AT_ONCE: usize = 16;
/// A host has so long to answer.
const LIMIT: Duration = Duration::from_secs(15);
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

/// Runs all checks.
pub(crate) async fn run(project: &Project, arguments: &Doctor, output: Output) -> Result<u8, Failure> {
    let mut checks = vec![project_check(project), state_check(project), room_check(project), key_check(project)];
    checks.extend(database_checks(project).await);
    checks.push(clock_check());
    checks.push(ssh_check(project));
    match sources::inventory(project, output.error_palette) {
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
                let hosts = wanted.iter().map(|name| inventory.hosts[name].host.clone()).collect();
                checks.extend(self::hosts(project, hosts).await?);
            }
        }
    }
    let bad = checks.iter().any(|check| !check.good());
    if arguments.json {
        output::json(&json!({"schema": "doctor/v1", "good": !bad, "checks": checks}))?;
    } else {
        output::data(text(&checks, output.palette))?;
    }
    Ok(if bad { REFUSED } else { 0 })
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
            let text = failure.text(Palette::Plain);
            return vec![
                Check::new("database", Status::Bad, text.lines().next().unwrap_or_default())
                    .mend("put the whole state folder back from your backup"),
            ];
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
        Ok(_) | Err(_) => Check::new("ssh", Status::Warning, "there is no OpenSSH client here")
            .mend("install openssh-client; without it only `local` hosts can be reached"),
    }
}

/// Connects to each host, asks it for its facts, and whether `sudo` works where it is needed.
pub(crate) async fn hosts(project: &Project, hosts: Vec<Host>) -> Result<Vec<Check>, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let transports = Arc::new(wiring::transports(project, &clock));
    let turn = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (place, host) in hosts.into_iter().enumerate() {
        let (transports, turn) = (Arc::clone(&transports), Arc::clone(&turn));
        tasks.spawn(async move {
            let _turn = turn.acquire_owned().await;
            let check = match transports.get(&host.transport) {
                None => Check::new(
                    host.name.as_str(),
                    Status::Bad,
                    format!("this program has no transport `{}`", host.transport),
                )
                .mend("correct `transport` in the inventory"),
                Some(transport) => match transport.open(&host, LIMIT).await {
                    Err(obstacle) => {
                        Check::new(host.name.as_str(), Status::Bad, obstacle.message).mend(advice(obstacle.kind, &host))
                    }
                    Ok(session) => {
                        let check = host_check(&host, session.as_ref()).await;
                        session.close().await;
                        check
                    }
                },
            };
            (place, check)
        });
    }
    let mut out = Vec::new();
    while let Some(done) = tasks.join_next().await {
        out.push(done.map_err(crate::failure::fault)?);
    }
    out.sort_by_key(|(place, _)| *place);
    Ok(out.into_iter().map(|(_, check)| check).collect())
}

async fn host_check(host: &Host, session: &dyn Session) -> Check {
    let name = host.name.as_str();
    let facts = match session.facts().await {
        Ok(facts) => facts,
        Err(obstacle) => return Check::new(name, Status::Bad, obstacle.message).mend(advice(obstacle.kind, host)),
    };
    let identity = session.identity();
    let mut found = vec![format!("{} {} {}", facts.os, facts.os_version, facts.arch).trim().replace("  ", " ")];
    found.push(format!("as {}", identity.account));
    if let Some(offset) = facts.clock_offset_ms
        && offset.abs() > 2_000
    {
        found.push(format!("its clock is {:.1} s off", offset as f64 / 1000.0));
    }
    let wanted = host.account.as_deref().unwrap_or("root");
    if identity.account == wanted {
        return Check::new(name, Status::Good, found.join(", "));
    }
    match becomes(session, wanted).await {
        Some(true) => {
            found.push(format!("may become {wanted}"));
            Check::new(name, Status::Good, found.join(", "))
        }
        Some(false) => {
            found.push(format!("may not become {wanted}"));
            // Only a host whose steps become another account by default needs it.
            let status = if host.account.is_some() { Status::Bad } else { Status::Warning };
            Check::new(name, status, found.join(", "))
                .mend(format!("allow `sudo -n` for {} in sudoers (NOPASSWD), or use no `as`", identity.account))
        }
        None => {
            found.push("sudo could not be tried".into());
            Check::new(name, Status::Unknown, found.join(", "))
        }
    }
}

/// Whether `sudo -n` lets this login become `account`.
async fn becomes(session: &dyn Session, account: &str) -> Option<bool> {
    let invocation = Invocation {
        program: Program::Argv(vec!["true".into()]),
        account: Some(account.to_owned()),
        cwd: None,
        env: Vec::new(),
        stdin: None,
    };
    let stop = CancellationToken::new();
    let mut nowhere = Nowhere;
    let run = session.run(None, &invocation, &mut nowhere, &stop, Duration::from_secs(1));
    match tokio::time::timeout(LIMIT, run).await {
        Ok(Completion::Exited(exit)) => Some(exit == runbook_model::outcome::Exit::Code(0)),
        Ok(Completion::NotStarted(obstacle)) if obstacle.kind == ObstacleKind::Elevation => Some(false),
        _ => None,
    }
}

struct Nowhere;

#[async_trait::async_trait]
impl OutputSink for Nowhere {
    async fn write(&mut self, _stream: Stream, _bytes: &[u8]) {}
}

/// How to mend what stopped a connection.
fn advice(kind: ObstacleKind, host: &Host) -> String {
    let address = &host.address;
    match kind {
        ObstacleKind::Unreachable => {
            format!("is it on, is the address right, is port {} open? Try `ssh {address} true`", host.port.unwrap_or(22))
        }
        ObstacleKind::HostKey => {
            "compare the host's key with its owner, then correct known_hosts; never take a changed key unseen".into()
        }
        ObstacleKind::Login => {
            "is the key in the agent or named by `identity`, and in the account's authorized_keys? Passwords are not used".into()
        }
        ObstacleKind::Elevation => "allow `sudo -n` for the login account in sudoers (NOPASSWD)".into(),
        ObstacleKind::HostFull => "make room on the host".into(),
        ObstacleKind::Session => "raise MaxSessions in the host's sshd_config".into(),
        ObstacleKind::Local => "see the message: the cause is on this machine".into(),
    }
}
