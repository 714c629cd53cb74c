//! `policy explain`.

use std::fmt::Write as _;

use runbook_policy::Act;
use runbook_report::style::Tone;
use runbook_report::text::escape_line;
use serde_json::json;

use crate::arguments::rules::{Policy as Command, PolicyTools};
use crate::authority::{self, Asked};
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output, note};
use crate::project::Project;
use crate::{machine, record, sources};

/// Runs `policy …`.
pub(crate) async fn run(project: &Project, command: &Command, output: Output) -> Result<u8, Failure> {
    let arguments = match command {
        Command::Explain(arguments) => arguments,
        Command::Tools(arguments) => return tools(project, arguments, output),
    };
    let plan = sources::plan_or_saved(project, &arguments.file, &arguments.sources, output.error_palette)?;
    let store = record::open_existing(project).await?;
    let asked = Asked {
        ticket: arguments.ticket.as_deref(),
        reason: arguments.reason.as_deref(),
        break_glass: arguments.break_glass.as_deref(),
        ..Asked::new(Act::Apply, &plan)
    };
    let (judged, overdue) = authority::judged(project, store.as_ref(), asked, output.error_palette).await?;
    let mut reasons = overdue.clone();
    reasons.extend(judged.as_ref().map(|judged| judged.reasons()).unwrap_or_default());
    if arguments.json {
        let rules = judged.as_ref().map(|judged| {
            let rules = judged.rules.iter().map(|rule| {
                let needs: Vec<_> = rule
                    .needs
                    .iter()
                    .map(|need| json!({"what": need.what, "met": need.missing.is_empty(), "missing": need.missing}))
                    .collect();
                json!({"rule": rule.rule, "hosts": rule.hosts, "needs": needs})
            });
            rules.collect::<Vec<_>>()
        });
        output::json(&json!({
            "schema": "policy-explain/v1",
            "plan_sha256": plan.digest(),
            "policy": judged.is_some(),
            "allowed": reasons.is_empty(),
            "overdue": overdue,
            "blocked": judged.as_ref().map(|judged| &judged.blocked),
            "rules": rules,
            "set_aside": judged.as_ref().map(|judged| &judged.set_aside),
        }))?;
        return Ok(if reasons.is_empty() { 0 } else { REFUSED });
    }
    let palette = output.palette;
    let shown = |text: &str| escape_line(text.as_bytes());
    let Some(judged) = judged else {
        if !overdue.is_empty() {
            let bad = palette.paint(Tone::Bad, "✗");
            output::data(overdue.iter().fold(String::new(), |text, why| format!("{text}{bad} {}\n", shown(why))))?;
            return Ok(REFUSED);
        }
        note("no policy: the project has no `policy.yaml`, so nothing is required; the record of a run says so");
        return Ok(0);
    };
    let mut text = format!("plan {} of {}, {}\n", plan.digest(), plan.runbook.name, plan.runbook.tier.name());
    for blocked in overdue.iter().chain(&judged.blocked) {
        let _ = writeln!(text, "{} {}", palette.paint(Tone::Bad, "✗"), shown(blocked));
    }
    if judged.rules.is_empty() {
        let _ = writeln!(text, "no rule is for these hosts and this tier: nothing is required");
    }
    for rule in &judged.rules {
        let hosts: Vec<&str> = rule.hosts.iter().map(|host| host.as_str()).collect();
        let hosts = runbook_report::text::list(&hosts, 5);
        let _ = writeln!(text, "{}  for {hosts}", palette.paint(Tone::Strong, &shown(&rule.rule)));
        for need in &rule.needs {
            let mark = match need.missing.is_empty() {
                true => palette.paint(Tone::Good, "✓"),
                false => palette.paint(Tone::Bad, "✗"),
            };
            let _ = writeln!(text, "  {mark} {}", shown(&need.what));
            for missing in &need.missing {
                let _ = writeln!(text, "      missing: {}", shown(missing));
            }
        }
    }
    for aside in &judged.set_aside {
        let _ = writeln!(text, "{} {}", palette.paint(Tone::Dim, "-"), shown(aside));
    }
    output::data(text)?;
    note(if reasons.is_empty() { "all that the policy requires is there" } else { "something is missing" });
    Ok(if reasons.is_empty() { 0 } else { REFUSED })
}

/// `policy tools`.
fn tools(project: &Project, arguments: &PolicyTools, output: Output) -> Result<u8, Failure> {
    let plan = sources::plan_or_saved(project, &arguments.file, &arguments.sources, output.error_palette)?;
    let engine = machine::engine_digest()
        .map_err(|error| crate::failure::fault(format!("the program's own file cannot be read: {error}")))?;
    let tools = runbook_policy::tools::of(&plan, engine);
    if arguments.json {
        let listed: Vec<_> = tools.iter().map(|(sha256, name)| json!({"sha256": sha256, "name": name})).collect();
        output::json(&json!({"schema": "policy-tools/v1", "tools": listed}))?;
        return Ok(0);
    }
    let mut lines: Vec<(&String, String)> =
        tools.iter().map(|(sha256, name)| (name, format!("  - '{sha256}  {}'\n", name.replace('\'', "''")))).collect();
    lines.sort();
    output::data(lines.into_iter().fold("tools:\n".to_owned(), |text, (_, line)| text + &line))?;
    Ok(0)
}
