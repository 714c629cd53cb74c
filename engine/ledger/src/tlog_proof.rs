//! A proof in one file (C2SP tlog-proof): that a record is in the ledger whose signed head is in it too.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! index 73894
//! <base64 of each hash of the inclusion proof, a line each>
//!
//! <the checkpoint, exactly>
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::Sha256;

use crate::checkpoint::{self, Checkpoint};
use crate::note::VerifierKey;
use crate::proof::{self, verify_inclusion};

const FORM: &str = "c2sp.org/tlog-proof@v1\n";
/// The most hashes that a proof can have: the tree's height.
const HASHES_MAX: usize = 64;

/// Why a proof was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a proof.
    #[error("not a proof of inclusion: {0}")]
    Malformed(&'static str),
    /// Its checkpoint is none, or not by the key.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The record is not in the ledger at that place.
    #[error(transparent)]
    Proof(#[from] proof::Error),
}

/// A proof that was read, or is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// The record's place.
    pub index: u64,
    /// The proof, from the leaf's sibling up.
    pub path: Vec<Sha256>,
    /// The signed head, exactly.
    pub checkpoint: String,
}

impl TlogProof {
    /// The file's text.
    pub fn text(&self) -> String {
        let mut out = format!("{FORM}index {}\n", self.index);
        for hash in &self.path {
            out.push_str(&STANDARD.encode(hash.0));
            out.push('\n');
        }
        out.push('\n');
        out.push_str(&self.checkpoint);
        out
    }

    /// Reads a file's text. Extra data is passed over, for nothing vouches for it. Never panics.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let malformed = Error::Malformed;
        let rest = text.strip_prefix(FORM).ok_or(malformed("its first line is another"))?;
        let (head, checkpoint) = rest.split_once("\n\n").ok_or(malformed("it has no checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if let Some(extra) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            STANDARD.decode(extra).map_err(|_| malformed("its extra data is not base64"))?;
            lines.next();
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(malformed("it has no index"))?;
        let plain = index.bytes().all(|digit| digit.is_ascii_digit()) && (index == "0" || !index.starts_with('0'));
        let index = Some(index).filter(|_| plain).and_then(|index| index.parse().ok());
        let index = index.ok_or(malformed("its index is not a number"))?;
        let mut path = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
            path.push(Sha256(hash.ok_or(malformed("one of its hashes is none"))?));
            if path.len() > HASHES_MAX {
                return Err(malformed("it has too many hashes"));
            }
        }
        Ok(Self { index, path, checkpoint: checkpoint.to_owned() })
    }

    /// Checks that the leaf is in the ledger that `key` signs, at the proof's index. Returns the head.
    ///
    /// # Errors
    /// `Checkpoint`, `Proof`.
    pub fn verify(&self, leaf: &Sha256, key: &VerifierKey) -> Result<Checkpoint, Error> {
        let head = Checkpoint::verify(&self.checkpoint, key)?;
        verify_inclusion(leaf, self.index, head.size, &self.path, &head.root)?;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::FileKey;
    use crate::tile::Prover;
    use crate::tree::{Frontier, leaf_hash};

    fn sample() -> (TlogProof, Sha256, VerifierKey) {
        let secret = FileKey::from_seed([7; 32]);
        let key = VerifierKey::new("runbook/here", &secret.public_key()).unwrap();
        let (mut tree, mut prover) = (Frontier::new(), Prover::new(vec![4]));
        for n in 0..11_u64 {
            let leaf = leaf_hash(&n.to_be_bytes());
            tree.push(leaf);
            prover.push(leaf);
        }
        let head = Checkpoint { origin: "runbook/here".into(), size: 11, root: tree.root() };
        let checkpoint = head.sign(None, &key, |bytes| Ok(secret.sign(bytes))).unwrap();
        let proof = TlogProof { index: 4, path: prover.path(4).unwrap(), checkpoint };
        (proof, leaf_hash(&4_u64.to_be_bytes()), key)
    }

    #[test]
    fn a_proof_is_read_back_and_holds_for_its_record_alone() {
        let (proof, leaf, key) = sample();
        let text = proof.text();
        assert!(text.starts_with("c2sp.org/tlog-proof@v1\nindex 4\n"), "{text}");
        assert!(text.contains("=\n\nrunbook/here\n11\n"), "{text}");
        let read = TlogProof::parse(&text).unwrap();
        assert_eq!(read, proof);
        assert_eq!(read.verify(&leaf, &key).unwrap().size, 11);
        let other = leaf_hash(b"another");
        assert_eq!(read.verify(&other, &key), Err(Error::Proof(proof::Error::NotIncluded)));
        let elsewhere = TlogProof { index: 5, ..read };
        assert_eq!(elsewhere.verify(&leaf, &key), Err(Error::Proof(proof::Error::NotIncluded)));
    }

    #[test]
    fn a_proof_with_the_head_of_another_key_is_refused() {
        let (proof, leaf, _) = sample();
        let other = VerifierKey::new("runbook/here", &FileKey::from_seed([8; 32]).public_key()).unwrap();
        assert!(matches!(proof.verify(&leaf, &other), Err(Error::Checkpoint(_))));
    }

    #[test]
    fn a_leaf_that_imitates_a_node_proves_nothing() {
        use crate::tree::Frontier;
        let leaves: Vec<Sha256> = (0..5_u8).map(|n| crate::tree::leaf_hash(&[n])).collect();
        let mut tree = Frontier::new();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        let path = proof::inclusion(&leaves, 2).unwrap();
        assert!(verify_inclusion(&leaves[2], 2, 5, &path, &tree.root()).is_ok());
        // The two children of a node as if they were an entry: its leaf is not the node, for each begins with its own byte.
        let children = [leaves[2].0, leaves[3].0].concat();
        let imitation = crate::tree::leaf_hash(&children);
        for size in 1..=5 {
            assert!(verify_inclusion(&imitation, 1, size, &path[1..], &tree.root()).is_err());
        }
        for (index, size) in [(3, 5), (2, 4), (2, 9), (5, 5), (2, u64::MAX)] {
            assert!(verify_inclusion(&leaves[2], index, size, &path, &tree.root()).is_err(), "{index} of {size}");
        }
    }

    #[test]
    fn extra_data_is_passed_over_and_other_forms_are_refused() {
        let text = sample().0.text();
        let extra = text.replacen("index", "extra AAAA\nindex", 1);
        assert_eq!(TlogProof::parse(&extra).unwrap(), sample().0);
        for (from, to) in [("@v1", "@v2"), ("index 4", "index 04"), ("index 4", "index -4"), ("\n\n", "\n"), ("=", "")]
        {
            assert!(TlogProof::parse(&text.replace(from, to)).is_err(), "{from} {to}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(c2sp.org/tlog-proof@v1\n)?(index [0-9]{0,3}\n)?(\\PC|\n){0,80}") {
            let _ = TlogProof::parse(&text);
        }
    }
}
