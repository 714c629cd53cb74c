//! Text from runbooks, inventories and hosts, made safe to show: nothing of it can move a cursor, change a colour,
//! reorder what stands beside it, or hide.

/// `text` on one line: control characters, line ends and invisible or direction-changing characters become escapes such
/// as `\n` and `\u{1b}`.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push(c, &mut out);
    }
    out
}

/// The lines of `text`, each safe; a tab becomes spaces to the next multiple of four.
pub(crate) fn lines(text: &str) -> Vec<String> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    body.split('\n')
        .map(|line| {
            let mut out = String::with_capacity(line.len());
            for c in line.strip_suffix('\r').unwrap_or(line).chars() {
                if c == '\t' {
                    let column = out.chars().count();
                    out.extend(std::iter::repeat_n(' ', 4 - column % 4));
                } else {
                    push(c, &mut out);
                }
            }
            out
        })
        .collect()
}

fn push(c: char, out: &mut String) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if hidden(c) => out.extend(c.escape_unicode()),
        c => out.push(c),
    }
}

/// C0, DEL and C1 controls; zero-width characters; line and paragraph separators; marks, embeddings and isolates of the
/// bidirectional algorithm; the byte-order mark; interlinear annotations; tag characters.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        let hostile = "a\u{1b}[31m\r\n\u{9b}2J\u{202e}b\u{200b}\u{7f}\u{0}";
        let shown = text(hostile);
        assert_eq!(shown, r"a\u{1b}[31m\r\n\u{9b}2J\u{202e}b\u{200b}\u{7f}\u{0}");
    }

    #[test]
    fn plain_words_of_any_language_stay() {
        assert_eq!(text("Größe 大きさ é 🙂"), "Größe 大きさ é 🙂");
    }

    #[test]
    fn lines_keep_their_indent() {
        assert_eq!(lines("if x\n\ty\r\n  z\n"), ["if x", "    y", "  z"]);
        assert_eq!(lines(""), [""]);
    }
}
