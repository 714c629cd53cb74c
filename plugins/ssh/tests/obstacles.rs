//! Everything that can stand between us and a host, on a real sshd: each is told apart, and says that nothing began.

mod sshd;

use std::time::Duration;

use runbook_model::outcome::{Exit, Obstacle, ObstacleKind};
use runbook_ports::transport::{Completion, Offsets, Probe, Session, Transport};
use runbook_testkit::transport_suite::{Kept, attempt, eventually, run, sh};
use serde_json::json;
use sshd::{Sshd, children, kill};
use tokio_util::sync::CancellationToken;

const LIMIT: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_millis(500);

fn refused(opened: Result<Box<dyn Session>, Obstacle>) -> Obstacle {
    match opened {
        Ok(_) => panic!("it let us in"),
        Err(obstacle) => obstacle,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answered_is_read_from_the_handshake() {
    let sshd = Sshd::start();
    let session = sshd.open().await.expect("it lets us in");
    let identity = session.identity();
    let print = |key: &str| {
        let said = std::process::Command::new("ssh-keygen").arg("-lf").arg(sshd.path(key)).output().expect("keygen");
        String::from_utf8_lossy(&said.stdout).split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!((identity.transport.as_str(), identity.account.as_str()), ("ssh", sshd.user.as_str()));
    assert_eq!(identity.peer_key, print("host.pub"));
    assert_eq!(identity.authenticated_by, format!("publickey {}", print("id.pub")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_key_is_refused() {
    let sshd = Sshd::start();
    let ssh = sshd.ssh_with(std::path::Path::new("/dev/null"), "  StrictHostKeyChecking no");
    let obstacle = refused(ssh.open(&sshd.host(json!({})), LIMIT).await);
    assert_eq!(obstacle.kind, ObstacleKind::HostKey);
    assert!(obstacle.message.contains("not on file"), "{}", obstacle.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_host_key_is_refused() {
    let sshd = Sshd::start();
    let other = std::fs::read_to_string(sshd.path("id.pub")).expect("a key");
    std::fs::write(sshd.path("known"), format!("[127.0.0.1]:{} {other}", sshd.port)).expect("scratch");
    let obstacle = refused(sshd.open().await);
    assert_eq!(obstacle.kind, ObstacleKind::HostKey);
    assert!(obstacle.message.contains("has changed (it offers SHA256:"), "{}", obstacle.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_user_key_is_a_refused_login() {
    let sshd = Sshd::start();
    let wrong = sshd.path("host").display().to_string();
    let obstacle = refused(sshd.ssh().open(&sshd.host(json!({"identity": wrong})), LIMIT).await);
    assert_eq!(obstacle.kind, ObstacleKind::Login, "{}", obstacle.message);
    let obstacle = refused(sshd.ssh().open(&sshd.host(json!({"user": "no-such-account"})), LIMIT).await);
    assert_eq!(obstacle.kind, ObstacleKind::Login, "{}", obstacle.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_is_unreachable() {
    let sshd = Sshd::start();
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let obstacle = refused(sshd.ssh().open(&sshd.host(json!({"port": free})), LIMIT).await);
    assert_eq!(obstacle.kind, ObstacleKind::Unreachable);
    assert!(obstacle.message.contains("nothing listens there"), "{}", obstacle.message);
    // Accepts, and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("a port").port();
    let obstacle = refused(sshd.ssh().open(&sshd.host(json!({"port": port})), Duration::from_secs(2)).await);
    assert_eq!(obstacle.kind, ObstacleKind::Unreachable, "{}", obstacle.message);
    let obstacle = refused(sshd.ssh().open(&sshd.host(json!({"address": "no-such-host.invalid"})), LIMIT).await);
    assert_eq!(obstacle.kind, ObstacleKind::Unreachable, "{}", obstacle.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_allowed_is_told() {
    let sshd = Sshd::with("MaxSessions 0");
    let session = sshd.open().await.expect("the login works");
    let (completion, _) = run(&*session, None, &sh("exit 0")).await;
    let Completion::NotStarted(obstacle) = completion else { panic!("{completion:?}") };
    assert_eq!(obstacle.kind, ObstacleKind::Session);
    assert!(obstacle.message.contains("MaxSessions"), "{}", obstacle.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_a_shell_for_us_did_not_start() {
    let sshd = Sshd::with("ForceCommand echo This account is not available");
    let session = sshd.open().await.expect("the login works");
    for claim in [None, Some(attempt("forced"))] {
        let (completion, kept) = run(&*session, claim.as_ref(), &sh("exit 0")).await;
        assert!(
            matches!(&completion, Completion::NotStarted(o) if o.message.contains("not available"))
                || matches!(&completion, Completion::Lost(_)),
            "{completion:?}"
        );
        assert_eq!(kept, Kept::default());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jump_hosts_are_gone_through_and_their_keys_checked() {
    let (bastion, inner) = (Sshd::start(), Sshd::start());
    let both = [bastion.path("known"), inner.path("known")].map(|path| std::fs::read_to_string(path).expect("known"));
    let known = inner.path("both");
    std::fs::write(&known, both.concat()).expect("scratch");
    let jump = json!({"name": "bastion", "address": "127.0.0.1", "port": bastion.port, "user": bastion.user,
        "identity": bastion.path("id").display().to_string()});
    let host = inner.host(json!({"jumps": [jump]}));
    let session = inner.ssh_with(&known, "").open(&host, LIMIT).await.expect("through the bastion");
    assert_eq!(run(&*session, None, &sh("exit 3")).await.0, Completion::Exited(Exit::Code(3)));
    assert_eq!(bastion.connections().len(), 1);
    session.close().await;
    let obstacle = refused(inner.ssh().open(&host, LIMIT).await);
    assert_eq!(obstacle.kind, ObstacleKind::HostKey, "{}", obstacle.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_lost_not_failed_and_the_claim_is_followed() {
    let sshd = Sshd::start();
    let session = sshd.open().await.expect("it lets us in");
    let (begun, go) = (sshd.path("begun"), sshd.path("go"));
    for fifo in [&begun, &go] {
        assert!(std::process::Command::new("mkfifo").arg(fifo).status().expect("mkfifo").success());
    }
    let text = format!("echo a; echo x >{}; read x <{}; echo b; exit 8", begun.display(), go.display());
    for claim in [None, Some(attempt("cut"))] {
        let session = if claim.is_some() { sshd.open().await.expect("again") } else { sshd.open().await.expect("in") };
        let (invocation, stop, mut kept) = (sh(&text), CancellationToken::new(), Kept::default());
        let cut = async {
            let begun = begun.clone();
            tokio::task::spawn_blocking(move || std::fs::read(begun)).await.expect("a thread").expect("it began");
            for connection in sshd.connections() {
                for child in children(connection) {
                    if std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == "sshd") {
                        kill("KILL", child);
                    }
                }
                kill("KILL", connection);
            }
        };
        let (completion, ()) = tokio::join!(session.run(claim.as_ref(), &invocation, &mut kept, &stop, GRACE), cut);
        assert!(matches!(completion, Completion::Lost(_)), "{completion:?}");
        assert!(session.check().await.is_err());
        if let Some(claim) = claim {
            let session = sshd.open().await.expect("it lets us in again");
            assert_eq!(session.probe(&claim).await, Probe::Running);
            let go = go.clone();
            let release = tokio::task::spawn_blocking(move || std::fs::write(go, "x\n"));
            let from = Offsets { stdout: kept.stdout.len() as u64, stderr: 0 };
            let completion = session.follow(&claim, from, &mut kept, &stop, GRACE).await;
            release.await.expect("a thread").expect("it reads");
            assert_eq!((completion, kept.stdout), (Completion::Exited(Exit::Code(8)), b"a\nb\n".to_vec()));
        }
    }
    drop(session);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_before_anything_runs() {
    if sshd::whoami() != "root" {
        eprintln_skip("a full disk: only root can mount a small one");
        return;
    }
    let sshd = Sshd::start();
    let home = sshd.path("home");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=64k,nr_inodes=64", "none"])
        .arg(&home)
        .status();
    assert!(mounted.expect("mount is here").success());
    drop(std::fs::write(home.join("filler"), vec![1; 200_000]));
    let session = sshd.open().await.expect("it lets us in");
    let trace = sshd.path("trace");
    let (completion, _) = run(&*session, Some(&attempt("full")), &sh(&format!("touch {}", trace.display()))).await;
    session.close().await;
    let mut unmount = std::process::Command::new("umount");
    assert!(unmount.arg("-l").arg(&home).status().expect("umount is here").success());
    let Completion::NotStarted(obstacle) = completion else { panic!("{completion:?}") };
    assert_eq!(obstacle.kind, ObstacleKind::HostFull, "{}", obstacle.message);
    assert!(!trace.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_process_ends_with_the_session() {
    let sshd = Sshd::start();
    let session = sshd.open().await.expect("it lets us in");
    assert_eq!(sshd.connections().len(), 1);
    session.close().await;
    eventually("the connection ends", || sshd.connections().is_empty()).await;
    drop(sshd.open().await.expect("it lets us in"));
    eventually("the connection ends", || sshd.connections().is_empty()).await;
}

#[allow(clippy::print_stderr)]
fn eprintln_skip(what: &str) {
    eprintln!("SKIPPED: {what}");
}

/// An account that exists as long as the test.
struct Throwaway(String);

impl Throwaway {
    fn new() -> Self {
        let name = format!("rbtest{}", std::process::id());
        let mut useradd = std::process::Command::new("useradd");
        assert!(useradd.args(["-M", "-N", "-s", "/bin/sh", "-p", "*", &name]).status().expect("useradd").success());
        Self(name)
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        drop(std::process::Command::new("userdel").args(["-f", &self.0]).status());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_sudo_right_nothing_runs_and_with_it_the_account_is_the_other_one() {
    let has_sudo = std::process::Command::new("sudo").arg("-V").output().is_ok();
    if sshd::whoami() != "root" || !has_sudo {
        eprintln_skip("sudo: needs root, to make an account, and sudo");
        return;
    }
    let sshd = Sshd::start();
    let account = Throwaway::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(sshd.folder.path(), open).expect("scratch");
    let chown = std::process::Command::new("chown").arg(&account.0).arg(sshd.path("home")).status();
    assert!(chown.expect("chown").success());
    let session = sshd.ssh().open(&sshd.host(json!({"user": account.0})), LIMIT).await.expect("it lets us in");
    let trace = sshd.path("trace");
    for claim in [None, Some(attempt("sudo"))] {
        let mut invocation = sh(&format!("touch {}", trace.display()));
        invocation.account = Some("root".into());
        let (completion, kept) = run(&*session, claim.as_ref(), &invocation).await;
        let Completion::NotStarted(obstacle) = completion else { panic!("{completion:?}") };
        assert_eq!((obstacle.kind, kept), (ObstacleKind::Elevation, Kept::default()));
        assert!(obstacle.message.contains("sudo"), "{}", obstacle.message);
        assert!(!trace.exists());
    }
    session.close().await;

    // A folder for claims that belongs to somebody else is not used.
    let root = sshd.open().await.expect("it lets us in");
    let (completion, _) = run(&*root, Some(&attempt("foreign")), &sh("exit 0")).await;
    assert!(matches!(&completion, Completion::NotStarted(o) if o.message.contains("somebody else")), "{completion:?}");
    root.close().await;
    std::fs::remove_dir_all(sshd.path("home/.local")).expect("it was made");

    // The other way round: root may become anybody, also for a step with an environment, input and a stop.
    let session = sshd.open().await.expect("it lets us in");
    for claim in [None, Some(attempt("as"))] {
        let mut invocation = sh("id -un; printf '%s' \"$A\"; cat; exit 7");
        invocation.account = Some(account.0.clone());
        invocation.cwd = Some("/".into());
        invocation.env = vec![("A".into(), "it's ".into())];
        invocation.stdin = Some("in".into());
        let (completion, kept) = run(&*session, claim.as_ref(), &invocation).await;
        assert_eq!(completion, Completion::Exited(Exit::Code(7)));
        assert_eq!(String::from_utf8_lossy(&kept.stdout), format!("{}\nit's in", account.0));
        assert_eq!(String::from_utf8_lossy(&kept.stderr), "");
        if let Some(claim) = claim {
            let (mut kept, stop) = (Kept::default(), CancellationToken::new());
            let from = Offsets::default();
            let completion = session.follow(&claim, from, &mut kept, &stop, GRACE).await;
            assert_eq!(completion, Completion::Exited(Exit::Code(7)));
            assert_eq!(String::from_utf8_lossy(&kept.stdout), format!("{}\nit's in", account.0));
        }
    }
    for claim in [None, Some(attempt("stop-as"))] {
        let mut invocation = sh("trap '' TERM; echo begun; sleep 1000 & wait; sleep 1000");
        invocation.account = Some(account.0.clone());
        let stop = CancellationToken::new();
        let mut sink = StopWhenHeard(stop.clone());
        let completion = session.run(claim.as_ref(), &invocation, &mut sink, &stop, GRACE).await;
        assert_eq!(completion, Completion::Killed);
    }
    session.close().await;
}

struct StopWhenHeard(CancellationToken);

#[async_trait::async_trait]
impl runbook_ports::transport::OutputSink for StopWhenHeard {
    async fn write(&mut self, _: runbook_ports::transport::Stream, _: &[u8]) {
        self.0.cancel();
    }

    async fn cut_off(&mut self, _: runbook_ports::transport::Stream, by: &str) {
        panic!("{by} stands between ssh and its host");
    }
}
