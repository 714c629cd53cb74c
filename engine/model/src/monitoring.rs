//! What a run has muted in monitoring systems, as its events tell it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::Event;

/// What is done to a monitoring system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MonitoringAct {
    /// Before the first host is begun.
    Mute,
    /// While the run goes on.
    Lengthen,
    /// When the run has ended or is left.
    Unmute,
}

impl MonitoringAct {
    /// As in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mute => "mute",
            Self::Lengthen => "lengthen",
            Self::Unmute => "unmute",
        }
    }
}

/// What a run has done to the monitoring systems, by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mutes {
    /// Each system that something is on record of.
    pub systems: BTreeMap<String, Muted>,
}

/// What a run has done to one system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Muted {
    /// Its kind.
    pub kind: String,
    /// Where it is.
    pub site: String,
    /// What is in force for the run, or may be.
    pub ids: Vec<String>,
    /// So many hosts were muted, last.
    pub hosts: u64,
    /// Something of the run is muted, or may be; at most until then (Unix ms). `None`: nothing is, and that is proved, or
    /// nothing ever was.
    pub until_ms: Option<u64>,
    /// It was seen to be over then (Unix ms), last.
    pub over_ms: Option<u64>,
    /// What somebody else ended while the run went on.
    pub ended_by_others: Vec<String>,
    /// What failed last, and why; `None` once something succeeded after it.
    pub failed: Option<(MonitoringAct, String)>,
}

impl Mutes {
    /// Folds an event.
    pub fn observe(&mut self, event: &Event) {
        match event {
            Event::MonitoringMuted { system, kind, site, ids, hosts, until_ms, ended_by_others, .. } => {
                let muted = self.systems.entry(system.clone()).or_default();
                (muted.kind, muted.site) = (kind.clone(), site.clone());
                (muted.ids, muted.hosts) = (ids.clone(), *hosts);
                muted.until_ms = (!ids.is_empty()).then_some(*until_ms);
                muted.ended_by_others.extend(ended_by_others.iter().cloned());
                muted.failed = None;
            }
            Event::MonitoringUnmuted { system, at_ms, .. } => {
                let muted = self.systems.entry(system.clone()).or_default();
                muted.ids.clear();
                (muted.until_ms, muted.over_ms, muted.failed) = (None, Some(*at_ms), None);
            }
            Event::MonitoringFailed { system, kind, site, act, why, until_ms } => {
                let muted = self.systems.entry(system.clone()).or_default();
                (muted.kind, muted.site) = (kind.clone(), site.clone());
                muted.until_ms = muted.until_ms.max(*until_ms);
                muted.failed = Some((*act, why.clone()));
            }
            _ => {}
        }
    }

    /// Systems in which something of the run is muted, or may be, with the time until which at most (Unix ms).
    pub fn open(&self) -> impl Iterator<Item = (&str, &Muted, u64)> {
        self.systems.iter().filter_map(|(name, muted)| Some((name.as_str(), muted, muted.until_ms?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sha256;

    fn muted(until_ms: u64) -> Event {
        Event::MonitoringMuted {
            system: "prod".into(),
            kind: "alertmanager".into(),
            site: "https://am.example".into(),
            ids: vec!["a".into()],
            hosts: 2,
            exchange: Sha256::of(b""),
            until_ms,
            lengthened: false,
            ended_by_others: Vec::new(),
        }
    }

    fn failed(act: MonitoringAct, until_ms: Option<u64>) -> Event {
        let (system, why) = ("prod".into(), "nobody answers".into());
        Event::MonitoringFailed { system, kind: String::new(), site: String::new(), act, why, until_ms }
    }

    fn open(mutes: &Mutes) -> Vec<u64> {
        mutes.open().map(|(.., until)| until).collect()
    }

    #[test]
    fn what_is_not_proved_to_be_over_is_open() {
        let mut mutes = Mutes::default();
        mutes.observe(&failed(MonitoringAct::Mute, None));
        assert!(open(&mutes).is_empty(), "it could not be reached at all");
        mutes.observe(&muted(100));
        mutes.observe(&muted(200));
        assert_eq!(open(&mutes), [200]);
        mutes.observe(&failed(MonitoringAct::Unmute, Some(200)));
        assert_eq!(open(&mutes), [200]);
        mutes.observe(&Event::MonitoringUnmuted {
            system: "prod".into(),
            ids: vec!["a".into()],
            proof: Sha256::of(b""),
            at_ms: 150,
        });
        assert!(open(&mutes).is_empty());
        assert_eq!(mutes.systems["prod"].over_ms, Some(150));
        assert_eq!(mutes.systems["prod"].failed, None);
    }
}
