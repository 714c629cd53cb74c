//! `access`: the authority that signs the certificates of runs.

use std::path::{Path, PathBuf};

use runbook_ssh::access::{self, Authority as Signs};

use crate::arguments::access::{Access, Authority};
use crate::failure::Failure;
use crate::keys;
use crate::output::{self, Output, note};
use crate::project::Project;

/// Where the key is made when the settings name none.
const KEY: &str = "keys/user_ca";

/// Carries it out.
pub(crate) fn run(project: &Project, command: &Access, _output: Output) -> Result<u8, Failure> {
    let Access::Ca(command) = command;
    let public = match command {
        Authority::Init => init(project)?,
        Authority::Show => show(project)?,
    };
    output::data(format!("{public}\n"))?;
    Ok(0)
}

/// The key's file, and whether the settings name it.
fn path(project: &Project) -> Result<(PathBuf, bool), Failure> {
    match project.settings.access.as_ref().map(|access| &access.authority) {
        Some(Signs::File(path)) => Ok((path.clone(), true)),
        Some(Signs::Command(_)) => Err(Failure::usage("RB0777", "[access] names a program that signs, and no key")
            .next("ask that program's own authority for its public key")),
        None => {
            let root = project
                .root
                .as_ref()
                .ok_or_else(|| Failure::usage("RB0602", "there is no project here").next("`runbook init` makes one"))?;
            Ok((root.join(KEY), false))
        }
    }
}

fn comment(project: &Project) -> String {
    let name = project.root.as_ref().and_then(|root| root.file_name()).map(|name| name.to_string_lossy().into_owned());
    let plain = |c: char| if c.is_ascii_alphanumeric() || "_-.".contains(c) { c } else { '-' };
    format!("runbook-ca-{}", name.unwrap_or_default().chars().map(plain).collect::<String>())
}

fn init(project: &Project) -> Result<String, Failure> {
    let (path, is_named) = path(project)?;
    if path.exists() {
        return Err(Failure::usage("RB0777", format!("{} is there already", path.display()))
            .next("`runbook access ca show` prints what hosts must trust")
            .next("to take another key, move this one away; hosts must trust the new one before runs use it"));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|error| Failure::file("RB0777", "made", folder, &error))?;
    }
    keep_out_of_git(project, &path)?;
    let (key, public) = access::new_key(&comment(project)).map_err(crate::failure::fault)?;
    keys::write_new(&path, 0o600, key.as_bytes())?;
    note(format!(
        "made {}, readable by this account alone: whoever has it can log in to every host that trusts it",
        path.display()
    ));
    if !is_named {
        note(format!("write into runbook.toml:\n\n    [access]\n    ca = \"{KEY}\"\n"));
    }
    note("on every host, put the following line into a file that TrustedUserCAKeys of its sshd_config names:");
    Ok(public)
}

/// A key in the project's folder is not to be committed with the rest of it.
fn keep_out_of_git(project: &Project, key: &Path) -> Result<(), Failure> {
    let inside = project.root.as_ref().is_some_and(|root| key.starts_with(root));
    let (Some(folder), Some(name)) = (key.parent().filter(|_| inside), key.file_name()) else { return Ok(()) };
    let ignores = folder.join(".gitignore");
    if ignores.exists() {
        note(format!("see to it that {} is never committed", key.display()));
        return Ok(());
    }
    keys::write_new(&ignores, 0o644, format!("/{}\n/.gitignore\n", name.to_string_lossy()).as_bytes())
}

fn show(project: &Project) -> Result<String, Failure> {
    let (path, _) = path(project)?;
    access::public_line(&path, &comment(project))
        .map_err(|why| Failure::usage("RB0777", why).next("`runbook access ca init` makes the key"))
}
