//! `schedule.yaml`: what runs by itself, and when, as people write it.

use std::collections::BTreeMap;

use runbook_model::schedule::Schedules;

use crate::codes::Code;
use crate::diagnostic::{Diagnostic, Parsed};
use crate::parse;
use crate::read;
use crate::source::Span;

/// A schedule file that was read. Whether its rules and zones are right, and its windows there, is for
/// `runbook_policy::schedule` to say; [`Self::misfit`] puts that in its place.
#[derive(Debug, Clone)]
pub struct ScheduleFile {
    /// What it says.
    pub schedules: Schedules,
    pub(crate) places: BTreeMap<String, Span>,
    pub(crate) whole: Span,
}

impl ScheduleFile {
    /// A problem with the schedule of that name.
    pub fn misfit(&self, name: &str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(Code::InvalidValue, self.places.get(name).unwrap_or(&self.whole), message)
    }
}

/// The schedules in the bytes of the file called `name`.
///
/// # Errors
/// All that is wrong with it, but for rules, zones and windows.
pub fn parse_schedule(name: &str, bytes: &[u8]) -> Result<Parsed<ScheduleFile>, Vec<Diagnostic>> {
    parse::parse(name, bytes, read::schedule::schedule)
}
