//! What a step costs, as ratios within one run. Run by hand: `cargo test --release -p runbook-ssh --test measure --
//! --ignored --nocapture`. Nothing is asserted by time.
#![allow(clippy::print_stdout)]

mod sshd;

use std::sync::Arc;
use std::time::Duration;

use runbook_local::{Local, Settings};
use runbook_ports::transport::{Session, Transport};
use runbook_testkit::transport_suite::{attempt, run, sh};
use tokio::time::Instant;

const STEPS: u32 = 200;

/// Processor time of this process and of its children that have ended, in milliseconds: other programs disturb it less
/// than the time that passes.
fn processor_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    // utime, stime, cutime, cstime, in hundredths of a second.
    fields.skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

async fn ms(session: &dyn Session, claimed: bool, clear: bool) -> f64 {
    let invocation = sh(":");
    let ids: Vec<_> = (0..STEPS)
        .map(|_| attempt("m"))
        .map(|a| runbook_model::id::AttemptId { run: "m".into(), step: a.run.as_str().into(), ..a })
        .collect();
    let begin = Instant::now();
    for id in &ids {
        let _ = run(session, claimed.then_some(id), &invocation).await;
        if clear {
            let _ = session.clear(id).await;
        }
    }
    let took = begin.elapsed().as_secs_f64() * 1000.0 / f64::from(STEPS);
    if claimed && !clear {
        for id in &ids {
            let _ = session.clear(id).await;
        }
    }
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn steps() {
    let sshd = sshd::Sshd::start();
    let local =
        Local::new(Settings { home: Some(sshd.path("home")), ..Settings::default() }, Arc::new(sshd::WallClock));
    let here = local.open(&sshd.host(serde_json::json!({})), Duration::from_secs(5)).await.expect("here");
    let there = sshd.open().await.expect("there");
    for _ in 0..3 {
        let (begin, busy) = (Instant::now(), processor_ms());
        for _ in 0..STEPS {
            let mut command = tokio::process::Command::new("sh");
            drop(command.args(["-c", ":"]).status().await);
        }
        let fork = begin.elapsed().as_secs_f64() * 1000.0 / f64::from(STEPS);
        let fork_busy = processor_ms() - busy;
        let la = ms(&*here, false, false).await;
        let lc = ms(&*here, true, false).await;
        let busy = processor_ms();
        let lx = ms(&*here, true, true).await;
        let busy = (processor_ms() - busy) / fork_busy;
        // The barest exec there is: the constant command, told to end.
        let bare = {
            let begin = Instant::now();
            for _ in 0..STEPS {
                drop(there.check().await);
            }
            begin.elapsed().as_secs_f64() * 1000.0 / f64::from(STEPS)
        };
        let sa = ms(&*there, false, false).await;
        let sc = ms(&*there, true, false).await;
        let sx = ms(&*there, true, true).await;
        println!(
            "fork {fork:.2} ms | local attached {la:.2} ({:.1}x) claimed {lc:.2} ({:.1}x) +clear {lx:.2} ({:.1}x, processor {busy:.1}x)",
            la / fork,
            lc / fork,
            lx / fork
        );
        println!(
            "ssh exec of a shell {bare:.2} ms | attached {sa:.2} ({:.2}x) claimed {sc:.2} ({:.2}x) +clear {sx:.2} ({:.2}x)",
            sa / bare,
            sc / bare,
            sx / bare
        );
    }
}
