//! Every step's texts on every host, as far as they can be known before the run.
//!
//! A plan of 1,000 hosts and 50 steps has 50,000 cells, but most texts are the same everywhere. So a cell is rendered
//! only when no earlier host had the same values for all that the step's texts use of a host.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::evaluate::{Evaluate, EvaluateError, Rendered, Scope, When};
use runbook_model::host::Host;
use runbook_model::id::{HostName, StepId};
use runbook_model::plan::{Plan, Step};
use serde_json::Value;

/// What a step is on some hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variant {
    /// Its texts.
    pub(crate) rendered: Rendered,
    /// Whether it runs there.
    pub(crate) due: Due,
}

/// Whether `when` holds, as far as it can be known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Due {
    /// It does, or there is none.
    Yes,
    /// That turns out in the run, for this reason.
    Open(String),
    /// It does not, for this reason.
    No(String),
}

/// A step on all hosts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cells {
    /// The distinct ones, in the order of the first host that each is for.
    pub(crate) variants: Vec<Variant>,
    /// For each host (in the order given to [`cells`]) the number of its variant.
    pub(crate) of_host: Vec<usize>,
}

/// Every step of one plan on its hosts, in plan order.
#[derive(Debug, Clone)]
pub struct Renderings(pub(crate) Vec<Cells>);

/// A step that cannot be rendered on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) step: StepId,
    /// The first host with this message.
    pub(crate) host: HostName,
    /// How many hosts have it.
    pub(crate) hosts: usize,
    pub(crate) message: String,
}

/// A host and what templates see of it.
pub(crate) struct Seen<'a> {
    pub(crate) host: &'a Host,
    value: Value,
}

/// The hosts of `plan` in the order of its batches.
pub(crate) fn seen(plan: &Plan) -> Vec<Seen<'_>> {
    plan.batches
        .iter()
        .flatten()
        .filter_map(|name| plan.hosts.get(name))
        .map(|host| Seen { host, value: serde_json::to_value(host).expect("a host is representable as JSON") })
        .collect()
}

/// For what a host has for some names: the number of the variant, or of the failure.
type ByValue = BTreeMap<String, Result<usize, usize>>;

/// `step` on all `hosts`, or where and why it cannot be rendered.
pub(crate) fn cells(
    plan: &Plan,
    step: &Step,
    hosts: &[Seen<'_>],
    evaluate: &dyn Evaluate,
) -> Result<Cells, Vec<Failure>> {
    let conditions: BTreeSet<String> = step.when.iter().flat_map(|when| host_names(&when.0)).collect();
    // By the set of host names that a rendering used: which values gave which result. There is more than one set
    // only when a text uses other names on other hosts.
    let mut known: Vec<(BTreeSet<String>, ByValue)> = Vec::new();
    // Whether `when` holds, by the values that it asks for.
    let mut dues: BTreeMap<String, Due> = BTreeMap::new();
    // Numbers of the variants with this command: only these are compared.
    let mut by_command: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut cells = Cells::default();
    let mut failures: Vec<Failure> = Vec::new();
    for seen in hosts {
        let hit = known.iter().find_map(|(names, by_value)| by_value.get(&projection(seen, names)).copied());
        let result = match hit {
            Some(result) => result,
            None => {
                let mut names = conditions.clone();
                let scope = scope(plan, seen.host);
                let key = projection(seen, &conditions);
                let due = match dues.get(&key) {
                    Some(due) => Ok(due.clone()),
                    None => due(&scope, step, evaluate).inspect(|due| drop(dues.insert(key, due.clone()))),
                };
                let variant = due.and_then(|due| Ok(Variant { rendered: evaluate.render(&scope, step)?, due }));
                let result = match variant {
                    Ok(variant) => {
                        let used = variant.rendered.variables.iter().filter(|name| is_of_host(name));
                        names.extend(used.cloned());
                        let alike = by_command.entry(variant.rendered.command_text()).or_default();
                        let number = alike.iter().copied().find(|number| cells.variants[*number] == variant);
                        Ok(number.unwrap_or_else(|| {
                            alike.push(cells.variants.len());
                            cells.variants.push(variant);
                            cells.variants.len() - 1
                        }))
                    }
                    Err(EvaluateError(message)) => {
                        // What a text used before it failed is not known.
                        names = BTreeSet::from(["host".to_owned()]);
                        // The same fault names another host on each.
                        let same = |failure: &Failure| {
                            let (mine, other) = (seen.host.name.as_str(), failure.host.as_str());
                            failure.message == message || failure.message.replace(other, mine) == message
                        };
                        let number = failures.iter().position(same);
                        Err(number.unwrap_or_else(|| {
                            let (step, host) = (step.id.clone(), seen.host.name.clone());
                            failures.push(Failure { step, host, hosts: 0, message });
                            failures.len() - 1
                        }))
                    }
                };
                let key = projection(seen, &names);
                match known.iter_mut().find(|(others, _)| *others == names) {
                    Some((_, by_value)) => by_value.insert(key, result),
                    None => {
                        known.push((names, BTreeMap::from([(key, result)])));
                        None
                    }
                };
                result
            }
        };
        match result {
            Ok(number) => cells.of_host.push(number),
            Err(number) => failures[number].hosts += 1,
        }
    }
    if failures.is_empty() { Ok(cells) } else { Err(failures) }
}

/// The names of a text for `host`, as far as they are known before the run.
pub(crate) fn scope<'a>(plan: &'a Plan, host: &'a Host) -> Scope<'a> {
    Scope { plan, host, facts: None, run: None, steps: &(), snapshot: None }
}

fn due(scope: &Scope<'_>, step: &Step, evaluate: &dyn Evaluate) -> Result<Due, EvaluateError> {
    let Some(when) = &step.when else { return Ok(Due::Yes) };
    Ok(match evaluate.when(scope, step)? {
        When::Run if names_of_the_run(&when.0) => Due::Open(format!("`{}` is known only in the run", when.0)),
        When::Run => Due::Yes,
        When::Skip(reason) => Due::No(reason),
    })
}

/// Whether an expression asks for something that only the run brings: facts of hosts, results of steps, the run itself.
fn names_of_the_run(expression: &str) -> bool {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.into_iter().any(|word| matches!(word, "facts" | "steps" | "run"))
}

fn is_of_host(name: &str) -> bool {
    name == "host" || name.starts_with("host.")
}

/// What `seen` has for `names`, as one text. The kind of system and the account are always in it: shells and defaults
/// depend on them.
fn projection(seen: &Seen<'_>, names: &BTreeSet<String>) -> String {
    let mut out = format!("{}\u{0}{:?}", seen.host.os, seen.host.account);
    for name in names {
        out.push('\u{0}');
        out.push_str(&lookup(&seen.value, name).to_string());
    }
    out
}

/// The value at a dotted path below `host`. Where the path leads nowhere it is the value where it ended, which has
/// more in it than was asked for and so never makes two different hosts look the same.
fn lookup<'a>(host: &'a Value, path: &str) -> &'a Value {
    let mut value = host;
    for part in path.split('.').skip(1) {
        match value.get(part) {
            Some(inner) => value = inner,
            None => break,
        }
    }
    value
}

/// The dotted paths that begin with the word `host` in an expression. One that is followed by anything else than a
/// plain name ends there, so that it stands for all that is below it.
fn host_names(expression: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut names = BTreeSet::new();
    let mut rest = expression;
    let mut before = ' ';
    while let Some(at) = rest.find("host") {
        let previous = rest[..at].chars().next_back().unwrap_or(before);
        let after = &rest[at + 4..];
        if !is_word(previous) && !after.starts_with(is_word) {
            let tail: &str = &after[..after.find(|c: char| !is_word(c) && c != '.').unwrap_or(after.len())];
            names.insert(format!("host{}", tail.trim_end_matches('.')));
        }
        before = 't';
        rest = after;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_of_an_expression_are_found() {
        let found = |text: &str| host_names(text).into_iter().collect::<Vec<_>>();
        assert_eq!(found("host.labels.site == 'hq' && param.x"), ["host.labels.site"]);
        assert_eq!(found("has(host.vars.a) || host.name.startsWith(\"fs\")"), ["host.name.startsWith", "host.vars.a"]);
        assert_eq!(found("host[\"name\"] == ghost.x && hosts > 1 && localhost"), ["host"]);
        assert_eq!(found("hosthost.a"), Vec::<String>::new());
        assert_eq!(found("1 + 1"), Vec::<String>::new());
    }

    #[test]
    fn a_path_that_leads_nowhere_stands_for_all_that_is_there() {
        let host = serde_json::json!({"name": "a", "labels": {"x.y": "1"}});
        assert_eq!(lookup(&host, "host.labels.x.y"), &serde_json::json!({"x.y": "1"}));
        assert_eq!(lookup(&host, "host.name.startsWith"), &serde_json::json!("a"));
        assert_eq!(lookup(&host, "host"), &host);
    }
}
