//! Where in a shell text a value may stand.
//!
//! A quoted value is one literal word only outside the author's own quotes, comments and here-documents. These small
//! lexers follow the literal text of a template and answer one question at each interpolation: is this such a place?
//! They are careful rather than complete: where shells differ, or where the text is too clever to follow, they say no,
//! and the author passes the value through `env` instead.
//!
//! A template with blocks can produce many texts. [`Lexers`] follows all of them at once as a set of states; a value
//! may stand where every one of them allows it.

mod cmd;
mod posix;
mod powershell;

use runbook_model::shell::ShellKind;

/// States that are followed at once; more than that and the text is too clever to follow.
const STATES_MAX: usize = 64;

/// Why a value may not stand here: a sentence without its subject, such as `stands inside double quotes`.
pub(super) type Refusal = &'static str;

/// The author's own quotes around a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Quotes {
    /// None: a quoted value is a word, or a part of one.
    #[default]
    None,
    /// `'…'`.
    Single,
    /// `"…"`.
    Double,
}

/// One shell's lexer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Lexer {
    Posix(posix::Posix),
    Powershell(powershell::Powershell),
    Cmd(cmd::Cmd),
}

impl Lexer {
    fn feed(&mut self, c: char) {
        match self {
            Lexer::Posix(lexer) => lexer.feed(c),
            Lexer::Powershell(lexer) => lexer.feed(c),
            Lexer::Cmd(lexer) => lexer.feed(c),
        }
    }

    fn value(&mut self) -> Result<Quotes, Refusal> {
        match self {
            Lexer::Posix(lexer) => lexer.value(),
            Lexer::Powershell(lexer) => lexer.value().map(|()| Quotes::None),
            Lexer::Cmd(lexer) => lexer.value().map(|()| Quotes::None),
        }
    }

    fn verbatim(&mut self) {
        match self {
            Lexer::Posix(lexer) => lexer.verbatim(),
            Lexer::Powershell(lexer) => lexer.verbatim(),
            Lexer::Cmd(lexer) => lexer.verbatim(),
        }
    }

    fn complaint(&self) -> Option<Refusal> {
        match self {
            Lexer::Posix(lexer) => lexer.complaint,
            Lexer::Powershell(lexer) => lexer.complaint,
            Lexer::Cmd(lexer) => lexer.complaint,
        }
    }
}

/// Every state in which the text so far may have left the shell's lexer.
#[derive(Debug, Clone)]
pub(super) struct Lexers {
    states: Vec<Lexer>,
    overflow: bool,
}

impl Lexers {
    /// At the beginning of a text for `shell`.
    pub(super) fn new(shell: ShellKind) -> Self {
        let state = match shell {
            ShellKind::Sh => Lexer::Posix(posix::Posix::new(false)),
            ShellKind::Bash => Lexer::Posix(posix::Posix::new(true)),
            ShellKind::Powershell => Lexer::Powershell(powershell::Powershell::default()),
            ShellKind::Cmd => Lexer::Cmd(cmd::Cmd::default()),
        };
        Self { states: vec![state], overflow: false }
    }

    /// Literal text. An error says that the text gives a value that stands before it another meaning.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Refusal> {
        for state in &mut self.states {
            for c in text.chars() {
                state.feed(c);
                if let Some(complaint) = state.complaint() {
                    return Err(complaint);
                }
            }
        }
        self.unite(Vec::new());
        Ok(())
    }

    /// A value. Says in which of the author's quotes it stands.
    pub(super) fn value(&mut self) -> Result<Quotes, Refusal> {
        if self.overflow {
            return Err("stands after more combinations of blocks than can be followed");
        }
        let mut all = None;
        for state in &mut self.states {
            let quotes = state.value()?;
            if *all.get_or_insert(quotes) != quotes {
                return Err("stands inside quotes or not, depending on a block before it");
            }
        }
        Ok(all.unwrap_or_default())
    }

    /// A value that is not quoted.
    pub(super) fn verbatim(&mut self) {
        self.states.iter_mut().for_each(Lexer::verbatim);
    }

    /// Both ways may have been taken. Says whether `other` brought a state that was not there yet.
    pub(super) fn join(&mut self, other: Lexers) -> bool {
        self.overflow |= other.overflow;
        self.unite(other.states)
    }

    fn unite(&mut self, more: Vec<Lexer>) -> bool {
        let mut seen: Vec<Lexer> = Vec::new();
        for state in self.states.drain(..) {
            if !seen.contains(&state) {
                seen.push(state);
            }
        }
        let before = seen.len();
        for state in more {
            if seen.len() >= STATES_MAX {
                self.overflow = true;
                break;
            }
            if !seen.contains(&state) {
                seen.push(state);
            }
        }
        self.states = seen;
        self.states.len() > before
    }
}
