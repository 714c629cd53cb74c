//! What receipts of anchors prove: of a run in its project, and of a bundle. Knows neither the store nor the bundle.
//!
//! Only what the verifier brought counts for "anchored outside": a witness's key with `--pin`, certificates of a time stamp
//! authority with `--tsa-ca`. What the project's own settings say is told apart, for whoever rewrote the ledger could have
//! rewritten them too. Receipts of the kinds `git`, `file` and `syslog` name a copy elsewhere and prove nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use runbook_anchors::{FileReceipt, GitReceipt, SyslogReceipt};
use runbook_ledger::note::Note;
use runbook_ledger::timestamp::{self, TimeStamp};
use runbook_ledger::{Checkpoint, KeyChain, VerifierKey, WitnessKey, cosignature};
use runbook_model::Sha256;
use runbook_model::units::rfc3339_ms;
use runbook_ports::store::StoreError;
use runbook_ports::{BlobStore as _, Store as _};
use runbook_report::bundle::verify as bundle;
use runbook_report::check::Gap;
use runbook_report::outside::{Checked, ReceiptCheck};
use runbook_report::verdict::{Code, Place, Verdict};
use runbook_store::SqliteStore;

use super::history::Past;
use super::settings::{AnchorSettings, Kind};
use super::{Receipts, receipts};
use crate::failure::Failure;
use crate::record;

/// The longest receipt that is read, in bytes.
pub(crate) const RECEIPT_BYTES_MAX: u64 = 1 << 20;

/// The longest file of pinned keys.
const PINS_BYTES_MAX: u64 = 1 << 20;

/// A receipt as it is held: from an `anchored` notice and its blob, or from a bundle's anchors/ folder.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The anchor's name.
    pub(crate) anchor: String,
    /// `rfc3161`, `witness`, `git`, `file` or `syslog`.
    pub(crate) kind: String,
    /// Size of the head that was anchored, as the notice says.
    pub(crate) size: u64,
    /// Its root, as the notice says.
    pub(crate) root: Sha256,
    /// When the notice was recorded (RFC 3339), for people.
    pub(crate) at: String,
    /// The receipt: a DER `TimeStampResp` (rfc3161), the cosigned note (witness), a JSON document with the note (others).
    pub(crate) receipt: Vec<u8>,
    /// The signed note that was anchored, exactly: what a time stamp is of. `None` when the caller has it not.
    pub(crate) head: Option<String>,
    /// Where the receipt is, for a finding.
    pub(crate) place: Place,
}

/// The ledger that the receipts are held against; it was verified before.
pub(crate) struct Ledger<'a> {
    /// Its keys.
    pub(crate) keys: &'a KeyChain,
    /// How many records it has; a bundle: the size of the largest head that it proves.
    pub(crate) size: u64,
    /// The run's last record + 1.
    pub(crate) covers: u64,
    /// The root of its first `n` records; `None` when that is not known, as in a bundle for most sizes.
    pub(crate) root: &'a (dyn Fn(u64) -> Option<Sha256> + Sync),
    /// The ledger is all there is, so that a receipt of a larger one contradicts it. True of a store, false of a bundle.
    pub(crate) whole: bool,
}

/// Whom to believe.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// Keys of witnesses that the verifier brought.
    pub(crate) witnesses: Vec<WitnessKey>,
    /// Certificates of time stamp authorities that the verifier brought.
    pub(crate) tsa_ca: Option<PathBuf>,
    /// What the project's own settings say, by anchor. A bundle has none.
    pub(crate) own: BTreeMap<String, OwnTrust>,
}

/// What the project's settings say of an anchor.
#[derive(Debug, Default)]
pub(crate) struct OwnTrust {
    /// The witness's key.
    pub(crate) witness: Option<WitnessKey>,
    /// The authority's certificates.
    pub(crate) tsa_ca: Option<PathBuf>,
}

impl Trust {
    /// What the verifier brought, and what the project's settings say.
    pub(crate) fn new(witnesses: Vec<WitnessKey>, tsa_ca: Option<PathBuf>, settings: &[AnchorSettings]) -> Self {
        let own = settings.iter().map(|anchor| {
            let own = match &anchor.kind {
                Kind::Rfc3161 { tsa_ca, .. } => OwnTrust { witness: None, tsa_ca: tsa_ca.clone() },
                Kind::Witness { key, .. } => OwnTrust { witness: Some(key.clone()), tsa_ca: None },
                _ => OwnTrust::default(),
            };
            (anchor.name.clone(), own)
        });
        Self { witnesses, tsa_ca, own: own.collect() }
    }
}

/// The keys that a verifier brought.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    /// Of ledgers.
    pub(crate) ledgers: Vec<VerifierKey>,
    /// Of witnesses.
    pub(crate) witnesses: Vec<WitnessKey>,
}

/// Reads files of pinned keys: a verifier key a line, of ledgers and of witnesses, which are told apart by their first byte.
/// Empty lines and lines that begin with `#` are passed over.
pub(crate) fn pins(files: &[PathBuf]) -> Result<Pins, Failure> {
    let mut pins = Pins::default();
    for path in files {
        let wrong = |why: String| Failure::usage("RB0606", format!("{} holds no public key: {why}", path.display()));
        let length = std::fs::metadata(path).map_err(|error| Failure::file("RB0606", "read", path, &error))?.len();
        if length > PINS_BYTES_MAX {
            return Err(wrong("it is too long".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file("RB0606", "read", path, &error))?;
        let before = pins.ledgers.len() + pins.witnesses.len();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match (line.parse::<VerifierKey>(), line.parse::<WitnessKey>()) {
                (Ok(key), _) => pins.ledgers.push(key),
                (_, Ok(key)) => pins.witnesses.push(key),
                (Err(error), _) => return Err(wrong(error.to_string())),
            }
        }
        if pins.ledgers.len() + pins.witnesses.len() == before {
            return Err(wrong("it is empty".into()));
        }
    }
    Ok(pins)
}

/// What came of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// A receipt that covers the run verifies under what the verifier brought.
    pub(crate) anchored: bool,
    pub(crate) held: Vec<String>,
    pub(crate) unchecked: Vec<String>,
    pub(crate) wrong: Vec<(Code, Place, String)>,
    /// Receipts that are not there any more.
    pub(crate) missing: Vec<String>,
    /// The same by receipt.
    pub(crate) receipts: Vec<ReceiptCheck>,
}

impl Findings {
    /// Puts them into a verdict.
    pub(crate) fn tell(self, verdict: &mut Verdict) {
        verdict.anchored |= self.anchored;
        verdict.receipts.extend(self.receipts);
        self.held.into_iter().for_each(|text| verdict.held(text));
        self.unchecked.into_iter().for_each(|text| verdict.unchecked(text));
        for (code, place, text) in self.wrong {
            verdict.found(code, place, text);
        }
        let gap = |what| Gap { host: None, step: None, what };
        verdict.gaps.extend(self.missing.into_iter().map(gap));
        verdict.settle();
    }

    fn wrong(&mut self, code: Code, held: &Held, text: impl std::fmt::Display) {
        let Held { anchor, kind, size, .. } = held;
        let text = format!("the receipt of {anchor} ({kind}) for {size} records: {text}");
        self.receipt(held, Checked::Wrong, &text);
        self.wrong.push((code, held.place.clone(), text));
    }

    /// It could not be checked.
    fn not_checked(&mut self, held: &Held, text: String) {
        self.receipt(held, Checked::NotChecked, &text);
        self.unchecked.push(text);
    }

    /// It holds.
    fn holds(&mut self, held: &Held, checked: Checked, text: String) {
        self.receipt(held, checked, &text);
        self.held.push(text);
    }

    /// The receipt's content is not there any more, or not as it was.
    fn lost(&mut self, anchor: &str, held: &receipts::Held, error: &StoreError) {
        let what = format!("the receipt of {anchor} ({}) for {} records: {error}", held.kind, held.size);
        let (anchor, kind, size) = (anchor.to_owned(), held.kind.clone(), held.size);
        let mut checked = Checked::NotChecked;
        match error {
            StoreError::Missing(_) => self.missing.push(what.clone()),
            StoreError::Corrupt(_) | StoreError::TooLarge(_) => {
                checked = Checked::Wrong;
                self.wrong.push((Code::Tampered, Place::blob(&held.receipt), what.clone()));
            }
            _ => self.wrong.push((Code::NotChecked, Place::blob(&held.receipt), what.clone())),
        }
        self.receipts.push(ReceiptCheck { anchor, kind, size, checked, what });
    }

    fn receipt(&mut self, held: &Held, checked: Checked, text: &str) {
        let Held { anchor, kind, size, .. } = held.clone();
        self.receipts.push(ReceiptCheck { anchor, kind, size, checked, what: text.to_owned() });
    }
}

/// Holds each receipt against the ledger and the trust.
pub(crate) fn check(ledger: &Ledger<'_>, receipts: &[Held], trust: &Trust) -> Findings {
    let mut findings = Findings::default();
    let mut covered = false;
    // Of each anchor one receipt that proves something of the run is enough; further ones must only not contradict.
    let mut proved = BTreeSet::new();
    for held in receipts {
        let Some(head) = head_of(ledger, held, &mut findings) else { continue };
        covered |= head.size >= ledger.covers;
        if proved.contains(&held.anchor) {
            continue;
        }
        let before = findings.held.len();
        proof(ledger, held, &head, trust, &mut findings);
        if head.size >= ledger.covers && findings.held.len() > before {
            proved.insert(&held.anchor);
        }
    }
    if !covered {
        findings.unchecked.push("nobody outside was given a head that covers the run".into());
    }
    findings
}

/// The head that the receipt is of, when it is one of this ledger.
fn head_of(ledger: &Ledger<'_>, held: &Held, findings: &mut Findings) -> Option<Checkpoint> {
    let note = match held.kind.as_str() {
        "rfc3161" => match &held.head {
            Some(head) => head.clone(),
            None => {
                findings.not_checked(held, format!("{}: the head of {} records is not here", held.anchor, held.size));
                return None;
            }
        },
        "witness" => String::from_utf8(held.receipt.clone()).unwrap_or_default(),
        "git" => serde_json::from_slice::<GitReceipt>(&held.receipt).map(|receipt| receipt.note).unwrap_or_default(),
        "file" => serde_json::from_slice::<FileReceipt>(&held.receipt).map(|receipt| receipt.note).unwrap_or_default(),
        "syslog" => {
            serde_json::from_slice::<SyslogReceipt>(&held.receipt).map(|receipt| receipt.note).unwrap_or_default()
        }
        kind => {
            let text = format!("{}: this version does not know anchors of the kind {kind}", held.anchor);
            findings.not_checked(held, text);
            return None;
        }
    };
    let head = match ledger.keys.verify(&note) {
        Ok(head) => head,
        Err(error) => {
            findings.wrong(Code::Tampered, held, format!("it is not of a head of this ledger: {error}"));
            return None;
        }
    };
    if ledger.whole && head.size > ledger.size {
        let text = format!("it is of {} records signed by the ledger's key, and there are {}", head.size, ledger.size);
        findings.wrong(Code::Forked, held, text);
        return None;
    }
    if (ledger.root)(head.size).is_some_and(|root| root != head.root) {
        findings.wrong(Code::Forked, held, "it is of another history, signed by the ledger's key");
        return None;
    }
    if !ledger.whole && (ledger.root)(head.size).is_none() {
        let text = "is not proved to be of the same history as the bundle's";
        findings.unchecked.push(format!("{}: its head of {} records {text}", held.anchor, head.size));
        return None;
    }
    if (head.size, head.root) != (held.size, held.root) {
        let text = format!("it is of another head, of {} records", head.size);
        findings.wrong(Code::Tampered, held, text);
        return None;
    }
    Some(head)
}

/// What the receipt proves.
fn proof(ledger: &Ledger<'_>, held: &Held, head: &Checkpoint, trust: &Trust, findings: &mut Findings) {
    let name = &held.anchor;
    let covers = head.size >= ledger.covers;
    let what = if covers { "this run" } else { "an earlier part of the ledger" };
    let own = trust.own.get(name);
    match held.kind.as_str() {
        "witness" => {
            let Ok(note) = Note::parse(&String::from_utf8_lossy(&held.receipt)) else { return };
            let by = |key: &WitnessKey| cosignature::verify(&note, key);
            for key in &trust.witnesses {
                match by(key) {
                    Ok(time_s) => {
                        findings.anchored |= covers;
                        let (key, at) = (key.name(), seconds(time_s));
                        let text = format!("the witness {key} (pinned) saw {what} at {at} ({} records)", head.size);
                        findings.holds(held, Checked::Verified, text);
                        return;
                    }
                    Err(runbook_ledger::note::Error::BadSignature(_)) => {
                        findings.wrong(Code::Tampered, held, format!("the cosignature of {} is false", key.name()));
                        return;
                    }
                    Err(_) => {}
                }
            }
            match own.and_then(|own| own.witness.as_ref()).map(|key| (key, by(key))) {
                Some((key, Ok(time_s))) => {
                    let text = format!(
                        "the witness {} saw {what} at {} ({} records): checked with this project's own settings; pin its key",
                        key.name(),
                        seconds(time_s),
                        head.size
                    );
                    findings.holds(held, Checked::OwnSettings, text);
                }
                Some((key, Err(runbook_ledger::note::Error::BadSignature(_)))) => {
                    findings.wrong(Code::Tampered, held, format!("the cosignature of {} is false", key.name()));
                }
                Some(_) | None => {
                    let names: Vec<&str> = note.signers().filter(|signer| *signer != head.origin).collect();
                    let names = runbook_report::text::list(&names, 4);
                    let text = format!("{name}: the cosignature of {names} over {what}: pin the witness's key");
                    findings.not_checked(held, text);
                }
            }
        }
        "rfc3161" => stamp(held, covers, what, trust, findings),
        _ => findings.not_checked(held, copy(held, head, what)),
    }
}

fn stamp(held: &Held, covers: bool, what: &str, trust: &Trust, findings: &mut Findings) {
    let (name, head) = (&held.anchor, held.head.as_deref().unwrap_or_default());
    let stamp =
        match timestamp::parse(&held.receipt).and_then(|stamp| stamp.must_be_of(head.as_bytes()).map(|()| stamp)) {
            Ok(stamp) => stamp,
            Err(error) => {
                findings.wrong(Code::Tampered, held, error);
                return;
            }
        };
    let at = seconds(stamp.time_s);
    let size = held.size;
    let own = trust.own.get(name).and_then(|own| own.tsa_ca.as_deref());
    let (ca, brought) = match (&trust.tsa_ca, own) {
        (Some(ca), _) => (ca.as_path(), true),
        (None, Some(ca)) => (ca, false),
        (None, None) => {
            let text = format!("{name}: the time stamp of {at} over {what}: give its authority with --tsa-ca");
            findings.not_checked(held, text);
            return;
        }
    };
    match openssl(&held.receipt, head, &stamp, ca) {
        Ok(()) if brought => {
            findings.anchored |= covers;
            let text = format!("the time stamp of {name} says that {what} was there at {at} ({size} records)");
            findings.holds(held, Checked::Verified, text);
        }
        Ok(()) => {
            let text = format!(
                "the time stamp of {name} says that {what} was there at {at} ({size} records): checked with this project's \
                 own settings; give --tsa-ca"
            );
            findings.holds(held, Checked::OwnSettings, text);
        }
        Err(why) => findings.not_checked(held, format!("{name}: the time stamp of {at} over {what}: {why}")),
    }
}

/// Asks the system's `openssl`, whose cryptography is the distribution's, whether an authority that is believed signed the
/// stamp: at the time that it says, for its certificate may have expired since.
fn openssl(response: &[u8], head: &str, stamp: &TimeStamp, ca: &Path) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| format!("not checked: {error}"))?;
    let put = |name: &str, bytes: &[u8]| -> Result<PathBuf, String> {
        let path = folder.path().join(name);
        std::fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| format!("not checked: {error}"))?;
        Ok(path)
    };
    let (data, token) = (put("head", head.as_bytes())?, put("token", response)?);
    let output = Command::new("openssl")
        .args(["ts", "-verify", "-data"])
        .arg(data)
        .arg("-in")
        .arg(token)
        .arg("-CAfile")
        .arg(std::path::absolute(ca).map_err(|error| format!("not checked: {error}"))?)
        .args(["-attime", &stamp.time_s.to_string()])
        .env("LC_ALL", "C")
        .stdin(std::process::Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err("not checked: there is no openssl here".into());
        }
        Err(error) => return Err(format!("not checked: openssl: {error}")),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // `…:error:HEX:library:function:reason:file:line:detail`; the first that has one tells most.
    let mut reasons = said.lines().filter_map(|line| {
        let mut parts = line.split(':').skip_while(|part| *part != "error").skip(4);
        let reason = parts.next()?;
        let detail = parts.skip(2).collect::<Vec<_>>().join(":");
        Some(if detail.is_empty() { reason.to_owned() } else { format!("{reason} ({})", detail.trim()) })
    });
    let reason = reasons.next_back().unwrap_or_else(|| "it does not say why".into());
    Err(format!("not verified with {}: {reason}", ca.display()))
}

/// Where the copy is that proves something.
fn copy(held: &Held, head: &Checkpoint, what: &str) -> String {
    let Held { anchor, receipt, at, .. } = held;
    let place = match held.kind.as_str() {
        "git" => serde_json::from_slice::<GitReceipt>(receipt)
            .map(|receipt| format!("commit {} of {} in {}", receipt.commit, receipt.branch, receipt.remote)),
        "file" => serde_json::from_slice::<FileReceipt>(receipt)
            .map(|receipt| format!("{} from byte {} on", receipt.path.display(), receipt.offset)),
        _ => serde_json::from_slice::<SyslogReceipt>(receipt)
            .map(|receipt| format!("a message to {}, which acknowledges nothing", receipt.address)),
    };
    let place = place.unwrap_or_default();
    format!(
        "{anchor}: {what} was copied at {at} to {place} ({} records, root {}): compare it there",
        head.size, head.root
    )
}

fn seconds(time_s: u64) -> String {
    rfc3339_ms(time_s.saturating_mul(1_000))
}

/// The same for the ledger in a store, whose records were verified before: `covers` is the run's last record + 1.
pub(crate) async fn of_store(
    store: &SqliteStore,
    keys: &KeyChain,
    covers: u64,
    trust: &Trust,
) -> Result<Findings, Failure> {
    let failed = |error| record::failed(&error);
    let receipts = Receipts::read(store).await?;
    let mut findings = Findings::default();
    let heads: BTreeMap<u64, String> =
        store.checkpoints().await.map_err(failed)?.into_iter().map(|head| (head.size, head.note)).collect();
    let size = store.head().await.map_err(failed)?.size;
    let mut read = Vec::new();
    for (anchor, held) in wanted(&receipts, covers) {
        let receipt = match store.get(&held.receipt, RECEIPT_BYTES_MAX).await {
            Ok(receipt) => receipt,
            Err(error) => {
                findings.lost(anchor, held, &error);
                continue;
            }
        };
        read.push(Held {
            anchor: anchor.to_owned(),
            kind: held.kind.clone(),
            size: held.size,
            root: held.root,
            at: held.at.clone(),
            receipt,
            head: heads.get(&held.size).cloned(),
            place: Place::record(held.seq),
        });
    }
    let mut sizes: Vec<u64> = read.iter().map(|held| held.size).filter(|held| *held <= size).collect();
    // Also of what a receipt itself says, which may be another head than its notice names.
    sizes.extend(read.iter().filter_map(said_size).filter(|said| *said <= size));
    sizes.sort_unstable();
    sizes.dedup();
    let ranges: Vec<_> = sizes.iter().map(|size| 0..*size).collect();
    let roots =
        Past::new(Arc::new(store.clone())).roots(&ranges).await.map_err(|why| Failure::new("RB0610", 30, why))?;
    let roots: BTreeMap<u64, Sha256> = sizes.into_iter().zip(roots).collect();
    let root = |size: u64| roots.get(&size).copied();
    let more = check(&Ledger { keys, size, covers, root: &root, whole: true }, &read, trust);
    findings.anchored |= more.anchored;
    findings.held.extend(more.held);
    findings.unchecked.extend(more.unchecked);
    findings.wrong.extend(more.wrong);
    findings.receipts.extend(more.receipts);
    Ok(findings)
}

/// The same for a bundle, whose head its receipts are of: what its verifier brought counts, and nothing else is there.
pub(crate) fn of_bundle(witnesses: Vec<WitnessKey>, tsa_ca: Option<PathBuf>) -> bundle::Judge {
    let trust = Trust { witnesses, tsa_ca, own: BTreeMap::new() };
    Box::new(move |found, verdict| {
        let held: Vec<Held> = found
            .receipts
            .iter()
            .map(|receipt| Held {
                anchor: receipt.anchor.clone(),
                kind: receipt.kind.clone(),
                size: receipt.size,
                root: receipt.root,
                at: receipt.time.clone(),
                receipt: receipt.bytes.clone(),
                head: Some(receipt.note.clone()),
                place: Place::file(&receipt.file),
            })
            .collect();
        let root = |size: u64| found.roots.get(&size).copied();
        let size = found.roots.keys().next_back().copied().unwrap_or_default();
        let ledger = Ledger { keys: &found.keys, size, covers: found.covers, root: &root, whole: false };
        check(&ledger, &held, &trust).tell(verdict);
    })
}

/// Of each anchor the first receipt that covers the run and the newest one, which may be by another key; others say nothing
/// more of the run.
fn wanted(receipts: &Receipts, covers: u64) -> Vec<(&str, &receipts::Held)> {
    let mut wanted: BTreeMap<&str, (Option<&receipts::Held>, &receipts::Held)> = BTreeMap::new();
    for (anchor, held) in receipts.all() {
        let (first, newest) = wanted.entry(anchor).or_insert((None, held));
        if held.size >= covers && first.is_none_or(|first| held.size < first.size) {
            *first = Some(held);
        }
        if held.seq > newest.seq {
            *newest = held;
        }
    }
    let both = |(anchor, (first, newest)): (_, (Option<_>, _))| {
        let other = (first != Some(newest)).then_some(newest);
        first.into_iter().chain(other).map(move |held| (anchor, held))
    };
    wanted.into_iter().flat_map(both).collect()
}

/// The size in the head that a receipt holds.
fn said_size(held: &Held) -> Option<u64> {
    let text = String::from_utf8_lossy(&held.receipt);
    let note = match held.kind.as_str() {
        "witness" => text.into_owned(),
        _ => serde_json::from_str::<serde_json::Value>(&text).ok()?.get("note")?.as_str()?.to_owned(),
    };
    Some(Checkpoint::parse(Note::parse(&note).ok()?.text()).ok()?.size)
}

#[cfg(test)]
mod tests;
