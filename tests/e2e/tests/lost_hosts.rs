//! Hosts that are lost in the middle of a change and come back: in time, late, or never.

use runbook_e2e::gate::Gate;
use runbook_e2e::program::{Project, Running};
use runbook_testkit::lab::{self, HostSpec, Lab, LabHost};

fn lab_of(names: &[&str]) -> Option<Lab> {
    lab::require().then(|| Lab::new(&names.iter().map(|name| HostSpec::new(name)).collect::<Vec<_>>()).unwrap())
}

/// The connections break at once, and no packet comes through from then on.
fn lose(host: &LabHost) {
    host.kill_connections();
    host.cut_link().unwrap();
}

fn runbook(budget: &str, step: &str) -> String {
    format!(
        "schema: runbook/v1
name: lost
title: A host is lost
targets: {{select: '*', failure_budget: 5}}
execute:
  - id: first
    as: root
    run: echo first >>/srv/first.count
    undo: {{as: root, run: rm /srv/first.count}}
{step}
  - id: last
    as: root
    run: echo last >>/srv/last.count
    undo: {{as: root, run: rm /srv/last.count}}
rollback: {{budget: {budget}}}
"
    )
}

/// Prints on both sides of its gate, so that a byte that is lost or comes twice is seen.
fn talking(more: &str) -> String {
    let gate = Gate::text("middle");
    format!("  - id: middle\n    {more}\n    run: 'seq 1 20000; {gate}; seq 20001 40000'\n    undo: {{run: 'true'}}")
}

fn spoken() -> String {
    (1..=40_000).map(|n| if n == 20_000 { "20000\ngo\n".to_owned() } else { format!("{n}\n") }).collect()
}

fn start(project: &Project, gate: &Gate<'_>) -> Running {
    gate.wait_for(project.start(&["apply", "runbooks/lost.yaml", "--yes"]))
}

fn done_once(host: &LabHost) {
    assert_eq!(host.sh("cat /srv/first.count /srv/last.count"), "first\nlast\n");
}

#[test]
fn a_host_that_comes_back_in_time_is_followed_to_its_true_end() {
    let Some(lab) = lab_of(&["fs01"]) else { return };
    let host = lab.host("fs01");
    let gate = Gate::new(host, "middle");
    let project = Project::with_lab(&lab);
    project.write("runbooks/lost.yaml", &runbook("5m", &talking("timeout: 5m")));
    let mut running = start(&project, &gate);
    lose(host);
    running.hear("middle lost, asking after it until");
    let shown = project.run(&["show", "last"]);
    assert!(shown.stdout.contains("lost since"), "{shown:?}");
    assert!(!project.last()["hosts"][0]["steps"][1]["lost"].is_null(), "{}", project.last());
    // It ends on the host while nobody sees it.
    gate.open();
    host.mend_link().unwrap();
    running.wait().expect_code(0);
    assert_eq!(gate.arrivals(), 1, "it ran once");
    assert_eq!(project.run(&["logs", "last", "--step", "middle", "--raw"]).stdout, spoken());
    done_once(host);
}

#[test]
fn a_link_that_is_cut_without_a_word_is_noticed_and_the_host_taken_in_again() {
    let Some(lab) = lab_of(&["fs01"]) else { return };
    let host = lab.host("fs01");
    let gate = Gate::new(host, "middle");
    let project = Project::with_lab(&lab);
    project.write("runbooks/lost.yaml", &runbook("5m", &talking("timeout: 5m")));
    let mut running = start(&project, &gate);
    host.cut_link().unwrap();
    running.hear("middle lost, asking after it until");
    host.mend_link().unwrap();
    gate.open();
    running.wait().expect_code(0);
    assert_eq!(gate.arrivals(), 1, "it ran once");
    assert_eq!(project.run(&["logs", "last", "--step", "middle", "--raw"]).stdout, spoken());
    done_once(host);
}

#[test]
fn a_host_that_comes_back_late_is_unknown_until_a_resume_asks_it() {
    let Some(lab) = lab_of(&["fs01"]) else { return };
    let host = lab.host("fs01");
    let gate = Gate::new(host, "middle");
    let project = Project::with_lab(&lab);
    project.write("runbooks/lost.yaml", &runbook("3s", &talking("on_failure: halt")));
    let running = start(&project, &gate);
    lose(host);
    running.wait().expect_code(7);
    assert_eq!(project.outcomes(), "unknown fs01=unknown");
    gate.open();
    host.mend_link().unwrap();
    project.run(&["resume", "last"]).expect_code(0);
    assert_eq!(gate.arrivals(), 1, "it ran once");
    assert_eq!(project.run(&["logs", "last", "--step", "middle", "--raw"]).stdout, spoken());
    done_once(host);
}

#[test]
fn a_host_that_does_not_come_back_is_unknown_and_the_others_are_finished() {
    let Some(lab) = lab_of(&["fs01", "fs02"]) else { return };
    let (gone, good) = (Gate::new(lab.host("fs01"), "middle"), Gate::new(lab.host("fs02"), "middle"));
    let project = Project::with_lab(&lab);
    project.write("runbooks/lost.yaml", &runbook("3s", &talking("timeout: 5m")));
    let running = start(&project, &gone);
    lose(lab.host("fs01"));
    let running = good.wait_for(running);
    good.open();
    running.wait().expect_code(7);
    assert_eq!(project.outcomes(), "unknown fs01=unknown fs02=succeeded");
    done_once(lab.host("fs02"));
}

#[test]
fn a_host_that_is_lost_between_two_steps_is_waited_for() {
    let Some(lab) = lab_of(&["fs01"]) else { return };
    let host = lab.host("fs01");
    // The gate is on this machine, so that it can be passed while the host is away.
    let gate = Gate::new(host, "middle");
    let here = host.path("/srv/gates");
    let text = Gate::text("middle").replace("/srv/gates", &here.display().to_string());
    let project = Project::with_lab(&lab);
    let step = format!("  - id: middle\n    on: controller\n    run: '{text}'\n    undo: {{run: 'true'}}");
    project.write("runbooks/lost.yaml", &runbook("5m", &step));
    let mut running = start(&project, &gate);
    lose(host);
    gate.open();
    running.hear("last lost, waiting for the host until");
    host.mend_link().unwrap();
    running.wait().expect_code(0);
    done_once(host);
}

#[test]
fn what_still_runs_on_a_host_that_comes_back_is_ended_before_it_is_undone() {
    let Some(lab) = lab_of(&["fs01"]) else { return };
    let host = lab.host("fs01");
    let gate = Gate::new(host, "middle");
    let project = Project::with_lab(&lab);
    let endless = "while :; do echo x >>/srv/endless; sleep 0.02; done";
    let step = format!(
        "  - id: middle\n    as: root\n    run: '{}; {endless}'\n    undo: {{as: root, run: rm /srv/endless}}",
        Gate::text("middle")
    );
    project.write("runbooks/lost.yaml", &runbook("45s", &step));
    let mut running = start(&project, &gate);
    lose(host);
    gate.open();
    running.hear("rollback begins");
    host.mend_link().unwrap();
    running.wait().expect_code(5);
    assert_eq!(host.sh("ls /srv/endless /srv/first.count 2>/dev/null || :"), "", "all of it is undone");
    assert_eq!(host.sh("pgrep -xc sudo || :").trim(), "0", "nothing of it runs any more");
}
