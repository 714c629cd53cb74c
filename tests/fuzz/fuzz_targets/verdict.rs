//! A folder of any files under the names of a bundle's. The input is names and contents by turns; SHA256SUMS is made for
//! them, so that the checks behind it are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_model::Sha256;
use runbook_report::bundle::verify::{Options, verify};

const NAMES: [&str; 12] = [
    "trust/log.vkey",
    "ledger/checkpoint",
    "ledger/tile/0/000.p/1",
    "ledger/tile/0/000.p/2",
    "ledger/proofs/0.tlog-proof",
    "records/0.json",
    "records/1.json",
    "plan/plan.json",
    "run.json",
    "SHA256SUMS.sig",
    "redactions.json",
    "README.txt",
];

fuzz_target!(|files: Vec<(u8, Vec<u8>)>| {
    let folder = tempfile::tempdir().unwrap();
    let mut sums = String::new();
    let mut seen = std::collections::BTreeSet::new();
    for (name, content) in &files {
        let name = NAMES[usize::from(*name) % NAMES.len()];
        if !seen.insert(name) {
            continue;
        }
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        if name != "SHA256SUMS.sig" {
            sums.push_str(&format!("{}  {name}\n", Sha256::of(content)));
        }
    }
    std::fs::write(folder.path().join("SHA256SUMS"), sums).unwrap();
    assert!(verify(folder.path(), &Options::default()).code >= 20);
});
