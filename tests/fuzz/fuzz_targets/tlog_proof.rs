//! Proofs as files. What is read is written again as the same proof, and proves nothing without a signature.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runbook_ledger::consistency::Consistency;
use runbook_ledger::proof;
use runbook_ledger::tlog_proof::TlogProof;
use runbook_model::Sha256;

fuzz_target!(|text: &str| {
    if let Ok(proofs) = Consistency::parse(text) {
        assert_eq!(proofs.text(), text, "there is one way to write it");
    }
    let Ok(proof) = TlogProof::parse(text) else { return };
    assert_eq!(TlogProof::parse(&proof.text()).as_ref(), Ok(&proof));
    let (leaf, root) = (Sha256::of(b"leaf"), Sha256::of(b"root"));
    for size in [0, 1, proof.index, proof.index.saturating_add(1), u64::MAX] {
        assert!(proof::verify_inclusion(&leaf, proof.index, size, &proof.path, &root).is_err());
        assert!(proof::verify_consistency((proof.index, &leaf), (size, &root), &proof.path).is_err());
    }
});
