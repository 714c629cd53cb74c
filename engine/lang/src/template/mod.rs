//! Texts with values in them (`{{param.package}}`): Handlebars, strict, and quoted for the shell where the text is a
//! command.
//!
//! The syntax is Handlebars', read by its own parser; a pass over what it read keeps the part that this language has
//! (see `parse`). Rendering is done here rather than by Handlebars, because a value's meaning depends on where it
//! stands: in a command it is quoted for the step's shell, lists become several words, secrets stay names. The promise
//! is that **a value can never become syntax**. For sh and bash that is proved against the real shells (property
//! tests); for PowerShell and cmd, which do not run where the tests do, against models of their documented rules.
//!
//! Used by validation ([`check`]), and by [`crate::evaluate`], which keeps compiled templates.

mod lexer;
mod names;
mod parse;
mod path;
mod render;
#[cfg(test)]
mod tests;

use std::fmt;

use runbook_model::shell::ShellKind;

pub use names::Names;
pub(crate) use names::{FACTS, nearest};
pub use parse::{NESTING_MAX, TEXT_BYTES_MAX};
pub(crate) use render::{Found, Output, Values, descend, secret_variable};

use lexer::Lexers;
use parse::{Condition, Node};
use path::{Base, Path};

/// Where a text stands, which decides what `{{x}}` becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A command for this shell: values are quoted, secrets become words that refer to the environment.
    Run(ShellKind),
    /// `env` and `stdin`: plain text, and secrets may be in it.
    Private,
    /// Any other text: plain, without secrets.
    Plain,
}

/// A place in a template's text, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The text cannot be used.
    Error,
    /// It can be used, and the author should look at it again.
    Warning,
}

/// Something wrong with a template or an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where in the text.
    pub position: Position,
    /// How bad.
    pub severity: Severity,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What was perhaps meant, to put in place of what is there.
    pub suggestion: Option<String>,
    /// What to do.
    pub help: Option<String>,
}

impl Problem {
    pub(crate) fn error(position: Position, message: impl Into<String>) -> Self {
        Self { position, severity: Severity::Error, message: message.into(), suggestion: None, help: None }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean {suggestion}?")?;
        }
        if let Some(help) = &self.help {
            write!(f, " ({help})")?;
        }
        Ok(())
    }
}

/// A name that a template or an expression uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// Its parts, such as `["param", "package"]`.
    pub path: Vec<String>,
    /// Where the block or value that uses it begins.
    pub position: Position,
    /// It stands in `{{{…}}}`.
    pub verbatim: bool,
    /// It is asked about (`if`, `each`), not written into the text.
    pub asked: bool,
}

/// A template that was read once and can be rendered often.
#[derive(Debug, Clone)]
pub struct CompiledTemplate {
    place: Place,
    nodes: Vec<Node>,
    references: Vec<Reference>,
}

impl CompiledTemplate {
    /// Reads a template. In a command, a value that stands where quoting cannot protect it (a comment, a here-document,
    /// arithmetic, in PowerShell and cmd also the author's own quotes) is an error here, whatever the value.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn new(source: &str, place: Place) -> Result<Self, Vec<Problem>> {
        let mut nodes = if source.contains("{{") { parse::parse(source)? } else { vec![Node::Text(source.to_owned())] };
        let mut problems = Vec::new();
        if let Place::Run(shell) = place {
            check_quoting(&mut nodes, &mut Lexers::new(shell), shell, &mut problems);
        }
        if !problems.is_empty() {
            problems.dedup();
            return Err(problems);
        }
        let mut references = Vec::new();
        collect(&nodes, &mut references);
        Ok(Self { place, nodes, references })
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The names that it uses, in order.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }
}

/// What is wrong with a template, as far as can be seen before a run. Empty when nothing is.
pub fn check(source: &str, place: Place, names: &Names) -> Vec<Problem> {
    let template = match CompiledTemplate::new(source, place) {
        Ok(template) => template,
        Err(problems) => return problems,
    };
    let mut problems = Vec::new();
    for reference in template.references() {
        let text = reference.path.join(".");
        if let Err(unknown) = names.check(&reference.path, reference.asked) {
            let mut problem = Problem::error(reference.position, unknown.message);
            problem.suggestion = unknown.suggestion;
            problems.push(problem);
        } else if names.is_secret(&reference.path) {
            if let Some(problem) = secret_problem(place, reference.verbatim, reference.asked, &text) {
                problems.push(Problem { position: reference.position, ..problem });
            }
        } else if reference.verbatim && matches!(place, Place::Run(_)) {
            problems.push(Problem {
                position: reference.position,
                severity: Severity::Warning,
                message: format!("{{{{{{{text}}}}}}} is put into the command as it is: its value can become syntax"),
                suggestion: None,
                help: Some(format!("write {{{{{text}}}}}, which is quoted for the shell")),
            });
        }
    }
    problems
}

/// Why a secret may not be used so, if it may not.
pub(crate) fn secret_problem(place: Place, verbatim: bool, asked: bool, name: &str) -> Option<Problem> {
    let at = Position { line: 1, column: 1 };
    if asked {
        return Some(Problem::error(at, format!("{name} is a secret; what a step does cannot depend on its value")));
    }
    match place {
        Place::Private => None,
        Place::Run(ShellKind::Cmd) => Some(
            Problem::error(at, format!("{name} is a secret, and cmd would read its value as syntax"))
                .help("use shell: powershell, or pass it in `stdin`"),
        ),
        Place::Run(_) if verbatim => {
            Some(Problem::error(at, format!("{name} is a secret and cannot be put into a command as it is")))
        }
        Place::Run(_) => None,
        Place::Plain => Some(
            Problem::error(at, format!("{name} is a secret; here it would be on a command line or in the record"))
                .help("secrets may be used in `run`, `env` and `stdin`"),
        ),
    }
}

/// Follows the text through the shell's quoting, and notes the quotes around each value.
fn check_quoting(nodes: &mut [Node], lexers: &mut Lexers, shell: ShellKind, problems: &mut Vec<Problem>) {
    let mut last_value: Option<(Position, String)> = None;
    for node in nodes {
        match node {
            Node::Text(text) => {
                if let Err(why) = lexers.text(text) {
                    let (position, name) =
                        last_value.clone().unwrap_or((Position { line: 1, column: 1 }, "a value".to_owned()));
                    problems.push(misplaced(position, &name, why, shell));
                    return;
                }
            }
            Node::Value(value) if value.verbatim => lexers.verbatim(),
            Node::Value(value) => {
                let name = format!("{{{{{}}}}}", value.path.text());
                match lexers.value() {
                    // A second round through an `each` may come from another place than the first.
                    Ok(quotes) if value.followed && value.quotes != quotes => {
                        let why = "stands inside quotes or not, depending on a block before it";
                        problems.push(misplaced(value.position, &name, why, shell));
                    }
                    Ok(quotes) => (value.quotes, value.followed) = (quotes, true),
                    Err(why) => problems.push(misplaced(value.position, &name, why, shell)),
                }
                last_value = Some((value.position, name));
            }
            Node::If { then, otherwise, .. } => {
                let mut other = lexers.clone();
                check_quoting(then, lexers, shell, problems);
                check_quoting(otherwise, &mut other, shell, problems);
                lexers.join(other);
            }
            Node::Each { body, otherwise, .. } => {
                let mut other = lexers.clone();
                check_quoting(otherwise, &mut other, shell, problems);
                // Until no more rounds bring a new state; the number of states is limited, so this ends.
                loop {
                    let mut round = lexers.clone();
                    let before = problems.len();
                    check_quoting(body, &mut round, shell, problems);
                    if !lexers.join(round) || problems.len() > before {
                        break;
                    }
                }
                lexers.join(other);
            }
        }
    }
}

fn misplaced(position: Position, name: &str, why: &str, shell: ShellKind) -> Problem {
    let problem = Problem::error(position, format!("{name} {why}"));
    let variable = if shell == ShellKind::Powershell { "$env:X" } else { "\"$X\"" };
    if shell == ShellKind::Powershell && why.contains(" quotes") {
        problem.help(format!("write it without the quotes: {name} is already quoted"))
    } else if shell == ShellKind::Cmd {
        problem.help("let it stand as a word of its own, or use shell: powershell")
    } else {
        problem.help(format!("pass it through `env: {{X: \"{name}\"}}` and write {variable}"))
    }
}

fn collect(nodes: &[Node], references: &mut Vec<Reference>) {
    let push = |references: &mut Vec<Reference>, path: &Path, position: Position, verbatim: bool, asked: bool| {
        if path.base == Base::Root {
            references.push(Reference { path: path.segments.clone(), position, verbatim, asked });
        }
    };
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Value(value) => push(references, &value.path, value.position, value.verbatim, false),
            Node::If { condition, then, otherwise, position, .. } => {
                let mut paths = Vec::new();
                condition_paths(condition, &mut paths);
                for path in paths {
                    push(references, path, *position, false, true);
                }
                collect(then, references);
                collect(otherwise, references);
            }
            Node::Each { list, body, otherwise, position } => {
                push(references, list, *position, false, true);
                collect(body, references);
                collect(otherwise, references);
            }
        }
    }
}

fn condition_paths<'a>(condition: &'a Condition, paths: &mut Vec<&'a Path>) {
    match condition {
        Condition::Name(path) => paths.push(path),
        Condition::Literal(_) => {}
        Condition::Call(_, conditions) => conditions.iter().for_each(|condition| condition_paths(condition, paths)),
    }
}

/// A name as people write it.
pub(crate) fn path_text(path: &[String]) -> String {
    Path { base: Base::Root, segments: path.to_vec() }.text()
}
