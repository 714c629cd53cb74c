//! What the caller brings from elsewhere: keys that it vouches for, and heads that others were shown.

use runbook_ledger::{Checkpoint, KeyChain, VerifierKey, chain, checkpoint, note};
use runbook_model::Sha256;

use super::upkeep::Upkeep;
use super::{Code, Place, Verdict};
use crate::check::Gap;

/// What the caller trusts, and what it holds against the ledger.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// Ledger keys.
    pub keys: Vec<VerifierKey>,
    /// Keys of other kinds (witnesses), as they are written.
    pub others: Vec<String>,
    /// Signed heads got elsewhere: what they are called, and their notes.
    pub against: Vec<(String, String)>,
    /// Heads that persons saw and signed together with what they decided: where, and the head.
    pub seen: Vec<(String, Checkpoint)>,
}

impl Trust {
    /// Whether the ledger's keys are vouched for: one of the chain vouches for all of it. Says so in the verdict.
    pub fn pins(&self, keys: &KeyChain, verdict: &mut Verdict) -> bool {
        let key = keys.current();
        verdict.ledger_key = Some(key.to_string());
        if self.keys.is_empty() {
            verdict.unchecked("whether the ledger's key is the right one: give its public half with --pin FILE");
            return false;
        }
        verdict.pinned = keys.holds_any(&self.keys);
        if self.keys.contains(key) {
            verdict.held("the ledger's key is the pinned one");
        } else if verdict.pinned {
            verdict.held("the pinned key and the ledger's are one chain: each has signed for the next");
        } else {
            let pinned: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
            let text = format!("the ledger is sealed with {key}, and pinned is {}", pinned.join(", "));
            verdict.found(Code::UntrustedKey, Place::default(), text);
        }
        verdict.pinned
    }
}

/// The heads that a ledger is compared with while it is read.
#[derive(Debug, Default)]
pub struct Against {
    heads: Vec<(String, Checkpoint)>,
}

impl Against {
    /// Reads the heads. One that the ledger's key did not sign in its time shows nothing: anybody can write it.
    pub fn new(trust: &Trust, keys: &KeyChain, verdict: &mut Verdict) -> Self {
        let mut heads = Vec::new();
        for (name, note) in &trust.against {
            match keys.verify(note) {
                Ok(head) => heads.push((name.clone(), head)),
                Err(error) => {
                    let code = if is_of_another_key(&error) { Code::UntrustedKey } else { Code::NotChecked };
                    let text = format!("the head in {name} cannot be compared: {error}");
                    verdict.found(code, Place::default(), text);
                }
            }
        }
        let of_this = |(_, head): &&(String, Checkpoint)| head.origin == keys.current().name();
        heads.extend(trust.seen.iter().filter(of_this).cloned());
        heads.sort_by_key(|(_, head)| head.size);
        Self { heads }
    }

    /// Compares with the ledger's root at this size. To be called for each size from 0 on, in order; cheap where no head
    /// is of that size. `upkeep` has the records up to there: one that says that an older copy was put back explains a
    /// head of what is gone.
    pub fn at(&mut self, size: u64, root: impl FnOnce() -> Sha256, upkeep: &Upkeep, verdict: &mut Verdict) {
        if self.heads.first().is_none_or(|(_, head)| head.size != size) {
            return;
        }
        let root = root();
        while let Some((name, head)) = self.heads.first().filter(|(_, head)| head.size == size) {
            if head.root == root {
                verdict.held(format!("the head in {name}, of {size} records, is of the same history"));
            } else if let Some(what) = upkeep.explains(size) {
                verdict.gaps.push(Gap { host: None, step: None, what: format!("the head in {name}: {what}") });
            } else {
                let text = format!(
                    "the head in {name} is of another history: its {size} records have the root {}, and here {root}",
                    head.root
                );
                verdict.found(Code::Forked, Place::default(), text);
            }
            self.heads.remove(0);
        }
    }

    /// Heads of longer ledgers than what was read.
    pub fn longer(self) -> Vec<(String, Checkpoint)> {
        self.heads
    }
}

/// Whether a head was refused for its signature, and not for its form.
pub fn is_of_another_key(error: &chain::Error) -> bool {
    use checkpoint::Error::{Note, OtherOrigin};
    match error {
        chain::Error::Head(Note(note::Error::NotSigned(_)) | OtherOrigin { .. }) => true,
        chain::Error::Head(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use runbook_ledger::FileKey;

    use super::*;
    use crate::verdict::Subject;

    fn key(seed: u8) -> (FileKey, VerifierKey) {
        let secret = FileKey::from_seed([seed; 32]);
        let public = VerifierKey::new("here", &secret.public_key()).unwrap();
        (secret, public)
    }

    fn head(seed: u8, size: u64, root: &[u8]) -> String {
        let (secret, public) = key(seed);
        let head = Checkpoint { origin: "here".into(), size, root: Sha256::of(root) };
        head.sign(None, &public, |bytes| Ok(secret.sign(bytes))).unwrap()
    }

    fn compare(notes: &[String]) -> (Verdict, usize) {
        let mut verdict = Verdict::new(Subject::Run, "r");
        let against = notes.iter().enumerate().map(|(n, note)| (format!("{n}.note"), note.clone())).collect();
        let trust = Trust { against, ..Trust::default() };
        let mut against = Against::new(&trust, &KeyChain::new(key(7).1), &mut verdict);
        for size in 0..=5 {
            against.at(size, || Sha256::of(b"ours"), &Upkeep::default(), &mut verdict);
        }
        (verdict, against.longer().len())
    }

    #[test]
    fn a_head_of_another_history_is_a_fork_and_one_by_another_key_shows_nothing() {
        assert_eq!(compare(&[head(7, 5, b"ours"), head(7, 3, b"ours")]).0.checked.len(), 2);
        assert_eq!(compare(&[head(7, 5, b"theirs")]).0.code, 21);
        assert_eq!(compare(&[head(8, 5, b"theirs")]).0.code, 22);
        assert_eq!(compare(&["no head".to_owned()]).0.code, 30);
        assert_eq!(compare(&[head(7, 9, b"later")]).1, 1, "what is longer is for the caller to judge");
    }

    #[test]
    fn a_head_that_a_person_signed_is_compared_and_one_of_another_ledger_is_not() {
        let seen = |origin: &str, size, root: &[u8]| {
            let head = Checkpoint { origin: origin.into(), size, root: Sha256::of(root) };
            let trust = Trust { seen: vec![("the approval of jane".into(), head)], ..Trust::default() };
            let mut verdict = Verdict::new(Subject::Run, "r");
            let mut against = Against::new(&trust, &KeyChain::new(key(7).1), &mut verdict);
            for size in 0..=5 {
                against.at(size, || Sha256::of(b"ours"), &Upkeep::default(), &mut verdict);
            }
            (verdict.code, verdict.checked.len())
        };
        assert_eq!(seen("here", 3, b"ours").1, 1);
        assert_eq!(seen("here", 3, b"theirs").0, 21);
        assert_eq!(seen("there", 3, b"theirs").1, 0);
    }

    #[test]
    fn a_key_is_pinned_with_its_name() {
        let mut verdict = Verdict::new(Subject::Run, "r");
        let (secret, ours) = key(7);
        let chain = KeyChain::new(ours.clone());
        let renamed = VerifierKey::new("there", &secret.public_key()).unwrap();
        let trust = |keys: Vec<VerifierKey>| Trust { keys, ..Trust::default() };
        assert!(!Trust::default().pins(&chain, &mut verdict) && !verdict.is_bad());
        assert!(trust(vec![key(8).1, ours.clone()]).pins(&chain, &mut verdict) && verdict.pinned);
        assert!(!trust(vec![renamed]).pins(&chain, &mut verdict));
        assert_eq!(verdict.code, 22);
    }
}
