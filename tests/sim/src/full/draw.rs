//! A scenario from a seed.

use runbook_model::plan::{Action, Phase, Plan, Retry, Role, Step, Template, Work};

use crate::full::scenario::{Deed, Fault, Mishap, Scenario};
use crate::plans;
use crate::seed::Seed;

/// How long the host is away when a step reboots it, or a mishap does.
pub(crate) const REBOOT_MS: u64 = 30_000;

/// A scenario from a seed.
pub fn draw(number: u64) -> Scenario {
    let mut seed = Seed::new(number ^ 0x5151_5151);
    let mut plan = plans::plan(&mut seed);
    for step in &mut plan.steps {
        let reboots = step.phase == Phase::Execute && step.role == Role::Plain && step.once.is_none();
        let takes_ms = seed.pick(&[1, 200, 3_000, 30_000]);
        if step.retry.attempts == 1 {
            step.retry = Retry::none();
        }
        give_work(step, reboots && seed.percent(8), takes_ms);
    }
    // So long a pause takes many seconds of nothing but signed heads.
    plan.soak_ms = plan.soak_ms.min(20_000);
    plan.watch = None;
    let mut faults = Vec::new();
    // Some go well but for one thing, some are trouble.
    let many = seed.pick(&[0, 1, 2, 4, 8]);
    for _ in 0..many {
        let fault = attempt_fault(&mut seed, &plan);
        faults.push(fault);
    }
    if seed.percent(40) {
        // Rollbacks have their own faults, and need a reason.
        let executes: Vec<_> = plan.phase(Phase::Execute).map(|step| step.id.clone()).collect();
        let hosts: Vec<_> = plan.hosts.keys().cloned().collect();
        let host = hosts[seed.below(hosts.len() as u64) as usize].clone();
        let step = executes[seed.below(executes.len() as u64) as usize].clone();
        faults.push(Fault::Attempt { host, step, time: 1, what: Mishap::FailsHalf });
    }
    for _ in 0..seed.pick(&[0, 0, 1, 2]) {
        let fault = time_fault(&mut seed, &plan);
        faults.push(fault);
    }
    for _ in 0..seed.pick(&[0, 0, 1, 2, 3]) {
        let append = 1 + seed.below(40);
        let fault = match seed.below(10) {
            0..=3 => Fault::Crash { append, written: seed.percent(50), down_ms: seed.pick(&[100, 20_000, 600_000]) },
            4 => Fault::CrashAt { at_ms: seed.below(120_000), down_ms: seed.pick(&[100, 20_000, 600_000]) },
            5..=6 => Fault::Takeover { append, stall_ms: seed.pick(&[2_000, 15_000, 90_000]) },
            _ => Fault::Disk { append, written: seed.percent(50), for_ms: seed.pick(&[1_000, 120_000]) },
        };
        faults.push(fault);
    }
    for step in plan.steps.iter().filter(|step| step.unless.is_some()) {
        for host in plan.hosts.keys() {
            if seed.percent(20) {
                faults.push(Fault::Done { host: host.clone(), step: step.id.clone() });
            }
        }
    }
    if seed.percent(12) {
        faults.push(Fault::Cancel { at_ms: seed.below(90_000) });
    }
    for _ in 0..seed.below(3) {
        let deed = seed.pick(&[Deed::Resume, Deed::Resolve, Deed::Resolve, Deed::Cancel]);
        faults.push(Fault::Operator(deed));
    }
    if seed.percent(15) && plan.irreversible.is_none() {
        faults.push(Fault::TakeBack);
    }
    Scenario { plan, faults }
}

/// The command that the simulated hosts understand.
pub(crate) fn give_work(step: &mut Step, reboots: bool, takes_ms: u64) {
    let command = Template(format!("work {} {takes_ms}", step.id));
    step.work = Work::Any(match reboots {
        true => Action::Reboot { timeout_ms: 300_000, settle_ms: 0 },
        false => Action::Run { command, shell: None, strict: true },
    });
    if step.unless.is_some() {
        let command = Template(format!("unless {}", step.id));
        step.unless = Some(Work::Any(Action::Run { command, shell: None, strict: true }));
    }
}

fn attempt_fault(seed: &mut Seed, plan: &Plan) -> Fault {
    let hosts: Vec<_> = plan.hosts.keys().collect();
    let host = hosts[seed.below(hosts.len() as u64) as usize].clone();
    let step = &plan.steps[seed.below(plan.steps.len() as u64) as usize];
    let what = Mishap::ALL[seed.below(Mishap::ALL.len() as u64) as usize].0;
    Fault::Attempt { host, step: step.id.clone(), time: seed.pick(&[1, 1, 1, 2]), what }
}

fn time_fault(seed: &mut Seed, plan: &Plan) -> Fault {
    let hosts: Vec<_> = plan.hosts.keys().collect();
    let host = hosts[seed.below(hosts.len() as u64) as usize].clone();
    let at_ms = seed.below(90_000);
    match seed.below(3) {
        0 => Fault::Clock { at_ms, by_ms: seed.pick(&[-7_200_000, -90_000, -5_000, 5_000, 90_000, 7_200_000]) },
        kind => Fault::Host { host, at_ms, for_ms: seed.pick(&[2_000, 45_000, 400_000]), reboots: kind == 1 },
    }
}
