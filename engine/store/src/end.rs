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

/// A line: size, digest, check, and what stands between them.
const LINE_BYTES: u64 = SIZE_WIDTH as u64 + 1 + 64 + 1 + 64 + 1;

/// The file: two lines, written in turns, so that a write that is torn leaves the other.
pub(crate) struct End {
    file: File,
    /// The largest size that this process has left there, and how often it has written.
    kept: Mutex<(u64, u64)>,
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
        Ok(Self { file: private_file(path)?, kept: Mutex::new((0, 0)) })
    }

    /// `None` when there is nothing, or nothing that reads: the check is the weaker for it, and no more.
    pub(crate) fn read(&self) -> Option<Kept> {
        let mut bytes = Vec::new();
        (&self.file).take(2 * LINE_BYTES).read_to_end(&mut bytes).ok()?;
        bytes.split(|byte| *byte == b'\n').filter_map(parse).max_by_key(|kept| kept.size)
    }

    /// Leaves the end of an append that is durable. A failure is not the append's.
    pub(crate) fn keep(&self, head: &Head) {
        let Some(leaf) = head.last_leaf else { return };
        let mut kept = self.kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (size, turn) = *kept;
        if head.size <= size {
            return;
        }
        let said = format!("{:>SIZE_WIDTH$} {leaf}", head.size);
        let line = format!("{said} {}\n", Sha256::of(said.as_bytes()));
        if self.file.write_all_at(line.as_bytes(), turn % 2 * LINE_BYTES).is_ok() {
            *kept = (head.size, turn + 1);
        }
    }
}

fn parse(line: &[u8]) -> Option<Kept> {
    let (said, check) = std::str::from_utf8(line).ok()?.rsplit_once(' ')?;
    let (size, leaf) = said.rsplit_once(' ')?;
    let whole = Sha256::of(said.as_bytes()).to_string() == check;
    whole.then_some(Kept { size: size.trim_start().parse().ok()?, leaf: leaf.parse().ok()? })
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
        assert_eq!(End::open(&path).unwrap().read(), Some(kept.clone()), "never less than before");
        // The next write is torn at each of its bytes in turn: it counts when it is whole, or the one before does.
        let before = std::fs::read(&path).unwrap();
        end.keep(&Head { size: 11, last_leaf: Some(Sha256::of(&[11])), frontier: Vec::new() });
        let after = std::fs::read(&path).unwrap();
        assert_eq!(after.len() as u64, 2 * LINE_BYTES);
        for torn_at in 0..LINE_BYTES as usize {
            let torn = [&after[..torn_at], &before[torn_at..]].concat();
            std::fs::write(&path, torn).unwrap();
            let found = End::open(&path).unwrap().read().unwrap();
            assert!(found == kept || found.size == 11 && found.leaf == Sha256::of(&[11]), "{torn_at}: {found:?}");
        }
        for nothing in ["", "\0\0\0\0", "                  10 ab", "x"] {
            std::fs::write(&path, nothing).unwrap();
            assert_eq!(End::open(&path).unwrap().read(), None, "{nothing:?}");
        }
    }
}
