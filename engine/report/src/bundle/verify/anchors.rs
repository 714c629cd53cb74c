//! The receipts of those outside who hold the bundle's head. What they prove is told by whoever knows their kinds.

use runbook_ledger::{Checkpoint, KeyChain};
use runbook_model::Sha256;
use serde::Deserialize;

use super::source::{Error, Source};
use crate::verdict::{Code, Place, Verdict};

/// The list of them.
const LIST: &str = "anchors/anchors.json";

/// The most receipts that are read: each is held in memory.
const RECEIPTS_MAX: usize = 256;

/// What a bundle has of anchors.
#[derive(Debug, Clone)]
pub struct Receipts {
    /// The ledger's keys.
    pub keys: KeyChain,
    /// The bundle's head, which covers the run.
    pub head: Checkpoint,
    /// The same, signed.
    pub note: String,
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
}

/// Reads them; `None` when there are none, or when the list is wrong, which is in the verdict then.
pub(super) fn read(
    source: &Source,
    keys: &KeyChain,
    head: &Checkpoint,
    note: &str,
    verdict: &mut Verdict,
) -> Result<Option<Receipts>, Error> {
    if source.entry(LIST).is_none() {
        verdict.unchecked("whether anybody outside holds a head: the bundle has no receipt of an anchor");
        return Ok(None);
    }
    let wrong = |verdict: &mut Verdict, why: String| {
        verdict.found(Code::Tampered, Place::file(LIST), format!("{LIST}: {why}"));
        Ok(None)
    };
    let list: List = match serde_json::from_str(&source.text(LIST)?) {
        Ok(list) => list,
        Err(error) => return wrong(verdict, error.to_string()),
    };
    if list.anchors.len() > RECEIPTS_MAX {
        return wrong(
            verdict,
            format!("it names {} receipts, and at most {RECEIPTS_MAX} are read", list.anchors.len()),
        );
    }
    let mut receipts: Vec<Receipt> = Vec::new();
    for line in list.anchors {
        let Line { anchor, kind, size, root, time, sha256, file } = line;
        if source.entry(&file).is_none_or(|entry| entry.digest != sha256) || !file.starts_with("anchors/") {
            return wrong(verdict, format!("{file} is not the receipt that it names"));
        }
        let mut bytes = Vec::new();
        source.get(&file, &mut bytes)?;
        receipts.push(Receipt { anchor, kind, size, root, time, file, bytes });
    }
    Ok(Some(Receipts { keys: keys.clone(), head: head.clone(), note: note.to_owned(), receipts }))
}
