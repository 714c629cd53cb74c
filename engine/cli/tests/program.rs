//! The real program on this machine: each command as a person calls it, and what its exit code promises.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use place::{Place, step};
use serde_json::Value;

#[test]
fn a_new_project_works_at_once_and_its_change_is_on_record() {
    let place = Place::project();
    assert!(place.run(&["init"]).code(2).stderr.contains("RB0607"));
    place.run(&["validate", "runbooks/hello.yaml", "inventory.yaml"]).code(0);
    let hello = ["apply", "runbooks/hello.yaml", "-p", &place.folder(), "--ticket", "CHG-7", "--json"];
    let run = place.run(&hello).code(0).json();
    assert_eq!(run["schema"], "run/v1");
    assert_eq!((&run["outcome"], &run["exit_code"]), (&"succeeded".into(), &0.into()));
    assert_eq!(run["ticket"], "CHG-7");
    assert_eq!(std::fs::read_to_string(place.path("greeting/greeting")).unwrap(), "hello\n");
    let shown = place.run(&["show", "last", "--json"]).code(0).json();
    assert_eq!(shown, run, "apply and show tell the same");
    let greet = step(&run, "greet");
    assert_eq!(greet["changes"][0]["path"], format!("{}/greeting", place.path("greeting").display()));
    assert_eq!(greet["changes"][0]["before"], Value::Null);
    assert_eq!(greet["command_sha256"].as_str().unwrap().len(), 64);
    let runs = place.run(&["runs", "--json"]).code(0).json();
    assert_eq!(runs["runs"][0]["run_id"], run["run_id"]);
    let logs = place.run(&["logs", "last", "--step", "the-greeting-says-hello", "--raw"]).code(0);
    assert_eq!(logs.stdout, "hello\n");
    assert!(place.run(&["explain", "last"]).code(0).stdout.contains("Ran because the prechecks had passed"));
}

#[test]
fn a_change_that_does_not_prove_good_is_taken_back_and_exits_5() {
    let place = Place::project();
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let said = place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder(), "-p", "text=goodbye"]).code(5);
    assert!(said.stderr.contains("ROLLED BACK"), "{}", said.stderr);
    assert_eq!(std::fs::read_to_string(place.path("greeting/greeting")).unwrap(), "hello\n");
    assert_eq!(said.stdout, "", "standard output is data alone");
}

#[test]
fn a_finished_run_is_taken_back() {
    let place = Place::project();
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let taken = place.run(&["rollback", "last", "--json"]).code(5).json();
    assert_eq!(taken["outcome"], "rolled_back");
    assert!(!place.path("greeting/greeting").exists());
    let runs = place.run(&["runs", "--json"]).json();
    assert_eq!(taken["takes_back"], runs["runs"][0]["run_id"]);
}

#[test]
fn a_saved_plan_runs_as_it_was_saved_whatever_became_of_the_runbook() {
    let place = Place::project();
    place.run(&["plan", "runbooks/hello.yaml", "-p", &place.folder(), "--out", "plan.json"]).code(0);
    place.write("runbooks/hello.yaml", "schema: runbook/v1\nname: other\n");
    let run = place.run(&["apply", "plan.json", "--json"]).code(0).json();
    assert_eq!(run["runbook"], "hello");
    let bytes = std::fs::read(place.path("plan.json")).unwrap();
    assert_eq!(run["plan_digest"], runbook_model::Sha256::of(bytes.trim_ascii_end()).to_string());
    assert!(place.run(&["apply", "plan.json", "-p", "text=x"]).code(2).stderr.contains("frozen"));
    let text = String::from_utf8(bytes).unwrap();
    place.write("plan.json", &text.replace("\"failure_budget\":0", "\"failure_budgit\":0"));
    place.run(&["apply", "plan.json"]).code(2);
}

#[test]
fn without_a_project_a_runbook_runs_on_this_machine() {
    let place = Place::empty();
    place.write("hello.yaml", include_str!("../src/template/hello.yaml"));
    place.run(&["apply", "hello.yaml", "-p", &place.folder()]).code(0);
    assert!(place.path("state/runbook/runbook.db").exists());
    assert!(place.run(&["runs"]).code(0).stdout.contains("succeeded"));
    place.run(&["--project", ".", "runs"]).code(2);
}

#[test]
fn a_project_without_an_inventory_has_this_machine_until_hosts_are_named() {
    let place = Place::project();
    std::fs::remove_file(place.path("inventory.yaml")).unwrap();
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    place.write(
        "runbooks/far.yaml",
        "schema: runbook/v1\nname: far\ntargets: {select: fs01}\nexecute:\n  - run: 'true'\n    undo: {run: 'true'}\n",
    );
    let said = place.run(&["apply", "runbooks/far.yaml"]).code(2);
    assert!(said.stderr.contains("fs01"), "{}", said.stderr);
}

#[test]
fn an_inventory_that_is_gone_is_not_this_machine_alone() {
    let place = Place::project();
    place.write(
        "inventory.yaml",
        "schema: inventory/v1\nhosts:\n  here: {transport: local}\n  fs01: {transport: local}\n",
    );
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    std::fs::remove_file(place.path("inventory.yaml")).unwrap();
    let said = place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(2);
    assert!(said.stderr.contains("RB0615") && said.stderr.contains("gone: fs01"), "{}", said.stderr);
}

#[test]
fn an_inventory_that_shrank_is_an_error_and_not_a_smaller_run() {
    let place = Place::project();
    let two = "schema: inventory/v1\nhosts:\n  here: {transport: local}\n  there: {transport: local}\n";
    place.write("inventory.yaml", two);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    place.write("inventory.yaml", "schema: inventory/v1\nhosts:\n  here: {transport: local}\n");
    let said = place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(2);
    assert!(said.stderr.contains("RB0615") && said.stderr.contains("gone: there"), "{}", said.stderr);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder(), "--allow-shrink"]).code(0);
}

#[test]
fn cancel_from_another_process_takes_the_change_back() {
    let place = Place::project();
    let mut running = place.start_waiting();
    let runs = place.run(&["runs", "--json"]).json();
    assert_eq!(runs["runs"][0]["state"], "running");
    place.run(&["apply", "runbooks/waiting.yaml"]).code(3);
    place.run(&["cancel", "last"]).code(8);
    assert_eq!(running.wait().unwrap().code(), Some(8));
    assert!(!place.path("changed").exists());
    place.run(&["cancel", "last"]).code(2);
}

#[test]
fn ctrl_c_cancels_and_takes_the_change_back() {
    let place = Place::project();
    let mut running = place.start_waiting();
    let pid = rustix::process::Pid::from_raw(running.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(running.wait().unwrap().code(), Some(8));
    assert!(!place.path("changed").exists());
}

#[test]
fn the_third_ctrl_c_leaves_the_run_and_a_resume_takes_it_back() {
    let place = Place::project();
    let folder = place.root().display().to_string();
    let text = format!(
        "schema: runbook/v1\nname: stubborn\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: |\n      touch \
         {folder}/changed\n      echo begun > {folder}/begun\n      while true; do sleep 0.05; done\n    changes: \
         [{folder}/changed]\n    undo:\n      run: |\n        echo undoing > {folder}/begun\n        while [ ! -e {folder}/go \
         ]; do sleep 0.05; done\n        rm -f {folder}/changed\n"
    );
    place.write("runbooks/stubborn.yaml", &text);
    assert!(Command::new("mkfifo").arg(place.path("begun")).status().unwrap().success());
    let mut running = place
        .command(&["apply", "runbooks/stubborn.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_raw(running.id().cast_signed()).unwrap();
    let interrupt = || rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let mut said = BufReader::new(running.stderr.take().unwrap()).lines();
    let mut until = |text: &str| assert!(said.any(|line| line.unwrap().contains(text)), "never said `{text}`");
    assert_eq!(std::fs::read_to_string(place.path("begun")).unwrap(), "begun\n");
    interrupt();
    assert_eq!(std::fs::read_to_string(place.path("begun")).unwrap(), "undoing\n");
    interrupt();
    until("leave it half done");
    interrupt();
    until("you left the run");
    running.wait().unwrap();
    assert!(place.path("changed").exists());
    place.write("go", "");
    place.run(&["resume", "last"]).code(8);
    assert!(!place.path("changed").exists());
}

#[test]
fn a_killed_controller_is_resumed_and_the_change_happens_once() {
    let place = Place::project();
    let mut running = place.start_waiting();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(place.run(&["runs", "--json"]).json()["runs"][0]["state"], "interrupted");
    place.run(&["evidence", "verify", "last"]).code(12);
    place.write("go", "");
    let run = place.run(&["resume", "last", "--json"]).code(0).json();
    assert_eq!((&run["outcome"], &run["resumed"]), (&"succeeded".into(), &1.into()));
    let attempts = run["hosts"][0]["steps"].as_array().unwrap().iter().filter(|step| step["id"] == "work");
    assert_eq!(attempts.count(), 1);
    assert!(place.run(&["resume", "last"]).code(2).stderr.contains("has ended"));
}

#[test]
fn an_outcome_that_nobody_knows_is_settled_by_a_person_on_the_record() {
    let place = Place::project();
    // The step takes the process that would have kept its exit status with it.
    let text = "schema: runbook/v1\nname: lost\ntargets: {select: here}\nexecute:\n  - id: work\n    run: kill -9 $PPID $$\n    \
                irreversible: nothing takes it back\n  - id: after\n    run: 'true'\n    undo: {run: 'true'}\n";
    place.write("runbooks/lost.yaml", text);
    let said = place.run(&["apply", "runbooks/lost.yaml", "--json"]).code(7);
    assert!(said.stderr.contains("runbook resolve"), "{}", said.stderr);
    assert_eq!(step(&said.json(), "after")["outcome"], "not_started");
    place.run(&["evidence", "verify", "last"]).code(12);
    place.run(&["resolve", "last", "here", "wrok", "--as", "succeeded", "--why", "x"]).code(2);
    place
        .run(&["resolve", "last", "here", "work", "--as", "succeeded", "--why", "it is in the log of the host"])
        .code(0);
    let run = place.run(&["resume", "last", "--json"]).code(0).json();
    let work = step(&run, "work");
    assert_eq!((&work["outcome"], &work["observed"]), (&"succeeded".into(), &"unknown".into()));
    assert!(work["reason"].as_str().unwrap().contains("it is in the log of the host"), "{work}");
    assert_eq!(step(&run, "after")["outcome"], "succeeded");
}

#[test]
fn evidence_has_its_own_exit_codes() {
    let place = Place::project();
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let verdict = place.run(&["evidence", "verify", "last", "--json"]).code(11).json();
    assert_eq!((&verdict["code"], &verdict["problems"]), (&11.into(), &Value::Array(vec![])));
    std::fs::copy(place.path(".runbook/keys/ledger.pub"), place.path("pinned.pub")).unwrap();
    place.run(&["evidence", "verify", "last", "--pin", "pinned.pub"]).code(10);
    let other = Place::project();
    let foreign = other.path(".runbook/keys/ledger.pub");
    place.run(&["evidence", "verify", "last", "--pin", foreign.to_str().unwrap()]).code(22);
    // An older database put back: the size beside the key is larger.
    place.write(".runbook/keys/ledger.head", &format!("100000 {}\n", "0".repeat(64)));
    place.run(&["evidence", "verify", "last"]).code(21);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(3);
    // Nothing is put on record any more, so nothing is given out.
    let refused = place.run(&["evidence", "export", "last", "--out", "bundle"]);
    assert!(refused.stderr.contains("error[RB0616]"), "{refused:?}");
}

#[test]
fn the_report_is_one_file_that_says_what_the_record_is_worth() {
    let place = Place::project();
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let written = place.run(&["evidence", "report", "last", "--out", "report.html", "--json"]).code(0).json();
    let page = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert_eq!((written["bytes"].as_u64(), written["code"].as_u64()), (Some(page.len() as u64), Some(11)));
    assert!(page.starts_with("<!doctype html>") && page.contains(written["run_id"].as_str().unwrap()));
    assert!(page.contains("done and verified on every host") && page.contains("key not pinned"));
    let refused = place.run(&["evidence", "report", "last", "--out", "nowhere/report.html"]).code(1);
    assert!(refused.stderr.contains("RB0630"), "{}", refused.stderr);
    place.write(".runbook/keys/ledger.head", &format!("100000 {}\n", "0".repeat(64)));
    place.run(&["evidence", "report", "last", "--out", "report.html"]).code(21);
    assert!(std::fs::read_to_string(place.path("report.html")).unwrap().contains("forked or rolled back"));
}

#[test]
fn an_output_that_was_exchanged_is_seen() {
    let place = Place::project();
    let big = "schema: runbook/v1\nname: big\ntargets: {select: here}\nirreversible: it only prints\nexecute:\n  - id: \
               print\n    run: od -An -v -tx1 -N 300000 /dev/urandom\n";
    place.write("runbooks/big.yaml", big);
    let run = place.run(&["apply", "runbooks/big.yaml", "--json"]).code(0).json();
    let digest = step(&run, "print")["stdout"]["blob"].as_str().unwrap();
    let blob = place.path(&format!(".runbook/blobs/sha256/{}/{digest}", &digest[..2]));
    assert!(blob.exists());
    std::fs::write(&blob, b"something else").unwrap();
    let verdict = place.run(&["evidence", "verify", "last", "--json"]).code(20).json();
    assert!(verdict["problems"][0].as_str().unwrap().contains("here/print"), "{verdict}");
}

#[test]
fn mistakes_say_what_is_meant_and_touch_nothing() {
    let place = Place::project();
    place.run(&["frobnicate"]).code(2);
    place.run(&["apply", "missing.yaml"]).code(2);
    place.run(&["apply", "runbooks/hello.yaml", "-p", "text"]).code(2);
    assert!(place.run(&["actions", "show", "disk-fre"]).code(2).stderr.contains("did you mean `disk-free`?"));
    assert!(place.run(&["show", "nothing"]).code(2).stderr.contains("no run"));
    place.write("runbook.toml", "[limits]\nparalel = 5\n");
    assert!(place.run(&["runs"]).code(2).stderr.contains("did you mean `parallel`?"));
}

#[test]
fn every_command_says_how_it_is_used_and_has_a_manual_page() {
    let place = Place::empty();
    insta::assert_snapshot!(place.run(&["--help"]).code(0).stdout);
    for command in ["apply", "plan", "show", "evidence verify", "snapshots release"] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        assert!(place.run(&arguments).code(0).stdout.contains("Usage: runbook"), "{command}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.run(&["completions", shell]).code(0).stdout.contains("runbook"));
    }
    place.run(&["man", "--out", "man"]).code(0);
    assert!(place.path("man/runbook-apply.1").exists());
    for kind in ["runbook", "inventory", "action", "run", "runs"] {
        assert!(place.run(&["schema", kind]).code(0).json()["$schema"].is_string(), "{kind}");
    }
}

#[test]
fn doctor_says_what_is_good_and_how_the_rest_is_mended() {
    let place = Place::project();
    let checks = place.run(&["doctor", "--json"]).code(0).json();
    assert_eq!(checks["good"], true);
    std::fs::remove_file(place.path(".runbook/keys/ledger.pub")).unwrap();
    let said = place.run(&["doctor"]).code(3);
    assert!(said.stdout.contains("WRONG") && said.stdout.contains("mend: put the key back"), "{}", said.stdout);
}

#[test]
fn what_changed_and_no_step_declares_is_reported_wherever_the_run_is_told() {
    let place = Place::project();
    let folder = place.path("watched");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.display().to_string();
    let runbook = format!(
        "schema: runbook/v1\nname: watched\nirreversible: a test\nwatch: {{roots: ['{folder}'], undeclared: report}}\n\
         execute: [{{run: 'touch {folder}/declared {folder}/stray', changes: ['{folder}/declared']}}]\n"
    );
    place.write("runbooks/watched.yaml", &runbook);
    let said = place.run(&["apply", "runbooks/watched.yaml", "--json"]).code(0);
    assert!(said.stderr.contains("1 path on here changed, and no step declares it"), "{}", said.stderr);
    let run = said.json();
    let found = &step(&run, "verify.undeclared")["changes"];
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found[0]["path"], format!("{folder}/stray"));
    assert!(place.run(&["show", "last"]).code(0).stdout.contains(&format!("made {folder}/stray")));
    place.run(&["evidence", "verify", "last"]).code(11);
    place.write("runbooks/watched.yaml", &runbook.replace("report", "fail").replace("touch", "echo x | tee"));
    let run = place.run(&["apply", "runbooks/watched.yaml", "--json"]).code(4).json();
    assert_eq!(step(&run, "verify.undeclared")["outcome"], "failed");
}

#[test]
fn validate_looks_at_all_files_whatever_is_wrong_with_one() {
    let place = Place::project();
    place.write("wrong.yaml", "schema: runbook/v1\nnam: x\n");
    let said = place.run(&["validate", "nowhere.yaml", "wrong.yaml", "--json"]).code(2).json();
    let codes: Vec<&str> =
        said["diagnostics"].as_array().unwrap().iter().map(|it| it["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"RB0001") && codes.contains(&"RB0010"), "{codes:?}");
}

#[test]
fn a_file_that_is_written_as_json_is_told_apart_by_its_schema_too() {
    let place = Place::project();
    place.write("hosts.json", r#"{"schema": "inventory/v1", "hosts": {"a": {"adress": "10.0.0.1"}}}"#);
    let said = place.run(&["validate", "hosts.json"]).code(2);
    assert!(said.stderr.contains("did you mean `address`?"), "{}", said.stderr);
}

#[test]
fn a_broken_inventory_is_told_by_validate_and_not_taken_for_hosts_without_labels() {
    let place = Place::project();
    let text = "schema: runbook/v1\nname: x\nirreversible: r\ntargets: {select: here}\nexecute: [{run: 'echo {{host.labels.site}}'}]\n";
    place.write("runbooks/x.yaml", text);
    place.write(
        "inventory.yaml",
        "schema: inventory/v1\nhosts: {here: {transport: local, labels: {site: hq}}}\nwhat: 1\n",
    );
    let said = place.run(&["validate", "runbooks/x.yaml"]).code(0);
    assert!(said.stderr.contains("the project's inventory cannot be read"), "{}", said.stderr);
    assert!(!said.stderr.contains("no label"), "{}", said.stderr);
}

#[test]
fn a_run_whose_program_was_killed_is_shown_as_interrupted_and_its_host_is_given_to_no_other_run() {
    let place = Place::project();
    let folder = place.root().display().to_string();
    place.write(
        "runbooks/long.yaml",
        &format!(
            "schema: runbook/v1\nname: long\nirreversible: r\nexecute: [{{run: 'echo x > {folder}/begun; sleep 2'}}]\n"
        ),
    );
    assert!(Command::new("mkfifo").arg(place.path("begun")).status().unwrap().success());
    let mut running =
        place.command(&["apply", "runbooks/long.yaml"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(std::fs::read_to_string(place.path("begun")).unwrap(), "x\n");
    assert_eq!(place.run(&["show", "last", "--json"]).code(0).json()["state"], "running");
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(place.run(&["show", "last", "--json"]).code(0).json()["state"], "interrupted");
    let shown = place.run(&["show", "last"]).code(0).stdout;
    assert!(shown.contains("its program has died; `runbook resume"), "{shown}");
    let second = place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(3);
    assert!(second.stderr.contains("RB0690") && second.stderr.contains("`runbook cancel "), "{}", second.stderr);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder(), "--check"]).code(0);
    let first = place.run(&["runs", "--json"]).json()["runs"][0]["run_id"].as_str().unwrap().to_owned();
    place.run(&["resume", &first]).code(0);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
}

#[test]
fn every_schema_in_the_book_is_the_one_that_the_program_prints() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schemas");
    let mut kept: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".schema.json").map(str::to_owned))
        .collect();
    kept.sort();
    let place = Place::empty();
    // The program names those that it has when it is asked for another.
    let said = place.run(&["schema", "none"]).code(2);
    let named = said.stderr.split_once("possible values: ").unwrap().1.split_once(']').unwrap().0;
    let mut printed: Vec<&str> = named.split(", ").collect();
    printed.sort_unstable();
    assert_eq!(kept, printed);
    for name in kept {
        let printed = place.run(&["schema", &name]).code(0).json();
        let text = std::fs::read_to_string(folder.join(format!("{name}.schema.json"))).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(kept, printed, "{name}: write it with UPDATE_SCHEMAS=1");
    }
}
