//! `approve`, `reject`: a person decides about a plan, and signs exactly what is shown.

use std::path::{Path, PathBuf};

use runbook_model::approval::{Approval, Decision, NAMESPACE, SCHEMA};
use runbook_model::plan::Plan;
use runbook_model::units::{parse_duration_ms, rfc3339_ms};
use runbook_model::{Notice, Sha256};
use runbook_plan::Preview;
use runbook_store::SqliteStore;
use serde_json::json;

use crate::arguments::rules::{Approve, Reject, Signing};
use crate::authority::Windows;
use crate::failure::{Failure, REFUSED};
use crate::output::{self, Output, note};
use crate::policy::{self, Staff};
use crate::project::Project;
use crate::signing::{self, Paper};
use crate::{keys, notices, person, record, sources};

/// Runs `approve`.
pub(crate) async fn approve(project: &Project, arguments: &Approve, output: Output) -> Result<u8, Failure> {
    let valid_ms = parse_duration_ms(&arguments.valid_for)
        .map_err(|error| Failure::usage("RB0617", format!("--valid-for: {error}")))?;
    let what =
        What { decision: Decision::Approve, signing: &arguments.signing, reason: arguments.reason.trim(), valid_ms };
    decide(project, what, output).await
}

/// Runs `reject`.
pub(crate) async fn reject(project: &Project, arguments: &Reject, output: Output) -> Result<u8, Failure> {
    let reason = arguments.reason.trim();
    if reason.is_empty() {
        return Err(Failure::usage("RB0617", "--reason is empty; say why it must not be run"));
    }
    let what = What {
        decision: Decision::Reject,
        signing: &arguments.signing,
        reason,
        // It does not expire: the plan is not better later.
        valid_ms: 0,
    };
    decide(project, what, output).await
}

struct What<'a> {
    decision: Decision,
    signing: &'a Signing,
    reason: &'a str,
    valid_ms: u64,
}

async fn decide(project: &Project, what: What<'_>, output: Output) -> Result<u8, Failure> {
    let palette = output.error_palette;
    let folder = policy::folder(project)?;
    let plan = sources::plan_or_saved(project, &what.signing.file, &what.signing.sources, palette)?;
    let staff = Staff::must(project, palette)?;
    let (id, member) = signing::signer(&staff, what.signing.signer.person.as_deref())?;
    let windows = Windows::of(project, palette)?.map(|windows| windows.sha256);
    let store = record::open_existing(project).await?;
    let made_ms = u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0);
    let document = Approval {
        schema: SCHEMA.to_owned(),
        decision: what.decision,
        runbook: plan.runbook.name.clone(),
        tier: plan.runbook.tier,
        plan_sha256: plan.digest(),
        hosts_sha256: Approval::hosts_of(&plan),
        parameters_sha256: Approval::parameters_of(&plan),
        windows_sha256: windows,
        reason: what.reason.to_owned(),
        made_ms,
        valid_until_ms: made_ms.saturating_add(what.valid_ms),
        nonce: signing::nonce()?,
        ledger: signing::seen(project, store.as_ref()).await?,
        signer: id.to_owned(),
    };
    note(shown(&plan, &document, store.as_ref()).await?);
    let verb = match what.decision {
        Decision::Approve => "Approve",
        Decision::Reject => "Reject",
    };
    let bytes = document.bytes();
    let paper = Paper { namespace: NAMESPACE, bytes: &bytes, command: "approvals" };
    let question = format!("\n{verb} this as {}?", member.name);
    let Some(armored) = signing::obtain(project, &what.signing.signer, member, paper, &question, output)? else {
        return Ok(0);
    };
    let path = keep(&folder, &document, &armored, &staff)?;
    put_on_record(project, store.as_ref(), &document, &armored).await?;
    if what.signing.json {
        output::json(&json!({
            "schema": "approval-signed/v1", "decision": document.decision, "plan_sha256": document.plan_sha256,
            "signer": id, "valid_until": rfc3339_ms(document.valid_until_ms), "file": path, "document_sha256": Sha256::of(&document.bytes()),
        }))?;
    }
    note(format!("signed as {} and kept in {}", member.name, sources::shown(&path)));
    Ok(0)
}

/// Everything that is signed, for the one who signs it.
async fn shown(plan: &Plan, document: &Approval, store: Option<&SqliteStore>) -> Result<String, Failure> {
    let columns = output::terminal_size().map_or(100, |(columns, _)| columns).clamp(40, 200);
    let preview = Preview::of(plan, &runbook_lang::evaluate::Evaluator::new()).map_err(|errors| {
        let mut failure =
            Failure::usage(errors.first().map_or("RB0600", |error| error.code()), "the plan cannot be shown");
        for error in errors.iter().take(20) {
            failure = failure.detail(error.to_string());
        }
        failure
    })?;
    let mut text = preview.text(columns);
    text.push_str(&difference(plan, store).await?);
    let head = document.ledger.as_ref().map_or_else(
        || "nothing is recorded yet".to_owned(),
        |seen| format!("{} records, root {}", seen.size, seen.root),
    );
    let windows = document.windows_sha256.map_or_else(|| "no windows.yaml".to_owned(), |digest| digest.to_string());
    let until = match document.decision {
        Decision::Approve => format!("for one run, until {}", rfc3339_ms(document.valid_until_ms)),
        Decision::Reject => "for good".to_owned(),
    };
    let reason = runbook_report::text::escape_line(document.reason.as_bytes());
    text.push_str(&format!(
        "\nwhat is signed:\n  plan        {}\n  hosts       {}\n  parameters  {}\n  windows     {windows}\n  ledger      {head}\n  \
         reason      {reason}\n  counts      {until}\n",
        document.plan_sha256, document.hosts_sha256, document.parameters_sha256,
    ));
    Ok(text)
}

/// What is different from the latest run of the same runbook that ended well.
async fn difference(plan: &Plan, store: Option<&SqliteStore>) -> Result<String, Failure> {
    let Some(store) = store else { return Ok(String::new()) };
    let last = record::ended_well(store, &plan.runbook.name).await?.into_iter().next();
    let Some(last) = last else {
        return Ok("\nno earlier run of this runbook ended well: there is nothing to compare it with\n".to_owned());
    };
    let when = rfc3339_ms(last.header.started_ms);
    // Its contents may have been removed after their time.
    let Ok(before) = record::plan(store, &last.header).await else { return Ok(String::new()) };
    let difference = runbook_plan::diff(&before, plan);
    Ok(match difference.is_empty() {
        true => format!("\nthe same as the run of {when}, which ended well\n"),
        false => format!("\nchanged since the run of {when}, which ended well:\n{}", difference.text()),
    })
}

/// On the record too, where there is one: a rejection blocks although its file is removed.
pub(crate) async fn put_on_record(
    project: &Project,
    store: Option<&SqliteStore>,
    document: &Approval,
    armored: &[u8],
) -> Result<(), Failure> {
    let opened;
    let store = match store {
        Some(store) => store,
        // A copy of the project without its key has no record: it is put on record where it is taken in.
        None if !keys::public_path(project).exists() => return Ok(()),
        None => {
            opened = record::open(project).await?;
            &opened
        }
    };
    let bytes = document.bytes();
    let (digest, signature) = (Sha256::of(&bytes), Sha256::of(armored));
    for (_, notice) in record::notices(store, &[policy::DECIDED]).await? {
        if matches!(notice, Notice::PlanDecided { document, signature: by, .. } if document == digest && by == signature)
        {
            return Ok(());
        }
    }
    let notice = Notice::PlanDecided {
        runbook: document.runbook.clone(),
        plan_sha256: document.plan_sha256,
        decision: document.decision,
        signer: document.signer.clone(),
        document: digest,
        signature,
        by: person::operator(),
    };
    let blobs = vec![(digest, bytes), (signature, armored.to_vec())];
    notices::append(project, store, vec![notice], blobs).await.map(drop)
}

/// Keeps a decision and its signature in the project, once it is certain that it is the signer's.
pub(crate) fn keep(folder: &Path, document: &Approval, armored: &[u8], staff: &Staff) -> Result<PathBuf, Failure> {
    let bytes = document.bytes();
    let refused = |why: String| {
        Failure::new("RB0727", REFUSED, format!("the signature does not count: {why}"))
            .next("`runbook people list` shows whose keys are known; `people.yaml` says which")
    };
    let signed = policy::signed(&bytes, armored, NAMESPACE).map_err(refused)?;
    // It becomes part of a file's name.
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if document.runbook.is_empty() || !document.runbook.bytes().all(plain) {
        return Err(refused("no runbook is called like the one that it names".to_owned()));
    }
    let owner = staff.people.with_key(&signed.key).map(|(id, _)| id);
    if owner != Some(document.signer.as_str()) {
        return Err(refused(match owner {
            None => "the key that signed it is nobody's in people.yaml".to_owned(),
            Some(owner) => format!("it says that it is {}'s, and {owner}'s key signed it", document.signer),
        }));
    }
    let name =
        format!("{}-{}-{}.json", document.runbook, document.signer, Sha256::of(&bytes).to_string().split_at(12).0);
    let path = folder.join(name);
    std::fs::create_dir_all(folder).map_err(|error| Failure::file("RB0724", "made", folder, &error))?;
    // The signature first: a document without one is a decision that somebody might still sign.
    for (path, content) in [(policy::signature_of(&path), armored), (path.clone(), &bytes)] {
        match std::fs::read(&path) {
            Ok(there) if there == content => {}
            _ => keys::replace(&path, 0o644, content)
                .map_err(|error| Failure::file("RB0724", "written", &path, &error))?,
        }
    }
    Ok(path)
}
