//! Random plans that a planner could have made.

use std::collections::BTreeMap;

use runbook_model::host::{Host, Os};
use runbook_model::plan::{
    Action, Expect, OnFailure, Once, Phase, Place, Plan, Retry, RetryClass, Role, RollbackRule, RollbackVerify,
    RunbookRef, SCHEMA, Scope, Step, Strategy, Template, Tier, Undeclared, Watch, Work,
};
use runbook_model::{HostName, Sha256, StepId};

use crate::seed::Seed;

/// A step with nothing special about it.
pub(crate) fn step(id: String, phase: Phase, role: Role) -> Step {
    let read_only = matches!(phase, Phase::Prechecks | Phase::Verify)
        || matches!(role, Role::Probe { .. } | Role::Again { .. } | Role::Baseline);
    Step {
        name: id.clone(),
        id: StepId::from(id),
        phase,
        role,
        work: Work::Any(Action::Run { command: Template("true".into()), shell: None, strict: true }),
        needs: Vec::new(),
        when: None,
        on: Place::Host,
        once: None,
        account: None,
        cwd: None,
        env: BTreeMap::new(),
        stdin: None,
        timeout_ms: 60_000,
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
        output_bytes_max: 1 << 20,
    }
}

fn host(name: &HostName) -> Host {
    Host {
        name: name.clone(),
        transport: "simulated".into(),
        address: name.to_string(),
        port: None,
        os: Os::Posix("linux".into()),
        user: None,
        jumps: Vec::new(),
        identity: None,
        certificate: None,
        account: None,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        vars: BTreeMap::new(),
        groups: Vec::new(),
        cui: false,
        owner: None,
        cui_owner: None,
        risk: None,
    }
}

fn vary(seed: &mut Seed, step: &mut Step, earlier: &[StepId]) {
    if let Some(last) = earlier.last() {
        // Mostly a chain, sometimes a wider graph.
        step.needs = match seed.below(4) {
            0 => Vec::new(),
            1 => earlier.iter().filter(|_| seed.percent(40)).cloned().collect(),
            _ => vec![last.clone()],
        };
    }
    if seed.percent(30) {
        let on = [RetryClass::Exit, RetryClass::Timeout, RetryClass::Connection];
        step.retry = Retry {
            attempts: 1 + seed.below(3) as u32,
            delay_ms: seed.below(5_000),
            backoff_permille: 2_000,
            delay_ms_max: 10_000,
            on: on.into_iter().filter(|_| seed.percent(60)).collect(),
        };
    }
    step.idempotent = seed.percent(20);
    if seed.percent(10) {
        step.once = Some(seed.pick(&[Once::Run, Once::Batch]));
    }
    if seed.percent(15) {
        step.unless = Some(step.work.clone());
    }
    if !step.read_only && seed.percent(25) {
        step.changes = vec![Template("/etc/x".into())];
    }
}

/// A plan from a seed.
pub(crate) fn plan(seed: &mut Seed) -> Plan {
    let names: Vec<HostName> = (0..1 + seed.below(6)).map(|no| HostName::from(format!("h{no}"))).collect();
    let mut batches: Vec<Vec<HostName>> = Vec::new();
    let mut rest = names.clone();
    while !rest.is_empty() {
        let size = (1 + seed.below(3) as usize).min(rest.len());
        batches.push(rest.drain(..size).collect());
    }
    let mut steps: Vec<Step> = Vec::new();
    let mut ids: Vec<StepId> = Vec::new();
    let add = |seed: &mut Seed, steps: &mut Vec<Step>, ids: &mut Vec<StepId>, mut step: Step| {
        vary(seed, &mut step, ids);
        ids.push(step.id.clone());
        steps.push(step);
    };
    for no in 0..seed.below(3) {
        add(seed, &mut steps, &mut ids, step(format!("pre{no}"), Phase::Prechecks, Role::Plain));
    }
    let prechecks = std::mem::take(&mut ids);
    let snapshots: Vec<StepId> = (0..seed.below(3)).map(|no| StepId::from(format!("snap{no}"))).collect();
    for id in &snapshots {
        let mut take = step(id.to_string(), Phase::Snapshot, Role::Take);
        take.idempotent = true;
        steps.push(take);
        let mut probe = step(format!("{id}.probe"), Phase::Snapshot, Role::Probe { of: id.clone() });
        probe.needs = vec![id.clone()];
        steps.push(probe);
        steps.push(step(format!("{id}.release"), Phase::Snapshot, Role::Release { of: id.clone() }));
    }
    let irreversible = snapshots.is_empty() && seed.percent(15);
    let strategy = if snapshots.is_empty() { Strategy::Undo } else { Strategy::UndoThenRestore };
    let mut executes = Vec::new();
    for no in 0..1 + seed.below(4) {
        let mut work = step(format!("do{no}"), Phase::Execute, Role::Plain);
        match seed.below(12) {
            0 => work.on_failure = OnFailure::Halt,
            1 => work.on_failure = OnFailure::Continue,
            2 => work.irreversible = Some("it cannot be".into()),
            _ => {}
        }
        add(seed, &mut steps, &mut ids, work);
        executes.push(steps.last().cloned().expect("just added"));
    }
    ids.clear();
    for no in 0..seed.below(3) {
        add(seed, &mut steps, &mut ids, step(format!("check{no}"), Phase::Verify, Role::Plain));
    }
    ids.clear();
    for done in executes.iter().rev() {
        // Without a snapshot every step has an undo (or the plan says that it is irreversible).
        if done.irreversible.is_none() && !irreversible && (snapshots.is_empty() || seed.percent(50)) {
            let mut undo = step(format!("{}.undo", done.id), Phase::Rollback, Role::Undo { of: done.id.clone() });
            undo.idempotent = seed.percent(60);
            steps.push(undo);
        }
    }
    for id in snapshots.iter().rev() {
        let mut restore = step(format!("{id}.restore"), Phase::Rollback, Role::Restore { of: id.clone() });
        restore.idempotent = true;
        steps.push(restore);
    }
    if seed.percent(20) {
        let mut extra = step("after".into(), Phase::Rollback, Role::Plain);
        extra.idempotent = true;
        steps.push(extra);
    }
    let verify = if seed.percent(90) { RollbackVerify::Again } else { RollbackVerify::None };
    if verify == RollbackVerify::Again {
        for id in &prechecks {
            steps.push(step(format!("{id}.again"), Phase::Rollback, Role::Again { of: id.clone() }));
        }
        steps.push(step("rollback.baseline".into(), Phase::Rollback, Role::Baseline));
    }
    for no in 0..seed.below(3) {
        add(seed, &mut steps, &mut ids, step(format!("fin{no}"), Phase::Finally, Role::Plain));
        let fin = steps.last_mut().expect("just added");
        (fin.once, fin.unless, fin.changes) = (None, None, Vec::new());
    }
    let mut made = empty();
    for batch in batches {
        add_batch(&mut made, batch);
    }
    made.parallel = 1 + seed.below(4) as u32;
    made.soak_ms = seed.pick(&[0, 0, 60_000]);
    made.failure_budget = seed.pick(&[0, 0, 1, 2, 6]);
    made.watch =
        seed.percent(20).then(|| Watch { roots: vec![Template("/etc".into())], undeclared: Undeclared::Report });
    made.rollback.strategy = strategy;
    made.rollback.scope = seed.pick(&[Scope::Host, Scope::Host, Scope::Batch, Scope::Run]);
    made.rollback.verify = verify;
    made.irreversible = irreversible.then(|| "it cannot be".into());
    made.steps = steps;
    made
}

/// A plan without hosts and steps.
pub(crate) fn empty() -> Plan {
    Plan {
        schema: SCHEMA.into(),
        runbook: RunbookRef {
            name: "simulated".into(),
            title: String::new(),
            tier: Tier::Routine,
            controls: Vec::new(),
            source_sha256: Sha256::of(b""),
        },
        parameters: BTreeMap::new(),
        secrets: BTreeMap::new(),
        hosts: BTreeMap::new(),
        batches: Vec::new(),
        parallel: 1,
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
        steps: Vec::new(),
        files: BTreeMap::new(),
    }
}

/// One more batch of hosts.
pub(crate) fn add_batch(plan: &mut Plan, names: impl IntoIterator<Item = HostName>) {
    let names: Vec<HostName> = names.into_iter().collect();
    plan.hosts.extend(names.iter().map(|name| (name.clone(), host(name))));
    plan.batches.push(names);
}
