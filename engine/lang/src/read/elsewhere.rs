//! `include` entries that are no files: a program, NetBox, ServiceNow. What they ask for, and what of an answer becomes which
//! key of a host.

use std::collections::BTreeSet;

use runbook_model::origin::{Login, Question};
use runbook_model::plan::SecretRef;

use super::fields::{Fields, Problems, entries, items};
use super::{host, parameter, scalar};
use crate::codes::Code;
use crate::inventory::Files;
use crate::source::{Span, Text};
use crate::yaml::{Content, Node, shown};

pub(crate) const NETBOX_KEYS: &[&str] = &["url", "token", "of", "filter", "fields", "ca", "within"];
pub(crate) const SERVICENOW_KEYS: &[&str] =
    &["url", "user", "password", "token", "table", "query", "fields", "ca", "within"];
const FORMATS: &[(&str, Format)] =
    &[("yaml", Format::Own), ("csv", Format::Csv), ("ansible", Format::Ansible), ("ansible-json", Format::AnsibleJson)];
pub(crate) const LISTS: &[(&str, &str)] =
    &[("devices", "dcim/devices"), ("virtual-machines", "virtualization/virtual-machines")];
/// What a record may become, beside `labels.X` and `vars.X`.
pub(crate) const MAPPED: &[&str] =
    &["name", "address", "port", "user", "os", "as", "groups", "owner", "cui_owner", "cui", "risk"];

/// What is to be done when somebody does not answer.
pub(crate) const NO_ANSWER: &str = "nothing was changed; mend the source and try again, or remove it from `include`: hosts of a source that fails are \
     never left out silently";

const WITHIN_MS: u64 = 60_000;
const WITHIN_MAX_MS: u64 = 600_000;

#[derive(Clone, Copy)]
enum Format {
    Own,
    Csv,
    Ansible,
    AnsibleJson,
}

/// How an answer is read.
pub(crate) enum Shape {
    Own,
    Csv,
    Ansible,
    AnsibleJson,
    Records(Wanted),
}

/// What of a record becomes which key.
pub(crate) struct Wanted {
    /// Of which system the records are.
    pub(crate) system: System,
    pub(crate) fields: Vec<Mapped>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum System {
    Netbox,
    ServiceNow,
}

/// A key and the field that it is taken from.
pub(crate) struct Mapped {
    pub(crate) key: String,
    pub(crate) field: String,
    /// Where it was written; `None`: it is so unless said otherwise, and may be missing.
    pub(crate) span: Option<Span>,
}

/// Somebody who is asked.
pub(crate) struct Elsewhere {
    pub(crate) span: Span,
    pub(crate) shape: Shape,
    who: Who,
    within_ms: u64,
    /// As it is written.
    ca: Option<String>,
}

enum Who {
    Command(Vec<String>),
    Netbox { url: String, token: SecretRef, list: &'static str, filter: Vec<(String, String)> },
    ServiceNow { url: String, login: Login, table: String, query: String },
}

impl Elsewhere {
    /// What is asked, of an entry in the file `from`.
    pub(crate) fn question(&self, from: &str, files: &dyn Files) -> Question {
        let ca = self.ca.as_ref().map(|path| files.resolve(from, path));
        let within_ms = self.within_ms;
        match &self.who {
            Who::Command(argv) => Question::Command { argv: argv.clone(), folder: files.resolve(from, "."), within_ms },
            Who::Netbox { url, token, list, filter } => Question::Netbox {
                url: url.clone(),
                token: token.clone(),
                list: (*list).to_owned(),
                filter: filter.clone(),
                ca,
                within_ms,
            },
            Who::ServiceNow { url, login, table, query } => {
                let mut fields: Vec<String> = match &self.shape {
                    Shape::Records(wanted) => wanted.fields.iter().map(|mapped| mapped.field.clone()).collect(),
                    _ => Vec::new(),
                };
                fields.push("sys_id".into());
                fields.sort();
                fields.dedup();
                let (url, login, table) = (url.clone(), login.clone(), table.clone());
                Question::Servicenow { url, login, table, query: query.clone(), fields, ca, within_ms }
            }
        }
    }

    /// What the places of its hosts are named after: beside the file that asks, and no other's name.
    pub(crate) fn name(&self, from: &str, question: &Question, files: &dyn Files, taken: &BTreeSet<&str>) -> String {
        let what = match &self.who {
            Who::Command(argv) => argv.first().map_or("", |program| program.rsplit('/').next().unwrap_or(program)),
            Who::Netbox { url, .. } | Who::ServiceNow { url, .. } => {
                let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
                rest.split('/').next().unwrap_or(rest)
            }
        };
        let what: String = what.chars().filter(|c| !c.is_control()).take(80).collect();
        let name = |no: usize| {
            let no = if no == 1 { String::new() } else { format!(" {no}") };
            files.resolve(from, &format!("({} {what}{no})", question.kind()))
        };
        (1..).map(name).find(|name| !taken.contains(name.as_str())).expect("numbers do not end")
    }
}

/// Those whom an entry asks; more than one is for the caller to refuse.
pub(crate) fn all(fields: &Fields<'_>, problems: &mut Problems) -> Vec<Elsewhere> {
    let mut found = Vec::new();
    if let Some(node) = fields.get("command", problems) {
        found.extend(command(node, fields, problems));
    } else {
        fields.refuse(&["format", "within"], "without `command`", problems);
    }
    found.extend(fields.get("netbox", problems).and_then(|node| netbox(node, problems)));
    found.extend(fields.get("servicenow", problems).and_then(|node| servicenow(node, problems)));
    found
}

fn within(fields: &Fields<'_>, problems: &mut Problems) -> Option<u64> {
    let Some(node) = fields.get("within", problems) else { return Some(WITHIN_MS) };
    let ms = scalar::positive_ms(node, "within", problems)?;
    if ms > WITHIN_MAX_MS {
        problems.error(Code::InvalidValue, &node.span, "`within` is longer than 10m").help =
            Some("a command waits for its inventory; write what keeps it in a file that is included".into());
        return None;
    }
    Some(ms)
}

fn command(node: &Node, fields: &Fields<'_>, problems: &mut Problems) -> Option<Elsewhere> {
    let example = "command: [./hosts.py, --list]";
    let argv: Option<Vec<String>> = items(node, "command", example, problems)
        .iter()
        .map(|item| scalar::literal(item, "command", problems).map(|text| text.value))
        .collect();
    let format = fields.require("format", "a command", "ansible-json", problems);
    let format = format.and_then(|node| scalar::word(node, "format", FORMATS, problems));
    let within_ms = within(fields, problems);
    let argv = argv?;
    if argv.is_empty() {
        if matches!(&node.content, Content::List(_)) {
            problems.error(Code::InvalidValue, &node.span, "`command` is empty").help =
                Some(format!("write for example `{example}`"));
        }
        return None;
    }
    let shape = match format? {
        Format::Own => Shape::Own,
        Format::Csv => Shape::Csv,
        Format::Ansible => Shape::Ansible,
        Format::AnsibleJson => Shape::AnsibleJson,
    };
    Some(Elsewhere { span: node.span.clone(), shape, who: Who::Command(argv), within_ms: within_ms?, ca: None })
}

/// Where it is. In TLS, but on this machine.
fn url(fields: &Fields<'_>, what: &str, example: &str, problems: &mut Problems) -> Option<String> {
    let node = fields.require("url", what, example, problems)?;
    let text = scalar::literal(node, "url", problems)?;
    let url = text.value.trim_end_matches('/').to_owned();
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let authority = rest.map(|rest| rest.split('/').next().unwrap_or(rest));
    let wrong = match authority {
        None | Some("") => Some("it begins with https://"),
        Some(authority) if authority.contains('@') => Some("user and password do not stand in it"),
        Some(_) if url.contains(['?', '#', ' ']) => Some("it ends before `?` and `#`"),
        Some(authority) if url.starts_with("http://") && !is_here(authority) => {
            Some("without TLS everybody on the way reads the password; write https://")
        }
        Some(_) => None,
    };
    if let Some(why) = wrong {
        // It may hold what nobody should see: it is not repeated.
        problems.error(Code::InvalidValue, &text.span, "`url` cannot be used").help =
            Some(format!("{why}: for example `url: {example}`"));
        return None;
    }
    Some(url)
}

/// Whether host and port are on this machine.
fn is_here(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => authority.split(':').next().unwrap_or(authority),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn ca(fields: &Fields<'_>, problems: &mut Problems) -> Option<String> {
    fields.get("ca", problems).and_then(|node| scalar::literal(node, "ca", problems)).map(|text| text.value)
}

fn secret(fields: &Fields<'_>, key: &str, problems: &mut Problems) -> Option<SecretRef> {
    fields.get(key, problems).and_then(|node| parameter::secret(node, problems)).map(|secret| secret.value)
}

/// `fields`: keys of a host and where they come from, laid over those that hold unless said otherwise.
fn mapping(fields: &Fields<'_>, usual: &[(&str, &str)], problems: &mut Problems) -> Vec<Mapped> {
    let mut mapped: Vec<Mapped> = Vec::new();
    if let Some(node) = fields.get("fields", problems) {
        for entry in entries(node, "fields", "fields: {owner: owned_by}", problems) {
            let key = entry.key.value.as_str();
            let inner = |prefix: &str| key.strip_prefix(prefix);
            let known = MAPPED.contains(&key)
                || inner("labels.").is_some_and(host::is_name)
                || inner("vars.").is_some_and(crate::parameter::is_variable);
            if !known {
                problems
                    .error(Code::UnknownKey, &entry.key.span, format!("no record becomes a host's `{}`", shown(key)))
                    .help =
                    crate::similar::hint(key, MAPPED.iter().copied(), "the keys are labels.NAME, vars.NAME and");
                continue;
            }
            if let Some(field) = scalar::literal(&entry.value, key, problems) {
                let (key, span) = (key.to_owned(), Some(field.span));
                mapped.push(Mapped { key, field: field.value, span });
            }
        }
    }
    for (key, field) in usual {
        if !mapped.iter().any(|mapped| mapped.key == *key) {
            mapped.push(Mapped { key: (*key).to_owned(), field: (*field).to_owned(), span: None });
        }
    }
    mapped
}

/// What NetBox's records become unless said otherwise.
const NETBOX: &[(&str, &str)] = &[
    ("name", "name"),
    ("address", "primary_ip4.address"),
    ("groups", "tags"),
    ("labels.role", "role"),
    ("labels.site", "site"),
    ("labels.status", "status"),
    ("labels.platform", "platform"),
    ("labels.tenant", "tenant"),
    ("owner", "custom_fields.owner"),
    ("cui_owner", "custom_fields.cui_owner"),
    ("cui", "custom_fields.cui"),
    ("risk", "custom_fields.risk"),
];

fn netbox(node: &Node, problems: &mut Problems) -> Option<Elsewhere> {
    let fields = Fields::of(node, "`netbox`", NETBOX_KEYS, &[], problems)?;
    let url = url(&fields, "`netbox`", "https://netbox.example.com", problems);
    fields.require("token", "`netbox`", "{env: NETBOX_TOKEN}", problems);
    let token = if fields.entry("token").is_some() { secret(&fields, "token", problems) } else { None };
    let list = match fields.get("of", problems) {
        Some(node) => scalar::word(node, "of", LISTS, problems),
        None => Some(LISTS[0].1),
    };
    let mut filter = Vec::new();
    if let Some(node) = fields.get("filter", problems) {
        for entry in entries(node, "filter", "filter: {site: hq, role: server}", problems) {
            let name = scalar::name(
                entry.key.clone(),
                "a filter",
                |name| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'),
                "letters, digits and `_`",
                problems,
            );
            let Some(name) = name else { continue };
            if matches!(name.value.as_str(), "limit" | "offset" | "fields" | "exclude" | "brief" | "format") {
                problems.error(Code::NotHere, &name.span, format!("`{}` is no filter", name.value)).help =
                    Some("remove it: all pages are read, and the fields that are needed".into());
                continue;
            }
            for value in scalar::texts(&entry.value, &name.value, problems) {
                filter.push((name.value.clone(), value.value));
            }
        }
    }
    // What is planned, decommissioned or in a box is not worked on unless somebody says so.
    if !filter.iter().any(|(name, _)| name.starts_with("status")) {
        filter.push(("status".into(), "active".into()));
    }
    let wanted = Wanted { system: System::Netbox, fields: mapping(&fields, NETBOX, problems) };
    let (ca, within_ms) = (ca(&fields, problems), within(&fields, problems));
    let who = Who::Netbox { url: url?, token: token?, list: list?, filter };
    Some(Elsewhere { span: node.span.clone(), shape: Shape::Records(wanted), who, within_ms: within_ms?, ca })
}

fn is_table(name: &str) -> bool {
    name.len() <= 80 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.bytes().all(is_table_byte)
}

fn is_table_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'
}

fn servicenow(node: &Node, problems: &mut Problems) -> Option<Elsewhere> {
    let fields = Fields::of(node, "`servicenow`", SERVICENOW_KEYS, &[], problems)?;
    let url = url(&fields, "`servicenow`", "https://example.service-now.com", problems);
    let (has_user, has_token) = (fields.entry("user").is_some(), fields.entry("token").is_some());
    let login = if has_token {
        fields.refuse(&["user", "password"], "with `token`", problems);
        secret(&fields, "token", problems).map(Login::Token)
    } else if has_user {
        let user = fields.get("user", problems).and_then(|node| scalar::literal(node, "user", problems));
        fields.require("password", "`user`", "{env: SERVICENOW_PASSWORD}", problems);
        let password = if fields.entry("password").is_some() { secret(&fields, "password", problems) } else { None };
        user.zip(password).map(|(user, password)| Login::Password { user: user.value, password })
    } else {
        fields.require("token", "`servicenow`", "{env: SERVICENOW_TOKEN}` (or `user` and `password`)", problems);
        None
    };
    let table = match fields.get("table", problems) {
        Some(node) => {
            let rules = "small letters, digits and `_`";
            let text = scalar::literal(node, "table", problems);
            text.and_then(|text| scalar::name(text, "a table", is_table, rules, problems)).map(|text: Text| text.value)
        }
        None => Some("cmdb_ci_server".to_owned()),
    };
    let query = match fields.get("query", problems) {
        Some(node) => scalar::literal(node, "query", problems).map(|text| text.value),
        None => Some(String::new()),
    };
    let usual = &[("name", "name"), ("address", "ip_address")];
    let mapped = mapping(&fields, usual, problems);
    for one in &mapped {
        let good = one.field.split('.').all(|part| !part.is_empty() && part.bytes().all(is_table_byte));
        if let (false, Some(span)) = (good, &one.span) {
            problems.error(Code::InvalidName, span, format!("`{}` is no field of a table", shown(&one.field))).help =
                Some("small letters, digits and `_`; `.` leads through a reference: owned_by.user_name".into());
        }
    }
    let wanted = Wanted { system: System::ServiceNow, fields: mapped };
    let (ca, within_ms) = (ca(&fields, problems), within(&fields, problems));
    let who = Who::ServiceNow { url: url?, login: login?, table: table?, query: query? };
    Some(Elsewhere { span: node.span.clone(), shape: Shape::Records(wanted), who, within_ms: within_ms?, ca })
}
