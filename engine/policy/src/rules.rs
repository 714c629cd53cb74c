//! Whether the project's policy is met: rule by rule what is required, and what is missing.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use runbook_model::approval::Used;
use runbook_model::people::{Member, People};
use runbook_model::plan::{Phase, Plan};
use runbook_model::rehearsal::Rehearsed;
use runbook_model::retention::Class;
use runbook_model::rules::{Approvals, Operator, Owed, Policy, Rehearsal, Review, Rule};
use runbook_model::ticket::{Approval, HERE, Seen};
use runbook_model::{HostName, RunId, Sha256};

use crate::approvals::{self, Counted, Decided, Offered};
use crate::authorize::{Act, Ask};
use crate::rehearsal::Tried;
use crate::{change, clock, rehearsal, reviews, tools};

/// A policy, and all that it is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Policed<'r> {
    /// What it says.
    pub policy: &'r Policy,
    /// Digest of its file.
    pub sha256: Sha256,
    /// Who there is; nobody when there is no `people.yaml`.
    pub people: &'r People,
    /// Digest of that file; `None`: there is none.
    pub people_sha256: Option<Sha256>,
    /// The plan.
    pub plan: &'r Plan,
    /// The rest.
    pub case: &'r Case,
}

/// What is known of the one who asks, and what they bring.
#[derive(Debug, Clone, Default)]
pub struct Case {
    /// Their account on the controller.
    pub account: String,
    /// The change ticket.
    pub ticket: Option<String>,
    /// For each rule the hosts of the plan that its selection has; of a rule without one, all.
    pub selected: Vec<BTreeSet<HostName>>,
    /// Hosts of the plan that are in the inventory no more, or have become others there: no rule can be chosen for them.
    pub strangers: BTreeSet<HostName>,
    /// Digest of `windows.yaml`.
    pub windows: Option<Sha256>,
    /// What persons decided.
    pub offered: Vec<Offered>,
    /// The finished run that is to be taken back.
    pub takes_back: Option<RunId>,
    /// Digest of this program.
    pub engine: Option<Sha256>,
    /// For each rule the hosts on which its rehearsal may be; of a rule that asks for none, none.
    pub staging: Vec<BTreeSet<HostName>>,
    /// The rehearsals of the same runbook.
    pub tried: Vec<Tried>,
    /// The change that the ticket is of, as whoever keeps it says, or why that cannot be told; `None`: nobody was asked.
    pub change: Option<Result<Seen, String>>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Judged {
    /// Why nothing may be begun whatever the rules ask: rejections, hosts that nobody knows.
    pub blocked: Vec<String>,
    /// The rules that are for a host of the plan, in order.
    pub rules: Vec<Asked>,
    /// Decisions that do not count, each with its reason.
    pub set_aside: Vec<String>,
    /// The approvals that count for a rule.
    pub used: Vec<Used>,
    /// The reviews that the run owes after its end.
    pub owes: Vec<Owed>,
    /// How far clocks may be off at most: the strictest of the rules.
    pub clock_max_offset_ms: Option<u64>,
    /// The class as which the evidence is kept at least: the strictest of the rules.
    pub retention: Option<Class>,
    /// The change that the ticket is of, as it stands.
    pub change: Option<Seen>,
    /// The rehearsal that it needed; with several rules, the oldest.
    pub rehearsed: Option<Rehearsed>,
}

/// A rule that is for hosts of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The rule's name.
    pub rule: String,
    /// The hosts that it is for.
    pub hosts: Vec<HostName>,
    /// What it requires.
    pub needs: Vec<Need>,
}

/// A requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// In words.
    pub what: String,
    /// What is missing; empty: it is met.
    pub missing: Vec<String>,
}

impl Judged {
    /// Why the policy does not allow it, one per reason; none: it does.
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = self.blocked.clone();
        let mut wants_approvals = false;
        for asked in &self.rules {
            for need in &asked.needs {
                wants_approvals |= !need.missing.is_empty() && need.what.starts_with(APPROVED);
                for missing in &need.missing {
                    let reason = format!("{}: {missing}", asked.rule);
                    if !reasons.contains(&reason) {
                        reasons.push(reason);
                    }
                }
            }
        }
        if wants_approvals {
            reasons.extend(self.set_aside.iter().cloned());
        }
        reasons
    }
}

/// How a requirement of approvals begins.
const APPROVED: &str = "approved by ";

/// Decides, for a new run.
pub fn judge(policed: Policed<'_>, ask: &Ask) -> Judged {
    let Policed { policy, people, plan, case, .. } = policed;
    let decided = approvals::decide(policed, ask.now);
    let change = case.change.clone().map(|seen| seen.map(|seen| decided_here(seen, &decided)));
    let mut judged = Judged { set_aside: decided.set_aside.clone(), ..Judged::default() };
    if ask.act != Act::Check {
        judged.blocked.extend(decided.rejections.iter().cloned());
    }
    if let Some(first) = case.strangers.first() {
        let more = case.strangers.len() - 1;
        let others = if more == 0 { String::new() } else { format!(" and {more} more") };
        judged.blocked.push(format!(
            "{first}{others}: not in the inventory as the plan has it, so no rule can be chosen; plan again"
        ));
    }
    // Of a large plan they take long, and few rules ask for them.
    let plan_sha256 = LazyCell::new(|| plan.digest());
    let rehearsal_sha256 = LazyCell::new(|| runbook_model::rehearsal::digest(plan));
    let mut used: BTreeMap<&str, Used> = BTreeMap::new();
    for (no, rule) in policy.rules.iter().enumerate() {
        let hosts = hosts_of(no, rule, plan, case);
        if hosts.is_empty() {
            continue;
        }
        if let Some(review) = rule.review.as_ref().filter(|_| ask.act != Act::Check) {
            let (rule, review, break_glass) = (rule.name.clone(), review.clone(), rule.break_glass);
            judged.owes.push(Owed { rule, review, break_glass });
        }
        if rule.break_glass && ask.break_glass.is_none() {
            continue;
        }
        let mut needs = Vec::new();
        if let Some(wanted) = &rule.operator {
            needs.push(operator(wanted, people, case, ask.now));
        }
        if !rule.transports.is_empty() {
            needs.push(transports(rule, plan, &hosts));
        }
        if let Some(register) = &rule.tools {
            needs.push(registered(register, plan, case));
        }
        if let Some(class) = rule.retention {
            judged.retention = judged.retention.max(Some(class));
            needs.push(Need {
                what: format!("evidence that is kept as {} at least", class.name()),
                missing: Vec::new(),
            });
        }
        if ask.act != Act::Check {
            if let Some(wanted) = &rule.approvals {
                let (need, counted) = approved(wanted, &decided, people, case, ask.now);
                needs.push(need);
                for Counted { person, made_ms, used: of, .. } in counted {
                    let used = used.entry(person).or_insert_with(|| of.clone());
                    used.valid_until_ms = used.valid_until_ms.min(made_ms.saturating_add(wanted.valid_for_ms));
                }
            }
            if let Some(pattern) = &rule.ticket {
                needs.push(ticket(pattern, case));
            }
            if !rule.change.is_none() {
                let of = (!ask.rehearses).then(|| *plan_sha256);
                let missing = change::missing(rule.change, change.as_ref(), &hosts, of, ask.now);
                needs.push(Need { what: change::wanted(rule.change), missing });
            }
            if rule.reason {
                let missing = ask.reason.is_none().then(|| "no reason is given (`--reason`)".to_owned());
                needs.push(Need { what: "a reason".to_owned(), missing: missing.into_iter().collect() });
            }
            if let Some(most) = rule.clock_max_offset_ms {
                judged.clock_max_offset_ms = Some(judged.clock_max_offset_ms.map_or(most, |least| least.min(most)));
                let what = format!("clocks that are synchronised, and at most {most} ms off");
                needs.push(Need { what, missing: clock::misfit(&ask.clock, most).into_iter().collect() });
            }
            if rule.windows && ask.break_glass.is_none() {
                needs.push(windows(&hosts, ask));
            }
        }
        match rule.rehearsal.as_ref().filter(|_| ask.act == Act::Apply) {
            Some(wanted) if ask.rehearses => needs.push(rehearses_there(wanted, no, &hosts, case)),
            Some(wanted) => {
                let (need, counted) = rehearsed(wanted, no, *rehearsal_sha256, case, ask.now);
                needs.push(need);
                let oldest =
                    |one: &Rehearsed| judged.rehearsed.as_ref().is_none_or(|other| one.ended_ms < other.ended_ms);
                if let Some(counted) = counted.filter(oldest) {
                    judged.rehearsed = Some(counted);
                }
            }
            None => {}
        }
        if rule.snapshot && ask.act == Act::Apply {
            let missing = match plan.phase(Phase::Snapshot).next() {
                Some(_) => Vec::new(),
                None => vec!["the runbook takes no snapshot".to_owned()],
            };
            needs.push(Need { what: "a snapshot is taken".to_owned(), missing });
        }
        if let Some(wanted) = rule.review.as_ref().filter(|_| ask.act != Act::Check) {
            needs.push(reviewable(wanted, people, case, ask.now));
        }
        judged.rules.push(Asked { rule: rule.name.clone(), hosts, needs });
    }
    judged.used = used.into_values().collect();
    judged.change = change.and_then(Result::ok);
    judged
}

/// A ticket of the project's own is approved by who approves the plan.
fn decided_here(mut seen: Seen, decided: &Decided<'_>) -> Seen {
    if seen.system == HERE {
        seen.change.approval = match (decided.rejections.is_empty(), decided.approvals.is_empty()) {
            (false, _) => Approval::Rejected,
            (true, false) => Approval::Approved,
            (true, true) => Approval::Awaited,
        };
    }
    seen
}

/// Why whoever asks may not go on with a run: the rules' `operator` is asked of them like of the one who began it. Nothing
/// else is: what was authorized then goes on.
pub fn goes_on(policed: Policed<'_>, ask: &Ask) -> Vec<String> {
    let Policed { policy, people, plan, case, .. } = policed;
    let mut reasons = Vec::new();
    for (no, rule) in policy.rules.iter().enumerate() {
        let Some(wanted) = rule.operator.as_ref().filter(|_| !rule.break_glass || ask.break_glass.is_some()) else {
            continue;
        };
        if !hosts_of(no, rule, plan, case).is_empty() {
            let missing = operator(wanted, people, case, ask.now).missing;
            reasons.extend(missing.into_iter().map(|missing| format!("{}: {missing}", rule.name)));
        }
    }
    reasons
}

/// The hosts of the plan that the rule (with this number) is for.
fn hosts_of(no: usize, rule: &Rule, plan: &Plan, case: &Case) -> Vec<HostName> {
    if !rule.tiers.is_empty() && !rule.tiers.contains(&plan.runbook.tier) {
        return Vec::new();
    }
    let hosts = plan.hosts.values();
    hosts
        .filter(|host| case.selected.get(no).is_none_or(|selected| selected.contains(&host.name)))
        .filter(|host| rule.risk.is_empty() || host.risk.as_ref().is_some_and(|risk| rule.risk.contains(risk)))
        .map(|host| host.name.clone())
        .collect()
}

/// The day (UTC) of a moment.
pub(crate) fn day(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

fn names<'n>(names: impl IntoIterator<Item = &'n String>) -> String {
    names.into_iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn operator(wanted: &Operator, people: &People, case: &Case, now: Timestamp) -> Need {
    let mut what = "run by a person of people.yaml".to_owned();
    if !wanted.roles.is_empty() {
        what.push_str(&format!(" with a role of {}", names(&wanted.roles)));
    }
    if !wanted.training.is_empty() {
        what.push_str(&format!(", trained in {}", names(&wanted.training)));
    }
    let Some((id, member)) = people.with_account(&case.account) else {
        let missing = format!("the account {} is nobody's in people.yaml", case.account);
        return Need { what, missing: vec![missing] };
    };
    let mut missing = Vec::new();
    if !wanted.roles.is_empty() && wanted.roles.is_disjoint(&member.roles) {
        missing.push(format!("{id} has no role of {}", names(&wanted.roles)));
    }
    let today = day(now);
    for training in &wanted.training {
        match member.training.get(training) {
            None => missing.push(format!("{id} has no training in {training}")),
            Some(until) if *until < today => {
                missing.push(format!("{id}'s training in {training} counted until {until}"));
            }
            Some(_) => {}
        }
    }
    missing.extend(contract(id, member, today));
    Need { what, missing }
}

/// What a vendor's contract lacks.
fn contract(id: &str, member: &Member, today: Date) -> Vec<String> {
    let Some(vendor) = &member.vendor else { return Vec::new() };
    let mut missing = Vec::new();
    if vendor.sow_until < today {
        missing.push(format!("{id} works for {}, whose {} ended on {}", vendor.company, vendor.sow, vendor.sow_until));
    }
    if vendor.nda_until < today {
        missing.push(format!(
            "{id} works for {}, whose agreement not to disclose ended on {}",
            vendor.company, vendor.nda_until
        ));
    }
    missing
}

/// That every tool of the plan is one of the register.
fn registered(register: &BTreeMap<Sha256, String>, plan: &Plan, case: &Case) -> Need {
    let mut missing = Vec::new();
    match case.engine {
        None => missing.push("nobody knows the digest of this program".to_owned()),
        Some(engine) => {
            for (sha256, name) in tools::of(plan, engine) {
                if !register.contains_key(&sha256) {
                    missing.push(format!("{name} is not among the tools with the digest {sha256}"));
                }
            }
        }
    }
    Need { what: "tools of the register alone".to_owned(), missing }
}

/// That somebody can give the review that the run will owe.
fn reviewable(wanted: &Review, people: &People, case: &Case, now: Timestamp) -> Need {
    let within = in_words(wanted.within_ms);
    let mut missing = reviews::impossible(wanted, people, &case.account, now);
    if wanted.not_operator && people.with_account(&case.account).is_none() {
        missing.push(format!(
            "the account {} is nobody's in people.yaml, so nobody could tell whether they reviewed it themselves",
            case.account
        ));
    }
    Need { what: format!("reviewed within {within} after its end by {}", reviews::wanted(wanted)), missing }
}

/// A duration, as a policy has it.
fn in_words(ms: u64) -> String {
    match ms {
        ms if ms % 3_600_000 == 0 => format!("{} h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{} min", ms / 60_000),
        ms => format!("{ms} ms"),
    }
}

fn transports(rule: &Rule, plan: &Plan, hosts: &[HostName]) -> Need {
    let mut missing = Vec::new();
    for host in hosts.iter().filter_map(|host| plan.hosts.get(host)) {
        if !rule.transports.contains(&host.transport) {
            missing.push(format!("{} is reached by {}", host.name, host.transport));
        }
    }
    Need { what: format!("reached by {}", names(&rule.transports)), missing }
}

fn ticket(pattern: &str, case: &Case) -> Need {
    let what = format!("a ticket like {pattern}");
    let whole = regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(1 << 20).build();
    let missing = match (whole, &case.ticket) {
        (Err(_), _) => Some(format!("`{pattern}` cannot stand for a whole ticket")),
        (Ok(_), None) => Some("no ticket is named (`--ticket`)".to_owned()),
        (Ok(whole), Some(ticket)) => {
            (!whole.is_match(ticket)).then(|| format!("the ticket {ticket} is not like {pattern}"))
        }
    };
    Need { what, missing: missing.into_iter().collect() }
}

/// Nothing is tried for the first time on hosts for whose sake it must be rehearsed elsewhere.
fn rehearses_there(wanted: &Rehearsal, no: usize, hosts: &[HostName], case: &Case) -> Need {
    let is_staging = |host: &&HostName| case.staging.get(no).is_some_and(|staging| staging.contains(*host));
    let elsewhere = hosts.iter().filter(|host| !is_staging(host));
    let missing = elsewhere.map(|host| format!("{host} is no host to rehearse on: that is done on {}", wanted.hosts));
    Need { what: format!("a rehearsal on {} alone", wanted.hosts), missing: missing.collect() }
}

fn rehearsed(
    wanted: &Rehearsal,
    no: usize,
    rehearsal_sha256: Sha256,
    case: &Case,
    now: Timestamp,
) -> (Need, Option<Rehearsed>) {
    let days = wanted.within_ms / 86_400_000;
    let within = if days > 0 { format!("{days} days") } else { format!("{} min", wanted.within_ms / 60_000) };
    let what = format!("rehearsed on {} within {within}, its way back included", wanted.hosts);
    let nowhere = BTreeSet::new();
    let staging = case.staging.get(no).unwrap_or(&nowhere);
    match rehearsal::counting(wanted, staging, rehearsal_sha256, &case.tried, now) {
        Ok(counted) => (Need { what, missing: Vec::new() }, Some(counted)),
        Err(missing) => (Need { what, missing }, None),
    }
}

fn windows(hosts: &[HostName], ask: &Ask) -> Need {
    let without = |host: &&HostName| ask.hosts.get(*host).is_none_or(|cover| cover.windows.is_empty());
    let missing = hosts.iter().filter(without).map(|host| format!("no window of windows.yaml is for {host}"));
    Need { what: "inside of windows".to_owned(), missing: missing.collect() }
}

/// The requirement, and the approvals that count for it.
fn approved<'d>(
    wanted: &Approvals,
    decided: &'d Decided<'_>,
    people: &People,
    case: &Case,
    now: Timestamp,
) -> (Need, Vec<&'d Counted<'d>>) {
    let mut parts: Vec<String> = wanted.roles.iter().map(|(role, count)| format!("{count} {role}")).collect();
    parts.extend(wanted.persons.map(|count| format!("{count} in all")));
    let mut what = format!("{APPROVED}{}", parts.join(", "));
    if wanted.not_operator {
        what.push_str(", other than who runs it");
    }
    let operator = people.with_account(&case.account).map(|(id, _)| id);
    let mut missing = Vec::new();
    if wanted.not_operator && operator.is_none() {
        missing.push(format!(
            "the account {} is nobody's in people.yaml, so nobody can tell whether they approved it themselves",
            case.account
        ));
    }
    let now_ms = approvals::ms(now);
    let mut counted = Vec::new();
    let mut uncounted = Vec::new();
    for approval in &decided.approvals {
        let Counted { person, made_ms, presence, file, .. } = approval;
        let why = if wanted.not_operator && operator == Some(*person) {
            Some(format!("{person} runs it, and cannot approve it"))
        } else if made_ms.saturating_add(wanted.valid_for_ms) <= now_ms {
            let hours = wanted.valid_for_ms.div_ceil(3_600_000);
            Some(format!("it is older than the {hours} h that this rule allows"))
        } else if wanted.security_key.is_some_and(|least| presence.is_none_or(|proved| proved < least)) {
            Some(match presence {
                Some(_) => "its security key was touched, and neither PIN nor finger was asked for".to_owned(),
                None => "it was not signed with a security key that was touched".to_owned(),
            })
        } else {
            None
        };
        match why {
            None => counted.push(approval),
            Some(why) => uncounted.push(format!("{file} does not count: {why}")),
        }
    }
    let mut short = false;
    for (role, count) in &wanted.roles {
        let there = counted.iter().filter(|approval| approval.member.roles.contains(role)).count();
        if u32::try_from(there).unwrap_or(u32::MAX) < *count {
            short = true;
            missing.push(format!("approved by {there} of {count} with the role {role}"));
        }
    }
    if let Some(count) = wanted.persons
        && u32::try_from(counted.len()).unwrap_or(u32::MAX) < count
    {
        short = true;
        missing.push(format!("approved by {} of {count} persons", counted.len()));
    }
    if short {
        missing.extend(uncounted);
    }
    (Need { what, missing }, counted)
}
