//! The real program and a real Alertmanager: alerts of a run's hosts are silenced while it works and seen again afterwards,
//! whatever becomes of it. What Alertmanager makes of it is said by `amtool`.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::process::Child;

use place::{Place, Said};
use runbook_testkit::alertmanager::Alertmanager;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The hosts' alerts and one of somebody else.
fn fire(am: &Alertmanager) {
    for instance in ["here:9100", "there:9100"] {
        am.fire(&[("alertname", "Down"), ("instance", instance)]);
    }
}

fn settings(url: &str, more: &str) -> String {
    format!("[monitoring.prod]\nkind = \"alertmanager\"\nurl = \"{url}\"\ntimeout = \"2s\"\n{more}")
}

fn project(am: &Alertmanager, more: &str) -> Place {
    let place = Place::project();
    place.write("runbook.toml", &settings(&am.url(), more));
    fire(am);
    place
}

/// A port that nobody listens on.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

fn go(place: &Place) {
    place.write("go", "");
}

/// What is on record of monitoring for the newest run: type, and what was tried where it failed.
fn on_record(place: &Place) -> Vec<String> {
    use runbook_ports::Store as _;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let records = runtime.block_on(async {
        let store = runbook_store::SqliteStore::open(&place.path(".runbook")).await.unwrap();
        let run = store.runs().await.unwrap().pop().unwrap().header.run;
        let records = store.records(&run, 0, 10_000).await.unwrap();
        store.close().await;
        records
    });
    let events = records.iter().map(|sealed| {
        let record: Value = serde_json::from_slice(&sealed.bytes).unwrap();
        record["event"].clone()
    });
    let told = |event: Value| {
        let kind = event["type"].as_str().unwrap().to_owned();
        match (kind.as_str(), event["act"].as_str()) {
            ("monitoring_failed", Some(act)) => Some(format!("failed {act}")),
            ("monitoring_muted", _) if event["lengthened"] == true => Some("lengthened".into()),
            ("monitoring_muted", _) => Some("muted".into()),
            ("monitoring_unmuted", _) => Some("unmuted".into()),
            ("run_opened" | "run_started" | "run_resumed" | "run_ended" | "run_suspended" | "host_started", _) => {
                Some(kind)
            }
            _ => None,
        }
    };
    events.filter_map(told).collect()
}

fn document(place: &Place) -> Value {
    place.run(&["show", "last", "--json"]).code(0).json()["monitoring"][0].clone()
}

fn notes(place: &Place) -> usize {
    std::fs::read_dir(place.path(".runbook/muted")).map_or(0, Iterator::count)
}

#[track_caller]
fn muted(am: &Alertmanager) {
    assert_eq!(
        (am.silenced("instance"), am.told("instance")),
        (vec!["here:9100".to_owned()], vec!["there:9100".to_owned()])
    );
}

#[track_caller]
fn unmuted(am: &Alertmanager) {
    let silences = am.silences();
    assert!(silences.is_empty(), "{silences:#?}");
    assert_eq!(am.told("instance"), ["here:9100", "there:9100"]);
}

fn hello(place: &Place) -> Said {
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()])
}

fn end(mut child: Child) -> Option<i32> {
    child.wait().unwrap().code()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
    // Its step goes on, as it must: nobody waits for it here.
}

#[test]
fn alerts_of_the_hosts_are_silenced_while_the_run_works_and_told_again_after_it() {
    let Some(am) = Alertmanager::start() else { return };
    let place = project(&am, "");
    let running = place.start_waiting();
    muted(&am);
    let silence = &am.silences()[0];
    assert!(silence["comment"].as_str().unwrap().starts_with("runbook: waiting (run "), "{silence:#?}");
    go(&place);
    assert_eq!(end(running), Some(0));
    unmuted(&am);
    let order = ["run_opened", "muted", "run_started", "host_started", "run_ended", "unmuted"];
    assert_eq!(on_record(&place), order);
    let document = document(&place);
    assert_eq!((document["muted_until"].is_null(), document["hosts"].as_u64()), (true, Some(1)), "{document:#}");
    assert!(document["unmuted_at"].is_string(), "{document:#}");
    let shown = place.run(&["show", "last"]).code(0).stdout;
    assert!(
        shown.contains("monitoring prod was muted for 1 host until") && shown.contains("proved by asking"),
        "{shown}"
    );
    let explained = place.run(&["explain", "last"]).code(0).stdout;
    assert!(explained.contains("Monitoring prod was unmuted"), "{explained}");
    place.run(&["evidence", "verify", "last"]).code(11);
    // Whoever gets the bundle has what was said with Alertmanager.
    place.run(&["evidence", "export", "last", "--out", "bundle"]).code(0);
    place.run(&["evidence", "verify", "bundle"]).code(11);
    let python = || {
        std::process::Command::new("python3")
            .args(["bundle/verify.py", "bundle"])
            .current_dir(place.root())
            .output()
            .unwrap()
    };
    assert_eq!(python().status.code(), Some(11), "{:?}", python());
    let html = std::fs::read_to_string(place.path("bundle/report.html")).unwrap();
    assert!(html.contains("monitoring prod was muted for 1 host"), "the report tells it");
    let id = silence["id"].as_str().unwrap();
    let said = std::process::Command::new("grep").args(["-rl", id, "bundle/blobs"]).current_dir(place.root()).output();
    let said = String::from_utf8(said.unwrap().stdout).unwrap();
    assert_eq!(said.lines().count(), 2, "what was said when it was muted and unmuted: {said}");
    // Whoever leaves the proof out is found, by us and by the outsider's program.
    std::fs::remove_file(place.path("bundle").join(said.lines().next().unwrap().trim_start_matches("bundle/")))
        .unwrap();
    place.run(&["evidence", "verify", "bundle"]).code(20);
    assert_eq!(python().status.code(), Some(20), "{:?}", python());
    assert_eq!(notes(&place), 0);
}

#[test]
fn a_run_that_fails_and_is_taken_back_is_unmuted_after_the_way_back() {
    let Some(am) = Alertmanager::start() else { return };
    let place = project(&am, "");
    let folder = place.root().display();
    place.write(
        "runbooks/failing.yaml",
        &format!(
            "schema: runbook/v1\nname: failing\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: touch \
             {folder}/changed\n    undo: {{run: 'amtool --alertmanager.url={} alert query --silenced -o json instance=here:9100 \
             >{folder}/seen; rm -f {folder}/changed'}}\nverify:\n  - id: bad\n    run: exit 1\n",
            am.url()
        ),
    );
    place.run(&["apply", "runbooks/failing.yaml"]).code(5);
    let seen = std::fs::read_to_string(place.path("seen")).unwrap();
    assert!(seen.contains("here:9100"), "it was silenced while it was taken back: {seen}");
    unmuted(&am);
    assert_eq!(on_record(&place).last().map(String::as_str), Some("unmuted"));
}

#[test]
fn a_cancelled_run_is_unmuted() {
    let Some(am) = Alertmanager::start() else { return };
    let place = project(&am, "");
    let running = place.start_waiting();
    muted(&am);
    kill_process(Pid::from_child(&running), Signal::TERM).unwrap();
    assert_eq!(end(running), Some(8));
    unmuted(&am);
}

#[test]
fn a_rollback_of_a_finished_run_is_muted_too_and_a_check_is_not() {
    let Some(am) = Alertmanager::start() else { return };
    let place = project(&am, "");
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder(), "--check"]).code(0);
    assert!(am.over().is_empty(), "a check mutes nothing");
    hello(&place).code(0);
    assert_eq!(am.over().len(), 1);
    place.run(&["rollback", "last", "--yes"]);
    assert_eq!(on_record(&place)[..2], ["run_opened", "muted"]);
    assert_eq!(am.over().len(), 2);
    unmuted(&am);
}

#[test]
fn a_killed_controller_leaves_a_silence_that_ends_and_a_resume_unmutes_it() {
    let Some(am) = Alertmanager::start() else { return };
    let place = project(&am, "for_at_most = \"5m\"\n");
    let running = place.start_waiting();
    kill(running);
    muted(&am);
    let silence = am.silences()[0].clone();
    let time = |key: &str| silence[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let lasts = time("endsAt").duration_since(time("startsAt")).as_secs();
    assert!((290..=301).contains(&lasts), "{lasts} s");
    assert_eq!(notes(&place), 1);
    let doctor = place.run(&["doctor", "--offline"]);
    assert!(doctor.stdout.contains("may have left it muted"), "{}", doctor.stdout);
    go(&place);
    place.run(&["resume", "last"]).code(0);
    unmuted(&am);
    assert_eq!(am.over().len(), 1, "it was the same silence all along");
    let told = on_record(&place);
    assert_eq!(told[told.len() - 4..], ["lengthened", "run_resumed", "run_ended", "unmuted"], "{told:?}");
    assert_eq!(notes(&place), 0);
}

#[test]
fn what_a_dead_run_left_muted_is_unmuted_by_the_next_command_that_works() {
    let Some(am) = Alertmanager::start() else { return };
    let place = project(&am, "");
    kill(place.start_waiting());
    muted(&am);
    // It stands in the middle of a step, so another run is refused; monitoring is unmuted all the same.
    let said = hello(&place).code(3);
    assert!(said.stderr.contains("monitoring is unmuted: run"), "{}", said.stderr);
    unmuted(&am);
    assert_eq!(on_record(&place).last().map(String::as_str), Some("unmuted"));
    assert_eq!(notes(&place), 0);
    place.run(&["evidence", "verify", "last"]).code(12);
    // When it is taken up, it is muted anew, and unmuted.
    go(&place);
    place.run(&["resume", "last"]).code(0);
    assert_eq!(am.over().len(), 2);
    unmuted(&am);
}

#[test]
fn a_mute_that_was_made_and_not_recorded_is_found_by_the_run() {
    let Some(am) = Alertmanager::start() else { return };
    let place = project(&am, "");
    hello(&place).code(0);
    // As if its program had died after Alertmanager had made the silence: nothing of that one is on record.
    let run = place.run(&["runs", "--json"]).json()["runs"][0]["run_id"].as_str().unwrap().to_owned();
    let added = std::process::Command::new("amtool")
        .args([
            "silence",
            "add",
            &format!("--alertmanager.url={}", am.url()),
            "--author=x",
            "--comment=x",
            "--duration=1h",
        ])
        .args(["instance=here:9100", &format!("runbook_run!={run}")])
        .output()
        .unwrap();
    assert!(added.status.success(), "{added:?}");
    place.write(&format!(".runbook/muted/{run}.prod"), "");
    muted(&am);
    hello(&place).code(0);
    unmuted(&am);
    assert_eq!(notes(&place), 0);
    let shown = place.run(&["show", &run]).code(0).stdout;
    assert_eq!(shown.matches("was unmuted, which was proved").count(), 2, "{shown}");
}

#[test]
fn without_an_answer_a_run_goes_on_and_says_so_or_is_refused_as_the_settings_say() {
    let Some(am) = Alertmanager::start() else { return };
    let place = Place::project();
    place.write("runbook.toml", &settings(&nobody(), ""));
    let said = hello(&place).code(0);
    assert!(said.stderr.contains("monitoring prod was not muted"), "{}", said.stderr);
    assert!(!said.stderr.contains("STILL MUTED"), "nothing can be muted there: {}", said.stderr);
    assert_eq!(on_record(&place)[..3], ["run_opened", "failed mute", "run_started"]);

    place.write("runbook.toml", &settings(&nobody(), "when_unreachable = \"refuse\"\n"));
    let said = hello(&place).code(3);
    assert!(said.stderr.contains("RB0790"), "{}", said.stderr);
    let runs = place.run(&["runs", "--json"]).json()["runs"].as_array().unwrap().len();
    assert_eq!(runs, 1, "no run was opened");
    // It answers, and takes no silence: the run was open, and ends before anything is begun.
    let more = "when_unreachable = \"refuse\"\nmatchers = { instance = \"=~a{1001}({{ host.name }}\" }\n";
    place.write("runbook.toml", &settings(&am.url(), more));
    let said = hello(&place).code(3);
    assert!(said.stderr.contains("RB0790") && said.stderr.contains("invalid"), "{}", said.stderr);
    assert_eq!(on_record(&place).iter().filter(|event| *event == "host_started").count(), 0);
    assert_eq!(place.run(&["show", "last", "--json"]).json()["outcome"], "cancelled");
    let cancelled = place.run(&["show", "last", "--json"]).json()["cancelled_by"].clone();
    assert_eq!(cancelled, "runbook", "nobody is said to have done what nobody did");
}

#[test]
fn who_does_not_let_us_in_is_told_without_the_secret() {
    let pki = runbook_testkit::anchors::Pki::new();
    pki.certify_server("am");
    let Some(am) = Alertmanager::guarded(&pki, "am") else { return };
    let place = Place::project();
    let login = |secret: &str| {
        let ca = pki.path("ca.pem");
        format!("ca = {ca:?}\nuser = \"runbook\"\npassword = {{ command = [\"echo\", \"{secret}\"] }}\n")
    };
    place.write("runbook.toml", &settings(&am.url(), &login("wrong-password")));
    let said = hello(&place).code(0);
    assert!(said.stderr.contains("does not let us in (401"), "{}", said.stderr);
    assert!(!said.stderr.contains("wrong-password"), "{}", said.stderr);
    assert!(am.over().is_empty());
    let password = runbook_testkit::alertmanager::PASSWORD;
    place.write("runbook.toml", &settings(&am.url(), &login(password)));
    hello(&place).code(0);
    assert_eq!(am.over().len(), 1);
    let doctor = place.run(&["doctor"]).stdout;
    assert!(doctor.contains("answers, and lets us in"), "{doctor}");
    // Neither the record nor what is kept has the password or what is sent for it.
    for secret in [password, "cnVuYm9vazph"] {
        let found =
            std::process::Command::new("grep").args(["-rla", secret, ".runbook"]).current_dir(place.root()).output();
        assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "", "{secret}");
    }
}

#[test]
fn an_alertmanager_that_is_gone_at_the_end_is_told_loudly_and_asked_by_the_next_command() {
    let Some(mut am) = Alertmanager::start() else { return };
    let place = project(&am, "");
    let mut running = place.begin(&["apply", &waiting(&place)]);
    assert_eq!(std::fs::read_to_string(place.path("begun")).unwrap(), "begun\n");
    am.end();
    go(&place);
    running.hear("STILL MUTED");
    let (code, said) = running.code();
    assert_eq!(code, Some(0), "the work is done: {said}");
    assert!(said.contains("monitoring may still be muted until"), "{said}");
    assert!(document(&place)["muted_until"].is_string());
    let shown = place.run(&["show", "last"]).code(0).stdout;
    assert!(shown.contains("STILL MUTED"), "{shown}");
    // Still away: the next command says so, and does its work.
    let said = hello(&place).code(0);
    assert!(said.stderr.contains("monitoring may still be muted until"), "{}", said.stderr);
    assert_eq!(notes(&place), 1);
    am.begin();
    assert_eq!(am.silences().len(), 1, "it knows the silence still");
    // It is not asked again at once; a minute later it is.
    for file in std::fs::read_dir(place.path(".runbook/muted")).unwrap() {
        let file = std::fs::File::options().append(true).open(file.unwrap().path()).unwrap();
        let then = file.metadata().unwrap().modified().unwrap();
        file.set_modified(then - std::time::Duration::from_secs(61)).unwrap();
    }
    let said = hello(&place).code(0);
    assert!(said.stderr.contains("monitoring is unmuted: run"), "{}", said.stderr);
    assert!(am.silences().is_empty());
    let runs = place.run(&["runs", "--json"]).json()["runs"].clone();
    let first = runs.as_array().unwrap().iter().find(|run| run["runbook"] == "waiting").unwrap()["run_id"].clone();
    let shown = place.run(&["show", first.as_str().unwrap(), "--json"]).code(0).json();
    assert!(shown["monitoring"][0]["muted_until"].is_null() && shown["monitoring"][0]["unmuted_at"].is_string());
    assert_eq!(notes(&place), 0);
}

/// The runbook of `start_waiting`, not started.
fn waiting(place: &Place) -> String {
    let folder = place.root().display();
    let text = format!(
        "schema: runbook/v1\nname: waiting\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: |\n      echo begun > \
         {folder}/begun\n      while [ ! -e {folder}/go ]; do sleep 0.05; done\n    undo: {{run: 'true'}}\n"
    );
    place.write("runbooks/waiting.yaml", &text);
    assert!(std::process::Command::new("mkfifo").arg(place.path("begun")).status().unwrap().success());
    "runbooks/waiting.yaml".into()
}

#[test]
fn a_silence_that_somebody_ended_stays_ended_and_is_told() {
    let Some(am) = Alertmanager::start() else { return };
    let place = project(&am, "");
    kill(place.start_waiting());
    let id = am.silences()[0]["id"].as_str().unwrap().to_owned();
    am.expire(&id);
    go(&place);
    let said = place.run(&["resume", "last"]).code(0);
    assert!(said.stderr.contains("somebody else ended 1 silence"), "{}", said.stderr);
    assert_eq!(am.over().len(), 1, "it was not muted again");
    assert_eq!(document(&place)["ended_by_others"][0], id.as_str());
}

#[test]
fn a_long_run_is_muted_for_longer_before_the_time_is_over() {
    let Some(am) = Alertmanager::start() else { return };
    let place = project(&am, "for_at_most = \"1m\"\n");
    let running = place.start_waiting();
    let ends = || am.silences()[0]["endsAt"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let first = ends();
    // Forty seconds after the mute, a third of the time before its end.
    let later = (0..700).any(|_| {
        pause();
        ends() > first
    });
    assert!(later, "it ends at {first}");
    muted(&am);
    go(&place);
    assert_eq!(end(running), Some(0));
    let told = on_record(&place);
    assert_eq!(told[told.len() - 3..], ["lengthened", "run_ended", "unmuted"], "{told:?}");
    unmuted(&am);
}

#[allow(clippy::disallowed_methods, reason = "another program's time has to go by")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(100));
}

#[test]
fn five_hundred_hosts_are_muted_by_a_few_silences_and_hostile_labels_mute_nobody_else() {
    let Some(am) = Alertmanager::start() else { return };
    let place = Place::project();
    let matchers = "matchers = { instance = \"=~{{ host.labels.fqdn }}(:[0-9]+)?\" }\n";
    place.write("runbook.toml", &settings(&am.url(), matchers));
    let mut inventory = String::from("schema: inventory/v1\nhosts:\n");
    for no in 0..500 {
        let address = if no == 7 { ".*".to_owned() } else { format!("web{no}.example") };
        inventory.push_str(&format!("  web{no}: {{transport: local, labels: {{fqdn: \"{address}\"}}}}\n"));
    }
    place.write("inventory.yaml", &inventory);
    for instance in [".*", "web499.example:9100", "web500.example:9100", "web1"] {
        am.fire(&[("alertname", "Down"), ("instance", instance)]);
    }
    let folder = place.root().display();
    place.write(
        "runbooks/many.yaml",
        &format!(
            "schema: runbook/v1\nname: many\ntargets: {{select: all}}\nexecute:\n  - id: work\n    once: run\n    run: amtool \
             --alertmanager.url={} alert query --silenced -o json >{folder}/seen\n    undo: {{run: 'true'}}\n",
            am.url()
        ),
    );
    place.run(&["apply", "runbooks/many.yaml"]).code(0);
    let seen: Value = serde_json::from_str(&std::fs::read_to_string(place.path("seen")).unwrap()).unwrap();
    let mut seen: Vec<&str> =
        seen.as_array().unwrap().iter().map(|alert| alert["labels"]["instance"].as_str().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [".*", "web499.example:9100"]);
    assert!((1..=4).contains(&am.over().len()), "{} silences for 500 hosts", am.over().len());
    assert!(am.silences().is_empty());
    assert_eq!(document(&place)["hosts"], 500);
}

#[test]
fn the_daemon_unmutes_what_was_left_muted() {
    let Some(mut am) = Alertmanager::start() else { return };
    let place = project(&am, "");
    let running = place.start_waiting();
    am.end();
    go(&place);
    assert_eq!(end(running), Some(0));
    am.begin();
    assert_eq!((am.silences().len(), notes(&place)), (1, 1));
    place.write("schedule.yaml", "schema: schedule/v1\nschedules: {}\n");
    let said = place.run(&["serve", "--once"]);
    assert!(said.stderr.contains("monitoring is unmuted: run"), "{}{}", said.stdout, said.stderr);
    assert_eq!((on_record(&place).last().map(String::as_str), notes(&place)), (Some("unmuted"), 0));
    unmuted_now(&am);
}

/// Alerts are not kept over a restart.
#[track_caller]
fn unmuted_now(am: &Alertmanager) {
    fire(am);
    unmuted(am);
}
