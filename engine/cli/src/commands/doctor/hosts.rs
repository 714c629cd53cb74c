//! Each host: does it answer, as whom, may it become who it must, and what have attempts left there.

use std::sync::Arc;
use std::time::Duration;

use runbook_driver::SystemClock;
use runbook_model::Host;
use runbook_model::outcome::{Exit, ObstacleKind};
use runbook_model::shell::ShellKind;
use runbook_ports::Clock;
use runbook_ports::transport::{Completion, Invocation, OutputSink, Program, Session, Stream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Check, Status};
use crate::failure::Failure;
use crate::leftovers::{Care, Seen};
use crate::project::Project;
use crate::wiring;

/// Hosts that are tried at once.
const AT_ONCE: usize = 16;
/// A host has so long to answer.
const LIMIT: Duration = Duration::from_secs(15);
/// More is not read of what a host says of itself.
const SAID_BYTES_MAX: usize = 16 * 1024;

/// Connects to each host, asks it for its facts, and whether `sudo` works where it is needed; with `care`, also sees to what
/// attempts have left there. In the order of `hosts`.
pub(super) async fn visit(
    project: &Project,
    hosts: Vec<Host>,
    care: Option<Arc<Care>>,
) -> Result<Vec<(Vec<Check>, Seen)>, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let transports = Arc::new(wiring::transports(project, &clock));
    let turn = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (place, host) in hosts.into_iter().enumerate() {
        let (transports, turn, care) = (Arc::clone(&transports), Arc::clone(&turn), care.clone());
        tasks.spawn(async move {
            let _turn = turn.acquire_owned().await;
            let bad = |found: String, mend: String| vec![Check::new(host.name.as_str(), Status::Bad, found).mend(mend)];
            let mut seen = Seen::default();
            let checks = match transports.get(&host.transport) {
                None => bad(
                    format!("this program has no transport `{}`", host.transport),
                    "correct `transport` in the inventory".into(),
                ),
                Some(transport) => match transport.open(&host, LIMIT).await {
                    Err(obstacle) => bad(obstacle.message, advice(obstacle.kind, &host)),
                    Ok(session) => {
                        let mut checks = vec![host_check(&host, session.as_ref()).await];
                        if let Some(care) = care {
                            checks.extend(session_check(&host, session.as_ref()).await);
                            seen = care.see_to(&host, session.as_ref()).await;
                        }
                        session.close().await;
                        checks
                    }
                },
            };
            (place, checks, seen)
        });
    }
    let mut out = Vec::new();
    while let Some(done) = tasks.join_next().await {
        out.push(done.map_err(crate::failure::fault)?);
    }
    out.sort_by_key(|(place, ..)| *place);
    Ok(out.into_iter().map(|(_, checks, seen)| (checks, seen)).collect())
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
    let mut nothing = Said::default();
    let run = session.run(None, &invocation, &mut nothing, &stop, Duration::from_secs(1));
    match tokio::time::timeout(LIMIT, run).await {
        Ok(Completion::Exited(exit)) => Some(exit == Exit::Code(0)),
        Ok(Completion::NotStarted(obstacle)) if obstacle.kind == ObstacleKind::Elevation => Some(false),
        _ => None,
    }
}

/// What systemd says of the login session that we are in. Answers nothing where no login session is at stake.
const SESSION: &str = r#"
case $(cat /proc/self/cgroup 2>/dev/null) in *session-*.scope*) ;; *) exit 0 ;; esac
busctl get-property org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager \
  KillUserProcesses KillOnlyUsers KillExcludeUsers 2>/dev/null
"#;

/// Whether logind ends what a login started when its connection ends: then steps do not outlive their connection.
async fn session_check(host: &Host, session: &dyn Session) -> Option<Check> {
    let account = session.identity().account;
    let said = said(session, SESSION).await?;
    logind_kills(&said, &account).then(|| {
        let found = format!(
            "systemd ends what {account} started when its connection ends (KillUserProcesses), so a step does not outlive \
             a lost connection there and its outcome is then unknown"
        );
        Check::new(host.name.as_str(), Status::Warning, found).mend(format!(
            "KillExcludeUsers=root {account} in /etc/systemd/logind.conf, then `systemctl restart systemd-logind`"
        ))
    })
}

/// Reads the three properties, one a line: `b true`, `as 0`, `as 1 "root"`.
fn logind_kills(said: &str, account: &str) -> bool {
    let mut lines = said.lines();
    let kills = lines.next() == Some("b true");
    let named = |line: Option<&str>| line.is_some_and(|line| line.split('"').any(|name| name == account));
    let only = lines.next();
    let excluded = named(lines.next());
    kills && !excluded && (only.is_none_or(|only| only.trim() == "as 0") || named(only))
}

/// What a short text prints there.
async fn said(session: &dyn Session, text: &str) -> Option<String> {
    let program = Program::Shell { shell: ShellKind::Sh, text: text.to_owned(), strict: false };
    let invocation = Invocation { program, account: None, cwd: None, env: Vec::new(), stdin: None };
    let (mut said, stop) = (Said::default(), CancellationToken::new());
    let run = session.run(None, &invocation, &mut said, &stop, Duration::from_secs(1));
    match tokio::time::timeout(LIMIT, run).await {
        Ok(Completion::Exited(Exit::Code(0))) => Some(String::from_utf8_lossy(&said.0).into_owned()),
        _ => None,
    }
}

#[derive(Default)]
struct Said(Vec<u8>);

#[async_trait::async_trait]
impl OutputSink for Said {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout && self.0.len() < SAID_BYTES_MAX {
            self.0.extend_from_slice(bytes);
        }
    }

    /// Half an answer is none.
    async fn cut_off(&mut self, _stream: Stream, _by: &str) {
        self.0.clear();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_ended_with_the_connection_is_read_from_logind() {
        assert!(logind_kills("b true\nas 0\nas 1 \"root\"\n", "maint"));
        assert!(!logind_kills("b true\nas 0\nas 1 \"root\"\n", "root"));
        assert!(!logind_kills("b true\nas 1 \"guest\"\nas 0\n", "maint"));
        assert!(logind_kills("b true\nas 2 \"guest\" \"maint\"\nas 0\n", "maint"));
        assert!(!logind_kills("b false\nas 0\nas 0\n", "maint"));
        assert!(!logind_kills("", "maint"));
    }
}
