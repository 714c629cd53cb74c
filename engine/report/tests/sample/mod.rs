//! A run as the tests tell it: a plan of a few steps, and records that a controller would have written.

use std::collections::BTreeMap;
use std::sync::Arc;

use runbook_model::event::{AttemptReport, ClockState, Event, Person, RunHeader};
use runbook_model::host::{AuthMethod, Facts, Host, PeerIdentity, Secured, ToldBy};
use runbook_model::input::Intent;
use runbook_model::outcome::{Ended, Exit, OutputRef};
use runbook_model::plan::*;
use runbook_model::record::Record;
use runbook_model::session::{Closing, Connection, Here, Look, SessionClose, There};
use runbook_model::units::rfc3339_ms;
use runbook_model::{AttemptId, AttemptOutcome, Cell, HostName, HostOutcome, RunId, Sha256, StepId};
use runbook_report::RunView;
use runbook_report::json::{AnchorLine, RedactionLine};
use runbook_report::outside::{Checked, ReceiptCheck};

pub(crate) const RUN: &str = "0199c1f2-7a10-7cc0-8000-00000000abcd";
pub(crate) const START: u64 = 1_795_339_800_000;

pub(crate) fn step(id: &str, name: &str, phase: Phase, role: Role) -> Step {
    let read_only = matches!(phase, Phase::Prechecks | Phase::Verify)
        || matches!(role, Role::Probe { .. } | Role::Again { .. } | Role::Baseline);
    Step {
        id: id.into(),
        name: name.into(),
        phase,
        role,
        work: Work::Any(Action::Run { command: Template("true".into()), shell: None, strict: true }),
        needs: vec![],
        when: None,
        on: Place::Host,
        once: None,
        account: None,
        cwd: None,
        env: BTreeMap::new(),
        stdin: None,
        timeout_ms: 600_000,
        retry: Retry::none(),
        expect: Expect::default(),
        unless: None,
        idempotent: false,
        read_only,
        changes: vec![],
        irreversible: None,
        on_failure: if phase < Phase::Execute { OnFailure::Block } else { OnFailure::Rollback },
        sensitive: false,
        with: None,
        uses: None,
        item: None,
        output_bytes_max: 1 << 20,
    }
}

pub(crate) fn host(name: &str) -> Host {
    Host::named(name, "ssh")
}

pub(crate) fn plan(batches: &[&[&str]]) -> Plan {
    let of = |id: &str| StepId::from(id);
    let mut upgrade = step("upgrade", "Install the update", Phase::Execute, Role::Plain);
    upgrade.retry.attempts = 3;
    let mut restart = step("restart", "systemctl restart smbd", Phase::Execute, Role::Plain);
    restart.needs = vec![of("upgrade")];
    let mut cleanup = step("cleanup", "cleanup", Phase::Finally, Role::Plain);
    cleanup.on_failure = OnFailure::Continue;
    Plan {
        schema: SCHEMA.into(),
        runbook: RunbookRef {
            name: "patch-fileserver".into(),
            title: "Monthly security patches".into(),
            tier: Tier::Routine,
            controls: vec![],
            source_sha256: Sha256::of(b"source"),
        },
        parameters: BTreeMap::new(),
        secrets: BTreeMap::new(),
        hosts: batches.iter().flat_map(|names| names.iter()).map(|name| (HostName::from(*name), host(name))).collect(),
        batches: batches.iter().map(|names| names.iter().map(|name| HostName::from(*name)).collect()).collect(),
        parallel: 10,
        soak_ms: 0,
        failure_budget: 0,
        watch: None,
        rollback: RollbackRule {
            strategy: Strategy::UndoThenRestore,
            scope: Scope::Host,
            budget_ms: 900_000,
            verify: RollbackVerify::Again,
        },
        window: runbook_model::plan::WindowRule::default(),
        access: None,
        irreversible: None,
        steps: vec![
            step("disk-free", "disk-free", Phase::Prechecks, Role::Plain),
            step("data", "files-snapshot", Phase::Snapshot, Role::Take),
            step("data.probe", "probe", Phase::Snapshot, Role::Probe { of: of("data") }),
            upgrade,
            restart,
            step("share", "a client can read the share", Phase::Verify, Role::Plain),
            step("upgrade.undo", "take it back", Phase::Rollback, Role::Undo { of: of("upgrade") }),
            step("data.restore", "restore", Phase::Rollback, Role::Restore { of: of("data") }),
            step("disk-free.again", "disk-free", Phase::Rollback, Role::Again { of: of("disk-free") }),
            cleanup,
        ],
        files: BTreeMap::new(),
    }
}

/// How the run of a plan is opened.
pub(crate) fn opening(plan: &Plan) -> RunHeader {
    RunHeader {
        operator: Person { name: "jane".into(), uid: 1000, from: None },
        started_ms: START,
        seed: 7,
        cells: (plan.steps.len() * plan.hosts.len()) as u64,
        engine_version: "0.1.0".into(),
        engine_sha256: Sha256::of(b"engine"),
        controller: "desk".into(),
        controller_boot_id: "boot".into(),
        clock: ClockState { source: "adjtimex".into(), synchronised: Some(true), offset_us: None },
        ..RunHeader::new(RunId::from(RUN), plan.digest(), &plan.runbook.name)
    }
}

/// Writes records as a controller would, with a clock that the test moves.
pub(crate) struct Writer {
    pub(crate) plan: Arc<Plan>,
    pub(crate) now: u64,
    pub(crate) records: Vec<Record>,
}

impl Writer {
    pub(crate) fn new(batches: &[&[&str]]) -> Self {
        let plan = Arc::new(plan(batches));
        let header = RunHeader { ticket: Some("CHG-1042".into()), ..opening(&plan) };
        let mut writer = Self { plan, now: START, records: vec![] };
        writer.put(Event::RunOpened(Box::new(header)));
        writer.put(Event::RunStarted);
        writer
    }

    pub(crate) fn put(&mut self, event: Event) -> &mut Self {
        let seq = self.records.len() as u64;
        self.records.push(Record {
            schema: runbook_model::record::SCHEMA.into(),
            seq: seq + 100,
            prev: Sha256::of(b""),
            time: rfc3339_ms(self.now),
            mono_ms: self.now - START,
            run: RunId::from(RUN),
            run_seq: seq,
            event,
        });
        self
    }

    pub(crate) fn wait(&mut self, ms: u64) -> &mut Self {
        self.now += ms;
        self
    }

    pub(crate) fn connect(&mut self, host: &str) -> &mut Self {
        let name = HostName::from(host);
        self.put(Event::HostStarted { host: name.clone(), begun_ms: None });
        self.wait(100).put(Event::SessionOpened {
            host: name,
            facts: Facts { os: "debian".into(), boot_id: "b".into(), ..Facts::default() },
            identity: Box::new(PeerIdentity {
                transport: "ssh".into(),
                peer_key: "SHA256:abc".into(),
                account: "maint".into(),
                authenticated_by: "publickey SHA256:def".into(),
                secured: Some(Secured {
                    key_exchange: "curve25519-sha256".into(),
                    host_key_algorithm: "ssh-ed25519".into(),
                    cipher: "aes256-ctr".into(),
                    mac: "hmac-sha2-256-etm@openssh.com".into(),
                }),
                methods: vec![AuthMethod { method: "publickey".into(), shown: "ED25519 SHA256:def".into() }],
                methods_told_by: Some(ToldBy::Client),
                ..PeerIdentity::default()
            }),
        })
    }

    pub(crate) fn phase(&mut self, host: &str, phase: Phase) -> &mut Self {
        self.phase_because(host, phase, None)
    }

    pub(crate) fn phase_because(&mut self, host: &str, phase: Phase, reason: Option<&str>) -> &mut Self {
        let reason = reason.map(str::to_owned);
        self.put(Event::PhaseStarted { host: host.into(), phase, reason, deadline_ms: None })
    }

    pub(crate) fn end_phase(&mut self, host: &str, phase: Phase, ok: bool) -> &mut Self {
        self.put(Event::PhaseEnded { host: host.into(), phase, ok })
    }

    fn id(host: &str, step: &str, attempt: u32) -> AttemptId {
        AttemptId { run: RunId::from(RUN), host: host.into(), step: step.into(), attempt }
    }

    pub(crate) fn start(&mut self, host: &str, step: &str, attempt: u32) -> &mut Self {
        let phase = self.plan.step(&step.into()).expect("the plan has the step").phase;
        let intent = Intent {
            command_sha256: Sha256::of(step.as_bytes()),
            template_sha256: Sha256::of(b"template"),
            variables: vec![],
            account: Some("root".into()),
        };
        self.put(Event::AttemptStarted { attempt: Self::id(host, step, attempt), phase, intent })
    }

    pub(crate) fn exit(&mut self, host: &str, step: &str, attempt: u32, code: i32, stderr: &str) -> &mut Self {
        let outcome = if code == 0 { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed };
        let unmet = if code == 0 { vec![] } else { vec![format!("exit code {code}, expected 0")] };
        let started_ms = self.now;
        self.wait(1_500);
        let output = OutputRef {
            sha256: (!stderr.is_empty()).then(|| Sha256::of(stderr.as_bytes())),
            bytes: stderr.len() as u64,
            blob: (!stderr.is_empty()).then(|| Sha256::of(stderr.as_bytes())),
            ..OutputRef::empty()
        };
        let report = AttemptReport {
            ended: Ended::Exited { exit: Exit::Code(code), unmet, class: None },
            started_ms,
            ended_ms: self.now,
            duration_ms: 1_500,
            stdout: OutputRef::empty(),
            stderr: output,
            last_line: None,
            transfers: None,
            timing: None,
            undeclared: None,
        };
        self.put(Event::AttemptEnded { attempt: Self::id(host, step, attempt), outcome, report: Box::new(report) })
    }

    pub(crate) fn end(&mut self, host: &str, step: &str, outcome: AttemptOutcome, reason: &str) -> &mut Self {
        let cell = Cell { host: host.into(), step: step.into() };
        let snapshot = (step == "data" && outcome == AttemptOutcome::Succeeded).then(|| "/snap/data".to_owned());
        self.put(Event::StepEnded { cell, outcome, reason: reason.into(), done_on: None, snapshot })
    }

    pub(crate) fn good(&mut self, host: &str, step: &str) -> &mut Self {
        self.start(host, step, 1).exit(host, step, 1, 0, "").end(host, step, AttemptOutcome::Succeeded, "")
    }

    pub(crate) fn host_ended(&mut self, host: &str, outcome: HostOutcome, reason: &str) -> &mut Self {
        self.put(Event::HostEnded { host: host.into(), outcome, reason: reason.into() })
    }

    fn open_sessions(&self) -> std::collections::BTreeSet<String> {
        let mut open = std::collections::BTreeSet::new();
        for record in &self.records {
            match &record.event {
                Event::SessionOpened { host, .. } => drop(open.insert(host.to_string())),
                Event::SessionClosed { host, .. } => drop(open.remove(host.as_str())),
                _ => {}
            }
        }
        open
    }

    /// Its session ended as it should, after this many attempts.
    pub(crate) fn closed(&mut self, host: &str, attempts: u64) -> &mut Self {
        self.closed_with(host, |close| close.attempts = attempts)
    }

    pub(crate) fn closed_with(&mut self, host: &str, change: impl FnOnce(&mut SessionClose)) -> &mut Self {
        self.wait(40);
        let connection = Connection {
            opened_ms: START + 100,
            closed_ms: Some(self.now),
            why: Closing::Done,
            here: Here::Ended,
            there: There::LastWord,
            identity: None,
        };
        let look = Look { at_ms: Some(self.now - 10), ..Look::default() };
        let mut close = SessionClose { attempts: 1, connections: vec![connection], unnamed: 0, look, access: None };
        change(&mut close);
        self.put(Event::SessionClosed { host: host.into(), closed: Box::new(close) })
    }

    /// Ends the run; every session that is open ends before it.
    pub(crate) fn run_ended(&mut self, outcome: HostOutcome) -> &mut Self {
        for host in self.open_sessions() {
            self.closed(&host, 1);
        }
        self.put(Event::RunEnded { outcome, clock: None })
    }

    pub(crate) fn view(&self) -> RunView {
        RunView::of(self.plan.clone(), &self.records)
    }

    /// Up to the middle of `upgrade` on `host`.
    pub(crate) fn until_upgrade(&mut self, host: &str) -> &mut Self {
        self.connect(host);
        self.phase(host, Phase::Prechecks).good(host, "disk-free").end_phase(host, Phase::Prechecks, true);
        self.phase(host, Phase::Snapshot).good(host, "data").good(host, "data.probe");
        self.end_phase(host, Phase::Snapshot, true).phase(host, Phase::Execute).start(host, "upgrade", 1)
    }

    /// A whole good host.
    pub(crate) fn good_host(&mut self, host: &str) -> &mut Self {
        self.until_upgrade(host).exit(host, "upgrade", 1, 0, "");
        self.end(host, "upgrade", AttemptOutcome::Succeeded, "").good(host, "restart");
        self.end_phase(host, Phase::Execute, true);
        self.phase(host, Phase::Verify).good(host, "share").end_phase(host, Phase::Verify, true);
        self.phase(host, Phase::Finally).good(host, "cleanup").end_phase(host, Phase::Finally, true);
        self.host_ended(host, HostOutcome::Succeeded, "")
    }
}

/// `fs01` fails in verify after one retry and is taken back; `fs02` is therefore never started.
pub(crate) fn taken_back() -> Writer {
    let mut run = Writer::new(&[&["fs01"], &["fs02"]]);
    run.put(Event::BatchStarted { batch: 0 });
    run.until_upgrade("fs01").exit("fs01", "upgrade", 1, 100, "E: Could not get lock /var/lib/dpkg/lock\n");
    let again = AttemptId { run: RUN.into(), host: "fs01".into(), step: "upgrade".into(), attempt: 2 };
    let at_ms = run.now + 30_000;
    run.put(Event::RetryScheduled { attempt: again, at_ms, reason: "another program holds a lock".into() });
    run.wait(30_000).start("fs01", "upgrade", 2).exit("fs01", "upgrade", 2, 0, "");
    run.end("fs01", "upgrade", AttemptOutcome::Succeeded, "").good("fs01", "restart");
    run.end_phase("fs01", Phase::Execute, true).phase("fs01", Phase::Verify);
    run.start("fs01", "share", 1).exit("fs01", "share", 1, 1, "tree connect failed: NT_STATUS_BAD_NETWORK_NAME\n");
    run.end("fs01", "share", AttemptOutcome::Failed, "exit code 1, expected 0");
    run.end_phase("fs01", Phase::Verify, false);
    run.phase_because("fs01", Phase::Rollback, Some("verify: `share` failed: exit code 1, expected 0"));
    run.good("fs01", "upgrade.undo").good("fs01", "data.restore").good("fs01", "disk-free.again");
    run.end_phase("fs01", Phase::Rollback, true);
    run.phase("fs01", Phase::Finally).good("fs01", "cleanup").end_phase("fs01", Phase::Finally, true);
    run.host_ended("fs01", HostOutcome::RolledBack, "verify: `share` failed: exit code 1, expected 0");
    run.put(Event::BatchEnded { batch: 0, soak_until_ms: None });
    run.put(Event::BudgetSpent { spent: 1, budget: 0 });
    run.host_ended("fs02", HostOutcome::Blocked, "not started: the failure budget is spent");
    run.closed("fs01", 12);
    run.run_ended(HostOutcome::RolledBack);
    run
}

/// Anchors of every standing: one that holds the run, one that holds it unchecked, one that waits, one with nothing.
pub(crate) fn anchors() -> Vec<AnchorLine> {
    let holds = |name: &str, kind: &str, size| AnchorLine {
        name: name.into(),
        kind: kind.into(),
        size: Some(size),
        root: Some("ab".repeat(32)),
        at: Some("2026-11-22T09:31:40.000Z".into()),
        record: Some(size),
        covers_run: true,
        after_ms: Some(1_250),
        ..AnchorLine::default()
    };
    let waits = |line: AnchorLine| AnchorLine {
        covers_run: false,
        after_ms: None,
        waiting: 12,
        waiting_since: Some("2026-11-22T09:30:20.000Z".into()),
        ..line
    };
    vec![
        holds("disk", "file", 61),
        waits(AnchorLine { name: "siem".into(), kind: "syslog".into(), ..AnchorLine::default() }),
        waits(holds("tsa", "rfc3161", 30)),
        holds("w1", "witness", 61),
    ]
}

/// What a check said of them.
pub(crate) fn receipts() -> Vec<ReceiptCheck> {
    let check = |anchor: &str, kind: &str, size, checked, what: &str| ReceiptCheck {
        anchor: anchor.into(),
        kind: kind.into(),
        size,
        checked,
        what: what.into(),
    };
    vec![
        check("disk", "file", 61, Checked::NotChecked, "disk: this run was copied to /mnt/<heads>: compare it there"),
        check("tsa", "rfc3161", 30, Checked::Wrong, "the receipt of tsa for 30 records: it is over SHA-1"),
        check("w1", "witness", 61, Checked::Verified, "the witness w (pinned) saw this run"),
    ]
}

/// Lines of two outputs of `fs01` that are withheld.
pub(crate) fn redactions() -> Vec<RedactionLine> {
    let of = |stream: &str, withheld, record| RedactionLine {
        host: "fs01".into(),
        step: "upgrade".into(),
        attempt: 1,
        stream: stream.into(),
        withheld,
        rule: "match <secret>".into(),
        reason: "a name".into(),
        by: "ann".into(),
        at: "2026-11-23T08:00:00.000Z".into(),
        record,
    };
    vec![of("stdout", 1, 70), of("stderr", 3, 71)]
}
