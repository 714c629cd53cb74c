//! What stands in an evidence bundle: each file's content, made from the records, the plan and the ledger's key.
//!
//! Nothing here but [`verify`] reads or writes a file, and nothing depends on when or where a bundle is made: the same run under the same
//! signed head gives the same bytes. The writer (`evidence export`) brings the contents that are streamed (records, blobs,
//! tiles, proofs), and puts all of it in its place.

mod approvals;
mod attest;
mod cmmc;
mod document;
mod names;
mod oscal;
mod purged;
mod redactions;
mod rendered;
mod texts;
pub mod verify;

use runbook_ledger::VerifierKey;
use runbook_ledger::sshsig::{self, Message};
use runbook_model::event::{Event, Transfer};
use runbook_model::{Sha256, canonical};

pub use approvals::{Copied, SIGNERS, approvers, authorization};
pub use attest::{Link, cells, key_id, layout, link, statement};
pub use cmmc::{log_begin, log_line};
pub use document::{ExportDocument, schema_of_export};
pub use names::Names;
pub use oscal::assessment_results;
pub use purged::{PurgedFacts, REMOVED, REQUEST, purged, purged_readme, purged_verify_txt};
pub use redactions::{RedactedOutput, RedactionSaid, redacted_path, redactions};
pub use rendered::rendered;
pub use texts::{Facts, Stamp, readme, verify_txt};

/// The purpose for which `SHA256SUMS` is signed.
pub const NAMESPACE: &str = "runbook-bundle@v1";

/// The verifier that goes with each bundle.
pub const VERIFY_PY: &str = include_str!("verify.py");

/// Why something could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the ledger's key could not sign the bundle: {0}")]
pub struct NotSigned(pub String);

/// What signs exactly the bytes that it is given; an error says why it cannot.
pub type SignBytes<'a> = &'a dyn Fn(&[u8]) -> Result<[u8; 64], String>;

/// The ledger's key: its name and public half, and what signs with its private half.
#[derive(Clone, Copy)]
pub struct Signing<'a> {
    /// The public half.
    pub key: &'a VerifierKey,
    /// Signs with the private half.
    pub signer: SignBytes<'a>,
}

impl Signing<'_> {
    /// `SHA256SUMS.sig`.
    ///
    /// # Errors
    /// When the key cannot be used.
    pub fn sums(&self, sums: &Message) -> Result<String, NotSigned> {
        sshsig::sign(NAMESPACE, sums, &self.key.public_key(), self.signer).map_err(|error| NotSigned(error.to_string()))
    }

    /// A DSSE envelope, as it stands in its file.
    pub(crate) fn envelope(&self, payload_type: &str, payload: &[u8]) -> Result<Vec<u8>, NotSigned> {
        let id = key_id(&self.key.public_key());
        let envelope = runbook_ledger::dsse::sign(payload_type, payload, &id, self.signer);
        Ok(envelope.map_err(|error| NotSigned(error.to_string()))?.bytes())
    }
}

/// `trust/allowed_signers`: by which key `SHA256SUMS` is signed. Its principal is the ledger's name.
pub fn allowed_signers(key: &VerifierKey) -> String {
    let line = sshsig::public_key_line(&key.public_key());
    format!("{} namespaces=\"{NAMESPACE}\" {line}\n", key.name())
}

/// A line of `SHA256SUMS`.
pub fn sums_line(digest: &Sha256, path: &str) -> String {
    format!("{digest}  {path}\n")
}

/// The contents that a record names. Lists of transfers name further ones: [`downloads`].
pub fn named(event: &Event) -> Vec<Sha256> {
    match event {
        Event::RunOpened(header) => {
            let approvals = header.approvals.iter().flat_map(|used| [used.document, used.signature]);
            let change = header.change.as_ref().and_then(|seen| seen.answer);
            let sources = header.inventory_sources.iter().filter(|source| !source.withheld).map(|source| source.sha256);
            let files = [header.permit, header.policy, header.people, change].into_iter().flatten();
            files.chain(approvals).chain(sources).collect()
        }
        Event::RunResumed { permit, .. } | Event::PermitChanged { permit, .. } => permit.iter().copied().collect(),
        Event::MonitoringMuted { exchange: said, .. } | Event::MonitoringUnmuted { proof: said, .. } => vec![*said],
        Event::AttemptStarted { intent, .. } => vec![intent.command_sha256],
        Event::Measured { manifest, changes, .. } => manifest.iter().chain(changes).copied().collect(),
        Event::AttemptEnded { report, .. } => {
            let blobs = [report.stdout.blob, report.stderr.blob, report.transfers, report.timing, report.undeclared];
            blobs.into_iter().flatten().collect()
        }
        _ => Vec::new(),
    }
}

/// The contents of files that were fetched, from a list of transfers; none when it is no such list.
pub fn downloads(list: &[u8]) -> Vec<Sha256> {
    let moved: Vec<Transfer> = serde_json::from_slice(list).unwrap_or_default();
    moved.into_iter().filter_map(|moved| moved.blob).collect()
}

/// Where a content stands in a bundle.
pub fn blob_path(digest: &Sha256) -> String {
    let digest = digest.to_string();
    format!("blobs/sha256/{}/{digest}", &digest[..2])
}

/// JSON as it stands in a file of a bundle: canonical, one line.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut out = canonical::bytes(value);
    out.push(b'\n');
    out
}
