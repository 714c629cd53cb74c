//! `inventory list`, `graph`, `check`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use runbook_lang::Inventory as Hosts;
use runbook_model::HostName;
use runbook_model::origin::Origin;
use runbook_model::units::rfc3339_ms;
use runbook_report::style::Tone;
use runbook_report::text::{count, escape_line, fit, width};
use serde_json::json;

use crate::arguments::{Inventory, InventoryList, InventoryShow};
use crate::failure::Failure;
use crate::origins::{Part, Reading};
use crate::output::{self, Output, note};
use crate::problems;
use crate::project::Project;
use crate::sources;

/// Runs `inventory …`.
pub(crate) fn run(project: &Project, command: &Inventory, output: Output) -> Result<u8, Failure> {
    match command {
        Inventory::List(arguments) => list(project, arguments, output),
        Inventory::Graph(arguments) => graph(project, arguments, output),
        Inventory::Check(arguments) => check(project, arguments, output),
    }
}

fn selected(inventory: &Hosts, selector: Option<&str>, output: Output) -> Result<BTreeSet<HostName>, Failure> {
    match sources::selector("selector", selector, output.error_palette)? {
        None => Ok(inventory.hosts.keys().cloned().collect()),
        Some(selector) => {
            selector.hosts(inventory).map_err(|found| problems::failure(&found, "selector", output.error_palette))
        }
    }
}

fn list(project: &Project, arguments: &InventoryList, output: Output) -> Result<u8, Failure> {
    let inventory = sources::inventory(project, output.error_palette)?;
    let names = selected(&inventory, arguments.selector.as_deref(), output)?;
    if arguments.json {
        let hosts: Vec<_> = names.iter().map(|name| &inventory.hosts[name].host).collect();
        let sources: Vec<_> = project
            .answers
            .parts()
            .into_iter()
            .map(|part| {
                let Origin { kind, from, sha256, asked_ms, .. } = part.origin;
                let changed_at = part.changed_ms.map(rfc3339_ms);
                json!({"kind": kind, "from": from, "sha256": sha256, "asked_at": rfc3339_ms(asked_ms),
                    "changed_at": changed_at, "hosts": part.hosts})
            })
            .collect();
        output::json(&json!({"schema": "inventory-list/v1", "hosts": hosts, "sources": sources}))?;
        return Ok(0);
    }
    let name_width = names.iter().map(|name| width(name.as_str())).max().unwrap_or(4).clamp(4, 32);
    let mut text = String::new();
    let parts = project.answers.parts();
    let several = parts.len() > 1;
    for name in &names {
        let host = &inventory.hosts[name].host;
        let mut facts = vec![match (host.transport.as_str(), host.port) {
            ("local", _) => "local".to_owned(),
            (transport, Some(port)) => format!("{transport} {}:{port}", host.address),
            (transport, None) => format!("{transport} {}", host.address),
        }];
        if !host.jumps.is_empty() {
            let jumps: Vec<&str> = host.jumps.iter().map(|jump| jump.name.as_str()).collect();
            facts.push(format!("through {}", jumps.join(", ")));
        }
        if !host.groups.is_empty() {
            facts.push(host.groups.join(","));
        }
        facts.extend(host.labels.iter().map(|(key, value)| format!("{key}={value}")));
        if host.cui {
            facts.push("cui".into());
        }
        facts.extend(host.owner.iter().map(|owner| format!("owner {owner}")));
        if let Some(part) = parts
            .iter()
            .find(|part| several && part.hosts.binary_search_by(|host| host.as_str().cmp(name.as_str())).is_ok())
        {
            facts.push(format!("from {}", part.origin.from));
        }
        let facts = escape_line(facts.join("  ").as_bytes());
        let _ = writeln!(text, "{}  {facts}", output.palette.paint(Tone::Strong, &fit(name.as_str(), name_width)));
    }
    output::data(text)?;
    Ok(0)
}

fn graph(project: &Project, arguments: &InventoryShow, output: Output) -> Result<u8, Failure> {
    let inventory = sources::inventory(project, output.error_palette)?;
    let grouped: BTreeSet<&HostName> = inventory.groups.values().flat_map(|group| &group.hosts).collect();
    let ungrouped: Vec<&HostName> = inventory.hosts.keys().filter(|name| !grouped.contains(name)).collect();
    if arguments.json {
        let groups: serde_json::Map<String, serde_json::Value> = inventory
            .groups
            .iter()
            .map(|(name, group)| (name.clone(), json!({"hosts": group.hosts, "groups": group.groups})))
            .collect();
        output::json(&json!({"schema": "inventory-graph/v1", "groups": groups, "ungrouped": ungrouped}))?;
        return Ok(0);
    }
    let mut text = String::new();
    for (name, group) in &inventory.groups {
        let _ = writeln!(text, "{}", output.palette.paint(Tone::Strong, name));
        for inner in &group.groups {
            let _ = writeln!(text, "  [{inner}]");
        }
        // Hosts that come through another group stand there.
        let through: BTreeSet<&HostName> = group
            .groups
            .iter()
            .filter_map(|inner| inventory.groups.get(inner))
            .flat_map(|inner| &inner.hosts)
            .collect();
        for host in group.hosts.iter().filter(|host| !through.contains(host)) {
            let _ = writeln!(text, "  {host}");
        }
    }
    if !ungrouped.is_empty() {
        let _ = writeln!(text, "{}", output.palette.paint(Tone::Dim, "in no group"));
        for host in ungrouped {
            let _ = writeln!(text, "  {host}");
        }
    }
    output::data(text)?;
    Ok(0)
}

/// Where a part of the inventory came from, and how old it is.
fn came(part: &Part) -> String {
    let line = escape_line(runbook_report::text::origin(&part.origin).as_bytes());
    match part.changed_ms {
        Some(changed) => format!("{line}, last changed {}", runbook_report::text::when(changed)),
        None => line,
    }
}

fn check(project: &Project, arguments: &InventoryShow, output: Output) -> Result<u8, Failure> {
    project.folder()?;
    let path = project.inventory().expect("a project has an inventory's path");
    let bytes = sources::read(&path, runbook_lang::INVENTORY_BYTES_MAX)
        .map_err(|error| Failure::file("RB0608", "read", &path, &error))?;
    let shown = sources::shown(&path);
    let reading = Reading::new(project, &path, &shown, &bytes);
    let (found, hosts) = match runbook_lang::parse_inventory(&shown, &bytes, &reading) {
        Ok(parsed) => {
            reading.done(&parsed.value);
            (parsed.warnings, Some(parsed.value.hosts.len()))
        }
        Err(problems) => (problems, None),
    };
    if arguments.json {
        output::json(&runbook_lang::diagnostic::to_json(&found))?;
    } else {
        problems::show(&found, output.error_palette);
        match hosts {
            Some(hosts) => {
                let parts = project.answers.parts();
                for part in parts.iter().filter(|_| parts.len() > 1) {
                    note(came(part));
                }
                note(format!("{shown}: {}, no problems", count(hosts, "host")));
            }
            None => note(format!("{shown}: {}", count(found.len(), "problem"))),
        }
    }
    Ok(if hosts.is_some() { 0 } else { crate::failure::USAGE })
}
