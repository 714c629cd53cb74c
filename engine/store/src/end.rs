//! The end of the log once more, beside the database: a database that has lost its last records is seen.
//!
//! SQLite itself cannot see that: a write-ahead log that was cut is, to it, one that was never written further. So each
//! append that has returned leaves its end in a file of its own. It is written after the append is durable and is not
//! synced itself: it never says more than was promised, and after a power failure it may say less.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Mutex;

use runbook_model::Sha256;
use runbook_ports::store::Head;

use crate::folder::private_file;

/// Numbers are written so wide that every line has the same length and takes the place of the one before it.
const SIZE_WIDTH: usize = 20;

/// The file.
pub(crate) struct End {
    file: File,
    /// The largest size that this process has left there.
    kept: Mutex<u64>,
}

/// What was left there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Records.
    pub(crate) size: u64,
    /// The last one's digest.
    pub(crate) leaf: Sha256,
}

impl End {
    pub(crate) fn open(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: private_file(path)?, kept: Mutex::new(0) })
    }

    /// `None` when there is nothing, or nothing that reads: the check is the weaker for it, and no more.
    pub(crate) fn read(&self) -> Option<Kept> {
        let mut text = String::new();
        (&self.file).take(200).read_to_string(&mut text).ok()?;
        let (size, leaf) = text.strip_suffix('\n')?.rsplit_once(' ')?;
        Some(Kept { size: size.trim_start().parse().ok()?, leaf: leaf.parse().ok()? })
    }

    /// Leaves the end of an append that is durable. A failure is not the append's.
    pub(crate) fn keep(&self, head: &Head) {
        let Some(leaf) = head.last_leaf else { return };
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if head.size <= *kept {
            return;
        }
        let line = format!("{:>SIZE_WIDTH$} {leaf}\n", head.size);
        if self.file.write_all_at(line.as_bytes(), 0).is_ok() {
            *kept = head.size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_back_and_nothing_else_counts() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("end");
        let end = End::open(&path).unwrap();
        assert_eq!(end.read(), None);
        for size in [9, 10, 3] {
            let leaf = Sha256::of(&[size]);
            end.keep(&Head { size: size.into(), last_leaf: Some(leaf), frontier: Vec::new() });
        }
        let kept = Kept { size: 10, leaf: Sha256::of(&[10]) };
        assert_eq!(End::open(&path).unwrap().read(), Some(kept), "never less than before");
        for torn in ["", "\0\0\0\0", "                  10 ab", "x"] {
            std::fs::write(&path, torn).unwrap();
            assert_eq!(End::open(&path).unwrap().read(), None, "{torn:?}");
        }
    }
}
