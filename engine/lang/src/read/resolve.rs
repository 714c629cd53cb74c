//! From all that was read to hosts with every key resolved.
//!
//! A key is taken from the host itself, else from the nearest group that has it (a group that the host is in directly
//! before the groups that are made of that one), else from the `defaults` of its file, else from those of the files
//! that include it. Two groups of the same distance that differ are an error: no order decides silently.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::host::Jump;
use runbook_model::{Host, HostName, Os};
use serde_json::{Value, json};

use super::host::Keys;
use super::inventory::{Draft, DraftHost, member_hint};
use crate::codes::Code;
use crate::diagnostic::Diagnostic;
use crate::inventory::{Group, Inventory, InventoryHost};
use crate::source::{Spanned, Text};
use crate::yaml::shown;

/// Hosts on the way to another; nobody has more.
const JUMPS_MAX: usize = 8;

pub(crate) fn resolve(mut draft: Draft, problems: &mut Vec<Diagnostic>) -> Option<Inventory> {
    join_groups(&mut draft, problems);
    report_group_cycles(&draft, problems);
    if !problems.iter().all(|problem| problem.severity != crate::Severity::Error) {
        return None;
    }
    let parents = parents(&draft);
    let mut hosts = BTreeMap::new();
    let mut layers_of = BTreeMap::new();
    let mut conflicts = BTreeSet::new();
    for (name, host) in &draft.hosts {
        let distances = distances(host, &draft, &parents);
        let keys = layered(host, &draft, &distances, &mut conflicts, problems);
        let groups: Vec<String> = distances.keys().cloned().collect();
        layers_of.insert(name.clone(), (keys, groups));
    }
    for (name, host) in &draft.hosts {
        let (keys, groups) = &layers_of[name];
        let jumps = jumps(name, keys, &draft, &layers_of, problems);
        let built = build(host, keys, groups.clone(), jumps, problems);
        hosts.insert(HostName::from(name.as_str()), InventoryHost { host: built, span: host.name.span.clone() });
    }
    let mut groups: BTreeMap<String, Group> = draft
        .groups
        .iter()
        .map(|(name, group)| {
            let span = group.span.clone().expect("a group is made with its place");
            let parts = group.groups.iter().map(|part| part.value.clone()).collect();
            (name.clone(), Group { hosts: BTreeSet::new(), groups: parts, span })
        })
        .collect();
    for (name, (_, member_of)) in &layers_of {
        for group in member_of {
            if let Some(group) = groups.get_mut(group) {
                group.hosts.insert(HostName::from(name.as_str()));
            }
        }
    }
    Some(Inventory { hosts, groups, sources: draft.sources, secretive: draft.secretive })
}

/// Makes the groups that hosts name, and puts hosts that groups name into them.
fn join_groups(draft: &mut Draft, problems: &mut Vec<Diagnostic>) {
    let mut named: Vec<Text> = draft.hosts.values().flat_map(|host| host.keys.groups.clone()).collect();
    named.extend(draft.defaults.iter().flat_map(|defaults| defaults.groups.clone()));
    for group in named {
        draft.group(&group.value, &group.span);
    }
    let mut found = Vec::new();
    for (group, draft_group) in &draft.groups {
        for host in &draft_group.hosts {
            if draft.hosts.contains_key(&host.value) {
                found.push((host.value.clone(), Text::new(group.clone(), host.span.clone())));
            } else {
                let mut problem = Diagnostic::error(
                    Code::UnknownMember,
                    &host.span,
                    format!("the group `{group}` names the host `{}`, which is not there", shown(&host.value)),
                );
                problem.help = if draft.groups.contains_key(&host.value) {
                    Some("that is a group: name it under `groups`".into())
                } else {
                    member_hint(&host.value, draft)
                };
                problems.push(problem);
            }
        }
        for part in &draft_group.groups {
            if !draft.groups.contains_key(&part.value) {
                let mut problem = Diagnostic::error(
                    Code::UnknownMember,
                    &part.span,
                    format!("the group `{group}` is made of the group `{}`, which is not there", shown(&part.value)),
                );
                problem.help = if draft.hosts.contains_key(&part.value) {
                    Some("that is a host: name it under `hosts`".into())
                } else {
                    member_hint(&part.value, draft)
                };
                problems.push(problem);
            }
        }
    }
    for (host, group) in found {
        let host = draft.hosts.get_mut(&host).expect("it was found");
        if !host.keys.groups.contains(&group) {
            host.keys.groups.push(group);
        }
    }
}

/// Which groups each group is a part of.
fn parents(draft: &Draft) -> BTreeMap<&str, Vec<&str>> {
    let mut parents: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, group) in &draft.groups {
        for part in &group.groups {
            parents.entry(part.as_str()).or_default().push(name);
        }
    }
    parents
}

fn report_group_cycles(draft: &Draft, problems: &mut Vec<Diagnostic>) {
    let mut closed: BTreeSet<&str> = BTreeSet::new();
    for start in draft.groups.keys() {
        let mut path: Vec<(&str, usize)> = if closed.contains(start.as_str()) { Vec::new() } else { vec![(start, 0)] };
        while let Some((at, next)) = path.last_mut() {
            let Some(part) = draft.groups.get(*at).and_then(|group| group.groups.get(*next)) else {
                closed.insert(*at);
                path.pop();
                continue;
            };
            *next += 1;
            if let Some(begin) = path.iter().position(|(group, _)| *group == part.value) {
                let chain: Vec<&str> =
                    path[begin..].iter().map(|(group, _)| *group).chain(std::iter::once(part.as_str())).collect();
                problems.push(
                    Diagnostic::error(
                        Code::InventoryCycle,
                        &part.span,
                        format!("these groups are made of each other: {}", chain.join(" -> ")),
                    )
                    .help("remove one of them from the other's `groups`"),
                );
            } else if !closed.contains(part.as_str()) && draft.groups.contains_key(&part.value) {
                path.push((part.as_str(), 0));
            }
        }
    }
}

/// Every group of a host with its distance: 1 for those that it is in directly.
fn distances(host: &DraftHost, draft: &Draft, parents: &BTreeMap<&str, Vec<&str>>) -> BTreeMap<String, usize> {
    let mut distances: BTreeMap<String, usize> = BTreeMap::new();
    let from_defaults = host.defaults.iter().flat_map(|layer| &draft.defaults[*layer].groups);
    let mut ring: BTreeSet<&str> = host.keys.groups.iter().chain(from_defaults).map(Text::as_str).collect();
    let mut distance = 1;
    while !ring.is_empty() {
        let mut next = BTreeSet::new();
        for group in ring {
            if !distances.contains_key(group) {
                distances.insert(group.to_owned(), distance);
                next.extend(parents.get(group).into_iter().flatten().copied());
            }
        }
        ring = next;
        distance += 1;
    }
    distances
}

/// All keys of a host, from itself, its groups and the defaults.
fn layered(
    host: &DraftHost,
    draft: &Draft,
    distances: &BTreeMap<String, usize>,
    conflicts: &mut BTreeSet<(String, String, String)>,
    problems: &mut Vec<Diagnostic>,
) -> Keys {
    let mut keys = host.keys.keys.clone();
    let mut rings: BTreeMap<usize, Vec<&str>> = BTreeMap::new();
    for (group, distance) in distances {
        rings.entry(*distance).or_default().push(group);
    }
    for ring in rings.values() {
        let mut of_ring: BTreeMap<&String, (&str, &Spanned<Value>)> = BTreeMap::new();
        for group in ring {
            for (key, value) in draft.groups.get(*group).into_iter().flat_map(|group| &group.keys) {
                if keys.contains_key(key) {
                    continue;
                }
                match of_ring.get(key) {
                    Some((other, first)) if first.value != value.value => {
                        if conflicts.insert((key.clone(), (*other).to_owned(), (*group).to_owned())) {
                            problems.push(
                                Diagnostic::error(
                                    Code::GroupConflict,
                                    &value.span,
                                    format!(
                                        "the groups `{other}` and `{group}` give the host `{}` different values of `{}`",
                                        host.name.value,
                                        shown(key)
                                    ),
                                )
                                .label(&first.span, format!("the value of `{other}`"))
                                .label(&host.name.span, "the host")
                                .help("say it on the host itself, or remove it from one of the groups"),
                            );
                        }
                    }
                    Some(_) => {}
                    None => {
                        of_ring.insert(key, (group, value));
                    }
                }
            }
        }
        let found: Vec<_> = of_ring.into_iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect();
        keys.extend(found);
    }
    for layer in &host.defaults {
        for (key, value) in &draft.defaults[*layer].keys {
            keys.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    keys
}

fn text(keys: &Keys, key: &str) -> Option<String> {
    keys.get(key).and_then(|value| value.value.as_str()).map(str::to_owned)
}

fn port(keys: &Keys) -> Option<u16> {
    keys.get("port").and_then(|value| value.value.as_u64()).and_then(|port| u16::try_from(port).ok())
}

fn transport(keys: &Keys) -> String {
    text(keys, "transport").unwrap_or_else(|| "ssh".into())
}

/// The hosts on the way to `name`, nearest to us first.
fn jumps(
    name: &str,
    keys: &Keys,
    draft: &Draft,
    all: &BTreeMap<String, (Keys, Vec<String>)>,
    problems: &mut Vec<Diagnostic>,
) -> Vec<Jump> {
    if !matches!(transport(keys).as_str(), "ssh" | "ssh-native") {
        return Vec::new();
    }
    let mut way: Vec<Jump> = Vec::new();
    let mut chain = vec![name.to_owned()];
    let mut keys = keys;
    while let Some(next) = keys.get("jump") {
        let target = next.value.as_str().unwrap_or_default();
        // A jump host that takes its own `jump` from `defaults` means: all hosts but itself go through it.
        let own = draft.hosts.get(target).is_some_and(|host| host.keys.keys.contains_key("jump"));
        if !own && chain.last().is_some_and(|last| last == target) {
            break;
        }
        let Some((jump_keys, _)) = all.get(target) else {
            let mut problem = Diagnostic::error(
                Code::UnknownMember,
                &next.span,
                format!("the jump host `{}` is not in the inventory", shown(target)),
            );
            problem.help = Some(match crate::similar::nearest(target, all.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "add it to `hosts`, or use ProxyJump in your ssh_config".into(),
            });
            problems.push(problem);
            return way;
        };
        chain.push(target.to_owned());
        if chain[..chain.len() - 1].iter().any(|host| host == target) {
            problems.push(
                Diagnostic::error(
                    Code::InventoryCycle,
                    &next.span,
                    format!("the way to `{name}` leads in a circle: {}", chain.join(" -> ")),
                )
                .help("the first jump host must be reached without another"),
            );
            return way;
        }
        if chain.len() > JUMPS_MAX {
            problems.push(
                Diagnostic::error(
                    Code::InventoryCycle,
                    &next.span,
                    format!("the way to `{name}` has more than {JUMPS_MAX} jump hosts"),
                )
                .help("use a jump host that is nearer"),
            );
            return way;
        }
        if !matches!(transport(jump_keys).as_str(), "ssh" | "ssh-native") {
            problems.push(
                Diagnostic::error(
                    Code::Conflict,
                    &next.span,
                    format!(
                        "the jump host `{target}` is reached by {}, and only ssh can go through a host",
                        transport(jump_keys)
                    ),
                )
                .help("name a host with `transport: ssh`"),
            );
            return way;
        }
        way.push(Jump {
            name: HostName::from(target),
            address: text(jump_keys, "address").unwrap_or_else(|| target.to_owned()),
            port: port(jump_keys),
            user: text(jump_keys, "user"),
            identity: text(jump_keys, "identity"),
            certificate: text(jump_keys, "certificate"),
        });
        keys = jump_keys;
    }
    way.reverse();
    way
}

/// Keys that only some transports read, and which.
const OPTIONS: &[(&str, &[&str])] = &[
    ("password", &["winrm"]),
    ("auth", &["winrm"]),
    ("tls", &["winrm"]),
    ("instance", &["ssm"]),
    ("region", &["ssm"]),
    ("profile", &["ssm"]),
    ("endpoint", &["ssm"]),
];

fn build(host: &DraftHost, keys: &Keys, groups: Vec<String>, jumps: Vec<Jump>, problems: &mut Vec<Diagnostic>) -> Host {
    let name = &host.name.value;
    let transport = transport(keys);
    let known = super::host::TRANSPORTS.contains(&transport.as_str());
    let mut options = BTreeMap::new();
    for (key, transports) in OPTIONS {
        let Some(value) = keys.get(*key) else { continue };
        if !known || transports.contains(&transport.as_str()) {
            options.insert((*key).to_owned(), value.value.clone());
        } else if host.keys.keys.contains_key(*key) {
            problems.push(misplaced(host, key, &transport, &transports.join(", "), value));
        }
    }
    let ssh = !known || matches!(transport.as_str(), "ssh" | "ssh-native");
    let mut own_only = |key: &str, allowed: bool, by: &str| {
        if let (false, Some(value)) = (allowed, host.keys.keys.get(key)) {
            problems.push(misplaced(host, key, &transport, by, value));
        }
    };
    own_only("jump", ssh, "ssh");
    own_only("identity", ssh, "ssh");
    own_only("certificate", ssh || transport == "winrm", "ssh, winrm");
    own_only("address", transport != "local", "transports other than local");
    own_only("port", transport != "local" && transport != "ssm", "ssh, winrm");
    own_only("user", transport != "local" && transport != "ssm", "ssh, winrm");
    let is_instance = |text: &str| text.starts_with("i-") || text.starts_with("mi-");
    if transport == "ssm" && !options.contains_key("instance") {
        if is_instance(name) {
            options.insert("instance".into(), json!(name));
        } else {
            problems.push(
                Diagnostic::error(
                    Code::NoAddress,
                    &host.name.span,
                    format!("the host `{name}` is reached by ssm and has no `instance`"),
                )
                .help("add `instance: i-0123456789abcdef0`, or call the host by its instance id"),
            );
        }
    }
    if transport == "winrm" && options.get("auth") == Some(&json!("basic")) {
        let encrypted = options.get("tls").and_then(|tls| tls.get("enabled")) != Some(&json!(false));
        if let (false, Some(auth)) = (encrypted, keys.get("auth")) {
            problems.push(
                Diagnostic::error(
                    Code::SecretExposed,
                    &auth.span,
                    "basic authentication without TLS sends the password in the open",
                )
                .help("remove `tls: {enabled: false}`, or use kerberos or ntlm"),
            );
        }
    }
    let plain_http = options.get("tls").and_then(|tls| tls.get("enabled")) == Some(&json!(false));
    let default_port = (transport == "winrm").then_some(if plain_http { 5985 } else { 5986 });
    let at_all = transport != "local" && transport != "ssm";
    let part = |prefix: &str| {
        keys.iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.value.clone())))
            .collect::<BTreeMap<_, _>>()
    };
    let default_os = if transport == "winrm" { "windows" } else { "linux" };
    Host {
        name: HostName::from(name.as_str()),
        address: text(keys, "address").filter(|_| transport != "local").unwrap_or_else(|| name.clone()),
        port: port(keys).filter(|_| at_all).or(default_port),
        os: Os::from(text(keys, "os").unwrap_or_else(|| default_os.to_owned())),
        user: text(keys, "user").filter(|_| at_all),
        jumps,
        identity: text(keys, "identity").filter(|_| ssh),
        certificate: text(keys, "certificate").filter(|_| ssh || transport == "winrm"),
        account: text(keys, "as"),
        options,
        labels: part("labels.")
            .into_iter()
            .map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned()))
            .collect(),
        vars: part("vars."),
        groups,
        cui: keys.get("cui").is_some_and(|value| value.value == json!(true)),
        owner: text(keys, "owner"),
        cui_owner: text(keys, "cui_owner"),
        risk: text(keys, "risk"),
        transport,
    }
}

fn misplaced(host: &DraftHost, key: &str, transport: &str, by: &str, value: &Spanned<Value>) -> Diagnostic {
    Diagnostic::error(
        Code::NotHere,
        &value.span,
        format!("`{key}` means nothing for the host `{}`, which is reached by {transport}", host.name.value),
    )
    .help(format!("it is read by: {by}"))
}
