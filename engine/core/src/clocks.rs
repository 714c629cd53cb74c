//! Hosts whose clocks are off too far, in a run that is to be provable.

use crate::Run;
use crate::layout::HostNo;

impl Run {
    /// Why the host's change may not be begun for its clock's sake, as it was measured when its session was opened; `None`
    /// when it may. What nobody has measured may be anything.
    pub(crate) fn clock_off(&self, host: HostNo) -> Option<String> {
        let most = self.header.clock_max_offset_ms?;
        let Some(offset) = self.hosts[host].facts.as_ref().and_then(|facts| facts.clock_offset_ms) else {
            return Some(format!(
                "not begun: nobody knows how far its clock is off, and at most {most} ms are allowed"
            ));
        };
        (offset.unsigned_abs() > most)
            .then(|| format!("not begun: its clock is {offset:+} ms off, and at most {most} ms are allowed"))
    }
}
