//! Permits for tests that are about something else.

use std::collections::BTreeMap;

use runbook_policy::{Act, Ask, Estimate, Granted, Rules, authorize};

/// What a project without any rules grants.
pub fn unrestricted() -> Granted {
    let estimate = Estimate { needs_ms: 0, source: String::new() };
    let ask = Ask {
        act: Act::Apply,
        now: jiff::Timestamp::UNIX_EPOCH,
        since: None,
        hosts: BTreeMap::new(),
        estimate,
        break_glass: None,
        reason: None,
        reviews: Vec::new(),
    };
    authorize(Rules::default(), &ask).expect("nothing forbids it")
}
