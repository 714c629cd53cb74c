//! The one place that puts concrete parts behind the ports.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use runbook_driver::{Engine, Limits, LocalSecrets, SystemClock};
use runbook_ports::{Access, Clock, Confirmer, Observer, Signer, Store, Transport};
use runbook_ssh::access::{HostAccess, Settings};
use runbook_store::SqliteStore;

use crate::authority;
use crate::keys::LedgerKey;
use crate::machine;
use crate::project::Project;
use crate::settings::AccessSettings;

/// What stands between a run and its record: gets the store, gives what the run is to use instead. The product's own
/// program gives the store back as it is.
pub type Between = fn(Arc<dyn Store>) -> Arc<dyn Store>;

static BETWEEN: OnceLock<Between> = OnceLock::new();

/// Sets it for all runs of this process.
pub(crate) fn put_between(between: Between) {
    // A second caller in one process would be a mistake of its author, and the first one's choice holds.
    let _ = BETWEEN.set(between);
}

/// What outlives a single run.
pub(crate) struct Parts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) origin: String,
    pub(crate) transports: BTreeMap<String, Arc<dyn Transport>>,
    pub(crate) limits: Limits,
    pub(crate) access: Option<Arc<dyn Access>>,
}

/// The parts for a project.
pub(crate) fn parts(project: &Project, key: LedgerKey) -> Parts {
    let (output_bytes_max, check_closed) = (project.settings.output_bytes_max, project.settings.check_closed);
    let limits = Limits { output_bytes_max, check_closed, ..Limits::default() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Parts {
        transports: transports(project, &clock),
        access: access(project, &clock),
        clock,
        origin: key.verifier.name().to_owned(),
        signer: Arc::new(key.signer),
        limits,
    }
}

/// The transports inside the program, by name.
pub(crate) fn transports(project: &Project, clock: &Arc<dyn Clock>) -> BTreeMap<String, Arc<dyn Transport>> {
    runbook_builtin::transports(settings(project), clock)
}

fn settings(project: &Project) -> runbook_builtin::Settings {
    let mut settings = runbook_builtin::with_parts(runbook_builtin::Settings::default());
    settings.ssh.config.clone_from(&project.settings.ssh_config);
    settings
}

/// Who gives hosts access for a run.
fn access(project: &Project, clock: &Arc<dyn Clock>) -> Option<Arc<dyn Access>> {
    let AccessSettings { authority, installer } = project.settings.access.clone()?;
    let of = project.clone();
    let window_end = Arc::new(move |name: &str, now_ms: u64| authority::open_until(&of, name, now_ms));
    let access = Settings { authority, installer, window_end };
    Some(Arc::new(HostAccess::new(access, settings(project).ssh, Arc::clone(clock))))
}

/// The engine for one run.
pub(crate) fn engine(
    parts: &Parts,
    store: &SqliteStore,
    confirmer: Arc<dyn Confirmer>,
    observer: Arc<dyn Observer>,
    secrets: PathBuf,
) -> Engine {
    let record: Arc<dyn Store> = Arc::new(store.clone());
    Engine {
        store: BETWEEN.get().map_or_else(|| Arc::clone(&record), |between| between(Arc::clone(&record))),
        blobs: Arc::new(store.clone()),
        transports: parts.transports.clone(),
        evaluate: Arc::new(runbook_lang::evaluate::Evaluator::new()),
        signer: Arc::clone(&parts.signer),
        origin: parts.origin.clone(),
        secrets: Arc::new(LocalSecrets { folder: secrets }),
        confirmer,
        clock: Arc::clone(&parts.clock),
        observer,
        limits: parts.limits,
        controller: None,
        clock_state: Some(machine::clock_state),
        permits: None,
        access: parts.access.clone(),
        monitors: Vec::new(),
    }
}
