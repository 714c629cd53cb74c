//! Schedules.

use std::collections::BTreeMap;

use runbook_model::schedule::{Occurs, Schedule, Schedules};
use serde_json::Value;

use super::fields::{Fields, Problems, entries};
use super::windows::{NAME_RULES, Reader, TIMES_KEYS};
use super::{runbook, scalar};
use crate::codes::Code;
use crate::schedule::ScheduleFile;
use crate::selector;
use crate::yaml::Node;

/// The `schema` of a schedule file.
pub(crate) const SCHEMA: &str = "schedule/v1";

pub(crate) const KEYS: &[&str] = &["schema", "zone", "schedules"];
/// The keys of a schedule, beside those that say times.
pub(crate) const SCHEDULE_KEYS: &[&str] =
    &["title", "run", "parameters", "limit", "ticket", "window", "late", "notice_before", "enabled"];

/// It may be begun so much later when nothing else is said.
const LATE_MS: u64 = 3_600_000;
const LATE_MIN_MS: u64 = 60_000;
const LATE_MAX_MS: u64 = 31 * 24 * 3_600_000;

/// The schedules in `node`, as far as they could be read.
pub(crate) fn schedule(node: &Node, problems: &mut Problems) -> Option<ScheduleFile> {
    let fields = Fields::of(node, "a schedule file", KEYS, &[], problems)?;
    runbook::schema(&fields, "a schedule file", SCHEMA, problems);
    let zone = fields.get("zone", problems).and_then(|node| scalar::literal(node, "zone", problems));
    let mut reader = Reader::of(zone.map(|zone| zone.value));
    let (mut schedules, mut places) = (BTreeMap::new(), BTreeMap::new());
    let example = "{patch-night: {run: runbooks/patch.yaml, when: second Tuesday 22:00}}";
    if let Some(node) = fields.require("schedules", "a schedule file", example, problems) {
        for entry in entries(node, "schedules", example, problems) {
            let name =
                scalar::name(entry.key.clone(), "the name of a schedule", runbook::is_name, NAME_RULES, problems);
            let read = one(&mut reader, &entry.value, problems);
            let place = reader.said_at.take().unwrap_or_else(|| entry.value.span.clone());
            if let (Some(name), Some(read)) = (name, read) {
                places.insert(name.value.clone(), place);
                schedules.insert(name.value, read);
            }
        }
    }
    Some(ScheduleFile { schedules: Schedules { schedules }, places, whole: node.span.clone() })
}

fn one(reader: &mut Reader, node: &Node, problems: &mut Problems) -> Option<Schedule> {
    // How long it lasts is said by `late`.
    let times: Vec<&str> = TIMES_KEYS.iter().copied().filter(|key| *key != "for").collect();
    let fields = Fields::of(node, "a schedule", &[SCHEDULE_KEYS, TIMES_KEYS].concat(), &[], problems)?;
    fields.refuse(&["for"], "in a schedule; `late` says how much later it may begin", problems);
    let mut text = |key: &str| fields.get(key, problems).and_then(|node| scalar::filled(node, key, problems));
    let (title, ticket) = (text("title"), text("ticket"));
    let run = fields
        .require("run", "a schedule", "runbooks/patch.yaml", problems)
        .and_then(|node| scalar::filled(node, "run", problems));
    let limit = fields.get("limit", problems).and_then(|node| scalar::literal(node, "limit", problems));
    if let Some(problem) = limit.as_ref().and_then(|limit| selector::parse(limit).err()) {
        problems.push(problem);
    }
    let late_ms = fields.get("late", problems).and_then(|node| late(node, problems));
    let notice_before_ms =
        fields.get("notice_before", problems).and_then(|node| scalar::positive_ms(node, "notice_before", problems));
    let enabled = fields.get("enabled", problems).and_then(|node| scalar::boolean(node, "enabled", problems));
    let parameters = fields.get("parameters", problems).map(|node| parameters(node, problems)).unwrap_or_default();
    let when = match fields.get("window", problems) {
        Some(node) => {
            fields.refuse(&times, "beside `window`, which says it", problems);
            let window = scalar::literal(node, "window", problems)?;
            reader.said_at = Some(window.span.clone());
            Occurs::Window { window: window.value, late_ms }
        }
        None => {
            if fields.entry("when").is_none() && fields.entry("rule").is_none() {
                problems.error(Code::MissingKey, &fields.span, "a schedule needs `when`, `rule` or `window`").help =
                    Some(
                        "add for example `when: second Tuesday 22:00`, or the `window` at whose opening it runs".into(),
                    );
                return None;
            }
            let late_ms = late_ms.unwrap_or(LATE_MS);
            Occurs::Times(Box::new(reader.moments(&fields, "a schedule", late_ms, problems)?))
        }
    };
    Some(Schedule {
        title: title.map(|title| title.value),
        run: run?.value,
        parameters,
        limit: limit.map(|limit| limit.value),
        ticket: ticket.map(|ticket| ticket.value),
        when,
        notice_before_ms,
        enabled: enabled.unwrap_or(true),
    })
}

fn late(node: &Node, problems: &mut Problems) -> Option<u64> {
    let ms = scalar::duration_ms(node, "late", problems)?;
    if (LATE_MIN_MS..=LATE_MAX_MS).contains(&ms) {
        return Some(ms);
    }
    problems.error(Code::InvalidValue, &node.span, "`late` is a minute at least and 31 days at most").help =
        Some("a program that was restarted at that moment begins it some seconds late".into());
    None
}

/// As `-p name=value` would give them.
fn parameters(node: &Node, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for entry in entries(node, "parameters", "{package: samba}", problems) {
        let text = match scalar::value(&entry.value, problems) {
            Some(Value::String(text)) => text,
            Some(Value::Null) | None => continue,
            Some(Value::Object(_)) => {
                problems.wrong_type(&entry.value, &entry.key.value, "a text, a number or a list", "package: samba");
                continue;
            }
            Some(other) => other.to_string(),
        };
        all.insert(entry.key.value.clone(), text);
    }
    all
}
