//! Windows: what is listed, what is refused, what is set aside.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::Place;
use rustix::process::Signal;

/// Closed whenever the test runs, but for a minute that has long gone.
const NEVER_OPEN: &str = "schema: windows/v1\nzone: UTC\nwindows:\n  once:\n    rule: FREQ=DAILY;COUNT=1\n    starting: 2001-01-01\n    \
                          at: \"00:00\"\n    for: 1m\n";
const ALWAYS_OPEN: &str = "schema: windows/v1\nzone: UTC\nwindows:\n  always: {when: \"every day 00:00 for 36h\"}\n";
const FROZEN: &str = "schema: windows/v1\nzone: UTC\nfreezes:\n  audit: {reason: the auditors are here, from: 2001-01-01, until: \
                      2101-01-01}\n";

fn apply(place: &Place, more: &[&str]) -> place::Said {
    let folder = place.folder();
    let mut arguments = vec!["apply", "runbooks/hello.yaml", "-p", &folder];
    arguments.extend(more);
    place.run(&arguments)
}

fn done(place: &Place) -> bool {
    place.path("greeting/greeting").exists()
}

#[test]
fn outside_of_its_windows_nothing_begins_and_the_refusal_says_why() {
    let place = Place::project();
    place.write("windows.yaml", NEVER_OPEN);
    let said = apply(&place, &[]).code(3);
    for word in ["RB0720", "outside of window once", "nothing was changed", "--break-glass"] {
        assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
    }
    assert!(!done(&place));
    assert!(place.run(&["runs", "--json"]).json()["runs"].as_array().unwrap().is_empty(), "no run was opened");
}

#[test]
fn inside_of_a_window_work_is_done_and_the_record_has_its_times() {
    let place = Place::project();
    place.write("windows.yaml", ALWAYS_OPEN);
    apply(&place, &[]).code(0);
    assert!(done(&place));
    let run = place.run(&["show", "last", "--json"]).json();
    assert_eq!(run["permit_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(run["break_glass"], serde_json::Value::Null);
}

#[test]
fn what_does_not_fit_before_the_end_is_not_begun() {
    let place = Place::project();
    // A window is open for an hour at a time but for a second, and what the steps may take is longer.
    let mut minutes = "schema: windows/v1\nzone: UTC\nwindows:\n".to_owned();
    for hour in 0..24 {
        minutes.push_str(&format!("  h{hour}: {{when: \"every day {hour:02}:00 for 59m59s\", hosts: here}}\n"));
    }
    minutes.push_str("blackouts:\n  halves: {from: 2001-01-01, until: 2001-01-02}\n");
    place.write("windows.yaml", &minutes);
    let text = std::fs::read_to_string(place.path("runbooks/hello.yaml")).unwrap();
    place.write("runbooks/hello.yaml", &format!("{text}\ndefaults: {{timeout: 70m}}\n"));
    let said = apply(&place, &[]).code(3);
    assert!(
        said.stderr.contains("are needed (the limits of its steps, since there are too few earlier runs"),
        "{}",
        said.stderr
    );
    assert!(!done(&place));
}

#[test]
fn a_freeze_is_for_everyone_and_breaking_the_glass_is_loud_and_on_record() {
    let place = Place::project();
    place.write("windows.yaml", FROZEN);
    let said = apply(&place, &[]).code(3);
    assert!(said.stderr.contains("everything is frozen by audit (the auditors are here)"), "{}", said.stderr);
    apply(&place, &["--break-glass", "  "]).code(2);
    assert!(!done(&place));
    let said = apply(&place, &["--break-glass", "the disk is dying"]).code(0);
    assert!(said.stderr.contains("BREAK GLASS") && said.stderr.contains("the disk is dying"), "{}", said.stderr);
    assert!(done(&place));
    assert_eq!(place.run(&["show", "last", "--json"]).json()["break_glass"][0], "the disk is dying");
    for command in ["show", "explain"] {
        let said = place.run(&[command, "last"]);
        assert!(said.stdout.contains("the disk is dying"), "{command}: {}", said.stdout);
    }
}

#[test]
fn prechecks_alone_need_no_window() {
    let place = Place::project();
    place.write("windows.yaml", FROZEN);
    apply(&place, &["--check"]).code(0);
    assert!(!done(&place));
}

#[test]
fn taking_a_finished_run_back_is_work_that_needs_a_window() {
    let place = Place::project();
    apply(&place, &[]).code(0);
    place.write("windows.yaml", FROZEN);
    place.run(&["rollback", "last"]).code(3);
    assert!(done(&place), "nothing was taken back");
    place.run(&["rollback", "last", "--break-glass", "it harms users"]).code(5);
    assert!(!done(&place));
}

#[test]
fn a_resume_ends_what_was_begun_although_everything_is_frozen_meanwhile() {
    let place = Place::project();
    let folder = place.root().display();
    let text = format!(
        "schema: runbook/v1\nname: two\ntargets: {{select: 'a | b', batch: 1}}\nexecute:\n  - id: work\n    run: |\n      echo \
         begun >{folder}/{{{{host.name}}}}.begun\n      while [ ! -e {folder}/go ]; do sleep 0.05; done\n      echo x \
         >>{folder}/{{{{host.name}}}}\n    undo: {{run: 'true'}}\n"
    );
    place.write("runbooks/two.yaml", &text);
    place.write("inventory.yaml", "schema: inventory/v1\ndefaults: {transport: local}\nhosts: {a: {}, b: {}}\n");
    assert!(std::process::Command::new("mkfifo").arg(place.path("a.begun")).status().unwrap().success());
    let running = place.begin(&["apply", "runbooks/two.yaml"]);
    assert_eq!(std::fs::read_to_string(place.path("a.begun")).unwrap(), "begun\n");
    running.signal(Signal::KILL);
    drop(running);
    place.write("windows.yaml", FROZEN);
    place.write("go", "");
    place.run(&["resume", "last"]).code(3);
    assert_eq!(std::fs::read_to_string(place.path("a")).unwrap(), "x\n", "it was under way, and is done once");
    assert!(!place.path("b").exists());
    let run = place.run(&["show", "last", "--json"]).json();
    let of = |name: &str| run["hosts"].as_array().unwrap().iter().find(|host| host["name"] == name).unwrap().clone();
    assert_eq!(of("a")["outcome"], "succeeded");
    assert_eq!(of("b")["outcome"], "blocked");
    assert_eq!(of("b")["reason"], "not begun: everything is frozen by audit (the auditors are here)");
}

#[test]
fn a_dead_run_is_taken_back_although_the_windows_cannot_be_read() {
    let place = Place::project();
    let mut waiting = place.start_waiting();
    waiting.kill().unwrap();
    waiting.wait().unwrap();
    place.write("windows.yaml", "schema: windows/v1\nwindows: [");
    place.run(&["resume", "last"]).code(2);
    place.run(&["cancel", "last"]).code(8);
    assert!(!place.path("changed").exists());
}

#[test]
fn problems_of_the_file_are_told_at_their_places_before_anything_is_done() {
    let place = Place::project();
    let wrong = "schema: windows/v1\nwindows:\n  a: {rule: FREQ=HOURLY, at: \"02:00\", for: 1h, zone: UTC}\n  b: {when: every day \
                 02:00 for 1h, zone: America/Gotham}\n";
    place.write("windows.yaml", wrong);
    let by = [&["windows", "check"][..], &["validate", "windows.yaml"]];
    let said = by.map(|arguments| place.run(arguments).code(2));
    for said in said.into_iter().chain([apply(&place, &[]).code(2)]) {
        for word in
            ["windows.yaml:3:13", "no frequency below a day", "windows.yaml:4:13", "no time zone `America/Gotham`"]
        {
            assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
        }
    }
    place.write("windows.yaml", &ALWAYS_OPEN.replace("36h\"", "36h\", hosts: nobody"));
    let said = apply(&place, &[]).code(2);
    assert!(said.stderr.contains("no host, group or flag is called `nobody`"), "{}", said.stderr);
    assert!(!done(&place));
}

#[test]
fn the_list_shows_the_next_openings_and_what_the_clock_does_to_them() {
    let place = Place::project();
    let text = "schema: windows/v1\nzone: America/New_York\nwindows:\n  patch-night: {title: Patches, when: second Tuesday 22:00 for \
                4h}\n  early: {when: every Sunday 02:30 for 1h, hosts: here, tiers: [emergency]}\nfreezes:\n  audit: {reason: audit, \
                from: 2026-03-20, until: 2026-03-21}\n";
    place.write("windows.yaml", text);
    let said = place.run(&["windows", "list", "--next", "2", "--from", "2026-03-01"]).code(0);
    for line in [
        "patch-night  Patches · all hosts · America/New_York",
        "Tue 2026-03-10 22:00 EDT to Wed 02:00 EDT  2026-03-11T02:00Z",
        "Sun 2026-03-01 02:30 EST to Sun 03:30 EST  2026-03-01T07:30Z",
        "Sun 2026-03-08 03:30 EDT to Sun 04:30 EDT  2026-03-08T07:30Z  (the clock jumps over the time that day",
        "audit  freeze: 2026-03-20 00:00 to 2026-03-21 00:00 America/New_York, everything (audit)",
    ] {
        assert!(said.stdout.contains(line), "{line}\n{}", said.stdout);
    }
    let routine = place.run(&["windows", "list", "--tier", "routine", "--from", "2026-03-01", "--json"]).code(0).json();
    assert_eq!(routine["schema"], "windows-list/v1");
    assert_eq!(routine["windows"].as_array().unwrap().len(), 1);
    assert_eq!(routine["windows"][0]["openings"][0]["start"], "2026-03-11T02:00:00Z");
    assert_eq!(routine["hosts"][0]["now"]["state"], "outside");
    let twelve = place.run(&["windows", "list", "--next", "12", "--tier", "routine", "--json"]).code(0).json();
    assert_eq!(twelve["windows"][0]["openings"].as_array().unwrap().len(), 12);
}

/// Every command, and whether it begins or continues work on hosts. Those that do are refused in a freeze (or, going on with
/// what was begun, begin no further host); a new command has to be put here.
#[test]
fn every_command_that_begins_work_asks_the_one_authorizer() {
    let place = Place::project();
    let help = place.run(&["--help"]).code(0).stdout;
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    // `serve` begins `apply` and `resume`: tests/serve.rs has what is refused of it.
    let work = ["apply", "rehearse", "resume", "rollback", "serve"];
    // `cancel` only takes back; `resolve` and who decides about a plan or reviews a run only write down; `snapshots` only removes what a run
    // left for it.
    let other = [
        "init",
        "validate",
        "plan",
        "cancel",
        "resolve",
        "runs",
        "show",
        "logs",
        "explain",
        "evidence",
        "retention",
        "witness",
        "snapshots",
        "inventory",
        "actions",
        "windows",
        "schedule",
        "notify",
        "people",
        "policy",
        "ticket",
        "access",
        "approve",
        "reject",
        "approvals",
        "review",
        "reviews",
        "doctor",
        "schema",
        "completions",
        "man",
        "help",
    ];
    for command in &commands {
        assert!(work.contains(command) || other.contains(command), "does `{command}` begin work on hosts?");
    }
    for command in work {
        assert!(commands.contains(&command), "{command}");
    }
    apply(&place, &[]).code(0);
    place.write("windows.yaml", FROZEN);
    let rehearse = &["rehearse", "runbooks/hello.yaml", "--on", "here"];
    for arguments in [&["apply", "runbooks/hello.yaml"][..], rehearse, &["rollback", "last"]] {
        let said = place.run(arguments).code(3);
        assert!(said.stderr.contains("RB0720"), "{arguments:?}: {}", said.stderr);
    }
    std::fs::remove_file(place.path("windows.yaml")).unwrap();
    place.write("policy.yaml", "schema: policy/v1\nrules: [{ticket: 'CHG-[0-9]+'}]\n");
    let rehearse = &["rehearse", "runbooks/hello.yaml", "--on", "here"];
    for arguments in [&["apply", "runbooks/hello.yaml"][..], rehearse, &["rollback", "last"]] {
        let said = place.run(arguments).code(3);
        assert!(said.stderr.contains("RB0722"), "{arguments:?}: {}", said.stderr);
    }
}
