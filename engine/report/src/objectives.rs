//! Assessment objectives, and which of a run's records answer them.
//!
//! The objectives are data (`objectives/r2.json`, `objectives/r3.json`: ids as in NIST SP 800-171A of that revision, the
//! statements in our own words). Each names the kinds of evidence that answer it; [`answers`] finds these in a run. An
//! answer is no judgement: whether an objective is met is for the assessor to say, so what the record does not hold is
//! told beside what it does. The report and the OSCAL export read the same answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use runbook_model::host::ToldBy;
use runbook_model::outcome::AttemptOutcome;
use runbook_model::plan::{Phase, Role};
use runbook_model::session::There;
use runbook_model::{HostName, StepId};
use serde::{Deserialize, Serialize};

use crate::json::person;
use crate::matrix::{Row, rows};
use crate::session;
use crate::style::words;
use crate::text::{count, list};
use crate::view::{Closed, HostView, RunView};

/// A clock that differs by more is told of (the same limit as in what needs attention).
pub const CLOCK_OFFSET_MS_MAX: i64 = 2_000;
/// Hosts or steps that a gap names.
const NAMED: usize = 5;

/// A revision of NIST SP 800-171.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revision {
    /// Revision 2: what CMMC level 2 is assessed by.
    R2,
    /// Revision 3.
    R3,
}

impl Revision {
    /// Both.
    pub const ALL: [Revision; 2] = [Revision::R2, Revision::R3];

    /// `r2` or `r3`.
    pub fn name(self) -> &'static str {
        match self {
            Revision::R2 => "r2",
            Revision::R3 => "r3",
        }
    }

    /// The publication with its objectives.
    pub fn title(self) -> &'static str {
        match self {
            Revision::R2 => "NIST SP 800-171A, for revision 2",
            Revision::R3 => "NIST SP 800-171A, revision 3",
        }
    }
}

/// The form in which assessors of the DIBCAC want evidence of an objective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// A document.
    #[serde(rename = "D")]
    Document,
    /// An artefact: a record that work left behind.
    #[serde(rename = "A")]
    Artifact,
    /// Shown on a screen.
    #[serde(rename = "S")]
    ScreenShare,
    /// Reviewed on site.
    #[serde(rename = "P")]
    Physical,
}

impl Form {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Form::Document => "a document (D)",
            Form::Artifact => "an artefact (A)",
            Form::ScreenShare => "a screen share (S)",
            Form::Physical => "a review on site (P)",
        }
    }
}

/// A kind of evidence that a run's record can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// The run's opening, how each host ended, the run's end.
    RunRecord,
    /// The plan's digest, and the exact command of every attempt.
    PlanVsExecution,
    /// Who approved.
    Approval,
    /// Which host answered, and how we got in.
    SessionOpen,
    /// That the session was ended, and nothing of it is left.
    SessionClose,
    /// Who ran, resumed, cancelled or settled.
    Operator,
    /// Steps that became another account.
    Privilege,
    /// Read-only checks after the change.
    Verification,
    /// Files as they were before and after.
    Changes,
    /// Snapshots taken.
    Snapshot,
    /// State of the controller's clock, and how far each host's is off.
    Clock,
    /// The sealed records themselves.
    Ledger,
    /// The hosts, and what each says of itself.
    Inventory,
    /// The program that did the work.
    Engine,
}

impl Evidence {
    /// All kinds.
    pub const ALL: [Evidence; 14] = [
        Evidence::RunRecord,
        Evidence::PlanVsExecution,
        Evidence::Approval,
        Evidence::SessionOpen,
        Evidence::SessionClose,
        Evidence::Operator,
        Evidence::Privilege,
        Evidence::Verification,
        Evidence::Changes,
        Evidence::Snapshot,
        Evidence::Clock,
        Evidence::Ledger,
        Evidence::Inventory,
        Evidence::Engine,
    ];

    /// A heading for people.
    pub fn title(self) -> &'static str {
        match self {
            Evidence::RunRecord => "What was done, and how it ended",
            Evidence::PlanVsExecution => "The plan, and what really ran",
            Evidence::Approval => "Approval",
            Evidence::SessionOpen => "Sessions: who answered, how we got in",
            Evidence::SessionClose => "Sessions: their end",
            Evidence::Operator => "Who did it",
            Evidence::Privilege => "Steps with another account's rights",
            Evidence::Verification => "Checks after the change",
            Evidence::Changes => "Files before and after",
            Evidence::Snapshot => "Snapshots",
            Evidence::Clock => "Clocks",
            Evidence::Ledger => "The sealed records",
            Evidence::Inventory => "The hosts, as they described themselves",
            Evidence::Engine => "The program that did it",
        }
    }
}

/// An assessment objective.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objective {
    /// As printed: `3.7.2[a]`, `A.03.07.05.b[01]`.
    pub id: String,
    /// Of which revision.
    pub revision: Revision,
    /// Points that its requirement takes off in the DoD's assessment when it is not met; none are fixed for revision 3.
    pub points: Option<u8>,
    /// The form wanted, where it is published.
    pub form: Option<Form>,
    /// What has to be so, in our own words.
    pub statement: String,
    /// The kinds of evidence that answer it; none when no run can.
    pub records: Vec<Evidence>,
    /// What no run's record says of it, in a sentence or two.
    pub beyond: Option<String>,
}

impl Objective {
    /// The requirement that it belongs to: `3.7.2`, `03.07.05`.
    pub fn requirement(&self) -> &str {
        let id = self.id.strip_prefix("A.").unwrap_or(&self.id);
        match self.revision {
            Revision::R2 => id.split('[').next().unwrap_or(id),
            Revision::R3 => id.get(.."00.00.00".len()).unwrap_or(id),
        }
    }

    /// It belongs to the maintenance family.
    pub fn is_maintenance(&self) -> bool {
        let requirement = self.requirement();
        requirement.starts_with("3.7.") || requirement.starts_with("03.07.")
    }

    /// Its id where only letters, digits, `-`, `_` and `.` may stand and no digit may come first (an XML name, an OSCAL
    /// token): `obj-3.7.2.a`, `obj-A.03.07.05.b.01`.
    pub fn token(&self) -> String {
        format!("obj-{}", self.id.replace('[', ".").replace(']', ""))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    #[serde(default)]
    points: Option<u8>,
    #[serde(default)]
    form: Option<Form>,
    statement: String,
    records: Vec<Evidence>,
    #[serde(default)]
    beyond: Option<String>,
}

/// The objectives of a revision, maintenance first.
pub fn objectives(revision: Revision) -> &'static [Objective] {
    static R2: OnceLock<Vec<Objective>> = OnceLock::new();
    static R3: OnceLock<Vec<Objective>> = OnceLock::new();
    let (cell, text) = match revision {
        Revision::R2 => (&R2, include_str!("objectives/r2.json")),
        Revision::R3 => (&R3, include_str!("objectives/r3.json")),
    };
    cell.get_or_init(|| {
        let entries: Vec<Entry> = serde_json::from_str(text).expect("the objectives are JSON: a test reads them");
        entries
            .into_iter()
            .map(|Entry { id, points, form, statement, records, beyond }| Objective {
                id,
                revision,
                points,
                form,
                statement,
                records,
                beyond,
            })
            .collect()
    })
}

/// Records that answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Citation {
    /// The host that they are about; `None`: the run.
    pub host: Option<HostName>,
    /// The step, when it is one.
    pub step: Option<StepId>,
    /// Their places in the ledger, ascending.
    pub seqs: Vec<u64>,
    /// What they say, in one line.
    pub what: String,
    /// What they say is not as it should be.
    pub deviates: bool,
}

/// What a run's record has of one kind of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which kind.
    pub evidence: Evidence,
    /// The records; those that deviate first.
    pub records: Arc<[Citation]>,
    /// What is not there, one sentence each.
    pub gaps: Arc<[String]>,
}

/// What a run's record says of an objective.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The objective.
    pub objective: &'static Objective,
    /// One for each kind of evidence that it names, in its order.
    pub findings: Vec<Finding>,
}

impl Answer {
    /// The records that answer it, of all kinds.
    pub fn records(&self) -> impl Iterator<Item = &Citation> {
        self.findings.iter().flat_map(|finding| finding.records.iter())
    }

    /// What the record does not hold: of this run first, then what no run's record says.
    pub fn gaps(&self) -> Vec<&str> {
        let mut out: Vec<&str> =
            self.findings.iter().flat_map(|finding| finding.gaps.iter().map(String::as_str)).collect();
        out.extend(self.objective.beyond.as_deref());
        out
    }

    /// No record of this run speaks of it.
    pub fn is_silent(&self) -> bool {
        self.findings.iter().all(|finding| finding.records.is_empty())
    }
}

/// What a run's record says of every objective of a revision, in the order of [`objectives`]. Evidence that several
/// objectives need is found once and shared.
pub fn answers(view: &RunView, revision: Revision) -> Vec<Answer> {
    let wanted: BTreeSet<Evidence> =
        objectives(revision).iter().flat_map(|objective| &objective.records).copied().collect();
    let found: BTreeMap<Evidence, Finding> = wanted.into_iter().map(|kind| (kind, find(view, kind))).collect();
    objectives(revision)
        .iter()
        .map(|objective| Answer {
            objective,
            findings: objective.records.iter().map(|kind| found[kind].clone()).collect(),
        })
        .collect()
}

/// What a run's record has of one kind of evidence.
pub fn find(view: &RunView, evidence: Evidence) -> Finding {
    let mut search = Search { view, records: Vec::new(), gaps: Vec::new() };
    match evidence {
        Evidence::RunRecord => search.run_record(),
        Evidence::PlanVsExecution => search.plan_vs_execution(),
        Evidence::Approval => search.approval(),
        Evidence::SessionOpen => search.session_open(),
        Evidence::SessionClose => search.session_close(),
        Evidence::Operator => search.operator(),
        Evidence::Privilege => search.privilege(),
        Evidence::Verification => search.verification(),
        Evidence::Changes => search.changes(),
        Evidence::Snapshot => search.snapshot(),
        Evidence::Clock => search.clock(),
        Evidence::Ledger => search.ledger(),
        Evidence::Inventory => search.inventory(),
        Evidence::Engine => search.engine(),
    }
    let Search { mut records, mut gaps, .. } = search;
    if records.is_empty() && gaps.is_empty() {
        gaps.push(format!("{}: nothing of it is on record.", evidence.title()));
    }
    records.sort_by_key(|citation| !citation.deviates);
    Finding { evidence, records: records.into(), gaps: gaps.into() }
}

struct Search<'a> {
    view: &'a RunView,
    records: Vec<Citation>,
    gaps: Vec<String>,
}

impl<'a> Search<'a> {
    fn gap(&mut self, text: impl Into<String>) {
        self.gaps.push(text.into());
    }

    /// One gap for all the names, when there are any: `text` is what they lack.
    fn gap_of(&mut self, names: &[String], text: &str) {
        if !names.is_empty() {
            self.gap(format!("{}: {text}.", list(names, NAMED)));
        }
    }

    fn cite(&mut self, host: Option<&HostName>, step: Option<&StepId>, mut seqs: Vec<u64>, what: String, bad: bool) {
        seqs.sort_unstable();
        seqs.dedup();
        self.records.push(Citation { host: host.cloned(), step: step.cloned(), seqs, what, deviates: bad });
    }

    /// A record about the run: its opening, or its end.
    fn cite_run(&mut self, seq: Option<u64>, what: String, bad: bool) {
        match seq {
            Some(seq) => self.cite(None, None, vec![seq], what, bad),
            None => self.gap("The run's opening is not on record."),
        }
    }

    /// The hosts that were started.
    fn hosts(&self) -> impl Iterator<Item = (&'a HostName, &'a HostView)> + use<'a> {
        self.view.hosts.iter().filter(|(_, host)| host.started_ms.is_some())
    }

    fn approval(&mut self) {
        let approvals = self.view.header.as_ref().map_or(&[][..], |header| &header.approvals);
        if approvals.is_empty() {
            return self.gap("Nobody's approval of this plan is on record.");
        }
        let names: Vec<&str> = approvals.iter().map(|used| used.signer.as_str()).collect();
        let what = format!("the plan was approved by {} before it was opened, with their signatures", names.join(", "));
        self.cite_run(self.view.opened_seq, what, false);
    }

    fn run_record(&mut self) {
        let view = self.view;
        if let Some(header) = &view.header {
            let ticket = header.ticket.as_ref().map(|ticket| format!(", ticket {ticket}")).unwrap_or_default();
            let what = format!("{} ({}){ticket} was opened", header.runbook, view.plan.runbook.tier.name());
            self.cite_run(view.opened_seq, what, false);
        }
        for why in &view.break_glass {
            self.cite_run(view.opened_seq, format!("windows, blackouts and freezes were set aside: {why}"), true);
        }
        let mut open = Vec::new();
        for (name, host) in &view.hosts {
            let (Some(outcome), Some(seq)) = (host.outcome, host.ended_seq) else {
                open.push(name.to_string());
                continue;
            };
            let bad = outcome != runbook_model::HostOutcome::Succeeded;
            let why = if host.reason.is_empty() { String::new() } else { format!(": {}", host.reason) };
            self.cite(Some(name), None, vec![seq], format!("{}{why}", words(outcome.name())), bad);
        }
        self.gap_of(&open, "no outcome is on record");
        match view.outcome {
            Some(outcome) if view.ended_seq.is_some() => {
                let bad = outcome != runbook_model::HostOutcome::Succeeded;
                self.cite_run(view.ended_seq, format!("the run ended: {}", words(outcome.name())), bad);
            }
            _ => self.gap("The run has no end on record."),
        }
        if view.header.as_ref().is_some_and(|header| header.ticket.is_none()) {
            self.gap("No ticket was named, so the record does not say why this was done.");
        }
    }

    fn plan_vs_execution(&mut self) {
        let view = self.view;
        if let Some(header) = &view.header {
            let what = format!("the plan {} announces {}", header.plan_sha256, count(header.cells as usize, "cell"));
            self.cite_run(view.opened_seq, what, false);
        }
        let mut unknown = Vec::new();
        let mut unreached = Vec::new();
        for (name, host) in self.hosts() {
            let attempts: Vec<u64> =
                host.steps.values().flat_map(|cell| &cell.attempts).map(|attempt| attempt.started_seq).collect();
            if !attempts.is_empty() {
                let what = format!(
                    "the exact command of {}, each recorded before it was sent",
                    count(attempts.len(), "attempt")
                );
                self.cite(Some(name), None, attempts, what, false);
            }
            for row in rows(view, host) {
                match row.outcome {
                    Some(AttemptOutcome::Unknown) => unknown.push(format!("{name}/{}", row.step.id)),
                    Some(AttemptOutcome::NotStarted) => unreached.push(format!("{name}/{}", row.step.id)),
                    _ => {}
                }
            }
        }
        self.gap_of(&unknown, "began, and nobody knows what became of it");
        self.gap_of(&unreached, "planned and not reached");
        let idle: Vec<String> = self
            .view
            .hosts
            .iter()
            .filter(|(_, host)| host.started_ms.is_none())
            .map(|(name, _)| name.to_string())
            .collect();
        self.gap_of(&idle, "in the plan and not started");
    }

    fn session_open(&mut self) {
        let mut none = Vec::new();
        let (mut untold, mut unproved) = (Vec::new(), Vec::new());
        for (name, host) in self.hosts() {
            let Some(seq) = host.session_seq else {
                none.push(name.to_string());
                continue;
            };
            if let Some(obstacle) = &host.obstacle {
                self.cite(Some(name), None, vec![seq], format!("no session: {}", obstacle.message), true);
                continue;
            }
            let Some(identity) = &host.identity else { continue };
            let mut what = identity.transport.clone();
            if !identity.peer_key.is_empty() {
                what.push_str(&format!(", host key {}", identity.peer_key));
            }
            what.push_str(&format!(", account {}", identity.account));
            match session::login(identity) {
                login if login.is_empty() => untold.push(name.to_string()),
                login => what.push_str(&format!(", by {login}")),
            }
            if identity.transport != "local" && identity.methods_told_by != Some(ToldBy::Host) {
                unproved.push(name.to_string());
            }
            for hop in session::hops(identity) {
                what.push_str(&format!(", over {hop}"));
            }
            if let Some(secured) = &identity.secured {
                what.push_str(&format!(" ({})", secured.text()));
            }
            self.cite(Some(name), None, vec![seq], what, false);
        }
        self.gap_of(&none, "no session is on record");
        self.gap_of(&untold, "how the account authenticated is not on record");
        self.gap_of(
            &unproved,
            "how the account authenticated is told by our own client alone; the host tells it where its sshd has \
             `ExposeAuthInfo yes`",
        );
    }

    fn session_close(&mut self) {
        let view = self.view;
        let (mut open, mut unasked, mut any) = (Vec::new(), Vec::new(), false);
        let all = view.hosts.iter().map(|(name, host)| (name, &host.closed)).chain(&view.elsewhere);
        for (name, closed) in all {
            for Closed { seq, close, .. } in closed {
                any = true;
                let (what, good) = session::end(close);
                let n = count(close.attempts as usize, "attempt");
                self.cite(Some(name), None, vec![*seq], format!("{what} ({n} over it)"), !good);
                let remote = close.connections.iter().any(|connection| connection.there != There::Local);
                if remote && close.look.at_ms.is_some() && !close.look.afterwards {
                    unasked.push(name.to_string());
                }
            }
        }
        for (name, host) in self.hosts() {
            any |= host.identity.is_some();
            if host.has_open_session() {
                open.push(name.to_string());
            }
        }
        self.gap_of(&open, "a session was opened, and its end is not on record");
        self.gap_of(
            &unasked,
            "the host was asked just before its last connection was closed, and not once more afterwards (`[ssh] \
             check_closed` does that); that this connection has ended is known from this side",
        );
        if !any {
            self.gap("No session was opened, so there is none to end.");
        }
    }

    fn operator(&mut self) {
        for act in &self.view.acts {
            let what = format!("{} (uid {}) {}", person(&act.by), act.by.uid, act.what);
            self.cite(None, None, vec![act.seq], what, false);
        }
        if self.view.acts.is_empty() {
            self.gap("The record does not say who ran it.");
        } else {
            self.gap(
                "People are named by their account on the controller; that it is theirs alone, and that they may do \
                 maintenance, is not on record.",
            );
        }
    }

    fn privilege(&mut self) {
        let mut any = false;
        for (name, host) in self.hosts() {
            let mut accounts: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
            for attempt in host.steps.values().flat_map(|cell| &cell.attempts) {
                if let Some(account) = &attempt.intent.account {
                    accounts.entry(account).or_default().push(attempt.started_seq);
                }
            }
            for (account, seqs) in accounts {
                any = true;
                let what = format!("{} as {account}", count(seqs.len(), "attempt"));
                self.cite(Some(name), None, seqs, what, false);
            }
        }
        if !any {
            self.gap("No step became another account: each ran with the rights of the account that logged in.");
        }
    }

    fn verification(&mut self) {
        let (mut unverified, check_only) = (Vec::new(), self.view.header.as_ref().is_some_and(|h| h.check_only));
        for (name, host) in self.hosts() {
            let checks = |row: &Row<'_>| {
                row.step.phase == Phase::Verify
                    || matches!(row.step.role, Role::Again { .. } | Role::Baseline | Role::Undeclared)
                    || (check_only && row.step.phase == Phase::Prechecks)
            };
            let (mut good, mut seqs) = (0, Vec::new());
            for row in rows(self.view, host).iter().filter(|row| checks(row)) {
                let seq = row.view.and_then(|cell| cell.ended_seq);
                match (row.outcome, seq) {
                    (Some(AttemptOutcome::Succeeded), Some(seq)) => {
                        good += 1;
                        seqs.push(seq);
                    }
                    (Some(AttemptOutcome::Skipped | AttemptOutcome::NotStarted) | None, _) | (_, None) => {}
                    (Some(outcome), Some(seq)) => {
                        let why = if row.reason.is_empty() { String::new() } else { format!(": {}", row.reason) };
                        let what = format!("{}{why}", words(outcome.name()));
                        self.cite(Some(name), Some(&row.step.id), vec![seq], what, true);
                    }
                }
            }
            if good > 0 {
                self.cite(Some(name), None, seqs, format!("{} passed", count(good, "check")), false);
            } else {
                unverified.push(name.to_string());
            }
        }
        self.gap_of(&unverified, "no check after the change passed");
    }

    fn changes(&mut self) {
        let (mut unmeasured, mut undeclared) = (Vec::new(), BTreeSet::new());
        for (name, host) in self.hosts() {
            for (id, cell) in &host.steps {
                let Some(step) = self.view.plan.step(id) else { continue };
                if let Some(obstacle) = &cell.unmeasured {
                    unmeasured.push(format!("{name}/{id} ({})", obstacle.message));
                } else if let Some(seq) = cell.measured_seq {
                    let what = if cell.changes.is_some() { "files changed" } else { "no file changed" };
                    self.cite(Some(name), Some(id), vec![seq], what.into(), false);
                }
                let changed = cell.attempts.iter().any(|attempt| attempt.outcome != Some(AttemptOutcome::NotStarted));
                if step.changes.is_empty() && !step.read_only && step.phase == Phase::Execute && changed {
                    undeclared.insert(id.to_string());
                }
                if step.role == Role::Undeclared
                    && cell.outcome == Some(AttemptOutcome::Failed)
                    && let Some(seq) = cell.ended_seq
                {
                    self.cite(Some(name), Some(id), vec![seq], format!("undeclared changes: {}", cell.reason), true);
                }
            }
        }
        self.gap_of(&unmeasured, "what it changed could not be measured");
        let undeclared: Vec<String> = undeclared.into_iter().collect();
        self.gap_of(&undeclared, "the step names no files, so none were compared before and after it");
        if self.view.plan.watch.is_none() {
            self.gap("The plan watches no folders, so changes that no step declares would not be seen.");
        }
    }

    fn snapshot(&mut self) {
        for (name, host) in self.hosts() {
            for (id, cell) in &host.steps {
                if let (Some(reference), Some(seq)) = (&cell.snapshot, cell.ended_seq) {
                    let state = if cell.released.is_some() { ", released since" } else { "" };
                    self.cite(Some(name), Some(id), vec![seq], format!("snapshot {reference}{state}"), false);
                }
            }
        }
        if self.records.is_empty() {
            self.gap("No snapshot was taken.");
        }
    }

    fn clock(&mut self) {
        let Some(header) = &self.view.header else {
            return self.gap("The state of the controller's clock is not on record.");
        };
        let source = if header.clock.source.is_empty() { "nothing" } else { &header.clock.source };
        let (state, bad) = match header.clock.synchronised {
            Some(true) => ("synchronised", false),
            Some(false) => ("not synchronised", true),
            None => ("not known to be synchronised", true),
        };
        self.cite_run(self.view.opened_seq, format!("the controller's clock was {state} (told by {source})"), bad);
        if bad {
            self.gap(format!("The controller's clock was {state}: the times in this record are only as good as that."));
        }
        for step in &self.view.clock_steps {
            self.cite(None, None, vec![step.seq], format!("the clock jumped by {:+} ms before it", step.by_ms), true);
            self.gap(format!(
                "The controller's clock jumped by {:+} ms while the run went on: it was set, or the machine slept.",
                step.by_ms
            ));
        }
        let mut unknown = Vec::new();
        for (name, host) in self.hosts() {
            let offset = host.facts.as_ref().and_then(|facts| facts.clock_offset_ms);
            let (Some(seq), Some(offset)) = (host.session_seq, offset) else {
                unknown.push(name.to_string());
                continue;
            };
            let bad = offset.abs() > CLOCK_OFFSET_MS_MAX;
            let what = format!("its clock was {offset:+} ms from the controller's");
            self.cite(Some(name), None, vec![seq], what, bad);
        }
        self.gap_of(&unknown, "how far its clock is off was not measured");
    }

    fn ledger(&mut self) {
        let (Some(first), Some(last)) = (self.view.opened_seq, self.view.last_seq) else {
            return self.gap("The run has no records.");
        };
        let what = format!("{}, from {first} to {last} of the ledger", count(self.view.records as usize, "record"));
        self.cite(None, None, vec![first, last], what, false);
    }

    fn inventory(&mut self) {
        let what = format!("the plan names {}", count(self.view.plan.hosts.len(), "host"));
        self.cite_run(self.view.opened_seq, what, false);
        let mut untold = Vec::new();
        for (name, host) in self.hosts() {
            match (&host.facts, host.session_seq) {
                (Some(facts), Some(seq)) if !facts.os.is_empty() => {
                    let parts = [&facts.os, &facts.os_version, &facts.kernel, &facts.arch];
                    let parts: Vec<&str> = parts.into_iter().map(String::as_str).filter(|s| !s.is_empty()).collect();
                    self.cite(Some(name), None, vec![seq], parts.join(" "), false);
                }
                _ => untold.push(name.to_string()),
            }
        }
        self.gap_of(&untold, "its system is not on record");
    }

    fn engine(&mut self) {
        let Some(header) = &self.view.header else { return self.gap("The program is not on record.") };
        let what =
            format!("runbook {} on {}, executable {}", header.engine_version, header.controller, header.engine_sha256);
        self.cite_run(self.view.opened_seq, what, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objectives_are_data_with_ids_of_their_own() {
        for (revision, most) in [(Revision::R2, 72), (Revision::R3, 26)] {
            let all = objectives(revision);
            let ids: BTreeSet<&str> = all.iter().map(|objective| objective.id.as_str()).collect();
            assert_eq!((all.len(), ids.len()), (most, most), "{}", revision.name());
            for objective in all {
                assert!(!objective.statement.is_empty() && objective.statement.ends_with('.'), "{}", objective.id);
                assert!(!objective.records.is_empty() || objective.beyond.is_some(), "{} says nothing", objective.id);
                assert_eq!(objective.points.is_some(), revision == Revision::R2, "{}", objective.id);
            }
        }
    }

    #[test]
    fn maintenance_has_the_points_and_forms_of_the_assessment() {
        let of = |id: &str| objectives(Revision::R2).iter().find(|objective| objective.id == id).unwrap();
        let points = ["3.7.1", "3.7.2[a]", "3.7.3", "3.7.4", "3.7.5[b]", "3.7.6"].map(|id| of(id).points.unwrap());
        assert_eq!(points, [3, 5, 1, 3, 5, 1]);
        assert_eq!(of("3.7.5[a]").form, Some(Form::ScreenShare));
        assert!(of("3.7.2[d]").is_maintenance() && !of("3.3.7[a]").is_maintenance());
    }

    #[test]
    fn tokens_are_names_that_oscal_takes() {
        for objective in Revision::ALL.iter().flat_map(|revision| objectives(*revision)) {
            let token = objective.token();
            assert!(token.starts_with(|c: char| c.is_ascii_alphabetic()), "{token}");
            assert!(token.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "{token}");
        }
        let of = |revision, n: usize| (objectives(revision)[n].requirement(), objectives(revision)[n].token());
        assert_eq!(of(Revision::R2, 1), ("3.7.2", "obj-3.7.2.a".into()));
        assert_eq!(of(Revision::R3, 0), ("03.07.04", "obj-A.03.07.04.a.01".into()));
    }
}
