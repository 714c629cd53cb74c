//! The run as OSCAL assessment results: what was observed, objective by objective, with the records that say so. No finding
//! is made and nothing is called satisfied: that is for the assessor to say.

use runbook_model::plan::Role;
use runbook_model::units::rfc3339_ms;
use runbook_model::{HostName, Sha256};
use serde_json::{Value, json};

use crate::RunView;
use crate::objectives::{Answer, Citation, Revision, answers};
use crate::text::escape_line;

const VERSION: &str = "1.2.1";
/// Records that one observation names. The rest are in `records`, and the observation says how many there are.
const RECORDS_MAX: usize = 200;

/// `oscal/assessment-results.json`.
pub fn assessment_results(view: &RunView) -> Vec<u8> {
    let run = view.run().map(ToString::to_string).unwrap_or_default();
    let id = |what: &str| uuid(&run, what);
    let (start, end) = (rfc3339_ms(view.started_ms()), rfc3339_ms(view.ended_ms.unwrap_or(view.last_ms)));
    let operator = view.header.as_ref().map(|header| shown(&header.operator.name)).unwrap_or_default();
    let operator = if operator.is_empty() { "unknown".to_owned() } else { operator };
    let results: Vec<Value> =
        Revision::ALL.iter().map(|revision| result(view, &run, *revision, &start, &end)).collect();
    let document = json!({"assessment-results": {
        "uuid": id("assessment-results"),
        "metadata": {
            "title": format!("Record of run {run} of the runbook {}", shown(&view.plan.runbook.name)),
            "last-modified": end,
            "version": "1",
            "oscal-version": VERSION,
            "roles": [{"id": "operator", "title": "Ran the maintenance"}],
            "parties": [{"uuid": id("operator"), "type": "person", "name": operator}],
            "responsible-parties": [{"role-id": "operator", "party-uuids": [id("operator")]}],
        },
        "import-ap": {
            "href": format!("#{}", id("plan")),
            "remarks": "There is no assessment plan: this is the plan of the maintenance run whose record was observed.",
        },
        "results": results,
        "back-matter": {"resources": [
            resource(&id("plan"), "The plan of the run", "../plan/plan.json", &view.plan_sha256()),
        ]},
    }});
    super::json(&document)
}

impl RunView {
    fn plan_sha256(&self) -> Sha256 {
        self.header.as_ref().map_or_else(|| self.plan.digest(), |header| header.plan_sha256)
    }
}

fn resource(uuid: &str, title: &str, href: &str, digest: &Sha256) -> Value {
    json!({
        "uuid": uuid,
        "title": title,
        "rlinks": [{"href": href, "hashes": [{"algorithm": "SHA-256", "value": digest}]}],
    })
}

fn result(view: &RunView, run: &str, revision: Revision, start: &str, end: &str) -> Value {
    let answers = answers(view, revision);
    let objectives: Vec<Value> =
        answers.iter().map(|answer| json!({"objective-id": answer.objective.token()})).collect();
    let mut controls: Vec<String> =
        answers.iter().map(|answer| format!("req-{}", answer.objective.requirement())).collect();
    controls.sort();
    controls.dedup();
    let controls: Vec<Value> = controls.into_iter().map(|control| json!({"control-id": control})).collect();
    let hosts: Vec<Value> = view.hosts.keys().map(|host| host_item(view, run, revision, host)).collect();
    let observations: Vec<Value> = answers.iter().map(|answer| observation(view, run, answer, end)).collect();
    let mut result = json!({
        "uuid": uuid(run, &format!("result {}", revision.name())),
        "title": format!("Observed by the record of a maintenance run, for the objectives of {}", revision.title()),
        "description": "What the sealed record of one run says of each assessment objective, and what it does not hold. \
            These are observations; whether an objective is satisfied is for the assessor to say.",
        "start": start,
        "end": end,
        "reviewed-controls": {
            "control-selections": [{"include-controls": controls}],
            "control-objective-selections": [{"include-objectives": objectives}],
        },
        "observations": observations,
    });
    if !hosts.is_empty() {
        result["local-definitions"] = json!({"inventory-items": hosts});
    }
    result
}

/// Each result has its own items: an id stands once in a document.
fn item_id(run: &str, revision: Revision, host: &HostName) -> String {
    uuid(run, &format!("host {} {host}", revision.name()))
}

fn host_item(view: &RunView, run: &str, revision: Revision, host: &HostName) -> Value {
    let mut props = vec![json!({"name": "asset-id", "value": host})];
    if let Some(facts) = view.hosts.get(host).and_then(|entry| entry.facts.as_ref())
        && let Some(system) = Some(shown(&facts.os)).filter(|system| !system.is_empty())
    {
        props.push(json!({"name": "os-name", "value": system}));
    }
    json!({
        "uuid": item_id(run, revision, host),
        "description": format!("The host {host} of the inventory."),
        "props": props,
    })
}

fn observation(view: &RunView, run: &str, answer: &Answer, collected: &str) -> Value {
    let objective = answer.objective;
    let token = objective.token();
    let gaps = answer.gaps();
    let mut description = objective.statement.clone();
    match answer.records().map(|citation| citation.seqs.len()).sum() {
        0 => description.push_str(" No record of this run speaks of it."),
        1 => description.push_str(" One record of this run speaks of it."),
        n => description.push_str(&format!(" {n} records of this run speak of it.")),
    }
    let mut subjects: Vec<&HostName> = answer.records().filter_map(|citation| citation.host.as_ref()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    let subjects: Vec<Value> = subjects
        .into_iter()
        .filter(|host| view.hosts.contains_key(*host))
        .map(|host| json!({"subject-uuid": item_id(run, objective.revision, host), "type": "inventory-item"}))
        .collect();
    let mut evidence = Vec::new();
    let mut records = 0;
    for citation in answer.records() {
        for seq in &citation.seqs {
            records += 1;
            if evidence.len() < RECORDS_MAX {
                evidence.push(json!({"href": format!("../records/{seq}.json"), "description": said(citation)}));
            }
        }
    }
    let mut props = vec![
        json!({"name": "objective", "class": objective.revision.name(), "value": objective.id}),
        json!({"name": "records", "value": records.to_string()}),
        json!({"name": "deviations", "value": answer.records().filter(|said| said.deviates).count().to_string()}),
    ];
    if let Some(points) = objective.points {
        props.push(json!({"name": "points", "value": points.to_string()}));
    }
    // A test is what was shown to work there and then: only checks after the change are that.
    let checks =
        view.plan.steps.iter().any(|step| step.phase == runbook_model::Phase::Verify && step.role == Role::Plain);
    let tested = objective.records.contains(&crate::objectives::Evidence::Verification) && checks;
    let mut out = json!({
        "uuid": uuid(run, &format!("observation {} {token}", objective.revision.name())),
        "title": format!("{} ({})", objective.id, objective.revision.title()),
        "description": description,
        "props": props,
        "methods": if tested { vec!["EXAMINE", "TEST"] } else { vec!["EXAMINE"] },
        "types": ["control-objective"],
        "collected": collected,
    });
    if !subjects.is_empty() {
        out["subjects"] = subjects.into();
    }
    if !evidence.is_empty() {
        out["relevant-evidence"] = evidence.into();
    }
    let mut remarks: Vec<String> = gaps.iter().map(|gap| shown(gap)).collect();
    if records > RECORDS_MAX {
        remarks.insert(
            0,
            format!("The first {RECORDS_MAX} of {records} records are named here; all are in the folder records."),
        );
    }
    if !remarks.is_empty() {
        out["remarks"] = remarks.join("\n\n").into();
    }
    out
}

fn said(citation: &Citation) -> String {
    let mut place: Vec<&str> = Vec::new();
    place.extend(citation.host.as_ref().map(|host| host.as_str()));
    place.extend(citation.step.as_ref().map(|step| step.as_str()));
    let what = shown(&citation.what);
    if place.is_empty() { what } else { format!("{}: {what}", place.join("/")) }
}

/// One line that shows control characters and has no space at its ends, as OSCAL's strings want it.
fn shown(text: &str) -> String {
    escape_line(text.as_bytes()).trim().to_owned()
}

/// An id that is the same each time: from SHA-256, in the form of a UUID of version 5.
fn uuid(run: &str, what: &str) -> String {
    let digest = Sha256::of(format!("runbook-oscal/v1\n{run}\n{what}").as_bytes());
    let mut bytes: [u8; 16] = digest.0[..16].try_into().expect("a digest has 32 bytes");
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_each_time_and_has_the_form_that_oscal_asks_for() {
        let one = uuid("run", "a");
        assert_eq!(one, uuid("run", "a"));
        assert_ne!(one, uuid("run", "b"));
        assert_eq!(one.len(), 36);
        assert_eq!(&one[14..15], "5");
        assert!("89ab".contains(&one[19..20]));
    }
}
