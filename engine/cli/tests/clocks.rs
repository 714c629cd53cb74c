//! Runs that must be provable, and clocks that are not right.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::{Place, Said};

const POLICY: &str = "schema: policy/v1\nrules: [{name: provable, clock: {max_offset: 500ms}}]\n";

/// A machine on which chrony says this of its clock; `None`: it says nothing.
fn run(place: &Place, chrony: Option<(&str, &str)>, arguments: &[&str]) -> Said {
    let text = match chrony {
        Some((offset, leap)) => {
            format!("echo 'C0000201,192.0.2.1,3,1700000000.1,{offset},0.1,0.1,1,0.1,0.1,0.1,0.1,64.0,{leap}'")
        }
        None => "echo '506 Cannot talk to daemon'; exit 1".to_owned(),
    };
    place.write("fake/chronyc", &format!("#!/bin/sh\n{text}\n"));
    let chmod = std::process::Command::new("chmod").arg("755").arg(place.path("fake/chronyc")).status();
    assert!(chmod.unwrap().success());
    let path = format!("{}:{}", place.path("fake").display(), std::env::var("PATH").unwrap());
    let output = place.command(arguments).env("PATH", path).output().unwrap();
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

fn apply(place: &Place, chrony: Option<(&str, &str)>) -> Said {
    run(place, chrony, &["apply", "runbooks/hello.yaml", "-p", &place.folder()])
}

#[test]
fn a_run_that_must_be_provable_does_not_begin_by_a_clock_that_is_wrong_or_of_which_nobody_knows() {
    let place = Place::project();
    place.write("policy.yaml", POLICY);
    for (chrony, reason) in [
        (("0.000000", "Not synchronised"), "provable: the clock of this machine is not synchronised, says chrony"),
        (
            ("-0.500001", "Normal"),
            "the clock of this machine is 501 ms off, says chrony, and at most 500 ms are allowed",
        ),
        (("nonsense", "Normal"), "how far it is off is not told"),
    ] {
        let said = apply(&place, Some(chrony)).code(3);
        assert!(said.stderr.contains("RB0722") && said.stderr.contains(reason), "{reason}: {}", said.stderr);
    }
    // Where no other time service runs, nothing is known.
    if !std::path::Path::new("/run/systemd/system").exists() {
        let said = apply(&place, None).code(3);
        assert!(
            said.stderr.contains("nobody tells whether the clock of this machine is synchronised"),
            "{}",
            said.stderr
        );
    }
    assert!(!place.path("greeting/greeting").exists());
    let right = Some(("-0.499000", "Normal"));
    let said = run(&place, right, &["policy", "explain", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    assert!(said.stdout.contains("✓ clocks that are synchronised, and at most 500 ms off"), "{}", said.stdout);
    apply(&place, right).code(0);
    let shown = place.run(&["show", "last", "--json"]).code(0).json();
    assert_eq!(shown["clock"]["at_start"]["offset_us"], -499_000);
    assert_eq!(shown["clock"]["max_offset_ms"], 500);
    // Taking it back changes something too.
    run(&place, Some(("9.0", "Normal")), &["rollback", "last"]).code(3);
    run(&place, right, &["rollback", "last"]).code(5);
}

#[test]
fn a_run_is_not_taken_up_again_by_a_wrong_clock_but_it_can_be_taken_back() {
    for (arguments, code) in [(&["resume", "last"][..], 3), (&["cancel", "last"], 8)] {
        let place = Place::project();
        place.write("policy.yaml", POLICY);
        // What was allowed when it was opened goes on: here by a clock that was right.
        apply(&place, Some(("0.0", "Normal"))).code(0);
        std::fs::remove_dir_all(place.path("greeting")).unwrap();
        let path = format!("{}:{}", place.path("fake").display(), std::env::var("PATH").unwrap());
        let mut dies = place.start_waiting_with(&[("PATH", &path)]);
        dies.kill().unwrap();
        dies.wait().unwrap();
        place.write("go", "");
        // The rule stands in the opening: without its file it holds all the same.
        std::fs::remove_file(place.path("policy.yaml")).unwrap();
        let said = run(&place, Some(("9.0", "Normal")), arguments).code(code);
        assert_eq!(said.stderr.contains("is 9000 ms off"), code == 3, "{}", said.stderr);
        if code == 3 {
            run(&place, Some(("0.0", "Normal")), arguments).code(0);
        }
    }
}
