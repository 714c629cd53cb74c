//! Tells when files are written, replaced or removed, so that nobody has to look at them again and again.
//!
//! The kernel says so (inotify) for what this machine does to them; of what another machine does to a file on a share it may
//! not know. So whoever needs to be sure looks as well, at the moment at which it matters.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

/// Where the kernel cannot tell, it is looked at so often.
const LOOK: Duration = Duration::from_secs(60);

/// Watches some files.
pub(crate) struct Watch {
    kernel: Option<AsyncFd<OwnedFd>>,
    files: Vec<PathBuf>,
}

impl Watch {
    /// Of files that need not be there.
    pub(crate) fn of(files: Vec<PathBuf>) -> Self {
        #[expect(deprecated, reason = "what is unsound with other descriptors is not with one that is owned")]
        let kernel = folders(&files).ok().and_then(|kernel| AsyncFd::new(kernel).ok());
        Self { kernel, files }
    }

    /// Returns when something may have happened to one of them. May be given up at any time; nothing is lost by that.
    pub(crate) async fn stirred(&self) {
        let Some(kernel) = &self.kernel else { return tokio::time::sleep(LOOK).await };
        loop {
            let Ok(mut ready) = kernel.readable().await else { return tokio::time::sleep(LOOK).await };
            if self.drain(kernel.get_ref()) {
                return;
            }
            ready.clear_ready();
        }
    }

    /// Whether what the kernel has told is about one of the files. Until there is nothing more to be told, or one is.
    fn drain(&self, kernel: &OwnedFd) -> bool {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut told = inotify::Reader::new(kernel, &mut buffer);
        while let Ok(event) = told.next() {
            // Without a name it is about the folder, or about events that were dropped.
            let Some(name) = event.file_name() else { return true };
            let name = OsStr::from_bytes(name.to_bytes());
            if self.files.iter().any(|file| file.file_name() == Some(name)) {
                return true;
            }
        }
        false
    }
}

/// Files are replaced as often as written, so it is their folders that are watched. What is still being written is not told.
fn folders(files: &[PathBuf]) -> rustix::io::Result<OwnedFd> {
    let kernel = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    let mut folders: Vec<&Path> = files.iter().filter_map(|file| file.parent()).collect();
    folders.sort_unstable();
    folders.dedup();
    let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
    for folder in folders {
        inotify::add_watch(&kernel, folder, flags)?;
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn told(watch: &Watch) -> bool {
        tokio::time::timeout(Duration::from_millis(300), watch.stirred()).await.is_ok()
    }

    #[tokio::test]
    async fn a_file_that_is_written_replaced_or_removed_is_told_and_its_neighbours_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let watch = Watch::of(vec![path("windows.yaml"), path("inventory.yaml")]);
        std::fs::write(path("other.yaml"), "x").unwrap();
        assert!(!told(&watch).await);
        std::fs::write(path("windows.yaml"), "x").unwrap();
        assert!(told(&watch).await);
        std::fs::rename(path("other.yaml"), path("inventory.yaml")).unwrap();
        assert!(told(&watch).await);
        std::fs::remove_file(path("windows.yaml")).unwrap();
        assert!(told(&watch).await);
        assert!(!told(&watch).await, "each is told once");
    }
}
