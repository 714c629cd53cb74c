//! Signatures of persons: by keys in files or agents, and by keys inside of devices (FIDO2, PROTOCOL.u2f), which say
//! whether they were touched.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signature as Ed25519;
use p256::ecdsa::signature::Verifier as _;
use sha2::Digest as _;

use super::{Error, parts, take, verifying_key};

/// The types that are known, for people.
const TYPES: &str =
    "ssh-ed25519, ecdsa-sha2-nistp256, sk-ssh-ed25519@openssh.com and sk-ecdsa-sha2-nistp256@openssh.com";
/// The curve, as OpenSSH names it.
const NISTP256: &[u8] = b"nistp256";

/// Who signed for a purpose: a person's key, in a file or inside of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BySomebody {
    /// Type and base64 of the public key, as in `authorized_keys`. Who it belongs to is for the caller to know.
    pub key: String,
    /// The device says that it was touched. A key in a file says nothing.
    pub touched: bool,
    /// The device says that its PIN was given, or a finger read. OpenSSH's own verification does not ask for it.
    pub verified: bool,
}

/// Checks a person's armored signature of a message.
///
/// # Errors
/// `Malformed`, `OtherKey`, `Key`; `OtherNamespace` before `Bad`.
pub fn verify_person(armored: &str, namespace: &str, message: &[u8]) -> Result<BySomebody, Error> {
    let parts = parts(armored)?;
    if parts.namespace != namespace {
        return Err(Error::OtherNamespace { expected: namespace.to_owned(), found: parts.namespace });
    }
    let key = PersonKey::read(&parts.key)?;
    let mut inner = parts.signature.as_slice();
    if take(&mut inner)? != key.kind.as_bytes() {
        return Err(Error::Malformed("its key and its signature are of different types"));
    }
    let signature = take(&mut inner)?;
    let signed = parts.hash.signed_bytes(namespace, message);
    let by = BySomebody { key: key.line(&parts.key), touched: false, verified: false };
    let Some(application) = &key.application else {
        if !inner.is_empty() {
            return Err(Error::Malformed("something follows after its signature"));
        }
        key.curve.verify(&signed, signature)?;
        return Ok(by);
    };
    // The device's flags, and its counter in four bytes.
    let &[flags, a, b, c, d] = inner else {
        return Err(Error::Malformed("its flags and its counter have not five bytes"));
    };
    let digest = |bytes: &[u8]| <[u8; 32]>::from(sha2::Sha256::digest(bytes));
    let by_device = [&digest(application)[..], &[flags, a, b, c, d], &digest(&signed)].concat();
    key.curve.verify(&by_device, signature)?;
    Ok(BySomebody { touched: flags & 1 != 0, verified: flags & 4 != 0, ..by })
}

/// Whether a line of `people.yaml` or a `.pub` file is a key whose signatures [`verify_person`] can check.
///
/// # Errors
/// `OtherKey`, `Key`.
pub fn check_person_key(line: &str) -> Result<(), Error> {
    let mut words = line.split_ascii_whitespace();
    let (kind, body) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let known = Kind::of(kind.as_bytes())?;
    let blob = STANDARD.decode(body).map_err(|_| Error::Key("it is not base64"))?;
    let key = PersonKey::read(&blob)?;
    if key.kind.as_bytes() != known.name.as_bytes() {
        return Err(Error::Key("it is not of the type that it says"));
    }
    Ok(())
}

/// A type of keys.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    p256: bool,
    device: bool,
}

const KINDS: [Kind; 4] = [
    Kind { name: "ssh-ed25519", p256: false, device: false },
    Kind { name: "ecdsa-sha2-nistp256", p256: true, device: false },
    Kind { name: "sk-ssh-ed25519@openssh.com", p256: false, device: true },
    Kind { name: "sk-ecdsa-sha2-nistp256@openssh.com", p256: true, device: true },
];

impl Kind {
    fn of(name: &[u8]) -> Result<Self, Error> {
        KINDS.into_iter().find(|kind| kind.name.as_bytes() == name).ok_or(Error::OtherKey(TYPES))
    }
}

struct PersonKey {
    kind: &'static str,
    curve: Curve,
    /// Of a device.
    application: Option<Vec<u8>>,
}

enum Curve {
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
    P256(Box<p256::ecdsa::VerifyingKey>),
}

impl PersonKey {
    fn read(mut blob: &[u8]) -> Result<Self, Error> {
        let mut part = || take(&mut blob).map_err(|_| Error::Key("it is cut off"));
        let kind = Kind::of(part()?)?;
        let curve = if kind.p256 {
            if part()? != NISTP256 {
                return Err(Error::Key("its curve is another one than its type says"));
            }
            let point = part()?;
            // One form of each: the point is not compressed.
            let known = point.first() == Some(&4) && point.len() == 65;
            let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok().filter(|_| known);
            Curve::P256(Box::new(key.ok_or(Error::Key("no point of the curve"))?))
        } else {
            let key = part()?.try_into().map_err(|_| Error::Key("it has not 32 bytes"))?;
            Curve::Ed25519(Box::new(verifying_key(&key)?))
        };
        let application = if kind.device { Some(part()?.to_vec()) } else { None };
        if !blob.is_empty() {
            return Err(Error::Key("something follows after it"));
        }
        Ok(Self { kind: kind.name, curve, application })
    }

    fn line(&self, blob: &[u8]) -> String {
        format!("{} {}", self.kind, STANDARD.encode(blob))
    }
}

impl Curve {
    fn verify(&self, signed: &[u8], signature: &[u8]) -> Result<(), Error> {
        match self {
            Self::Ed25519(key) => {
                let signature = signature.try_into().map_err(|_| Error::Malformed("its signature has not 64 bytes"))?;
                key.verify_strict(signed, &Ed25519::from_bytes(signature)).map_err(|_| Error::Bad)
            }
            Self::P256(key) => {
                let mut rest = signature;
                let (r, s) = (scalar(take(&mut rest)?)?, scalar(take(&mut rest)?)?);
                if !rest.is_empty() {
                    return Err(Error::Malformed("something follows after its signature"));
                }
                let signature = p256::ecdsa::Signature::from_scalars(r, s).map_err(|_| Error::Bad)?;
                key.verify(signed, &signature).map_err(|_| Error::Bad)
            }
        }
    }
}

/// A number of at most 32 bytes, from an `mpint` of RFC 4251: positive, without a byte too many.
fn scalar(bytes: &[u8]) -> Result<[u8; 32], Error> {
    const NO_NUMBER: Error = Error::Malformed("a number in its signature is not as it should be written");
    let digits = match bytes {
        [0, rest @ ..] if rest.first().is_some_and(|byte| byte & 0x80 != 0) => rest,
        [first, ..] if *first != 0 && first & 0x80 == 0 => bytes,
        _ => return Err(NO_NUMBER),
    };
    let mut out = [0; 32];
    let before = out.len().checked_sub(digits.len()).ok_or(NO_NUMBER)?;
    out[before..].copy_from_slice(digits);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use p256::ecdsa::SigningKey;
    use p256::ecdsa::signature::Signer as _;
    use proptest::prelude::*;

    use super::super::{BEGIN, END, Hash, MAGIC, string};
    use super::*;
    use crate::key::FileKey;

    const FOREIGN: &str = include_str!("../sshsig_test.txt");
    const FOREIGN_KEY: &str = include_str!("../sshsig_test.pub");

    /// A key made for a test.
    #[derive(Clone, Copy, Debug)]
    struct Made {
        p256: bool,
        device: bool,
    }

    const ALL: [Made; 4] = [
        Made { p256: false, device: false },
        Made { p256: true, device: false },
        Made { p256: false, device: true },
        Made { p256: true, device: true },
    ];

    fn mpint(out: &mut Vec<u8>, number: &[u8]) {
        let digits: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign = digits.first().is_some_and(|byte| byte & 0x80 != 0);
        string(out, &[if sign { &[0][..] } else { &[] }, &digits].concat());
    }

    impl Made {
        fn kind(self) -> &'static str {
            KINDS.iter().find(|kind| kind.p256 == self.p256 && kind.device == self.device).unwrap().name
        }

        fn blob(self) -> Vec<u8> {
            let mut blob = Vec::new();
            string(&mut blob, self.kind().as_bytes());
            if self.p256 {
                string(&mut blob, NISTP256);
                let key = SigningKey::from_slice(&[9; 32]).unwrap();
                string(&mut blob, key.verifying_key().to_encoded_point(false).as_bytes());
            } else {
                string(&mut blob, &FileKey::from_seed([9; 32]).public_key());
            }
            if self.device {
                string(&mut blob, b"ssh:");
            }
            blob
        }

        fn line(self) -> String {
            format!("{} {}", self.kind(), STANDARD.encode(self.blob()))
        }

        /// As ssh-keygen makes it, with a device's flags.
        fn sign(self, message: &[u8], flags: u8, namespace: &str) -> String {
            let inner = Hash::Sha512.signed_bytes(namespace, message);
            let tail = [&[flags][..], &7_u32.to_be_bytes()].concat();
            let hash = |bytes: &[u8]| <[u8; 32]>::from(sha2::Sha256::digest(bytes));
            let signed = if self.device { [&hash(b"ssh:")[..], &tail, &hash(&inner)].concat() } else { inner };
            let mut signature = Vec::new();
            string(&mut signature, self.kind().as_bytes());
            if self.p256 {
                let made: p256::ecdsa::Signature = SigningKey::from_slice(&[9; 32]).unwrap().sign(&signed);
                let (r, s) = made.split_bytes();
                let mut numbers = Vec::new();
                mpint(&mut numbers, &r);
                mpint(&mut numbers, &s);
                string(&mut signature, &numbers);
            } else {
                string(&mut signature, &FileKey::from_seed([9; 32]).sign(&signed));
            }
            if self.device {
                signature.extend(tail);
            }
            let mut body = MAGIC.to_vec();
            body.extend(1_u32.to_be_bytes());
            for part in [self.blob().as_slice(), namespace.as_bytes(), b"", b"sha512", &signature] {
                string(&mut body, part);
            }
            format!("{BEGIN}{}\n{END}\n", STANDARD.encode(body))
        }
    }

    fn body(text: &str) -> Vec<u8> {
        STANDARD.decode(text.strip_prefix(BEGIN).unwrap().split(END).next().unwrap().replace('\n', "")).unwrap()
    }

    #[test]
    fn case_12_what_a_device_says_of_touch_and_pin_is_read_and_cannot_be_changed() {
        for made in ALL.into_iter().filter(|made| made.device) {
            for (flags, touched, verified) in [(0, false, false), (1, true, false), (4, false, true), (5, true, true)] {
                let text = made.sign(b"message", flags, "n");
                let by = verify_person(&text, "n", b"message").unwrap();
                assert_eq!(by, BySomebody { key: made.line(), touched, verified });
                assert_eq!(verify_person(&text, "n", b"messagE"), Err(Error::Bad));
                assert!(matches!(verify_person(&text, "m", b"message"), Err(Error::OtherNamespace { .. })));
                // The flags are the fifth byte from the end.
                let mut blob = body(&text);
                let at = blob.len() - 5;
                blob[at] ^= 5;
                let text = format!("{BEGIN}{}\n{END}\n", STANDARD.encode(&blob));
                assert_eq!(verify_person(&text, "n", b"message"), Err(Error::Bad));
            }
        }
    }

    #[test]
    fn a_key_in_a_file_proves_no_touch() {
        let by = verify_person(FOREIGN, "runbook-bundle@v1", b"sums\n").unwrap();
        assert!(!by.touched && !by.verified && FOREIGN_KEY.starts_with(&by.key));
        assert_eq!(check_person_key(FOREIGN_KEY), Ok(()));
        for made in ALL.into_iter().filter(|made| !made.device) {
            let by = verify_person(&made.sign(b"message", 5, "n"), "n", b"message").unwrap();
            assert_eq!(by, BySomebody { key: made.line(), touched: false, verified: false });
        }
    }

    #[test]
    fn a_key_is_of_the_type_that_it_says_and_of_one_that_is_known() {
        for made in ALL {
            assert_eq!(check_person_key(&made.line()), Ok(()), "{made:?}");
            for other in ALL.into_iter().filter(|other| other.kind() != made.kind()) {
                let line = format!("{} {}", other.kind(), STANDARD.encode(made.blob()));
                assert!(matches!(check_person_key(&line), Err(Error::Key(_))), "{line}");
            }
            assert!(matches!(check_person_key(&format!("{} AAAA", made.kind())), Err(Error::Key(_))));
            let longer = [made.blob(), vec![0]].concat();
            assert!(check_person_key(&format!("{} {}", made.kind(), STANDARD.encode(longer))).is_err());
        }
        assert_eq!(check_person_key("ssh-rsa AAAA"), Err(Error::OtherKey(TYPES)));
        for name in TYPES.replace(" and ", ", ").split(", ") {
            assert!(Kind::of(name.as_bytes()).is_ok(), "{name}");
        }
        // A point that is not on the curve, and one in the shorter form.
        let of_point = |point: &[u8]| {
            let mut blob = Vec::new();
            [b"ecdsa-sha2-nistp256", NISTP256, point].iter().for_each(|part| string(&mut blob, part));
            check_person_key(&format!("ecdsa-sha2-nistp256 {}", STANDARD.encode(blob)))
        };
        let key = SigningKey::from_slice(&[9; 32]).unwrap();
        assert_eq!(of_point(key.verifying_key().to_encoded_point(false).as_bytes()), Ok(()));
        assert!(of_point(key.verifying_key().to_encoded_point(true).as_bytes()).is_err());
        assert!(of_point(&[4; 65]).is_err());
    }

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(scalar(&[0x7f]).unwrap()[31], 0x7f);
        assert_eq!(scalar(&[0, 0x80]).unwrap()[31], 0x80);
        for wrong in [&[][..], &[0], &[0x80], &[0, 0x7f], &[0, 0, 0x80], &[1; 33]] {
            assert!(scalar(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn no_changed_byte_of_a_persons_signature_survives(which in 0..ALL.len(), at: prop::sample::Index, to: u8) {
            let made = ALL[which];
            let mut blob = body(&made.sign(b"message", 1, "n"));
            let at = at.index(blob.len());
            let was = std::mem::replace(&mut blob[at], to);
            let text = format!("{BEGIN}{}\n{END}\n", STANDARD.encode(&blob));
            let by = verify_person(&text, "n", b"message");
            // Another application is another key.
            prop_assert_eq!(by.is_ok_and(|by| by.key == made.line()), was == to);
        }

        #[test]
        fn no_persons_text_makes_the_reader_panic(
            text in "(-----BEGIN SSH SIGNATURE-----\n)?[A-Za-z0-9+/=\n]{0,200}(-----END SSH SIGNATURE-----)?",
            kind in 0..KINDS.len(),
            bytes in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let _ = verify_person(&text, "n", b"");
            let _ = check_person_key(&text);
            let _ = check_person_key(&format!("{} {}", KINDS[kind].name, STANDARD.encode(&bytes)));
            let blob = [MAGIC, &1_u32.to_be_bytes(), &bytes].concat();
            let _ = verify_person(&format!("{BEGIN}{}\n{END}\n", STANDARD.encode(blob)), "n", b"");
            let mut key = Vec::new();
            string(&mut key, KINDS[kind].name.as_bytes());
            key.extend(&bytes);
            let _ = PersonKey::read(&key);
        }
    }
}
