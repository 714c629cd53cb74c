//! `schedule/v1`.
#![allow(dead_code, reason = "only the schemas of these types are used")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde_json::Value;

use super::values::{Duration, Text};
use super::windows::{Clock, Day, Gap, Overlap};

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Schedules {
    /// The kind and version of this file.
    schema: String,
    /// IANA time zone of all that says none itself.
    zone: Option<Text>,
    /// What runs by itself, by name.
    schedules: BTreeMap<String, Schedule>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = said)]
struct Schedule {
    /// For people.
    title: Option<Text>,
    /// Path of a runbook, or of a saved plan, relative to the project.
    run: Text,
    /// Values of the runbook's parameters.
    parameters: Option<BTreeMap<String, Value>>,
    /// Only these of its hosts.
    limit: Option<Text>,
    /// The change ticket.
    ticket: Option<Text>,
    /// At each opening of this window of `windows.yaml`.
    window: Option<Text>,
    /// It may be begun so much later; an hour without it, or while its window is open.
    late: Option<Duration>,
    /// So long before, it is told.
    notice_before: Option<Duration>,
    /// `false`: it is not in force.
    enabled: Option<bool>,
    /// `second Tuesday 22:00, America/New_York`.
    when: Option<Text>,
    /// A recurrence rule of RFC 5545 for the days.
    rule: Option<Text>,
    /// So many days after each of them.
    plus_days: Option<i32>,
    /// Time of day.
    at: Option<Clock>,
    /// IANA time zone.
    zone: Option<Text>,
    /// The first day.
    starting: Option<Day>,
    /// The last day.
    until: Option<Day>,
    /// Days on which it does not run.
    except: Option<Vec<Day>>,
    /// When the clock jumps over the time.
    gap: Option<Gap>,
    /// When the clock shows the time twice.
    overlap: Option<Overlap>,
}

fn said(schema: &mut schemars::Schema) {
    let each: Vec<_> = ["when", "rule", "window"].iter().map(|key| serde_json::json!({"required": [key]})).collect();
    schema.insert("anyOf".into(), each.into());
}
