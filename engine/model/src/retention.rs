//! How long evidence is kept: a class by what a run touched, and the period that was promised when it was opened.

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::plan::Plan;

/// What kind of evidence it is. Ordered: the stricter class is the larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Only hosts labelled `retention: operational`.
    Operational,
    /// Anything else.
    Default,
    /// A host that holds CUI, or is labelled `retention: cui`.
    Cui,
}

impl Class {
    /// The word in JSON, in the settings and on the terminal.
    pub fn name(self) -> &'static str {
        match self {
            Class::Operational => "operational",
            Class::Default => "default",
            Class::Cui => "cui",
        }
    }

    /// The class of a run: the strictest of its hosts'.
    pub fn of(plan: &Plan) -> Self {
        plan.hosts.values().map(of_host).max().unwrap_or(Class::Default)
    }
}

fn of_host(host: &Host) -> Class {
    match host.labels.get("retention").map(String::as_str) {
        _ if host.cui => Class::Cui,
        Some("cui") => Class::Cui,
        Some("operational") => Class::Operational,
        _ => Class::Default,
    }
}

/// Months for each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// Of [`Class::Operational`].
    pub operational: u32,
    /// Of [`Class::Default`].
    pub default: u32,
    /// Of [`Class::Cui`].
    pub cui: u32,
}

impl Default for Periods {
    fn default() -> Self {
        Self { operational: 12, default: 36, cui: 72 }
    }
}

impl Periods {
    /// Months for a class.
    pub fn months(&self, class: Class) -> u32 {
        match class {
            Class::Operational => self.operational,
            Class::Default => self.default,
            Class::Cui => self.cui,
        }
    }

    /// What is promised to a run with this plan, of that class at least.
    pub fn promise(&self, plan: &Plan, at_least: Option<Class>) -> Retention {
        let class = Class::of(plan);
        let asked = at_least.unwrap_or(class);
        // The settings may keep a stricter class for a shorter time.
        Retention { class: class.max(asked), months: self.months(class).max(self.months(asked)) }
    }
}

/// What was promised when a run was opened. Settings can prolong it later and never shorten it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The class.
    pub class: Class,
    /// Months from the run's end.
    pub months: u32,
}
