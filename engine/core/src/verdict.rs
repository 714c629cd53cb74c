//! How a host ends: a function of what happened on it.

use runbook_model::plan::{Phase, RollbackVerify};
use runbook_model::{AttemptOutcome, HostOutcome};

use crate::Run;
use crate::layout::HostNo;
use crate::state::Stage;

impl Run {
    /// The host's outcome and the reason for people.
    pub(crate) fn verdict(&self, host: HostNo) -> (HostOutcome, String) {
        let (outcome, reason) = self.verdict_of_change(host);
        let state = &self.hosts[host];
        if self.blemished(host)
            && outcome.worse(HostOutcome::Failed) == HostOutcome::Failed
            && outcome != HostOutcome::Failed
        {
            let blemish = state.blemish.as_deref().unwrap_or("a step that was gone past failed");
            let reason = if reason.is_empty() { blemish.to_owned() } else { format!("{reason}; and {blemish}") };
            return (HostOutcome::Failed, reason);
        }
        (outcome, reason)
    }

    fn verdict_of_change(&self, host: HostNo) -> (HostOutcome, String) {
        let state = &self.hosts[host];
        let why = || state.why.clone().unwrap_or_default();
        if let Some(ok) = state.rollback {
            return match (ok, state.cancelled) {
                (true, true) => (HostOutcome::Cancelled, "the run was cancelled; the host was taken back".into()),
                (true, false) => (HostOutcome::RolledBack, why()),
                (false, _) if self.in_doubt(host) => (HostOutcome::Unknown, self.why_stuck(host)),
                (false, _) => (HostOutcome::Stuck, self.why_stuck(host)),
            };
        }
        if state.stage == Stage::Connecting {
            return (HostOutcome::Cancelled, "the run was cancelled before anything began here".into());
        }
        if state.taking_back {
            // Its session could not be opened: it is still as it was, and was to be taken back.
            return (HostOutcome::Stuck, why());
        }
        let Some(phase) = state.failed_in else {
            return (HostOutcome::Succeeded, String::new());
        };
        if !self.changed(host) {
            return if state.cancelled {
                (HostOutcome::Cancelled, "the run was cancelled before anything was changed here".into())
            } else {
                (HostOutcome::Blocked, why())
            };
        }
        let why = match state.cancelled {
            true => "the run was cancelled, and what was done here cannot be taken back".to_owned(),
            false => format!("halted in {phase}: {}", why()),
        };
        (if self.in_doubt(host) { HostOutcome::Unknown } else { HostOutcome::Failed }, why)
    }

    fn why_stuck(&self, host: HostNo) -> String {
        let unverified = || match self.layout.plan.rollback.verify {
            RollbackVerify::None => {
                "it was taken back, and nothing verified that: the plan says `verify: none`".to_owned()
            }
            _ => "the rollback did not end well".to_owned(),
        };
        self.hosts[host].why_stuck.clone().unwrap_or_else(unverified)
    }

    /// A change whose outcome nobody knows, and that no verified rollback has made irrelevant.
    fn in_doubt(&self, host: HostNo) -> bool {
        self.hosts[host].cells.iter().enumerate().any(|(step, cell)| {
            let what = self.layout.step(step);
            cell.outcome() == Some(AttemptOutcome::Unknown)
                && !cell.resolved
                && !what.read_only
                && matches!(what.phase, Phase::Execute | Phase::Rollback)
        })
    }
}
