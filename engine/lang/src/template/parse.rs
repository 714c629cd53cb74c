//! From text to nodes: Handlebars' own parser, then a pass that keeps what this language allows.
//!
//! Allowed are `{{name}}`, `{{{name}}}`, `{{&name}}`, comments, and the blocks `if`, `unless` and `each` with `else`,
//! whose conditions may use `eq`, `ne`, `and`, `or`, `not`, `gt`, `gte`, `lt` and `lte`. Partials, decorators, raw blocks
//! and other helpers are refused: they would bring text from elsewhere.

use handlebars::template::{BlockParam, HelperTemplate, Parameter, TemplateElement, TemplateMapping};
use serde_json::Value;

use super::lexer::Quotes;
use super::path::{self, EachNames, Path};
use super::{Position, Problem};

/// A template may be so long. Handlebars' parser takes about 30 ms for such a text in a debug build.
pub const TEXT_BYTES_MAX: usize = 256 * 1024;

/// Blocks and parentheses may be nested so deep; the parser and this pass are recursive.
pub const NESTING_MAX: usize = 32;

/// A part of a template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    /// Literal text.
    Text(String),
    /// A value.
    Value(Interpolation),
    /// `if` and `unless`.
    If { condition: Condition, negate: bool, then: Vec<Node>, otherwise: Vec<Node>, position: Position },
    /// `each`.
    Each { list: Path, body: Vec<Node>, otherwise: Vec<Node>, position: Position },
}

/// `{{name}}` or `{{{name}}}`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Interpolation {
    pub(crate) path: Path,
    /// `{{{name}}}`.
    pub(crate) verbatim: bool,
    /// White space on both sides, and not where a command begins: the readable form of quoting will do.
    pub(crate) alone: bool,
    /// The author's own quotes around it, once the text was followed through its shell.
    pub(crate) quotes: Quotes,
    /// It was followed.
    pub(crate) followed: bool,
    pub(crate) position: Position,
}

/// What `if` asks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    /// A value that is neither false, null, 0, empty text nor an empty list.
    Name(Path),
    /// A value written in the template.
    Literal(Value),
    /// A helper.
    Call(Helper, Vec<Condition>),
}

/// The helpers of conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Helper {
    Eq,
    Ne,
    And,
    Or,
    Not,
    Gt,
    Gte,
    Lt,
    Lte,
}

impl Helper {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "eq" => Helper::Eq,
            "ne" => Helper::Ne,
            "and" => Helper::And,
            "or" => Helper::Or,
            "not" => Helper::Not,
            "gt" => Helper::Gt,
            "gte" => Helper::Gte,
            "lt" => Helper::Lt,
            "lte" => Helper::Lte,
            _ => return None,
        })
    }
}

/// Reads a template.
pub(crate) fn parse(source: &str) -> Result<Vec<Node>, Vec<Problem>> {
    let at = Position { line: 1, column: 1 };
    if source.len() > TEXT_BYTES_MAX {
        return Err(vec![Problem::error(
            at,
            format!("this text has {} bytes; a text with values in it may have at most {TEXT_BYTES_MAX}", source.len()),
        )]);
    }
    if let Err((offset, message)) = precheck(source) {
        let problem = Problem::error(position_of(source, offset), message).help("for literal braces write \\{{");
        return Err(vec![problem]);
    }
    let template = handlebars::Template::compile(source).map_err(|error| {
        let (line, column) = error.pos().unwrap_or((1, 1));
        let position = Position { line: line as u32, column: column as u32 };
        let message = match error.reason() {
            handlebars::TemplateErrorReason::MismatchingClosedHelper(opened, closed) => {
                format!("the block {opened} is closed by {closed}")
            }
            handlebars::TemplateErrorReason::InvalidParam(text) => format!("{text} is not a value"),
            _ => "this is not a name or block between {{ and }}".to_owned(),
        };
        vec![Problem::error(position, message).help("for literal braces write \\{{")]
    })?;
    let mut pass = Pass { problems: Vec::new(), blocks: Vec::new() };
    let mut nodes = pass.elements(&template.elements, &template.mapping, at);
    if !pass.problems.is_empty() {
        return Err(pass.problems);
    }
    mark_alone(&mut nodes);
    Ok(nodes)
}

/// Refuses, in one pass and without a parser, what would take the recursive parser too deep, and literals that no
/// condition needs. An error is where, and what.
fn precheck(source: &str) -> Result<(), (usize, String)> {
    let too_deep = |at: usize| Err((at, format!("blocks or parentheses are nested more than {NESTING_MAX} deep")));
    // One entry for each open block: itself and its `else if`s, which nest too.
    let mut blocks: Vec<usize> = Vec::new();
    let mut at = 0;
    while let Some(found) = source[at..].find("{{") {
        let start = at + found;
        let backslashes = source[at..start].bytes().rev().take_while(|b| *b == b'\\').count();
        at = start + 2;
        if backslashes == 1 {
            continue;
        }
        let tag = &source[at..];
        if tag.starts_with("{{") {
            return Err((start, "raw blocks ({{{{…}}}}) are not part of this language".into()));
        }
        if tag.starts_with('!') {
            let end = if tag.starts_with("!--") {
                tag.find("--}}").map(|end| end + 4)
            } else {
                tag.find("}}").map(|end| end + 2)
            };
            match end {
                Some(end) => at += end,
                None => return Ok(()),
            }
            continue;
        }
        let head = tag.trim_start_matches(['{', '~']).trim_start();
        if head.starts_with('#') {
            blocks.push(1);
        } else if head.starts_with('/') {
            blocks.pop();
        } else if let Some(rest) = head.strip_prefix("else").or_else(|| head.strip_prefix('^'))
            && !rest.trim_start_matches(['~', ' ']).starts_with("}}")
            && let Some(top) = blocks.last_mut()
        {
            *top += 1;
        }
        if blocks.iter().sum::<usize>() > NESTING_MAX {
            return too_deep(start);
        }
        let bytes = source.as_bytes();
        let mut parentheses = 0usize;
        if bytes.get(at) == Some(&b'{') {
            at += 1;
        }
        loop {
            match bytes.get(at) {
                None => return Ok(()),
                Some(b'}') if bytes.get(at + 1) == Some(&b'}') => {
                    at += 2;
                    break;
                }
                Some(quote @ (b'"' | b'\'')) => {
                    at += 1;
                    loop {
                        match bytes.get(at) {
                            None => return Ok(()),
                            Some(b) if b == quote => break,
                            Some(b'\\') => at += 2,
                            Some(_) => at += 1,
                        }
                    }
                    at += 1;
                }
                Some(b'(') => {
                    parentheses += 1;
                    if parentheses > NESTING_MAX {
                        return too_deep(start);
                    }
                    at += 1;
                }
                Some(b')') => {
                    parentheses = parentheses.saturating_sub(1);
                    at += 1;
                }
                Some(b'[') => {
                    let inner = &bytes[at + 1..];
                    let end = inner.iter().position(|b| matches!(b, b']' | b'[' | b'"' | b'\'' | b'(' | b'{' | b'}'));
                    match end {
                        Some(end) if inner[end] == b']' => at += end + 2,
                        _ => return Err((start, "lists cannot be written inside {{ }}".into())),
                    }
                }
                // After `{{~`.
                Some(b'{') if bytes[at - 1] == b'~' => at += 1,
                Some(b'{') => return Err((start, "this is not a name or block between {{ and }}".into())),
                Some(_) => at += 1,
            }
        }
    }
    Ok(())
}

fn position_of(source: &str, at: usize) -> Position {
    let before = &source[..at];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    Position { line: line as u32, column: column as u32 }
}

struct Pass {
    problems: Vec<Problem>,
    blocks: Vec<EachNames>,
}

impl Pass {
    fn problem(&mut self, position: Position, message: impl Into<String>) {
        self.problems.push(Problem::error(position, message));
    }

    fn elements(&mut self, elements: &[TemplateElement], mapping: &[TemplateMapping], outer: Position) -> Vec<Node> {
        let mut nodes = Vec::new();
        for (i, element) in elements.iter().enumerate() {
            let position =
                mapping.get(i).map_or(outer, |mapping| Position { line: mapping.0 as u32, column: mapping.1 as u32 });
            match element {
                TemplateElement::RawString(text) => match nodes.last_mut() {
                    Some(Node::Text(before)) => before.push_str(text),
                    _ if text.is_empty() => {}
                    _ => nodes.push(Node::Text(text.clone())),
                },
                TemplateElement::Comment(_) => {}
                TemplateElement::Expression(helper) => self.value(helper, false, position, &mut nodes),
                TemplateElement::HtmlExpression(helper) => self.value(helper, true, position, &mut nodes),
                TemplateElement::HelperBlock(helper) => {
                    if let Some(node) = self.block(helper, position) {
                        nodes.push(node);
                    }
                }
                TemplateElement::DecoratorExpression(_) | TemplateElement::DecoratorBlock(_) => {
                    self.problem(position, "decorators ({{* …}}) are not part of this language");
                }
                TemplateElement::PartialExpression(_) | TemplateElement::PartialBlock(_) => {
                    self.problem(position, "partials ({{> …}}) are not part of this language");
                }
                _ => self.problem(position, "this is not part of this language"),
            }
        }
        nodes
    }

    fn value(&mut self, helper: &HelperTemplate, verbatim: bool, position: Position, nodes: &mut Vec<Node>) {
        let name = helper.name.as_name().unwrap_or("this");
        if !helper.params.is_empty() || !helper.hash.is_empty() || matches!(helper.name, Parameter::Subexpression(_)) {
            return self.problems.push(
                Problem::error(position, format!("{name} is not a helper that gives text"))
                    .help("between {{ and }} stands one name; eq, ne, and, or, not are for {{#if (…)}}"),
            );
        }
        match path::parse(name, &self.blocks) {
            Ok(path) => nodes.push(Node::Value(Interpolation {
                path,
                verbatim,
                alone: false,
                quotes: Quotes::None,
                followed: false,
                position,
            })),
            Err(message) => self.problem(position, message),
        }
    }

    fn block(&mut self, helper: &HelperTemplate, position: Position) -> Option<Node> {
        let name = helper.name.as_name().unwrap_or("").to_owned();
        if !matches!(name.as_str(), "if" | "unless" | "each") {
            self.problems.push(
                Problem::error(position, format!("the block {name} is not known"))
                    .help("blocks are if, unless and each"),
            );
            return None;
        }
        let [parameter] = helper.params.as_slice() else {
            self.problem(position, format!("{name} takes one value, and has {}", helper.params.len()));
            return None;
        };
        if !helper.hash.is_empty() {
            self.problem(position, format!("{name} takes no named values"));
        }
        let mut names = EachNames::default();
        match &helper.block_param {
            None => {}
            Some(_) if name != "each" => self.problem(position, format!("{name} gives no names with `as`")),
            Some(BlockParam::Single(item)) => names.item = item.as_name().map(str::to_owned),
            Some(BlockParam::Pair((item, index))) => {
                names.item = item.as_name().map(str::to_owned);
                names.index = index.as_name().map(str::to_owned);
            }
            Some(_) => self.problem(position, "too many names after `as`"),
        }
        let list = if name == "each" { self.list(parameter, position) } else { None };
        let condition = if name == "each" { None } else { self.condition(parameter, position) };
        if name == "each" {
            self.blocks.push(names);
        }
        let then = self.inner(helper.template.as_ref(), position);
        if name == "each" {
            self.blocks.pop();
        }
        let otherwise = self.inner(helper.inverse.as_ref(), position);
        if let Some(list) = list {
            return Some(Node::Each { list, body: then, otherwise, position });
        }
        Some(Node::If { condition: condition?, negate: name == "unless", then, otherwise, position })
    }

    fn inner(&mut self, template: Option<&handlebars::Template>, position: Position) -> Vec<Node> {
        template.map_or_else(Vec::new, |template| self.elements(&template.elements, &template.mapping, position))
    }

    fn list(&mut self, parameter: &Parameter, position: Position) -> Option<Path> {
        let Parameter::Path(_) = parameter else {
            self.problem(position, "each takes the name of a list");
            return None;
        };
        match self.condition(parameter, position) {
            Some(Condition::Name(path)) => Some(path),
            _ => None,
        }
    }

    fn condition(&mut self, parameter: &Parameter, position: Position) -> Option<Condition> {
        match parameter {
            Parameter::Literal(value) => Some(Condition::Literal(value.clone())),
            Parameter::Subexpression(call) => {
                let Some(parameters) = call.params().filter(|parameters| !parameters.is_empty()) else {
                    return call.as_path_condition(self, position);
                };
                let name = call.name();
                let Some(helper) = Helper::named(name) else {
                    self.problems.push(
                        Problem::error(position, format!("the helper {name} is not known"))
                            .help("helpers are eq, ne, and, or, not, gt, gte, lt, lte"),
                    );
                    return None;
                };
                let wanted = match helper {
                    Helper::Not => 1..=1,
                    Helper::And | Helper::Or => 1..=16,
                    _ => 2..=2,
                };
                if !wanted.contains(&parameters.len()) || call.hash().is_some_and(|hash| !hash.is_empty()) {
                    self.problem(position, format!("{name} does not take {} values", parameters.len()));
                    return None;
                }
                let mut conditions = Vec::with_capacity(parameters.len());
                for parameter in parameters {
                    conditions.push(self.condition(parameter, position)?);
                }
                Some(Condition::Call(helper, conditions))
            }
            other => {
                let name = other.as_name().unwrap_or_default();
                match path::parse(name, &self.blocks) {
                    Ok(path) => Some(Condition::Name(path)),
                    Err(message) => {
                        self.problem(position, message);
                        None
                    }
                }
            }
        }
    }
}

/// `(name)`: parentheses around a name alone.
trait AsPathCondition {
    fn as_path_condition(&self, pass: &mut Pass, position: Position) -> Option<Condition>;
}

impl AsPathCondition for handlebars::template::Subexpression {
    fn as_path_condition(&self, pass: &mut Pass, position: Position) -> Option<Condition> {
        match self.as_element() {
            TemplateElement::Expression(helper) => {
                let name = helper.name.clone();
                pass.condition(&name, position)
            }
            _ => None,
        }
    }
}

/// Finds values that have white space on both sides and stand after a word of the same line.
fn mark_alone(nodes: &mut [Node]) {
    for i in 0..nodes.len() {
        let before = match i.checked_sub(1).map(|i| &nodes[i]) {
            // Between two values, white space on one line is enough: the first one is a word.
            Some(Node::Text(text)) if text.bytes().all(|b| matches!(b, b' ' | b'\t')) => {
                i.checked_sub(2).is_some_and(|i| matches!(&nodes[i], Node::Value(value) if !value.verbatim))
            }
            Some(Node::Text(text)) => after_a_word(text),
            _ => false,
        };
        let after = match nodes.get(i + 1) {
            Some(Node::Text(text)) => text.starts_with([' ', '\t', '\n', ';', ')']),
            None => true,
            _ => false,
        };
        match &mut nodes[i] {
            Node::Value(value) => value.alone = before && after,
            Node::If { then, otherwise, .. } => {
                mark_inner(then);
                mark_inner(otherwise);
            }
            Node::Each { body, otherwise, .. } => {
                mark_inner(body);
                mark_inner(otherwise);
            }
            Node::Text(_) => {}
        }
    }
}

/// As [`mark_alone`], but what follows the block's last value is not known.
fn mark_inner(nodes: &mut [Node]) {
    mark_alone(nodes);
    if let Some(Node::Value(value)) = nodes.last_mut() {
        value.alone = false;
    }
}

/// The text ends in white space, and the line so far has a word that is no operator, so that the next word is an
/// argument.
fn after_a_word(text: &str) -> bool {
    if !text.ends_with([' ', '\t']) {
        return false;
    }
    let line = text.rsplit('\n').next().unwrap_or("");
    let word = line.split_ascii_whitespace().next_back().unwrap_or("");
    !word.is_empty()
        && !word.ends_with([';', '|', '&', '(', ')', '{', '}', '!', '<', '\\'])
        && !matches!(word, "if" | "then" | "else" | "elif" | "do" | "while" | "until" | "time" | "in" | "case" | "for")
}
