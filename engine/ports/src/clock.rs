//! Time, as a port, so that tests own it.

/// Two clocks: one for records, one for durations.
pub trait Clock: Send + Sync {
    /// Unix time in milliseconds. May jump.
    fn now_ms(&self) -> u64;

    /// Milliseconds since some fixed point in this process. Never goes back.
    fn mono_ms(&self) -> u64;
}
