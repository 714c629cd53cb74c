//! The end of a session, over a real sshd: what is known of it here, what the host says of it, and what is found there that
//! should not be.

mod sshd;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use runbook_model::host::{PeerIdentity, ToldBy};
use runbook_model::session::{Here, There, WayIn};
use runbook_ports::transport::{LookFor, Session, Transport};
use runbook_ssh::{Settings, Ssh};
use runbook_testkit::transport_suite::{attempt, eventually, run, sh};
use serde_json::json;
use sshd::Sshd;

/// For all that is to end at once.
const PATIENCE: Duration = Duration::from_millis(500);

fn look(processes: &[&str]) -> LookFor {
    let processes = processes.iter().map(|process| (*process).to_owned()).collect();
    LookFor { run: "looked".into(), processes, patience: PATIENCE }
}

/// A session whose facts were asked for, and who answered.
async fn known(sshd: &Sshd) -> (Box<dyn Session>, PeerIdentity) {
    let session = sshd.open().await.expect("sshd lets us in");
    session.facts().await.expect("it answers");
    let identity = session.identity();
    (session, identity)
}

fn lives(process: &str) -> bool {
    let (pid, start) = process.split_once(':').expect("a number and a start");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && rest.split(' ').nth(19) == Some(start))
}

fn pid(process: &str) -> u32 {
    process.split(':').next().and_then(|pid| pid.parse().ok()).expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_session_is_gone_here_and_the_host_says_so_too() {
    let sshd = Sshd::start();
    let (first, identity) = known(&sshd).await;
    let process = identity.process.expect("the host told which of its processes serves us");
    assert!(lives(&process));
    assert_eq!(first.close().await, Here::Ended);
    assert_eq!(first.close().await, Here::Ended, "twice is harmless");
    let (second, _) = known(&sshd).await;
    let seen = second.leave(&[], &look(&[&process])).await.expect("it answers");
    assert_eq!((seen.processes, seen.unknown), (vec![(process, There::Gone)], None));
    assert!(seen.ways_in.is_empty(), "{:?}", seen.ways_in);
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_the_host_still_has_is_ended_there() {
    let sshd = Sshd::start();
    let (first, identity) = known(&sshd).await;
    let process = identity.process.expect("the host told which of its processes serves us");
    // It does not notice that we are gone, as after a link that broke.
    sshd::kill("STOP", pid(&process));
    assert_eq!(first.close().await, Here::Ended);
    assert!(lives(&process), "the host still has it");
    let (second, _) = known(&sshd).await;
    let seen = second.leave(&[], &look(&[&process])).await.expect("it answers");
    assert_eq!(seen.processes, [(process.clone(), There::Ended)]);
    assert!(!lives(&process));
    second.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_process_is_never_ended_in_place_of_a_connection() {
    let sshd = Sshd::start();
    let (session, _) = known(&sshd).await;
    let mut stranger = Command::new("sleep").arg("1000").spawn().expect("sleep is here");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", stranger.id())).expect("it lives");
    let start = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(19)).expect("a start").to_owned();
    // Its number with another start is another process, which is gone; its own start makes it no server.
    let (other, own) = (format!("{}:1", stranger.id()), format!("{}:{start}", stranger.id()));
    let seen = session.leave(&[], &look(&[&other, &own])).await.expect("it answers");
    assert_eq!(seen.processes, [(other, There::Gone), (own.clone(), There::Left(own))]);
    assert!(stranger.try_wait().expect("ours").is_none(), "it was not ended");
    stranger.kill().expect("ours");
    stranger.wait().expect("ours");
    session.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_process_that_hangs_is_killed() {
    let sshd = Sshd::start();
    drop(sshd.ssh());
    let runtime = sshd.folder.path().to_owned();
    let settings =
        Settings { config: Some(sshd.path("client_config")), runtime: Some(runtime.clone()), ..Settings::default() };
    let ssh = Ssh::new(settings, Arc::new(sshd::WallClock));
    let session = ssh.open(&sshd.host(json!({})), Duration::from_secs(30)).await.expect("sshd lets us in");
    let folder = runtime.display().to_string();
    let found = Command::new("pgrep").args(["-f", &format!("^ssh.*{folder}/rb-")]).output().expect("pgrep is here");
    let master: u32 = String::from_utf8_lossy(&found.stdout).trim().parse().expect("one process holds the connection");
    sshd::kill("STOP", master);
    assert_eq!(session.close().await, Here::Killed);
    eventually("the host has closed it too", || sshd.connections().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_in_that_a_step_left_is_found_and_a_service_only_counted() {
    let sshd = Sshd::start();
    let (session, _) = known(&sshd).await;
    let mut claim = attempt("left");
    claim.run = "looked".into();
    let text = "setsid script -q -f -c 'sleep 98765' /dev/null </dev/null >/dev/null 2>&1 & \
                setsid sleep 98766 </dev/null >/dev/null 2>&1 & echo $!";
    run(&*session, Some(&claim), &sh(text)).await;
    let with_terminal = || {
        let found = Command::new("pgrep").args(["-x", "sleep", "-a"]).output().expect("pgrep is here");
        String::from_utf8_lossy(&found.stdout).contains("sleep 98765")
    };
    eventually("the terminal has something in it", with_terminal).await;
    let seen = session.leave(&[claim], &look(&[])).await.expect("it answers");
    let names: Vec<_> = seen.ways_in.iter().map(|way| (way.how, &*way.name)).collect();
    assert!(names.contains(&(WayIn::Terminal, "sleep")), "{names:?}");
    // `script` itself has no terminal, as a tmux server has none; neither has what went to the background.
    assert!(seen.others >= 2, "{seen:?}");
    assert!(session.leftovers().await.expect("it answers").is_empty(), "what was claimed was removed in the same go");
    let end = Command::new("pkill").args(["-f", "^sleep 9876[56]$"]).status().expect("pkill is here");
    assert!(end.success());
    eventually("they are gone", || !with_terminal()).await;
    let seen = session.leave(&[], &look(&[])).await.expect("it answers");
    assert!(seen.ways_in.is_empty(), "{seen:?}");
    session.close().await;
}

fn fingerprint(file: &std::path::Path) -> String {
    let said = Command::new("ssh-keygen").arg("-lf").arg(file).output().expect("ssh-keygen is here");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    said.split_whitespace().nth(1).expect("a fingerprint").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn how_we_got_in_is_told_by_the_host_where_it_does_and_else_by_our_client() {
    for (more, by, shown) in [("ExposeAuthInfo yes", ToldBy::Host, "ssh-ed25519"), ("", ToldBy::Client, "ED25519")] {
        let sshd = Sshd::with(more);
        let (session, identity) = known(&sshd).await;
        assert_eq!(identity.methods_told_by, Some(by));
        let methods: Vec<String> = identity.methods.iter().map(|method| method.text()).collect();
        assert_eq!(methods, [format!("publickey {shown} {}", fingerprint(&sshd.path("id.pub")))]);
        assert_eq!(identity.peer_key, fingerprint(&sshd.path("host.pub")));
        let secured = identity.secured.expect("the client says how it is protected");
        assert_eq!(secured.host_key_algorithm, "ssh-ed25519");
        assert!(!secured.key_exchange.is_empty() && !secured.cipher.is_empty(), "{secured:?}");
        assert!(identity.software.is_some_and(|software| software.starts_with("OpenSSH_")));
        session.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_host_on_the_way_has_its_own_key_and_login_on_record() {
    let (bastion, sshd) = (Sshd::start(), Sshd::start());
    let both = [&bastion, &sshd].map(|sshd| std::fs::read_to_string(sshd.path("known")).expect("a file"));
    std::fs::write(sshd.path("both"), both.concat()).expect("scratch");
    let jump = json!({"name": "bastion", "address": "127.0.0.1", "port": bastion.port, "user": bastion.user,
                      "identity": bastion.path("id").display().to_string()});
    let ssh = sshd.ssh_with(&sshd.path("both"), "");
    let host = sshd.host(json!({"jumps": [jump]}));
    let session = ssh.open(&host, Duration::from_secs(30)).await.expect("both let us in");
    session.facts().await.expect("it answers");
    let identity = session.identity();
    assert_eq!(identity.peer_key, fingerprint(&sshd.path("host.pub")));
    let [hop] = identity.hops.as_slice() else { panic!("{:?}", identity.hops) };
    assert_eq!(hop.peer_key, fingerprint(&bastion.path("host.pub")));
    assert_eq!(hop.authenticated_by, format!("publickey {}", fingerprint(&bastion.path("id.pub"))));
    assert_eq!((hop.address.as_str(), &hop.account), (&*format!("127.0.0.1:{}", bastion.port), &bastion.user));
    assert!(hop.secured.is_some());
    assert_eq!(session.close().await, Here::Ended);
    eventually("the bastion's part ends with it", || bastion.connections().is_empty()).await;
}
