//! The user certificate that the inventory names, read when a login was refused: ssh and sshd tell the client no reason,
//! and most often it is that the certificate is over.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::units::rfc3339_ms;

/// What a certificate is good for.
#[derive(Debug, PartialEq, Eq)]
struct Certificate {
    is_for_users: bool,
    principals: Vec<String>,
    /// Seconds since 1970.
    valid_after: u64,
    valid_before: u64,
}

/// Adds what is to be said of the certificates at `paths` (the host's own and its jump hosts') to a login that was
/// refused; leaves other obstacles alone.
pub fn explain<'a>(mut obstacle: Obstacle, paths: impl Iterator<Item = &'a str>, now_ms: u64) -> Obstacle {
    if obstacle.kind != ObstacleKind::Login {
        return obstacle;
    }
    for path in paths.collect::<BTreeSet<_>>() {
        let said = match std::fs::read_to_string(path) {
            Err(error) => format!("The certificate {path} cannot be read: {error}"),
            Ok(text) => match read(&text) {
                None => format!("{path} is no OpenSSH certificate"),
                Some(certificate) => sentence(path, &certificate, now_ms),
            },
        };
        obstacle.message = format!("{}. {said}", obstacle.message.trim_end().trim_end_matches('.'));
    }
    obstacle
}

fn sentence(path: &str, certificate: &Certificate, now_ms: u64) -> String {
    // The last moment that can be written stands for "for ever".
    let time = |seconds: u64| rfc3339_ms(seconds.saturating_mul(1000)).replace(".000", "");
    let now = now_ms / 1000;
    if !certificate.is_for_users {
        return format!("{path} is a certificate for hosts, not for accounts");
    }
    if now >= certificate.valid_before {
        let (end, now) = (time(certificate.valid_before), time(now));
        return format!(
            "The certificate {path} has expired: it was valid until {end}, and it is {now}. Have a new one signed"
        );
    }
    if now < certificate.valid_after {
        let (begin, now) = (time(certificate.valid_after), time(now));
        return format!(
            "The certificate {path} is not valid yet: it begins at {begin}, and it is {now}. Is the clock here right?"
        );
    }
    let names = if certificate.principals.is_empty() { "no account".into() } else { certificate.principals.join(", ") };
    format!(
        "The certificate {path} is valid now, and names {names}: does the host trust who signed it (TrustedUserCAKeys in its \
         sshd_config), and is the account among these names?"
    )
}

fn read(text: &str) -> Option<Certificate> {
    let mut words = text.split_whitespace();
    let kind = words.next()?;
    let blob = STANDARD.decode(words.next()?).ok()?;
    let (_, key_fields) = key_in(kind)?;
    let mut rest = Fields(&blob);
    if rest.text()? != kind.as_bytes() {
        return None;
    }
    // A nonce, then the key.
    for _ in 0..=key_fields {
        rest.text()?;
    }
    let _serial = rest.number(8)?;
    let is_for_users = rest.number(4)? == 1;
    let _id = rest.text()?;
    let mut names = Fields(rest.text()?);
    let mut principals = Vec::new();
    while !names.0.is_empty() {
        principals.push(String::from_utf8_lossy(names.text()?).into_owned());
    }
    Some(Certificate { is_for_users, principals, valid_after: rest.number(8)?, valid_before: rest.number(8)? })
}

/// The kind of the key in a certificate of this kind, and how many fields that key has.
pub(crate) fn key_in(kind: &str) -> Option<(String, usize)> {
    let key = kind.strip_suffix("-cert-v01@openssh.com")?;
    let (suffix, fields) = match key {
        "ssh-ed25519" => ("", 1),
        "ssh-rsa" => ("", 2),
        "sk-ssh-ed25519" => ("@openssh.com", 2),
        key if key.starts_with("ecdsa-sha2-") => ("", 2),
        key if key.starts_with("sk-ecdsa-sha2-") => ("@openssh.com", 3),
        _ => return None,
    };
    Some((format!("{key}{suffix}"), fields))
}

/// The key's own blob: the one that is there, or the one in the certificate that is there.
pub(crate) fn plain_key(kind: &str, blob: &[u8]) -> Option<Vec<u8>> {
    let mut rest = Fields(blob);
    if rest.text()? != kind.as_bytes() {
        return None;
    }
    let Some((key, fields)) = key_in(kind) else { return Some(blob.to_vec()) };
    let mut plain = Vec::new();
    let mut push = |field: &[u8]| {
        plain.extend_from_slice(&u32::try_from(field.len()).ok()?.to_be_bytes());
        plain.extend_from_slice(field);
        Some(())
    };
    push(key.as_bytes())?;
    let _nonce = rest.text()?;
    for _ in 0..fields {
        push(rest.text()?)?;
    }
    Some(plain)
}

/// What is left of a blob.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (field, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(field)
    }

    pub(crate) fn number(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    pub(crate) fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.number(4)?;
        self.take(usize::try_from(length).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED25519: &str = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIOea1DtHElTMmQxMFN3fR5oMtVCk+k590NZMeyIkl6qdAAAAID2uEAca7jqSc7f9uZCtbBwYQAgS/M8p0koiysqRH1oFAAAAAAAAAAAAAAABAAAABHRlc3QAAAATAAAABW1haW50AAAABmRlcGxveQAAAABpVbkAAAAAAGl+l4AAAAAAAAAAggAAABVwZXJtaXQtWDExLWZvcndhcmRpbmcAAAAAAAAAF3Blcm1pdC1hZ2VudC1mb3J3YXJkaW5nAAAAAAAAABZwZXJtaXQtcG9ydC1mb3J3YXJkaW5nAAAAAAAAAApwZXJtaXQtcHR5AAAAAAAAAA5wZXJtaXQtdXNlci1yYwAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUxOQAAACBA/yk5uEkFbJBVYLvmca7ccWt4w/vK8w2xDGL+qxE7nAAAAFMAAAALc3NoLWVkMjU1MTkAAABABQtWfwg3bPj/S0C1rs+pjtpOC0LtaO2SScI4TiIXBty8iFFIXZ1kmQ2mq22Uc1O39pKJRPp4WVXb1kTGnTU2BA== test";
    const ECDSA: &str = "ecdsa-sha2-nistp256-cert-v01@openssh.com AAAAKGVjZHNhLXNoYTItbmlzdHAyNTYtY2VydC12MDFAb3BlbnNzaC5jb20AAAAgT3knblJB2rlOXx4JYL582G0erQhEKkMcxRHq+waw+H0AAAAIbmlzdHAyNTYAAABBBB+iNvMBPsk6U2DskI5JVUzPZ2OowTyzC6uN/SY52zixmDt17utCR4L2RQ4o9yW+qY646djVSiU0ZBeSEmQU0pcAAAAAAAAAAAAAAAEAAAAEdGVzdAAAABMAAAAFbWFpbnQAAAAGZGVwbG95AAAAAGlVuQAAAAAAaX6XgAAAAAAAAACCAAAAFXBlcm1pdC1YMTEtZm9yd2FyZGluZwAAAAAAAAAXcGVybWl0LWFnZW50LWZvcndhcmRpbmcAAAAAAAAAFnBlcm1pdC1wb3J0LWZvcndhcmRpbmcAAAAAAAAACnBlcm1pdC1wdHkAAAAAAAAADnBlcm1pdC11c2VyLXJjAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIED/KTm4SQVskFVgu+Zxrtxxa3jD+8rzDbEMYv6rETucAAAAUwAAAAtzc2gtZWQyNTUxOQAAAEA+qVihT8FuiUyBbX0X3rJlGOxMtnZv/6GIkVdmp2EduAtQkpU3rC3nEBjudxWe9aE+bePu7xQEhFWCysR4z30E";
    const RSA_FOREVER: &str = "ssh-rsa-cert-v01@openssh.com AAAAHHNzaC1yc2EtY2VydC12MDFAb3BlbnNzaC5jb20AAAAgBavCnh+370iLqx1ZMzA4IIhkTQnfrqzZJtS2k7mSGXYAAAADAQABAAAAgQCvq4hdYxUElm6NLRGrhvoKN7ybrHBQmwkeD2QZBY0LJgOe/9v+fS0NDSYzYZoy/oFiLdp72xNI7ZoI7GXIAGNftc8Ket00PywGAEgljvKybPjQVJU5KYH4B0BM7B1LmqsN8kAVAE9Wmxgo5OClzxxVttbI6fEdoeWPsSdxdExvNwAAAAAAAAAAAAAAAQAAAAR0ZXN0AAAACQAAAAVtYWludAAAAAAAAAAA//////////8AAAAAAAAAggAAABVwZXJtaXQtWDExLWZvcndhcmRpbmcAAAAAAAAAF3Blcm1pdC1hZ2VudC1mb3J3YXJkaW5nAAAAAAAAABZwZXJtaXQtcG9ydC1mb3J3YXJkaW5nAAAAAAAAAApwZXJtaXQtcHR5AAAAAAAAAA5wZXJtaXQtdXNlci1yYwAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUxOQAAACBA/yk5uEkFbJBVYLvmca7ccWt4w/vK8w2xDGL+qxE7nAAAAFMAAAALc3NoLWVkMjU1MTkAAABAJ6KqzKt7JksKGw7gYq/M/1UFEhfWRXmJvZID5VfsCzCkkCvM9JjkIz8cUVKMVDppmt59CoCAEa89FKiFGRbECA==";
    const HOST: &str = "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIP+O/gottCnhgcL7nVtLrIwuM5ktA8nSwoD7qmuZXN84AAAAIISuQY655rr8jyCxdgj3z/XWgazm2dBatLs5HFvzqGTuAAAAAAAAAAAAAAACAAAABHRlc3QAAAAHAAAAA3dlYgAAAAAAAAAA//////////8AAAAAAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIED/KTm4SQVskFVgu+Zxrtxxa3jD+8rzDbEMYv6rETucAAAAUwAAAAtzc2gtZWQyNTUxOQAAAEAXcYDKvlc1Pqe6rthuOYWd9AU8Bqu+uO2ae1B5pYgtXhS2NI1WMbrwmjE4mTXuM49iCYzR8uOrVY3D72wxN5sG";
    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID2uEAca7jqSc7f9uZCtbBwYQAgS/M8p0koiysqRH1oF";

    // 2026-01-01 and 2026-02-01.
    const BEGIN: u64 = 1_767_225_600;
    const END: u64 = 1_769_904_000;

    fn said(text: &str, now: u64) -> String {
        sentence("/c", &read(text).unwrap(), now * 1000)
    }

    #[test]
    fn certificates_of_every_kind_of_key_are_read() {
        let whole = Certificate {
            is_for_users: true,
            principals: vec!["maint".into(), "deploy".into()],
            valid_after: BEGIN,
            valid_before: END,
        };
        assert_eq!(read(ED25519).as_ref(), Some(&whole));
        assert_eq!(read(ECDSA), Some(whole));
        let forever = read(RSA_FOREVER).unwrap();
        assert_eq!((forever.valid_after, forever.valid_before), (0, u64::MAX));
        assert!(!read(HOST).unwrap().is_for_users);
    }

    #[test]
    fn the_key_in_a_certificate_is_that_of_its_fingerprint() {
        let blob = |text: &str| STANDARD.decode(text.split(' ').nth(1).unwrap()).unwrap();
        // `ssh-keygen -lf` of the certificate says so.
        let plain = plain_key("ssh-ed25519-cert-v01@openssh.com", &blob(ED25519)).unwrap();
        assert_eq!(plain, blob(KEY));
        assert_eq!(plain_key("ssh-ed25519", &blob(KEY)), Some(blob(KEY)));
        assert_eq!(plain_key("ssh-rsa", &blob(KEY)), None, "it says itself what it is");
    }

    #[test]
    fn what_is_no_certificate_is_told_from_one() {
        let cut: String = ED25519.chars().take(300).collect();
        for text in ["", "nonsense", KEY, "ssh-ed25519-cert-v01@openssh.com AAAA", &cut] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn the_reason_is_the_first_that_holds() {
        assert_eq!(
            said(ED25519, END),
            "The certificate /c has expired: it was valid until 2026-02-01T00:00:00Z, and it is 2026-02-01T00:00:00Z. \
             Have a new one signed"
        );
        assert!(said(ED25519, BEGIN - 1).contains("is not valid yet: it begins at 2026-01-01T00:00:00Z"));
        assert!(said(ED25519, BEGIN).contains("is valid now, and names maint, deploy"));
        assert!(said(RSA_FOREVER, END).contains("is valid now, and names maint:"));
        assert!(said(HOST, END).contains("for hosts"));
    }

    #[test]
    fn only_a_refused_login_is_explained() {
        let obstacle = |kind| Obstacle { kind, message: "fs01: no.".into() };
        let file = ["/no/such/file", "/no/such/file"];
        let told = explain(obstacle(ObstacleKind::Login), file.into_iter(), 0);
        assert!(told.message.starts_with("fs01: no. The certificate /no/such/file cannot be read: "), "{told:?}");
        assert_eq!(told.message.matches("cannot be read").count(), 1, "each is told once");
        let none = explain(obstacle(ObstacleKind::Login), std::iter::empty(), 0);
        assert_eq!(none, obstacle(ObstacleKind::Login));
        let unreachable = obstacle(ObstacleKind::Unreachable);
        assert_eq!(explain(unreachable.clone(), file.into_iter(), 0), unreachable);
    }
}
