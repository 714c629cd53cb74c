//! Which rehearsals count, and what a change must be.

use std::collections::BTreeSet;

use jiff::Timestamp;
use runbook_model::rules::{ChangeNeeds, Rehearsal};
use runbook_model::ticket::{Approval, Change, HERE, Seen};
use runbook_model::{HostName, RunId, Sha256};
use runbook_policy::change::missing;
use runbook_policy::rehearsal::{Tried, counting};

const DAY_MS: u64 = 86_400_000;

fn now() -> Timestamp {
    "2026-06-15T12:00:00Z".parse().unwrap()
}

fn now_ms() -> u64 {
    u64::try_from(now().as_millisecond()).unwrap()
}

fn names(names: &[&str]) -> BTreeSet<HostName> {
    names.iter().map(|name| HostName::from(*name)).collect()
}

fn tried(run: &str, plan: &[u8], days: u64) -> Tried {
    Tried {
        run: RunId::from(run),
        rehearsal_sha256: Sha256::of(plan),
        ended_ms: Some(now_ms() - days * DAY_MS),
        hosts: names(&["stage1"]),
        faults: Vec::new(),
    }
}

fn judge(tried: &[Tried]) -> Result<String, Vec<String>> {
    let rule = Rehearsal { hosts: "staging".into(), within_ms: 30 * DAY_MS };
    counting(&rule, &names(&["stage1", "stage2"]), Sha256::of(b"plan"), tried, now())
        .map(|rehearsed| rehearsed.run.to_string())
}

#[test]
fn the_latest_rehearsal_that_proves_the_way_back_counts() {
    let good = tried("good", b"plan", 3);
    let older = tried("older", b"plan", 20);
    let stuck = Tried { faults: vec!["stage1: the way back failed".into()], ..tried("stuck", b"plan", 1) };
    assert_eq!(judge(&[older.clone(), good.clone(), stuck]).unwrap(), "good");
    assert_eq!(judge(&[older]).unwrap(), "older");
}

#[test]
fn each_rehearsal_that_does_not_count_is_refused_with_its_reason() {
    let cases = [
        (tried("a", b"plan with one other byte", 1), "its plan was another one"),
        (tried("b", b"plan", 30), "it is 30 days old, and 30 are allowed"),
        (Tried { ended_ms: None, ..tried("c", b"plan", 1) }, "it has not ended"),
        (
            Tried { hosts: names(&["stage1", "fs01"]), ..tried("d", b"plan", 1) },
            "it was done on fs01, and not on staging",
        ),
        (Tried { hosts: names(&[]), ..tried("e", b"plan", 1) }, "it was done on no host"),
        (
            Tried { faults: vec!["stage1: nothing was taken back".into()], ..tried("f", b"plan", 1) },
            "stage1: nothing was taken back",
        ),
    ];
    for (tried, why) in &cases {
        let found = judge(std::slice::from_ref(tried)).unwrap_err();
        assert_eq!(found.len(), 1);
        assert!(found[0].contains(why) && found[0].contains(tried.run.as_str()), "{found:?}");
    }
    let all: Vec<Tried> = cases.into_iter().map(|(tried, _)| tried).collect();
    assert_eq!(judge(&all).unwrap_err().len(), 3, "the latest few are told");
    assert_eq!(judge(&[]).unwrap_err(), ["it was never rehearsed (`runbook rehearse FILE --limit 'staging'`)"]);
}

fn change() -> Change {
    Change {
        key: "CHG-7".into(),
        title: "Patches".into(),
        state: "Scheduled".into(),
        approval: Approval::Approved,
        closed: false,
        starts_ms: Some(now_ms() - 60_000),
        ends_ms: Some(now_ms() + 60_000),
        owner: None,
        assets: ["fs01".to_owned(), "fs02".to_owned()].into(),
        cui: None,
        plan_sha256: None,
        version: "1".into(),
        url: None,
    }
}

fn lacks(needs: ChangeNeeds, change: Change) -> String {
    let seen = Ok(Seen { system: HERE.into(), change, answer: None, at_ms: 0 });
    missing(needs, Some(&seen), &["fs01".into(), "fs02".into()], Some(Sha256::of(b"plan")), now()).join("; ")
}

#[test]
fn a_change_is_held_to_what_the_rule_asks_of_it_and_to_nothing_else() {
    let all = ChangeNeeds { approved: true, dates: true, assets: true };
    assert_eq!(lacks(all, change()), "");
    let wrong = Change { approval: Approval::Rejected, starts_ms: None, assets: BTreeSet::new(), ..change() };
    assert_eq!(lacks(ChangeNeeds::default(), wrong), "");
    let cases = [
        (Change { approval: Approval::Awaited, ..change() }, "the change CHG-7 is not approved (Scheduled)"),
        (Change { approval: Approval::Rejected, ..change() }, "the change CHG-7 was rejected (Scheduled)"),
        (Change { closed: true, ..change() }, "the change CHG-7 is closed (Scheduled)"),
        (Change { starts_ms: Some(now_ms() + 1_000), ..change() }, "the change CHG-7 begins at 2026-06-15T12:00:01Z"),
        (Change { ends_ms: Some(now_ms()), ..change() }, "the change CHG-7 was to be over by 2026-06-15T12:00:00Z"),
        (Change { ends_ms: None, ..change() }, "the change CHG-7 does not say from when and until when"),
        (
            Change { starts_ms: Some(now_ms()), ends_ms: Some(now_ms() - 1_000), ..change() },
            "the change CHG-7 ends at 2026-06-15T11:59:59Z, before it begins at 2026-06-15T12:00:00Z",
        ),
        (
            Change { plan_sha256: Some(Sha256::of(b"a")), ..change() },
            "the change CHG-7 is of another plan, ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        ),
        (Change { assets: ["fs01".to_owned()].into(), ..change() }, "the change CHG-7 is not for fs02"),
    ];
    for (change, why) in cases {
        assert_eq!(lacks(all, change), why);
    }
    let unread = Err("jira does not answer".to_owned());
    assert_eq!(missing(all, Some(&unread), &[], None, now()), ["jira does not answer"]);
}
