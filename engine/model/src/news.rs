//! What is told to people outside: by mail, in a chat, to a program of theirs.
//!
//! News holds what whoever is told may know: names, counts, outcomes. It never holds a secret, a parameter's value or what
//! a step printed. It is stored as it was at its moment, and its text is made when it is sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::canonical;
use crate::digest::Sha256;
use crate::id::RunId;
use crate::outcome::RunOutcome;
use crate::plan::{Plan, Tier};

/// The version of the form.
pub const SCHEMA: &str = "news/v1";

/// Lines kept of [`News::lines`] and [`News::next`] each, at most.
const LINES_MAX: usize = 30;
/// Characters kept of each text, at most.
const CHARACTERS_MAX: usize = 500;

/// What kind of news.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewsKind {
    /// A run will begin.
    Upcoming,
    /// A run has begun.
    Started,
    /// A run has ended.
    Ended,
    /// A run was asked for and not allowed.
    Refused,
    /// A scheduled run did not begin in its window.
    Missed,
    /// A run waits for an operator.
    Suspended,
    /// The program that worked on a run has died.
    Died,
    /// An emergency has to be looked at by somebody, or should have been.
    ReviewDue,
    /// Somebody tries whether news arrives.
    Test,
}

impl NewsKind {
    /// All that a channel can be told of; [`NewsKind::Test`] goes to the one that is tried.
    pub const ALL: [NewsKind; 8] = [
        NewsKind::Upcoming,
        NewsKind::Started,
        NewsKind::Ended,
        NewsKind::Refused,
        NewsKind::Missed,
        NewsKind::Suspended,
        NewsKind::Died,
        NewsKind::ReviewDue,
    ];

    /// The word in settings and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            NewsKind::Upcoming => "upcoming",
            NewsKind::Started => "started",
            NewsKind::Ended => "ended",
            NewsKind::Refused => "refused",
            NewsKind::Missed => "missed",
            NewsKind::Suspended => "suspended",
            NewsKind::Died => "died",
            NewsKind::ReviewDue => "review_due",
            NewsKind::Test => "test",
        }
    }

    /// Whether it is told to a channel that does not say what it wants: the end of every run, and whatever somebody has
    /// to see to.
    pub fn is_usual(self) -> bool {
        !matches!(self, NewsKind::Upcoming | NewsKind::Started)
    }
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct News {
    /// [`SCHEMA`].
    pub schema: String,
    /// What kind.
    pub kind: NewsKind,
    /// What makes two of them the same: whoever tells news with this text again, in any process, adds nothing. For people
    /// it has no meaning. For instance `ended/RUN/SEQ`, `missed/SCHEDULE/OCCURRENCE`.
    pub once: String,
    /// When it happened (Unix ms).
    pub at_ms: u64,
    /// The runbook's name; empty when it is about none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub runbook: String,
    /// Its title, or empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub title: String,
    /// Its tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Digest of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_sha256: Option<Sha256>,
    /// How many hosts it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<u64>,
    /// The schedule's name, of scheduled runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// When it is or was due (Unix ms).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_ms: Option<u64>,
    /// The run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// It only looked, and changed nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check_only: bool,
    /// It was a rehearsal.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearses: bool,
    /// How the run ended, or how things stand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<RunOutcome>,
    /// How many hosts ended how; `open`: not yet.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// The exit code of the command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<u8>,
    /// Who asked for it: the account's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The ticket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The machine that it comes from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub controller: String,
    /// What else there is to say, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// What somebody can do now, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub next: Vec<String>,
}

impl News {
    /// News of a kind, with nothing else said.
    pub fn new(kind: NewsKind, once: impl Into<String>, at_ms: u64) -> Self {
        Self {
            schema: SCHEMA.to_owned(),
            kind,
            once: once.into(),
            at_ms,
            runbook: String::new(),
            title: String::new(),
            tier: None,
            plan_sha256: None,
            hosts: None,
            schedule: None,
            due_ms: None,
            run: None,
            check_only: false,
            rehearses: false,
            outcome: None,
            counts: BTreeMap::new(),
            exit_code: None,
            operator: None,
            ticket: None,
            controller: String::new(),
            lines: Vec::new(),
            next: Vec::new(),
        }
    }

    /// With what a plan says of itself.
    pub fn about(mut self, plan: &Plan) -> Self {
        self.runbook.clone_from(&plan.runbook.name);
        self.title.clone_from(&plan.runbook.title);
        self.tier = Some(plan.runbook.tier);
        self.plan_sha256 = Some(plan.digest());
        self.hosts = Some(plan.hosts.len() as u64);
        self
    }

    /// With no text longer and no list longer than what is stored of it. What was cut off is said to be.
    pub fn bounded(mut self) -> Self {
        for text in [&mut self.runbook, &mut self.title, &mut self.controller] {
            cut(text);
        }
        for text in [&mut self.schedule, &mut self.operator, &mut self.ticket].into_iter().flatten() {
            cut(text);
        }
        for lines in [&mut self.lines, &mut self.next] {
            let more = lines.len().saturating_sub(LINES_MAX);
            if more > 0 {
                lines.truncate(LINES_MAX - 1);
                lines.push(format!("and {} more", more + 1));
            }
            lines.iter_mut().for_each(cut);
        }
        self
    }

    /// The id of its message to a channel: the same for the same news, on every machine.
    pub fn id(&self, channel: &str) -> String {
        let digest = canonical::digest(&("runbook-news/v1", channel, self.kind.name(), &self.once));
        format!("msg_{}", &digest.to_string()[..32])
    }
}

fn cut(text: &mut String) {
    if let Some((end, _)) = text.char_indices().nth(CHARACTERS_MAX) {
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_news_has_one_id_for_each_channel() {
        let news = News::new(NewsKind::Ended, "ended/r1/9", 1);
        let later = News { at_ms: 2, lines: vec!["x".into()], ..news.clone() };
        assert_eq!(news.id("mail"), later.id("mail"));
        assert_ne!(news.id("mail"), news.id("chat"));
        assert_ne!(news.id("mail"), News::new(NewsKind::Ended, "ended/r1/10", 1).id("mail"));
        assert!(news.id("mail").starts_with("msg_") && news.id("mail").len() == 36);
    }

    #[test]
    fn what_is_stored_is_bounded_and_says_so() {
        let mut news = News::new(NewsKind::Ended, "x", 1);
        news.title = "é".repeat(600);
        news.lines = (0..100).map(|n| n.to_string()).collect();
        let news = news.bounded();
        assert_eq!(news.title.chars().count(), 501);
        assert_eq!((news.lines.len(), news.lines[29].as_str()), (30, "and 71 more"));
    }

    #[test]
    fn the_name_of_a_kind_is_its_name_in_json() {
        for kind in NewsKind::ALL.into_iter().chain([NewsKind::Test]) {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
        }
    }
}
