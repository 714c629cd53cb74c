//! The shipped snapshots, on real hosts: taken twice gives the same one; a restore brings everything back, byte for
//! byte, also when it was interrupted and is repeated.

use runbook_e2e::action::{RUN, ShippedAction};
use runbook_testkit::lab::{self, Lab, LabHost, Update};
use serde_json::{Value, json};

// All that a careless change can do to files.
const DAMAGE: &str = "cd /srv/data
    echo changed >report.txt
    chmod 777 private
    setfacl -b -k empty report.txt
    setfacl -m u:maint:r .
    chown maint blob.bin
    rm -rf private/deep 'name with spaces.txt' latest same-blob.bin
    mkdir added
    echo added >added/file
    chmod 700 . 
    echo more >>hole.bin";

fn lab() -> Option<Lab> {
    lab::require().then(|| Lab::with_hosts(&["fs01"]).unwrap())
}

// Runs the operation, but kills it at the nth command that it starts.
// Says whether it was killed before its end.
fn interrupted(host: &LabHost, action: &ShippedAction, with: &Value, reference: &str, after: u32) -> bool {
    let text = action.text("restore", with, reference);
    // Programs that change something count; the nth one kills the whole process group instead.
    let counter = format!(
        "rm -rf /run/count; mkdir -p /run/count/bin
         for name in rm mv cp find btrfs dpkg tar mkdir; do
             real=$(command -v $name)
             printf '#!/bin/sh\\necho >>/run/count/calls\\n[ $(wc -l </run/count/calls) -lt {after} ] || kill -KILL -$(cat /run/count/group)\\nexec %s \"$@\"\\n' $real >/run/count/bin/$name
             chmod 755 /run/count/bin/$name
         done
         cat >/run/count/text"
    );
    write_on(host, &counter, &text);
    let ended = host
        .try_sh("setsid --wait sh -c 'echo $$ >/run/count/group; PATH=/run/count/bin:$PATH; export PATH; exec sh -eu /run/count/text'")
        .unwrap();
    assert!(ended.ok() || ended.code == Some(137), "it ended by itself: {ended:?}");
    !ended.ok()
}

fn write_on(host: &LabHost, command: &str, text: &str) {
    std::fs::write(host.path("/tmp/text-of-test"), text).unwrap();
    host.sh(&format!("( {command} ) </tmp/text-of-test"));
}

fn data(host: &LabHost) -> String {
    // Without the folder in which a mount point's snapshots are.
    let entries =
        host.sh("find /srv/data -mindepth 1 -maxdepth 1 ! -name .runbook-snapshots ! -name 'line*' | LC_ALL=C sort");
    let odd = host.sh("cat /srv/data/line*");
    let top = host.sh("stat -c '%a %U:%G' /srv/data; getfacl --absolute-names /srv/data");
    let entries: Vec<&str> = entries.lines().collect();
    format!("{top}{odd}{}", host.fingerprint(&entries))
}

fn comes_back(host: &LabHost, action: &ShippedAction, with: &Value) {
    let before = data(host);
    let reference = action.take(host, with);
    assert_eq!(action.take(host, with), reference, "taken twice is the same one");

    host.sh(DAMAGE);
    assert_ne!(data(host), before);
    let restored = action.operate(host, "restore", with, &reference);
    assert!(restored.ok(), "{restored:?}");
    assert_eq!(data(host), before);

    let again = action.operate(host, "restore", with, &reference);
    assert!(again.ok(), "{again:?}");
    assert_eq!(data(host), before);

    let mut interruptions = 0;
    for after in 1..=6 {
        host.sh(DAMAGE);
        if interrupted(host, action, with, &reference, after) {
            interruptions += 1;
        }
        let probed = action.operate(host, "probe", with, &reference);
        assert!(probed.ok(), "after an interruption at {after}: {probed:?}");
        let restored = action.operate(host, "restore", with, &reference);
        assert!(restored.ok(), "after an interruption at {after}: {restored:?}");
        assert_eq!(data(host), before, "after an interruption at {after}");
    }
    assert!(interruptions >= 2, "it was really interrupted: {interruptions}");

    let released = action.operate(host, "release", with, &reference);
    assert!(released.ok(), "{released:?}");
    assert!(!action.operate(host, "probe", with, &reference).ok(), "a released snapshot is gone");
    let restored = action.operate(host, "restore", with, &reference);
    assert!(!restored.ok(), "what is gone cannot be restored");
    assert_eq!(data(host), before, "and nothing was touched");
    let again = action.operate(host, "release", with, &reference);
    assert!(again.ok(), "released twice is harmless: {again:?}");
}

#[test]
fn btrfs_snapshot_brings_a_subvolume_back() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.fill_data();
    comes_back(host, &ShippedAction::load("btrfs-snapshot"), &json!({"subvolume": "/srv/data"}));
    assert_eq!(host.sh("btrfs subvolume list /srv | grep -c runbook-snapshots || :"), "0\n", "nothing is left");
}

#[test]
fn btrfs_snapshot_brings_a_subvolume_back_that_is_a_mount_point() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.sh("btrfs -q subvolume create /srv/volume; mount --bind /srv/volume /srv/data");
    host.fill_data();
    comes_back(host, &ShippedAction::load("btrfs-snapshot"), &json!({"subvolume": "/srv/data"}));
}

#[test]
fn btrfs_snapshot_refuses_what_it_cannot_bring_back() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    let action = ShippedAction::load("btrfs-snapshot");
    let folder = action.operate(host, "take", &json!({"subvolume": "/etc"}), "");
    assert!(!folder.ok() && folder.stderr.contains("is no btrfs subvolume"), "{folder:?}");
    host.sh("btrfs -q subvolume create /srv/data/inside");
    let nested = action.operate(host, "take", &json!({"subvolume": "/srv/data"}), "");
    assert!(!nested.ok() && nested.stderr.contains("has subvolumes inside"), "{nested:?}");
}

#[test]
fn btrfs_snapshot_that_was_written_to_is_not_whole() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.fill_data();
    let action = ShippedAction::load("btrfs-snapshot");
    let with = json!({"subvolume": "/srv/data"});
    let reference = action.take(host, &with);
    host.sh(&format!("btrfs property set -f -ts {reference} ro false; echo x >{reference}/report.txt"));
    assert!(!action.operate(host, "probe", &with, &reference).ok());
    assert!(!action.operate(host, "probe", &with, "/srv/.runbook-snapshots/another.data").ok(), "another run's");
}

#[test]
fn files_snapshot_brings_folders_files_and_absence_back() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.fill_data();
    let action = ShippedAction::load("files-snapshot");
    comes_back(host, &action, &json!({"paths": ["/srv/data"]}));

    host.sh("mkdir -p '/etc/app dir'; echo one >'/etc/app dir/one'; echo setting >/etc/app.conf; chmod 640 /etc/app.conf; ln -s app.conf /etc/app.link");
    let paths = ["/etc/app dir", "/etc/app.conf", "/etc/app.link", "/etc/app.new"];
    let with = json!({"paths": paths});
    let before = host.fingerprint(&paths);
    let reference = action.take(host, &with);
    host.sh("rm -rf '/etc/app dir'; echo x >'/etc/app dir'; rm /etc/app.conf; mkdir /etc/app.conf; ln -sf other /etc/app.link; mkdir -p /etc/app.new/deep");
    let restored = action.operate(host, "restore", &with, &reference);
    assert!(restored.ok(), "{restored:?}");
    assert_eq!(host.fingerprint(&paths), before);
}

#[test]
fn files_snapshot_works_on_file_systems_without_reflinks() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.sh("mkdir /mnt/plain; mount -t tmpfs tmpfs /mnt/plain; mount --bind /mnt/plain /srv/data");
    host.fill_data();
    comes_back(
        host,
        &ShippedAction::load("files-snapshot"),
        &json!({"paths": ["/srv/data"], "store": "/var/lib/snapshots"}),
    );
}

#[test]
fn files_snapshot_that_was_changed_or_never_finished_is_not_whole() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.fill_data();
    let action = ShippedAction::load("files-snapshot");
    let with = json!({"paths": ["/srv/data"]});
    let reference = action.take(host, &with);
    host.sh(&format!("chmod 600 {reference}/files/1/latest {reference}/files/1/report.txt"));
    assert!(!action.operate(host, "probe", &with, &reference).ok(), "a mode was changed");
    host.sh(&format!("rm {reference}/complete"));
    assert!(!action.operate(host, "probe", &with, &reference).ok(), "not finished");
    let before = host.fingerprint(&["/srv/data"]);
    assert!(!action.operate(host, "restore", &with, &reference).ok());
    assert_eq!(host.fingerprint(&["/srv/data"]), before, "nothing was touched");
    assert_eq!(action.take(host, &with), reference, "it is taken anew");
}

#[test]
fn files_snapshot_without_room_leaves_nothing_behind() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.fill_data();
    host.sh("mkdir /mnt/small; mount -t tmpfs -o size=200k tmpfs /mnt/small");
    let action = ShippedAction::load("files-snapshot");
    let taken = action.operate(host, "take", &json!({"paths": ["/srv/data"], "store": "/mnt/small/store"}), "");
    assert!(!taken.ok() && taken.stderr.contains("could not be copied"), "{taken:?}");
    assert_eq!(host.sh("ls /mnt/small/store"), "");
}

#[test]
fn files_snapshot_refuses_mounts_below_and_itself() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    let action = ShippedAction::load("files-snapshot");
    host.sh("mkdir /srv/data/mount; mount -t tmpfs tmpfs /srv/data/mount");
    for (paths, store, wanted) in [
        (json!(["/srv/data"]), "/var/lib/s", "has other file systems below it"),
        (json!(["/var/lib/dpkg"]), "/var/lib/dpkg/s", "would be inside"),
        (json!(["/"]), "/var/lib/s", "cannot be copied"),
        (json!(["etc"]), "/var/lib/s", "is not an absolute path"),
        (json!(["/etc/"]), "/var/lib/s", "without / at its end"),
    ] {
        let taken = action.operate(host, "take", &json!({"paths": paths, "store": store}), "");
        assert!(!taken.ok() && taken.stderr.contains(wanted), "{paths}: {taken:?}");
    }
}

#[test]
fn apt_snapshot_brings_packages_configuration_and_marks_back() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.sh("sed -i 's/worker_processes 1/worker_processes 2/' /etc/fileshare/nginx.conf; chmod 640 /etc/fileshare/nginx.conf; apt-mark auto fileshare >/dev/null");
    let paths = ["/etc/fileshare", "/etc/init.d/fileshare", "/usr/bin/fileshare-version"];
    let before = (host.packages(), host.fingerprint(&paths), host.sh("apt-mark showauto"));
    let action = ShippedAction::load("apt-snapshot");
    for (update, upgrades) in [(Update::Good, true), (Update::BreaksService, true), (Update::FailsToInstall, false)] {
        host.publish(update).unwrap();
        let with = json!({"packages": ["fileshare"]});
        let reference = action.take(host, &with);
        assert_eq!(action.take(host, &with), reference);
        let upgrade = host
            .try_sh("apt-get -qq -o Dpkg::Options::=--force-confnew install -y --only-upgrade fileshare; apt-mark manual fileshare; echo mine >/etc/fileshare/extra")
            .unwrap();
        assert_eq!(upgrade.ok(), upgrades, "{upgrade:?}");
        host.sh("rm -f /etc/fileshare/extra");
        assert_ne!(host.packages(), before.0);
        let restored = action.operate(host, "restore", &with, &reference);
        assert!(restored.ok(), "{update:?}: {restored:?}");
        let again = action.operate(host, "restore", &with, &reference);
        assert!(again.ok(), "{update:?}: {again:?}");
        assert_eq!(host.packages(), before.0);
        assert_eq!(host.fingerprint(&paths), before.1);
        assert_eq!(host.sh("apt-mark showauto"), before.2);
        host.sh("service fileshare restart; service fileshare status");
        let released = action.operate(host, "release", &with, &reference);
        assert!(released.ok() && !host.path(&reference).exists());
    }
}

#[test]
fn apt_snapshot_is_restored_after_an_interruption() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::FailsToInstall).unwrap();
    let paths = ["/etc/fileshare", "/etc/init.d/fileshare", "/usr/bin/fileshare-version"];
    let before = (host.packages(), host.fingerprint(&paths));
    let action = ShippedAction::load("apt-snapshot");
    let with = json!({});
    let reference = action.take(host, &with);
    for after in [2, 4, 5, 6] {
        host.sh("apt-get -qq install -y --only-upgrade fileshare || :");
        assert!(interrupted(host, &action, &with, &reference, after));
        assert!(action.operate(host, "probe", &with, &reference).ok());
        let restored = action.operate(host, "restore", &with, &reference);
        assert!(restored.ok(), "after an interruption at {after}: {restored:?}");
        assert_eq!((host.packages(), host.fingerprint(&paths)), before);
    }
}

#[test]
fn apt_snapshot_refuses_when_the_way_back_is_not_to_be_had() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    host.install_service().unwrap();
    host.publish(Update::Good).unwrap();
    host.sh("rm -f /var/lib/lab-repo/fileshare_1.0* /var/cache/apt/archives/*.deb");
    host.publish(Update::Good).unwrap();
    let action = ShippedAction::load("apt-snapshot");
    // Without the program that makes a package from what is installed.
    host.sh("mv /usr/bin/dpkg-repack /root/ || :");
    let taken = action.operate(host, "take", &json!({}), "");
    assert!(!taken.ok() && taken.stderr.contains("no archive offers it any more"), "{taken:?}");
    assert!(!host.path(&format!("/var/lib/runbook/snapshots/{RUN}.data")).exists());
    let unknown = action.operate(host, "take", &json!({"packages": ["no-such-package"]}), "");
    assert!(!unknown.ok(), "{unknown:?}");
}

// Stand-ins that keep their state in files and log their arguments: zfs and LVM cannot run here.
fn stand_in(host: &LabHost, name: &str, text: &str) {
    let path = format!("/usr/local/sbin/{name}");
    std::fs::write(host.path(&path), format!("#!/bin/sh\necho \"{name} $*\" >>/run/calls\nmkdir -p /run/fake\n{text}"))
        .unwrap();
    host.sh(&format!("chmod 755 {path}; : >/run/calls"));
}

#[test]
fn zfs_snapshot_asks_zfs_for_the_right_things() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    stand_in(
        host,
        "zfs",
        r#"case $1 in
        snapshot) [ ! -e "/run/fake/$(echo "$2" | tr / _)" ] || exit 1; echo "$2" >"/run/fake/$(echo "$2" | tr / _)" ;;
        list) for last; do :; done; case $last in
            *@*) cat "/run/fake/$(echo "$last" | tr / _)" ;;
            *) cat /run/fake/*@* ; [ ! -e /run/later ] || cat /run/later ;;
            esac ;;
        holds) cat /run/fake/held 2>/dev/null || : ;;
        hold) echo "$3 $2" >/run/fake/held ;;
        release) rm /run/fake/held ;;
        destroy) rm "/run/fake/$(echo "$2" | tr / _)" ;;
        esac"#,
    );
    let action = ShippedAction::load("zfs-snapshot");
    let with = json!({"dataset": "tank/data"});
    let reference = action.take(host, &with);
    assert_eq!(reference, format!("tank/data@runbook-{RUN}.data"));
    assert_eq!(action.take(host, &with), reference);
    let calls = host.sh("cat /run/calls");
    assert_eq!(calls.matches("zfs snapshot ").count(), 1, "{calls}");
    assert_eq!(calls.matches("zfs hold ").count(), 1, "{calls}");

    let restored = action.operate(host, "restore", &with, &reference);
    assert!(restored.ok(), "{restored:?}");
    assert!(host.sh("tail -n 1 /run/calls").starts_with(&format!("zfs rollback {reference}")));
    host.sh("echo tank/data@later >/run/later");
    let refused = action.operate(host, "restore", &with, &reference);
    assert!(!refused.ok() && refused.stderr.contains("tank/data@later"), "{refused:?}");
    let destroying = json!({"dataset": "tank/data", "destroy_later": true});
    assert!(action.operate(host, "restore", &destroying, &reference).ok());
    assert!(host.sh("tail -n 1 /run/calls").starts_with(&format!("zfs rollback -r {reference}")));

    assert!(action.operate(host, "release", &with, &reference).ok());
    assert!(!action.operate(host, "probe", &with, &reference).ok());
    assert!(action.operate(host, "release", &with, &reference).ok());
}

#[test]
fn lvm_snapshot_asks_lvm_for_the_right_things() {
    let Some(lab) = lab() else { return };
    let host = lab.host("fs01");
    stand_in(
        host,
        "lvs",
        r#"for last; do :; done
        case "$*" in
        *segtype*) echo "  linear" ;;
        *lv_device_open*) cat /run/fake/open 2>/dev/null || echo ;;
        *lv_tags*) cat /run/fake/tags 2>/dev/null || echo ;;
        *"-o origin"*) [ -e "/run/fake/${last#*/}" ] || exit 5; echo "  lv" ;;
        *lv_attr*) cat /run/fake/attr 2>/dev/null || echo "  swi-a-s---" ;;
        *lv_name*) [ -e "/run/fake/${last#*/}" ] || exit 5; echo "  ${last#*/}" ;;
        esac"#,
    );
    stand_in(host, "lvcreate", r#"while [ $# -gt 0 ]; do [ "$1" != -n ] || touch "/run/fake/$2"; shift; done"#);
    stand_in(host, "lvconvert", r#"for last; do :; done; rm "/run/fake/${last#*/}""#);
    stand_in(host, "lvremove", r#"for last; do :; done; rm "/run/fake/${last#*/}""#);
    stand_in(
        host,
        "lvchange",
        r#"case $2 in --addtag) echo "$3" >/run/fake/tags ;; --deltag) rm -f /run/fake/tags ;; esac"#,
    );
    let action = ShippedAction::load("lvm-snapshot");
    let thin = action.operate(host, "take", &json!({"group": "vg", "volume": "lv"}), "");
    assert!(!thin.ok() && thin.stderr.contains("give a size"), "{thin:?}");
    let with = json!({"group": "vg", "volume": "lv", "size": "1GiB"});
    let reference = action.take(host, &with);
    assert_eq!(reference, format!("vg/runbook-{RUN}.data"));
    assert_eq!(action.take(host, &with), reference);
    let calls = host.sh("cat /run/calls");
    assert_eq!(calls.matches("lvcreate").count(), 1, "{calls}");
    assert!(calls.contains("-L 1073741824b vg/lv"), "{calls}");

    host.sh("echo swi-I-s--- >/run/fake/attr");
    let full = action.operate(host, "probe", &with, &reference);
    assert!(!full.ok() && full.stderr.contains("run full"), "{full:?}");
    host.sh("rm /run/fake/attr; echo open >/run/fake/open");
    let busy = action.operate(host, "restore", &with, &reference);
    assert!(!busy.ok() && busy.stderr.contains("is in use"), "{busy:?}");
    host.sh("rm /run/fake/open");
    assert!(action.operate(host, "restore", &with, &reference).ok());
    assert!(host.sh("cat /run/calls").contains(&format!("lvconvert -q -y --merge {reference}")));
    assert!(action.operate(host, "probe", &with, &reference).ok(), "a merged one is known");
    assert!(action.operate(host, "restore", &with, &reference).ok(), "merged once is enough");
    assert!(action.operate(host, "release", &with, &reference).ok());
}
