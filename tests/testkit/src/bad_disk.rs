//! A disk that fails at a chosen call, under a real program: a small library that is loaded before its others. Compiled
//! by the test itself, with the compiler that Rust links with.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The library.
#[derive(Debug)]
pub struct BadDisk {
    folder: tempfile::TempDir,
}

/// Which calls are counted, and fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calls {
    /// fsync and fdatasync.
    Sync,
    /// write, pwrite and ftruncate.
    Write,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Which calls.
    pub calls: Calls,
    /// The number of the call, from 1; 0 for none.
    pub at: u64,
    /// The error.
    pub errno: i32,
    /// Half of what was to be written is.
    pub torn: bool,
    /// Later calls go well again.
    pub once: bool,
}

/// No space left on the device.
pub const ENOSPC: i32 = 28;
/// Input or output error.
pub const EIO: i32 = 5;

impl BadDisk {
    /// Compiles it. `None` when there is no compiler, or none that can make a shared library: a test then skips, loudly.
    ///
    /// # Panics
    /// When no temporary folder can be made.
    pub fn make() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = folder.path().join("bad_disk.c");
        std::fs::write(&source, include_str!("bad_disk.c")).expect("a file can be written there");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-w", "-o"])
            .arg(folder.path().join("bad_disk.so"))
            .arg(&source)
            .arg("-ldl")
            .status();
        matches!(made, Ok(status) if status.success()).then_some(Self { folder })
    }

    /// Puts it under a program that is about to start: files below `disk` fail. The number of calls is left in the file
    /// [`Self::count`] reads.
    pub fn under(&self, command: &mut Command, disk: &Path, failure: Failure) {
        let flag = |set: bool| if set { "1" } else { "0" };
        command
            .env("LD_PRELOAD", self.folder.path().join("bad_disk.so"))
            .env("BAD_DISK_FOLDER", disk)
            .env("BAD_DISK_CALLS", if failure.calls == Calls::Sync { "sync" } else { "write" })
            .env("BAD_DISK_AT", failure.at.to_string())
            .env("BAD_DISK_ERRNO", failure.errno.to_string())
            .env("BAD_DISK_TORN", flag(failure.torn))
            .env("BAD_DISK_ONCE", flag(failure.once))
            .env("BAD_DISK_COUNT", self.count_file());
    }

    /// Puts it under a program that is about to start, and that is killed (SIGKILL) in the place of the call with this number,
    /// from 1, of all that sync files below `disk` or change their names: between two of them a process leaves what one
    /// that was killed a little earlier or later would leave, as far as a journal and renames do their work.
    pub fn kill(&self, command: &mut Command, disk: &Path, at: u64) {
        let none = Failure { calls: Calls::Write, at, errno: 0, torn: false, once: false };
        self.under(command, disk, none);
        command.env("BAD_DISK_CALLS", "last").env("BAD_DISK_KILL", "1");
    }

    /// How many calls the last program made that ended by itself.
    ///
    /// # Panics
    /// When none has.
    pub fn count(&self) -> u64 {
        let text = std::fs::read_to_string(self.count_file()).expect("a program has ended");
        text.trim().parse().expect("a number is left there")
    }

    fn count_file(&self) -> PathBuf {
        self.folder.path().join("count")
    }
}
