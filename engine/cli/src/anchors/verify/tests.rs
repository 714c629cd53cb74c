//! Each receipt is a real one: of openssl's authority, or signed by keys of the test.

use runbook_ledger::FileKey;
use runbook_ports::anchor::SignedHead;
use runbook_testkit::anchors::{Ledger as Records, Pki, Tsa};

use super::*;

/// The run's last record is the 8th of 12.
const COVERS: u64 = 8;
const SIZE: u64 = 12;

fn records() -> Records {
    Records::new(SIZE, |_| 0)
}

fn held(kind: &str, head: &SignedHead, receipt: Vec<u8>) -> Held {
    Held {
        anchor: "a".into(),
        kind: kind.into(),
        size: head.size,
        root: head.root,
        at: "2026-01-01T00:00:00.000Z".into(),
        receipt,
        head: Some(head.note.clone()),
        place: Place::record(20),
    }
}

fn checked(held: &[Held], trust: &Trust) -> Findings {
    let ledger = records();
    let keys = KeyChain::new(ledger.key.clone());
    let root = |size: u64| (size <= SIZE).then(|| ledger.head(size).root);
    check(&Ledger { keys: &keys, size: SIZE, covers: COVERS, root: &root, whole: true }, held, trust)
}

fn codes(findings: &Findings) -> Vec<Code> {
    findings.wrong.iter().map(|(code, _, _)| *code).collect()
}

fn witness(seed: u8) -> (FileKey, WitnessKey) {
    let secret = FileKey::from_seed([seed; 32]);
    let key = WitnessKey::new("w", &secret.public_key()).unwrap();
    (secret, key)
}

fn cosigned(head: &SignedHead, seed: u8) -> Vec<u8> {
    let (secret, key) = witness(seed);
    let text = Note::parse(&head.note).unwrap().text().to_owned();
    let line = cosignature::sign(&text, 1_700_000_000, &key, |bytes| Ok(secret.sign(bytes))).unwrap();
    format!("{}{line}", head.note).into_bytes()
}

fn pinned(seeds: &[u8]) -> Trust {
    Trust { witnesses: seeds.iter().map(|seed| witness(*seed).1).collect(), ..Trust::default() }
}

#[test]
fn a_pinned_witness_anchors_a_run_that_its_head_covers_and_no_other() {
    let ledger = records();
    let of = |size: u64| held("witness", &ledger.head(size), cosigned(&ledger.head(size), 1));
    let found = checked(&[of(8)], &pinned(&[1]));
    assert!(found.anchored && found.wrong.is_empty(), "{found:?}");
    assert!(found.held[0].contains("the witness w (pinned) saw this run at 2023-11-14T22:13:20.000Z"), "{found:?}");
    let found = checked(&[of(7)], &pinned(&[1]));
    assert!(!found.anchored && found.wrong.is_empty(), "{found:?}");
    assert!(found.held[0].contains("an earlier part of the ledger"), "{found:?}");
    assert!(found.unchecked.iter().any(|text| text.contains("nobody outside")), "{found:?}");
    assert!(checked(&[of(7), of(12)], &pinned(&[1])).anchored);
}

#[test]
fn a_witness_that_nobody_pinned_or_only_the_project_names_anchors_nothing() {
    let head = records().head(9);
    let receipt = held("witness", &head, cosigned(&head, 1));
    for trust in [Trust::default(), pinned(&[2])] {
        let found = checked(std::slice::from_ref(&receipt), &trust);
        assert!(!found.anchored && found.wrong.is_empty() && found.held.is_empty(), "{found:?}");
        assert!(found.unchecked[0].contains("pin the witness's key"), "{found:?}");
    }
    let own = OwnTrust { witness: Some(witness(1).1), tsa_ca: None };
    let found = checked(&[receipt], &Trust { own: BTreeMap::from([("a".into(), own)]), ..Trust::default() });
    assert!(!found.anchored && found.held[0].contains("checked with this project's own settings"), "{found:?}");
}

#[test]
fn a_false_cosignature_is_tampering() {
    let head = records().head(9);
    let mut receipt = String::from_utf8(cosigned(&head, 1)).unwrap();
    // The last signature's last byte but one.
    let at = receipt.len() - 6;
    let other = if receipt.as_bytes()[at] == b'A' { "B" } else { "A" };
    receipt.replace_range(at..=at, other);
    let found = checked(&[held("witness", &head, receipt.into_bytes())], &pinned(&[1]));
    assert_eq!(codes(&found), [Code::Tampered], "{found:?}");
    assert!(!found.anchored);
}

#[test]
fn a_receipt_of_another_history_or_of_a_longer_ledger_says_forked_whatever_its_kind() {
    let fork = Records::new(20, |seq| u8::from(seq >= 6));
    let longer = Records::new(20, |_| 0);
    for (head, words) in
        [(fork.head(9), "another history"), (longer.head(13), "there are 12"), (fork.head(20), "there are 12")]
    {
        let note = head.note.clone();
        let git = GitReceipt {
            schema: "anchor-git/v1".into(),
            remote: "r".into(),
            branch: "b".into(),
            path: "p".into(),
            commit: "c".into(),
            note,
        };
        for receipt in [
            held("witness", &head, cosigned(&head, 1)),
            held("git", &head, serde_json::to_vec(&git).unwrap()),
            held("rfc3161", &head, Vec::new()),
        ] {
            let found = checked(std::slice::from_ref(&receipt), &pinned(&[1]));
            assert_eq!(codes(&found), [Code::Forked], "{} {found:?}", receipt.kind);
            assert!(found.wrong[0].2.contains(words), "{found:?}");
            assert_eq!(found.wrong[0].1, Place::record(20));
            assert!(!found.anchored);
        }
    }
    // The head before the fork is the same.
    let early = fork.head(6);
    assert!(checked(&[held("witness", &early, cosigned(&early, 1))], &pinned(&[1])).wrong.is_empty());
}

#[test]
fn a_receipt_of_another_head_than_its_notice_or_by_another_ledger_is_tampering() {
    let ledger = records();
    let (nine, ten) = (ledger.head(9), ledger.head(10));
    let found = checked(&[held("witness", &nine, cosigned(&ten, 1))], &pinned(&[1]));
    assert_eq!(codes(&found), [Code::Tampered], "{found:?}");
    let stranger = FileKey::from_seed([9; 32]);
    let key = VerifierKey::new("runbook-test", &stranger.public_key()).unwrap();
    let head = Checkpoint { origin: nine.origin.clone(), size: 9, root: nine.root };
    let note = head.sign(None, &key, |bytes| Ok(stranger.sign(bytes))).unwrap();
    let forged = SignedHead { note, ..nine };
    let found = checked(&[held("witness", &forged, cosigned(&forged, 1))], &pinned(&[1]));
    assert_eq!(codes(&found), [Code::Tampered], "{found:?}");
    for kind in ["witness", "git", "file", "syslog"] {
        let found = checked(&[held(kind, &ten, b"\xff\0not a receipt".to_vec())], &pinned(&[1]));
        assert_eq!(codes(&found), [Code::Tampered], "{kind} {found:?}");
    }
}

#[test]
fn a_time_stamp_counts_with_an_authority_that_the_verifier_brought() {
    let pki = Pki::new();
    let tsa = Tsa::new(&pki, "tsa", 30);
    let head = records().head(9);
    let stamp = tsa.reply(&Tsa::query(head.note.as_bytes(), "-sha256"));
    let receipt = held("rfc3161", &head, stamp);
    let with = |ca: &Pki| Trust { tsa_ca: Some(ca.path("ca.pem")), ..Trust::default() };
    let found = checked(std::slice::from_ref(&receipt), &with(&pki));
    assert!(found.anchored && found.wrong.is_empty(), "{found:?}");

    let found = checked(std::slice::from_ref(&receipt), &with(&Pki::new()));
    assert!(!found.anchored && found.unchecked[0].contains("not verified with"), "{found:?}");
    assert!(found.unchecked[0].contains("certificate"), "{found:?}");
    let found = checked(std::slice::from_ref(&receipt), &Trust::default());
    assert!(!found.anchored && found.unchecked[0].contains("--tsa-ca"), "{found:?}");

    let own = OwnTrust { witness: None, tsa_ca: Some(pki.path("ca.pem")) };
    let found = checked(&[receipt], &Trust { own: BTreeMap::from([("a".into(), own)]), ..Trust::default() });
    assert!(!found.anchored && found.held[0].contains("this project's own settings"), "{found:?}");
}

#[test]
fn a_time_stamp_of_another_head_or_over_sha1_is_tampering_and_an_expired_authority_is_not_believed() {
    let pki = Pki::new();
    let trust = Trust { tsa_ca: Some(pki.path("ca.pem")), ..Trust::default() };
    let tsa = Tsa::new(&pki, "tsa", 30);
    let head = records().head(9);
    let other = records().head(10);
    let stamp = |tsa: &Tsa, bytes: &str, digest: &str| tsa.reply(&Tsa::query(bytes.as_bytes(), digest));
    let found = checked(&[held("rfc3161", &head, stamp(&tsa, &other.note, "-sha256"))], &trust);
    assert_eq!(codes(&found), [Code::Tampered], "{found:?}");
    let found = checked(&[held("rfc3161", &head, stamp(&tsa, &head.note, "-sha1"))], &trust);
    assert_eq!(codes(&found), [Code::Tampered], "{found:?}");
    assert!(found.wrong[0].2.contains("SHA-1"), "{found:?}");

    let expired = Tsa::new(&pki, "expired", -1);
    let found = checked(&[held("rfc3161", &head, stamp(&expired, &head.note, "-sha256"))], &trust);
    assert!(!found.anchored && found.wrong.is_empty(), "{found:?}");
    assert!(found.unchecked[0].contains("certificate has expired"), "{found:?}");
}

#[test]
fn a_token_whose_signature_was_changed_is_not_believed() {
    let pki = Pki::new();
    let trust = Trust { tsa_ca: Some(pki.path("ca.pem")), ..Trust::default() };
    let tsa = Tsa::new(&pki, "tsa", 30);
    let head = records().head(9);
    let mut stamp = tsa.reply(&Tsa::query(head.note.as_bytes(), "-sha256"));
    *stamp.last_mut().unwrap() ^= 1;
    let found = checked(&[held("rfc3161", &head, stamp)], &trust);
    assert!(!found.anchored && found.unchecked[0].contains("not verified with"), "{found:?}");
}

#[test]
fn pinned_keys_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let (both, empty, wrong) = (folder.path().join("both"), folder.path().join("empty"), folder.path().join("wrong"));
    let ledger = records().key.clone();
    std::fs::write(&both, format!("# from the safe\n{ledger}\n\n{}\n", witness(1).1)).unwrap();
    let read = pins(&[both.clone(), both.clone()]).unwrap();
    assert_eq!((read.ledgers, read.witnesses), (vec![ledger.clone(), ledger], vec![witness(1).1, witness(1).1]));
    std::fs::write(&empty, "# nothing\n").unwrap();
    std::fs::write(&wrong, "ssh-ed25519 AAAA\n").unwrap();
    for file in [empty, wrong, folder.path().join("missing")] {
        assert_eq!(pins(&[both.clone(), file]).unwrap_err().code, "RB0606");
    }
}

#[test]
fn a_receipt_that_is_gone_is_missing_and_one_that_was_changed_is_tampering() {
    let digest = Sha256::of(b"receipt");
    let held = super::receipts::Held {
        kind: "file".into(),
        size: 8,
        root: digest,
        receipt: digest,
        at: String::new(),
        seq: 9,
    };
    for (error, code, checked) in [
        (StoreError::Missing("x".into()), Code::Incomplete, Checked::NotChecked),
        (StoreError::Corrupt("x".into()), Code::Tampered, Checked::Wrong),
        (StoreError::Failed("x".into()), Code::NotChecked, Checked::NotChecked),
    ] {
        let mut findings = Findings::default();
        findings.lost("a", &held, &error);
        let mut verdict = Verdict::new(runbook_report::verdict::Subject::Run, "r");
        (verdict.pinned, verdict.anchored) = (true, true);
        findings.tell(&mut verdict);
        assert_eq!((verdict.code, verdict.receipts[0].checked), (code.number(), checked), "{error}");
    }
}
