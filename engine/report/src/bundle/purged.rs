//! The bundle of a run whose contents were removed after their time: what it says, in words and as JSON.

use runbook_model::{RunId, Sha256};
use serde::Serialize;

use super::json;
use super::texts::{REDACTED, Stamp, commands};
use crate::json::LedgerHead;
use crate::text::{count, escape_line};

/// The request that two persons signed, in a bundle.
pub const REQUEST: &str = "purge/request.json";
/// The digests of what was removed, one a line.
pub const REMOVED: &str = "purge/removed.txt";

/// What is known of it.
pub struct PurgedFacts<'a> {
    /// The run.
    pub run: &'a RunId,
    /// The ledger's name.
    pub origin: &'a str,
    /// The signed head in the bundle.
    pub head: &'a LedgerHead,
    /// Who outside holds that head, or a later one: `NAME (KIND)` each.
    pub anchors: &'a [String],
    /// The time stamps among their receipts.
    pub stamps: &'a [Stamp],
    /// The record that says that the contents were removed.
    pub record: u64,
    /// When that was (RFC 3339).
    pub time: &'a str,
    /// Digest of the request that was signed.
    pub request: &'a Sha256,
    /// How many records lost their body.
    pub records: u64,
    /// How many contents were removed.
    pub blobs: u64,
    /// Where the run's records were: the first and the last of each range.
    pub places: &'a [(u64, u64)],
    /// Who signed.
    pub signers: Vec<&'a str>,
    /// Who carried it out.
    pub by: &'a str,
    /// What should be here and is not.
    pub missing: &'a [String],
}

/// `purged/v1`.
#[derive(Serialize)]
struct Purged<'a> {
    schema: &'static str,
    run_id: &'a str,
    record: u64,
    time: &'a str,
    request_sha256: String,
    records: u64,
    contents: u64,
    /// As the store has it: with the bodies went what would prove whose records these were.
    places: &'a [(u64, u64)],
    signers: &'a [&'a str],
    by: &'a str,
}

/// `purged.json`.
pub fn purged(facts: &PurgedFacts<'_>) -> Vec<u8> {
    json(&Purged {
        schema: "purged/v1",
        run_id: facts.run.as_str(),
        record: facts.record,
        time: facts.time,
        request_sha256: facts.request.to_string(),
        records: facts.records,
        contents: facts.blobs,
        places: facts.places,
        signers: &facts.signers,
        by: facts.by,
    })
}

/// Its `README.txt`.
pub fn purged_readme(facts: &PurgedFacts<'_>) -> String {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let mut out = format!(
        "WHAT REMAINS OF A MAINTENANCE RUN\n\
         \n\
         Run:       {}\n\
         Removed:   {}, {} and {}, after their time\n\
         Signed by: {}\n\
         Done by:   {}\n\
         On record: record {} of the ledger {}\n\
         Head:      {} records, Merkle root {}\n\
         Anchored:  {}\n\
         \n\
         The run's records and what they named were removed when their time was over. Their places in the ledger and their\n\
         hashes stay, so the ledger verifies as before. What the run did cannot be told from this any more, by anybody.\n\
         \n\
         WHAT IS IN IT\n\
         \n\
         SHA256SUMS, .sig      every file's SHA-256, and the ledger key's signature over the list\n\
         purged.json           this page for programs (purged/v1)\n\
         records/N.json        the record of the removal, with the signatures of two persons; rotations of the ledger's key\n\
         purge/                the request that they signed, and the digests of all that was removed, one a line\n\
         ledger/               the signed head, the tree's hash tiles (C2SP tlog-tiles), a proof for each record\n\
         anchors/              receipts of those outside who hold the head or a later one, when there are any\n\
         trust/                the public key in three forms. Get it from elsewhere to trust it\n\
         cmmc/                 the two hash logs that a CMMC assessment asks for, over the files of this bundle\n\
         verify.py             a verifier in Python, standard library only, for convenience\n\
         \n\
         WHAT IT DOES NOT SHOW\n\
         \n\
         * What the run did, and how it ended.\n\
         * Which hashes of the ledger are of this run: purged.json says what the ledger's store had of that, and nothing\n  \
           proves it.\n\
         * Whether the two persons were entitled to sign: who may is not part of the evidence.\n",
        facts.run,
        facts.time,
        count(number(facts.records), "record"),
        count(number(facts.blobs), "content"),
        escape_line(facts.signers.join(" and ").as_bytes()),
        escape_line(facts.by.as_bytes()),
        facts.record,
        facts.origin,
        facts.head.size,
        facts.head.root,
        if facts.anchors.is_empty() { "by nobody outside".to_owned() } else { facts.anchors.join(", ") },
    );
    for line in facts.missing {
        out.push_str(&format!("* {}.\n", escape_line(line.as_bytes())));
    }
    out.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

/// Its `VERIFY.txt`.
pub fn purged_verify_txt(facts: &PurgedFacts<'_>) -> String {
    let record = format!("records/{}.json", facts.record);
    let steps = format!(
        "6. Two persons have signed for the removal. Who they are, their keys in the record say; get the list of those who may\n   \
         from elsewhere (allowed_signers of ssh-keygen), and let SIGNERS name it.\n\n    \
         jq -r '.event.signatures[] | .signer + \" namespaces=\\\"runbook-purge@v1\\\" \" + .key' {record} > \"$T/signers\"\n    \
         [ \"$(jq -r '.event.signatures | map(.key) | unique | length' {record})\" -ge 2 ]\n    \
         ( for n in 0 1; do jq -j \".event.signatures[$n].signature\" {record} > \"$T/sig\"; ssh-keygen -Y verify -f \"${{SIGNERS:-$T/signers}}\" -I \"$(jq -r \".event.signatures[$n].signer\" {record})\" -n runbook-purge@v1 -s \"$T/sig\" < {REQUEST} || exit 1; done )\n\n\
         7. What they signed for is this run.\n\n    \
         jq -e --arg run \"$(jq -r .event.purged_run {record})\" '.runs | any(.run == $run)' {REQUEST} > \"$T/asked\"\n\n",
    );
    commands(facts.origin, &steps, facts.stamps, REDACTED)
}
