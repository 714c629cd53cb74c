//! What the project says of times, people and rules, and the reviews that are due.

use runbook_policy::reviews::State;
use runbook_report::Palette;

use super::{Check, Status};
use crate::authority::Windows;
use crate::failure::Failure;
use crate::policy::{Policy, Staff};
use crate::project::Project;
use crate::schedule::Scheduled;
use crate::{record, reviews};

/// One for each of the files that is there, and one for reviews when any are owed.
pub(super) async fn checks(project: &Project) -> Vec<Check> {
    let plain = Palette::Plain;
    let mut checks = Vec::new();
    let windows = Windows::of(project, plain).map(|windows| windows.map(|_| "right".to_owned()));
    checks.extend(file("windows.yaml", windows, "`runbook windows check`"));
    let people =
        Staff::of(project, plain).map(|staff| staff.map(|staff| format!("{} listed", staff.people.people.len())));
    checks.extend(file("people.yaml", people, "`runbook people check`"));
    let rules = |policy: Policy| runbook_report::text::count(policy.file.policy.rules.len(), "rule");
    let policy = Policy::of(project, plain).map(|policy| policy.map(rules));
    checks.extend(file("policy.yaml", policy, "`runbook validate policy.yaml`"));
    let schedule = Scheduled::of(project, plain)
        .map(|scheduled| scheduled.map(|scheduled| format!("{} in force", scheduled.timetable.names().count())));
    checks.extend(file("schedule.yaml", schedule, "`runbook schedule check`"));
    checks.extend(owed(project).await);
    checks
}

fn file(name: &str, read: Result<Option<String>, Failure>, how: &str) -> Option<Check> {
    match read {
        Ok(found) => found.map(|found| Check::new(name, Status::Good, found)),
        Err(failure) => Some(Check::new(name, Status::Bad, failure.message).mend(format!("{how} shows every problem"))),
    }
}

async fn owed(project: &Project) -> Option<Check> {
    let store = record::open_existing(project).await.ok()??;
    let owing = match reviews::all(&store).await {
        Ok(owing) => owing,
        Err(failure) => return Some(Check::new("reviews", Status::Unknown, failure.message)),
    };
    let states: Vec<State> = owing.iter().map(|owing| owing.standing().state).collect();
    let overdue = states.iter().filter(|state| matches!(state, State::Overdue(_))).count();
    let due = states.iter().filter(|state| matches!(state, State::Due(_))).count();
    match (overdue, due) {
        (0, 0) => None,
        (0, due) => Some(
            Check::new("reviews", Status::Warning, format!("{due} due"))
                .mend("`runbook reviews` says until when, and who may give them"),
        ),
        (overdue, _) => Some(
            Check::new("reviews", Status::Bad, format!("{overdue} overdue: nothing new begins"))
                .mend("`runbook reviews` says of which runs, and who may give them"),
        ),
    }
}
