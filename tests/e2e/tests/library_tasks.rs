//! The shipped tasks, on real hosts: they work, fail for a reason, and may be run twice.

use runbook_e2e::action::{RUN, ShippedAction};
use runbook_testkit::lab::{self, Lab, Update};
use serde_json::json;

fn lab() -> Option<Lab> {
    lab::require().then(|| Lab::with_hosts(&["fs01"]).unwrap())
}

#[test]
fn apt_upgrade_installs_what_is_pending_and_says_what_changed() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    let action = ShippedAction::load("apt-upgrade");
    let nothing = action.run(host, json!({}));
    assert!(nothing.ok() && nothing.stdout.contains("no upgrade is pending"), "{nothing:?}");

    host.publish(Update::Good).unwrap();
    let stale = action.run(host, json!({"refresh": false}));
    assert!(stale.ok() && stale.stdout.contains("no upgrade is pending"), "{stale:?}");
    let done = action.run(host, json!({"packages": ["fileshare"]}));
    assert!(done.ok(), "{done:?}");
    assert!(done.stdout.contains("pending: name, installed, offered\nfileshare 1.0-1 1.1-1\n"), "{done:?}");
    assert!(done.stdout.contains("installed: name, before, now\nfileshare 1.0-1 1.1-1\n"), "{done:?}");
    assert_eq!(host.sh("fileshare-version"), "1.1-1\n");
    let again = action.run(host, json!({}));
    assert!(again.ok() && again.stdout.contains("no upgrade is pending"), "{again:?}");
}

#[test]
fn apt_upgrade_fails_for_a_reason() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    let action = ShippedAction::load("apt-upgrade");
    let unknown = action.run(host, json!({"packages": ["no-such-package"]}));
    assert!(!unknown.ok() && unknown.stderr.contains("no-such-package is not installed"), "{unknown:?}");

    host.publish(Update::Good).unwrap();
    host.sh("apt-get -qq update; apt-mark hold fileshare >/dev/null");
    let held = action.run(host, json!({}));
    assert!(held.ok() && held.stdout.contains("no upgrade is pending"), "a held package stays: {held:?}");
    host.sh("apt-mark unhold fileshare >/dev/null");

    host.publish(Update::FailsToInstall).unwrap();
    let broken = action.run(host, json!({}));
    assert!(!broken.ok() && broken.stderr.contains("the migration failed"), "{broken:?}");
    let middle = action.run(host, json!({}));
    assert!(!middle.ok() && middle.stderr.contains("dpkg --configure -a"), "{middle:?}");
}

#[test]
fn a_held_lock_of_dpkg_is_told_as_one() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::Good).unwrap();
    host.sh("apt-get -qq update");
    let text = ShippedAction::load("apt-upgrade").text("", &json!({"refresh": false}), "");
    std::fs::write(host.path("/tmp/text"), text).unwrap();
    // dpkg's lock is one of fcntl.
    let locked = host
        .try_sh("perl -MFcntl -e 'open(F, \">\", \"/var/lib/dpkg/lock-frontend\"); my $lock = pack(\"ssqqi\", F_WRLCK, 0, 0, 0, 0); fcntl(F, F_SETLK, $lock) or die; exit(system(\"sh\", \"-eu\", \"/tmp/text\") >> 8)'")
        .unwrap();
    assert!(!locked.ok() && locked.stderr.contains("Could not get lock"), "{locked:?}");
    assert_eq!(host.sh("fileshare-version"), "1.0-1\n");
}

#[test]
fn maintenance_belongs_to_the_run_that_began_it() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    let action = ShippedAction::load("maintenance-mode");
    let enter = json!({"state": "enter", "reason": "it's patch day"});
    for _ in 0..2 {
        assert!(action.run(host, enter.clone()).ok());
    }
    assert_eq!(host.sh("cat /run/maintenance"), format!("run: {RUN}\nreason: it's patch day\n"));
    for _ in 0..2 {
        assert!(action.run(host, json!({"state": "leave"})).ok());
    }
    assert!(!host.path("/run/maintenance").exists());
    assert!(action.run(host, enter.clone()).ok());
    assert!(action.operate(host, "undo", &enter, "").ok());
    assert!(!host.path("/run/maintenance").exists(), "undone");

    host.sh("echo 'run: another' >/run/maintenance");
    let held = action.run(host, enter.clone());
    assert!(!held.ok() && held.stderr.contains("made by another"), "{held:?}");
    let leave = action.run(host, json!({"state": "leave"}));
    assert!(!leave.ok() && leave.stderr.contains("it stays"), "{leave:?}");
    assert!(action.operate(host, "undo", &enter, "").ok());
    assert_eq!(host.sh("cat /run/maintenance"), "run: another\n");
}

#[test]
fn dnf_upgrade_asks_dnf_for_exactly_what_is_pending() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    // Stand-ins that log their arguments: the lab's hosts are Debian.
    let program = |name: &str, text: &str| {
        let path = format!("/usr/local/sbin/{name}");
        std::fs::write(host.path(&path), format!("#!/bin/sh\necho \"{name} $*\" >>/run/calls\n{text}\n")).unwrap();
        host.sh(&format!("chmod 755 {path}"));
    };
    program(
        "dnf",
        r#"case "$*" in
        *repoquery*) [ -e /run/upgraded ] || printf 'samba 0:4.20-2.el9 x86_64\nsamba-common 0:4.20-2.el9 noarch\n' ;;
        *"history list"*) cat /run/history ;;
        *"history rollback"*) rm /run/upgraded; sed -i 1i'    44 | undo' /run/history ;;
        *upgrade*) [ ! -e /run/fails ] || exit 1; touch /run/upgraded; sed -i 1i'    43 | upgrade' /run/history ;;
        esac"#,
    );
    program(
        "rpm",
        r#"for last; do :; done
        case $last in no-such*) exit 1 ;; esac
        [ -e /run/upgraded ] && echo 0:4.20-2.el9 || echo 0:4.20-1.el9"#,
    );
    let action = ShippedAction::load("dnf-upgrade");
    let unknown = action.run(host, json!({"packages": ["no-such"]}));
    assert!(!unknown.ok() && unknown.stderr.contains("no-such is not installed"), "{unknown:?}");
    host.sh("printf 'ID     | Command line\\n------\\n' >/run/history");
    let none = action.run(host, json!({}));
    assert!(!none.ok() && none.stderr.contains("no way back"), "{none:?}");
    host.sh("echo '    42 | install x' >>/run/history; touch /run/fails");
    assert!(!action.run(host, json!({})).ok());
    host.sh("rm /run/fails");
    let done = action.run(host, json!({}));
    assert!(done.ok(), "{done:?}");
    assert!(done.stdout.contains("samba 0:4.20-1.el9 0:4.20-2.el9"), "{done:?}");
    let calls = host.sh("cat /run/calls");
    assert!(
        calls.contains("upgrade samba-0:4.20-2.el9.x86_64 samba-common-0:4.20-2.el9.noarch\n"),
        "exactly these: {calls}"
    );
    let again = action.run(host, json!({}));
    assert!(again.ok() && again.stdout.contains("no upgrade is pending"), "{again:?}");

    host.sh("sed -i '/^---/d; 1,/Command line/{/Command line/d}' /run/history");
    for _ in 0..2 {
        let undone = action.operate(host, "undo", &json!({}), "");
        assert!(undone.ok(), "{undone:?}");
    }
    let calls = host.sh("cat /run/calls");
    assert_eq!(calls.matches("history rollback 42\n").count(), 1, "{calls}");
}
