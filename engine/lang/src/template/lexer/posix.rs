//! POSIX sh and bash.
//!
//! `sh` may be dash, bash, busybox or ksh; where they read a text differently, the lexer says that it is lost, and
//! refuses every value after that point.

use super::{Quotes, Refusal};

/// What is open, innermost last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Frame {
    /// `'…'`; with `true` it is `$'…'` in sh, where not every shell takes backslashes the same way.
    Single(bool),
    /// `$'…'` in bash.
    AnsiC,
    /// `"…"`.
    Double,
    /// `` `…` ``, with the quotes in it counted: odd ones are read differently by shells.
    Backquote { single: bool, double: bool },
    /// `${…}`; says whether it stands inside double quotes.
    Brace(bool),
    /// `$((…))` or `((…))`, with how many parentheses are open; and after the first of the two that close it.
    Arithmetic { depth: u32, closing: bool },
    /// `$(…)`, with how many parentheses are open inside.
    Command(u32),
    /// `# …`.
    Comment,
    /// A here-document's body.
    Body { end: Heredoc, line: String },
}

/// A here-document whose `<<` was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heredoc {
    delimiter: String,
    strip_tabs: bool,
    quoted: bool,
    /// How many frames were open at its `<<`.
    level: usize,
}

/// The word after `<<`, while it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Delimiter {
    heredoc: Heredoc,
    quote: Option<char>,
    spaced: bool,
    begun: bool,
}

/// What stands right before this point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// A blank, a line end, or the beginning.
    Blank,
    /// `;`, `|`, `&`, `)`, `>`.
    Operator,
    /// `(` that is no expansion's.
    Paren,
    /// One `<`.
    Less,
    /// `$` that may begin an expansion.
    Dollar,
    /// `[` in a word.
    Bracket,
    /// Any other part of a word.
    Word,
}

/// The lexer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Posix {
    bash: bool,
    open: Vec<Frame>,
    last: Last,
    /// After a backslash.
    escape: bool,
    /// The word so far, when all of it is plain letters; its first characters are enough.
    word: String,
    /// The word before.
    previous: String,
    /// Here-documents whose bodies have not begun.
    pending: Vec<Heredoc>,
    delimiter: Option<Delimiter>,
    /// The author's quotes were opened right before this point.
    fresh: bool,
    /// A value filled the author's quotes so far, and they must close right after it.
    whole: Option<Refusal>,
    /// Inside `[[ … ]]`; says whether a value stands in it.
    test: Option<bool>,
    /// Too clever to follow from here on.
    lost: Option<Refusal>,
    pub(super) complaint: Option<Refusal>,
}

/// In `[[ … ]]` these evaluate their operands as arithmetic, which can run commands.
const ARITHMETIC_TESTS: [&str; 7] = ["-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v"];

impl Posix {
    pub(super) fn new(bash: bool) -> Self {
        Self {
            bash,
            open: Vec::new(),
            last: Last::Blank,
            escape: false,
            word: String::new(),
            previous: String::new(),
            pending: Vec::new(),
            delimiter: None,
            fresh: false,
            whole: None,
            test: None,
            lost: None,
            complaint: None,
        }
    }

    fn lose(&mut self, why: Refusal) {
        self.lost = Some(why);
    }

    pub(super) fn feed(&mut self, c: char) {
        if self.lost.is_some() {
            return;
        }
        self.fresh = false;
        if let Some(why) = self.whole.take()
            && !matches!((self.open.last(), c), (Some(Frame::Single(_)), '\'') | (Some(Frame::Double), '"'))
        {
            self.complaint = Some(why);
            return;
        }
        if self.delimiter.is_some() && self.read_delimiter(c) {
            return;
        }
        if c == '\n'
            && !self.pending.is_empty()
            && !matches!(self.open.last(), None | Some(Frame::Command(_) | Frame::Comment))
        {
            return self.lose("stands after a here-document that begins inside quotes");
        }
        match self.open.last().cloned() {
            None | Some(Frame::Command(_)) => self.code(c),
            Some(Frame::Single(doubtful)) => {
                if c == '\'' {
                    self.close();
                } else if c == '\\' && doubtful {
                    self.lose("stands after $'…' with a backslash, which not every sh reads the same way");
                }
            }
            Some(Frame::AnsiC) => match c {
                _ if std::mem::take(&mut self.escape) => {}
                '\\' => self.escape = true,
                '\'' => self.close(),
                _ => {}
            },
            Some(Frame::Double) => self.double(c),
            Some(Frame::Backquote { single, double }) => match c {
                _ if std::mem::take(&mut self.escape) => {}
                '\\' => self.escape = true,
                '`' if single || double => self.lose("stands after backquotes with odd quotes in them"),
                '`' => self.close(),
                '\'' => self.replace(Frame::Backquote { single: !single, double }),
                '"' => self.replace(Frame::Backquote { single, double: !double }),
                _ => {}
            },
            Some(Frame::Brace(quoted)) => self.brace(c, quoted),
            Some(Frame::Arithmetic { depth, closing }) => self.arithmetic(c, depth, closing),
            Some(Frame::Comment) => {
                if c == '\n' {
                    self.close();
                    self.code('\n');
                }
            }
            Some(Frame::Body { end, line }) => self.body(c, end, line),
        }
    }

    fn close(&mut self) {
        self.open.pop();
        self.last = Last::Word;
        self.taint();
    }

    fn replace(&mut self, frame: Frame) {
        *self.open.last_mut().expect("a frame is open") = frame;
    }

    fn push(&mut self, frame: Frame) {
        self.fresh = matches!(frame, Frame::Single(false) | Frame::Double);
        self.open.push(frame);
        self.last = Last::Word;
        self.taint();
    }

    /// The word is no plain word any more.
    fn taint(&mut self) {
        self.word.push('\'');
    }

    /// `$` and what follows it. Says whether `c` was taken.
    fn expansion(&mut self, c: char, quoted: bool) -> bool {
        if self.last != Last::Dollar {
            return false;
        }
        match c {
            '(' => self.push(Frame::Command(0)),
            '{' => self.push(Frame::Brace(quoted)),
            '[' => self.lose("stands after $[, which not every shell reads the same way"),
            // `$$` is the process's number; the second one begins nothing.
            '$' => self.last = Last::Word,
            _ => return false,
        }
        if c == '(' {
            // Remembered so that another `(` makes it arithmetic.
            self.last = Last::Paren;
            self.word.clear();
        }
        true
    }

    fn double(&mut self, c: char) {
        if std::mem::take(&mut self.escape) {
            self.last = Last::Word;
            return;
        }
        if self.expansion(c, true) {
            return;
        }
        let dollar = self.last == Last::Dollar;
        self.last = Last::Word;
        match c {
            '\\' if dollar => self.lose("stands after $ and a backslash, which cannot be followed"),
            '\\' => self.escape = true,
            '"' => self.close(),
            '`' => self.push(Frame::Backquote { single: false, double: false }),
            '$' => self.last = Last::Dollar,
            _ => {}
        }
    }

    fn brace(&mut self, c: char, quoted: bool) {
        if std::mem::take(&mut self.escape) {
            self.last = Last::Word;
            return;
        }
        if self.expansion(c, quoted) {
            return;
        }
        let dollar = self.last == Last::Dollar;
        self.last = Last::Word;
        match c {
            '\'' | '"' if quoted => {
                self.lose("stands after quotes inside \"${…}\", which not every shell reads the same way")
            }
            '\'' if dollar => self.lose("stands after $'…' inside ${…}"),
            '\'' => self.push(Frame::Single(false)),
            '"' => self.push(Frame::Double),
            '\\' if dollar => self.lose("stands after $ and a backslash, which cannot be followed"),
            '\\' => self.escape = true,
            '`' => self.push(Frame::Backquote { single: false, double: false }),
            '$' => self.last = Last::Dollar,
            '}' => self.close(),
            _ => {}
        }
    }

    fn arithmetic(&mut self, c: char, depth: u32, closing: bool) {
        if closing && c != ')' {
            return self.lose("stands after (( that is not closed by )); write ( ( for two groups");
        }
        if self.expansion(c, true) {
            return;
        }
        self.last = Last::Word;
        match c {
            '(' => self.replace(Frame::Arithmetic { depth: depth + 1, closing: false }),
            ')' if depth == 1 => self.close(),
            ')' => self.replace(Frame::Arithmetic { depth: depth - 1, closing: depth == 2 }),
            '$' => self.last = Last::Dollar,
            '\'' | '"' | '\\' | '#' | '`' => {
                self.lose("stands after ((…)) with quotes or # in it, which not every shell reads the same way");
            }
            _ => {}
        }
    }

    /// Outside all quotes.
    fn code(&mut self, c: char) {
        if std::mem::take(&mut self.escape) {
            match (c, self.last) {
                // A line continuation: as if nothing stood here.
                ('\n', Last::Dollar | Last::Less | Last::Paren) => {
                    self.lose("stands after a line that is continued in the middle of an operator");
                }
                ('\n', _) => {}
                _ => {
                    self.last = Last::Word;
                    self.taint();
                }
            }
            return;
        }
        if self.expansion(c, false) {
            return;
        }
        let last = self.last;
        match c {
            // What stands before a continued line stays what stands before.
            '\\' => self.escape = true,
            '\'' if last == Last::Dollar && self.bash => self.push(Frame::AnsiC),
            '\'' => self.push(Frame::Single(last == Last::Dollar)),
            '"' => self.push(Frame::Double),
            '`' => self.push(Frame::Backquote { single: false, double: false }),
            '#' if !matches!(last, Last::Word | Last::Dollar | Last::Bracket) => self.open.push(Frame::Comment),
            '$' => {
                self.last = Last::Dollar;
                self.taint();
            }
            '(' if last == Last::Paren => {
                // The first `(` was counted, or opened a `$(`.
                match self.open.last_mut() {
                    Some(Frame::Command(0)) => {
                        self.open.pop();
                    }
                    Some(Frame::Command(depth)) => *depth -= 1,
                    _ => {}
                }
                self.push(Frame::Arithmetic { depth: 2, closing: false });
            }
            '(' => {
                self.end_word();
                if let Some(Frame::Command(depth)) = self.open.last_mut() {
                    *depth += 1;
                }
                self.last = Last::Paren;
            }
            ')' => {
                self.end_word();
                match self.open.last_mut() {
                    Some(Frame::Command(0)) => {
                        if self.pending.iter().any(|heredoc| heredoc.level == self.open.len()) {
                            return self.lose("stands after $(…) that ends before its here-document");
                        }
                        self.close();
                    }
                    Some(Frame::Command(depth)) => {
                        *depth -= 1;
                        self.last = Last::Operator;
                    }
                    _ => self.last = Last::Operator,
                }
            }
            '<' if last == Last::Less => {
                self.last = Last::Operator;
                let heredoc =
                    Heredoc { delimiter: String::new(), strip_tabs: false, quoted: false, level: self.open.len() };
                self.delimiter = Some(Delimiter { heredoc, quote: None, spaced: false, begun: false });
            }
            '<' => {
                self.end_word();
                self.last = Last::Less;
            }
            ';' | '|' | '&' | '>' => {
                self.end_word();
                self.last = Last::Operator;
            }
            '\n' => {
                self.end_word();
                self.last = Last::Blank;
                self.previous.clear();
                if self.pending.iter().any(|heredoc| heredoc.level != self.open.len()) {
                    return self.lose("stands after a here-document that begins inside another command");
                }
                self.begin_body();
            }
            ' ' | '\t' => {
                self.end_word();
                self.last = Last::Blank;
            }
            '[' => {
                self.last = Last::Bracket;
                self.grow(c);
            }
            c => {
                self.last = Last::Word;
                self.grow(c);
            }
        }
    }

    fn grow(&mut self, c: char) {
        if self.word.len() < 16 {
            self.word.push(c);
        }
    }

    fn end_word(&mut self) {
        if self.word.is_empty() {
            return;
        }
        let word = std::mem::take(&mut self.word);
        match word.as_str() {
            "case" if !self.open.is_empty() => self.lose("stands after case inside $(…), where ) cannot be followed"),
            "[[" => self.test = Some(false),
            "]]" => self.test = None,
            word if self.test == Some(true) && ARITHMETIC_TESTS.contains(&word) => {
                self.complaint =
                    Some("is compared as a number inside [[ ]], which evaluates it as arithmetic; use [ ] instead");
            }
            _ => {}
        }
        self.previous = word;
    }

    /// The word after `<<`. Says whether `c` belongs to it.
    fn read_delimiter(&mut self, c: char) -> bool {
        let Some(delimiter) = &mut self.delimiter else { return false };
        if let Some(quote) = delimiter.quote {
            match c {
                c if c == quote => delimiter.quote = None,
                '\\' | '\n' => self.lose("stands after a here-document whose end cannot be followed"),
                c => delimiter.heredoc.delimiter.push(c),
            }
            return true;
        }
        match c {
            // `<<<`: a here-string, an ordinary word.
            '<' if !delimiter.begun => {
                self.delimiter = None;
                true
            }
            '-' if !delimiter.begun && !delimiter.spaced && !delimiter.heredoc.strip_tabs => {
                delimiter.heredoc.strip_tabs = true;
                true
            }
            ' ' | '\t' if !delimiter.begun => {
                delimiter.spaced = true;
                true
            }
            '\'' | '"' => {
                delimiter.begun = true;
                delimiter.heredoc.quoted = true;
                delimiter.quote = Some(c);
                true
            }
            '\\' | '$' | '`' => {
                self.lose("stands after a here-document whose end cannot be followed");
                true
            }
            ' ' | '\t' | '\n' | ';' | '|' | '&' | '<' | '>' | '(' | ')' => {
                if let Some(Delimiter { heredoc, begun: true, .. }) = self.delimiter.take() {
                    self.pending.push(heredoc);
                }
                self.last = Last::Blank;
                false
            }
            c => {
                delimiter.begun = true;
                delimiter.heredoc.delimiter.push(c);
                true
            }
        }
    }

    fn begin_body(&mut self) {
        if !self.pending.is_empty() {
            let end = self.pending.remove(0);
            self.open.push(Frame::Body { end, line: String::new() });
        }
    }

    fn body(&mut self, c: char, end: Heredoc, mut line: String) {
        if c != '\n' {
            line.push(c);
            return self.replace(Frame::Body { end, line });
        }
        let text = if end.strip_tabs { line.trim_start_matches('\t') } else { &line };
        if text == end.delimiter {
            self.open.pop();
            self.last = Last::Blank;
            self.word.clear();
            return self.begin_body();
        }
        if !end.quoted {
            let count = |c: char| line.chars().filter(|x| *x == c).count();
            let trailing = line.chars().rev().take_while(|c| *c == '\\').count();
            if trailing % 2 == 1 || count('(') != count(')') || count('{') != count('}') || count('`') % 2 == 1 {
                return self
                    .lose("stands after a here-document whose lines belong together in ways that shells differ in");
            }
        }
        self.replace(Frame::Body { end, line: String::new() });
    }

    /// In the author's own plain quotes a value is fine too: the quotes are closed before it and opened again after it.
    /// Not so where the quoted text is likely to be a program (single quotes, and what follows `-c` or `eval`): that
    /// program would read the value as its own syntax, so there the value must be all there is between the quotes.
    pub(super) fn value(&mut self) -> Result<Quotes, Refusal> {
        if let Some(lost) = self.lost {
            return Err(lost);
        }
        if self.delimiter.is_some() {
            return Err("stands where a here-document's end is named");
        }
        if self.escape {
            return Err("stands after a backslash, which takes the meaning from its opening quote");
        }
        let quotes = match self.open.last() {
            None | Some(Frame::Command(_)) => Quotes::None,
            Some(Frame::Single(false)) => {
                self.must_be_whole("stands inside single quotes, among text that another program may read as its own")?;
                Quotes::Single
            }
            Some(Frame::Double) => {
                let previous = self.previous.as_str();
                if previous == "eval" || (previous.starts_with('-') && previous.ends_with('c')) {
                    self.must_be_whole("stands inside a text that a shell reads once more")?;
                }
                Quotes::Double
            }
            Some(Frame::Single(true) | Frame::AnsiC) => return Err("stands inside $'…'"),
            Some(Frame::Backquote { .. }) => return Err("stands inside backquotes; use $(…)"),
            Some(Frame::Brace(_)) => return Err("stands inside ${…}"),
            Some(Frame::Arithmetic { .. }) => return Err("stands inside ((…)), which evaluates it"),
            Some(Frame::Comment) => return Err("stands inside a comment, which a line end in the value would end"),
            Some(Frame::Body { .. }) => return Err("stands inside a here-document, where quotes are text"),
        };
        match self.last {
            Last::Dollar => return Err("stands after $, which changes the meaning of its opening quote"),
            Last::Bracket => return Err("stands after [ in a word, which may evaluate it"),
            _ => {}
        }
        if let Some(has_value) = &mut self.test {
            if ARITHMETIC_TESTS.contains(&self.previous.as_str()) {
                return Err("is compared as a number inside [[ ]], which evaluates it as arithmetic; use [ ] instead");
            }
            *has_value = true;
        }
        self.last = Last::Word;
        self.taint();
        Ok(quotes)
    }

    /// Inside these quotes there may be nothing but this one value.
    fn must_be_whole(&mut self, why: Refusal) -> Result<(), Refusal> {
        if !self.fresh || self.whole.is_some() {
            return Err(why);
        }
        self.fresh = false;
        self.whole = Some(why);
        Ok(())
    }

    pub(super) fn verbatim(&mut self) {
        self.escape = false;
        if let Some(Frame::Body { line, .. }) = self.open.last_mut() {
            // The line is more than what is seen of it; it cannot be the end.
            line.push('\u{FFFD}');
            return;
        }
        if self.delimiter.is_some() {
            return self.lose("stands after a here-document whose end cannot be followed");
        }
        self.last = Last::Word;
        self.taint();
    }
}
