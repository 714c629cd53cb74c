//! Signed notes, checkpoints and keys. No mutation of a note may verify with another text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_ledger::note::Note;
use runbook_ledger::{Checkpoint, VerifierKey};

const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";

fuzz_target!(|text: &str| {
    let key: VerifierKey = VKEY.parse().unwrap();
    if let Ok(note) = Note::parse(text)
        && let Ok(signed) = note.verify(&key)
    {
        assert_eq!(signed, "This is an example message.\n", "the one text that was ever signed");
    }
    assert!(Checkpoint::verify(text, &key).is_err());
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        assert!(text.starts_with(&checkpoint.text()), "there is one way to write a head");
    }
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string(), text);
    }
});
