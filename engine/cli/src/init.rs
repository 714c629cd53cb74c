//! `init`: a project that works at once on the machine itself.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::arguments::{Init, ShippedPolicy};
use crate::failure::Failure;
use crate::keys;
use crate::output::{self, Output};
use crate::project::{Project, SETTINGS, STATE};
use crate::settings::Settings;

/// What is written, by path in the project.
const FILES: &[(&str, &str)] = &[
    (SETTINGS, include_str!("template/runbook.toml")),
    ("inventory.yaml", include_str!("template/inventory.yaml")),
    ("runbooks/hello.yaml", include_str!("template/hello.yaml")),
    (".gitignore", "# Records, blobs and keys of this machine's runs.\n/.runbook/\n"),
];

/// What is written beside it with `--policy cmmc-l2`.
const CMMC_L2: &[(&str, &str)] = &[
    ("people.yaml", include_str!("template/cmmc-l2.people.yaml")),
    ("policy.yaml", include_str!("template/cmmc-l2.policy.yaml")),
];

/// Makes the project, or nothing.
pub(crate) fn run(arguments: &Init, _output: Output) -> Result<u8, Failure> {
    let root = &arguments.dir;
    // Nothing of the user's is ever overwritten, and a project is not made by half over another one.
    let more = match arguments.policy {
        None => &[],
        Some(ShippedPolicy::CmmcL2) => CMMC_L2,
    };
    let taken: Vec<PathBuf> = [SETTINGS, "inventory.yaml", "runbooks/hello.yaml", STATE]
        .iter()
        .chain(more.iter().map(|(name, _)| name))
        .map(|name| root.join(name))
        .filter(|path| path.exists())
        .collect();
    if let Some(first) = taken.first() {
        let mut failure =
            Failure::usage("RB0607", format!("{} is there already; nothing is overwritten", first.display()));
        for path in &taken[1..] {
            failure = failure.detail(format!("so is {}", path.display()));
        }
        return Err(failure.next("make the project in an empty folder: `runbook init DIR`"));
    }
    for folder in [root.clone(), root.join("runbooks"), root.join("actions")] {
        fs::create_dir_all(&folder).map_err(|error| Failure::file("RB0605", "made", &folder, &error))?;
    }
    let mut written = Vec::new();
    for (name, text) in FILES.iter().chain(more) {
        let path = root.join(name);
        if *name == ".gitignore" && path.exists() {
            continue;
        }
        keys::write_new(&path, 0o644, text.as_bytes())?;
        written.push((*name).to_owned());
    }
    let root = root.canonicalize().map_err(|error| Failure::file("RB0605", "read", root, &error))?;
    let project = Project {
        state: root.join(STATE),
        root: Some(root.clone()),
        settings: Settings::default(),
        settings_sha256: None,
        answers: Default::default(),
    };
    let key = keys::make(&project)?;
    if arguments.json {
        let document = json!({
            "schema": "init/v1",
            "project": root,
            "files": written,
            "ledger_key": key.to_string(),
        });
        output::json(&document)?;
        return Ok(0);
    }
    output::note(told(&root, &arguments.dir, &written, &key.to_string()));
    Ok(0)
}

fn told(root: &Path, dir: &Path, written: &[String], key: &str) -> String {
    let enter = if dir == Path::new(".") { String::new() } else { format!("  cd {}\n", dir.display()) };
    format!(
        "a project in {}\n  {}\n  {STATE}/ with the ledger key (keep a copy of its public half elsewhere:\n  {key})\n\n\
         now:\n{enter}  runbook plan runbooks/hello.yaml      what would be done; touches nothing\n  \
         runbook apply runbooks/hello.yaml     do it\n  \
         runbook apply runbooks/hello.yaml -p text=goodbye     see it fail and go back",
        root.display(),
        written.join(", ")
    )
}
