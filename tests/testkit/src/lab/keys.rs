//! Keys of one lab: made anew each time, of no use elsewhere.

use std::path::{Path, PathBuf};

use super::Error;
use super::command::must;

pub(super) struct Keys {
    pub(super) identity: PathBuf,
    pub(super) certified: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) stranger: PathBuf,
    pub(super) authority: PathBuf,
}

impl Keys {
    pub(super) fn make(folder: &Path) -> Result<Self, Error> {
        let keys = Self {
            identity: folder.join("maint"),
            certified: folder.join("maint_certified"),
            certificate: folder.join("maint_certified-cert.pub"),
            stranger: folder.join("stranger"),
            authority: folder.join("authority"),
        };
        for path in [&keys.identity, &keys.certified, &keys.stranger, &keys.authority] {
            generate(path)?;
        }
        let public = keys.certified.with_extension("pub");
        must(
            "ssh-keygen",
            [
                "-q".as_ref(),
                "-s".as_ref(),
                keys.authority.as_os_str(),
                "-I".as_ref(),
                "lab".as_ref(),
                "-n".as_ref(),
                "maint".as_ref(),
                "-V".as_ref(),
                "-5m:+1d".as_ref(),
                public.as_os_str(),
            ],
        )?;
        Ok(keys)
    }
}

/// A new Ed25519 key at `path`, its public half beside it.
pub(super) fn generate(path: &Path) -> Result<(), Error> {
    for old in [path.to_owned(), path.with_extension("pub")] {
        if old.exists() {
            std::fs::remove_file(&old).map_err(Error::io(format!("removing {}", old.display())))?;
        }
    }
    let arguments = ["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f"].map(AsRef::as_ref);
    must("ssh-keygen", arguments.into_iter().chain([path.as_os_str()]))?;
    Ok(())
}
