//! Which hosts may be begun now, by what the run's controller is allowed.

use std::collections::BTreeMap;

use runbook_model::permit::{Class, Permit};

use crate::Run;
use crate::layout::{HostNo, Layout};

/// A permit, by host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    classes: Vec<Class>,
    class_of: BTreeMap<HostNo, usize>,
    closed: Option<String>,
    /// So far is the clock by which they go ahead of the time of the inputs.
    ahead_ms: i64,
}

impl Times {
    pub(crate) fn new(permit: &Permit, layout: &Layout, ahead_ms: i64) -> Self {
        let of_class = |(no, class): (usize, &Class)| -> Vec<(HostNo, usize)> {
            class.hosts.iter().filter_map(|host| Some((layout.host_no(host)?, no))).collect()
        };
        Self {
            class_of: permit.classes.iter().enumerate().flat_map(of_class).collect(),
            classes: permit.classes.clone(),
            closed: permit.closed.clone(),
            ahead_ms,
        }
    }

    pub(crate) fn set_ahead(&mut self, ahead_ms: i64) {
        self.ahead_ms = ahead_ms;
    }

    /// Whether any host has times.
    pub(crate) fn has_times(&self) -> bool {
        !self.classes.is_empty()
    }

    /// A moment of the clock by which they go, as a time of inputs.
    pub(crate) fn of_inputs(&self, wall_ms: u64) -> u64 {
        wall_ms.saturating_sub_signed(self.ahead_ms)
    }

    /// The host's times; `None`: it may be begun at any time.
    pub(crate) fn class(&self, host: HostNo) -> Option<&Class> {
        Some(&self.classes[*self.class_of.get(&host)?])
    }
}

/// The windows of a class, in words.
pub(crate) fn windows_of(class: &Class) -> String {
    match class.windows.as_slice() {
        [] => "the time until something closes".to_owned(),
        [window] => format!("window {window}"),
        windows => format!("windows {}", windows.join(", ")),
    }
}

/// What closes the class at that moment.
pub(crate) fn closing(class: &Class, now_ms: u64) -> Option<&str> {
    let closing = class.closings.iter().find(|closing| closing.start_ms <= now_ms && now_ms < closing.end_ms)?;
    Some(&closing.what)
}

impl Run {
    /// What the machine's clock says: windows go by it, whatever the run's own time is.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.now_ms.saturating_add_signed(self.permit.ahead_ms)
    }

    /// Why the host may not be begun at this moment; `None` when it may. A host is begun only when what it is expected to
    /// take, with its way back, fits before the end.
    pub(crate) fn outside(&self, host: HostNo) -> Option<String> {
        if self.header.check_only {
            return None;
        }
        if let Some(why) = &self.permit.closed {
            return Some(format!("not begun: {why}"));
        }
        let class = self.permit.class(host)?;
        let now_ms = self.wall_ms();
        let windows = windows_of(class);
        let Some(open) = class.stretches.iter().find(|open| open.contains(now_ms)) else {
            return Some(match closing(class, now_ms) {
                Some(what) => format!("not begun: {what}"),
                None if class.windows.is_empty() => "not begun: a blackout or a freeze has begun".to_owned(),
                None => format!("not begun: outside of {windows}"),
            });
        };
        let left = open.end_ms - now_ms;
        (class.needs_ms > left).then(|| {
            format!(
                "not begun: {} are left of {windows}, and {} are needed ({})",
                in_words(left),
                in_words(class.needs_ms),
                class.estimate
            )
        })
    }
}

/// Whole minutes, or seconds below one.
pub(crate) fn in_words(ms: u64) -> String {
    if ms < 60_000 { format!("{} s", ms.div_ceil(1_000)) } else { format!("{} min", ms.div_ceil(60_000)) }
}
