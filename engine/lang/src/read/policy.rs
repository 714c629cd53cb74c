//! Rules: for what each is, and what that needs.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::Sha256;
use runbook_model::rehearsal::{STAGING, WITHIN_MS};
use runbook_model::retention::Class;
use runbook_model::rules::{
    Approvals, ChangeNeeds, Operator, Policy, Presence, REVIEW_MS, Rehearsal, Review, Rule, VALID_MS,
};

use super::fields::{Fields, Problems, entries, items};
use super::people::{NAME_RULES, names};
use super::{parameter, runbook, scalar};
use crate::codes::Code;
use crate::policy::PolicyFile;
use crate::selector::{self, Selector};
use crate::source::Text;
use crate::yaml::{Content, Node};

/// The `schema` of a policy.
pub(crate) const SCHEMA: &str = "policy/v1";

pub(crate) const KEYS: &[&str] = &["schema", "rules"];
pub(crate) const RULE_KEYS: &[&str] = &[
    "name",
    "for",
    "approvals",
    "operator",
    "ticket",
    "reason",
    "windows",
    "snapshot",
    "transports",
    "tools",
    "rehearsal",
    "clock",
    "retention",
    "review",
];
pub(crate) const FOR_KEYS: &[&str] = &["tiers", "hosts", "risk", "break_glass"];
pub(crate) const APPROVALS_KEYS: &[&str] = &["roles", "persons", "not_operator", "valid_for", "security_key"];
pub(crate) const CLASSES: &[(&str, Class)] =
    &[("operational", Class::Operational), ("default", Class::Default), ("cui", Class::Cui)];
pub(crate) const CLOCK_KEYS: &[&str] = &["max_offset"];
pub(crate) const REVIEW_KEYS: &[&str] = &["within", "roles", "persons", "not_operator"];
pub(crate) const TICKET_KEYS: &[&str] = &["pattern", "approved", "dates", "assets"];
pub(crate) const REHEARSAL_KEYS: &[&str] = &["hosts", "within"];
pub(crate) const OPERATOR_KEYS: &[&str] = &["roles", "training"];
pub(crate) const REQUIRED: &[(&str, bool)] = &[("required", true)];
pub(crate) const PRESENCES: &[(&str, Presence)] = &[("touch", Presence::Touch), ("pin", Presence::Pin)];

/// More signatures than that are asked of nobody.
const MOST: i64 = 99;

type Selections = BTreeMap<String, (Text, Selector)>;

/// The policy in `node`, as far as it could be read.
pub(crate) fn policy(node: &Node, problems: &mut Problems) -> Option<PolicyFile> {
    let fields = Fields::of(node, "a policy", KEYS, &[], problems)?;
    runbook::schema(&fields, "a policy", SCHEMA, problems);
    let mut selections = Selections::new();
    let mut rules = Vec::new();
    if let Some(list) = fields.require("rules", "a policy", "[{ticket: 'CHG-[0-9]+'}]", problems) {
        for (no, item) in items(list, "rules", "rules: [{ticket: 'CHG-[0-9]+'}]", problems).iter().enumerate() {
            rules.extend(rule(no + 1, item, &mut selections, problems));
        }
    }
    Some(PolicyFile { policy: Policy { rules }, selections })
}

fn rule(no: usize, node: &Node, selections: &mut Selections, problems: &mut Problems) -> Option<Rule> {
    let fields = Fields::of(node, "a rule", RULE_KEYS, &[], problems)?;
    let name = fields.get("name", problems).and_then(|node| scalar::filled(node, "name", problems));
    let mut rule = Rule { name: name.map_or_else(|| format!("rule {no}"), |name| name.value), ..Rule::default() };
    if let Some(node) = fields.get("for", problems) {
        for_what(node, &mut rule, selections, problems);
    }
    if RULE_KEYS[2..].iter().all(|key| fields.entry(key).is_none()) {
        problems.error(Code::MissingKey, &node.span, "this rule asks for nothing").help =
            Some(format!("give it one of {}", RULE_KEYS[2..].join(", ")));
    }
    rule.approvals = fields.get("approvals", problems).and_then(|node| approvals(node, problems));
    rule.operator = fields.get("operator", problems).and_then(|node| operator(node, problems));
    if let Some(node) = fields.get("ticket", problems) {
        ticket(node, &mut rule, problems);
    }
    let mut required =
        |key: &str| fields.get(key, problems).and_then(|node| scalar::word(node, key, REQUIRED, problems));
    rule.windows = required("windows").unwrap_or(false);
    rule.snapshot = required("snapshot").unwrap_or(false);
    rule.reason = required("reason").unwrap_or(false);
    rule.clock_max_offset_ms = fields.get("clock", problems).and_then(|node| clock(node, problems));
    rule.tools = fields.get("tools", problems).map(|node| tools(node, problems));
    rule.rehearsal = fields.get("rehearsal", problems).and_then(|node| rehearsal(node, selections, problems));
    rule.retention =
        fields.get("retention", problems).and_then(|node| scalar::word(node, "retention", CLASSES, problems));
    rule.review = fields.get("review", problems).and_then(|node| review(node, problems));
    if let Some(node) = fields.get("transports", problems) {
        let transports = scalar::text_list(node, "transports", "transports: [ssh]", problems);
        if transports.is_empty() {
            problems.error(Code::InvalidValue, &node.span, "`transports` names none").help =
                Some("name those by which hosts may be reached, or remove it".into());
        }
        rule.transports = transports.into_iter().map(|text| text.value).collect();
    }
    Some(rule)
}

fn for_what(node: &Node, rule: &mut Rule, selections: &mut Selections, problems: &mut Problems) {
    let Some(fields) = Fields::of(node, "`for`", FOR_KEYS, &[], problems) else { return };
    if let Some(node) = fields.get("tiers", problems) {
        let tiers = items(node, "tiers", "tiers: [routine, corrective]", problems);
        if tiers.is_empty() {
            problems.error(Code::InvalidValue, &node.span, "`tiers` names none").help =
                Some("remove it: then the rule is for every tier".into());
        }
        rule.tiers =
            tiers.iter().filter_map(|tier| scalar::word(tier, "tiers", super::windows::TIERS, problems)).collect();
    }
    if let Some(text) = fields.get("hosts", problems).and_then(|node| scalar::literal(node, "hosts", problems)) {
        rule.hosts = selection(text, selections, problems);
    }
    if let Some(node) = fields.get("risk", problems) {
        rule.risk = scalar::texts(node, "risk", problems).into_iter().map(|text| text.value).collect();
        if rule.risk.is_empty() {
            problems.error(Code::InvalidValue, &node.span, "`risk` names none").help =
                Some("remove it: then the rule is for hosts of any risk".into());
        }
    }
    if let Some(node) = fields.get("break_glass", problems) {
        rule.break_glass = scalar::boolean(node, "break_glass", problems).unwrap_or(false);
    }
}

fn selection(text: Text, selections: &mut Selections, problems: &mut Problems) -> Option<String> {
    match selector::parse(&text) {
        Ok(selector) => {
            let hosts = text.value.clone();
            selections.insert(hosts.clone(), (text, selector));
            Some(hosts)
        }
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

/// What its name must look like, and what the change must be.
fn ticket(node: &Node, rule: &mut Rule, problems: &mut Problems) {
    let mut pattern = |node: &Node, problems: &mut Problems| {
        rule.ticket = parameter::pattern(node, "ticket", problems).map(|pattern| pattern.value);
    };
    if !matches!(node.content, Content::Mapping(_)) {
        return pattern(node, problems);
    }
    let Some(fields) = Fields::of(node, "`ticket`", TICKET_KEYS, &[], problems) else { return };
    match fields.get("pattern", problems) {
        Some(node) => pattern(node, problems),
        None => rule.ticket = Some(".+".to_owned()),
    }
    let mut required = |key: &str| {
        let node = fields.get(key, problems)?;
        scalar::word(node, key, REQUIRED, problems)
    };
    rule.change = ChangeNeeds {
        approved: required("approved").unwrap_or(false),
        dates: required("dates").unwrap_or(false),
        assets: required("assets").unwrap_or(false),
    };
}

/// `required`, or where and since when.
fn rehearsal(node: &Node, selections: &mut Selections, problems: &mut Problems) -> Option<Rehearsal> {
    let staging = || Text { value: STAGING.to_owned(), span: node.span.clone() };
    let (hosts, within) = if let Content::Mapping(_) = &node.content {
        let fields = Fields::of(node, "`rehearsal`", REHEARSAL_KEYS, &[], problems)?;
        let hosts = fields.get("hosts", problems).map(|node| scalar::literal(node, "hosts", problems));
        let within = fields.get("within", problems).and_then(|node| scalar::positive_ms(node, "within", problems));
        (hosts.unwrap_or_else(|| Some(staging()))?, within)
    } else {
        scalar::word(node, "rehearsal", REQUIRED, problems)?;
        (staging(), None)
    };
    let hosts = selection(hosts, selections, problems)?;
    Some(Rehearsal { hosts, within_ms: within.unwrap_or(WITHIN_MS) })
}

fn approvals(node: &Node, problems: &mut Problems) -> Option<Approvals> {
    let fields = Fields::of(node, "`approvals`", APPROVALS_KEYS, &[], problems)?;
    let (roles, persons, not_operator) = who(&fields, "approvals", problems);
    let valid_for = fields.get("valid_for", problems).and_then(|node| scalar::positive_ms(node, "valid_for", problems));
    let security_key =
        fields.get("security_key", problems).and_then(|node| scalar::word(node, "security_key", PRESENCES, problems));
    Some(Approvals { roles, persons, not_operator, valid_for_ms: valid_for.unwrap_or(VALID_MS), security_key })
}

/// Lines as `sha256sum` and `runbook policy tools` print them: a digest, and a name.
fn tools(node: &Node, problems: &mut Problems) -> BTreeMap<Sha256, String> {
    let mut tools = BTreeMap::new();
    let lines = scalar::text_list(node, "tools", "tools: [DIGEST NAME]", problems);
    if lines.is_empty() {
        problems.error(Code::InvalidValue, &node.span, "`tools` names none").help =
            Some("`runbook policy tools FILE` prints the lines for a runbook's".into());
    }
    for line in lines {
        let parts = line.value.split_once(char::is_whitespace);
        match parts.map(|(digest, name)| (digest.parse::<Sha256>(), name.trim_start_matches([' ', '*']).trim())) {
            Some((Ok(digest), name)) if !name.is_empty() => {
                tools.insert(digest, name.to_owned());
            }
            _ => {
                problems.error(Code::InvalidValue, &line.span, "this is no tool").help =
                    Some("write its SHA-256 in 64 hexadecimal digits and its name, as `sha256sum` prints them".into());
            }
        }
    }
    tools
}

fn clock(node: &Node, problems: &mut Problems) -> Option<u64> {
    let fields = Fields::of(node, "`clock`", CLOCK_KEYS, &[], problems)?;
    let node = fields.require("max_offset", "`clock`", "1s", problems)?;
    scalar::positive_ms(node, "max_offset", problems)
}

fn review(node: &Node, problems: &mut Problems) -> Option<Review> {
    let fields = Fields::of(node, "`review`", REVIEW_KEYS, &[], problems)?;
    let (roles, persons, not_operator) = who(&fields, "review", problems);
    let within = fields.get("within", problems).and_then(|node| scalar::positive_ms(node, "within", problems));
    Some(Review { within_ms: within.unwrap_or(REVIEW_MS), roles, persons, not_operator })
}

/// How many of each role, how many altogether, and whether none of them is the operator.
fn who(fields: &Fields<'_>, what: &str, problems: &mut Problems) -> (BTreeMap<String, u32>, Option<u32>, bool) {
    let mut roles = BTreeMap::new();
    if let Some(node) = fields.get("roles", problems) {
        for entry in entries(node, "roles", "roles: {it-lead: 1}", problems) {
            let role = scalar::name(entry.key.clone(), "a role", runbook::is_name, NAME_RULES, problems);
            let count = scalar::integer(&entry.value, "roles", 1, MOST, problems);
            if let (Some(role), Some(count)) = (role, count.and_then(|count| u32::try_from(count).ok())) {
                roles.insert(role.value, count);
            }
        }
    }
    let persons = fields.get("persons", problems).and_then(|node| scalar::integer(node, "persons", 1, MOST, problems));
    if fields.entry("roles").is_none() && fields.entry("persons").is_none() {
        problems.error(Code::MissingKey, &fields.span, format!("`{what}` needs `roles` or `persons`")).help =
            Some("add for example `roles: {it-lead: 1, cui-owner: 1}`".into());
    }
    let not_operator =
        fields.get("not_operator", problems).and_then(|node| scalar::boolean(node, "not_operator", problems));
    (roles, persons.and_then(|count| u32::try_from(count).ok()), not_operator.unwrap_or(true))
}

fn operator(node: &Node, problems: &mut Problems) -> Option<Operator> {
    let fields = Fields::of(node, "`operator`", OPERATOR_KEYS, &[], problems)?;
    let mut set = |key: &str, example: &str| -> BTreeSet<String> {
        fields.get(key, problems).map(|node| names(node, key, example, problems)).unwrap_or_default()
    };
    let (roles, training) = (set("roles", "roles: [sysadmin]"), set("training", "training: [maintenance]"));
    Some(Operator { roles, training })
}
