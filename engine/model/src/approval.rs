//! What a person decided about a plan, as they sign it.

use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::digest::Sha256;
use crate::plan::{Plan, Tier};

/// The version of the form.
pub const SCHEMA: &str = "approval/v1";
/// What persons sign for: a signature for anything else does not count.
pub const NAMESPACE: &str = "runbook-approval@v1";
/// The longest document that is read, in bytes. Ours have some hundreds and the reason.
pub const BYTES_MAX: usize = 64 << 10;

/// A decision: one line of canonical JSON and a line end. What is signed are its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// [`SCHEMA`].
    pub schema: String,
    /// Yes or no.
    pub decision: Decision,
    /// The runbook's name.
    pub runbook: String,
    /// Its tier.
    pub tier: Tier,
    /// Digest of the plan: of its hosts, parameters, steps and files.
    pub plan_sha256: Sha256,
    /// Digest of the canonical JSON of the plan's hosts.
    pub hosts_sha256: Sha256,
    /// Digest of the canonical JSON of the plan's parameters.
    pub parameters_sha256: Sha256,
    /// Digest of `windows.yaml`; `None`: there was none.
    pub windows_sha256: Option<Sha256>,
    /// Why; may be empty.
    pub reason: String,
    /// When it was made (Unix ms, by its signer's clock).
    pub made_ms: u64,
    /// From when on it counts no more (Unix ms).
    pub valid_until_ms: u64,
    /// Drawn at random: it counts for one run.
    pub nonce: String,
    /// The head of the ledger that its signer saw; `None`: nothing was recorded yet.
    pub ledger: Option<LedgerSeen>,
    /// The signer's short name in `people.yaml`.
    pub signer: String,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It may be run.
    Approve,
    /// It must not.
    Reject,
}

/// A head of a ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerSeen {
    /// Its name.
    pub origin: String,
    /// How many records it covers.
    pub size: u64,
    /// Their root.
    pub root: Sha256,
}

/// An approval that a run began with, as its opening names it. Both are blobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Used {
    /// Digest of the document's bytes.
    pub document: Sha256,
    /// Digest of the armored signature.
    pub signature: Sha256,
    /// The signer's short name.
    pub signer: String,
    /// The document's nonce: no other run begins with it.
    pub nonce: String,
    /// From when on it counts no more, by itself and by the policy (Unix ms).
    pub valid_until_ms: u64,
}

impl Approval {
    /// The bytes that are signed.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = canonical::bytes(self);
        bytes.push(b'\n');
        bytes
    }

    /// Reads a document. `None` unless its bytes are the one form that [`Self::bytes`] writes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let read: Self = serde_json::from_slice(bytes).ok()?;
        (read.schema == SCHEMA && read.bytes() == bytes).then_some(read)
    }

    /// Digest of a plan's hosts, as [`Self::hosts_sha256`] has it.
    pub fn hosts_of(plan: &Plan) -> Sha256 {
        canonical::digest(&plan.hosts)
    }

    /// Digest of a plan's parameters, as [`Self::parameters_sha256`] has it.
    pub fn parameters_of(plan: &Plan) -> Sha256 {
        canonical::digest(&plan.parameters)
    }
}
