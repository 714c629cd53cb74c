//! What the states and fields of a system mean.

/// Which fields and states mean what: every system of this kind has its own. Names of states are compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fields {
    /// States in which the work may be done.
    pub approved: Vec<String>,
    /// States that say no.
    pub rejected: Vec<String>,
    /// States of work that is over, beside those that Jira itself counts as done.
    pub closed: Vec<String>,
    /// The field with the beginning (`customfield_10010`).
    pub starts: Option<String>,
    /// The field with the end.
    pub ends: Option<String>,
    /// The field with the hosts (`labels`, or a custom one).
    pub assets: Option<String>,
    /// The field that says whether CUI is concerned.
    pub cui: Option<String>,
    /// The state to which the ticket is moved when the work begins.
    pub begun: Option<String>,
    /// When it was done.
    pub done: Option<String>,
    /// When it was not done, or taken back.
    pub failed: Option<String>,
}
