//! Waiting for a window to open, with nothing begun and nothing held.

use std::time::Duration;

use jiff::Timestamp;
use runbook_model::HostOutcome;
use runbook_policy::Refusal;
use serde::Serialize;

use crate::authority::{self, Allowed, Asked};
use crate::commands::work::Desk;
use crate::failure::Failure;
use crate::output::{self, note};
use crate::signals;
use crate::watch::Watch;

/// So often the clock is looked at: it may be set, and a machine may sleep, which timers do not count.
const LOOK: Duration = Duration::from_secs(30);

/// `waiting/v1`: a line of `--json-lines`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    schema: &'static str,
    /// RFC 3339, UTC.
    until: String,
    reasons: &'a [String],
}

/// Waits until the authorizer allows it, and asks it anew each time that it may: at the opening, and when `windows.yaml` or
/// another of the project's rules is changed. `refusal` is what it has said.
///
/// # Errors
/// What does not go away by itself: RB0722, or RB0720 when nobody knows of an opening. RB0730 when somebody had it end.
pub(crate) async fn for_its_window(desk: &Desk<'_>, asked: Asked<'_>, refusal: Refusal) -> Result<Allowed, Failure> {
    let names = [authority::FILE, "inventory.yaml", "policy.yaml", "people.yaml"];
    let watch = Watch::of(desk.project.root.iter().flat_map(|root| names.map(|name| root.join(name))).collect());
    let waited = async {
        let (mut refusal, mut told) = (refusal, None);
        loop {
            let Some(next) = refusal.next.filter(|_| !refusal.by_policy) else {
                return Err(authority::refused(desk.project, &desk.store, asked, refusal).await?);
            };
            if told != Some(next) {
                tell(desk, next, &refusal)?;
                told = Some(next);
            }
            tokio::select! {
                () = until(next) => {}
                () = watch.stirred() => {}
            }
            match authority::decided(desk.project, &desk.store, asked, desk.output.error_palette).await? {
                Ok(allowed) => return Ok(allowed),
                Err(still) => refusal = still,
            }
        }
    };
    tokio::select! {
        biased;
        () = signals::asked_to_end() => Err(Failure::new("RB0730", HostOutcome::Cancelled.exit_code(), "it was told to stop waiting for its window")
            .next("begin again with `--at-window`, or inside of the window")),
        allowed = waited => allowed,
    }
}

fn tell(desk: &Desk<'_>, next: Timestamp, refusal: &Refusal) -> Result<(), Failure> {
    for reason in &refusal.reasons {
        note(runbook_report::text::escape_line(reason.as_bytes()));
    }
    note(format!("waiting until {next}; Ctrl-C ends the waiting, and nothing is begun"));
    match desk.ending.json_lines {
        true => output::json_line(&Line { schema: "waiting/v1", until: next.to_string(), reasons: &refusal.reasons }),
        false => Ok(()),
    }
}

/// Waits for a moment of the machine's clock.
async fn until(moment: Timestamp) {
    loop {
        let left = Timestamp::now().duration_until(moment);
        let Ok(left) = Duration::try_from(left) else { return };
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK)).await;
    }
}
