//! The approvals that a run began with, as files of their own: for persons, and for `ssh-keygen`.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runbook_model::Sha256;
use runbook_model::approval::NAMESPACE;
use runbook_model::event::RunHeader;
use runbook_model::people::People;

/// Those who could approve, in the form of `ssh-keygen`.
pub const SIGNERS: &str = "approvals/allowed_signers";

/// A content that stands in a bundle under a name too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Its path in the bundle.
    pub path: String,
    /// The content.
    pub digest: Sha256,
}

/// What of the run's authorization has a name: `policy/policy.yaml`, `policy/people.yaml`, and `approvals/N.json` with its
/// signature for each, in the order of the opening.
pub fn authorization(header: &RunHeader) -> Vec<Copied> {
    let copied = |path: String, digest| Copied { path, digest };
    let mut files = Vec::new();
    files.extend(header.policy.map(|digest| copied("policy/policy.yaml".to_owned(), digest)));
    files.extend(header.people.map(|digest| copied("policy/people.yaml".to_owned(), digest)));
    for (no, used) in header.approvals.iter().enumerate() {
        let document = document(no);
        files.push(copied(format!("{document}.sig"), used.signature));
        files.push(copied(document, used.document));
    }
    files
}

fn document(no: usize) -> String {
    format!("approvals/{}.json", no + 1)
}

/// `approvals/allowed_signers`: the keys of `people` that counted when the run was opened. Its principals are their short
/// names.
pub fn approvers(people: &People, header: &RunHeader) -> String {
    let opened = i64::try_from(header.started_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let opened = opened.map(|opened| opened.to_zoned(TimeZone::UTC).date());
    let mut out = String::new();
    for (id, member) in &people.people {
        for key in &member.keys {
            if key.revoked.is_some_and(|revoked| opened.is_none_or(|opened| revoked <= opened)) {
                continue;
            }
            let end = key.until.and_then(|until| until.tomorrow().ok());
            let end = end.map_or_else(String::new, |end| format!(",valid-before=\"{}Z\"", end.strftime("%Y%m%d")));
            out.push_str(&format!("{id} namespaces=\"{NAMESPACE}\"{end} {}\n", key.key));
        }
    }
    out
}

/// A step of `VERIFY.txt` for a run that began with approvals, which its record `from` names.
pub(super) fn verify_step(header: &RunHeader, from: u64) -> String {
    let mut out = format!(
        "{{N}}. Those whom the policy asked have signed exactly these documents, for this plan, before the run began. Who they are\n   \
         is what people.yaml of that day says; get the list of their keys from elsewhere (allowed_signers of ssh-keygen), and\n   \
         let APPROVERS name it.\n\n    \
         jq -r '.event.approvals | to_entries[] | \"\\(.value.document)  approvals/\\(.key + 1).json\", \
         \"\\(.value.signature)  approvals/\\(.key + 1).json.sig\"' records/{from}.json | sha256sum --strict --quiet -c -\n    \
         jq -r '.event | .policy + \"  policy/policy.yaml\", .people + \"  policy/people.yaml\"' records/{from}.json | \
         sha256sum --strict --quiet -c -\n"
    );
    let at = i64::try_from(header.started_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(String::new, |at| at.to_zoned(TimeZone::UTC).strftime("%Y%m%d%H%M%SZ").to_string());
    for (no, used) in header.approvals.iter().enumerate() {
        let document = document(no);
        let signer = &used.signer;
        out.push_str(&format!(
            "    ssh-keygen -Y verify -f \"${{APPROVERS:-{SIGNERS}}}\" -I '{signer}' -n '{NAMESPACE}' -O verify-time={at} \
             -s {document}.sig < {document}\n    \
             jq -e --arg plan \"$(sha256sum < plan/plan.json | cut -c-64)\" '.plan_sha256 == $plan and .made_ms <= {} and \
             {} < .valid_until_ms' {document} > \"$T/approved\"\n",
            header.started_ms, header.started_ms
        ));
    }
    out.push('\n');
    out
}
