//! OpenSSH's forms of keys and certificates (PROTOCOL.key, PROTOCOL.certkeys), for Ed25519. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ed25519_dalek::{Signer as _, SigningKey};
use runbook_model::Sha256;
use zeroize::{Zeroize as _, Zeroizing};

use crate::certificate::{Fields, key_in};

const KEY: &str = "ssh-ed25519";
const CERTIFICATE: &str = "ssh-ed25519-cert-v01@openssh.com";
const MAGIC: &[u8] = b"openssh-key-v1\0";
const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";

/// Fields of the wire's form.
#[derive(Default)]
struct Blob(Vec<u8>);

impl Blob {
    fn bytes(mut self, bytes: &[u8]) -> Self {
        // Nothing that is written here comes near 4 GiB.
        self.0.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn u32(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    fn u64(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
}

fn public_blob(key: &[u8; 32]) -> Vec<u8> {
    Blob::default().text(KEY).bytes(key).0
}

/// A public key as in an authorized_keys file.
pub(crate) fn public_line(key: &[u8; 32], comment: &str) -> String {
    format!("{KEY} {} {comment}", STANDARD.encode(public_blob(key))).trim_end().to_owned()
}

/// `SHA256:…`, as `ssh-keygen -l` says it.
pub(crate) fn fingerprint(blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::of(blob).0))
}

/// The file of a private key without a passphrase.
pub(crate) fn private_file(key: &SigningKey, check: u32, comment: &str) -> Zeroizing<String> {
    let public = key.verifying_key().to_bytes();
    let mut private = Blob::default().u32(check).u32(check).text(KEY).bytes(&public);
    private = private.bytes(&*Zeroizing::new(key.to_keypair_bytes())).text(comment);
    let mut padding = 1_u8;
    while private.0.len() % 8 != 0 {
        private.0.push(padding);
        padding += 1;
    }
    let mut whole = Blob(MAGIC.to_vec()).text("none").text("none").text("").u32(1).bytes(&public_blob(&public));
    whole = whole.bytes(&private.0);
    let encoded = Zeroizing::new(STANDARD.encode(&whole.0));
    let mut text = Zeroizing::new(format!("{BEGIN}\n"));
    for line in encoded.as_bytes().chunks(70) {
        text.push_str(std::str::from_utf8(line).unwrap_or_default());
        text.push('\n');
    }
    text.push_str(END);
    text.push('\n');
    private.0.zeroize();
    whole.0.zeroize();
    text
}

/// Reads the file of a private Ed25519 key without a passphrase.
///
/// # Errors
/// For people: what it is instead.
pub(crate) fn read_private(text: &str) -> Result<SigningKey, &'static str> {
    const BROKEN: &str = "it is no whole OpenSSH private key";
    let body = text.trim().strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
    let Some(body) = body else { return Err("it is no private key in OpenSSH's form") };
    let packed: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    let bytes = Zeroizing::new(STANDARD.decode(packed.as_bytes()).map_err(|_| BROKEN)?);
    let mut rest = Fields(bytes.strip_prefix(MAGIC).ok_or(BROKEN)?);
    let cipher = rest.text().ok_or(BROKEN)?;
    if cipher != b"none" {
        return Err("it has a passphrase; use `command` and a program that can ask for it");
    }
    let (_kdf, _options) = (rest.text().ok_or(BROKEN)?, rest.text().ok_or(BROKEN)?);
    if rest.number(4) != Some(1) {
        return Err(BROKEN);
    }
    let _public = rest.text().ok_or(BROKEN)?;
    let mut private = Fields(rest.text().ok_or(BROKEN)?);
    if private.number(4).ok_or(BROKEN)? != private.number(4).ok_or(BROKEN)? {
        return Err(BROKEN);
    }
    if private.text().ok_or(BROKEN)? != KEY.as_bytes() {
        return Err("it is no Ed25519 key");
    }
    let _public = private.text().ok_or(BROKEN)?;
    let pair: [u8; 64] = private.text().and_then(|pair| pair.try_into().ok()).ok_or(BROKEN)?;
    let pair = Zeroizing::new(pair);
    SigningKey::from_keypair_bytes(&pair).map_err(|_| "its two halves do not belong together")
}

/// What is to be signed. Times in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) key: [u8; 32],
    pub(crate) serial: u64,
    pub(crate) key_id: String,
    pub(crate) principals: Vec<String>,
    pub(crate) valid_after_s: u64,
    pub(crate) valid_before_s: u64,
    /// The only thing that it can do; `None`: a session without terminal, forwarding or user's rc.
    pub(crate) force_command: Option<String>,
    pub(crate) source_address: Vec<String>,
}

/// The certificate, as in a `-cert.pub` file, with no extension at all: no terminal, no forwarding of anything.
pub(crate) fn certificate(wanted: &Wanted, nonce: &[u8; 32], authority: &SigningKey) -> String {
    let mut principals = Blob::default();
    for principal in &wanted.principals {
        principals = principals.text(principal);
    }
    // In the order of their names.
    let mut critical = Blob::default();
    if let Some(command) = &wanted.force_command {
        critical = critical.text("force-command").bytes(&Blob::default().text(command).0);
    }
    if !wanted.source_address.is_empty() {
        let addresses = wanted.source_address.join(",");
        critical = critical.text("source-address").bytes(&Blob::default().text(&addresses).0);
    }
    let body = Blob::default()
        .text(CERTIFICATE)
        .bytes(nonce)
        .bytes(&wanted.key)
        .u64(wanted.serial)
        .u32(1)
        .text(&wanted.key_id)
        .bytes(&principals.0)
        .u64(wanted.valid_after_s)
        .u64(wanted.valid_before_s)
        .bytes(&critical.0)
        .text("")
        .text("")
        .bytes(&public_blob(&authority.verifying_key().to_bytes()));
    let signature = authority.sign(&body.0).to_bytes();
    let signature = Blob::default().text(KEY).bytes(&signature);
    format!("{CERTIFICATE} {} {}", STANDARD.encode(body.bytes(&signature.0).0), wanted.key_id)
}

/// A certificate as somebody signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    pub(crate) key: Vec<u8>,
    pub(crate) serial: u64,
    pub(crate) is_for_users: bool,
    pub(crate) key_id: String,
    pub(crate) principals: Vec<String>,
    pub(crate) valid_after_s: u64,
    pub(crate) valid_before_s: u64,
    pub(crate) critical: Vec<(String, String)>,
    /// Fingerprint.
    pub(crate) authority: String,
}

/// Reads a certificate of an Ed25519 key; `None` when it is none.
pub(crate) fn read_certificate(text: &str) -> Option<Signed> {
    let mut words = text.split_whitespace();
    let kind = words.next()?;
    let (plain, fields) = key_in(kind)?;
    if plain != KEY || fields != 1 {
        return None;
    }
    let blob = STANDARD.decode(words.next()?).ok()?;
    let mut rest = Fields(&blob);
    if rest.text()? != kind.as_bytes() {
        return None;
    }
    let _nonce = rest.text()?;
    let key = rest.text()?.to_vec();
    let serial = rest.number(8)?;
    let is_for_users = rest.number(4)? == 1;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let key_id = text(rest.text()?);
    let mut names = Fields(rest.text()?);
    let mut principals = Vec::new();
    while !names.0.is_empty() {
        principals.push(text(names.text()?));
    }
    let (valid_after_s, valid_before_s) = (rest.number(8)?, rest.number(8)?);
    let mut options = Fields(rest.text()?);
    let mut critical = Vec::new();
    while !options.0.is_empty() {
        let name = text(options.text()?);
        let mut value = Fields(options.text()?);
        critical.push((name, value.text().map(text).unwrap_or_default()));
    }
    let (_extensions, _reserved) = (rest.text()?, rest.text()?);
    let authority = fingerprint(rest.text()?);
    let _signature = rest.text()?;
    rest.0.is_empty().then_some(Signed {
        key,
        serial,
        is_for_users,
        key_id,
        principals,
        valid_after_s,
        valid_before_s,
        critical,
        authority,
    })
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn wanted() -> Wanted {
        Wanted {
            key: SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes(),
            serial: u64::MAX - 3,
            key_id: "run 1 host fs01".into(),
            principals: vec!["maint".into(), "maint@fs01".into()],
            valid_after_s: 1_767_225_600,
            valid_before_s: 1_769_904_000,
            force_command: Some("echo 'it is, this'\nexit 3".into()),
            source_address: vec!["10.0.0.5/32".into(), "2001:db8::/64".into()],
        }
    }

    fn keygen(arguments: &[&str]) -> String {
        let output = Command::new("ssh-keygen").env("TZ", "UTC").args(arguments).output().expect("ssh-keygen is there");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn openssh_reads_the_certificates_that_are_minted_here() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("id-cert.pub");
        let authority = SigningKey::from_bytes(&[9; 32]);
        let line = certificate(&wanted(), &[1; 32], &authority);
        std::fs::write(&file, format!("{line}\n")).unwrap();
        // It checks the signature before it shows anything.
        let shown = keygen(&["-L", "-f", file.to_str().unwrap()]);
        for part in [
            "user certificate",
            "Serial: 18446744073709551612",
            "Key ID: \"run 1 host fs01\"",
            "Valid: from 2026-01-01T00:00:00 to 2026-02-01T00:00:00",
            "maint@fs01",
            "force-command echo 'it is, this'",
            "source-address 10.0.0.5/32,2001:db8::/64",
            "Extensions: (none)",
            &fingerprint(&public_blob(&authority.verifying_key().to_bytes())),
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let read = read_certificate(&line).unwrap();
        assert_eq!(read.principals, wanted().principals);
        assert_eq!(read.critical[0], ("force-command".into(), wanted().force_command.unwrap()));
        assert_eq!((read.serial, read.valid_before_s), (wanted().serial, wanted().valid_before_s));
        assert_eq!(read.key, wanted().key);
    }

    #[test]
    fn what_openssh_signed_is_read_and_a_certificate_that_is_cut_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        for name in ["ca", "id"] {
            keygen(&["-q", "-t", "ed25519", "-N", "", "-f", &path(name)]);
        }
        let options = ["-O", "clear", "-O", "force-command=id", "-V", "20260101000000Z:20260201000000Z"];
        let subject = ["-q", "-s", &path("ca"), "-I", "x", "-n", "maint", "-z", "5"];
        keygen(&[&subject[..], &options[..], &[&path("id.pub")]].concat());
        let text = std::fs::read_to_string(path("id-cert.pub")).unwrap();
        let read = read_certificate(&text).unwrap();
        assert_eq!((read.serial, read.valid_after_s, read.is_for_users), (5, 1_767_225_600, true));
        assert_eq!(read.critical, [("force-command".to_owned(), "id".to_owned())]);
        for cut in [200, 300, 400] {
            let cut: String = text.chars().take(cut / 4 * 4 + CERTIFICATE.len() + 1).collect();
            assert_eq!(read_certificate(&cut), None);
        }
    }

    #[test]
    fn openssh_and_we_read_each_others_private_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let key = SigningKey::from_bytes(&[5; 32]);
        let file = private_file(&key, 0x1234_5678, "run");
        std::fs::write(path("ours"), &*file).unwrap();
        std::fs::set_permissions(path("ours"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let line = public_line(&key.verifying_key().to_bytes(), "run");
        assert_eq!(keygen(&["-y", "-f", &path("ours")]).trim(), line);
        assert_eq!(read_private(&file).unwrap().to_bytes(), key.to_bytes());

        keygen(&["-q", "-t", "ed25519", "-N", "", "-C", "theirs", "-f", &path("theirs")]);
        let theirs = read_private(&std::fs::read_to_string(path("theirs")).unwrap()).unwrap();
        let public = std::fs::read_to_string(path("theirs.pub")).unwrap();
        assert_eq!(public_line(&theirs.verifying_key().to_bytes(), "theirs"), public.trim());

        keygen(&["-q", "-t", "ed25519", "-N", "secret", "-f", &path("locked")]);
        keygen(&["-q", "-t", "ecdsa", "-N", "", "-f", &path("other")]);
        for (name, why) in [("locked", "passphrase"), ("other", "no Ed25519"), ("ours.pub", "OpenSSH's form")] {
            let text = std::fs::read_to_string(path(name)).unwrap_or_default();
            let said = read_private(&text).unwrap_err();
            assert!(said.contains(why), "{name}: {said}");
        }
    }
}
