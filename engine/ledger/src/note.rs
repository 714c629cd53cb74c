//! Signed notes (C2SP signed-note) with Ed25519: a text, an empty line, and lines with signatures over the text.
//!
//! Any tool that knows the format can verify them; so can `openssl pkeyutl -verify -rawin` with the text alone.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use runbook_model::Sha256;

/// The longest note that is read, in bytes. Ours have a few hundred; a file of foreign bytes must not fill the memory.
pub const BYTES_MAX: usize = 1 << 20;

/// The most signature lines that are read.
pub const SIGNATURES_MAX: usize = 100;

const ED25519: u8 = 1;

/// Why a note, a name or a verifier key was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a signed note.
    #[error("not a signed note: {0}")]
    Malformed(&'static str),
    /// Not a key's name.
    #[error("{0:?} cannot be a key's name: it must not be empty nor hold white space, control characters or a plus")]
    Name(String),
    /// Not a verifier key.
    #[error("not a verifier key: {0}")]
    Key(&'static str),
    /// None of its signatures is by this key.
    #[error("the note is not signed by {0}")]
    NotSigned(String),
    /// A signature that claims to be by this key is not.
    #[error("the note's signature by {0} is false")]
    BadSignature(String),
    /// The signer refused.
    #[error("the key could not sign: {0}")]
    Signer(String),
}

/// A public key with its name (`vkey`).
#[derive(Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    key: VerifyingKey,
}

impl VerifierKey {
    /// A key under a name.
    ///
    /// # Errors
    /// `Name`; `Key` when the bytes are no Ed25519 public key.
    pub fn new(name: &str, public_key: &[u8; 32]) -> Result<Self, Error> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), key: self::public_key(public_key)? })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Its id: the first four bytes of SHA-256 over name, line end, 0x01 and public key.
    pub fn id(&self) -> [u8; 4] {
        key_id(&self.name, ED25519, self.key.as_bytes())
    }

    /// Whether this is the key's signature over exactly these bytes.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        Signature::from_slice(signature).is_ok_and(|signature| self.key.verify_strict(bytes, &signature).is_ok())
    }
}

/// The id of a key of this kind of signature: the first four bytes of SHA-256 over name, line end, kind and public key.
pub(crate) fn key_id(name: &str, kind: u8, public: &[u8; 32]) -> [u8; 4] {
    let mut bytes = name.as_bytes().to_vec();
    bytes.extend([b'\n', kind]);
    bytes.extend(public);
    let digest = Sha256::of(&bytes).0;
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A key as it is given to those who verify: `NAME+ID+KEY`.
pub(crate) fn key_text(name: &str, kind: u8, public: &[u8; 32]) -> String {
    let mut bytes = vec![kind];
    bytes.extend(public);
    format!("{name}+{:08x}+{}", u32::from_be_bytes(key_id(name, kind, public)), STANDARD.encode(bytes))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&key_text(&self.name, ED25519, self.key.as_bytes()))
    }
}

impl fmt::Debug for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifierKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, public) = read_key(text, ED25519, "only Ed25519 keys are known")?;
        Self::new(name, &public)
    }
}

/// Name and key in `NAME+ID+KEY`, whose key is of this kind; `other` is said of one of another kind.
pub(crate) fn read_key<'t>(text: &'t str, kind: u8, other: &'static str) -> Result<(&'t str, [u8; 32]), Error> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(Error::Key("expected NAME+ID+KEY"));
    };
    let bytes = STANDARD.decode(key).map_err(|_| Error::Key("its last part is not base64"))?;
    let public = bytes.split_first().filter(|(found, _)| **found == kind).ok_or(Error::Key(other))?.1;
    let public = public.try_into().map_err(|_| Error::Key("an Ed25519 key has 32 bytes"))?;
    if id != format!("{:08x}", u32::from_be_bytes(key_id(name, kind, &public))) {
        return Err(Error::Key("its id does not belong to its name and key"));
    }
    Ok((name, public))
}

/// A note that was read. Nothing in it is to be believed before [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct SignatureLine {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl Note {
    /// Reads a note. Strict, and never panics.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(note: &str) -> Result<Self, Error> {
        if note.len() > BYTES_MAX {
            return Err(Error::Malformed("it is too long"));
        }
        if has_control(note) {
            return Err(Error::Malformed("it holds control characters"));
        }
        let split = note.rfind("\n\n").ok_or(Error::Malformed("it has no empty line before its signatures"))?;
        let (text, lines) = (&note[..split + 1], &note[split + 2..]);
        let lines = lines.strip_suffix('\n').ok_or(Error::Malformed("it does not end with a line end"))?;
        let signatures: Vec<_> =
            lines.split('\n').take(SIGNATURES_MAX + 1).map(signature_line).collect::<Result<_, _>>()?;
        if signatures.len() > SIGNATURES_MAX {
            return Err(Error::Malformed("it has too many signatures"));
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The text, with its last line end. Only to be believed when verified.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Names of the keys that are said to have signed it.
    pub fn signers(&self) -> impl Iterator<Item = &str> {
        self.signatures.iter().map(|line| line.name.as_str())
    }

    /// Ids of the keys of this name that are said to have signed it.
    pub fn key_ids(&self, name: &str) -> impl Iterator<Item = [u8; 4]> {
        self.signatures.iter().filter(move |line| line.name == name).map(|line| line.id)
    }

    /// What the lines of this name and id hold after the id.
    pub(crate) fn signatures_of(&self, name: &str, id: [u8; 4]) -> impl Iterator<Item = &[u8]> {
        self.signatures.iter().filter(move |line| line.name == name && line.id == id).map(|line| line.bytes.as_slice())
    }

    /// The text, when `key` has signed it. Lines by other keys are passed over.
    ///
    /// # Errors
    /// `NotSigned`; `BadSignature` when any line that names this key is false.
    pub fn verify(&self, key: &VerifierKey) -> Result<&str, Error> {
        let mut signed = false;
        for line in self.signatures.iter().filter(|line| line.name == key.name && line.id == key.id()) {
            let verified = Signature::from_slice(&line.bytes)
                .and_then(|signature| key.key.verify_strict(self.text.as_bytes(), &signature));
            if verified.is_err() {
                return Err(Error::BadSignature(key.name.clone()));
            }
            signed = true;
        }
        if signed { Ok(&self.text) } else { Err(Error::NotSigned(key.name.clone())) }
    }
}

/// Signs a text (whose last character is a line end) and gives the whole note. What the signer returns is verified
/// before it is believed.
///
/// # Errors
/// `Malformed` when the text cannot be signed; `Signer` with the signer's own words.
pub fn sign(
    text: &str,
    key: &VerifierKey,
    signer: impl FnOnce(&[u8]) -> Result<[u8; 64], String>,
) -> Result<String, Error> {
    if !text.ends_with('\n') || text.ends_with("\n\n") || text == "\n" {
        return Err(Error::Malformed("the text must end with exactly one line end"));
    }
    if has_control(text) {
        return Err(Error::Malformed("the text holds control characters"));
    }
    let note = format!("{text}\n{}", sign_line(text, key, signer)?);
    if note.len() > BYTES_MAX {
        return Err(Error::Malformed("it is too long"));
    }
    Ok(note)
}

/// The note with one more signature over its text. The signatures that it has are not looked at.
///
/// # Errors
/// `Malformed` when it is no note; `Signer` with the signer's own words.
pub fn add_signature(
    note: &str,
    key: &VerifierKey,
    signer: impl FnOnce(&[u8]) -> Result<[u8; 64], String>,
) -> Result<String, Error> {
    let line = sign_line(Note::parse(note)?.text(), key, signer)?;
    let more = format!("{note}{line}");
    Note::parse(&more)?;
    Ok(more)
}

fn sign_line(
    text: &str,
    key: &VerifierKey,
    signer: impl FnOnce(&[u8]) -> Result<[u8; 64], String>,
) -> Result<String, Error> {
    let signature = signer(text.as_bytes()).map_err(Error::Signer)?;
    if !key.has_signed(text.as_bytes(), &signature) {
        return Err(Error::Signer("what it gave is no signature by its public key".to_owned()));
    }
    let mut bytes = key.id().to_vec();
    bytes.extend(signature);
    Ok(format!("\u{2014} {} {}\n", key.name, STANDARD.encode(bytes)))
}

/// An Ed25519 public key that can be believed.
pub(crate) fn public_key(bytes: &[u8; 32]) -> Result<VerifyingKey, Error> {
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| Error::Key("no point of the curve"))?;
    if key.is_weak() {
        return Err(Error::Key("a point of small order: anybody could sign for it"));
    }
    Ok(key)
}

/// Whether a key, and so an installation's ledger, may have this name.
///
/// # Errors
/// `Name`.
pub fn check_name(name: &str) -> Result<(), Error> {
    let strange = |c: char| c.is_whitespace() || c.is_control() || c == '+';
    if name.is_empty() || name.contains(strange) { Err(Error::Name(name.to_owned())) } else { Ok(()) }
}

fn has_control(text: &str) -> bool {
    text.bytes().any(|byte| byte < 0x20 && byte != b'\n')
}

fn signature_line(line: &str) -> Result<SignatureLine, Error> {
    let rest = line.strip_prefix("\u{2014} ").ok_or(Error::Malformed("a signature line does not begin with a dash"))?;
    let (name, signature) = rest.split_once(' ').ok_or(Error::Malformed("a signature line has no signature"))?;
    check_name(name).map_err(|_| Error::Malformed("a signature line has no name"))?;
    let bytes = STANDARD.decode(signature).map_err(|_| Error::Malformed("a signature is not base64"))?;
    match bytes.split_first_chunk::<4>() {
        Some((id, signature)) if !signature.is_empty() => {
            Ok(SignatureLine { name: name.to_owned(), id: *id, bytes: signature.to_vec() })
        }
        _ => Err(Error::Malformed("a signature is too short")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::FileKey;

    // The example in the specification of signed notes.
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n\u{2014} example.com/foo \
         Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn key() -> (FileKey, VerifierKey) {
        let key = FileKey::from_seed([7; 32]);
        let public = VerifierKey::new("runbook/here", &key.public_key()).unwrap();
        (key, public)
    }

    #[test]
    fn the_specifications_example_verifies() {
        let key: VerifierKey = VKEY.parse().unwrap();
        assert_eq!(key.to_string(), VKEY);
        let note = Note::parse(NOTE).unwrap();
        assert_eq!(note.verify(&key), Ok("This is an example message.\n"));
        let other = Note::parse(&NOTE.replace("an example", "no example")).unwrap();
        assert_eq!(other.verify(&key), Err(Error::BadSignature("example.com/foo".into())));
    }

    #[test]
    fn a_note_by_another_key_is_not_signed_by_ours() {
        let (secret, public) = key();
        let note = sign("a\n\nb\n", &public, |bytes| Ok(secret.sign(bytes))).unwrap();
        let note = Note::parse(&note).unwrap();
        assert_eq!(note.verify(&public), Ok("a\n\nb\n"), "the last empty line ends the text");
        let other = VerifierKey::new("runbook/here", &FileKey::from_seed([8; 32]).public_key()).unwrap();
        assert_eq!(note.verify(&other), Err(Error::NotSigned("runbook/here".into())));
    }

    #[test]
    fn lines_by_unknown_keys_are_passed_over_and_a_false_one_by_ours_is_not() {
        let (secret, public) = key();
        let note = sign("a\n", &public, |bytes| Ok(secret.sign(bytes))).unwrap();
        let more = format!("{note}\u{2014} somebody AAAAAAA=\n");
        assert_eq!(Note::parse(&more).unwrap().verify(&public), Ok("a\n"));
        let mut false_line = public.id().to_vec();
        false_line.extend([0; 64]);
        let worse = format!("{note}\u{2014} runbook/here {}\n", STANDARD.encode(false_line));
        assert_eq!(Note::parse(&worse).unwrap().verify(&public), Err(Error::BadSignature("runbook/here".into())));
    }

    #[test]
    fn a_signer_with_another_key_is_found_out() {
        let (_, public) = key();
        let signed = sign("a\n", &public, |bytes| Ok(FileKey::from_seed([8; 32]).sign(bytes)));
        assert!(matches!(signed, Err(Error::Signer(_))));
    }

    #[test]
    fn strange_notes_names_and_keys_are_refused() {
        for note in
            ["", "a", "a\n", "a\n\n", "a\n\n\n", "a\n\n- x AAAA\n", "a\n\n\u{2014} x AAAA\n", "a\0\n\n\u{2014} x y\n"]
        {
            assert!(matches!(Note::parse(note), Err(Error::Malformed(_))), "{note:?}");
        }
        let many = format!("a\n\n{}", "\u{2014} x AAAAAAA=\n".repeat(SIGNATURES_MAX + 1));
        assert!(matches!(Note::parse(&many), Err(Error::Malformed(_))));
        for name in ["", "a b", "a+b", "a\n", "a\u{2003}b"] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        let (_, public) = key();
        for text in ["", "\n", "a", "a\n\n", "a\r\n"] {
            assert!(sign(text, &public, |_| Ok([0; 64])).is_err(), "{text:?}");
        }
        for vkey in
            ["", "a", "a+b", "a+00000000+AAAA", &VKEY.replace("530d903a", "530d903b"), &VKEY.replace("Aeky", "Beky")]
        {
            assert!(vkey.parse::<VerifierKey>().is_err(), "{vkey:?}");
        }
        assert!(VerifierKey::new("weak", &[0; 32]).is_err());
    }

    proptest! {
        // Signatures are slow in debug builds.
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_text_makes_the_readers_panic(text in "(\\PC|\n|\u{2014}| |\\+){0,200}") {
            let _ = Note::parse(&text);
            let _ = text.parse::<VerifierKey>();
        }

        #[test]
        fn no_change_of_one_byte_of_the_text_verifies(at in 0_usize..27, to in 0x20_u8..0x7f) {
            let mut bytes = NOTE.as_bytes().to_vec();
            bytes[at] = to;
            let changed = String::from_utf8(bytes).unwrap();
            let verified = Note::parse(&changed).unwrap().verify(&VKEY.parse().unwrap()).is_ok();
            prop_assert_eq!(verified, changed == NOTE);
        }
    }
}
