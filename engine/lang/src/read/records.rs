//! Hosts out of records in JSON, as NetBox and ServiceNow answer with: a list of pages, each as it came.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::elsewhere::{Mapped, System, Wanted};
use super::fields::Problems;
use super::host::{self, host_keys, mapping};
use super::inventory::{Draft, DraftHost, host_name};
use crate::codes::Code;
use crate::inventory::Files;
use crate::source::{Source, Span, Spanned, Text};
use crate::yaml::{Content, Entry, Node, shown};

#[derive(Deserialize)]
struct NetboxPage<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct ServiceNowPage<'a> {
    #[serde(borrow)]
    result: Vec<&'a RawValue>,
}

/// Where a part of the source stands, that was borrowed from its text.
pub(crate) fn span(source: &Arc<Source>, raw: &RawValue) -> Span {
    let start = (raw.get().as_ptr() as usize).wrapping_sub(source.text().as_ptr() as usize);
    // What came out of a text with escapes in it is no part of it.
    if start > source.text().len() || start + raw.get().len() > source.text().len() {
        return Span::start_of(source);
    }
    Span::new(source, start..start + raw.get().len())
}

/// Reports an answer that is not in the form that it should have.
pub(crate) fn malformed(source: &Arc<Source>, error: &serde_json::Error, what: &str, problems: &mut Problems) {
    let at = (source.line_start(error.line()) + error.column().saturating_sub(1)).min(source.text().len());
    let at = (0..=at).rev().find(|at| source.text().is_char_boundary(*at)).unwrap_or(0);
    problems.error(Code::UnusableAnswer, &Span::new(source, at..at), format!("this is not {what}: {error}")).help =
        Some("nothing was changed; see what it answers when you ask it yourself".into());
}

/// A value in JSON as one in YAML: its texts are texts.
pub(crate) fn node(value: &Value, at: &Span) -> Node {
    let content = match value {
        Value::String(text) => Content::Scalar { text: text.clone(), plain: false },
        Value::Array(items) => Content::List(items.iter().map(|item| node(item, at)).collect()),
        Value::Object(entries) => Content::Mapping(
            entries
                .iter()
                .map(|(key, value)| Entry::new(Text::new(key.clone(), at.clone()), node(value, at)))
                .collect(),
        ),
        other => Content::Scalar { text: other.to_string(), plain: true },
    };
    Node { span: at.clone(), content }
}

pub(crate) fn read(
    source: &Arc<Source>,
    wanted: &Wanted,
    layers: &[usize],
    files: &dyn Files,
    draft: &mut Draft,
    problems: &mut Problems,
) {
    let text = source.text();
    let records: Result<Vec<&RawValue>, _> = match wanted.system {
        System::Netbox => serde_json::from_str::<Vec<NetboxPage<'_>>>(text)
            .map(|pages| pages.into_iter().flat_map(|page| page.results).collect()),
        System::ServiceNow => serde_json::from_str::<Vec<ServiceNowPage<'_>>>(text)
            .map(|pages| pages.into_iter().flat_map(|page| page.result).collect()),
    };
    let records = match records {
        Ok(records) => records,
        Err(error) => return malformed(source, &error, "a list of records", problems),
    };
    // Fields that somebody wrote and no record has: a slip must not look like an empty value.
    let mut unseen: Vec<&Mapped> = wanted.fields.iter().filter(|mapped| mapped.span.is_some()).collect();
    let any = !records.is_empty();
    for raw in records {
        let at = span(source, raw);
        let record: Value = match serde_json::from_str(raw.get()) {
            Ok(record) => record,
            Err(error) => return malformed(source, &error, "a record", problems),
        };
        unseen.retain(|mapped| field(wanted.system, &record, &mapped.key, &mapped.field).is_none());
        one(wanted, &record, &at, layers, files, draft, problems);
    }
    for mapped in unseen.into_iter().filter(|_| any) {
        let Some(span) = &mapped.span else { continue };
        problems.error(Code::UnusableAnswer, span, format!("no record has a field `{}`", shown(&mapped.field))).help =
            Some("look at one of the records for its name; the account must be allowed to read it".into());
    }
}

/// The values of a field; `None`: the record has no such field. An empty field has none.
fn field(system: System, record: &Value, key: &str, path: &str) -> Option<Vec<String>> {
    match system {
        System::ServiceNow => {
            let value = record.get(path)?;
            let of = |part: &str| value.get(part).and_then(Value::as_str);
            // What people see is in display values; a flag and a number are what they are.
            let text = match (matches!(key, "cui" | "port"), value) {
                (_, Value::String(text)) => text.as_str(),
                (true, _) => of("value")?,
                (false, _) => of("display_value").or_else(|| of("value"))?,
            };
            let many = if key == "groups" { text.split(',').collect() } else { vec![text] };
            Some(many.into_iter().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned).collect())
        }
        System::Netbox => {
            let mut value = record;
            for part in path.split('.') {
                if value.is_null() {
                    return Some(Vec::new());
                }
                value = value.get(part)?;
            }
            Some(match value {
                Value::Array(items) => items.iter().filter_map(word).collect(),
                value => word(value).into_iter().collect(),
            })
        }
    }
}

/// A value of NetBox as a word: of an object its slug, else its value, name or what is shown of it.
fn word(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Object(object) => {
            ["slug", "value", "name", "display"].iter().find_map(|key| object.get(*key)).and_then(word)
        }
        Value::Array(_) => None,
        other => Some(other.to_string()),
    }
}

#[allow(clippy::too_many_arguments, reason = "the record and where it goes")]
fn one(
    wanted: &Wanted,
    record: &Value,
    at: &Span,
    layers: &[usize],
    files: &dyn Files,
    draft: &mut Draft,
    problems: &mut Problems,
) {
    let id = match wanted.system {
        System::Netbox => record.get("id").map(Value::to_string),
        System::ServiceNow => field(wanted.system, record, "", "sys_id").and_then(|ids| ids.into_iter().next()),
    };
    let id = id.unwrap_or_else(|| "?".into());
    let named = wanted.fields.iter().find(|mapped| mapped.key == "name");
    let name = named.and_then(|mapped| field(wanted.system, record, "name", &mapped.field)).unwrap_or_default();
    let Some(name) = name.into_iter().next() else {
        problems.error(Code::UnusableAnswer, at, format!("the record {} has no name", shown(&id))).help =
            Some("give it one there, or filter it out".into());
        return;
    };
    let Some(name) = host_name(Text::new(name, at.clone()), problems) else { return };
    let mut pairs = Vec::new();
    let mut more = host::Keys::new();
    let mut groups = Vec::new();
    for Mapped { key, field: path, .. } in wanted.fields.iter().filter(|mapped| mapped.key != "name") {
        let values = field(wanted.system, record, key, path).unwrap_or_default();
        if key == "groups" {
            let names = values.into_iter().map(|value| Text::new(value, at.clone()));
            groups.extend(names.filter_map(|name| host::group_name(name, problems)));
            continue;
        }
        if values.len() > 1 {
            let text = format!("`{}` of {} has {} values", shown(path), shown(&name.value), values.len());
            problems.error(Code::UnusableAnswer, at, text).help = Some(format!("`{key}` takes one"));
            continue;
        }
        let Some(value) = values.into_iter().next() else { continue };
        if key.starts_with("labels.") || key.starts_with("vars.") {
            more.insert(key.clone(), Spanned::new(value.into(), at.clone()));
            continue;
        }
        let value = match key.as_str() {
            // NetBox gives addresses with the length of their network.
            "address" => value.split('/').next().unwrap_or_default().to_owned(),
            "cui" => match value.to_ascii_lowercase().as_str() {
                "true" | "yes" | "1" => "true".into(),
                "false" | "no" | "0" => "false".into(),
                _ => {
                    let text = format!("`{}` of {} is `{}`", shown(path), shown(&name.value), shown(&value));
                    problems.error(Code::UnusableAnswer, at, text).help =
                        Some("whether it holds CUI is true or false, yes or no, 1 or 0".into());
                    continue;
                }
            },
            _ => value,
        };
        let plain = matches!(key.as_str(), "cui" | "port");
        pairs.push((Text::new(key.clone(), at.clone()), value, at.clone(), plain));
    }
    let mut keys = host_keys(&mapping(at, pairs), "a host", files, problems);
    keys.keys.extend(more);
    keys.groups = groups;
    draft.add_host(DraftHost { name, keys, defaults: layers.to_vec() }, problems);
}
