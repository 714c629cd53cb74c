//! What is said between a ledger and a witness (C2SP tlog-witness, `add-checkpoint`): texts alone, no connection.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::Sha256;

use crate::note::{self, Note};

/// The most hashes in a request: more than 63 no tree can need.
pub const PROOF_MAX: usize = 63;

/// The longest request that is read, in bytes: a proof, and a note with room for other witnesses' lines.
pub const REQUEST_BYTES_MAX: usize = 64 << 10;

/// A request that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not in the form.
    #[error("not an add-checkpoint request: {0}")]
    Malformed(&'static str),
    /// Its last part is no signed note.
    #[error(transparent)]
    Note(#[from] note::Error),
}

/// "Of the size that you know of me I have become this."
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the witness is thought to have cosigned last; 0 for none.
    pub old: u64,
    /// The proof of consistency from there; empty from 0.
    pub proof: Vec<Sha256>,
    /// The signed head, exactly.
    pub checkpoint: String,
}

impl AddCheckpoint {
    /// The request's body.
    pub fn text(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            text.push_str(&STANDARD.encode(hash.0));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.checkpoint);
        text
    }

    /// Reads a body. Strict, and never panics.
    ///
    /// # Errors
    /// When it is not in the form, or its last part is no signed note.
    pub fn parse(text: &str) -> Result<(Self, Note), Error> {
        if text.len() > REQUEST_BYTES_MAX {
            return Err(Error::Malformed("it is too long"));
        }
        let (first, mut rest) = text.split_once('\n').ok_or(Error::Malformed("it has one line"))?;
        let old =
            first.strip_prefix("old ").and_then(size).ok_or(Error::Malformed("its first line is not `old SIZE`"))?;
        let mut proof = Vec::new();
        let checkpoint = loop {
            let (line, after) =
                rest.split_once('\n').ok_or(Error::Malformed("it has no empty line after the proof"))?;
            if line.is_empty() {
                break after;
            }
            if proof.len() == PROOF_MAX {
                return Err(Error::Malformed("its proof has more than 63 hashes"));
            }
            let hash = STANDARD.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            proof.push(Sha256(hash.ok_or(Error::Malformed("a line of its proof is not a hash"))?));
            rest = after;
        };
        let note = Note::parse(checkpoint)?;
        Ok((Self { old, proof, checkpoint: checkpoint.to_owned() }, note))
    }
}

/// A size in the one way to write it.
pub fn size(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE: &str = "old 20852014\nPlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\nexample.com/behind-the-sofa\n20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n\u{2014} example.com/behind-the-sofa \
        Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n";

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let (request, note) = AddCheckpoint::parse(EXAMPLE).unwrap();
        assert_eq!((request.old, request.proof.len()), (20_852_014, 2));
        assert!(note.text().starts_with("example.com/behind-the-sofa\n20852163\n"));
        assert_eq!(request.text(), EXAMPLE);
    }

    #[test]
    fn other_forms_are_refused() {
        let hash = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n";
        for (from, to) in [
            ("old 20852014", "old 020852014"),
            ("old 20852014", "old -1"),
            ("old 20852014", "Old 1"),
            ("old 20852014", "old "),
            (hash, "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDp\n"),
            (hash, &hash.repeat(63)),
            ("\n\nexample", "\nexample"),
            ("\u{2014}", "-"),
        ] {
            let text = EXAMPLE.replacen(from, to, 1);
            assert_ne!(text, EXAMPLE);
            assert!(AddCheckpoint::parse(&text).is_err(), "{text}");
        }
        assert!(AddCheckpoint::parse(&EXAMPLE.replacen(hash, &hash.repeat(62), 1)).is_ok());
        assert!(AddCheckpoint::parse(&format!("{EXAMPLE}{}", "x".repeat(REQUEST_BYTES_MAX))).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(old [0-9]{0,22}\n)?(\\PC|\n|[A-Za-z0-9+/=]){0,200}") {
            let _ = AddCheckpoint::parse(&text);
        }
    }
}
