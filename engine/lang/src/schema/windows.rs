//! `windows/v1`.
#![allow(dead_code, reason = "only the schemas of these types are used")]

use std::collections::BTreeMap;

use schemars::JsonSchema;

use super::values::{Duration, Text};

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct Windows {
    /// The kind and version of this file.
    schema: String,
    /// IANA time zone of all that says none itself.
    zone: Option<Text>,
    /// When work may be done, by name.
    windows: Option<BTreeMap<String, Window>>,
    /// When nothing begins on some hosts, by name.
    blackouts: Option<BTreeMap<String, Blackout>>,
    /// When nothing begins anywhere, by name.
    freezes: Option<BTreeMap<String, Freeze>>,
    /// Days that windows with `holidays: skip` leave out.
    holidays: Option<Vec<Day>>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = said)]
struct Window {
    /// For people.
    title: Option<Text>,
    /// Which hosts it is for; all without it.
    hosts: Option<Text>,
    /// For which tiers; routine and corrective without it.
    tiers: Option<Vec<Tier>>,
    /// What it does on a holiday.
    holidays: Option<OnHoliday>,
    /// `second Tuesday 22:00 for 4h, America/New_York`.
    when: Option<Text>,
    /// A recurrence rule of RFC 5545 for the days.
    rule: Option<Text>,
    /// So many days after each of them.
    plus_days: Option<i32>,
    /// Time of day.
    at: Option<Clock>,
    /// How long it is open.
    r#for: Option<Duration>,
    /// IANA time zone.
    zone: Option<Text>,
    /// The first day.
    starting: Option<Day>,
    /// The last day.
    until: Option<Day>,
    /// Days on which it does not open.
    except: Option<Vec<Day>>,
    /// When the clock jumps over the time.
    gap: Option<Gap>,
    /// When the clock shows the time twice.
    overlap: Option<Overlap>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = said_or_from)]
struct Blackout {
    /// Why.
    reason: Option<Text>,
    /// Which hosts it is for; all without it.
    hosts: Option<Text>,
    /// When it begins, once.
    from: Option<Text>,
    /// When it is over, or the last day of its rule.
    until: Option<Text>,
    /// `last Friday 00:00 for 24h, America/New_York`.
    when: Option<Text>,
    /// A recurrence rule of RFC 5545 for the days.
    rule: Option<Text>,
    /// So many days after each of them.
    plus_days: Option<i32>,
    /// Time of day.
    at: Option<Clock>,
    /// How long.
    r#for: Option<Duration>,
    /// IANA time zone.
    zone: Option<Text>,
    /// The first day.
    starting: Option<Day>,
    /// Days on which it is not.
    except: Option<Vec<Day>>,
    /// When the clock jumps over the time.
    gap: Option<Gap>,
    /// When the clock shows the time twice.
    overlap: Option<Overlap>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, transform = said_or_from)]
struct Freeze {
    /// Why.
    reason: Text,
    /// When it begins, once.
    from: Option<Text>,
    /// When it is over, or the last day of its rule.
    until: Option<Text>,
    /// `day 31 18:00 for 36h, America/New_York`.
    when: Option<Text>,
    /// A recurrence rule of RFC 5545 for the days.
    rule: Option<Text>,
    /// So many days after each of them.
    plus_days: Option<i32>,
    /// Time of day.
    at: Option<Clock>,
    /// How long.
    r#for: Option<Duration>,
    /// IANA time zone.
    zone: Option<Text>,
    /// The first day.
    starting: Option<Day>,
    /// Days on which it is not.
    except: Option<Vec<Day>>,
    /// When the clock jumps over the time.
    gap: Option<Gap>,
    /// When the clock shows the time twice.
    overlap: Option<Overlap>,
}

fn said(schema: &mut schemars::Schema) {
    let each: Vec<_> = ["when", "rule"].iter().map(|key| serde_json::json!({"required": [key]})).collect();
    schema.insert("anyOf".into(), each.into());
}

fn said_or_from(schema: &mut schemars::Schema) {
    let each: Vec<_> = ["when", "rule", "from"].iter().map(|key| serde_json::json!({"required": [key]})).collect();
    schema.insert("anyOf".into(), each.into());
}

#[derive(JsonSchema)]
pub(super) struct Day(#[schemars(regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))] String);

#[derive(JsonSchema)]
pub(super) struct Clock(#[schemars(regex(pattern = r"^[0-2][0-9]:[0-5][0-9](:[0-5][0-9])?$"))] String);

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Tier {
    /// The regular window.
    Routine,
    /// A fault is mended.
    Corrective,
    /// It cannot wait.
    Emergency,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
enum OnHoliday {
    /// It opens.
    Keep,
    /// It does not.
    Skip,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Gap {
    /// As much later as the clock jumps.
    Later,
    /// Not on that day.
    Skip,
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
pub(super) enum Overlap {
    /// Before the clock is set back.
    First,
    /// After.
    Second,
}
