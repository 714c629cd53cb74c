//! People, policy, approvals: what is asked for, what counts, what does not and why.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use place::{Place, Said};
use runbook_model::Sha256;

/// Rules that want two roles, and a person at the keyboard who is neither.
const POLICY: &str = "schema: policy/v1\nrules:\n  - name: two eyes\n    for: {hosts: here}\n    approvals: {roles: {it-lead: 1, \
                      cui-owner: 1}}\n    operator: {roles: [sysadmin], training: [maintenance]}\n";

/// A project with people whose keys were made by ssh-keygen.
struct Firm(Place);

impl Firm {
    fn new() -> Self {
        let firm = Self(Place::project());
        for name in ["jane", "raj", "ben", "eve"] {
            firm.make_key(name);
        }
        firm.people("2099-01-01", "", "");
        firm.0.write("policy.yaml", POLICY);
        firm.plan(&[]);
        firm
    }

    fn make_key(&self, name: &str) {
        let path = self.0.path(&format!("home/{name}"));
        // One of them has a key of the other kind.
        let kind = if name == "raj" { "ecdsa" } else { "ed25519" };
        let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-C", name, "-f"]).arg(path).status();
        assert!(made.unwrap().success());
    }

    fn public(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path(&format!("home/{name}.pub"))).unwrap().trim().to_owned()
    }

    /// Ben runs it; jane leads IT; raj owns the CUI. Eve's key is nobody's.
    fn people(&self, trained_until: &str, of_janes_key: &str, of_ben: &str) {
        let account = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
        let (jane, raj, ben) = (self.public("jane"), self.public("raj"), self.public("ben"));
        self.0.write(
            "people.yaml",
            &format!(
                "schema: people/v1\npeople:\n  jane: {{name: Jane Doe, roles: [it-lead], keys: [{{key: {jane}{of_janes_key}}}]}}\n  \
                 raj: {{name: Raj Patel, roles: [cui-owner], keys: [{raj}]}}\n  ben:\n    name: Ben Ito\n    roles: \
                 [sysadmin, it-lead]\n    keys: [{ben}]\n    accounts: [{}]\n    training: {{maintenance: {trained_until}}}\n{of_ben}",
                account.trim()
            ),
        );
    }

    fn plan(&self, more: &[&str]) {
        let folder = self.0.folder();
        let mut arguments = vec!["plan", "runbooks/hello.yaml", "-p", &folder, "--out", "p.json"];
        arguments.extend(more);
        self.0.run(&arguments).code(0);
    }

    fn decide(&self, word: &str, who: &str, more: &[&str]) -> Said {
        let key = self.0.path(&format!("home/{who}"));
        let mut arguments = vec![word, "p.json", "--as", who, "--key", key.to_str().unwrap()];
        arguments.extend(more);
        self.0.run(&arguments)
    }

    fn approve(&self, who: &str) {
        self.decide("approve", who, &[]).code(0);
    }

    fn apply(&self) -> Said {
        self.0.run(&["apply", "p.json"])
    }

    /// Applying is refused, with these words among the reasons; nothing was done.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let said = self.apply().code(3);
        for word in words.iter().chain(&["RB0722", "nothing was changed"]) {
            assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
        }
        assert!(!self.done());
    }

    fn done(&self) -> bool {
        self.0.path("greeting/greeting").exists()
    }

    /// The files of decisions, without their signatures.
    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path("approvals")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| name.ends_with(".json")).collect();
        names.sort();
        names
    }

    /// Rewrites the document of `who` and signs it again with their key, for `namespace`.
    fn forge(&self, who: &str, namespace: &str, change: impl Fn(&str) -> String) {
        let name = self.files().into_iter().find(|name| name.contains(&format!("-{who}-"))).unwrap();
        let path = self.0.path(&format!("approvals/{name}"));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, change(&text)).unwrap();
        let signature = self.0.path(&format!("approvals/{name}.sig"));
        std::fs::remove_file(&signature).unwrap();
        let key = self.0.path(&format!("home/{who}"));
        let signed =
            Command::new("ssh-keygen").args(["-q", "-Y", "sign", "-n", namespace, "-f"]).arg(key).arg(&path).status();
        assert!(signed.unwrap().success() && signature.exists());
    }
}

#[test]
fn nothing_runs_before_those_whom_the_policy_names_have_approved_exactly_it() {
    let firm = Firm::new();
    firm.refused(&["approved by 0 of 1 with the role it-lead", "approved by 0 of 1 with the role cui-owner"]);
    let said = firm.decide("approve", "jane", &["--reason", "tested in staging"]).code(0);
    for word in ["what is signed:", "tested in staging", "for one run, until", "no earlier run of this runbook"] {
        assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
    }
    firm.refused(&["approved by 0 of 1 with the role cui-owner"]);
    firm.approve("raj");
    firm.apply().code(0);
    assert!(firm.done());
    let explained = firm.0.run(&["approvals", "list", "--json"]).code(0).json();
    assert_eq!(explained["approvals"].as_array().unwrap().len(), 2);
    assert!(explained["approvals"][0]["used_by"].is_string());
    assert_eq!(explained["approvals"][0]["document"]["ledger"]["size"].as_u64().map(|size| size > 0), Some(true));
    let verified = firm.0.run(&["evidence", "verify", "last"]).code(11);
    let held = "2 approvals of this plan, signed before it was opened";
    assert!(verified.stdout.contains(held), "{}", verified.stdout);
    for who in ["jane", "raj"] {
        let seen = format!("the head in the approval of {who}, of ");
        assert!(verified.stdout.contains(&seen), "{who}: {}", verified.stdout);
    }
    let shown = firm.0.run(&["show", "last"]).code(0).stdout;
    assert!(shown.contains("approved by") && shown.contains("jane, raj"), "{shown}");
    let run = firm.0.run(&["show", "last", "--json"]).code(0).json();
    assert_eq!(run["policy_sha256"], Sha256::of(POLICY.as_bytes()).to_string());
    assert_eq!(run["approvals"][1]["signer"], "raj");
    firm.0.run(&["evidence", "export", "last", "--out", "bundle"]).code(0);
    let header = std::fs::read_dir(firm.0.path("bundle/records")).unwrap();
    let opening = header
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .find(|text| text.contains("\"run_opened\""))
        .unwrap();
    assert!(opening.contains("\"signer\":\"jane\"") && opening.contains("\"signer\":\"raj\""), "{opening}");
    let opening: serde_json::Value = serde_json::from_str(&opening).unwrap();
    for key in ["document", "signature"] {
        let digest = opening["event"]["approvals"][0][key].as_str().unwrap();
        assert!(firm.0.path(&format!("bundle/blobs/sha256/{}/{digest}", &digest[..2])).exists(), "{key}");
    }
    let verified = firm.0.run(&["evidence", "verify", "./bundle"]).code(11);
    assert!(verified.stdout.contains(held), "{}", verified.stdout);
    // By programs that are not ours, as VERIFY.txt says: with the list of who may approve from elsewhere.
    let text = std::fs::read_to_string(firm.0.path("bundle/VERIFY.txt")).unwrap();
    let step = text.split("Those whom the policy asked").nth(1).unwrap().split("\n\n").nth(1).unwrap();
    let ours = firm.0.path("approvers");
    let line = |name: &str| format!("{name} namespaces=\"runbook-approval@v1\" {}\n", firm.public(name));
    std::fs::write(&ours, format!("{}{}", line("jane"), line("raj"))).unwrap();
    let check = |approvers: &std::path::Path| {
        let script = format!("T=$(mktemp -d)\nAPPROVERS={}\n{step}\nrm -r $T", approvers.display());
        let mut bash = Command::new("bash");
        bash.args(["-e", "-u", "-o", "pipefail", "-c", &script]).current_dir(firm.0.path("bundle")).output().unwrap()
    };
    let done = check(&ours);
    assert!(done.status.success(), "{step}\n{}", String::from_utf8_lossy(&done.stderr));
    assert!(check(std::path::Path::new("approvals/allowed_signers")).status.success());
    std::fs::write(&ours, format!("jane namespaces=\"runbook-approval@v1\" {}\n{}", firm.public("eve"), line("raj")))
        .unwrap();
    assert!(!check(&ours).status.success(), "eve's key is not jane's");
}

#[test]
fn case_11_an_approval_counts_for_one_run_and_so_is_not_replayed() {
    let firm = Firm::new();
    firm.approve("jane");
    firm.approve("raj");
    firm.apply().code(0);
    std::fs::remove_dir_all(firm.0.path("greeting")).unwrap();
    firm.refused(&["began with it, and it counts for one run"]);
}

#[test]
fn case_11_of_two_runs_that_wait_with_the_same_approvals_one_begins() {
    let firm = Firm::new();
    std::fs::remove_file(firm.0.path("policy.yaml")).unwrap();
    let mut other = firm.0.start_waiting();
    firm.0.write("policy.yaml", POLICY);
    firm.approve("jane");
    firm.approve("raj");
    let mut both = [firm.0.begin(&["apply", "p.json", "--wait"]), firm.0.begin(&["apply", "p.json", "--wait"])];
    both.iter_mut().for_each(|waiting| waiting.hear("is held by run"));
    assert!(!firm.done());
    firm.0.write("go", "");
    assert!(other.wait().unwrap().success());
    let mut ended: Vec<_> = both.into_iter().map(place::Running::code).collect();
    ended.sort_by_key(|(code, _)| *code);
    assert_eq!((ended[0].0, ended[1].0), (Some(0), Some(3)), "{ended:?}");
    assert!(ended[1].1.contains("RB0728"), "{}", ended[1].1);
    assert!(firm.done());
}

#[test]
fn what_was_approved_is_the_way_back_too() {
    let firm = Firm::new();
    firm.approve("jane");
    firm.approve("raj");
    firm.apply().code(0);
    firm.0.run(&["rollback", "last"]).code(5);
    assert!(!firm.done());
}

#[test]
fn case_11_one_changed_byte_in_plan_hosts_parameters_or_windows_voids_an_approval() {
    for (change, reason) in [
        ("step", "it is for another plan"),
        ("parameter", "it is for a plan with other parameters"),
        ("host", "it is for a plan with other hosts"),
        ("windows", "windows.yaml is not the one that it was given for"),
    ] {
        let firm = Firm::new();
        firm.approve("jane");
        firm.approve("raj");
        match change {
            "step" => {
                let text = std::fs::read_to_string(firm.0.path("runbooks/hello.yaml")).unwrap();
                firm.0.write("runbooks/hello.yaml", &format!("{text}\ndefaults: {{timeout: 11m}}\n"));
            }
            "host" => {
                firm.0.write("inventory.yaml", "schema: inventory/v1\nhosts: {here: {transport: local, risk: x}}\n")
            }
            "windows" => firm.0.write(
                "windows.yaml",
                "schema: windows/v1\nzone: UTC\nwindows:\n  always: {when: \"every day 00:00 for 36h\"}\n",
            ),
            _ => {}
        }
        let more: &[&str] = if change == "parameter" { &["-p", "text=hellp"] } else { &[] };
        if change != "windows" {
            firm.plan(more);
        }
        firm.refused(&[reason]);
    }
}

#[test]
fn case_11_an_approval_for_another_purpose_or_too_late_does_not_count() {
    let firm = Firm::new();
    firm.approve("raj");
    firm.approve("jane");
    firm.forge("jane", "file", str::to_owned);
    firm.refused(&["the signature is for \"file\", not for \"runbook-approval@v1\""]);
    let later = |text: &str, key: &str, to: &str| -> String {
        let at = text.find(&format!("\"{key}\":")).unwrap() + key.len() + 3;
        let end = at + text[at..].find(|c: char| !c.is_ascii_digit()).unwrap();
        format!("{}{to}{}", &text[..at], &text[end..])
    };
    firm.forge("jane", "runbook-approval@v1", |text| later(text, "valid_until_ms", "1000000000000"));
    firm.refused(&["it was valid until 2001-09-09"]);
    firm.forge("jane", "runbook-approval@v1", |text| {
        later(&later(text, "valid_until_ms", "4102444800000"), "made_ms", "4000000000000")
    });
    firm.refused(&["which is yet to come"]);
    firm.forge("jane", "runbook-approval@v1", |text| later(text, "made_ms", "1000000000000"));
    firm.refused(&["it is older than the 72 h that this rule allows"]);
    // What is signed cannot be changed afterwards.
    let name = firm.files().into_iter().find(|name| name.contains("-raj-")).unwrap();
    let text = std::fs::read_to_string(firm.0.path(&format!("approvals/{name}"))).unwrap();
    firm.0.write(&format!("approvals/{name}"), &text.replace("\"reason\":\"\"", "\"reason\":\"x\""));
    firm.refused(&["the signature does not fit what it is said to sign"]);
}

#[test]
fn case_13_the_operator_the_same_person_twice_and_keys_that_do_not_count() {
    let firm = Firm::new();
    firm.approve("raj");
    firm.approve("ben");
    firm.refused(&["ben runs it, and cannot approve it", "approved by 0 of 1 with the role it-lead"]);
    firm.0.write("policy.yaml", &POLICY.replace("it-lead: 1", "it-lead: 2"));
    firm.approve("jane");
    firm.approve("jane");
    firm.refused(&["approved by 1 of 2 with the role it-lead", "jane counts once, with"]);
    firm.0.write("policy.yaml", POLICY);
    firm.people("2099-01-01", ", revoked: 2020-01-01", "");
    firm.refused(&["the key of jane that signed it was revoked on 2020-01-01"]);
    firm.people("2099-01-01", ", until: 2020-01-01", "");
    firm.refused(&["the key of jane that signed it counted until 2020-01-01"]);
    firm.people("2099-01-01", "", "");
    firm.apply().code(0);
}

#[test]
fn who_is_nobody_cannot_approve_and_nobody_can_approve_as_another() {
    let firm = Firm::new();
    let key = firm.0.path("home/eve");
    let said = firm.0.run(&["approve", "p.json", "--as", "jane", "--key", key.to_str().unwrap()]).code(3);
    assert!(said.stderr.contains("RB0727") && said.stderr.contains("nobody's in people.yaml"), "{}", said.stderr);
    let key = firm.0.path("home/raj");
    let said = firm.0.run(&["approve", "p.json", "--as", "jane", "--key", key.to_str().unwrap()]).code(3);
    assert!(said.stderr.contains("it says that it is jane's, and raj's key signed it"), "{}", said.stderr);
    let said = firm.0.run(&["approve", "p.json", "--as", "jaen"]).code(2);
    assert!(said.stderr.contains("RB0725"), "{}", said.stderr);
    assert!(!firm.0.path("approvals").exists());
}

#[test]
fn case_14_a_rejection_blocks_until_the_same_person_approves() {
    let firm = Firm::new();
    firm.approve("raj");
    firm.approve("jane");
    firm.decide("reject", "raj", &["--reason", "  "]).code(2);
    firm.decide("reject", "raj", &["--reason", "not before the audit"]).code(0);
    firm.refused(&["raj has rejected it: not before the audit"]);
    // It is on the record: without its files it still blocks.
    std::fs::remove_dir_all(firm.0.path("approvals")).unwrap();
    firm.approve("jane");
    firm.refused(&["raj has rejected it: not before the audit"]);
    firm.approve("raj");
    firm.apply().code(0);
}

#[test]
fn the_operator_must_be_known_trained_and_under_contract() {
    let firm = Firm::new();
    firm.approve("raj");
    firm.approve("jane");
    firm.people("2020-01-01", "", "");
    firm.refused(&["two eyes: ben's training in maintenance counted until 2020-01-01"]);
    let vendor =
        "    vendor: {company: Acme, sow: SOW-7, sow_until: 2020-02-02, nda_until: 2099-01-01, supervisor: jane}\n";
    firm.people("2099-01-01", "", vendor);
    firm.refused(&["ben works for Acme, whose SOW-7 ended on 2020-02-02"]);
    std::fs::remove_file(firm.0.path("people.yaml")).unwrap();
    firm.refused(&["is nobody's in people.yaml"]);
}

#[test]
fn what_else_a_rule_asks_for_is_told_one_by_one() {
    let firm = Firm::new();
    let rules = "schema: policy/v1\nrules:\n  - {name: all, ticket: 'CHG-[0-9]+', windows: required, snapshot: required, transports: \
                 [ssh]}\n  - {name: others, for: {tiers: [emergency]}, ticket: x}\n";
    firm.0.write("policy.yaml", rules);
    let reasons = [
        "all: no ticket is named",
        "all: no window of windows.yaml is for here",
        "all: the runbook takes no snapshot",
        "all: here is reached by local",
    ];
    firm.refused(&reasons);
    let said = firm.0.run(&["apply", "p.json", "--ticket", "CHG-1x"]).code(3);
    assert!(said.stderr.contains("the ticket CHG-1x is not like CHG-[0-9]+"), "{}", said.stderr);
    let said = firm.0.run(&["policy", "explain", "p.json", "--ticket", "CHG-1"]).code(3);
    assert!(said.stdout.contains("✓ a ticket like CHG-[0-9]+") && !said.stdout.contains("others"), "{}", said.stdout);
    for reason in &reasons[1..] {
        assert!(said.stdout.contains(&reason["all: ".len()..]), "{reason}: {}", said.stdout);
    }
    firm.0.write("policy.yaml", "schema: policy/v1\nrules: [{ticket: 'CHG-[0-9]+', for: {hosts: nowhere}}]\n");
    let said = firm.apply().code(2);
    assert!(said.stderr.contains("no host, group or flag is called `nowhere`"), "{}", said.stderr);
}

#[test]
fn a_request_is_signed_elsewhere_and_taken_in() {
    let firm = Firm::new();
    firm.approve("jane");
    firm.0.run(&["approve", "p.json", "--as", "raj", "--request", "for-raj.json"]).code(0);
    firm.0.run(&["approvals", "import", "for-raj.json"]).code(3);
    let signed = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", "runbook-approval@v1", "-f"])
        .arg(firm.0.path("home/raj"))
        .arg(firm.0.path("for-raj.json"))
        .status();
    assert!(signed.unwrap().success());
    firm.0.run(&["approvals", "import", "for-raj.json"]).code(0);
    firm.0.run(&["approvals", "import", "for-raj.json"]).code(0);
    assert_eq!(firm.files().len(), 2);
    firm.apply().code(0);
}

/// A person's FIDO2 device, made of software: it signs as PROTOCOL.u2f of OpenSSH says, with the flags that it is told.
struct Device(ed25519_dalek::SigningKey);

impl Device {
    fn string(out: &mut Vec<u8>, bytes: &[u8]) {
        out.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        out.extend(bytes);
    }

    fn strings(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        parts.iter().for_each(|part| Self::string(&mut out, part));
        out
    }

    fn key(&self) -> Vec<u8> {
        Self::strings(&[b"sk-ssh-ed25519@openssh.com", self.0.verifying_key().as_bytes(), b"ssh:"])
    }

    fn line(&self) -> String {
        format!("sk-ssh-ed25519@openssh.com {}", STANDARD.encode(self.key()))
    }

    fn sign(&self, message: &[u8], flags: u8) -> String {
        let purpose: &[u8] = b"runbook-approval@v1";
        let hash = |bytes: &[u8]| Sha256::of(bytes).0.to_vec();
        let inner = [b"SSHSIG", Self::strings(&[purpose, b"", b"sha256", &hash(message)]).as_slice()].concat();
        let tail = [&[flags], &1_u32.to_be_bytes()[..]].concat();
        let signature = self.0.sign(&[hash(b"ssh:"), tail.clone(), hash(&inner)].concat()).to_bytes();
        let signature = [Self::strings(&[b"sk-ssh-ed25519@openssh.com", &signature]), tail].concat();
        let parts = Self::strings(&[&self.key(), purpose, b"", b"sha256", &signature]);
        let whole = [&b"SSHSIG"[..], &1_u32.to_be_bytes(), &parts].concat();
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(whole))
    }
}

#[test]
fn case_12_a_rule_may_ask_for_a_touch_or_a_pin() {
    let firm = Firm::new();
    let device = Device(ed25519_dalek::SigningKey::from_bytes(&[7; 32]));
    let people = std::fs::read_to_string(firm.0.path("people.yaml")).unwrap();
    firm.0.write("people.yaml", &people.replace(&firm.public("raj"), &device.line()));
    let wants = |presence: &str| {
        let rule = POLICY.replace("{it-lead: 1, cui-owner: 1}", "{cui-owner: 1}");
        firm.0
            .write("policy.yaml", &rule.replace("cui-owner: 1}", &format!("cui-owner: 1}}, security_key: {presence}")));
    };
    firm.0.run(&["approve", "p.json", "--as", "raj", "--request", "request.json"]).code(0);
    let document = std::fs::read(firm.0.path("request.json")).unwrap();
    let signed = |flags: u8| {
        firm.0.write("request.json.sig", &device.sign(&document, flags));
        firm.0.run(&["approvals", "import", "request.json"]).code(0);
        // OpenSSH itself takes the signature for right, whatever the flags: the software is no worse than a device.
        let allowed = format!("raj namespaces=\"runbook-approval@v1\" {}\n", device.line());
        firm.0.write("allowed", &allowed);
        let verified = Command::new("ssh-keygen")
            .args(["-Y", "verify", "-n", "runbook-approval@v1", "-I", "raj", "-f"])
            .arg(firm.0.path("allowed"))
            .arg("-s")
            .arg(firm.0.path("request.json.sig"))
            .stdin(std::fs::File::open(firm.0.path("request.json")).unwrap())
            .output()
            .unwrap();
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
    };
    wants("touch");
    signed(0);
    firm.refused(&["it was not signed with a security key that was touched"]);
    wants("pin");
    signed(1);
    firm.refused(&["its security key was touched, and neither PIN nor finger was asked for"]);
    signed(5);
    firm.apply().code(0);
}

#[test]
fn the_policy_that_ships_is_right_and_holds_from_the_first_run_on() {
    let place = Place::empty();
    place.run(&["init", "--policy", "cmmc-l2"]).code(0);
    place.run(&["validate", "people.yaml", "policy.yaml"]).code(0);
    let said = place.run(&["apply", "runbooks/hello.yaml"]).code(3);
    for word in ["is nobody's in people.yaml", "no ticket is named", "approved by 0 of 1 with the role it-lead"] {
        assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
    }
    place.run(&["apply", "runbooks/hello.yaml", "--break-glass", "now"]).code(3);
    // What cannot wait wants fewer signatures, a reason, and somebody who can look at it afterwards.
    let text = std::fs::read_to_string(place.path("runbooks/hello.yaml")).unwrap();
    place.write("runbooks/hello.yaml", &format!("{text}\ntier: emergency\n"));
    let said = place.run(&["apply", "runbooks/hello.yaml"]).code(3);
    for word in
        ["approved by 0 of 1 with the role coo", "no reason is given", "who could review it (1 it-lead, other than who"]
    {
        assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
    }
}

#[test]
fn without_a_policy_runs_work_and_the_record_says_so() {
    let firm = Firm::new();
    std::fs::remove_file(firm.0.path("policy.yaml")).unwrap();
    let said = firm.0.run(&["policy", "explain", "p.json"]).code(0);
    assert!(said.stderr.contains("no policy"), "{}", said.stderr);
    firm.apply().code(0);
    // A policy that comes later does not hold up what goes on, and what is new is under it.
    firm.0.write("policy.yaml", POLICY);
    firm.0.run(&["rollback", "last"]).code(3);
}

#[test]
fn people_are_listed_with_what_is_over() {
    let firm = Firm::new();
    firm.people("2020-01-01", ", revoked: 2020-02-01", "");
    let said = firm.0.run(&["people", "list"]).code(0);
    for line in
        ["jane  Jane Doe · it-lead · 1 key", "revoked on 2020-02-01", "training in maintenance was over on 2020-01-01"]
    {
        assert!(said.stdout.contains(line), "{line}: {}", said.stdout);
    }
    firm.0.run(&["people", "check"]).code(0);
    firm.0.write("people.yaml", "schema: people/v1\npeople: {jane: {nam: Jane}}\n");
    let said = firm.0.run(&["people", "check"]).code(2);
    assert!(said.stderr.contains("people.yaml:2:17"), "{}", said.stderr);
    let said = firm.0.run(&["validate", "people.yaml"]).code(2);
    assert!(said.stderr.contains("a person has no key `nam`"), "{}", said.stderr);
}

#[test]
fn who_goes_on_with_a_run_must_be_one_who_might_have_begun_it_and_whoever_cancels_it_need_not() {
    let firm = Firm::new();
    firm.0.write(
        "policy.yaml",
        "schema: policy/v1\nrules: [{name: operators, operator: {roles: [sysadmin], training: [maintenance]}}]\n",
    );
    let mut child = firm.0.start_waiting();
    child.kill().unwrap();
    child.wait().unwrap();
    firm.people("2001-01-01", "", "");
    let said = firm.0.run(&["resume", "last"]).code(3);
    for word in ["RB0722", "training in maintenance counted until 2001-01-01", "runbook cancel RUN"] {
        assert!(said.stderr.contains(word), "{word}: {}", said.stderr);
    }
    firm.0.run(&["cancel", "last"]).code(8);
    assert!(!firm.0.path("changed").exists());
}

#[test]
fn an_agent_signs_where_no_private_key_lies() {
    let firm = Firm::new();
    let socket = firm.0.path("agent");
    // It goes into the background when it listens, and says its number.
    let started = Command::new("ssh-agent").arg("-a").arg(&socket).output().unwrap();
    let words = String::from_utf8(started.stdout).unwrap();
    let pid = words.split("SSH_AGENT_PID=").nth(1).and_then(|rest| rest.split(';').next()).unwrap().to_owned();
    let key = firm.0.path("home/jane");
    let added = Command::new("ssh-add").arg("-q").arg(&key).env("SSH_AUTH_SOCK", &socket).status();
    std::fs::remove_file(&key).unwrap();
    let mut command = firm.0.command(&["approve", "p.json", "--as", "jane"]);
    let approved = command.env("SSH_AUTH_SOCK", &socket).output().unwrap();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert!(added.unwrap().success());
    assert!(approved.status.success(), "{}", String::from_utf8_lossy(&approved.stderr));
    firm.approve("raj");
    firm.apply().code(0);
}
