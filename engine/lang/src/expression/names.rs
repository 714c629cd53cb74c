//! Reading an expression, and the names in it.

use cel::common::ast::{EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators};
use cel::parser::Parser;
use cel::{ExecutionError, Value as Cel};

use super::{DEPTH_MAX, LOOPS_MAX};
use crate::template::{Position, Problem, Reference, nearest};

/// The functions that there are. (`has`, `all`, `exists`, `exists_one`, `map` and `filter` are taken apart by the parser.)
const FUNCTIONS: [&str; 13] = [
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "string",
    "int",
    "uint",
    "double",
    "bool",
    "bytes",
    "type",
    "dyn",
];
const MACROS: [&str; 6] = ["has", "all", "exists", "exists_one", "map", "filter"];
/// Identifiers that name types.
const TYPES: [&str; 10] = ["int", "uint", "double", "string", "bool", "bytes", "list", "map", "null_type", "type"];

/// Runs on the thread with the large stack.
pub(super) fn parse(source: &str) -> Result<(IdedExpr, Vec<Reference>), Vec<Problem>> {
    let parser = Parser::new().max_recursion_depth(96).error_recovery_limit(5);
    let (expression, info) = parser.parse_with_source_info(source).map_err(|errors| {
        let mut problems: Vec<Problem> = errors
            .errors
            .iter()
            .take(3)
            .map(|error| {
                let (line, column) = error.pos;
                let position = Position { line: at_least_one(line), column: at_least_one(column) };
                let message = error.msg.lines().next().unwrap_or_default();
                Problem::error(position, format!("this is not an expression: {}", plainly(message)))
            })
            .collect();
        if problems.is_empty() {
            problems.push(Problem::error(Position { line: 1, column: 1 }, "this is not an expression"));
        }
        problems
    })?;
    let mut walk = Walk { source, info: &info, bound: Vec::new(), references: Vec::new(), problems: Vec::new() };
    walk.expression(&expression, 0, 0);
    if walk.problems.is_empty() { Ok((expression, walk.references)) } else { Err(walk.problems) }
}

fn at_least_one(number: isize) -> u32 {
    u32::try_from(number).unwrap_or(1).max(1)
}

/// The parser's words without the list of all the tokens that it would have taken.
fn plainly(message: &str) -> String {
    let message = message.strip_prefix("Syntax error: ").unwrap_or(message);
    let found = ["mismatched input ", "extraneous input ", "no viable alternative at input "]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .map(|rest| rest.split(" expecting ").next().unwrap_or(rest));
    match found {
        Some("'<EOF>'") => "it ends where a value or an operator is missing".into(),
        Some(found) => format!("{} is not expected here", short(found)),
        None => short(message),
    }
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().take(120).filter(|c| !c.is_control()).collect();
    if text.chars().count() > 120 {
        short.push('…');
    }
    short
}

struct Walk<'a> {
    source: &'a str,
    info: &'a SourceInfo,
    bound: Vec<String>,
    references: Vec<Reference>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn position(&self, expression: &IdedExpr) -> Position {
        let start = self.info.offset_for(expression.id).map_or(0, |(start, _)| start as usize);
        let before: String = self.source.chars().take(start).collect();
        Position {
            line: before.matches('\n').count() as u32 + 1,
            column: before.rsplit('\n').next().map_or(0, |line| line.chars().count()) as u32 + 1,
        }
    }

    fn problem(&mut self, expression: &IdedExpr, message: String) {
        self.problems.push(Problem::error(self.position(expression), message));
    }

    /// The name that an expression spells, with the expression at its beginning.
    fn path<'e>(&self, expression: &'e IdedExpr) -> Option<(Vec<String>, &'e IdedExpr)> {
        match &expression.expr {
            Expr::Ident(name) => {
                let name = name.strip_prefix('.').unwrap_or(name);
                let free = !name.starts_with('@') && !self.bound.iter().any(|bound| bound == name);
                free.then(|| (vec![name.to_owned()], expression))
            }
            Expr::Select(select) => {
                let (mut path, first) = self.path(&select.operand)?;
                path.push(select.field.clone());
                Some((path, first))
            }
            Expr::Call(call) if call.func_name == operators::INDEX => {
                let [operand, index] = call.args.as_slice() else { return None };
                let Expr::Literal(LiteralValue::String(index)) = &index.expr else { return None };
                let (mut path, first) = self.path(operand)?;
                path.push(index.inner().to_owned());
                Some((path, first))
            }
            _ => None,
        }
    }

    fn expression(&mut self, expression: &IdedExpr, depth: usize, loops: usize) {
        if depth > DEPTH_MAX {
            if self.problems.is_empty() {
                self.problem(expression, format!("the expression is more than {DEPTH_MAX} operations deep"));
            }
            return;
        }
        if let Some((path, first)) = self.path(expression) {
            if path.len() > DEPTH_MAX {
                return self.problem(first, format!("the name has more than {DEPTH_MAX} parts"));
            }
            if path.len() == 1 && TYPES.contains(&path[0].as_str()) {
                return;
            }
            let asked = matches!(&expression.expr, Expr::Select(select) if select.test);
            let position = self.position(first);
            self.references.push(Reference { path, position, verbatim: false, asked });
            return;
        }
        match &expression.expr {
            Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => {}
            Expr::Select(select) => self.expression(&select.operand, depth + 1, loops),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                let word = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && name != "_";
                if word && name.starts_with(|c: char| c.is_ascii_alphabetic()) && !FUNCTIONS.contains(&name) {
                    let mut problem =
                        Problem::error(self.position(expression), format!("the function {name} is not known"));
                    problem.suggestion = nearest(name, FUNCTIONS.into_iter().chain(MACROS)).map(str::to_owned);
                    self.problems.push(problem);
                }
                for argument in call.target.as_deref().into_iter().chain(&call.args) {
                    self.expression(argument, depth + 1, loops);
                }
            }
            Expr::Comprehension(comprehension) => {
                if loops >= LOOPS_MAX {
                    return self.problem(expression, format!("more than {LOOPS_MAX} loops stand inside each other"));
                }
                self.expression(&comprehension.iter_range, depth + 1, loops);
                self.expression(&comprehension.accu_init, depth + 1, loops);
                let before = self.bound.len();
                self.bound.push(comprehension.iter_var.clone());
                self.bound.extend(comprehension.iter_var2.clone());
                self.bound.push(comprehension.accu_var.clone());
                self.expression(&comprehension.loop_cond, depth + 1, loops + 1);
                self.expression(&comprehension.loop_step, depth + 1, loops + 1);
                self.expression(&comprehension.result, depth + 1, loops + 1);
                self.bound.truncate(before);
            }
            Expr::List(list) => list.elements.iter().for_each(|item| self.expression(item, depth + 1, loops)),
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.expression(&entry.key, depth + 1, loops);
                        self.expression(&entry.value, depth + 1, loops);
                    }
                }
            }
            Expr::Struct(value) => {
                self.problem(expression, format!("there is no type {}", short(&value.type_name)));
            }
        }
    }
}

/// What kind of value it is, for messages.
pub(super) fn kind(value: &Cel) -> &'static str {
    match value {
        Cel::Bool(_) => "true or false",
        Cel::Int(_) | Cel::UInt(_) | Cel::Float(_) => "a number",
        Cel::String(_) => "a text",
        Cel::List(_) => "a list",
        Cel::Map(_) => "a mapping",
        Cel::Null => "nothing (null)",
        _ => "something else",
    }
}

/// The error in operators' words.
pub(super) fn explain(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("there is no {}", short(key)),
        ExecutionError::UndeclaredReference(name) => format!("the name {} is not known", short(name)),
        ExecutionError::NoSuchOverload(overload) => {
            let operator = overload.function().replace('_', " ").replace('@', "");
            format!("{} does not go with {}", operator.trim(), overload.argument_types().join(" and "))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero".into(),
        ExecutionError::IndexOutOfBounds(_) => "the list is shorter than that".into(),
        other => short(&other.to_string()),
    }
}
