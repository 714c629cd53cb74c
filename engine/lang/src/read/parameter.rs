//! `parameters` and `secrets`.

use std::collections::BTreeMap;

use runbook_model::plan::SecretRef;
use serde_json::Value;

use super::fields::{Fields, Problems, entries, items};
use super::scalar;
use crate::codes::Code;
use crate::parameter::{broken_rules, is_variable, list_item, measure, regex};
use crate::runbook::{Parameter, ParameterKind};
use crate::source::{Spanned, Text};
use crate::yaml::{Content, Node};

pub(crate) const KEYS: &[&str] =
    &["type", "default", "enum", "pattern", "minimum", "maximum", "description", "required"];

const NAMES: &str = "letters, digits and `_`, a letter or `_` first";

/// `parameters`.
pub(crate) fn parameters(node: &Node, problems: &mut Problems) -> BTreeMap<String, Parameter> {
    let mut parameters = BTreeMap::new();
    for entry in entries(node, "parameters", "parameters: {package: {type: string}}", problems) {
        let Some(name) = scalar::name(entry.key.clone(), "the name of a parameter", is_variable, NAMES, problems)
        else {
            continue;
        };
        if let Some(parameter) = parameter(name, &entry.value, problems) {
            parameters.insert(parameter.name.value.clone(), parameter);
        }
    }
    parameters
}

fn parameter(name: Text, node: &Node, problems: &mut Problems) -> Option<Parameter> {
    let fields = Fields::of(node, "a parameter", KEYS, &[], problems)?;
    let kind = fields
        .require("type", "a parameter", "string", problems)
        .and_then(|node| scalar::word(node, "type", ParameterKind::WORDS, problems))?;
    let mut parameter = Parameter {
        name,
        kind,
        default: None,
        allowed: Vec::new(),
        pattern: None,
        minimum: None,
        maximum: None,
        description: fields.get("description", problems).and_then(|node| scalar::text(node, "description", problems)),
        required: fields
            .get("required", problems)
            .and_then(|node| scalar::boolean(node, "required", problems))
            .unwrap_or(false),
    };
    let (has_pattern, has_bounds) = match kind {
        ParameterKind::String | ParameterKind::List => (true, true),
        ParameterKind::Path => (true, false),
        ParameterKind::Integer | ParameterKind::Number | ParameterKind::Duration | ParameterKind::Size => (false, true),
        ParameterKind::Boolean | ParameterKind::Secret => (false, false),
    };
    let of_kind = format!("for a parameter of type {}", kind.name());
    if has_pattern {
        parameter.pattern = fields.get("pattern", problems).and_then(|node| pattern(node, "pattern", problems));
    } else {
        fields.refuse(&["pattern"], &of_kind, problems);
    }
    if has_bounds {
        let mut bound = |key: &str| fields.get(key, problems).and_then(|node| bound(kind, node, key, problems));
        parameter.minimum = bound("minimum");
        parameter.maximum = bound("maximum");
        if let (Some(minimum), Some(maximum)) = (&parameter.minimum, &parameter.maximum)
            && measure(&minimum.value) > measure(&maximum.value)
        {
            problems
                .error(Code::ParameterRules, &maximum.span, "`maximum` is less than `minimum`")
                .labels
                .push(crate::diagnostic::Label { span: minimum.span.clone(), message: "the minimum".into() });
        }
    } else {
        fields.refuse(&["minimum", "maximum"], &of_kind, problems);
    }
    if matches!(kind, ParameterKind::Boolean | ParameterKind::Secret) {
        fields.refuse(&["enum"], &of_kind, problems);
    } else if let Some(node) = fields.get("enum", problems) {
        // The items of a list parameter are checked one by one.
        let item = if kind == ParameterKind::List { ParameterKind::String } else { kind };
        let allowed = items(node, "enum", "enum: [small, large]", problems);
        if allowed.is_empty() && matches!(node.content, Content::List(_)) {
            problems.error(Code::ParameterRules, &node.span, "`enum` is empty, so no value would be right");
        }
        parameter.allowed = allowed.iter().filter_map(|node| typed(item, node, "enum", problems)).collect();
        let values = std::mem::take(&mut parameter.allowed);
        for value in &values {
            for broken in broken_rules(&parameter, &value.value) {
                problems.error(
                    Code::ParameterRules,
                    &value.span,
                    format!("this value of `enum` is not allowed: {broken}"),
                );
            }
        }
        parameter.allowed = values;
    }
    if let Some(node) = fields.get("default", problems) {
        parameter.default = typed(kind, node, "default", problems);
        if let Some(default) = &parameter.default {
            for broken in broken_rules(&parameter, &default.value) {
                problems
                    .error(Code::ParameterRules, &default.span, format!("the default is not allowed: {broken}"))
                    .help = Some("change the default, or the rule".into());
            }
        }
        if parameter.required {
            problems
                .error(
                    Code::Conflict,
                    &node.span,
                    "a parameter with a default is never missing, so `required` means nothing",
                )
                .help = Some("remove `required`, or the default".into());
        }
    }
    Some(parameter)
}

/// A regular expression.
pub(crate) fn pattern(node: &Node, key: &str, problems: &mut Problems) -> Option<Text> {
    let text = scalar::text(node, key, problems)?;
    if let Err(why) = regex(&text.value) {
        problems.error(Code::Pattern, &text.span, format!("`{key}` is not a regular expression: {why}")).help =
            Some("in single quotes a backslash needs no other before it".into());
        return None;
    }
    Some(text)
}

/// `minimum` or `maximum`: of a text or list its length, else a value.
fn bound(kind: ParameterKind, node: &Node, key: &str, problems: &mut Problems) -> Option<Spanned<Value>> {
    match kind {
        ParameterKind::String | ParameterKind::List => {
            scalar::integer(node, key, 0, i64::MAX, problems).map(|n| Spanned::new(n.into(), node.span.clone()))
        }
        _ => typed(kind, node, key, problems),
    }
}

/// The typed value of a node.
pub(crate) fn typed(kind: ParameterKind, node: &Node, key: &str, problems: &mut Problems) -> Option<Spanned<Value>> {
    let value = match kind {
        ParameterKind::List => {
            let Content::List(items) = &node.content else {
                problems.wrong_type(node, key, "a list", &format!("{key}: [a, b]"));
                return None;
            };
            let mut values = Vec::new();
            for item in items {
                match scalar::value(item, problems).map(list_item) {
                    Some(Ok(value)) => values.push(value),
                    Some(Err(why)) => {
                        problems.error(Code::WrongType, &item.span, why);
                    }
                    None => {}
                }
            }
            Value::Array(values)
        }
        ParameterKind::Boolean => Value::Bool(scalar::boolean(node, key, problems)?),
        ParameterKind::Integer => scalar::integer(node, key, i64::MIN, i64::MAX, problems)?.into(),
        _ => {
            let text = scalar::text(node, key, problems)?;
            match kind.value_of(&text.value) {
                Ok(value) => value,
                Err(why) => {
                    let code = if kind == ParameterKind::Secret { Code::SecretExposed } else { Code::WrongType };
                    problems.error(code, &node.span, format!("`{key}`: {why}"));
                    return None;
                }
            }
        }
    };
    Some(Spanned::new(value, node.span.clone()))
}

pub(crate) const SECRET_KEYS: &[&str] = &["env", "file", "command"];
const VAULTS: &str = "use env, file or command; a command can ask the vault";
pub(crate) const SECRET_KEYS_LATER: &[(&str, &str)] =
    &[("vault", VAULTS), ("aws", VAULTS), ("azure", VAULTS), ("gcp", VAULTS), ("keyring", VAULTS), ("age", VAULTS)];

/// `secrets`.
pub(crate) fn secrets(node: &Node, problems: &mut Problems) -> BTreeMap<String, Spanned<SecretRef>> {
    let mut secrets = BTreeMap::new();
    for entry in entries(node, "secrets", "secrets: {db: {env: DB_PW}}", problems) {
        let name = scalar::name(entry.key.clone(), "the name of a secret", is_variable, NAMES, problems);
        if let (Some(name), Some(reference)) = (name, secret(&entry.value, problems)) {
            secrets.insert(name.value, reference);
        }
    }
    secrets
}

/// Where one secret comes from.
pub(crate) fn secret(node: &Node, problems: &mut Problems) -> Option<Spanned<SecretRef>> {
    let Content::Mapping(keys) = &node.content else {
        // Whatever stands here may be the secret itself: it is not repeated.
        problems
            .error(Code::SecretExposed, &node.span.clone(), "a secret is given by where it is, never by its value")
            .help = Some("write {env: NAME}, {file: PATH} or {command: [program, argument]}".into());
        return None;
    };
    let fields = Fields::of(node, "a secret", SECRET_KEYS, SECRET_KEYS_LATER, problems)?;
    let given: Vec<&str> = SECRET_KEYS.iter().copied().filter(|key| fields.entry(key).is_some()).collect();
    match given.as_slice() {
        [] => {
            // An unknown key was reported already.
            if keys.is_empty() {
                problems.error(Code::MissingKey, &node.span, "the secret does not say where it is").help =
                    Some("write {env: NAME}, {file: PATH} or {command: [program, argument]}".into());
            }
            return None;
        }
        [_] => {}
        _ => {
            problems
                .error(Code::Conflict, &node.span, format!("a secret has one source, not {}", given.join(" and ")))
                .help = Some("keep one".into());
            return None;
        }
    }
    let reference = if let Some(node) = fields.get("env", problems) {
        let text = scalar::literal(node, "env", problems)?;
        SecretRef::Env(scalar::name(text, "an environment variable", is_variable, NAMES, problems)?.value)
    } else if let Some(node) = fields.get("file", problems) {
        SecretRef::File(scalar::literal(node, "file", problems)?.value)
    } else {
        let node = fields.get("command", problems)?;
        let argv: Vec<String> = items(node, "command", "command: [pass, show, db]", problems)
            .iter()
            .filter_map(|item| scalar::literal(item, "command", problems))
            .map(|text| text.value)
            .collect();
        if argv.is_empty() {
            if matches!(&node.content, Content::List(items) if items.is_empty()) {
                problems.error(Code::InvalidValue, &node.span, "`command` is empty");
            }
            return None;
        }
        SecretRef::Command(argv)
    };
    Some(Spanned::new(reference, node.span.clone()))
}
