//! An inventory that came back smaller than at the last run is an error, unless somebody says that it is meant.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use runbook_report::text::{count, list};

use crate::failure::Failure;
use crate::project::Project;

fn path(project: &Project) -> PathBuf {
    project.state_path("inventory.last")
}

/// Compares the inventory's hosts with those of the last run.
pub(crate) fn check(project: &Project, names: &BTreeSet<String>, allow: bool) -> Result<(), Failure> {
    let Ok(last) = fs::read_to_string(path(project)) else { return Ok(()) };
    let last: BTreeSet<String> = last.lines().map(str::to_owned).collect();
    if allow || names.len() >= last.len() {
        return Ok(());
    }
    let gone: Vec<&str> = last.difference(names).map(String::as_str).collect();
    let text = format!("the inventory has {}, and had {} at the last run", count(names.len(), "host"), last.len());
    Err(Failure::usage("RB0615", text)
        .detail(format!("gone: {}", list(&gone, 10)))
        .next("if that is meant, say --allow-shrink; else find out why its source came back smaller"))
}

/// Remembers the inventory of a run that has begun. Failing to costs the next run its comparison, no more.
pub(crate) fn remember(project: &Project, names: &BTreeSet<String>) {
    let text: String = names.iter().map(|name| format!("{name}\n")).collect();
    let temporary = project.state_path("inventory.last.new");
    if fs::write(&temporary, text).is_ok() {
        let _ = fs::rename(&temporary, path(project));
    }
}
