//! A validated inventory: every host with all its keys resolved.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runbook_model::{Host, HostName};

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
