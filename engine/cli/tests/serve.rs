//! The daemon: what is due is run once, whoever watches, and whoever dies.
#![allow(clippy::disallowed_methods, reason = "other processes are waited for, and moments that come by themselves")]

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use place::Place;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A line for each run of a host, in a file of the host's.
const RUNBOOK: &str = "schema: runbook/v1\nname: count\nparameters: {folder: {type: path}, pause: {type: duration, default: 0s}}\n\
                       targets: {select: all}\nexecute:\n  - run: sleep {{param.pause}}; echo \"$RUNBOOK_ATTEMPT\" >> \
                       {{param.folder}}/{{host.name}}\n    idempotent: true\nirreversible: it counts\n";

/// A daemon that is ended with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Daemon {
    fn of(place: &Place, log: &str) -> Self {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(place.path(log)).unwrap();
        let mut command = place.command(&["serve", "--json-lines"]);
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self(child)
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

fn hosts(place: &Place, count: usize) {
    let mut inventory = "schema: inventory/v1\nhosts:\n".to_owned();
    for n in 0..count {
        let _ = writeln!(inventory, "  h{n}: {{transport: local}}");
    }
    place.write("inventory.yaml", &inventory);
    place.write("runbooks/count.yaml", RUNBOOK);
    std::fs::create_dir(place.path("counted")).unwrap();
}

/// A schedule for each host, a second apart, from `first` on.
fn schedules(place: &Place, first: Timestamp, count: usize, more: &str) {
    let mut text = "schema: schedule/v1\nzone: UTC\nschedules:\n".to_owned();
    for n in 0..count {
        let at = first + SignedDuration::from_secs(i64::try_from(n).unwrap());
        let folder = place.path("counted");
        let _ = writeln!(
            text,
            "  s{n}: {{run: runbooks/count.yaml, when: \"every day {}\", limit: h{n}, parameters: {{folder: {}{more}}}}}",
            at.strftime("%H:%M:%S"),
            folder.display(),
        );
    }
    place.write("schedule.yaml", &text);
}

fn list(place: &Place) -> Value {
    place.run(&["schedule", "list", "--json"]).code(0).json()
}

/// Each schedule's outcomes so far.
fn outcomes(place: &Place) -> BTreeMap<String, Vec<String>> {
    let of = |schedule: &Value| -> Vec<String> {
        let last = schedule["last"].as_array().unwrap().iter();
        last.map(|last| last["outcome"].as_str().unwrap().to_owned()).collect()
    };
    let all = list(place)["schedules"].as_array().unwrap().clone();
    all.iter().map(|schedule| (schedule["name"].as_str().unwrap().to_owned(), of(schedule))).collect()
}

/// Waits until `is` holds, for two minutes at most.
#[track_caller]
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < Duration::from_secs(120), "not in two minutes: {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn counted(place: &Place, host: usize) -> usize {
    std::fs::read_to_string(place.path(&format!("counted/h{host}"))).unwrap_or_default().lines().count()
}

/// The moment from which on a test's schedules are due: not across midnight, where tomorrow's would be meant.
fn soon(seconds: i64) -> Timestamp {
    loop {
        let first = Timestamp::now() + SignedDuration::from_secs(seconds);
        let last = first + SignedDuration::from_secs(60);
        if first.strftime("%d").to_string() == last.strftime("%d").to_string() {
            return first;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
fn two_daemons_of_which_one_is_killed_again_and_again_run_each_occurrence_once() {
    const COUNT: usize = 15;
    let place = Place::project();
    hosts(&place, COUNT);
    schedules(&place, soon(6), COUNT, "");
    let _steady = Daemon::of(&place, "steady.log");
    let mut other = Daemon::of(&place, "other.log");
    for round in 0..12_u64 {
        // Not in step with the seconds of the schedules.
        std::thread::sleep(Duration::from_millis(900 + round * 137 % 700));
        other.signal(Signal::KILL);
        other.0.wait().unwrap();
        other = Daemon::of(&place, "other.log");
    }
    let ended = |outcomes: &BTreeMap<String, Vec<String>>| {
        outcomes.values().all(|of| !of.is_empty() && of.iter().all(|one| one != "running"))
    };
    until("every schedule has an outcome", || ended(&outcomes(&place)));
    let logs = || ["steady.log", "other.log"].map(|log| std::fs::read_to_string(place.path(log)).unwrap()).join("\n");
    for (name, outcomes) in outcomes(&place) {
        assert_eq!(outcomes, ["succeeded"], "{name}\n{}", logs());
    }
    let runs = place.run(&["runs", "--json"]).code(0).json();
    assert_eq!(runs["runs"].as_array().unwrap().len(), COUNT, "{}", logs());
    for host in 0..COUNT {
        assert_eq!(counted(&place, host), 1, "h{host}\n{}", logs());
    }
    assert!(logs().contains("\"fired\""));
}

#[test]
fn a_run_whose_process_is_killed_is_taken_up_and_a_stopped_daemon_leaves_it_alone() {
    let place = Place::project();
    hosts(&place, 1);
    schedules(&place, soon(3), 1, ", pause: 4s");
    let mut daemon = Daemon::of(&place, "serve.log");
    let told = || std::fs::read_to_string(place.path("serve.log")).unwrap_or_default();
    let process = |event: &str| -> Option<i32> {
        let line = told().lines().rev().find(|line| line.contains(event)).map(str::to_owned)?;
        let line: Value = serde_json::from_str(&line).ok()?;
        i32::try_from(line["process"].as_i64()?).ok()
    };
    until("it was begun", || process("\"fired\"").is_some());
    until("the run is there", || outcomes(&place)["s0"] == ["running"]);
    // While the step sleeps on the host.
    std::thread::sleep(Duration::from_secs(1));
    kill_process(Pid::from_raw(process("\"fired\"").unwrap()).unwrap(), Signal::KILL).unwrap();
    until("it was taken up", || process("\"resumed\"").is_some());
    // The daemon's end is not the run's.
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0), "{}", told());
    assert!(told().contains("\"stopped\""), "{}", told());
    until("it has ended", || outcomes(&place)["s0"] == ["succeeded"]);
    assert_eq!(counted(&place, 0), 1, "the step was followed, not begun anew");
    let run = place.run(&["show", "last", "--json"]).code(0).json();
    assert!(run["occurrence"].as_str().unwrap().starts_with("s0@"), "{run}");
    place.run(&["evidence", "verify", "last"]).code(11);
}

#[test]
fn what_could_not_be_run_is_missed_on_record_with_its_reason() {
    let place = Place::project();
    hosts(&place, 1);
    let first = soon(2);
    schedules(&place, first, 1, "");
    let text = std::fs::read_to_string(place.path("schedule.yaml")).unwrap();
    place.write("schedule.yaml", &text.replace("count.yaml", "other.yaml"));
    // The first look only says since when it is watched.
    place.run(&["serve", "--once"]).code(0);
    until("it is due", || Timestamp::now() > first);
    let said = place.run(&["serve", "--once", "--json-lines"]).code(3);
    assert!(said.stdout.contains("\"missed\"") && said.stdout.contains("other.yaml"), "{}", said.stdout);
    let listed = list(&place);
    let last = &listed["schedules"][0]["last"][0];
    assert_eq!(last["outcome"], "missed");
    assert!(last["why"].as_str().unwrap().contains("other.yaml"), "{listed}");
    // Once is enough.
    let again = place.run(&["serve", "--once", "--json-lines"]).code(0);
    assert_eq!(again.stdout, "");
    // Somebody by hand, for what is settled: nothing is begun.
    let key = format!("s0@{}", last["at"].as_str().unwrap());
    let folder = place.path("counted");
    let folder = format!("folder={}", folder.display());
    let said = place.run(&["apply", "runbooks/count.yaml", "-p", &folder, "--occurrence", &key]).code(3);
    assert!(said.stderr.contains("RB0746"), "{}", said.stderr);
    assert_eq!(counted(&place, 0), 0);
}

#[test]
fn what_the_rules_refuse_is_settled_by_the_refusal() {
    let place = Place::project();
    hosts(&place, 1);
    place.write(
        "windows.yaml",
        "schema: windows/v1\nzone: UTC\nfreezes:\n  audit: {reason: the auditors are here, from: 2001-01-01, until: 2101-01-01}\n",
    );
    // Nobody listens there: the news waits.
    place.write("runbook.toml", "[notify.chat]\nkind = \"slack\"\nurl = \"https://127.0.0.1:9/x\"\n");
    let first = soon(2);
    schedules(&place, first, 1, "");
    place.run(&["serve", "--once"]).code(0);
    until("it is due", || Timestamp::now() > first);
    let said = place.run(&["serve", "--once", "--json-lines"]).code(3);
    assert!(said.stdout.contains("\"refused\"") && said.stdout.contains("auditors"), "{}", said.stdout);
    let listed = list(&place);
    let last = &listed["schedules"][0]["last"][0];
    assert_eq!(last["outcome"], "refused");
    let outbox = place.run(&["notify", "list", "--json"]).code(0).json();
    let kinds: Vec<&str> =
        outbox["messages"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds, ["refused"], "{outbox}");
    assert!(last["why"].as_str().unwrap().contains("the auditors are here"), "{listed}");
    assert_eq!(place.run(&["serve", "--once", "--json-lines"]).code(0).stdout, "");
}

#[test]
fn a_schedule_that_does_not_read_any_more_begins_nothing_until_it_is_mended() {
    let place = Place::project();
    hosts(&place, 1);
    let daemon = {
        schedules(&place, soon(600), 1, "");
        Daemon::of(&place, "serve.log")
    };
    let told = || std::fs::read_to_string(place.path("serve.log")).unwrap_or_default();
    until("it watches", || told().contains("\"ready\""));
    let first = soon(4);
    schedules(&place, first, 1, "");
    until("it has read it", || told().contains("\"changed\""));
    let right = std::fs::read_to_string(place.path("schedule.yaml")).unwrap();
    place.write("schedule.yaml", &right.replace("when:", "wen:"));
    until("it says so", || told().contains("\"invalid\""));
    until("it would be due", || Timestamp::now() > first + SignedDuration::from_secs(2));
    assert!(!told().contains("\"fired\""), "{}", told());
    // Mended, it is run late.
    place.write("schedule.yaml", &right);
    until("it was run", || counted(&place, 0) == 1);
    drop(daemon);
}

#[test]
fn a_review_that_is_due_soon_is_told_once() {
    let place = Place::project();
    let key = place.path("home/jane");
    let made =
        std::process::Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let account = std::process::Command::new("id").arg("-un").output().unwrap();
    let account = String::from_utf8(account.stdout).unwrap().trim().to_owned();
    place.write(
        "people.yaml",
        &format!(
            "schema: people/v1\npeople:\n  jane: {{name: Jane Doe, roles: [it-lead], keys: [{}]}}\n  ben: {{name: Ben Ito, \
             roles: [sysadmin], accounts: [{account}]}}\n",
            public.trim()
        ),
    );
    let rule = "{name: after it, review: {within: 1h, roles: {it-lead: 1}}}";
    place.write("policy.yaml", &format!("schema: policy/v1\nrules: [{rule}]\n"));
    place.write("runbook.toml", "[notify.chat]\nkind = \"slack\"\nurl = \"https://127.0.0.1:9/x\"\n");
    schedules(&place, soon(600), 1, "");
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    for _ in 0..2 {
        place.run(&["serve", "--once"]).code(0);
        let outbox = place.run(&["notify", "list", "--json"]).code(0).json();
        let kinds = outbox["messages"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap());
        assert_eq!(kinds.filter(|kind| *kind == "review_due").count(), 1, "{outbox}");
    }
}

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let place = Place::project();
    let said = place.run(&["serve", "--print-unit", "--user", "root"]).code(0);
    place.write("runbook.service", &said.stdout);
    let checked = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(place.path("runbook.service"))
        .output()
        .expect("tests/setup installs systemd");
    let words = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && !words.contains("runbook.service"), "{words}");
}

#[test]
fn called_once_what_cannot_be_begun_is_no_success_and_the_next_call_begins_it() {
    let place = Place::project();
    let mut other = place.start_waiting();
    let first = soon(2);
    let folder = place.path("greeting");
    place.write(
        "schedule.yaml",
        &format!(
            "schema: schedule/v1\nzone: UTC\nschedules:\n  s0: {{run: runbooks/hello.yaml, when: \"every day {}\", parameters: \
             {{folder: {}}}}}\n",
            first.strftime("%H:%M:%S"),
            folder.display()
        ),
    );
    place.run(&["serve", "--once"]).code(0);
    until("it is due", || Timestamp::now() > first);
    let said = place.run(&["serve", "--once", "--json-lines"]).code(3);
    assert!(said.stdout.contains("\"waiting\"") && said.stdout.contains("RB0302"), "{}", said.stdout);
    assert!(!folder.join("greeting").exists());
    place.write("go", "");
    assert!(other.wait().unwrap().success());
    place.run(&["serve", "--once"]).code(0);
    assert!(folder.join("greeting").exists());
    assert_eq!(outcomes(&place)["s0"], ["succeeded"]);
}
