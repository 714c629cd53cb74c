//! Asking a person.

use std::sync::Arc;

use runbook_model::outcome::KilledBy;
use runbook_ports::person::Answer;

use super::{Done, Job, local, time_left};
use crate::world::{Raw, World};

/// Puts the question and waits for the answer.
pub(super) async fn ask(world: &Arc<World>, job: &Job, question: &str) -> Done {
    let answer = tokio::select! {
        biased;
        () = job.stop.token().cancelled() => return Done::silent(Raw::Killed(job.stop.by())),
        answer = world.confirmer.confirm(job.attempt.host.as_str(), question) => answer,
        () = tokio::time::sleep(time_left(world, job, 0)) => {
            job.stop.ask(KilledBy::Timeout);
            return Done::silent(Raw::Killed(KilledBy::Timeout));
        }
    };
    match answer {
        Answer::Confirmed(by) => {
            Done::said(Raw::Judged(Vec::new()), format!("confirmed by {} (uid {})\n", by.name, by.uid))
        }
        Answer::Refused(by, said) => {
            let text = format!("refused by {} (uid {}): {said}\n", by.name, by.uid);
            Done::said(Raw::Judged(vec![text.trim_end().to_owned()]), text)
        }
        Answer::Nobody(why) => Done::silent(Raw::NotStarted(local(format!("nobody could be asked: {why}")))),
    }
}
