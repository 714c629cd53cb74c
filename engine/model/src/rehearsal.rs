//! Rehearsals: a change and its way back, tried where nothing is lost by it, before it is done where something is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::canonical;
use crate::digest::Sha256;
use crate::id::RunId;
use crate::plan::Plan;

/// The group that stands in for the hosts that matter, when nobody says otherwise.
pub const STAGING: &str = "staging";
/// A rehearsal counts so long when its rule does not say otherwise.
pub const WITHIN_MS: u64 = 30 * 24 * 3_600_000;

/// The rehearsal that a run needed: in its opening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rehearsed {
    /// The run that was the rehearsal.
    pub run: RunId,
    /// What both plans are, hosts aside ([`digest`]).
    pub rehearsal_sha256: Sha256,
    /// When it ended (Unix ms).
    pub ended_ms: u64,
}

/// What a plan is, hosts aside: SHA-256 of the canonical JSON of all that stays the same when it is made for other hosts.
///
/// Left out are the hosts and how they are put into batches (`hosts`, `batches`, `parallel`, `soak_ms`, `failure_budget`,
/// which may be a share of them); of a host that steps name, all but its name; what steps are called, which may name the only
/// host. Everything else counts: the runbook's text,
/// the parameters, every step, the digests of the files that are sent.
pub fn digest(plan: &Plan) -> Sha256 {
    let mut value = serde_json::to_value(plan).expect("a plan is representable as JSON");
    if let Value::Object(plan) = &mut value {
        for key in ["hosts", "batches", "parallel", "soak_ms", "failure_budget"] {
            plan.remove(key);
        }
        for step in plan.get_mut("steps").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(step) = step.as_object_mut() {
                step.remove("name");
            }
            if let Some(place) = step.get_mut("on")
                && let Some(name) = place.get("named").and_then(|host| host.get("name")).cloned()
            {
                *place = json!({ "named": name });
            }
        }
    }
    let whole: BTreeMap<&str, Value> = BTreeMap::from([("schema", json!("rehearsal/v1")), ("plan", value)]);
    canonical::digest(&whole)
}
