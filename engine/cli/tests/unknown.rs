//! Outcomes that nobody knows, through the program: what the plan does about them, what is said of them, what settles them.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::{Place, step};

/// A step whose own process takes the one with it that would have kept its exit status: once, or each time.
fn runbook(place: &Place, vanishes: &str, more: &str) {
    let folder = place.root().display();
    let text = format!(
        "schema: runbook/v1\nname: vanishing\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: |\n      echo work \
         >>{folder}/count\n      {vanishes}\n    changes: [{folder}/count]\n{more}  - id: after\n    run: echo after \
         >>{folder}/count\n    undo: {{run: 'true'}}\n"
    );
    place.write("runbooks/vanishing.yaml", &text);
}

const ALWAYS: &str = "kill -9 $PPID $$";

fn count(place: &Place) -> String {
    std::fs::read_to_string(place.path("count")).unwrap_or_default()
}

fn attempts(run: &serde_json::Value, id: &str) -> Vec<String> {
    let steps = run["hosts"][0]["steps"].as_array().unwrap().iter().filter(|step| step["id"] == id);
    steps.map(|step| step["outcome"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_idempotent_step_is_repeated_and_the_first_attempt_stays_unknown() {
    let place = Place::project();
    let folder = place.root().display().to_string();
    let once = format!("[ $(wc -l <{folder}/count) -gt 1 ] || kill -9 $PPID $$");
    runbook(&place, &once, &format!("    idempotent: true\n    undo: {{run: 'rm -f {folder}/count'}}\n"));
    let run = place.run(&["apply", "runbooks/vanishing.yaml", "--json"]).code(0).json();
    assert_eq!(attempts(&run, "work"), ["unknown", "succeeded"]);
    assert_eq!(count(&place), "work\nwork\nafter\n");
}

#[test]
fn what_may_have_happened_is_undone_and_not_repeated() {
    let place = Place::project();
    let folder = place.root().display().to_string();
    runbook(&place, ALWAYS, &format!("    undo: {{run: 'rm {folder}/count'}}\n"));
    let run = place.run(&["apply", "runbooks/vanishing.yaml", "--json"]).code(5).json();
    assert_eq!(
        (attempts(&run, "work"), attempts(&run, "work.undo")),
        (vec!["unknown".into()], vec!["succeeded".into()])
    );
    assert!(!place.path("count").exists());
}

#[test]
fn continue_does_not_go_past_what_nobody_knows() {
    let place = Place::project();
    runbook(&place, ALWAYS, "    on_failure: continue\n    undo: {run: 'true'}\n");
    let run = place.run(&["apply", "runbooks/vanishing.yaml", "--json"]).code(7).json();
    assert_eq!((&run["outcome"], &run["state"]), (&"unknown".into(), &"suspended".into()));
    assert_eq!(step(&run, "after")["outcome"], "not_started");
    assert_eq!(count(&place), "work\n");
}

#[test]
fn what_is_said_of_it_names_the_step_why_what_to_look_at_and_the_command_that_settles_it() {
    let place = Place::project();
    runbook(&place, &format!("echo so far\n      {ALWAYS}"), "    on_failure: halt\n    undo: {run: 'true'}\n");
    place.run(&["apply", "runbooks/vanishing.yaml"]).code(7);
    for command in ["show", "explain"] {
        let said = place.run(&[command, "last"]).code(0).stdout;
        let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["look on here whether it happened", "count", "runbook logs"] {
            assert!(flat.contains(part), "{command}: {part}: {said}");
        }
        let line = said.lines().map(str::trim).find(|line| line.starts_with("runbook resolve")).expect(&said);
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!((words[3], words[4], words[6]), ("here", "work", "succeeded|failed"), "{line}");
    }
    let explained = place.run(&["explain", "last", "--json"]).code(0).json();
    let steps = explained["hosts"][0]["steps"].as_array().unwrap();
    let work = steps.iter().find(|step| step["id"] == "work").unwrap();
    let settle = work["settle"].as_str().unwrap().replace("succeeded|failed", "succeeded");
    // As it is printed, with one of the two words chosen and the reason filled in.
    let arguments: Vec<&str> =
        settle.split(' ').skip(1).map(|word| if word == "\"…\"" { "seen" } else { word }).collect();
    place.run(&arguments).code(0);
    let said = place.run(&["show", "last"]).code(0).stdout;
    assert!(said.contains("settled as succeeded") && !said.contains("runbook resolve"), "{said}");
    place.run(&["resume", "last"]).code(0);
    assert_eq!(count(&place), "work\nafter\n");
    place.run(&arguments).code(2);
}

#[test]
fn settled_as_failed_the_plan_decides_as_after_any_failure() {
    let place = Place::project();
    let folder = place.root().display().to_string();
    runbook(&place, ALWAYS, &format!("    on_failure: halt\n    undo: {{run: 'rm {folder}/count'}}\n"));
    place.run(&["apply", "runbooks/vanishing.yaml"]).code(7);
    place.run(&["resolve", "last", "here", "work", "--as", "failed", "--why", "the log says so"]).code(0);
    let run = place.run(&["resume", "last", "--json"]).code(4).json();
    assert_eq!((&run["outcome"], &step(&run, "work")["resolved_by"]), (&"failed".into(), &run["operator"]));
    assert_eq!(count(&place), "work\n");
    place.run(&["cancel", "last"]).code(8);
}

#[test]
fn an_undo_of_which_nobody_knows_leaves_the_host_unknown_and_a_resume_tries_it_again() {
    let place = Place::project();
    let folder = place.root().display().to_string();
    let undo = format!("    undo: {{run: '[ -e {folder}/mended ] || kill -9 $PPID $$; rm {folder}/count'}}\n");
    runbook(&place, "exit 3", &undo);
    let run = place.run(&["apply", "runbooks/vanishing.yaml", "--json"]).code(7).json();
    assert_eq!(attempts(&run, "work.undo"), ["unknown"]);
    place.write("mended", "");
    place.run(&["resolve", "last", "here", "work.undo", "--as", "failed", "--why", "the file is still there"]).code(0);
    let again = place.run(&["resume", "last"]);
    // What an operator called failed is not repeated behind his back: the host is stuck, and he takes it from there.
    assert_eq!(again.code, Some(6), "{again:?}");
}
