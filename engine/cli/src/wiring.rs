//! The one place that puts concrete parts behind the ports.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use runbook_driver::{Engine, Limits, LocalSecrets, SystemClock};
use runbook_ports::{Clock, Confirmer, Observer, Signer, Transport};
use runbook_store::SqliteStore;

use crate::keys::LedgerKey;
use crate::project::Project;

/// What outlives a single run.
pub(crate) struct Parts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) origin: String,
    pub(crate) transports: BTreeMap<String, Arc<dyn Transport>>,
    pub(crate) limits: Limits,
}

/// The parts for a project.
pub(crate) fn parts(project: &Project, key: LedgerKey) -> Parts {
    let limits = Limits { output_bytes_max: project.settings.output_bytes_max, ..Limits::default() };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    Parts {
        transports: transports(project, &clock),
        clock,
        origin: key.verifier.name().to_owned(),
        signer: Arc::new(key.signer),
        limits,
    }
}

/// The transports inside the program, by name.
pub(crate) fn transports(project: &Project, clock: &Arc<dyn Clock>) -> BTreeMap<String, Arc<dyn Transport>> {
    let mut settings = runbook_builtin::Settings::default();
    settings.ssh.config.clone_from(&project.settings.ssh_config);
    runbook_builtin::transports(settings, clock)
}

/// The engine for one run.
pub(crate) fn engine(
    parts: &Parts,
    store: &SqliteStore,
    confirmer: Arc<dyn Confirmer>,
    observer: Arc<dyn Observer>,
    secrets: PathBuf,
) -> Engine {
    Engine {
        store: Arc::new(store.clone()),
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
    }
}
