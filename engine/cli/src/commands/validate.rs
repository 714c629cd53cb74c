//! `validate`: every problem of the given files.

use std::path::Path;

use runbook_lang::{Code, Diagnostic, Inventory, Runbook, Severity, Source, Span, parse_inventory};
use runbook_plan::PlanRequest;

use crate::arguments::Validate;
use crate::failure::{Failure, USAGE};
use crate::origins::Reading;
use crate::output::{self, Output};
use crate::problems;
use crate::project::Project;
use crate::sources::{self, ActionFolders, SentFiles};

/// Checks each file by the schema that it names.
pub(crate) fn run(project: &Project, arguments: &Validate, output: Output) -> Result<u8, Failure> {
    let mut found = Vec::new();
    for path in &arguments.files {
        found.extend(check(project, path));
    }
    let errors = found.iter().filter(|problem| problem.severity == Severity::Error).count();
    if arguments.json {
        output::json(&runbook_lang::diagnostic::to_json(&found))?;
    } else {
        problems::show(&found, output.error_palette);
        let files = runbook_report::text::count(arguments.files.len(), "file");
        let warnings = found.len() - errors;
        let warned = if warnings == 0 {
            String::new()
        } else {
            format!(", {}", runbook_report::text::count(warnings, "warning"))
        };
        output::note(match errors {
            0 => format!("{files}: no problems{warned}"),
            1 => format!("{files}: 1 problem{warned}"),
            n => format!("{files}: {n} problems{warned}"),
        });
    }
    Ok(if errors == 0 { 0 } else { USAGE })
}

fn check(project: &Project, path: &Path) -> Vec<Diagnostic> {
    let most = runbook_lang::FILE_BYTES_MAX.max(runbook_lang::INVENTORY_BYTES_MAX);
    let name = path.display().to_string();
    let bytes = match sources::read(path, most) {
        Ok(bytes) => bytes,
        // The other files are looked at all the same.
        Err(error) => {
            let place = Span::start_of(&Source::new(&name, ""));
            return vec![Diagnostic::error(Code::Unreadable, &place, format!("the file cannot be read: {error}"))];
        }
    };
    match kind(&bytes) {
        Kind::Inventory => match parse_inventory(&name, &bytes, &Reading::new(project, path, &name, &bytes)) {
            Ok(parsed) => parsed.warnings,
            Err(problems) => problems,
        },
        Kind::Action => match runbook_lang::parse_action(&name, &bytes) {
            Ok(parsed) => parsed.warnings,
            Err(problems) => problems,
        },
        Kind::Windows => match crate::authority::windows(&name, &bytes) {
            Ok(parsed) => parsed.warnings,
            Err(problems) => problems,
        },
        Kind::Schedule => {
            // The windows that it goes by are the project's. When they do not read, `windows check` says so.
            let windows = sources::of_project(project, "windows.yaml").ok().flatten();
            let windows =
                windows.and_then(|(path, bytes)| crate::authority::windows(&sources::shown(&path), &bytes).ok());
            match crate::schedule::schedule(&name, &bytes, windows.as_ref().map(|parsed| &parsed.value.1)) {
                Ok(parsed) => parsed.warnings,
                Err(problems) => problems,
            }
        }
        Kind::People => match runbook_lang::parse_people(&name, &bytes) {
            Ok(parsed) => parsed.warnings,
            Err(problems) => problems,
        },
        Kind::Policy => match runbook_lang::parse_policy(&name, &bytes) {
            Ok(parsed) => parsed.warnings,
            Err(problems) => problems,
        },
        Kind::Runbook => match runbook_lang::parse_runbook(&name, &bytes) {
            Ok(parsed) => {
                let mut problems = parsed.warnings;
                problems.extend(planned(project, path, &parsed.value));
                runbook_lang::diagnostic::sorted(problems)
            }
            Err(problems) => problems,
        },
    }
}

enum Kind {
    Runbook,
    Inventory,
    Action,
    Windows,
    Schedule,
    People,
    Policy,
}

/// By the `schema:` line; a file without one is taken for a runbook, whose reader says what is missing.
fn kind(bytes: &[u8]) -> Kind {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1 << 16)]);
    // JSON is YAML too: the key may be quoted, and behind a bracket.
    let opening = ['\u{feff}', '{', '"', '\'', ' '];
    let schema = text.lines().find_map(|line| {
        let rest = line.trim_start_matches(opening).strip_prefix("schema")?;
        rest.trim_start_matches(['"', '\'']).trim_start().strip_prefix(':')
    });
    match schema.map(|value| value.trim().trim_start_matches(['"', '\''])) {
        Some(value) if value.starts_with("inventory/") => Kind::Inventory,
        Some(value) if value.starts_with("action/") => Kind::Action,
        Some(value) if value.starts_with("windows/") => Kind::Windows,
        Some(value) if value.starts_with("schedule/") => Kind::Schedule,
        Some(value) if value.starts_with("people/") => Kind::People,
        Some(value) if value.starts_with("policy/") => Kind::Policy,
        _ => Kind::Runbook,
    }
}

/// What only planning finds: unknown actions and what is given to them, files that are not there, names that no host
/// has. Values that come with `-p`, and hosts where there is no project, are not asked for here.
fn planned(project: &Project, path: &Path, runbook: &Runbook) -> Vec<Diagnostic> {
    let inventory = project.inventory().and_then(|path| {
        let bytes = sources::read(&path, runbook_lang::INVENTORY_BYTES_MAX).ok()?;
        let name = path.display().to_string();
        let reading = Reading::new(project, &path, &name, &bytes);
        parse_inventory(&name, &bytes, &reading).ok().map(|parsed| parsed.value)
    });
    let known = inventory.is_some();
    let is_broken = !known && project.inventory().is_some_and(|path| path.exists());
    let inventory = inventory.unwrap_or_else(Inventory::here);
    let actions = ActionFolders::new(project, Some(path));
    let request = PlanRequest {
        runbook,
        inventory: &inventory,
        parameters: &Default::default(),
        limit: None,
        actions: &actions,
        files: &SentFiles,
        evaluate: &runbook_lang::evaluate::Evaluator::new(),
    };
    let mut problems = runbook_plan::build(request).err().unwrap_or_default();
    problems.retain(|problem| match problem.code {
        Code::MissingParameter => false,
        Code::UnknownHost | Code::NoHost | Code::NoVariant => known,
        // What hosts have is not known, as little as which there are.
        Code::Unrenderable => !is_broken,
        _ => true,
    });
    if is_broken {
        let place = Span::start_of(&Source::new(path.display().to_string(), ""));
        let what = "the project's inventory cannot be read, so what this needs of hosts was not looked at";
        problems.push(
            Diagnostic::warning(Code::Include, &place, what)
                .help("`runbook inventory check` says what is wrong with it"),
        );
    }
    problems
}
