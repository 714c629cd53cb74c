//! The whole story, on real hosts with the real program: a patch that works, patches that do not, and everything that
//! can come between.

use runbook_e2e::gate::Gate;
use runbook_e2e::program::Project;
use runbook_testkit::lab::{self, HostSpec, Lab, LabHost, Update};

const RUNBOOK: &str = r#"
schema: runbook/v1
name: patch
title: Patch the file service
parameters:
  files: {type: string, default: ''}
targets: {select: fileservers, batch: [1, 100%]}
prechecks:
  - uses: disk-free
    with: {path: /srv/data, at_least: 10MiB}
  - uses: service-active
    with: {service: fileshare}
  - id: answers
    uses: http-ok
    with: {url: "http://localhost:8080/report.txt", contains: first report}
snapshot:
  - id: data
    uses: btrfs-snapshot
    with: {subvolume: /srv/data}
  - id: packages
    uses: apt-snapshot
    with: {packages: [fileshare]}
execute:
  - id: upgrade
    name: Install the update
    uses: apt-upgrade
    with: {packages: [fileshare], refresh: false}
  # MORE EXECUTE
verify:
  - uses: service-active
    with: {service: fileshare}
  - name: a client can read the report
    uses: http-ok
    with: {url: "http://localhost:8080/report.txt", contains: first report}
rollback:
  steps:
    # FIRST ROLLBACK
    - name: Start the service that is back
      uses: service-restart
      with: {service: fileshare}
"#;

const GROUPS: &str = "groups: [fileservers]";

fn one() -> Option<Lab> {
    lab::require().then(|| Lab::new(&[HostSpec::new("fs01").inventory(GROUPS)]).unwrap())
}

// All that must be as before: data, what the package brought, packages, the service.
fn state(host: &LabHost) -> String {
    let files =
        host.fingerprint(&["/srv/data", "/etc/fileshare", "/etc/init.d/fileshare", "/usr/bin/fileshare-version"]);
    let service = host.try_sh("service fileshare status").unwrap();
    format!("{}{files}{}{}", host.packages(), service.stdout, host.service_answers())
}

fn more(text: &str) -> String {
    RUNBOOK.replace("  # MORE EXECUTE", text)
}

#[test]
fn a_good_patch_is_installed_and_verified() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::Good).unwrap();
    let data = host.fingerprint(&["/srv/data"]);
    let project = Project::with_lab(&lab);
    project.write("runbooks/patch.yaml", RUNBOOK);
    project.run(&["validate", "runbooks/patch.yaml", "inventory.yaml"]).expect_code(0);
    project.run(&["apply", "runbooks/patch.yaml", "--yes"]).expect_code(0);
    assert_eq!(host.sh("fileshare-version"), "1.1-1\n");
    assert!(host.service_answers());
    assert_eq!(host.fingerprint(&["/srv/data"]), data);
    assert_eq!(project.outcomes(), "succeeded fs01=succeeded");
}

#[test]
fn a_patch_that_breaks_the_service_is_taken_back_byte_for_byte() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::BreaksService).unwrap();
    let before = state(host);
    let project = Project::with_lab(&lab);
    project.write("runbooks/patch.yaml", RUNBOOK);
    project.run(&["apply", "runbooks/patch.yaml", "--yes"]).expect_code(5);
    assert_eq!(state(host), before);
    assert_eq!(project.outcomes(), "rolled_back fs01=rolled_back");
}

#[test]
fn a_patch_that_cannot_be_installed_is_taken_back_byte_for_byte() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::FailsToInstall).unwrap();
    let before = state(host);
    let project = Project::with_lab(&lab);
    project.write("runbooks/patch.yaml", RUNBOOK);
    project.run(&["apply", "runbooks/patch.yaml", "--yes"]).expect_code(5);
    assert_eq!(state(host), before);
}

#[test]
fn the_shipped_runbook_for_file_servers_does_the_same() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    let project = Project::with_lab(&lab);
    let runbook = runbook_e2e::action::library().join("patch-fileserver.yaml");
    let runbook = runbook.to_str().unwrap();
    let apply = [
        "apply",
        runbook,
        "--yes",
        "-p",
        "packages=fileshare",
        "-p",
        "service=fileshare",
        "-p",
        "port=8080",
        "-p",
        "min_free=10MiB",
    ];
    host.publish(Update::Good).unwrap();
    project.run(&apply).expect_code(0);
    assert_eq!(host.sh("fileshare-version"), "1.1-1\n");
    host.publish(Update::BreaksService).unwrap();
    let before = state(host);
    project.run(&apply).expect_code(5);
    assert_eq!(state(host), before);
    assert!(!host.path("/run/maintenance").exists());
}

#[test]
fn the_shipped_runbook_for_linux_does_the_same() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    let project = Project::with_lab(&lab);
    let runbook = runbook_e2e::action::library().join("patch-linux.yaml");
    let apply = [
        "apply",
        runbook.to_str().unwrap(),
        "--limit",
        "fs01",
        "--yes",
        "-p",
        "services=fileshare",
        "-p",
        "min_free=10MiB",
    ];
    host.publish(Update::Good).unwrap();
    project.run(&apply).expect_code(0);
    assert_eq!(host.sh("fileshare-version"), "1.1-1\n");
    host.publish(Update::FailsToInstall).unwrap();
    let before = host.packages();
    project.run(&apply).expect_code(5);
    assert_eq!(host.packages(), before);
}

#[test]
fn a_rollback_that_fails_leaves_the_host_stuck() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::BreaksService).unwrap();
    let project = Project::with_lab(&lab);
    // The service cannot come back: its configuration is spoilt behind the snapshot's back.
    let text = RUNBOOK.replace(
        "    # FIRST ROLLBACK",
        "    - {name: Spoil it, as: root, run: 'echo nonsense >>/etc/fileshare/nginx.conf'}",
    );
    project.write("runbooks/patch.yaml", &text);
    let said = project.run(&["apply", "runbooks/patch.yaml", "--yes"]);
    said.expect_code(6);
    assert_eq!(project.outcomes(), "stuck fs01=stuck");
}

#[test]
fn a_failing_precheck_blocks_and_nothing_is_touched() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::Good).unwrap();
    host.sh("service fileshare stop");
    let before = format!("{}{}", state(host), host.fingerprint(&["/etc", "/srv", "/var/lib/dpkg"]));
    let project = Project::with_lab(&lab);
    project.write("runbooks/patch.yaml", RUNBOOK);
    let said = project.run(&["apply", "runbooks/patch.yaml", "--yes"]);
    said.expect_code(3);
    assert_eq!(format!("{}{}", state(host), host.fingerprint(&["/etc", "/srv", "/var/lib/dpkg"])), before);
    assert_eq!(project.outcomes(), "blocked fs01=blocked");
}

#[test]
fn a_canary_that_fails_keeps_the_others_untouched() {
    if !lab::require() {
        return;
    }
    let specs = ["fs01", "fs02", "fs03"].map(|name| HostSpec::new(name).inventory(GROUPS));
    let lab = Lab::new(&specs).unwrap();
    let mut before = Vec::new();
    for host in lab.hosts() {
        host.install_service().unwrap();
        host.publish(Update::BreaksService).unwrap();
        before.push((state(host), host.sh("cat /var/log/sshd.log")));
    }
    let project = Project::with_lab(&lab);
    project.write("runbooks/patch.yaml", RUNBOOK);
    project.run(&["apply", "runbooks/patch.yaml", "--yes"]).expect_code(5);
    for (host, (state_before, log)) in lab.hosts().zip(&before) {
        assert_eq!(&state(host), state_before, "{}", host.name());
        if host.name() != "fs01" {
            assert_eq!(&host.sh("cat /var/log/sshd.log"), log, "nobody even logged in on {}", host.name());
        }
    }
    let run = project.last();
    assert_eq!(run["outcome"], "rolled_back", "{run}");
}

#[test]
fn an_unreachable_host_is_blocked_before_its_first_change() {
    let Some(mut lab) = one() else { return };
    lab.host_mut("fs01").power_off().unwrap();
    let project = Project::with_lab(&lab);
    project.write("runbooks/patch.yaml", RUNBOOK);
    project.run(&["apply", "runbooks/patch.yaml", "--yes"]).expect_code(3);
    assert_eq!(project.outcomes(), "blocked fs01=blocked");
}

fn gated(name: &str) -> String {
    more(&format!("  - id: {name}\n    name: Stand at the gate\n    run: '{}'", Gate::text(name)))
}

#[test]
fn a_lost_connection_loses_neither_the_command_nor_its_result() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::Good).unwrap();
    let gate = Gate::new(host, "middle");
    let project = Project::with_lab(&lab);
    project.write("runbooks/patch.yaml", &gated("middle"));
    let running = gate.wait_for(project.start(&["apply", "runbooks/patch.yaml", "--yes"]));
    host.kill_connections();
    gate.open();
    running.wait().expect_code(0);
    assert_eq!(gate.arrivals(), 1, "it ran once");
    assert_eq!(host.sh("fileshare-version"), "1.1-1\n");
}

#[test]
fn a_host_that_vanishes_in_the_middle_is_unknown_until_it_is_back() {
    let Some(mut lab) = one() else { return };
    lab.host("fs01").install_service().unwrap();
    lab.host("fs01").publish(Update::Good).unwrap();
    let before = state(lab.host("fs01"));
    lab.host("fs01").sh("sync");
    let project = Project::with_lab(&lab);
    let text = gated("middle")
        .replace("    name: Stand", "    timeout: 20s\n    name: Stand")
        .replace("rollback:\n", "rollback:\n  budget: 20s\n");
    project.write("runbooks/patch.yaml", &text);
    let running = {
        let gate = Gate::new(lab.host("fs01"), "middle");
        gate.wait_for(project.start(&["apply", "runbooks/patch.yaml", "--yes"]))
    };
    lab.host_mut("fs01").power_off().unwrap();
    running.wait().expect_code(7);
    assert_eq!(project.outcomes(), "unknown fs01=unknown");
    lab.host_mut("fs01").power_on().unwrap();
    project.run(&["resume", "last"]).expect_code(5);
    assert_eq!(state(lab.host("fs01")), before);
}

#[test]
fn a_cancel_in_the_middle_takes_everything_back() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::Good).unwrap();
    let before = state(host);
    let gate = Gate::new(host, "middle");
    let project = Project::with_lab(&lab);
    project.write("runbooks/patch.yaml", &gated("middle"));
    let running = gate.wait_for(project.start(&["apply", "runbooks/patch.yaml", "--yes"]));
    running.signal("INT");
    running.wait().expect_code(8);
    assert_eq!(state(host), before);
    let left = host.sh("grep -lsx cat /proc/[0-9]*/comm | grep -v '^/proc/1/' | wc -l");
    assert_eq!(left.trim(), "1", "only the host's own first process is left; the step is gone");
    assert_eq!(project.outcomes(), "cancelled fs01=cancelled");
}

#[test]
fn a_controller_killed_in_execute_goes_on_where_it_was() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::Good).unwrap();
    let gate = Gate::new(host, "middle");
    let project = Project::with_lab(&lab);
    project.write("runbooks/patch.yaml", &gated("middle"));
    let running = gate.wait_for(project.start(&["apply", "runbooks/patch.yaml", "--yes"]));
    running.crash();
    // The plan is frozen: what is in the file now does not matter.
    project.write("runbooks/patch.yaml", "nonsense");
    gate.open();
    project.run(&["resume", "last"]).expect_code(0);
    assert_eq!(gate.arrivals(), 1, "it ran once");
    assert_eq!(host.sh("fileshare-version"), "1.1-1\n");
    assert_eq!(project.outcomes(), "succeeded fs01=succeeded");
}

#[test]
fn a_controller_killed_in_rollback_ends_it_when_it_is_resumed() {
    let Some(lab) = one() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::BreaksService).unwrap();
    let before = state(host);
    let gate = Gate::new(host, "back");
    let project = Project::with_lab(&lab);
    let text = RUNBOOK.replace(
        "    # FIRST ROLLBACK",
        &format!("    - {{id: back, name: Stand at the gate, run: '{}'}}", Gate::text("back")),
    );
    project.write("runbooks/patch.yaml", &text);
    let running = gate.wait_for(project.start(&["apply", "runbooks/patch.yaml", "--yes"]));
    running.crash();
    gate.open();
    project.run(&["resume", "last"]).expect_code(5);
    assert_eq!(gate.arrivals(), 1, "it ran once");
    assert_eq!(state(host), before);
    assert_eq!(project.outcomes(), "rolled_back fs01=rolled_back");
}
