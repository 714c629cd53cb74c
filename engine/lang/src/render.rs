//! Diagnostics as text for people: the place, the line with a mark under it, what would be right.

use std::fmt::Write as _;

use crate::codes::Code;
use crate::diagnostic::{Diagnostic, Severity};
use crate::source::Span;

/// Columns of a source line that are shown; longer lines are cut around the mark.
const WIDTH: usize = 100;

/// All of `diagnostics`, and how many there are.
pub fn text(diagnostics: &[Diagnostic], colour: bool) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&one(diagnostic, colour));
        out.push('\n');
    }
    let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
    let counts: Vec<String> = [(Severity::Error, "error"), (Severity::Warning, "warning")]
        .into_iter()
        .filter(|(severity, _)| count(*severity) > 0)
        .map(|(severity, word)| plural(count(severity), word))
        .collect();
    if !counts.is_empty() {
        let _ = writeln!(out, "{}", counts.join(", "));
    }
    out
}

/// One diagnostic.
///
/// ```text
/// error[RB0010]: a step of `execute` has no key `timout`
///   --> patch.yaml:14:5
///    |
/// 14 |     timout: 5m
///    |     ^^^^^^
///    = help: did you mean `timeout`?
/// ```
pub fn one(diagnostic: &Diagnostic, colour: bool) -> String {
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let tone = if diagnostic.severity == Severity::Error { "1;31" } else { "1;33" };
    let mut places: Vec<(&Span, &str, bool)> = vec![(&diagnostic.span, "", true)];
    // The same file first, in the order of its lines; other files after it.
    let mut labels: Vec<_> = diagnostic.labels.iter().collect();
    labels
        .sort_by_key(|label| (label.span.source().name() != diagnostic.span.source().name(), label.span.range().start));
    places.extend(labels.iter().map(|label| (&label.span, label.message.as_str(), false)));
    let gutter = places.iter().map(|(span, ..)| span.position().0.to_string().len()).max().unwrap_or(1);
    let bar = format!("{:gutter$} {}", "", paint("1;34", "|"));

    let mut out = String::new();
    let head = format!("{}[{}]", diagnostic.severity.name(), diagnostic.code);
    let _ = writeln!(out, "{}: {}", paint(tone, &head), paint("1", &visible(&diagnostic.message)));
    let _ = writeln!(out, "{:gutter$}{} {}", "", paint("1;34", "-->"), visible(&diagnostic.span.to_string()));
    // A secret that was written into the file is not written to the terminal too (logs of CI keep it).
    let conceal = diagnostic.code == Code::SecretExposed && !diagnostic.span.text().contains("{{");
    let has_text = |span: &Span| !conceal && !span.source().text().is_empty();
    if has_text(&diagnostic.span) {
        let _ = writeln!(out, "{bar}");
    }
    let mut file = diagnostic.span.source().name();
    for (span, message, main) in places {
        if span.source().name() != file {
            file = span.source().name();
            let _ = writeln!(out, "{:gutter$}{} {}", "", paint("1;34", ":::"), visible(&span.to_string()));
        }
        if !has_text(span) {
            continue;
        }
        let (line, column) = span.position();
        let (shown, column, length) = excerpt(span, column);
        let _ = writeln!(out, "{} {}", paint("1;34", &format!("{line:>gutter$} |")), shown);
        let mark = if main { "^" } else { "-" }.repeat(length);
        let note = if message.is_empty() { String::new() } else { format!(" {}", visible(message)) };
        let marked = paint(if main { tone } else { "1;34" }, &format!("{mark}{note}"));
        let _ = writeln!(out, "{bar} {:column$}{marked}", "");
    }
    if let Some(help) = &diagnostic.help {
        let _ = writeln!(out, "{:gutter$} {} {}", "", paint("1;34", "="), visible(&format!("help: {help}")));
    }
    out
}

/// The line of a span as it can be shown, the column of its mark from 0, and the mark's length.
fn excerpt(span: &Span, column: usize) -> (String, usize, usize) {
    let (line, _) = span.position();
    let text: Vec<char> = span.source().line(line).chars().collect();
    let start = (column - 1).min(text.len());
    let in_line = span.text().lines().next().unwrap_or_default().chars().count();
    let length = in_line.clamp(1, text.len().saturating_sub(start).max(1));
    // Show a window that holds the beginning of the mark.
    let from = if text.len() <= WIDTH || start < WIDTH * 2 / 3 { 0 } else { start - WIDTH / 3 };
    let to = text.len().min(from + WIDTH);
    let mut shown = String::new();
    let mut mark_at = 0;
    let mut mark_end = 0;
    if from > 0 {
        shown.push('…');
    }
    for (i, c) in text.iter().enumerate().take(to).skip(from) {
        if i == start {
            mark_at = shown.chars().count();
        }
        shown.push_str(&visible(&c.to_string()).replace('\t', "    "));
        if i < start + length {
            mark_end = shown.chars().count();
        }
    }
    if start >= to {
        mark_at = shown.chars().count();
    }
    if to < text.len() {
        shown.push('…');
    }
    (shown, mark_at, mark_end.saturating_sub(mark_at).max(1))
}

/// Control characters and marks that turn the direction of text are shown, not obeyed; a tab stays.
fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\t' && crate::yaml::is_unseen(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}
