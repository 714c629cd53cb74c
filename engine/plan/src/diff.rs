//! What differs between two plans, for whoever approved the one and is asked about the other.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::Sha256;
use runbook_model::plan::{Action, Plan, Step};
use serde::Serialize;
use serde_json::{Value, json};

use crate::invariants::actions;
use crate::printable;

/// The version of the JSON form.
pub const SCHEMA: &str = "plan-diff/v1";

/// What differs. Every difference between two plans is in it: it is empty only for equal plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The digest of the old plan.
    pub old: Sha256,
    /// The digest of the new plan.
    pub new: Sha256,
    /// In the order in which people want to read it: hosts, parameters, the rules of the run, files, steps.
    pub entries: Vec<Entry>,
}

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// What kind of thing.
    pub subject: Subject,
    /// Which one; empty for `order`.
    pub name: String,
    /// What became of it.
    pub change: Change,
    /// Which key of it, when it was in both plans and has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What was there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// What is there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// A kind of thing in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A host.
    Host,
    /// A parameter.
    Parameter,
    /// A rule of the whole run, or the runbook itself.
    Setting,
    /// A file that is sent.
    File,
    /// A step.
    Step,
    /// The order of the steps.
    Order,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is different.
    Changed,
}

/// What differs between `old` and `new`.
pub fn diff(old: &Plan, new: &Plan) -> Difference {
    let mut entries = Vec::new();
    let hosts = |plan: &Plan| -> BTreeMap<String, Value> {
        plan.hosts.iter().map(|(name, host)| (name.to_string(), json!(host))).collect()
    };
    compare(Subject::Host, &hosts(old), &hosts(new), &mut entries);
    for (name, change, before, after) in pairs(&old.parameters, &new.parameters) {
        entries.push(entry(Subject::Parameter, name, change, None, before, after));
    }
    let (before, after) = (settings(old), settings(new));
    for (name, change, before, after) in pairs(&before, &after) {
        entries.push(entry(Subject::Setting, name, change, None, before, after));
    }
    let files = |plan: &Plan| -> BTreeMap<String, Value> {
        let mut by_path: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (sha256, file) in &plan.files {
            by_path.entry(file.path.clone()).or_default().push(json!({"sha256": sha256, "bytes": file.bytes}));
        }
        by_path.into_iter().map(|(path, found)| (path, Value::Array(found))).collect()
    };
    for (name, change, before, after) in pairs(&files(old), &files(new)) {
        entries.push(entry(Subject::File, name, change, None, before, after));
    }
    let steps = |plan: &Plan| -> BTreeMap<String, Value> {
        plan.steps.iter().map(|step| (step.id.to_string(), json!(step))).collect()
    };
    compare(Subject::Step, &steps(old), &steps(new), &mut entries);
    let order = |plan: &Plan, other: &Plan| -> Vec<String> {
        let kept: BTreeSet<_> = other.steps.iter().map(|step| &step.id).collect();
        plan.steps.iter().filter(|step| kept.contains(&step.id)).map(|step| step.id.to_string()).collect()
    };
    let (before, after) = (order(old, new), order(new, old));
    if before != after {
        entries.push(entry(Subject::Order, "", Change::Changed, None, Some(&json!(before)), Some(&json!(after))));
    }
    Difference { old: old.digest(), new: new.digest(), entries }
}

/// All that is in a plan beside hosts, parameters, files and steps, by key; what is a mapping by its keys.
fn settings(plan: &Plan) -> BTreeMap<String, Value> {
    let mut settings = BTreeMap::new();
    let Value::Object(whole) = json!(plan) else { return settings };
    for (key, value) in whole {
        match (key.as_str(), value) {
            ("hosts" | "parameters" | "files" | "steps", _) => {}
            ("runbook" | "rollback" | "window" | "watch" | "access" | "secrets", Value::Object(inner)) => {
                settings.extend(inner.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            (_, value) => {
                settings.insert(key, value);
            }
        }
    }
    settings
}

type Pair<'a> = (&'a str, Change, Option<&'a Value>, Option<&'a Value>);

/// What is not the same in both, by name.
fn pairs<'a>(old: &'a BTreeMap<String, Value>, new: &'a BTreeMap<String, Value>) -> Vec<Pair<'a>> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let pair = |name: &'a String| match (old.get(name), new.get(name)) {
        (Some(before), Some(after)) if before == after => None,
        (before, after) => {
            let change = match (before, after) {
                (None, _) => Change::Added,
                (_, None) => Change::Removed,
                _ => Change::Changed,
            };
            Some((name.as_str(), change, before, after))
        }
    };
    names.into_iter().filter_map(pair).collect()
}

/// As [`pairs`], but what is in both is compared key by key.
fn compare(subject: Subject, old: &BTreeMap<String, Value>, new: &BTreeMap<String, Value>, entries: &mut Vec<Entry>) {
    for (name, change, before, after) in pairs(old, new) {
        let (Change::Changed, Some(Value::Object(before)), Some(Value::Object(after))) = (change, before, after) else {
            entries.push(entry(subject, name, change, None, before, after));
            continue;
        };
        let fields: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for field in fields.into_iter().filter(|field| before.get(*field) != after.get(*field)) {
            entries.push(entry(subject, name, Change::Changed, Some(field), before.get(field), after.get(field)));
        }
    }
}

fn entry(
    subject: Subject,
    name: &str,
    change: Change,
    field: Option<&str>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Entry {
    let (name, field) = (name.to_owned(), field.map(str::to_owned));
    Entry { subject, name, change, field, old: old.cloned(), new: new.cloned() }
}

impl Difference {
    /// Whether the plans are the same.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// One document: `{"schema": "plan-diff/v1", "old", "new", "same", "differences": […]}`.
    pub fn json(&self) -> Value {
        json!({
            "schema": SCHEMA,
            "old": self.old,
            "new": self.new,
            "same": self.is_empty(),
            "differences": self.entries,
        })
    }

    /// For people; lines begin with `+`, `-` or `~`. Ends with a line end.
    pub fn text(&self) -> String {
        if self.is_empty() {
            return format!("The plans are the same ({}).\n", self.old);
        }
        let mut out = format!("old plan  {}\nnew plan  {}\n", self.old, self.new);
        let mut last = None;
        for entry in &self.entries {
            if last != Some(entry.subject) {
                out.push_str(&format!("\n{}\n", title(entry.subject)));
                last = Some(entry.subject);
            }
            entry.text(&mut out);
        }
        out
    }
}

impl Entry {
    fn text(&self, out: &mut String) {
        let name = printable::text(&self.name);
        let what = match (&self.field, name.is_empty()) {
            (Some(field), _) => format!("{name}: {}", printable::text(field)),
            (None, true) => "they run in another order".into(),
            (None, false) => name,
        };
        let sign = match self.change {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Changed => '~',
        };
        out.push_str(&format!("  {sign} {what}\n"));
        let mut side = |sign: char, value: &Option<Value>| {
            for line in value.iter().flat_map(|value| self.lines(value)) {
                out.push_str(&format!("      {sign} {line}\n"));
            }
        };
        // A host that is new or gone is known by its name; of a step people want to see what it does.
        if self.change == Change::Changed || !matches!(self.subject, Subject::Host) {
            side('-', &self.old);
            side('+', &self.new);
        }
    }

    fn lines(&self, value: &Value) -> Vec<String> {
        let whole_step = self.subject == Subject::Step && self.field.is_none();
        if whole_step && let Ok(step) = serde_json::from_value::<Step>(value.clone()) {
            return actions(&step.work).flat_map(command).collect();
        }
        let work = self.subject == Subject::Step && matches!(self.field.as_deref(), Some("work" | "unless"));
        if work && let Ok(work) = serde_json::from_value(value.clone()) {
            return actions(&work).flat_map(command).collect();
        }
        match value {
            Value::String(text) => printable::lines(text),
            other => vec![printable::text(&other.to_string())],
        }
    }
}

/// What an action does, by its template. Two different actions have different lines: all but plain commands are shown
/// as they stand in the plan.
fn command(action: &Action) -> Vec<String> {
    match action {
        Action::Run { command, shell: None, strict: true } => printable::lines(&command.0),
        other => vec![printable::text(&json!(other).to_string())],
    }
}

fn title(subject: Subject) -> &'static str {
    match subject {
        Subject::Host => "Hosts",
        Subject::Parameter => "Parameters",
        Subject::Setting => "The run",
        Subject::File => "Files that are sent",
        Subject::Step => "Steps",
        Subject::Order => "Order",
    }
}

#[cfg(test)]
mod tests {
    use runbook_model::plan::{Action, Template, Work};

    use super::*;
    use crate::sample;

    #[test]
    fn equal_plans_do_not_differ() {
        let difference = diff(&sample::plan(3), &sample::plan(3));
        assert!(difference.is_empty());
        assert_eq!(difference.old, difference.new);
    }

    #[test]
    fn people_see_what_changed() {
        let old = sample::plan(3);
        let mut new = sample::plan(4);
        new.hosts.remove(&"fs002".into());
        new.batches[1].remove(0);
        new.parameters.insert("package".into(), json!("samba-\u{1b}[31m"));
        new.failure_budget = 1;
        new.hosts.get_mut(&"fs003".into()).unwrap().address = "10.0.0.3".into();
        new.steps[4].work =
            Work::Any(Action::Run { command: Template("dnf upgrade\nreboot".into()), shell: None, strict: true });
        new.steps[4].timeout_ms = 1_200_000;
        new.steps.remove(5);
        new.steps[5].needs = vec!["upgrade".into()];
        let difference = diff(&old, &new);
        insta::assert_snapshot!(difference.text());
        insta::assert_json_snapshot!(difference.json());
    }

    #[test]
    fn another_order_of_the_same_steps_is_a_difference() {
        let old = sample::plan(1);
        let mut new = old.clone();
        new.steps.swap(0, 1);
        let difference = diff(&old, &new);
        assert_eq!(difference.entries.len(), 1);
        assert_eq!(difference.entries[0].subject, Subject::Order);
    }
}
