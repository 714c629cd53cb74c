//! Files that a person got from elsewhere: keys to trust, heads to compare with.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use runbook_ledger::{VerifierKey, WitnessKey};
use runbook_report::verdict::Code;
use runbook_report::verdict::trust::Trust;

use crate::failure::Failure;

/// The longest such file; a signed head with many signatures has a few kilobytes.
const BYTES_MAX: u64 = 1 << 20;

/// Reads what `--pin` and `--against` name.
pub(super) fn read(pins: &[PathBuf], against: &[PathBuf]) -> Result<Trust, Failure> {
    let mut trust = Trust::default();
    for path in pins {
        for line in text(path)?.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            match line.parse::<VerifierKey>() {
                Ok(key) => trust.keys.push(key),
                Err(_) if is_of_another_kind(line) => trust.others.push(line.to_owned()),
                Err(error) => {
                    return Err(failure("RB0606", format!("{} is no public ledger key: {error}", path.display())));
                }
            }
        }
    }
    for path in against {
        trust.against.push((path.display().to_string(), text(path)?));
    }
    Ok(trust)
}

/// The keys of witnesses among what `--pin` names. One of a kind that this version does not know is passed over.
pub(super) fn witnesses(pins: &[PathBuf]) -> Result<Vec<WitnessKey>, Failure> {
    Ok(read(pins, &[])?.others.iter().filter_map(|line| line.parse().ok()).collect())
}

/// `NAME+ID+KEY` whose key is of a kind other than a ledger's: a witness signs with one of its own kind.
fn is_of_another_kind(line: &str) -> bool {
    use base64::Engine as _;
    let mut parts = line.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else { return false };
    let bytes = base64::engine::general_purpose::STANDARD.decode(key).unwrap_or_default();
    let id = id.len() == 8 && id.bytes().all(|digit| digit.is_ascii_hexdigit());
    !name.is_empty() && id && bytes.first().is_some_and(|kind| *kind != 1) && bytes.len() == 33
}

fn text(path: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Ok(length) if length as u64 > BYTES_MAX => Err(failure("RB0681", format!("{} is too long", path.display()))),
        Ok(_) => Ok(text),
        Err(error) => Err(failure("RB0681", format!("{} cannot be read: {error}", path.display()))),
    }
}

fn failure(code: &'static str, message: String) -> Failure {
    Failure::new(code, Code::NotChecked.number(), message)
        .next("--pin takes the ledger's public key (keys/ledger.pub, or a bundle's trust/log.vkey got elsewhere), --against a signed head")
}
