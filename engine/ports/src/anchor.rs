//! Anchors: somebody outside who is given the ledger's signed heads, so that its past cannot be rewritten in silence.

use std::time::Duration;

use async_trait::async_trait;
use runbook_model::Sha256;

/// A signed head of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// The ledger's name.
    pub origin: String,
    /// How many records.
    pub size: u64,
    /// The root over them.
    pub root: Sha256,
    /// The signed note (C2SP checkpoint), exactly.
    pub note: String,
}

/// What the ledger was at earlier sizes, for anchors that compare.
#[async_trait]
pub trait History: Send + Sync {
    /// The root over the first `size` records.
    ///
    /// # Errors
    /// When there are not so many, or they cannot be read.
    async fn root(&self, size: u64) -> Result<Sha256, String>;

    /// The proof (RFC 6962) that the first `larger` records begin with the first `smaller` ones, of which there is at least
    /// one.
    ///
    /// # Errors
    /// When there are not so many, or they cannot be read.
    async fn consistency(&self, smaller: u64, larger: u64) -> Result<Vec<Sha256>, String>;
}

/// What an anchor is asked to do.
pub struct Request<'a> {
    /// The head.
    pub head: &'a SignedHead,
    /// The largest size of which this anchor gave a receipt before, 0 for none. A hint: the anchor's own word counts.
    pub known: u64,
    /// The ledger's past.
    pub history: &'a dyn History,
    /// Unix ms.
    pub now_ms: u64,
    /// At the latest after this time it returns.
    pub within: Duration,
}

/// What was got from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// In the form of the anchor's kind; what is kept as evidence.
    pub bytes: Vec<u8>,
    /// For people: by whom, and when.
    pub told: String,
}

/// Why there is no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnchorError {
    /// It could not be reached or did not answer in time. Whether it has taken the head is not known.
    #[error("{0}")]
    Unreachable(String),
    /// It answered that it does not take the head, or it is set up wrongly: asking again changes nothing before somebody
    /// mends it.
    #[error("{0}")]
    Refused(String),
    /// What it answered is not what was asked for, or not by the key that it should be by: no receipt.
    #[error("{0}")]
    NotAReceipt(String),
    /// It holds a head that contradicts this ledger: another root at a size, or more records than the ledger has. One of
    /// the two was rolled back or rewritten.
    #[error("it holds a head of {size} records that is none of this ledger's: {why}")]
    OtherHead {
        /// The size there.
        size: u64,
        /// What differs.
        why: String,
    },
}

/// Somebody outside.
///
/// What a receipt proves, and against whom, depends on the kind:
///
/// | kind | proves | against | not |
/// | --- | --- | --- | --- |
/// | `witness` | that the head was seen at a time, and continues every head seen before | the owner of the ledger's key and host | lies told before sealing |
/// | `rfc3161` | that the head existed at a time | back-dating by anybody but the authority | that there is no second history |
/// | `git` | that a copy of the head was pushed | an insider without rights on the remote | a forced push by who owns both |
/// | `file` | that a copy was written | an insider without rights on that disk | the same with them |
/// | `syslog` | nothing by itself: syslog answers nothing. The collector's own copy does | the same | loss on the way |
#[async_trait]
pub trait Anchor: Send + Sync {
    /// Its name in the settings.
    fn name(&self) -> &str;

    /// `rfc3161`, `witness`, `git`, `file` or `syslog`.
    fn kind(&self) -> &'static str;

    /// Gives it the head, and verifies what it answers as far as that is possible here. It may be called twice with the
    /// same head, also after an error: the second receipt is as good as the first. Heads are given in growing order, but
    /// two processes may give theirs at the same time.
    ///
    /// # Errors
    /// Within `within`, or a little later.
    async fn anchor(&self, request: Request<'_>) -> Result<Receipt, AnchorError>;

    /// Whether it could be asked now, as far as can be told without giving it anything. The text is for people.
    ///
    /// # Errors
    /// `Unreachable` or `Refused`.
    async fn reach(&self, within: Duration) -> Result<String, AnchorError>;
}
