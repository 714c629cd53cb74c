//! The shipped checks, on real hosts: each says yes to what is right, no to what is wrong, and why.

use runbook_e2e::action::ShippedAction;
use runbook_testkit::lab::{self, Lab, LabHost};
use serde_json::{Value, json};

fn lab() -> Option<Lab> {
    lab::require().then(|| Lab::with_hosts(&["fs01"]).unwrap())
}

fn yes(host: &LabHost, name: &str, with: Value) {
    // A check is asked twice: it changes nothing.
    for _ in 0..2 {
        let output = ShippedAction::load(name).run(host, with.clone());
        assert!(output.ok(), "{name} {with}: {output:?}");
    }
}

fn no(host: &LabHost, name: &str, with: Value, why: &str) {
    let output = ShippedAction::load(name).run(host, with.clone());
    assert!(!output.ok() && output.stderr.contains(why), "{name} {with}: expected `{why}`: {output:?}");
}

fn program(host: &LabHost, name: &str, text: &str) {
    let path = format!("/usr/local/sbin/{name}");
    std::fs::write(host.path(&path), format!("#!/bin/sh\n{text}\n")).unwrap();
    host.sh(&format!("chmod 755 {path}"));
}

#[test]
fn disk_free() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    yes(host, "disk-free", json!({"path": "/srv/data", "at_least": "100MiB"}));
    no(host, "disk-free", json!({"path": "/srv/data", "at_least": "100GiB"}), "too little room on /srv");
    no(host, "disk-free", json!({"path": "/nowhere", "at_least": "1B"}), "does not exist");
    host.fill_disk();
    no(host, "disk-free", json!({"path": "/srv/data", "at_least": "10MiB"}), "too little room");
}

#[test]
fn services_processes_and_ports() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    yes(host, "service-active", json!({"service": "fileshare"}));
    yes(host, "process-running", json!({"name": "nginx", "at_least": 2, "at_most": 2}));
    yes(host, "process-running", json!({"name": "nginx", "user": "www-data", "at_most": 1}));
    no(host, "process-running", json!({"name": "nginx", "at_least": 3}), "at least 3 must");
    no(host, "process-running", json!({"name": "nginx", "at_most": 1}), "at most 1 may");
    yes(host, "process-running", json!({"name": "no-such-program", "at_least": 0, "at_most": 0}));
    yes(host, "port-open", json!({"port": 8080}));
    yes(host, "port-open", json!({"port": 22, "address": "127.0.0.1"}));
    no(host, "port-open", json!({"port": 8081}), "nothing accepts connections on localhost port 8081");
    let url = "http://localhost:8080/report.txt";
    yes(host, "http-ok", json!({"url": url, "contains": "first report"}));
    no(host, "http-ok", json!({"url": url, "contains": "second"}), "without the text: second");
    no(host, "http-ok", json!({"url": "http://localhost:8080/nothing"}), "answers 404, not 200");
    yes(host, "http-ok", json!({"url": "http://localhost:8080/nothing", "status": 404}));
    no(host, "http-ok", json!({"url": "http://localhost:8081/"}), "does not answer");

    let restart = ShippedAction::load("service-restart");
    let before = host.sh("cat /run/fileshare.pid");
    assert!(restart.run(host, json!({"service": "fileshare"})).ok());
    assert_ne!(host.sh("cat /run/fileshare.pid"), before, "it is another process");
    assert!(restart.run(host, json!({"service": "fileshare", "how": "reload"})).ok());
    host.sh("cp /etc/fileshare/nginx.conf /root/; echo nonsense >>/etc/fileshare/nginx.conf");
    let broken = restart.run(host, json!({"service": "fileshare"}));
    assert!(!broken.ok() && broken.stderr.contains("does not run after its restart"), "{broken:?}");
    no(host, "service-active", json!({"service": "fileshare"}), "does not run");
    no(host, "port-open", json!({"port": 8080}), "nothing accepts connections");
    no(host, "service-active", json!({"service": "no-such"}), "is not known here");
    host.sh("cp /root/nginx.conf /etc/fileshare/");
    assert!(restart.run(host, json!({"service": "fileshare"})).ok(), "it may be repeated");
    for _ in 0..2 {
        assert!(restart.run(host, json!({"service": "fileshare", "how": "reload-or-restart"})).ok());
        host.sh("service fileshare stop");
    }
}

#[test]
fn files() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.fill_data();
    let present = |with: Value| yes(host, "file-present", with);
    present(json!({"path": "/srv/data/name with spaces.txt", "not_empty": true}));
    let sum = host.sh("sha256sum </srv/data/private/deep/key.txt");
    let sum = sum.split(' ').next().unwrap();
    let key = "/srv/data/private/deep/key.txt";
    present(json!({"path": key, "mode": "0640", "owner": "maint", "group": "maint", "sha256": sum}));
    present(json!({"path": "/srv/data/private", "kind": "folder", "mode": "700"}));
    present(json!({"path": "/srv/data/latest", "kind": "link"}));
    let absent = |with: Value, why: &str| no(host, "file-present", with, why);
    absent(json!({"path": "/srv/nothing"}), "does not exist");
    absent(json!({"path": "/srv/data/private"}), "is no regular file");
    absent(json!({"path": key, "kind": "folder"}), "is no folder");
    absent(json!({"path": key, "kind": "link"}), "is no symbolic link");
    absent(json!({"path": key, "mode": "0600"}), "its permissions are 640, not 0600");
    absent(json!({"path": key, "owner": "root"}), "its owner is maint, not root");
    absent(json!({"path": key, "group": "root"}), "its group is maint, not root");
    absent(json!({"path": key, "sha256": "0".repeat(64)}), "its SHA-256 is");
    host.sh(": >/srv/empty");
    absent(json!({"path": "/srv/empty", "not_empty": true}), "it is empty");
}

#[test]
fn files_are_compared_with_manifests_and_references() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.fill_data();
    host.sh("cd /srv/data && find . -type f ! -name 'line*' -exec sha256sum {} + >/root/manifest; rm line*");
    let with = json!({"manifest": "/root/manifest", "folder": "/srv/data"});
    let complete = json!({"manifest": "/root/manifest", "folder": "/srv/data", "complete": true});
    yes(host, "files-unchanged", with.clone());
    yes(host, "files-unchanged", complete.clone());
    host.sh("echo new >/srv/data/new.txt");
    yes(host, "files-unchanged", with.clone());
    no(host, "files-unchanged", complete, "not in the manifest: new.txt");
    host.sh("echo changed >>'/srv/data/name with spaces.txt'; rm /srv/data/report.txt");
    no(host, "files-unchanged", with.clone(), "name with spaces.txt: FAILED");
    no(host, "files-unchanged", with, "report.txt");
    no(host, "files-unchanged", json!({"manifest": "/root/none"}), "missing or empty");
    host.sh("echo nonsense >/root/nonsense");
    no(host, "files-unchanged", json!({"manifest": "/root/nonsense"}), "are not as");

    host.sh("mkdir -p /root/reference/etc/app; echo a=1 >/root/reference/etc/app/one; mkdir /etc/app; cp -p /root/reference/etc/app/one /etc/app/");
    let with = json!({"reference": "/root/reference", "permissions": true});
    yes(host, "config-drift", with.clone());
    host.sh("chmod 600 /etc/app/one");
    yes(host, "config-drift", json!({"reference": "/root/reference"}));
    no(host, "config-drift", with.clone(), "permissions: /etc/app/one is 600 root:root, not 644 root:root");
    host.sh("echo secret=2 >/etc/app/one");
    no(host, "config-drift", with.clone(), "differs: /etc/app/one");
    let silent = ShippedAction::load("config-drift").run(host, with.clone());
    assert!(!silent.stderr.contains("secret"), "what is in the files is shown only when asked for");
    no(host, "config-drift", json!({"reference": "/root/reference", "show": true}), "+secret=2");
    host.sh("rm /etc/app/one");
    no(host, "config-drift", with, "missing: /etc/app/one");
    no(host, "config-drift", json!({"reference": "/root/none"}), "is not there");
}

#[test]
fn package_versions() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    yes(host, "package-version", json!({"package": "fileshare", "version": "1.0-1"}));
    yes(host, "package-version", json!({"package": "fileshare", "at_least": "1.0~rc1"}));
    no(host, "package-version", json!({"package": "fileshare", "at_least": "1.1"}), "older than 1.1");
    no(host, "package-version", json!({"package": "fileshare", "version": "1.1-1"}), "not 1.1-1");
    host.sh("dpkg --remove fileshare >/dev/null");
    no(host, "package-version", json!({"package": "fileshare"}), "is not installed");
}

#[test]
fn pending_reboots() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    // Modules of the machine that the tests run on are not the matter here.
    host.sh("rm -rf /usr/lib/modules");
    yes(host, "pending-reboot", json!({}));
    no(host, "pending-reboot", json!({"pending": true}), "wanted: true");
    host.sh("echo linux-image >/run/reboot-required.pkgs; touch /run/reboot-required");
    no(host, "pending-reboot", json!({}), "/run/reboot-required is there (linux-image");
    yes(host, "pending-reboot", json!({"pending": true}));
    host.sh("rm /run/reboot-required; mkdir -p /usr/lib/modules/1.2.3");
    no(host, "pending-reboot", json!({}), "is not among the installed ones");
    host.sh("rm -r /usr/lib/modules");
    program(host, "needs-restarting", "exit 1");
    no(host, "pending-reboot", json!({}), "needs-restarting -r says so");
    program(host, "needs-restarting", "exit 2");
    no(host, "pending-reboot", json!({}), "nobody knows");
}

#[test]
fn clocks() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    no(host, "clock-synchronised", json!({}), "nothing here can tell");
    let chrony = |offset: &str, leap: &str| {
        program(
            host,
            "chronyc",
            &format!("echo 'C0000201,192.0.2.1,3,1700000000.1,{offset},0.1,0.1,1,0.1,0.1,0.1,0.1,64.0,{leap}'"),
        );
    };
    chrony("0.000012", "Normal");
    yes(host, "clock-synchronised", json!({}));
    chrony("-0.700000", "Normal");
    no(host, "clock-synchronised", json!({}), "off by -0.700000 s, more than 500 ms");
    yes(host, "clock-synchronised", json!({"max_offset_ms": 1000}));
    chrony("0.000000", "Not synchronised");
    no(host, "clock-synchronised", json!({}), "not synchronised, says chrony");
    host.sh("rm /usr/local/sbin/chronyc");
    program(host, "ntpq", "echo 'leap=00, offset=-3.25'");
    yes(host, "clock-synchronised", json!({}));
    no(host, "clock-synchronised", json!({"max_offset_ms": 3}), "more than 3 ms");
    program(host, "ntpq", "echo 'leap=11, offset=0.0'");
    no(host, "clock-synchronised", json!({}), "not synchronised, says ntpd");
    host.sh("rm /usr/local/sbin/ntpq; mkdir -p /run/systemd/system");
    program(host, "timedatectl", "echo yes");
    yes(host, "clock-synchronised", json!({}));
    program(host, "timedatectl", "echo no");
    no(host, "clock-synchronised", json!({}), "not synchronised, says systemd");
}

#[test]
fn a_real_chrony_tells_whether_the_clock_is_right() {
    if !lab::require() || !lab::require_kept("chrony", "chronyd") {
        return;
    }
    let lab = Lab::with_hosts(&["time01", "fs01"]).unwrap();
    // Unpacked, not installed: an installed one would start, and set the clock of the machine that the tests run on. `-x`:
    // it does not touch any clock.
    let start = |host: &LabHost, settings: &str| {
        host.sh(&format!(
            "[ -d /opt/chrony ] || {{
                 mkdir /opt/chrony
                 for package in {}/chrony/chrony_*.deb; do
                     [ ! -e $package ] || dpkg -x $package /opt/chrony
                 done
                 for program in sbin/chronyd bin/chronyc; do
                     [ ! -e /opt/chrony/usr/$program ] || ln -s /opt/chrony/usr/$program /usr/local/$program
                 done
             }}
             [ ! -e /run/chrony.pid ] || {{ pid=$(cat /run/chrony.pid); kill $pid; while [ -e /proc/$pid ]; do sleep 0.05; done; }}
             mkdir -p /run/chrony
             printf '{settings}\nuser root\npidfile /run/chrony.pid\n' >/run/chrony.conf
             chronyd -x -f /run/chrony.conf",
            lab::KEPT_PACKAGES
        ));
    };
    let server = lab.host("time01").address();
    start(lab.host("time01"), "local stratum 8\nallow");
    let host = lab.host("fs01");
    let client = |offset: &str| {
        start(host, &format!("server {server} iburst minpoll 0 maxpoll 0 offset {offset}\nmakestep 0 0"));
        host.sh("chronyc waitsync 300 0 0 0.1 >/dev/null");
    };
    client("0");
    yes(host, "clock-synchronised", json!({}));
    // As the account that steps run as, which is not root.
    let text = ShippedAction::load("clock-synchronised").text("", &json!({}), "");
    std::fs::write(host.path("/tmp/clock"), text).unwrap();
    let plain = host.try_sh("su maint -c 'sh -eu /tmp/clock'").unwrap();
    assert!(plain.ok() && plain.stdout.contains("synchronised by chrony, offset"), "{plain:?}");
    // This host is late by its own reckoning.
    client("2.5");
    no(host, "clock-synchronised", json!({}), "the clock is off by 2.");
    yes(host, "clock-synchronised", json!({"max_offset_ms": 5000}));
    start(host, "server 198.18.255.254 iburst");
    no(host, "clock-synchronised", json!({}), "not synchronised, says chrony");
    host.sh("kill $(cat /run/chrony.pid)");
}

#[test]
fn backups_of_restic() {
    backups("restic");
}

#[test]
fn backups_of_borg() {
    backups("borg");
}

fn backups(tool: &str) {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.fill_data();
    host.sh("printf 'p w' >'/root/pass word'; chmod 600 '/root/pass word'");
    let (make, save, repository) = if tool == "restic" {
        (
            "export RESTIC_PASSWORD_FILE='/root/pass word'; restic -q -r /root/restic init",
            "export RESTIC_PASSWORD_FILE='/root/pass word'; restic -q -r /root/restic backup /srv/data",
            "/root/restic",
        )
    } else {
        (
            "export BORG_PASSPHRASE='p w'; borg init -e repokey /root/borg 2>/dev/null",
            "export BORG_PASSPHRASE='p w'; borg create /root/borg::data-{now:%s%f} /srv/data 2>/dev/null",
            "/root/borg",
        )
    };
    let with = |more: Value| {
        let mut with = json!({"tool": tool, "repository": repository, "password_file": "/root/pass word"});
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    };
    no(host, "backup-fresh", with(json!({"max_age": "1h"})), "cannot be read");
    host.sh(make);
    no(host, "backup-fresh", with(json!({"max_age": "1h"})), "there is no backup");
    let missing = ShippedAction::load("backup-restorable").run(host, with(json!({"path": "/srv/data"})));
    assert!(!missing.ok(), "{missing:?}");
    host.sh(save);
    yes(host, "backup-fresh", with(json!({"max_age": "1h"})));
    no(host, "backup-fresh", with(json!({"max_age": "0s"})), "older than 0 s");
    yes(host, "backup-restorable", with(json!({"path": "/srv/data/report.txt", "compare": true})));
    yes(host, "backup-restorable", with(json!({"path": "/srv/data", "compare": true})));
    let none = ShippedAction::load("backup-restorable").run(host, with(json!({"path": "/srv/nothing"})));
    assert!(!none.ok(), "{none:?}");
    host.sh("echo later >>/srv/data/report.txt");
    no(host, "backup-restorable", with(json!({"path": "/srv/data", "compare": true})), "is not what is on the host");
    yes(host, "backup-restorable", with(json!({"path": "/srv/data"})));
    host.sh("printf 'first report\\n' >/srv/data/report.txt");
    // A repository that lost its data is found out by reading, not by listing.
    host.sh(&format!("find {repository}/data -type f -size +50k -delete"));
    yes(host, "backup-fresh", with(json!({"max_age": "1h"})));
    let lost = ShippedAction::load("backup-restorable").run(host, with(json!({"path": "/srv/data"})));
    assert!(!lost.ok(), "{lost:?}");
}

#[test]
fn sshd_settings() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    no(host, "sshd-hardened", json!({}), "offers");
    host.sh("cat >>/etc/ssh/sshd_config <<'END'
Ciphers aes256-gcm@openssh.com,chacha20-poly1305@openssh.com
MACs hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com
KexAlgorithms curve25519-sha256,sntrup761x25519-sha512@openssh.com
END");
    yes(host, "sshd-hardened", json!({}));
    no(host, "sshd-hardened", json!({"max_auth_tries": 3}), "MaxAuthTries is 6; at most 3 is allowed");
    host.sh("sed -i 's/^PasswordAuthentication no/PasswordAuthentication yes/; s/^PermitRootLogin no/PermitRootLogin prohibit-password/' /etc/ssh/sshd_config");
    no(host, "sshd-hardened", json!({}), "PasswordAuthentication is not no");
    no(host, "sshd-hardened", json!({}), "PermitRootLogin is without-password; at most no is allowed");
    yes(host, "sshd-hardened", json!({"password_login": true, "permit_root_login": "prohibit-password"}));
    host.sh("echo Nonsense >>/etc/ssh/sshd_config");
    no(host, "sshd-hardened", json!({}), "sshd -T failed");
}

#[test]
fn aide() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.fill_data();
    host.sh(
        "printf 'database_in=file:/root/aide.db\\ndatabase_out=file:/root/aide.new\\n/srv/data R\\n' >/root/aide.conf",
    );
    let with = json!({"config": "/root/aide.conf"});
    no(host, "aide-check", with.clone(), "could not check");
    host.sh("aide --config /root/aide.conf --init >/dev/null; mv /root/aide.new /root/aide.db");
    yes(host, "aide-check", with.clone());
    host.sh("echo x >>/srv/data/report.txt");
    no(host, "aide-check", with, "aide finds changes");
    host.sh("echo nonsense >/root/bad.conf");
    no(host, "aide-check", json!({"config": "/root/bad.conf"}), "not valid");
}
