//! Outputs of which something is withheld: what is shown has the root on record, and `redactions.json`, which people and
//! programs read, says the same.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};

use runbook_ledger::redaction::{self, Withheld};
use runbook_model::{OutputRef, Sha256};

use super::source::{Error, Source};
use crate::bundle::redacted_path;
use crate::bundle::redactions::{FILE, Redactions};
use crate::verdict::contents::Found;
use crate::verdict::{Code, Place, Verdict};

/// What is withheld in the bundle, by the outputs' roots.
#[derive(Default)]
pub(super) struct Editions(BTreeMap<Sha256, Withheld>);

impl Editions {
    /// What stands in the place of an output that is not there.
    pub(super) fn look(&mut self, source: &Source, output: &OutputRef, verdict: &mut Verdict) -> Result<Found, Error> {
        let Some(root) = output.root else { return Ok(Found::Missing) };
        let name = redacted_path(&root);
        if source.entry(&name).is_none() {
            return Ok(Found::Missing);
        }
        match read(source, output, &name)? {
            Ok(withheld) => {
                self.0.insert(root, withheld.clone());
                Ok(Found::Withheld(withheld))
            }
            Err(error) => {
                self.0.insert(root, Withheld::default());
                verdict.found(Code::Tampered, Place::file(name.clone()), format!("{name}: {error}"));
                Ok(Found::WronglyWithheld)
            }
        }
    }

    /// There are no more. Holds the list against them.
    pub(super) fn finish(self, source: &Source, verdict: &mut Verdict) -> Result<(), Error> {
        let strange = source
            .others()
            .filter_map(|name| name.strip_prefix("outputs-redacted/"))
            .find(|name| {
                let root = name.strip_suffix(".json").and_then(|root| root.parse::<Sha256>().ok());
                root.is_none_or(|root| !self.0.contains_key(&root))
            })
            .map(|name| format!("outputs-redacted/{name}"));
        if let Some(name) = strange {
            let text = format!("{name} is of no output that is withheld here");
            verdict.found(Code::Tampered, Place::file(name), text);
        }
        if self.0.is_empty() && source.entry(FILE).is_none() {
            return Ok(());
        }
        let said = match source.entry(FILE) {
            None => None,
            Some(_) => serde_json::from_str::<Redactions>(&source.text(FILE)?).ok(),
        };
        let said =
            said.map(|said| said.outputs.into_iter().map(|output| (output.root, Withheld::new(output.withheld))));
        if said.map(Iterator::collect::<BTreeMap<_, _>>).is_none_or(|said| said != self.0) {
            let text = format!("{FILE} does not say what is withheld here");
            verdict.found(Code::Tampered, Place::file(FILE), text);
        }
        Ok(())
    }
}

/// Reads a redacted output; the inner error is that it is not the one on record.
fn read(source: &Source, output: &OutputRef, name: &str) -> Result<Result<Withheld, redaction::Error>, Error> {
    let mut reader = BufReader::new(source.stream(name)?);
    let mut lines = match redaction::Reader::new(output) {
        Ok(lines) => lines,
        Err(error) => return Ok(Err(error)),
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = redaction::LINE_BYTES_MAX as u64 + 2;
        let unreadable = |error| Error::Unreadable { name: name.as_bytes().to_vec(), error };
        if reader.by_ref().take(most).read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            return Ok(lines.finish());
        }
        if let Err(error) = lines.line(line.strip_suffix(b"\n").unwrap_or(&line)) {
            return Ok(Err(error));
        }
    }
}
