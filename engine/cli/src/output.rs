//! Standard output is data, standard error is for people.

use std::io::{self, IsTerminal as _, Write as _};

use runbook_report::Palette;
use serde::Serialize;

use crate::arguments::Color;
use crate::failure::{Failure, fault};

/// How to write to where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// For standard output.
    pub(crate) palette: Palette,
    /// For standard error.
    pub(crate) error_palette: Palette,
    /// Standard error is a terminal that understands cursor movements.
    pub(crate) live: bool,
    /// Somebody can be asked: standard input and standard error are a terminal.
    pub(crate) person: bool,
    columns: Option<usize>,
}

impl Output {
    /// As asked for and as the terminals are.
    pub(crate) fn new(color: Color) -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let palette = |terminal: bool| match color {
            Color::Always => Palette::Ansi,
            Color::Auto if terminal && !no_color && !dumb => Palette::Ansi,
            Color::Auto | Color::Never => Palette::Plain,
        };
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            palette: palette(out),
            error_palette: palette(err),
            live: err && !dumb,
            person: io::stdin().is_terminal() && err,
            columns: if out { terminal_size().map(|(columns, _)| columns) } else { None },
        }
    }

    /// Whether standard output is a terminal.
    pub(crate) fn terminal(self) -> bool {
        self.columns.is_some()
    }

    /// Columns for text on standard output: the terminal's, else 100.
    pub(crate) fn columns(self) -> usize {
        self.columns.unwrap_or(100).clamp(40, 200)
    }
}

/// Columns and rows of the terminal behind standard error, else standard output.
pub(crate) fn terminal_size() -> Option<(usize, usize)> {
    let size = |fd: &dyn Fn() -> rustix::io::Result<rustix::termios::Winsize>| fd().ok().filter(|size| size.ws_col > 0);
    let size = size(&|| rustix::termios::tcgetwinsize(io::stderr()))
        .or_else(|| size(&|| rustix::termios::tcgetwinsize(io::stdout())))?;
    Some((size.ws_col.into(), size.ws_row.into()))
}

/// Writes data. A reader that has gone away is no error of ours: the program ends quietly.
pub(crate) fn data(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::usage("RB0601", format!("standard output cannot be written: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Writes one document.
pub(crate) fn json(document: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(document).map_err(fault)?;
    text.push('\n');
    data(text)
}

/// Writes one line of JSON.
pub(crate) fn json_line(document: &impl Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string(document).map_err(fault)?;
    text.push('\n');
    data(text)
}

/// Writes to standard error. Nothing can be done when that fails.
pub(crate) fn note(text: impl AsRef<str>) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_ref().as_bytes());
    let _ = err.write_all(b"\n");
    let _ = err.flush();
}
