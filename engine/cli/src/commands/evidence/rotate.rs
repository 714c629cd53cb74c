//! `evidence rotate-key`.

use runbook_ports::Store as _;
use runbook_report::list::LineState;
use serde_json::json;

use crate::arguments::upkeep::RotateKey;
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output};
use crate::project::Project;
use crate::{head, keys, person, record};

/// Runs `evidence rotate-key`.
pub(super) async fn run(project: &Project, arguments: &RotateKey, _output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    head::must_hold(project, &store).await?;
    // A run that is under way would have to stop: its controller has the old key.
    for index in store.runs().await.map_err(|error| record::failed(&error))? {
        let line = record::line(&store, index).await?;
        if line.state == LineState::Running {
            let text = format!("run {} is being worked on, with the key that is to be replaced", line.header.run);
            return Err(Failure::new("RB0660", REFUSED, text).next("wait until it has ended, or cancel it"));
        }
    }
    let by = person::operator();
    let (old, new) = keys::rotate(project, &store, Vec::new(), &arguments.reason, &by).await?;
    let aside = keys::aside_path(project, &old);
    if arguments.json {
        output::json(&json!({
            "schema": "rotate-key/v1",
            "old_key": old.to_string(),
            "new_key": new.to_string(),
            "old_private_key": aside,
        }))?;
        return Ok(0);
    }
    output::note(format!(
        "the ledger is sealed with a new key from now on; keep a copy of its public half elsewhere:\n  {new}\n\
         whoever pinned the old one can go on with it: the record leads from one to the other.\n  {old}\n\
         the old private key is in {}; take it off this machine",
        aside.display()
    ));
    Ok(0)
}
