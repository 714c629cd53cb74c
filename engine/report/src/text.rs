//! Text for terminals: escaped, measured, cut to a width.
//!
//! Whatever a host printed is data: a control character in it must never reach the terminal as one. Stored bytes are not
//! altered; only views go through here.

use runbook_model::event::Revision;
use runbook_model::origin::Origin;
use runbook_model::outcome::OutputRef;
use runbook_model::ticket::{Approval, HERE, Seen};

/// `bytes` as one line of visible text: invalid UTF-8 becomes U+FFFD, control characters (C0, DEL, C1), line and
/// paragraph separators and characters that change the direction of writing become escapes such as `\x1b` or `\u{202e}`.
pub fn escape_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_escaped(c, &mut out);
    }
    out
}

/// The same for text that may have several lines: line ends and tabs stay, a carriage return before a line end is dropped.
pub fn escape_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            '\r' if chars.peek() == Some(&'\n') => {}
            _ => push_escaped(c, &mut out),
        }
    }
    out
}

fn push_escaped(c: char, out: &mut String) {
    match c {
        '\t' => out.push_str("\\t"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        c if (c as u32) < 0x20 || c == '\u{7f}' => out.push_str(&format!("\\x{:02x}", c as u32)),
        c if is_hidden(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
        c => out.push(c),
    }
}

/// Controls beyond ASCII, separators, direction marks and invisible characters that can make text look like another.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Columns that `text` takes on a terminal: East Asian wide characters and emoji take two, combining marks none.
pub fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    match c as u32 {
        0x20..=0x7e => 1,
        0x300..=0x36f
        | 0x483..=0x489
        | 0x591..=0x5bd
        | 0x64b..=0x65f
        | 0x1ab0..=0x1aff
        | 0x1dc0..=0x1dff
        | 0x20d0..=0x20ff
        | 0xfe00..=0xfe0f
        | 0xfe20..=0xfe2f
        | 0xe0100..=0xe01ef => 0,
        0x1100..=0x115f
        | 0x231a..=0x231b
        | 0x23e9..=0x23ec
        | 0x2614..=0x2615
        | 0x26a1
        | 0x2705
        | 0x274c
        | 0x274e
        | 0x2753..=0x2755
        | 0x2757
        | 0x2b1b..=0x2b1c
        | 0x2b50
        | 0x2b55
        | 0x2e80..=0x303e
        | 0x3041..=0x33ff
        | 0x3400..=0x4dbf
        | 0x4e00..=0x9fff
        | 0xa000..=0xa4cf
        | 0xa960..=0xa97f
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// `text` in at most `columns`; what does not fit is replaced by one `…` at its end.
pub fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    if columns == 0 {
        return String::new();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = char_width(c);
        if used + w + 1 > columns {
            break;
        }
        used += w;
        out.push(c);
    }
    out.push('…');
    out
}

/// `text` in exactly `columns`: cut, or filled with spaces on the right.
pub fn fit(text: &str, columns: usize) -> String {
    let mut out = cut(text, columns);
    let used = width(&out);
    out.extend(std::iter::repeat_n(' ', columns - used));
    out
}

/// `text` broken at spaces into lines of at most `columns`; words longer than that are cut in two.
pub fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(8);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let mut word = word.to_owned();
        if !line.is_empty() && width(&line) + 1 + width(&word) <= columns {
            line.push(' ');
            line.push_str(&word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        while width(&word) > columns {
            let mut head = String::new();
            let mut used = 0;
            for c in word.chars() {
                if used + char_width(c) > columns {
                    break;
                }
                used += char_width(c);
                head.push(c);
            }
            word = word[head.len()..].to_owned();
            lines.push(head);
        }
        line = word;
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}

/// Elapsed time for people: `38ms`, `1.4s`, `12s`, `3m05s`, `2h07m`.
pub fn elapsed(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms}ms"),
        1..=9 => format!("{}.{}s", seconds, ms % 1000 / 100),
        10..=59 => format!("{seconds}s"),
        60..=3599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Where a runbook's file stood under version control.
pub fn revision(at: &Revision) -> String {
    let differs = if at.clean { "" } else { ", and files of the project differed from it" };
    format!("{} at commit {}{differs}", at.path, at.commit)
}

/// How a change stood.
pub fn change(seen: &Seen) -> String {
    let Seen { system, change, at_ms, .. } = seen;
    let approval = match change.approval {
        Approval::Approved => "approved",
        Approval::Awaited => "not approved",
        Approval::Rejected => "rejected",
    };
    let until = |ms: Option<u64>| ms.map_or_else(|| "any time".to_owned(), when);
    let dates = format!("from {} to {}", until(change.starts_ms), until(change.ends_ms));
    let place = if system == HERE { "of this project".to_owned() } else { format!("in {system}") };
    format!("{} {place}: {} ({approval}), {dates}; asked {}", change.key, change.state, when(*at_ms))
}

/// Where a part of the inventory came from, in a line.
pub fn origin(source: &Origin) -> String {
    let Origin { kind, from, hosts, asked_ms, withheld, .. } = source;
    let kind = if kind == "file" { String::new() } else { format!("{kind} ") };
    let withheld = if *withheld { "; it holds a password and is not kept" } else { "" };
    format!("{kind}{from}: {}, as of {}{withheld}", count(*hosts as usize, "host"), when(*asked_ms))
}

/// A running clock in whole seconds: `0:07`, `12:30`, `1:02:03`.
pub fn clock(ms: u64) -> String {
    let s = ms / 1000;
    if s < 3600 {
        format!("{}:{:02}", s / 60, s % 60)
    } else {
        format!("{}:{:02}:{:02}", s / 3600, s % 3600 / 60, s % 60)
    }
}

/// `1 host`, `2 hosts`.
pub fn count(n: usize, thing: &str) -> String {
    if n == 1 { format!("1 {thing}") } else { format!("{n} {thing}s") }
}

/// That not all of an output is kept, in a few words; `None` when all of it is.
pub fn part(output: &OutputRef) -> Option<String> {
    match &output.cut_off_by {
        Some(by) => Some(format!("cut off by {}: the rest never came", escape_line(by.as_bytes()))),
        None => output.truncated.then(|| "only head and tail are kept".to_owned()),
    }
}

/// `a`, `a and b`, `a, b and c`; beyond `most` the rest is counted.
pub fn list<T: AsRef<str>>(items: &[T], most: usize) -> String {
    let names: Vec<&str> = items.iter().map(AsRef::as_ref).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        names if names.len() <= most => {
            let (last, first) = names.split_last().expect("there are at least two");
            format!("{} and {last}", first.join(", "))
        }
        names => format!("{} and {} more", names[..most].join(", "), names.len() - most),
    }
}

/// Unix milliseconds of an RFC 3339 time; `None` when it is none.
pub fn parse_time(text: &str) -> Option<u64> {
    let time: jiff::Timestamp = text.parse().ok()?;
    u64::try_from(time.as_millisecond()).ok()
}

/// `2026-11-22 09:30:00 UTC` of Unix milliseconds.
pub fn when(unix_ms: u64) -> String {
    let text = runbook_model::units::rfc3339_ms(unix_ms);
    format!("{} {} UTC", &text[..10], &text[11..19])
}

/// `09:30:00` of Unix milliseconds, UTC.
pub fn time_of_day(unix_ms: u64) -> String {
    runbook_model::units::rfc3339_ms(unix_ms)[11..19].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left_in_a_line() {
        let hostile = b"\x1b]0;title\x07\x1b[2Jred\x00\r\n\xc2\x9b31m\xe2\x80\xaeevil\xff\x7f";
        let shown = escape_line(hostile);
        assert!(shown.chars().all(|c| !c.is_control() && !is_hidden(c)), "{shown:?}");
        assert_eq!(shown, "\\x1b]0;title\\x07\\x1b[2Jred\\x00\\r\\n\\u{9b}31m\\u{202e}evil\u{fffd}\\x7f");
    }

    #[test]
    fn several_lines_keep_line_ends_and_tabs_alone() {
        assert_eq!(escape_lines(b"a\tb\r\nc\rd\x1b[1m\n"), "a\tb\nc\\rd\\x1b[1m\n");
    }

    #[test]
    fn cut_text_never_takes_more_columns_than_allowed() {
        for text in ["", "plain", "日本語テキスト", "e\u{301}e\u{301}e\u{301}e\u{301}", "mixed 日本 text"] {
            for columns in 0..20 {
                assert!(width(&cut(text, columns)) <= columns, "{text} in {columns}");
                assert_eq!(width(&fit(text, columns)), columns, "{text} in {columns}");
            }
        }
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn wrapped_text_loses_no_word() {
        let text = "one two three aVeryLongWordThatDoesNotFitAnywhere four";
        for columns in 8..40 {
            let lines = wrap(text, columns);
            assert!(lines.iter().all(|line| width(line) <= columns), "{lines:?}");
            assert_eq!(lines.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn times_are_short() {
        assert_eq!([400, 1_450, 12_345, 185_000, 7_620_000].map(elapsed), ["400ms", "1.4s", "12s", "3m05s", "2h07m"]);
        assert_eq!([7_000, 750_000, 3_723_000].map(clock), ["0:07", "12:30", "1:02:03"]);
        assert_eq!(parse_time("2026-11-22T09:30:00.007Z"), Some(1_795_339_800_007));
        assert_eq!(when(1_795_339_800_007), "2026-11-22 09:30:00 UTC");
    }

    #[test]
    fn lists_read_like_sentences() {
        assert_eq!(list(&["a"], 3), "a");
        assert_eq!(list(&["a", "b", "c"], 3), "a, b and c");
        assert_eq!(list(&["a", "b", "c", "d", "e"], 3), "a, b, c and 2 more");
    }
}
