//! What a controller that died may have left on hosts: the ends of those attempts are on record, and nobody knows whether
//! their claims were removed. Folded from the log by the controller that takes the run up; removing twice is harmless.

use std::collections::BTreeMap;

use runbook_model::event::AttemptReport;
use runbook_model::{AttemptId, Event, HostName, HostOutcome};

/// A controller removes what is on a host as soon as the host has ended. One that ended so long before the last record was
/// seen to, or could not be reached: it is not connected to again only for this.
const ENDED_MS: u64 = 60_000;

/// See the module.
#[derive(Default)]
pub(crate) struct Leftovers {
    by_host: BTreeMap<HostName, BTreeMap<AttemptId, AttemptReport>>,
    ended: BTreeMap<HostName, (u64, HostOutcome)>,
}

/// What one host may still have.
pub(crate) struct HostLeft {
    pub(crate) host: HostName,
    pub(crate) attempts: Vec<(AttemptId, AttemptReport)>,
    /// The host's outcome, when it has one already.
    pub(crate) ended: Option<HostOutcome>,
}

impl Leftovers {
    /// Folds an event.
    pub(crate) fn observe(&mut self, event: &Event, time_ms: u64) {
        match event {
            Event::AttemptEnded { attempt, report, .. } => {
                let of_host = self.by_host.entry(attempt.host.clone()).or_default();
                of_host.insert(attempt.clone(), (**report).clone());
            }
            Event::HostEnded { host, outcome, .. } => {
                self.ended.insert(host.clone(), (time_ms, *outcome));
                self.forget(time_ms);
            }
            Event::HostReopened { host } => {
                self.ended.remove(host);
            }
            _ => {}
        }
    }

    /// Memory does not grow with hosts that have long ended.
    fn forget(&mut self, now_ms: u64) {
        let by_host = &mut self.by_host;
        self.ended.retain(|host, (then, _)| {
            let recent = now_ms.saturating_sub(*then) <= ENDED_MS;
            if !recent {
                by_host.remove(host);
            }
            recent
        });
    }

    /// All of it, as things stood at the last record.
    pub(crate) fn all(self) -> impl Iterator<Item = HostLeft> {
        let ended = self.ended;
        self.by_host.into_iter().map(move |(host, attempts)| HostLeft {
            ended: ended.get(&host).map(|(_, outcome)| *outcome),
            attempts: attempts.into_iter().collect(),
            host,
        })
    }
}
