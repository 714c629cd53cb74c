//! A run in a world that answers as a story says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use runbook_core::Run;
use runbook_model::command::Subject;
use runbook_model::event::{AttemptReport, RunHeader};
use runbook_model::host::Facts;
use runbook_model::input::{Intent, Prepared};
use runbook_model::outcome::{Ended, Exit, Obstacle, ObstacleKind, OutputRef};
use runbook_model::permit::{Class, Permit, Stretch};
use runbook_model::plan::Plan;
use runbook_model::session::{Look, Process, SessionClose};
use runbook_model::{Command, Event, HostOutcome, Input, RunId, Sha256};
use serde_json::{Value, json};

/// A step as JSON with all that is left out filled in.
pub(crate) fn step(phase: &str, id: &str, more: Value) -> Value {
    let mut step = json!({
        "id": id, "name": id, "phase": phase, "role": "plain",
        "work": {"any": {"run": {"command": "true", "strict": true}}},
        "needs": [], "on": "host", "timeout_ms": 60000,
        "retry": {"attempts": 1, "delay_ms": 0, "backoff_permille": 2000, "delay_ms_max": 0, "on": []},
        "expect": {"exit_codes": [0]}, "idempotent": false,
        "read_only": matches!(phase, "prechecks" | "verify"),
        "on_failure": match phase { "prechecks" | "snapshot" => "block", "execute" | "verify" => "rollback",
                                    "rollback" => "halt", _ => "continue" },
        "sensitive": false, "output_bytes_max": 1000
    });
    step.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    step
}

pub(crate) fn plan(batches: &[&[&str]], more: Value, steps: Vec<Value>) -> Plan {
    let hosts: serde_json::Map<_, _> = batches
        .iter()
        .flat_map(|batch| batch.iter())
        .map(|name| ((*name).to_owned(), json!({"name": name, "transport": "fake", "address": name, "os": "linux"})))
        .collect();
    let mut plan = json!({
        "schema": "plan/v1",
        "runbook": {"name": "story", "title": "", "tier": "routine", "controls": [], "source_sha256": Sha256::of(b"")},
        "parameters": {}, "secrets": {}, "hosts": hosts, "batches": batches, "parallel": 10, "soak_ms": 0,
        "failure_budget": 0,
        "rollback": {"strategy": "undo", "scope": "host", "budget_ms": 60000, "verify": "again"},
        "steps": steps
    });
    plan.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(plan).expect("the story's plan is a plan")
}

/// The change and the way back that most stories need.
pub(crate) fn change() -> Vec<Value> {
    vec![
        step("prechecks", "space", json!({})),
        step("execute", "install", json!({})),
        step("execute", "restart", json!({"needs": ["install"]})),
        step("verify", "answers", json!({})),
        step("rollback", "restart.undo", json!({"role": {"undo": {"of": "restart"}}})),
        step("rollback", "install.undo", json!({"role": {"undo": {"of": "install"}}})),
        step("rollback", "space.again", json!({"role": {"again": {"of": "space"}}, "read_only": true})),
        step("finally", "tidy", json!({})),
    ]
}

/// A world that answers every command well, but for what the story says.
pub(crate) struct Story {
    pub(crate) run: Run,
    pub(crate) events: Vec<Event>,
    pub(crate) now: u64,
    pub(crate) answers: BTreeMap<String, VecDeque<Ended>>,
    pub(crate) unreachable: Vec<String>,
    /// What is still open when sessions were closed.
    pub(crate) left: Option<Process>,
    /// How access ended when sessions were closed.
    pub(crate) access: Option<runbook_model::access::Withdrawal>,
}

pub(crate) fn ok() -> Ended {
    Ended::Exited { exit: Exit::Code(0), unmet: vec![], class: None }
}

pub(crate) fn failed() -> Ended {
    Ended::Exited { exit: Exit::Code(1), unmet: vec!["exit code 1, expected 0".into()], class: None }
}

pub(crate) fn unreachable() -> Obstacle {
    Obstacle { kind: ObstacleKind::Unreachable, message: "no answer".into() }
}

impl Story {
    pub(crate) fn new(plan: Plan) -> Self {
        Self::opened(plan, header_of())
    }

    pub(crate) fn rehearsal(plan: Plan) -> Self {
        Self::opened(plan, RunHeader { rehearses: true, ..header_of() })
    }

    fn opened(plan: Plan, header: RunHeader) -> Self {
        let run = Run::new(Arc::new(plan), Arc::new(header));
        Self { run, events: vec![], now: 0, answers: BTreeMap::new(), unreachable: vec![], left: None, access: None }
    }

    /// `cell` is `host/step`; its attempts end so, in order, and well after that.
    pub(crate) fn ends(mut self, cell: &str, how: impl IntoIterator<Item = Ended>) -> Self {
        self.answers.entry(cell.into()).or_default().extend(how);
        self
    }

    pub(crate) fn input(&mut self, input: Input) {
        let events = self.run.input(self.now, input);
        self.events.extend(events);
    }

    pub(crate) fn begin(mut self) -> Self {
        self.input(Input::Begin);
        self.go();
        self
    }

    pub(crate) fn go(&mut self) {
        self.go_until(|_| false);
    }

    /// Answers what is outstanding, timers last and in order, until nothing is or the story says stop.
    pub(crate) fn go_until(&mut self, stop: impl Fn(&Command) -> bool) {
        loop {
            let open: Vec<_> = self.run.outstanding().iter().cloned().collect();
            let timer = |command: &&Command| matches!(command, Command::SetTimer { .. });
            let next = open.iter().find(|command| !timer(command)).or_else(|| {
                open.iter().filter(timer).min_by_key(|command| match command {
                    Command::SetTimer { at_ms, .. } => *at_ms,
                    _ => 0,
                })
            });
            let Some(next) = next else { return };
            if stop(next) {
                return;
            }
            let answer = self.answer(next.clone());
            self.input(answer);
        }
    }

    pub(crate) fn answer(&mut self, command: Command) -> Input {
        match command {
            Command::Connect { host } if self.unreachable.iter().any(|name| name == host.as_str()) => {
                Input::ConnectFailed { host, obstacle: unreachable() }
            }
            Command::Connect { host } => Input::Connected { host, facts: Facts::default(), identity: Box::default() },
            Command::CloseSession { host } => Input::SessionClosed { host, closed: Box::new(self.closed()) },
            Command::CloseElsewhere => Input::ElsewhereClosed { closed: vec![("proxy".into(), self.closed())] },
            Command::Prepare { cell } => {
                let intent = Intent {
                    command_sha256: Sha256::of(b""),
                    template_sha256: Sha256::of(b""),
                    variables: vec![],
                    account: None,
                };
                Input::Prepared { cell, result: Prepared::Ready(intent) }
            }
            Command::CheckUnless { cell } => Input::UnlessChecked { cell, done: Ok(true) },
            Command::Measure { host, subject } => {
                let changes = matches!(subject, Subject::After { .. }).then(|| Sha256::of(b"[]"));
                Input::Measured { host, subject, manifest: Ok(Sha256::of(b"")), changes }
            }
            Command::StartAttempt { attempt }
            | Command::ProbeAttempt { attempt, .. }
            | Command::CancelAttempt { attempt } => {
                let cell = attempt.cell().to_string();
                let ended = self.answers.get_mut(&cell).and_then(VecDeque::pop_front).unwrap_or_else(ok);
                let report = AttemptReport {
                    ended,
                    started_ms: 0,
                    ended_ms: 0,
                    duration_ms: 0,
                    stdout: OutputRef::empty(),
                    stderr: OutputRef::empty(),
                    last_line: Some("reference".into()),
                    transfers: None,
                    timing: None,
                    undeclared: None,
                };
                Input::AttemptEnded { attempt, report: Box::new(report) }
            }
            Command::SetTimer { timer, at_ms } => {
                self.now = self.now.max(at_ms);
                Input::TimerFired { timer }
            }
        }
    }

    pub(crate) fn closed(&self) -> SessionClose {
        let look = Look { at_ms: Some(1), ways_in: self.left.iter().cloned().collect(), ..Look::default() };
        let access = self.access.clone().map(Box::new);
        SessionClose { look, access, ..SessionClose::default() }
    }

    pub(crate) fn attempts(&self) -> Vec<String> {
        let started = self.events.iter().filter_map(|event| match event {
            Event::AttemptStarted { attempt, .. } => Some(format!("{}/{}", attempt.host, attempt.step)),
            _ => None,
        });
        started.collect()
    }

    pub(crate) fn outcome(&self, host: &str) -> HostOutcome {
        let ended = self.events.iter().rev().find_map(|event| match event {
            Event::HostEnded { host: of, outcome, .. } if of.as_str() == host => Some(*outcome),
            _ => None,
        });
        ended.expect("the host has ended")
    }

    pub(crate) fn reason(&self, host: &str) -> String {
        let ended = self.events.iter().rev().find_map(|event| match event {
            Event::HostEnded { host: of, reason, .. } if of.as_str() == host => Some(reason.clone()),
            _ => None,
        });
        ended.expect("the host has ended")
    }
}

/// A permit for `hosts`, open from 0 to `end_ms`; each is expected to take `needs_ms`.
pub(crate) fn permit(hosts: &[&str], end_ms: u64, needs_ms: u64) -> Permit {
    let class = Class {
        hosts: hosts.iter().map(|host| (*host).into()).collect(),
        windows: vec!["nights".into()],
        stretches: vec![Stretch { start_ms: 0, end_ms }],
        closings: Vec::new(),
        needs_ms,
        estimate: "a guess".into(),
    };
    Permit { classes: vec![class], ..Permit::default() }
}

pub(crate) fn header_of() -> RunHeader {
    RunHeader::new(RunId::from("run"), Sha256::of(b""), "story")
}
