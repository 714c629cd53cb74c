//! Reviews after the end of a run: which runs owe one, what counts as one, and what is due or overdue.
//!
//! What a run owes stands in its opening. A policy that was changed since takes nothing back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use runbook_model::people::{Member, People};
use runbook_model::review::{Review, Verdict};
use runbook_model::rules::{self, Owed};
use runbook_model::units::rfc3339_ms;
use runbook_model::{RunId, RunOutcome, Sha256};

use crate::approvals::{self, Signed};
use crate::rules::day;

/// A run that owes reviews, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reviewable {
    /// The run.
    pub run: RunId,
    /// The runbook's name.
    pub runbook: String,
    /// Digest of its plan.
    pub plan_sha256: Sha256,
    /// The accounts of those who ran it: whoever began it, and whoever took it up again, where that is known.
    pub operators: BTreeSet<String>,
    /// What it owes: only what holds, so without what was for windows set aside when none were.
    pub owes: Vec<Owed>,
    /// When it was opened (Unix ms).
    pub started_ms: u64,
    /// When and how it ended.
    pub ended: Option<(u64, RunOutcome)>,
    /// The place in the ledger of its last record, where that is known.
    pub last_seq: Option<u64>,
    /// A program works on it.
    pub worked_on: bool,
    /// The reviews that count, one per person at most.
    pub given: Vec<Given>,
}

/// A review that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// Whose.
    pub person: String,
    /// What they could decide when it was taken in.
    pub roles: BTreeSet<String>,
    /// One of those who ran it.
    pub ran_it: bool,
    /// What came of it.
    pub verdict: Verdict,
    /// Why.
    pub reason: String,
    /// When it was made (Unix ms, by its signer's clock).
    pub made_ms: u64,
}

/// Where the reviews of a run stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// They are not due before this moment (Unix ms).
    Due(u64),
    /// They were due at this moment (Unix ms).
    Overdue(u64),
    /// A program still works on it; the time counts from its end.
    Running,
    /// All that were owed were given.
    Done,
}

impl State {
    /// The word in JSON and for people.
    pub fn name(self) -> &'static str {
        match self {
            State::Due(_) => "due",
            State::Overdue(_) => "overdue",
            State::Running => "running",
            State::Done => "done",
        }
    }

    /// By when, or since when.
    pub fn at_ms(self) -> Option<u64> {
        match self {
            State::Due(at) | State::Overdue(at) => Some(at),
            State::Running | State::Done => None,
        }
    }
}

/// A run that owes reviews, as it stands at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The run.
    pub run: RunId,
    /// The runbook's name.
    pub runbook: String,
    /// Where it stands.
    pub state: State,
    /// It has ended: before that nobody can review it.
    pub ended: bool,
    /// What is still missing, one per rule and requirement, in words.
    pub missing: Vec<String>,
    /// Who may give what is missing, in words.
    pub who: Vec<String>,
}

impl Standing {
    /// In one line, for people.
    pub fn told(&self) -> String {
        match self.state {
            State::Due(at) => format!("due until {}: {}", rfc3339_ms(at), self.who.join(", and ")),
            State::Overdue(at) => format!("OVERDUE since {}: {}", rfc3339_ms(at), self.who.join(", and ")),
            State::Running => "owed after its end".to_owned(),
            State::Done => "given".to_owned(),
        }
    }

    /// Why nothing else may be begun, when it is overdue.
    pub fn blocks(&self) -> Option<String> {
        let State::Overdue(since) = self.state else { return None };
        let Self { run, runbook, .. } = self;
        let since = rfc3339_ms(since);
        if !self.ended {
            return Some(format!(
                "run {run} of {runbook} has not ended, and its review was due at {since}: end it with `runbook resume {run}` or \
                 `runbook cancel {run}`; then it can be reviewed"
            ));
        }
        Some(format!(
            "the review of run {run} of {runbook} was due at {since}: it wants {}; they run `runbook review {run} --verdict \
             accepted --reason WHY`",
            self.who.join(", and ")
        ))
    }
}

/// Where the reviews of a run stand at a moment. A run that nobody works on and that has not ended counts from its opening:
/// else it would only have to be left open to be reviewed never.
pub fn standing(run: &Reviewable, now: Timestamp) -> Standing {
    let now_ms = approvals::ms(now);
    let (mut missing, mut who, mut within) = (Vec::new(), Vec::new(), None::<u64>);
    for owed in &run.owes {
        let lacks = lacks(&owed.review, &run.given);
        if lacks.is_empty() {
            continue;
        }
        within = Some(within.map_or(owed.review.within_ms, |least| least.min(owed.review.within_ms)));
        missing.extend(lacks.into_iter().map(|what| format!("{}: {what}", owed.rule)));
        let whom = wanted(&owed.review);
        if !who.contains(&whom) {
            who.push(whom);
        }
    }
    let from = match run.ended {
        Some((ended_ms, _)) => Some(ended_ms),
        None if run.worked_on => None,
        None => Some(run.started_ms),
    };
    let state = match (within, from) {
        (None, _) if run.ended.is_some() => State::Done,
        (None, _) | (Some(_), None) => State::Running,
        (Some(within), Some(from)) => match from.saturating_add(within) {
            due if due > now_ms => State::Due(due),
            due => State::Overdue(due),
        },
    };
    Standing { run: run.run.clone(), runbook: run.runbook.clone(), state, ended: run.ended.is_some(), missing, who }
}

/// All that are not done at a moment, the most urgent first. For whoever reminds people, and for what decides.
pub fn open(runs: &[Reviewable], now: Timestamp) -> Vec<Standing> {
    let mut open: Vec<Standing> =
        runs.iter().map(|run| standing(run, now)).filter(|standing| standing.state != State::Done).collect();
    open.sort_by_key(|standing| (standing.state.at_ms().unwrap_or(u64::MAX), standing.run.clone()));
    open
}

/// Whom a review wants, in words: `1 it-lead, 2 in all, other than who ran it`.
pub fn wanted(review: &rules::Review) -> String {
    let mut parts: Vec<String> = review.roles.iter().map(|(role, count)| format!("{count} {role}")).collect();
    parts.extend(review.persons.map(|count| format!("{count} in all")));
    let but = if review.not_operator { ", other than who ran it" } else { "" };
    format!("{}{but}", parts.join(", "))
}

/// What is missing of it.
fn lacks(review: &rules::Review, given: &[Given]) -> Vec<String> {
    let counts: Vec<&Given> = given.iter().filter(|given| !(review.not_operator && given.ran_it)).collect();
    let mut lacks = Vec::new();
    for (role, count) in &review.roles {
        let there = counts.iter().filter(|given| given.roles.contains(role)).count();
        if u32::try_from(there).unwrap_or(u32::MAX) < *count {
            lacks.push(format!("reviewed by {there} of {count} with the role {role}"));
        }
    }
    if let Some(count) = review.persons
        && u32::try_from(counts.len()).unwrap_or(u32::MAX) < count
    {
        lacks.push(format!("reviewed by {} of {count} persons", counts.len()));
    }
    lacks
}

/// Why nobody could give a review, with these people and that operator; empty: somebody could. What nobody can give would
/// block all work later.
pub(crate) fn impossible(review: &rules::Review, people: &People, account: &str, now: Timestamp) -> Vec<String> {
    let today = day(now);
    let can_sign = |member: &Member| {
        let counts = |key: &&runbook_model::people::Key| {
            key.revoked.is_none_or(|day| day > today) && key.until.is_none_or(|day| day >= today)
        };
        member.keys.iter().any(|key| counts(&key))
    };
    let given: Vec<Given> = people
        .people
        .iter()
        .filter(|(_, member)| can_sign(member))
        .map(|(id, member)| Given {
            person: id.clone(),
            roles: member.roles.clone(),
            ran_it: member.accounts.contains(account),
            verdict: Verdict::Accepted,
            reason: String::new(),
            made_ms: 0,
        })
        .collect();
    lacks(review, &given)
        .into_iter()
        .map(|_| format!("people.yaml has not enough people with keys who could review it ({})", wanted(review)))
        .take(1)
        .collect()
}

/// Whether a review counts for a run, with the people of that moment. `signed`: what signed its bytes, or why nothing did.
///
/// # Errors
/// Why it does not, in words.
pub fn counts(
    run: &Reviewable,
    review: &Review,
    signed: &Result<Signed, String>,
    people: &People,
    now: Timestamp,
) -> Result<Given, String> {
    let signed = signed.as_ref().map_err(Clone::clone)?;
    let (person, member) = approvals::whose(people, signed, &review.signer, now)?;
    if review.run != run.run {
        return Err(format!("it is of run {}", review.run));
    }
    if review.plan_sha256 != run.plan_sha256 {
        return Err("it is of another plan than the run's".to_owned());
    }
    let Some((ended_ms, outcome)) = run.ended else {
        return Err("the run has not ended".to_owned());
    };
    if review.made_ms < ended_ms {
        let (made, ended) = (rfc3339_ms(review.made_ms), rfc3339_ms(ended_ms));
        return Err(format!("it was signed at {made}, before the run's end at {ended}"));
    }
    if run.last_seq.is_some_and(|last| review.ledger.size <= last) {
        return Err("its signer saw a ledger that did not hold the run's end yet".to_owned());
    }
    if review.made_ms > approvals::ms(now) {
        return Err(format!("it says that it was made at {}, which is yet to come", rfc3339_ms(review.made_ms)));
    }
    if review.outcome != outcome {
        return Err(format!("it says that the run ended {}, and it ended {}", review.outcome.name(), outcome.name()));
    }
    if review.reason.trim().is_empty() {
        return Err("it gives no reason".to_owned());
    }
    let ran_it = member.accounts.iter().any(|account| run.operators.contains(account));
    let given = Given {
        person: person.to_owned(),
        roles: member.roles.clone(),
        ran_it,
        verdict: review.verdict,
        reason: review.reason.clone(),
        made_ms: review.made_ms,
    };
    let known = |account: &String| people.with_account(account).is_some();
    let fits = |owed: &Owed| {
        let review = &owed.review;
        review.persons.is_some() || review.roles.keys().any(|role| member.roles.contains(role))
    };
    let apart = |owed: &Owed| !owed.review.not_operator || !ran_it && run.operators.iter().all(known);
    if run.owes.is_empty() {
        return Err("the run owes no review".to_owned());
    }
    if !run.owes.iter().any(fits) {
        let roles: BTreeSet<&String> = run.owes.iter().flat_map(|owed| owed.review.roles.keys()).collect();
        let roles: Vec<&str> = roles.into_iter().map(String::as_str).collect();
        return Err(format!("{person} has no role of {}", roles.join(", ")));
    }
    if !run.owes.iter().any(|owed| fits(owed) && apart(owed)) {
        return Err(match run.operators.iter().find(|account| !known(account)) {
            _ if ran_it => format!("{person} ran it, and cannot review it"),
            Some(account) => {
                format!(
                    "the account {account} that ran it is nobody's in people.yaml, so nobody can tell whether {person} did"
                )
            }
            None => format!("{person} cannot review it"),
        });
    }
    Ok(given)
}

/// Of each person the latest review.
pub fn latest(given: impl IntoIterator<Item = Given>) -> Vec<Given> {
    let mut last: BTreeMap<String, Given> = BTreeMap::new();
    for one in given {
        match last.get(&one.person) {
            Some(other) if other.made_ms > one.made_ms => {}
            _ => {
                last.insert(one.person.clone(), one);
            }
        }
    }
    last.into_values().collect()
}
