//! What must hold after every point, checked on what the hosts counted and on what the program recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use runbook_model::Sha256;
use serde_json::Value;

use crate::Error;
use crate::field::HOSTS;
use crate::script;
use crate::trial::{Allowed, Trial};

/// The laws that are broken, in words. `code` is what the program ended with.
///
/// # Errors
/// When the program cannot be asked.
pub fn broken(trial: &Trial<'_>, code: i32, unknown: bool, allowed: Allowed) -> Result<Vec<String>, Error> {
    let mut broken = Vec::new();
    let said = trial.desk().ask(&["show", "last", "--json"])?;
    let Ok(run) = serde_json::from_slice::<Value>(&said.stdout) else {
        return Ok(vec![format!("`show last --json` says {:?}: {}", said.code, said.stderr)]);
    };
    if run["exit_code"] != code {
        broken.push(format!("the program ends with {code}, and `show` says {}", run["exit_code"]));
    }
    for host in run["hosts"].as_array().into_iter().flatten() {
        let name = host["name"].as_str().unwrap_or("?");
        let steps = host["steps"].as_array().cloned().unwrap_or_default();
        let hurt = allowed.hurt.filter(|_| name == HOSTS[0]);
        effects(trial, name, &steps, hurt, unknown, &mut broken);
        outputs(name, &steps, hurt, &mut broken);
    }
    raw(trial, &run, allowed, &mut broken)?;
    evidence(trial, &run, &mut broken)?;
    if allowed.left {
        // Nobody takes the run up any more; what its program left is the doctor's.
        trial.desk().ask(&["doctor", "--clean"])?;
    }
    left(trial, &mut broken);
    Ok(broken)
}

/// The exit code in the record.
///
/// # Errors
/// When the program cannot be asked.
pub fn recorded_code(trial: &Trial<'_>) -> Result<i32, Error> {
    let said = trial.desk().ask(&["show", "last", "--json"])?;
    let run: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    Ok(run["exit_code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(-1))
}

/// How often the record says that an attempt had its effect.
fn times(step: &Value, hurt: Option<&str>) -> RangeInclusive<u32> {
    match step["outcome"].as_str() {
        Some("succeeded") => 1..=1,
        Some("failed") if hurt.is_none() || step["exit_code"].is_null() || step["id"] != hurt.unwrap_or("") => 1..=1,
        Some("not_started" | "skipped") => 0..=0,
        _ => 0..=1,
    }
}

/// Exactly once, as the record says, and in order. What was taken back in two goes (`again`) goes back twice.
fn effects(trial: &Trial<'_>, host: &str, steps: &[Value], hurt: Option<&str>, again: bool, broken: &mut Vec<String>) {
    let order = script::order();
    let mut recorded: BTreeMap<&str, (u32, u32)> = BTreeMap::new();
    for step in steps {
        let id = step["id"].as_str().unwrap_or("?");
        let range = times(step, hurt);
        let sum = recorded.entry(id).or_default();
        sum.0 += range.start();
        sum.1 += range.end();
    }
    let effects = trial.field().effects(host);
    for id in &order {
        let found = effects.iter().filter(|effect| *effect == id).count();
        let (least, most) = recorded.get(id.as_str()).copied().unwrap_or_default();
        if !(least as usize..=most as usize).contains(&found) {
            broken.push(format!("{host}: {id} happened {found} times; by the record {least} to {most} times"));
        }
    }
    let mut in_order = effects.clone();
    in_order.retain(|effect| !again || script::STEPS.contains(&effect.as_str()));
    in_order.dedup();
    let mut rest = order.iter();
    if let Some(out) = in_order.iter().find(|effect| !rest.any(|id| id == *effect)) {
        broken.push(format!("{host}: {out} is out of order: {}", effects.join(" ")));
    }
}

/// Complete to the byte.
fn outputs(host: &str, steps: &[Value], hurt: Option<&str>, broken: &mut Vec<String>) {
    for step in steps {
        let id = step["id"].as_str().unwrap_or("?");
        let ended = matches!(step["outcome"].as_str(), Some("succeeded" | "failed")) && hurt != Some(id);
        let printed = script::printed(id, step["exit_code"].as_i64()).filter(|_| ended && step["attempt"] != 0);
        let Some((stdout, stderr)) = printed else { continue };
        for (name, bytes) in [("stdout", stdout), ("stderr", stderr)] {
            let told = &step[name];
            let whole = told["bytes"] == bytes.len() as u64
                && told["sha256"] == Sha256::of(&bytes).to_string()
                && told["truncated"] == false;
            if !whole {
                broken.push(format!("{host}: {name} of {id} is not as printed ({} bytes): {told}", bytes.len()));
            }
        }
    }
}

/// What `logs --raw` gives is what was printed.
fn raw(trial: &Trial<'_>, run: &Value, allowed: Allowed, broken: &mut Vec<String>) -> Result<(), Error> {
    for host in run["hosts"].as_array().into_iter().flatten() {
        let name = host["name"].as_str().unwrap_or("?");
        for (id, bytes) in [("binary", script::binary()), ("large", script::large())] {
            let steps = host["steps"].as_array().into_iter().flatten();
            let done = steps.into_iter().any(|step| step["id"] == id && step["outcome"] == "succeeded");
            if !done || (allowed.hurt == Some(id) && name == HOSTS[0]) {
                continue;
            }
            let said = trial.desk().ask(&["logs", "last", "--host", name, "--step", id, "--raw"])?;
            if said.stdout != bytes {
                broken.push(format!("{name}: `logs --raw` of {id} gives {} other bytes", said.stdout.len()));
            }
        }
    }
    Ok(())
}

/// The ledger verifies, and what nobody knows is missing in it, and nothing else is.
fn evidence(trial: &Trial<'_>, run: &Value, broken: &mut Vec<String>) -> Result<(), Error> {
    let mut unknown = BTreeSet::new();
    for host in run["hosts"].as_array().into_iter().flatten() {
        let mut last = BTreeMap::new();
        for step in host["steps"].as_array().into_iter().flatten() {
            last.insert(step["id"].to_string(), step["outcome"] == "unknown");
        }
        unknown.extend(last.into_iter().filter(|(_, is)| *is).map(|(step, _)| (host["name"].to_string(), step)));
    }
    let said = trial.desk().ask(&["evidence", "verify", "last", "--json"])?;
    let verdict: Value = serde_json::from_slice(&said.stdout).unwrap_or_default();
    let gaps = verdict["gaps"].as_array().into_iter().flatten();
    let gaps: BTreeSet<_> = gaps.map(|gap| (gap["host"].to_string(), gap["step"].to_string())).collect();
    let right = if unknown.is_empty() { matches!(said.code, Some(10 | 11)) } else { said.code == Some(12) };
    let sound = verdict["problems"].as_array().is_some_and(Vec::is_empty);
    if !right || !sound || gaps != unknown {
        broken.push(format!("`evidence verify` ends with {:?}: {verdict} {}", said.code, said.stderr));
    }
    Ok(())
}

/// No claim and no process of the run is left on a host.
fn left(trial: &Trial<'_>, broken: &mut Vec<String>) {
    for (place, host) in HOSTS.iter().enumerate() {
        let claims = trial.field().claims(host);
        if !claims.is_empty() {
            broken.push(format!("{host}: claims are left: {}", claims.join(", ")));
        }
        let strangers = trial.field().strangers(place, trial.before());
        if !strangers.is_empty() {
            broken.push(format!("{host}: processes are left: {}", strangers.join("; ")));
        }
    }
}
