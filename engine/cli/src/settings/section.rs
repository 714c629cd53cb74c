//! A section of `runbook.toml` about one of several of a kind, such as `[notify.NAME]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use runbook_lang::similar::nearest;
use runbook_model::plan::{SecretRef, Tier};
use runbook_model::units::parse_duration_ms;

/// Whether somebody may be called so in the settings.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    !name.is_empty() && name.len() <= 64 && name.chars().all(plain)
}

/// What may have been meant instead of a word that is not known, to stand behind a sentence.
pub(crate) fn hint<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(word, known.iter().copied()) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; known: {}", known.join(", ")),
    }
}

/// Whether a list of runbooks has this one; a `*` at the end stands for the rest of a name, and no list for all.
pub(crate) fn names(runbooks: &[String], runbook: &str) -> bool {
    let fits = |pattern: &String| match pattern.strip_suffix('*') {
        Some(beginning) => runbook.starts_with(beginning),
        None => pattern == runbook,
    };
    runbooks.is_empty() || runbooks.iter().any(fits)
}

/// A section that is being read; its problems are told as they are found.
pub(crate) struct Section<'a> {
    pub(crate) table: &'a toml::Table,
    pub(crate) folder: &'a Path,
    pub(crate) problem: &'a mut dyn FnMut(&str, String),
    pub(crate) bad: bool,
}

impl Section<'_> {
    pub(crate) fn wrong(&mut self, key: &str, text: String) {
        self.bad = true;
        (self.problem)(key, text);
    }

    /// Holds its name to what may be one; `whose`: `a channel's`.
    pub(crate) fn named(&mut self, name: &str, whose: &str) {
        if !is_name(name) {
            self.wrong(
                "kind",
                format!("`{name}` cannot be {whose} name: small letters, digits, `-` and `_`, at most 64"),
            );
        }
    }

    /// Its `kind`, one of these. `what`: `channel`; `needs`: `a channel needs`.
    pub(crate) fn kind(&mut self, kinds: &[&'static str], what: &str, needs: &str) -> Option<&'static str> {
        match self.table.get("kind") {
            Some(toml::Value::String(kind)) if !kind.is_empty() => {
                let known = kinds.iter().find(|known| *known == kind).copied();
                if known.is_none() {
                    let hint = hint(kind, kinds.iter().copied());
                    self.wrong("kind", format!("there is no {what} of kind `{kind}`{hint}"));
                }
                known
            }
            Some(_) | None => {
                self.wrong("kind", format!("{needs} `kind`, one of \"{}\"", kinds.join("\", \"")));
                None
            }
        }
    }

    /// Reports keys that are not known, beside `kind`; `of`: `a channel of kind smtp`.
    pub(crate) fn only(&mut self, known: &[&str], of: &str) {
        for key in self.table.keys().filter(|key| *key != "kind" && !known.contains(&key.as_str())) {
            let hint = hint(key, known.iter().copied());
            self.wrong(key, format!("unknown key `{key}` for {of}{hint}"));
        }
    }

    /// How long an answer is waited for.
    pub(crate) fn timeout(&mut self, usual: Duration, most: Duration) -> Duration {
        let timeout = self.duration("timeout").map_or(usual, Duration::from_millis);
        if timeout > most {
            self.wrong("timeout", format!("`timeout` must not be longer than {} s", most.as_secs()));
        }
        timeout
    }

    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        match self.table.get(key)? {
            toml::Value::String(text) if !text.is_empty() => Some(text.clone()),
            _ => {
                self.wrong(key, format!("`{key}` must be a text in quotes"));
                None
            }
        }
    }

    pub(crate) fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key).map(|path| self.folder.join(path))
    }

    pub(crate) fn duration(&mut self, key: &str) -> Option<u64> {
        match parse_duration_ms(&self.text(key)?) {
            Ok(0) => {
                self.wrong(key, format!("`{key}` must not be 0"));
                None
            }
            Ok(ms) => Some(ms),
            Err(error) => {
                self.wrong(key, error.to_string());
                None
            }
        }
    }

    /// Texts in brackets, at least one.
    pub(crate) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let texts = match self.table.get(key)? {
            toml::Value::Array(values) => {
                let texts: Option<Vec<String>> = values.iter().map(|value| value.as_str().map(str::to_owned)).collect();
                texts.filter(|texts| !texts.is_empty())
            }
            _ => None,
        };
        if texts.is_none() {
            self.wrong(key, format!("`{key}` must be a list of texts, such as [\"one\", \"other\"]"));
        }
        texts
    }

    pub(crate) fn tiers(&mut self) -> Vec<Tier> {
        let all = [Tier::Routine, Tier::Corrective, Tier::Emergency];
        let mut found = Vec::new();
        for word in self.list("tiers").unwrap_or_default() {
            match all.into_iter().find(|tier| tier.name() == word) {
                Some(tier) => found.push(tier),
                None => self.wrong("tiers", format!("`{word}` is no tier; known: routine, corrective, emergency")),
            }
        }
        found
    }

    /// `{ env = NAME }`, `{ file = PATH }` or `{ command = [PROGRAM, …] }`.
    pub(crate) fn secret(&mut self, key: &str) -> Option<SecretRef> {
        let value = self.table.get(key)?;
        let found = match value {
            toml::Value::Table(table) if table.len() == 1 => match table.iter().next() {
                Some((word, toml::Value::String(text))) if word == "env" && !text.is_empty() => {
                    Some(SecretRef::Env(text.clone()))
                }
                Some((word, toml::Value::String(text))) if word == "file" && !text.is_empty() => {
                    Some(SecretRef::File(text.clone()))
                }
                Some((word, toml::Value::Array(words))) if word == "command" && !words.is_empty() => {
                    let words: Option<Vec<String>> =
                        words.iter().map(|word| word.as_str().map(str::to_owned)).collect();
                    words.map(SecretRef::Command)
                }
                _ => None,
            },
            _ => None,
        };
        if found.is_none() {
            let hint = if value.is_str() { "a secret does not stand in this file: " } else { "" };
            self.wrong(
                key,
                format!(
                    "{hint}`{key}` must be {{ env = \"NAME\" }}, {{ file = \"PATH\" }} or {{ command = [\"PROGRAM\"] }}"
                ),
            );
        }
        found
    }
}
