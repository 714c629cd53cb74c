//! Cosignatures of witnesses (C2SP tlog-cosignature, `cosignature/v1`): "at this time, this was the largest head of that
//! ledger that I have seen, and it continues all that I saw before".
//!
//! A cosignature is a line below a signed head, beside the ledger's own. Its key is another kind than a ledger's: the first
//! byte of its verifier key is 0x04, so that one is never taken for the other.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::note::{self, Error, Note};

const COSIGNATURE_V1: u8 = 4;

/// A witness's public key with its name (`vkey`).
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessKey {
    name: String,
    key: VerifyingKey,
}

impl WitnessKey {
    /// A key under a name.
    ///
    /// # Errors
    /// `Name`; `Key` when the bytes are no Ed25519 public key.
    pub fn new(name: &str, public_key: &[u8; 32]) -> Result<Self, Error> {
        note::check_name(name)?;
        Ok(Self { name: name.to_owned(), key: note::public_key(public_key)? })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Its id: the first four bytes of SHA-256 over name, line end, 0x04 and public key.
    pub fn id(&self) -> [u8; 4] {
        note::key_id(&self.name, COSIGNATURE_V1, self.key.as_bytes())
    }
}

impl fmt::Display for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&note::key_text(&self.name, COSIGNATURE_V1, self.key.as_bytes()))
    }
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for WitnessKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let other = "a witness's key begins with 0x04 (Ed25519 cosignature/v1), and only those are known";
        let (name, public) = note::read_key(text, COSIGNATURE_V1, other)?;
        Self::new(name, &public)
    }
}

/// What is signed: the note's text, and when.
fn message(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

/// Cosigns a head's text at `time_s` (Unix seconds): the signature line, with its line end. Whether the head may be cosigned
/// is the caller's business.
///
/// # Errors
/// `Signer` with the signer's own words.
pub fn sign(
    text: &str,
    time_s: u64,
    key: &WitnessKey,
    signer: impl FnOnce(&[u8]) -> Result<[u8; 64], String>,
) -> Result<String, Error> {
    let signed = message(text, time_s);
    let signature = signer(&signed).map_err(Error::Signer)?;
    key.key
        .verify_strict(&signed, &Signature::from_bytes(&signature))
        .map_err(|_| Error::Signer("what it gave is no signature by its public key".to_owned()))?;
    let mut bytes = key.id().to_vec();
    bytes.extend(time_s.to_be_bytes());
    bytes.extend(signature);
    Ok(format!("\u{2014} {} {}\n", key.name, STANDARD.encode(bytes)))
}

/// When `key` cosigned the note (Unix seconds), the latest time if more than once. Lines by others are passed over.
///
/// # Errors
/// `NotSigned`; `BadSignature` when any line that names this key is false.
pub fn verify(note: &Note, key: &WitnessKey) -> Result<u64, Error> {
    let mut latest = None;
    for bytes in note.signatures_of(&key.name, key.id()) {
        let verified = bytes.split_first_chunk::<8>().and_then(|(time, signature)| {
            let time = u64::from_be_bytes(*time);
            let signature = Signature::from_slice(signature).ok()?;
            // The format's own bound: a larger time would be negative for half of its readers.
            let fits = i64::try_from(time).is_ok();
            (fits && key.key.verify_strict(&message(note.text(), time), &signature).is_ok()).then_some(time)
        });
        match verified {
            Some(time) => latest = latest.max(Some(time)),
            None => return Err(Error::BadSignature(key.name.clone())),
        }
    }
    latest.ok_or_else(|| Error::NotSigned(key.name.clone()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::FileKey;

    const TEXT: &str = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";

    fn key(seed: u8) -> (FileKey, WitnessKey) {
        let secret = FileKey::from_seed([seed; 32]);
        let public = WitnessKey::new("witness.example/w1", &secret.public_key()).unwrap();
        (secret, public)
    }

    fn cosigned(seed: u8, time_s: u64) -> Note {
        let (secret, public) = key(seed);
        let line = sign(TEXT, time_s, &public, |bytes| Ok(secret.sign(bytes))).unwrap();
        Note::parse(&format!("{TEXT}\n{line}")).unwrap()
    }

    #[test]
    fn a_cosignature_says_when() {
        assert_eq!(verify(&cosigned(7, 1_679_315_147), &key(7).1), Ok(1_679_315_147));
    }

    #[test]
    fn what_is_signed_is_as_the_specification_shows_it() {
        let example = "cosignature/v1\ntime 1679315147\nexample.com/behind-the-sofa\n20852163\n\
                       CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
        assert_eq!(message(TEXT, 1_679_315_147), example.as_bytes());
    }

    #[test]
    fn another_key_another_text_another_time_or_another_kind_of_key_is_none() {
        assert_eq!(verify(&cosigned(8, 5), &key(7).1), Err(Error::NotSigned("witness.example/w1".into())));

        let (secret, public) = key(7);
        let line = sign(TEXT, 5, &public, |bytes| Ok(secret.sign(bytes))).unwrap();
        let other = TEXT.replace("20852163", "20852164");
        let note = Note::parse(&format!("{other}\n{line}")).unwrap();
        assert_eq!(verify(&note, &public), Err(Error::BadSignature("witness.example/w1".into())));

        let (head, encoded) = line.trim_end().rsplit_once(' ').unwrap();
        let mut bytes = STANDARD.decode(encoded).unwrap();
        bytes[11] ^= 1;
        let note = Note::parse(&format!("{TEXT}\n{head} {}\n", STANDARD.encode(bytes))).unwrap();
        assert_eq!(verify(&note, &public), Err(Error::BadSignature("witness.example/w1".into())));

        // The same key as a ledger's has another id and signs another text.
        let ledger = note::VerifierKey::new("witness.example/w1", &secret.public_key()).unwrap();
        let own = note::sign(TEXT, &ledger, |bytes| Ok(secret.sign(bytes))).unwrap();
        assert!(verify(&Note::parse(&own).unwrap(), &public).is_err());
    }

    #[test]
    fn a_verifier_key_is_read_back_and_a_ledgers_is_not_taken_for_one() {
        let (secret, public) = key(7);
        assert_eq!(public.to_string().parse::<WitnessKey>(), Ok(public.clone()));
        let ledger = note::VerifierKey::new("witness.example/w1", &secret.public_key()).unwrap();
        assert!(ledger.to_string().parse::<WitnessKey>().is_err());
        assert!(public.to_string().parse::<note::VerifierKey>().is_err());
        assert!(public.to_string().replace("/w1+", "/w2+").parse::<WitnessKey>().is_err());
    }

    proptest! {
        #[test]
        fn no_line_makes_the_check_panic_or_pass(bytes in prop::collection::vec(any::<u8>(), 0..90)) {
            let (_, public) = key(7);
            let mut line = public.id().to_vec();
            line.extend(bytes);
            let note = format!("{TEXT}\n\u{2014} witness.example/w1 {}\n", STANDARD.encode(line));
            if let Ok(note) = Note::parse(&note) {
                prop_assert!(verify(&note, &public).is_err());
            }
        }
    }
}
