//! Rehearsals: what they do, what they prove, and what is refused without one.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::{Place, Said};

const POLICY: &str =
    "schema: policy/v1\nrules:\n  - {name: production, for: {hosts: production}, rehearsal: required}\n";

/// Two hosts that are this machine: one where it matters, one where it does not, each with a folder of its own.
fn project() -> Place {
    let place = Place::project();
    let inventory = format!(
        "schema: inventory/v1\nhosts:\n  real: {{transport: local, groups: [production, servers], vars: {{at: {0}/real}}}}\n  \
         stage: {{transport: local, groups: [staging, servers], vars: {{at: {0}/stage}}}}\n  \
         other: {{transport: local, groups: [others], vars: {{at: {0}/other}}}}\n",
        place.root().display()
    );
    place.write("inventory.yaml", &inventory);
    place.write("policy.yaml", POLICY);
    for name in ["real", "stage", "other"] {
        std::fs::create_dir(place.path(name)).unwrap();
    }
    place.write("files/content", "new\n");
    runbook(&place, "");
    place
}

fn runbook(place: &Place, more: &str) {
    let text = "schema: runbook/v1\nname: change\nparameters: {word: {type: string, default: hello}}\ntargets: {select: servers}\n\
                prechecks:\n  - {id: free, run: 'test ! -e {{host.vars.at}}/done'}\n\
                execute:\n  - id: put\n    upload: {from: ../files/content, to: '{{host.vars.at}}/done'}\n    \
                undo: {run: 'rm -f {{host.vars.at}}/done'}\n  - id: say\n    run: 'echo {{param.word}} > {{host.vars.at}}/said'\n    \
                undo: {run: 'rm -rf {{host.vars.at}}/said'}\nverify:\n  - {id: there, run: 'test -e {{host.vars.at}}/done'}\n";
    place.write("runbooks/change.yaml", &format!("{text}{more}"));
}

fn rehearse(place: &Place, more: &[&str]) -> Said {
    place.run(&[&["rehearse", "runbooks/change.yaml", "--yes"], more].concat())
}

fn apply(place: &Place, more: &[&str]) -> Said {
    place.run(&[&["apply", "runbooks/change.yaml", "--limit", "real", "--yes"], more].concat())
}

#[track_caller]
fn refused(place: &Place, more: &[&str], why: &str) {
    let said = apply(place, more).code(3);
    assert!(said.stderr.contains("RB0722") && said.stderr.contains(why), "{}", said.stderr);
    assert!(!place.path("real/done").exists());
}

#[test]
fn what_was_rehearsed_may_be_done_and_the_record_names_the_rehearsal() {
    let place = project();
    refused(&place, &[], "it was never rehearsed (`runbook rehearse FILE --limit 'staging'`)");
    let said = rehearse(&place, &[]).code(0);
    assert!(said.stderr.contains("REHEARSED") && said.stderr.contains("all is as before"), "{}", said.stderr);
    assert!(
        !place.path("stage/done").exists() && !place.path("stage/said").exists() && !place.path("real/done").exists()
    );
    let rehearsal = place.run(&["show", "last", "--json"]).code(0).json();
    assert_eq!(rehearsal["outcome"], "rolled_back");
    assert_eq!(rehearsal["rehearsal"]["proves"], true);
    assert_eq!(rehearsal["hosts"].as_array().unwrap().len(), 1, "on staging alone");
    assert_eq!(place::step(&rehearsal, "there")["outcome"], "succeeded", "it was really verified");
    assert_eq!(place::step(&rehearsal, "put.undo")["outcome"], "succeeded", "and really taken back");
    place.run(&["evidence", "report", "last", "--out", "report.html"]).code(0);
    let report = std::fs::read_to_string(place.path("report.html")).unwrap();
    assert!(report.contains("<strong>rehearsed</strong>") && report.contains("taken back, as was meant"));
    assert!(place.run(&["show", "last"]).code(0).stdout.contains("rolled back (exit code 0)"));
    let explained = place.run(&["explain", "last"]).code(0).stdout;
    assert!(explained.contains("rehearsed change") && explained.contains("taken back on purpose"), "{explained}");
    assert!(
        place
            .run(&["policy", "explain", "runbooks/change.yaml", "--limit", "real"])
            .code(0)
            .stdout
            .contains("rehearsed on staging within 30 days")
    );
    apply(&place, &[]).code(0);
    assert!(place.path("real/done").exists());
    let run = place.run(&["show", "last", "--json"]).code(0).json();
    assert_eq!(run["rehearsed"]["run_id"], rehearsal["run_id"]);
    assert_eq!(run["rehearsed"]["rehearsal_sha256"], rehearsal["rehearsal"]["rehearsal_sha256"]);
    assert!(place.run(&["runs"]).code(0).stdout.contains("rehearsal"));
    place.run(&["evidence", "verify", "last"]).code(11);
}

#[test]
fn nothing_is_rehearsed_on_the_hosts_for_whose_sake_it_must_be() {
    let place = project();
    for more in [&["--on", "real"][..], &["--limit", "real"], &["--on", "real | stage"]] {
        let said = rehearse(&place, more).code(3);
        let why = "real is no host to rehearse on: that is done on staging";
        assert!(said.stderr.contains("RB0722") && said.stderr.contains(why), "{more:?}: {}", said.stderr);
    }
    assert!(!place.path("real/done").exists() && !place.path("stage/done").exists());
    // A rule for all hosts has staging among them.
    place.write("policy.yaml", "schema: policy/v1\nrules: [{rehearsal: required}]\n");
    rehearse(&place, &["--on", "stage"]).code(0);
    apply(&place, &[]).code(0);
}

#[test]
fn another_byte_another_parameter_and_another_file_are_another_plan() {
    let place = project();
    rehearse(&place, &[]).code(0);
    let another = "its plan was another one";
    refused(&place, &["-p", "word=other"], another);
    runbook(&place, "finally:\n  - run: 'true'\n");
    refused(&place, &[], another);
    // Comments say nothing.
    runbook(&place, "# a comment\n");
    place.write("files/content", "nEw\n");
    refused(&place, &[], another);
    place.write("files/content", "new\n");
    apply(&place, &["--check"]).code(0);
    apply(&place, &[]).code(0);
}

#[test]
fn an_old_rehearsal_and_one_elsewhere_do_not_count() {
    let place = project();
    rehearse(&place, &["--on", "other"]).code(0);
    refused(&place, &[], "it was done on other, and not on staging alone");
    rehearse(&place, &[]).code(0);
    place.write("policy.yaml", &POLICY.replace("rehearsal: required", "rehearsal: {within: 1ms}"));
    refused(&place, &[], "min old, and 0 are allowed");
    place.write("policy.yaml", &POLICY.replace("rehearsal: required", "rehearsal: {hosts: others}"));
    apply(&place, &[]).code(0);
}

#[test]
fn a_rehearsal_whose_way_back_did_not_really_run_does_not_count() {
    // The change itself fails: what is undone is half of it.
    let place = project();
    place.write("stage/said/is a folder", "");
    let said = rehearse(&place, &[]).code(5);
    let told = said.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(told.contains("it does not count as a rehearsal: stage: the change itself failed"), "{told}");
    refused(&place, &[], "stage: the change itself failed: say failed");
    // All of it had been done before, so nothing is tried.
    let place = project();
    let text = std::fs::read_to_string(place.path("runbooks/change.yaml")).unwrap();
    let text = text.replace("  - id: put\n", "  - id: put\n    unless: test -e {{host.vars.at}}/was\n");
    let text = text.replace("  - id: say\n", "  - id: say\n    unless: test -e {{host.vars.at}}/was\n");
    let text = text.replace("test -e {{host.vars.at}}/done'}\n", "true'}\n");
    place.write("runbooks/change.yaml", &text);
    place.write("stage/was", "");
    let said = rehearse(&place, &[]).code(3);
    assert!(said.stderr.contains("stage: nothing was changed"), "{}", said.stderr);
    refused(&place, &[], "stage: nothing was changed");
}

#[test]
fn what_can_never_be_taken_back_cannot_be_rehearsed() {
    let place = project();
    for more in ["irreversible: a letter is sent\n", "rollback: {verify: none}\n"] {
        runbook(&place, more);
        let said = rehearse(&place, &[]).code(3);
        assert!(
            said.stderr.contains("RB0731") && said.stderr.contains("nothing was changed"),
            "{more}: {}",
            said.stderr
        );
    }
    runbook(&place, "");
    place.run(&["plan", "runbooks/change.yaml", "--limit", "real", "--out", "saved.json"]).code(0);
    let said = place.run(&["rehearse", "saved.json", "--yes"]).code(2);
    assert!(said.stderr.contains("RB0617"), "{}", said.stderr);
    rehearse(&place, &["--on", "nobody"]).code(2);
    // A saved plan is held to the same.
    let said = place.run(&["apply", "saved.json", "--yes"]).code(3);
    assert!(said.stderr.contains("it was never rehearsed"), "{}", said.stderr);
    rehearse(&place, &[]).code(0);
    place.run(&["apply", "saved.json", "--yes"]).code(0);
}

#[test]
fn a_rehearsal_that_was_killed_is_gone_on_with_as_one() {
    let place = project();
    let text = std::fs::read_to_string(place.path("runbooks/change.yaml")).unwrap();
    let text = text.replace(
        "run: 'test -e {{host.vars.at}}/done'",
        "run: 'while [ ! -e {{host.vars.at}}/go ]; do sleep 0.05; done'",
    );
    place.write("runbooks/change.yaml", &text);
    let mut child = place.begin_heard(&["rehearse", "runbooks/change.yaml", "--yes", "--json-lines"]);
    child.hear("\"step\":\"there\"");
    child.signal(rustix::process::Signal::KILL);
    child.code();
    refused(&place, &[], "it has not ended");
    place.write("stage/go", "");
    place.run(&["resume", "last"]).code(0);
    assert!(!place.path("stage/done").exists());
    place.write("real/go", "");
    apply(&place, &[]).code(0);
}
