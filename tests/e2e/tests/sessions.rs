//! How the sessions of a run end on real hosts: what is on record of it, and what stays open fails the run.

use std::process::Command;

use runbook_e2e::gate::Gate;
use runbook_e2e::program::Project;
use runbook_testkit::lab::{self, Lab, LabHost};
use serde_json::Value;

fn runbook(text: &str) -> String {
    format!(
        "schema: runbook/v1\nname: sessions\ntitle: A session and its end\ntargets: {{select: '*'}}\nexecute:\n  - id: change\n    run: |\n      {text}\n    \
         undo: {{run: 'true'}}\n"
    )
}

fn project(lab: &Lab, text: &str) -> Project {
    let project = Project::with_lab(lab);
    project.write("runbooks/sessions.yaml", &runbook(text));
    project
}

/// The events of the last run, of this kind.
fn events(project: &Project, kind: &str) -> Vec<Value> {
    let out = project.path().join("bundle");
    drop(std::fs::remove_dir_all(&out));
    project.run(&["evidence", "export", "last", "--out", &out.display().to_string()]).expect_code(0);
    let mut records: Vec<Value> = std::fs::read_dir(out.join("records"))
        .unwrap()
        .map(|entry| serde_json::from_slice(&std::fs::read(entry.unwrap().path()).unwrap()).unwrap())
        .collect();
    records.sort_by_key(|record| record["seq"].as_u64());
    records.into_iter().map(|record| record["event"].clone()).filter(|event| event["type"] == kind).collect()
}

/// Connections to sshd that the host has.
fn connections(host: &LabHost) -> usize {
    host.sh("ps -A -o args= | grep -c '^sshd: maint@' || :").trim().parse().unwrap()
}

#[test]
fn the_end_of_each_session_is_on_record_and_answers_its_objective() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01", "fs02"]).unwrap();
    let project = project(&lab, "echo done");
    project.run(&["apply", "runbooks/sessions.yaml", "--yes"]).expect_code(0);
    let closed = events(&project, "session_closed");
    assert_eq!(closed.len(), 2, "{closed:#?}");
    for event in &closed {
        let closed = &event["closed"];
        assert_eq!((closed["attempts"].as_u64(), closed["connections"].as_array().map(Vec::len)), (Some(1), Some(1)));
        let connection = &closed["connections"][0];
        assert_eq!(
            (&connection["why"], &connection["here"], &connection["there"]),
            (&"done".into(), &"ended".into(), &"last_word".into())
        );
        assert!(connection["closed_ms"].as_u64() >= connection["opened_ms"].as_u64());
        assert!(closed["look"]["at_ms"].is_u64() && closed["look"]["unknown"].is_null(), "{closed:#?}");
    }
    let opened = events(&project, "session_opened");
    assert!(opened[0]["identity"]["secured"]["key_exchange"].is_string(), "{opened:#?}");
    assert_eq!(opened[0]["identity"]["methods_told_by"], "client");
    for name in ["fs01", "fs02"] {
        assert_eq!(connections(lab.host(name)), 0, "{name}");
    }
    let oscal = std::fs::read_to_string(project.path().join("bundle/oscal/assessment-results.json")).unwrap();
    let oscal: Value = serde_json::from_str(&oscal).unwrap();
    let results = oscal["assessment-results"]["results"].as_array().unwrap();
    for id in ["3.7.5[b]", "A.03.07.05.c[01]", "A.03.07.05.c[02]"] {
        let all = results.iter().flat_map(|result| result["observations"].as_array().unwrap());
        let observation =
            all.clone().find(|one| one["title"].as_str().unwrap().starts_with(&format!("{id} ("))).expect(id);
        let evidence = observation["relevant-evidence"].as_array().expect(id);
        assert_eq!(evidence.len(), 2, "{id}: {observation:#}");
        assert!(evidence[0]["description"].as_str().unwrap().contains("closed here"), "{id}");
    }
    let report = std::fs::read_to_string(project.path().join("bundle/report.html")).unwrap();
    assert!(report.contains("How each session ended") && report.contains("asked just before"));
}

#[test]
fn asked_afterwards_the_host_itself_says_that_the_session_is_gone() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let project = project(&lab, "echo done");
    let settings = std::fs::read_to_string(project.path().join("runbook.toml")).unwrap();
    project.write("runbook.toml", &settings.replace("[ssh]\n", "[ssh]\ncheck_closed = true\n"));
    project.run(&["apply", "runbooks/sessions.yaml", "--yes"]).expect_code(0);
    let closed = events(&project, "session_closed");
    let closed = &closed[0]["closed"];
    let there: Vec<&Value> = closed["connections"].as_array().unwrap().iter().map(|one| &one["there"]).collect();
    assert_eq!(there, ["gone", "last_word"], "{closed:#}");
    assert_eq!(closed["look"]["afterwards"], true);
    let shown = project.run(&["show", "last"]);
    assert!(shown.stdout.contains("asked afterwards, the host has nothing left of it"), "{shown:?}");
}

#[test]
fn a_terminal_that_a_step_left_on_the_host_fails_the_run() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let host = lab.host("fs01");
    let project = project(
        &lab,
        "setsid script -q -f -c 'exec sleep 1000' /dev/null </dev/null >/dev/null 2>&1 &\n      until pgrep -x sleep >/dev/null; do sleep 0.05; done",
    );
    let said = project.run(&["apply", "runbooks/sessions.yaml", "--yes"]);
    said.expect_code(4);
    let told = said.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("a session stays open, and that fails the run"), "{said:?}");
    assert!(told.contains("steps left a way back in: process"), "{said:?}");
    assert_eq!(project.outcomes(), "failed fs01=succeeded");
    let closed = events(&project, "session_closed");
    assert_eq!(closed[0]["closed"]["look"]["ways_in"][0]["how"], "terminal", "{closed:#?}");
    assert_ne!(host.sh("pgrep -xc sleep || :").trim(), "0", "it is not ours to end");
    let report = std::fs::read_to_string(project.path().join("bundle/report.html")).unwrap();
    assert!(report.contains("Sessions that stay open"));
}

#[test]
fn a_connection_that_the_host_kept_after_the_link_broke_is_ended_before_the_run_ends() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let host = lab.host("fs01");
    let gate = Gate::new(host, "middle");
    let project = project(&lab, &Gate::text("middle"));
    let runtime = std::path::PathBuf::from(format!("/tmp/rb-sessions-{}", std::process::id()));
    std::fs::create_dir(&runtime).unwrap();
    let env = [("XDG_RUNTIME_DIR", runtime.to_str().unwrap())];
    let mut running = gate.wait_for(project.start_with(&["apply", "runbooks/sessions.yaml", "--yes"], &env));
    // The host does not notice that the link breaks: its end of the connection is stopped.
    host.sh("pkill -STOP -f '^sshd: maint@'");
    let ours = format!("^ssh .*{}/", runtime.display());
    let killed = Command::new("pkill").args(["-KILL", "-f", &ours]).status().unwrap();
    assert!(killed.success(), "our end of the connection is a process of its own");
    running.hear("change lost, asking after it until");
    gate.open();
    running.wait().expect_code(0);
    let closed = events(&project, "session_closed");
    let connections = closed[0]["closed"]["connections"].as_array().unwrap();
    assert_eq!(connections[0]["why"], "lost", "{closed:#?}");
    assert_eq!(connections[0]["there"], "ended", "{closed:#?}");
    assert_eq!(self::connections(host), 0);
    std::fs::remove_dir_all(&runtime).unwrap();
}

#[test]
fn the_session_of_a_controller_that_died_is_on_record_as_that_and_looked_for() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let host = lab.host("fs01");
    let gate = Gate::new(host, "middle");
    let project = project(&lab, &Gate::text("middle"));
    let running = gate.wait_for(project.start(&["apply", "runbooks/sessions.yaml", "--yes"]));
    running.crash();
    gate.open();
    project.run(&["resume", "last"]).expect_code(0);
    let closed = events(&project, "session_closed");
    assert_eq!(closed.len(), 1, "{closed:#?}");
    let connections = closed[0]["closed"]["connections"].as_array().unwrap();
    assert_eq!((&connections[0]["why"], &connections[0]["there"]), (&"controller_gone".into(), &"gone".into()));
    assert!(connections[0]["closed_ms"].is_null(), "nobody saw its end: {closed:#?}");
    assert!(connections[1]["identity"]["peer_key"].is_string(), "who answered the second time: {closed:#?}");
    assert_eq!(self::connections(host), 0);
}
