//! What is remembered of each host and each cell.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::command::Subject;
use runbook_model::host::Facts;
use runbook_model::plan::Phase;
use runbook_model::{AttemptOutcome, HostOutcome, Sha256};

use crate::layout::{HostNo, StepNo};

/// Where a host stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Not begun.
    Waiting,
    /// A session is being opened.
    Connecting,
    /// Inside a phase.
    Phase(Phase),
    /// A phase has ended (or the session was opened: `Between(None)`), the next has not begun.
    Between(Option<Phase>),
    /// Snapshots of a host that changed nothing are being removed.
    Releasing,
    /// Held after its prechecks, until the batch's other hosts have done theirs and the budget allows its change.
    Ready,
    /// Held after its verification, until its peers are through (rollback scope).
    Held,
    /// Ended.
    Ended(HostOutcome),
}

impl Stage {
    /// Whether the host takes one of the `parallel` places.
    pub(crate) fn active(self) -> bool {
        !matches!(self, Stage::Waiting | Stage::Ready | Stage::Held | Stage::Ended(_))
    }
}

/// Where a cell stands. See the table in the crate's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CellStage {
    /// Not begun, or to be begun again after a reopening.
    Waiting,
    /// Prepared; `unless` is to be run, if there is one.
    Prepared,
    /// `unless` said no; `changes` are to be measured, if there are any.
    Checked,
    /// Ready for its first attempt.
    Measured,
    /// An attempt has been started.
    Attempting,
    /// The attempt's host, connection or controller was lost; it is asked after until then.
    Lost { deadline_ms: u64, not_begun: bool },
    /// Waits before its next attempt.
    Backoff { at_ms: u64 },
    /// The wait is over.
    Due,
    /// No further attempt; `changes` are to be measured once more.
    Attempted(AttemptOutcome),
    /// Has its outcome.
    Ended(AttemptOutcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CellState {
    pub(crate) stage: CellStage,
    /// Attempts started.
    pub(crate) attempts: u32,
    /// Attempts started before the last reopening: they do not count against `retry`.
    pub(crate) earlier: u32,
    /// Attempts since then that do not count either: lost sight of and proved never to have begun, or of a read-only step and
    /// left by a controller that is gone (each needs another controller, so there is no end of them without a person).
    pub(crate) void: u32,
    /// The controller that began the last attempt is gone, and the step is read-only.
    pub(crate) left: bool,
    /// Outcome of the last attempt that ended; one that did not begin leaves an unknown one before it as it is.
    pub(crate) last: Option<AttemptOutcome>,
    /// An attempt may have had an effect: any that was started and not proved not to have begun.
    pub(crate) effect: bool,
    /// Settled by an operator.
    pub(crate) resolved: bool,
}

impl CellState {
    pub(crate) const NEW: Self = Self {
        stage: CellStage::Waiting,
        attempts: 0,
        earlier: 0,
        void: 0,
        left: false,
        last: None,
        effect: false,
        resolved: false,
    };

    /// Attempts that count against `retry`.
    pub(crate) fn tries(&self) -> u32 {
        self.attempts - self.earlier - self.void
    }

    pub(crate) fn outcome(&self) -> Option<AttemptOutcome> {
        match self.stage {
            CellStage::Ended(outcome) => Some(outcome),
            _ => None,
        }
    }

    pub(crate) fn good(&self) -> bool {
        matches!(self.outcome(), Some(AttemptOutcome::Succeeded | AttemptOutcome::Skipped))
    }

    /// Begun and not ended.
    pub(crate) fn busy(&self) -> bool {
        !matches!(self.stage, CellStage::Waiting | CellStage::Ended(_))
    }
}

/// Cells of one phase by how they stand, so that no decision looks at all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    /// Without an outcome.
    pub(crate) open: u32,
    /// Begun, and without an outcome.
    pub(crate) busy: u32,
    /// Ended in a way that ends the phase.
    pub(crate) failed: u32,
}

#[derive(Debug, Clone)]
pub(crate) struct HostState {
    pub(crate) stage: Stage,
    /// Changed by `Run::change_cell` alone, which keeps `counts` and `live` in step with it.
    pub(crate) cells: Vec<CellState>,
    /// By phase.
    pub(crate) counts: [Count; 6],
    /// Every cell that may have something outstanding is among these; what has nothing leaves when that is seen.
    pub(crate) live: BTreeSet<StepNo>,
    pub(crate) facts: Option<Facts>,
    /// A session to it may be open: its opening is on record, its close is not. Changed by `Run::set_session` alone.
    pub(crate) session: bool,
    /// Access that the run was given there was not shown to be withdrawn.
    pub(crate) access_left: bool,
    /// References that `take` printed.
    pub(crate) snapshots: BTreeMap<StepNo, String>,
    /// Snapshots that were removed after the run.
    pub(crate) released: BTreeSet<StepNo>,
    /// Manifests measured; `None` when it could not be done.
    pub(crate) measured: BTreeMap<Subject, Option<Sha256>>,
    /// Where a `once` step was really done, when elsewhere.
    pub(crate) done_on: BTreeMap<StepNo, HostNo>,
    /// Why a cell's last attempt did not succeed, until the cell has ended.
    pub(crate) reasons: BTreeMap<StepNo, String>,
    /// The first thing that went wrong, for people.
    pub(crate) why: Option<String>,
    /// The first thing that went wrong while taking it back.
    pub(crate) why_stuck: Option<String>,
    /// The first failure that was gone past (`continue`, `finally`).
    pub(crate) blemish: Option<String>,
    /// The phase that ended badly.
    pub(crate) failed_in: Option<Phase>,
    /// It ended badly because of a cancel.
    pub(crate) cancelled: bool,
    /// When it was begun, where the end of its window cuts it off.
    pub(crate) begun_ms: Option<u64>,
    /// It was cut off: nothing new may begin in the phase that it was in.
    pub(crate) cut: bool,
    /// Nothing had gone wrong when it was.
    pub(crate) cut_first: bool,
    /// `snapshot` or `execute` began.
    pub(crate) entered: bool,
    /// How taking it back ended.
    pub(crate) rollback: Option<bool>,
    /// It is, or was, in its rollback.
    pub(crate) taking_back: bool,
    /// When the rollback's budget ends.
    pub(crate) deadline_ms: Option<u64>,
    /// The host was lost, and until when it is waited for in this phase.
    pub(crate) lost_until_ms: Option<u64>,
    /// The budget is over.
    pub(crate) expired: bool,
    /// Its own steps are through and good; it waits for peers or has gone on to `finally`.
    pub(crate) verified: bool,
}

impl HostState {
    pub(crate) fn new(steps: usize) -> Self {
        Self {
            stage: Stage::Waiting,
            cells: vec![CellState::NEW; steps],
            counts: [Count::default(); 6],
            live: BTreeSet::new(),
            facts: None,
            session: false,
            access_left: false,
            snapshots: BTreeMap::new(),
            released: BTreeSet::new(),
            measured: BTreeMap::new(),
            done_on: BTreeMap::new(),
            reasons: BTreeMap::new(),
            why: None,
            why_stuck: None,
            blemish: None,
            failed_in: None,
            cancelled: false,
            begun_ms: None,
            cut: false,
            cut_first: false,
            entered: false,
            rollback: None,
            taking_back: false,
            deadline_ms: None,
            lost_until_ms: None,
            expired: false,
            verified: false,
        }
    }
}
