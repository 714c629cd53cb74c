//! Rendering: nodes and values to text.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use runbook_model::evaluate::{Piece, SecretText};
use runbook_model::shell::ShellKind;
use serde_json::Value;

use super::lexer::Quotes;
use super::parse::{Condition, Helper, Interpolation, Node};
use super::path::{Base, Path};
use super::{CompiledTemplate, Place, Position, secret_problem};

/// What a name stands for.
#[derive(Debug, Clone)]
pub(crate) enum Found<'a> {
    /// A value.
    Value(Cow<'a, Value>),
    /// A secret, or a text with secrets in it.
    Secret(SecretText),
    /// Not known yet (preview): what to show for it, and the names that are missing.
    Unknown(String, BTreeSet<String>),
}

impl Found<'_> {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Found::Value(Cow::Owned(Value::String(text.into())))
    }
}

/// Gives names their values. An error says why there is none, in a sentence for people.
pub(crate) trait Values {
    fn value(&self, path: &[String]) -> Result<Found<'_>, String>;
}

/// What came of rendering.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Output {
    /// The text. In a command there are no secrets in it: they are words that refer to the environment.
    pub(crate) text: SecretText,
    /// Secrets that the command refers to.
    pub(crate) secrets: BTreeSet<String>,
    /// Names that are not known yet.
    pub(crate) unknown: BTreeSet<String>,
}

impl Output {
    /// The text, when it has no secrets.
    pub(crate) fn into_plain(self) -> String {
        self.text
            .0
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => text,
                Piece::Secret(_) => unreachable!("a plain text refuses secrets"),
            })
            .collect()
    }
}

/// The environment variable in which a command finds the secret `name`.
pub(crate) fn secret_variable(name: &str) -> String {
    format!("RUNBOOK_SECRET_{name}")
}

impl CompiledTemplate {
    /// The text with `values` in it.
    pub(crate) fn render(&self, values: &dyn Values) -> Result<Output, (Position, String)> {
        let mut renderer = Renderer {
            place: self.place,
            values,
            output: Output::default(),
            buffer: String::new(),
            items: Vec::new(),
            needs_break: None,
        };
        renderer.nodes(&self.nodes)?;
        renderer.flush();
        Ok(renderer.output)
    }

    /// The value itself, with its type, when the text is one `{{name}}` and nothing else; else `None`.
    pub(crate) fn single<'v>(&self, values: &'v dyn Values) -> Option<Result<Found<'v>, (Position, String)>> {
        match self.nodes.as_slice() {
            [Node::Value(value)] if value.path.base == Base::Root => {
                Some(values.value(&value.path.segments).map_err(|message| (value.position, message)))
            }
            _ => None,
        }
    }
}

/// The item of an `each` block.
struct Item {
    value: Value,
    index: Value,
    first: bool,
    last: bool,
}

struct Renderer<'v> {
    place: Place,
    values: &'v dyn Values,
    output: Output,
    buffer: String,
    items: Vec<Item>,
    /// A list of words ended here; the next text must begin another word.
    needs_break: Option<(Position, String)>,
}

type Rendered<T> = Result<T, (Position, String)>;

impl<'v> Renderer<'v> {
    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.output.text.0.push(Piece::Text(std::mem::take(&mut self.buffer)));
        }
    }

    fn nodes(&mut self, nodes: &[Node]) -> Rendered<()> {
        for node in nodes {
            match node {
                Node::Text(text) => {
                    let breaks = |c: char| c.is_whitespace() || matches!(c, ';' | '|' | '&' | ')' | '}' | ',');
                    if let Some(first) = text.chars().next()
                        && let Some((position, name)) = self.needs_break.take()
                        && !breaks(first)
                    {
                        return Err(glued(position, &name));
                    }
                    self.buffer.push_str(text);
                }
                Node::Value(value) => self.value(value)?,
                Node::If { condition, negate, then, otherwise, position } => {
                    match self.condition(condition, *position)? {
                        Some(answer) if truth(&answer) != *negate => self.nodes(then)?,
                        Some(_) => self.nodes(otherwise)?,
                        None => self.buffer.push_str("‹if …›"),
                    }
                }
                Node::Each { list, body, otherwise, position } => self.each(list, body, otherwise, *position)?,
            }
        }
        Ok(())
    }

    fn each(&mut self, list: &Path, body: &[Node], otherwise: &[Node], position: Position) -> Rendered<()> {
        let name = list.text();
        let items: Vec<(Value, Value)> = match self.find(list, position)? {
            Found::Value(value) => match value.as_ref() {
                Value::Array(items) => {
                    items.iter().cloned().enumerate().map(|(i, item)| (Value::from(i), item)).collect()
                }
                Value::Object(fields) => {
                    fields.iter().map(|(key, item)| (Value::String(key.clone()), item.clone())).collect()
                }
                other => return Err((position, format!("{name} is {}, and each needs a list", kind(other)))),
            },
            Found::Secret(_) => return Err((position, format!("{name} is a secret, and each needs a list"))),
            Found::Unknown(_, names) => {
                self.output.unknown.extend(names);
                self.buffer.push_str(&format!("‹each {name}›"));
                return Ok(());
            }
        };
        if items.is_empty() {
            return self.nodes(otherwise);
        }
        let count = items.len();
        for (i, (index, value)) in items.into_iter().enumerate() {
            self.items.push(Item { value, index, first: i == 0, last: i + 1 == count });
            let done = self.nodes(body);
            self.items.pop();
            done?;
        }
        Ok(())
    }

    fn find(&self, path: &Path, position: Position) -> Rendered<Found<'v>> {
        let level = |level: usize| &self.items[self.items.len() - 1 - level];
        let (value, text) = match path.base {
            Base::Root => return self.values.value(&path.segments).map_err(|message| (position, message)),
            Base::Item(n) => (level(n).value.clone(), "this"),
            Base::Index(n) => (level(n).index.clone(), "@index"),
            Base::First(n) => (Value::Bool(level(n).first), "@first"),
            Base::Last(n) => (Value::Bool(level(n).last), "@last"),
        };
        match descend(Cow::Owned(value), text, &path.segments) {
            Ok(value) => Ok(Found::Value(value)),
            Err(message) => Err((position, message)),
        }
    }

    fn condition(&mut self, condition: &Condition, position: Position) -> Rendered<Option<Value>> {
        match condition {
            Condition::Literal(value) => Ok(Some(value.clone())),
            Condition::Name(path) => match self.find(path, position)? {
                Found::Value(value) => Ok(Some(value.into_owned())),
                Found::Secret(_) => {
                    let problem = secret_problem(self.place, false, true, &path.text());
                    Err((position, problem.map_or_else(String::new, |problem| problem.to_string())))
                }
                Found::Unknown(_, names) => {
                    self.output.unknown.extend(names);
                    Ok(None)
                }
            },
            Condition::Call(helper, conditions) => {
                let mut values = Vec::with_capacity(conditions.len());
                for condition in conditions {
                    match self.condition(condition, position)? {
                        Some(value) => values.push(value),
                        None => return Ok(None),
                    }
                }
                let ordered = |wanted: &[Ordering]| match compare(&values[0], &values[1]) {
                    Some(ordering) => Ok(wanted.contains(&ordering)),
                    None => Err((
                        position,
                        format!("{} and {} cannot be compared by size", kind(&values[0]), kind(&values[1])),
                    )),
                };
                Ok(Some(Value::Bool(match helper {
                    Helper::Eq => values[0] == values[1],
                    Helper::Ne => values[0] != values[1],
                    Helper::And => values.iter().all(truth),
                    Helper::Or => values.iter().any(truth),
                    Helper::Not => !truth(&values[0]),
                    Helper::Gt => ordered(&[Ordering::Greater])?,
                    Helper::Gte => ordered(&[Ordering::Greater, Ordering::Equal])?,
                    Helper::Lt => ordered(&[Ordering::Less])?,
                    Helper::Lte => ordered(&[Ordering::Less, Ordering::Equal])?,
                })))
            }
        }
    }

    fn value(&mut self, value: &Interpolation) -> Rendered<()> {
        let name = value.path.text();
        if let Some((position, name)) = self.needs_break.take() {
            return Err(glued(position, &name));
        }
        match self.find(&value.path, value.position)? {
            Found::Unknown(shown, names) => {
                self.output.unknown.extend(names);
                self.buffer.push_str(&shown);
                Ok(())
            }
            Found::Secret(text) => self.secret(text, value, &name),
            Found::Value(found) => match (self.place, found.as_ref()) {
                (Place::Run(shell), found) if !value.verbatim => self.quoted(found, shell, value, &name),
                (_, found) => {
                    let text = scalar(found).ok_or_else(|| (value.position, no_text(found, &name)))?;
                    self.buffer.push_str(&text);
                    Ok(())
                }
            },
        }
    }

    fn quoted(&mut self, found: &Value, shell: ShellKind, value: &Interpolation, name: &str) -> Rendered<()> {
        let refused = |error: runbook_model::shell::Unquotable| (value.position, format!("{name}: {error}"));
        let Value::Array(items) = found else {
            let text = scalar(found).ok_or_else(|| (value.position, no_text(found, name)))?;
            let reopen = reopen(value.quotes);
            let bare = value.alone && value.quotes == Quotes::None;
            let word = if bare { shell.quote(&text) } else { shell.quote_part(&text) };
            let word = word.map_err(refused)?;
            self.buffer.extend([reopen, &word, reopen]);
            return Ok(());
        };
        if value.quotes != Quotes::None {
            let message = format!("{name} is a list and becomes several words: it cannot stand inside quotes");
            return Err((value.position, message));
        }
        let begins = match self.buffer.chars().next_back() {
            None => true,
            Some(c) => {
                c.is_whitespace()
                    || matches!(c, '(' | ';' | '|' | '&')
                    || (shell == ShellKind::Powershell && matches!(c, '=' | ',' | ':'))
            }
        };
        if !begins {
            return Err(glued(value.position, name));
        }
        let mut words = Vec::with_capacity(items.len());
        for item in items {
            let text = scalar(item).ok_or_else(|| {
                (
                    value.position,
                    format!("{name} has {} in it, and only texts, numbers and booleans can be words", kind(item)),
                )
            })?;
            words.push(if value.alone { shell.quote(&text) } else { shell.quote_part(&text) }.map_err(refused)?);
        }
        self.buffer.push_str(&match shell {
            // An array: cmdlets take it as one value, programs get one argument for each item.
            ShellKind::Powershell if words.is_empty() => "@()".to_owned(),
            ShellKind::Powershell => words.join(","),
            _ => words.join(" "),
        });
        self.needs_break = Some((value.position, name.to_owned()));
        Ok(())
    }

    fn secret(&mut self, text: SecretText, value: &Interpolation, name: &str) -> Rendered<()> {
        if let Some(problem) = secret_problem(self.place, value.verbatim, false, name) {
            return Err((value.position, problem.to_string()));
        }
        let Place::Run(shell) = self.place else {
            for piece in text.0 {
                match piece {
                    Piece::Text(text) => self.buffer.push_str(&text),
                    secret => {
                        self.flush();
                        self.output.text.0.push(secret);
                    }
                }
            }
            return Ok(());
        };
        let refused = |error: runbook_model::shell::Unquotable| (value.position, format!("{name}: {error}"));
        if text.0.len() > 1 && !matches!(shell, ShellKind::Sh | ShellKind::Bash) {
            return Err((
                value.position,
                format!("{name} joins a secret with other text, which only sh and bash can take as one word"),
            ));
        }
        self.buffer.push_str(reopen(value.quotes));
        for piece in text.0 {
            let word = match piece {
                Piece::Text(text) => shell.quote_part(&text),
                Piece::Secret(secret) => {
                    let word = shell.environment_word(&secret_variable(&secret));
                    self.output.secrets.insert(secret);
                    word
                }
            };
            self.buffer.push_str(&word.map_err(refused)?);
        }
        self.buffer.push_str(reopen(value.quotes));
        Ok(())
    }
}

/// What closes the author's own quotes before a value, and opens them again after it.
fn reopen(quotes: Quotes) -> &'static str {
    match quotes {
        Quotes::None => "",
        Quotes::Single => "'",
        Quotes::Double => "\"",
    }
}

fn glued(position: Position, name: &str) -> (Position, String) {
    (position, format!("{name} is a list and becomes several words: put white space on both sides of it"))
}

/// Follows `segments` into a value. `from` is the name so far, for messages.
pub(crate) fn descend<'a>(value: Cow<'a, Value>, from: &str, segments: &[String]) -> Result<Cow<'a, Value>, String> {
    let mut name = from.to_owned();
    let mut value = value;
    for segment in segments {
        let missing = |what: String| format!("{name} has no {segment} ({what})");
        value = match value {
            Cow::Borrowed(Value::Object(fields)) => {
                Cow::Borrowed(fields.get(segment).ok_or_else(|| missing(keys(fields)))?)
            }
            Cow::Borrowed(Value::Array(items)) => {
                Cow::Borrowed(item(items.len(), segment).map(|i| &items[i]).ok_or_else(|| missing(count(items)))?)
            }
            Cow::Owned(Value::Object(mut fields)) => {
                Cow::Owned(fields.remove(segment).ok_or_else(|| missing(keys(&fields)))?)
            }
            Cow::Owned(Value::Array(mut items)) => match item(items.len(), segment) {
                Some(i) => Cow::Owned(items.swap_remove(i)),
                None => return Err(missing(count(&items))),
            },
            other => return Err(format!("{name} is {}, so it has no {segment}", kind(&other))),
        };
        name = format!("{name}.{segment}");
    }
    Ok(value)
}

fn item(len: usize, segment: &str) -> Option<usize> {
    segment.parse::<usize>().ok().filter(|i| *i < len)
}

fn keys(fields: &serde_json::Map<String, Value>) -> String {
    if fields.is_empty() {
        return "it is empty".into();
    }
    let mut names: Vec<&str> = fields.keys().map(String::as_str).take(8).collect();
    if fields.len() > names.len() {
        names.push("…");
    }
    format!("it has {}", names.join(", "))
}

fn count(items: &[Value]) -> String {
    format!("it is a list of {}", items.len())
}

/// A value that has one obvious text.
pub(crate) fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(value) => Some(Cow::Borrowed(if *value { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What kind of value it is, for messages.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing (null)",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

fn no_text(value: &Value, name: &str) -> String {
    match value {
        Value::Array(_) => format!("{name} is a list, which is no text; use {{{{#each {name}}}}}…{{{{/each}}}}"),
        other => format!("{name} is {}, which is no text", kind(other)),
    }
}

/// What `if` makes of a value: false, null, 0, the empty text and the empty list are false.
fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(_) => true,
    }
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a.as_f64()?.partial_cmp(&b.as_f64()?),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        _ => None,
    }
}
