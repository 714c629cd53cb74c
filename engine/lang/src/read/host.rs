//! The keys of a host, which may also stand in `defaults` and in a group's `defaults`.
//!
//! Each key is kept by itself as a JSON value with its place (`labels` and `vars` entry by entry), so that own keys,
//! groups and defaults can be laid over each other, and a conflict can name both places.

use std::collections::BTreeMap;

use runbook_model::plan::SecretRef;
use serde_json::{Map, Value, json};

use super::fields::{Fields, Problems, entries};
use super::{parameter, scalar};
use crate::codes::Code;
use crate::inventory::Files;
use crate::similar;
use crate::source::{Spanned, Text};
use crate::yaml::{Content, Node, shown};

/// The keys of a host.
pub(crate) const KEYS: &[&str] = &[
    "address",
    "port",
    "transport",
    "os",
    "user",
    "jump",
    "identity",
    "certificate",
    "password",
    "auth",
    "tls",
    "instance",
    "region",
    "profile",
    "endpoint",
    "labels",
    "vars",
    "groups",
    "cui",
    "owner",
    "cui_owner",
    "risk",
    "as",
];
pub(crate) const TLS_KEYS: &[&str] = &["verify", "ca", "pin", "enabled"];
pub(crate) const AUTHS: &[(&str, &str)] = &[
    ("negotiate", "negotiate"),
    ("ntlm", "ntlm"),
    ("kerberos", "kerberos"),
    ("basic", "basic"),
    ("certificate", "certificate"),
    ("credssp", "credssp"),
];
/// The transports whose names are known; a plugin's may be any other.
pub(crate) const TRANSPORTS: &[&str] = &["ssh", "ssh-native", "winrm", "ssm", "local"];

/// Keys by name; `labels.x` and `vars.x` one by one.
pub(crate) type Keys = BTreeMap<String, Spanned<Value>>;

/// What a host, or `defaults`, says.
#[derive(Default)]
pub(crate) struct HostKeys {
    pub(crate) keys: Keys,
    pub(crate) groups: Vec<Text>,
}

/// Whether `name` can be a host's or a group's.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 253
        && name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

pub(crate) const NAME_RULES: &str = "letters, digits, `.`, `_` and `-`, at most 253";

/// Reads the mapping `node`, which is `what`; a host without any key may have no value.
pub(crate) fn host_keys(node: &Node, what: &str, files: &dyn Files, problems: &mut Problems) -> HostKeys {
    let mut host = HostKeys::default();
    if node.is_null() {
        return host;
    }
    let Some(fields) = Fields::of(node, what, KEYS, &[], problems) else { return host };
    for key in KEYS {
        let Some(value) = fields.get(key, problems) else { continue };
        match *key {
            "labels" => {
                for entry in entries(value, "labels", "labels: {site: hq}", problems) {
                    let name = scalar::name(entry.key.clone(), "a label", is_name, NAME_RULES, problems);
                    let text = scalar::text(&entry.value, &entry.key.value, problems);
                    if let (Some(name), Some(text)) = (name, text) {
                        host.keys.insert(format!("labels.{}", name.value), text.map(Value::String));
                    }
                }
            }
            "vars" => vars(value, &mut host.keys, problems),
            "groups" => host.groups = group_names(value, problems),
            key => {
                if let Some(found) = single(key, value, files, problems) {
                    host.keys.insert(key.to_owned(), Spanned::new(found, value.span.clone()));
                }
            }
        }
    }
    host
}

/// `vars`: any values, under names that a template can use.
pub(crate) fn vars(node: &Node, keys: &mut Keys, problems: &mut Problems) {
    for entry in entries(node, "vars", "vars: {backup_repo: /srv/backup}", problems) {
        let rules = "letters, digits and `_`, a letter or `_` first";
        let name =
            scalar::name(entry.key.clone(), "the name of a variable", crate::parameter::is_variable, rules, problems);
        let value = scalar::spanned_value(&entry.value, problems);
        if let (Some(name), Some(value)) = (name, value) {
            keys.insert(format!("vars.{}", name.value), value);
        }
    }
}

/// A list of group names.
pub(crate) fn group_names(node: &Node, problems: &mut Problems) -> Vec<Text> {
    scalar::text_list(node, "groups", "groups: [fileservers]", problems)
        .into_iter()
        .filter_map(|name| group_name(name, problems))
        .collect()
}

/// A name that a group can have.
pub(crate) fn group_name(name: Text, problems: &mut Problems) -> Option<Text> {
    if name.value == "all" {
        problems.error(Code::InvalidName, &name.span, "`all` means every host and cannot be a group of its own").help =
            Some("write what holds for every host into `defaults`".into());
        return None;
    }
    scalar::name(name, "the name of a group", is_name, NAME_RULES, problems)
}

/// The value of one key that is not a collection.
fn single(key: &str, node: &Node, files: &dyn Files, problems: &mut Problems) -> Option<Value> {
    match key {
        "port" => scalar::integer(node, key, 1, 65_535, problems).map(Value::from),
        "cui" => scalar::boolean(node, key, problems).map(Value::from),
        "auth" => scalar::word(node, key, AUTHS, problems).map(Value::from),
        "password" => password(node, problems),
        "tls" => tls(node, files, problems),
        "identity" | "certificate" => {
            let path = scalar::literal(node, key, problems)?;
            Some(json!(files.resolve(path.span.source().name(), &path.value)))
        }
        "address" | "user" | "jump" | "instance" | "region" | "profile" | "endpoint" | "as" => {
            word_for_program(&scalar::literal(node, key, problems)?, key, problems).map(Value::from)
        }
        "transport" => transport(node, problems),
        "os" => {
            let text = scalar::literal(node, key, problems)?;
            let rules = "small letters and digits, for example linux, freebsd or windows";
            scalar::name(text, "a kind of system", super::step::is_id, rules, problems).map(|text| json!(text.value))
        }
        _ => scalar::filled(node, key, problems).map(|text| json!(text.value)),
    }
}

/// A word that becomes an argument of a program: it can never be taken for an option.
fn word_for_program(text: &Text, key: &str, problems: &mut Problems) -> Option<String> {
    if text.value.starts_with('-') || text.value.chars().any(|c| c.is_whitespace() || c.is_control()) {
        problems.error(Code::InvalidValue, &text.span, format!("`{key}` cannot be `{}`", shown(&text.value))).help =
            Some("it has no spaces and does not begin with `-`".into());
        return None;
    }
    Some(text.value.clone())
}

fn transport(node: &Node, problems: &mut Problems) -> Option<Value> {
    let text = scalar::literal(node, "transport", problems)?;
    if !super::command::is_action_name(&text.value) {
        problems
            .error(Code::InvalidValue, &text.span, format!("`transport` cannot be `{}`", shown(&text.value)))
            .help = Some(format!("write one of {}, or the name of a plugin", TRANSPORTS.join(", ")));
        return None;
    }
    if !TRANSPORTS.contains(&text.value.as_str())
        && let Some(near) = similar::nearest(&text.value, TRANSPORTS.iter().copied())
    {
        let warning = crate::Diagnostic::warning(
            Code::InvalidValue,
            &text.span,
            format!("`{}` is no transport of the program itself", text.value),
        );
        problems.push(warning.help(format!("did you mean `{near}`? Otherwise a plugin of this name is needed")));
    }
    Some(json!(text.value))
}

fn password(node: &Node, problems: &mut Problems) -> Option<Value> {
    parameter::secret(node, problems).map(|reference| match reference.value {
        SecretRef::Env(name) => json!({"env": name}),
        SecretRef::File(path) => json!({"file": path}),
        SecretRef::Command(argv) => json!({"command": argv}),
    })
}

fn tls(node: &Node, files: &dyn Files, problems: &mut Problems) -> Option<Value> {
    let fields = Fields::of(node, "`tls`", TLS_KEYS, &[], problems)?;
    let mut tls = Map::new();
    for key in ["verify", "enabled"] {
        if let Some(value) = fields.get(key, problems).and_then(|node| scalar::boolean(node, key, problems)) {
            tls.insert(key.into(), value.into());
        }
    }
    if let Some(path) = fields.get("ca", problems).and_then(|node| scalar::literal(node, "ca", problems)) {
        tls.insert("ca".into(), json!(files.resolve(path.span.source().name(), &path.value)));
    }
    if let Some(pin) = fields.get("pin", problems).and_then(|node| scalar::literal(node, "pin", problems)) {
        let digits: String = pin.value.to_ascii_lowercase().chars().filter(|c| *c != ':').collect();
        match digits.parse::<runbook_model::Sha256>() {
            Ok(digest) => {
                tls.insert("pin".into(), json!(digest.to_string()));
            }
            Err(_) => {
                problems.error(Code::InvalidValue, &pin.span, "`pin` is not a SHA-256 fingerprint").help =
                    Some("write the 64 hexadecimal digits of the certificate's SHA-256".into());
            }
        }
    }
    if tls.get("enabled") == Some(&json!(false)) {
        for key in ["verify", "ca", "pin"] {
            if let Some(entry) = fields.entry(key) {
                problems
                    .error(Code::Conflict, &entry.key.span, format!("`{key}` means nothing with `enabled: false`"))
                    .help = Some("remove one of the two".into());
            }
        }
    }
    Some(Value::Object(tls))
}

/// A mapping node of texts, as a CSV row or an INI line gives it. `plain` values are read as YAML would.
pub(crate) fn mapping(span: &crate::source::Span, pairs: Vec<(Text, String, crate::source::Span, bool)>) -> Node {
    let entries = pairs
        .into_iter()
        .map(|(key, text, span, plain)| {
            crate::yaml::Entry::new(key, Node { span, content: Content::Scalar { text, plain } })
        })
        .collect();
    Node { span: span.clone(), content: Content::Mapping(entries) }
}
