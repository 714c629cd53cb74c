//! How the cells of a phase stand, counted as they change.

use runbook_model::AttemptOutcome;
use runbook_model::plan::OnFailure;

use crate::layout::{Layout, StepNo};
use crate::state::{CellState, Count};

impl Layout {
    /// The cell has ended in a way that ends its phase.
    pub(crate) fn failed(&self, step: StepNo, cell: &CellState) -> bool {
        cell.outcome().is_some() && !cell.good() && !self.goes_on(step, cell)
    }

    /// The cell failed, and its `on_failure` says to go on. What is unknown is not gone past.
    pub(crate) fn goes_on(&self, step: StepNo, cell: &CellState) -> bool {
        self.step(step).on_failure == OnFailure::Continue && cell.outcome() != Some(AttemptOutcome::Unknown)
    }

    /// Counts a cell in, or out.
    pub(crate) fn count(&self, step: StepNo, cell: &CellState, counts: &mut [Count; 6], counts_in: bool) {
        let Some(phase) = self.counted_in(step) else { return };
        let count = &mut counts[phase as usize];
        let adjust = |number: &mut u32| if counts_in { *number += 1 } else { *number -= 1 };
        if cell.outcome().is_none() {
            adjust(&mut count.open);
        }
        if cell.busy() {
            adjust(&mut count.busy);
        }
        if self.failed(step, cell) {
            adjust(&mut count.failed);
        }
    }

    /// Counts all of them.
    pub(crate) fn counts(&self, cells: &[CellState]) -> [Count; 6] {
        let mut counts = [Count::default(); 6];
        for (step, cell) in cells.iter().enumerate() {
            self.count(step, cell, &mut counts, true);
        }
        counts
    }
}
