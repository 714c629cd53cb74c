//! Whether a run's record is complete: absence is a failure.

use runbook_model::outcome::AttemptOutcome;
use runbook_model::{HostName, StepId};
use serde::Serialize;

use crate::matrix::rows;
use crate::view::{RunState, RunView};

/// Something that the record does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The host; `None`: the run itself.
    pub host: Option<HostName>,
    /// The step.
    pub step: Option<StepId>,
    /// What is missing, in one sentence.
    pub what: String,
}

/// All that a run's record lacks.
pub fn gaps(view: &RunView) -> Vec<Gap> {
    let mut out = Vec::new();
    let mut gap = |host: Option<&HostName>, step: Option<&StepId>, what: String| {
        out.push(Gap { host: host.cloned(), step: step.cloned(), what });
    };
    if view.header.is_none() {
        gap(None, None, "the run's opening is not on record".into());
    }
    match view.state {
        RunState::Ended => {}
        RunState::Suspended => gap(None, None, "the run waits for an operator: it has not ended".into()),
        RunState::Running => {
            gap(None, None, "the run has no end on record: it goes on, or its program has died".into())
        }
    }
    for (name, host) in &view.hosts {
        if host.started_ms.is_some() && host.outcome.is_none() {
            gap(Some(name), None, "the host was started and has no outcome on record".into());
        }
        if view.state == RunState::Ended && host.has_open_session() {
            gap(Some(name), None, "a session was opened, and its end is not on record".into());
        }
        for row in rows(view, host) {
            let id = &row.step.id;
            match row.outcome {
                Some(AttemptOutcome::Unknown) => {
                    gap(Some(name), Some(id), "nobody knows what became of it".into());
                }
                // A cell that was not reached is accounted for by its host's outcome; without one it is a gap.
                Some(AttemptOutcome::NotStarted) if !row.recorded && host.outcome.is_none() => {
                    gap(Some(name), Some(id), "it has no outcome on record".into());
                }
                _ => {}
            }
            let Some(cell) = row.view else { continue };
            for attempt in &cell.attempts {
                let Some(report) = &attempt.report else {
                    gap(Some(name), Some(id), format!("attempt {} has no end on record", attempt.attempt));
                    continue;
                };
                for (stream, output) in [("stdout", &report.stdout), ("stderr", &report.stderr)] {
                    if let Some(by) = &output.cut_off_by {
                        let what = format!(
                            "{stream} of attempt {} was cut off by {by}: {} bytes came, and the rest never did",
                            attempt.attempt, output.bytes
                        );
                        gap(Some(name), Some(id), what);
                    } else if output.truncated {
                        let what = format!(
                            "{stream} of attempt {} is kept in part ({} bytes in all)",
                            attempt.attempt, output.bytes
                        );
                        gap(Some(name), Some(id), what);
                    }
                }
            }
            if let Some(obstacle) = &cell.unmeasured {
                gap(Some(name), Some(id), format!("its changes could not be measured: {}", obstacle.message));
            }
        }
    }
    out
}
