//! The loop: facts in, events to the store, commands out. Nothing is started before its event is durable.
//!
//! | while | happens |
//! | --- | --- |
//! | an append is in flight | answers gather; each is decided upon at once, its events wait |
//! | none is, and events wait | they are sealed and appended, all in one group |
//! | an append has returned | the observer sees the records, and the commands that were waiting for them start |
//! | an append has failed | nothing more is started; what runs attached is ended with its session, what is claimed goes on |

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use runbook_core::{Run, Status};
use runbook_model::command::{Subject, Timer};
use runbook_model::evaluate::{Kept, Rendered, RenderedAction};
use runbook_model::event::{AttemptReport, ClockState, Person, RunHeader};
use runbook_model::host::Host;
use runbook_model::input::Prepared;
use runbook_model::outcome::{Ended, Exit, KilledBy, Obstacle, ObstacleKind};
use runbook_model::plan::{Place, Step};
use runbook_model::record::Record;
use runbook_model::{
    AttemptId, Cell, Command, Event, HostName, HostOutcome, Input, RunOutcome, Sha256, StepId, canonical,
};
use runbook_ports::monitor::{MonitorError, Muted};
use runbook_ports::store::RunStatus;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

use crate::DriverError;
use crate::attempt::{self, Job, patiently};
use crate::closing;
use crate::journal::{Group, Journal, Stamped, index};
use crate::leftovers::Leftovers;
use crate::look::{check_unless, connect};
use crate::memory::Memory;
use crate::monitoring::{self, Quiet};
use crate::permits::{AHEAD_MS, Told};
use crate::prepare::{Desk, clipped};
use crate::world::{Answer, Finished, Message, Raw, Stop, World};

/// So many answers are decided upon before the loop looks at the store again.
const GATHER_MAX: usize = 4_096;

/// At the end of a run, so long is waited for what attempts left on hosts to be removed.
const CLEAR_LIMIT: Duration = Duration::from_secs(10);

/// So long is waited for what the machine's clock says of itself.
const CLOCK_LIMIT: Duration = Duration::from_secs(2);

/// So often a wait for a moment of the machine's clock looks at it: a machine may sleep meanwhile.
const CLOCK_LOOK_MS: u64 = 30_000;

/// How the loop ended.
pub(crate) enum End {
    Ended(RunOutcome),
    Suspended(RunOutcome),
    Detached,
    /// A system that must be muted could not be, so nothing was begun: why.
    NotMuted(String),
}

/// The loop's state.
pub(crate) struct Work {
    pub(crate) run: Run,
    pub(crate) header: Arc<RunHeader>,
    pub(crate) desk: Desk,
    pub(crate) memory: Memory,
    pub(crate) world: Arc<World>,
    steps: BTreeMap<StepId, Arc<Step>>,
    messages: UnboundedReceiver<Message>,
    journal: Option<Journal>,
    in_flight: Option<Flight>,
    /// What waits for the next append.
    pub(crate) group: Group,
    /// What waits for that append to be durable.
    start: BTreeSet<Command>,
    after: After,
    tasks: JoinSet<()>,
    under_way: BTreeMap<Command, AbortHandle>,
    clears: JoinSet<()>,
    stops: BTreeMap<AttemptId, Stop>,
    rendered: BTreeMap<Cell, Arc<Rendered>>,
    /// Attempts whose claims stay on the host until the host has ended, or until there are many.
    clear_late: BTreeMap<HostName, Vec<Left>>,
    /// Those whose claims must stay until the host has ended.
    clear_last: BTreeMap<HostName, Vec<Left>>,
    /// What the core was told is allowed.
    pub(crate) told: Told,
    /// What the core is told first of all, once monitoring is muted.
    first: Vec<Input>,
    quiet: Quiet,
}

/// What an attempt left on a host.
struct Left {
    attempt: AttemptId,
    /// Where it ran.
    place: Arc<Host>,
    /// Its outputs, which are kept there too.
    bytes: u64,
    /// Nobody knows how it ended: as long as its host may be tried again, it is asked after.
    unknown: bool,
}

/// So many claims of one host are removed at once: each time is a command on the host.
const LEFT_MAX: usize = 100;

/// Outputs longer than this are removed from the host at once.
const LEFT_BYTES_MAX: u64 = 64 * 1024;

/// What is done once a group is durable, beside the commands.
#[derive(Default)]
struct After {
    clear: Vec<(HostName, Left)>,
    hosts_ended: Vec<(HostName, HostOutcome)>,
    noted: Vec<oneshot::Sender<()>>,
}

/// A host that ended so is not tried again, and nothing more is asked of it.
/// Puts the state of the machine's clock into the record of the run's end. Who tells it may be a service that does not
/// answer; the end is not held up for that.
async fn told_by_the_clock(group: &mut Group, clock_state: Option<fn() -> ClockState>) {
    let ends = group.events.iter_mut().find_map(|stamped| match &mut stamped.event {
        Event::RunEnded { clock, .. } => Some(clock),
        _ => None,
    });
    if let (Some(clock), Some(clock_state)) = (ends, clock_state) {
        let asked = tokio::task::spawn_blocking(clock_state);
        *clock = tokio::time::timeout(CLOCK_LIMIT, asked).await.ok().and_then(Result::ok);
    }
}

fn is_closed(outcome: HostOutcome) -> bool {
    use HostOutcome::{Blocked, Cancelled, Failed, RolledBack, Stuck, Succeeded, Unknown};
    match outcome {
        Succeeded | Blocked | RolledBack | Cancelled => true,
        Failed | Stuck | Unknown => false,
    }
}

type Landed = (Journal, Result<Vec<Record>, DriverError>, BTreeSet<Command>, After);
type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

impl Work {
    #[expect(clippy::too_many_arguments, reason = "it is called in one place, with all that a run has")]
    pub(crate) fn new(
        run: Run,
        header: Arc<RunHeader>,
        desk: Desk,
        memory: Memory,
        world: Arc<World>,
        messages: UnboundedReceiver<Message>,
        journal: Journal,
        told: Told,
        quiet: Quiet,
    ) -> Self {
        Self {
            run,
            header,
            desk,
            memory,
            steps: world.plan.steps.iter().map(|step| (step.id.clone(), Arc::new(step.clone()))).collect(),
            world,
            messages,
            journal: Some(journal),
            in_flight: None,
            group: Group::default(),
            start: BTreeSet::new(),
            after: After::default(),
            tasks: JoinSet::new(),
            under_way: BTreeMap::new(),
            clears: JoinSet::new(),
            stops: BTreeMap::new(),
            rendered: BTreeMap::new(),
            clear_late: BTreeMap::new(),
            clear_last: BTreeMap::new(),
            told,
            first: Vec::new(),
            quiet,
        }
    }

    /// The group that is written first also says that the run is being worked on.
    pub(crate) fn opening(&mut self, opened: Option<Event>) {
        if let Some(event) = opened {
            self.push(event);
        }
        self.group.index = Some(index(&self.header, RunStatus::Running, None, None));
        self.group.sign = true;
    }

    /// What an earlier controller may not have removed is removed as if the attempts had ended now.
    pub(crate) fn left_before(&mut self, leftovers: Leftovers) {
        for left in leftovers.all() {
            if let Some(given) = left.access {
                self.world.access.before(&left.host, given);
            }
            if let Some(sessions) = left.sessions {
                self.world.sessions.histories.before(&left.host, sessions);
            }
            for (attempt, report) in left.attempts {
                if self.steps.get(&attempt.step).is_some_and(|step| !step.read_only) {
                    self.leave_claim(&attempt, &report);
                }
            }
            if let Some(outcome) = left.ended.filter(|outcome| is_closed(*outcome)) {
                self.after.hosts_ended.push((left.host, outcome));
            }
        }
    }

    /// The core is told so when it begins, in the order in which this is called.
    pub(crate) fn first(&mut self, input: Input) {
        self.first.push(input);
    }

    /// Takes a fact from outside the hosts.
    pub(crate) fn tell(&mut self, input: Input) {
        let now_ms = self.world.clock.now_ms();
        self.decide(now_ms, input);
    }

    /// Works until the run has ended, waits for an operator, or cannot be recorded any more.
    ///
    /// # Errors
    /// Nothing more was started from the moment of the error on.
    pub(crate) async fn drive(mut self) -> Result<End, DriverError> {
        let mut result = self.begin().await;
        if let Some(flight) = self.in_flight.take() {
            let (journal, ..) = flight.await;
            self.journal = Some(journal);
        }
        self.tasks.abort_all();
        while self.tasks.join_next().await.is_some() {}
        if result.is_ok() {
            let all = async { while self.clears.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(CLEAR_LIMIT, all).await;
        }
        self.clears.abort_all();
        self.world.sessions.close_all().await;
        if result.is_ok()
            && let Err(error) = self.unmute().await
        {
            result = Err(error);
        }
        if let Some(journal) = &self.journal {
            journal.release().await;
        }
        result
    }

    /// Mutes monitoring, and begins.
    async fn begin(&mut self) -> Result<End, DriverError> {
        let refused = self.mute().await?;
        if refused.is_some() {
            // It is open and must have an end.
            let by = Person { name: "runbook".into(), ..self.header.operator.clone() };
            self.tell(Input::CancelAsked { by });
        }
        for input in std::mem::take(&mut self.first) {
            self.tell(input);
        }
        let end = self.work().await?;
        Ok(refused.map_or(end, End::NotMuted))
    }

    /// Says why nothing may be begun, when nothing may. The run is open before anything is muted for it, and what is muted
    /// is on record before anything is begun.
    async fn mute(&mut self) -> Result<Option<String>, DriverError> {
        if self.quiet.is_empty() {
            return Ok(None);
        }
        self.write().await?;
        self.quiet.ask_all(&self.header, self.world.wall.now_ms());
        let mut refused = None;
        while let Some(answer) = self.quiet.answer().await {
            let why = self.muted(answer);
            refused = refused.or(why);
        }
        self.write().await?;
        Ok(refused)
    }

    /// Puts what a system answered on record.
    fn muted(&mut self, answer: (usize, Result<Muted, MonitorError>)) -> Option<String> {
        let (now_ms, mono_ms) = (self.world.wall.now_ms(), self.world.wall.mono_ms());
        let (recorded, refused) = self.quiet.take(answer, now_ms, mono_ms);
        monitoring::put(&mut self.group, recorded, now_ms, mono_ms);
        refused
    }

    /// Unmutes monitoring, on record.
    async fn unmute(&mut self) -> Result<(), DriverError> {
        // What was decided and not recorded is decided again by whoever takes a run up that was left.
        self.group = Group { sign: true, ..Group::default() };
        let recorded = self.quiet.end(&self.header.run, self.world.wall.now_ms()).await;
        if recorded.is_empty() {
            return Ok(());
        }
        let (now_ms, mono_ms) = (self.world.wall.now_ms(), self.world.wall.mono_ms());
        monitoring::put(&mut self.group, recorded, now_ms, mono_ms);
        self.write().await
    }

    /// Appends what waits, where nothing else is under way.
    async fn write(&mut self) -> Result<(), DriverError> {
        let group = std::mem::take(&mut self.group);
        let journal = self.journal.as_mut().expect("it is here while nothing is in flight");
        let records = journal.append(group).await?;
        self.world.leash.recorded();
        for record in &records {
            self.world.observer.committed(record);
        }
        Ok(())
    }

    async fn work(&mut self) -> Result<End, DriverError> {
        let mut messages = Vec::new();
        loop {
            if self.in_flight.is_none() {
                self.send_off();
            }
            if self.in_flight.is_none() {
                match self.run.status() {
                    Status::Ended(outcome) => return Ok(End::Ended(outcome)),
                    Status::Suspended(outcome) => return Ok(End::Suspended(outcome)),
                    Status::Running if self.under_way.is_empty() => {
                        let state = format!("outstanding: {:?}", self.run.outstanding());
                        return Err(DriverError::StandsStill { run: self.header.run.clone(), state });
                    }
                    Status::Running => {}
                }
            }
            let sign_in_ms = match (&self.journal, &self.in_flight) {
                (Some(journal), None) => journal.sign_due_in_ms(),
                _ => None,
            };
            let quiet_in_ms = self.quiet.due_in_ms(self.world.wall.mono_ms());
            let permits = self.world.permits.clone().filter(|_| self.run.heeds_permit());
            let stirred = async {
                match &permits {
                    Some(permits) => permits.stirred().await,
                    None => std::future::pending().await,
                }
            };
            let flight = async {
                match &mut self.in_flight {
                    Some(flight) => flight.await,
                    None => std::future::pending().await,
                }
            };
            let sign = async {
                match sign_in_ms {
                    Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                    None => std::future::pending().await,
                }
            };
            let lengthen = async {
                match quiet_in_ms {
                    Some(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
                    None => std::future::pending().await,
                }
            };
            let quiet = async {
                match self.quiet.answer().await {
                    Some(answer) => answer,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                landed = flight => {
                    self.in_flight = None;
                    self.landed(landed)?;
                }
                _ = self.messages.recv_many(&mut messages, GATHER_MAX) => {
                    self.heed_permit().await;
                    for message in messages.drain(..) {
                        if self.take(message)? {
                            return Ok(End::Detached);
                        }
                    }
                }
                () = sign => self.group.sign = true,
                answer = quiet => {
                    self.muted(answer);
                }
                () = lengthen => {
                    let (now_ms, mono_ms) = (self.world.wall.now_ms(), self.world.wall.mono_ms());
                    self.quiet.ask_due(&self.header, now_ms, mono_ms);
                }
                () = stirred => self.heed_permit().await,
            }
        }
    }

    /// Begins the next append, if anything waits for one; else what is to be started can start.
    fn send_off(&mut self) {
        let nothing = self.group.events.is_empty() && !self.group.sign && self.group.index.is_none();
        if nothing {
            for command in std::mem::take(&mut self.start) {
                self.launch(command);
            }
            return;
        }
        let now_ms = self.world.wall.now_ms();
        let closing = match self.run.status() {
            Status::Running => None,
            Status::Suspended(outcome) => Some(index(&self.header, RunStatus::Suspended, Some(outcome), None)),
            Status::Ended(outcome) => Some(index(&self.header, RunStatus::Ended, Some(outcome), Some(now_ms))),
        };
        let mut group = std::mem::take(&mut self.group);
        if let Some(closing) = closing {
            group.index = Some(closing);
            group.sign = true;
        }
        let start = std::mem::take(&mut self.start);
        let after = std::mem::take(&mut self.after);
        let mut journal = self.journal.take().expect("it is here while nothing is in flight");
        let clock_state = self.world.clock_state;
        self.in_flight = Some(Box::pin(async move {
            told_by_the_clock(&mut group, clock_state).await;
            let result = journal.append(group).await;
            (journal, result, start, after)
        }));
    }

    /// The group is durable, or it is over.
    fn landed(&mut self, (journal, result, start, after): Landed) -> Result<(), DriverError> {
        self.journal = Some(journal);
        let records = result?;
        self.world.leash.recorded();
        for record in &records {
            self.world.observer.committed(record);
        }
        for noted in after.noted {
            // Whoever waited may have given up.
            let _ = noted.send(());
        }
        for (host, left) in after.clear {
            // On this machine it costs no command, and files that lie there cost time.
            let now = left.bytes > LEFT_BYTES_MAX || left.place.transport == "local";
            let waiting = self.clear_late.entry(host.clone()).or_default();
            waiting.push(left);
            if now || waiting.len() >= LEFT_MAX {
                self.clear(&host, false);
            }
        }
        for (host, outcome) in after.hosts_ended {
            let mut last = self.clear_last.remove(&host).unwrap_or_default();
            last.retain(|left| !left.unknown || is_closed(outcome));
            self.clear_late.entry(host.clone()).or_default().extend(last);
            // What is there is removed when the session is closed.
            if !self.run.outstanding().contains(&Command::CloseSession { host: host.clone() }) {
                self.clear(&host, true);
            }
            self.world.known.lock().expect("no panic while held").remove(&host);
        }
        for command in start {
            if self.run.outstanding().contains(&command) {
                self.launch(command);
            }
        }
        Ok(())
    }

    /// True when somebody asked to detach.
    fn take(&mut self, message: Message) -> Result<bool, DriverError> {
        match message {
            Message::Fault(cause) => {
                return Err(DriverError::Evidence { cause, run: Some(self.header.run.clone()) });
            }
            Message::Note { input, durable } => {
                let before = self.group.events.len();
                self.tell(input);
                if self.group.events.len() > before {
                    self.after.noted.extend(durable);
                }
            }
            Message::TakenOver => return Err(DriverError::TakenOver(self.header.run.clone())),
            Message::Detach => return Ok(true),
            Message::Cancel(by) => self.tell(Input::CancelAsked { by }),
            Message::Answer { command, answer, blobs } => {
                self.under_way.remove(&command);
                // What was withdrawn meanwhile matters to nobody any more.
                if self.run.outstanding().contains(&command) {
                    self.group.blobs.extend(blobs);
                    let input = match (answer, &command) {
                        (Answer::Plain(input), _) => *input,
                        (
                            Answer::Attempt(finished),
                            Command::StartAttempt { attempt } | Command::ProbeAttempt { attempt, .. },
                        ) => self.judge(attempt, *finished),
                        (Answer::Attempt(_), _) => unreachable!("only attempts are answered so"),
                    };
                    self.tell(input);
                    // Asked anew in the same words, as when the clock was set back: that is no difference to the core.
                    if self.run.outstanding().contains(&command) {
                        self.start.insert(command);
                    }
                }
            }
        }
        Ok(false)
    }

    /// Lets the core decide, answers what it asks about texts at once, and notes what is to be started.
    fn decide(&mut self, now_ms: u64, input: Input) {
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            for event in self.run.input(now_ms, input) {
                self.push(event);
            }
            let delta = self.run.delta();
            for command in delta.withdrawn {
                self.start.remove(&command);
                let harmless = matches!(
                    command,
                    Command::Connect { .. }
                        | Command::CheckUnless { .. }
                        | Command::Measure { .. }
                        | Command::SetTimer { .. }
                );
                if harmless && let Some(task) = self.under_way.remove(&command) {
                    task.abort();
                }
            }
            let mut asked = Vec::new();
            for command in delta.started {
                match command {
                    Command::Prepare { cell } => asked.push(cell),
                    command => {
                        self.start.insert(command);
                    }
                }
            }
            // Last in, first out: the first that was asked is answered first.
            inputs.extend(
                asked
                    .into_iter()
                    .rev()
                    .map(|cell| Input::Prepared { result: Prepared::Refused { message: String::new() }, cell }),
            );
            if let Some(Input::Prepared { cell, result }) = inputs.last_mut() {
                // Answered now and not when it was asked: what came between may have changed what it sees.
                let (prepared, rendered) = self.desk.prepare(&self.run, &self.memory, cell);
                if let Some(rendered) = rendered {
                    let text = rendered.command_text().into_bytes();
                    self.group.blobs.push((Sha256::of(&text), text));
                    self.rendered.insert(cell.clone(), rendered);
                }
                *result = prepared;
            }
        }
    }

    fn push(&mut self, event: Event) {
        let now_ms = self.world.clock.now_ms();
        self.memory.observe(&event, now_ms);
        match &event {
            Event::AttemptEnded { attempt, report, .. } => {
                self.stops.remove(attempt);
                self.leave(attempt, report);
            }
            Event::StepEnded { cell, .. } => {
                self.rendered.remove(cell);
            }
            Event::HostEnded { host, outcome, .. } => self.after.hosts_ended.push((host.clone(), *outcome)),
            _ => {}
        }
        let (now_ms, mono_ms) = (self.world.wall.now_ms(), self.world.wall.mono_ms());
        self.group.events.push(Stamped { now_ms, mono_ms, event });
    }

    /// What an attempt left on its host is removed once its outcome is durable, unless somebody may have to ask again.
    fn leave(&mut self, attempt: &AttemptId, report: &AttemptReport) {
        let Some(rendered) = self.rendered.get(&attempt.cell()) else {
            return;
        };
        let step = &self.steps[&attempt.step];
        let claimed = !step.read_only
            && matches!(
                rendered.action,
                RenderedAction::Run { .. }
                    | RenderedAction::Argv(_)
                    | RenderedAction::Script { .. }
                    | RenderedAction::Reboot { .. }
            );
        if !claimed {
            return;
        }
        self.leave_claim(attempt, report);
    }

    fn leave_claim(&mut self, attempt: &AttemptId, report: &AttemptReport) {
        let place = self.world.place(&self.steps[&attempt.step], &attempt.host);
        let bytes = report.stdout.bytes + report.stderr.bytes;
        let unknown = matches!(report.ended, Ended::Unknown { .. });
        let left = Left { attempt: attempt.clone(), place, bytes, unknown };
        match report.ended {
            Ended::Exited { .. } | Ended::Killed { .. } => self.after.clear.push((attempt.host.clone(), left)),
            // The claim keeps a start that is still on its way from beginning.
            Ended::NotStarted { .. } | Ended::Unknown { .. } => {
                self.clear_last.entry(attempt.host.clone()).or_default().push(left);
            }
        }
    }

    /// Removes what this host's attempts left, in one go for each place where they ran; then, when the host has `ended`,
    /// its session is not needed any more.
    fn clear(&mut self, host: &HostName, ended: bool) {
        while self.clears.try_join_next().is_some() {}
        let left = self.take_left(host);
        if left.is_empty() {
            if ended {
                self.world.sessions.done_with(host);
            }
            return;
        }
        let (world, host) = (Arc::clone(&self.world), host.clone());
        self.clears.spawn(async move {
            for left in left {
                closing::clear(&world, &left).await;
            }
            if ended {
                world.sessions.done_with(&host);
            }
        });
    }

    /// What this host's attempts left and is to be removed by now, by the place where they ran.
    fn take_left(&mut self, host: &HostName) -> Vec<closing::Left> {
        let mut by_place: BTreeMap<HostName, closing::Left> = BTreeMap::new();
        for Left { attempt, place, .. } in self.clear_late.remove(host).unwrap_or_default() {
            let name = place.name.clone();
            let left = by_place.entry(name).or_insert_with(|| closing::Left { place, attempts: Vec::new() });
            left.attempts.push(attempt);
        }
        by_place.into_values().collect()
    }

    /// The report of an attempt, judged by its step's rules.
    fn judge(&mut self, attempt: &AttemptId, finished: Finished) -> Input {
        let Finished { raw, captured, transfers, undeclared, started_ms, ended_ms, duration_ms } = finished;
        let step = &*Arc::clone(&self.steps[&attempt.step]);
        let ended = match raw {
            Raw::Lost(reason) => return Input::AttemptLost { attempt: attempt.clone(), reason: clipped(reason) },
            Raw::Exited(exit) => {
                let (stdout, stderr) = (&captured.stdout, &captured.stderr);
                let unmet = self.desk.with_scope(&self.run, &self.memory, &attempt.host, Some(step), |scope| {
                    self.desk.evaluate.unmet(
                        scope,
                        step,
                        exit,
                        Kept { bytes: &stdout.seen, whole: stdout.whole },
                        Kept { bytes: &stderr.seen, whole: stderr.whole },
                    )
                });
                let class = (!unmet.is_empty()).then(|| self.desk.evaluate.class(&stdout.end, &stderr.end));
                Ended::Exited { exit, unmet: self.clipped(step, unmet), class }
            }
            Raw::Judged(unmet) => {
                let exit = Exit::Code(i32::from(!unmet.is_empty()));
                let class = (!unmet.is_empty()).then_some(runbook_model::plan::RetryClass::Exit);
                Ended::Exited { exit, unmet: self.clipped(step, unmet), class }
            }
            Raw::NotStarted(obstacle) => {
                Ended::NotStarted { obstacle: Obstacle { message: clipped(obstacle.message), ..obstacle } }
            }
            Raw::Killed(by) => Ended::Killed { by },
            Raw::Unknown(reason) => Ended::Unknown { reason: clipped(reason) },
        };
        let mut kept = |bytes: Vec<u8>| {
            let digest = Sha256::of(&bytes);
            self.group.blobs.push((digest, bytes));
            digest
        };
        let transfers = (!transfers.is_empty()).then(|| kept(canonical::bytes(&transfers)));
        let undeclared = (!undeclared.is_empty()).then(|| kept(canonical::bytes(&undeclared)));
        let timing = captured.timing.as_ref().map(|bytes| kept(bytes.clone()));
        let report = AttemptReport {
            ended,
            started_ms,
            ended_ms,
            duration_ms,
            stdout: captured.stdout.reference.clone(),
            stderr: captured.stderr.reference.clone(),
            last_line: matches!(step.role, runbook_model::plan::Role::Take)
                .then(|| captured.stdout.last_line())
                .flatten(),
            transfers,
            timing,
            undeclared,
        };
        self.memory.keep(attempt, &report, &captured);
        for small in [captured.stdout.small, captured.stderr.small].into_iter().flatten() {
            self.group.blobs.push(small);
        }
        Input::AttemptEnded { attempt: attempt.clone(), report: Box::new(report) }
    }

    /// Reasons quote outputs; those of a sensitive step stay out of the record.
    fn clipped(&self, step: &Step, unmet: Vec<String>) -> Vec<String> {
        let mask = self.world.vault.mask();
        let hidden = |text: String| match (step.sensitive, text.split_once(':')) {
            (true, Some((before, _))) => before.to_owned(),
            _ => mask.text(&text),
        };
        unmet.into_iter().take(16).map(hidden).map(clipped).collect()
    }

    fn launch(&mut self, command: Command) {
        while self.tasks.try_join_next().is_some() {}
        match &command {
            Command::Prepare { .. } => unreachable!("answered when it was asked"),
            Command::CancelAttempt { attempt } => {
                self.stops.entry(attempt.clone()).or_default().ask(KilledBy::Cancel);
            }
            Command::SetTimer { timer, at_ms } => {
                let (at_ms, timer) = (*at_ms, timer.clone());
                let (world, told_ms) = (Arc::clone(&self.world), self.told.ahead_ms());
                self.spawn(command, async move {
                    loop {
                        let left = at_ms.saturating_sub(world.clock.now_ms());
                        let by_the_clock = matches!(timer, Timer::CutOff { .. });
                        // It comes early when the clock was set: what is allowed is looked at before it is taken.
                        if left == 0 || by_the_clock && world.ahead_ms().abs_diff(told_ms) > AHEAD_MS {
                            break;
                        }
                        let most = if by_the_clock { CLOCK_LOOK_MS } else { left };
                        tokio::time::sleep(Duration::from_millis(left.min(most))).await;
                    }
                    (Answer::plain(Input::TimerFired { timer }), Vec::new())
                });
            }
            Command::Connect { host } => {
                let (world, name) = (Arc::clone(&self.world), host.clone());
                let host = Arc::new(self.world.plan.hosts[host].clone());
                self.spawn(command, async move {
                    let input = match connect(&world, &host).await {
                        Ok((facts, identity)) => Input::Connected { host: name, facts, identity: Box::new(identity) },
                        Err(obstacle) => Input::ConnectFailed { host: name, obstacle },
                    };
                    (Answer::plain(input), Vec::new())
                });
            }
            Command::CloseSession { host } => {
                let left = self.take_left(host);
                let (world, name) = (Arc::clone(&self.world), host.clone());
                let host = Arc::new(self.world.plan.hosts[host].clone());
                self.spawn(command, async move {
                    let closed = Box::new(closing::close(&world, &host, left).await);
                    (Answer::plain(Input::SessionClosed { host: name, closed }), Vec::new())
                });
            }
            Command::CloseElsewhere => {
                let world = Arc::clone(&self.world);
                self.spawn(command, async move {
                    let closed = closing::close_all(&world).await;
                    (Answer::plain(Input::ElsewhereClosed { closed }), Vec::new())
                });
            }
            Command::CheckUnless { cell } => {
                let (world, cell) = (Arc::clone(&self.world), cell.clone());
                let step = self.step(&cell);
                let rendered = self.at_hand(&cell);
                let place = world.place(&step, &cell.host);
                let deadline_ms = self.patience_ms(&cell.host);
                self.spawn(command, async move {
                    let done = match rendered {
                        Ok(rendered) => {
                            let look = || check_unless(&world, &cell, &step, &rendered);
                            patiently(&world, &place, &cell, deadline_ms, look).await
                        }
                        Err(message) => Err(Obstacle { kind: ObstacleKind::Local, message }),
                    };
                    (Answer::plain(Input::UnlessChecked { cell, done }), Vec::new())
                });
            }
            Command::Measure { host, subject } => self.launch_measure(host.clone(), subject.clone(), command.clone()),
            Command::StartAttempt { attempt } => self.launch_attempt(attempt.clone(), command.clone(), None),
            Command::ProbeAttempt { attempt, deadline_ms } => {
                self.launch_attempt(attempt.clone(), command.clone(), Some(*deadline_ms));
            }
        }
    }

    fn spawn(
        &mut self,
        command: Command,
        work: impl Future<Output = (Answer, Vec<(Sha256, Vec<u8>)>)> + Send + 'static,
    ) {
        let answers = self.world.answers.clone();
        let key = command.clone();
        let handle = self.tasks.spawn(async move {
            let (answer, blobs) = work.await;
            let _ = answers.send(Message::Answer { command, answer, blobs });
        });
        self.under_way.insert(key, handle);
    }

    fn step(&self, cell: &Cell) -> Arc<Step> {
        Arc::clone(&self.steps[&cell.step])
    }

    /// The cell's texts as they were prepared; after a crash they are rendered again and must be the same.
    fn at_hand(&mut self, cell: &Cell) -> Result<Arc<Rendered>, String> {
        if let Some(rendered) = self.rendered.get(cell) {
            return Ok(Arc::clone(rendered));
        }
        let (prepared, rendered) = self.desk.prepare(&self.run, &self.memory, cell);
        match (prepared, rendered, self.memory.intent(cell)) {
            (Prepared::Ready(intent), Some(rendered), Some(recorded)) if intent.command_sha256 == recorded => {
                self.rendered.insert(cell.clone(), Arc::clone(&rendered));
                Ok(rendered)
            }
            (Prepared::Refused { message }, ..) => Err(message),
            _ => Err("its texts come out differently now from what is on record".into()),
        }
    }

    /// Until when a look at a host that was changed waits for it; `None` for others: they are not waited for.
    fn patience_ms(&self, host: &HostName) -> Option<u64> {
        let budget_ms = self.world.plan.rollback.budget_ms;
        self.run.may_have_changed(host).then(|| self.world.clock.now_ms().saturating_add(budget_ms))
    }

    fn launch_measure(&mut self, host: HostName, subject: Subject, command: Command) {
        let (place, rendered) = match &subject {
            Subject::Before { step } | Subject::After { step } => {
                let cell = Cell { host: host.clone(), step: step.clone() };
                let step = self.step(&cell);
                (self.world.place(&step, &host), self.at_hand(&cell).map(Some))
            }
            _ => (Arc::new(self.world.plan.hosts[&host].clone()), Ok(None)),
        };
        let request = rendered
            .and_then(|rendered| self.desk.request(&self.run, &self.memory, &host, &subject, rendered.as_deref()));
        let before = match &subject {
            Subject::After { step } => self.run.measured(&host, &Subject::Before { step: step.clone() }),
            _ => None,
        };
        let world = Arc::clone(&self.world);
        let deadline_ms = self.patience_ms(&host);
        self.spawn(command, async move {
            let local = |message: String| Obstacle { kind: ObstacleKind::Local, message };
            let mut blobs = Vec::new();
            let measured = match request {
                Ok(request) => match &subject {
                    Subject::Before { step } | Subject::After { step } => {
                        let cell = Cell { host: host.clone(), step: step.clone() };
                        patiently(&world, &place, &cell, deadline_ms, || world.measure(&place, &request)).await
                    }
                    _ => world.measure(&place, &request).await,
                },
                Err(message) => Err(local(message)),
            };
            let kept = match measured {
                Ok(measured) => world.keep_manifest(&measured.manifest, before, &mut blobs).await.map_err(local),
                Err(obstacle) => Err(obstacle),
            };
            let (manifest, changes) = match kept {
                Ok((manifest, changes)) => (Ok(manifest), changes),
                Err(obstacle) => (Err(Obstacle { message: clipped(obstacle.message), ..obstacle }), None),
            };
            (Answer::plain(Input::Measured { host, subject, manifest, changes }), blobs)
        });
    }

    fn launch_attempt(&mut self, attempt: AttemptId, command: Command, probe_until_ms: Option<u64>) {
        let cell = attempt.cell();
        let step = self.step(&cell);
        let world = Arc::clone(&self.world);
        let known = self.memory.under_way(&attempt).cloned().unwrap_or_default();
        let started_ms = if known.started_ms == 0 { world.clock.now_ms() } else { known.started_ms };
        let rendered = match self.at_hand(&cell) {
            Ok(rendered) => rendered,
            Err(message) => {
                // Nothing was sent by this process; whether another one sent it, a probe would have to ask with texts
                // that are not at hand.
                let raw = match probe_until_ms {
                    None => Raw::NotStarted(Obstacle { kind: ObstacleKind::Local, message }),
                    Some(_) => Raw::Unknown(message),
                };
                let captured = crate::output::Captured::nothing();
                let ended_ms = world.clock.now_ms();
                let finished = Finished {
                    raw,
                    captured,
                    transfers: Vec::new(),
                    undeclared: Vec::new(),
                    started_ms,
                    ended_ms,
                    duration_ms: 0,
                };
                self.spawn(command, async move { (Answer::Attempt(Box::new(finished)), Vec::new()) });
                return;
            }
        };
        let comparison = matches!(rendered.action, RenderedAction::Compare)
            .then(|| self.desk.comparison(&self.run, &self.memory, &cell));
        let stop = self.stops.entry(attempt.clone()).or_default().clone();
        let host = world.place(&step, &attempt.host);
        let works_there = !matches!(rendered.action, RenderedAction::Wait { .. } | RenderedAction::Confirm { .. });
        if works_there && probe_until_ms.is_none() {
            world.sessions.histories.carried(&host.name);
        }
        let boot_id = known.boot_id.filter(|_| step.on == Place::Host);
        let mut job = Job { attempt, step, host, rendered, stop, started_ms, compare: None, boot_id };
        self.spawn(command, async move {
            if let Some(comparison) = comparison {
                job.compare = Some(world.compare(comparison).await);
            }
            let finished = match probe_until_ms {
                None => attempt::start(&world, &job).await,
                Some(deadline_ms) => attempt::probe(&world, &job, deadline_ms).await,
            };
            (Answer::Attempt(Box::new(finished)), Vec::new())
        });
    }
}
