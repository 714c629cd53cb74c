//! Single values: what a word means depends on the field, and words that YAML's versions read differently are refused
//! wherever their meaning would matter.

use runbook_model::units::{Share, parse_duration_ms, parse_size};
use serde_json::{Map, Value};

use super::fields::Problems;
use crate::codes::Code;
use crate::similar;
use crate::source::{Spanned, Text};
use crate::yaml::{Content, Node, shown};

/// A text, as written: `1.10` and `true` are texts too where a text is wanted.
pub(crate) fn text(node: &Node, key: &str, problems: &mut Problems) -> Option<Text> {
    match &node.content {
        Content::Scalar { text, .. } if !node.is_null() => {
            if text.contains('\0') {
                problems.error(Code::InvalidValue, &node.span, format!("`{key}` holds a NUL character"));
                return None;
            }
            Some(Text::new(text.clone(), node.span.clone()))
        }
        Content::Mapping(_) if node.span.text().starts_with("{{") => {
            problems
                .error(Code::WrongType, &node.span, format!("`{key}` takes a text, and this is a mapping to YAML"))
                .help = Some(format!("put it in quotes: \"{}\"", shown(node.span.text())));
            None
        }
        _ => {
            problems.wrong_type(node, key, "a text", "");
            None
        }
    }
}

/// A text that is not empty.
pub(crate) fn filled(node: &Node, key: &str, problems: &mut Problems) -> Option<Text> {
    let text = text(node, key, problems)?;
    if text.value.trim().is_empty() {
        problems.error(Code::InvalidValue, &node.span, format!("`{key}` is empty"));
        return None;
    }
    Some(text)
}

/// A text in which templates stand for nothing.
pub(crate) fn literal(node: &Node, key: &str, problems: &mut Problems) -> Option<Text> {
    let text = filled(node, key, problems)?;
    if text.value.contains("{{") {
        problems.error(Code::NotHere, &text.span, format!("`{key}` cannot hold a template")).help =
            Some("write the value itself: it must be known before the plan is made".into());
        return None;
    }
    Some(text)
}

/// One text or a list of them.
pub(crate) fn texts(node: &Node, key: &str, problems: &mut Problems) -> Vec<Text> {
    match &node.content {
        Content::List(items) => items.iter().filter_map(|item| text(item, key, problems)).collect(),
        _ => text(node, key, problems).into_iter().collect(),
    }
}

/// A list of texts.
pub(crate) fn text_list(node: &Node, key: &str, example: &str, problems: &mut Problems) -> Vec<Text> {
    super::fields::items(node, key, example, problems).iter().filter_map(|item| filled(item, key, problems)).collect()
}

fn plain(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Scalar { text, plain: true } => Some(text),
        _ => None,
    }
}

/// `true` or `false`.
pub(crate) fn boolean(node: &Node, key: &str, problems: &mut Problems) -> Option<bool> {
    match plain(node) {
        Some("true" | "True" | "TRUE") => Some(true),
        Some("false" | "False" | "FALSE") => Some(false),
        Some(word) if is_yes_no(word) => {
            problems
                .error(Code::AmbiguousWord, &node.span, format!("`{key}` takes true or false, not `{word}`"))
                .help = Some("some YAML readers take yes, no, on and off for true and false, others do not".into());
            None
        }
        _ => {
            problems.wrong_type(node, key, "true or false", &format!("{key}: true"));
            None
        }
    }
}

/// A whole number between `low` and `high`.
pub(crate) fn integer(node: &Node, key: &str, low: i64, high: i64, problems: &mut Problems) -> Option<i64> {
    let Some(word) = plain(node) else {
        problems.wrong_type(node, key, "a whole number", &format!("{key}: {}", low.max(1)));
        return None;
    };
    match whole(word) {
        Some(number) if (low..=high).contains(&number) => Some(number),
        Some(number) => {
            problems.error(Code::InvalidValue, &node.span, format!("`{key}` is {number}")).help =
                Some(if high == i64::MAX {
                    format!("it must be at least {low}")
                } else {
                    format!("it must be between {low} and {high}")
                });
            None
        }
        None if is_odd_number(word) => {
            ambiguous(node, word, problems);
            None
        }
        None => {
            problems.wrong_type(node, key, "a whole number", &format!("{key}: {}", low.max(1)));
            None
        }
    }
}

/// A whole number in the one form that all YAML readers agree on.
pub(crate) fn whole(word: &str) -> Option<i64> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let plain = digits == "0" || (!digits.starts_with('0') && !digits.is_empty());
    (plain && digits.bytes().all(|b| b.is_ascii_digit())).then(|| word.parse().ok()).flatten()
}

/// A number with a fraction, in the one form that all agree on.
pub(crate) fn is_decimal(word: &str) -> bool {
    let (head, tail) = word.split_once('.').unwrap_or((word, "0"));
    let digits = head.strip_prefix('-').unwrap_or(head);
    (digits == "0" || (!digits.starts_with('0') && !digits.is_empty()))
        && digits.bytes().all(|b| b.is_ascii_digit())
        && !tail.is_empty()
        && tail.bytes().all(|b| b.is_ascii_digit())
}

fn is_yes_no(word: &str) -> bool {
    ["yes", "no", "on", "off", "y", "n"].iter().any(|odd| word.eq_ignore_ascii_case(odd))
}

/// Looks like a number, and YAML's versions do not agree which: `010`, `0x1f`, `1_000`, `12:30:00`, `1e3`, `.5`, `+1`.
fn is_odd_number(word: &str) -> bool {
    if whole(word).is_some() || is_decimal(word) {
        return false;
    }
    let body = word.strip_prefix(['-', '+']).unwrap_or(word);
    let lower = body.to_ascii_lowercase();
    if matches!(lower.as_str(), ".inf" | ".nan") {
        return true;
    }
    if let Some(hex) = lower.strip_prefix("0x") {
        return !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit() || b == b'_');
    }
    if let Some(digits) = lower.strip_prefix("0o").or_else(|| lower.strip_prefix("0b")) {
        return !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    }
    let number = lower.split_once('e').map_or(lower.as_str(), |(head, exponent)| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) { head } else { "x" }
    });
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let dots = number.bytes().filter(|b| *b == b'.').count();
    let colons = number.split(':').skip(1).all(|part| part.len() <= 2 && !part.is_empty());
    digits > 0
        && dots <= 1
        && colons
        && number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'_' | b':'))
        && number.starts_with(|c: char| c.is_ascii_digit() || c == '.')
}

fn ambiguous(node: &Node, word: &str, problems: &mut Problems) {
    problems
        .error(Code::AmbiguousWord, &node.span, format!("YAML readers do not agree on what `{}` is", shown(word)))
        .help =
        Some(format!("put it in quotes to mean the text ('{}'), or write a plain number or true, false", shown(word)));
}

/// Any value: texts, whole numbers, true, false, lists and mappings of them. A number with a fraction stays a text as
/// written (the canonical JSON of a plan has no floating point). Words on which YAML's versions differ are reported.
pub(crate) fn value(node: &Node, problems: &mut Problems) -> Option<Value> {
    match &node.content {
        Content::Scalar { text, plain: false } => Some(Value::String(text.clone())),
        Content::Scalar { text, plain: true } => {
            if node.is_null() {
                return Some(Value::Null);
            }
            match text.as_str() {
                "true" | "True" | "TRUE" => Some(Value::Bool(true)),
                "false" | "False" | "FALSE" => Some(Value::Bool(false)),
                word => {
                    if let Some(number) = whole(word) {
                        return Some(number.into());
                    }
                    if is_yes_no(word) || is_odd_number(word) {
                        ambiguous(node, word, problems);
                        return None;
                    }
                    Some(Value::String(text.clone()))
                }
            }
        }
        Content::List(items) => {
            let values: Vec<_> = items.iter().map(|item| value(item, problems)).collect();
            values.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
        }
        Content::Mapping(entries) => {
            let mut map = Map::new();
            let mut whole = true;
            for entry in entries {
                match value(&entry.value, problems) {
                    Some(value) => {
                        map.insert(entry.key.value.clone(), value);
                    }
                    None => whole = false,
                }
            }
            whole.then_some(Value::Object(map))
        }
    }
}

/// [`value`] with its place.
pub(crate) fn spanned_value(node: &Node, problems: &mut Problems) -> Option<Spanned<Value>> {
    value(node, problems).map(|value| Spanned::new(value, node.span.clone()))
}

/// A duration in milliseconds.
pub(crate) fn duration_ms(node: &Node, key: &str, problems: &mut Problems) -> Option<u64> {
    let text = written(node, key, "a duration", &format!("{key}: 15m"), problems)?;
    match parse_duration_ms(&text.value) {
        Ok(ms) => Some(ms),
        Err(error) => {
            problems.error(Code::InvalidValue, &node.span, format!("`{key}`: {error}"));
            None
        }
    }
}

/// A duration that is not zero.
pub(crate) fn positive_ms(node: &Node, key: &str, problems: &mut Problems) -> Option<u64> {
    let ms = duration_ms(node, key, problems)?;
    if ms == 0 {
        problems.error(Code::InvalidValue, &node.span, format!("`{key}` is zero")).help =
            Some("write how long, for example 15m".into());
        return None;
    }
    Some(ms)
}

/// A size in bytes.
pub(crate) fn size_bytes(node: &Node, key: &str, problems: &mut Problems) -> Option<u64> {
    let text = written(node, key, "a size", &format!("{key}: 512MiB"), problems)?;
    match parse_size(&text.value) {
        Ok(bytes) if i64::try_from(bytes).is_ok() => Some(bytes),
        Ok(_) => {
            problems.error(Code::InvalidValue, &node.span, format!("`{key}` is too large"));
            None
        }
        Err(error) => {
            problems.error(Code::InvalidValue, &node.span, format!("`{key}`: {error}"));
            None
        }
    }
}

/// A count or a percentage.
pub(crate) fn share(node: &Node, key: &str, problems: &mut Problems) -> Option<Share> {
    let text = written(node, key, "a count or a percentage", &format!("{key}: 50%"), problems)?;
    match text.value.parse() {
        Ok(share) => Some(share),
        Err(error) => {
            problems.error(Code::InvalidValue, &node.span, format!("`{key}`: {error}"));
            None
        }
    }
}

/// A scalar of a form of its own, written out.
fn written(node: &Node, key: &str, wanted: &str, example: &str, problems: &mut Problems) -> Option<Text> {
    match &node.content {
        Content::Scalar { text, .. } if !node.is_null() && !text.contains("{{") => {
            Some(Text::new(text.clone(), node.span.clone()))
        }
        Content::Scalar { text, .. } if text.contains("{{") => {
            problems.error(Code::NotHere, &node.span, format!("`{key}` cannot hold a template")).help =
                Some("write the value itself: it must be known before the plan is made".into());
            None
        }
        _ => {
            problems.wrong_type(node, key, wanted, example);
            None
        }
    }
}

/// One of a few words.
pub(crate) fn word<T: Copy>(node: &Node, key: &str, words: &[(&str, T)], problems: &mut Problems) -> Option<T> {
    let all = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
    let Content::Scalar { text, .. } = &node.content else {
        problems.wrong_type(node, key, &format!("one of {}", all().join(", ")), "");
        return None;
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
        return Some(*value);
    }
    let hint = similar::hint(text, all(), "it is one of");
    problems.error(Code::InvalidValue, &node.span, format!("`{key}` cannot be `{}`", shown(text))).help = hint;
    None
}

/// A name that follows `rule`; `rules` says it to people.
pub(crate) fn name(
    text: Text,
    key: &str,
    rule: fn(&str) -> bool,
    rules: &str,
    problems: &mut Problems,
) -> Option<Text> {
    if rule(&text.value) {
        return Some(text);
    }
    problems.error(Code::InvalidName, &text.span, format!("`{}` cannot be {key}", shown(&text.value))).help =
        Some(format!("use {rules}"));
    None
}
