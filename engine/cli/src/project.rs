//! Where things are: the project's folder, its settings, its state.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use runbook_driver::LocalSecrets;
use runbook_model::Sha256;
use runbook_model::plan::SecretRef;
use runbook_ports::{SecretBytes, SecretSource as _};

use crate::failure::Failure;
use crate::origins::Answers;
use crate::settings::Settings;

/// The file that makes a folder a project.
pub(crate) const SETTINGS: &str = "runbook.toml";
/// The state's folder in a project.
pub(crate) const STATE: &str = ".runbook";

/// A project, or the user's own state when there is none.
#[derive(Debug, Clone)]
pub(crate) struct Project {
    /// The project's folder; `None`: no project, the machine itself is the only host.
    pub(crate) root: Option<PathBuf>,
    /// Where database, blobs and keys are.
    pub(crate) state: PathBuf,
    /// What holds for it.
    pub(crate) settings: Settings,
    /// Digest of the file that says so.
    pub(crate) settings_sha256: Option<Sha256>,
    /// What others than files answered who were asked for hosts.
    pub(crate) answers: Arc<Answers>,
}

impl Project {
    /// The project asked for, else the nearest one upward from the current folder, else none.
    pub(crate) fn find(asked: Option<&Path>) -> Result<Self, Failure> {
        let root = match asked {
            Some(folder) => {
                if !folder.join(SETTINGS).is_file() {
                    return Err(Failure::usage("RB0602", format!("{} holds no {SETTINGS}", folder.display()))
                        .next(format!("`runbook init {}` makes it a project", folder.display())));
                }
                Some(absolute(folder)?)
            }
            None => upward()?,
        };
        match root {
            Some(root) => {
                let (settings, sha256) = Settings::read(&root.join(SETTINGS))?;
                Ok(Self {
                    state: root.join(STATE),
                    root: Some(root),
                    settings,
                    settings_sha256: Some(sha256),
                    answers: Arc::default(),
                })
            }
            None => Ok(Self {
                root: None,
                state: user_state()?,
                settings: Settings::default(),
                settings_sha256: None,
                answers: Arc::default(),
            }),
        }
    }

    /// The project's folder, or an error that says what to do.
    pub(crate) fn folder(&self) -> Result<&Path, Failure> {
        self.root.as_deref().ok_or_else(|| {
            Failure::usage("RB0602", "this needs a project, and neither this folder nor one above it is one")
                .next("`runbook init` makes one here; --project DIR or RUNBOOK_PROJECT names one elsewhere")
        })
    }

    /// The inventory's file, when there is a project.
    pub(crate) fn inventory(&self) -> Option<PathBuf> {
        self.root.as_ref().map(|root| root.join("inventory.yaml"))
    }

    /// The value of a secret that the settings or the inventory name; a file is relative to the project's folder.
    ///
    /// # Errors
    /// Why it is not to be had, without it.
    pub(crate) async fn secret(&self, secret: &SecretRef) -> Result<SecretBytes, String> {
        let secrets = LocalSecrets { folder: self.root.clone().unwrap_or_else(|| self.state.clone()) };
        secrets.resolve(secret).await.map_err(|obstacle| obstacle.message)
    }

    /// A place in the state's folder.
    pub(crate) fn state_path(&self, name: &str) -> PathBuf {
        self.state.join(name)
    }

    /// The state's folder as people should be told of it.
    pub(crate) fn state_shown(&self) -> String {
        crate::sources::shown(&self.state)
    }

    /// Whether anything was ever recorded here.
    pub(crate) fn has_state(&self) -> bool {
        self.state_path("runbook.db").exists()
    }

    /// Makes the state's folders, readable by nobody else.
    pub(crate) fn make_state(&self) -> Result<(), Failure> {
        for folder in [self.state.clone(), self.state_path("keys"), self.state_path("run")] {
            make_private(&folder)?;
        }
        Ok(())
    }
}

/// Makes a folder with mode 0700. One that is there must be ours alone to write.
pub(crate) fn make_private(folder: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| Failure::file("RB0605", "made", folder, &error))?;
    let mode = fs::metadata(folder).map_err(|error| Failure::file("RB0605", "read", folder, &error))?.permissions();
    if mode.mode() & 0o022 != 0 {
        return Err(Failure::usage("RB0605", format!("{} can be written by others", folder.display()))
            .next(format!("chmod go-rwx {}", folder.display())));
    }
    Ok(())
}

fn absolute(folder: &Path) -> Result<PathBuf, Failure> {
    folder.canonicalize().map_err(|error| Failure::file("RB0602", "read", folder, &error))
}

fn upward() -> Result<Option<PathBuf>, Failure> {
    let here = std::env::current_dir()
        .map_err(|error| Failure::usage("RB0602", format!("the current folder cannot be read: {error}")))?;
    Ok(here.ancestors().find(|folder| folder.join(SETTINGS).is_file()).map(Path::to_path_buf))
}

fn user_state() -> Result<PathBuf, Failure> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|folder| folder.join("runbook"))
        .ok_or_else(|| {
            Failure::usage(
                "RB0605",
                "there is no project, and neither HOME nor XDG_STATE_HOME says where state may be kept",
            )
            .next("`runbook init` makes a project here")
        })
}
