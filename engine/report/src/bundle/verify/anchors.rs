//! The receipts of those outside who hold the bundle's head. What they prove is told by whoever knows their kinds.

use std::collections::BTreeMap;

use runbook_ledger::consistency::Consistency;
use runbook_ledger::{Checkpoint, KeyChain, proof};
use runbook_model::Sha256;
use serde::Deserialize;

use super::source::{Error, Source};
use super::tree::{CHECKPOINT, Leaves};
use crate::verdict::{Code, Place, Verdict};

/// The list of them.
const LIST: &str = "anchors/anchors.json";
/// The proofs that larger heads go on from the bundle's.
const CONSISTENCY: &str = "ledger/consistency-to-anchor.txt";

/// Hashes of proofs, by the size of the larger head.
type Proofs = BTreeMap<u64, Vec<Sha256>>;

/// The most receipts that are read: each is held in memory.
const RECEIPTS_MAX: usize = 256;

/// What a bundle has of anchors.
#[derive(Debug, Clone)]
pub struct Receipts {
    /// The ledger's keys.
    pub keys: KeyChain,
    /// The place after the last record that is to be covered: the run's, or that of its removal.
    pub covers: u64,
    /// Roots of the ledger at the sizes at which they are proved: of the bundle's head, of smaller ones by its tiles, of
    /// larger ones by a proof of consistency.
    pub roots: BTreeMap<u64, Sha256>,
    /// The receipts.
    pub receipts: Vec<Receipt>,
}

/// A receipt.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// The anchor's name.
    pub anchor: String,
    /// Its kind.
    pub kind: String,
    /// Size of the head.
    pub size: u64,
    /// Its root.
    pub root: Sha256,
    /// When it was recorded.
    pub time: String,
    /// The signed head that it is for, as the bundle has it.
    pub note: String,
    /// Its file in the bundle.
    pub file: String,
    /// The file's bytes.
    pub bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct List {
    anchors: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    anchor: String,
    kind: String,
    size: u64,
    root: Sha256,
    #[serde(default)]
    time: String,
    sha256: Sha256,
    file: String,
    #[serde(default = "own_head")]
    head: String,
}

fn own_head() -> String {
    CHECKPOINT.to_owned()
}

/// Reads them, and proves that the heads that they are for are of the bundle's history. `None` when there are none, or when
/// something of it is wrong, which is in the verdict then.
pub(super) fn read(
    source: &Source,
    keys: &KeyChain,
    head: &Checkpoint,
    verdict: &mut Verdict,
) -> Result<Option<Receipts>, Error> {
    if source.entry(LIST).is_none() {
        verdict.unchecked("whether anybody outside holds a head: the bundle has no receipt of an anchor");
        return Ok(None);
    }
    let wrong = |verdict: &mut Verdict, file: &str, why: String| {
        verdict.found(Code::Tampered, Place::file(file), format!("{file}: {why}"));
        Ok(None)
    };
    let list: List = match serde_json::from_str(&source.text(LIST)?) {
        Ok(list) => list,
        Err(error) => return wrong(verdict, LIST, error.to_string()),
    };
    if list.anchors.len() > RECEIPTS_MAX {
        let why = format!("it names {} receipts, and at most {RECEIPTS_MAX} are read", list.anchors.len());
        return wrong(verdict, LIST, why);
    }
    let proofs = match consistency(source, head)? {
        Ok(proofs) => proofs,
        Err(why) => return wrong(verdict, CONSISTENCY, why),
    };
    let mut roots = BTreeMap::from([(head.size, head.root)]);
    let mut receipts: Vec<Receipt> = Vec::new();
    for line in list.anchors {
        let Line { anchor, kind, size, root, time, sha256, file, head: of } = line;
        if source.entry(&file).is_none_or(|entry| entry.digest != sha256) || !file.starts_with("anchors/") {
            return wrong(verdict, LIST, format!("{file} is not the receipt that it names"));
        }
        if source.entry(&of).is_none() || !(of == CHECKPOINT || of.starts_with("anchors/")) {
            return wrong(verdict, LIST, format!("{of} is not the head that it names"));
        }
        let note = source.text(&of)?;
        let other = match keys.verify(&note) {
            Ok(other) => other,
            Err(error) => return wrong(verdict, &of, error.to_string()),
        };
        if other.size < head.size
            && let Some(root) = Leaves::new(source, head.size).root(other.size)?
        {
            roots.insert(other.size, root);
        }
        if let Some(path) = proofs.get(&other.size) {
            let proved = proof::verify_consistency((head.size, &head.root), (other.size, &other.root), path);
            if let Err(error) = proved {
                return wrong(verdict, CONSISTENCY, format!("to {}: {error}", other.size));
            }
            if roots.insert(other.size, other.root).is_none() {
                verdict.held(format!("the head of {} records goes on from the bundle's", other.size));
            }
        }
        let mut bytes = Vec::new();
        source.get(&file, &mut bytes)?;
        receipts.push(Receipt { anchor, kind, size, root, time, note, file, bytes });
    }
    Ok(Some(Receipts { keys: keys.clone(), covers: head.size, roots, receipts }))
}

/// The proofs that larger heads go on from the bundle's, by their size.
fn consistency(source: &Source, head: &Checkpoint) -> Result<Result<Proofs, String>, Error> {
    if source.entry(CONSISTENCY).is_none() {
        return Ok(Ok(BTreeMap::new()));
    }
    Ok(match Consistency::parse(&source.text(CONSISTENCY)?) {
        Ok(proofs) if proofs.from == head.size => Ok(proofs.to.into_iter().collect()),
        Ok(proofs) => Err(format!("it begins with {} records, and the bundle's head is of {}", proofs.from, head.size)),
        Err(error) => Err(error.to_string()),
    })
}
