//! Hosts from others than files, through the whole program: asked once, on record byte for byte, refused when in doubt.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::os::unix::fs::PermissionsExt as _;

use place::Place;
use runbook_model::Sha256;
use runbook_testkit::double::Double;
use serde_json::{Value, json};

fn project(inventory: &str) -> Place {
    let place = Place::project();
    place.write("inventory.yaml", inventory);
    place.write("runbooks/look.yaml", "schema: runbook/v1\nname: look\ntargets: {select: all}\nprechecks:\n  - {id: look, run: [\"true\"]}\nexecute:\n  - {id: wait, wait: 1ms}\n");
    place
}

fn script(place: &Place, name: &str, text: &str) {
    place.write(name, text);
    std::fs::set_permissions(place.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
}

const PRINTED: &str = r#"{"_meta": {"hostvars": {"a": {"ansible_connection": "local", "owner": "ana", "cui": "yes"},
 "b": {"ansible_connection": "local"}}}, "all": {"hosts": ["a", "b"]}}"#;

#[test]
fn a_program_is_asked_once_in_a_command_and_its_words_are_on_record_byte_for_byte() {
    let place = project(
        "schema: inventory/v1\ninclude:\n  - {command: [./hosts.sh, --list], format: ansible-json}\n  - {csv: more.csv}\n",
    );
    place.write("more.csv", "name,transport,owner,cui\nc,local,raj,yes\n");
    place.write("windows.yaml", "schema: windows/v1\nzone: UTC\nwindows:\n  always: {when: every day 00:00 for 24h}\n");
    script(&place, "hosts.sh", &format!("#!/bin/sh\necho asked >> asked.txt\ncat <<'END'\n{PRINTED}\nEND\n"));
    let listed = place.run(&["inventory", "list", "--json"]).code(0).json();
    let hosts = listed["hosts"].as_array().unwrap();
    assert_eq!((hosts[0]["owner"].as_str(), hosts[0]["cui"].as_bool()), (Some("ana"), Some(true)));
    assert_eq!((hosts[2]["owner"].as_str(), hosts[2]["cui"].as_bool()), (Some("raj"), Some(true)));
    assert_eq!(listed["sources"][1]["hosts"], json!(["a", "b"]));
    assert!(place.run(&["inventory", "list", "a"]).code(0).stdout.contains("from ./hosts.sh --list"));
    let checked = place.run(&["inventory", "check"]).code(0).stderr;
    assert!(
        checked.contains("command ./hosts.sh --list: 2 hosts, as of 20") && checked.contains("more.csv: 1 host"),
        "{checked}"
    );
    assert!(checked.contains("last changed 20"), "{checked}");
    let doctor = place.run(&["doctor", "--limit", "a"]).stdout;
    assert!(doctor.contains("inventory from ./hosts.sh --list") && doctor.contains("answers with"), "{doctor}");

    std::fs::remove_file(place.path("asked.txt")).unwrap();
    place.run(&["apply", "runbooks/look.yaml"]).code(0);
    assert_eq!(
        std::fs::read_to_string(place.path("asked.txt")).unwrap(),
        "asked\n",
        "plan, authorization and run: once"
    );
    let run = place.run(&["show", "last", "--json"]).code(0).json();
    let sources = run["inventory_sources"].as_array().unwrap().clone();
    let kinds: Vec<_> = sources.iter().map(|one| format!("{} {} {}", one["kind"], one["from"], one["hosts"])).collect();
    assert_eq!(
        kinds,
        ["\"file\" \"inventory.yaml\" 0", "\"command\" \"./hosts.sh --list\" 2", "\"file\" \"more.csv\" 1"]
    );
    let printed = Sha256::of(format!("{PRINTED}\n").as_bytes()).to_string();
    assert_eq!(sources[1]["sha256"], printed);
    assert!(place.run(&["show", "last"]).stdout.contains("command ./hosts.sh --list: 2 hosts"));

    place.run(&["evidence", "export", "last", "--out", "bundle"]).code(0);
    let blob =
        |digest: &Value| format!("bundle/blobs/sha256/{}/{}", &digest.as_str().unwrap()[..2], digest.as_str().unwrap());
    assert_eq!(std::fs::read_to_string(place.path(&blob(&sources[1]["sha256"]))).unwrap(), format!("{PRINTED}\n"));
    for (source, file) in [(0, "inventory.yaml"), (2, "more.csv")] {
        let kept = std::fs::read(place.path(&blob(&sources[source]["sha256"]))).unwrap();
        assert_eq!(kept, std::fs::read(place.path(file)).unwrap(), "{file}");
    }
    assert!(std::fs::read_to_string(place.path("bundle/report.html")).unwrap().contains("./hosts.sh --list"));
    assert!(matches!(place.run(&["evidence", "verify", "bundle"]).code, Some(10 | 11)));
    // What was answered is evidence like everything else.
    let path = place.path(&blob(&sources[1]["sha256"]));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(&path, PRINTED.replace("ana", "bob")).unwrap();
    place.run(&["evidence", "verify", "bundle"]).code(20);
}

#[test]
fn an_answer_with_a_password_in_it_is_not_kept() {
    let place = project("schema: inventory/v1\ninclude:\n  - {command: [./hosts.sh], format: ansible-json}\n");
    let printed = PRINTED.replace("\"cui\": \"yes\"", "\"ansible_become_pass\": \"hunter2-in-inventory\"");
    script(&place, "hosts.sh", &format!("#!/bin/sh\ncat <<'END'\n{printed}\nEND\n"));
    place.run(&["apply", "runbooks/look.yaml"]).code(0);
    let run = place.run(&["show", "last", "--json"]).json();
    assert_eq!(run["inventory_sources"][1]["withheld"], true);
    let shown = place.run(&["show", "last"]).stdout;
    assert!(shown.contains("2 hosts, as of 20") && shown.contains("it holds a password"), "{shown}");
    place.run(&["evidence", "export", "last", "--out", "bundle"]).code(0);
    let found = std::process::Command::new("grep")
        .args(["-rl", "hunter2-in-inventory", ".runbook", "bundle"])
        .current_dir(place.root())
        .output();
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "");
    assert!(matches!(place.run(&["evidence", "verify", "bundle"]).code, Some(10 | 11)));
}

#[test]
fn a_source_that_fails_or_shrinks_stops_everything_before_a_host_is_touched() {
    let devices = ["a", "b", "c"].map(|name| json!({"name": name}));
    let seed = json!({"tokens": {"a-secret-token": "x"}, "page": 2, "lists": {"dcim/devices": devices}});
    let Some(double) = Double::start("netbox", &seed) else { return };
    let inventory = |more: &str| {
        format!(
            "schema: inventory/v1\ndefaults: {{transport: local}}\ninclude:\n  - netbox: {{url: {}, token: {{file: token}}{more}}}\n",
            double.url()
        )
    };
    let place = project(&inventory(""));
    place.write("token", "a-secret-token\n");
    place.run(&["apply", "runbooks/look.yaml"]).code(0);
    let runs = |place: &Place| place.run(&["runs", "--json"]).json()["runs"].as_array().map(Vec::len);
    assert_eq!(runs(&place), Some(1));
    for (fault, words) in [
        (json!({"fault": "status", "status": 401}), "may not read this"),
        (json!({"fault": "status", "status": 429, "retry_after": 120}), "asks to be left alone for 120 s"),
        (json!({"fault": "repeat"}), "came twice"),
        (json!({"fault": "malformed"}), "cut off"),
        (json!({"fault": "fewer"}), "announced 4 records and gave 3"),
    ] {
        double.misbehave(fault);
        for command in [&["plan", "runbooks/look.yaml"][..], &["apply", "runbooks/look.yaml"], &["inventory", "check"]]
        {
            let said = place.run(command).code(2);
            assert!(said.stderr.contains("RB0067") && said.stderr.contains(words), "{}", said.stderr);
            assert!(
                said.stderr.contains("nothing was changed") && !said.stderr.contains("a-secret-token"),
                "{}",
                said.stderr
            );
        }
        let doctor = place.run(&["doctor"]).stdout;
        assert!(doctor.contains(words), "{doctor}");
        double.behave();
    }
    let offline = place.run(&["doctor", "--offline"]).stdout;
    assert!(offline.contains("nobody is asked with --offline"), "{offline}");
    place.write("token", "wrong\n");
    assert!(place.run(&["plan", "runbooks/look.yaml"]).code(2).stderr.contains("Invalid token"));
    place.write("token", "a-secret-token\n");
    // It answers well, and with fewer than last time.
    place.write("inventory.yaml", &inventory(", filter: {name: [a, b]}"));
    let said = place.run(&["plan", "runbooks/look.yaml"]).code(2);
    assert!(said.stderr.contains("RB0615") && said.stderr.contains("gone: c"), "{}", said.stderr);
    place.write("inventory.yaml", &inventory(", filter: {name: nobody}"));
    let said = place.run(&["plan", "runbooks/look.yaml", "--allow-shrink"]).code(2);
    assert!(said.stderr.contains("RB0068") && said.stderr.contains("no host at all"), "{}", said.stderr);
    assert_eq!(runs(&place), Some(1));
}

#[test]
fn records_of_servicenow_come_with_owners_and_flags() {
    let server =
        |name: &str, cui: &str| json!({"name": name, "ip_address": "127.0.0.1", "owned_by": "u1", "u_cui": cui});
    let seed = json!({"accounts": {"me": "pw of now"}, "page": 2, "references": {"cmdb_ci_server": {"owned_by": "sys_user"}},
        "tables": {"sys_user": [{"sys_id": "u1", "name": "Ana Lima", "user_name": "ana"}],
                   "cmdb_ci_server": [server("a", "true"), server("b", "false"), server("c", "false")]}});
    let Some(double) = Double::start("servicenow", &seed) else { return };
    let place = project(&format!(
        "schema: inventory/v1\ninclude:\n  - servicenow:\n      url: {}\n      user: me\n      password: {{command: [cat, pw]}}\n      \
         fields: {{owner: owned_by, cui_owner: owned_by.user_name, cui: u_cui}}\n",
        double.url()
    ));
    place.write("pw", "pw of now\n");
    let hosts = place.run(&["inventory", "list", "--json"]).code(0).json()["hosts"].clone();
    assert_eq!(hosts.as_array().unwrap().len(), 3);
    assert_eq!(
        (&hosts[0]["owner"], &hosts[0]["cui_owner"], &hosts[0]["cui"]),
        (&json!("Ana Lima"), &json!("ana"), &json!(true))
    );
}
