//! Time that a test owns: the clock of a paused tokio runtime.

use runbook_ports::Clock;

/// Where virtual time begins, in Unix milliseconds: 2026-11-22T09:30:00Z.
pub const BEGIN_MS: u64 = 1_795_339_800_000;

/// A clock that goes as tokio's does. With `#[tokio::test(start_paused = true)]` an hour of waiting takes no time.
#[derive(Debug, Clone, Copy)]
pub struct VirtualClock {
    started: tokio::time::Instant,
}

impl VirtualClock {
    /// A clock that stands at [`BEGIN_MS`] now. To be called inside the runtime.
    pub fn new() -> Self {
        Self { started: tokio::time::Instant::now() }
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for VirtualClock {
    fn now_ms(&self) -> u64 {
        BEGIN_MS + self.mono_ms()
    }

    fn mono_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
