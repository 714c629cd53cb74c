//! A lab host with an account of its own for the login and another one for the step: what is stopped is gone, daemons of
//! either account included, and where that cannot be known nobody says so.

mod sshd;

use std::sync::Arc;
use std::time::Duration;

use runbook_model::host::Host;
use runbook_model::id::AttemptId;
use runbook_ports::transport::{Completion, Session, Transport};
use runbook_ssh::{Settings, Ssh};
use runbook_testkit::lab::{self, Lab, LabHost};
use runbook_testkit::transport_suite::{Kept, attempt, eventually, sh};
use tokio_util::sync::CancellationToken;

const GRACE: Duration = Duration::from_millis(500);

async fn session(lab: &Lab) -> Box<dyn Session> {
    let ssh = Ssh::new(Settings { config: Some(lab.ssh_config()), ..Settings::default() }, Arc::new(sshd::WallClock));
    let host: Host = serde_json::from_value(
        serde_json::json!({"name": "fs01", "transport": "ssh", "address": "fs01", "os": "linux"}),
    )
    .expect("a host");
    ssh.open(&host, Duration::from_secs(30)).await.expect("it answers")
}

/// How many processes of the host bear a mark with this text.
fn marked(host: &LabHost, text: &str) -> usize {
    let found = format!("grep -l -s -z -e '^RUNBOOK_ATTEMPT=.*{text}' /proc/[0-9]*/environ | wc -l");
    host.sh(&found).trim().parse().expect("a number")
}

/// Runs `text` as `account` until `enough` processes bear its mark, then has it stopped.
async fn stopped(
    session: &dyn Session,
    host: &LabHost,
    claim: &AttemptId,
    account: Option<&str>,
    text: &str,
    enough: usize,
    before_the_stop: impl FnOnce(),
) -> Completion {
    let mut invocation = sh(text);
    invocation.account = account.map(str::to_owned);
    let (mut kept, stop) = (Kept::default(), CancellationToken::new());
    let (completion, ()) = tokio::join!(session.run(Some(claim), &invocation, &mut kept, &stop, GRACE), async {
        eventually("all of it runs", || marked(host, claim.run.as_str()) >= enough).await;
        before_the_stop();
        stop.cancel();
    });
    completion
}

const DAEMONS: &str = "(setsid sh -c 'trap \"\" TERM; sleep 1000; :' &); (setsid sh -c 'sleep 1001 & exit' &); \
    nohup setsid sleep 1002 >/dev/null 2>&1 & sleep 1003";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn daemons_of_the_login_account_and_of_the_steps_are_gone() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).expect("a lab");
    let host = lab.host("fs01");
    let session = session(&lab).await;
    for account in [None, Some("root"), Some("nobody")] {
        let claim = attempt("daemons");
        let completion = stopped(&*session, host, &claim, account, DAEMONS, 5, || {}).await;
        assert_eq!(completion, Completion::Killed, "{account:?}");
        assert_eq!(marked(host, claim.run.as_str()), 0, "{account:?}");
        assert_eq!(host.try_sh("pgrep -f 'sleep 100[0-3]'").expect("it answers").stdout, "", "{account:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_step_started_as_root_by_itself_is_followed_as_long_as_its_parents_live() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).expect("a lab");
    let host = lab.host("fs01");
    let session = session(&lab).await;
    // `sudo` wipes the environment, and the login account may not signal what root runs: it is seen, and not gone.
    let claim = attempt("sudo");
    let text = "sudo -n setsid sh -c 'trap \"\" TERM; sleep 1000; :' & sleep 1001 & wait";
    let completion = stopped(&*session, host, &claim, None, text, 2, || {
        // Root's own is there.
        host.sh("until pgrep -u root -x sleep >/dev/null; do sleep 0.05; done");
    })
    .await;
    let Completion::Unknown(reason) = completion else { panic!("{completion:?}") };
    assert!(reason.contains("processes of it are left"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_look_it_is_unknown() {
    if !lab::require() {
        return;
    }
    let lab = Lab::with_hosts(&["fs01"]).expect("a lab");
    let host = lab.host("fs01");
    let session = session(&lab).await;
    let claim = attempt("blind");
    let text = "(setsid sleep 1000 &); sleep 1001 & wait";
    let completion = stopped(&*session, host, &claim, Some("root"), text, 2, || {
        host.sh(
            "chmod 000 /etc/sudoers.d; mv /etc/sudoers.d /etc/sudoers.gone; pkill -KILL -f 'sleep 100[0-9]' -g 0 || :",
        );
    })
    .await;
    let Completion::Unknown(reason) = completion else { panic!("{completion:?}") };
    assert!(reason.contains("left") || reason.contains("cannot be looked for"), "{reason}");
    assert!(marked(host, claim.run.as_str()) > 0);
}
