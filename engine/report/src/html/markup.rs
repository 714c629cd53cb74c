//! Pieces of HTML. Whatever came from outside goes through [`text`].

use runbook_model::units::rfc3339_ms;

use crate::style::Tone;
use crate::text::{escape_line, escape_lines};

/// One line of visible text.
pub(super) fn text(line: &str) -> String {
    escape(&escape_line(line.as_bytes()))
}

/// Bytes as visible lines.
pub(super) fn lines(bytes: &[u8]) -> String {
    escape(&escape_lines(bytes))
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// A part of an anchor: letters, digits, `-`, `_`; all else by its number.
pub(super) fn anchor(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!(".{byte:02x}"));
        }
    }
    out
}

/// The class of a tone.
pub(super) fn class(tone: Tone) -> &'static str {
    match tone {
        Tone::Good => "good",
        Tone::Warn | Tone::Active => "warn",
        Tone::Bad => "bad",
        Tone::Dim | Tone::Strong => "none",
    }
}

/// A word that says how something stands.
pub(super) fn badge(tone: Tone, words: &str) -> String {
    format!("<span class=\"badge {}\">{}</span>", class(tone), text(words))
}

/// A time, which stays on one line.
pub(super) fn when(unix_ms: u64) -> String {
    time(&rfc3339_ms(unix_ms))
}

/// The same as it is written.
pub(super) fn time(written: &str) -> String {
    format!("<span class=\"time\">{}</span>", text(written))
}

/// Where a record is told of. Each is to be there once in the page.
pub(super) fn record(seq: u64) -> String {
    format!("<span class=\"seq\" id=\"r-{seq}\">record {seq}</span>")
}

/// A link to where a record is told of.
pub(super) fn to_record(seq: u64) -> String {
    format!("<a class=\"seq\" href=\"#r-{seq}\">{seq}</a>")
}

/// A wide table or picture: it scrolls by itself on a narrow screen, and can be reached by keyboard.
pub(super) fn wide(label: &str, inner: &str) -> String {
    format!("<div class=\"scroll\" role=\"group\" aria-label=\"{}\" tabindex=\"0\">{inner}</div>\n", text(label))
}

/// A list of names and values; the values are HTML.
pub(super) fn facts(rows: &[(&str, String)]) -> String {
    let mut out = String::from("<dl>\n");
    for (name, value) in rows {
        out.push_str(&format!("<dt>{}</dt><dd>{value}</dd>\n", text(name)));
    }
    out.push_str("</dl>\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_markup() {
        assert_eq!(text("<script>&\"'\u{1b}[31m\u{202e}"), "&lt;script&gt;&amp;&quot;&#39;\\x1b[31m\\u{202e}");
        assert_eq!(lines(b"a\r\n<b>\tc\rd"), "a\n&lt;b&gt;\tc\\rd");
    }

    #[test]
    fn anchors_of_different_names_differ() {
        assert_eq!(anchor("data.probe"), "data.2eprobe");
        assert_ne!(anchor("a b"), anchor("a.20b"));
    }
}
