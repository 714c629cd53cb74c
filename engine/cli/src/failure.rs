//! Errors as a person sees them: what happened, whether anything was changed, what to do next.

use std::fmt::Write as _;
use std::path::Path;

use runbook_report::Palette;
use runbook_report::style::Tone;
use runbook_report::text::{escape_line, escape_lines};

/// A fault of the program itself.
pub(crate) const FAULT: u8 = 1;
/// Usage, or an invalid file: nothing was touched.
pub(crate) const USAGE: u8 = 2;
/// Refused: nothing was changed.
pub(crate) const REFUSED: u8 = 3;
/// Evidence could not be recorded.
pub(crate) const UNRECORDED: u8 = 9;

/// Why a command ended early. Its code has a page in `docs/errors`.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: &'static str,
    pub(crate) exit: u8,
    pub(crate) message: String,
    details: Vec<String>,
    changed: &'static str,
    next: Vec<String>,
}

impl Failure {
    /// A failure before anything was touched.
    pub(crate) fn new(code: &'static str, exit: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            exit,
            message: message.into(),
            details: Vec::new(),
            changed: "nothing was changed",
            next: Vec::new(),
        }
    }

    /// Usage, or an invalid file.
    pub(crate) fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(code, USAGE, message)
    }

    /// A file or folder of the controller that cannot be used.
    pub(crate) fn file(code: &'static str, doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::usage(code, format!("{} cannot be {doing}: {error}", path.display()))
    }

    /// A line below the message.
    pub(crate) fn detail(mut self, text: impl Into<String>) -> Self {
        self.details.push(text.into());
        self
    }

    /// What is known of changes, when it is not that nothing was changed.
    pub(crate) fn changed(mut self, text: &'static str) -> Self {
        self.changed = text;
        self
    }

    /// What to do.
    pub(crate) fn next(mut self, text: impl Into<String>) -> Self {
        self.next.push(text.into());
        self
    }

    /// As shown on the terminal.
    pub(crate) fn text(&self, palette: Palette) -> String {
        let mut out = format!(
            "{}: {}\n",
            palette.paint(Tone::Bad, &format!("error[{}]", self.code)),
            escape_line(self.message.as_bytes())
        );
        for detail in &self.details {
            for line in escape_lines(detail.as_bytes()).lines() {
                let _ = writeln!(out, "  {line}");
            }
        }
        let key = |key: &str| palette.paint(Tone::Dim, key);
        if !self.changed.is_empty() {
            let _ = writeln!(out, "  {} {}", key("changed:"), self.changed);
        }
        for next in &self.next {
            let _ = writeln!(out, "  {} {}", key("next:   "), escape_line(next.as_bytes()));
        }
        let _ = writeln!(out, "  {} docs/errors/{}.md", key("more:   "), self.code);
        out
    }
}

/// A defect of the program: something that its own parts promised did not hold.
pub(crate) fn fault(what: impl std::fmt::Display) -> Failure {
    Failure::new("RB0600", FAULT, format!("this is a fault of the program: {what}"))
        .changed("what was recorded stays as it is; `runbook runs` tells whether a run is open")
        .next("keep the project's folder as it is and report it")
}
