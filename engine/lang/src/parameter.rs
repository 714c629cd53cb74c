//! Values of parameters: from a file, and from texts of the command line.
//!
//! The typed value of a parameter is plain JSON without floating point: `string`, `path` a text; `integer` a number;
//! `number` a number when it is whole, else a text as written; `boolean` true or false; `duration` whole **seconds**;
//! `size` **bytes**; `list` an array of texts, numbers and booleans; `secret` `{"secret": NAME}` where NAME is the
//! parameter's own name.

use std::collections::BTreeMap;

use regex::Regex;
use runbook_model::plan::SecretRef;
use runbook_model::units::{parse_duration_ms, parse_size};
use serde_json::{Value, json};

use crate::codes::Code;
use crate::diagnostic::{Diagnostic, sorted};
use crate::read::scalar;
use crate::runbook::{Parameter, ParameterKind};
use crate::similar;
use crate::source::{Source, Span};
use crate::yaml::shown;

impl ParameterKind {
    /// All, with the words that people write.
    pub const WORDS: &[(&str, ParameterKind)] = &[
        ("string", ParameterKind::String),
        ("integer", ParameterKind::Integer),
        ("number", ParameterKind::Number),
        ("boolean", ParameterKind::Boolean),
        ("duration", ParameterKind::Duration),
        ("size", ParameterKind::Size),
        ("path", ParameterKind::Path),
        ("list", ParameterKind::List),
        ("secret", ParameterKind::Secret),
    ];

    /// The word that people write.
    pub fn name(self) -> &'static str {
        Self::WORDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }

    /// The typed value of `text`, or what would be right.
    pub fn value_of(self, text: &str) -> Result<Value, String> {
        let wrong = |wanted: &str| format!("`{}` is not {wanted}", shown(text));
        match self {
            ParameterKind::String => Ok(json!(text)),
            ParameterKind::Path if text.is_empty() => Err("a path is not empty".into()),
            ParameterKind::Path if text.contains('\0') => Err("a path holds no NUL character".into()),
            ParameterKind::Path => Ok(json!(text)),
            ParameterKind::Integer => {
                scalar::whole(text).map(Value::from).ok_or_else(|| wrong("a whole number; write for example 8 or -1"))
            }
            ParameterKind::Number => match scalar::whole(text) {
                Some(number) => Ok(number.into()),
                None if scalar::is_decimal(text) => Ok(json!(text)),
                None => Err(wrong("a number; write for example 8 or 0.5")),
            },
            ParameterKind::Boolean => match text {
                "true" => Ok(json!(true)),
                "false" => Ok(json!(false)),
                _ => Err(wrong("true or false")),
            },
            ParameterKind::Duration => match parse_duration_ms(text) {
                Ok(ms) if ms % 1000 == 0 => Ok((ms / 1000).into()),
                Ok(_) => Err(format!("`{}` is not a whole number of seconds", shown(text))),
                Err(error) => Err(error.to_string()),
            },
            ParameterKind::Size => match parse_size(text) {
                Ok(bytes) if i64::try_from(bytes).is_ok() => Ok(bytes.into()),
                Ok(_) => Err(format!("`{}` is too large", shown(text))),
                Err(error) => Err(error.to_string()),
            },
            ParameterKind::List => list_of(text),
            ParameterKind::Secret => secret_reference(text).map(|_| json!(text)),
        }
    }
}

/// A list from the command line: a JSON array, or texts with commas between.
fn list_of(text: &str) -> Result<Value, String> {
    if text.trim_start().starts_with('[') {
        let items: Vec<Value> =
            serde_json::from_str(text).map_err(|error| format!("`{}` is not a JSON array: {error}", shown(text)))?;
        return items.into_iter().map(list_item).collect::<Result<Vec<_>, _>>().map(Value::Array);
    }
    if text.is_empty() {
        return Ok(json!([]));
    }
    Ok(text.split(',').map(|item| json!(item.trim())).collect())
}

/// An item of a list, without floating point.
pub(crate) fn list_item(item: Value) -> Result<Value, String> {
    match item {
        Value::Number(number) if number.is_f64() => Ok(json!(number.to_string())),
        Value::String(_) | Value::Number(_) | Value::Bool(_) => Ok(item),
        _ => Err("an item of a list is a text, a number, true or false".into()),
    }
}

/// `env:NAME` or `file:PATH`.
pub(crate) fn secret_reference(text: &str) -> Result<SecretRef, String> {
    // The text is never repeated in a message: a person may have given the secret itself.
    let wrong = "a secret is given by where it is, never by its value: env:NAME or file:PATH";
    match text.split_once(':') {
        Some(("env", name)) if is_variable(name) => Ok(SecretRef::Env(name.into())),
        Some(("env", _)) => Err("the name of an environment variable has letters, digits and `_`".into()),
        Some(("file", path)) if !path.is_empty() && !path.contains('\0') => Ok(SecretRef::File(path.into())),
        _ => Err(wrong.into()),
    }
}

/// Whether `name` can be an environment variable, a parameter or a secret.
pub(crate) fn is_variable(name: &str) -> bool {
    name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A regular expression within a limit of size.
pub(crate) fn regex(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern).size_limit(1 << 20).build().map_err(|error| {
        let text = error.to_string();
        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
    })
}

/// What `value` breaks of the rules of `parameter`: `enum`, `pattern`, `minimum`, `maximum`.
pub(crate) fn broken_rules(parameter: &Parameter, value: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let show = |value: &Value| match value {
        Value::String(text) => format!("`{}`", shown(text)),
        other => format!("`{other}`"),
    };
    let items = || match value {
        Value::Array(items) => items.clone(),
        other => vec![other.clone()],
    };
    if !parameter.allowed.is_empty() {
        for item in items() {
            if !parameter.allowed.iter().any(|allowed| allowed.value == item) {
                let all: Vec<String> = parameter.allowed.iter().map(|allowed| show(&allowed.value)).collect();
                broken.push(format!("{} is not one of {}", show(&item), all.join(", ")));
            }
        }
    }
    if let Some(pattern) = &parameter.pattern
        && let Ok(regex) = regex(&pattern.value)
    {
        for item in items() {
            let text = item.as_str().map_or_else(|| item.to_string(), str::to_owned);
            if !regex.is_match(&text) {
                broken.push(format!("{} does not match the pattern `{}`", show(&item), shown(&pattern.value)));
            }
        }
    }
    let measured = measure(value);
    let (what, unit) = match (parameter.kind, value) {
        (ParameterKind::Duration, _) => ("it is", " seconds"),
        (ParameterKind::Size, _) => ("it is", " bytes"),
        (ParameterKind::List, _) => ("it has", " items"),
        (ParameterKind::String | ParameterKind::Path, _) => ("it has", " characters"),
        _ => ("it is", ""),
    };
    if let Some(minimum) = parameter.minimum.as_ref().map(|bound| measure(&bound.value))
        && measured < minimum
    {
        broken.push(format!("{what} {measured}{unit}, and the minimum is {minimum}"));
    }
    if let Some(maximum) = parameter.maximum.as_ref().map(|bound| measure(&bound.value))
        && measured > maximum
    {
        broken.push(format!("{what} {measured}{unit}, and the maximum is {maximum}"));
    }
    broken
}

/// The number that `minimum` and `maximum` are about.
pub(crate) fn measure(value: &Value) -> f64 {
    match value {
        Value::Array(items) => items.len() as f64,
        Value::Number(number) => number.as_f64().unwrap_or_default(),
        // Values of type `number` with a fraction, else the length of a text.
        Value::String(text) if scalar::is_decimal(text) => text.parse().unwrap_or_default(),
        Value::String(text) => text.chars().count() as f64,
        _ => 0.0,
    }
}

/// What [`resolve_parameters`] makes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ParameterValues {
    /// Typed values by name.
    pub values: BTreeMap<String, Value>,
    /// Where the values of secret parameters come from, by parameter.
    pub secrets: BTreeMap<String, SecretRef>,
}

/// The values of a runbook's parameters: `given` are texts of the command line (`-p name=value`), defaults fill the
/// rest. Optional parameters without a value are absent.
///
/// # Errors
/// All that is wrong with them. Problems of given values stand in a source named `-p name=value` (never a secret's).
pub fn resolve_parameters(
    parameters: &BTreeMap<String, Parameter>,
    given: &BTreeMap<String, String>,
) -> Result<ParameterValues, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    let mut resolved = ParameterValues::default();
    for (name, text) in given {
        let Some(parameter) = parameters.get(name) else {
            let source = Source::new("-p", format!("{name}=…"));
            let mut problem = Diagnostic::error(
                Code::UnknownParameter,
                &Span::new(&source, 0..name.len()),
                format!("the runbook has no parameter `{}`", shown(name)),
            );
            problem.help = similar::hint(name, parameters.keys().map(String::as_str), "its parameters are");
            if parameters.is_empty() {
                problem.help = Some("it has no parameters at all".into());
            }
            problems.push(problem);
            continue;
        };
        let secret = parameter.kind == ParameterKind::Secret;
        let source = Source::new("-p", format!("{name}={}", if secret { "…" } else { text }));
        let span = Span::new(&source, name.len() + 1..source.text().len());
        let mut wrong = |why: String| {
            problems.push(
                Diagnostic::error(Code::ParameterValue, &span, format!("`{name}`: {why}"))
                    .label(&parameter.name.span, format!("of type {}", parameter.kind.name())),
            );
        };
        match parameter.kind.value_of(text) {
            Err(why) => wrong(why),
            Ok(_) if secret => set_secret(&mut resolved, name, text),
            Ok(value) => {
                let broken = broken_rules(parameter, &value);
                if broken.is_empty() {
                    resolved.values.insert(name.clone(), value);
                }
                broken.into_iter().for_each(wrong);
            }
        }
    }
    for (name, parameter) in parameters {
        if given.contains_key(name) {
            continue;
        }
        match &parameter.default {
            Some(default) if parameter.kind == ParameterKind::Secret => {
                set_secret(&mut resolved, name, default.value.as_str().unwrap_or_default());
            }
            Some(default) => {
                resolved.values.insert(name.clone(), default.value.clone());
            }
            None if parameter.required => problems.push(
                Diagnostic::error(
                    Code::MissingParameter,
                    &parameter.name.span,
                    format!("the parameter `{name}` has no value"),
                )
                .help(format!("give it one: -p {name}=…")),
            ),
            None => {}
        }
    }
    if problems.is_empty() { Ok(resolved) } else { Err(sorted(problems)) }
}

fn set_secret(resolved: &mut ParameterValues, name: &str, text: &str) {
    if let Ok(reference) = secret_reference(text) {
        resolved.values.insert(name.to_owned(), json!({"secret": name}));
        resolved.secrets.insert(name.to_owned(), reference);
    }
}
