//! Puts the live view where it belongs: redrawn lines on a terminal, plain lines in a file, records on standard output.
//!
//! Runs on a thread of its own, so that a slow terminal never holds up a run. At most ten frames a second, and one a
//! second while nothing happens but time; only lines that changed are written.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use runbook_model::outcome::Wait;
use runbook_model::plan::Plan;
use runbook_model::record::Record;
use runbook_model::{Cell, Event};
use runbook_ports::store::Holder;
use runbook_ports::transport::Stream;
use runbook_ports::{Clock, Observer};
use runbook_report::live::{Screen, plain};
use runbook_report::text::width;
use runbook_report::{Palette, RunView};
use tokio::sync::oneshot;

use crate::hub::Hub;
use crate::{machine, output};

/// Between two frames at least.
const FRAME_MS: u64 = 100;
/// Lines are written together that come within so long.
const LINES_MS: u64 = 50;
/// Between two frames at most while a run goes on.
const TICK_MS: u64 = 1_000;

/// What is written where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Redrawn lines on the terminal behind standard error.
    Terminal,
    /// A line per notable event on standard error.
    Plain,
}

/// The view of one run.
pub(crate) struct Live {
    shared: Mutex<Shared>,
    changed: Condvar,
    clock: Arc<dyn Clock>,
    thread: Mutex<Option<JoinHandle<()>>>,
    hub: Hub,
}

struct Shared {
    mode: Mode,
    screen: Screen,
    json_lines: bool,
    /// Lines for standard output and standard error that wait to be written.
    data: VecDeque<String>,
    notes: VecDeque<String>,
    dirty: bool,
    /// The thread knows that lines wait.
    told: bool,
    lines_ms: u64,
    /// A person is being asked: nothing is drawn meanwhile.
    asking: bool,
    ended: bool,
    frame: Frame,
}

impl Shared {
    /// Lines wait to be written.
    fn waits(&self) -> bool {
        !self.data.is_empty() || !self.notes.is_empty()
    }
}

/// What is on the terminal.
#[derive(Default)]
struct Frame {
    lines: Vec<String>,
    columns: usize,
    drawn_ms: u64,
}

impl Live {
    /// A view of a run of `plan`, drawn until [`Live::finish`].
    pub(crate) fn start(
        plan: Arc<Plan>,
        mode: Mode,
        palette: Palette,
        json_lines: bool,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let live = Arc::new(Self {
            shared: Mutex::new(Shared {
                mode,
                screen: Screen::new(plan, palette),
                json_lines,
                data: VecDeque::new(),
                notes: VecDeque::new(),
                dirty: false,
                told: false,
                lines_ms: 0,
                asking: false,
                ended: false,
                frame: Frame::default(),
            }),
            changed: Condvar::new(),
            clock,
            thread: Mutex::new(None),
            hub: Hub::new(),
        });
        let drawing = Arc::clone(&live);
        let thread = std::thread::Builder::new().name("view".into()).spawn(move || drawing.draw_until_ended());
        // Without the thread the run goes on unseen; its record is the same.
        *lock(&live.thread) = thread.ok();
        live
    }

    /// For other processes that follow the run.
    pub(crate) fn hub(&self) -> Hub {
        self.hub.clone()
    }

    /// Takes records that were committed before this process looked: a resumed run's earlier part.
    pub(crate) fn earlier(&self, records: &[Record]) {
        let mut shared = lock(&self.shared);
        for record in records {
            shared.screen.record(record);
        }
        self.wake(&mut shared);
    }

    /// Says something: in the last line of the terminal, or as a line.
    pub(crate) fn notice(&self, text: impl Into<String>) {
        let text = text.into();
        let mut shared = lock(&self.shared);
        match shared.mode {
            Mode::Terminal => shared.screen.notice(Some(text)),
            Mode::Plain => shared.notes.push_back(text),
        }
        shared.dirty = true;
        self.changed.notify_all();
    }

    /// Puts a question to the person at the terminal and waits for a line; `None` when the input is closed.
    pub(crate) async fn ask(&self, question: String) -> Option<String> {
        {
            let mut shared = lock(&self.shared);
            shared.asking = true;
            erase(&mut shared.frame);
        }
        // Also when nobody waits for the answer any more: the run was cancelled, or the step's time is over.
        let _asked = Asked(self);
        let (answer, answered) = oneshot::channel();
        // A thread of its own: reading a terminal cannot be stopped, and must not keep the program from ending.
        let reader = std::thread::Builder::new().name("question".into()).spawn(move || {
            output::note(&question);
            let _ = io::stderr().write_all(b"[y/N] ");
            let mut line = String::new();
            let read = io::stdin().read_line(&mut line).is_ok_and(|n| n > 0);
            let _ = answer.send(read.then_some(line));
        });
        if reader.is_ok() { answered.await.ok().flatten() } else { None }
    }

    /// What the run has come to.
    pub(crate) fn view(&self) -> RunView {
        lock(&self.shared).screen.view().clone()
    }

    /// Writes what is left and stops. The last frame is removed: the summary says it better.
    pub(crate) fn finish(&self) {
        {
            let mut shared = lock(&self.shared);
            shared.ended = true;
            self.changed.notify_all();
        }
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }

    /// Wakes the thread when there is something to write, or when it does not know yet that a frame is due.
    fn wake(&self, shared: &mut Shared) {
        let knew = std::mem::replace(&mut shared.dirty, true);
        let lines = shared.waits() && !std::mem::replace(&mut shared.told, true);
        if lines || (!knew && shared.mode == Mode::Terminal) {
            self.changed.notify_one();
        }
    }

    fn draw_until_ended(&self) {
        let mut shared = lock(&self.shared);
        loop {
            let now = self.clock.mono_ms();
            let since = now.saturating_sub(shared.frame.drawn_ms);
            let terminal = shared.mode == Mode::Terminal;
            let lines_in = LINES_MS.saturating_sub(now.saturating_sub(shared.lines_ms));
            if shared.waits() && (lines_in == 0 || shared.ended) {
                shared.told = false;
                shared.lines_ms = now;
                let data: Vec<String> = shared.data.drain(..).collect();
                let notes: Vec<String> = shared.notes.drain(..).collect();
                drop(shared);
                write_lines(&data, &notes);
                shared = lock(&self.shared);
                continue;
            }
            if shared.ended {
                erase(&mut shared.frame);
                return;
            }
            let draw = terminal && !shared.asking && (since >= TICK_MS || (shared.dirty && since >= FRAME_MS));
            if draw {
                shared.dirty = false;
                shared.frame.drawn_ms = now;
                let bytes = frame(&mut shared, self.clock.now_ms());
                // The terminal may be slow: nobody waits for the lock meanwhile.
                drop(shared);
                let _ = io::stderr().lock().write_all(&bytes);
                shared = lock(&self.shared);
                continue;
            }
            let pause = match (terminal, shared.dirty) {
                (true, true) if !shared.asking => FRAME_MS.saturating_sub(since).max(1),
                (true, _) => TICK_MS.saturating_sub(since).max(1),
                (false, _) => 60_000,
            };
            let pause = if shared.waits() { pause.min(lines_in) } else { pause };
            let waited = self.changed.wait_timeout(shared, Duration::from_millis(pause));
            shared = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A person is being asked until this is dropped.
struct Asked<'a>(&'a Live);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut shared = lock(&self.0.shared);
        shared.asking = false;
        shared.dirty = true;
        self.0.changed.notify_all();
    }
}

impl Observer for Live {
    fn committed(&self, record: &Record) {
        let mut shared = lock(&self.shared);
        shared.screen.record(record);
        if shared.json_lines
            && let Ok(line) = serde_json::to_string(record)
        {
            shared.data.push_back(line);
        }
        if shared.mode == Mode::Plain
            && let Some(line) = plain::line(shared.screen.view(), record)
        {
            shared.notes.push_back(line);
        }
        self.wake(&mut shared);
        drop(shared);
        if let Event::AttemptStarted { attempt, .. } | Event::AttemptEnded { attempt, .. } = &record.event {
            self.hub.forget(&attempt.cell());
        }
        self.hub.committed();
    }

    fn held(&self, what: &str, by: &Holder) {
        let stopped = if machine::is_stopped(by.pid) { ", which is stopped" } else { "" };
        let run = runbook_report::list::short(by.run.as_str());
        self.notice(format!("{what} is held by run {run} of {}, process {}{stopped}; waiting", by.operator, by.pid));
    }

    fn output(&self, cell: &Cell, stream: Stream, bytes: &[u8]) {
        self.hub.output(cell, stream, bytes);
        let mut shared = lock(&self.shared);
        if shared.mode == Mode::Terminal {
            shared.screen.output(cell, bytes);
            self.wake(&mut shared);
        }
    }

    fn waiting(&self, cell: &Cell, wait: Option<&Wait>) {
        let mut shared = lock(&self.shared);
        if shared.mode == Mode::Terminal {
            shared.screen.waiting(cell, wait);
            shared.dirty = true;
            self.changed.notify_one();
        }
    }

    fn progress(&self, cell: &Cell, bytes_done: u64, bytes_total: u64) {
        let mut shared = lock(&self.shared);
        if shared.mode == Mode::Terminal {
            shared.screen.progress(cell, bytes_done, bytes_total);
            self.wake(&mut shared);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_lines(data: &[String], notes: &[String]) {
    if !data.is_empty() {
        // A reader that went away does not end the run: its record is complete without it.
        let _ = io::stdout().lock().write_all((data.join("\n") + "\n").as_bytes());
        let _ = io::stdout().flush();
    }
    if !notes.is_empty() {
        let _ = io::stderr().lock().write_all((notes.join("\n") + "\n").as_bytes());
    }
}

/// The bytes that turn what is on the terminal into what it should show now.
fn frame(shared: &mut Shared, now_ms: u64) -> Vec<u8> {
    let (columns, rows) = output::terminal_size().unwrap_or((80, 24));
    // The last column stays free: some terminals wrap when it is written.
    let lines = shared.screen.lines(columns.saturating_sub(1).max(20), rows.saturating_sub(1).max(3), now_ms);
    let bytes = redraw(&shared.frame.lines, shared.frame.columns, &lines, columns);
    shared.frame.lines = lines;
    shared.frame.columns = columns;
    bytes
}

/// The cursor stands at the beginning of the line below the last frame; it stands there again afterwards.
fn redraw(old: &[String], old_columns: usize, new: &[String], columns: usize) -> Vec<u8> {
    // The terminal shows the whole frame at once, where it knows how.
    let mut out = String::from("\x1b[?2026h");
    if old_columns != columns && old_columns != 0 {
        // Lines that are longer than the terminal is wide now were wrapped by it.
        let rows: usize = old.iter().map(|line| visible(line).div_ceil(columns.max(1)).max(1)).sum();
        out.push_str(&up(rows));
        out.push_str("\r\x1b[J");
        for line in new {
            out.push_str(line);
            out.push_str("\r\n");
        }
    } else {
        out.push_str(&up(old.len()));
        for (i, line) in new.iter().enumerate() {
            if old.get(i) != Some(line) {
                out.push_str("\r\x1b[2K");
                out.push_str(line);
            }
            out.push_str("\r\n");
        }
        if new.len() < old.len() {
            out.push_str("\x1b[J");
        }
    }
    out.push_str("\x1b[?2026l");
    out.into_bytes()
}

fn up(rows: usize) -> String {
    if rows == 0 { String::new() } else { format!("\x1b[{rows}A") }
}

/// Columns that a painted line takes.
fn visible(line: &str) -> usize {
    let mut plain = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            for c in chars.by_ref() {
                if c.is_ascii_alphabetic() {
                    break;
                }
            }
        } else {
            plain.push(c);
        }
    }
    width(&plain)
}

fn erase(frame: &mut Frame) {
    if !frame.lines.is_empty() {
        let text = format!("{}\r\x1b[J", up(frame.lines.len()));
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
    *frame = Frame { drawn_ms: frame.drawn_ms, ..Frame::default() };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// A terminal that knows the few movements that are used.
    struct Terminal {
        rows: Vec<String>,
        row: usize,
        written: usize,
    }

    impl Terminal {
        fn take(&mut self, bytes: &[u8]) {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            let mut chars = text.chars().peekable();
            while let Some(c) = chars.next() {
                match c {
                    '\r' => {}
                    '\n' => self.row += 1,
                    '\x1b' => {
                        let mut number = String::new();
                        chars.next();
                        let end = loop {
                            match chars.next().unwrap() {
                                c if c.is_ascii_alphabetic() => break c,
                                c => number.push(c),
                            }
                        };
                        match (end, number.as_str()) {
                            ('A', n) => self.row -= n.parse::<usize>().unwrap(),
                            ('K', "2") => self.rows[self.row].clear(),
                            ('J', "") => self.rows[self.row..].iter_mut().for_each(String::clear),
                            ('h' | 'l', "?2026") => {}
                            other => panic!("unknown movement {other:?}"),
                        }
                    }
                    c => {
                        self.rows[self.row].push(c);
                        self.written += 1;
                    }
                }
            }
        }
    }

    #[test]
    fn a_frame_replaces_the_one_before_and_writes_only_what_changed() {
        let mut terminal = Terminal { rows: vec![String::new(); 10], row: 0, written: 0 };
        let frames = [
            lines(&["head 0:01", "fs01 waiting", "fs02 waiting"]),
            lines(&["head 0:02", "fs01 prechecks", "fs02 waiting", "foot"]),
            lines(&["head 0:03", "fs01 prechecks"]),
            lines(&["head 0:03", "fs01 prechecks"]),
        ];
        let mut before: &[String] = &[];
        for frame in &frames {
            terminal.written = 0;
            terminal.take(&redraw(before, if before.is_empty() { 0 } else { 80 }, frame, 80));
            assert_eq!(&terminal.rows[..frame.len()], frame.as_slice());
            assert!(terminal.rows[frame.len()..].iter().all(String::is_empty));
            assert_eq!(terminal.row, frame.len());
            before = frame;
        }
        assert_eq!(terminal.written, 0, "the same frame again writes nothing");
    }

    #[test]
    fn a_narrower_terminal_is_cleared_of_the_lines_that_it_wrapped() {
        let old = lines(&["x".repeat(70).as_str(), "short"]);
        let mut terminal = Terminal { rows: vec![String::new(); 10], row: 3, written: 0 };
        // 70 columns take two rows of 40, so the frame is three rows high now.
        terminal.rows[0] = "x".repeat(40);
        terminal.rows[1] = "x".repeat(30);
        terminal.rows[2] = "short".into();
        let new = lines(&["y"]);
        terminal.take(&redraw(&old, 80, &new, 40));
        assert_eq!(terminal.rows[0], "y");
        assert!(terminal.rows[1..].iter().all(String::is_empty));
    }

    #[test]
    fn colours_take_no_columns() {
        assert_eq!(visible(&Palette::Ansi.paint(runbook_report::style::Tone::Bad, "four")), 4);
    }
}
