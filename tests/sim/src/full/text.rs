//! A scenario as a text that people read, and back. One line is one thing; `#` begins a comment; times are milliseconds.
//!
//! ```text
//! plan parallel=2 soak=0 budget=1 scope=host verify=again
//! batch h0 h1
//! step do0 execute needs=pre0 retry=3:500:2000:10000:exit,timeout takes=3000 idempotent
//! step do0.undo rollback undo=do0 takes=1
//! attempt h0/do0#1 cut-begun
//! host h1 reboots at=2000 for=30000
//! crash append=7 after down=20000
//! operator resolve
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;

use runbook_model::plan::{
    Action, OnFailure, Once, Phase, Plan, RetryClass, Role, RollbackVerify, Scope, Step, Template, Work,
};
use runbook_model::{HostName, StepId};

use crate::full::draw::give_work;
use crate::full::scenario::{Deed, Fault, Mishap, Scenario, takes_ms};
use crate::plans;

const CLASSES: [(RetryClass, &str); 3] =
    [(RetryClass::Exit, "exit"), (RetryClass::Timeout, "timeout"), (RetryClass::Connection, "connection")];
const FAILURES: [(OnFailure, &str); 4] = [
    (OnFailure::Rollback, "rollback"),
    (OnFailure::Block, "block"),
    (OnFailure::Halt, "halt"),
    (OnFailure::Continue, "continue"),
];
const SCOPES: [(Scope, &str); 3] = [(Scope::Host, "host"), (Scope::Batch, "batch"), (Scope::Run, "run")];
const VERIFIES: [(RollbackVerify, &str); 3] =
    [(RollbackVerify::Again, "again"), (RollbackVerify::Steps, "steps"), (RollbackVerify::None, "none")];
const DEEDS: [(Deed, &str); 3] = [(Deed::Resume, "resume"), (Deed::Resolve, "resolve"), (Deed::Cancel, "cancel")];

fn name<T: PartialEq>(of: &[(T, &'static str)], value: &T) -> &'static str {
    of.iter().find(|(each, _)| each == value).expect("every value has a name").1
}

fn named<T: Copy>(of: &[(T, &str)], name: &str) -> Result<T, String> {
    of.iter().find(|(_, each)| *each == name).map(|(value, _)| *value).ok_or_else(|| format!("unknown word {name}"))
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        write!(f, "plan parallel={} soak={} budget={}", plan.parallel, plan.soak_ms, plan.failure_budget)?;
        write!(f, " scope={}", name(&SCOPES, &plan.rollback.scope))?;
        write!(f, " verify={}", name(&VERIFIES, &plan.rollback.verify))?;
        write!(f, " rollback-budget={}", plan.rollback.budget_ms)?;
        writeln!(f, "{}", if plan.irreversible.is_some() { " irreversible" } else { "" })?;
        for batch in &plan.batches {
            let hosts: Vec<&str> = batch.iter().map(HostName::as_str).collect();
            writeln!(f, "batch {}", hosts.join(" "))?;
        }
        for step in &plan.steps {
            writeln!(f, "step {}", step_text(plan, step))?;
        }
        for fault in &self.faults {
            writeln!(f, "{}", fault_text(fault))?;
        }
        Ok(())
    }
}

fn role_text(role: &Role) -> String {
    match role {
        Role::Plain => String::new(),
        Role::Take => " take".into(),
        Role::Probe { of } => format!(" probe={of}"),
        Role::Restore { of } => format!(" restore={of}"),
        Role::Release { of } => format!(" release={of}"),
        Role::Undo { of } => format!(" undo={of}"),
        Role::Again { of } => format!(" again={of}"),
        Role::Baseline => " baseline".into(),
        Role::Undeclared => " undeclared".into(),
    }
}

fn step_text(plan: &Plan, step: &Step) -> String {
    let mut text = format!("{} {}{}", step.id, step.phase, role_text(&step.role));
    let mut say = |what: String| {
        let _ = write!(text, " {what}");
    };
    match &step.work {
        Work::Any(Action::Reboot { .. }) => say("reboots".into()),
        _ => say(format!("takes={}", takes_ms(plan, &step.id))),
    }
    if !step.needs.is_empty() {
        let needs: Vec<&str> = step.needs.iter().map(StepId::as_str).collect();
        say(format!("needs={}", needs.join(",")));
    }
    if step.retry.attempts > 1 {
        let retry = &step.retry;
        let on: Vec<&str> = retry.on.iter().map(|class| name(&CLASSES, class)).collect();
        let (delay, growth, most) = (retry.delay_ms, retry.backoff_permille, retry.delay_ms_max);
        say(format!("retry={}:{delay}:{growth}:{most}:{}", retry.attempts, on.join(",")));
    }
    match step.once {
        Some(Once::Run) => say("once=run".into()),
        Some(Once::Batch) => say("once=batch".into()),
        None => {}
    }
    let flags = [
        (step.idempotent, "idempotent"),
        (step.unless.is_some(), "unless"),
        (!step.changes.is_empty(), "changes"),
        (step.irreversible.is_some(), "irreversible"),
    ];
    for (_, flag) in flags.iter().filter(|(set, _)| *set) {
        say((*flag).into());
    }
    say(format!("on-failure={}", name(&FAILURES, &step.on_failure)));
    text
}

fn fault_text(fault: &Fault) -> String {
    let when = |written: &bool| if *written { "after" } else { "before" };
    match fault {
        Fault::Attempt { host, step, time, what } => format!("attempt {host}/{step}#{time} {}", what.name()),
        Fault::Host { host, at_ms, for_ms, reboots } => {
            format!("host {host} {} at={at_ms} for={for_ms}", if *reboots { "reboots" } else { "vanishes" })
        }
        Fault::Done { host, step } => format!("done {host}/{step}"),
        Fault::Clock { at_ms, by_ms } => format!("clock at={at_ms} by={by_ms}"),
        Fault::Crash { append, written, down_ms } => format!("crash append={append} {} down={down_ms}", when(written)),
        Fault::CrashAt { at_ms, down_ms } => format!("crash at={at_ms} down={down_ms}"),
        Fault::Disk { append, written, for_ms } => format!("disk append={append} {} for={for_ms}", when(written)),
        Fault::Takeover { append, stall_ms } => format!("takeover append={append} stall={stall_ms}"),
        Fault::Cancel { at_ms } => format!("cancel at={at_ms}"),
        Fault::Operator(deed) => format!("operator {}", name(&DEEDS, deed)),
        Fault::TakeBack => "take-back".into(),
    }
}

/// The words of a line: plain ones, and `key=value`.
struct Words<'a> {
    plain: Vec<&'a str>,
    keyed: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Self {
        let (mut plain, mut keyed) = (Vec::new(), BTreeMap::new());
        for word in line.split_whitespace() {
            match word.split_once('=') {
                Some((key, value)) => {
                    keyed.insert(key, value);
                }
                None => plain.push(word),
            }
        }
        Self { plain, keyed }
    }

    fn at(&self, no: usize) -> Result<&'a str, String> {
        self.plain.get(no).copied().ok_or_else(|| format!("word {} is missing", no + 1))
    }

    fn has(&self, flag: &str) -> bool {
        self.plain.iter().skip(1).any(|word| *word == flag)
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<T, String> {
        let value = self.keyed.get(key).ok_or_else(|| format!("`{key}=` is missing"))?;
        value.parse().map_err(|_| format!("`{key}={value}` is no number"))
    }

    fn of_step(&self, key: &str) -> Option<StepId> {
        self.keyed.get(key).map(|id| StepId::from(*id))
    }
}

impl std::str::FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut plan = plans::empty();
        let mut faults = Vec::new();
        for (no, line) in text.lines().enumerate() {
            let line = line.split_once(" #").map_or(line, |(line, _)| line).trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words = Words::of(line);
            let place = |why: String| format!("line {}: {why}: {line}", no + 1);
            match words.at(0).map_err(place)? {
                "plan" => plan_line(&mut plan, &words).map_err(place)?,
                "batch" => plans::add_batch(&mut plan, words.plain[1..].iter().map(|name| HostName::from(*name))),
                "step" => plan.steps.push(step_line(&words).map_err(place)?),
                _ => faults.push(fault_line(&words).map_err(place)?),
            }
        }
        Ok(Self { plan, faults })
    }
}

fn plan_line(plan: &mut Plan, words: &Words<'_>) -> Result<(), String> {
    plan.parallel = words.number("parallel")?;
    plan.soak_ms = words.number("soak")?;
    plan.failure_budget = words.number("budget")?;
    plan.rollback.scope = named(&SCOPES, words.keyed.get("scope").ok_or("`scope=` is missing")?)?;
    plan.rollback.verify = named(&VERIFIES, words.keyed.get("verify").ok_or("`verify=` is missing")?)?;
    plan.rollback.budget_ms = words.number("rollback-budget").unwrap_or(900_000);
    plan.irreversible = words.has("irreversible").then(|| "it cannot be".into());
    Ok(())
}

fn step_line(words: &Words<'_>) -> Result<Step, String> {
    let phase = words.at(2)?;
    let phase = Phase::ALL.into_iter().find(|each| each.name() == phase).ok_or("unknown phase")?;
    let role = if words.has("take") {
        Role::Take
    } else if words.has("baseline") {
        Role::Baseline
    } else if let Some(of) = words.of_step("probe") {
        Role::Probe { of }
    } else if let Some(of) = words.of_step("restore") {
        Role::Restore { of }
    } else if let Some(of) = words.of_step("release") {
        Role::Release { of }
    } else if let Some(of) = words.of_step("undo") {
        Role::Undo { of }
    } else if let Some(of) = words.of_step("again") {
        Role::Again { of }
    } else {
        Role::Plain
    };
    let mut step = plans::step(words.at(1)?.to_owned(), phase, role);
    if let Some(needs) = words.keyed.get("needs") {
        step.needs = needs.split(',').map(StepId::from).collect();
    }
    if let Some(retry) = words.keyed.get("retry") {
        let parts: Vec<&str> = retry.split(':').collect();
        let [attempts, delay, growth, most, on] = parts[..] else { return Err("retry has five parts".into()) };
        let bad = |_| "retry has numbers".to_owned();
        step.retry.attempts = attempts.parse().map_err(bad)?;
        step.retry.delay_ms = delay.parse().map_err(bad)?;
        step.retry.backoff_permille = growth.parse().map_err(bad)?;
        step.retry.delay_ms_max = most.parse().map_err(bad)?;
        let on = on.split(',').filter(|on| !on.is_empty()).map(|on| named(&CLASSES, on));
        step.retry.on = on.collect::<Result<_, _>>()?;
    }
    step.once = match words.keyed.get("once") {
        Some(&"run") => Some(Once::Run),
        Some(&"batch") => Some(Once::Batch),
        _ => None,
    };
    step.idempotent = words.has("idempotent");
    step.unless = words.has("unless").then(|| step.work.clone());
    step.changes = if words.has("changes") { vec![Template("/etc/x".into())] } else { Vec::new() };
    step.irreversible = words.has("irreversible").then(|| "it cannot be".into());
    if let Some(on_failure) = words.keyed.get("on-failure") {
        step.on_failure = named(&FAILURES, on_failure)?;
    }
    give_work(&mut step, words.has("reboots"), words.number("takes").unwrap_or(1));
    Ok(step)
}

fn cell(text: &str) -> Result<(HostName, &str), String> {
    let (host, step) = text.split_once('/').ok_or("HOST/STEP is missing")?;
    Ok((host.into(), step))
}

fn fault_line(words: &Words<'_>) -> Result<Fault, String> {
    let written = words.has("after");
    Ok(match words.at(0)? {
        "attempt" => {
            let (host, rest) = cell(words.at(1)?)?;
            let (step, time) = rest.split_once('#').ok_or("#TIME is missing")?;
            let time = time.parse().map_err(|_| "#TIME is no number")?;
            Fault::Attempt { host, step: step.into(), time, what: named(&Mishap::ALL, words.at(2)?)? }
        }
        "host" => Fault::Host {
            host: words.at(1)?.into(),
            at_ms: words.number("at")?,
            for_ms: words.number("for")?,
            reboots: words.has("reboots"),
        },
        "done" => {
            let (host, step) = cell(words.at(1)?)?;
            Fault::Done { host, step: step.into() }
        }
        "clock" => Fault::Clock { at_ms: words.number("at")?, by_ms: words.number("by")? },
        "crash" if words.keyed.contains_key("at") => {
            Fault::CrashAt { at_ms: words.number("at")?, down_ms: words.number("down")? }
        }
        "crash" => Fault::Crash { append: words.number("append")?, written, down_ms: words.number("down")? },
        "disk" => Fault::Disk { append: words.number("append")?, written, for_ms: words.number("for")? },
        "takeover" => Fault::Takeover { append: words.number("append")?, stall_ms: words.number("stall")? },
        "cancel" => Fault::Cancel { at_ms: words.number("at")? },
        "operator" => Fault::Operator(named(&DEEDS, words.at(1)?)?),
        "take-back" => Fault::TakeBack,
        other => return Err(format!("unknown word {other}")),
    })
}
