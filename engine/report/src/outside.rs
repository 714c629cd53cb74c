//! Who outside vouches for a run's record: those who are given the ledger's heads, what they hold, and what waits.

use schemars::JsonSchema;
use serde::Serialize;

use crate::text::{count, elapsed, escape_line, parse_time};

/// What somebody outside holds of the ledger, as a run sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct AnchorLine {
    /// Its name in the settings.
    pub name: String,
    /// `rfc3161`, `witness`, `git`, `file` or `syslog`.
    pub kind: String,
    /// Records of the first head there that covers the run; else of the last one there; null when there is none.
    pub size: Option<u64>,
    /// Root of that head.
    pub root: Option<String>,
    /// When the receipt for it was recorded.
    pub at: Option<String>,
    /// The record of the ledger that tells of the receipt.
    pub record: Option<u64>,
    /// That head covers the run's last record.
    pub covers_run: bool,
    /// How long after the run's last record the receipt was recorded (ms); null while no head there covers the run.
    pub after_ms: Option<u64>,
    /// Records of the run that wait: no head there covers them.
    pub waiting: u64,
    /// When the first of them was recorded.
    pub waiting_since: Option<String>,
}

impl AnchorLine {
    /// How long after the run's last record, which is of `last_ms`, the receipt of `at` came.
    pub fn lag_ms(at: &str, last_ms: u64) -> Option<u64> {
        parse_time(at).map(|at| at.saturating_sub(last_ms))
    }

    /// What it holds, and what waits: a line for people, without its name.
    pub fn standing(&self) -> String {
        let held = match (self.size, &self.at) {
            (Some(size), Some(at)) => Some(format!("{} since {at}", count(size as usize, "record"))),
            _ => None,
        };
        if self.covers_run
            && let Some(held) = held
        {
            let lag = self.after_ms.map(|ms| format!(", {} after the run's last record", elapsed(ms)));
            return format!("holds {held}{}", lag.unwrap_or_default());
        }
        let held = held.map_or_else(|| "and nothing before it".to_owned(), |held| format!("but {held}"));
        let waits = match (self.waiting, &self.waiting_since) {
            (0, _) | (_, None) => String::new(),
            (n, Some(since)) => format!("; {} of the run wait, the first since {since}", count(n as usize, "record")),
        };
        format!("NOT all of this run yet, {held}{waits}")
    }

    /// In a line, for people.
    pub fn text(&self) -> String {
        format!("{} ({}): {}", escape_line(self.name.as_bytes()), self.kind, self.standing())
    }
}

/// How a receipt was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Checked {
    /// It holds, by what the verifier brought.
    Verified,
    /// It holds, by what the project's own settings say; whoever rewrote the ledger could have rewritten those too.
    OwnSettings,
    /// It could not be checked here.
    NotChecked,
    /// It contradicts the ledger, or is no receipt.
    Wrong,
}

impl Checked {
    /// In a few words.
    pub fn words(self) -> &'static str {
        match self {
            Checked::Verified => "verified",
            Checked::OwnSettings => "verified by own settings",
            Checked::NotChecked => "not checked",
            Checked::Wrong => "wrong",
        }
    }
}

/// What a check of evidence said of a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReceiptCheck {
    /// The anchor's name.
    pub anchor: String,
    /// Its kind.
    pub kind: String,
    /// Records of the head that the receipt is of.
    pub size: u64,
    /// What came of it.
    pub checked: Checked,
    /// In a sentence.
    pub what: String,
}

/// Lines of an output that are withheld in redacted editions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct RedactionLine {
    /// The host.
    pub host: String,
    /// The step.
    pub step: String,
    /// Counted from 1.
    pub attempt: u32,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// How many segments are withheld: lines, and each further 64 KiB of a longer one.
    pub withheld: u64,
    /// The rule that found them, or `by hand`.
    pub rule: String,
    /// Why.
    pub reason: String,
    /// Who said so.
    pub by: String,
    /// When it was recorded.
    pub at: String,
    /// The record of the ledger that says so.
    pub record: u64,
}

impl RedactionLine {
    /// Whether it is of this output.
    pub fn is_of(&self, host: &str, step: &str, attempt: u32, stream: &str) -> bool {
        (self.host.as_str(), self.step.as_str(), self.attempt, self.stream.as_str()) == (host, step, attempt, stream)
    }

    /// In a line, for people.
    pub fn text(&self) -> String {
        let number = if self.attempt > 1 { format!(" attempt {}", self.attempt) } else { String::new() };
        format!(
            "{}/{}{number}: {} of {} withheld in redacted editions, by {} ({}): {}",
            self.host,
            self.step,
            self.lines(),
            self.stream,
            self.by,
            self.rule,
            self.reason
        )
    }

    /// The same for where its step and its attempt are told already.
    pub fn told(&self) -> String {
        let Self { stream, by, rule, reason, at, .. } = self;
        format!("{} of {stream}, by {by} on {at} ({rule}): {reason}", self.lines())
    }

    fn lines(&self) -> String {
        count(usize::try_from(self.withheld).unwrap_or(usize::MAX), "line")
    }
}
