//! Waiting for a host that does not answer: tried again and again, later each time, until a deadline.

use std::sync::Arc;
use std::time::Duration;

use runbook_model::Cell;
use runbook_model::host::Host;
use runbook_model::outcome::{Obstacle, ObstacleKind, Wait};
use runbook_model::units::jittered_ms;

use crate::sessions::Lease;
use crate::world::{Stop, World};

/// The pause between two tries, doubled up to the second value. Half of it at most is taken off by the run's seed, so that
/// hosts that were lost together are not all tried at the same moment.
const PAUSE_MS: (u64, u64) = (500, 16_000);

/// One opening of a session takes at most so long, so that a host which comes back is soon found.
const OPEN_LIMIT: Duration = Duration::from_secs(15);

/// A host that answers says something within this.
pub(crate) const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// The tries to reach one host on behalf of one cell.
pub(crate) struct Reach<'a> {
    world: &'a Arc<World>,
    host: &'a Host,
    cell: &'a Cell,
    /// Unix ms. One try is always made, however late it is.
    deadline_ms: u64,
    /// A cancel wakes it up: the host is tried at once.
    stop: Option<&'a Stop>,
    tries: u32,
    last: String,
}

impl<'a> Reach<'a> {
    pub(crate) fn new(
        world: &'a Arc<World>,
        host: &'a Host,
        cell: &'a Cell,
        deadline_ms: u64,
        stop: Option<&'a Stop>,
    ) -> Self {
        Self { world, host, cell, deadline_ms, stop, tries: 0, last: "the host was not asked".into() }
    }

    /// A session that answers, once there is one; `None` when the time is over.
    pub(crate) async fn lease(&mut self) -> Option<Lease> {
        let lease = self.try_until_deadline().await;
        self.world.observer.waiting(self.cell, None);
        lease
    }

    async fn try_until_deadline(&mut self) -> Option<Lease> {
        loop {
            if self.tries > 0 && !self.pause().await {
                return None;
            }
            self.tries += 1;
            let limit = self.left().clamp(Duration::from_secs(1), OPEN_LIMIT);
            let lease = match self.world.sessions.get_again(self.host, limit).await {
                Ok(lease) => lease,
                Err(obstacle) => {
                    self.last = obstacle.message;
                    continue;
                }
            };
            if !lease.reused {
                return Some(lease);
            }
            // What was open before may be a link that died meanwhile.
            match tokio::time::timeout(ANSWER_LIMIT, lease.check()).await {
                Ok(Ok(())) => return Some(lease),
                Ok(Err(obstacle)) => self.last = obstacle.message,
                Err(_) => self.last = "the host did not answer".into(),
            }
            self.world.sessions.lost(lease).await;
        }
    }

    /// False when there is no time for another try.
    async fn pause(&mut self) -> bool {
        let left = self.left();
        if left.is_zero() {
            return false;
        }
        let delay = PAUSE_MS.0.saturating_mul(1 << (self.tries - 1).min(16)).min(PAUSE_MS.1);
        let delay = jittered_ms(delay, self.world.seed, &format!("{}/{}", self.cell, self.tries));
        let delay = Duration::from_millis(delay).min(left);
        let next_ms = self.world.clock.now_ms() + u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let wait = Wait { next_ms, until_ms: self.deadline_ms, why: self.last.clone() };
        self.world.observer.waiting(self.cell, Some(&wait));
        match self.stop {
            Some(stop) if !stop.asked() => {
                stop.wait(wait.next_ms.saturating_sub(self.world.clock.now_ms())).await;
            }
            _ => tokio::time::sleep(delay).await,
        }
        true
    }

    fn left(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.saturating_sub(self.world.clock.now_ms()))
    }

    /// A session that it gave has not held: the next try comes after a pause.
    pub(crate) fn failed(&mut self, why: String) {
        self.last = why;
    }

    /// Why the host was given up.
    pub(crate) fn last(&self) -> &str {
        &self.last
    }
}

/// Whether it is worth to wait for the host.
pub(crate) fn is_silence(obstacle: &Obstacle) -> bool {
    matches!(obstacle.kind, ObstacleKind::Unreachable | ObstacleKind::Session)
}

/// Does `look`, which changes nothing on the host, again until it meets no silence or the deadline is over. Without a
/// deadline it is done once.
pub(crate) async fn patiently<T, F>(
    world: &Arc<World>,
    host: &Host,
    cell: &Cell,
    deadline_ms: Option<u64>,
    look: impl Fn() -> F,
) -> Result<T, Obstacle>
where
    F: Future<Output = Result<T, Obstacle>>,
{
    let mut seen = look().await;
    let Some(deadline_ms) = deadline_ms else { return seen };
    let mut reach = Reach::new(world, host, cell, deadline_ms, None);
    while let Err(obstacle) = &seen
        && is_silence(obstacle)
    {
        reach.failed(obstacle.message.clone());
        reach.tries += 1;
        match reach.lease().await {
            Some(lease) => drop(lease),
            None => break,
        }
        seen = look().await;
    }
    seen
}
