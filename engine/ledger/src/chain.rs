//! The keys of a ledger, one after the other: which key must have signed a head of which size.
//!
//! A key takes another's place by a record ([`Notice::KeyRotated`]) that both have signed; the head over that record is
//! signed by both too. Heads before it are the old key's, heads after it the new one's. So whoever trusts one key of the
//! chain can trust all of it: from an older key forward, for it has named its successor; from a newer one back, for what
//! it signs contains the older heads.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::Notice;
use runbook_model::notice::rotation_text;

use crate::checkpoint::{self, Checkpoint};
use crate::note::{self, Note, VerifierKey};

/// Why a rotation or a head was refused: in every case a key that is not to be trusted for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A rotation names something that is no key.
    #[error("the rotation in record {seq} names a key that is none: {why}")]
    NoKey {
        /// The record.
        seq: u64,
        /// Why.
        why: note::Error,
    },
    /// The key that gives way is not the one in force.
    #[error("the rotation in record {seq} takes the place of {named}, and {in_force} was in force")]
    NotInForce {
        /// The record.
        seq: u64,
        /// The key that the rotation says was in force.
        named: String,
        /// The one that was.
        in_force: String,
    },
    /// The new key cannot be one of this ledger, or was in force before.
    #[error("the rotation in record {seq} is to {new}, which {why}")]
    Unfit {
        /// The record.
        seq: u64,
        /// The new key.
        new: String,
        /// Why not.
        why: &'static str,
    },
    /// One of the two signatures is missing or false.
    #[error("the rotation in record {seq} is not signed by the {which} key")]
    Unsigned {
        /// The record.
        seq: u64,
        /// `old` or `new`.
        which: &'static str,
    },
    /// A head was signed by a key whose time was over, or had not begun.
    #[error("the head of {size} records is signed by {by}, and {in_force} was in force")]
    OutOfTime {
        /// The head's size.
        size: u64,
        /// By which key of the chain.
        by: String,
        /// The key that should have signed.
        in_force: String,
    },
    /// A head that no key of the chain has signed, or that is none.
    #[error(transparent)]
    Head(#[from] checkpoint::Error),
    /// The key that is said to be in force is not where the rotations lead.
    #[error("the rotations on record lead to {led}, and {current} is given as the ledger's key")]
    OtherEnd {
        /// Where they lead.
        led: String,
        /// What was given.
        current: String,
    },
}

/// A key and from which size on heads are signed by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The key.
    pub key: VerifierKey,
    /// The smallest head of its time; 0 for the first key.
    pub from: u64,
}

/// The keys of a ledger, oldest first; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChain {
    links: Vec<Link>,
}

impl KeyChain {
    /// A ledger whose key was never changed so far.
    pub fn new(first: VerifierKey) -> Self {
        Self { links: vec![Link { key: first, from: 0 }] }
    }

    /// The chain of the rotations on record, given in the ledger's order with their places; other notices are passed
    /// over. `current` is the key that is said to be in force now; without a rotation it is the only one.
    ///
    /// # Errors
    /// The first rotation that does not hold; `OtherEnd` when they do not lead to `current`.
    pub fn of<'a>(current: &VerifierKey, notices: impl IntoIterator<Item = (u64, &'a Notice)>) -> Result<Self, Error> {
        let mut rotations = notices.into_iter().filter(|(_, notice)| matches!(notice, Notice::KeyRotated { .. }));
        let Some((seq, first)) = rotations.next() else { return Ok(Self::new(current.clone())) };
        let Notice::KeyRotated { old_key, .. } = first else { return Ok(Self::new(current.clone())) };
        let mut chain = Self::new(old_key.parse().map_err(|why| Error::NoKey { seq, why })?);
        chain.push(seq, first)?;
        for (seq, notice) in rotations {
            chain.push(seq, notice)?;
        }
        if chain.current() != current {
            return Err(Error::OtherEnd { led: chain.current().to_string(), current: current.to_string() });
        }
        Ok(chain)
    }

    /// The next notice on record at this place; anything but a rotation is passed over.
    ///
    /// # Errors
    /// When the rotation does not hold; the chain is then as it was before.
    pub fn push(&mut self, seq: u64, notice: &Notice) -> Result<(), Error> {
        let Notice::KeyRotated { old_key, new_key, old_signature, new_signature, .. } = notice else { return Ok(()) };
        let read = |key: &str| key.parse::<VerifierKey>().map_err(|why| Error::NoKey { seq, why });
        let (old, new) = (read(old_key)?, read(new_key)?);
        if old != *self.current() {
            let in_force = self.current().to_string();
            return Err(Error::NotInForce { seq, named: old.to_string(), in_force });
        }
        let unfit = |why| Error::Unfit { seq, new: new.to_string(), why };
        if new.name() != old.name() {
            return Err(unfit("has the name of another ledger"));
        }
        if self.links.iter().any(|link| link.key == new) {
            return Err(unfit("was in force before"));
        }
        if self.links.last().is_some_and(|link| seq < link.from) {
            return Err(unfit("stands before the rotation that it follows"));
        }
        let text = rotation_text(old_key, new_key, seq);
        for (which, key, signature) in [("old", &old, old_signature), ("new", &new, new_signature)] {
            let signature = STANDARD.decode(signature).unwrap_or_default();
            if !key.has_signed(text.as_bytes(), &signature) {
                return Err(Error::Unsigned { seq, which });
            }
        }
        self.links.push(Link { key: new, from: seq + 1 });
        Ok(())
    }

    /// The key in force at the end.
    pub fn current(&self) -> &VerifierKey {
        &self.links[self.links.len() - 1].key
    }

    /// All keys with their times, oldest first.
    pub fn links(&self) -> &[Link] {
        &self.links
    }

    /// The key that signs heads of this size.
    pub fn in_force(&self, size: u64) -> &VerifierKey {
        let link = self.links.iter().rev().find(|link| link.from <= size);
        &link.unwrap_or(&self.links[0]).key
    }

    /// Whether one of these keys is in the chain, and so vouches for all of it.
    pub fn holds_any(&self, pinned: &[VerifierKey]) -> bool {
        self.links.iter().any(|link| pinned.contains(&link.key))
    }

    /// Reads a signed head: it must be signed by the key in force at its size; the head over a rotation by both keys; and
    /// by no other key of the chain.
    ///
    /// # Errors
    /// `OutOfTime` when another key of the chain has signed it; `Head` when none has, or it is no head.
    pub fn verify(&self, note: &str) -> Result<Checkpoint, Error> {
        let parsed = Note::parse(note).map_err(checkpoint::Error::from)?;
        // Nothing of the text is believed: it only says which key to look for.
        let size = Checkpoint::parse(parsed.text()).map_err(Error::Head)?.size;
        let at = self.links.iter().rposition(|link| link.from <= size).unwrap_or(0);
        let before = if at > 0 && self.links[at].from == size { at - 1 } else { at };
        let in_force = &self.links[at].key;
        for (place, link) in self.links.iter().enumerate() {
            let signed = parsed.verify(&link.key).is_ok();
            if signed && !(before..=at).contains(&place) {
                let (by, in_force) = (link.key.to_string(), in_force.to_string());
                return Err(Error::OutOfTime { size, by, in_force });
            }
        }
        for link in &self.links[before..at] {
            // The head over the rotation: the old key's last.
            Checkpoint::verify(note, &link.key)?;
        }
        Ok(Checkpoint::verify(note, in_force)?)
    }
}

#[cfg(test)]
mod tests {
    use runbook_model::Sha256;
    use runbook_model::event::Person;

    use super::*;
    use crate::key::FileKey;

    const NAME: &str = "runbook/here";

    fn key(seed: u8) -> (FileKey, VerifierKey) {
        let key = FileKey::from_seed([seed; 32]);
        let public = VerifierKey::new(NAME, &key.public_key()).unwrap();
        (key, public)
    }

    fn rotation(old: u8, new: u8, seq: u64) -> Notice {
        let ((old, old_key), (new, new_key)) = (key(old), key(new));
        let text = rotation_text(&old_key.to_string(), &new_key.to_string(), seq);
        Notice::KeyRotated {
            old_key: old_key.to_string(),
            new_key: new_key.to_string(),
            old_signature: STANDARD.encode(old.sign(text.as_bytes())),
            new_signature: STANDARD.encode(new.sign(text.as_bytes())),
            reason: "yearly".into(),
            by: Person { name: "ann".into(), uid: 1000, from: None },
        }
    }

    fn head(size: u64, by: &[u8]) -> String {
        let at = Checkpoint { origin: NAME.into(), size, root: Sha256::of(b"") };
        let mut note = String::new();
        for (place, seed) in by.iter().enumerate() {
            let (secret, public) = key(*seed);
            let sign = |bytes: &[u8]| Ok(secret.sign(bytes));
            note = match place {
                0 => at.sign(None, &public, sign).unwrap(),
                _ => note::add_signature(&note, &public, sign).unwrap(),
            };
        }
        note
    }

    fn chain() -> KeyChain {
        let notices = [rotation(1, 2, 10), rotation(2, 3, 20)];
        KeyChain::of(&key(3).1, [(10, &notices[0]), (20, &notices[1])]).unwrap()
    }

    #[test]
    fn each_key_signs_in_its_time_and_both_sign_over_the_rotation() {
        let chain = chain();
        for (size, by) in
            [(0, vec![1]), (10, vec![1]), (11, vec![1, 2]), (12, vec![2]), (21, vec![2, 3]), (99, vec![3])]
        {
            assert_eq!(chain.verify(&head(size, &by)).map(|head| head.size), Ok(size));
        }
        assert_eq!(chain.in_force(10), &key(1).1);
        assert_eq!(chain.in_force(11), &key(2).1);
        for pinned in 1..=3 {
            assert!(chain.holds_any(&[key(9).1, key(pinned).1]));
        }
        assert!(!chain.holds_any(&[key(9).1]));
    }

    #[test]
    fn a_key_used_after_or_before_its_time_is_not_trusted() {
        let chain = chain();
        for (size, by) in [(12, vec![1]), (12, vec![1, 2]), (10, vec![2]), (99, vec![2]), (99, vec![3, 1])] {
            let refused = chain.verify(&head(size, &by));
            assert!(matches!(refused, Err(Error::OutOfTime { .. })), "{size} {by:?}: {refused:?}");
        }
        for by in [vec![1], vec![2]] {
            assert!(matches!(chain.verify(&head(11, &by)), Err(Error::Head(_))), "the head over a rotation, by {by:?}");
        }
        assert!(matches!(chain.verify(&head(5, &[9])), Err(Error::Head(_))));
    }

    #[test]
    fn a_rotation_needs_both_signatures_over_its_own_place() {
        let first = || KeyChain::new(key(1).1);
        let whole = rotation(1, 2, 10);
        assert_eq!(first().push(11, &whole), Err(Error::Unsigned { seq: 11, which: "old" }), "at another place");
        for which in ["old", "new"] {
            let mut notice = whole.clone();
            let Notice::KeyRotated { old_signature, new_signature, .. } = &mut notice else { unreachable!() };
            if which == "old" { old_signature } else { new_signature }.clear();
            assert_eq!(first().push(10, &notice), Err(Error::Unsigned { seq: 10, which }));
        }
        let mut exchanged = whole;
        let Notice::KeyRotated { old_signature, new_signature, .. } = &mut exchanged else { unreachable!() };
        std::mem::swap(old_signature, new_signature);
        assert_eq!(first().push(10, &exchanged), Err(Error::Unsigned { seq: 10, which: "old" }));
    }

    #[test]
    fn a_rotation_goes_on_from_the_key_in_force_and_never_back() {
        let mut chain = chain();
        let was = chain.clone();
        assert!(matches!(chain.push(30, &rotation(2, 4, 30)), Err(Error::NotInForce { seq: 30, .. })));
        assert!(matches!(chain.push(30, &rotation(3, 1, 30)), Err(Error::Unfit { seq: 30, .. })));
        assert!(matches!(chain.push(5, &rotation(3, 4, 5)), Err(Error::Unfit { seq: 5, .. })));
        assert_eq!(chain, was);
        let notice = rotation(1, 2, 10);
        assert!(matches!(KeyChain::of(&key(3).1, [(10, &notice)]), Err(Error::OtherEnd { .. })));
        assert!(KeyChain::of(&key(3).1, []).is_ok());
    }
}
