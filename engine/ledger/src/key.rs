//! The ledger's own key as a small text, for the file that keeps it:
//!
//! ```text
//! runbook-ledger-key/v1 ed25519 <base64 of the 32-byte seed>
//! ```
//!
//! Making the seed and guarding the file (mode 0600) are the caller's part.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use zeroize::Zeroizing;

const FORM: &str = "runbook-ledger-key/v1";

/// A text that is no ledger key. Says nothing of what is in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Of another form.
    #[error("not a ledger key (expected `{FORM} ed25519 …`)")]
    NotAKey,
    /// Of a later form.
    #[error("the ledger key was written by a newer version of runbook")]
    Newer,
    /// Not its 32 bytes.
    #[error("the ledger key is damaged: its seed is not 32 bytes in base64")]
    Damaged,
}

/// A private key. Wiped when dropped; has no `Debug`.
pub struct FileKey(SigningKey);

impl FileKey {
    /// The key of a seed, which must be random.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&Zeroizing::new(seed)))
    }

    /// Reads the text. A line end after it may be there or not.
    ///
    /// # Errors
    /// When it is no key that this version knows.
    pub fn decode(text: &str) -> Result<Self, Error> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some(FORM), Some("ed25519"), Some(seed), None) => {
                let bytes = Zeroizing::new(STANDARD.decode(seed).map_err(|_| Error::Damaged)?);
                let seed: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| Error::Damaged)?;
                Ok(Self(SigningKey::from_bytes(seed)))
            }
            (Some(form), ..) if form != FORM && form.starts_with("runbook-ledger-key/v") => Err(Error::Newer),
            _ => Err(Error::NotAKey),
        }
    }

    /// The text, with a line end.
    pub fn encode(&self) -> Zeroizing<String> {
        let seed = Zeroizing::new(STANDARD.encode(self.0.as_bytes()));
        Zeroizing::new(format!("{FORM} ed25519 {}\n", seed.as_str()))
    }

    /// The signature over exactly these bytes.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_public_key_is_that_of_rfc_8032() {
        // RFC 8032, section 7.1, test 1.
        let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let seed: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&seed[2 * i..2 * i + 2], 16).unwrap()).collect();
        let key = FileKey::from_seed(seed.try_into().unwrap());
        let public: String = key.public_key().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(public, "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
    }

    #[test]
    fn a_key_is_read_back_as_it_was() {
        let key = FileKey::from_seed([7; 32]);
        let text = key.encode();
        assert_eq!(text.as_str(), "runbook-ledger-key/v1 ed25519 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n");
        let read = FileKey::decode(&text).ok().unwrap();
        assert_eq!(read.public_key(), key.public_key());
        assert_eq!(FileKey::decode(text.trim_end()).ok().unwrap().public_key(), key.public_key());
    }

    #[test]
    fn other_texts_are_refused_and_say_why() {
        let refused = |text: &str| FileKey::decode(text).err();
        assert_eq!(refused("-----BEGIN OPENSSH PRIVATE KEY-----"), Some(Error::NotAKey));
        assert_eq!(refused("runbook-ledger-key/v2 ed25519 x"), Some(Error::Newer));
        assert_eq!(refused("runbook-ledger-key/v1 ed25519 AAAA\n"), Some(Error::Damaged));
        assert_eq!(refused("runbook-ledger-key/v1 ed25519 AAAA x\n"), Some(Error::NotAKey));
        assert_eq!(refused(""), Some(Error::NotAKey));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(runbook-ledger-key/v1 ed25519 )?\\PC{0,60}") {
            let _ = FileKey::decode(&text);
        }
    }
}
