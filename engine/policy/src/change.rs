//! Whether the change that a ticket is of may be worked on.

use jiff::Timestamp;
use runbook_model::rules::ChangeNeeds;
use runbook_model::ticket::{Approval, Seen};
use runbook_model::{HostName, Sha256};

/// Hosts that are named at most.
const NAMED: usize = 5;

/// What is asked of it, in words.
pub fn wanted(needs: ChangeNeeds) -> String {
    let parts = [(needs.approved, "approved"), (needs.dates, "within its dates"), (needs.assets, "for these hosts")];
    let parts: Vec<&str> = parts.iter().filter(|(asked, _)| *asked).map(|(_, word)| *word).collect();
    format!("a change that is {}", parts.join(", "))
}

/// What is missing; none: it may. `change`: as whoever keeps it says, or why nobody does. `plan_sha256`: the plan that is to be
/// run, when the change must be of it.
pub fn missing(
    needs: ChangeNeeds,
    change: Option<&Result<Seen, String>>,
    hosts: &[HostName],
    plan_sha256: Option<Sha256>,
    now: Timestamp,
) -> Vec<String> {
    let change = match change {
        Some(Ok(seen)) => &seen.change,
        Some(Err(why)) => return vec![why.clone()],
        // That there is no ticket is said by who asks for one.
        None => return Vec::new(),
    };
    let key = &change.key;
    let state = &change.state;
    let mut missing = Vec::new();
    if let (Some(of), Some(wanted)) = (change.plan_sha256, plan_sha256)
        && of != wanted
    {
        missing.push(format!("the change {key} is of another plan, {of}"));
    }
    if needs.approved {
        if change.closed {
            missing.push(format!("the change {key} is closed ({state})"));
        } else if change.approval == Approval::Rejected {
            missing.push(format!("the change {key} was rejected ({state})"));
        } else if change.approval == Approval::Awaited {
            missing.push(format!("the change {key} is not approved ({state})"));
        }
    }
    if needs.dates {
        let time = |ms: u64| i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        match (change.starts_ms.and_then(time), change.ends_ms.and_then(time)) {
            (Some(starts), Some(ends)) if ends <= starts => {
                missing.push(format!("the change {key} ends at {ends}, before it begins at {starts}"));
            }
            (Some(starts), _) if now < starts => missing.push(format!("the change {key} begins at {starts}")),
            (_, Some(ends)) if ends <= now => missing.push(format!("the change {key} was to be over by {ends}")),
            (Some(_), Some(_)) => {}
            _ => missing.push(format!("the change {key} does not say from when and until when")),
        }
    }
    if needs.assets {
        let others: Vec<&str> =
            hosts.iter().map(HostName::as_str).filter(|host| !change.assets.contains(*host)).collect();
        if !others.is_empty() {
            let more = others.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = others[..others.len().min(NAMED)].join(", ");
            missing.push(format!("the change {key} is not for {named}{more}"));
        }
    }
    missing
}
