//! No change without a way back, unless somebody says why.

use runbook_lang::{Code, Diagnostic};
use runbook_model::plan::Strategy;

use super::Builder;
use super::phase::Made;

impl Builder<'_> {
    /// Reports the steps of `execute` that neither a snapshot nor an `undo` takes back and that do not say that they
    /// are irreversible. What the strategy does not use does not count.
    pub(super) fn way_back(&mut self, snapshot: &[Made], execute: &[Made]) {
        let rollback = &self.request.runbook.rollback;
        if self.frame.irreversible.is_some() {
            return;
        }
        let (undo_counts, restore_counts) = match rollback.strategy {
            Strategy::Undo => (true, false),
            Strategy::Restore => (false, true),
            Strategy::UndoThenRestore => (true, true),
            Strategy::Steps if !rollback.steps.is_empty() => return,
            Strategy::Steps => (false, false),
        };
        if restore_counts && snapshot.iter().any(|made| made.snapshot.is_some()) {
            return;
        }
        for made in execute {
            if made.harmless || made.step.irreversible.is_some() || (undo_counts && !made.undo.is_empty()) {
                continue;
            }
            // The items of one `each` are written in one place, and reported once.
            let written = self.problems.iter().any(|p| p.code == Code::NoWayBack && p.span == made.span);
            if written {
                continue;
            }
            let help = match rollback.strategy {
                Strategy::Undo => "give it an `undo`, or say `irreversible: \"why\"`",
                Strategy::Restore => "take a snapshot in `snapshot`, or say `irreversible: \"why\"`",
                Strategy::UndoThenRestore => {
                    "give it an `undo`, take a snapshot in `snapshot`, or say `irreversible: \"why\"`"
                }
                Strategy::Steps => "write the `steps` of `rollback`, or say `irreversible: \"why\"`",
            };
            let message = format!("nothing can take `{}` back", made.step.id);
            self.report(Diagnostic::error(Code::NoWayBack, &made.span, message).help(help));
        }
    }
}
