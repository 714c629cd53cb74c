//! `windows.yaml`: when work may be done, as people write it.

use std::collections::BTreeMap;

use runbook_model::windows::Windows;

use crate::codes::Code;
use crate::diagnostic::{Diagnostic, Parsed};
use crate::parse;
use crate::read;
use crate::selector::Selector;
use crate::source::{Span, Text};

/// A windows file that was read. Whether its rules and zones are right is for the calendar to say, which is made of
/// [`Self::windows`]; [`Self::misfit`] puts that in its place.
#[derive(Debug, Clone)]
pub struct WindowsFile {
    /// What it says.
    pub windows: Windows,
    /// Every selection of it, by its text.
    pub selections: BTreeMap<String, (Text, Selector)>,
    pub(crate) places: BTreeMap<(&'static str, String), Span>,
    pub(crate) whole: Span,
}

impl WindowsFile {
    /// A problem with the times of an entry: `kind` is `window`, `blackout` or `freeze`.
    pub fn misfit(&self, kind: &str, name: &str, message: impl Into<String>) -> Diagnostic {
        let place = self.places.iter().find(|((of, called), _)| *of == kind && called == name);
        let span = place.map_or(&self.whole, |(_, span)| span);
        Diagnostic::error(Code::InvalidValue, span, message)
    }
}

/// The windows in the bytes of the file called `name`.
///
/// # Errors
/// All that is wrong with it, but for rules and zones.
pub fn parse_windows(name: &str, bytes: &[u8]) -> Result<Parsed<WindowsFile>, Vec<Diagnostic>> {
    parse::parse(name, bytes, read::windows::windows)
}
