//! Reboots. Done when the boot id has changed and the host answers.

use std::sync::Arc;
use std::time::Duration;

use runbook_model::host::Os;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::shell::ShellKind;
use runbook_ports::transport::{Completion, Invocation, Offsets, Probe, Program};

use super::program::{kept, within};
use super::reach::{ANSWER_LIMIT, Reach};
use super::{Done, GRACE, Job, cancelled, local, taken_over, time_left};
use crate::output::{Capture, Captured};
use crate::sessions::Lease;
use crate::world::{Raw, World};

/// Each way is tried; the pause lets the attempt's end be written down before the host goes away.
const POSIX: &str = "(sleep 1; systemctl reboot || shutdown -r now || reboot) </dev/null >/dev/null 2>&1 &\n\
    command -v systemctl >/dev/null 2>&1 || command -v shutdown >/dev/null 2>&1 || command -v reboot >/dev/null 2>&1";

/// The pause between two tries to reach the host.
const PAUSE_MS: u64 = 2_000;

/// One opening of a session takes at most so long while the host is away.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

/// Reboots the host and waits for it.
pub(super) async fn start(world: &Arc<World>, job: &Job, timeout_ms: u64, settle_ms: u64) -> Done {
    let lease = match world.sessions.get(&job.host).await {
        Ok(lease) => lease,
        Err(obstacle) => return Done::silent(Raw::NotStarted(obstacle)),
    };
    let before = match lease.facts().await {
        Ok(facts) if !facts.boot_id.is_empty() => facts.boot_id,
        Ok(_) => {
            let message = "the host does not tell its boot id, so nobody could say whether it has rebooted";
            return Done::silent(Raw::NotStarted(local(message)));
        }
        Err(obstacle) => return Done::silent(Raw::NotStarted(obstacle)),
    };
    if job.stop.asked() {
        return Done::silent(Raw::NotStarted(cancelled()));
    }
    let (shell, text) = match job.host.os {
        Os::Windows => (ShellKind::Powershell, "shutdown.exe /r /t 2"),
        Os::Posix(_) => (ShellKind::Sh, POSIX),
    };
    let invocation = Invocation {
        program: Program::Shell { shell, text: text.into(), strict: false },
        account: job.rendered.account.clone(),
        cwd: None,
        env: Vec::new(),
        stdin: None,
    };
    if !world.may_begin().await {
        return Done::silent(Raw::NotStarted(taken_over()));
    }
    let mut capture = world.capture(&job.step, &job.attempt, job.started_ms);
    let run = lease.run(Some(&job.attempt), &invocation, &mut capture, job.stop.token(), GRACE);
    let completion = within(time_left(world, job, timeout_ms), &job.stop, run).await;
    told(world, job, lease, completion, capture, Bounds { before, deadline_ms: job.started_ms + timeout_ms, settle_ms })
        .await
}

/// What the wait for the rebooted host goes by.
struct Bounds {
    /// The boot id that it must not have any more.
    before: String,
    deadline_ms: u64,
    settle_ms: u64,
}

/// The command that reboots has come to its end, or the host went away under it.
async fn told(
    world: &Arc<World>,
    job: &Job,
    lease: Lease,
    completion: Completion,
    capture: Capture,
    bounds: Bounds,
) -> Done {
    match completion {
        Completion::NotStarted(obstacle) => {
            if matches!(obstacle.kind, ObstacleKind::Session | ObstacleKind::Unreachable) {
                world.sessions.lost(lease).await;
            }
            Done::silent(Raw::NotStarted(obstacle))
        }
        Completion::Exited(exit) if exit != runbook_model::outcome::Exit::Code(0) => {
            Done::of(Raw::Exited(exit), kept(world, capture).await)
        }
        Completion::Killed => Done::of(Raw::Killed(job.stop.by()), kept(world, capture).await),
        Completion::Exited(_) | Completion::Lost(_) | Completion::Unknown(_) => {
            world.sessions.lost(lease).await;
            back(world, job, &bounds.before, bounds.deadline_ms, bounds.settle_ms).await
        }
    }
}

/// After the controller's death: what became of the command, and whether the host has rebooted since. Another boot id
/// alone is no proof: the host may have rebooted by itself before it was told to. One that was never told to never will be.
pub(super) async fn probe(world: &Arc<World>, job: &Job, deadline_ms: u64, timeout_ms: u64, settle_ms: u64) -> Done {
    let Some(before) = job.boot_id.as_ref().filter(|id| !id.is_empty()) else {
        return Done::silent(Raw::Unknown("the boot id before the reboot is not on record".into()));
    };
    let cell = job.attempt.cell();
    let mut reach = Reach::new(world, &job.host, &cell, deadline_ms, Some(&job.stop));
    while let Some(lease) = reach.lease().await {
        let asked = async { (lease.probe(&job.attempt).await, lease.facts().await) };
        match tokio::time::timeout(ANSWER_LIMIT, asked).await {
            Ok((Probe::NeverStarted, Ok(facts))) if facts.boot_id == *before => {
                let message = "the host was not told to reboot, and never will be by this attempt".into();
                return Done::silent(Raw::NotStarted(Obstacle { kind: ObstacleKind::Session, message }));
            }
            Ok((Probe::NeverStarted, Ok(_))) => {
                let reason = "the host has no record of it, and has rebooted since: whether by this step, nobody knows";
                return Done::silent(Raw::Unknown(reason.into()));
            }
            Ok((Probe::NoRecord(_), Ok(_))) => break,
            Ok((found @ (Probe::Running | Probe::Exited), Ok(facts))) => {
                let mut capture = world.capture(&job.step, &job.attempt, job.started_ms);
                let start = Offsets::default();
                let follow = lease.follow(&job.attempt, start, &mut capture, job.stop.token(), GRACE);
                let completion = within(time_left(world, job, timeout_ms), &job.stop, follow).await;
                // What still runs was begun in the boot in which it was found.
                let before = if found == Probe::Running { facts.boot_id } else { before.clone() };
                return told(world, job, lease, completion, capture, Bounds { before, deadline_ms, settle_ms }).await;
            }
            Ok((Probe::Unreachable(obstacle), _) | (_, Err(obstacle))) => {
                world.sessions.lost(lease).await;
                reach.failed(obstacle.message);
            }
            Err(_) => {
                world.sessions.lost(lease).await;
                reach.failed("the host did not answer".into());
            }
        }
    }
    back(world, job, before, deadline_ms, settle_ms).await
}

async fn back(world: &Arc<World>, job: &Job, before: &str, deadline_ms: u64, settle_ms: u64) -> Done {
    let mut last = String::from("it did not answer");
    loop {
        match world.sessions.get_again(&job.host, OPEN_LIMIT).await {
            Err(obstacle) => last = obstacle.message,
            Ok(lease) => match tokio::time::timeout(OPEN_LIMIT, lease.facts()).await {
                Ok(Ok(facts)) if !facts.boot_id.is_empty() && facts.boot_id != before => {
                    drop(lease);
                    let text = format!("boot id before: {before}\nboot id after: {}\n", facts.boot_id);
                    // When it is to end before that, the rest of the pause matters to nobody any more.
                    job.stop.wait(settle_ms).await;
                    return Done::said(Raw::Judged(Vec::new()), text);
                }
                Ok(Ok(_)) => {
                    "it still has the boot id that it had before".clone_into(&mut last);
                    drop(lease);
                }
                Ok(Err(obstacle)) => {
                    last = obstacle.message;
                    world.sessions.lost(lease).await;
                }
                Err(_) => {
                    "it did not answer".clone_into(&mut last);
                    world.sessions.lost(lease).await;
                }
            },
        }
        let now = world.clock.now_ms();
        if now >= deadline_ms || job.stop.asked() {
            let reason = format!("the host was told to reboot and has not come back as rebooted in time: {last}");
            return Done::of(Raw::Unknown(reason), Captured::nothing());
        }
        job.stop.wait(PAUSE_MS.min(deadline_ms - now)).await;
    }
}
