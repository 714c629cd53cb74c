//! Another key takes the place of the ledger's key, and what a crash in the middle of that leaves is put right.
//!
//! | After | `ledger.key` | `ledger.key.next` | record | `ledger.pub` | What the next command does |
//! |---|---|---|---|---|---|
//! | nothing | old | – | – | old | – |
//! | the new key is made | old | new | – | old | removes the new key |
//! | the record is written | old | new | yes | old | goes on from here |
//! | the public key is added | old | new | yes | old, new | goes on from here |
//! | the old key is put aside | old | new | yes | old, new | goes on from here |
//! | the new key is in its place | new | – | yes | old, new | – |
//!
//! Which of the first two it was, only the ledger tells: by which key its last head is signed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook_driver::SystemClock;
use runbook_driver::installation::Installation;
use runbook_ledger::{Checkpoint, FileKey, VerifierKey};
use runbook_model::Notice;
use runbook_model::event::Person;
use runbook_ports::{Signer as _, Store as _};
use runbook_store::SqliteStore;
use rustix::fs::{FlockOperation, flock};

use super::{FileSigner, open, private_path, public_path, publics, random, read_private, replace, write_new};
use crate::commands::work::refused;
use crate::failure::Failure;
use crate::project::Project;
use crate::{head, record};

fn next_path(project: &Project) -> PathBuf {
    project.state_path("keys/ledger.key.next")
}

/// Where the old private key is kept: seeds of outputs that were never kept are made from it.
pub(crate) fn aside_path(project: &Project, key: &VerifierKey) -> PathBuf {
    project.state_path(&format!("keys/old/{:08x}.key", u32::from_be_bytes(key.id())))
}

/// The private half of a key that was replaced.
pub(crate) fn old(project: &Project, key: &VerifierKey) -> Result<FileSigner, Failure> {
    let path = aside_path(project, key);
    let signer = FileSigner(read_private(&path).map_err(|failure| failure.next("put the old private key back there"))?);
    if signer.public_key() == key.public_key() {
        return Ok(signer);
    }
    Err(Failure::usage("RB0606", format!("{} is not the private half of {key}", path.display())))
}

/// Makes a new key and puts it in the place of the one in force. `before` goes on record with it.
///
/// # Errors
/// After an error the old key is in force, or the new one: the next command finds out which and goes on with it.
pub(crate) async fn rotate(
    project: &Project,
    store: &SqliteStore,
    before: Vec<Notice>,
    reason: &str,
    by: &Person,
) -> Result<(VerifierKey, VerifierKey), Failure> {
    let _lock = lock(project)?;
    settle_locked(project, store).await?;
    let key = open(project)?;
    let new = make_next(project)?;
    let name = key.verifier.name().to_owned();
    let verifier = VerifierKey::new(&name, &new.public_key()).map_err(crate::failure::fault)?;
    let installation = Installation {
        store: Arc::new(store.clone()),
        signer: Arc::new(key.signer),
        clock: Arc::new(SystemClock::new()),
        origin: name,
    };
    installation.rotate(&new, before, reason, by).await.map_err(|error| refused(&error))?;
    put_in_place(project, &key.verifier, &verifier, usize::MAX)?;
    head::keep(project, &store.head().await.map_err(|error| record::failed(&error))?);
    Ok((key.verifier, verifier))
}

/// Puts right what an interrupted rotation left. To be called whenever the store was opened; costs one look at a file.
pub(crate) async fn settle(project: &Project, store: &SqliteStore) -> Result<(), Failure> {
    if !next_path(project).exists() {
        return Ok(());
    }
    let _lock = lock(project)?;
    settle_locked(project, store).await
}

async fn settle_locked(project: &Project, store: &SqliteStore) -> Result<(), Failure> {
    let path = next_path(project);
    if !path.exists() {
        return Ok(());
    }
    let next = FileSigner(read_private(&path)?);
    let known = publics(project)?;
    let Some(last) = known.last() else { return Ok(()) };
    let new = VerifierKey::new(last.name(), &next.public_key()).map_err(crate::failure::fault)?;
    let signed = store.last_checkpoint().await.map_err(|error| record::failed(&error))?;
    if signed.is_none_or(|head| Checkpoint::verify(&head.note, &new).is_err()) {
        return fs::remove_file(&path).map_err(|error| Failure::file("RB0606", "removed", &path, &error));
    }
    let Some(old) = known.iter().rev().find(|key| **key != new) else { return Ok(()) };
    put_in_place(project, old, &new, usize::MAX)
}

fn make_next(project: &Project) -> Result<FileSigner, Failure> {
    let key = FileKey::from_seed(random()?);
    write_new(&next_path(project), 0o600, key.encode().as_bytes())?;
    Ok(FileSigner(key))
}

/// The files once the rotation is on record; may be repeated from any point. `steps`: how many of them are taken.
fn put_in_place(project: &Project, old: &VerifierKey, new: &VerifierKey, steps: usize) -> Result<(), Failure> {
    let public = |project: &Project| -> Result<(), Failure> {
        let path = public_path(project);
        let mut keys = publics(project)?;
        if !keys.contains(new) {
            keys.push(new.clone());
            let text: String = keys.iter().map(|key| format!("{key}\n")).collect();
            replace(&path, 0o644, text.as_bytes())
                .map_err(|error| Failure::file("RB0605", "written", &path, &error))?;
        }
        Ok(())
    };
    let aside = |project: &Project| -> Result<(), Failure> {
        let (path, aside) = (private_path(project), aside_path(project, old));
        if aside.exists() {
            return Ok(());
        }
        let folder = project.state_path("keys/old");
        crate::project::make_private(&folder)?;
        fs::hard_link(&path, &aside)
            .and_then(|()| sync(&folder))
            .map_err(|error| Failure::file("RB0605", "written", &aside, &error))
    };
    let place = |project: &Project| -> Result<(), Failure> {
        let (path, next) = (private_path(project), next_path(project));
        fs::rename(&next, &path)
            .and_then(|()| sync(&project.state_path("keys")))
            .map_err(|error| Failure::file("RB0605", "written", &path, &error))
    };
    type Step<'s> = &'s dyn Fn(&Project) -> Result<(), Failure>;
    let all: [Step<'_>; 3] = [&public, &aside, &place];
    all.iter().take(steps).try_for_each(|step| step(project))
}

fn sync(folder: &Path) -> std::io::Result<()> {
    File::open(folder)?.sync_all()
}

/// One rotation at a time; the lock is gone when the file is dropped, or its process has ended.
fn lock(project: &Project) -> Result<File, Failure> {
    let path = project.state_path("keys/rotation.lock");
    let file = File::options().create(true).append(true).open(&path);
    let file = file.map_err(|error| Failure::file("RB0605", "written", &path, &error))?;
    flock(&file, FlockOperation::LockExclusive)
        .map_err(|error| Failure::file("RB0605", "locked", &path, &error.into()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use runbook_ledger::KeyChain;
    use runbook_model::event::ClockState;
    use tempfile::TempDir;

    use super::*;
    use crate::settings::Settings;
    use crate::{keys, notices};

    fn project(folder: &TempDir) -> Project {
        let project = Project {
            root: None,
            state: folder.path().join("state"),
            settings: Settings::default(),
            settings_sha256: None,
            answers: Default::default(),
        };
        keys::make(&project).unwrap();
        project
    }

    fn by() -> Person {
        Person { name: "ann".into(), uid: 1000, from: None }
    }

    /// A rotation that ends with the process after so many of its steps.
    async fn rotate_until(project: &Project, store: &SqliteStore, steps: usize) {
        let key = open(project).unwrap();
        let new = make_next(project).unwrap();
        if steps == 0 {
            return;
        }
        let name = key.verifier.name().to_owned();
        let verifier = VerifierKey::new(&name, &new.public_key()).unwrap();
        let installation = Installation {
            store: Arc::new(store.clone()),
            signer: Arc::new(key.signer),
            clock: Arc::new(SystemClock::new()),
            origin: name,
        };
        installation.rotate(&new, Vec::new(), "yearly", &by()).await.unwrap();
        put_in_place(project, &key.verifier, &verifier, steps - 1).unwrap();
    }

    #[tokio::test]
    async fn a_rotation_that_dies_at_any_step_leaves_a_project_that_works() {
        for steps in 0..=4 {
            let folder = TempDir::new().unwrap();
            let project = project(&folder);
            let heartbeat = || vec![Notice::Heartbeat { clock: ClockState::default(), every_ms: None }];
            let store = record::open(&project).await.unwrap();
            notices::append(&project, &store, heartbeat(), Vec::new()).await.unwrap();
            let first = keys::public(&project).unwrap();
            rotate_until(&project, &store, steps).await;
            store.close().await;

            // The next process.
            let store = record::open(&project).await.unwrap();
            notices::append(&project, &store, heartbeat(), Vec::new()).await.unwrap();
            let now = keys::public(&project).unwrap();
            assert_eq!(now == first, steps == 0, "{steps}");
            assert!(!next_path(&project).exists(), "{steps}");
            assert_eq!(aside_path(&project, &first).exists(), steps > 0, "{steps}");
            // Two in a row, and then the chain of all of them.
            let (old, new) = rotate(&project, &store, Vec::new(), "again", &by()).await.unwrap();
            assert_eq!(old, now);
            notices::append(&project, &store, heartbeat(), Vec::new()).await.unwrap();
            let chain = keys::chain(&project, &store).await.unwrap().unwrap();
            assert_eq!(chain.current(), &new);
            assert_eq!(chain.links().len(), if steps == 0 { 2 } else { 3 });
            assert!(KeyChain::holds_any(&chain, &[first]));
            for head in store.checkpoints().await.unwrap() {
                chain.verify(&head.note).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn of_two_rotations_at_once_the_second_goes_on_from_the_first() {
        let folder = TempDir::new().unwrap();
        let project = project(&folder);
        let store = record::open(&project).await.unwrap();
        let other = project.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = record::open(&other).await.unwrap();
                rotate(&other, &store, Vec::new(), "one", &by()).await.unwrap();
            });
        });
        rotate(&project, &store, Vec::new(), "two", &by()).await.unwrap();
        thread.join().unwrap();
        assert_eq!(keys::chain(&project, &store).await.unwrap().unwrap().links().len(), 3);
    }
}
