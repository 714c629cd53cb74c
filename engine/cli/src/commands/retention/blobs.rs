//! Which contents belong to a run alone.

use std::collections::BTreeSet;

use runbook_model::{RunId, Sha256};
use runbook_ports::store::StoreError;
use runbook_ports::{BlobStore as _, Store as _};
use runbook_store::SqliteStore;
use serde_json::Value;

use crate::failure::Failure;
use crate::record;

/// Records read at once.
const PAGE: usize = 1_000;
/// The longest list or plan in which digests are looked for.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// Keys whose content is JSON that names further contents.
const LISTS: &[&str] = &["plan_sha256", "transfers", "changes", "manifest"];

/// Digests in a text, and those of them that stand for lists.
#[derive(Default)]
struct Named {
    all: BTreeSet<Sha256>,
    lists: BTreeSet<Sha256>,
}

impl Named {
    /// Every text that looks like a digest: whether it is one of a content, only the store knows.
    fn look(&mut self, value: &Value, key: &str) {
        match value {
            Value::String(text) => {
                if let Ok(digest) = text.parse::<Sha256>() {
                    self.all.insert(digest);
                    if LISTS.contains(&key) {
                        self.lists.insert(digest);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.look(item, key)),
            Value::Object(map) => {
                for (key, value) in map {
                    // The digest may be the key (`Plan::files`).
                    self.all.extend(key.parse::<Sha256>().ok());
                    self.look(value, key);
                }
            }
            _ => {}
        }
    }

    async fn lists(&mut self, store: &SqliteStore) -> Result<(), Failure> {
        for list in std::mem::take(&mut self.lists) {
            match store.get(&list, LIST_BYTES_MAX).await {
                Ok(bytes) => {
                    if let Ok(value) = serde_json::from_slice::<Value>(&bytes) {
                        self.look(&value, "");
                    }
                }
                Err(StoreError::Missing(_)) => {}
                // One that cannot be read may name anything: nothing is removed on a guess.
                Err(error) => return Err(record::failed(&error)),
            }
        }
        self.lists.clear();
        Ok(())
    }
}

/// A run's records, and the contents that it names and no other record does.
pub(super) async fn of_run_alone(store: &SqliteStore, run: &RunId) -> Result<(u64, BTreeSet<Sha256>), Failure> {
    let failed = |error: StoreError| record::failed(&error);
    let mut own = Named::default();
    let mut records = 0;
    let mut from = 0;
    loop {
        let page = store.records(run, from, PAGE).await.map_err(failed)?;
        let whole = page.len() == PAGE;
        for sealed in page {
            from = sealed.run_seq + 1;
            records += 1;
            look(&mut own, &sealed.bytes);
        }
        if !whole {
            break;
        }
    }
    own.lists(store).await?;
    let mut alone = BTreeSet::new();
    for digest in own.all {
        if store.has(&digest).await.map_err(failed)? {
            alone.insert(digest);
        }
    }
    Ok((records, unnamed(store, run, alone).await?))
}

/// Those of some contents that no record outside the run names.
pub(super) async fn unnamed(
    store: &SqliteStore,
    run: &RunId,
    contents: impl IntoIterator<Item = Sha256>,
) -> Result<BTreeSet<Sha256>, Failure> {
    let failed = |error: StoreError| record::failed(&error);
    let mut alone: BTreeSet<Sha256> = contents.into_iter().collect();
    let mut from = 0;
    while !alone.is_empty() {
        let page = store.ledger(from, PAGE).await.map_err(failed)?;
        let Some(last) = page.last() else { break };
        from = last.seq + 1;
        let mut others = Named::default();
        for sealed in page.iter().filter(|sealed| sealed.run != *run) {
            look(&mut others, &sealed.bytes);
        }
        others.lists(store).await?;
        alone.retain(|digest| !others.all.contains(digest));
    }
    Ok(alone)
}

fn look(named: &mut Named, bytes: &[u8]) {
    if let Ok(record) = serde_json::from_slice::<Value>(bytes) {
        named.look(&record["event"], "");
    }
}
