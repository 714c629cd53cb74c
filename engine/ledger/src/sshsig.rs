//! Signatures of OpenSSH (its PROTOCOL.sshsig): what `ssh-keygen -Y sign` makes and `ssh-keygen -Y verify`
//! checks. A signature is for one namespace, so that none can be taken for a signature of another purpose.
//!
//! Reading is strict: one form of each thing, no byte too many, the hash SHA-512 or SHA-256. The ledger's keys are of
//! Ed25519; persons have other ones too.

mod person;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature as Ed25519, VerifyingKey};
use sha2::Digest as _;

pub use person::{BySomebody, check_person_key, verify_person};

/// The longest armored signature that is read, in bytes. Ours have 300.
pub const BYTES_MAX: usize = 16 * 1024;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----";
const MAGIC: &[u8] = b"SSHSIG";
const KEY_TYPE: &[u8] = b"ssh-ed25519";
/// The types of the ledger's own keys.
const OWN_TYPES: &str = "ssh-ed25519";
/// Characters in a line of the armor, as ssh-keygen has them.
const LINE: usize = 70;

/// Why a signature, or a key, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a signature of OpenSSH.
    #[error("not a signature of OpenSSH: {0}")]
    Malformed(&'static str),
    /// Of a type that is not known here.
    #[error("keys of this type are not known here: {0} are")]
    OtherKey(&'static str),
    /// Not a key.
    #[error("not a key of OpenSSH: {0}")]
    Key(&'static str),
    /// For another purpose.
    #[error("the signature is for {found:?}, not for {expected:?}")]
    OtherNamespace {
        /// The purpose asked for.
        expected: String,
        /// The one it is for.
        found: String,
    },
    /// It does not fit the message.
    #[error("the signature does not fit what it is said to sign")]
    Bad,
    /// The signer refused, or gave something that is no signature.
    #[error("the key could not sign: {0}")]
    Signer(String),
}

/// A message's hash (SHA-512), piece by piece: what is signed may be longer than the memory.
#[derive(Debug, Clone, Default)]
pub struct Message(sha2::Sha512);

impl Message {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut message = Self::default();
        message.update(bytes);
        message
    }

    /// The next bytes of the message.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

/// The public key as it stands in `authorized_keys` and `allowed_signers`: its type and its base64.
pub fn public_key_line(public_key: &[u8; 32]) -> String {
    format!("ssh-ed25519 {}", STANDARD.encode(key_blob(public_key)))
}

/// Reads a public key's line. What follows after its base64 (a comment) is passed over.
///
/// # Errors
/// `OtherKey`, `Key`.
pub fn parse_public_key_line(line: &str) -> Result<[u8; 32], Error> {
    let mut words = line.split_ascii_whitespace();
    match words.next() {
        Some("ssh-ed25519") => {}
        Some(_) => return Err(Error::OtherKey(OWN_TYPES)),
        None => return Err(Error::Key("it is empty")),
    }
    let blob = words.next().and_then(|word| STANDARD.decode(word).ok()).ok_or(Error::Key("it is not base64"))?;
    read_key(&blob)
}

/// Signs a message for `namespace`, and gives the armored signature. What the signer returns is verified before it is
/// believed.
///
/// # Errors
/// `Signer`, `Key`; `Malformed` when there is no namespace.
pub fn sign(
    namespace: &str,
    message: &Message,
    public_key: &[u8; 32],
    signer: impl FnOnce(&[u8]) -> Result<[u8; 64], String>,
) -> Result<String, Error> {
    if namespace.is_empty() {
        return Err(Error::Malformed("it is for no purpose"));
    }
    let signed = signed_bytes(namespace, "sha512", &message.0.clone().finalize());
    let signature = signer(&signed).map_err(Error::Signer)?;
    let key = verifying_key(public_key)?;
    key.verify_strict(&signed, &Ed25519::from_bytes(&signature))
        .map_err(|_| Error::Signer("its signature does not fit its public key".into()))?;
    let mut blob = MAGIC.to_vec();
    blob.extend(1_u32.to_be_bytes());
    string(&mut blob, &key_blob(public_key));
    string(&mut blob, namespace.as_bytes());
    string(&mut blob, b"");
    string(&mut blob, b"sha512");
    let mut inner = Vec::new();
    string(&mut inner, KEY_TYPE);
    string(&mut inner, &signature);
    string(&mut blob, &inner);
    let text = STANDARD.encode(blob);
    let mut out = String::from(BEGIN);
    for line in text.as_bytes().chunks(LINE) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out.push_str(END);
    out.push('\n');
    Ok(out)
}

/// A signature that was read. Nothing in it is to be believed before [`Signature::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    key: [u8; 32],
    namespace: String,
    hash: Hash,
    signature: [u8; 64],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha512,
}

impl Signature {
    /// Reads an armored signature. Never panics, whatever the text.
    ///
    /// # Errors
    /// `Malformed`, `OtherKey`, `Key`.
    pub fn parse(armored: &str) -> Result<Self, Error> {
        let Parts { key, namespace, hash, signature } = parts(armored)?;
        let key = read_key(&key)?;
        let mut inner = signature.as_slice();
        if take(&mut inner)? != KEY_TYPE {
            return Err(Error::Malformed("its key and its signature are of different types"));
        }
        let signature = take(&mut inner)?.try_into().map_err(|_| Error::Malformed("its signature has not 64 bytes"))?;
        if !inner.is_empty() {
            return Err(Error::Malformed("something follows after its signature"));
        }
        Ok(Self { key, namespace, hash, signature })
    }

    /// The key that is said to have signed. Who it belongs to is for the caller to know.
    pub fn public_key(&self) -> &[u8; 32] {
        &self.key
    }

    /// Checks it against the message and the purpose, and gives the key that signed.
    ///
    /// # Errors
    /// `OtherNamespace`, `Bad`.
    pub fn verify(&self, namespace: &str, message: &[u8]) -> Result<[u8; 32], Error> {
        if self.namespace != namespace {
            return Err(Error::OtherNamespace { expected: namespace.to_owned(), found: self.namespace.clone() });
        }
        let signed = self.hash.signed_bytes(namespace, message);
        let key = verifying_key(&self.key)?;
        key.verify_strict(&signed, &Ed25519::from_bytes(&self.signature)).map_err(|_| Error::Bad)?;
        Ok(self.key)
    }
}

impl Signature {
    /// As [`Signature::verify`], of a message that was hashed piece by piece; for signatures over its SHA-512, which is
    /// what OpenSSH makes.
    ///
    /// # Errors
    /// `OtherNamespace`, `Bad`; `Malformed` when the signature is over another hash.
    pub fn verify_message(&self, namespace: &str, message: &Message) -> Result<[u8; 32], Error> {
        if self.namespace != namespace {
            return Err(Error::OtherNamespace { expected: namespace.to_owned(), found: self.namespace.clone() });
        }
        if self.hash != Hash::Sha512 {
            return Err(Error::Malformed("its hash is not SHA-512"));
        }
        let signed = signed_bytes(namespace, "sha512", &message.0.clone().finalize());
        let key = verifying_key(&self.key)?;
        key.verify_strict(&signed, &Ed25519::from_bytes(&self.signature)).map_err(|_| Error::Bad)?;
        Ok(self.key)
    }
}

/// What is in an armored signature.
struct Parts {
    key: Vec<u8>,
    namespace: String,
    hash: Hash,
    signature: Vec<u8>,
}

fn parts(armored: &str) -> Result<Parts, Error> {
    if armored.len() > BYTES_MAX {
        return Err(Error::Malformed("it is too long"));
    }
    let body = armored.strip_prefix(BEGIN).ok_or(Error::Malformed("it does not begin as one"))?;
    let body = body.strip_suffix('\n').unwrap_or(body);
    let body = body.strip_suffix(END).ok_or(Error::Malformed("it does not end as one"))?;
    let text: String = body.split('\n').collect();
    let blob = STANDARD.decode(text).map_err(|_| Error::Malformed("its body is not base64"))?;
    let rest = blob.strip_prefix(MAGIC).ok_or(Error::Malformed("its body does not begin as one"))?;
    let (version, mut rest) = rest.split_at_checked(4).ok_or(Error::Malformed("it is cut off"))?;
    if version != 1_u32.to_be_bytes() {
        return Err(Error::Malformed("its version is not 1"));
    }
    let key = take(&mut rest)?.to_vec();
    let namespace = std::str::from_utf8(take(&mut rest)?)
        .ok()
        .filter(|namespace| !namespace.is_empty())
        .ok_or(Error::Malformed("it is for no purpose"))?
        .to_owned();
    if !take(&mut rest)?.is_empty() {
        return Err(Error::Malformed("it has something in its reserved part"));
    }
    let hash = match take(&mut rest)? {
        b"sha256" => Hash::Sha256,
        b"sha512" => Hash::Sha512,
        _ => return Err(Error::Malformed("its hash is neither SHA-256 nor SHA-512")),
    };
    let signature = take(&mut rest)?.to_vec();
    if !rest.is_empty() {
        return Err(Error::Malformed("something follows after it"));
    }
    Ok(Parts { key, namespace, hash, signature })
}

impl Hash {
    fn signed_bytes(self, namespace: &str, message: &[u8]) -> Vec<u8> {
        match self {
            Hash::Sha256 => signed_bytes(namespace, "sha256", &sha2::Sha256::digest(message)),
            Hash::Sha512 => signed_bytes(namespace, "sha512", &sha2::Sha512::digest(message)),
        }
    }
}

fn verifying_key(public_key: &[u8; 32]) -> Result<VerifyingKey, Error> {
    let key = VerifyingKey::from_bytes(public_key).map_err(|_| Error::Key("no point of the curve"))?;
    if key.is_weak() { Err(Error::Key("anybody could sign for it")) } else { Ok(key) }
}

fn signed_bytes(namespace: &str, hash: &str, digest: &[u8]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    string(&mut out, namespace.as_bytes());
    string(&mut out, b"");
    string(&mut out, hash.as_bytes());
    string(&mut out, digest);
    out
}

fn key_blob(public_key: &[u8; 32]) -> Vec<u8> {
    let mut out = Vec::new();
    string(&mut out, KEY_TYPE);
    string(&mut out, public_key);
    out
}

fn read_key(mut blob: &[u8]) -> Result<[u8; 32], Error> {
    if take(&mut blob).map_err(|_| Error::Key("it is cut off"))? != KEY_TYPE {
        return Err(Error::OtherKey(OWN_TYPES));
    }
    let key = take(&mut blob).map_err(|_| Error::Key("it is cut off"))?;
    if !blob.is_empty() {
        return Err(Error::Key("something follows after it"));
    }
    key.try_into().map_err(|_| Error::Key("it has not 32 bytes"))
}

/// A string of RFC 4251: its length in four bytes, then its bytes.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).expect("what is signed here is short").to_be_bytes());
    out.extend(bytes);
}

fn take<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let cut = Error::Malformed("it is cut off");
    let (length, after) = rest.split_at_checked(4).ok_or(cut.clone())?;
    let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
    let length = usize::try_from(length).map_err(|_| cut.clone())?;
    let (bytes, after) = after.split_at_checked(length).ok_or(cut)?;
    *rest = after;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::FileKey;

    /// `printf 'sums\n' | ssh-keygen -Y sign -f KEY -n runbook-bundle@v1` (OpenSSH 9.2) with a key made for this test.
    const FOREIGN: &str = include_str!("sshsig_test.txt");
    const FOREIGN_KEY: &str = include_str!("sshsig_test.pub");

    fn signed(namespace: &str, message: &[u8]) -> (String, [u8; 32]) {
        let key = FileKey::from_seed([7; 32]);
        let text = sign(namespace, &Message::of(message), &key.public_key(), |bytes| Ok(key.sign(bytes)));
        (text.unwrap(), key.public_key())
    }

    #[test]
    fn a_signature_is_read_back_and_fits_only_its_message_and_its_purpose() {
        let (text, key) = signed("runbook-bundle@v1", b"message");
        let signature = Signature::parse(&text).unwrap();
        assert_eq!(signature.verify("runbook-bundle@v1", b"message"), Ok(key));
        assert_eq!(signature.verify("runbook-bundle@v1", b"messagE"), Err(Error::Bad));
        let other = signature.verify("file", b"message");
        assert!(matches!(other, Err(Error::OtherNamespace { .. })), "{other:?}");
    }

    #[test]
    fn a_signature_that_openssh_made_is_verified() {
        let key = parse_public_key_line(FOREIGN_KEY).unwrap();
        let signature = Signature::parse(FOREIGN).unwrap();
        assert_eq!(signature.verify("runbook-bundle@v1", b"sums\n"), Ok(key));
        assert_eq!(*signature.public_key(), key);
        assert!(FOREIGN_KEY.starts_with(&public_key_line(&key)));
    }

    #[test]
    fn a_signer_that_signs_with_another_key_is_not_believed() {
        let (key, other) = (FileKey::from_seed([7; 32]), FileKey::from_seed([8; 32]));
        let text = sign("n", &Message::of(b"m"), &key.public_key(), |bytes| Ok(other.sign(bytes)));
        assert!(matches!(text, Err(Error::Signer(_))), "{text:?}");
        assert!(sign("", &Message::of(b"m"), &key.public_key(), |bytes| Ok(key.sign(bytes))).is_err());
    }

    #[test]
    fn keys_of_other_types_are_not_known() {
        assert_eq!(parse_public_key_line("ssh-rsa AAAA"), Err(Error::OtherKey(OWN_TYPES)));
        assert!(matches!(parse_public_key_line("ssh-ed25519 AAAA"), Err(Error::Key(_))));
        assert!(matches!(parse_public_key_line(""), Err(Error::Key(_))));
    }

    proptest! {
        #[test]
        fn no_changed_byte_of_a_signature_survives(at: usize, to: u8) {
            let (text, _) = signed("runbook-bundle@v1", b"message");
            let body = text.strip_prefix(BEGIN).unwrap().split(END).next().unwrap().replace('\n', "");
            let mut blob = STANDARD.decode(body).unwrap();
            let at = at % blob.len();
            let was = std::mem::replace(&mut blob[at], to);
            let text = format!("{BEGIN}{}\n{END}\n", STANDARD.encode(&blob));
            let verified = Signature::parse(&text).and_then(|read| read.verify("runbook-bundle@v1", b"message"));
            prop_assert_eq!(verified.is_ok(), was == to);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "(-----BEGIN SSH SIGNATURE-----\n)?[A-Za-z0-9+/=\n]{0,200}(-----END SSH SIGNATURE-----)?") {
            let _ = Signature::parse(&text);
            let _ = parse_public_key_line(&text);
        }

        #[test]
        fn no_body_makes_the_reader_panic(body in prop::collection::vec(any::<u8>(), 0..120)) {
            let blob = [MAGIC, &1_u32.to_be_bytes(), &body].concat();
            let text = format!("{BEGIN}{}\n{END}\n", STANDARD.encode(blob));
            let _ = Signature::parse(&text);
        }
    }
}
