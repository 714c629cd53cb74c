//! `evidence export`: bundles of the real program, looked at by programs that are not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use runbook_e2e::program::{Project, binary};
use runbook_testkit::bad_disk::{BadDisk, Calls, ENOSPC, Failure};
use runbook_testkit::{lab, outside};
use serde_json::Value;

const RUNBOOK: &str = "schema: runbook/v1
name: counted
title: It counts – twice
irreversible: it only counts
prechecks:
  - {id: room, run: df /}
execute:
  - {id: one, run: \"printf 'first\\\\nsecond\\\\n'; echo a warning >&2; echo one >>counter\", changes: [counter]}
  - {id: never, run: 'false', when: '1 == 2'}
  - {id: two, run: echo two >>counter}
verify:
  - {id: whole, run: grep -c . counter}
";

fn project() -> Project {
    let project = Project::empty();
    let counter = project.path().join("counter").display().to_string();
    project.write("counted.yaml", &RUNBOOK.replace("counter", &counter));
    project
}

fn applied() -> Project {
    let project = project();
    project.run(&["apply", "counted.yaml", "--yes"]).expect_code(0);
    project
}

fn export(project: &Project, out: &str) -> PathBuf {
    let ended = project.last()["state"] == "ended";
    project.run(&["evidence", "export", "last", "--out", out]).expect_code(if ended { 0 } else { 12 });
    project.path().join(out)
}

/// Every file below a folder, by its path there.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                out.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    out
}

/// The commands of a bundle's VERIFY.txt.
fn commands(bundle: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(bundle.join("VERIFY.txt")).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

/// Runs a script in a bundle, with the tools first on the path, and where that can be had without a network.
fn bash(bundle: &Path, tools: &Path, script: &str) -> Output {
    let alone = Command::new("unshare").args(["--net", "true"]).output().is_ok_and(|output| output.status.success());
    let mut command = if alone {
        let mut command = Command::new("unshare");
        command.args(["--net", "bash"]);
        command
    } else {
        Command::new("bash")
    };
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    command.args(["-e", "-u", "-o", "pipefail", "-c", script]).current_dir(bundle).env("PATH", path).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_command_of_verify_txt_holds_for_a_run_that_succeeded_and_writes_nothing() {
    let Some(tools) = outside::require() else { return };
    let project = applied();
    let bundle = export(&project, "bundle");
    let before = files(&bundle);
    let commands = commands(&bundle);
    assert!(commands.len() > 15, "{commands:?}");
    for tool in
        ["sha256sum", "ssh-keygen -Y verify", "openssl pkeyutl", "jq", "in-toto-verify", "trestle", "tlog_scales"]
    {
        assert!(commands.iter().any(|command| command.contains(tool)), "{tool} is not in VERIFY.txt");
    }
    let pinned = project.path().join("pinned");
    std::fs::create_dir(&pinned).unwrap();
    for name in ["allowed_signers", "log.pem", "log.vkey"] {
        std::fs::copy(bundle.join("trust").join(name), pinned.join(name)).unwrap();
    }
    let script = format!("PINNED={}\n{}", pinned.display(), commands.join("\n"));
    let output = bash(&bundle, &tools, &script);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(files(&bundle), before, "checking changed the bundle");
}

#[test]
fn every_command_holds_too_when_another_key_has_taken_the_place_of_the_one_that_sealed_the_run() {
    let Some(tools) = outside::require() else { return };
    let project = applied();
    let before = export(&project, "before");
    project.run(&["evidence", "rotate-key", "--reason", "a test"]).expect_code(0);
    let after = export(&project, "after");
    let records = |bundle: &Path| files(bundle).keys().filter(|name| name.starts_with("records/")).count();
    assert_eq!(records(&after), records(&before) + 1, "the rotation is told too");
    let key = |bundle: &Path| std::fs::read_to_string(bundle.join("trust/log.vkey")).unwrap();
    assert_ne!(key(&before), key(&after));
    for bundle in [before, after] {
        let output = bash(&bundle, &tools, &commands(&bundle).join("\n"));
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn every_command_holds_for_a_redacted_edition_too() {
    let Some(tools) = outside::require() else { return };
    let project = applied();
    project
        .run(&["evidence", "redact", "last", "--host", "here", "--step", "one", "--lines", "2", "--reason", "a test"])
        .expect_code(0);
    project.run(&["evidence", "export", "last", "--out", "edition", "--redacted"]).expect_code(0);
    let edition = project.path().join("edition");
    assert!(edition.join("redactions.json").exists());
    let output = bash(&edition, &tools, &commands(&edition).join("\n"));
    assert!(output.status.success(), "{}", said(&output));
    // A tree of another library, whose leaves are the salts and lines that are shown: without the withheld one it has
    // another root, with it the root on record.
    let full = export(&project, "full");
    let script = r#"python3 -I -B -c '
import glob, hashlib, json, pymerkle, sys
(edition,) = glob.glob("outputs-redacted/*.json")
shown = json.load(open(edition))
for blob in glob.glob(sys.argv[1] + "/blobs/sha256/*/*"):
    raw = open(blob, "rb").read()
    head, _, content = raw.partition(b"\n")
    if content == b"first\nsecond\n":
        seed = bytes.fromhex(head.split(b" ")[1].decode())
        break
tree = pymerkle.InmemoryTree(algorithm="sha256")
for number, line in enumerate(content.splitlines(True)):
    salt = hashlib.sha256(b"runbook-segment-salt/v1" + seed + number.to_bytes(8, "big")).digest()[:16]
    tree.append_entry(salt + line)
    entry = shown["entries"][number]
    leaf = hashlib.sha256(b"\0" + salt + line).hexdigest()
    assert entry.get("salt", salt.hex()) == salt.hex() and entry.get("leaf", leaf) == leaf, entry
assert shown["entries"][1] == {"leaf": leaf, "withheld": True}
assert tree.get_state().hex() == shown["root"], "another root"
' "$FULL""#;
    let output = bash(&edition, &tools, &format!("FULL={}\n{script}", full.display()));
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn each_check_of_verify_txt_fails_for_what_it_is_there_for() {
    let Some(tools) = outside::require() else { return };
    let project = applied();
    let bundle = export(&project, "bundle");
    let all = commands(&bundle);
    let key = project.path().join("another");
    let made = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out"]).arg(&key).status().unwrap();
    assert!(made.success());
    let public = Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key).output().unwrap().stdout;
    let blob = files(&bundle).keys().find(|name| name.starts_with("blobs/")).unwrap().clone();
    // What is done, and the tool that must see it.
    let spoil = |name: &str| {
        let path = bundle.join(name);
        let bytes = std::fs::read(&path).unwrap();
        let mut changed = bytes.clone();
        let at = changed.len() / 2;
        changed[at] ^= 1;
        std::fs::write(&path, changed).unwrap();
        (path, bytes)
    };
    let cases: [(&str, &str); 6] = [
        (&blob, "sha256sum --strict --quiet -c SHA256SUMS"),
        ("SHA256SUMS", "ssh-keygen"),
        ("records/3.json", "for f in records"),
        ("ledger/tile/0/000.p/", "tlog_scales"),
        ("run.json", "jq -r '.subject[]"),
        ("plan/plan.json", "CMMCAssessmentArtifacts.log |"),
    ];
    for (name, tool) in cases {
        let name = files(&bundle).into_keys().find(|file| file.starts_with(name)).unwrap();
        let (path, bytes) = spoil(&name);
        // The commands that prepare are run, and of those that check only the one that is meant.
        let prepares = |command: &str| {
            command.starts_with("PINNED") || command.contains("() {") || command.contains("> \"$T/statement\"")
        };
        let script: Vec<&str> =
            all.iter().map(String::as_str).filter(|line| prepares(line) || line.contains(tool)).collect();
        let output = bash(&bundle, &tools, &script.join("\n"));
        assert!(!output.status.success(), "{tool} did not see that {name} was changed: {}", said(&output));
        std::fs::write(path, bytes).unwrap();
        let output = bash(&bundle, &tools, &script.join("\n"));
        assert!(output.status.success(), "{tool}: {}", said(&output));
    }
    // Another key: nothing that is signed holds.
    std::fs::write(bundle.join("trust/log.pem"), public).unwrap();
    let of_head = all.iter().filter(|line| line.starts_with("PINNED") || line.contains("$T/head"));
    let output = bash(&bundle, &tools, &of_head.cloned().collect::<Vec<_>>().join("\n"));
    assert!(!output.status.success(), "{}", said(&output));
    let in_toto = all.iter().filter(|line| line.starts_with("PINNED") || line.contains("in-toto-verify"));
    let output = bash(&bundle, &tools, &in_toto.cloned().collect::<Vec<_>>().join("\n"));
    assert!(!output.status.success(), "{}", said(&output));
}

#[test]
fn in_toto_refuses_a_run_in_which_a_step_failed_or_whose_link_is_missing() {
    let Some(tools) = outside::require() else { return };
    let project = applied();
    let bundle = export(&project, "good");
    let verify = "in-toto-verify --layout attest/root.layout --link-dir attest --verification-keys trust/log.pem";
    let output = bash(&bundle, &tools, verify);
    assert!(output.status.success(), "{}", said(&output));
    let link = files(&bundle).into_keys().find(|name| name.starts_with("attest/two@")).unwrap();
    // The link of another cell in its place, and none at all.
    let other = files(&bundle).into_keys().find(|name| name.starts_with("attest/one@")).unwrap();
    std::fs::copy(bundle.join(other), bundle.join(&link)).unwrap();
    let output = bash(&bundle, &tools, verify);
    assert!(!output.status.success(), "{}", said(&output));
    std::fs::remove_file(bundle.join(&link)).unwrap();
    let output = bash(&bundle, &tools, verify);
    assert!(!output.status.success() && said(&output).contains("two@"), "{}", said(&output));

    let text = std::fs::read_to_string(project.path().join("counted.yaml")).unwrap();
    project.write("failing.yaml", &text.replace("grep -c .", "false; grep -c never-there"));
    assert_ne!(project.run(&["apply", "failing.yaml", "--yes"]).code, Some(0));
    let bundle = export(&project, "bad");
    let output = bash(&bundle, &tools, verify);
    assert!(!output.status.success() && said(&output).contains("whole@"), "{}", said(&output));
    let text = std::fs::read_to_string(bundle.join("VERIFY.txt")).unwrap();
    assert!(text.contains("This run did not succeed, so it must fail"), "{text}");
}

#[test]
fn another_library_computes_the_same_root_from_the_records() {
    let Some(tools) = outside::require() else { return };
    let project = applied();
    let bundle = export(&project, "bundle");
    // The ledger's first run: its records are all that the signed head is over.
    let script = r#"python3 -I -B -c '
import base64, pathlib, pymerkle
origin, size, root = pathlib.Path("ledger/checkpoint").read_text().split("\n")[:3]
tree = pymerkle.InmemoryTree(algorithm="sha256")
for seq in range(int(size)):
    tree.append_entry(pathlib.Path(f"records/{seq}.json").read_bytes())
assert tree.get_state() == base64.b64decode(root), "another root"
'"#;
    let output = bash(&bundle, &tools, script);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_same_run_gives_the_same_bytes_wherever_and_whenever_it_is_exported() {
    let project = applied();
    let run = project.last()["run_id"].as_str().unwrap().to_owned();
    let first = export(&project, "first");
    export(&project, "first.tar.zst");
    // The ledger grows, and the world is another one.
    project.run(&["apply", "counted.yaml", "--yes"]).expect_code(0);
    let elsewhere = [("TZ", "Asia/Tokyo"), ("LANG", "de_DE.UTF-8"), ("LC_ALL", "tr_TR.UTF-8"), ("UMASK", "077")];
    for out in ["second", "second.tar.zst"] {
        project.run_with(&["evidence", "export", &run, "--out", out], &elsewhere).expect_code(0);
    }
    assert_eq!(files(&first), files(&project.path().join("second")));
    let archive = |name: &str| std::fs::read(project.path().join(name)).unwrap();
    assert!(archive("first.tar.zst") == archive("second.tar.zst"), "the archives differ");
}

#[test]
fn an_archive_has_the_files_of_the_folder_and_nothing_of_the_machine_that_made_it() {
    if outside::require().is_none() {
        return;
    }
    let project = applied();
    let folder = export(&project, "folder");
    let archive = export(&project, "bundle.tar.zst");
    let unpacked = project.path().join("unpacked");
    std::fs::create_dir(&unpacked).unwrap();
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar").arg("--zstd").args(arguments).arg(&archive).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    tar(&["-x", "-C", unpacked.to_str().unwrap(), "-f"]);
    assert_eq!(files(&folder), files(&unpacked));
    let ended = project.last()["ended_at"].as_str().unwrap().to_owned();
    let second = ended[..19].replace('T', " ");
    let output = Command::new("tar").args(["--zstd", "--utc", "--full-time", "-tvf"]).arg(&archive).output().unwrap();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        assert!(line.starts_with("-rw-r--r-- 0/0 ") && line.contains(&second), "{line}");
    }
    let names: Vec<String> = tar(&["-t", "-f"]).lines().map(str::to_owned).collect();
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_graphic())), "{names:?}");
}

#[test]
fn an_export_is_on_record_with_the_digest_of_its_list() {
    let project = applied();
    let run = project.last()["run_id"].as_str().unwrap().to_owned();
    let said = project.run(&["evidence", "export", "last", "--out", "bundle", "--json"]);
    let document = said.expect_code(0).json();
    assert_eq!(document["schema"], "export/v1");
    assert_eq!(document["run_id"], run.as_str());
    assert_eq!((&document["kind"], &document["complete"]), (&Value::from("folder"), &Value::from(true)));
    let bundle = project.path().join("bundle");
    assert_eq!(document["files"], files(&bundle).len());
    let bytes: usize = files(&bundle).values().map(Vec::len).sum();
    assert_eq!(document["bytes"], bytes);
    let sums = Command::new("sha256sum").arg(bundle.join("SHA256SUMS")).output().unwrap().stdout;
    assert_eq!(document["sums_sha256"], String::from_utf8(sums).unwrap()[..64]);
    assert!(Path::new(document["target"].as_str().unwrap()).is_absolute());
    // The next bundle would not have this record, for it belongs to no run; the ledger has it, and is whole.
    project.run(&["evidence", "verify", "last"]).expect_code(11);
    let second = project.run(&["evidence", "export", "last", "--out", "again", "--json"]).expect_code(0).json();
    assert_eq!(second["sums_sha256"], document["sums_sha256"]);
}

#[test]
fn what_is_there_is_never_written_over_and_other_archives_are_not_made() {
    let project = applied();
    project.write("kept/file", "mine");
    project.write("kept.tar.zst", "mine");
    std::fs::create_dir(project.path().join("empty")).unwrap();
    std::os::unix::fs::symlink("nowhere", project.path().join("link")).unwrap();
    for out in ["kept", "kept.tar.zst", "empty", "link"] {
        let said = project.run(&["evidence", "export", "last", "--out", out]);
        assert!(said.expect_code(2).stderr.contains("error[RB0637]"), "{said:?}");
    }
    for out in ["b.tar", "b.tar.gz", "b.zip", "b.tgz"] {
        let said = project.run(&["evidence", "export", "last", "--out", out]);
        assert!(said.expect_code(2).stderr.contains("error[RB0637]"), "{said:?}");
        assert!(!project.path().join(out).exists());
    }
    assert_eq!(files(&project.path().join("kept")), BTreeMap::from([("file".into(), b"mine".to_vec())]));
    assert_eq!(std::fs::read(project.path().join("kept.tar.zst")).unwrap(), b"mine");
    let said = project.run(&["evidence", "export", "last", "--out", "no/such/folder"]);
    assert!(said.expect_code(1).stderr.contains("error[RB0638]"), "{said:?}");
    let left = std::fs::read_dir(project.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().starts_with(".runbook-export")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_disk_that_is_full_leaves_no_bundle() {
    let Some(disk) = BadDisk::make() else { return lab::skip("there is no `cc` that makes a shared library") };
    let project = applied();
    std::fs::create_dir(project.path().join("out")).unwrap();
    for (out, at) in [("out/folder", 1), ("out/folder", 40), ("out/bundle.tar.zst", 1)] {
        let full = Failure { calls: Calls::Write, at, errno: ENOSPC, torn: false, once: false };
        let said = project.run_on(&disk, "out", full, &["evidence", "export", "last", "--out", out]);
        assert!(said.expect_code(1).stderr.contains("error[RB0638]"), "{said:?}");
        assert_eq!(std::fs::read_dir(project.path().join("out")).unwrap().count(), 0, "{said:?}");
    }
    export(&project, "out/folder");
}

#[test]
fn a_run_that_is_worked_on_is_refused_and_one_that_died_is_exported_as_incomplete() {
    let project = project();
    let text = std::fs::read_to_string(project.path().join("counted.yaml")).unwrap();
    let gate = project.path().join("gate");
    let waits = format!("{{id: two, run: 'touch {0}; while [ -e {0} ]; do sleep 0.1; done'}}", gate.display());
    let end = text.find("  - {id: two").unwrap();
    project.write("waits.yaml", &format!("{}  - {waits}\nverify:\n  - {{id: whole, run: 'true'}}\n", &text[..end]));
    let running = project.start(&["apply", "waits.yaml", "--yes"]);
    while !gate.exists() {
        std::thread::yield_now();
    }
    let said = project.run(&["evidence", "export", "last", "--out", "bundle"]);
    assert!(said.expect_code(3).stderr.contains("error[RB0636]"), "{said:?}");
    running.signal("KILL");
    running.wait();
    std::fs::remove_file(&gate).unwrap();
    let said = project.run(&["evidence", "export", "last", "--out", "bundle", "--json"]);
    assert_eq!(said.expect_code(12).json()["complete"], false);
    assert!(said.stderr.contains("has not ended"), "{said:?}");
    let readme = std::fs::read_to_string(project.path().join("bundle/README.txt")).unwrap();
    assert!(readme.contains("Outcome:   has no end on record"), "{readme}");
}

#[test]
fn a_content_that_is_gone_is_told_of_and_the_rest_is_exported() {
    let project = project();
    project.write("runbook.toml", "[limits]\n");
    let text = std::fs::read_to_string(project.path().join("counted.yaml")).unwrap();
    project.write("large.yaml", &text.replace("df /", "seq 1 40000"));
    project.run(&["apply", "large.yaml", "--yes"]).expect_code(0);
    let output =
        Command::new("find").args([project.path().to_str().unwrap(), "-path", "*/blobs/*", "-type", "f"]).output();
    let found = String::from_utf8(output.unwrap().stdout).unwrap();
    let blobs: Vec<&str> = found.lines().collect();
    assert_eq!(blobs.len(), 1, "only the long output is a file of the store: {blobs:?}");
    // Cut off, and changed within: a folder and an archive have all but that.
    let whole = std::fs::read(blobs[0]).unwrap();
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 1;
    for (n, content) in [&whole[..whole.len() / 2], &changed].into_iter().enumerate() {
        std::fs::write(blobs[0], content).unwrap();
        for out in [format!("damaged-{n}"), format!("damaged-{n}.tar.zst")] {
            let said = project.run(&["evidence", "export", "last", "--out", &out, "--json"]);
            let document = said.expect_code(12).json();
            let missing = document["missing"].as_array().unwrap();
            assert!(missing.len() == 1 && missing[0].as_str().unwrap().contains("is damaged"), "{document}");
            project.run(&["evidence", "verify", &format!("./{out}")]).expect_code(12);
        }
    }
    std::fs::remove_file(blobs[0]).unwrap();
    let said = project.run(&["evidence", "export", "last", "--out", "bundle", "--json"]);
    let document = said.expect_code(12).json();
    assert_eq!(document["missing"].as_array().unwrap().len(), 1, "{document}");
    let readme = std::fs::read_to_string(project.path().join("bundle/README.txt")).unwrap();
    assert!(readme.contains("MISSING"), "{readme}");
    let bundle = project.path().join("bundle");
    let sums = Command::new("sha256sum").args(["--strict", "--quiet", "-c", "SHA256SUMS"]).current_dir(bundle).status();
    assert!(sums.unwrap().success());
}

#[test]
fn a_ledger_that_was_changed_gives_no_bundle() {
    let project = applied();
    let database = Command::new("find").args([project.path().to_str().unwrap(), "-name", "*.db"]).output().unwrap();
    let database = String::from_utf8(database.stdout).unwrap();
    let changed = Command::new("python3")
        .args(["-c", "import sqlite3, sys\nbase = sqlite3.connect(sys.argv[1])\nfor (t,) in base.execute(\"select name from sqlite_master where type = 'trigger'\").fetchall(): base.execute('drop trigger ' + t)\nbase.execute('update records set leaf = zeroblob(32) where seq = 4')\nbase.commit()"])
        .arg(database.trim())
        .output()
        .unwrap();
    assert!(changed.status.success(), "{}", said(&changed));
    let said = project.run(&["evidence", "export", "last", "--out", "bundle"]);
    assert!(said.expect_code(1).stderr.contains("error[RB0639]"), "{said:?}");
    assert!(!project.path().join("bundle").exists());
}

#[test]
fn hosts_whose_names_differ_in_case_alone_have_files_that_differ_everywhere() {
    let project = project();
    project.write("runbook.toml", "");
    project.write(
        "inventory.yaml",
        "schema: inventory/v1\nhosts:\n  Box: {transport: local}\n  box: {transport: local}\n",
    );
    let text = std::fs::read_to_string(project.path().join("counted.yaml")).unwrap();
    project.write("both.yaml", &text.replace("prechecks:", "targets: {select: all, parallel: 1}\nprechecks:"));
    project.run(&["apply", "both.yaml", "--yes"]).expect_code(0);
    let names: Vec<String> = files(&export(&project, "bundle")).into_keys().collect();
    let lower: BTreeSet<String> = names.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(names.len(), lower.len(), "{names:?}");
    assert_eq!(names.iter().filter(|name| name.starts_with("sessions/")).count(), 2, "{names:?}");
}

#[test]
fn oscal_makes_observations_and_claims_nothing() {
    let project = applied();
    let bundle = export(&project, "bundle");
    let text = std::fs::read_to_string(bundle.join("oscal/assessment-results.json")).unwrap();
    assert!(!text.contains("\"findings\"") && !text.contains("\"satisfied\""));
    let document: Value = serde_json::from_str(&text).unwrap();
    let results = document["assessment-results"]["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        let observations = result["observations"].as_array().unwrap();
        assert!(observations.len() > 5);
        let evidence = observations.iter().filter_map(|seen| seen["relevant-evidence"].as_array()).flatten();
        let mut cited = 0;
        for item in evidence {
            let file = bundle.join("oscal").join(item["href"].as_str().unwrap());
            assert!(file.exists(), "{item}");
            cited += 1;
        }
        assert!(cited > 5, "{result}");
    }
}

#[test]
fn contents_larger_than_the_memory_are_exported() {
    let project = Project::empty();
    let file = project.path().join("large");
    // An output as long as one may be, in lines of 60 kB, and a file of 200 MB that is fetched.
    let prints = "yes \"$(head -c 60000 /dev/zero | tr '\\000' x)\" | head -c 67000000";
    let runbook = serde_json::json!({
        "schema": "runbook/v1", "name": "large", "irreversible": "it prints",
        "execute": [
            {"id": "prints", "run": prints, "strict": false},
            {"id": "fetches", "download": {"from": file, "max_size": "400MiB"}, "timeout": "10m"},
        ],
        "verify": [{"id": "good", "run": "true"}],
    });
    project.write("large.yaml", &runbook.to_string());
    let made = Command::new("sh").args(["-c", "seq 1 40000000 | head -c 200000000 > \"$0\""]).arg(&file).status();
    assert!(made.unwrap().success());
    project.run(&["apply", "large.yaml", "--yes"]).expect_code(0);
    for out in ["folder", "bundle.tar.zst"] {
        // The address space, in KiB: less than the file alone.
        let script = "ulimit -v 131072 && exec \"$0\" evidence export last --out \"$1\"";
        let output = Command::new("sh")
            .args(["-c", script])
            .arg(binary())
            .arg(out)
            .current_dir(project.path())
            .env("XDG_STATE_HOME", project.path().join("state"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    let folder = project.path().join("folder");
    let digest = |command: &str| {
        let output = Command::new("bash").args(["-c", &format!("{command} | sha256sum")]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()[..64].to_owned()
    };
    let large = digest(&format!("cat {}", file.display()));
    assert!(folder.join("blobs/sha256").join(&large[..2]).join(&large).exists());
    let run: Value = serde_json::from_slice(&std::fs::read(folder.join("run.json")).unwrap()).unwrap();
    let stdout = &run["hosts"][0]["steps"][0]["stdout"];
    assert_eq!((&stdout["bytes"], &stdout["truncated"]), (&Value::from(67_000_000), &Value::from(false)), "{run}");
    assert_eq!(stdout["sha256"], digest(prints));
}
