//! Redacted outputs: no document that was not made from an output comes to its root.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_ledger::redaction::Reader;
use runbook_model::{OutputRef, Sha256};

fuzz_target!(|bytes: &[u8]| {
    let segments = u64::from(bytes.first().copied().unwrap_or_default() % 4);
    let root = Sha256::of(b"of no output");
    let output = OutputRef { root: Some(root), segments, ..OutputRef::empty() };
    let mut reader = Reader::new(&output).unwrap();
    // Past the first line, which says of which output it is, in any case.
    let first = format!("{{\"schema\":\"redacted-output/v1\",\"root\":\"{root}\",\"segments\":{segments},\"entries\":[");
    let mut lines = std::iter::once(first.as_bytes()).chain(bytes.get(1..).unwrap_or_default().split(|byte| *byte == b'\n'));
    if lines.all(|line| reader.line(line).is_ok()) {
        assert!(reader.finish().is_err());
    }
});
