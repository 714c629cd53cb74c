//! Which silences mute a number of hosts and nothing else: few for many hosts, each of bounded length.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::{HostName, RunId};
use runbook_ports::monitor::Matcher;
use serde::{Deserialize, Serialize};

/// The label that no alert has: every silence asks that it is not the run's id, which is always so, and is found again by
/// that.
pub const MARK: &str = "runbook_run";

/// More silences than that are not made for a run: somebody has to read the list.
pub const SILENCES_MAX: usize = 200;

/// A regular expression of a silence is not longer than that, but for one host's own. Alertmanager and what stands before it
/// have limits on a silence; this is far below all that are usual.
const REGEX_BYTES_MAX: usize = 8 << 10;

/// A matcher as the API has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) is_regex: bool,
    /// Systems before 0.22 leave it out.
    #[serde(default = "yes")]
    pub(crate) is_equal: bool,
}

fn yes() -> bool {
    true
}

/// A text as it stands in a regular expression (RE2): all that means something there is escaped.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A label's value, and whether it is a regular expression.
type Value<'v> = (&'v str, bool);

/// The matcher by which the silences of a run are found.
pub(crate) fn mark(run: &RunId) -> Wanted {
    Wanted { name: MARK.to_owned(), value: run.to_string(), is_regex: false, is_equal: false }
}

/// What mutes the hosts: the matchers of each silence, sorted. Hosts whose matchers differ in one label alone share silences.
pub(crate) fn of(run: &RunId, hosts: &BTreeMap<HostName, Vec<Matcher>>) -> Result<Vec<Vec<Wanted>>, String> {
    let all: BTreeSet<BTreeMap<&str, Value<'_>>> = hosts
        .iter()
        .map(|(host, matchers)| {
            // Alertmanager takes an empty value for a label that is not there: everything else would be muted.
            match matchers.iter().find(|matcher| matcher.value.is_empty() || matcher.name.is_empty()) {
                Some(empty) => Err(format!("{host}: the matcher for `{}` is empty", empty.name)),
                None if matchers.is_empty() => Err(format!("{host}: nothing says which alerts are its own")),
                None => Ok(matchers.iter().map(|one| (one.name.as_str(), (one.value.as_str(), one.regex))).collect()),
            }
        })
        .collect::<Result<_, _>>()?;
    // The label that tells most hosts apart is the one that is joined.
    let mut values: BTreeMap<&str, BTreeSet<Value<'_>>> = BTreeMap::new();
    for (name, value) in all.iter().flatten() {
        values.entry(name).or_default().insert(*value);
    }
    let joined = values.iter().max_by_key(|(name, values)| (values.len(), std::cmp::Reverse(**name)));
    let joined = joined.map(|(name, _)| *name).unwrap_or_default();
    let mut groups: BTreeMap<Vec<(&str, Value<'_>)>, BTreeSet<Value<'_>>> = BTreeMap::new();
    for mut matchers in all {
        let own = matchers.remove(joined);
        groups.entry(matchers.into_iter().collect()).or_default().extend(own);
    }
    let mut out = Vec::new();
    for (rest, values) in groups {
        let rest = rest.into_iter().map(|(name, (value, is_regex))| wanted(name, value.to_owned(), is_regex));
        let rest: Vec<Wanted> = rest.chain([mark(run)]).collect();
        let joins = join(values);
        if joins.is_empty() {
            out.push(rest.clone());
        }
        for (value, is_regex) in joins {
            let mut silence = rest.clone();
            silence.push(wanted(joined, value, is_regex));
            silence.sort();
            out.push(silence);
        }
    }
    for silence in &mut out {
        silence.sort();
    }
    if out.len() > SILENCES_MAX {
        return Err(format!(
            "{} silences would be needed, and more than {SILENCES_MAX} are not made: hosts share one when their matchers \
             differ in one label alone",
            out.len()
        ));
    }
    Ok(out)
}

fn wanted(name: &str, value: String, is_regex: bool) -> Wanted {
    Wanted { name: name.to_owned(), value, is_regex, is_equal: true }
}

/// One value that fits any of them; several when it would be too long.
fn join(values: BTreeSet<Value<'_>>) -> Vec<(String, bool)> {
    if let [(value, is_regex)] = values.iter().copied().collect::<Vec<_>>()[..] {
        return vec![(value.to_owned(), is_regex)];
    }
    let mut out: Vec<(String, bool)> = Vec::new();
    for (value, is_regex) in values {
        // In a group of its own: neither its alternatives nor its flags reach the others.
        let one = if is_regex { format!("(?:{value})") } else { quoted(value) };
        match out.last_mut().filter(|(all, _)| all.len() + 1 + one.len() <= REGEX_BYTES_MAX) {
            Some((all, _)) => {
                all.push('|');
                all.push_str(&one);
            }
            None => out.push((one, true)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(name: &str, matchers: &[(&str, &str, bool)]) -> (HostName, Vec<Matcher>) {
        let matcher = |(name, value, regex): &(&str, &str, bool)| Matcher {
            name: (*name).into(),
            value: (*value).into(),
            regex: *regex,
        };
        (name.into(), matchers.iter().map(matcher).collect())
    }

    fn made(hosts: Vec<(HostName, Vec<Matcher>)>) -> Vec<Vec<Wanted>> {
        of(&"r1".into(), &hosts.into_iter().collect()).unwrap()
    }

    /// Whether Alertmanager would mute an alert with these labels.
    fn mutes(silence: &[Wanted], labels: &BTreeMap<&str, &str>) -> bool {
        silence.iter().all(|matcher| {
            let value = labels.get(matcher.name.as_str()).copied().unwrap_or_default();
            let fits = match matcher.is_regex {
                true => regex::Regex::new(&format!("^(?:{})$", matcher.value)).unwrap().is_match(value),
                false => matcher.value == value,
            };
            fits == matcher.is_equal
        })
    }

    #[test]
    fn one_host_has_its_matchers_as_they_are() {
        let silences = made(vec![host("a", &[("instance", "a:9100", false), ("env", "prod", false)])]);
        let names: Vec<_> =
            silences[0].iter().map(|one| (one.name.as_str(), one.value.as_str(), one.is_regex)).collect();
        assert_eq!(names, [("env", "prod", false), ("instance", "a:9100", false), (MARK, "r1", false)]);
    }

    #[test]
    fn thousands_of_hosts_need_a_few_silences_of_bounded_length() {
        let names: Vec<String> = (0..5_000).map(|no| format!("web{no:04}.prod.example.com")).collect();
        let hosts = names.iter().map(|name| host(name, &[("instance", &format!("{}(:[0-9]+)?", quoted(name)), true)]));
        let silences = made(hosts.collect());
        assert!(silences.len() < 40, "{}", silences.len());
        let length = |silence: &Vec<Wanted>| silence.iter().map(|one| one.value.len()).max().unwrap();
        assert!(silences.iter().all(|silence| length(silence) <= REGEX_BYTES_MAX));
        let total: usize = silences.iter().map(|silence| silence[0].value.split('|').count()).sum();
        assert_eq!(total, 5_000);
    }

    #[test]
    fn a_second_label_that_differs_makes_groups() {
        let hosts = (0..30).map(|no| {
            let site = ["east", "west"][no % 2];
            host(&format!("h{no}"), &[("instance", &format!("h{no}"), false), ("site", site, false)])
        });
        let silences = made(hosts.collect());
        assert_eq!(silences.len(), 2);
        assert!(!mutes(&silences[0], &[("instance", "h1"), ("site", "east")].into()));
        assert!(mutes(&silences[0], &[("instance", "h0"), ("site", "east")].into()));
    }

    #[test]
    fn nothing_is_muted_for_want_of_a_value() {
        let of = |matchers: &[(&str, &str, bool)]| of(&"r1".into(), &[host("a", matchers)].into());
        assert!(of(&[("instance", "", false)]).unwrap_err().contains("is empty"));
        assert!(of(&[]).unwrap_err().contains("nothing says"));
    }

    #[test]
    fn more_silences_than_anybody_would_read_are_not_made() {
        let hosts = (0..400)
            .map(|no| host(&format!("h{no}"), &[("a", &format!("a{no}"), false), ("b", &format!("b{no}"), false)]));
        assert!(of(&"r1".into(), &hosts.collect()).unwrap_err().starts_with("400 silences"));
    }

    proptest! {
        /// Whatever hosts are called, their alerts are muted and no others.
        #[test]
        fn only_these_hosts_are_muted(
            names in prop::collection::btree_set("[a-c.*|()$^\\\\+?\\[\\]{},\"é\n ]{1,6}", 1..6),
            other in "[a-c.*|()$^\\\\+?\\[\\]{},\"é\n ]{1,6}",
        ) {
            let hosts = names.iter().enumerate().map(|(no, name)| {
                // Half of them as texts, half as expressions.
                let value = if no % 2 == 0 { name.clone() } else { format!("{}(:[0-9]+)?", quoted(name)) };
                host(&format!("h{no}"), &[("instance", value.as_str(), no % 2 == 1)])
            });
            let silences = made(hosts.collect());
            for name in &names {
                prop_assert!(silences.iter().any(|silence| mutes(silence, &[("instance", name.as_str())].into())));
            }
            let wrong = silences.iter().any(|silence| mutes(silence, &[("instance", other.as_str())].into()));
            prop_assert_eq!(wrong, names.contains(&other));
        }
    }
}
