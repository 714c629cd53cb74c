//! What runs by itself, and when: what `schedule.yaml` says, as data. Which occurrences follow is computed by
//! `runbook_policy::schedule`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::windows::Times;

/// All schedules, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedules {
    /// By name.
    pub schedules: BTreeMap<String, Schedule>,
}

/// A runbook, or a saved plan, that is run again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Shown to people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Path of the runbook, or of the saved plan, relative to the project.
    pub run: String,
    /// Values for the runbook's parameters, as on the command line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Only these of its hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The change ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// When.
    pub when: Occurs,
    /// So long before an occurrence it is told, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notice_before_ms: Option<u64>,
    /// Whether it is in force.
    pub enabled: bool,
}

/// When a schedule occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occurs {
    /// At times of its own. It may be begun late for as long as they last.
    Times(Box<Times>),
    /// At each opening of the window of that name.
    Window {
        /// The window's name.
        window: String,
        /// It may be begun so much later, in milliseconds; `None`: while the window is open.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        late_ms: Option<u64>,
    },
}

/// One time at which a schedule is due. It is run once, or said to have been missed, once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Occurrence {
    /// The schedule's name.
    pub schedule: String,
    /// Unix ms of the moment at which it is due.
    pub at_ms: u64,
}

impl std::fmt::Display for Occurrence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.schedule, crate::units::rfc3339_ms(self.at_ms))
    }
}

impl std::str::FromStr for Occurrence {
    type Err = &'static str;

    /// As [`Display`](std::fmt::Display) writes it: `NAME@TIME`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (schedule, at) = text.split_once('@').ok_or("it is not NAME@TIME")?;
        let at: jiff::Timestamp = at.parse().map_err(|_| "its time is not as in RFC 3339")?;
        let at_ms = u64::try_from(at.as_millisecond()).map_err(|_| "its time is before 1970")?;
        Ok(Self { schedule: schedule.to_owned(), at_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_occurrence_reads_as_it_is_written() {
        let occurrence = Occurrence { schedule: "patch-night".into(), at_ms: 1_796_756_400_123 };
        assert_eq!(occurrence.to_string().parse(), Ok(occurrence));
        for wrong in ["patch-night", "patch-night@noon", "a@1969-01-01T00:00:00Z"] {
            assert!(wrong.parse::<Occurrence>().is_err(), "{wrong}");
        }
    }
}
