//! Every runbook that we ship, and every example, can be planned with the shipped actions.

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use runbook_plan::Preview;
use support::Project;

const INVENTORY: &str = "
schema: inventory/v1
hosts:
  fs01: {address: 10.0.0.1, groups: [fileservers, web, databases], labels: {site: hq}}
  fs02: {address: 10.0.0.2, groups: [fileservers, web, databases], labels: {site: branch}}
";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn yaml_files(folder: &str) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}"));
    let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "yaml"));
    paths
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .collect()
}

#[test]
fn every_shipped_runbook_and_example_can_be_planned() {
    let actions = yaml_files("runbooks/actions");
    assert!(actions.len() > 10);
    let actions: Vec<&str> = actions.values().map(String::as_str).collect();
    let mut runbooks = yaml_files("runbooks");
    runbooks.extend(yaml_files("examples"));
    assert!(runbooks.len() > 8);
    let mut failures = String::new();
    for (name, text) in &runbooks {
        if let Err(problems) = runbook_lang::parse_runbook(name, text.as_bytes()) {
            failures += &format!("{name}:\n{}", support::shown(&problems));
            continue;
        }
        let mut project = Project::new(text.as_bytes(), INVENTORY.as_bytes(), &actions);
        if project.runbook.targets.select.is_none() {
            project.limit = Some(runbook_lang::selector::parse_text("--limit", "fs01").unwrap());
        }
        for (parameter, rules) in project.runbook.parameters.iter().filter(|(_, rules)| rules.required) {
            let value = match rules.kind {
                runbook_lang::runbook::ParameterKind::Integer => "15",
                runbook_lang::runbook::ParameterKind::Path => "/tmp/x",
                _ => "nginx",
            };
            project.parameters.insert(parameter.clone(), value.to_owned());
        }
        match project.build() {
            Err(problems) => failures += &format!("{name}:\n{}", support::shown(&problems)),
            Ok(plan) => {
                let preview = Preview::of(&plan, &project.evaluator).unwrap_or_else(|e| panic!("{name}: {}", e[0]));
                assert!(preview.text(80).contains(plan.digest().to_string().as_str()));
                assert_eq!(runbook_plan::load(&runbook_plan::save(&plan)).as_ref(), Ok(&plan), "{name}");
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
