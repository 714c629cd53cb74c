//! The loop: look, do, wait for whatever comes first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runbook_model::schedule::Occurrence;
use runbook_model::{News, NewsKind, Notice, RunId, RunOutcome, Sha256};
use runbook_policy::schedule::{Due, Step};
use runbook_ports::Store as _;
use runbook_ports::store::{RunIndex, RunStatus, Settled};
use runbook_report::Palette;
use runbook_store::SqliteStore;
use sd_notify::NotifyState;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use super::child::{self, Ended};
use super::memory::Memory;
use super::news::Said;
use crate::failure::{Failure, fault};
use crate::project::Project;
use crate::schedule::Scheduled;
use crate::watch::Watch;
use crate::{head, keys, monitoring, notices, notifications, person, record, reviews};

/// The files that say what runs when.
const FILES: [&str; 3] = ["schedule.yaml", "windows.yaml", "runbook.toml"];
/// A clock that was set, or a machine that slept, is noticed within so long.
const LOOK: Duration = Duration::from_secs(60);
/// What could not be begun is tried again after so long, while it is not too late.
const AGAIN: SignedDuration = SignedDuration::from_secs(20);
/// News that somebody else told is sent after so long.
const NEWS: SignedDuration = SignedDuration::from_secs(60);
/// A review is told of so long before it is due.
const REMIND_MS: u64 = 24 * 3_600_000;
/// A run is taken up so often before somebody must look.
const RESUMES: u32 = 3;

/// What a process works on.
#[derive(Debug, Clone)]
enum Task {
    Apply(Occurrence),
    Resume(RunId),
}

/// The daemon.
pub(crate) struct Daemon<'p> {
    project: &'p Project,
    palette: Palette,
    as_json: bool,
    memory: Memory,
    scheduled: Option<Scheduled>,
    /// Why nothing new is begun.
    invalid: Option<String>,
    children: JoinSet<(Task, Ended)>,
    /// Occurrences with a process of ours.
    begun: BTreeSet<Occurrence>,
    /// Runs that a process of ours takes up, and how often that was tried.
    resumed: BTreeMap<RunId, u32>,
    resuming: BTreeSet<RunId>,
    /// Not before then, and why.
    again: BTreeMap<Occurrence, (Timestamp, String)>,
    told: BTreeSet<Occurrence>,
    /// Runs whose reviews people were told of, and as what.
    reminded: BTreeSet<(RunId, &'static str)>,
    /// What is told to people outside is sent beside everything else; it gives the moment at which more is due.
    sending: JoinSet<Result<Option<u64>, Failure>>,
    send_at: Option<Timestamp>,
    /// The worst code of what was run.
    worst: u8,
}

impl<'p> Daemon<'p> {
    /// One that has looked at nothing yet.
    pub(crate) fn new(project: &'p Project, palette: Palette, as_json: bool) -> Self {
        Self {
            project,
            palette,
            as_json,
            memory: Memory::of(project),
            scheduled: None,
            invalid: None,
            children: JoinSet::new(),
            begun: BTreeSet::new(),
            resumed: BTreeMap::new(),
            resuming: BTreeSet::new(),
            again: BTreeMap::new(),
            told: BTreeSet::new(),
            reminded: BTreeSet::new(),
            sending: JoinSet::new(),
            send_at: None,
            worst: 0,
        }
    }

    /// Begins to send what is told to people outside, unless that is under way.
    fn send(&mut self) {
        let is_due = self.send_at.is_none_or(|at| at <= Timestamp::now());
        if !self.sending.is_empty() || !is_due {
            return;
        }
        let root = self.project.root.clone();
        self.sending.spawn(async move {
            let project = Project::find(root.as_deref())?;
            // What a program that died has left muted is seen to by whoever is there all the time.
            let is_muted = !monitoring::maybe_muted(&project).is_empty();
            if notifications::targets(&project).is_empty() && !is_muted {
                return Ok(None);
            }
            let store = open(&project).await?;
            if is_muted {
                // What died is taken up by a process of ours, which mutes anew.
                let is_taken_up = |index: &RunIndex| index.status == RunStatus::Running;
                monitoring::settle(&project, &store, is_taken_up).await;
            }
            let sent = notifications::send_due(&project, &store).await;
            store.close().await;
            Ok(sent?.next_ms)
        });
    }

    /// It is looked again for news when more is due, and every minute in any case: runs tell some too.
    fn sent(&mut self, sent: Result<Option<u64>, Failure>) {
        let soon = Timestamp::now().saturating_add(NEWS).unwrap_or(Timestamp::MAX);
        self.send_at = Some(match sent {
            Ok(next_ms) => {
                let next = next_ms.and_then(|ms| Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok());
                next.map_or(soon, |next| next.clamp(Timestamp::now(), soon))
            }
            Err(failure) => {
                self.say(&Said::Failed { why: format!("news could not be sent: {}", failure.message) });
                soon
            }
        });
    }

    /// Runs what is due now, waits for it, and gives the worst code that it ended with.
    ///
    /// # Errors
    /// When the schedule does not read, or the record fails.
    pub(crate) async fn once(mut self) -> Result<u8, Failure> {
        self.read(true)?;
        self.look().await?;
        while let Some(ended) = self.children.join_next().await {
            let (task, ended) = ended.map_err(fault)?;
            self.ended(task, ended).await?;
        }
        self.send();
        while let Some(sent) = self.sending.join_next().await {
            self.sent(sent.map_err(fault)?);
        }
        Ok(self.worst)
    }

    /// Watches until it is told to end.
    ///
    /// # Errors
    /// When the schedule does not read at the beginning, or the record fails then. Later it says so and goes on.
    pub(crate) async fn watch(mut self) -> Result<u8, Failure> {
        let listen = |kind| signal(kind).map_err(|error| fault(format!("signals cannot be watched: {error}")));
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let mut hangup = listen(SignalKind::hangup())?;
        let root = self.project.folder()?;
        let watch = Watch::of(FILES.iter().map(|name| root.join(name)).collect());
        self.read(true)?;
        self.say(&Said::Ready { schedules: self.schedules(), next: self.next() });
        let _ = sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(&self.status())]);
        loop {
            if let Err(failure) = self.look().await {
                self.say(&Said::Failed { why: failure.message.clone() });
            }
            self.send();
            let _ = sd_notify::notify(&[NotifyState::Watchdog, NotifyState::Status(&self.status())]);
            tokio::select! {
                () = tokio::time::sleep(self.pause()) => {}
                () = watch.stirred() => {
                    // An editor writes a file in several steps.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    self.read(false)?;
                }
                _ = hangup.recv() => self.read(false)?,
                Some(ended) = self.children.join_next() => {
                    let (task, ended) = ended.map_err(fault)?;
                    if let Err(failure) = self.ended(task, ended).await {
                        self.say(&Said::Failed { why: failure.message.clone() });
                    }
                }
                Some(sent) = self.sending.join_next() => self.sent(sent.map_err(fault)?),
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
            }
        }
        let _ = sd_notify::notify(&[NotifyState::Stopping]);
        self.say(&Said::Stopped { running: self.children.len() });
        // They are of groups of their own, and go on.
        self.children.detach_all();
        Ok(0)
    }

    fn say(&self, said: &Said<'_>) {
        said.tell(self.as_json);
    }

    fn schedules(&self) -> usize {
        self.scheduled.as_ref().map_or(0, |scheduled| scheduled.timetable.names().count())
    }

    /// What is due next, for people.
    fn next(&self) -> Option<String> {
        let timetable = &self.scheduled.as_ref()?.timetable;
        let now = Timestamp::now();
        let next = timetable.names().filter_map(|name| timetable.next(name, now)).min_by_key(|due| due.at);
        next.map(|due| due.occurrence.to_string())
    }

    fn status(&self) -> String {
        match (&self.invalid, self.next()) {
            (Some(_), _) => "the schedule does not read; nothing new is begun".to_owned(),
            (None, Some(next)) => format!("{} running; next {next}", self.children.len()),
            (None, None) => format!("{} running; nothing is due", self.children.len()),
        }
    }

    /// Reads the schedule anew when it is another file than before. Of one that does not read nobody can know what is
    /// wanted, so nothing new is begun by an older one.
    fn read(&mut self, first: bool) -> Result<(), Failure> {
        let before = self.scheduled.as_ref().map(|scheduled| (scheduled.sha256, of_windows(scheduled)));
        let read =
            Project::find(self.project.root.as_deref()).and_then(|project| Scheduled::of(&project, self.palette));
        match read {
            Ok(Some(scheduled)) => {
                let changed = before != Some((scheduled.sha256, of_windows(&scheduled))) || self.invalid.is_some();
                self.scheduled = Some(scheduled);
                self.invalid = None;
                if changed && !first {
                    self.say(&Said::Changed { schedules: self.schedules(), next: self.next() });
                }
                Ok(())
            }
            Ok(None) if first => {
                Err(Failure::usage("RB0745", "the project has no `schedule.yaml`: nothing runs by itself")
                    .next("write one: docs/language/schedule.md has an example"))
            }
            Err(failure) if first => Err(failure),
            read => {
                let why = match read {
                    Err(failure) => failure.message,
                    Ok(_) => "schedule.yaml is not there any more".to_owned(),
                };
                self.scheduled = None;
                if self.invalid.as_ref() != Some(&why) {
                    self.say(&Said::Invalid { why: why.clone() });
                }
                self.invalid = Some(why);
                Ok(())
            }
        }
    }

    /// Until when to wait at most.
    fn pause(&self) -> Duration {
        let now = Timestamp::now();
        let next = self.scheduled.as_ref().and_then(|scheduled| scheduled.timetable.next_moment(now));
        let again = self.again.values().map(|(at, _)| *at);
        let send = self.send_at.filter(|_| self.sending.is_empty());
        let next = soonest(now, again.chain(next).chain(send));
        let until = next.and_then(|next| Duration::try_from(now.duration_until(next)).ok());
        let longest = sd_notify::watchdog_enabled().map_or(LOOK, |every| LOOK.min(every / 2));
        until.map_or(longest, |until| until.min(longest)).max(Duration::from_millis(20))
    }

    /// Does all that there is to do now.
    async fn look(&mut self) -> Result<(), Failure> {
        let store = open(self.project).await?;
        let looked = self.look_with(&store).await;
        store.close().await;
        looked
    }

    async fn look_with(&mut self, store: &SqliteStore) -> Result<(), Failure> {
        self.take_up_the_dead(store).await?;
        self.remind(store).await?;
        let Some(scheduled) = &self.scheduled else { return Ok(()) };
        let now = Timestamp::now();
        if self.memory.meet(&scheduled.file.schedules, now) {
            self.say(&Said::ClockSetBack);
        }
        let since = self.memory.since();
        let settled = settled(store, &since).await?;
        let steps = scheduled.timetable.look(&since, &settled.keys().cloned().collect(), now);
        let upcoming = scheduled.timetable.upcoming(now);
        self.again.retain(|occurrence, _| !settled.contains_key(occurrence));
        for due in upcoming {
            if self.told.insert(due.occurrence.clone()) {
                self.say(&Said::Upcoming { occurrence: &due.occurrence });
                let news = self.news(NewsKind::Upcoming, &due.occurrence, now);
                notifications::tell(self.project, store, &news).await;
                self.send_at = None;
            }
        }
        let mut open: BTreeMap<String, Timestamp> = BTreeMap::new();
        for step in steps {
            let (schedule, at) = (step.due().occurrence.schedule.clone(), step.due().at);
            let is_settled = match step {
                Step::Fire(due) => {
                    self.fire(&due, now);
                    false
                }
                Step::Miss(due) => self.miss(store, &due).await?,
            };
            if !is_settled {
                let first = open.entry(schedule).or_insert(at);
                *first = at.min(*first);
            }
        }
        self.memory.looked(now, &open);
        self.memory.keep()
    }

    fn fire(&mut self, due: &Due, now: Timestamp) {
        let occurrence = &due.occurrence;
        if self.begun.contains(occurrence) || self.again.get(occurrence).is_some_and(|(at, _)| *at > now) {
            return;
        }
        let schedule = self.scheduled.as_ref().and_then(|said| said.file.schedules.schedules.get(&occurrence.schedule));
        let Some(schedule) = schedule else { return };
        match child::apply(self.project, occurrence, schedule) {
            Ok((child, log)) => {
                let late_ms = u64::try_from(due.at.duration_until(now).as_millis()).unwrap_or(0);
                let process = child.id().unwrap_or(0);
                self.say(&Said::Fired { occurrence, process, late_ms, log: crate::sources::shown(&log) });
                self.begun.insert(occurrence.clone());
                self.follow(Task::Apply(occurrence.clone()), child, log);
            }
            Err(failure) => self.try_again(occurrence, due.until, failure.message),
        }
    }

    fn follow(&mut self, task: Task, mut child: Child, log: PathBuf) {
        self.children.spawn(async move {
            let ended = match child.wait().await {
                Ok(status) => child::ended(status, &log),
                Err(error) => Ended { code: None, said: error.to_string() },
            };
            (task, ended)
        });
    }

    fn try_again(&mut self, occurrence: &Occurrence, until: Timestamp, why: String) {
        let at = Timestamp::now().saturating_add(AGAIN).unwrap_or(Timestamp::MAX);
        if self.again.get(occurrence).is_none_or(|(_, before)| *before != why) {
            self.say(&Said::Waiting { occurrence, why: &why, until: until.to_string() });
        }
        self.again.insert(occurrence.clone(), (at, why));
        // With `--once` nobody of this process tries it again.
        self.worst = worse(self.worst, crate::failure::REFUSED);
    }

    /// Puts on record that an occurrence was not run. Says whether it is settled now.
    async fn miss(&mut self, store: &SqliteStore, due: &Due) -> Result<bool, Failure> {
        let occurrence = &due.occurrence;
        // Its process may still be at the beginning: what comes of that settles it.
        if self.begun.contains(occurrence) {
            return Ok(false);
        }
        let why = match self.again.get(occurrence) {
            Some((_, why)) => format!("it could not be begun until {}: {why}", due.until),
            None => "nothing watched the schedule while it was due".to_owned(),
        };
        self.put_missed(store, occurrence, why).await
    }

    async fn put_missed(&mut self, store: &SqliteStore, occurrence: &Occurrence, why: String) -> Result<bool, Failure> {
        let schedule = self.scheduled.as_ref().and_then(|said| said.file.schedules.schedules.get(&occurrence.schedule));
        let would_run = schedule.map(|schedule| schedule.run.clone()).unwrap_or_default();
        let notice = Notice::OccurrenceMissed {
            occurrence: occurrence.clone(),
            would_run,
            why: why.clone(),
            by: person::operator(),
        };
        match notices::append(self.project, store, vec![notice], Vec::new()).await {
            Ok(_) => {
                self.worst = worse(self.worst, crate::failure::REFUSED);
                self.say(&Said::Missed { occurrence, why: &why });
                let mut news = self.news(NewsKind::Missed, occurrence, Timestamp::now());
                news.lines.push(why);
                news.next.push("`runbook apply` runs it now, if that is still wanted and allowed".to_owned());
                notifications::tell(self.project, store, &news).await;
                self.send_at = None;
                Ok(true)
            }
            // Another daemon was faster.
            Err(failure) if failure.code == "RB0746" => Ok(true),
            Err(failure) => Err(failure),
        }
    }

    /// Tells of reviews that are owed: a day before they are due, and when they are overdue.
    async fn remind(&mut self, store: &SqliteStore) -> Result<(), Failure> {
        if self.project.settings.notify.is_empty() {
            return Ok(());
        }
        let now_ms = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
        for owing in reviews::all(store).await? {
            let standing = owing.standing();
            let soon = standing.state.at_ms().is_some_and(|at| at <= now_ms.saturating_add(REMIND_MS));
            if !soon || !self.reminded.insert((standing.run.clone(), standing.state.name())) {
                continue;
            }
            let once = format!("review/{}/{}", standing.run, standing.state.name());
            let mut news = News::new(NewsKind::ReviewDue, once, now_ms);
            news.runbook.clone_from(&standing.runbook);
            news.run = Some(standing.run.clone());
            news.due_ms = standing.state.at_ms();
            news.lines.push(format!("its review is {}", standing.told()));
            news.next.push("`runbook reviews` lists what is owed, `runbook review RUN` gives it".to_owned());
            notifications::tell(self.project, store, &news).await;
            self.send_at = None;
        }
        Ok(())
    }

    /// News of an occurrence of which there is no run.
    fn news(&self, kind: NewsKind, occurrence: &Occurrence, now: Timestamp) -> News {
        let at_ms = u64::try_from(now.as_millisecond()).unwrap_or(0);
        // The same name and time may be in another project too.
        let ledger = keys::open(self.project).map_or_else(|_| String::new(), |key| key.verifier.to_string());
        let mut news = News::new(kind, format!("{}/{occurrence}/{ledger}", kind.name()), at_ms);
        news.schedule = Some(occurrence.schedule.clone());
        news.due_ms = Some(occurrence.at_ms);
        let schedules = self.scheduled.as_ref().map(|said| &said.file.schedules.schedules);
        if let Some(schedule) = schedules.and_then(|all| all.get(&occurrence.schedule)) {
            news.title = schedule.title.clone().unwrap_or_default();
            news.ticket.clone_from(&schedule.ticket);
            let hosts = schedule.limit.as_ref().map_or_else(String::new, |limit| format!(" on {limit}"));
            news.lines.push(format!("it runs {}{hosts}", schedule.run));
        }
        news
    }

    /// A process has ended.
    async fn ended(&mut self, task: Task, ended: Ended) -> Result<(), Failure> {
        let code = ended.code.and_then(|code| u8::try_from(code).ok());
        let store = open(self.project).await?;
        let done = match task {
            Task::Apply(occurrence) => {
                self.begun.remove(&occurrence);
                self.applied(&store, &occurrence, code, ended.said).await
            }
            Task::Resume(run) => {
                self.resuming.remove(&run);
                self.taken_up(&store, &run, code, ended.said).await
            }
        };
        store.close().await;
        done
    }

    async fn applied(
        &mut self,
        store: &SqliteStore,
        occurrence: &Occurrence,
        code: Option<u8>,
        said: String,
    ) -> Result<(), Failure> {
        let all = store.settled(occurrence.at_ms).await.map_err(|error| record::failed(&error))?;
        let Some(settled) = all.into_iter().find(|settled| settled.occurrence == *occurrence) else {
            let due = self.scheduled.as_ref().and_then(|said| {
                let at = Timestamp::from_millisecond(i64::try_from(occurrence.at_ms).ok()?).ok()?;
                let just_before = at.checked_sub(SignedDuration::from_millis(1)).ok()?;
                said.timetable.between(&occurrence.schedule, just_before, at).pop()
            });
            // What is wrong with the files is not mended by trying again.
            if code == Some(crate::failure::USAGE) || due.is_none() {
                let why = format!("it could not be begun: {said}");
                return self.put_missed(store, occurrence, why).await.map(drop);
            }
            let until = due.map_or(Timestamp::now(), |due| due.until);
            let why = if said.is_empty() { "its process was ended before the run was opened".to_owned() } else { said };
            self.try_again(occurrence, until, why);
            return Ok(());
        };
        if settled.run.is_installation() {
            self.worst = worse(self.worst, crate::failure::REFUSED);
            match code {
                Some(crate::failure::REFUSED) => self.say(&Said::Refused { occurrence, why: &said }),
                _ => self.say(&Said::Elsewhere { occurrence }),
            }
            return Ok(());
        }
        // A host may say anything: what counts is that the process was refused, and its last error.
        if code == Some(crate::failure::REFUSED) && said.starts_with("error[RB0746]") {
            self.say(&Said::Elsewhere { occurrence });
            return Ok(());
        }
        self.worst = worse(self.worst, code.unwrap_or(RunOutcome::Unknown.exit_code()));
        let outcome = outcome(store, &settled.run).await?;
        self.say(&Said::Ended { occurrence, run: &settled.run, outcome: &outcome });
        Ok(())
    }

    /// Runs of schedules that no process works on, though they have not ended: after a crash of the machine, say.
    async fn take_up_the_dead(&mut self, store: &SqliteStore) -> Result<(), Failure> {
        let runs = store.runs().await.map_err(|error| record::failed(&error))?;
        for index in runs.into_iter().filter(|index| index.status == RunStatus::Running) {
            let run = index.header.run.clone();
            let Some(occurrence) = index.header.occurrence else { continue };
            let tried = self.resumed.get(&run).copied().unwrap_or(0);
            if self.begun.contains(&occurrence) || self.resuming.contains(&run) || tried >= RESUMES {
                continue;
            }
            let holder = store.holder(&run).await.map_err(|error| record::failed(&error))?;
            if holder.is_some_and(|holder| holder.alive) {
                continue;
            }
            self.resumed.insert(run.clone(), tried + 1);
            let (child, log) = child::resume(self.project, &run, &occurrence.schedule)?;
            self.say(&Said::Resumed { run: &run, process: child.id().unwrap_or(0), attempt: tried + 1 });
            self.resuming.insert(run.clone());
            self.follow(Task::Resume(run), child, log);
        }
        Ok(())
    }

    async fn taken_up(
        &mut self,
        store: &SqliteStore,
        run: &RunId,
        code: Option<u8>,
        said: String,
    ) -> Result<(), Failure> {
        self.worst = worse(self.worst, code.unwrap_or(RunOutcome::Unknown.exit_code()));
        let index = record::find(store, run.as_str()).await?;
        if index.status != RunStatus::Running {
            let outcome = outcome(store, run).await?;
            if let Some(occurrence) = &index.header.occurrence {
                self.say(&Said::Ended { occurrence, run, outcome: &outcome });
            }
            self.resumed.remove(run);
            return Ok(());
        }
        let holder = store.holder(run).await.map_err(|error| record::failed(&error))?;
        let elsewhere = holder.is_some_and(|holder| holder.alive);
        if !elsewhere && self.resumed.get(run).copied().unwrap_or(0) >= RESUMES {
            self.say(&Said::GivenUp { run, why: &said });
        }
        Ok(())
    }
}

/// The store, as every command that writes opens it.
async fn open(project: &Project) -> Result<SqliteStore, Failure> {
    project.make_state()?;
    keys::present(project)?;
    let store = record::open(project).await?;
    head::must_hold(project, &store).await?;
    Ok(store)
}

fn of_windows(scheduled: &Scheduled) -> Option<Sha256> {
    scheduled.windows.as_ref().map(|windows| windows.sha256)
}

/// What is settled of all that may be looked at.
async fn settled(
    store: &SqliteStore,
    since: &BTreeMap<String, Timestamp>,
) -> Result<BTreeMap<Occurrence, Settled>, Failure> {
    let first = since.values().min().map_or(0, |first| u64::try_from(first.as_millisecond()).unwrap_or(0));
    let settled = store.settled(first).await.map_err(|error| record::failed(&error))?;
    Ok(settled.into_iter().map(|settled| (settled.occurrence.clone(), settled)).collect())
}

/// How a run stands, for people.
async fn outcome(store: &SqliteStore, run: &RunId) -> Result<String, Failure> {
    let index = record::find(store, run.as_str()).await?;
    let outcome = index.outcome.map_or("unknown", RunOutcome::name);
    Ok(match index.status {
        RunStatus::Ended => outcome.to_owned(),
        RunStatus::Suspended => format!("{outcome}, AND WAITS FOR AN OPERATOR"),
        RunStatus::Running => "not ended".to_owned(),
    })
}

/// The first of these moments that is still to come: what is past was looked at, and must not hide what is next.
fn soonest(now: Timestamp, moments: impl Iterator<Item = Timestamp>) -> Option<Timestamp> {
    moments.filter(|moment| *moment > now).min()
}

/// The worse of two exit codes, in the order of `cli.md`.
fn worse(one: u8, other: u8) -> u8 {
    const ORDER: [u8; 10] = [9, 1, 7, 6, 4, 5, 8, 2, 3, 0];
    let place = |code: u8| ORDER.iter().position(|known| *known == code).unwrap_or(0);
    if place(one) <= place(other) { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_past_does_not_hide_what_is_next() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(soonest(at(10), [at(3), at(12), at(11), at(10)].into_iter()), Some(at(11)));
        assert_eq!(soonest(at(10), [at(3)].into_iter()), None);
    }

    #[test]
    fn the_worse_code_is_the_one_that_leaves_more_to_do() {
        assert_eq!(worse(0, 3), 3);
        assert_eq!(worse(5, 3), 5);
        assert_eq!(worse(9, 7), 9);
        assert_eq!(worse(0, 0), 0);
    }
}
