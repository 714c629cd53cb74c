//! Signatures and keys of OpenSSH.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_ledger::sshsig::{
    Message, Signature, check_person_key, parse_public_key_line, public_key_line, verify_person,
};

fuzz_target!(|text: &str| {
    if let Ok(signature) = Signature::parse(text) {
        assert!(signature.verify("runbook-bundle@v1", b"never signed").is_err());
        assert!(signature.verify_message("runbook-bundle@v1", &Message::of(b"never signed")).is_err());
    }
    if let Ok(by) = verify_person(text, "runbook-approval@v1", b"never signed") {
        panic!("{} signed what was never signed", by.key);
    }
    let _ = check_person_key(text);
    if let Ok(key) = parse_public_key_line(text) {
        assert_eq!(parse_public_key_line(&public_key_line(&key)), Ok(key));
    }
});
