//! Which hosts may be begun now, by what the run's controller was allowed.

use std::collections::BTreeMap;

use runbook_model::permit::{Class, Permit};

use crate::Run;
use crate::layout::{HostNo, Layout};

/// A permit, by host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Times {
    classes: Vec<Class>,
    class_of: BTreeMap<HostNo, usize>,
}

impl Times {
    pub(crate) fn new(permit: &Permit, layout: &Layout) -> Self {
        let of_class = |(no, class): (usize, &Class)| -> Vec<(HostNo, usize)> {
            class.hosts.iter().filter_map(|host| Some((layout.host_no(host)?, no))).collect()
        };
        Self {
            class_of: permit.classes.iter().enumerate().flat_map(of_class).collect(),
            classes: permit.classes.clone(),
        }
    }
}

impl Run {
    /// Why the host may not be begun at this moment; `None` when it may. A host is begun only when what it is expected to
    /// take, with its way back, fits before the end.
    pub(crate) fn outside(&self, host: HostNo) -> Option<String> {
        if self.header.check_only {
            return None;
        }
        let class = &self.permit.classes[*self.permit.class_of.get(&host)?];
        let windows = match class.windows.as_slice() {
            [] => "the time until something closes".to_owned(),
            [window] => format!("window {window}"),
            windows => format!("windows {}", windows.join(", ")),
        };
        let open = class.stretches.iter().find(|open| open.start_ms <= self.now_ms && self.now_ms < open.end_ms);
        let Some(open) = open else {
            return Some(match class.windows.is_empty() {
                true => "not begun: a blackout or a freeze has begun".to_owned(),
                false => format!("not begun: outside of {windows}"),
            });
        };
        let left = open.end_ms - self.now_ms;
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
fn in_words(ms: u64) -> String {
    if ms < 60_000 { format!("{} s", ms.div_ceil(1_000)) } else { format!("{} min", ms.div_ceil(60_000)) }
}
