//! Every example runs as its comments say; every shipped runbook can be validated and planned.

use std::path::{Path, PathBuf};

use runbook_e2e::program::Project;
use runbook_testkit::lab;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

// The examples in a folder of their own, and a folder in which they work.
fn copied() -> (Project, String) {
    let project = Project::empty();
    let copied = std::process::Command::new("cp").arg("-R").arg(examples()).arg(project.path()).status().unwrap();
    assert!(copied.success());
    let work = project.path().join("work").display().to_string();
    (project, work)
}

#[test]
fn hello() {
    let (project, _) = copied();
    let text = std::fs::read_to_string(examples().join("01-hello.yaml")).unwrap();
    assert!(text.lines().count() <= 5, "five lines");
    project.run(&["apply", "examples/01-hello.yaml", "--yes"]).expect_code(0);
    let said = project.run(&["logs", "last"]);
    assert!(said.expect_code(0).stdout.contains("hello from "), "{said:?}");
}

#[test]
fn check() {
    let (project, _) = copied();
    project.run(&["apply", "examples/02-check.yaml", "--yes"]).expect_code(0);
    let said = project.run(&["apply", "examples/02-check.yaml", "--yes", "-p", "min_free=900TiB"]);
    said.expect_code(3);
    let logs = project.run(&["logs", "last", "--step", "disk-free"]);
    assert!(format!("{logs:?}").contains("too little room"), "{logs:?}");
}

#[test]
fn undo() {
    let (project, work) = copied();
    let folder = format!("folder={work}");
    let apply = |text: &str| {
        project.run(&["apply", "examples/03-undo.yaml", "--yes", "-p", &folder, "-p", &format!("text={text}")])
    };
    apply("wrong").expect_code(5);
    assert!(!Path::new(&work).exists(), "it is as it was: not there");
    apply("right").expect_code(0);
    apply("wrong").expect_code(5);
    assert_eq!(std::fs::read_to_string(format!("{work}/setting")).unwrap(), "right\n");
}

#[test]
fn snapshot() {
    // Becomes root.
    if !lab::require() {
        return;
    }
    let (project, work) = copied();
    std::fs::create_dir(&work).unwrap();
    std::fs::write(format!("{work}/precious"), "precious").unwrap();
    let folder = format!("folder={work}");
    let apply = |damage: &str| {
        project.run(&["apply", "examples/04-snapshot.yaml", "--yes", "-p", &folder, "-p", &format!("damage={damage}")])
    };
    apply("true").expect_code(5);
    assert_eq!(std::fs::read_to_string(format!("{work}/precious")).unwrap(), "precious");
    assert!(!Path::new(&format!("{work}/added.txt")).exists());
    apply("false").expect_code(0);
    assert!(Path::new(&format!("{work}/added.txt")).exists());
}

#[test]
fn full() {
    let (project, work) = copied();
    let folder = format!("folder={work}");
    let apply = |bad: &str| {
        project.run_with(
            &[
                "--project",
                "examples/fleet",
                "apply",
                "examples/05-full.yaml",
                "--yes",
                "-p",
                &folder,
                "-p",
                &format!("fail_on={bad}"),
            ],
            &[("EXAMPLE_TOKEN", "a token that nobody may see")],
        )
    };
    let said = apply("");
    said.expect_code(0);
    for host in ["web1", "web2", "web3"] {
        let text = std::fs::read_to_string(format!("{work}/{host}/about.html")).unwrap();
        assert_eq!(text, "<p>1.2.3 about.html</p>\n");
    }
    assert!(!format!("{said:?}").contains("nobody may see"));
    let hidden =
        std::process::Command::new("grep").args(["-r", "nobody may see"]).arg(project.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&hidden.stdout), "", "a secret is nowhere");
}

#[test]
fn full_with_a_bad_host() {
    let (project, work) = copied();
    let said = project.run_with(
        &[
            "--project",
            "examples/fleet",
            "apply",
            "examples/05-full.yaml",
            "--yes",
            "-p",
            &format!("folder={work}"),
            "-p",
            "fail_on=web1",
        ],
        &[("EXAMPLE_TOKEN", "a token that nobody may see")],
    );
    said.expect_code(5);
    for host in ["web1", "web2", "web3"] {
        assert!(!Path::new(&format!("{work}/{host}")).exists(), "{host} is as it was");
    }
}

#[test]
fn confirm_without_a_terminal_is_refused_before_anything_is_touched() {
    let (project, work) = copied();
    std::fs::create_dir(&work).unwrap();
    project.run(&["apply", "examples/06-confirm.yaml", "--yes", "-p", &format!("folder={work}")]).expect_code(2);
    assert!(Path::new(&work).exists());
}

#[test]
fn confirm_on_a_terminal_asks() {
    if std::process::Command::new("script").arg("--version").output().is_err() {
        lab::skip("script(1) is missing; run tests/setup");
        return;
    }
    let (project, work) = copied();
    std::fs::create_dir(&work).unwrap();
    let program = runbook_e2e::program::binary();
    let command = format!("{} apply examples/06-confirm.yaml --yes -p folder={work}", program.display());
    let mut child = std::process::Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(project.path())
        .env("XDG_STATE_HOME", project.path().join("state"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"yes\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!Path::new(&work).exists(), "confirmed, so it was done");
}

#[test]
fn every_shipped_runbook_can_be_planned() {
    let project = Project::empty();
    project.write("runbook.toml", "").write(
        "inventory.yaml",
        "schema: inventory/v1\nhosts:\n  fs01: {address: 198.18.255.1, groups: [fileservers]}\n",
    );
    for (name, parameters) in [
        ("patch-fileserver", &[][..]),
        ("patch-linux", &["services=sshd"]),
        ("rotate-certificate", &["new_certificate=/root/a", "new_key=/root/b"]),
        ("restart-service", &["service=nginx", "port=443"]),
        ("upgrade-postgres-minor", &["major=15", "backup_repository=/srv/backup"]),
    ] {
        let file = runbook_e2e::action::library().join(format!("{name}.yaml"));
        let file = file.to_str().unwrap();
        project.run(&["validate", file]).expect_code(0);
        let mut arguments = vec!["plan", file, "--limit", "fs01", "--format", "json"];
        for parameter in parameters {
            arguments.extend(["-p", parameter]);
        }
        let said = project.run(&arguments);
        said.expect_code(0);
        assert!(said.stdout.contains(name), "{said:?}");
    }
}
