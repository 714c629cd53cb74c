//! What steps printed: which streams there are, and how they are headed. The bytes are the caller's to read.

use runbook_model::Sha256;
use runbook_model::outcome::OutputRef;
use runbook_model::units::format_size;
use runbook_model::{HostName, StepId};
use serde::Serialize;

use crate::json::OutputDocument;
use crate::style::{Palette, Tone, attempt_tone, words};
use crate::text::{elapsed, part, time_of_day};
use crate::view::{AttemptView, RunView};

/// An attempt with outputs.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The host.
    pub host: &'a HostName,
    /// The step.
    pub step: &'a StepId,
    /// The attempt.
    pub attempt: &'a AttemptView,
}

/// The attempts that have ended, in the order in which they began; of `host` or `step` alone when given.
pub fn entries<'a>(view: &'a RunView, host: Option<&HostName>, step: Option<&StepId>) -> Vec<Entry<'a>> {
    let mut out = Vec::new();
    for (name, entry) in view.hosts.iter().filter(|(name, _)| host.is_none_or(|wanted| wanted == *name)) {
        for (id, cell) in entry.steps.iter().filter(|(id, _)| step.is_none_or(|wanted| wanted == *id)) {
            for attempt in cell.attempts.iter().filter(|attempt| attempt.report.is_some()) {
                out.push(Entry { host: name, step: id, attempt });
            }
        }
    }
    out.sort_by(|a, b| {
        (a.attempt.started_ms, a.host, a.step, a.attempt.attempt).cmp(&(
            b.attempt.started_ms,
            b.host,
            b.step,
            b.attempt.attempt,
        ))
    });
    out
}

/// The line above an attempt's output.
pub fn heading(entry: &Entry<'_>, palette: Palette) -> String {
    let outcome = entry
        .attempt
        .outcome
        .map_or_else(|| "open".into(), |outcome| palette.paint(attempt_tone(outcome), &words(outcome.name())));
    let took = entry.attempt.report.as_ref().map(|report| elapsed(report.duration_ms)).unwrap_or_default();
    let name = palette.paint(Tone::Strong, &format!("{}/{}", entry.host, entry.step));
    let attempt = if entry.attempt.attempt > 1 { format!(" attempt {}", entry.attempt.attempt) } else { String::new() };
    format!("== {name}{attempt}  {outcome}  {took}  {} UTC", time_of_day(entry.attempt.started_ms))
}

/// What is to be said of a stream whose bytes are not all there to print; `None` when they are.
pub fn remark(stream: &str, output: &OutputRef) -> Option<String> {
    if output.bytes > 0 && output.blob.is_none() {
        return Some(format!("({stream}: {} not kept)", format_size(output.bytes)));
    }
    let part = part(output)?;
    let came = if output.cut_off_by.is_some() { "came" } else { "in all" };
    Some(format!("({stream}: {} {came}; {part})", format_size(output.bytes)))
}

/// A line of `logs --json-lines`.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// `log/v1`.
    pub schema: &'static str,
    /// The host.
    pub host: String,
    /// The step.
    pub step: String,
    /// Counted from 1.
    pub attempt: u32,
    /// The attempt's outcome.
    pub outcome: Option<&'static str>,
    /// Standard output.
    pub stdout: StreamLine,
    /// Standard error.
    pub stderr: StreamLine,
}

/// A stream in [`Line`].
#[derive(Debug, Clone, Serialize)]
pub struct StreamLine {
    /// What is known of it.
    #[serde(flatten)]
    pub output: OutputDocument,
    /// What is kept, as text; null when nothing is kept. Bytes that are no UTF-8 are replaced: `logs --raw` has them.
    pub text: Option<String>,
}

/// The line of an attempt; the two arguments are what its blobs hold.
pub fn line(entry: &Entry<'_>, stdout: Option<&[u8]>, stderr: Option<&[u8]>) -> Line {
    let report = entry.attempt.report.as_ref().expect("only ended attempts are entries");
    let stream = |output: &OutputRef, bytes: Option<&[u8]>| StreamLine {
        output: OutputDocument::of(output, bytes.map(Sha256::of)),
        text: bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()),
    };
    Line {
        schema: "log/v1",
        host: entry.host.to_string(),
        step: entry.step.to_string(),
        attempt: entry.attempt.attempt,
        outcome: entry.attempt.outcome.map(|outcome| outcome.name()),
        stdout: stream(&report.stdout, stdout),
        stderr: stream(&report.stderr, stderr),
    }
}
