//! The texts of the shipped actions, read by a linter.

use std::io::Write as _;
use std::process::{Command, Stdio};

use runbook_e2e::action::ShippedAction;
use runbook_testkit::lab;
use serde_json::{Map, Value, json};

#[test]
fn every_text_is_clean_for_shellcheck() {
    if Command::new("shellcheck").arg("--version").stdout(Stdio::null()).status().is_err() {
        lab::skip("shellcheck is missing; run tests/setup");
        return;
    }
    let mut texts = 0;
    let mut problems = String::new();
    for (name, action) in ShippedAction::all() {
        for operation in action.operations() {
            let text = action.text(operation, &example(&name), "/reference");
            let mut child = Command::new("shellcheck")
                // 2015: `a && b || fail` is meant. The others: values were put in as literals, so that some comparisons
                // and names look useless.
                .args([
                    "--shell=sh",
                    "--severity=style",
                    "--exclude=SC2015,SC2016,SC2034,SC2050,SC2194,SC2157,SC2043,SC2078,SC2094,SC3043",
                    "-",
                ])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child.stdin.take().unwrap().write_all(format!("set -eu\n{text}").as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            if !output.status.success() {
                problems += &format!("{name} {operation}:\n{}", String::from_utf8_lossy(&output.stdout));
            }
            texts += 1;
        }
    }
    assert!(problems.is_empty(), "{problems}");
    assert!(texts >= 25 + 6 * 3, "only {texts} texts were found");
}

// A value for every parameter that needs one.
fn example(name: &str) -> Value {
    let values: &[(&str, Value)] = match name {
        "disk-free" => &[("path", json!("/")), ("at_least", json!("1MiB"))],
        "service-active" | "service-restart" => &[("service", json!("x"))],
        "process-running" => &[("name", json!("x"))],
        "port-open" => &[("port", json!(80))],
        "http-ok" => &[("url", json!("http://x/"))],
        "file-present" => &[("path", json!("/x"))],
        "files-unchanged" => &[("manifest", json!("/x"))],
        "package-version" => &[("package", json!("x"))],
        "backup-fresh" => &[("tool", json!("restic")), ("repository", json!("/x")), ("max_age", json!("1d"))],
        "backup-restorable" => &[("tool", json!("borg")), ("repository", json!("/x")), ("path", json!("/x"))],
        "config-drift" => &[("reference", json!("/x"))],
        "maintenance-mode" => &[("state", json!("enter"))],
        "files-snapshot" => &[("paths", json!(["/a", "/b c"]))],
        "btrfs-snapshot" => &[("subvolume", json!("/x"))],
        "zfs-snapshot" => &[("dataset", json!("tank/x"))],
        "lvm-snapshot" => &[("group", json!("vg")), ("volume", json!("lv"))],
        "libvirt-snapshot" => &[("domain", json!("x"))],
        _ => &[],
    };
    Value::Object(values.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<Map<_, _>>())
}

#[test]
fn every_shipped_file_is_valid_and_warns_of_nothing() {
    let mut files = 0;
    let mut problems = String::new();
    for folder in ["../../runbooks", "../../runbooks/actions", "../../examples"] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "yaml") || path.ends_with("inventory.yaml") {
                continue;
            }
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let bytes = std::fs::read(&path).unwrap();
            let found = if folder.ends_with("actions") {
                runbook_lang::parse_action(&name, &bytes).map(|parsed| parsed.warnings)
            } else {
                runbook_lang::parse_runbook(&name, &bytes).map(|parsed| parsed.warnings)
            };
            for problem in found.unwrap_or_else(|errors| errors) {
                problems += &format!("{name}: {problem:?}\n");
            }
            files += 1;
        }
    }
    assert!(problems.is_empty(), "{problems}");
    assert!(files >= 30, "only {files} files were found");
}
