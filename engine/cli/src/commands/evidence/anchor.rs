//! `evidence anchor`.

use runbook_ports::Store as _;
use runbook_report::verdict::Code;
use serde_json::json;

use crate::anchors::{self, Told};
use crate::arguments::EvidenceAnchor;
use crate::failure::{Failure, REFUSED};
use crate::output;
use crate::project::Project;
use crate::record;

/// Runs `evidence anchor`.
pub(super) async fn run(project: &Project, arguments: &EvidenceAnchor) -> Result<u8, Failure> {
    let known: Vec<&str> = project.settings.anchors.iter().map(|anchor| anchor.name.as_str()).collect();
    if known.is_empty() {
        return Err(Failure::usage("RB0649", "no anchor is set up in this project")
            .next("name one in runbook.toml, as [anchors.NAME]: docs/operations/anchors.md"));
    }
    if let Some(name) = arguments.name.as_deref().filter(|name| !known.contains(name)) {
        let failure = Failure::usage("RB0649", format!("there is no anchor `{name}` in this project"));
        return Err(match runbook_lang::similar::nearest(name, known.iter().copied()) {
            Some(near) => failure.next(format!("did you mean `{near}`?")),
            None => failure.next(format!("there are {}", runbook_report::text::list(&known, 12))),
        });
    }
    let store = record::open_recorded(project).await?;
    let told = anchors::give(project, &store, arguments.name.as_deref(), None).await?;
    if arguments.json {
        let size = store.last_checkpoint().await.map_err(|error| record::failed(&error))?.map_or(0, |head| head.size);
        output::json(&json!({"schema": "anchor/v1", "size": size, "anchors": told}))?;
    }
    anchors::tell(&told.iter().map(Told::text).collect::<Vec<_>>());
    Ok(if told.iter().any(|told| told.contradicts) {
        Code::Forked.number()
    } else if told.iter().all(|told| told.anchored) {
        0
    } else {
        REFUSED
    })
}
