//! Looks at hosts that change nothing there: connecting, `unless`, measuring.

use std::sync::Arc;
use std::time::Duration;

use runbook_model::evaluate::Rendered;
use runbook_model::host::{Facts, Host, PeerIdentity, Secured};
use runbook_model::manifest::{Change, Manifest};
use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use runbook_model::plan::Step;
use runbook_model::{Cell, Sha256, canonical};
use runbook_ports::transport::Completion;

use crate::attempt::{self, Compare, GRACE};
use crate::prepare::{clipped, clipped_to};
use crate::world::{Message, Stop, World};

/// What a host says of itself is kept so far.
const FACT_BYTES_MAX: usize = 300;

/// Methods of a login, and hosts on the way, that are kept.
const PARTS_MAX: usize = 5;

/// An `unless` takes at most so long when its step would take longer.
const UNLESS_LIMIT_MS: u64 = 600_000;

pub(crate) async fn connect(world: &Arc<World>, host: &Host) -> Result<(Facts, PeerIdentity), Obstacle> {
    let clip = |obstacle: Obstacle| Obstacle { message: clipped(obstacle.message), ..obstacle };
    let mut lease = world.sessions.get(host).await.map_err(clip)?;
    let facts = match lease.facts.take() {
        Some(facts) => Ok(facts),
        None => lease.facts().await,
    };
    match facts {
        Ok(mut facts) => {
            let mut identity = lease.identity();
            clip_identity(&mut identity);
            let texts = [&mut facts.os, &mut facts.os_version, &mut facts.kernel, &mut facts.arch, &mut facts.boot_id];
            texts.into_iter().for_each(clip_text);
            world.sessions.on_record(&lease);
            Ok((facts, identity))
        }
        Err(obstacle) => {
            world.sessions.lost(lease).await;
            Err(clip(obstacle))
        }
    }
}

fn clip_text(text: &mut String) {
    *text = clipped_to(std::mem::take(text), FACT_BYTES_MAX);
}

/// Keeps what a host and a client say of a login short enough for a record.
pub(crate) fn clip_identity(identity: &mut PeerIdentity) {
    let PeerIdentity { transport: _, peer_key, account, authenticated_by, software, secured, .. } = identity;
    [peer_key, account, authenticated_by].into_iter().chain(software).for_each(clip_text);
    let clip_secured = |secured: &mut Secured| {
        let Secured { key_exchange, host_key_algorithm, cipher, mac } = secured;
        [key_exchange, host_key_algorithm, cipher, mac].into_iter().for_each(clip_text);
    };
    secured.iter_mut().for_each(clip_secured);
    identity.methods.truncate(PARTS_MAX);
    for method in &mut identity.methods {
        clip_text(&mut method.method);
        clip_text(&mut method.shown);
    }
    identity.hops.truncate(PARTS_MAX);
    for hop in &mut identity.hops {
        [&mut hop.address, &mut hop.account, &mut hop.peer_key, &mut hop.authenticated_by]
            .into_iter()
            .for_each(clip_text);
        hop.secured.iter_mut().for_each(clip_secured);
    }
}

/// Exit 0 means that the step is already done; any other exit that it is not.
pub(crate) async fn check_unless(
    world: &Arc<World>,
    cell: &Cell,
    step: &Step,
    rendered: &Rendered,
) -> Result<bool, Obstacle> {
    let local = |message: String| Obstacle { kind: ObstacleKind::Local, message };
    let Some(action) = &rendered.unless else {
        return Ok(false);
    };
    let host = world.place(step, &cell.host);
    let invocation = attempt::invocation(world, rendered, action).await?;
    let limit = Duration::from_millis(step.timeout_ms.min(UNLESS_LIMIT_MS));
    let mut tries = 0;
    loop {
        let lease = world.sessions.get(&host).await?;
        let mut sink = world.scratch(1 << 10);
        let stop = Stop::default();
        let run = lease.run(None, &invocation, &mut sink, stop.token(), GRACE);
        let completion = attempt::within(limit, &stop, run).await;
        match completion {
            Completion::Exited(exit) => return Ok(exit == Exit::Code(0)),
            Completion::Killed => return Err(local("it took too long".into())),
            Completion::NotStarted(obstacle) => {
                let again = lease.reused && tries == 0 && obstacle.kind == ObstacleKind::Session;
                if again {
                    world.sessions.lost(lease).await;
                    tries += 1;
                    continue;
                }
                return Err(obstacle);
            }
            Completion::Lost(why) | Completion::Unknown(why) => {
                world.sessions.lost(lease).await;
                // It is read-only: once more on a new connection harms nobody.
                if tries == 0 {
                    tries += 1;
                    continue;
                }
                return Err(Obstacle { kind: ObstacleKind::Session, message: why });
            }
        }
    }
}

impl World {
    /// Measures on a host's session, with what is known of its files.
    pub(crate) async fn measure(
        self: &Arc<Self>,
        host: &Host,
        request: &crate::measure::Request,
    ) -> Result<crate::measure::Measured, Obstacle> {
        if request.globs.is_empty() && !request.services {
            return Ok(crate::measure::Measured::default());
        }
        let take = || self.known.lock().expect("no panic while held").remove(&host.name).unwrap_or_default();
        let mut known = take();
        let mut tries = 0;
        let result = loop {
            let lease = match self.sessions.get(host).await {
                Ok(lease) => lease,
                Err(obstacle) => break Err(obstacle),
            };
            match crate::measure::measure(&*lease, host, request, &mut known).await {
                Err(obstacle) if obstacle.kind == ObstacleKind::Session && tries == 0 => {
                    // Looking again on a new connection harms nobody.
                    tries += 1;
                    self.sessions.lost(lease).await;
                }
                result => break result,
            }
        };
        self.known.lock().expect("no panic while held").insert(host.name.clone(), known);
        result
    }

    /// The manifest and, against the one before, the list of changes; as contents to store.
    pub(crate) async fn keep_manifest(
        &self,
        manifest: &Manifest,
        before: Option<Sha256>,
        blobs: &mut Vec<(Sha256, Vec<u8>)>,
    ) -> Result<(Sha256, Option<Sha256>), String> {
        let mut changes = None;
        if let Some(before) = before {
            let list: Vec<Change> = self.manifest(&before).await?.changes(manifest);
            if !list.is_empty() {
                changes = Some(self.keep_bytes(canonical::bytes(&list), blobs).await?);
            }
        }
        Ok((self.keep_bytes(canonical::bytes(manifest), blobs).await?, changes))
    }

    async fn keep_bytes(&self, bytes: Vec<u8>, blobs: &mut Vec<(Sha256, Vec<u8>)>) -> Result<Sha256, String> {
        if bytes.len() > crate::output::keep::SMALL_BYTES_MAX {
            return self.blobs.put(&bytes).await.map_err(|error| {
                let _ = self.answers.send(Message::Fault(format!("a manifest could not be kept: {error}")));
                error.to_string()
            });
        }
        let digest = Sha256::of(&bytes);
        blobs.push((digest, bytes));
        Ok(digest)
    }

    async fn manifest(&self, digest: &Sha256) -> Result<Manifest, String> {
        let bytes = self.blobs.get(digest, u64::MAX).await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| format!("the manifest {digest} does not read: {error}"))
    }

    pub(crate) async fn compare(&self, comparison: Result<crate::prepare::Comparison, String>) -> Compare {
        let comparison = match comparison {
            Ok(comparison) => comparison,
            Err(why) => return Compare::Nothing(why),
        };
        let Some(before) = comparison.before else {
            return Compare::Nothing("nothing was measured before the change, so nothing can be compared".into());
        };
        let before = match self.manifest(&before).await {
            Ok(before) => before,
            Err(why) => return Compare::Nothing(why),
        };
        if comparison.baseline {
            return Compare::Baseline { before, globs: comparison.patterns, account: comparison.account };
        }
        Compare::Undeclared {
            before,
            roots: comparison.patterns,
            declared: comparison.declared,
            fails: comparison.fails,
            account: comparison.account,
        }
    }
}
