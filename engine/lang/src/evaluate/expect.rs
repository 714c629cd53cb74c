//! What was expected, and what was seen.

use runbook_model::evaluate::{Kept, Scope};
use runbook_model::outcome::Exit;
use runbook_model::plan::{ExpectText, Step, Template};
use serde_json::Value;

use super::cache::Cache;
use super::values::ScopeValues;
use crate::expression::Answer;
use crate::template::{Output, Place};

/// So many characters of a text are shown.
const SHOWN_MAX: usize = 160;

pub(super) fn unmet(
    cache: &Cache,
    scope: &Scope<'_>,
    step: &Step,
    exit: Exit,
    stdout: Kept<'_>,
    stderr: Kept<'_>,
) -> Vec<String> {
    let mut unmet = Vec::new();
    match exit {
        Exit::Code(code) if step.expect.exit_codes.contains(&code) => {}
        Exit::Code(code) => {
            let wanted: Vec<String> = step.expect.exit_codes.iter().map(i32::to_string).collect();
            unmet.push(format!("expected exit code {}, got {code}", wanted.join(" or ")));
        }
        // A shell says 128 + n for signal n, and nobody can tell the two apart: whoever expects 143 gets it.
        Exit::Signal(signal) if step.expect.exit_codes.contains(&(128 + signal)) => {}
        Exit::Signal(signal) => unmet.push(format!("expected an exit code, was ended by signal {signal}")),
    }
    let streams = [("stdout", &step.expect.stdout, stdout), ("stderr", &step.expect.stderr, stderr)];
    for (name, expected, kept) in streams {
        if let Some(expected) = expected {
            let judge = Judge { cache, scope, step, name };
            judge.stream(expected, kept, &mut unmet);
        }
    }
    unmet
}

struct Judge<'s> {
    cache: &'s Cache,
    scope: &'s Scope<'s>,
    step: &'s Step,
    name: &'static str,
}

impl Judge<'_> {
    fn stream(&self, expected: &ExpectText, kept: Kept<'_>, unmet: &mut Vec<String>) {
        let name = self.name;
        if *expected == ExpectText::default() {
            return;
        }
        if !kept.whole {
            unmet.push(format!(
                "{name} is longer than what is kept of it, so it cannot be judged (raise the step's output limit)"
            ));
            return;
        }
        let text = String::from_utf8_lossy(kept.bytes);
        let seen = shown(&text);
        if let Some(wanted) = &expected.equals {
            match self.wanted("equals", wanted) {
                Ok(wanted) if without_line_end(&wanted) == without_line_end(&text) => {}
                Ok(wanted) => unmet.push(format!("expected {name} to equal {}, got {seen}", shown(&wanted))),
                Err(message) => unmet.push(message),
            }
        }
        for wanted in &expected.contains {
            match self.wanted("contains", wanted) {
                Ok(wanted) if text.contains(&wanted) => {}
                Ok(wanted) => unmet.push(format!("expected {name} to contain {}, got {seen}", shown(&wanted))),
                Err(message) => unmet.push(message),
            }
        }
        for (pattern, wanted) in [(&expected.matches, true), (&expected.not_matches, false)] {
            let Some(pattern) = pattern else { continue };
            let word = if wanted { "match" } else { "not match" };
            match self.cache.pattern(pattern) {
                Ok(regex) => match regex.find(&text) {
                    None if wanted => unmet.push(format!("expected {name} to match {}, got {seen}", shown(pattern))),
                    Some(found) if !wanted => unmet.push(format!(
                        "expected {name} to {word} {}, and it has {}",
                        shown(pattern),
                        shown(found.as_str())
                    )),
                    _ => {}
                },
                Err(message) => unmet.push(format!("expected {name} to {word}: {message}")),
            }
        }
        match (expected.empty, text.trim().is_empty()) {
            (Some(true), false) => unmet.push(format!("expected {name} to be empty, got {seen}")),
            (Some(false), true) => unmet.push(format!("expected {name} not to be empty, and it is")),
            _ => {}
        }
        if let Some(condition) = &expected.json
            && let Err(message) = self.json(&condition.0, &text)
        {
            unmet.push(message);
        }
    }

    fn wanted(&self, key: &str, template: &Template) -> Result<String, String> {
        if !template.0.contains("{{") {
            return Ok(template.0.clone());
        }
        let failed = |message: String| format!("expect.{}.{key}: {message}", self.name);
        let values = ScopeValues::of_step(self.cache, self.scope, self.step);
        let template = self.cache.template(&template.0, Place::Plain).map_err(failed)?;
        template.render(&values).map(Output::into_plain).map_err(|(_, message)| failed(message))
    }

    fn json(&self, condition: &str, text: &str) -> Result<(), String> {
        let name = self.name;
        let json: Value = serde_json::from_str(text)
            .map_err(|error| format!("expected {name} to be JSON ({error}), got {}", shown(text)))?;
        let failed = |message: String| format!("expected `{condition}` of {name}: {message}");
        let expression = self.cache.expression(condition).map_err(failed)?;
        let values = ScopeValues::of_step(self.cache, self.scope, self.step).with_json(&json);
        match expression.judge(&values).map_err(failed)? {
            Answer::Known(true) => Ok(()),
            Answer::Known(false) => Err(format!("expected `{condition}` of {name}, got {}", shown(text))),
            Answer::Unknown(names) => Err(failed(format!("{} is not known", super::join(&names)))),
        }
    }
}

/// One line end at the end does not count.
fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// A text as shown to people: in quotes, shortened, control characters escaped.
fn shown(text: &str) -> String {
    let text = without_line_end(text);
    if text.is_empty() {
        return "nothing".into();
    }
    let mut shown = String::from("\"");
    for c in text.chars().take(SHOWN_MAX) {
        match c {
            '"' => shown.push('"'),
            // Marks that turn the direction of writing or take no room would hide what follows.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => {
                shown.extend(c.escape_unicode());
            }
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    let more = text.chars().count().saturating_sub(SHOWN_MAX);
    shown.push_str(&if more > 0 { format!("…\" and {more} characters more") } else { "\"".to_owned() });
    shown
}
