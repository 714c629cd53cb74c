//! The ledger's tree in the bundle: a signed head, and the tiles from which its root is computed again.

use runbook_ledger::tile::{Tile, Tiler, WIDTH};
use runbook_ledger::tree::Frontier;
use runbook_ledger::{Checkpoint, KeyChain};
use runbook_model::Sha256;

use super::source::{Error, Source};
use crate::text::count;
use crate::verdict::trust::{Against, is_of_another_key};
use crate::verdict::upkeep::Upkeep;
use crate::verdict::{Code, Place, Verdict};

pub(super) const CHECKPOINT: &str = "ledger/checkpoint";
const HASH_BYTES: usize = 32;

/// The signed head, by the key in force. `None` when there is none to go on with.
pub(super) fn head(
    source: &Source,
    keys: &KeyChain,
    verdict: &mut Verdict,
) -> Result<Option<(Checkpoint, String)>, Error> {
    if source.entry(CHECKPOINT).is_none() {
        verdict.found(Code::Tampered, Place::file(CHECKPOINT), "ledger/checkpoint is missing: no head is signed");
        return Ok(None);
    }
    let note = source.text(CHECKPOINT)?;
    match keys.verify(&note) {
        Ok(head) => {
            verdict.held(format!("the head of {} records is signed by the ledger's key", head.size));
            Ok(Some((head, note)))
        }
        Err(error) => {
            let code = if is_of_another_key(&error) { Code::UntrustedKey } else { Code::Tampered };
            verdict.found(code, Place::file(CHECKPOINT), format!("ledger/checkpoint: {error}"));
            Ok(None)
        }
    }
}

/// Reads the tiles, level by level, and compares: the leaves give the head's root, the levels above are made of those
/// below, and there is no tile too many. Heads of smaller ledgers are compared on the way. Returns whether it holds.
pub(super) fn tiles(
    source: &Source,
    head: &Checkpoint,
    against: &mut Against,
    upkeep: &Upkeep,
    verdict: &mut Verdict,
) -> Result<bool, Error> {
    let mut frontier = Frontier::new();
    let mut tiler = Tiler::new();
    let (mut buffer, mut above) = (Vec::new(), Vec::new());
    let mut read = 0_usize;
    // What is wrong with one of the levels above.
    let mut wrong: Option<String> = None;
    for tile in Tile::all(head.size).take_while(|tile| tile.level == 0) {
        let name = name(&tile);
        if !is_whole(source, &tile, &name) {
            let text = format!("{name} is missing or has not its length: the tree cannot be computed");
            verdict.found(Code::Tampered, Place::file(name), text);
            return Ok(false);
        }
        source.get(&name, &mut buffer)?;
        for leaf in hashes(&buffer) {
            frontier.push(leaf);
            let done: Result<(), Error> = tiler.push(leaf, |tile, bytes| {
                if tile.level > 0 {
                    read += 1;
                    compare(source, &tile, bytes, &mut above, &mut wrong)?;
                }
                Ok(())
            });
            done?;
            against.at(frontier.size(), || frontier.root(), upkeep, verdict);
        }
        read += 1;
    }
    let done: Result<(), Error> = tiler.finish(|tile, bytes| {
        if tile.level > 0 {
            read += 1;
            compare(source, &tile, bytes, &mut above, &mut wrong)?;
        }
        Ok(())
    });
    done?;
    if frontier.root() != head.root {
        let text = format!(
            "the tiles have the root {} and {} was signed: a record of the ledger was changed",
            frontier.root(),
            head.root
        );
        verdict.found(Code::Tampered, Place::file("ledger/tile/0"), text);
        return Ok(false);
    }
    if let Some(name) = wrong {
        let text = format!("{name} is missing or not made of the tiles below it");
        verdict.found(Code::Tampered, Place::file(name), text);
        return Ok(false);
    }
    let there = source.others().filter(|name| name.starts_with("ledger/tile/")).count();
    if there != read {
        let text = format!("{} are no tiles of this tree", count(there.saturating_sub(read), "file"));
        verdict.found(Code::Tampered, Place::file("ledger/tile"), text);
        return Ok(false);
    }
    verdict.held(format!("{} have the root that was signed", count(read, "tile")));
    verdict.size = head.size;
    verdict.root = Some(head.root.to_string());
    Ok(true)
}

fn compare(
    source: &Source,
    tile: &Tile,
    bytes: &[u8],
    buffer: &mut Vec<u8>,
    wrong: &mut Option<String>,
) -> Result<(), Error> {
    let name = name(tile);
    let same = is_whole(source, tile, &name) && {
        source.get(&name, buffer)?;
        buffer.as_slice() == bytes
    };
    if !same {
        wrong.get_or_insert(name);
    }
    Ok(())
}

fn name(tile: &Tile) -> String {
    format!("ledger/{}", tile.path())
}

fn is_whole(source: &Source, tile: &Tile, name: &str) -> bool {
    source.entry(name).is_some_and(|entry| entry.bytes == u64::from(tile.width) * HASH_BYTES as u64)
}

fn hashes(tile: &[u8]) -> impl Iterator<Item = Sha256> {
    tile.chunks_exact(HASH_BYTES).map(|hash| Sha256(hash.try_into().expect("chunks are exact")))
}

/// The leaves of a tree whose tiles were checked, by their number; fast when asked in order.
pub(super) struct Leaves<'a> {
    source: &'a Source,
    size: u64,
    number: Option<u64>,
    tile: Vec<u8>,
}

impl<'a> Leaves<'a> {
    pub(super) fn new(source: &'a Source, size: u64) -> Self {
        Self { source, size, number: None, tile: Vec::new() }
    }

    /// The root over the first leaves, when there are so many.
    pub(super) fn root(&mut self, size: u64) -> Result<Option<Sha256>, Error> {
        let mut tree = Frontier::new();
        while tree.size() < size {
            let Some(leaf) = self.get(tree.size())? else { return Ok(None) };
            tree.push(leaf);
        }
        Ok(Some(tree.root()))
    }

    /// A leaf; `None` when the tree does not have it.
    pub(super) fn get(&mut self, leaf: u64) -> Result<Option<Sha256>, Error> {
        if leaf >= self.size {
            return Ok(None);
        }
        let number = leaf / WIDTH as u64;
        if self.number != Some(number) {
            let width = (self.size - number * WIDTH as u64).min(WIDTH as u64) as u16;
            self.source.get(&name(&Tile { level: 0, number, width }), &mut self.tile)?;
            self.number = Some(number);
        }
        let at = (leaf % WIDTH as u64) as usize;
        Ok(hashes(&self.tile).nth(at))
    }
}
