//! What a check of evidence said (`verdict/v1`): of a run in its project, or of a bundle, in the same words and codes.
//!
//! Whoever checks tells what was found, in the order of the checks; the verdict decides what counts. Codes from 20 on are
//! decided by the first finding, for what is found after it may follow from it. 30 counts only when nothing worse was
//! found. Below, what is missing (12) is told before what was withheld (13), that before keys that nobody vouched for
//! (11), and that before the lack of an anchor outside (10).

pub mod contents;
mod text;
pub mod trust;
pub mod upkeep;

use runbook_model::Sha256;
use serde::Serialize;

use crate::check::Gap;
use crate::outside::ReceiptCheck;

/// What a verdict comes to; its number is the program's exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Verified, and somebody outside holds a head of the ledger.
    Anchored = 0,
    /// Verified; no outside anchor.
    Local = 10,
    /// Consistent in itself; the keys are not pinned.
    NotPinned = 11,
    /// Gaps, unknown outcomes, truncated or missing contents.
    Incomplete = 12,
    /// A redacted edition; the rest is as it was.
    Redacted = 13,
    /// Something is not as it was sealed.
    Tampered = 20,
    /// Another history than one that was signed.
    Forked = 21,
    /// By a key that is not the pinned one, or that was not in force.
    UntrustedKey = 22,
    /// It could not be read.
    NotChecked = 30,
}

impl Code {
    /// In a few words.
    pub fn words(self) -> &'static str {
        match self {
            Code::Anchored => "verified and anchored outside",
            Code::Local => "verified, no outside anchor",
            Code::NotPinned => "consistent in itself, key not pinned",
            Code::Incomplete => "incomplete",
            Code::Redacted => "a redacted edition, the rest verified",
            Code::Tampered => "tampered",
            Code::Forked => "forked or rolled back",
            Code::UntrustedKey => "untrusted key",
            Code::NotChecked => "could not check",
        }
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }
}

/// What was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A run in its project's ledger.
    Run,
    /// A bundle.
    Bundle,
}

/// Where something is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Place {
    /// Place in the ledger of the record.
    pub record: Option<u64>,
    /// The file of the bundle, or the blob's digest in a store.
    pub file: Option<String>,
}

impl Place {
    /// A record.
    pub fn record(seq: u64) -> Self {
        Self { record: Some(seq), file: None }
    }

    /// A file of the bundle.
    pub fn file(name: impl Into<String>) -> Self {
        Self { record: None, file: Some(name.into()) }
    }

    /// A content.
    pub fn blob(digest: &Sha256) -> Self {
        Self::file(digest.to_string())
    }
}

/// `verdict/v1`.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    schema: &'static str,
    /// What was checked.
    pub of: Subject,
    /// The run; empty while not even that is known.
    pub run_id: String,
    /// The exit code.
    pub code: u8,
    /// In a few words.
    pub verdict: &'static str,
    /// Where the first thing is that decided a code from 20 on.
    pub first_bad: Option<Place>,
    /// What is wrong, the first thing first.
    pub problems: Vec<String>,
    /// What the record does not have.
    pub gaps: Vec<Gap>,
    /// What was checked, and held.
    pub checked: Vec<String>,
    /// What could not be checked.
    pub not_checked: Vec<String>,
    /// The ledger's key is one that the caller vouched for.
    pub pinned: bool,
    /// Somebody outside holds a head that covers the run.
    pub anchored: bool,
    /// What came of each receipt that was looked at.
    pub receipts: Vec<ReceiptCheck>,
    /// Parts of outputs are withheld.
    pub redacted: bool,
    /// The ledger's key (C2SP verifier key).
    pub ledger_key: Option<String>,
    /// How many records were read.
    pub records: u64,
    /// Size of the ledger that the root is of.
    pub size: u64,
    /// The root.
    pub root: Option<String>,
    #[serde(skip)]
    found: Option<Code>,
}

impl Verdict {
    /// Before any check.
    pub fn new(of: Subject, run_id: impl Into<String>) -> Self {
        let mut verdict = Self {
            schema: "verdict/v1",
            of,
            run_id: run_id.into(),
            code: 0,
            verdict: "",
            first_bad: None,
            problems: Vec::new(),
            gaps: Vec::new(),
            checked: Vec::new(),
            not_checked: Vec::new(),
            pinned: false,
            anchored: false,
            receipts: Vec::new(),
            redacted: false,
            ledger_key: None,
            records: 0,
            size: 0,
            root: None,
            found: None,
        };
        verdict.settle();
        verdict
    }

    /// Something is wrong, or could not be read (`NotChecked`).
    pub fn found(&mut self, code: Code, place: Place, problem: impl Into<String>) {
        debug_assert!(code.number() >= 20, "what is not wrong has a field of its own");
        if self.found.is_none_or(|known| known == Code::NotChecked && code != Code::NotChecked) {
            self.found = Some(code);
            self.first_bad = Some(place);
        }
        self.problems.push(problem.into());
        self.settle();
    }

    /// Something was checked, and held.
    pub fn held(&mut self, what: impl Into<String>) {
        self.checked.push(what.into());
    }

    /// Something could not be checked.
    pub fn unchecked(&mut self, what: impl Into<String>) {
        self.not_checked.push(what.into());
    }

    /// Whether something was found wrong so far.
    pub fn is_bad(&self) -> bool {
        self.found.is_some()
    }

    /// The code as things stand, also in its fields. To be called when other fields were changed.
    pub fn settle(&mut self) -> Code {
        let code = match self.found {
            Some(code) => code,
            None if !self.gaps.is_empty() => Code::Incomplete,
            None if self.redacted => Code::Redacted,
            None if !self.pinned => Code::NotPinned,
            None if !self.anchored => Code::Local,
            None => Code::Anchored,
        };
        self.code = code.number();
        self.verdict = code.words();
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap() -> Gap {
        Gap { host: None, step: None, what: "no end".into() }
    }

    #[test]
    fn the_first_finding_decides_and_what_could_not_be_read_only_alone() {
        let mut verdict = Verdict::new(Subject::Bundle, "");
        verdict.found(Code::NotChecked, Place::file("a"), "unreadable");
        assert_eq!((verdict.code, verdict.verdict), (30, "could not check"));
        verdict.found(Code::Forked, Place::record(4), "forked");
        verdict.found(Code::Tampered, Place::record(3), "changed");
        verdict.found(Code::NotChecked, Place::default(), "unreadable");
        assert_eq!((verdict.code, &verdict.first_bad), (21, &Some(Place::record(4))));
        assert_eq!(verdict.problems.len(), 4);
    }

    #[test]
    fn what_is_missing_counts_before_what_is_withheld_and_that_before_the_keys() {
        let mut verdict = Verdict::new(Subject::Run, "r");
        assert_eq!(verdict.settle(), Code::NotPinned);
        verdict.pinned = true;
        assert_eq!(verdict.settle(), Code::Local);
        verdict.anchored = true;
        assert_eq!(verdict.settle(), Code::Anchored);
        verdict.redacted = true;
        verdict.pinned = false;
        assert_eq!(verdict.settle(), Code::Redacted);
        verdict.gaps.push(gap());
        assert_eq!(verdict.settle(), Code::Incomplete);
    }
}
