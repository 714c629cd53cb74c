//! The real program on a disk that fails at one call after another: it stops with exit code 9, and goes on rightly when the
//! disk is mended. Every effect is had exactly once.
//!
//! `RUNBOOK_BAD_DISK_ALL=1` tries every call instead of a sample.

use runbook_e2e::program::Project;
use runbook_testkit::bad_disk::{BadDisk, Calls, EIO, ENOSPC, Failure};
use runbook_testkit::lab::skip;

const RUNBOOK: &str = "schema: runbook/v1
name: counted
irreversible: it only counts
execute:
  - {id: one, run: echo one >>counter}
  - {id: two, run: echo two >>counter}
  - {id: three, run: echo three >>counter}
verify:
  - {id: whole, run: test \"$(sort counter | uniq -c | grep -c ' 1 ')\" = 3}
";

fn project() -> Project {
    let project = Project::empty();
    let folder = project.path().display();
    let text = RUNBOOK.replace("counter", &format!("{folder}/counter"));
    project.write("counted.yaml", &text);
    project
}

fn counted(project: &Project) -> Vec<String> {
    let text = std::fs::read_to_string(project.path().join("counter")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn sweep(calls: Calls, errno: i32, torn: bool, points: u64) {
    let Some(disk) = BadDisk::make() else { return skip("there is no `cc` that makes a shared library") };
    let none = Failure { calls, at: 0, errno, torn, once: false };
    let good = project();
    good.run_on(&disk, "state", none, &["apply", "counted.yaml", "--yes"]).expect_code(0);
    let count = disk.count();
    assert!(count > 8, "{count} calls: the library is not under the program");
    let all = std::env::var_os("RUNBOOK_BAD_DISK_ALL").is_some();
    let every = if all { 1 } else { (count / points).max(1) };
    let mut nines = 0;
    for at in (1..=count).step_by(usize::try_from(every).unwrap()) {
        let project = project();
        let said = project.run_on(&disk, "state", Failure { at, ..none }, &["apply", "counted.yaml", "--yes"]);
        let told = format!("{calls:?} {at} of {count}: {said:?}");
        match said.code {
            // Everything was on record before the failure.
            Some(0) => assert_eq!(counted(&project).len(), 3, "{told}"),
            Some(9) => {
                nines += 1;
                let says = ["evidence could not be recorded", "error[RB0300]", "error[RB05"];
                assert!(says.iter().any(|words| said.stderr.contains(words)), "{told}");
            }
            // The key or the store could not be opened or made.
            _ => {
                assert!(said.stderr.contains("error[RB05") || said.stderr.contains("error[RB06"), "{told}");
                assert!(counted(&project).is_empty(), "{told}");
            }
        }
        if project.run(&["show", "last"]).code != Some(0) {
            assert!(counted(&project).is_empty(), "what is not on record was not begun: {told}");
            project.run(&["apply", "counted.yaml", "--yes"]).expect_code(0);
        } else if project.last()["outcome"] != "succeeded" {
            project.run(&["resume", "last"]).expect_code(0);
        }
        assert_eq!(counted(&project), ["one", "two", "three"], "{told}");
        project.run(&["evidence", "verify", "last"]).expect_code(11);
    }
    assert!(nines > 0, "no failure of {count} came while the run was under way");
}

#[test]
fn a_sync_that_fails_stops_the_run_and_it_goes_on_on_a_mended_disk() {
    sweep(Calls::Sync, EIO, false, 8);
}

#[test]
fn a_write_that_finds_no_room_stops_the_run_and_it_goes_on_on_a_mended_disk() {
    sweep(Calls::Write, ENOSPC, false, 8);
}

#[test]
fn a_torn_write_stops_the_run_and_it_goes_on_on_a_mended_disk() {
    sweep(Calls::Write, EIO, true, 6);
}
