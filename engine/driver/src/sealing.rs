//! The ledger's end, looked at before anything is sealed on it: is this the ledger whose head was signed last, and is our
//! key still the one that signs it?

use runbook_ledger::note::Note;
use runbook_ledger::tree::{Frontier, leaf_hash};
use runbook_ledger::{Checkpoint, Sealer, VerifierKey};
use runbook_model::{Event, Notice, RunId};
use runbook_ports::store::StoreError;
use runbook_ports::{Signer, Store};

use crate::DriverError;

/// Where the next record goes.
pub(crate) struct End {
    /// The head that was signed last.
    pub(crate) last: Option<Checkpoint>,
    /// Seals on the end.
    pub(crate) sealer: Sealer,
}

/// Records read at once.
const PAGE: usize = 1_000;

/// The ledger's end as it is now, and shown to go on from the head that was signed last: the tree that was signed, and the
/// records since then as they stand there, come to the end that is kept.
///
/// # Errors
/// As [`end`]; when something between the signed head and the end is not as it was sealed.
pub(crate) async fn shown_end(store: &dyn Store, key: &VerifierKey, run: Option<&RunId>) -> Result<End, DriverError> {
    let fault = |cause: String| DriverError::Evidence { cause, run: run.cloned() };
    let end = end(store, key, run).await?;
    if let Some(last) = &end.last {
        let whole = extends(store, last, &end.sealer).await.map_err(|error| DriverError::from_store(error, run))?;
        whole.map_err(|why| {
            fault(format!(
                "{why}; `runbook evidence recover` sets aside what a crash has left there, `evidence verify` says more"
            ))
        })?;
    }
    Ok(end)
}

async fn extends(store: &dyn Store, last: &Checkpoint, sealer: &Sealer) -> Result<Result<(), String>, StoreError> {
    if sealer.size() < last.size {
        // Told with the right words when the head is signed.
        return Ok(Ok(()));
    }
    let mut tree = match store.signed_frontier(last.size).await? {
        Some(roots) => match Frontier::from_parts(last.size, roots) {
            Ok(tree) => tree,
            Err(error) => return Ok(Err(error.to_string())),
        },
        // Of an earlier format: all of it is read, once.
        None => {
            let mut tree = Frontier::new();
            while tree.size() < last.size {
                let room = usize::try_from(last.size - tree.size()).unwrap_or(PAGE).min(PAGE);
                let page = store.ledger(tree.size(), room).await?;
                if page.is_empty() {
                    break;
                }
                page.iter().for_each(|sealed| tree.push(sealed.leaf));
            }
            tree
        }
    };
    if (tree.size(), tree.root()) != (last.size, last.root) {
        return Ok(Err(format!("the ledger's first {} records do not have the root that was signed", last.size)));
    }
    while tree.size() < sealer.size() {
        let room = usize::try_from(sealer.size() - tree.size()).unwrap_or(PAGE).min(PAGE);
        let page = store.ledger(tree.size(), room).await?;
        if page.is_empty() {
            return Ok(Err(format!("record {} is missing", tree.size())));
        }
        for sealed in &page {
            if sealed.seq != tree.size() || leaf_hash(&sealed.bytes) != sealed.leaf {
                return Ok(Err(format!("record {} is not as it was sealed", tree.size())));
            }
            tree.push(sealed.leaf);
        }
    }
    if tree.root() == sealer.root() {
        return Ok(Ok(()));
    }
    Ok(Err(format!("the ledger's end does not go on from the head of {} records that was signed", last.size)))
}

/// The ledger's end as it is now.
///
/// # Errors
/// When the head signed last is not by `key`, or the key has been replaced.
pub(crate) async fn end(store: &dyn Store, key: &VerifierKey, run: Option<&RunId>) -> Result<End, DriverError> {
    let fault = |cause: String| DriverError::Evidence { cause, run: run.cloned() };
    let failed = |error| DriverError::from_store(error, run);
    // The signed head first: another process may append and sign between the two, and a ledger that is shorter than its
    // last signed head would look cut.
    let last = store.last_checkpoint().await.map_err(failed)?;
    let head = store.head().await.map_err(failed)?;
    let sealer = Sealer::new(&head).map_err(|error| fault(error.to_string()))?;
    let Some(signed) = last else { return Ok(End { last: None, sealer }) };
    let last = Checkpoint::verify(&signed.note, key)
        .map_err(|error| fault(format!("the last signed head of the ledger is not by this project's key: {error}")))?;
    if let Some(successor) = successor(store, key, &signed.note, last.size).await.map_err(failed)? {
        return Err(fault(format!("the ledger's key was replaced by {successor}, and this is the old one")));
    }
    Ok(End { last: Some(last), sealer })
}

/// The key that took the place of `key` by the record on which the head signed last ends. Only a head that another key of
/// the ledger has signed too can be such a one.
async fn successor(store: &dyn Store, key: &VerifierKey, note: &str, size: u64) -> Result<Option<String>, StoreError> {
    let others = |note: &Note| note.key_ids(key.name()).any(|id| id != key.id());
    if size == 0 || !Note::parse(note).is_ok_and(|note| others(&note)) {
        return Ok(None);
    }
    let last = store.ledger(size - 1, 1).await?;
    let read = last.first().and_then(|sealed| runbook_ledger::record::parse(&sealed.bytes).ok());
    Ok(match read.map(|record| record.event) {
        Some(Event::Installation(Notice::KeyRotated { old_key, new_key, .. })) if old_key == key.to_string() => {
            Some(new_key)
        }
        _ => None,
    })
}

/// Signs the ledger's head, unless it contradicts the one that was signed last.
pub(crate) fn sign_head(
    sealer: &Sealer,
    key: &VerifierKey,
    signer: &dyn Signer,
    last: Option<&Checkpoint>,
) -> Result<(Checkpoint, String), String> {
    let head = Checkpoint { origin: key.name().to_owned(), size: sealer.size(), root: sealer.root() };
    let note = head
        .sign(last, key, |bytes| signer.sign(bytes))
        .map_err(|error| format!("the ledger's head could not be signed: {error}"))?;
    Ok((head, note))
}
