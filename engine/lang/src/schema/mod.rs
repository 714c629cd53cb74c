//! JSON Schemas (draft 2020-12) of the files that people write, so that editors complete and check while typing.
//!
//! Generated from the types in this module, which mirror what the readers accept, key by key; tests keep the two in step (the
//! same keys, the same verdict on every fixture). A schema sees less than the readers: ids, names and cycles are
//! beyond it, so a file that satisfies it may still be wrong. What it refuses the readers refuse too.

mod action;
mod inventory;
mod people;
mod policy;
mod runbook;
mod schedule;
mod values;
mod windows;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The schema of `runbook/v1`.
pub fn runbook() -> Value {
    of::<runbook::Runbook>("runbook/v1", "A runbook: a change that is planned, verified and taken back")
}

/// The schema of `inventory/v1`.
pub fn inventory() -> Value {
    of::<inventory::Inventory>("inventory/v1", "An inventory: the hosts that runbooks work on")
}

/// The schema of `action/v1`.
pub fn action() -> Value {
    of::<action::Action>("action/v1", "A packaged action: a check, task or snapshot with a name")
}

/// The schema of `windows/v1`.
pub fn windows() -> Value {
    of::<windows::Windows>("windows/v1", "Windows: when work may be done")
}

/// The schema of `schedule/v1`.
pub fn schedule() -> Value {
    of::<schedule::Schedules>("schedule/v1", "Schedules: what runs by itself, and when")
}

/// The schema of `people/v1`.
pub fn people() -> Value {
    of::<people::People>("people/v1", "People: who works here, and what they may decide")
}

/// The schema of `policy/v1`.
pub fn policy() -> Value {
    of::<policy::Policy>("policy/v1", "A policy: what work needs before it may begin")
}

/// A schema as it is kept in `docs/schemas`.
pub fn text(schema: &Value) -> String {
    let mut text = serde_json::to_string_pretty(schema).expect("a schema is JSON");
    text.push('\n');
    text
}

fn of<T: JsonSchema>(name: &str, title: &str) -> Value {
    let schema: Schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    without_nulls(&mut value);
    value["title"] = Value::from(title);
    value["properties"]["schema"] =
        serde_json::json!({"description": "The kind and version of this file.", "const": name});
    value
}

/// An optional key may be left out, but it is not nothing when it is there: takes `null` out of every property but
/// `reboot`, which needs no value.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::Object(properties)) = map.get_mut("properties") {
                for (_, property) in properties.iter_mut().filter(|(key, _)| *key != "reboot") {
                    drop_null(property);
                }
            }
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

fn drop_null(property: &mut Value) {
    let Value::Object(map) = property else { return };
    if let Some(Value::Array(types)) = map.get_mut("type") {
        types.retain(|word| word != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            map.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(choices)) = map.get_mut("anyOf") {
        choices.retain(|choice| choice != &serde_json::json!({"type": "null"}));
        if let [Value::Object(only)] = choices.as_slice() {
            let only = only.clone();
            map.remove("anyOf");
            map.extend(only);
        }
    }
}

#[cfg(test)]
mod tests;
