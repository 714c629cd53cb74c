//! Access that a run has on a host for as long as it works there: what the plan says of it, and what the record tells of
//! what was granted and of how that ended.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::id::{HostName, RunId};

/// A certificate is valid for so long at most, where the plan does not say less.
pub const VALID_FOR_MS: u64 = 8 * 3_600_000;

/// The same for a rule of sudo without a certificate.
pub const RULE_FOR_MS: u64 = VALID_FOR_MS;

/// `access:` of a plan. At least one of them is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// The run logs in with a certificate of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// The account that logs in may use sudo meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<Sudo>,
    /// Somebody else's account is open meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
}

/// A user certificate (OpenSSH) that is minted for the run, one for each host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// The names that it is good for, by host.
    pub principals: BTreeMap<HostName, Vec<String>>,
    /// The addresses from which it counts (CIDR); none: from anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_address: Vec<String>,
    /// For how long at most.
    pub valid_for_ms: u64,
    /// What is asked of hosts at its end.
    pub revoke: Revoke,
}

/// Whether a host must be able to revoke a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revoke {
    /// A host that cannot is not begun.
    #[default]
    Required,
    /// On a host that cannot it counts until its own end, and the record says so.
    WhenPossible,
}

impl Revoke {
    /// The word that people write.
    pub fn name(self) -> &'static str {
        match self {
            Revoke::Required => "required",
            Revoke::WhenPossible => "when-possible",
        }
    }
}

/// A rule of sudo that is there while the run is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sudo {
    /// The account to become.
    #[serde(rename = "as")]
    pub run_as: String,
    /// What may be run, each as in sudoers: `ALL`, or an absolute path with or without arguments.
    pub commands: Vec<String>,
}

/// An account of somebody who has no business on the host at other times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Account {
    /// Its name on the hosts.
    pub name: String,
    /// The window in which it may be open.
    pub window: String,
}

impl Access {
    /// What is taken, for people: one sentence for each.
    pub fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(certificate) = &self.certificate {
            let mut names: Vec<&str> = certificate.principals.values().flatten().map(String::as_str).collect();
            names.sort_unstable();
            names.dedup();
            let names = match names.len() {
                0..=4 => names.join(", "),
                more => format!("{} and {} more", names[..3].join(", "), more - 3),
            };
            let from = match certificate.source_address.as_slice() {
                [] => String::new(),
                addresses => format!(", from {}", addresses.join(", ")),
            };
            let revoked = match certificate.revoke {
                Revoke::Required => "revoked at the end of each host",
                Revoke::WhenPossible => "revoked at the end of each host where that is possible",
            };
            let hours = crate::units::format_duration_ms(certificate.valid_for_ms);
            said.push(format!(
                "a certificate for this run (principals {names}; at most {hours}, and not past the window{from}), {revoked}"
            ));
        }
        if let Some(sudo) = &self.sudo {
            said.push(format!(
                "a rule of sudo for the account that logs in: as {}, {}; removed at the end of each host",
                sudo.run_as,
                sudo.commands.join(", ")
            ));
        }
        if let Some(account) = &self.account {
            said.push(format!(
                "the account {} is opened while the window `{}` is, and locked at the end of each host",
                account.name, account.window
            ));
        }
        said
    }
}

/// What a host was given: on record before anything is done there, so that whoever takes the run up knows what to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Minted>,
    /// The rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<Rule>,
    /// The account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Opened>,
}

/// A certificate. Its private key is never on record, and on no disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Minted {
    /// Its number: a text, because authorities use all 64 bits.
    pub serial: String,
    /// Its name, which the host's log has: the run, the plan's digest, the host.
    pub key_id: String,
    /// The public key, as in an authorized_keys file.
    pub public_key: String,
    /// Fingerprint of the authority that signed it.
    pub authority: String,
    /// The names that it is good for.
    pub principals: Vec<String>,
    /// The addresses from which it counts; none: from anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_address: Vec<String>,
    /// Unix ms.
    pub valid_after_ms: u64,
    /// Unix ms; at this moment it is over.
    pub valid_until_ms: u64,
}

/// A rule of sudo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The file on the host.
    pub path: String,
    /// The account that it is for.
    pub user: String,
    /// All of the file.
    pub text: String,
    /// Its digest.
    pub sha256: Sha256,
    /// Unix ms; at this moment it is over.
    pub valid_until_ms: u64,
}

/// An account that is open for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Opened {
    /// Its name.
    pub name: String,
    /// The window in which it is.
    pub window: String,
    /// When that window ends (Unix ms).
    pub until_ms: u64,
    /// The day on which it expires by itself, whatever happens (UTC, `YYYY-MM-DD`): hosts know whole days.
    pub expires_on: String,
}

/// What the host said when it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Unix ms.
    pub at_ms: u64,
    /// The file in which its sshd looks for revoked keys; `None`: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_keys: Option<String>,
    /// Digest of what sudo told of the account before the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo_before: Option<Sha256>,
    /// The rule's digest as the host has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_sha256: Option<Sha256>,
    /// The certificate with which it was installed.
    pub installer: Installer,
}

/// The certificate of a single login that could do one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installer {
    /// The account.
    pub login: String,
    /// Its number: a text, because authorities use all 64 bits.
    pub serial: String,
    /// Unix ms.
    pub valid_until_ms: u64,
    /// Digest of the script that it was bound to.
    pub script_sha256: Sha256,
}

/// How the access to a host ended.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawal {
    /// When that was looked at (Unix ms); `None`: the host could not be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_ms: Option<u64>,
    /// Of the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sudo: Option<Ending>,
    /// Of the certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Ending>,
    /// Of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Ending>,
    /// The certificate with which it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installer: Option<Installer>,
}

/// How one thing ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It is gone, and that was tried: what was seen, in the host's words.
    Proved(String),
    /// It was never to be used on the host, or the plan lets it count until its own end.
    Lapses {
        /// Unix ms.
        until_ms: u64,
        /// Why.
        why: String,
    },
    /// It may still be there: why.
    Left {
        /// When it is over by itself (Unix ms); `None`: never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<u64>,
        /// What was seen.
        why: String,
    },
}

impl Ending {
    /// The worse of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let rank = |ending: &Ending| match ending {
            Ending::Proved(_) => 0,
            Ending::Lapses { .. } => 1,
            Ending::Left { .. } => 2,
        };
        if rank(&other) > rank(&self) { other } else { self }
    }

    /// For people.
    pub fn text(&self) -> String {
        let time = |ms: &u64| crate::units::rfc3339_ms(*ms).replace(".000", "");
        match self {
            Ending::Proved(how) => how.clone(),
            Ending::Lapses { until_ms, why } => format!("counts until its own end at {} ({why})", time(until_ms)),
            Ending::Left { until_ms: Some(until_ms), why } => {
                format!("not shown to be gone: {why}. It is over by itself at {}", time(until_ms))
            }
            Ending::Left { until_ms: None, why } => format!("not shown to be gone: {why}"),
        }
    }
}

impl Withdrawal {
    /// Each thing and how it ended.
    pub fn endings(&self) -> impl Iterator<Item = (&'static str, &Ending)> {
        let all = [("rule of sudo", &self.sudo), ("certificate", &self.certificate), ("account", &self.account)];
        all.into_iter().filter_map(|(what, ending)| Some((what, ending.as_ref()?)))
    }

    /// What may still be there, for people; `None` when nothing is.
    pub fn left(&self) -> Option<String> {
        let left = |(what, ending): (&str, &Ending)| {
            matches!(ending, Ending::Left { .. }).then(|| format!("the {what}: {}", ending.text()))
        };
        let said: Vec<String> = self.endings().filter_map(left).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// What still counts for a while with the plan's consent, for people.
    pub fn lapses(&self) -> Option<String> {
        let lapses = |(what, ending): (&str, &Ending)| {
            matches!(ending, Ending::Lapses { .. }).then(|| format!("the {what} {}", ending.text()))
        };
        let said: Vec<String> = self.endings().filter_map(lapses).collect();
        (!said.is_empty()).then(|| said.join("; "))
    }
}

/// Bytes of one command of a rule of sudo: all of the file goes on record.
const COMMAND_BYTES_MAX: usize = 300;

/// Bytes of one principal. Longer ones are no names.
const PRINCIPAL_BYTES_MAX: usize = 100;

/// Names of accounts as useradd takes them; nothing in them means something in sudoers or to a shell.
pub fn is_account(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 32
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

/// No blank, no comma, no pattern: names are lists and patterns to some who read them.
pub fn is_principal(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.@:/+".contains(c);
    !name.is_empty() && name.len() <= PRINCIPAL_BYTES_MAX && name.chars().all(plain)
}

/// An address, or an address and the bits of its network.
pub fn is_network(text: &str) -> bool {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| {
        !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) && bits.parse::<u8>().is_ok_and(|n| n <= most)
    })
}

/// What a sudoers file takes as a command and nothing else: no list, no negation, no alias, no comment. sudo itself checks
/// the whole file before it counts.
///
/// # Errors
/// For people: what is wrong.
pub fn check_command(command: &str) -> Result<(), &'static str> {
    if command == "ALL" {
        return Ok(());
    }
    if !command.starts_with('/') || command.ends_with(' ') {
        return Err("it is neither `ALL` nor an absolute path");
    }
    if command.len() > COMMAND_BYTES_MAX {
        return Err("it is too long");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || " /._-+@%*?[]{}~,:=".contains(c);
    if !command.chars().all(plain) {
        return Err("it has characters that mean something else in sudoers");
    }
    Ok(())
}

/// The file in which a run's rule of sudo is. Names with a dot or a tilde are not read by sudo.
pub fn rule_path(run: &RunId) -> String {
    format!("/etc/sudoers.d/runbook-{run}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_apart_from_what_lapses() {
        let mut end = Withdrawal {
            sudo: Some(Ending::Proved("the file is gone".into())),
            certificate: Some(Ending::Lapses { until_ms: 0, why: "no RevokedKeys".into() }),
            ..Withdrawal::default()
        };
        assert_eq!(end.left(), None);
        assert_eq!(
            end.lapses().as_deref(),
            Some("the certificate counts until its own end at 1970-01-01T00:00:00Z (no RevokedKeys)")
        );
        end.sudo = Some(Ending::Left { until_ms: None, why: "the folder is immutable".into() });
        assert_eq!(end.left().as_deref(), Some("the rule of sudo: not shown to be gone: the folder is immutable"));
    }

    #[test]
    fn the_worse_end_counts() {
        let proved = || Ending::Proved("gone".into());
        let left = || Ending::Left { until_ms: None, why: "there".into() };
        assert_eq!(proved().and(left()), left());
        assert_eq!(left().and(proved()), left());
        assert_eq!(proved().and(proved()), proved());
    }

    #[test]
    fn commands_that_would_be_syntax_are_refused() {
        for good in ["ALL", "/usr/bin/systemctl restart smbd", "/usr/bin/apt-get -o Dpkg::Options=x install *"] {
            assert_eq!(check_command(good), Ok(()), "{good}");
        }
        for bad in
            ["", "reboot", "!/bin/sh", "/bin/a\n%wheel ALL=ALL", "/bin/a #", "/bin/a \\", "/bin/a\"", "NOPASSWD: ALL"]
        {
            assert!(check_command(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn networks_are_told_from_what_is_none() {
        for good in ["10.0.0.5", "10.0.0.0/8", "2001:db8::/64", "::1"] {
            assert!(is_network(good), "{good}");
        }
        for bad in ["", "10.0.0.0/33", "10.0.0/8", "host", "10.0.0.1/", "!10.0.0.1", "10.0.0.*"] {
            assert!(!is_network(bad), "{bad}");
        }
    }

    #[test]
    fn accounts_mean_nothing_in_sudoers() {
        for good in ["maint", "_apt", "svc-1.x"] {
            assert!(is_account(good), "{good}");
        }
        for bad in ["", "%wheel", "#0", "+netgroup", "a b", "1st", "a,b"] {
            assert!(!is_account(bad), "{bad}");
        }
    }
}
