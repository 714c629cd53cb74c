//! Snapshots of whole virtual machines, on a lab host that is a real hypervisor (libvirt and qemu without hardware
//! support). The machine has no system of its own: its disk is what is looked at.

use runbook_e2e::action::ShippedAction;
use runbook_e2e::program::Project;
use runbook_testkit::lab::{self, HostSpec, Lab, LabHost};
use serde_json::json;

// libvirtd with one running machine, vm01.
fn hypervisor() -> Option<Lab> {
    if !lab::require_systemd() || !lab::require_kept("libvirt-daemon", "libvirtd") {
        return None;
    }
    let lab = Lab::new(&[HostSpec::new("hyp01").systemd().disk_mib(2048)]).unwrap();
    lab.host("hyp01").sh(&format!(
        "dpkg --unpack --force-all {}/libvirt-daemon/*.deb >/root/unpack.log 2>&1 || {{ tail /root/unpack.log >&2; exit 1; }}
         getent group kvm >/dev/null || groupadd --system kvm
         getent passwd libvirt-qemu >/dev/null || useradd --system --user-group libvirt-qemu
         mkdir -p /etc/libvirt /srv/vm
         printf 'user = \"root\"\\ngroup = \"root\"\\nsecurity_driver = \"none\"\\ncgroup_controllers = []\\nstdio_handler = \"file\"\\nremember_owner = 0\\nnamespaces = []\\n' >/etc/libvirt/qemu.conf
         printf 'unix_sock_group = \"root\"\\nauth_unix_rw = \"none\"\\nauth_unix_ro = \"none\"\\n' >/etc/libvirt/libvirtd.conf
         libvirtd -d -f /etc/libvirt/libvirtd.conf -p /run/libvirtd.pid
         timeout 60 sh -c 'until virsh -q list >/dev/null 2>&1; do sleep 0.1; done'",
        lab::KEPT_PACKAGES
    ));
    define(lab.host("hyp01"), "vm01", "qcow2");
    Some(lab)
}

fn define(host: &LabHost, name: &str, format: &str) {
    host.sh(&format!(
        "qemu-img create -q -f {format} /srv/vm/{name}.img 8M
         qemu-io -f {format} -c 'write -P 0x11 0 1M' /srv/vm/{name}.img >/dev/null
         cat >/srv/vm/{name}.xml <<END
<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='/srv/vm/{name}.img'/>
<target dev='vda' bus='virtio'/></disk></devices></domain>
END
         virsh -q define /srv/vm/{name}.xml; virsh -q start {name}"
    ));
}

// What the running machine would do to its disk.
const SPOIL: &str = "for command in 'write -P 0x22 4096 64k' flush; do virsh -q qemu-monitor-command vm01 --hmp \"qemu-io -d /machine/peripheral/virtio-disk0/virtio-backend \\\"$command\\\"\"; done";

// What the machine sees of its disk, and whether it runs.
const STATE: &str = "rm -f /srv/vm/raw; qemu-img convert -U -f qcow2 -O raw /srv/vm/vm01.img /srv/vm/raw; sha256sum </srv/vm/raw; virsh -q domstate vm01";

fn state(host: &LabHost) -> String {
    host.sh(STATE)
}

#[test]
fn libvirt_snapshot_brings_a_running_machine_back() {
    let Some(lab) = hypervisor() else { return };
    let host = lab.host("hyp01");
    let action = ShippedAction::load("libvirt-snapshot");
    let with = json!({"domain": "vm01"});
    let before = state(host);
    assert!(before.contains("running"), "{before}");
    let reference = action.take(host, &with);
    assert_eq!(action.take(host, &with), reference, "taken twice is the same one");
    assert_eq!(host.sh("virsh -q snapshot-list vm01 | wc -l"), "1\n");

    host.sh(SPOIL);
    assert_ne!(state(host), before);
    // The machine may also be off, or its disk be spoilt while it is.
    for spoil in ["true", "virsh -q destroy vm01; qemu-io -f qcow2 -c 'write -P 0x33 0 2M' /srv/vm/vm01.img", "true"] {
        host.sh(spoil);
        let restored = action.operate(host, "restore", &with, &reference);
        assert!(restored.ok(), "{restored:?}");
        assert_eq!(state(host), before, "{spoil}");
        assert!(action.operate(host, "probe", &with, &reference).ok());
    }

    for _ in 0..2 {
        let released = action.operate(host, "release", &with, &reference);
        assert!(released.ok(), "{released:?}");
    }
    assert!(!action.operate(host, "probe", &with, &reference).ok(), "a released snapshot is gone");
    let gone = action.operate(host, "restore", &with, &reference);
    assert!(!gone.ok(), "what is gone cannot be restored: {gone:?}");
    assert_eq!(state(host), before, "and nothing was touched");

    let unknown = action.operate(host, "take", &json!({"domain": "no-such"}), "");
    assert!(!unknown.ok() && unknown.stderr.contains("no-such"), "{unknown:?}");
    define(host, "vm02", "raw");
    let raw = action.operate(host, "take", &json!({"domain": "vm02"}), "");
    assert!(!raw.ok() && raw.stderr.contains("must be qcow2 images"), "{raw:?}");
    assert_eq!(host.sh("virsh -q domstate vm02").trim(), "running");
}

#[test]
fn a_change_to_a_virtual_machine_is_taken_back_with_its_snapshot() {
    let Some(lab) = hypervisor() else { return };
    let host = lab.host("hyp01");
    let project = Project::with_lab(&lab);
    let text = format!(
        "schema: runbook/v1\nname: vm\nsnapshot:\n  - {{id: machine, uses: libvirt-snapshot, with: {{domain: vm01}}}}\n\
         execute:\n  - name: Change it\n    as: root\n    run: |\n      {SPOIL}\n\
         verify:\n  - name: It is as it was\n    as: root\n    run: |\n      ( {STATE} ) >/root/now\n      cmp /root/before /root/now\n"
    );
    project.write("runbooks/vm.yaml", &text);
    let before = state(host);
    host.sh(&format!("( {STATE} ) >/root/before"));
    project.run(&["apply", "runbooks/vm.yaml", "--limit", "hyp01", "--yes"]).expect_code(5);
    assert_eq!(state(host), before);
    assert_eq!(project.outcomes(), "rolled_back hyp01=rolled_back");
}
