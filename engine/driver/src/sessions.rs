//! Sessions: one per host, opened when first needed, shared by all that goes on there, bounded in number.
//!
//! Two bounds: how many handshakes are under way at once (each costs the target 20 ms of CPU, and a jump host refuses
//! bursts), and how many sessions are open. When the second is reached, the session that has been idle the longest is
//! closed; it is opened again when its host is next needed. So a run of 10,000 hosts needs neither 10,000 connections
//! nor an order in which hosts must end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use runbook_model::HostName;
use runbook_model::host::{Facts, Host};
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::session::Closing;
use runbook_ports::{Session, Transport};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::access::Accesses;
use crate::history::Histories;
use crate::look::clip_identity;

/// At the end, so long is waited for sessions that are being closed: a dead link answers nobody.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// A host that has let us in says within this who it is.
const FACTS_LIMIT: Duration = Duration::from_secs(90);

/// A session that is in use is looked at again after this.
const IN_USE: Duration = Duration::from_millis(20);

/// The sessions of one run.
pub(crate) struct Sessions {
    transports: BTreeMap<String, Arc<dyn Transport>>,
    access: Arc<Accesses>,
    handshakes: Semaphore,
    /// The same for hosts that were lost: they must not hold up those that answer.
    lost_handshakes: Semaphore,
    connections: Arc<Semaphore>,
    open_limit: Duration,
    slots: Mutex<Slots>,
    freed: Notify,
    ticks: AtomicU64,
    closing: TaskTracker,
    /// When each was opened and how it ended.
    pub(crate) histories: Arc<Histories>,
}

#[derive(Default)]
struct Slots {
    by_host: BTreeMap<HostName, Arc<Slot>>,
    /// Open and unused, the longest idle first.
    idle: BTreeSet<(u64, HostName)>,
}

struct Slot {
    name: HostName,
    open: tokio::sync::Mutex<Option<Open>>,
    users: AtomicUsize,
    idle_since: AtomicU64,
    close_when_idle: AtomicBool,
}

struct Open {
    session: Arc<dyn Session>,
    number: u64,
    host: HostName,
    histories: Arc<Histories>,
    _permit: OwnedSemaphorePermit,
}

/// The use of a session. While there is one, the session is not closed for want of room.
pub(crate) struct Lease {
    user: User,
    session: Arc<dyn Session>,
    number: u64,
    /// It was open already: what it says of the link may be old.
    pub(crate) reused: bool,
    /// What the host said of itself when it was opened just now.
    pub(crate) facts: Option<Facts>,
}

struct User {
    sessions: Arc<Sessions>,
    slot: Arc<Slot>,
}

impl Lease {
    /// The session itself.
    pub(crate) fn session(&self) -> &dyn Session {
        &*self.session
    }

    /// Which of all sessions it is.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }
}

impl std::ops::Deref for Lease {
    type Target = dyn Session;

    fn deref(&self) -> &Self::Target {
        &*self.session
    }
}

impl Sessions {
    pub(crate) fn new(
        transports: BTreeMap<String, Arc<dyn Transport>>,
        connections_max: usize,
        handshakes_max: usize,
        open_limit: Duration,
        histories: Arc<Histories>,
        access: Arc<Accesses>,
    ) -> Arc<Self> {
        Arc::new(Self {
            transports,
            access,
            handshakes: Semaphore::new(handshakes_max.max(1)),
            lost_handshakes: Semaphore::new(handshakes_max.max(1)),
            connections: Arc::new(Semaphore::new(connections_max.max(1))),
            open_limit,
            slots: Mutex::default(),
            freed: Notify::new(),
            ticks: AtomicU64::new(0),
            closing: TaskTracker::new(),
            histories,
        })
    }

    /// The session to `host`, opened when there is none. Waits for room; an opening takes at most the limit.
    ///
    /// # Errors
    /// When it cannot be opened: nothing began.
    pub(crate) async fn get(self: &Arc<Self>, host: &Host) -> Result<Lease, Obstacle> {
        self.get_within(host, self.open_limit, &self.handshakes).await
    }

    /// The same for a host that was lost and may not answer, with a limit of its own on the opening.
    pub(crate) async fn get_again(self: &Arc<Self>, host: &Host, limit: Duration) -> Result<Lease, Obstacle> {
        self.get_within(host, limit, &self.lost_handshakes).await
    }

    async fn get_within(
        self: &Arc<Self>,
        host: &Host,
        limit: Duration,
        handshakes: &Semaphore,
    ) -> Result<Lease, Obstacle> {
        let transport = self.transports.get(&host.transport).ok_or_else(|| Obstacle {
            kind: ObstacleKind::Local,
            message: format!("there is no transport called `{}`", host.transport),
        })?;
        let user = self.user(host);
        let slot = Arc::clone(&user.slot);
        let mut open = slot.open.lock().await;
        if let Some(open) = &*open {
            let (session, number) = (Arc::clone(&open.session), open.number);
            return Ok(Lease { user, session, number, reused: true, facts: None });
        }
        let permit = self.room().await;
        let handshake = handshakes.acquire().await.expect("never closed");
        let given = self.access.ready(host).await?;
        let session: Arc<dyn Session> = transport.open(given.as_ref().unwrap_or(host), limit).await?.into();
        drop(handshake);
        let number = self.tick();
        let remote = transport.capabilities().remote;
        self.histories.opened(&Arc::new(host.clone()), number, remote);
        let (name, histories) = (host.name.clone(), Arc::clone(&self.histories));
        let opened = Open { session: Arc::clone(&session), number, host: name, histories, _permit: permit };
        let facts = match remote {
            true => match self.identify(&opened).await {
                Ok(facts) => Some(facts),
                Err(obstacle) => {
                    self.closing.spawn(opened.close(Closing::Lost));
                    return Err(obstacle);
                }
            },
            false => None,
        };
        *open = Some(opened);
        Ok(Lease { user, session, number, reused: false, facts })
    }

    /// Asks the host who it is, which also tells how it let us in and which of its processes serves us.
    async fn identify(&self, open: &Open) -> Result<Facts, Obstacle> {
        let silent = |_| Obstacle {
            kind: ObstacleKind::Session,
            message: format!("{}: the host let us in and did not answer", open.host),
        };
        let facts = tokio::time::timeout(FACTS_LIMIT, open.session.facts()).await.map_err(silent)??;
        let mut identity = open.session.identity();
        clip_identity(&mut identity);
        self.histories.identified(&open.host, open.number, identity);
        Ok(facts)
    }

    /// Whether a session to the host crosses a network.
    pub(crate) fn is_remote(&self, host: &Host) -> bool {
        self.transports.get(&host.transport).is_some_and(|transport| transport.capabilities().remote)
    }

    /// Whether a session to the host is open.
    pub(crate) async fn is_open(&self, host: &HostName) -> bool {
        let slot = self.slots().by_host.get(host).cloned();
        match slot {
            Some(slot) => slot.open.lock().await.is_some(),
            None => false,
        }
    }

    /// Closes the session to a host, as soon as nobody uses it, and waits until all that were opened to it have ended here;
    /// for at most the limit. The next use opens a new one.
    pub(crate) async fn finish(&self, host: &HostName) {
        let ended = async {
            loop {
                let idle = {
                    let mut slots = self.slots();
                    let slot = slots.by_host.get(host).cloned();
                    let idle = slot.filter(|slot| slot.users.load(Ordering::SeqCst) == 0);
                    if let Some(slot) = &idle {
                        slots.idle.remove(&(slot.idle_since.load(Ordering::SeqCst), host.clone()));
                        slots.by_host.remove(host);
                    }
                    idle
                };
                if let Some(slot) = idle {
                    let open = slot.open.lock().await.take();
                    if let Some(open) = open {
                        open.close(Closing::Done).await;
                        self.freed.notify_one();
                    }
                }
                if self.histories.is_over(host) {
                    return;
                }
                tokio::time::sleep(IN_USE).await;
            }
        };
        let _ = tokio::time::timeout(CLOSE_LIMIT, ended).await;
    }

    /// A record tells who answered on this session.
    pub(crate) fn on_record(&self, lease: &Lease) {
        self.histories.on_record(&lease.user.slot.name, lease.number);
    }

    /// The session no longer answers: the next use opens a new one.
    pub(crate) async fn lost(&self, lease: Lease) {
        let mut open = lease.user.slot.open.lock().await;
        if open.as_ref().is_some_and(|open| open.number == lease.number) {
            let gone = open.take();
            drop(open);
            // Closing a dead link may wait for it; nobody waits for that.
            if let Some(gone) = gone {
                self.closing.spawn(gone.close(Closing::Lost));
            }
        }
    }

    /// The host has ended: its session is closed as soon as nobody uses it.
    pub(crate) fn done_with(self: &Arc<Self>, host: &HostName) {
        let mut slots = self.slots();
        if let Some(slot) = slots.by_host.get(host).cloned() {
            slot.close_when_idle.store(true, Ordering::SeqCst);
            let last_user = User::of(self, slot, &mut slots);
            drop(slots);
            // Its end does what is due.
            drop(last_user);
        }
    }

    /// Closes all. What runs attached ends with them.
    pub(crate) async fn close_all(&self) {
        let slots = std::mem::take(&mut *self.slots());
        for slot in slots.by_host.into_values() {
            self.closing.spawn(async move {
                let open = slot.open.lock().await.take();
                if let Some(open) = open {
                    open.close(Closing::Done).await;
                }
            });
        }
        self.closing.close();
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.closing.wait()).await;
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn user(self: &Arc<Self>, host: &Host) -> User {
        let mut slots = self.slots();
        let slot = slots.by_host.entry(host.name.clone()).or_insert_with(|| {
            Arc::new(Slot {
                name: host.name.clone(),
                open: tokio::sync::Mutex::new(None),
                users: AtomicUsize::new(0),
                idle_since: AtomicU64::new(0),
                close_when_idle: AtomicBool::new(false),
            })
        });
        let slot = Arc::clone(slot);
        slot.close_when_idle.store(false, Ordering::SeqCst);
        User::of(self, slot, &mut slots)
    }

    /// Room for one more session, made by closing an idle one when there is none.
    async fn room(&self) -> OwnedSemaphorePermit {
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
                return permit;
            }
            let idlest = self.slots().idle.pop_first();
            if let Some((_, host)) = idlest {
                let slot = self.slots().by_host.get(&host).cloned();
                if let Some(slot) = slot
                    && slot.users.load(Ordering::SeqCst) == 0
                    && let Ok(mut open) = slot.open.try_lock()
                    && let Some(open) = open.take()
                {
                    open.close(Closing::Idle).await;
                }
                continue;
            }
            tokio::select! {
                () = freed => {}
                permit = Arc::clone(&self.connections).acquire_owned() => return permit.expect("never closed"),
            }
        }
    }
}

impl Open {
    /// Closes it, and only then makes room for another.
    async fn close(self, why: Closing) {
        self.histories.closing(&self.host, self.number, why);
        let here = self.session.close().await;
        self.histories.closed(&self.host, self.number, here);
        drop(self);
    }
}

impl User {
    fn of(sessions: &Arc<Sessions>, slot: Arc<Slot>, slots: &mut Slots) -> Self {
        slot.users.fetch_add(1, Ordering::SeqCst);
        slots.idle.remove(&(slot.idle_since.load(Ordering::SeqCst), slot.name.clone()));
        Self { sessions: Arc::clone(sessions), slot }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        let mut slots = self.sessions.slots();
        if self.slot.users.fetch_sub(1, Ordering::SeqCst) > 1 {
            return;
        }
        if self.slot.close_when_idle.load(Ordering::SeqCst) {
            slots.by_host.remove(&self.slot.name);
            drop(slots);
            if let Ok(mut open) = self.slot.open.try_lock()
                && let Some(open) = open.take()
                && let Ok(runtime) = tokio::runtime::Handle::try_current()
            {
                self.sessions.closing.spawn_on(open.close(Closing::Done), &runtime);
            }
        } else {
            let tick = self.sessions.tick();
            self.slot.idle_since.store(tick, Ordering::SeqCst);
            slots.idle.insert((tick, self.slot.name.clone()));
            drop(slots);
        }
        self.sessions.freed.notify_one();
    }
}
