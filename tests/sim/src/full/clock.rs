//! A wall clock that people set.

use runbook_ports::Clock;
use runbook_testkit::virtual_clock::VirtualClock;

use crate::full::scenario::{Fault, Scenario};

/// Goes as tokio's clock does, but for the steps.
#[derive(Debug, Clone)]
pub(crate) struct SetClock {
    clock: VirtualClock,
    /// When, and by how much.
    steps: Vec<(u64, i64)>,
}

impl SetClock {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let steps = scenario.faults.iter().filter_map(|fault| match fault {
            Fault::Clock { at_ms, by_ms } => Some((*at_ms, *by_ms)),
            _ => None,
        });
        Self { clock: VirtualClock::new(), steps: steps.collect() }
    }
}

impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        let mono = self.mono_ms();
        let by: i64 = self.steps.iter().filter(|(at, _)| *at <= mono).map(|(_, by)| by).sum();
        self.clock.now_ms().saturating_add_signed(by)
    }

    fn mono_ms(&self) -> u64 {
        self.clock.mono_ms()
    }
}
