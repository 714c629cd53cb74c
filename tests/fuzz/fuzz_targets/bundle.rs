//! An archive of any bytes: no archive that nobody signed verifies, and none takes much time.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_report::bundle::verify::{Options, verify};

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let options = Options { bytes_max: 1 << 20, ..Options::default() };
    assert!(verify(file.path(), &options).code >= 20);
});
