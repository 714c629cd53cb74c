//! Whether a run is still this controller's, asked before something is begun on a host late.
//!
//! What is begun was recorded under the run's fence just before, so it is nearly always ours to begin. A controller that was
//! stopped in between (SIGSTOP, a suspended machine) finds time gone by when it goes on: somebody else may have taken the
//! run over meanwhile, ended it, and removed the claims that would have kept this one from beginning anything twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use runbook_model::RunId;
use runbook_ports::store::Fence;
use runbook_ports::{Clock, Store};

/// So long after it was known last, it is asked again. Shorter than anybody needs to take a run over by hand.
const SURE_FOR_MS: u64 = 2_000;

/// See the module.
pub(crate) struct Leash {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    run: RunId,
    fence: Fence,
    sure_mono_ms: AtomicU64,
}

impl Leash {
    pub(crate) fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, run: RunId, fence: Fence) -> Self {
        let sure_mono_ms = AtomicU64::new(clock.mono_ms());
        Self { store, clock, run, fence, sure_mono_ms }
    }

    /// Something was recorded under the fence: at that moment the run was ours.
    pub(crate) fn recorded(&self) {
        self.sure_mono_ms.store(self.clock.mono_ms(), Ordering::Relaxed);
    }

    /// Whether the run is still ours. A store that cannot be read cannot be written either: then nothing more is begun.
    pub(crate) async fn holds(&self) -> bool {
        let now = self.clock.mono_ms();
        if now.saturating_sub(self.sure_mono_ms.load(Ordering::Relaxed)) < SURE_FOR_MS {
            return true;
        }
        let holds = self.store.holds(&self.run, self.fence).await.unwrap_or(false);
        if holds {
            self.sure_mono_ms.store(now, Ordering::Relaxed);
        }
        holds
    }
}
