//! Slots: which addresses, bridges and folder belong to which lab.
//!
//! A slot is a number with a lock file. Whoever holds the lock owns everything that carries the number; what a slot
//! without a holder left behind is removed by the next lab that takes it. Processes are recorded with their start time,
//! so that a number that the system has given to another process since is never signalled.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::Error;
use super::command::{must, run};
use super::{cgroup, network};

const FOLDER: &str = "/dev/shm/runbook-lab";
// One /24 network of 198.18.0.0/16 each.
const SLOTS: u8 = 200;
const PROGRAMS: [&str; 14] = [
    "btrfs",
    "dpkg-deb",
    "getfacl",
    "ip",
    "losetup",
    "mkfs.btrfs",
    "nginx",
    "nsenter",
    "setfacl",
    "ssh",
    "ssh-keygen",
    "sudo",
    "tini",
    "unshare",
];

/// Why this machine cannot carry a lab.
pub(super) fn obstacle() -> Option<String> {
    if !rustix::process::getuid().is_root() {
        return Some("the lab of real hosts needs root".into());
    }
    let missing: Vec<&str> = PROGRAMS.into_iter().chain(["sshd"]).filter(|name| !has_program(name)).collect();
    if !missing.is_empty() {
        return Some(format!("programs are missing ({}); run tests/setup", missing.join(", ")));
    }
    // Loads the modules where they are modules.
    let _ = run("modprobe", ["-a", "btrfs", "overlay", "loop"]);
    let systems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    for system in ["btrfs", "overlay"] {
        if !systems.split_whitespace().any(|word| word == system) {
            return Some(format!("this kernel has no {system}"));
        }
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("this kernel has no loop devices".into());
    }
    match must("unshare", ["--mount", "--uts", "--ipc", "--pid", "--net", "--fork", "true"]) {
        Ok(_) => None,
        Err(error) => Some(format!("namespaces cannot be made here: {error}")),
    }
}

/// Whether this machine has a program of that name.
pub(super) fn has_program(name: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').any(|folder| Path::new(folder).join(name).is_file())
}

/// A slot that is held.
pub(super) struct Slot {
    number: u8,
    folder: PathBuf,
    // Held as long as the file is open.
    _lock: File,
}

impl Slot {
    /// The first free one, cleaned; and every other free one that still has something, cleaned too.
    pub(super) fn take() -> Result<Self, Error> {
        std::fs::create_dir_all(FOLDER).map_err(Error::io(format!("making {FOLDER}")))?;
        let mut taken: Option<Slot> = None;
        for number in 0..SLOTS {
            let folder = PathBuf::from(format!("{FOLDER}/{number}"));
            // Without a folder nothing was left behind.
            if taken.is_some() && !folder.exists() {
                continue;
            }
            let Some(lock) = lock(number)? else { continue };
            clean(number, &folder)?;
            if taken.is_none() {
                std::fs::create_dir_all(&folder).map_err(Error::io("making the lab's folder"))?;
                taken = Some(Slot { number, folder, _lock: lock });
            }
        }
        taken.ok_or(Error::Full(SLOTS))
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // The next lab tries again.
        let _ = clean(self.number, &self.folder);
    }
}

fn lock(number: u8) -> Result<Option<File>, Error> {
    let path = format!("{FOLDER}/{number}.lock");
    let file =
        OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(format!("opening {path}")))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::Io { what: format!("locking {path}"), source: error.into() }),
    }
}

fn clean(number: u8, folder: &Path) -> Result<(), Error> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(Error::io("reading the lab's folder"))?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "processes") {
            for line in std::fs::read_to_string(entry.path()).unwrap_or_default().lines().rev() {
                end_recorded(line);
            }
        }
    }
    network::remove(number);
    cgroup::remove(number);
    std::fs::remove_dir_all(folder).map_err(Error::io(format!("removing {}", folder.display())))
}

/// When process `pid` was started, in the kernel's ticks since boot; with the number it names one process for ever.
pub(super) fn start_time(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; fields are counted after it.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// The processes whose parent is `pid`.
pub(super) fn children(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Adds a process to the record of a host, for the case that this process is killed.
pub(super) fn record(path: &Path, pid: u32) -> Result<(), Error> {
    use std::io::Write as _;
    let line = format!("{pid} {}\n", start_time(pid).unwrap_or_default());
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .map_err(Error::io(format!("writing {}", path.display())))
}

fn end_recorded(line: &str) {
    let mut words = line.split(' ');
    let (Some(pid), Some(started)) = (words.next(), words.next()) else { return };
    let (Ok(pid), Ok(started)) = (pid.parse::<u32>(), started.parse::<u64>()) else { return };
    if start_time(pid) != Some(started) {
        return;
    }
    if let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) {
        // It may have ended since.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
