//! How long evidence is kept, what holds it, and how it goes: with real keys and the system's `ssh-keygen`.

#[allow(dead_code, reason = "each test file uses a part of it")]
mod place;

use std::path::PathBuf;
use std::process::Command;

use place::{Place, Said};

/// The library that gives a program another clock.
fn faketime() -> PathBuf {
    ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"]
        .map(|folder| PathBuf::from(folder).join("faketime/libfaketime.so.1"))
        .into_iter()
        .find(|path| path.exists())
        .expect("libfaketime is there: tests/setup installs it")
}

/// A run as it would have been in that year.
fn run_in(place: &Place, library: &PathBuf, year: u32, text: &str) -> String {
    let text = format!("text={text}");
    let output = place
        .command(&["apply", "runbooks/hello.yaml", "-p", &place.folder(), "-p", &text, "--json"])
        .env("LD_PRELOAD", library)
        .env("FAKETIME", format!("@{year}-01-15 12:00:00"))
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .output()
        .unwrap();
    let run: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    run["run_id"].as_str().unwrap().to_owned()
}

/// Persons with keys of their own, who may sign.
fn signers(place: &Place, names: &[&str]) {
    let mut list = String::new();
    for name in names {
        let key = place.path(name);
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        list.push_str(&format!("{name} namespaces=\"runbook-purge@v1\" {public}"));
    }
    place.write(".runbook/keys/retention_signers", &list);
}

fn sign(place: &Place, name: &str, namespace: &str, file: &str) -> String {
    let signature = place.path(&format!("{file}.sig"));
    let _ = std::fs::remove_file(&signature);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", namespace, "-f"])
        .arg(place.path(name))
        .arg(place.path(file))
        .status();
    assert!(made.unwrap().success());
    let named = format!("{file}.{name}.{namespace}.sig");
    std::fs::rename(signature, place.path(&named)).unwrap();
    named
}

fn purge(place: &Place, file: &str, signatures: &[&str]) -> Said {
    let mut arguments = vec!["retention", "purge", file];
    for signature in signatures {
        arguments.extend(["--signature", signature]);
    }
    place.run(&arguments)
}

#[track_caller]
fn refused(said: Said, why: &str) {
    let said = said.code(3);
    assert!(said.stderr.contains("RB0667") && said.stderr.contains(why), "{why}: {}", said.stderr);
}

#[test]
fn contents_go_after_their_time_with_two_signatures_and_the_ledger_verifies_as_before() {
    let library = faketime();
    let place = Place::project();
    let old = run_in(&place, &library, 2015, "hello");
    let older = run_in(&place, &library, 2014, "hello");
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    signers(&place, &["ann", "ben", "eve"]);
    let request = |more: &[&str]| {
        let base = ["retention", "request", "--reason", "yearly", "--out"];
        place.run(&[&base, more].concat())
    };
    refused(request(&["no.json", "--run", "last"]), "is kept until");
    // A shorter period in the settings shortens nothing, a longer one lengthens.
    place.write("runbook.toml", "[retention]\ndefault = 12\n");
    refused(request(&["no.json", "--run", "last"]), "is kept until");
    place.write("runbook.toml", "[retention]\ndefault = 1200\n");
    refused(request(&["no.json", "--run", &old]), "is kept until 2115");
    place.write("runbook.toml", "");

    let reason = ["--reason", "a lawsuit"];
    place.run(&[&["retention", "hold", "lawsuit", "--run", &old], &reason[..]].concat()).code(0);
    place.run(&[&["retention", "hold", "lawsuit"], &reason[..]].concat()).code(3);
    place.run(&[&["retention", "hold", "past", "--until", "2001-01-01"], &reason[..]].concat()).code(2);
    refused(request(&["no.json", "--run", &old]), "is held by lawsuit");
    let listed = place.run(&["retention", "list", "--json"]).code(0).json();
    assert_eq!(listed["runs"].as_array().unwrap().iter().filter(|run| run["expired"] == true).count(), 2, "{listed}");

    // Made before the hold is lifted: it counts when it is carried out.
    place.run(&[&["retention", "lift", "lawsuit"], &reason[..]].concat()).code(0);
    request(&["purge.json", "--expired"]).code(0);
    place.run(&[&["retention", "hold", "again"], &reason[..]].concat()).code(0);
    let [ann, ben] = ["ann", "ben"].map(|name| sign(&place, name, "runbook-purge@v1", "purge.json"));
    refused(purge(&place, "purge.json", &[&ann, &ben]), "is held by again");
    place.run(&[&["retention", "lift", "again"], &reason[..]].concat()).code(0);

    refused(purge(&place, "purge.json", &[]), "0 of two");
    refused(purge(&place, "purge.json", &[&ann]), "1 of two");
    refused(purge(&place, "purge.json", &[&ann, &ann]), "two persons must sign");
    let other = sign(&place, "ben", "file", "purge.json");
    refused(purge(&place, "purge.json", &[&ann, &other]), "no signature over");
    place.write(".runbook/keys/retention_signers.all", "");
    let all = std::fs::read_to_string(place.path(".runbook/keys/retention_signers")).unwrap();
    let ann_alone = all.lines().next().unwrap().to_owned() + "\n";
    place.write(".runbook/keys/retention_signers", &ann_alone);
    refused(purge(&place, "purge.json", &[&ann, &ben]), "is by nobody in");
    // One key under two names is one person.
    place.write(".runbook/keys/retention_signers", &format!("{ann_alone}{}", ann_alone.replacen("ann", "ann2", 1)));
    refused(purge(&place, "purge.json", &[&ann, &ann]), "two persons must sign");
    place.write(".runbook/keys/retention_signers", &all);
    let text = std::fs::read_to_string(place.path("purge.json")).unwrap();
    place.write("purge.json", &text.replace("yearly", "YEARLY"));
    refused(purge(&place, "purge.json", &[&ann, &ben]), "no signature over");
    place.write("purge.json", &text.replacen("{", "{ ", 1));
    refused(purge(&place, "purge.json", &[&ann, &ben]), "not a request");
    place.write("purge.json", &text);
    place.run(&["show", &old]).code(0);

    let before = place.run(&["evidence", "verify", "last", "--json"]).code(11).json();
    purge(&place, "purge.json", &[&ann, &ben]).code(0);
    let after = place.run(&["evidence", "verify", "last", "--json"]).code(11).json();
    assert!(after["records"].as_u64() > before["records"].as_u64());
    let checked = after["checked"].to_string();
    for run in [&old, &older] {
        assert!(checked.contains(&format!("the contents of run {run} were removed")), "{checked}");
        assert!(place.run(&["show", run]).code(2).stderr.contains("RB0668"));
    }
    assert_eq!(place.run(&["runs", "--json"]).json()["runs"].as_array().unwrap().len(), 1);
    for command in
        [&["show", "last"][..], &["logs", "last"], &["snapshots"], &["doctor", "--offline"], &["retention", "list"]]
    {
        place.run(command).code(0);
    }
    // Once more is harmless: that is how an interrupted one is ended.
    purge(&place, "purge.json", &[&ann, &ben]).code(0);
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    place.run(&["evidence", "verify", "last"]).code(11);
}

#[test]
fn a_body_removed_by_hand_is_missing_without_purge_record() {
    use sqlx::Connection as _;
    let place = Place::project();
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let first = place.run(&["runs", "--json"]).json()["runs"][0]["run_id"].as_str().unwrap().to_owned();
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(place.path(".runbook/runbook.db"));
        let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql("DROP TRIGGER records_never_change").execute(&mut connection).await.unwrap();
        sqlx::query("UPDATE records SET bytes = x'' WHERE run = ?1")
            .bind(&first)
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
    });
    let verdict = place.run(&["evidence", "verify", "last", "--json"]).code(12).json();
    assert!(verdict["gaps"][0]["what"].as_str().unwrap().contains("missing without purge record"), "{verdict}");
}

/// A project in which one run's time is over, and what two persons have signed for its removal.
fn due(place: &Place) -> (String, [String; 2]) {
    let old = run_in(place, &faketime(), 2015, "a-text-of-this-run-alone");
    place.run(&["apply", "runbooks/hello.yaml", "-p", &place.folder()]).code(0);
    signers(place, &["ann", "ben"]);
    place.run(&["retention", "request", "--reason", "yearly", "--out", "purge.json", "--expired"]).code(0);
    let signatures = ["ann", "ben"].map(|name| sign(place, name, "runbook-purge@v1", "purge.json"));
    (old, signatures)
}

/// The files below a folder in which a text stands.
fn with(folder: &std::path::Path, text: &str) -> Vec<String> {
    let output = Command::new("grep").args(["-rlaF", "--", text]).arg(folder).output().unwrap();
    assert!(output.status.code().unwrap() < 2, "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn what_remains_of_a_purged_run_is_exported_and_verified() {
    let place = Place::project();
    let (old, [ann, ben]) = due(&place);
    let records = place.run(&["evidence", "verify", &old, "--json"]).code(11).json();
    assert_eq!(records["redacted"], false);
    purge(&place, "purge.json", &[&ann, &ben]).code(0);
    // In the project: whole, as far as it goes, and said to be no more than that.
    let verdict = place.run(&["evidence", "verify", &old, "--json"]).code(13).json();
    assert_eq!(verdict["run_id"], old.as_str());
    assert!(verdict["not_checked"].to_string().contains("its records and what they named were removed"), "{verdict}");

    let said = place.run(&["evidence", "export", &old, "--out", "bundle", "--json"]).code(0);
    let document = said.json();
    assert_eq!((&document["run_id"], &document["complete"]), (&old.as_str().into(), &true.into()), "{document}");
    assert!(said.stderr.contains("signed by ann and ben"), "{}", said.stderr);
    let bundle = place.path("bundle");
    assert_eq!(with(&bundle, "a-text-of-this-run-alone"), [""; 0]);
    let pin = place.path(".runbook/keys/ledger.pub").display().to_string();
    let elsewhere = Place::empty();
    let folder = bundle.display().to_string();
    let verdict = elsewhere.run(&["evidence", "verify", &folder, "--pin", &pin, "--json"]).code(13).json();
    assert_eq!((&verdict["run_id"], &verdict["pinned"]), (&old.as_str().into(), &true.into()));
    for text in ["ann has signed for the removal", "ben has signed for the removal", "removed after their time"] {
        assert!(verdict["checked"].to_string().contains(text), "{text}: {verdict}");
    }
    for text in ["what the run did", "entitled to"] {
        assert!(verdict["not_checked"].to_string().contains(text), "{text}: {verdict}");
    }
    let readme = std::fs::read_to_string(bundle.join("README.txt")).unwrap();
    assert!(
        readme.contains("WHAT REMAINS OF A MAINTENANCE RUN") && readme.contains("Signed by: ann and ben"),
        "{readme}"
    );
    let purged: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle.join("purged.json")).unwrap()).unwrap();
    assert_eq!((&purged["run_id"], &purged["places"][0][0]), (&old.as_str().into(), &0.into()), "{purged}");

    // By programs that are not ours, as VERIFY.txt says: with the list of those who may sign from elsewhere.
    let text = std::fs::read_to_string(bundle.join("VERIFY.txt")).unwrap();
    let commands: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| !line.contains("tlog_scales"))
        .collect();
    assert!(commands.iter().any(|line| line.contains("runbook-purge@v1 -s")), "{text}");
    let script = commands.join("\n");
    let bash = |script: &str| {
        let mut command = Command::new("bash");
        command.args(["-e", "-u", "-o", "pipefail", "-c", script]).current_dir(&bundle);
        command.env("SIGNERS", place.path(".runbook/keys/retention_signers")).output().unwrap()
    };
    let done = bash(&script);
    assert!(
        done.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    // Somebody else's list does not have them.
    place.write("others", "eve namespaces=\"runbook-purge@v1\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n");
    assert!(!bash(&format!("SIGNERS={}\n{script}", place.path("others").display())).status.success());

    // The same again, and as an archive; and what is changed is seen.
    place.run(&["evidence", "export", &old, "--out", "again"]).code(0);
    let same = Command::new("diff").arg("-r").arg(&bundle).arg(place.path("again")).output().unwrap();
    assert!(same.status.success(), "{}", String::from_utf8_lossy(&same.stdout));
    place.run(&["evidence", "export", &old, "--out", "bundle.tar.zst"]).code(0);
    place.run(&["evidence", "verify", "./bundle.tar.zst"]).code(13);
    assert!(place.run(&["evidence", "export", &old, "--out", "x", "--redacted"]).code(2).stderr.contains("RB0670"));
    for (file, from, to, code) in [
        ("purge/request.json", "yearly", "weekly", 20),
        ("purge/removed.txt", "\n", "\n\n", 20),
        ("purged.json", "purged/v1", "purged/v2", 20),
    ] {
        let path = bundle.join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        place.run(&["evidence", "verify", "./bundle"]).code(code);
        std::fs::write(&path, text).unwrap();
    }
    std::fs::remove_file(bundle.join("purge/removed.txt")).unwrap();
    place.run(&["evidence", "verify", "./bundle"]).code(20);
}

#[test]
fn a_purge_that_is_killed_anywhere_is_ended_by_calling_it_again() {
    use std::os::unix::process::ExitStatusExt as _;
    let Some(disk) = runbook_testkit::bad_disk::BadDisk::make() else {
        return runbook_testkit::lab::skip("there is no `cc` that makes a shared library");
    };
    let place = Place::project();
    let (old, [ann, ben]) = due(&place);
    assert!(!with(&place.path(".runbook"), &old).is_empty());
    let copied = |from: &str, to: &str| {
        let script = format!("rm -rf {to} && cp -a {from} {to}");
        assert!(Command::new("sh").args(["-c", &script]).current_dir(place.root()).status().unwrap().success());
    };
    copied(".runbook", "copy");
    let mut on_record = std::collections::BTreeSet::new();
    for at in 1.. {
        copied("copy", ".runbook");
        let mut command =
            place.command(&["retention", "purge", "purge.json", "--signature", &ann, "--signature", &ben]);
        disk.kill(&mut command, &place.path(".runbook"), at);
        let output = command.output().unwrap();
        if output.status.success() {
            assert!(at > 5, "{at}");
            break;
        }
        assert_eq!(output.status.signal(), Some(9), "{at}: {output:?}");
        // Whatever it was in the middle of: the ledger is whole, and nothing is missing without a record.
        let verdict = place.run(&["evidence", "verify", "last", "--json"]).code(11).json();
        assert_eq!(verdict["gaps"].as_array().unwrap().len(), 0, "{at}: {verdict}");
        let of_it = place.run(&["evidence", "verify", &old, "--json"]).json();
        assert!(matches!(of_it["code"].as_u64(), Some(11 | 13)), "{at}: {of_it}");
        on_record.insert(of_it["code"].as_u64().unwrap());
        purge(&place, "purge.json", &[&ann, &ben]).code(0);
        assert!(place.run(&["show", &old]).code(2).stderr.contains("RB0668"), "{at}");
        place.run(&["evidence", "verify", &old]).code(13);
        // Nothing of it is left, in no file of the state.
        let left = with(&place.path(".runbook"), "a-text-of-this-run-alone");
        assert_eq!(left, [""; 0], "{at}");
    }
    assert_eq!(Vec::from_iter(on_record), [11, 13]);
}
