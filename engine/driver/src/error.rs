//! What can go wrong with a run as a whole. What goes wrong on a host is an outcome, not an error.

use runbook_model::schedule::Occurrence;
use runbook_model::{HostName, RunId, Sha256, StepId};
use runbook_ports::store::{Holder, StoreError};

/// Why a run did not begin, or stopped without an outcome. Each has a page in `docs/errors`.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Something could not be recorded. Nothing more was started; what runs on hosts under its own id goes on there.
    #[error("the record could not be written, so nothing more was done on any host: {cause}")]
    Evidence {
        /// What failed.
        cause: String,
        /// The run, once it was open.
        run: Option<RunId>,
    },
    /// Another process controls the run now. Nothing more was started.
    #[error("another process has taken run {0} over; this one has stopped and started nothing more")]
    TakenOver(RunId),
    /// A host, or the run, is held by another run. Nothing was touched.
    #[error("{what} is held by run {} of {}, process {}{}", .by.run, .by.operator, .by.pid, if .by.alive { "" } else { " (which is dead)" })]
    Held {
        /// `host NAME` or `run ID`.
        what: String,
        /// By whom.
        by: Box<Holder>,
    },
    /// Somebody had it stop waiting for a host, or the run, that is held. Nothing was touched.
    #[error("{what} is held by run {} of {}, and is not waited for any more", .by.run, .by.operator)]
    NotWaited {
        /// `host NAME` or `run ID`.
        what: String,
        /// By whom.
        by: Box<Holder>,
    },
    /// A file that the plan sends is not what it was. Nothing was touched.
    #[error("{path} is not the file that the plan names: it should have digest {expected}, and has {found}")]
    FileChanged {
        /// Where.
        path: String,
        /// The plan's.
        expected: Sha256,
        /// The file's.
        found: Sha256,
    },
    /// A file that the plan sends cannot be read. Nothing was touched.
    #[error("{path}, which the plan sends to hosts, cannot be read: {cause}")]
    FileMissing {
        /// Where.
        path: String,
        /// Why.
        cause: String,
    },
    /// Another run began with an approval that this one needs. Nothing was touched.
    #[error("run {run} began with the approval of {signer}, and it counts for one run")]
    ApprovalUsed {
        /// The other run.
        run: RunId,
        /// Whose approval.
        signer: String,
    },
    /// An approval that the run needs was over before its hosts were free. Nothing was touched.
    #[error("the approval of {signer} was over before the hosts were free")]
    ApprovalOver {
        /// Whose approval.
        signer: String,
    },
    /// Another run is the run of the occurrence, or it was said to be missed.
    #[error("{0} is settled already: an occurrence of a schedule is run once")]
    OccurrenceSettled(Occurrence),
    /// There is no such run.
    #[error("there is no run {0}")]
    UnknownRun(RunId),
    /// It has ended and cannot be resumed.
    #[error("run {run} has ended ({outcome}); there is nothing to go on with")]
    Ended {
        /// The run.
        run: RunId,
        /// How.
        outcome: &'static str,
    },
    /// It still runs, or waits to be resumed.
    #[error("run {0} has not ended: resume it first")]
    NotEnded(RunId),
    /// Its way back is gone.
    #[error("run {run} cannot be taken back: {}", .gone.join(", "))]
    WayBackGone {
        /// The run.
        run: RunId,
        /// Which snapshots were released, as `snapshot DATA on HOST was released`.
        gone: Vec<String>,
    },
    /// That cell has no unknown outcome.
    #[error("step {step} on {host} in run {run} has no outcome that waits to be settled")]
    NothingToResolve {
        /// The run.
        run: RunId,
        /// The host.
        host: HostName,
        /// The step.
        step: StepId,
    },
    /// A secret that steps of the run have used is not to be had any more. Nothing was touched.
    #[error("run {run} was not taken up, for its outputs could not be masked: {cause}")]
    Secret {
        /// The run.
        run: RunId,
        /// Which, and why.
        cause: String,
    },
    /// A record, a plan or a blob does not read.
    #[error("{what} cannot be read: {cause}")]
    Unreadable {
        /// What.
        what: String,
        /// Why.
        cause: String,
    },
    /// A host's transport is not known. Nothing was touched.
    #[error("host {host} is reached by transport `{transport}`, which this program does not have")]
    UnknownTransport {
        /// The host.
        host: HostName,
        /// Its transport.
        transport: String,
    },
    /// The plan has access of its own, and nothing gives it. Nothing was touched.
    #[error("the plan gives hosts access for the run, and the project does not say who mints it")]
    NoAccess,
    /// The run is in a form that cannot go on, and not for want of an operator.
    #[error("run {run} stands still although it has not ended: this is a defect of the program ({state})")]
    StandsStill {
        /// The run.
        run: RunId,
        /// What is known of it.
        state: String,
    },
    /// Monitoring must be muted for the run, and could not be. Nothing was begun on any host.
    #[error("monitoring could not be muted, and the settings ask for it: {why}")]
    NotMuted {
        /// The run, when it was open already; it has ended, or waits as it was.
        run: Option<RunId>,
        /// Which system, and why.
        why: String,
    },
    /// A snapshot that was to be released could not be.
    #[error("{} of the snapshots could not be released: {}", .failed.len(), .failed.join("; "))]
    NotReleased {
        /// Each with its reason.
        failed: Vec<String>,
    },
}

impl DriverError {
    /// Its code and page.
    pub fn code(&self) -> &'static str {
        match self {
            DriverError::Evidence { .. } => "RB0300",
            DriverError::TakenOver(_) => "RB0301",
            DriverError::Held { .. } => "RB0302",
            DriverError::NotWaited { .. } => "RB0314",
            DriverError::Secret { .. } => "RB0315",
            DriverError::FileChanged { .. } => "RB0303",
            DriverError::FileMissing { .. } => "RB0304",
            DriverError::UnknownRun(_) => "RB0305",
            DriverError::Ended { .. } => "RB0306",
            DriverError::NotEnded(_) => "RB0307",
            DriverError::NothingToResolve { .. } => "RB0308",
            DriverError::Unreadable { .. } => "RB0309",
            DriverError::UnknownTransport { .. } => "RB0310",
            DriverError::NoAccess => "RB0776",
            DriverError::StandsStill { .. } => "RB0311",
            DriverError::NotReleased { .. } => "RB0312",
            DriverError::WayBackGone { .. } => "RB0313",
            DriverError::ApprovalUsed { .. } => "RB0728",
            DriverError::ApprovalOver { .. } => "RB0729",
            DriverError::OccurrenceSettled(_) => "RB0746",
            DriverError::NotMuted { .. } => "RB0790",
        }
    }

    /// The program's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            DriverError::Evidence { .. } | DriverError::TakenOver(_) => 9,
            DriverError::Held { .. }
            | DriverError::Secret { .. }
            | DriverError::ApprovalUsed { .. }
            | DriverError::ApprovalOver { .. }
            | DriverError::OccurrenceSettled(_)
            | DriverError::NotMuted { .. } => 3,
            DriverError::NotWaited { .. } => 8,
            DriverError::FileChanged { .. }
            | DriverError::FileMissing { .. }
            | DriverError::UnknownRun(_)
            | DriverError::Ended { .. }
            | DriverError::NotEnded(_)
            | DriverError::WayBackGone { .. }
            | DriverError::NothingToResolve { .. }
            | DriverError::UnknownTransport { .. }
            | DriverError::NoAccess => 2,
            DriverError::Unreadable { .. } | DriverError::StandsStill { .. } => 1,
            DriverError::NotReleased { .. } => 4,
        }
    }

    /// What to do next, in one sentence.
    pub fn next_step(&self) -> String {
        match self {
            DriverError::Evidence { run: Some(run), .. } => {
                format!("mend the store (disk full? see `runbook doctor`), then `runbook resume {run}`")
            }
            DriverError::Evidence { run: None, .. } => "mend the store (disk full? see `runbook doctor`)".into(),
            DriverError::TakenOver(run) => format!("see `runbook show {run}`"),
            DriverError::Held { by, .. } => format!("wait for it (--wait), or see `runbook show {}`", by.run),
            DriverError::NotWaited { by, .. } => format!("see `runbook show {}`, and begin again later", by.run),
            DriverError::FileChanged { .. } => "plan again, so that what is approved is what is sent".into(),
            DriverError::FileMissing { .. } => "put the file back, or plan again".into(),
            DriverError::ApprovalUsed { .. } | DriverError::ApprovalOver { .. } => {
                "have the plan approved once more: `runbook approve PLAN`".into()
            }
            DriverError::OccurrenceSettled(_) => "`runbook schedule list` shows what became of it".into(),
            DriverError::NotMuted { .. } => {
                "`runbook doctor` asks the system; `when_unreachable = \"go-on\"` in the settings begins all the same"
                    .into()
            }
            DriverError::UnknownRun(_) => "`runbook runs` lists the runs of this project".into(),
            DriverError::Ended { run, .. } => {
                format!("see `runbook show {run}`; `runbook rollback {run}` takes it back")
            }
            DriverError::NotEnded(run) => format!("`runbook resume {run}`"),
            DriverError::WayBackGone { .. } => "make a runbook that takes the change back by other means".into(),
            DriverError::NothingToResolve { run, .. } => format!("`runbook show {run}` lists the outcomes"),
            DriverError::Secret { .. } => {
                "provide the secret as when the run began, then the same command again".into()
            }
            DriverError::Unreadable { .. } => "`runbook evidence verify` says whether the record was changed".into(),
            DriverError::UnknownTransport { .. } => "correct `transport` in the inventory".into(),
            DriverError::NoAccess => {
                "`runbook access ca init` makes an authority; then [access] in runbook.toml".into()
            }
            DriverError::StandsStill { run, .. } => {
                format!("keep the project's state folder and report it; `runbook resume {run}` may go on")
            }
            DriverError::NotReleased { .. } => "see why in the record, mend it, and release them again".into(),
        }
    }

    /// For a store's error while a run is being worked on.
    pub(crate) fn from_store(error: StoreError, run: Option<&RunId>) -> Self {
        match (error, run) {
            (StoreError::FenceLost, Some(run)) => DriverError::TakenOver(run.clone()),
            (StoreError::Settled(occurrence), _) => DriverError::OccurrenceSettled(occurrence),
            (StoreError::Held { what, by }, _) => DriverError::Held { what, by: Box::new(by) },
            (error, run) => DriverError::Evidence { cause: error.to_string(), run: run.cloned() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_page_and_a_next_step() {
        let run = || RunId::from("019aab00-0000-7000-8000-000000000001");
        let holder = Holder { run: run(), operator: "raj".into(), pid: 7, since_ms: 0, alive: true };
        let (path, cause, digest) = (String::new, String::new, Sha256::of(b""));
        let all = [
            DriverError::Evidence { cause: cause(), run: Some(run()) },
            DriverError::TakenOver(run()),
            DriverError::Held { what: "host fs01".into(), by: Box::new(holder) },
            DriverError::NotWaited {
                what: "host fs01".into(),
                by: Box::new(Holder { run: run(), operator: "raj".into(), pid: 7, since_ms: 0, alive: true }),
            },
            DriverError::FileChanged { path: path(), expected: digest, found: digest },
            DriverError::FileMissing { path: path(), cause: cause() },
            DriverError::UnknownRun(run()),
            DriverError::Ended { run: run(), outcome: "succeeded" },
            DriverError::NotEnded(run()),
            DriverError::NothingToResolve { run: run(), host: "fs01".into(), step: "x".into() },
            DriverError::Secret { run: run(), cause: cause() },
            DriverError::Unreadable { what: String::new(), cause: cause() },
            DriverError::UnknownTransport { host: "fs01".into(), transport: "x".into() },
            DriverError::NoAccess,
            DriverError::StandsStill { run: run(), state: String::new() },
            DriverError::NotReleased { failed: Vec::new() },
            DriverError::WayBackGone { run: run(), gone: Vec::new() },
            DriverError::ApprovalUsed { run: run(), signer: "jane".into() },
            DriverError::ApprovalOver { signer: "jane".into() },
            DriverError::NotMuted { run: Some(run()), why: String::new() },
            DriverError::OccurrenceSettled(Occurrence { schedule: "patch".into(), at_ms: 0 }),
        ];
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors");
        let mut codes = std::collections::BTreeSet::new();
        for error in &all {
            assert!(codes.insert(error.code()), "{} is used twice", error.code());
            let page = std::fs::read_to_string(docs.join(format!("{}.md", error.code()))).unwrap();
            assert!(page.starts_with(&format!("# {}: ", error.code())));
            assert!(!error.next_step().is_empty());
            assert!([1, 2, 3, 4, 8, 9].contains(&error.exit_code()));
        }
    }
}
