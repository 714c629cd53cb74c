//! Ids of steps, and what waits for what.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::plan::Phase;

use super::fields::Problems;
use super::step::is_id;
use crate::codes::Code;
use crate::diagnostic::Diagnostic;
use crate::runbook::{Action, On, Step};
use crate::similar;
use crate::source::Text;
use crate::yaml::shown;

/// Gives every step without an id one (from its name, else its packaged action, else its place) and reports ids that
/// are there twice. `lists` are all lists of steps in the order of the phases.
pub(crate) fn assign_ids(lists: &mut [&mut Vec<Step>], problems: &mut Problems) {
    let mut taken: BTreeMap<String, Text> = BTreeMap::new();
    for step in lists.iter().flat_map(|list| list.iter()).filter(|step| step.id_given) {
        if let Some(first) = taken.get(&step.id.value) {
            let problem = problems.error(
                Code::DuplicateId,
                &step.id.span,
                format!("two steps have the id `{}`", shown(&step.id.value)),
            );
            *problem = problem.clone().label(&first.span, "the first one").help("give one of them another id");
        } else {
            taken.insert(step.id.value.clone(), step.id.clone());
        }
    }
    for list in lists {
        for (place, step) in list.iter_mut().enumerate().filter(|(_, step)| !step.id_given) {
            let made = match (&step.name, &step.action) {
                (Some(name), _) => slug(&name.value),
                (None, Action::Uses { name, .. }) => slug(&name.value),
                (None, _) => String::new(),
            };
            let base = if is_id(&made) { made } else { format!("{}-{}", step.phase, place + 1) };
            let id = (1..)
                .map(|n| if n == 1 { base.clone() } else { format!("{base}-{n}") })
                .find(|id| !taken.contains_key(id))
                .expect("there is always a further number");
            let span = step.name.as_ref().map_or_else(|| step.span.clone(), |name| name.span.clone());
            step.id = Text::new(id.clone(), span);
            taken.insert(id, step.id.clone());
        }
    }
}

/// Small letters and digits; runs of other characters become one `-`.
fn slug(name: &str) -> String {
    let mut slug = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' {
            slug.push(c);
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        // Room for the number that makes it unique.
        if slug.len() >= 56 {
            break;
        }
    }
    slug.trim_matches('-').to_owned()
}

/// Checks every `needs`: the step exists, in the same or an earlier phase, and nothing waits for itself.
pub(crate) fn check_needs(lists: &[(Phase, &[Step])], problems: &mut Problems) {
    let phases: BTreeMap<&str, Phase> =
        lists.iter().flat_map(|(phase, list)| list.iter().map(|step| (step.id.as_str(), *phase))).collect();
    for (phase, list) in lists {
        for need in list.iter().filter_map(|step| step.needs.as_ref()).flatten() {
            match phases.get(need.as_str()) {
                None => {
                    let reachable = phases.iter().filter(|(_, other)| **other <= *phase).map(|(id, _)| *id);
                    let hint = similar::hint(&need.value, reachable, "the ids are");
                    problems
                        .error(Code::UnknownStep, &need.span, format!("no step has the id `{}`", shown(&need.value)))
                        .help = hint;
                }
                Some(later) if later > phase => {
                    problems
                        .error(
                            Code::LaterPhase,
                            &need.span,
                            format!("`{}` is a step of `{later}`, which comes after `{phase}`", need.value),
                        )
                        .help = Some("a step can wait for steps of its own phase and of earlier ones".into());
                }
                Some(_) => {}
            }
        }
        if !report_cycles(list, problems) {
            warn_beside_reboots(list, problems);
        }
    }
}

/// For each step, the steps of its own list that it waits for directly.
fn waits(list: &[Step]) -> Vec<Vec<usize>> {
    let place: BTreeMap<&str, usize> = list.iter().enumerate().map(|(i, step)| (step.id.as_str(), i)).collect();
    list.iter()
        .enumerate()
        .map(|(i, step)| match &step.needs {
            None => i.checked_sub(1).into_iter().collect(),
            Some(needs) => needs.iter().filter_map(|need| place.get(need.as_str()).copied()).collect(),
        })
        .collect()
}

/// Warns of steps that may run on a host while another step reboots it.
fn warn_beside_reboots(list: &[Step], problems: &mut Problems) {
    let reboots = |step: &Step| matches!(step.action, Action::Reboot { .. });
    if !list.iter().any(reboots) {
        return;
    }
    let edges = waits(list);
    let before = |step: usize| {
        let (mut found, mut open) = (BTreeSet::new(), vec![step]);
        while let Some(at) = open.pop() {
            open.extend(edges[at].iter().copied().filter(|need| found.insert(*need)));
        }
        found
    };
    for (reboot, rebooting) in list.iter().enumerate().filter(|(_, step)| reboots(step)) {
        let earlier = before(reboot);
        for (at, step) in list.iter().enumerate() {
            let on_the_host = matches!(step.on, On::Host);
            if at == reboot || !on_the_host || earlier.contains(&at) || before(at).contains(&reboot) {
                continue;
            }
            let (id, other) = (shown(&step.id.value), shown(&rebooting.id.value));
            problems.push(
                Diagnostic::warning(
                    Code::BesideReboot,
                    &step.id.span,
                    format!("`{id}` may run while `{other}` reboots the host, which would end it in the middle"),
                )
                .label(&rebooting.id.span, "the host is rebooted here")
                .help(format!("add `{other}` to its `needs`, or `{id}` to those of `{other}`")),
            );
        }
    }
}

/// Reports each cycle of one list once, drawn as a chain. Whether there was one.
fn report_cycles(list: &[Step], problems: &mut Problems) -> bool {
    let edges = waits(list);
    // Depth first without recursion: a step is closed when all that it waits for is.
    let (mut closed, mut reported) = (vec![false; list.len()], BTreeSet::new());
    for start in 0..list.len() {
        let mut path: Vec<(usize, usize)> = if closed[start] { Vec::new() } else { vec![(start, 0)] };
        let mut on_path = vec![false; list.len()];
        if !closed[start] {
            on_path[start] = true;
        }
        while let Some((at, next)) = path.last_mut() {
            let Some(&target) = edges[*at].get(*next) else {
                closed[*at] = true;
                on_path[*at] = false;
                path.pop();
                continue;
            };
            *next += 1;
            if on_path[target] {
                let begin = path.iter().position(|(step, _)| *step == target).expect("it is on the path");
                let cycle: Vec<usize> = path[begin..].iter().map(|(step, _)| *step).collect();
                let mut key = cycle.clone();
                key.sort_unstable();
                if reported.insert(key) {
                    report_cycle(list, &cycle, problems);
                }
            } else if !closed[target] {
                on_path[target] = true;
                path.push((target, 0));
            }
        }
    }
    !reported.is_empty()
}

fn report_cycle(list: &[Step], cycle: &[usize], problems: &mut Problems) {
    let first = cycle.iter().position(|step| *step == *cycle.iter().min().expect("a cycle has steps")).unwrap_or(0);
    let order: Vec<&Step> = cycle.iter().cycle().skip(first).take(cycle.len()).map(|step| &list[*step]).collect();
    let drawn: Vec<&str> = order.iter().chain(order.first()).map(|step| step.id.as_str()).collect();
    let edge = |step: &Step, next: &Step| {
        let named = step.needs.as_ref().and_then(|needs| needs.iter().find(|need| need.value == next.id.value));
        named.map(|need| need.span.clone())
    };
    let pairs: Vec<(&Step, &Step)> = order.iter().copied().zip(order.iter().copied().cycle().skip(1)).collect();
    let written = pairs.iter().find_map(|(step, next)| edge(step, next));
    let place = written.unwrap_or_else(|| order[0].span.clone());
    let problem =
        problems.error(Code::Cycle, &place, format!("these steps wait for each other: {}", drawn.join(" -> ")));
    let mut full =
        problem.clone().help("remove one of these `needs`; a step without `needs` waits for the one before it");
    for (step, next) in pairs {
        let span = edge(step, next).unwrap_or_else(|| step.id.span.clone());
        if span != place {
            full = full.label(&span, format!("`{}` waits for `{}`", step.id.value, next.id.value));
        }
    }
    *problem = full;
}
