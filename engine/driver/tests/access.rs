//! Hosts are given access for the run, and it is withdrawn, whatever the giver and the host do.

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use runbook_driver::{Engine, RunState};
use runbook_model::access::{Access, Certificate, Ending, Grant, Installed, Installer, Minted, Revoke, Rule, Sudo};
use runbook_model::host::Host;
use runbook_model::outcome::{Obstacle, ObstacleKind};
use runbook_model::plan::{Phase, Plan};
use runbook_model::{Event, HostOutcome, RunId, Sha256};
use runbook_ports::Store as _;
use runbook_ports::access::{Ask, Given, Login, Withdrawn};
use runbook_testkit::memory_store::MemoryStore;
use support::*;

/// Gives and withdraws as it is told, and remembers in which order.
struct Giver {
    store: MemoryStore,
    told: Mutex<Vec<String>>,
    install: Mutex<Option<ObstacleKind>>,
    withdraw: Mutex<Option<ObstacleKind>>,
    login: Mutex<Login>,
    until: Mutex<Option<Option<u64>>>,
}

impl Giver {
    fn new(bench: &Bench) -> Arc<Self> {
        Arc::new(Self {
            store: bench.store.clone(),
            told: Mutex::default(),
            install: Mutex::default(),
            withdraw: Mutex::default(),
            login: Mutex::new(Login::Refused("Permission denied (publickey).".into())),
            until: Mutex::default(),
        })
    }

    fn tell(&self, what: impl Into<String>) {
        self.told.lock().unwrap().push(what.into());
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.lock().unwrap())
    }
}

fn obstacle(kind: ObstacleKind) -> Obstacle {
    Obstacle { kind, message: "no".into() }
}

fn installer() -> Installer {
    Installer { login: "root".into(), serial: "1".into(), valid_until_ms: 0, script_sha256: Sha256::of(b"") }
}

#[async_trait]
impl runbook_ports::Access for Giver {
    async fn grant(&self, ask: &Ask<'_>) -> Result<Grant, Obstacle> {
        self.tell("grant");
        *self.until.lock().unwrap() = Some(ask.until_ms);
        let minted = Minted {
            serial: "7".into(),
            key_id: "id".into(),
            public_key: "ssh-ed25519 AAAA".into(),
            authority: "SHA256:x".into(),
            principals: vec!["maint".into()],
            source_address: Vec::new(),
            valid_after_ms: 0,
            valid_until_ms: 9,
        };
        let text = String::from("rule");
        let sha256 = Sha256::of(text.as_bytes());
        let rule = Rule { path: "/r".into(), user: "maint".into(), text, sha256, valid_until_ms: 9 };
        Ok(Grant { certificate: Some(minted), sudo: Some(rule), account: None })
    }

    fn with(&self, host: &Host, _grant: &Grant) -> Result<Host, Obstacle> {
        Ok(host.clone())
    }

    async fn install(&self, ask: &Ask<'_>, _grant: &Grant) -> Result<Installed, Obstacle> {
        let sealed = self.store.records(&RunId::from(RUN), 0, usize::MAX).await.unwrap();
        let events = sealed.iter().map(|sealed| runbook_ledger::record::parse(&sealed.bytes).unwrap().event);
        let on_record =
            events.filter(|event| matches!(event, Event::AccessGranted { host, .. } if *host == ask.host.name));
        self.tell(format!("install after {} grants on record", on_record.count()));
        if let Some(kind) = *self.install.lock().unwrap() {
            return Err(obstacle(kind));
        }
        Ok(Installed { at_ms: 1, revoked_keys: None, sudo_before: None, rule_sha256: None, installer: installer() })
    }

    async fn withdraw(&self, given: &Given<'_>) -> Result<Withdrawn, Obstacle> {
        self.tell(format!("withdraw {}", given.grants.len()));
        if let Some(kind) = *self.withdraw.lock().unwrap() {
            return Err(obstacle(kind));
        }
        Ok(Withdrawn {
            at_ms: 2,
            sudo: Some(Ending::Proved("gone".into())),
            sudo_as_before: true,
            revoked: Some(Ok("revoked".into())),
            account: None,
            installer: installer(),
        })
    }

    async fn try_login(&self, _run: &RunId, _host: &Host, _grant: &Grant) -> Login {
        self.tell("try");
        self.login.lock().unwrap().clone()
    }
}

fn with_access() -> Plan {
    let steps = vec![step(Phase::Execute, "change", "change-it"), undo("change", "undo-it")];
    let mut plan = plan(&["a"], steps);
    let principals = plan.hosts.keys().map(|host| (host.clone(), vec!["maint".to_owned()])).collect();
    let (source_address, valid_for_ms, revoke) = (Vec::new(), 1_000, Revoke::Required);
    plan.access = Some(Access {
        certificate: Some(Certificate { principals, source_address, valid_for_ms, revoke }),
        sudo: Some(Sudo { run_as: "root".into(), commands: vec!["ALL".into()] }),
        account: None,
    });
    plan
}

fn engine(bench: &Bench, giver: &Arc<Giver>) -> Engine {
    Engine { access: Some(Arc::clone(giver) as _), ..bench.engine() }
}

#[tokio::test(start_paused = true)]
async fn access_is_on_record_before_it_is_installed_and_is_withdrawn_before_the_run_ends() {
    let bench = Bench::new();
    let giver = Giver::new(&bench);
    let done = engine(&bench, &giver).apply(with_access(), bench.request(RUN), &bench.control).await.unwrap();
    assert_eq!(done.state, RunState::Ended(HostOutcome::Succeeded));
    assert_eq!(giver.told(), ["grant", "install after 1 grants on record", "withdraw 1", "try"]);
    assert_eq!(*giver.until.lock().unwrap(), Some(None), "its time has no end");
    let events = bench.events(RUN).await;
    let place = |fits: fn(&Event) -> bool| events.iter().position(fits).expect("it is on record");
    let granted = place(|event| matches!(event, Event::AccessGranted { .. }));
    let installed = place(|event| matches!(event, Event::AccessInstalled { .. }));
    let closed = place(|event| matches!(event, Event::SessionClosed { .. }));
    assert!(granted < installed && installed < closed && closed < events.len() - 1);
}

#[tokio::test(start_paused = true)]
async fn a_host_on_which_nothing_was_installed_is_blocked_and_asked_nothing_more() {
    let bench = Bench::new();
    let giver = Giver::new(&bench);
    *giver.install.lock().unwrap() = Some(ObstacleKind::Unreachable);
    let done = engine(&bench, &giver).apply(with_access(), bench.request(RUN), &bench.control).await.unwrap();
    assert_eq!(done.state, RunState::Ended(HostOutcome::Blocked));
    assert!(giver.told().iter().all(|what| !what.starts_with("withdraw")));
    assert_eq!(bench.transport.opened(), [], "no session is opened without its access");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_installed_is_withdrawn() {
    let bench = Bench::new();
    let giver = Giver::new(&bench);
    *giver.install.lock().unwrap() = Some(ObstacleKind::Session);
    let done = engine(&bench, &giver).apply(with_access(), bench.request(RUN), &bench.control).await.unwrap();
    assert_eq!(done.state, RunState::Ended(HostOutcome::Blocked));
    assert!(giver.told().contains(&"withdraw 1".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn access_that_the_host_still_takes_suspends_the_run_and_a_resume_withdraws_it_again() {
    let bench = Bench::new();
    let giver = Giver::new(&bench);
    *giver.withdraw.lock().unwrap() = Some(ObstacleKind::Unreachable);
    let done = engine(&bench, &giver).apply(with_access(), bench.request(RUN), &bench.control).await.unwrap();
    assert_eq!(done.state, RunState::Suspended(HostOutcome::Stuck));
    giver.told();

    // It answers again, and its sshd does not heed its list.
    *giver.withdraw.lock().unwrap() = None;
    let granted = runbook_testkit::unrestricted();
    for (login, state) in [
        (Login::LetIn, RunState::Suspended(HostOutcome::Stuck)),
        (Login::Refused("Permission denied (publickey).".into()), RunState::Ended(HostOutcome::Succeeded)),
    ] {
        *giver.login.lock().unwrap() = login;
        let resumed = engine(&bench, &giver).resume(&RunId::from(RUN), ada(), &granted, &bench.control).await;
        assert_eq!(resumed.unwrap().state, state);
        assert_eq!(giver.told(), ["withdraw 1", "try"], "nothing is given anew for that");
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_that_is_let_in_after_all_suspends_the_run() {
    for login in [Login::LetIn, Login::Untried("no route".into())] {
        let bench = Bench::new();
        let giver = Giver::new(&bench);
        *giver.login.lock().unwrap() = login;
        let done = engine(&bench, &giver).apply(with_access(), bench.request(RUN), &bench.control).await.unwrap();
        assert_eq!(done.state, RunState::Suspended(HostOutcome::Stuck));
    }
}

#[tokio::test(start_paused = true)]
async fn a_plan_with_access_is_not_opened_where_nobody_gives_it() {
    let bench = Bench::new();
    let error = bench.apply(with_access()).await.unwrap_err();
    assert_eq!((error.code(), error.exit_code()), ("RB0776", 2));
    assert!(bench.events(RUN).await.is_empty());
}
