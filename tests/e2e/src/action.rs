//! Shipped actions, run on a lab host as root without an engine: what their texts do, and what they say.
//!
//! Values are put into the texts as the engine does it: quoted for sh, sizes in bytes, durations in seconds.

use std::path::PathBuf;

use runbook_model::shell::ShellKind;
use runbook_model::units::{parse_duration_ms, parse_size};
use runbook_testkit::lab::{LabHost, Output};
use serde_json::{Map, Value, json};

/// A file of `runbooks/actions`.
#[derive(Debug, Clone)]
pub struct ShippedAction {
    file: Value,
}

/// The run and step in whose name a snapshot is taken.
pub const RUN: &str = "0199f3a0-7b1c-7c3e-9d1f-2a4b6c8d0e1f";

/// Where the library is.
pub fn library() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../runbooks")
}

impl ShippedAction {
    /// The action of this name.
    ///
    /// # Panics
    /// When there is none, or its file is no YAML.
    pub fn load(name: &str) -> Self {
        let path = library().join("actions").join(format!("{name}.yaml"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file: Value = serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(file["name"], json!(name), "a file is named like its action");
        Self { file }
    }

    /// All of the library.
    ///
    /// # Panics
    /// When the library cannot be read.
    pub fn all() -> Vec<(String, Self)> {
        let mut names: Vec<String> = std::fs::read_dir(library().join("actions"))
            .expect("the library is there")
            .map(|entry| entry.expect("a file").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
            .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
            .collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), Self::load(&name))).collect()
    }

    /// Its operations that have a text for sh: the empty name for checks and tasks, `undo`, and a snapshot's four.
    pub fn operations(&self) -> Vec<&'static str> {
        ["", "undo", "take", "probe", "restore", "release"]
            .into_iter()
            .filter(|operation| self.source(operation).is_some())
            .collect()
    }

    fn source(&self, operation: &str) -> Option<&str> {
        let place = if operation.is_empty() { &self.file } else { &self.file[operation] };
        place["posix"]["run"].as_str()
    }

    /// The text of an operation with its values.
    ///
    /// # Panics
    /// When a value is missing or wrong, or the text uses what the language does not have.
    pub fn text(&self, operation: &str, with: &Value, reference: &str) -> String {
        let source = self.source(operation).unwrap_or_else(|| panic!("no operation {operation}"));
        let values = self.values(with);
        let mut text = String::new();
        let mut rest = source;
        while let Some(at) = rest.find("{{") {
            text.push_str(&rest[..at]);
            rest = &rest[at + 2..];
            let end = rest.find("}}").expect("a value ends");
            let name = rest[..end].trim();
            rest = &rest[end + 2..];
            if let Some(list) = name.strip_prefix("#each param.") {
                let body = "{{this}} {{/each}}";
                rest = rest.strip_prefix(body).unwrap_or_else(|| panic!("{list}: only the plain form is known here"));
                for item in values[list].as_array().expect("a list") {
                    text.push_str(&word(item));
                    text.push(' ');
                }
                continue;
            }
            let value = match name.split_once('.') {
                Some(("param", parameter)) => values[parameter].clone(),
                Some(("snapshot", "run")) | Some(("run", "id")) => json!(RUN),
                Some(("snapshot", "id")) => json!("data"),
                Some(("snapshot", "reference")) => json!(reference),
                _ => panic!("{name} is not known here"),
            };
            text.push_str(&word(&value));
        }
        text.push_str(rest);
        text
    }

    fn values(&self, with: &Value) -> Map<String, Value> {
        let mut values = Map::new();
        let empty = Map::new();
        let given = with.as_object().unwrap_or(&empty);
        let parameters = self.file["parameters"].as_object().unwrap_or(&empty);
        if let Some(unknown) = given.keys().find(|name| !parameters.contains_key(*name)) {
            panic!("{unknown} is no parameter");
        }
        for (name, parameter) in parameters {
            let Some(value) = given.get(name).or_else(|| parameter.get("default")) else {
                panic!("{name} is required");
            };
            let typed = match (parameter["type"].as_str(), value.as_str()) {
                (Some("size"), Some(text)) => json!(parse_size(text).expect("a size")),
                (Some("duration"), Some(text)) => json!(parse_duration_ms(text).expect("a duration") / 1000),
                _ => value.clone(),
            };
            values.insert(name.clone(), typed);
        }
        values
    }

    /// Runs a check or task on the host, as root.
    ///
    /// # Panics
    /// When it could not be started.
    pub fn run(&self, host: &LabHost, with: Value) -> Output {
        host.try_sh(&self.text("", &with, "")).expect("it starts")
    }

    /// Runs the operation of a snapshot, or `undo`, on the host, as root.
    ///
    /// # Panics
    /// When it could not be started.
    pub fn operate(&self, host: &LabHost, operation: &str, with: &Value, reference: &str) -> Output {
        host.try_sh(&self.text(operation, with, reference)).expect("it starts")
    }

    /// Takes a snapshot, has it probed, and gives its reference.
    ///
    /// # Panics
    /// When one of them fails.
    pub fn take(&self, host: &LabHost, with: &Value) -> String {
        let taken = self.operate(host, "take", with, "");
        assert!(taken.ok(), "take: {taken:?}");
        let reference = taken.stdout.lines().rfind(|line| !line.trim().is_empty()).expect("a reference").to_owned();
        let probed = self.operate(host, "probe", with, &reference);
        assert!(probed.ok(), "probe: {probed:?}");
        reference
    }
}

fn word(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Array(_) | Value::Object(_) => panic!("{value} is no word"),
        other => other.to_string(),
    };
    ShellKind::Sh.quote_part(&text).expect("it can be quoted")
}
