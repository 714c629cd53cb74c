//! Permits for tests that are about something else.

use runbook_model::Sha256;
use runbook_model::event::ClockState;
use runbook_model::people::People;
use runbook_model::plan::Plan;
use runbook_model::rules::{Policy, Rule};
use runbook_policy::{Act, Ask, Case, Granted, Policed, Rules, authorize};

/// What a project without any rules grants.
pub fn unrestricted() -> Granted {
    authorize(Rules::default(), &ask()).expect("nothing forbids it")
}

/// What a project grants whose one rule says how far clocks may be off.
pub fn within_clock(plan: &Plan, max_offset_ms: u64) -> Granted {
    let rule = Rule { name: "clocks".into(), clock_max_offset_ms: Some(max_offset_ms), ..Rule::default() };
    let policed = Policed {
        policy: &Policy { rules: vec![rule] },
        sha256: Sha256::of(b"policy"),
        people: &People::default(),
        people_sha256: None,
        plan,
        case: &Case::default(),
    };
    let clock = ClockState { source: "test".into(), synchronised: Some(true), offset_us: Some(0) };
    let rules = Rules { policy: Some(policed), ..Rules::default() };
    authorize(rules, &Ask { clock, ..ask() }).expect("the clock is right")
}

fn ask() -> Ask {
    Ask::new(Act::Apply, jiff::Timestamp::UNIX_EPOCH)
}
