//! The ledger's key: a file of mode 0600, and its public half beside it.

mod rotation;

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use runbook_ledger::{FileKey, KeyChain, VerifierKey, chain};
use runbook_ports::Signer;
use runbook_store::SqliteStore;

use crate::failure::Failure;
use crate::project::Project;
use crate::record;

pub(crate) use rotation::{aside_path, old, rotate, settle};

/// Signs with the key in the project's file.
pub(crate) struct FileSigner(FileKey);

impl Signer for FileSigner {
    fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], String> {
        Ok(self.0.sign(bytes))
    }

    fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }
}

/// The key with the ledger's name.
pub(crate) struct LedgerKey {
    pub(crate) signer: FileSigner,
    pub(crate) verifier: VerifierKey,
}

fn private_path(project: &Project) -> PathBuf {
    project.state_path("keys/ledger.key")
}

/// Where the public key is.
pub(crate) fn public_path(project: &Project) -> PathBuf {
    project.state_path("keys/ledger.pub")
}

/// The project's key. Made when nothing was recorded yet; a project with records and without its key is refused, for
/// another key would begin another ledger.
pub(crate) fn open(project: &Project) -> Result<LedgerKey, Failure> {
    let path = present(project)?;
    let mode =
        fs::metadata(&path).map_err(|error| Failure::file("RB0606", "read", &path, &error))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Failure::usage(
            "RB0606",
            format!("{} can be read by others (mode {:04o})", path.display(), mode & 0o7777),
        )
        .next(format!("chmod 600 {}; if others had access, treat the key as known to them", path.display())));
    }
    let key = read_private(&path)?;
    // Whoever made the key died before its public half was there, and nothing was sealed with it yet.
    let half = !public_path(project).exists() && !project.has_state();
    let verifier = if half { make_public(project, &key)? } else { public(project)? };
    if verifier.public_key() != key.public_key() {
        return Err(Failure::usage("RB0606", "the ledger's private and public key do not belong together")
            .detail(format!("{} and {}", path.display(), public_path(project).display()))
            .next("put both back from your backup"));
    }
    Ok(LedgerKey { signer: FileSigner(key), verifier })
}

/// The private key's file is there, and is made when nothing was recorded yet. To be called before the store is made:
/// afterwards a key that is missing is one that was lost.
pub(crate) fn present(project: &Project) -> Result<PathBuf, Failure> {
    let path = private_path(project);
    if !path.exists() {
        if project.has_state() {
            return Err(Failure::usage(
                "RB0606",
                format!("{} is missing, and this project has records", path.display()),
            )
            .next("put the key back from your backup: the records are sealed with it"));
        }
        make(project)?;
    }
    Ok(path)
}

fn read_private(path: &Path) -> Result<FileKey, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file("RB0606", "read", path, &error))?;
    FileKey::decode(&text).map_err(|error| {
        Failure::usage("RB0606", format!("{}: {error}", path.display())).next("put the key back from your backup")
    })
}

/// The project's public key: the one in force.
pub(crate) fn public(project: &Project) -> Result<VerifierKey, Failure> {
    read_public(&public_path(project))
}

/// All public keys that the project's ledger ever had, newest last.
pub(crate) fn publics(project: &Project) -> Result<Vec<VerifierKey>, Failure> {
    read_publics(&public_path(project))
}

/// The public key in a file; the last one, if there are several.
pub(crate) fn read_public(path: &Path) -> Result<VerifierKey, Failure> {
    let mut keys = read_publics(path)?;
    keys.pop().ok_or_else(|| Failure::usage("RB0606", format!("{} holds no public ledger key", path.display())))
}

/// The public keys in a file, one a line.
pub(crate) fn read_publics(path: &Path) -> Result<Vec<VerifierKey>, Failure> {
    let text = fs::read_to_string(path).map_err(|error| Failure::file("RB0606", "read", path, &error))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            line.parse().map_err(|error: runbook_ledger::note::Error| {
                Failure::usage("RB0606", format!("{} is no public ledger key: {error}", path.display()))
            })
        })
        .collect()
}

/// The keys of the project's ledger with their times, as its record tells them. The inner error is that what is on record
/// does not lead to the project's key.
pub(crate) async fn chain(project: &Project, store: &SqliteStore) -> Result<Result<KeyChain, chain::Error>, Failure> {
    let current = public(project)?;
    let rotations = record::notices(store, &["key_rotated"]).await?;
    Ok(KeyChain::of(&current, rotations.iter().map(|(record, notice)| (record.seq, notice))))
}

/// Makes a key. Neither file may be there.
pub(crate) fn make(project: &Project) -> Result<VerifierKey, Failure> {
    project.make_state()?;
    let key = FileKey::from_seed(random()?);
    write_new(&private_path(project), 0o600, key.encode().as_bytes())?;
    make_public(project, &key)
}

/// Makes the public half. Another process may have been quicker: then its name counts.
fn make_public(project: &Project, key: &FileKey) -> Result<VerifierKey, Failure> {
    let suffix: [u8; 8] = random()?;
    let name = format!("runbook-{:016x}", u64::from_be_bytes(suffix));
    let verifier = VerifierKey::new(&name, &key.public_key()).map_err(crate::failure::fault)?;
    let path = public_path(project);
    match write_whole(&path, 0o644, format!("{verifier}\n").as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Failure::file("RB0605", "written", &path, &error))
        }
        _ => public(project),
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    let path = Path::new("/dev/urandom");
    fs::File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| Failure::file("RB0606", "read", path, &error))?;
    Ok(bytes)
}

/// Writes a file that must not be there, and makes it last.
pub(crate) fn write_new(path: &Path, mode: u32, content: &[u8]) -> Result<(), Failure> {
    write_whole(path, mode, content).map_err(|error| Failure::file("RB0605", "written", path, &error))
}

/// All of it or nothing: a disk that fails, or a crash, leaves no half of a file in its place. None may be there.
fn write_whole(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    write(path, mode, content, |temporary, path| fs::hard_link(temporary, path))
}

/// The same over a file that may be there: afterwards it is the old one or the new one.
pub(crate) fn replace(path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
    write(path, mode, content, |temporary, path| fs::rename(temporary, path))
}

fn write(path: &Path, mode: u32, content: &[u8], put: impl FnOnce(&Path, &Path) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let temporary = path.with_file_name(name);
    // One that an earlier process of the same number left.
    let _ = fs::remove_file(&temporary);
    let written =
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()?;
            put(&temporary, path)
        });
    let _ = fs::remove_file(&temporary);
    written?;
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}
