//! Access that hosts are given for the run: when each was given it, and how that ended.
//!
//! It belongs to the sessions of a host, not to steps. Whoever opens the first session to a host waits until the grant is
//! durably on record and then installed; whoever closes the last one withdraws it, whatever became of the host, and then
//! tries what must fail by now.
//!
//! | a grant | is withdrawn |
//! | --- | --- |
//! | on record, and proved not to have been installed | without a word to the host: nothing is there |
//! | on record, and installed or perhaps installed | by the installer's login; then the run's own is tried |
//! | of a controller that is gone | likewise; its key is gone, so one that is revoked together with it is tried |

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::access::{Access, Ending, Grant, Installed, Revoke, Withdrawal};
use runbook_model::host::Host;
use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use runbook_model::permit::Permit;
use runbook_model::{Event, HostName, Input, Plan, RunId, Sha256};
use runbook_ports::access::{Ask, Given, Login, Unrevoked, Withdrawn};
use runbook_ports::transport::{Completion, Invocation, OutputSink, Program, Stream};
use runbook_ports::{Clock, Session};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::attempt::{GRACE, within};
use crate::prepare::clipped;
use crate::world::{Message, Stop};

/// When a host could not be asked to withdraw, it is asked again after these.
const AGAIN: [Duration; 3] = [Duration::from_millis(500), Duration::from_secs(3), Duration::from_secs(8)];

/// What sudo says of the account comes within this.
const SUDO_LIMIT: Duration = Duration::from_secs(20);

/// So much of it is kept.
const WORDS_BYTES_MAX: usize = 300;

/// See the module.
pub(crate) struct Accesses {
    port: Option<Arc<dyn runbook_ports::Access>>,
    run: RunId,
    plan: Arc<Plan>,
    plan_sha256: Sha256,
    /// The machine's clock: certificates and rules go by it.
    wall: Arc<dyn Clock>,
    answers: UnboundedSender<Message>,
    permit: Mutex<Permit>,
    by_host: Mutex<BTreeMap<HostName, Arc<tokio::sync::Mutex<OfHost>>>>,
}

/// What one host was given, and nobody has withdrawn yet.
#[derive(Default)]
struct OfHost {
    /// By controllers before this one.
    earlier: Vec<Grant>,
    current: Option<Current>,
    installed: Option<Installed>,
    /// Something of it may be on the host.
    perhaps: bool,
}

struct Current {
    grant: Grant,
    /// The host as it is logged in to.
    host: Host,
    ready: bool,
}

/// What an earlier controller gave a host, as the log tells.
#[derive(Debug, Clone, Default)]
pub(crate) struct GivenBefore {
    pub(crate) grants: Vec<Grant>,
    pub(crate) installed: Option<Installed>,
}

impl GivenBefore {
    /// Folds an event about one host.
    pub(crate) fn observe(&mut self, event: &Event) {
        match event {
            Event::AccessGranted { grant, .. } => self.grants.push((**grant).clone()),
            Event::AccessInstalled { installed, .. } => {
                self.installed = Some(merged((**installed).clone(), self.installed.as_ref()));
            }
            _ => {}
        }
    }
}

/// What sudo told before the run's rule is told by the first installation alone.
fn merged(installed: Installed, before: Option<&Installed>) -> Installed {
    let sudo_before = installed.sudo_before.or_else(|| before.and_then(|before| before.sudo_before));
    Installed { sudo_before, ..installed }
}

impl Accesses {
    pub(crate) fn new(
        port: Option<Arc<dyn runbook_ports::Access>>,
        run: RunId,
        plan: Arc<Plan>,
        plan_sha256: Sha256,
        wall: Arc<dyn Clock>,
        answers: UnboundedSender<Message>,
    ) -> Arc<Self> {
        let (permit, by_host) = (Mutex::default(), Mutex::default());
        Arc::new(Self { port, run, plan, plan_sha256, wall, answers, permit, by_host })
    }

    /// What is allowed by now: nothing is good for longer than its host's time.
    pub(crate) fn permitted(&self, permit: &Permit) {
        permit.clone_into(&mut self.permit.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What an earlier controller gave a host.
    pub(crate) fn before(&self, host: &HostName, given: GivenBefore) {
        let of_host = OfHost { earlier: given.grants, installed: given.installed, current: None, perhaps: true };
        self.by_host().insert(host.clone(), Arc::new(tokio::sync::Mutex::new(of_host)));
    }

    fn by_host(&self) -> std::sync::MutexGuard<'_, BTreeMap<HostName, Arc<tokio::sync::Mutex<OfHost>>>> {
        self.by_host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hosts that were given something that nobody has withdrawn yet.
    pub(crate) fn hosts(&self) -> Vec<HostName> {
        // One that is being given something right now has it.
        let has = |of_host: &tokio::sync::Mutex<OfHost>| match of_host.try_lock() {
            Ok(of_host) => of_host.current.is_some() || !of_host.earlier.is_empty(),
            Err(_) => true,
        };
        self.by_host().iter().filter(|(_, of_host)| has(of_host)).map(|(name, _)| name.clone()).collect()
    }

    /// What the plan gives to this host; other places than its hosts are given nothing.
    fn plan_for(&self, host: &Host) -> Option<&Access> {
        self.plan.access.as_ref().filter(|_| self.plan.hosts.contains_key(&host.name))
    }

    /// Whether a session that is still open is of use when it is withdrawn.
    pub(crate) fn wants_session(&self, host: &HostName) -> bool {
        self.plan.access.as_ref().is_some_and(|access| access.sudo.is_some()) && self.by_host().contains_key(host)
    }

    /// The host as it is to be logged in to: its access is on record and installed. `None`: as it stands in the plan.
    ///
    /// # Errors
    /// It is not: nothing may be opened.
    pub(crate) async fn ready(self: &Arc<Self>, host: &Host) -> Result<Option<Host>, Obstacle> {
        if self.plan_for(host).is_none() {
            return Ok(None);
        }
        // Nobody gives it up half-way: what is withdrawn later waits for its end.
        let (this, of) = (Arc::clone(self), host.clone());
        let ready = tokio::spawn(async move { this.make_ready(&of).await });
        ready.await.unwrap_or_else(|_| Err(local(host, "giving it access was given up"))).map(Some)
    }

    async fn make_ready(&self, host: &Host) -> Result<Host, Obstacle> {
        let (Some(access), Some(port)) = (self.plan_for(host), &self.port) else {
            return Err(local(host, "nothing here gives access: [access] in runbook.toml"));
        };
        let of_host = Arc::clone(self.by_host().entry(host.name.clone()).or_default());
        let mut of_host = of_host.lock().await;
        let ask = self.ask(host, access);
        if of_host.current.is_none() {
            let event = self.grant(port, &ask, &mut of_host).await?;
            let Event::AccessGranted { host: name, grant } = event else { unreachable!("that is what a grant is") };
            let (durable, on_record) = oneshot::channel();
            let _ = self
                .answers
                .send(Message::Note { input: Input::AccessGranted { host: name, grant }, durable: Some(durable) });
            if on_record.await.is_err() {
                of_host.current = None;
                return Err(local(host, "the run does not go on, so no access was given"));
            }
        }
        let OfHost { current: Some(current), installed, perhaps, .. } = &mut *of_host else {
            unreachable!("it was made above")
        };
        if !current.ready {
            match port.install(&ask, &current.grant).await {
                Ok(said) => {
                    let said = merged(said, installed.as_ref());
                    *installed = Some(said.clone());
                    *perhaps = true;
                    current.ready = true;
                    let input = Input::AccessInstalled { host: host.name.clone(), installed: Box::new(said) };
                    let _ = self.answers.send(Message::Note { input, durable: None });
                }
                Err(obstacle) => {
                    *perhaps |= obstacle.kind == ObstacleKind::Session;
                    return Err(Obstacle { message: clipped(obstacle.message), ..obstacle });
                }
            }
        }
        Ok(current.host.clone())
    }

    async fn grant(
        &self,
        port: &Arc<dyn runbook_ports::Access>,
        ask: &Ask<'_>,
        of_host: &mut OfHost,
    ) -> Result<Event, Obstacle> {
        let grant = port.grant(ask).await?;
        let host = port.with(ask.host, &grant)?;
        of_host.current = Some(Current { grant: grant.clone(), host, ready: false });
        Ok(Event::AccessGranted { host: ask.host.name.clone(), grant: Box::new(grant) })
    }

    /// Grants for whoever keeps the record by itself: the event is to be durable before a session is opened. `None`: there
    /// is nothing to grant, or it was.
    ///
    /// # Errors
    /// It cannot be granted.
    pub(crate) async fn announce(&self, host: &Host) -> Result<Option<Event>, Obstacle> {
        let (Some(access), Some(port)) = (self.plan_for(host), &self.port) else { return Ok(None) };
        let of_host = Arc::clone(self.by_host().entry(host.name.clone()).or_default());
        let mut of_host = of_host.lock().await;
        if of_host.current.is_some() {
            return Ok(None);
        }
        self.grant(port, &self.ask(host, access), &mut of_host).await.map(Some)
    }

    fn ask<'a>(&'a self, host: &'a Host, access: &'a Access) -> Ask<'a> {
        let now_ms = self.wall.now_ms();
        let (run, plan_sha256, until_ms) = (&self.run, self.plan_sha256, self.until_ms(&host.name, now_ms));
        Ask { run, plan_sha256, host, access, now_ms, until_ms }
    }

    /// When the host's time ends.
    fn until_ms(&self, host: &HostName, now_ms: u64) -> Option<u64> {
        let permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
        let class = permit.classes.iter().find(|class| class.hosts.contains(host))?;
        let now = class.stretches.iter().find(|stretch| stretch.contains(now_ms));
        // No host is begun outside its windows. One that was begun is brought to its end, or back, where the project's rules
        // let that be taken up then: for that it is given as long as the way back may take.
        Some(now.map_or_else(|| now_ms.saturating_add(self.plan.rollback.budget_ms), |stretch| stretch.end_ms))
    }

    /// Withdraws all that the host was given, and tries what must fail then. `session` is one that is still open, of the
    /// run's own login. `None`: it was given nothing.
    pub(crate) async fn withdraw(&self, host: &Host, session: Option<&dyn Session>) -> Option<Box<Withdrawal>> {
        let of_host = self.by_host().remove(&host.name)?;
        let of_host = of_host.lock().await;
        let mut grants = of_host.earlier.clone();
        grants.extend(of_host.current.iter().map(|current| current.grant.clone()));
        let (Some(access), Some(port), Some(last)) = (self.plan_for(host), &self.port, grants.last()) else {
            return None;
        };
        if !of_host.perhaps {
            return Some(Box::new(never_installed(last)));
        }
        let given = Given { run: &self.run, host, access, grants: &grants, installed: of_host.installed.as_ref() };
        let mut withdrawn = port.withdraw(&given).await;
        for delay in AGAIN {
            if withdrawn.is_ok() {
                break;
            }
            tokio::time::sleep(delay).await;
            withdrawn = port.withdraw(&given).await;
        }
        let withdrawn = match withdrawn {
            Ok(withdrawn) => withdrawn,
            Err(obstacle) => return Some(Box::new(not_asked(&grants, &clipped(obstacle.message)))),
        };
        let mut sudo = withdrawn.sudo.clone();
        if let (Some(ending), Some(session), Some(rule)) = (&sudo, session, &last.sudo) {
            sudo = Some(tried(ending.clone(), session, &withdrawn, rule.valid_until_ms).await);
        }
        let until_ms = grants.iter().filter_map(|grant| grant.certificate.as_ref()).map(|one| one.valid_until_ms).max();
        let certificate = match (&withdrawn.revoked, until_ms) {
            (Some(revoked), Some(until_ms)) => {
                let required = access.certificate.as_ref().is_some_and(|one| one.revoke == Revoke::Required);
                Some(match revoked {
                    Ok(how) => {
                        let login = port.try_login(&self.run, host, last).await;
                        after_login(how, login, of_host.current.is_some(), until_ms)
                    }
                    Err(Unrevoked::NoPlace(why)) if !required => {
                        Ending::Lapses { until_ms, why: format!("it cannot be revoked: {why}") }
                    }
                    Err(Unrevoked::NoPlace(why) | Unrevoked::Failed(why)) => {
                        Ending::Left { until_ms: Some(until_ms), why: format!("it is not revoked: {why}") }
                    }
                })
            }
            _ => None,
        };
        let Withdrawn { at_ms, account, installer, .. } = withdrawn;
        let (at_ms, installer) = (Some(at_ms), Some(installer));
        let mut whole = Withdrawal { at_ms, sudo, certificate, account, installer };
        for ending in [&mut whole.sudo, &mut whole.certificate, &mut whole.account].into_iter().flatten() {
            let (Ending::Proved(why) | Ending::Lapses { why, .. } | Ending::Left { why, .. }) = ending;
            *why = clipped(std::mem::take(why));
        }
        Some(Box::new(whole))
    }
}

fn local(host: &Host, message: &str) -> Obstacle {
    Obstacle { kind: ObstacleKind::Local, message: format!("{}: {message}", host.name) }
}

/// Nothing is on the host: it was not reached, or refused before anything was done.
fn never_installed(grant: &Grant) -> Withdrawal {
    let certificate = grant.certificate.as_ref().map(|minted| Ending::Lapses {
        until_ms: minted.valid_until_ms,
        why: "it was never used: nothing could be installed on the host, and its key ends with this program".into(),
    });
    let nothing = || Ending::Proved("it was never there".into());
    let (sudo, account) = (grant.sudo.as_ref().map(|_| nothing()), grant.account.as_ref().map(|_| nothing()));
    Withdrawal { at_ms: None, sudo, certificate, account, installer: None }
}

/// The host could not be asked: all of it may be there.
fn not_asked(grants: &[Grant], why: &str) -> Withdrawal {
    let left = |until_ms: Option<u64>| Ending::Left { until_ms, why: why.to_owned() };
    let most = |of: fn(&Grant) -> Option<u64>| grants.iter().filter_map(of).max();
    let sudo = most(|grant| Some(grant.sudo.as_ref()?.valid_until_ms)).map(|until_ms| left(Some(until_ms)));
    let certificate =
        most(|grant| Some(grant.certificate.as_ref()?.valid_until_ms)).map(|until_ms| left(Some(until_ms)));
    let account = grants.iter().any(|grant| grant.account.is_some()).then(|| left(None));
    Withdrawal { at_ms: None, sudo, certificate, account, installer: None }
}

/// What came of the certificate, by the login that was tried with it; without its key, with one that was revoked with it.
fn after_login(how: &str, login: Login, own: bool, until_ms: u64) -> Ending {
    let left = |why: String| Ending::Left { until_ms: Some(until_ms), why };
    let with = match own {
        true => "a login with it",
        false => {
            "its key ended with the controller that had it, and a login with one that was revoked together with it"
        }
    };
    match login {
        Login::Refused(words) => Ending::Proved(format!("{how}; {with} was refused: {words}")),
        Login::LetIn => left(format!("{how}, and {with} was let in all the same")),
        Login::Untried(why) => left(format!("{how}, and whether the host heeds that could not be tried: {why}")),
    }
}

/// Asks sudo as the run's own login, over a session of before.
async fn tried(ending: Ending, session: &dyn Session, withdrawn: &Withdrawn, until_ms: u64) -> Ending {
    let argv = ["sudo", "-n", "-l"].map(str::to_owned).to_vec();
    let invocation =
        Invocation { program: Program::Argv(argv), account: None, cwd: None, env: Vec::new(), stdin: None };
    let (mut words, stop) = (Words::default(), Stop::default());
    let run = session.run(None, &invocation, &mut words, stop.token(), GRACE);
    let completion = within(SUDO_LIMIT, &stop, run).await;
    let words = words.last_line();
    let said = match completion {
        Completion::Exited(Exit::Code(0)) if withdrawn.sudo_as_before => Ending::Proved(
            "sudo still answers the run's login, by rules that are not of this run: it tells what it told before"
                .into(),
        ),
        Completion::Exited(Exit::Code(0)) => Ending::Left {
            until_ms: Some(until_ms),
            why: format!("sudo still lets the run's login do something: {words}"),
        },
        Completion::Exited(_) => Ending::Proved(format!("asked by the run's own login, it says: {words}")),
        // Who removed it has seen that it is gone; more could not be tried.
        _ => return ending,
    };
    match (ending, said) {
        (Ending::Proved(gone), Ending::Proved(tried)) => Ending::Proved(format!("{gone}; {tried}")),
        (ending, said) => ending.and(said),
    }
}

/// The first bytes of what is said.
#[derive(Default)]
struct Words(Vec<u8>);

impl Words {
    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let line = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
        line.trim().chars().filter(|c| !c.is_control()).collect()
    }
}

#[async_trait]
impl OutputSink for Words {
    async fn write(&mut self, _stream: Stream, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let over = self.0.len().saturating_sub(WORDS_BYTES_MAX);
        self.0.drain(..over);
    }

    async fn cut_off(&mut self, _stream: Stream, _by: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_could_not_be_tried_proves_nothing() {
        for own in [true, false] {
            let after = |login| after_login("revoked", login, own, 7);
            assert!(matches!(after(Login::Refused("Permission denied (publickey).".into())), Ending::Proved(_)));
            assert!(matches!(after(Login::LetIn), Ending::Left { .. }));
            assert!(matches!(after(Login::Untried("no route".into())), Ending::Left { .. }));
        }
    }

    #[test]
    fn what_sudo_told_before_the_first_rule_is_kept() {
        let installed = |at_ms, before: Option<&[u8]>| Installed {
            at_ms,
            revoked_keys: None,
            sudo_before: before.map(Sha256::of),
            rule_sha256: None,
            installer: runbook_model::access::Installer {
                login: "root".into(),
                serial: "1".into(),
                valid_until_ms: 0,
                script_sha256: Sha256::of(b""),
            },
        };
        let first = installed(1, Some(b"x"));
        let second = merged(installed(2, None), Some(&first));
        assert_eq!((second.at_ms, second.sudo_before), (2, Some(Sha256::of(b"x"))));
    }
}
