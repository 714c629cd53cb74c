//! Services under a real systemd: the shipped checks and tasks, and the runbooks that stand on them, with the real
//! program.

use runbook_e2e::action::{ShippedAction, library};
use runbook_e2e::program::Project;
use runbook_testkit::lab::{self, HostSpec, Lab, LabHost};
use serde_json::{Value, json};

fn lab() -> Option<Lab> {
    lab::require_systemd().then(|| Lab::new(&[HostSpec::new("web01").inventory("groups: [web]").systemd()]).unwrap())
}

// Debian's own nginx under its own unit.
fn start_nginx(host: &LabHost) {
    host.sh("rm -rf /etc/nginx/conf.d/* /etc/nginx/sites-enabled/*
             echo 'server { listen 127.0.0.1:80; root /srv; }' >/etc/nginx/conf.d/lab.conf
             systemctl start nginx");
}

fn main_process(host: &LabHost) -> String {
    host.sh("systemctl show --property=MainPID --value nginx")
}

fn unit(host: &LabHost, name: &str, service: &str) {
    std::fs::write(host.path(&format!("/etc/systemd/system/{name}.service")), format!("[Service]\n{service}\n"))
        .unwrap();
    host.sh("systemctl daemon-reload");
}

fn yes(host: &LabHost, with: Value) {
    let output = ShippedAction::load("service-active").run(host, with);
    assert!(output.ok(), "{output:?}");
}

fn no(host: &LabHost, with: Value, why: &str) {
    let output = ShippedAction::load("service-active").run(host, with);
    assert!(!output.ok() && output.stderr.contains(why), "expected `{why}`: {output:?}");
}

#[test]
fn services_are_restarted_reloaded_and_looked_at() {
    let Some(lab) = lab() else { return };
    let host = lab.host("web01");
    start_nginx(host);
    let restart = ShippedAction::load("service-restart");
    yes(host, json!({"service": "nginx"}));

    let before = main_process(host);
    let done = restart.run(host, json!({"service": "nginx", "how": "reload"}));
    assert!(done.ok(), "{done:?}");
    assert_eq!(main_process(host), before, "a reload keeps the process");
    let done = restart.run(host, json!({"service": "nginx"}));
    assert!(done.ok(), "{done:?}");
    assert_ne!(main_process(host), before, "a restart does not");

    // What cannot read its configuration fails, and its own words are told.
    host.sh("echo nonsense >/etc/nginx/conf.d/bad.conf");
    for (how, now) in [("reload", "active"), ("restart", "failed")] {
        let broken = restart.run(host, json!({"service": "nginx", "how": how}));
        assert!(!broken.ok() && broken.stderr.contains("bad.conf"), "{how}: {broken:?}");
        assert!(broken.stderr.contains(&format!("the {how} of nginx failed; it is {now} now")), "{broken:?}");
    }
    no(host, json!({"service": "nginx"}), "nginx is failed; its last words are above");
    host.sh("rm /etc/nginx/conf.d/bad.conf");
    assert!(restart.run(host, json!({"service": "nginx"})).ok(), "it may be repeated");
    yes(host, json!({"service": "nginx"}));

    host.sh("systemctl stop nginx");
    let nobody = restart.run(host, json!({"service": "nginx", "how": "reload"}));
    assert!(!nobody.ok() && nobody.stderr.contains("it is inactive now"), "{nobody:?}");
    for _ in 0..2 {
        assert!(restart.run(host, json!({"service": "nginx", "how": "reload-or-restart"})).ok());
    }
    host.sh("systemctl stop nginx");
    no(host, json!({"service": "nginx"}), "nginx is inactive");
    no(host, json!({"service": "no-such"}), "no-such is not known to systemd here");
    let unknown = restart.run(host, json!({"service": "no-such"}));
    assert!(!unknown.ok() && unknown.stderr.contains("no-such"), "{unknown:?}");
}

#[test]
fn a_service_that_ends_a_moment_after_it_began_does_not_count_as_running() {
    let Some(lab) = lab() else { return };
    let host = lab.host("web01");
    // It looks well at first, each time that systemd starts it anew.
    unit(host, "flaps", "ExecStart=/bin/sleep 1\nRestart=always\nRestartSec=100ms\nStartLimitIntervalSec=0");
    unit(host, "steady", "ExecStart=/bin/sleep infinity");
    host.sh("systemctl start flaps steady");
    yes(host, json!({"service": "steady", "stays": "3s"}));
    no(host, json!({"service": "flaps", "stays": "3s"}), "flaps");
    unit(host, "ends", "ExecStart=/bin/sh -c 'echo out of luck; exit 3'");
    let ends = ShippedAction::load("service-restart").run(host, json!({"service": "ends"}));
    let output = ShippedAction::load("service-active").run(host, json!({"service": "ends", "stays": "1s"}));
    assert!(!output.ok() && output.stderr.contains("ends is failed; its last words are above"), "{ends:?} {output:?}");
    assert!(output.stderr.contains("out of luck"), "{output:?}");
}

#[test]
fn a_service_that_systemd_only_once_started_is_asked_itself() {
    let Some(lab) = lab() else { return };
    let host = lab.host("web01");
    // An init script: systemd calls it active for ever after.
    host.install_service().unwrap();
    yes(host, json!({"service": "fileshare"}));
    let restart = ShippedAction::load("service-restart");
    let done = restart.run(host, json!({"service": "fileshare"}));
    assert!(done.ok(), "{done:?}");
    host.sh("kill $(cat /run/fileshare.pid); while [ -e /proc/$(cat /run/fileshare.pid 2>/dev/null || echo none) ]; do sleep 0.1; done");
    host.sh("systemctl is-active fileshare");
    no(host, json!({"service": "fileshare"}), "fileshare does not run, says /etc/init.d/fileshare status");

    // A unit that stands for others.
    unit(host, "all", "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n[Unit]\nWants=part@one.service");
    unit(host, "part@", "ExecStart=/bin/sleep infinity\n[Unit]\nPartOf=all.service\nBefore=all.service");
    host.sh("systemctl start all");
    yes(host, json!({"service": "all"}));
    host.sh("systemctl kill --signal=KILL part@one; systemctl is-active all");
    no(host, json!({"service": "all"}), "part@one.service, a part of all, is failed");
    assert!(restart.run(host, json!({"service": "all"})).ok());
    yes(host, json!({"service": "all"}));
    unit(
        host,
        "part@",
        "ExecStartPre=/bin/false\nExecStart=/bin/sleep infinity\n[Unit]\nPartOf=all.service\nBefore=all.service",
    );
    let broken = restart.run(host, json!({"service": "all"}));
    assert!(!broken.ok() && broken.stderr.contains("part@one.service, a part of all, is failed"), "{broken:?}");
}

fn shipped(name: &str) -> String {
    library().join(name).display().to_string()
}

#[test]
fn the_shipped_restart_restarts_what_comes_back_and_tells_what_does_not() {
    let Some(lab) = lab() else { return };
    let host = lab.host("web01");
    start_nginx(host);
    let project = Project::with_lab(&lab);
    let runbook = shipped("restart-service.yaml");
    let apply =
        ["apply", &runbook, "--limit", "web", "--yes", "-p", "service=nginx", "-p", "port=80", "-p", "stays=1s"];
    let before = main_process(host);
    project.run(&apply).expect_code(0);
    assert_ne!(main_process(host), before);
    assert_eq!(project.outcomes(), "succeeded web01=succeeded");

    // It runs with what it had read; what it would read now is wrong.
    host.sh("echo nonsense >/etc/nginx/conf.d/bad.conf");
    let said = project.run(&apply);
    said.expect_code(4);
    let told = said.stderr.split_whitespace().collect::<Vec<_>>().join(" ").replace(" | ", " ");
    assert!(told.contains("the restart of nginx failed; it is"), "{said:?}");
    let output = project.run(&["logs", "last"]);
    assert!(output.stdout.contains("bad.conf"), "its own words are in the record: {output:?}");
}
