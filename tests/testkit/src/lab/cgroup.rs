//! Control groups for hosts whose first process is systemd: it keeps account of its services with them.

use std::path::{Path, PathBuf};

const SYSTEMD: &str = "/lib/systemd/systemd";

/// Why this machine cannot carry a host with systemd.
pub(super) fn obstacle() -> Option<String> {
    if !Path::new(SYSTEMD).is_file() {
        return Some("systemd is not installed (it need not run); run tests/setup".into());
    }
    let Some(root) = root() else { return Some("no cgroup2 file system is mounted here".into()) };
    let probe = root.join(format!("runbook-lab-probe-{}", std::process::id()));
    let made = std::fs::create_dir(&probe).and_then(|()| std::fs::remove_dir(&probe));
    made.err().map(|error| format!("control groups cannot be made in {}: {error}", root.display()))
}

/// The control group of a host; made by its supervisor.
pub(super) fn of(number: u8, host: &str) -> Option<PathBuf> {
    Some(root()?.join(format!("{}{host}", prefix(number))))
}

/// Removes all groups that carry the number, if nobody is in them any more.
pub(super) fn remove(number: u8) {
    let Some(root) = root() else { return };
    let Ok(entries) = std::fs::read_dir(root) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix(number)) {
            remove_tree(&entry.path());
        }
    }
}

fn prefix(number: u8) -> String {
    format!("runbook-lab-{number}-")
}

// The files in a group cannot be removed, and go with it.
fn remove_tree(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // One that still has processes stays: the next lab of this number tries again.
    let _ = std::fs::remove_dir(group);
}

fn root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    })
}
