//! The list of runs.

use runbook_model::event::RunHeader;
use runbook_model::outcome::RunOutcome;

use crate::style::{Palette, Tone, host_tone, words};
use crate::text::{elapsed, fit, when, width};

/// Where a listed run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineState {
    /// A live process works on it.
    Running,
    /// The process that worked on it has died; it can be resumed.
    Interrupted,
    /// It waits for an operator.
    Suspended,
    /// It has ended.
    Ended,
}

impl LineState {
    /// The word in JSON.
    pub fn name(self) -> &'static str {
        match self {
            LineState::Running => "running",
            LineState::Interrupted => "interrupted",
            LineState::Suspended => "suspended",
            LineState::Ended => "ended",
        }
    }
}

/// A run in the list.
#[derive(Debug, Clone)]
pub struct RunLine {
    /// Its opening.
    pub header: RunHeader,
    /// Where it stands.
    pub state: LineState,
    /// How it ended, or how things stand.
    pub outcome: Option<RunOutcome>,
    /// Unix ms of the end.
    pub ended_ms: Option<u64>,
    /// Where the review that it owes stands; `None`: it owes none.
    pub review: Option<&'static str>,
}

/// The list as text, oldest first.
pub fn text(lines: &[RunLine], palette: Palette) -> String {
    if lines.is_empty() {
        return "no runs yet\n".into();
    }
    let name_width = lines.iter().map(|line| width(&line.header.runbook)).max().unwrap_or(0).clamp(7, 24);
    let mut out = String::new();
    let head = format!(
        "{}  {}  {}  {}  {}  operator",
        fit("run", 36),
        fit("started", 23),
        fit("took", 6),
        fit("outcome", 12),
        fit("runbook", name_width)
    );
    out.push_str(&palette.paint(Tone::Dim, &head));
    out.push('\n');
    for line in lines {
        let took = line.ended_ms.map_or_else(|| "-".into(), |end| elapsed(end.saturating_sub(line.header.started_ms)));
        let (word, tone) = match (line.state, line.outcome) {
            (LineState::Ended, Some(outcome)) => (words(outcome.name()), host_tone(outcome)),
            (LineState::Suspended, Some(outcome)) => (format!("{}, open", words(outcome.name())), Tone::Bad),
            (LineState::Interrupted, _) => ("interrupted".into(), Tone::Bad),
            (LineState::Running, _) => ("running".into(), Tone::Active),
            (_, None) => ("?".into(), Tone::Warn),
        };
        let mut tail = line.header.operator.name.clone();
        if let Some(ticket) = &line.header.ticket {
            tail.push_str(&format!("  {}", crate::text::escape_line(ticket.as_bytes())));
        }
        if line.header.rehearses {
            tail.push_str("  rehearsal");
        }
        if let Some(run) = &line.header.takes_back {
            tail.push_str(&format!("  takes {} back", short(run.as_str())));
        }
        if line.header.check_only {
            tail.push_str("  check only");
        }
        if let Some(review) = line.review.filter(|review| *review != "done" && *review != "running") {
            tail.push_str(&format!("  review {review}"));
        }
        out.push_str(&format!(
            "{}  {}  {}  {}  {}  {}\n",
            line.header.run,
            when(line.header.started_ms),
            fit(&took, 6),
            palette.paint(tone, &fit(&word, 12)),
            fit(&line.header.runbook, name_width),
            tail
        ));
    }
    out
}

/// The end of a run's id, by which people can name it: the beginning is a time and alike among runs of one day.
pub fn short(run: &str) -> &str {
    run.get(run.len().saturating_sub(12)..).unwrap_or(run)
}
