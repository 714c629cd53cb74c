//! `access:` of a runbook.

use std::net::IpAddr;

use runbook_model::access::{Revoke, VALID_FOR_MS};

use super::fields::{Fields, Problems};
use super::scalar;
use crate::codes::Code;
use crate::runbook::{Access, AccountAccess, CertificateAccess, SudoAccess};
use crate::source::Text;
use crate::yaml::{Content, Node, shown};

pub(crate) const ACCESS_KEYS: &[&str] = &["certificate", "sudo", "account"];
pub(crate) const CERTIFICATE_KEYS: &[&str] = &["principals", "source_address", "valid_for", "revoke"];
pub(crate) const SUDO_KEYS: &[&str] = &["as", "commands"];
pub(crate) const ACCOUNT_KEYS: &[&str] = &["name", "window"];
pub(crate) const REVOKE: &[(&str, Revoke)] = &[("required", Revoke::Required), ("when-possible", Revoke::WhenPossible)];

/// Principals of one certificate: OpenSSH takes 256, people need a few.
const PRINCIPALS_MAX: usize = 20;
/// Addresses from which a certificate counts.
const ADDRESSES_MAX: usize = 20;
/// Commands of a rule of sudo: all of the file goes on record.
const COMMANDS_MAX: usize = 50;
/// Bytes of one of them.
const COMMAND_BYTES_MAX: usize = 300;
/// A certificate for longer is no certificate for a run.
const VALID_FOR_MAX_MS: u64 = 7 * 86_400_000;
/// One for less is over before a host is through.
const VALID_FOR_MIN_MS: u64 = 60_000;

/// `access`.
pub(crate) fn access(node: &Node, problems: &mut Problems) -> Option<Access> {
    let fields = Fields::of(node, "`access`", ACCESS_KEYS, &[], problems)?;
    let before = problems.list.len();
    let certificate = fields.get("certificate", problems).map(|node| certificate(node, problems));
    let sudo = fields.get("sudo", problems).map(|node| sudo(node, problems));
    let account = fields.get("account", problems).and_then(|node| account(node, problems));
    if certificate.is_none() && sudo.is_none() && account.is_none() && problems.list.len() == before {
        problems.error(Code::MissingKey, &node.span, "`access` gives no access").help =
            Some("add `certificate`, `sudo` or `account`, or leave `access` out".into());
    }
    Some(Access { certificate, sudo, account, span: node.span.clone() })
}

fn certificate(node: &Node, problems: &mut Problems) -> CertificateAccess {
    let mut certificate = CertificateAccess {
        principals: Vec::new(),
        source_address: Vec::new(),
        valid_for_ms: VALID_FOR_MS,
        revoke: Revoke::Required,
    };
    let Some(fields) = Fields::of(node, "`certificate`", CERTIFICATE_KEYS, &[], problems) else { return certificate };
    if let Some(node) = fields.get("principals", problems) {
        certificate.principals = list(node, "principals", "[\"maint@{{host.name}}\"]", PRINCIPALS_MAX, problems);
    }
    if let Some(node) = fields.get("source_address", problems) {
        certificate.source_address = list(node, "source_address", "[10.0.0.5/32]", ADDRESSES_MAX, problems)
            .into_iter()
            .filter(|text| {
                let good = is_network(&text.value);
                if !good {
                    let message = format!("`{}` is no address or network", shown(&text.value));
                    problems.error(Code::InvalidValue, &text.span, message).help =
                        Some("write it as 10.0.0.5/32 or 2001:db8::/64".into());
                }
                good
            })
            .collect();
    }
    if let Some(node) = fields.get("valid_for", problems)
        && let Some(ms) = scalar::positive_ms(node, "valid_for", problems)
    {
        if !(VALID_FOR_MIN_MS..=VALID_FOR_MAX_MS).contains(&ms) {
            problems.error(Code::InvalidValue, &node.span, "`valid_for` must be between 1m and 7d").help = Some(
                "it is what a certificate is good for when nobody can revoke it: as long as a host takes, and some"
                    .into(),
            );
        }
        certificate.valid_for_ms = ms;
    }
    if let Some(node) = fields.get("revoke", problems) {
        certificate.revoke = scalar::word(node, "revoke", REVOKE, problems).unwrap_or_default();
    }
    certificate
}

fn list(node: &Node, key: &str, example: &str, most: usize, problems: &mut Problems) -> Vec<Text> {
    let texts = scalar::text_list(node, key, &format!("{key}: {example}"), problems);
    match &node.content {
        Content::List(items) if items.is_empty() => {
            problems.error(Code::InvalidValue, &node.span, format!("`{key}` is empty")).help =
                Some("leave it out".into());
        }
        _ if texts.len() > most => {
            problems.error(Code::InvalidValue, &node.span, format!("`{key}` has more than {most}"));
        }
        _ => {}
    }
    texts
}

fn is_network(text: &str) -> bool {
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

fn sudo(node: &Node, problems: &mut Problems) -> SudoAccess {
    let mut sudo = SudoAccess { run_as: "root".into(), commands: vec!["ALL".into()] };
    let Some(fields) = Fields::of(node, "`sudo`", SUDO_KEYS, &[], problems) else { return sudo };
    if let Some(text) = fields.get("as", problems).and_then(|node| scalar::literal(node, "as", problems))
        && let Some(name) = scalar::name(text, "an account", is_account, ACCOUNT_RULE, problems)
    {
        sudo.run_as = name.value;
    }
    if let Some(node) = fields.get("commands", problems) {
        let commands = list(node, "commands", "[ALL]", COMMANDS_MAX, problems);
        for command in &commands {
            if let Err(why) = check_command(&command.value) {
                let message = format!("`{}` cannot be a command of a rule of sudo: {why}", shown(&command.value));
                problems.error(Code::InvalidValue, &command.span, message).help =
                    Some("write `ALL`, or an absolute path with or without arguments, as in sudoers".into());
            }
        }
        sudo.commands = commands.into_iter().map(|command| command.value).collect();
    }
    sudo
}

/// Names of accounts as useradd takes them; nothing in them means something in sudoers.
pub(crate) fn is_account(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= 32
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
}

const ACCOUNT_RULE: &str = "letters, digits, `_`, `-` and `.`, beginning with a letter or `_`, at most 32";

/// What a sudoers file takes as a command and nothing else: no list, no negation, no alias, no comment, no pattern of its
/// own kinds. sudo itself checks the whole file before it counts.
fn check_command(command: &str) -> Result<(), &'static str> {
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

fn account(node: &Node, problems: &mut Problems) -> Option<AccountAccess> {
    let fields = Fields::of(node, "`account`", ACCOUNT_KEYS, &[], problems)?;
    let mut name = |key: &str, rule: fn(&str) -> bool, rules: &str, example: &str| {
        let node = fields.require(key, "`account`", example, problems)?;
        let text = scalar::literal(node, key, problems)?;
        scalar::name(text, key, rule, rules, problems)
    };
    let account = name("name", is_account, ACCOUNT_RULE, "acme");
    let rules = "small letters, digits and `-`, at most 63";
    let window = name("window", super::runbook::is_name, rules, "vendor-hours");
    Some(AccountAccess { name: account?, window: window? })
}

#[cfg(test)]
mod tests {
    use super::*;

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
