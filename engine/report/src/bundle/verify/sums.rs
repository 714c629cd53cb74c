//! `SHA256SUMS`: every file of the bundle is in it, with its digest, and nothing else; and its signature.

use std::io::{BufRead as _, BufReader, Read as _};

use runbook_ledger::KeyChain;
use runbook_ledger::sshsig::{self, Message};
use runbook_model::Sha256;

use super::source::{Error, Source};
use crate::text::count;
use crate::verdict::{Code, Place, Verdict};

/// The list.
pub(super) const SUMS: &str = "SHA256SUMS";
/// Its signature.
const SIGNATURE: &str = "SHA256SUMS.sig";
/// Beside its signature there may be a time stamp of it.
const SUMS_DOT: &str = "SHA256SUMS.";
/// What it is signed for.
const NAMESPACE: &str = "runbook-bundle@v1";
/// The longest line that is read.
const LINE_MAX: u64 = 4_096;
/// Checks that the list and the files are the same. Extra files are as wrong as missing ones: what is not in the list is
/// not under its signature.
pub(super) fn check(source: &mut Source, verdict: &mut Verdict) -> Result<(), Error> {
    if source.entry(SUMS).is_none() {
        verdict.found(Code::Tampered, Place::file(SUMS), "SHA256SUMS is missing: nothing says which files belong here");
        return Ok(());
    }
    let mut reader = BufReader::new(source.stream(SUMS)?);
    let mut lines = 0_usize;
    let mut line = Vec::new();
    let mut wrong = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
        let length = read.map_err(|error| Error::Unreadable { name: SUMS.into(), error })?;
        if length == 0 {
            break;
        }
        lines += 1;
        let Some((digest, name)) = parse(&line) else {
            let text = format!("SHA256SUMS: line {} is none of its form", lines);
            verdict.found(Code::Tampered, Place::file(SUMS), text);
            return Ok(());
        };
        let found = match source.entry_mut(name) {
            None => Some(format!("{name} is missing")),
            Some(entry) => {
                let twice = entry.list();
                if entry.digest != digest {
                    Some(format!("{name} was changed: it does not have its digest"))
                } else {
                    twice.then(|| format!("{name} is in SHA256SUMS twice"))
                }
            }
        };
        wrong.extend(found.map(|found| (name.to_owned(), found)));
    }
    let not_listed =
        source.not_listed().filter(|name| name != SUMS && name != SIGNATURE && !name.starts_with(SUMS_DOT));
    wrong.extend(not_listed.map(|name| (name.clone(), format!("{name} is not in SHA256SUMS"))));
    wrong.sort();
    for (name, what) in wrong.iter().take(TOLD) {
        verdict.found(Code::Tampered, Place { record: seq(name), file: Some(name.clone()) }, what.clone());
    }
    if wrong.len() > TOLD {
        let more = format!("{} more are wrong", count(wrong.len() - TOLD, "file"));
        verdict.found(Code::Tampered, Place::default(), more);
    }
    if wrong.is_empty() {
        verdict.held(format!("{} are those in SHA256SUMS, each with its digest", count(lines, "file")));
    }
    Ok(())
}

/// Files that are told of one by one.
const TOLD: usize = 20;

/// The record that a file is of.
fn seq(name: &str) -> Option<u64> {
    let name = name.strip_prefix("records/").or_else(|| name.strip_prefix("ledger/proofs/"))?;
    name.split_once('.')?.0.parse().ok()
}

/// A line as `sha256sum` writes it: digest, two blanks, name.
fn parse(line: &[u8]) -> Option<(Sha256, &str)> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (digest, name) = line.split_at_checked(64)?;
    let name = name.strip_prefix("  ")?;
    super::names::check(name.as_bytes()).ok()?;
    Some((digest.parse().ok()?, name))
}

/// Checks the signature over the list, by one of the ledger's keys.
pub(super) fn signature(source: &Source, keys: &KeyChain, verdict: &mut Verdict) -> Result<(), Error> {
    if source.entry(SUMS).is_none() || source.entry(SIGNATURE).is_none() {
        verdict.unchecked("who wrote SHA256SUMS: it has no signature (SHA256SUMS.sig)");
        return Ok(());
    }
    let armored = source.text(SIGNATURE)?;
    let mut sums = Message::default();
    let mut reader = source.stream(SUMS)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = reader.read(&mut buffer).map_err(|error| Error::Unreadable { name: SUMS.into(), error })?;
        if read == 0 {
            break;
        }
        sums.update(&buffer[..read]);
    }
    let place = || Place::file(SIGNATURE);
    let signer = sshsig::Signature::parse(&armored).and_then(|signature| signature.verify_message(NAMESPACE, &sums));
    match signer {
        Ok(signer) if keys.links().iter().any(|link| link.key.public_key() == signer) => {
            verdict.held("SHA256SUMS is signed by the ledger's key");
        }
        Ok(_) => {
            let text = "SHA256SUMS is signed by another key than the ledger's";
            verdict.found(Code::UntrustedKey, place(), text);
        }
        Err(error) => verdict.found(Code::Tampered, place(), format!("SHA256SUMS.sig: {error}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_in_its_one_form() {
        let digest = "ab".repeat(32);
        assert_eq!(parse(format!("{digest}  a/b\n").as_bytes()), Some((digest.parse().unwrap(), "a/b")));
        for bad in [
            format!("{digest}  a/b"),
            format!("{digest} *a/b\n"),
            format!("{digest}  ../b\n"),
            format!("{digest}  \n"),
            format!("{}  a\n", digest.to_uppercase()),
            format!("\\{digest}  a\n"),
            format!("{digest}  a\r\n"),
            "short\n".into(),
            String::new(),
        ] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_records_file_says_which_record_it_is() {
        assert_eq!(seq("records/41.json"), Some(41));
        assert_eq!(seq("ledger/proofs/7.tlog-proof"), Some(7));
        assert_eq!(seq("plan/plan.json"), None);
    }
}
