//! YAML text to a tree in which every key and value has its place.
//!
//! Built from the parser's events by hand, because what people need is every problem at once with its place, and the
//! words as they wrote them (`010`, `no`, `1.10`): what a plain word means is decided by whoever reads the field.
//! Bounded: at most [`NODES_MAX`] nodes with aliases expanded, [`DEPTH_MAX`] levels, [`ALIASES_MAX`] aliases.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use granit_parser::{ErrorKind, Event, Marker, Parser, ScalarStyle, StrInput, Tag};

use crate::codes::Code;
use crate::diagnostic::Diagnostic;
use crate::source::{Source, Span, Text};

/// Nodes in one runbook or action, aliases expanded. A runbook with 200 steps has about 5,000.
pub(crate) const NODES_MAX: usize = 100_000;
/// Nodes in one inventory: 20,000 hosts with ten keys each.
pub(crate) const INVENTORY_NODES_MAX: usize = 500_000;
/// Levels of nesting.
pub(crate) const DEPTH_MAX: usize = 64;
/// Uses of anchors in one file.
pub(crate) const ALIASES_MAX: usize = 200;

/// A value.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) content: Content,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A text; `plain` when nothing marks it as one (no quotes, no block, no `!!str`).
    Scalar { text: String, plain: bool },
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file, each key once.
    Mapping(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Text,
    pub(crate) value: Node,
    /// It came through `<<`, so an entry of the mapping's own replaces it.
    merged: bool,
}

impl Entry {
    pub(crate) fn new(key: Text, value: Node) -> Self {
        Self { key, value, merged: false }
    }
}

impl Node {
    /// Whether it is nothing: an absent value, `~` or `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar { text, plain: true } if is_null_word(text))
    }

    /// What it is, for messages.
    pub(crate) fn what(&self) -> String {
        match &self.content {
            Content::List(_) => "a list".into(),
            Content::Mapping(_) => "a mapping".into(),
            Content::Scalar { text, plain } => {
                if *plain && is_null_word(text) {
                    "nothing".into()
                } else {
                    format!("`{}`", shown(text))
                }
            }
        }
    }
}

fn is_null_word(word: &str) -> bool {
    matches!(word, "" | "~" | "null" | "Null" | "NULL")
}

/// A text for a message: its first line, not too long, control characters escaped.
pub(crate) fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(60).flat_map(visible).collect();
    if short.len() < text.trim_end().len() {
        short.push('…');
    }
    short
}

fn visible(c: char) -> Vec<char> {
    if is_unseen(c) { c.escape_default().collect() } else { vec![c] }
}

/// A control character, or a mark that turns the direction of text around on a terminal.
pub(crate) fn is_unseen(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
}

/// The bytes of a file, but never more than `bytes_max` ([`crate::FILE_BYTES_MAX`], [`crate::INVENTORY_BYTES_MAX`]): a file
/// that is larger is not read to its end.
///
/// # Errors
/// The file cannot be read, or is too large.
pub fn load(name: &str, reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, Diagnostic> {
    let mut bytes = Vec::new();
    let source = Source::new(name, "");
    let start = Span::start_of(&source);
    match reader.take(bytes_max as u64 + 1).read_to_end(&mut bytes) {
        Err(error) => Err(Diagnostic::error(Code::Unreadable, &start, format!("the file cannot be read: {error}"))),
        Ok(_) if bytes.len() > bytes_max => Err(too_large(&start, bytes_max)),
        Ok(_) => Ok(bytes),
    }
}

fn too_large(start: &Span, bytes_max: usize) -> Diagnostic {
    Diagnostic::error(Code::TooLarge, start, format!("the file is larger than {} MiB", bytes_max >> 20))
        .help("a runbook, inventory or action is a text of a few kilobytes; is this the right file?")
}

/// The text of `bytes`: size and encoding checked.
pub(crate) fn source(name: &str, bytes: &[u8], bytes_max: usize) -> Result<Arc<Source>, Box<Diagnostic>> {
    let empty = || Span::start_of(&Source::new(name, ""));
    if bytes.len() > bytes_max {
        return Err(Box::new(too_large(&empty(), bytes_max)));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Source::new(name, text)),
        Err(error) => {
            let at = error.valid_up_to();
            let readable = std::str::from_utf8(&bytes[..at]).expect("checked up to here");
            let wide = bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF");
            let source = Source::new(name, format!("{readable}\u{FFFD}"));
            let end = source.text().len();
            let span = Span::new(&source, end - '\u{FFFD}'.len_utf8()..end);
            let problem = Diagnostic::error(
                Code::NotUtf8,
                &span,
                format!("the file is not UTF-8: byte 0x{:02x} at offset {at}", bytes[at]),
            );
            Err(Box::new(problem.help(if wide {
                "the file looks like UTF-16; save it as UTF-8"
            } else {
                "save the file as UTF-8"
            })))
        }
    }
}

/// The one document of `source`. Problems that leave a tree (a key twice) are added to `problems`.
pub(crate) fn tree(source: &Arc<Source>, nodes_max: usize, problems: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut options = granit_parser::options! {
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
        disallow_directives: true,
        emit_unresolved_aliases: true,
    };
    options.set_emit_comments(false);
    let parser = Parser::with_options(StrInput::new(source.text()), options);
    let mut builder =
        Builder { source, problems, open: Vec::new(), anchors: BTreeMap::new(), nodes: 0, nodes_max, aliases: 0 };
    let mut root = None;
    let mut documents = 0;
    for event in parser {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                let problem = builder.syntax(error.kind(), error.marker());
                builder.problems.push(problem);
                return None;
            }
        };
        if let Event::DocumentStart(..) = event {
            documents += 1;
            if documents == 2 {
                let place = builder.span(&span);
                builder.problems.push(
                    Diagnostic::error(Code::Documents, &place, "a second document begins here")
                        .help("one file holds one document; put the other one into a file of its own"),
                );
                return None;
            }
            continue;
        }
        match builder.event(event, &span) {
            Ok(Some(node)) => root = Some(node),
            Ok(None) => {}
            Err(problem) => {
                builder.problems.push(*problem);
                return None;
            }
        }
    }
    match root {
        Some(node) if !node.is_null() => Some(node),
        _ => {
            problems.push(
                Diagnostic::error(Code::Documents, &Span::start_of(source), "the file is empty")
                    .help("a file begins with its schema, for example `schema: runbook/v1`"),
            );
            None
        }
    }
}

enum Open {
    List { anchor: usize, start: usize, items: Vec<Node> },
    Mapping { anchor: usize, start: usize, entries: Entries, key: Option<Key> },
}

/// Entries in the order of the file, and where each key is.
#[derive(Default)]
struct Entries {
    list: Vec<Entry>,
    index: BTreeMap<String, usize>,
}

/// A key that waits for its value.
enum Key {
    Good(Text, bool),
    /// It was reported; its value is dropped.
    Bad,
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    problems: &'a mut Vec<Diagnostic>,
    open: Vec<Open>,
    /// By the parser's number; a node and how many nodes are in it.
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    nodes_max: usize,
    aliases: usize,
}

impl Builder<'_> {
    fn offset(&self, marker: &Marker) -> usize {
        marker.byte_offset().unwrap_or_else(|| {
            let start = self.source.line_start(marker.line());
            let line = &self.source.text()[start..];
            start + line.char_indices().nth(marker.col()).map_or(line.len(), |(i, _)| i)
        })
    }

    fn span(&self, span: &granit_parser::Span) -> Span {
        let (start, mut end) = (self.offset(&span.start), self.offset(&span.end));
        // A block's end is where the next token begins; its own text ends before that.
        let text = &self.source.text()[start.min(end)..end];
        end = start + text.trim_end().len();
        Span::new(self.source, start..end.max(start))
    }

    fn event(&mut self, event: Event<'_>, span: &granit_parser::Span) -> Result<Option<Node>, Box<Diagnostic>> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_text = self.is_text_tag(tag.as_deref(), span)?;
                let plain = style == ScalarStyle::Plain && !is_text;
                let node = Node { span: self.span(span), content: Content::Scalar { text: text.into_owned(), plain } };
                self.count(1, &node.span)?;
                self.keep(anchor, &node, 1)?;
                self.add(node)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), span)?;
                self.deeper(span)?;
                let start = self.offset(&span.start);
                self.open.push(Open::List { anchor, start, items: Vec::new() });
                Ok(None)
            }
            Event::MappingStart(_, anchor, tag) => {
                self.is_text_tag(tag.as_deref(), span)?;
                self.deeper(span)?;
                let start = self.offset(&span.start);
                self.open.push(Open::Mapping { anchor, start, entries: Entries::default(), key: None });
                Ok(None)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(span),
            Event::Alias(anchor) => {
                let place = self.span(span);
                self.aliases += 1;
                if self.aliases > ALIASES_MAX {
                    return Err(Box::new(too_complex(&place, &format!("more than {ALIASES_MAX} aliases"))));
                }
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(Box::new(
                        Diagnostic::error(Code::Syntax, &place, "this alias stands inside the value that it names")
                            .help("a value cannot contain itself"),
                    ));
                };
                self.count(size, &place)?;
                self.add(node)
            }
            Event::UnresolvedAlias(name) => {
                let place = self.span(span);
                Err(Box::new(
                    Diagnostic::error(Code::Syntax, &place, format!("no anchor `&{}` before this alias", shown(&name)))
                        .help("a text that begins with `*` must be in quotes"),
                ))
            }
            _ => Ok(None),
        }
    }

    fn is_text_tag(&self, tag: Option<&Tag>, span: &granit_parser::Span) -> Result<bool, Box<Diagnostic>> {
        match tag.map(ToString::to_string).as_deref() {
            None | Some("!!map" | "!!seq" | "tag:yaml.org,2002:map" | "tag:yaml.org,2002:seq") => Ok(false),
            Some("!!str" | "!" | "tag:yaml.org,2002:str") => Ok(true),
            Some(other) => {
                let start = span.tag_start.as_ref().unwrap_or(&span.start);
                let start = self.offset(start);
                let length = self.source.text()[start..].find(char::is_whitespace).unwrap_or(1);
                let place = Span::new(self.source, start..start + length);
                let shown = shown(if place.text().is_empty() { other } else { place.text() });
                Err(Box::new(
                    Diagnostic::error(Code::Syntax, &place, format!("the tag `{shown}` means nothing here"))
                        .help("leave the tag out; a text that begins with `!` must be in quotes"),
                ))
            }
        }
    }

    fn deeper(&mut self, span: &granit_parser::Span) -> Result<(), Box<Diagnostic>> {
        let place = self.span(span);
        if self.open.len() >= DEPTH_MAX {
            return Err(Box::new(too_complex(&place, &format!("nested more than {DEPTH_MAX} levels deep"))));
        }
        self.count(1, &place)
    }

    fn count(&mut self, nodes: usize, place: &Span) -> Result<(), Box<Diagnostic>> {
        self.nodes += nodes;
        if self.nodes > self.nodes_max {
            return Err(Box::new(too_complex(
                place,
                &format!("more than {} values, aliases expanded", self.nodes_max),
            )));
        }
        Ok(())
    }

    /// Keeps an anchored node; the copy counts, or nested anchors would multiply.
    fn keep(&mut self, anchor: usize, node: &Node, size: usize) -> Result<(), Box<Diagnostic>> {
        if anchor != 0 {
            self.count(size, &node.span)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(())
    }

    fn close(&mut self, span: &granit_parser::Span) -> Result<Option<Node>, Box<Diagnostic>> {
        let end = self.offset(&span.end);
        let place = |source: &Arc<Source>, start: usize| {
            let text = &source.text()[start..end.max(start)];
            Span::new(source, start..start + text.trim_end().len())
        };
        let (anchor, node) = match self.open.pop().expect("the parser closes only what it opened") {
            Open::List { anchor, start, items } => {
                (anchor, Node { span: place(self.source, start), content: Content::List(items) })
            }
            Open::Mapping { anchor, start, entries, .. } => {
                (anchor, Node { span: place(self.source, start), content: Content::Mapping(entries.list) })
            }
        };
        if anchor != 0 {
            let size = size(&node);
            self.keep(anchor, &node, size)?;
        }
        self.add(node)
    }

    fn add(&mut self, node: Node) -> Result<Option<Node>, Box<Diagnostic>> {
        match self.open.last_mut() {
            None => return Ok(Some(node)),
            Some(Open::List { items, .. }) => items.push(node),
            Some(Open::Mapping { entries, key, .. }) => match key.take() {
                None => {
                    *key = Some(match node.content {
                        Content::Scalar { text, plain } => Key::Good(Text::new(text, node.span), plain),
                        _ => {
                            self.problems.push(
                                Diagnostic::error(
                                    Code::Syntax,
                                    &node.span,
                                    "a key must be a word, not a list or mapping",
                                )
                                .help("a text that begins with `{{` must be in quotes"),
                            );
                            Key::Bad
                        }
                    });
                }
                Some(Key::Bad) => {}
                Some(Key::Good(key, true)) if key.value == "<<" => merge(entries, &key, node, self.problems),
                Some(Key::Good(key, _)) => add_entry(entries, Entry::new(key, node), self.problems),
            },
        }
        Ok(None)
    }

    fn syntax(&self, kind: &ErrorKind, marker: &Marker) -> Diagnostic {
        let at = self.offset(marker);
        let place = Span::new(self.source, at..at + 1);
        if let ErrorKind::RecursionLimitExceeded = kind {
            return too_complex(&place, &format!("nested more than {DEPTH_MAX} levels deep"));
        }
        let line = self.source.line(place.position().0);
        let indent = &line[..line.len() - line.trim_start().len()];
        if let Some(tab) = indent.find('\t') {
            let start = self.source.line_start(place.position().0) + tab;
            return Diagnostic::error(Code::Tab, &Span::new(self.source, start..start + 1), "a tab indents this line")
                .help("YAML is indented with spaces alone; replace the tab by spaces");
        }
        let problem = Diagnostic::error(Code::Syntax, &place, format!("this is not YAML: {kind}"));
        match kind {
            ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidColonPlacement => {
                problem.help("a text with `: ` in it must be in quotes; check the indentation of this line too")
            }
            ErrorKind::UnclosedQuotedScalar => problem.help("the closing quote is missing"),
            ErrorKind::UnclosedFlowCollection { open } => {
                problem.help(format!("the bracket that closes `{open}` is missing"))
            }
            ErrorKind::UnexpectedCharacter { character } => {
                problem.help(format!("a text that begins with `{character}` must be in quotes"))
            }
            ErrorKind::UnknownQuotedScalarEscape => {
                problem.help("write the text in single quotes, in which `\\` is an ordinary character")
            }
            ErrorKind::DirectiveDisallowed => problem.help("remove the line that begins with `%`"),
            _ => problem.help("check the indentation, the quotes and the brackets here and in the line before"),
        }
    }
}

fn too_complex(place: &Span, why: &str) -> Diagnostic {
    Diagnostic::error(Code::TooComplex, place, format!("the file is {}", why_phrase(why)))
        .help("no file that people write is like this; it was not read any further")
}

fn why_phrase(why: &str) -> String {
    if why.starts_with("more") { format!("too large inside: {why}") } else { why.to_owned() }
}

fn size(node: &Node) -> usize {
    1 + match &node.content {
        Content::Scalar { .. } => 0,
        Content::List(items) => items.iter().map(size).sum(),
        Content::Mapping(entries) => entries.iter().map(|entry| 1 + size(&entry.value)).sum(),
    }
}

fn add_entry(entries: &mut Entries, entry: Entry, problems: &mut Vec<Diagnostic>) {
    match entries.index.get(&entry.key.value) {
        None => {
            entries.index.insert(entry.key.value.clone(), entries.list.len());
            entries.list.push(entry);
        }
        Some(at) if entries.list[*at].merged => entries.list[*at] = entry,
        Some(_) if problems.len() >= crate::diagnostic::MOST => {}
        Some(at) => problems.push(
            Diagnostic::error(
                Code::DuplicateKey,
                &entry.key.span,
                format!("the key `{}` is here twice", shown(&entry.key.value)),
            )
            .label(&entries.list[*at].key.span, "it was here first")
            .help("remove one of the two"),
        ),
    }
}

/// `<<: *other`: the other mapping's entries, where this one has none of its own.
fn merge(entries: &mut Entries, key: &Text, node: Node, problems: &mut Vec<Diagnostic>) {
    let others = match node.content {
        Content::List(items) => items,
        _ => vec![node],
    };
    for other in others {
        match other.content {
            Content::Mapping(more) => {
                for entry in more {
                    add_merged(entries, entry);
                }
            }
            _ => problems.push(Diagnostic::error(
                Code::WrongType,
                &key.span,
                format!("`<<` takes a mapping (or a list of them), not {}", other.what()),
            )),
        }
    }
}

fn add_merged(entries: &mut Entries, entry: Entry) {
    if !entries.index.contains_key(&entry.key.value) {
        entries.index.insert(entry.key.value.clone(), entries.list.len());
        entries.list.push(Entry { merged: true, ..entry });
    }
}
