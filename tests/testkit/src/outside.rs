//! Tools that are not ours, with which an outsider verifies evidence.

use std::path::{Path, PathBuf};

use crate::lab;

/// Where `tests/setup` puts those that are no packages of the distribution.
fn folder() -> PathBuf {
    Path::new(lab::KEPT_PACKAGES).join("evidence-tools")
}

/// The folder with `in-toto-verify`, `trestle` and a `python3` that has `tlog_scales` and `pymerkle`; the distribution's
/// own tools are there too. When something is missing, skips the test as [`lab::require`] does.
pub fn require() -> Option<PathBuf> {
    if !lab::require_programs(&["jq", "openssl", "ssh-keygen", "tar", "zstd", "bash", "sha256sum"]) {
        return None;
    }
    let folder = folder();
    if !folder.join("installed.txt").exists() {
        lab::skip("the evidence tools are missing; run tests/setup");
        return None;
    }
    Some(folder.join("bin"))
}
