//! One step: what a person wrote, filled up with what the packaged action, `defaults` and the language say.

use std::collections::BTreeMap;

use runbook_lang::action::{ActionFile, ActionWork};
use runbook_lang::runbook as written;
use runbook_lang::{Code, Diagnostic, Text};
use runbook_model::evaluate::RenderedAction;
use runbook_model::id::StepId;
use runbook_model::plan::{Action, Expect, Expression, OnFailure, Phase, Place, Retry, Role, Step, Template, Work};
use serde_json::Value;

use super::Builder;
use super::packaged::Packaged;
use super::phase::{Made, SnapshotSteps};
use crate::invariants;
use crate::render;

/// `timeout` when nobody says anything.
const TIMEOUT_MS: u64 = 600_000;
/// Bytes kept of each output stream.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// What a pause or a reboot may take beyond its own limit before the attempt counts as timed out.
const MARGIN_MS: u64 = 60_000;
/// Names made from a command are cut to so many characters.
const NAME_CHARS_MAX: usize = 60;

impl Builder<'_> {
    /// The step `id` of `phase`, with all that belongs to it. `None` when that is impossible and was reported.
    pub(super) fn step(
        &mut self,
        written: &written::Step,
        id: StepId,
        phase: Phase,
        item: Option<Value>,
        needs: Vec<StepId>,
    ) -> Option<Made> {
        if !self.has_room(&written.span) {
            return None;
        }
        self.claim(&id, &written.span);
        let mut packaged = match &written.action {
            written::Action::Uses { name, with } => {
                Some(self.packaged(name, written.when.as_ref(), with, phase, item.as_ref())?)
            }
            _ => None,
        };
        let mut step = self.around(written, phase, item, packaged.as_mut())?;
        step.id = id;
        step.needs = needs;
        let undo = self.undo_of(written, &step, packaged.as_ref());
        let takes = packaged.as_ref().filter(|packaged| matches!(packaged.file.work, ActionWork::Snapshot { .. }));
        let snapshot = match takes {
            None => None,
            Some(packaged) => {
                step.role = Role::Take;
                Some(Box::new(self.snapshot_of(&step, &packaged.file, written)?))
            }
        };
        let harmless = written.changes_nothing() || step.read_only;
        self.check_systems(&step, written);
        Some(Made { step, snapshot, undo, harmless, span: written.span.clone() })
    }

    /// The step without id and needs. The work of one that takes a snapshot is `take`.
    fn around(
        &mut self,
        written: &written::Step,
        phase: Phase,
        item: Option<Value>,
        mut packaged: Option<&mut Packaged>,
    ) -> Option<Step> {
        let defaults = &self.request.runbook.defaults;
        let file = packaged.as_ref().map(|packaged| packaged.file.clone());
        let file = file.as_deref();
        let work = match &mut packaged {
            Some(packaged) => self.packaged_work(packaged)?,
            None => Work::Any(self.action(&written.action, self.request.runbook.source.name())?),
        };
        // What a person wrote around a packaged action speaks of the runbook's parameters, and in the plan all texts
        // of the step speak of the action's.
        let mut own = |text: &Text| match &mut packaged {
            Some(packaged) => Template(packaged.own_text(text, false, self.frame)),
            None => Template(text.value.clone()),
        };
        let plain = |text: &Text| Template(text.value.clone());
        let account = written.account.as_ref().map(&mut own);
        let account = account.or_else(|| file.and_then(|file| file.account.as_ref()).map(plain));
        let account = account.or_else(|| defaults.account.as_ref().map(&mut own));
        let cwd = written.cwd.as_ref().map(&mut own);
        let cwd = cwd.or_else(|| file.and_then(|file| file.cwd.as_ref()).map(plain));
        let cwd = cwd.or_else(|| defaults.cwd.as_ref().map(&mut own));
        let takes_env = matches!(
            written.action,
            written::Action::Run(_)
                | written::Action::Script { .. }
                | written::Action::Uses { .. }
                | written::Action::WaitUntil { .. }
        );
        let mut env: BTreeMap<String, Template> = BTreeMap::new();
        if takes_env {
            env.extend(defaults.env.iter().map(|(name, text)| (name.clone(), own(text))));
        }
        env.extend(file.iter().flat_map(|file| &file.env).map(|(name, text)| (name.clone(), plain(text))));
        env.extend(written.env.iter().map(|(name, text)| (name.clone(), own(text))));
        let stdin = written.stdin.as_ref().map(&mut own);
        let stdin = stdin.or_else(|| file.and_then(|file| file.stdin.as_ref()).map(plain));
        let mut changes: Vec<Template> = file.iter().flat_map(|file| &file.changes).map(plain).collect();
        changes.extend(written.changes.iter().map(&mut own));
        let irreversible = written.irreversible.as_ref();
        let irreversible = irreversible.or_else(|| file.and_then(|file| file.irreversible.as_ref()));
        let irreversible = irreversible.map(|reason| reason.value.clone());

        let when = written.when.as_ref().map(|condition| match &mut packaged {
            Some(packaged) => Expression(packaged.own_text(condition, true, self.frame)),
            None => Expression(condition.value.clone()),
        });
        let expect = match (&written.expect, file.and_then(|file| file.expect.as_ref())) {
            (Some(expect), _) => {
                let mut resolved = expect.resolved();
                if let Some(packaged) = &mut packaged {
                    packaged.own_expect(&mut resolved, self.frame);
                }
                resolved
            }
            (None, Some(expect)) => expect.resolved(),
            (None, None) => Expect::default(),
        };
        let unless = match (&written.unless, file.and_then(|file| file.unless.as_ref())) {
            (Some(command), _) => {
                let mut action = self.command(command);
                if let Some(packaged) = &mut packaged {
                    packaged.own_action(&mut action, self.frame);
                }
                Some(Work::Any(action))
            }
            (None, Some(by_os)) => Some(self.by_os(by_os, file?.source.name())?),
            (None, None) => None,
        };
        let retry = written.retry.as_ref().or_else(|| file.and_then(|file| file.retry.as_ref()));
        // Nobody is asked twice because a default says so.
        let repeats = !matches!(written.action, written::Action::Wait { .. } | written::Action::Confirm { .. });
        let retry =
            retry.or(defaults.retry.as_ref().filter(|_| repeats)).map_or_else(Retry::none, written::Retry::resolved);
        let timeout_ms = written.timeout_ms.or_else(|| file.and_then(|file| file.timeout_ms));
        let timeout_ms = timeout_ms.unwrap_or_else(|| {
            let needed = invariants::actions(&work).filter_map(lasts_ms).max().map_or(0, |ms| ms + MARGIN_MS);
            defaults.timeout_ms.unwrap_or(TIMEOUT_MS).max(needed)
        });
        let checks = file.is_some_and(|file| file.kind == runbook_lang::action::Kind::Check);
        let name = self.name(written, item.as_ref());
        Some(Step {
            id: written.id.value.as_str().into(),
            name,
            phase,
            role: Role::Plain,
            work,
            needs: Vec::new(),
            when,
            on: self.place(&written.on),
            once: written.once,
            account,
            cwd,
            env,
            stdin,
            timeout_ms,
            retry,
            expect,
            unless,
            idempotent: written.idempotent.unwrap_or_else(|| file.is_some_and(|file| file.idempotent)),
            read_only: checks || matches!(phase, Phase::Prechecks | Phase::Verify),
            changes,
            irreversible,
            on_failure: written.on_failure.unwrap_or(default_on_failure(phase)),
            sensitive: written.sensitive || file.is_some_and(|file| file.sensitive),
            with: packaged.map(|packaged| packaged.with.clone()),
            uses: file.map(|file| file.name.value.clone()),
            item,
            output_bytes_max: OUTPUT_BYTES_MAX,
        })
    }

    /// The other operations of a snapshot that `take` takes.
    fn snapshot_of(&mut self, take: &Step, file: &ActionFile, written: &written::Step) -> Option<SnapshotSteps> {
        let ActionWork::Snapshot { probe, restore, release, .. } = &file.work else { return None };
        for (key, there) in [
            ("unless", written.unless.is_some()),
            ("expect", written.expect.is_some()),
            ("stdin", written.stdin.is_some()),
        ] {
            if there {
                self.report(
                    Diagnostic::error(
                        Code::ActionMisused,
                        &written.span,
                        format!("`{key}` means nothing for the snapshot action `{}`", file.name.value),
                    )
                    .help("a snapshot is taken and proved by its action alone; use `when` to leave it out"),
                );
            }
        }
        let base = file.source.name();
        let of = take.id.clone();
        let derived = |word: &str, phase, role, work, needs| Step {
            id: format!("{of}.{word}").into(),
            name: match word {
                "probe" => format!("The snapshot `{of}` exists and is whole"),
                "restore" => format!("Bring the snapshot `{of}` back"),
                _ => format!("Remove the snapshot `{of}`"),
            },
            phase,
            role,
            work,
            needs,
            changes: Vec::new(),
            irreversible: None,
            unless: None,
            ..take.clone()
        };
        let probe = Step {
            read_only: true,
            on_failure: match take.on_failure {
                OnFailure::Halt => OnFailure::Halt,
                _ => OnFailure::Block,
            },
            ..derived(
                "probe",
                Phase::Snapshot,
                Role::Probe { of: of.clone() },
                self.by_os(probe, base)?,
                vec![of.clone()],
            )
        };
        // The two below serve a snapshot that was taken; whether it was to be taken is settled by then.
        let restore = Step {
            on_failure: OnFailure::Halt,
            when: None,
            once: None,
            ..derived(
                "restore",
                Phase::Rollback,
                Role::Restore { of: of.clone() },
                self.by_os(restore, base)?,
                Vec::new(),
            )
        };
        let release = Step {
            on_failure: OnFailure::Block,
            when: None,
            once: None,
            ..derived(
                "release",
                Phase::Snapshot,
                Role::Release { of: of.clone() },
                self.by_os(release, base)?,
                Vec::new(),
            )
        };
        for step in [&probe, &restore, &release] {
            self.claim(&step.id, &written.span);
        }
        Some(SnapshotSteps { probe, restore, release })
    }

    /// What takes `step` back: the steps that its author wrote, else what its packaged action has for it.
    fn undo_of(&mut self, written: &written::Step, step: &Step, packaged: Option<&Packaged>) -> Vec<Step> {
        let role = Role::Undo { of: step.id.clone() };
        let name = if step.name.is_empty() { step.id.to_string() } else { step.name.clone() };
        if written.undo.is_empty() {
            let Some(by_os) = packaged.and_then(|packaged| packaged.file.undo.as_ref()) else { return Vec::new() };
            let base = packaged.map(|packaged| packaged.file.source.name().to_owned()).unwrap_or_default();
            let Some(work) = self.by_os(by_os, &base) else { return Vec::new() };
            let id = StepId::from(format!("{}.undo", step.id));
            self.claim(&id, &written.span);
            return vec![Step {
                id,
                name: format!("Take back: {name}"),
                phase: Phase::Rollback,
                role,
                work,
                needs: Vec::new(),
                when: None,
                once: None,
                stdin: None,
                expect: Expect::default(),
                unless: None,
                changes: Vec::new(),
                irreversible: None,
                read_only: false,
                on_failure: OnFailure::Halt,
                ..step.clone()
            }];
        }
        let several = written.undo.len() > 1;
        let mut undo = Vec::new();
        for (place, written) in written.undo.iter().enumerate() {
            let id = match several {
                true => StepId::from(format!("{}.undo-{}", step.id, place + 1)),
                false => StepId::from(format!("{}.undo", step.id)),
            };
            self.claim(&id, &written.span);
            let mut packaged = match &written.action {
                written::Action::Uses { name, with } => {
                    match self.packaged(name, written.when.as_ref(), with, Phase::Rollback, step.item.as_ref()) {
                        Some(packaged) => Some(packaged),
                        None => continue,
                    }
                }
                _ => None,
            };
            let Some(taking_back) = self.around(written, Phase::Rollback, step.item.clone(), packaged.as_mut()) else {
                continue;
            };
            let name = match &written.name {
                Some(_) => taking_back.name.clone(),
                None => format!("Take back: {name}"),
            };
            let taking_back = Step { id, name, role: role.clone(), ..taking_back };
            self.check_systems(&taking_back, written);
            undo.push(taking_back);
        }
        undo
    }

    /// Reports hosts on whose systems the step has nothing to do.
    fn check_systems(&mut self, step: &Step, written: &written::Step) {
        let Work::ByOs { .. } = &step.work else { return };
        let lacking: Vec<String> = match &step.on {
            Place::Controller => return,
            Place::Named(host) => [&**host]
                .into_iter()
                .filter(|host| invariants::action_on(&step.work, &host.os).is_none())
                .map(|host| format!("{} ({})", host.name, host.os))
                .collect(),
            Place::Host => self
                .hosts
                .iter()
                .filter(|seen| invariants::action_on(&step.work, &seen.host.os).is_none())
                .map(|seen| format!("{} ({})", seen.host.name, seen.host.os))
                .collect(),
        };
        let Some(first) = lacking.first() else { return };
        let others = match lacking.len() {
            1 => String::new(),
            more => format!(" and {} more", more - 1),
        };
        let name = step.uses.clone().unwrap_or_default();
        let span = match &written.action {
            written::Action::Uses { name, .. } => &name.span,
            _ => &written.span,
        };
        let message = format!("the action `{name}` cannot be done on {first}{others}: it has no form for that system");
        self.report(
            Diagnostic::error(Code::NoVariant, span, message)
                .help("select only hosts of systems that it knows, or use another action there"),
        );
    }

    fn place(&mut self, on: &written::On) -> Place {
        match on {
            written::On::Host => Place::Host,
            written::On::Controller => Place::Controller,
            written::On::Named(name) => match self.request.inventory.hosts.get(&name.value.as_str().into()) {
                Some(found) => Place::Named(Box::new(found.host.clone())),
                None => {
                    let message = format!("the inventory has no host `{}`", name.value);
                    self.report(Diagnostic::error(Code::UnknownHost, &name.span, message));
                    Place::Host
                }
            },
        }
    }

    /// What people read instead of the id. Its templates are filled where that gives one name for all hosts.
    fn name(&mut self, written: &written::Step, item: Option<&Value>) -> String {
        let (text, span) = match (&written.name, &written.action) {
            (Some(name), _) => (name.value.clone(), Some(&name.span)),
            (None, written::Action::Uses { name, .. }) => (name.value.clone(), None),
            (None, action) => (made_name(action), None),
        };
        let mut name = text.clone();
        if text.contains("{{") && self.heads_are_sound {
            match self.rendered(Template(text.clone()), item) {
                Ok(Some(rendered)) => name = rendered,
                Ok(None) => {}
                // A name made from a command fails with the command.
                Err(failures) => {
                    for failure in failures.into_iter().filter(|failure| !failure.message.contains("steps.")) {
                        if let Some(span) = span {
                            self.report_failure(span, failure);
                        }
                    }
                }
            }
        }
        if let (Some(item), false) = (item, text.contains("item")) {
            match item {
                Value::String(item) => name = format!("{name} ({item})"),
                Value::Number(_) | Value::Bool(_) => name = format!("{name} ({item})"),
                _ => {}
            }
        }
        name
    }

    /// A plain text of the runbook's names, when it is the same for every host and known now.
    fn rendered(&self, text: Template, item: Option<&Value>) -> Result<Option<String>, Vec<render::Failure>> {
        let step = asking(text, item);
        let cells = render::cells(self.frame, &step, &self.hosts, self.request.evaluate)?;
        Ok(match cells.variants.as_slice() {
            [only] if only.rendered.unknown.is_empty() => match &only.rendered.action {
                RenderedAction::Confirm { text } => Some(text.clone()),
                _ => None,
            },
            _ => None,
        })
    }
}

/// A step that does nothing but hold a text.
pub(super) fn asking(text: Template, item: Option<&Value>) -> Step {
    Step {
        id: "text".into(),
        name: String::new(),
        phase: Phase::Execute,
        role: Role::Plain,
        work: Work::Any(Action::Confirm { text }),
        needs: Vec::new(),
        when: None,
        on: Place::Host,
        once: None,
        account: None,
        cwd: None,
        env: BTreeMap::new(),
        stdin: None,
        timeout_ms: TIMEOUT_MS,
        retry: Retry::none(),
        expect: Expect::default(),
        unless: None,
        idempotent: false,
        read_only: true,
        changes: Vec::new(),
        irreversible: None,
        on_failure: OnFailure::Halt,
        sensitive: false,
        with: None,
        uses: None,
        item: item.cloned(),
        output_bytes_max: OUTPUT_BYTES_MAX,
    }
}

/// A comparison that the engine makes by itself.
pub(super) fn comparing(id: &str, name: &str, phase: Phase, role: Role) -> Step {
    Step {
        id: id.into(),
        name: name.to_owned(),
        phase,
        role,
        work: Work::Any(Action::Compare),
        ..asking(Template(String::new()), None)
    }
}

fn default_on_failure(phase: Phase) -> OnFailure {
    match phase {
        Phase::Prechecks | Phase::Snapshot => OnFailure::Block,
        Phase::Execute | Phase::Verify => OnFailure::Rollback,
        Phase::Rollback => OnFailure::Halt,
        Phase::Finally => OnFailure::Continue,
    }
}

/// How long an action takes by what it says itself.
fn lasts_ms(action: &Action) -> Option<u64> {
    match action {
        Action::Reboot { timeout_ms, settle_ms } => Some(timeout_ms + settle_ms),
        Action::Wait { ms } => Some(*ms),
        Action::WaitUntil { for_ms, .. } => Some(*for_ms),
        _ => None,
    }
}

/// The name of a step without one: what it does.
fn made_name(action: &written::Action) -> String {
    let text = match action {
        written::Action::Run(written::Command::Shell { text, .. }) => {
            text.value.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
        }
        written::Action::Run(written::Command::Argv(argv)) => {
            argv.iter().map(Text::as_str).collect::<Vec<_>>().join(" ")
        }
        written::Action::Script { file, .. } => format!("script {}", file.value),
        written::Action::Upload { from, to, .. } => format!("upload {} to {}", from.value, to.value),
        written::Action::Download { from, .. } => format!("download {}", from.value),
        written::Action::Uses { name, .. } => name.value.clone(),
        written::Action::Reboot { .. } => "reboot".into(),
        written::Action::Wait { ms } => format!("wait {}", runbook_model::units::format_duration_ms(*ms)),
        written::Action::WaitUntil { until, .. } => format!("wait until {}", until.value.trim()),
        written::Action::Confirm { text } => format!("confirm: {}", text.value.trim()),
    };
    let text = text.replace(['\r', '\n'], " ");
    match text.chars().count() {
        0..=NAME_CHARS_MAX => text,
        _ => text.chars().take(NAME_CHARS_MAX - 1).chain(['…']).collect(),
    }
}
