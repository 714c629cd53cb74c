//! Bundles are judged: whole ones, tampered ones, and ones that are none.

mod made;
#[allow(dead_code)]
mod sample;

use std::path::Path;

use made::{Files, Made};
use runbook_ledger::FileKey;
use runbook_ledger::redaction::{Redacter, Withheld};
use runbook_model::Sha256;
use runbook_report::bundle::verify::{Options, verify};
use runbook_report::bundle::{RedactedOutput, redactions};
use runbook_report::verdict::Verdict;
use runbook_report::verdict::trust::Trust;

fn judge(files: &Files) -> Verdict {
    judge_with(files, &Options::default())
}

/// The same bundle as a folder and as an archive must be judged the same.
fn judge_with(files: &Files, options: &Options) -> Verdict {
    let place = tempfile::tempdir().unwrap();
    let (folder, archive) = (place.path().join("bundle"), place.path().join("bundle.tar.zst"));
    made::write_folder(&folder, files);
    made::write_archive(&archive, files);
    let (of_folder, of_archive) = (verify(&folder, options), verify(&archive, options));
    let shown = |verdict: &Verdict| serde_json::to_string_pretty(verdict).unwrap();
    assert_eq!(shown(&of_folder), shown(&of_archive));
    of_folder
}

fn pinned(made: &Made) -> Options {
    Options { trust: Trust { keys: vec![made.key.clone()], ..Trust::default() }, ..Options::default() }
}

/// Changes a bundle as somebody would who can do sums, and has not the key: the list is written anew, its signature stays.
fn listed_anew(files: &mut Files) {
    let sums: String = files
        .iter()
        .filter(|(name, _)| !name.starts_with("SHA256SUMS"))
        .map(|(name, bytes)| format!("{}  {name}\n", Sha256::of(bytes)))
        .collect();
    files.insert("SHA256SUMS".into(), sums.into_bytes());
}

#[track_caller]
fn expect(verdict: &Verdict, code: u8, said: &str) {
    let all = verdict.text(runbook_report::Palette::Plain);
    assert_eq!(verdict.code, code, "{all}");
    assert!(all.contains(said), "{said:?} is not said:\n{all}");
}

#[test]
fn a_whole_bundle_verifies_and_says_what_was_not_checked() {
    let made = Made::new(2, 3);
    let files = made.bundle();
    expect(&judge(&files), 11, "give its public half with --pin");
    let verdict = judge_with(&files, &pinned(&made));
    expect(&verdict, 10, "SHA256SUMS is signed by the ledger's key");
    assert_eq!(verdict.run_id, made::run().as_str());
    assert!(verdict.first_bad.is_none() && verdict.problems.is_empty() && verdict.gaps.is_empty());
    assert!(verdict.not_checked.iter().any(|what| what.contains("anchor")));
    assert_eq!(verdict.size, made.ledger.len() as u64);
    let other = Made { secret: FileKey::from_seed([8; 32]), ..Made::new(1, 1) };
    let key = runbook_ledger::VerifierKey::new(made::ORIGIN, &other.secret.public_key()).unwrap();
    let trust = Trust { keys: vec![key], ..Trust::default() };
    expect(&judge_with(&files, &Options { trust, ..Options::default() }), 22, "and pinned is");
}

#[test]
fn a_ledger_of_several_tiles_verifies() {
    let made = Made::new(30, 6);
    assert!(made.ledger.len() > 600);
    expect(&judge_with(&made.bundle(), &pinned(&made)), 10, "tiles have the root that was signed");
}

#[test]
fn any_changed_file_is_named_whether_the_list_is_written_anew_or_not() {
    let made = Made::new(1, 2);
    let whole = made.bundle();
    for name in whole.keys() {
        let mut files = whole.clone();
        let bytes = files.get_mut(name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let verdict = judge_with(&files, &pinned(&made));
        assert!(matches!(verdict.code, 20..=22), "{name}: {}", verdict.code);
        if !name.starts_with("SHA256SUMS") {
            assert_eq!(verdict.first_bad.unwrap().file.as_deref(), Some(name.as_str()));
            listed_anew(&mut files);
            let verdict = judge_with(&files, &pinned(&made));
            assert!(matches!(verdict.code, 20..=22), "{name} and the list: {}", verdict.code);
        }
    }
}

#[test]
fn a_removed_or_added_file_is_named_although_sha256sum_would_pass_over_an_added_one() {
    let made = Made::new(1, 1);
    let whole = made.bundle();
    for name in whole.keys().filter(|name| !name.starts_with("SHA256SUMS")) {
        let mut files = whole.clone();
        files.remove(name);
        expect(&judge(&files), 20, &format!("{name} is missing"));
    }
    let mut files = whole;
    files.insert("records/extra.txt".into(), b"x".to_vec());
    expect(&judge(&files), 20, "records/extra.txt is not in SHA256SUMS");
}

#[test]
fn names_that_lead_elsewhere_and_files_that_are_none_are_refused_before_anything_is_read() {
    let made = Made::new(1, 1);
    let files = made.bundle();
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("bundle.tar.zst");
    let judge = |change: &dyn Fn(&mut tar::Builder<Vec<u8>>)| {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in &files {
            made::append(&mut builder, name, bytes);
        }
        change(&mut builder);
        std::fs::write(&path, made::packed(&builder.into_inner().unwrap())).unwrap();
        verify(&path, &Options::default())
    };
    expect(&judge(&|_| {}), 11, "those in SHA256SUMS");
    let raw = |builder: &mut tar::Builder<Vec<u8>>, name: &[u8], kind: tar::EntryType, link: &str| {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_size(0);
        header.set_entry_type(kind);
        if !link.is_empty() {
            header.set_link_name(link).unwrap();
        }
        header.set_cksum();
        builder.append(&header, std::io::empty()).unwrap();
    };
    let file = tar::EntryType::Regular;
    for (name, said) in [
        (b"../../etc/cron.d/x".as_slice(), "leads out"),
        (b"/etc/passwd", "leads out"),
        (b"records/../x", "leads out"),
        ("r\u{e9}cords".as_bytes(), "printable ASCII"),
        (b"a\\b", "printable ASCII"),
        (b"README.TXT", "upper and lower case"),
        (b"RECORDS/9.json", "upper and lower case"),
        (b"README.txt", "the same name"),
        (b"records", "a file and a folder"),
        (b"README.txt/x", "a file and a folder"),
    ] {
        expect(&judge(&|builder| raw(builder, name, file, "")), 20, said);
    }
    for kind in [
        tar::EntryType::Symlink,
        tar::EntryType::Link,
        tar::EntryType::Char,
        tar::EntryType::Block,
        tar::EntryType::Fifo,
        tar::EntryType::GNUSparse,
    ] {
        let verdict = judge(&|builder| raw(builder, b"x", kind, "README.txt"));
        expect(&verdict, if kind == tar::EntryType::GNUSparse { verdict.code } else { 20 }, "");
        assert!(verdict.code >= 20, "{kind:?}");
    }
    let long = |builder: &mut tar::Builder<Vec<u8>>| made::append(builder, "records/9999.json", &vec![b' '; 70_000]);
    expect(&judge(&long), 20, "at most 65535");
}

#[cfg(unix)]
#[test]
fn case_26_of_a_bundle_an_output_that_was_cut_off_is_a_gap() {
    let made = Made::changed(1, 1, |report| {
        report.stdout.truncated = true;
        report.stdout.cut_off_by = Some("a service".into());
    });
    let verdict = judge_with(&made.bundle(), &pinned(&made));
    assert_eq!((verdict.code, verdict.verdict), (12, "incomplete"), "{verdict:?}");
    assert_eq!(verdict.gaps.len(), 1, "{:?}", verdict.gaps);
    assert!(verdict.gaps[0].what.contains("stdout of attempt 1 was cut off by a service"), "{:?}", verdict.gaps);
}

#[test]
fn one_content_under_two_roots_is_named_where_it_is_named_again() {
    // The second step's record names the first one's output as its own, with a root of its own.
    let first = std::cell::RefCell::new(None);
    let made = Made::changed(1, 2, |report| {
        let mut first = first.borrow_mut();
        match first.as_ref() {
            None => *first = report.stdout.blob,
            Some(_) => report.stdout.blob = *first,
        }
    });
    let verdict = judge_with(&made.bundle(), &pinned(&made));
    expect(&verdict, 20, "has another root than the same content in record");
    let place = tempfile::tempdir().unwrap();
    made::write_folder(&place.path().join("bundle"), &made.bundle());
    let (code, said) = judge_with_python(&place.path().join("bundle"), &made);
    assert!(code == 20 && said.contains("has another root than the same content"), "{code}: {said}");
}

#[test]
fn a_link_in_a_folder_is_refused() {
    let made = Made::new(1, 1);
    for (link, to) in [("x", "/etc/passwd"), ("records/x.json", "0.json"), ("blobs/x", "..")] {
        let place = tempfile::tempdir().unwrap();
        made::write_folder(place.path(), &made.bundle());
        std::os::unix::fs::symlink(to, place.path().join(link)).unwrap();
        expect(&verify(place.path(), &Options::default()), 20, "neither a plain file nor a folder");
    }
    let place = tempfile::tempdir().unwrap();
    made::write_folder(place.path(), &made.bundle());
    let socket = std::os::unix::net::UnixListener::bind(place.path().join("s")).unwrap();
    expect(&verify(place.path(), &Options::default()), 20, "neither a plain file nor a folder");
    drop(socket);
}

#[test]
fn an_archive_that_is_cut_off_or_goes_on_or_would_never_end_is_not_believed() {
    let made = Made::new(1, 1);
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("bundle.tar.zst");
    made::write_archive(&path, &made.bundle());
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 3, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let verdict = verify(&path, &Options::default());
        assert!(matches!(verdict.code, 20 | 30), "{length}: {}", verdict.code);
    }
    // A second archive behind the first: other readers might read that one.
    let mut twice = whole.clone();
    twice.extend(&whole);
    std::fs::write(&path, &twice).unwrap();
    expect(&verify(&path, &Options::default()), 20, "after the end of the archive");
    let options = Options { bytes_max: 10_000, ..Options::default() };
    std::fs::write(&path, &whole).unwrap();
    expect(&verify(&path, &options), 30, "more than 10000 bytes");
    expect(&verify(&place.path().join("nothing"), &Options::default()), 30, "No such file");
    std::fs::write(&path, b"no archive at all, but long enough to be read as one").unwrap();
    assert_eq!(verify(&path, &Options::default()).code, 30);
}

#[test]
fn an_archive_that_unpacks_to_far_more_than_it_is_ends_early() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("bomb.tar.zst");
    // A blob of 8 GiB of nothing, in some kilobytes.
    let length: u64 = 8 << 30;
    let mut header = tar::Header::new_gnu();
    header.set_size(length);
    header.set_path(format!("blobs/sha256/00/{}", "0".repeat(64))).unwrap();
    header.set_cksum();
    let mut encoder = zstd::stream::write::Encoder::new(std::fs::File::create(&path).unwrap(), 1).unwrap();
    std::io::Write::write_all(&mut encoder, header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 200 << 20), &mut encoder).unwrap();
    encoder.finish().unwrap();
    assert!(std::fs::metadata(&path).unwrap().len() < 30_000);
    expect(&verify(&path, &Options::default()), 30, "far more than its size as an archive");
}

#[test]
fn a_head_of_another_history_is_a_fork_and_a_longer_one_is_said_not_to_be_checked() {
    let made = Made::new(1, 3);
    let files = made.bundle();
    let against = |note: String| {
        let trust = Trust { against: vec![("auditor.note".into(), note)], ..Trust::default() };
        judge_with(&files, &Options { trust, ..Options::default() })
    };
    for size in [1, 4, made.ledger.len()] {
        expect(&against(made.head(size)), 11, "of the same history");
    }
    // The same key signed another ledger: one to each auditor.
    let other = Made::new(1, 4);
    expect(&against(other.head(4)), 21, "of another history");
    expect(&against(other.head(made.ledger.len())), 21, "of another history");
    expect(&against(other.head(other.ledger.len())), 11, "is of the same history: the bundle's is of");
    let mut forged = Made::new(1, 3);
    forged.secret = FileKey::from_seed([9; 32]);
    forged.key = runbook_ledger::VerifierKey::new(made::ORIGIN, &forged.secret.public_key()).unwrap();
    expect(&against(forged.head(4)), 22, "not signed by");
}

/// The ledger's owner can sign anything: what such a bundle still cannot hide.
#[test]
fn a_bundle_signed_anew_with_the_ledgers_key_is_still_held_against_its_own_tree() {
    let made = Made::new(2, 2);
    let change = |change: &dyn Fn(&mut Files)| {
        let mut files = made.files();
        change(&mut files);
        made.seal(&mut files);
        judge_with(&files, &pinned(&made))
    };
    let record = |files: &Files, nth: usize| -> String {
        let mut places: Vec<u64> = files
            .keys()
            .filter_map(|name| name.strip_prefix("records/")?.strip_suffix(".json")?.parse().ok())
            .collect();
        places.sort_unstable();
        format!("records/{}.json", places[nth])
    };
    let flipped = change(&|files| {
        let text = String::from_utf8(files[&record(files, 4)].clone()).unwrap();
        files.insert(record(files, 4), text.replacen("\"mono_ms\":", "\"mono_ms\":1", 1).into_bytes());
    });
    expect(&flipped, 20, "its bytes are other ones");
    assert_eq!(flipped.first_bad.unwrap().file, Some(record(&made.files(), 4)));
    let written_anew = change(&|files| {
        let name = record(files, 3);
        let value: serde_json::Value = serde_json::from_slice(&files[&name]).unwrap();
        files.insert(name, serde_json::to_vec_pretty(&value).unwrap());
    });
    expect(&written_anew, 20, "one line");
    let policy = change(&|files| drop(files.insert("policy/policy.yaml".into(), made::POLICY.into())));
    expect(&policy, 10, "NO OUTSIDE ANCHOR");
    for (name, content) in
        [("policy/policy.yaml", "rules: []\n"), ("policy/people.yaml", ""), ("approvals/1.json", "{}\n")]
    {
        let invented = change(&|files| drop(files.insert(name.into(), content.into())));
        expect(&invented, 20, "is not what the run's opening names");
    }
    let swapped = change(&|files| {
        let (a, b) = (files[&record(files, 3)].clone(), files[&record(files, 4)].clone());
        let (first, second) = (record(files, 3), record(files, 4));
        files.insert(first, b);
        files.insert(second, a);
    });
    expect(&swapped, 20, "it says that it is record");
    let removed = change(&|files| {
        let name = record(files, 5);
        files.remove(&name);
    });
    expect(&removed, 20, "was due");
    let cut = change(&|files| {
        let last = record(files, files.keys().filter(|name| name.starts_with("records/")).count() - 1);
        files.remove(&last);
    });
    expect(&cut, 20, "run.json says outcome");
    let blob_gone = change(&|files| {
        let name = files.keys().find(|name| name.starts_with("blobs/")).unwrap().clone();
        files.remove(&name);
    });
    expect(&blob_gone, 12, "no record of its removal");
    let blob_renamed = change(&|files| {
        let name = files.keys().find(|name| name.starts_with("blobs/")).unwrap().clone();
        let bytes = files.remove(&name).unwrap();
        let last = if name.ends_with('0') { "1" } else { "0" };
        files.insert(format!("{}{last}", &name[..name.len() - 1]), bytes);
    });
    expect(&blob_renamed, 20, "the digest that it is named by");
    let tile = change(&|files| {
        let name = files.keys().find(|name| name.starts_with("ledger/tile/0/")).unwrap().clone();
        files.get_mut(&name).unwrap()[40] ^= 1;
    });
    expect(&tile, 20, "a record of the ledger was changed");
    let more_tiles = change(&|files| {
        files.insert("ledger/tile/0/007".into(), vec![0; 8192]);
    });
    expect(&more_tiles, 20, "no tiles of this tree");
    let proof = change(&|files| {
        let from = files["ledger/proofs/1.tlog-proof"].clone();
        files.insert("ledger/proofs/2.tlog-proof".into(), from);
    });
    expect(&proof, 20, "it is of record 1");
    let plan = change(&|files| {
        files.insert("plan/plan.json".into(), b"{}".to_vec());
    });
    expect(&plan, 20, "missing or not as it was");
    let said = change(&|files| {
        let text = String::from_utf8(files["run.json"].clone()).unwrap().replace("succeeded", "failed");
        files.insert("run.json".into(), text.into_bytes());
    });
    expect(&said, 20, "run.json says outcome");
    let head = change(&|files| {
        files.insert("ledger/checkpoint".into(), made.head(3).into_bytes());
    });
    expect(&head, 20, "");
}

/// A ledger whose first output is withheld in part: of its three lines the one with the number.
struct Redacted {
    made: Made,
    /// The outputs on record.
    outputs: Vec<runbook_model::OutputRef>,
}

impl Redacted {
    fn new(on_record: bool) -> Self {
        use runbook_model::event::Person;
        use runbook_model::{Event, Notice};
        let mut made = Made::new(1, 2);
        let mut outputs = Vec::new();
        let mut first = None;
        for sealed in &made.ledger {
            if let Event::AttemptEnded { attempt, report, .. } =
                runbook_ledger::record::parse(&sealed.bytes).unwrap().event
            {
                outputs.push(report.stdout);
                first.get_or_insert(attempt);
            }
        }
        if on_record {
            made.notice(Notice::OutputsRedacted {
                attempt: first.unwrap(),
                stream: "stdout".into(),
                root: outputs[0].root.unwrap(),
                ranges: vec![(1, 1)],
                rule: "by hand".into(),
                reason: "a number".into(),
                by: Person { name: "ann".into(), uid: 1000, from: None },
            });
        }
        Self { made, outputs }
    }

    /// The redacted form of an output.
    fn edition(&self, output: usize, withheld: &Withheld) -> String {
        let output = &self.outputs[output];
        let mut text = String::new();
        let mut redacter = Redacter::new(output, withheld, |piece| text.push_str(piece)).unwrap();
        redacter.push(&self.made.blobs[&output.blob.unwrap()], |piece| text.push_str(piece)).unwrap();
        redacter.finish(|piece| text.push_str(piece)).unwrap();
        text
    }

    /// The bundle with `text` in the place of the first output.
    fn files(&self, text: &str, withheld: &[(u64, u64)]) -> Files {
        let mut files = self.made.files();
        let (root, blob) = (self.outputs[0].root.unwrap(), self.outputs[0].blob.unwrap().to_string());
        files.remove(&format!("blobs/sha256/{}/{blob}", &blob[..2])).unwrap();
        files.insert(format!("outputs-redacted/{root}.json"), text.as_bytes().to_vec());
        let listed = RedactedOutput {
            host: "web0".into(),
            step: "step0".into(),
            attempt: 1,
            stream: "stdout".into(),
            root,
            segments: self.outputs[0].segments,
            withheld: withheld.to_vec(),
            said: Vec::new(),
        };
        files.insert("redactions.json".into(), redactions(&made::run(), vec![listed]));
        self.made.seal(&mut files);
        files
    }
}

#[test]
fn a_redacted_edition_is_held_to_the_roots_on_record() {
    let redacted = Redacted::new(true);
    let options = || pinned(&redacted.made);
    let withheld = Withheld::new([(1, 1)]);
    let text = redacted.edition(0, &withheld);
    let whole = redacted.files(&text, &[(1, 1)]);
    assert!(!whole.iter().any(|(name, bytes)| {
        name.starts_with("outputs-redacted/") && bytes.windows(8).any(|window| window == b"PIN 4711")
    }));
    expect(&judge_with(&whole, &options()), 13, "withheld in part");
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from));
        judge_with(&redacted.files(&text.replace(from, to), &[(1, 1)]), &options())
    };
    expect(&changed("done", "gone"), 20, "outputs-redacted/");
    expect(&changed(",\"withheld\":true", ""), 20, "outputs-redacted/");
    let other = redacted.edition(1, &withheld);
    expect(&judge_with(&redacted.files(&other, &[(1, 1)]), &options()), 20, "outputs-redacted/");
    // The list of what is withheld is what people look at.
    for listed in [&[][..], &[(0, 1)], &[(2, 2)]] {
        expect(&judge_with(&redacted.files(&text, listed), &options()), 20, "redactions.json does not say");
    }
    let mut files = whole.clone();
    files.remove("redactions.json");
    redacted.made.seal(&mut files);
    expect(&judge_with(&files, &options()), 20, "redactions.json does not say");
    let mut files = whole.clone();
    files.insert(format!("outputs-redacted/{}.json", redacted.outputs[1].root.unwrap()), other.into_bytes());
    redacted.made.seal(&mut files);
    expect(&judge_with(&files, &options()), 20, "is of no output that is withheld");
}

#[test]
fn more_is_withheld_than_any_record_says() {
    for (on_record, ranges) in [(false, &[(1, 1)][..]), (true, &[(0, 1)]), (true, &[(2, 2)])] {
        let redacted = Redacted::new(on_record);
        let text = redacted.edition(0, &Withheld::new(ranges.iter().copied()));
        let verdict = judge_with(&redacted.files(&text, ranges), &pinned(&redacted.made));
        expect(&verdict, 12, "more of it is withheld than any record says");
    }
}

/// What `verify.py` in the bundle says.
fn judge_with_python(folder: &Path, made: &Made) -> (i32, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bundle/verify.py");
    let pin = folder.with_extension("pin");
    std::fs::write(&pin, format!("{}\n", made.key)).unwrap();
    let done = std::process::Command::new("python3").arg(script).arg(folder).arg("--pin").arg(pin).output().unwrap();
    assert!(done.stderr.is_empty(), "{}", String::from_utf8_lossy(&done.stderr));
    (done.status.code().unwrap(), String::from_utf8_lossy(&done.stdout).into_owned())
}

#[test]
fn the_verifier_in_python_says_the_same() {
    let made = Made::new(2, 2);
    let resealed = |change: &dyn Fn(&mut Files)| {
        let mut files = made.files();
        change(&mut files);
        made.seal(&mut files);
        files
    };
    let blob = |files: &Files| files.keys().find(|name| name.starts_with("blobs/")).unwrap().clone();
    let tile = |files: &Files| files.keys().find(|name| name.starts_with("ledger/tile/0/")).unwrap().clone();
    let edit = |files: &mut Files, name: &str, from: &str, to: &str| {
        let text = String::from_utf8(files[name].clone()).unwrap();
        assert!(text.contains(from));
        files.insert(name.to_owned(), text.replacen(from, to, 1).into_bytes());
    };
    let mut cases = vec![
        ("whole", made.bundle()),
        ("blob gone", resealed(&|files| drop(files.remove(&blob(files))))),
        ("other plan", resealed(&|files| drop(files.insert("plan/plan.json".into(), b"{}".to_vec())))),
        ("key twice", resealed(&|files| edit(files, "records/1.json", "{\"schema\"", "{\"seq\":1,\"schema\""))),
        ("other record", resealed(&|files| edit(files, "records/2.json", "\"mono_ms\":", "\"mono_ms\":1"))),
        (
            "a policy under its name",
            resealed(&|files| drop(files.insert("policy/policy.yaml".into(), made::POLICY.into()))),
        ),
        ("another policy", resealed(&|files| drop(files.insert("policy/policy.yaml".into(), b"rules: []".to_vec())))),
        ("an invented approval", resealed(&|files| drop(files.insert("approvals/1.json".into(), b"{}".to_vec())))),
        ("short tile", resealed(&|files| drop(files.insert(tile(files), vec![0; 31])))),
        ("a tile too many", resealed(&|files| drop(files.insert("ledger/tile/0/007".into(), vec![0; 8192])))),
        (
            "swapped proofs",
            resealed(&|files| {
                let from = files["ledger/proofs/1.tlog-proof"].clone();
                files.insert("ledger/proofs/2.tlog-proof".into(), from);
            }),
        ),
    ];
    let (redacted, unsaid) = (Redacted::new(true), Redacted::new(false));
    let text = redacted.edition(0, &Withheld::new([(1, 1)]));
    cases.extend([
        ("redacted", redacted.files(&text, &[(1, 1)])),
        ("redacted without a record", unsaid.files(&text, &[(1, 1)])),
        ("a changed line of an edition", redacted.files(&text.replace("done", "gone"), &[(1, 1)])),
        ("a dropped mark", redacted.files(&text.replace(",\"withheld\":true", ""), &[(1, 1)])),
        ("another output's edition", redacted.files(&redacted.edition(1, &Withheld::new([(1, 1)])), &[(1, 1)])),
        ("another list", redacted.files(&text, &[(0, 1)])),
    ]);
    for name in made.bundle().keys() {
        let mut files = made.bundle();
        let bytes = files.get_mut(name).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        cases.push(("a changed byte", files.clone()));
        listed_anew(&mut files);
        cases.push(("a changed byte, listed anew", files));
    }
    for (what, files) in cases {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("bundle");
        made::write_folder(&folder, &files);
        let ours = verify(&folder, &pinned(&made));
        let (code, said) = judge_with_python(&folder, &made);
        // Which of two things that are wrong is told first may differ.
        let same = i32::from(ours.code) == code || (ours.code >= 20 && (20..=22).contains(&code));
        assert!(same, "{what}: {}\n{said}", ours.text(runbook_report::Palette::Plain));
    }
}

/// 100,000 records: `cargo test --release -p runbook-report --test bundle -- --ignored --nocapture`. With `BUNDLE_DIR`
/// the bundle stays there and is made once.
#[test]
#[ignore = "makes a bundle of 100,000 records: for measuring, in a release build"]
fn a_hundred_thousand_records_are_verified_in_seconds() {
    let kept = std::env::var_os("BUNDLE_DIR").map(std::path::PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let place = kept.as_deref().unwrap_or(temporary.path());
    let (folder, archive) = (place.join("bundle"), place.join("bundle.tar.zst"));
    if !archive.exists() {
        let files = Made::new(100, 333).bundle();
        made::write_archive(&archive, &files);
        made::write_folder(&folder, &files);
    }
    let only = std::env::var_os("BUNDLE_ONLY");
    for path in [&archive, &folder] {
        if only.is_none() || only.as_deref() == path.file_name() {
            measure(path);
        }
    }
}

#[allow(clippy::disallowed_methods, clippy::print_stdout, reason = "it measures, for a person who asks for it")]
fn measure(path: &Path) {
    let begun = std::time::Instant::now();
    let verdict = verify(path, &Options::default());
    println!("{}: {} records in {:?}", path.display(), verdict.records, begun.elapsed());
    assert_eq!(verdict.code, 11, "{}", verdict.text(runbook_report::Palette::Plain));
    assert!(verdict.records > 100_000);
}
