//! The end of the work on a host: what attempts left there is removed, the sessions are closed, and what is left of them is
//! looked for.
//!
//! One question does most of it, over the session that is there: it removes, it ends connections of before that the host
//! still has, and it tells of ways back in that steps left. Then the session is closed, and its end on this side is seen.
//! Where that leaves a doubt, or the settings say so, the host is asked once more over a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use runbook_model::access::Withdrawal;
use runbook_model::host::Host;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::session::{Look, SessionClose};
use runbook_model::{AttemptId, HostName};
use runbook_ports::transport::{LookFor, Seen};

use crate::prepare::clipped;
use crate::sessions::Lease;
use crate::world::World;

/// So long is tried, when the work on a host is done, to remove what attempts left on it and to look for what is left.
const LIMIT: Duration = Duration::from_secs(10);

/// When the link broke meanwhile, it is tried again after these.
const AGAIN: [Duration; 3] = [Duration::from_millis(200), Duration::from_secs(2), Duration::from_secs(5)];

/// Connections that were closed are given so long to end on the host by themselves.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same after a controller that died: its connection ends by itself some seconds after it.
const PATIENCE_AFTER_A_DEATH: Duration = Duration::from_secs(15);

/// What attempts left on one place.
pub(crate) struct Left {
    pub(crate) place: Arc<Host>,
    pub(crate) attempts: Vec<AttemptId>,
}

/// Removes what the attempts left on a place; a session that does not answer any more is given up.
async fn clear_on(world: &World, left: &Left) -> Result<(), Obstacle> {
    let lease = world.sessions.get(&left.place).await?;
    let cleared = lease.clear_all(&left.attempts).await;
    if cleared.as_ref().is_err_and(is_silence) {
        world.sessions.lost(lease).await;
    }
    cleared
}

fn is_silence(obstacle: &Obstacle) -> bool {
    matches!(obstacle.kind, ObstacleKind::Unreachable | ObstacleKind::Session)
}

/// Removes what the attempts left on a place, with some patience. What stays is told to nobody but the program's own log:
/// it harms nobody.
pub(crate) async fn clear(world: &World, left: &Left) {
    let mut cleared = clear_on(world, left).await;
    for delay in AGAIN {
        if cleared.is_ok() {
            break;
        }
        tokio::time::sleep(delay).await;
        cleared = clear_on(world, left).await;
    }
    if let Err(obstacle) = cleared {
        let reason = obstacle.message;
        tracing::warn!(host = %left.place.name, reason, "what attempts left on the host is still there");
    }
}

/// Ends the work on a host. `left` is what its attempts left, there and on other places.
pub(crate) async fn close(world: &Arc<World>, host: &Arc<Host>, left: Vec<Left>) -> SessionClose {
    let (own, others): (Vec<Left>, Vec<Left>) = left.into_iter().partition(|left| left.place.name == host.name);
    let attempts: Vec<AttemptId> = own.into_iter().flat_map(|left| left.attempts).collect();
    let elsewhere = async {
        for left in &others {
            clear(world, left).await;
        }
    };
    let _ = tokio::time::timeout(LIMIT, elsewhere).await;
    let mut access = None;
    let look = if world.sessions.is_remote(host) {
        let look = remote(world, host, &attempts).await;
        access = withdraw(world, host).await;
        look
    } else {
        let left = Left { place: Arc::clone(host), attempts };
        if !left.attempts.is_empty() {
            let _ = tokio::time::timeout(LIMIT, clear(world, &left)).await;
        }
        world.sessions.finish(&host.name).await;
        world.sessions.histories.local(&host.name);
        Look::default()
    };
    SessionClose { access, ..world.sessions.histories.take(&host.name, look) }
}

/// Withdraws what the host was given for the run, with the session that may still be open; after it, none is.
async fn withdraw(world: &Arc<World>, host: &Arc<Host>) -> Option<Box<Withdrawal>> {
    let is_open = world.sessions.is_open(&host.name).await;
    let lease = match is_open {
        true => world.sessions.get(host).await.ok(),
        false => None,
    };
    let withdrawal = world.access.withdraw(host, lease.as_ref().map(Lease::session)).await;
    drop(lease);
    if is_open {
        world.sessions.finish(&host.name).await;
    }
    withdrawal
}

/// Ends the work on every place where something was opened and whose end is not on record.
pub(crate) async fn close_all(world: &Arc<World>) -> Vec<(HostName, SessionClose)> {
    let mut closed = Vec::new();
    let mut places = world.sessions.histories.places();
    // Whose access is on record, and no session came of it.
    let given = world.access.hosts().into_iter().filter(|name| places.iter().all(|place| place.name != *name));
    places.extend(given.filter_map(|name| world.plan.hosts.get(&name).cloned().map(Arc::new)).collect::<Vec<_>>());
    for host in places {
        let remote = world.sessions.is_remote(&host);
        let close = close(world, &host, Vec::new()).await;
        if remote {
            closed.push((host.name.clone(), close));
        }
    }
    closed
}

/// Asks what is left, and leaves a session open at most over which it was asked last.
async fn remote(world: &Arc<World>, host: &Arc<Host>, attempts: &[AttemptId]) -> Look {
    let histories = &world.sessions.histories;
    let patience = match histories.outlives_a_controller(&host.name) {
        true => PATIENCE_AFTER_A_DEATH,
        false => PATIENCE,
    };
    let is_open = world.sessions.is_open(&host.name).await;
    let asks = is_open || !attempts.is_empty() || !histories.processes(&host.name, None).is_empty();
    let asked = match asks {
        true => match tokio::time::timeout(LIMIT + patience, ask(world, host, attempts, patience)).await {
            Ok(asked) => asked,
            Err(_) => Err("the host did not answer when it was asked what is left".to_owned()),
        },
        false => Err("no session was open any more, and nothing is known by which the host could be asked".to_owned()),
    };
    world.sessions.finish(&host.name).await;
    let mut look = match asked {
        Ok(look) => look,
        Err(why) => {
            let why = clipped(why);
            histories.unasked(&host.name, &why);
            return Look { unknown: Some(why), ..Look::default() };
        }
    };
    // A session that is open when it is withdrawn tells what sudo says then.
    if world.limits.check_closed || histories.in_doubt(&host.name) || world.access.wants_session(&host.name) {
        match tokio::time::timeout(LIMIT + patience, afterwards(world, host, patience)).await {
            Ok(Ok(after)) => look = after,
            Ok(Err(obstacle)) => look.unknown = Some(clipped(obstacle.message)),
            Err(_) => look.unknown = Some("the host did not answer when it was asked again".into()),
        }
    }
    look
}

/// Asks over the session that is there.
async fn ask(world: &Arc<World>, host: &Arc<Host>, attempts: &[AttemptId], patience: Duration) -> Result<Look, String> {
    let mut tries = AGAIN.iter();
    loop {
        let obstacle = match world.sessions.get(host).await {
            Ok(lease) => {
                let processes = world.sessions.histories.processes(&host.name, Some(lease.number()));
                let look = LookFor { run: world.run.clone(), processes, patience };
                match lease.leave(attempts, &look).await {
                    Ok(seen) => {
                        world.sessions.histories.last_word(&host.name, lease.number());
                        return Ok(told(world, host, seen, false));
                    }
                    Err(obstacle) => {
                        if is_silence(&obstacle) {
                            world.sessions.lost(lease).await;
                        }
                        obstacle
                    }
                }
            }
            Err(obstacle) => obstacle,
        };
        let Some(delay) = tries.next() else { return Err(obstacle.message) };
        tokio::time::sleep(*delay).await;
    }
}

/// Asks over a connection that is opened for it.
async fn afterwards(world: &Arc<World>, host: &Arc<Host>, patience: Duration) -> Result<Look, Obstacle> {
    let lease = world.sessions.get(host).await?;
    let processes = world.sessions.histories.processes(&host.name, Some(lease.number()));
    let look = LookFor { run: world.run.clone(), processes, patience };
    let seen = lease.leave(&[], &look).await?;
    world.sessions.histories.last_word(&host.name, lease.number());
    Ok(told(world, host, seen, true))
}

fn told(world: &World, host: &Host, seen: Seen, afterwards: bool) -> Look {
    for (process, there) in &seen.processes {
        world.sessions.histories.seen(&host.name, process, there);
    }
    Look {
        at_ms: Some(world.wall.now_ms()),
        afterwards,
        ways_in: seen.ways_in,
        others: seen.others,
        unknown: seen.unknown.map(clipped),
    }
}
