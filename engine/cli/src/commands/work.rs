//! `apply`, `resume`, `cancel`, `rollback`, `resolve`: what works on runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use runbook_driver::{Control, DriverError, Engine, Permits, RunRequest, RunResult, RunState};
use runbook_model::event::{Controller, Person, Revision};
use runbook_model::plan::{Plan, RollbackVerify, SecretRef};
use runbook_model::rehearsal::STAGING;
use runbook_model::{RunId, RunOutcome};
use runbook_policy::{Act, Granted, Refusal};
use runbook_ports::store::{RunIndex, RunStatus};
use runbook_ports::{Observer, Store as _};
use runbook_report::style::Tone;
use runbook_report::summary::{self, Circumstances};
use runbook_report::text::list;
use runbook_report::{RunView, brief, json, rehearsal};
use runbook_store::SqliteStore;

use crate::arguments::{Apply, Cancel, Ending, Rehearse, Resolve, Resume, Rollback, Settled, Sources};
use crate::authority::{Allowed, Asked};
use crate::commands::show;
use crate::control::{self, Want};
use crate::failure::{FAULT, Failure, REFUSED};
use crate::live::{Live, Mode};
use crate::notifications::{Postman, Telling};
use crate::output::{self, Output, note};
use crate::project::Project;
use crate::shrink;
use crate::signals;
use crate::standing::Standing;
use crate::wiring::{self, Parts};
use crate::{
    anchors, authority, changes, head, keys, machine, monitoring, notices, notifications, person, record, revision,
    sources, unfinished, waiting,
};

/// `apply`.
pub(crate) async fn apply(project: &Project, arguments: &Apply, output: Output) -> Result<u8, Failure> {
    let source = Source::read(project, arguments, output)?;
    begin(project, source, arguments, false, output).await
}

/// `rehearse`.
pub(crate) async fn rehearse(project: &Project, arguments: &Rehearse, output: Output) -> Result<u8, Failure> {
    let source = Source::of_rehearsal(project, arguments, output)?;
    let arguments = Apply {
        file: arguments.file.clone(),
        sources: Sources::default(),
        ticket: arguments.ticket.clone(),
        yes: arguments.yes,
        check: false,
        wait: arguments.wait,
        at_window: arguments.at_window,
        reason: arguments.reason.clone(),
        break_glass: None,
        occurrence: None,
        ending: arguments.ending,
    };
    begin(project, source, &arguments, true, output).await
}

/// Begins a run.
async fn begin(
    project: &Project,
    source: Source,
    arguments: &Apply,
    rehearses: bool,
    output: Output,
) -> Result<u8, Failure> {
    let plan = &source.plan;
    refuse_unanswerable(plan, arguments.check, output)?;
    if !(arguments.ending.json || arguments.ending.json_lines) || output.person {
        let columns = output::terminal_size().map_or(80, |(columns, _)| columns);
        note(brief::lines(plan, arguments.check, columns, output.error_palette).join("\n"));
    }
    let desk = Desk::open(project, output, arguments.ending, Some(source.folder.clone())).await?;
    monitoring::settle(project, &desk.store, |_| false).await;
    if !arguments.check {
        unfinished::refuse(&desk.store, plan).await?;
    }
    let act = if arguments.check { Act::Check } else { Act::Apply };
    let asked = Asked {
        ticket: arguments.ticket.as_deref(),
        break_glass: arguments.break_glass.as_deref(),
        occurrence: arguments.occurrence.as_ref(),
        reason: arguments.reason.as_deref(),
        rehearses,
        ..Asked::new(act, plan)
    };
    let mut allowed = desk.allowed_or_later(asked, arguments.at_window).await?;
    if output.person && !arguments.yes {
        let hosts = runbook_report::text::count(plan.hosts.len(), "host");
        let question = match (arguments.check, rehearses) {
            (true, _) => format!("\nCheck {hosts}?"),
            (false, true) => format!("\nRehearse this, and its way back, on {hosts}?"),
            (false, false) => format!("\nApply this to {hosts}?"),
        };
        if person::ask(&question) != Some(true) {
            return Err(Failure::new("RB0614", REFUSED, "you did not say yes, so nothing was begun"));
        }
    }
    if let Err(refusal) = allowed {
        allowed = Ok(waiting::for_its_window(&desk, asked, refusal).await?);
        // A run may have been left in the middle of a step meanwhile.
        unfinished::refuse(&desk.store, plan).await?;
    }
    let Ok(Allowed { granted, standing }) = allowed else { unreachable!("it was waited for") };
    let mut request =
        desk.request(granted, arguments.ticket.clone(), arguments.check, source.folder.clone(), arguments.wait)?;
    request.revision = source.revision;
    request.occurrence = arguments.occurrence.clone();
    request.inventory_sources = project.answers.keep(&desk.store).await?;
    let plan = source.plan;
    let stage = desk.stage(&plan, &request.run)?;
    let monitors = monitoring::of(project, &plan).await;
    let engine = Engine { permits: permits(standing), monitors, ..desk.engine(&stage, &plan) };
    let result = engine.apply(plan, request, &stage.control).await;
    if let Some(names) = source.inventory
        && stage.live.view().header.is_some()
    {
        shrink::remember(project, &names);
    }
    desk.told(stage, result).await
}

/// A plan ready to be run.
struct Source {
    plan: Plan,
    /// What its files' paths are relative to.
    folder: PathBuf,
    /// The names in the inventory that it was made with, unless it was saved.
    inventory: Option<BTreeSet<String>>,
    /// Where the runbook's file stands under version control. Of a saved plan nobody knows where it stood.
    revision: Option<Revision>,
}

impl Source {
    fn read(project: &Project, arguments: &Apply, output: Output) -> Result<Self, Failure> {
        let path = &arguments.file;
        if sources::is_saved_plan(path)? {
            if !arguments.sources.parameters.is_empty() || arguments.sources.limit.is_some() {
                return Err(Failure::usage("RB0617", "a saved plan is frozen: it takes no -p and no --limit")
                    .next("plan again with other parameters or hosts, and apply that plan"));
            }
            let plan = sources::saved_plan(path)?;
            let folder = sources::folder_of_files(project, path, &plan)?;
            return Ok(Self { plan, folder, inventory: None, revision: None });
        }
        let planned = sources::plan(project, path, &arguments.sources, output.error_palette)?;
        let folder = sources::folder(path)?;
        let revision = revision::of(path, project.root.as_ref().unwrap_or(&folder));
        Ok(Self { plan: planned.plan, folder, inventory: Some(planned.inventory), revision })
    }
}

impl Source {
    /// For the hosts on which it is rehearsed.
    fn of_rehearsal(project: &Project, arguments: &Rehearse, output: Output) -> Result<Self, Failure> {
        let path = &arguments.file;
        if sources::is_saved_plan(path)? {
            return Err(Failure::usage("RB0617", "a saved plan is for its own hosts: it cannot be rehearsed")
                .next("rehearse the runbook that it was made of; what counts is the same plan, hosts aside"));
        }
        let palette = output.error_palette;
        let on = sources::selector("--on", arguments.on.as_deref(), palette)?;
        let mut sources = arguments.sources.clone();
        if on.is_none() && sources.limit.is_none() {
            sources.limit = Some(STAGING.to_owned());
        }
        let planned = sources::plan_on(project, path, on, &sources, palette)?;
        let why = if planned.plan.irreversible.is_some() {
            Some("the runbook says that it cannot be taken back".to_owned())
        } else if let Some(step) = planned.plan.steps.iter().find(|step| step.irreversible.is_some()) {
            Some(format!("its step {} cannot be taken back", step.id))
        } else if planned.plan.rollback.verify == RollbackVerify::None {
            Some("its rollback has `verify: none`, so nothing would prove that it was taken back".to_owned())
        } else {
            None
        };
        if let Some(why) = why {
            let text = format!("{} cannot be rehearsed: {why}", planned.plan.runbook.name);
            return Err(Failure::new("RB0731", REFUSED, text).next(
                "give it a way back that is verified, or a rule of policy.yaml that asks for no rehearsal of it",
            ));
        }
        let folder = sources::folder(path)?;
        let revision = revision::of(path, project.root.as_ref().unwrap_or(&folder));
        Ok(Self { plan: planned.plan, folder, inventory: Some(planned.inventory), revision })
    }
}

/// A plan with `confirm` steps needs somebody who can be asked.
fn refuse_unanswerable(plan: &Plan, check_only: bool, output: Output) -> Result<(), Failure> {
    let asks = brief::confirmations(plan);
    if output.person || asks.is_empty() || check_only {
        return Ok(());
    }
    let names: Vec<&str> = asks.iter().map(|step| step.id.as_str()).collect();
    Err(Failure::usage("RB0613", format!("{} asks a person, and there is no terminal here", list(&names, 5)))
        .next("run it on a terminal; confirmation over the web comes with a later version"))
}

/// `resume`.
pub(crate) async fn resume(project: &Project, arguments: &Resume, output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    take_up(
        project,
        output,
        arguments.ending,
        store,
        &index,
        Ways { wait: arguments.wait, cancel: false, break_glass: arguments.break_glass.as_deref() },
    )
    .await
}

/// How a run is taken up.
#[derive(Clone, Copy)]
struct Ways<'a> {
    wait: bool,
    /// To take it back.
    cancel: bool,
    break_glass: Option<&'a str>,
}

/// Goes on with a run.
async fn take_up(
    project: &Project,
    output: Output,
    ending: Ending,
    store: SqliteStore,
    index: &RunIndex,
    ways: Ways<'_>,
) -> Result<u8, Failure> {
    let Ways { wait, cancel, break_glass } = ways;
    let run = index.header.run.clone();
    let plan = record::plan(&store, &index.header).await?;
    refuse_unanswerable(&plan, index.header.check_only || cancel, output)?;
    store.close().await;
    let desk = Desk::open(project, output, ending, None).await?;
    // What it left muted itself stays so, when it goes on.
    let goes_on = |other: &RunIndex| other.header.run == run && other.status != RunStatus::Ended;
    monitoring::settle(project, &desk.store, goes_on).await;
    let act = if cancel { Act::Cancel } else { Act::Resume };
    let since = Timestamp::from_millisecond(i64::try_from(index.header.started_ms).unwrap_or(0)).ok();
    let clock_max_offset_ms = index.header.clock_max_offset_ms;
    // What was approved, was so for these times.
    let approved = match index.header.approvals.is_empty() || index.header.break_glass.is_some() {
        true => None,
        false => Some(record::permit(&desk.store, &index.header).await?),
    };
    let approved = approved.as_ref();
    let asked = Asked { break_glass, since, approved, run: Some(&run), clock_max_offset_ms, ..Asked::new(act, &plan) };
    let Allowed { granted, standing } = desk.granted(asked).await?;
    let stage = desk.stage(&plan, &run)?;
    let mut earlier = Vec::new();
    record::read(&desk.store, &run, 0, |record| earlier.push(record)).await?;
    stage.live.earlier(&earlier);
    drop(earlier);
    if index.status == RunStatus::Running && desk.postman.is_some() {
        // Its program has not left it of its own accord, or it would not stand like this; or it lives, and that is refused.
        let holder = desk.store.holder(&run).await.map_err(|error| record::failed(&error))?;
        if !holder.is_some_and(|holder| holder.alive) {
            let told = desk.store.outbox().await.map_err(|error| record::failed(&error))?;
            notifications::died(project, &desk.store, &stage.live.view(), &told).await;
        }
    }
    let (controller, permits) = (Some(controller()?), permits(standing));
    let monitors = monitoring::of(project, &plan).await;
    let engine = Engine { controller, permits, monitors, ..desk.engine(&stage, &plan) };
    if cancel {
        stage.control.cancel(desk.operator.clone());
    }
    let result = match wait {
        true => engine.resume_when_free(&run, desk.operator.clone(), &granted, &stage.control).await,
        false => engine.resume(&run, desk.operator.clone(), &granted, &stage.control).await,
    };
    desk.told(stage, result).await
}

/// `cancel`.
pub(crate) async fn cancel(project: &Project, arguments: &Cancel, output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    let run = index.header.run.clone();
    if index.status == RunStatus::Ended {
        let outcome = index.outcome.map_or("unknown", RunOutcome::name);
        return Err(refused(&DriverError::Ended { run, outcome }));
    }
    let holder = store.holder(&run).await.map_err(|error| record::failed(&error))?.filter(|holder| holder.alive);
    let Some(holder) = holder else {
        note("no program works on the run now; this one takes it up and takes it back");
        return take_up(
            project,
            output,
            arguments.ending,
            store,
            &index,
            Ways { wait: false, cancel: true, break_glass: None },
        )
        .await;
    };
    let mut following = control::follow(project, &run, holder.pid, Want::Records).await.ok();
    control::cancel(project, &run, holder.pid, &person::operator()).await.map_err(|error| {
        Failure::new("RB0618", FAULT, format!("the program that works on the run could not be reached: {error}"))
            .changed("the run goes on")
            .next("send it SIGTERM, which cancels too; `runbook show` tells what became of the run")
    })?;
    note("asked the program that works on the run to cancel; waiting for its end");
    while let Some(follow) = &mut following {
        if follow.next().await.is_none() {
            following = None;
        }
    }
    let index = record::find(&store, run.as_str()).await?;
    let view = record::view(&store, &index).await?;
    let evidence = project.state_shown();
    let circumstances = Circumstances { evidence: &evidence, ..Circumstances::default() };
    finish(&store, project, &view, circumstances, arguments.ending, output).await?;
    Ok(view.outcome.map_or(RunOutcome::Unknown.exit_code(), RunOutcome::exit_code))
}

/// `rollback`.
pub(crate) async fn rollback(project: &Project, arguments: &Rollback, output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    let finished = index.header.run.clone();
    let plan = record::plan(&store, &index.header).await?;
    if output.person && !arguments.yes {
        let view = record::view(&store, &index).await?;
        let outcome = view.outcome.map_or("open", RunOutcome::name);
        note(format!("{} of {}, {outcome}", view.plan.runbook.name, runbook_report::text::when(view.started_ms())));
        let hosts = runbook_report::text::count(plan.hosts.len(), "host");
        if person::ask(&format!("\nTake it back on {hosts}?")) != Some(true) {
            return Err(Failure::new("RB0614", REFUSED, "you did not say yes, so nothing was begun"));
        }
    }
    store.close().await;
    let desk = Desk::open(project, output, arguments.ending, None).await?;
    monitoring::settle(project, &desk.store, |_| false).await;
    unfinished::refuse(&desk.store, &plan).await?;
    let asked = Asked {
        ticket: arguments.ticket.as_deref(),
        break_glass: arguments.break_glass.as_deref(),
        reason: arguments.reason.as_deref(),
        takes_back: Some(&finished),
        ..Asked::new(Act::TakeBack, &plan)
    };
    let allowed = match desk.allowed_or_later(asked, arguments.at_window).await? {
        Ok(allowed) => allowed,
        Err(refusal) => waiting::for_its_window(&desk, asked, refusal).await?,
    };
    if arguments.at_window {
        unfinished::refuse(&desk.store, &plan).await?;
    }
    let Allowed { granted, standing } = allowed;
    let mut request = desk.request(granted, arguments.ticket.clone(), false, PathBuf::new(), arguments.wait)?;
    request.inventory_sources = project.answers.keep(&desk.store).await?;
    let stage = desk.stage(&plan, &request.run)?;
    let monitors = monitoring::of(project, &plan).await;
    let engine = Engine { permits: permits(standing), monitors, ..desk.engine(&stage, &plan) };
    let result = engine.roll_back(&finished, request, &stage.control).await;
    desk.told(stage, result).await
}

/// `resolve`.
pub(crate) async fn resolve(project: &Project, arguments: &Resolve, output: Output) -> Result<u8, Failure> {
    let store = record::open_recorded(project).await?;
    let index = record::find(&store, &arguments.run).await?;
    let view = record::view(&store, &index).await?;
    let host = show::host(&view, Some(&arguments.host))?.expect("a host was named");
    let step = show::step(&view, &arguments.step)?;
    if arguments.why.trim().is_empty() {
        return Err(Failure::usage("RB0617", "--why is empty; say how you know what became of the step"));
    }
    let run = index.header.run.clone();
    let plan = Arc::clone(&view.plan);
    store.close().await;
    let desk = Desk::open(project, output, arguments.ending, None).await?;
    monitoring::settle(project, &desk.store, |_| false).await;
    let stage = desk.stage(&plan, &run)?;
    let engine = desk.engine(&stage, &plan);
    let succeeded = arguments.outcome == Settled::Succeeded;
    let why = arguments.why.trim().to_owned();
    let result = engine.resolve(&run, host, step, succeeded, why, desk.operator.clone()).await;
    stage.live.finish();
    result.map_err(|error| refused(&error))?;
    desk.keep_head().await;
    changes::close_ended(project, &desk.store).await;
    let anchored = anchors::after_run(project, &desk.store).await;
    let index = record::find(&desk.store, run.as_str()).await?;
    let view = record::view(&desk.store, &index).await?;
    if let Some(postman) = &desk.postman {
        if view.state == runbook_report::view::RunState::Ended
            && let Some(news) = notifications::news::of_run(&view, None, Circumstances::default())
        {
            notifications::tell(project, &desk.store, &news).await;
        }
        postman.finish(project, &desk.store).await;
    }
    if arguments.ending.json {
        let mut attachments = record::attachments(&desk.store, project, &view).await?;
        record::digests(&desk.store, &view, &mut attachments).await?;
        output::json(&json::run(&view, &attachments, None))?;
    }
    let name = runbook_report::list::short(run.as_str());
    note(match view.state {
        runbook_report::view::RunState::Ended => format!("settled; the run has ended: `runbook show {name}`"),
        _ => format!("settled; `runbook resume {name}` goes on from there"),
    });
    anchors::tell(&anchored);
    Ok(0)
}

fn permits(standing: Option<Standing>) -> Option<Arc<dyn Permits>> {
    standing.map(|standing| Arc::new(standing) as _)
}

/// This program and this machine, for the record.
fn controller() -> Result<Controller, Failure> {
    let engine_sha256 = machine::engine_digest()
        .map_err(|error| crate::failure::fault(format!("the program's own file cannot be read: {error}")))?;
    Ok(Controller {
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        engine_sha256,
        name: machine::name(),
        boot_id: machine::boot_id(),
        clock: machine::clock_state(),
    })
}

/// What every command that works on a run has at hand.
pub(crate) struct Desk<'p> {
    pub(crate) project: &'p Project,
    pub(crate) output: Output,
    pub(crate) ending: Ending,
    pub(crate) store: SqliteStore,
    pub(crate) parts: Parts,
    pub(crate) operator: Person,
    pub(crate) secrets: Vec<PathBuf>,
    /// Tells people outside, when the project has any.
    pub(crate) postman: Option<Postman>,
}

/// What one run has around it while it is worked on.
pub(crate) struct Stage {
    pub(crate) live: Arc<Live>,
    pub(crate) control: Control,
    _server: control::Server,
    signals: signals::Watch,
}

struct CancelRun(Control);

impl control::Asked for CancelRun {
    fn cancel(&self, by: Person) {
        self.0.cancel(by);
    }
}

impl<'p> Desk<'p> {
    pub(crate) async fn open(
        project: &'p Project,
        output: Output,
        ending: Ending,
        runbook: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        project.make_state()?;
        // Before the store is made: without its key a project that has records is refused, and one that has none gets both.
        keys::present(project)?;
        let store = record::open(project).await?;
        let key = keys::open(project)?;
        head::must_hold(project, &store).await?;
        notices::settings(project, &store).await?;
        changes::close_ended(project, &store).await;
        let root = project.root.clone();
        let runbooks = root.as_ref().map(|root| root.join("runbooks"));
        let secrets = runbook.into_iter().chain(runbooks).chain(root).collect();
        let parts = wiring::parts(project, key);
        let postman = Postman::start(project);
        Ok(Self { project, output, ending, store, parts, operator: person::operator(), secrets, postman })
    }

    /// What the project's rules allow; that they are set aside is said aloud.
    async fn granted(&self, asked: Asked<'_>) -> Result<Allowed, Failure> {
        let palette = self.output.error_palette;
        let allowed = authority::granted(self.project, &self.store, asked, palette).await;
        if let (Err(_), Some(postman)) = (&allowed, &self.postman) {
            postman.finish(self.project, &self.store).await;
        }
        let allowed = allowed?;
        if let Some(why) = allowed.granted.break_glass() {
            let loud = palette.paint(Tone::Bad, "BREAK GLASS");
            let why = runbook_report::text::escape_line(why.as_bytes());
            note(format!("{loud}  windows, blackouts and freezes are set aside, on the record: {why}"));
        }
        Ok(allowed)
    }

    /// The same; with `later`, that the time alone is not right is no error.
    async fn allowed_or_later(&self, asked: Asked<'_>, later: bool) -> Result<Result<Allowed, Refusal>, Failure> {
        if !later {
            return Ok(Ok(self.granted(asked).await?));
        }
        match authority::decided(self.project, &self.store, asked, self.output.error_palette).await? {
            Err(refusal) if refusal.by_policy || refusal.next.is_none() => {
                Err(authority::refused(self.project, &self.store, asked, refusal).await?)
            }
            decided => Ok(decided),
        }
    }

    fn request(
        &self,
        granted: Granted,
        ticket: Option<String>,
        check_only: bool,
        files: PathBuf,
        wait: bool,
    ) -> Result<RunRequest, Failure> {
        let Controller { engine_version, engine_sha256, name, boot_id, clock } = controller()?;
        Ok(RunRequest {
            run: RunId::from(uuid::Uuid::now_v7().to_string()),
            operator: self.operator.clone(),
            ticket: ticket.filter(|ticket| !ticket.is_empty()),
            check_only,
            seed: u64::from_be_bytes(keys::random()?),
            engine_version,
            engine_sha256,
            controller: name,
            controller_boot_id: boot_id,
            clock,
            inventory_sha256: self
                .project
                .inventory()
                .and_then(|path| sources::digest(&path).ok())
                .map(|(sha256, _)| sha256),
            inventory_sources: Vec::new(),
            retention: Some(self.project.settings.retention),
            revision: None,
            settings_sha256: self.project.settings_sha256,
            occurrence: None,
            files,
            wait,
            granted,
        })
    }

    pub(crate) fn stage(&self, plan: &Plan, run: &RunId) -> Result<Stage, Failure> {
        // Records on the same terminal would tear the frame apart.
        let torn = self.ending.json_lines && self.output.terminal();
        let mode = if self.output.live && !torn { Mode::Terminal } else { Mode::Plain };
        let palette = self.output.error_palette;
        let plan = Arc::new(plan.clone());
        let clock = Arc::clone(&self.parts.clock);
        let live = Live::start(plan, mode, palette, self.ending.json_lines, clock);
        let control = Control::new();
        let server = control::serve(self.project, run, Arc::new(CancelRun(control.clone())), live.hub())?;
        let signals = signals::watch(control.clone(), Arc::clone(&live), self.operator.clone(), run.clone())?;
        Ok(Stage { live, control, _server: server, signals })
    }

    pub(crate) fn engine(&self, stage: &Stage, plan: &Plan) -> Engine {
        let confirmer = person::TerminalConfirmer {
            live: Arc::clone(&stage.live),
            person: self.output.person,
            who: self.operator.clone(),
            turn: tokio::sync::Mutex::new(()),
        };
        let folder = secrets_folder(plan, &self.secrets);
        let live = Arc::clone(&stage.live) as Arc<dyn Observer>;
        let observer = match &self.postman {
            Some(postman) => {
                Arc::new(Telling { inner: live, postman: postman.clone(), plan: Arc::new(plan.clone()) }) as _
            }
            None => live,
        };
        wiring::engine(&self.parts, &self.store, Arc::new(confirmer), observer, folder)
    }

    pub(crate) async fn keep_head(&self) {
        if let Ok(now) = self.store.head().await {
            head::keep(self.project, &now);
        }
    }

    /// Says what became of the run, and gives the exit code.
    async fn told(self, stage: Stage, result: Result<RunResult, DriverError>) -> Result<u8, Failure> {
        drop(stage.signals);
        stage.live.finish();
        let view = stage.live.view();
        self.keep_head().await;
        if matches!(result, Ok(_) | Err(DriverError::NotMuted { .. })) {
            monitoring::settled(self.project, &view);
        }
        let evidence = self.project.state_shown();
        let (unrecorded, detached, code) = match &result {
            Ok(done) => (None, done.state == RunState::Detached, done.exit_code()),
            Err(error) if view.header.is_some() && error.exit_code() == 9 => (Some(error.to_string()), false, 9),
            Err(error) => return Err(refused(error)),
        };
        let circumstances = Circumstances { unrecorded: unrecorded.as_deref(), detached, evidence: &evidence };
        if unrecorded.is_none() {
            changes::close_ended(self.project, &self.store).await;
        }
        let shown = rehearsal::exit_code(&view, code);
        if let Some(news) = notifications::news::of_run(&view, Some(shown), circumstances) {
            notifications::tell(self.project, &self.store, &news).await;
        }
        if let Some(postman) = &self.postman {
            postman.finish(self.project, &self.store).await;
        }
        let anchored = match unrecorded.is_none() && !detached {
            true => anchors::after_run(self.project, &self.store).await,
            false => Vec::new(),
        };
        let finished = finish(&self.store, self.project, &view, circumstances, self.ending, self.output).await;
        anchors::tell(&anchored);
        // A run whose evidence failed must not look better because its summary failed too.
        if unrecorded.is_none() {
            finished?;
        }
        Ok(shown)
    }
}

/// The first folder in which all of the plan's secret files are; else the first.
fn secrets_folder(plan: &Plan, folders: &[PathBuf]) -> PathBuf {
    let relative: Vec<&Path> = plan
        .secrets
        .values()
        .filter_map(|secret| match secret {
            SecretRef::File(path) => Some(Path::new(path)),
            _ => None,
        })
        .filter(|path| path.is_relative())
        .collect();
    let here = std::env::current_dir().unwrap_or_default();
    let all = || folders.iter().chain(std::iter::once(&here));
    all()
        .find(|folder| relative.iter().all(|path| folder.join(path).exists()))
        .or_else(|| all().next())
        .cloned()
        .unwrap_or(here.clone())
}

/// Prints the summary, and the document when one was asked for.
async fn finish(
    store: &SqliteStore,
    project: &Project,
    view: &RunView,
    circumstances: Circumstances<'_>,
    ending: Ending,
    output: Output,
) -> Result<(), Failure> {
    let mut attachments = record::attachments(store, project, view).await.unwrap_or_default();
    let columns = output::terminal_size().map_or(80, |(columns, _)| columns);
    note(summary::lines(view, &attachments, circumstances, columns, output.error_palette).join("\n"));
    if ending.json {
        record::digests(store, view, &mut attachments).await?;
        output::json(&json::run(view, &attachments, None))?;
    }
    Ok(())
}

/// An error of the driver, for people.
pub(crate) fn refused(error: &DriverError) -> Failure {
    let failure = Failure::new(error.code(), error.exit_code(), error.to_string()).next(error.next_step());
    match error {
        DriverError::Held { by, .. } if by.alive && machine::is_stopped(by.pid) => {
            let pid = by.pid;
            failure.detail(format!("process {pid} is stopped (SIGSTOP or Ctrl-Z) and may go on at any moment")).next(
                format!(
                    "continue it with `kill -CONT {pid}`, or end it with `kill -KILL {pid}` and `runbook resume {}`",
                    by.run
                ),
            )
        }
        DriverError::Evidence { run: Some(_), .. } | DriverError::TakenOver(_) => {
            failure.changed("what was under way on hosts goes on there and is found again by a resume")
        }
        DriverError::StandsStill { .. } | DriverError::NotReleased { .. } => failure.changed(""),
        _ => failure,
    }
}
