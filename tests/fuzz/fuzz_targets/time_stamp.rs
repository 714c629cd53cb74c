//! Time stamps (RFC 3161) in DER.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_ledger::timestamp;

fuzz_target!(|bytes: &[u8]| {
    let Ok(stamp) = timestamp::parse(bytes) else { return };
    // 9999-12-31T23:59:59Z: no time that can be written in the form is later.
    assert!(stamp.time_s <= 253_402_300_799, "{}", stamp.time_s);
    let _ = stamp.must_answer(&[0; 8]);
});
