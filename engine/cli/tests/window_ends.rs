//! Windows that end, change and open while the program works or waits: the real program on this machine.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use place::Place;
use rustix::process::Signal;
use serde_json::Value;

const ALWAYS_OPEN: &str = "schema: windows/v1\nzone: UTC\nwindows:\n  always: {when: \"every day 00:00 for 36h\"}\n";
const FROZEN: &str = "freezes:\n  audit: {reason: the auditors are here, from: 2001-01-01, until: 2101-01-01}\n";
const HOSTS: &str = "schema: inventory/v1\ndefaults: {transport: local}\nhosts: {a: {}, b: {}, c: {}}\n";

/// From a full minute that is over until `end`, as `windows.yaml` has it: a file has minutes, but lengths in seconds.
fn until(end: Timestamp) -> String {
    let begin = from_now(-120);
    let begin = Timestamp::from_second(begin.as_second() / 60 * 60).unwrap();
    let lasts = end.as_second() - begin.as_second();
    let (day, at) = (begin.strftime("%Y-%m-%d"), begin.strftime("%H:%M"));
    format!("rule: FREQ=DAILY;COUNT=1, starting: {day}, at: \"{at}\", for: {lasts}s")
}

fn from_now(seconds: i64) -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(seconds)
}

/// A runbook over hosts one after the other; each says that it has begun, and waits for the file `go`.
fn one_by_one(place: &Place, select: &str, more: &str) {
    let folder = place.root().display();
    let text = format!(
        "schema: runbook/v1\nname: slow\ntargets: {{select: '{select}', batch: 1, failure_budget: 9}}\n{more}execute:\n  - id: \
         work\n    timeout: 5m\n    run: |\n      touch {folder}/{{{{host.name}}}}.changed\n      echo begun \
         >{folder}/{{{{host.name}}}}.begun\n      while [ ! -e {folder}/go ]; do sleep 0.05; done\n    undo:\n      run: rm -f \
         {folder}/{{{{host.name}}}}.changed\nfinally:\n  - run: touch {folder}/{{{{host.name}}}}.tidied\n"
    );
    place.write("runbooks/slow.yaml", &text);
    place.write("inventory.yaml", HOSTS);
    for host in ["a", "b", "c"] {
        let pipe = place.path(&format!("{host}.begun"));
        assert!(std::process::Command::new("mkfifo").arg(pipe).status().unwrap().success());
    }
}

/// Returns when the host's change has begun.
#[track_caller]
fn has_begun(place: &Place, host: &str) {
    let pipe = place.path(&format!("{host}.begun"));
    let (say, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || say.send(std::fs::read_to_string(pipe)));
    let said = hear.recv_timeout(Duration::from_secs(60)).unwrap_or_else(|_| panic!("{host} did not begin"));
    assert_eq!(said.unwrap(), "begun\n");
}

fn of<'a>(run: &'a Value, host: &str) -> &'a Value {
    run["hosts"].as_array().unwrap().iter().find(|of| of["name"] == host).unwrap()
}

fn shown(place: &Place) -> Value {
    place.run(&["show", "last", "--json"]).json()
}

/// The record holds, and names nothing that is not there.
fn verifies(place: &Place) {
    let verdict = place.run(&["evidence", "verify", "last", "--json"]).code(11).json();
    assert_eq!(verdict["gaps"], Value::Array(Vec::new()), "{verdict}");
}

#[test]
fn a_freeze_that_is_declared_while_one_host_works_blocks_the_others() {
    let place = Place::project();
    one_by_one(&place, "a | b | c", "");
    place.write("windows.yaml", ALWAYS_OPEN);
    let running = place.begin(&["apply", "runbooks/slow.yaml"]);
    has_begun(&place, "a");
    place.write("windows.yaml", &format!("{ALWAYS_OPEN}{FROZEN}"));
    place.write("go", "");
    let (code, said) = running.code();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("the windows have changed"), "{said}");
    let run = shown(&place);
    assert_eq!(of(&run, "a")["outcome"], "succeeded");
    for host in ["b", "c"] {
        assert_eq!(of(&run, host)["outcome"], "blocked");
        assert_eq!(of(&run, host)["reason"], "not begun: everything is frozen by audit (the auditors are here)");
        assert!(!place.path(&format!("{host}.changed")).exists());
    }
    assert_eq!(run["permit_changes"].as_array().unwrap().len(), 1);
    assert_ne!(run["permit_changes"][0]["permit_sha256"], run["permit_sha256"]);
    verifies(&place);
    let explained = place.run(&["explain", "last"]).stdout;
    assert!(explained.contains("The windows were changed while it went on"), "{explained}");
}

#[test]
fn windows_that_come_to_a_project_without_any_count_for_a_run_that_goes_on() {
    let place = Place::project();
    one_by_one(&place, "a | b", "");
    let running = place.begin(&["apply", "runbooks/slow.yaml"]);
    has_begun(&place, "a");
    place.write("windows.yaml", &format!("schema: windows/v1\nzone: UTC\n{FROZEN}"));
    place.write("go", "");
    assert_eq!(running.code().0, Some(3));
    let run = shown(&place);
    assert_eq!(run["permit_sha256"], Value::Null);
    assert_eq!(of(&run, "b")["outcome"], "blocked");
    verifies(&place);
}

#[test]
fn while_windows_cannot_be_made_out_or_are_gone_nothing_more_begins() {
    for (what, spoil) in [
        ("windows.yaml:", "windows: ["),
        ("windows.yaml is gone", ""),
        ("no host, group or flag is called `nobody`", "hosts"),
    ] {
        let place = Place::project();
        one_by_one(&place, "a | b", "");
        place.write("windows.yaml", ALWAYS_OPEN);
        let running = place.begin(&["apply", "runbooks/slow.yaml"]);
        has_begun(&place, "a");
        match spoil {
            "" => std::fs::remove_file(place.path("windows.yaml")).unwrap(),
            "hosts" => place.write("windows.yaml", &ALWAYS_OPEN.replace("36h\"", "36h\", hosts: nobody")),
            text => place.write("windows.yaml", text),
        }
        place.write("go", "");
        let (code, said) = running.code();
        assert_eq!(code, Some(3), "{what}: {said}");
        let run = shown(&place);
        assert_eq!(of(&run, "a")["outcome"], "succeeded", "{what}");
        let reason = of(&run, "b")["reason"].as_str().unwrap();
        assert!(reason.starts_with("not begun: what the windows allow cannot be made out: "), "{reason}");
        assert!(reason.contains(what), "{what}: {reason}");
        verifies(&place);
    }
}

#[test]
fn a_file_that_is_written_anew_with_the_same_content_is_no_change() {
    let place = Place::project();
    one_by_one(&place, "a | b", "");
    place.write("windows.yaml", ALWAYS_OPEN);
    let running = place.begin(&["apply", "runbooks/slow.yaml"]);
    has_begun(&place, "a");
    place.write("windows.yaml", ALWAYS_OPEN);
    place.write("go", "");
    has_begun(&place, "b");
    assert_eq!(running.code().0, Some(0));
    assert_eq!(shown(&place)["permit_changes"], Value::Null);
}

#[test]
fn an_inventory_that_changes_moves_hosts_into_other_windows() {
    let place = Place::project();
    one_by_one(&place, "a | b", "");
    let night = "  never: {rule: FREQ=DAILY;COUNT=1, starting: 2001-01-01, at: \"00:00\", for: 1m, hosts: late}\n";
    place.write("windows.yaml", &format!("{ALWAYS_OPEN}{}", night).replace("36h\"}", "36h\", hosts: '!late'}"));
    let groups = |hosts: &str| format!("{HOSTS}groups: {{late: {{hosts: [{hosts}]}}}}\n");
    place.write("inventory.yaml", &groups("c"));
    let running = place.begin(&["apply", "runbooks/slow.yaml"]);
    has_begun(&place, "a");
    place.write("inventory.yaml", &groups("b, c"));
    place.write("go", "");
    let (code, said) = running.code();
    assert_eq!(code, Some(3), "{said}");
    assert_eq!(of(&shown(&place), "b")["reason"], "not begun: outside of window never");
}

#[test]
fn a_host_that_is_not_through_is_taken_back_before_its_time_ends() {
    let place = Place::project();
    one_by_one(&place, "a | b", "");
    let folder = place.root().display();
    // One attempt is quick, and that is what is expected of it; it is the attempts that take long.
    let text = format!(
        "schema: runbook/v1\nname: slow\ntargets: {{select: 'a | b', batch: 1, failure_budget: 9}}\nrollback: {{budget: \
         3s}}\nwindow: {{at_end: rollback}}\ndefaults: {{timeout: 3s}}\nexecute:\n  - id: work\n    run: |\n      touch \
         {folder}/{{{{host.name}}}}.changed\n      test -e {folder}/go\n    retry: {{attempts: 1000, delay: 200ms, backoff: \
         1.0, on: [exit]}}\n    undo:\n      run: rm -f {folder}/{{{{host.name}}}}.changed\nfinally:\n  - run: touch \
         {folder}/{{{{host.name}}}}.tidied\n"
    );
    place.write("runbooks/slow.yaml", &text);
    let ends = from_now(20);
    place.write("windows.yaml", &format!("schema: windows/v1\nzone: UTC\nwindows:\n  short: {{{}}}\n", until(ends)));
    let mut running = place.begin(&["apply", "runbooks/slow.yaml"]);
    running.hear("a: it was cut off 3 s before the end of window short, so that the way back fits");
    let (code, said) = running.code();
    assert_eq!(code, Some(5), "{said}");
    assert!(!place.path("a.changed").exists(), "it was taken back");
    assert!(place.path("a.tidied").exists(), "finally runs");
    let run = shown(&place);
    assert_eq!(of(&run, "a")["outcome"], "rolled_back");
    assert_eq!(of(&run, "b")["outcome"], "blocked");
    let cut: Timestamp = of(&run, "a")["cut_off"]["at"].as_str().unwrap().parse().unwrap();
    assert!(cut >= ends - SignedDuration::from_secs(4), "not earlier: {cut} {ends}");
    verifies(&place);
}

#[test]
fn a_freeze_that_is_declared_stops_what_runs_where_the_runbook_says_so() {
    let place = Place::project();
    one_by_one(&place, "a", "rollback: {budget: 30s}\nwindow: {at_end: rollback}\n");
    place.write("windows.yaml", ALWAYS_OPEN);
    let mut running = place.begin(&["apply", "runbooks/slow.yaml"]);
    has_begun(&place, "a");
    // Nothing happens in the run: only the change of the file wakes it.
    place.write("windows.yaml", &format!("{ALWAYS_OPEN}{FROZEN}"));
    running.hear("its time is over: everything is frozen by audit (the auditors are here)");
    let (code, said) = running.code();
    assert_eq!(code, Some(5), "{said}");
    assert!(!place.path("a.changed").exists());
    let run = shown(&place);
    assert_eq!(of(&run, "a")["outcome"], "rolled_back");
    assert!(of(&run, "a")["cut_off"]["ends_at"].is_string());
    let report = place.path("report.html");
    place.run(&["evidence", "report", "last", "--out", report.to_str().unwrap()]).code(0);
    assert!(std::fs::read_to_string(report).unwrap().contains("was cut off at"));
    verifies(&place);
}

#[test]
fn what_was_begun_by_breaking_the_glass_goes_on_whatever_the_windows_become() {
    let place = Place::project();
    one_by_one(&place, "a | b", "window: {at_end: rollback}\n");
    place.write("windows.yaml", ALWAYS_OPEN);
    let running = place.begin(&["apply", "runbooks/slow.yaml", "--break-glass", "the disk is dying"]);
    has_begun(&place, "a");
    place.write("windows.yaml", &format!("{ALWAYS_OPEN}{FROZEN}"));
    place.write("go", "");
    has_begun(&place, "b");
    assert_eq!(running.code().0, Some(0));
    assert!(place.path("a.changed").exists() && place.path("b.changed").exists());
    assert_eq!(shown(&place)["permit_changes"], Value::Null);
}

#[test]
fn a_resume_takes_back_what_was_begun_in_a_time_that_is_over() {
    let place = Place::project();
    one_by_one(&place, "a", "rollback: {budget: 30s}\nwindow: {at_end: rollback}\n");
    place.write("windows.yaml", ALWAYS_OPEN);
    let running = place.begin(&["apply", "runbooks/slow.yaml"]);
    has_begun(&place, "a");
    running.signal(Signal::KILL);
    drop(running);
    place.write("windows.yaml", &format!("{ALWAYS_OPEN}{FROZEN}"));
    let said = place.run(&["resume", "last"]).code(5);
    assert!(said.stderr.contains("its time is over"), "{}", said.stderr);
    assert!(!place.path("a.changed").exists());
    assert!(place.path("a.tidied").exists());
    verifies(&place);
}

/// Closed until then.
fn opens(place: &Place, opens: Timestamp) {
    let text = format!(
        "schema: windows/v1\nzone: UTC\nblackouts:\n  audit: {{reason: the auditors are here, {}}}\n",
        until(opens)
    );
    place.write("windows.yaml", &text);
}

#[test]
fn apply_waits_for_its_window_and_begins_when_it_opens() {
    let place = Place::project();
    let opening = from_now(4);
    opens(&place, opening);
    let folder = place.folder();
    let arguments = ["apply", "runbooks/hello.yaml", "-p", &folder, "--at-window"];
    let said = place.run(&[&arguments[..], &["--json-lines"]].concat()).code(0);
    assert!(said.stderr.contains("waiting until "), "{}", said.stderr);
    assert!(said.stderr.contains("closed by the blackout audit (the auditors are here)"), "{}", said.stderr);
    let first: Value = serde_json::from_str(said.stdout.lines().next().unwrap()).unwrap();
    assert_eq!(first["schema"], "waiting/v1");
    let until: Timestamp = first["until"].as_str().unwrap().parse().unwrap();
    assert!(opening.duration_since(until).abs() < SignedDuration::from_secs(2), "{until} {opening}");
    let run = shown(&place);
    let started: Timestamp = run["started_at"].as_str().unwrap().parse().unwrap();
    assert!(started >= until, "{started} {until}");
    assert!(place.path("greeting/greeting").exists());
}

#[test]
fn who_waits_is_woken_by_a_change_of_the_windows() {
    let place = Place::project();
    opens(&place, from_now(100_000));
    let folder = place.folder();
    let mut waiting = place.begin(&["apply", "runbooks/hello.yaml", "-p", &folder, "--at-window"]);
    waiting.hear("waiting until");
    let other = from_now(200_000);
    opens(&place, other);
    waiting.hear(&format!("waiting until {}", other.strftime("%Y-%m-%dT%H:%M:%S")));
    place.write("windows.yaml", ALWAYS_OPEN);
    assert_eq!(waiting.code().0, Some(0));
    assert!(place.path("greeting/greeting").exists());
}

#[test]
fn waiting_ends_with_nothing_begun_when_it_is_told_to() {
    let place = Place::project();
    opens(&place, from_now(100_000));
    for signal in [Signal::INT, Signal::TERM] {
        let folder = place.folder();
        let mut waiting = place.begin(&["apply", "runbooks/hello.yaml", "-p", &folder, "--at-window"]);
        waiting.hear("waiting until");
        waiting.signal(signal);
        let (code, said) = waiting.code();
        assert_eq!(code, Some(8), "{said}");
        assert!(said.contains("RB0730") && said.contains("nothing was changed"), "{said}");
    }
    assert!(place.run(&["runs", "--json"]).json()["runs"].as_array().unwrap().is_empty(), "no run was opened");
}

#[test]
fn what_waiting_does_not_mend_is_refused_at_once_and_what_comes_up_meanwhile_too() {
    let place = Place::project();
    opens(&place, from_now(100_000));
    place.write("policy.yaml", "schema: policy/v1\nrules: [{ticket: 'CHG-[0-9]+'}]\n");
    let folder = place.folder();
    let arguments = ["apply", "runbooks/hello.yaml", "-p", &folder, "--at-window"];
    let said = place.run(&arguments).code(3);
    assert!(said.stderr.contains("RB0722"), "{}", said.stderr);
    let with_ticket = [&arguments[..], &["--ticket", "CHG-1"]].concat();
    let mut waiting = place.begin(&with_ticket);
    waiting.hear("waiting until");
    place.write("policy.yaml", "schema: policy/v1\nrules: [{ticket: 'INC-[0-9]+'}]\n");
    let (code, said) = waiting.code();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("RB0722"), "{said}");
    let said = place.run(&[&arguments[..], &["--check"]].concat());
    assert_eq!(said.code, Some(2), "{}", said.stderr);
}

#[test]
fn taking_a_finished_run_back_waits_too() {
    let place = Place::project();
    let folder = place.folder();
    place.run(&["apply", "runbooks/hello.yaml", "-p", &folder]).code(0);
    opens(&place, from_now(3));
    place.run(&["rollback", "last", "--at-window"]).code(5);
    assert!(!place.path("greeting/greeting").exists());
}

/// Windows in which `a` may be begun, and one of long ago for `b`; or both now.
fn for_a_alone_or_for_both(place: &Place, both: bool) {
    let b = if both { "a | b" } else { "a" };
    let windows = format!(
        "schema: windows/v1\nzone: UTC\nwindows:\n  always: {{when: \"every day 00:00 for 36h\", hosts: '{b}'}}\n  once: {{rule: \
         FREQ=DAILY;COUNT=1, starting: 2001-01-01, at: \"00:00\", for: 1m, hosts: b}}\n"
    );
    place.write("windows.yaml", &windows);
}

#[test]
fn windows_that_become_wider_are_not_what_was_approved() {
    for approved in [false, true] {
        let place = Place::project();
        one_by_one(&place, "a | b", "");
        for_a_alone_or_for_both(&place, false);
        if approved {
            let key = place.path("home/jane");
            let made = std::process::Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                .arg(&key)
                .status();
            assert!(made.unwrap().success());
            let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
            let account = String::from_utf8(std::process::Command::new("id").arg("-un").output().unwrap().stdout);
            let (public, account) = (public.trim(), account.unwrap());
            place.write(
                "people.yaml",
                &format!(
                    "schema: people/v1\npeople:\n  jane: {{name: Jane Doe, roles: [it-lead], keys: [{public}]}}\n  ben: {{name: Ben \
                     Ito, roles: [sysadmin], accounts: [{}]}}\n",
                    account.trim()
                ),
            );
            place.write("policy.yaml", "schema: policy/v1\nrules: [{name: seen, approvals: {roles: {it-lead: 1}}}]\n");
        }
        place.run(&["plan", "runbooks/slow.yaml", "--out", "p.json"]).code(0);
        if approved {
            let key = place.path("home/jane");
            place.run(&["approve", "p.json", "--as", "jane", "--key", key.to_str().unwrap()]).code(0);
        }
        let running = place.begin(&["apply", "p.json"]);
        has_begun(&place, "a");
        for_a_alone_or_for_both(&place, true);
        place.write("go", "");
        if !approved {
            has_begun(&place, "b");
        }
        let (code, said) = running.code();
        assert_eq!(code, Some(if approved { 3 } else { 0 }), "{said}");
        if approved {
            let run = shown(&place);
            assert_eq!(of(&run, "a")["outcome"], "succeeded");
            assert_eq!(of(&run, "b")["outcome"], "blocked");
            assert_eq!(of(&run, "b")["reason"], "not begun: this time was in no window when the plan was approved");
        }
        verifies(&place);
    }
}
