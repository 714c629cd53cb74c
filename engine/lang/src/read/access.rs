//! `access:` of a runbook.

use runbook_model::access::{Revoke, VALID_FOR_MS, check_command, is_account, is_network};

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

const ACCOUNT_RULE: &str = "letters, digits, `_`, `-` and `.`, beginning with a letter or `_`, at most 32";

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
