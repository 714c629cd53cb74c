//! A real host whose clock is off, in a run that must be provable.

use std::os::unix::fs::PermissionsExt as _;

use runbook_e2e::program::Project;
use runbook_testkit::lab::{self, Lab};

const RUNBOOK: &str = "schema: runbook/v1\nname: touch\ntargets: {select: all, batch: 100%}\nexecute:\n  - id: change\n    \
                       run: touch /var/tmp/changed\n    changes: [/var/tmp/changed]\n    undo: {run: rm -f /var/tmp/changed}\n";

#[test]
fn a_host_that_is_five_seconds_late_is_blocked_and_the_other_is_changed() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01", "fs02"]).unwrap();
    let late = lab.host("fs02");
    // Hosts of one machine share its clock: this one says so of its own, to whoever asks by the usual way.
    std::fs::write(late.path("/usr/local/bin/date"), "#!/bin/sh\nexec /bin/date -d '5 seconds ago' \"$@\"\n").unwrap();
    late.sh("chmod 755 /usr/local/bin/date");
    let project = Project::with_lab(&lab);
    project.write("policy.yaml", "schema: policy/v1\nrules: [{name: provable, clock: {max_offset: 2s}}]\n");
    project.write("runbooks/touch.yaml", RUNBOOK);
    // The controller's own clock is right here, whatever is installed on the machine that tests.
    let chrony = "#!/bin/sh\necho 'C0000201,192.0.2.1,3,1700000000.1,0.000012,0.1,0.1,1,0.1,0.1,0.1,0.1,64.0,Normal'\n";
    project.write("fake/chronyc", chrony);
    let fake = project.path().join("fake");
    std::fs::set_permissions(fake.join("chronyc"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", fake.display(), std::env::var("PATH").unwrap());
    let run = project.run_with(&["apply", "runbooks/touch.yaml", "--yes", "--json"], &[("PATH", &path)]).json();
    let hosts = run["hosts"].as_array().unwrap();
    let of = |name: &str| hosts.iter().find(|host| host["name"] == name).unwrap();
    assert_eq!(of("fs01")["outcome"], "succeeded", "{run}");
    assert_eq!(of("fs02")["outcome"], "blocked", "{run}");
    let reason = of("fs02")["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("not begun: its clock is -5") || reason.starts_with("not begun: its clock is -4"),
        "{reason}"
    );
    assert!(lab.host("fs01").path("/var/tmp/changed").exists());
    assert!(!late.path("/var/tmp/changed").exists());
}
