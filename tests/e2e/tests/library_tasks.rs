//! The shipped tasks, on real hosts: they work, fail for a reason, and may be run twice.

use runbook_e2e::action::{RUN, ShippedAction};
use runbook_testkit::lab::{self, Lab, LabHost, Update};
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

// A host with real dnf and rpm, and the first edition of the service from its own repository.
fn fedora() -> Option<Lab> {
    if !lab::require_programs(&["dnf", "rpm", "rpmbuild", "createrepo_c"]) {
        return None;
    }
    let lab = lab()?;
    let host = lab.host("fs01");
    host.become_fedora().unwrap();
    host.publish_rpm(Update::First).unwrap();
    host.sh("dnf -q -y install fileshare >/dev/null");
    Some(lab)
}

fn rpms(host: &LabHost) -> String {
    host.sh("rpm -qa | LC_ALL=C sort")
}

#[test]
fn dnf_upgrade_installs_what_is_pending_and_takes_it_back() {
    let Some(lab) = fedora() else { return };
    let host = lab.host("fs01");
    let action = ShippedAction::load("dnf-upgrade");
    let nothing = action.run(host, json!({}));
    assert!(nothing.ok() && nothing.stdout.contains("no upgrade is pending"), "{nothing:?}");
    let unknown = action.run(host, json!({"packages": ["no-such"]}));
    assert!(!unknown.ok() && unknown.stderr.contains("no-such is not installed"), "{unknown:?}");
    let undone = action.operate(host, "undo", &json!({}), "");
    assert!(undone.ok() && undone.stdout.contains("nothing was installed"), "{undone:?}");

    // A person has changed what the package does not replace, and what it replaces.
    host.sh("echo owner=me >>/etc/fileshare/site.conf; chmod 600 /etc/fileshare/site.conf
             echo '# mine' >>/etc/fileshare/nginx.conf; setfacl -m u:maint:r /etc/fileshare/nginx.conf");
    let paths = ["/etc/fileshare", "/usr/bin/fileshare-version", "/usr/lib/systemd/system/fileshare.service"];
    let before = (rpms(host), host.fingerprint(&paths));
    host.publish_rpm(Update::Good).unwrap();
    let done = action.run(host, json!({}));
    assert!(done.ok(), "{done:?}");
    assert!(done.stdout.contains("pending: name, installed, offered\nfileshare 0:1.0-1 0:1.1-1 noarch\n"), "{done:?}");
    assert!(done.stdout.contains("installed: name, before, now\nfileshare 0:1.0-1 0:1.1-1\n"), "{done:?}");
    assert_eq!(host.sh("fileshare-version"), "1.1\n");
    assert_ne!(host.fingerprint(&paths), before.1);
    let again = action.run(host, json!({"packages": ["fileshare"]}));
    assert!(again.ok() && again.stdout.contains("no upgrade is pending"), "{again:?}");
    for _ in 0..2 {
        let undone = action.operate(host, "undo", &json!({}), "");
        assert!(undone.ok(), "{undone:?}");
        assert_eq!((rpms(host), host.fingerprint(&paths)), before);
    }
    assert!(!host.path(&format!("/var/lib/runbook/dnf-{RUN}")).exists());
}

#[test]
fn dnf_upgrade_fails_for_a_reason_and_changes_nothing_without_a_way_back() {
    let Some(lab) = fedora() else { return };
    let host = lab.host("fs01");
    let action = ShippedAction::load("dnf-upgrade");
    let before = rpms(host);
    host.publish_rpm(Update::FailsToInstall).unwrap();
    let broken = action.run(host, json!({}));
    assert!(!broken.ok() && broken.stderr.contains("Error in PRETRANS scriptlet"), "{broken:?}");
    let undone = action.operate(host, "undo", &json!({}), "");
    assert!(undone.ok(), "{undone:?}");
    assert_eq!(rpms(host), before);

    // A repository that keeps the newest edition alone, as many do.
    host.publish_rpm(Update::Good).unwrap();
    host.sh("rm /var/lib/lab-rpm/noarch/fileshare-1.[03]-*");
    host.offer_rpms();
    let lost = action.run(host, json!({}));
    assert!(!lost.ok() && lost.stderr.contains("fileshare-0:1.0-1.noarch\nno repository offers"), "{lost:?}");
    assert_eq!(rpms(host), before, "nothing was changed");
    let security = action.run(host, json!({"security": true}));
    assert!(security.ok() && security.stdout.contains("no upgrade is pending"), "{security:?}");
    let all_the_same = action.run(host, json!({"way_back": "optional"}));
    assert!(all_the_same.ok(), "{all_the_same:?}");
    assert_eq!(host.sh("fileshare-version"), "1.1\n");
    let undone = action.operate(host, "undo", &json!({}), "");
    assert!(!undone.ok(), "it cannot be taken back, and says so: {undone:?}");
    host.sh("rm -rf /var/lib/dnf/history*");
    host.publish_rpm(Update::BreaksService).unwrap();
    host.sh(&format!("rm -r /var/lib/runbook/dnf-{RUN}"));
    let none = action.run(host, json!({}));
    assert!(!none.ok() && none.stderr.contains("no way back"), "{none:?}");
}
