//! What every plan keeps to, however it came about: checked after building (a violation is our defect) and after
//! loading (a violation is a damaged or forged file).

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::access::{check_command, is_account, is_network, is_principal};
use runbook_model::canonical;
use runbook_model::host::{Host, Os};
use runbook_model::id::{HostName, StepId};
use runbook_model::plan::{Action, OnFailure, Phase, Place, Plan, Role, SCHEMA, Step, Work};
use serde_json::Value;

use crate::build::access::TRANSPORT;

/// Times in a plan fit in 100 years, so that sums with the clock's time never overflow.
const TIME_MS_MAX: u64 = 100 * 366 * 86_400_000;

/// At most so many violations are listed.
const LISTED_MAX: usize = 20;

/// What `plan` violates, as sentences for people; empty when it is sound. At most 20, then how many more there are.
pub fn violations(plan: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    head(plan, &mut found);
    hosts(plan, &mut found);
    access(plan, &mut found);
    let index: BTreeMap<&StepId, (usize, &Step)> =
        plan.steps.iter().enumerate().map(|(place, step)| (&step.id, (place, step))).collect();
    let mut last = Phase::Prechecks;
    let mut seen = BTreeSet::new();
    for (place, step) in plan.steps.iter().enumerate() {
        let mut report =
            |what: String| found.push(format!("step `{}`: {what}", crate::printable::text(step.id.as_str())));
        if !seen.insert(&step.id) {
            report("its id is used twice".into());
        }
        if step.phase < last {
            report(format!("it belongs to `{}` and stands after steps of `{last}`", step.phase));
        }
        last = last.max(step.phase);
        identity(step, &mut report);
        needs(step, place, &index, &mut report);
        role(step, plan, &index, &mut report);
        limits(step, &mut report);
        work(step, plan, &mut report);
    }
    files(plan, &mut found);
    if found.len() > LISTED_MAX {
        let more = found.len() - LISTED_MAX;
        found.truncate(LISTED_MAX);
        found.push(format!("and {more} more"));
    }
    found
}

fn head(plan: &Plan, found: &mut Vec<String>) {
    if plan.schema != SCHEMA {
        found.push(format!("its schema is not `{SCHEMA}`"));
    }
    if plan.parallel == 0 {
        found.push("`parallel` is 0, so no host could ever start".into());
    }
    for (name, ms) in [("soak", plan.soak_ms), ("the rollback budget", plan.rollback.budget_ms)] {
        if ms > TIME_MS_MAX {
            found.push(format!("{name} is longer than 100 years"));
        }
    }
    if plan.parameters.values().any(has_float) || plan.hosts.values().any(|host| host_values(host).any(has_float)) {
        found.push("a value is a floating-point number, which has no canonical form".into());
    }
}

fn host_values(host: &Host) -> impl Iterator<Item = &Value> {
    host.vars.values().chain(host.options.values())
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_float),
        Value::Object(map) => map.values().any(has_float),
        _ => false,
    }
}

fn hosts(plan: &Plan, found: &mut Vec<String>) {
    let show = |name: &HostName| crate::printable::text(name.as_str());
    if plan.hosts.is_empty() {
        found.push("it has no hosts".into());
    }
    for (name, host) in &plan.hosts {
        if *name != host.name {
            found.push(format!("host `{}` calls itself `{}`", show(name), show(&host.name)));
        }
        if name.as_str().is_empty() {
            found.push("a host has no name".into());
        }
    }
    let mut batched = BTreeSet::new();
    for (number, batch) in plan.batches.iter().enumerate() {
        if batch.is_empty() {
            found.push(format!("batch {} is empty", number + 1));
        }
        for name in batch {
            if !plan.hosts.contains_key(name) {
                found.push(format!("batch {} names `{}`, which is no host of the plan", number + 1, show(name)));
            }
            if !batched.insert(name) {
                found.push(format!("host `{}` is in two places of the batches", show(name)));
            }
        }
    }
    for name in plan.hosts.keys().filter(|name| !batched.contains(name)) {
        found.push(format!("host `{}` is in no batch", show(name)));
    }
}

/// What becomes a certificate and a file of sudoers holds nothing that means something else there.
fn access(plan: &Plan, found: &mut Vec<String>) {
    let Some(access) = &plan.access else { return };
    let mut report = |what: String| found.push(format!("access: {}", crate::printable::text(&what)));
    if access.certificate.is_none() && access.sudo.is_none() && access.account.is_none() {
        report("it gives nothing".into());
    }
    let by_login = access.certificate.is_some() || access.sudo.is_some();
    for (name, host) in &plan.hosts {
        if host.transport != TRANSPORT {
            report(format!("{name} is not reached by `{TRANSPORT}`"));
        }
        if by_login && !host.user.as_deref().is_some_and(is_account) {
            report(format!("{name} has no account that it could be for"));
        }
        let names = access.certificate.as_ref().map(|certificate| certificate.principals.get(name));
        if let Some(names) = names
            && names.is_none_or(|names| names.is_empty() || !names.iter().all(|name| is_principal(name)))
        {
            report(format!("{name} has no good names in its certificate"));
        }
    }
    if let Some(certificate) = &access.certificate {
        if certificate.principals.keys().any(|name| !plan.hosts.contains_key(name)) {
            report("a certificate is for a host that is not in the plan".into());
        }
        if !certificate.source_address.iter().all(|address| is_network(address)) {
            report("a source address is no address".into());
        }
        if certificate.valid_for_ms == 0 || certificate.valid_for_ms > TIME_MS_MAX {
            report("a certificate is valid for no time, or for longer than 100 years".into());
        }
    }
    if let Some(sudo) = &access.sudo {
        let good = sudo.commands.iter().all(|command| check_command(command).is_ok());
        if !is_account(&sudo.run_as) || sudo.commands.is_empty() || !good {
            report("a rule of sudo says something else than it should".into());
        }
    }
    if let Some(account) = access.account.as_ref().filter(|account| !is_account(&account.name)) {
        report(format!("`{}` is no account", account.name));
    }
}

/// Ids that people write have no dot; derived ones are the id of the step that they serve, a dot and a word.
fn identity(step: &Step, report: &mut impl FnMut(String)) {
    let id = step.id.as_str();
    let plain = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    let right = match &step.role {
        Role::Plain | Role::Take => plain(id),
        Role::Probe { of } => id == format!("{of}.probe"),
        Role::Restore { of } => id == format!("{of}.restore"),
        Role::Release { of } => id == format!("{of}.release"),
        Role::Again { of } => id == format!("{of}.again"),
        Role::Undo { of } => match id.strip_prefix(of.as_str()).and_then(|rest| rest.strip_prefix(".undo")) {
            Some("") => true,
            Some(number) => {
                number.strip_prefix('-').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            }
            None => false,
        },
        Role::Baseline => id == "rollback.baseline",
        Role::Undeclared => id == "verify.undeclared",
    };
    if !right {
        report("its id does not fit what it is for".into());
    }
}

fn needs(step: &Step, place: usize, index: &BTreeMap<&StepId, (usize, &Step)>, report: &mut impl FnMut(String)) {
    let mut seen = BTreeSet::new();
    for need in &step.needs {
        let name = crate::printable::text(need.as_str());
        if !seen.insert(need) {
            report(format!("it needs `{name}` twice"));
        }
        match index.get(need) {
            None => report(format!("it needs `{name}`, which is no step of the plan")),
            Some((_, other)) if other.phase != step.phase => {
                report(format!("it needs `{name}`, which belongs to another phase"));
            }
            Some((_, other)) if matches!(other.role, Role::Release { .. }) => {
                report(format!("it needs `{name}`, which is not part of the normal course"));
            }
            // Every need stands earlier in the plan, so there can be no cycle.
            Some((other_place, _)) if *other_place >= place => {
                report(format!("it needs `{name}`, which does not stand before it"));
            }
            Some(_) => {}
        }
    }
}

fn role(step: &Step, plan: &Plan, index: &BTreeMap<&StepId, (usize, &Step)>, report: &mut impl FnMut(String)) {
    let other = |of: &StepId| index.get(of).map(|(_, step)| *step);
    let takes = |of: &StepId| other(of).is_some_and(|step| step.role == Role::Take);
    let (phase, right) = match &step.role {
        Role::Plain => (step.phase, true),
        Role::Take => {
            let proved = index.values().any(|(_, probe)| {
                probe.phase == Phase::Snapshot
                    && probe.role == Role::Probe { of: step.id.clone() }
                    && probe.needs.contains(&step.id)
            });
            if !proved {
                report("no step proves the snapshot that it takes".into());
            }
            (Phase::Snapshot, true)
        }
        Role::Probe { of } => (Phase::Snapshot, takes(of)),
        Role::Release { of } => (Phase::Snapshot, takes(of) && step.needs.is_empty()),
        Role::Restore { of } => (Phase::Rollback, takes(of)),
        Role::Undo { of } => (Phase::Rollback, other(of).is_some_and(|step| step.phase == Phase::Execute)),
        Role::Again { of } => (Phase::Rollback, other(of).is_some_and(|step| step.phase == Phase::Prechecks)),
        Role::Baseline => (Phase::Rollback, compares(&step.work)),
        Role::Undeclared => (Phase::Verify, compares(&step.work) && plan.watch.is_some()),
    };
    if step.phase != phase || !right {
        report("its role does not fit its phase, its action or the step that it serves".into());
    }
    let must_only_read = matches!(step.phase, Phase::Prechecks | Phase::Verify)
        || matches!(step.role, Role::Probe { .. } | Role::Again { .. } | Role::Baseline | Role::Undeclared);
    if must_only_read && !step.read_only {
        report("it belongs to what only reads, and may change something".into());
    }
    if compares(&step.work) && !matches!(step.role, Role::Baseline | Role::Undeclared) {
        report("only the engine's own comparisons may compare".into());
    }
    if step.on_failure == OnFailure::Rollback && !matches!(step.phase, Phase::Execute | Phase::Verify) {
        report(format!("a failure in `{}` cannot lead to a rollback", step.phase));
    }
    if step.on_failure == OnFailure::Block && !matches!(step.phase, Phase::Prechecks | Phase::Snapshot) {
        report(format!("a failure in `{}` cannot block: something was changed", step.phase));
    }
}

fn compares(work: &Work) -> bool {
    actions(work).any(|action| *action == Action::Compare)
}

/// The actions of `work`, whichever system they are for.
pub(crate) fn actions(work: &Work) -> impl Iterator<Item = &Action> {
    let (any, posix, windows) = match work {
        Work::Any(action) => (Some(action), None, None),
        Work::ByOs { posix, windows } => (None, posix.as_ref(), windows.as_ref()),
    };
    any.into_iter().chain(posix).chain(windows)
}

/// The action of `work` on a system of this kind.
pub(crate) fn action_on<'a>(work: &'a Work, os: &Os) -> Option<&'a Action> {
    match (work, os) {
        (Work::Any(action), _) => Some(action),
        (Work::ByOs { windows, .. }, Os::Windows) => windows.as_ref(),
        (Work::ByOs { posix, .. }, Os::Posix(_)) => posix.as_ref(),
    }
}

fn limits(step: &Step, report: &mut impl FnMut(String)) {
    let retry = &step.retry;
    if retry.attempts == 0 {
        report("it has no attempts".into());
    }
    if retry.on.windows(2).any(|pair| pair[0] >= pair[1]) {
        report("the classes of its `retry` are not sorted, each once".into());
    }
    if step.expect.exit_codes.windows(2).any(|pair| pair[0] >= pair[1]) {
        report("its exit codes are not sorted, each once".into());
    }
    if step.timeout_ms == 0 {
        report("its timeout is 0".into());
    }
    let mut times = vec![step.timeout_ms, retry.delay_ms, retry.delay_ms_max];
    for action in actions(&step.work).chain(step.unless.iter().flat_map(actions)) {
        match action {
            Action::Reboot { timeout_ms, settle_ms } => times.extend([*timeout_ms, *settle_ms]),
            Action::Wait { ms } => times.push(*ms),
            Action::WaitUntil { for_ms, every_ms, .. } => times.extend([*for_ms, *every_ms]),
            _ => {}
        }
    }
    if times.into_iter().any(|ms| ms > TIME_MS_MAX) {
        report("one of its times is longer than 100 years".into());
    }
    let values = step.item.iter().chain(step.with.iter().flat_map(|with| with.values()));
    if values.into_iter().any(has_float) {
        report("a value is a floating-point number, which has no canonical form".into());
    }
}

fn work(step: &Step, plan: &Plan, report: &mut impl FnMut(String)) {
    for work in [Some(&step.work), step.unless.as_ref()].into_iter().flatten() {
        let lacking = match &step.on {
            Place::Host => plan.hosts.values().find(|host| action_on(work, &host.os).is_none()),
            Place::Named(host) => Some(&**host).filter(|host| action_on(work, &host.os).is_none()),
            Place::Controller => None,
        };
        if let Some(host) = lacking {
            report(format!("it has nothing to do on `{}` ({})", crate::printable::text(host.name.as_str()), host.os));
        }
        if actions(work).next().is_none() {
            report("it has nothing to do on any system".into());
        }
    }
    for action in actions(&step.work) {
        match action {
            Action::Argv { argv } if argv.is_empty() => report("its argument vector is empty".into()),
            Action::Upload { files, .. } => {
                let single = files.contains_key("");
                if files.is_empty() || (single && files.len() > 1) {
                    report("it uploads nothing, or a file and a folder at once".into());
                }
                for (path, file) in files {
                    if !path.is_empty() && !is_inner_path(path) {
                        report(format!("it would write outside its target: `{}`", crate::printable::text(path)));
                    }
                    if file.mode > 0o7777 {
                        report(format!("the mode of `{}` is more than 0o7777", crate::printable::text(path)));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether `path` is relative, has `/` between its parts and stays below the folder that it is relative to, on any
/// system.
pub(crate) fn is_inner_path(path: &str) -> bool {
    let normal = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
    path.split('/').all(normal) && path.as_bytes().get(1) != Some(&b':')
}

fn files(plan: &Plan, found: &mut Vec<String>) {
    let mut sent = BTreeSet::new();
    for step in &plan.steps {
        for action in actions(&step.work).chain(step.unless.iter().flat_map(actions)) {
            match action {
                Action::Script { sha256, .. } => {
                    sent.insert(*sha256);
                }
                Action::Upload { files, .. } => sent.extend(files.values().map(|file| file.sha256)),
                _ => {}
            }
        }
    }
    for digest in &sent {
        if !plan.files.contains_key(digest) {
            found.push(format!("the file with digest {digest} is sent by a step and is not among the files"));
        }
    }
    for (digest, file) in plan.files.iter().filter(|(digest, _)| !sent.contains(digest)) {
        found.push(format!("no step sends `{}` ({digest})", crate::printable::text(&file.path)));
    }
}

/// Asserts that a plan that was built here is sound.
///
/// # Panics
/// When it is not: that is our own defect.
pub(crate) fn assert_sound(plan: &Plan) {
    let found = violations(plan);
    assert!(found.is_empty(), "a plan that was built contradicts itself: {}", found.join("; "));
    debug_assert_eq!(
        serde_json::from_slice::<Plan>(&canonical::bytes(plan)).ok().as_ref(),
        Some(plan),
        "a plan reads back as it was written"
    );
}
