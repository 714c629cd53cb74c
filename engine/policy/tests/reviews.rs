//! Reviews after a run's end: what counts, what is due, what blocks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use runbook_model::approval::LedgerSeen;
use runbook_model::people::{Key, Member, People};
use runbook_model::review::{self, SCHEMA, Verdict};
use runbook_model::rules::{Owed, Review};
use runbook_model::{RunId, RunOutcome, Sha256};
use runbook_policy::approvals::Signed;
use runbook_policy::reviews::{Given, Reviewable, State, counts, latest, open, standing};
use runbook_policy::{Act, Ask, Rules, authorize};

const HOUR_MS: u64 = 3_600_000;
/// When the run ended.
const ENDED_MS: u64 = 1_781_000_000_000;

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millisecond(i64::try_from(ms).unwrap()).unwrap()
}

fn owed(rule: &str, hours: u64, roles: &[&str], persons: Option<u32>) -> Owed {
    let roles = roles.iter().map(|role| ((*role).to_owned(), 1)).collect();
    let review = Review { within_ms: hours * HOUR_MS, roles, persons, not_operator: true };
    Owed { rule: rule.into(), review, break_glass: false }
}

fn run(owes: Vec<Owed>) -> Reviewable {
    Reviewable {
        run: RunId::from("run-1"),
        runbook: "patch".into(),
        plan_sha256: Sha256::of(b"plan"),
        operators: BTreeSet::from(["ben".to_owned()]),
        owes,
        started_ms: ENDED_MS - HOUR_MS,
        ended: Some((ENDED_MS, RunOutcome::Succeeded)),
        last_seq: Some(40),
        worked_on: false,
        given: Vec::new(),
    }
}

fn people() -> People {
    let member = |roles: &[&str], key: Key, account: &str| Member {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        keys: vec![key],
        accounts: BTreeSet::from([account.to_owned()]),
        ..Member::default()
    };
    let key = |key: &str| Key { key: key.into(), until: None, revoked: None };
    let day = |day: &str| Some(day.parse().unwrap());
    People {
        people: BTreeMap::from([
            ("jane".to_owned(), member(&["it-lead"], key("jane-1"), "jane")),
            ("raj".to_owned(), member(&["cui-owner"], key("raj-1"), "raj")),
            ("ben".to_owned(), member(&["it-lead"], key("ben-1"), "ben")),
            ("old".to_owned(), member(&["it-lead"], Key { until: day("2020-01-01"), ..key("old-1") }, "old")),
            ("gone".to_owned(), member(&["it-lead"], Key { revoked: day("2020-01-01"), ..key("gone-1") }, "gone")),
        ]),
    }
}

fn said(signer: &str) -> review::Review {
    review::Review {
        schema: SCHEMA.into(),
        run: RunId::from("run-1"),
        plan_sha256: Sha256::of(b"plan"),
        outcome: RunOutcome::Succeeded,
        verdict: Verdict::Accepted,
        reason: "as it had to be".into(),
        made_ms: ENDED_MS + 1,
        nonce: "n".into(),
        ledger: LedgerSeen { origin: "x".into(), size: 41, root: Sha256::of(b"") },
        signer: signer.into(),
    }
}

fn counted(run: &Reviewable, review: &review::Review) -> Result<Given, String> {
    let signed = Ok(Signed { key: format!("{}-1", review.signer), presence: None });
    counts(run, review, &signed, &people(), at(ENDED_MS + HOUR_MS))
}

#[test]
fn each_review_that_does_not_count_says_why() {
    let owing = run(vec![owed("emergencies", 72, &["it-lead"], None)]);
    assert!(counted(&owing, &said("jane")).is_ok());
    type Change = fn(&mut review::Review);
    let changes: [(&str, Change); 11] = [
        ("ben ran it, and cannot review it", |review| review.signer = "ben".into()),
        ("raj has no role of it-lead", |review| review.signer = "raj".into()),
        ("the key of old that signed it counted until 2020-01-01", |review| review.signer = "old".into()),
        ("the key of gone that signed it was revoked on 2020-01-01", |review| review.signer = "gone".into()),
        ("it is of run run-2", |review| review.run = RunId::from("run-2")),
        ("it is of another plan", |review| review.plan_sha256 = Sha256::of(b"other")),
        ("before the run's end", |review| review.made_ms = ENDED_MS - 1),
        ("a ledger that did not hold the run's end yet", |review| review.ledger.size = 40),
        ("which is yet to come", |review| review.made_ms = ENDED_MS + 2 * HOUR_MS),
        ("it says that the run ended failed, and it ended succeeded", |review| review.outcome = RunOutcome::Failed),
        ("it gives no reason", |review| review.reason = " ".into()),
    ];
    for (words, change) in changes {
        let mut review = said("jane");
        change(&mut review);
        let why = counted(&owing, &review).unwrap_err();
        assert!(why.contains(words), "{words}: {why}");
    }
    let unsigned = Err("the signature is for \"file\"".to_owned());
    let why = counts(&owing, &said("jane"), &unsigned, &people(), at(ENDED_MS + HOUR_MS)).unwrap_err();
    assert!(why.contains("for \"file\""), "{why}");
    let as_another = Ok(Signed { key: "raj-1".into(), presence: None });
    let why = counts(&owing, &said("jane"), &as_another, &people(), at(ENDED_MS + HOUR_MS)).unwrap_err();
    assert!(why.contains("raj's key signed it"), "{why}");
    let still_open = Reviewable { ended: None, ..owing.clone() };
    assert_eq!(counted(&still_open, &said("jane")).unwrap_err(), "the run has not ended");
    // Whoever ran it is nobody who is known: it may have been jane.
    let unknown = Reviewable { operators: BTreeSet::from(["root".to_owned()]), ..owing.clone() };
    let why = counted(&unknown, &said("jane")).unwrap_err();
    assert!(why.contains("the account root that ran it is nobody's"), "{why}");
    // Who took it up again ran it too.
    let resumed = Reviewable { operators: BTreeSet::from(["ben".to_owned(), "jane".to_owned()]), ..owing };
    assert_eq!(counted(&resumed, &said("jane")).unwrap_err(), "jane ran it, and cannot review it");
}

#[test]
fn what_is_due_counts_from_the_end_and_what_is_left_open_from_its_opening() {
    let owing = run(vec![owed("emergencies", 72, &["it-lead"], None)]);
    let due = ENDED_MS + 72 * HOUR_MS;
    assert_eq!(standing(&owing, at(due - 1)).state, State::Due(due));
    assert_eq!(standing(&owing, at(due)).state, State::Overdue(due));
    assert_eq!(standing(&owing, at(due - 1)).blocks(), None);
    let why = standing(&owing, at(due)).blocks().unwrap();
    for word in ["run-1", "1 it-lead, other than who ran it", "runbook review run-1 --verdict"] {
        assert!(why.contains(word), "{word}: {why}");
    }
    let left_open = Reviewable { ended: None, ..owing.clone() };
    let due = left_open.started_ms + 72 * HOUR_MS;
    assert_eq!(standing(&left_open, at(due - 1)).state, State::Due(due));
    let why = standing(&left_open, at(due)).blocks().unwrap();
    assert!(why.contains("has not ended") && why.contains("runbook resume run-1"), "{why}");
    let worked_on = Reviewable { worked_on: true, ..left_open };
    assert_eq!(standing(&worked_on, at(due + HOUR_MS)).state, State::Running);
    // Of two rules the shorter time counts, as long as it is not met.
    let mut two = run(vec![owed("a", 72, &["it-lead"], None), owed("b", 24, &["cui-owner"], None)]);
    assert_eq!(standing(&two, at(ENDED_MS)).state, State::Due(ENDED_MS + 24 * HOUR_MS));
    two.given = latest([counted(&two, &said("raj")).unwrap()]);
    assert_eq!(standing(&two, at(ENDED_MS)).state, State::Due(ENDED_MS + 72 * HOUR_MS));
    assert_eq!(standing(&two, at(ENDED_MS)).missing, ["a: reviewed by 0 of 1 with the role it-lead"]);
    two.given = latest([counted(&two, &said("raj")).unwrap(), counted(&two, &said("jane")).unwrap()]);
    assert_eq!(standing(&two, at(ENDED_MS + 1_000 * HOUR_MS)).state, State::Done);
    assert!(open(&[two], at(ENDED_MS + 1_000 * HOUR_MS)).is_empty());
}

#[test]
fn a_person_counts_once_and_their_last_word_is_the_one() {
    let owing = run(vec![owed("two eyes", 72, &[], Some(2))]);
    let mut later = said("jane");
    (later.made_ms, later.verdict) = (ENDED_MS + 2, Verdict::FollowUp);
    let given = latest([counted(&owing, &later).unwrap(), counted(&owing, &said("jane")).unwrap()]);
    assert_eq!(given.iter().map(|given| given.verdict).collect::<Vec<_>>(), [Verdict::FollowUp]);
    let owing = Reviewable { given, ..owing };
    assert_eq!(standing(&owing, at(ENDED_MS)).missing, ["two eyes: reviewed by 1 of 2 persons"]);
}

#[test]
fn an_overdue_review_blocks_what_is_new_and_nothing_else() {
    let overdue = run(vec![owed("emergencies", 72, &["it-lead"], None)]);
    let now = at(ENDED_MS + 73 * HOUR_MS);
    let ask = |act, break_glass: Option<&str>| Ask {
        break_glass: break_glass.map(str::to_owned),
        reviews: vec![overdue.clone()],
        ..Ask::new(act, now)
    };
    for break_glass in [None, Some("it burns")] {
        let refusal = authorize(Rules::default(), &ask(Act::Apply, break_glass)).unwrap_err();
        assert!(refusal.overdue && !refusal.by_policy, "{refusal}");
    }
    for act in [Act::Check, Act::Resume, Act::Cancel, Act::TakeBack] {
        assert!(authorize(Rules::default(), &ask(act, None)).is_ok(), "{act:?}");
    }
    let before = Ask { now: at(ENDED_MS + HOUR_MS), ..ask(Act::Apply, None) };
    assert!(authorize(Rules::default(), &before).is_ok());
}
