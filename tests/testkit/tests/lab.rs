//! The lab itself: what other tests stand on.

use runbook_testkit::lab::{self, HostSpec, Lab, Update};

#[test]
fn a_host_answers_over_ssh_with_its_own_name_users_and_network() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01", "fs02"]).unwrap();
    for name in ["fs01", "fs02"] {
        let answer = lab.ssh(name, "hostname; id -un; sudo -n id -un; pwd").unwrap();
        assert_eq!(answer.stdout, format!("{name}\nmaint\nroot\n/home/maint\n"), "{answer:?}");
    }
    lab.host("fs01").sh("echo only here >/etc/only-here");
    assert!(!lab.host("fs02").path("/etc/only-here").exists());
    assert!(!std::path::Path::new("/etc/only-here").exists(), "a host's root is private");
}

#[test]
fn a_host_behind_the_jump_host_is_reached_through_it_alone() {
    if !lab::require() {
        return;
    }
    let lab = Lab::new(&[HostSpec::new("bastion"), HostSpec::new("inner").behind("bastion")]).unwrap();
    let answer = lab.ssh("inner", "hostname").unwrap();
    assert_eq!(answer.stdout, "inner\n", "{answer:?}");
    let direct = lab.ssh(lab.host("inner").address(), "hostname").unwrap();
    assert_eq!(direct.code, Some(255), "{direct:?}");
}

#[test]
fn a_certificate_logs_in_and_its_bare_key_does_not() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let login = |config: &std::path::Path, identity: Option<&std::path::Path>| {
        let mut command = std::process::Command::new("ssh");
        command.arg("-F").arg(config);
        if let Some(identity) = identity {
            command.arg("-o").arg(format!("IdentityFile={}", identity.display()));
        }
        command.args(["fs01", "true"]).status().unwrap().success()
    };
    assert!(login(&lab.ssh_config_with_certificate(), None));
    let bare = lab.folder().join("ssh_config_bare");
    let text = std::fs::read_to_string(lab.ssh_config()).unwrap();
    let own = format!("IdentityFile {}\n", lab.identity().display());
    let bare_key = lab.folder().join("bare");
    std::fs::copy(lab.certified_identity(), &bare_key).unwrap();
    std::fs::write(&bare, text.replace(&own, &format!("IdentityFile {}\n", bare_key.display()))).unwrap();
    assert!(!login(&bare, None), "without its certificate the key is nobody's");
    std::fs::write(&bare, text.replace(&own, &format!("IdentityFile {}\n", lab.stranger().display()))).unwrap();
    assert!(!login(&bare, None), "a stranger stays outside");
}

#[test]
fn a_snapshot_brings_data_back_byte_for_byte() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let host = lab.host("fs01");
    host.fill_data();
    let before = host.fingerprint(&["/srv/data"]);
    host.sh("btrfs -q subvolume snapshot -r /srv/data /srv/before");
    host.sh("cd /srv/data && rm -rf private && chmod 600 report.txt && setfacl -b report.txt && echo x >>blob.bin");
    assert_ne!(host.fingerprint(&["/srv/data"]), before);
    host.sh("btrfs -q subvolume delete /srv/data && btrfs -q subvolume snapshot /srv/before /srv/data");
    assert_eq!(host.fingerprint(&["/srv/data"]), before);
}

#[test]
fn updates_do_what_they_are_for() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let host = lab.host("fs01");
    host.install_service().unwrap();
    let data = host.fingerprint(&["/srv/data"]);
    let upgrade = "apt-get -qq update && apt-get -qq install -y --only-upgrade fileshare";

    host.publish(Update::Good).unwrap();
    host.sh(upgrade);
    assert_eq!(host.sh("fileshare-version"), "1.1-1\n");
    assert!(host.service_answers());
    assert_eq!(host.fingerprint(&["/srv/data"]), data);

    host.publish(Update::BreaksService).unwrap();
    host.sh(upgrade);
    assert!(host.try_sh("service fileshare status").unwrap().ok(), "it runs");
    assert!(!host.service_answers(), "and nobody is served");
    assert_ne!(host.fingerprint(&["/srv/data"]), data);

    host.publish(Update::FailsToInstall).unwrap();
    assert!(!host.try_sh(upgrade).unwrap().ok());
    assert!(!host.try_sh("service fileshare status").unwrap().ok());
    assert!(host.packages().contains("fileshare:all 1.3-1 install ok half-configured"));
}

#[test]
fn a_reboot_ends_everything_changes_the_boot_id_and_keeps_the_disk() {
    if !lab::require() {
        return;
    }
    let mut lab = Lab::with_hosts(&["fs01"]).unwrap();
    let host = lab.host_mut("fs01");
    host.install_service().unwrap();
    host.sh("touch /tmp/gone /srv/stays; sync; setsid sleep 1000 >/dev/null 2>&1 &");
    let before = host.sh("cat /proc/sys/kernel/random/boot_id");
    host.reboot().unwrap();
    assert_ne!(host.sh("cat /proc/sys/kernel/random/boot_id"), before);
    assert_eq!(host.sh("ls /tmp; ls /srv; grep -lsx sleep /proc/[0-9]*/comm || :"), "data\nstays\n");
    assert!(host.service_answers(), "its services come up with it");
    host.power_off().unwrap();
    assert!(!lab.ssh("fs01", "true").unwrap().ok());
    lab.host_mut("fs01").power_on().unwrap();
    assert!(lab.ssh("fs01", "true").unwrap().ok());
}

#[test]
fn faults_are_real_and_can_be_mended() {
    if !lab::require() {
        return;
    }
    let lab = Lab::new(&[HostSpec::new("fs01").disk_mib(160)]).unwrap();
    let host = lab.host("fs01");
    let ssh = |text: &str| lab.ssh("fs01", text).unwrap();
    assert!(ssh("true").ok());

    host.kill_sshd();
    assert_eq!(ssh("true").code, Some(255));
    host.start_sshd();
    assert!(ssh("true").ok());

    host.fill_disk();
    assert!(!ssh("echo x >/var/tmp/x && cat /var/tmp/x | grep x").ok(), "no room");
    host.empty_disk();
    assert!(ssh("echo x >/var/tmp/x").ok());

    host.forbid_sudo();
    assert!(!ssh("sudo -n true").ok());
    host.allow_sudo();
    assert!(ssh("sudo -n true").ok());

    host.change_host_key().unwrap();
    let stranger = ssh("true");
    assert!(stranger.stderr.contains("REMOTE HOST IDENTIFICATION HAS CHANGED"), "{stranger:?}");
    lab.write_ssh_files().unwrap();
    assert!(ssh("true").ok());

    host.refuse_logins();
    assert!(ssh("true").stderr.contains("Permission denied"));
}

#[test]
fn a_cut_link_and_a_frozen_sshd_answer_nothing() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let ssh = |limit: u32| {
        let mut command = std::process::Command::new("ssh");
        command.arg("-F").arg(lab.ssh_config()).arg("-o").arg(format!("ConnectTimeout={limit}"));
        command.args(["fs01", "true"]).status().unwrap().success()
    };
    lab.host("fs01").freeze_sshd();
    assert!(!ssh(1));
    lab.host("fs01").thaw_sshd();
    assert!(ssh(10));
    lab.host("fs01").cut_link().unwrap();
    assert!(!ssh(1));
    lab.host("fs01").mend_link().unwrap();
    assert!(ssh(10));
}

#[test]
fn a_host_has_a_clock_of_its_own_stands_still_and_goes_on() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let host = lab.host("fs01");
    let now = |text: &str| text.trim().parse::<i64>().expect("seconds");
    let ahead = || {
        let there = lab.ssh("fs01", "date +%s").unwrap();
        assert!(there.ok(), "{there:?}\n{}", host.sh("tail -n 20 /var/log/sshd.log"));
        now(&there.stdout) - now(&lab.ssh("fs01", "stat -c %Y /proc/self").unwrap().stdout)
    };
    assert!(ahead().abs() < 600);
    host.step_clock(3600);
    assert!((3000..4200).contains(&ahead()));
    host.step_clock(-3600);
    assert!((-4200..-3000).contains(&ahead()));
    host.right_clock();
    assert!(ahead().abs() < 600);

    host.pause();
    let mut waiting =
        std::process::Command::new("ssh").arg("-F").arg(lab.ssh_config()).args(["fs01", "true"]).spawn().unwrap();
    assert!(waiting.try_wait().unwrap().is_none(), "nobody answers");
    host.go_on();
    assert!(waiting.wait().unwrap().success());
    assert!(lab.ssh("fs01", "true").unwrap().ok());
    host.reset_connections().unwrap();
    assert!(lab.ssh("fs01", "true").unwrap().ok());
}

#[test]
fn nothing_outlives_a_lab() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).unwrap();
    let folder = lab.folder().to_owned();
    let init = lab.host("fs01").init();
    let slot = folder.file_name().unwrap().to_str().unwrap().to_owned();
    drop(lab);
    assert!(!folder.exists());
    assert!(!std::path::Path::new(&format!("/proc/{init}")).exists());
    let links = std::process::Command::new("ip").args(["-o", "link"]).output().unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert!(!links.contains(&format!(" rbl{slot}f:")) && !links.contains(&format!(" rbl{slot}-")), "{links}");
}

#[test]
fn a_killed_test_leaves_no_host_running_and_its_rest_is_removed() {
    if !lab::require() {
        return;
    }
    if std::env::var_os("LAB_TO_BE_KILLED").is_some() {
        let lab = Lab::with_hosts(&["fs01"]).unwrap();
        std::fs::write(std::env::var_os("LAB_TO_BE_KILLED").unwrap(), lab.folder().to_str().unwrap()).unwrap();
        // Tells the other one that it stands, and dies as a crash does.
        std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status().unwrap();
    }
    let note = tempfile::NamedTempFile::new().unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_test_leaves_no_host_running_and_its_rest_is_removed"])
        .env("LAB_TO_BE_KILLED", note.path())
        .status()
        .unwrap();
    assert!(!status.success());
    let folder = std::fs::read_to_string(note.path()).unwrap();
    assert!(!folder.is_empty(), "its lab stood");
    let processes = std::fs::read_to_string(format!("{folder}/fs01.processes")).unwrap_or_default();
    // Any new lab removes what is left.
    drop(Lab::with_hosts(&["fs01"]).unwrap());
    for line in processes.lines() {
        let pid = line.split(' ').next().unwrap();
        // It was told to end; that takes a moment.
        std::process::Command::new("timeout").args(["10", "tail", "--pid", pid, "-f", "/dev/null"]).status().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z ") || !stat.contains("(sh)"), "still runs: {stat}");
    }
    assert!(!processes.is_empty() || !std::path::Path::new(&folder).exists());
}

#[test]
fn a_host_with_systemd_boots_reboots_and_ends_without_leaving_anything() {
    if !lab::require_systemd() {
        return;
    }
    let mut lab = Lab::new(&[HostSpec::new("fs01").systemd()]).unwrap();
    assert_eq!(lab.host("fs01").sh("systemctl is-system-running --wait"), "running\n");
    assert_eq!(lab.ssh("fs01", "cat /proc/1/comm; sudo -n id -un").unwrap().stdout, "systemd\nroot\n");
    lab.host("fs01").install_service().unwrap();
    let before = lab.host("fs01").sh("cat /proc/sys/kernel/random/boot_id");
    lab.host_mut("fs01").reboot().unwrap();
    let host = lab.host("fs01");
    assert_eq!(host.boots(), 2);
    assert_ne!(host.sh("cat /proc/sys/kernel/random/boot_id"), before);
    assert_eq!(host.sh("systemctl is-active fileshare"), "active\n", "it was started at boot");
    assert!(host.service_answers());
    let kept = lab.ssh("fs01", "echo 500 | sudo -n tee /proc/sys/kernel/pid_max").unwrap();
    assert!(!kept.ok() && kept.stderr.contains("Read-only"), "the kernel's settings are the machine's: {kept:?}");
    let rights = lab.ssh("fs01", "sudo -n sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status").unwrap().stdout;
    let rights = u64::from_str_radix(rights.trim(), 16).unwrap();
    let (load_modules, set_the_clock) = (1 << 16, 1 << 25);
    assert_eq!(rights & (load_modules | set_the_clock), 0, "{rights:x}");
    lab.host_mut("fs01").power_off().unwrap();
    lab.host_mut("fs01").power_on().unwrap();
    assert_eq!(lab.host("fs01").boots(), 3);
    let group = lab.control_group("fs01").unwrap();
    assert!(group.exists());
    drop(lab);
    assert!(!group.exists(), "{} was left behind", group.display());
}
