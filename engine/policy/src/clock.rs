//! Whether the clock of the machine that runs things is right enough for what must be provable.

use runbook_model::event::ClockState;

/// Why it is not; `None`: it is. What is not known is not right.
pub fn misfit(clock: &ClockState, max_offset_ms: u64) -> Option<String> {
    let told = match clock.source.as_str() {
        "" => String::new(),
        source => format!(", says {source}"),
    };
    match (clock.synchronised, clock.offset_us) {
        (None, _) => Some("nobody tells whether the clock of this machine is synchronised".to_owned()),
        (Some(false), _) => Some(format!("the clock of this machine is not synchronised{told}")),
        (Some(true), None) => {
            Some(format!("the clock of this machine is synchronised{told}, and how far it is off is not told"))
        }
        (Some(true), Some(offset)) if offset.unsigned_abs().div_ceil(1_000) > max_offset_ms => {
            let ms = offset.unsigned_abs().div_ceil(1_000);
            Some(format!("the clock of this machine is {ms} ms off{told}, and at most {max_offset_ms} ms are allowed"))
        }
        (Some(true), Some(_)) => None,
    }
}
