//! Conditions (`when`, `expect…json`): CEL over the same names as templates.
//!
//! A condition must say true or false; a name or key that is not there is an error, never false (`has(host.labels.x)`
//! and `"x" in host.labels` ask whether it is there). What CEL decides without looking at a name stays decided: in
//! `host.os == "linux" && steps.probe.exit_code == 0` the second half is not asked on Windows.
//!
//! Hostile texts: at most [`TEXT_BYTES_MAX`] bytes, brackets and the parsed tree limited in depth, loops (`all`, `map`, …)
//! at most [`LOOPS_MAX`] inside each other, and the parser runs on a thread with a stack that such a text cannot fill.

mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

use cel::{Context, Env, Value as Cel};
use serde_json::Value;

use crate::template::{Found, Names, Position, Problem, Reference, Values};

/// An expression may be so long.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Brackets in the text may be nested so deep.
pub const NESTING_MAX: usize = 24;
/// The parsed tree may be so deep; judging it is recursive and runs on any thread.
pub const DEPTH_MAX: usize = 64;
/// Loops may stand inside each other so often: each multiplies the time.
pub const LOOPS_MAX: usize = 2;
/// The parser's stack. Only what is used of it takes memory; a text of 4 KiB uses a fraction in a debug build.
const STACK_BYTES: usize = 64 << 20;

static ENVIRONMENT: LazyLock<Arc<Env>> =
    LazyLock::new(|| Arc::new(Env::default().with_optional_support(false).with_stdlib()));

/// An expression that was read once and can be judged often.
#[derive(Debug, Clone)]
pub struct CompiledExpression {
    expression: Arc<cel::IdedExpr>,
    references: Vec<Reference>,
}

/// What came of judging an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It holds, or it does not.
    Known(bool),
    /// It depends on these names, which are known only during a run.
    Unknown(BTreeSet<String>),
}

impl CompiledExpression {
    /// Reads an expression.
    ///
    /// # Errors
    /// All problems of the text.
    pub fn new(source: &str) -> Result<Self, Vec<Problem>> {
        let at = Position { line: 1, column: 1 };
        let refuse = |message: String| Err(vec![Problem::error(at, message)]);
        if source.len() > TEXT_BYTES_MAX {
            return refuse(format!(
                "an expression may have at most {TEXT_BYTES_MAX} bytes, this one has {}",
                source.len()
            ));
        }
        if source.contains("{{") {
            return Err(vec![
                Problem::error(at, "an expression names values without braces").help("write param.x, not {{param.x}}"),
            ]);
        }
        if nesting(source) > NESTING_MAX {
            return refuse(format!("brackets are nested more than {NESTING_MAX} deep"));
        }
        let text = source.to_owned();
        let parsed = std::thread::Builder::new()
            .name("expression".into())
            .stack_size(STACK_BYTES)
            .spawn(move || names::parse(&text))
            .map_err(|error| {
                vec![Problem::error(
                    at,
                    format!("the expression could not be read: no thread could be started ({error})"),
                )]
            })?
            .join();
        match parsed {
            Ok(parsed) => parsed.map(|(expression, references)| Self { expression: Arc::new(expression), references }),
            Err(_) => refuse("this is not an expression (the parser gave up on it)".into()),
        }
    }

    /// The names that it uses, in order.
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    /// Whether it holds of `values`.
    pub(crate) fn judge(&self, values: &dyn Values) -> Result<Answer, String> {
        let mut roots: BTreeMap<&str, Value> = BTreeMap::new();
        let mut missing: Vec<String> = Vec::new();
        let mut unknown = BTreeSet::new();
        let mut doubtful = false;
        let mut seen = BTreeSet::new();
        for reference in &self.references {
            let Some(root) = reference.path.first() else { continue };
            for path in leaves(&reference.path) {
                let whole = path.len() == reference.path.len() && !reference.asked;
                if !seen.insert((path.clone(), whole)) {
                    continue;
                }
                match values.value(&path) {
                    Ok(Found::Value(value)) => insert(&mut roots, root, &path, value.into_owned()),
                    Ok(Found::Secret(_)) => {
                        return Err(format!("{} is a secret; a condition cannot depend on its value", path.join(".")));
                    }
                    Ok(Found::Unknown(_, names)) => {
                        doubtful |= !(whole || reference.path.len() > path.len() && !reference.asked);
                        unknown.extend(names);
                        insert_root(&mut roots, root, &path);
                    }
                    Err(message) => {
                        insert_root(&mut roots, root, &path);
                        // `has(…)` may ask for what is not there.
                        if !reference.asked {
                            missing.push(message);
                        }
                    }
                }
            }
        }
        if doubtful {
            return Ok(Answer::Unknown(unknown));
        }
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        for (root, value) in roots {
            context.add_variable_from_value(root, to_cel(&value));
        }
        match Cel::resolve(&self.expression, &context) {
            Ok(Cel::Bool(answer)) => Ok(Answer::Known(answer)),
            Ok(other) => Err(format!("it gives {} instead of true or false", names::kind(&other))),
            Err(_) if !unknown.is_empty() => Ok(Answer::Unknown(unknown)),
            Err(error) => Err(match (missing.into_iter().next(), &error) {
                (Some(missing), _) => missing,
                (None, cel::ExecutionError::NoSuchKey(key)) => {
                    // The values know better what there is instead.
                    let meant = |reference: &&Reference| !reference.asked && reference.path.contains(key);
                    let missing = self.references.iter().filter(meant).find_map(|r| values.value(&r.path).err());
                    missing.unwrap_or_else(|| names::explain(&error))
                }
                (None, error) => names::explain(error),
            }),
        }
    }
}

/// What is wrong with an expression, as far as can be seen before a run. Empty when nothing is.
pub fn check(source: &str, names: &Names) -> Vec<Problem> {
    let expression = match CompiledExpression::new(source) {
        Ok(expression) => expression,
        Err(problems) => return problems,
    };
    let mut problems = Vec::new();
    for reference in expression.references() {
        let text = reference.path.join(".");
        if let Err(unknown) = names.check(&reference.path, true) {
            let mut problem = Problem::error(reference.position, unknown.message);
            problem.suggestion = unknown.suggestion;
            // `steps.my-step.stdout` is a subtraction.
            let dashed = names.steps.iter().chain(&names.other_steps).find(|id| {
                let written = format!("steps.{id}");
                id.contains('-') && source.contains(&written) && written.starts_with(&text)
            });
            if let Some(id) = dashed {
                problem.suggestion = None;
                problem.help = Some(format!("a name with - is written steps[\"{id}\"] in expressions"));
                problems.push(problem);
                break;
            }
            problems.push(problem);
        } else if names.is_secret(&reference.path) {
            problems.push(Problem::error(
                reference.position,
                format!("{text} is a secret; a condition cannot depend on its value"),
            ));
        }
    }
    problems
}

/// How deep brackets are nested. Brackets in texts count too; what that misses meets the parser's own limit and stack.
fn nesting(source: &str) -> usize {
    let mut depth = 0usize;
    let mut deepest = 0;
    for c in source.chars() {
        match c {
            '(' | '[' | '{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The values that must be looked up for a name: not more of it than a value is fetched by.
fn leaves(path: &[String]) -> Vec<Vec<String>> {
    let second = path.get(1).map(String::as_str);
    let length = match path[0].as_str() {
        "item" | "json" => 1,
        "steps" => 3,
        "host" if second == Some("facts") => 3,
        _ => 2,
    };
    if path.len() >= length {
        return vec![path[..length].to_vec()];
    }
    let below = |names: &[&str]| {
        names
            .iter()
            .map(|name| path.iter().cloned().chain([(*name).to_owned()]).collect())
            .collect::<Vec<Vec<String>>>()
    };
    match (path[0].as_str(), path.len()) {
        ("host", 2) => below(&crate::template::FACTS),
        ("steps", 2) => below(&["stdout", "stderr", "exit_code", "skipped"]),
        // A whole group of names is a value only where it is asked for one of them.
        _ => vec![path.to_vec()],
    }
}

const ROOTS: [&str; 8] = ["param", "host", "run", "steps", "secret", "item", "snapshot", "json"];

/// The groups above a value that is not there exist, so that the error is about the value.
fn insert_root(roots: &mut BTreeMap<&str, Value>, root: &str, path: &[String]) {
    let Some(key) = ROOTS.iter().find(|name| **name == root).filter(|_| path.len() > 1) else { return };
    let mut at = roots.entry(key).or_insert_with(|| Value::Object(serde_json::Map::new()));
    for segment in &path[1..path.len() - 1] {
        let Value::Object(fields) = at else { return };
        at = fields.entry(segment.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
}

fn insert(roots: &mut BTreeMap<&str, Value>, root: &str, path: &[String], value: Value) {
    let Some(key) = ROOTS.iter().find(|name| **name == root) else { return };
    let mut at = roots.entry(key).or_insert_with(|| Value::Object(serde_json::Map::new()));
    for segment in &path[1..] {
        let Value::Object(fields) = at else { return };
        at = fields.entry(segment.clone()).or_insert_with(|| Value::Object(serde_json::Map::new()));
    }
    *at = value;
}

fn to_cel(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Cel::Int(number),
            (None, Some(number)) => Cel::UInt(number),
            _ => Cel::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(items) => Cel::List(Arc::new(items.iter().map(to_cel).collect())),
        Value::Object(fields) => Cel::Map(cel::objects::Map {
            map: Arc::new(
                fields.iter().map(|(key, value)| (cel::objects::Key::from(key.clone()), to_cel(value))).collect(),
            ),
        }),
    }
}

#[cfg(test)]
mod tests;
