//! Names in a bundle, checked before anything is read: a name must mean the same place on every system, inside the bundle.

use std::collections::BTreeMap;

/// The longest name.
const BYTES_MAX: usize = 1_024;
/// The longest part between two slashes, as file systems have it.
const PART_BYTES_MAX: usize = 255;
/// The most folders in one another.
const DEPTH_MAX: usize = 16;

/// Why an entry is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// It has a character that is not ASCII, or cannot be printed, or a backslash.
    #[error("its name has other characters than printable ASCII")]
    Characters,
    /// It leads out of the bundle.
    #[error("its name leads out of the bundle")]
    Outside,
    /// Too long or too deep.
    #[error("its name is too long")]
    Long,
    /// Another entry has the name, or one that differs in the case of letters alone.
    #[error("another entry has the same name, or one that differs by upper and lower case alone: {0}")]
    Taken(String),
    /// One is a folder and the other a file.
    #[error("it is a file and a folder: {0}")]
    Both(String),
}

/// Whether a name may stand in a bundle.
///
/// # Errors
/// Why not.
pub(super) fn check(name: &[u8]) -> Result<&str, Error> {
    if name.len() > BYTES_MAX {
        return Err(Error::Long);
    }
    if !name.iter().all(|byte| matches!(byte, 0x20..=0x7e) && *byte != b'\\') {
        return Err(Error::Characters);
    }
    let name = std::str::from_utf8(name).map_err(|_| Error::Characters)?;
    if name.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Error::Outside);
    }
    if name.split('/').any(|part| part.len() > PART_BYTES_MAX) || name.split('/').count() > DEPTH_MAX {
        return Err(Error::Long);
    }
    Ok(name)
}

/// Folders that were met, each under its name in lower case.
#[derive(Debug, Default)]
pub(super) struct Folders(BTreeMap<Box<str>, Box<str>>);

impl Folders {
    /// Takes the folders that a file's name goes through.
    ///
    /// # Errors
    /// `Taken` when one of them is there in other letters.
    pub(super) fn of(&mut self, name: &str) -> Result<(), Error> {
        let Some((folder, _)) = name.rsplit_once('/') else { return Ok(()) };
        // Most files are in a folder that was met already.
        if self.0.get(folder).is_some_and(|known| **known == *folder) {
            return Ok(());
        }
        for end in folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]) {
            let part = &folder[..end];
            let known = self.0.entry(part.to_ascii_lowercase().into()).or_insert_with(|| part.into());
            if **known != *part {
                return Err(Error::Taken(known.to_string()));
            }
        }
        Ok(())
    }

    /// Their names in lower case.
    pub(super) fn lower(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(AsRef::as_ref)
    }

    /// Whether a folder has this name, in any letters.
    pub(super) fn has(&self, lower: &str) -> bool {
        self.0.contains_key(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_place_inside_the_bundle_on_every_system() {
        for good in ["SHA256SUMS", "blobs/sha256/ab/cd", "ledger/tile/0/x001/234.p/7", "a b", "..a", "attest/x@y.link"]
        {
            assert_eq!(check(good.as_bytes()), Ok(good));
        }
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", ".", "..", "a/."] {
            assert_eq!(check(bad.as_bytes()), Err(Error::Outside), "{bad:?}");
        }
        for bad in ["a\\b", "a\nb", "\u{e9}", "a\0", "\x1b[2J", "a\x7f", "\u{202e}x"] {
            assert_eq!(check(bad.as_bytes()), Err(Error::Characters), "{bad:?}");
        }
        assert_eq!(check(b"\xff"), Err(Error::Characters));
        assert_eq!(check("a".repeat(256).as_bytes()), Err(Error::Long));
        assert_eq!(check("a/".repeat(600).as_bytes()), Err(Error::Long));
        assert_eq!(check(["a"; 17].join("/").as_bytes()), Err(Error::Long));
    }

    #[test]
    fn folders_do_not_differ_by_case_alone() {
        let mut folders = Folders::default();
        folders.of("ledger/tile/0/000").unwrap();
        folders.of("ledger/tile/0/001").unwrap();
        folders.of("README").unwrap();
        assert_eq!(folders.of("ledger/Tile/0/002"), Err(Error::Taken("ledger/tile".into())));
        assert!(folders.has("ledger/tile") && !folders.has("readme"));
    }
}
