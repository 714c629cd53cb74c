//! What a policy asks for, what counts, and what does not.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use runbook_model::approval::{Approval, Decision, SCHEMA};
use runbook_model::event::ClockState;
use runbook_model::host::{Host, Os};
use runbook_model::people::{Key, Member, People};
use runbook_model::plan::{Plan, RollbackRule, RollbackVerify, RunbookRef, Scope, Strategy, Tier};
use runbook_model::rules::{Approvals, Operator, Policy, Presence, Rule, VALID_MS};
use runbook_model::{HostName, RunId, Sha256};
use runbook_policy::approvals::{Offered, Signed};
use runbook_policy::rules::judge;
use runbook_policy::{Act, Ask, Case, Estimate, Policed, Rules, authorize};

fn now() -> Timestamp {
    "2026-06-15T12:00:00Z".parse().unwrap()
}

fn now_ms() -> u64 {
    u64::try_from(now().as_millisecond()).unwrap()
}

fn plan(tier: Tier) -> Plan {
    let host = |name: &str, risk: &str| Host {
        name: name.into(),
        transport: "ssh".into(),
        address: String::new(),
        port: None,
        os: Os::Posix("linux".into()),
        user: None,
        jumps: Vec::new(),
        identity: None,
        certificate: None,
        account: None,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        vars: BTreeMap::new(),
        groups: Vec::new(),
        cui: false,
        owner: None,
        cui_owner: None,
        risk: Some(risk.into()),
    };
    Plan {
        schema: "plan/v1".into(),
        runbook: RunbookRef {
            name: "patch".into(),
            title: String::new(),
            tier,
            controls: Vec::new(),
            source_sha256: Sha256::of(b""),
        },
        parameters: BTreeMap::new(),
        secrets: BTreeMap::new(),
        hosts: BTreeMap::from([("a".into(), host("a", "high")), ("b".into(), host("b", "low"))]),
        batches: vec![vec!["a".into(), "b".into()]],
        parallel: 1,
        soak_ms: 0,
        failure_budget: 0,
        watch: None,
        rollback: RollbackRule {
            strategy: Strategy::Steps,
            scope: Scope::Host,
            budget_ms: 0,
            verify: RollbackVerify::None,
        },
        window: runbook_model::plan::WindowRule::default(),
        access: None,
        irreversible: None,
        steps: Vec::new(),
        files: BTreeMap::new(),
    }
}

fn people() -> People {
    let member = |roles: &[&str], keys: &[&str], accounts: &[&str]| Member {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        keys: keys.iter().map(|key| Key { key: (*key).to_owned(), until: None, revoked: None }).collect(),
        accounts: accounts.iter().map(|account| (*account).to_owned()).collect(),
        ..Member::default()
    };
    People {
        people: BTreeMap::from([
            ("jane".to_owned(), member(&["it-lead", "cui-owner"], &["jane-1", "jane-2"], &[])),
            ("raj".to_owned(), member(&["cui-owner"], &["raj-1"], &[])),
            ("ben".to_owned(), member(&["it-lead"], &["ben-1"], &["ben", "root"])),
        ]),
    }
}

fn offered(plan: &Plan, signer: &str, key: &str, presence: Option<Presence>) -> Offered {
    let approval = Approval {
        schema: SCHEMA.into(),
        decision: Decision::Approve,
        runbook: plan.runbook.name.clone(),
        tier: plan.runbook.tier,
        plan_sha256: plan.digest(),
        hosts_sha256: Approval::hosts_of(plan),
        parameters_sha256: Approval::parameters_of(plan),
        windows_sha256: None,
        reason: String::new(),
        made_ms: now_ms() - 60_000,
        valid_until_ms: now_ms() + 60_000,
        nonce: format!("of {key}"),
        ledger: None,
        signer: signer.into(),
    };
    Offered {
        file: format!("{key}.json"),
        document: Sha256::of(&approval.bytes()),
        signature: Sha256::of(b"signature"),
        approval,
        signed: Ok(Signed { key: key.into(), presence }),
        used_by: None,
    }
}

fn wants(roles: &[(&str, u32)], persons: Option<u32>) -> Rule {
    let roles = roles.iter().map(|(role, count)| ((*role).to_owned(), *count)).collect();
    Rule {
        name: "rule".into(),
        approvals: Some(Approvals { roles, persons, not_operator: true, valid_for_ms: VALID_MS, security_key: None }),
        ..Rule::default()
    }
}

fn ask(act: Act) -> Ask {
    let estimate = Estimate { needs_ms: 0, source: String::new() };
    Ask { estimate, ..Ask::new(act, now()) }
}

/// The reasons for which it is refused; none: it is granted.
fn reasons(rule: Rule, plan: &Plan, act: Act, change: impl FnOnce(&mut Case)) -> Vec<String> {
    let (policy, people) = (Policy { rules: vec![rule] }, people());
    let mut case = Case { account: "ben".into(), ..Case::default() };
    change(&mut case);
    let policed = Policed {
        policy: &policy,
        sha256: Sha256::of(b"policy"),
        people: &people,
        people_sha256: None,
        plan,
        case: &case,
    };
    let reasons = judge(policed, &ask(act)).reasons();
    // The one decision says the same.
    let decided = authorize(Rules { calendar: None, policy: Some(policed) }, &ask(act));
    match (&decided, act) {
        (Ok(_), Act::Resume) => return Vec::new(),
        (Ok(granted), _) => assert!(reasons.is_empty() && granted.policy() == Some(Sha256::of(b"policy"))),
        (Err(refusal), _) => assert!(refusal.by_policy && refusal.reasons == reasons),
    }
    reasons
}

#[test]
fn a_person_with_two_roles_counts_for_both_and_still_is_one_person() {
    let plan = plan(Tier::Routine);
    let jane = |case: &mut Case| case.offered = vec![offered(&plan, "jane", "jane-1", None)];
    let roles = [("it-lead", 1), ("cui-owner", 1)];
    assert_eq!(reasons(wants(&roles, None), &plan, Act::Apply, jane), Vec::<String>::new());
    assert_eq!(reasons(wants(&roles, Some(2)), &plan, Act::Apply, jane), ["rule: approved by 1 of 2 persons"]);
    let twice = |case: &mut Case| {
        case.offered = vec![offered(&plan, "jane", "jane-1", None), offered(&plan, "jane", "jane-2", None)];
    };
    let said = reasons(wants(&roles, Some(2)), &plan, Act::Apply, twice);
    assert_eq!(said[0], "rule: approved by 1 of 2 persons");
    assert!(said[1].contains("jane counts once"), "{said:?}");
}

#[test]
fn case_12_a_touch_is_less_than_a_pin() {
    let plan = plan(Tier::Routine);
    for (wanted, proved, counts) in [
        (Presence::Touch, None, false),
        (Presence::Touch, Some(Presence::Touch), true),
        (Presence::Touch, Some(Presence::Pin), true),
        (Presence::Pin, None, false),
        (Presence::Pin, Some(Presence::Touch), false),
        (Presence::Pin, Some(Presence::Pin), true),
    ] {
        let mut rule = wants(&[], Some(1));
        rule.approvals.as_mut().unwrap().security_key = Some(wanted);
        let said = reasons(rule, &plan, Act::Apply, |case| case.offered = vec![offered(&plan, "raj", "raj-1", proved)]);
        assert_eq!(said.is_empty(), counts, "{wanted:?} {proved:?}: {said:?}");
    }
}

#[test]
fn case_11_an_approval_is_for_one_run_and_for_the_way_back_of_that_run() {
    let plan = plan(Tier::Routine);
    let (run, other) = (RunId::from("one"), RunId::from("other"));
    for (act, takes_back, counts) in [
        (Act::Apply, None, false),
        (Act::TakeBack, Some(&run), true),
        (Act::TakeBack, Some(&other), false),
        (Act::Resume, None, true),
        (Act::Check, None, true),
    ] {
        let said = reasons(wants(&[], Some(1)), &plan, act, |case| {
            case.takes_back = takes_back.cloned();
            case.offered = vec![Offered { used_by: Some(run.clone()), ..offered(&plan, "raj", "raj-1", None) }];
        });
        assert_eq!(said.is_empty(), counts, "{act:?} {takes_back:?}: {said:?}");
    }
}

#[test]
fn a_rule_is_for_its_tiers_its_hosts_and_their_risk() {
    let rule = |tiers: &[Tier], risk: &[&str]| Rule {
        tiers: tiers.to_vec(),
        risk: risk.iter().map(|risk| (*risk).to_owned()).collect(),
        ticket: Some("x".into()),
        ..wants(&[], None)
    };
    let plan = plan(Tier::Corrective);
    let only = |host: &'static str| move |case: &mut Case| case.selected = vec![BTreeSet::from([HostName::from(host)])];
    let is_for = |rule: Rule, host| !reasons(rule, &plan, Act::Apply, only(host)).is_empty();
    assert!(is_for(rule(&[], &[]), "a") && is_for(rule(&[Tier::Corrective], &["high"]), "a"));
    assert!(!is_for(rule(&[], &[]), "elsewhere") && !is_for(rule(&[Tier::Routine], &[]), "a"));
    assert!(!is_for(rule(&[], &["high"]), "b"), "the host with that risk is not selected");
}

#[test]
fn a_host_that_is_another_in_the_inventory_now_blocks() {
    let plan = plan(Tier::Routine);
    let said = reasons(wants(&[], None), &plan, Act::Apply, |case| case.strangers = BTreeSet::from(["b".into()]));
    assert_eq!(said, ["b: not in the inventory as the plan has it, so no rule can be chosen; plan again"]);
}

#[test]
fn who_runs_it_must_be_known_to_be_told_from_those_who_approve() {
    let plan = plan(Tier::Routine);
    let said = reasons(wants(&[], Some(1)), &plan, Act::Apply, |case| {
        case.account = "stranger".into();
        case.offered = vec![offered(&plan, "raj", "raj-1", None)];
    });
    assert!(said[0].contains("the account stranger is nobody's"), "{said:?}");
    // Another account of the same person is the same person.
    let said = reasons(wants(&[], Some(1)), &plan, Act::Apply, |case| {
        case.account = "root".into();
        case.offered = vec![offered(&plan, "ben", "ben-1", None)];
    });
    assert!(said.iter().any(|reason| reason.contains("ben runs it, and cannot approve it")), "{said:?}");
}

#[test]
fn a_ticket_is_like_its_pattern_from_beginning_to_end() {
    let plan = plan(Tier::Routine);
    for (pattern, ticket, good) in [
        ("CHG-[0-9]+", "CHG-1", true),
        ("CHG-[0-9]+", "xCHG-1", false),
        ("CHG-[0-9]+", "CHG-1\n", false),
        ("a|b", "ab", false),
        ("(?x) a # b", "a", false),
    ] {
        let rule = Rule { ticket: Some(pattern.into()), approvals: None, ..wants(&[], None) };
        let said = reasons(rule, &plan, Act::Apply, |case| case.ticket = Some(ticket.into()));
        assert_eq!(said.is_empty(), good, "{pattern} {ticket:?}: {said:?}");
    }
}

proptest! {
    /// Whatever is offered, it is granted only when enough persons, each with a role, have approved it; and one approval
    /// more never hinders.
    #[test]
    fn no_set_of_approvals_counts_for_more_than_its_persons(
        which in proptest::collection::vec((0_usize..4, any::<bool>(), any::<bool>(), any::<bool>()), 0..8),
        leads in 1_u32..3,
        owners in 1_u32..3,
    ) {
        let plan = plan(Tier::Routine);
        let keys = [("jane", "jane-1"), ("jane", "jane-2"), ("raj", "raj-1"), ("ben", "ben-1")];
        let mut approving = BTreeSet::new();
        let mut all = Vec::new();
        for (no, spoiled, late, used) in which {
            let (signer, key) = keys[no];
            let mut one = offered(&plan, signer, key, None);
            if spoiled {
                one.signed = Err("spoiled".into());
            }
            if late {
                one.approval.valid_until_ms = now_ms();
            }
            if used {
                one.used_by = Some(RunId::from("earlier"));
            }
            if !spoiled && !late && !used && signer != "ben" {
                approving.insert(signer);
            }
            all.push(one);
        }
        let rule = wants(&[("it-lead", leads), ("cui-owner", owners)], None);
        let said = reasons(rule, &plan, Act::Apply, |case| case.offered = all);
        let with = |role: &[&str]| u32::try_from(approving.iter().filter(|who| role.contains(who)).count()).unwrap();
        let enough = with(&["jane"]) >= leads && with(&["jane", "raj"]) >= owners;
        prop_assert_eq!(said.is_empty(), enough, "{:?}", said);
    }
}

#[test]
fn the_strictest_clock_of_the_rules_for_its_hosts_holds_and_what_is_not_known_is_not_right() {
    let plan = plan(Tier::Routine);
    let rule = |tiers: &[Tier], ms| Rule {
        name: "clocks".into(),
        tiers: tiers.to_vec(),
        clock_max_offset_ms: Some(ms),
        ..Rule::default()
    };
    let policy = Policy { rules: vec![rule(&[], 900), rule(&[], 500), rule(&[Tier::Emergency], 1)] };
    let (people, case) = (people(), Case::default());
    let policed = Policed {
        policy: &policy,
        sha256: Sha256::of(b""),
        people: &people,
        people_sha256: None,
        plan: &plan,
        case: &case,
    };
    let rules = Rules { policy: Some(policed), ..Rules::default() };
    let with = |act, synchronised, offset_us| {
        let clock = ClockState { source: "chrony".into(), synchronised, offset_us };
        authorize(rules, &Ask { clock, ..ask(act) })
    };
    assert_eq!(with(Act::Apply, Some(true), Some(-500_000)).unwrap().clock_max_offset_ms(), Some(500));
    for (synchronised, offset_us) in [
        (None, None),
        (None, Some(0)),
        (Some(false), Some(0)),
        (Some(true), None),
        (Some(true), Some(500_001)),
        (Some(true), Some(i64::MIN)),
    ] {
        for act in [Act::Apply, Act::TakeBack] {
            assert!(with(act, synchronised, offset_us).unwrap_err().by_policy, "{synchronised:?} {offset_us:?}");
        }
        for act in [Act::Check, Act::Cancel, Act::Resume] {
            assert_eq!(with(act, synchronised, offset_us).unwrap().clock_max_offset_ms(), None, "{act:?}");
        }
        // What its opening says holds for who goes on with it, whatever the policy says by now.
        let clock = ClockState { source: "chrony".into(), synchronised, offset_us };
        let again = |act| Ask { clock: clock.clone(), clock_max_offset_ms: Some(500), ..ask(act) };
        assert!(authorize(Rules::default(), &again(Act::Resume)).is_err());
        assert!(authorize(Rules::default(), &again(Act::Cancel)).is_ok());
    }
}

#[test]
fn a_run_is_gone_on_with_by_those_who_might_have_begun_it() {
    let rule = Rule {
        operator: Some(Operator { roles: ["it-lead".to_owned()].into(), training: BTreeSet::new() }),
        ticket: Some("CHG-[0-9]+".into()),
        ..wants(&[("it-lead", 1)], None)
    };
    let (policy, people, plan) = (Policy { rules: vec![rule] }, people(), plan(Tier::Routine));
    let asked = |account: &str, act: Act| {
        let case = Case { account: account.into(), ..Case::default() };
        let (sha256, people_sha256) = (Sha256::of(b"policy"), None);
        let policed = Policed { policy: &policy, sha256, people: &people, people_sha256, plan: &plan, case: &case };
        authorize(Rules { calendar: None, policy: Some(policed) }, &ask(act))
    };
    assert!(asked("ben", Act::Resume).is_ok(), "neither ticket nor approvals are asked for again");
    let refused = asked("eve", Act::Resume).unwrap_err();
    assert!(refused.by_policy);
    assert_eq!(refused.reasons, ["rule: the account eve is nobody's in people.yaml"]);
    assert!(asked("eve", Act::Cancel).is_ok());
}
