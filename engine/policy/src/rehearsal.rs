//! Whether a plan was rehearsed: the same change, made and verified and taken back and verified, where less is lost by it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use runbook_model::rehearsal::Rehearsed;
use runbook_model::rules::Rehearsal;
use runbook_model::{HostName, RunId, Sha256};

/// Rehearsals whose faults are told, the latest first.
const TOLD: usize = 3;
/// Hosts and faults of one rehearsal that are told.
const NAMED: usize = 3;

/// A run that was a rehearsal of the same runbook, as its record tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// The run.
    pub run: RunId,
    /// What its plan is, hosts aside.
    pub rehearsal_sha256: Sha256,
    /// When it ended (Unix ms); `None`: it has not.
    pub ended_ms: Option<u64>,
    /// Its hosts.
    pub hosts: BTreeSet<HostName>,
    /// Why it proves nothing, host by host; empty: every host was changed, verified, taken back and verified.
    pub faults: Vec<String>,
}

/// The latest rehearsal that counts, of a plan that is `wanted_sha256` hosts aside; `staging` are the hosts of the rule's
/// selection.
///
/// # Errors
/// Why none does: at least one reason.
pub fn counting(
    rule: &Rehearsal,
    staging: &BTreeSet<HostName>,
    wanted_sha256: Sha256,
    tried: &[Tried],
    now: Timestamp,
) -> Result<Rehearsed, Vec<String>> {
    let mut latest: Vec<&Tried> = tried.iter().collect();
    latest.sort_by_key(|tried| std::cmp::Reverse((tried.ended_ms, tried.run.clone())));
    let mut why = Vec::new();
    for tried in latest {
        match fault(rule, staging, wanted_sha256, tried, now) {
            Ok(ended_ms) => {
                return Ok(Rehearsed { run: tried.run.clone(), rehearsal_sha256: tried.rehearsal_sha256, ended_ms });
            }
            Err(fault) if why.len() < TOLD => why.push(format!("the rehearsal {} does not count: {fault}", tried.run)),
            Err(_) => {}
        }
    }
    if why.is_empty() {
        why.push(format!("it was never rehearsed (`runbook rehearse FILE --limit '{}'`)", rule.hosts));
    }
    Err(why)
}

/// When the rehearsal ended, if it counts.
fn fault(
    rule: &Rehearsal,
    staging: &BTreeSet<HostName>,
    wanted_sha256: Sha256,
    tried: &Tried,
    now: Timestamp,
) -> Result<u64, String> {
    if tried.rehearsal_sha256 != wanted_sha256 {
        return Err("its plan was another one: the runbook, a parameter or a file that is sent has changed".to_owned());
    }
    let ended_ms = tried.ended_ms.ok_or("it has not ended")?;
    if let Some(elsewhere) = some(tried.hosts.difference(staging).map(|host| host.to_string())) {
        return Err(format!("it was done on {elsewhere}, and not on {} alone", rule.hosts));
    }
    if tried.hosts.is_empty() {
        return Err("it was done on no host".to_owned());
    }
    if let Some(faults) = some(tried.faults.iter().cloned()) {
        return Err(faults);
    }
    let now_ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
    if ended_ms.saturating_add(rule.within_ms) <= now_ms {
        let days = |ms: u64| ms / 86_400_000;
        let age = now_ms - ended_ms;
        return Err(match (days(age), days(rule.within_ms)) {
            (age, within) if within > 0 => format!("it is {age} days old, and {within} are allowed"),
            _ => format!("it is {} min old, and {} are allowed", age / 60_000, rule.within_ms / 60_000),
        });
    }
    Ok(ended_ms)
}

/// The first few of them in words; `None`: there is none.
fn some(all: impl Iterator<Item = String>) -> Option<String> {
    let all: Vec<String> = all.collect();
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    match all.len() {
        0 => None,
        count if count > NAMED => Some(format!("{named} and {} more", count - NAMED)),
        _ => Some(named),
    }
}
