//! Which hosts, and who goes together.

use std::collections::{BTreeMap, BTreeSet};

use runbook_lang::{Code, Diagnostic};
use runbook_model::host::Host;
use runbook_model::id::HostName;
use runbook_model::units::Share;

use crate::batches::batches;
use crate::request::PlanRequest;

/// The hosts of a plan.
#[derive(Default)]
pub(super) struct Targets {
    pub(super) hosts: BTreeMap<HostName, Host>,
    pub(super) batches: Vec<Vec<HostName>>,
}

/// The hosts that both the runbook and the command line select, in the order of their names: an inventory is a mapping,
/// whose order means nothing.
pub(super) fn select(request: &PlanRequest<'_>) -> Result<Targets, Vec<Diagnostic>> {
    let targets = &request.runbook.targets;
    let mut problems = Vec::new();
    let mut chosen = |selector: &runbook_lang::Selector| match selector.hosts(request.inventory) {
        Ok(hosts) => Some(hosts),
        Err(found) => {
            problems.extend(found);
            None
        }
    };
    let selected = targets.select.as_ref().map(&mut chosen);
    let limited = request.limit.map(&mut chosen);
    let names: BTreeSet<HostName> = match (selected, limited) {
        _ if !problems.is_empty() => return Err(problems),
        (Some(Some(selected)), Some(Some(limited))) => {
            let both: BTreeSet<HostName> = selected.intersection(&limited).cloned().collect();
            if both.is_empty()
                && let (Some(select), Some(limit)) = (&targets.select, request.limit)
            {
                let message = format!("no host that the runbook selects is in `--limit {}`", limit.text.value);
                return Err(vec![
                    Diagnostic::error(Code::NoHost, &limit.text.span, message)
                        .label(&select.text.span, "the runbook selects these"),
                ]);
            }
            both
        }
        (Some(Some(selected)), None) => selected,
        (None, Some(Some(limited))) => limited,
        _ => request.inventory.select(targets)?,
    };
    let found = |name: &HostName| Some((name.clone(), request.inventory.hosts.get(name)?.host.clone()));
    let hosts: BTreeMap<HostName, Host> = names.iter().filter_map(found).collect();
    let order: Vec<HostName> = hosts.keys().cloned().collect();
    Ok(Targets { batches: batches(&order, &targets.batch), hosts })
}

/// `failure_budget` as a count. A percentage is of all hosts, rounded down.
pub(super) fn failure_budget(share: Share, hosts: usize) -> u32 {
    u32::try_from(share.of(hosts)).unwrap_or(u32::MAX)
}
