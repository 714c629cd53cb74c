//! Who is muted while runs work, and what may have been left muted.

use runbook_report::list::short;

use super::{Check, Status};
use crate::monitoring::{maybe_muted, reach};
use crate::project::Project;
use crate::record;

/// A check per system, and one for each run that may have left one muted. `offline`: nobody is asked.
pub(super) async fn checks(project: &Project, offline: bool) -> Vec<Check> {
    let mut checks = Vec::new();
    for system in &project.settings.monitoring {
        let name = format!("monitoring {}", system.name);
        let reached = if offline { Ok("not asked".to_owned()) } else { reach(project, system).await };
        checks.push(match reached {
            Ok(found) => Check::new(&name, Status::Good, found),
            Err(why) => Check::new(&name, Status::Warning, why).mend(match system.refuse {
                true => "mend it: until then runs that it is muted for are refused (RB0790)",
                false => "mend it: until then runs go on, and people are told of alerts that the work causes",
            }),
        });
    }
    let store = record::open_existing(project).await.ok().flatten();
    for (run, system) in maybe_muted(project) {
        let worked_on = match &store {
            Some(store) => record::is_worked_on(store, &run).await.unwrap_or(false),
            None => false,
        };
        if !worked_on {
            let found = format!("run {} may have left it muted", short(run.as_str()));
            let check = Check::new(&format!("monitoring {system}"), Status::Warning, found);
            checks.push(check.mend("the next `apply`, `resume` or `rollback` unmutes it; or end it by hand (RB0791)"));
        }
    }
    checks
}
