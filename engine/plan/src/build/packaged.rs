//! Steps that use a packaged action: which action, and the values of its parameters.
//!
//! In the plan `param.*` in all texts of such a step are the action's parameters ([`Step::with`]), and the texts of
//! these values speak of the runbook's names. What the runbook's author wrote around the action (`when`, `env`, …)
//! speaks of the runbook's parameters too; so these are handed down as further values, under another name where the
//! action has one of the same name.
//!
//! [`Step::with`]: runbook_model::plan::Step::with

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_lang::action::{ActionFile, ActionWork, Kind};
use runbook_lang::runbook::{Parameter, ParameterKind};
use runbook_lang::{Code, Diagnostic, Span, Spanned, Text, resolve_parameters};
use runbook_model::evaluate::Piece;
use runbook_model::plan::{Action, Expect, ExpectText, Expression, Phase, Plan, Template, Work};
use serde_json::{Value, json};

use super::Builder;
use super::step::asking;
use crate::render::{self, Due};

/// A packaged action with its values.
pub(super) struct Packaged {
    pub(super) file: Arc<ActionFile>,
    pub(super) with: BTreeMap<String, Value>,
}

impl Packaged {
    /// A text of the runbook's author, so that it means the same among the action's parameters.
    pub(super) fn own_text(&mut self, text: &Text, expression: bool, frame: &Plan) -> String {
        self.own(&text.value, expression, frame)
    }

    pub(super) fn own_action(&mut self, action: &mut Action, frame: &Plan) {
        match action {
            Action::Run { command, .. } => command.0 = self.own(&command.0, false, frame),
            Action::Argv { argv } => argv.iter_mut().for_each(|word| word.0 = self.own(&word.0, false, frame)),
            _ => {}
        }
    }

    pub(super) fn own_expect(&mut self, expect: &mut Expect, frame: &Plan) {
        for ExpectText { equals, contains, json, .. } in expect.stdout.iter_mut().chain(&mut expect.stderr) {
            for Template(text) in equals.iter_mut().chain(contains) {
                *text = self.own(text, false, frame);
            }
            if let Some(Expression(text)) = json {
                *text = self.own(text, true, frame);
            }
        }
    }

    fn own(&mut self, text: &str, expression: bool, frame: &Plan) -> String {
        let mut out = String::with_capacity(text.len());
        let mut done = 0;
        for (start, end) in parameter_names(text, expression) {
            let name = &text[start..end];
            let Some(value) = frame.parameters.get(name) else { continue };
            let value = match value {
                // A text of `with` is a template; so is this one.
                Value::String(_) | Value::Array(_) | Value::Object(_) => json!(format!("{{{{param.{name}}}}}")),
                known => known.clone(),
            };
            let mut inner = name.to_owned();
            while self.with.get(&inner).is_some_and(|other| *other != value) || self.is_of_action(&inner) {
                inner = format!("runbook_{inner}");
            }
            self.with.insert(inner.clone(), value);
            out.push_str(&text[done..start]);
            out.push_str(&inner);
            done = end;
        }
        out.push_str(&text[done..]);
        out
    }

    fn is_of_action(&self, name: &str) -> bool {
        self.file.parameters.contains_key(name)
    }
}

/// Where the names stand that follow `param.` in a template or expression.
fn parameter_names(text: &str, expression: bool) -> Vec<(usize, usize)> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let mut quote: Option<u8> = None;
    let mut depth = 0usize;
    let mut at = 0;
    while at < bytes.len() {
        let byte = bytes[at];
        let inside = expression || depth > 0;
        match quote {
            Some(_) if byte == b'\\' => at += 1,
            Some(open) if byte == open => quote = None,
            Some(_) => {}
            None if !expression && text[at..].starts_with("{{") => {
                depth += 1;
                at += 1;
            }
            None if !expression && text[at..].starts_with("}}") => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            None if inside && (byte == b'\'' || byte == b'"') => quote = Some(byte),
            None if inside && bytes[at..].starts_with(b"param.") => {
                let starts = at == 0 || !(is_word(bytes[at - 1]) || bytes[at - 1] == b'.');
                let name = at + b"param.".len();
                let end = name + bytes[name..].iter().take_while(|b| is_word(**b)).count();
                if starts && end > name {
                    found.push((name, end));
                }
                at = end.max(at + 1);
                continue;
            }
            None => {}
        }
        at += 1;
    }
    found
}

impl Builder<'_> {
    /// The action called `name` for a step of `phase`, with the values of `with` and its own defaults.
    pub(super) fn packaged(
        &mut self,
        name: &Text,
        when: Option<&Text>,
        with: &BTreeMap<String, Spanned<Value>>,
        phase: Phase,
        item: Option<&Value>,
    ) -> Option<Packaged> {
        let file = match self.request.actions.find(&name.value) {
            Ok(Some(file)) => file,
            Ok(None) => {
                let mut problem =
                    Diagnostic::error(Code::UnknownAction, &name.span, format!("there is no action `{}`", name.value));
                let names = self.request.actions.names();
                problem.help = Some(match nearest(&name.value, &names) {
                    Some(near) => format!("did you mean `{near}`? `runbook actions list` shows all"),
                    None => "`runbook actions list` shows all; your own go into `actions/` next to the runbook".into(),
                });
                self.report(problem);
                return None;
            }
            Err(problems) => {
                for problem in problems {
                    if !self.problems.contains(&problem) {
                        self.report(problem);
                    }
                }
                return None;
            }
        };
        self.check_kind(&file, name, phase);
        let mut values = BTreeMap::new();
        for (key, given) in with {
            match file.parameters.get(key) {
                Some(parameter) => {
                    if let Some(value) = self.with_value(parameter, given, when, item) {
                        values.insert(key.clone(), value);
                    }
                }
                None => {
                    let known: Vec<String> = file.parameters.keys().cloned().collect();
                    let message = format!("the action `{}` has no parameter `{key}`", name.value);
                    let mut problem = Diagnostic::error(Code::UnknownParameter, &given.span, message);
                    problem.help = Some(match nearest(key, &known) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None if known.is_empty() => "it has no parameters at all".into(),
                        None => format!("its parameters are {}", known.join(", ")),
                    });
                    self.report(problem);
                }
            }
        }
        for (key, parameter) in file.parameters.iter().filter(|(key, _)| !with.contains_key(*key)) {
            match &parameter.default {
                Some(default) => {
                    values.insert(key.clone(), literal(&default.value));
                }
                None if parameter.required => {
                    let message = format!("the action `{}` needs a value for `{key}`", name.value);
                    self.report(
                        Diagnostic::error(Code::MissingParameter, &name.span, message)
                            .help(format!("add `with: {{{key}: …}}`"))
                            .label(&parameter.name.span, "it is required here"),
                    );
                }
                None => {}
            }
        }
        Some(Packaged { file, with: values })
    }

    fn check_kind(&mut self, file: &ActionFile, name: &Text, phase: Phase) {
        let wrong = match (phase, file.kind) {
            (Phase::Prechecks | Phase::Verify, Kind::Task | Kind::Snapshot) => "only reads: use a check",
            (Phase::Execute | Phase::Rollback | Phase::Finally, Kind::Snapshot) => {
                "is no place for snapshots: they are taken in `snapshot`"
            }
            _ => return,
        };
        let message = format!("`{}` is a {}, and `{phase}` {wrong}", name.value, file.kind.name());
        self.report(
            Diagnostic::error(Code::ActionMisused, &name.span, message)
                .label(&file.name.span, format!("a {} by its `kind`", file.kind.name())),
        );
    }

    /// The work of the action: for a snapshot its `take`.
    pub(super) fn packaged_work(&mut self, packaged: &Packaged) -> Option<Work> {
        let by_os = match &packaged.file.work {
            ActionWork::Once(by_os) => by_os,
            ActionWork::Snapshot { take, .. } => take,
        };
        self.by_os(by_os, packaged.file.source.name())
    }

    /// The value of an action's parameter for the plan, checked as far as it is known now. `None` when it is wrong and
    /// that was reported.
    fn with_value(
        &mut self,
        parameter: &Parameter,
        given: &Spanned<Value>,
        when: Option<&Text>,
        item: Option<&Value>,
    ) -> Option<Value> {
        let template = match &given.value {
            Value::String(text) if text.contains("{{") => Template(text.clone()),
            value => {
                return match typed(parameter, value) {
                    Ok(value) => Some(value),
                    Err(why) => self.refuse(&given.span, why),
                };
            }
        };
        // Results of steps, and what cannot be rendered without them, are looked at when all steps are there. A list
        // is handed on as a list, not as its text.
        let later = template.0.contains("steps.") || parameter.kind == ParameterKind::List;
        if later || !self.heads_are_sound {
            return Some(given.value.clone());
        }
        let mut holder = asking(Template(String::new()), item);
        holder.stdin = Some(template);
        holder.when = when.filter(|when| !when.value.contains("steps")).map(|when| Expression(when.value.clone()));
        let cells = match render::cells(self.frame, &holder, &self.hosts, self.request.evaluate) {
            Ok(cells) => cells,
            Err(failures) => {
                for failure in failures {
                    let message = failure.message.replace("stdin", "with");
                    self.report_failure(&given.span, render::Failure { message, ..failure });
                }
                return None;
            }
        };
        let mut values = Vec::new();
        // Where the step is skipped its values may be whatever they are.
        for variant in cells.variants.iter().filter(|variant| !matches!(variant.due, Due::No(_))) {
            let pieces = variant.rendered.stdin.as_ref().map(|text| text.0.as_slice()).unwrap_or_default();
            let secret = pieces.iter().any(|piece| matches!(piece, Piece::Secret(_)));
            if secret || !variant.rendered.unknown.is_empty() {
                return Some(given.value.clone());
            }
            let text: String = pieces
                .iter()
                .map(|piece| match piece {
                    Piece::Text(text) | Piece::Secret(text) => text.as_str(),
                })
                .collect();
            // A duration of the runbook reads as its seconds.
            let seconds = parameter.kind == ParameterKind::Duration && text.bytes().all(|b| b.is_ascii_digit());
            match typed(parameter, &json!(if seconds { format!("{text}s") } else { text.clone() })) {
                Ok(value) => values.push((text, value)),
                Err(why) => return self.refuse(&given.span, why),
            }
        }
        // Texts stay templates: what their parameters hold must not be read as a template a second time.
        match values.as_slice() {
            [(_, only @ (Value::Number(_) | Value::Bool(_)))] => Some(only.clone()),
            _ => match values.iter().find(|(text, value)| {
                !value.is_string() && !value.is_array() && text.as_str() != value.to_string().as_str()
            }) {
                None => Some(given.value.clone()),
                Some((text, value)) => {
                    let unit = match parameter.kind {
                        ParameterKind::Duration => "in seconds, ",
                        ParameterKind::Size => "in bytes, ",
                        _ => "",
                    };
                    let why = format!("`{text}` differs from host to host, so it must be written {unit}as `{value}`");
                    self.refuse(&given.span, why)
                }
            },
        }
    }

    fn refuse(&mut self, span: &Span, why: String) -> Option<Value> {
        self.report(Diagnostic::error(Code::ParameterValue, span, why));
        None
    }
}

/// `value` as the type of `parameter` and within its rules.
fn typed(parameter: &Parameter, value: &Value) -> Result<Value, String> {
    let name = &parameter.name.value;
    if parameter.kind == ParameterKind::Secret {
        return Err(format!("`{name}`: give it a secret of the runbook: \"{{{{secret.NAME}}}}\""));
    }
    let text = match (value, parameter.kind) {
        (Value::String(text), _) => text.clone(),
        (Value::Array(_), ParameterKind::List) | (Value::Number(_) | Value::Bool(_), _) => value.to_string(),
        _ => return Err(format!("`{name}`: this is not of type {}", parameter.kind.name())),
    };
    let rules = BTreeMap::from([(name.clone(), parameter.clone())]);
    match resolve_parameters(&rules, &BTreeMap::from([(name.clone(), text)])) {
        Ok(mut resolved) => Ok(resolved.values.remove(name).unwrap_or(Value::Null)),
        Err(problems) => Err(problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")),
    }
}

/// A default of an action, which is no template of the runbook: braces in it are escaped.
fn literal(value: &Value) -> Value {
    match value {
        Value::String(text) => json!(text.replace("{{", "\\{{")),
        Value::Array(items) => items.iter().map(literal).collect(),
        other => other.clone(),
    }
}

/// The known name that differs least from `written`, when it is near enough to be meant.
fn nearest<'a>(written: &str, known: &'a [String]) -> Option<&'a str> {
    runbook_lang::similar::nearest(written, known.iter().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, expression: bool) -> Vec<&str> {
        parameter_names(text, expression).into_iter().map(|(start, end)| &text[start..end]).collect()
    }

    #[test]
    fn parameters_are_found_where_they_are_names() {
        assert_eq!(found("echo param.a {{param.b}} {{#if param.c}}param.d{{/if}}", false), ["b", "c"]);
        assert_eq!(found("param.a > 1 && x.param.b == 'param.c' || param.d_1=='\\'param.e'", true), ["a", "d_1"]);
        assert_eq!(found("{{{param.raw}}} {{lookup param.list 0}}", false), ["raw", "list"]);
    }
}
