//! Problems in files as a person sees them: the line, the place in it, what is wrong, what would be right.

use std::fmt::Write as _;

use runbook_lang::{Diagnostic, Severity, Span};
use runbook_report::Palette;
use runbook_report::style::Tone;
use runbook_report::text::{escape_line, width};

use crate::failure::{Failure, USAGE};
use crate::output::note;

/// Longer lines are shown around the place only.
const LINE_MAX: usize = 160;

/// One problem as text, with the line where it is.
pub(crate) fn text(problem: &Diagnostic, palette: Palette) -> String {
    let tone = match problem.severity {
        Severity::Error => Tone::Bad,
        Severity::Warning => Tone::Warn,
    };
    let head = format!("{}[{}]", problem.severity.name(), problem.code.name());
    let mut out = format!("{}: {}\n", palette.paint(tone, &head), escape_line(problem.message.as_bytes()));
    place(&mut out, &problem.span, None, tone, palette);
    for label in &problem.labels {
        place(&mut out, &label.span, Some(&label.message), Tone::Active, palette);
    }
    if let Some(help) = &problem.help {
        let mut lines = help.lines();
        let first = escape_line(lines.next().unwrap_or_default().as_bytes());
        let _ = writeln!(out, "  {} {first}", palette.paint(Tone::Active, "help:"));
        for line in lines {
            let _ = writeln!(out, "        {}", escape_line(line.as_bytes()));
        }
    }
    out
}

fn place(out: &mut String, span: &Span, message: Option<&str>, tone: Tone, palette: Palette) {
    let (line, column) = span.position();
    let (end_line, end_column) = span.end_position();
    let name = escape_line(span.source().name().as_bytes());
    let _ = writeln!(out, "  {} {name}:{line}:{column}", palette.paint(Tone::Dim, "-->"));
    let source = span.source().line(line).trim_end_matches(['\n', '\r']);
    if source.trim().is_empty() {
        return;
    }
    let before: String = source.chars().take(column - 1).collect();
    let marked: String = match end_line == line && end_column >= column {
        true => source.chars().skip(column - 1).take(end_column - column).collect(),
        false => source.chars().skip(column - 1).collect(),
    };
    let after: String = source.chars().skip(before.chars().count() + marked.chars().count()).collect();
    let mut before = escape_line(before.as_bytes());
    let marked = escape_line(marked.as_bytes());
    let mut shown = format!("{before}{marked}{}", escape_line(after.as_bytes()));
    if width(&shown) > LINE_MAX {
        // The beginning is left out when the place is far to the right.
        if width(&before) > LINE_MAX / 2 {
            let skip = before.chars().count() - LINE_MAX / 4;
            before = format!("…{}", before.chars().skip(skip).collect::<String>());
            shown = format!("{before}{marked}{}", escape_line(after.as_bytes()));
        }
        shown = runbook_report::text::cut(&shown, LINE_MAX);
    }
    let number = line.to_string();
    let bar = palette.paint(Tone::Dim, "|");
    let _ = writeln!(out, " {} {bar} {shown}", palette.paint(Tone::Dim, &number));
    let carets = "^".repeat(width(&marked).clamp(1, LINE_MAX.saturating_sub(width(&before)).max(1)));
    let told = message.map(|message| format!(" {}", escape_line(message.as_bytes()))).unwrap_or_default();
    let _ = writeln!(
        out,
        " {} {bar} {}{}{told}",
        " ".repeat(number.len()),
        " ".repeat(width(&before)),
        palette.paint(tone, &carets)
    );
}

/// Shows them all on standard error.
pub(crate) fn show(problems: &[Diagnostic], palette: Palette) {
    for problem in problems {
        note(text(problem, palette));
    }
}

/// How problems are told.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Tell {
    /// At once, each with its line.
    Shown(Palette),
    /// The first one, in the failure's sentence: a run goes on meanwhile, and has the terminal.
    InALine,
}

impl Tell {
    /// The failure that these problems in `what` are.
    pub(crate) fn failure(self, problems: &[Diagnostic], what: &str) -> Failure {
        let palette = match self {
            Tell::Shown(palette) => return failure(problems, what, palette),
            Tell::InALine => Palette::Plain,
        };
        let first = problems.iter().find(|problem| problem.severity == Severity::Error);
        let Some(first) = first else { return failure(problems, what, palette) };
        let (line, column) = first.span.position();
        Failure::new(first.code.name(), USAGE, format!("{what}:{line}:{column}: {}", first.message))
    }
}

/// Shows them, and the failure that ends the command.
pub(crate) fn failure(problems: &[Diagnostic], what: &str, palette: Palette) -> Failure {
    show(problems, palette);
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let first = problems.iter().find(|problem| problem.severity == Severity::Error);
    let code = first.map_or("RB0600", |problem| problem.code.name());
    let errors = if errors == 1 { "1 problem".to_owned() } else { format!("{errors} problems") };
    Failure::new(code, USAGE, format!("{what}: {errors}"))
}
