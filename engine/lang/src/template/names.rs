//! The names that a text may use, and what is said when it uses another.

use std::collections::BTreeSet;

/// What is known, before a run, of the names that stand for something in one text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// Declared parameters (`param.*`).
    pub parameters: BTreeSet<String>,
    /// Those of them that are secrets.
    pub secret_parameters: BTreeSet<String>,
    /// Declared secrets (`secret.*`).
    pub secrets: BTreeSet<String>,
    /// Steps that have ended before this one begins (`steps.*`).
    pub steps: BTreeSet<String>,
    /// Steps that exist, but have not ended before this one begins.
    pub other_steps: BTreeSet<String>,
    /// The step was made by `each`: there is an `item`.
    pub item: bool,
    /// It is an operation of a snapshot: there is `snapshot.*`.
    pub snapshot: bool,
    /// It is an `expect…json` expression: there is `json`.
    pub json: bool,
}

/// `host.*` that have no names below them.
pub(crate) const HOST_VALUES: [&str; 8] = ["name", "address", "os", "transport", "cui", "owner", "cui_owner", "risk"];
/// `host.facts.*`.
pub(crate) const FACTS: [&str; 5] = ["os", "os_version", "kernel", "arch", "boot_id"];
/// `run.*`.
pub(crate) const RUN: [&str; 5] = ["id", "ticket", "tier", "operator", "started_at"];
/// `snapshot.*`.
pub(crate) const SNAPSHOT: [&str; 3] = ["id", "reference", "run"];
/// `steps.<id>.*`.
pub(crate) const STEP: [&str; 5] = ["stdout", "stderr", "exit_code", "json", "skipped"];

/// A name that is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

impl Names {
    /// The first segments that exist here.
    fn roots(&self) -> Vec<&'static str> {
        let mut roots = vec!["param", "host", "run", "steps", "secret"];
        for (there, name) in [(self.item, "item"), (self.snapshot, "snapshot"), (self.json, "json")] {
            if there {
                roots.push(name);
            }
        }
        roots
    }

    /// Whether the name is known. With `part` it may be one that has names below it (`host.labels`), as expressions
    /// use them.
    pub(crate) fn check(&self, path: &[String], part: bool) -> Result<(), Unknown> {
        let full = path.join(".");
        let Some(root) = path.first() else { return Ok(()) };
        let second = path.get(1).map(String::as_str);
        match root.as_str() {
            "item" if self.item => Ok(()),
            "json" if self.json => Ok(()),
            "item" => Err(plain("item means something only in a step with `each`")),
            "snapshot" if !self.snapshot => {
                Err(plain("snapshot.* means something only in the operations of a snapshot action"))
            }
            "snapshot" => self.last(path, &SNAPSHOT, part),
            "run" => self.last(path, &RUN, part),
            "param" => match second {
                None => below("param", part),
                Some(name) if self.parameters.contains(name) => Ok(()),
                Some(name) => Err(not_declared("parameter", "param", name, &self.parameters)),
            },
            "secret" => match second {
                None => below("secret", false),
                Some(name) if self.secrets.contains(name) => match path.len() {
                    2 => Ok(()),
                    _ => Err(plain(format!("{full}: a secret has nothing below it"))),
                },
                Some(name) => Err(not_declared("secret", "secret", name, &self.secrets)),
            },
            "host" => match second {
                None => below("host", part),
                Some("labels" | "vars") if path.len() > 2 => match (path.len(), second) {
                    (4.., Some("labels")) => Err(plain(format!("{full}: a label is a text"))),
                    _ => Ok(()),
                },
                Some(name @ ("labels" | "vars")) => below(&format!("host.{name}"), part),
                Some("groups") => Ok(()),
                Some("facts") => self.last(path, &FACTS, part),
                Some(_) => self.last(path, &HOST_VALUES, part),
            },
            "steps" => self.step(path, part),
            name => {
                let roots = self.roots();
                let suggestion = nearest(name, roots.iter().copied()).map(|root| {
                    std::iter::once(root).chain(path[1..].iter().map(String::as_str)).collect::<Vec<_>>().join(".")
                });
                let suggestion = suggestion.or_else(|| {
                    let guess = format!("param.{name}");
                    (path.len() == 1 && self.parameters.contains(name)).then_some(guess)
                });
                Err(Unknown { message: format!("the name {full} is not known"), suggestion })
            }
        }
    }

    fn step(&self, path: &[String], part: bool) -> Result<(), Unknown> {
        let Some(id) = path.get(1) else { return below("steps", false) };
        if !self.steps.contains(id) {
            if self.other_steps.contains(id) {
                return Err(plain(format!("the step {id} has not ended when this step begins; add it to `needs`")));
            }
            let suggestion = nearest(id, self.steps.iter().map(String::as_str))
                .map(|id| [&["steps".to_owned(), id.to_owned()][..], &path[2..]].concat().join("."));
            return Err(Unknown { message: format!("there is no step {id} before this one"), suggestion });
        }
        match path.get(2).map(String::as_str) {
            None => below(&format!("steps.{id}"), part),
            Some("json") => Ok(()),
            Some(name) if STEP.contains(&name) && path.len() == 3 => Ok(()),
            Some(name) if STEP.contains(&name) => Err(plain(format!("steps.{id}.{name} has nothing below it"))),
            Some(name) => Err(Unknown {
                message: format!("a step has no {name}, only {}", STEP.join(", ")),
                suggestion: nearest(name, STEP.into_iter()).map(|name| format!("steps.{id}.{name}")),
            }),
        }
    }

    /// The path's last segment must be one of `known`.
    fn last(&self, path: &[String], known: &[&'static str], part: bool) -> Result<(), Unknown> {
        let depth = if path.get(1).is_some_and(|name| path[0] == "host" && name == "facts") { 2 } else { 1 };
        let prefix = path[..depth].join(".");
        let Some(name) = path.get(depth) else { return below(&prefix, part) };
        if !known.contains(&name.as_str()) {
            let mut names: Vec<&str> = known.to_vec();
            if prefix == "host" {
                names.extend(["labels", "vars", "facts", "groups"]);
            }
            let suggestion = nearest(name, names.iter().copied()).map(|name| format!("{prefix}.{name}"));
            return Err(Unknown { message: format!("{prefix} has no {name}, only {}", names.join(", ")), suggestion });
        }
        if path.len() > depth + 1 {
            return Err(plain(format!("{prefix}.{name} has nothing below it")));
        }
        Ok(())
    }

    /// Whether the name stands for a secret.
    pub(crate) fn is_secret(&self, path: &[String]) -> bool {
        match path.first().map(String::as_str) {
            Some("secret") => true,
            Some("param") => path.get(1).is_some_and(|name| self.secret_parameters.contains(name)),
            _ => false,
        }
    }
}

fn plain(message: impl Into<String>) -> Unknown {
    Unknown { message: message.into(), suggestion: None }
}

fn below(name: &str, part: bool) -> Result<(), Unknown> {
    if part { Ok(()) } else { Err(plain(format!("{name} is a group of names, not a value; name one below it"))) }
}

fn not_declared(what: &str, root: &str, name: &str, known: &BTreeSet<String>) -> Unknown {
    let suggestion = nearest(name, known.iter().map(String::as_str)).map(|name| format!("{root}.{name}"));
    Unknown { message: format!("the {what} {name} is not declared"), suggestion }
}

/// The known name that is most like `name`, if one is like it: at most a third of its letters differ.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    known.map(|other| (distance(name, other), other)).filter(|(d, _)| *d <= limit).min().map(|(_, other)| other)
}

/// How many letters must be put in, taken out, replaced or swapped with the next.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn names() -> Names {
        Names {
            parameters: set(&["package", "min_free", "password"]),
            secret_parameters: set(&["password"]),
            secrets: set(&["db"]),
            steps: set(&["probe", "list-pending"]),
            other_steps: set(&["upgrade"]),
            item: false,
            snapshot: false,
            json: false,
        }
    }

    fn check(text: &str, part: bool) -> Result<(), Unknown> {
        names().check(&text.split('.').map(str::to_owned).collect::<Vec<_>>(), part)
    }

    #[test]
    fn known_names_are_known() {
        for name in [
            "param.package",
            "host.name",
            "host.labels.site",
            "host.vars.a.b",
            "host.groups",
            "host.cui",
            "host.facts.os_version",
            "run.tier",
            "steps.probe.stdout",
            "steps.list-pending.json.packages",
            "secret.db",
        ] {
            assert_eq!(check(name, false), Ok(()), "{name}");
        }
        assert_eq!(check("host.labels", true), Ok(()));
    }

    #[test]
    fn unknown_names_get_a_suggestion_when_one_is_near() {
        for (name, suggestion) in [
            ("param.pakage", Some("param.package")),
            ("params.package", Some("param.package")),
            ("package", Some("param.package")),
            ("host.nmae", Some("host.name")),
            ("host.fact.os", Some("host.facts")),
            ("host.facts.kernal", Some("host.facts.kernel")),
            ("run.tickt", Some("run.ticket")),
            ("steps.prob.stdout", Some("steps.probe.stdout")),
            ("steps.probe.stdot", Some("steps.probe.stdout")),
            ("secret.dB", Some("secret.db")),
            ("steps.upgrade.stdout", None),
            ("steps.probe.stdout.x", None),
            ("item", None),
            ("snapshot.id", None),
            ("json.x", None),
            ("host.labels", None),
            ("host.labels.a.b", None),
            ("param", None),
            ("elephant", None),
        ] {
            let unknown = check(name, false).expect_err(name);
            assert_eq!(unknown.suggestion.as_deref(), suggestion, "{name}: {}", unknown.message);
        }
    }

    #[test]
    fn secrets_are_recognized() {
        for (name, secret) in [("secret.db", true), ("param.password", true), ("param.package", false)] {
            assert_eq!(names().is_secret(&name.split('.').map(str::to_owned).collect::<Vec<_>>()), secret);
        }
    }
}
