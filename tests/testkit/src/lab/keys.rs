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
        keys.sign(&keys.certified, "maint", "-5m:+1d")?;
        Ok(keys)
    }

    /// A certificate of the certified key in a file of its own. ssh would find one that is named after the key.
    pub(super) fn certify(&self, path: &Path, principal: &str, validity: &str) -> Result<PathBuf, Error> {
        let mut copy = path.as_os_str().to_owned();
        copy.push("-signed");
        let copy = PathBuf::from(copy);
        let public = |key: &Path| key.with_extension("pub");
        std::fs::copy(public(&self.certified), public(&copy)).map_err(Error::io("copying a key"))?;
        self.sign(&copy, principal, validity)?;
        let mut signed = copy.into_os_string();
        signed.push("-cert.pub");
        // ssh-keygen puts it beside the key, in the place of the last `.pub`.
        std::fs::rename(&signed, path).map_err(Error::io("renaming a certificate"))?;
        Ok(path.to_owned())
    }

    fn sign(&self, key: &Path, principal: &str, validity: &str) -> Result<(), Error> {
        let public = key.with_extension("pub");
        let fixed = ["-q", "-I", "lab", "-n", principal, "-V", validity, "-s"].map(AsRef::as_ref);
        must("ssh-keygen", fixed.into_iter().chain([self.authority.as_os_str(), public.as_os_str()]))?;
        Ok(())
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
