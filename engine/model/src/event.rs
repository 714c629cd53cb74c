//! What was decided or learned, as it is stored: the only account of a run.
//!
//! An event is one line of JSON of at most 64 KiB inside its record; whatever can be large is a blob that it names by
//! digest. Events of one run are totally ordered. A field is only ever added with a default; a changed meaning is a new
//! event.

use serde::{Deserialize, Serialize};

use crate::access::{Grant, Installed};
use crate::approval::Used;
use crate::command::{Subject, Timer};
use crate::digest::Sha256;
use crate::host::{Facts, PeerIdentity};
use crate::id::{AttemptId, Cell, HostName, RunId};
use crate::input::Intent;
use crate::monitoring::MonitoringAct;
use crate::notice::Notice;
use crate::outcome::{AttemptOutcome, Ended, HostOutcome, Obstacle, OutputRef, RunOutcome};
use crate::plan::Phase;
use crate::rehearsal::Rehearsed;
use crate::retention::Retention;
use crate::rules::Owed;
use crate::schedule::Occurrence;
use crate::session::SessionClose;
use crate::ticket::Seen;

/// An event of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// The run is open. Written by the driver before the core begins; its content is known to nobody else.
    RunOpened(Box<RunHeader>),
    /// The core has begun.
    RunStarted,
    /// A controller took the run up again.
    RunResumed {
        /// Who asked.
        by: Person,
        /// Digest of the blob with what it was allowed; `None`: nothing restricts it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permit: Option<Sha256>,
        /// Windows, blackouts and freezes were set aside, and why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        break_glass: Option<String>,
        /// The program that works on the run from here on; `None` in records of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        on: Option<Box<Controller>>,
    },
    /// What is allowed is another from here on: the windows were changed while the run goes on, or cannot be read any more.
    PermitChanged {
        /// Digest of the blob with what is allowed now; `None`: nothing restricts it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permit: Option<Sha256>,
        /// So far is the machine's clock, by which windows go, ahead of the time by which the run decides (ms): it was set, or
        /// the machine slept.
        #[serde(default, skip_serializing_if = "is_zero")]
        ahead_ms: i64,
    },
    /// Somebody asked to cancel.
    CancelAsked {
        /// Who.
        by: Person,
    },
    /// The finished run named in the header is being taken back.
    RollbackAsked {
        /// Who.
        by: Person,
    },
    /// A batch has begun: its hosts connect and run their prechecks.
    BatchStarted {
        /// Counted from 0.
        batch: usize,
    },
    /// All hosts of the batch have ended, or wait for their peers (rollback scope).
    BatchEnded {
        /// Counted from 0.
        batch: usize,
        /// When the next may begin (Unix ms), when there is one and the budget holds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        soak_until_ms: Option<u64>,
    },
    /// A timer that the core asked for has fired.
    TimerFired {
        /// Which.
        timer: Timer,
    },
    /// No further host is started.
    BudgetSpent {
        /// Hosts that count against it.
        spent: u32,
        /// What the plan allows.
        budget: u32,
    },
    /// The host is being connected to.
    HostStarted {
        /// The host.
        host: HostName,
        /// When it was begun (Unix ms), where the end of its window cuts it off.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        begun_ms: Option<u64>,
    },
    /// The host is not through, and its window ends so soon that only the way back still fits: what runs there is ended, and
    /// what was changed is taken back.
    HostCutOff {
        /// The host.
        host: HostName,
        /// Names of its windows; empty when only blackouts or freezes are for it.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        windows: Vec<String>,
        /// When its time ends (Unix ms).
        ends_ms: u64,
        /// Why, for people.
        reason: String,
    },
    /// The host is about to be given access: durable before anything is done there.
    AccessGranted {
        /// The host.
        host: HostName,
        /// What.
        grant: Box<Grant>,
    },
    /// The host has it.
    AccessInstalled {
        /// The host.
        host: HostName,
        /// What it said.
        installed: Box<Installed>,
    },
    /// A session is open.
    SessionOpened {
        /// The host.
        host: HostName,
        /// What it says of itself.
        facts: Facts,
        /// Who answered, and how we got in.
        identity: Box<PeerIdentity>,
    },
    /// No session could be opened.
    SessionFailed {
        /// The host.
        host: HostName,
        /// Why.
        obstacle: Obstacle,
    },
    /// The sessions to a host have been closed: once for a host and a run, and again when it is tried again. Also for other
    /// places where steps of the run worked.
    SessionClosed {
        /// The host.
        host: HostName,
        /// How.
        closed: Box<SessionClose>,
    },
    /// A phase has begun on a host.
    PhaseStarted {
        /// The host.
        host: HostName,
        /// Which.
        phase: Phase,
        /// Why, when that is not plain: what caused a rollback.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// For a rollback: when its budget ends (Unix ms).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        deadline_ms: Option<u64>,
    },
    /// A phase has ended on a host.
    PhaseEnded {
        /// The host.
        host: HostName,
        /// Which.
        phase: Phase,
        /// All its steps ended well.
        ok: bool,
    },
    /// A step that needs more than its attempt (`unless`, `changes`) is ready to begin.
    StepPrepared {
        /// The cell.
        cell: Cell,
        /// What will be done.
        intent: Intent,
    },
    /// The step's `unless` was run.
    UnlessChecked {
        /// The cell.
        cell: Cell,
        /// Already done.
        done: bool,
    },
    /// Paths were measured.
    Measured {
        /// The host.
        host: HostName,
        /// Which, and what for.
        subject: Subject,
        /// The manifest's blob; `None` when it could not be measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        manifest: Option<Sha256>,
        /// Blob with the list of changes, when there are any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        changes: Option<Sha256>,
        /// Why it could not be measured.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        obstacle: Option<Obstacle>,
    },
    /// An attempt is about to start: durable before anything is sent.
    AttemptStarted {
        /// The attempt.
        attempt: AttemptId,
        /// Its phase, for readers that do not have the plan at hand.
        phase: Phase,
        /// Exactly what will be done.
        intent: Intent,
    },
    /// The attempt's host, connection or controller was lost; it is being asked after.
    AttemptLost {
        /// The attempt.
        attempt: AttemptId,
        /// What happened.
        reason: String,
        /// Until when it is asked after (Unix ms).
        deadline_ms: u64,
        /// It had not begun, and that is proved: its host did not answer. What is waited for is the host.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        not_begun: bool,
    },
    /// What is known of the attempt, for good.
    AttemptEnded {
        /// The attempt.
        attempt: AttemptId,
        /// Its outcome by the plan's rules.
        outcome: AttemptOutcome,
        /// All that is known.
        report: Box<AttemptReport>,
    },
    /// The cell will be attempted again.
    RetryScheduled {
        /// The attempt to come.
        attempt: AttemptId,
        /// Not before (Unix ms).
        at_ms: u64,
        /// Why.
        reason: String,
    },
    /// The cell has its outcome.
    StepEnded {
        /// The cell.
        cell: Cell,
        /// Its outcome.
        outcome: AttemptOutcome,
        /// The rule that decided it, for people; empty for a plain success.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
        /// The host on which a `once` step was really done.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        done_on: Option<HostName>,
        /// The reference that a snapshot's `take` printed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        snapshot: Option<String>,
    },
    /// An operator settled an unknown outcome.
    StepResolved {
        /// The cell.
        cell: Cell,
        /// Did it happen as it should?
        succeeded: bool,
        /// Why they think so.
        why: String,
        /// Who.
        by: Person,
    },
    /// The host is done with its own steps and waits for its peers (rollback scope `batch` or `run`).
    HostHeld {
        /// The host.
        host: HostName,
    },
    /// A host that had halted, got stuck or ended unknown is being tried again.
    HostReopened {
        /// The host.
        host: HostName,
        /// When (Unix ms), where the end of its window cuts it off: it counts as begun then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        begun_ms: Option<u64>,
    },
    /// The host has ended.
    HostEnded {
        /// The host.
        host: HostName,
        /// How.
        outcome: HostOutcome,
        /// Why, for people; empty for a plain success.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Nothing more can be done without an operator. The run can be resumed.
    RunSuspended {
        /// As things stand.
        outcome: RunOutcome,
    },
    /// The run has ended.
    RunEnded {
        /// How.
        outcome: RunOutcome,
        /// State of the controller's clock then, filled in by the driver: the core has no clock.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        clock: Option<ClockState>,
    },
    /// A snapshot was removed after its run.
    SnapshotReleased {
        /// The cell that took it.
        cell: Cell,
        /// Its reference.
        reference: String,
        /// Who asked.
        by: Person,
    },
    /// A monitoring system reports nothing of the run's hosts to people from here on, or for longer than before. What was asked
    /// and answered is in the blob. Written by the driver; the core decides nothing by it.
    MonitoringMuted {
        /// Its name in the settings.
        system: String,
        /// Its kind, such as `alertmanager`.
        kind: String,
        /// Where it is, without secrets.
        site: String,
        /// What it calls that which mutes: all that is in force for the run.
        ids: Vec<String>,
        /// So many hosts.
        hosts: u64,
        /// Blob with what was asked and what was answered, word for word.
        exchange: Sha256,
        /// When it ends by itself, should nobody end it before (Unix ms, by the system's own clock).
        until_ms: u64,
        /// What was muted already stays so for longer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        lengthened: bool,
        /// What somebody else ended meanwhile; it was not muted again.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        ended_by_others: Vec<String>,
    },
    /// Nothing is muted for the run any more: the system said so when it was asked afterwards.
    MonitoringUnmuted {
        /// Its name in the settings.
        system: String,
        /// What was ended now; what had ended before is not among it.
        ids: Vec<String>,
        /// Blob with what was asked and what was answered, word for word; the last answer is the proof.
        proof: Sha256,
        /// When it was seen to be over (Unix ms, by the system's own clock).
        at_ms: u64,
    },
    /// A monitoring system could not be muted, or is not known to be unmuted.
    MonitoringFailed {
        /// Its name in the settings.
        system: String,
        /// Its kind.
        kind: String,
        /// Where it is, without secrets.
        site: String,
        /// What was tried.
        act: MonitoringAct,
        /// Why it failed, without secrets.
        why: String,
        /// Something of the run may be muted, until then at most (Unix ms).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<u64>,
    },
    /// It belongs to no run.
    #[serde(untagged)]
    Installation(Notice),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(ms: &i64) -> bool {
    *ms == 0
}

/// Who did something.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// Account name on the controller (the one behind sudo, when there is one).
    pub name: String,
    /// Its number.
    pub uid: u32,
    /// Where the terminal came from (`SSH_CONNECTION`'s client address), when that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Event {
    /// The occurrence of a schedule that this settles: no other event does.
    pub fn settles(&self) -> Option<&Occurrence> {
        match self {
            Self::RunOpened(header) => header.occurrence.as_ref(),
            Self::Installation(notice) => notice.settles(),
            _ => None,
        }
    }
}

/// Who, when, why, what: the opening of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunHeader {
    /// The run.
    pub run: RunId,
    /// Digest of the plan, and the blob with its canonical JSON.
    pub plan_sha256: Sha256,
    /// The runbook's name.
    pub runbook: String,
    /// Who runs it.
    pub operator: Person,
    /// The change ticket, when one was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Only the prechecks are run.
    #[serde(default)]
    pub check_only: bool,
    /// The finished run that this one takes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<RunId>,
    /// Unix time in milliseconds.
    pub started_ms: u64,
    /// Seed of everything that is drawn at random in the run (jitter).
    pub seed: u64,
    /// Cells announced: steps × hosts.
    pub cells: u64,
    /// Version of the engine.
    pub engine_version: String,
    /// Digest of the engine's own executable.
    pub engine_sha256: Sha256,
    /// The controller's host name.
    pub controller: String,
    /// The controller's boot id.
    pub controller_boot_id: String,
    /// State of the controller's clock.
    pub clock: ClockState,
    /// Under which policy; `None`: no policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Sha256>,
    /// Digest of the blob with what was allowed; `None`: nothing restricts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permit: Option<Sha256>,
    /// Digest of the people's file that the policy was asked with; both files are kept as blobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<Sha256>,
    /// The approvals that it needed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Used>,
    /// Windows, blackouts and freezes were set aside, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<String>,
    /// Why it is run, when that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reviews that it owes after its end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reviews: Vec<Owed>,
    /// How far the clock of a host may be off from the controller's at most, in milliseconds; `None`: any. The strictest of
    /// the rules that are for a host of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_max_offset_ms: Option<u64>,
    /// Digest of the inventory's file as it was when the run was opened. The plan has what was taken from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory_sha256: Option<Sha256>,
    /// What the inventory was read from: its files, and what others answered who were asked for hosts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inventory_sources: Vec<crate::origin::Origin>,
    /// How long its evidence is kept at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Where the runbook's file stands under version control; `None`: nowhere, or the plan was saved earlier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Digest of the project's settings as they were when the run was opened; `None`: there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_sha256: Option<Sha256>,
    /// The occurrence of a schedule that it is the run of. No other record settles it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub occurrence: Option<Occurrence>,
    /// The run is a rehearsal: each host whose change was made and verified is taken back all the same, on purpose.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rehearses: bool,
    /// The rehearsal that it needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsed: Option<Rehearsed>,
    /// The change that its ticket is of, as it stood then; `None`: nobody was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Box<Seen>>,
}

impl RunHeader {
    /// An opening of which nothing more is said; whoever makes one fills in the rest.
    pub fn new(run: RunId, plan_sha256: Sha256, runbook: &str) -> Self {
        Self {
            run,
            plan_sha256,
            runbook: runbook.to_owned(),
            operator: Person::default(),
            ticket: None,
            check_only: false,
            takes_back: None,
            started_ms: 0,
            seed: 0,
            cells: 0,
            engine_version: String::new(),
            engine_sha256: Sha256::of(b""),
            controller: String::new(),
            controller_boot_id: String::new(),
            clock: ClockState::default(),
            policy: None,
            permit: None,
            people: None,
            approvals: Vec::new(),
            break_glass: None,
            reason: None,
            reviews: Vec::new(),
            clock_max_offset_ms: None,
            inventory_sha256: None,
            inventory_sources: Vec::new(),
            retention: None,
            revision: None,
            settings_sha256: None,
            occurrence: None,
            rehearses: false,
            rehearsed: None,
            change: None,
        }
    }
}

/// A file's place under version control: what `git show COMMIT:PATH` prints can be held against what was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// The commit that was checked out, in hexadecimal digits.
    pub commit: String,
    /// The file's path in it, from the repository's root.
    pub path: String,
    /// Digest of the file's bytes, as they were read.
    pub sha256: Sha256,
    /// No file of the project differed from that commit, and none was beside it.
    pub clean: bool,
}

/// The program that works on a run, and the machine on which it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Controller {
    /// Version of the engine.
    pub engine_version: String,
    /// Digest of its own executable.
    pub engine_sha256: Sha256,
    /// The machine's name.
    pub name: String,
    /// Changes with every boot of it.
    pub boot_id: String,
    /// State of its clock.
    pub clock: ClockState,
}

/// State of a clock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockState {
    /// What told it (`adjtimex`), or empty.
    pub source: String,
    /// Synchronised; `None` when it cannot be told.
    pub synchronised: Option<bool>,
    /// Estimated offset in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset_us: Option<i64>,
}

/// All that is known of an attempt when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptReport {
    /// How it ended.
    pub ended: Ended,
    /// Unix ms when the driver began it.
    pub started_ms: u64,
    /// Unix ms when the driver knew the end.
    pub ended_ms: u64,
    /// By the monotonic clock.
    pub duration_ms: u64,
    /// Standard output.
    pub stdout: OutputRef,
    /// Standard error.
    pub stderr: OutputRef,
    /// The last line of standard output that is not empty, for snapshot steps (their reference), else absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<String>,
    /// Files moved: blob with a JSON list of [`Transfer`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfers: Option<Sha256>,
    /// When the output came, where that took longer than a moment: a blob of [`crate::timing`]'s lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timing: Option<Sha256>,
    /// What changed under the watched roots and no step declares, told by the step that compares them: blob with the list
    /// of changes, when there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undeclared: Option<Sha256>,
}

/// A file that was moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// `upload` or `download`.
    pub direction: String,
    /// Path on the host.
    pub path: String,
    /// Of the content, checked on both sides.
    pub sha256: Sha256,
    /// Length.
    pub bytes: u64,
    /// For a download: the blob with the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<Sha256>,
}
