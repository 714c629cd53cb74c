//! A record's line. What is read must be strict JSON, and written again mean the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_ledger::{record, strict};

fuzz_target!(|bytes: &[u8]| {
    let is_strict = strict::check(bytes).is_ok();
    if let Ok(read) = record::parse(bytes) {
        assert!(is_strict, "what was read is strict JSON");
        // Exactly the fields of a record: nothing that was not understood is passed over at its top.
        assert!(read.schema == "record/v1" && !bytes.contains(&b'\n'));
    }
});
