//! What is on a host's disk: measured before and after, compared by path.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;

/// One path as measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// `file`, `dir`, `link` or `other`.
    pub kind: String,
    /// Of a file's content; of a link's target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Sha256>,
    /// A file's length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Permission bits in octal, such as `0644`.
    pub mode: String,
    /// Owner's name or number.
    pub owner: String,
    /// Group's name or number.
    pub group: String,
    /// Access control list beyond the permission bits, as getfacl prints it on one line; `None` when there is none or
    /// the host cannot tell (then the manifest's `acl` is false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acl: Option<String>,
}

/// What was found, by absolute path.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The paths.
    pub entries: BTreeMap<String, Entry>,
    /// Whether access control lists could be read.
    #[serde(default)]
    pub acl: bool,
    /// Running services, when they were measured and the host could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<BTreeSet<String>>,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The path.
    pub path: String,
    /// Before; `None` when it was not there.
    pub before: Option<Entry>,
    /// After; `None` when it is gone.
    pub after: Option<Entry>,
}

impl Manifest {
    /// What differs from `self` (before) to `after`, by path.
    pub fn changes(&self, after: &Manifest) -> Vec<Change> {
        let paths: BTreeSet<_> = self.entries.keys().chain(after.entries.keys()).collect();
        paths
            .into_iter()
            .filter_map(|path| {
                let (before, after) = (self.entries.get(path), after.entries.get(path));
                (before != after).then(|| Change { path: path.clone(), before: before.cloned(), after: after.cloned() })
            })
            .collect()
    }
}
