//! A list of hosts as CSV (RFC 4180): a header line with `name` and the keys of a host, then one host a line.
//!
//! `groups` are separated by `;`, as are `labels` (`site=hq;rack=3`); a column `labels.site` or `vars.backup_repo` gives one
//! label or variable. An empty cell is an absent key.

use std::sync::Arc;

use super::fields::Problems;
use super::host::{self, KEYS, host_keys, mapping};
use super::inventory::{Draft, DraftHost, host_name};
use crate::codes::Code;
use crate::inventory::Files;
use crate::similar;
use crate::source::{Source, Span, Spanned, Text};
use crate::yaml::shown;

pub(crate) fn read(
    source: &Arc<Source>,
    layers: &[usize],
    files: &dyn Files,
    draft: &mut Draft,
    problems: &mut Problems,
) {
    let rows = match rows(source) {
        Ok(rows) => rows,
        Err((span, why)) => {
            problems.error(Code::ForeignInventory, &span, why);
            return;
        }
    };
    let mut rows = rows.into_iter();
    let Some(header) = rows.next() else {
        problems.error(Code::ForeignInventory, &Span::start_of(source), "the CSV file is empty").help =
            Some("its first line names the columns: name, address, groups and so on".into());
        return;
    };
    let columns = columns(header, problems);
    let Some(name_column) = columns.iter().position(|column| column.value == "name") else {
        problems.error(Code::ForeignInventory, &Span::new(source, 0..1), "the CSV file has no column `name`").help =
            Some("the first line names the columns; one of them must be `name`".into());
        return;
    };
    for row in rows {
        if row.len() != columns.len() {
            let first = row.first().map_or_else(|| Span::start_of(source), |cell| cell.span.clone());
            problems
                .error(
                    Code::ForeignInventory,
                    &first,
                    format!("the line has {} cells, and the header {}", row.len(), columns.len()),
                )
                .help = Some("a cell with a comma in it must be in double quotes".into());
            continue;
        }
        let cell = &row[name_column];
        let Some(name) = host_name(cell.clone(), problems) else { continue };
        host_of(name, &columns, &row, name_column, layers, files, draft, problems);
    }
}

/// The columns; unknown ones are reported and have an empty name.
fn columns(header: Vec<Text>, problems: &mut Problems) -> Vec<Text> {
    let mut columns: Vec<Text> = Vec::new();
    for column in header {
        let name = column.value.trim().to_ascii_lowercase();
        let known = name == "name"
            || KEYS.contains(&name.as_str()) && !matches!(name.as_str(), "vars" | "tls" | "password")
            || ["labels.", "vars."].iter().any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()));
        if !known {
            // `label.site`, `tags.site`: a key of one of the two that have names in them, or nothing that is known.
            let nested = name
                .split_once('.')
                .filter(|(_, rest)| !rest.is_empty())
                .and_then(|(key, rest)| similar::nearest(key, ["labels", "vars"]).map(|near| format!("{near}.{rest}")));
            let near =
                nested.or_else(|| similar::nearest(&name, KEYS.iter().copied().chain(["name"])).map(str::to_owned));
            problems
                .error(Code::UnknownKey, &column.span, format!("no key of a host is called `{}`", shown(&name)))
                .help = Some(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!(
                    "call it `labels.{name}` to select hosts by it, `vars.{name}` to keep it as a variable, or remove the column"
                ),
            });
        } else if let Some(first) = columns.iter().find(|other| other.value == name) {
            let first = first.span.clone();
            let problem =
                problems.error(Code::DuplicateKey, &column.span, format!("the column `{name}` is there twice"));
            *problem = problem.clone().label(&first, "the first one");
        }
        columns.push(Text::new(if known { name } else { String::new() }, column.span));
    }
    columns
}

#[allow(clippy::too_many_arguments, reason = "the row and where it goes")]
fn host_of(
    name: Text,
    columns: &[Text],
    row: &[Text],
    name_column: usize,
    layers: &[usize],
    files: &dyn Files,
    draft: &mut Draft,
    problems: &mut Problems,
) {
    let mut pairs = Vec::new();
    let mut more = host::Keys::new();
    let mut groups = Vec::new();
    for (i, (column, cell)) in columns.iter().zip(row).enumerate() {
        let value = cell.value.trim();
        if value.is_empty() || i == name_column || column.value.is_empty() {
            continue;
        }
        let part = |part: &str| {
            let at = cell.value.find(part).unwrap_or(0);
            Text::new(part.to_owned(), cell.within(at..at + part.len()))
        };
        if let Some(label) = column.value.strip_prefix("labels.") {
            more.insert(format!("labels.{label}"), Spanned::new(value.into(), cell.span.clone()));
        } else if let Some(variable) = column.value.strip_prefix("vars.") {
            more.insert(format!("vars.{variable}"), Spanned::new(value.into(), cell.span.clone()));
        } else if column.value == "groups" {
            let names = value.split(';').map(str::trim).filter(|name| !name.is_empty());
            groups.extend(names.filter_map(|name| host::group_name(part(name), problems)));
        } else if column.value == "labels" {
            for label in value.split(';').map(str::trim).filter(|label| !label.is_empty()) {
                match label.split_once('=') {
                    Some((key, value)) if host::is_name(key.trim()) => {
                        let value = Spanned::new(value.trim().into(), part(label).span);
                        more.insert(format!("labels.{}", key.trim()), value);
                    }
                    _ => {
                        problems
                            .error(
                                Code::ForeignInventory,
                                &part(label).span,
                                format!("`{}` is not a label", shown(label)),
                            )
                            .help = Some("write name=value, and `;` between labels".into());
                    }
                }
            }
        } else {
            let flag = column.value == "cui";
            let value = match value.to_ascii_lowercase().as_str() {
                "yes" | "y" | "1" | "true" | "x" if flag => "true".to_owned(),
                "no" | "n" | "0" | "false" if flag => "false".to_owned(),
                _ => value.to_owned(),
            };
            pairs.push((column.clone(), value, cell.span.clone(), flag || column.value == "port"));
        }
    }
    let mut keys = host_keys(&mapping(&name.span, pairs), "a host", files, problems);
    keys.keys.extend(more);
    keys.groups = groups;
    draft.add_host(DraftHost { name, keys, defaults: layers.to_vec() }, problems);
}

/// All lines with their cells; empty lines and lines that begin with `#` are left out.
fn rows(source: &Arc<Source>) -> Result<Vec<Vec<Text>>, (Span, String)> {
    let text = source.text();
    let bytes = text.as_bytes();
    let mut rows = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let line = text[at..].split(['\n', '\r']).next().unwrap_or_default();
        if line.trim().is_empty() || line.starts_with('#') {
            at += line.len() + 1;
            continue;
        }
        let mut row = Vec::new();
        loop {
            let start = at;
            let mut value = String::new();
            if bytes.get(at) == Some(&b'"') {
                at += 1;
                loop {
                    match text[at..].find('"') {
                        None => return Err((Span::new(source, start..start + 1), "the quote is not closed".into())),
                        Some(length) => {
                            value.push_str(&text[at..at + length]);
                            at += length + 1;
                        }
                    }
                    if bytes.get(at) == Some(&b'"') {
                        value.push('"');
                        at += 1;
                    } else {
                        break;
                    }
                }
            } else {
                let length = text[at..].find([',', '\n', '\r']).unwrap_or(text.len() - at);
                value.push_str(&text[at..at + length]);
                at += length;
            }
            row.push(Text::new(value, Span::new(source, start..at)));
            match bytes.get(at) {
                Some(b',') => at += 1,
                None => break,
                Some(b'\n') => {
                    at += 1;
                    break;
                }
                Some(b'\r') => {
                    at += 1 + usize::from(bytes.get(at + 1) == Some(&b'\n'));
                    break;
                }
                Some(_) => return Err((Span::new(source, at..at + 1), "a comma is missing behind the quote".into())),
            }
        }
        rows.push(row);
    }
    Ok(rows)
}
