//! Reviews after a run's end: what is owed, who can give it, and what waits for it.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::process::Command;

use place::{Place, Said};

/// Overdue as soon as the run has ended.
const AT_ONCE: &str =
    "schema: policy/v1\nrules:\n  - {name: emergencies, review: {within: 1ms, roles: {it-lead: 1}}}\n";

/// A project with people whose keys were made by ssh-keygen. Ben runs things; jane leads IT.
struct Firm(Place);

impl Firm {
    fn new(policy: &str) -> Self {
        let firm = Self(Place::project());
        for name in ["jane", "raj", "ben"] {
            let path = firm.0.path(&format!("home/{name}"));
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).status();
            assert!(made.unwrap().success());
        }
        firm.people("");
        firm.0.write("policy.yaml", policy);
        firm
    }

    fn people(&self, of_janes_key: &str) {
        let public = |name: &str| {
            let line = std::fs::read_to_string(self.0.path(&format!("home/{name}.pub"))).unwrap();
            line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
        };
        let account = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        self.0.write(
            "people.yaml",
            &format!(
                "schema: people/v1\npeople:\n  jane: {{name: Jane Doe, roles: [it-lead], keys: [{{key: {}{of_janes_key}}}]}}\n  raj: \
                 {{name: Raj Patel, roles: [cui-owner], keys: [{}]}}\n  ben: {{name: Ben Ito, roles: [it-lead], keys: [{}], \
                 accounts: [{}]}}\n",
                public("jane"),
                public("raj"),
                public("ben"),
                account.trim()
            ),
        );
    }

    fn apply(&self, more: &[&str]) -> Said {
        let folder = self.0.folder();
        self.0.run(&[&["apply", "runbooks/hello.yaml", "-p", &folder], more].concat())
    }

    fn key(&self, who: &str) -> String {
        self.0.path(&format!("home/{who}")).to_str().unwrap().to_owned()
    }

    fn review(&self, run: &str, who: &str, more: &[&str]) -> Said {
        let key = self.key(who);
        let words = ["review", run, "--verdict", "accepted", "--reason", "as it had to be", "--as", who, "--key", &key];
        self.0.run(&[&words, more].concat())
    }

    fn states(&self) -> Vec<String> {
        let listed = self.0.run(&["reviews", "--json"]).code(0).json();
        let reviews = listed["reviews"].as_array().unwrap().iter();
        reviews.map(|review| review["state"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn an_overdue_review_blocks_whatever_is_new_until_somebody_else_has_reviewed_it() {
    let firm = Firm::new(AT_ONCE);
    firm.apply(&[]).code(0);
    let run = firm.0.run(&["show", "last", "--json"]).code(0).json()["run_id"].as_str().unwrap().to_owned();
    for more in [&[][..], &["--break-glass", "it burns"]] {
        let said = firm.apply(more).code(3);
        let command = format!("runbook review {run} --verdict accepted");
        for word in ["RB0735", &run, "it wants 1 it-lead, other than who ran it", &command, "nothing was changed"] {
            assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
        }
    }
    // What the run owes stands in its opening: taking the rule away takes nothing back.
    std::fs::remove_file(firm.0.path("policy.yaml")).unwrap();
    firm.apply(&[]).code(3);
    let said = firm.0.run(&["policy", "explain", "runbooks/hello.yaml", "-p", &firm.0.folder()]).code(3);
    assert!(said.stdout.contains("✗ the review of run"), "{}", said.stdout);
    firm.apply(&["--check"]).code(0);
    firm.0.run(&["rollback", &run]).code(5);
    assert_eq!(firm.states(), ["overdue"]);
    let check = |name: &str| {
        let checks = firm.0.run(&["doctor", "--offline", "--json"]).json();
        let checks = checks["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == name).map(|check| check["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(check("reviews").as_deref(), Some("bad"));
    assert_eq!((check("people.yaml").as_deref(), check("policy.yaml")), (Some("good"), None));
    firm.0.write("windows.yaml", "schema: windows/v1\nzone: UTC\nwindows: 1\n");
    assert_eq!(check("windows.yaml").as_deref(), Some("bad"));
    std::fs::remove_file(firm.0.path("windows.yaml")).unwrap();
    let runs = firm.0.run(&["runs", "--json"]).code(0).json();
    assert_eq!(runs["runs"][0]["review"], "overdue");
    assert!(firm.0.run(&["runs"]).code(0).stdout.contains("review overdue"));
    assert!(firm.0.run(&["show", &run]).code(0).stdout.contains("OVERDUE since"));
    let said = firm.review(&run, "jane", &["--json"]).code(0);
    assert_eq!(said.json()["signer"], "jane");
    assert_eq!(firm.states(), ["done"]);
    let shown = firm.0.run(&["show", &run, "--json"]).code(0).json();
    assert_eq!(shown["reviews"][0]["verdict"], "accepted");
    assert_eq!(shown["reviews_owed"][0]["rule"], "emergencies");
    assert!(firm.0.run(&["show", &run]).code(0).stdout.contains("accepted by jane at"));
    firm.0.run(&["evidence", "report", &run, "--out", "report.html"]);
    let report = std::fs::read_to_string(firm.0.path("report.html")).unwrap();
    assert!(report.contains("Reviewed: accepted by jane at"), "the report tells it");
    firm.apply(&[]).code(0);
    // A key that counts no more does not take back what it signed while it did.
    firm.people(", revoked: 2020-01-01");
    assert_eq!(firm.states(), ["done"]);
    let verified = firm.0.run(&["evidence", "verify", &run]);
    assert_eq!(verified.code, Some(11), "{}", verified.stdout);
    // The refusals are on the record, and so is the review.
    let firms = firm.0.run(&["evidence", "export", &run, "--out", "bundle"]).code(0);
    assert!(!std::fs::read_to_string(firm.0.path("bundle/run.json")).unwrap().contains("as it had to be"), "{firms:?}");
}

#[test]
fn a_review_that_does_not_count_is_refused_with_its_own_reason() {
    let firm = Firm::new(&AT_ONCE.replace("1ms", "72h"));
    firm.apply(&[]).code(0);
    let refused = |said: Said, words: &str| {
        let said = said.code(3);
        assert!(said.stderr.contains("RB0737") && said.stderr.contains(words), "{words}: {}", said.stderr);
        assert_eq!(firm.states(), ["due"]);
    };
    refused(firm.review("last", "ben", &[]), "ben ran it, and cannot review it");
    refused(firm.review("last", "raj", &[]), "raj has no role of it-lead");
    firm.people(", revoked: 2020-01-01");
    refused(firm.review("last", "jane", &[]), "the key of jane that signed it was revoked on 2020-01-01");
    firm.people(", until: 2020-01-01");
    refused(firm.review("last", "jane", &[]), "the key of jane that signed it counted until 2020-01-01");
    firm.people("");
    // Signed elsewhere: for another purpose, before the end, of another run.
    let words =
        ["review", "last", "--verdict", "follow-up", "--reason", "CHG-7", "--as", "jane", "--request", "r.json"];
    firm.0.run(&words).code(0);
    let text = std::fs::read_to_string(firm.0.path("r.json")).unwrap();
    let import = |text: &str, namespace: &str| {
        firm.0.write("r.json", text);
        let _ = std::fs::remove_file(firm.0.path("r.json.sig"));
        let mut signed = Command::new("ssh-keygen");
        signed.args(["-q", "-Y", "sign", "-n", namespace, "-f", &firm.key("jane")]);
        assert!(signed.arg(firm.0.path("r.json")).status().unwrap().success());
        firm.0.run(&["reviews", "import", "r.json"])
    };
    refused(import(&text, "runbook-approval@v1"), "is for \"runbook-approval@v1\", not for \"runbook-review@v1\"");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let made = format!("\"made_ms\":{}", document["made_ms"]);
    refused(import(&text.replace(&made, "\"made_ms\":1000000000000"), "runbook-review@v1"), "before the run's end at");
    let size = format!("\"size\":{}", document["ledger"]["size"]);
    refused(
        import(&text.replace(&size, "\"size\":1"), "runbook-review@v1"),
        "its signer saw a ledger that did not hold the run's end yet",
    );
    firm.0.write("r.json.sig", "");
    refused(firm.0.run(&["reviews", "import", "r.json"]), "it is not signed");
    import(&text, "runbook-review@v1").code(0);
    assert_eq!(firm.states(), ["done"]);
    // It is of this run alone: signed as it is, it says nothing of the next.
    firm.apply(&[]).code(0);
    assert_eq!(firm.states(), ["done", "due"]);
    let first = document["run"].as_str().unwrap();
    let second = firm.0.run(&["show", "last", "--json"]).code(0).json()["run_id"].as_str().unwrap().to_owned();
    firm.0.write("r.json", &text.replace(first, &second));
    let said = firm.0.run(&["reviews", "import", "r.json"]).code(3);
    assert!(said.stderr.contains("the signature does not fit what it is said to sign"), "{}", said.stderr);
    assert_eq!(firm.states(), ["done", "due"]);
}

#[test]
fn a_run_that_nobody_could_review_does_not_begin() {
    let firm = Firm::new(&AT_ONCE.replace("it-lead", "coo"));
    let said = firm.apply(&[]).code(3);
    assert!(said.stderr.contains("not enough people with keys who could review it (1 coo"), "{}", said.stderr);
    firm.0.write("policy.yaml", &AT_ONCE.replace("1ms", "72h"));
    let said = firm.0.run(&["policy", "explain", "runbooks/hello.yaml", "-p", &firm.0.folder()]).code(0);
    assert!(said.stdout.contains("✓ reviewed within 72 h after its end by 1 it-lead"), "{}", said.stdout);
    std::fs::remove_file(firm.0.path("people.yaml")).unwrap();
    firm.apply(&[]).code(3);
}

#[test]
fn a_reason_is_asked_for_and_kept() {
    let firm = Firm::new("schema: policy/v1\nrules: [{name: say why, reason: required}]\n");
    let said = firm.apply(&["--reason", "  "]).code(3);
    assert!(said.stderr.contains("say why: no reason is given (`--reason`)"), "{}", said.stderr);
    firm.apply(&["--reason", "CVE-2026-1"]).code(0);
    assert_eq!(firm.0.run(&["show", "last", "--json"]).code(0).json()["reason"], "CVE-2026-1");
    assert!(firm.0.run(&["show", "last"]).code(0).stdout.contains("CVE-2026-1"));
    let said = firm.0.run(&["review", "last", "--verdict", "accepted", "--reason", "x", "--as", "jane"]).code(3);
    assert!(said.stderr.contains("RB0736") && said.stderr.contains("owes no review"), "{}", said.stderr);
}

#[test]
fn a_policy_can_ask_for_a_review_of_every_run_that_sets_windows_aside() {
    let rule = "schema: policy/v1\nrules: [{name: glass, for: {break_glass: true}, reason: required, review: {within: 1h, \
                roles: {it-lead: 1}}}]\n";
    let firm = Firm::new(rule);
    firm.apply(&[]).code(0);
    assert!(firm.states().is_empty());
    let said = firm.apply(&["--break-glass", "it burns"]).code(3);
    assert!(said.stderr.contains("glass: no reason is given"), "{}", said.stderr);
    firm.apply(&["--break-glass", "it burns", "--reason", "CVE"]).code(0);
    assert_eq!(firm.states(), ["due"]);
    firm.review("last", "jane", &[]).code(0);
    // Set aside only when it was taken up again: then it is owed too.
    let mut dies = firm.0.start_waiting();
    dies.kill().unwrap();
    dies.wait().unwrap();
    assert_eq!(firm.states(), ["done"]);
    firm.0.write("go", "");
    firm.0.run(&["resume", "last", "--break-glass", "now or never"]).code(0);
    assert_eq!(firm.states(), ["done", "due"]);
}

#[test]
fn a_run_that_was_left_open_counts_from_its_opening_and_can_be_taken_up() {
    let firm = Firm::new(AT_ONCE);
    let mut dies = firm.0.start_waiting();
    assert_eq!(firm.states(), ["running"]);
    dies.kill().unwrap();
    dies.wait().unwrap();
    assert_eq!(firm.states(), ["overdue"]);
    let said = firm.review("last", "jane", &[]).code(3);
    assert!(said.stderr.contains("RB0736") && said.stderr.contains("has not ended"), "{}", said.stderr);
    firm.0.write("go", "");
    firm.0.run(&["resume", "last"]).code(0);
    firm.review("last", "jane", &[]).code(0);
    firm.apply(&[]).code(0);
}
