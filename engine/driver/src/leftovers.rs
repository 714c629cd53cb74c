//! What a controller that died may have left on hosts: attempts whose ends are on record, and nobody knows whether their
//! claims were removed; sessions whose ends are not. Folded from the log by the controller that takes the run up; removing
//! twice is harmless.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::event::AttemptReport;
use runbook_model::plan::{Place, Plan};
use runbook_model::{AttemptId, Event, HostName, HostOutcome, StepId};

use crate::access::GivenBefore;
use crate::history::Before;

/// See the module.
#[derive(Default)]
pub(crate) struct Leftovers {
    by_host: BTreeMap<HostName, BTreeMap<AttemptId, AttemptReport>>,
    ended: BTreeMap<HostName, HostOutcome>,
    sessions: BTreeMap<HostName, Before>,
    access: BTreeMap<HostName, GivenBefore>,
    /// Steps that work on their own host.
    on_host: BTreeSet<StepId>,
}

/// What one host may still have.
pub(crate) struct HostLeft {
    pub(crate) host: HostName,
    pub(crate) attempts: Vec<(AttemptId, AttemptReport)>,
    /// The host's outcome, when it has one already.
    pub(crate) ended: Option<HostOutcome>,
    /// Sessions whose end is not on record.
    pub(crate) sessions: Option<Before>,
    /// Access whose end is not on record, or not shown.
    pub(crate) access: Option<GivenBefore>,
}

impl Leftovers {
    /// Nothing yet.
    pub(crate) fn of(plan: &Plan) -> Self {
        let on_host = plan.steps.iter().filter(|step| step.on == Place::Host).map(|step| step.id.clone());
        Self { on_host: on_host.collect(), ..Self::default() }
    }

    /// Folds an event.
    pub(crate) fn observe(&mut self, event: &Event, time_ms: u64) {
        match event {
            Event::SessionOpened { host, identity, .. } => {
                let sessions = self.sessions.entry(host.clone()).or_default();
                sessions.opened.push((time_ms, identity.process.clone()));
            }
            // Whoever closed it had removed before what was to be removed.
            Event::SessionClosed { host, closed } => {
                self.sessions.remove(host);
                self.by_host.remove(host);
                if closed.access.as_ref().is_none_or(|access| access.left().is_none()) {
                    self.access.remove(host);
                }
            }
            Event::AccessGranted { host, .. } | Event::AccessInstalled { host, .. } => {
                self.access.entry(host.clone()).or_default().observe(event);
            }
            Event::AttemptStarted { attempt, .. } if self.on_host.contains(&attempt.step) => {
                if let Some(sessions) = self.sessions.get_mut(&attempt.host) {
                    sessions.attempts += 1;
                }
            }
            Event::AttemptEnded { attempt, report, .. } => {
                let of_host = self.by_host.entry(attempt.host.clone()).or_default();
                of_host.insert(attempt.clone(), (**report).clone());
            }
            Event::HostEnded { host, outcome, .. } => {
                self.ended.insert(host.clone(), *outcome);
            }
            Event::HostReopened { host, .. } => {
                self.ended.remove(host);
            }
            _ => {}
        }
    }

    /// All of it, as things stood at the last record.
    pub(crate) fn all(mut self) -> impl Iterator<Item = HostLeft> {
        let hosts: BTreeSet<HostName> =
            self.by_host.keys().chain(self.sessions.keys()).chain(self.access.keys()).cloned().collect();
        hosts.into_iter().map(move |host| HostLeft {
            ended: self.ended.get(&host).copied(),
            attempts: self.by_host.remove(&host).unwrap_or_default().into_iter().collect(),
            sessions: self.sessions.remove(&host),
            access: self.access.remove(&host),
            host,
        })
    }
}
