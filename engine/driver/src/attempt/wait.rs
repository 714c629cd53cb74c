//! Pauses, and waiting until a command succeeds.

use std::sync::Arc;
use std::time::Duration;

use runbook_model::evaluate::RenderedAction;
use runbook_model::outcome::{Exit, KilledBy, ObstacleKind};
use runbook_model::shell::ShellKind;
use runbook_ports::transport::Completion;

use super::program::{invocation, kept, within};
use super::{Done, GRACE, Job, time_left};
use crate::world::{Raw, World};

/// Waits so long, counted from when the attempt was first begun.
pub(super) async fn pause(world: &Arc<World>, job: &Job, ms: u64) -> Done {
    let left = ms.saturating_sub(world.clock.now_ms().saturating_sub(job.started_ms));
    if job.stop.wait(left).await {
        Done::silent(Raw::Judged(Vec::new()))
    } else {
        Done::silent(Raw::Killed(job.stop.by()))
    }
}

/// Runs `until` again and again until it succeeds. The output is that of the last try.
pub(super) async fn until(
    world: &Arc<World>,
    job: &Job,
    for_ms: u64,
    until: &str,
    shell: ShellKind,
    every_ms: u64,
) -> Done {
    let action = RenderedAction::Run { text: until.to_owned(), shell, strict: true };
    let invocation = match invocation(world, &job.rendered, &action).await {
        Ok(invocation) => invocation,
        Err(obstacle) => return Done::silent(Raw::NotStarted(obstacle)),
    };
    let deadline_ms = job.started_ms.saturating_add(for_ms);
    loop {
        let mut capture = world.capture(&job.step, &job.attempt, job.started_ms);
        let obstacle = match world.sessions.get(&job.host).await {
            Ok(lease) => {
                // A try that hangs ends with the time for all of them.
                let left = deadline_ms.saturating_sub(world.clock.now_ms()).max(1_000);
                let limit = time_left(world, job, for_ms + 1_000).min(Duration::from_millis(left));
                let run = lease.run(None, &invocation, &mut capture, job.stop.token(), GRACE);
                match within(limit, &job.stop, run).await {
                    Completion::Exited(Exit::Code(0)) => {
                        return Done::of(Raw::Judged(Vec::new()), kept(world, capture).await);
                    }
                    Completion::Exited(exit) => match exit {
                        Exit::Code(code) => format!("exit code {code}"),
                        Exit::Signal(signal) => format!("ended by signal {signal}"),
                    },
                    Completion::Killed if job.stop.by() == KilledBy::Cancel => {
                        return Done::of(Raw::Killed(KilledBy::Cancel), kept(world, capture).await);
                    }
                    Completion::Killed => "it did not end".to_owned(),
                    Completion::NotStarted(obstacle) => {
                        if matches!(obstacle.kind, ObstacleKind::Session | ObstacleKind::Unreachable) {
                            world.sessions.lost(lease).await;
                        }
                        obstacle.message
                    }
                    Completion::Lost(why) => {
                        world.sessions.lost(lease).await;
                        why
                    }
                    Completion::Unknown(why) => why,
                }
            }
            Err(obstacle) => obstacle.message,
        };
        let now = world.clock.now_ms();
        if now >= deadline_ms || (job.stop.asked() && job.stop.by() == KilledBy::Timeout) {
            let limit = runbook_model::units::format_duration_ms(for_ms);
            let unmet = format!("`until` did not succeed within {limit}; the last time: {obstacle}");
            return Done::of(Raw::Judged(vec![unmet]), kept(world, capture).await);
        }
        if !job.stop.wait(every_ms.max(1).min(deadline_ms - now)).await {
            return Done::of(Raw::Killed(job.stop.by()), kept(world, capture).await);
        }
    }
}
