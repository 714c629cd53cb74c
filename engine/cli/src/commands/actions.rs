//! `actions list` and `actions show`.

use std::fmt::Write as _;

use runbook_lang::parse_action;
use runbook_plan::ActionSource as _;
use runbook_report::style::Tone;
use runbook_report::text::{escape_line, fit, width, wrap};
use serde_json::json;

use crate::arguments::{Actions, ActionsList, ActionsShow};
use crate::failure::Failure;
use crate::output::{self, Output};
use crate::problems;
use crate::project::Project;
use crate::sources::ActionFolders;

/// Runs `actions …`.
pub(crate) fn run(project: &Project, command: &Actions, output: Output) -> Result<u8, Failure> {
    let actions = ActionFolders::new(project, None);
    match command {
        Actions::List(arguments) => list(&actions, arguments, output),
        Actions::Show(arguments) => show(&actions, arguments, output),
    }
}

struct Line {
    name: String,
    kind: &'static str,
    description: String,
    place: String,
}

fn lines(actions: &ActionFolders) -> Vec<Line> {
    let mut out = Vec::new();
    for name in actions.names() {
        let Ok(Some((place, bytes))) = actions.text(&name) else { continue };
        let (kind, description) = match parse_action(&place, &bytes) {
            Ok(parsed) => {
                let description = parsed.value.description.as_ref().map(|text| text.value.clone()).unwrap_or_default();
                (parsed.value.kind.name(), description)
            }
            Err(problems) => ("broken", format!("{}: `runbook validate` shows them", problems.len())),
        };
        out.push(Line { name, kind, description, place });
    }
    out
}

fn list(actions: &ActionFolders, arguments: &ActionsList, output: Output) -> Result<u8, Failure> {
    let lines = lines(actions);
    if arguments.json {
        let list: Vec<_> = lines
            .iter()
            .map(|line| {
                json!({"name": line.name, "kind": line.kind, "description": line.description, "file": line.place})
            })
            .collect();
        output::json(&json!({"schema": "actions/v1", "actions": list}))?;
        return Ok(0);
    }
    let names = lines.iter().map(|line| width(&line.name)).max().unwrap_or(4);
    let mut text = String::new();
    for line in &lines {
        let name = output.palette.paint(Tone::Strong, &fit(&line.name, names));
        // What it does, in a sentence; `actions show` has the rest.
        let room = output.columns().saturating_sub(names + 12).max(24);
        let told = wrap(&escape_line(first_sentence(&line.description).as_bytes()), room);
        let mut head = format!("{name}  {}", fit(line.kind, 8));
        for told in told.iter().map(String::as_str).chain(told.is_empty().then_some("")) {
            let _ = writeln!(text, "{}", format!("{head}  {told}").trim_end());
            head = " ".repeat(names + 10);
        }
    }
    output::data(text)?;
    Ok(0)
}

/// Up to the first full stop that ends a sentence.
fn first_sentence(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.find(". ").map_or(line, |end| &line[..=end])
}

fn show(actions: &ActionFolders, arguments: &ActionsShow, output: Output) -> Result<u8, Failure> {
    let found = actions.text(&arguments.name).map_err(|why| Failure::usage("RB0608", why))?;
    let Some((place, bytes)) = found else {
        let names = actions.names();
        let near = runbook_lang::similar::nearest(&arguments.name, names.iter().map(String::as_str));
        let failure = Failure::usage("RB0611", format!("there is no action `{}` here", arguments.name));
        return Err(match near {
            Some(near) => failure.next(format!("did you mean `{near}`?")),
            None => failure.next("`runbook actions list` shows all"),
        });
    };
    let parsed =
        parse_action(&place, &bytes).map_err(|found| problems::failure(&found, &place, output.error_palette))?;
    let action = &parsed.value;
    if arguments.json {
        let parameters: Vec<_> = action
            .parameters
            .values()
            .map(|parameter| {
                json!({
                    "name": parameter.name.value,
                    "type": parameter.kind.name(),
                    "required": parameter.required,
                    "default": parameter.default.as_ref().map(|value| value.value.clone()),
                    "description": parameter.description.as_ref().map(|text| text.value.clone()),
                })
            })
            .collect();
        output::json(&json!({
            "schema": "action-show/v1",
            "name": action.name.value,
            "kind": action.kind.name(),
            "description": action.description.as_ref().map(|text| text.value.clone()),
            "parameters": parameters,
            "file": place,
            "source": String::from_utf8_lossy(&bytes),
        }))?;
        return Ok(0);
    }
    let paint = |tone, text: &str| output.palette.paint(tone, text);
    let mut text = format!("{}  {}\n", paint(Tone::Strong, &action.name.value), action.kind.name());
    if let Some(description) = &action.description {
        for line in description.value.lines() {
            let _ = writeln!(text, "  {}", escape_line(line.as_bytes()));
        }
    }
    for parameter in action.parameters.values() {
        let rule = match (&parameter.default, parameter.required) {
            (Some(value), _) => format!("default {}", value.value),
            (None, true) => "required".to_owned(),
            (None, false) => "optional".to_owned(),
        };
        let described = parameter.description.as_ref().map(|text| format!("  {}", text.value)).unwrap_or_default();
        let line = format!("{}  {}, {rule}{described}", parameter.name.value, parameter.kind.name());
        let _ = writeln!(text, "  {}", escape_line(line.as_bytes()));
    }
    let _ = writeln!(text, "\n{}", paint(Tone::Dim, &format!("# {place}")));
    text.push_str(&runbook_report::text::escape_lines(&bytes));
    output::data(text)?;
    Ok(0)
}
