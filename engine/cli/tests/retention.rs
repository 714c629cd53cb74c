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
