//! The schemas and the readers say the same.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::codes::Code;
use crate::inventory::{NoFiles, parse_inventory};
use crate::read;
use crate::{parse_action, parse_people, parse_policy, parse_runbook, parse_schedule, parse_windows};

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn keys<'a>(schema: &'a Value, definition: &str) -> BTreeSet<&'a str> {
    let object = if definition.is_empty() { schema } else { &schema["$defs"][definition] };
    object["properties"]
        .as_object()
        .unwrap_or_else(|| panic!("`{definition}` has properties"))
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn the_schemas_have_the_keys_that_the_readers_have() {
    let (runbook, action, inventory) = (super::runbook(), super::action(), super::inventory());
    let (windows, people, policy, schedule) = (super::windows(), super::people(), super::policy(), super::schedule());
    let times: Vec<&str> = read::windows::TIMES_KEYS.iter().copied().filter(|key| *key != "for").collect();
    let set = |known: &[&'static str]| known.iter().copied().collect::<BTreeSet<_>>();
    for (schema, definition, known) in [
        (&runbook, "", read::runbook::KEYS),
        (&runbook, "Step", read::step::KEYS),
        (&runbook, "Parameter", read::parameter::KEYS),
        (&runbook, "Targets", read::runbook::TARGET_KEYS),
        (&runbook, "Watch", read::runbook::WATCH_KEYS),
        (&runbook, "Defaults", read::runbook::DEFAULT_KEYS),
        (&runbook, "Rollback", read::runbook::ROLLBACK_KEYS),
        (&runbook, "WindowEnd", read::runbook::WINDOW_KEYS),
        (&runbook, "Access", read::access::ACCESS_KEYS),
        (&runbook, "CertificateAccess", read::access::CERTIFICATE_KEYS),
        (&runbook, "SudoAccess", read::access::SUDO_KEYS),
        (&runbook, "AccountAccess", read::access::ACCOUNT_KEYS),
        (&runbook, "Retry", read::step::RETRY_KEYS),
        (&runbook, "Expect", read::step::EXPECT_KEYS),
        (&runbook, "ExpectText", read::step::EXPECT_TEXT_KEYS),
        (&runbook, "Script", read::command::SCRIPT_KEYS),
        (&runbook, "Upload", read::command::UPLOAD_KEYS),
        (&runbook, "Download", read::command::DOWNLOAD_KEYS),
        (&runbook, "Reboot", read::command::REBOOT_KEYS),
        (&runbook, "Wait", read::command::WAIT_KEYS),
        (&action, "", read::action::KEYS),
        (&action, "Variant", read::action::VARIANT_KEYS),
        (&action, "Operations", read::action::OPERATIONS),
        (&action, "Operation", read::action::OPERATION_KEYS),
        (&action, "Systems", read::action::SYSTEMS),
        (&inventory, "", read::inventory::KEYS),
        (&inventory, "Host", read::host::KEYS),
        (&inventory, "Tls", read::host::TLS_KEYS),
        (&inventory, "Group", read::inventory::GROUP_KEYS),
        (&inventory, "Foreign", read::inventory::INCLUDE_KEYS),
        (&inventory, "Netbox", read::elsewhere::NETBOX_KEYS),
        (&inventory, "ServiceNow", read::elsewhere::SERVICENOW_KEYS),
        (&windows, "", read::windows::KEYS),
        (&windows, "Window", &[read::windows::WINDOW_KEYS, read::windows::TIMES_KEYS].concat()),
        (&windows, "Blackout", &[read::windows::BLACKOUT_KEYS, read::windows::TIMES_KEYS].concat()),
        (&windows, "Freeze", &[read::windows::FREEZE_KEYS, read::windows::TIMES_KEYS].concat()),
        (&schedule, "", read::schedule::KEYS),
        (&schedule, "Schedule", &[read::schedule::SCHEDULE_KEYS, &times].concat()),
        (&people, "", read::people::KEYS),
        (&people, "Member", read::people::MEMBER_KEYS),
        (&people, "Key", read::people::KEY_KEYS),
        (&people, "Vendor", read::people::VENDOR_KEYS),
        (&policy, "", read::policy::KEYS),
        (&policy, "Rule", read::policy::RULE_KEYS),
        (&policy, "For", read::policy::FOR_KEYS),
        (&policy, "Approvals", read::policy::APPROVALS_KEYS),
        (&policy, "Clock", read::policy::CLOCK_KEYS),
        (&policy, "Review", read::policy::REVIEW_KEYS),
        (&policy, "Operator", read::policy::OPERATOR_KEYS),
    ] {
        assert_eq!(keys(schema, definition), set(known), "{definition}");
    }
}

/// Run the tests with `UPDATE_SCHEMAS=1` to write them anew.
#[test]
fn the_schemas_in_the_book_are_current() {
    for (name, schema) in [
        ("runbook", super::runbook()),
        ("action", super::action()),
        ("inventory", super::inventory()),
        ("windows", super::windows()),
        ("schedule", super::schedule()),
        ("people", super::people()),
        ("policy", super::policy()),
    ] {
        let path = root().join(format!("docs/schemas/{name}.schema.json"));
        let text = super::text(&schema);
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
            std::fs::write(&path, &text).expect("the schema can be written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{} is old: run the tests with UPDATE_SCHEMAS=1", path.display());
    }
}

/// What an editor sees: the YAML as JSON, read by a parser that is not ours.
fn as_json(text: &str) -> Option<Value> {
    serde_yaml::from_str(text).ok()
}

#[test]
fn schemas_and_readers_agree_on_every_fixture() {
    let (mut agreed, mut refused) = (0, 0);
    for folder in ["right", "wrong"] {
        for entry in std::fs::read_dir(root().join("tests/fixtures/lang").join(folder)).expect("the folder is there") {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a file").to_str().expect("text").to_owned();
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            let (schema, problems) = if name.contains(".action.") {
                (super::action(), parse_action(&name, text.as_bytes()).err())
            } else if name.contains(".inventory.") {
                (super::inventory(), parse_inventory(&name, text.as_bytes(), &NoFiles).err())
            } else if name.contains(".windows.") {
                (super::windows(), parse_windows(&name, text.as_bytes()).err())
            } else if name.contains(".schedule.") {
                (super::schedule(), parse_schedule(&name, text.as_bytes()).err())
            } else if name.contains(".people.") {
                (super::people(), parse_people(&name, text.as_bytes()).err())
            } else if name.contains(".policy.") {
                (super::policy(), parse_policy(&name, text.as_bytes()).err())
            } else if name.contains(".runbook.") {
                (super::runbook(), parse_runbook(&name, text.as_bytes()).err())
            } else {
                continue;
            };
            let Some(json) = as_json(&text) else { continue };
            let validator = jsonschema::draft202012::new(&schema).expect("it is a schema");
            let errors: Vec<String> = validator
                .iter_errors(&json)
                .map(|error| format!("{name} {}: {error}", error.instance_path()))
                .collect();
            if folder == "right" {
                assert!(errors.is_empty(), "{errors:#?}");
                agreed += 1;
            } else {
                let problems = problems.unwrap_or_else(|| panic!("{name} is wrong"));
                // What the operations of a snapshot lack for one system is beyond a schema.
                let shape = [Code::UnknownKey, Code::MissingKey, Code::WrongType, Code::OneAction, Code::Schema];
                if !name.starts_with("snapshot-half") && problems.iter().all(|problem| shape.contains(&problem.code)) {
                    assert!(!errors.is_empty(), "{name}: the schema sees nothing");
                    refused += 1;
                }
            }
        }
    }
    assert!(agreed >= 5 && refused >= 3, "{agreed} agreed, {refused} refused");
}
