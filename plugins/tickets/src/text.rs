//! Texts and times of other systems.

use std::collections::BTreeSet;

use jiff::Timestamp;
use runbook_model::Sha256;
use runbook_ports::tickets::{Entry, TicketError, Written};
use serde_json::Value;

/// The last line of every text that is written: by it the text is found again.
pub(crate) fn mark(id: &str) -> String {
    format!("[runbook {id}]")
}

/// What is written, with its mark; control characters but line ends are shown, not sent.
pub(crate) fn marked(entry: &Entry<'_>, most: usize) -> String {
    let mark = mark(entry.id);
    let mut text: String =
        entry.text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect();
    let room = most.saturating_sub(mark.len() + 8);
    if text.len() > room {
        let mut end = room;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push_str("\n…");
    }
    format!("{}\n{mark}", text.trim_end())
}

/// What was written: of `said`, with what was done for it.
pub(crate) fn written(said: &str, done: &[String]) -> Written {
    let answer = if done.is_empty() { "all of it was there".to_owned() } else { done.join(", ") };
    Written { answer, sha256: Sha256::of(said.as_bytes()) }
}

/// A key that stands in a path or a query.
pub(crate) fn key(text: &str) -> Result<&str, TicketError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    match !text.is_empty() && text.len() <= 64 && text.chars().all(plain) {
        true => Ok(text),
        false => Err(TicketError::Missing("a ticket's name has letters, digits, `-` and `_`, at most 64".into())),
    }
}

/// A text, also of a field that may be a number or null.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// What a field of any kind names: a text, texts, or objects with a name or a value.
pub(crate) fn names(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(names).collect(),
        Value::Object(object) => {
            let names = ["name", "value", "displayName"].iter().find_map(|key| object.get(*key));
            names.and_then(text).into_iter().collect()
        }
        Value::String(text) => {
            text.split([',', ';', '\n']).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
        _ => BTreeSet::new(),
    }
}

/// Whether a field says yes.
pub(crate) fn yes(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(yes) => Some(*yes),
        Value::Null => None,
        other => {
            let names = names(other);
            let said =
                |words: &[&str]| names.iter().any(|name| words.iter().any(|word| name.eq_ignore_ascii_case(word)));
            match (said(&["yes", "true", "1", "cui"]), said(&["no", "false", "0", "none"])) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            }
        }
    }
}

/// A moment with its offset, as Jira (`2026-12-08T22:00:00.000-0500`) and Trello (`…Z`) write it (Unix ms); `None`: none is given.
///
/// # Errors
/// One that does not read, or that has no offset: nobody can tell which moment is meant.
pub(crate) fn moment(what: &str, value: &Value) -> Result<Option<u64>, TicketError> {
    let Some(text) = text(value) else { return Ok(None) };
    let parsed = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| jiff::fmt::strtime::parse("%Y-%m-%dT%H:%M:%S%.f%z", &text).ok()?.to_timestamp().ok());
    match parsed.and_then(|at| u64::try_from(at.as_millisecond()).ok()) {
        Some(ms) => Ok(Some(ms)),
        None => Err(TicketError::Never(format!("`{text}` of {what} is no moment with an offset"))),
    }
}

/// A moment of ServiceNow: UTC, without saying so.
///
/// # Errors
/// As [`moment`].
pub(crate) fn utc(what: &str, text: &str) -> Result<Option<u64>, TicketError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let parsed = jiff::civil::DateTime::strptime("%Y-%m-%d %H:%M:%S", text.trim())
        .ok()
        .and_then(|at| at.to_zoned(jiff::tz::TimeZone::UTC).ok())
        .and_then(|at| u64::try_from(at.timestamp().as_millisecond()).ok());
    parsed
        .map(Some)
        .ok_or_else(|| TicketError::Never(format!("`{text}` of {what} is no moment (YYYY-MM-DD hh:mm:ss, UTC)")))
}

/// The same the other way.
pub(crate) fn utc_text(ms: u64) -> String {
    let at =
        i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Both ends, in order.
///
/// # Errors
/// When the work is to be over before it begins.
pub(crate) fn in_order(key: &str, starts_ms: Option<u64>, ends_ms: Option<u64>) -> Result<(), TicketError> {
    match (starts_ms, ends_ms) {
        (Some(starts), Some(ends)) if ends <= starts => {
            Err(TicketError::Never(format!("{key} is to be over before it begins: its dates have to be mended there")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn moments_have_an_offset_or_are_refused() {
        let at = |text: &str| moment("starts", &json!(text));
        assert_eq!(at("2026-12-08T22:00:00.000-0500"), Ok(Some(1_796_785_200_000)));
        assert_eq!(at("2026-12-09T03:00:00.000Z"), Ok(Some(1_796_785_200_000)));
        assert_eq!(at(" "), Ok(None));
        assert_eq!(moment("starts", &Value::Null), Ok(None));
        for wrong in ["2026-12-08", "2026-12-08T22:00:00", "tomorrow", "2026-13-08T22:00:00Z", "1960-01-01T00:00:00Z"] {
            assert!(at(wrong).is_err(), "{wrong}");
        }
        assert_eq!(utc("start_date", "2026-12-09 03:00:00"), Ok(Some(1_796_785_200_000)));
        assert_eq!(utc_text(1_796_785_200_000), "2026-12-09 03:00:00");
        assert_eq!(utc("start_date", ""), Ok(None));
        assert!(utc("start_date", "09.12.2026 03:00").is_err());
        assert!(in_order("A-1", Some(2), Some(2)).is_err());
    }

    #[test]
    fn texts_are_cut_where_a_character_ends_and_keep_their_mark() {
        let entry = Entry { id: "run/1/ended", text: "ä\u{1b}[31m".repeat(100).leak(), started_ms: 0, end: None };
        let text = marked(&entry, 100);
        assert!(text.len() <= 110 && text.ends_with("\n[runbook run/1/ended]") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn fields_of_any_kind_name_something() {
        assert_eq!(names(&json!(["a", {"name": "b"}, {"value": "c"}])), names(&json!("a, b;c")));
        assert_eq!(
            [yes(&json!(true)), yes(&json!({"value": "No"})), yes(&json!(null))],
            [Some(true), Some(false), None]
        );
        assert_eq!(yes(&json!([{"value": "CUI"}])), Some(true));
        assert!(key("A-1").is_ok() && key("a^b").is_err() && key("../x").is_err() && key("").is_err());
    }
}
