//! What is allowed while a run goes on: asked for before hosts are begun, not only when the run was.

use async_trait::async_trait;
use runbook_model::permit::Permit;
use runbook_model::{Input, Sha256, canonical};
use runbook_policy::Granted;

use crate::work::Work;

/// The machine's clock may drift so far from the time by which a run decides before windows are looked at again (ms).
pub(crate) const AHEAD_MS: u64 = 5_000;

/// Where what is allowed comes from while a run goes on. The driver knows no files; whoever does looks at them.
#[async_trait]
pub trait Permits: Send + Sync {
    /// What is allowed now, when that may be another than when this was asked last, or when the run was granted; `None`: it
    /// is the same. Asked before hosts are begun, so it must be cheap when nothing has changed.
    async fn changed(&self) -> Option<Granted>;

    /// Returns when it may have changed, for runs in which nothing else happens; it need not ever.
    async fn stirred(&self) {
        std::future::pending().await
    }
}

/// What the core was told of it last.
pub(crate) struct Told {
    permit: Permit,
    ahead_ms: i64,
}

impl Told {
    pub(crate) fn new(permit: &Permit, ahead_ms: i64) -> Self {
        let ahead_ms = if ahead_ms.unsigned_abs() > AHEAD_MS { ahead_ms } else { 0 };
        Self { permit: permit.clone(), ahead_ms }
    }

    pub(crate) fn permit(&self) -> &Permit {
        &self.permit
    }

    pub(crate) fn ahead_ms(&self) -> i64 {
        self.ahead_ms
    }
}

/// The name of the blob with a permit; `None` when it restricts nothing.
pub(crate) fn blob(permit: &Permit) -> Option<(Sha256, Vec<u8>)> {
    if *permit == Permit::default() {
        return None;
    }
    let bytes = canonical::bytes(permit);
    Some((Sha256::of(&bytes), bytes))
}

impl Work {
    /// Tells the core what is allowed, if that has become another, before it decides on anything more.
    pub(crate) async fn heed_permit(&mut self) {
        if !self.run.heeds_permit() {
            return;
        }
        let changed = match &self.world.permits {
            Some(permits) => permits.changed().await,
            None => None,
        };
        let ahead_ms = self.world.ahead_ms();
        let drifted = self.run.goes_by_the_clock() && ahead_ms.abs_diff(self.told.ahead_ms) > AHEAD_MS;
        if changed.is_none() && !drifted {
            return;
        }
        if let Some(granted) = changed {
            self.told.permit = granted.permit().clone();
            self.world.access.permitted(granted.permit());
        }
        // Little differences are no difference: the record says so only when it matters.
        self.told.ahead_ms = if drifted { ahead_ms } else { self.told.ahead_ms };
        let allowed = Box::new(self.told.permit.clone());
        let permit = blob(&allowed).map(|(digest, bytes)| {
            self.group.blobs.push((digest, bytes));
            digest
        });
        self.tell(Input::PermitChanged { permit, allowed, ahead_ms: self.told.ahead_ms });
    }
}
