//! Hosts that are not through when their window ends, of a runbook with `window: {at_end: rollback}`.
//!
//! | a host in | at the last moment from which the rollback's budget fits before the end |
//! | --- | --- |
//! | connecting, ready, prechecks, snapshot | is blocked: nothing was changed |
//! | execute, verify | what runs is ended, and what was changed is taken back |
//! | the same, and something irreversible has begun | goes on to its end: half of it would be worse |
//! | held, rollback, finally | goes on: its own change is through, or being taken back |
//!
//! Which end is meant: that of the time in which the host was begun (or tried again by a resume), as the permit that is in
//! force now has it. So a controller that takes a run up in the next window takes back what was left under way in the one
//! before, a freeze that is declared meanwhile counts, and a window that is made longer counts too. Where the permit does
//! not have the moment of its beginning (it was moved, or set aside), the time that is open now counts; with none, the end
//! has come.

use runbook_model::Event;
use runbook_model::plan::{AtEnd, Phase};

use crate::Run;
use crate::layout::HostNo;
use crate::permit::{closing, in_words, windows_of};
use crate::state::{CellStage, Stage};

impl Run {
    /// Whether the end of a window cuts hosts off.
    pub(crate) fn cuts_off(&self) -> bool {
        self.layout.plan.window.at_end == AtEnd::Rollback && !self.taking_back && !self.header.check_only
    }

    /// From when on the host is to be cut off; `None`: it is not.
    pub(crate) fn cut_off_ms(&self, host: HostNo) -> Option<u64> {
        let ends_ms = self.ends_ms(host)?;
        Some(self.permit.of_inputs(ends_ms.saturating_sub(self.layout.plan.rollback.budget_ms)))
    }

    /// When the time of a host that may be cut off ends; 0 when it has ended, and nobody can say when.
    fn ends_ms(&self, host: HostNo) -> Option<u64> {
        let state = &self.hosts[host];
        if !self.cuts_off() || self.cancel || state.cut || !self.may_be_cut_off(host) {
            return None;
        }
        let begun_ms = state.begun_ms?;
        let stretches = &self.permit.class(host)?.stretches;
        let around = |moment_ms| stretches.iter().find(|open| open.contains(moment_ms));
        Some(around(begun_ms).or_else(|| around(self.wall_ms())).map_or(0, |open| open.end_ms))
    }

    fn may_be_cut_off(&self, host: HostNo) -> bool {
        match self.hosts[host].stage {
            Stage::Connecting | Stage::Ready | Stage::Phase(Phase::Prechecks | Phase::Snapshot) => true,
            Stage::Phase(Phase::Execute | Phase::Verify) => !self.past_return(host),
            _ => false,
        }
    }

    /// Something that cannot be taken back has begun, or is about to be known to have.
    fn past_return(&self, host: HostNo) -> bool {
        self.layout.phase(Phase::Execute).iter().any(|&step| {
            let (cell, what) = (&self.hosts[host].cells[step], self.layout.step(step));
            let under_way = matches!(cell.stage, CellStage::Attempting | CellStage::Lost { not_begun: false, .. });
            let irreversible = what.irreversible.is_some() || self.layout.plan.irreversible.is_some();
            irreversible && !what.read_only && (cell.effect || under_way)
        })
    }

    /// Cuts the host off when it is time. True when something was decided.
    pub(crate) fn cut_off_when_due(&mut self, host: HostNo) -> bool {
        let Some(ends_ms) = self.ends_ms(host) else { return false };
        if self.cut_off_ms(host).is_none_or(|at_ms| self.now_ms < at_ms) {
            return false;
        }
        let stage = self.hosts[host].stage;
        let windows = self.permit.class(host).map(|class| class.windows.clone()).unwrap_or_default();
        let reason = self.why_cut_off(host, ends_ms);
        let ends_ms = if ends_ms == 0 { self.wall_ms() } else { ends_ms };
        let name = self.layout.hosts[host].clone();
        self.emit(Event::HostCutOff { host: name.clone(), windows, ends_ms, reason: reason.clone() });
        if matches!(stage, Stage::Connecting | Stage::Ready) {
            self.emit(Event::HostEnded { host: name, outcome: runbook_model::HostOutcome::Blocked, reason });
        }
        true
    }

    fn why_cut_off(&self, host: HostNo, ends_ms: u64) -> String {
        let Some(class) = self.permit.class(host) else { return String::new() };
        let closing = closing(class, if ends_ms == 0 { self.wall_ms() } else { ends_ms });
        let windows = windows_of(class);
        let Some(left) = ends_ms.checked_sub(self.wall_ms()).filter(|left| *left > 0) else {
            return match closing {
                Some(what) => format!("its time is over: {what}"),
                None => format!("its time is over: it was begun in {windows}, and that has ended"),
            };
        };
        let left = in_words(left);
        match closing {
            Some(what) => format!("it was cut off {left} before its time ends, so that the way back fits: {what}"),
            None => format!("it was cut off {left} before the end of {windows}, so that the way back fits"),
        }
    }
}
