//! The run as in-toto knows it: a layout that says what must have happened, a link for each cell that says what did, and a
//! statement about the run. All are DSSE envelopes by the ledger's key, so `in-toto-verify` judges whether exactly the
//! planned commands ran and each ended well.
//!
//! A step of the layout is a cell, `STEP@HOST`. The link `approve` lists the exact command of every cell as
//! `cmd/STEP@HOST`; the cell's own link has that command as its material, and `ok/STEP@HOST` among its products only when
//! the cell succeeded. What `in-toto-verify` only warns of (another command line, a non-zero return value) is thereby an
//! artefact that is missing or different, and an error.

use std::collections::BTreeMap;

use runbook_model::outcome::{AttemptOutcome, Ended, Exit};
use runbook_model::plan::OnFailure;
use runbook_model::units::rfc3339_ms;
use runbook_model::{HostName, Sha256, canonical};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Names, NotSigned, Signing};
use crate::RunView;
use crate::json::LedgerHead;
use crate::matrix::{Row, rows};

const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The first step of the layout.
const APPROVE: &str = "approve";
/// The record of a run does not go off.
const NEVER: &str = "9999-12-31T23:59:59Z";

/// A key as in-toto writes it down.
#[derive(Serialize)]
struct Key {
    keytype: &'static str,
    keyval: BTreeMap<&'static str, String>,
    scheme: &'static str,
}

impl Key {
    fn new(public_key: &[u8; 32]) -> Self {
        let hex = Sha256(*public_key).to_string();
        Self { keytype: "ed25519", keyval: BTreeMap::from([("public", hex)]), scheme: "ed25519" }
    }
}

/// The key's id, as in-toto makes it.
pub fn key_id(public_key: &[u8; 32]) -> String {
    canonical::digest(&Key::new(public_key)).to_string()
}

/// A cell that the run announced and that was not skipped.
pub struct Link<'a> {
    name: String,
    row: Row<'a>,
}

impl Link<'_> {
    /// Whether something of it is on record: a cell that was never reached has a step in the layout and no link.
    pub fn was_done(&self) -> bool {
        self.row.view.is_some()
    }

    /// The record that says how it ended.
    pub fn ended_seq(&self) -> Option<u64> {
        self.row.view?.ended_seq
    }

    /// The exact command; of its last attempt.
    fn command(&self) -> Option<Sha256> {
        Some(self.row.view?.attempts.last()?.intent.command_sha256)
    }

    fn material(&self) -> String {
        format!("cmd/{}", self.name)
    }

    fn proof(&self) -> String {
        format!("ok/{}", self.name)
    }
}

/// A host's cells, in the plan's order.
pub fn cells<'a>(view: &'a RunView, names: &Names, host: &HostName) -> Vec<Link<'a>> {
    let Some(entry) = view.hosts.get(host) else { return Vec::new() };
    let named = |row: Row<'a>| Link { name: names.cell(host, &row.step.id), row };
    rows(view, entry).into_iter().filter(|row| row.outcome != Some(AttemptOutcome::Skipped)).map(named).collect()
}

/// `attest/root.layout`, and the link of its first step: file names in `attest` and contents.
///
/// # Errors
/// When the key cannot be used.
pub fn layout(view: &RunView, names: &Names, signing: &Signing<'_>) -> Result<[(String, Vec<u8>); 2], NotSigned> {
    let id = key_id(&signing.key.public_key());
    let (mut steps, mut approved) = (Vec::new(), BTreeMap::new());
    let step = |name: &str, materials: Value, products: Value| {
        json!({
            "_type": "step", "name": name, "pubkeys": [id], "threshold": 1, "expected_command": [],
            "expected_materials": materials, "expected_products": products,
        })
    };
    steps.push(step(
        APPROVE,
        json!([["ALLOW", "plan/plan.json"], ["DISALLOW", "*"]]),
        json!([["CREATE", "cmd/*"], ["DISALLOW", "*"]]),
    ));
    for cell in view.hosts.keys().flat_map(|host| cells(view, names, host)) {
        let mut materials = Vec::new();
        if let Some(command) = cell.command() {
            approved.insert(cell.material(), digests(&command));
            materials.push(json!(["REQUIRE", cell.material()]));
        }
        materials.push(json!(["MATCH", "cmd/*", "WITH", "PRODUCTS", "FROM", APPROVE]));
        materials.push(json!(["DISALLOW", "*"]));
        let mut products = Vec::new();
        // What the plan lets fail is no deviation from it.
        if cell.row.step.on_failure != OnFailure::Continue {
            products.push(json!(["REQUIRE", cell.proof()]));
        }
        products.push(json!(["CREATE", cell.proof()]));
        products.push(json!(["CREATE", format!("out/{}/*", cell.name)]));
        products.push(json!(["DISALLOW", "*"]));
        steps.push(step(&cell.name, materials.into(), products.into()));
    }
    let mut key = serde_json::to_value(Key::new(&signing.key.public_key())).expect("a key is representable as JSON");
    key["keyid"] = id.clone().into();
    let run = view.run().map(ToString::to_string).unwrap_or_default();
    let layout = json!({
        "_type": "layout",
        "expires": NEVER,
        "inspect": [],
        "keys": {id.clone(): key},
        "readme": format!(
            "Run {run}: each cell of its matrix that was not skipped, with the exact command that was sent. Approvals by \
             persons are in the run's first record, with their own signatures; the step `approve` is the ledger's own account of the plan.",
        ),
        "steps": steps,
    });
    let plan = view.header.as_ref().map_or_else(|| view.plan.digest(), |header| header.plan_sha256);
    let approve = json!({
        "_type": "link", "name": APPROVE, "command": [], "environment": {}, "byproducts": {},
        "materials": {"plan/plan.json": digests(&plan)},
        "products": approved,
    });
    Ok([
        ("root.layout".into(), signing.envelope(PAYLOAD_TYPE, &canonical::bytes(&layout))?),
        (file(APPROVE, &id), signing.envelope(PAYLOAD_TYPE, &canonical::bytes(&approve))?),
    ])
}

/// A cell's link: its file name in `attest`, and its content. `record` is the record that says how the cell ended.
///
/// # Errors
/// When the key cannot be used.
pub fn link(cell: &Link<'_>, record: Option<&Sha256>, signing: &Signing<'_>) -> Result<(String, Vec<u8>), NotSigned> {
    let mut materials = BTreeMap::new();
    if let Some(command) = cell.command() {
        materials.insert(cell.material(), digests(&command));
    }
    let mut products = BTreeMap::new();
    if let (Some(AttemptOutcome::Succeeded), Some(record)) = (cell.row.outcome, record) {
        products.insert(cell.proof(), digests(record));
    }
    let last = cell.row.view.and_then(|view| view.attempts.last());
    let report = last.and_then(|attempt| attempt.report.as_ref());
    if let Some(report) = report {
        for (stream, output) in [("stdout", &report.stdout), ("stderr", &report.stderr)] {
            if let Some(blob) = &output.blob {
                products.insert(format!("out/{}/{stream}", cell.name), digests(blob));
            }
        }
    }
    let returned = match report.map(|report| &report.ended) {
        Some(Ended::Exited { exit: Exit::Code(code), .. }) => Some(*code),
        _ => None,
    };
    let payload = json!({
        "_type": "link",
        "name": cell.name,
        "command": [],
        "environment": {},
        "materials": materials,
        "products": products,
        "byproducts": {
            "return-value": returned,
            "outcome": cell.row.outcome.map(AttemptOutcome::name),
            "attempts": cell.row.view.map_or(0, |view| view.attempts.len()),
        },
    });
    let id = key_id(&signing.key.public_key());
    Ok((file(&cell.name, &id), signing.envelope(PAYLOAD_TYPE, &canonical::bytes(&payload))?))
}

/// `attest/run.dsse.json`: an in-toto Statement (v1) about the run. `subjects` are files of the bundle.
///
/// # Errors
/// When the key cannot be used.
pub fn statement(
    view: &RunView,
    head: &LedgerHead,
    subjects: &[(&str, Sha256)],
    signing: &Signing<'_>,
) -> Result<Vec<u8>, NotSigned> {
    let subjects: Vec<Value> =
        subjects.iter().map(|(name, digest)| json!({"name": name, "digest": digests(digest)})).collect();
    let header = view.header.as_ref();
    let mut hosts: BTreeMap<&str, u64> = BTreeMap::new();
    for host in view.hosts.values() {
        *hosts.entry(host.outcome.map_or("not_started", runbook_model::HostOutcome::name)).or_default() += 1;
    }
    let payload = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": "urn:runbook:attestation:run:v1",
        "predicate": {
            "run_id": view.run(),
            "runbook": view.plan.runbook.name,
            "plan_sha256": header.map(|header| header.plan_sha256),
            "operator": header.map(|header| &header.operator.name),
            "ticket": header.and_then(|header| header.ticket.as_ref()),
            "state": view.state.name(),
            "outcome": view.outcome.map(runbook_model::HostOutcome::name),
            "started_at": rfc3339_ms(view.started_ms()),
            "ended_at": view.ended_ms.map(rfc3339_ms),
            "hosts": hosts,
            "records": view.records,
            "engine_version": header.map(|header| &header.engine_version),
            "engine_sha256": header.map(|header| header.engine_sha256),
            "ledger": {"origin": signing.key.name(), "size": head.size, "root": head.root},
        },
    });
    signing.envelope(PAYLOAD_TYPE, &canonical::bytes(&payload))
}

fn digests(digest: &Sha256) -> Value {
    json!({"sha256": digest})
}

fn file(name: &str, key_id: &str) -> String {
    format!("{name}.{}.link", &key_id[..8])
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_keys_id_is_that_of_in_toto() {
        // Computed by in-toto 3.1.0 from a public key in PEM.
        let hex = "b8cbceccfc6c135f50f2581e4d8228ae428faa3ba601265ff53cc168a06444ee";
        let key: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        let id = super::key_id(&key.try_into().unwrap());
        assert_eq!(id, "38ba9d0a00cafa8f8abaab8678825d0e889b4df5e9cd7ccafddbfc56c09633dd");
    }
}
