//! Can people outside be told, and were they?

use runbook_report::text::count;
use runbook_store::MessageState;

use super::{Check, Status};
use crate::notifications::{check_template, reach};
use crate::project::Project;
use crate::record;

/// A check per channel. `offline`: nobody is asked.
pub(super) async fn checks(project: &Project, offline: bool) -> Vec<Check> {
    let channels = &project.settings.notify;
    if channels.is_empty() {
        return Vec::new();
    }
    let outbox = match record::open_existing(project).await {
        Ok(Some(store)) => store.outbox().await.unwrap_or_default(),
        Ok(None) | Err(_) => Vec::new(),
    };
    let mut checks = Vec::new();
    for channel in channels {
        let name = format!("channel {}", channel.name);
        let with = |state| outbox.iter().filter(|one| one.channel == channel.name && one.state == state).count();
        let (waiting, given_up) = (with(MessageState::Waiting), with(MessageState::GivenUp));
        let reached = if offline { Ok("not asked".to_owned()) } else { reach(project, channel).await };
        let template = channel.template.as_deref().map_or(Ok(()), check_template);
        let told = format!(
            "{}; {} waiting, {given_up} given up",
            reached.as_ref().unwrap_or_else(|why| why),
            count(waiting, "message")
        );
        checks.push(match (&reached, template) {
            (_, Err(why)) => Check::new(&name, Status::Warning, format!("{told}; {why}"))
                .mend("mend the template: until then messages say what the program says of itself"),
            (Err(_), _) => Check::new(&name, Status::Warning, told)
                .mend("`runbook notify check` says what is wrong; messages wait, and are given up after a day"),
            (Ok(_), Ok(())) if given_up > 0 => {
                Check::new(&name, Status::Warning, told).mend("`runbook notify list --open` says why (RB0758)")
            }
            (Ok(_), Ok(())) => Check::new(&name, Status::Good, told),
        });
    }
    checks
}
