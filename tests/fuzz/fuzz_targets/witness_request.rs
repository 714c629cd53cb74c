//! What a ledger asks a witness (C2SP tlog-witness). What is read is written again as the same request.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_ledger::witness::AddCheckpoint;

fuzz_target!(|text: &str| {
    let Ok((request, _)) = AddCheckpoint::parse(text) else { return };
    assert_eq!(AddCheckpoint::parse(&request.text()).map(|(again, _)| again).as_ref(), Ok(&request));
});
