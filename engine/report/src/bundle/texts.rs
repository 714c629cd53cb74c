//! `README.txt` and `VERIFY.txt`: what a bundle is, and the commands with which somebody who has neither our program nor
//! our word checks it. Each command is run by a test.

use runbook_model::HostOutcome;
use runbook_model::units::rfc3339_ms;

use crate::RunView;
use crate::json::LedgerHead;
use crate::style::words;
use crate::text::{count, escape_line};
use crate::view::RunState;

/// What the texts say of a bundle, beside what the run itself says.
pub struct Facts<'a> {
    /// The run.
    pub view: &'a RunView,
    /// The ledger's name.
    pub origin: &'a str,
    /// The signed head in the bundle.
    pub head: &'a LedgerHead,
    /// Who outside holds that head: `NAME (KIND)` each.
    pub anchors: &'a [String],
    /// The time stamps among the receipts.
    pub stamps: &'a [Stamp],
    /// Contents that a record names and that could not be put into the bundle: where, and why.
    pub missing: &'a [String],
    /// What is withheld, of a redacted edition.
    pub redacted: Option<String>,
    /// Files in which the text of a withheld line stands too.
    pub also_in: &'a [String],
}

/// A time stamp in a bundle (RFC 3161).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Its file.
    pub file: String,
    /// The file of the signed head that it is over.
    pub head: String,
    /// The time that it says (Unix seconds).
    pub time_s: u64,
}

/// `README.txt`.
pub fn readme(facts: &Facts<'_>) -> String {
    let view = facts.view;
    let run = view.run().map(ToString::to_string).unwrap_or_default();
    let (number, from, to) = (view.records, view.opened_seq.unwrap_or_default(), view.last_seq.unwrap_or_default());
    let outcome = match (view.state, view.outcome) {
        (RunState::Ended, Some(outcome)) => words(outcome.name()),
        (RunState::Suspended, Some(outcome)) => format!("{}, and waits for an operator", words(outcome.name())),
        _ => "has no end on record".to_owned(),
    };
    let mut out = format!(
        "EVIDENCE OF A MAINTENANCE RUN\n\
         \n\
         Run:       {run}\n\
         Runbook:   {} {}\n\
         Revision:  {}\n\
         Operator:  {}\n\
         Begun:     {}\n\
         Ended:     {}\n\
         Outcome:   {outcome}\n\
         Hosts:     {}\n\
         Records:   {number}, from {from} to {to}, of the ledger {}\n\
         Head:      {} records, Merkle root {}\n\
         Anchored:  {}\n\
         \n\
         report.html is for people: open it in a browser. VERIFY.txt says how to check all of this without the program that\n\
         made it. The key must come from elsewhere than this bundle: who could change the bundle could change the key in it.\n\
         \n\
         WHAT IS IN IT\n\
         \n\
         SHA256SUMS, .sig      every file's SHA-256, and the ledger key's signature over the list (OpenSSH, namespace\n\
         {:22}{})\n\
         run.json              the run with its hosts, steps and attempts (run/v1)\n\
         plan/plan.json        the plan exactly as it was hashed; plan/rendered: the exact command of each attempt\n\
         records/N.json        the sealed records of this run: exactly the ledger's entries, one line each, no line end\n\
         blobs/sha256          what records name by digest: commands, outputs, lists of files. An output begins with a line\n\
         {:22}that holds the seed of its salts\n\
         ledger/               the signed head, the tree's hash tiles (C2SP tlog-tiles), a proof for each record\n\
         {:22}(C2SP tlog-proof). Entries of other runs are private and not here; their hashes are\n\
         anchors/              receipts of those outside who hold the head, when there are any; or a later head, which\n\
         {:22}ledger/consistency-to-anchor.txt proves to go on from this one\n\
         policy/, approvals/   the policy and the people that it was asked with, and the approvals that the run began with,\n\
         {:22}each with its signature; when there were any\n\
         sessions/HOST.cast    recordings, made from the records: asciinema play sessions/HOST.cast\n\
         attest/               an in-toto layout with a link for each cell, and a signed statement about the run\n\
         oscal/                observations for each assessment objective (NIST SP 800-171A); no finding is claimed\n\
         cmmc/                 the two hash logs that a CMMC assessment asks for, over the files of this bundle\n\
         trust/                the public key in three forms. Get it from elsewhere to trust it\n\
         verify.py             a verifier in Python, standard library only, for convenience\n\
         \n\
         WHAT IT DOES NOT SHOW\n\
         \n\
         * That the key is the right one, unless you have it from elsewhere.\n\
         * That those who approved are who people.yaml of that day says: `approvals` in record {from} names what they signed;\n\
         {:2}empty: no policy asked for any. In attest/ the step `approve` is signed by the ledger's key and is\n\
         {:2}the ledger's own account of what was planned.\n\
         * True time: times are those of the controller's clock, whose state is in record {from}.\n\
         * What was done to the hosts outside of this run.\n",
        view.plan.runbook.name,
        quoted(&view.plan.runbook.title),
        view.header.as_ref().and_then(|header| header.revision.as_ref()).map_or_else(
            || "not on record".to_owned(),
            |revision| escape_line(crate::text::revision(revision).as_bytes())
        ),
        view.header.as_ref().map_or_else(String::new, |header| escape_line(header.operator.name.as_bytes())),
        rfc3339_ms(view.started_ms()),
        view.ended_ms.map_or_else(|| "-".to_owned(), rfc3339_ms),
        view.hosts.len(),
        facts.origin,
        facts.head.size,
        facts.head.root,
        if facts.anchors.is_empty() { "by nobody outside".to_owned() } else { facts.anchors.join(", ") },
        "",
        super::NAMESPACE,
        "",
        "",
        "",
        "",
        "",
        "",
    );
    if facts.anchors.is_empty() {
        out.push_str(
            "* That the ledger was not written anew by somebody with its key: nobody outside holds its head.\n",
        );
    }
    if view.state != RunState::Ended {
        out.push_str("* The run's end: it has none on record, so a verifier calls this incomplete.\n");
    }
    let cut_off = streams(view).filter(|output| output.cut_off_by.is_some()).count();
    if cut_off > 0 {
        out.push_str(&format!(
            "* All of {}: a service cut them off, and the rest never came.\n",
            count(cut_off, "output")
        ));
    }
    let truncated = streams(view).filter(|output| output.truncated && output.cut_off_by.is_none()).count();
    if truncated > 0 {
        out.push_str(&format!("* All of {}: only the beginning and the end are kept.\n", count(truncated, "output")));
    }
    let sensitive = streams(view).filter(|output| output.blob.is_none() && output.bytes > 0).count();
    if sensitive > 0 {
        out.push_str(&format!("* What is in {}: they are sensitive and were not kept.\n", count(sensitive, "output")));
    }
    if let Some(told) = &facts.redacted {
        out.push_str(&format!(
            "\nREDACTED\n\nThis is {told}. redactions.json says which, and which records say so, by whom and why;\n\
             outputs-redacted/ROOT.json has the rest of each output with the salts, and of a withheld line its hash alone: both\n\
             together have the root on record. In the report and in recordings a withheld line is a mark of its length.\n"
        ));
        for file in facts.also_in {
            out.push_str(&format!("* The text of a withheld line stands in {file} too, as something else.\n"));
        }
    }
    if !facts.missing.is_empty() {
        out.push_str("\nMISSING\n\nNamed by the records, and not in the store any more when this was exported:\n");
        for line in facts.missing {
            out.push_str(&format!("* {}\n", escape_line(line.as_bytes())));
        }
    }
    ascii(&out)
}

fn streams(view: &RunView) -> impl Iterator<Item = &runbook_model::OutputRef> {
    let attempts = view.hosts.values().flat_map(|host| host.steps.values()).flat_map(|step| &step.attempts);
    attempts.filter_map(|attempt| attempt.report.as_ref()).flat_map(|report| [&report.stdout, &report.stderr])
}

fn quoted(title: &str) -> String {
    if title.is_empty() { String::new() } else { format!("({})", escape_line(title.as_bytes())) }
}

/// Other characters than ASCII as question marks: some readers of plain text can do no more.
fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()
}

/// `VERIFY.txt`. Lines that are indented by four spaces are commands for bash; together they are a script in which no
/// command fails, for a run that succeeded.
pub fn verify_txt(facts: &Facts<'_>) -> String {
    let succeeded = facts.view.state == RunState::Ended && facts.view.outcome == Some(HostOutcome::Succeeded);
    let told = if succeeded {
        "This run succeeded, so it must end with 0: an edited, missing or failed cell is an error."
    } else {
        "This run did not succeed, so it must fail, and name the first cell that was not done or did not end well."
    };
    let good = if facts.redacted.is_some() { REDACTED } else { WHOLE };
    let mut steps = VERIFY_RUN.replace("{IN-TOTO}", told);
    if let Some(header) = facts.view.header.as_ref().filter(|header| !header.approvals.is_empty()) {
        let step = next_step(&format!("{VERIFY}{steps}"));
        let from = facts.view.opened_seq.unwrap_or_default();
        steps.push_str(&super::approvals::verify_step(header, from).replace("{N}", &step.to_string()));
    }
    commands(facts.origin, &steps, facts.stamps, good)
}

/// What `verify.py` ends with for a bundle from which nothing is missing.
const WHOLE: &str = "-lt 12";
/// The same, when something is withheld or was removed on record.
pub(super) const REDACTED: &str = "= 13";

/// The text with what stands between the steps that every bundle has.
pub(super) fn commands(origin: &str, steps: &str, stamps: &[Stamp], good: &str) -> String {
    let mut text = format!("{VERIFY}{steps}");
    let mut step = next_step(&text);
    if !stamps.is_empty() {
        text.push_str(&format!(
            "{step}. Somebody outside stamped a head at the time that is said. Get the certificates of the authority from elsewhere\n   \
             and let TSA_CA name their file: without it these commands check nothing. That a later head than this bundle's goes\n   \
             on from it, verify.py checks (ledger/consistency-to-anchor.txt).\n\n"
        ));
        for Stamp { file, head, time_s } in stamps {
            text.push_str(&format!(
                "    [ -z \"${{TSA_CA:-}}\" ] || openssl ts -verify -data {head} -in {file} -CAfile \"$TSA_CA\" -attime {time_s}\n"
            ));
        }
        text.push('\n');
        step += 1;
    }
    text.push_str(&VERIFY_END.replace("{N}", &step.to_string()));
    text.replace("{ORIGIN}", origin).replace("{NAMESPACE}", super::NAMESPACE).replace("{GOOD}", good)
}

/// The number of the step that comes after these.
fn next_step(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).count() + 1
}

const VERIFY: &str = include_str!("verify.txt");
const VERIFY_RUN: &str = include_str!("verify-run.txt");
const VERIFY_END: &str = include_str!("verify-end.txt");
