//! When work may be done: what `windows.yaml` says, as data. What it means for a moment is computed by
//! `runbook_policy::calendar`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::{Date, DateTime, Time};
use serde::{Deserialize, Serialize};

use crate::plan::Tier;

/// All windows, and all that closes them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// By name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub windows: BTreeMap<String, Window>,
    /// When nothing begins on some hosts although a window is open; by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub blackouts: BTreeMap<String, Blackout>,
    /// When nothing begins anywhere, whoever asks; by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub freezes: BTreeMap<String, Freeze>,
    /// Days that windows with [`Window::holidays`] `skip` leave out.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub holidays: BTreeSet<Date>,
}

/// When work on some hosts may be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The hosts that it is for, as a selection; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// The tiers that it is for.
    pub tiers: Vec<Tier>,
    /// When it is open.
    pub times: Times,
    /// What it does on a holiday.
    pub holidays: OnHoliday,
}

/// What a window does that would open on a holiday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHoliday {
    /// It opens.
    #[default]
    Keep,
    /// It does not.
    Skip,
}

/// Times that come again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Times {
    /// The days: a recurrence rule of RFC 5545 with `FREQ` of a day or more, without times.
    pub rule: String,
    /// So many days after each of them, or before.
    #[serde(default)]
    pub plus_days: i32,
    /// By the clock of `zone`.
    pub at: Time,
    /// Elapsed time, in milliseconds: four hours are four hours also in a night in which the clock is changed.
    pub lasts_ms: u64,
    /// IANA name.
    pub zone: String,
    /// When the clock jumps over `at` that day.
    #[serde(default)]
    pub gap: Gap,
    /// When the clock shows `at` twice that day.
    #[serde(default)]
    pub overlap: Overlap,
    /// From when on the rule counts (`COUNT`, `INTERVAL`), and the first day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting: Option<Date>,
    /// The last day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Date>,
    /// Days on which it does not open (after `plus_days`).
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub except: BTreeSet<Date>,
}

/// What happens to a time that does not exist on a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// It is as much later as the clock jumps: 02:30 is 03:30.
    #[default]
    Later,
    /// It is left out on that day.
    Skip,
}

/// Which of two equal times of a day is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// The one before the clock is set back.
    #[default]
    First,
    /// The one after.
    Second,
}

/// When nothing begins on some hosts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Blackout {
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The hosts, as a selection; all without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<String>,
    /// When.
    pub when: When,
}

/// When nothing begins anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Why, for people.
    pub reason: String,
    /// When.
    pub when: When,
}

/// Once, or again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// From one moment to another by the clock of a zone. A `from` that does not exist is as much earlier as the clock
    /// jumps, an `until` as much later; of two equal ones the first begins it and the second ends it: so nothing is
    /// left open by a change of the clock.
    Between {
        /// The first moment.
        from: DateTime,
        /// The moment at which it is over.
        until: DateTime,
        /// IANA name.
        zone: String,
    },
    /// Again and again.
    Times(Times),
}
