//! The controller is killed with SIGKILL: what it claimed goes on and is followed by the next one, what ran attached ends,
//! and no connection is left behind. Over ssh and on this machine.

mod sshd;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use runbook_local::{Local, Settings};
use runbook_model::host::Host;
use runbook_model::id::AttemptId;
use runbook_model::outcome::Exit;
use runbook_ports::transport::{Completion, Offsets, Probe, Session, Transport};
use runbook_testkit::transport_suite::{Kept, eventually, run, sh};
use sshd::Sshd;
use tokio_util::sync::CancellationToken;

const GRACE: Duration = Duration::from_millis(500);

fn claim() -> AttemptId {
    AttemptId { run: "killed".into(), host: "fs01".into(), step: "long".into(), attempt: 1 }
}

async fn open(folder: &str, host: &Host, over: &str) -> Box<dyn Session> {
    let clock = Arc::new(sshd::WallClock);
    let limit = Duration::from_secs(30);
    let opened = if over == "ssh" {
        let config = Some(format!("{folder}/client_config").into());
        runbook_ssh::Ssh::new(runbook_ssh::Settings { config, ..Default::default() }, clock).open(host, limit).await
    } else {
        Local::new(Settings { home: Some(format!("{folder}/home").into()), ..Settings::default() }, clock)
            .open(host, limit)
            .await
    };
    opened.expect("a session")
}

/// The controller that is killed: only does something when it is told where.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of the test below, run by it"]
async fn controller() {
    let Ok(told) = std::env::var("KILLED_CONTROLLER") else { return };
    let (folder, over, host): (String, String, Host) = serde_json::from_str(&told).expect("what it is told");
    let session = open(&folder, &host, &over).await;
    let claimed = sh(&format!("echo one; echo $$ >{folder}/claimed; read x <{folder}/go; echo two; exit 4"));
    let attached = sh(&format!("sleep 1000 & echo $$ $! >{folder}/attached; wait"));
    let claim = claim();
    tokio::join!(run(&*session, Some(&claim), &claimed), run(&*session, None, &attached));
}

async fn survives(over: &str) {
    let sshd = Sshd::start();
    drop(sshd.ssh());
    let folder = sshd.folder.path().display().to_string();
    let host = sshd.host(serde_json::json!({}));
    for name in ["claimed", "attached", "go"] {
        assert!(Command::new("mkfifo").arg(sshd.path(name)).status().expect("mkfifo is here").success());
    }
    let told = serde_json::to_string(&(&folder, over, &host)).expect("json");
    let mut controller = Command::new(std::env::current_exe().expect("this program"))
        .args(["--ignored", "--exact", "controller"])
        .env("KILLED_CONTROLLER", told)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let read = |name: &str| {
        let path = sshd.path(name);
        tokio::task::spawn_blocking(move || std::fs::read_to_string(path).expect("it began"))
    };
    let (claimed, attached) = tokio::join!(read("claimed"), read("attached"));
    controller.kill().expect("it lives");
    controller.wait().expect("it is ours");
    let gone = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.is_empty() || stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    for pid in attached.expect("a thread").split_whitespace() {
        eventually("what ran attached ends", || gone(pid)).await;
    }
    eventually("the connection ends", || sshd.connections().is_empty()).await;
    assert!(!gone(&claimed.expect("a thread")), "what was claimed goes on");

    let session = open(&folder, &host, over).await;
    assert_eq!(session.probe(&claim()).await, Probe::Running);
    let (mut kept, stop) = (Kept::default(), CancellationToken::new());
    let go = sshd.path("go");
    let release = tokio::task::spawn_blocking(move || std::fs::write(go, "x\n"));
    let completion = session.follow(&claim(), Offsets::default(), &mut kept, &stop, GRACE).await;
    release.await.expect("a thread").expect("it reads");
    assert_eq!((completion, kept.stdout), (Completion::Exited(Exit::Code(4)), b"one\ntwo\n".to_vec()));
    assert_eq!(session.clear(&claim()).await, Ok(()));
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_ssh_claims_survive_and_connections_do_not() {
    survives("ssh").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_this_machine_claims_survive_and_what_ran_attached_does_not() {
    survives("local").await;
}
