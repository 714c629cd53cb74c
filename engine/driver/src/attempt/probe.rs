//! What became of an attempt whose connection or controller was lost.

use std::sync::Arc;
use std::time::Duration;

use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_ports::transport::{Completion, Offsets, Probe};

use super::program::{completed, invocation, kept, within};
use super::{Done, GRACE, Job, time_left};
use crate::sessions::Lease;
use crate::world::{Parked, Raw, World};

/// The pause between two tries to reach the host, doubled up to the second value.
const PAUSE_MS: (u64, u64) = (500, 15_000);

/// One opening of a session takes at most so long, so that a host which comes back is soon found.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// Asks until the deadline; once the host has answered, the attempt is followed to its end.
pub(super) async fn program(world: &Arc<World>, job: &Job, deadline_ms: u64) -> Done {
    if job.step.read_only {
        let reason = "it ran attached to a connection that is gone, and changes nothing on the host";
        return Done::silent(Raw::Unknown(reason.into()));
    }
    // Its output may hold them, and another process resolved them when it began.
    let _ = invocation(world, &job.rendered, &job.rendered.action).await;
    let parked = world.parked.lock().expect("no panic while held").remove(&job.attempt);
    let Parked { mut capture, mut offsets } = parked
        .unwrap_or_else(|| Parked { capture: world.capture(&job.step, &job.attempt), offsets: Offsets::default() });
    let mut pause_ms = PAUSE_MS.0;
    let mut last = String::from("the host was not asked");
    loop {
        let left = Duration::from_millis(deadline_ms.saturating_sub(world.clock.now_ms()));
        if left.is_zero() {
            let reason = format!("what became of it could not be found out in time: {last}");
            return Done::of(Raw::Unknown(reason), kept(world, capture).await);
        }
        match world.sessions.get_within(&job.host, left.min(OPEN_LIMIT)).await {
            Err(obstacle) => last = obstacle.message,
            Ok(lease) => match tokio::time::timeout(left.max(OPEN_LIMIT), lease.probe(&job.attempt)).await {
                Ok(Probe::NeverStarted) if !same_boot(job, &lease).await => {
                    let reason = "the host has no record of it, and has been rebooted since: what it had written last \
                                  may be lost";
                    return Done::of(Raw::Unknown(reason.into()), kept(world, capture).await);
                }
                Ok(Probe::NeverStarted) => {
                    let message = "the connection broke before it began, and it never will begin".into();
                    return Done::silent(Raw::NotStarted(Obstacle { kind: ObstacleKind::Session, message }));
                }
                Ok(Probe::NoRecord(reason)) => {
                    return Done::of(Raw::Unknown(reason), kept(world, capture).await);
                }
                Ok(Probe::Running | Probe::Exited) => {
                    let follow = lease.follow(&job.attempt, offsets, &mut capture, job.stop.token(), GRACE);
                    let completion = within(time_left(world, job, 0), &job.stop, follow).await;
                    match completion {
                        Completion::Lost(reason) => {
                            world.sessions.lost(lease).await;
                            offsets = capture.offsets();
                            last = reason;
                        }
                        Completion::NotStarted(obstacle) => last = obstacle.message,
                        completion => return completed(world, job, lease, completion, capture).await,
                    }
                }
                Ok(Probe::Unreachable(obstacle)) => {
                    world.sessions.lost(lease).await;
                    last = obstacle.message;
                }
                Err(_) => {
                    world.sessions.lost(lease).await;
                    last = "the host did not answer".into();
                }
            },
        }
        tokio::time::sleep(Duration::from_millis(pause_ms).min(left)).await;
        pause_ms = (pause_ms * 2).min(PAUSE_MS.1);
    }
}

/// Whether the host is still in the boot in which the attempt was begun: a host that went down may have lost the claim
/// that it had made. When the host does not tell boots apart, its word is taken.
async fn same_boot(job: &Job, lease: &Lease) -> bool {
    match (&job.boot_id, lease.facts().await) {
        (None, _) => true,
        (Some(before), Ok(facts)) => facts.boot_id == *before,
        (Some(_), Err(_)) => false,
    }
}
