//! What happened to the ledger itself, and to evidence after its run: events that belong to no run.
//!
//! They are sealed in the same ledger as the runs, as a stream of their own whose run is [`RunId::installation`]. The
//! state machine of a run never sees them. A field is only ever added with a default; a changed meaning is a new notice.

use serde::{Deserialize, Serialize};

use crate::approval::Decision;
use crate::digest::Sha256;
use crate::event::{ClockState, Person};
use crate::id::{AttemptId, RunId};
use crate::review::Verdict;
use crate::schedule::Occurrence;
use crate::ticket::{Conclusion, Ticket};

/// An event of the installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Notice {
    /// Nothing happened for a while, and the ledger is still there: an idle one cannot be cut and continued unnoticed.
    Heartbeat {
        /// State of the clock.
        clock: ClockState,
        /// A signed head is promised at least so often (ms).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        every_ms: Option<u64>,
    },
    /// From the next signed head on another key signs.
    KeyRotated {
        /// Verifier key of the key so far (C2SP signed note: `name+hash+base64`).
        old_key: String,
        /// Verifier key of the new one.
        new_key: String,
        /// By the old key over the text of [`rotation_text`], base64.
        old_signature: String,
        /// By the new key over the same text, base64.
        new_signature: String,
        /// Why.
        reason: String,
        /// Who.
        by: Person,
    },
    /// After a crash, what did not read beyond the last signed head was set aside.
    LedgerRecovered {
        /// The ledger's size from which on it was set aside.
        at_size: u64,
        /// Records set aside.
        records: u64,
        /// Blob with what stood there: a JSON line each with `seq`, `run`, `run_seq`, `leaf` and the record's bytes in
        /// `base64`.
        set_aside: Sha256,
        /// What did not read.
        reason: String,
        /// Who.
        by: Person,
    },
    /// An older copy of the database was put back, and a person says so.
    LedgerRestored {
        /// The size that was signed last, as far as is known outside the database.
        known_size: u64,
        /// The root of that size.
        known_root: Sha256,
        /// The size of the copy.
        restored_size: u64,
        /// Why.
        reason: String,
        /// Who.
        by: Person,
    },
    /// Somebody outside holds a head now.
    Anchored {
        /// The anchor's name in the settings.
        anchor: String,
        /// `rfc3161`, `witness`, `git`, `file` or `syslog`.
        kind: String,
        /// Size of the head that was anchored.
        size: u64,
        /// Its root.
        root: Sha256,
        /// Blob with the receipt.
        receipt: Sha256,
    },
    /// Evidence of a run was looked at.
    EvidenceRead {
        /// The run.
        evidence_of: RunId,
        /// With which command.
        command: String,
        /// Who.
        by: Person,
    },
    /// Evidence of a run was given out.
    EvidenceExported {
        /// The run.
        evidence_of: RunId,
        /// SHA-256 of the bundle's `SHA256SUMS`.
        sums_sha256: Sha256,
        /// It was a redacted edition.
        redacted: bool,
        /// Who.
        by: Person,
    },
    /// Segments of an output are withheld in redacted editions from now on. The original stays as it is.
    OutputsRedacted {
        /// Whose output.
        attempt: AttemptId,
        /// `stdout` or `stderr`.
        stream: String,
        /// The output's root.
        root: Sha256,
        /// The first and the last segment of each range that is withheld, counted from 0.
        ranges: Vec<(u64, u64)>,
        /// The rule that found them, or `by hand`.
        rule: String,
        /// Why.
        reason: String,
        /// Who.
        by: Person,
    },
    /// Evidence must not be removed.
    HoldPlaced {
        /// The hold's name.
        hold: String,
        /// Of these runs; empty: of all.
        runs: Vec<RunId>,
        /// Not before (Unix ms); `None`: until it is lifted.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<u64>,
        /// Why.
        reason: String,
        /// Who.
        by: Person,
    },
    /// A hold is over.
    HoldLifted {
        /// The hold's name.
        hold: String,
        /// Why.
        reason: String,
        /// Who.
        by: Person,
    },
    /// Contents of a run were removed after its time. Its leaves stay in the tree.
    Purged {
        /// The run.
        purged_run: RunId,
        /// The request that was signed: blob with its exact bytes.
        request: Sha256,
        /// The signatures over it (SSHSIG), of two persons.
        signatures: Vec<PurgeSignature>,
        /// Blob with the list of what was removed: a digest a line.
        removed: Sha256,
        /// How many records lost their body.
        records: u64,
        /// How many blobs were removed.
        blobs: u64,
        /// Who.
        by: Person,
    },
    /// A run was asked for and not allowed; nothing was begun.
    RunRefused {
        /// The runbook's name.
        runbook: String,
        /// Digest of the plan that would have been run.
        plan_sha256: Sha256,
        /// `apply`, `rollback` or `resume`.
        act: String,
        /// Why, one per reason.
        reasons: Vec<String>,
        /// The occurrence of a schedule that it would have been the run of. It is settled by this.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        occurrence: Option<Occurrence>,
        /// Who asked.
        by: Person,
    },
    /// An occurrence of a schedule was not run, and will not be.
    OccurrenceMissed {
        /// The occurrence. It is settled by this.
        occurrence: Occurrence,
        /// What would have been run: the path of a runbook or of a saved plan.
        would_run: String,
        /// Why.
        why: String,
        /// Whose program says so.
        by: Person,
    },
    /// A person approved or rejected a plan, and the decision was signed or taken in here.
    PlanDecided {
        /// The runbook's name.
        runbook: String,
        /// Digest of the plan.
        plan_sha256: Sha256,
        /// Yes or no.
        decision: Decision,
        /// Short name of whoever signed.
        signer: String,
        /// Blob with the document's exact bytes.
        document: Sha256,
        /// Blob with the armored signature.
        signature: Sha256,
        /// Who took it in.
        by: Person,
    },
    /// Somebody outside was told of something, or could not be.
    Notified {
        /// The channel's name in the settings.
        channel: String,
        /// `smtp`, `slack`, `teams` or `webhook`; empty when the channel is not in the settings any more.
        kind: String,
        /// Who is told: addresses of mail, or the site. No secret.
        to: String,
        /// The message's id, as whoever got it sees it.
        message: String,
        /// What kind of news.
        news: String,
        /// The run that it is about.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        about_run: Option<RunId>,
        /// Digest of what was sent; `None`: nothing was taken.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_sha256: Option<Sha256>,
        /// How often it was tried.
        attempts: u32,
        /// `delivered` or `given_up`.
        outcome: String,
        /// The last answer.
        answer: String,
    },
    /// A run was taken up again, and windows, blackouts and freezes were set aside for it. Its own records say so too.
    WindowsSetAside {
        /// The run.
        resumed_run: RunId,
        /// Why.
        reason: String,
        /// Who.
        by: Person,
    },
    /// A person reviewed a run after it had ended, and the review was signed or taken in here.
    RunReviewed {
        /// The run.
        reviewed_run: RunId,
        /// What came of it.
        verdict: Verdict,
        /// Short name of whoever signed.
        signer: String,
        /// Blob with the document's exact bytes.
        document: Sha256,
        /// Blob with the armored signature.
        signature: Sha256,
        /// Blob with the people's file that said whose key it is, and what they may decide.
        people: Sha256,
        /// Who took it in.
        by: Person,
    },
    /// A change was written down, in a ticket of the project's own.
    ChangeOpened {
        /// The ticket.
        ticket: Box<Ticket>,
        /// Who.
        by: Person,
    },
    /// A ticket of the project's own is closed.
    ChangeClosed {
        /// Its key.
        ticket: String,
        /// What came of the change.
        conclusion: Conclusion,
        /// In a line: the run's summary, or why somebody closed it.
        summary: String,
        /// The run that closed it; `None`: a person did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        closed_by_run: Option<RunId>,
        /// Digest of that run's plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        plan_sha256: Option<Sha256>,
        /// Leaf hash of that run's last record: with it the record of the whole run is fixed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_leaf: Option<Sha256>,
        /// Who.
        by: Person,
    },
    /// The project's settings are other ones than before.
    SettingsChanged {
        /// Digest of the file.
        sha256: Sha256,
        /// What the effective retention classes are from now on, and who is given the ledger's heads: blob.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settings: Option<Sha256>,
        /// Whose command was the first to work with them. Who wrote them, the program cannot know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seen_by: Option<Person>,
    },
}

impl Notice {
    /// The occurrence of a schedule that this settles.
    pub fn settles(&self) -> Option<&Occurrence> {
        match self {
            Self::RunRefused { occurrence, .. } => occurrence.as_ref(),
            Self::OccurrenceMissed { occurrence, .. } => Some(occurrence),
            _ => None,
        }
    }
}

/// A person's signature under a request to remove evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PurgeSignature {
    /// The signer's name in the list of those who may.
    pub signer: String,
    /// The public key, as in an authorized_keys line.
    pub key: String,
    /// The armored SSHSIG.
    pub signature: String,
}

/// What both keys sign when one takes the other's place: nothing else that either ever signs begins like it. `seq` is the
/// place in the ledger of the record that says so, so that it counts nowhere else.
pub fn rotation_text(old_key: &str, new_key: &str, seq: u64) -> String {
    format!("runbook key rotation v1\n{old_key}\n{new_key}\n{seq}\n")
}
