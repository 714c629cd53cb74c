//! Waking up when a file of the project is written.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use tokio::sync::Notify;

/// The files that say what runs when.
const FILES: [&str; 3] = ["schedule.yaml", "windows.yaml", "runbook.toml"];

/// Notifies `changed` when one of the files is there anew, as long as the process lives. Where the system cannot, the
/// minute's look has to do.
pub(super) fn watch(folder: &Path, changed: Arc<Notify>) {
    let Ok(descriptor) = inotify::init(CreateFlags::CLOEXEC) else { return };
    let events = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE;
    if inotify::add_watch(&descriptor, folder, events).is_ok() {
        // It waits in the system's call, so it has a thread of its own; the process does not wait for it.
        std::thread::spawn(move || follow(&descriptor, &changed));
    }
}

fn follow(descriptor: &OwnedFd, changed: &Notify) {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = Reader::new(descriptor, &mut buffer);
    loop {
        match reader.next() {
            Ok(event) => {
                let name = event.file_name().and_then(|name| name.to_str().ok());
                // An overflow has no name: anything may have changed.
                if name.is_none_or(|name| FILES.contains(&name)) {
                    changed.notify_one();
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
