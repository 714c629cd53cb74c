//! The project's own tickets: what is written down, what is asked of them, and how they are closed.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::process::Command;

use place::{Place, Said};
use rustix::process::Signal;
use serde_json::Value;

/// A project in which `word` says what becomes of the change: `good`, `bad` (it fails and is undone), `blocked`, `stuck`.
fn project() -> Place {
    let place = Place::project();
    let at = place.path("changed").display().to_string();
    place.write(
        "runbooks/change.yaml",
        &format!(
            "schema: runbook/v1\nname: change\nparameters: {{word: {{type: string, default: good}}}}\ntargets: {{select: here}}\n\
             prechecks:\n  - {{id: may, run: 'test {{{{param.word}}}} != blocked'}}\nexecute:\n  - id: work\n    run: touch {at}\n    \
             undo: {{run: 'test {{{{param.word}}}} != stuck && rm -f {at}'}}\nverify:\n  - {{id: fine, run: 'test {{{{param.word}}}} = good'}}\n"
        ),
    );
    place
}

fn open(place: &Place, more: &[&str]) -> String {
    let said = place.run(&[&["ticket", "new", "Patches", "--owner", "jane.doe"], more].concat()).code(0);
    let key = said.stdout.trim().to_owned();
    assert!(key.starts_with("CHG-"), "{key}");
    key
}

fn show(place: &Place, key: &str) -> Value {
    place.run(&["ticket", "show", key, "--json"]).code(0).json()
}

fn apply(place: &Place, key: &str, word: &str) -> Said {
    place.run(&["apply", "runbooks/change.yaml", "-p", &format!("word={word}"), "--ticket", key, "--yes"])
}

#[test]
fn a_ticket_says_for_what_it_is_and_is_closed_by_its_run() {
    let place = project();
    let times = ["--from", "2020-01-01T00:00:00Z", "--until", "2100-01-01T00:00:00Z"];
    let impact = ["--impact", "shares are away for 10 min", "--cui"];
    let key = open(&place, &[&["--plan", "runbooks/change.yaml"], &times[..], &impact].concat());
    let ticket = show(&place, &key);
    assert_eq!(key, format!("CHG-{}", ticket["record"]), "the key is the place of its record in the ledger");
    let planned = place.run(&["plan", "runbooks/change.yaml", "--json"]).code(0).json();
    for (name, value) in [
        ("schema", "ticket/v1".into()),
        ("state", "open".into()),
        ("owner", "jane.doe".into()),
        ("cui", true.into()),
        ("impact", "shares are away for 10 min".into()),
        ("runbook", "change".into()),
        ("starts_at", "2020-01-01T00:00:00.000Z".into()),
        ("hosts", serde_json::json!(["here"])),
        ("plan_digest", planned["digest"].clone()),
        ("closed", Value::Null),
    ] {
        assert_eq!(ticket[name], value, "{name}: {ticket}");
    }
    place.run(&["apply", "runbooks/change.yaml", "--check", "--ticket", &key]).code(0);
    place.run(&["rehearse", "runbooks/change.yaml", "--on", "here", "--ticket", &key, "--yes"]).code(0);
    assert_eq!(show(&place, &key)["state"], "open", "checks and rehearsals are not the change");
    apply(&place, &key, "good").code(0);
    let ticket = show(&place, &key);
    let run = place.run(&["show", "last", "--json"]).code(0).json();
    let closed = &ticket["closed"];
    assert_eq!((&ticket["state"], &closed["result"]), (&"closed".into(), &"successful".into()));
    assert_eq!((&closed["run_id"], &closed["plan_digest"]), (&run["run_id"], &run["plan_digest"]));
    assert_eq!(closed["last_leaf"].as_str().unwrap().len(), 64);
    assert!(closed["summary"].as_str().unwrap().contains("done and verified on every host"), "{closed}");
    let text = place.run(&["ticket", "show", &key]).code(0).stdout;
    for word in ["jane.doe", "shares are away", "successful", "last record"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert!(place.run(&["ticket", "list"]).code(0).stdout.contains("closed, successful"));
    place.run(&["rollback", "last", "--ticket", &key, "--yes"]).code(5);
    let runs = show(&place, &key)["runs"].clone();
    assert_eq!(
        (&runs[0]["takes_back"], &runs[1]["takes_back"]),
        (&Value::Null, &run["run_id"]),
        "it says what came later"
    );
    let said = place.run(&["ticket", "close", &key, "--as", "cancelled", "--why", "no"]).code(3);
    assert!(said.stderr.contains("RB0739") && said.stderr.contains("closed already"), "{}", said.stderr);
    place.run(&["evidence", "verify", "last"]).code(11);
}

#[test]
fn what_became_of_the_run_decides_how_the_ticket_stands() {
    let place = project();
    for (word, code, state, result) in [
        ("bad", 5, "closed", "unsuccessful".into()),
        ("blocked", 3, "open", Value::Null),
        ("stuck", 6, "needs_attention", Value::Null),
    ] {
        let key = open(&place, &["--hosts", "here"]);
        apply(&place, &key, word).code(code);
        let ticket = show(&place, &key);
        assert_eq!((&ticket["state"], &ticket["closed"]["result"]), (&state.into(), &result), "{word}: {ticket}");
        if result.is_null() {
            place.run(&["ticket", "close", &key, "--as", "unsuccessful", "--why", "mended by hand"]).code(0);
            let closed = &show(&place, &key)["closed"];
            assert_eq!((&closed["summary"], &closed["run_id"]), (&"mended by hand".into(), &Value::Null));
        }
    }
}

#[test]
fn a_run_of_another_plan_or_on_other_hosts_closes_nothing() {
    let place = project();
    let inventory = std::fs::read_to_string(place.path("inventory.yaml")).unwrap();
    place.write("inventory.yaml", &inventory.replace("hosts:\n", "hosts:\n  there: {transport: local}\n"));
    for of in [&["--plan", "runbooks/change.yaml", "-p", "word=bad"][..], &["--hosts", "here | there"]] {
        let key = open(&place, of);
        apply(&place, &key, "good").code(0);
        place.run(&["apply", "runbooks/change.yaml", "--check"]).code(0);
        let ticket = show(&place, &key);
        assert_eq!((&ticket["state"], &ticket["closed"]), (&"open".into(), &Value::Null), "{of:?}");
        assert_eq!(ticket["runs"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn a_program_that_dies_at_the_end_of_its_run_leaves_no_ticket_open() {
    let place = project();
    let key = open(&place, &["--plan", "runbooks/change.yaml"]);
    let mut child = place.begin_heard(&["apply", "runbooks/change.yaml", "--ticket", &key, "--yes", "--json-lines"]);
    child.hear("\"type\":\"run_ended\"");
    child.signal(Signal::KILL);
    child.code();
    assert_eq!(show(&place, &key)["state"], "closed", "its run says so");
    place.run(&["apply", "runbooks/change.yaml", "--check"]).code(0);
    let ticket = show(&place, &key);
    assert_eq!(ticket["closed"]["run_id"], ticket["runs"][0]["run_id"], "and so does the ledger by now");
    place.run(&["apply", "runbooks/change.yaml", "--check"]).code(0);
    let closings = place.run(&["evidence", "ledger", "--json"]).stdout.matches("change_closed").count();
    assert!(closings <= 1, "it is closed once");
}

#[test]
fn a_policy_holds_a_run_to_its_change() {
    let place = project();
    let account = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(place.path("home/jane")).status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(place.path("home/jane.pub")).unwrap();
    let public = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    place.write(
        "people.yaml",
        &format!(
            "schema: people/v1\npeople:\n  jane: {{name: Jane Doe, roles: [it-lead], keys: [{public}]}}\n  ben: {{name: Ben Ito, \
             roles: [sysadmin], accounts: [{}]}}\n",
            account.trim()
        ),
    );
    place.write(
        "policy.yaml",
        "schema: policy/v1\nrules:\n  - {name: changes, ticket: {approved: required, dates: required, assets: required}}\n",
    );
    let refused = |key: &str, why: &str| {
        let said = apply(&place, key, "good").code(3);
        assert!(said.stderr.contains("RB0722") && said.stderr.contains(why), "{why}: {}", said.stderr);
        assert!(!place.path("changed").exists());
    };
    refused("CHG-9999", "nobody here knows the change CHG-9999");
    let said = place.run(&["apply", "runbooks/change.yaml", "--yes"]).code(3);
    assert!(said.stderr.contains("no ticket is named"), "{}", said.stderr);
    let of_plan = ["--plan", "runbooks/change.yaml"];
    let key = open(&place, &of_plan);
    refused(&key, "is not approved (open)");
    refused(&key, "does not say from when and until when");
    let past = [&of_plan[..], &["--from", "2020-01-01T00:00:00Z", "--until", "2100-01-01T00:00:00Z"]].concat();
    let later = [&of_plan[..], &["--from", "2099-01-01T00:00:00Z", "--until", "2100-01-01T00:00:00Z"]].concat();
    place.run(&["plan", "runbooks/change.yaml", "--out", "change.plan.json"]).code(0);
    let jane = place.path("home/jane").display().to_string();
    place.run(&["approve", "change.plan.json", "--as", "jane", "--key", &jane, "--yes"]).code(0);
    refused(&open(&place, &later), "begins at 2099-01-01T00:00:00Z");
    let other = [&past[..], &["-p", "word=bad"]].concat();
    refused(&open(&place, &other), "is of another plan");
    let key = open(&place, &past);
    assert_eq!(show(&place, &key)["decisions"][0]["signer"], "jane");
    let explained = place.run(&["policy", "explain", "runbooks/change.yaml", "--ticket", &key]).code(0).stdout;
    assert!(explained.contains("a change that is approved, within its dates, for these hosts"), "{explained}");
    apply(&place, &key, "good").code(0);
    let run = place.run(&["show", "last", "--json"]).code(0).json();
    assert_eq!((&run["change"]["system"], &run["change"]["change"]["approval"]), (&"here".into(), &"approved".into()));
    assert!(place.run(&["show", "last"]).code(0).stdout.contains("of this project: open (approved)"));
    std::fs::remove_file(place.path("changed")).unwrap();
    refused(&key, &format!("the change {key} is closed"));
}

#[test]
fn what_makes_no_ticket_is_refused() {
    let place = project();
    let new = |title: &str, more: &[&str]| place.run(&[&["ticket", "new", title], more].concat());
    let here = ["--owner", "jane", "--hosts", "here"];
    for (title, more) in [
        (" ", &here[..]),
        ("two\nlines", &here),
        ("no owner", &["--owner", " ", "--hosts", "here"]),
        ("for nothing", &["--owner", "jane"]),
        ("backwards", &[&here[..], &["--from", "2099-01-02", "--until", "2099-01-01"]].concat()),
        ("over", &[&here[..], &["--until", "2001-01-01"]].concat()),
        ("when", &[&here[..], &["--from", "soon"]].concat()),
        ("nobody", &["--owner", "jane", "--hosts", "nobody"]),
        ("no plan for it", &[&here[..], &["-p", "word=bad"]].concat()),
        ("nothing to limit", &[&here[..], &["--limit", "here"]].concat()),
    ] {
        new(title, more).code(2);
    }
    assert_eq!(place.run(&["ticket", "list", "--json"]).code(0).json()["tickets"], serde_json::json!([]));
    open(&place, &["--hosts", "here"]);
    let said = place.run(&["ticket", "show", "CHG-77"]).code(2);
    assert!(said.stderr.contains("RB0738"), "{}", said.stderr);
}
