//! A host's session as a recording that a terminal can play: asciicast v2.
//!
//! It is made from the record: a prompt line and the command of each attempt, then its output at the times at which it
//! came, then how it ended, as a line and as a marker. It is a rendering, not the evidence: control characters that the
//! host printed are shown as escapes, for a recording that is played must not do more to a terminal than show text. The
//! stored bytes are as they were.

use std::io::{self, Write};

use runbook_ledger::segments;
use runbook_model::outcome::{Ended, Exit, OutputRef};
use runbook_model::timing::{self, Piece};
use runbook_model::units::format_size;
use runbook_model::{HostName, Sha256, StepId};
use serde::Serialize;

use crate::json::{attempt_reason, cell_reason};
use crate::logs::remark;
use crate::matrix::{Row, label, rows};
use crate::style::words;
use crate::text::{elapsed, escape_line, escape_lines};
use crate::view::{AttemptView, RunView};

/// So much of an attempt's output is in a recording; the rest is in the record.
pub const STEP_BYTES_MAX: usize = 1 << 20;
/// So much of its command.
const COMMAND_BYTES_MAX: usize = 64 << 10;
/// No list of times is longer: it has a few thousand short lines.
const TIMING_BYTES_MAX: usize = 1 << 20;
/// The terminal that is drawn.
const WIDTH: u32 = 120;
const HEIGHT: u32 = 40;
/// Players wait no longer than this where nothing happens (seconds).
const IDLE_LIMIT: f64 = 2.0;
/// Text of one event; players read a line at once.
const EVENT_BYTES: usize = 16 << 10;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

#[derive(Serialize)]
struct Header<'a> {
    version: u8,
    width: u32,
    height: u32,
    timestamp: u64,
    idle_time_limit: f64,
    title: &'a str,
    env: Env,
}

#[derive(Serialize)]
struct Env {
    #[serde(rename = "TERM")]
    term: &'static str,
}

/// The beginning of a content.
#[derive(Debug, Clone)]
pub struct Beginning {
    /// As many bytes as were asked for, or all.
    pub bytes: Vec<u8>,
    /// Length of the whole.
    pub length: u64,
}

impl From<Vec<u8>> for Beginning {
    fn from(bytes: Vec<u8>) -> Self {
        Self { length: bytes.len() as u64, bytes }
    }
}

/// Writes the recording of `host`. `contents` gives the beginning of what a blob holds, as it is stored, with at least the
/// number of bytes asked for when there are so many; one that it does not have is told as not kept here. The same record
/// gives the same bytes. No more than one attempt's contents are held at once.
///
/// # Errors
/// When `out` cannot be written.
pub fn write(
    view: &RunView,
    host: &HostName,
    mut contents: impl FnMut(&Sha256, usize) -> Option<Beginning>,
    out: impl Write,
) -> io::Result<()> {
    let begin = view.hosts.get(host).and_then(|entry| entry.started_ms).unwrap_or_else(|| view.started_ms());
    let mut tape = Tape { out, begin, last: 0 };
    let title = escape_line(format!("runbook {} on {host}", view.plan.runbook.name).as_bytes());
    tape.line(&Header {
        version: 2,
        width: WIDTH,
        height: HEIGHT,
        timestamp: begin / 1_000,
        idle_time_limit: IDLE_LIMIT,
        title: &title,
        env: Env { term: "xterm-256color" },
    })?;
    let run = view.run().map(ToString::to_string).unwrap_or_default();
    tape.say(begin, &format!("{BOLD}{title}{PLAIN}\n{DIM}run {run}, made from its record{PLAIN}\n"))?;
    let Some(entry) = view.hosts.get(host) else { return tape.out.flush() };
    if let Some(identity) = &entry.identity {
        let key =
            if identity.peer_key.is_empty() { String::new() } else { format!(", host key {}", identity.peer_key) };
        let text = format!("{} as {}, {}{key}", identity.transport, identity.account, identity.authenticated_by);
        tape.say(begin, &format!("{DIM}{}{PLAIN}\n", escape_line(text.as_bytes())))?;
    }
    let cells = rows(view, entry);
    // In the order in which they began; a cell without an attempt where it was decided.
    let mut scenes: Vec<(u64, usize, Option<usize>)> = Vec::new();
    for (n, row) in cells.iter().enumerate() {
        let Some(cell) = row.view else { continue };
        scenes.extend(cell.attempts.iter().enumerate().map(|(i, attempt)| (attempt.started_ms, n, Some(i))));
        if let (true, Some(at)) = (cell.attempts.is_empty(), cell.ended_ms) {
            scenes.push((at, n, None));
        }
    }
    scenes.sort_unstable();
    for (at, n, attempt) in scenes {
        let row = &cells[n];
        let attempt = attempt.and_then(|i| row.view?.attempts.get(i));
        match attempt {
            Some(attempt) => tape.attempt(row, attempt, &mut contents)?,
            None => tape.passed_over(row, at)?,
        }
    }
    if let (Some(outcome), Some(at)) = (entry.outcome, entry.ended_ms) {
        let why = if entry.reason.is_empty() { String::new() } else { format!(": {}", entry.reason) };
        let text = escape_line(format!("{host}: {}{why}", words(outcome.name())).as_bytes());
        tape.say(at, &format!("\n{BOLD}{text}{PLAIN}\n"))?;
        tape.mark(at, &text)?;
    }
    tape.out.flush()
}

/// What is written, and how far it is. Times never go back.
struct Tape<W> {
    out: W,
    begin: u64,
    last: u64,
}

impl<W: Write> Tape<W> {
    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        self.out.write_all(b"\n")
    }

    fn event(&mut self, at: u64, kind: &str, text: &str) -> io::Result<()> {
        self.last = self.last.max(at.saturating_sub(self.begin));
        let seconds = self.last as f64 / 1_000.0;
        self.line(&(seconds, kind, text))
    }

    /// Visible text; a line end also goes back to the line's beginning.
    fn say(&mut self, at: u64, text: &str) -> io::Result<()> {
        let text = text.replace('\n', "\r\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let mut cut = rest.len().min(EVENT_BYTES);
            while !rest.is_char_boundary(cut) {
                cut -= 1;
            }
            let (now, later) = rest.split_at(cut);
            self.event(at, "o", now)?;
            rest = later;
        }
        Ok(())
    }

    fn mark(&mut self, at: u64, text: &str) -> io::Result<()> {
        self.event(at, "m", text)
    }

    fn prompt(&mut self, at: u64, row: &Row<'_>, attempt: u32) -> io::Result<()> {
        let id: &StepId = &row.step.id;
        let again = if attempt > 1 { format!(" (attempt {attempt})") } else { String::new() };
        let name = label(row.step);
        let name = if name == id.as_str() { "" } else { name };
        let text = escape_line(format!("[{}] {id}{again}", row.step.phase.name()).as_bytes());
        self.say(at, &format!("\n{BOLD}{text}{PLAIN} {DIM}{}{PLAIN}\n", escape_line(name.as_bytes())))
    }

    fn passed_over(&mut self, row: &Row<'_>, at: u64) -> io::Result<()> {
        self.prompt(at, row, 1)?;
        let word = row.outcome.map_or_else(|| "open".to_owned(), |outcome| words(outcome.name()));
        let why = cell_reason(row).map(|reason| format!(": {reason}")).unwrap_or_default();
        let text = escape_line(format!("{word}{why}").as_bytes());
        self.say(at, &format!("{DIM}{text}{PLAIN}\n"))?;
        self.mark(at, &format!("{}: {text}", escape_line(row.step.id.as_str().as_bytes())))
    }

    fn attempt(
        &mut self,
        row: &Row<'_>,
        attempt: &AttemptView,
        contents: &mut impl FnMut(&Sha256, usize) -> Option<Beginning>,
    ) -> io::Result<()> {
        let begin = attempt.started_ms;
        self.prompt(begin, row, attempt.attempt)?;
        match contents(&attempt.intent.command_sha256, COMMAND_BYTES_MAX) {
            Some(command) => {
                let shown = command.bytes.len().min(COMMAND_BYTES_MAX);
                let text = escape_lines(&command.bytes[..shown]);
                let more = if (shown as u64) < command.length { "\n… (the rest is in the record)" } else { "" };
                self.say(begin, &format!("$ {}{more}\n", text.trim_end().replace('\n', "\n> ")))?;
            }
            None => self.say(begin, &format!("{DIM}(command {}){PLAIN}\n", attempt.intent.command_sha256))?,
        }
        let Some(report) = &attempt.report else {
            let text = "the record has no end of it";
            self.say(begin, &format!("{RED}({text}){PLAIN}\n"))?;
            return self.mark(begin, &format!("{}: {text}", escape_line(row.step.id.as_str().as_bytes())));
        };
        // Between processes the clock is the record's; inside an attempt times count from its beginning.
        let start = report.started_ms.max(begin);
        let end = report.ended_ms.max(start);
        let mut streams = [
            self.stream(end, "stdout", &report.stdout, contents)?,
            self.stream(end, "stderr", &report.stderr, contents)?,
        ];
        let pieces = report
            .timing
            .and_then(|digest| contents(&digest, TIMING_BYTES_MAX))
            .and_then(|all| timing::parse(&all.bytes));
        for Piece(ms, stream, until) in pieces.unwrap_or_default() {
            let stream = usize::from(stream - 1);
            let until = usize::try_from(until).unwrap_or(usize::MAX);
            let text = streams[stream].until(until);
            self.output((start + ms).min(end), stream, &text)?;
        }
        let mut cut = 0;
        for (n, stream) in streams.iter_mut().enumerate() {
            let text = stream.rest();
            self.output(end, n, &text)?;
            cut += stream.cut;
        }
        if streams.iter().any(|stream| stream.open_line) {
            self.say(end, "\n")?;
        }
        if cut > 0 {
            let text = format!("(cut here: {} more are in the record)", format_size(cut));
            self.say(end, &format!("{RED}{text}{PLAIN}\n"))?;
        }
        let word = attempt.outcome.map_or_else(|| "open".to_owned(), |outcome| words(outcome.name()));
        let how = match &report.ended {
            Ended::Exited { exit: Exit::Code(code), .. } => format!(", exit code {code}"),
            Ended::Exited { exit: Exit::Signal(signal), .. } => format!(", signal {signal}"),
            _ => attempt_reason(attempt).map(|reason| format!(": {reason}")).unwrap_or_default(),
        };
        let text = escape_line(format!("{word}{how}, {}", elapsed(report.duration_ms)).as_bytes());
        self.say(end, &format!("{DIM}→ {text}{PLAIN}\n"))?;
        self.mark(end, &format!("{}: {text}", escape_line(row.step.id.as_str().as_bytes())))
    }

    /// A stream's bytes; what is not there is said.
    fn stream(
        &mut self,
        at: u64,
        name: &str,
        output: &OutputRef,
        contents: &mut impl FnMut(&Sha256, usize) -> Option<Beginning>,
    ) -> io::Result<Playing> {
        if let Some(remark) = remark(name, output) {
            self.say(at.min(self.begin + self.last), &format!("{DIM}{remark}{PLAIN}\n"))?;
        }
        let Some(blob) = output.blob else { return Ok(Playing::default()) };
        let Some(stored) = contents(&blob, STEP_BYTES_MAX + segments::LINE_BYTES) else {
            self.say(self.begin + self.last, &format!("{DIM}({name}: not kept here){PLAIN}\n"))?;
            return Ok(Playing::default());
        };
        let content = segments::content(output, &stored.bytes);
        let before = stored.bytes.len() - content.len();
        let bytes = content[..content.len().min(STEP_BYTES_MAX)].to_vec();
        let cut = stored.length - (before + bytes.len()) as u64;
        Ok(Playing { bytes, at: 0, cut, open_line: false })
    }

    fn output(&mut self, at: u64, stream: usize, text: &str) -> io::Result<()> {
        match (text.is_empty(), stream) {
            (true, _) => Ok(()),
            (false, 0) => self.say(at, text),
            (false, _) => self.say(at, &format!("{RED}{text}{PLAIN}")),
        }
    }
}

/// A stream while it is played.
#[derive(Default)]
struct Playing {
    bytes: Vec<u8>,
    at: usize,
    cut: u64,
    /// What was shown last does not end a line.
    open_line: bool,
}

impl Playing {
    /// What came until then, as visible text. A character, or the two bytes of a line end, that are not all there yet come
    /// with the next piece.
    fn until(&mut self, until: usize) -> String {
        let until = until.clamp(self.at, self.bytes.len());
        let whole = whole(&self.bytes[self.at..until]);
        self.take(self.at + whole)
    }

    fn rest(&mut self) -> String {
        self.take(self.bytes.len())
    }

    fn take(&mut self, until: usize) -> String {
        let text = escape_lines(&self.bytes[self.at..until]);
        self.at = until;
        if !text.is_empty() {
            self.open_line = !text.ends_with('\n');
        }
        text
    }
}

/// How many of these bytes can be shown without what follows.
fn whole(bytes: &[u8]) -> usize {
    if bytes.last() == Some(&b'\r') {
        return bytes.len() - 1;
    }
    // A character has at most four bytes, so it can only be one of the last three that begins one.
    for back in 1..=bytes.len().min(3) {
        let byte = bytes[bytes.len() - back];
        let length = match byte {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if length > back { bytes.len() - back } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_and_no_line_end_is_cut_in_two() {
        for (bytes, shown) in [
            (&b"abc"[..], 3),
            (b"ab\r", 2),
            (b"ab\xe2\x82", 2),
            (b"ab\xe2\x82\xac", 5),
            (b"a\xf0\x9f\x98", 1),
            (b"\xff\xff", 2),
            (b"\x80\x80\x80\x80", 4),
            (b"", 0),
        ] {
            assert_eq!(whole(bytes), shown, "{bytes:?}");
        }
    }

    #[test]
    fn a_stream_in_pieces_is_the_stream_at_once() {
        let bytes = "aé\r\n€😀 \x1b[2J\r\nend".as_bytes().to_vec();
        let mut at_once = Playing { bytes: bytes.clone(), ..Playing::default() };
        let all = at_once.rest();
        for step in 1..7 {
            let mut playing = Playing { bytes: bytes.clone(), ..Playing::default() };
            let mut text = String::new();
            for until in (0..bytes.len()).step_by(step) {
                text.push_str(&playing.until(until));
            }
            text.push_str(&playing.rest());
            assert_eq!(text, all);
        }
    }
}
