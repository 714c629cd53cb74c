//! Plans, a plain evaluator and an engine around fakes.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use runbook_driver::{Control, DriverError, Engine, Limits, RunRequest, RunResult};
use runbook_ledger::{FileKey, segments};
use runbook_model::evaluate::{
    Evaluate, EvaluateError, Kept, Piece, Rendered, RenderedAction, Scope, SecretText, When,
};
use runbook_model::event::{ClockState, Controller, Person};
use runbook_model::host::Host;
use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use runbook_model::plan::{
    Action, Expect, OnFailure, Phase, Place, Plan, Retry, RetryClass, Role, RollbackRule, RollbackVerify, RunbookRef,
    SecretRef, Step, Strategy, Template, Tier, Work,
};
use runbook_model::record::Record;
use runbook_model::shell::ShellKind;
use runbook_model::{Cell, Event, HostName, OutputRef, RunId, Sha256, StepId};
use runbook_ports::person::Answer;
use runbook_ports::transport::Stream;
use runbook_ports::{BlobStore, Confirmer, Observer, SecretBytes, SecretSource, Signer, Store};
use runbook_testkit::fake_transport::FakeTransport;
use runbook_testkit::memory_store::MemoryStore;
use runbook_testkit::virtual_clock::VirtualClock;

pub const RUN: &str = "019aab00-0000-7000-8000-000000000001";

/// Texts as they are, but for `{{steps.ID.stdout}}` and `{{secret.NAME}}`; `when` is the text `true` or not.
pub struct PlainEvaluate;

impl PlainEvaluate {
    fn filled(scope: &Scope<'_>, text: &str) -> Result<(String, Vec<String>), EvaluateError> {
        let (mut out, mut secrets, mut rest) = (String::new(), Vec::new(), text);
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, tail) = after.split_once("}}").expect("a test closes its braces");
            out.push_str(before);
            if let Some(id) = name.strip_prefix("steps.").and_then(|name| name.strip_suffix(".stdout")) {
                let result = scope.steps.result(&StepId::from(id));
                out.push_str(&result.ok_or_else(|| EvaluateError(format!("step {id} has no result")))?.stdout);
            } else if let Some(name) = name.strip_prefix("secret.") {
                out.push_str(&format!("$RUNBOOK_SECRET_{name}"));
                secrets.push(name.to_owned());
            } else if name == "snapshot.reference" {
                out.push_str(&scope.snapshot.as_ref().expect("a snapshot's operation").reference);
            } else {
                return Err(EvaluateError(format!("unknown name {name}")));
            }
            rest = tail;
        }
        out.push_str(rest);
        Ok((out, secrets))
    }
}

impl Evaluate for PlainEvaluate {
    fn when(&self, _scope: &Scope<'_>, step: &Step) -> Result<When, EvaluateError> {
        match &step.when {
            Some(text) if text.0 != "true" => Ok(When::Skip(text.0.clone())),
            _ => Ok(When::Run),
        }
    }

    fn render(&self, scope: &Scope<'_>, step: &Step) -> Result<Rendered, EvaluateError> {
        let mut env = BTreeMap::new();
        let mut action = |work: &Work| {
            let Work::Any(action) = work else { panic!("tests use one system") };
            Ok(match action {
                Action::Run { command, .. } => {
                    let (text, secrets) = Self::filled(scope, &command.0)?;
                    for name in secrets {
                        let value = SecretText(vec![Piece::Secret(name.clone())]);
                        env.insert(format!("RUNBOOK_SECRET_{name}"), value);
                    }
                    RenderedAction::Run { text, shell: ShellKind::Sh, strict: true }
                }
                Action::Upload { files, to, .. } => {
                    RenderedAction::Upload { files: files.clone(), to: to.0.clone(), owner: None, group: None }
                }
                Action::Download { from, max_bytes } => {
                    RenderedAction::Download { from: from.0.clone(), max_bytes: *max_bytes }
                }
                Action::Reboot { timeout_ms, settle_ms } => {
                    RenderedAction::Reboot { timeout_ms: *timeout_ms, settle_ms: *settle_ms }
                }
                Action::Wait { ms } => RenderedAction::Wait { ms: *ms },
                Action::WaitUntil { for_ms, until, every_ms } => RenderedAction::WaitUntil {
                    for_ms: *for_ms,
                    until: until.0.clone(),
                    shell: ShellKind::Sh,
                    every_ms: *every_ms,
                },
                Action::Confirm { text } => RenderedAction::Confirm { text: text.0.clone() },
                Action::Compare => RenderedAction::Compare,
                other => panic!("tests do not use {other:?}"),
            })
        };
        let unless = step.unless.as_ref().map(&mut action).transpose()?;
        let action = action(&step.work)?;
        Ok(Rendered {
            action,
            unless,
            account: step.account.as_ref().map(|account| account.0.clone()),
            cwd: None,
            env,
            stdin: None,
            changes: step.changes.iter().map(|text| text.0.clone()).collect(),
            template_sha256: Sha256::of(step.id.as_str().as_bytes()),
            variables: BTreeSet::new(),
            unknown: BTreeSet::new(),
        })
    }

    fn text(&self, _scope: &Scope<'_>, template: &Template) -> Result<String, EvaluateError> {
        Ok(template.0.clone())
    }

    fn unmet(&self, _scope: &Scope<'_>, step: &Step, exit: Exit, stdout: Kept<'_>, _stderr: Kept<'_>) -> Vec<String> {
        let mut unmet = Vec::new();
        match exit {
            Exit::Code(code) if step.expect.exit_codes.contains(&code) => {}
            Exit::Code(code) => unmet.push(format!("exit code {code}")),
            Exit::Signal(signal) => unmet.push(format!("signal {signal}")),
        }
        if let Some(expected) = &step.expect.stdout {
            for text in &expected.contains {
                let found = String::from_utf8_lossy(stdout.bytes).contains(&text.0);
                if !stdout.whole {
                    unmet.push("standard output is not whole".into());
                } else if !found {
                    unmet.push(format!("standard output has no {}", text.0));
                }
            }
        }
        unmet
    }

    fn class(&self, _stdout: &[u8], stderr: &[u8]) -> RetryClass {
        if stderr.starts_with(b"lock") { RetryClass::LockHeld } else { RetryClass::Exit }
    }
}

pub fn step(phase: Phase, id: &str, command: &str) -> Step {
    let read_only = matches!(phase, Phase::Prechecks | Phase::Verify);
    Step {
        id: id.into(),
        name: id.into(),
        phase,
        role: Role::Plain,
        work: Work::Any(Action::Run { command: Template(command.into()), shell: None, strict: true }),
        needs: Vec::new(),
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
        changes: Vec::new(),
        irreversible: None,
        on_failure: match phase {
            Phase::Prechecks | Phase::Snapshot => OnFailure::Block,
            Phase::Execute | Phase::Verify => OnFailure::Rollback,
            Phase::Rollback => OnFailure::Halt,
            Phase::Finally => OnFailure::Continue,
        },
        sensitive: false,
        with: None,
        uses: None,
        item: None,
        output_bytes_max: 64 << 20,
    }
}

pub fn acting(phase: Phase, id: &str, action: Action) -> Step {
    Step { work: Work::Any(action), ..step(phase, id, "") }
}

pub fn undo(of: &str, command: &str) -> Step {
    let id = format!("{of}.undo");
    Step { role: Role::Undo { of: of.into() }, ..step(Phase::Rollback, &id, command) }
}

/// Each step needs the one before it in its phase.
pub fn chained(mut steps: Vec<Step>) -> Vec<Step> {
    for i in 1..steps.len() {
        if steps[i].phase == steps[i - 1].phase {
            steps[i].needs = vec![steps[i - 1].id.clone()];
        }
    }
    steps
}

pub fn host(name: &str) -> Host {
    Host::named(name, "fake")
}

pub fn plan(hosts: &[&str], steps: Vec<Step>) -> Plan {
    let names: Vec<HostName> = hosts.iter().map(|name| HostName::from(*name)).collect();
    Plan {
        schema: runbook_model::plan::SCHEMA.into(),
        runbook: RunbookRef {
            name: "test".into(),
            title: String::new(),
            tier: Tier::Routine,
            controls: Vec::new(),
            source_sha256: Sha256::of(b""),
        },
        parameters: BTreeMap::new(),
        secrets: BTreeMap::from([("pw".into(), SecretRef::Env("TEST_PW".into()))]),
        hosts: hosts.iter().map(|name| (HostName::from(*name), host(name))).collect(),
        batches: vec![names],
        parallel: 1_000,
        soak_ms: 0,
        failure_budget: 1_000,
        watch: None,
        rollback: RollbackRule {
            strategy: Strategy::UndoThenRestore,
            scope: runbook_model::plan::Scope::Host,
            budget_ms: 900_000,
            verify: RollbackVerify::Steps,
        },
        window: runbook_model::plan::WindowRule::default(),
        access: None,
        irreversible: None,
        steps: chained(steps),
        files: BTreeMap::new(),
    }
}

pub struct Key(FileKey);

impl Signer for Key {
    fn sign(&self, bytes: &[u8]) -> Result<[u8; 64], String> {
        Ok(self.0.sign(bytes))
    }

    fn public_key(&self) -> [u8; 32] {
        self.0.public_key()
    }
}

pub struct OneSecret;

#[async_trait]
impl SecretSource for OneSecret {
    async fn resolve(&self, secret: &SecretRef) -> Result<SecretBytes, Obstacle> {
        match secret {
            SecretRef::Env(_) => Ok(SecretBytes::from("hunter2secret")),
            _ => Err(Obstacle { kind: ObstacleKind::Local, message: "no such secret".into() }),
        }
    }
}

pub struct Says(pub Answer);

#[async_trait]
impl Confirmer for Says {
    async fn confirm(&self, _host: &str, _question: &str) -> Answer {
        self.0.clone()
    }
}

/// Remembers what it was shown.
#[derive(Default)]
pub struct Seen {
    pub records: Mutex<Vec<Record>>,
    pub output: Mutex<Vec<u8>>,
}

impl Observer for Seen {
    fn committed(&self, record: &Record) {
        self.records.lock().unwrap().push(record.clone());
    }

    fn output(&self, _cell: &Cell, _stream: Stream, bytes: &[u8]) {
        self.output.lock().unwrap().extend_from_slice(bytes);
    }
}

pub struct Bench {
    pub store: MemoryStore,
    pub transport: FakeTransport,
    pub seen: Arc<Seen>,
    pub control: Control,
    pub limits: Limits,
    pub confirm: Answer,
    pub files: PathBuf,
    pub clock: VirtualClock,
}

pub fn ada() -> Person {
    Person { name: "ada".into(), uid: 1000, from: None }
}

impl Bench {
    pub fn new() -> Self {
        Self {
            store: MemoryStore::new(),
            transport: FakeTransport::new("fake"),
            seen: Arc::default(),
            control: Control::new(),
            limits: Limits::default(),
            confirm: Answer::Nobody("no terminal".into()),
            files: PathBuf::from("/nowhere"),
            clock: VirtualClock::new(),
        }
    }

    pub fn engine(&self) -> Engine {
        self.engine_on(Arc::new(self.store.clone()), Arc::new(self.store.clone()))
    }

    pub fn engine_on(&self, store: Arc<dyn Store>, blobs: Arc<dyn BlobStore>) -> Engine {
        Engine {
            store,
            blobs,
            transports: BTreeMap::from([
                ("fake".to_owned(), Arc::new(self.transport.clone()) as _),
                ("local".to_owned(), Arc::new(self.transport.clone()) as _),
            ]),
            evaluate: Arc::new(PlainEvaluate),
            signer: Arc::new(Key(FileKey::from_seed([7; 32]))),
            origin: "runbook/test".into(),
            secrets: Arc::new(OneSecret),
            confirmer: Arc::new(Says(self.confirm.clone())),
            clock: Arc::new(self.clock),
            observer: Arc::clone(&self.seen) as _,
            limits: self.limits,
            controller: Some(Controller {
                engine_version: "0.0.1".into(),
                engine_sha256: Sha256::of(b"another engine"),
                name: "here".into(),
                boot_id: "boot".into(),
                clock: ClockState::default(),
            }),
            clock_state: Some(|| ClockState { source: "tests".into(), ..ClockState::default() }),
            permits: None,
            access: None,
            monitors: Vec::new(),
        }
    }

    pub fn request(&self, run: &str) -> RunRequest {
        RunRequest {
            run: run.into(),
            operator: ada(),
            ticket: Some("CHG-1".into()),
            check_only: false,
            seed: 7,
            engine_version: "0.0.0".into(),
            engine_sha256: Sha256::of(b"engine"),
            controller: "here".into(),
            controller_boot_id: "boot".into(),
            clock: ClockState::default(),
            inventory_sha256: None,
            inventory_sources: Vec::new(),
            retention: None,
            revision: None,
            settings_sha256: None,
            occurrence: None,
            files: self.files.clone(),
            wait: false,
            granted: runbook_testkit::unrestricted(),
        }
    }

    pub async fn apply(&self, plan: Plan) -> Result<RunResult, DriverError> {
        self.engine().apply(plan, self.request(RUN), &self.control).await
    }

    pub async fn events(&self, run: &str) -> Vec<Event> {
        let run = RunId::from(run);
        let sealed = self.store.records(&run, 0, usize::MAX).await.unwrap();
        sealed.iter().map(|sealed| runbook_ledger::record::parse(&sealed.bytes).unwrap().event).collect()
    }

    /// The last report of a step on a host.
    pub async fn report(&self, step: &str, host: &str) -> runbook_model::event::AttemptReport {
        let fits = |event: Event| match event {
            Event::AttemptEnded { attempt, report, .. }
                if attempt.step.as_str() == step && attempt.host.as_str() == host =>
            {
                Some(*report)
            }
            _ => None,
        };
        self.events(RUN).await.into_iter().filter_map(fits).next_back().expect("it was attempted")
    }

    /// What is kept of an output, after a check of its root.
    pub async fn output(&self, output: &OutputRef) -> Vec<u8> {
        let blob = self.blob(output.blob).await;
        assert!(segments::verify(output, &blob), "the output's root is that of its blob");
        segments::content(output, &blob).to_vec()
    }

    pub async fn blob(&self, digest: Option<Sha256>) -> Vec<u8> {
        self.store.get(&digest.expect("there is a blob"), u64::MAX).await.unwrap()
    }
}
