//! cmd.exe. There is none here to try: this follows its documented phases (percent expansion of the line, then quotes
//! and carets from left to right), and refuses wherever the first could have changed the second.

use super::Refusal;

/// What cmd.exe's parser knows at this point of the line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cmd {
    /// Between double quotes; a line end closes them.
    quoted: bool,
    /// After a `^` that escapes the next character.
    caret: bool,
    /// A `%` on this line: what it expands to could open or close quotes.
    percent: bool,
    /// Right after a value.
    after_value: bool,
    /// The last character.
    last: Option<char>,
    pub(super) complaint: Option<Refusal>,
}

impl Cmd {
    pub(super) fn feed(&mut self, c: char) {
        if std::mem::take(&mut self.after_value) && matches!(c, '"' | '^' | '%') {
            self.complaint = Some("is followed by a character that joins it with what comes next");
        }
        let caret = std::mem::take(&mut self.caret);
        match c {
            // A caret before a line end joins the lines and escapes the first character of the next one.
            '\r' | '\n' if caret => self.caret = true,
            '\n' => {
                self.quoted = false;
                self.percent = false;
            }
            '%' => self.percent = true,
            _ if caret => {}
            '^' if !self.quoted => self.caret = true,
            '"' => self.quoted = !self.quoted,
            _ => {}
        }
        self.last = Some(c);
    }

    pub(super) fn value(&mut self) -> Result<(), Refusal> {
        if self.quoted {
            return Err("stands inside double quotes");
        }
        if self.caret {
            return Err("stands after ^, which takes the meaning from its opening quote");
        }
        if self.percent {
            return Err("stands after % on its line, and what that expands to could take the value's quotes apart");
        }
        if self.after_value || matches!(self.last, Some('"' | '\\')) {
            return Err("touches another value, a quote or a backslash before it");
        }
        self.after_value = true;
        self.last = None;
        Ok(())
    }

    pub(super) fn verbatim(&mut self) {
        if std::mem::take(&mut self.after_value) {
            self.complaint = Some("touches a value that is not quoted");
        }
        self.caret = false;
        self.last = None;
    }
}
