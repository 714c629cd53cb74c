//! What the driver does between the core and the world.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use runbook_driver::{Control, DriverError, Limits, RunState};
use runbook_model::outcome::{Ended, KilledBy, ObstacleKind, RunOutcome};
use runbook_model::plan::{Action, ExpectText, FileRef, Phase, Place, Retry, RetryClass, Role, Template, UploadFile};
use runbook_model::session::{Closing, Here, Process, SessionClose, There, WayIn};
use runbook_model::{AttemptOutcome, Event, Sha256};
use runbook_ports::person::Answer;
use runbook_ports::{BlobStore as _, Store as _};
use runbook_testkit::fake_transport::{Behaviour, Ending, Link, SERVICE};
use runbook_testkit::memory_store::AppendFault;
use support::*;

fn simple() -> Vec<runbook_model::plan::Step> {
    vec![
        step(Phase::Prechecks, "check", "check-it"),
        step(Phase::Execute, "change", "change-it"),
        step(Phase::Execute, "restart", "restart-it"),
        step(Phase::Verify, "proof", "prove-it"),
        undo("change", "undo-it"),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_well_and_its_ledger_verifies() {
    let bench = Bench::new();
    let result = bench.apply(plan(&["a", "b"], simple())).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded));
    assert_eq!(result.exit_code(), 0);
    let events = bench.events(RUN).await;
    assert!(matches!(&events[0], Event::RunOpened(header) if header.cells == 10));
    assert!(matches!(events.last(), Some(Event::RunEnded { outcome: RunOutcome::Succeeded, .. })));
    assert_eq!(bench.seen.records.lock().unwrap().len(), events.len(), "the observer saw every record once");
    let head = bench.store.head().await.unwrap();
    let checkpoints = bench.store.checkpoints().await.unwrap();
    assert_eq!(checkpoints.first().unwrap().size, 1.max(checkpoints[0].size));
    assert_eq!(checkpoints.last().unwrap().size, head.size, "the close is signed");
    assert!(bench.transport.left_over("a").is_empty(), "what attempts left on hosts is removed");
    assert_eq!(bench.transport.opened().len(), 2, "one session for all steps of a host");
    assert_eq!(bench.transport.closed().len(), 2);
    assert!(bench.store.holder(&RUN.into()).await.unwrap().is_none(), "the lease is given up");
}

#[tokio::test(start_paused = true)]
async fn intent_is_durable_before_its_effect() {
    let bench = Bench::new();
    let store = bench.store.clone();
    bench.transport.before_effects(move |effect| {
        let Some(attempt) = &effect.attempt else { return };
        let sealed = futures_now(store.records(&attempt.run, 0, usize::MAX)).unwrap();
        let started = sealed.iter().any(|sealed| {
            let event = runbook_ledger::record::parse(&sealed.bytes).unwrap().event;
            matches!(event, Event::AttemptStarted { attempt: id, .. } if id == *attempt)
        });
        assert!(started, "{attempt} began and was not on record");
    });
    bench.apply(plan(&["a", "b", "c"], simple())).await.unwrap();
    assert_eq!(bench.transport.count("change-it"), 3);
}

/// The fake store never waits.
fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("the fake store waited"),
    }
}

#[tokio::test(start_paused = true)]
async fn outcome_of_one_step_and_intent_of_the_next_share_an_append() {
    let bench = Bench::new();
    let steps: Vec<_> = (0..50).map(|i| step(Phase::Execute, &format!("s{i:02}"), "true")).collect();
    bench.apply(plan(&["a"], steps)).await.unwrap();
    // Open, connect, 50 steps with one append each, the close.
    let appends = bench.store.appends();
    assert!(appends <= 56, "{appends} appends for a chain of 50 steps");
}

#[tokio::test(start_paused = true)]
async fn many_hosts_share_appends() {
    let bench = Bench::new();
    let names: Vec<String> = (0..100).map(|i| format!("h{i:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    bench.transport.on(None, "", [Behaviour::exit(0).taking(Duration::from_millis(10))]);
    bench.apply(plan(&names, simple())).await.unwrap();
    let appends = bench.store.appends();
    assert!(appends <= 60, "{appends} appends for 100 hosts with 4 steps each");
}

#[tokio::test(start_paused = true)]
async fn a_failed_append_stops_everything_and_nothing_further_is_started() {
    // Whichever record cannot be written, no effect follows it.
    for n in 1.. {
        let bench = Bench::new();
        bench.store.break_from(n);
        let Err(error) = bench.apply(plan(&["a", "b"], simple())).await else {
            assert!(n > 5, "a run has more appends than {n}");
            break;
        };
        assert!(matches!(error, DriverError::Evidence { .. }), "{error:?}");
        assert_eq!(error.exit_code(), 9);
        let events = bench.events(RUN).await;
        for effect in bench.transport.effects() {
            let attempt = effect.attempt.map(|attempt| (attempt.step, attempt.host));
            let on_record = events.iter().any(|event| match event {
                Event::AttemptStarted { attempt: id, .. } => {
                    attempt.as_ref().is_none_or(|(step, host)| id.step == *step && id.host == *host)
                }
                _ => false,
            });
            assert!(on_record, "append {n} failed and {} began without a record", effect.text);
        }
        let opened = bench.transport.opened().len();
        assert_eq!(bench.transport.closed().len(), opened, "sessions are closed, so what runs attached ends");
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_lost_its_lease_stops() {
    let bench = Bench::new();
    bench.store.inject(3, AppendFault::FenceLost);
    let error = bench.apply(plan(&["a"], simple())).await.unwrap_err();
    assert!(matches!(error, DriverError::TakenOver(_)), "{error:?}");
    assert_eq!(bench.transport.count("change-it"), 0);
}

#[tokio::test(start_paused = true)]
async fn another_process_that_appends_meanwhile_does_no_harm() {
    let bench = Bench::new();
    for n in [1, 3, 4, 6] {
        bench.store.inject(n, AppendFault::HeadMoved);
    }
    let result = bench.apply(plan(&["a"], simple())).await.unwrap();
    assert_eq!(result.exit_code(), 0);
    let events = bench.events(RUN).await;
    assert!(matches!(events.last(), Some(Event::RunEnded { .. })));
    let attempts = events.iter().filter(|event| matches!(event, Event::AttemptStarted { .. })).count();
    assert_eq!(attempts, 4, "no event was stored twice");
}

#[tokio::test(start_paused = true)]
async fn a_held_host_refuses_the_run_and_names_the_holder() {
    let bench = Bench::new();
    let other = bench.store.another_process();
    other.lease(&"other".into(), "raj", &["b".into()], 0).await.unwrap();
    let error = bench.apply(plan(&["a", "b"], simple())).await.unwrap_err();
    assert!(matches!(&error, DriverError::Held { what, by } if what == "host b" && by.operator == "raj"), "{error}");
    assert_eq!(error.exit_code(), 3);
    assert!(bench.transport.opened().is_empty());
}

#[tokio::test(start_paused = true)]
async fn with_wait_a_run_begins_once_the_host_is_free() {
    let bench = Bench::new();
    let other = bench.store.another_process();
    let fence = other.lease(&"other".into(), "raj", &["a".into()], 0).await.unwrap();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        other.release(&"other".into(), fence).await.unwrap();
    });
    let mut request = bench.request(RUN);
    request.wait = true;
    let result = bench.engine().apply(plan(&["a"], simple()), request, &bench.control).await.unwrap();
    assert_eq!(result.exit_code(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_takes_too_long_is_ended_and_taken_back() {
    let bench = Bench::new();
    bench.transport.on(None, "change-it", [Behaviour::hangs()]);
    let result = bench.apply(plan(&["a"], simple())).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::RolledBack));
    let report = bench.report("change", "a").await;
    assert_eq!(report.ended, Ended::Killed { by: KilledBy::Timeout });
    assert_eq!(report.duration_ms, 600_000);
    assert_eq!(bench.transport.count("undo-it"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_proved_gone_is_unknown() {
    let bench = Bench::new();
    let ending = Ending::CannotBeStopped;
    bench.transport.on(None, "change-it", [Behaviour { ending, ..Behaviour::exit(0) }]);
    bench.apply(plan(&["a"], simple())).await.unwrap();
    let report = bench.report("change", "a").await;
    assert!(matches!(report.ended, Ended::Unknown { .. }), "{:?}", report.ended);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_brings_the_true_exit_and_all_of_the_output() {
    let bench = Bench::new();
    let text = b"0123456789".repeat(20_000);
    let pieces = text.chunks(7_001).map(<[u8]>::to_vec).collect();
    let cut = Behaviour { stdout: pieces, ending: Ending::Exit(7), ..Behaviour::exit(0) }
        .taking(Duration::from_secs(30))
        .over(Link::LostAfter(123_456));
    bench.transport.on(None, "change-it", [cut]);
    bench.apply(plan(&["a"], simple())).await.unwrap();
    let report = bench.report("change", "a").await;
    assert!(matches!(&report.ended, Ended::Exited { exit: runbook_model::outcome::Exit::Code(7), .. }));
    assert_eq!(report.stdout.sha256, None, "a digest of the content itself is not on record");
    assert_eq!(bench.output(&report.stdout).await, text);
    assert_eq!(bench.transport.count("change-it"), 1, "it was not started twice");
    assert_eq!(report.duration_ms, 30_000);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_never_arrived_is_proved_not_started() {
    let bench = Bench::new();
    let lost = Behaviour::exit(0).over(Link::LostBeforeStart);
    bench.transport.on(None, "change-it", [lost]);
    bench.apply(plan(&["a"], simple())).await.unwrap();
    let report = bench.report("change", "a").await;
    assert!(matches!(report.ended, Ended::NotStarted { .. }), "{:?}", report.ended);
    assert_eq!(bench.transport.count("change-it"), 0);
    assert_eq!(bench.transport.count("undo-it"), 0, "what did not begin is not taken back");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_died_between_two_steps_is_opened_again() {
    let bench = Bench::new();
    let dead = Behaviour::exit(0).over(Link::NotStarted(ObstacleKind::Session));
    bench.transport.on(None, "restart-it", [dead, Behaviour::exit(0)]);
    let result = bench.apply(plan(&["a"], simple())).await.unwrap();
    assert_eq!(result.exit_code(), 0);
    assert_eq!(bench.transport.opened().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_host_is_blocked() {
    let bench = Bench::new();
    bench.transport.refuse("a", Some(ObstacleKind::Unreachable));
    let result = bench.apply(plan(&["a"], simple())).await.unwrap();
    assert_eq!(result.exit_code(), 3);
    assert!(bench.transport.effects().is_empty());
}

#[tokio::test(start_paused = true)]
async fn cancel_ends_what_runs_and_takes_it_back() {
    let bench = Bench::new();
    bench.transport.on(None, "restart-it", [Behaviour::hangs()]);
    let control = bench.control.clone();
    bench.transport.before_effects(move |effect| {
        if effect.text == "restart-it" {
            control.cancel(ada());
        }
    });
    let result = bench.apply(plan(&["a"], simple())).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Cancelled));
    assert_eq!(bench.report("restart", "a").await.ended, Ended::Killed { by: KilledBy::Cancel });
    assert_eq!(bench.transport.count("undo-it"), 1);
    assert_eq!(bench.transport.count("prove-it"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_left_goes_on_after_a_resume() {
    let bench = Bench::new();
    bench.transport.on(None, "change-it", [Behaviour::prints("done").taking(Duration::from_secs(100))]);
    let control = bench.control.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(10)).await;
        control.detach();
    });
    let left = bench.apply(plan(&["a"], simple())).await.unwrap();
    assert_eq!((left.state, left.exit_code()), (RunState::Detached, 7));
    let control = runbook_driver::Control::new();
    let result = bench.engine().resume(&RUN.into(), ada(), &runbook_testkit::unrestricted(), &control).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded));
    assert_eq!(bench.transport.count("change-it"), 1);
    assert_eq!(bench.output(&bench.report("change", "a").await.stdout).await, b"done");
    // Another program may have taken it up than the one that opened it.
    let events = bench.events(RUN).await;
    let Some(Event::RunOpened(header)) = events.first() else { panic!("{events:?}") };
    let resumed = events.iter().find_map(|event| match event {
        Event::RunResumed { on, .. } => on.as_deref(),
        _ => None,
    });
    assert_eq!(resumed.unwrap().engine_sha256, Sha256::of(b"another engine"));
    assert_ne!(resumed.unwrap().engine_sha256, header.engine_sha256);
    let Some(Event::RunEnded { clock: Some(clock), .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(clock.source, "tests", "the clock is asked at the end too");
}

#[tokio::test(start_paused = true)]
async fn retries_wait_for_their_time() {
    let bench = Bench::new();
    let locked = Behaviour { stderr: b"lock held".to_vec(), ..Behaviour::exit(100) };
    bench.transport.on(None, "change-it", [locked.clone(), locked, Behaviour::exit(0)]);
    let mut steps = simple();
    steps[1].retry = Retry {
        attempts: 3,
        delay_ms: 30_000,
        backoff_permille: 2_000,
        delay_ms_max: 0,
        on: vec![RetryClass::LockHeld],
    };
    let begin = tokio::time::Instant::now();
    let result = bench.apply(plan(&["a"], steps)).await.unwrap();
    assert_eq!(result.exit_code(), 0);
    assert_eq!(bench.transport.count("change-it"), 3);
    assert_eq!(begin.elapsed().as_secs(), 90);
}

#[tokio::test(start_paused = true)]
async fn results_of_steps_can_be_used_and_are_whole_or_refused() {
    let bench = Bench::new();
    bench.transport.on(None, "list-it", [Behaviour::prints("one two\n")]);
    let mut large = Behaviour::prints(vec![b'x'; 3 << 20]);
    large.stdout = large.stdout[0].chunks(50_000).map(<[u8]>::to_vec).collect();
    bench.transport.on(None, "large-it", [large]);
    let steps = vec![
        step(Phase::Execute, "list", "list-it"),
        step(Phase::Execute, "use", "install {{steps.list.stdout}}"),
        step(Phase::Execute, "big", "large-it"),
        step(Phase::Execute, "misuse", "print {{steps.big.stdout}}"),
    ];
    bench.apply(plan(&["a"], steps)).await.unwrap();
    assert_eq!(bench.transport.count("install one two"), 1);
    assert_eq!(bench.transport.count("print"), 0, "half an output is never used as if it were whole");
    let big = bench.report("big", "a").await;
    assert_eq!((big.stdout.bytes, big.stdout.truncated), (3 << 20, false));
    assert_eq!(bench.output(&big.stdout).await.len(), 3 << 20);
}

#[tokio::test(start_paused = true)]
async fn case_26_an_output_that_a_service_cut_off_is_never_taken_for_whole() {
    let bench = Bench::new();
    let text = "line of output\n".repeat(1_601);
    let through = |text: &str| Behaviour { passes_on: Some(24_000), ..Behaviour::prints(text) };
    bench.transport.on(None, "list-it", [through(&text)]);
    bench.transport.on(None, "fits", [through(&text[..24_000])]);
    let mut judged = step(Phase::Execute, "judged", "list-it again");
    judged.expect.stdout = Some(ExpectText { contains: vec![Template("line of".into())], ..ExpectText::default() });
    let steps = vec![
        step(Phase::Execute, "fits", "fits"),
        step(Phase::Execute, "cut", "list-it"),
        step(Phase::Execute, "use", "install {{steps.cut.stdout}}"),
    ];
    bench.apply(plan(&["a"], steps)).await.unwrap();
    let fits = bench.report("fits", "a").await.stdout;
    assert_eq!((fits.bytes, fits.truncated, fits.cut_off_by), (24_000, false, None));
    let cut = bench.report("cut", "a").await.stdout;
    assert_eq!((cut.bytes, cut.truncated, cut.cut_off_by.as_deref()), (24_000, true, Some(SERVICE)));
    assert_eq!(cut.sha256, None, "what came is kept, and a short content is not to be guessed");
    assert_eq!(bench.output(&cut).await, text.as_bytes()[..24_000]);
    assert_eq!(bench.transport.count("install"), 0, "a part is never used as if it were the whole");

    // What is expected of it is not met, although the part that came would do.
    let bench = Bench { store: Default::default(), seen: Arc::default(), ..bench_like(&bench) };
    bench.apply(plan(&["a"], vec![judged])).await.unwrap();
    let report = bench.report("judged", "a").await;
    assert!(matches!(&report.ended, Ended::Exited { unmet, .. } if !unmet.is_empty()), "{:?}", report.ended);
}

#[tokio::test(start_paused = true)]
async fn output_beyond_the_limit_keeps_head_and_tail_and_the_whole_digest() {
    let bench = Bench::new();
    let text: Vec<u8> = (0..200_000u32).flat_map(|i| format!("{i:09}\n").into_bytes()).collect();
    let pieces = text.chunks(65_537).map(<[u8]>::to_vec).collect();
    bench.transport.on(None, "change-it", [Behaviour { stdout: pieces, ..Behaviour::exit(0) }]);
    for limit in [1_000u64, 100_000, 1_000_000] {
        let bench = Bench { store: Default::default(), seen: Arc::default(), ..bench_like(&bench) };
        let mut steps = simple();
        steps[1].output_bytes_max = limit;
        steps[1].expect.stdout =
            Some(ExpectText { contains: vec![Template("000000000".into())], ..ExpectText::default() });
        bench.apply(plan(&["a"], steps)).await.unwrap();
        let report = bench.report("change", "a").await;
        assert_eq!((report.stdout.bytes, report.stdout.truncated), (2_000_000, true));
        assert_eq!(report.stdout.sha256, Some(Sha256::of(&text)));
        let kept = bench.output(&report.stdout).await;
        assert_eq!(kept.len() as u64, limit);
        let tail = (limit / 2).min(256 << 10) as usize;
        assert_eq!(kept[..kept.len() - tail], text[..kept.len() - tail]);
        assert_eq!(kept[kept.len() - tail..], text[text.len() - tail..]);
        assert!(
            matches!(&report.ended, Ended::Exited { unmet, .. } if !unmet.is_empty()),
            "an expectation on half an output is not met"
        );
    }
}

fn bench_like(bench: &Bench) -> Bench {
    let transport = bench.transport.clone();
    Bench { transport, ..Bench::new() }
}

#[tokio::test(start_paused = true)]
async fn secrets_reach_the_host_in_the_environment_and_nobody_else() {
    let bench = Bench::new();
    let echo = Behaviour {
        stdout: vec![b"the password is hunter2".to_vec(), b"secret, really".to_vec()],
        ..Behaviour::exit(1)
    };
    bench.transport.on(None, "login", [echo]);
    bench.apply(plan(&["a"], vec![step(Phase::Execute, "login", "login {{secret.pw}}")])).await.unwrap();
    let effect = &bench.transport.effects()[0];
    assert_eq!(effect.text, "login $RUNBOOK_SECRET_pw");
    assert_eq!(effect.env["RUNBOOK_SECRET_pw"], "hunter2secret");
    let report = bench.report("login", "a").await;
    assert_eq!(report.stdout.masked, 1);
    assert_eq!(bench.output(&report.stdout).await, b"the password is ***, really");
    assert_eq!(*bench.seen.output.lock().unwrap(), b"the password is ***, really");
    for sealed in bench.store.ledger(0, usize::MAX).await.unwrap() {
        assert!(!String::from_utf8(sealed.bytes).unwrap().contains("hunter2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sensitive_output_leaves_only_a_salted_digest() {
    let bench = Bench::new();
    bench.transport.on(None, "change-it", [Behaviour::prints("top secret")]);
    let mut steps = simple();
    steps[1].sensitive = true;
    bench.apply(plan(&["a"], steps)).await.unwrap();
    let report = bench.report("change", "a").await;
    assert_eq!((report.stdout.bytes, report.stdout.blob), (10, None));
    assert_eq!((report.stdout.sha256, report.stdout.segments), (None, 1));
    let root = report.stdout.root.unwrap();
    assert_ne!(root, runbook_ledger::tree::leaf_hash(b"top secret"));
    assert!(!bench.store.has(&Sha256::of(b"top secret")).await.unwrap());
    assert!(bench.seen.output.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_output_that_cannot_be_kept_stops_the_run() {
    let bench = Bench::new();
    let store = bench.store.clone();
    bench.transport.on(None, "change-it", [Behaviour::prints(vec![b'x'; 100_000])]);
    bench.transport.before_effects(move |effect| {
        if effect.text == "change-it" {
            store.break_blobs(true);
        }
    });
    let error = bench.apply(plan(&["a"], simple())).await.unwrap_err();
    assert!(matches!(error, DriverError::Evidence { .. }), "{error}");
    assert_eq!(bench.transport.count("restart-it"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_the_plans_is_refused_before_anything() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("new"), "other").unwrap();
    let bench = Bench { files: folder.path().to_owned(), ..Bench::new() };
    let mut plan = plan(&["a"], simple());
    plan.files.insert(Sha256::of(b"content"), FileRef { path: "new".into(), bytes: 7 });
    let error = bench.apply(plan.clone()).await.unwrap_err();
    assert!(matches!(error, DriverError::FileChanged { .. }), "{error}");
    assert_eq!(error.exit_code(), 2);
    std::fs::remove_file(folder.path().join("new")).unwrap();
    let error = bench.apply(plan).await.unwrap_err();
    assert!(matches!(error, DriverError::FileMissing { .. }), "{error}");
    assert_eq!(bench.store.appends(), 0);
    assert!(bench.transport.opened().is_empty());
}

#[tokio::test(start_paused = true)]
async fn files_go_and_come_whole_over_a_link_that_breaks() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("new"), "content").unwrap();
    let bench = Bench { files: folder.path().to_owned(), ..Bench::new() };
    bench.transport.cut_transfers("a", 2);
    bench.transport.put_file("a", "/var/log/x", b"log");
    let sha256 = Sha256::of(b"content");
    let files = [("".to_owned(), UploadFile { sha256, mode: 0o644 })].into();
    let upload = Action::Upload { files, to: Template("/etc/new".into()), owner: None, group: None };
    let download = Action::Download { from: Template("/var/log/x".into()), max_bytes: 100 };
    let mut plan =
        plan(&["a"], vec![acting(Phase::Execute, "send", upload), acting(Phase::Execute, "fetch", download)]);
    plan.files.insert(sha256, FileRef { path: "new".into(), bytes: 7 });
    let result = bench.apply(plan).await.unwrap();
    assert_eq!(result.exit_code(), 0);
    assert_eq!(bench.transport.file("a", "/etc/new").unwrap(), b"content");
    let transfers = bench.blob(bench.report("fetch", "a").await.transfers).await;
    let transfers: Vec<runbook_model::event::Transfer> = serde_json::from_slice(&transfers).unwrap();
    assert_eq!(bench.blob(transfers[0].blob).await, b"log");
}

#[tokio::test(start_paused = true)]
async fn a_reboot_is_done_when_the_boot_id_has_changed() {
    let bench = Bench::new();
    let away = Duration::from_secs(90);
    let reboots = Behaviour { ending: Ending::Reboots(away), ..Behaviour::exit(0) }.taking(Duration::from_secs(1));
    bench.transport.on(None, "systemctl reboot", [reboots]);
    let steps = vec![
        acting(Phase::Execute, "boot", Action::Reboot { timeout_ms: 600_000, settle_ms: 5_000 }),
        step(Phase::Execute, "after", "after-it"),
    ];
    let result = bench.apply(plan(&["a"], steps)).await.unwrap();
    assert_eq!(result.exit_code(), 0);
    assert_eq!(bench.transport.count("systemctl reboot"), 1);
    let report = bench.report("boot", "a").await;
    assert_eq!(bench.output(&report.stdout).await, b"boot id before: boot-0\nboot id after: boot-1\n");
    assert_eq!(bench.transport.count("after-it"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_reboot_is_not_taken_for_rebooted() {
    let bench = Bench::new();
    let steps = vec![acting(Phase::Execute, "boot", Action::Reboot { timeout_ms: 60_000, settle_ms: 0 })];
    bench.apply(plan(&["a"], steps)).await.unwrap();
    let report = bench.report("boot", "a").await;
    assert!(matches!(report.ended, Ended::Unknown { .. }), "{:?}", report.ended);
}

#[tokio::test(start_paused = true)]
async fn waits_end_with_their_time_or_their_condition() {
    let bench = Bench::new();
    bench.transport.on(None, "is-up", [Behaviour::exit(1), Behaviour::exit(1), Behaviour::prints("up")]);
    bench.transport.on(None, "is-never", [Behaviour::exit(3)]);
    let until = |text: &str| Action::WaitUntil { for_ms: 60_000, until: Template(text.into()), every_ms: 5_000 };
    let steps = vec![
        acting(Phase::Execute, "pause", Action::Wait { ms: 1_800_000 }),
        acting(Phase::Execute, "up", until("is-up")),
        acting(Phase::Execute, "never", until("is-never")),
    ];
    let begin = tokio::time::Instant::now();
    bench.apply(plan(&["a"], steps)).await.unwrap();
    assert_eq!(bench.report("pause", "a").await.duration_ms, 1_800_000);
    assert_eq!(bench.report("up", "a").await.duration_ms, 10_000);
    let never = bench.report("never", "a").await;
    assert!(matches!(&never.ended, Ended::Exited { unmet, .. } if unmet[0].contains("exit code 3")), "{never:?}");
    assert_eq!(begin.elapsed().as_secs(), 1_800 + 10 + 60);
}

#[tokio::test(start_paused = true)]
async fn a_person_confirms_refuses_or_cannot_be_asked() {
    for (answer, outcome) in [
        (Answer::Confirmed(ada()), AttemptOutcome::Succeeded),
        (Answer::Refused(ada(), "not today".into()), AttemptOutcome::Failed),
        (Answer::Nobody("no terminal".into()), AttemptOutcome::NotStarted),
    ] {
        let bench = Bench { confirm: answer, ..Bench::new() };
        let steps = vec![acting(Phase::Execute, "ask", Action::Confirm { text: Template("Go?".into()) })];
        bench.apply(plan(&["a"], steps)).await.unwrap();
        let events = bench.events(RUN).await;
        assert!(events.iter().any(|event| matches!(event, Event::AttemptEnded { outcome: o, .. } if *o == outcome)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_already_done_is_skipped() {
    let bench = Bench::new();
    bench.transport.on(None, "is-done", [Behaviour::exit(0)]);
    bench.transport.on(None, "is-open", [Behaviour::exit(1)]);
    let mut steps = vec![step(Phase::Execute, "one", "do-one"), step(Phase::Execute, "two", "do-two")];
    for (step, unless) in steps.iter_mut().zip(["is-done", "is-open"]) {
        step.unless = Some(runbook_model::plan::Work::Any(Action::Run {
            command: Template(unless.into()),
            shell: None,
            strict: true,
        }));
    }
    bench.apply(plan(&["a"], steps)).await.unwrap();
    assert_eq!((bench.transport.count("do-one"), bench.transport.count("do-two")), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn connections_and_handshakes_are_bounded_and_no_host_starves() {
    let mut bench = Bench::new();
    bench.limits.connections_max = 8;
    bench.limits.handshakes_max = 3;
    let names: Vec<String> = (0..60).map(|i| format!("h{i:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in &names {
        bench.transport.opening_takes(name, Duration::from_millis(20));
    }
    bench.transport.on(None, "", [Behaviour::exit(0).taking(Duration::from_secs(1))]);
    let result = bench.apply(plan(&names, simple())).await.unwrap();
    assert_eq!(result.exit_code(), 0);
    let (open, opening) = bench.transport.most_at_once();
    assert!(open <= 8, "{open} sessions were open at once");
    assert!(opening <= 3, "{opening} handshakes were under way at once");
}

#[tokio::test(start_paused = true)]
async fn a_finished_run_is_taken_back_by_a_new_one_and_its_snapshots_are_released() {
    let bench = Bench::new();
    bench.transport.on(None, "take-it", [Behaviour::prints("creating\nsnap-42\n")]);
    let mut steps = simple();
    let role = |role: Role, phase, id: &str, text: &str| runbook_model::plan::Step { role, ..step(phase, id, text) };
    let of = || "data".into();
    steps.push(role(Role::Take, Phase::Snapshot, "data", "take-it"));
    steps.push(role(Role::Probe { of: of() }, Phase::Snapshot, "data.probe", "probe-it {{snapshot.reference}}"));
    steps.push(role(Role::Release { of: of() }, Phase::Snapshot, "data.release", "release-it {{snapshot.reference}}"));
    let mut plan = plan(&["a"], steps);
    let release = plan.steps.iter_mut().find(|step| step.id.as_str() == "data.release").unwrap();
    release.needs.clear();
    assert_eq!(bench.apply(plan).await.unwrap().exit_code(), 0);
    assert_eq!(bench.transport.count("probe-it snap-42"), 1);

    let again = "019aab00-0000-7000-8000-000000000002";
    let control = runbook_driver::Control::new();
    let engine = bench.engine();
    let result = engine.roll_back(&RUN.into(), bench.request(again), &control).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::RolledBack), "{:?}", bench.events(again).await);
    assert_eq!(bench.transport.count("undo-it"), 1);
    assert_eq!(engine.load(&again.into()).await.unwrap().header.takes_back, Some(RUN.into()));

    let released = engine.release_snapshots(&RUN.into(), None, ada()).await.unwrap();
    assert_eq!(released.len(), 1);
    assert_eq!(bench.transport.count("release-it snap-42"), 1);
    assert!(engine.release_snapshots(&RUN.into(), None, ada()).await.unwrap().is_empty(), "once is enough");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_settled_by_an_operator_and_the_run_goes_on() {
    let bench = Bench::new();
    let ending = Ending::CannotBeStopped;
    bench.transport.on(None, "change-it", [Behaviour { ending, ..Behaviour::exit(0) }]);
    let mut steps = simple();
    // Without a way back an unknown outcome waits for a person.
    steps.pop();
    steps[1].on_failure = runbook_model::plan::OnFailure::Halt;
    let result = bench.apply(plan(&["a"], steps)).await.unwrap();
    assert!(result.suspended(), "{result:?}");
    let engine = bench.engine();
    let run = RUN.into();
    let resolve = |step: &'static str| engine.resolve(&run, "a".into(), step.into(), true, "saw it".into(), ada());
    assert!(matches!(resolve("check").await, Err(DriverError::NothingToResolve { .. })));
    resolve("change").await.unwrap();
    let control = runbook_driver::Control::new();
    let result = bench.engine().resume(&RUN.into(), ada(), &runbook_testkit::unrestricted(), &control).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded), "{:#?}", bench.events(RUN).await);
    assert_eq!(bench.transport.count("change-it"), 1);
    let again =
        bench.engine().resume(&RUN.into(), ada(), &runbook_testkit::unrestricted(), &control).await.unwrap_err();
    assert!(matches!(again, DriverError::Ended { .. }));
}

#[tokio::test(start_paused = true)]
async fn heads_are_signed_while_a_long_run_works() {
    let bench = Bench::new();
    bench.transport.on(None, "", [Behaviour::exit(0).taking(Duration::from_secs(10))]);
    let sizes = Arc::new(AtomicUsize::new(0));
    bench.apply(plan(&["a"], simple())).await.unwrap();
    sizes.store(bench.store.checkpoints().await.unwrap().len(), Ordering::SeqCst);
    // 4 steps of 10 s with one append each and quiet in between, the opening and the close.
    assert!((5..=10).contains(&sizes.load(Ordering::SeqCst)), "{sizes:?} heads");
}

#[tokio::test(start_paused = true)]
async fn thousands_of_hosts_are_a_normal_run() {
    let mut bench = Bench::new();
    bench.limits.connections_max = 100;
    let names: Vec<String> = (0..2_000).map(|i| format!("h{i:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut plan = plan(&names, vec![step(Phase::Execute, "change", "change-it")]);
    plan.parallel = 500;
    let result = bench.apply(plan).await.unwrap();
    assert_eq!(result.exit_code(), 0);
    assert_eq!(bench.transport.count("change-it"), 2_000);
    assert!(bench.transport.most_at_once().0 <= 100);
}

#[tokio::test(start_paused = true)]
async fn what_was_unknown_is_asked_after_by_a_resume_with_the_texts_with_which_it_was_begun() {
    let bench = Bench::new();
    bench.transport.on(None, "list-it", [Behaviour::prints("a b\n")]);
    let lost = Behaviour::prints("done\n").taking(Duration::from_secs(60)).over(Link::LostAfter(0));
    bench.transport.on(None, "change-it", [lost]);
    let hosts = bench.transport.clone();
    bench.transport.before_effects(move |effect| {
        if effect.text.contains("change-it") {
            let hosts = hosts.clone();
            tokio::spawn(async move { hosts.refuse("a", Some(ObstacleKind::Unreachable)) });
        }
    });
    let mut change = step(Phase::Execute, "change", "change-it {{steps.list.stdout}}");
    change.on_failure = runbook_model::plan::OnFailure::Halt;
    let steps = vec![step(Phase::Execute, "list", "list-it"), change, step(Phase::Verify, "proof", "prove-it")];
    let plan = plan(&["a"], steps);
    let budget_ms = plan.rollback.budget_ms;
    let result = bench.apply(plan).await.unwrap();
    assert_eq!(result.state, RunState::Suspended(RunOutcome::Unknown));
    let events = bench.events(RUN).await;
    let limit_ms = events.iter().find_map(|event| match event {
        Event::AttemptLost { deadline_ms, .. } => Some(*deadline_ms),
        _ => None,
    });
    let report = bench.report("change", "a").await;
    assert!(report.ended_ms >= limit_ms.unwrap(), "it was asked after until the limit");
    assert!(report.ended_ms - report.started_ms >= budget_ms, "and that is the rollback's budget");
    bench.transport.refuse("a", None);
    let result =
        bench.engine().resume(&RUN.into(), ada(), &runbook_testkit::unrestricted(), &Control::new()).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded));
    assert_eq!(bench.transport.count("change-it a b"), 1, "it ran once");
}

/// The ends of sessions on record, by host.
fn closes(events: &[Event]) -> Vec<(String, SessionClose)> {
    let closed = events.iter().filter_map(|event| match event {
        Event::SessionClosed { host, closed } => Some((host.to_string(), (**closed).clone())),
        _ => None,
    });
    closed.collect()
}

fn there(close: &SessionClose) -> Vec<There> {
    close.connections.iter().map(|connection| connection.there.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_session_has_an_end_on_record_before_the_runs() {
    let bench = Bench::new();
    bench.apply(plan(&["a", "b"], simple())).await.unwrap();
    let events = bench.events(RUN).await;
    assert!(matches!(events.last(), Some(Event::RunEnded { .. })));
    let closes = closes(&events);
    let hosts: Vec<&str> = closes.iter().map(|(host, _)| host.as_str()).collect();
    assert_eq!(hosts, ["a", "b"]);
    for (host, close) in &closes {
        // The precheck, the change, the restart, the verification.
        assert_eq!((close.attempts, there(close)), (4, vec![There::LastWord]), "{host}");
        let [connection] = close.connections.as_slice() else { panic!("{close:?}") };
        assert_eq!((&connection.why, &connection.here), (&Closing::Done, &Here::Ended));
        assert!(connection.identity.is_none(), "the record of its opening says who answered");
        assert!(close.is_proved());
    }
    assert_eq!(bench.transport.looks().len(), 2, "one question for each host");
    assert!(bench.transport.left_over("a").is_empty(), "which removes what attempts left as well");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_broke_is_a_connection_of_its_own_and_is_looked_for() {
    let bench = Bench::new();
    let lost = Behaviour { link: Link::LostAfter(2), ..Behaviour::prints("whole") };
    bench.transport.on(None, "change-it", [lost.taking(Duration::from_secs(5))]);
    bench.apply(plan(&["a"], simple())).await.unwrap();
    let closes = closes(&bench.events(RUN).await);
    let close = &closes[0].1;
    let why: Vec<&Closing> = close.connections.iter().map(|connection| &connection.why).collect();
    assert_eq!(why, [&Closing::Lost, &Closing::Done]);
    assert_eq!(there(close), [There::Gone, There::LastWord]);
    assert!(close.connections[1].identity.is_some(), "who answered the second time is nowhere else");
    assert_eq!(bench.transport.looks(), [("a".into(), vec!["1:0".to_owned()])], "the first is asked after by name");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_the_host_keeps_open_fails_the_run() {
    let bench = Bench::new();
    let lost = Behaviour { link: Link::LostAfter(2), ..Behaviour::prints("whole") };
    bench.transport.on(None, "change-it", [lost]);
    bench.transport.stay_open("a");
    let result = bench.apply(plan(&["a", "b"], simple())).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Failed));
    let events = bench.events(RUN).await;
    let outcome = |host: &str| {
        events.iter().find_map(|event| match event {
            Event::HostEnded { host: of, outcome, .. } if of.as_str() == host => Some(*outcome),
            _ => None,
        })
    };
    assert_eq!(outcome("a"), Some(RunOutcome::Succeeded), "the change is as good as it was");
    let left = closes(&events)[0].1.left().unwrap_or_default();
    assert!(left.contains("the host still has a process of a connection"), "{left}");
}

#[tokio::test(start_paused = true)]
async fn a_way_back_in_that_a_step_left_fails_the_run() {
    let bench = Bench::new();
    bench.transport.leave_behind("a", Process { pid: 7, name: "tmux: server".into(), how: WayIn::Terminal });
    let result = bench.apply(plan(&["a"], simple())).await.unwrap();
    assert_eq!((result.state, result.exit_code()), (RunState::Ended(RunOutcome::Failed), 4));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_does_not_answer_at_the_end_is_unknown_and_fails_nothing() {
    let bench = Bench::new();
    let transport = bench.transport.clone();
    // It goes away with the last step.
    bench.transport.before_effects(move |effect| {
        if effect.text.contains("prove-it") {
            transport.go_away_soon("a", Duration::from_secs(1));
        }
    });
    bench.transport.on(None, "prove-it", [Behaviour::exit(0).taking(Duration::from_millis(900))]);
    let mut steps = simple();
    steps.push(acting(Phase::Finally, "pause", Action::Wait { ms: 5_000 }));
    let result = bench.apply(plan(&["a"], steps)).await.unwrap();
    assert_eq!(result.state, RunState::Ended(RunOutcome::Succeeded));
    let close = &closes(&bench.events(RUN).await)[0].1;
    assert!(close.left().is_none() && close.look.at_ms.is_none(), "{close:?}");
    assert!(close.unknown().is_some_and(|why| why.contains("a")), "{close:?}");
}

#[tokio::test(start_paused = true)]
async fn asked_afterwards_the_host_tells_of_the_last_connection_too() {
    let bench = Bench { limits: Limits { check_closed: true, ..Limits::default() }, ..Bench::new() };
    bench.apply(plan(&["a"], simple())).await.unwrap();
    let close = &closes(&bench.events(RUN).await)[0].1;
    assert_eq!(there(close), [There::Gone, There::LastWord]);
    assert!(close.look.afterwards);
    assert_eq!((bench.transport.opened().len(), bench.transport.closed().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn sessions_to_places_that_are_no_hosts_of_the_run_are_closed_on_record_too() {
    let bench = Bench::new();
    let mut steps = simple();
    steps[1].on = Place::Named(Box::new(host("proxy")));
    bench.apply(plan(&["a"], steps)).await.unwrap();
    let closes = closes(&bench.events(RUN).await);
    let hosts: Vec<&str> = closes.iter().map(|(host, _)| host.as_str()).collect();
    assert_eq!(hosts, ["a", "proxy"]);
    assert_eq!(closes[1].1.attempts, 1);
    assert!(closes[1].1.connections[0].identity.is_some(), "no other record says who answered there");
    assert!(bench.transport.left_over("proxy").is_empty());
}
