//! The workspace keeps its shape: who may import whom, what the pure crates may know, what lies at the top.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Who may import whom, among our own crates. `cli`, `server` and everything below `tests/` may import anything.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("runbook-model", &[]),
    ("runbook-lang", &["runbook-model"]),
    ("runbook-policy", &["runbook-model"]),
    ("runbook-core", &["runbook-model"]),
    ("runbook-ledger", &["runbook-model"]),
    ("runbook-ports", &["runbook-model"]),
    ("runbook-plan", &["runbook-model", "runbook-lang"]),
    ("runbook-store", &["runbook-model", "runbook-ports"]),
    ("runbook-report", &["runbook-model", "runbook-ledger"]),
    ("runbook-driver", &["runbook-model", "runbook-policy", "runbook-core", "runbook-ledger", "runbook-ports"]),
    ("runbook-plugin", &["runbook-model", "runbook-ports"]),
];

/// Decide only: bytes in, bytes out.
const PURE: [&str; 6] =
    ["runbook-model", "runbook-lang", "runbook-plan", "runbook-policy", "runbook-core", "runbook-ledger"];

/// What reads files, sockets, clocks or chance, or waits.
const IMPURE: [&str; 16] = [
    "async-trait",
    "fastrand",
    "getrandom",
    "libc",
    "mio",
    "nix",
    "openssh",
    "rand",
    "reqwest",
    "rustix",
    "socket2",
    "sqlx",
    "tempfile",
    "tokio",
    "tokio-util",
    "uuid",
];

/// The visible top level. A licence may have a name of its own.
const TOP: [&str; 10] =
    ["Cargo.toml", "Cargo.lock", "engine", "runbooks", "plugins", "examples", "tests", "docs", "README.md", "target"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

/// Each of our crates: where it is below the root, and what it depends on outside of its tests.
fn crates() -> BTreeMap<String, (String, BTreeSet<String>)> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let crates: BTreeMap<_, _> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            let manifest = PathBuf::from(text(&package["manifest_path"]));
            let place = manifest.parent().unwrap().strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            let dependencies = package["dependencies"].as_array().unwrap().iter();
            let needed = dependencies.filter(|dependency| dependency["kind"] != "dev");
            (text(&package["name"]), (place, needed.map(|dependency| text(&dependency["name"])).collect()))
        })
        .collect();
    assert!(crates.contains_key("runbook-model"), "{crates:?}");
    crates
}

#[test]
fn crates_import_only_whom_they_may() {
    let crates = crates();
    let concrete: BTreeSet<_> =
        crates.iter().filter(|(_, (place, _))| place.starts_with("plugins/")).map(|(name, _)| name.as_str()).collect();
    let ports = ["runbook-model", "runbook-ports"];
    let mut wrong = Vec::new();
    for (name, (place, dependencies)) in &crates {
        if place.starts_with("tests/") || matches!(name.as_str(), "runbook-cli" | "runbook-server") {
            continue;
        }
        let allowed: BTreeSet<&str> = if name == "runbook-builtin" {
            concrete.iter().copied().chain(ports).collect()
        } else if name == "runbook-anchors" {
            // The forms of heads, cosignatures and time stamps are the ledger's, and a verifier reads the same ones.
            ports.into_iter().chain(["runbook-ledger", "runbook-wire"]).collect()
        } else if name == "runbook-wire" {
            // How bytes go out: it knows nothing of ours.
            BTreeSet::new()
        } else if place.starts_with("plugins/") {
            ports.into_iter().chain(["runbook-plugin", "runbook-wire"]).collect()
        } else {
            match ALLOWED.iter().find(|(crate_name, _)| crate_name == name) {
                Some((_, allowed)) => allowed.iter().copied().collect(),
                None => {
                    wrong.push(format!("{name} ({place}) has no line in the table of who may import whom"));
                    continue;
                }
            }
        };
        for dependency in dependencies.iter().filter(|dependency| crates.contains_key(*dependency)) {
            if !allowed.contains(dependency.as_str()) {
                wrong.push(format!("{name} must not import {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn pure_crates_know_no_world() {
    let mut wrong = Vec::new();
    for (name, (_, dependencies)) in crates() {
        if PURE.contains(&name.as_str()) {
            wrong.extend(
                dependencies
                    .into_iter()
                    .filter(|needed| IMPURE.contains(&needed.as_str()))
                    .map(|needed| format!("{name} is pure and must not depend on {needed}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_crate_shares_the_workspaces_lints() {
    for (name, (place, _)) in crates() {
        let manifest = std::fs::read_to_string(root().join(place).join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[lints]\nworkspace = true"), "{name} has lints of its own");
    }
}

#[test]
fn the_top_level_holds_only_what_it_should() {
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let known = name.starts_with('.') || name.starts_with("LICENSE") || TOP.contains(&name.as_str());
        assert!(known, "{name} does not belong at the top");
    }
}

/// What we ship must not fetch anything behind its user's back, nor tell where to. The lock file is written by cargo.
#[test]
fn no_file_names_the_host_of_a_package_registry() {
    let names = [["crates", "io"], ["pypi", "org"], ["npmjs", "com"], ["npmjs", "org"], ["pythonhosted", "org"]]
        .into_iter()
        .chain([["rubygems", "org"], ["proxy.golang", "org"], ["maven", "org"], ["docs", "rs"], ["lib", "rs"]])
        .map(|[name, domain]| format!("{name}.{domain}"))
        // `lib.rs` is also the name of a file.
        .map(|host| if host.starts_with("lib") { format!("//{host}") } else { host });
    let git = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output();
    let Some(output) = git.ok().filter(|output| output.status.success()) else {
        // A copy without its history: there is nothing that git tracks.
        assert!(!root().join(".git").exists(), "git cannot list this repository");
        return;
    };
    let files = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = names.collect();
    let mut read = 0;
    // A lock says where its crates come from.
    let is_lock = |file: &str| file.rsplit('/').next() == Some("Cargo.lock");
    for file in files.split('\0').filter(|file| !file.is_empty() && !is_lock(file)) {
        // Removed since, and not committed.
        let Ok(content) = std::fs::read(root().join(file)) else { continue };
        let content = String::from_utf8_lossy(&content);
        for name in &names {
            assert!(!content.contains(name.as_str()), "{file} names {name}");
        }
        read += 1;
    }
    assert!(read > 50, "{read} files were looked into");
}
