//! Several processes and one run or one host: who holds what, who waits, who has lost it, who only looks on.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::{Place, step};
use rustix::process::Signal;

fn go(place: &Place) {
    place.write("go", "");
}

fn counting(place: &Place) {
    let folder = place.root().display();
    let text = format!(
        "schema: runbook/v1\nname: counting\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: |\n      \
         echo work >>{folder}/count\n      echo begun > {folder}/begun\n      while [ ! -e {folder}/go ]; do sleep 0.05; \
         done\n    undo: {{run: 'rm -f {folder}/count'}}\n  - id: after\n    run: echo after >>{folder}/count\n    undo: {{run: \
         'true'}}\n"
    );
    place.write("runbooks/counting.yaml", &text);
    assert!(std::process::Command::new("mkfifo").arg(place.path("begun")).status().unwrap().success());
}

fn count(place: &Place) -> String {
    std::fs::read_to_string(place.path("count")).unwrap_or_default()
}

/// Returns once the step stands in its middle.
fn begin(place: &Place) -> place::Running {
    let running = place.begin(&["apply", "runbooks/counting.yaml"]);
    assert_eq!(std::fs::read_to_string(place.path("begun")).unwrap(), "begun\n");
    running
}

#[test]
fn a_second_run_on_a_held_host_is_refused_and_told_by_whom_it_is_held() {
    let place = Place::project();
    counting(&place);
    let running = begin(&place);
    let said = place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(3);
    let run = place.run(&["runs", "--json"]).json()["runs"][0]["run_id"].as_str().unwrap().to_owned();
    for word in ["RB0302", "host here is held", &run, &format!("process {}", running.pid()), "nothing was changed"] {
        assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
    }
    assert!(!place.path("greeting").exists());
    go(&place);
    assert_eq!(running.code().0, Some(0));
}

#[test]
fn a_run_that_waits_goes_on_when_the_host_is_free() {
    let place = Place::project();
    counting(&place);
    let first = begin(&place);
    let mut second = place.begin(&["apply", "runbooks/hello.yaml", "-p", &place.folder(), "--wait"]);
    second.hear("host here is held by run");
    assert!(!place.path("greeting/greeting").exists(), "it waits");
    go(&place);
    assert_eq!(first.code().0, Some(0));
    assert_eq!(second.code().0, Some(0));
    assert!(place.path("greeting/greeting").exists());
}

#[test]
fn waiting_is_ended_by_ctrl_c_and_nothing_was_begun() {
    let place = Place::project();
    counting(&place);
    let first = begin(&place);
    let mut second = place.begin(&["apply", "runbooks/hello.yaml", "-p", &place.folder(), "--wait"]);
    second.hear("host here is held by run");
    second.signal(Signal::INT);
    let (code, said) = second.code();
    assert_eq!(code, Some(8), "{said}");
    assert!(said.contains("RB0314"), "{said}");
    go(&place);
    assert_eq!(first.code().0, Some(0));
    assert!(!place.path("greeting").exists());
    assert_eq!(place.run(&["runs", "--json"]).json()["runs"].as_array().unwrap().len(), 1);
}

#[test]
fn sigterm_cancels_as_ctrl_c_does() {
    let place = Place::project();
    counting(&place);
    let running = begin(&place);
    running.signal(Signal::TERM);
    let (code, said) = running.code();
    assert_eq!(code, Some(8), "{said}");
    assert!(!place.path("count").exists());
}

#[test]
fn a_stopped_controller_keeps_its_run_and_whoever_asks_is_told_so() {
    let place = Place::project();
    counting(&place);
    let running = begin(&place);
    running.signal(Signal::STOP);
    let said = place.run(&["resume", "last"]).code(3);
    let pid = running.pid();
    for word in ["RB0302", "is stopped", &format!("kill -CONT {pid}"), &format!("kill -KILL {pid}")] {
        assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
    }
    running.signal(Signal::CONT);
    go(&place);
    assert_eq!(running.code().0, Some(0));
    assert_eq!(count(&place), "work\nafter\n");
}

#[test]
fn a_controller_that_has_lost_its_run_records_nothing_more_and_begins_nothing() {
    let place = Place::project();
    counting(&place);
    let running = begin(&place);
    running.signal(Signal::STOP);
    // What tells that it is alive is gone, as after a sweep of old files: another process may take the run over.
    for mark in std::fs::read_dir(place.path(".runbook/run")).unwrap() {
        std::fs::remove_file(mark.unwrap().path()).unwrap();
    }
    // The step ends while it is followed, and nobody takes its keeper's exit: its parent is stopped.
    let mut resumed = place.begin(&["resume", "last"]);
    resumed.hear("taken up again by");
    go(&place);
    let (code, said) = resumed.code();
    assert_eq!(code, Some(0), "{said}");
    let records = || place.run(&["show", "last", "--json"]).json()["ledger"]["size"].clone();
    let before = records();
    running.signal(Signal::CONT);
    let (code, said) = running.code();
    assert_eq!(code, Some(9), "{said}");
    assert!(said.contains("another process has taken run"), "{said}");
    assert_eq!(count(&place), "work\nafter\n", "each step was done once");
    assert_eq!(records(), before);
    place.run(&["evidence", "verify", "last"]).code(11);
    let run = place.run(&["show", "last", "--json"]).json();
    assert_eq!((&run["outcome"], &run["resumed"]), (&"succeeded".into(), &1.into()));
}

#[test]
fn of_two_that_resume_at_once_one_does_and_the_other_is_refused() {
    let place = Place::project();
    counting(&place);
    let running = begin(&place);
    running.signal(Signal::KILL);
    drop(running);
    let first = place.begin(&["resume", "last"]);
    let second = place.begin(&["resume", "last"]);
    // The one that is refused says so and ends; the other one stands in the middle of the step until then.
    let (refused, works) = std::thread::scope(|scope| {
        let (say, hear) = std::sync::mpsc::channel();
        for running in [first, second] {
            let say = say.clone();
            scope.spawn(move || say.send(running.code()).unwrap());
        }
        let refused = hear.recv().unwrap();
        // It has not taken the other one's place: that one can still be asked to cancel.
        let cancelled = place.run(&["cancel", "last"]);
        assert_eq!(cancelled.code, Some(8), "{cancelled:?}");
        (refused, hear.recv().unwrap())
    });
    assert_eq!(refused.0, Some(3), "{refused:?}");
    assert!(refused.1.contains("RB0302") && refused.1.contains("is held by run"), "{refused:?}");
    assert_eq!(works.0, Some(8), "{works:?}");
    assert!(!place.path("count").exists(), "it was taken back");
}

#[test]
fn who_follows_sees_what_a_running_step_prints_as_it_comes() {
    let place = Place::project();
    let folder = place.root().display().to_string();
    let text = format!(
        "schema: runbook/v1\nname: talking\ntargets: {{select: here}}\nirreversible: it only talks\nexecute:\n  - id: work\n    \
         run: |\n      echo before\n      echo begun > {folder}/begun\n      while [ ! -e {folder}/more ]; do sleep 0.05; \
         done\n      echo between; echo wrong >&2\n      while [ ! -e {folder}/go ]; do sleep 0.05; done\n      echo after\n"
    );
    place.write("runbooks/talking.yaml", &text);
    assert!(std::process::Command::new("mkfifo").arg(place.path("begun")).status().unwrap().success());
    let running = place.begin(&["apply", "runbooks/talking.yaml"]);
    assert_eq!(std::fs::read_to_string(place.path("begun")).unwrap(), "begun\n");
    let mut following = place.begin_heard(&["logs", "last", "--follow"]);
    following.hear("here/work | before\n");
    place.write("more", "");
    following.hear("here/work | between\n");
    go(&place);
    assert_eq!(running.code().0, Some(0));
    let (code, said) = following.code();
    assert_eq!(code, Some(0), "{said}");
    for line in ["here/work | ! wrong\n", "here/work | after\n", "== here/work  succeeded"] {
        assert_eq!(said.matches(line).count(), 1, "{line}: {said}");
    }
    assert_eq!(said.matches("before").count(), 1, "what was seen is not printed again: {said}");
    let logs = place.run(&["logs", "last"]).code(0).stdout;
    assert!(logs.contains("before\nbetween\nafter\n"), "{logs}");
}

#[test]
fn a_hangup_leaves_the_run_for_a_resume_and_loses_nothing() {
    let place = Place::project();
    counting(&place);
    let running = begin(&place);
    running.signal(Signal::HUP);
    let (_, said) = running.code();
    assert!(said.contains("resume"), "{said}");
    go(&place);
    let run = place.run(&["resume", "last", "--json"]).code(0).json();
    assert_eq!(step(&run, "work")["attempt"], 1);
    assert_eq!(count(&place), "work\nafter\n");
}

#[test]
fn under_nohup_a_hangup_means_nothing() {
    let place = Place::project();
    counting(&place);
    let running = place.begin_under_nohup(&["apply", "runbooks/counting.yaml"]);
    assert_eq!(std::fs::read_to_string(place.path("begun")).unwrap(), "begun\n");
    running.signal(Signal::HUP);
    go(&place);
    let (code, said) = running.code();
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(count(&place), "work\nafter\n");
}

#[test]
fn what_a_secret_was_before_a_crash_is_masked_after_the_resume() {
    let place = Place::project();
    let folder = place.root().display().to_string();
    let text = format!(
        "schema: runbook/v1\nname: secretive\ntargets: {{select: here}}\nirreversible: it only talks\nsecrets: {{pw: {{env: \
         TEST_PW}}}}\nexecute:\n  - id: work\n    env: {{PW: '{{{{secret.pw}}}}'}}\n    run: |\n      echo \"$PW\" > \
         {folder}/kept\n      echo begun > {folder}/begun\n      while [ ! -e {folder}/go ]; do sleep 0.05; done\n  - id: tells\n    \
         run: cat {folder}/kept\n"
    );
    place.write("runbooks/secretive.yaml", &text);
    assert!(std::process::Command::new("mkfifo").arg(place.path("begun")).status().unwrap().success());
    let mut apply = place.command(&["apply", "runbooks/secretive.yaml"]);
    let mut child = apply.env("TEST_PW", "correct horse").stderr(std::process::Stdio::null()).spawn().unwrap();
    assert_eq!(std::fs::read_to_string(place.path("begun")).unwrap(), "begun\n");
    child.kill().unwrap();
    child.wait().unwrap();
    go(&place);
    let said = place.run(&["resume", "last"]).code(3);
    assert!(said.stderr.contains("RB0315") && said.stderr.contains("TEST_PW"), "{}", said.stderr);
    let resumed = place.command(&["resume", "last"]).env("TEST_PW", "correct horse").output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{resumed:?}");
    let logs = place.run(&["logs", "last", "--step", "tells", "--raw"]).code(0).stdout;
    assert_eq!(logs, "***\n");
}
