//! Commands, argument vectors and scripts.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use runbook_model::evaluate::{Rendered, RenderedAction, SecretText};
use runbook_model::outcome::{KilledBy, Obstacle, ObstacleKind};
use runbook_ports::store::StoreError;
use runbook_ports::transport::{Completion, Invocation, Program};

use super::{ANSWER_LIMIT, Done, GRACE, Job, cancelled, local, taken_over, time_left};
use crate::output::{Capture, Captured};
use crate::sessions::Lease;
use crate::world::{Message, Parked, Raw, Stop, World};

/// Runs the step's program.
pub(super) async fn start(world: &Arc<World>, job: &Job) -> Done {
    let invocation = match invocation(world, &job.rendered, &job.rendered.action).await {
        Ok(invocation) => invocation,
        Err(obstacle) => return Done::silent(Raw::NotStarted(obstacle)),
    };
    let claim = (!job.step.read_only).then_some(&job.attempt);
    // Taken after the secrets are known, so that they are masked.
    let mut capture = world.capture(&job.step, &job.attempt, job.started_ms);
    let mut tries = 0;
    loop {
        let lease = tokio::select! {
            biased;
            () = job.stop.token().cancelled() => return Done::silent(Raw::NotStarted(cancelled())),
            lease = world.sessions.get(&job.host) => match lease {
                Ok(lease) => lease,
                Err(obstacle) => return Done::silent(Raw::NotStarted(obstacle)),
            },
        };
        if claim.is_some() && !world.may_begin().await {
            return Done::silent(Raw::NotStarted(taken_over()));
        }
        let run = lease.run(claim, &invocation, &mut capture, job.stop.token(), GRACE);
        let completion = within(time_left(world, job, 0), &job.stop, run).await;
        if let Completion::NotStarted(obstacle) = &completion
            && matches!(obstacle.kind, ObstacleKind::Session | ObstacleKind::Unreachable)
        {
            // The link that was open has died meanwhile. Nothing began, so a new one may be tried at once.
            let again = lease.reused && tries == 0;
            world.sessions.lost(lease).await;
            if again {
                tries += 1;
                continue;
            }
            return Done::silent(Raw::NotStarted(obstacle.clone()));
        }
        return completed(world, job, lease, completion, capture).await;
    }
}

/// What a completion means; an output that is not complete is parked.
pub(super) async fn completed(
    world: &Arc<World>,
    job: &Job,
    lease: Lease,
    completion: Completion,
    capture: Capture,
) -> Done {
    let raw = match completion {
        Completion::Exited(exit) => Raw::Exited(exit),
        Completion::Killed => Raw::Killed(job.stop.by()),
        Completion::NotStarted(obstacle) => Raw::NotStarted(obstacle),
        Completion::Unknown(reason) => Raw::Unknown(reason),
        Completion::Lost(reason) => {
            world.sessions.lost(lease).await;
            if !job.step.read_only {
                let offsets = capture.offsets();
                let mut parked = world.parked.lock().expect("no panic while held");
                parked.insert(job.attempt.clone(), Parked { capture, offsets });
            }
            return Done::silent(Raw::Lost(reason));
        }
    };
    Done::of(raw, kept(world, capture).await)
}

/// The captured output. What cannot be kept stops the run; the answer given then is never recorded.
pub(super) async fn kept(world: &World, capture: Capture) -> Captured {
    match capture.finish().await {
        Ok(captured) => captured,
        Err(error) => {
            let _ = world.answers.send(Message::Fault(format!("an output could not be kept: {error}")));
            Captured::nothing()
        }
    }
}

/// Waits for a program that runs: asks it to end when its time is over, and waits no longer than a transport may take
/// to end it.
pub(crate) async fn within(limit: Duration, stop: &Stop, run: impl Future<Output = Completion>) -> Completion {
    tokio::pin!(run);
    let timeout = tokio::time::sleep(limit);
    tokio::pin!(timeout);
    tokio::select! {
        biased;
        completion = &mut run => return completion,
        () = stop.token().cancelled() => {}
        () = &mut timeout => stop.ask(KilledBy::Timeout),
    }
    match tokio::time::timeout(GRACE + ANSWER_LIMIT, &mut run).await {
        Ok(completion) => completion,
        Err(_) => Completion::Lost("it was to be ended, and the host did not answer".into()),
    }
}

/// The program with its environment and secrets.
///
/// # Errors
/// When a secret or a script cannot be read: nothing began.
pub(crate) async fn invocation(
    world: &World,
    rendered: &Rendered,
    action: &RenderedAction,
) -> Result<Invocation, Obstacle> {
    let program = match action {
        RenderedAction::Run { text, shell, strict } => {
            Program::Shell { shell: *shell, text: text.clone(), strict: *strict }
        }
        RenderedAction::Argv(argv) => Program::Argv(argv.clone()),
        RenderedAction::Script { sha256, args, interpreter } => {
            let bytes_max = world.plan.files.get(sha256).map_or(0, |file| file.bytes);
            let content = world.blobs.get(sha256, bytes_max).await.map_err(|error| unreadable(&error))?;
            Program::Script { content: Bytes::from(content), interpreter: interpreter.clone(), args: args.clone() }
        }
        other => return Err(local(format!("{} is not a program", other.text()))),
    };
    let mut env = Vec::with_capacity(rendered.env.len());
    for (name, value) in &rendered.env {
        env.push((name.clone(), world.vault.fill(&world.plan, value).await?));
    }
    let stdin = match &rendered.stdin {
        Some(text) if *text != SecretText::default() => Some(world.vault.fill(&world.plan, text).await?),
        _ => None,
    };
    Ok(Invocation { program, account: rendered.account.clone(), cwd: rendered.cwd.clone(), env, stdin })
}

pub(super) fn unreadable(error: &StoreError) -> Obstacle {
    local(format!("what the step sends cannot be read from the store: {error}"))
}
