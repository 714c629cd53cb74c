//! A validated inventory: every host with all its keys resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runbook_model::origin::Question;
use runbook_model::{Host, HostName};

use crate::codes::Code;
use crate::diagnostic::{Diagnostic, Parsed};
use crate::read;
use crate::runbook::Targets;
use crate::source::{Source, Span};

/// `schema: inventory/v1`, its includes taken in, defaults and groups applied.
#[derive(Debug, Clone)]
pub struct Inventory {
    /// The hosts, by name, all keys resolved.
    pub hosts: BTreeMap<HostName, InventoryHost>,
    /// The groups, by name.
    pub groups: BTreeMap<String, Group>,
    /// Every file that was read, the main one first.
    pub sources: Vec<Arc<Source>>,
    /// Names of those of them that hold a password: their bytes are not for others.
    pub secretive: BTreeSet<String>,
}

/// A host and where it was written.
#[derive(Debug, Clone)]
pub struct InventoryHost {
    /// The host, as a plan freezes it.
    pub host: Host,
    /// Where its name stands.
    pub span: Span,
}

/// A group.
#[derive(Debug, Clone)]
pub struct Group {
    /// Its hosts, directly or through other groups.
    pub hosts: BTreeSet<HostName>,
    /// The groups that it is made of, as written.
    pub groups: BTreeSet<String>,
    /// Where it was first named.
    pub span: Span,
}

/// The other files of an inventory.
pub trait Files {
    /// The bytes of the file at `path`, or why it cannot be read. Need not return more than
    /// [`crate::INVENTORY_BYTES_MAX`] + 1 bytes.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;

    /// `path` as the file `from` means it: relative to that file's folder. What [`Files::read`] is given, and what a
    /// host's key files become; an implementation that knows the working and the home folder makes it absolute.
    fn resolve(&self, from: &str, path: &str) -> String {
        join(from, path)
    }

    /// What whoever is no file answers, or why there is no answer. `name` is what its hosts' places will be named after.
    /// Need not return more than [`crate::INVENTORY_BYTES_MAX`] + 1 bytes.
    fn ask(&self, _question: &Question, _name: &str) -> Result<Vec<u8>, String> {
        Err("nobody but files can be asked here".into())
    }
}

/// `path` relative to the folder of the file `from`; `.` and `..` are taken out where that needs no look at a disk.
pub fn join(from: &str, path: &str) -> String {
    if path.starts_with('/') || path.starts_with("~/") {
        return path.to_owned();
    }
    let folder = from.rsplit_once('/').map_or("", |(folder, _)| folder);
    let absolute = from.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in folder.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if absolute => {}
            part => parts.push(part),
        }
    }
    format!("{}{}", if absolute { "/" } else { "" }, parts.join("/"))
}

/// No other files: every include is an error.
pub struct NoFiles;

impl Files for NoFiles {
    fn read(&self, _path: &str) -> Result<Vec<u8>, String> {
        Err("this inventory cannot include other files".into())
    }
}

/// An inventory from the bytes of the file called `name`, and of all files that it includes.
///
/// # Errors
/// All that is wrong with them. A source that cannot be read is an error, never an empty success.
pub fn parse_inventory(name: &str, bytes: &[u8], files: &dyn Files) -> Result<Parsed<Inventory>, Vec<Diagnostic>> {
    read::inventory::inventory(name, bytes, files)
}

impl Inventory {
    /// The inventory of a machine without a project: this machine alone, called `here`.
    pub fn here() -> Self {
        let source = Source::new("(built-in inventory)", "schema: inventory/v1\nhosts: {here: {transport: local}}\n");
        let name = HostName::from("here");
        let at = source.text().find("here").unwrap_or(0);
        let span = Span::new(&source, at..at + 4);
        let host = Host::here();
        Self {
            hosts: BTreeMap::from([(name, InventoryHost { host, span })]),
            groups: BTreeMap::new(),
            sources: vec![source],
            secretive: BTreeSet::new(),
        }
    }

    /// The hosts that a runbook's `targets` mean. Without `select` that is the inventory's only host; with several
    /// hosts in the inventory it must be said which.
    ///
    /// # Errors
    /// See [`crate::Selector::hosts`].
    pub fn select(&self, targets: &Targets) -> Result<BTreeSet<HostName>, Vec<Diagnostic>> {
        if let Some(selector) = &targets.select {
            return selector.hosts(self);
        }
        if self.hosts.len() == 1 {
            return Ok(self.hosts.keys().cloned().collect());
        }
        Err(vec![
            Diagnostic::error(
                Code::NoHost,
                &targets.span,
                format!("the runbook does not say on which of the {} hosts it works", self.hosts.len()),
            )
            .help("add `targets: {select: NAME}` (`all` for every host), or give --limit"),
        ])
    }
}
