//! Colour, by meaning. Without colour every view says the same in words.

use runbook_model::{AttemptOutcome, HostOutcome};

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It went well.
    Good,
    /// It did not, and needs a person.
    Bad,
    /// It did not, and is dealt with; or it needs attention.
    Warn,
    /// It is going on.
    Active,
    /// It matters less.
    Dim,
    /// A heading or a name.
    Strong,
}

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    /// Words alone.
    Plain,
    /// ANSI colours of the terminal's own theme.
    Ansi,
}

impl Palette {
    /// `text` in `tone`. `text` must not hold escapes of its own.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if self == Palette::Plain || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Warn => "33",
            Tone::Active => "36",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// How an attempt's outcome looks.
pub fn attempt_tone(outcome: AttemptOutcome) -> Tone {
    match outcome {
        AttemptOutcome::Succeeded => Tone::Good,
        AttemptOutcome::Failed | AttemptOutcome::TimedOut | AttemptOutcome::Unknown => Tone::Bad,
        AttemptOutcome::Skipped | AttemptOutcome::NotStarted => Tone::Dim,
    }
}

/// How a host's or a run's outcome looks.
pub fn host_tone(outcome: HostOutcome) -> Tone {
    match outcome {
        HostOutcome::Succeeded => Tone::Good,
        HostOutcome::Blocked | HostOutcome::RolledBack | HostOutcome::Cancelled => Tone::Warn,
        HostOutcome::Failed | HostOutcome::Stuck | HostOutcome::Unknown => Tone::Bad,
    }
}

/// `rolled back` for `rolled_back`.
pub fn words(name: &str) -> String {
    name.replace('_', " ")
}
