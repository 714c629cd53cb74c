//! Texts as they are: the simulation is not about the language.

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::Sha256;
use runbook_model::evaluate::{Evaluate, EvaluateError, Kept, Rendered, RenderedAction, Scope, When};
use runbook_model::outcome::Exit;
use runbook_model::plan::{Action, RetryClass, Step, Template, Work};
use runbook_model::shell::ShellKind;

pub(crate) struct Verbatim;

fn action(work: &Work) -> RenderedAction {
    match work {
        Work::Any(Action::Run { command, .. }) => {
            RenderedAction::Run { text: command.0.clone(), shell: ShellKind::Sh, strict: true }
        }
        Work::Any(Action::Reboot { timeout_ms, settle_ms }) => {
            RenderedAction::Reboot { timeout_ms: *timeout_ms, settle_ms: *settle_ms }
        }
        other => panic!("simulated plans do not have {other:?}"),
    }
}

impl Evaluate for Verbatim {
    fn when(&self, _scope: &Scope<'_>, _step: &Step) -> Result<When, EvaluateError> {
        Ok(When::Run)
    }

    fn render(&self, _scope: &Scope<'_>, step: &Step) -> Result<Rendered, EvaluateError> {
        Ok(Rendered {
            action: action(&step.work),
            unless: step.unless.as_ref().map(action),
            account: None,
            cwd: None,
            env: BTreeMap::new(),
            stdin: None,
            changes: step.changes.iter().map(|text| text.0.clone()).collect(),
            template_sha256: Sha256::of(b"verbatim"),
            variables: BTreeSet::new(),
            unknown: BTreeSet::new(),
        })
    }

    fn text(&self, _scope: &Scope<'_>, template: &Template) -> Result<String, EvaluateError> {
        Ok(template.0.clone())
    }

    fn unmet(&self, _scope: &Scope<'_>, step: &Step, exit: Exit, _out: Kept<'_>, _err: Kept<'_>) -> Vec<String> {
        match exit {
            Exit::Code(code) if step.expect.exit_codes.contains(&code) => Vec::new(),
            Exit::Code(code) => vec![format!("exit code {code}")],
            Exit::Signal(signal) => vec![format!("signal {signal}")],
        }
    }

    fn class(&self, _stdout: &[u8], _stderr: &[u8]) -> RetryClass {
        RetryClass::Exit
    }
}
