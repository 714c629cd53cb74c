//! Inventories in Ansible's INI and YAML forms: hosts, groups, children and variables.
//!
//! What is taken: `ansible_host`, `ansible_port`, `ansible_user`, `ansible_ssh_private_key_file`, `ansible_connection`
//! and `ansible_become_user` become keys of the host; every other variable that is not Ansible's own becomes one of
//! `vars`. Passwords are never taken (with a warning): keys, certificates and agents log in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::fields::Problems;
use super::host::{self, HostKeys, Keys, host_keys, mapping};
use super::inventory::{Draft, DraftHost, HOSTS_MAX, host_name};
use super::{records, scalar};
use crate::codes::Code;
use crate::diagnostic::Diagnostic;
use crate::inventory::Files;
use crate::source::{Source, Span, Spanned, Text};
use crate::yaml::{self, Content, Node, shown};

pub(crate) fn read(
    source: &Arc<Source>,
    layers: &[usize],
    files: &dyn Files,
    draft: &mut Draft,
    problems: &mut Problems,
) {
    let mut reader = Reader { source, files, draft, layers: layers.to_vec(), named: 0 };
    if reader.looks_like_yaml() {
        reader.yaml(problems);
    } else {
        reader.ini(problems);
    }
}

/// What a dynamic inventory prints with `--list`: groups by name, and `_meta.hostvars`.
pub(crate) fn read_json(
    source: &Arc<Source>,
    layers: &[usize],
    files: &dyn Files,
    draft: &mut Draft,
    problems: &mut Problems,
) {
    Reader { source, files, draft, layers: layers.to_vec(), named: 0 }.json(problems);
}

/// A group as a dynamic inventory prints it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Printed {
    /// The old form.
    Hosts(Vec<String>),
    Group {
        #[serde(default)]
        hosts: Vec<String>,
        #[serde(default)]
        children: Vec<String>,
        #[serde(default)]
        vars: serde_json::Map<String, Value>,
    },
}

#[derive(serde::Deserialize)]
struct Meta<'a> {
    #[serde(borrow)]
    hostvars: BTreeMap<String, &'a RawValue>,
}

struct Reader<'a> {
    source: &'a Arc<Source>,
    files: &'a dyn Files,
    draft: &'a mut Draft,
    layers: Vec<usize>,
    /// Hosts that ranges gave so far, the same ones again included: bounds the time.
    named: usize,
}

/// Variables of Ansible that have a key here.
const KNOWN: &[(&str, &str)] = &[
    ("ansible_host", "address"),
    ("ansible_ssh_host", "address"),
    ("ansible_port", "port"),
    ("ansible_ssh_port", "port"),
    ("ansible_user", "user"),
    ("ansible_ssh_user", "user"),
    ("ansible_ssh_private_key_file", "identity"),
    ("ansible_private_key_file", "identity"),
    ("ansible_connection", "transport"),
    ("ansible_become_user", "as"),
];
/// Variables that are keys of a host here under the same name.
const RESPONSIBLE: &[&str] = &["owner", "cui_owner", "cui", "risk"];
const PASSWORDS: &[&str] =
    &["ansible_password", "ansible_ssh_pass", "ansible_become_password", "ansible_become_pass", "ansible_sudo_pass"];

/// A variable with its value, read as YAML would when `plain`.
struct Variable {
    name: Text,
    value: Node,
}

impl Reader<'_> {
    fn looks_like_yaml(&self) -> bool {
        let name = self.source.name();
        if [".yml", ".yaml", ".json"].iter().any(|end| name.ends_with(end)) {
            return true;
        }
        if [".ini", ".cfg"].iter().any(|end| name.ends_with(end)) {
            return false;
        }
        let first =
            self.source.text().lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with(['#', ';']));
        first.is_some_and(|line| line == "---" || (line.ends_with(':') && !line.contains([' ', '='])))
    }

    /// Splits variables into keys of a host and `vars`.
    fn keys(&mut self, variables: Vec<Variable>, problems: &mut Problems) -> HostKeys {
        let mut pairs = Vec::new();
        let mut vars = Keys::new();
        for Variable { name, value } in variables {
            if let Some((_, key)) = KNOWN.iter().find(|(known, _)| *known == name.value) {
                let Some(text) = scalar::text(&value, &name.value, problems) else { continue };
                if text.value.contains("{{") {
                    problems
                        .error(
                            Code::ForeignInventory,
                            &text.span,
                            format!("`{}` holds a template of Ansible", name.value),
                        )
                        .help = Some("write the value itself".into());
                    continue;
                }
                let word = if *key == "transport" { connection(&text, problems) } else { Some(text.value.clone()) };
                if let Some(word) = word {
                    pairs.push((Text::new((*key).to_owned(), name.span), word, text.span, *key == "port"));
                }
            } else if PASSWORDS.contains(&name.value.as_str()) {
                self.draft.secretive.insert(self.source.name().to_owned());
                let warning = Diagnostic::warning(
                    Code::ForeignInventory,
                    &name.span,
                    format!("`{}` is not taken over: passwords never come from an inventory", name.value),
                );
                problems.push(warning.help("log in by key, certificate or agent; `sudo -n` needs no password either"));
            } else if matches!(name.value.as_str(), "ansible_ssh_common_args" | "ansible_ssh_extra_args") {
                let warning = Diagnostic::warning(
                    Code::ForeignInventory,
                    &name.span,
                    format!("`{}` is not taken over", name.value),
                );
                problems.push(warning.help("say it in your ssh_config, or use `jump` for a jump host"));
            } else if !name.value.starts_with("ansible_") {
                if !crate::parameter::is_variable(&name.value) {
                    problems
                        .error(
                            Code::InvalidName,
                            &name.span,
                            format!("`{}` cannot be the name of a variable", shown(&name.value)),
                        )
                        .help = Some("use letters, digits and `_`, a letter or `_` first".into());
                    continue;
                }
                // Who answers for a host, and what is on it: a key here, and a variable as it was.
                if let (Content::Scalar { text, .. }, true) =
                    (&value.content, RESPONSIBLE.contains(&name.value.as_str()))
                    && !text.trim().is_empty()
                {
                    if text.contains("{{") {
                        let what = format!("`{}` holds a template of Ansible", name.value);
                        problems.error(Code::ForeignInventory, &value.span, what).help =
                            Some("write the value itself".into());
                        continue;
                    }
                    let flag = name.value == "cui";
                    let word = match text.trim().to_ascii_lowercase().as_str() {
                        "yes" | "y" | "1" | "true" | "on" if flag => "true".to_owned(),
                        "no" | "n" | "0" | "false" | "off" if flag => "false".to_owned(),
                        _ => text.trim().to_owned(),
                    };
                    pairs.push((name.clone(), word, value.span.clone(), flag));
                }
                if let Some(value) = foreign_value(&value, self.looks_like_yaml(), problems) {
                    vars.insert(format!("vars.{}", name.value), value);
                }
            }
        }
        let span = pairs.first().map_or_else(|| Span::start_of(self.source), |(key, ..)| key.span.clone());
        let mut keys = host_keys(&mapping(&span, pairs), "a host", self.files, problems);
        keys.keys.extend(vars);
        keys
    }

    fn add_host(&mut self, name: Text, keys: HostKeys, group: Option<&Text>, problems: &mut Problems) {
        self.named += 1;
        if self.named > 4 * HOSTS_MAX {
            if self.named == 4 * HOSTS_MAX + 1 {
                problems.error(Code::TooComplex, &name.span, "the ranges of this file name too many hosts");
            }
            return;
        }
        let Some(name) = host_name(name, problems) else { return };
        let host = match self.draft.hosts.get_mut(&name.value) {
            // Ansible names a host again to put it into a further group; that must be this file's own.
            Some(host) if host.name.span.source().name() == self.source.name() => host,
            Some(_) => {
                let host = DraftHost { name, keys, defaults: self.layers.clone() };
                return self.draft.add_host(host, problems);
            }
            None => {
                let defaults = self.layers.clone();
                let key = name.value.clone();
                let host = DraftHost { name, keys: HostKeys::default(), defaults };
                self.draft.add_host(host, problems);
                match self.draft.hosts.get_mut(&key) {
                    Some(host) => host,
                    None => return,
                }
            }
        };
        host.keys.keys.extend(keys.keys);
        if let Some(group) = group
            && !host.keys.groups.contains(group)
        {
            host.keys.groups.push(group.clone());
        }
    }

    /// Variables of a group; those of `all` become defaults of this file's hosts.
    fn add_group_keys(&mut self, name: &Text, keys: Keys, problems: &mut Problems) {
        if name.value == "all" {
            self.draft.defaults.push(HostKeys { keys, groups: Vec::new() });
            let layer = self.draft.defaults.len() - 1;
            self.layers.insert(0, layer);
            // Hosts that were read before them have them too.
            let own = self.source.name().to_owned();
            for host in self.draft.hosts.values_mut().filter(|host| host.name.span.source().name() == own) {
                host.defaults.insert(0, layer);
            }
        } else {
            self.draft.add_group_keys(&name.value, &name.span, keys, problems);
        }
    }

    fn ini(&mut self, problems: &mut Problems) {
        let mut section: Option<(Text, Section)> = None;
        let text = self.source.text().to_owned();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let content = line.trim_end_matches(['\n', '\r']);
            let words = words(self.source, start, content);
            start += line.len();
            let Some(first) = words.first() else { continue };
            if first.value.starts_with('[') {
                section = self.section(&content_span(self.source, start - line.len(), content), problems);
                if section.is_none() {
                    // Nothing in an unreadable section is read.
                    section = Some((first.clone(), Section::Skip));
                }
                continue;
            }
            match &section {
                Some((_, Section::Skip)) => {}
                Some((group, Section::Children)) => {
                    let child = first.clone();
                    let group = group.clone();
                    if let Some(child) = host::group_name(child, problems) {
                        self.draft.group(&child.value, &child.span);
                        if group.value != "all" {
                            self.draft.group(&group.value, &group.span).groups.push(child);
                        }
                    }
                }
                Some((group, Section::Variables)) => {
                    let group = group.clone();
                    let whole = content_span(self.source, start - line.len(), content);
                    if let Some(variable) = self.variable(&whole, problems) {
                        let keys = self.keys(vec![variable], problems);
                        self.add_group_keys(&group, keys.keys, problems);
                    }
                }
                group => {
                    let group = group.as_ref().map(|(group, _)| group.clone());
                    let group = group.filter(|group| !matches!(group.value.as_str(), "all" | "ungrouped"));
                    let variables = words[1..].iter().filter_map(|word| self.variable(word, problems)).collect();
                    let mut keys = self.keys(variables, problems);
                    let names = if self.named > 4 * HOSTS_MAX { Vec::new() } else { expand(first, problems) };
                    for (name, port) in names {
                        if let Some(port) = port {
                            keys.keys.insert("port".into(), port);
                        }
                        let again = HostKeys { keys: keys.keys.clone(), groups: Vec::new() };
                        self.add_host(name, again, group.as_ref(), problems);
                    }
                }
            }
        }
    }

    /// `[group]`, `[group:children]`, `[group:vars]`.
    fn section(&mut self, line: &Text, problems: &mut Problems) -> Option<(Text, Section)> {
        let inner = line.value.trim().strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let Some((inner, _)) = inner else {
            problems.error(Code::ForeignInventory, &line.span, "the bracket of the section is not closed").help =
                Some("add `]`".into());
            return None;
        };
        let (name, kind) = inner.split_once(':').map_or((inner, ""), |(name, kind)| (name, kind));
        let at = line.value.find(name).unwrap_or(0);
        let name = Text::new(name.trim().to_owned(), line.within(at..at + name.len()));
        let kind = match kind.trim() {
            "" => Section::Hosts,
            "children" => Section::Children,
            "vars" => Section::Variables,
            other => {
                problems
                    .error(Code::ForeignInventory, &line.span, format!("a section of kind `{}`", shown(other)))
                    .help = Some("write [group], [group:children] or [group:vars]".into());
                return None;
            }
        };
        if matches!(name.value.as_str(), "all" | "ungrouped") {
            return Some((name, kind));
        }
        let name = host::group_name(name, problems)?;
        self.draft.group(&name.value, &name.span);
        Some((name, kind))
    }

    /// `name=value`.
    fn variable(&self, word: &Text, problems: &mut Problems) -> Option<Variable> {
        let Some((name, value)) = word.value.split_once('=') else {
            problems
                .error(Code::ForeignInventory, &word.span, format!("`{}` is not a variable", shown(&word.value)))
                .help = Some("write name=value without spaces".into());
            return None;
        };
        let (name, value) = (name.trim(), value.trim());
        let unquoted =
            ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote)).unwrap_or(value);
        Some(Variable {
            name: Text::new(name.to_owned(), word.within(0..name.len())),
            value: Node {
                span: word.span.clone(),
                content: Content::Scalar { text: unquoted.to_owned(), plain: unquoted == value },
            },
        })
    }

    fn json(&mut self, problems: &mut Problems) {
        let source = self.source;
        let start = Span::start_of(source);
        let groups: BTreeMap<String, &RawValue> = match serde_json::from_str(source.text()) {
            Ok(groups) => groups,
            Err(error) => return records::malformed(source, &error, "a dynamic inventory of Ansible", problems),
        };
        let hostvars = match groups.get("_meta").map(|meta| serde_json::from_str::<Meta<'_>>(meta.get())) {
            Some(Ok(meta)) => meta.hostvars,
            Some(Err(error)) => return records::malformed(source, &error, "`_meta` with `hostvars`", problems),
            None => {
                problems
                    .error(Code::UnusableAnswer, &start, "there is no `_meta`, so variables of hosts would be missing")
                    .help =
                    Some("let the program print `_meta: {hostvars: …}`, as `ansible-inventory --list` does".into());
                return;
            }
        };
        let mut named = BTreeSet::new();
        for (name, raw) in groups.iter().filter(|(name, _)| *name != "_meta") {
            let span = records::span(source, raw);
            let printed = match serde_json::from_str::<Printed>(raw.get()) {
                Ok(printed) => printed,
                Err(_) => {
                    problems.error(Code::UnusableAnswer, &span, format!("`{}` is no group", shown(name))).help =
                        Some("a group has `hosts`, `children` and `vars`".into());
                    continue;
                }
            };
            let (hosts, children, vars) = match printed {
                Printed::Hosts(hosts) => (hosts, Vec::new(), serde_json::Map::new()),
                Printed::Group { hosts, children, vars } => (hosts, children, vars),
            };
            let name = Text::new(name.clone(), span.clone());
            let real = !matches!(name.value.as_str(), "all" | "ungrouped");
            let group = if real { host::group_name(name.clone(), problems) } else { None };
            if real && group.is_none() {
                continue;
            }
            if let Some(group) = &group {
                self.draft.group(&group.value, &group.span);
            }
            for child in children.into_iter().filter(|child| child != "ungrouped") {
                let Some(child) = host::group_name(Text::new(child, span.clone()), problems) else { continue };
                self.draft.group(&child.value, &child.span);
                if let Some(group) = &group {
                    self.draft.group(&group.value, &group.span).groups.push(child);
                }
            }
            for host in hosts {
                let raw = hostvars.get(&host).copied();
                let at = raw.map_or_else(|| span.clone(), |raw| records::span(source, raw));
                let keys = match raw.filter(|_| named.insert(host.clone())) {
                    None => HostKeys::default(),
                    Some(raw) => match serde_json::from_str(raw.get()) {
                        Ok(vars) => self.keys(json_variables(vars, &at), problems),
                        Err(_) => {
                            let what = format!("the variables of `{}` are no mapping", shown(&host));
                            problems.error(Code::UnusableAnswer, &at, what);
                            continue;
                        }
                    },
                };
                self.add_host(Text::new(host, at), keys, group.as_ref(), problems);
            }
            if !vars.is_empty() {
                let keys = self.keys(json_variables(vars, &span), problems);
                self.add_group_keys(&name, keys.keys, problems);
            }
        }
        for (host, raw) in hostvars.iter().filter(|(host, _)| !self.draft.hosts.contains_key(*host)) {
            let text =
                format!("`{}` has variables and is in no group, so Ansible does not know it either", shown(host));
            let warning = Diagnostic::warning(Code::ForeignInventory, &records::span(source, raw), text);
            problems.push(warning.help("let the program put it into a group (`ungrouped` too)"));
        }
    }

    fn yaml(&mut self, problems: &mut Problems) {
        let Some(node) = yaml::tree(self.source, yaml::INVENTORY_NODES_MAX, &mut problems.list) else { return };
        for entry in super::fields::entries(&node, "the inventory", "all: {hosts: {web1: {}}}", problems) {
            self.yaml_group(&entry.key, &entry.value, None, problems);
        }
    }

    fn yaml_group(&mut self, name: &Text, node: &Node, parent: Option<&Text>, problems: &mut Problems) {
        let real = !matches!(name.value.as_str(), "all" | "ungrouped");
        let group = if real { host::group_name(name.clone(), problems) } else { None };
        if real && group.is_none() {
            return;
        }
        if let Some(group) = &group {
            self.draft.group(&group.value, &group.span);
            if let Some(parent) = parent {
                let parts = &mut self.draft.group(&parent.value, &parent.span).groups;
                if !parts.contains(group) {
                    parts.push(group.clone());
                }
            }
        }
        if node.is_null() {
            return;
        }
        const KEYS: &[&str] = &["hosts", "children", "vars"];
        let Some(fields) = super::fields::Fields::of(node, "a group of Ansible", KEYS, &[], problems) else { return };
        let variables = |node: &Node, problems: &mut Problems| -> Vec<Variable> {
            if node.is_null() {
                return Vec::new();
            }
            super::fields::entries(node, "vars", "vars: {site: hq}", problems)
                .iter()
                .map(|entry| Variable { name: entry.key.clone(), value: entry.value.clone() })
                .collect()
        };
        let there = |key: &str| fields.entry(key).map(|entry| &entry.value).filter(|node| !node.is_null());
        if let Some(node) = there("hosts") {
            for entry in super::fields::entries(node, "hosts", "hosts: {web1: {}}", problems) {
                let keys = self.keys(variables(&entry.value, problems), problems);
                let names = if self.named > 4 * HOSTS_MAX { Vec::new() } else { expand(&entry.key, problems) };
                for (host, port) in names {
                    let mut again = HostKeys { keys: keys.keys.clone(), groups: Vec::new() };
                    if let Some(port) = port {
                        again.keys.insert("port".into(), port);
                    }
                    self.add_host(host, again, group.as_ref(), problems);
                }
            }
        }
        if let Some(node) = there("vars") {
            let keys = self.keys(variables(node, problems), problems);
            if name.value == "ungrouped" {
                problems
                    .error(Code::ForeignInventory, &node.span, "variables of `ungrouped` are not taken over")
                    .help = Some("put the hosts into a group of their own".into());
            } else {
                self.add_group_keys(name, keys.keys, problems);
            }
        }
        if let Some(node) = there("children") {
            for entry in super::fields::entries(node, "children", "children: {web: {}}", problems) {
                self.yaml_group(&entry.key, &entry.value, group.as_ref(), problems);
            }
        }
    }
}

fn json_variables(vars: serde_json::Map<String, Value>, at: &Span) -> Vec<Variable> {
    let there = vars.into_iter().filter(|(_, value)| !value.is_null());
    there
        .map(|(name, value)| Variable { name: Text::new(name, at.clone()), value: records::node(&value, at) })
        .collect()
}

enum Section {
    Hosts,
    Children,
    Variables,
    Skip,
}

/// `ansible_connection`.
fn connection(text: &Text, problems: &mut Problems) -> Option<String> {
    match text.value.as_str() {
        "ssh" | "smart" | "paramiko" | "paramiko_ssh" | "ansible.builtin.ssh" => Some("ssh".into()),
        "local" | "ansible.builtin.local" => Some("local".into()),
        "winrm" | "psrp" | "ansible.builtin.winrm" | "ansible.builtin.psrp" => Some("winrm".into()),
        "aws_ssm" | "community.aws.aws_ssm" | "amazon.aws.aws_ssm" => Some("ssm".into()),
        other => {
            problems
                .error(
                    Code::ForeignInventory,
                    &text.span,
                    format!("no transport here is like the connection `{}`", shown(other)),
                )
                .help = Some("ssh, local, winrm and aws_ssm are taken over".into());
            None
        }
    }
}

/// A value as Ansible means it: whole numbers, `true` and `false` in any case, in YAML `yes` and `no` too, else the text.
fn foreign_value(node: &Node, in_yaml: bool, problems: &mut Problems) -> Option<Spanned<serde_json::Value>> {
    match &node.content {
        Content::Scalar { text, plain: true } => {
            let value = match text.as_str() {
                word if word.eq_ignore_ascii_case("true") => true.into(),
                word if word.eq_ignore_ascii_case("false") => false.into(),
                "yes" | "Yes" | "YES" | "on" | "On" | "ON" if in_yaml => true.into(),
                "no" | "No" | "NO" | "off" | "Off" | "OFF" if in_yaml => false.into(),
                word => scalar::whole(word).map_or_else(|| word.into(), serde_json::Value::from),
            };
            Some(Spanned::new(value, node.span.clone()))
        }
        _ => scalar::spanned_value(node, problems),
    }
}

fn content_span(source: &Arc<Source>, start: usize, content: &str) -> Text {
    let trimmed = content.trim();
    let at = start + content.find(trimmed).unwrap_or(0);
    Text::new(trimmed.to_owned(), Span::new(source, at..at + trimmed.len()))
}

/// The words of a line, quotes kept together, up to a comment.
fn words(source: &Arc<Source>, start: usize, line: &str) -> Vec<Text> {
    let mut words = Vec::new();
    let mut begin: Option<usize> = None;
    let mut quote: Option<char> = None;
    let end_word = |begin: &mut Option<usize>, end: usize, words: &mut Vec<Text>| {
        if let Some(from) = begin.take() {
            words.push(Text::new(line[from..end].to_owned(), Span::new(source, start + from..start + end)));
        }
    };
    for (i, c) in line.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => {
                quote = Some(c);
                begin.get_or_insert(i);
            }
            None if c.is_whitespace() => end_word(&mut begin, i, &mut words),
            None if matches!(c, '#' | ';') && begin.is_none() => return words,
            None => {
                begin.get_or_insert(i);
            }
        }
    }
    end_word(&mut begin, line.len(), &mut words);
    words
}

/// `web[01:10].example.org:22`: the names with their port.
fn expand(word: &Text, problems: &mut Problems) -> Vec<(Text, Option<Spanned<serde_json::Value>>)> {
    let mut pattern = word.value.as_str();
    let mut port = None;
    if let Some((host, digits)) = pattern.rsplit_once(':')
        && let (Ok(number), false) = (digits.parse::<u16>(), host.contains(':') && !host.contains('['))
        && number > 0
        && !host.ends_with('[')
        && balanced(host)
    {
        port = Some(Spanned::new(number.into(), word.span.clone()));
        pattern = host;
    }
    let mut names = vec![String::new()];
    let mut rest = pattern;
    while let Some(open) = rest.find('[') {
        let Some(length) = rest[open..].find(']') else {
            problems.error(Code::ForeignInventory, &word.span, "the bracket of the range is not closed");
            return Vec::new();
        };
        let head = &rest[..open];
        let Some(items) = range(&rest[open + 1..open + length]) else {
            problems
                .error(
                    Code::ForeignInventory,
                    &word.span,
                    format!("`{}` is not a range", shown(&rest[open..=open + length])),
                )
                .help = Some("write for example web[01:10] or db[a:c]".into());
            return Vec::new();
        };
        if names.len().saturating_mul(items.len()) > HOSTS_MAX {
            problems.error(Code::TooComplex, &word.span, format!("this names more than {HOSTS_MAX} hosts"));
            return Vec::new();
        }
        names = names.iter().flat_map(|name| items.iter().map(move |item| format!("{name}{head}{item}"))).collect();
        rest = &rest[open + length + 1..];
    }
    names.into_iter().map(|name| (Text::new(format!("{name}{rest}"), word.span.clone()), port.clone())).collect()
}

fn balanced(text: &str) -> bool {
    text.matches('[').count() == text.matches(']').count()
}

/// `01:10`, `1:9:2`, `a:f`.
fn range(text: &str) -> Option<Vec<String>> {
    let parts: Vec<&str> = text.split(':').collect();
    let (first, last) = (*parts.first()?, *parts.get(1)?);
    let step = parts.get(2).map_or(Some(1), |step| step.parse::<usize>().ok()).filter(|step| *step > 0)?;
    if parts.len() > 3 {
        return None;
    }
    if first.len() > 10 {
        return None;
    }
    if let (Ok(from), Ok(to)) = (first.parse::<u32>(), last.parse::<u32>()) {
        let width = if first.starts_with('0') { first.len() } else { 0 };
        if to < from || (to - from) as usize / step > HOSTS_MAX {
            return None;
        }
        return Some((from..=to).step_by(step).map(|n| format!("{n:0width$}")).collect());
    }
    let letter = |text: &str| text.chars().next().filter(|c| text.len() == 1 && c.is_ascii_alphabetic());
    let (from, to) = (letter(first)?, letter(last)?);
    (from <= to && from.is_ascii_lowercase() == to.is_ascii_lowercase())
        .then(|| (from..=to).step_by(step).map(String::from).collect())
}
