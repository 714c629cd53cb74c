//! `policy/v1`.
#![allow(dead_code, reason = "only the schemas of these types are used")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::values::{Duration, Flag, Text};
use super::windows::Tier;

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Policy {
    /// The kind and version of this file.
    schema: String,
    /// What work needs; every rule that is for a host of a plan must be met.
    rules: Vec<Rule>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Rule {
    /// For people.
    name: Option<Text>,
    /// What it is for; everything without it.
    r#for: Option<For>,
    /// Who must have approved the plan.
    approvals: Option<Approvals>,
    /// Who may run it.
    operator: Option<Operator>,
    /// The change ticket: what its name must look like, whole (a regular expression), and what the change must be.
    ticket: Option<Ticket>,
    /// It must be said why it is run.
    reason: Option<Required>,
    /// The hosts must have windows.
    windows: Option<Required>,
    /// The plan must take a snapshot.
    snapshot: Option<Required>,
    /// Hosts may be reached by these alone.
    transports: Option<Vec<Text>>,
    /// The tools that may be used: lines of a SHA-256 and a name, as `sha256sum` prints them.
    tools: Option<Vec<Text>>,
    /// The plan must have been rehearsed: made, verified, taken back and verified, on other hosts.
    rehearsal: Option<Rehearsed>,
    /// The evidence is kept as that of this class at least.
    retention: Option<Class>,
    /// How far clocks may be off.
    clock: Option<Clock>,
    /// Who reviews the run after it has ended.
    review: Option<Review>,
}

#[derive(JsonSchema)]
#[serde(untagged)]
enum Ticket {
    /// What its name must look like.
    Pattern(Text),
    /// And what the change must be.
    Change(Change),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Change {
    /// What the ticket's name must look like, whole: a regular expression; anything without it.
    pattern: Option<Text>,
    /// It is approved, and not closed.
    approved: Option<Required>,
    /// It has dates, and the work begins between them.
    dates: Option<Required>,
    /// It names every host.
    assets: Option<Required>,
}

#[derive(JsonSchema)]
#[serde(untagged)]
enum Rehearsed {
    /// In the group `staging`, within 30 days.
    Required(Required),
    /// Where, and within which time.
    Where(Rehearsal),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Rehearsal {
    /// On which hosts, and on no other one; `staging` without it.
    hosts: Option<Text>,
    /// So long it counts after its end; 30 days without it.
    within: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct For {
    /// For which tiers; every one without it.
    tiers: Option<Vec<Tier>>,
    /// Which hosts; all without it.
    hosts: Option<Text>,
    /// Only hosts with one of these risks.
    risk: Option<OneOrMore>,
    /// Only what sets windows, blackouts and freezes aside.
    break_glass: Option<Flag>,
}

#[derive(JsonSchema)]
#[serde(untagged)]
enum OneOrMore {
    /// One.
    One(Text),
    /// Or more.
    More(Vec<Text>),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = whose)]
struct Approvals {
    /// So many persons of each role. A person counts once for each role that they have.
    roles: Option<BTreeMap<String, Count>>,
    /// So many persons altogether.
    persons: Option<Count>,
    /// Who runs it does not count; true without it.
    not_operator: Option<Flag>,
    /// So long an approval counts; 72h without it.
    valid_for: Option<Duration>,
    /// What the signature must prove of the approver's presence.
    security_key: Option<Presence>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Clock {
    /// So far at most, this machine's from the true time and the hosts' from this machine's; what is not known is too far.
    max_offset: Duration,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = whose)]
struct Review {
    /// So long after the run's end; 72h without it.
    within: Option<Duration>,
    /// So many persons of each role. A person counts once for each role that they have.
    roles: Option<BTreeMap<String, Count>>,
    /// So many persons altogether.
    persons: Option<Count>,
    /// Who ran it does not count; true without it.
    not_operator: Option<Flag>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Operator {
    /// One of these roles; any person of `people.yaml` without it.
    roles: Option<Vec<Text>>,
    /// Trained in all of these, and the training still counts.
    training: Option<Vec<Text>>,
}

#[derive(JsonSchema)]
struct Count(#[schemars(range(min = 1, max = 99))] u8);

fn whose(schema: &mut schemars::Schema) {
    let each: Vec<_> = ["roles", "persons"].iter().map(|key| serde_json::json!({"required": [key]})).collect();
    schema.insert("anyOf".into(), each.into());
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Class {
    /// Of little consequence.
    Operational,
    /// Anything else.
    Default,
    /// About CUI.
    Cui,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Required {
    /// It must be.
    Required,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum Presence {
    /// A security key that was touched.
    Touch,
    /// A security key that was touched and was given its PIN, or a finger.
    Pin,
}
