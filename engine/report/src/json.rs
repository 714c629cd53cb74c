//! The documents `run/v1` and `runs/v1`: what other programs read. Fields are only ever added.

use std::collections::BTreeMap;

use runbook_model::approval::Used;
use runbook_model::event::{ClockState, Person, Revision, Transfer};
use runbook_model::host::{AuthMethod, PeerIdentity, Secured, ToldBy};
use runbook_model::manifest::Change;
use runbook_model::outcome::{AttemptOutcome, Ended, Exit, HostOutcome, OutputRef};
use runbook_model::plan::{Role, Step};
use runbook_model::rules::Owed;
use runbook_model::ticket::Seen;
use runbook_model::units::rfc3339_ms;
use runbook_model::{HostName, Phase, Sha256, StepId};
use schemars::JsonSchema;
use serde::Serialize;

use crate::access::{self, AccessDocument, WithdrawalDocument};
use crate::list::{LineState, RunLine};
use crate::matrix::{Row, rows};
use crate::monitoring::MonitoringDocument;
pub use crate::outside::{AnchorLine, RedactionLine};
use crate::rehearsal;
use crate::session;
use crate::view::{AttemptView, Closed, HostView, RunState, RunView};

/// What a view needs beside the records: contents that the records only name.
#[derive(Debug, Clone, Default)]
pub struct Attachments {
    /// What the changes blobs hold, by their digest. One that is not here is shown as not readable.
    pub changes: BTreeMap<Sha256, Vec<Change>>,
    /// What the lists of moved files hold, by their blob's digest. One that is not here is shown as not readable.
    pub transfers: BTreeMap<Sha256, Vec<Transfer>>,
    /// Digests of what is kept of outputs, by their blob's digest. The record does not have them: see
    /// [`OutputRef`].
    pub digests: BTreeMap<Sha256, Sha256>,
    /// The ends of outputs of attempts that failed (see [`crate::summary::failed_output`]), by their blob's digest.
    pub said: BTreeMap<Sha256, Vec<u8>>,
    /// The ledger's head that covers the run.
    pub ledger: Option<LedgerHead>,
    /// The run is open, and no program works on it: the one that did has died.
    pub interrupted: bool,
    /// Those outside who are given the ledger's heads.
    pub anchors: Vec<AnchorLine>,
    /// What is withheld of outputs in redacted editions, oldest first.
    pub redactions: Vec<RedactionLine>,
    /// The reviews of the run, oldest first.
    pub reviews: Vec<ReviewLine>,
    /// Where the reviews that it owes stand now, in words.
    pub review_stands: Option<String>,
}

/// A review of the run after its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReviewLine {
    /// Whose, by the short name in `people.yaml`.
    pub signer: String,
    /// `accepted` or `follow-up`.
    pub verdict: &'static str,
    /// Why; for a follow-up, what is to be done.
    pub reason: String,
    /// When it was signed (RFC 3339).
    pub made_at: String,
    /// When it was put on record.
    pub taken_in_at: String,
    /// The record that says so.
    pub record: u64,
    /// SHA-256 of what was signed.
    pub document_sha256: String,
    /// SHA-256 of the signature.
    pub signature_sha256: String,
    /// Why it does not count; null: it does.
    pub problem: Option<String>,
}

impl ReviewLine {
    /// In one line, for people.
    pub fn told(&self) -> String {
        let problem = self.problem.as_ref().map(|why| format!(" (does not count: {why})")).unwrap_or_default();
        format!("{} by {} at {}{problem}: {}", self.verdict, self.signer, self.made_at, self.reason)
    }
}

/// Where the ledger stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LedgerHead {
    /// Records in it.
    pub size: u64,
    /// Merkle root of them.
    pub root: String,
}

/// An approval that the run began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ApprovalLine {
    /// Whose, by the short name in `people.yaml`.
    pub signer: String,
    /// SHA-256 of what was signed.
    pub document_sha256: String,
    /// SHA-256 of the signature.
    pub signature_sha256: String,
}

fn approval_line(used: &Used) -> ApprovalLine {
    ApprovalLine {
        signer: used.signer.clone(),
        document_sha256: used.document.to_string(),
        signature_sha256: used.signature.to_string(),
    }
}

/// What a rehearsal proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RehearsalDocument {
    /// What its plan is, hosts aside.
    pub rehearsal_sha256: String,
    /// Every host was changed, verified, taken back and verified.
    pub proves: bool,
    /// Why it proves nothing.
    pub faults: Vec<String>,
}

/// A rehearsal that a run needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RehearsedLine {
    /// The run that was the rehearsal.
    pub run_id: String,
    /// What both plans are, hosts aside.
    pub rehearsal_sha256: String,
    /// When it ended.
    pub ended_at: String,
}

/// `run/v1`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunDocument {
    /// `run/v1`.
    pub schema: &'static str,
    /// The run.
    pub run_id: String,
    /// The runbook's name.
    pub runbook: String,
    /// Its title.
    pub title: String,
    /// Its tier.
    pub tier: &'static str,
    /// SHA-256 of the plan's canonical JSON.
    pub plan_digest: String,
    /// The account that ran it (the one behind sudo).
    pub operator: String,
    /// The change ticket.
    pub ticket: Option<String>,
    /// The occurrence of a schedule that it is the run of, `NAME@TIME`; null: somebody asked for it.
    pub occurrence: Option<String>,
    /// Why windows, blackouts and freezes were set aside, each time that they were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub break_glass: Vec<String>,
    /// SHA-256 of the times at which hosts could be begun, as they were when the run was opened; null: at any time.
    pub permit_sha256: Option<String>,
    /// What was allowed became another while the run went on, each time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub permit_changes: Vec<PermitLine>,
    /// SHA-256 of the policy under which it was opened; null: no policy.
    pub policy_sha256: Option<String>,
    /// The approvals that the policy asked for.
    pub approvals: Vec<ApprovalLine>,
    /// Why it was run.
    pub reason: Option<String>,
    /// The reviews that it owed after its end, when it was opened.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub reviews_owed: Vec<Owed>,
    /// The reviews on record, oldest first. Not in a bundle: they are records of later.
    pub reviews: Vec<ReviewLine>,
    /// Only the prechecks were run.
    pub check_only: bool,
    /// It was a rehearsal, and what that proves; null: it was none.
    pub rehearsal: Option<RehearsalDocument>,
    /// The rehearsal that the policy asked for.
    pub rehearsed: Option<RehearsedLine>,
    /// The change that the ticket is of, as it stood when the run was opened; null: nobody was asked.
    #[schemars(with = "Option<serde_json::Value>")]
    pub change: Option<Seen>,
    /// The finished run that this one takes back.
    pub takes_back: Option<String>,
    /// `running`, `interrupted` (its program has died), `suspended` (it waits for an operator) or `ended`.
    pub state: &'static str,
    /// RFC 3339, UTC, milliseconds.
    pub started_at: String,
    /// The same; null while it has not ended.
    pub ended_at: Option<String>,
    /// As things stand when it is suspended; null while it runs.
    pub outcome: Option<&'static str>,
    /// The program's exit code for that outcome.
    pub exit_code: Option<u8>,
    /// Who asked to cancel.
    pub cancelled_by: Option<String>,
    /// How often it was taken up again.
    pub resumed: usize,
    /// The version of the engine.
    pub engine_version: String,
    /// SHA-256 of the engine's own executable, when the run was opened.
    pub engine_sha256: Option<String>,
    /// The machine that it ran on.
    pub controller: Option<String>,
    /// The state of that machine's clock when the run was opened, and when it ended.
    pub clock: ClockDocument,
    /// Where the runbook's file stood under version control; null: nowhere that is known.
    #[schemars(with = "Option<serde_json::Value>")]
    pub revision: Option<Revision>,
    /// What the inventory was read from: `kind`, `from`, `sha256` (its bytes are kept under it), `asked_ms`, `hosts`, and
    /// `withheld` when it holds a password and is not kept.
    #[schemars(with = "Vec<serde_json::Value>")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inventory_sources: Vec<runbook_model::origin::Origin>,
    /// SHA-256 of the project's settings when the run was opened.
    pub settings_sha256: Option<String>,
    /// What was muted in monitoring systems, and whether that is over.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub monitoring: Vec<MonitoringDocument>,
    /// The hosts, by name.
    pub hosts: Vec<HostDocument>,
    /// The ledger that covers it.
    pub ledger: Option<LedgerHead>,
    /// Those outside who are given the ledger's heads, by name.
    pub anchors: Vec<AnchorLine>,
    /// What is withheld of outputs in redacted editions, oldest first.
    pub redactions: Vec<RedactionLine>,
}

/// In `run/v1`: what was allowed from a moment on.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PermitLine {
    /// When it was recorded.
    pub at: String,
    /// SHA-256 of the times at which hosts could be begun from then on; null: at any time.
    pub permit_sha256: Option<String>,
}

/// In `run/v1`: that a host was stopped before the end of its window.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CutOffDocument {
    /// When.
    pub at: String,
    /// When its time ends.
    pub ends_at: String,
    /// Names of its windows; empty when only blackouts or freezes were for it.
    pub windows: Vec<String>,
}

/// In `run/v1`: the state of the controller's clock. Null where it is not on record.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ClockDocument {
    /// When the run was opened.
    #[schemars(with = "Option<serde_json::Value>")]
    pub at_start: Option<ClockState>,
    /// When it ended.
    #[schemars(with = "Option<serde_json::Value>")]
    pub at_end: Option<ClockState>,
    /// How far clocks might be off at most, by the policy; null: any.
    pub max_offset_ms: Option<u64>,
}

/// A host in `run/v1`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct HostDocument {
    /// Its name in the inventory.
    pub name: String,
    /// Null while it is open, or when the run ended without starting it.
    pub outcome: Option<&'static str>,
    /// Why.
    pub reason: Option<String>,
    /// Counted from 1.
    pub batch: usize,
    /// The phase that it is in.
    pub phase: Option<&'static str>,
    /// That it was stopped before the end of its window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut_off: Option<CutOffDocument>,
    /// When it was first connected to.
    pub started_at: Option<String>,
    /// When it ended.
    pub ended_at: Option<String>,
    /// The account that logged in.
    pub account: Option<String>,
    /// The host key's fingerprint.
    pub peer_key: Option<String>,
    /// How the session to it was opened; null when none was, or the record does not say.
    pub session: Option<SessionDocument>,
    /// Access that it was given for the run, by each controller.
    pub access: Vec<AccessDocument>,
    /// How the sessions to it ended, oldest first.
    pub closed: Vec<ClosedDocument>,
    /// One entry per attempt; a cell without an attempt has one entry with attempt 0.
    pub steps: Vec<StepDocument>,
}

/// In `run/v1`: how a session was opened.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SessionDocument {
    /// `ssh`, `local`.
    pub transport: String,
    /// Every method of the login, with what was shown, in order.
    pub methods: Vec<String>,
    /// Who says so: `host` (its server accepted them), `client` (ours says that they were accepted); null: nobody.
    pub methods_told_by: Option<&'static str>,
    /// Key exchange; null when it is not known, as the three below.
    pub key_exchange: Option<String>,
    /// Cipher, towards the host and from it when they differ.
    pub cipher: Option<String>,
    /// Message authentication.
    pub mac: Option<String>,
    /// The kind of host key.
    pub host_key_algorithm: Option<String>,
    /// What the host's server calls itself.
    pub software: Option<String>,
    /// Hosts on the way, nearest first.
    pub hops: Vec<String>,
}

/// In `run/v1`: how the sessions to a host ended.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ClosedDocument {
    /// `closed`, `open` (something of it is left: see `what`) or `unknown` (not all of its end is known).
    pub state: &'static str,
    /// What is known of it, in a sentence.
    pub what: String,
    /// Attempts carried out over it.
    pub attempts: u64,
    /// When the first connection was opened.
    pub opened_at: Option<String>,
    /// When the last was closed.
    pub closed_at: Option<String>,
    /// Connections that were opened.
    pub connections: u64,
    /// When the host was asked what is left; null when it could not be.
    pub asked_at: Option<String>,
    /// It was asked over a connection of its own, after the others had been closed.
    pub asked_afterwards: bool,
    /// How the access ended that the host had been given; null when it had none.
    pub access: Option<WithdrawalDocument>,
}

/// An attempt, or a cell without one, in `run/v1`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct StepDocument {
    /// The step.
    pub id: String,
    /// Its phase.
    pub phase: &'static str,
    /// Shown to people.
    pub name: String,
    /// Counted from 1; 0 for a cell that was not attempted.
    pub attempt: u32,
    /// `succeeded, failed, skipped, timed_out, unknown, not_started`; null while it is open.
    pub outcome: Option<&'static str>,
    /// What was observed, where an operator settled it otherwise.
    pub observed: Option<&'static str>,
    /// Exit code; null when it did not exit by itself.
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// When the start was recorded.
    pub started_at: Option<String>,
    /// When the end was known.
    pub ended_at: Option<String>,
    /// By the monotonic clock.
    pub duration_ms: Option<u64>,
    /// Of the exact bytes of the command or script after templating.
    pub command_sha256: Option<String>,
    /// Of the template's text.
    pub template_sha256: Option<String>,
    /// Names that the template used; never what they stood for.
    pub variables: Vec<String>,
    /// The account that the step became.
    pub account: Option<String>,
    /// Standard output.
    pub stdout: Option<OutputDocument>,
    /// Standard error.
    pub stderr: Option<OutputDocument>,
    /// Paths that the step changed, of those that it declares; on its last attempt.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub changes: Vec<Change>,
    /// False when changes were made and their list cannot be read from this store.
    pub changes_known: bool,
    /// Files that this attempt sent to the host or fetched from it: `direction`, `path`, `sha256`, `bytes`, and of a file
    /// that was fetched the `blob` with its content.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub transfers: Vec<Transfer>,
    /// False when files were moved and their list cannot be read from this store.
    pub transfers_known: bool,
    /// Why: the rule that decided it, the cause of a skip, what was not reached and why; null for a plain success.
    pub reason: Option<String>,
    /// That it was lost; null when it never was.
    pub lost: Option<LostDocument>,
    /// Why it was tried again after this attempt.
    pub retried: Option<String>,
    /// The host on which a `once` step was really done.
    pub done_on: Option<String>,
    /// The snapshot's reference.
    pub snapshot: Option<String>,
    /// Who settled an unknown outcome.
    pub resolved_by: Option<String>,
    /// False: the record has no outcome for this cell.
    pub recorded: bool,
}

/// In `run/v1`: that an attempt's host, connection or controller was lost.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LostDocument {
    /// Since when.
    pub since: String,
    /// Until when it was, or is, asked after at most.
    pub until: String,
    /// It had not begun, and its host was waited for.
    pub not_begun: bool,
    /// What happened.
    pub reason: String,
}

/// An output stream in `run/v1`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OutputDocument {
    /// Of the whole stream, as far as it came; null when nothing of it is kept.
    pub sha256: Option<String>,
    /// On record: the Merkle root over the stream's salted segments; null when there is none.
    pub root: Option<String>,
    /// Length of the whole stream, as far as it came.
    pub bytes: u64,
    /// Only head and tail are kept, or not all of it came.
    pub truncated: bool,
    /// The service that passed on a part of the stream only; null when all of it came.
    pub cut_off_by: Option<String>,
    /// The blob with what is kept.
    pub blob: Option<String>,
    /// How often a secret was masked.
    pub masked: u32,
}

impl OutputDocument {
    /// `content`: the digest of what is kept, where the record does not have it.
    pub(crate) fn of(output: &OutputRef, content: Option<Sha256>) -> Self {
        let sha256 = match output.sha256 {
            Some(sha256) => Some(sha256),
            None if output.bytes == 0 => Some(Sha256::of(b"")),
            None => content,
        };
        Self {
            sha256: sha256.map(|sha256| sha256.to_string()),
            root: output.root.map(|root| root.to_string()),
            bytes: output.bytes,
            truncated: output.truncated,
            cut_off_by: output.cut_off_by.clone(),
            blob: output.blob.map(|blob| blob.to_string()),
            masked: output.masked,
        }
    }
}

/// `run/v1` of a run; with `host`, of that host alone.
pub fn run(view: &RunView, attachments: &Attachments, host: Option<&HostName>) -> RunDocument {
    let header = view.header.as_ref();
    RunDocument {
        schema: "run/v1",
        run_id: view.run().map(ToString::to_string).unwrap_or_default(),
        runbook: view.plan.runbook.name.clone(),
        title: view.plan.runbook.title.clone(),
        tier: view.plan.runbook.tier.name(),
        plan_digest: header.map_or_else(|| view.plan.digest(), |header| header.plan_sha256).to_string(),
        operator: header.map(|header| header.operator.name.clone()).unwrap_or_default(),
        ticket: header.and_then(|header| header.ticket.clone()),
        occurrence: header.and_then(|header| header.occurrence.as_ref().map(ToString::to_string)),
        break_glass: view.break_glass.clone(),
        permit_sha256: header.and_then(|header| header.permit.map(|permit| permit.to_string())),
        permit_changes: view.permits.iter().map(permit_line).collect(),
        policy_sha256: header.and_then(|header| header.policy.map(|policy| policy.to_string())),
        approvals: header.map(|header| header.approvals.iter().map(approval_line).collect()).unwrap_or_default(),
        reason: header.and_then(|header| header.reason.clone()),
        reviews_owed: header.map(|header| header.reviews.clone()).unwrap_or_default(),
        reviews: attachments.reviews.clone(),
        check_only: header.is_some_and(|header| header.check_only),
        rehearsal: header.filter(|header| header.rehearses).map(|_| {
            let faults = rehearsal::faults(view);
            let sha256 = runbook_model::rehearsal::digest(&view.plan).to_string();
            RehearsalDocument { rehearsal_sha256: sha256, proves: faults.is_empty(), faults }
        }),
        rehearsed: header.and_then(|header| header.rehearsed.as_ref()).map(|used| RehearsedLine {
            run_id: used.run.to_string(),
            rehearsal_sha256: used.rehearsal_sha256.to_string(),
            ended_at: rfc3339_ms(used.ended_ms),
        }),
        change: header.and_then(|header| header.change.as_deref().cloned()),
        takes_back: header.and_then(|header| header.takes_back.as_ref().map(ToString::to_string)),
        state: match view.state {
            RunState::Running if attachments.interrupted => LineState::Interrupted.name(),
            state => state.name(),
        },
        started_at: rfc3339_ms(view.started_ms()),
        ended_at: view.ended_ms.map(rfc3339_ms),
        outcome: view.outcome.map(HostOutcome::name),
        exit_code: view.outcome.map(HostOutcome::exit_code),
        cancelled_by: view.cancel.as_ref().map(|(by, _)| by.name.clone()),
        resumed: view.resumed.len(),
        engine_version: header.map(|header| header.engine_version.clone()).unwrap_or_default(),
        engine_sha256: header.map(|header| header.engine_sha256.to_string()),
        controller: header.map(|header| header.controller.clone()),
        clock: ClockDocument {
            at_start: header.map(|header| header.clock.clone()),
            at_end: view.clock_at_end.clone(),
            max_offset_ms: header.and_then(|header| header.clock_max_offset_ms),
        },
        revision: header.and_then(|header| header.revision.clone()),
        inventory_sources: header.map(|header| header.inventory_sources.clone()).unwrap_or_default(),
        settings_sha256: header.and_then(|header| header.settings_sha256.map(|sha256| sha256.to_string())),
        monitoring: crate::monitoring::documents(view),
        hosts: view
            .hosts
            .iter()
            .filter(|(name, _)| host.is_none_or(|wanted| wanted == *name))
            .map(|(name, host)| host_document(view, attachments, name, host))
            .collect(),
        ledger: attachments.ledger.clone(),
        anchors: attachments.anchors.clone(),
        redactions: attachments
            .redactions
            .iter()
            .filter(|redaction| host.is_none_or(|wanted| wanted.as_str() == redaction.host))
            .cloned()
            .collect(),
    }
}

fn permit_line((permit, at_ms, _): &(Option<Sha256>, u64, u64)) -> PermitLine {
    PermitLine { at: rfc3339_ms(*at_ms), permit_sha256: permit.map(|permit| permit.to_string()) }
}

fn host_document(view: &RunView, attachments: &Attachments, name: &HostName, host: &HostView) -> HostDocument {
    let mut steps = Vec::new();
    for row in rows(view, host) {
        let attempts = row.view.map_or(&[][..], |view| &view.attempts);
        match attempts {
            [] => steps.push(step_document(view, attachments, &row, None, true)),
            attempts => {
                for (i, attempt) in attempts.iter().enumerate() {
                    let last = i + 1 == attempts.len();
                    steps.push(step_document(view, attachments, &row, Some(attempt), last));
                }
            }
        }
    }
    HostDocument {
        name: name.to_string(),
        outcome: host.outcome.map(HostOutcome::name),
        reason: text(&host.reason),
        batch: host.batch + 1,
        phase: host.phase.map(Phase::name),
        cut_off: host.cut_off.as_ref().map(|cut| CutOffDocument {
            at: rfc3339_ms(cut.at_ms),
            ends_at: rfc3339_ms(cut.ends_ms),
            windows: cut.windows.clone(),
        }),
        started_at: host.started_ms.map(rfc3339_ms),
        ended_at: host.ended_ms.map(rfc3339_ms),
        account: host.identity.as_ref().and_then(|identity| text(&identity.account)),
        peer_key: host.identity.as_ref().and_then(|identity| text(&identity.peer_key)),
        session: host.identity.as_ref().map(session_document),
        access: host.access.iter().map(access::document).collect(),
        closed: host.closed.iter().map(closed_document).collect(),
        steps,
    }
}

fn session_document(identity: &PeerIdentity) -> SessionDocument {
    let secured = |of: fn(&Secured) -> &String| identity.secured.as_ref().and_then(|secured| text(of(secured)));
    SessionDocument {
        transport: identity.transport.clone(),
        methods: match identity.methods.as_slice() {
            [] => text(&identity.authenticated_by).into_iter().collect(),
            methods => methods.iter().map(AuthMethod::text).collect(),
        },
        methods_told_by: identity.methods_told_by.map(|by| match by {
            ToldBy::Host => "host",
            ToldBy::Client => "client",
        }),
        key_exchange: secured(|secured| &secured.key_exchange),
        cipher: secured(|secured| &secured.cipher),
        mac: secured(|secured| &secured.mac),
        host_key_algorithm: secured(|secured| &secured.host_key_algorithm),
        software: identity.software.clone(),
        hops: session::hops(identity),
    }
}

fn closed_document(closed: &Closed) -> ClosedDocument {
    let close = &closed.close;
    let (what, good) = session::end(close);
    ClosedDocument {
        state: match (close.left().is_some(), good) {
            (true, _) => "open",
            (false, true) => "closed",
            (false, false) => "unknown",
        },
        what,
        attempts: close.attempts,
        opened_at: close.connections.first().map(|connection| rfc3339_ms(connection.opened_ms)),
        closed_at: close.connections.last().and_then(|connection| connection.closed_ms).map(rfc3339_ms),
        connections: close.connections.len() as u64 + close.unnamed,
        asked_at: close.look.at_ms.map(rfc3339_ms),
        asked_afterwards: close.look.afterwards,
        access: close.access.as_deref().map(access::withdrawal_document),
    }
}

fn step_document(
    view: &RunView,
    attachments: &Attachments,
    row: &Row<'_>,
    attempt: Option<&AttemptView>,
    last: bool,
) -> StepDocument {
    let report = attempt.and_then(|attempt| attempt.report.as_ref());
    let (exit_code, signal) = match report.map(|report| &report.ended) {
        Some(Ended::Exited { exit: Exit::Code(code), .. }) => (Some(*code), None),
        Some(Ended::Exited { exit: Exit::Signal(signal), .. }) => (None, Some(*signal)),
        _ => (None, None),
    };
    let observed = attempt.and_then(|attempt| attempt.outcome);
    let open = view.state == RunState::Running;
    // What counts is the cell's outcome; earlier attempts keep their own.
    let outcome = if last { row.outcome } else { observed.or((!open).then_some(AttemptOutcome::Unknown)) };
    let cell = row.view.filter(|_| last);
    let changes = cell.and_then(|cell| cell.changes);
    let known = changes.map(|digest| attachments.changes.get(&digest));
    let moved = report.and_then(|report| report.transfers).map(|digest| attachments.transfers.get(&digest));
    let stream = |output: &OutputRef| {
        let content = output.blob.and_then(|blob| attachments.digests.get(&blob));
        OutputDocument::of(output, content.copied())
    };
    StepDocument {
        id: row.step.id.to_string(),
        phase: row.step.phase.name(),
        name: row.step.name.clone(),
        attempt: attempt.map_or(0, |attempt| attempt.attempt),
        outcome: outcome.map(AttemptOutcome::name),
        observed: observed.filter(|observed| Some(*observed) != outcome).map(AttemptOutcome::name),
        exit_code,
        signal,
        started_at: attempt.map(|attempt| rfc3339_ms(attempt.started_ms)),
        ended_at: report.map(|report| rfc3339_ms(report.ended_ms)),
        duration_ms: report.map(|report| report.duration_ms),
        command_sha256: attempt.map(|attempt| attempt.intent.command_sha256.to_string()),
        template_sha256: attempt.map(|attempt| attempt.intent.template_sha256.to_string()),
        variables: attempt.map(|attempt| attempt.intent.variables.clone()).unwrap_or_default(),
        account: attempt.and_then(|attempt| attempt.intent.account.clone()),
        stdout: report.map(|report| stream(&report.stdout)),
        stderr: report.map(|report| stream(&report.stderr)),
        changes: known.flatten().cloned().unwrap_or_default(),
        transfers: moved.flatten().cloned().unwrap_or_default(),
        transfers_known: !matches!(moved, Some(None)),
        changes_known: !matches!(known, Some(None)) && cell.is_none_or(|cell| cell.unmeasured.is_none()),
        reason: if last { cell_reason(row) } else { attempt.and_then(attempt_reason) },
        lost: attempt.and_then(|attempt| attempt.lost.as_ref()).map(|lost| LostDocument {
            since: rfc3339_ms(lost.since_ms),
            until: rfc3339_ms(lost.until_ms),
            not_begun: lost.not_begun,
            reason: lost.reason.clone(),
        }),
        retried: attempt.and_then(|attempt| attempt.retried.clone()),
        done_on: cell.and_then(|cell| cell.done_on.as_ref().map(ToString::to_string)),
        snapshot: cell.and_then(|cell| cell.snapshot.clone()),
        resolved_by: cell.and_then(|cell| cell.resolved.as_ref().map(|resolved| resolved.by.name.clone())),
        recorded: row.recorded,
    }
}

/// Why a cell has its outcome: the operator's word, the rule, or what was observed.
pub(crate) fn cell_reason(row: &Row<'_>) -> Option<String> {
    let resolved = row.view.and_then(|view| view.resolved.as_ref());
    if let Some(resolved) = resolved {
        let said = if resolved.succeeded { "succeeded" } else { "failed" };
        return Some(format!("settled as {said} by {}: {}", resolved.by.name, resolved.why));
    }
    text(&row.reason).or_else(|| {
        let attempt = row.view.and_then(|view| view.attempts.last())?;
        attempt_reason(attempt)
    })
}

/// What the attempt's report says of why it did not succeed.
pub(crate) fn attempt_reason(attempt: &AttemptView) -> Option<String> {
    let report = attempt.report.as_ref()?;
    match &report.ended {
        Ended::Exited { unmet, .. } => unmet.first().cloned(),
        Ended::NotStarted { obstacle } => Some(obstacle.message.clone()),
        Ended::Killed { by: runbook_model::outcome::KilledBy::Timeout } => {
            Some("it took too long, was ended and is proved gone".into())
        }
        Ended::Killed { by: runbook_model::outcome::KilledBy::Cancel } => {
            Some("it was ended, for the run was cancelled or its host taken back, and is proved gone".into())
        }
        Ended::Unknown { reason } => Some(reason.clone()),
    }
}

fn text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// `runs/v1`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunsDocument {
    /// `runs/v1`.
    pub schema: &'static str,
    /// The runs, oldest first.
    pub runs: Vec<RunEntry>,
}

/// A run in `runs/v1`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunEntry {
    /// The run.
    pub run_id: String,
    /// The runbook's name.
    pub runbook: String,
    /// SHA-256 of the plan.
    pub plan_digest: String,
    /// `running`, `interrupted` (its program has died), `suspended` or `ended`.
    pub state: &'static str,
    /// Null while it runs.
    pub outcome: Option<&'static str>,
    /// The program's exit code for that outcome.
    pub exit_code: Option<u8>,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Null while it has not ended.
    pub ended_at: Option<String>,
    /// The account that ran it.
    pub operator: String,
    /// The change ticket.
    pub ticket: Option<String>,
    /// Where the review that it owes stands: `due`, `overdue`, `running` or `done`; null: it owes none.
    pub review: Option<&'static str>,
}

/// `runs/v1`.
pub fn runs(lines: &[RunLine]) -> RunsDocument {
    let entry = |line: &RunLine| RunEntry {
        run_id: line.header.run.to_string(),
        runbook: line.header.runbook.clone(),
        plan_digest: line.header.plan_sha256.to_string(),
        state: line.state.name(),
        outcome: line.outcome.map(HostOutcome::name),
        exit_code: line.outcome.map(HostOutcome::exit_code),
        started_at: rfc3339_ms(line.header.started_ms),
        ended_at: line.ended_ms.map(rfc3339_ms),
        operator: line.header.operator.name.clone(),
        ticket: line.header.ticket.clone(),
        review: line.review,
    };
    RunsDocument { schema: "runs/v1", runs: lines.iter().map(entry).collect() }
}

/// A snapshot that a run took.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct SnapshotEntry {
    /// The run that took it.
    pub run_id: String,
    /// On this host.
    pub host: String,
    /// By this step.
    pub step: String,
    /// What `take` printed.
    pub reference: String,
    /// When (RFC 3339).
    pub taken_at: String,
    /// How long ago, in milliseconds.
    pub age_ms: u64,
    /// The account that ran the run.
    pub owner: String,
    /// From when on it counts as expired.
    pub expires_at: String,
    /// That time is past.
    pub expired: bool,
}

/// The snapshots of a run that were taken and not released, with the time at which each was taken (Unix ms).
pub fn snapshots(view: &RunView) -> Vec<(HostName, StepId, String, u64)> {
    let takes = |step: &&Step| step.role == Role::Take;
    let mut out = Vec::new();
    for (name, host) in &view.hosts {
        for step in view.plan.steps.iter().filter(takes) {
            let Some(cell) = host.steps.get(&step.id) else { continue };
            // Released on request, or because the host was blocked in `snapshot`.
            let released = view.plan.steps.iter().any(|other| {
                let succeeded = |cell: &crate::view::StepView| cell.outcome == Some(AttemptOutcome::Succeeded);
                other.role == Role::Release { of: step.id.clone() } && host.steps.get(&other.id).is_some_and(succeeded)
            });
            if let (Some(reference), None, false) = (&cell.snapshot, &cell.released, released) {
                out.push((name.clone(), step.id.clone(), reference.clone(), cell.ended_ms.unwrap_or(view.last_ms)));
            }
        }
    }
    out
}

/// The JSON Schema of `run/v1`.
pub fn schema_of_run() -> serde_json::Value {
    schemars::schema_for!(RunDocument).into()
}

/// The JSON Schema of `runs/v1`.
pub fn schema_of_runs() -> serde_json::Value {
    schemars::schema_for!(RunsDocument).into()
}

/// Who did it, in one word or two.
pub fn person(by: &Person) -> String {
    match &by.from {
        Some(from) => format!("{} (from {from})", by.name),
        None => by.name.clone(),
    }
}
