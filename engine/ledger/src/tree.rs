//! The Merkle tree of RFC 6962 (section 2.1), kept as its frontier: the roots of the complete subtrees that it is made
//! of. Appending a leaf and computing the root take O(log n) memory and time, so a ledger of any length is sealed
//! without reading it.

use runbook_model::Sha256;
use runbook_model::digest::Hasher;
use runbook_model::record::Head;

/// The hash of a leaf: SHA-256 over 0x00 and the entry.
pub fn leaf_hash(entry: &[u8]) -> Sha256 {
    let mut hasher = Hasher::default();
    hasher.update(&[0]);
    hasher.update(entry);
    hasher.finish()
}

/// The hash of an inner node: SHA-256 over 0x01 and both children.
pub fn node_hash(left: &Sha256, right: &Sha256) -> Sha256 {
    let mut hasher = Hasher::default();
    hasher.update(&[1]);
    hasher.update(&left.0);
    hasher.update(&right.0);
    hasher.finish()
}

/// A frontier that cannot belong to a tree of its size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a tree of {size} leaves is made of {expected} complete subtrees, not of {found}")]
pub struct NotAFrontier {
    /// The tree's size.
    pub size: u64,
    /// How many subtrees it has.
    pub expected: u32,
    /// How many were given.
    pub found: usize,
}

/// A tree to which leaves are appended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Sha256>,
}

impl Frontier {
    /// The tree without a leaf.
    pub fn new() -> Self {
        Self::default()
    }

    /// A tree from what was stored of it: `roots` of its complete subtrees, largest first.
    ///
    /// # Errors
    /// When their number does not fit the size. Whether the hashes are right cannot be seen from them.
    pub fn from_parts(size: u64, roots: Vec<Sha256>) -> Result<Self, NotAFrontier> {
        let expected = size.count_ones();
        if roots.len() != expected as usize {
            return Err(NotAFrontier { size, expected, found: roots.len() });
        }
        Ok(Self { size, roots })
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Roots of its complete subtrees, largest first.
    pub fn roots(&self) -> &[Sha256] {
        &self.roots
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Sha256) {
        let mut node = leaf;
        // Each trailing one of the old size is a complete subtree that the new leaf completes into a larger one.
        for _ in 0..self.size.trailing_ones() {
            let left = self.roots.pop().expect("a frontier has one root for each one bit of its size");
            node = node_hash(&left, &node);
        }
        self.roots.push(node);
        self.size += 1;
    }

    /// The tree's root; of the tree without a leaf, SHA-256 of nothing.
    pub fn root(&self) -> Sha256 {
        let mut roots = self.roots.iter().rev();
        match roots.next() {
            None => Sha256::of(b""),
            Some(last) => roots.fold(*last, |right, left| node_hash(left, &right)),
        }
    }
}

/// The root of the tree that a head stands for.
///
/// # Errors
/// When the head's frontier does not fit its size.
pub fn root_of(head: &Head) -> Result<Sha256, NotAFrontier> {
    Ok(Frontier::from_parts(head.size, head.frontier.clone())?.root())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition in RFC 6962, section 2.1, word for word: no frontier.
    fn oracle(leaves: &[Vec<u8>]) -> Sha256 {
        match leaves {
            [] => Sha256::of(b""),
            [one] => leaf_hash(one),
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                node_hash(&oracle(&leaves[..half]), &oracle(&leaves[half..]))
            }
        }
    }

    fn tree(leaves: &[Vec<u8>]) -> Frontier {
        let mut tree = Frontier::new();
        for leaf in leaves {
            tree.push(leaf_hash(leaf));
        }
        tree
    }

    #[test]
    fn roots_are_those_of_the_certificate_transparency_test_vectors() {
        // The entries and roots that the reference implementation of RFC 6962 is tested with.
        let entries =
            ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut tree = Frontier::new();
        assert_eq!(tree.root().to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (entry, root) in entries.iter().zip(roots) {
            let bytes: Vec<u8> =
                (0..entry.len() / 2).map(|i| u8::from_str_radix(&entry[2 * i..2 * i + 2], 16).unwrap()).collect();
            tree.push(leaf_hash(&bytes));
            assert_eq!(tree.root().to_string(), root, "after {} leaves", tree.size());
        }
    }

    #[test]
    fn a_frontier_of_the_wrong_length_is_refused() {
        let error = Frontier::from_parts(5, vec![leaf_hash(b"a")]).unwrap_err();
        assert_eq!(error, NotAFrontier { size: 5, expected: 2, found: 1 });
    }

    proptest! {
        #[test]
        fn the_frontier_gives_the_root_of_the_recursive_definition(
            leaves in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..200),
        ) {
            prop_assert_eq!(tree(&leaves).root(), oracle(&leaves));
        }

        #[test]
        fn a_tree_goes_on_from_its_stored_frontier(
            before in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..70),
            after in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..8), 0..70),
        ) {
            let first = tree(&before);
            let mut second = Frontier::from_parts(first.size(), first.roots().to_vec()).unwrap();
            for leaf in &after {
                second.push(leaf_hash(leaf));
            }
            let all: Vec<_> = before.into_iter().chain(after).collect();
            prop_assert_eq!(second.root(), oracle(&all));
        }
    }
}
