//! What of a host stands in the labels of its alerts: a text with `{{ host.name }}` and the like in it.

use std::collections::BTreeMap;

use runbook_model::Host;
use runbook_monitoring::quoted;
use runbook_ports::monitor::Matcher;

use crate::settings::section::hint;

/// What a text with this at its beginning is.
const REGEX: &str = "=~";

/// What stands for something of a host.
const NAMES: [&str; 3] = ["host.name", "host.address", "host.labels.NAME"];

/// A text, or a regular expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    regex: bool,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name,
    Address,
    Label(String),
}

impl Pattern {
    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (regex, mut rest) = match text.strip_prefix(REGEX) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let mut pieces = Vec::new();
        while let Some((before, after)) = rest.split_once("{{") {
            let (inner, after) = after.split_once("}}").ok_or("`{{` is not closed by `}}`")?;
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(match inner.trim() {
                "host.name" => Piece::Name,
                "host.address" => Piece::Address,
                other => match other.strip_prefix("host.labels.").filter(|name| !name.is_empty()) {
                    Some(name) => Piece::Label(name.to_owned()),
                    None => {
                        let hint = hint(other, NAMES);
                        return Err(format!("there is no `{other}`{hint}"));
                    }
                },
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        if pieces.is_empty() {
            return Err("it is empty".into());
        }
        Ok(Self { regex, pieces })
    }

    /// Whether it says which host.
    pub(crate) fn tells_hosts_apart(&self) -> bool {
        self.pieces.iter().any(|piece| !matches!(piece, Piece::Text(_)))
    }

    /// The value for a host. What comes from the inventory means nothing in a regular expression.
    ///
    /// # Errors
    /// When it has nothing there: what is empty would fit others.
    fn of(&self, host: &Host) -> Result<String, String> {
        let mut out = String::new();
        for piece in &self.pieces {
            let (what, value) = match piece {
                Piece::Text(text) => {
                    out.push_str(text);
                    continue;
                }
                Piece::Name => ("host.name".to_owned(), host.name.as_str()),
                Piece::Address => ("host.address".to_owned(), host.address.as_str()),
                Piece::Label(name) => {
                    (format!("host.labels.{name}"), host.labels.get(name).map(String::as_str).unwrap_or_default())
                }
            };
            if value.is_empty() {
                return Err(format!("{} has no {what}, and without it alerts of others would be muted", host.name));
            }
            if self.regex {
                out.push_str(&quoted(value));
            } else {
                out.push_str(value);
            }
        }
        Ok(out)
    }
}

/// The matchers of a host.
///
/// # Errors
/// When something of it is empty.
pub(crate) fn matchers(patterns: &BTreeMap<String, Pattern>, host: &Host) -> Result<Vec<Matcher>, String> {
    let matcher = |(name, pattern): (&String, &Pattern)| {
        Ok(Matcher { name: name.clone(), value: pattern.of(host)?, regex: pattern.regex })
    };
    patterns.iter().map(matcher).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        Host {
            address: "10.0.0.7".into(),
            labels: [("site".to_owned(), "a|b".to_owned())].into(),
            ..Host::named("fs.1", "ssh")
        }
    }

    fn of(text: &str) -> Result<String, String> {
        Pattern::parse(text)?.of(&host())
    }

    #[test]
    fn what_comes_from_the_inventory_means_nothing_in_an_expression() {
        assert_eq!(of("{{host.name}}:9100").as_deref(), Ok("fs.1:9100"));
        assert_eq!(of("=~{{ host.name }}(:[0-9]+)?").as_deref(), Ok("fs\\.1(:[0-9]+)?"));
        assert_eq!(of("=~{{ host.labels.site }}").as_deref(), Ok("a\\|b"));
        assert_eq!(of("{{ host.address }}/{{ host.name }}").as_deref(), Ok("10.0.0.7/fs.1"));
    }

    #[test]
    fn what_is_not_there_is_an_error_and_not_empty() {
        assert!(of("{{ host.labels.team }}").unwrap_err().contains("has no host.labels.team"));
        for (wrong, why) in [
            ("{{ host.nam }}", "did you mean `host.name`?"),
            ("{{ host.name", "not closed"),
            ("", "empty"),
            ("=~", "empty"),
        ] {
            assert!(Pattern::parse(wrong).unwrap_err().contains(why), "{wrong}");
        }
        assert!(!Pattern::parse("prod").unwrap().tells_hosts_apart());
    }
}
