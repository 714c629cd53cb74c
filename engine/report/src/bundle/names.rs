//! File names for hosts and cells: ASCII, short enough for every file system, and different also where upper and lower
//! case are the same.

use std::collections::BTreeMap;

use runbook_model::{HostName, Sha256, StepId};

use crate::RunView;

/// The longest name; what is added (`.cast`, a key's id) fits beside it.
const LENGTH_MAX: usize = 200;

/// The names of a run's hosts.
#[derive(Debug, Clone)]
pub struct Names(BTreeMap<HostName, String>);

impl Names {
    /// Of the run's hosts.
    pub fn of(view: &RunView) -> Self {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for host in view.hosts.keys() {
            *seen.entry(host.as_str().to_ascii_lowercase()).or_default() += 1;
        }
        let name = |host: &HostName| {
            let alone = seen[&host.as_str().to_ascii_lowercase()] == 1;
            if alone && plain(host.as_str()) { host.to_string() } else { short(host.as_str()) }
        };
        Self(view.hosts.keys().map(|host| (host.clone(), name(host))).collect())
    }

    /// A host's.
    pub fn host(&self, host: &HostName) -> String {
        self.0.get(host).cloned().unwrap_or_else(|| short(host.as_str()))
    }

    /// A cell's: `STEP@HOST`.
    pub fn cell(&self, host: &HostName, step: &StepId) -> String {
        let name = format!("{step}@{}", self.host(host));
        if plain(&name) { name } else { short(&name) }
    }
}

fn plain(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
    !name.is_empty() && name.len() <= LENGTH_MAX && !name.starts_with('.') && name.bytes().all(known)
}

/// What can be kept of the name, and what tells it from all others.
fn short(name: &str) -> String {
    let kept: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "_-@".contains(*c)).take(64).collect();
    format!("{kept}-{}", &Sha256::of(name.as_bytes()).to_string()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_file_system_could_not_keep_apart_or_hold_are_told_apart_by_a_digest() {
        assert!(plain("web1.example") && plain("upgrade.undo@web1"));
        assert!(!plain("") && !plain(".x") && !plain("a b") && !plain("ä") && !plain(&"x".repeat(201)));
        assert_ne!(short("Web1"), short("web1"));
        assert!(plain(&short(&"ä/".repeat(300))));
        assert!(short("../../etc").starts_with("etc-"));
    }
}
