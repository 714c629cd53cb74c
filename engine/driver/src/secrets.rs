//! Secrets: taken from where the plan says, at the moment of use, and known to the masks from then on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::evaluate::{Piece, SecretText};
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::plan::{Plan, SecretRef};
use runbook_ports::{SecretBytes, SecretSource};
use tokio::io::AsyncReadExt as _;

use crate::output::Mask;

/// No secret is longer than that: a key file has a few KiB.
const SECRET_BYTES_MAX: u64 = 1 << 20;

/// Every output is masked by value: what is in every text anyway cannot be kept secret in it.
const SECRET_BYTES_MIN: usize = 3;

/// A program that prints a secret has so long. It may ask a vault, not a person.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Secrets from this machine: environment, files, programs.
#[derive(Debug, Clone)]
pub struct LocalSecrets {
    /// Paths of files, and programs with a `/` in their name, are relative to this folder.
    pub folder: PathBuf,
}

fn local(message: String) -> Obstacle {
    Obstacle { kind: ObstacleKind::Local, message }
}

#[async_trait]
impl SecretSource for LocalSecrets {
    async fn resolve(&self, secret: &SecretRef) -> Result<SecretBytes, Obstacle> {
        match secret {
            SecretRef::Env(name) => {
                use std::os::unix::ffi::OsStringExt as _;
                let value = std::env::var_os(name)
                    .ok_or_else(|| local(format!("the environment variable {name}, a secret's source, is not set")))?;
                not_empty(value.into_vec(), || format!("the environment variable {name}, a secret's source, is empty"))
            }
            SecretRef::File(path) => {
                let path = self.folder.join(path);
                let cannot =
                    |e: std::io::Error| local(format!("the secret's file {} cannot be read: {e}", path.display()));
                let file = tokio::fs::File::open(&path).await.map_err(cannot)?;
                let mut bytes = Vec::new();
                file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).await.map_err(cannot)?;
                not_empty(without_line_end(bytes), || format!("the secret's file {} is empty", path.display()))
                    .and_then(|bytes| within_limit(bytes, || path.display().to_string()))
            }
            SecretRef::Command(argv) => {
                let bytes = self.printed(argv).await?;
                not_empty(without_line_end(bytes), || format!("the secret's program {} printed nothing", argv[0]))
                    .and_then(|bytes| within_limit(bytes, || argv[0].clone()))
            }
        }
    }
}

impl LocalSecrets {
    async fn printed(&self, argv: &[String]) -> Result<Vec<u8>, Obstacle> {
        let [program, arguments @ ..] = argv else {
            return Err(local("a secret's program has no name".into()));
        };
        let cannot = |why: String| local(format!("the secret's program {program} {why}"));
        let mut child = tokio::process::Command::new(program)
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| cannot(format!("cannot be started: {e}")))?;
        let stdout = child.stdout.take().expect("piped above");
        let read = async {
            let mut bytes = Vec::new();
            stdout.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).await.map_err(|e| cannot(e.to_string()))?;
            let status = child.wait().await.map_err(|e| cannot(e.to_string()))?;
            if !status.success() {
                return Err(cannot(format!("failed ({status})")));
            }
            Ok(bytes)
        };
        match tokio::time::timeout(COMMAND_LIMIT, read).await {
            Ok(result) => result,
            Err(_) => Err(cannot(format!("did not end within {} s", COMMAND_LIMIT.as_secs()))),
        }
    }
}

fn not_empty(bytes: Vec<u8>, message: impl FnOnce() -> String) -> Result<SecretBytes, Obstacle> {
    if bytes.is_empty() { Err(local(message())) } else { Ok(SecretBytes::new(bytes)) }
}

fn within_limit(bytes: SecretBytes, source: impl FnOnce() -> String) -> Result<SecretBytes, Obstacle> {
    if bytes.expose().len() as u64 > SECRET_BYTES_MAX {
        return Err(local(format!("the secret from {} is larger than 1 MiB", source())));
    }
    Ok(bytes)
}

fn without_line_end(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

/// What was resolved in this process, so that every later output is masked, of whatever step. Wiped with the run.
pub(crate) struct Vault {
    source: Arc<dyn SecretSource>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    values: BTreeMap<String, Vec<SecretBytes>>,
    mask: Mask,
}

impl Vault {
    pub(crate) fn new(source: Arc<dyn SecretSource>) -> Self {
        Self { source, known: Mutex::default() }
    }

    /// The mask over all that was resolved so far.
    pub(crate) fn mask(&self) -> Mask {
        self.known.lock().expect("no panic while held").mask.clone()
    }

    /// The secret's value now.
    pub(crate) async fn resolve(&self, plan: &Plan, name: &str) -> Result<SecretBytes, Obstacle> {
        let Some(reference) = plan.secrets.get(name) else {
            return Err(local(format!("the plan has no secret called `{name}`")));
        };
        let value = self
            .source
            .resolve(reference)
            .await
            .map_err(|obstacle| Obstacle { message: format!("secret `{name}`: {}", obstacle.message), ..obstacle })?;
        if value.expose().len() < SECRET_BYTES_MIN {
            let message = format!(
                "secret `{name}` has fewer than {SECRET_BYTES_MIN} bytes: masking it would blot out letters everywhere, and \
                 not masking it would tell it"
            );
            return Err(local(message));
        }
        let mut known = self.known.lock().expect("no panic while held");
        let values = known.values.entry(name.to_owned()).or_default();
        if !values.iter().any(|known| known.expose() == value.expose()) {
            values.push(value.clone());
            known.mask = Mask::new(known.values.values().flatten());
        }
        Ok(value)
    }

    /// The text with its secrets' values.
    pub(crate) async fn fill(&self, plan: &Plan, text: &SecretText) -> Result<SecretBytes, Obstacle> {
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        for piece in &text.0 {
            match piece {
                Piece::Text(text) => bytes.extend_from_slice(text.as_bytes()),
                Piece::Secret(name) => bytes.extend_from_slice(self.resolve(plan, name).await?.expose()),
            }
        }
        Ok(SecretBytes::new(std::mem::take(&mut *bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> (tempfile::TempDir, LocalSecrets) {
        let folder = tempfile::tempdir().unwrap();
        let secrets = LocalSecrets { folder: folder.path().to_owned() };
        (folder, secrets)
    }

    #[tokio::test]
    async fn a_file_gives_its_content_without_one_line_end() {
        let (folder, secrets) = here();
        std::fs::write(folder.path().join("pw"), "hunter2\n\n").unwrap();
        let value = secrets.resolve(&SecretRef::File("pw".into())).await.unwrap();
        assert_eq!(value.expose(), b"hunter2\n");
    }

    #[tokio::test]
    async fn a_program_that_fails_or_prints_nothing_is_an_obstacle_that_names_it() {
        let (_folder, secrets) = here();
        let command = |argv: &[&str]| SecretRef::Command(argv.iter().map(|a| (*a).to_owned()).collect());
        let value = secrets.resolve(&command(&["printf", "a b\\n"])).await.unwrap();
        assert_eq!(value.expose(), b"a b");
        for argv in [&["false"][..], &["true"], &["/does/not/exist"]] {
            let obstacle = secrets.resolve(&command(argv)).await.err().unwrap();
            assert_eq!(obstacle.kind, ObstacleKind::Local);
            assert!(obstacle.message.contains(argv[0]), "{}", obstacle.message);
        }
    }

    #[tokio::test]
    async fn a_value_of_one_or_two_letters_is_no_secret() {
        let (folder, secrets) = here();
        let vault = Vault::new(Arc::new(secrets));
        let plan: Plan = serde_json::from_value(serde_json::json!({
            "schema": "plan/v1", "runbook": {"name": "x", "title": "", "tier": "routine", "controls": [],
            "source_sha256": "0".repeat(64)}, "parameters": {}, "secrets": {"pin": {"file": "pin"}}, "hosts": {},
            "batches": [], "parallel": 1, "soak_ms": 0, "failure_budget": 0, "rollback": {"strategy": "undo", "scope":
            "host", "budget_ms": 0, "verify": "again"}, "steps": []
        }))
        .unwrap();
        for (value, good) in [("7", false), ("ab\n", false), ("abc\n", true)] {
            std::fs::write(folder.path().join("pin"), value).unwrap();
            let resolved = vault.resolve(&plan, "pin").await;
            assert_eq!(resolved.is_ok(), good, "{value:?}");
        }
        assert_eq!(vault.mask().text("a b c, abc"), "a b c, ***");
    }

    #[tokio::test]
    async fn a_missing_variable_is_named_and_no_empty_value_is_taken() {
        let (_folder, secrets) = here();
        let obstacle = secrets.resolve(&SecretRef::Env("RUNBOOK_TEST_NOT_SET".into())).await.err().unwrap();
        assert!(obstacle.message.contains("RUNBOOK_TEST_NOT_SET"));
    }
}
