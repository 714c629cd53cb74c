//! What the tasks of one run share: ports, limits, sessions, and the way back to the loop.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use runbook_ledger::segments::Seed;
use runbook_model::digest::Hasher;
use runbook_model::event::{ClockState, Person, Transfer};
use runbook_model::host::Host;
use runbook_model::manifest::Change;
use runbook_model::outcome::{Exit, KilledBy, Obstacle};
use runbook_model::plan::{Place, Step};
use runbook_model::{AttemptId, Cell, Command, HostName, Input, Plan, RunId, Sha256};
use runbook_ports::store::StoreError;
use runbook_ports::transport::Offsets;
use runbook_ports::{BlobStore, Clock, Confirmer, Observer, Signer};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::access::Accesses;
use crate::leash::Leash;
use crate::measure::Known;
use crate::output::times::Times;
use crate::output::{Capture, Captured, Keeping, Tail};
use crate::secrets::Vault;
use crate::sessions::Sessions;
use crate::{Limits, Permits};

/// The name under which the controller's own session is kept. No inventory can have a host of this name.
const CONTROLLER: &str = "(controller)";

/// Shared by all tasks of a run.
pub(crate) struct World {
    pub(crate) run: RunId,
    pub(crate) plan: Arc<Plan>,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) vault: Vault,
    pub(crate) confirmer: Arc<dyn Confirmer>,
    /// By which the run decides: steps of the machine's clock do not reach it.
    pub(crate) clock: Arc<dyn Clock>,
    /// The machine's clock, for records.
    pub(crate) wall: Arc<dyn Clock>,
    /// Tells the state of the machine's clock.
    pub(crate) clock_state: Option<fn() -> ClockState>,
    /// What is allowed while the run goes on.
    pub(crate) permits: Option<Arc<dyn Permits>>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) sessions: Arc<Sessions>,
    /// What hosts are given for the run.
    pub(crate) access: Arc<Accesses>,
    pub(crate) limits: Limits,
    /// The run's seed, for delays.
    pub(crate) seed: u64,
    pub(crate) leash: Leash,
    pub(crate) answers: UnboundedSender<Message>,
    /// Outputs of attempts whose connection broke, to be gone on with where they broke off.
    pub(crate) parked: Mutex<BTreeMap<AttemptId, Parked>>,
    /// What was hashed before, by host: unchanged files are not hashed twice.
    pub(crate) known: Mutex<BTreeMap<HostName, Known>>,
    /// From which the seeds of outputs are made; one signature by the ledger key, when the first output comes.
    pub(crate) output_secret: OnceLock<Sha256>,
}

/// An output that is not complete yet.
pub(crate) struct Parked {
    pub(crate) capture: Capture,
    pub(crate) offsets: Offsets,
}

/// What tasks and the outside tell the loop.
pub(crate) enum Message {
    /// A command was answered.
    Answer {
        command: Command,
        answer: Answer,
        /// Contents that the answer names, to be stored with it.
        blobs: Vec<(Sha256, Vec<u8>)>,
    },
    /// A fact that no command asked for. Whoever tells it may wait until what was decided is durable; that nothing was, or
    /// that the loop has ended, is told by nobody answering.
    Note { input: Input, durable: Option<oneshot::Sender<()>> },
    /// Something could not be kept.
    Fault(String),
    /// The run is another controller's by now.
    TakenOver,
    /// Somebody asked to cancel.
    Cancel(Person),
    /// Somebody asked to stop here and leave the run to a resume.
    Detach,
}

/// An answer; attempts are judged by the loop, which knows what other steps said.
pub(crate) enum Answer {
    Plain(Box<Input>),
    Attempt(Box<Finished>),
}

impl Answer {
    pub(crate) fn plain(input: Input) -> Self {
        Self::Plain(Box::new(input))
    }
}

/// An attempt that has ended, or was lost.
pub(crate) struct Finished {
    pub(crate) raw: Raw,
    pub(crate) captured: Captured,
    pub(crate) transfers: Vec<Transfer>,
    pub(crate) undeclared: Vec<Change>,
    pub(crate) started_ms: u64,
    pub(crate) ended_ms: u64,
    pub(crate) duration_ms: u64,
}

/// How it ended, not judged yet.
#[derive(Debug)]
pub(crate) enum Raw {
    /// To be judged by the step's `expect`.
    Exited(Exit),
    /// Judged by the engine itself: with nothing in the list it was good.
    Judged(Vec<String>),
    NotStarted(Obstacle),
    Killed(KilledBy),
    Unknown(String),
    Lost(String),
}

impl World {
    /// How far the machine's clock is ahead of the time by which the run decides.
    pub(crate) fn ahead_ms(&self) -> i64 {
        let ahead = i128::from(self.wall.now_ms()) - i128::from(self.clock.now_ms());
        i64::try_from(ahead).unwrap_or(0)
    }

    /// The host on which a step's effects happen.
    pub(crate) fn place(&self, step: &Step, host: &HostName) -> Arc<Host> {
        match &step.on {
            Place::Host => Arc::new(self.plan.hosts[host].clone()),
            Place::Controller => Arc::new(controller()),
            Place::Named(host) => Arc::new((**host).clone()),
        }
    }

    /// Whether something may be begun on a host. When not, the loop is told, and nothing more is begun or recorded.
    pub(crate) async fn may_begin(&self) -> bool {
        let ours = self.leash.holds().await;
        if !ours {
            let _ = self.answers.send(Message::TakenOver);
        }
        ours
    }

    /// A sink for an attempt of this step, which began at `started_ms`.
    pub(crate) fn capture(&self, step: &Step, attempt: &AttemptId, started_ms: u64) -> Capture {
        let seeds = [self.output_seed(attempt, "stdout"), self.output_seed(attempt, "stderr")];
        let tail = Tail { observer: Arc::clone(&self.observer), cell: attempt.cell() };
        let limit = match self.limits.output_bytes_max {
            Some(max) => step.output_bytes_max.min(max),
            None => step.output_bytes_max,
        };
        let keeping = if step.sensitive { Keeping::Sensitive(seeds) } else { Keeping::Salted(limit, seeds) };
        let capture = Capture::new(&self.blobs, &self.vault.mask(), keeping, Some(tail), self.fault());
        // Of a sensitive output nothing is kept: nothing could be played back.
        if step.sensitive { capture } else { capture.timed(Times::new(Arc::clone(&self.clock), started_ms)) }
    }

    /// A sink for what is read by the engine alone and never kept: measurements, `unless`.
    pub(crate) fn scratch(&self, bytes_max: u64) -> Capture {
        Capture::new(&self.blobs, &self.vault.mask(), Keeping::Plain(bytes_max), None, self.fault())
    }

    fn fault(&self) -> Box<dyn Fn(&StoreError) + Send + Sync> {
        let answers = self.answers.clone();
        Box::new(move |error| {
            let _ = answers.send(Message::Fault(format!("an output could not be kept: {error}")));
        })
    }

    /// The seed of an output's salts. Whoever holds the ledger key can make it again, and so check what a record says
    /// of a sensitive output against one that is at hand; nobody else can guess an output from its record.
    fn output_seed(&self, attempt: &AttemptId, stream: &str) -> Seed {
        let secret = self.output_secret.get_or_init(|| {
            let text = format!("runbook output seeds v1\n{}\n", attempt.run);
            // A key that cannot sign stops the run: its heads could not be signed either.
            match self.signer.sign(text.as_bytes()) {
                Ok(signature) => Sha256::of(&signature),
                Err(why) => {
                    let _ = self.answers.send(Message::Fault(format!("the ledger key cannot be used: {why}")));
                    Sha256::of(text.as_bytes())
                }
            }
        });
        let mut hasher = Hasher::default();
        hasher.update(&secret.0);
        hasher.update(format!("{attempt}/{stream}").as_bytes());
        Seed(hasher.finish().0)
    }

    pub(crate) fn progress(
        self: &Arc<Self>,
        cell: &Cell,
        before: u64,
        total: u64,
    ) -> impl Fn(u64) + Send + Sync + use<> {
        let (observer, cell) = (Arc::clone(&self.observer), cell.clone());
        move |done| observer.progress(&cell, before + done, total)
    }
}

/// The machine that the engine runs on, as a host.
pub fn controller() -> Host {
    Host::named(CONTROLLER, "local")
}

/// The wish to end an attempt, and whose it is: the first one counts.
#[derive(Clone, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    by: Arc<AtomicU8>,
}

impl Stop {
    pub(crate) fn ask(&self, by: KilledBy) {
        let by = match by {
            KilledBy::Timeout => 1,
            KilledBy::Cancel => 2,
        };
        let _ = self.by.compare_exchange(0, by, Ordering::SeqCst, Ordering::SeqCst);
        self.token.cancel();
    }

    /// Who asked. When nobody did here, a controller before this one ended it because its time was over: a cancel is on
    /// record, and is asked for again.
    pub(crate) fn by(&self) -> KilledBy {
        if self.by.load(Ordering::SeqCst) == 2 { KilledBy::Cancel } else { KilledBy::Timeout }
    }

    pub(crate) fn token(&self) -> &CancellationToken {
        &self.token
    }

    pub(crate) fn asked(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits for `ms`; false when it is to end before that.
    pub(crate) async fn wait(&self, ms: u64) -> bool {
        tokio::select! {
            biased;
            () = self.token.cancelled() => false,
            () = tokio::time::sleep(Duration::from_millis(ms)) => true,
        }
    }
}
