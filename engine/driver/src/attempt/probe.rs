//! What became of an attempt whose host, connection or controller was lost.

use std::sync::Arc;

use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_ports::transport::{Completion, Offsets, Probe};

use super::program::{completed, invocation, kept, within};
use super::reach::{ANSWER_LIMIT, Reach};
use super::{Done, GRACE, Job, time_left};
use crate::sessions::Lease;
use crate::world::{Parked, Raw, World};

/// Asks until the deadline; once the host has answered, the attempt is followed to its end.
pub(super) async fn program(world: &Arc<World>, job: &Job, deadline_ms: u64) -> Done {
    // Its output may hold them, and another process resolved them when it began.
    let _ = invocation(world, &job.rendered, &job.rendered.action).await;
    let parked = world.parked.lock().expect("no panic while held").remove(&job.attempt);
    let Parked { mut capture, mut offsets } = parked.unwrap_or_else(|| Parked {
        capture: world.capture(&job.step, &job.attempt, job.started_ms),
        offsets: Offsets::default(),
    });
    let cell = job.attempt.cell();
    let mut reach = Reach::new(world, &job.host, &cell, deadline_ms, Some(&job.stop));
    loop {
        let Some(lease) = reach.lease().await else {
            return Done::of(Raw::Unknown(given_up(&reach)), kept(world, capture).await);
        };
        match tokio::time::timeout(ANSWER_LIMIT, lease.probe(&job.attempt)).await {
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
                        reach.failed(reason);
                    }
                    Completion::NotStarted(obstacle) => reach.failed(obstacle.message),
                    completion => return completed(world, job, lease, completion, capture).await,
                }
            }
            Ok(Probe::Unreachable(obstacle)) => {
                world.sessions.lost(lease).await;
                reach.failed(obstacle.message);
            }
            Err(_) => {
                world.sessions.lost(lease).await;
                reach.failed("the host did not answer".into());
            }
        }
    }
}

/// What ran attached to a connection that is gone: nobody knows how it ended, and once its host answers it may be run again.
pub(super) async fn attached(world: &Arc<World>, job: &Job, deadline_ms: u64) -> Done {
    let cell = job.attempt.cell();
    let mut reach = Reach::new(world, &job.host, &cell, deadline_ms, Some(&job.stop));
    let reason = match reach.lease().await {
        Some(_) => "it ran attached to a connection that is gone, and changes nothing on the host".to_owned(),
        None => given_up(&reach),
    };
    Done::silent(Raw::Unknown(reason))
}

/// Waits until the host answers.
///
/// # Errors
/// Why it was given up.
pub(super) async fn answers(world: &Arc<World>, job: &Job, deadline_ms: u64) -> Result<(), String> {
    let cell = job.attempt.cell();
    let mut reach = Reach::new(world, &job.host, &cell, deadline_ms, Some(&job.stop));
    match reach.lease().await {
        Some(_) => Ok(()),
        None => Err(given_up(&reach)),
    }
}

fn given_up(reach: &Reach<'_>) -> String {
    format!("what became of it could not be found out in time: {}", reach.last())
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
