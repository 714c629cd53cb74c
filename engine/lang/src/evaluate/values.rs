//! The values of names, for one host at one moment.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use runbook_model::evaluate::{Piece, Scope, SecretText, StepResult};
use runbook_model::id::StepId;
use runbook_model::plan::{Role, Step};
use serde_json::Value;

use super::cache::Cache;
use crate::template::{Found, Place, Values, descend, path_text};

/// A scope, and of it what one text may see.
pub(super) struct ScopeValues<'s> {
    cache: &'s Cache,
    scope: &'s Scope<'s>,
    step: Option<&'s Step>,
    /// The packaged action's parameters.
    with: Option<&'s BTreeMap<String, Value>>,
    /// `json`, in `expect…json`.
    json: Option<&'s Value>,
    used: RefCell<BTreeSet<String>>,
}

impl<'s> ScopeValues<'s> {
    /// The names of the runbook itself.
    pub(super) fn outer(cache: &'s Cache, scope: &'s Scope<'s>, step: Option<&'s Step>) -> Self {
        Self { cache, scope, step, with: None, json: None, used: RefCell::default() }
    }

    /// The names in a step's own texts: where it is a packaged action, `param.*` are its parameters.
    pub(super) fn of_step(cache: &'s Cache, scope: &'s Scope<'s>, step: &'s Step) -> Self {
        Self { cache, scope, step: Some(step), with: step.with.as_ref(), json: None, used: RefCell::default() }
    }

    /// With `json`.
    pub(super) fn with_json(self, json: &'s Value) -> Self {
        Self { json: Some(json), ..self }
    }

    /// The runbook's names that were looked up.
    pub(super) fn used(&self) -> BTreeSet<String> {
        self.used.borrow().clone()
    }

    fn preview(&self) -> bool {
        self.scope.run.is_none()
    }

    fn unknown(path: &[String]) -> Found<'static> {
        let name = path_text(path);
        Found::Unknown(format!("‹{name}›"), BTreeSet::from([name]))
    }

    fn parameter(&self, path: &[String]) -> Result<Found<'_>, String> {
        let name = path.get(1).ok_or("param is a group of names, not a value")?;
        if let Some(with) = self.with {
            let value = with.get(name).ok_or_else(|| format!("the action has no parameter {name}"))?;
            return below(self.given(value)?, path, 2);
        }
        let parameters = &self.scope.plan.parameters;
        let value = parameters.get(name).ok_or_else(|| format!("the parameter {name} has no value"))?;
        match secret_name(value) {
            Some(secret) => self.secret(secret),
            None => below(Found::Value(Cow::Borrowed(value)), path, 2),
        }
    }

    /// A value of `with`, whose texts are templates of the runbook's own names.
    fn given<'v>(&'v self, value: &'v Value) -> Result<Found<'v>, String> {
        if let Some(secret) = secret_name(value) {
            return self.secret(secret);
        }
        match value {
            Value::String(text) if text.contains("{{") => {
                let template = self.cache.template(text, Place::Private)?;
                let outer = Self::outer(self.cache, self.scope, self.step);
                let found = match template.single(&outer) {
                    Some(found) => owned(found.map_err(|(_, message)| message)?),
                    None => {
                        let output = template.render(&outer).map_err(|(_, message)| message)?;
                        let has_secrets = output.text.secrets().next().is_some();
                        if has_secrets {
                            Found::Secret(output.text)
                        } else if output.unknown.is_empty() {
                            Found::text(output.into_plain())
                        } else {
                            let names = output.unknown.clone();
                            Found::Unknown(output.into_plain(), names)
                        }
                    }
                };
                self.used.borrow_mut().extend(outer.used());
                Ok(found)
            }
            Value::Array(items) if items.iter().any(has_template) => {
                let mut values = Vec::with_capacity(items.len());
                for item in items {
                    match self.given(item)? {
                        Found::Value(value) => values.push(value.into_owned()),
                        Found::Secret(_) => return Err("a secret cannot be in a list".into()),
                        unknown @ Found::Unknown(..) => return Ok(unknown),
                    }
                }
                Ok(Found::Value(Cow::Owned(Value::Array(values))))
            }
            _ => Ok(Found::Value(Cow::Borrowed(value))),
        }
    }

    fn secret(&self, name: &str) -> Result<Found<'static>, String> {
        if !self.scope.plan.secrets.contains_key(name) {
            let what = if self.scope.plan.parameters.contains_key(name) { "has no value" } else { "is not declared" };
            return Err(format!("the secret {name} {what}"));
        }
        Ok(Found::Secret(SecretText(vec![Piece::Secret(name.to_owned())])))
    }

    fn host(&self, path: &[String]) -> Result<Found<'_>, String> {
        let host = self.scope.host;
        let optional = |value: &Option<String>, what: &str| match value {
            Some(value) => Ok(Found::text(value.as_str())),
            None => Err(format!("the host {} has no {what} in the inventory", host.name)),
        };
        let name = path.get(1).map(String::as_str).ok_or("host is a group of names, not a value")?;
        let value = match (name, path.get(2)) {
            ("name", _) => Found::text(host.name.as_str()),
            ("address", _) => Found::text(host.address.as_str()),
            ("os", _) => Found::text(host.os.to_string()),
            ("transport", _) => Found::text(host.transport.as_str()),
            ("cui", _) => Found::Value(Cow::Owned(Value::Bool(host.cui))),
            ("owner", _) => optional(&host.owner, "owner")?,
            ("cui_owner", _) => optional(&host.cui_owner, "cui_owner")?,
            ("risk", _) => optional(&host.risk, "risk")?,
            ("groups", _) => {
                Found::Value(Cow::Owned(Value::Array(host.groups.iter().cloned().map(Value::String).collect())))
            }
            ("labels", Some(label)) => {
                let value =
                    host.labels.get(label).ok_or_else(|| format!("the host {} has no label {label}", host.name))?;
                return below(Found::text(value.as_str()), path, 3);
            }
            ("vars", Some(name)) => {
                let value =
                    host.vars.get(name).ok_or_else(|| format!("the host {} has no variable {name}", host.name))?;
                return below(Found::Value(Cow::Borrowed(value)), path, 3);
            }
            ("labels", None) => Found::Value(Cow::Owned(Value::Object(
                host.labels.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect(),
            ))),
            ("vars", None) => Found::Value(Cow::Owned(Value::Object(
                host.vars.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
            ))),
            ("facts", fact) => {
                let Some(facts) = self.scope.facts else {
                    return if self.preview() {
                        Ok(Self::unknown(path))
                    } else {
                        Err(format!("the facts of {} are not known: it is not connected", host.name))
                    };
                };
                let fact = fact.ok_or("host.facts is a group of names, not a value")?;
                let value = match fact.as_str() {
                    "os" => &facts.os,
                    "os_version" => &facts.os_version,
                    "kernel" => &facts.kernel,
                    "arch" => &facts.arch,
                    "boot_id" => &facts.boot_id,
                    other => return Err(format!("there is no fact {other}")),
                };
                return below(Found::text(value.as_str()), path, 3);
            }
            (other, _) => return Err(format!("a host has no {other}")),
        };
        below(value, path, 2)
    }

    fn run(&self, path: &[String]) -> Result<Found<'_>, String> {
        let name = path.get(1).map(String::as_str).unwrap_or_default();
        if name == "tier" {
            return below(Found::text(self.scope.plan.runbook.tier.name()), path, 2);
        }
        if !matches!(name, "id" | "ticket" | "operator" | "started_at") {
            return Err(format!("a run has no {name}"));
        }
        let Some(run) = self.scope.run else { return Ok(Self::unknown(path)) };
        let value = match name {
            "id" => &run.id,
            "ticket" => &run.ticket,
            "operator" => &run.operator,
            _ => &run.started_at,
        };
        below(Found::text(value.as_str()), path, 2)
    }

    fn steps(&self, path: &[String]) -> Result<Found<'_>, String> {
        let id = path.get(1).ok_or("steps is a group of names, not a value")?;
        let Some(result) = self.scope.steps.result(&StepId::from(id.as_str())) else {
            return if self.preview() {
                Ok(Self::unknown(path))
            } else {
                Err(format!("the step {id} has no result yet"))
            };
        };
        let StepResult { stdout, stderr, exit_code, skipped } = result;
        let value = match path.get(2).map(String::as_str) {
            Some("stdout") => Value::String(stdout),
            Some("stderr") => Value::String(stderr),
            Some("exit_code") => exit_code.map_or(Value::Null, Value::from),
            Some("skipped") => Value::Bool(skipped),
            Some("json") if skipped => return Err(format!("the step {id} was skipped, so it has no output")),
            Some("json") => serde_json::from_str(&stdout)
                .map_err(|error| format!("the standard output of the step {id} is not JSON ({error})"))?,
            Some(other) => return Err(format!("a step has no {other}")),
            None => return Err(format!("steps.{id} is a group of names, not a value")),
        };
        below(Found::Value(Cow::Owned(value)), path, 3)
    }

    fn snapshot(&self, path: &[String]) -> Result<Found<'_>, String> {
        let name = path.get(1).map(String::as_str).unwrap_or_default();
        if let Some(snapshot) = &self.scope.snapshot {
            let value = match name {
                "id" => &snapshot.id,
                "reference" => &snapshot.reference,
                "run" => &snapshot.run,
                other => return Err(format!("a snapshot has no {other}")),
            };
            return below(Found::text(value.as_str()), path, 2);
        }
        let operation = self.step.and_then(|step| match &step.role {
            Role::Take => Some(&step.id),
            Role::Probe { of } | Role::Restore { of } | Role::Release { of } => Some(of),
            _ => None,
        });
        match operation {
            Some(id) if name == "id" => Ok(Found::text(id.as_str())),
            Some(_) if self.preview() => Ok(Self::unknown(path)),
            _ => Err("snapshot.* means something only in the operations of a snapshot action".into()),
        }
    }
}

impl Values for ScopeValues<'_> {
    fn value(&self, path: &[String]) -> Result<Found<'_>, String> {
        let root = path.first().map(String::as_str).unwrap_or_default();
        if !(root == "param" && self.with.is_some() || root == "json") {
            self.used.borrow_mut().insert(path_text(path));
        }
        match root {
            "param" => self.parameter(path),
            "host" => self.host(path),
            "run" => self.run(path),
            "steps" => self.steps(path),
            "secret" => self.secret(path.get(1).map(String::as_str).unwrap_or_default()),
            "snapshot" => self.snapshot(path),
            "item" => match self.step.and_then(|step| step.item.as_ref()) {
                Some(item) => below(Found::Value(Cow::Borrowed(item)), path, 1),
                None => Err("item means something only in a step with `each`".into()),
            },
            "json" => match self.json {
                Some(json) => below(Found::Value(Cow::Borrowed(json)), path, 1),
                None => Err("json means something only in `expect`".into()),
            },
            _ => Err(format!("the name {} is not known", path_text(path))),
        }
    }
}

/// Follows the rest of a path, from its part `from` on.
fn below<'a>(found: Found<'a>, path: &[String], from: usize) -> Result<Found<'a>, String> {
    match found {
        Found::Value(value) if path.len() > from => {
            descend(value, &path_text(&path[..from]), &path[from..]).map(Found::Value)
        }
        found => Ok(found),
    }
}

fn owned(found: Found<'_>) -> Found<'static> {
    match found {
        Found::Value(value) => Found::Value(Cow::Owned(value.into_owned())),
        Found::Secret(text) => Found::Secret(text),
        Found::Unknown(shown, names) => Found::Unknown(shown, names),
    }
}

/// `{"secret": NAME}`: how a plan writes a parameter that is a secret.
fn secret_name(value: &Value) -> Option<&str> {
    let fields = value.as_object()?;
    if fields.len() == 1 { fields.get("secret")?.as_str() } else { None }
}

fn has_template(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("{{"),
        Value::Array(items) => items.iter().any(has_template),
        Value::Object(_) => secret_name(value).is_some(),
        _ => false,
    }
}
