//! `retention list`.

use std::fmt::Write as _;

use runbook_model::units::rfc3339_ms;
use runbook_ports::Store as _;
use runbook_report::text::escape_line;
use serde_json::json;

use super::{Kept, Term, now_ms};
use crate::arguments::upkeep::RetentionList;
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::project::Project;
use crate::record;

/// Runs `retention list`.
pub(super) async fn run(project: &Project, arguments: &RetentionList, _output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let kept = Kept::read(&store).await?;
    let now = now_ms();
    let mut runs = Vec::new();
    let mut text = String::new();
    for index in store.runs().await.map_err(|error| record::failed(&error))? {
        let term = Term::of(&index, &project.settings.retention);
        let over = term.is_over(now);
        if arguments.expired && !over {
            continue;
        }
        let id = &index.header.run;
        let holds = kept.holding(id, now);
        let until = term
            .until_ms
            .map(|ms| if ms == u64::MAX { "for ever".to_owned() } else { rfc3339_ms(ms)[..10].to_owned() });
        let state = match (&until, over, holds.is_empty()) {
            (None, ..) => "not ended".to_owned(),
            (Some(_), true, true) => "its time is over".to_owned(),
            (Some(until), _, true) => format!("until {until}"),
            (Some(until), _, false) => format!("until {until}, held by {}", holds.join(", ")),
        };
        let runbook = escape_line(index.header.runbook.as_bytes());
        let _ = writeln!(text, "{id}  {runbook:<24}  {:<11}  {} months  {state}", term.class.name(), term.months);
        runs.push(json!({
            "run_id": id,
            "class": term.class,
            "months": term.months,
            "until": until,
            "expired": over,
            "holds": holds,
        }));
    }
    for run in kept.purged.keys().filter(|_| !arguments.expired) {
        let _ = writeln!(text, "{run}  contents removed");
    }
    if arguments.json {
        output::json(
            &json!({"schema": "retention/v1", "runs": runs, "purged": kept.purged.keys().collect::<Vec<_>>()}),
        )?;
    } else {
        output::data(text)?;
    }
    Ok(0)
}
