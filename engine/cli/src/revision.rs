//! Where a runbook's file stands under version control, for the opening of a run.

use std::path::Path;
use std::process::{Command, Stdio};

use runbook_model::event::Revision;

use crate::sources;

/// The commit that is checked out where the file is; `None` when git is not installed, the file is in no repository, it
/// has no commit yet, or git does not trust the repository's owner.
///
/// `project` is the folder that must be as it was committed for the revision to be clean.
pub(crate) fn of(file: &Path, project: &Path) -> Option<Revision> {
    let file = file.canonicalize().ok()?;
    let (sha256, _) = sources::digest(&file).ok()?;
    let folder = file.parent()?;
    let told = git(folder, &["rev-parse", "HEAD", "--show-prefix"])?;
    let mut lines = told.lines();
    let (commit, prefix) = (lines.next()?.to_owned(), lines.next().unwrap_or_default());
    if commit.len() < 40 || !commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let path = format!("{prefix}{}", file.file_name()?.to_str()?);
    // In the project's folder, unless the runbook is in a repository of its own.
    let of_project = project.canonicalize().ok().filter(|project| folder.starts_with(project));
    let status = git(of_project.as_deref().unwrap_or(folder), &["status", "--porcelain", "--", "."]);
    // A file that git is told to ignore is in no commit, and no difference either.
    let known = git(folder, &["ls-files", "--error-unmatch", "--", file.to_str()?]).is_some();
    Some(Revision { commit, path, sha256, clean: known && status.is_some_and(|status| status.is_empty()) })
}

/// What git says. It neither writes into the repository nor runs a program that its settings name.
fn git(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null"])
        .args(arguments)
        .current_dir(folder)
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(folder: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"];
        let done = Command::new("git").args(identity).args(arguments).current_dir(folder).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    #[test]
    fn a_file_under_version_control_has_its_commit_and_whether_anything_differs_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("team/project");
        std::fs::create_dir_all(project.join("runbooks")).unwrap();
        let file = project.join("runbooks/hello.yaml");
        std::fs::write(&file, "one").unwrap();
        assert_eq!(of(&file, &project), None, "in no repository");

        run(folder.path(), &["init", "-q"]);
        assert_eq!(of(&file, &project), None, "without a commit");
        run(folder.path(), &["add", "."]);
        run(folder.path(), &["commit", "-q", "-m", "first"]);
        let committed = of(&file, &project).unwrap();
        assert_eq!((committed.path.as_str(), committed.clean), ("team/project/runbooks/hello.yaml", true));

        std::fs::write(folder.path().join("elsewhere"), "not of the project").unwrap();
        assert_eq!(of(&file, &project), Some(committed.clone()));
        std::fs::write(&file, "two").unwrap();
        let sha256 = runbook_model::Sha256::of(b"two");
        assert_eq!(of(&file, &project), Some(Revision { clean: false, sha256, ..committed.clone() }));
        run(folder.path(), &["commit", "-q", "-a", "-m", "second"]);
        assert_ne!(of(&file, &project).unwrap().commit, committed.commit);
        std::fs::write(project.join("inventory.yaml"), "new").unwrap();
        assert!(!of(&file, &project).unwrap().clean, "a file beside it is in no commit");
    }

    #[test]
    fn a_file_that_git_ignores_is_not_what_was_committed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".gitignore"), "*.yaml\n").unwrap();
        run(folder.path(), &["init", "-q"]);
        run(folder.path(), &["add", "."]);
        run(folder.path(), &["commit", "-q", "-m", "first"]);
        let file = folder.path().join("hidden.yaml");
        std::fs::write(&file, "one").unwrap();
        assert!(!of(&file, folder.path()).unwrap().clean);
    }
}
