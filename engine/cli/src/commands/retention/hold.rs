//! `retention hold`, `retention lift`.

use runbook_model::{Notice, RunId};

use super::{Kept, now_ms};
use crate::arguments::upkeep::{RetentionHold, RetentionLift};
use crate::failure::{Failure, REFUSED};
use crate::project::Project;
use crate::{notices, output, person, record};

/// Places a hold.
pub(super) async fn place(project: &Project, arguments: &RetentionHold) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let kept = Kept::read(&store).await?;
    if kept.holds.iter().any(|hold| hold.name == arguments.name) {
        return Err(Failure::new("RB0666", REFUSED, format!("there is a hold `{}` already", arguments.name))
            .next("lift it first, or give this one another name"));
    }
    let mut runs: Vec<RunId> = Vec::new();
    for name in &arguments.runs {
        runs.push(record::find(&store, name).await?.header.run);
    }
    let until_ms = arguments.until.as_deref().map(date).transpose()?;
    if until_ms.is_some_and(|until| until <= now_ms()) {
        return Err(Failure::usage("RB0666", "--until is a day that has passed"));
    }
    let notice = Notice::HoldPlaced {
        hold: arguments.name.clone(),
        runs,
        until_ms,
        reason: arguments.reason.clone(),
        by: person::operator(),
    };
    notices::append(project, &store, vec![notice], Vec::new()).await?;
    output::note(format!("hold `{}` is on record", arguments.name));
    Ok(0)
}

/// The beginning of a day (UTC).
fn date(text: &str) -> Result<u64, Failure> {
    let day: Result<jiff::civil::Date, _> = text.parse();
    day.ok()
        .and_then(|day| day.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .and_then(|day| u64::try_from(day.timestamp().as_millisecond()).ok())
        .ok_or_else(|| Failure::usage("RB0666", format!("--until {text}: not a day")).next("for example 2031-06-30"))
}

/// Lifts a hold.
pub(super) async fn lift(project: &Project, arguments: &RetentionLift) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let kept = Kept::read(&store).await?;
    if !kept.holds.iter().any(|hold| hold.name == arguments.name) {
        let known: Vec<&str> = kept.holds.iter().map(|hold| hold.name.as_str()).collect();
        let failure = Failure::usage("RB0666", format!("there is no hold `{}`", arguments.name));
        return Err(if known.is_empty() { failure } else { failure.next(format!("there is {}", known.join(", "))) });
    }
    let notice =
        Notice::HoldLifted { hold: arguments.name.clone(), reason: arguments.reason.clone(), by: person::operator() };
    notices::append(project, &store, vec![notice], Vec::new()).await?;
    output::note(format!("hold `{}` is lifted; that is on record too", arguments.name));
    Ok(0)
}
