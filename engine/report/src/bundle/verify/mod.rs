//! Verifying a bundle: nothing of it is believed before it was checked, and nothing of it is read before its name was.
//!
//! The bundle is read once, as a stream; what is looked at again is kept aside, not in memory. Then, in this
//! order, and ending where nothing further could be believed: the list of files, the ledger's key, the signed head, the
//! tiles, the records, what the records name. What the bundle has beside that (report, recordings, attestations) is under
//! the list's signature and is not compared with the records; the verdict says so.

mod anchors;
mod names;
mod purged;
mod records;
mod redactions;
mod source;
mod sums;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use runbook_ledger::{Checkpoint, VerifierKey};
use runbook_model::Sha256;
use serde_json::Value;

use crate::RunView;
use crate::check::Gap;
use crate::text::count;
use crate::verdict::contents::{Contents, Found, Kind};
use crate::verdict::trust::{Against, Trust};
use crate::verdict::upkeep::Upkeep;
use crate::verdict::{Code, Place, Subject, Verdict};
pub use anchors::{Receipt, Receipts};
use records::Of;
use source::{Error, Source};

/// The longest list of moved files that is read.
const LIST_BYTES_MAX: u64 = 64 << 20;
/// The longest `run.json` that is read.
const RUN_BYTES_MAX: u64 = 256 << 20;
/// Where the ledger's public key is.
const KEY: &str = "trust/log.vkey";

/// What the caller brings.
pub struct Options {
    /// Keys and heads from elsewhere.
    pub trust: Trust,
    /// The most bytes that are read of a bundle, unpacked.
    pub bytes_max: u64,
    /// Tells what receipts of anchors prove; without it they are told as not checked.
    pub anchors: Option<Judge>,
}

/// Tells in the verdict what receipts prove.
pub type Judge = Box<dyn Fn(&Receipts, &mut Verdict)>;

impl Default for Options {
    /// Nothing from elsewhere; a tebibyte.
    fn default() -> Self {
        Self { trust: Trust::default(), bytes_max: 1 << 40, anchors: None }
    }
}

/// Judges the bundle in a folder or in an archive (`.tar`, `.tar.zst`). What cannot be read is in the verdict too.
pub fn verify(path: &Path, options: &Options) -> Verdict {
    let mut verdict = Verdict::new(Subject::Bundle, "");
    let checked = Source::read(path, options.bytes_max).and_then(|mut source| {
        sums::check(&mut source, &mut verdict)?;
        check(&source, &options.trust, options.anchors.as_ref(), &mut verdict)
    });
    if let Err(error) = checked {
        let (code, place) = match &error {
            Error::Refused { name, .. } => (Code::Tampered, Place::file(String::from_utf8_lossy(name))),
            Error::TooMuch(_) => (Code::NotChecked, Place::default()),
            Error::Unreadable { name, .. } => (Code::NotChecked, Place::file(String::from_utf8_lossy(name))),
        };
        verdict.found(code, place, error.to_string());
    }
    verdict.settle();
    verdict
}

fn check(source: &Source, trust: &Trust, anchored: Option<&Judge>, verdict: &mut Verdict) -> Result<(), Error> {
    let Some(key) = key(source, verdict)? else { return Ok(()) };
    let Some(records) = records::find(source, &key, verdict)? else { return Ok(()) };
    let keys = &records.keys;
    if !trust.pins(keys, verdict) && !trust.keys.is_empty() {
        return Ok(());
    }
    sums::signature(source, keys, verdict)?;
    let Some((head, note)) = tree::head(source, keys, verdict)? else { return Ok(()) };
    let mut against = Against::new(trust, keys, verdict);
    if !tree::tiles(source, &head, &mut against, &records.upkeep, verdict)? {
        return Ok(());
    }
    let outside = anchors::read(source, keys, &head, verdict)?;
    let roots = outside.as_ref().map(|outside| &outside.roots);
    longer(&head, against, roots, &records.upkeep, verdict);
    let covers = match records::check(source, &records, &head, &note, verdict)? {
        None => return Ok(()),
        Some(Of::Run(contents)) => {
            let view = look(source, *contents, verdict)?;
            summary(source, &view, verdict)?;
            authorization(source, &view, verdict);
            verdict
                .unchecked("what is only a view of the records: report, recordings, attestations, rendered commands, lists of keys");
            view.last_seq
        }
        Some(Of::Purged(record)) => {
            purged::check(source, &record, verdict)?;
            Some(record.seq)
        }
    };
    if let Some(mut receipts) = outside {
        receipts.covers = covers.map_or(0, |seq| seq + 1);
        match anchored {
            Some(judge) => judge(&receipts, verdict),
            None => verdict.unchecked("the receipts of anchors (anchors/)"),
        }
    }
    Ok(())
}

/// The ledger's key in the bundle. It proves nothing by itself: whoever writes a bundle writes its key.
fn key(source: &Source, verdict: &mut Verdict) -> Result<Option<VerifierKey>, Error> {
    if source.entry(KEY).is_none() {
        verdict.found(Code::Tampered, Place::file(KEY), format!("{KEY} is missing: there is no key to check with"));
        return Ok(None);
    }
    // Every key that the ledger ever had, the newest last.
    match source.text(KEY)?.lines().last().unwrap_or_default().parse::<VerifierKey>() {
        Ok(key) => Ok(Some(key)),
        Err(error) => {
            verdict.found(Code::Tampered, Place::file(KEY), format!("{KEY}: {error}"));
            Ok(None)
        }
    }
}

/// Heads of a longer ledger than the bundle's: comparable where the bundle proves how it goes on to that size.
fn longer(
    head: &Checkpoint,
    against: Against,
    roots: Option<&BTreeMap<u64, Sha256>>,
    upkeep: &Upkeep,
    verdict: &mut Verdict,
) {
    for (name, other) in against.longer() {
        if let Some(what) = upkeep.explains(other.size) {
            verdict.gaps.push(Gap { host: None, step: None, what: format!("the head in {name}: {what}") });
            continue;
        }
        match roots.and_then(|roots| roots.get(&other.size)) {
            Some(root) if *root == other.root => {
                verdict.held(format!("the head in {name}, of {} records, goes on from the bundle's", other.size));
            }
            Some(root) => {
                let text = format!(
                    "the head in {name} is of another history: its {} records have the root {}, and those that go on from \
                     the bundle's {root}",
                    other.size, other.root
                );
                verdict.found(Code::Forked, Place::default(), text);
            }
            None => verdict.unchecked(format!(
                "whether the head in {name}, of {0} records, is of the same history: the bundle's is of {1}, and the bundle \
                 has no proof of consistency from {1} to {0}; where the ledger is, `runbook evidence verify {2} --against \
                 {name}` can tell",
                other.size,
                head.size,
                if verdict.run_id.is_empty() { "RUN" } else { &verdict.run_id }
            )),
        }
    }
}

/// Looks at each content that the records name.
fn look(source: &Source, mut contents: Contents, verdict: &mut Verdict) -> Result<RunView, Error> {
    let of = |contents: &Contents, is: &dyn Fn(&Kind) -> bool| -> Vec<Sha256> {
        contents.wanted().filter(|(_, named)| is(&named.kind)).map(|(digest, _)| *digest).collect()
    };
    let mut bytes = Vec::new();
    for list in of(&contents, &|kind| *kind == Kind::Transfers) {
        let name = source::blob_name(&list);
        if source.entry(&name).is_none_or(|entry| entry.digest != list) {
            continue;
        }
        source.get(&name, &mut bytes)?;
        if let Err(error) = contents.transfers(&list, &bytes) {
            let text = format!("{name} is no list of moved files: {error}");
            verdict.found(Code::Tampered, Place::file(name), text);
        }
    }
    for digest in of(&contents, &|kind| *kind == Kind::Approval) {
        let name = source::blob_name(&digest);
        // One that was not kept aside is not what its record says; that it was not looked at is told.
        if source.entry(&name).is_some_and(|entry| entry.digest == digest) && source.get(&name, &mut bytes).is_ok() {
            contents.approval(digest, &bytes);
        }
    }
    let mut editions = redactions::Editions::default();
    for digest in of(&contents, &|_| true) {
        let found = match source.blob(&digest) {
            Some(measured) => Found::Whole(measured),
            None => match contents.wanted_output(&digest) {
                Some(output) => editions.look(source, &output, verdict)?,
                None => Found::Missing,
            },
        };
        contents.found(&digest, &found, verdict);
    }
    editions.finish(source, verdict)?;
    let mut unnamed = 0;
    for (digest, entry) in source.blobs() {
        if entry.digest != *digest {
            let name = source::blob_name(digest);
            let text = format!("{name} does not have the digest that it is named by");
            verdict.found(Code::Tampered, Place::file(name), text);
        } else if !contents.names(digest) {
            unnamed += 1;
        }
    }
    if let Some(name) = source.others().find(|name| name.starts_with("blobs/")) {
        verdict.found(Code::Tampered, Place::file(name), format!("{name} is no content's name"));
    }
    if unnamed > 0 {
        verdict.unchecked(format!("{} are named by no record of the run", count(unnamed, "content")));
    }
    Ok(contents.finish(verdict))
}

/// What has a name of its own of the authorization is what the opening names, and no more: people read it there.
fn authorization(source: &Source, view: &RunView, verdict: &mut Verdict) {
    let Some(header) = &view.header else { return };
    let named: BTreeMap<String, Sha256> =
        super::authorization(header).into_iter().map(|file| (file.path, file.digest)).collect();
    let is_of_it = |path: &&str| path.starts_with("policy/") || path.starts_with("approvals/");
    for path in source.others().filter(is_of_it).filter(|path| *path != super::SIGNERS) {
        let is = source.entry(path).map(|entry| entry.digest);
        if is.is_none() || named.get(path).copied() != is {
            let text = format!("{path} is not what the run's opening names");
            verdict.found(Code::Tampered, Place::file(path), text);
        }
    }
}

/// `run.json` is a view, and the one that programs read: it must not say something else than the records.
fn summary(source: &Source, view: &RunView, verdict: &mut Verdict) -> Result<(), Error> {
    const RUN: &str = "run.json";
    let Some(entry) = source.entry(RUN) else { return Ok(()) };
    if entry.bytes > RUN_BYTES_MAX {
        verdict.unchecked("run.json: it is too long");
        return Ok(());
    }
    let text = source.text(RUN)?;
    let outcome = view.outcome.filter(|_| view.state == crate::view::RunState::Ended);
    let expected = [
        ("run_id", view.run().map(|run| Value::from(run.as_str()))),
        ("plan_digest", Some(Value::from(view.plan.digest().to_string()))),
        ("outcome", Some(outcome.map_or(Value::Null, |outcome| outcome.name().into()))),
    ];
    let said: Value = serde_json::from_str(&text).unwrap_or_default();
    for (key, value) in expected {
        if value.is_some_and(|value| said[key] != value) {
            let text = format!("run.json says {key} {}, and the records do not", said[key]);
            verdict.found(Code::Tampered, Place::file(RUN), text);
        }
    }
    Ok(())
}
