//! Removes snapshots after their run, on the record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use runbook_core::Status;
use runbook_model::event::{AttemptReport, Person};
use runbook_model::input::Prepared;
use runbook_model::outcome::{Ended, Exit, Obstacle};
use runbook_model::plan::{Phase, Role, Step};
use runbook_model::session::SessionClose;
use runbook_model::{AttemptId, AttemptOutcome, Cell, Event, HostName, Input, RunId, Sha256};
use runbook_ports::store::Fence;

use crate::DriverError;
use crate::attempt::{self, Job};
use crate::engine::{Engine, Told};
use crate::journal::{Group, Journal, Stamped};
use crate::prepare::{Desk, clipped};
use crate::world::{Finished, Message, Raw, Stop};

/// See [`Engine::release_snapshots`].
pub(crate) async fn release(
    engine: &Engine,
    run: &RunId,
    cells: Option<&[Cell]>,
    by: Person,
) -> Result<Vec<Cell>, DriverError> {
    let loaded = engine.load(run).await?;
    engine.check_parts(&loaded.plan)?;
    let hosts: BTreeSet<_> = match cells {
        Some(cells) => cells.iter().map(|cell| cell.host.clone()).collect(),
        None => loaded.plan.hosts.keys().cloned().collect(),
    };
    let hosts: Vec<_> = hosts.into_iter().collect();
    let fence = engine.lease_hosts(run, &by.name, &hosts, None).await?;
    let result = async {
        let told = engine.told(&loaded).await?;
        if !matches!(told.run.status(), Status::Ended(_)) {
            return Err(DriverError::NotEnded(run.clone()));
        }
        release_all(engine, told, fence, cells, by).await
    };
    let result = result.await;
    engine.release_lease(run, fence).await;
    result
}

async fn release_all(
    engine: &Engine,
    mut told: Told,
    fence: Fence,
    cells: Option<&[Cell]>,
    by: Person,
) -> Result<Vec<Cell>, DriverError> {
    let run = told.header.run.clone();
    let (gone, attempts) = earlier(engine, &run).await?;
    let mut journal = engine.journal(&run, fence, told.run_seq).await?;
    let (world, mut messages) = engine.world(Arc::clone(&told.plan), &told.header, fence, told.decided_ms);
    let desk = Desk::new(Arc::clone(&told.plan), Arc::clone(&engine.evaluate), &told.header);
    let (mut released, mut failed) = (Vec::new(), Vec::new());
    let plan = Arc::clone(&told.plan);
    for step in &plan.steps {
        let Role::Release { of } = &step.role else {
            continue;
        };
        for host in plan.hosts.keys() {
            let taken = Cell { host: host.clone(), step: of.clone() };
            let wanted = cells.is_none_or(|cells| cells.contains(&taken)) && !gone.contains(&taken);
            let Some(reference) = told.run.snapshot(&taken).filter(|_| wanted).map(str::to_owned) else {
                continue;
            };
            let cell = Cell { host: host.clone(), step: step.id.clone() };
            let number = attempts.get(&cell).copied().unwrap_or(0) + 1;
            let attempt = AttemptId { run: run.clone(), host: host.clone(), step: step.id.clone(), attempt: number };
            match world.access.announce(&plan.hosts[host]).await {
                Ok(Some(event)) => append(engine, &mut journal, vec![event], Vec::new()).await?,
                Ok(None) => {}
                Err(obstacle) => {
                    failed.push(format!("{taken}: {}", obstacle.message));
                    continue;
                }
            }
            let one = One { engine, world: &world, desk: &desk, step, attempt };
            match one.release(&mut told, &mut journal, &taken, &reference, &by).await? {
                Ok(()) => released.push(taken),
                Err(why) => failed.push(format!("{taken}: {why}")),
            }
            while let Ok(message) = messages.try_recv() {
                match message {
                    Message::Fault(cause) => return Err(DriverError::Evidence { cause, run: Some(run) }),
                    Message::Note { input: Input::AccessInstalled { host, installed }, .. } => {
                        let event = Event::AccessInstalled { host, installed };
                        append(engine, &mut journal, vec![event], Vec::new()).await?;
                    }
                    _ => {}
                }
            }
        }
    }
    let closed = crate::closing::close_all(&world).await;
    let left = |(host, close): &(HostName, SessionClose)| Some(format!("{host}: {}", close.access.as_ref()?.left()?));
    failed.extend(closed.iter().filter_map(left));
    let closed: Vec<Event> =
        closed.into_iter().map(|(host, closed)| Event::SessionClosed { host, closed: Box::new(closed) }).collect();
    if !closed.is_empty() {
        append(engine, &mut journal, closed, Vec::new()).await?;
    }
    world.sessions.close_all().await;
    if failed.is_empty() { Ok(released) } else { Err(DriverError::NotReleased { failed }) }
}

/// Snapshots already released, and how often each cell was attempted.
async fn earlier(engine: &Engine, run: &RunId) -> Result<(BTreeSet<Cell>, BTreeMap<Cell, u32>), DriverError> {
    let (mut gone, mut attempts) = (BTreeSet::new(), BTreeMap::new());
    let mut from = 0;
    loop {
        let page = engine.records(run, from, 1_000).await?;
        if page.is_empty() {
            return Ok((gone, attempts));
        }
        from += page.len() as u64;
        for record in page {
            match record.event {
                Event::SnapshotReleased { cell, .. } => {
                    gone.insert(cell);
                }
                Event::AttemptStarted { attempt, .. } => {
                    attempts.insert(attempt.cell(), attempt.attempt);
                }
                _ => {}
            }
        }
    }
}

struct One<'a> {
    engine: &'a Engine,
    world: &'a Arc<crate::world::World>,
    desk: &'a Desk,
    step: &'a Step,
    attempt: AttemptId,
}

impl One<'_> {
    /// Intent first, as for every attempt; the answer's inner error is why the snapshot is still there.
    async fn release(
        &self,
        told: &mut Told,
        journal: &mut Journal,
        taken: &Cell,
        reference: &str,
        by: &Person,
    ) -> Result<Result<(), String>, DriverError> {
        let (prepared, rendered) = self.desk.prepare(&told.run, &told.memory, &self.attempt.cell());
        let (intent, rendered) = match (prepared, rendered) {
            (Prepared::Ready(intent), Some(rendered)) => (intent, rendered),
            (Prepared::Skip { reason }, _) => return Ok(Err(reason)),
            (Prepared::Refused { message }, _) => return Ok(Err(message)),
            (Prepared::Ready(_), None) => unreachable!("what is ready was rendered"),
        };
        let text = rendered.command_text().into_bytes();
        let started = Event::AttemptStarted { attempt: self.attempt.clone(), phase: Phase::Snapshot, intent };
        append(self.engine, journal, vec![started], vec![(Sha256::of(&text), text)]).await?;
        let job = Job {
            attempt: self.attempt.clone(),
            step: Arc::new(self.step.clone()),
            host: self.world.place(self.step, &self.attempt.host),
            rendered,
            stop: Stop::default(),
            started_ms: self.world.clock.now_ms(),
            compare: None,
            boot_id: None,
        };
        let mut finished = attempt::start(self.world, &job).await;
        if let Raw::Lost(_) = finished.raw {
            finished = attempt::probe(self.world, &job, self.world.clock.now_ms() + 60_000).await;
        }
        let Finished { raw, captured, started_ms, ended_ms, duration_ms, .. } = finished;
        let (ended, outcome, why) = judged(raw);
        let report = AttemptReport {
            ended,
            started_ms,
            ended_ms,
            duration_ms,
            stdout: captured.stdout.reference,
            stderr: captured.stderr.reference,
            last_line: None,
            transfers: None,
            timing: None,
            undeclared: None,
        };
        let mut events = vec![Event::AttemptEnded { attempt: self.attempt.clone(), outcome, report: Box::new(report) }];
        if why.is_none() {
            let (cell, reference, by) = (taken.clone(), reference.to_owned(), by.clone());
            events.push(Event::SnapshotReleased { cell, reference, by });
        }
        let blobs = [captured.stdout.small, captured.stderr.small].into_iter().flatten().collect();
        append(self.engine, journal, events, blobs).await?;
        if outcome != AttemptOutcome::Unknown
            && !self.step.read_only
            && let Ok(lease) = self.world.sessions.get(&job.host).await
        {
            let _ = lease.clear(&self.attempt).await;
        }
        Ok(why.map_or(Ok(()), Err))
    }
}

async fn append(
    engine: &Engine,
    journal: &mut Journal,
    events: Vec<Event>,
    blobs: Vec<(Sha256, Vec<u8>)>,
) -> Result<(), DriverError> {
    let (now_ms, mono_ms) = (engine.clock.now_ms(), engine.clock.mono_ms());
    let events = events.into_iter().map(|event| Stamped { now_ms, mono_ms, event }).collect();
    let group = Group { events, blobs, index: None, sign: true };
    for record in journal.append(group).await? {
        engine.observer.committed(&record);
    }
    Ok(())
}

fn judged(raw: Raw) -> (Ended, AttemptOutcome, Option<String>) {
    match raw {
        Raw::Exited(exit @ Exit::Code(0)) => {
            (Ended::Exited { exit, unmet: Vec::new(), class: None }, AttemptOutcome::Succeeded, None)
        }
        Raw::Exited(exit) => {
            let why = format!("its release failed ({exit:?})");
            (Ended::Exited { exit, unmet: vec![why.clone()], class: None }, AttemptOutcome::Failed, Some(why))
        }
        Raw::Judged(unmet) => {
            let why = unmet.first().cloned();
            let outcome = if why.is_none() { AttemptOutcome::Succeeded } else { AttemptOutcome::Failed };
            let exit = Exit::Code(i32::from(why.is_some()));
            (Ended::Exited { exit, unmet, class: None }, outcome, why)
        }
        Raw::NotStarted(obstacle) => {
            let obstacle = Obstacle { message: clipped(obstacle.message), ..obstacle };
            let why = obstacle.message.clone();
            (Ended::NotStarted { obstacle }, AttemptOutcome::NotStarted, Some(why))
        }
        Raw::Killed(by) => (Ended::Killed { by }, AttemptOutcome::TimedOut, Some("its release took too long".into())),
        Raw::Unknown(reason) | Raw::Lost(reason) => {
            let reason = clipped(reason);
            (Ended::Unknown { reason: reason.clone() }, AttemptOutcome::Unknown, Some(reason))
        }
    }
}
