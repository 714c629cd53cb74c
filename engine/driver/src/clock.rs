//! The machine's clocks. The only place in the engine that reads them.

use std::sync::Arc;

use runbook_ports::Clock;

/// The system's clock for records, the monotonic one for durations.
#[derive(Debug, Clone)]
pub struct SystemClock {
    started: std::time::Instant,
}

impl SystemClock {
    /// A clock whose monotonic time counts from now.
    #[allow(clippy::disallowed_methods, reason = "this is the Clock implementation")]
    pub fn new() -> Self {
        Self { started: std::time::Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the Clock implementation")]
    fn now_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn mono_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The time by which a run decides: what the clock said when the controller began, and what has really gone by since. A
/// clock that somebody steps meanwhile neither ends a wait nor prolongs it, and one that was set back between two
/// controllers of a run does not either. Records carry the clock's own time.
pub(crate) struct SteadyClock {
    clock: Arc<dyn Clock>,
    began_ms: u64,
    began_mono_ms: u64,
}

impl SteadyClock {
    /// Goes on from `decided_ms`, the latest time by which an earlier controller decided, when the clock says less.
    pub(crate) fn new(clock: Arc<dyn Clock>, decided_ms: u64) -> Self {
        Self { began_ms: clock.now_ms().max(decided_ms), began_mono_ms: clock.mono_ms(), clock }
    }
}

impl Clock for SteadyClock {
    fn now_ms(&self) -> u64 {
        self.began_ms.saturating_add(self.clock.mono_ms().saturating_sub(self.began_mono_ms))
    }

    fn mono_ms(&self) -> u64 {
        self.clock.mono_ms()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Stepped(Mutex<(u64, u64)>);

    impl Clock for Stepped {
        fn now_ms(&self) -> u64 {
            self.0.lock().unwrap().0
        }

        fn mono_ms(&self) -> u64 {
            self.0.lock().unwrap().1
        }
    }

    #[test]
    fn a_stepped_clock_does_not_change_how_much_time_goes_by() {
        let clock = Arc::new(Stepped(Mutex::new((7_200_000, 10))));
        let steady = SteadyClock::new(Arc::clone(&clock) as _, 0);
        *clock.0.lock().unwrap() = (3_600_000, 110);
        assert_eq!((steady.now_ms(), steady.mono_ms()), (7_200_100, 110));
        *clock.0.lock().unwrap() = (99_000_000, 210);
        assert_eq!(steady.now_ms(), 7_200_200);
        // The next controller finds a clock that was set back by an hour.
        *clock.0.lock().unwrap() = (3_600_000, 310);
        let next = SteadyClock::new(Arc::clone(&clock) as _, 7_200_200);
        *clock.0.lock().unwrap() = (3_600_500, 810);
        assert_eq!(next.now_ms(), 7_200_700);
    }
}
