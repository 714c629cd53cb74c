//! Access for a run, on real hosts: real sshd, real sudo, and credentials that a thief copied while the run had them.

use std::path::{Path, PathBuf};
use std::process::Command;

use runbook_e2e::program::{Project, Running, Said};
use runbook_testkit::lab::{self, HostSpec, Lab};

const RULE: &str = "/etc/sudoers.d/runbook-*";

/// A project whose authority the hosts trust, and nothing else: no key is authorised, nobody may use sudo.
fn project(lab: &Lab) -> Project {
    let hosts: Vec<&str> = lab.hosts().map(lab::LabHost::name).collect();
    project_for(lab, &hosts)
}

/// The same; other hosts stay as they are.
fn project_for(lab: &Lab, hosts: &[&str]) -> Project {
    let project = Project::with_lab(lab);
    let made = project.run(&["access", "ca", "init"]);
    let public = made.expect_code(0).stdout.trim().to_owned();
    assert!(public.starts_with("ssh-ed25519 "), "{made:?}");
    let key = project.path().join("keys/user_ca");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&key).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert!(std::fs::read_to_string(project.path().join("keys/.gitignore")).unwrap().contains("/user_ca"));
    let kept = std::fs::read(&key).unwrap();
    project.run(&["access", "ca", "init"]).expect_code(2);
    assert_eq!(std::fs::read(&key).unwrap(), kept, "it is never replaced");
    assert_eq!(project.run(&["access", "ca", "show"]).expect_code(0).stdout.trim(), public);
    let settings = std::fs::read_to_string(project.path().join("runbook.toml")).unwrap();
    project.write("runbook.toml", &format!("{settings}[access]\nca = \"keys/user_ca\"\n"));
    for host in hosts.iter().map(|name| lab.host(name)) {
        host.sh(&format!(
            "echo '{public}' >/etc/ssh/runbook_ca.pub
             : >/etc/ssh/revoked_keys
             sed -i 's|^TrustedUserCAKeys.*|TrustedUserCAKeys /etc/ssh/runbook_ca.pub\\nRevokedKeys /etc/ssh/revoked_keys|
                 s|^PermitRootLogin.*|PermitRootLogin forced-commands-only|' /etc/ssh/sshd_config
             printf 'Defaults !lecture, !use_pty\\n' >/etc/sudoers.d/maint
             : >/home/maint/.ssh/authorized_keys
             usermod -p '*' root"
        ));
        reload(lab, host.name());
    }
    project
}

fn reload(lab: &Lab, host: &str) {
    lab.host(host).sh("kill -HUP \"$(cat /run/sshd.pid)\"; sleep 0.5");
}

fn runbook(project: &Project, access: &str, steps: &str) {
    let text =
        format!("schema: runbook/v1\nname: patch\ntargets: {{select: all, failure_budget: 1}}\n{access}\n{steps}\n");
    project.write("runbooks/patch.yaml", &text);
}

const APPLY: &[&str] = &["apply", "runbooks/patch.yaml", "--yes"];
const ACCESS: &str = "access:\n  certificate: {valid_for: 1h}\n  sudo: {}";
const GOOD: &str =
    "execute:\n  - {id: change, run: 'id -un >/etc/changed', as: root, undo: {run: 'rm -f /etc/changed', as: root}}";
/// It says where it is, waits for a file, and goes on.
const WAITS: &str = "execute:\n  - id: change\n    as: root\n    run: |\n      id -un >/etc/changed\n      until [ -e /tmp/go ]; \
                     do sleep 0.1; done\n      exit \"$(cat /tmp/go)\"\n    undo: {run: 'rm -f /etc/changed', as: root}";

/// What a thief on the controller takes from a program that runs: its private keys, and every certificate.
struct Stolen {
    folder: tempfile::TempDir,
    certificates: Vec<PathBuf>,
    keys: Vec<PathBuf>,
}

impl Stolen {
    fn take(running: &Running, runtime: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (mut keys, mut certificates) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(format!("/proc/{}/fd", running.id())).unwrap().flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            if target.to_string_lossy().contains("runbook-key") {
                let path = folder.path().join(format!("key-{}", keys.len()));
                std::fs::write(&path, std::fs::read(entry.path()).unwrap()).unwrap();
                std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
                keys.push(path);
            }
        }
        for entry in std::fs::read_dir(runtime).unwrap().flatten() {
            for of_one in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let path = folder.path().join(of_one.file_name());
                if std::fs::copy(of_one.path().join("key-cert.pub"), &path).is_ok() {
                    certificates.push(path);
                }
            }
        }
        assert!(!keys.is_empty() && !certificates.is_empty(), "there is something to steal: {keys:?} {certificates:?}");
        Self { folder, certificates, keys }
    }

    /// Tries every key with every certificate; what the host said of those that were refused, or that it let one in.
    fn try_all(&self, lab: &Lab, host: &str, command: &str) -> Result<String, String> {
        let mut said = String::new();
        for key in &self.keys {
            for certificate in &self.certificates {
                match login(lab, host, key, certificate, command) {
                    Ok(out) => return Ok(out),
                    Err(words) => said.push_str(&words),
                }
            }
        }
        Err(said)
    }
}

fn login(lab: &Lab, host: &str, key: &Path, certificate: &Path, command: &str) -> Result<String, String> {
    let options = [
        format!("UserKnownHostsFile={}", lab.folder().join("known_hosts").display()),
        "GlobalKnownHostsFile=/dev/null".into(),
        format!("IdentityFile={}", key.display()),
        format!("CertificateFile={}", certificate.display()),
        "IdentitiesOnly=yes".into(),
        "IdentityAgent=none".into(),
        "BatchMode=yes".into(),
        "ConnectTimeout=10".into(),
    ];
    let mut ssh = Command::new("ssh");
    ssh.args(["-F", "/dev/null", "-l", "maint"]);
    for option in &options {
        ssh.args(["-o", option]);
    }
    let output = ssh.arg(lab.host(host).address()).arg(command).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr) + &text(&output.stdout)) }
}

/// A short folder for sockets and certificates, of the test's own.
fn runtime() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rt-").tempdir_in("/tmp").unwrap()
}

fn start(project: &Project, runtime: &tempfile::TempDir, arguments: &[&str]) -> Running {
    project.start_with(arguments, &[("XDG_RUNTIME_DIR", runtime.path().to_str().unwrap())])
}

fn wait_for(lab: &Lab, host: &str, file: &str) {
    lab.host(host).sh(&format!("n=0; until [ -e {file} ]; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done"));
}

/// Nothing of it is left: no rule, no login with what was stolen, and nothing secret where it is kept.
fn assert_gone(lab: &Lab, project: &Project, host: &str, stolen: &Stolen) {
    lab.host(host).sh(&format!("! ls {RULE} 2>/dev/null"));
    let refused = stolen.try_all(lab, host, "id -un").expect_err("the host refuses what was stolen");
    assert!(refused.contains("Permission denied (publickey"), "{refused}");
    let listed = lab.host(host).try_sh("sudo -n -l -U maint 2>&1").unwrap().stdout;
    assert!(listed.contains("not allowed to run sudo"), "{listed}");
    for key in &stolen.keys {
        let text = std::fs::read_to_string(key).unwrap();
        let middle = text.lines().nth(3).expect("a line of the private key");
        let found = Command::new("grep").args(["-rlF", middle, "."]).current_dir(project.path()).output().unwrap();
        assert!(found.stdout.is_empty(), "a private key is kept: {}", String::from_utf8_lossy(&found.stdout));
    }
    assert!(stolen.folder.path().is_dir());
}

fn withdrawn(project: &Project, host: usize) -> serde_json::Value {
    let last = project.last();
    let closed = last["hosts"][host]["closed"].as_array().unwrap().last().unwrap().clone();
    closed["access"].clone()
}

fn said(said: &Said) -> String {
    said.stderr.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn what_was_stolen_during_a_run_is_refused_after_it_whatever_became_of_the_run() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let project = project(&lab);
    runbook(&project, ACCESS, WAITS);
    let planned = project.run(&["plan", "runbooks/patch.yaml"]);
    let shown = planned.expect_code(0).stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(shown.contains("a certificate for this run (principals maint; at most 1h"), "{shown}");

    let before = lab.host("fs01").fingerprint(&["/etc/sudoers", "/etc/sudoers.d"]);
    for (ends, outcome, code) in [("0", "succeeded", 0), ("1", "rolled_back", 5)] {
        let runtime = runtime();
        lab.host("fs01").sh("rm -f /tmp/go /etc/changed");
        let running = start(&project, &runtime, APPLY);
        wait_for(&lab, "fs01", "/etc/changed");
        let stolen = Stolen::take(&running, runtime.path());
        let inside = stolen.try_all(&lab, "fs01", "sudo -n id -un");
        assert_eq!(inside.expect("during the run it counts").trim(), "root");
        lab.host("fs01").sh(&format!("echo {ends} >/tmp/go"));
        running.wait().expect_code(code);
        assert_eq!(project.outcomes(), format!("{outcome} fs01={outcome}"));
        assert_gone(&lab, &project, "fs01", &stolen);
        let access = withdrawn(&project, 0);
        assert_eq!(access["state"], "withdrawn", "{access}");
        assert!(access["certificate"].as_str().unwrap().contains("Permission denied (publickey"), "{access}");
        assert!(access["sudo"].as_str().unwrap().contains("asked by the run's own login"), "{access}");
        assert_eq!(lab.host("fs01").fingerprint(&["/etc/sudoers", "/etc/sudoers.d"]), before);
    }

    // Cancelled in the middle.
    let runtime = runtime();
    lab.host("fs01").sh("rm -f /tmp/go /etc/changed");
    let running = start(&project, &runtime, APPLY);
    wait_for(&lab, "fs01", "/etc/changed");
    let stolen = Stolen::take(&running, runtime.path());
    running.signal("TERM");
    running.wait().expect_code(8);
    assert_gone(&lab, &project, "fs01", &stolen);
    assert_eq!(withdrawn(&project, 0)["state"], "withdrawn");

    // The host's log has what the record has.
    let last = project.last();
    let granted = &last["hosts"][0]["access"][0]["certificate"];
    let (serial, id) = (granted["serial"].as_str().unwrap(), granted["key_id"].as_str().unwrap());
    let log = lab
        .host("fs01")
        .sh(&format!("grep 'Accepted publickey for maint' /var/log/sshd.log | grep 'serial {serial})'"));
    assert!(log.contains(id), "{log}\n{granted}");
    project.run(&["evidence", "verify", "last"]).expect_code(11);
    let explained = project.run(&["explain", "last"]);
    assert!(
        explained.stdout.split_whitespace().collect::<Vec<_>>().join(" ").contains("certificate withdrawn: revoked in")
    );
}

#[test]
fn after_a_crash_a_resume_withdraws_what_the_dead_controller_gave() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let project = project(&lab);
    runbook(&project, ACCESS, WAITS);
    let runtime = runtime();
    let running = start(&project, &runtime, APPLY);
    wait_for(&lab, "fs01", "/etc/changed");
    let first = Stolen::take(&running, runtime.path());
    running.crash();
    // What it gave is there until somebody takes the run up: that is why it has an end of its own.
    assert_eq!(first.try_all(&lab, "fs01", "sudo -n id -un").unwrap().trim(), "root");
    lab.host("fs01").sh("echo 0 >/tmp/go");
    let resumed = start(&project, &runtime, &["resume", "last"]);
    resumed.wait().expect_code(0);
    assert_eq!(project.outcomes(), "succeeded fs01=succeeded");
    assert_gone(&lab, &project, "fs01", &first);
    let last = project.last();
    let granted = last["hosts"][0]["access"].as_array().unwrap();
    assert_eq!(granted.len(), 2, "each controller had a key of its own");
    let access = withdrawn(&project, 0);
    assert!(access["certificate"].as_str().unwrap().contains("a login with it was refused"), "{access}");
    let revoked = lab.host("fs01").sh("cat /etc/ssh/revoked_keys");
    for one in granted {
        let key = one["certificate"]["public_key"].as_str().unwrap().split(' ').nth(1).unwrap().to_owned();
        assert!(revoked.contains(&key), "{revoked}");
    }
}

#[test]
fn a_host_that_cannot_revoke_is_not_begun_or_the_record_says_that_the_certificate_still_counts() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let project = project(&lab);
    lab.host("fs01").sh("sed -i '/^RevokedKeys/d' /etc/ssh/sshd_config");
    reload(&lab, "fs01");
    runbook(&project, ACCESS, GOOD);
    let refused = project.run(APPLY);
    assert!(said(refused.expect_code(3)).contains("no file of RevokedKeys"), "{refused:?}");
    lab.host("fs01").sh(&format!("! ls {RULE} 2>/dev/null; [ ! -e /etc/changed ]"));
    assert_eq!(withdrawn(&project, 0)["state"], "lapses");

    runbook(&project, "access:\n  certificate: {valid_for: 1h, revoke: when-possible}\n  sudo: {}", GOOD);
    project.run(APPLY).expect_code(0);
    let access = withdrawn(&project, 0);
    assert_eq!(access["state"], "lapses");
    let certificate = access["certificate"].as_str().unwrap();
    assert!(
        certificate.contains("counts until its own end at 20") && certificate.contains("cannot be revoked"),
        "{access}"
    );
    lab.host("fs01").sh(&format!("! ls {RULE} 2>/dev/null"));
}

#[test]
fn access_that_cannot_be_removed_suspends_the_run_and_a_resume_removes_it() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let project = project(&lab);
    runbook(&project, ACCESS, WAITS);
    let runtime = runtime();
    let running = start(&project, &runtime, APPLY);
    wait_for(&lab, "fs01", "/etc/changed");
    let stolen = Stolen::take(&running, runtime.path());
    // The folder becomes one that nobody can change.
    lab.host("fs01")
        .sh("mount --bind /etc/sudoers.d /etc/sudoers.d && mount -o remount,bind,ro /etc/sudoers.d; echo 0 >/tmp/go");
    let ended = running.wait();
    let told = said(ended.expect_code(6));
    assert!(told.contains("is not shown to be withdrawn") && told.contains("is still there"), "{told}");
    assert_eq!(project.outcomes(), "stuck fs01=succeeded");
    let access = withdrawn(&project, 0);
    assert_eq!(access["state"], "left", "{access}");
    assert!(access["sudo"].as_str().unwrap().contains("Read-only file system"), "{access}");
    // The way in is closed all the same.
    assert!(stolen.try_all(&lab, "fs01", "id").is_err());

    let again = project.run(&["resume", "last"]);
    again.expect_code(6);
    lab.host("fs01").sh("umount /etc/sudoers.d");
    project.run(&["resume", "last"]).expect_code(0);
    assert_gone(&lab, &project, "fs01", &stolen);
    let access = withdrawn(&project, 0);
    assert_eq!(access["state"], "withdrawn");
    let certificate = access["certificate"].as_str().unwrap();
    assert!(certificate.contains("one that was revoked together with it was refused"), "{access}");
}

/// The address from which this machine reaches a host.
fn own_address(lab: &Lab, host: &str) -> String {
    let output = Command::new("ip").args(["-4", "route", "get", lab.host(host).address()]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split(" src ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("a source address").to_owned()
}

#[test]
fn a_certificate_counts_on_its_own_host_and_from_its_own_address_alone() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01", "fs02"]).unwrap();
    let project = project(&lab);
    for host in ["fs01", "fs02"] {
        lab.host(host).sh(&format!(
            "mkdir -p /etc/ssh/principals; echo maint@{host} >/etc/ssh/principals/maint; echo root >/etc/ssh/principals/root
             echo 'AuthorizedPrincipalsFile /etc/ssh/principals/%u' >>/etc/ssh/sshd_config"
        ));
        reload(&lab, host);
    }
    let from = own_address(&lab, "fs01");
    let access = format!(
        "access:\n  certificate: {{principals: ['maint@{{{{host.name}}}}'], source_address: [{from}/32]}}\n  sudo: {{}}"
    );
    runbook(&project, &access, WAITS);
    let runtime = runtime();
    let running = start(&project, &runtime, APPLY);
    wait_for(&lab, "fs01", "/etc/changed");
    wait_for(&lab, "fs02", "/etc/changed");
    let stolen = Stolen::take(&running, runtime.path());
    let works = |host: &str| {
        let pairs = stolen.keys.iter().flat_map(|key| stolen.certificates.iter().map(move |one| (key, one)));
        let good = pairs.filter(|(key, one)| login(&lab, host, key, one, "true").is_ok());
        good.map(|(key, one)| (key.clone(), one.clone())).collect::<Vec<_>>()
    };
    let (first, second) = (works("fs01"), works("fs02"));
    assert_eq!((first.len(), second.len()), (1, 1), "each host takes its own certificate");
    assert_ne!(first[0].1, second[0].1);

    // The right credential, from the other host.
    let (key, certificate) = &first[0];
    for (file, to) in [(key, "/root/key"), (certificate, "/root/key-cert.pub")] {
        std::fs::copy(file, lab.host("fs02").path(to)).unwrap();
    }
    let known = std::fs::read_to_string(lab.folder().join("known_hosts")).unwrap();
    std::fs::write(lab.host("fs02").path("/root/known"), known).unwrap();
    let elsewhere = lab.host("fs02").try_sh(&format!(
        "chmod 600 /root/key; ssh -o BatchMode=yes -o UserKnownHostsFile=/root/known -i /root/key -l maint {} true",
        lab.host("fs01").address()
    ));
    let elsewhere = elsewhere.unwrap();
    assert!(!elsewhere.ok() && elsewhere.stderr.contains("Permission denied (publickey"), "{elsewhere:?}");
    let log = lab.host("fs01").sh("cat /var/log/sshd.log");
    assert!(log.contains("valid certificate but not from a permitted source address"), "{log}");
    assert!(log.contains("Certificate does not contain an authorized principal"), "{log}");

    for host in ["fs01", "fs02"] {
        lab.host(host).sh("echo 0 >/tmp/go");
    }
    running.wait().expect_code(0);
    assert_gone(&lab, &project, "fs01", &stolen);
    assert_gone(&lab, &project, "fs02", &stolen);
}

#[test]
fn what_nobody_withdraws_ends_by_itself() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let project = project(&lab);
    runbook(&project, "access:\n  certificate: {valid_for: 1m}\n  sudo: {}", WAITS);
    let runtime = runtime();
    let running = start(&project, &runtime, APPLY);
    wait_for(&lab, "fs01", "/etc/changed");
    let stolen = Stolen::take(&running, runtime.path());
    running.crash();
    let sudo = || lab.host("fs01").try_sh("su maint -c 'sudo -n id -un'").unwrap();
    assert_eq!(stolen.try_all(&lab, "fs01", "sudo -n id -un").unwrap().trim(), "root");
    assert!(sudo().ok());
    lab.host("fs01").sh("sleep 61");
    let refused = stolen.try_all(&lab, "fs01", "true").expect_err("the certificate is over");
    assert!(refused.contains("Permission denied (publickey"), "{refused}");
    let log = lab.host("fs01").sh("cat /var/log/sshd.log");
    assert!(log.contains("Certificate invalid: expired"), "{log}");
    lab.host("fs01").sh(&format!("ls {RULE}"));
    let refused = sudo();
    assert!(!refused.ok(), "the rule is there, and over: {refused:?}");

    // Who takes it up later gives anew, brings the host to its end, and withdraws both.
    lab.host("fs01").sh("echo 0 >/tmp/go");
    project.run(&["resume", "last"]).expect_code(0);
    assert_gone(&lab, &project, "fs01", &stolen);
}

#[test]
fn a_host_with_a_binary_list_of_revoked_keys_behind_another_is_given_access_and_revokes() {
    if !lab::require() {
        return;
    }
    let lab = Lab::new(&[HostSpec::new("bastion"), HostSpec::new("fs01").behind("bastion")]).unwrap();
    let project = project_for(&lab, &["fs01"]);
    // A rule that is not of the run, which stays as it is.
    lab.host("fs01").sh("echo 'maint ALL=(root) NOPASSWD: /bin/true' >/etc/sudoers.d/other");
    lab.host("fs01").sh("ssh-keygen -q -k -f /etc/ssh/revoked_keys /etc/ssh/ssh_host_ed25519_key.pub");
    let text = format!("schema: runbook/v1\nname: patch\ntargets: {{select: fs01}}\n{ACCESS}\n{GOOD}\n");
    project.write("runbooks/patch.yaml", &text);
    project.run(APPLY).expect_code(0);
    let access = withdrawn(&project, 0);
    assert_eq!(access["state"], "withdrawn", "{access}");
    assert!(access["certificate"].as_str().unwrap().contains("Permission denied (publickey"), "{access}");
    let key = project.last()["hosts"][0]["access"][0]["certificate"]["public_key"].as_str().unwrap().to_owned();
    let said = lab.host("fs01").try_sh(&format!(
        "echo '{key}' >/tmp/k; ssh-keygen -Q -f /etc/ssh/revoked_keys /tmp/k; \
         ssh-keygen -Q -f /etc/ssh/revoked_keys /etc/ssh/ssh_host_ed25519_key.pub"
    ));
    let said = said.unwrap().stdout;
    assert!(said.contains("/tmp/k (runbook") && said.contains("REVOKED"), "{said}");
    assert!(access["sudo"].as_str().unwrap().contains("by rules that are not of this run"), "{access}");

    // Taking the run back is a run of its own, with access of its own.
    project.run(&["rollback", "last", "--yes"]).expect_code(5);
    assert_eq!(withdrawn(&project, 0)["state"], "withdrawn");
    lab.host("fs01").sh(&format!("[ ! -e /etc/changed ]; ! ls {RULE} 2>/dev/null; [ -e /etc/sudoers.d/other ]"));
}

const SNAPSHOT: &str = "schema: action/v1
name: note
kind: snapshot
as: root
take: {posix: {run: 'cp /etc/hostname /etc/hostname.kept && echo kept'}}
probe: {posix: {run: 'test -e /etc/hostname.kept'}}
restore: {posix: {run: 'cp /etc/hostname.kept /etc/hostname'}}
release: {posix: {run: 'rm /etc/hostname.kept'}}
";

#[test]
fn removing_a_snapshot_later_is_given_access_of_its_own() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let project = project(&lab);
    project.write("actions/note.yaml", SNAPSHOT);
    let steps = "snapshot: [{id: kept, uses: note}]\nexecute: [{id: change, run: 'echo x >/etc/changed', as: root}]";
    runbook(&project, ACCESS, steps);
    project.run(APPLY).expect_code(0);
    lab.host("fs01").sh(&format!("[ -e /etc/hostname.kept ]; ! ls {RULE} 2>/dev/null"));
    project.run(&["snapshots", "release", "last"]).expect_code(0);
    lab.host("fs01").sh(&format!("[ ! -e /etc/hostname.kept ]; ! ls {RULE} 2>/dev/null"));
    let last = project.last();
    assert_eq!(last["hosts"][0]["access"].as_array().unwrap().len(), 2);
    assert_eq!(withdrawn(&project, 0)["state"], "withdrawn");
    assert_eq!(lab.host("fs01").sh("grep -c ssh-ed25519 /etc/ssh/revoked_keys").trim(), "2");
}

#[test]
fn a_vendors_account_is_open_in_its_window_alone_and_locked_after_the_run() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let project = project(&lab);
    let windows = |when: &str| {
        let text = format!(
            "schema: windows/v1\nzone: UTC\nwindows:\n  always: {{when: every day 00:00 for 24h}}\n  vendor-hours: {{{when}}}\n"
        );
        project.write("windows.yaml", &text);
    };
    lab.host("fs01").sh("useradd -m -s /bin/sh acme; echo acme:secret | chpasswd; usermod -L -e 1970-01-02 acme
         install -d -m 700 -o acme -g acme /home/acme/.ssh");
    let key = std::fs::read_to_string(lab.identity().with_extension("pub")).unwrap();
    lab.host("fs01").sh(&format!(
        "echo '{}' >/home/acme/.ssh/authorized_keys; chown acme: /home/acme/.ssh/authorized_keys",
        key.trim()
    ));
    let vendor = |command: &str| {
        let config = lab.ssh_config();
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(config).args(["-l", "acme", "fs01", command]);
        ssh
    };
    let shadow = || lab.host("fs01").sh("getent shadow acme");
    let before = shadow();
    let access = "access:\n  certificate: {}\n  sudo: {}\n  account: {name: acme, window: vendor-hours}";
    runbook(&project, access, WAITS);

    // Its window is closed.
    windows("rule: FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=1, at: \"00:00\", for: 1h, starting: 2090-01-01");
    let refused = project.run(APPLY);
    let told = said(refused.expect_code(3));
    assert!(told.contains("the account acme is not opened: the window `vendor-hours` is closed"), "{told}");
    assert_eq!(shadow(), before);
    assert!(!vendor("true").output().unwrap().status.success());

    windows("when: every day 00:00 for 24h");
    let runtime = runtime();
    let running = start(&project, &runtime, APPLY);
    wait_for(&lab, "fs01", "/etc/changed");
    assert!(vendor("true").output().unwrap().status.success(), "it is open: {}", shadow());
    let mut stays = vendor("sleep 1000").spawn().unwrap();
    lab.host("fs01")
        .sh("n=0; until pgrep -u acme sleep; do n=$((n+1)); [ $n -lt 100 ]; sleep 0.1; done; echo 0 >/tmp/go");
    running.wait().expect_code(0);
    stays.wait().unwrap();
    assert!(!vendor("true").output().unwrap().status.success(), "it is locked: {}", shadow());
    assert_eq!(shadow(), before);
    lab.host("fs01").sh("! pgrep -u acme");
    let access = withdrawn(&project, 0);
    assert_eq!(access["state"], "withdrawn", "{access}");
    assert!(access["account"].as_str().unwrap().contains("acme has expired and is locked"), "{access}");
    let opened = &project.last()["hosts"][0]["access"][0]["account"];
    assert_eq!((&opened["name"], &opened["window"]), (&"acme".into(), &"vendor-hours".into()), "{opened}");
}

/// Signs with OpenSSH's own program, as it was asked to.
const SIGNER: &str = r#"import json, os, subprocess, sys, tempfile
asked = json.load(sys.stdin)
with tempfile.TemporaryDirectory() as folder:
    key = os.path.join(folder, "id.pub")
    open(key, "w").write(asked["public_key"] + "\n")
    words = ["ssh-keygen", "-q", "-s", sys.argv[1], "-I", asked["key_id"], "-z", str(asked["serial"])]
    words += ["-n", ",".join(asked["principals"]), "-O", "clear"]
    if asked["force_command"]:
        words += ["-O", "force-command=" + asked["force_command"]]
    if asked["source_address"]:
        words += ["-O", "source-address=" + ",".join(asked["source_address"])]
    words += ["-V", "0x%x:0x%x" % (asked["valid_after"], asked["valid_before"]), key]
    subprocess.run(words, check=True)
    print(open(os.path.join(folder, "id-cert.pub")).read())
"#;

#[test]
fn another_program_may_be_the_authority_and_need_not_have_an_ed25519_key() {
    if !lab::require() || !lab::require_programs(&["python3"]) {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let project = project(&lab);
    std::fs::remove_dir_all(project.path().join("keys")).unwrap();
    let ca = lab.folder().join("another-ca");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ecdsa", "-N", "", "-f"]).arg(&ca).status().unwrap();
    assert!(made.success());
    let public = std::fs::read_to_string(ca.with_extension("pub")).unwrap();
    lab.host("fs01").sh(&format!("echo '{}' >/etc/ssh/runbook_ca.pub", public.trim()));
    project.write("sign.py", SIGNER);
    let settings = std::fs::read_to_string(project.path().join("runbook.toml")).unwrap();
    let (before, _) = settings.split_once("[access]").unwrap();
    let script = project.path().join("sign.py");
    project.write("runbook.toml", &format!("{before}[access]\ncommand = [\"python3\", {script:?}, {ca:?}]\n"));
    let from = own_address(&lab, "fs01");
    runbook(&project, &format!("access:\n  certificate: {{source_address: [{from}]}}\n  sudo: {{}}"), GOOD);
    project.run(APPLY).expect_code(0);
    assert_eq!(lab.host("fs01").sh("cat /etc/changed").trim(), "root");
    assert_eq!(withdrawn(&project, 0)["state"], "withdrawn");

    // One that signs something else is not believed, and no host is touched.
    project.write("sign.py", &SIGNER.replace("\"-O\", \"clear\"", "\"-O\", \"clear\", \"-O\", \"force-command=id\""));
    let refused = project.run(APPLY);
    assert!(said(refused.expect_code(3)).contains("not the one that was asked for"), "{refused:?}");
}
