//! Renders a step's texts for a host, and judges what came of it: the language's side of
//! [`runbook_model::evaluate::Evaluate`].
//!
//! [`Evaluator`] keeps what it has read (templates, expressions, patterns), so that a plan of a thousand hosts reads
//! each text once. A name's value is looked up only when a text uses it.

mod cache;
mod class;
mod expect;
#[cfg(test)]
mod tests;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use runbook_model::evaluate::{
    Evaluate, EvaluateError, Kept, Piece, Rendered, RenderedAction, Scope, SecretText, When,
};
use runbook_model::host::Os;
use runbook_model::outcome::Exit;
use runbook_model::plan::{self, Action, RetryClass, Step, Template, Work};
use runbook_model::shell::ShellKind;

use crate::expression::Answer;
use crate::template::{Output, Place, secret_variable};
use cache::Cache;
use values::ScopeValues;

/// The implementation of [`Evaluate`]. Cheap to share; all methods may be called from many threads.
#[derive(Debug, Default)]
pub struct Evaluator {
    cache: Cache,
}

impl Evaluator {
    /// One that has read nothing yet.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Renders the fields of one step.
struct Renderer<'s> {
    cache: &'s Cache,
    values: ScopeValues<'s>,
    unknown: BTreeSet<String>,
    secrets: BTreeSet<String>,
}

impl Renderer<'_> {
    fn output(&mut self, field: &str, source: &str, place: Place) -> Result<Output, EvaluateError> {
        if !source.contains("{{") {
            return Ok(Output { text: SecretText::plain(source), ..Output::default() });
        }
        let failed = |message: String| EvaluateError(format!("{field}: {message}"));
        let template = self.cache.template(source, place).map_err(failed)?;
        let mut output = template.render(&self.values).map_err(|(position, message)| {
            let place = if position.line > 1 { format!("line {}: ", position.line) } else { String::new() };
            failed(format!("{place}{message}"))
        })?;
        self.unknown.append(&mut output.unknown);
        self.secrets.append(&mut output.secrets);
        Ok(output)
    }

    fn plain(&mut self, field: &str, template: &Template) -> Result<String, EvaluateError> {
        self.output(field, &template.0, Place::Plain).map(Output::into_plain)
    }

    fn optional(&mut self, field: &str, template: Option<&Template>) -> Result<Option<String>, EvaluateError> {
        template.map(|template| self.plain(field, template)).transpose()
    }

    fn list(&mut self, field: &str, templates: &[Template]) -> Result<Vec<String>, EvaluateError> {
        templates.iter().map(|template| self.plain(field, template)).collect()
    }

    fn private(&mut self, field: &str, template: &Template) -> Result<SecretText, EvaluateError> {
        self.output(field, &template.0, Place::Private).map(|output| output.text)
    }

    fn run(&mut self, field: &str, template: &Template, shell: ShellKind) -> Result<String, EvaluateError> {
        self.output(field, &template.0, Place::Run(shell)).map(Output::into_plain)
    }

    fn action(&mut self, action: &Action, os: &Os) -> Result<RenderedAction, EvaluateError> {
        let own = if *os == Os::Windows { ShellKind::Powershell } else { ShellKind::Sh };
        Ok(match action {
            Action::Run { command, shell, strict } => {
                let shell = shell.unwrap_or(own);
                RenderedAction::Run { text: self.run("run", command, shell)?, shell, strict: *strict }
            }
            Action::Argv { argv } => RenderedAction::Argv(self.list("run", argv)?),
            Action::Script { sha256, args, interpreter } => RenderedAction::Script {
                sha256: *sha256,
                args: self.list("args", args)?,
                interpreter: self.optional("interpreter", interpreter.as_ref())?,
            },
            Action::Upload { files, to, owner, group } => RenderedAction::Upload {
                files: files.clone(),
                to: self.plain("to", to)?,
                owner: self.optional("owner", owner.as_ref())?,
                group: self.optional("group", group.as_ref())?,
            },
            Action::Download { from, max_bytes } => {
                RenderedAction::Download { from: self.plain("from", from)?, max_bytes: *max_bytes }
            }
            Action::Reboot { timeout_ms, settle_ms } => {
                RenderedAction::Reboot { timeout_ms: *timeout_ms, settle_ms: *settle_ms }
            }
            Action::Wait { ms } => RenderedAction::Wait { ms: *ms },
            Action::WaitUntil { for_ms, until, every_ms } => RenderedAction::WaitUntil {
                for_ms: *for_ms,
                until: self.run("until", until, own)?,
                shell: own,
                every_ms: *every_ms,
            },
            Action::Confirm { text } => RenderedAction::Confirm { text: self.plain("confirm", text)? },
            Action::Compare => RenderedAction::Compare,
        })
    }
}

/// Where the step really runs: which kind of system, and which account when the step names none.
fn ground<'s>(scope: &Scope<'s>, step: &'s Step) -> (Os, Option<&'s str>) {
    match &step.on {
        plan::Place::Host => (scope.host.os.clone(), scope.host.account.as_deref()),
        plan::Place::Controller => (Os::from(std::env::consts::OS.to_owned()), None),
        plan::Place::Named(host) => (host.os.clone(), host.account.as_deref()),
    }
}

/// The action for this kind of system.
fn pick<'s>(work: &'s Work, os: &Os, step: &Step) -> Result<&'s Action, EvaluateError> {
    let (action, key) = match work {
        Work::Any(action) => return Ok(action),
        Work::ByOs { posix, windows } => match os {
            Os::Windows => (windows, "windows"),
            Os::Posix(_) => (posix, "posix"),
        },
    };
    action.as_ref().ok_or_else(|| {
        let name = step.uses.as_deref().unwrap_or(step.name.as_str());
        EvaluateError(format!("{name} cannot be done on {os}: the action has no `{key}` part"))
    })
}

impl Evaluate for Evaluator {
    fn when(&self, scope: &Scope<'_>, step: &Step) -> Result<When, EvaluateError> {
        let Some(condition) = &step.when else { return Ok(When::Run) };
        let failed = |message: String| EvaluateError(format!("when: {message} (in `{}`)", condition.0));
        let expression = self.cache.expression(&condition.0).map_err(failed)?;
        match expression.judge(&ScopeValues::of_step(&self.cache, scope, step)).map_err(failed)? {
            Answer::Known(true) => Ok(When::Run),
            Answer::Known(false) => Ok(When::Skip(format!("`{}` is false", condition.0))),
            // A preview shows the step; whether it runs is known only then.
            Answer::Unknown(_) if scope.run.is_none() => Ok(When::Run),
            Answer::Unknown(names) => Err(failed(format!("{} is not known", join(&names)))),
        }
    }

    fn render(&self, scope: &Scope<'_>, step: &Step) -> Result<Rendered, EvaluateError> {
        let mut renderer = Renderer {
            cache: &self.cache,
            values: ScopeValues::of_step(&self.cache, scope, step),
            unknown: BTreeSet::new(),
            secrets: BTreeSet::new(),
        };
        let (os, default_account) = ground(scope, step);
        let action = renderer.action(pick(&step.work, &os, step)?, &os)?;
        let unless = match &step.unless {
            None => None,
            Some(work) => Some(
                renderer
                    .action(pick(work, &os, step)?, &os)
                    .map_err(|error| EvaluateError(format!("unless: {error}")))?,
            ),
        };
        let account = renderer.optional("as", step.account.as_ref())?;
        let cwd = renderer.optional("cwd", step.cwd.as_ref())?;
        let mut env: BTreeMap<String, SecretText> = BTreeMap::new();
        for (name, template) in &step.env {
            env.insert(name.clone(), renderer.private(&format!("env.{name}"), template)?);
        }
        let stdin = step.stdin.as_ref().map(|template| renderer.private("stdin", template)).transpose()?;
        let changes = renderer.list("changes", &step.changes)?;
        for secret in &renderer.secrets {
            env.insert(secret_variable(secret), SecretText(vec![Piece::Secret(secret.clone())]));
        }
        Ok(Rendered {
            action,
            unless,
            account: account.or_else(|| default_account.map(str::to_owned)),
            cwd,
            env,
            stdin,
            changes,
            template_sha256: self.cache.digest(step),
            variables: renderer.values.used(),
            unknown: renderer.unknown,
        })
    }

    fn text(&self, scope: &Scope<'_>, template: &Template) -> Result<String, EvaluateError> {
        let mut renderer = Renderer {
            cache: &self.cache,
            values: ScopeValues::outer(&self.cache, scope, None),
            unknown: BTreeSet::new(),
            secrets: BTreeSet::new(),
        };
        renderer.output("text", &template.0, Place::Plain).map(Output::into_plain)
    }

    fn unmet(&self, scope: &Scope<'_>, step: &Step, exit: Exit, stdout: Kept<'_>, stderr: Kept<'_>) -> Vec<String> {
        expect::unmet(&self.cache, scope, step, exit, stdout, stderr)
    }

    fn class(&self, stdout: &[u8], stderr: &[u8]) -> RetryClass {
        class::of(stdout, stderr)
    }
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
