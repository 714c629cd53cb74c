//! What was muted in monitoring systems, told to people.

use runbook_model::Event;
use runbook_model::monitoring::MonitoringAct;
use runbook_model::units::rfc3339_ms;
use schemars::JsonSchema;
use serde::Serialize;

use crate::text::{count, when};
use crate::view::{RunState, RunView};

/// In `run/v1`: what the run did to a monitoring system.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MonitoringDocument {
    /// Its name in the settings.
    pub system: String,
    /// `alertmanager`.
    pub kind: String,
    /// Where it is.
    pub site: String,
    /// Hosts whose alerts were muted, last.
    pub hosts: u64,
    /// Something of the run is muted, or may be: until then at most. Null: nothing is, and that is proved, or nothing ever
    /// was.
    pub muted_until: Option<String>,
    /// When it was seen to be over, last.
    pub unmuted_at: Option<String>,
    /// What is in force for the run, or may be, as the system calls it.
    pub ids: Vec<String>,
    /// What somebody else ended while the run went on.
    pub ended_by_others: Vec<String>,
    /// What failed last, `mute`, `lengthen` or `unmute`; null once something succeeded after it.
    pub failed: Option<&'static str>,
    /// Why.
    pub failure: Option<String>,
}

/// One for each system.
pub(crate) fn documents(view: &RunView) -> Vec<MonitoringDocument> {
    let document = |(system, muted): (&String, &runbook_model::monitoring::Muted)| MonitoringDocument {
        system: system.clone(),
        kind: muted.kind.clone(),
        site: muted.site.clone(),
        hosts: muted.hosts,
        muted_until: muted.until_ms.map(rfc3339_ms),
        unmuted_at: muted.over_ms.map(rfc3339_ms),
        ids: muted.ids.clone(),
        ended_by_others: muted.ended_by_others.clone(),
        failed: muted.failed.as_ref().map(|(act, _)| act.name()),
        failure: muted.failed.as_ref().map(|(_, why)| why.clone()),
    };
    view.mutes.systems.iter().map(document).collect()
}

/// The system, what was done to it in a sentence, and whether it is bad; `None` for other events.
pub(crate) fn sentence(event: &Event) -> Option<(&str, String, bool)> {
    Some(match event {
        Event::MonitoringMuted { system, hosts, until_ms, lengthened, ended_by_others, ids, .. } => {
            let hosts = count(usize::try_from(*hosts).unwrap_or(usize::MAX), "host");
            let others = match ended_by_others.len() {
                0 => String::new(),
                n => format!("; somebody else ended {}, and that holds", count(n, "silence")),
            };
            let what = match (ids.is_empty(), *lengthened) {
                (true, _) => format!("nothing of the run is muted in {system}"),
                (false, false) => {
                    format!("monitoring {system} was muted for {hosts} until {} at most", when(*until_ms))
                }
                (false, true) => format!("monitoring {system} was muted for longer, until {} at most", when(*until_ms)),
            };
            (system.as_str(), format!("{what}{others}"), !ended_by_others.is_empty())
        }
        Event::MonitoringUnmuted { system, .. } => {
            (system.as_str(), format!("monitoring {system} was unmuted, which was proved by asking it"), false)
        }
        Event::MonitoringFailed { system, act, why, until_ms, .. } => {
            let may = match until_ms {
                Some(until) => format!("; it may be muted until {} at most", when(*until)),
                None => String::new(),
            };
            let what = match act {
                MonitoringAct::Mute => "was not muted",
                MonitoringAct::Lengthen => "could not be kept muted for longer",
                MonitoringAct::Unmute => "is not known to be unmuted",
            };
            (system.as_str(), format!("monitoring {system} {what}: {why}{may}"), true)
        }
        _ => return None,
    })
}

/// Where something may still be muted of a run that nobody works on, and until when. `left`: its program has died, or has
/// stopped without an end.
pub fn still_muted(view: &RunView, left: bool) -> Vec<String> {
    if view.state == RunState::Running && !left {
        return Vec::new();
    }
    let line = |(system, muted, until_ms): (&str, &runbook_model::monitoring::Muted, u64)| {
        format!("monitoring may still be muted until {} on {system} ({})", when(until_ms), muted.site)
    };
    view.mutes.open().map(line).collect()
}
