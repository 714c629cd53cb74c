//! Persons, their keys and their contracts.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::people::{Key, Member, People, Vendor};

use super::fields::{Fields, Problems, entries, items};
use super::{runbook, scalar, windows};
use crate::codes::Code;
use crate::similar;
use crate::source::{Span, Text};
use crate::yaml::{Content, Node, shown};

/// The `schema` of a file of people.
pub(crate) const SCHEMA: &str = "people/v1";

pub(crate) const KEYS: &[&str] = &["schema", "people"];
pub(crate) const MEMBER_KEYS: &[&str] = &["name", "roles", "keys", "accounts", "training", "vendor", "supervisor"];
pub(crate) const KEY_KEYS: &[&str] = &["key", "until", "revoked"];
pub(crate) const VENDOR_KEYS: &[&str] = &["company", "sow", "sow_until", "nda_until", "supervisor"];
/// The types of keys that this program can verify.
pub(crate) const KEY_TYPES: [&str; 4] =
    ["ssh-ed25519", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"];

pub(crate) const NAME_RULES: &str = "small letters, digits and `-`, at most 63";

/// What must not be there twice, and where it was first.
#[derive(Default)]
struct Seen {
    keys: BTreeMap<String, Span>,
    accounts: BTreeMap<String, Span>,
    /// Who is named as a supervisor.
    supervisors: Vec<Text>,
}

/// The people in `node`, as far as they could be read.
pub(crate) fn people(node: &Node, problems: &mut Problems) -> Option<People> {
    let fields = Fields::of(node, "a file of people", KEYS, &[], problems)?;
    runbook::schema(&fields, "a file of people", SCHEMA, problems);
    let mut seen = Seen::default();
    let mut people = People::default();
    let list = fields.require("people", "a file of people", "{jane: {name: Jane Doe}}", problems)?;
    let named: Vec<&str> = match &list.content {
        Content::Mapping(entries) => entries.iter().map(|entry| entry.key.as_str()).collect(),
        _ => Vec::new(),
    };
    for entry in entries(list, "people", "{jane: {name: Jane Doe}}", problems) {
        let id = scalar::name(entry.key.clone(), "a person's short name", runbook::is_name, NAME_RULES, problems);
        let member = member(&entry.value, &mut seen, problems);
        if let (Some(id), Some(member)) = (id, member) {
            people.people.insert(id.value, member);
        }
    }
    for name in &seen.supervisors {
        if !named.contains(&name.as_str()) {
            problems
                .error(
                    Code::UnknownMember,
                    &name.span,
                    format!("`supervisor`: nobody is called `{}`", shown(name.as_str())),
                )
                .help = similar::hint(name.as_str(), named.iter().copied(), "the people are");
        }
    }
    Some(people)
}

fn member(node: &Node, seen: &mut Seen, problems: &mut Problems) -> Option<Member> {
    let fields = Fields::of(node, "a person", MEMBER_KEYS, &[], problems)?;
    let name = fields
        .require("name", "a person", "Jane Doe", problems)
        .and_then(|node| scalar::filled(node, "name", problems));
    let roles = match fields.get("roles", problems) {
        Some(node) => names(node, "roles", "roles: [it-lead]", problems),
        None => BTreeSet::new(),
    };
    let mut accounts = BTreeSet::new();
    if let Some(node) = fields.get("accounts", problems) {
        for account in scalar::text_list(node, "accounts", "accounts: [jdoe]", problems) {
            once(&mut seen.accounts, &account, "login name", problems);
            accounts.insert(account.value);
        }
    }
    let mut keys = Vec::new();
    if let Some(node) = fields.get("keys", problems) {
        for item in items(node, "keys", "keys: [ssh-ed25519 AAAA…]", problems) {
            if let Some((text, key)) = key(item, problems) {
                once(&mut seen.keys, &Text::new(key.key.clone(), text.span), "key", problems);
                keys.push(key);
            }
        }
    }
    let mut training = BTreeMap::new();
    if let Some(node) = fields.get("training", problems) {
        for entry in entries(node, "training", "training: {maintenance: 2027-03-01}", problems) {
            let name =
                scalar::name(entry.key.clone(), "the name of a training", runbook::is_name, NAME_RULES, problems);
            let until = windows::date(&entry.value, "training", problems);
            if let (Some(name), Some(until)) = (name, until) {
                training.insert(name.value, until);
            }
        }
    }
    let vendor = fields.get("vendor", problems).and_then(|node| vendor(node, seen, problems));
    let supervisor = supervisor(&fields, seen, problems);
    Some(Member { name: name?.value, roles, keys, accounts, training, vendor, supervisor })
}

/// Two persons with the same one would be one person.
fn once(seen: &mut BTreeMap<String, Span>, what: &Text, kind: &str, problems: &mut Problems) {
    match seen.get(&what.value) {
        Some(first) => {
            let (line, _) = first.position();
            problems
                .error(Code::DuplicateKey, &what.span, format!("this {kind} is there already, in line {line}"))
                .help = Some(format!("each {kind} belongs to one person, and is written once"));
        }
        None => {
            seen.insert(what.value.clone(), what.span.clone());
        }
    }
}

pub(crate) fn names(node: &Node, key: &str, example: &str, problems: &mut Problems) -> BTreeSet<String> {
    let texts = scalar::text_list(node, key, example, problems);
    let named = texts
        .into_iter()
        .filter_map(|text| scalar::name(text, &format!("one of `{key}`"), runbook::is_name, NAME_RULES, problems));
    named.map(|text| text.value).collect()
}

fn key(node: &Node, problems: &mut Problems) -> Option<(Text, Key)> {
    let (line, until, revoked) = if let Content::Mapping(_) = &node.content {
        let fields = Fields::of(node, "a key", KEY_KEYS, &[], problems)?;
        let mut day = |key: &str| fields.get(key, problems).and_then(|node| windows::date(node, key, problems));
        let (until, revoked) = (day("until"), day("revoked"));
        let line = fields.require("key", "a key", "ssh-ed25519 AAAA…", problems)?;
        (scalar::literal(line, "key", problems)?, until, revoked)
    } else {
        (scalar::literal(node, "keys", problems)?, None, None)
    };
    let mut words = line.value.split_ascii_whitespace();
    let (kind, body) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    if !KEY_TYPES.contains(&kind) {
        problems
            .error(Code::InvalidValue, &line.span, format!("`{}` is no type of key that is known here", shown(kind)))
            .help = Some(format!("a key is a line of a .pub file whose type is one of {}", KEY_TYPES.join(", ")));
        return None;
    }
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    if body.len() < 60 || !body.bytes().all(base64) {
        problems.error(Code::InvalidValue, &line.span, "this is no public key of OpenSSH").help =
            Some("copy the whole line of the .pub file".into());
        return None;
    }
    let key = format!("{kind} {body}");
    Some((line, Key { key, until, revoked }))
}

fn vendor(node: &Node, seen: &mut Seen, problems: &mut Problems) -> Option<Vendor> {
    let fields = Fields::of(node, "a vendor", VENDOR_KEYS, &[], problems)?;
    let mut text = |key: &str, example: &str| {
        fields.require(key, "a vendor", example, problems).and_then(|node| scalar::filled(node, key, problems))
    };
    let (company, sow) = (text("company", "Acme"), text("sow", "SOW-2026-04"));
    let mut day = |key: &str| {
        fields.require(key, "a vendor", "2027-03-01", problems).and_then(|node| windows::date(node, key, problems))
    };
    let (sow_until, nda_until) = (day("sow_until"), day("nda_until"));
    fields.require("supervisor", "a vendor", "jane", problems);
    let supervisor = supervisor(&fields, seen, problems);
    Some(Vendor {
        company: company?.value,
        sow: sow?.value,
        sow_until: sow_until?,
        nda_until: nda_until?,
        supervisor: supervisor?,
    })
}

fn supervisor(fields: &Fields<'_>, seen: &mut Seen, problems: &mut Problems) -> Option<String> {
    let entry = fields.entry("supervisor").filter(|entry| !entry.value.is_null())?;
    let name = scalar::literal(&entry.value, "supervisor", problems)?;
    seen.supervisors.push(name.clone());
    Some(name.value)
}
