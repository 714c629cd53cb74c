//! Hash tiles (C2SP tlog-tiles): the tree cut into pieces of 256 hashes, from which anybody can compute its root and
//! every proof without the entries.

use runbook_model::Sha256;

use crate::tree::{Frontier, node_hash};

/// Hashes in a full tile.
pub const WIDTH: usize = 256;

/// Which tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tile {
    /// Its level: at 0 are the leaves, at each further one the roots of the full tiles below.
    pub level: u8,
    /// Its number in the level.
    pub number: u64,
    /// How many hashes it has, from 1 to [`WIDTH`].
    pub width: u16,
}

impl Tile {
    /// Its path below the log's folder: `tile/0/x001/234`, with `.p/WIDTH` when it is not full.
    pub fn path(&self) -> String {
        let mut groups = vec![format!("{:03}", self.number % 1000)];
        let mut rest = self.number / 1000;
        while rest > 0 {
            groups.push(format!("x{:03}", rest % 1000));
            rest /= 1000;
        }
        groups.reverse();
        let mut path = format!("tile/{}/{}", self.level, groups.join("/"));
        if usize::from(self.width) < WIDTH {
            path.push_str(&format!(".p/{}", self.width));
        }
        path
    }

    /// The tiles of a tree of `size` leaves, level by level.
    pub fn all(size: u64) -> impl Iterator<Item = Tile> {
        let mut level = 0_u8;
        let mut hashes = size;
        std::iter::from_fn(move || {
            if hashes == 0 {
                return None;
            }
            let (full, part) = (hashes / WIDTH as u64, (hashes % WIDTH as u64) as u16);
            let here = level;
            level += 1;
            hashes = full;
            let tiles = (0..full).map(move |number| Tile { level: here, number, width: WIDTH as u16 });
            Some(tiles.chain((part > 0).then_some(Tile { level: here, number: full, width: part })))
        })
        .flatten()
    }
}

/// The root over a tile's hashes.
pub fn root(hashes: &[Sha256]) -> Sha256 {
    let mut tree = Frontier::new();
    hashes.iter().for_each(|hash| tree.push(*hash));
    tree.root()
}

/// Cuts a stream of leaves into tiles. Keeps at most 255 hashes of each level, so a tree of any size fits.
#[derive(Debug, Clone, Default)]
pub struct Tiler {
    levels: Vec<Level>,
}

#[derive(Debug, Clone, Default)]
struct Level {
    full: u64,
    open: Vec<Sha256>,
    /// Of the open tile; the root of a full one is one node of the level above.
    tree: Frontier,
}

impl Tiler {
    /// At the beginning of a tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next leaf; `take` is given each tile that is full with it, and its bytes.
    ///
    /// # Errors
    /// What `take` returns.
    pub fn push<E>(&mut self, leaf: Sha256, mut take: impl FnMut(Tile, &[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut hash = leaf;
        for at in 0.. {
            if self.levels.len() == at {
                self.levels.push(Level::default());
            }
            let level = &mut self.levels[at];
            level.open.push(hash);
            level.tree.push(hash);
            if level.open.len() < WIDTH {
                break;
            }
            let tile = Tile { level: number(at), number: level.full, width: WIDTH as u16 };
            take(tile, &bytes(&level.open))?;
            hash = level.tree.root();
            level.full += 1;
            level.open.clear();
            level.tree = Frontier::new();
        }
        Ok(())
    }

    /// The tiles that are not full, when there are no more leaves.
    ///
    /// # Errors
    /// What `take` returns.
    pub fn finish<E>(self, mut take: impl FnMut(Tile, &[u8]) -> Result<(), E>) -> Result<(), E> {
        for (at, level) in self.levels.iter().enumerate().filter(|(_, level)| !level.open.is_empty()) {
            let tile = Tile { level: number(at), number: level.full, width: level.open.len() as u16 };
            take(tile, &bytes(&level.open))?;
        }
        Ok(())
    }
}

fn number(level: usize) -> u8 {
    u8::try_from(level).expect("a tree of 2^64 leaves has 8 levels of tiles")
}

fn bytes(hashes: &[Sha256]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Inclusion proofs for some leaves of a tree, from one pass over all of them. Keeps, for each leaf asked for, the hashes
/// of its proof alone (shared with its neighbours), whatever the tree's size.
#[derive(Debug, Clone)]
pub struct Prover {
    wanted: Vec<u64>,
    nodes: std::collections::BTreeMap<(u8, u64), Sha256>,
    /// Roots of the complete subtrees so far, largest first, each with its level and number.
    open: Vec<(u8, u64, Sha256)>,
    size: u64,
}

impl Prover {
    /// For the leaves with these numbers.
    pub fn new(mut wanted: Vec<u64>) -> Self {
        wanted.sort_unstable();
        wanted.dedup();
        Self { wanted, nodes: std::collections::BTreeMap::new(), open: Vec::new(), size: 0 }
    }

    /// The next leaf.
    pub fn push(&mut self, leaf: Sha256) {
        let mut node = (0_u8, self.size, leaf);
        self.keep(node);
        for _ in 0..self.size.trailing_ones() {
            let left = self.open.pop().expect("a frontier has one root for each one bit of its size");
            node = (node.0 + 1, node.1 / 2, node_hash(&left.2, &node.2));
            self.keep(node);
        }
        self.open.push(node);
        self.size += 1;
    }

    /// Keeps a node when a leaf that is asked for lies below its sibling.
    fn keep(&mut self, (level, number, hash): (u8, u64, Sha256)) {
        let sibling = u128::from(number ^ 1);
        let (from, to) = (sibling << level, (sibling + 1) << level);
        let first = self.wanted.partition_point(|wanted| u128::from(*wanted) < from);
        if self.wanted.get(first).is_some_and(|wanted| u128::from(*wanted) < to) {
            self.nodes.insert((level, number), hash);
        }
    }

    /// The proof that the leaf with this number is in the tree of all leaves given; `None` when it was not asked for, or
    /// there are not that many.
    pub fn path(&self, leaf: u64) -> Option<Vec<Sha256>> {
        if leaf >= self.size || self.wanted.binary_search(&leaf).is_err() {
            return None;
        }
        let (mut node, mut last, mut level) = (leaf, self.size - 1, 0_u8);
        let mut path = Vec::new();
        while last > 0 {
            if node % 2 == 1 || node < last {
                let sibling = node ^ 1;
                let complete = (u128::from(sibling) + 1) << level <= u128::from(self.size);
                path.push(if complete { *self.nodes.get(&(level, sibling))? } else { self.edge(level) });
            }
            node /= 2;
            last /= 2;
            level += 1;
        }
        Some(path)
    }

    /// The root over the leaves at the right end that do not fill a subtree of this level.
    fn edge(&self, level: u8) -> Sha256 {
        let mut rest = self.open.iter().rev().take_while(|(of, _, _)| *of < level).map(|(_, _, hash)| *hash);
        let last = rest.next().expect("a subtree that is not complete has at least a leaf");
        rest.fold(last, |right, left| node_hash(&left, &right))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::proof::{inclusion, verify_inclusion};
    use crate::tree::leaf_hash;

    fn leaves(count: usize) -> Vec<Sha256> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn tiles(leaves: &[Sha256]) -> BTreeMap<Tile, Vec<u8>> {
        let mut out = BTreeMap::new();
        let mut take = |tile: Tile, bytes: &[u8]| {
            assert_eq!(bytes.len(), 32 * usize::from(tile.width));
            assert!(out.insert(tile, bytes.to_vec()).is_none(), "{tile:?} twice");
            Ok::<_, std::convert::Infallible>(())
        };
        let mut tiler = Tiler::new();
        for leaf in leaves {
            tiler.push(*leaf, &mut take).unwrap();
        }
        tiler.finish(&mut take).unwrap();
        out
    }

    #[test]
    fn paths_are_those_of_the_specification() {
        let path = |level, number, width| Tile { level, number, width }.path();
        assert_eq!(path(0, 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(1, 0, 17), "tile/1/000.p/17");
        assert_eq!(path(0, 1_000, 256), "tile/0/x001/000");
    }

    #[test]
    fn a_tree_of_70000_leaves_has_the_tiles_that_the_specification_names() {
        let of = |level| Tile::all(70_000).filter(move |tile| tile.level == level);
        assert_eq!((of(0).filter(|tile| tile.width == 256).count(), of(0).last().unwrap().width), (273, 112));
        assert_eq!(of(1).map(|tile| tile.width).collect::<Vec<_>>(), [256, 17]);
        assert_eq!(of(2).map(|tile| tile.width).collect::<Vec<_>>(), [1]);
        assert_eq!(Tile::all(256).map(|tile| (tile.level, tile.width)).collect::<Vec<_>>(), [(0, 256), (1, 1)]);
        assert_eq!(Tile::all(0).count(), 0);
    }

    #[test]
    fn tiles_hold_the_roots_of_the_tiles_below_and_give_the_trees_root() {
        for size in [1, 255, 256, 257, 511, 512, 70_000] {
            let leaves = leaves(size);
            let tiles = tiles(&leaves);
            assert_eq!(tiles.keys().copied().collect::<Vec<_>>(), Tile::all(size as u64).collect::<Vec<_>>());
            for (tile, bytes) in &tiles {
                let hashes: Vec<Sha256> = bytes.chunks(32).map(|hash| Sha256(hash.try_into().unwrap())).collect();
                let span = WIDTH.pow(u32::from(tile.level));
                for (i, hash) in hashes.iter().enumerate() {
                    let from = (tile.number as usize * WIDTH + i) * span;
                    assert_eq!(*hash, root(&leaves[from..from + span]), "hash {i} of {tile:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_prover_gives_the_proofs_of_the_definition(
            size in 1_usize..700,
            wanted in prop::collection::vec(0_u64..700, 1..20),
        ) {
            let leaves = leaves(size);
            let root = root(&leaves);
            let mut prover = Prover::new(wanted.clone());
            leaves.iter().for_each(|leaf| prover.push(*leaf));
            for leaf in wanted {
                let path = prover.path(leaf);
                prop_assert_eq!(&path, &inclusion(&leaves, leaf as usize));
                if let Some(path) = path {
                    let leaf_hash = &leaves[leaf as usize];
                    prop_assert_eq!(verify_inclusion(leaf_hash, leaf, size as u64, &path, &root), Ok(()));
                }
            }
        }
    }
}
