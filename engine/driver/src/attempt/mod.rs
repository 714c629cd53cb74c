//! One attempt of one step on one host, from the session to what came of it. One file per kind of action.
//!
//! Nothing here decides: outcomes are facts ([`Raw`]), judged by the loop with the plan's rules.

mod compare;
mod confirm;
mod probe;
mod program;
mod reach;
mod reboot;
mod transfer;
mod wait;

pub(crate) use program::{invocation, within};
pub(crate) use reach::patiently;

use std::sync::Arc;
use std::time::Duration;

use runbook_model::AttemptId;
use runbook_model::evaluate::{Rendered, RenderedAction};
use runbook_model::event::Transfer;
use runbook_model::host::Host;
use runbook_model::manifest::{Change, Manifest};
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::plan::Step;

use crate::output::Captured;
use crate::world::{Finished, Raw, Stop, World};

/// How long the whole process group has between TERM and KILL.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// A transport that was asked to end something answers within this beyond the grace; after that its answer is not
/// waited for, and the attempt counts as lost.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// All that is needed to carry out an attempt.
pub(crate) struct Job {
    pub(crate) attempt: AttemptId,
    pub(crate) step: Arc<Step>,
    pub(crate) host: Arc<Host>,
    pub(crate) rendered: Arc<Rendered>,
    pub(crate) stop: Stop,
    /// Unix ms when the attempt was first begun; later than now only when the clock was set back.
    pub(crate) started_ms: u64,
    /// For `Compare`.
    pub(crate) compare: Option<Compare>,
    /// The boot id under which the attempt was begun, when the host tells one.
    pub(crate) boot_id: Option<String>,
}

/// What is compared.
pub(crate) enum Compare {
    /// Measured anew, everything must be as in the manifest.
    Baseline { before: Manifest, globs: Vec<String>, account: Option<String> },
    /// Measured anew, everything that differs must be covered by `declared`.
    Undeclared { before: Manifest, roots: Vec<String>, declared: Vec<String>, fails: bool, account: Option<String> },
    /// There is nothing to compare with.
    Nothing(String),
}

/// What an action came to.
pub(crate) struct Done {
    raw: Raw,
    captured: Captured,
    transfers: Vec<Transfer>,
    undeclared: Vec<Change>,
}

impl Done {
    fn of(raw: Raw, captured: Captured) -> Self {
        Self { raw, captured, transfers: Vec::new(), undeclared: Vec::new() }
    }

    fn silent(raw: Raw) -> Self {
        Self::of(raw, Captured::nothing())
    }

    fn said(raw: Raw, text: impl Into<String>) -> Self {
        Self::of(raw, Captured::of(text.into()))
    }
}

/// Starts the attempt and sees it through.
pub(crate) async fn start(world: &Arc<World>, job: &Job) -> Finished {
    finished(world, job, action(world, job, false)).await
}

/// Finds out what became of the attempt, and sees it through when it still goes on.
pub(crate) async fn probe(world: &Arc<World>, job: &Job, deadline_ms: u64) -> Finished {
    let work = async {
        match &job.rendered.action {
            RenderedAction::Run { .. } | RenderedAction::Argv(_) | RenderedAction::Script { .. } => {
                if job.step.read_only {
                    probe::attached(world, job, deadline_ms).await
                } else {
                    probe::program(world, job, deadline_ms).await
                }
            }
            RenderedAction::Reboot { timeout_ms, settle_ms } => {
                let deadline_ms = deadline_ms.max(job.started_ms + timeout_ms);
                reboot::probe(world, job, deadline_ms, *timeout_ms, *settle_ms).await
            }
            RenderedAction::Wait { .. } | RenderedAction::Confirm { .. } => action(world, job, true).await,
            // These are the engine's own doing and may be done again: files are put in place whole, by digest.
            _ => match probe::answers(world, job, deadline_ms).await {
                Ok(()) => action(world, job, true).await,
                Err(reason) => Done::silent(Raw::Unknown(reason)),
            },
        }
    };
    finished(world, job, work).await
}

async fn finished(world: &Arc<World>, job: &Job, work: impl Future<Output = Done>) -> Finished {
    let mono = world.clock.mono_ms();
    let done = work.await;
    let ended_ms = world.clock.now_ms();
    Finished {
        raw: done.raw,
        captured: done.captured,
        transfers: done.transfers,
        undeclared: done.undeclared,
        started_ms: job.started_ms,
        ended_ms,
        duration_ms: (world.clock.mono_ms() - mono).max(ended_ms.saturating_sub(job.started_ms)),
    }
}

async fn action(world: &Arc<World>, job: &Job, again: bool) -> Done {
    if job.stop.asked() && !again {
        return Done::silent(Raw::NotStarted(cancelled()));
    }
    match &job.rendered.action {
        RenderedAction::Run { .. } | RenderedAction::Argv(_) | RenderedAction::Script { .. } => {
            program::start(world, job).await
        }
        RenderedAction::Upload { files, to, owner, group } => {
            transfer::upload(world, job, files, to, owner.as_deref(), group.as_deref()).await
        }
        RenderedAction::Download { from, max_bytes } => transfer::download(world, job, from, *max_bytes).await,
        RenderedAction::Reboot { timeout_ms, settle_ms } => reboot::start(world, job, *timeout_ms, *settle_ms).await,
        RenderedAction::Wait { ms } => wait::pause(world, job, *ms).await,
        RenderedAction::WaitUntil { for_ms, until, shell, every_ms } => {
            wait::until(world, job, *for_ms, until, *shell, *every_ms).await
        }
        RenderedAction::Confirm { text } => confirm::ask(world, job, text).await,
        RenderedAction::Compare => compare::compare(world, job).await,
    }
}

/// What is left of the attempt's time.
fn time_left(world: &World, job: &Job, at_least_ms: u64) -> Duration {
    let limit = job.step.timeout_ms.max(at_least_ms);
    Duration::from_millis(limit.saturating_sub(world.clock.now_ms().saturating_sub(job.started_ms)))
}

fn cancelled() -> Obstacle {
    Obstacle { kind: ObstacleKind::Local, message: "it was cancelled before it began".into() }
}

fn taken_over() -> Obstacle {
    local("another process has taken the run over")
}

fn local(message: impl Into<String>) -> Obstacle {
    Obstacle { kind: ObstacleKind::Local, message: message.into() }
}
