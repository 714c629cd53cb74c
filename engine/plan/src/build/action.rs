//! What a step does, in the plan's form; local files become digests.

use std::collections::BTreeMap;

use runbook_lang::action::ByOs;
use runbook_lang::runbook as written;
use runbook_lang::{Code, Diagnostic, Text};
use runbook_model::Sha256;
use runbook_model::plan::{Action, FileRef, Template, UploadFile, Work};

use super::Builder;
use crate::invariants::is_inner_path;
use crate::request::{Local, LocalFile};

/// `download.max_size` when nobody says anything.
const DOWNLOAD_BYTES_MAX: u64 = 64 << 20;
/// `reboot.timeout` when nobody says anything.
const REBOOT_TIMEOUT_MS: u64 = 600_000;

fn template(text: &Text) -> Template {
    Template(text.value.clone())
}

impl Builder<'_> {
    /// The plan's form of an action written in the file called `base`. `None` when a local file is missing and that was
    /// reported.
    pub(super) fn action(&mut self, action: &written::Action, base: &str) -> Option<Action> {
        Some(match action {
            written::Action::Run(command) => self.command(command),
            written::Action::Script { file, args, interpreter } => Action::Script {
                sha256: self.script(file, base)?,
                args: args.iter().map(template).collect(),
                interpreter: interpreter.as_ref().map(template),
            },
            written::Action::Upload { from, to, mode, owner, group, sha256 } => Action::Upload {
                files: self.uploads(from, *mode, sha256.as_ref().map(|wanted| (wanted.value, &wanted.span)), base)?,
                to: template(to),
                owner: owner.as_ref().map(template),
                group: group.as_ref().map(template),
            },
            written::Action::Download { from, max_bytes } => {
                Action::Download { from: template(from), max_bytes: max_bytes.unwrap_or(DOWNLOAD_BYTES_MAX) }
            }
            written::Action::Uses { name, .. } => {
                self.report(Diagnostic::error(
                    Code::ActionMisused,
                    &name.span,
                    "a packaged action cannot be made of another one",
                ));
                return None;
            }
            written::Action::Reboot { timeout_ms, settle_ms } => {
                Action::Reboot { timeout_ms: timeout_ms.unwrap_or(REBOOT_TIMEOUT_MS), settle_ms: *settle_ms }
            }
            written::Action::Wait { ms } => Action::Wait { ms: *ms },
            written::Action::WaitUntil { for_ms, until, every_ms } => {
                Action::WaitUntil { for_ms: *for_ms, until: template(until), every_ms: *every_ms }
            }
            written::Action::Confirm { text } => Action::Confirm { text: template(text) },
        })
    }

    /// A command of the runbook: `defaults.shell` is for its texts.
    pub(super) fn command(&self, command: &written::Command) -> Action {
        match command {
            written::Command::Shell { text, shell, strict } => Action::Run {
                command: template(text),
                shell: shell.or(self.request.runbook.defaults.shell),
                strict: *strict,
            },
            written::Command::Argv(argv) => Action::Argv { argv: argv.iter().map(template).collect() },
        }
    }

    /// The forms of a packaged action's operation, written in the file called `base`. Its texts are written for the
    /// shells that they name, or the systems' own, whatever the runbook's `defaults.shell` is.
    pub(super) fn by_os(&mut self, by_os: &ByOs, base: &str) -> Option<Work> {
        let mut one = |action: &Option<runbook_lang::Spanned<written::Action>>| match action {
            None => Some(None),
            Some(action) => match &action.value {
                written::Action::Run(written::Command::Shell { text, shell, strict }) => {
                    Some(Some(Action::Run { command: template(text), shell: *shell, strict: *strict }))
                }
                other => self.action(other, base).map(Some),
            },
        };
        Some(Work::ByOs { posix: one(&by_os.posix)?, windows: one(&by_os.windows)? })
    }

    fn script(&mut self, file: &Text, base: &str) -> Option<Sha256> {
        match self.look(file, base)? {
            Local::File(found) => {
                self.keep(&file.value, found);
                Some(found.sha256)
            }
            Local::Folder(_) => {
                let message = format!("`{}` is a folder, and a script is a file", file.value);
                self.report(Diagnostic::error(Code::LocalFile, &file.span, message));
                None
            }
        }
    }

    fn uploads(
        &mut self,
        from: &Text,
        mode: Option<u32>,
        wanted: Option<(Sha256, &runbook_lang::Span)>,
        base: &str,
    ) -> Option<BTreeMap<String, UploadFile>> {
        let files = match (self.look(from, base)?, wanted) {
            (Local::File(file), None) => BTreeMap::from([(String::new(), file)]),
            (Local::File(file), Some((wanted, _))) if file.sha256 == wanted => BTreeMap::from([(String::new(), file)]),
            (Local::File(file), Some((wanted, span))) => {
                let message = format!("`{}` has the SHA-256 digest {}, not {wanted}", from.value, file.sha256);
                self.report(
                    Diagnostic::error(Code::FileDigest, span, message)
                        .label(&from.span, "this file")
                        .help("find out which of the two is right before anything is sent"),
                );
                return None;
            }
            (Local::Folder(_), Some((_, span))) => {
                let message = format!("`{}` is a folder, and `sha256` is the digest of one file", from.value);
                self.report(Diagnostic::error(Code::FileDigest, span, message).help("remove `sha256`"));
                return None;
            }
            (Local::Folder(files), None) => files,
        };
        if files.is_empty() {
            let message = format!("the folder `{}` has no files", from.value);
            self.report(Diagnostic::error(Code::LocalFile, &from.span, message));
            return None;
        }
        let mut uploads = BTreeMap::new();
        for (path, file) in files {
            if !path.is_empty() && !is_inner_path(&path) {
                let message =
                    format!("the file `{path}` of `{}` has a name that not every system can have", from.value);
                self.report(Diagnostic::error(Code::LocalFile, &from.span, message));
                continue;
            }
            let shown = match path.as_str() {
                "" => from.value.clone(),
                inner => format!("{}/{inner}", from.value.trim_end_matches('/')),
            };
            self.keep(&shown, file);
            uploads.insert(path, UploadFile { sha256: file.sha256, mode: mode.unwrap_or(usual_mode(file.mode)) });
        }
        Some(uploads)
    }

    fn look(&mut self, path: &Text, base: &str) -> Option<Local> {
        match self.request.files.look(base, &path.value) {
            Ok(found) => Some(found),
            Err(why) => {
                let message = format!("`{}` cannot be read: {why}", path.value);
                self.report(
                    Diagnostic::error(Code::LocalFile, &path.span, message)
                        .help(format!("paths are relative to the folder of {base}")),
                );
                None
            }
        }
    }

    /// Two files with the same bytes are one; the plan names the path that sorts first.
    fn keep(&mut self, path: &str, file: LocalFile) {
        let known =
            self.files.entry(file.sha256).or_insert_with(|| FileRef { path: path.to_owned(), bytes: file.bytes });
        if path < known.path.as_str() {
            known.path = path.to_owned();
        }
    }
}

/// The mode on the host of a file whose step gives none: whether it can be run, and whether only its owner may read
/// it. The rest of a local mode comes from the umask of whoever wrote the file, and would give the same runbook another
/// plan on another machine.
fn usual_mode(local: u32) -> u32 {
    let mode = if local & 0o111 != 0 { 0o755 } else { 0o644 };
    if local & 0o077 == 0 && local != 0 { mode & 0o700 } else { mode }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_stays_private_and_the_umask_does_not_matter() {
        for (local, sent) in
            [(0o644, 0o644), (0o664, 0o644), (0o600, 0o600), (0o400, 0o600), (0o775, 0o755), (0o700, 0o700), (0, 0o644)]
        {
            assert_eq!(usual_mode(local), sent, "{local:o}");
        }
    }
}
