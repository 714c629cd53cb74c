//! Hosts that are rebooted: by a step, in the middle of one, and together with the controller's death.

use runbook_e2e::gate::Gate;
use runbook_e2e::program::Project;
use runbook_testkit::lab::{self, Lab};

fn one() -> Option<Lab> {
    lab::require().then(|| Lab::with_hosts(&["fs01"]).unwrap())
}

fn runbook(middle: &str, more: &str) -> String {
    format!(
        "schema: runbook/v1
name: boots
title: A host is rebooted
targets: {{select: '*'}}
execute:
  - {{id: first, as: root, run: 'echo first >>/srv/count', undo: {{as: root, run: 'rm -f /srv/count'}}}}
{middle}
  - {{id: last, as: root, run: 'echo last >>/srv/count', undo: {{run: 'true'}}}}
rollback: {{budget: 60s}}
{more}"
    )
}

fn reboot(timeout: &str) -> String {
    format!("  - {{id: boot, as: root, reboot: {{timeout: {timeout}, settle: 1s}}, undo: {{run: 'true'}}}}")
}

fn step(project: &Project, id: &str) -> serde_json::Value {
    let run = project.last();
    let steps = run["hosts"][0]["steps"].as_array().expect("a list of steps").clone();
    steps.into_iter().rfind(|step| step["id"] == id).expect("a step of this id")
}

#[test]
fn a_reboot_is_done_when_the_boot_id_has_changed_and_the_host_answers() {
    let Some(mut lab) = one() else { return };
    let before = lab.host("fs01").sh("cat /proc/sys/kernel/random/boot_id");
    let project = Project::with_lab(&lab);
    project.write("runbooks/boots.yaml", &runbook(&reboot("2m"), ""));
    let running = project.start(&["apply", "runbooks/boots.yaml", "--yes"]);
    lab.host_mut("fs01").wait_until_up().unwrap();
    running.wait().expect_code(0);
    let after = lab.host("fs01").sh("cat /proc/sys/kernel/random/boot_id");
    assert_eq!(lab.host("fs01").boots(), 2, "it was rebooted once");
    assert_eq!(lab.host("fs01").sh("cat /srv/count"), "first\nlast\n");
    let said = project.run(&["logs", "last", "--step", "boot", "--raw"]).stdout;
    assert_eq!(said, format!("boot id before: {before}boot id after: {after}"));
}

#[test]
fn a_host_that_does_not_reboot_although_it_was_told_to_is_not_called_rebooted() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.sh("for word in reboot shutdown; do printf '#!/bin/sh\\nexit 0\\n' >/usr/sbin/$word; done");
    let project = Project::with_lab(&lab);
    project.write("runbooks/boots.yaml", &runbook(&reboot("4s"), ""));
    project.run(&["apply", "runbooks/boots.yaml", "--yes"]).expect_code(5);
    let boot = step(&project, "boot");
    assert_eq!(boot["outcome"], "unknown", "{boot}");
    assert!(boot["reason"].as_str().unwrap().contains("still has the boot id"), "{boot}");
    assert!(!host.path("/srv/count").exists(), "what was done before it is taken back");
}

#[test]
fn a_step_that_ran_when_its_host_went_down_is_unknown_and_never_a_success() {
    let Some(mut lab) = one() else { return };
    let project = Project::with_lab(&lab);
    let middle = format!(
        "  - {{id: middle, run: '{}', undo: {{as: root, run: 'echo undone >>/srv/undone'}}}}",
        Gate::text("middle")
    );
    project.write("runbooks/boots.yaml", &runbook(&middle, ""));
    let running = {
        let gate = Gate::new(lab.host("fs01"), "middle");
        gate.wait_for(project.start(&["apply", "runbooks/boots.yaml", "--yes"]))
    };
    lab.host_mut("fs01").reboot().unwrap();
    running.wait().expect_code(5);
    let middle = step(&project, "middle");
    assert_eq!(middle["outcome"], "unknown", "{middle}");
    let host = lab.host("fs01");
    assert_eq!(host.sh("cat /srv/undone"), "undone\n", "what may have happened is undone, once");
    assert!(!host.path("/srv/count").exists());
    assert_eq!(host.sh("wc -l </srv/gates/middle.count").trim(), "1", "it was not run again");
}

#[test]
fn an_idempotent_step_is_run_again_after_its_host_went_down() {
    let Some(mut lab) = one() else { return };
    let project = Project::with_lab(&lab);
    // Only the first run stands at the gate.
    let text = format!("[ ! -s /srv/gates/middle.count ] || exit 0; {}", Gate::text("middle"));
    let middle = format!("  - {{id: middle, idempotent: true, run: '{text}', undo: {{run: 'true'}}}}");
    project.write("runbooks/boots.yaml", &runbook(&middle, ""));
    let running = {
        let gate = Gate::new(lab.host("fs01"), "middle");
        gate.wait_for(project.start(&["apply", "runbooks/boots.yaml", "--yes"]))
    };
    lab.host_mut("fs01").sh("sync");
    lab.host_mut("fs01").reboot().unwrap();
    running.wait().expect_code(0);
    let middle = step(&project, "middle");
    assert_eq!((&middle["attempt"], &middle["outcome"]), (&2.into(), &"succeeded".into()), "{middle}");
}

#[test]
fn a_controller_that_dies_while_the_host_reboots_does_not_reboot_it_again() {
    let Some(mut lab) = one() else { return };
    let project = Project::with_lab(&lab);
    project.write("runbooks/boots.yaml", &runbook(&reboot("2m"), ""));
    let mut running = project.start(&["apply", "runbooks/boots.yaml", "--yes", "--json-lines"]);
    running.hear("\"step\":\"boot\"");
    lab.host_mut("fs01").wait_until_up().unwrap();
    // It may have seen the end of the reboot already; then there is nothing left of the step to be asked after.
    running.crash();
    project.run(&["resume", "last"]).expect_code(0);
    assert_eq!(lab.host("fs01").boots(), 2, "it was rebooted once");
    assert_eq!(lab.host("fs01").sh("cat /srv/count"), "first\nlast\n");
}
