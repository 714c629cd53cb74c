//! Systems of tickets outside, with the real program: what is asked of them, and what is written back. ServiceNow is a double that a
//! third party's client takes for one.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use place::{Place, Said};
use runbook_testkit::double::Double;
use rustix::process::Signal;
use serde_json::{Value, json};

const POLICY: &str = "schema: policy/v1\nrules:\n  - {name: changes, ticket: {pattern: 'CHG[0-9]{7}', approved: required, dates: required, assets: \
                      required}}\n";

fn seed() -> Value {
    json!({
        "accounts": {"runbook": "a secret of ServiceNow"}, "page": 2,
        "references": {"change_request": {"cmdb_ci": "cmdb_ci_server"}, "task_ci": {"ci_item": "cmdb_ci_server"}},
        "choices": {"change_request": {"state": {"-2": "Scheduled", "-1": "Implement", "0": "Review"}}},
        "tables": {
            "cmdb_ci_server": [{"sys_id": "s1", "name": "here"}, {"sys_id": "s2", "name": "elsewhere"}],
            "task_ci": [],
            "change_request": [
                {"sys_id": "c1", "number": "CHG0030001", "short_description": "Patches", "state": "-2", "approval": "approved",
                 "active": "true", "cmdb_ci": "s1", "start_date": "2020-01-01 00:00:00", "end_date": "2099-01-01 00:00:00"},
                {"sys_id": "c2", "number": "CHG0030002", "state": "-2", "approval": "requested", "cmdb_ci": "s1",
                 "start_date": "2020-01-01 00:00:00", "end_date": "2099-01-01 00:00:00"},
                {"sys_id": "c3", "number": "CHG0030003", "state": "-2", "approval": "approved", "cmdb_ci": "s2",
                 "start_date": "2020-01-01 00:00:00", "end_date": "2020-01-02 00:00:00"},
            ],
        },
    })
}

/// A project whose changes are kept there. `word` says what becomes of the change.
struct Firm {
    place: Place,
    double: Double,
}

impl Firm {
    fn new(more: &str) -> Option<Self> {
        let double = Double::start("servicenow", &seed())?;
        let place = Place::project();
        let at = place.path("changed").display().to_string();
        place.write(
            "runbooks/change.yaml",
            &format!(
                "schema: runbook/v1\nname: change\nparameters: {{word: {{type: string, default: good}}}}\ntargets: {{select: here}}\n\
                 execute:\n  - id: work\n    run: touch {at}\n    undo: {{run: rm -f {at}}}\nverify:\n  - {{id: fine, run: 'test \
                 {{{{param.word}}}} = good'}}\n"
            ),
        );
        let settings = std::fs::read_to_string(place.path("runbook.toml")).unwrap();
        let url = double.url();
        place.write(
            "runbook.toml",
            &format!(
                "{settings}\n[tickets.itsm]\nkind = \"servicenow\"\nurl = \"{url}\"\nuser = \"runbook\"\npassword = {{ file = \
                 \"password\" }}\npattern = \"CHG[0-9]{{7}}\"\nbegun = \"-1\"\ndone = \"0\"\nfailed = \"0\"\n{more}"
            ),
        );
        place.write("password", "a secret of ServiceNow\n");
        Some(Self { place, double })
    }

    fn apply(&self, ticket: &str, word: &str) -> Said {
        let word = format!("word={word}");
        self.place.run(&["apply", "runbooks/change.yaml", "-p", &word, "--ticket", ticket, "--yes"])
    }

    #[track_caller]
    fn refused(&self, ticket: &str, why: &str) {
        let said = self.apply(ticket, "good").code(3);
        assert!(said.stderr.contains("RB0722") && said.stderr.contains(why), "{why}: {}", said.stderr);
        assert!(!said.stderr.contains("a secret of ServiceNow") && !self.place.path("changed").exists());
    }

    fn change(&self, sys_id: &str) -> Value {
        let table = self.double.tell(&json!({"do": "table", "table": "change_request"}));
        table.as_array().unwrap().iter().find(|change| change["sys_id"] == sys_id).unwrap().clone()
    }

    fn notes(&self) -> Vec<String> {
        let journal = self.double.tell(&json!({"do": "journal"}));
        journal.as_array().unwrap().iter().map(|note| note["value"].as_str().unwrap().to_owned()).collect()
    }

    fn files(&self) -> Vec<Value> {
        self.double.tell(&json!({"do": "attachments"})).as_array().unwrap().clone()
    }
}

#[test]
fn a_run_is_held_to_its_change_and_the_change_is_told_of_it() {
    let Some(firm) = Firm::new("") else { return };
    firm.place.write("policy.yaml", POLICY);
    firm.refused("CHG0030002", "the change CHG0030002 is not approved (Scheduled)");
    firm.refused("CHG0030003", "the change CHG0030003 was to be over by 2020-01-02T00:00:00Z");
    firm.refused("CHG0030003", "the change CHG0030003 is not for here");
    firm.refused("CHG0030009", "has no change CHG0030009");
    for (fault, why) in [
        (json!({"fault": "status", "status": 401}), "does not let us in (401)"),
        (json!({"fault": "status", "status": 429, "retry_after": 7}), "asks for patience (429)"),
        (json!({"fault": "malformed"}), "answers what is no JSON"),
        (json!({"fault": "close"}), "the change CHG0030001 in itsm"),
    ] {
        firm.double.misbehave(fault);
        firm.refused("CHG0030001", why);
        firm.double.behave();
    }
    assert!(firm.notes().is_empty(), "nothing was begun");
    firm.apply("CHG0030001", "good").code(0);
    let run = firm.place.run(&["show", "last", "--json"]).code(0).json();
    let seen = &run["change"];
    assert_eq!((&seen["system"], &seen["change"]["approval"]), (&json!("itsm"), &json!("approved")));
    let answer = seen["answer"].as_str().unwrap();
    let blob = firm.place.path(&format!(".runbook/blobs/{}/{answer}", &answer[..2]));
    assert!(
        blob.exists() || firm.place.run(&["evidence", "verify", "last"]).code == Some(11),
        "its exact words are kept"
    );
    firm.place.run(&["notify", "send"]).code(0);
    let change = firm.change("c1");
    assert_eq!((&change["state"], &change["close_code"]), (&json!("0"), &json!("successful")));
    assert!(change["close_notes"].as_str().unwrap().contains("done and verified on every host"), "{change}");
    let notes = firm.notes();
    let ended = notes.iter().find(|note| note.contains("The work has ended")).unwrap();
    let (run_id, plan) = (run["run_id"].as_str().unwrap(), run["plan_digest"].as_str().unwrap());
    for word in [run_id, plan, "succeeded", "operator:", "root ", "attached, sha256:"] {
        assert!(ended.contains(word), "{word}: {ended}");
    }
    let files = firm.files();
    assert_eq!(files.len(), 1);
    assert!(ended.contains(files[0]["hash"].as_str().unwrap()), "the digest is the attached file's");
    let listed = firm.place.run(&["notify", "list", "--json"]).code(0).json();
    let states: Vec<&str> =
        listed["messages"].as_array().unwrap().iter().map(|message| message["state"].as_str().unwrap()).collect();
    assert!(states.len() == 2 && states.iter().all(|state| *state == "delivered"), "{listed}");
    firm.place.run(&["evidence", "verify", "last"]).code(11);
    firm.place.run(&["evidence", "export", "last", "--out", "bundle"]).code(0);
    let verified = firm.place.run(&["evidence", "verify", "bundle"]);
    assert!(verified.code.is_some_and(|code| code < 12), "{}", verified.stdout);
}

#[test]
fn a_change_that_was_taken_back_is_closed_as_unsuccessful_and_checks_and_rehearsals_tell_nobody() {
    let Some(firm) = Firm::new("report = \"never\"\n") else { return };
    firm.place.run(&["apply", "runbooks/change.yaml", "--check", "--ticket", "CHG0030001"]).code(0);
    firm.place.run(&["rehearse", "runbooks/change.yaml", "--on", "here", "--ticket", "CHG0030001", "--yes"]).code(0);
    firm.place.run(&["notify", "send"]).code(0);
    assert_eq!((firm.notes().len(), &firm.change("c1")["state"]), (0, &json!("-2")));
    firm.apply("CHG0030001", "bad").code(5);
    firm.place.run(&["notify", "send"]).code(0);
    let change = firm.change("c1");
    assert_eq!((&change["state"], &change["close_code"]), (&json!("0"), &json!("unsuccessful")));
    assert!(
        firm.files().is_empty() && firm.notes().iter().any(|note| note.contains("not attached: the settings say so"))
    );
}

#[test]
fn a_system_that_is_away_hinders_no_run_and_is_told_once_later() {
    let Some(firm) = Firm::new("timeout = \"2s\"\n") else { return };
    firm.double.misbehave(json!({"fault": "status", "status": 503}));
    let said = firm.apply("CHG0030001", "good").code(0);
    assert!(said.stderr.contains("not sent yet"), "{}", said.stderr);
    firm.double.behave();
    // Sent by whoever has time, also twice.
    firm.place.run(&["notify", "send", "--now"]).code(0);
    firm.place.run(&["notify", "send", "--now"]).code(0);
    let notes = firm.notes();
    assert_eq!(notes.len(), 1, "the end, once; the beginning was over: {notes:?}");
    assert_eq!(firm.change("c1")["state"], "0", "and nothing moves it back");
    assert_eq!(firm.files().len(), 1);
}

#[test]
fn a_program_that_dies_leaves_its_ticket_to_the_next_one() {
    let Some(firm) = Firm::new("") else { return };
    let text = std::fs::read_to_string(firm.place.path("runbooks/change.yaml")).unwrap();
    let go = firm.place.path("go").display().to_string();
    firm.place.write(
        "runbooks/change.yaml",
        &text.replace("'test {{param.word}} = good'", &format!("'while [ ! -e {go} ]; do sleep 0.05; done'")),
    );
    let mut child =
        firm.place.begin_heard(&["apply", "runbooks/change.yaml", "--ticket", "CHG0030001", "--yes", "--json-lines"]);
    child.hear("\"step\":\"fine\"");
    child.signal(Signal::KILL);
    child.code();
    firm.place.write("go", "");
    firm.place.run(&["resume", "last"]).code(0);
    firm.place.run(&["notify", "send", "--now"]).code(0);
    let ended = firm.notes().iter().filter(|note| note.contains("The work has ended")).count();
    assert_eq!((ended, &firm.change("c1")["close_code"]), (1, &json!("successful")));
}

#[test]
fn doctor_says_whether_we_are_let_in_and_settings_that_are_wrong_are_refused() {
    let Some(firm) = Firm::new("") else { return };
    let check = || {
        let checks = firm.place.run(&["doctor", "--json"]).json();
        let checks = checks["checks"].as_array().unwrap().clone();
        checks.into_iter().find(|check| check["name"] == "tickets itsm").unwrap()
    };
    assert_eq!(check()["status"], "good");
    firm.place.write("password", "another\n");
    let told = check();
    assert_eq!(told["status"], "warning");
    assert!(told.to_string().contains("does not let us in (401)") && !told.to_string().contains("another"), "{told}");
    let settings = std::fs::read_to_string(firm.place.path("runbook.toml")).unwrap();
    firm.place.write("runbook.toml", &settings.replace("begun =", "begin ="));
    let said = firm.place.run(&["runs"]).code(2);
    assert!(said.stderr.contains("did you mean `begun`?"), "{}", said.stderr);
}

#[test]
fn the_settings_of_the_book_are_right() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations/tickets.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, block) = page.split_once("```toml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let place = Place::project();
    place.write("runbook.toml", block);
    place.run(&["runs"]).code(0);
    let checks = place.run(&["doctor", "--offline", "--json"]).json();
    let names: Vec<&str> =
        checks["checks"].as_array().unwrap().iter().map(|check| check["name"].as_str().unwrap()).collect();
    for name in ["tickets board", "tickets itsm", "tickets jira"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
}
