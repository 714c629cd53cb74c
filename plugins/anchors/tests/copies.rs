//! Copies elsewhere: a repository, a file on another disk, a collector of syslog.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runbook_anchors::{Address, File, FileReceipt, Git, GitReceipt, Syslog, SyslogReceipt, Tls};
use runbook_ports::Anchor;
use runbook_ports::anchor::{AnchorError, Receipt, Request};
use runbook_testkit::anchors::{Ledger, Pki, Rsyslog, Server};

async fn give(anchor: &dyn Anchor, ledger: &Ledger, size: u64, known: u64) -> Result<Receipt, AnchorError> {
    let head = ledger.head(size);
    let within = Duration::from_secs(30);
    anchor.anchor(Request { head: &head, known, history: ledger, now_ms: 1_700_000_000_000, within }).await
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").args(arguments).current_dir(folder).output().expect("git is here");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn each_head_is_a_commit_on_the_remote_and_a_rewritten_ledger_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    git(scratch.path(), &["init", "--quiet", "--bare", "remote.git"]);
    let remote = format!("file://{}/remote.git", scratch.path().display());
    let anchor = |name: &str| Git {
        name: name.into(),
        remote: remote.clone(),
        branch: "heads".into(),
        folder: scratch.path().join(name),
    };
    let ledger = Ledger::new(30, |_| 0);
    let (one, two) = (anchor("one"), anchor("two"));
    assert!(one.reach(Duration::from_secs(30)).await.unwrap().contains("has not this branch yet"));
    let first = give(&one, &ledger, 10, 0).await.unwrap();
    let receipt: GitReceipt = serde_json::from_slice(&first.bytes).unwrap();
    let there = scratch.path().join("remote.git");
    let read = |commit: &str| git(&there, &["cat-file", "blob", &format!("{commit}:{}", receipt.path)]);
    assert_eq!(read(&receipt.commit), ledger.head(10).note);
    // The same once more is the same commit; another controller goes on from there.
    let again: GitReceipt = serde_json::from_slice(&give(&one, &ledger, 10, 10).await.unwrap().bytes).unwrap();
    assert_eq!(again.commit, receipt.commit);
    give(&two, &ledger, 20, 10).await.unwrap();
    give(&one, &ledger, 30, 10).await.unwrap();
    assert_eq!(git(&there, &["rev-list", "--count", "heads"]).trim(), "3");
    assert_eq!(read("heads"), ledger.head(30).note);

    let fork = Ledger::new(40, |seq| u8::from(seq >= 29));
    let told = give(&one, &fork, 40, 30).await.unwrap_err();
    assert_eq!(told, AnchorError::OtherHead { size: 30, why: "its root is another one".into() });
    let told = give(&one, &ledger, 20, 30).await.unwrap_err();
    assert_eq!(told, AnchorError::OtherHead { size: 30, why: "this ledger's head is of 20".into() });
    assert_eq!(read("heads"), ledger.head(30).note, "nothing was overwritten");
}

#[tokio::test]
async fn a_repository_that_is_not_there_or_refuses_is_told_in_gits_words() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(5, |_| 0);
    let anchor = Git {
        name: "g".into(),
        remote: format!("file://{}/nowhere.git", scratch.path().display()),
        branch: "heads".into(),
        folder: scratch.path().join("own"),
    };
    let told = give(&anchor, &ledger, 5, 0).await.unwrap_err();
    assert!(matches!(&told, AnchorError::Unreachable(text) if text.contains("nowhere.git")), "{told:?}");
    git(scratch.path(), &["init", "--quiet", "--bare", "nowhere.git"]);
    let hook = scratch.path().join("nowhere.git/hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho closed for the night >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let told = give(&anchor, &ledger, 5, 0).await.unwrap_err();
    assert!(matches!(&told, AnchorError::Refused(text) if text.contains("pre-receive")), "{told:?}");
}

#[tokio::test]
async fn a_file_has_a_line_for_each_head_and_a_rewritten_ledger_is_told() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("heads");
    let anchor = File { name: "f".into(), path: path.clone() };
    let ledger = Ledger::new(30, |_| 0);
    give(&anchor, &ledger, 10, 0).await.unwrap();
    // A crash in the middle of a line, and another ledger's line.
    let text = std::fs::read_to_string(&path).unwrap();
    let other = text.replace("runbook-test", "runbook-other").replace("\"size\":10", "\"size\":99");
    std::fs::write(&path, format!("{text}{other}{}", &text[..40])).unwrap();
    let receipt = give(&anchor, &ledger, 20, 10).await.unwrap();
    let receipt: FileReceipt = serde_json::from_slice(&receipt.bytes).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let line: serde_json::Value =
        serde_json::from_str(text[usize::try_from(receipt.offset).unwrap()..].lines().next().unwrap()).unwrap();
    assert_eq!((line["size"].as_u64(), line["note"].as_str()), (Some(20), Some(ledger.head(20).note.as_str())));
    give(&anchor, &ledger, 20, 20).await.unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "what is there is not written twice");

    let fork = Ledger::new(30, |seq| u8::from(seq >= 19));
    let told = give(&anchor, &fork, 30, 20).await.unwrap_err();
    assert_eq!(told, AnchorError::OtherHead { size: 20, why: "its root is another one".into() });
    let told = give(&anchor, &ledger, 15, 0).await.unwrap_err();
    assert_eq!(told, AnchorError::OtherHead { size: 20, why: "this ledger's head is of 15".into() });

    // The disk is not mounted: nothing is written in its place.
    std::fs::remove_file(&path).unwrap();
    let told = give(&anchor, &ledger, 30, 20).await.unwrap_err();
    assert!(matches!(&told, AnchorError::Refused(text) if text.contains("is it mounted?")), "{told:?}");
    assert!(!path.exists());
    let nowhere = File { name: "f".into(), path: scratch.path().join("no/such/folder") };
    assert!(matches!(give(&nowhere, &ledger, 30, 0).await, Err(AnchorError::Unreachable(_))));
}

#[tokio::test]
async fn a_collector_gets_each_head_as_one_message_over_tls() {
    let pki = Pki::new();
    pki.certify_server("siem");
    pki.certify("controller", "extendedKeyUsage=clientAuth", 30);
    let ledger = Ledger::new(10, |_| 0);
    let anchor = |port: u16, tls: Tls| Syslog {
        name: "siem".into(),
        address: Address::Tls("127.0.0.1".into(), port),
        tls,
        hostname: "fs01".into(),
    };
    let with = |ca: &Pki, client: bool| Tls {
        ca: Some(ca.path("ca.pem")),
        client: client.then(|| (pki.path("controller.pem"), pki.path("controller.key"))),
    };
    let collector = Rsyslog::start(&pki, "siem", false);
    let receipt = give(&anchor(collector.port, with(&pki, false)), &ledger, 10, 0).await.unwrap();
    let receipt: SyslogReceipt = serde_json::from_slice(&receipt.bytes).unwrap();
    let message = collector.message();
    assert_eq!(message, receipt.message, "what was sent is what is kept");
    assert!(message.starts_with("<109>1 2023-11-14T22:13:20.000Z fs01 runbook "), "{message}");
    let note = message.split("note=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(String::from_utf8(STANDARD.decode(note).unwrap()).unwrap(), ledger.head(10).note);
    assert!(receipt.peer_certificate_sha256.is_some() && !receipt.acknowledged);

    let stranger = Pki::new();
    let told = give(&anchor(collector.port, with(&stranger, false)), &ledger, 10, 0).await.unwrap_err();
    assert!(matches!(&told, AnchorError::Refused(text) if text.contains("certificate")), "{told:?}");

    // One that wants to know who we are.
    let strict = Rsyslog::start(&pki, "siem", true);
    give(&anchor(strict.port, with(&pki, true)), &ledger, 10, 0).await.unwrap();
    assert!(strict.message().contains("size=\"10\""));
    let told = give(&anchor(strict.port, with(&pki, false)), &ledger, 10, 0).await;
    assert!(matches!(told, Err(AnchorError::Unreachable(_) | AnchorError::Refused(_))), "{told:?}");
}

#[tokio::test]
async fn a_local_socket_gets_the_message_as_a_datagram() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    let anchor =
        Syslog { name: "s".into(), address: Address::Unix(path), tls: Tls::default(), hostname: "fs01".into() };
    give(&anchor, &Ledger::new(4, |_| 0), 4, 0).await.unwrap();
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).unwrap();
    assert!(buffer[..length].starts_with(b"<109>1 "));
}

#[tokio::test]
async fn a_collector_that_is_not_there_is_told() {
    let url = Server::nobody();
    let port = url.rsplit(':').next().unwrap().parse().unwrap();
    let address = Address::Tcp("127.0.0.1".into(), port);
    let anchor = Syslog { name: "s".into(), address, tls: Tls::default(), hostname: "h".into() };
    assert!(matches!(give(&anchor, &Ledger::new(4, |_| 0), 4, 0).await, Err(AnchorError::Unreachable(_))));
    assert!(anchor.reach(Duration::from_secs(5)).await.is_err());
}
