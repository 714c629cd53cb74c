//! Proofs about a tree (RFC 6962, sections 2.1.1 and 2.1.2): that a record is in it, and that a larger tree begins with a
//! smaller one. Both are short lists of hashes; checking one needs two signed heads and nothing else of the ledger.

use std::ops::Range;

use runbook_model::Sha256;

use crate::tree::node_hash;

/// A proof that does not prove what it is shown for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The record is not in the tree, or at another place.
    #[error("the record is not proved to be in the ledger at that place")]
    NotIncluded,
    /// The larger tree does not begin with the smaller one: the ledger was forked or rolled back.
    #[error("the ledger is not proved to begin with the one that was signed before")]
    NotConsistent,
}

/// The root over these leaves, by definition.
fn root(leaves: &[Sha256]) -> Sha256 {
    match leaves {
        [] => Sha256::of(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// The largest power of two below `size`, which is at least 2.
fn split(size: usize) -> usize {
    size.next_power_of_two() / 2
}

/// The proof that the leaf at `index` is in the tree over `leaves`. `None` when there is no such leaf.
pub fn inclusion(leaves: &[Sha256], index: usize) -> Option<Vec<Sha256>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let mut path = if index < left.len() { inclusion(left, index)? } else { inclusion(right, index - left.len())? };
    path.push(if index < left.len() { root(right) } else { root(left) });
    Some(path)
}

/// The proof that the tree over `leaves` begins with the tree over the first `smaller` of them. `None` when there are not
/// that many, or `smaller` is 0 (every tree begins with the empty one, and that proves nothing).
pub fn consistency(leaves: &[Sha256], smaller: usize) -> Option<Vec<Sha256>> {
    if smaller == 0 || smaller > leaves.len() {
        return None;
    }
    Some(subproof(leaves, smaller, true))
}

fn subproof(leaves: &[Sha256], smaller: usize, known: bool) -> Vec<Sha256> {
    if smaller == leaves.len() {
        return if known { Vec::new() } else { vec![root(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    if smaller <= left.len() {
        let mut path = subproof(left, smaller, known);
        path.push(root(right));
        path
    } else {
        let mut path = subproof(right, smaller - left.len(), false);
        path.push(root(left));
        path
    }
}

/// The ranges of leaves whose roots, in this order, are the proof of [`consistency`] from `smaller` to `larger`: for a
/// ledger that is read as a stream, each root by a [`Frontier`](crate::tree::Frontier) of its own. `None` as there.
pub fn consistency_ranges(smaller: u64, larger: u64) -> Option<Vec<Range<u64>>> {
    if smaller == 0 || smaller > larger {
        return None;
    }
    let mut path = Vec::new();
    let (mut range, mut known) = (0..larger, true);
    // From the top down, so the ranges come in the opposite order.
    while range.end != smaller {
        let middle = range.start + (range.end - range.start).next_power_of_two() / 2;
        if smaller <= middle {
            path.push(middle..range.end);
            range.end = middle;
        } else {
            path.push(range.start..middle);
            range.start = middle;
            known = false;
        }
    }
    if !known {
        path.push(range);
    }
    path.reverse();
    Some(path)
}

/// Checks a proof of [`inclusion`]. Never panics, whatever it is given.
///
/// # Errors
/// `NotIncluded`.
pub fn verify_inclusion(leaf: &Sha256, index: u64, size: u64, path: &[Sha256], root: &Sha256) -> Result<(), Error> {
    if index >= size {
        return Err(Error::NotIncluded);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return Err(Error::NotIncluded);
        }
        if node % 2 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // At the right edge: go up to where the node is a right child.
            while node % 2 == 0 && node != 0 {
                node /= 2;
                last /= 2;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node /= 2;
        last /= 2;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(Error::NotIncluded) }
}

/// Checks a proof of [`consistency`] between two signed heads. Never panics, whatever it is given.
///
/// # Errors
/// `NotConsistent`.
pub fn verify_consistency(
    (smaller, smaller_root): (u64, &Sha256),
    (larger, larger_root): (u64, &Sha256),
    path: &[Sha256],
) -> Result<(), Error> {
    if smaller == larger {
        let same = path.is_empty() && smaller_root == larger_root;
        return if same { Ok(()) } else { Err(Error::NotConsistent) };
    }
    if smaller == 0 || smaller > larger {
        return Err(Error::NotConsistent);
    }
    // A smaller tree that is complete is itself the first node of the path.
    let mut rest = path.iter();
    let first = if smaller.is_power_of_two() { smaller_root } else { rest.next().ok_or(Error::NotConsistent)? };
    let (mut node, mut last) = (smaller - 1, larger - 1);
    while node % 2 == 1 {
        node /= 2;
        last /= 2;
    }
    let (mut old, mut new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(Error::NotConsistent);
        }
        if node % 2 == 1 || node == last {
            old = node_hash(sibling, &old);
            new = node_hash(sibling, &new);
            while node % 2 == 0 && node != 0 {
                node /= 2;
                last /= 2;
            }
        } else {
            new = node_hash(&new, sibling);
        }
        node /= 2;
        last /= 2;
    }
    let proved = last == 0 && old == *smaller_root && new == *larger_root;
    if proved { Ok(()) } else { Err(Error::NotConsistent) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tree::{Frontier, leaf_hash};

    fn leaves(count: usize) -> Vec<Sha256> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn every_leaf_of_every_small_tree_is_proved_and_at_no_other_place() {
        for size in 1..=33_usize {
            let leaves = leaves(size);
            let root = root(&leaves);
            let mut frontier = Frontier::new();
            leaves.iter().for_each(|leaf| frontier.push(*leaf));
            assert_eq!(root, frontier.root());
            for index in 0..size {
                let path = inclusion(&leaves, index).unwrap();
                for place in 0..=size {
                    let verified = verify_inclusion(&leaves[index], place as u64, size as u64, &path, &root);
                    assert_eq!(verified.is_ok(), place == index, "leaf {index} at {place} of {size}");
                }
            }
            assert_eq!(inclusion(&leaves, size), None);
        }
    }

    #[test]
    fn every_small_tree_begins_with_every_smaller_one_and_with_no_other() {
        for larger in 1..=33_usize {
            let leaves = leaves(larger);
            let larger_root = root(&leaves);
            for smaller in 1..=larger {
                let smaller_root = root(&leaves[..smaller]);
                let path = consistency(&leaves, smaller).unwrap();
                let new = (larger as u64, &larger_root);
                assert_eq!(verify_consistency((smaller as u64, &smaller_root), new, &path), Ok(()));
                let other = leaf_hash(b"another root");
                assert!(verify_consistency((smaller as u64, &other), new, &path).is_err());
                assert!(verify_consistency((smaller as u64, &smaller_root), (larger as u64, &other), &path).is_err());
                let mut longer = path.clone();
                longer.push(other);
                assert!(verify_consistency((smaller as u64, &smaller_root), new, &longer).is_err());
                if let Some(shorter) = path.split_last().map(|(_, rest)| rest) {
                    assert!(verify_consistency((smaller as u64, &smaller_root), new, shorter).is_err());
                }
            }
            assert_eq!(consistency(&leaves, 0), None);
            assert_eq!(consistency(&leaves, larger + 1), None);
        }
    }

    #[test]
    fn a_proof_from_a_stream_is_the_one_from_all_leaves() {
        let of = |leaves: &[Sha256]| {
            let mut frontier = Frontier::new();
            leaves.iter().for_each(|leaf| frontier.push(*leaf));
            frontier.root()
        };
        for larger in 1..=70_usize {
            let leaves = leaves(larger);
            for smaller in 1..=larger {
                let ranges = consistency_ranges(smaller as u64, larger as u64).unwrap();
                let path: Vec<_> =
                    ranges.iter().map(|range| of(&leaves[range.start as usize..range.end as usize])).collect();
                assert_eq!(path, consistency(&leaves, smaller).unwrap(), "{smaller} of {larger}");
            }
            assert_eq!(consistency_ranges(0, larger as u64), None);
            assert_eq!(consistency_ranges(larger as u64 + 1, larger as u64), None);
        }
    }

    proptest! {
        #[test]
        fn no_forged_proof_makes_the_checks_panic_or_pass(
            index: u64,
            size: u64,
            path in prop::collection::vec(any::<[u8; 32]>(), 0..70),
            leaf: [u8; 32],
            root: [u8; 32],
        ) {
            let path: Vec<_> = path.into_iter().map(Sha256).collect();
            let (leaf, root) = (Sha256(leaf), Sha256(root));
            prop_assert!(verify_inclusion(&leaf, index, size, &path, &root).is_err() || leaf == root);
            prop_assert!(verify_consistency((index, &leaf), (size, &root), &path).is_err() || leaf == root);
        }

        #[test]
        fn a_changed_hash_in_a_proof_proves_nothing(size in 2_usize..200, at: u64, step: u64, bit in 0_u8..8) {
            let leaves = leaves(size);
            let index = (at % size as u64) as usize;
            let mut path = inclusion(&leaves, index).unwrap();
            let step = (step % path.len() as u64) as usize;
            path[step].0[0] ^= 1 << bit;
            let verified = verify_inclusion(&leaves[index], index as u64, size as u64, &path, &root(&leaves));
            prop_assert_eq!(verified, Err(Error::NotIncluded));
        }
    }
}
