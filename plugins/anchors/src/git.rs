//! A repository somewhere else: a commit for each head, pushed with the system's git, which brings its own way to log in.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use async_trait::async_trait;
use runbook_ledger::Checkpoint;
use runbook_ledger::note::{BYTES_MAX, Note};
use runbook_model::Sha256;
use runbook_ports::anchor::{Anchor, AnchorError, Receipt, Request};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

/// What is read of git's two outputs, in bytes.
const SAID_BYTES_MAX: u64 = 64 << 10;

/// How often a push is tried again that another one has overtaken.
const TRIES_MAX: u32 = 4;

/// A branch of a remote repository. It has a file per ledger, `heads/NAME`, with the newest signed head.
///
/// A receipt ([`GitReceipt`]) names the commit. It is never pushed by force: a branch that was rewritten on the other side
/// is refused when what it holds contradicts the ledger.
#[derive(Debug, Clone)]
pub struct Git {
    /// The anchor's name.
    pub name: String,
    /// As `git push` takes it.
    pub remote: String,
    /// The branch.
    pub branch: String,
    /// A folder of this anchor's own, for git's objects. Losing it loses nothing.
    pub folder: PathBuf,
}

/// What is kept of a push.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitReceipt {
    /// `anchor-git/v1`.
    pub schema: String,
    /// Where it was pushed.
    pub remote: String,
    /// The branch.
    pub branch: String,
    /// The file in it.
    pub path: String,
    /// The commit.
    pub commit: String,
    /// The signed head.
    pub note: String,
}

#[async_trait]
impl Anchor for Git {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "git"
    }

    async fn anchor(&self, request: Request<'_>) -> Result<Receipt, AnchorError> {
        crate::by(request.within, &self.remote, self.push(&request)).await
    }

    async fn reach(&self, within: Duration) -> Result<String, AnchorError> {
        let ask = async {
            let said = self.run(&["ls-remote", "--heads", "--", &self.remote], None, None).await?;
            let branch = said.lines().any(|line| line.ends_with(&format!("\trefs/heads/{}", self.branch)));
            let told = if branch { "answers" } else { "answers, and has not this branch yet" };
            Ok(format!("{} {}: {told}", self.remote, self.branch))
        };
        crate::by(within, &self.remote, ask).await
    }
}

impl Git {
    async fn push(&self, request: &Request<'_>) -> Result<Receipt, AnchorError> {
        if !self.folder.join("HEAD").exists() {
            let folder =
                self.folder.to_str().ok_or_else(|| AnchorError::Refused("the state's path is not UTF-8".into()))?;
            self.run_in(None, &["init", "--quiet", "--bare", "--", folder], None, None).await?;
        }
        // An index of our own: two processes may push at the same time.
        let index = self.folder.join(format!("index.{}", std::process::id()));
        let mut pushed = Err(AnchorError::Unreachable(format!("{}: others push all the time", self.remote)));
        for _ in 0..TRIES_MAX {
            match self.push_once(request, &index).await {
                Ok(Some(receipt)) => {
                    pushed = Ok(receipt);
                    break;
                }
                Ok(None) => {}
                Err(error) => {
                    pushed = Err(error);
                    break;
                }
            }
        }
        let _ = std::fs::remove_file(&index);
        pushed
    }

    /// `None` when somebody else has pushed meanwhile.
    async fn push_once(&self, request: &Request<'_>, index: &Path) -> Result<Option<Receipt>, AnchorError> {
        let (head, path) = (request.head, file_name(&request.head.origin));
        let reference = format!("refs/heads/{}", self.branch);
        let there = self.run(&["ls-remote", "--", &self.remote, &reference], None, None).await?;
        let there = there.lines().find_map(|line| line.split_once('\t')).map(|(commit, _)| commit.to_owned());
        if let Some(commit) = &there {
            self.run(&["fetch", "--quiet", "--no-tags", "--depth=1", "--", &self.remote, &reference], None, None)
                .await?;
            if self.compare(request, commit, &path).await? {
                return self.receipt(commit, &path, &head.note).map(Some);
            }
        }
        let blob = self.run(&["hash-object", "-w", "--stdin"], None, Some(head.note.as_bytes())).await?;
        let entry = format!("100644,{},{path}", blob.trim());
        let from = there.as_deref().unwrap_or("--empty");
        self.run(&["read-tree", from], Some(index), None).await?;
        self.run(&["update-index", "--add", "--cacheinfo", &entry], Some(index), None).await?;
        let tree = self.run(&["write-tree"], Some(index), None).await?;
        let message = format!("{}: {} records\n\nroot {}\n", head.origin, head.size, head.root);
        let mut commit = vec!["commit-tree", tree.trim(), "-m", &message];
        if let Some(parent) = &there {
            commit.extend(["-p", parent]);
        }
        let commit = self.run(&commit, None, None).await?;
        let commit = commit.trim();
        let push = format!("{commit}:{reference}");
        match self.run(&["push", "--quiet", "--", &self.remote, &push], None, None).await {
            Ok(_) => self.receipt(commit, &path, &head.note).map(Some),
            Err(AnchorError::Unreachable(said)) if said.contains("[rejected]") || said.contains("cannot lock ref") => {
                Ok(None)
            }
            Err(AnchorError::Unreachable(said)) if said.contains("[remote rejected]") => {
                Err(AnchorError::Refused(said))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the commit has this very head; an error when it has one that contradicts it.
    async fn compare(&self, request: &Request<'_>, commit: &str, path: &str) -> Result<bool, AnchorError> {
        let listed = self.run(&["ls-tree", "-l", commit, "--", path], None, None).await?;
        let Some(length) = listed.split_whitespace().nth(3) else { return Ok(false) };
        if length.parse::<usize>().is_ok_and(|length| length > BYTES_MAX.min(SAID_BYTES_MAX as usize)) {
            return Err(AnchorError::Refused(format!("{path} in {} is no signed head: it is too long", self.remote)));
        }
        let note = self.run(&["cat-file", "blob", &format!("{commit}:{path}")], None, None).await?;
        let read = Note::parse(&note).ok().and_then(|note| Checkpoint::parse(note.text()).ok());
        let Some(there) = read.filter(|there| there.origin == request.head.origin) else {
            return Err(AnchorError::Refused(format!("{path} in {} is no signed head of this ledger", self.remote)));
        };
        let other = |why: String| Err(AnchorError::OtherHead { size: there.size, why });
        if there.size > request.head.size {
            return other(format!("this ledger's head is of {}", request.head.size));
        }
        let same = there.size == request.head.size;
        let own = if same {
            request.head.root
        } else {
            request.history.root(there.size).await.map_err(AnchorError::Refused)?
        };
        if own != there.root {
            return other("its root is another one".into());
        }
        Ok(note == request.head.note)
    }

    fn receipt(&self, commit: &str, path: &str, note: &str) -> Result<Receipt, AnchorError> {
        let receipt = GitReceipt {
            schema: "anchor-git/v1".into(),
            remote: self.remote.clone(),
            branch: self.branch.clone(),
            path: path.to_owned(),
            commit: commit.to_owned(),
            note: note.to_owned(),
        };
        let bytes = serde_json::to_vec(&receipt).map_err(|error| AnchorError::Refused(error.to_string()))?;
        Ok(Receipt { bytes, told: format!("commit {} in {}", &commit[..commit.len().min(12)], self.remote) })
    }

    async fn run(&self, arguments: &[&str], index: Option<&Path>, input: Option<&[u8]>) -> Result<String, AnchorError> {
        let folder = self.folder.exists().then_some(self.folder.as_path());
        self.run_in(folder, arguments, index, input).await
    }

    /// Runs git; what it prints.
    async fn run_in(
        &self,
        folder: Option<&Path>,
        arguments: &[&str],
        index: Option<&Path>,
        input: Option<&[u8]>,
    ) -> Result<String, AnchorError> {
        let mut command = Command::new("git");
        for name in ["GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_DIR", "GIT_OBJECT_DIRECTORY"] {
            command.env_remove(name);
        }
        if let Some(folder) = folder {
            command.env("GIT_DIR", folder).current_dir(folder);
        }
        if let Some(index) = index {
            command.env("GIT_INDEX_FILE", index);
        }
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            // Nobody is there to be asked.
            command.env("GIT_SSH_COMMAND", "ssh -oBatchMode=yes");
        }
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "runbook").env(format!("GIT_{role}_EMAIL"), "runbook@localhost");
        }
        command
            .args(["-c", "gc.auto=0"])
            .args(arguments)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let fault = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => AnchorError::Refused("there is no git here: install it".into()),
            _ => AnchorError::Unreachable(format!("git: {error}")),
        };
        let mut child = command.spawn().map_err(fault)?;
        if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
            stdin.write_all(input).await.map_err(fault)?;
        }
        let (out, err) = (child.stdout.take().expect("piped"), child.stderr.take().expect("piped"));
        let (mut said, mut complained) = (Vec::new(), Vec::new());
        // Who says more than that is not read to its end, and is ended when the time is over.
        let (mut out, mut err) = (out.take(SAID_BYTES_MAX), err.take(SAID_BYTES_MAX));
        tokio::try_join!(out.read_to_end(&mut said), err.read_to_end(&mut complained)).map_err(fault)?;
        let status = child.wait().await.map_err(fault)?;
        let complained = String::from_utf8_lossy(&complained);
        if !status.success() {
            let last: Vec<&str> = complained.lines().map(str::trim).filter(|line| !line.is_empty()).take(4).collect();
            return Err(AnchorError::Unreachable(format!("git {}: {}", arguments[0], last.join("; "))));
        }
        String::from_utf8(said).map_err(|_| AnchorError::NotAReceipt(format!("git {} prints no text", arguments[0])))
    }
}

/// Where a ledger's head is kept. Two names never share a file.
fn file_name(origin: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_') || c == '.';
    let name: String = origin.chars().map(|c| if plain(c) { c } else { '_' }).take(80).collect();
    if name == origin && !name.starts_with('.') {
        return format!("heads/{name}");
    }
    let digest = Sha256::of(origin.as_bytes()).to_string();
    format!("heads/_{name}_{}", &digest[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_ledger_has_a_file_of_its_own_whatever_its_name() {
        assert_eq!(file_name("runbook-0123"), "heads/runbook-0123");
        let strange = [file_name("a/b"), file_name("a_b"), file_name("a:b"), file_name(".."), file_name("../x")];
        let distinct: std::collections::BTreeSet<_> = strange.iter().collect();
        assert_eq!(distinct.len(), strange.len());
        assert!(strange.iter().all(|name| !name.contains("..") || name.starts_with("heads/_")), "{strange:?}");
    }
}
