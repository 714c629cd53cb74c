//! A record: an event with its place in the ledger. One line of JSON, stored exactly as it was hashed.

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::event::Event;
use crate::id::RunId;

/// The version of the record's stored form.
pub const SCHEMA: &str = "record/v1";

/// The longest record in bytes: a ledger entry's length field has 16 bits (C2SP tlog-tiles).
pub const BYTES_MAX: usize = 65_535;

/// A record of the installation's ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: String,
    /// Place in the ledger, from 0, without gaps.
    pub seq: u64,
    /// RFC 6962 leaf hash of the record before; of the empty string for the first.
    pub prev: Sha256,
    /// UTC, RFC 3339, milliseconds.
    pub time: String,
    /// Monotonic clock of the writing process in milliseconds.
    pub mono_ms: u64,
    /// The run that it belongs to.
    pub run: RunId,
    /// Place within the run, from 0, without gaps.
    pub run_seq: u64,
    /// What happened.
    pub event: Event,
}

/// The ledger's end: what the next record is sealed on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head {
    /// How many records there are; the next one's `seq`.
    pub size: u64,
    /// Leaf hash of the last record; `None` while there is none.
    pub last_leaf: Option<Sha256>,
    /// Roots of the complete subtrees that make up the tree, largest first (RFC 6962).
    pub frontier: Vec<Sha256>,
}

/// A record ready to be stored, exactly as it was hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Place in the ledger.
    pub seq: u64,
    /// The run.
    pub run: RunId,
    /// Place in the run.
    pub run_seq: u64,
    /// RFC 6962 leaf hash of `bytes`.
    pub leaf: Sha256,
    /// The line of JSON, without a line end.
    pub bytes: Vec<u8>,
}
