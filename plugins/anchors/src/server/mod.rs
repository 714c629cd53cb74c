//! A witness (C2SP tlog-witness) for a host under another hand: it keeps the newest head of each ledger that it knows, and
//! cosigns a head only when it continues that one.
//!
//! What it has cosigned is durable before it answers; after a crash it knows at least what it cosigned. It needs no more
//! trust than that: it cannot sign for a ledger, and learns of it a name, a size and a root.

mod answer;
mod heads;
mod listen;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use runbook_ledger::{FileKey, VerifierKey, WitnessKey};
use runbook_ports::Clock;

use heads::Heads;
pub use listen::{Plain, serve};

/// Why a witness does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be used.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// Another process is the witness there.
    #[error("another witness runs in {}", .0.display())]
    Taken(PathBuf),
    /// Its key can be read by others.
    #[error("{} can be read by others (mode {mode:04o})", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Something that it kept does not read: it must not forget what it has cosigned.
    #[error("{} does not read: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Settings(String),
}

/// A witness, alone in its folder.
pub struct Witness {
    key: WitnessKey,
    signer: FileKey,
    origins: Vec<VerifierKey>,
    heads: Mutex<Heads>,
    clock: Arc<dyn Clock>,
    _lock: fs::File,
}

impl Witness {
    /// Opens the folder, and makes it and the key when they are not there. `name` is the key's name; a key that is there
    /// keeps the one it has.
    ///
    /// # Errors
    /// When the folder is another process's, or anything in it cannot be read.
    pub fn open(
        folder: &Path,
        name: Option<&str>,
        origins: Vec<VerifierKey>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |cause: io::Error| Error::File { path, cause }
        };
        let heads = folder.join("heads");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&heads).map_err(fault(&heads))?;
        let path = folder.join("lock");
        let lock = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(fault(&path))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| Error::Taken(folder.to_owned()))?;
        let (signer, key) = keys(folder, name)?;
        let heads = Heads::open(heads)?;
        Ok(Self { key, signer, origins, heads: Mutex::new(heads), clock, _lock: lock })
    }

    /// Its verifier key, which ledgers and verifiers need.
    pub fn key(&self) -> &WitnessKey {
        &self.key
    }

    /// The ledgers of which it has cosigned a head, with that head's size.
    pub fn known(&self) -> Vec<(String, u64)> {
        self.heads.lock().expect("nobody panics with it").sizes()
    }
}

/// The key of the folder: its private half of mode 0600, and its name in the public half.
fn keys(folder: &Path, name: Option<&str>) -> Result<(FileKey, WitnessKey), Error> {
    let (private, public) = (folder.join("witness.key"), folder.join("witness.vkey"));
    let file = |path: &Path, cause: io::Error| Error::File { path: path.to_owned(), cause };
    let damaged = |path: &Path, why: String| Error::Damaged { path: path.to_owned(), why };
    if !private.exists() {
        if public.exists() {
            return Err(damaged(&private, "it is gone, and its public half is there".into()));
        }
        let seed: [u8; 32] = random().map_err(|cause| file(&private, cause))?;
        let text = FileKey::from_seed(seed).encode();
        heads::put(&private, 0o600, text.as_bytes()).map_err(|cause| file(&private, cause))?;
    }
    let mode = fs::metadata(&private).map_err(|cause| file(&private, cause))?.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Open { path: private, mode });
    }
    let text = fs::read_to_string(&private).map_err(|cause| file(&private, cause))?;
    let signer = FileKey::decode(&text).map_err(|error| damaged(&private, error.to_string()))?;
    if !public.exists() {
        let own = match name {
            Some(name) => name.to_owned(),
            None => {
                format!("runbook-witness-{:016x}", u64::from_be_bytes(random().map_err(|cause| file(&public, cause))?))
            }
        };
        let key = WitnessKey::new(&own, &signer.public_key()).map_err(|error| Error::Settings(error.to_string()))?;
        heads::put(&public, 0o644, format!("{key}\n").as_bytes()).map_err(|cause| file(&public, cause))?;
    }
    let text = fs::read_to_string(&public).map_err(|cause| file(&public, cause))?;
    let key: WitnessKey =
        text.trim().parse().map_err(|error: runbook_ledger::note::Error| damaged(&public, error.to_string()))?;
    if key.public_key() != signer.public_key() {
        return Err(damaged(&public, "it is not the public half of witness.key".into()));
    }
    if let Some(name) = name.filter(|name| *name != key.name()) {
        return Err(Error::Settings(format!(
            "this witness is called {}, not {name}: its name is part of its key",
            key.name()
        )));
    }
    Ok((signer, key))
}

/// Bytes that nobody can guess.
fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Writes a new file whole, and syncs it.
fn write_synced(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
