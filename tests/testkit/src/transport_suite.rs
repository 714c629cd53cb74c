//! What every transport to a POSIX host promises, as tests. [`transport_suite!`](crate::transport_suite!) makes one test
//! per promise. The host must be this machine (over whatever way), so that a test can look at what happened.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use runbook_model::Sha256;
use runbook_model::id::AttemptId;
use runbook_model::outcome::{Exit, ObstacleKind};
use runbook_model::shell::ShellKind;
use runbook_ports::transport::{
    Completion, Invocation, Offsets, OutputSink, Probe, Program, Session, Stream, Transferred, UploadTarget,
};
use runbook_ports::{LeftoverState, SecretBytes};
use tokio_util::sync::CancellationToken;

/// A transport under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// A new session to the host.
    async fn session(&self) -> Box<dyn Session>;

    /// A folder that the test and the host both see.
    fn scratch(&self) -> &Path;
}

/// One test per promise; `$setup` is an async function that gives a [`Subject`].
#[macro_export]
macro_rules! transport_suite {
    ($setup:path) => {
        $crate::transport_suite!($setup;
            exits_are_true,
            signals_are_told_from_codes,
            outputs_are_apart_and_byte_exact,
            long_output_is_complete,
            values_arrive_byte_exact,
            nothing_of_a_step_is_on_a_command_line,
            no_stdin_is_an_empty_one,
            strict_stops_at_the_first_failure,
            bash_vectors_and_scripts_run,
            the_steps_shell_is_its_own,
            shells_of_windows_did_not_start,
            a_missing_folder_did_not_start,
            a_refused_account_did_not_start,
            a_second_start_follows_the_first,
            a_probe_of_nothing_makes_sure_that_nothing_begins,
            a_claimed_attempt_outlives_its_session,
            output_is_followed_while_it_is_written,
            an_attached_run_ends_with_its_session,
            stopped_is_gone_children_included,
            stopped_is_gone_daemons_included,
            stopped_is_gone_as_another_account,
            a_daemon_of_a_step_that_has_ended_is_left_alone,
            what_ends_by_itself_is_not_killed,
            a_daemon_does_not_hold_its_step,
            cleared_leaves_nothing,
            what_attempts_left_is_listed_and_removed_unless_it_runs,
            uploads_arrive_whole_or_not_at_all,
            downloads_arrive_whole_or_not_at_all,
            many_at_once_all_end,
            facts_are_this_machines,
        );
    };
    ($setup:path; $($fact:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $fact() {
                let subject = $setup().await;
                $crate::transport_suite::$fact(&subject).await;
            }
        )+
    };
}

/// Keeps everything.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

#[async_trait]
impl OutputSink for Kept {
    async fn write(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(bytes),
            Stream::Stderr => self.stderr.extend_from_slice(bytes),
        }
    }

    /// What the suite's commands print is short enough for everybody.
    async fn cut_off(&mut self, stream: Stream, by: &str) {
        panic!("{by} cut {stream:?} off");
    }
}

/// Tells of every write.
struct Live(tokio::sync::mpsc::UnboundedSender<Vec<u8>>);

#[async_trait]
impl OutputSink for Live {
    async fn write(&mut self, _: Stream, bytes: &[u8]) {
        drop(self.0.send(bytes.to_vec()));
    }

    async fn cut_off(&mut self, stream: Stream, by: &str) {
        panic!("{by} cut {stream:?} off");
    }
}

/// A text for sh.
pub fn sh(text: &str) -> Invocation {
    program(Program::Shell { shell: ShellKind::Sh, text: text.into(), strict: false })
}

fn program(program: Program) -> Invocation {
    Invocation { program, account: None, cwd: None, env: Vec::new(), stdin: None }
}

/// An attempt of a run that no other test has.
pub fn attempt(step: &str) -> AttemptId {
    let run = runbook_ports::posix::frame::Marker::fresh().as_str().to_owned();
    AttemptId { run: run.into(), host: "here".into(), step: step.into(), attempt: 1 }
}

const GRACE: Duration = Duration::from_millis(500);

/// Runs without a stop.
pub async fn run(session: &dyn Session, claim: Option<&AttemptId>, invocation: &Invocation) -> (Completion, Kept) {
    let mut kept = Kept::default();
    let completion = session.run(claim, invocation, &mut kept, &CancellationToken::new(), GRACE).await;
    (completion, kept)
}

/// Both ways to run: attached and claimed.
fn ways(step: &str) -> [Option<AttemptId>; 2] {
    [None, Some(attempt(step))]
}

fn code(code: i32) -> Completion {
    Completion::Exited(Exit::Code(code))
}

/// Waits until something that must come has come.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(60), wait).await.is_ok(), "never: {what}");
}

fn fifo(path: &Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo is here");
    assert!(made.success());
}

async fn read_all(path: &Path) -> String {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path));
    let text = tokio::time::timeout(Duration::from_secs(60), read).await.expect("somebody writes");
    text.expect("a thread").expect("a text")
}

async fn write_all(path: &Path, text: &'static str) {
    let path = path.to_owned();
    let write = tokio::task::spawn_blocking(move || std::fs::write(path, text));
    tokio::time::timeout(Duration::from_secs(60), write).await.expect("somebody reads").expect("a thread").expect("io");
}

fn is_gone(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.is_empty() || stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// The code of the program, also those that shells and ssh use for themselves.
pub async fn exits_are_true(subject: &dyn Subject) {
    let session = subject.session().await;
    for expected in [0, 1, 3, 126, 127, 128, 200, 255] {
        for claim in ways("exit") {
            let (completion, _) = run(&*session, claim.as_ref(), &sh(&format!("exit {expected}"))).await;
            assert_eq!(completion, code(expected), "claimed: {}", claim.is_some());
        }
    }
    for claim in ways("missing") {
        let (completion, kept) = run(&*session, claim.as_ref(), &sh("no-such-program-here")).await;
        assert_eq!(completion, code(127));
        assert!(String::from_utf8_lossy(&kept.stderr).contains("not found"));
    }
    session.close().await;
}

/// A signal is a signal.
pub async fn signals_are_told_from_codes(subject: &dyn Subject) {
    let session = subject.session().await;
    for signal in [9, 15] {
        for claim in ways("signal") {
            let (completion, _) = run(&*session, claim.as_ref(), &sh(&format!("kill -{signal} $$"))).await;
            assert_eq!(completion, Completion::Exited(Exit::Signal(signal)), "claimed: {}", claim.is_some());
        }
    }
}

/// Every byte, on the stream that it was written to, and nothing else.
pub async fn outputs_are_apart_and_byte_exact(subject: &dyn Subject) {
    let session = subject.session().await;
    let bytes: Vec<u8> = (0..=255).cycle().take(1024).collect();
    let file = subject.scratch().join("bytes");
    std::fs::write(&file, &bytes).expect("scratch");
    let text = format!("cat {0}; cat {0} {0} >&2", file.display());
    for claim in ways("bytes") {
        let (completion, kept) = run(&*session, claim.as_ref(), &sh(&text)).await;
        assert_eq!(completion, code(0));
        assert_eq!(kept.stdout, bytes);
        assert_eq!(kept.stderr, [bytes.clone(), bytes.clone()].concat());
    }
    for claim in ways("empty") {
        let (completion, kept) = run(&*session, claim.as_ref(), &sh(":")).await;
        assert_eq!((completion, kept), (code(0), Kept::default()));
    }
}

/// More than any buffer on the way holds.
pub async fn long_output_is_complete(subject: &dyn Subject) {
    let session = subject.session().await;
    let text = "head -c 20000000 /dev/zero | tr '\\0' x; head -c 3000000 /dev/zero >&2";
    for claim in ways("long") {
        let (completion, kept) = run(&*session, claim.as_ref(), &sh(text)).await;
        assert_eq!(completion, code(0));
        assert_eq!((kept.stdout.len(), kept.stderr.len()), (20_000_000, 3_000_000));
        assert!(kept.stdout.iter().all(|b| *b == b'x') && kept.stderr.iter().all(|b| *b == 0));
    }
}

/// Environment, standard input, text and working folder, whatever is in them.
pub async fn values_arrive_byte_exact(subject: &dyn Subject) {
    let session = subject.session().await;
    let nasty = "a'b\"c`d$e\\f\n\n  g\t;rm -rf /;$(h) é 😀 \u{7f}\r\n";
    let every: Vec<u8> = (1..=255).collect();
    let binary: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let folder = subject.scratch().join("a folder's \"name\"");
    std::fs::create_dir_all(&folder).expect("scratch");
    for claim in ways("values") {
        let mut invocation = sh("printf '%s|' \"$NASTY\" \"$EVERY\"; pwd >&2; cat");
        invocation.env = vec![("NASTY".into(), nasty.into()), ("EVERY".into(), SecretBytes::new(every.clone()))];
        invocation.stdin = Some(SecretBytes::new(binary.clone()));
        invocation.cwd = Some(folder.display().to_string());
        let (completion, kept) = run(&*session, claim.as_ref(), &invocation).await;
        assert_eq!(completion, code(0));
        let expected = [nasty.as_bytes(), b"|", &every, b"|", &binary].concat();
        assert!(kept.stdout == expected, "values differ");
        assert_eq!(String::from_utf8_lossy(&kept.stderr).trim_end(), folder.display().to_string());
    }
    for claim in ways("text") {
        let (completion, kept) = run(&*session, claim.as_ref(), &sh("x='a\n.\nE\n'\nprintf '%s' \"$x\" # é 😀")).await;
        assert_eq!((completion, kept.stdout), (code(0), b"a\n.\nE\n".to_vec()));
    }
}

/// Neither text nor environment nor standard input can be read by other accounts in the list of processes.
pub async fn nothing_of_a_step_is_on_a_command_line(subject: &dyn Subject) {
    let session = subject.session().await;
    // The pattern does not match itself.
    let text = "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'rb[-]visible[-]' # rb-visible-text";
    for claim in ways("secret") {
        let mut invocation = sh(text);
        invocation.env = vec![("SECRET".into(), "rb-visible-env".into())];
        invocation.stdin = Some("rb-visible-stdin".into());
        let (_, kept) = run(&*session, claim.as_ref(), &invocation).await;
        assert_eq!(String::from_utf8_lossy(&kept.stdout), "0\n");
    }
}

/// A program that reads must not wait for somebody.
pub async fn no_stdin_is_an_empty_one(subject: &dyn Subject) {
    let session = subject.session().await;
    for claim in ways("stdin") {
        let (completion, kept) = run(&*session, claim.as_ref(), &sh("cat; echo end")).await;
        assert_eq!((completion, kept.stdout), (code(0), b"end\n".to_vec()));
    }
}

/// `set -eu`.
pub async fn strict_stops_at_the_first_failure(subject: &dyn Subject) {
    let session = subject.session().await;
    for shell in [ShellKind::Sh, ShellKind::Bash] {
        let strict = |text: &str| program(Program::Shell { shell, text: text.into(), strict: true });
        let (completion, kept) = run(&*session, None, &strict("echo a\nfalse\necho b")).await;
        assert_eq!((completion, kept.stdout), (code(1), b"a\n".to_vec()));
        let (completion, kept) = run(&*session, None, &strict("echo \"$no_such_variable\"; echo b")).await;
        assert_ne!(completion, code(0));
        assert_eq!(kept.stdout, b"");
        let lax = program(Program::Shell { shell, text: "false\necho \"b$no_such_variable\"".into(), strict: false });
        assert_eq!(run(&*session, None, &lax).await.1.stdout, b"b\n");
    }
}

/// All kinds of programs.
pub async fn bash_vectors_and_scripts_run(subject: &dyn Subject) {
    let session = subject.session().await;
    for claim in ways("program") {
        let retried = |n: &str| claim.as_ref().map(|c| AttemptId { step: n.into(), ..c.clone() });
        let bash = program(Program::Shell {
            shell: ShellKind::Bash,
            text: "a=(x 'y z'); cat; echo \"${a[1]}\"".into(),
            strict: true,
        });
        let mut bash = bash;
        bash.stdin = Some("in ".into());
        let (completion, kept) = run(&*session, retried("bash").as_ref(), &bash).await;
        assert_eq!((completion, kept.stdout), (code(0), b"in y z\n".to_vec()));

        let vector = ["printf", "%s|", "a b", "$HOME", "it's\nso", ""].map(String::from).to_vec();
        let (completion, kept) = run(&*session, retried("argv").as_ref(), &program(Program::Argv(vector))).await;
        assert_eq!((completion, kept.stdout), (code(0), b"a b|$HOME|it's\nso||".to_vec()));

        for (content, interpreter, expected) in [
            ("#!/bin/sh -u\necho \"$1,$2\"; cat; exit 7\n", None, "p q,r\nin"),
            ("echo \"$1,$2\"; cat; exit 7", None, "p q,r\nin"),
            ("#!/bin/false\necho \"$1,$2\"; cat; exit 7", Some("bash"), "p q,r\nin"),
        ] {
            let mut script = program(Program::Script {
                content: content.into(),
                interpreter: interpreter.map(Into::into),
                args: vec!["p q".into(), "r".into()],
            });
            script.stdin = Some("in".into());
            let name = format!("script{}", content.len());
            let (completion, kept) = run(&*session, retried(&name).as_ref(), &script).await;
            assert_eq!(completion, code(7), "{content}");
            assert_eq!(String::from_utf8_lossy(&kept.stdout), expected, "{content}");
        }
    }
}

/// Nothing of the protocol's is in the shell of the step, and `wait` waits for the step's own children alone.
pub async fn the_steps_shell_is_its_own(subject: &dyn Subject) {
    let session = subject.session().await;
    for claim in ways("own") {
        let text =
            "sh -c 'exit 0' & wait; [ \"$$\" = \"$(sh -c 'echo $PPID')\" ] && set -u && echo ${n-unset} ${s-unset}";
        let (completion, kept) = run(&*session, claim.as_ref(), &sh(text)).await;
        assert_eq!(String::from_utf8_lossy(&kept.stdout), "unset unset\n");
        assert_eq!(completion, code(0));
    }
}

/// PowerShell and cmd.
pub async fn shells_of_windows_did_not_start(subject: &dyn Subject) {
    let session = subject.session().await;
    for shell in [ShellKind::Powershell, ShellKind::Cmd] {
        for claim in ways("windows") {
            let invocation = program(Program::Shell { shell, text: "echo".into(), strict: false });
            let (completion, kept) = run(&*session, claim.as_ref(), &invocation).await;
            let Completion::NotStarted(obstacle) = completion else { panic!("{completion:?}") };
            assert_eq!((obstacle.kind, kept), (ObstacleKind::Local, Kept::default()));
            assert!(obstacle.message.contains(shell.name()), "{}", obstacle.message);
        }
    }
}

/// The working folder must be there.
pub async fn a_missing_folder_did_not_start(subject: &dyn Subject) {
    let session = subject.session().await;
    let trace = subject.scratch().join("trace");
    for claim in ways("folder") {
        let mut invocation = sh(&format!("touch {}", trace.display()));
        invocation.cwd = Some("/no/such/folder".into());
        let (completion, kept) = run(&*session, claim.as_ref(), &invocation).await;
        let Completion::NotStarted(obstacle) = completion else { panic!("{completion:?}") };
        assert!(obstacle.message.contains("/no/such/folder"), "{}", obstacle.message);
        assert_eq!(kept, Kept::default());
    }
    assert!(!trace.exists());
}

/// `sudo` says no.
pub async fn a_refused_account_did_not_start(subject: &dyn Subject) {
    let session = subject.session().await;
    let trace = subject.scratch().join("trace");
    for claim in ways("as") {
        let mut invocation = sh(&format!("touch {}", trace.display()));
        invocation.account = Some("no-such-account".into());
        let (completion, kept) = run(&*session, claim.as_ref(), &invocation).await;
        let Completion::NotStarted(obstacle) = completion else { panic!("{completion:?}") };
        assert_eq!((obstacle.kind, kept), (ObstacleKind::Elevation, Kept::default()));
        assert!(obstacle.message.contains("no-such-account"), "{}", obstacle.message);
    }
    assert!(!trace.exists());
}

/// One effect per attempt.
pub async fn a_second_start_follows_the_first(subject: &dyn Subject) {
    let session = subject.session().await;
    let counter = subject.scratch().join("counter");
    let claim = attempt("once");
    let invocation = sh(&format!("echo x >>{}; echo out; echo err >&2; exit 4", counter.display()));
    let first = run(&*session, Some(&claim), &invocation).await;
    assert_eq!(first, (code(4), Kept { stdout: b"out\n".to_vec(), stderr: b"err\n".to_vec() }));
    let other = subject.session().await;
    assert_eq!(run(&*other, Some(&claim), &invocation).await, first);
    assert_eq!(run(&*session, Some(&claim), &sh("echo other")).await, first);
    assert_eq!(std::fs::read_to_string(&counter).expect("it ran"), "x\n");

    // At the same time, too.
    let claim = attempt("race");
    let (a, b, c) = tokio::join!(
        run(&*session, Some(&claim), &invocation),
        run(&*other, Some(&claim), &invocation),
        run(&*session, Some(&claim), &invocation)
    );
    assert_eq!((&a, &b, &c), (&first, &first, &first));
    assert_eq!(std::fs::read_to_string(&counter).expect("it ran"), "x\nx\n");
}

/// `NeverStarted` is a promise.
pub async fn a_probe_of_nothing_makes_sure_that_nothing_begins(subject: &dyn Subject) {
    let session = subject.session().await;
    let trace = subject.scratch().join("trace");
    let claim = attempt("never");
    assert_eq!(session.probe(&claim).await, Probe::NeverStarted);
    assert_eq!(session.probe(&claim).await, Probe::NeverStarted);
    let (completion, _) = run(&*session, Some(&claim), &sh(&format!("touch {}", trace.display()))).await;
    assert!(matches!(completion, Completion::NotStarted(_)), "{completion:?}");
    assert!(!trace.exists());
    let (completion, _) = run(&*session, Some(&AttemptId { attempt: 2, ..claim }), &sh("exit 0")).await;
    assert_eq!(completion, code(0));
}

/// The session may vanish: the attempt goes on, and is followed from the very byte.
pub async fn a_claimed_attempt_outlives_its_session(subject: &dyn Subject) {
    let (begun, go) = (subject.scratch().join("begun"), subject.scratch().join("go"));
    fifo(&begun);
    fifo(&go);
    let claim = attempt("long");
    let text = format!(
        "printf one; printf eins >&2; echo y >{}; read x <{}; printf two; printf zwei >&2; exit 9",
        begun.display(),
        go.display()
    );
    {
        let session = subject.session().await;
        let (invocation, stop) = (sh(&text), CancellationToken::new());
        let mut kept = Kept::default();
        let running = session.run(Some(&claim), &invocation, &mut kept, &stop, GRACE);
        tokio::select! {
            completion = running => panic!("it cannot end: {completion:?}"),
            _ = read_all(&begun) => {}
        }
        session.close().await;
    }
    let session = subject.session().await;
    assert_eq!(session.probe(&claim).await, Probe::Running);
    let mut kept = Kept::default();
    let from = Offsets { stdout: 2, stderr: 4 };
    let stop = CancellationToken::new();
    let (completion, ()) = tokio::join!(session.follow(&claim, from, &mut kept, &stop, GRACE), write_all(&go, "x\n"));
    assert_eq!((completion, kept), (code(9), Kept { stdout: b"etwo".to_vec(), stderr: b"zwei".to_vec() }));
    assert_eq!(session.probe(&claim).await, Probe::Exited);
    let mut kept = Kept::default();
    let completion = session.follow(&claim, Offsets { stdout: 6, stderr: 0 }, &mut kept, &stop, GRACE).await;
    assert_eq!((completion, kept), (code(9), Kept { stdout: vec![], stderr: b"einszwei".to_vec() }));
}

/// Bytes arrive while the program goes on.
pub async fn output_is_followed_while_it_is_written(subject: &dyn Subject) {
    let session = subject.session().await;
    for (n, claim) in ways("live").into_iter().enumerate() {
        let go = subject.scratch().join(format!("go{n}"));
        fifo(&go);
        let invocation = sh(&format!("echo first; read x <{}; echo second", go.display()));
        let (send, mut receive) = tokio::sync::mpsc::unbounded_channel();
        let (mut live, stop) = (Live(send), CancellationToken::new());
        let seen = async {
            assert_eq!(receive.recv().await.as_deref(), Some(b"first\n".as_slice()));
            write_all(&go, "x\n").await;
            assert_eq!(receive.recv().await.as_deref(), Some(b"second\n".as_slice()));
        };
        let (completion, ()) = tokio::join!(session.run(claim.as_ref(), &invocation, &mut live, &stop, GRACE), seen);
        assert_eq!(completion, code(0));
    }
}

/// Attached means attached.
pub async fn an_attached_run_ends_with_its_session(subject: &dyn Subject) {
    let session = subject.session().await;
    let begun = subject.scratch().join("begun");
    fifo(&begun);
    let invocation = sh(&format!("sleep 1000 & echo $$ $! >{}; wait", begun.display()));
    let (mut kept, stop) = (Kept::default(), CancellationToken::new());
    let pids = {
        let running = session.run(None, &invocation, &mut kept, &stop, GRACE);
        tokio::select! {
            completion = running => panic!("it cannot end: {completion:?}"),
            pids = read_all(&begun) => pids,
        }
    };
    session.close().await;
    for pid in pids.split_whitespace() {
        eventually("an attached process ends", || is_gone(pid)).await;
    }
}

/// TERM, grace, KILL, proof.
pub async fn stopped_is_gone_children_included(subject: &dyn Subject) {
    let session = subject.session().await;
    for (n, claim) in ways("stop").into_iter().enumerate() {
        for (m, trap) in ["", "trap '' TERM;"].into_iter().enumerate() {
            let begun = subject.scratch().join(format!("begun{n}{m}"));
            fifo(&begun);
            let invocation = sh(&format!(
                "{trap} echo said; sleep 1000 & sleep 1001 & echo $$ $! >{}; wait; sleep 1002",
                begun.display()
            ));
            let claim = claim.as_ref().map(|c| AttemptId { attempt: m as u32 + 1, ..c.clone() });
            let (mut kept, stop) = (Kept::default(), CancellationToken::new());
            let (completion, pids) =
                tokio::join!(session.run(claim.as_ref(), &invocation, &mut kept, &stop, GRACE), async {
                    let pids = read_all(&begun).await;
                    stop.cancel();
                    pids
                });
            assert_eq!(completion, Completion::Killed, "claimed: {}, {trap}", claim.is_some());
            assert_eq!(kept.stdout, b"said\n", "claimed: {}, {trap}", claim.is_some());
            for pid in pids.split_whitespace() {
                assert!(is_gone(pid), "{pid} lives");
            }
            if let Some(claim) = &claim {
                assert_eq!(session.probe(claim).await, Probe::Exited);
                let stop = CancellationToken::new();
                let again = session.follow(claim, Offsets::default(), &mut kept, &stop, GRACE).await;
                assert_eq!(again, Completion::Killed);
            }
        }
    }
}

/// Ways out of a process group, each saying `told` when all of it runs. `$F` is a private folder.
const WAYS_OUT: [(&str, &str); 8] = [
    ("a session of its own", "/usr/bin/setsid sleep 1000 & told; wait"),
    ("a double fork", "(/usr/bin/setsid sh -c 'sleep 1000 & exit' </dev/null >/dev/null 2>&1 &); told; sleep 1000"),
    ("nohup in a job of its own", "set -m; /usr/bin/nohup sleep 1000 >/dev/null 2>&1 & told; wait"),
    ("a job that is a shell of the step's", "set -m; (while :; do sleep 1000; done) & told; wait"),
    (
        "deaf to TERM",
        "(/usr/bin/setsid sh -c 'trap \"\" TERM; echo up >\"$F/up\"; while :; do sleep 1000; done' &); read x <$F/up; told; sleep 1000",
    ),
    ("an empty environment below a parent that lives", "/usr/bin/setsid sh -c 'env -i sleep 1000; :' & told; wait"),
    (
        "many sessions",
        "for i in 1 2 3 4 5; do /usr/bin/setsid sh -c '/usr/bin/setsid sleep 1000 & sleep 1000' & done; told; wait",
    ),
    (
        "moving on for ever",
        "echo 'sleep 0.2; /usr/bin/setsid sh \"$F/on\" & exit' >$F/on; (/usr/bin/setsid sh $F/on &); told; sleep 1000",
    ),
];

/// The live processes that bear a mark.
fn marked(mark: &str) -> Vec<String> {
    let bears = |environment: &[u8]| {
        environment.split(|b| *b == 0).any(|variable| {
            variable
                .strip_prefix(b"RUNBOOK_ATTEMPT=")
                .is_some_and(|held| held.split(|b| *b == b':').any(|m| m == mark.as_bytes()))
        })
    };
    let all = std::fs::read_dir("/proc").expect("linux").filter_map(Result::ok);
    let pids = all.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.parse::<u32>().is_ok());
    pids.filter(|pid| std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|e| bears(&e)) && !is_gone(pid)).collect()
}

/// Processes that left the group are found and ended as well.
pub async fn stopped_is_gone_daemons_included(subject: &dyn Subject) {
    let session = subject.session().await;
    for (n, (what, text)) in WAYS_OUT.into_iter().enumerate() {
        for claim in ways("daemons") {
            let folder = subject.scratch().join(format!("out{n}{}", claim.is_some()));
            std::fs::create_dir(&folder).expect("scratch");
            for name in ["up", "begun"] {
                fifo(&folder.join(name));
            }
            let text =
                format!("export F={}; told() {{ echo $$ $RUNBOOK_ATTEMPT >$F/begun; }}; {text}", folder.display());
            let (mut kept, stop) = (Kept::default(), CancellationToken::new());
            let invocation = sh(&text);
            let (completion, mark) =
                tokio::join!(session.run(claim.as_ref(), &invocation, &mut kept, &stop, GRACE), async {
                    let told = read_all(&folder.join("begun")).await;
                    let (pid, mark) = told.trim().split_once(' ').expect("both");
                    eventually("what was started bears the mark", || marked(mark).iter().any(|marked| marked != pid))
                        .await;
                    stop.cancel();
                    mark.to_owned()
                });
            // On a host with far too much to do, nobody can be sure of the last one.
            let unsure = |why: &String| what == "moving on for ever" && why.contains("nobody can say");
            if matches!(&completion, Completion::Unknown(why) if unsure(why)) {
                continue;
            }
            assert_eq!(completion, Completion::Killed, "{what}, claimed: {}", claim.is_some());
            assert_eq!(marked(&mark), Vec::<String>::new(), "{what}, claimed: {}", claim.is_some());
            if let Some(claim) = &claim {
                assert!(mark.ends_with("/daemons@here.1"), "{mark}");
                let stop = CancellationToken::new();
                let again = session.follow(claim, Offsets::default(), &mut kept, &stop, GRACE).await;
                assert_eq!(again, Completion::Killed, "{what}");
            }
        }
    }
}

/// `as` somebody else, whose processes the login account may not signal unless it is root.
pub async fn stopped_is_gone_as_another_account(subject: &dyn Subject) {
    let session = subject.session().await;
    for claim in ways("other") {
        let folder = subject.scratch().join(format!("other{}", claim.is_some()));
        std::fs::create_dir(&folder).expect("scratch");
        let begun = folder.join("begun");
        fifo(&begun);
        for (path, mode) in [(subject.scratch(), 0o711), (&folder, 0o711), (&begun, 0o622)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("scratch");
        }
        let mut invocation = sh(&format!(
            "(/usr/bin/setsid sh -c 'trap \"\" TERM; sleep 1000' &); sleep 1001 & id -un >&2; echo $RUNBOOK_ATTEMPT >{}; wait",
            begun.display()
        ));
        invocation.account = Some("nobody".into());
        let (mut kept, stop) = (Kept::default(), CancellationToken::new());
        let (completion, mark) =
            tokio::join!(session.run(claim.as_ref(), &invocation, &mut kept, &stop, GRACE), async {
                let mark = read_all(&begun).await.trim().to_owned();
                eventually("the daemon runs", || marked(&mark).len() >= 2).await;
                stop.cancel();
                mark
            });
        assert_eq!(completion, Completion::Killed, "claimed: {}", claim.is_some());
        assert!(kept.stderr.starts_with(b"nobody\n"), "{:?}", String::from_utf8_lossy(&kept.stderr));
        assert_eq!(marked(&mark), Vec::<String>::new(), "claimed: {}", claim.is_some());
    }
}

/// A service that a step has restarted is not ended with anything, also when a stop comes after it.
pub async fn a_daemon_of_a_step_that_has_ended_is_left_alone(subject: &dyn Subject) {
    let session = subject.session().await;
    let claim = attempt("service");
    let text = "/usr/bin/setsid sleep 1000 </dev/null >/dev/null 2>&1 & echo $! $RUNBOOK_ATTEMPT; exit 0";
    let (completion, kept) = run(&*session, Some(&claim), &sh(text)).await;
    assert_eq!(completion, code(0));
    let said = String::from_utf8_lossy(&kept.stdout).trim().to_owned();
    let (pid, mark) = said.split_once(' ').expect("both");
    let (stop, mut kept) = (CancellationToken::new(), Kept::default());
    stop.cancel();
    assert_eq!(session.follow(&claim, Offsets::default(), &mut kept, &stop, GRACE).await, code(0));
    // Nor does the stop of another attempt end it.
    let begun = subject.scratch().join("begun");
    fifo(&begun);
    let next = AttemptId { attempt: 2, ..claim.clone() };
    let (invocation, stop) = (sh(&format!("echo >{}; sleep 1000", begun.display())), CancellationToken::new());
    let (completion, ()) = tokio::join!(session.run(Some(&next), &invocation, &mut kept, &stop, GRACE), async {
        read_all(&begun).await;
        stop.cancel();
    });
    assert_eq!(completion, Completion::Killed);
    assert_eq!(session.clear_all(&[claim, next]).await, Ok(()));
    session.close().await;
    assert!(marked(mark).contains(&pid.to_owned()), "it was left alone");
    assert!(std::process::Command::new("kill").args(["-s", "KILL", pid]).status().expect("kill is here").success());
}

/// A stop that comes too late changes nothing.
pub async fn what_ends_by_itself_is_not_killed(subject: &dyn Subject) {
    let session = subject.session().await;
    let claim = attempt("late");
    assert_eq!(run(&*session, Some(&claim), &sh("echo done; exit 5")).await.0, code(5));
    let stop = CancellationToken::new();
    stop.cancel();
    let mut kept = Kept::default();
    let completion = session.follow(&claim, Offsets::default(), &mut kept, &stop, GRACE).await;
    assert_eq!((completion, kept.stdout), (code(5), b"done\n".to_vec()));
}

/// A process that is left behind with our pipes open is not waited for.
pub async fn a_daemon_does_not_hold_its_step(subject: &dyn Subject) {
    let session = subject.session().await;
    for claim in ways("daemon") {
        let (completion, kept) = run(&*session, claim.as_ref(), &sh("sleep 1000 & echo $!; exit 6")).await;
        let pid = String::from_utf8_lossy(&kept.stdout).trim().to_owned();
        assert_eq!(completion, code(6));
        assert!(!is_gone(&pid), "{pid:?} was left alone, claimed: {}", claim.is_some());
        let ended = std::process::Command::new("kill").args(["-s", "KILL", &pid]).status().expect("kill is here");
        assert!(ended.success());
    }
}

/// Nothing is left, and clearing twice is harmless.
pub async fn cleared_leaves_nothing(subject: &dyn Subject) {
    let session = subject.session().await;
    let claim = attempt("clear");
    let text = "cd \"$HOME/.local/state/runbook\" && pwd";
    let (_, kept) = run(&*session, Some(&claim), &sh(text)).await;
    let folder = String::from_utf8_lossy(&kept.stdout).trim().to_owned();
    let of_run = Path::new(&folder).join(claim.run.as_str());
    assert_eq!(std::fs::metadata(&of_run).expect("claims").permissions().mode() & 0o777, 0o700);
    assert!(std::fs::read_dir(&of_run).expect("claims").count() > 0);
    assert_eq!(session.clear(&claim).await, Ok(()));
    assert_eq!(session.clear(&claim).await, Ok(()));
    let left = || std::fs::read_dir(&of_run).map_or(0, Iterator::count);
    assert_eq!(left(), 0);
    let several = [1, 2, 3].map(|attempt| AttemptId { attempt, step: "a step; $x".into(), ..claim.clone() });
    for claim in &several {
        run(&*session, Some(claim), &sh("echo out; echo err >&2")).await;
    }
    assert_eq!(left(), 9);
    assert_eq!(session.clear_all(&several[..1]).await, Ok(()));
    assert_eq!(left(), 6);
    assert_eq!(session.clear_all(&several).await, Ok(()));
    assert_eq!(left(), 0);
    session.close().await;
    assert!(!of_run.exists());
}

/// As `doctor` sees them: of whatever run, and what runs stays.
pub async fn what_attempts_left_is_listed_and_removed_unless_it_runs(subject: &dyn Subject) {
    let session = subject.session().await;
    assert_eq!(session.leftovers().await, Ok(vec![]));
    let (ended, never, lives) = (attempt("a step; $x"), attempt("never"), attempt("lives"));
    assert_eq!(run(&*session, Some(&ended), &sh("echo 12345; echo 123 >&2; exit 3")).await.0, code(3));
    assert_eq!(session.probe(&never).await, Probe::NeverStarted);
    let (begun, go) = (subject.scratch().join("begun"), subject.scratch().join("go"));
    fifo(&begun);
    fifo(&go);
    let invocation = sh(&format!("echo x >{}; read x <{}; exit 4", begun.display(), go.display()));
    let (mut kept, stop) = (Kept::default(), CancellationToken::new());
    tokio::select! {
        completion = session.run(Some(&lives), &invocation, &mut kept, &stop, GRACE) => panic!("it cannot end: {completion:?}"),
        _ = read_all(&begun) => {}
    }

    let session = subject.session().await;
    let found = session.leftovers().await.expect("a list");
    let of = |attempt: &AttemptId| {
        let one = found.iter().find(|one| one.attempt.as_ref() == Some(attempt));
        one.unwrap_or_else(|| panic!("{attempt} is not in {found:?}")).clone()
    };
    assert_eq!(found.len(), 3);
    assert_eq!((of(&ended).state, of(&never).state), (LeftoverState::Exited(Exit::Code(3)), LeftoverState::NeverBegan));
    assert!(matches!(of(&lives).state, LeftoverState::Running { .. }), "{:?}", of(&lives));
    assert!(
        of(&ended).bytes > 10 && of(&ended).age.is_some_and(|age| age < Duration::from_secs(600)),
        "{:?}",
        of(&ended)
    );
    assert_eq!((of(&ended).run, of(&ended).account), (ended.run.clone(), None));

    let mut names: Vec<String> = found.iter().map(|one| one.name.clone()).collect();
    names.push("../x".into());
    let mut removed = session.remove_leftovers(&names).await.expect("an answer");
    removed.sort();
    let mut expected = vec![of(&ended).name, of(&never).name];
    expected.sort();
    assert_eq!(removed, expected);
    let left = session.leftovers().await.expect("a list");
    assert_eq!(left.iter().map(|one| one.name.clone()).collect::<Vec<_>>(), [of(&lives).name]);

    // It was not disturbed.
    let (completion, ()) =
        tokio::join!(session.follow(&lives, Offsets::default(), &mut kept, &stop, GRACE), write_all(&go, "x\n"));
    assert_eq!(completion, code(4));
    assert_eq!(session.remove_leftovers(&names).await.map(|removed| removed.len()), Ok(3));
    assert_eq!(session.leftovers().await, Ok(vec![]));
}

fn target(to: &Path, content: &[u8]) -> UploadTarget {
    UploadTarget {
        to: to.display().to_string(),
        mode: 0o640,
        owner: None,
        group: None,
        account: None,
        sha256: Sha256::of(content),
        bytes: content.len() as u64,
    }
}

/// The target is the new file or the old one.
pub async fn uploads_arrive_whole_or_not_at_all(subject: &dyn Subject) {
    let session = subject.session().await;
    let content: Vec<u8> = (0..=255).cycle().take(3_000_001).collect();
    let source = subject.scratch().join("source");
    std::fs::write(&source, &content).expect("scratch");
    let to = subject.scratch().join("new/folder's/file");
    let told = std::sync::atomic::AtomicU64::new(0);
    let progress = |bytes| told.store(bytes, std::sync::atomic::Ordering::Relaxed);
    let done = session.upload(&source, &target(&to, &content), &progress).await;
    assert_eq!(done, Transferred::Done { sha256: Sha256::of(&content), bytes: 3_000_001 });
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 3_000_001);
    assert!(std::fs::read(&to).expect("it is there") == content);
    assert_eq!(std::fs::metadata(&to).expect("it is there").permissions().mode() & 0o7777, 0o640);

    let nobody = |_| {};
    // What arrives is not what was promised.
    let wrong = UploadTarget { sha256: Sha256::of(b"other"), ..target(&to, &content) };
    assert!(matches!(session.upload(&source, &wrong, &nobody).await, Transferred::Failed(_)));
    // Nobody has this name.
    let wrong = UploadTarget { owner: Some("no-such-account".into()), ..target(&to, &content) };
    assert!(matches!(session.upload(&source, &wrong, &nobody).await, Transferred::Failed(_)));
    // A full device.
    let full = target(Path::new("/dev/full/x"), &content);
    assert!(matches!(session.upload(&source, &full, &nobody).await, Transferred::Failed(_)));
    let folder = target(to.parent().expect("a folder"), &content);
    assert!(matches!(session.upload(&source, &folder, &nobody).await, Transferred::Failed(_)));
    let missing = session.upload(Path::new("/no/such/source"), &target(&to, b""), &nobody).await;
    assert!(matches!(missing, Transferred::NotStarted(_)), "{missing:?}");
    let refused = UploadTarget { account: Some("no-such-account".into()), ..target(&to, &content) };
    let refused = session.upload(&source, &refused, &nobody).await;
    assert!(
        matches!(&refused, Transferred::NotStarted(obstacle) if obstacle.kind == ObstacleKind::Elevation),
        "{refused:?}"
    );
    assert!(std::fs::read(&to).expect("it is there") == content);
    assert_eq!(std::fs::read_dir(to.parent().expect("a folder")).expect("it").count(), 1, "nothing is left beside it");
    // Empty, over what is there.
    std::fs::write(&source, b"").expect("scratch");
    let done = session.upload(&source, &target(&to, b""), &nobody).await;
    assert_eq!(done, Transferred::Done { sha256: Sha256::of(b""), bytes: 0 });
    assert_eq!(std::fs::read(&to).expect("it is there"), b"");
}

/// As uploads, the other way.
pub async fn downloads_arrive_whole_or_not_at_all(subject: &dyn Subject) {
    let session = subject.session().await;
    let content: Vec<u8> = (0..=255).rev().cycle().take(3_000_001).collect();
    let from = subject.scratch().join("from 'here'");
    std::fs::write(&from, &content).expect("scratch");
    let from = from.display().to_string();
    let kept = subject.scratch().join("kept");
    let nobody = |_| {};
    let done = session.download(&from, None, 3_000_001, &kept, &nobody).await;
    assert_eq!(done, Transferred::Done { sha256: Sha256::of(&content), bytes: 3_000_001 });
    assert!(std::fs::read(&kept).expect("it is there") == content);
    for (from, max) in [(from.as_str(), 3_000_000), ("/no/such/file", 10), ("/", 10)] {
        let other = subject.scratch().join("other");
        let failed = session.download(from, None, max, &other, &nobody).await;
        assert!(matches!(failed, Transferred::Failed(_)), "{failed:?}");
        assert!(!other.exists());
    }
    let hidden = std::fs::read_dir(subject.scratch()).expect("scratch").filter_map(Result::ok);
    assert_eq!(hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count(), 0);
}

/// More than the host allows at once: they wait, and all end.
pub async fn many_at_once_all_end(subject: &dyn Subject) {
    let session = subject.session().await;
    let session: std::sync::Arc<dyn Session> = session.into();
    let mut all = tokio::task::JoinSet::new();
    for n in 0..40 {
        let session = session.clone();
        all.spawn(async move {
            let claim = (n % 2 == 0).then(|| attempt("many"));
            run(&*session, claim.as_ref(), &sh(&format!("echo {n}; exit {n}"))).await
                == (code(n), Kept { stdout: format!("{n}\n").into_bytes(), stderr: vec![] })
        });
    }
    assert!(all.join_all().await.into_iter().all(|right| right));
    assert_eq!(session.check().await, Ok(()));
}

/// What this machine says of itself.
pub async fn facts_are_this_machines(subject: &dyn Subject) {
    let session = subject.session().await;
    let facts = session.facts().await.expect("facts");
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("linux");
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("linux");
    assert_eq!((facts.kernel.as_str(), facts.boot_id.as_str()), (kernel.trim(), boot.trim()));
    assert_eq!(facts.arch, std::env::consts::ARCH);
    assert!(!facts.os.is_empty());
    assert!(facts.clock_offset_ms.is_some_and(|ms| ms.abs() < 10_000), "{facts:?}");
}
