//! PowerShell. There is none here to try: this follows the quoting rules in its documentation (about_Quoting_Rules,
//! about_Parsing), and refuses where the meaning depends on more than the text.

use super::Refusal;

/// What is open, innermost last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Frame {
    /// `'…'`.
    Single,
    /// `"…"`.
    Double,
    /// `@'…'@`; says whether a line just began.
    HereSingle,
    /// `@"…"@`.
    HereDouble,
    /// `$(…)`, with how many parentheses are open inside.
    Sub(u32),
    /// `${…}`.
    Variable,
    /// `# …` to the end of the line.
    Comment,
    /// `<# … #>`.
    BlockComment,
    /// After `--%`, to the end of the line.
    StopParsing,
}

/// The lexer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Powershell {
    open: Vec<Frame>,
    /// After a backtick.
    escape: bool,
    /// A quote inside a string of the same kind: it ends it, unless it comes twice.
    ending: bool,
    /// The last character, none at the beginning.
    last: Option<char>,
    /// The word so far (its first characters are enough), as far as it is plain text.
    word: String,
    /// Right after a value.
    after_value: bool,
    /// Too clever to follow from here on.
    lost: Option<Refusal>,
    pub(super) complaint: Option<Refusal>,
}

fn single(c: char) -> bool {
    matches!(c, '\'' | '\u{2018}'..='\u{201B}')
}

fn double(c: char) -> bool {
    matches!(c, '"' | '\u{201C}'..='\u{201E}')
}

/// Ends a word wherever it stands.
fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, ';' | '|' | '&' | '(' | ')' | '{' | '}' | ',' | '<' | '>')
}

impl Powershell {
    pub(super) fn feed(&mut self, c: char) {
        if self.lost.is_some() {
            return;
        }
        if std::mem::take(&mut self.after_value) && (!ends_word(c) || matches!(c, '(' | '{' | '<')) {
            self.complaint = Some("must end a word in PowerShell: put a space, or join texts as in ('a' + $b)");
        }
        if std::mem::take(&mut self.ending) {
            let again = match self.open.last() {
                Some(Frame::Single) => single(c),
                _ => double(c),
            };
            if again {
                self.last = Some(c);
                return;
            }
            self.open.pop();
        }
        let last = self.last.replace(c);
        if c == '$' && last == Some('$') && !matches!(self.open.last(), Some(Frame::Single | Frame::HereSingle)) {
            self.lost = Some("stands after $$, which cannot be followed");
            return;
        }
        if std::mem::take(&mut self.escape) {
            self.word.push('`');
            // An escaped character never begins or ends anything.
            self.last = Some('`');
            return;
        }
        match self.open.last().copied() {
            Some(Frame::Single) => self.ending = single(c),
            Some(Frame::Double) => match c {
                '`' => self.escape = true,
                '(' if last == Some('$') => self.open.push(Frame::Sub(0)),
                '{' if last == Some('$') => self.open.push(Frame::Variable),
                c => self.ending = double(c),
            },
            Some(Frame::HereSingle) => self.here(c, last, single),
            Some(Frame::HereDouble) => match c {
                '`' => self.escape = true,
                '(' if last == Some('$') => self.open.push(Frame::Sub(0)),
                c => self.here(c, last, double),
            },
            Some(Frame::Variable) => match c {
                '`' => self.escape = true,
                '}' => self.close(),
                _ => {}
            },
            Some(Frame::Comment) => {
                if c == '\n' {
                    self.close();
                }
            }
            Some(Frame::BlockComment) => {
                if c == '>' && last == Some('#') {
                    self.close();
                }
            }
            Some(Frame::StopParsing) => match c {
                '\n' => self.close(),
                '|' | '&' => self.lost = Some("stands after --% and a pipe, where quoting cannot be followed"),
                _ => {}
            },
            Some(Frame::Sub(_)) | None => self.code(c, last),
        }
    }

    fn close(&mut self) {
        self.open.pop();
        self.word.clear();
    }

    /// Inside a here-string: it ends with its quote at the beginning of a line, and `@`.
    fn here(&mut self, c: char, last: Option<char>, quote: fn(char) -> bool) {
        // The line's first character is kept in `word`.
        if c == '\n' {
            self.word = "\n".into();
        } else if self.word == "\n" && quote(c) {
            self.word = "\n'".into();
        } else if self.word == "\n'" && c == '@' && last.is_some_and(quote) {
            self.close();
        } else {
            self.word.clear();
        }
    }

    /// Outside strings and comments.
    fn code(&mut self, c: char, last: Option<char>) {
        if self.word == "--%" && c.is_whitespace() {
            self.word.clear();
            if c != '\n' {
                self.open.push(Frame::StopParsing);
            }
            return;
        }
        match c {
            '`' => {
                self.escape = true;
                return;
            }
            '#' if last == Some('<') => {
                self.open.push(Frame::BlockComment);
                // `<#>` does not close it.
                self.last = None;
            }
            '#' => match last {
                _ if self.word.is_empty() && last.is_none_or(ends_word) => self.open.push(Frame::Comment),
                // A word that is plain text goes on with `#`; after anything else it may begin a comment.
                _ if self.word.starts_with(|c: char| c.is_ascii_alphabetic())
                    && self.word.chars().all(|c| c.is_ascii_alphanumeric() || "._/\\:-#".contains(c)) => {}
                _ => self.lost = Some("stands after a # that may or may not begin a comment"),
            },
            '(' if last == Some('$') => self.open.push(Frame::Sub(0)),
            '{' if last == Some('$') => self.open.push(Frame::Variable),
            '(' => {
                if let Some(Frame::Sub(depth)) = self.open.last_mut() {
                    *depth += 1;
                }
            }
            ')' => match self.open.last_mut() {
                Some(Frame::Sub(0)) => {
                    self.open.pop();
                }
                Some(Frame::Sub(depth)) => *depth -= 1,
                _ => {}
            },
            c if single(c) && last == Some('@') => self.open.push(Frame::HereSingle),
            c if double(c) && last == Some('@') => self.open.push(Frame::HereDouble),
            c if single(c) => self.open.push(Frame::Single),
            c if double(c) => self.open.push(Frame::Double),
            _ => {}
        }
        if ends_word(c) {
            self.word.clear();
        } else if self.word.len() < 64 {
            self.word.push(c);
        }
        if matches!(self.open.last(), Some(Frame::HereSingle | Frame::HereDouble)) {
            self.word.clear();
        }
    }

    pub(super) fn value(&mut self) -> Result<(), Refusal> {
        if let Some(lost) = self.lost {
            return Err(lost);
        }
        if self.after_value {
            return Err("touches another value; put a space between, or join texts as in ('a' + $b)");
        }
        if self.ending {
            return Err("touches a quoted text");
        }
        if self.escape {
            return Err("stands after a backtick, which takes the meaning from its opening quote");
        }
        match self.open.last() {
            None | Some(Frame::Sub(_)) => {}
            Some(Frame::Single) => return Err("stands inside single quotes"),
            Some(Frame::Double) => return Err("stands inside double quotes"),
            Some(Frame::HereSingle | Frame::HereDouble) => return Err("stands inside a here-string"),
            Some(Frame::Variable) => return Err("stands inside ${…}"),
            Some(Frame::Comment | Frame::BlockComment) => return Err("stands inside a comment"),
            Some(Frame::StopParsing) => return Err("stands after --%"),
        }
        if self.last.is_some_and(|c| matches!(c, '@' | '$' | '`' | '<') || single(c) || double(c)) || self.word == "--%"
        {
            return Err("touches a character that changes the meaning of its opening quote");
        }
        self.after_value = true;
        self.last = Some('x');
        self.word.push('\'');
        Ok(())
    }

    pub(super) fn verbatim(&mut self) {
        if self.after_value {
            self.complaint = Some("touches a value that is not quoted");
        }
        if std::mem::take(&mut self.ending) {
            self.open.pop();
        }
        self.escape = false;
        self.last = Some('x');
        self.word.push('\'');
    }
}
