//! Measures and compares inside the engine.

use std::fmt::Write as _;
use std::sync::Arc;

use runbook_model::manifest::{Change, Entry, Manifest};
use runbook_model::outcome::Obstacle;

use super::{Compare, Done, Job, local};
use crate::measure::globs::Globs;
use crate::measure::{Measured, Request};
use crate::world::{Raw, World};

/// Differences that are named in the reason; all of them are in the output.
const NAMED_MAX: usize = 10;

/// Measures anew and compares, as the step's role says.
pub(super) async fn compare(world: &Arc<World>, job: &Job) -> Done {
    match job.compare.as_ref().expect("a comparison is given what to compare with") {
        Compare::Nothing(why) => Done::said(Raw::Judged(vec![why.clone()]), format!("{why}\n")),
        Compare::Baseline { before, globs, account } => {
            let request = match Globs::new(globs.iter().map(String::as_str)) {
                Ok(globs) => Request { globs, account: account.clone(), services: true },
                Err(error) => return Done::silent(Raw::NotStarted(local(error.to_string()))),
            };
            match measured(world, job, &request).await {
                Ok(after) => baseline(before, &after),
                Err(obstacle) => Done::silent(Raw::NotStarted(obstacle)),
            }
        }
        Compare::Undeclared { before, roots, declared, fails, account } => {
            let globs = Globs::new(roots.iter().map(String::as_str));
            let (globs, declared) = match (globs, Globs::new(declared.iter().map(String::as_str))) {
                (Ok(globs), Ok(declared)) => (globs, declared),
                (Err(error), _) | (_, Err(error)) => return Done::silent(Raw::NotStarted(local(error.to_string()))),
            };
            let request = Request { globs, account: account.clone(), services: false };
            match measured(world, job, &request).await {
                Ok(after) => undeclared(before, &after, &declared, *fails),
                Err(obstacle) => Done::silent(Raw::NotStarted(obstacle)),
            }
        }
    }
}

async fn measured(world: &Arc<World>, job: &Job, request: &Request) -> Result<Measured, Obstacle> {
    tokio::select! {
        biased;
        () = job.stop.token().cancelled() => Err(super::cancelled()),
        measured = world.measure(&job.host, request) => measured,
    }
}

fn baseline(before: &Manifest, after: &Measured) -> Done {
    let mut text = String::new();
    let mut unmet = Vec::new();
    for change in before.changes(&after.manifest) {
        let line = line(&change);
        let _ = writeln!(text, "{line}");
        unmet.push(format!("not as before: {line}"));
    }
    if let (Some(before), Some(after)) = (&before.services, &after.manifest.services) {
        for gone in before.difference(after) {
            let _ = writeln!(text, "{gone}: ran before, does not run now");
            unmet.push(format!("{gone} ran before and does not run now"));
        }
        for new in after.difference(before) {
            let _ = writeln!(text, "{new}: did not run before, runs now (no failure)");
        }
    }
    gaps(&mut text, &after.gaps);
    if text.is_empty() {
        let count = before.entries.len();
        let services = before.services.as_ref().map_or(0, std::collections::BTreeSet::len);
        let _ = writeln!(text, "{count} paths and {services} services are as before");
    }
    Done::said(Raw::Judged(shortened(unmet)), text)
}

fn undeclared(before: &Manifest, after: &Measured, declared: &Globs, fails: bool) -> Done {
    let mut text = String::new();
    let mut unmet = Vec::new();
    let mut found = Vec::new();
    let mut covered = 0;
    for change in before.changes(&after.manifest) {
        if declared.covers(&change.path) {
            covered += 1;
            continue;
        }
        let line = line(&change);
        let _ = writeln!(text, "undeclared: {line}");
        unmet.push(format!("changed, and no step declares it: {line}"));
        found.push(change);
    }
    if unmet.is_empty() {
        let _ = writeln!(text, "no undeclared change among {} paths", after.manifest.entries.len());
    }
    let _ = writeln!(text, "declared changes: {covered}");
    gaps(&mut text, &after.gaps);
    let judged = Raw::Judged(if fails { shortened(unmet) } else { Vec::new() });
    Done { undeclared: found, ..Done::said(judged, text) }
}

fn gaps(text: &mut String, gaps: &[String]) {
    for gap in gaps {
        let _ = writeln!(text, "not compared: {gap}");
    }
}

fn shortened(mut unmet: Vec<String>) -> Vec<String> {
    let more = unmet.len().saturating_sub(NAMED_MAX);
    if more > 0 {
        unmet.truncate(NAMED_MAX);
        unmet.push(format!("and {more} more; the step's output lists all"));
    }
    unmet
}

/// A change in one line for people.
fn line(change: &Change) -> String {
    let path = &change.path;
    match (&change.before, &change.after) {
        (None, _) => format!("{path} (new)"),
        (_, None) => format!("{path} (gone)"),
        (Some(before), Some(after)) => format!("{path} ({})", differences(before, after).join(", ")),
    }
}

fn differences(before: &Entry, after: &Entry) -> Vec<String> {
    let mut found = Vec::new();
    if before.kind != after.kind {
        found.push(format!("{} became {}", before.kind, after.kind));
    }
    if before.sha256 != after.sha256 || before.bytes != after.bytes {
        found.push("content".to_owned());
    }
    for (what, before, after) in [
        ("mode", &before.mode, &after.mode),
        ("owner", &before.owner, &after.owner),
        ("group", &before.group, &after.group),
    ] {
        if before != after {
            found.push(format!("{what} {before} became {after}"));
        }
    }
    if before.acl != after.acl {
        found.push("access control list".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(mode: &str) -> Entry {
        Entry {
            kind: "file".into(),
            sha256: None,
            bytes: Some(1),
            mode: mode.into(),
            owner: "root".into(),
            group: "root".into(),
            acl: None,
        }
    }

    fn manifest(entries: &[(&str, &str)]) -> Manifest {
        let entries = entries.iter().map(|(path, mode)| ((*path).to_owned(), entry(mode))).collect();
        Manifest { entries, ..Manifest::default() }
    }

    fn unmet(done: &Done) -> Vec<String> {
        let Raw::Judged(unmet) = &done.raw else { panic!("{:?}", done.raw) };
        unmet.clone()
    }

    #[test]
    fn only_undeclared_changes_fail_and_only_when_the_rule_says_so() {
        let before = manifest(&[("/etc/a", "0644"), ("/etc/b", "0644")]);
        let after = Measured { manifest: manifest(&[("/etc/a", "0600"), ("/etc/c", "0644")]), gaps: Vec::new() };
        let declared = Globs::new(["/etc/a"]).unwrap();
        let failed = undeclared(&before, &after, &declared, true);
        assert_eq!(unmet(&failed).len(), 2);
        let text = String::from_utf8(failed.captured.stdout.seen.clone()).unwrap();
        assert_eq!(text, "undeclared: /etc/b (gone)\nundeclared: /etc/c (new)\ndeclared changes: 1\n");
        let reported = undeclared(&before, &after, &declared, false);
        assert!(unmet(&reported).is_empty());
        for done in [failed, reported] {
            let paths: Vec<&str> = done.undeclared.iter().map(|change| change.path.as_str()).collect();
            assert_eq!(paths, ["/etc/b", "/etc/c"], "the list is recorded, whatever the rule says");
        }
    }

    #[test]
    fn a_service_that_is_gone_fails_the_baseline_and_a_new_one_does_not() {
        let services = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let before = Manifest { services: services(&["smbd.service"]), ..Manifest::default() };
        let now = Manifest { services: services(&["nmbd.service"]), ..Manifest::default() };
        let done = baseline(&before, &Measured { manifest: now, gaps: Vec::new() });
        assert_eq!(unmet(&done), ["smbd.service ran before and does not run now"]);
        let same = baseline(&before, &Measured { manifest: before.clone(), gaps: Vec::new() });
        assert!(unmet(&same).is_empty());
    }
}
