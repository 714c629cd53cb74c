//! `doctor` on this machine: what attempts left behind, who still needs it, and what `--clean` does about it.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

struct Place(TempDir);

impl Place {
    fn project() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.path("home")).unwrap();
        place.run(&["init"], 0);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runbook"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env_remove("RUNBOOK_PROJECT")
            .env("XDG_STATE_HOME", self.path("state"))
            .env("HOME", self.path("home"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str], code: i32) -> String {
        let output = self.command(arguments).output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{stdout}\n{stderr}");
        stdout.into_owned()
    }

    #[track_caller]
    fn doctor(&self, more: &[&str]) -> Value {
        let all = [&["doctor", "--json"], more].concat();
        serde_json::from_str(&self.run(&all, 0)).unwrap()
    }

    /// A run that has succeeded; gives its id.
    fn ended_run(&self) -> String {
        let folder = format!("folder={}", self.path("greeting").display());
        self.run(&["apply", "runbooks/hello.yaml", "-p", &folder], 0);
        let runs: Value = serde_json::from_str(&self.run(&["runs", "--json"], 0)).unwrap();
        runs["runs"][0]["run_id"].as_str().unwrap().to_owned()
    }

    fn claims(&self, run: &str) -> PathBuf {
        self.path("home/.local/state/runbook").join(run)
    }

    /// What a host keeps of an attempt.
    fn leave(&self, run: &str, key: &str, state: &str, process: u32, output: &str) {
        let folder = self.claims(run);
        std::fs::create_dir_all(&folder).unwrap();
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        let start = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)).unwrap_or("1");
        let claim = format!("{state:<24}\nv1 {process} {process} {start} {} -\n", boot.trim());
        std::fs::write(folder.join(key), claim).unwrap();
        std::fs::write(folder.join(format!("{key}.out")), output).unwrap();
    }
}

/// The leftovers, by their steps.
fn of<'a>(document: &'a Value, step: &str) -> &'a Value {
    let all = document["leftovers"].as_array().unwrap();
    all.iter().find(|left| left["step"] == step).unwrap_or_else(|| panic!("{step} is not in {document:#}"))
}

fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    document["checks"].as_array().unwrap().iter().find(|check| check["name"] == name).unwrap()
}

/// A process that leads a group of its own.
fn sleeper() -> Child {
    Command::new("sleep").arg("1000").process_group(0).spawn().unwrap()
}

fn aged(folder: &Path, days: u64) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let touched = Command::new("touch").args(["-d", &format!("-{days} days")]).arg(entry.unwrap().path()).status();
        assert!(touched.unwrap().success());
    }
}

const ELSEWHERE: &str = "01890000-0000-7000-8000-000000000001";
const OLD: &str = "01890000-0000-7000-8000-000000000002";

#[test]
fn what_ended_runs_left_is_removed_and_what_others_left_is_kept() {
    let place = Place::project();
    let run = place.ended_run();
    assert_eq!(place.doctor(&[])["leftovers"], Value::Array(vec![]));
    place.leave(&run, "over@here.2", "exit 3 .", 4_000_000, "12345");
    place.leave(ELSEWHERE, "fresh@fs01.1", "exit 0 .", 4_000_000, "");
    place.leave(OLD, "old@fs01.1", "exit 0 .", 4_000_000, "");
    aged(&place.claims(OLD), 31);

    let told = place.doctor(&[]);
    let over = of(&told, "over");
    let fields = [
        "host",
        "name",
        "run",
        "run_id",
        "runbook",
        "for_host",
        "attempt",
        "state",
        "exit_code",
        "removable",
        "removed",
    ];
    let expected = serde_json::json!([
        "here",
        format!("{run}/over@here.2"),
        "ended",
        run,
        "hello",
        "here",
        2,
        "ended",
        3,
        true,
        false
    ]);
    assert_eq!(Value::from_iter(fields.map(|field| over[field].clone())), expected);
    assert!(over["bytes"].as_u64().unwrap() > 5 && over["age_s"].as_u64().unwrap() < 3_600, "{over}");
    assert_eq!((&of(&told, "fresh")["run"], &of(&told, "fresh")["removable"]), (&"elsewhere".into(), &false.into()));
    assert!(of(&told, "old")["removable"] == true && of(&told, "old")["age_s"].as_u64().unwrap() > 30 * 86_400);
    assert_eq!((&check(&told, "leftovers")["status"], &told["good"]), (&"warning".into(), &true.into()));
    assert!(place.run(&["doctor"], 0).contains("may be removed: `runbook doctor --clean`"));

    let cleaned = place.doctor(&["--clean"]);
    assert_eq!((&of(&cleaned, "over")["removed"], &of(&cleaned, "old")["removed"]), (&true.into(), &true.into()));
    assert_eq!(of(&cleaned, "fresh")["removed"], false);
    assert!(!place.claims(&run).exists() && !place.claims(OLD).exists());
    assert_eq!(place.doctor(&[])["leftovers"].as_array().unwrap().len(), 1);
    let said = place.run(&["doctor", "--clean", "--older-than", "0"], 0);
    assert!(said.contains("removed") && !place.claims(ELSEWHERE).exists(), "{said}");
    place.run(&["doctor", "--older-than", "7d"], 2);
    place.run(&["doctor", "--clean", "--older-than", "soon"], 2);
}

#[test]
fn what_still_runs_is_ended_only_when_that_is_asked_for() {
    let place = Place::project();
    let run = place.ended_run();
    let (mut ours, mut theirs) = (sleeper(), sleeper());
    place.leave(&run, "hangs@here.1", "running", ours.id(), "");
    place.leave(ELSEWHERE, "other@fs01.1", "running", theirs.id(), "");
    aged(&place.claims(ELSEWHERE), 100);
    let told = place.doctor(&["--clean", "--older-than", "0"]);
    let kept = of(&told, "hangs");
    assert_eq!((&kept["state"], &kept["removed"]), (&"running".into(), &false.into()));
    assert!(kept["kept_because"].as_str().unwrap().contains("--end-running"), "{kept}");
    assert!(ours.try_wait().unwrap().is_none());

    // Whoever waits for it must reap it, or it is there for ever.
    let waiting = std::thread::spawn(move || ours.wait().unwrap());
    let told = place.doctor(&["--clean", "--end-running", "--older-than", "0"]);
    assert_eq!((&of(&told, "hangs")["ended"], &of(&told, "hangs")["removed"]), (&true.into(), &true.into()));
    assert!(!waiting.join().unwrap().success());
    assert_eq!(of(&told, "other")["removed"], false, "others' processes are theirs");
    assert!(theirs.try_wait().unwrap().is_none());
    theirs.kill().unwrap();
    theirs.wait().unwrap();
}

#[test]
fn what_an_interrupted_run_needs_is_never_removed() {
    let place = Place::project();
    let folder = place.0.path().display().to_string();
    std::fs::write(
        place.path("runbooks/once.yaml"),
        format!(
            "schema: runbook/v1\nname: once\ntargets: {{select: here}}\nexecute:\n  - id: work\n    run: |\n      \
             echo x >>{folder}/count\n      echo begun >{folder}/begun\n      read y <{folder}/go\n    irreversible: \
             true\n"
        ),
    )
    .unwrap();
    assert!(Command::new("mkfifo").args([place.path("begun"), place.path("go")]).status().unwrap().success());
    let mut running = place.command(&["apply", "runbooks/once.yaml", "--yes"]);
    let mut running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert_eq!(std::fs::read_to_string(place.path("begun")).unwrap(), "begun\n");
    running.kill().unwrap();
    running.wait().unwrap();
    for more in [&["--clean"][..], &["--clean", "--end-running", "--older-than", "0"]] {
        let told = place.doctor(more);
        let kept = of(&told, "work");
        assert_eq!(
            (&kept["run"], &kept["removed"], &kept["ended"]),
            (&"interrupted".into(), &false.into(), &false.into())
        );
        assert!(kept["kept_because"].as_str().unwrap().contains("runbook resume"), "{kept}");
    }
    std::fs::write(place.path("go"), "on\n").unwrap();
    place.run(&["resume", "last"], 0);
    assert_eq!(std::fs::read_to_string(place.path("count")).unwrap(), "x\n", "its effect happened once");
    assert_eq!(place.doctor(&[])["leftovers"], Value::Array(vec![]));
}

/// The page that programs are written by.
#[test]
fn the_fields_of_a_leftover_are_those_of_the_book() {
    let place = Place::project();
    let run = place.ended_run();
    place.leave(&run, "over@here.1", "exit 0 .", 4_000_000, "");
    let told = place.doctor(&[]);
    let book = include_str!("../../../docs/operations/doctor.md");
    let example = book.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let example: Value = serde_json::from_str(example).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&told), keys(&example));
    assert_eq!(keys(&told["leftovers"][0]), keys(&example["leftovers"][0]));
    let described: String = book.split("| field | what |").nth(1).unwrap().to_owned();
    for key in keys(&example["leftovers"][0]) {
        let table = key == "exit_code" || key == "signal" || key == "reason" || key == "run_id";
        assert!(table || described.contains(&format!("`{key}`")), "{key} is not described");
    }
}
