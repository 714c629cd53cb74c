//! Do the systems of tickets let us in?

use super::{Check, Status};
use crate::project::Project;
use crate::tickets::reach;

/// A check per system. `offline`: nobody is asked.
pub(super) async fn checks(project: &Project, offline: bool) -> Vec<Check> {
    let mut checks = Vec::new();
    for system in &project.settings.tickets {
        let name = format!("tickets {}", system.name);
        let reached = if offline { Ok("not asked".to_owned()) } else { reach(project, system).await };
        checks.push(match reached {
            Ok(found) => Check::new(&name, Status::Good, found),
            Err(why) => Check::new(&name, Status::Warning, why).mend(
                "mend it: until then runs whose rules ask for its changes are refused, and what is written waits",
            ),
        });
    }
    checks
}
