//! Signed heads (C2SP tlog-checkpoint): "the ledger named so, of this size, has this root", as a signed note.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::Sha256;

use crate::note::{self, Note, VerifierKey};

/// Why a checkpoint was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The note is none, or not by the key.
    #[error(transparent)]
    Note(#[from] note::Error),
    /// The note's text is no checkpoint.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It is of another ledger.
    #[error("the checkpoint is of the ledger {found:?}, not of {expected:?}")]
    OtherOrigin {
        /// The ledger asked for.
        expected: String,
        /// The one it is of.
        found: String,
    },
    /// The tree is smaller than the one signed last: it has lost records, and is not signed.
    #[error("a ledger of {signed} records was signed before and it has only {size} now: records are missing")]
    Shrunk {
        /// Size signed last.
        signed: u64,
        /// Size now.
        size: u64,
    },
    /// A tree of the same size was signed with another root.
    #[error("a ledger of {0} records was signed before with another root: its records were changed")]
    Forked(u64),
}

/// A head without its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The ledger's name; also the name of its key.
    pub origin: String,
    /// How many records.
    pub size: u64,
    /// The tree's root.
    pub root: Sha256,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root.0))
    }

    /// Reads a checkpoint's text. Lines after the third are extensions and are passed over, as the format asks.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let text = text.strip_suffix('\n').ok_or(Error::Malformed("it does not end with a line end"))?;
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(Error::Malformed("it has fewer than three lines"));
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(Error::Malformed("it has an empty line"));
        }
        let plain = size.bytes().all(|digit| digit.is_ascii_digit()) && (size == "0" || !size.starts_with('0'));
        let size = if plain { size.parse().ok() } else { None };
        let root = STANDARD.decode(root).ok().and_then(|bytes| bytes.try_into().ok());
        Ok(Self {
            origin: origin.to_owned(),
            size: size.ok_or(Error::Malformed("its second line is not a size"))?,
            root: Sha256(root.ok_or(Error::Malformed("its third line is not a root"))?),
        })
    }

    /// Signs it. `last` is the newest checkpoint that was signed before: a tree that is smaller, or of the same size and
    /// different, is not signed. That a larger tree contains the smaller one follows from its being built on the same
    /// frontier; who cannot know that must verify the records first ([`Verifier`](crate::Verifier)).
    ///
    /// # Errors
    /// `Shrunk`, `Forked`; `OtherOrigin` when the key or the last checkpoint has another name; `Note` when it could not
    /// be signed.
    pub fn sign(
        &self,
        last: Option<&Checkpoint>,
        key: &VerifierKey,
        signer: impl FnOnce(&[u8]) -> Result<[u8; 64], String>,
    ) -> Result<String, Error> {
        self.must_be_of(key.name())?;
        if let Some(last) = last {
            self.must_be_of(&last.origin)?;
            if self.size < last.size {
                return Err(Error::Shrunk { signed: last.size, size: self.size });
            }
            if self.size == last.size && self.root != last.root {
                return Err(Error::Forked(self.size));
            }
        }
        Ok(note::sign(&self.text(), key, signer)?)
    }

    /// Reads a signed checkpoint and verifies its signature and its ledger's name.
    ///
    /// # Errors
    /// When it is not a checkpoint of the ledger that `key` signs for, signed by it.
    pub fn verify(note: &str, key: &VerifierKey) -> Result<Self, Error> {
        let note = Note::parse(note)?;
        let checkpoint = Self::parse(note.verify(key)?)?;
        checkpoint.must_be_of(key.name())?;
        Ok(checkpoint)
    }

    fn must_be_of(&self, origin: &str) -> Result<(), Error> {
        if self.origin == origin {
            return Ok(());
        }
        Err(Error::OtherOrigin { expected: origin.to_owned(), found: self.origin.clone() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::FileKey;

    fn at(size: u64, root: &[u8]) -> Checkpoint {
        Checkpoint { origin: "runbook/here".into(), size, root: Sha256::of(root) }
    }

    fn key(seed: u8) -> (FileKey, VerifierKey) {
        let key = FileKey::from_seed([seed; 32]);
        let public = VerifierKey::new("runbook/here", &key.public_key()).unwrap();
        (key, public)
    }

    #[test]
    fn a_signed_checkpoint_is_three_lines_and_a_signature() {
        let (secret, public) = key(7);
        let note = at(5, b"").sign(None, &public, |bytes| Ok(secret.sign(bytes))).unwrap();
        let text = "runbook/here\n5\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\u{2014} runbook/here ";
        assert!(note.starts_with(text), "{note}");
        assert_eq!(Checkpoint::verify(&note, &public), Ok(at(5, b"")));
    }

    #[test]
    fn a_checkpoint_by_another_key_or_of_another_ledger_is_refused() {
        let (secret, public) = key(7);
        let note = at(5, b"").sign(None, &public, |bytes| Ok(secret.sign(bytes))).unwrap();
        assert!(matches!(Checkpoint::verify(&note, &key(8).1), Err(Error::Note(note::Error::NotSigned(_)))));

        let there = Checkpoint { origin: "runbook/there".into(), ..at(5, b"") };
        let unsigned = there.sign(None, &public, |bytes| Ok(secret.sign(bytes)));
        assert!(matches!(unsigned, Err(Error::OtherOrigin { .. })));
        let note = note::sign(&there.text(), &public, |bytes| Ok(secret.sign(bytes))).unwrap();
        assert!(matches!(Checkpoint::verify(&note, &public), Err(Error::OtherOrigin { .. })));
    }

    #[test]
    fn a_ledger_that_shrank_or_forked_is_not_signed() {
        let (secret, public) = key(7);
        let sign = |new: Checkpoint| new.sign(Some(&at(5, b"")), &public, |bytes| Ok(secret.sign(bytes)));
        assert_eq!(sign(at(4, b"x")), Err(Error::Shrunk { signed: 5, size: 4 }));
        assert_eq!(sign(at(5, b"x")), Err(Error::Forked(5)));
        assert!(sign(at(5, b"")).is_ok());
        assert!(sign(at(6, b"x")).is_ok());
    }

    #[test]
    fn only_the_one_way_to_write_a_size_is_read() {
        let root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        assert_eq!(Checkpoint::parse(&format!("o\n0\n{root}\nextension\n")).unwrap().size, 0);
        for size in ["", "05", "+5", "-5", "5 ", "0x5", "18446744073709551616"] {
            assert!(Checkpoint::parse(&format!("o\n{size}\n{root}\n")).is_err(), "{size:?}");
        }
        for text in [
            "",
            "o\n5\n",
            &format!("o\n5\n{root}"),
            &format!("\n5\n{root}\n"),
            "o\n5\nAAAA\n",
            &format!("o\n5\n{root}\n\n"),
        ] {
            assert!(Checkpoint::parse(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(\\PC|\n|[0-9]){0,120}") {
            let _ = Checkpoint::parse(&text);
        }

        #[test]
        fn what_was_written_is_read(size: u64, root: [u8; 32]) {
            let checkpoint = Checkpoint { origin: "runbook/here".into(), size, root: Sha256(root) };
            prop_assert_eq!(Checkpoint::parse(&checkpoint.text()), Ok(checkpoint));
        }
    }
}
