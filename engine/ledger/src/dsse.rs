//! DSSE envelopes: a payload with its type, and signatures over both. The payload's bytes are signed as they are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use runbook_model::canonical;
use serde::{Deserialize, Serialize};

/// Why an envelope was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not an envelope.
    #[error("not a DSSE envelope: {0}")]
    Malformed(&'static str),
    /// No signature by the key, or a false one.
    #[error("the envelope is not signed by the key")]
    NotSigned,
    /// The signer refused.
    #[error("the key could not sign: {0}")]
    Signer(String),
}

/// An envelope, as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    keyid: String,
    sig: String,
}

/// What is signed: type and payload, each with its length, so that none can be taken for the other.
pub fn signed_bytes(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend(payload);
    out
}

/// Signs a payload. `key_id` helps readers to find the key, and proves nothing.
///
/// # Errors
/// `Signer`.
pub fn sign(
    payload_type: &str,
    payload: &[u8],
    key_id: &str,
    signer: impl FnOnce(&[u8]) -> Result<[u8; 64], String>,
) -> Result<Envelope, Error> {
    let signature = signer(&signed_bytes(payload_type, payload)).map_err(Error::Signer)?;
    Ok(Envelope {
        payload: STANDARD.encode(payload),
        payload_type: payload_type.to_owned(),
        signatures: vec![EnvelopeSignature { keyid: key_id.to_owned(), sig: STANDARD.encode(signature) }],
    })
}

impl Envelope {
    /// The file's bytes: one line of JSON, with its line end.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = canonical::bytes(self);
        out.push(b'\n');
        out
    }

    /// Reads a file's bytes. Never panics.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|_| Error::Malformed("its JSON has other fields"))
    }

    /// The payload, when it is of this type and `public_key` has signed it.
    ///
    /// # Errors
    /// `Malformed`, `NotSigned`.
    pub fn verify(&self, payload_type: &str, public_key: &[u8; 32]) -> Result<Vec<u8>, Error> {
        if self.payload_type != payload_type {
            return Err(Error::Malformed("its payload is of another type"));
        }
        let payload = STANDARD.decode(&self.payload).map_err(|_| Error::Malformed("its payload is not base64"))?;
        let signed = signed_bytes(payload_type, &payload);
        let key = VerifyingKey::from_bytes(public_key).ok().filter(|key| !key.is_weak()).ok_or(Error::NotSigned)?;
        let by_key = |signature: &EnvelopeSignature| {
            let bytes = STANDARD.decode(&signature.sig).ok()?;
            key.verify_strict(&signed, &Signature::from_slice(&bytes).ok()?).ok()
        };
        if self.signatures.iter().any(|signature| by_key(signature).is_some()) {
            Ok(payload)
        } else {
            Err(Error::NotSigned)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::FileKey;

    #[test]
    fn what_is_signed_is_as_in_the_specifications_example() {
        let signed = signed_bytes("http://example.com/HelloWorld", b"hello world");
        assert_eq!(signed, b"DSSEv1 29 http://example.com/HelloWorld 11 hello world");
    }

    #[test]
    fn a_payload_comes_out_of_its_envelope_only_with_its_type_and_key() {
        let key = FileKey::from_seed([7; 32]);
        let envelope = sign("text/x", b"{}", "id", |bytes| Ok(key.sign(bytes))).unwrap();
        let read = Envelope::parse(&envelope.bytes()).unwrap();
        assert_eq!(read.verify("text/x", &key.public_key()), Ok(b"{}".to_vec()));
        assert!(matches!(read.verify("text/y", &key.public_key()), Err(Error::Malformed(_))));
        let other = FileKey::from_seed([8; 32]).public_key();
        assert_eq!(read.verify("text/x", &other), Err(Error::NotSigned));
        let changed = Envelope { payload: STANDARD.encode("[]"), ..read };
        assert_eq!(changed.verify("text/x", &key.public_key()), Err(Error::NotSigned));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(text in "(\\{\"payload\":\")?\\PC{0,80}") {
            if let Ok(envelope) = Envelope::parse(text.as_bytes()) {
                let _ = envelope.verify("x", &[0; 32]);
            }
        }
    }
}
