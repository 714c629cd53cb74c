//! What the project's rules say to what is asked for. Every command that begins or continues work comes through here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use jiff::Timestamp;
use runbook_driver::SystemClock;
use runbook_lang::{Diagnostic, Inventory, Parsed, WindowsFile, parse_windows};
use runbook_model::people::People;
use runbook_model::permit::Permit;
use runbook_model::plan::{Plan, Tier};
use runbook_model::schedule::Occurrence;
use runbook_model::ticket::Seen;
use runbook_model::{HostName, HostOutcome, Notice, RunId, Sha256, canonical};
use runbook_policy::authorize::overdue;
use runbook_policy::calendar::{Closed, Cover, Misfit, State};
use runbook_policy::rules::{Judged, judge};
use runbook_policy::{Act, Ask, Calendar, Case, Granted, Policed, Refusal, Rules, authorize, estimate};
use runbook_ports::{BlobStore as _, Clock as _};
use runbook_report::Palette;
use runbook_store::SqliteStore;

use crate::failure::{Failure, REFUSED};
use crate::policy::{self, Policy};
use crate::problems::Tell;
use crate::project::Project;
use crate::sources::Digests;
use crate::standing::Standing;
use crate::{changes, machine, notices, notifications, person, problems, record, reviews, sources, tickets};

/// The file with the windows, in the project's folder.
pub(crate) const FILE: &str = "windows.yaml";
/// So many of the latest runs of a runbook tell how long its hosts take.
const EARLIER_RUNS: usize = 20;
/// Hosts of earlier runs that are enough: a run of thousands tells it alone, and its record takes long to read.
const EARLIER_HOSTS: usize = 1_000;

/// The project's windows, checked.
pub(crate) struct Windows {
    pub(crate) calendar: Calendar,
    file: WindowsFile,
    shown: String,
    pub(crate) sha256: Sha256,
}

/// The windows in the bytes of the file called `name`, with the calendar that they make.
///
/// # Errors
/// All that is wrong with them, rules and zones included.
pub(crate) fn windows(name: &str, bytes: &[u8]) -> Result<Parsed<(WindowsFile, Calendar)>, Vec<Diagnostic>> {
    let Parsed { value: file, warnings } = parse_windows(name, bytes)?;
    match Calendar::new(&file.windows) {
        Ok(calendar) => Ok(Parsed { value: (file, calendar), warnings }),
        Err(misfits) => {
            let at_its_place = |misfit: &Misfit| file.misfit(misfit.kind, &misfit.name, misfit.fault.to_string());
            Err(misfits.iter().map(at_its_place).collect())
        }
    }
}

impl Windows {
    /// `None` when the project has no `windows.yaml`.
    pub(crate) fn of(project: &Project, palette: Palette) -> Result<Option<Self>, Failure> {
        let Some((windows, warnings)) = Self::with_warnings(project, Tell::Shown(palette))? else { return Ok(None) };
        problems::show(&warnings, palette);
        Ok(Some(windows))
    }

    /// The same, with the warnings that are to be shown.
    pub(crate) fn with_warnings(project: &Project, tell: Tell) -> Result<Option<(Self, Vec<Diagnostic>)>, Failure> {
        let Some((path, bytes)) = sources::of_project(project, FILE)? else { return Ok(None) };
        let shown = sources::shown(&path);
        let parsed = windows(&shown, &bytes).map_err(|found| tell.failure(&found, &shown))?;
        let (file, calendar) = parsed.value;
        Ok(Some((Self { calendar, file, shown, sha256: Sha256::of(&bytes) }, parsed.warnings)))
    }

    /// The file with its digest; `None` without a project.
    pub(crate) fn file(project: &Project, windows: Option<&Self>) -> Option<(PathBuf, Option<Sha256>)> {
        Some((project.root.as_ref()?.join(FILE), windows.map(|windows| windows.sha256)))
    }

    /// What of them is for each host, for work of that tier.
    ///
    /// # Errors
    /// A selection that names what is not in the inventory, or no host: a window that is for nobody would let everybody
    /// begin at any time.
    pub(crate) fn covers<'h>(
        &self,
        inventory: &Inventory,
        tier: Tier,
        hosts: impl IntoIterator<Item = &'h HostName>,
        tell: Tell,
    ) -> Result<BTreeMap<HostName, Cover>, Failure> {
        let mut selected = BTreeMap::new();
        for (text, (_, selector)) in &self.file.selections {
            let hosts = selector.hosts(inventory).map_err(|found| tell.failure(&found, &self.shown))?;
            selected.insert(text.as_str(), hosts);
        }
        let cover = |host: &HostName| {
            self.calendar.cover(tier, |selection| selected.get(selection).is_some_and(|hosts| hosts.contains(host)))
        };
        Ok(hosts.into_iter().map(|host| (host.clone(), cover(host))).collect())
    }
}

/// Until when the project's window of that name is open now (Unix ms); else why it is not, for people. Freezes close it.
pub(crate) fn open_until(project: &Project, name: &str, now_ms: u64) -> Result<u64, String> {
    let windows = Windows::with_warnings(project, Tell::InALine);
    let windows = windows.map_err(|failure| format!("the windows cannot be made out: {}", failure.message))?;
    let Some((windows, _)) = windows else { return Err(format!("the project has no {FILE}, so no window `{name}`")) };
    if !windows.calendar.said().windows.contains_key(name) {
        return Err(format!("{} has no window `{name}`", windows.shown));
    }
    let now = i64::try_from(now_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let Some(now) = now else { return Err("the clock makes no sense".into()) };
    let cover = Cover { windows: BTreeSet::from([name.to_owned()]), ..Cover::default() };
    match windows.calendar.state(&cover, now) {
        State::Open { until } => Ok(u64::try_from(until.as_millisecond()).unwrap_or_default()),
        State::Free => Err(format!("the window `{name}` has no times")),
        State::Closed(Closed::Outside { next: Some(next) }) => {
            Err(format!("the window `{name}` is closed; it opens next at {}", next.start))
        }
        State::Closed(Closed::Outside { next: None }) => Err(format!("the window `{name}` is closed, for years")),
        State::Closed(Closed::Blackout { name, .. }) => Err(format!("it is closed by the blackout {name}")),
        State::Closed(Closed::Freeze { name, .. }) => Err(format!("everything is frozen by {name}")),
    }
}

/// What was allowed, and who says so while the run goes on.
pub(crate) struct Allowed {
    pub(crate) granted: Granted,
    /// `None`: it stays as it is to the end of the run.
    pub(crate) standing: Option<Standing>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) act: Act,
    pub(crate) plan: &'a Plan,
    pub(crate) ticket: Option<&'a str>,
    pub(crate) break_glass: Option<&'a str>,
    /// The finished run that is to be taken back.
    pub(crate) takes_back: Option<&'a RunId>,
    /// The occurrence of a schedule that it is the run of.
    pub(crate) occurrence: Option<&'a Occurrence>,
    /// When the run was opened that is gone on with.
    pub(crate) since: Option<Timestamp>,
    /// The times that its approvals were for, of a run that is gone on with.
    pub(crate) approved: Option<&'a Permit>,
    /// Why it is run.
    pub(crate) reason: Option<&'a str>,
    /// The run that is to be taken up again.
    pub(crate) run: Option<&'a RunId>,
    /// How far clocks may be off in it, as its opening says.
    pub(crate) clock_max_offset_ms: Option<u64>,
    /// It is a rehearsal.
    pub(crate) rehearses: bool,
}

impl<'a> Asked<'a> {
    /// Of `plan`, with nothing else said.
    pub(crate) fn new(act: Act, plan: &'a Plan) -> Self {
        Self {
            act,
            plan,
            ticket: None,
            break_glass: None,
            takes_back: None,
            occurrence: None,
            since: None,
            approved: None,
            reason: None,
            run: None,
            clock_max_offset_ms: None,
            rehearses: false,
        }
    }
}

/// The project's rules, and all that they are asked about.
struct Question<'a> {
    asked: Asked<'a>,
    ask: Ask,
    windows: Option<Windows>,
    policy: Option<Policy>,
    case: Case,
    found: Vec<policy::Found>,
    /// What the windows' part of the answer depends on.
    files: Digests,
}

impl<'a> Question<'a> {
    async fn of(
        project: &Project,
        store: Option<&SqliteStore>,
        asked: Asked<'a>,
        palette: Palette,
    ) -> Result<Self, Failure> {
        let Asked { act, plan, .. } = asked;
        // A way back must not wait for somebody to mend a file.
        let windows = if act == Act::Cancel { None } else { Windows::of(project, palette)? };
        // A run goes on with what was authorized when it was opened; who goes on with it is asked for.
        let names_operators = |policy: &Policy| policy.file.policy.rules.iter().any(|rule| rule.operator.is_some());
        let policy = match act {
            Act::Cancel => None,
            Act::Resume => Policy::of(project, palette)?.filter(names_operators),
            Act::Apply | Act::Check | Act::TakeBack => Policy::of(project, palette)?,
        };
        let mut ask = Ask {
            since: asked.since,
            estimate: estimate::of(plan, &[]),
            break_glass: asked.break_glass.map(|why| why.trim().to_owned()),
            reason: asked.reason.map(|why| why.trim().to_owned()).filter(|why| !why.is_empty()),
            clock_max_offset_ms: asked.clock_max_offset_ms,
            rehearses: asked.rehearses,
            ..Ask::new(act, Timestamp::now())
        };
        // Whatever the rules say by now.
        if let (Act::Apply, Some(store)) = (act, store) {
            ask.reviews = reviews::all(store).await?.into_iter().map(|owing| owing.run).collect();
        }
        let of_policy =
            |policy: &Policy| policy.file.policy.rules.iter().any(|rule| rule.clock_max_offset_ms.is_some());
        if asked.clock_max_offset_ms.is_some() || policy.as_ref().is_some_and(of_policy) {
            ask.clock = machine::clock_state();
        }
        let (mut case, mut found) = (Case::default(), Vec::new());
        let mut files: Digests = Windows::file(project, windows.as_ref()).into_iter().collect();
        if windows.is_none() && policy.is_none() {
            return Ok(Self { asked, ask, windows, policy, case, found, files });
        }
        let (inventory, warnings, read) = sources::inventory_with_files(project, Tell::Shown(palette))?;
        problems::show(&warnings, palette);
        if let Some(windows) = &windows {
            files.extend(read);
            ask.hosts = windows.covers(&inventory, plan.runbook.tier, plan.hosts.keys(), Tell::Shown(palette))?;
            if let Some(store) = store {
                ask.estimate = estimate::of(plan, &earlier(store, plan).await?);
            }
        }
        if let Some(policy) = &policy {
            if act != Act::Resume {
                found = policy::decisions(project, store).await?;
            }
            let registers = policy.file.policy.rules.iter().any(|rule| rule.tools.is_some());
            let rehearsal = policy.file.policy.rules.iter().any(|rule| rule.rehearsal.is_some());
            let tried = match store.filter(|_| rehearsal && act == Act::Apply && !asked.rehearses) {
                Some(store) => policy::tried(store, plan).await?,
                None => Vec::new(),
            };
            let change = policy.file.policy.rules.iter().any(|rule| !rule.change.is_none());
            let change = match (store, asked.ticket) {
                (Some(store), Some(ticket)) if act != Act::Check && act != Act::Resume && !ticket.is_empty() => {
                    match changes::seen(store, ticket, SystemClock::new().now_ms()).await? {
                        Some(seen) => Some(Ok(seen)),
                        None if change => Some(change_elsewhere(project, store, ticket).await?),
                        None => None,
                    }
                }
                _ => None,
            };
            // Read last: what is decided here was there at this moment.
            ask.now = Timestamp::now();
            case = Case {
                account: person::operator().name,
                ticket: asked.ticket.filter(|ticket| !ticket.is_empty()).map(str::to_owned),
                windows: windows.as_ref().map(|windows| windows.sha256),
                offered: found.iter().map(|one| one.offered.clone()).collect(),
                takes_back: asked.takes_back.cloned(),
                tried,
                change,
                engine: registers.then(machine::engine_digest).and_then(Result::ok),
                ..policy.case(&inventory, plan, act, palette)?
            };
        }
        Ok(Self { asked, ask, windows, policy, case, found, files })
    }

    /// Who says what is allowed while the run goes on. Where nothing is to be begun, or windows are set aside, nobody.
    fn standing(&self, project: &Project, store: &SqliteStore, granted: &Granted) -> Option<Standing> {
        let begins = matches!(self.asked.act, Act::Apply | Act::Resume);
        let follows = begins && self.ask.break_glass.is_none() && !self.files.is_empty();
        let estimate = self.windows.as_ref().map(|_| self.ask.estimate.clone());
        let since = self.ask.since.unwrap_or(self.ask.now);
        let approved = match self.asked.act {
            Act::Apply => (!granted.approvals().is_empty()).then(|| granted.permit().clone()),
            _ => self.asked.approved.cloned(),
        };
        let files = self.files.clone();
        follows.then(|| Standing::new(project, store, self.asked.plan, since, approved, files, estimate))
    }

    fn rules<'q>(&'q self, nobody: &'q People) -> Rules<'q> {
        let staff = |policy: &'q Policy| policy.staff.as_ref();
        Rules {
            calendar: self.windows.as_ref().map(|windows| (&windows.calendar, windows.sha256)),
            policy: self.policy.as_ref().map(|policy| Policed {
                policy: &policy.file.policy,
                sha256: Sha256::of(&policy.bytes),
                people: staff(policy).map_or(nobody, |staff| &staff.people),
                people_sha256: staff(policy).map(|staff| Sha256::of(&staff.bytes)),
                plan: self.asked.plan,
                case: &self.case,
            }),
        }
    }

    /// Keeps what the run's opening will name.
    async fn keep(&self, store: &SqliteStore, granted: &Granted) -> Result<(), Failure> {
        let Some(policy) = self.policy.as_ref().filter(|_| granted.policy().is_some()) else { return Ok(()) };
        let mut contents: Vec<&[u8]> = vec![&policy.bytes];
        contents.extend(policy.staff.as_ref().map(|staff| staff.bytes.as_slice()));
        for used in granted.approvals() {
            let found = self.found.iter().filter(|one| one.offered.document == used.document);
            contents.extend(found.flat_map(|one| [one.bytes.as_slice(), &one.armored]));
        }
        for content in contents {
            store.put(content).await.map_err(|error| record::failed(&error))?;
        }
        Ok(())
    }
}

/// The change that a ticket is of, as the system says that keeps it; its exact words are kept.
async fn change_elsewhere(
    project: &Project,
    store: &SqliteStore,
    ticket: &str,
) -> Result<Result<Seen, String>, Failure> {
    let Some(system) = tickets::system_of(project, ticket) else {
        return Ok(Err(format!(
            "nobody here knows the change {ticket}: it is no ticket of this project, and runbook.toml names no system for it"
        )));
    };
    let (change, said) = match tickets::read(project, system, ticket).await {
        Ok(read) => read,
        Err(why) => return Ok(Err(why)),
    };
    let answer = store.put(&said).await.map_err(|error| record::failed(&error))?;
    let at_ms = SystemClock::new().now_ms();
    Ok(Ok(Seen { system: system.name.clone(), change, answer: Some(answer), at_ms }))
}

/// What the policy says to it, rule by rule, `None`: there is no policy; and the overdue reviews that forbid it.
pub(crate) async fn judged(
    project: &Project,
    store: Option<&SqliteStore>,
    asked: Asked<'_>,
    palette: Palette,
) -> Result<(Option<Judged>, Vec<String>), Failure> {
    let question = Question::of(project, store, asked, palette).await?;
    let nobody = People::default();
    let judged = question.rules(&nobody).policy.map(|policed| judge(policed, &question.ask));
    Ok((judged, overdue(&question.ask)))
}

/// Decides whether it may be done now.
///
/// # Errors
/// RB0721 when the windows cannot be made out. That it may not be done is no error here.
pub(crate) async fn decided(
    project: &Project,
    store: &SqliteStore,
    asked: Asked<'_>,
    palette: Palette,
) -> Result<Result<Allowed, Refusal>, Failure> {
    if asked.break_glass.is_some_and(|why| why.trim().is_empty()) {
        return Err(Failure::usage("RB0617", "--break-glass is empty; say why it cannot wait"));
    }
    let question = Question::of(project, Some(store), asked, palette).await?;
    let nobody = People::default();
    match authorize(question.rules(&nobody), &question.ask) {
        Ok(granted) => {
            question.keep(store, &granted).await?;
            // The run's own records will say so too; here it is found without reading them all.
            if let (Act::Resume, Some(run), Some(why)) = (asked.act, asked.run, granted.break_glass()) {
                let (resumed_run, reason, by) = (run.clone(), why.to_owned(), person::operator());
                let notice = Notice::WindowsSetAside { resumed_run, reason, by };
                notices::append(project, store, vec![notice], Vec::new()).await?;
            }
            let granted = match asked.approved {
                Some(approved) => granted.within(approved),
                None => granted,
            };
            let standing = question.standing(project, store, &granted);
            Ok(Ok(Allowed { granted, standing }))
        }
        Err(refusal) => Ok(Err(refusal)),
    }
}

/// The same, where a refusal is an error. It is on the record before it is told.
///
/// # Errors
/// RB0720 or RB0722 with the reasons; RB0721 when the windows cannot be made out.
pub(crate) async fn granted(
    project: &Project,
    store: &SqliteStore,
    asked: Asked<'_>,
    palette: Palette,
) -> Result<Allowed, Failure> {
    match decided(project, store, asked, palette).await? {
        Ok(allowed) => Ok(allowed),
        Err(refusal) => Err(refused(project, store, asked, refusal).await?),
    }
}

/// Puts a refusal on the record, and says it.
pub(crate) async fn refused(
    project: &Project,
    store: &SqliteStore,
    asked: Asked<'_>,
    refusal: Refusal,
) -> Result<Failure, Failure> {
    let Asked { act, plan, .. } = asked;
    let act = match act {
        Act::TakeBack => "rollback",
        Act::Resume => "resume",
        Act::Apply | Act::Check | Act::Cancel => "apply",
    };
    let notice = Notice::RunRefused {
        runbook: plan.runbook.name.clone(),
        plan_sha256: plan.digest(),
        act: act.to_owned(),
        reasons: refusal.reasons.clone(),
        occurrence: asked.occurrence.cloned(),
        by: person::operator(),
    };
    let records = notices::append(project, store, vec![notice], Vec::new()).await?;
    let record = canonical::digest(&records.last());
    let at_ms = SystemClock::new().now_ms();
    let by = person::operator();
    let mut news = notifications::news::refused(plan, record, at_ms, &by, asked.ticket, &refusal.reasons);
    news.schedule = asked.occurrence.map(|occurrence| occurrence.schedule.clone());
    news.due_ms = asked.occurrence.map(|occurrence| occurrence.at_ms);
    notifications::tell(project, store, &news).await;
    let mut failure = match refusal.by_policy {
        _ if refusal.overdue => Failure::new("RB0735", REFUSED, "the review of an earlier run is overdue"),
        true => Failure::new("RB0722", REFUSED, "the project's policy does not allow it"),
        false => Failure::new("RB0720", REFUSED, "no host may be begun now"),
    };
    for reason in &refusal.reasons {
        failure = failure.detail(reason.clone());
    }
    if let Some(next) = refusal.next {
        failure = failure.next(format!("apply it at {next} or later; `runbook windows list` shows the openings"));
    }
    if refusal.overdue {
        return Ok(failure.next("`runbook reviews` lists what is due; nothing new begins before it was given"));
    }
    if refusal.by_policy && act == "resume" {
        return Ok(failure
            .next("somebody whom the policy names goes on with it; `runbook cancel RUN` takes it back, whoever asks"));
    }
    if refusal.by_policy {
        return Ok(
            failure.next("`runbook policy explain FILE` says rule by rule what is required, and what is missing")
        );
    }
    Ok(failure.next("if it cannot wait, `--break-glass WHY` sets windows aside; that stays on the record"))
}

/// How long each host took in the latest runs of the runbook that ended well, in milliseconds.
pub(crate) async fn earlier(store: &SqliteStore, plan: &Plan) -> Result<Vec<u64>, Failure> {
    let same = record::ended_well(store, &plan.runbook.name).await?;
    let mut taken = Vec::new();
    for index in same.iter().take(EARLIER_RUNS) {
        if taken.len() >= EARLIER_HOSTS {
            break;
        }
        let view = record::view(store, index).await?;
        taken.extend(view.hosts.values().filter_map(|host| match (host.started_ms, host.ended_ms, host.outcome) {
            (Some(start), Some(end), Some(HostOutcome::Succeeded)) => Some(end.saturating_sub(start)),
            _ => None,
        }));
    }
    Ok(taken)
}
