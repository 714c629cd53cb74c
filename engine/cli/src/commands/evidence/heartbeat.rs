//! `evidence heartbeat`: an idle ledger is still there. For a timer.

use runbook_model::Notice;
use runbook_model::units::parse_duration_ms;
use runbook_ports::Store as _;
use runbook_store::SqliteStore;

use crate::arguments::upkeep::Heartbeat;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::project::Project;
use crate::{keys, machine, notices, record};

/// The timer looks this many times in an interval, so that a head is never much older than it.
const LOOKS: u64 = 5;

/// Runs `evidence heartbeat`.
pub(super) async fn run(project: &Project, arguments: &Heartbeat, _output: Output) -> Result<u8, Failure> {
    let every_ms = parse_duration_ms(&arguments.every).ok().filter(|ms| *ms >= 60_000).ok_or_else(|| {
        Failure::usage("RB0661", format!("--every {}: a duration of a minute or more is needed", arguments.every))
            .next("for example 15m")
    })?;
    if arguments.systemd {
        output::data(units(project, &arguments.every, every_ms)?)?;
        return Ok(0);
    }
    keys::present(project)?;
    let store = record::open(project).await?;
    let now_ms = now_ms();
    if last_signed_ms(&store).await?.is_some_and(|then| now_ms.saturating_sub(then) < every_ms) {
        return Ok(0);
    }
    let notice = Notice::Heartbeat { clock: machine::clock_state(), every_ms: Some(every_ms) };
    notices::append(project, &store, vec![notice], Vec::new()).await?;
    Ok(0)
}

fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or_default()
}

/// When the last record under a signed head was written (Unix ms).
async fn last_signed_ms(store: &SqliteStore) -> Result<Option<u64>, Failure> {
    let failed = |error| record::failed(&error);
    let Some(last) = store.last_checkpoint().await.map_err(failed)? else { return Ok(None) };
    let Some(before) = last.size.checked_sub(1) else { return Ok(None) };
    let records = store.ledger(before, 1).await.map_err(failed)?;
    let time = records.first().and_then(|sealed| runbook_ledger::record::parse(&sealed.bytes).ok());
    Ok(time
        .and_then(|record| record.time.parse::<jiff::Timestamp>().ok())
        .and_then(|time| u64::try_from(time.as_millisecond()).ok()))
}

/// How old the last signed head is, and how old it may be when heartbeats are used (both in ms).
pub(crate) async fn age(store: &SqliteStore) -> Result<Option<(u64, Option<u64>)>, Failure> {
    let Some(then) = last_signed_ms(store).await? else { return Ok(None) };
    let every = record::notices(store, &["heartbeat"]).await?.pop().and_then(|(_, notice)| match notice {
        Notice::Heartbeat { every_ms, .. } => every_ms,
        _ => None,
    });
    Ok(Some((now_ms().saturating_sub(then), every)))
}

/// A service and a timer of systemd, for `/etc/systemd/system` or `~/.config/systemd/user`.
fn units(project: &Project, every: &str, every_ms: u64) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(crate::failure::fault)?;
    // systemd reads percent signs and quotes in a command line.
    let word = |text: String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%"));
    let program = word(program.display().to_string());
    let place = match &project.root {
        Some(root) => format!(" --project {}", word(root.display().to_string())),
        None => String::new(),
    };
    let look = (every_ms / LOOKS / 1_000).max(10);
    Ok(format!(
        "# runbook-heartbeat.service\n\
         [Unit]\n\
         Description=Signed head of runbook's ledger while nothing is recorded\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         ExecStart={program}{place} evidence heartbeat --every {every}\n\
         \n\
         # runbook-heartbeat.timer\n\
         [Unit]\n\
         Description=Looks whether runbook's ledger needs a signed head\n\
         \n\
         [Timer]\n\
         OnBootSec=1min\n\
         OnUnitActiveSec={look}s\n\
         AccuracySec=10s\n\
         \n\
         [Install]\n\
         WantedBy=timers.target\n"
    ))
}
