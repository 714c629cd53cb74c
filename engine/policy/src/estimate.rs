//! How long a host is expected to take.

use std::collections::BTreeMap;

use runbook_model::StepId;
use runbook_model::plan::{Phase, Plan};

use crate::authorize::Estimate;

/// So many earlier runs must have ended well before what they took is believed.
pub const RUNS_MIN: usize = 5;

/// From what hosts took in earlier runs of the same runbook that ended well (milliseconds each), else from the plan's own
/// limits; with the rollback's budget, which is kept free for the way back.
pub fn of(plan: &Plan, earlier_ms: &[u64]) -> Estimate {
    let budget = plan.rollback.budget_ms;
    let (work, source) = if earlier_ms.len() >= RUNS_MIN {
        (percentile_90(earlier_ms), format!("what 9 of 10 of {} earlier hosts took", earlier_ms.len()))
    } else {
        (limits(plan), "the limits of its steps, since there are too few earlier runs".to_owned())
    };
    Estimate {
        needs_ms: work.saturating_add(budget),
        source: format!("{source}, and {} min kept for the way back", budget.div_ceil(60_000)),
    }
}

/// Nine of ten took no longer.
fn percentile_90(taken_ms: &[u64]) -> u64 {
    let mut sorted = taken_ms.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * 9).div_ceil(10);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// The longest that one attempt of each step may take, one phase after the other; inside of a phase along the chain of
/// `needs` that takes longest. The phase `rollback` has a budget of its own.
fn limits(plan: &Plan) -> u64 {
    let phases = [Phase::Prechecks, Phase::Snapshot, Phase::Execute, Phase::Verify, Phase::Finally];
    let longest = |phase: Phase| {
        let mut ends: BTreeMap<&StepId, u64> = BTreeMap::new();
        // A plan lists steps after those that they need.
        for step in plan.steps.iter().filter(|step| step.phase == phase) {
            let begins = step.needs.iter().filter_map(|need| ends.get(need)).max().copied().unwrap_or(0);
            ends.insert(&step.id, begins.saturating_add(step.timeout_ms));
        }
        ends.into_values().max().unwrap_or(0)
    };
    phases.into_iter().map(longest).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nine_of_ten_took_no_longer() {
        assert_eq!(percentile_90(&[10, 20, 30, 40, 50, 60, 70, 80, 90, 100]), 90);
        assert_eq!(percentile_90(&[7]), 7);
        assert_eq!(percentile_90(&[3, 1, 2, 5, 4]), 5);
        assert_eq!(percentile_90(&[]), 0);
    }
}
