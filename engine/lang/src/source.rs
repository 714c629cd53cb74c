//! Where a piece of a file stands: every value that a document holds keeps its place, so that whoever finds a problem
//! later (the planner, the policy) can point at it.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use runbook_model::Sha256;

/// A file as it was read: its name for messages and its text (UTF-8, a BOM removed, line ends as they were).
pub struct Source {
    name: String,
    text: String,
    line_starts: Vec<usize>,
}

impl Source {
    /// A source called `name`. A byte order mark at the beginning of `text` is dropped.
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        let mut text: String = text.into();
        if text.starts_with('\u{FEFF}') {
            text.drain(..'\u{FEFF}'.len_utf8());
        }
        let line_starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1))
            .collect();
        Arc::new(Self { name: name.into(), text, line_starts })
    }

    /// The file's name as the user gave it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of the byte at `offset`, both from 1; the column counts characters. An offset behind the end
    /// or inside a character is taken back to the nearest one before it.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.line_starts.partition_point(|start| *start <= offset);
        (line, self.text[self.line_starts[line - 1]..offset].chars().count() + 1)
    }

    /// The line numbered `line` from 1, without its line end; empty when there is no such line.
    pub fn line(&self, line: usize) -> &str {
        let Some(start) = line.checked_sub(1).and_then(|line| self.line_starts.get(line)) else { return "" };
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        self.text[*start..end].trim_end_matches(['\n', '\r'])
    }

    /// The offset of the first byte of the line numbered `line` from 1.
    pub fn line_start(&self, line: usize) -> usize {
        self.line_starts.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    /// The digest of the text with every line end made `\n` and without a BOM: what a plan records of the file, the
    /// same wherever it was checked out.
    pub fn digest(&self) -> Sha256 {
        source_digest(self.text.as_bytes())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.name, self.text.len())
    }
}

/// The digest of what a YAML file says: of the canonical JSON of its keys and values, all of them texts. The order of
/// keys, comments, quotes, line ends and the layout do not matter. Of a file that is no YAML it is [`Source::digest`].
pub fn content_digest(source: &Arc<Source>) -> Sha256 {
    use crate::yaml::{Content, Node};
    fn value(node: &Node) -> serde_json::Value {
        match &node.content {
            Content::Scalar { text, .. } => text.replace("\r\n", "\n").into(),
            Content::List(items) => items.iter().map(value).collect(),
            Content::Mapping(entries) => entries
                .iter()
                .map(|entry| (entry.key.value.clone(), value(&entry.value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
    match crate::yaml::tree(source, usize::MAX, &mut Vec::new()) {
        Some(tree) => runbook_model::canonical::digest(&value(&tree)),
        None => source.digest(),
    }
}

/// The digest of `bytes` with a BOM removed and `\r\n` and lone `\r` made `\n`.
pub fn source_digest(bytes: &[u8]) -> Sha256 {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let mut plain = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        if bytes[i] == b'\r' {
            plain.push(b'\n');
            if bytes.get(i + 1) == Some(&b'\n') {
                i += 1;
            }
        } else {
            plain.push(bytes[i]);
        }
        i += 1;
    }
    Sha256::of(&plain)
}

/// A range of bytes of a source. Cheap to clone.
#[derive(Clone)]
pub struct Span {
    source: Arc<Source>,
    start: usize,
    end: usize,
}

impl Span {
    /// Bytes `range` of `source`, clamped to it and to the borders of characters.
    pub fn new(source: &Arc<Source>, range: Range<usize>) -> Self {
        let text = source.text();
        let mut start = range.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let mut end = range.end.clamp(start, text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        Self { source: source.clone(), start, end }
    }

    /// The beginning of `source`.
    pub fn start_of(source: &Arc<Source>) -> Self {
        Self::new(source, 0..0)
    }

    /// The file.
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// The bytes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The text of the range.
    pub fn text(&self) -> &str {
        &self.source.text()[self.range()]
    }

    /// Line and column of its beginning, from 1.
    pub fn position(&self) -> (usize, usize) {
        self.source.position(self.start)
    }

    /// Line and column just behind its end, from 1.
    pub fn end_position(&self) -> (usize, usize) {
        self.source.position(self.end)
    }

    /// The part of this span that became bytes `range` of `value`, a text that was read from it. Where quoting or
    /// folding makes that unclear it is the whole span.
    pub fn within(&self, value: &str, range: Range<usize>) -> Span {
        let whole = || self.clone();
        let written = self.text();
        let offset = |target: usize| -> Option<usize> {
            let (mut at, mut seen) = (0, 0);
            for c in value[..].chars() {
                // What stands in the file but not in the value: quotes, indentation, the mark of a block.
                while let Some(w) = written[at..].chars().next() {
                    if w == c {
                        break;
                    }
                    if !(w.is_whitespace() || matches!(w, '"' | '\'' | '\\' | '|' | '>' | '-' | '+')) {
                        return None;
                    }
                    at += w.len_utf8();
                }
                if seen >= target {
                    return (at < written.len()).then_some(at);
                }
                at += c.len_utf8();
                seen += c.len_utf8();
                if at > written.len() {
                    return None;
                }
            }
            (seen >= target).then_some(at.min(written.len()))
        };
        match (offset(range.start), offset(range.end)) {
            (Some(start), Some(end)) if start <= end => Span::new(&self.source, self.start + start..self.start + end),
            (Some(start), _) => Span::new(&self.source, self.start + start..self.start + start + 1),
            _ => whole(),
        }
    }
}

impl PartialEq for Span {
    fn eq(&self, other: &Self) -> bool {
        self.range() == other.range() && self.source.name == other.source.name
    }
}

impl Eq for Span {}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.position();
        write!(f, "{}:{line}:{column}", self.source.name)
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A value and where it was written. Two are equal when their values are.
#[derive(Clone)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub span: Span,
}

/// A text that people wrote; most may hold templates.
pub type Text = Spanned<String>;

impl<T> Spanned<T> {
    /// `value`, written at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// The same place with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: f(self.value), span: self.span }
    }
}

impl Spanned<String> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.value
    }

    /// Where bytes `range` of the value stand in the file.
    pub fn within(&self, range: Range<usize>) -> Span {
        self.span.within(&self.value, range)
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} @ {:?}", self.value, self.span)
    }
}
