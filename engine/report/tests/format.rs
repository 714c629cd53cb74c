//! `docs/evidence-format.md` is what the program does: its tables have every event, its test vectors are what the code
//! gives, and a verifier that knows the page alone agrees with them.
//!
//! `UPDATE_VECTORS=1 cargo test -p runbook-report --test format` writes the vectors anew.

#[allow(dead_code)]
mod made;
#[allow(dead_code)]
mod sample;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use made::Made;
use runbook_ledger::segments::{LINE_BYTES, Seed, Segmenter};
use runbook_ledger::tile::Tile;
use runbook_ledger::tree::{Frontier, leaf_hash, node_hash};
use runbook_ledger::{proof, record, strict};
use runbook_model::{Sha256, canonical};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_path_buf()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/evidence-format.md")).unwrap()
}

/// The names of an enum's variants as they stand in JSON, from its source: what has no example cannot be forgotten.
fn variants(file: &str, of: &str) -> BTreeSet<String> {
    let source = std::fs::read_to_string(root().join("engine/model/src").join(file)).unwrap();
    let body = source.split_once(&format!("pub enum {of} {{\n")).unwrap().1.split_once("\n}\n").unwrap().0;
    let names =
        body.lines().filter_map(|line| line.strip_prefix("    ").filter(|line| line.starts_with(char::is_uppercase)));
    let snake = |name: &str| {
        let name = name.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        name.char_indices().fold(String::new(), |mut out, (at, c)| {
            if at > 0 && c.is_uppercase() {
                out.push('_');
            }
            out.extend(c.to_lowercase());
            out
        })
    };
    names.map(snake).collect()
}

/// The names in the first column of the table below a heading.
fn table(heading: &str) -> BTreeSet<String> {
    let page = page();
    let below = page.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("{heading} is missing")).1;
    let rows = below.lines().skip_while(|line| !line.starts_with("| `")).take_while(|line| line.starts_with("| `"));
    rows.map(|row| row.split('`').nth(1).unwrap().to_owned()).collect()
}

#[test]
fn the_page_lists_every_event_and_every_notice() {
    let mut events = variants("event.rs", "Event");
    assert!(events.remove("installation"), "notices have a table of their own");
    assert!(events.contains("run_opened") && events.len() > 20, "{events:?}");
    assert_eq!(table("### Events of a run"), events);
    assert_eq!(table("### Events of the installation"), variants("notice.rs", "Notice"));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tree() -> Value {
    let entries: Vec<String> = (0..9).map(|n| format!("entry {n}")).collect();
    let leaves: Vec<Sha256> = entries.iter().map(|entry| leaf_hash(entry.as_bytes())).collect();
    let mut frontier = Frontier::new();
    let mut roots = vec![frontier.root()];
    for leaf in &leaves {
        frontier.push(*leaf);
        roots.push(frontier.root());
    }
    let mut inclusion = Vec::new();
    let mut consistency = Vec::new();
    for size in 1..=leaves.len() {
        for index in 0..size {
            let path = proof::inclusion(&leaves[..size], index).unwrap();
            inclusion.push(json!({"index": index, "size": size, "path": path}));
        }
        for smaller in 1..=size {
            let path = proof::consistency(&leaves[..size], smaller).unwrap();
            consistency.push(json!({"from": smaller, "to": size, "path": path}));
        }
    }
    let tiles: Vec<Value> = [0, 1, 255, 256, 257, 70_000]
        .map(|size| {
            let mut paths: Vec<String> = Tile::all(size).map(|tile| tile.path()).collect();
            if paths.len() > 20 {
                paths.drain(5..paths.len() - 10);
            }
            json!({"size": size, "first_and_last": paths})
        })
        .into();
    json!({
        "entries": entries,
        "leaves": leaves,
        "node_of_the_first_two_leaves": node_hash(&leaves[0], &leaves[1]),
        "roots_by_size": roots,
        "inclusion": inclusion,
        "consistency": consistency,
        "tiles": tiles,
    })
}

fn records(made: &Made) -> Value {
    let line = |at: usize| {
        let sealed = &made.ledger[at];
        let record = record::parse(&sealed.bytes).unwrap();
        json!({"line": String::from_utf8(sealed.bytes.clone()).unwrap(), "seq": record.seq, "run_seq": record.run_seq,
            "prev": record.prev, "leaf": sealed.leaf})
    };
    let good = String::from_utf8(made.ledger[2].bytes.clone()).unwrap();
    let refused: Vec<Value> = [
        ("a key twice", good.replacen("\"seq\":2", "\"seq\":2,\"seq\":2", 1)),
        ("a key twice within the event", good.replacen("\"event\":{", "\"event\":{\"x\":1,\"x\":2,", 1)),
        ("more than 64 bits", good.replacen("\"event\":{", "\"event\":{\"x\":18446744073709551616,", 1)),
        ("a fraction", good.replacen("\"event\":{", "\"event\":{\"x\":1.0,", 1)),
        ("no number", good.replacen("\"event\":{", "\"event\":{\"x\":NaN,", 1)),
        ("half a character", good.replacen("\"event\":{", "\"event\":{\"x\":\"\\ud800\",", 1)),
        ("a field that no record has", good.replacen("\"seq\":2", "\"seq\":2,\"more\":1", 1)),
        ("another form", good.replacen("record/v1", "record/v2", 1)),
        ("a line end", format!("{good}\n")),
        ("a byte order mark", format!("\u{feff}{good}")),
        ("something after it", format!("{good} 0")),
    ]
    .into_iter()
    .map(|(why, line)| {
        assert!(record::parse(line.as_bytes()).is_err(), "{why}");
        json!({"why": why, "line": line})
    })
    .collect();
    json!({"first_prev": record::first_prev(), "ledger": (0..made.ledger.len()).map(line).collect::<Vec<_>>(), "refused": refused})
}

fn segments() -> Value {
    let contents = ["", "one line\n", "no end", "a\nb\n\nPIN 4711\n", "carriage\rreturn\r\nand more\u{b}\u{c}\n"];
    let case = |seed: u8, content: Vec<u8>, shown: Value| {
        let seed = Seed([seed; 32]);
        let mut segmenter = Segmenter::new(seed);
        segmenter.push(&content);
        let (root, segments) = segmenter.finish();
        let blob = [seed.line().as_bytes(), &content].concat();
        json!({"seed": hex(&seed.0), "content": shown, "salt_0": hex(&seed.salt(0)), "salt_1": hex(&seed.salt(1)),
            "root": root, "segments": segments, "blob_sha256": Sha256::of(&blob), "blob_bytes": blob.len()})
    };
    let mut cases: Vec<Value> = contents
        .iter()
        .zip(1..)
        .map(|(content, seed)| case(seed, content.as_bytes().to_vec(), json!(content)))
        .collect();
    cases.push(case(9, vec![b'x'; 150_000], json!({"repeat": "x", "times": 150_000})));
    json!({"header_line_bytes": LINE_BYTES, "cases": cases})
}

fn heads(made: &Made) -> Value {
    let notes: Vec<String> = [1, 5, made.ledger.len()].map(|size| made.head(size)).into();
    json!({
        "vkey": made.key.to_string(),
        "name": made.key.name(),
        "id": hex(&made.key.id()),
        "public_key": hex(&made.key.public_key()),
        "public_key_pem": runbook_ledger::pem::public_key(&made.key.public_key()),
        "notes": notes,
    })
}

fn canonical_json() -> Value {
    let cases: Vec<Value> = [
        r#"{"b":1,"a":{"d":[3,2,1],"c":null}}"#,
        r#" { "é" : "\u00e9\n\t\"\\\u0001" , "e" : true } "#,
        r#"{"\ue000":1,"\ud83d\ude00":2}"#,
        r#"[-1,0,18446744073709551615]"#,
    ]
    .into_iter()
    .map(|text| {
        let value: Value = serde_json::from_str(text).unwrap();
        let bytes = canonical::bytes(&value);
        json!({"json": text, "canonical": String::from_utf8(bytes.clone()).unwrap(), "sha256": Sha256::of(&bytes)})
    })
    .collect();
    json!({"cases": cases})
}

fn bundle(made: &Made) -> Value {
    let files = made.bundle();
    let files: serde_json::Map<String, Value> =
        files.into_iter().map(|(name, bytes)| (name, STANDARD.encode(bytes).into())).collect();
    json!({"files_base64": files, "code": 11, "code_with_the_key_pinned": 10})
}

#[test]
fn the_test_vectors_are_what_the_code_gives() {
    let made = Made::new(1, 1);
    let folder = root().join("docs/evidence-format/vectors");
    let vectors = [
        ("tree", tree()),
        ("records", records(&made)),
        ("segments", segments()),
        ("heads", heads(&made)),
        ("canonical", canonical_json()),
        ("bundle", bundle(&made)),
    ];
    for (name, vector) in vectors {
        let path = folder.join(format!("{name}.json"));
        let text = format!("{}\n", serde_json::to_string_pretty(&vector).unwrap());
        assert!(strict::check(text.as_bytes()).is_ok());
        if std::env::var_os("UPDATE_VECTORS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(kept == text, "{} is not what the code gives: see the head of this test", path.display());
    }
}

#[test]
fn python_gives_the_same_vectors() {
    let done = Command::new("python3").arg(root().join("docs/evidence-format/check.py")).output().unwrap();
    assert!(
        done.status.success(),
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
