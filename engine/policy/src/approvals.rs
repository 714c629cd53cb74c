//! What persons decided about a plan: which decisions count, and why the others do not.

use std::collections::BTreeMap;

use jiff::Timestamp;
use runbook_model::approval::{Approval, Decision, Used};
use runbook_model::people::{Member, People};
use runbook_model::rules::Presence;
use runbook_model::units::rfc3339_ms;
use runbook_model::{RunId, Sha256};

use crate::rules::{Policed, day};

/// A decision as it was found. That its signature fits its bytes was checked by whoever offers it; nothing else was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// The file's name, for people.
    pub file: String,
    /// What it says.
    pub approval: Approval,
    /// Digests of its bytes and of its signature.
    pub document: Sha256,
    /// See [`Self::document`].
    pub signature: Sha256,
    /// What signed it, or why that does not hold.
    pub signed: Result<Signed, String>,
    /// The run that began with it already.
    pub used_by: Option<RunId>,
}

/// What signed a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Type and base64 of the public key.
    pub key: String,
    /// What it proves of the person who has it.
    pub presence: Option<Presence>,
}

/// An approval that counts, so far as it is about this plan and now.
#[derive(Debug)]
pub(crate) struct Counted<'d> {
    pub(crate) file: &'d str,
    pub(crate) person: &'d str,
    pub(crate) member: &'d Member,
    pub(crate) made_ms: u64,
    pub(crate) presence: Option<Presence>,
    pub(crate) used: Used,
}

/// All decisions about a plan.
#[derive(Debug, Default)]
pub(crate) struct Decided<'d> {
    /// One per person at most.
    pub(crate) approvals: Vec<Counted<'d>>,
    /// In words.
    pub(crate) rejections: Vec<String>,
    /// Those that do not count, with their reasons.
    pub(crate) set_aside: Vec<String>,
}

/// Unix ms of a moment.
pub(crate) fn ms(moment: Timestamp) -> u64 {
    u64::try_from(moment.as_millisecond()).unwrap_or(0)
}

/// Sorts out what was offered. What is about another runbook is passed over in silence.
pub(crate) fn decide(policed: Policed<'_>, now: Timestamp) -> Decided<'_> {
    let Policed { plan, case, .. } = policed;
    let mut decided = Decided::default();
    // Of each person the last word: a refusal taken back, or an approval.
    let mut last: BTreeMap<&str, (&Offered, &Member, Option<Presence>)> = BTreeMap::new();
    for offered in case.offered.iter().filter(|offered| offered.approval.runbook == plan.runbook.name) {
        let told = |why: String| format!("{} does not count: {why}", offered.file);
        let (person, member, presence) = match signer(policed, offered, now) {
            Ok(signer) => signer,
            Err(why) => {
                decided.set_aside.push(told(why));
                continue;
            }
        };
        let about = match offered.approval.decision {
            // That a plan must not be run stays so when windows change, and for good.
            Decision::Reject => about_plan(policed, offered),
            Decision::Approve => about_plan(policed, offered).and_then(|()| counts(policed, offered, now)),
        };
        if let Err(why) = about {
            decided.set_aside.push(told(why));
            continue;
        }
        let rank = |offered: &Offered| (offered.approval.made_ms, offered.approval.decision == Decision::Reject);
        match last.get(person) {
            Some((other, ..)) if rank(other) >= rank(offered) => {
                decided.set_aside.push(told(format!("{person} counts once, with {}", other.file)));
            }
            other => {
                if let Some((other, ..)) = other {
                    let file = &offered.file;
                    decided.set_aside.push(format!("{} does not count: {person} counts once, with {file}", other.file));
                }
                last.insert(person, (offered, member, presence));
            }
        }
    }
    for (person, (offered, member, presence)) in last {
        let Offered { file, approval, document, signature, .. } = offered;
        match approval.decision {
            Decision::Reject => decided.rejections.push(format!("{person} has rejected it: {}", approval.reason)),
            Decision::Approve => decided.approvals.push(Counted {
                file,
                person,
                member,
                made_ms: approval.made_ms,
                presence,
                used: Used {
                    document: *document,
                    signature: *signature,
                    signer: person.to_owned(),
                    nonce: approval.nonce.clone(),
                    valid_until_ms: approval.valid_until_ms,
                },
            }),
        }
    }
    decided
}

type Signer<'d> = (&'d str, &'d Member, Option<Presence>);

fn signer<'d>(policed: Policed<'d>, offered: &Offered, now: Timestamp) -> Result<Signer<'d>, String> {
    let signed = offered.signed.as_ref().map_err(Clone::clone)?;
    let (person, member) = whose(policed.people, signed, &offered.approval.signer, now)?;
    Ok((person, member, signed.presence))
}

/// Whose signature it is, who is `said` to have signed, when their key counts.
pub(crate) fn whose<'p>(
    people: &'p People,
    signed: &Signed,
    said: &str,
    now: Timestamp,
) -> Result<(&'p str, &'p Member), String> {
    let (person, member) = people.with_key(&signed.key).ok_or("the key that signed it is nobody's in people.yaml")?;
    if said != person {
        return Err(format!("it says that it is {said}'s, and {person}'s key signed it"));
    }
    let today = day(now);
    for key in member.keys.iter().filter(|key| key.key == signed.key) {
        if let Some(revoked) = key.revoked.filter(|revoked| *revoked <= today) {
            return Err(format!("the key of {person} that signed it was revoked on {revoked}"));
        }
        if let Some(until) = key.until.filter(|until| *until < today) {
            return Err(format!("the key of {person} that signed it counted until {until}"));
        }
    }
    Ok((person, member))
}

/// Whether it is about exactly this plan.
fn about_plan(policed: Policed<'_>, offered: &Offered) -> Result<(), String> {
    let Policed { plan, .. } = policed;
    let approval = &offered.approval;
    let hosts = approval.hosts_sha256 == Approval::hosts_of(plan);
    let parameters = approval.parameters_sha256 == Approval::parameters_of(plan);
    let whole = approval.plan_sha256 == plan.digest();
    match (whole, hosts, parameters) {
        (true, true, true) if approval.tier == plan.runbook.tier => Ok(()),
        (true, ..) => Err("what it says of the plan is not true of the plan that it names".to_owned()),
        (false, false, _) => Err("it is for a plan with other hosts".to_owned()),
        (false, true, false) => Err("it is for a plan with other parameters".to_owned()),
        (false, true, true) => Err("it is for another plan".to_owned()),
    }
}

fn counts(policed: Policed<'_>, offered: &Offered, now: Timestamp) -> Result<(), String> {
    let approval = &offered.approval;
    let now = ms(now);
    if approval.windows_sha256 != policed.case.windows {
        return Err("windows.yaml is not the one that it was given for".to_owned());
    }
    if approval.made_ms > now {
        return Err(format!("it says that it was made at {}, which is yet to come", rfc3339_ms(approval.made_ms)));
    }
    if approval.valid_until_ms <= now {
        return Err(format!("it was valid until {}", rfc3339_ms(approval.valid_until_ms)));
    }
    match &offered.used_by {
        // The way back is part of what was approved.
        Some(run) if policed.case.takes_back.as_ref() != Some(run) => {
            Err(format!("run {run} began with it, and it counts for one run"))
        }
        _ => Ok(()),
    }
}
