//! Hosts that a run whose program has died left in the middle of a step. A hold ends with its process, but what that
//! process had begun on a host may go on there: another run must not work beside it.

use std::collections::BTreeSet;

use runbook_model::HostName;
use runbook_model::plan::Plan;
use runbook_ports::Store as _;
use runbook_ports::store::RunStatus;
use runbook_report::list::short;
use runbook_store::SqliteStore;

use crate::failure::{Failure, REFUSED};
use crate::record;

/// Refuses a new run of `plan` while one of its hosts is in the middle of a step of a run that nobody works on. Steps that
/// only look do not count: they harm nobody.
///
/// # Errors
///
/// RB0690, with both ways out.
pub(crate) async fn refuse(store: &SqliteStore, plan: &Plan) -> Result<(), Failure> {
    let wanted: BTreeSet<&HostName> = plan.hosts.keys().collect();
    for index in store.runs().await.map_err(|error| record::failed(&error))? {
        let run = index.header.run.clone();
        if index.status != RunStatus::Running || record::is_worked_on(store, &run).await? {
            continue;
        }
        let view = record::view(store, &index).await?;
        let open = view.hosts.iter().filter(|(name, _)| wanted.contains(name)).find_map(|(name, host)| {
            let (step, _) = host.running()?;
            view.plan.step(step).is_none_or(|step| !step.read_only).then_some((name, step))
        });
        if let Some((host, step)) = open {
            let run = short(run.as_str());
            let what =
                format!("{host} is in the middle of run {run}, whose program has died: `{step}` may still run there");
            return Err(Failure::new("RB0690", REFUSED, what).next(format!(
                "`runbook resume {run}` goes on with it, `runbook cancel {run}` takes it back; then apply again"
            )));
        }
    }
    Ok(())
}
